/* SPDX-License-Identifier: MIT */
/* api/alloc.c: buffers_alloc() and buffers_free() */

#include "config.h"
#define BUFFERS_BUILD	/* declares no argument nonnull, so that tests can pass NULL */
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <string.h>

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

static char *alloc_memory(const struct buffers_request *request, size_t *allocated)
{
	char *memory;

	errno = 1234;
	memory = buffers_alloc(request, allocated);
	ck_assert_int_eq(errno, 1234);
	ck_assert_ptr_nonnull(memory);
	ck_assert_uint_ge((uintptr_t)memory, request->min_address);
	if (request->max_address)
		ck_assert_uint_le((uintptr_t)memory + *allocated, request->max_address);
	ck_assert_uint_eq((uintptr_t)memory % (request->alignment ? request->alignment : 1), 0);
	ck_assert_uint_ge(*allocated, request->size);
	ck_assert_uint_lt(*allocated - request->size, granularity());
	ck_assert_uint_eq(*allocated % granularity(), 0);
	return memory;
}

static void check_free(void *memory, size_t allocated)
{
	errno = 1234;
	ck_assert_int_eq(buffers_free(memory, allocated), 0);
	ck_assert_int_eq(errno, 1234);
}

static size_t count_zeros(const char *memory, size_t size)
{
	size_t count_buffer = 0;

	while (count_buffer < size && memory[count_buffer] == 0)
		count_buffer++;
	return count_buffer;
}

START_TEST(memory_is_zeroed_whole_pages_in_the_range)
{
	static const size_t sizes[] = { 1, 4095, 4096, 4097, 100000, 1 << 20 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct buffers_request request = { .max_address = 2 * GIB, .size = sizes[i] };
		size_t allocated;
		char *memory = alloc_memory(&request, &allocated);

		ck_assert_uint_eq(count_zeros(memory, allocated), allocated);
		memset(memory, 1, allocated);
		if (!is_asan() && !is_tsan())
			ck_assert(is_mapped_as((uintptr_t)memory, (uintptr_t)memory + allocated,
					       "rwxp"));
	}
}
END_TEST

START_TEST(memory_is_aligned_as_requested)
{
	for (size_t alignment = 1; alignment <= GIB; alignment *= 2) {
		struct buffers_request request = {
			.max_address = sizeof(void *) == 8 ? 64 * GIB : 0,
			.size = 1,
			.alignment = alignment,
		};
		size_t allocated;
		void *memory;

		SKIP_IF(!is_any_candidate_left(1, alignment), NO_CANDIDATE_LEFT);
		memory = alloc_memory(&request, &allocated);
		check_free(memory, allocated);
	}
}
END_TEST

START_TEST(freed_memory_is_unmapped_and_its_address_is_used_again)
{
	struct buffers_request request = buffers_request_near(
		(const void *)freed_memory_is_unmapped_and_its_address_is_used_again,
		BUFFERS_REACH_BRANCH, 3 * granularity());
	size_t allocated;
	char *first = alloc_memory(&request, &allocated);

	check_free(first, allocated);
	ck_assert_uint_eq(count_mappings((uintptr_t)first, (uintptr_t)first + allocated), 0);
	for (unsigned i = 0; i < 100; i++) {
		ck_assert_ptr_eq(alloc_memory(&request, &allocated), first);
		check_free(first, allocated);
	}
}
END_TEST

START_TEST(two_callers_get_different_memory)
{
	struct buffers_request request = { .max_address = 2 * GIB, .size = granularity() };
	size_t allocated;
	char *memory[100];

	for (size_t i = 0; i < 100; i++) {
		memory[i] = alloc_memory(&request, &allocated);
		for (size_t j = 0; j < i; j++)
			ck_assert_ptr_ne(memory[i], memory[j]);
	}
}
END_TEST

static int count_buffer(const struct buffers_info *info, void *context)
{
	(void)info;
	++*(size_t *)context;
	return 0;
}

START_TEST(private_memory_is_not_shared)
{
	struct buffers_request request = { .max_address = 2 * GIB, .size = 100 };
	size_t allocated;
	size_t buffers = 0;
	char *memory = alloc_memory(&request, &allocated);
	struct buffers_item *item;

	ck_assert_int_eq(buffers_walk(count_buffer, &buffers), 0);
	ck_assert_uint_eq(buffers, 0);
	item = buffers_get(&request);
	ck_assert_ptr_nonnull(item);
	ck_assert((char *)buffers_base(item) >= memory + allocated ||
		  (char *)buffers_base(item) + buffers_size(item) <= memory);
}
END_TEST

START_TEST(bad_arguments_are_einval_and_change_nothing)
{
	struct buffers_request request = { .size = 2 * granularity() };
	size_t allocated = 77;
	size_t other = 77;
	char *memory = alloc_memory(&request, &allocated);

	errno = 0;
	ck_assert_ptr_null(buffers_alloc(NULL, &other));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_uint_eq(other, 77);
	errno = 0;
	ck_assert_ptr_null(buffers_alloc(&request, NULL));
	ck_assert_int_eq(errno, EINVAL);

#define EINVAL_IS(call)					\
	do {						\
		errno = 0;				\
		ck_assert_int_eq(call, -1);		\
		ck_assert_int_eq(errno, EINVAL);	\
	} while (0)
	EINVAL_IS(buffers_free(NULL, allocated));
	EINVAL_IS(buffers_free(memory, 0));
	EINVAL_IS(buffers_free(memory + 1, allocated));
	EINVAL_IS(buffers_free(memory, allocated - 1));
	EINVAL_IS(buffers_free(memory, (size_t)-(intptr_t)granularity()));
#undef EINVAL_IS
	memory[0] = memory[allocated - 1] = 1;
	check_free(memory, allocated);
}
END_TEST

#if CAN_FORK
START_TEST(allocating_in_another_process_is_enosys)
{
	struct buffers_request right = { .size = 1, .min_address = 0x100000 };
	struct buffers_request wrong = { .size = 0 };
	size_t allocated = 77;

	errno = 0;
	ck_assert_ptr_null(buffers_alloc_in(1, &right, &allocated));
	ck_assert_int_eq(errno, ENOSYS);
	errno = 0;
	ck_assert_ptr_null(buffers_alloc_in(1, &wrong, &allocated));
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_int_eq(buffers_free_in(1, (void *)0x100000, granularity()), -1);
	ck_assert_int_eq(errno, ENOSYS);
	errno = 0;
	ck_assert_int_eq(buffers_free_in(1, NULL, granularity()), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_uint_eq(allocated, 77);
}
END_TEST
#endif

int main(void)
{
	Suite *suite = suite_create("api/alloc");
	TCase *all = tcase_create("private memory");

	tcase_set_timeout(all, 300);
	tcase_add_test(all, memory_is_zeroed_whole_pages_in_the_range);
	tcase_add_test(all, memory_is_aligned_as_requested);
	tcase_add_test(all, freed_memory_is_unmapped_and_its_address_is_used_again);
	tcase_add_test(all, two_callers_get_different_memory);
	tcase_add_test(all, private_memory_is_not_shared);
	tcase_add_test(all, bad_arguments_are_einval_and_change_nothing);
#if CAN_FORK
	tcase_add_test(all, allocating_in_another_process_is_enosys);
#endif
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
