/* SPDX-License-Identifier: MIT */
/*
 * platform.h: all that the library asks of the operating system
 *
 * One file per system implements it: platform-linux.c.  A port is a new file
 * that implements every function below as it is described.
 *
 * What holds for all of them:
 *
 * - The result is 0 or a positive errno where the type is int; errno itself
 *   may change.
 * - They call no malloc(3), take no lock, and may run in any thread at any
 *   time; none is a cancellation point.
 * - Addresses and sizes that are given are whole pages, spans are half open,
 *   and no span ends beyond buffers_platform_limits().
 */
#ifndef BUFFERS_PLATFORM_H
#define BUFFERS_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

struct buffers_span {
	uintptr_t start, end;
};

enum buffers_protection {
	BUFFERS_DATA,	/* read, write */
	BUFFERS_CODE,	/* read, write, execute */
};

/* Granularity of addresses and sizes, a power of two of at least 4096. */
size_t buffers_platform_granularity(void);

/*
 * Where the library may map at all: from above what the system protects (and
 * at least 64 KiB) to the end of the user's half of the address space.
 */
struct buffers_span buffers_platform_limits(void);

/*
 * Where the heap will grow from the program break upward, and where the main
 * stack will grow downward.  Any page of it may be mapped already.
 */
struct buffers_span buffers_platform_heap_growth(void);
struct buffers_span buffers_platform_stack_growth(void);

/*
 * Maps zeroed private memory at `address` exactly.  Never replaces anything.
 * EEXIST: that place is not to be had, another may be.
 * ENOMEM: no more memory or mappings.  EACCES: policy denies this protection.
 */
int buffers_platform_map(uintptr_t address, size_t size, enum buffers_protection protection);

/* The same wherever the system likes.  ENOMEM, EACCES. */
int buffers_platform_map_anywhere(size_t size, enum buffers_protection protection,
				  uintptr_t *address);

/* EINVAL: there can be no such memory.  ENOMEM: the system refuses. */
int buffers_platform_unmap(uintptr_t address, size_t size);

/*
 * The process's mappings, as a search for a gap sees them.  Opened for one
 * search; the caller keeps the structure, which is small, and closes it.
 */
struct buffers_maps {
	int descriptor;
	enum {
		BUFFERS_MAPS_QUERY,	/* buffers_platform_maps_find() is fast */
		BUFFERS_MAPS_SCAN,	/* only buffers_platform_maps_scan() works */
		BUFFERS_MAPS_PROBE,	/* only _find() works, page by page */
	} kind;
};

void buffers_platform_maps_open(struct buffers_maps *maps);
void buffers_platform_maps_close(struct buffers_maps *maps);

/*
 * The lowest mapping that meets `span`; `mapping` may be cut off where it
 * leaves the span at the start.  ENOENT: all of the span is free.
 */
int buffers_platform_maps_find(const struct buffers_maps *maps, struct buffers_span span,
			       struct buffers_span *mapping);

/* Calls `visit` with every mapping, lowest first.  EIO: cannot be read. */
int buffers_platform_maps_scan(const struct buffers_maps *maps,
			       void (*visit)(struct buffers_span mapping, void *context),
			       void *context);

/*
 * A page that is zero at first, and again in every forked child.  Systems
 * where the kernel cannot promise that rely on buffers_platform_at_fork().
 */
int buffers_platform_map_state(void **page);

/* Has `child` called in every child that fork(3) makes, before it goes on. */
void buffers_platform_at_fork(void (*child)(void));

/* Never 0. */
uint32_t buffers_platform_process(void);

/* Not to be guessed from outside where the system has such numbers. */
uint64_t buffers_platform_random(void);

/* To be called between the attempts at a spin lock, counting them. */
void buffers_platform_relax(unsigned attempt);

void buffers_platform_flush_icache(void *start, size_t size);

#pragma GCC visibility pop

#endif
