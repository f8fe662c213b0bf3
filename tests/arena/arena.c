/* SPDX-License-Identifier: MIT */
/* arena/arena.c: arenas in one process: their windows, items and destruction */

#include "config.h"
#define BUFFERS_BUILD	/* declares no argument nonnull, so that tests can pass NULL */
#include "support/arena-records.h"
#include "support/ledger.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#define KIND_MASK (BUFFERS_RW | BUFFERS_RX)

static size_t whole_pages(size_t size)
{
	return (size + granularity() - 1) & ~(granularity() - 1);
}

static struct buffers_arena *new_arena(size_t size, unsigned flags)
{
	struct buffers_request window = { .size = size };
	struct buffers_arena *arena = buffers_arena_create(&window, flags);

	ck_assert_ptr_nonnull(arena);
	return arena;
}

static void destroy(struct buffers_arena *arena)
{
	errno = 1234;
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
	ck_assert_int_eq(errno, 1234);
}

/*
 * Makes the library map the memory that it keeps until the process exits, so that it does not
 * show in later counts of mappings.
 */
static void warm_up(void)
{
	for (int i = 0; i < ARENA_KINDS; i++) {
		struct buffers_arena *arena = new_arena(1, arena_flags(i));
		struct buffers_item *item = buffers_arena_get(arena, 1, 1);

		ck_assert_ptr_nonnull(buffers_append(item, "x", 1));
		buffers_release(item);
		destroy(arena);
	}
}

static size_t all_mappings(void)
{
	return count_mappings(0, UINTPTR_MAX);
}

/* Sanitizers map and unmap memory at any time. */
static void check_mappings(size_t before)
{
	if (!is_asan() && !is_tsan())
		ck_assert_uint_eq(all_mappings(), before);
}

/*
 * Reserves all free space of the arena, item by item.  Returns the number of bytes, and their
 * bounds in *start and *end.
 */
static size_t take_all(struct buffers_arena *arena, uintptr_t *start, uintptr_t *end)
{
	struct buffers_item *item;
	size_t total = 0;

	*start = UINTPTR_MAX;
	*end = 0;
	errno = 1234;
	while ((item = buffers_arena_get(arena, 1, 1))) {
		uintptr_t next = (uintptr_t)buffers_next(item);
		size_t remaining = buffers_remaining(item);

		ck_assert_ptr_nonnull(buffers_reserve(item, remaining, 1));
		buffers_release(item);
		ck_assert_int_eq(errno, 1234);
		*start = next < *start ? next : *start;
		*end = next + remaining > *end ? next + remaining : *end;
		total += remaining;
	}
	ck_assert_int_eq(errno, ENOSPC);
	return total;
}

/* Uses up the window, asserts that it has exactly this size, and returns its address. */
static uintptr_t check_window(struct buffers_arena *arena, size_t size)
{
	uintptr_t start, end;

	ck_assert_uint_eq(take_all(arena, &start, &end), whole_pages(size));
	ck_assert_uint_eq(end - start, whole_pages(size));
	return start;
}

/*
 * The window
 */

static const size_t window_sizes[] = {
	1, 4095, 4096, 4097, 12345, 64 << 10, (64 << 10) + 1, 100 << 10, 1 << 20,
	(1 << 20) + 4096, 3 << 20, (20 << 20) + 1
};
enum { WINDOW_SIZES = sizeof(window_sizes) / sizeof(window_sizes[0]) };

START_TEST(window_of_any_size_is_used_to_its_last_byte)
{
	for (size_t i = 0; i < WINDOW_SIZES; i++) {
		struct buffers_arena *arena = new_arena(window_sizes[i], arena_flags(_i));
		uintptr_t start = check_window(arena, window_sizes[i]);
		struct buffers_request window = {
			.min_address = start, .max_address = start + whole_pages(window_sizes[i]),
		};

		ck_assert(is_mapped_as(window.min_address, window.max_address, NULL));
		destroy(arena);
		ck_assert(is_window_free(&window));
	}
}
END_TEST

START_TEST(window_of_many_gib_uses_memory_only_where_written)
{
#if SIZE_MAX > UINT32_MAX
	struct buffers_arena *arena;
	struct buffers_item *item;
	size_t mappings = arena_flags(_i) & BUFFERS_VIEW ? 2 : 1;
	size_t window, before;
	void *large;

	SKIP_IF(!can_overcommit(), "this system does not overcommit memory");
	SKIP_IF(!has_address_space((mappings * 64 + 1) * GIB), NO_ADDRESS_SPACE);
	use_small_pages();
	warm_up();
	before = resident_bytes();
	window = (is_slow() ? 8 : 64) * GIB;
	arena = new_arena(window, arena_flags(_i));
	item = buffers_arena_get(arena, 3 * GIB, 1);
	ck_assert_ptr_nonnull(item);
	large = buffers_reserve(item, 3 * GIB - 4, 1);
	ck_assert_ptr_eq(large, buffers_base(item));
	ck_assert_ptr_eq(buffers_append(item, "last", 4), (char *)large + (3 * GIB - 4));
	ck_assert_mem_eq((char *)large + (3 * GIB - 4), "last", 4);
	ck_assert_int_eq(buffers_overwrite(large, "first", 5), 0);
	ck_assert_mem_eq(large, "first", 5);
	buffers_release(item);
	if (!is_emulated() && before != 0)
		ck_assert_uint_lt(resident_bytes(),
				  before + 2 * MIB + page_list_bytes(mappings * window));
	destroy(arena);
	SKIP_IF(before == 0, NO_RESIDENT_BYTES);
#else
	(void)_i;
	SKIP_IF(true, "the address space is smaller");
#endif
}
END_TEST

START_TEST(all_space_of_many_gib_is_handed_out)
{
#if SIZE_MAX > UINT32_MAX
	struct buffers_arena *arena;
	struct buffers_item *item;
	size_t total = 0;

	SKIP_IF(!can_overcommit(), "this system does not overcommit memory");
	SKIP_IF(!has_address_space(10 * GIB), NO_ADDRESS_SPACE);
	arena = new_arena(9 * GIB, arena_flags(_i));
	errno = 0;
	ck_assert_ptr_null(buffers_arena_get(arena, 4 * GIB - granularity() + 1, 1));
	ck_assert_int_eq(errno, ENOSPC);
	item = buffers_arena_get(arena, 4 * GIB - granularity(), 1);
	ck_assert_ptr_nonnull(item);
	buffers_release(item);
	for (size_t size = 2 * GIB; size; size /= 16) {
		while ((item = buffers_arena_get(arena, size, 1))) {
			size_t remaining = buffers_remaining(item);

			ck_assert_uint_ge(remaining, size);
			ck_assert_ptr_nonnull(buffers_reserve(item, remaining, 1));
			buffers_release(item);
			total += remaining;
		}
		ck_assert_int_eq(errno, ENOSPC);
	}
	ck_assert_uint_eq(total, 9 * GIB);
	destroy(arena);
#else
	(void)_i;
	SKIP_IF(true, "the address space is smaller");
#endif
}
END_TEST

START_TEST(window_lies_within_reach_of_its_target)
{
	uintptr_t target = (uintptr_t)getenv;

	for (size_t size = 1; size <= 16 * MIB; size *= 64) {
		struct buffers_request window =
			buffers_request_near((const void *)target, BUFFERS_REACH_BRANCH, size);
		struct buffers_arena *arena = buffers_arena_create(&window, arena_flags(_i));
		uintptr_t start;

		ck_assert_ptr_nonnull(arena);
		start = check_window(arena, size);
		ck_assert_uint_ge(start, window.min_address);
		if (window.max_address)
			ck_assert_uint_le(start + whole_pages(size), window.max_address);
		destroy(arena);
	}
}
END_TEST

START_TEST(window_lies_within_its_range)
{
	for (size_t size = 4096; size <= 64 * MIB; size *= 8) {
		struct buffers_request window = {
			.min_address = 256 * MIB, .max_address = GIB, .size = size,
		};
		struct buffers_arena *arena = buffers_arena_create(&window, arena_flags(_i));
		uintptr_t start;

		ck_assert_ptr_nonnull(arena);
		start = check_window(arena, size);
		ck_assert_uint_ge(start, 256 * MIB);
		ck_assert_uint_le(start + size, GIB);
		destroy(arena);
	}
}
END_TEST

START_TEST(window_has_the_address_that_alloc_returns)
{
	struct buffers_request window = { .max_address = 2 * GIB, .size = 3 * MIB };

	for (uintptr_t target = 256 * MIB; target < 2 * GIB; target += 333 * MIB) {
		struct buffers_arena *arena;
		size_t allocated;
		uintptr_t expected;

		/* 32-bit Wine lists addresses as mapped that a call can still map */
		if (is_mapped_as(target, target + 1, NULL))
			continue;
		window.target = (const void *)target;
		expected = (uintptr_t)buffers_alloc(&window, &allocated);
		ck_assert_uint_ne(expected, 0);
		ck_assert_int_eq(buffers_free((void *)expected, allocated), 0);
		arena = buffers_arena_create(&window, arena_flags(_i));
		ck_assert_ptr_nonnull(arena);
		ck_assert_uint_eq(check_window(arena, window.size), expected);
		destroy(arena);
	}
}
END_TEST

/* Reserves 16 MiB except for one gap. */
static struct buffers_request reserve_except(size_t offset, size_t gap)
{
	char *reserved = reserve(0, 16 * MIB);

	if (gap)
		unreserve(reserved + offset, gap);
	return (struct buffers_request){
		.min_address = (uintptr_t)reserved,
		.max_address = (uintptr_t)reserved + 16 * MIB,
	};
}

START_TEST(gap_of_exactly_the_size_is_used)
{
	struct buffers_request window;
	struct buffers_arena *arena;

	warm_up();
	window = reserve_except(5 * MIB, 3 * MIB);
	window.size = 3 * MIB + 1;
	errno = 0;
	ck_assert_ptr_null(buffers_arena_create(&window, arena_flags(_i)));
	ck_assert_int_eq(errno, EADDRNOTAVAIL);
	window.size = 3 * MIB;
	arena = buffers_arena_create(&window, arena_flags(_i));
	ck_assert_ptr_nonnull(arena);
	ck_assert_uint_eq(check_window(arena, 3 * MIB), window.min_address + 5 * MIB);
	destroy(arena);
}
END_TEST

/* The kernel must not put the library's own pages into the gap. */
START_TEST(highest_gap_is_left_to_the_window)
{
	for (size_t pages = 1; pages <= 16; pages *= 2) {
		struct buffers_request window = { .size = pages * granularity() };
		struct buffers_arena *arena;
		void *gap;

		warm_up();
		gap = reserve(0, window.size);
		unreserve(gap, window.size);
		window.min_address = (uintptr_t)gap;
		window.max_address = (uintptr_t)gap + window.size;
		arena = buffers_arena_create(&window, arena_flags(_i));
		ck_assert_ptr_nonnull(arena);
		ck_assert_uint_eq(check_window(arena, window.size), window.min_address);
		destroy(arena);
	}
}
END_TEST

START_TEST(window_is_aligned_as_requested)
{
	for (size_t alignment = 1; alignment <= 256 * MIB; alignment *= 4) {
		struct buffers_request window = {
			.size = 100 * KIB, .alignment = alignment, .max_address = 2 * GIB,
		};
		struct buffers_arena *arena = buffers_arena_create(&window, arena_flags(_i));

		ck_assert_ptr_nonnull(arena);
		ck_assert_uint_eq(check_window(arena, window.size) & (alignment - 1), 0);
		destroy(arena);
	}
}
END_TEST

static const struct {
	struct buffers_request window;
	unsigned flags;
	int error;
} bad_windows[] = {
	{ { .size = 0 }, 0, EINVAL },
	{ { .size = 1, .min_address = 4096, .max_address = 4096 }, 0, EINVAL },
	{ { .size = 1, .min_address = 8192, .max_address = 4096 }, 0, EINVAL },
	{ { .size = 1, .alignment = 3 }, 0, EINVAL },
	{ { .size = 1, .alignment = SIZE_MAX }, 0, EINVAL },
	{ { .size = 1, .reserved = { 1, 0 } }, 0, EINVAL },
	{ { .size = 1, .reserved = { 0, 1 } }, 0, EINVAL },
	{ { .size = 1, .flags = 1u << 3 }, 0, EINVAL },
	{ { .size = 1, .flags = 1u << 31 }, 0, EINVAL },
	{ { .size = 1, .flags = BUFFERS_ARENA_FORK_SHARED }, 0, EINVAL },
	{ { .size = 1, .flags = BUFFERS_RW | BUFFERS_RX }, 0, EINVAL },
	{ { .size = 1 }, BUFFERS_RW | BUFFERS_RX, EINVAL },
	{ { .size = 1, .flags = BUFFERS_RW }, BUFFERS_RX, EINVAL },
	{ { .size = 1, .flags = BUFFERS_RX }, BUFFERS_RW, EINVAL },
	{ { .size = 1 }, 1u << 3, EINVAL },
	{ { .size = 1 }, 1u << 7, EINVAL },
	{ { .size = 1 }, 1u << 10, EINVAL },
	{ { .size = 1 }, BUFFERS_ARENA_HUGE_PAGES, EINVAL },
	{ { .size = (2 << 20) - 1 }, BUFFERS_ARENA_HUGE_PAGES, EINVAL },
	{ { .size = 2 << 20, .flags = BUFFERS_ARENA_HUGE_PAGES }, 0, EINVAL },
	{ { .size = 1 }, 1u << 31, EINVAL },
	{ { .size = SIZE_MAX }, 0, EADDRNOTAVAIL },
	{ { .size = SIZE_MAX - 4096 }, 0, EADDRNOTAVAIL },
	{ { .size = SIZE_MAX - (SIZE_MAX >> 6) }, 0, EADDRNOTAVAIL },
	{ { .size = 2 << 20, .min_address = 256 << 20, .max_address = 257 << 20 }, 0,
	  EADDRNOTAVAIL },
	{ { .size = 1, .min_address = 257, .max_address = 300 }, 0, EADDRNOTAVAIL },
};
enum { BAD_WINDOWS = sizeof(bad_windows) / sizeof(bad_windows[0]) };

START_TEST(bad_window_fails_and_changes_nothing)
{
	size_t before;

	warm_up();
	before = all_mappings();
	for (int kind = 0; kind < ARENA_KINDS; kind++) {
		unsigned flags = bad_windows[_i].flags | arena_flags(kind);

		errno = 0;
		ck_assert_ptr_null(buffers_arena_create(&bad_windows[_i].window, flags));
		ck_assert_int_eq(errno, bad_windows[_i].error);
	}
	check_mappings(before);
}
END_TEST

START_TEST(null_window_is_einval)
{
	for (int kind = 0; kind < ARENA_KINDS; kind++) {
		errno = 0;
		ck_assert_ptr_null(buffers_arena_create(NULL, arena_flags(kind)));
		ck_assert_int_eq(errno, EINVAL);
	}
}
END_TEST

#if !CAN_FORK
START_TEST(fork_sharing_on_windows_is_enosys_and_changes_nothing)
{
	struct buffers_request window = { .size = MIB, .flags = arena_flags(_i) };
	size_t before;

	warm_up();
	before = all_mappings();
	errno = 0;
	ck_assert_ptr_null(buffers_arena_create(&window, BUFFERS_ARENA_FORK_SHARED));
	ck_assert_int_eq(errno, ENOSYS);
	window.size = 0;
	errno = 0;
	ck_assert_ptr_null(buffers_arena_create(&window, BUFFERS_ARENA_FORK_SHARED));
	ck_assert_int_eq(errno, EINVAL);
	check_mappings(before);
}
END_TEST
#endif

START_TEST(range_without_a_gap_changes_nothing)
{
	struct buffers_request window;
	size_t before;

	warm_up();
	window = reserve_except(0, 0);
	window.size = 64 * KIB;
	before = all_mappings();
	for (unsigned i = 0; i < 10; i++) {
		errno = 0;
		ck_assert_ptr_null(buffers_arena_create(&window, arena_flags(_i)));
		ck_assert_int_eq(errno, EADDRNOTAVAIL);
	}
	check_mappings(before);
}
END_TEST

#if CAN_FORK
static int create_with_little_memory(void *flags)
{
	struct buffers_request window = { .size = 64 * MIB };
	struct rlimit before;
	size_t mappings;

	warm_up();
	mappings = all_mappings();
	before = set_limit(RLIMIT_AS, 48 * MIB);
	for (unsigned i = 0; i < 10; i++) {
		errno = 0;
		STEP(!buffers_arena_create(&window, *(unsigned *)flags));
		STEP(errno == ENOMEM);
	}
	setrlimit(RLIMIT_AS, &before);
	STEP(all_mappings() == mappings);
	STEP(buffers_arena_create(&window, *(unsigned *)flags));
	return 0;
}

START_TEST(too_little_memory_is_enomem_and_changes_nothing)
{
	unsigned flags = arena_flags(_i);

	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps more than any limit allows");
	SKIP_IF(!can_limit_memory(), NO_MEMORY_LIMIT);
	run_child(create_with_little_memory, &flags);
}
END_TEST

/* The library itself uses descriptors for some kinds. */
static int create_without_descriptors(void *context)
{
	unsigned flags = *(unsigned *)context;
	struct rlimit before = set_limit(RLIMIT_NOFILE, 0);
	struct buffers_request window = { .size = MIB };
	struct buffers_arena *arena = buffers_arena_create(&window, flags);
	struct buffers_item *item;

	STEP(arena || errno == ENOMEM || errno == EACCES);
	if (arena) {
		item = buffers_arena_get(arena, 10, 1);
		STEP(item);
		errno = 0;
		STEP(buffers_append(item, "x", 1) || errno == ENOMEM || errno == EACCES);
		STEP(buffers_remaining(item) == buffers_size(item) - (errno == 0));
		buffers_release(item);
		STEP(buffers_arena_destroy(arena) == 0);
	}
	setrlimit(RLIMIT_NOFILE, &before);
	return 0;
}

START_TEST(without_descriptors_calls_succeed_or_fail_as_documented)
{
	unsigned flags = arena_flags(_i);

	run_child(create_without_descriptors, &flags);
}
END_TEST
#endif

/* The permissions that /proc/self/maps must list. */
static const char *permissions_of(unsigned flags)
{
	bool is_shared = CAN_FORK && (flags & (BUFFERS_ARENA_FORK_SHARED | BUFFERS_VIEW));

	if (flags & BUFFERS_RW)
		return is_shared ? "rw-s" : "rw-p";
	if (flags & BUFFERS_RX)
		return is_shared ? "r-xs" : "r-xp";
	return is_shared ? "rwxs" : "rwxp";
}

static void check_kind(const struct buffers_item *item, unsigned flags)
{
	uintptr_t base = (uintptr_t)buffers_base(item);

	ck_assert(is_mapped_as(base, base + buffers_size(item), permissions_of(flags)));
}

static void overwrite_byte(void *bytes, size_t size, void *context)
{
	memset(bytes, *(char *)context, size);
}

START_TEST(memory_has_the_permissions_of_its_kind_at_every_step)
{
	unsigned flags = arena_flags(_i);
	struct buffers_arena *arena = new_arena(MIB, flags);
	struct buffers_item *item = buffers_arena_get(arena, 10 * KIB, 1);
	char *bytes;

	check_kind(item, flags);
	bytes = buffers_append(item, "0123456789", 10);
	check_kind(item, flags);
	ck_assert_ptr_nonnull(buffers_append_code(item, "0123456789", 10));
	check_kind(item, flags);
	ck_assert_ptr_nonnull(buffers_reserve(item, 5000, 64));
	check_kind(item, flags);
	ck_assert_int_eq(buffers_overwrite(bytes, "ab", 2), 0);
	check_kind(item, flags);
	ck_assert_int_eq(buffers_overwrite_with(bytes, 3, overwrite_byte, "c"), 0);
	check_kind(item, flags);
	ck_assert_mem_eq(bytes, "ccc3456789", 10);
	buffers_release(item);
	destroy(arena);
}
END_TEST

START_TEST(kind_can_be_given_in_the_window)
{
	unsigned flags = arena_flags(_i);
	struct buffers_request window = { .size = 100, .flags = flags & KIND_MASK };
	struct buffers_arena *arena = buffers_arena_create(&window, flags & ~KIND_MASK);
	struct buffers_item *item;

	ck_assert_ptr_nonnull(arena);
	item = buffers_arena_get(arena, 1, 1);
	check_kind(item, flags);
	buffers_release(item);
	destroy(arena);
}
END_TEST

/*
 * Items
 */

START_TEST(bad_get_is_einval_and_changes_nothing)
{
	struct buffers_arena *arena = new_arena(MIB, arena_flags(_i));
	struct buffers_item *item = buffers_arena_get(arena, 10, 1);
	void *next = buffers_next(item);
	static const struct {
		size_t size, alignment;
	} bad[] = { { 0, 1 }, { 0, 0 }, { 1, 3 }, { 1, 12 }, { 1, SIZE_MAX }, { SIZE_MAX, 3 } };

	buffers_release(item);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		errno = 0;
		ck_assert_ptr_null(buffers_arena_get(arena, bad[i].size, bad[i].alignment));
		ck_assert_int_eq(errno, EINVAL);
	}
	errno = 0;
	ck_assert_ptr_null(buffers_arena_get(NULL, 1, 1));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_ptr_eq(buffers_arena_get(arena, 10, 1), item);
	ck_assert_ptr_eq(buffers_next(item), next);
	buffers_release(item);
	check_window(arena, MIB);
	destroy(arena);
}
END_TEST

START_TEST(get_that_can_never_fit_is_enospc_and_changes_nothing)
{
	/* no address below the limit is a multiple of SIZE_MAX / 2 + 1 */
	struct buffers_request window = { .size = MIB, .max_address = SIZE_MAX / 2 };
	struct buffers_arena *arena = buffers_arena_create(&window, arena_flags(_i));
	const struct {
		size_t size, alignment;
	} large[] = {
		{ MIB + 1, 1 }, { 2 * GIB, 1 }, { (size_t)UINT32_MAX, 1 }, { SIZE_MAX, 1 },
		{ SIZE_MAX - 100, 1 }, { SIZE_MAX, SIZE_MAX / 2 + 1 }, { 1, SIZE_MAX / 2 + 1 },
		{ SIZE_MAX / 2 + 2, SIZE_MAX / 2 + 1 },
#if SIZE_MAX > UINT32_MAX
		{ 4 * GIB, 1 }, { 4 * GIB + 1, 1 }, { 8 * GIB, 4096 },
#endif
	};

	ck_assert_ptr_nonnull(arena);
	for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++) {
		errno = 0;
		ck_assert_ptr_null(buffers_arena_get(arena, large[i].size, large[i].alignment));
		ck_assert_int_eq(errno, ENOSPC);
	}
	check_window(arena, MIB);
	destroy(arena);
}
END_TEST

START_TEST(whole_window_can_be_one_item)
{
	struct buffers_arena *arena = new_arena(5 * MIB, arena_flags(_i));
	struct buffers_item *item = buffers_arena_get(arena, 5 * MIB, 1);

	ck_assert_ptr_nonnull(item);
	ck_assert_uint_eq(buffers_size(item), 5 * MIB);
	errno = 0;
	ck_assert_ptr_null(buffers_arena_get(arena, 1, 1));	/* the only item is held */
	ck_assert_int_eq(errno, ENOSPC);
	buffers_release(item);
	ck_assert_ptr_eq(buffers_arena_get(arena, 5 * MIB, 1), item);
	buffers_release(item);
	destroy(arena);
}
END_TEST

START_TEST(arena_items_behave_as_other_items)
{
	struct buffers_arena *arena = new_arena(MIB, arena_flags(_i));
	struct buffers_item *item;
	char *base;

	errno = 1234;
	item = buffers_arena_get(arena, 100, 0);
	ck_assert_ptr_nonnull(item);
	base = buffers_base(item);
	ck_assert_ptr_eq(buffers_next(item), base);
	ck_assert_uint_eq(buffers_remaining(item), buffers_size(item));
	ck_assert_ptr_eq(buffers_append(item, "abc", 3), base);
	ck_assert_ptr_eq(buffers_append(item, NULL, 0), base + 3);
	ck_assert_ptr_eq(buffers_append_code(item, "defgh", 5), base + 3);
	ck_assert_ptr_eq(buffers_reserve(item, 4, 16), base + 16);
	ck_assert_mem_eq(base, "abcdefgh\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	ck_assert_int_eq(buffers_overwrite(base + 16, "wxyz", 4), 0);
	ck_assert_int_eq(buffers_overwrite(base, "ABCDEFGH", 8), 0);
	ck_assert_int_eq(buffers_overwrite_with(base + 1, 2, overwrite_byte, "-"), 0);
	ck_assert_mem_eq(base, "A--DEFGH\0\0\0\0\0\0\0\0wxyz", 20);
	ck_assert_uint_eq(buffers_remaining(item), buffers_size(item) - 20);
	ck_assert_int_eq(errno, 1234);
	ck_assert_ptr_null(buffers_append(item, base, buffers_remaining(item) + 1));
	ck_assert_int_eq(errno, ENOSPC);
	ck_assert_ptr_eq(buffers_next(item), base + 20);
	errno = 1234;
	buffers_release(item);
	ck_assert_int_eq(errno, 1234);
	destroy(arena);
}
END_TEST

START_TEST(appends_of_any_size_are_complete)
{
	struct buffers_arena *arena = new_arena(4 * MIB, arena_flags(_i));
	static char bytes[70 << 10];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7 + i / 256);
	for (size_t size = 1; size <= sizeof(bytes); size += 1 + size / 5) {
		struct buffers_item *item = buffers_arena_get(arena, size, 1);
		char *next = buffers_next(item);

		ck_assert_ptr_eq(buffers_append(item, bytes, size), next);
		ck_assert_mem_eq(next, bytes, size);
		buffers_release(item);
	}
	destroy(arena);
}
END_TEST

START_TEST(code_runs_in_executable_kinds)
{
	struct record_log *log = record_log_new(10, false);
	struct buffers_arena *arena;
	struct buffers_item *item;

	SKIP_IF(arena_flags(_i) & BUFFERS_RW, "RW memory is not executable");
	SKIP_IF(!record_has_code(), "the tests have no code for this processor");
	arena = new_arena(1, arena_flags(_i));
	item = buffers_arena_get(arena, 100, 1);
	for (size_t i = 0; i < 10; i++)
		ck_assert_ptr_nonnull(record_append_code(log, item, 0));
	buffers_release(item);
	for (size_t i = 0; i < 10; i++)
		ck_assert(record_call(log, i));
	destroy(arena);
}
END_TEST

START_TEST(released_items_are_found_again_and_held_items_are_not)
{
	struct buffers_arena *arena = new_arena(MIB, arena_flags(_i));
	struct buffers_item *one = buffers_arena_get(arena, 10, 1);
	struct buffers_item *two = buffers_arena_get(arena, 10, 1);
	struct buffers_item *three = buffers_arena_get(arena, 10, 1);
	char *next;

	ck_assert(one && two && three && one != two && one != three && two != three);
	next = buffers_append(two, "x", 1);
	buffers_release(two);
	ck_assert_ptr_eq(buffers_arena_get(arena, 10, 1), two);
	ck_assert_ptr_eq(buffers_next(two), next + 1);
	buffers_release(one);
	ck_assert_ptr_eq(buffers_arena_get(arena, 10, 1), one);
	buffers_release(three);
	buffers_release(two);
	buffers_release(one);
	destroy(arena);
}
END_TEST

START_TEST(space_in_held_items_is_enospc_until_their_release)
{
	struct buffers_arena *arena = new_arena(MIB, arena_flags(_i));
	struct buffers_item *held[17];
	size_t count = 0;

	/* 16 items at most: TSan tracks no more than 64 locks per thread */
	while ((held[count] = buffers_arena_get(arena, 64 * KIB, 1))) {
		ck_assert_ptr_nonnull(buffers_append(held[count], "x", 1));
		ck_assert_uint_lt(++count, 17);
	}
	ck_assert_int_eq(errno, ENOSPC);
	ck_assert_uint_gt(count, 1);
	for (size_t i = 0; i < count; i++) {
		buffers_release(held[i]);
		ck_assert_ptr_eq(buffers_arena_get(arena, 1, 1), held[i]);
		errno = 0;
		ck_assert_ptr_null(buffers_arena_get(arena, 1, 1));
		ck_assert_int_eq(errno, ENOSPC);
	}
	for (size_t i = 0; i < count; i++)
		buffers_release(held[i]);
	destroy(arena);
}
END_TEST

START_TEST(first_free_byte_is_aligned_as_requested)
{
	struct buffers_arena *arena = new_arena(64 * MIB, arena_flags(_i));
	uint64_t random = seed_random();

	for (unsigned i = 0; i < 300; i++) {
		size_t alignment = (size_t)1 << random_below(&random, 21);
		size_t size = 1 + random_below(&random, 1000);
		struct buffers_item *item = buffers_arena_get(arena, size, alignment);

		ck_assert_ptr_nonnull(item);
		ck_assert_uint_eq((uintptr_t)buffers_next(item) & (alignment - 1), 0);
		ck_assert_uint_ge(buffers_remaining(item), size);
		ck_assert_ptr_nonnull(buffers_reserve(item, size, 1));
		buffers_release(item);
	}
	destroy(arena);
}
END_TEST

START_TEST(space_skipped_for_alignment_is_used_by_later_items)
{
	struct buffers_request window = { .size = 4 * MIB, .alignment = 4 * MIB };
	struct buffers_arena *arena = buffers_arena_create(&window, arena_flags(_i));
	struct buffers_item *item;
	uintptr_t start, end;
	char *first;

	ck_assert_ptr_nonnull(arena);
	item = buffers_arena_get(arena, 1, 1);
	first = buffers_reserve(item, 1, 1);
	buffers_release(item);
	item = buffers_arena_get(arena, 1, MIB);
	ck_assert_ptr_eq(buffers_reserve(item, 1, 1), first + MIB);
	buffers_release(item);
	ck_assert_uint_eq(take_all(arena, &start, &end), 4 * MIB - 2);
	destroy(arena);
}
END_TEST

/* Requests shrink, so that the last ones fit into the smallest free space. */
static void use_up(struct buffers_arena *arena, struct record_log *log, uint64_t *random)
{
	for (size_t most = 20 * KIB; most >= RECORD_MIN; most /= 2) {
		for (unsigned failures = 0; failures < 3;) {
			size_t size = RECORD_MIN +
				      random_below(random, most - RECORD_MIN + 1);
			struct buffers_item *item = buffers_arena_get(arena, size, 1);

			if (!item) {
				ck_assert_int_eq(errno, ENOSPC);
				failures++;
				continue;
			}
			ck_assert_uint_ge(buffers_remaining(item), size);
			ck_assert_ptr_nonnull(size <= RECORD_MAX ?
					      record_append(log, item, 1, size) :
					      record_reserve(log, item, 1, size));
			buffers_release(item);
		}
	}
	ck_assert(record_fill_up(log, arena));
}

static void use_every_byte(size_t size, unsigned flags, struct record_log *log, uint64_t *random)
{
	struct buffers_request window = exact_window(size);
	struct buffers_arena *arena = buffers_arena_create(&window, flags);
	unsigned unfinished;

	ck_assert_ptr_nonnull(arena);
	record_log_clear(log);
	use_up(arena, log, random);
	ck_assert_ptr_null(record_check_all(log, &window, &unfinished));
	ck_assert_uint_eq(unfinished, 0);
	destroy(arena);
}

START_TEST(random_sizes_use_every_byte_of_the_window)
{
	struct record_log *log = record_log_new(MIB, false);
	unsigned flags = arena_flags(_i);
	uint64_t random = seed_random();

	warm_up();
	for (size_t size = 1; size <= 16 * MIB; size = size * 8 + 4096) {
		use_every_byte(size, flags, log, &random);
		if (size >= 2 * MIB)
			use_every_byte(size, flags | BUFFERS_ARENA_HUGE_PAGES, log, &random);
	}
}
END_TEST

START_TEST(exhausted_arena_is_enospc_and_stays_intact)
{
	struct record_log *log = record_log_new(MIB, false);
	struct buffers_request window;
	struct buffers_arena *arena;
	uint64_t random = seed_random();
	unsigned unfinished;
	size_t mappings;

	warm_up();
	window = exact_window(300 * KIB);
	arena = buffers_arena_create(&window, arena_flags(_i));
	ck_assert_ptr_nonnull(arena);
	use_up(arena, log, &random);
	mappings = all_mappings();
	for (size_t size = 1; size <= 2000; size++) {
		errno = 0;
		ck_assert_ptr_null(buffers_arena_get(arena, size, (size_t)1 << size % 14));
		ck_assert_int_eq(errno, ENOSPC);
	}
	check_mappings(mappings);
	ck_assert_ptr_null(record_check_all(log, &window, &unfinished));
	ck_assert_int_eq(buffers_overwrite((void *)window.min_address, "1234", 4), 0);
	ck_assert_mem_eq((void *)window.min_address, "1234", 4);
	destroy(arena);
}
END_TEST

/*
 * Separation from other memory
 */

static int find_in(const struct buffers_info *info, void *window)
{
	const struct buffers_request *where = window;

	return (uintptr_t)info->base < where->max_address &&
	       (uintptr_t)info->base + info->size > where->min_address;
}

START_TEST(arena_is_separate_from_the_buffers_of_the_process)
{
	struct buffers_request window, request;
	struct buffers_arena *arena;
	struct buffers_item *item;
	size_t allocated;

	warm_up();
	window = exact_window(MIB);
	request = window;
	arena = buffers_arena_create(&window, arena_flags(_i));
	item = buffers_arena_get(arena, 10, 1);
	ck_assert_ptr_nonnull(item);
	buffers_release(item);
	ck_assert_int_eq(buffers_walk(find_in, &window), 0);
	request.size = 1;
	for (unsigned kind = 0; kind < ARENA_SHARED; kind++) {
		request.flags = arena_flags((int)kind) & ~BUFFERS_VIEW;
		errno = 0;
		ck_assert_ptr_null(buffers_get(&request));
		ck_assert_int_eq(errno, EADDRNOTAVAIL);
		ck_assert_ptr_null(buffers_alloc(&request, &allocated));
		ck_assert_int_eq(errno, EADDRNOTAVAIL);
	}
	ck_assert_int_eq(buffers_walk(find_in, &window), 0);
	destroy(arena);
}
END_TEST

/* The bytes in which another implementation with another layout looks for room. */
START_TEST(locators_are_closed_to_other_layouts)
{
	enum { ITEMS = 100 };	/* more than two locators list */
	const size_t at_mark = 2 * sizeof(uintptr_t) + 6;
	struct buffers_arena *arena = new_arena(16 * MIB, arena_flags(_i));
	struct buffers_item *items[ITEMS];

	SKIP_IF(is_tsan() && arena_flags(_i) & BUFFERS_ARENA_FORK_SHARED,
		"TSan follows at most 64 locks of a thread");
	for (unsigned i = 0; i < ITEMS; i++) {
		const unsigned char *locator;

		items[i] = buffers_arena_get(arena, 1, 1);
		ck_assert_ptr_nonnull(items[i]);
		locator = (const unsigned char *)((uintptr_t)items[i] & ~(uintptr_t)4095);
		ck_assert_uint_eq(locator[at_mark], 0x52);
		ck_assert_uint_eq(locator[at_mark + 1], sizeof(uintptr_t) == 8 ? 203 : 255);
	}
	for (unsigned i = 0; i < ITEMS; i++)
		buffers_release(items[i]);
	destroy(arena);
}
END_TEST

START_TEST(arenas_do_not_share_space)
{
	enum { ARENAS = 3 * ARENA_KINDS };
	struct buffers_arena *arenas[ARENAS];
	struct buffers_item *items[ARENAS];
	uintptr_t start[ARENAS], end[ARENAS];

	for (int i = 0; i < ARENAS; i++)
		arenas[i] = new_arena(200 * KIB, arena_flags(i % ARENA_KINDS));
	for (unsigned round = 0; round < 30; round++) {
		for (int i = 0; i < ARENAS; i++) {
			struct buffers_item *item = buffers_arena_get(arenas[i], 100, 1);

			if (round == 0)
				items[i] = item;
			ck_assert_ptr_nonnull(item);
			ck_assert_ptr_eq(item, items[i]);
			ck_assert_ptr_nonnull(buffers_append(item, "0123456789", 10));
			ck_assert_uint_eq(buffers_size(item) - buffers_remaining(item),
					  10 * (round + 1));
			buffers_release(item);
		}
	}
	for (int i = 0; i < ARENAS; i++) {
		ck_assert_uint_eq(take_all(arenas[i], &start[i], &end[i]),
				  whole_pages(200 * KIB) - 300);
		for (int j = 0; j < i; j++)
			ck_assert(start[i] >= end[j] || end[i] <= start[j]);
	}
	for (int i = 0; i < ARENAS; i++)
		destroy(arenas[i]);
}
END_TEST

/*
 * Destruction
 */

START_TEST(destroy_unmaps_everything)
{
	struct record_log *log = record_log_new(MIB, false);
	struct buffers_request window;
	struct buffers_arena *arena;
	size_t before;

	warm_up();
	window = exact_window(20 * MIB);
	before = all_mappings();
	arena = buffers_arena_create(&window, arena_flags(_i));
	ck_assert_ptr_nonnull(arena);
	ck_assert(record_fill_up(log, arena));
	destroy(arena);
	check_mappings(before);
	ck_assert(is_window_free(&window));
}
END_TEST

START_TEST(destroying_null_is_einval)
{
	errno = 0;
	ck_assert_int_eq(buffers_arena_destroy(NULL), -1);
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

START_TEST(destroy_is_einval_while_an_item_is_held)
{
	struct buffers_arena *arena = new_arena(MIB, arena_flags(_i));
	struct buffers_item *one = buffers_arena_get(arena, 1, 1);
	struct buffers_item *two = buffers_arena_get(arena, 1, 1);

	ck_assert_ptr_nonnull(buffers_append(two, "abc", 3));
	for (unsigned i = 0; i < 3; i++) {
		errno = 0;
		ck_assert_int_eq(buffers_arena_destroy(arena), -1);
		ck_assert_int_eq(errno, EINVAL);
	}
	buffers_release(one);
	ck_assert_int_eq(buffers_arena_destroy(arena), -1);
	ck_assert_mem_eq(buffers_base(two), "abc", 4);
	ck_assert_ptr_nonnull(buffers_append(two, "d", 1));
	ck_assert_ptr_eq(buffers_arena_get(arena, 1, 1), one);
	buffers_release(one);
	buffers_release(two);
	destroy(arena);
}
END_TEST

START_TEST(thousand_arenas_leak_nothing)
{
	size_t mappings, resident;
	unsigned descriptors;

	warm_up();
	mappings = all_mappings();
	descriptors = count_descriptors();
	resident = resident_bytes();
	for (unsigned i = 0; i < how_many(1000, 1000); i++) {
		struct buffers_arena *arena = new_arena(256 * KIB, arena_flags(_i));
		struct buffers_item *item = buffers_arena_get(arena, 20 * KIB, 16);

		ck_assert_ptr_nonnull(buffers_append(item, "0123456789", 10));
		buffers_release(item);
		destroy(arena);
	}
	check_mappings(mappings);
	ck_assert_uint_eq(count_descriptors(), descriptors);
	SKIP_IF(resident == 0, NO_RESIDENT_BYTES);
	if (!is_asan() && !is_tsan() && !is_emulated())
		ck_assert_uint_le(resident_bytes(), resident + 64 * granularity());
}
END_TEST

START_TEST(arena_at_a_reused_address_is_new)
{
	struct buffers_request window;

	warm_up();
	window = exact_window(100 * KIB);
	for (unsigned i = 0; i < how_many(200, 200); i++) {
		unsigned flags = arena_flags((int)i % ARENA_KINDS);
		struct buffers_arena *arena = buffers_arena_create(&window, flags);
		struct buffers_item *item = buffers_arena_get(arena, 20, 1);
		char *base = buffers_base(item);

		ck_assert_uint_eq((uintptr_t)base, window.min_address);
		ck_assert_ptr_eq(buffers_next(item), base);
		ck_assert_uint_eq(buffers_remaining(item), buffers_size(item));
		for (size_t j = 0; j < 100; j++)
			ck_assert_int_eq(base[j], 0);
		check_kind(item, flags);
		ck_assert_ptr_eq(buffers_append(item, "0123456789", 10), base);
		buffers_release(item);
		ck_assert_ptr_eq(buffers_arena_get(arena, 20, 1), item);
		buffers_release(item);
		destroy(arena);
	}
}
END_TEST

/*
 * Threads
 */

enum { THREADS = 8 };

struct worker {
	pthread_t thread;
	unsigned number;
	struct buffers_arena *arena;
	struct record_log *log;
	uint64_t random;
	unsigned failures;	/* failed gets since the last success */
	const char *fault;
};

/* A get may fail with ENOSPC while other threads hold the items that have space. */
static const char *use_as_worker(struct worker *worker)
{
	size_t size = random_record_size(&worker->random);
	struct buffers_item *item;

	errno = 1234;
	item = buffers_arena_get(worker->arena, size, 1);
	worker->failures = item ? 0 : worker->failures + 1;
	if (!item)
		return errno == ENOSPC ? NULL : "a get failed with an unexpected error";
	if (errno != 1234)
		return "a get that succeeded changed errno";
	if (!mark_held(item, worker->number))
		return "two threads have one item";
	if (buffers_remaining(item) < size)
		return "less space than requested";
	if (!record_append(worker->log, item, worker->number, size))
		return "an append failed";
	if (!mark_released(item, worker->number))
		return "another thread got an item that was held";
	buffers_release(item);
	return NULL;
}

static void *run_worker(void *context)
{
	struct worker *worker = context;

	while (!worker->fault && worker->failures < 20)
		worker->fault = use_as_worker(worker);
	return NULL;
}

START_TEST(threads_use_every_byte_of_the_window)
{
	struct record_log *log = record_log_new(MIB, false);
	struct worker workers[THREADS];
	struct buffers_request window;
	struct buffers_arena *arena;
	uint64_t random = seed_random();
	unsigned unfinished;

	warm_up();
	window = exact_window(how_many(64, 64) * 64 * KIB);
	arena = buffers_arena_create(&window, arena_flags(_i));
	ck_assert_ptr_nonnull(arena);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){
			.number = i, .arena = arena, .log = log, .random = next_random(&random),
		};
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]),
				 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
		ck_assert_msg(!workers[i].fault, "%s", workers[i].fault);
	}
	ck_assert(record_fill_up(log, arena));
	ck_assert_ptr_null(record_check_all(log, &window, &unfinished));
	ck_assert_uint_eq(unfinished, 0);
	destroy(arena);
}
END_TEST

/* Other threads create and destroy arenas at the same time. */
static void *create_and_destroy(void *context)
{
	unsigned number = *(unsigned *)context;

	for (unsigned i = 0; i < 100; i++) {
		struct buffers_request window = { .size = 100 * KIB };
		struct buffers_arena *arena =
			buffers_arena_create(&window, arena_flags((int)(number + i) % ARENA_KINDS));
		struct buffers_item *item = arena ? buffers_arena_get(arena, 10, 1) : NULL;
		char text[] = { 't', 'h', 'r', 'e', 'a', 'd', (char)('0' + number) };
		char *copy = item ? buffers_append(item, text, sizeof(text)) : NULL;

		if (!copy || copy != buffers_base(item) || memcmp(copy, text, sizeof(text)) != 0)
			return "a get or an append failed";
		buffers_release(item);
		if (buffers_arena_destroy(arena) != 0)
			return "destroying an arena failed";
	}
	return NULL;
}

START_TEST(threads_create_and_destroy_arenas_at_the_same_time)
{
	pthread_t threads[THREADS];
	unsigned numbers[THREADS];
	size_t mappings;
	void *fault;

	warm_up();
	mappings = all_mappings();
	for (unsigned i = 0; i < THREADS; i++) {
		numbers[i] = i;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, create_and_destroy, &numbers[i]),
				 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &fault), 0);
		ck_assert_msg(!fault, "%s", (const char *)fault);
	}
	if (!is_asan() && !is_tsan())	/* the C library keeps stacks and heaps */
		ck_assert_uint_le(all_mappings(), mappings + 4 * THREADS);
}
END_TEST

static void *get_append_and_hold(void *arena)
{
	struct buffers_item *item = buffers_arena_get(arena, 1, 1);

	return item && buffers_append(item, "thread", 6) ? item : NULL;
}

START_TEST(items_of_an_exited_thread_are_released)
{
	/* the window is one page, so there is one item */
	struct buffers_arena *arena = new_arena(1, arena_flags(_i));
	struct buffers_item *item;

	for (unsigned i = 1; i < 20; i++) {
		pthread_t thread;
		void *held;

		ck_assert_int_eq(pthread_create(&thread, NULL, get_append_and_hold, arena), 0);
		ck_assert_int_eq(pthread_join(thread, &held), 0);
		ck_assert_ptr_nonnull(held);
		errno = 1234;
		item = buffers_arena_get(arena, 1, 1);
		ck_assert_int_eq(errno, 1234);
		ck_assert_ptr_eq(item, held);
		ck_assert_uint_eq(buffers_size(item) - buffers_remaining(item), 12 * i - 6);
		ck_assert_mem_eq((char *)buffers_next(item) - 6, "thread", 6);
		ck_assert_ptr_nonnull(buffers_append(item, "parent", 6));
		buffers_release(item);
	}
	destroy(arena);
}
END_TEST

START_TEST(arena_can_be_destroyed_after_a_thread_exited_with_an_item)
{
	struct buffers_arena *arena = new_arena(MIB, arena_flags(_i));
	size_t mappings;
	pthread_t thread;
	void *held;

	ck_assert_int_eq(pthread_create(&thread, NULL, get_append_and_hold, arena), 0);
	ck_assert_int_eq(pthread_join(thread, &held), 0);
	ck_assert_ptr_nonnull(held);
	mappings = all_mappings();
	destroy(arena);
	if (!is_asan() && !is_tsan())
		ck_assert_uint_lt(all_mappings(), mappings);
}
END_TEST

struct holder {
	struct buffers_arena *arena;
	pthread_barrier_t has_it, may_release;
};

static void *hold_until_told(void *context)
{
	struct holder *holder = context;
	struct buffers_item *item = buffers_arena_get(holder->arena, 1, 1);

	pthread_barrier_wait(&holder->has_it);
	pthread_barrier_wait(&holder->may_release);
	buffers_release(item);
	return NULL;
}

START_TEST(destroy_is_einval_while_another_thread_holds_an_item)
{
	struct holder holder = { .arena = new_arena(MIB, arena_flags(_i)) };
	pthread_t thread;

	pthread_barrier_init(&holder.has_it, NULL, 2);
	pthread_barrier_init(&holder.may_release, NULL, 2);
	ck_assert_int_eq(pthread_create(&thread, NULL, hold_until_told, &holder), 0);
	pthread_barrier_wait(&holder.has_it);
	errno = 0;
	ck_assert_int_eq(buffers_arena_destroy(holder.arena), -1);
	ck_assert_int_eq(errno, EINVAL);
	pthread_barrier_wait(&holder.may_release);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	destroy(holder.arena);
}
END_TEST

static TCase *add_case(Suite *suite, const char *name)
{
	TCase *tests = tcase_create(name);

	tcase_set_timeout(tests, 300);
	suite_add_tcase(suite, tests);
	return tests;
}

int main(void)
{
	Suite *suite = suite_create("arena/arena");
	TCase *window = add_case(suite, "window");
	TCase *items = add_case(suite, "items");
	TCase *separation = add_case(suite, "separation");
	TCase *destruction = add_case(suite, "destruction");
	TCase *threads = add_case(suite, "threads");
	int kinds = arena_kinds();

	tcase_add_loop_test(window, window_of_any_size_is_used_to_its_last_byte, 0, kinds);
	tcase_add_loop_test(window, window_of_many_gib_uses_memory_only_where_written, 0,
			    kinds);
	tcase_add_loop_test(window, all_space_of_many_gib_is_handed_out, 0, kinds);
	tcase_add_loop_test(window, window_lies_within_reach_of_its_target, 0, kinds);
	tcase_add_loop_test(window, window_lies_within_its_range, 0, kinds);
	tcase_add_loop_test(window, window_has_the_address_that_alloc_returns, 0,
			    kinds);
	tcase_add_loop_test(window, gap_of_exactly_the_size_is_used, 0, kinds);
	tcase_add_loop_test(window, highest_gap_is_left_to_the_window, 0, kinds);
	tcase_add_loop_test(window, window_is_aligned_as_requested, 0, kinds);
	tcase_add_loop_test(window, bad_window_fails_and_changes_nothing, 0, BAD_WINDOWS);
	tcase_add_test(window, null_window_is_einval);
	tcase_add_loop_test(window, range_without_a_gap_changes_nothing, 0, kinds);
#if CAN_FORK
	tcase_add_loop_test(window, too_little_memory_is_enomem_and_changes_nothing, 0,
			    kinds);
	tcase_add_loop_test(window, without_descriptors_calls_succeed_or_fail_as_documented, 0,
			    kinds);
#else
	tcase_add_loop_test(window, fork_sharing_on_windows_is_enosys_and_changes_nothing, 0,
			    kinds);
#endif
	tcase_add_loop_test(window, memory_has_the_permissions_of_its_kind_at_every_step, 0,
			    kinds);
	tcase_add_loop_test(window, kind_can_be_given_in_the_window, 0, kinds);

	tcase_add_loop_test(items, bad_get_is_einval_and_changes_nothing, 0, kinds);
	tcase_add_loop_test(items, get_that_can_never_fit_is_enospc_and_changes_nothing, 0, kinds);
	tcase_add_loop_test(items, whole_window_can_be_one_item, 0, kinds);
	tcase_add_loop_test(items, arena_items_behave_as_other_items, 0, kinds);
	tcase_add_loop_test(items, appends_of_any_size_are_complete, 0, kinds);
	tcase_add_loop_test(items, code_runs_in_executable_kinds, 0,
			    kinds);
	tcase_add_loop_test(items, released_items_are_found_again_and_held_items_are_not, 0,
			    kinds);
	tcase_add_loop_test(items, space_in_held_items_is_enospc_until_their_release, 0,
			    kinds);
	tcase_add_loop_test(items, first_free_byte_is_aligned_as_requested, 0, kinds);
	tcase_add_loop_test(items, space_skipped_for_alignment_is_used_by_later_items, 0,
			    kinds);
	tcase_add_loop_test(items, random_sizes_use_every_byte_of_the_window, 0, kinds);
	tcase_add_loop_test(items, exhausted_arena_is_enospc_and_stays_intact, 0, kinds);

	tcase_add_loop_test(separation, arena_is_separate_from_the_buffers_of_the_process, 0,
			    kinds);
	tcase_add_loop_test(separation, locators_are_closed_to_other_layouts, 0, kinds);
	tcase_add_test(separation, arenas_do_not_share_space);

	tcase_add_loop_test(destruction, destroy_unmaps_everything, 0, kinds);
	tcase_add_test(destruction, destroying_null_is_einval);
	tcase_add_loop_test(destruction, destroy_is_einval_while_an_item_is_held, 0, kinds);
	tcase_add_loop_test(destruction, thousand_arenas_leak_nothing, 0, kinds);
	tcase_add_test(destruction, arena_at_a_reused_address_is_new);

	tcase_add_loop_test(threads, threads_use_every_byte_of_the_window, 0, kinds);
	tcase_add_test(threads, threads_create_and_destroy_arenas_at_the_same_time);
	tcase_add_loop_test(threads, items_of_an_exited_thread_are_released, ARENA_SHARED,
			    kinds);
	tcase_add_loop_test(threads, arena_can_be_destroyed_after_a_thread_exited_with_an_item,
			    ARENA_SHARED, kinds);
	tcase_add_loop_test(threads, destroy_is_einval_while_another_thread_holds_an_item, 0,
			    kinds);
	return run_suite(suite);
}
