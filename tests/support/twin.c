/* SPDX-License-Identifier: MIT */
/* twin.c: an older implementation with another layout, which shares the rendezvous file */

#include "config.h"
#include "support/twin.h"

#include <sched.h>

enum { BUFFER_SIZE = 4 << 10 };

static void lock_word(uint32_t *word)
{
	while (__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE) != 0)
		sched_yield();
}

static void unlock_word(uint32_t *word)
{
	__atomic_store_n(word, 0, __ATOMIC_RELEASE);
}

struct twin_locator *twin_next(const struct twin_locator *locator)
{
	return (struct twin_locator *)__atomic_load_n(&locator->next_locator, __ATOMIC_ACQUIRE);
}

static bool take_item(struct twin_item *item, size_t size)
{
	return item->base && item->position <= item->size && item->size - item->position >= size &&
	       __atomic_exchange_n(&item->is_taken, 1, __ATOMIC_ACQUIRE) == 0;
}

/* Scans every slot that the twin's count includes. */
static struct twin_item *find_item(struct twin_locator *locator, size_t size)
{
	unsigned count = __atomic_load_n(&locator->num_items, __ATOMIC_ACQUIRE);

	for (unsigned i = 0; i < count; i++)
		if (take_item(&locator->items[i], size))
			return &locator->items[i];
	return NULL;
}

static struct twin_item *add_item(struct twin_locator *locator)
{
	struct twin_item *item = NULL;

	lock_word(&locator->is_locked);
	if (locator->num_items < FOREIGN_CAPACITY) {
		item = &locator->items[locator->num_items];
		*item = (struct twin_item){
			.base = (uintptr_t)foreign_map(BUFFER_SIZE), .is_taken = 1,
			.size = BUFFER_SIZE,
		};
		__atomic_store_n(&locator->num_items, (uint8_t)(locator->num_items + 1),
				 __ATOMIC_RELEASE);
	}
	unlock_word(&locator->is_locked);
	return item;
}

/* Links the locator before it is written. */
static void link_next(struct twin_locator *locator)
{
	struct twin_locator *next;

	lock_word(&locator->is_locked);
	if (!locator->next_locator) {
		next = foreign_map(FOREIGN_SIZE);
		__atomic_store_n(&locator->next_locator, (uintptr_t)next, __ATOMIC_RELEASE);
		sched_yield();
		__atomic_store_n(&next->this_address, (uintptr_t)next, __ATOMIC_RELEASE);
	}
	unlock_word(&locator->is_locked);
}

static struct twin_item *add_to_chain(struct twin_locator *locator)
{
	struct twin_item *item;

	while (!(item = add_item(locator))) {
		if (!twin_next(locator))
			link_next(locator);
		locator = twin_next(locator);
	}
	return item;
}

struct twin_item *twin_get(struct twin_locator *first, size_t size)
{
	struct twin_item *item;

	for (struct twin_locator *l = first; l; l = twin_next(l))
		if ((item = find_item(l, size)))
			return item;
	return add_to_chain(first);
}

void twin_release(struct twin_item *item)
{
	unlock_word(&item->is_taken);
}
