/* SPDX-License-Identifier: MIT */
/*
 * packed.c: refuses requests in full ranges without a search
 *
 * Threads share the spans without a lock, and one may see the start of a span with the end of
 * another.  The system confirms whatever it sees.
 */

#include "config.h"
#include "allocator/packed.h"
#include "allocator/gap.h"

__attribute__((always_inline))
static inline struct buffers_span load_span(const struct buffers_span *span)
{
	return (struct buffers_span){
		__atomic_load_n(&span->start, __ATOMIC_RELAXED),
		__atomic_load_n(&span->end, __ATOMIC_RELAXED),
	};
}

__attribute__((always_inline))
static inline void store_span(struct buffers_span *span, struct buffers_span value)
{
	__atomic_store_n(&span->start, value.start, __ATOMIC_RELAXED);
	__atomic_store_n(&span->end, value.end, __ATOMIC_RELAXED);
}

/*
 * Checking
 */

/*
 * Finds the lowest recorded span that overlaps the range from an address on.  NULL: there is none,
 * and *packed is empty, at the end of the range.
 */
static struct buffers_span *find_packed(const struct buffers_search *search, uintptr_t address,
					struct buffers_span *packed)
{
	struct buffers_span *found = NULL;

	*packed = (struct buffers_span){ search->range.end, search->range.end };
	for (size_t i = 0; i < BUFFERS_PACKED_SPANS; i++) {
		struct buffers_span span = load_span(&search->cache->packed[i]);

		if (address < span.end && span.start < span.end && span.start < packed->start) {
			*packed = span;
			found = &search->cache->packed[i];
		}
	}
	return found;
}

/*
 * Whether no candidate starts at this address or above.  Asks the system on the way back, after
 * the recorded spans have turned out to leave no candidate.
 */
__attribute__((cold))
static bool is_full_from(const struct buffers_search *search, uintptr_t address)
{
	struct buffers_span packed;
	struct buffers_span *known = find_packed(search, address, &packed);
	struct buffers_span gap = { address, packed.start };
	uintptr_t candidate;

	if (buffers_gap_lowest(gap, search->size, search->alignment, &candidate))
		return false;
	if (!known)
		return true;
	if (!is_full_from(search, packed.end))
		return false;
	if (buffers_platform_is_packed(buffers_span_intersect(packed, search->range)))
		return true;
	store_span(known, (struct buffers_span){ 0, 0 });
	return false;
}

bool buffers_packed_is_full(const struct buffers_search *search)
{
	const struct buffers_search_cache *cache = search->cache;

	return cache && __atomic_load_n(&cache->oldest_packed, __ATOMIC_RELAXED) &&
	       is_full_from(search, search->range.start);
}

/*
 * Recording
 */

/* Extends a recorded span that touches this one; false: none does. */
static bool extend_recorded(struct buffers_search_cache *cache, struct buffers_span span)
{
	for (size_t i = 0; i < BUFFERS_PACKED_SPANS; i++) {
		struct buffers_span known = load_span(&cache->packed[i]);

		if (known.start > span.end || span.start > known.end)
			continue;
		store_span(&cache->packed[i],
			   (struct buffers_span){ buffers_min(known.start, span.start),
						  buffers_max(known.end, span.end) });
		return true;
	}
	return false;
}

/* A span that touches no other replaces the oldest one. */
__attribute__((cold))
static void record_mapping(struct buffers_span mapping, void *context)
{
	const struct buffers_search *search = context;
	struct buffers_search_cache *cache = search->cache;
	unsigned i;

	if (!buffers_span_overlap(mapping, search->range) || extend_recorded(cache, mapping))
		return;
	i = __atomic_fetch_add(&cache->oldest_packed, 1, __ATOMIC_RELAXED);
	store_span(&cache->packed[i % BUFFERS_PACKED_SPANS], mapping);
}

/* Emulators may count pages that the program has unmapped. */
static bool notices_unmapping(void)
{
	size_t size = buffers_platform_granularity();
	struct buffers_span page;
	bool was_packed;

	if (buffers_platform_map_anywhere(size, BUFFERS_KIND_RW, BUFFERS_MAP_PLAIN,
					  &page.start) != 0)
		return false;
	page.end = page.start + size;
	was_packed = buffers_platform_is_packed(page);
	buffers_platform_unmap(page.start, size);
	return was_packed && !buffers_platform_is_packed(page);
}

/* The list finds a mapping behind a gap, and the probe all that follow it without a gap. */
static void record_by_questions(struct buffers_search *search)
{
	static const struct buffers_maps probe = {
		.descriptor = -1, .method = BUFFERS_MAPS_PROBE,
	};
	struct buffers_span rest = search->range;
	struct buffers_span found;

	for (unsigned i = 0; i < BUFFERS_PACKED_SPANS; i++, rest.start = found.end) {
		if (buffers_platform_maps_find(&search->maps, rest, &found) != 0)
			return;
		buffers_platform_maps_find(&probe, found, &found);
		record_mapping(found, search);
	}
}

/* A probe asks about each page of a gap: a search that skipped large gaps must not pay for that. */
static bool may_have_large_gaps(const struct buffers_search *search)
{
	return search->maps.method == BUFFERS_MAPS_PROBE &&
	       (search->was_refused || search->alignment > BUFFERS_HUGE_PAGE);
}

void buffers_packed_record(struct buffers_search *search)
{
	if (!BUFFERS_PORT_HAS_PACKED || !search->cache || may_have_large_gaps(search) ||
	    !notices_unmapping())
		return;
	if (search->maps.method != BUFFERS_MAPS_SCAN)
		record_by_questions(search);
	else if (search->gaps < BUFFERS_PACKED_SPANS)
		buffers_platform_maps_scan(&search->maps, record_mapping, search);
}
