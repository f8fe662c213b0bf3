/* SPDX-License-Identifier: MIT */
/*
 * search.h: a search for the free address nearest to a target
 *
 * The search starts at the target and goes both ways, nearest candidate first.  Two cursors
 * bound the rest of the range: candidates that begin at `up` or above, and candidates that end
 * at `down` or below.
 */
#ifndef BUFFERS_SEARCH_H
#define BUFFERS_SEARCH_H

#include "allocator/search-cache.h"
#include "base/window.h"
#include "platform/platform.h"

#pragma GCC visibility push(hidden)

struct buffers_search {
	struct buffers_span range;
	uintptr_t target;	/* inside the range */
	uintptr_t wanted_target;	/* as in the window; 0: none */
	size_t size;		/* whole pages */
	size_t alignment;	/* at least a page */
	size_t preferred;	/* a larger size, taken where the gap allows it */
	enum buffers_kind kind;
	enum buffers_map_flags map_flags;
	bool is_aimed;		/* the window has a target */
	bool is_in_other_process;	/* maps and mappings are another process's */
	bool was_above;		/* the last candidate was at `up` */
	bool was_refused;	/* an address that seemed free was not available */
	uintptr_t down, up;
	unsigned gaps;		/* in the range, as the last scan of the list saw them */
	struct buffers_span growth_room[2];	/* heap and stack; may be empty */
	struct buffers_maps maps;
	struct buffers_search_cache *cache;	/* may be NULL */
	uint32_t generation;	/* the cache's, when the search began */
};

/* An address that may be free. */
struct buffers_candidate {
	uintptr_t address;
	bool is_above;		/* found at `up`, not at `down` */
};

/* False: the window does not fit into the range. */
bool buffers_search_init(struct buffers_search *search, const struct buffers_window *window,
			 struct buffers_span range, size_t preferred);

/* Starts the search at this target, or at a random address of a span. */
void buffers_search_aim(struct buffers_search *search, uintptr_t target);
uintptr_t buffers_search_random_in(struct buffers_span span);

/* A random address outside the growth room. */
uintptr_t buffers_search_random_target(const struct buffers_search *search);

/*
 * Starts the search at the edges of a full span that the cache knows.  is_equal: only of a
 * search for the same size and alignment.  False: there is none.
 */
bool buffers_search_resume(struct buffers_search *search, bool is_equal,
			   struct buffers_search_entry *entry);

/* Records in the cache what a search that succeeded has learned. */
void buffers_search_record(const struct buffers_search *search);

/* The nearest candidate by the cursors alone; above wins between equals.  False: none. */
bool buffers_search_nearest(const struct buffers_search *search,
			    struct buffers_candidate *candidate);

/* The nearest candidate on one side. */
bool buffers_search_nearest_on(const struct buffers_search *search, bool is_above,
			       struct buffers_candidate *candidate);

/* The candidate's span extended to the preferred size, away from the target. */
struct buffers_span buffers_search_widen(const struct buffers_search *search,
					 struct buffers_candidate candidate);

/* Maps there and moves the cursor behind the mapping.  EEXIST: not available. */
int buffers_search_map(struct buffers_search *search, struct buffers_candidate candidate,
		       struct buffers_span *mapped);

/* Skips one page of an occupied candidate. */
void buffers_search_skip_page(struct buffers_search *search, struct buffers_candidate candidate);

/* Maps at the nearest free candidate, which the open maps show.  EADDRNOTAVAIL: none. */
int buffers_search_map_nearest(struct buffers_search *search, struct buffers_span *mapped);

#pragma GCC visibility pop

#endif
