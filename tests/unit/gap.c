/* SPDX-License-Identifier: MIT */
/* unit/gap: lowest and highest fits in a gap */

#include "config.h"
#include "allocator/gap.h"
#include "support/support.h"

#define TOP	UINTPTR_MAX
#define GIB	((uintptr_t)1 << 30)
#define NONE	((uintptr_t)-1)

static const struct {
	const char *fact;
	struct buffers_span gap;
	size_t size, alignment;
	uintptr_t lowest, highest;
} cases[] = {
	{ "a gap of exactly the size", { 0x10000, 0x11000 }, 0x1000, 1, 0x10000, 0x10000 },
	{ "a byte too short", { 0x10001, 0x11000 }, 0x1000, 1, NONE, NONE },
	{ "a byte longer", { 0x10000, 0x11001 }, 0x1000, 1, 0x10000, 0x10001 },
	{ "one byte", { 0x10000, 0x10001 }, 1, 1, 0x10000, 0x10000 },
	{ "an empty gap", { 0x10000, 0x10000 }, 1, 1, NONE, NONE },
	{ "an inverted gap", { 0x20000, 0x10000 }, 1, 1, NONE, NONE },
	{ "an inverted gap at the top", { TOP, 0 }, 1, 1, NONE, NONE },
	{ "room to choose", { 0x10000, 0x20000 }, 0x1000, 1, 0x10000, 0x1f000 },
	{ "aligned to a page", { 0x10001, 0x20fff }, 0x1000, 0x1000, 0x11000, 0x1f000 },
	{ "alignment leaves exactly the size", { 0x10001, 0x12000 }, 0x1000, 0x1000,
	  0x11000, 0x11000 },
	{ "alignment leaves a byte too few", { 0x10001, 0x11fff }, 0x1000, 0x1000, NONE, NONE },
	{ "no aligned address in the gap", { 0x10001, 0x1ffff }, 1, 0x10000, NONE, NONE },
	{ "aligned start, small size", { 0x10000, 0x1ffff }, 1, 0x10000, 0x10000, 0x10000 },
	{ "1 GiB alignment", { 1, 3 * GIB }, GIB, GIB, GIB, 2 * GIB },
	{ "1 GiB alignment in 2 GiB less a byte", { 1, 2 * GIB }, GIB, GIB, GIB, GIB },
	{ "1 GiB alignment does not fit", { 1, 2 * GIB - 1 }, GIB, GIB, NONE, NONE },
	{ "the bottom of the address space", { 0, 0x1000 }, 0x1000, 0x1000, 0, 0 },
	{ "the top of the address space", { TOP - 0xfff, TOP }, 0xfff, 1,
	  TOP - 0xfff, TOP - 0xfff },
	{ "alignment would wrap around", { TOP - 0xffe, TOP }, 1, 0x1000, NONE, NONE },
	{ "all of the address space", { 0, TOP }, TOP, 1, 0, 0 },
	{ "more than the gap, near the limit of size_t", { 0x1000, TOP }, TOP, 1, NONE, NONE },
	{ "the largest size in a small gap", { 0x1000, 0x2000 }, SIZE_MAX, 0x1000, NONE, NONE },
	{ "the largest alignment", { 1, TOP }, 1, (TOP >> 1) + 1,
	  (TOP >> 1) + 1, (TOP >> 1) + 1 },
	{ "the largest alignment, from 0", { 0, 0x1000 }, 1, (TOP >> 1) + 1, 0, 0 },
};
enum { CASES = sizeof(cases) / sizeof(cases[0]) };

START_TEST(lowest_fit_is_as_the_table_says)
{
	uintptr_t address = 1;
	bool fits = buffers_gap_lowest(cases[_i].gap, cases[_i].size, cases[_i].alignment,
				       &address);

	ck_assert_msg(fits == (cases[_i].lowest != NONE), "%s", cases[_i].fact);
	if (fits)
		ck_assert_msg(address == cases[_i].lowest, "%s: %#zx", cases[_i].fact,
			      (size_t)address);
	else
		ck_assert_msg(address == 1, "%s: changed its result", cases[_i].fact);
}
END_TEST

START_TEST(highest_fit_is_as_the_table_says)
{
	uintptr_t address = 1;
	bool fits = buffers_gap_highest(cases[_i].gap, cases[_i].size, cases[_i].alignment,
					&address);

	ck_assert_msg(fits == (cases[_i].highest != NONE), "%s", cases[_i].fact);
	if (fits)
		ck_assert_msg(address == cases[_i].highest, "%s: %#zx", cases[_i].fact,
			      (size_t)address);
	else
		ck_assert_msg(address == 1, "%s: changed its result", cases[_i].fact);
}
END_TEST

/* Each alignment from 1 to 1 GiB, in gaps with exactly enough space and with one byte less. */
START_TEST(every_alignment_leaves_just_enough_or_nothing)
{
	uintptr_t alignment = (uintptr_t)1 << _i;
	uintptr_t base = 4 * GIB;
	uintptr_t address;

	struct buffers_span enough = { base + 1, base + alignment + 0x1000 };
	struct buffers_span short_by_one = { base + 1, base + alignment + 0xfff };

	ck_assert(buffers_gap_lowest(enough, 0x1000, alignment, &address));
	ck_assert_uint_eq(address, base + alignment);
	ck_assert(buffers_gap_highest(enough, 0x1000, alignment, &address));
	ck_assert_uint_eq(address, base + alignment);
	ck_assert(!buffers_gap_lowest(short_by_one, 0x1000, alignment, &address));
	ck_assert(!buffers_gap_highest(short_by_one, 0x1000, alignment, &address));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("unit/gap");
	TCase *gaps = tcase_create("gaps");

	tcase_add_loop_test(gaps, lowest_fit_is_as_the_table_says, 0, CASES);
	tcase_add_loop_test(gaps, highest_fit_is_as_the_table_says, 0, CASES);
	tcase_add_loop_test(gaps, every_alignment_leaves_just_enough_or_nothing, 0, 31);
	suite_add_tcase(suite, gaps);
	return run_suite_of_functions(suite);
}
