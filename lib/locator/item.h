/* SPDX-License-Identifier: MIT */
/*
 * item.h: what is done with the items of a locator
 *
 * Inline, since every request comes here.  Others read and write items at the
 * same time, our own threads and other implementations: base and size stay as
 * they are, and only the one who took an item changes its position.
 */
#ifndef BUFFERS_ITEM_H
#define BUFFERS_ITEM_H

#include "locator/locator.h"

#include <errno.h>
#include <string.h>

static inline uint32_t buffers_item_position(const struct buffers_item *item)
{
	return __atomic_load_n(&item->position, __ATOMIC_RELAXED);
}

/* Where the next bytes go, and how many are free from there on. */
static inline uintptr_t buffers_item_next(const struct buffers_item *item)
{
	return item->base_address + buffers_item_position(item);
}

static inline uint32_t buffers_item_room(const struct buffers_item *item)
{
	return item->size - buffers_item_position(item);
}

/* Whether the bytes make sense. */
static inline bool buffers_item_is_valid(const struct buffers_item *item)
{
	return item->base_address != 0 && item->base_address <= UINTPTR_MAX - item->size &&
	       buffers_item_position(item) <= item->size;
}

/*
 * What is_taken says while we hold an item; others who share the layout write 1.
 * Only the holder reads more of it than whether it is 0.
 */
enum {
	BUFFERS_TAKEN = 1,
	BUFFERS_TAKEN_RX = 2,		/* and its memory cannot be written by its address */
	BUFFERS_TAKEN_SHARED = 4,	/* and other processes use it, in arenas */
	BUFFERS_TAKEN_BY = 8,		/* times the number of the process, in arenas */
};

static inline bool buffers_item_is_taken(const struct buffers_item *item)
{
	return __atomic_load_n(&item->is_taken, __ATOMIC_RELAXED) != 0;
}

/* Whether all that is free at this position lies in the range, and is enough when aligned. */
static inline bool buffers_item_fits(const struct buffers_item *item, uint32_t position,
				     const struct buffers_window *window)
{
	uintptr_t start = item->base_address + position;
	uint32_t room = item->size - position;
	size_t slack = (size_t)-start & (window->alignment - 1);

	return room >= slack && room - slack >= window->size &&
	       start >= window->range.start && start + room <= window->range.end;
}

static inline bool buffers_lock_try(uint32_t *word)
{
	uint32_t free = 0;

	return __atomic_compare_exchange_n(word, &free, 1, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

static inline void buffers_lock_release(uint32_t *word)
{
	__atomic_store_n(word, 0, __ATOMIC_RELEASE);
}

static inline void buffers_item_release(struct buffers_item *item)
{
	buffers_lock_release(&item->is_taken);
}

/* Between looking, at this position, and taking, another may have used the room. */
static inline bool buffers_item_take_at(struct buffers_item *item, uint32_t position)
{
	if (!buffers_lock_try(&item->is_taken))
		return false;
	if (buffers_item_position(item) == position)
		return true;
	buffers_item_release(item);
	return false;
}

/* Takes it if nobody has it and it fits. */
static inline bool buffers_item_take(struct buffers_item *item,
				     const struct buffers_window *window)
{
	for (;;) {
		uint32_t position = buffers_item_position(item);

		if (buffers_item_is_taken(item) || !buffers_item_fits(item, position, window))
			return false;
		if (buffers_item_take_at(item, position))
			return true;
	}
}

/*
 * What the holder of an item may do with it
 */

static inline uint32_t buffers_item_owner(const struct buffers_item *item)
{
	return __atomic_load_n(&item->is_taken, __ATOMIC_RELAXED);
}

/* Whoever takes the item next writes another mark. */
static inline void buffers_item_set_owner(struct buffers_item *item, uint32_t mark)
{
	__atomic_store_n(&item->is_taken, mark, __ATOMIC_RELAXED);
}

/* Whether bytes get there by their address. */
static inline bool buffers_item_is_directly_writable(const struct buffers_item *item)
{
	return !(buffers_item_owner(item) & BUFFERS_TAKEN_RX);
}

static inline void buffers_item_set_position(struct buffers_item *item, size_t position)
{
	__atomic_store_n(&item->position, (uint32_t)position, __ATOMIC_RELEASE);
}

/*
 * Bytes first, then position: whoever reads the position finds them there.
 * ENOSPC: less room than that.
 */
static inline int buffers_item_append(struct buffers_item *item, const void *data, size_t size,
				      uintptr_t *address)
{
	uint32_t position = buffers_item_position(item);

	if (size > item->size - position)
		return ENOSPC;
	*address = item->base_address + position;
	if (size)	/* else data may be NULL, which memmove() does not take */
		memmove((void *)*address, data, size);
	buffers_item_set_position(item, position + size);
	return 0;
}

/* Stubs and constants are mostly this long, and a call takes longer than they do. */
#define BUFFERS_SHORT_LEAST 8
#define BUFFERS_SHORT_MOST  32

/* Both ends are read before one is written: data may overlap the room. */
#define BUFFERS_COPY_ENDS(to, from, size, half)						\
	do {										\
		struct { char bytes[half]; } head_, tail_;				\
		memcpy(&head_, (from), half);						\
		memcpy(&tail_, (const char *)(from) + (size) - (half), half);		\
		memcpy((to), &head_, half);						\
		memcpy((char *)(to) + (size) - (half), &tail_, half);			\
	} while (0)

/* The same for such short data.  NULL: it is not, or there is less room. */
static inline void *buffers_item_append_short(struct buffers_item *item, const void *data,
					      size_t size)
{
	uint32_t position = buffers_item_position(item);
	void *to = (void *)(item->base_address + position);

	if (size < BUFFERS_SHORT_LEAST || size > BUFFERS_SHORT_MOST ||
	    size > item->size - position || !buffers_item_is_directly_writable(item))
		return NULL;
	if (size <= 16)
		BUFFERS_COPY_ENDS(to, data, size, 8);
	else
		BUFFERS_COPY_ENDS(to, data, size, 16);
	buffers_item_set_position(item, position + size);
	return to;
}

static inline int buffers_item_reserve(struct buffers_item *item, size_t size, size_t alignment,
				       uintptr_t *address)
{
	uint32_t position = buffers_item_position(item);
	uintptr_t start = item->base_address + position;
	uint32_t room = item->size - position;
	size_t slack = (size_t)-start & (alignment - 1);

	if (slack > room || size > room - slack)
		return ENOSPC;
	*address = start + slack;
	buffers_item_set_position(item, position + slack + size);
	return 0;
}

#endif
