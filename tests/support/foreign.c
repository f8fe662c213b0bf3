/* SPDX-License-Identifier: MIT */
/* foreign.c: another implementation of the same memory layout */

#include "config.h"
#include "support/foreign.h"

#include <sched.h>
#include <string.h>

enum {
	BUFFER_SIZE = 64 << 10,
	LEFTOVER = 0xa5,	/* in each byte of memory that was used before */
};

/*
 * Locators
 */

static void lock_word(uint32_t *word)
{
	while (__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE) != 0)
		sched_yield();
}

static void unlock_word(uint32_t *word)
{
	__atomic_store_n(word, 0, __ATOMIC_RELEASE);
}

static unsigned count_of(const struct foreign_locator *locator)
{
	return __atomic_load_n(&locator->num_items, __ATOMIC_ACQUIRE);
}

void foreign_reset(struct foreign_locator *locator)
{
	__atomic_store_n(&locator->next_locator, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&locator->is_locked, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&locator->flags, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&locator->num_items, 0, __ATOMIC_RELEASE);
}

/* Waits while another thread links a locator: that one is not written yet. */
struct foreign_locator *foreign_next(const struct foreign_locator *locator)
{
	uintptr_t next = __atomic_load_n(&locator->next_locator, __ATOMIC_ACQUIRE);

	while (next && __atomic_load_n(&locator->is_locked, __ATOMIC_ACQUIRE))
		sched_yield();
	return (struct foreign_locator *)next;
}

/* The caller holds the lock.  The new memory is not cleared. */
static void store_next(struct foreign_locator *locator)
{
	struct foreign_locator *next = foreign_map(FOREIGN_SIZE);

	memset(next, LEFTOVER, FOREIGN_SIZE);
	__atomic_store_n(&locator->next_locator, (uintptr_t)next, __ATOMIC_RELEASE);
}

void foreign_begin_next(struct foreign_locator *locator, bool is_named)
{
	struct foreign_locator *next;

	lock_word(&locator->is_locked);
	store_next(locator);
	next = (struct foreign_locator *)locator->next_locator;
	if (is_named) {
		next->this_address = (uintptr_t)next;
		next->flags = 0;
	}
}

void foreign_end_next(struct foreign_locator *locator)
{
	struct foreign_locator *next = (struct foreign_locator *)locator->next_locator;

	__atomic_store_n(&next->this_address, (uintptr_t)next, __ATOMIC_RELEASE);
	foreign_reset(next);
	unlock_word(&locator->is_locked);
}

struct foreign_item *foreign_item_at(struct foreign_locator *first, size_t n)
{
	for (struct foreign_locator *l = first; l; l = foreign_next(l)) {
		unsigned count = count_of(l);

		if (n < count)
			return &l->items[n];
		n -= count;
	}
	return NULL;
}

/* NULL: the locator is full.  Like other implementations, checks again under the lock. */
static struct foreign_item *add_to_locator(struct foreign_locator *locator,
					   struct foreign_item added)
{
	struct foreign_item *item = NULL;
	unsigned count;

	lock_word(&locator->is_locked);
	count = count_of(locator);
	if (count < FOREIGN_CAPACITY) {
		item = &locator->items[count];
		*item = added;
		__atomic_store_n(&locator->num_items, (uint8_t)(count + 1), __ATOMIC_RELEASE);
	}
	unlock_word(&locator->is_locked);
	return item;
}

static void link_next(struct foreign_locator *locator)
{
	lock_word(&locator->is_locked);
	if (locator->next_locator) {
		unlock_word(&locator->is_locked);
		return;
	}
	store_next(locator);
	sched_yield();		/* other threads see the locator before it is written */
	foreign_end_next(locator);
}

struct foreign_item *foreign_add(struct foreign_locator *first, void *base, uint32_t size,
				 bool is_taken)
{
	struct foreign_item added = {
		.base = (uintptr_t)base, .size = size, .is_taken = is_taken,
	};
	struct foreign_locator *locator = first;
	struct foreign_item *item;

	while (!(item = add_to_locator(locator, added))) {
		if (!foreign_next(locator))
			link_next(locator);
		locator = foreign_next(locator);
	}
	return item;
}

/*
 * Items
 */

static bool has_room(const struct foreign_item *item, size_t size)
{
	return item->size - __atomic_load_n(&item->position, __ATOMIC_ACQUIRE) >= size;
}

static bool take_item(struct foreign_item *item, size_t size)
{
	if (!has_room(item, size) || __atomic_exchange_n(&item->is_taken, 1, __ATOMIC_ACQUIRE))
		return false;
	if (has_room(item, size))
		return true;
	unlock_word(&item->is_taken);
	return false;
}

struct foreign_item *foreign_get(struct foreign_locator *first, size_t size)
{
	for (struct foreign_locator *l = first; l; l = foreign_next(l)) {
		unsigned count = count_of(l);

		for (unsigned i = 0; i < count; i++)
			if (take_item(&l->items[i], size))
				return &l->items[i];
	}
	return foreign_add(first, foreign_map(BUFFER_SIZE), BUFFER_SIZE, true);
}

void *foreign_append(struct foreign_item *item, const void *data, size_t size)
{
	uint32_t position = item->position;
	void *start = (void *)(item->base + position);

	memcpy(start, data, size);
	__atomic_store_n(&item->position, position + (uint32_t)size, __ATOMIC_RELEASE);
	return start;
}

void foreign_release(struct foreign_item *item)
{
	unlock_word(&item->is_taken);
}
