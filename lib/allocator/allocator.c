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
#include "allocator/allocator.h"

#include <errno.h>

struct search {
	struct buffers_span range;
	uintptr_t target;
	size_t size;		/* of the place, whole pages */
	size_t alignment;	/* at least a page */
	size_t preferred;	/* taken instead where the gap allows */
	unsigned kind;		/* of memory */
	bool is_aimed;		/* at the target of the window */
	bool is_elsewhere;	/* in the process of the maps */
	bool was_above;		/* the place that was found */
	uintptr_t down, up;
	struct buffers_span kept[2];	/* left to heap and stack; may be empty */
	struct buffers_maps maps;
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

/* The places in the gap that are nearest to the cursors, of what is left. */
static bool lowest_above(const struct search *search, struct buffers_span gap, uintptr_t *place)
{
	struct buffers_span left = common(gap, search->range);

	left.start = max(left.start, search->up);
	return buffers_gap_lowest(left, search->size, search->alignment, place);
}

static bool highest_below(const struct search *search, struct buffers_span gap, uintptr_t *place)
{
	struct buffers_span left = common(gap, search->range);

	left.end = min(left.end, search->down);
	return buffers_gap_highest(left, search->size, search->alignment, place);
}

static const struct buffers_span everything = { 0, UINTPTR_MAX };

/* The nearest to the target, if the cursors are right; of equals the upper one. */
static bool nearest(const struct search *search, struct place *place)
{
	uintptr_t low, high;
	bool has_low = lowest_above(search, everything, &low);
	bool has_high = highest_below(search, everything, &high);

	if (has_low && (!has_high || distance(search, low) <= distance(search, high)))
		*place = (struct place){ low, true };
	else if (has_high)
		*place = (struct place){ high, false };
	return has_low || has_high;
}

static bool find_kept(const struct search *search, struct buffers_span place,
		      struct buffers_span *kept)
{
	for (size_t i = 0; i < 2; i++) {
		*kept = search->kept[i];
		if (meet(*kept, place))
			return true;
	}
	return false;
}

/* It is in the way of the place, and of what else begins or ends in it. */
static void leave_behind(struct search *search, struct buffers_span obstacle, struct place place)
{
	if (place.is_above || (obstacle.start <= search->up && search->up < obstacle.end))
		search->up = obstacle.end;
	if (!place.is_above || (obstacle.start < search->down && search->down <= obstacle.end))
		search->down = obstacle.start;
}

/*
 * The next place, by questions about single mappings.
 *
 * Nobody tells what lies below an address.  But the lowest mapping that is in
 * the way of the highest place left rules out all places down to its start.
 */
static bool walk(struct search *search, struct place *place)
{
	struct buffers_span obstacle;

	while (nearest(search, place)) {
		struct buffers_span span = { place->address, place->address + search->size };

		if (!find_kept(search, span, &obstacle) &&
		    buffers_platform_maps_find(&search->maps, span, &obstacle) != 0)
			return true;
		leave_behind(search, obstacle, *place);
	}
	return false;
}

struct scan {
	const struct search *search;
	uintptr_t free_from;	/* the end of the last mapping */
	uintptr_t up, down;	/* where the cursors' next places are */
	bool has_up;
};

/* Notes the places in a gap, less what is kept from kept[i] on. */
static void note(struct scan *scan, struct buffers_span gap, size_t i)
{
	const struct search *search = scan->search;
	uintptr_t place;

	for (; i < 2; i++) {
		struct buffers_span kept = search->kept[i];

		if (meet(kept, gap)) {
			note(scan, (struct buffers_span){ gap.start, kept.start }, i + 1);
			gap.start = kept.end;
		}
	}
	if (highest_below(search, gap, &place))
		scan->down = place + search->size;
	if (!scan->has_up && lowest_above(search, gap, &place)) {
		scan->up = place;
		scan->has_up = true;
	}
}

static void visit_mapping(struct buffers_span mapping, void *context)
{
	struct scan *scan = context;

	note(scan, (struct buffers_span){ scan->free_from, mapping.start }, 0);
	scan->free_from = max(scan->free_from, mapping.end);
}

/* The next place, by reading the list of all mappings. */
static bool scan(struct search *search, struct place *place)
{
	/* Where nothing is found, what would leave the range was not tried. */
	size_t before = search->size - buffers_platform_granularity();
	struct scan scan = {
		.search = search,
		.up = search->range.end - before,
		.down = search->range.start + before,
	};

	/* Another thread may have closed the list: then it is done without. */
	if (buffers_platform_maps_scan(&search->maps, visit_mapping, &scan) != 0) {
		search->maps.kind = BUFFERS_MAPS_PROBE;
		return walk(search, place);
	}
	note(&scan, (struct buffers_span){ scan.free_from, UINTPTR_MAX }, 0);
	search->up = max(search->up, scan.up);
	search->down = min(search->down, scan.down);
	return nearest(search, place);
}

static bool next_place(struct search *search, struct place *place)
{
	return search->maps.kind == BUFFERS_MAPS_SCAN ? scan(search, place) : walk(search, place);
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

static int map_span(const struct search *search, struct buffers_span span,
		    struct buffers_span *mapped)
{
	*mapped = span;
	if (search->is_elsewhere)
		return buffers_platform_map_in(&search->maps, span.start, length(span),
					       search->kind);
	return buffers_platform_map(span.start, length(span), search->kind);
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
		error = map_span(search, wide, mapped);
		if (error == 0 || error == EACCES)
			return error;
	}
	return map_span(search, span, mapped);
}

/* Maps there, and leaves the place behind. */
static int map_and_pass(struct search *search, struct place place, struct buffers_span *mapped)
{
	int error = map_place(search, place, mapped);

	search->was_above = place.is_above;
	if (error == 0 && place.is_above)
		search->up = mapped->end;
	else if (error == 0)
		search->down = mapped->start;
	return error;
}

/*
 * Maps at the nearest place of what is left of the search.
 *
 * Somebody may take a place that was just seen free; looking again shows what
 * took it.  Where nothing is to be seen, a layer between us and the kernel
 * refuses that part of the address space, which is left in growing steps.
 */
static int map_nearest(struct search *search, struct buffers_span *mapped)
{
	uintptr_t refused = 0;
	size_t step = search->size;
	struct place place;
	int error;

	while (next_place(search, &place)) {
		if (place.address == refused) {
			if (place.is_above)
				search->up = min(place.address, UINTPTR_MAX - step) + step;
			else
				search->down = max(place.address + search->size, step) - step;
			step = min(step, SIZE_MAX / 2) * 2;
			search->was_refused = true;
			continue;
		}
		error = map_and_pass(search, place, mapped);
		if (error != EEXIST)
			return error;
		refused = place.address;
	}
	return EADDRNOTAVAIL;
}

/*
 * Hindsight
 */

/* What was given back while another was here may be anywhere in what was full. */
static bool enter(struct buffers_search_cache *hindsight)
{
	if (!hindsight || __atomic_exchange_n(&hindsight->is_busy, 1, __ATOMIC_ACQUIRE) != 0)
		return false;
	if (__atomic_exchange_n(&hindsight->is_stale, 0, __ATOMIC_ACQUIRE))
		for (size_t i = 0; i < BUFFERS_SEARCH_ENTRIES; i++)
			hindsight->memories[i] = (struct buffers_search_entry){ .size = 0 };
	return true;
}

static void leave(struct buffers_search_cache *hindsight)
{
	__atomic_store_n(&hindsight->is_busy, 0, __ATOMIC_RELEASE);
}

/*
 * Whether this search may skip what that one found full.  Who has no target
 * goes on where the last one without a target was, not beside what somebody
 * placed where an attacker can guess it.
 */
static bool is_of_use(const struct buffers_search_entry *memory, const struct search *search)
{
	struct buffers_span full = memory->full;

	if (!memory->size || memory->size > search->size ||
	    memory->alignment > search->alignment || memory->was_aimed != search->is_aimed)
		return false;
	if (search->is_aimed)
		return full.start <= search->target && search->target <= full.end;
	return full.start <= search->range.end && search->range.start <= full.end;
}

static bool is_equal(const struct buffers_search_entry *memory, const struct search *search)
{
	return is_of_use(memory, search) && memory->size == search->size &&
	       memory->alignment == search->alignment;
}

static bool recall(const struct search *search, struct buffers_search_cache *hindsight,
		   bool (*is_wanted)(const struct buffers_search_entry *, const struct search *),
		   struct buffers_search_entry *memory)
{
	bool has_found = false;

	if (!enter(hindsight))
		return false;
	for (size_t i = 0; i < BUFFERS_SEARCH_ENTRIES && !has_found; i++) {
		*memory = hindsight->memories[i];
		has_found = is_wanted(memory, search);
	}
	leave(hindsight);
	return has_found;
}

static void resume(struct search *search, const struct buffers_search_entry *memory)
{
	size_t longer = search->size - memory->size;

	if (!search->is_aimed)
		search->target = max(memory->full.start, search->range.start);
	/* A longer place may begin where a shorter one was not ruled out. */
	search->down = min(memory->full.start, UINTPTR_MAX - longer) + longer;
	search->up = memory->full.end;
}

/* Whether the new one says all that the old one does. */
static bool covers(const struct buffers_search_entry *new, const struct buffers_search_entry *old)
{
	return !old->size || (contains(new->full, old->full) && new->size <= old->size &&
			      new->alignment <= old->alignment &&
			      new->was_aimed == old->was_aimed);
}

static void store(struct buffers_search_cache *hindsight, const struct buffers_search_entry *memory)
{
	size_t i = 0;

	while (i < BUFFERS_SEARCH_ENTRIES && !covers(memory, &hindsight->memories[i]))
		i++;
	if (i == BUFFERS_SEARCH_ENTRIES)
		i = hindsight->oldest++ % BUFFERS_SEARCH_ENTRIES;
	hindsight->memories[i] = *memory;
}

static void remember(const struct search *search, struct buffers_search_cache *hindsight)
{
	/* Places that begin below the range, or end above it, were not tried. */
	size_t before = search->size - buffers_platform_granularity();
	struct buffers_search_entry memory = {
		.full = { max(search->down, search->range.start + before),
			  min(search->up, search->range.end - before) },
		.size = search->size,
		.alignment = search->alignment,
		.was_aimed = search->is_aimed,
		.was_above = search->was_above,
	};

	if (memory.full.start > memory.full.end || search->was_refused || !enter(hindsight))
		return;
	store(hindsight, &memory);
	leave(hindsight);
}

/* Of places that the freed one is part of, the first and the last reach this far. */
static void open_up(struct buffers_search_entry *memory, struct buffers_span freed)
{
	size_t before = memory->size - buffers_platform_granularity();
	struct buffers_span *full = &memory->full;
	struct buffers_span open = {
		max(freed.start, before) - before, min(freed.end, UINTPTR_MAX - before) + before,
	};

	/* An empty span, too, says that nothing lies across it. */
	if (open.start > full->end || full->start > open.end)
		return;
	if (full->end - open.start < open.end - full->start)
		full->end = open.start;
	else
		full->start = open.end;
}

void buffers_search_cache_invalidate(struct buffers_span freed, struct buffers_search_cache *hindsight)
{
	if (!hindsight)
		return;
	if (!enter(hindsight)) {
		__atomic_store_n(&hindsight->is_stale, 1, __ATOMIC_RELEASE);
		return;
	}
	for (size_t i = 0; i < BUFFERS_SEARCH_ENTRIES; i++)
		if (hindsight->memories[i].size)
			open_up(&hindsight->memories[i], freed);
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

/* Leaves a place that is occupied by as little as is known of what is there. */
static void pass(struct search *search, struct place place)
{
	if (place.is_above)
		search->up = place.address + buffers_platform_granularity();
	else
		search->down = place.address + search->size - buffers_platform_granularity();
}

/* Beside the last one, not on the other side of the target. */
static bool beside(const struct search *search, const struct buffers_search_entry *memory,
		   struct place *place)
{
	place->is_above = memory->was_above;
	return search->preferred > search->size &&
	       (place->is_above ? lowest_above : highest_below)(search, everything,
								&place->address);
}

/*
 * Right beside what an equal search mapped last, or a few pages further, without
 * a question: that a place is occupied costs less to learn by trying to map.
 * EEXIST: not to be had, or where heap or stack may grow.
 */
static int map_ahead(struct search *search, struct buffers_search_cache *hindsight,
		     struct buffers_span *mapped)
{
	enum { ATTEMPTS = 4 };
	struct buffers_search_entry memory;
	struct place place;
	int error = EEXIST;

	if (!recall(search, hindsight, is_equal, &memory))
		return EEXIST;
	resume(search, &memory);
	for (unsigned i = 0; i < ATTEMPTS && error == EEXIST; i++) {
		if (!(i == 0 && beside(search, &memory, &place)) && !nearest(search, &place))
			return EEXIST;
		if (buffers_platform_may_grow_into(widened(search, place)))
			return EEXIST;
		error = map_and_pass(search, place, mapped);
		if (error == EEXIST)
			pass(search, place);
	}
	if (error == 0)
		remember(search, hindsight);
	return error;
}

/*
 * Where the heap or the stack would grow, as far from their edge as the range
 * allows: near an edge they would soon meet it.
 */
static int map_in_kept(struct search *search, struct buffers_span *mapped)
{
	struct buffers_span heap = common(search->range, search->kept[0]);
	struct buffers_span stack = common(search->range, search->kept[1]);
	int error = EADDRNOTAVAIL;

	search->kept[0] = (struct buffers_span){ 0, 0 };
	if (length(heap) > 0) {
		heap.start += length(heap) / 2;
		aim(search, search->is_aimed ? heap.end : random_in(heap));
		error = map_nearest(search, mapped);
	}
	search->kept[1] = (struct buffers_span){ 0, 0 };
	if (error == EADDRNOTAVAIL && length(stack) > 0) {
		stack.end -= length(stack) / 2;
		aim(search, search->is_aimed ? stack.start : random_in(stack));
		error = map_nearest(search, mapped);
	}
	return error;
}

static int map_searching(struct search *search, uintptr_t target,
			 struct buffers_search_cache *hindsight, struct buffers_span *mapped)
{
	struct buffers_search_entry memory;
	int error = EADDRNOTAVAIL;

	search->kept[0] = buffers_platform_heap_growth();
	search->kept[1] = buffers_platform_stack_growth();
	buffers_platform_maps_open(&search->maps);
	if (recall(search, hindsight, is_of_use, &memory)) {
		resume(search, &memory);
		error = map_nearest(search, mapped);
	}
	if (error == EADDRNOTAVAIL) {
		aim(search, search->is_aimed ? target : random_target(search));
		error = map_nearest(search, mapped);
	}
	if (error == 0)
		remember(search, hindsight);
	if (error == EADDRNOTAVAIL)
		error = map_in_kept(search, mapped);
	buffers_platform_maps_close(&search->maps);
	return error;
}

/* Where places that seem free are refused, or all seem occupied, the system may know one. */
static int map_any(const struct search *search, struct buffers_span *mapped)
{
	uintptr_t address;
	int error = buffers_platform_map_anywhere(search->size, search->kind, &address);

	if (error)
		return search->was_refused ? error : EADDRNOTAVAIL;
	*mapped = (struct buffers_span){ address, address + search->size };
	if (contains(search->range, *mapped) && (address & (search->alignment - 1)) == 0)
		return 0;
	buffers_platform_unmap(address, search->size);
	return EADDRNOTAVAIL;
}

static bool search_init(struct search *search, const struct buffers_window *window,
			struct buffers_span range, size_t preferred)
{
	size_t page = buffers_platform_granularity();

	if (window->size > length(range))
		return false;
	range.start = buffers_page_up(range.start);
	range.end = buffers_page_down(range.end);
	*search = (struct search){
		.range = range,
		.size = buffers_page_up(window->size),
		.alignment = max(window->alignment, page),
		.kind = window->kind,
		.is_aimed = window->target != 0,
	};
	search->preferred = max(preferred, search->size);
	if (search->is_aimed)
		aim(search, window->target);
	return search->size <= length(range);
}

int buffers_allocator_map(const struct buffers_window *window, size_t preferred,
			  struct buffers_search_cache *hindsight, struct buffers_span *mapped)
{
	struct buffers_span range = buffers_platform_usable(window->range);
	struct search search;
	int error;

	if (!search_init(&search, window, range, preferred))
		return EADDRNOTAVAIL;
	error = map_ahead(&search, hindsight, mapped);
	if (error == EEXIST)
		error = map_searching(&search, window->target, hindsight, mapped);
	if (error == EADDRNOTAVAIL &&
	    (search.was_refused || search.maps.kind != BUFFERS_MAPS_QUERY))
		error = map_any(&search, mapped);
	return error;
}

int buffers_allocator_unmap(struct buffers_span mapped, struct buffers_search_cache *hindsight)
{
	int error = buffers_platform_unmap(mapped.start, length(mapped));

	if (error == 0)
		buffers_search_cache_invalidate(mapped, hindsight);
	return error;
}

static int map_elsewhere(const struct buffers_maps *maps, const struct buffers_window *window,
			 struct buffers_span usable, struct buffers_span *mapped)
{
	struct search search;

	if (!search_init(&search, window, common(window->range, usable), 0))
		return EADDRNOTAVAIL;
	search.maps = *maps;
	search.is_elsewhere = true;
	if (!search.is_aimed)
		aim(&search, random_target(&search));
	return map_nearest(&search, mapped);
}

int buffers_allocator_map_in(uint32_t process, const struct buffers_window *window,
			     struct buffers_span *mapped)
{
	struct buffers_span usable;
	struct buffers_maps maps;
	int error = buffers_platform_maps_open_in(process, &maps, &usable);

	if (error)
		return error;
	error = map_elsewhere(&maps, window, usable, mapped);
	buffers_platform_maps_close(&maps);
	return error;
}

int buffers_allocator_unmap_in(uint32_t process, struct buffers_span mapped)
{
	struct buffers_maps maps;
	int error = buffers_platform_maps_open_in(process, &maps, NULL);

	if (error)
		return error;
	error = buffers_platform_unmap_in(&maps, mapped.start, length(mapped));
	buffers_platform_maps_close(&maps);
	return error;
}
