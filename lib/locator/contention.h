/* SPDX-License-Identifier: MIT */
/*
 * contention.h: keeps threads from false sharing
 *
 * Items are packed, three to a cache line, and two threads that use neighbours again and
 * again slow each other down.  Each thread therefore claims a slot that shows its item to
 * the others.  A thread that looks for an item avoids the cache lines of threads that
 * changed theirs recently, and not for the first time.
 */
#ifndef BUFFERS_CONTENTION_H
#define BUFFERS_CONTENTION_H

#include "locator/item.h"

#pragma GCC visibility push(hidden)

#define BUFFERS_CONTENTION_SLOTS 8

/* The size on most processors.  On longer lines, some neighbours go unnoticed. */
#define BUFFERS_CACHE_LINE 64

/* All zero at first. */
struct buffers_contention {
	uint32_t time;			/* the number of claims so far */
	struct buffers_contention_slot {
		struct buffers_item *item;
		uint32_t since;		/* the time of the last claim */
		uint32_t changes;	/* from an item that was left to other threads */
	} slots[BUFFERS_CONTENTION_SLOTS];
};

/* The items that other threads were busy with at one moment. */
struct buffers_busy {
	unsigned count;
	const struct buffers_item *items[BUFFERS_CONTENTION_SLOTS];
};

/* Lists the busy items.  `slot` is any number that the calling thread chose for itself. */
void buffers_contention_list(const struct buffers_contention *contention, unsigned slot,
			     struct buffers_busy *busy);

/* False if a thread claimed an item nearby a moment before: better take another item. */
bool buffers_contention_claim(struct buffers_contention *contention, unsigned slot,
			      struct buffers_item *item);

/* Whether the item shares a cache line with a busy one. */
bool buffers_contention_is_near(const struct buffers_busy *busy, const struct buffers_item *item);

#pragma GCC visibility pop

#endif
