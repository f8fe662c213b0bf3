/* SPDX-License-Identifier: MIT */
/*
 * arena/huge-pages.c: arenas with BUFFERS_ARENA_HUGE_PAGES
 *
 * Whether a kernel has huge pages depends on its settings and on its free memory.  Each test that
 * needs them therefore tries plain memory with the same advice, and is skipped if that gets none.
 */

#include "config.h"
#include "support/arena-records.h"
#include "reloaded/buffers.h"
#include "support/restrict.h"
#include "support/support.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define HUGE_PAGE (2 * MIB)

#define BLOCK (64 * KIB)	/* the size of an append, and of an item */

#define NO_HUGE_PAGES "this kernel gives no huge pages of 2 MiB to such memory now"

static unsigned flags_of(int number)
{
	return arena_flags(number) | BUFFERS_ARENA_HUGE_PAGES;
}

static bool is_shared(unsigned flags)
{
	return flags & (BUFFERS_ARENA_FORK_SHARED | BUFFERS_VIEW);
}

/*
 * Huge pages
 */

/* Adds up a field of /proc/self/smaps for the mappings that overlap the range; in bytes. */
static size_t add_up(uintptr_t range_start, uintptr_t range_end, const char *field)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	unsigned long start, end, kib;
	char line[256], name[64];
	bool is_inside = false;
	size_t sum = 0;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			is_inside = start < range_end && end > range_start;
		else if (is_inside && sscanf(line, "%63[^:]: %lu kB", name, &kib) == 2 &&
			 strcmp(name, field) == 0)
			sum += kib * KIB;
	}
	if (file)
		fclose(file);
	return sum;
}

static size_t huge_bytes(uintptr_t start, uintptr_t end)
{
	return add_up(start, end, "AnonHugePages") + add_up(start, end, "ShmemPmdMapped");
}

static uintptr_t round_up(uintptr_t address)
{
	return (address + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
}

/* A free range that begins `offset` bytes behind a multiple of the huge page. */
static struct buffers_request window_at(size_t offset, size_t size)
{
	void *space = reserve(secluded_address(), size + 2 * HUGE_PAGE);
	uintptr_t start = round_up((uintptr_t)space) + offset;

	unreserve(space, size + 2 * HUGE_PAGE);
	return (struct buffers_request){
		.min_address = start, .max_address = start + size, .size = size,
	};
}

/* Whether the kernel gives huge pages to memory that is not the library's. */
static bool can_have_huge_pages(unsigned flags)
{
	int sharing = is_shared(flags) ? MAP_SHARED : MAP_PRIVATE;
	char *memory = (char *)window_at(0, HUGE_PAGE).min_address;
	bool is_huge = false;

	if (mmap(memory, HUGE_PAGE, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0) !=
	    memory)
		return false;
	if (madvise(memory, HUGE_PAGE, MADV_HUGEPAGE) == 0) {
		*(volatile char *)memory = 1;
		is_huge = huge_bytes((uintptr_t)memory, (uintptr_t)memory + 1) > 0;
	}
	munmap(memory, HUGE_PAGE);
	return is_huge;
}

static uintptr_t start_of(struct buffers_arena *arena)
{
	struct buffers_item *item = buffers_arena_get(arena, 1, 1);
	uintptr_t start = (uintptr_t)buffers_base(item);

	buffers_release(item);
	return start;
}

static char block_byte(uintptr_t address)
{
	return (char)(1 + address / BLOCK % 100);
}

/* Appends blocks until the arena is full, or has taken `most` of them. */
static size_t fill(struct buffers_arena *arena, size_t most)
{
	static char bytes[BLOCK];
	struct buffers_item *item = NULL;
	size_t count = 0;

	while (count < most && (item = buffers_arena_get(arena, BLOCK, 1))) {
		memset(bytes, block_byte((uintptr_t)buffers_next(item)), BLOCK);
		count += buffers_append(item, bytes, BLOCK) != NULL;
		buffers_release(item);
	}
	return count;
}

/* Whether all bytes of the range are those of the blocks; reads each of its pages. */
static bool is_filled(uintptr_t start, uintptr_t end)
{
	for (uintptr_t at = start; at < end; at += BLOCK) {
		const char *bytes = (const char *)at;

		if (bytes[0] != block_byte(at) || memcmp(bytes, bytes + 1, BLOCK - 1) != 0)
			return false;
	}
	return true;
}

static const struct {
	size_t offset, size;
} places[] = {
	{ 0, 8 * MIB },
	{ 0, 9 * MIB },
	{ MIB, 9 * MIB },		/* no place for an aligned window */
	{ BLOCK, 8 * MIB },
};
enum { PLACES = sizeof(places) / sizeof(places[0]) };

/*
 * The bytes of whole huge pages in a window.  Shared memory is a file: a huge page must be aligned
 * in it as well as in memory.
 */
static size_t whole_huge_pages(const struct buffers_request *window, unsigned flags)
{
	if (is_shared(flags) && window->min_address % HUGE_PAGE != 0)
		return 0;
	return (window->max_address & ~(HUGE_PAGE - 1)) - round_up(window->min_address);
}

/* The kernel may have too few huge pages for all of them. */
START_TEST(memory_lies_in_huge_pages)
{
	unsigned flags = flags_of(_i / PLACES);
	struct buffers_request window = window_at(places[_i % PLACES].offset,
						  places[_i % PLACES].size);
	size_t whole = whole_huge_pages(&window, flags);
	struct buffers_arena *arena = buffers_arena_create(&window, flags);
	size_t huge;

	ck_assert_ptr_nonnull(arena);
	ck_assert_uint_eq(fill(arena, SIZE_MAX), window.size / BLOCK);
	ck_assert_int_eq(errno, ENOSPC);
	ck_assert(is_filled(window.min_address, window.max_address));
	huge = huge_bytes(window.min_address, window.max_address);
	ck_assert_uint_le(huge, whole);
	SKIP_IF(huge < whole / 2 && !can_have_huge_pages(flags), NO_HUGE_PAGES);
	ck_assert_uint_ge(huge, whole / 2);
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
}
END_TEST

START_TEST(arena_works_without_huge_pages)
{
	struct buffers_request window = window_at(0, 8 * MIB);
	struct buffers_arena *arena;

	use_small_pages();
	arena = buffers_arena_create(&window, flags_of(_i));
	ck_assert_ptr_nonnull(arena);
	ck_assert_uint_eq(fill(arena, SIZE_MAX), window.size / BLOCK);
	ck_assert(is_filled(window.min_address, window.max_address));
	ck_assert_uint_eq(huge_bytes(window.min_address, window.max_address), 0);
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
}
END_TEST

/*
 * Advice
 */

#define NO_ADVICE "mappings have no flags here, or this kernel has no transparent huge pages"

static bool is_advice_shown(void)
{
	char *memory = map_memory(HUGE_PAGE, false);
	const char *shown;

	madvise(memory, HUGE_PAGE, MADV_HUGEPAGE);
	shown = mapping_flags((uintptr_t)memory);
	return shown && strstr(shown, " hg");
}

static bool is_all_advised(const struct buffers_request *window)
{
	for (uintptr_t at = window->min_address; at < window->max_address; at += HUGE_PAGE)
		if (!strstr(mapping_flags(at), " hg"))
			return false;
	return true;
}

START_TEST(whole_window_is_advised_and_merges)
{
	struct buffers_request window = window_at(0, 16 * MIB);
	struct buffers_arena *arena = buffers_arena_create(&window, flags_of(_i));

	SKIP_IF(!is_advice_shown(), NO_ADVICE);
	ck_assert_ptr_nonnull(arena);
	ck_assert(is_all_advised(&window));
	ck_assert_uint_eq(fill(arena, 8 * MIB / BLOCK), 8 * MIB / BLOCK);
	ck_assert(is_all_advised(&window));
	ck_assert_uint_le(count_mappings(window.min_address, window.max_address), 2);
	ck_assert_uint_eq(fill(arena, SIZE_MAX), 8 * MIB / BLOCK);
	ck_assert_uint_eq(count_mappings(window.min_address, window.max_address), 1);
}
END_TEST

/* Policy makes the library map new memory in the place of the reserved memory. */
static int commit_by_mapping(void *context)
{
	struct buffers_request window = window_at(0, 8 * MIB);
	struct buffers_arena *arena;

	(void)context;
	if (!refuse_exec_gain()) {
		printf("skipped: the kernel has no PR_SET_MDWE\n");
		return 0;
	}
	arena = buffers_arena_create(&window, BUFFERS_RX | BUFFERS_ARENA_HUGE_PAGES);
	STEP(arena);
	STEP(fill(arena, 4 * MIB / BLOCK) == 4 * MIB / BLOCK);
	STEP(is_all_advised(&window));
	STEP(count_mappings(window.min_address, window.max_address) <= 2);
	STEP(fill(arena, SIZE_MAX) == 4 * MIB / BLOCK);
	STEP(is_filled(window.min_address, window.max_address));
	STEP(huge_bytes(window.min_address, window.max_address) >= HUGE_PAGE ||
	     !can_have_huge_pages(0));
	return 0;
}

START_TEST(memory_that_replaces_the_reserved_memory_is_advised)
{
	SKIP_IF(!is_advice_shown(), NO_ADVICE);
	run_child(commit_by_mapping, NULL);
}
END_TEST

/*
 * The window
 */

START_TEST(window_is_aligned_within_its_range)
{
	struct buffers_request range = window_at(0, 128 * MIB);

	for (size_t size = HUGE_PAGE; size <= 40 * MIB; size = size * 3 + granularity()) {
		struct buffers_request window = range;
		struct buffers_arena *arena;
		uintptr_t target = range.min_address + 63 * MIB + granularity();

		window.target = (void *)target;
		window.size = size;
		arena = buffers_arena_create(&window, flags_of(_i));
		ck_assert_ptr_nonnull(arena);
		ck_assert_uint_eq(start_of(arena) % HUGE_PAGE, 0);
		ck_assert_uint_le(start_of(arena), target);
		ck_assert_uint_gt(start_of(arena) + size, target);
		ck_assert_int_eq(buffers_arena_destroy(arena), 0);
	}
}
END_TEST

START_TEST(larger_alignment_of_the_request_is_kept)
{
	struct buffers_request window = window_at(0, 64 * MIB);
	struct buffers_arena *arena;

	window.size = 3 * MIB;
	window.alignment = 16 * MIB;
	window.min_address += HUGE_PAGE;
	arena = buffers_arena_create(&window, flags_of(_i));
	ck_assert_ptr_nonnull(arena);
	ck_assert_uint_eq(start_of(arena) % (16 * MIB), 0);
	ck_assert_uint_ge(start_of(arena), window.min_address);
	ck_assert_uint_le(start_of(arena) + window.size, window.max_address);
}
END_TEST

/* The nearest place is not aligned, but another one in the range is. */
START_TEST(aligned_place_wins_over_a_nearer_one)
{
	struct buffers_request window = window_at(granularity(), 2 * HUGE_PAGE);
	struct buffers_arena *arena;

	window.target = (void *)window.min_address;
	window.size = HUGE_PAGE;
	arena = buffers_arena_create(&window, flags_of(_i));
	ck_assert_ptr_nonnull(arena);
	ck_assert_uint_eq(start_of(arena), round_up(window.min_address));
}
END_TEST

START_TEST(range_without_an_aligned_place_serves)
{
	for (size_t size = HUGE_PAGE; size <= 6 * MIB; size += MIB) {
		struct buffers_request window = window_at(granularity(), size);
		struct buffers_arena *arena = buffers_arena_create(&window, flags_of(_i));

		ck_assert_ptr_nonnull(arena);
		ck_assert_uint_eq(start_of(arena), window.min_address);
		ck_assert_int_eq(buffers_arena_destroy(arena), 0);
	}
}
END_TEST

static int create_with_just_enough_space(void *context)
{
	unsigned flags = *(unsigned *)context;
	struct buffers_request window = { .size = 63 * MIB };
	size_t mappings = flags & BUFFERS_VIEW ? 2 : 1;

	set_limit(RLIMIT_AS, mapped_bytes() + mappings * window.size + MIB);
	STEP(buffers_arena_create(&window, flags));
	return 0;
}

START_TEST(alignment_takes_no_address_space)
{
	unsigned flags = flags_of(_i);

	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps more than any limit allows");
	SKIP_IF(!can_limit_memory(), NO_MEMORY_LIMIT);
	run_child(create_with_just_enough_space, &flags);
}
END_TEST

/*
 * Memory in use
 */

START_TEST(first_item_takes_one_huge_page_at_most)
{
	struct buffers_request window = window_at(0, 64 * MIB);
	struct buffers_arena *arena = buffers_arena_create(&window, flags_of(_i));

	SKIP_IF(granularity() > 4 * KIB, "huge pages of shared memory may be larger here");
	ck_assert_ptr_nonnull(arena);
	ck_assert_uint_eq(add_up(window.min_address, window.max_address, "Rss"), 0);
	ck_assert_uint_eq(fill(arena, 3), 3);
	ck_assert_uint_le(add_up(window.min_address, window.max_address, "Rss"), HUGE_PAGE);
}
END_TEST

/* The middle of the first and of the last huge page stays in use. */
START_TEST(room_given_back_returns_to_the_system)
{
	struct buffers_request window = window_at(0, 8 * MIB);
	struct buffers_arena *arena = buffers_arena_create(&window, flags_of(_i));
	char *room = (char *)window.min_address + MIB;
	size_t before, after;
	struct buffers_item *item;

	SKIP_IF(is_emulated(), "the emulator's memory counts as the program's");
	ck_assert_uint_eq(fill(arena, SIZE_MAX), window.size / BLOCK);
	ck_assert(is_filled(window.min_address, window.max_address));
	before = add_up(window.min_address, window.max_address, "Rss");
	ck_assert_int_eq(buffers_give_back(room, 6 * MIB), 0);
	after = add_up(window.min_address, window.max_address, "Rss");
	ck_assert(before == 0 || after <= before - 6 * MIB);
	ck_assert(is_filled(window.min_address, window.min_address + MIB));
	ck_assert(is_filled(window.max_address - MIB, window.max_address));
	item = buffers_arena_get(arena, 6 * MIB, 1);
	ck_assert_ptr_eq(buffers_next(item), room);
	ck_assert(room[0] == 0 && memcmp(room, room + 1, 6 * MIB - 1) == 0);
	buffers_release(item);
	ck_assert_uint_eq(fill(arena, SIZE_MAX), 6 * MIB / BLOCK);
	ck_assert(is_filled(window.min_address, window.max_address));
}
END_TEST

/*
 * Forked children
 */

struct family {
	unsigned flags;
	struct buffers_request window;
	struct buffers_arena *arena;
};

static bool shares_items(const struct family *family)
{
	return family->flags & BUFFERS_ARENA_FORK_SHARED;
}

/* The parent has filled half.  It fills a quarter meanwhile, unless the child shares the items. */
static int continue_as_child(void *context)
{
	struct family *family = context;
	uintptr_t start = family->window.min_address;
	size_t quarter = family->window.size / 4 / BLOCK;

	/* The view is the parent's. */
	if (is_shared(family->flags) && !shares_items(family)) {
		STEP(fill(family->arena, 1) == 0 && errno == EACCES);
		STEP(is_filled(start, start + 2 * quarter * BLOCK));
		return 0;
	}
	STEP(fill(family->arena, quarter) == quarter);
	STEP(is_filled(start, start + 3 * quarter * BLOCK));
	return 0;
}

START_TEST(children_use_the_memory_as_without_huge_pages)
{
	struct family family = { .flags = flags_of(_i), .window = window_at(0, 16 * MIB) };
	size_t quarter = family.window.size / 4 / BLOCK;
	uintptr_t start = family.window.min_address;
	struct child child;

	family.arena = buffers_arena_create(&family.window, family.flags);
	ck_assert_ptr_nonnull(family.arena);
	ck_assert_uint_eq(fill(family.arena, 2 * quarter), 2 * quarter);
	child = start_child(continue_as_child, &family);
	if (!shares_items(&family))
		ck_assert_uint_eq(fill(family.arena, quarter), quarter);
	finish_child(child);
	ck_assert_uint_eq(fill(family.arena, SIZE_MAX), quarter);
	ck_assert(is_filled(start, family.window.max_address));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("arena/huge-pages");
	TCase *tests = tcase_create("huge-pages");
	int kinds = arena_kinds();

	tcase_set_tags(tests, "fork");
	tcase_set_timeout(tests, 300);
	tcase_add_loop_test(tests, memory_lies_in_huge_pages, 0, kinds * PLACES);
	tcase_add_loop_test(tests, arena_works_without_huge_pages, 0, kinds);
	tcase_add_loop_test(tests, whole_window_is_advised_and_merges, 0, kinds);
	tcase_add_test(tests, memory_that_replaces_the_reserved_memory_is_advised);
	tcase_add_loop_test(tests, window_is_aligned_within_its_range, 0, kinds);
	tcase_add_loop_test(tests, larger_alignment_of_the_request_is_kept, 0, kinds);
	tcase_add_loop_test(tests, aligned_place_wins_over_a_nearer_one, 0, kinds);
	tcase_add_loop_test(tests, range_without_an_aligned_place_serves, 0, kinds);
	tcase_add_loop_test(tests, alignment_takes_no_address_space, 0, kinds);
	tcase_add_loop_test(tests, first_item_takes_one_huge_page_at_most, 0, kinds);
	tcase_add_loop_test(tests, room_given_back_returns_to_the_system, 0, ARENA_SHARED);
	tcase_add_loop_test(tests, children_use_the_memory_as_without_huge_pages, 0, kinds);
	suite_add_tcase(suite, tests);
	return run_suite(suite);
}
