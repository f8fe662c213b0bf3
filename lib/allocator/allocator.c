/* SPDX-License-Identifier: MIT */
/*
 * allocator.c: picks an address in a range, and maps memory there
 *
 * The search is a ladder: each rung is a method to find an address, the cheapest first.  A
 * new method is one function and one entry of the table.  doc/placement.md describes them.
 */

#include "config.h"
#include "allocator/allocator.h"
#include "allocator/packed.h"
#include "allocator/search.h"
#include "platform/platform.h"

#include <errno.h>

/*
 * The rungs
 */

/* Finds the candidate beside the last mapping, on its side of the target: the kernel joins both. */
static bool find_adjacent(const struct buffers_search *search,
			  const struct buffers_search_entry *entry,
			  struct buffers_candidate *candidate)
{
	return search->preferred > search->size &&
	       buffers_search_nearest_on(search, entry->was_above, candidate);
}

/*
 * Maps beside the mapping of an equal search, or a few pages further.  Asks no questions: an
 * attempt to map costs less than a question about the address.
 */
static int map_adjacent(struct buffers_search *search, struct buffers_span *mapped)
{
	enum { ATTEMPTS = 4 };
	struct buffers_search_entry entry;
	struct buffers_candidate candidate;
	int error = EEXIST;

	if (!buffers_search_resume(search, true, &entry))
		return EADDRNOTAVAIL;
	for (unsigned i = 0; i < ATTEMPTS && error == EEXIST; i++) {
		if (!(i == 0 && find_adjacent(search, &entry, &candidate)) &&
		    !buffers_search_nearest(search, &candidate))
			return EADDRNOTAVAIL;
		if (buffers_platform_may_grow_into(buffers_search_widen(search, candidate)))
			return EADDRNOTAVAIL;
		error = buffers_search_map(search, candidate, mapped);
		if (error == EEXIST)
			buffers_search_skip_page(search, candidate);
	}
	return error == EEXIST ? EADDRNOTAVAIL : error;
}

/* Searches from the edges of the span in which an earlier search found no gap. */
static int map_resuming(struct buffers_search *search, struct buffers_span *mapped)
{
	struct buffers_search_entry entry;

	if (!buffers_search_resume(search, false, &entry))
		return EADDRNOTAVAIL;
	return buffers_search_map_nearest(search, mapped);
}

/* Searches from the target, or from a random one. */
__attribute__((cold))
static int map_from_target(struct buffers_search *search, struct buffers_span *mapped)
{
	buffers_search_aim(search, search->is_aimed ? search->wanted_target :
						      buffers_search_random_target(search));
	return buffers_search_map_nearest(search, mapped);
}

/*
 * Searches the half of a growth room that is farther from heap or stack: from `edge`, its far
 * end, or without a target from a random address in it.
 */
static int map_in_half(struct buffers_search *search, struct buffers_span half, uintptr_t edge,
		       struct buffers_span *mapped)
{
	if (buffers_span_size(half) == 0)
		return EADDRNOTAVAIL;
	buffers_search_aim(search, search->is_aimed ? edge : buffers_search_random_in(half));
	return buffers_search_map_nearest(search, mapped);
}

/*
 * Maps in the room into which the heap or the stack grows, as far from them as the range
 * allows: they would soon reach memory close to them.
 */
__attribute__((cold))
static int map_in_growth_room(struct buffers_search *search, struct buffers_span *mapped)
{
	struct buffers_span heap = buffers_span_intersect(search->range, search->growth_room[0]);
	struct buffers_span stack = buffers_span_intersect(search->range, search->growth_room[1]);
	int error;

	search->growth_room[0] = (struct buffers_span){ 0, 0 };
	heap.start += buffers_span_size(heap) / 2;
	error = map_in_half(search, heap, heap.end, mapped);
	search->growth_room[1] = (struct buffers_span){ 0, 0 };
	stack.end -= buffers_span_size(stack) / 2;
	if (error == EADDRNOTAVAIL)
		error = map_in_half(search, stack, stack.start, mapped);
	return error;
}

/*
 * Maps at an address of the system's choice, and keeps it if it is in the range.  Helps where
 * addresses that seem free were refused, and where the list of mappings may be wrong, as it may
 * be with every method but QUERY.
 */
__attribute__((cold))
static int map_anywhere_usable(struct buffers_search *search, struct buffers_span *mapped)
{
	uintptr_t address;
	int error;

	if (!search->was_refused && search->maps.method == BUFFERS_MAPS_QUERY)
		return EADDRNOTAVAIL;
	error = buffers_platform_map_anywhere(search->size, search->kind, search->map_flags,
					      &address);
	if (error)
		return search->was_refused ? error : EADDRNOTAVAIL;
	*mapped = (struct buffers_span){ address, address + search->size };
	if (buffers_span_contains(search->range, *mapped) &&
	    (address & (search->alignment - 1)) == 0)
		return 0;
	buffers_platform_unmap(address, search->size);
	return EADDRNOTAVAIL;
}

/*
 * The ladder
 */

/* A rung maps memory, or returns EADDRNOTAVAIL to let the next rung try. */
static const struct rung {
	int (*map)(struct buffers_search *search, struct buffers_span *mapped);
	bool needs_maps;	/* and growth room */
	bool is_recorded;	/* success teaches the search cache */
} ladder[] = {
	{ map_adjacent, .needs_maps = false, .is_recorded = true },
	{ map_resuming, .needs_maps = true, .is_recorded = true },
	{ map_from_target, .needs_maps = true, .is_recorded = true },
	{ map_in_growth_room, .needs_maps = true, .is_recorded = false },
	{ map_anywhere_usable, .needs_maps = true, .is_recorded = false },
};
enum { RUNGS = sizeof(ladder) / sizeof(ladder[0]) };

__attribute__((cold))
static void open_maps(struct buffers_search *search)
{
	search->growth_room[0] = buffers_platform_heap_growth();
	search->growth_room[1] = buffers_platform_stack_growth();
	buffers_platform_maps_open(&search->maps);
}

static int climb(struct buffers_search *search, struct buffers_span *mapped)
{
	bool has_maps = false;
	int error = EADDRNOTAVAIL;

	for (unsigned i = 0; i < RUNGS && error == EADDRNOTAVAIL; i++) {
		if (ladder[i].needs_maps && !has_maps) {
			open_maps(search);
			has_maps = true;
		}
		error = ladder[i].map(search, mapped);
		if (error == 0 && ladder[i].is_recorded)
			buffers_search_record(search);
	}
	if (error == EADDRNOTAVAIL)
		buffers_packed_record(search);
	if (has_maps)
		buffers_platform_maps_close(&search->maps);
	return error;
}

int buffers_allocator_map(const struct buffers_window *window, size_t preferred,
			  struct buffers_search_cache *cache, struct buffers_span *mapped)
{
	struct buffers_span range = buffers_platform_usable(window->range);
	struct buffers_search search;

	if (!buffers_search_init(&search, window, range, preferred))
		return EADDRNOTAVAIL;
	search.cache = cache;
	search.generation = buffers_search_cache_generation(cache);
	if (buffers_packed_is_full(&search))
		return EADDRNOTAVAIL;
	return climb(&search, mapped);
}

int buffers_allocator_unmap(struct buffers_span mapped, struct buffers_search_cache *cache)
{
	int error = buffers_platform_unmap(mapped.start, buffers_span_size(mapped));

	if (error == 0)
		buffers_search_cache_invalidate(cache, mapped);
	return error;
}

/*
 * Other processes
 */

static int map_in_other(const struct buffers_maps *maps, const struct buffers_window *window,
			struct buffers_span usable, struct buffers_span *mapped)
{
	struct buffers_span range = buffers_span_intersect(window->range, usable);
	struct buffers_search search;

	if (!buffers_search_init(&search, window, range, 0))
		return EADDRNOTAVAIL;
	search.maps = *maps;
	search.is_in_other_process = true;
	if (!search.is_aimed)
		buffers_search_aim(&search, buffers_search_random_target(&search));
	return buffers_search_map_nearest(&search, mapped);
}

int buffers_allocator_map_in(uint32_t pid, const struct buffers_window *window,
			     struct buffers_span *mapped)
{
	struct buffers_span usable;
	struct buffers_maps maps;
	int error = buffers_platform_maps_open_in(pid, &maps, &usable);

	if (error)
		return error;
	error = map_in_other(&maps, window, usable, mapped);
	buffers_platform_maps_close(&maps);
	return error;
}

int buffers_allocator_unmap_in(uint32_t pid, struct buffers_span mapped)
{
	struct buffers_maps maps;
	int error = buffers_platform_maps_open_in(pid, &maps, NULL);

	if (error)
		return error;
	error = buffers_platform_unmap_in(&maps, mapped.start, buffers_span_size(mapped));
	buffers_platform_maps_close(&maps);
	return error;
}
