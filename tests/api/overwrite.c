/* SPDX-License-Identifier: MIT */
/* api-writing.c: memory of each kind is written alike, also where it cannot be by its address */

#include "config.h"
#define BUFFERS_BUILD	/* to pass NULL, see there */
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
 * Writing, which is the same for each kind
 */

/* Everything that can be seen of an item, so that "nothing changed" can be shown. */
struct state {
	void *next, *base;
	size_t remaining, size;
	unsigned char *bytes;
};

static struct state look(const struct buffers_item *item)
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

/* Aligned, and at the oddest address. */
static void append_at(struct buffers_item *item, const unsigned char *bytes, size_t size,
		      size_t lead)
{
	unsigned char *place = buffers_reserve(item, lead, 16);
	unsigned char *copy;

	ck_assert_ptr_nonnull(place);
	errno = 1234;
	copy = buffers_append(item, bytes, size);
	ck_assert_int_eq(errno, 1234);
	ck_assert_ptr_eq(copy, place + lead);
	ck_assert_int_eq(memcmp(copy, bytes, size), 0);
	for (size_t i = 0; i < lead; i++)
		ck_assert_uint_eq(place[i], 0);
	ck_assert_ptr_eq(buffers_next(item), copy + size);
}

START_TEST(any_size_can_be_appended_anywhere)
{
	struct buffers_item *item;

	SKIP_IF_NO_VIEW(_i);
	item = get_kind(kind_of(_i), 32 * MIB);
	for (unsigned i = 0; i < SIZES; i++) {
		unsigned char *bytes = new_bytes(sizes[i], i);
		unsigned char *last = buffers_next(item);

		append_at(item, bytes, sizes[i], 0);
		append_at(item, bytes, sizes[i], 1 + i % 15);
		ck_assert_ptr_nonnull(buffers_append_code(item, bytes, sizes[i]));
		append_at(item, (unsigned char *)"", 1, 15);
		ck_assert_ptr_ne(last, buffers_next(item));
		free(bytes);
	}
}
END_TEST

START_TEST(nothing_can_be_appended_and_nothing_changes)
{
	struct buffers_item *item;
	struct state before;

	SKIP_IF_NO_VIEW(_i);
	item = get_kind(kind_of(_i), 100);
	ck_assert_ptr_nonnull(buffers_append(item, "abc", 3));
	before = look(item);
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
	before = look(item);
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

/* Data that cannot be read is a fault or an error, and never taken for appended. */
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

static int append_what_is_not_there(void *view)
{
	struct buffers_item *item = get_kind(kind_of(*(int *)view), 3 * PAGE);
	char *data = reserve(0, 2 * PAGE);
	struct attempt attempts[] = { { item, data + PAGE, 1, false },
				      { item, data + PAGE - 100, 200, false } };
	void *next = buffers_next(item);
	void *address;

	protect(data, PAGE, "rw-p");
	for (unsigned i = 0; i < 2; i++) {
		faults(try_to_append, &attempts[i], &address);
		STEP(!attempts[i].is_appended);
	}
	STEP(buffers_next(item) == next);
	return 0;
}

START_TEST(unreadable_data_is_not_appended)
{
	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer reports the fault");
	run_apart(append_what_is_not_there, &_i, sizeof(_i));
}
END_TEST

static void check_overlap(const struct kind *kind, size_t used, size_t back, size_t size)
{
	struct buffers_item *item = get_kind(kind, used + size);
	unsigned char *bytes = new_bytes(used + size, (unsigned)back);
	unsigned char *next;

	ck_assert_ptr_nonnull(buffers_append(item, bytes, used));
	next = buffers_next(item);
	memset(bytes, 0, used + size);
	memcpy(bytes, next - back, size);
	ck_assert_ptr_eq(buffers_append(item, next - back, size), next);
	ck_assert_int_eq(memcmp(next, bytes, size), 0);
	free(bytes);
}

/* Data before the room, reaching into it, and within it. */
START_TEST(data_of_the_same_buffer_is_copied_as_it_was)
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
	bytes = new_bytes(size + 1, 3);
	before = look(item);
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
	before = look(item);
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

START_TEST(reserved_room_is_aligned_and_zero_until_overwritten)
{
	struct buffers_item *item;

	SKIP_IF_NO_VIEW(_i);
	item = get_kind(kind_of(_i), MIB);
	for (size_t alignment = 1; alignment <= 64 * KIB; alignment *= 2) {
		unsigned char *bytes = new_bytes(alignment + 3, 5);
		unsigned char *room;

		ck_assert_ptr_nonnull(buffers_append(item, "\xff", 1));
		room = buffers_reserve(item, alignment + 3, alignment);
		ck_assert_ptr_nonnull(room);
		ck_assert_uint_eq((uintptr_t)room % alignment, 0);
		for (size_t i = 0; i < alignment + 3; i++)
			ck_assert_uint_eq(room[i], 0);
		errno = 1234;
		ck_assert_int_eq(buffers_overwrite(room, bytes, alignment + 3), 0);
		ck_assert_int_eq(errno, 1234);
		ck_assert_mem_eq(room, bytes, alignment + 3);
		free(bytes);
	}
}
END_TEST

/* Of many pages. */
static size_t large_size(void)
{
	return is_slow() ? MIB : 4 * MIB;
}

/* Around a boundary of pages, for each size and each place in a word. */
static void overwrite_around(unsigned char *pages, size_t boundary)
{
	unsigned char expected[64], bytes[16];
	unsigned char *window = pages + boundary - 32;

	memcpy(expected, window, 64);
	for (size_t size = 1; size <= 16; size++) {
		for (size_t offset = 8; offset < 40; offset += is_slow() ? 5 : 1) {
			fill(bytes, size, (unsigned)(size * 64 + offset));
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
		unsigned char *memory = some_memory(kind_of(_i), size, is_alone);
		unsigned char *bytes = new_bytes(size, 1);

		ck_assert_int_eq(buffers_overwrite(memory, bytes, size), 0);
		ck_assert_int_eq(memcmp(memory, bytes, size), 0);
		overwrite_around(memory, PAGE);
		overwrite_around(memory, 5 * PAGE);
		overwrite_around(memory, size / 4 * 3);
		memcpy(bytes + PAGE - 32, memory + PAGE - 32, 64);
		memcpy(bytes + 5 * PAGE - 32, memory + 5 * PAGE - 32, 64);
		memcpy(bytes + size / 4 * 3 - 32, memory + size / 4 * 3 - 32, 64);
		ck_assert_int_eq(memcmp(memory, bytes, size), 0);
		fill(bytes + 1001, size / 2 + 17, 9);
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
	unsigned char *memory = some_memory(kind, size, is_alone);
	unsigned char *bytes = new_bytes(size, 2);
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

START_TEST(any_bytes_can_be_edited_by_a_function_that_sees_them)
{
	SKIP_IF_NO_VIEW(_i);
	edit_each(kind_of(_i), false);
	edit_each(kind_of(_i), true);
}
END_TEST

/* A function that itself calls the library, for the page that it edits, too. */
struct nested {
	const struct kind *kind;
	unsigned char *beside;
};

static void edit_more(void *bytes, size_t size, void *context)
{
	struct nested *nested = context;
	struct buffers_item *item = get_kind(nested->kind, 100);

	ck_assert_ptr_nonnull(buffers_append_code(item, "nested", 6));
	buffers_release(item);
	ck_assert_int_eq(buffers_overwrite(nested->beside, "12345678", 8), 0);
	memset(bytes, 'x', size);
}

START_TEST(function_that_edits_may_call_the_library)
{
	struct nested nested;
	unsigned char *memory;

	SKIP_IF_NO_VIEW(_i);
	memory = some_memory(kind_of(_i), 4096, false);
	nested = (struct nested){ kind_of(_i), memory + 16 };
	ck_assert_int_eq(buffers_overwrite_with(memory, 16, edit_more, &nested), 0);
	ck_assert_mem_eq(memory, "xxxxxxxxxxxxxxxx12345678", 25);
}
END_TEST

START_TEST(memory_that_was_given_back_is_zero_when_it_comes_again)
{
	static const unsigned char zeros[1 << 16];
	unsigned again = 0;
	void *last = NULL;

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
		again += memory == last;
		last = memory;
	}
	if (!is_asan() && !is_tsan())
		ck_assert_uint_gt(again, 0);
}
END_TEST

/*
 * Memory that is not the library's
 */

static void check_einval(unsigned char *place, size_t size)
{
	unsigned char *bytes = new_bytes(8192, 4);

	errno = 0;
	ck_assert_int_eq(buffers_overwrite(place, bytes, size), -1);
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

START_TEST(memory_that_cannot_be_read_is_einval_and_nothing_changes)
{
	unsigned char *memory, *expected;
	size_t size = 4 * PAGE;

	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer reports the fault");
	memory = some_memory(kind_of(_i), size, true);
	expected = new_bytes(PAGE, 8);
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

/* As an owner does who has written all. */
static void check_sealed(const struct kind *kind, const char *permissions,
			 const struct watch *watch)
{
	unsigned char *memory = some_memory(kind, 4 * PAGE, true);
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
		else	/* an emulator says so to mremap() */
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
	if (_i < KINDS)	/* without /proc nobody tells what they are */
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

/* Not promised, but whatever is said of it must be so. */
START_TEST(code_of_the_program_is_changed_or_left_alone)
{
	SKIP_IF_NO_VIEW(_i * KINDS);
	run_apart(overwrite_own_code, NULL, 0);
	ck_assert_uint_eq(own_function(), 42);
}
END_TEST
#endif

/*
 * What writing takes
 */

static void write_all_over(unsigned char *memory, size_t pages, uint64_t *seed)
{
	for (unsigned i = 0; i < how_many(5000, 5000); i++) {
		unsigned char *place = memory + PAGE * random_below(seed, pages) +
				       8 * random_below(seed, PAGE / 8 - 8);
		uint64_t value = next_random(seed);

		ck_assert_int_eq(buffers_overwrite(place, &value, 8), 0);
		ck_assert_mem_eq(place, &value, 8);
		place += random_below(seed, 8);
		ck_assert_int_eq(buffers_overwrite(place, &value, 7), 0);
		ck_assert_mem_eq(place, &value, 7);
	}
}

START_TEST(thousands_of_changes_take_few_mappings_and_no_descriptors)
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
	memory = some_memory(kind_of(_i), PAGES * PAGE, true);
	item = get_kind(kind_of(_i), MIB);
	before = watch_count(&watch);
	write_all_over(memory, 1, &seed);
	if (!is_asan() && !is_tsan())
		ck_assert_uint_le(watch_count(&watch), before + 4);
	write_all_over(memory, PAGES, &seed);
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
 * No mappings left
 */

static char *crowd;
enum { CROWD = 140000 };

static void fill_mappings(void)
{
	crowd = mmap(NULL, CROWD * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		     -1, 0);
	ck_assert_ptr_ne(crowd, MAP_FAILED);
	for (size_t i = 0; i < CROWD; i += 2)
		if (mprotect(crowd + i * PAGE, PAGE, PROT_READ) != 0)
			return;
	ck_abort_msg("no limit to mappings");
}

/* Lets so many mappings be made again, which come in pairs. */
static void leave_mappings(size_t pairs)
{
	for (size_t i = 0; i < pairs; i++)
		ck_assert_int_eq(mprotect(crowd + (2 * i + 2) * PAGE, PAGE, PROT_NONE), 0);
}

static bool has_failed_well(int result)
{
	return result == 0 || errno == ENOMEM;
}

struct room {
	struct buffers_item *item;
	unsigned char *memory;
	unsigned char *expected;
	size_t size;
};

/* Writes it all, or nothing of it. */
static int overwrite_or_not(struct room *room, size_t at, size_t size, unsigned number)
{
	unsigned char bytes[8 * 4096];
	int result;

	fill(bytes, size, number);
	errno = 0;
	result = buffers_overwrite(room->memory + at, bytes, size);
	STEP(has_failed_well(result));
	if (result == 0)
		memcpy(room->expected + at, bytes, size);
	STEP(memcmp(room->memory, room->expected, room->size) == 0);
	return 0;
}

static int append_or_not(struct room *room, size_t size, unsigned number)
{
	unsigned char bytes[8 * 4096];
	void *next = buffers_next(room->item);
	unsigned char *copy;

	fill(bytes, size, number);
	errno = 0;
	copy = buffers_append(room->item, bytes, size);
	STEP(has_failed_well(copy ? 0 : -1));
	STEP(copy ? copy == next && memcmp(copy, bytes, size) == 0 :
		    buffers_next(room->item) == next);
	return 0;
}

static int write_or_not(struct room *room, unsigned round)
{
	size_t last = room->size - 8 * 4096;

	STEP(overwrite_or_not(room, 8 * (round + 1), 8, round) == 0);
	STEP(overwrite_or_not(room, 4096 * (round % 7) + 4093, 9, round) == 0);
	STEP(overwrite_or_not(room, 100 + round, 3 * 4096, round) == 0);
	STEP(overwrite_or_not(room, last - round, 8 * 4096, round) == 0);
	STEP(append_or_not(room, 8, round) == 0);
	STEP(append_or_not(room, 10000 + round, round) == 0);
	return 0;
}

static int write_in_a_crowd(void *context)
{
	struct room *room = context;

	fill_mappings();
	for (unsigned round = 0; round < 12; round++) {
		STEP(write_or_not(room, round) == 0);
		leave_mappings(round);
	}
	STEP(munmap(crowd, CROWD * PAGE) == 0);
	STEP(buffers_overwrite(room->memory, "12345678", 8) == 0);
	STEP(buffers_append(room->item, "12345678", 8));
	return 0;
}

static struct room new_room(const struct kind *kind)
{
	struct room room = {
		.item = get_kind(kind, MIB),
		.memory = some_memory(kind, 64 * 4096, true),
		.expected = calloc(64, 4096),
		.size = 64 * 4096,
	};

	ck_assert_ptr_nonnull(room.expected);
	return room;
}

START_TEST(without_mappings_writing_works_or_is_enomem_and_changes_nothing)
{
	struct room room;

	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime needs mappings");
	SKIP_IF(is_emulated(), "the emulator needs mappings");
	room = new_room(kind_of(_i));
	run_child(write_in_a_crowd, &room);
}
END_TEST

static int write_without_address_space(void *context)
{
	struct room *room = context;
	struct rlimit before = set_limit(RLIMIT_AS, 0);

	for (unsigned round = 0; round < 12; round++)
		STEP(write_or_not(room, round) == 0);
	setrlimit(RLIMIT_AS, &before);
	STEP(buffers_overwrite(room->memory, "12345678", 8) == 0);
	STEP(buffers_append(room->item, "12345678", 8));
	return 0;
}

START_TEST(without_address_space_writing_works_or_is_enomem_and_changes_nothing)
{
	struct room room;

	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime needs memory");
	room = new_room(kind_of(_i));
	run_child(write_without_address_space, &room);
}
END_TEST

/* That is free. */
static int lowest_descriptor(void)
{
	int lowest = dup(STDOUT_FILENO);

	ck_assert_int_ge(lowest, 0);
	close(lowest);
	return lowest;
}

/* From none on, as many descriptors as the library may use at once. */
static int write_with_few_descriptors(void *context)
{
	struct room *room = context;
	int first = lowest_descriptor();

	for (unsigned round = 0; round < 6; round++) {
		struct rlimit before = set_limit(RLIMIT_NOFILE, (unsigned)first + round);

		STEP(write_or_not(room, round) == 0);
		setrlimit(RLIMIT_NOFILE, &before);
		STEP(buffers_overwrite(room->memory, room->expected, 8) == 0);
	}
	return 0;
}

START_TEST(without_descriptors_writing_works_or_is_enomem_and_changes_nothing)
{
	struct room room;

	SKIP_IF_NO_VIEW(_i);
	room = new_room(kind_of(_i));
	run_child(write_with_few_descriptors, &room);
}
END_TEST

/* Readable, and writable says the list of mappings, to whom has the key. */
START_TEST(memory_locked_by_a_key_is_written_or_left_alone)
{
	unsigned char *memory = some_memory(kind_of(0), PAGE, true);
	int key = pkey_alloc(0, PKEY_DISABLE_WRITE);
	int result;

	SKIP_IF(key < 0, "no protection keys here");
	ck_assert_int_eq(pkey_mprotect(memory, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, key), 0);
	errno = 0;
	result = buffers_overwrite(memory + 8, "12345678", 8);
	ck_assert(result == 0 || errno == EACCES);
	ck_assert_mem_eq(memory + 8, result == 0 ? "12345678" : "\0\0\0\0\0\0\0", 8);
	ck_assert_int_eq(pkey_set(key, 0), 0);
	memory[8] = 'x';	/* it is still what it was */
	ck_assert_int_eq(buffers_overwrite(memory + 8, "abcdefgh", 8), 0);
}
END_TEST

static void add_scarce(Suite *suite)
{
	TCase *scarce = tcase_create("scarce");

	tcase_set_timeout(scarce, 60);
	tcase_add_loop_test(scarce,
			    without_mappings_writing_works_or_is_enomem_and_changes_nothing,
			    0, VIEWS);
	tcase_add_loop_test(scarce,
			    without_address_space_writing_works_or_is_enomem_and_changes_nothing,
			    0, VIEWS);
	tcase_add_loop_test(scarce,
			    without_descriptors_writing_works_or_is_enomem_and_changes_nothing,
			    0, VIEWS);
	tcase_add_test(scarce, memory_locked_by_a_key_is_written_or_left_alone);
	suite_add_tcase(suite, scarce);
}
#endif

static void add_writing(Suite *suite)
{
	TCase *writing = tcase_create("writing");
	TCase *others = tcase_create("others-memory");
	TCase *costs = tcase_create("costs");

	tcase_set_timeout(writing, 60);
	tcase_add_loop_test(writing, any_size_can_be_appended_anywhere, 0, VIEWS);
	tcase_add_loop_test(writing, nothing_can_be_appended_and_nothing_changes, 0, VIEWS);
	tcase_add_loop_test(writing, null_is_einval_and_changes_nothing, 0, VIEWS);
	tcase_add_loop_test(writing, unreadable_data_is_not_appended, 0, VIEWS);
	tcase_add_loop_test(writing, data_of_the_same_buffer_is_copied_as_it_was, 0, VIEWS);
	tcase_add_loop_test(writing, item_is_filled_to_its_last_byte_and_no_further, 0, VIEWS);
	tcase_add_loop_test(writing, reserved_room_is_aligned_and_zero_until_overwritten, 0, VIEWS);
	tcase_add_loop_test(writing, any_bytes_can_be_overwritten_and_no_others_change, 0, VIEWS);
	tcase_add_loop_test(writing, any_bytes_can_be_edited_by_a_function_that_sees_them,
			    0, VIEWS);
	tcase_add_loop_test(writing, function_that_edits_may_call_the_library, 0, VIEWS);
	tcase_add_loop_test(writing, memory_that_was_given_back_is_zero_when_it_comes_again,
			    0, VIEWS);
	suite_add_tcase(suite, writing);

	tcase_add_loop_test(others, memory_that_cannot_be_read_is_einval_and_nothing_changes,
			    0, VIEWS);
	tcase_add_loop_test(others, sealed_memory_keeps_its_permissions, 0, VIEWS);
#ifdef HAVE_CODE
	tcase_add_loop_test(others, code_of_the_program_is_changed_or_left_alone, 0,
			    1 + CAN_FORK);
#endif
	suite_add_tcase(suite, others);

	tcase_set_timeout(costs, 60);
	tcase_add_loop_test(costs, thousands_of_changes_take_few_mappings_and_no_descriptors,
			    0, VIEWS);
	suite_add_tcase(suite, costs);
}

int main(void)
{
	Suite *suite = suite_create("api-writing");

	add_writing(suite);
#if CAN_FORK
	add_scarce(suite);
#endif
	return run_suite(suite);
}
