/* SPDX-License-Identifier: MIT */
/*
 * locator.h: the pages that list the buffers, and the locks on both
 *
 * The layout is shared with other implementations in the same process, which
 * read and write it while we do: version 0, native word size and byte order.
 * Nothing in it may change.
 */
#ifndef BUFFERS_LOCATOR_H
#define BUFFERS_LOCATOR_H

#include "allocator/allocator.h"
#include "reloaded/buffers.h"

#pragma GCC visibility push(hidden)

#define BUFFERS_LOCATOR_SIZE	 4096
#define BUFFERS_LOCATOR_CAPACITY (sizeof(uintptr_t) == 8 ? 203 : 255)

/* Items stand packed behind the header, so their words are 4-byte aligned. */
struct buffers_item {
	uintptr_t base_address;
	uint32_t size;
	uint32_t position;	/* bytes used; only grows */
	uint32_t is_taken;
} __attribute__((packed, aligned(4)));

struct buffers_locator {
	uintptr_t this_address;
	uintptr_t next_locator;	/* 0: none yet; set once */
	uint32_t is_locked;	/* while an item is added, or the next locator */
	uint8_t flags;		/* bits 0 to 2: version; others 0 */
	uint8_t num_items;	/* only grows */
	uint8_t reserved[2];
	struct buffers_item items[BUFFERS_LOCATOR_CAPACITY];
};

#define BUFFERS_WORD sizeof(uintptr_t)
_Static_assert(offsetof(struct buffers_item, base_address) == 0, "layout");
_Static_assert(offsetof(struct buffers_item, size) == BUFFERS_WORD, "layout");
_Static_assert(offsetof(struct buffers_item, position) == BUFFERS_WORD + 4, "layout");
_Static_assert(offsetof(struct buffers_item, is_taken) == BUFFERS_WORD + 8, "layout");
_Static_assert(sizeof(struct buffers_item) == BUFFERS_WORD + 12, "layout");
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

/* NULL at the end of the chain. */
static inline struct buffers_locator *buffers_locator_next(const struct buffers_locator *locator)
{
	return (struct buffers_locator *)__atomic_load_n(&locator->next_locator,
							 __ATOMIC_ACQUIRE);
}

/* Of its items, which were written before. */
static inline unsigned buffers_locator_count(const struct buffers_locator *locator)
{
	unsigned count = __atomic_load_n(&locator->num_items, __ATOMIC_ACQUIRE);

	return count < BUFFERS_LOCATOR_CAPACITY ? count : BUFFERS_LOCATOR_CAPACITY;
}

/* Whether the bytes make sense as a locator of ours. */
bool buffers_locator_is_valid(const struct buffers_locator *locator);

/*
 * Makes a locator of zeroed memory, which beyond the locator's own page is of the
 * kind that its chain lists; what there is of that is listed as buffers.
 */
struct buffers_locator *buffers_locator_init(uintptr_t address, size_t size);

/*
 * A new locator, for a chain of buffers of this kind, in memory of its own, or in what `map`
 * maps.  ENOMEM, or what that says.
 */
int buffers_locator_create(enum buffers_kind kind, struct buffers_locator **locator);
int buffers_locator_create_in(enum buffers_kind kind,
			      int (*map)(void *context, size_t size, unsigned kind,
					 uintptr_t *address),
			      void *context, struct buffers_locator **locator);
void buffers_locator_destroy(struct buffers_locator *locator);

/* For as long as an item is added.  Others wait. */
void buffers_locator_lock(struct buffers_locator *locator);
void buffers_locator_unlock(struct buffers_locator *locator);

/*
 * What a copy of the library knows of the process's first locator, in memory
 * that is zero at the start of a process and of a forked child.  Other copies,
 * of other versions too, look at all but `first` in each other's.
 */
struct buffers_root {
	uintptr_t offered;	/* the locator that this copy would have all use, or 0 */
	uintptr_t token;	/* random, drawn before */
	uint32_t process;	/* whose memory this is */
	struct buffers_locator *first;
};
_Static_assert(offsetof(struct buffers_root, offered) == 0, "layout");
_Static_assert(offsetof(struct buffers_root, token) == BUFFERS_WORD, "layout");
_Static_assert(offsetof(struct buffers_root, process) == 2 * BUFFERS_WORD, "layout");

/*
 * The first locator of the process for this kind of buffers: the one that any copy
 * of the library has published, else a new one, which is published if that can be.
 * ENOMEM.
 */
int buffers_rendezvous_first(struct buffers_root *root, enum buffers_kind kind,
			  struct buffers_locator **locator);

/* The same without making any: NULL if there is none. */
struct buffers_locator *buffers_rendezvous_known(struct buffers_root *root,
					      enum buffers_kind kind);

/* Withdraws what was published, for the process ends. */
void buffers_rendezvous_withdraw(const struct buffers_root *root, enum buffers_kind kind);

/*
 * Adds a buffer to the chain of its kind, from any of its locators on, with a new one
 * where all are full.  *item is set to its item, taken by the caller.  ENOMEM: no page
 * for that.
 */
int buffers_locator_register(struct buffers_locator *locator, enum buffers_kind kind,
			     struct buffers_span buffer, struct buffers_item **item);

/* As buffers_walk(), a chain of this kind; `first` may be NULL. */
int buffers_locator_walk(const struct buffers_locator *first, enum buffers_kind kind,
			 int (*visit)(const struct buffers_info *info, void *context),
			 void *context);

#pragma GCC visibility pop

#endif
