/* SPDX-License-Identifier: MIT */
/*
 * state.h: the knowledge of this copy of the library about its process
 *
 * One page for each kind of memory, mapped at the first use, and zero again in a forked
 * child.  A page holds what the locator units and the allocator know of the kind.
 */
#ifndef BUFFERS_STATE_H
#define BUFFERS_STATE_H

#include "allocator/search-cache.h"
#include "locator/index.h"
#include "locator/places.h"
#include "locator/rendezvous.h"
#include "locator/stretches.h"
#include "platform/platform.h"

#pragma GCC visibility push(hidden)

/* The list of views, in views.c. */
struct buffers_views {
	uint32_t is_locked;
	uint32_t is_used;		/* set before the first view is listed */
	bool are_all;			/* no process that forked this one had any */
	struct buffers_stretch *tree;
	struct buffers_stretch *spare;	/* records that are not in use */
};

/*
 * All zero at the start of the process, but for the canary.  `canary` is 1 until the kernel
 * empties the page in a forked child.  Once it is 0, the kernel empties it in every child.
 */
struct buffers_state {
	struct buffers_root root;
	uint32_t canary;
	uint32_t pages_lock;		/* protects the list of buffers_state_map_page() */
	struct buffers_stretches *stretches;	/* NULL: no room was given back yet */
	struct buffers_locator *left;	/* first locator of a chain that this copy has left */
	struct buffers_views views;	/* empty, except for RX memory */
	struct buffers_search_cache search_cache;
	size_t new_size;	/* the smallest buffer that was made, if small */
	uint32_t searches;		/* the number of searches in the index; wraps */
	struct buffers_places *places;	/* NULL: too few searches for it */
	struct buffers_contention contention;
	struct buffers_index index;	/* last: its nodes fill the rest of the page */
};
_Static_assert(sizeof(struct buffers_state) <= 1024, "most of the page is left for nodes");

extern struct buffers_state *buffers_state_pages[BUFFERS_KINDS];

/* NULL: the kind was not used yet. */
static inline struct buffers_state *buffers_state_known(enum buffers_kind kind)
{
	return __atomic_load_n(&buffers_state_pages[kind], __ATOMIC_ACQUIRE);
}

/* Maps the page if it does not exist.  ENOMEM. */
int buffers_state_get(enum buffers_kind kind, struct buffers_state **state);

/*
 * Another page of state, empty at first and in a forked child.  It starts with a canary.  This
 * structure is in memory that a child has a copy of.
 */
struct buffers_state_page {
	uint32_t *canary;		/* the page */
	struct buffers_state_page *next;
};

/* Maps and unmaps such a page; the kind's own page exists already.  ENOMEM. */
__attribute__((cold))
int buffers_state_map_page(enum buffers_kind kind, struct buffers_state_page *page);
__attribute__((cold))
void buffers_state_unmap_page(enum buffers_kind kind, struct buffers_state_page *page);

/* The first of these pages that `matches` accepts, or NULL.  The list is locked meanwhile. */
struct buffers_state_page *buffers_state_find_page(enum buffers_kind kind,
						   bool (*matches)(struct buffers_state_page *page,
								   uintptr_t address),
						   uintptr_t address);

/*
 * Continues in a chain of this copy's own: nothing can be added to the present one.  A copy
 * leaves a chain once at most; from then on the function does nothing, since only threads of
 * this copy use the chain, and each holds its locks for a moment.  ENOMEM.
 */
__attribute__((cold))
int buffers_state_leave_chain(struct buffers_state *state, enum buffers_kind kind);

/* The first locator that the process published or followed, or NULL. */
struct buffers_locator *buffers_state_shared_first(const struct buffers_state *state);

/* Counts a search in the index; after many of them, maps the table of places. */
void buffers_state_count_search(struct buffers_state *state);

/* Unmaps memory of any kind, and tells every search cache.  EINVAL, ENOMEM. */
int buffers_state_unmap(struct buffers_span mapped);

/*
 * Writes memory that its address does not write, as buffers_platform_write(), while no other
 * copy of the library writes.  EACCES, ENOMEM.
 */
int buffers_state_write(uintptr_t address, const void *bytes, size_t size,
			enum buffers_write_mode mode);

/* Makes private memory RW or RX, by a copy where policy requires that.  EINVAL, EACCES, ENOMEM. */
int buffers_state_protect(struct buffers_span span, enum buffers_kind kind);

#pragma GCC visibility pop

#endif
