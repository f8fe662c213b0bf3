/* SPDX-License-Identifier: MIT */
/*
 * views.h: which RX memory of this process has a view, and where
 *
 * A view is a second mapping of RX memory, which can be written.  The list is part of the state
 * of RX memory, and empty in a forked child: it has no views but those of shared arenas.
 */
#ifndef BUFFERS_VIEWS_H
#define BUFFERS_VIEWS_H

#include "base/span.h"

#pragma GCC visibility push(hidden)

/* Maps a view of this memory, and lists it.  ENOSYS, EACCES, ENOMEM. */
__attribute__((cold))
int buffers_views_map(struct buffers_span memory, bool is_inherited, uintptr_t *view);

/* Lists a view that this process has inherited.  ENOMEM. */
__attribute__((cold))
int buffers_views_list(struct buffers_span memory, uintptr_t view);

/*
 * Unmaps the view of exactly this memory, if it has one, and removes it from the list.
 * `inherited`: the view if the list may lack it, or 0.  ENOMEM: the system refuses.
 */
__attribute__((cold))
int buffers_views_unmap(struct buffers_span memory, uintptr_t inherited);

/*
 * The address at which these bytes are written.  0: they are not in memory with a view, or another
 * thread has the lock, or this one, if a signal handler asks.
 */
uintptr_t buffers_views_try_find(uintptr_t address, size_t size);

/* The same, but waits for the lock. */
uintptr_t buffers_views_find(uintptr_t address, size_t size);

/* Whether this memory has a view, maybe only in a process that forked this one. */
__attribute__((cold))
bool buffers_views_exist(struct buffers_span memory);

#pragma GCC visibility pop

#endif
