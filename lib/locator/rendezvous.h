/* SPDX-License-Identifier: MIT */
/*
 * rendezvous.h: one first locator for all copies of the library in a process
 *
 * The copies do not know each other.  The first one publishes the address of its locator in
 * the rendezvous file, and the others follow it.
 */
#ifndef BUFFERS_RENDEZVOUS_H
#define BUFFERS_RENDEZVOUS_H

#include "locator/locator.h"

#pragma GCC visibility push(hidden)

/*
 * A copy's knowledge of the first locator, in memory that is zero at the start of a process
 * and of a forked child.  Other copies, also of other versions, read all but `first`.
 */
struct buffers_root {
	uintptr_t offered;	/* the locator that this copy would publish, or 0 */
	uintptr_t token;	/* random, drawn before `offered` is set */
	struct buffers_locator *first;
};
_Static_assert(offsetof(struct buffers_root, offered) == 0, "layout");
_Static_assert(offsetof(struct buffers_root, token) == BUFFERS_WORD, "layout");

/*
 * Finds the first locator of the process for buffers of this kind: the one that any copy of
 * the library has published, or else a new one, which it publishes if it can.  ENOMEM.
 */
int buffers_rendezvous_first(struct buffers_root *root, enum buffers_kind kind,
			     struct buffers_locator **locator);

/* The same without creating one; NULL: there is none. */
__attribute__((cold))
struct buffers_locator *buffers_rendezvous_known(struct buffers_root *root,
						 enum buffers_kind kind);

/* Makes another locator the first one of this copy. */
__attribute__((cold))
void buffers_rendezvous_replace_first(struct buffers_root *root, struct buffers_locator *first);

/*
 * Withdraws the rendezvous file at the end of the process, if it leads to this locator.  The
 * locator may be NULL.
 */
__attribute__((cold))
void buffers_rendezvous_withdraw(const struct buffers_locator *published,
				 enum buffers_kind kind);

/*
 * Called before a fork in the parent, and after it in the child.  A child that has its parent's
 * number finds its parent's files under its own name.
 */
__attribute__((cold))
void buffers_rendezvous_note_fork(void);
__attribute__((cold))
void buffers_rendezvous_forget_parent(void);

#pragma GCC visibility pop

#endif
