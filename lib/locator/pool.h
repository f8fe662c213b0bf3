/* SPDX-License-Identifier: MIT */
/*
 * pool.h: gets an item from a chain of locators, or makes one
 *
 * A pool joins the index of a chain, the record of contention, and the function that makes
 * new items.  The process has one for each kind of memory, and each arena has one.
 */
#ifndef BUFFERS_POOL_H
#define BUFFERS_POOL_H

#include "locator/index.h"

#pragma GCC visibility push(hidden)

struct buffers_pool {
	void *owner;
	struct buffers_locator *first;
	struct buffers_index *index;
	struct buffers_contention *contention;
	unsigned first_slot;		/* the process's first slot in `contention` */
	size_t shared_size;		/* new items up to this size avoid busy ones */
	size_t new_size;		/* make() makes an item of at least this size, as a rule */
	bool (*take)(struct buffers_item *item, const struct buffers_window *window);
	bool (*is_free)(struct buffers_item *item);
	bool (*mark_hidden)(struct buffers_item *item);	/* or NULL */
	void (*release)(struct buffers_item *item);
	/* Makes a new item for the window, taken; or an errno value. */
	int (*make)(const struct buffers_pool *pool, const struct buffers_window *window,
		    struct buffers_item **item);
};

/* Gets an item that suits the window, taken.  Fails with the errors of make(). */
int buffers_pool_get(const struct buffers_pool *pool, const struct buffers_window *window,
		     struct buffers_item **item);

#pragma GCC visibility pop

#endif
