/* SPDX-License-Identifier: MIT */
/* crowd.c: keeps threads off each other's cache lines */

#include "config.h"
#include "locator/contention.h"

static uintptr_t line_of(const void *byte)
{
	return (uintptr_t)byte / BUFFERS_CACHE_LINE;
}

static bool share_a_line(const struct buffers_item *a, const struct buffers_item *b)
{
	return line_of(a) <= line_of((const char *)(b + 1) - 1) &&
	       line_of(b) <= line_of((const char *)(a + 1) - 1);
}

static const struct buffers_item *item_of(const struct buffers_contention_slot *seat)
{
	return __atomic_load_n(&seat->item, __ATOMIC_SEQ_CST);
}

/*
 * Who sits down for the first time may be gone the next moment, and who keeps
 * every item it gets uses none of them again and again.  But who changes from one
 * that it left to others is busy, until others have sat down many times since.
 */
static bool is_busy(const struct buffers_contention *crowd, const struct buffers_contention_slot *seat)
{
	uint32_t age = __atomic_load_n(&crowd->time, __ATOMIC_RELAXED) -
		       __atomic_load_n(&seat->since, __ATOMIC_RELAXED);

	return __atomic_load_n(&seat->changes, __ATOMIC_RELAXED) > 0 &&
	       age < 2 * BUFFERS_CONTENTION_SLOTS;
}

void buffers_contention_list(const struct buffers_contention *crowd, unsigned seat,
			struct buffers_busy *busy)
{
	busy->count = 0;
	for (unsigned i = 0; i < BUFFERS_CONTENTION_SLOTS; i++)
		if (i != seat % BUFFERS_CONTENTION_SLOTS && is_busy(crowd, &crowd->seats[i]))
			busy->items[busy->count++] = item_of(&crowd->seats[i]);
}

static bool came_before(const struct buffers_contention_slot *seat, uint32_t since)
{
	return (int32_t)(__atomic_load_n(&seat->since, __ATOMIC_RELAXED) - since) < 0;
}

static bool is_alone(const struct buffers_contention *crowd, const struct buffers_contention_slot *own,
		     uint32_t since, const struct buffers_item *item)
{
	for (unsigned i = 0; i < BUFFERS_CONTENTION_SLOTS; i++) {
		const struct buffers_contention_slot *other = &crowd->seats[i];

		if (other != own && is_busy(crowd, other) && came_before(other, since) &&
		    share_a_line(item, item_of(other)))
			return false;
	}
	return true;
}

/* Of two at the same moment both may stay, or both change: it is only slower. */
bool buffers_contention_claim(struct buffers_contention *crowd, unsigned seat, struct buffers_item *item)
{
	struct buffers_contention_slot *own = &crowd->seats[seat % BUFFERS_CONTENTION_SLOTS];
	const struct buffers_item *last = item_of(own);
	uint32_t since = __atomic_add_fetch(&crowd->time, 1, __ATOMIC_RELAXED);

	if (last && last != item && !buffers_item_is_taken(last))
		__atomic_fetch_add(&own->changes, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&own->since, since, __ATOMIC_RELAXED);
	__atomic_store_n(&own->item, item, __ATOMIC_SEQ_CST);
	return is_alone(crowd, own, since, item);
}

bool buffers_contention_is_near(const struct buffers_busy *busy, const struct buffers_item *item)
{
	for (unsigned i = 0; i < busy->count; i++)
		if (share_a_line(busy->items[i], item))
			return true;
	return false;
}
