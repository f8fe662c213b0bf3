/* SPDX-License-Identifier: MIT */
/* api/item.c: the calls that take an item, and running code in it */

#include "config.h"
#define BUFFERS_BUILD	/* declares no argument nonnull, so that tests can pass NULL */
#include "reloaded/buffers.h"
#include "support/code.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define KIB ((size_t)1 << 10)

static struct buffers_item *new_item(void)
{
	struct buffers_request request = { .size = 64 * KIB };
	struct buffers_item *item = buffers_get(&request);

	ck_assert_ptr_nonnull(item);
	return item;
}

/* All that a caller can read of an item.  Equal states show that a call changed nothing. */
struct state {
	void *next, *base;
	size_t remaining, size;
	unsigned char bytes[64 << 10];
};

static void take_snapshot(const struct buffers_item *item, struct state *state)
{
	state->next = buffers_next(item);
	state->base = buffers_base(item);
	state->remaining = buffers_remaining(item);
	state->size = buffers_size(item);
	memcpy(state->bytes, state->base, sizeof(state->bytes));
}

static void check_unchanged(const struct buffers_item *item, const struct state *before)
{
	static struct state now;

	take_snapshot(item, &now);
	ck_assert_ptr_eq(now.next, before->next);
	ck_assert_ptr_eq(now.base, before->base);
	ck_assert_uint_eq(now.remaining, before->remaining);
	ck_assert_uint_eq(now.size, before->size);
	ck_assert_mem_eq(now.bytes, before->bytes, sizeof(now.bytes));
}

static char data[80 << 10];

START_TEST(append_copies_and_advances)
{
	struct buffers_item *item = new_item();
	char *base = buffers_base(item);

	errno = 1234;
	ck_assert_ptr_eq(buffers_append(item, "abc", 3), base);
	ck_assert_ptr_eq(buffers_next(item), base + 3);
	ck_assert_uint_eq(buffers_remaining(item), buffers_size(item) - 3);
	ck_assert_ptr_eq(buffers_append(item, "defg", 4), base + 3);
	ck_assert_mem_eq(base, "abcdefg\0", 8);
	ck_assert_int_eq(errno, 1234);
}
END_TEST

START_TEST(data_already_at_its_destination_can_be_appended)
{
	struct buffers_item *item = new_item();
	char *next = buffers_next(item);

	memcpy(next, "in place", 8);
	ck_assert_ptr_eq(buffers_append(item, next, 8), next);
	memcpy(next + 8, "shifted", 7);
	ck_assert_ptr_eq(buffers_append(item, next + 9, 6), next + 8);
	ck_assert_mem_eq(next, "in placehifted", 14);
}
END_TEST

/* Also at odd offsets, where the library must not use one store of the whole size. */
START_TEST(any_bytes_of_an_item_can_be_overwritten)
{
	struct buffers_item *item = new_item();
	char *bytes = buffers_append(item, "0123456789abcdef0123456789abcdef", 32);

	for (size_t size = 1; size <= 9; size++) {
		for (size_t offset = 0; offset <= 16; offset++) {
			memset(data, (int)(size * 17 + offset), size);
			ck_assert_int_eq(buffers_overwrite(bytes + offset, data, size), 0);
			ck_assert_mem_eq(bytes + offset, data, size);
			ck_assert_mem_eq(bytes + 26, "abcdef", 6);
		}
	}
}
END_TEST

START_TEST(appending_zero_bytes_changes_nothing)
{
	static struct state before;
	struct buffers_item *item = new_item();

	ck_assert_ptr_nonnull(buffers_append(item, "abc", 3));
	take_snapshot(item, &before);
	errno = 1234;
	ck_assert_ptr_eq(buffers_append(item, NULL, 0), before.next);
	ck_assert_ptr_eq(buffers_append(item, "x", 0), before.next);
	ck_assert_ptr_eq(buffers_append_code(item, NULL, 0), before.next);
	ck_assert_int_eq(errno, 1234);
	check_unchanged(item, &before);
}
END_TEST

START_TEST(item_is_filled_to_its_last_byte_and_no_further)
{
	static struct state before;
	struct buffers_item *item = new_item();
	size_t size = buffers_size(item);

	ck_assert_uint_le(size, sizeof(data));
	memset(data, 7, sizeof(data));
	take_snapshot(item, &before);
	errno = 0;
	ck_assert_ptr_null(buffers_append(item, data, size + 1));
	ck_assert_int_eq(errno, ENOSPC);
	check_unchanged(item, &before);
	ck_assert_ptr_nonnull(buffers_append(item, data, size - 1));
	ck_assert_ptr_null(buffers_append(item, data, 2));
	ck_assert_ptr_nonnull(buffers_append(item, data, 1));
	ck_assert_uint_eq(buffers_remaining(item), 0);
	take_snapshot(item, &before);
	for (size_t i = 0; i < 4; i++) {
		static const size_t sizes[] = { 1, 16, UINT32_MAX, SIZE_MAX };
		/* volatile, or compilers warn that data[] is smaller */
		volatile size_t too_much = sizes[i];

		errno = 0;
		ck_assert_ptr_null(buffers_append(item, data, too_much));
		ck_assert_int_eq(errno, ENOSPC);
		errno = 0;
		ck_assert_ptr_null(buffers_append_code(item, data, too_much));
		ck_assert_int_eq(errno, ENOSPC);
		errno = 0;
		ck_assert_ptr_null(buffers_reserve(item, too_much, 1));
		ck_assert_int_eq(errno, ENOSPC);
	}
	check_unchanged(item, &before);
	ck_assert_ptr_eq(buffers_append(item, data, 0), before.next);
}
END_TEST

START_TEST(reserved_bytes_are_aligned_and_zero)
{
	struct buffers_item *item = new_item();
	char *base = buffers_base(item);

	ck_assert_ptr_nonnull(buffers_append(item, "x", 1));
	errno = 1234;
	ck_assert_ptr_eq(buffers_reserve(item, 10, 0), base + 1);
	ck_assert_ptr_eq(buffers_reserve(item, 10, 16), base + 16);
	ck_assert_ptr_eq(buffers_reserve(item, 0, 4096), base + 4096);
	ck_assert_ptr_eq(buffers_next(item), base + 4096);
	ck_assert_ptr_eq(buffers_append(item, "y", 1), base + 4096);
	ck_assert_int_eq(errno, 1234);
	for (size_t i = 1; i < 4096; i++)
		ck_assert_int_eq(base[i], 0);
}
END_TEST

START_TEST(reserve_that_does_not_fit_after_aligning_changes_nothing)
{
	static struct state before;
	struct buffers_item *item = new_item();
	size_t size = buffers_size(item);

	ck_assert_ptr_nonnull(buffers_reserve(item, size - 100, 1));
	take_snapshot(item, &before);
	for (unsigned i = 0; i < 3; i++) {
		static const struct {
			size_t size, alignment;
		} cases[] = { { 101, 1 }, { 1, (SIZE_MAX >> 1) + 1 }, { SIZE_MAX, 4096 } };
		volatile size_t wanted = cases[i].size;

		errno = 0;
		ck_assert_ptr_null(buffers_reserve(item, wanted, cases[i].alignment));
		ck_assert_int_eq(errno, ENOSPC);
	}
	check_unchanged(item, &before);
	ck_assert_ptr_nonnull(buffers_reserve(item, 100, 1));
}
END_TEST

START_TEST(bad_arguments_are_einval)
{
	static struct state before;
	struct buffers_item *item = new_item();
	char byte = 1;

	take_snapshot(item, &before);
#define EINVAL_IS(call)					\
	do {						\
		errno = 0;				\
		ck_assert(call);			\
		ck_assert_int_eq(errno, EINVAL);	\
	} while (0)
	EINVAL_IS(!buffers_append(item, NULL, 1));
	EINVAL_IS(!buffers_append(NULL, &byte, 1));
	EINVAL_IS(!buffers_append_code(item, NULL, 1));
	EINVAL_IS(!buffers_append_code(NULL, &byte, 1));
	EINVAL_IS(!buffers_reserve(NULL, 1, 1));
	EINVAL_IS(!buffers_reserve(item, 1, 3));
	EINVAL_IS(!buffers_reserve(item, 1, SIZE_MAX));
	EINVAL_IS(!buffers_next(NULL));
	EINVAL_IS(!buffers_base(NULL));
	EINVAL_IS(buffers_remaining(NULL) == 0);
	EINVAL_IS(buffers_size(NULL) == 0);
	EINVAL_IS(buffers_overwrite(NULL, &byte, 1) == -1);
	EINVAL_IS(buffers_overwrite(&byte, NULL, 1) == -1);
	EINVAL_IS(buffers_overwrite_with(&byte, 1, NULL, NULL) == -1);
#undef EINVAL_IS
	errno = 1234;
	buffers_release(NULL);
	buffers_flush_icache(NULL, 0);
	ck_assert_int_eq(buffers_overwrite(NULL, NULL, 0), 0);
	ck_assert_int_eq(buffers_overwrite_with(NULL, 0, NULL, NULL), 0);
	ck_assert_int_eq(errno, 1234);
	ck_assert_int_eq(byte, 1);
	check_unchanged(item, &before);
}
END_TEST

/*
 * Code
 */

#ifdef HAVE_CODE
START_TEST(appended_code_runs)
{
	struct buffers_item *item = new_item();
	struct code code = code_of(42);
	void *copy = buffers_append_code(item, code.bytes, CODE_SIZE);

	buffers_release(item);
	ck_assert_ptr_nonnull(copy);
	ck_assert_uint_eq(call_code(copy), 42);
}
END_TEST

START_TEST(code_can_be_written_to_reserved_space)
{
	struct buffers_item *item = new_item();
	struct code code = code_of(42);
	void *copy = buffers_reserve(item, CODE_SIZE, 16);

	ck_assert_int_eq(buffers_overwrite(copy, code.bytes, CODE_SIZE), 0);
	ck_assert_uint_eq(call_code(copy), 42);
}
END_TEST

static void set_result(void *bytes, size_t size, void *context)
{
	struct code before = code_of(42), after = code_of(*(uint32_t *)context);

	ck_assert_uint_eq(size, CODE_SIZE);
	ck_assert_mem_eq(bytes, before.bytes, size);
	memcpy(bytes, after.bytes, size);
}

START_TEST(code_can_be_changed_after_the_release_of_its_item)
{
	struct buffers_item *item = new_item();
	struct code code = code_of(42), other = other_code_of(77);
	char *copy = buffers_append_code(item, code.bytes, CODE_SIZE);
	uint32_t seven = 7, nine = word_of_code(9);

	buffers_release(item);
	errno = 1234;
	ck_assert_int_eq(buffers_overwrite_with(copy, CODE_SIZE, set_result, &seven), 0);
	ck_assert_uint_eq(call_code(copy), 7);
	ck_assert_int_eq(buffers_overwrite(copy + CODE_WORD, &nine, 4), 0);
	ck_assert_uint_eq(call_code(copy), 9);
	ck_assert_int_eq(buffers_overwrite(copy, code.bytes, 4), 0);
	ck_assert_uint_eq(call_code(copy), 42);
	ck_assert_int_eq(buffers_overwrite(copy, other.bytes, CODE_SIZE), 0);
	ck_assert_uint_eq(call_code(copy), 77);
	ck_assert_int_eq(buffers_overwrite(copy + 4, other.bytes + 4, 1), 0);
	ck_assert_uint_eq(call_code(copy), 77);
	ck_assert_int_eq(errno, 1234);
}
END_TEST
#endif

#if CODE_IS_COHERENT
/* A thread that executes code while its eight bytes change runs the old or the new code. */
struct swap {
	void *code;
	bool stop;
	unsigned torn;
};

static void *execute(void *context)
{
	struct swap *swap = context;

	while (!__atomic_load_n(&swap->stop, __ATOMIC_RELAXED)) {
		uint32_t result = call_code(swap->code);

		swap->torn += result != CODE_ONE && result != CODE_TWO;
	}
	return NULL;
}

START_TEST(eight_aligned_bytes_change_atomically)
{
	struct code one = code_of(CODE_ONE), two = other_code_of(CODE_TWO);
	struct buffers_item *item = new_item();
	struct swap swap = { .code = buffers_reserve(item, 8, 8) };
	pthread_t thread;

	ck_assert_int_eq(buffers_overwrite(swap.code, one.bytes, 8), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, execute, &swap), 0);
	for (unsigned i = 0; i < how_many(2000, 100000); i++)
		ck_assert_int_eq(buffers_overwrite(swap.code, (i % 2 ? &one : &two)->bytes, 8), 0);
	__atomic_store_n(&swap.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(swap.torn, 0);
}
END_TEST
#endif

int main(void)
{
	Suite *suite = suite_create("api/item");
	TCase *items = tcase_create("items");

	tcase_add_test(items, append_copies_and_advances);
	tcase_add_test(items, data_already_at_its_destination_can_be_appended);
	tcase_add_test(items, any_bytes_of_an_item_can_be_overwritten);
	tcase_add_test(items, appending_zero_bytes_changes_nothing);
	tcase_add_test(items, item_is_filled_to_its_last_byte_and_no_further);
	tcase_add_test(items, reserved_bytes_are_aligned_and_zero);
	tcase_add_test(items, reserve_that_does_not_fit_after_aligning_changes_nothing);
	tcase_add_test(items, bad_arguments_are_einval);
	suite_add_tcase(suite, items);
#ifdef HAVE_CODE
	TCase *code = tcase_create("code");

	tcase_set_timeout(code, 300);
	tcase_add_test(code, appended_code_runs);
	tcase_add_test(code, code_can_be_written_to_reserved_space);
	tcase_add_test(code, code_can_be_changed_after_the_release_of_its_item);
#if CODE_IS_COHERENT
	tcase_add_test(code, eight_aligned_bytes_change_atomically);
#endif
	suite_add_tcase(suite, code);
#endif
	return run_suite(suite);
}
