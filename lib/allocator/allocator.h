/* SPDX-License-Identifier: MIT */
/*
 * allocator.h: picks an address in a range, and maps memory there
 *
 * This unit knows gaps and addresses, but neither items nor locators.
 */
#ifndef BUFFERS_ALLOCATOR_H
#define BUFFERS_ALLOCATOR_H

#include "allocator/search-cache.h"
#include "base/window.h"

#pragma GCC visibility push(hidden)

/*
 * Maps memory for the window at the free address nearest to the target.  Without a target,
 * maps beside the memory that was mapped before without one, the first time at a random
 * address.
 *
 * preferred	a larger size to map where the gap allows it; a neighbour of the last mapping
 *		then wins over a nearer address, since the kernel joins the two mappings
 * cache	may be NULL
 *
 * EADDRNOTAVAIL, ENOMEM, EACCES.
 */
int buffers_allocator_map(const struct buffers_window *window, size_t preferred,
			  struct buffers_search_cache *cache, struct buffers_span *mapped);

/* Unmaps such memory.  EINVAL, ENOMEM. */
int buffers_allocator_unmap(struct buffers_span mapped, struct buffers_search_cache *cache);

/* The same in another process.  Also ENOSYS, and EINVAL: there is no such process. */
int buffers_allocator_map_in(uint32_t pid, const struct buffers_window *window,
			     struct buffers_span *mapped);
int buffers_allocator_unmap_in(uint32_t pid, struct buffers_span mapped);

#pragma GCC visibility pop

#endif
