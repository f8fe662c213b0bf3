/* SPDX-License-Identifier: MIT */
/* api/narrow.c: buffers_request_narrow(), checked against arithmetic in wider integers */

#include "config.h"
#define BUFFERS_BUILD	/* declares no argument nonnull, so that tests can pass NULL */
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>

#define MIB ((size_t)1 << 20)

/* No sum of two addresses overflows. */
#ifdef __SIZEOF_INT128__
__extension__ typedef __int128 wide;
#else
typedef int64_t wide;
#endif

/* One address more than the highest. */
static const wide space_end = (wide)UINTPTR_MAX + 1;

struct range {
	wide start, end;
};

static struct range range_of(const struct buffers_request *request)
{
	return (struct range){
		request->min_address, request->max_address ? request->max_address : space_end,
	};
}

static struct range reach_of(uintptr_t target, size_t reach)
{
	wide start = (wide)target - reach;
	wide end = (wide)target + reach;

	return (struct range){ start > 0 ? start : 0, end < space_end ? end : space_end };
}

static struct range meet(struct range one, struct range other)
{
	return (struct range){
		one.start > other.start ? one.start : other.start,
		one.end < other.end ? one.end : other.end,
	};
}

static bool is_same(const struct buffers_request *one, const struct buffers_request *other)
{
	return one->min_address == other->min_address && one->max_address == other->max_address &&
	       one->target == other->target && one->size == other->size &&
	       one->alignment == other->alignment && one->flags == other->flags &&
	       one->reserved[0] == other->reserved[0] && one->reserved[1] == other->reserved[1];
}

static bool is_range(const struct buffers_request *request, struct range range)
{
	return request->min_address == range.start &&
	       (request->max_address ? request->max_address : space_end) == range.end;
}

/* The result, or errno. */
static int narrow(struct buffers_request *request, uintptr_t target, size_t reach)
{
	int result;

	errno = 1234;
	result = buffers_request_narrow(request, (const void *)target, reach);
	if (result == 0)
		ck_assert_int_eq(errno, 1234);
	else
		ck_assert_int_eq(result, -1);
	return result ? errno : 0;
}

static void check_narrowing(const struct buffers_request *before, uintptr_t target, size_t reach)
{
	struct buffers_request after = *before;
	int error = narrow(&after, target, reach);
	struct range both = meet(range_of(before), reach_of(target, reach));

	if (both.start < both.end) {
		ck_assert_int_eq(error, 0);
		ck_assert(is_range(&after, both));
		after.min_address = before->min_address;
		after.max_address = before->max_address;
	} else {
		ck_assert_int_eq(error, EADDRNOTAVAIL);
	}
	ck_assert(is_same(&after, before));
}

/* Any magnitude, often close to a power of two, and so to either end of the address space. */
static uintptr_t random_number(uint64_t *seed)
{
	unsigned bits = (unsigned)random_below(seed, sizeof(uintptr_t) * 8 + 1);
	uintptr_t number = (uintptr_t)next_random(seed);

	number = bits ? number >> (sizeof(number) * 8 - bits) : 0;
	switch (random_below(seed, 4)) {
	case 0:
		return ~number;
	case 1:
		return ((uintptr_t)1 << (bits % (sizeof(number) * 8))) +
		       (uintptr_t)random_below(seed, 5) - 2;
	default:
		return number;
	}
}

/* Never 0. */
static uintptr_t random_positive(uint64_t *seed)
{
	uintptr_t number = random_number(seed);

	return number ? number : 1;
}

/* A valid range in any part of the address space, or one around a target. */
static struct buffers_request random_range(uint64_t *seed)
{
	struct buffers_request request = buffers_request_near(
		(const void *)random_positive(seed), random_positive(seed), 64);

	if (random_below(seed, 2))
		return request;
	request.min_address = random_number(seed);
	request.max_address = random_number(seed);
	if (request.min_address >= request.max_address)
		request.max_address = 0;
	return request;
}

START_TEST(narrowing_agrees_with_wider_integers)
{
	uint64_t seed = seed_random();

	for (unsigned i = how_many(300000, 10000000); i; i--) {
		struct buffers_request request = random_range(&seed);

		request.flags = BUFFERS_RX;
		request.alignment = 16;
		check_narrowing(&request, random_positive(&seed), random_positive(&seed));
	}
}
END_TEST

START_TEST(edges_of_the_address_space_are_exact)
{
	static const uintptr_t edges[] = {
		1, 2, 3, 0x10000, UINTPTR_MAX / 2, UINTPTR_MAX / 2 + 1, UINTPTR_MAX - 2,
		UINTPTR_MAX - 1, UINTPTR_MAX, 0,
	};
	enum { EDGES = sizeof(edges) / sizeof(edges[0]), POSITIVE = EDGES - 1 };

	for (unsigned i = 0; i < EDGES * EDGES * POSITIVE * POSITIVE; i++) {
		struct buffers_request request = {
			.min_address = edges[i % EDGES],
			.max_address = edges[i / EDGES % EDGES],
			.size = 1,
		};

		if (request.max_address && request.min_address >= request.max_address)
			continue;
		check_narrowing(&request, edges[i / EDGES / EDGES % POSITIVE],
				edges[i / EDGES / EDGES / POSITIVE]);
	}
}
END_TEST

START_TEST(invalid_argument_is_einval_and_changes_nothing)
{
	static const struct buffers_request wrong[] = {
		{ .min_address = 0x20000, .max_address = 0x20000 },
		{ .min_address = 0x20001, .max_address = 0x20000 },
		{ .min_address = UINTPTR_MAX, .max_address = 1 },
	};
	struct buffers_request request = buffers_request_near(&wrong, MIB, 1);
	struct buffers_request before = request;

	errno = 0;
	ck_assert_int_eq(buffers_request_narrow(NULL, &wrong, MIB), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(narrow(&request, 0, MIB), EINVAL);
	ck_assert_int_eq(narrow(&request, (uintptr_t)&wrong, 0), EINVAL);
	ck_assert(is_same(&request, &before));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		request = wrong[i];
		ck_assert_int_eq(narrow(&request, 0x20000, MIB), EINVAL);
		ck_assert(is_same(&request, &wrong[i]));
	}
}
END_TEST

START_TEST(request_without_a_target_stays_invalid)
{
	struct buffers_request request = buffers_request_near(NULL, MIB, 1);

	ck_assert_int_eq(narrow(&request, (uintptr_t)&request, MIB), EINVAL);
	errno = 0;
	ck_assert_ptr_null(buffers_get(&request));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

static size_t distance(uintptr_t one, uintptr_t other)
{
	return one > other ? one - other : other - one;
}

/* Two targets whose reaches overlap by 4 MiB, of which one is that of the request. */
START_TEST(memory_of_a_narrowed_request_is_in_both_reaches)
{
	enum { REACH = 64 << 20, OVERLAP = 4 << 20 };
	uintptr_t one = (uintptr_t)reserve(secluded_address(), 4 * MIB) + 2 * MIB;
	uintptr_t other = one + 2 * (size_t)REACH - OVERLAP;
	struct buffers_request request = buffers_request_near((void *)one, REACH, 100);
	struct buffers_item *item;
	size_t allocated;
	uintptr_t memory;

	ck_assert_int_eq(narrow(&request, other, REACH), 0);
	ck_assert_ptr_eq(request.target, (void *)one);
	memory = (uintptr_t)buffers_alloc(&request, &allocated);
	ck_assert_uint_ne(memory, 0);
	item = buffers_get(&request);
	ck_assert_ptr_nonnull(item);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_uint_le(distance(memory, one), REACH);
		ck_assert_uint_le(distance(memory + allocated, other), REACH);
		ck_assert_uint_le(distance(memory + allocated, one), REACH);
		ck_assert_uint_le(distance(memory, other), REACH);
		memory = (uintptr_t)buffers_next(item);
		allocated = buffers_remaining(item);
	}
}
END_TEST

START_TEST(targets_out_of_each_others_reach_are_eaddrnotavail)
{
	struct buffers_request request = buffers_request_near((void *)(16 * MIB), MIB, 1);
	struct buffers_request before = request;

	ck_assert_int_eq(narrow(&request, 18 * MIB, MIB), EADDRNOTAVAIL);
	ck_assert(is_same(&request, &before));
	ck_assert_int_eq(narrow(&request, 18 * MIB - 1, MIB), 0);
	ck_assert_uint_eq(request.max_address - request.min_address, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("api/narrow");
	TCase *all = tcase_create("narrowing");

	tcase_add_test(all, narrowing_agrees_with_wider_integers);
	tcase_add_test(all, edges_of_the_address_space_are_exact);
	tcase_add_test(all, invalid_argument_is_einval_and_changes_nothing);
	tcase_add_test(all, request_without_a_target_stays_invalid);
	tcase_add_test(all, memory_of_a_narrowed_request_is_in_both_reaches);
	tcase_add_test(all, targets_out_of_each_others_reach_are_eaddrnotavail);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
