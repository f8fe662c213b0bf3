/* SPDX-License-Identifier: MIT */
/*
 * process.h: all that this copy of the library knows of its process
 *
 * One page for each kind of memory, made when it is first used, and empty again in
 * a forked child.
 */
#ifndef BUFFERS_STATE_H
#define BUFFERS_STATE_H

#include "locator/index.h"

#pragma GCC visibility push(hidden)

/* All zero at the start of the process. */
struct buffers_state {
	struct buffers_root root;
	struct buffers_search_cache hindsight;
	struct buffers_contention crowd;
	struct buffers_index index;	/* last: it uses the rest of the page */
};
_Static_assert(sizeof(struct buffers_state) <= 1024, "most of the page is left");

extern struct buffers_state *buffers_state_pages[BUFFERS_KINDS];

/*
 * The number of the process as this copy knows it: in a forked child not the parent's,
 * even if the kernel has not emptied its pages.
 */
uint32_t buffers_state_pid(void);

/* NULL: nothing was made yet. */
static inline struct buffers_state *buffers_state_known(enum buffers_kind kind)
{
	return __atomic_load_n(&buffers_state_pages[kind], __ATOMIC_ACQUIRE);
}

/* ENOMEM. */
int buffers_state_get(enum buffers_kind kind, struct buffers_state **process);

/* Gives back memory of any kind.  EINVAL, ENOMEM. */
int buffers_state_unmap(struct buffers_span mapped);

/*
 * Writes memory that its address does not write, as buffers_platform_write(), and not
 * at the same time as another copy of the library.  EACCES, ENOMEM.
 */
int buffers_state_write(uintptr_t address, const void *bytes, size_t size,
			  enum buffers_write_mode target);

#pragma GCC visibility pop

#endif
