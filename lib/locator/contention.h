/* SPDX-License-Identifier: MIT */
/*
 * crowd.h: keeps threads off each other's cache lines
 *
 * Items stand packed, three to a cache line.  Two threads that use neighbours
 * again and again slow each other down as if they shared one.  So a thread that
 * changes its item sits down with it where others see that, and away from those
 * who did so lately, and not for the first time.
 */
#ifndef BUFFERS_CONTENTION_H
#define BUFFERS_CONTENTION_H

#include "locator/item.h"

#pragma GCC visibility push(hidden)

#define BUFFERS_CONTENTION_SLOTS 8

/* Of most processors; where lines are longer, some neighbours are not noticed. */
#define BUFFERS_CACHE_LINE 64

/* All zero at first. */
struct buffers_contention {
	uint32_t time;			/* how often anybody sat down */
	struct buffers_contention_slot {
		struct buffers_item *item;
		uint32_t since;		/* when it was taken last */
		uint32_t changes;	/* from an item that was left to others */
	} seats[BUFFERS_CONTENTION_SLOTS];
};

/* The items that other threads are busy with, as they were at one moment. */
struct buffers_busy {
	unsigned count;
	const struct buffers_item *items[BUFFERS_CONTENTION_SLOTS];
};

/* `seat` is any number that the thread has chosen for itself. */
void buffers_contention_list(const struct buffers_contention *crowd, unsigned seat,
			struct buffers_busy *busy);

/* False if another one sat down nearby a moment before: better change once more. */
bool buffers_contention_claim(struct buffers_contention *crowd, unsigned seat, struct buffers_item *item);

/* Whether the others would feel it if this item were used, too. */
bool buffers_contention_is_near(const struct buffers_busy *busy, const struct buffers_item *item);

#pragma GCC visibility pop

#endif
