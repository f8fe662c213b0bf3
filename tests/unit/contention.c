/* SPDX-License-Identifier: MIT */
/* unit-crowd.c: who is avoided by others, who is told, and who is forgotten */

#include "config.h"
#include "locator/contention.h"
#include "locator/locator.h"
#include "support/support.h"

#include <pthread.h>

enum { CACHE_LINE = 64, OWN = 1, OTHER, THIRD };

/* Two locators next to each other, in which items lie as they do in a process. */
static union {
	struct buffers_locator locator;
	char page[BUFFERS_LOCATOR_SIZE];
} pages[2] __attribute__((aligned(BUFFERS_LOCATOR_SIZE)));

/* When a test begins: the count of those who sat down comes round some day. */
static const uint32_t times[] = {
	0, INT32_MAX - 1, INT32_MAX, UINT32_MAX - 2, UINT32_MAX - 1, UINT32_MAX,
};
enum { TIMES = sizeof(times) / sizeof(times[0]) };

static struct buffers_item *item(unsigned number)
{
	unsigned capacity = BUFFERS_LOCATOR_CAPACITY;

	return &pages[number / capacity].locator.items[number % capacity];
}

static unsigned count_items(void)
{
	return 2 * BUFFERS_LOCATOR_CAPACITY;
}

/* Far from all that tests use otherwise. */
static struct buffers_item *far_item(unsigned number)
{
	return item(count_items() - 1 - 10 * number);
}

/* Changes to this item from another that it leaves to others. */
static void sit_twice(struct buffers_contention *crowd, unsigned seat, struct buffers_item *at)
{
	buffers_contention_claim(crowd, seat, far_item(seat));
	buffers_contention_claim(crowd, seat, at);
}

static bool is_avoided(const struct buffers_contention *crowd, unsigned seat,
		       const struct buffers_item *at)
{
	struct buffers_busy busy;

	buffers_contention_list(crowd, seat, &busy);
	ck_assert_uint_lt(busy.count, BUFFERS_CONTENTION_SLOTS);
	return buffers_contention_is_near(&busy, at);
}

/* Byte by byte. */
static bool share_a_line(const struct buffers_item *a, const struct buffers_item *b)
{
	for (size_t i = 0; i < sizeof(*a); i++)
		for (size_t j = 0; j < sizeof(*b); j++)
			if (((uintptr_t)a + i) / CACHE_LINE == ((uintptr_t)b + j) / CACHE_LINE)
				return true;
	return false;
}

START_TEST(nobody_is_avoided_at_first)
{
	struct buffers_contention crowd = { .time = times[_i] };

	for (unsigned i = 0; i < count_items(); i++)
		ck_assert(!is_avoided(&crowd, i, item(i)));
}
END_TEST

START_TEST(who_sat_once_is_not_avoided)
{
	struct buffers_contention crowd = { .time = times[_i] };

	ck_assert(buffers_contention_claim(&crowd, OTHER, item(5)));
	ck_assert(!is_avoided(&crowd, OWN, item(5)));
	ck_assert(buffers_contention_claim(&crowd, OWN, item(5)));
}
END_TEST

/* It leaves nothing to others, so it uses none again and again. */
START_TEST(who_keeps_its_item_is_not_avoided)
{
	struct buffers_contention crowd = { .time = times[_i] };

	far_item(1)->is_taken = 1;
	buffers_contention_claim(&crowd, OTHER, far_item(1));
	buffers_contention_claim(&crowd, OTHER, item(5));
	ck_assert(!is_avoided(&crowd, OWN, item(5)));
	ck_assert(buffers_contention_claim(&crowd, OWN, item(5)));
	far_item(1)->is_taken = 0;
}
END_TEST

START_TEST(who_comes_back_to_its_item_is_not_avoided)
{
	struct buffers_contention crowd = { .time = times[_i] };

	for (unsigned i = 0; i < 3; i++)
		buffers_contention_claim(&crowd, OTHER, item(5));
	ck_assert(!is_avoided(&crowd, OWN, item(5)));
	ck_assert(buffers_contention_claim(&crowd, OWN, item(5)));
}
END_TEST

/* Each item against each other one, those that lie on two lines included. */
START_TEST(who_sat_twice_is_avoided_on_its_cache_lines_and_only_there)
{
	unsigned straddling = 0;

	for (unsigned i = 0; i < count_items(); i++) {
		struct buffers_contention crowd = { .time = 0 };
		struct buffers_busy busy;

		buffers_contention_claim(&crowd, OTHER, item((i + 200) % count_items()));
		buffers_contention_claim(&crowd, OTHER, item(i));
		buffers_contention_list(&crowd, OWN, &busy);
		ck_assert_uint_eq(busy.count, 1);
		for (unsigned j = 0; j < count_items(); j++)
			if (buffers_contention_is_near(&busy, item(j)) != share_a_line(item(i), item(j)))
				ck_abort_msg("items %u and %u", i, j);
		straddling += (uintptr_t)item(i) / CACHE_LINE !=
			      ((uintptr_t)(item(i) + 1) - 1) / CACHE_LINE;
	}
	ck_assert(sizeof(uintptr_t) < 8 || straddling > 50);
}
END_TEST

START_TEST(who_sits_down_is_told_on_the_same_cache_lines_and_only_there)
{
	unsigned first = 20 + (unsigned)_i;

	for (unsigned j = 0; j < 60; j++) {
		struct buffers_contention crowd = { .time = times[_i % TIMES] };

		sit_twice(&crowd, OTHER, item(first));
		ck_assert_int_eq(buffers_contention_claim(&crowd, OWN, item(j)),
				 !share_a_line(item(first), item(j)));
	}
}
END_TEST

START_TEST(own_seat_is_never_avoided)
{
	for (unsigned seat = 0; seat < 3 * BUFFERS_CONTENTION_SLOTS; seat++) {
		struct buffers_contention crowd = { .time = times[_i] };

		sit_twice(&crowd, seat, item(5));
		ck_assert(is_avoided(&crowd, seat + 1, item(5)));
		ck_assert(!is_avoided(&crowd, seat, item(5)));
		ck_assert(buffers_contention_claim(&crowd, seat, item(6)));
	}
}
END_TEST

/* Each finds a line of its own, and all the others are avoided by it. */
START_TEST(all_seats_are_seen)
{
	struct buffers_contention crowd = { .time = times[_i] };

	for (unsigned seat = 0; seat < BUFFERS_CONTENTION_SLOTS; seat++)
		buffers_contention_claim(&crowd, seat, far_item(seat));
	for (unsigned seat = 0; seat < BUFFERS_CONTENTION_SLOTS; seat++)
		ck_assert(buffers_contention_claim(&crowd, seat, item(10 * seat)));
	for (unsigned seat = 0; seat < BUFFERS_CONTENTION_SLOTS; seat++)
		for (unsigned other = 0; other < BUFFERS_CONTENTION_SLOTS; other++)
			ck_assert_int_eq(is_avoided(&crowd, seat, item(10 * other)),
					 seat != other);
}
END_TEST

START_TEST(of_two_the_later_one_is_told)
{
	struct buffers_contention crowd = { .time = times[_i] };

	buffers_contention_claim(&crowd, OWN, far_item(1));
	buffers_contention_claim(&crowd, OTHER, far_item(2));
	ck_assert(buffers_contention_claim(&crowd, OWN, item(5)));
	ck_assert(!buffers_contention_claim(&crowd, OTHER, item(5)));
	ck_assert(buffers_contention_claim(&crowd, OTHER, item(25)));
	ck_assert(!buffers_contention_claim(&crowd, OWN, item(25)));
	ck_assert(!buffers_contention_claim(&crowd, THIRD, item(25)));
}
END_TEST

static void others_sit_down(struct buffers_contention *crowd, unsigned often)
{
	for (unsigned i = 0; i < often; i++)
		ck_assert(buffers_contention_claim(crowd, THIRD, far_item(4 + i % 2)));
}

/* Each other one once is not often. */
START_TEST(busy_one_is_forgotten_when_others_have_sat_down_often)
{
	struct buffers_contention crowd = { .time = times[_i] };

	sit_twice(&crowd, OTHER, item(5));
	others_sit_down(&crowd, BUFFERS_CONTENTION_SLOTS - 1);
	ck_assert(is_avoided(&crowd, OWN, item(5)));
	ck_assert(!buffers_contention_claim(&crowd, OWN, item(5)));
	others_sit_down(&crowd, 3 * BUFFERS_CONTENTION_SLOTS);
	ck_assert(!is_avoided(&crowd, OWN, item(5)));
	ck_assert(!is_avoided(&crowd, OWN, far_item(OTHER)));
	ck_assert(buffers_contention_claim(&crowd, OWN, item(6)));

	sit_twice(&crowd, OTHER, item(55));
	ck_assert(is_avoided(&crowd, OWN, item(55)));
}
END_TEST

/*
 * More threads than seats
 */

enum { THREADS = 2 * BUFFERS_CONTENTION_SLOTS + 1 };

static struct buffers_contention shared;

struct guest {
	pthread_t thread;
	unsigned seat;
	uint64_t seed;
	const char *fault;
};

static bool is_ours(const struct buffers_item *at)
{
	return at >= item(0) && at <= item(count_items() - 1);
}

static const char *change(struct guest *guest)
{
	struct buffers_item *own = item((unsigned)random_below(&guest->seed, count_items()));
	struct buffers_busy busy;

	buffers_contention_list(&shared, guest->seat, &busy);
	if (busy.count >= BUFFERS_CONTENTION_SLOTS)
		return "more are busy than there are others";
	for (unsigned i = 0; i < busy.count; i++)
		if (!is_ours(busy.items[i]) || !buffers_contention_is_near(&busy, busy.items[i]))
			return "someone is busy with what is no item";
	buffers_contention_claim(&shared, guest->seat, own);
	return NULL;
}

static void *change_often(void *context)
{
	struct guest *guest = context;

	for (unsigned i = 0; i < how_many(5000, 500000) && !guest->fault; i++)
		guest->fault = change(guest);
	return NULL;
}

START_TEST(more_threads_than_seats_do_no_harm)
{
	struct guest guests[THREADS];
	uint64_t seed = seed_random();

	for (unsigned i = 0; i < THREADS; i++) {
		guests[i] = (struct guest){ .seat = i, .seed = next_random(&seed) };
		ck_assert_int_eq(pthread_create(&guests[i].thread, NULL, change_often,
						&guests[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(guests[i].thread, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_msg(!guests[i].fault, "%s", guests[i].fault);
	ck_assert_uint_eq(shared.time, THREADS * how_many(5000, 500000));
	for (unsigned i = 0; i < 2 * BUFFERS_CONTENTION_SLOTS; i++)	/* until the guests are forgotten */
		buffers_contention_claim(&shared, OTHER, item(0));
	sit_twice(&shared, OTHER, item(5));
	ck_assert(is_avoided(&shared, OWN, item(5)));
	ck_assert(!is_avoided(&shared, OTHER + THREADS - 1, item(5)));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("unit-crowd");
	TCase *all = tcase_create("crowd");

	tcase_add_loop_test(all, nobody_is_avoided_at_first, 0, TIMES);
	tcase_add_loop_test(all, who_sat_once_is_not_avoided, 0, TIMES);
	tcase_add_loop_test(all, who_keeps_its_item_is_not_avoided, 0, TIMES);
	tcase_add_loop_test(all, who_comes_back_to_its_item_is_not_avoided, 0, TIMES);
	tcase_add_test(all, who_sat_twice_is_avoided_on_its_cache_lines_and_only_there);
	tcase_add_loop_test(all, who_sits_down_is_told_on_the_same_cache_lines_and_only_there,
			    0, 30);
	tcase_add_loop_test(all, own_seat_is_never_avoided, 0, TIMES);
	tcase_add_loop_test(all, all_seats_are_seen, 0, TIMES);
	tcase_add_loop_test(all, of_two_the_later_one_is_told, 0, TIMES);
	tcase_add_loop_test(all, busy_one_is_forgotten_when_others_have_sat_down_often, 0, TIMES);
	tcase_add_test(all, more_threads_than_seats_do_no_harm);
	suite_add_tcase(suite, all);
	return run_suite_of_functions(suite);
}
