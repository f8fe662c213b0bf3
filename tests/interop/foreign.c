/* SPDX-License-Identifier: MIT */
/* foreign.c: the library and another implementation of the layout in one process */

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

/* The library then takes foreign memory for another kind's, and does not use it. */
#define SKIP_IF_NOT_LISTED(is_foreign)						\
	SKIP_IF(is_emulated() && (is_foreign),					\
		"the emulator merges mappings of different permissions")

static const struct buffers_request request = { .size = 64 };

/*
 * Both in turn
 */

START_TEST(each_continues_where_the_other_stopped)
{
	struct foreign_locator *first;
	struct foreign_item *foreign;
	struct buffers_item *own;
	char *text;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(_i != LIBRARY_FIRST);
	first = make_first_locator((enum creator)_i);
	ck_assert(is_named_by_file(first));
	foreign = foreign_get(first, 64);
	text = foreign_append(foreign, "foreign, ", 9);
	foreign_release(foreign);
	own = buffers_get(&request);
	ck_assert_ptr_eq(own, foreign);
	ck_assert_ptr_eq(buffers_append(own, "own, ", 5), text + 9);
	buffers_release(own);
	foreign = foreign_get(first, 64);
	ck_assert_ptr_eq(foreign, own);
	ck_assert_ptr_eq(foreign_append(foreign, "foreign again", 14), text + 14);
	ck_assert_str_eq(text, "foreign, own, foreign again");
	ck_assert(see_same_items(first));
	ck_assert(is_named_by_file(first));
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}
END_TEST

START_TEST(item_held_by_the_other_is_skipped)
{
	struct foreign_locator *first;
	struct foreign_item *foreign;
	struct buffers_item *own;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(_i != LIBRARY_FIRST);
	first = make_first_locator((enum creator)_i);
	foreign = foreign_get(first, 64);
	own = buffers_get(&request);
	ck_assert_ptr_nonnull(own);
	ck_assert_ptr_ne(own, foreign);
	ck_assert_ptr_ne(foreign_get(first, 64), own);
	ck_assert_ptr_ne(buffers_get(&request), foreign);
	ck_assert(see_same_items(first));
	foreign_release(foreign);
	ck_assert_ptr_eq(buffers_get(&request), foreign);
	buffers_release(own);
	ck_assert_ptr_eq(foreign_get(first, 64), own);
}
END_TEST

/* Foreign code checks no end when it appends. */
START_TEST(item_that_foreign_code_has_overfilled_is_skipped)
{
	const struct buffers_request large = { .size = 1 << 20 };
	struct foreign_locator *first;
	struct foreign_item *foreign;
	struct buffers_item *own;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(_i != LIBRARY_FIRST);
	first = make_first_locator((enum creator)_i);
	foreign = foreign_get(first, 64);
	foreign_release(foreign);
	own = buffers_get(&request);	/* from now on the thread's last item */
	ck_assert_ptr_eq(own, foreign);
	buffers_release(own);
	foreign->position = foreign->size + 16;
	own = buffers_get(&request);
	ck_assert_ptr_nonnull(own);
	ck_assert_ptr_ne(own, foreign);
	buffers_release(own);
	ck_assert_ptr_ne(buffers_get(&large), foreign);
	ck_assert_uint_eq(foreign->is_taken, 0);
	ck_assert(see_same_items(first));
}
END_TEST

static bool is_item_of(const struct foreign_locator *locator, const void *item)
{
	return (uintptr_t)item > (uintptr_t)locator &&
	       (uintptr_t)item < (uintptr_t)locator + FOREIGN_SIZE;
}

/* If pages are larger than a locator, the library lists the rest of the page as buffers. */
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

/* Fills the first locator with items that have no free space. */
static void fill_locator(struct foreign_locator *first)
{
	hold_rests(first);
	while (!foreign_item_at(first, FOREIGN_CAPACITY - 1))
		foreign_add(first, foreign_map(FOREIGN_SIZE), FOREIGN_SIZE, true)->position =
			FOREIGN_SIZE;
	ck_assert_uint_eq(first->next_locator, 0);
}

START_TEST(foreign_code_follows_a_locator_that_the_library_links)
{
	struct foreign_locator *first, *next;
	struct buffers_item *own;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(_i != LIBRARY_FIRST);
	first = make_first_locator((enum creator)_i);
	if (_i == LIBRARY_FIRST)
		ck_assert_ptr_nonnull(buffers_get(&request));
	fill_locator(first);
	own = buffers_get(&request);
	ck_assert_ptr_nonnull(own);
	next = foreign_next(first);
	ck_assert_ptr_nonnull(next);
	ck_assert_uint_eq(next->this_address, (uintptr_t)next);
	ck_assert(is_item_of(next, own));
	hold_rests(next);
	buffers_release(own);
	ck_assert_ptr_eq(foreign_get(first, 64), own);
	ck_assert(see_same_items(first));
}
END_TEST

START_TEST(library_follows_a_locator_that_foreign_code_links)
{
	struct foreign_locator *first, *next;
	struct foreign_item *foreign;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(true);
	first = make_first_locator((enum creator)_i);
	if (_i == LIBRARY_FIRST)
		ck_assert_ptr_nonnull(buffers_get(&request));
	fill_locator(first);
	foreign = foreign_add(first, foreign_map(FOREIGN_SIZE), FOREIGN_SIZE, false);
	next = foreign_next(first);
	ck_assert_ptr_eq(buffers_get(&request), foreign);
	ck_assert(is_item_of(next, buffers_get(&request)));
	ck_assert_uint_eq(next->num_items, 2);
	ck_assert_ptr_eq(foreign_next(first), next);
	ck_assert(see_same_items(first));
}
END_TEST

START_TEST(library_fills_a_foreign_locator_and_links_the_next)
{
	struct foreign_locator *first, *third;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(_i != LIBRARY_FIRST);
	first = make_first_locator((enum creator)_i);
	for (unsigned i = 0; i < 2 * FOREIGN_CAPACITY + 1; i++)
		ck_assert_ptr_nonnull(buffers_get(&request));
	ck_assert_uint_eq(first->num_items, FOREIGN_CAPACITY);
	ck_assert_uint_eq(foreign_next(first)->num_items, FOREIGN_CAPACITY);
	third = foreign_next(foreign_next(first));
	ck_assert_uint_eq(third->num_items, 1 + count_rests(third));
	ck_assert(see_same_items(first));
}
END_TEST

enum { NEXT_UNMAPPED, NEXT_READ_ONLY, NEXT_UNKNOWN_VERSION, NEXT_ITSELF, BAD_NEXTS };

/* Returns an invalid address for the first locator to link to. */
static uintptr_t bad_next(const struct foreign_locator *first, int number)
{
	struct foreign_locator *next = foreign_map(FOREIGN_SIZE);

	next->this_address = (uintptr_t)next;
	switch (number) {
	case NEXT_UNMAPPED:
		munmap(next, FOREIGN_SIZE);
		break;
	case NEXT_READ_ONLY:
		mprotect(next, FOREIGN_SIZE, PROT_READ);
		break;
	case NEXT_UNKNOWN_VERSION:
		next->flags = 1;
		break;
	default:
		return (uintptr_t)first;
	}
	return (uintptr_t)next;
}

/* A request that only memory at this free address suits. */
static struct buffers_item *get_at(uintptr_t address)
{
	return buffers_get(&(struct buffers_request){
		.min_address = address, .max_address = address + 1, .size = 1,
	});
}

static int count_item(const struct buffers_info *info, void *count)
{
	(void)info;
	++*(unsigned *)count;
	return 0;
}

static unsigned count_walked(void)
{
	unsigned count = 0;

	ck_assert_int_eq(buffers_walk(count_item, &count), 0);
	return count;
}

static struct foreign_locator *locator_with(const void *item)
{
	return (struct foreign_locator *)((uintptr_t)item & ~(uintptr_t)(FOREIGN_SIZE - 1));
}

START_TEST(locator_that_is_linked_before_it_is_written_is_not_followed)
{
	struct foreign_locator *first;
	struct foreign_item *foreign;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(true);
	first = make_first_locator((enum creator)(_i % CREATORS));
	foreign_add(first, foreign_map(FOREIGN_SIZE), FOREIGN_SIZE, false);
	fill_locator(first);
	for (unsigned i = 0; i < 1 + (_i % CREATORS == LIBRARY_FIRST); i++)
		ck_assert(is_item_of(first, buffers_get(&request)));
	foreign_begin_next(first, _i >= CREATORS);
	ck_assert_ptr_null(get_at(FOREIGN_SIZE));	/* searches all items */
	foreign_end_next(first);
	foreign = foreign_add(first, foreign_map(FOREIGN_SIZE), FOREIGN_SIZE, false);
	ck_assert(is_item_of(foreign_next(first), foreign));
	ck_assert_ptr_eq(buffers_get(&request), foreign);
	ck_assert(see_same_items(first));
}
END_TEST

/* Continues in a chain of its own, which no file names.  The walk visits both chains. */
START_TEST(invalid_next_ends_the_chain)
{
	struct foreign_locator *first;
	struct buffers_item *own;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(_i < 2 * NEXT_ITSELF);
	first = make_first_locator((enum creator)(_i / NEXT_ITSELF));
	ck_assert_ptr_nonnull(buffers_get(&request));
	fill_locator(first);
	first->next_locator = bad_next(first, _i < 2 * NEXT_ITSELF ? _i % NEXT_ITSELF :
				       NEXT_UNKNOWN_VERSION);
	for (unsigned i = 0; i < 3; i++) {
		own = buffers_get(&request);
		ck_assert_ptr_nonnull(own);
		ck_assert(!is_item_of(first, own));
		ck_assert_ptr_nonnull(buffers_append(own, "x", 1));
	}
	ck_assert(is_named_by_file(first));
	ck_assert_uint_eq(first->num_items, FOREIGN_CAPACITY);
	ck_assert_uint_eq(count_walked(), FOREIGN_CAPACITY + locator_with(own)->num_items);
}
END_TEST

/* Aside from the mark of a hidden item, which the holder removes. */
static bool is_unchanged(struct foreign_locator *locator, const unsigned char *before)
{
	for (unsigned i = 0; i < locator->num_items; i++)
		locator->items[i].is_taken &= ~(UINT32_C(1) << 31);
	return memcmp(before, locator, FOREIGN_SIZE) == 0;
}

static int leave_locked_chain(void *context)
{
	enum creator creator = *(const enum creator *)context;
	struct foreign_locator *first = make_first_locator(creator);
	unsigned char before[FOREIGN_SIZE];
	struct buffers_item *own = NULL;

	STEP(is_item_of(first, buffers_get(&request)));
	hold_rests(first);
	first->is_locked = 1;
	memcpy(before, first, FOREIGN_SIZE);
	for (unsigned i = 0; i < FOREIGN_CAPACITY + 1; i++) {
		own = buffers_get(&request);
		STEP(own && !is_item_of(first, own));
		STEP(buffers_append(own, "x", 1));
	}
	buffers_release(own);
	STEP(buffers_get(&request) == own);
	STEP(is_unchanged(first, before));
	STEP(is_named_by_file(first));
	STEP(count_walked() >= 1 + FOREIGN_CAPACITY + 1);
	return 0;
}

/* Waits a second once.  The process that held the lock may have been killed. */
START_TEST(lock_that_is_never_released_ends_the_chain)
{
	enum creator creator = (enum creator)_i;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(_i != LIBRARY_FIRST);
	run_child(leave_locked_chain, &creator);
	ck_assert_uint_eq(count_files(SHARED_DIR), creator != LIBRARY_FIRST);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}
END_TEST

/* What the child lists in a locator that it shares is memory that the parent lacks. */
static int list_more(void *context)
{
	struct foreign_locator *first = context;

	for (unsigned i = 0; i < FOREIGN_CAPACITY + 1; i++)
		foreign_add(first, foreign_map(FOREIGN_SIZE), FOREIGN_SIZE, false);
	return 0;
}

static int find_base(const struct buffers_info *info, void *context)
{
	return info->base == context;
}

START_TEST(foreign_chain_is_left_after_a_fork)
{
	unsigned char before[FOREIGN_SIZE];
	struct foreign_locator *first;
	struct buffers_item *held, *own;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(_i != LIBRARY_FIRST);
	first = make_first_locator((enum creator)_i);
	own = buffers_get(&request);
	ck_assert(is_item_of(first, own));
	buffers_release(own);
	run_child(list_more, first);
	memcpy(before, first, FOREIGN_SIZE);
	held = buffers_get(&request);
	ck_assert_ptr_eq(held, own);	/* indexed before, so it stays usable */
	for (unsigned i = 0; i < 3; i++) {
		own = buffers_get(&request);
		ck_assert_ptr_nonnull(own);
		ck_assert_int_eq(is_item_of(first, own), _i == LIBRARY_FIRST);
		ck_assert_ptr_nonnull(buffers_append(own, "x", 1));
		ck_assert_int_eq(buffers_walk(find_base, buffers_base(own)), 1);
	}
	ck_assert_int_eq(buffers_walk(find_base, buffers_base(held)), 1);
	ck_assert_uint_eq(count_walked(), (_i == LIBRARY_FIRST ? 0u : 1u) + locator_with(own)->num_items);
	buffers_release(held);
	if (_i != LIBRARY_FIRST)
		ck_assert_mem_eq(before, first, FOREIGN_SIZE);
	ck_assert(is_named_by_file(first));
}
END_TEST

/*
 * Items that must not be handed out: memory that is missing, missing in part, or without
 * permissions, and memory that another item lists.
 */
enum { MISSING, MISSING_END, WITHOUT_EXECUTE, WITHOUT_WRITE, LISTED_TWICE, OVERLAPPING_END,
       OVERLAPPING_START, ENCLOSED, UNSOUND_ITEMS };

/* Five pages of this memory are usable, and an item lists the middle one. */
static void list_unsound(struct foreign_locator *first, int number)
{
	size_t page = granularity();
	char *memory = foreign_map(5 * page);
	char *base = memory + 2 * page;
	size_t size = page;

	if (number >= LISTED_TWICE)
		foreign_add(first, base, (uint32_t)page, true);
	if (number == MISSING || number == MISSING_END)
		munmap(number == MISSING ? base : base + page, page);
	if (number == MISSING_END || number >= OVERLAPPING_END)
		size *= 2;
	if (number == WITHOUT_EXECUTE || number == WITHOUT_WRITE)
		mprotect(base, page, number == WITHOUT_WRITE ? PROT_READ | PROT_EXEC :
			 PROT_READ | PROT_WRITE);
	if (number == OVERLAPPING_END || number == ENCLOSED)
		base -= page;
	if (number == ENCLOSED)
		size += page;
	foreign_add(first, base, (uint32_t)size, false);
}

START_TEST(unsound_item_of_foreign_code_is_not_handed_out)
{
	int number = _i / STORAGES;
	struct foreign_locator *first;
	struct foreign_item *unsound, *sound;
	struct buffers_item *own;
	void *memory;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(true);
	first = make_first_locator((enum creator)(_i % STORAGES));
	memory = foreign_map(FOREIGN_SIZE);	/* before there is a hole */
	list_unsound(first, number);
	unsound = foreign_item_at(first, number >= LISTED_TWICE);
	sound = foreign_add(first, memory, FOREIGN_SIZE, false);
	own = buffers_get(&request);
	ck_assert_ptr_eq(own, sound);
	own = buffers_get(&request);
	ck_assert_ptr_nonnull(own);
	ck_assert_ptr_ne(own, unsound);
	ck_assert_uint_eq(unsound->is_taken, 0);
	if (number < LISTED_TWICE)
		ck_assert_int_eq(buffers_walk(find_base, (void *)unsound->base), 0);
}
END_TEST

static int arrive_first_and_exit(void *storage)
{
	struct foreign_locator *first = foreign_find(*(enum foreign_storage *)storage);
	struct buffers_item *own = buffers_get(&request);

	STEP(is_item_of(first, own));
	STEP(buffers_append(own, "x", 1));
	return 0;
}

START_TEST(foreign_file_stays_at_exit)
{
	enum foreign_storage storage = (enum foreign_storage)_i;

	SKIP_WITHOUT_SANDBOX();
	run_child(arrive_first_and_exit, &storage);
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}
END_TEST

static int start_own_list(void *first)
{
	unsigned char before[FOREIGN_SIZE];
	struct buffers_item *own;

	memcpy(before, first, FOREIGN_SIZE);
	for (unsigned i = 0; i < 3; i++) {
		own = buffers_get(&request);
		STEP(own);
		STEP(!is_item_of(first, own));
		STEP(buffers_append(own, "x", 1));
	}
	buffers_release(own);
	STEP(memcmp(before, first, FOREIGN_SIZE) == 0);
	STEP(is_item_of(foreign_find(IN_MEMORY), own));
	return 0;
}

START_TEST(forked_child_leaves_the_parents_locator_alone)
{
	unsigned char before[FOREIGN_SIZE];
	struct foreign_locator *first;

	SKIP_WITHOUT_SANDBOX();
	first = make_first_locator((enum creator)_i);
	buffers_release(buffers_get(&request));
	memcpy(before, first, FOREIGN_SIZE);
	run_child(start_own_list, first);
	ck_assert_mem_eq(before, first, FOREIGN_SIZE);
	ck_assert(is_named_by_file(first));
}
END_TEST

/*
 * A creator that makes the file first and writes the address into it later
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

static void sleep_20_ms(void)
{
	const struct timespec pause = { .tv_nsec = 20000000 };

	nanosleep(&pause, NULL);
}

/* Each storage, with a file that is empty at first or contains zeros. */
START_TEST(library_waits_for_an_address_that_is_written_late)
{
	struct waiter waiters[WAITERS];
	struct foreign_locator *first;
	struct stat before, after;
	unsigned entered = 0;
	int file;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(true);
	file = foreign_create();
	ck_assert_int_ge(file, 0);
	ck_assert_int_eq(fstat(file, &before), 0);
	if (_i & 1)
		ck_assert_int_eq(ftruncate(file, FOREIGN_SIZE), 0);
	start_waiters(waiters, &entered);
	sleep_20_ms();
	first = foreign_publish_file(file, (enum foreign_storage)(_i >> 1));
	for (unsigned i = 0; i < WAITERS; i++)
		ck_assert_int_eq(pthread_join(waiters[i].thread, NULL), 0);
	SKIP_IF(foreign_has_stalled(), "the machine stalled: the creator was too slow");
	for (unsigned i = 0; i < WAITERS; i++)
		ck_assert(is_item_of(first, waiters[i].item));
	ck_assert(see_same_items(first));
	ck_assert(is_named_by_file(first));
	ck_assert_int_eq(stat(rendezvous_path(NULL, getpid()), &after), 0);
	ck_assert_uint_eq(after.st_ino, before.st_ino);
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}
END_TEST

/* What the library would have listed is lost when the creator resets the locator. */
START_TEST(library_waits_for_a_first_locator_that_is_reset_late)
{
	struct waiter waiters[WAITERS];
	struct foreign_locator *first;
	struct foreign_item *foreign;
	unsigned entered = 0;
	bool is_late;
	int file;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(true);
	file = foreign_create();
	ck_assert_int_ge(file, 0);
	first = foreign_publish_file(file, (enum foreign_storage)_i);
	start_waiters(waiters, &entered);
	sleep_20_ms();
	foreign_reset(first);
	foreign = foreign_add(first, foreign_map(FOREIGN_SIZE), FOREIGN_SIZE, true);
	is_late = foreign_is_late();
	for (unsigned i = 0; i < WAITERS; i++)
		ck_assert_int_eq(pthread_join(waiters[i].thread, NULL), 0);
	SKIP_IF(is_late, "the machine stalled: the creator was too slow");
	ck_assert_ptr_eq(foreign, foreign_item_at(first, 0));
	for (unsigned i = 0; i < WAITERS; i++) {
		ck_assert(is_item_of(first, waiters[i].item));
		ck_assert_ptr_ne(waiters[i].item, foreign);
	}
	ck_assert_uint_eq(first->num_items, 1 + WAITERS);
	ck_assert(see_same_items(first));
}
END_TEST

START_TEST(first_locator_that_stays_empty_is_followed_in_the_end)
{
	struct foreign_locator *first;
	int file;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF_NOT_LISTED(true);
	file = foreign_create();
	ck_assert_int_ge(file, 0);
	first = foreign_publish_file(file, (enum foreign_storage)_i);
	ck_assert(is_item_of(first, buffers_get(&request)));
	ck_assert(see_same_items(first));
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}
END_TEST

/*
 * Locators of an incompatible version
 */

#define HEADER(member)	offsetof(struct foreign_locator, member)
static const struct deviation {
	size_t offset;
	unsigned value;		/* new value of the byte at the offset */
} deviations[] = {
	{ HEADER(flags), 1 }, { HEADER(flags), 2 }, { HEADER(flags), 4 }, { HEADER(flags), 7 },
	{ HEADER(flags), 0x08 }, { HEADER(flags), 0x80 },
	{ HEADER(num_items), 11 },
#if UINTPTR_MAX > UINT32_MAX
	{ HEADER(num_items), FOREIGN_CAPACITY + 1 }, { HEADER(num_items), 0xff },
#endif
};
enum { DEVIATIONS = sizeof(deviations) / sizeof(deviations[0]) };

/* The items include one without a base. */
static void make_incompatible(struct foreign_locator *first, const struct deviation *deviation)
{
	for (unsigned i = 0; i < 10; i++)
		foreign_add(first, foreign_map(FOREIGN_SIZE), FOREIGN_SIZE, false);
	((unsigned char *)first)[deviation->offset] = (unsigned char)deviation->value;
}

static int use_own_list(struct foreign_locator *first)
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
	STEP(is_named_by_file(first));
	own = (uintptr_t)read_address(rendezvous_path(own_dir(), getpid()));
	STEP(own && is_item_of((struct foreign_locator *)own, item));
	return 0;
}

static int use_beside_incompatible(void *context)
{
	int number = *(const int *)context;
	struct foreign_locator *first = foreign_find((enum foreign_storage)(number % STORAGES));

	make_incompatible(first, &deviations[number / STORAGES]);
	return use_own_list(first);
}

START_TEST(incompatible_locator_is_left_alone)
{
	SKIP_WITHOUT_SANDBOX();
	run_child(use_beside_incompatible, &_i);
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}
END_TEST

static int use_beside_bad_next(void *context)
{
	struct foreign_locator *first = foreign_find(IN_MEMORY);

	first->next_locator = bad_next(first, *(const int *)context);
	return use_own_list(first);
}

START_TEST(chain_with_a_bad_next_locator_is_left_alone)
{
	SKIP_WITHOUT_SANDBOX();
	run_child(use_beside_bad_next, &_i);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("interop/foreign");
	TCase *turns = tcase_create("in-turn");

	tcase_set_tags(turns, "fork");
	tcase_set_timeout(turns, 120);
	tcase_add_loop_test(turns, each_continues_where_the_other_stopped, 0, CREATORS);
	tcase_add_loop_test(turns, item_held_by_the_other_is_skipped, 0, CREATORS);
	tcase_add_loop_test(turns, item_that_foreign_code_has_overfilled_is_skipped, 0,
			    CREATORS);
	tcase_add_loop_test(turns, foreign_code_follows_a_locator_that_the_library_links, 0,
			    CREATORS);
	tcase_add_loop_test(turns, library_follows_a_locator_that_foreign_code_links, 0,
			    CREATORS);
	tcase_add_loop_test(turns, library_fills_a_foreign_locator_and_links_the_next, 0,
			    CREATORS);
	tcase_add_loop_test(turns, locator_that_is_linked_before_it_is_written_is_not_followed,
			    0, 2 * CREATORS);
	tcase_add_loop_test(turns, invalid_next_ends_the_chain, 0, 2 * NEXT_ITSELF + 1);
	tcase_add_loop_test(turns, lock_that_is_never_released_ends_the_chain, 0, CREATORS);
	tcase_add_loop_test(turns, foreign_chain_is_left_after_a_fork, 0, CREATORS);
	tcase_add_loop_test(turns, unsound_item_of_foreign_code_is_not_handed_out, 0,
			    UNSOUND_ITEMS * STORAGES);
	tcase_add_loop_test(turns, foreign_file_stays_at_exit, 0, STORAGES);
	tcase_add_loop_test(turns, forked_child_leaves_the_parents_locator_alone, 0, CREATORS);
	tcase_add_loop_test(turns, library_waits_for_an_address_that_is_written_late, 0,
			    2 * STORAGES);
	tcase_add_loop_test(turns, library_waits_for_a_first_locator_that_is_reset_late, 0,
			    STORAGES);
	tcase_add_loop_test(turns, first_locator_that_stays_empty_is_followed_in_the_end, 0,
			    STORAGES);
	tcase_add_loop_test(turns, incompatible_locator_is_left_alone, 0, DEVIATIONS * STORAGES);
	tcase_add_loop_test(turns, chain_with_a_bad_next_locator_is_left_alone, 0, BAD_NEXTS);
	suite_add_tcase(suite, turns);
	return run_suite(suite);
}
