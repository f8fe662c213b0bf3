/* SPDX-License-Identifier: MIT */
/*
 * index.h: finds an item that fits without looking at all items
 *
 * Every copy of the library has its own index in private memory, beside the chain of
 * locators that all copies share.  The index follows the chain, and so finds the items that
 * other copies add.  The free space that it records for an item is an upper bound for good:
 * positions only grow, in every copy.
 */
#ifndef BUFFERS_INDEX_H
#define BUFFERS_INDEX_H

#include "locator/contention.h"
#include "locator/locator.h"

#pragma GCC visibility push(hidden)

/*
 * All zero at first, and the last member of its page: nodes fill the rest of the page.
 * Readers need no lock.  One thread at a time changes the index; a thread that fails to get
 * the lock skips the update.
 */
struct buffers_index {
	uint32_t is_locked;
	uint32_t count;			/* indexed items of the tail */
	struct buffers_locator *tail;	/* every locator before it is indexed whole */
	uintptr_t tree;			/* a link, see index.c */
	uint32_t hidden;		/* the number of hidden items */
	uint32_t unswept;		/* the number of searches without a result that skip the sweep */
	uintptr_t nodes, nodes_end;	/* memory for more nodes */
	uintptr_t pages;		/* mapped for nodes; each starts with a link to the next */
};

/* The items that a search may take. */
struct buffers_item_filter {
	/* Takes an item that is free and fits, as buffers_item_take(). */
	bool (*take)(struct buffers_item *item, const struct buffers_window *window);
	/* Whether no user holds the item, as buffers_item_is_free(). */
	bool (*is_free)(struct buffers_item *item);
	const struct buffers_busy *busy;	/* items near these are skipped */
	/* Tells the holder of an item to show it on release; false if it is free. */
	bool (*mark_hidden)(struct buffers_item *item);	/* or NULL */
	size_t new_size;	/* the least size of an item that the caller makes if none is found */
	bool is_thorough;	/* looks at all items, however many of them are taken */
};

/*
 * The number of items that may fail before a search ends, although they have enough room before
 * it is aligned.  Large enough to find what there is, and small enough to be cheap.
 */
#define BUFFERS_INDEX_PATIENCE 32

/*
 * Takes an item of the chain whose free space suits the window, and that shares no cache
 * line with a busy item.  NULL: there is none, or too many items failed.
 *
 * If each NULL makes the caller add an item, few items are added that are not needed, whatever
 * the order of requests and ranges is: an added item is found again while it is free and no
 * bytes were appended.  Of the hidden items, one in 64 may be free.
 */
struct buffers_item *buffers_index_take(struct buffers_index *index,
					struct buffers_locator *first,
					const struct buffers_window *window,
					const struct buffers_item_filter *filter);

/* Shows an item to later searches, if this index hid it.  It is free now. */
void buffers_index_show(struct buffers_index *index, const struct buffers_item *item);

/* Whether all these bytes are in one indexed item.  Takes no lock: a signal handler may ask. */
bool buffers_index_contains(const struct buffers_index *index, uintptr_t address, size_t size);

/*
 * Checks that all bytes of the room are in use: in items of the chain, indexed or not, below their
 * positions.  Several items may be adjacent.  *last is the item with the end.
 * ENOENT: no item has the start.  EINVAL: some other bytes are not in use.
 */
int buffers_index_check_use(struct buffers_index *index, struct buffers_locator *first,
			    enum buffers_kind kind, struct buffers_span room,
			    struct buffers_item **last);

/*
 * Visits indexed items that have free room and end in the range, lowest first, and at most as many
 * as BUFFERS_INDEX_PATIENCE.  Returns the address at which to continue, or 0 after the last.
 */
uintptr_t buffers_index_visit_room(struct buffers_index *index, struct buffers_span range,
				   void (*visit)(struct buffers_item *item, void *context),
				   void *context);

/* Whether this very item is indexed. */
bool buffers_index_has(const struct buffers_index *index, const struct buffers_item *item);

/* The locator at which to look for room for another item; `first` if unknown. */
struct buffers_locator *buffers_index_tail(const struct buffers_index *index,
					   struct buffers_locator *first);

/* Indexes what the chain of this kind lists, unless another thread does so. */
void buffers_index_update(struct buffers_index *index, struct buffers_locator *first,
			  enum buffers_kind kind);

/*
 * Continues at the first locator of another chain: nothing can be added to the present one.
 * What is indexed remains.
 */
void buffers_index_continue_at(struct buffers_index *index, struct buffers_locator *first);

/* Prepares the copy that a forked child has, before its first use there. */
void buffers_index_inherit(struct buffers_index *index);

/* Unmaps the memory of the nodes.  No thread uses the index any more. */
void buffers_index_destroy(struct buffers_index *index);

#pragma GCC visibility pop

#endif
