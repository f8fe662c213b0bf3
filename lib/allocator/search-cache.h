/* SPDX-License-Identifier: MIT */
/*
 * search-cache.h: remembers where earlier searches found no gap
 *
 * An entry says that no gap for `size` bytes begins in its `full` span.  The next search for
 * as much starts at the edges of that span.
 */
#ifndef BUFFERS_SEARCH_CACHE_H
#define BUFFERS_SEARCH_CACHE_H

#include "base/span.h"

#pragma GCC visibility push(hidden)

#define BUFFERS_SEARCH_ENTRIES 8
#define BUFFERS_PACKED_SPANS 16

struct buffers_search_entry {
	struct buffers_span full;
	size_t size;		/* 0: the entry is empty */
	size_t alignment;
	bool was_aimed;		/* the window had a target */
	bool was_above;		/* the search ended at the end of `full`, not at its start */
};

/* A search, as far as it decides which entry to use. */
struct buffers_search_key {
	struct buffers_span range;
	uintptr_t target;
	size_t size;
	size_t alignment;
	bool is_aimed;
};

/*
 * All zero: nothing is known.  All threads share the cache; a thread that fails to get the
 * lock continues without it.
 */
struct buffers_search_cache {
	uint32_t is_locked;
	uint32_t is_stale;	/* memory was unmapped while the cache was locked */
	uint32_t generation;	/* number of invalidations so far */
	uint32_t oldest;
	struct buffers_search_entry entries[BUFFERS_SEARCH_ENTRIES];
	/* Used without the lock, only by packed.c: */
	uint32_t oldest_packed;
	struct buffers_span packed[BUFFERS_PACKED_SPANS];	/* may be empty */
};

/*
 * Copies an entry that the search can use.  is_equal: only one of the same size and
 * alignment.  In all these calls the cache may be NULL.
 */
bool buffers_search_cache_lookup(struct buffers_search_cache *cache,
				 const struct buffers_search_key *key, bool is_equal,
				 struct buffers_search_entry *entry);

/* The generation at the start of a search, for buffers_search_cache_record(). */
uint32_t buffers_search_cache_generation(const struct buffers_search_cache *cache);

/*
 * Records what a search has learned; replaces an entry that says less, or the oldest one.  Does
 * nothing if memory was unmapped since the search began: the search may have seen it mapped.
 */
void buffers_search_cache_record(struct buffers_search_cache *cache,
				 const struct buffers_search_entry *entry, uint32_t generation);

/* Notes that this span is free again. */
void buffers_search_cache_invalidate(struct buffers_search_cache *cache,
				     struct buffers_span freed);

#pragma GCC visibility pop

#endif
