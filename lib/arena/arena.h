/* SPDX-License-Identifier: MIT */
/*
 * arena.h: windows of address space that one user has for itself
 *
 * An arena has a chain of locators as the process has, all reserved when it is made,
 * beside the window.  Where it is shared with forked children, both are, and locks
 * outlive who held them.
 */
#ifndef BUFFERS_ARENA_H
#define BUFFERS_ARENA_H

#include "locator/item.h"

#pragma GCC visibility push(hidden)

/*
 * Reserves the window, and what lists its items.
 * EADDRNOTAVAIL, ENOMEM, EACCES.  ENOSYS: no locks that can be shared.
 */
int buffers_arena_open(const struct buffers_window *window, bool is_shared,
		       struct buffers_arena **arena);

/* An item with so much free room, taken.  ENOSPC; ENOMEM. */
int buffers_arena_take(struct buffers_arena *arena, size_t size, size_t alignment,
		       struct buffers_item **item);

/* Lets others have an item that is marked BUFFERS_TAKEN_SHARED. */
void buffers_arena_release(struct buffers_item *item);

/* Unmaps all of it.  EINVAL: the process holds an item.  ENOMEM. */
int buffers_arena_close(struct buffers_arena *arena);

#pragma GCC visibility pop

#endif
