/* SPDX-License-Identifier: MIT */
/* foreign-threads.c: threads of the library and of another implementation in one process */

#include "config.h"
#include "support/interop.h"
#include "support/foreign.h"
#include "support/ledger.h"
#include "reloaded/buffers.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SKIP_WITHOUT_SANDBOX() \
	SKIP_IF(!sandbox_tmp(NULL), "no mount namespace for this user")

static const struct buffers_request request = { .size = ENTRY_MAX };

enum { THREADS = 8, ENTRIES = 30000 };

struct worker {
	pthread_t thread;
	pthread_barrier_t *start;
	struct foreign_locator *first;	/* NULL: foreign workers find it themselves */
	enum foreign_storage storage;		/* for locators that foreign workers make */
	unsigned number;
	unsigned rounds;		/* number of entries to write */
	double end;
	unsigned written;
	uint64_t random;
	const char *fault;
};

static double seconds_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static bool is_foreign(const struct worker *worker)
{
	return worker->number % 2;
}

static const char *write_by_library(struct worker *worker, const unsigned char *entry, size_t size)
{
	struct buffers_item *item = buffers_get(&request);

	if (!item)
		return "a request failed";
	if (!mark_held(item, worker->number))
		return "the library returned an item that is held";
	if (buffers_remaining(item) < request.size)
		return "the item has less free space than requested";
	if (size && !buffers_append(item, entry, size))
		return "appending to the item failed";
	if (!mark_released(item, worker->number))
		return "the item of the library got another holder";
	buffers_release(item);
	return NULL;
}

static const char *write_by_foreign(struct worker *worker, const unsigned char *entry, size_t size)
{
	struct foreign_item *item = foreign_get(worker->first, ENTRY_MAX);

	if (!mark_held(item, worker->number))
		return "the foreign code got an item that is held";
	foreign_append(item, entry, size);
	if (!mark_released(item, worker->number))
		return "the item of the foreign code got another holder";
	foreign_release(item);
	return NULL;
}

static const char *write_one(struct worker *worker)
{
	unsigned char entry[ENTRY_MAX];
	size_t size = 0;

	if (worker->written < worker->rounds)
		size = entry_make(entry, worker->number, worker->written++, &worker->random);
	return is_foreign(worker) ? write_by_foreign(worker, entry, size) :
				    write_by_library(worker, entry, size);
}

static void *write_entries(void *context)
{
	struct worker *worker = context;

	pthread_barrier_wait(worker->start);
	if (is_foreign(worker) && !worker->first)
		worker->first = foreign_find(worker->storage);
	do
		for (unsigned i = 0; i < worker->rounds && i < 64 && !worker->fault; i++)
			worker->fault = write_one(worker);
	while (!worker->fault && seconds_now() < worker->end);
	return NULL;
}

static const char *run_threads(void *(*body)(void *context), struct worker workers[THREADS],
			       struct worker pattern)
{
	pthread_barrier_t start;
	const char *fault = NULL;

	ck_assert_int_eq(pthread_barrier_init(&start, NULL, THREADS), 0);
	pattern.start = &start;
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = pattern;
		workers[i].number = i;
		workers[i].random += i;
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, body, &workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
		if (!fault)
			fault = workers[i].fault;
	}
	pthread_barrier_destroy(&start);
	return fault;
}

/* Checks that the buffers contain each entry of each worker once, and nothing else. */
static const char *read_back(const struct worker workers[THREADS], struct foreign_locator *first)
{
	struct ledger ledger = ledger_new(THREADS, workers[0].rounds);
	const char *fault = NULL;
	struct foreign_item *item;

	for (size_t i = 0; !fault && (item = foreign_item_at(first, i)); i++)
		fault = item->is_taken ? "an item is still taken" :
			ledger_read(&ledger, (void *)item->base, item->position);
	for (unsigned i = 0; i < THREADS && !fault; i++)
		if (!ledger_has(&ledger, i, workers[i].written))
			fault = "an entry is missing";
	free(ledger.seen);
	return fault;
}

START_TEST(both_append_at_once_and_no_entry_is_lost)
{
	struct worker workers[THREADS];
	struct worker pattern = { .rounds = ENTRIES };
	const char *fault;

	SKIP_WITHOUT_SANDBOX();
	pattern.random = seed_random();
	pattern.first = make_first_locator((enum creator)_i);
	pattern.end = seconds_now() + how_many(1000, 10000) / 1e3;
	fault = run_threads(write_entries, workers, pattern);
	ck_assert_msg(!fault, "%s", fault);
	fault = read_back(workers, pattern.first);
	ck_assert_msg(!fault, "%s", fault);
	ck_assert(see_same_items(pattern.first));
	ck_assert(is_named_by_file(pattern.first));
}
END_TEST

/*
 * The workers release no item, so each call adds a buffer.  After each 203 buffers
 * it adds a locator.
 */
enum { ADDITIONS = 200 };

static const char *add_one(struct worker *worker, char *memory)
{
	void *item;

	if (is_foreign(worker))
		item = foreign_add(worker->first, memory, FOREIGN_SIZE, true);
	else
		item = buffers_get(&request);
	if (!item)
		return "a request failed";
	return mark_held(item, worker->number) ? NULL : "two workers got the same item";
}

static void *add_buffers(void *context)
{
	struct worker *worker = context;
	char *memory = foreign_map((size_t)ADDITIONS * FOREIGN_SIZE);

	pthread_barrier_wait(worker->start);
	for (size_t i = 0; i < ADDITIONS && !worker->fault; i++)
		worker->fault = add_one(worker, memory + i * FOREIGN_SIZE);
	return NULL;
}

static int by_base(const void *a, const void *b)
{
	uintptr_t one = *(const uintptr_t *)a;
	uintptr_t two = *(const uintptr_t *)b;

	return (one > two) - (one < two);
}

/* Whether the chain has `count` items, all taken, with distinct bases. */
static bool has_distinct_items(struct foreign_locator *first, size_t count)
{
	uintptr_t *bases = calloc(count, sizeof(*bases));
	const struct foreign_item *item;
	bool is_distinct = bases != NULL;

	for (size_t i = 0; i < count && is_distinct; i++) {
		item = foreign_item_at(first, i);
		is_distinct = item && item->is_taken && item->base;
		if (is_distinct)
			bases[i] = item->base;
	}
	if (is_distinct)
		qsort(bases, count, sizeof(*bases), by_base);
	for (size_t i = 1; i < count && is_distinct; i++)
		is_distinct = bases[i] != bases[i - 1];
	free(bases);
	return is_distinct && !foreign_item_at(first, count);
}

static int add_at_once(void *context)
{
	struct worker workers[THREADS];
	struct worker pattern = { .first = make_first_locator(*(const enum creator *)context) };
	size_t count = THREADS * ADDITIONS;
	const char *fault;

	if (!foreign_item_at(pattern.first, 0))
		buffers_release(buffers_get(&request));
	foreign_get(pattern.first, ENTRY_MAX);		/* takes the existing item */
	fault = run_threads(add_buffers, workers, pattern);
	if (fault)
		printf("%s\n", fault);
	STEP(!fault);
	STEP(has_distinct_items(pattern.first, count + 1));
	STEP(see_same_items(pattern.first));
	STEP(unlink(rendezvous_path(NULL, getpid())) == 0);
	return 0;
}

START_TEST(both_add_buffers_at_once_and_none_is_lost)
{
	enum creator creator = (enum creator)_i;
	unsigned count = how_many(5, 50);

	SKIP_WITHOUT_SANDBOX();
	for (unsigned i = 0; i < count; i++)
		run_child(add_at_once, &creator);
}
END_TEST

static int race_on_first_call(void *context)
{
	const char *file = rendezvous_path(NULL, getpid());
	struct worker workers[THREADS];
	const char *fault = run_threads(write_entries, workers, *(const struct worker *)context);
	struct foreign_locator *first = foreign_find(IN_MEMORY);

	if (foreign_has_stalled()) {
		printf("skipped: a race: the machine stalled for a second\n");
		unlink(file);
		return 0;
	}
	if (!fault)
		fault = read_back(workers, first);
	if (fault)
		printf("%s\n", fault);
	STEP(!fault);
	STEP(is_named_by_file(first));
	for (unsigned i = 0; i < THREADS; i++)
		STEP(!is_foreign(&workers[i]) || workers[i].first == first);
	STEP(see_same_items(first));
	STEP(count_files(SHARED_DIR) == 1);
	STEP(count_files(own_dir()) == 0);
	STEP(unlink(file) == 0);	/* the library leaves a foreign file */
	return 0;
}

START_TEST(both_race_on_the_first_call_and_find_one_locator)
{
	struct worker pattern = { .rounds = 4, .storage = (enum foreign_storage)_i };
	unsigned count = how_many(100, 1000);

	SKIP_WITHOUT_SANDBOX();
	pattern.random = seed_random();
	for (unsigned i = 0; i < count; i++) {
		run_child(race_on_first_call, &pattern);
		pattern.random += THREADS;
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("interop/foreign-threads");
	TCase *threads = tcase_create("at-once");

	if (is_emulated())
		skip_all("the emulator merges mappings of different permissions in its list");
	tcase_set_tags(threads, "fork slow");
	tcase_set_timeout(threads, 300);
	tcase_add_loop_test(threads, both_append_at_once_and_no_entry_is_lost, 0, CREATORS);
	tcase_add_loop_test(threads, both_add_buffers_at_once_and_none_is_lost, 0, CREATORS);
	tcase_add_loop_test(threads, both_race_on_the_first_call_and_find_one_locator, 0, STORAGES);
	suite_add_tcase(suite, threads);
	return run_suite(suite);
}
