/* SPDX-License-Identifier: MIT */
/* chain.c: gets items from a chain of locators, old ones or new ones */

#include "config.h"
#include "locator/pool.h"
#include "platform/tls.h"

#include <limits.h>

/*
 * Those that lie too near to what others are busy with are left for later; of
 * large ones that would be too much.
 */
static int make_apart(const struct buffers_pool *chain, const struct buffers_window *window,
		      const struct buffers_busy *busy, struct buffers_item **item)
{
	int error = chain->make(chain, window, item);

	while (!error && window->size <= chain->shared_size &&
	       buffers_contention_is_near(busy, *item)) {
		chain->release(*item);
		*item = NULL;
		error = chain->make(chain, window, item);
	}
	return error;
}

static unsigned own_seat(const struct buffers_pool *chain)
{
	static BUFFERS_TLS unsigned seat;
	static unsigned last;
	unsigned *mine = BUFFERS_TLS_ADDRESS(seat);

	if (!*mine)
		*mine = __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
	return chain->seats + *mine;
}

/* What may be had after all when nothing new can be made is sought everywhere. */
static int find_or_make(const struct buffers_pool *chain, const struct buffers_window *window,
			struct buffers_item **item)
{
	struct buffers_busy busy;
	struct buffers_item_filter choice = {
		.take = chain->take, .busy = &busy, .patience = BUFFERS_INDEX_PATIENCE,
	};
	int error;

	buffers_contention_list(chain->crowd, own_seat(chain), &busy);
	*item = buffers_index_take(chain->index, chain->first, window, &choice);
	if (*item)
		return 0;
	error = make_apart(chain, window, &busy, item);
	if (error) {
		busy.count = 0;
		choice.patience = UINT_MAX;
		*item = buffers_index_take(chain->index, chain->first, window, &choice);
	}
	return *item ? 0 : error;
}

/* A few attempts, for others may come to sit nearby at the same moment. */
int buffers_pool_get(const struct buffers_pool *chain, const struct buffers_window *window,
		      struct buffers_item **item)
{
	unsigned attempts = 3;
	int error = find_or_make(chain, window, item);

	while (!error && !buffers_contention_claim(chain->crowd, own_seat(chain), *item) && --attempts) {
		chain->release(*item);
		error = find_or_make(chain, window, item);
	}
	return error;
}
