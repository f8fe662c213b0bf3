/* SPDX-License-Identifier: MIT */
/*
 * allocator.c: picks an address in a range and maps memory there
 *
 * A search starts at the target and goes both ways, nearest place first.  Its
 * two cursors say what is left of the range: places that begin at `up` or
 * above, and places that end at `down` or below.  How the mappings in between
 * come to light depends on the system: by one question for each (walk), or by
 * reading the whole list (scan).
 */

#include "config.h"
#include "allocator.h"

#include <errno.h>

struct search {
	struct buffers_span range;
	uintptr_t target;
	size_t size;		/* of the place, whole pages */
	size_t alignment;	/* at least a page */
	size_t preferred;	/* taken instead where the gap allows */
	uintptr_t down, up;
	struct buffers_span kept[2];	/* left to heap and stack; may be empty */
	bool was_refused;	/* a place that seemed free was not to be had */
};

struct place {
	uintptr_t address;
	bool is_above;		/* found at `up`, not at `down` */
};

/*
 * Spans
 */

static uintptr_t min(uintptr_t a, uintptr_t b)
{
	return a < b ? a : b;
}

static uintptr_t max(uintptr_t a, uintptr_t b)
{
	return a > b ? a : b;
}

static struct buffers_span common(struct buffers_span a, struct buffers_span b)
{
	return (struct buffers_span){ max(a.start, b.start), min(a.end, b.end) };
}

static size_t length(struct buffers_span span)
{
	return span.start < span.end ? span.end - span.start : 0;
}

static bool meet(struct buffers_span a, struct buffers_span b)
{
	return length(common(a, b)) > 0;
}

static bool contains(struct buffers_span outer, struct buffers_span inner)
{
	return outer.start <= inner.start && inner.end <= outer.end;
}

bool buffers_gap_lowest(struct buffers_span gap, size_t size, size_t alignment,
			uintptr_t *place)
{
	size_t slack = (size_t)-gap.start & (alignment - 1);
	size_t room = length(gap);

	if (room < slack || room - slack < size)
		return false;
	*place = gap.start + slack;
	return true;
}

bool buffers_gap_highest(struct buffers_span gap, size_t size, size_t alignment,
			 uintptr_t *place)
{
	uintptr_t highest;

	if (length(gap) < size)
		return false;
	highest = (gap.end - size) & ~(uintptr_t)(alignment - 1);
	if (highest < gap.start)
		return false;
	*place = highest;
	return true;
}

/*
 * Searching
 */

static size_t distance(const struct search *search, uintptr_t address)
{
	if (address > search->target)
		return address - search->target;
	if (search->target - address > search->size)
		return search->target - address - search->size;
	return 0;
}

static bool meets_kept(const struct search *search, struct buffers_span span)
{
	return meet(search->kept[0], span) || meet(search->kept[1], span);
}

/* The place in the gap that is nearest to the target, of what is left. */
static bool nearest_in(const struct search *search, struct buffers_span gap,
		       struct place *place)
{
	struct buffers_span left = common(gap, search->range);
	struct buffers_span above = { max(left.start, search->up), left.end };
	struct buffers_span below = { left.start, min(left.end, search->down) };
	uintptr_t low, high;
	bool has_low = buffers_gap_lowest(above, search->size, search->alignment, &low);
	bool has_high = buffers_gap_highest(below, search->size, search->alignment, &high);

	if (has_low && (!has_high || distance(search, low) <= distance(search, high)))
		*place = (struct place){ low, true };
	else if (has_high)
		*place = (struct place){ high, false };
	return has_low || has_high;
}

static bool find_obstacle(const struct search *search, const struct buffers_maps *maps,
			  struct buffers_span place, struct buffers_span *obstacle)
{
	for (size_t i = 0; i < 2; i++) {
		if (meet(search->kept[i], place)) {
			*obstacle = search->kept[i];
			return true;
		}
	}
	return buffers_platform_maps_find(maps, place, obstacle) == 0;
}

/*
 * The next place, by questions about single mappings.
 *
 * Nobody tells what lies below an address.  But the lowest mapping that is in
 * the way of the highest place left rules out all places down to its start.
 */
static bool walk(struct search *search, const struct buffers_maps *maps, struct place *place)
{
	static const struct buffers_span everything = { 0, UINTPTR_MAX };
	struct buffers_span obstacle;

	while (nearest_in(search, everything, place)) {
		struct buffers_span span = { place->address, place->address + search->size };

		if (!find_obstacle(search, maps, span, &obstacle))
			return true;
		if (place->is_above)
			search->up = obstacle.end;
		else
			search->down = obstacle.start;
	}
	return false;
}

struct scan {
	const struct search *search;
	uintptr_t free_from;	/* the end of the last mapping */
	struct place best;
	bool has_best;
};

/* Holds the gap, less what is kept from kept[i] on, against the best so far. */
static void weigh(struct scan *scan, struct buffers_span gap, size_t i)
{
	const struct search *search = scan->search;
	struct place place;

	for (; i < 2; i++) {
		struct buffers_span kept = search->kept[i];

		if (meet(kept, gap)) {
			weigh(scan, (struct buffers_span){ gap.start, kept.start }, i + 1);
			gap.start = kept.end;
		}
	}
	if (!nearest_in(search, gap, &place))
		return;
	/* of equals the upper one, as in a walk */
	if (scan->has_best &&
	    distance(search, scan->best.address) < distance(search, place.address))
		return;
	scan->best = place;
	scan->has_best = true;
}

static void visit_mapping(struct buffers_span mapping, void *context)
{
	struct scan *scan = context;

	weigh(scan, (struct buffers_span){ scan->free_from, mapping.start }, 0);
	scan->free_from = max(scan->free_from, mapping.end);
}

/* The next place, by reading the list of all mappings. */
static bool scan(struct search *search, const struct buffers_maps *maps, struct place *place)
{
	struct scan scan = { .search = search };

	if (buffers_platform_maps_scan(maps, visit_mapping, &scan) != 0)
		return false;
	weigh(&scan, (struct buffers_span){ scan.free_from, UINTPTR_MAX }, 0);
	*place = scan.best;
	return scan.has_best;
}

/* The place made as long as preferred, away from the target. */
static struct buffers_span widened(const struct search *search, struct place place)
{
	size_t extra = search->preferred - search->size;
	struct buffers_span span = { place.address, place.address + search->size };

	if (place.is_above || search->alignment > buffers_platform_granularity())
		span.end = span.end <= UINTPTR_MAX - extra ? span.end + extra : UINTPTR_MAX;
	else
		span.start = span.start >= extra ? span.start - extra : 0;
	return span;
}

static int map_span(struct buffers_span span, struct buffers_span *mapped)
{
	*mapped = span;
	return buffers_platform_map(span.start, length(span), BUFFERS_CODE);
}

static int map_place(const struct search *search, struct place place,
		     struct buffers_span *mapped)
{
	struct buffers_span span = { place.address, place.address + search->size };
	struct buffers_span wide = widened(search, place);
	bool may_widen = search->preferred > search->size && contains(search->range, wide) &&
			 !meets_kept(search, wide);
	int error;

	if (may_widen) {
		error = map_span(wide, mapped);
		if (error == 0 || error == EACCES)
			return error;
	}
	return map_span(span, mapped);
}

/*
 * Maps at the nearest place of what is left of the search.
 *
 * Somebody may take a place that was just seen free; looking again shows what
 * took it.  Where nothing is to be seen, a layer between us and the kernel
 * refuses that part of the address space, which is left in growing steps.
 */
static int map_nearest(struct search *search, const struct buffers_maps *maps,
		       struct buffers_span *mapped)
{
	bool (*next_place)(struct search *, const struct buffers_maps *, struct place *) =
		maps->kind == BUFFERS_MAPS_SCAN ? scan : walk;
	uintptr_t refused = 0;
	size_t step = search->size;
	struct place place;
	int error;

	while (next_place(search, maps, &place)) {
		if (place.address == refused) {
			if (place.is_above)
				search->up = min(place.address, UINTPTR_MAX - step) + step;
			else
				search->down = max(place.address + search->size, step) - step;
			step = min(step, SIZE_MAX / 2) * 2;
			search->was_refused = true;
			continue;
		}
		error = map_place(search, place, mapped);
		if (error == 0 && place.is_above)
			search->up = mapped->end;
		else if (error == 0)
			search->down = mapped->start;
		if (error != EEXIST)
			return error;
		refused = place.address;
	}
	return EADDRNOTAVAIL;
}

/*
 * Hindsight
 */

static bool enter(struct buffers_hindsight *hindsight)
{
	return hindsight && __atomic_exchange_n(&hindsight->is_busy, 1, __ATOMIC_ACQUIRE) == 0;
}

static void leave(struct buffers_hindsight *hindsight)
{
	__atomic_store_n(&hindsight->is_busy, 0, __ATOMIC_RELEASE);
}

/* Whether the search could skip what the last one found full. */
static bool resume(struct search *search, struct buffers_hindsight *hindsight)
{
	bool is_of_use;

	if (!enter(hindsight))
		return false;
	is_of_use = hindsight->full.start <= search->target &&
		    search->target <= hindsight->full.end && hindsight->size &&
		    hindsight->size <= search->size &&
		    hindsight->alignment <= search->alignment;
	if (is_of_use) {
		size_t longer = search->size - hindsight->size;

		/* A longer place may begin where a shorter one was not ruled out. */
		search->down = min(hindsight->full.start, UINTPTR_MAX - longer) + longer;
		search->up = hindsight->full.end;
	}
	leave(hindsight);
	return is_of_use;
}

static void remember(const struct search *search, struct buffers_hindsight *hindsight)
{
	/* Places that begin below the range were not tried. */
	uintptr_t lowest = search->range.start + search->size - buffers_platform_granularity();
	struct buffers_span full = { max(search->down, lowest), search->up };

	if (full.start > full.end || search->was_refused || !enter(hindsight))
		return;
	hindsight->full = full;
	hindsight->size = search->size;
	hindsight->alignment = search->alignment;
	leave(hindsight);
}

/* A place that the freed one is part of may reach its own size into what is full. */
static void forget(struct buffers_span freed, struct buffers_hindsight *hindsight)
{
	struct buffers_span *full;
	struct buffers_span open;

	if (!enter(hindsight))
		return;
	full = &hindsight->full;
	open.start = max(freed.start, hindsight->size) - hindsight->size;
	open.end = min(freed.end, UINTPTR_MAX - hindsight->size) + hindsight->size;
	/* An empty span, too, says that nothing lies across it. */
	if (open.start <= full->end && full->start <= open.end) {
		if (full->end - open.start < open.end - full->start)
			full->end = open.start;
		else
			full->start = open.end;
	}
	leave(hindsight);
}

/*
 * The ladder, cheapest rung first
 */

static void aim(struct search *search, uintptr_t target)
{
	size_t page = buffers_platform_granularity();
	size_t before = search->size - page;

	search->target = max(search->range.start, min(target, search->range.end)) & ~(page - 1);
	search->down = search->target;
	/* From here on, so that a place around the target counts, too. */
	search->up = max(search->target, before) - before;
}

static uintptr_t random_in(struct buffers_span span)
{
	return span.start + (uintptr_t)(buffers_platform_random() % (length(span) + 1));
}

/* Few attempts suffice, unless heap and stack leave next to nothing. */
static uintptr_t random_target(const struct search *search)
{
	unsigned attempts = 8;
	uintptr_t target;

	do
		target = random_in(search->range);
	while (meets_kept(search, (struct buffers_span){ target, target + 1 }) && --attempts);
	return target;
}

/*
 * EEXIST: not to be had.  Where the heap or the stack may grow, nothing is
 * placed between them and the neighbour.
 */
static int map_beside(const struct search *search, const struct buffers_span *neighbour,
		      struct buffers_span *mapped)
{
	struct buffers_span above = { neighbour->end, search->range.end };
	struct buffers_span below = { search->range.start, neighbour->start };
	struct place place;

	place.is_above = search->target <= neighbour->start;
	if (place.is_above ?
	    !buffers_gap_lowest(above, search->size, search->alignment, &place.address) :
	    !buffers_gap_highest(below, search->size, search->alignment, &place.address))
		return EEXIST;
	if (meets_kept(search, (struct buffers_span){ place.address,
						      place.address + search->size }))
		return EEXIST;
	return map_place(search, place, mapped);
}

/*
 * Where the heap or the stack would grow, as far from their edge as the range
 * allows: near an edge they would soon meet it.
 */
static int map_in_kept(struct search *search, const struct buffers_maps *maps, bool is_aimed,
		       struct buffers_span *mapped)
{
	struct buffers_span heap = common(search->range, search->kept[0]);
	struct buffers_span stack = common(search->range, search->kept[1]);
	int error = EADDRNOTAVAIL;

	search->kept[0] = (struct buffers_span){ 0, 0 };
	if (length(heap) > 0) {
		heap.start += length(heap) / 2;
		aim(search, is_aimed ? heap.end : random_in(heap));
		error = map_nearest(search, maps, mapped);
	}
	search->kept[1] = (struct buffers_span){ 0, 0 };
	if (error == EADDRNOTAVAIL && length(stack) > 0) {
		stack.end -= length(stack) / 2;
		aim(search, is_aimed ? stack.start : random_in(stack));
		error = map_nearest(search, maps, mapped);
	}
	return error;
}

static int map_searching(struct search *search, bool is_aimed,
			 struct buffers_hindsight *hindsight, struct buffers_span *mapped)
{
	uintptr_t target = search->target;
	struct buffers_maps maps;
	int error = EADDRNOTAVAIL;

	buffers_platform_maps_open(&maps);
	if (resume(search, hindsight))
		error = map_nearest(search, &maps, mapped);
	if (error == EADDRNOTAVAIL) {
		aim(search, target);
		error = map_nearest(search, &maps, mapped);
	}
	if (error == 0)
		remember(search, hindsight);
	if (error == EADDRNOTAVAIL)
		error = map_in_kept(search, &maps, is_aimed, mapped);
	buffers_platform_maps_close(&maps);
	return error;
}

/* Where places that seem free are refused, the system may know one. */
static int map_any(const struct search *search, struct buffers_span *mapped)
{
	uintptr_t address;
	int error = buffers_platform_map_anywhere(search->size, BUFFERS_CODE, &address);

	if (error)
		return error;
	*mapped = (struct buffers_span){ address, address + search->size };
	if (contains(search->range, *mapped) && (address & (search->alignment - 1)) == 0)
		return 0;
	buffers_platform_unmap(address, search->size);
	return EADDRNOTAVAIL;
}

static bool search_init(struct search *search, const struct buffers_window *window,
			size_t preferred)
{
	size_t page = buffers_platform_granularity();
	struct buffers_span range = common(window->range, buffers_platform_limits());

	if (window->size > length(range))
		return false;
	range.start = (range.start + page - 1) & ~(page - 1);
	range.end &= ~(page - 1);
	*search = (struct search){
		.range = range,
		.size = (window->size + page - 1) & ~(page - 1),
		.alignment = max(window->alignment, page),
		.kept = { buffers_platform_heap_growth(), buffers_platform_stack_growth() },
	};
	search->preferred = max(preferred, search->size);
	return search->size <= length(range);
}

int buffers_allocator_map(const struct buffers_window *window, size_t preferred,
			  const struct buffers_span *neighbour,
			  struct buffers_hindsight *hindsight, struct buffers_span *mapped)
{
	struct search search;
	int error = EEXIST;

	if (!search_init(&search, window, preferred))
		return EADDRNOTAVAIL;
	if (window->target)
		aim(&search, window->target);
	else if (neighbour)
		aim(&search, neighbour->start);
	else
		aim(&search, random_target(&search));
	if (neighbour)
		error = map_beside(&search, neighbour, mapped);
	if (error == EEXIST)
		error = map_searching(&search, window->target, hindsight, mapped);
	if (error == EADDRNOTAVAIL && search.was_refused)
		error = map_any(&search, mapped);
	return error;
}

int buffers_allocator_unmap(struct buffers_span mapped, struct buffers_hindsight *hindsight)
{
	int error = buffers_platform_unmap(mapped.start, length(mapped));

	if (error == 0)
		forget(mapped, hindsight);
	return error;
}
