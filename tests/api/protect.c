/* SPDX-License-Identifier: MIT */
/* api/protect.c: buffers_protect() on every system; rx/protect.c has the policies of Linux */

#include "config.h"
#define BUFFERS_BUILD	/* declares no argument nonnull, so that tests can pass NULL */
#include "support/code.h"
#include "support/kinds.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <string.h>

/* Memory of two pages. */
struct memory {
	unsigned char *start;
	size_t size;
};

static struct memory map(unsigned flags)
{
	struct buffers_request request = { .size = 2 * PAGE, .flags = flags };
	struct memory memory;

	memory.start = buffers_alloc(&request, &memory.size);
	ck_assert_ptr_nonnull(memory.start);
	return memory;
}

static void protect_as(const struct memory *memory, unsigned flags)
{
	errno = 1234;
	ck_assert_int_eq(buffers_protect(memory->start, memory->size, flags), 0);
	ck_assert_int_eq(errno, 1234);
}

static void check_permissions(const struct memory *memory, const char *permissions)
{
	if (!is_asan() && !is_tsan())
		ck_assert(is_mapped_as((uintptr_t)memory->start,
				       (uintptr_t)memory->start + memory->size, permissions));
}

START_TEST(memory_of_each_kind_is_rw_and_rx_by_turns)
{
	struct memory memory = map(kinds[_i].flags);
	size_t last = memory.size - CODE_SIZE;

	for (uint32_t number = 1; number < 100; number++) {
		struct code code = code_of(number);

		protect_as(&memory, BUFFERS_RW);
		check_permissions(&memory, "rw-p");
		protect_as(&memory, BUFFERS_RW);
		memcpy(memory.start, code.bytes, CODE_SIZE);
		memcpy(memory.start + last, code.bytes, CODE_SIZE);
		protect_as(&memory, BUFFERS_RX);
		check_permissions(&memory, "r-xp");
		protect_as(&memory, BUFFERS_RX);
		ck_assert_uint_eq(read_code(memory.start), number);
		ck_assert_uint_eq(read_code(memory.start + last), number);
		ck_assert(returns_number(memory.start, number));
		ck_assert(returns_number(memory.start + last, number));
	}
}
END_TEST

static void write_one(void *byte)
{
	*(volatile unsigned char *)byte = 1;
}

static int write_closed(void *context)
{
	struct memory *memory = context;
	struct buffers_request request = { .size = 2 * PAGE };
	void *address;

	memory->start = buffers_alloc(&request, &memory->size);
	STEP(memory->start);
	STEP(buffers_protect(memory->start, memory->size, BUFFERS_RX) == 0);
	STEP(does_fault(write_one, memory->start + PAGE, &address));
	STEP(address == memory->start + PAGE);
	return 0;
}

START_TEST(closed_memory_cannot_be_written)
{
	struct memory memory = { NULL, 0 };

	run_in_new_process(write_closed, &memory, sizeof(memory));
}
END_TEST

static void check_overwrite(const struct memory *memory, uint32_t word)
{
	unsigned char *at = memory->start + PAGE - 8;

	ck_assert_int_eq(buffers_overwrite(at, &word, 4), 0);
	ck_assert_int_eq(memcmp(at, &word, 4), 0);
	ck_assert_int_eq(buffers_overwrite(at + 5, &word, 4), 0);	/* in two pages */
	ck_assert_int_eq(memcmp(at + 5, &word, 4), 0);
}

START_TEST(memory_can_be_overwritten_in_either_state)
{
	struct memory memory = map(kinds[_i].flags);

	for (uint32_t i = 0; i < 5; i++) {
		protect_as(&memory, BUFFERS_RX);
		if (kinds[_i].flags == BUFFERS_RX || CAN_FORK)
			check_overwrite(&memory, 0x01020304 + i);
		check_permissions(&memory, "r-xp");
		protect_as(&memory, BUFFERS_RW);
		check_overwrite(&memory, 0x11121314 + i);
		check_permissions(&memory, "rw-p");
	}
}
END_TEST

/* Returns whether the memory is gone.  The system may map some of its own there at once. */
static bool free_in_state(unsigned flags, unsigned state)
{
	struct memory memory = map(flags);
	uintptr_t start = (uintptr_t)memory.start;

	protect_as(&memory, state);
	errno = 1234;
	ck_assert_int_eq(buffers_free(memory.start, memory.size), 0);
	ck_assert_int_eq(errno, 1234);
	return !is_mapped_as(start, start + memory.size, state == BUFFERS_RW ? "rw-p" : "r-xp");
}

/* Memory of the system may look the same, but not each time. */
START_TEST(memory_is_freed_in_either_state)
{
	static const unsigned states[] = { BUFFERS_RW, BUFFERS_RX };

	for (unsigned i = 0; i < 2; i++) {
		bool is_free = false;

		for (unsigned attempt = 0; attempt < 20 && !is_free; attempt++)
			is_free = free_in_state(kinds[_i].flags, states[i]);
		ck_assert(is_free);
	}
}
END_TEST

static void is_einval(void *address, size_t allocated, unsigned flags)
{
	errno = 0;
	ck_assert_int_eq(buffers_protect(address, allocated, flags), -1);
	ck_assert_int_eq(errno, EINVAL);
}

START_TEST(invalid_argument_is_einval_and_changes_nothing)
{
	static const unsigned flags[] = {
		0, BUFFERS_RW | BUFFERS_RX, 1u << 2, BUFFERS_RW | 1u << 2, BUFFERS_RX | 1u << 8,
		1u << 8, 1u << 31, BUFFERS_RX | 1u << 31,
	};
	struct memory memory = map(BUFFERS_RX);

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		is_einval(memory.start, memory.size, flags[i]);
	is_einval(NULL, memory.size, BUFFERS_RW);
	is_einval(memory.start, 0, BUFFERS_RW);
	is_einval(memory.start + 1, memory.size, BUFFERS_RW);
	is_einval(memory.start, memory.size - 1, BUFFERS_RW);
	is_einval(memory.start, (size_t)-(intptr_t)PAGE, BUFFERS_RW);
	check_permissions(&memory, "r-xp");
	protect_as(&memory, BUFFERS_RW);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		is_einval(memory.start, memory.size, flags[i]);
	check_permissions(&memory, "rw-p");
}
END_TEST

#ifdef _WIN32
START_TEST(part_of_an_allocation_is_einval)
{
	struct memory memory = map(kinds[_i].flags);

	protect_as(&memory, BUFFERS_RW);
	is_einval(memory.start, PAGE, BUFFERS_RX);
	is_einval(memory.start + PAGE, PAGE, BUFFERS_RX);
	is_einval(memory.start, 3 * PAGE, BUFFERS_RX);
	check_permissions(&memory, "rw-p");
	ck_assert_int_eq(buffers_free(memory.start, memory.size), 0);
	is_einval(memory.start, memory.size, BUFFERS_RX);
}
END_TEST
#endif

int main(void)
{
	Suite *suite = suite_create("api/protect");
	TCase *all = tcase_create("windows");

	tcase_add_loop_test(all, memory_of_each_kind_is_rw_and_rx_by_turns, 0, KINDS);
	tcase_add_test(all, closed_memory_cannot_be_written);
	tcase_add_loop_test(all, memory_can_be_overwritten_in_either_state, 0, KINDS);
	tcase_add_loop_test(all, memory_is_freed_in_either_state, 0, KINDS);
	tcase_add_test(all, invalid_argument_is_einval_and_changes_nothing);
#ifdef _WIN32
	tcase_add_loop_test(all, part_of_an_allocation_is_einval, 0, KINDS);
#endif
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
