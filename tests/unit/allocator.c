/* SPDX-License-Identifier: MIT */
/* unit/allocator: searches in an address space that is small enough to try every candidate */

#include "config.h"
#include "allocator/allocator.h"
#include "support/fake-platform.h"
#include "support/support.h"

#include <errno.h>
#include <string.h>

#define PAGES(n) ((uintptr_t)(n) * FAKE_PAGE)

/* Reading the last one fails. */
static const int methods[] = {
	BUFFERS_MAPS_QUERY, BUFFERS_MAPS_SCAN, BUFFERS_MAPS_PROBE, BUFFERS_MAPS_SCAN,
};
enum { METHODS = sizeof(methods) / sizeof(methods[0]) };

static void reset_fake(int method)
{
	fake_reset();
	fake.method = methods[method];
	fake.scan_error = method == METHODS - 1 ? EIO : 0;
}

static void fill_pages(size_t first, size_t end)
{
	memset(&fake.mapped[first], 1, end - first);
}

static struct buffers_window make_window(size_t first, size_t end, size_t target, size_t pages)
{
	return (struct buffers_window){
		.range = { PAGES(first), PAGES(end) },
		.target = PAGES(target),
		.size = PAGES(pages),
		.alignment = 1,
	};
}

static int map_wanted(const struct buffers_window *window, size_t preferred_pages,
		      struct buffers_span *mapped)
{
	int error = buffers_allocator_map(window, PAGES(preferred_pages), NULL, mapped);

	ck_assert_uint_eq(fake.opened, 0);
	return error;
}

/*
 * A reference implementation of the search
 */

static bool is_growth_room(uintptr_t address, uintptr_t end)
{
	for (; address < end; address += FAKE_PAGE)
		if ((fake.heap.start <= address && address < fake.heap.end) ||
		    (fake.stack.start <= address && address < fake.stack.end))
			return true;
	return false;
}

static bool is_candidate(const struct buffers_window *window, uintptr_t address,
			 bool may_use_growth)
{
	uintptr_t end = address + ((window->size + FAKE_PAGE - 1) & ~(uintptr_t)(FAKE_PAGE - 1));

	if (address < window->range.start || end > window->range.end ||
	    address % window->alignment || address < PAGES(FAKE_FIRST) ||
	    end > PAGES(FAKE_PAGES) || (!may_use_growth && is_growth_room(address, end)))
		return false;
	if (fake.guard_gap.start < end && address < fake.guard_gap.end)
		return false;
	for (size_t page = address / FAKE_PAGE; page < end / FAKE_PAGE; page++)
		if (fake.mapped[page] || fake.refused[page])
			return false;
	return true;
}

static size_t distance_to_target(const struct buffers_window *window, uintptr_t address)
{
	uintptr_t end = address + ((window->size + FAKE_PAGE - 1) & ~(uintptr_t)(FAKE_PAGE - 1));
	uintptr_t target = window->target;

	if (target < window->range.start)
		target = window->range.start;
	if (target > window->range.end)
		target = window->range.end;
	target &= ~(uintptr_t)(FAKE_PAGE - 1);
	if (address > target)
		return address - target;
	return target > end ? target - end : 0;
}

/* The distance of the nearest candidate in [start, end); SIZE_MAX if there is none. */
static size_t nearest(const struct buffers_window *window, uintptr_t start, uintptr_t end,
		      bool may_use_growth)
{
	size_t least = SIZE_MAX;

	for (uintptr_t address = start; address < end; address += FAKE_PAGE)
		if (is_candidate(window, address, may_use_growth) &&
		    distance_to_target(window, address) < least)
			least = distance_to_target(window, address);
	return least;
}

static size_t nearest_of_all(const struct buffers_window *window, bool may_use_growth)
{
	return nearest(window, 0, PAGES(FAKE_PAGES), may_use_growth);
}

/* Maps and compares with the reference implementation.  Returns whether a candidate exists. */
static bool map_and_check(const struct buffers_window *window, size_t preferred_pages,
			  struct buffers_search_cache *cache, struct buffers_span *mapped)
{
	size_t least = nearest_of_all(window, false);
	size_t least_of_all = nearest_of_all(window, true);
	size_t size = (window->size + FAKE_PAGE - 1) & ~(size_t)(FAKE_PAGE - 1);
	int error = buffers_allocator_map(window, PAGES(preferred_pages), cache, mapped);

	ck_assert_uint_eq(fake.opened, 0);
	if (least_of_all == SIZE_MAX) {
		ck_assert_int_eq(error, EADDRNOTAVAIL);
		return false;
	}
	ck_assert_int_eq(error, 0);
	ck_assert_uint_ge(mapped->start, window->range.start);
	ck_assert_uint_le(mapped->end, window->range.end);
	ck_assert_uint_eq(mapped->start % window->alignment, 0);
	if (mapped->end - mapped->start != PAGES(preferred_pages))
		ck_assert_uint_eq(mapped->end - mapped->start, size);

	buffers_platform_unmap(mapped->start, mapped->end - mapped->start);
	if (least != SIZE_MAX) {
		ck_assert(!is_growth_room(mapped->start, mapped->end));
		ck_assert_uint_eq(nearest(window, mapped->start, mapped->end, false), least);
	}
	fill_pages(mapped->start / FAKE_PAGE, mapped->end / FAKE_PAGE);
	return true;
}

START_TEST(nearest_candidate_is_taken_in_random_spaces)
{
	uint64_t seed = seed_random();
	unsigned rounds = how_many(20000, 20000);

	for (unsigned round = 0; round < rounds; round++) {
		struct buffers_window wanted;
		struct buffers_span mapped;
		size_t density = 1 + random_below(&seed, 20);

		reset_fake(_i);
		for (size_t page = 0; page < FAKE_PAGES; page++)
			fake.mapped[page] = random_below(&seed, 20) < density;
		if (random_below(&seed, 3) == 0) {
			fake.heap.start = PAGES(random_below(&seed, FAKE_PAGES));
			fake.heap.end = fake.heap.start + PAGES(random_below(&seed, 200));
		}
		if (random_below(&seed, 3) == 0) {
			fake.stack.end = PAGES(random_below(&seed, FAKE_PAGES));
			fake.stack.start = fake.stack.end - PAGES(random_below(&seed, 200));
			if (fake.stack.start > fake.stack.end)
				fake.stack.start = 0;
		}
		if (random_below(&seed, 3) == 0) {
			fake.guard_gap.start = PAGES(random_below(&seed, FAKE_PAGES));
			fake.guard_gap.end = fake.guard_gap.start + PAGES(random_below(&seed, 100));
		}
		wanted = make_window(random_below(&seed, FAKE_PAGES / 2),
				     FAKE_PAGES / 2 + random_below(&seed, FAKE_PAGES / 2),
				     1 + random_below(&seed, FAKE_PAGES), 1);
		wanted.size = 1 + random_below(&seed, PAGES(12));
		wanted.alignment = (size_t)1 << random_below(&seed, 17);
		map_and_check(&wanted, random_below(&seed, 20), NULL, &mapped);
	}
}
END_TEST

static struct buffers_search_cache cache_with_entry(uintptr_t start, uintptr_t end, size_t size,
					    size_t alignment)
{
	return (struct buffers_search_cache){
		.entries = { { { start, end }, size, alignment, true, true } },
	};
}

START_TEST(search_cache_changes_no_result)
{
	uint64_t seed = seed_random();

	for (unsigned round = 0; round < how_many(300, 300); round++) {
		struct buffers_search_cache cache = { 0 };
		struct buffers_span mappings[600];
		size_t count = 0;

		reset_fake(_i);
		for (size_t page = 0; page < FAKE_PAGES; page++)
			fake.mapped[page] = random_below(&seed, 4) == 0;
		if (round % 4 == 1)
			fake.heap = (struct buffers_span){ PAGES(230), PAGES(330) };
		for (unsigned i = 0; i < 300; i++) {
			/* Few targets, so that searches often hit a cache entry. */
			struct buffers_window wanted =
				make_window(random_below(&seed, 100),
					    400 + random_below(&seed, 100),
					    200 + random_below(&seed, 1 + round % 50), 1);

			if (round % 3 == 0)	/* a range that begins or ends near the target */
				wanted.range.start = wanted.target - PAGES(random_below(&seed, 9));
			if (round % 5 == 0)
				wanted.range.end = wanted.target + PAGES(random_below(&seed, 9));

			wanted.size = 1 + random_below(&seed, PAGES(5));
			wanted.alignment = (size_t)1 << random_below(&seed, 15);
			if (random_below(&seed, 3) == 0 && count) {
				struct buffers_span freed = mappings[--count];

				ck_assert_int_eq(buffers_allocator_unmap(freed, &cache), 0);
			} else if (map_and_check(&wanted, 0, &cache, &mappings[count])) {
				count++;
			}
		}
	}
}
END_TEST

START_TEST(search_cache_saves_queries)
{
	struct buffers_search_cache cache = { 0 };
	struct buffers_window wanted = make_window(16, 512, 256, 1);
	struct buffers_span mapped;

	reset_fake(0);
	for (size_t page = 100; page < 400; page += 2)
		fake.mapped[page] = true;
	wanted.size = PAGES(2);
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &mapped), 0);
	ck_assert_uint_gt(fake.queries, 100);
	fake.queries = 0;
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &mapped), 0);
	ck_assert_uint_lt(fake.queries, 5);

	/* While another thread has the cache locked, the search does not use it. */
	cache.is_locked = 1;
	fake.queries = 0;
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &mapped), 0);
	ck_assert_uint_gt(fake.queries, 100);
	ck_assert_int_eq(buffers_allocator_unmap(mapped, &cache), 0);
	ck_assert_uint_eq(cache.is_locked, 1);
}
END_TEST

START_TEST(freed_address_is_the_nearest_again)
{
	struct buffers_search_cache cache = { 0 };
	struct buffers_window wanted = make_window(16, 512, 256, 3);
	struct buffers_span mapped[20];

	reset_fake(_i);
	for (size_t i = 0; i < 20; i++)
		ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache,
						       &mapped[i]), 0);
	for (size_t i = 0; i < 20; i++) {
		struct buffers_span again;

		ck_assert_int_eq(buffers_allocator_unmap(mapped[i], &cache), 0);
		ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &again), 0);
		ck_assert_uint_eq(again.start, mapped[i].start);
	}
}
END_TEST

static struct buffers_search_cache raced_cache;
static struct buffers_span raced_span;

static void free_raced_span(void)
{
	ck_assert_int_eq(buffers_allocator_unmap(raced_span, &raced_cache), 0);
}

/*
 * Another thread unmaps memory near the target after a search has seen it mapped, and before
 * that search records the span it found full.
 */
START_TEST(address_freed_during_a_search_is_the_nearest_again)
{
	struct buffers_window wanted = make_window(16, 512, 256, 1);
	struct buffers_span mapped[10];

	reset_fake(_i);
	raced_cache = (struct buffers_search_cache){ 0 };
	for (size_t i = 0; i < 10; i++) {
		if (i == 9)
			fake.before_map = free_raced_span;
		ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &raced_cache, &mapped[i]), 0);
		if (i == 2)
			raced_span = mapped[2];
	}
	ck_assert(!fake.before_map);
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &raced_cache, &mapped[0]), 0);
	ck_assert_uint_eq(mapped[0].start, raced_span.start);
}
END_TEST

/*
 * An empty span also counts as full: no candidate of the entry's size crosses it.  unmap() must
 * invalidate it.
 */
START_TEST(freed_address_across_an_empty_span_is_found)
{
	struct buffers_search_cache cache = cache_with_entry(PAGES(256), PAGES(256), PAGES(3),
							     FAKE_PAGE);
	struct buffers_window wanted = make_window(16, 512, 256, 3);
	struct buffers_span freed = { PAGES(255), PAGES(258) };
	struct buffers_span mapped;

	reset_fake(_i);
	fill_pages(16, 512);
	memset(&fake.mapped[300], 0, 3);
	ck_assert_int_eq(buffers_allocator_unmap(freed, &cache), 0);
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(255));
}
END_TEST

/* The new request is longer than the entry's size, so its candidate may overlap the full span. */
START_TEST(longer_candidate_may_overlap_a_full_span)
{
	struct buffers_search_cache cache = cache_with_entry(PAGES(250), PAGES(260), PAGES(2),
							     PAGES(4));
	struct buffers_window wanted = make_window(16, 512, 255, 5);
	struct buffers_span mapped;

	reset_fake(_i);
	fill_pages(16, 512);
	memset(&fake.mapped[248], 0, 5);	/* 248 to 252; 2 pages at 248 end at 250 */
	wanted.alignment = PAGES(4);
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(248));
	memset(&fake.mapped[240], 0, 5);
	buffers_platform_unmap(mapped.start, PAGES(5));
	cache = cache_with_entry(PAGES(250), PAGES(260), PAGES(2), PAGES(4));
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(248));
}
END_TEST

/*
 * Addresses that a narrow range excluded were not tried, so the cache must not list them as
 * full.
 */
START_TEST(narrow_range_hides_no_candidate_from_a_wide_one)
{
	struct buffers_search_cache cache = { 0 };
	struct buffers_window wanted = make_window(255, 512, 256, 16);
	struct buffers_span mapped;

	reset_fake(_i);
	fill_pages(16, 512);
	memset(&fake.mapped[256 - 40], 0, 16);
	memset(&fake.mapped[256 - 13], 0, 16);
	memset(&fake.mapped[256 + 20], 0, 16);
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(256 + 20));
	wanted.range.start = PAGES(16);
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(256 - 13));
}
END_TEST

/* Another thread has unmapped memory inside a span that the cache lists as full. */
START_TEST(stale_cache_hides_no_candidate)
{
	struct buffers_search_cache cache = { 0 };
	struct buffers_window wanted = make_window(200, 300, 250, 1);
	struct buffers_span mapped;

	reset_fake(_i);
	while (buffers_allocator_map(&wanted, 0, &cache, &mapped) == 0)
		;
	fake.mapped[250] = false;
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(250));
}
END_TEST

START_TEST(hole_of_exactly_the_size_is_used)
{
	struct buffers_window wanted = make_window(16, 512, 256, 3);
	struct buffers_span mapped;

	for (size_t hole = 16; hole + 3 <= FAKE_PAGES; hole += is_slow() ? 7 : 1) {
		reset_fake(_i);
		fill_pages(0, FAKE_PAGES);
		memset(&fake.mapped[hole], 0, 3);
		ck_assert_int_eq(map_wanted(&wanted, 16, &mapped), 0);
		ck_assert_uint_eq(mapped.start, PAGES(hole));
		ck_assert_uint_eq(mapped.end, PAGES(hole + 3));
		ck_assert_int_eq(map_wanted(&wanted, 16, &mapped), EADDRNOTAVAIL);
	}
}
END_TEST

START_TEST(range_is_exact_to_the_byte)
{
	struct buffers_window wanted = make_window(16, 512, 100, 1);
	struct buffers_span mapped;

	reset_fake(_i);
	wanted.range = (struct buffers_span){ PAGES(100) + 1, PAGES(103) - 1 };
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(101));
	ck_assert_uint_eq(mapped.end, PAGES(102));
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), EADDRNOTAVAIL);
	wanted.range = (struct buffers_span){ PAGES(100) + 1, PAGES(102) - 1 };
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), EADDRNOTAVAIL);
}
END_TEST

START_TEST(search_stays_within_the_limits)
{
	struct buffers_window wanted = make_window(0, 16, 8, 1);
	struct buffers_span mapped;

	reset_fake(_i);
	ck_assert_int_eq(map_wanted(&wanted, 16, &mapped), EADDRNOTAVAIL);
	wanted.range = (struct buffers_span){ PAGES(512), UINTPTR_MAX };
	ck_assert_int_eq(map_wanted(&wanted, 16, &mapped), EADDRNOTAVAIL);
	wanted.range = (struct buffers_span){ 0, UINTPTR_MAX };
	wanted.size = SIZE_MAX;
	ck_assert_int_eq(map_wanted(&wanted, 16, &mapped), EADDRNOTAVAIL);
	wanted.size = PAGES(512 - 16) + 1;
	ck_assert_int_eq(map_wanted(&wanted, 16, &mapped), EADDRNOTAVAIL);
	ck_assert_uint_eq(fake.attempts, 0);
	wanted.size = PAGES(512 - 16);
	ck_assert_int_eq(map_wanted(&wanted, 16, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(16));
	ck_assert_uint_eq(mapped.end, PAGES(512));
}
END_TEST

START_TEST(preferred_size_is_taken_where_it_fits)
{
	struct buffers_window wanted = make_window(16, 512, 256, 1);
	struct buffers_span mapped;

	reset_fake(_i);
	ck_assert_int_eq(map_wanted(&wanted, 16, &mapped), 0);
	ck_assert_uint_eq(mapped.end - mapped.start, PAGES(16));
	/* Below the target, the mapping extends downward, away from the target. */
	fill_pages(200, 512);
	ck_assert_int_eq(map_wanted(&wanted, 16, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(184));
	ck_assert_uint_eq(mapped.end, PAGES(200));
	/* It never leaves the range. */
	wanted.range.start = PAGES(180);
	ck_assert_int_eq(map_wanted(&wanted, 16, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(183));
	ck_assert_uint_eq(mapped.end, PAGES(184));
}
END_TEST

START_TEST(preferred_size_yields_to_the_heap)
{
	struct buffers_window wanted = make_window(16, 512, 256, 1);
	struct buffers_span mapped;

	reset_fake(_i);
	fake.heap = (struct buffers_span){ PAGES(258), PAGES(300) };
	ck_assert_int_eq(map_wanted(&wanted, 16, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(256));
	ck_assert_uint_eq(mapped.end, PAGES(257));
}
END_TEST

START_TEST(preferred_size_yields_to_a_limit_on_memory)
{
	struct buffers_window wanted = make_window(16, 512, 256, 2);
	struct buffers_span mapped;

	reset_fake(_i);
	fake.max_size = PAGES(2);
	ck_assert_int_eq(map_wanted(&wanted, 16, &mapped), 0);
	ck_assert_uint_eq(mapped.end - mapped.start, PAGES(2));
	fake.max_size = PAGES(1);
	ck_assert_int_eq(map_wanted(&wanted, 16, &mapped), ENOMEM);
}
END_TEST

/* Maps, asserts that the search did not query the mappings, and returns the number of attempts. */
static unsigned attempts_without_query(const struct buffers_window *wanted, size_t preferred,
				       struct buffers_search_cache *cache,
				       struct buffers_span *mapped)
{
	fake.queries = 0;
	fake.attempts = 0;
	ck_assert_int_eq(buffers_allocator_map(wanted, PAGES(preferred), cache, mapped), 0);
	ck_assert_uint_eq(fake.opened, 0);
	ck_assert_uint_eq(fake.queries, 0);
	return fake.attempts;
}

START_TEST(last_mapping_is_extended_by_one_attempt)
{
	struct buffers_window wanted = make_window(16, 512, 252, 1);
	struct buffers_search_cache cache = { 0 };
	struct buffers_span mapped;

	reset_fake(_i);
	fill_pages(250, 260);
	ck_assert_int_eq(buffers_allocator_map(&wanted, PAGES(1), &cache, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(249));
	/* Now pages 243 and 260 are both 8 pages from the target; 260 is used. */
	for (size_t page = 248; page >= 244; page--) {
		ck_assert_uint_eq(attempts_without_query(&wanted, 1, &cache, &mapped), 1);
		ck_assert_uint_eq(mapped.start, PAGES(page));
	}
	ck_assert_uint_eq(attempts_without_query(&wanted, 1, &cache, &mapped), 1);
	ck_assert_uint_eq(mapped.start, PAGES(260));
	/*
	 * A larger preferred size extends on the side of the last mapping, even if the other is
	 * nearer.
	 */
	for (size_t page = 261; page < 300; page += 4) {
		ck_assert_uint_eq(attempts_without_query(&wanted, 4, &cache, &mapped), 1);
		ck_assert_uint_eq(mapped.start, PAGES(page));
		ck_assert_uint_eq(mapped.end, PAGES(page + 4));
	}
	ck_assert_uint_eq(attempts_without_query(&wanted, 1, &cache, &mapped), 1);
	ck_assert_uint_eq(mapped.start, PAGES(243));
	ck_assert_uint_eq(attempts_without_query(&wanted, 4, &cache, &mapped), 1);
	ck_assert_uint_eq(mapped.start, PAGES(239));
	/* Another target inside the cached span. */
	wanted.target = PAGES(262);
	ck_assert_uint_eq(attempts_without_query(&wanted, 1, &cache, &mapped), 1);
	ck_assert_uint_eq(mapped.start, PAGES(238));
	/* As many pages as the range allows. */
	wanted.range.start = PAGES(236);
	ck_assert_uint_eq(attempts_without_query(&wanted, 4, &cache, &mapped), 1);
	ck_assert_uint_eq(mapped.start, PAGES(237));
	ck_assert_uint_eq(mapped.end, PAGES(238));
	/* Then the other side. */
	wanted.range.start = PAGES(237);
	ck_assert_uint_eq(attempts_without_query(&wanted, 4, &cache, &mapped), 1);
	ck_assert_uint_eq(mapped.start, PAGES(301));
}
END_TEST

/* Without a target, the first mapping is at a random address and later ones are adjacent to it. */
START_TEST(random_mapping_is_extended_by_one_attempt)
{
	struct buffers_window wanted = make_window(16, 512, 0, 1);
	struct buffers_window targeted = make_window(16, 512, 256, 1);

	for (unsigned i = 0; i < 100; i++) {
		struct buffers_search_cache cache = { 0 };
		struct buffers_span mapped, all, other;

		reset_fake(_i);
		fake.random = i;
		ck_assert_int_eq(buffers_allocator_map(&targeted, 0, &cache, &other), 0);
		ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &all), 0);
		for (unsigned j = 0; j < 3; j++) {
			if (all.end == PAGES(512) || all.start == PAGES(16) ||
			    all.end == other.start || all.start == other.end)
				break;
			ck_assert_uint_eq(attempts_without_query(&wanted, 0, &cache,
								 &mapped), 1);
			ck_assert(mapped.start == all.end || mapped.end == all.start);
			if (mapped.start == all.end)
				all.end = mapped.end;
			else
				all.start = mapped.start;
		}
		/* A request with a target does not map there either. */
		ck_assert_int_eq(buffers_allocator_map(&targeted, 0, &cache, &mapped), 0);
		ck_assert(mapped.start == other.end || mapped.end == other.start ||
			  all.start == other.end || all.end == other.start);
	}
}
END_TEST

START_TEST(few_occupied_pages_are_skipped_without_a_query)
{
	struct buffers_window wanted = make_window(16, 512, 256, 1);
	struct buffers_search_cache cache = cache_with_entry(PAGES(100), PAGES(260), PAGES(1),
							 FAKE_PAGE);
	struct buffers_span mapped;

	reset_fake(_i);
	fill_pages(100, 263);
	ck_assert_uint_eq(attempts_without_query(&wanted, 0, &cache, &mapped), 4);
	ck_assert_uint_eq(mapped.start, PAGES(263));
	fill_pages(264, 268);
	fake.attempts = 0;
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(268));
	ck_assert_uint_gt(fake.queries, 0);
	ck_assert_uint_lt(fake.attempts, 7);
}
END_TEST

START_TEST(mappings_are_not_extended_into_growth_room)
{
	struct buffers_window wanted = make_window(200, 300, 250, 1);
	struct buffers_search_cache cache = cache_with_entry(PAGES(240), PAGES(260), PAGES(1),
							 FAKE_PAGE);
	struct buffers_span mapped;

	reset_fake(_i);
	fill_pages(240, 260);
	wanted.target = PAGES(258);
	fake.heap = (struct buffers_span){ PAGES(262), PAGES(300) };
	ck_assert_int_eq(buffers_allocator_map(&wanted, PAGES(4), &cache, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(260));
	ck_assert_uint_eq(mapped.end, PAGES(261));
	ck_assert_int_eq(buffers_allocator_map(&wanted, PAGES(1), &cache, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(261));
	ck_assert_int_eq(buffers_allocator_map(&wanted, PAGES(1), &cache, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(239));
}
END_TEST

START_TEST(alternating_sizes_both_stay_cached)
{
	struct buffers_window small = make_window(16, 512, 256, 1);
	struct buffers_window large = make_window(16, 512, 256, 2);
	struct buffers_search_cache cache = { 0 };
	struct buffers_span mapped;

	reset_fake(_i);
	ck_assert_int_eq(buffers_allocator_map(&small, 0, &cache, &mapped), 0);
	ck_assert_int_eq(buffers_allocator_map(&large, 0, &cache, &mapped), 0);
	for (unsigned i = 0; i < 20; i++) {
		ck_assert_uint_le(attempts_without_query(&small, 0, &cache, &mapped), 4);
		ck_assert_uint_le(attempts_without_query(&large, 0, &cache, &mapped), 4);
	}
}
END_TEST

/* Other threads used the cache during unmap(), so it could not record the free space. */
START_TEST(address_freed_while_the_cache_was_locked_is_the_nearest_again)
{
	struct buffers_search_cache cache = { 0 };
	struct buffers_window wanted = make_window(16, 512, 256, 1);
	struct buffers_span first, mapped;

	reset_fake(_i);
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &first), 0);
	for (unsigned i = 0; i < 9; i++)
		ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &mapped), 0);
	cache.is_locked = 1;
	ck_assert_int_eq(buffers_allocator_unmap(first, &cache), 0);
	cache.is_locked = 0;
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &mapped), 0);
	ck_assert_uint_eq(mapped.start, first.start);
}
END_TEST

/* Cache entries of requests with a target must not attract requests without one. */
START_TEST(memory_without_a_target_is_not_adjacent_to_targeted_memory)
{
	struct buffers_window targeted = make_window(16, 512, 256, 1);
	struct buffers_window wanted = make_window(16, 512, 0, 1);
	unsigned adjacent = 0;

	for (unsigned i = 0; i < 200; i++) {
		struct buffers_search_cache cache = { 0 };
		struct buffers_span other, mapped;

		reset_fake(_i);
		fake.random = i;
		ck_assert_int_eq(buffers_allocator_map(&targeted, 0, &cache, &other), 0);
		ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache, &mapped), 0);
		adjacent += mapped.end == other.start || mapped.start == other.end;
	}
	ck_assert_uint_lt(adjacent, 20);	/* 1 is expected */
}
END_TEST

/* Many callers with different targets: each entry survives the others. */
START_TEST(several_targets_stay_cached)
{
	struct buffers_search_cache cache = { 0 };
	struct buffers_span mapped;

	reset_fake(_i);
	for (unsigned round = 0; round < 5; round++) {
		for (size_t i = 0; i < BUFFERS_SEARCH_ENTRIES; i++) {
			struct buffers_window wanted = make_window(16, 512, 50 + i * 50, 1);

			if (round == 0)
				ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &cache,
								       &mapped), 0);
			else
				ck_assert_uint_eq(attempts_without_query(
					&wanted, 0, &cache, &mapped), 1);
		}
	}
}
END_TEST

START_TEST(growth_room_is_the_last_resort)
{
	struct buffers_window wanted = make_window(100, 200, 150, 1);
	struct buffers_span mapped;

	reset_fake(_i);
	fake.heap = (struct buffers_span){ PAGES(110), PAGES(150) };
	fake.stack = (struct buffers_span){ PAGES(160), PAGES(190) };
	for (unsigned left = 10 + 10 + 10; left; left--) {
		ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), 0);
		ck_assert(!is_growth_room(mapped.start, mapped.end));
	}
	/*
	 * The heap grows upward, so its far end is used first; the stack's far end is the low
	 * one.
	 */
	for (unsigned page = 149; page >= 110; page--) {
		ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), 0);
		ck_assert_uint_eq(mapped.start, PAGES(page));
	}
	for (unsigned page = 160; page < 190; page++) {
		ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), 0);
		ck_assert_uint_eq(mapped.start, PAGES(page));
	}
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), EADDRNOTAVAIL);
}
END_TEST

START_TEST(growth_room_without_a_target_is_random_in_the_far_half)
{
	struct buffers_window wanted = make_window(100, 200, 0, 1);
	struct buffers_span mapped;
	bool differs = false;
	uintptr_t first = 0;

	for (unsigned i = 0; i < 100; i++) {
		reset_fake(_i);
		fake.random = i;
		if (i < 50)
			fake.heap = (struct buffers_span){ PAGES(50), PAGES(250) };
		else
			fake.stack = (struct buffers_span){ PAGES(50), PAGES(250) };
		ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), 0);
		if (i < 50)
			ck_assert_uint_ge(mapped.start, PAGES(149));
		else
			ck_assert_uint_le(mapped.start, PAGES(150));
		differs |= i && mapped.start != first;
		first = mapped.start;
	}
	ck_assert(differs);
}
END_TEST

START_TEST(random_address_covers_the_range)
{
	struct buffers_window wanted = make_window(100, 110, 0, 1);
	struct buffers_span mapped;
	bool seen[10] = { false };

	for (unsigned i = 0; i < 1000; i++) {
		reset_fake(_i);
		fake.random = i;
		ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), 0);
		seen[mapped.start / FAKE_PAGE - 100] = true;
	}
	for (unsigned i = 0; i < 10; i++)
		ck_assert(seen[i]);
}
END_TEST

START_TEST(search_continues_after_a_lost_race)
{
	struct buffers_window wanted = make_window(100, 120, 110, 1);
	struct buffers_span mapped;

	reset_fake(_i);
	fake.races = 19;
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), 0);
	reset_fake(_i);
	fake.races = 20;
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), EADDRNOTAVAIL);
}
END_TEST

START_TEST(errors_end_the_search)
{
	struct buffers_window wanted = make_window(100, 120, 110, 1);
	struct buffers_search_cache cache = cache_with_entry(PAGES(110), PAGES(111), PAGES(1),
							 FAKE_PAGE);
	struct buffers_span mapped;
	static const int errors[] = { ENOMEM, EACCES };

	for (size_t i = 0; i < 2; i++) {
		reset_fake(_i);
		fake.error = errors[i];
		ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), errors[i]);
		ck_assert_uint_eq(fake.attempts, 1);
		ck_assert_int_eq(buffers_allocator_map(&wanted, PAGES(2), &cache, &mapped),
				 errors[i]);
		ck_assert_uint_eq(fake.opened, 0);
	}
}
END_TEST

START_TEST(random_address_is_not_the_edge_of_the_heap)
{
	struct buffers_window wanted = make_window(100, 200, 0, 1);
	struct buffers_span mapped;
	unsigned edges = 0;

	for (unsigned i = 0; i < 200; i++) {
		reset_fake(_i);
		fake.random = i;
		fake.heap = (struct buffers_span){ PAGES(120), PAGES(170) };
		ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), 0);
		edges += mapped.end == fake.heap.start || mapped.start == fake.heap.end;
	}
	ck_assert_uint_lt(edges, 30);	/* about 8; 108 if draws in the heap moved to its edge */
}
END_TEST

/* Some sanitizer runtimes and emulators refuse to map addresses that look free. */
START_TEST(refused_ranges_are_skipped_quickly)
{
	struct buffers_window wanted = make_window(16, 512, 256, 1);
	struct buffers_span mapped;

	reset_fake(_i);
	memset(&fake.refused[20], 1, 480);
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), 0);
	ck_assert_uint_lt(fake.attempts, 40);

	/* If the search skips over the only candidate, it asks the system for any address. */
	reset_fake(_i);
	memset(&fake.refused[16], 1, 496);
	fake.refused[100] = false;
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(100));

	/* The result must be aligned... */
	reset_fake(_i);
	memset(&fake.refused[16], 1, 496);
	fake.refused[101] = false;
	wanted.alignment = PAGES(2);
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), EADDRNOTAVAIL);
	ck_assert(!fake.mapped[101]);
	wanted.alignment = 1;

	/* ...and in the range. */
	reset_fake(_i);
	memset(&fake.refused[16], 1, 496);
	fake.refused[100] = false;
	wanted.range.start = PAGES(101);
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), EADDRNOTAVAIL);
	ck_assert(!fake.mapped[100]);
	fake.refused[100] = true;
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), ENOMEM);
}
END_TEST

START_TEST(nearest_candidates_around_a_guard_gap_are_taken)
{
	struct buffers_window wanted = make_window(16, 512, 300, 4);
	struct buffers_search_cache cache = { 0 };
	struct buffers_span mapped;

	reset_fake(_i);
	fill_pages(300, 310);
	fake.guard_gap = (struct buffers_span){ PAGES(270), PAGES(300) };
	for (unsigned i = 0; i < 20; i++)
		ck_assert(map_and_check(&wanted, 0, &cache, &mapped));

	/* The gap fills the range. */
	wanted.range.start = PAGES(267);
	wanted.range.end = PAGES(310);
	fill_pages(267, 270);
	ck_assert(!map_and_check(&wanted, 0, NULL, &mapped));
}
END_TEST

/* Some emulators reserve all addresses and list them as mapped. */
START_TEST(system_is_asked_if_everything_looks_occupied)
{
	struct buffers_window wanted = make_window(16, 512, 256, 3);
	struct buffers_span mapped;

	SKIP_IF(methods[_i] == BUFFERS_MAPS_QUERY, "emulators do not support queries");
	reset_fake(_i);
	fake.looks_full = true;
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), 0);
	ck_assert_uint_eq(mapped.end, PAGES(512));
	wanted.range.end = PAGES(500);
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), EADDRNOTAVAIL);
	fill_pages(16, 512);
	ck_assert_int_eq(map_wanted(&wanted, 0, &mapped), EADDRNOTAVAIL);
}
END_TEST

/*
 * Full ranges, in which the program maps and unmaps memory without the library
 */

#define NO_PACKED "this system does not tell whether all pages of a span are mapped"

/* Whether a candidate exists, and a search finds one exactly then. */
static bool finds_what_exists(const struct buffers_window *window,
			      struct buffers_search_cache *cache)
{
	bool exists = nearest_of_all(window, true) != SIZE_MAX;
	struct buffers_span mapped;
	int error = buffers_allocator_map(window, 0, cache, &mapped);

	ck_assert_uint_eq(fake.opened, 0);
	ck_assert_int_eq(error, exists ? 0 : EADDRNOTAVAIL);
	if (error)
		return false;
	buffers_platform_unmap(mapped.start, mapped.end - mapped.start);
	ck_assert(is_candidate(window, mapped.start, true));
	fill_pages(mapped.start / FAKE_PAGE, mapped.end / FAKE_PAGE);
	return true;
}

/* Asserts that nothing but this many questions about packed spans precedes the refusal. */
static void check_refused_by(unsigned questions, const struct buffers_window *window,
			     struct buffers_search_cache *cache)
{
	fake.queries = 0;
	fake.attempts = 0;
	fake.packed_questions = 0;
	ck_assert(!finds_what_exists(window, cache));
	ck_assert_uint_eq(fake.queries, 0);
	ck_assert_uint_eq(fake.attempts, 0);
	ck_assert_uint_eq(fake.packed_questions, questions);
}

START_TEST(full_range_is_refused_without_a_search)
{
	struct buffers_search_cache cache = { 0 };
	struct buffers_window wanted = make_window(200, 300, 250, 1);

	SKIP_IF(!BUFFERS_PORT_HAS_PACKED, NO_PACKED);
	reset_fake(_i);
	fill_pages(150, 350);
	ck_assert(!finds_what_exists(&wanted, &cache));
	check_refused_by(1, &wanted, &cache);
	/* The same holds for any other request inside the range. */
	wanted.size = PAGES(7);
	wanted.alignment = PAGES(4);
	wanted.target = 0;
	check_refused_by(1, &wanted, &cache);
	wanted.range = (struct buffers_span){ PAGES(210) + 1, PAGES(290) - 1 };
	check_refused_by(1, &wanted, &cache);
	/* Memory outside the range does not matter. */
	fake.mapped[209] = fake.mapped[290] = false;
	wanted.range = (struct buffers_span){ PAGES(210), PAGES(290) };
	check_refused_by(1, &wanted, &cache);
	/* Part of a larger range is full, which costs no question. */
	wanted = make_window(200, 352, 250, 1);
	fake.packed_questions = 0;
	ck_assert(finds_what_exists(&wanted, &cache));
	ck_assert_uint_eq(fake.packed_questions, 0);
}
END_TEST

START_TEST(full_range_with_gaps_is_refused_without_a_search)
{
	struct buffers_search_cache cache = { 0 };
	struct buffers_window wanted = make_window(200, 300, 250, 3);

	SKIP_IF(!BUFFERS_PORT_HAS_PACKED, NO_PACKED);
	reset_fake(_i);
	fill_pages(200, 300);
	for (size_t gap = 200; gap < 300; gap += 20)	/* the first one is at the edge */
		memset(&fake.mapped[gap], 0, 2);
	ck_assert(!finds_what_exists(&wanted, &cache));
	check_refused_by(5, &wanted, &cache);
	wanted.range.end = PAGES(250);
	check_refused_by(3, &wanted, &cache);
	wanted.size = PAGES(2);
	wanted.alignment = PAGES(8);	/* 200, 240 */
	wanted.range.start = PAGES(202);
	wanted.range.end = PAGES(240);
	check_refused_by(2, &wanted, &cache);
	wanted.range.end = PAGES(242);
	fake.packed_questions = 0;
	ck_assert(finds_what_exists(&wanted, &cache));
	ck_assert_uint_eq(fake.packed_questions, 0);
}
END_TEST

START_TEST(place_that_becomes_free_in_a_full_range_is_found)
{
	/* Request of 3 pages: the gaps are too small, and a page freed beside two others is not. */
	for (size_t pages = 1; pages <= 3; pages++) {
		for (size_t freed = 200; freed < 264; freed++) {
			struct buffers_search_cache cache = { 0 };
			struct buffers_window wanted = make_window(200, 264, 230, 3);

			reset_fake(_i);
			fill_pages(200, 264);
			for (size_t gap = 200; gap < 264; gap += 16)
				memset(&fake.mapped[gap], 0, 2);
			ck_assert(!finds_what_exists(&wanted, &cache));
			ck_assert(!finds_what_exists(&wanted, &cache));
			memset(&fake.mapped[freed], 0, pages);
			finds_what_exists(&wanted, &cache);
			ck_assert(!finds_what_exists(&wanted, &cache));
			ck_assert(!finds_what_exists(&wanted, &cache));
		}
	}
}
END_TEST

START_TEST(full_range_is_refused_again_after_a_place_was_used)
{
	struct buffers_search_cache cache = { 0 };
	struct buffers_window wanted = make_window(200, 300, 250, 1);

	SKIP_IF(!BUFFERS_PORT_HAS_PACKED, NO_PACKED);
	reset_fake(_i);
	fill_pages(200, 300);
	for (size_t page = 200; page < 300; page += 9) {
		ck_assert(!finds_what_exists(&wanted, &cache));
		check_refused_by(1, &wanted, &cache);
		fake.mapped[page] = false;
		ck_assert(finds_what_exists(&wanted, &cache));
	}
}
END_TEST

/* Only the first request after the change asks in vain. */
START_TEST(range_that_is_no_longer_full_costs_no_more_questions)
{
	struct buffers_search_cache cache = { 0 };
	struct buffers_window wanted = make_window(200, 300, 250, 1);

	SKIP_IF(!BUFFERS_PORT_HAS_PACKED, NO_PACKED);
	reset_fake(_i);
	fill_pages(200, 300);
	ck_assert(!finds_what_exists(&wanted, &cache));
	memset(&fake.mapped[220], 0, 10);
	for (unsigned i = 0; i < 10; i++) {
		fake.packed_questions = 0;
		ck_assert(finds_what_exists(&wanted, &cache));
		ck_assert_uint_eq(fake.packed_questions, i == 0);
	}
}
END_TEST

/* A thread may see the start of a span before a change, and its end afterwards. */
START_TEST(empty_spans_hide_no_candidate)
{
	struct buffers_window wanted = make_window(200, 206, 203, 2);
	struct buffers_search_cache cache = { .oldest_packed = 6 };

	reset_fake(_i);
	for (size_t i = 0; i < 6; i++)
		cache.packed[i] = (struct buffers_span){ PAGES(201 + i), PAGES(201 + i) };
	ck_assert(finds_what_exists(&wanted, &cache));
	ck_assert_uint_eq(fake.packed_questions, 0);
}
END_TEST

START_TEST(several_full_ranges_stay_known)
{
	struct buffers_search_cache cache = { 0 };

	SKIP_IF(!BUFFERS_PORT_HAS_PACKED, NO_PACKED);
	reset_fake(_i);
	fill_pages(16, 496);
	for (size_t gap = 40; gap < 496; gap += 40)
		fake.mapped[gap] = false;
	for (unsigned round = 0; round < 3; round++) {
		for (size_t start = 30; start < 400; start += 40) {
			struct buffers_window wanted = make_window(start, start + 40, start, 2);

			if (round == 0)
				ck_assert(!finds_what_exists(&wanted, &cache));
			else
				check_refused_by(2, &wanted, &cache);
		}
	}
}
END_TEST

/* More packed spans than the cache has: recording them is no second pass over the list. */
START_TEST(range_with_many_gaps_is_searched)
{
	struct buffers_search_cache cache = { 0 };
	struct buffers_window wanted = make_window(200, 300, 250, 2);
	unsigned queries;

	reset_fake(_i);
	for (size_t page = 200; page < 300; page += 2)
		fake.mapped[page] = true;
	ck_assert(!finds_what_exists(&wanted, NULL));
	queries = fake.queries;
	for (unsigned i = 0; i < 3; i++) {
		fake.queries = 0;
		ck_assert(!finds_what_exists(&wanted, &cache));
		if (methods[_i] == BUFFERS_MAPS_SCAN && !fake.scan_error)
			ck_assert_uint_eq(fake.queries, queries);
	}
	fake.mapped[256] = false;
	ck_assert(finds_what_exists(&wanted, &cache));
}
END_TEST

/* Some emulators keep all addresses for the program, and some systems do not answer. */
START_TEST(system_that_notices_no_unmapping_is_not_trusted)
{
	struct buffers_window wanted = make_window(200, 300, 250, 1);

	for (unsigned i = 0; i < 2; i++) {
		struct buffers_search_cache cache = { 0 };

		reset_fake(_i);
		fill_pages(200, 300);
		fake.counts_unmapped = i == 0;
		fake.knows_no_packed = i == 1;
		for (unsigned j = 0; j < 3; j++)
			ck_assert(!finds_what_exists(&wanted, &cache));
		fake.mapped[256] = false;
		ck_assert(finds_what_exists(&wanted, &cache));
	}
}
END_TEST

START_TEST(place_that_was_refused_is_found_later)
{
	struct buffers_window wanted = make_window(200, 300, 250, 1);
	struct buffers_search_cache cache = { 0 };

	reset_fake(_i);
	fill_pages(200, 300);
	fake.mapped[256] = false;
	fake.guard_gap = (struct buffers_span){ PAGES(256), PAGES(257) };
	for (unsigned i = 0; i < 3; i++)
		ck_assert(!finds_what_exists(&wanted, &cache));
	fake.guard_gap.end = fake.guard_gap.start;
	ck_assert(finds_what_exists(&wanted, &cache));
}
END_TEST

static struct buffers_search_cache shared_cache;
static uint64_t other_seed;

/* Another thread unmaps memory, and writes parts of spans into the cache. */
static void change_while_asking(void)
{
	size_t page = 200 + random_below(&other_seed, 60);

	memset(&fake.mapped[page], 0, 4);
	for (size_t i = 0; i < BUFFERS_PACKED_SPANS; i++) {
		struct buffers_span *span = &shared_cache.packed[i];

		if (random_below(&other_seed, 2))
			span->start = PAGES(190 + random_below(&other_seed, 90));
		if (random_below(&other_seed, 2))
			span->end = PAGES(190 + random_below(&other_seed, 90));
	}
}

START_TEST(place_that_is_free_during_the_whole_call_is_found)
{
	struct buffers_window wanted = make_window(200, 264, 230, 2);
	unsigned refused = 0;

	other_seed = seed_random();
	for (unsigned round = 0; round < how_many(3000, 3000); round++) {
		struct buffers_span mapped;
		bool existed;
		int error;

		reset_fake(_i);
		fill_pages(200, 264);
		for (size_t gap = 203; gap < 264; gap += 8)
			fake.mapped[gap] = false;
		shared_cache = (struct buffers_search_cache){ 0 };
		ck_assert(!finds_what_exists(&wanted, &shared_cache));
		if (random_below(&other_seed, 2)) {
			memset(&fake.mapped[200 + random_below(&other_seed, 63)], 0, 2);
			change_while_asking();
		}
		existed = nearest_of_all(&wanted, true) != SIZE_MAX;
		fake.after_packed = change_while_asking;
		error = buffers_allocator_map(&wanted, 0, &shared_cache, &mapped);
		if (existed)
			ck_assert_int_eq(error, 0);
		refused += error != 0;
		fake.after_packed = NULL;
		finds_what_exists(&wanted, &shared_cache);
	}
	if (!is_slow())		/* one in 40 */
		ck_assert_uint_gt(refused, 0);
}
END_TEST

START_TEST(place_that_becomes_free_is_found_in_random_spaces)
{
	uint64_t seed = seed_random();
	unsigned without_search = 0;

	for (unsigned round = 0; round < how_many(600, 600); round++) {
		struct buffers_search_cache cache = { 0 };
		size_t density = 6 + random_below(&seed, 5);

		reset_fake(_i);
		for (size_t page = 0; page < FAKE_PAGES; page++)
			fake.mapped[page] = random_below(&seed, 10) < density;
		if (round % 4 == 1)
			fake.heap = (struct buffers_span){ PAGES(230), PAGES(260) };
		if (round % 4 == 2)
			fake.guard_gap = (struct buffers_span){ PAGES(240), PAGES(244) };
		for (unsigned i = 0; i < 100; i++) {
			size_t page = 190 + random_below(&seed, 100);
			size_t pages = 1 + random_below(&seed, 4);
			struct buffers_window wanted =
				make_window(190 + random_below(&seed, 40),
					    240 + random_below(&seed, 40),
					    random_below(&seed, 4) * 80, pages);

			wanted.alignment = PAGES((size_t)1 << random_below(&seed, 3));
			switch (random_below(&seed, 8)) {
			case 0:		/* without the library */
				memset(&fake.mapped[page], 0, pages);
				break;
			case 1:
				fill_pages(page, page + pages);
				break;
			case 2:
				ck_assert_int_eq(buffers_allocator_unmap(
					(struct buffers_span){ PAGES(page), PAGES(page + pages) },
					&cache), 0);
				break;
			default:
				fake.queries = 0;
				without_search += !finds_what_exists(&wanted, &cache) &&
						  fake.queries == 0;
			}
		}
	}
	ck_assert(!BUFFERS_PORT_HAS_PACKED || without_search > 100);
}
END_TEST

/*
 * Another process
 */

START_TEST(nearest_candidate_in_another_process_is_taken)
{
	uint64_t seed = seed_random();
	unsigned rounds = how_many(20000, 20000);

	for (unsigned round = 0; round < rounds; round++) {
		size_t density = 1 + random_below(&seed, 20);
		struct buffers_window wanted = make_window(random_below(&seed, FAKE_PAGES),
							   FAKE_PAGES + 9,
							   1 + random_below(&seed, FAKE_PAGES),
							   1 + random_below(&seed, 6));
		struct buffers_span mapped;
		size_t least;
		int error;

		reset_fake(0);
		for (size_t page = 0; page < FAKE_PAGES; page++)
			fake.mapped[page] = random_below(&seed, 20) < density;
		least = nearest_of_all(&wanted, true);
		error = buffers_allocator_map_in(FAKE_PID, &wanted, &mapped);
		ck_assert_uint_eq(fake.opened, 0);
		ck_assert_int_eq(error, least == SIZE_MAX ? EADDRNOTAVAIL : 0);
		ck_assert_uint_eq(fake.remote_attempts, fake.attempts);
		if (error)
			continue;
		ck_assert_uint_eq(mapped.end - mapped.start, wanted.size);
		ck_assert_int_eq(buffers_allocator_unmap_in(FAKE_PID, mapped), 0);
		ck_assert_uint_eq(fake.opened, 0);
		ck_assert_uint_eq(distance_to_target(&wanted, mapped.start), least);
	}
}
END_TEST

START_TEST(own_growth_room_does_not_restrict_another_process)
{
	struct buffers_window wanted = make_window(0, FAKE_PAGES, 100, 1);
	struct buffers_span mapped;

	reset_fake(0);
	fake.heap = (struct buffers_span){ PAGES(90), PAGES(110) };
	ck_assert_int_eq(buffers_allocator_map_in(FAKE_PID, &wanted, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(100));
}
END_TEST

START_TEST(address_in_another_process_is_random_without_a_target)
{
	struct buffers_window wanted = make_window(0, FAKE_PAGES, 0, 1);
	unsigned lower = 0;

	reset_fake(0);
	for (unsigned i = 0; i < 100; i++) {
		struct buffers_span mapped;

		ck_assert_int_eq(buffers_allocator_map_in(FAKE_PID, &wanted, &mapped), 0);
		lower += mapped.start < PAGES(FAKE_PAGES / 2);
	}
	ck_assert_uint_gt(lower, 20);
	ck_assert_uint_lt(lower, 80);
}
END_TEST

START_TEST(errors_of_another_process_are_reported)
{
	static const int errors[] = { EINVAL, EACCES, ENOMEM };
	struct buffers_window wanted = make_window(0, FAKE_PAGES, 100, 1);
	struct buffers_span mapped;

	reset_fake(0);
	ck_assert_int_eq(buffers_allocator_map_in(FAKE_PID + 1, &wanted, &mapped), EINVAL);
	ck_assert_int_eq(buffers_allocator_unmap_in(FAKE_PID + 1, mapped), EINVAL);
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		fake.error = errors[i];
		ck_assert_int_eq(buffers_allocator_map_in(FAKE_PID, &wanted, &mapped), errors[i]);
		ck_assert_uint_eq(fake.opened, 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("unit/allocator");
	TCase *random = tcase_create("random");
	TCase *rules = tcase_create("rules");
	TCase *full = tcase_create("full ranges");
	TCase *other = tcase_create("another process");

	tcase_set_tags(random, "slow");
	tcase_set_timeout(random, 300);
	tcase_add_loop_test(random, nearest_candidate_is_taken_in_random_spaces, 0, METHODS);
	tcase_add_loop_test(random, search_cache_changes_no_result, 0, METHODS);
	suite_add_tcase(suite, random);

	tcase_add_test(rules, search_cache_saves_queries);
	tcase_add_loop_test(rules, address_freed_during_a_search_is_the_nearest_again, 0, METHODS);
	tcase_add_loop_test(rules, freed_address_is_the_nearest_again, 0, METHODS);
	tcase_add_loop_test(rules, freed_address_across_an_empty_span_is_found, 0, METHODS);
	tcase_add_loop_test(rules, longer_candidate_may_overlap_a_full_span, 0, METHODS);
	tcase_add_loop_test(rules, narrow_range_hides_no_candidate_from_a_wide_one, 0, METHODS);
	tcase_add_loop_test(rules, stale_cache_hides_no_candidate, 0, METHODS);
	tcase_add_loop_test(rules, hole_of_exactly_the_size_is_used, 0, METHODS);
	tcase_add_loop_test(rules, range_is_exact_to_the_byte, 0, METHODS);
	tcase_add_loop_test(rules, search_stays_within_the_limits, 0, METHODS);
	tcase_add_loop_test(rules, preferred_size_is_taken_where_it_fits, 0, METHODS);
	tcase_add_loop_test(rules, preferred_size_yields_to_the_heap, 0, METHODS);
	tcase_add_loop_test(rules, preferred_size_yields_to_a_limit_on_memory, 0, METHODS);
	tcase_add_loop_test(rules, last_mapping_is_extended_by_one_attempt, 0, METHODS);
	tcase_add_loop_test(rules, random_mapping_is_extended_by_one_attempt, 0, METHODS);
	tcase_add_loop_test(rules, few_occupied_pages_are_skipped_without_a_query, 0, METHODS);
	tcase_add_loop_test(rules, mappings_are_not_extended_into_growth_room, 0, METHODS);
	tcase_add_loop_test(rules, several_targets_stay_cached, 0, METHODS);
	tcase_add_loop_test(rules, alternating_sizes_both_stay_cached, 0, METHODS);
	tcase_add_loop_test(rules, address_freed_while_the_cache_was_locked_is_the_nearest_again,
			    0, METHODS);
	tcase_add_loop_test(rules, memory_without_a_target_is_not_adjacent_to_targeted_memory,
			    0, METHODS);
	tcase_add_loop_test(rules, growth_room_is_the_last_resort, 0, METHODS);
	tcase_add_loop_test(rules, growth_room_without_a_target_is_random_in_the_far_half, 0,
			    METHODS);
	tcase_add_loop_test(rules, random_address_covers_the_range, 0, METHODS);
	tcase_add_loop_test(rules, random_address_is_not_the_edge_of_the_heap, 0, METHODS);
	tcase_add_loop_test(rules, search_continues_after_a_lost_race, 0, METHODS);
	tcase_add_loop_test(rules, errors_end_the_search, 0, METHODS);
	tcase_add_loop_test(rules, refused_ranges_are_skipped_quickly, 0, METHODS);
	tcase_add_loop_test(rules, nearest_candidates_around_a_guard_gap_are_taken, 0, METHODS);
	tcase_add_loop_test(rules, system_is_asked_if_everything_looks_occupied, 0, METHODS);
	suite_add_tcase(suite, rules);

	tcase_set_tags(full, "slow");
	tcase_set_timeout(full, 300);
	tcase_add_loop_test(full, full_range_is_refused_without_a_search, 0, METHODS);
	tcase_add_loop_test(full, full_range_with_gaps_is_refused_without_a_search, 0, METHODS);
	tcase_add_loop_test(full, place_that_becomes_free_in_a_full_range_is_found, 0, METHODS);
	tcase_add_loop_test(full, full_range_is_refused_again_after_a_place_was_used, 0, METHODS);
	tcase_add_loop_test(full, range_that_is_no_longer_full_costs_no_more_questions, 0,
			    METHODS);
	tcase_add_loop_test(full, empty_spans_hide_no_candidate, 0, METHODS);
	tcase_add_loop_test(full, several_full_ranges_stay_known, 0, METHODS);
	tcase_add_loop_test(full, range_with_many_gaps_is_searched, 0, METHODS);
	tcase_add_loop_test(full, system_that_notices_no_unmapping_is_not_trusted, 0, METHODS);
	tcase_add_loop_test(full, place_that_was_refused_is_found_later, 0, METHODS);
	tcase_add_loop_test(full, place_that_is_free_during_the_whole_call_is_found, 0, METHODS);
	tcase_add_loop_test(full, place_that_becomes_free_is_found_in_random_spaces, 0, METHODS);
	suite_add_tcase(suite, full);

	tcase_add_test(other, nearest_candidate_in_another_process_is_taken);
	tcase_add_test(other, own_growth_room_does_not_restrict_another_process);
	tcase_add_test(other, address_in_another_process_is_random_without_a_target);
	tcase_add_test(other, errors_of_another_process_are_reported);
	suite_add_tcase(suite, other);
	return run_suite_of_functions(suite);
}
