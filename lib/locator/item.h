/* SPDX-License-Identifier: MIT */
/*
 * item.h: an item of a locator, and what a thread does with it
 *
 * The functions are inline because every request uses them.  Other threads and other
 * implementations read and write items at the same time.  base_address and size never
 * change; only the holder of an item changes its position.
 */
#ifndef BUFFERS_ITEM_H
#define BUFFERS_ITEM_H

#include "base/atomic-store.h"
#include "base/window.h"

#include <errno.h>
#include <string.h>

/* Items follow the header without padding, so their words are aligned to 4 bytes only. */
struct buffers_item {
	uintptr_t base_address;
	uint32_t size;
	uint32_t position;	/* bytes used; only grows */
	uint32_t is_taken;	/* 0: free; otherwise the owner word */
} __attribute__((packed, aligned(4)));

#define BUFFERS_WORD sizeof(uintptr_t)
_Static_assert(offsetof(struct buffers_item, base_address) == 0, "layout");
_Static_assert(offsetof(struct buffers_item, size) == BUFFERS_WORD, "layout");
_Static_assert(offsetof(struct buffers_item, position) == BUFFERS_WORD + 4, "layout");
_Static_assert(offsetof(struct buffers_item, is_taken) == BUFFERS_WORD + 8, "layout");
_Static_assert(sizeof(struct buffers_item) == BUFFERS_WORD + 12, "layout");

/*
 * Reading
 */

static inline uint32_t buffers_item_position(const struct buffers_item *item)
{
	return __atomic_load_n(&item->position, __ATOMIC_RELAXED);
}

/* The address of the first free byte. */
static inline uintptr_t buffers_item_next(const struct buffers_item *item)
{
	return item->base_address + buffers_item_position(item);
}

/* Other implementations can move the position beyond the end: such an item has no room. */
static inline uint32_t buffers_item_room(const struct buffers_item *item)
{
	uint32_t position = buffers_item_position(item);

	return position < item->size ? item->size - position : 0;
}

static inline bool buffers_item_is_valid(const struct buffers_item *item)
{
	return item->base_address != 0 && item->base_address <= UINTPTR_MAX - item->size;
}

static inline bool buffers_item_is_usable(const struct buffers_item *item)
{
	return buffers_item_is_valid(item) && item->size > 0;
}

static inline bool buffers_item_contains(const struct buffers_item *item, uintptr_t address,
					 size_t size)
{
	uintptr_t offset = address - item->base_address;

	return offset < item->size && size <= item->size - offset;
}

/* Whether all free space from this position on is in the range, and enough after aligning. */
static inline bool buffers_item_fits(const struct buffers_item *item, uint32_t position,
				     const struct buffers_window *window)
{
	uintptr_t start = item->base_address + position;
	uint32_t room = item->size - position;
	size_t slack = (size_t)-start & (window->alignment - 1);

	return position <= item->size && room >= slack && room - slack >= window->size &&
	       start >= window->range.start && start + room <= window->range.end;
}

/*
 * Taking and releasing
 */

/*
 * The owner word in is_taken.  Other implementations write 1.  Only the holder reads more of
 * it than whether it is 0, and searches of this copy add a mark.
 */
enum {
	BUFFERS_TAKEN = 1,
	BUFFERS_TAKEN_RX = 2,		/* the memory cannot be written by its address */
	BUFFERS_TAKEN_SHARED = 4,	/* other processes use it: an item of an arena */
	BUFFERS_TAKEN_GIVEN = 8,	/* its room was given back: stretches.h */
	BUFFERS_TAKEN_VIEW = 16,	/* its arena has a view, which writes it */
	BUFFERS_TAKEN_BY = 32,		/* factor of the process's number, in arenas */
};

/* Set by another thread of the copy: a search hid the item, and the holder shows it on release. */
#define BUFFERS_TAKEN_HIDDEN (UINT32_C(1) << 31)

static inline bool buffers_item_is_taken(const struct buffers_item *item)
{
	return __atomic_load_n(&item->is_taken, __ATOMIC_RELAXED) != 0;
}

static inline bool buffers_item_is_free(struct buffers_item *item)
{
	return !buffers_item_is_taken(item);
}

static inline uint32_t buffers_item_owner(const struct buffers_item *item)
{
	return __atomic_load_n(&item->is_taken, __ATOMIC_RELAXED);
}

/* Called by the holder; keeps the mark of another thread. */
static inline void buffers_item_add_owner(struct buffers_item *item, uint32_t bits)
{
	__atomic_fetch_or(&item->is_taken, bits, __ATOMIC_RELAXED);
}

/* Called by the holder; the next thread that takes the item replaces the word. */
static inline void buffers_item_set_owner(struct buffers_item *item, uint32_t owner)
{
	__atomic_store_n(&item->is_taken, owner, __ATOMIC_RELAXED);
}

/* Asks the holder to show the item on release.  False: the item is free. */
static inline bool buffers_item_mark_hidden(struct buffers_item *item)
{
	uint32_t owner = buffers_item_owner(item);

	while (owner && !__atomic_compare_exchange_n(&item->is_taken, &owner,
						     owner | BUFFERS_TAKEN_HIDDEN, false,
						     __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return owner != 0;
}

static inline bool buffers_item_is_directly_writable(const struct buffers_item *item)
{
	return !(buffers_item_owner(item) & BUFFERS_TAKEN_RX);
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

/* Takes the item if its position is still the one that the caller saw. */
static inline bool buffers_item_take_at(struct buffers_item *item, uint32_t position)
{
	if (!buffers_lock_try(&item->is_taken))
		return false;
	if (buffers_item_position(item) == position)
		return true;
	buffers_item_release(item);
	return false;
}

/* Takes the item if it is free and fits. */
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
 * Functions for the holder
 */

static inline void buffers_item_set_position(struct buffers_item *item, size_t position)
{
	__atomic_store_n(&item->position, (uint32_t)position, __ATOMIC_RELEASE);
}

/*
 * Writes the bytes before the position: a reader of the position finds them in place.
 * ENOSPC: less room than that.
 */
static inline int buffers_item_append(struct buffers_item *item, const void *data, size_t size,
				      uintptr_t *address)
{
	uint32_t position = buffers_item_position(item);

	if (size > item->size - position)
		return ENOSPC;
	*address = item->base_address + position;
	if (size)	/* with size 0, data may be NULL, which memmove() does not accept */
		memmove((void *)*address, data, size);
	buffers_item_set_position(item, position + size);
	return 0;
}

/* Most stubs and constants have these sizes, for which a call of memmove() is slow. */
#define BUFFERS_SHORT_LEAST 8
#define BUFFERS_SHORT_MOST  32

/* Reads both ends before it writes one: data may overlap the destination. */
#define BUFFERS_COPY_ENDS(to, from, size, half)						\
	do {										\
		struct { char bytes[half]; } head_, tail_;				\
		memcpy(&head_, (from), half);						\
		memcpy(&tail_, (const char *)(from) + (size) - (half), half);		\
		buffers_compiler_barrier();						\
		memcpy((to), &head_, half);						\
		memcpy((char *)(to) + (size) - (half), &tail_, half);			\
	} while (0)

static inline bool buffers_is_short(size_t size)
{
	return size >= BUFFERS_SHORT_LEAST && size <= BUFFERS_SHORT_MOST;
}

static inline void buffers_copy_short(void *to, const void *data, size_t size)
{
	if (size <= 16)
		BUFFERS_COPY_ENDS(to, data, size, 8);
	else
		BUFFERS_COPY_ENDS(to, data, size, 16);
}

/* The fast path of an append.  NULL: the data is not short, or there is less room. */
static inline void *buffers_item_append_short(struct buffers_item *item, const void *data,
					      size_t size)
{
	uint32_t position = buffers_item_position(item);
	void *to = (void *)(item->base_address + position);

	if (!buffers_is_short(size) || size > item->size - position ||
	    !buffers_item_is_directly_writable(item))
		return NULL;
	buffers_copy_short(to, data, size);
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
