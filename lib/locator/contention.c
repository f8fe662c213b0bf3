/* SPDX-License-Identifier: MIT */
/* contention.c: keeps threads from false sharing */

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

static const struct buffers_item *item_of_slot(const struct buffers_contention_slot *slot)
{
	return __atomic_load_n(&slot->item, __ATOMIC_SEQ_CST);
}

/*
 * A thread that claims for the first time may be gone in a moment, and a thread that keeps
 * every item uses none again and again.  A thread that changes from an item that it left to
 * others is busy, until many claims have followed.
 */
static bool is_busy(const struct buffers_contention *contention,
		    const struct buffers_contention_slot *slot)
{
	uint32_t age = __atomic_load_n(&contention->time, __ATOMIC_RELAXED) -
		       __atomic_load_n(&slot->since, __ATOMIC_RELAXED);

	return __atomic_load_n(&slot->changes, __ATOMIC_RELAXED) > 0 &&
	       age < 2 * BUFFERS_CONTENTION_SLOTS;
}

void buffers_contention_list(const struct buffers_contention *contention, unsigned slot,
			     struct buffers_busy *busy)
{
	busy->count = 0;
	for (unsigned i = 0; i < BUFFERS_CONTENTION_SLOTS; i++)
		if (i != slot % BUFFERS_CONTENTION_SLOTS &&
		    is_busy(contention, &contention->slots[i]))
			busy->items[busy->count++] = item_of_slot(&contention->slots[i]);
}

static bool claimed_before(const struct buffers_contention_slot *slot, uint32_t since)
{
	return (int32_t)(__atomic_load_n(&slot->since, __ATOMIC_RELAXED) - since) < 0;
}

static bool is_alone(const struct buffers_contention *contention,
		     const struct buffers_contention_slot *own, uint32_t since,
		     const struct buffers_item *item)
{
	for (unsigned i = 0; i < BUFFERS_CONTENTION_SLOTS; i++) {
		const struct buffers_contention_slot *other = &contention->slots[i];

		if (other != own && is_busy(contention, other) && claimed_before(other, since) &&
		    share_a_line(item, item_of_slot(other)))
			return false;
	}
	return true;
}

/* Two threads at the same moment may both stay or both change, which only costs time. */
bool buffers_contention_claim(struct buffers_contention *contention, unsigned slot,
			      struct buffers_item *item)
{
	struct buffers_contention_slot *own = &contention->slots[slot % BUFFERS_CONTENTION_SLOTS];
	const struct buffers_item *previous = item_of_slot(own);
	uint32_t since = __atomic_add_fetch(&contention->time, 1, __ATOMIC_RELAXED);

	if (previous && previous != item && !buffers_item_is_taken(previous))
		__atomic_fetch_add(&own->changes, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&own->since, since, __ATOMIC_RELAXED);
	__atomic_store_n(&own->item, item, __ATOMIC_SEQ_CST);
	return is_alone(contention, own, since, item);
}

bool buffers_contention_is_near(const struct buffers_busy *busy, const struct buffers_item *item)
{
	for (unsigned i = 0; i < busy->count; i++)
		if (share_a_line(busy->items[i], item))
			return true;
	return false;
}
