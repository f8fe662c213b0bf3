/* SPDX-License-Identifier: MIT */
/* search-cache.c: remembers where earlier searches found no gap */

#include "config.h"
#include "allocator/search-cache.h"
#include "platform/platform.h"

/* Memory that was unmapped while another thread had the lock may be in any full span. */
static bool lock_cache(struct buffers_search_cache *cache)
{
	if (!cache || __atomic_exchange_n(&cache->is_locked, 1, __ATOMIC_ACQUIRE) != 0)
		return false;
	if (__atomic_exchange_n(&cache->is_stale, 0, __ATOMIC_ACQUIRE))
		for (size_t i = 0; i < BUFFERS_SEARCH_ENTRIES; i++)
			cache->entries[i] = (struct buffers_search_entry){ .size = 0 };
	return true;
}

static void unlock_cache(struct buffers_search_cache *cache)
{
	__atomic_store_n(&cache->is_locked, 0, __ATOMIC_RELEASE);
}

/*
 * Looking up
 */

/*
 * Whether the search may skip the entry's full span; is_equal: and has the same size and
 * alignment.  A search without a target continues where the last one without a target ended,
 * never beside memory for a target: an attacker can guess that address.
 */
static bool is_usable_entry(const struct buffers_search_entry *entry,
			    const struct buffers_search_key *key, bool is_equal)
{
	struct buffers_span full = entry->full;

	if (!entry->size || entry->size > key->size || entry->alignment > key->alignment ||
	    entry->was_aimed != key->is_aimed)
		return false;
	if (is_equal && (entry->size != key->size || entry->alignment != key->alignment))
		return false;
	if (key->is_aimed)
		return full.start <= key->target && key->target <= full.end;
	return full.start <= key->range.end && key->range.start <= full.end;
}

bool buffers_search_cache_lookup(struct buffers_search_cache *cache,
				 const struct buffers_search_key *key, bool is_equal,
				 struct buffers_search_entry *entry)
{
	size_t i = 0;

	if (!lock_cache(cache))
		return false;
	while (i < BUFFERS_SEARCH_ENTRIES && !is_usable_entry(&cache->entries[i], key, is_equal))
		i++;
	if (i < BUFFERS_SEARCH_ENTRIES)
		*entry = cache->entries[i];
	unlock_cache(cache);
	return i < BUFFERS_SEARCH_ENTRIES;
}

/*
 * Recording
 */

/* Whether the new entry says everything that the old one says. */
static bool is_covered_by(const struct buffers_search_entry *old,
			  const struct buffers_search_entry *new)
{
	return !old->size || (buffers_span_contains(new->full, old->full) &&
			      new->size <= old->size && new->alignment <= old->alignment &&
			      new->was_aimed == old->was_aimed);
}

static void store_entry(struct buffers_search_cache *cache,
			const struct buffers_search_entry *entry)
{
	size_t i = 0;

	while (i < BUFFERS_SEARCH_ENTRIES && !is_covered_by(&cache->entries[i], entry))
		i++;
	if (i == BUFFERS_SEARCH_ENTRIES)
		i = cache->oldest++ % BUFFERS_SEARCH_ENTRIES;
	cache->entries[i] = *entry;
}

uint32_t buffers_search_cache_generation(const struct buffers_search_cache *cache)
{
	return cache ? __atomic_load_n(&cache->generation, __ATOMIC_ACQUIRE) : 0;
}

void buffers_search_cache_record(struct buffers_search_cache *cache,
				 const struct buffers_search_entry *entry, uint32_t generation)
{
	if (!lock_cache(cache))
		return;
	if (buffers_search_cache_generation(cache) == generation)
		store_entry(cache, entry);
	unlock_cache(cache);
}

/*
 * Invalidating
 */

/* Shrinks the full span so that no candidate that overlaps the freed span is in it. */
static void shrink_entry(struct buffers_search_entry *entry, struct buffers_span freed)
{
	size_t before = entry->size - buffers_platform_granularity();
	struct buffers_span *full = &entry->full;
	struct buffers_span open = {
		buffers_max(freed.start, before) - before,
		buffers_min(freed.end, UINTPTR_MAX - before) + before,
	};

	/* An empty span also says that no candidate crosses it. */
	if (open.start > full->end || full->start > open.end)
		return;
	if (full->end - open.start < open.end - full->start)
		full->end = open.start;
	else
		full->start = open.end;
}

void buffers_search_cache_invalidate(struct buffers_search_cache *cache,
				     struct buffers_span freed)
{
	if (!cache)
		return;
	/* First, so that a search which records later has seen the new generation, or is undone. */
	__atomic_fetch_add(&cache->generation, 1, __ATOMIC_ACQ_REL);
	if (!lock_cache(cache)) {
		__atomic_store_n(&cache->is_stale, 1, __ATOMIC_RELEASE);
		return;
	}
	for (size_t i = 0; i < BUFFERS_SEARCH_ENTRIES; i++)
		if (cache->entries[i].size)
			shrink_entry(&cache->entries[i], freed);
	unlock_cache(cache);
}
