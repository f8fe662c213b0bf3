/* SPDX-License-Identifier: MIT */
/* rendezvous/copies.c: all copies of the library in a process share one first locator */

#include "config.h"
#include "support/copies.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Two renamed copies of the shared object, and a plugin that contains the static archive. */
enum { COPIES = 3 };
static const char *files[COPIES] = { COPY_ONE, COPY_TWO, PLUGIN };

/* If BUFFERS_TEST_OTHER names another compiler's build directory, takes the last two from it. */
static void take_other_build(void)
{
	static char paths[COPIES][PATH_MAX];
	const char *other = getenv("BUFFERS_TEST_OTHER");

	for (unsigned i = 1; other && i < COPIES; i++) {
		snprintf(paths[i], sizeof(paths[i]), "%s/%s", other, files[i]);
		files[i] = paths[i];
	}
}

/* All orders of loading: first in the program's link namespace, then each copy in its own. */
enum { ORDERS = 6, CASES = 2 * ORDERS };
static const unsigned char orders[ORDERS][COPIES] = {
	{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
};

static bool has_own_namespace(int number)
{
	return number >= ORDERS;
}

static void load_copies(struct copy copies[COPIES], int number)
{
	for (unsigned i = 0; i < COPIES; i++)
		ck_assert(load_copy(&copies[i], files[orders[number % ORDERS][i]],
				    has_own_namespace(number)));
}

#define SKIP_IF_NOT_POSSIBLE(number)						\
	do {									\
		SKIP_IF(has_own_namespace(number) && (is_asan() || is_tsan()),		\
			"a process cannot load a sanitizer's runtime twice");		\
		SKIP_IF(!sandbox_tmp(NULL), "the kernel gives this user no mount namespace");	\
	} while (0)

static const struct buffers_request request = { .size = 64 };

START_TEST(each_copy_has_its_own_code)
{
	struct copy copies[COPIES];

	SKIP_IF_NOT_POSSIBLE(_i);
	load_copies(copies, _i);
	ck_assert_ptr_null(dlsym(RTLD_DEFAULT, "buffers_get"));
	for (unsigned i = 0; i < COPIES; i++)
		ck_assert(copies[i].calls.get != copies[(i + 1) % COPIES].calls.get);
}
END_TEST

START_TEST(each_copy_appends_where_the_previous_one_stopped)
{
	struct copy copies[COPIES];
	struct buffers_item *item = NULL;
	char *next = NULL;

	SKIP_IF_NOT_POSSIBLE(_i);
	load_copies(copies, _i);
	for (unsigned i = 0; i < 2 * COPIES; i++) {
		const struct calls *calls = &copies[i % COPIES].calls;
		struct buffers_item *got = calls->get(&request);
		char *start;

		ck_assert_ptr_nonnull(got);
		start = calls->append(got, "13 characters", 13);
		calls->release(got);
		if (i) {
			ck_assert_ptr_eq(got, item);
			ck_assert_ptr_eq(start, next);
		}
		item = got;
		next = start + 13;
	}
}
END_TEST

/* A copy looks for items that others have released when it finds no item that was free before. */
START_TEST(item_that_one_copy_holds_is_not_given_to_another)
{
	struct copy copies[COPIES];
	struct buffers_item *items[COPIES];
	bool is_found = false;

	SKIP_IF_NOT_POSSIBLE(_i);
	load_copies(copies, _i);
	for (unsigned i = 0; i < COPIES; i++) {
		items[i] = copies[i].calls.get(&request);
		ck_assert_ptr_nonnull(items[i]);
		for (unsigned j = 0; j < i; j++)
			ck_assert_ptr_ne(items[i], items[j]);
	}
	/* Any copy can append to the item, and release it for the copy that holds it. */
	ck_assert_ptr_nonnull(copies[1].calls.append(items[0], "once", 4));
	copies[2].calls.release(items[0]);
	for (unsigned i = 0; i < 64 && !is_found; i++)
		is_found = copies[1].calls.get(&request) == items[0];
	ck_assert(is_found);
}
END_TEST

START_TEST(copies_list_the_same_buffers)
{
	struct copy copies[COPIES];
	struct listing first, other;

	SKIP_IF_NOT_POSSIBLE(_i);
	load_copies(copies, _i);
	for (unsigned i = 0; i < 2 * COPIES; i++)
		ck_assert_ptr_nonnull(copies[i % COPIES].calls.get(&request));
	first = list_buffers(&copies[0]);
	ck_assert_uint_eq(first.count, 2 * COPIES);
	for (unsigned i = 1; i < COPIES; i++) {
		other = list_buffers(&copies[i]);
		ck_assert(is_same_listing(&first, &other));
	}
}
END_TEST

START_TEST(copy_lists_buffers_that_another_copy_made)
{
	struct copy copies[COPIES];
	struct listing first, other;

	SKIP_IF_NOT_POSSIBLE(_i);
	load_copies(copies, _i);
	other = list_buffers(&copies[1]);
	ck_assert_uint_eq(other.count, 0);
	ck_assert_ptr_nonnull(copies[0].calls.get(&request));
	first = list_buffers(&copies[0]);
	for (unsigned i = 1; i < COPIES; i++) {
		other = list_buffers(&copies[i]);
		ck_assert(is_same_listing(&first, &other));
	}
}
END_TEST

START_TEST(copies_share_the_locator_that_the_file_names)
{
	struct copy copies[COPIES];
	uintptr_t address = 0;

	SKIP_IF_NOT_POSSIBLE(_i);
	load_copies(copies, _i);
	for (unsigned i = 0; i < COPIES; i++) {
		struct buffers_item *item = copies[i].calls.get(&request);

		ck_assert(is_item_of_first_locator(item));
		if (i)
			ck_assert_uint_eq(rendezvous_address(), address);
		address = rendezvous_address();
	}
	ck_assert_uint_eq(*(const uintptr_t *)address, address);
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}
END_TEST

/*
 * Each kind of memory
 */

enum { KINDS = 3, KIND_CASES = KINDS * CASES };

static const struct {
	unsigned flags;
	const char *suffix;
} kinds[KINDS] = { { 0, "" }, { BUFFERS_RW, ".RW" }, { BUFFERS_RX, ".RX" } };

START_TEST(each_kind_is_shared_by_all_copies)
{
	const char *path = rendezvous_path_of(NULL, kinds[_i / CASES].suffix, getpid());
	struct buffers_request of_kind = { .size = 64, .flags = kinds[_i / CASES].flags };
	struct copy copies[COPIES];
	struct buffers_item *item = NULL;
	char *next = NULL;

	SKIP_IF_NOT_POSSIBLE(_i % CASES);
	load_copies(copies, _i % CASES);
	for (unsigned i = 0; i < 2 * COPIES; i++) {
		const struct calls *calls = &copies[i % COPIES].calls;
		struct buffers_item *got = calls->get(&of_kind);
		char *start;

		ck_assert_ptr_nonnull(got);
		start = calls->append(got, "13 characters", 13);
		ck_assert_ptr_nonnull(start);
		ck_assert_mem_eq(start, "13 characters", 13);
		ck_assert_int_eq(copies[(i + 1) % COPIES].calls.overwrite(start, "xx", 2), 0);
		ck_assert_mem_eq(start, "xx characters", 13);
		calls->release(got);
		ck_assert(is_named_in(path, got));
		ck_assert(!item || (got == item && start == next));
		item = got;
		next = start + 13;
	}
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
}
END_TEST

START_TEST(copies_list_the_same_buffers_of_all_kinds)
{
	struct copy copies[COPIES];
	struct listing first, other;
	struct buffers_item *items[KINDS];

	SKIP_IF_NOT_POSSIBLE(_i);
	load_copies(copies, _i);
	for (unsigned i = 0; i < KINDS; i++) {
		struct buffers_request of_kind = { .size = 64, .flags = kinds[i].flags };

		items[i] = copies[i % COPIES].calls.get(&of_kind);
		ck_assert_ptr_nonnull(items[i]);
		for (unsigned j = 0; j < i; j++)
			ck_assert_ptr_ne(items[j], items[i]);
	}
	first = list_buffers(&copies[0]);
	ck_assert_uint_eq(first.count, KINDS);
	for (unsigned i = 1; i < COPIES; i++) {
		other = list_buffers(&copies[i]);
		ck_assert(is_same_listing(&first, &other));
	}
	ck_assert_uint_eq(count_files(SHARED_DIR), KINDS);
}
END_TEST

/* In a forked child no copy lists a buffer, and all copies share a new locator. */
static int share_a_new_locator(void *context)
{
	const struct copy *copies = context;
	struct buffers_item *item;
	struct listing listing;
	uintptr_t parents = (uintptr_t)read_address(rendezvous_path(NULL, getppid()));

	for (unsigned i = 0; i < COPIES; i++) {
		listing = list_buffers(&copies[i]);
		STEP(listing.count == 0);
	}
	item = copies[2].calls.get(&request);
	STEP(is_item_of_first_locator(item));
	STEP(rendezvous_address() != parents);
	copies[2].calls.release(item);
	for (unsigned i = 0; i < COPIES; i++) {
		STEP(copies[i].calls.get(&request) == item);
		copies[i].calls.release(item);
	}
	return 0;
}

START_TEST(copies_in_a_forked_child_share_a_new_locator)
{
	struct copy copies[COPIES];
	struct listing before, after;
	uintptr_t address;

	SKIP_IF_NOT_POSSIBLE(_i);
	/* fork() does not run the fork handlers of other link namespaces. */
	SKIP_IF(_i >= ORDERS && !can_wipe_on_fork(), NO_WIPE);
	load_copies(copies, _i);
	for (unsigned i = 0; i < COPIES; i++)
		ck_assert_ptr_nonnull(copies[i].calls.get(&request));
	before = list_buffers(&copies[0]);
	address = rendezvous_address();
	run_child(share_a_new_locator, copies);
	after = list_buffers(&copies[0]);
	ck_assert(is_same_listing(&before, &after));
	ck_assert_uint_eq(rendezvous_address(), address);
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
}
END_TEST

/*
 * Threads of all copies that make the first call of the process at once
 */

static int race_on_first_call(void *context)
{
	enum { ROUNDS = 4 };
	const char *fault = write_concurrently(context, context ? NULL : files, COPIES, ROUNDS);

	if (fault)
		printf("%s\n", fault);
	STEP(!fault);
	STEP(rendezvous_address());
	STEP(*(const uintptr_t *)rendezvous_address() == rendezvous_address());
	STEP(count_files(SHARED_DIR) == 1);
	return 0;
}

static void race_in_fresh_processes(struct copy *copies, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		run_child(race_on_first_call, copies);
		ck_assert_uint_eq(count_files(SHARED_DIR), 0);
		ck_assert_uint_eq(count_files(own_dir()), 0);
	}
}

START_TEST(copies_racing_on_the_first_call_share_one_locator)
{
	struct copy copies[COPIES];

	SKIP_IF_NOT_POSSIBLE(0);
	load_copies(copies, 0);
	race_in_fresh_processes(copies, how_many(60, 2000));
}
END_TEST

START_TEST(copies_racing_in_link_namespaces_share_one_locator)
{
	struct copy copies[COPIES];

	SKIP_IF_NOT_POSSIBLE(ORDERS);
	load_copies(copies, ORDERS);
	race_in_fresh_processes(copies, how_many(20, 500));
}
END_TEST

START_TEST(copies_loaded_during_the_race_share_one_locator)
{
	SKIP_IF(is_tsan(), "TSan does not see the dynamic linker's lock");
	SKIP_IF_NOT_POSSIBLE(0);
	race_in_fresh_processes(NULL, how_many(10, 200));
}
END_TEST

START_TEST(copies_writing_at_once_lose_no_entries)
{
	struct copy copies[COPIES];
	const char *fault;

	SKIP_IF_NOT_POSSIBLE(_i);
	load_copies(copies, _i);
	fault = write_concurrently(copies, NULL, COPIES, how_many(4000, 40000));
	ck_assert_msg(!fault, "%s", fault);
}
END_TEST

/*
 * Copies that write at once to one page of RX memory, which is not writable at its address
 */

struct writing {
	pthread_t thread;
	pthread_barrier_t *start;
	const struct calls *calls;
	struct buffers_item *item;	/* to append to, or NULL */
	unsigned char *destination;
	const char *fault;
};

enum { WORDS = 5 };

static const char *write_word(const struct writing *writing, uint64_t number)
{
	if (writing->calls->overwrite(writing->destination, &number, sizeof(number)) != 0)
		return "buffers_overwrite() failed";
	if (memcmp(writing->destination, &number, sizeof(number)) != 0)
		return "a word was lost";
	return NULL;
}

static const char *append_byte(const struct writing *writing, uint64_t number)
{
	unsigned char byte = (unsigned char)(number % 251 + 1);
	unsigned char *copy = writing->calls->append(writing->item, &byte, 1);

	if (copy != writing->destination + number)
		return "buffers_append() failed";
	return *copy == byte ? NULL : "an appended byte was lost";
}

static void *keep_writing(void *context)
{
	struct writing *writing = context;
	unsigned rounds = is_slow() ? 10 : 3000;

	pthread_barrier_wait(writing->start);
	for (uint64_t i = 0; i < rounds && !writing->fault; i++)
		writing->fault = writing->item ? append_byte(writing, i) : write_word(writing, i);
	return NULL;
}

START_TEST(copies_writing_to_one_page_lose_no_bytes)
{
	struct buffers_request whole_page = { .size = 16384, .alignment = 4096,
					      .flags = kinds[2].flags };
	static const unsigned char zeros[WORDS * 8];
	struct writing writings[WORDS + 1] = { 0 };
	pthread_barrier_t start;
	struct copy copies[COPIES];
	struct buffers_item *item;
	unsigned char *words;

	SKIP_IF(is_tsan(), "TSan reports writes to neighbouring words as a race");
	SKIP_IF_NOT_POSSIBLE(_i);
	load_copies(copies, _i);
	item = copies[0].calls.get(&whole_page);
	ck_assert_ptr_nonnull(item);
	words = copies[0].calls.append(item, zeros, sizeof(zeros));
	ck_assert_int_eq(pthread_barrier_init(&start, NULL, WORDS + 1), 0);
	for (unsigned i = 0; i <= WORDS; i++) {
		writings[i].start = &start;
		writings[i].calls = &copies[i % COPIES].calls;
		writings[i].item = i < WORDS ? NULL : item;
		writings[i].destination = words + 8 * i;
		ck_assert_int_eq(pthread_create(&writings[i].thread, NULL, keep_writing,
						&writings[i]), 0);
	}
	for (unsigned i = 0; i <= WORDS; i++) {
		pthread_join(writings[i].thread, NULL);
		ck_assert_msg(!writings[i].fault, "%s", writings[i].fault);
	}
	pthread_barrier_destroy(&start);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rendezvous/copies");
	TCase *one = tcase_create("one-locator");
	TCase *races = tcase_create("races");

	take_other_build();
	tcase_set_tags(one, "fork");
	tcase_set_timeout(one, 120);
	tcase_add_loop_test(one, each_copy_has_its_own_code, 0, CASES);
	tcase_add_loop_test(one, each_copy_appends_where_the_previous_one_stopped, 0, CASES);
	tcase_add_loop_test(one, item_that_one_copy_holds_is_not_given_to_another, 0, CASES);
	tcase_add_loop_test(one, copies_list_the_same_buffers, 0, CASES);
	tcase_add_loop_test(one, copy_lists_buffers_that_another_copy_made, 0, CASES);
	tcase_add_loop_test(one, copies_share_the_locator_that_the_file_names, 0, CASES);
	tcase_add_loop_test(one, each_kind_is_shared_by_all_copies, 0, KIND_CASES);
	tcase_add_loop_test(one, copies_list_the_same_buffers_of_all_kinds, 0, CASES);
	tcase_add_loop_test(one, copies_in_a_forked_child_share_a_new_locator, 0, CASES);
	suite_add_tcase(suite, one);
	tcase_set_tags(races, "fork slow");
	tcase_set_timeout(races, 300);
	tcase_add_test(races, copies_racing_on_the_first_call_share_one_locator);
	tcase_add_test(races, copies_racing_in_link_namespaces_share_one_locator);
	tcase_add_test(races, copies_loaded_during_the_race_share_one_locator);
	tcase_add_loop_test(races, copies_writing_at_once_lose_no_entries, 0, CASES);
	tcase_add_loop_test(races, copies_writing_to_one_page_lose_no_bytes, 0, CASES);
	suite_add_tcase(suite, races);
	return run_suite(suite);
}
