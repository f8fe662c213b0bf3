/* SPDX-License-Identifier: MIT */
/*
 * allocator.h: picks an address in a range and maps memory there
 *
 * Knows gaps and addresses, nothing of items and locators.
 */
#ifndef BUFFERS_ALLOCATOR_H
#define BUFFERS_ALLOCATOR_H

#include "platform/platform.h"

#pragma GCC visibility push(hidden)

/* Where memory is wanted, and how much: a request that was found valid. */
struct buffers_window {
	struct buffers_span range;
	uintptr_t target;	/* 0: none */
	size_t size;
	size_t alignment;	/* a power of two */
	unsigned kind;		/* of memory, as buffers_platform_map() takes it */
};

/*
 * What searches learned: no gap for `size` bytes begins in `full`, so the next
 * search for as much starts at its edges.  All zero knows nothing.  Shared by
 * all threads; whoever finds it busy does without.
 */
#define BUFFERS_SEARCH_ENTRIES 8

struct buffers_search_cache {
	uint32_t is_busy;
	uint32_t is_stale;	/* memory was given back while it was busy */
	uint32_t oldest;
	struct buffers_search_entry {
		struct buffers_span full;
		size_t size;
		size_t alignment;
		bool was_aimed;		/* the window had a target */
		bool was_above;		/* where the last place was found: at the end of `full` */
	} memories[BUFFERS_SEARCH_ENTRIES];
};

/*
 * The lowest and the highest place in a gap where `size` bytes fit, aligned;
 * false when they do not.  `size` is at least 1, the gap may be empty or
 * inverted.
 */
bool buffers_gap_lowest(struct buffers_span gap, size_t size, size_t alignment,
			uintptr_t *place);
bool buffers_gap_highest(struct buffers_span gap, size_t size, size_t alignment,
			 uintptr_t *place);

/*
 * Maps memory for the window, at the free place nearest to the
 * target; without one, beside what was mapped before without one, at first at a
 * random place.  It is as large as the window asks, in whole pages, or
 * `preferred` bytes where the gap allows that.  Where more is preferred, beside
 * the last one is better than nearest, for it makes no mapping.
 *
 * hindsight	may be NULL
 *
 * EADDRNOTAVAIL, ENOMEM, EACCES.
 */
int buffers_allocator_map(const struct buffers_window *window, size_t preferred,
			  struct buffers_search_cache *hindsight,
			  struct buffers_span *mapped);

/* Gives such memory back.  EINVAL, ENOMEM. */
int buffers_allocator_unmap(struct buffers_span mapped, struct buffers_search_cache *hindsight);

/* The same in another process.  Also ENOSYS, and EINVAL: there is no such process. */
int buffers_allocator_map_in(uint32_t process, const struct buffers_window *window,
			     struct buffers_span *mapped);
int buffers_allocator_unmap_in(uint32_t process, struct buffers_span mapped);

/* Notes that this is free again, whoever unmapped it. */
void buffers_search_cache_invalidate(struct buffers_span freed, struct buffers_search_cache *hindsight);

#pragma GCC visibility pop

#endif
