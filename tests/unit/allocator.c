/* SPDX-License-Identifier: MIT */
/* unit-allocator.c: searches in an address space small enough to try every place */

#include "config.h"
#include "allocator/allocator.h"
#include "support/fake-platform.h"
#include "support/support.h"

#include <errno.h>
#include <string.h>

#define PAGES(n) ((uintptr_t)(n) * FAKE_PAGE)

/* The last of them cannot be read. */
static const int kinds[] = {
	BUFFERS_MAPS_QUERY, BUFFERS_MAPS_SCAN, BUFFERS_MAPS_PROBE, BUFFERS_MAPS_SCAN,
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static void reset(int kind)
{
	fake_reset();
	fake.kind = kinds[kind];
	fake.scan_error = kind == KINDS - 1 ? EIO : 0;
}

static void fill(size_t first, size_t end)
{
	memset(&fake.mapped[first], 1, end - first);
}

static struct buffers_window window(size_t first, size_t end, size_t target, size_t pages)
{
	return (struct buffers_window){
		.range = { PAGES(first), PAGES(end) },
		.target = PAGES(target),
		.size = PAGES(pages),
		.alignment = 1,
	};
}

static int map(const struct buffers_window *window, size_t preferred_pages,
	       struct buffers_span *mapped)
{
	int error = buffers_allocator_map(window, PAGES(preferred_pages), NULL, mapped);

	ck_assert_uint_eq(fake.opened, 0);
	return error;
}

/*
 * The rule, in the plainest form
 */

static bool is_kept(uintptr_t address, uintptr_t end)
{
	for (; address < end; address += FAKE_PAGE)
		if ((fake.heap.start <= address && address < fake.heap.end) ||
		    (fake.stack.start <= address && address < fake.stack.end))
			return true;
	return false;
}

static bool is_place(const struct buffers_window *window, uintptr_t address, bool may_keep)
{
	uintptr_t end = address + ((window->size + FAKE_PAGE - 1) & ~(uintptr_t)(FAKE_PAGE - 1));

	if (address < window->range.start || end > window->range.end ||
	    address % window->alignment || address < PAGES(FAKE_FIRST) ||
	    end > PAGES(FAKE_PAGES) || (!may_keep && is_kept(address, end)))
		return false;
	for (size_t page = address / FAKE_PAGE; page < end / FAKE_PAGE; page++)
		if (fake.mapped[page] || fake.refused[page])
			return false;
	return true;
}

static size_t distance(const struct buffers_window *window, uintptr_t address)
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

/* The distance of the nearest place in [start, end); SIZE_MAX when there is none. */
static size_t nearest(const struct buffers_window *window, uintptr_t start, uintptr_t end,
		      bool may_keep)
{
	size_t least = SIZE_MAX;

	for (uintptr_t address = start; address < end; address += FAKE_PAGE)
		if (is_place(window, address, may_keep) && distance(window, address) < least)
			least = distance(window, address);
	return least;
}

static size_t nearest_of_all(const struct buffers_window *window, bool may_keep)
{
	return nearest(window, 0, PAGES(FAKE_PAGES), may_keep);
}

/* Maps, and holds the result against the rule.  Returns whether there was a place. */
static bool map_and_check(const struct buffers_window *window, size_t preferred_pages,
			  struct buffers_search_cache *hindsight, struct buffers_span *mapped)
{
	size_t least = nearest_of_all(window, false);
	size_t least_kept = nearest_of_all(window, true);
	size_t size = (window->size + FAKE_PAGE - 1) & ~(size_t)(FAKE_PAGE - 1);
	int error = buffers_allocator_map(window, PAGES(preferred_pages), hindsight, mapped);

	ck_assert_uint_eq(fake.opened, 0);
	if (least_kept == SIZE_MAX) {
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
		ck_assert(!is_kept(mapped->start, mapped->end));
		ck_assert_uint_eq(nearest(window, mapped->start, mapped->end, false), least);
	}
	fill(mapped->start / FAKE_PAGE, mapped->end / FAKE_PAGE);
	return true;
}

START_TEST(nearest_place_is_taken_in_random_spaces)
{
	uint64_t seed = seed_random();
	unsigned rounds = how_many(20000, 20000);

	for (unsigned round = 0; round < rounds; round++) {
		struct buffers_window wanted;
		struct buffers_span mapped;
		size_t density = 1 + random_below(&seed, 20);

		reset(_i);
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
		wanted = window(random_below(&seed, FAKE_PAGES / 2),
				FAKE_PAGES / 2 + random_below(&seed, FAKE_PAGES / 2),
				1 + random_below(&seed, FAKE_PAGES), 1);
		wanted.size = 1 + random_below(&seed, PAGES(12));
		wanted.alignment = (size_t)1 << random_below(&seed, 17);
		map_and_check(&wanted, random_below(&seed, 20), NULL, &mapped);
	}
}
END_TEST

static struct buffers_search_cache remembering(uintptr_t start, uintptr_t end, size_t size,
					    size_t alignment)
{
	return (struct buffers_search_cache){
		.entries = { { { start, end }, size, alignment, true, true } },
	};
}

START_TEST(hindsight_changes_no_result)
{
	uint64_t seed = seed_random();

	for (unsigned round = 0; round < how_many(300, 300); round++) {
		struct buffers_search_cache hindsight = { 0 };
		struct buffers_span mine[600];
		size_t count = 0;

		reset(_i);
		for (size_t page = 0; page < FAKE_PAGES; page++)
			fake.mapped[page] = random_below(&seed, 4) == 0;
		if (round % 4 == 1)
			fake.heap = (struct buffers_span){ PAGES(230), PAGES(330) };
		for (unsigned i = 0; i < 300; i++) {
			/* few targets, so that they meet what was remembered */
			struct buffers_window wanted =
				window(random_below(&seed, 100), 400 + random_below(&seed, 100),
				       200 + random_below(&seed, 1 + round % 50), 1);

			if (round % 3 == 0)	/* ranges that begin or end near it */
				wanted.range.start = wanted.target - PAGES(random_below(&seed, 9));
			if (round % 5 == 0)
				wanted.range.end = wanted.target + PAGES(random_below(&seed, 9));

			wanted.size = 1 + random_below(&seed, PAGES(5));
			wanted.alignment = (size_t)1 << random_below(&seed, 15);
			if (random_below(&seed, 3) == 0 && count) {
				struct buffers_span freed = mine[--count];

				ck_assert_int_eq(buffers_allocator_unmap(freed, &hindsight), 0);
			} else if (map_and_check(&wanted, 0, &hindsight, &mine[count])) {
				count++;
			}
		}
	}
}
END_TEST

START_TEST(hindsight_saves_questions)
{
	struct buffers_search_cache hindsight = { 0 };
	struct buffers_window wanted = window(16, 512, 256, 1);
	struct buffers_span mapped;

	reset(0);
	for (size_t page = 100; page < 400; page += 2)
		fake.mapped[page] = true;
	wanted.size = PAGES(2);
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &mapped), 0);
	ck_assert_uint_gt(fake.questions, 100);
	fake.questions = 0;
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &mapped), 0);
	ck_assert_uint_lt(fake.questions, 5);

	/* busy: does without */
	hindsight.is_locked = 1;
	fake.questions = 0;
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &mapped), 0);
	ck_assert_uint_gt(fake.questions, 100);
	ck_assert_int_eq(buffers_allocator_unmap(mapped, &hindsight), 0);
	ck_assert_uint_eq(hindsight.is_locked, 1);
}
END_TEST

START_TEST(freed_place_is_the_nearest_again)
{
	struct buffers_search_cache hindsight = { 0 };
	struct buffers_window wanted = window(16, 512, 256, 3);
	struct buffers_span mapped[20];

	reset(_i);
	for (size_t i = 0; i < 20; i++)
		ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight,
						       &mapped[i]), 0);
	for (size_t i = 0; i < 20; i++) {
		struct buffers_span again;

		ck_assert_int_eq(buffers_allocator_unmap(mapped[i], &hindsight), 0);
		ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &again), 0);
		ck_assert_uint_eq(again.start, mapped[i].start);
	}
}
END_TEST

/* An empty span is full as well: nothing of that size lies across its ends. */
START_TEST(freed_place_across_an_empty_span_is_found)
{
	struct buffers_search_cache hindsight = remembering(PAGES(256), PAGES(256), PAGES(3), FAKE_PAGE);
	struct buffers_window wanted = window(16, 512, 256, 3);
	struct buffers_span freed = { PAGES(255), PAGES(258) };
	struct buffers_span mapped;

	reset(_i);
	fill(16, 512);
	memset(&fake.mapped[300], 0, 3);
	ck_assert_int_eq(buffers_allocator_unmap(freed, &hindsight), 0);
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(255));
}
END_TEST

/* The place that was sought is longer, and reaches into what was full. */
START_TEST(longer_place_may_reach_into_what_is_full)
{
	struct buffers_search_cache hindsight = remembering(PAGES(250), PAGES(260), PAGES(2), PAGES(4));
	struct buffers_window wanted = window(16, 512, 255, 5);
	struct buffers_span mapped;

	reset(_i);
	fill(16, 512);
	memset(&fake.mapped[248], 0, 5);	/* 248 to 252, 2 pages at 248 end at 250 */
	wanted.alignment = PAGES(4);
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(248));
	memset(&fake.mapped[240], 0, 5);
	buffers_platform_unmap(mapped.start, PAGES(5));
	hindsight = remembering(PAGES(250), PAGES(260), PAGES(2), PAGES(4));
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(248));
}
END_TEST

/* What a narrow range forbade to try is not known to be full. */
START_TEST(narrow_range_hides_no_place_from_a_wide_one)
{
	struct buffers_search_cache hindsight = { 0 };
	struct buffers_window wanted = window(255, 512, 256, 16);
	struct buffers_span mapped;

	reset(_i);
	fill(16, 512);
	memset(&fake.mapped[256 - 40], 0, 16);
	memset(&fake.mapped[256 - 13], 0, 16);
	memset(&fake.mapped[256 + 20], 0, 16);
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(256 + 20));
	wanted.range.start = PAGES(16);
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(256 - 13));
}
END_TEST

/* Somebody else gave memory back where hindsight says that all is full. */
START_TEST(stale_hindsight_hides_no_place)
{
	struct buffers_search_cache hindsight = { 0 };
	struct buffers_window wanted = window(200, 300, 250, 1);
	struct buffers_span mapped;

	reset(_i);
	while (buffers_allocator_map(&wanted, 0, &hindsight, &mapped) == 0)
		;
	fake.mapped[250] = false;
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(250));
}
END_TEST

START_TEST(hole_of_exactly_the_size_is_used)
{
	struct buffers_window wanted = window(16, 512, 256, 3);
	struct buffers_span mapped;

	for (size_t hole = 16; hole + 3 <= FAKE_PAGES; hole += is_slow() ? 7 : 1) {
		reset(_i);
		fill(0, FAKE_PAGES);
		memset(&fake.mapped[hole], 0, 3);
		ck_assert_int_eq(map(&wanted, 16, &mapped), 0);
		ck_assert_uint_eq(mapped.start, PAGES(hole));
		ck_assert_uint_eq(mapped.end, PAGES(hole + 3));
		ck_assert_int_eq(map(&wanted, 16, &mapped), EADDRNOTAVAIL);
	}
}
END_TEST

START_TEST(range_is_kept_to_the_byte)
{
	struct buffers_window wanted = window(16, 512, 100, 1);
	struct buffers_span mapped;

	reset(_i);
	wanted.range = (struct buffers_span){ PAGES(100) + 1, PAGES(103) - 1 };
	ck_assert_int_eq(map(&wanted, 0, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(101));
	ck_assert_uint_eq(mapped.end, PAGES(102));
	ck_assert_int_eq(map(&wanted, 0, &mapped), EADDRNOTAVAIL);
	wanted.range = (struct buffers_span){ PAGES(100) + 1, PAGES(102) - 1 };
	ck_assert_int_eq(map(&wanted, 0, &mapped), EADDRNOTAVAIL);
}
END_TEST

START_TEST(nothing_is_sought_outside_the_limits)
{
	struct buffers_window wanted = window(0, 16, 8, 1);
	struct buffers_span mapped;

	reset(_i);
	ck_assert_int_eq(map(&wanted, 16, &mapped), EADDRNOTAVAIL);
	wanted.range = (struct buffers_span){ PAGES(512), UINTPTR_MAX };
	ck_assert_int_eq(map(&wanted, 16, &mapped), EADDRNOTAVAIL);
	wanted.range = (struct buffers_span){ 0, UINTPTR_MAX };
	wanted.size = SIZE_MAX;
	ck_assert_int_eq(map(&wanted, 16, &mapped), EADDRNOTAVAIL);
	wanted.size = PAGES(512 - 16) + 1;
	ck_assert_int_eq(map(&wanted, 16, &mapped), EADDRNOTAVAIL);
	ck_assert_uint_eq(fake.attempts, 0);
	wanted.size = PAGES(512 - 16);
	ck_assert_int_eq(map(&wanted, 16, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(16));
	ck_assert_uint_eq(mapped.end, PAGES(512));
}
END_TEST

START_TEST(preferred_size_is_taken_where_it_fits)
{
	struct buffers_window wanted = window(16, 512, 256, 1);
	struct buffers_span mapped;

	reset(_i);
	ck_assert_int_eq(map(&wanted, 16, &mapped), 0);
	ck_assert_uint_eq(mapped.end - mapped.start, PAGES(16));
	/* below the target it grows downward, away from it */
	fill(200, 512);
	ck_assert_int_eq(map(&wanted, 16, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(184));
	ck_assert_uint_eq(mapped.end, PAGES(200));
	/* and never out of the range */
	wanted.range.start = PAGES(180);
	ck_assert_int_eq(map(&wanted, 16, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(183));
	ck_assert_uint_eq(mapped.end, PAGES(184));
}
END_TEST

START_TEST(preferred_size_yields_to_the_heap)
{
	struct buffers_window wanted = window(16, 512, 256, 1);
	struct buffers_span mapped;

	reset(_i);
	fake.heap = (struct buffers_span){ PAGES(258), PAGES(300) };
	ck_assert_int_eq(map(&wanted, 16, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(256));
	ck_assert_uint_eq(mapped.end, PAGES(257));
}
END_TEST

START_TEST(preferred_size_yields_to_a_limit_on_memory)
{
	struct buffers_window wanted = window(16, 512, 256, 2);
	struct buffers_span mapped;

	reset(_i);
	fake.longest = PAGES(2);
	ck_assert_int_eq(map(&wanted, 16, &mapped), 0);
	ck_assert_uint_eq(mapped.end - mapped.start, PAGES(2));
	fake.longest = PAGES(1);
	ck_assert_int_eq(map(&wanted, 16, &mapped), ENOMEM);
}
END_TEST

/* Maps, and says how many attempts that took; questions are asked never. */
static unsigned attempts_without_question(const struct buffers_window *wanted, size_t preferred,
					  struct buffers_search_cache *hindsight,
					  struct buffers_span *mapped)
{
	fake.questions = 0;
	fake.attempts = 0;
	ck_assert_int_eq(buffers_allocator_map(wanted, PAGES(preferred), hindsight, mapped), 0);
	ck_assert_uint_eq(fake.opened, 0);
	ck_assert_uint_eq(fake.questions, 0);
	return fake.attempts;
}

START_TEST(last_place_is_extended_by_one_mapping)
{
	struct buffers_window wanted = window(16, 512, 252, 1);
	struct buffers_search_cache hindsight = { 0 };
	struct buffers_span mapped;

	reset(_i);
	fill(250, 260);
	ck_assert_int_eq(buffers_allocator_map(&wanted, PAGES(1), &hindsight, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(249));
	/* 8 pages from the target there at last, and then here */
	for (size_t page = 248; page >= 244; page--) {
		ck_assert_uint_eq(attempts_without_question(&wanted, 1, &hindsight, &mapped), 1);
		ck_assert_uint_eq(mapped.start, PAGES(page));
	}
	ck_assert_uint_eq(attempts_without_question(&wanted, 1, &hindsight, &mapped), 1);
	ck_assert_uint_eq(mapped.start, PAGES(260));
	/* where more is preferred, on the side of the last, though that be further */
	for (size_t page = 261; page < 300; page += 4) {
		ck_assert_uint_eq(attempts_without_question(&wanted, 4, &hindsight, &mapped), 1);
		ck_assert_uint_eq(mapped.start, PAGES(page));
		ck_assert_uint_eq(mapped.end, PAGES(page + 4));
	}
	ck_assert_uint_eq(attempts_without_question(&wanted, 1, &hindsight, &mapped), 1);
	ck_assert_uint_eq(mapped.start, PAGES(243));
	ck_assert_uint_eq(attempts_without_question(&wanted, 4, &hindsight, &mapped), 1);
	ck_assert_uint_eq(mapped.start, PAGES(239));
	/* another target in what is known */
	wanted.target = PAGES(262);
	ck_assert_uint_eq(attempts_without_question(&wanted, 1, &hindsight, &mapped), 1);
	ck_assert_uint_eq(mapped.start, PAGES(238));
	/* as much as the range allows */
	wanted.range.start = PAGES(236);
	ck_assert_uint_eq(attempts_without_question(&wanted, 4, &hindsight, &mapped), 1);
	ck_assert_uint_eq(mapped.start, PAGES(237));
	ck_assert_uint_eq(mapped.end, PAGES(238));
	/* and then on the other side */
	wanted.range.start = PAGES(237);
	ck_assert_uint_eq(attempts_without_question(&wanted, 4, &hindsight, &mapped), 1);
	ck_assert_uint_eq(mapped.start, PAGES(301));
}
END_TEST

/* Without a target the first is anywhere, and the others are beside it. */
START_TEST(random_place_is_extended_by_one_mapping)
{
	struct buffers_window wanted = window(16, 512, 0, 1);
	struct buffers_window aimed = window(16, 512, 256, 1);

	for (unsigned i = 0; i < 100; i++) {
		struct buffers_search_cache hindsight = { 0 };
		struct buffers_span mapped, all, other;

		reset(_i);
		fake.random = i;
		ck_assert_int_eq(buffers_allocator_map(&aimed, 0, &hindsight, &other), 0);
		ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &all), 0);
		for (unsigned j = 0; j < 3; j++) {
			if (all.end == PAGES(512) || all.start == PAGES(16) ||
			    all.end == other.start || all.start == other.end)
				break;
			ck_assert_uint_eq(attempts_without_question(&wanted, 0, &hindsight,
								    &mapped), 1);
			ck_assert(mapped.start == all.end || mapped.end == all.start);
			if (mapped.start == all.end)
				all.end = mapped.end;
			else
				all.start = mapped.start;
		}
		/* nor does a target lead there */
		ck_assert_int_eq(buffers_allocator_map(&aimed, 0, &hindsight, &mapped), 0);
		ck_assert(mapped.start == other.end || mapped.end == other.start ||
			  all.start == other.end || all.end == other.start);
	}
}
END_TEST

START_TEST(few_occupied_pages_are_passed_without_a_question)
{
	struct buffers_window wanted = window(16, 512, 256, 1);
	struct buffers_search_cache hindsight = remembering(PAGES(100), PAGES(260), PAGES(1),
							 FAKE_PAGE);
	struct buffers_span mapped;

	reset(_i);
	fill(100, 263);
	ck_assert_uint_eq(attempts_without_question(&wanted, 0, &hindsight, &mapped), 4);
	ck_assert_uint_eq(mapped.start, PAGES(263));
	fill(264, 268);
	fake.attempts = 0;
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(268));
	ck_assert_uint_gt(fake.questions, 0);
	ck_assert_uint_lt(fake.attempts, 7);
}
END_TEST

START_TEST(nothing_is_extended_into_the_room_of_the_heap)
{
	struct buffers_window wanted = window(200, 300, 250, 1);
	struct buffers_search_cache hindsight = remembering(PAGES(240), PAGES(260), PAGES(1),
							 FAKE_PAGE);
	struct buffers_span mapped;

	reset(_i);
	fill(240, 260);
	wanted.target = PAGES(258);
	fake.heap = (struct buffers_span){ PAGES(262), PAGES(300) };
	ck_assert_int_eq(buffers_allocator_map(&wanted, PAGES(4), &hindsight, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(260));
	ck_assert_uint_eq(mapped.end, PAGES(261));
	ck_assert_int_eq(buffers_allocator_map(&wanted, PAGES(1), &hindsight, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(261));
	ck_assert_int_eq(buffers_allocator_map(&wanted, PAGES(1), &hindsight, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(239));
}
END_TEST

START_TEST(sizes_by_turns_are_both_remembered)
{
	struct buffers_window small = window(16, 512, 256, 1);
	struct buffers_window large = window(16, 512, 256, 2);
	struct buffers_search_cache hindsight = { 0 };
	struct buffers_span mapped;

	reset(_i);
	ck_assert_int_eq(buffers_allocator_map(&small, 0, &hindsight, &mapped), 0);
	ck_assert_int_eq(buffers_allocator_map(&large, 0, &hindsight, &mapped), 0);
	for (unsigned i = 0; i < 20; i++) {
		ck_assert_uint_le(attempts_without_question(&small, 0, &hindsight, &mapped), 4);
		ck_assert_uint_le(attempts_without_question(&large, 0, &hindsight, &mapped), 4);
	}
}
END_TEST

/* Others went on meanwhile, so that nobody knows what came of it. */
START_TEST(place_freed_while_others_were_busy_is_the_nearest_again)
{
	struct buffers_search_cache hindsight = { 0 };
	struct buffers_window wanted = window(16, 512, 256, 1);
	struct buffers_span first, mapped;

	reset(_i);
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &first), 0);
	for (unsigned i = 0; i < 9; i++)
		ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &mapped), 0);
	hindsight.is_locked = 1;
	ck_assert_int_eq(buffers_allocator_unmap(first, &hindsight), 0);
	hindsight.is_locked = 0;
	ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &mapped), 0);
	ck_assert_uint_eq(mapped.start, first.start);
}
END_TEST

/* Who aims must not show the way to what has no target. */
START_TEST(memory_without_a_target_is_not_beside_what_was_aimed_at)
{
	struct buffers_window aimed = window(16, 512, 256, 1);
	struct buffers_window wanted = window(16, 512, 0, 1);
	unsigned beside = 0;

	for (unsigned i = 0; i < 200; i++) {
		struct buffers_search_cache hindsight = { 0 };
		struct buffers_span other, mapped;

		reset(_i);
		fake.random = i;
		ck_assert_int_eq(buffers_allocator_map(&aimed, 0, &hindsight, &other), 0);
		ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight, &mapped), 0);
		beside += mapped.end == other.start || mapped.start == other.end;
	}
	ck_assert_uint_lt(beside, 20);	/* one of 200 was to be expected */
}
END_TEST

/* Many users at different targets: what is known of each stays known. */
START_TEST(several_targets_are_remembered)
{
	struct buffers_search_cache hindsight = { 0 };
	struct buffers_span mapped;

	reset(_i);
	for (unsigned round = 0; round < 5; round++) {
		for (size_t i = 0; i < BUFFERS_SEARCH_ENTRIES; i++) {
			struct buffers_window wanted = window(16, 512, 50 + i * 50, 1);

			if (round == 0)
				ck_assert_int_eq(buffers_allocator_map(&wanted, 0, &hindsight,
								       &mapped), 0);
			else
				ck_assert_uint_eq(attempts_without_question(
					&wanted, 0, &hindsight, &mapped), 1);
		}
	}
}
END_TEST

START_TEST(room_of_heap_and_stack_is_the_last_resort)
{
	struct buffers_window wanted = window(100, 200, 150, 1);
	struct buffers_span mapped;

	reset(_i);
	fake.heap = (struct buffers_span){ PAGES(110), PAGES(150) };
	fake.stack = (struct buffers_span){ PAGES(160), PAGES(190) };
	for (unsigned left = 10 + 10 + 10; left; left--) {
		ck_assert_int_eq(map(&wanted, 0, &mapped), 0);
		ck_assert(!is_kept(mapped.start, mapped.end));
	}
	/* the heap grows up, so its far end goes first; the stack's is its low end */
	for (unsigned page = 149; page >= 110; page--) {
		ck_assert_int_eq(map(&wanted, 0, &mapped), 0);
		ck_assert_uint_eq(mapped.start, PAGES(page));
	}
	for (unsigned page = 160; page < 190; page++) {
		ck_assert_int_eq(map(&wanted, 0, &mapped), 0);
		ck_assert_uint_eq(mapped.start, PAGES(page));
	}
	ck_assert_int_eq(map(&wanted, 0, &mapped), EADDRNOTAVAIL);
}
END_TEST

START_TEST(last_resort_without_target_is_random_in_the_far_half)
{
	struct buffers_window wanted = window(100, 200, 0, 1);
	struct buffers_span mapped;
	bool differs = false;
	uintptr_t first = 0;

	for (unsigned i = 0; i < 100; i++) {
		reset(_i);
		fake.random = i;
		if (i < 50)
			fake.heap = (struct buffers_span){ PAGES(50), PAGES(250) };
		else
			fake.stack = (struct buffers_span){ PAGES(50), PAGES(250) };
		ck_assert_int_eq(map(&wanted, 0, &mapped), 0);
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

START_TEST(random_place_covers_the_range)
{
	struct buffers_window wanted = window(100, 110, 0, 1);
	struct buffers_span mapped;
	bool seen[10] = { false };

	for (unsigned i = 0; i < 1000; i++) {
		reset(_i);
		fake.random = i;
		ck_assert_int_eq(map(&wanted, 0, &mapped), 0);
		seen[mapped.start / FAKE_PAGE - 100] = true;
	}
	for (unsigned i = 0; i < 10; i++)
		ck_assert(seen[i]);
}
END_TEST

START_TEST(lost_race_goes_on)
{
	struct buffers_window wanted = window(100, 120, 110, 1);
	struct buffers_span mapped;

	reset(_i);
	fake.races = 19;
	ck_assert_int_eq(map(&wanted, 0, &mapped), 0);
	reset(_i);
	fake.races = 20;
	ck_assert_int_eq(map(&wanted, 0, &mapped), EADDRNOTAVAIL);
}
END_TEST

START_TEST(errors_end_the_search)
{
	struct buffers_window wanted = window(100, 120, 110, 1);
	struct buffers_search_cache hindsight = remembering(PAGES(110), PAGES(111), PAGES(1),
							 FAKE_PAGE);
	struct buffers_span mapped;
	static const int errors[] = { ENOMEM, EACCES };

	for (size_t i = 0; i < 2; i++) {
		reset(_i);
		fake.error = errors[i];
		ck_assert_int_eq(map(&wanted, 0, &mapped), errors[i]);
		ck_assert_uint_eq(fake.attempts, 1);
		ck_assert_int_eq(buffers_allocator_map(&wanted, PAGES(2), &hindsight, &mapped),
				 errors[i]);
		ck_assert_uint_eq(fake.opened, 0);
	}
}
END_TEST

START_TEST(random_place_is_not_the_edge_of_the_heap)
{
	struct buffers_window wanted = window(100, 200, 0, 1);
	struct buffers_span mapped;
	unsigned edges = 0;

	for (unsigned i = 0; i < 200; i++) {
		reset(_i);
		fake.random = i;
		fake.heap = (struct buffers_span){ PAGES(120), PAGES(170) };
		ck_assert_int_eq(map(&wanted, 0, &mapped), 0);
		edges += mapped.end == fake.heap.start || mapped.start == fake.heap.end;
	}
	ck_assert_uint_lt(edges, 30);	/* 8 were to be expected; 108 of a careless draw */
}
END_TEST

/* A sanitizer's runtime, or an emulator, that will not map what seems free. */
START_TEST(refused_stretches_are_left_quickly)
{
	struct buffers_window wanted = window(16, 512, 256, 1);
	struct buffers_span mapped;

	reset(_i);
	memset(&fake.refused[20], 1, 480);
	ck_assert_int_eq(map(&wanted, 0, &mapped), 0);
	ck_assert_uint_lt(fake.attempts, 40);

	/* where that leaps over what there is, the system is asked for any place */
	reset(_i);
	memset(&fake.refused[16], 1, 496);
	fake.refused[100] = false;
	ck_assert_int_eq(map(&wanted, 0, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(100));

	/* which counts only when it is aligned */
	reset(_i);
	memset(&fake.refused[16], 1, 496);
	fake.refused[101] = false;
	wanted.alignment = PAGES(2);
	ck_assert_int_eq(map(&wanted, 0, &mapped), EADDRNOTAVAIL);
	ck_assert(!fake.mapped[101]);
	wanted.alignment = 1;

	/* and in the range */
	reset(_i);
	memset(&fake.refused[16], 1, 496);
	fake.refused[100] = false;
	wanted.range.start = PAGES(101);
	ck_assert_int_eq(map(&wanted, 0, &mapped), EADDRNOTAVAIL);
	ck_assert(!fake.mapped[100]);
	fake.refused[100] = true;
	ck_assert_int_eq(map(&wanted, 0, &mapped), ENOMEM);
}
END_TEST

/* An emulator that holds all addresses, and lists these. */
START_TEST(where_all_seems_occupied_the_system_is_asked)
{
	struct buffers_window wanted = window(16, 512, 256, 3);
	struct buffers_span mapped;

	SKIP_IF(kinds[_i] == BUFFERS_MAPS_QUERY, "emulators answer no questions");
	reset(_i);
	fake.seems_full = true;
	ck_assert_int_eq(map(&wanted, 0, &mapped), 0);
	ck_assert_uint_eq(mapped.end, PAGES(512));
	wanted.range.end = PAGES(500);
	ck_assert_int_eq(map(&wanted, 0, &mapped), EADDRNOTAVAIL);
	fill(16, 512);
	ck_assert_int_eq(map(&wanted, 0, &mapped), EADDRNOTAVAIL);
}
END_TEST

/*
 * Another process
 */

START_TEST(nearest_place_of_another_process_is_taken)
{
	uint64_t seed = seed_random();
	unsigned rounds = how_many(20000, 20000);

	for (unsigned round = 0; round < rounds; round++) {
		size_t density = 1 + random_below(&seed, 20);
		struct buffers_window wanted = window(random_below(&seed, FAKE_PAGES), FAKE_PAGES + 9,
						      1 + random_below(&seed, FAKE_PAGES),
						      1 + random_below(&seed, 6));
		struct buffers_span mapped;
		size_t least;
		int error;

		reset(0);
		for (size_t page = 0; page < FAKE_PAGES; page++)
			fake.mapped[page] = random_below(&seed, 20) < density;
		least = nearest_of_all(&wanted, true);
		error = buffers_allocator_map_in(FAKE_PROCESS, &wanted, &mapped);
		ck_assert_uint_eq(fake.opened, 0);
		ck_assert_int_eq(error, least == SIZE_MAX ? EADDRNOTAVAIL : 0);
		ck_assert_uint_eq(fake.elsewhere, fake.attempts);
		if (error)
			continue;
		ck_assert_uint_eq(mapped.end - mapped.start, wanted.size);
		ck_assert_int_eq(buffers_allocator_unmap_in(FAKE_PROCESS, mapped), 0);
		ck_assert_uint_eq(fake.opened, 0);
		ck_assert_uint_eq(distance(&wanted, mapped.start), least);
	}
}
END_TEST

START_TEST(own_heap_and_stack_are_nothing_to_another_process)
{
	struct buffers_window wanted = window(0, FAKE_PAGES, 100, 1);
	struct buffers_span mapped;

	reset(0);
	fake.heap = (struct buffers_span){ PAGES(90), PAGES(110) };
	ck_assert_int_eq(buffers_allocator_map_in(FAKE_PROCESS, &wanted, &mapped), 0);
	ck_assert_uint_eq(mapped.start, PAGES(100));
}
END_TEST

START_TEST(without_a_target_a_random_place_of_another_process_is_taken)
{
	struct buffers_window wanted = window(0, FAKE_PAGES, 0, 1);
	unsigned lower = 0;

	reset(0);
	for (unsigned i = 0; i < 100; i++) {
		struct buffers_span mapped;

		ck_assert_int_eq(buffers_allocator_map_in(FAKE_PROCESS, &wanted, &mapped), 0);
		lower += mapped.start < PAGES(FAKE_PAGES / 2);
	}
	ck_assert_uint_gt(lower, 20);
	ck_assert_uint_lt(lower, 80);
}
END_TEST

START_TEST(errors_of_another_process_are_handed_on)
{
	static const int errors[] = { EINVAL, EACCES, ENOMEM };
	struct buffers_window wanted = window(0, FAKE_PAGES, 100, 1);
	struct buffers_span mapped;

	reset(0);
	ck_assert_int_eq(buffers_allocator_map_in(FAKE_PROCESS + 1, &wanted, &mapped), EINVAL);
	ck_assert_int_eq(buffers_allocator_unmap_in(FAKE_PROCESS + 1, mapped), EINVAL);
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		fake.error = errors[i];
		ck_assert_int_eq(buffers_allocator_map_in(FAKE_PROCESS, &wanted, &mapped), errors[i]);
		ck_assert_uint_eq(fake.opened, 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("unit-allocator");
	TCase *random = tcase_create("random");
	TCase *rules = tcase_create("rules");
	TCase *other = tcase_create("another process");

	tcase_set_tags(random, "slow");
	tcase_set_timeout(random, 300);
	tcase_add_loop_test(random, nearest_place_is_taken_in_random_spaces, 0, KINDS);
	tcase_add_loop_test(random, hindsight_changes_no_result, 0, KINDS);
	suite_add_tcase(suite, random);

	tcase_add_test(rules, hindsight_saves_questions);
	tcase_add_loop_test(rules, freed_place_is_the_nearest_again, 0, KINDS);
	tcase_add_loop_test(rules, freed_place_across_an_empty_span_is_found, 0, KINDS);
	tcase_add_loop_test(rules, longer_place_may_reach_into_what_is_full, 0, KINDS);
	tcase_add_loop_test(rules, narrow_range_hides_no_place_from_a_wide_one, 0, KINDS);
	tcase_add_loop_test(rules, stale_hindsight_hides_no_place, 0, KINDS);
	tcase_add_loop_test(rules, hole_of_exactly_the_size_is_used, 0, KINDS);
	tcase_add_loop_test(rules, range_is_kept_to_the_byte, 0, KINDS);
	tcase_add_loop_test(rules, nothing_is_sought_outside_the_limits, 0, KINDS);
	tcase_add_loop_test(rules, preferred_size_is_taken_where_it_fits, 0, KINDS);
	tcase_add_loop_test(rules, preferred_size_yields_to_the_heap, 0, KINDS);
	tcase_add_loop_test(rules, preferred_size_yields_to_a_limit_on_memory, 0, KINDS);
	tcase_add_loop_test(rules, last_place_is_extended_by_one_mapping, 0, KINDS);
	tcase_add_loop_test(rules, random_place_is_extended_by_one_mapping, 0, KINDS);
	tcase_add_loop_test(rules, few_occupied_pages_are_passed_without_a_question, 0, KINDS);
	tcase_add_loop_test(rules, nothing_is_extended_into_the_room_of_the_heap, 0, KINDS);
	tcase_add_loop_test(rules, several_targets_are_remembered, 0, KINDS);
	tcase_add_loop_test(rules, sizes_by_turns_are_both_remembered, 0, KINDS);
	tcase_add_loop_test(rules, place_freed_while_others_were_busy_is_the_nearest_again,
			    0, KINDS);
	tcase_add_loop_test(rules, memory_without_a_target_is_not_beside_what_was_aimed_at,
			    0, KINDS);
	tcase_add_loop_test(rules, room_of_heap_and_stack_is_the_last_resort, 0, KINDS);
	tcase_add_loop_test(rules, last_resort_without_target_is_random_in_the_far_half, 0, KINDS);
	tcase_add_loop_test(rules, random_place_covers_the_range, 0, KINDS);
	tcase_add_loop_test(rules, random_place_is_not_the_edge_of_the_heap, 0, KINDS);
	tcase_add_loop_test(rules, lost_race_goes_on, 0, KINDS);
	tcase_add_loop_test(rules, errors_end_the_search, 0, KINDS);
	tcase_add_loop_test(rules, refused_stretches_are_left_quickly, 0, KINDS);
	tcase_add_loop_test(rules, where_all_seems_occupied_the_system_is_asked, 0, KINDS);
	suite_add_tcase(suite, rules);

	tcase_add_test(other, nearest_place_of_another_process_is_taken);
	tcase_add_test(other, own_heap_and_stack_are_nothing_to_another_process);
	tcase_add_test(other, without_a_target_a_random_place_of_another_process_is_taken);
	tcase_add_test(other, errors_of_another_process_are_handed_on);
	suite_add_tcase(suite, other);
	return run_suite_of_functions(suite);
}
