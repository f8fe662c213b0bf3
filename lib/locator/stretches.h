/* SPDX-License-Identifier: MIT */
/*
 * stretches.h: room that its owners gave back
 *
 * Every copy of the library keeps the stretches of one kind of memory in private pages, and so
 * does every arena.  They lie below the positions of their items: other copies and other
 * implementations see bytes in use there.  A stretch is handed out as an item of its own, which
 * no locator lists.
 *
 * doc/giving-back.md explains the structure.
 */
#ifndef BUFFERS_STRETCHES_H
#define BUFFERS_STRETCHES_H

#include "locator/item.h"

#pragma GCC visibility push(hidden)

/* Sizes below 16 have a class each, larger ones share eight with all of the same magnitude. */
#define BUFFERS_STRETCH_CLASSES	240
#define BUFFERS_STRETCH_WORDS	((BUFFERS_STRETCH_CLASSES + 63) / 64)

/* Pages that became free bit by bit, and may still be resident. */
#define BUFFERS_STRETCH_PAGES	16

struct buffers_stretch;
struct buffers_arena_view;	/* arena.h */

/* The rest of its page holds `own_chunks`, the first table. */
struct buffers_stretches {
	uint32_t largest;		/* at least the size of every stretch that is not in use */
	uint32_t is_locked;
	struct buffers_span hull;	/* contains every stretch; only grows */
	uint32_t released;		/* number of the item that was released last; a stack */
	uint32_t held;			/* items in use */
	struct buffers_stretch *tree;	/* by address */
	struct buffers_stretch *spare;	/* nodes without a stretch */
	struct buffers_stretch *idle;	/* a node without room that is still in the tree, or NULL */
	size_t page;			/* buffers_platform_granularity() */
	const struct buffers_arena_view *arena;	/* NULL: shared buffers */
	uintptr_t *chunks;		/* the pages of nodes; [0] is unused */
	size_t chunk_count, chunk_limit;
	unsigned shift;			/* a number is a chunk << shift, and a node there */
	bool has_new_classes;		/* `filled` changed since `largest` was set */
	uint32_t page_count;
	uintptr_t pages[BUFFERS_STRETCH_PAGES];
	uintptr_t cursor;		/* of the search for ends of items, in give-back.c */
	uint64_t filled[BUFFERS_STRETCH_WORDS];		/* a bit for each class with a stretch */
	uint32_t newest[BUFFERS_STRETCH_CLASSES];	/* number of the first stretch, or 0 */
	uintptr_t own_chunks[];
};

/*
 * Whether a stretch may suit a request for this size from `first` to `last`, both inclusive.
 * Takes no lock.
 */
static inline bool buffers_stretches_may_fit(const struct buffers_stretches *stretches,
					     size_t size, uintptr_t first, uintptr_t last)
{
	return stretches && size <= __atomic_load_n(&stretches->largest, __ATOMIC_RELAXED) &&
	       first < __atomic_load_n(&stretches->hull.end, __ATOMIC_RELAXED) &&
	       last >= __atomic_load_n(&stretches->hull.start, __ATOMIC_RELAXED);
}

static inline bool buffers_stretches_may_suit(const struct buffers_stretches *stretches,
					      const struct buffers_window *window)
{
	return buffers_stretches_may_fit(stretches, window->size, window->range.start,
					 window->range.end - 1);
}

/* Maps an empty structure.  ENOMEM, EACCES. */
int buffers_stretches_create(struct buffers_stretches **stretches);

/* Unmaps it.  No thread uses it any more. */
void buffers_stretches_destroy(struct buffers_stretches *stretches);

/*
 * Adds room that can be written, and writes zeros there.
 * EINVAL: some of it is a stretch already.  ENOMEM, EACCES: no memory for a node.
 */
int buffers_stretches_add(struct buffers_stretches *stretches, struct buffers_span room);

/*
 * The same in two steps, for room that takes system calls to write.  *item is the room, in use
 * and alone; the caller writes the zeros, and then releases the item or cancels the addition.
 */
int buffers_stretches_begin(struct buffers_stretches *stretches, struct buffers_span room,
			    struct buffers_item **item);

/* The first step, without a long wait.  EBUSY: a thread that may be suspended has the lock. */
int buffers_stretches_try_begin(struct buffers_stretches *stretches, struct buffers_span room,
				struct buffers_item **item);
void buffers_stretches_cancel(struct buffers_item *item);

/*
 * Takes the smallest stretch that suits the window, as an item with this owner word.  Its room
 * starts at an aligned address and lies in the range.  What is longer than `most` bytes and the
 * request remains a stretch.  NULL: none suits, the lock is not free, or `stretches` is NULL.
 */
struct buffers_item *buffers_stretches_take(struct buffers_stretches *stretches,
					    const struct buffers_window *window, size_t most,
					    uint32_t owner);

/* The bytes from its position on are a stretch again.  Takes no lock: a signal handler may ask. */
void buffers_stretches_release(struct buffers_item *item);

/* The arena of an item that was taken; a signal handler may ask. */
const struct buffers_arena_view *buffers_stretches_arena(struct buffers_item *item);

/* Takes a page that became free bit by bit, once there are several, or returns NULL. */
struct buffers_item *buffers_stretches_take_page(struct buffers_stretches *stretches);

/* Whether a stretch ends where the span starts, or starts where it ends. */
bool buffers_stretches_touch(struct buffers_stretches *stretches, struct buffers_span span);

/* Bytes of this span that are not in use. */
size_t buffers_stretches_sum(struct buffers_stretches *stretches, struct buffers_span span);

/* Whether an item is in use, or a thread that may be suspended has the lock. */
bool buffers_stretches_are_held(struct buffers_stretches *stretches);

#pragma GCC visibility pop

#endif
