/* SPDX-License-Identifier: MIT */
/* pool.c: gets an item from a chain of locators, or makes one */

#include "config.h"
#include "locator/pool.h"
#include "platform/tls.h"

/* Room that was given back has an item of its own, which no other thread is near for long. */
static bool is_given(const struct buffers_item *item)
{
	return buffers_item_owner(item) & BUFFERS_TAKEN_GIVEN;
}

/*
 * Makes items until one is far enough from the busy ones; the skipped items are used later.
 * For large items that would be too much memory.
 */
static int make_apart(const struct buffers_pool *pool, const struct buffers_window *window,
		      const struct buffers_busy *busy, struct buffers_item **item)
{
	int error = pool->make(pool, window, item);

	while (!error && window->size <= pool->shared_size && !is_given(*item) &&
	       buffers_contention_is_near(busy, *item)) {
		pool->release(*item);
		*item = NULL;
		error = pool->make(pool, window, item);
	}
	return error;
}

/* Each thread keeps the slot that it draws at its first call. */
static unsigned own_slot(const struct buffers_pool *pool)
{
	static BUFFERS_TLS unsigned slot;
	static unsigned next_slot;
	unsigned *own = BUFFERS_TLS_ADDRESS(slot);

	if (!*own)
		*own = __atomic_add_fetch(&next_slot, 1, __ATOMIC_RELAXED);
	return pool->first_slot + *own;
}

/* If no item can be made, searches all items, however near they are to busy ones. */
static int find_or_make_once(const struct buffers_pool *pool, const struct buffers_window *window,
			     struct buffers_item **item)
{
	struct buffers_busy busy;
	struct buffers_item_filter filter = {
		.take = pool->take, .is_free = pool->is_free,
		.mark_hidden = pool->mark_hidden, .busy = &busy, .new_size = pool->new_size,
	};
	int error;

	buffers_contention_list(pool->contention, own_slot(pool), &busy);
	*item = buffers_index_take(pool->index, pool->first, window, &filter);
	if (*item)
		return 0;
	error = make_apart(pool, window, &busy, item);
	if (error) {
		busy.count = 0;
		filter.is_thorough = true;
		*item = buffers_index_take(pool->index, pool->first, window, &filter);
	}
	return *item ? 0 : error;
}

/* Tries a few times: another thread may claim an item nearby at the same moment. */
int buffers_pool_get(const struct buffers_pool *pool, const struct buffers_window *window,
		     struct buffers_item **item)
{
	unsigned attempts = 3;
	int error = find_or_make_once(pool, window, item);

	while (!error && !is_given(*item) &&
	       !buffers_contention_claim(pool->contention, own_slot(pool), *item) && --attempts) {
		pool->release(*item);
		error = find_or_make_once(pool, window, item);
	}
	return error;
}
