/* SPDX-License-Identifier: MIT */
/*
 * places.h: the items that served requests for other places
 *
 * A thread keeps the item that it used last.  A thread that uses several places by turns finds
 * the item of each in this table.  An entry is only a hint: the item may not suit, or be taken.
 */
#ifndef BUFFERS_PLACES_H
#define BUFFERS_PLACES_H

#include "locator/item.h"

#pragma GCC visibility push(hidden)

enum { BUFFERS_PLACES_SETS = 256, BUFFERS_PLACES_WAYS = 2 };

/* All zero at first. */
struct buffers_places {
	struct buffers_item *sets[BUFFERS_PLACES_SETS][BUFFERS_PLACES_WAYS];
};
_Static_assert(sizeof(struct buffers_places) <= 4096, "fits into a page");

/*
 * The entries for the range from `first` to `last`.  Functions that are near each other ask for
 * ranges of their own, which have mostly the same entries.  `thread` is any number: threads keep
 * off each other's items.
 */
static inline struct buffers_item **buffers_places_set(struct buffers_places *places,
						       uintptr_t first, uintptr_t last,
						       uintptr_t thread)
{
	enum { GRAIN = 20 };	/* log2 of 1 MiB */
	uint32_t mixed = (uint32_t)(first >> GRAIN) * 0x9e3779b1 +
			 (uint32_t)(last >> GRAIN) * 0x85ebca77 + (uint32_t)thread;

	mixed ^= mixed >> 15;
	return places->sets[mixed * 0xc2b2ae3d >> 24];
}

/* Threads may write at once: one of the items is lost. */
static inline void buffers_places_note(struct buffers_item **set, struct buffers_item *item)
{
	struct buffers_item *newest = __atomic_load_n(&set[0], __ATOMIC_ACQUIRE);

	if (newest == item)
		return;
	__atomic_store_n(&set[1], newest, __ATOMIC_RELEASE);
	__atomic_store_n(&set[0], item, __ATOMIC_RELEASE);
}

#pragma GCC visibility pop

#endif
