/* SPDX-License-Identifier: MIT */
/* api/overwrite.c: writing to memory of each kind, also where its own address is read-only */

#include "config.h"
#define BUFFERS_BUILD	/* declares no argument nonnull, so that tests can pass NULL */
#include "support/kinds.h"
#include "support/code.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#if CAN_FORK
# include <sys/mman.h>
# include <unistd.h>
#endif

/*
 * Writing, with the same results for each kind
 */

/* All that a caller can read of an item.  Equal states show that a call changed nothing. */
struct state {
	void *next, *base;
	size_t remaining, size;
	unsigned char *bytes;
};

static struct state take_snapshot(const struct buffers_item *item)
{
	struct state state = {
		.next = buffers_next(item),
		.base = buffers_base(item),
		.remaining = buffers_remaining(item),
		.size = buffers_size(item),
	};

	state.bytes = malloc(state.size);
	ck_assert_ptr_nonnull(state.bytes);
	memcpy(state.bytes, state.base, state.size);
	return state;
}

static void check_unchanged(const struct buffers_item *item, const struct state *before)
{
	ck_assert_ptr_eq(buffers_next(item), before->next);
	ck_assert_ptr_eq(buffers_base(item), before->base);
	ck_assert_uint_eq(buffers_remaining(item), before->remaining);
	ck_assert_uint_eq(buffers_size(item), before->size);
	ck_assert_int_eq(memcmp(before->base, before->bytes, before->size), 0);
}

static const size_t sizes[] = {
	1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 63, 64, 65, 511, 512, 4095, 4096, 4097,
	8191, 8192, 65535, 65536, 70001, 1 << 20, (3 << 20) + 1,
};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* Appends `lead` bytes after an aligned address. */
static void append_at(struct buffers_item *item, const unsigned char *bytes, size_t size,
		      size_t lead)
{
	unsigned char *reserved = buffers_reserve(item, lead, 16);
	unsigned char *copy;

	ck_assert_ptr_nonnull(reserved);
	errno = 1234;
	copy = buffers_append(item, bytes, size);
	ck_assert_int_eq(errno, 1234);
	ck_assert_ptr_eq(copy, reserved + lead);
	ck_assert_int_eq(memcmp(copy, bytes, size), 0);
	for (size_t i = 0; i < lead; i++)
		ck_assert_uint_eq(reserved[i], 0);
	ck_assert_ptr_eq(buffers_next(item), copy + size);
}

START_TEST(any_size_can_be_appended_anywhere)
{
	struct buffers_item *item;

	SKIP_IF_NO_VIEW(_i);
	item = get_kind(kind_of(_i), 32 * MIB);
	for (unsigned i = 0; i < SIZES; i++) {
		unsigned char *bytes = new_pattern(sizes[i], i);
		unsigned char *previous = buffers_next(item);

		append_at(item, bytes, sizes[i], 0);
		append_at(item, bytes, sizes[i], 1 + i % 15);
		ck_assert_ptr_nonnull(buffers_append_code(item, bytes, sizes[i]));
		append_at(item, (unsigned char *)"", 1, 15);
		ck_assert_ptr_ne(previous, buffers_next(item));
		free(bytes);
	}
}
END_TEST

START_TEST(writing_zero_bytes_changes_nothing)
{
	struct buffers_item *item;
	struct state before;

	SKIP_IF_NO_VIEW(_i);
	item = get_kind(kind_of(_i), 100);
	ck_assert_ptr_nonnull(buffers_append(item, "abc", 3));
	before = take_snapshot(item);
	errno = 1234;
	ck_assert_ptr_eq(buffers_append(item, NULL, 0), before.next);
	ck_assert_ptr_eq(buffers_append(item, "x", 0), before.next);
	ck_assert_ptr_eq(buffers_append_code(item, NULL, 0), before.next);
	ck_assert_ptr_eq(buffers_reserve(item, 0, 1), before.next);
	ck_assert_int_eq(buffers_overwrite(before.base, NULL, 0), 0);
	ck_assert_int_eq(buffers_overwrite((void *)1, (void *)1, 0), 0);
	ck_assert_int_eq(buffers_overwrite_with(before.base, 0, NULL, NULL), 0);
	ck_assert_int_eq(errno, 1234);
	check_unchanged(item, &before);
	free(before.bytes);
}
END_TEST

START_TEST(null_is_einval_and_changes_nothing)
{
	struct buffers_item *item;
	struct state before;

	SKIP_IF_NO_VIEW(_i);
	item = get_kind(kind_of(_i), 100);
	ck_assert_ptr_nonnull(buffers_append(item, "abc", 3));
	before = take_snapshot(item);
	errno = 0;
	ck_assert_ptr_null(buffers_append(item, NULL, 1));
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_ptr_null(buffers_append_code(item, NULL, 1));
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_int_eq(buffers_overwrite(before.base, NULL, 1), -1);
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_int_eq(buffers_overwrite_with(before.base, 1, NULL, NULL), -1);
	ck_assert_int_eq(errno, EINVAL);
	check_unchanged(item, &before);
	free(before.bytes);
}
END_TEST

/* An append of unreadable data faults or returns NULL. */
struct attempt {
	struct buffers_item *item;
	const char *data;
	size_t size;
	bool is_appended;
};

static void try_to_append(void *context)
{
	struct attempt *attempt = context;

	attempt->is_appended = buffers_append(attempt->item, attempt->data, attempt->size);
}

static int append_unreadable_data(void *view)
{
	struct buffers_item *item = get_kind(kind_of(*(int *)view), 3 * PAGE);
	char *data = reserve(0, 2 * PAGE);
	struct attempt attempts[] = { { item, data + PAGE, 1, false },
				      { item, data + PAGE - 100, 200, false } };
	void *next = buffers_next(item);
	void *address;

	protect(data, PAGE, "rw-p");
	for (unsigned i = 0; i < 2; i++) {
		does_fault(try_to_append, &attempts[i], &address);
		STEP(!attempts[i].is_appended);
	}
	STEP(buffers_next(item) == next);
	return 0;
}

START_TEST(unreadable_data_is_not_appended)
{
	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer reports the fault");
	run_in_new_process(append_unreadable_data, &_i, sizeof(_i));
}
END_TEST

static void check_overlap(const struct kind *kind, size_t used, size_t back, size_t size)
{
	struct buffers_item *item = get_kind(kind, used + size);
	unsigned char *bytes = new_pattern(used + size, (unsigned)back);
	unsigned char *next;

	ck_assert_ptr_nonnull(buffers_append(item, bytes, used));
	next = buffers_next(item);
	memset(bytes, 0, used + size);
	memcpy(bytes, next - back, size);
	ck_assert_ptr_eq(buffers_append(item, next - back, size), next);
	ck_assert_int_eq(memcmp(next, bytes, size), 0);
	free(bytes);
}

/* The data lies before the free space, overlaps its start, or lies within it. */
START_TEST(data_in_the_same_buffer_is_copied_unchanged)
{
	static const struct {
		size_t used, back, size;
	} cases[] = {
		{ 100, 100, 100 }, { 100, 100, 50 }, { 100, 4, 16 }, { 100, 8, 8 },
		{ 100, 1, 1000 }, { 8000, 8000, 8000 }, { 8000, 5000, 20000 },
		{ 8000, 16, 300000 }, { 300000, 299999, 299998 }, { 300001, 200000, 300000 },
		{ 4096, 4096, 4096 }, { 4090, 4090, 4096 }, { 4090, 3, 9 },
	};
	struct buffers_item *item;
	unsigned char *next;

	SKIP_IF_NO_VIEW(_i);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_overlap(kind_of(_i), cases[i].used, cases[i].back, cases[i].size);
	item = get_kind(kind_of(_i), 100);
	next = buffers_next(item);
	ck_assert_ptr_eq(buffers_append(item, next, 8), next);
	ck_assert_ptr_eq(buffers_append(item, next + 9, 30), next + 8);
	ck_assert_mem_eq(next, "\0\0\0\0\0\0\0\0\0\0", 10);
}
END_TEST

START_TEST(item_is_filled_to_its_last_byte_and_no_further)
{
	struct buffers_item *item;
	struct state before;
	unsigned char *bytes;
	size_t size;

	SKIP_IF_NO_VIEW(_i);
	item = get_kind(kind_of(_i), 64 * KIB);
	size = buffers_size(item);
	bytes = new_pattern(size + 1, 3);
	before = take_snapshot(item);
	errno = 0;
	ck_assert_ptr_null(buffers_append(item, bytes, size + 1));
	ck_assert_int_eq(errno, ENOSPC);
	errno = 0;
	ck_assert_ptr_null(buffers_reserve(item, 1, (SIZE_MAX >> 1) + 1));
	ck_assert_int_eq(errno, ENOSPC);
	check_unchanged(item, &before);
	free(before.bytes);
	ck_assert_ptr_nonnull(buffers_append(item, bytes, size - 1));
	ck_assert_ptr_null(buffers_append(item, bytes, 2));
	ck_assert_ptr_nonnull(buffers_append(item, bytes + size - 1, 1));
	ck_assert_int_eq(memcmp(before.base, bytes, size), 0);
	before = take_snapshot(item);
	errno = 0;
	ck_assert_ptr_null(buffers_append(item, bytes, 1));
	ck_assert_int_eq(errno, ENOSPC);
	errno = 0;
	ck_assert_ptr_null(buffers_append_code(item, bytes, 8));
	ck_assert_int_eq(errno, ENOSPC);
	check_unchanged(item, &before);
	free(before.bytes);
	free(bytes);
}
END_TEST

START_TEST(reserved_space_is_aligned_and_zero_until_overwritten)
{
	struct buffers_item *item;

	SKIP_IF_NO_VIEW(_i);
	item = get_kind(kind_of(_i), MIB);
	for (size_t alignment = 1; alignment <= 64 * KIB; alignment *= 2) {
		unsigned char *bytes = new_pattern(alignment + 3, 5);
		unsigned char *destination;

		ck_assert_ptr_nonnull(buffers_append(item, "\xff", 1));
		destination = buffers_reserve(item, alignment + 3, alignment);
		ck_assert_ptr_nonnull(destination);
		ck_assert_uint_eq((uintptr_t)destination % alignment, 0);
		for (size_t i = 0; i < alignment + 3; i++)
			ck_assert_uint_eq(destination[i], 0);
		errno = 1234;
		ck_assert_int_eq(buffers_overwrite(destination, bytes, alignment + 3), 0);
		ck_assert_int_eq(errno, 1234);
		ck_assert_mem_eq(destination, bytes, alignment + 3);
		free(bytes);
	}
}
END_TEST

/* The size of memory that spans many pages. */
static size_t large_size(void)
{
	return is_slow() ? MIB : 4 * MIB;
}

/* Overwrites bytes on both sides of a page boundary, in each size at each offset in a word. */
static void overwrite_around(unsigned char *pages, size_t boundary)
{
	unsigned char expected[64], bytes[16];
	unsigned char *window = pages + boundary - 32;

	memcpy(expected, window, 64);
	for (size_t size = 1; size <= 16; size++) {
		for (size_t offset = 8; offset < 40; offset += is_slow() ? 5 : 1) {
			fill_pattern(bytes, size, (unsigned)(size * 64 + offset));
			memcpy(expected + offset, bytes, size);
			errno = 1234;
			ck_assert_int_eq(buffers_overwrite(window + offset, bytes, size), 0);
			ck_assert_int_eq(errno, 1234);
			ck_assert_mem_eq(window, expected, 64);
		}
	}
}

START_TEST(any_bytes_can_be_overwritten_and_no_others_change)
{
	size_t size = large_size();

	SKIP_IF_NO_VIEW(_i);
	for (int is_alone = 0; is_alone < 2; is_alone++) {
		unsigned char *memory = make_memory(kind_of(_i), size, is_alone);
		unsigned char *bytes = new_pattern(size, 1);

		ck_assert_int_eq(buffers_overwrite(memory, bytes, size), 0);
		ck_assert_int_eq(memcmp(memory, bytes, size), 0);
		overwrite_around(memory, PAGE);
		overwrite_around(memory, 5 * PAGE);
		overwrite_around(memory, size / 4 * 3);
		memcpy(bytes + PAGE - 32, memory + PAGE - 32, 64);
		memcpy(bytes + 5 * PAGE - 32, memory + 5 * PAGE - 32, 64);
		memcpy(bytes + size / 4 * 3 - 32, memory + size / 4 * 3 - 32, 64);
		ck_assert_int_eq(memcmp(memory, bytes, size), 0);
		fill_pattern(bytes + 1001, size / 2 + 17, 9);
		ck_assert_int_eq(buffers_overwrite(memory + 1001, bytes + 1001, size / 2 + 17), 0);
		ck_assert_int_eq(memcmp(memory, bytes, size), 0);
		free(bytes);
	}
}
END_TEST

struct edit {
	const unsigned char *expected;
	unsigned calls;
};

static void add_one_to_each(void *bytes_, size_t size, void *context)
{
	unsigned char *bytes = bytes_;
	struct edit *edit = context;

	ck_assert_int_eq(memcmp(bytes, edit->expected, size), 0);
	for (size_t i = 0; i < size; i++)
		bytes[i]++;
	edit->calls++;
}

static void edit_each(const struct kind *kind, bool is_alone)
{
	size_t size = large_size();
	unsigned char *memory = make_memory(kind, size, is_alone);
	unsigned char *bytes = new_pattern(size, 2);
	struct edit edit = { .calls = 0 };

	ck_assert_int_eq(buffers_overwrite(memory, bytes, size), 0);
	for (unsigned i = 0; i < SIZES && i * 1009 + sizes[i] <= size; i++) {
		size_t offset = i * 1009;

		edit.expected = bytes + offset;
		errno = 1234;
		ck_assert_int_eq(buffers_overwrite_with(memory + offset, sizes[i],
							add_one_to_each, &edit), 0);
		ck_assert_int_eq(errno, 1234);
		ck_assert_uint_eq(edit.calls, i + 1);
		for (size_t j = 0; j < sizes[i]; j++)
			bytes[offset + j]++;
		if (!is_slow())
			ck_assert_int_eq(memcmp(memory, bytes, size), 0);
	}
	ck_assert_int_eq(memcmp(memory, bytes, size), 0);
	free(bytes);
}

START_TEST(function_sees_and_edits_any_bytes)
{
	SKIP_IF_NO_VIEW(_i);
	edit_each(kind_of(_i), false);
	edit_each(kind_of(_i), true);
}
END_TEST

/* The editing function calls the library, too, and writes to the page that it edits. */
struct nested {
	const struct kind *kind;
	unsigned char *neighbour;
};

static void edit_more(void *bytes, size_t size, void *context)
{
	struct nested *nested = context;
	struct buffers_item *item = get_kind(nested->kind, 100);

	ck_assert_ptr_nonnull(buffers_append_code(item, "nested", 6));
	buffers_release(item);
	ck_assert_int_eq(buffers_overwrite(nested->neighbour, "12345678", 8), 0);
	memset(bytes, 'x', size);
}

START_TEST(editing_function_may_call_the_library)
{
	struct nested nested;
	unsigned char *memory;

	SKIP_IF_NO_VIEW(_i);
	memory = make_memory(kind_of(_i), 4096, false);
	nested = (struct nested){ kind_of(_i), memory + 16 };
	ck_assert_int_eq(buffers_overwrite_with(memory, 16, edit_more, &nested), 0);
	ck_assert_mem_eq(memory, "xxxxxxxxxxxxxxxx12345678", 25);
}
END_TEST

START_TEST(freed_memory_is_zero_when_allocated_again)
{
	static const unsigned char zeros[1 << 16];
	unsigned reused = 0;
	void *previous = NULL;

	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(_i >= KINDS && !can_probe(), NO_PROBES);
	for (unsigned i = 0; i < how_many(200, 200); i++) {
		struct buffers_request request = {
			.size = 64 * KIB,
			.min_address = 256 * MIB,
			.max_address = 257 * MIB,
			.target = (const void *)(uintptr_t)(256 * MIB),
			.flags = kind_of(_i)->flags,
		};
		size_t allocated;
		unsigned char *memory = buffers_alloc(&request, &allocated);

		ck_assert_ptr_nonnull(memory);
		ck_assert_mem_eq(memory, zeros, sizeof(zeros));
		for (size_t at = 0; at < sizeof(zeros); at += 4096)
			ck_assert_int_eq(buffers_overwrite(memory + at, &at, 8), 0);
		ck_assert_int_eq(buffers_overwrite(memory + 1, memory + 4096, 600), 0);
		ck_assert_int_eq(buffers_free(memory, allocated), 0);
		reused += memory == previous;
		previous = memory;
	}
	if (!is_asan() && !is_tsan())
		ck_assert_uint_gt(reused, 0);
}
END_TEST

/*
 * Memory that the library may be unable to write to
 */

static void check_einval(unsigned char *destination, size_t size)
{
	unsigned char *bytes = new_pattern(8192, 4);

	errno = 0;
	ck_assert_int_eq(buffers_overwrite(destination, bytes, size), -1);
	ck_assert_int_eq(errno, EINVAL);
	free(bytes);
}

static void leave_alone(void *bytes, size_t size, void *context)
{
	(void)bytes;
	(void)size;
	(void)context;
}

static void change_all(void *bytes, size_t size, void *context)
{
	(void)context;
	memset(bytes, 0xee, size);
}

START_TEST(unreadable_memory_is_einval_and_changes_nothing)
{
	unsigned char *memory, *expected;
	size_t size = 4 * PAGE;

	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer reports the fault");
	memory = make_memory(kind_of(_i), size, true);
	expected = new_pattern(PAGE, 8);
	ck_assert_int_eq(buffers_overwrite(memory, expected, PAGE), 0);
	protect(memory + PAGE, PAGE, "---p");
	unmap_part(memory + 2 * PAGE, 2 * PAGE);
	check_einval(memory + PAGE, 1);
	check_einval(memory + PAGE + 8, 8);
	check_einval(memory + 2 * PAGE, 8);
	check_einval(memory + 2 * PAGE - 4, 8);
	check_einval(memory + PAGE - 1, 2);
	check_einval(memory + PAGE - 100, 4000);
	check_einval((unsigned char *)8, 8);
	check_einval((unsigned char *)(UINTPTR_MAX - 4095), 8);
	check_einval((unsigned char *)(UINTPTR_MAX - 3), 8);
	errno = 0;
	ck_assert_int_eq(buffers_overwrite_with(memory + PAGE - 100, 200, change_all, NULL), -1);
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_int_eq(buffers_overwrite_with(memory + 2 * PAGE, 8, leave_alone, NULL), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_mem_eq(memory, expected, PAGE);
	free(expected);
}
END_TEST

/* Sizes near the largest: the end of such memory wraps to an address below its start. */
START_TEST(size_that_wraps_is_einval_and_changes_nothing)
{
	static const unsigned char source[64] = { 1 };
	static const unsigned char zeros[4096];
	unsigned char *memory;

	SKIP_IF_NO_VIEW(_i);
	memory = make_memory(kind_of(_i), PAGE, true);
	for (size_t less = 0; less < 24; less++) {
		for (size_t offset = 0; offset < 8; offset++) {
			errno = 0;
			ck_assert_int_eq(buffers_overwrite(memory + offset, source,
							   SIZE_MAX - less), -1);
			ck_assert_int_eq(errno, EINVAL);
			errno = 0;
			ck_assert_int_eq(buffers_overwrite_with(memory + offset, SIZE_MAX - less,
								change_all, NULL), -1);
			ck_assert_int_eq(errno, EINVAL);
		}
	}
	ck_assert_mem_eq(memory, zeros, sizeof(zeros));
}
END_TEST

/*
 * Makes memory read-only, as a caller does that has written everything.  An overwrite of it
 * succeeds or fails, but must not change its permissions.
 */
static void check_sealed(const struct kind *kind, const char *permissions,
			 const struct watch *watch)
{
	unsigned char *memory = make_memory(kind, 4 * PAGE, true);
	static const char bytes[] = "all of the new bytes, 30 of them";
	unsigned char expected[100] = "";
	static const struct {
		size_t at, size;
	} changes[] = { { 8, 8 }, { 64, 4 }, { 13, 30 } };

	protect(memory, 4 * PAGE, permissions);
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		int result;

		errno = 0;
		result = buffers_overwrite(memory + changes[i].at, bytes, changes[i].size);
		if (result == 0)
			memcpy(expected + changes[i].at, bytes, changes[i].size);
		else	/* an emulator's mremap() fails with ENOMEM */
			ck_assert(errno == EACCES || (is_emulated() && errno == ENOMEM));
		ck_assert_mem_eq(memory, expected, sizeof(expected));
		ck_assert(watch_is_mapped_as(watch, memory, 4 * PAGE, permissions));
	}
}

START_TEST(sealed_memory_keeps_its_permissions)
{
	struct watch watch;

	ck_assert(watch_open(&watch));
	SKIP_IF_NO_VIEW(_i);
	if (_i < KINDS)	/* only /proc tells the library that this memory is not executable */
		check_sealed(kind_of(_i), "r--p", &watch);
	if (kind_of(_i)->permissions[2] == 'x')
		check_sealed(kind_of(_i), "r-xp", &watch);
	watch_close(&watch);
}
END_TEST

#ifdef HAVE_CODE
uint32_t own_function(void) __asm__("own_function");
__asm__(".text\n.balign 64\n" CODE_LABEL("own_function") CODE_ASM ".balign 64\n");

static int overwrite_own_code(void *context)
{
	void *code = (void *)(uintptr_t)own_function;
	struct code before = code_of(42), after = code_of(77);
	int result;

	(void)context;
	STEP(memcmp(code, before.bytes, CODE_SIZE) == 0);
	errno = 0;
	result = buffers_overwrite(code, after.bytes, CODE_SIZE);
	if (result == 0) {
		STEP(errno == 0);
		STEP(!can_replace_code() || call_code(code) == 77);
		STEP(buffers_overwrite(code, before.bytes, CODE_SIZE) == 0);
	} else {
		STEP(errno == EACCES || errno == EINVAL || errno == ENOMEM);
	}
	STEP(memcmp(code, before.bytes, CODE_SIZE) == 0);
	STEP(!can_replace_code() || call_code(code) == 42);
	return 0;
}

/*
 * The library does not promise to overwrite the program's own code, but its result must be
 * true.
 */
START_TEST(program_code_is_overwritten_or_unchanged)
{
	SKIP_IF_NO_VIEW(_i * KINDS);
	run_in_new_process(overwrite_own_code, NULL, 0);
	ck_assert_uint_eq(own_function(), 42);
}
END_TEST
#endif

/*
 * Mappings and descriptors that writing uses
 */

static void write_at_random(unsigned char *memory, size_t pages, uint64_t *seed)
{
	for (unsigned i = 0; i < how_many(5000, 5000); i++) {
		unsigned char *destination = memory + PAGE * random_below(seed, pages) +
					     8 * random_below(seed, PAGE / 8 - 8);
		uint64_t value = next_random(seed);

		ck_assert_int_eq(buffers_overwrite(destination, &value, 8), 0);
		ck_assert_mem_eq(destination, &value, 8);
		destination += random_below(seed, 8);
		ck_assert_int_eq(buffers_overwrite(destination, &value, 7), 0);
		ck_assert_mem_eq(destination, &value, 7);
	}
}

START_TEST(thousands_of_writes_use_few_mappings_and_no_descriptors)
{
	enum { PAGES = 16 };
	uint64_t seed = seed_random();
	struct watch watch;
	unsigned char *memory;
	struct buffers_item *item;
	unsigned descriptors;
	size_t before;

	ck_assert(watch_open(&watch));
	SKIP_IF_NO_VIEW(_i);
	descriptors = count_descriptors();
	memory = make_memory(kind_of(_i), PAGES * PAGE, true);
	item = get_kind(kind_of(_i), MIB);
	before = watch_count(&watch);
	write_at_random(memory, 1, &seed);
	if (!is_asan() && !is_tsan())
		ck_assert_uint_le(watch_count(&watch), before + 4);
	write_at_random(memory, PAGES, &seed);
	if (!is_asan() && !is_tsan())
		ck_assert_uint_le(watch_count(&watch), before + 2 * PAGES + 4);
	before = watch_count(&watch);
	for (unsigned i = 0; i < how_many(10000, 10000); i++)
		ck_assert_ptr_nonnull(buffers_append_code(item, &seed, 8));
	if (!is_asan() && !is_tsan())
		ck_assert_uint_le(watch_count(&watch), before + 2 * (80000 / PAGE + 1) + 4);
	ck_assert(watch_is_mapped_as(&watch, memory, PAGES * PAGE, kind_of(_i)->permissions));
	ck_assert_uint_eq(count_descriptors(), descriptors);
}
END_TEST

#if CAN_FORK
/*
 * Writing while a resource is exhausted
 */

static char *filler;
enum { FILLER_PAGES = 140000 };

static void use_up_mappings(void)
{
	filler = mmap(NULL, FILLER_PAGES * PAGE, PROT_NONE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ck_assert_ptr_ne(filler, MAP_FAILED);
	for (size_t i = 0; i < FILLER_PAGES; i += 2)
		if (mprotect(filler + i * PAGE, PAGE, PROT_READ) != 0)
			return;
	ck_abort_msg("the kernel does not limit mappings");
}

/*
 * Changes the permissions of single pages to those of their neighbours.  The kernel merges
 * each with both neighbours, so that two more mappings are possible.
 */
static void free_mappings(size_t pairs)
{
	for (size_t i = 0; i < pairs; i++)
		ck_assert_int_eq(mprotect(filler + (2 * i + 2) * PAGE, PAGE, PROT_NONE), 0);
}

static bool is_success_or_enomem(int result)
{
	return result == 0 || errno == ENOMEM;
}

struct destination {
	struct buffers_item *item;
	unsigned char *memory;
	unsigned char *expected;
	size_t size;
};

/* Asserts that the call writes all bytes, or fails and writes none. */
static int overwrite_all_or_nothing(struct destination *destination, size_t at, size_t size,
				    unsigned number)
{
	unsigned char bytes[8 * 4096];
	int result;

	fill_pattern(bytes, size, number);
	errno = 0;
	result = buffers_overwrite(destination->memory + at, bytes, size);
	STEP(is_success_or_enomem(result));
	if (result == 0)
		memcpy(destination->expected + at, bytes, size);
	STEP(memcmp(destination->memory, destination->expected, destination->size) == 0);
	return 0;
}

static int append_all_or_nothing(struct destination *destination, size_t size, unsigned number)
{
	unsigned char bytes[8 * 4096];
	void *next = buffers_next(destination->item);
	unsigned char *copy;

	fill_pattern(bytes, size, number);
	errno = 0;
	copy = buffers_append(destination->item, bytes, size);
	STEP(is_success_or_enomem(copy ? 0 : -1));
	STEP(copy ? copy == next && memcmp(copy, bytes, size) == 0 :
		    buffers_next(destination->item) == next);
	return 0;
}

static int write_all_or_nothing(struct destination *destination, unsigned round)
{
	size_t last = destination->size - 8 * 4096;

	STEP(overwrite_all_or_nothing(destination, 8 * (round + 1), 8, round) == 0);
	STEP(overwrite_all_or_nothing(destination, 4096 * (round % 7) + 4093, 9, round) == 0);
	STEP(overwrite_all_or_nothing(destination, 100 + round, 3 * 4096, round) == 0);
	STEP(overwrite_all_or_nothing(destination, last - round, 8 * 4096, round) == 0);
	STEP(append_all_or_nothing(destination, 8, round) == 0);
	STEP(append_all_or_nothing(destination, 10000 + round, round) == 0);
	return 0;
}

static int write_without_mappings(void *context)
{
	struct destination *destination = context;

	use_up_mappings();
	for (unsigned round = 0; round < 12; round++) {
		STEP(write_all_or_nothing(destination, round) == 0);
		free_mappings(round);
	}
	STEP(munmap(filler, FILLER_PAGES * PAGE) == 0);
	STEP(buffers_overwrite(destination->memory, "12345678", 8) == 0);
	STEP(buffers_append(destination->item, "12345678", 8));
	return 0;
}

static struct destination new_destination(const struct kind *kind)
{
	struct destination destination = {
		.item = get_kind(kind, MIB),
		.memory = make_memory(kind, 64 * 4096, true),
		.expected = calloc(64, 4096),
		.size = 64 * 4096,
	};

	ck_assert_ptr_nonnull(destination.expected);
	return destination;
}

START_TEST(writing_without_mappings_succeeds_or_is_enomem)
{
	struct destination destination;

	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime needs mappings");
	SKIP_IF(is_emulated(), "the emulator needs mappings");
	destination = new_destination(kind_of(_i));
	run_child(write_without_mappings, &destination);
}
END_TEST

static int write_without_address_space(void *context)
{
	struct destination *destination = context;
	struct rlimit before = set_limit(RLIMIT_AS, 0);

	for (unsigned round = 0; round < 12; round++)
		STEP(write_all_or_nothing(destination, round) == 0);
	setrlimit(RLIMIT_AS, &before);
	STEP(buffers_overwrite(destination->memory, "12345678", 8) == 0);
	STEP(buffers_append(destination->item, "12345678", 8));
	return 0;
}

START_TEST(writing_without_address_space_succeeds_or_is_enomem)
{
	struct destination destination;

	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime needs memory");
	destination = new_destination(kind_of(_i));
	run_child(write_without_address_space, &destination);
}
END_TEST

/* The lowest free descriptor. */
static int lowest_descriptor(void)
{
	int lowest = dup(STDOUT_FILENO);

	ck_assert_int_ge(lowest, 0);
	close(lowest);
	return lowest;
}

/* Leaves 0 to 5 descriptors free; the library uses no more at once. */
static int write_with_few_descriptors(void *context)
{
	struct destination *destination = context;
	int first = lowest_descriptor();

	for (unsigned round = 0; round < 6; round++) {
		struct rlimit before = set_limit(RLIMIT_NOFILE, (unsigned)first + round);

		STEP(write_all_or_nothing(destination, round) == 0);
		setrlimit(RLIMIT_NOFILE, &before);
		STEP(buffers_overwrite(destination->memory, destination->expected, 8) == 0);
	}
	return 0;
}

START_TEST(writing_without_descriptors_succeeds_or_is_enomem)
{
	struct destination destination;

	SKIP_IF_NO_VIEW(_i);
	destination = new_destination(kind_of(_i));
	run_child(write_with_few_descriptors, &destination);
}
END_TEST

/*
 * The protection key lets this thread read the memory but not write to it, though the list of
 * mappings shows it as writable (pkeys(7)).
 */
START_TEST(memory_with_a_protection_key_is_written_or_unchanged)
{
	unsigned char *memory = make_memory(kind_of(0), PAGE, true);
	int key = pkey_alloc(0, PKEY_DISABLE_WRITE);
	int result;

	SKIP_IF(key < 0, "no protection keys here");
	ck_assert_int_eq(pkey_mprotect(memory, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, key), 0);
	errno = 0;
	result = buffers_overwrite(memory + 8, "12345678", 8);
	ck_assert(result == 0 || errno == EACCES);
	ck_assert_mem_eq(memory + 8, result == 0 ? "12345678" : "\0\0\0\0\0\0\0", 8);
	ck_assert_int_eq(pkey_set(key, 0), 0);
	memory[8] = 'x';	/* the mapping is still writable */
	ck_assert_int_eq(buffers_overwrite(memory + 8, "abcdefgh", 8), 0);
}
END_TEST

static void add_scarce(Suite *suite)
{
	TCase *scarce = tcase_create("scarce");

	tcase_set_timeout(scarce, 300);
	tcase_add_loop_test(scarce,
			    writing_without_mappings_succeeds_or_is_enomem,
			    0, VIEWS);
	tcase_add_loop_test(scarce,
			    writing_without_address_space_succeeds_or_is_enomem,
			    0, VIEWS);
	tcase_add_loop_test(scarce,
			    writing_without_descriptors_succeeds_or_is_enomem,
			    0, VIEWS);
	tcase_add_test(scarce, memory_with_a_protection_key_is_written_or_unchanged);
	suite_add_tcase(suite, scarce);
}
#endif

static void add_writing(Suite *suite)
{
	TCase *writing = tcase_create("writing");
	TCase *unwritable = tcase_create("unwritable");
	TCase *resources = tcase_create("resources");

	tcase_set_timeout(writing, 300);
	tcase_add_loop_test(writing, any_size_can_be_appended_anywhere, 0, VIEWS);
	tcase_add_loop_test(writing, writing_zero_bytes_changes_nothing, 0, VIEWS);
	tcase_add_loop_test(writing, null_is_einval_and_changes_nothing, 0, VIEWS);
	tcase_add_loop_test(writing, unreadable_data_is_not_appended, 0, VIEWS);
	tcase_add_loop_test(writing, data_in_the_same_buffer_is_copied_unchanged, 0, VIEWS);
	tcase_add_loop_test(writing, item_is_filled_to_its_last_byte_and_no_further, 0, VIEWS);
	tcase_add_loop_test(writing, reserved_space_is_aligned_and_zero_until_overwritten, 0,
			    VIEWS);
	tcase_add_loop_test(writing, any_bytes_can_be_overwritten_and_no_others_change, 0, VIEWS);
	tcase_add_loop_test(writing, function_sees_and_edits_any_bytes,
			    0, VIEWS);
	tcase_add_loop_test(writing, editing_function_may_call_the_library, 0, VIEWS);
	tcase_add_loop_test(writing, freed_memory_is_zero_when_allocated_again,
			    0, VIEWS);
	suite_add_tcase(suite, writing);

	tcase_add_loop_test(unwritable, size_that_wraps_is_einval_and_changes_nothing, 0, VIEWS);
	tcase_add_loop_test(unwritable, unreadable_memory_is_einval_and_changes_nothing,
			    0, VIEWS);
	tcase_add_loop_test(unwritable, sealed_memory_keeps_its_permissions, 0, VIEWS);
#ifdef HAVE_CODE
	tcase_add_loop_test(unwritable, program_code_is_overwritten_or_unchanged, 0,
			    1 + CAN_FORK);
#endif
	suite_add_tcase(suite, unwritable);

	tcase_set_timeout(resources, 300);
	tcase_add_loop_test(resources, thousands_of_writes_use_few_mappings_and_no_descriptors,
			    0, VIEWS);
	suite_add_tcase(suite, resources);
}

int main(void)
{
	Suite *suite = suite_create("api/overwrite");

	add_writing(suite);
#if CAN_FORK
	add_scarce(suite);
#endif
	return run_suite(suite);
}
