/* SPDX-License-Identifier: MIT */
/* copies.c: copies of the library in one process; the program itself links none */

#include "config.h"
#include "support/code.h"
#include "support/copies.h"
#include "support/ledger.h"
#include "support/regions.h"
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

static const char *const files[] = { COPY_ONE, COPY_TWO, PLUGIN };
enum { COPIES = sizeof(files) / sizeof(files[0]) };

static const unsigned kinds[] = { 0, BUFFERS_RW, BUFFERS_RX };
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static struct copy load(const char *file)
{
	struct copy copy;

	ck_assert(load_copy(&copy, file, false));
	return copy;
}

static void load_all(struct copy copies[COPIES])
{
	for (unsigned i = 0; i < COPIES; i++)
		copies[i] = load(files[i]);
}

static struct buffers_item *get_from_copy(const struct copy *copy, unsigned flags)
{
	struct buffers_request request = { .size = 256, .flags = flags };
	struct buffers_item *item = copy->calls.get(&request);

	ck_assert_ptr_nonnull(item);
	return item;
}

static void *append(const struct copy *copy, unsigned flags, const void *bytes, size_t size)
{
	struct buffers_item *item = get_from_copy(copy, flags);
	void *there = copy->calls.append(item, bytes, size);

	ck_assert_ptr_nonnull(there);
	copy->calls.release(item);
	return there;
}

START_TEST(copies_have_distinct_functions)
{
	struct copy copies[COPIES];

	load_all(copies);
	for (unsigned i = 0; i < COPIES; i++)
		for (unsigned j = 0; j < i; j++)
			ck_assert(copies[i].calls.get != copies[j].calls.get);
}
END_TEST

START_TEST(each_copy_lists_the_buffers_of_the_others)
{
	struct copy copies[COPIES];
	struct listing listings[COPIES];

	load_all(copies);
	for (unsigned i = 0; i < COPIES; i++)
		get_from_copy(&copies[i], kinds[_i]);	/* held, so the next copy makes another */
	for (unsigned i = 0; i < COPIES; i++)
		listings[i] = list_buffers(&copies[i]);
	ck_assert_uint_ge(listings[0].count, 1);
	for (unsigned i = 1; i < COPIES; i++)
		ck_assert(is_same_listing(&listings[0], &listings[i]));
}
END_TEST

START_TEST(each_copy_continues_where_another_stopped)
{
	struct copy copies[COPIES];
	char *text;

	load_all(copies);
	text = append(&copies[0], kinds[_i], "one ", 4);
	for (unsigned round = 0; round < 10; round++)
		for (unsigned i = 0; i < COPIES; i++)
			ck_assert_ptr_eq(append(&copies[i], kinds[_i], "more", 4),
					 text + 4 + 4 * (round * COPIES + i));
	ck_assert(memcmp(text, "one moremoremore", 16) == 0);
}
END_TEST

/* A copy looks for items that others have released when it finds no item that was free before. */
START_TEST(item_held_by_one_copy_is_skipped_by_the_others)
{
	struct copy copies[COPIES];
	struct buffers_item *items[COPIES];
	bool is_found = false;

	load_all(copies);
	for (unsigned i = 0; i < COPIES; i++)
		items[i] = get_from_copy(&copies[i], kinds[_i]);
	for (unsigned i = 0; i < COPIES; i++)
		for (unsigned j = 0; j < i; j++)
			ck_assert_ptr_ne(items[i], items[j]);
	copies[0].calls.release(items[1]);
	for (unsigned i = 0; i < 64 && !is_found; i++)
		is_found = get_from_copy(&copies[2], kinds[_i]) == items[1];
	ck_assert(is_found);
}
END_TEST

START_TEST(one_copy_overwrites_code_of_another)
{
	struct copy copies[COPIES];
	struct code code = code_of(42);
	void *there;

	load_all(copies);
	for (unsigned i = 0; i < COPIES; i++) {
		there = append(&copies[i], BUFFERS_RX, &code, sizeof(code));
		ck_assert_uint_eq(call_code(there), 42);
		for (unsigned j = 0; j < COPIES; j++) {
			struct code other = code_of(1000 + j);

			ck_assert_int_eq(copies[j].calls.overwrite(there, &other, sizeof(other)),
					 0);
			ck_assert_uint_eq(call_code(there), 1000 + j);
		}
		ck_assert_uint_eq(region_at((uintptr_t)there).protection, PAGE_EXECUTE_READ);
	}
}
END_TEST

/* The copy that overwrites may never have made RX memory itself. */
START_TEST(copy_loaded_later_overwrites_earlier_code)
{
	struct copy first = load(files[0]), later;
	struct code code = code_of(42), other = code_of(43);
	void *there = append(&first, BUFFERS_RX, &code, sizeof(code));

	later = load(files[2]);
	ck_assert_int_eq(later.calls.overwrite(there, &other, sizeof(other)), 0);
	ck_assert_uint_eq(call_code(there), 43);
	ck_assert_int_eq(close_copy(&later, files[2]), true);
	ck_assert_int_eq(first.calls.overwrite(there, &code, sizeof(code)), 0);
	ck_assert_uint_eq(call_code(there), 42);
}
END_TEST

START_TEST(buffers_outlive_the_copy_that_made_them)
{
	struct copy creator = load(files[_i]);
	struct copy successor = load(files[(_i + 1) % COPIES]), later;
	struct code code = code_of(42), other = code_of(43);
	char *appended[KINDS];

	for (unsigned i = 0; i < KINDS; i++)
		appended[i] = append(&creator, kinds[i], &code, sizeof(code));
	ck_assert(close_copy(&creator, files[_i]));
	for (unsigned i = 0; i < KINDS; i++) {
		ck_assert_mem_eq(appended[i], &code, sizeof(code));
		ck_assert_int_eq(successor.calls.overwrite(appended[i], &other, sizeof(other)), 0);
		ck_assert_ptr_eq(append(&successor, kinds[i], &code, sizeof(code)),
				 appended[i] + sizeof(code));
	}
	ck_assert_uint_eq(call_code(appended[0]), 43);
	ck_assert_uint_eq(call_code(appended[2]), 43);
	later = load(files[(_i + 2) % COPIES]);
	for (unsigned i = 0; i < KINDS; i++)
		ck_assert_ptr_eq(append(&later, kinds[i], &code, sizeof(code)),
				 appended[i] + 2 * sizeof(code));
}
END_TEST

/* No copy is loaded in between: the reloaded copy finds the locator by the section's name. */
START_TEST(reloaded_copy_continues_where_it_stopped)
{
	struct copy copy = load(files[_i]);
	char *appended[KINDS];

	for (unsigned i = 0; i < KINDS; i++)
		appended[i] = append(&copy, kinds[i], "before ", 7);
	ck_assert(close_copy(&copy, files[_i]));
	copy = load(files[_i]);
	for (unsigned i = 0; i < KINDS; i++)
		ck_assert_ptr_eq(append(&copy, kinds[i], "after", 6), appended[i] + 7);
	ck_assert_str_eq(appended[0], "before after");
}
END_TEST

/*
 * Private memory
 */

START_TEST(memory_allocated_by_one_copy_is_freed_by_another)
{
	struct copy copies[COPIES];
	uintptr_t address = unused_address(4 * BLOCK);
	struct buffers_request request = {
		.min_address = address, .max_address = address + 2 * BLOCK, .size = 2 * BLOCK,
		.flags = kinds[_i],
	};
	size_t size;

	load_all(copies);
	for (unsigned i = 0; i < 12; i++) {
		const struct copy *one = &copies[i % COPIES];
		const struct copy *other = &copies[(i + 1 + i / 4) % COPIES];
		void *memory = one->calls.alloc(&request, &size);

		ck_assert_ptr_eq(memory, (void *)address);
		ck_assert_uint_eq(size, 2 * BLOCK);
		ck_assert_int_eq(one->calls.overwrite(memory, "bytes", 5), 0);
		ck_assert_int_eq(other->calls.overwrite((char *)memory + BLOCK - 2, "bytes", 5), 0);
		ck_assert_int_eq(other->calls.free(memory, size), 0);
		ck_assert(is_range_free(address, address + 2 * BLOCK));
	}
}
END_TEST

START_TEST(freeing_leaves_no_handle_and_no_view)
{
	struct buffers_request request = { .size = BLOCK, .flags = kinds[_i] };
	struct copy copies[COPIES];
	unsigned handles = 0;
	size_t views = 0, size;

	load_all(copies);
	for (unsigned i = 0; i < 200; i++) {
		void *memory = copies[i % COPIES].calls.alloc(&request, &size);

		ck_assert_ptr_nonnull(memory);
		ck_assert_int_eq(copies[i / 3 % COPIES].calls.overwrite(memory, "bytes", 5), 0);
		ck_assert_int_eq(copies[(i + 1) % COPIES].calls.free(memory, size), 0);
		if (i == 20) {
			handles = count_handles();
			views = count_allocations(MEM_MAPPED);
		}
	}
	ck_assert_uint_eq(count_handles(), handles);
	ck_assert_uint_eq(count_allocations(MEM_MAPPED), views);
}
END_TEST

START_TEST(loading_and_unloading_leaves_no_handle)
{
	unsigned handles = 0;

	for (unsigned i = 0; i < 20; i++) {
		struct copy copy = load(files[i % COPIES]);

		for (unsigned kind = 0; kind < KINDS; kind++)
			append(&copy, kinds[kind], "bytes", 5);
		ck_assert(close_copy(&copy, files[i % COPIES]));
		if (i == 5)
			handles = count_handles();
	}
	ck_assert_uint_eq(count_handles(), handles);
}
END_TEST

/*
 * Threads
 */

enum { THREADS = 8, ROUNDS = 400 };

struct thread {
	HANDLE thread;
	struct copy copies[COPIES];
	unsigned flags, number;
	const char *fault;
};
static HANDLE are_loaded;
static struct thread threads[THREADS];

static const char *write_entry(const struct calls *calls, struct thread *thread, unsigned number,
			       uint64_t *random)
{
	struct buffers_request request = { .size = ENTRY_MAX, .flags = thread->flags };
	unsigned char entry[ENTRY_MAX];
	size_t size = entry_make(entry, thread->number, number, random);
	struct buffers_item *item = calls->get(&request);

	if (!item)
		return "a request failed";
	if (!mark_held(item, thread->number))
		return "two threads got the same item";
	if (!calls->append(item, entry, size))
		return "appending to the item failed";
	if (!mark_released(item, thread->number))
		return "a held item got another holder";
	calls->release(item);
	return NULL;
}

static DWORD WINAPI write_entries(void *context)
{
	struct thread *thread = context;
	uint64_t random = thread->number;

	WaitForSingleObject(are_loaded, INFINITE);
	for (unsigned i = 0; i < ROUNDS && !thread->fault; i++)
		thread->fault = write_entry(&thread->copies[i % COPIES].calls, thread, i, &random);
	return 0;
}

static void start(unsigned number, unsigned flags)
{
	threads[number] = (struct thread){ .flags = flags, .number = number };
	threads[number].thread = CreateThread(NULL, 0, write_entries, &threads[number], 0, NULL);
	ck_assert_ptr_nonnull(threads[number].thread);
}

/* Each thread uses all copies in turn.  Half of the threads start before a copy is loaded. */
START_TEST(threads_started_before_and_after_loading_write_at_once)
{
	struct ledger ledger = ledger_new(THREADS, ROUNDS);
	struct copy copies[COPIES];
	struct listing listing;

	are_loaded = CreateEventA(NULL, TRUE, FALSE, NULL);
	for (unsigned i = 0; i < THREADS / 2; i++)
		start(i, kinds[_i]);
	load_all(copies);
	for (unsigned i = THREADS / 2; i < THREADS; i++)
		start(i, kinds[_i]);
	for (unsigned i = 0; i < THREADS; i++)
		memcpy(threads[i].copies, copies, sizeof(copies));
	SetEvent(are_loaded);
	for (unsigned i = 0; i < THREADS; i++) {
		ck_assert_uint_eq(WaitForSingleObject(threads[i].thread, 60000), WAIT_OBJECT_0);
		ck_assert_msg(!threads[i].fault, "%s", threads[i].fault);
	}
	listing = list_buffers(&copies[_i]);
	for (size_t i = 0; i < listing.count; i++) {
		if (listing.buffers[i].flags != kinds[_i])
			continue;
		ck_assert_int_eq(listing.buffers[i].taken, 0);
		ck_assert_ptr_null(ledger_read(&ledger, listing.buffers[i].base,
					       listing.buffers[i].used));
	}
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert(ledger_has(&ledger, i, ROUNDS));
	free(ledger.seen);
}
END_TEST

START_TEST(copies_that_start_at_once_share_one_locator)
{
	struct copy copies[COPIES];
	const char *fault;

	load_all(copies);
	fault = write_concurrently(copies, NULL, COPIES, 200);
	ck_assert_msg(!fault, "%s", fault);
	ck_assert_uint_ne(rendezvous_address(), 0);
}
END_TEST

START_TEST(copies_that_are_loaded_for_each_entry_share_one_locator)
{
	const char *fault = write_concurrently(NULL, files, COPIES, 20);

	ck_assert_msg(!fault, "%s", fault);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("windows/copies");
	TCase *turns = tcase_create("turns");
	TCase *leaving = tcase_create("leaving");
	TCase *at_once = tcase_create("at once");

	tcase_add_test(turns, copies_have_distinct_functions);
	tcase_add_loop_test(turns, each_copy_lists_the_buffers_of_the_others, 0, KINDS);
	tcase_add_loop_test(turns, each_copy_continues_where_another_stopped, 0, KINDS);
	tcase_add_loop_test(turns, item_held_by_one_copy_is_skipped_by_the_others, 0, KINDS);
	tcase_add_test(turns, one_copy_overwrites_code_of_another);
	tcase_add_test(turns, copy_loaded_later_overwrites_earlier_code);
	tcase_add_loop_test(turns, memory_allocated_by_one_copy_is_freed_by_another, 0, KINDS);
	tcase_add_loop_test(leaving, buffers_outlive_the_copy_that_made_them, 0, COPIES);
	tcase_add_loop_test(leaving, reloaded_copy_continues_where_it_stopped, 0, COPIES);
	tcase_add_loop_test(leaving, freeing_leaves_no_handle_and_no_view, 0, KINDS);
	tcase_add_test(leaving, loading_and_unloading_leaves_no_handle);
	tcase_add_loop_test(at_once, threads_started_before_and_after_loading_write_at_once, 0,
			    KINDS);
	tcase_add_test(at_once, copies_that_start_at_once_share_one_locator);
	tcase_add_test(at_once, copies_that_are_loaded_for_each_entry_share_one_locator);
	suite_add_tcase(suite, turns);
	suite_add_tcase(suite, leaving);
	suite_add_tcase(suite, at_once);
	return run_suite(suite);
}
