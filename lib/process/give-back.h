/* SPDX-License-Identifier: MIT */
/*
 * give-back.h: takes room back from its owner
 *
 * Cleans the room, and adds it to the stretches of a kind or of an arena.
 */
#ifndef BUFFERS_GIVE_BACK_H
#define BUFFERS_GIVE_BACK_H

#include "locator/index.h"
#include "locator/stretches.h"

#pragma GCC visibility push(hidden)

/*
 * Takes the room back that the caller found in an item below its position.  Creates the
 * structure at *slot if there is none, for an arena unless that is NULL.
 * EINVAL: some of the room was given back before.  ENOMEM, EACCES: it cannot be recorded or
 * cleaned; it is not given back, and holds any bytes.
 */
int buffers_give_back_to(struct buffers_stretches **slot,
			 const struct buffers_arena_view *arena, struct buffers_span room,
			 enum buffers_kind kind);

/* The room that a pool may use before it makes an item. */
struct buffers_given {
	struct buffers_stretches *stretches;
	struct buffers_index *index;
	void (*release)(struct buffers_item *item);
	bool skips_unused;	/* items of which no byte was used may not be committed */
	size_t most;		/* of buffers_stretches_take() */
	uint32_t owner;
};

/*
 * Adds the free room of some items to the stretches beside it, so that they merge, and takes a
 * stretch if one suits then.  The room is this copy's alone from then on.
 */
struct buffers_item *buffers_give_back_join(const struct buffers_given *given,
					    const struct buffers_window *window);

/*
 * Does the same with an item that was just made and that the caller holds, unless no stretch is
 * beside it: then returns that item.  NULL: another thread was faster.
 */
struct buffers_item *buffers_give_back_join_new(const struct buffers_given *given,
						const struct buffers_window *window,
						struct buffers_item *item);

#pragma GCC visibility pop

#endif
