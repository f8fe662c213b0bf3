/* SPDX-License-Identifier: MIT */
/* unit/contention: avoiding cache lines that other threads write (false sharing) */

#include "config.h"
#include "locator/contention.h"
#include "locator/locator.h"
#include "support/support.h"

#include <pthread.h>

enum { CACHE_LINE = 64, OWN = 1, OTHER, THIRD };

/*
 * Two adjacent locators.  Their items have the same positions in cache lines as in a real
 * process.
 */
static union {
	struct buffers_locator locator;
	char page[BUFFERS_LOCATOR_SIZE];
} pages[2] __attribute__((aligned(BUFFERS_LOCATOR_SIZE)));

/* Start values of the claim counter; some tests let it wrap around. */
static const uint32_t times[] = {
	0, INT32_MAX - 1, INT32_MAX, UINT32_MAX - 2, UINT32_MAX - 1, UINT32_MAX,
};
enum { TIMES = sizeof(times) / sizeof(times[0]) };

static struct buffers_item *item_at(unsigned number)
{
	unsigned capacity = BUFFERS_LOCATOR_CAPACITY;

	return &pages[number / capacity].locator.items[number % capacity];
}

static unsigned count_items(void)
{
	return 2 * BUFFERS_LOCATOR_CAPACITY;
}

/* Items that lie far from all others that the tests use. */
static struct buffers_item *far_item(unsigned number)
{
	return item_at(count_items() - 1 - 10 * number);
}

/* Claims two items in turn and keeps neither, so that the slot counts as busy. */
static void claim_twice(struct buffers_contention *contention, unsigned slot,
			struct buffers_item *at)
{
	buffers_contention_claim(contention, slot, far_item(slot));
	buffers_contention_claim(contention, slot, at);
}

static bool is_avoided(const struct buffers_contention *contention, unsigned slot,
		       const struct buffers_item *at)
{
	struct buffers_busy busy;

	buffers_contention_list(contention, slot, &busy);
	ck_assert_uint_lt(busy.count, BUFFERS_CONTENTION_SLOTS);
	return buffers_contention_is_near(&busy, at);
}

/* Compares each byte of one item with each byte of the other. */
static bool share_a_line(const struct buffers_item *a, const struct buffers_item *b)
{
	for (size_t i = 0; i < sizeof(*a); i++)
		for (size_t j = 0; j < sizeof(*b); j++)
			if (((uintptr_t)a + i) / CACHE_LINE == ((uintptr_t)b + j) / CACHE_LINE)
				return true;
	return false;
}

START_TEST(no_item_is_avoided_at_first)
{
	struct buffers_contention contention = { .time = times[_i] };

	for (unsigned i = 0; i < count_items(); i++)
		ck_assert(!is_avoided(&contention, i, item_at(i)));
}
END_TEST

START_TEST(single_claim_is_not_avoided)
{
	struct buffers_contention contention = { .time = times[_i] };

	ck_assert(buffers_contention_claim(&contention, OTHER, item_at(5)));
	ck_assert(!is_avoided(&contention, OWN, item_at(5)));
	ck_assert(buffers_contention_claim(&contention, OWN, item_at(5)));
}
END_TEST

/* The thread keeps its previous item taken, so it does not compete for items again and again. */
START_TEST(claim_of_a_thread_that_keeps_its_item_is_not_avoided)
{
	struct buffers_contention contention = { .time = times[_i] };

	far_item(1)->is_taken = 1;
	buffers_contention_claim(&contention, OTHER, far_item(1));
	buffers_contention_claim(&contention, OTHER, item_at(5));
	ck_assert(!is_avoided(&contention, OWN, item_at(5)));
	ck_assert(buffers_contention_claim(&contention, OWN, item_at(5)));
	far_item(1)->is_taken = 0;
}
END_TEST

START_TEST(repeated_claim_of_one_item_is_not_avoided)
{
	struct buffers_contention contention = { .time = times[_i] };

	for (unsigned i = 0; i < 3; i++)
		buffers_contention_claim(&contention, OTHER, item_at(5));
	ck_assert(!is_avoided(&contention, OWN, item_at(5)));
	ck_assert(buffers_contention_claim(&contention, OWN, item_at(5)));
}
END_TEST

/* Every pair of items, including items that span two cache lines. */
START_TEST(second_claim_is_avoided_on_its_cache_lines_only)
{
	unsigned straddling = 0;

	for (unsigned i = 0; i < count_items(); i++) {
		struct buffers_contention contention = { .time = 0 };
		struct buffers_busy busy;

		buffers_contention_claim(&contention, OTHER, item_at((i + 200) % count_items()));
		buffers_contention_claim(&contention, OTHER, item_at(i));
		buffers_contention_list(&contention, OWN, &busy);
		ck_assert_uint_eq(busy.count, 1);
		for (unsigned j = 0; j < count_items(); j++)
			if (share_a_line(item_at(i), item_at(j)) !=
			    buffers_contention_is_near(&busy, item_at(j)))
				ck_abort_msg("items %u and %u", i, j);
		straddling += (uintptr_t)item_at(i) / CACHE_LINE !=
			      ((uintptr_t)(item_at(i) + 1) - 1) / CACHE_LINE;
	}
	ck_assert(sizeof(uintptr_t) < 8 || straddling > 50);
}
END_TEST

START_TEST(claim_fails_on_the_cache_lines_of_a_busy_slot_only)
{
	unsigned first = 20 + (unsigned)_i;

	for (unsigned j = 0; j < 60; j++) {
		struct buffers_contention contention = { .time = times[_i % TIMES] };

		claim_twice(&contention, OTHER, item_at(first));
		ck_assert_int_eq(buffers_contention_claim(&contention, OWN, item_at(j)),
				 !share_a_line(item_at(first), item_at(j)));
	}
}
END_TEST

START_TEST(own_slot_is_never_avoided)
{
	for (unsigned slot = 0; slot < 3 * BUFFERS_CONTENTION_SLOTS; slot++) {
		struct buffers_contention contention = { .time = times[_i] };

		claim_twice(&contention, slot, item_at(5));
		ck_assert(is_avoided(&contention, slot + 1, item_at(5)));
		ck_assert(!is_avoided(&contention, slot, item_at(5)));
		ck_assert(buffers_contention_claim(&contention, slot, item_at(6)));
	}
}
END_TEST

/* Each slot claims its own cache line and avoids those of all other slots. */
START_TEST(all_other_slots_are_avoided)
{
	struct buffers_contention contention = { .time = times[_i] };

	for (unsigned slot = 0; slot < BUFFERS_CONTENTION_SLOTS; slot++)
		buffers_contention_claim(&contention, slot, far_item(slot));
	for (unsigned slot = 0; slot < BUFFERS_CONTENTION_SLOTS; slot++)
		ck_assert(buffers_contention_claim(&contention, slot, item_at(10 * slot)));
	for (unsigned slot = 0; slot < BUFFERS_CONTENTION_SLOTS; slot++)
		for (unsigned other = 0; other < BUFFERS_CONTENTION_SLOTS; other++)
			ck_assert_int_eq(is_avoided(&contention, slot, item_at(10 * other)),
					 slot != other);
}
END_TEST

START_TEST(later_of_two_claims_fails)
{
	struct buffers_contention contention = { .time = times[_i] };

	buffers_contention_claim(&contention, OWN, far_item(1));
	buffers_contention_claim(&contention, OTHER, far_item(2));
	ck_assert(buffers_contention_claim(&contention, OWN, item_at(5)));
	ck_assert(!buffers_contention_claim(&contention, OTHER, item_at(5)));
	ck_assert(buffers_contention_claim(&contention, OTHER, item_at(25)));
	ck_assert(!buffers_contention_claim(&contention, OWN, item_at(25)));
	ck_assert(!buffers_contention_claim(&contention, THIRD, item_at(25)));
}
END_TEST

static void claim_by_third_slot(struct buffers_contention *contention, unsigned often)
{
	for (unsigned i = 0; i < often; i++)
		ck_assert(buffers_contention_claim(contention, THIRD, far_item(4 + i % 2)));
}

/* As many claims as there are other slots are not enough. */
START_TEST(busy_slot_expires_after_many_claims_of_others)
{
	struct buffers_contention contention = { .time = times[_i] };

	claim_twice(&contention, OTHER, item_at(5));
	claim_by_third_slot(&contention, BUFFERS_CONTENTION_SLOTS - 1);
	ck_assert(is_avoided(&contention, OWN, item_at(5)));
	ck_assert(!buffers_contention_claim(&contention, OWN, item_at(5)));
	claim_by_third_slot(&contention, 3 * BUFFERS_CONTENTION_SLOTS);
	ck_assert(!is_avoided(&contention, OWN, item_at(5)));
	ck_assert(!is_avoided(&contention, OWN, far_item(OTHER)));
	ck_assert(buffers_contention_claim(&contention, OWN, item_at(6)));

	claim_twice(&contention, OTHER, item_at(55));
	ck_assert(is_avoided(&contention, OWN, item_at(55)));
}
END_TEST

/*
 * More threads than slots
 */

enum { THREADS = 2 * BUFFERS_CONTENTION_SLOTS + 1 };

static struct buffers_contention shared;

struct worker {
	pthread_t thread;
	unsigned slot;
	uint64_t seed;
	const char *fault;
};

static bool is_test_item(const struct buffers_item *at)
{
	return at >= item_at(0) && at <= item_at(count_items() - 1);
}

static const char *claim_random_item(struct worker *worker)
{
	struct buffers_item *own = item_at((unsigned)random_below(&worker->seed, count_items()));
	struct buffers_busy busy;

	buffers_contention_list(&shared, worker->slot, &busy);
	if (busy.count >= BUFFERS_CONTENTION_SLOTS)
		return "more slots are busy than there are other slots";
	for (unsigned i = 0; i < busy.count; i++)
		if (!is_test_item(busy.items[i]) ||
		    !buffers_contention_is_near(&busy, busy.items[i]))
			return "a busy slot names an invalid item";
	buffers_contention_claim(&shared, worker->slot, own);
	return NULL;
}

static void *claim_often(void *context)
{
	struct worker *worker = context;

	for (unsigned i = 0; i < how_many(5000, 500000) && !worker->fault; i++)
		worker->fault = claim_random_item(worker);
	return NULL;
}

START_TEST(more_threads_than_slots_do_no_harm)
{
	struct worker workers[THREADS];
	uint64_t seed = seed_random();

	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .slot = i, .seed = next_random(&seed) };
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, claim_often,
						&workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_msg(!workers[i].fault, "%s", workers[i].fault);
	ck_assert_uint_eq(shared.time, THREADS * how_many(5000, 500000));
	/* These claims make those of the threads expire. */
	for (unsigned i = 0; i < 2 * BUFFERS_CONTENTION_SLOTS; i++)
		buffers_contention_claim(&shared, OTHER, item_at(0));
	claim_twice(&shared, OTHER, item_at(5));
	ck_assert(is_avoided(&shared, OWN, item_at(5)));
	ck_assert(!is_avoided(&shared, OTHER + THREADS - 1, item_at(5)));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("unit/contention");
	TCase *all = tcase_create("contention");

	tcase_add_loop_test(all, no_item_is_avoided_at_first, 0, TIMES);
	tcase_add_loop_test(all, single_claim_is_not_avoided, 0, TIMES);
	tcase_add_loop_test(all, claim_of_a_thread_that_keeps_its_item_is_not_avoided, 0, TIMES);
	tcase_add_loop_test(all, repeated_claim_of_one_item_is_not_avoided, 0, TIMES);
	tcase_add_test(all, second_claim_is_avoided_on_its_cache_lines_only);
	tcase_add_loop_test(all, claim_fails_on_the_cache_lines_of_a_busy_slot_only,
			    0, 30);
	tcase_add_loop_test(all, own_slot_is_never_avoided, 0, TIMES);
	tcase_add_loop_test(all, all_other_slots_are_avoided, 0, TIMES);
	tcase_add_loop_test(all, later_of_two_claims_fails, 0, TIMES);
	tcase_add_loop_test(all, busy_slot_expires_after_many_claims_of_others, 0, TIMES);
	tcase_add_test(all, more_threads_than_slots_do_no_harm);
	suite_add_tcase(suite, all);
	return run_suite_of_functions(suite);
}
