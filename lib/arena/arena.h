/* SPDX-License-Identifier: MIT */
/*
 * arena.h: windows of addresses that one user creates for itself
 *
 * An arena has a chain of locators, as the process has.  All of its locators are reserved
 * when it is created, outside the window.  In an arena of BUFFERS_ARENA_FORK_SHARED, forked
 * children share the window and the locators, and a lock is released if its holder ends.
 */
#ifndef BUFFERS_ARENA_H
#define BUFFERS_ARENA_H

#include "locator/locator.h"

#pragma GCC visibility push(hidden)

struct buffers_arena;
struct buffers_stretches;

/*
 * Reserves the window, with a view if its map_flags have BUFFERS_MAP_SHARED, and the memory that
 * lists its items.
 * EADDRNOTAVAIL, ENOMEM, EACCES.  ENOSYS: there are no locks that processes can share.
 */
__attribute__((cold))
int buffers_arena_open(const struct buffers_window *window, bool is_shared,
		       struct buffers_arena **arena);

/* Gets an item with so much free space, taken.  ENOSPC, ENOMEM, EACCES. */
int buffers_arena_take(struct buffers_arena *arena, size_t size, size_t alignment,
		       struct buffers_item **item);

/*
 * Takes back room of an arena of this process.
 * ENOENT: the room is in no arena.  EINVAL: it is not in use.  ENOSYS: the arena is shared.
 * ENOMEM, EACCES.
 */
__attribute__((cold))
int buffers_arena_give_back(struct buffers_span room);

/* The room that was given back to the arena; NULL: none, or the arena is shared. */
struct buffers_stretches *buffers_arena_stretches(const struct buffers_arena *arena);

/* The start of an arena, and that of the memory around a locator: appends use them inline. */
struct buffers_arena_view {
	uintptr_t distance;		/* from an address to its byte in the view */
	const uint32_t *has_view;	/* whether this process has the view; NULL: there is none */
};
struct buffers_arena_block {
	struct buffers_locator locator;
	const struct buffers_arena_view *arena;
};

/* The arena of an item; for room that was given back, use buffers_stretches_arena(). */
static inline const struct buffers_arena_view *buffers_arena_of(const struct buffers_item *item)
{
	uintptr_t page = (uintptr_t)item & ~(uintptr_t)(BUFFERS_LOCATOR_SIZE - 1);

	return ((struct buffers_arena_block *)page)->arena;
}

/* The address at which memory of an arena with a view is written; 0: this process has no view. */
static inline uintptr_t buffers_arena_written(const struct buffers_arena_view *arena,
					      uintptr_t address)
{
	return *arena->has_view ? address + arena->distance : 0;
}

/* The address at which memory of an arena with a view is written; 0: there is none. */
__attribute__((cold))
uintptr_t buffers_arena_view(uintptr_t address);

/* Releases an item that is marked BUFFERS_TAKEN_SHARED. */
void buffers_arena_release(struct buffers_item *item);

/* Unmaps everything.  EINVAL: this process holds an item.  ENOMEM. */
__attribute__((cold))
int buffers_arena_close(struct buffers_arena *arena);

#pragma GCC visibility pop

#endif
