/* SPDX-License-Identifier: MIT */
/*
 * locator.c: the pages that list the buffers, and the locks on both
 *
 * Others read and write these pages at the same time: our own threads, and
 * other copies and implementations of the library.  An item is written whole
 * before num_items publishes it; afterwards its base and size stay as they
 * are, and only the one who took it changes its position.
 */

#include "config.h"
#include "locator.h"

#include <errno.h>
#include <string.h>

#define REST_BUFFER_SIZE ((size_t)16 << 10)

static uint32_t position_of(const struct buffers_item *item)
{
	return __atomic_load_n(&item->position, __ATOMIC_RELAXED);
}

static unsigned count_of(const struct buffers_locator *locator)
{
	return __atomic_load_n(&locator->num_items, __ATOMIC_ACQUIRE);
}

struct buffers_locator *buffers_locator_next(const struct buffers_locator *locator)
{
	return (struct buffers_locator *)__atomic_load_n(&locator->next_locator,
							 __ATOMIC_ACQUIRE);
}

static bool item_is_valid(const struct buffers_item *item)
{
	return item->base_address != 0 && item->base_address <= UINTPTR_MAX - item->size &&
	       position_of(item) <= item->size;
}

/* Each by itself: one load for all would take in num_items, which others change. */
static bool has_known_version(const struct buffers_locator *locator)
{
	return __atomic_load_n(&locator->flags, __ATOMIC_RELAXED) == 0 &&
	       __atomic_load_n(&locator->reserved[0], __ATOMIC_RELAXED) == 0 &&
	       __atomic_load_n(&locator->reserved[1], __ATOMIC_RELAXED) == 0;
}

bool buffers_locator_is_valid(const struct buffers_locator *locator)
{
	uintptr_t address = __atomic_load_n(&locator->this_address, __ATOMIC_ACQUIRE);
	unsigned count = count_of(locator);

	if (address != (uintptr_t)locator || !has_known_version(locator) ||
	    count > BUFFERS_LOCATOR_CAPACITY)
		return false;
	for (unsigned i = 0; i < count; i++)
		if (!item_is_valid(&locator->items[i]))
			return false;
	return true;
}

/*
 * Locks
 */

static bool try_lock(uint32_t *word)
{
	uint32_t free = 0;

	return __atomic_compare_exchange_n(word, &free, 1, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

static void lock(uint32_t *word)
{
	for (unsigned attempt = 0; !try_lock(word); attempt++)
		buffers_platform_relax(attempt);
}

static void unlock(uint32_t *word)
{
	__atomic_store_n(word, 0, __ATOMIC_RELEASE);
}

/*
 * Items
 */

uintptr_t buffers_item_next(const struct buffers_item *item)
{
	return item->base_address + position_of(item);
}

uint32_t buffers_item_room(const struct buffers_item *item)
{
	return item->size - position_of(item);
}

static bool fits(const struct buffers_item *item, const struct buffers_window *window)
{
	uintptr_t start = buffers_item_next(item);
	uint32_t room = buffers_item_room(item);
	size_t slack = (size_t)-start & (window->alignment - 1);

	return room >= slack && room - slack >= window->size &&
	       start >= window->range.start && start + room <= window->range.end;
}

/* Between looking and taking, another user may have used the room. */
static bool take(struct buffers_item *item, const struct buffers_window *window)
{
	if (__atomic_load_n(&item->is_taken, __ATOMIC_RELAXED) || !fits(item, window) ||
	    !try_lock(&item->is_taken))
		return false;
	if (fits(item, window))
		return true;
	unlock(&item->is_taken);
	return false;
}

void buffers_item_release(struct buffers_item *item)
{
	unlock(&item->is_taken);
}

static void advance(struct buffers_item *item, size_t size)
{
	__atomic_store_n(&item->position, position_of(item) + (uint32_t)size, __ATOMIC_RELEASE);
}

/* Bytes first, then position: whoever reads the position finds them there. */
int buffers_item_append(struct buffers_item *item, const void *data, size_t size,
			uintptr_t *address)
{
	if (size > buffers_item_room(item))
		return ENOSPC;
	*address = buffers_item_next(item);
	if (size)	/* else data may be NULL, which memmove() does not take */
		memmove((void *)*address, data, size);
	advance(item, size);
	return 0;
}

int buffers_item_reserve(struct buffers_item *item, size_t size, size_t alignment,
			 uintptr_t *address)
{
	uintptr_t start = buffers_item_next(item);
	uint32_t room = buffers_item_room(item);
	size_t slack = (size_t)-start & (alignment - 1);

	if (slack > room || size > room - slack)
		return ENOSPC;
	*address = start + slack;
	advance(item, slack + size);
	return 0;
}

/* Whether the whole buffer, used or not, lies in the window's range. */
static bool is_neighbour(const struct buffers_item *item, const struct buffers_window *window)
{
	return item->base_address >= window->range.start &&
	       item->base_address + item->size <= window->range.end;
}

struct buffers_item *buffers_locator_take(struct buffers_locator *first,
					  const struct buffers_window *window,
					  struct buffers_span *neighbour)
{
	*neighbour = (struct buffers_span){ 0, 0 };
	for (struct buffers_locator *locator = first; locator;
	     locator = buffers_locator_next(locator)) {
		unsigned count = count_of(locator);

		for (unsigned i = 0; i < count; i++) {
			struct buffers_item *item = &locator->items[i];

			if (take(item, window))
				return item;
			if (is_neighbour(item, window))
				*neighbour = (struct buffers_span){
					item->base_address, item->base_address + item->size
				};
		}
	}
	return NULL;
}

int buffers_locator_walk(const struct buffers_locator *first,
			 int (*visit)(const struct buffers_info *info, void *context),
			 void *context)
{
	int verdict = 0;

	for (const struct buffers_locator *l = first; l && !verdict; l = buffers_locator_next(l)) {
		unsigned count = count_of(l);

		for (unsigned i = 0; i < count && !verdict; i++) {
			const struct buffers_item *item = &l->items[i];
			struct buffers_info info = {
				.base = (void *)item->base_address,
				.size = item->size,
				.used = position_of(item),
				.taken = __atomic_load_n(&item->is_taken, __ATOMIC_RELAXED) != 0,
			};

			verdict = visit(&info, context);
		}
	}
	return verdict;
}

/*
 * Locators
 */

/* The caller holds the locator's lock, or nobody else knows the locator. */
static struct buffers_item *append_item(struct buffers_locator *locator, uintptr_t base,
					size_t size, bool is_taken)
{
	struct buffers_item *item = &locator->items[locator->num_items];

	*item = (struct buffers_item){
		.base_address = base,
		.size = size < UINT32_MAX ? (uint32_t)size : UINT32_MAX,
		.is_taken = is_taken,
	};
	__atomic_store_n(&locator->num_items, locator->num_items + 1, __ATOMIC_RELEASE);
	return item;
}

struct buffers_locator *buffers_locator_init(uintptr_t address, size_t size)
{
	struct buffers_locator *locator = (struct buffers_locator *)address;
	size_t used, part;

	for (used = BUFFERS_LOCATOR_SIZE; used < size; used += part) {
		part = size - used < REST_BUFFER_SIZE ? size - used : REST_BUFFER_SIZE;
		append_item(locator, address + used, part, false);
	}
	__atomic_store_n(&locator->this_address, address, __ATOMIC_RELEASE);
	return locator;
}

int buffers_locator_create(struct buffers_locator **locator)
{
	size_t size = buffers_platform_granularity();
	uintptr_t address;
	int error = EACCES;

	if (size > BUFFERS_LOCATOR_SIZE)
		error = buffers_platform_map_anywhere(size, BUFFERS_CODE, &address);
	if (error == EACCES) {
		size = BUFFERS_LOCATOR_SIZE;
		error = buffers_platform_map_anywhere(buffers_platform_granularity(),
						      BUFFERS_DATA, &address);
	}
	if (error == 0)
		*locator = buffers_locator_init(address, size);
	return error;
}

void buffers_locator_destroy(struct buffers_locator *locator)
{
	buffers_platform_unmap((uintptr_t)locator, buffers_platform_granularity());
}

/* Mapping takes long, so it is done outside the lock, and in vain at times. */
static int link_next(struct buffers_locator *locator)
{
	struct buffers_locator *next;
	int error = buffers_locator_create(&next);

	if (error)
		return error;
	lock(&locator->is_locked);
	if (!buffers_locator_next(locator)) {
		__atomic_store_n(&locator->next_locator, (uintptr_t)next, __ATOMIC_RELEASE);
		next = NULL;
	}
	unlock(&locator->is_locked);
	if (next)
		buffers_locator_destroy(next);
	return 0;
}

static struct buffers_item *add(struct buffers_locator *locator, struct buffers_span buffer)
{
	struct buffers_item *item = NULL;

	if (count_of(locator) >= BUFFERS_LOCATOR_CAPACITY)
		return NULL;
	lock(&locator->is_locked);
	if (count_of(locator) < BUFFERS_LOCATOR_CAPACITY)
		item = append_item(locator, buffer.start, buffer.end - buffer.start, true);
	unlock(&locator->is_locked);
	return item;
}

int buffers_locator_register(struct buffers_locator *first, struct buffers_span buffer,
			     struct buffers_item **item)
{
	struct buffers_locator *locator = first;
	int error;

	while (!(*item = add(locator, buffer))) {
		if (!buffers_locator_next(locator)) {
			error = link_next(locator);
			if (error)
				return error;
		}
		locator = buffers_locator_next(locator);
	}
	return 0;
}
