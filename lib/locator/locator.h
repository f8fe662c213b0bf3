/* SPDX-License-Identifier: MIT */
/*
 * locator.h: pages that list buffers, linked to a chain
 *
 * Other implementations in the same process share the layout, and read and write it at the
 * same time: version 0, native word size and byte order.  It must not change.
 */
#ifndef BUFFERS_LOCATOR_H
#define BUFFERS_LOCATOR_H

#include "locator/item.h"

#pragma GCC visibility push(hidden)

#define BUFFERS_LOCATOR_SIZE	 4096
#define BUFFERS_LOCATOR_CAPACITY (sizeof(uintptr_t) == 8 ? 203 : 255)

struct buffers_locator {
	uintptr_t this_address;
	uintptr_t next_locator;	/* 0: none yet; set once */
	uint32_t is_locked;	/* while an item or the next locator is added */
	uint8_t flags;		/* bits 0 to 2: version; others 0 */
	uint8_t num_items;	/* only grows */
	uint8_t reserved[2];	/* a mark, and the twin's num_items */
	struct buffers_item items[BUFFERS_LOCATOR_CAPACITY];
};

_Static_assert(offsetof(struct buffers_locator, this_address) == 0, "layout");
_Static_assert(offsetof(struct buffers_locator, next_locator) == BUFFERS_WORD, "layout");
_Static_assert(offsetof(struct buffers_locator, is_locked) == 2 * BUFFERS_WORD, "layout");
_Static_assert(offsetof(struct buffers_locator, flags) == 2 * BUFFERS_WORD + 4, "layout");
_Static_assert(offsetof(struct buffers_locator, num_items) == 2 * BUFFERS_WORD + 5, "layout");
_Static_assert(offsetof(struct buffers_locator, reserved) == 2 * BUFFERS_WORD + 6, "layout");
_Static_assert(offsetof(struct buffers_locator, items) == 2 * BUFFERS_WORD + 8, "layout");
_Static_assert(sizeof(struct buffers_locator) <= BUFFERS_LOCATOR_SIZE, "layout");
_Static_assert(sizeof(struct buffers_locator) + sizeof(struct buffers_item) >
	       BUFFERS_LOCATOR_SIZE, "layout: as many items as fit");

/*
 * The managed twin, an older implementation with another layout, counts its items in
 * reserved[1] and adds one to each locator that it takes for not full.  A mark in reserved[0]
 * and a full count keep it out.  The native implementation ignores both bytes, and leaves
 * anything in them.
 */
enum {
	BUFFERS_MARK_OWN = 0x52,	/* this library created the locator */
	BUFFERS_MARK_CLOSED = 0x53,	/* it closed another implementation's to the twin */
};

static inline bool buffers_locator_has_mark(const struct buffers_locator *locator, unsigned mark)
{
	return __atomic_load_n(&locator->reserved[0], __ATOMIC_ACQUIRE) == mark &&
	       __atomic_load_n(&locator->reserved[1], __ATOMIC_ACQUIRE) ==
	       BUFFERS_LOCATOR_CAPACITY;
}

/* A count without a mark is the twin's: the mark comes first, for threads that read both now. */
static inline void buffers_locator_set_mark(struct buffers_locator *locator, unsigned mark)
{
	__atomic_store_n(&locator->reserved[0], (uint8_t)mark, __ATOMIC_RELEASE);
	__atomic_store_n(&locator->reserved[1], BUFFERS_LOCATOR_CAPACITY, __ATOMIC_RELEASE);
}

static inline bool buffers_locator_is_own(const struct buffers_locator *locator)
{
	return buffers_locator_has_mark(locator, BUFFERS_MARK_OWN);
}

/* NULL at the end of the chain.  Another implementation may not have written it yet. */
static inline struct buffers_locator *buffers_locator_next(const struct buffers_locator *locator)
{
	return (struct buffers_locator *)__atomic_load_n(&locator->next_locator,
							 __ATOMIC_ACQUIRE);
}

/* The number of items; all of them are written. */
static inline unsigned buffers_locator_count(const struct buffers_locator *locator)
{
	unsigned count = __atomic_load_n(&locator->num_items, __ATOMIC_ACQUIRE);

	return count < BUFFERS_LOCATOR_CAPACITY ? count : BUFFERS_LOCATOR_CAPACITY;
}

/* Whether memory at any address can be a locator: mapped, writable, naming its own address. */
bool buffers_locator_is_at(uintptr_t address);

/* Whether the bytes are a locator of this version, of any implementation. */
bool buffers_locator_is_valid(const struct buffers_locator *locator);

/* Whether it is the twin's: its items have another layout. */
bool buffers_locator_is_twins(const struct buffers_locator *locator);

/*
 * The number of items that the library may read.  Closes another implementation's locator to
 * the twin first, and returns 0 if that is not possible now.
 */
unsigned buffers_locator_usable(struct buffers_locator *locator);

/* Whether it lists nothing, in either layout. */
static inline bool buffers_locator_is_empty(const struct buffers_locator *locator)
{
	return buffers_locator_count(locator) == 0 &&
	       __atomic_load_n(&locator->reserved[1], __ATOMIC_RELAXED) == 0;
}

/*
 * Initialises a locator in zeroed memory.  Memory beyond the locator's own page is of the
 * chain's kind, and is listed as buffers.
 */
struct buffers_locator *buffers_locator_init(uintptr_t address, size_t size);

/*
 * Creates a locator for a chain of this kind, in memory that this function maps, or that
 * `map` maps.  ENOMEM, or the error of `map`.
 */
int buffers_locator_create(enum buffers_kind kind, struct buffers_locator **locator);
int buffers_locator_create_in(enum buffers_kind kind,
			      int (*map)(void *context, size_t size, enum buffers_kind kind,
					 uintptr_t *address),
			      void *context, struct buffers_locator **locator);
void buffers_locator_destroy(struct buffers_locator *locator);

/*
 * Notes whether the process has forked: true before a fork, and false in the child.  Children
 * may share another implementation's locators, and list in them memory that the parent lacks.
 */
void buffers_locator_note_fork(bool forked);

/*
 * Whether a forked child may share it.  Asked after something was read from the locator: a child
 * that wrote it was forked before.
 */
bool buffers_locator_may_be_shared(const struct buffers_locator *locator);

/* The next locator if it is written and valid, or NULL. */
struct buffers_locator *buffers_locator_follow(const struct buffers_locator *locator);

/* The same, but waits for one that another implementation is about to write. */
struct buffers_locator *buffers_locator_wait_for_next(const struct buffers_locator *locator);

static inline bool buffers_locator_is_locked(const struct buffers_locator *locator)
{
	return __atomic_load_n(&locator->is_locked, __ATOMIC_ACQUIRE) != 0;
}

/*
 * Held while an item is added; other threads wait.  False: the lock was not free for a second,
 * or for ten while a holder lived, which may be suspended.  A process that shares the locator may
 * have been killed, or the holder's code unloaded.  If it is known after a second that the holder
 * has vanished, the caller gets the lock.
 */
bool buffers_locator_lock(struct buffers_locator *locator);
void buffers_locator_unlock(struct buffers_locator *locator);

/* Whether another task, which lives, holds the lock. */
bool buffers_locator_has_holder(const struct buffers_locator *locator);

/*
 * Adds a buffer to the chain of its kind, starting at any of its locators, and creates a new
 * locator if all are full.  *item is the new item, taken by the caller.  ENOMEM: no memory
 * for the locator.  EBUSY: nothing can be added to this chain.
 */
int buffers_locator_register(struct buffers_locator *locator, enum buffers_kind kind,
			     struct buffers_span buffer, struct buffers_item **item);

#pragma GCC visibility pop

#endif
