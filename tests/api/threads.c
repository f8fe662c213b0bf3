/* SPDX-License-Identifier: MIT */
/* api/threads.c: threads that use the library at the same time */

#include "config.h"
#include "support/ledger.h"
#include "support/ownership.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

enum { THREADS = 8, RECORDS = 100000 };

/* Records per thread.  Reserved bytes are never freed, and some address spaces have 2 GiB. */
static size_t most_records(void)
{
	return end_of_addresses() > 2 * GIB ? RECORDS : RECORDS / 20;
}

/* Seconds that the threads run: BUFFERS_TEST_SECONDS; or 10 in make check-slow, 3, 0.1. */
static double run_time(void)
{
	const char *given = getenv("BUFFERS_TEST_SECONDS");

	return given ? atof(given) : how_many(3000, 10000) / 1e3;
}

static double seconds_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

struct worker {
	pthread_t thread;
	unsigned number;	/* from 1 */
	uint64_t seed;
	double end;
	struct ownership *records;
	size_t most, count;
	size_t calls;
	const char *fault;
	int error;	/* errno at the fault */
};

static struct buffers_request random_request(struct worker *worker)
{
	struct buffers_request request = { .size = 1 + random_below(&worker->seed, 500) };

	if (random_below(&worker->seed, 50) == 0)
		request.size = 1 + random_below(&worker->seed, 100 * KIB);
	switch (random_below(&worker->seed, 4)) {
	case 0:
		request.max_address = 2 * GIB;
		break;
	case 1:
		request = buffers_request_near((const void *)(uintptr_t)getenv,
					       BUFFERS_REACH_BRANCH, request.size);
		break;
	case 2:
		request.min_address = 64 * MIB + 64 * KIB * random_below(&worker->seed, 1000);
		request.max_address = request.min_address + 256 * KIB;
		break;
	}
	request.alignment = (size_t)1 << random_below(&worker->seed, 7);
	return request;
}

/* Emulators of pages larger than the host's sometimes find no aligned address for a mapping. */
static bool is_expected(int error, const struct buffers_request *request)
{
	return (error == EADDRNOTAVAIL && request->max_address) ||
	       (error == ENOMEM && is_emulated() && granularity() > 4096);
}

static const char *use_item(struct worker *worker)
{
	struct buffers_request request = random_request(worker);
	struct buffers_item *item = buffers_get(&request);
	void *memory;

	worker->calls++;
	if (!item)
		return is_expected(errno, &request) ? NULL : "a request failed unexpectedly";
	if (!mark_held(item, worker->number))
		return "two threads own one item";
	if (buffers_remaining(item) < request.size)
		return "less space than requested";
	if ((uintptr_t)buffers_next(item) < request.min_address ||
	    (request.max_address && (uintptr_t)buffers_base(item) + buffers_size(item) >
				    request.max_address))
		return "space outside of the range";
	if (worker->count < worker->most && random_below(&worker->seed, 4)) {
		memory = buffers_reserve(item, request.size, 1);
		if (!memory)
			return "a reserve failed";
		ownership_fill(&worker->records[worker->count++], memory, request.size,
			       (unsigned char)next_random(&worker->seed));
	}
	if (!mark_released(item, worker->number))
		return "another thread got an item that was held";
	buffers_release(item);
	return NULL;
}

static void *run_worker(void *context)
{
	struct worker *worker = context;

	while (!worker->fault && seconds_now() < worker->end)
		for (unsigned i = 0; i < 64 && !worker->fault; i++)
			worker->fault = use_item(worker);
	worker->error = errno;
	return NULL;
}

static int count_taken(const struct buffers_info *info, void *context)
{
	*(size_t *)context += (size_t)info->taken;
	return 0;
}

START_TEST(no_two_threads_own_the_same_bytes)
{
	static struct worker workers[THREADS];
	struct ownership *records = calloc(THREADS * RECORDS, sizeof(*records));
	uint64_t seed = seed_random();
	size_t count = 0;
	size_t calls = 0;
	size_t taken = 0;

	ck_assert_ptr_nonnull(records);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){
			.number = i + 1,
			.seed = next_random(&seed),
			.end = seconds_now() + run_time(),
			.records = records + i * RECORDS,
			.most = most_records(),
		};
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]),
				 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		ck_assert_msg(!workers[i].fault, "%s: errno %d", workers[i].fault,
			      workers[i].error);
		memmove(records + count, workers[i].records,
			workers[i].count * sizeof(*records));
		count += workers[i].count;
		calls += workers[i].calls;
	}
	check_ownership(records, count);
	ck_assert_int_eq(buffers_walk(count_taken, &taken), 0);
	ck_assert_uint_eq(taken, 0);
	printf("%zu calls, %zu records\n", calls, count);
	free(records);
}
END_TEST

/*
 * The range holds one page and so one buffer.  All threads request its last free space.
 */
struct scramble {
	pthread_barrier_t start;
	struct buffers_request request;
	size_t page;
	size_t reserved;
	unsigned faults;
};

static void *request_last_space(void *context)
{
	struct scramble *scramble = context;

	pthread_barrier_wait(&scramble->start);
	for (;;) {
		struct buffers_item *item = buffers_get(&scramble->request);

		if (item) {
			if (!buffers_reserve(item, scramble->request.size, 1))
				__atomic_fetch_add(&scramble->faults, 1, __ATOMIC_RELAXED);
			__atomic_fetch_add(&scramble->reserved, scramble->request.size,
					   __ATOMIC_RELAXED);
			buffers_release(item);
		} else if (__atomic_load_n(&scramble->reserved, __ATOMIC_RELAXED) >
			   scramble->page - 41) {
			return NULL;
		}
	}
}

START_TEST(last_space_of_a_buffer_is_given_once)
{
	size_t page = granularity();
	unsigned rounds = how_many(50, 50);
	/* at an address where the kernel maps nothing of its own accord */
	char *room = reserve(secluded_address(), (2 * rounds + 1) * page);

	for (unsigned round = 0; round < rounds; round++) {
		uintptr_t hole = (uintptr_t)room + (2 * round + 1) * page;
		struct scramble scramble = {
			.request = { .min_address = hole, .max_address = hole + page, .size = 41 },
			.page = page,
		};
		pthread_t threads[THREADS];

		unreserve((void *)hole, page);
		pthread_barrier_init(&scramble.start, NULL, THREADS);
		for (unsigned i = 0; i < THREADS; i++)
			ck_assert_int_eq(pthread_create(&threads[i], NULL, request_last_space,
							&scramble), 0);
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		pthread_barrier_destroy(&scramble.start);
		ck_assert_uint_eq(scramble.faults, 0);
		ck_assert_uint_eq(scramble.reserved, page / 41 * 41);
	}
}
END_TEST

/* All begin at once, so all find that there is no locator yet. */
static void *first_call(void *context)
{
	struct buffers_request request = { .max_address = 2 * GIB, .size = 16 };

	pthread_barrier_wait(context);
	return buffers_get(&request);
}

static int count_buffers(const struct buffers_info *info, void *context)
{
	*(size_t *)context += !is_rest_of_locator_page(info);
	return 0;
}

static int race_for_the_first_call(void *context)
{
	pthread_barrier_t start;
	pthread_t threads[THREADS];
	void *items[THREADS];
	size_t buffers = 0;

	(void)context;
	STEP(pthread_barrier_init(&start, NULL, THREADS) == 0);
	for (unsigned i = 0; i < THREADS; i++)
		STEP(pthread_create(&threads[i], NULL, first_call, &start) == 0);
	for (unsigned i = 0; i < THREADS; i++) {
		STEP(pthread_join(threads[i], &items[i]) == 0);
		STEP(items[i]);
		for (unsigned j = 0; j < i; j++)
			STEP(items[i] != items[j]);
	}
	/* with two locators, the walk would miss the items of one */
	STEP(buffers_walk(count_buffers, &buffers) == 0);
	STEP(buffers == THREADS);
	return 0;
}

START_TEST(threads_that_race_for_the_first_call_share_one_locator)
{
	unsigned times = how_many(200, 200);

	for (unsigned i = 0; i < times; i++)
		run_in_new_process(race_for_the_first_call, NULL, 0);
}
END_TEST

/* No call of the library is a cancellation point: a thread can only be cancelled outside. */
static void *call_until_cancelled(void *context)
{
	size_t allocated;

	for (;;) {
		void *memory = buffers_alloc(context, &allocated);

		if (memory)
			buffers_free(memory, allocated);
		pthread_testcancel();
	}
	return NULL;
}

static void cancel_after(long nanoseconds, struct buffers_request *request)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, call_until_cancelled, request), 0);
	nanosleep(&(struct timespec){ .tv_nsec = nanoseconds }, NULL);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
}

START_TEST(cancelled_thread_leaks_nothing)
{
	struct buffers_request request = { .max_address = 2 * GIB, .size = 4096 };
	unsigned times = how_many(300, 300);
	unsigned descriptors = count_descriptors();
	size_t allocated;
	size_t mappings;

	ck_assert_ptr_nonnull(buffers_alloc(&request, &allocated));
	cancel_after(0, &request);	/* the C library keeps a stack and other memory */
	mappings = count_mappings(0, 2 * GIB);
	for (unsigned i = 0; i < times; i++)
		cancel_after(100000 + (long)i * (300000 / (long)times), &request);
	ck_assert_uint_eq(count_descriptors(), descriptors);
	ck_assert_uint_eq(count_mappings(0, 2 * GIB), mappings);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("api/threads");
	TCase *all = tcase_create("threads");

	tcase_set_tags(all, "slow");
	tcase_set_timeout(all, 600);
	tcase_add_test(all, no_two_threads_own_the_same_bytes);
	tcase_add_test(all, last_space_of_a_buffer_is_given_once);
	tcase_add_test(all, threads_that_race_for_the_first_call_share_one_locator);
	tcase_add_test(all, cancelled_thread_leaks_nothing);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
