/* SPDX-License-Identifier: MIT */
/*
 * search.c: a search for the free address nearest to a target
 *
 * The method depends on the system: one question for each mapping in the way (walk), or a
 * pass over the whole list of mappings (scan).  System calls take most of the time of both, so
 * their functions are cold: the compiler makes these small.
 */

#include "config.h"
#include "allocator/search.h"
#include "allocator/gap.h"

#include <errno.h>

static const struct buffers_span everything = { 0, UINTPTR_MAX };

/*
 * Cursors and candidates
 */

static struct buffers_span span_of(const struct buffers_search *search,
				   struct buffers_candidate candidate)
{
	return (struct buffers_span){ candidate.address, candidate.address + search->size };
}

static size_t distance_to(const struct buffers_search *search, uintptr_t address)
{
	if (address > search->target)
		return address - search->target;
	if (search->target - address > search->size)
		return search->target - address - search->size;
	return 0;
}

/* The candidates in a gap nearest to the cursors, in the rest of the range. */
static bool lowest_above(const struct buffers_search *search, struct buffers_span gap,
			 uintptr_t *address)
{
	struct buffers_span left = buffers_span_intersect(gap, search->range);

	left.start = buffers_max(left.start, search->up);
	return buffers_gap_lowest(left, search->size, search->alignment, address);
}

static bool highest_below(const struct buffers_search *search, struct buffers_span gap,
			  uintptr_t *address)
{
	struct buffers_span left = buffers_span_intersect(gap, search->range);

	left.end = buffers_min(left.end, search->down);
	return buffers_gap_highest(left, search->size, search->alignment, address);
}

bool buffers_search_nearest(const struct buffers_search *search,
			    struct buffers_candidate *candidate)
{
	uintptr_t low, high;
	bool has_low = lowest_above(search, everything, &low);
	bool has_high = highest_below(search, everything, &high);

	if (has_low && (!has_high || distance_to(search, low) <= distance_to(search, high)))
		*candidate = (struct buffers_candidate){ low, true };
	else if (has_high)
		*candidate = (struct buffers_candidate){ high, false };
	return has_low || has_high;
}

bool buffers_search_nearest_on(const struct buffers_search *search, bool is_above,
			       struct buffers_candidate *candidate)
{
	candidate->is_above = is_above;
	return (is_above ? lowest_above : highest_below)(search, everything,
							 &candidate->address);
}

void buffers_search_skip_page(struct buffers_search *search, struct buffers_candidate candidate)
{
	if (candidate.is_above)
		search->up = candidate.address + buffers_platform_granularity();
	else
		search->down = candidate.address + search->size - buffers_platform_granularity();
}

/*
 * Starting
 */

void buffers_search_aim(struct buffers_search *search, uintptr_t target)
{
	size_t page = buffers_platform_granularity();
	size_t before = search->size - page;

	target = buffers_max(search->range.start, buffers_min(target, search->range.end));
	search->target = target & ~(page - 1);
	search->down = search->target;
	/* Include the candidates around the target. */
	search->up = buffers_max(search->target, before) - before;
}

uintptr_t buffers_search_random_in(struct buffers_span span)
{
	return span.start +
	       (uintptr_t)(buffers_platform_random() % (buffers_span_size(span) + 1));
}

static bool overlaps_growth_room(const struct buffers_search *search, struct buffers_span span)
{
	return buffers_span_overlap(search->growth_room[0], span) ||
	       buffers_span_overlap(search->growth_room[1], span);
}

/* A few attempts are enough, unless heap and stack leave almost nothing. */
__attribute__((cold))
uintptr_t buffers_search_random_target(const struct buffers_search *search)
{
	unsigned attempts = 8;
	uintptr_t target;

	do
		target = buffers_search_random_in(search->range);
	while (overlaps_growth_room(search, (struct buffers_span){ target, target + 1 }) &&
	       --attempts);
	return target;
}

bool buffers_search_resume(struct buffers_search *search, bool is_equal,
			   struct buffers_search_entry *entry)
{
	struct buffers_search_key key = {
		search->range, search->target, search->size, search->alignment, search->is_aimed,
	};
	size_t longer;

	if (!buffers_search_cache_lookup(search->cache, &key, is_equal, entry))
		return false;
	if (!search->is_aimed)
		search->target = buffers_max(entry->full.start, search->range.start);
	/* From the highest start that the entry leaves, a longer candidate ends higher. */
	longer = search->size - entry->size;
	search->down = buffers_min(entry->full.start, UINTPTR_MAX - longer) + longer;
	search->up = entry->full.end;
	return true;
}

void buffers_search_record(const struct buffers_search *search)
{
	/* Candidates that reach out of the range at either end were not tried. */
	size_t before = search->size - buffers_platform_granularity();
	struct buffers_search_entry entry = {
		.full = { buffers_max(search->down, search->range.start + before),
			  buffers_min(search->up, search->range.end - before) },
		.size = search->size,
		.alignment = search->alignment,
		.was_aimed = search->is_aimed,
		.was_above = search->was_above,
	};

	if (entry.full.start <= entry.full.end && !search->was_refused)
		buffers_search_cache_record(search->cache, &entry, search->generation);
}

bool buffers_search_init(struct buffers_search *search, const struct buffers_window *window,
			 struct buffers_span range, size_t preferred)
{
	if (window->size > buffers_span_size(range))
		return false;
	range.start = buffers_page_up(range.start);
	range.end = buffers_page_down(range.end);
	*search = (struct buffers_search){
		.range = range,
		.wanted_target = window->target,
		.size = buffers_page_up(window->size),
		.alignment = buffers_max(window->alignment, buffers_platform_granularity()),
		.kind = window->kind,
		.map_flags = window->map_flags,
		.is_aimed = window->target != 0,
	};
	search->preferred = buffers_max(preferred, search->size);
	if (search->is_aimed)
		buffers_search_aim(search, window->target);
	return search->size <= buffers_span_size(range);
}

/*
 * Walk: questions about single mappings
 */

static bool find_growth_room(const struct buffers_search *search, struct buffers_span span,
			     struct buffers_span *room)
{
	for (size_t i = 0; i < 2; i++) {
		*room = search->growth_room[i];
		if (buffers_span_overlap(*room, span))
			return true;
	}
	return false;
}

/* Moves each cursor across an obstacle that it lies in, or that its candidate meets. */
static void skip_obstacle(struct buffers_search *search, struct buffers_span obstacle,
			  struct buffers_candidate candidate)
{
	if (candidate.is_above || (obstacle.start <= search->up && search->up < obstacle.end))
		search->up = obstacle.end;
	if (!candidate.is_above ||
	    (obstacle.start < search->down && search->down <= obstacle.end))
		search->down = obstacle.start;
}

/*
 * No call finds the next mapping below an address.  None is needed: the lowest mapping that
 * overlaps the highest candidate excludes all candidates down to the mapping's start.
 */
__attribute__((cold))
static bool walk_to_candidate(struct buffers_search *search, struct buffers_candidate *candidate)
{
	struct buffers_span obstacle;

	while (buffers_search_nearest(search, candidate)) {
		struct buffers_span span = span_of(search, *candidate);

		if (!find_growth_room(search, span, &obstacle) &&
		    buffers_platform_maps_find(&search->maps, span, &obstacle) != 0)
			return true;
		skip_obstacle(search, obstacle, *candidate);
	}
	return false;
}

/*
 * Scan: the list of all mappings
 */

struct scan {
	const struct buffers_search *search;
	uintptr_t free_from;	/* the end of the last mapping */
	uintptr_t up, down;	/* the cursors' next candidates */
	bool has_up;
	unsigned gaps;		/* that overlap the range */
};

/* Considers the candidates in a gap, without the growth room from index i on. */
__attribute__((cold))
static void consider_gap(struct scan *scan, struct buffers_span gap, size_t i)
{
	const struct buffers_search *search = scan->search;
	uintptr_t address;

	for (; i < 2; i++) {
		struct buffers_span room = search->growth_room[i];

		if (buffers_span_overlap(room, gap)) {
			consider_gap(scan, (struct buffers_span){ gap.start, room.start }, i + 1);
			gap.start = room.end;
		}
	}
	if (highest_below(search, gap, &address))
		scan->down = address + search->size;
	if (!scan->has_up && lowest_above(search, gap, &address)) {
		scan->up = address;
		scan->has_up = true;
	}
}

static void visit_mapping(struct buffers_span mapping, void *context)
{
	struct scan *scan = context;
	struct buffers_span gap = { scan->free_from, mapping.start };

	scan->gaps += buffers_span_overlap(gap, scan->search->range);
	consider_gap(scan, gap, 0);
	scan->free_from = buffers_max(scan->free_from, mapping.end);
}

static bool scan_to_candidate(struct buffers_search *search, struct buffers_candidate *candidate)
{
	/* Without a result, candidates that reach out of the range are left untried. */
	size_t before = search->size - buffers_platform_granularity();
	struct scan scan = {
		.search = search,
		.up = search->range.end - before,
		.down = search->range.start + before,
	};

	/* Another thread may have closed the list: continue with probes then. */
	if (buffers_platform_maps_scan(&search->maps, visit_mapping, &scan) != 0) {
		search->maps.method = BUFFERS_MAPS_PROBE;
		return walk_to_candidate(search, candidate);
	}
	consider_gap(&scan, (struct buffers_span){ scan.free_from, UINTPTR_MAX }, 0);
	search->gaps = scan.gaps;
	search->up = buffers_max(search->up, scan.up);
	search->down = buffers_min(search->down, scan.down);
	return buffers_search_nearest(search, candidate);
}

static bool next_candidate(struct buffers_search *search, struct buffers_candidate *candidate)
{
	return search->maps.method == BUFFERS_MAPS_SCAN ?
	       scan_to_candidate(search, candidate) : walk_to_candidate(search, candidate);
}

/*
 * Mapping
 */

struct buffers_span buffers_search_widen(const struct buffers_search *search,
					 struct buffers_candidate candidate)
{
	size_t extra = search->preferred - search->size;
	struct buffers_span span = span_of(search, candidate);

	if (candidate.is_above || search->alignment > buffers_platform_granularity())
		span.end = span.end <= UINTPTR_MAX - extra ? span.end + extra : UINTPTR_MAX;
	else
		span.start = span.start >= extra ? span.start - extra : 0;
	return span;
}

static int map_span(const struct buffers_search *search, struct buffers_span span,
		    struct buffers_span *mapped)
{
	size_t size = buffers_span_size(span);

	*mapped = span;
	if (search->is_in_other_process)
		return buffers_platform_map_in(&search->maps, span.start, size, search->kind);
	return buffers_platform_map(span.start, size, search->kind, search->map_flags);
}

/* Maps the preferred size, or else the requested one. */
static int map_candidate(const struct buffers_search *search, struct buffers_candidate candidate,
			 struct buffers_span *mapped)
{
	struct buffers_span wide = buffers_search_widen(search, candidate);
	bool may_widen = search->preferred > search->size &&
			 buffers_span_contains(search->range, wide) &&
			 !overlaps_growth_room(search, wide);
	int error;

	if (may_widen) {
		error = map_span(search, wide, mapped);
		if (error == 0 || error == EACCES)
			return error;
	}
	return map_span(search, span_of(search, candidate), mapped);
}

int buffers_search_map(struct buffers_search *search, struct buffers_candidate candidate,
		       struct buffers_span *mapped)
{
	int error = map_candidate(search, candidate, mapped);

	search->was_above = candidate.is_above;
	if (error == 0 && candidate.is_above)
		search->up = mapped->end;
	else if (error == 0)
		search->down = mapped->start;
	return error;
}

/* Moves the cursor by a step from a candidate that was refused twice. */
static void skip_refused(struct buffers_search *search, struct buffers_candidate candidate,
			 size_t step)
{
	uintptr_t address = candidate.address;

	if (candidate.is_above)
		search->up = buffers_min(address, UINTPTR_MAX - step) + step;
	else
		search->down = buffers_max(address + search->size, step) - step;
	search->was_refused = true;
}

/* Skips the gap that the system keeps below a mapping that can grow down. */
static bool skip_guard_gap(struct buffers_search *search, struct buffers_candidate candidate)
{
	struct buffers_span gap;

	if (search->is_in_other_process ||
	    !buffers_platform_find_guard_gap(&search->maps, span_of(search, candidate), &gap))
		return false;
	skip_obstacle(search, gap, candidate);
	return true;
}

/*
 * Another thread may map at a candidate that was just seen free: the next question shows its
 * mapping.  If the candidate is still seen free, it is in a guard gap; or a layer between the
 * library and the kernel reserves those addresses: skip them in steps that double.
 */
__attribute__((cold))
int buffers_search_map_nearest(struct buffers_search *search, struct buffers_span *mapped)
{
	uintptr_t refused = 0;
	size_t step = search->size;
	struct buffers_candidate candidate;
	int error;

	while (next_candidate(search, &candidate)) {
		if (candidate.address == refused) {
			if (skip_guard_gap(search, candidate))
				continue;
			skip_refused(search, candidate, step);
			step = buffers_min(step, SIZE_MAX / 2) * 2;
			continue;
		}
		error = buffers_search_map(search, candidate, mapped);
		if (error != EEXIST)
			return error;
		refused = candidate.address;
	}
	return EADDRNOTAVAIL;
}
