/* SPDX-License-Identifier: MIT */
/* api/get.c: buffers_get(), and the address and contents of the buffers that it returns */

#include "config.h"
#define BUFFERS_BUILD	/* declares no argument nonnull, so that tests can pass NULL */
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#if CAN_FORK
# include <dlfcn.h>
# include <sys/auxv.h>
# include <unistd.h>
#endif

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

static bool is_64_bit(void)
{
	return sizeof(void *) == 8;
}

static uintptr_t start_of(const struct buffers_item *item)
{
	return (uintptr_t)buffers_next(item);
}

static uintptr_t end_of(const struct buffers_item *item)
{
	return (uintptr_t)buffers_base(item) + buffers_size(item);
}

/* Asserts that the item satisfies the request. */
static void check_item(const struct buffers_request *request, const struct buffers_item *item)
{
	ck_assert_ptr_nonnull(item);
	ck_assert_uint_ge(start_of(item), request->min_address);
	if (request->max_address)
		ck_assert_uint_le(end_of(item), request->max_address);
	ck_assert_uint_ge(buffers_remaining(item), request->size);
	ck_assert_uint_eq(start_of(item) + buffers_remaining(item), end_of(item));
	ck_assert_uint_eq(start_of(item) % (request->alignment ? request->alignment : 1), 0);
	ck_assert_uint_ge((uintptr_t)buffers_base(item), 0x10000);
}

static struct buffers_item *get_item(const struct buffers_request *request)
{
	struct buffers_item *item;

	errno = 1234;
	item = buffers_get(request);
	ck_assert_int_eq(errno, 1234);
	check_item(request, item);
	return item;
}

static int error_of(const struct buffers_request *request)
{
	errno = 1234;
	ck_assert_ptr_null(buffers_get(request));
	return errno;
}

/*
 * Requests
 */

/*
 * The second run first releases an item, which the library caches for the thread.  The
 * cached item must not answer an invalid request.
 */
START_TEST(contradictory_request_is_einval)
{
	static const struct buffers_request right = { .size = 1 };
	static const struct buffers_request wrong[] = {
		{ .size = 0 },
		{ .size = 0, .max_address = 0x80000000 },
		{ .size = 1, .min_address = 0x20000, .max_address = 0x20000 },
		{ .size = 1, .min_address = 0x20001, .max_address = 0x20000 },
		{ .size = 1, .alignment = 3 },
		{ .size = 1, .alignment = SIZE_MAX },
		{ .size = 1, .alignment = 0x30000 },
		{ .size = 1, .flags = BUFFERS_RW | BUFFERS_RX },
		{ .size = 1, .flags = 1u << 3 },
		{ .size = 1, .flags = BUFFERS_RX | 1u << 8 },
		{ .size = 1, .flags = 1u << 31 },
		{ .size = 1, .reserved = { 1, 0 } },
		{ .size = 1, .reserved = { 0, 1 } },
	};

	if (_i)
		buffers_release(get_item(&right));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		size_t allocated = 77;

		ck_assert_int_eq(error_of(&wrong[i]), EINVAL);
		errno = 0;
		ck_assert_ptr_null(buffers_alloc(&wrong[i], &allocated));
		ck_assert_int_eq(errno, EINVAL);
		ck_assert_uint_eq(allocated, 77);
	}
}
END_TEST

/*
 * Larger than the free space in a locator's page.  A smaller request could get that space
 * instead of a new buffer.
 */
enum { LARGER_THAN_A_LOCATOR = 20 << 10 };

START_TEST(cached_item_is_given_only_if_it_satisfies_the_request)
{
	/* The range below leaves 1 MiB free on both sides. */
	char *room = reserve(secluded_address(), 4 * MIB);
	struct buffers_request request = {
		.size = LARGER_THAN_A_LOCATOR,
		.min_address = (uintptr_t)room + MIB, .max_address = (uintptr_t)room + 3 * MIB,
	};
	struct buffers_item *cached;
	uintptr_t start, end;

	unreserve(room, 4 * MIB);
	cached = get_item(&request);
	start = start_of(cached);
	end = end_of(cached);
	buffers_release(cached);
	request = (struct buffers_request){ .size = LARGER_THAN_A_LOCATOR };
	ck_assert_ptr_eq(get_item(&request), cached);
	buffers_release(cached);
	request.max_address = end;
	ck_assert_ptr_eq(get_item(&request), cached);
	buffers_release(cached);
	request.max_address = end - 1;
	ck_assert_ptr_ne(get_item(&request), cached);
	request = (struct buffers_request){ .size = LARGER_THAN_A_LOCATOR, .min_address = start };
	ck_assert_ptr_eq(get_item(&request), cached);
	buffers_release(cached);
	request.min_address = start + 1;
	ck_assert_ptr_ne(get_item(&request), cached);
	request = (struct buffers_request){ .size = end - start + 1 };
	ck_assert_ptr_ne(get_item(&request), cached);
}
END_TEST

START_TEST(null_request_is_einval)
{
	errno = 0;
	ck_assert_ptr_null(buffers_get(NULL));
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_ptr_null(buffers_get_near("", 0));
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_ptr_null(buffers_get_near(NULL, 1));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* A failed dlsym() must not lead to memory near address 0. */
START_TEST(request_near_null_or_without_reach_is_einval)
{
	const struct buffers_request wrong[] = {
		buffers_request_near(NULL, BUFFERS_REACH_BRANCH, 1),
		buffers_request_near(NULL, SIZE_MAX, 1),
		buffers_request_near(NULL, 1, 1),
		buffers_request_near(NULL, 0, 1),
		buffers_request_near("", 0, 1),
	};
	struct buffers_request low = buffers_request_near(NULL, 1, 1);

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		ck_assert_uint_eq(wrong[i].size, 1);
		ck_assert_int_eq(error_of(&wrong[i]), EINVAL);
		ck_assert_ptr_null(buffers_arena_create(&wrong[i], 0));
		ck_assert_int_eq(errno, EINVAL);
	}
	low.min_address = 0;
	low.max_address = 0;
	ck_assert_ptr_nonnull(buffers_get(&low));
}
END_TEST

START_TEST(range_without_room_is_eaddrnotavail)
{
	const struct buffers_request full[] = {
		{ .size = 1, .max_address = 0x10000 },	/* the library maps nothing there */
		{ .size = 1, .max_address = 1 },
		{ .size = 1, .min_address = UINTPTR_MAX },
		{ .size = 1, .min_address = UINTPTR_MAX - 1, .max_address = UINTPTR_MAX },
		{ .size = 0x1001, .min_address = 0x100000, .max_address = 0x101000 },
		{ .size = 1, .min_address = 0x100001, .max_address = 0x101fff },
		{ .size = SIZE_MAX },
		{ .size = SIZE_MAX - 1, .alignment = 1 },
		{ .size = 1, .alignment = (SIZE_MAX >> 1) + 1,
		  .max_address = (SIZE_MAX >> 1) + 1 },
		{ .size = 1, .alignment = GIB, .min_address = GIB + 1, .max_address = 2 * GIB },
	};

	for (size_t i = 0; i < sizeof(full) / sizeof(full[0]); i++) {
		size_t allocated = 77;

		ck_assert_int_eq(error_of(&full[i]), EADDRNOTAVAIL);
		errno = 0;
		ck_assert_ptr_null(buffers_alloc(&full[i], &allocated));
		ck_assert_int_eq(errno, EADDRNOTAVAIL);
		ck_assert_uint_eq(allocated, 77);
	}
}
END_TEST

START_TEST(mapped_range_is_eaddrnotavail)
{
	char *taken = reserve(0, 4 * MIB);
	struct buffers_request request = {
		.min_address = (uintptr_t)taken,
		.max_address = (uintptr_t)taken + 4 * MIB,
		.size = 1,
	};
	size_t page = granularity();

	ck_assert_int_eq(error_of(&request), EADDRNOTAVAIL);
	/* the buffer takes one page, the whole hole, and leaves none for a second request */
	unreserve(taken + MIB, page);
	request.size = page + 1;
	ck_assert_int_eq(error_of(&request), EADDRNOTAVAIL);
	request.size = page;
	ck_assert_ptr_eq(buffers_base(get_item(&request)), taken + MIB);
	ck_assert_int_eq(error_of(&request), EADDRNOTAVAIL);
}
END_TEST

START_TEST(more_than_4_gib_never_fits_an_item)
{
	struct buffers_request request = { .size = 4 * GIB };
	size_t allocated;

	SKIP_IF(!is_64_bit(), "no address space of that size");
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime needs that memory");
	SKIP_IF(!has_address_space(10 * GIB), NO_ADDRESS_SPACE);
	ck_assert_int_eq(error_of(&request), EADDRNOTAVAIL);
	request.size = 4 * GIB - 1;
	ck_assert_uint_eq(buffers_remaining(get_item(&request)), 4 * GIB - 1);
	request.size = 5 * GIB;
	ck_assert_ptr_nonnull(buffers_alloc(&request, &allocated));
	ck_assert_uint_eq(allocated, 5 * GIB);
}
END_TEST

START_TEST(near_reaches_to_both_sides_and_is_clamped_to_the_address_space)
{
	const size_t reach = 0x1000;
	static const struct {
		uintptr_t target, min, max;
	} cases[] = {
		{ 0x10000, 0xf000, 0x11000 },
		{ 0x1000, 0, 0x2000 },
		{ 0xfff, 0, 0x1fff },
		{ 0x1001, 1, 0x2001 },
		{ 1, 0, 0x1001 },
		{ UINTPTR_MAX - 0x1000, UINTPTR_MAX - 0x2000, UINTPTR_MAX },
		{ UINTPTR_MAX - 0xfff, UINTPTR_MAX - 0x1fff, 0 },
		{ UINTPTR_MAX, UINTPTR_MAX - 0x1000, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffers_request request =
			buffers_request_near((const void *)cases[i].target, reach, 42);

		ck_assert_uint_eq(request.min_address, cases[i].min);
		ck_assert_uint_eq(request.max_address, cases[i].max);
		ck_assert_uint_eq((uintptr_t)request.target, cases[i].target);
		ck_assert_uint_eq(request.size, 42);
		ck_assert_uint_eq(request.alignment, 0);
		ck_assert_uint_eq(request.flags, 0);
		ck_assert_uint_eq(request.reserved[0] | request.reserved[1], 0);
	}
}
END_TEST

/*
 * Addresses
 */

START_TEST(first_2_gib_have_room)
{
	struct buffers_request request = { .max_address = 2 * GIB, .size = 100 };
	struct buffers_item *item = get_item(&request);

	if (buffers_size(item) < 64 * KIB)	/* the gap is no larger */
		ck_assert(is_mapped_as((uintptr_t)buffers_base(item) - 1, end_of(item) + 1, NULL));
	if (!is_asan())		/* its runtime maps other memory there */
		ck_assert(is_mapped_as((uintptr_t)buffers_base(item), end_of(item), "rwxp"));
}
END_TEST

static int get_base(void *base)
{
	struct buffers_request request = { .max_address = 2 * GIB, .size = LARGER_THAN_A_LOCATOR };
	struct buffers_item *item = buffers_get(&request);

	STEP(item);
	*(uintptr_t *)base = (uintptr_t)buffers_base(item);
	return 0;
}

static size_t mapped_below(uintptr_t end)
{
	static struct mapping maps[70000];
	size_t count = read_maps(maps, 70000);
	size_t mapped = 0;

	for (size_t i = 0; i < count && maps[i].end <= end; i++)
		mapped += maps[i].end - maps[i].start;
	return mapped;
}

START_TEST(addresses_without_a_target_are_unpredictable)
{
	uintptr_t seen[16];
	unsigned equal = 0;

	SKIP_IF(mapped_below(2 * GIB) > GIB / 2,
		"random targets in mapped memory lead to its edges");
	for (unsigned i = 0; i < 16; i++) {
		run_in_new_process(get_base, &seen[i], sizeof(seen[i]));
		for (unsigned j = 0; j < i; j++)
			equal += seen[i] == seen[j];
	}
	ck_assert_uint_lt(equal, 3);
}
END_TEST

enum target {
	OF_THE_EXECUTABLE,
	OF_LIBC,
	ON_THE_STACK,
	ON_THE_HEAP,
#if CAN_FORK
	OF_A_PLUGIN,
	AT_THE_BREAK,
#endif
	TARGETS
};

static const void *target_named(int number)
{
	static int in_the_executable;
	const void *function;
#ifdef HAVE_PLUGIN
	void *plugin;
#endif

	switch (number) {
	case OF_THE_EXECUTABLE:
		return &in_the_executable;
	case OF_LIBC:
		function = libc_function();
		break;
	case ON_THE_STACK:
		return __builtin_frame_address(0);
	case ON_THE_HEAP:
		return malloc(16);
#ifdef HAVE_PLUGIN
	case OF_A_PLUGIN:
		plugin = dlopen("tests/support/.libs/plugin.so", RTLD_NOW | RTLD_LOCAL);
		ck_assert_msg(plugin != NULL, "%s", dlerror());
		function = dlsym(plugin, "plugin_function");
		break;
#endif
	default:
#if CAN_FORK
		return sbrk(0);
#else
		return NULL;
#endif
	}
	ck_assert_ptr_nonnull(function);
	return function;
}

START_TEST(buffer_is_within_reach_of_code_stack_and_heap)
{
	const void *target = target_named(_i);
	struct buffers_request request =
		buffers_request_near(target, BUFFERS_REACH_BRANCH, 4 * KIB);
	struct buffers_item *near, *again;

	SKIP_IF((is_asan() || is_tsan()) && _i == ON_THE_HEAP,
		"the sanitizer's own memory surrounds its heap");
	errno = 1234;
	near = buffers_get_near(target, 4 * KIB);
	ck_assert_int_eq(errno, 1234);
	check_item(&request, near);
	again = get_item(&request);
	ck_assert_ptr_ne(again, near);
	ck_assert(start_of(again) >= end_of(near) || end_of(again) <= start_of(near));
}
END_TEST

static size_t distance_to(uintptr_t target, uintptr_t start, uintptr_t end)
{
	target &= ~(uintptr_t)(granularity() - 1);
	if (start > target)
		return start - target;
	return end < target ? target - end : 0;
}

static size_t nearest_in(uintptr_t start, uintptr_t end, uintptr_t target, size_t size)
{
	start = (start + granularity() - 1) & ~(uintptr_t)(granularity() - 1);
	end &= ~(uintptr_t)(granularity() - 1);
	if (end < start || end - start < size)
		return SIZE_MAX;
	if (end <= target)
		return distance_to(target, end - size, end);
	if (start >= target)
		return distance_to(target, start, start + size);
	return 0;
}

static size_t least_of(size_t a, size_t b)
{
	return a < b ? a : b;
}

struct stretch {
	uintptr_t start, end;
};

#if CAN_FORK
/* The addresses that the library leaves free so that the heap and the stack can grow. */
static void find_growth_room(const struct mapping *maps, size_t count,
			     struct stretch growth_room[2])
{
	size_t page = granularity();
	uintptr_t heap = ((uintptr_t)sbrk(0) + page - 1) & ~(page - 1);
	uintptr_t stack = (uintptr_t)&page;

	growth_room[0] = (struct stretch){ heap, heap + (is_64_bit() ? 8192 * GIB : 256 * MIB) };
	for (size_t i = 0; i < count; i++)
		if (maps[i].start <= stack && stack < maps[i].end)
			growth_room[1] = (struct stretch){
				maps[i].end - 128 * MIB - 256 * page, maps[i].end,
			};
	if (heap < stack && stack < growth_room[0].end)
		growth_room[0].end = stack;
	for (size_t i = 0; i < 2; i++) {
		uintptr_t interpreter = getauxval(AT_BASE);

		if (growth_room[i].start < interpreter && interpreter < growth_room[i].end)
			*(i ? &growth_room[i].start : &growth_room[i].end) = interpreter;
	}
}
#else
/* On Windows neither grows beyond the range that was reserved for it. */
static void find_growth_room(const struct mapping *maps, size_t count,
			     struct stretch growth_room[2])
{
	(void)maps;
	(void)count;
	growth_room[0] = growth_room[1] = (struct stretch){ 0, 0 };
}
#endif

/* As nearest_in(), but outside of growth_room[i] and later ranges. */
static size_t nearest_in_gap(uintptr_t start, uintptr_t end, uintptr_t target, size_t size,
			     const struct stretch growth_room[2], unsigned i)
{
	if (i == 2)
		return nearest_in(start, end, target, size);
	if (growth_room[i].end <= start || end <= growth_room[i].start)
		return nearest_in_gap(start, end, target, size, growth_room, i + 1);
	return least_of(nearest_in_gap(start, growth_room[i].start, target, size, growth_room,
				       i + 1),
			nearest_in_gap(growth_room[i].end, end, target, size, growth_room, i + 1));
}

/* The distance to the nearest free candidate of `size`, computed from the list of mappings. */
static size_t nearest_free_candidate(uintptr_t target, size_t size)
{
	static struct mapping maps[70000];
	size_t count = read_maps(maps, 70000);
	struct stretch growth_room[2];
	size_t least = SIZE_MAX;

	find_growth_room(maps, count, growth_room);
	for (size_t i = 0; i <= count; i++) {
		uintptr_t start = i ? maps[i - 1].end : 0x10000;
		uintptr_t end = i < count ? maps[i].start :
				end_of_addresses() - start < MIB ? end_of_addresses() : start + MIB;

		least = least_of(least, nearest_in_gap(start, end, target, size, growth_room, 0));
	}
	return least;
}

START_TEST(buffer_is_at_the_nearest_free_address)
{
	uintptr_t target = (uintptr_t)target_named(_i);
	size_t size = granularity();
	size_t least;
	struct buffers_item *item;

	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps memory at any time");
	SKIP_IF(_i == ON_THE_STACK,
		"the mappings near the stack change while the test reads the list");
	SKIP_IF(!is_mapped_as((uintptr_t)&size, (uintptr_t)&size + 1, NULL),
		"the emulator's list lacks mappings");
	SKIP_IF(!is_map_list_exact(), "the emulator lists mappings that do not exist");
	/* The first call maps the library's own pages, before the test reads the list. */
	ck_assert_ptr_nonnull(buffers_get(&(struct buffers_request){
		.min_address = 16 * MIB, .max_address = 32 * MIB, .size = 1 }));
	least = nearest_free_candidate(target, size);
	SKIP_IF(least > BUFFERS_REACH_BRANCH - size,
		"the heap's and the stack's growth room takes all addresses in reach");
	item = buffers_get_near((const void *)target, size);
	ck_assert_ptr_nonnull(item);
	ck_assert_uint_eq(distance_to(target, (uintptr_t)buffers_base(item), end_of(item)), least);
}
END_TEST

/* The range of 128 MiB has a single gap, which is exactly as large as the request. */
static int find_hole(void *context)
{
	size_t page = granularity();
	char *block = reserve(0, 130 * MIB);
	char *hole = block + 65 * MIB;
	struct buffers_request request = {
		.min_address = (uintptr_t)hole - 64 * MIB,
		.max_address = (uintptr_t)hole + 64 * MIB,
		.target = hole + MIB,
		.size = 2 * page,
	};
	struct buffers_item *item;

	(void)context;
	/* The first call maps the library's own pages, before there is a hole. */
	STEP(buffers_get(&(struct buffers_request){ .size = 1 }));
	unreserve(hole, 2 * page);
	for (size_t i = 0; i < 1000 && i * 4 * page < 64 * MIB; i++) {	/* splits the mappings */
		char *piece = block + 64 * MIB + i * 4 * page;

		if (piece != hole)
			protect(piece, page, "r--p");
	}
	item = buffers_get(&request);
	STEP(item);
	STEP(buffers_base(item) == hole);
	STEP(buffers_size(item) == 2 * page);
	return 0;
}

START_TEST(hole_of_exactly_the_size_is_found_in_packed_memory)
{
	run_in_new_process(find_hole, NULL, 0);
}
END_TEST

START_TEST(sizes_from_a_byte_to_a_gibibyte_are_served)
{
	for (size_t size = 1; size <= GIB; size *= 2) {
		struct buffers_request request = { .size = size };
		struct buffers_item *item;
		char *next;

		if ((is_tsan() || !is_64_bit()) && size > 256 * MIB)
			break;
		SKIP_IF(!is_any_candidate_left(size, 1), NO_CANDIDATE_LEFT);
		item = get_item(&request);
		next = buffers_next(item);
		next[0] = next[size - 1] = 1;
		request.size = size + 1;
		if (is_64_bit() && !is_asan() && !is_tsan()) {
			request.min_address = 8 * GIB;
			request.max_address = 64 * GIB;	/* away from other mappings */
		}
		SKIP_IF(!is_any_candidate_left(size + 1, 1), NO_CANDIDATE_LEFT);
		buffers_release(get_item(&request));
	}
}
END_TEST

START_TEST(alignments_from_a_byte_to_a_gibibyte_are_served)
{
	for (size_t alignment = 1; alignment <= GIB; alignment *= 2) {
		struct buffers_request request = { .size = 1, .alignment = alignment };
		struct buffers_item *item;
		char *byte;

		SKIP_IF(!is_any_candidate_left(1, alignment), NO_CANDIDATE_LEFT);
		item = get_item(&request);
		byte = buffers_append(item, "x", 1);
		ck_assert_ptr_nonnull(byte);
		buffers_release(item);
	}
}
END_TEST

/*
 * Sharing
 */

START_TEST(free_space_goes_to_the_next_caller)
{
	struct buffers_request request = { .size = 16 };
	struct buffers_item *first = get_item(&request);
	char *one = buffers_append(first, "sixteen bytes...", 16);
	struct buffers_item *second;
	char *two;

	buffers_release(first);
	second = get_item(&request);
	ck_assert_ptr_eq(second, first);
	two = buffers_append(second, "the next sixteen", 16);
	ck_assert_ptr_eq(two, one + 16);
	ck_assert_mem_eq(one, "sixteen bytes...the next sixteen", 32);
}
END_TEST

START_TEST(held_item_is_given_to_no_other_caller)
{
	struct buffers_request request = { .size = 1 };
	struct buffers_item *items[100];

	for (size_t i = 0; i < 100; i++) {
		items[i] = get_item(&request);
		for (size_t j = 0; j < i; j++)
			ck_assert_ptr_ne(items[i], items[j]);
	}
}
END_TEST

START_TEST(neighbouring_requests_make_few_mappings)
{
	struct buffers_request request = { .max_address = 2 * GIB, .size = 1500 };
	size_t allocated, before;

	/* The first call may load a library that provides random numbers. */
	ck_assert_ptr_nonnull(buffers_alloc(&request, &allocated));
	before = count_mappings(0, UINTPTR_MAX);
	for (unsigned i = 0; i < 10000; i++) {
		struct buffers_item *item = buffers_get(&request);

		ck_assert_ptr_nonnull(buffers_reserve(item, 1500, 1));
		buffers_release(item);
	}
	if (!is_asan() && !is_tsan())
		ck_assert_uint_le(count_mappings(0, UINTPTR_MAX) - before, 8);
}
END_TEST

struct totals {
	size_t buffers, taken, used;
};

static int add_up(const struct buffers_info *info, void *context)
{
	struct totals *totals = context;

	ck_assert_ptr_nonnull(info->base);
	ck_assert_uint_le(info->used, info->size);
	totals->buffers += !is_rest_of_locator_page(info);
	totals->taken += info->taken == 1;
	totals->used += info->used;
	return 0;
}

/* A locator lists 203 buffers, or 255 in a 32-bit process: 1,000 need at least four. */
START_TEST(thousand_held_items_are_listed_by_several_locators)
{
	enum { MANY = 1000 };
	static struct buffers_item *items[MANY];
	struct buffers_request request = { .size = 64 * KIB };
	struct totals totals = { 0 };

	for (size_t i = 0; i < MANY; i++) {
		items[i] = get_item(&request);
		ck_assert_ptr_nonnull(buffers_append(items[i], &i, sizeof(i)));
	}
	ck_assert_int_eq(buffers_walk(add_up, &totals), 0);
	ck_assert_uint_eq(totals.buffers, MANY);
	ck_assert_uint_eq(totals.taken, MANY);
	ck_assert_uint_eq(totals.used, MANY * sizeof(size_t));
	for (size_t i = 0; i < MANY; i++) {
		size_t there;

		memcpy(&there, buffers_base(items[i]), sizeof(there));
		ck_assert_uint_eq(there, i);
		buffers_release(items[i]);
	}
	totals = (struct totals){ 0 };
	ck_assert_int_eq(buffers_walk(add_up, &totals), 0);
	ck_assert_uint_eq(totals.taken, 0);
}
END_TEST

static int return_7(const struct buffers_info *info, void *context)
{
	(void)info;
	++*(int *)context;
	return 7;
}

START_TEST(walk_stops_when_the_callback_returns_nonzero)
{
	struct buffers_request request = { .size = 1 };
	int visits = 0;

	ck_assert_int_eq(buffers_walk(return_7, &visits), 0);
	ck_assert_int_eq(visits, 0);
	get_item(&request);
	get_item(&request);
	ck_assert_int_eq(buffers_walk(return_7, &visits), 7);
	ck_assert_int_eq(visits, 1);
	errno = 0;
	ck_assert_int_eq(buffers_walk(NULL, NULL), -1);
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

#if CAN_FORK
/*
 * Failures of the kernel
 */

static int find_no_memory(const struct buffers_request *request)
{
	size_t allocated = 77;

	errno = 0;
	STEP(!buffers_get(request));
	STEP(errno == ENOMEM);
	errno = 0;
	STEP(!buffers_alloc(request, &allocated));
	STEP(errno == ENOMEM);
	STEP(allocated == 77);
	return 0;
}

/* The kernel refuses to map even the library's own pages. */
static int start_without_address_space(void *context)
{
	struct buffers_request request = { .size = 64 * KIB };
	struct rlimit before = set_limit(RLIMIT_AS, 0);
	struct totals totals = { 0 };
	int line = find_no_memory(&request);

	(void)context;
	STEP(setrlimit(RLIMIT_AS, &before) == 0);
	STEP(line == 0);
	STEP(buffers_walk(add_up, &totals) == 0);
	STEP(totals.buffers == 0);
	STEP(buffers_get(&request));
	return 0;
}

START_TEST(failing_to_map_is_enomem)
{
	SKIP_IF(!can_limit_memory(), NO_MEMORY_LIMIT);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime needs that memory");
	run_child(start_without_address_space, NULL);
}
END_TEST

static int run_out_later(void *context)
{
	struct buffers_request request = { .size = 64 * KIB };
	struct totals totals = { 0 };
	struct buffers_item *item = buffers_get(&request);
	struct rlimit before = set_limit(RLIMIT_AS, 0);
	int line = find_no_memory(&request);

	(void)context;
	STEP(setrlimit(RLIMIT_AS, &before) == 0);
	STEP(line == 0);
	STEP(buffers_walk(add_up, &totals) == 0);
	STEP(totals.buffers == 1);
	/* the existing item stays usable */
	STEP(buffers_append(item, "x", 1));
	buffers_release(item);
	request.size = 1;
	STEP(buffers_get(&request) == item);
	return 0;
}

START_TEST(enomem_leaves_existing_buffers_usable)
{
	SKIP_IF(!can_limit_memory(), NO_MEMORY_LIMIT);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime needs that memory");
	run_child(run_out_later, NULL);
}
END_TEST

/*
 * How many buffers a locator can list, without those in the free space of its own page,
 * which are listed from the start.
 */
static size_t capacity_of_a_locator(size_t page)
{
	return (is_64_bit() ? 203 : 255) - (page - 4 * KIB + 16 * KIB - 1) / (16 * KIB);
}

struct shortage {
	size_t mappable;	/* bytes that the process may still map */
	bool is_locator_full;	/* the request needs a second locator */
};

/*
 * A first request maps a state, a locator and a buffer; a request to a full locator maps a
 * second one.  A memory limit lets only some of these be mapped: the request fails and
 * unmaps what it has mapped.
 */
static int exceed_the_limit(void *context)
{
	const struct shortage *shortage = context;
	struct buffers_request request = { .size = 64 * KIB };
	size_t page = granularity();
	size_t capacity = shortage->is_locator_full ? capacity_of_a_locator(page) : 0;
	struct totals totals = { 0 };
	struct rlimit before;
	size_t mapped;
	int error;

	for (size_t i = 0; i < capacity; i++)
		STEP(buffers_get(&request));
	mapped = mapped_bytes();
	before = set_limit(RLIMIT_AS, mapped + shortage->mappable);
	error = buffers_get(&request) ? 0 : errno;
	STEP(setrlimit(RLIMIT_AS, &before) == 0);
	STEP(error == ENOMEM);
	STEP(buffers_walk(add_up, &totals) == 0);
	STEP(totals.buffers == capacity);
	/* except the state and the first locator, which stay for the next request */
	STEP(mapped_bytes() <= mapped + (capacity ? 0 : shortage->mappable));
	STEP(buffers_get(&request));
	return 0;
}

START_TEST(request_that_fails_halfway_leaks_nothing)
{
	size_t page = granularity();

	SKIP_IF(!can_limit_memory(), NO_MEMORY_LIMIT);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime needs that memory");
	/* state without locator; state and locator without buffer; no second locator */
	run_child(exceed_the_limit, &(struct shortage){ page, false });
	run_child(exceed_the_limit, &(struct shortage){ 2 * page, false });
	run_child(exceed_the_limit, &(struct shortage){ 64 * KIB, true });
}
END_TEST

static void add_failures(Suite *suite)
{
	TCase *failures = tcase_create("refusals");

	tcase_add_test(failures, failing_to_map_is_enomem);
	tcase_add_test(failures, enomem_leaves_existing_buffers_usable);
	tcase_add_test(failures, request_that_fails_halfway_leaks_nothing);
	suite_add_tcase(suite, failures);
}
#endif

int main(void)
{
	Suite *suite = suite_create("api/get");
	TCase *requests = tcase_create("requests");
	TCase *addresses = tcase_create("addresses");
	TCase *sharing = tcase_create("sharing");

	tcase_add_loop_test(requests, contradictory_request_is_einval, 0, 2);
	tcase_add_test(requests, cached_item_is_given_only_if_it_satisfies_the_request);
	tcase_add_test(requests, null_request_is_einval);
	tcase_add_test(requests, request_near_null_or_without_reach_is_einval);
	tcase_add_test(requests, range_without_room_is_eaddrnotavail);
	tcase_add_test(requests, mapped_range_is_eaddrnotavail);
	tcase_add_test(requests, more_than_4_gib_never_fits_an_item);
	tcase_add_test(requests, near_reaches_to_both_sides_and_is_clamped_to_the_address_space);
	suite_add_tcase(suite, requests);

	tcase_set_timeout(addresses, 300);
	tcase_add_test(addresses, first_2_gib_have_room);
	tcase_add_test(addresses, addresses_without_a_target_are_unpredictable);
	tcase_add_loop_test(addresses, buffer_is_within_reach_of_code_stack_and_heap, 0, TARGETS);
	tcase_add_loop_test(addresses, buffer_is_at_the_nearest_free_address, 0, TARGETS);
	tcase_add_test(addresses, hole_of_exactly_the_size_is_found_in_packed_memory);
	tcase_add_test(addresses, sizes_from_a_byte_to_a_gibibyte_are_served);
	tcase_add_test(addresses, alignments_from_a_byte_to_a_gibibyte_are_served);
	suite_add_tcase(suite, addresses);

	tcase_set_timeout(sharing, 300);
	tcase_add_test(sharing, free_space_goes_to_the_next_caller);
	tcase_add_test(sharing, held_item_is_given_to_no_other_caller);
	tcase_add_test(sharing, neighbouring_requests_make_few_mappings);
	tcase_add_test(sharing, thousand_held_items_are_listed_by_several_locators);
	tcase_add_test(sharing, walk_stops_when_the_callback_returns_nonzero);
	suite_add_tcase(suite, sharing);

#if CAN_FORK
	add_failures(suite);
#endif
	return run_suite(suite);
}
