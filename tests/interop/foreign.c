/* SPDX-License-Identifier: MIT */
/* api-foreign.c: beside another implementation of the layout in the same process */

#include "config.h"
#include "support/interop.h"
#include "support/foreign.h"
#include "reloaded/buffers.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SKIP_WITHOUT_SANDBOX() \
	SKIP_IF(!sandbox_tmp(NULL), "no mount namespace for this user")

static const struct buffers_request request = { .size = 64 };

/*
 * One after the other
 */

START_TEST(each_goes_on_where_the_other_stopped)
{
	struct foreign_locator *first;
	struct foreign_item *theirs;
	struct buffers_item *ours;
	char *text;

	SKIP_WITHOUT_SANDBOX();
	first = arrive((enum arrival)_i);
	ck_assert(is_named(first));
	theirs = foreign_get(first, 64);
	text = foreign_append(theirs, "theirs, ", 8);
	foreign_release(theirs);
	ours = buffers_get(&request);
	ck_assert_ptr_eq(ours, theirs);
	ck_assert_ptr_eq(buffers_append(ours, "ours, ", 6), text + 8);
	buffers_release(ours);
	theirs = foreign_get(first, 64);
	ck_assert_ptr_eq(theirs, ours);
	ck_assert_ptr_eq(foreign_append(theirs, "theirs again", 13), text + 14);
	ck_assert_str_eq(text, "theirs, ours, theirs again");
	ck_assert(is_one_chain(first));
	ck_assert(is_named(first));
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}
END_TEST

START_TEST(item_that_the_other_holds_is_left_alone)
{
	struct foreign_locator *first;
	struct foreign_item *theirs;
	struct buffers_item *ours;

	SKIP_WITHOUT_SANDBOX();
	first = arrive((enum arrival)_i);
	theirs = foreign_get(first, 64);
	ours = buffers_get(&request);
	ck_assert_ptr_nonnull(ours);
	ck_assert_ptr_ne(ours, theirs);
	ck_assert_ptr_ne(foreign_get(first, 64), ours);
	ck_assert_ptr_ne(buffers_get(&request), theirs);
	ck_assert(is_one_chain(first));
	foreign_release(theirs);
	ck_assert_ptr_eq(buffers_get(&request), theirs);
	buffers_release(ours);
	ck_assert_ptr_eq(foreign_get(first, 64), ours);
}
END_TEST

static bool is_item_of(const struct foreign_locator *locator, const void *item)
{
	return (uintptr_t)item > (uintptr_t)locator &&
	       (uintptr_t)item < (uintptr_t)locator + FOREIGN_SIZE;
}

/* The library lists what is left of its locators' pages, where these are larger. */
static unsigned count_rests(const struct foreign_locator *locator)
{
	unsigned count = 0;

	for (unsigned i = 0; i < locator->num_items; i++)
		count += locator->items[i].base - (uintptr_t)locator < (size_t)getpagesize();
	return count;
}

static void hold_rests(struct foreign_locator *locator)
{
	for (unsigned i = count_rests(locator); i > 0; i--)
		ck_assert_ptr_nonnull(foreign_get(locator, 1));
}

/* Fills the first locator up, with items that nobody need look at. */
static void fill(struct foreign_locator *first)
{
	hold_rests(first);
	while (!foreign_item_at(first, FOREIGN_CAPACITY - 1))
		foreign_add(first, foreign_map(FOREIGN_SIZE), FOREIGN_SIZE, true)->position =
			FOREIGN_SIZE;
	ck_assert_uint_eq(first->next_locator, 0);
}

START_TEST(other_follows_the_locator_that_we_link)
{
	struct foreign_locator *first, *next;
	struct buffers_item *ours;

	SKIP_WITHOUT_SANDBOX();
	first = arrive((enum arrival)_i);
	if (_i == WE_FIRST)
		ck_assert_ptr_nonnull(buffers_get(&request));
	fill(first);
	ours = buffers_get(&request);
	ck_assert_ptr_nonnull(ours);
	next = foreign_next(first);
	ck_assert_ptr_nonnull(next);
	ck_assert_uint_eq(next->this_address, (uintptr_t)next);
	ck_assert(is_item_of(next, ours));
	hold_rests(next);
	buffers_release(ours);
	ck_assert_ptr_eq(foreign_get(first, 64), ours);
	ck_assert(is_one_chain(first));
}
END_TEST

START_TEST(we_follow_the_locator_that_the_other_links)
{
	struct foreign_locator *first, *next;
	struct foreign_item *theirs;

	SKIP_WITHOUT_SANDBOX();
	first = arrive((enum arrival)_i);
	if (_i == WE_FIRST)
		ck_assert_ptr_nonnull(buffers_get(&request));
	fill(first);
	theirs = foreign_add(first, foreign_map(FOREIGN_SIZE), FOREIGN_SIZE, false);
	next = foreign_next(first);
	ck_assert_ptr_eq(buffers_get(&request), theirs);
	ck_assert(is_item_of(next, buffers_get(&request)));
	ck_assert_uint_eq(next->num_items, 2);
	ck_assert_ptr_eq(foreign_next(first), next);
	ck_assert(is_one_chain(first));
}
END_TEST

START_TEST(we_fill_the_others_locator_and_link_the_next)
{
	struct foreign_locator *first, *last;

	SKIP_WITHOUT_SANDBOX();
	first = arrive((enum arrival)_i);
	for (unsigned i = 0; i < 2 * FOREIGN_CAPACITY + 1; i++)
		ck_assert_ptr_nonnull(buffers_get(&request));
	ck_assert_uint_eq(first->num_items, FOREIGN_CAPACITY);
	ck_assert_uint_eq(foreign_next(first)->num_items, FOREIGN_CAPACITY);
	last = foreign_next(foreign_next(first));
	ck_assert_uint_eq(last->num_items, 1 + count_rests(last));
	ck_assert(is_one_chain(first));
}
END_TEST

static int arrive_first_and_exit(void *home)
{
	struct foreign_locator *first = foreign_find(*(enum foreign_home *)home);
	struct buffers_item *ours = buffers_get(&request);

	STEP(is_item_of(first, ours));
	STEP(buffers_append(ours, "x", 1));
	return 0;
}

START_TEST(file_that_another_made_stays_at_exit)
{
	enum foreign_home home = (enum foreign_home)_i;

	SKIP_WITHOUT_SANDBOX();
	run_child(arrive_first_and_exit, &home);
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}
END_TEST

static int start_anew(void *first)
{
	unsigned char before[FOREIGN_SIZE];
	struct buffers_item *ours;

	memcpy(before, first, FOREIGN_SIZE);
	for (unsigned i = 0; i < 3; i++) {
		ours = buffers_get(&request);
		STEP(ours);
		STEP(!is_item_of(first, ours));
		STEP(buffers_append(ours, "x", 1));
	}
	buffers_release(ours);
	STEP(memcmp(before, first, FOREIGN_SIZE) == 0);
	STEP(is_item_of(foreign_find(IN_MEMORY), ours));
	return 0;
}

START_TEST(forked_child_leaves_the_parents_locator_alone)
{
	unsigned char before[FOREIGN_SIZE];
	struct foreign_locator *first;

	SKIP_WITHOUT_SANDBOX();
	first = arrive((enum arrival)_i);
	buffers_release(buffers_get(&request));
	memcpy(before, first, FOREIGN_SIZE);
	run_child(start_anew, first);
	ck_assert_mem_eq(before, first, FOREIGN_SIZE);
	ck_assert(is_named(first));
}
END_TEST

/*
 * A creator that makes the file first and writes the address later
 */

enum { WAITERS = 4 };

struct waiter {
	pthread_t thread;
	unsigned *entered;
	struct buffers_item *item;
};

static void *wait_for_address(void *context)
{
	struct waiter *waiter = context;

	__atomic_add_fetch(waiter->entered, 1, __ATOMIC_RELAXED);
	waiter->item = buffers_get(&request);
	return NULL;
}

static void start_waiters(struct waiter *waiters, unsigned *entered)
{
	for (unsigned i = 0; i < WAITERS; i++) {
		waiters[i].entered = entered;
		ck_assert_int_eq(pthread_create(&waiters[i].thread, NULL, wait_for_address,
						&waiters[i]), 0);
	}
	while (__atomic_load_n(entered, __ATOMIC_RELAXED) < WAITERS)
		sched_yield();
}

static void be_slow(void)
{
	const struct timespec pause = { .tv_nsec = 20000000 };

	nanosleep(&pause, NULL);
}

/* Each home, with a file that is empty at first or full of zeros. */
START_TEST(address_that_is_written_late_is_waited_for)
{
	struct waiter waiters[WAITERS];
	struct foreign_locator *first;
	struct stat before, after;
	unsigned entered = 0;
	int file;

	SKIP_WITHOUT_SANDBOX();
	file = foreign_create();
	ck_assert_int_ge(file, 0);
	ck_assert_int_eq(fstat(file, &before), 0);
	if (_i & 1)
		ck_assert_int_eq(ftruncate(file, FOREIGN_SIZE), 0);
	start_waiters(waiters, &entered);
	be_slow();
	first = foreign_announce(file, (enum foreign_home)(_i >> 1));
	for (unsigned i = 0; i < WAITERS; i++)
		ck_assert_int_eq(pthread_join(waiters[i].thread, NULL), 0);
	SKIP_IF(foreign_is_late(), "the creator was too slow");
	for (unsigned i = 0; i < WAITERS; i++)
		ck_assert(is_item_of(first, waiters[i].item));
	ck_assert(is_one_chain(first));
	ck_assert(is_named(first));
	ck_assert_int_eq(stat(rendezvous_path(NULL, getpid()), &after), 0);
	ck_assert_uint_eq(after.st_ino, before.st_ino);
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}
END_TEST

/*
 * A locator that is another's and not of the version that we know
 */

#define HEADER(member)	offsetof(struct foreign_locator, member)
#define ITEM(member)	(offsetof(struct foreign_locator, items) + \
			 2 * sizeof(struct foreign_item) + offsetof(struct foreign_item, member))
static const struct oddity {
	size_t offset;
	unsigned value;		/* of the byte there */
} oddities[] = {
	{ HEADER(flags), 1 }, { HEADER(flags), 2 }, { HEADER(flags), 4 }, { HEADER(flags), 7 },
	{ HEADER(flags), 0x08 }, { HEADER(flags), 0x80 },
	{ HEADER(reserved), 1 }, { HEADER(reserved) + 1, 0x80 },
	{ ITEM(position), 0xff }, { HEADER(num_items), 11 },
#if UINTPTR_MAX > UINT32_MAX
	{ HEADER(num_items), FOREIGN_CAPACITY + 1 }, { HEADER(num_items), 0xff },
#endif
};
enum { ODDITIES = sizeof(oddities) / sizeof(oddities[0]) };

/* Among the oddities: an item that is used beyond its end, and one without a base. */
static void make_odd(struct foreign_locator *first, const struct oddity *oddity)
{
	for (unsigned i = 0; i < 10; i++)
		foreign_add(first, foreign_map(FOREIGN_SIZE), i == 2 ? 16 : FOREIGN_SIZE, false);
	((unsigned char *)first)[oddity->offset] = (unsigned char)oddity->value;
}

static int work_beside(struct foreign_locator *first)
{
	static unsigned char before[FOREIGN_SIZE], after[FOREIGN_SIZE];
	struct buffers_item *item;
	uintptr_t own;

	memcpy(before, first, FOREIGN_SIZE);
	for (unsigned i = 0; i < 3; i++) {
		item = buffers_get(&request);
		STEP(item);
		STEP(!is_item_of(first, item));
		STEP(buffers_append(item, "x", 1));
		if (i)
			buffers_release(item);
	}
	memcpy(after, first, FOREIGN_SIZE);
	STEP(memcmp(before, after, FOREIGN_SIZE) == 0);
	STEP(is_named(first));
	own = (uintptr_t)read_address(rendezvous_path(own_dir(), getpid()));
	STEP(own && is_item_of((struct foreign_locator *)own, item));
	return 0;
}

static int meet_oddity(void *context)
{
	int number = *(const int *)context;
	struct foreign_locator *first = foreign_find((enum foreign_home)(number % HOMES));

	make_odd(first, &oddities[number / HOMES]);
	return work_beside(first);
}

START_TEST(locator_of_another_kind_is_left_alone)
{
	SKIP_WITHOUT_SANDBOX();
	run_child(meet_oddity, &_i);
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}
END_TEST

enum { TO_NOWHERE, TO_READABLE, TO_UNKNOWN, TO_ITSELF, WRONG_WAYS };

/* Where the chain leads after the first locator. */
static uintptr_t wrong_way(const struct foreign_locator *first, int number)
{
	struct foreign_locator *next = foreign_map(FOREIGN_SIZE);

	next->this_address = (uintptr_t)next;
	switch (number) {
	case TO_NOWHERE:
		munmap(next, FOREIGN_SIZE);
		break;
	case TO_READABLE:
		mprotect(next, FOREIGN_SIZE, PROT_READ);
		break;
	case TO_UNKNOWN:
		next->flags = 1;
		break;
	default:
		return (uintptr_t)first;
	}
	return (uintptr_t)next;
}

static int meet_wrong_way(void *context)
{
	struct foreign_locator *first = foreign_find(IN_MEMORY);

	first->next_locator = wrong_way(first, *(const int *)context);
	return work_beside(first);
}

START_TEST(chain_that_leads_wrong_is_left_alone)
{
	SKIP_WITHOUT_SANDBOX();
	run_child(meet_wrong_way, &_i);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("api-foreign");
	TCase *turns = tcase_create("in-turn");

	tcase_set_tags(turns, "fork");
	tcase_set_timeout(turns, 20);
	tcase_add_loop_test(turns, each_goes_on_where_the_other_stopped, 0, ARRIVALS);
	tcase_add_loop_test(turns, item_that_the_other_holds_is_left_alone, 0, ARRIVALS);
	tcase_add_loop_test(turns, other_follows_the_locator_that_we_link, 0, ARRIVALS);
	tcase_add_loop_test(turns, we_follow_the_locator_that_the_other_links, 0, ARRIVALS);
	tcase_add_loop_test(turns, we_fill_the_others_locator_and_link_the_next, 0, ARRIVALS);
	tcase_add_loop_test(turns, file_that_another_made_stays_at_exit, 0, HOMES);
	tcase_add_loop_test(turns, forked_child_leaves_the_parents_locator_alone, 0, ARRIVALS);
	tcase_add_loop_test(turns, address_that_is_written_late_is_waited_for, 0, 2 * HOMES);
	tcase_add_loop_test(turns, locator_of_another_kind_is_left_alone, 0, ODDITIES * HOMES);
	tcase_add_loop_test(turns, chain_that_leads_wrong_is_left_alone, 0, WRONG_WAYS);
	suite_add_tcase(suite, turns);
	return run_suite(suite);
}
