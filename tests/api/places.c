/* SPDX-License-Identifier: MIT */
/* api/places.c: requests for many places by turns, so many that a table has the item of each */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <pthread.h>
#include <stdlib.h>

#define KIB ((size_t)1 << 10)

/* Ranges of one page each, two in a MiB: these have the same entries of the table. */
enum { PLACES = 64, ROUNDS = 40 };
#define PLACE	 granularity()
#define DISTANCE (512 * KIB)

static uintptr_t start;

static void choose_places(void)
{
	struct buffers_request whole = {
		.size = PLACES * DISTANCE, .alignment = PLACE, .flags = BUFFERS_RW,
	};
	size_t allocated;
	void *memory = buffers_alloc(&whole, &allocated);

	ck_assert_ptr_nonnull(memory);
	start = (uintptr_t)memory;
	ck_assert_int_eq(buffers_free(memory, allocated), 0);
}

static struct buffers_request request_at(unsigned place, unsigned flags)
{
	uintptr_t address = start + place * DISTANCE;

	return (struct buffers_request){
		.min_address = address, .max_address = address + PLACE, .size = 1, .flags = flags,
	};
}

static struct buffers_item *get_at(unsigned place, unsigned flags)
{
	struct buffers_request request = request_at(place, flags);
	struct buffers_item *item = buffers_get(&request);

	ck_assert_ptr_nonnull(item);
	ck_assert_uint_ge((uintptr_t)buffers_next(item), request.min_address);
	ck_assert_uint_le((uintptr_t)buffers_next(item) + buffers_remaining(item),
			  request.max_address);
	return item;
}

static void take_turns(unsigned flags)
{
	for (unsigned i = 0; i < ROUNDS * PLACES; i++)
		buffers_release(get_at(i % PLACES, flags));
}

static int count_buffer(const struct buffers_info *info, void *context)
{
	uintptr_t base = (uintptr_t)info->base;

	*(unsigned *)context += base >= start && base < start + PLACES * DISTANCE;
	return 0;
}

static unsigned count_buffers(void)
{
	unsigned count = 0;

	ck_assert_int_eq(buffers_walk(count_buffer, &count), 0);
	return count;
}

static const unsigned kinds[] = { 0, BUFFERS_RW, BUFFERS_RX };

START_TEST(each_place_keeps_its_one_buffer)
{
	struct buffers_item *items[PLACES];

	choose_places();
	take_turns(kinds[_i]);
	for (unsigned i = 0; i < PLACES; i++)
		buffers_release(items[i] = get_at(i, kinds[_i]));
	take_turns(kinds[_i]);
	for (unsigned i = 0; i < PLACES; i++) {
		ck_assert_ptr_eq(get_at(i, kinds[_i]), items[i]);
		buffers_release(items[i]);
	}
	ck_assert_uint_eq(count_buffers(), PLACES);
}
END_TEST

/* Requests that the item of the place does not suit: its size, alignment, range or holder. */
START_TEST(item_of_a_place_is_checked)
{
	struct buffers_request request;
	struct buffers_item *item, *other;

	choose_places();
	take_turns(0);
	item = get_at(5, 0);
	request = request_at(5, 0);
	ck_assert_ptr_null(buffers_get(&request));
	ck_assert_ptr_nonnull(buffers_reserve(item, PLACE / 2, 1));
	buffers_release(item);

	request.size = PLACE / 2 + 1;
	ck_assert_ptr_null(buffers_get(&request));
	request = request_at(5, 0);
	request.max_address -= 1;
	ck_assert_ptr_null(buffers_get(&request));
	request = request_at(5, 0);
	request.alignment = PLACE;
	ck_assert_ptr_null(buffers_get(&request));
	request.alignment = 3;
	ck_assert_ptr_null(buffers_get(&request));
	request = request_at(5, 0);
	request.reserved[0] = 1;
	ck_assert_ptr_null(buffers_get(&request));
	other = get_at(6, 0);
	ck_assert_ptr_eq(get_at(5, 0), item);
	buffers_release(item);
	buffers_release(other);
}
END_TEST

/* Room that was given back comes first, also where the table has an item. */
START_TEST(given_room_comes_before_the_item_of_a_place)
{
	struct buffers_item *item;
	void *piece;

	choose_places();
	take_turns(0);
	item = get_at(7, 0);
	piece = buffers_reserve(item, 100, 1);
	ck_assert_ptr_nonnull(piece);
	ck_assert_ptr_nonnull(buffers_reserve(item, 1, 1));
	buffers_release(item);
	ck_assert_int_eq(buffers_give_back(piece, 100), 0);
	item = get_at(7, 0);
	ck_assert_ptr_eq(buffers_next(item), piece);
	buffers_release(item);
}
END_TEST

/* One at a time holds an item. */
static uint32_t is_held[PLACES];

static void *hold_by_turns(void *failure)
{
	for (unsigned i = 0; i < 50 * PLACES; i++) {
		unsigned place = i % PLACES;
		struct buffers_request request = request_at(place, 0);
		struct buffers_item *item = buffers_get(&request);

		if (!item)
			continue;
		if (__atomic_exchange_n(&is_held[place], 1, __ATOMIC_RELAXED) ||
		    (uintptr_t)buffers_base(item) != request.min_address)
			return failure;
		__atomic_store_n(&is_held[place], 0, __ATOMIC_RELAXED);
		buffers_release(item);
	}
	return NULL;
}

START_TEST(threads_take_an_item_of_a_place_one_at_a_time)
{
	enum { THREADS = 4 };
	static char failure;
	pthread_t threads[THREADS];
	void *failed;

	choose_places();
	take_turns(0);
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, hold_by_turns, &failure), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &failed);
		ck_assert_ptr_null(failed);
	}
	ck_assert_uint_eq(count_buffers(), PLACES);
}
END_TEST

#if CAN_FORK
/* The items of the parent are at these addresses, so there is no room for others. */
static int find_no_item(void *context)
{
	(void)context;
	for (unsigned i = 0; i < PLACES; i++) {
		struct buffers_request request = request_at(i, 0);

		STEP(!buffers_get(&request));
	}
	return 0;
}

START_TEST(child_does_not_take_its_parents_items)
{
	choose_places();
	take_turns(0);
	run_child(find_no_item, NULL);
}
END_TEST
#endif

int main(void)
{
	Suite *suite = suite_create("api/places");
	TCase *all = tcase_create("places");

	tcase_set_timeout(all, 120);
	tcase_add_loop_test(all, each_place_keeps_its_one_buffer, 0, 3);
	tcase_add_test(all, item_of_a_place_is_checked);
	tcase_add_test(all, given_room_comes_before_the_item_of_a_place);
	tcase_add_test(all, threads_take_an_item_of_a_place_one_at_a_time);
#if CAN_FORK
	tcase_add_test(all, child_does_not_take_its_parents_items);
#endif
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
