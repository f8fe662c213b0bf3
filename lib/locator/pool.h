/* SPDX-License-Identifier: MIT */
/*
 * chain.h: gets items from a chain of locators, old ones or new ones
 *
 * Where items are found (index), who uses which (crowd) and where new ones come from
 * meet here, for buffers of the process and for those of arenas.
 */
#ifndef BUFFERS_POOL_H
#define BUFFERS_POOL_H

#include "locator/index.h"

#pragma GCC visibility push(hidden)

struct buffers_pool {
	void *owner;
	struct buffers_locator *first;
	struct buffers_index *index;
	struct buffers_contention *crowd;
	unsigned seats;			/* where the seats of this process's threads begin */
	size_t shared_size;		/* who wants no more gets new items away from others */
	bool (*take)(struct buffers_item *item, const struct buffers_window *window);
	void (*release)(struct buffers_item *item);
	/* A new item for the window, taken; an errno if there can be none. */
	int (*make)(const struct buffers_pool *chain, const struct buffers_window *window,
		    struct buffers_item **item);
};

/* An item that suits the window, taken.  Errors are those of make(). */
int buffers_pool_get(const struct buffers_pool *chain, const struct buffers_window *window,
		      struct buffers_item **item);

#pragma GCC visibility pop

#endif
