/* SPDX-License-Identifier: MIT */
/*
 * api/reuse.c: requests in several ranges use the free space of existing buffers
 *
 * For every pattern of requests, the number of buffers with free space for a request is at
 * most about the number of items that were held at once.
 */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum {
	MANY_RANGES = 9,
	MANY_HELD = 200,
	BESIDE_LOCATORS = 3,	/* where pages are larger than a locator, the rest is a buffer */
};
#define RANGE (32 * MIB)

/* Addresses that were free before the first request. */
static uintptr_t ranges[MANY_RANGES];

static void choose_ranges(void)
{
	struct buffers_request whole = { .size = RANGE, .alignment = MIB, .flags = BUFFERS_RW };
	size_t allocated;

	for (unsigned i = 0; i < MANY_RANGES; i++) {
		void *memory = buffers_alloc(&whole, &allocated);

		ck_assert_ptr_nonnull(memory);
		ranges[i] = (uintptr_t)memory;
	}
	for (unsigned i = 0; i < MANY_RANGES; i++)
		ck_assert_int_eq(buffers_free((void *)ranges[i], allocated), 0);
}

static struct buffers_request request_in(unsigned range, size_t size, size_t alignment)
{
	return (struct buffers_request){
		.min_address = ranges[range], .max_address = ranges[range] + RANGE,
		.size = size, .alignment = alignment,
	};
}

static struct buffers_item *get_in(unsigned range, size_t size, size_t alignment)
{
	struct buffers_request request = request_in(range, size, alignment);
	struct buffers_item *item = buffers_get(&request);

	ck_assert_ptr_nonnull(item);
	return item;
}

/* Gets an item by a range that only its free space suits. */
static struct buffers_item *get_again(const struct buffers_item *item)
{
	uintptr_t next = (uintptr_t)buffers_next(item);
	struct buffers_request request = {
		.min_address = next, .max_address = next + buffers_remaining(item), .size = 1,
	};

	return buffers_get(&request);
}

/* Buffers of this library in the ranges, with at least this many free bytes. */
struct tally {
	size_t least, buffers;
};

static int tally_buffer(const struct buffers_info *info, void *context)
{
	uintptr_t base = (uintptr_t)info->base;
	struct tally *tally = context;

	for (unsigned i = 0; i < MANY_RANGES; i++)
		tally->buffers += base >= ranges[i] && base < ranges[i] + RANGE &&
				  info->size - info->used >= tally->least;
	return 0;
}

static size_t count_buffers(size_t least)
{
	struct tally tally = { .least = least };

	ck_assert_int_eq(buffers_walk(tally_buffer, &tally), 0);
	return tally.buffers;
}

/* Calls in turn in two or more ranges; nothing is appended. */
static void check_calls_reuse(unsigned many, size_t size, size_t alignment)
{
	size_t before = count_buffers(0);

	for (unsigned call = 0; call < 300 * many; call++)
		buffers_release(get_in(call % many, size, alignment));
	ck_assert_uint_le(count_buffers(0), before + many + BESIDE_LOCATORS);
}

static const unsigned numbers_of_ranges[] = { 1, 2, 9 };
enum { NUMBERS = sizeof(numbers_of_ranges) / sizeof(numbers_of_ranges[0]) };

START_TEST(calls_in_turn_pass_held_items)
{
	unsigned many = numbers_of_ranges[_i];

	choose_ranges();
	for (unsigned i = 0; i < 40 * many; i++)
		get_in(i % many, 64 * KIB, 1);
	check_calls_reuse(many, 48, 1);
	check_calls_reuse(many, 48, 64);
}
END_TEST

START_TEST(calls_in_turn_pass_items_that_the_alignment_does_not_suit)
{
	static const struct { size_t size, alignment; } wanted[] = {
		{ 48, 64 }, { 48, 4096 }, { 60000, 4096 }, { 64 * KIB - 16, 64 }, { 48, 128 * KIB },
	};
	unsigned many = numbers_of_ranges[_i % NUMBERS];
	size_t size = wanted[_i / NUMBERS].size;
	static struct buffers_item *held[40 * MANY_RANGES];

	choose_ranges();
	for (unsigned i = 0; i < 40 * many; i++) {
		held[i] = get_in(i % many, 128 * KIB - 1, 1);
		ck_assert_ptr_nonnull(buffers_reserve(held[i],
						      buffers_remaining(held[i]) - size - 7, 1));
	}
	for (unsigned i = 0; i < 40 * many; i++)
		buffers_release(held[i]);
	check_calls_reuse(many, size, wanted[_i / NUMBERS].alignment);
}
END_TEST

/* Their holders release all items, and other users need as many again. */
START_TEST(released_items_are_used_again)
{
	unsigned many = numbers_of_ranges[_i];
	struct buffers_item *held[MANY_HELD];
	size_t before;

	choose_ranges();
	for (unsigned i = 0; i < MANY_HELD; i++)
		held[i] = get_in(i % many, 64 * KIB, 1);
	check_calls_reuse(many, 48, 1);
	before = count_buffers(0);
	for (unsigned i = 0; i < MANY_HELD; i++)
		buffers_release(held[i]);
	for (unsigned i = 0; i < MANY_HELD; i++)
		get_in(i % many, 48, 1);
	ck_assert_uint_le(count_buffers(0),
			  before + MANY_HELD / 32 + many + BESIDE_LOCATORS);
}
END_TEST

/*
 * Items are released and taken again through ranges of their own, from the highest one down, so
 * that no search passes them.  The requests that follow pass all of them.
 */
START_TEST(held_items_that_no_search_has_passed_do_not_conceal_free_ones)
{
	enum { MORE = 10, CYCLES = 40 };
	struct buffers_item *held[MANY_HELD], *more[MORE];

	choose_ranges();
	for (unsigned i = 0; i < MANY_HELD; i++)
		held[i] = get_in(0, 48, 1);
	for (unsigned cycle = 0; cycle < CYCLES; cycle++) {
		for (unsigned i = 0; i < MANY_HELD; i++)
			buffers_release(held[i]);
		for (unsigned i = MANY_HELD; i-- > 0;)
			ck_assert_ptr_eq(get_again(held[i]), held[i]);
		for (unsigned i = 0; i < MORE; i++)
			more[i] = get_in(0, 48, 1);
		for (unsigned i = 0; i < MORE; i++)
			buffers_release(more[i]);
	}
	ck_assert_uint_le(count_buffers(0), MANY_HELD + MORE + MANY_HELD / 32 + BESIDE_LOCATORS);
}
END_TEST

/*
 * An arena's holders do not show items.  Some items are held for good, the others until a few
 * more have been taken.
 */
START_TEST(arena_has_few_more_items_than_are_held)
{
	enum { FOR_GOOD = 100, IN_TURN = 20, CHUNK = 64 * 1024 };
	struct buffers_request window = { .size = RANGE };
	struct buffers_arena *arena = buffers_arena_create(&window, (unsigned)_i *
							   BUFFERS_ARENA_FORK_SHARED);
	struct buffers_item *held[IN_TURN] = { NULL };
	uintptr_t start = UINTPTR_MAX, end = 0;

	SKIP_IF(!arena && errno == ENOSYS, "memory cannot be shared with children here");
	SKIP_IF(is_tsan() && _i, "TSan follows at most 64 locks of a thread");
	ck_assert_ptr_nonnull(arena);
	for (unsigned i = 0; i < FOR_GOOD + how_many(20000, 200000); i++) {
		struct buffers_item **slot = &held[i % IN_TURN];

		if (i >= FOR_GOOD)
			buffers_release(*slot);
		*slot = buffers_arena_get(arena, 48, 1);
		ck_assert_ptr_nonnull(*slot);
		if ((uintptr_t)buffers_base(*slot) < start)
			start = (uintptr_t)buffers_base(*slot);
		if ((uintptr_t)buffers_base(*slot) > end)
			end = (uintptr_t)buffers_base(*slot);
	}
	ck_assert_uint_le((end - start) / CHUNK + 1, FOR_GOOD + FOR_GOOD / 32 + IN_TURN);
}
END_TEST

/*
 * Random sizes, alignments, ranges and times of holding.  The buffers of a range whose free
 * space suits any of the requests are at most those that were held at once, and a few.
 */
START_TEST(random_requests_leave_few_buffers_with_free_space)
{
	enum { MOST_BYTES = 1500, MOST_ALIGNMENT = 512 };
	static struct { struct buffers_item *item; unsigned range; } held[MANY_HELD], *slot;
	static unsigned held_in[MANY_RANGES], most_in[MANY_RANGES];
	unsigned many = numbers_of_ranges[_i % NUMBERS];
	unsigned most_held = _i < NUMBERS ? 1 : MANY_HELD;
	size_t bound = MANY_HELD / 32 + many + BESIDE_LOCATORS;
	uint64_t seed = seed_random();

	choose_ranges();
	for (unsigned i = 0; i < how_many(15000, 15000); i++) {
		size_t size = 1 + random_below(&seed, MOST_BYTES);
		size_t alignment = (size_t)1 << random_below(&seed, 10);

		slot = &held[random_below(&seed, most_held)];
		held_in[slot->range] -= slot->item != NULL;
		buffers_release(slot->item);
		slot->range = (unsigned)random_below(&seed, many);
		slot->item = get_in(slot->range, size, alignment);
		if (++held_in[slot->range] > most_in[slot->range])
			most_in[slot->range]++;
		ck_assert_ptr_nonnull(buffers_reserve(slot->item, random_below(&seed, size + 1), 1));
	}
	for (unsigned range = 0; range < many; range++)
		bound += most_in[range];
	ck_assert_uint_le(count_buffers(MOST_BYTES + MOST_ALIGNMENT - 1), bound);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("api/reuse");
	TCase *all = tcase_create("reuse");

	tcase_set_timeout(all, 300);
	tcase_add_loop_test(all, calls_in_turn_pass_held_items, 0, NUMBERS);
	tcase_add_loop_test(all, calls_in_turn_pass_items_that_the_alignment_does_not_suit, 0,
			    5 * NUMBERS);
	tcase_add_loop_test(all, released_items_are_used_again, 0, NUMBERS);
	tcase_add_test(all, held_items_that_no_search_has_passed_do_not_conceal_free_ones);
	tcase_add_loop_test(all, arena_has_few_more_items_than_are_held, 0, 2);
	tcase_add_loop_test(all, random_requests_leave_few_buffers_with_free_space, 0, 2 * NUMBERS);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
