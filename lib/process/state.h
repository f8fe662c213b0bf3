/* SPDX-License-Identifier: MIT */
/*
 * process.h: all that this copy of the library knows of its process
 *
 * One page for each kind of memory, made when it is first used, and empty again in
 * a forked child.
 */
#ifndef BUFFERS_PROCESS_H
#define BUFFERS_PROCESS_H

#include "locator/index.h"

#pragma GCC visibility push(hidden)

/* All zero at the start of the process. */
struct buffers_process {
	struct buffers_root root;
	struct buffers_hindsight hindsight;
	struct buffers_crowd crowd;
	struct buffers_index index;	/* last: it uses the rest of the page */
};
_Static_assert(sizeof(struct buffers_process) <= 1024, "most of the page is left");

extern struct buffers_process *buffers_process_pages[BUFFERS_KINDS];

/*
 * The number of the process as this copy knows it: in a forked child not the parent's,
 * even if the kernel has not emptied its pages.
 */
uint32_t buffers_process_number(void);

/* NULL: nothing was made yet. */
static inline struct buffers_process *buffers_process_known(enum buffers_kind kind)
{
	return __atomic_load_n(&buffers_process_pages[kind], __ATOMIC_ACQUIRE);
}

/* ENOMEM. */
int buffers_process_get(enum buffers_kind kind, struct buffers_process **process);

/* Gives back memory of any kind.  EINVAL, ENOMEM. */
int buffers_process_unmap(struct buffers_span mapped);

/*
 * Writes memory that its address does not write, as buffers_platform_write(), and not
 * at the same time as another copy of the library.  EACCES, ENOMEM.
 */
int buffers_process_write(uintptr_t address, const void *bytes, size_t size,
			  enum buffers_target target);

#pragma GCC visibility pop

#endif
