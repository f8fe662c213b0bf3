/* SPDX-License-Identifier: MIT */
/*
 * index.h: finds an item that fits without looking at all of them
 *
 * Each copy of the library has an index of its own, in private memory, beside
 * the chain of locators, which all share.  It follows the chain: items that
 * other copies add are found there.  What it knows of an item's room is an
 * upper bound for ever, since positions only grow, whoever moves them.
 */
#ifndef BUFFERS_INDEX_H
#define BUFFERS_INDEX_H

#include "locator/contention.h"
#include "locator/locator.h"

#pragma GCC visibility push(hidden)

/*
 * All zero at first, and the last thing in its page: the rest of that is used,
 * too.  Readers need no lock; one thread at a time changes it, and others who
 * would do without.
 */
struct buffers_index {
	uint32_t is_locked;
	uint32_t count;			/* of its items, so many are indexed */
	struct buffers_locator *last;	/* of the chain; all before it are indexed */
	uintptr_t tree;			/* a link (index.c) */
	uintptr_t resume_at;		/* the key where a search lost patience */
	uintptr_t nodes, nodes_end;	/* memory for more nodes */
	uintptr_t pages;		/* mapped for them, each with a link to the last */
};

/* Which items a search may take. */
struct buffers_item_filter {
	/* Takes one if nobody has it and it fits, as buffers_item_take(). */
	bool (*take)(struct buffers_item *item, const struct buffers_window *window);
	const struct buffers_busy *busy;	/* not those near to these */
	unsigned patience;	/* so many that look good and are not, as taken ones, are tried */
};

/* Enough to find what there is, and little enough to cost nothing. */
#define BUFFERS_INDEX_PATIENCE 32

/*
 * Takes an item of the chain whose free room suits the window, and that lies
 * on no cache line with items that others are busy with.  NULL: there is none, or
 * it comes after more of those that are taken than patience is for.  The next
 * search goes on there.
 */
struct buffers_item *buffers_index_take(struct buffers_index *index,
					struct buffers_locator *first,
					const struct buffers_window *window,
					const struct buffers_item_filter *choice);

/* Where in the chain there may be room for another item; `first` if in doubt. */
struct buffers_locator *buffers_index_last(const struct buffers_index *index,
					   struct buffers_locator *first);

/*
 * Gives back the memory for nodes.  Nobody uses the index any more.
 *
 * A forked child's index is empty, but the pages that its parent's had are there.
 * Who has noted them hands them to the new one before it is used, to go with it.
 */
void buffers_index_destroy(struct buffers_index *index);
uintptr_t buffers_index_pages(const struct buffers_index *index);
void buffers_index_inherit(struct buffers_index *index, uintptr_t pages);

#pragma GCC visibility pop

#endif
