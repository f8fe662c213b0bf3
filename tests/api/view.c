/* SPDX-License-Identifier: MIT */
/* api/view.c: RX memory with a view, which is written there and executed at its own address */

#include "config.h"
#define BUFFERS_BUILD	/* declares no argument nonnull, so that tests can pass NULL */
#include "support/kinds.h"
#include "support/code.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define RX_VIEW (BUFFERS_RX | BUFFERS_VIEW)

/* Windows does not list memory as shared. */
#define RX_LISTED (CAN_FORK ? "r-xs" : "r-xp")
#define VIEW_LISTED (CAN_FORK ? "rw-s" : "rw-p")

static struct buffers_request request_of(size_t size)
{
	struct buffers_request request = buffers_request_near(&kinds, BUFFERS_REACH_BRANCH, size);

	request.flags = RX_VIEW;
	return request;
}

/* Asserts that this succeeds and does not change errno. */
static unsigned char *alloc_viewed(size_t size, size_t *allocated)
{
	struct buffers_request request = request_of(size);
	unsigned char *memory;

	errno = 1234;
	memory = buffers_alloc(&request, allocated);
	ck_assert_ptr_nonnull(memory);
	ck_assert_int_eq(errno, 1234);
	return memory;
}

static unsigned char *view_of(const void *address)
{
	unsigned char *view;

	errno = 1234;
	view = buffers_view(address);
	ck_assert_ptr_nonnull(view);
	ck_assert_int_eq(errno, 1234);
	return view;
}

static struct buffers_arena *create_viewed(size_t size, unsigned flags)
{
	struct buffers_request window = request_of(size);
	struct buffers_arena *arena;

	errno = 1234;
	arena = buffers_arena_create(&window, flags);
	ck_assert_ptr_nonnull(arena);
	ck_assert_int_eq(errno, 1234);
	return arena;
}

static void check_no_view(const void *address)
{
	errno = 0;
	ck_assert_ptr_null(buffers_view(address));
	ck_assert_int_eq(errno, EINVAL);
}

/*
 * Memory of buffers_alloc()
 */

static void check_permissions(const void *memory, size_t size)
{
	struct watch watch;

	ck_assert(watch_open(&watch));
	ck_assert(watch_is_mapped_as(&watch, memory, size, RX_LISTED));
	ck_assert(watch_is_mapped_as(&watch, view_of(memory), size, VIEW_LISTED));
	watch_close(&watch);
}

START_TEST(memory_and_view_have_the_same_bytes)
{
	static const size_t sizes[] = { 1, 4096, 5000, 100 * KIB, 3 * MIB };
	size_t size = sizes[_i], allocated;
	unsigned char *memory = alloc_viewed(size, &allocated);
	unsigned char *view = view_of(memory);

	ck_assert_uint_ge(allocated, size);
	ck_assert_ptr_ne(view, memory);
	check_permissions(memory, allocated);
	for (size_t i = 0; i < allocated; i += 509) {
		ck_assert_ptr_eq(view_of(memory + i), view + i);
		ck_assert_uint_eq(memory[i], 0);
		view[i] = (unsigned char)(i | 1);
		ck_assert_uint_eq(memory[i], (unsigned char)(i | 1));
	}
	ck_assert_ptr_eq(view_of(memory + allocated - 1), view + allocated - 1);
	ck_assert_int_eq(buffers_free(memory, allocated), 0);
}
END_TEST

START_TEST(overwriting_writes_through_the_view)
{
	size_t allocated;
	unsigned char *memory = alloc_viewed(64 * KIB, &allocated);
	unsigned char *pattern = new_pattern(20 * KIB, 7);
	uint64_t word = UINT64_C(0x0123456789abcdef);

	ck_assert_int_eq(buffers_overwrite(memory + 4090, pattern, 20 * KIB), 0);
	ck_assert_mem_eq(memory + 4090, pattern, 20 * KIB);
	ck_assert_int_eq(buffers_overwrite(memory + 8, &word, 8), 0);
	ck_assert_mem_eq(view_of(memory) + 8, &word, 8);
	ck_assert_int_eq(buffers_overwrite(memory + allocated - 1, pattern, 1), 0);
	ck_assert_uint_eq(memory[allocated - 1], pattern[0]);
	ck_assert_int_eq(buffers_free(memory, allocated), 0);
	free(pattern);
}
END_TEST

/* Bytes that begin in the memory and end in the next page, which has no access. */
START_TEST(bytes_beyond_the_memory_are_in_no_view)
{
	size_t size = granularity(), allocated;
	char *end = reserve(secluded_address() + size, size);
	struct buffers_request request = {
		.min_address = (uintptr_t)end - size, .max_address = (uintptr_t)end,
		.size = size, .flags = RX_VIEW,
	};
	unsigned char *memory = buffers_alloc(&request, &allocated);

	ck_assert_ptr_eq(memory, end - size);
	errno = 0;
	ck_assert_int_eq(buffers_overwrite(memory + size - 1, "xy", 2), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_uint_eq(memory[size - 1], 0);
	ck_assert_int_eq(buffers_free(memory, allocated), 0);
	unreserve(end, size);
}
END_TEST

static void add_one(void *bytes_, size_t size, void *context)
{
	unsigned char *bytes = bytes_;

	(void)context;
	for (size_t i = 0; i < size; i++)
		bytes[i]++;
}

START_TEST(edits_arrive_at_both_addresses)
{
	static const size_t sizes[] = { 1, 4, 8, 100, 300, 10000 };
	size_t allocated;
	unsigned char *memory = alloc_viewed(64 * KIB, &allocated);

	memset(view_of(memory), 5, allocated);
	ck_assert_int_eq(buffers_overwrite_with(memory + 16, sizes[_i], add_one, NULL), 0);
	for (size_t i = 0; i < sizes[_i]; i++)
		ck_assert_uint_eq(memory[16 + i], 6);
	ck_assert_uint_eq(memory[15], 5);
	ck_assert_uint_eq(view_of(memory)[16 + sizes[_i]], 5);
	ck_assert_int_eq(buffers_free(memory, allocated), 0);
}
END_TEST

START_TEST(code_written_in_the_view_runs)
{
	struct code code = code_of(321);
	size_t allocated;
	unsigned char *memory = alloc_viewed(1, &allocated);

	SKIP_IF(!can_replace_code(), "the emulator executes the old code");
	memcpy(view_of(memory), code.bytes, CODE_SIZE);
	buffers_flush_icache(memory, CODE_SIZE);
	ck_assert_uint_eq(call_code(memory), 321);
	code = code_of(322);
	ck_assert_int_eq(buffers_overwrite(memory, code.bytes, CODE_SIZE), 0);
	ck_assert_uint_eq(call_code(memory), 322);
	ck_assert_int_eq(buffers_free(memory, allocated), 0);
}
END_TEST

/* Frees in another order than it maps; the views of the others stay right. */
START_TEST(many_views_come_and_go)
{
	enum { COUNT = 300 };
	static unsigned char *memory[COUNT];
	static size_t allocated[COUNT];
	uint64_t random = seed_random();
	struct watch watch;
	size_t before;

	ck_assert(watch_open(&watch));
	buffers_free(alloc_viewed(1, &allocated[0]), allocated[0]);	/* maps the list, too */
	before = watch_count(&watch);
	for (unsigned round = 0; round < 4 * COUNT; round++) {
		size_t i = random_below(&random, COUNT);

		if (memory[i]) {
			ck_assert_uint_eq(*memory[i], (unsigned char)i);
			ck_assert_ptr_eq(view_of(memory[i] + allocated[i] - 1),
					 view_of(memory[i]) + allocated[i] - 1);
			ck_assert_int_eq(buffers_free(memory[i], allocated[i]), 0);
			memory[i] = NULL;
		} else {
			memory[i] = alloc_viewed(random_below(&random, 20000) + 1, &allocated[i]);
			*view_of(memory[i]) = (unsigned char)i;
		}
	}
	for (size_t i = 0; i < COUNT; i++)
		if (memory[i])
			ck_assert_int_eq(buffers_free(memory[i], allocated[i]), 0);
	/* The list has more pages now, which may have merged. */
	ck_assert_uint_le(watch_count(&watch), before + COUNT / 60 + 2);
	watch_close(&watch);
}
END_TEST

START_TEST(freed_memory_has_no_view)
{
	struct buffers_request request = request_of(1);
	size_t allocated, other_size;
	unsigned char *memory = alloc_viewed(1, &allocated);
	unsigned char *view = view_of(memory), *other;
	struct watch watch;

	ck_assert_int_eq(buffers_free(memory, allocated), 0);
	ck_assert(watch_open(&watch));
	ck_assert(!watch_is_mapped_as(&watch, view, allocated, VIEW_LISTED));
	watch_close(&watch);
	request = (struct buffers_request){
		.min_address = (uintptr_t)memory, .max_address = (uintptr_t)memory + allocated,
		.size = 1, .flags = BUFFERS_RX,
	};
	other = buffers_alloc(&request, &other_size);	/* without a view, at the same address */
	SKIP_IF(!other, "another mapping took the address");
	check_no_view(other);
	ck_assert_int_eq(buffers_overwrite(other, "own", 3), 0);
	ck_assert_mem_eq(other, "own", 3);
	ck_assert_int_eq(buffers_free(other, other_size), 0);
}
END_TEST

/* The memory lies below that with a view. */
START_TEST(freeing_other_memory_leaves_views_alone)
{
	size_t allocated, other_size;
	unsigned char *memory = alloc_viewed(1, &allocated);
	unsigned char *view = view_of(memory), *other;
	struct buffers_request request = {
		.max_address = (uintptr_t)memory, .target = memory, .size = 1,
		.flags = BUFFERS_RX,
	};

	other = buffers_alloc(&request, &other_size);
	ck_assert_ptr_nonnull(other);
	ck_assert_int_eq(buffers_free(other, other_size), 0);
	ck_assert_ptr_eq(view_of(memory), view);
	*view = 1;
	ck_assert_uint_eq(*memory, 1);
	ck_assert_int_eq(buffers_free(memory, allocated), 0);
}
END_TEST

/*
 * buffers_view() of other memory, and invalid arguments
 */

START_TEST(memory_that_can_be_written_is_its_own_view)
{
	const struct kind *kind = &kinds[_i];
	unsigned char *memory = make_memory(kind, PAGE, false);
	unsigned char *own = make_memory(kind, PAGE, true);

	if (kind->flags == BUFFERS_RX) {
		check_no_view(memory);
		check_no_view(own + 5);
	} else {
		ck_assert_ptr_eq(view_of(memory), memory);
		ck_assert_ptr_eq(view_of(own + 5), own + 5);
	}
}
END_TEST

START_TEST(no_view_is_einval)
{
	size_t allocated;
	unsigned char *memory = alloc_viewed(PAGE, &allocated);
	void *page = reserve(secluded_address(), granularity());

	check_no_view(NULL);
	check_no_view(page);			/* without access */
	check_no_view((void *)UINTPTR_MAX);
	ck_assert_int_eq(buffers_free(memory, allocated), 0);
	check_no_view(memory);
	unreserve(page, granularity());
}
END_TEST

static void refuse_flags(unsigned flags)
{
	struct buffers_request request = request_of(100);
	size_t allocated = 77;

	request.flags = flags;
	errno = 0;
	ck_assert_ptr_null(buffers_alloc(&request, &allocated));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_uint_eq(allocated, 77);
	errno = 0;
	ck_assert_ptr_null(buffers_arena_create(&request, 0));
	ck_assert_int_eq(errno, EINVAL);
	request.flags = 0;
	errno = 0;
	ck_assert_ptr_null(buffers_arena_create(&request, flags));
	ck_assert_int_eq(errno, EINVAL);
}

START_TEST(only_rx_memory_has_a_view)
{
	struct buffers_request request = request_of(100);
	size_t allocated;

	refuse_flags(BUFFERS_VIEW);
	refuse_flags(BUFFERS_VIEW | BUFFERS_RW);
	refuse_flags(BUFFERS_VIEW | BUFFERS_RW | BUFFERS_RX);
	errno = 0;
	ck_assert_ptr_null(buffers_get(&request));	/* other copies could not write there */
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_ptr_null(buffers_alloc_in(1, &request, &allocated));
	ck_assert_int_eq(errno, EINVAL);
	request.flags |= BUFFERS_ARENA_FORK_SHARED;
	errno = 0;
	ck_assert_ptr_null(buffers_alloc(&request, &allocated));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

START_TEST(memory_with_a_view_has_no_write_windows)
{
	size_t allocated;
	unsigned char *memory = alloc_viewed(5000, &allocated);

	errno = 0;
	ck_assert_int_eq(buffers_protect(memory, allocated, BUFFERS_RW), -1);
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_int_eq(buffers_protect(memory, allocated, BUFFERS_RX), -1);
	ck_assert_int_eq(errno, EINVAL);
	check_permissions(memory, allocated);
	ck_assert_int_eq(buffers_free(memory, allocated), 0);
}
END_TEST

/*
 * Arenas
 */

static unsigned shared_flag(int is_shared)
{
	return is_shared ? BUFFERS_ARENA_FORK_SHARED : 0;
}

#define SKIP_IF_NOT_SHARED(is_shared) \
	SKIP_IF((is_shared) && !has_robust_locks(), NO_ROBUST_LOCKS)

START_TEST(items_are_written_through_the_view)
{
	struct buffers_arena *arena;
	struct buffers_item *item;
	struct code code = code_of(77);
	unsigned char *copy, *room;

	SKIP_IF_NOT_SHARED(_i);
	arena = create_viewed(MIB, shared_flag(_i));
	item = buffers_arena_get(arena, 1000, 16);
	ck_assert_ptr_nonnull(item);
	errno = 1234;
	copy = buffers_append_code(item, code.bytes, CODE_SIZE);
	ck_assert_ptr_nonnull(copy);
	ck_assert_int_eq(errno, 1234);
	ck_assert_mem_eq(view_of(copy), code.bytes, CODE_SIZE);
	ck_assert_uint_eq(call_code(copy), 77);
	room = buffers_reserve(item, 100, 64);
	ck_assert_ptr_nonnull(room);
	memset(view_of(room), 9, 100);
	ck_assert_uint_eq(room[99], 9);
	ck_assert_int_eq(buffers_overwrite(room, "bytes", 5), 0);
	ck_assert_mem_eq(room, "bytes\11", 6);
	check_permissions(copy, 64);
	buffers_release(item);
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
}
END_TEST

START_TEST(code_is_generated_in_place)
{
	struct buffers_arena *arena;
	struct buffers_item *item;

	SKIP_IF_NOT_SHARED(_i);
	arena = create_viewed(256 * KIB, shared_flag(_i));
	item = buffers_arena_get(arena, 100 * KIB, 16);
	ck_assert_ptr_nonnull(item);
	for (uint32_t number = 0; number < 1000; number++) {
		struct code code = code_of(number);
		unsigned char *next = buffers_next(item);

		memcpy(view_of(next), code.bytes, CODE_SIZE);
		ck_assert_ptr_eq(buffers_reserve(item, CODE_SIZE, 1), next);
		buffers_flush_icache(next, CODE_SIZE);
		ck_assert_uint_eq(call_code(next), number);
	}
	buffers_release(item);
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
}
END_TEST

/* The bytes may lie at the destination, at its view, or across the start of either. */
START_TEST(appended_bytes_may_overlap_their_destination)
{
	static const int shifts[] = { 0, 1, -1, 7, -7, 40, -40, 5000, -5000 };
	unsigned char *expected = new_pattern(12 * KIB, 3);
	struct buffers_arena *arena = create_viewed(MIB, 0);
	struct buffers_item *item = buffers_arena_get(arena, 400 * KIB, 16);

	ck_assert_ptr_nonnull(item);
	for (size_t i = 0; i < 2 * sizeof(shifts) / sizeof(shifts[0]); i++) {
		size_t size = _i ? 10 * KIB : 24;
		unsigned char *room = buffers_reserve(item, 6 * KIB, 16);
		unsigned char *next = buffers_next(item);
		unsigned char *from = next + shifts[i / 2], *copy;

		ck_assert_ptr_nonnull(room);
		memcpy(view_of(from), expected, size);
		copy = buffers_append(item, i % 2 ? view_of(from) : from, size);
		ck_assert_ptr_eq(copy, next);
		ck_assert_mem_eq(copy, expected, size);
	}
	buffers_release(item);
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
	free(expected);
}
END_TEST

/* Short, shorter and longer data are appended in different ways. */
START_TEST(appending_too_much_is_enospc_and_writes_nothing)
{
	static const size_t sizes[] = { 5, 24, 5000 };
	size_t size = sizes[_i];
	struct buffers_arena *arena = create_viewed(MIB, 0);
	struct buffers_item *item = buffers_arena_get(arena, 64 * KIB, 1);
	unsigned char *pattern = new_pattern(size, 4), *next;

	ck_assert_ptr_nonnull(item);
	ck_assert_ptr_nonnull(buffers_reserve(item, buffers_remaining(item) - size + 1, 1));
	next = buffers_next(item);
	errno = 0;
	ck_assert_ptr_null(buffers_append(item, pattern, size));
	ck_assert_int_eq(errno, ENOSPC);
	ck_assert_ptr_eq(buffers_next(item), next);
	for (size_t i = 0; i < size - 1; i++)
		ck_assert_uint_eq(next[i], 0);
	ck_assert_ptr_eq(buffers_append(item, pattern, size - 1), next);
	ck_assert_mem_eq(next, pattern, size - 1);
	ck_assert_uint_eq(buffers_remaining(item), 0);
	buffers_release(item);
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
	free(pattern);
}
END_TEST

START_TEST(room_given_back_is_written_through_the_view)
{
	enum { SIZE = 40000 };
	struct buffers_arena *arena = create_viewed(MIB, 0);
	struct buffers_item *item = buffers_arena_get(arena, SIZE, 16);
	unsigned char *pattern = new_pattern(SIZE, 9);
	unsigned char *room = buffers_append(item, pattern, SIZE), *again;

	ck_assert_ptr_nonnull(room);
	buffers_release(item);
	ck_assert_int_eq(buffers_give_back(room + 1, SIZE - 2), 0);
	item = buffers_arena_get(arena, SIZE - 2, 1);
	ck_assert_ptr_nonnull(item);
	again = buffers_next(item);
	ck_assert_ptr_eq(again, room + 1);
	for (size_t i = 0; i < SIZE - 2; i++)
		ck_assert_uint_eq(again[i], 0);
	ck_assert_uint_eq(room[0], pattern[0]);
	ck_assert_uint_eq(room[SIZE - 1], pattern[SIZE - 1]);
	ck_assert_ptr_eq(buffers_append(item, pattern, 24), again);
	ck_assert_mem_eq(again, pattern, 24);
	ck_assert_ptr_nonnull(buffers_append(item, pattern, 20000));
	ck_assert_mem_eq(view_of(again) + 24, pattern, 20000);
	buffers_release(item);
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
	free(pattern);
}
END_TEST

START_TEST(memory_given_back_is_returned_to_the_system)
{
	enum { SIZE = 8 << 20 };
	struct buffers_arena *arena = create_viewed(16 * MIB, 0);
	struct buffers_item *item = buffers_arena_get(arena, SIZE, 1);
	unsigned char *room = buffers_reserve(item, SIZE, 1);
	size_t before, full;

	SKIP_IF(!CAN_FORK, "sections keep their memory");
	SKIP_IF(is_emulated(), "the emulator may ignore MADV_REMOVE");
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime takes memory of its own");
	before = resident_bytes();
	SKIP_IF(!before, NO_RESIDENT_BYTES);
	memset(view_of(room), 1, SIZE);
	full = resident_bytes();
	SKIP_IF(full < before + SIZE / 2, NO_RESIDENT_BYTES);
	buffers_release(item);
	ck_assert_int_eq(buffers_give_back(room, SIZE), 0);
	ck_assert_uint_lt(resident_bytes(), before + SIZE / 2);
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
}
END_TEST

/* Reading a page that was returned would allocate it again. */
START_TEST(single_pages_given_back_are_returned_to_the_system)
{
	enum { PAGES = 512 };
	size_t page = granularity(), before, full;
	struct buffers_arena *arena = create_viewed(2 * PAGES * page, 0);
	struct buffers_item *item = buffers_arena_get(arena, PAGES * page, page);
	unsigned char *room = buffers_reserve(item, PAGES * page, page);

	SKIP_IF(!CAN_FORK, "sections keep their memory");
	SKIP_IF(is_emulated(), "the emulator may ignore MADV_REMOVE");
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime takes memory of its own");
	before = resident_bytes();
	SKIP_IF(!before, NO_RESIDENT_BYTES);
	memset(view_of(room), 1, PAGES * page);
	full = resident_bytes();
	SKIP_IF(full < before + PAGES * page / 2, NO_RESIDENT_BYTES);
	buffers_release(item);
	for (size_t i = 0; i < PAGES; i++)
		ck_assert_int_eq(buffers_give_back(room + i * page, page), 0);
	ck_assert_uint_lt(resident_bytes(), before + PAGES * page / 2);
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
}
END_TEST

START_TEST(a_large_window_has_a_view)
{
	size_t size = sizeof(void *) == 8 ? 8 * GIB : 64 * MIB;
	struct buffers_request window = { .size = size, .flags = RX_VIEW };
	struct buffers_arena *arena;
	struct buffers_item *item;
	unsigned char *room;

	SKIP_IF(!has_address_space(3 * size), NO_ADDRESS_SPACE);
	SKIP_IF(!can_overcommit(), "the system promises no more memory than it has");
	arena = buffers_arena_create(&window, 0);
	ck_assert_ptr_nonnull(arena);
	for (unsigned i = 0; i < 3; i++) {
		item = buffers_arena_get(arena, size / 4, 1);
		SKIP_IF(!item && errno == ENOMEM && !CAN_FORK, "Windows commits the memory");
		ck_assert_ptr_nonnull(item);
		room = buffers_reserve(item, size / 4, 1);
		view_of(room)[size / 4 - 1] = 6;
		ck_assert_uint_eq(room[size / 4 - 1], 6);
		buffers_release(item);
	}
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
}
END_TEST

START_TEST(destroying_an_arena_unmaps_its_view)
{
	struct buffers_arena *arena;
	struct buffers_item *item;
	struct watch watch;
	void *address, *view;
	size_t before = 0;
	bool was_gone = false;

	SKIP_IF_NOT_SHARED(_i);
	SKIP_IF(!CAN_FORK && sizeof(void *) == 4,
		"Wine with 32 bits lists other memory where some was freed");
	ck_assert(watch_open(&watch));
	for (unsigned round = 0; round < 20; round++) {
		arena = create_viewed(300 * KIB, shared_flag(_i));
		item = buffers_arena_get(arena, 1, 1);
		address = buffers_append(item, "1", 1);
		view = view_of(address);
		ck_assert_int_eq(buffers_arena_destroy(arena), -1);	/* the item is held */
		ck_assert_ptr_eq(view_of(address), view);
		buffers_release(item);
		ck_assert_int_eq(buffers_arena_destroy(arena), 0);
		/* The system may map memory of its own there at once, but not each time. */
		was_gone |= !watch_is_mapped_as(&watch, view, 300 * KIB, VIEW_LISTED);
		ck_assert_ptr_ne(buffers_view(address), view);
		if (round == 0)
			before = watch_count(&watch);
	}
	ck_assert(was_gone);
	ck_assert_uint_le(watch_count(&watch), before + 2);
	watch_close(&watch);
}
END_TEST

/*
 * Threads
 */

static struct {
	struct buffers_arena *arena;
	unsigned char *newest;		/* the code that was appended last */
	bool is_done;
} relay;

static void *append_functions(void *arena)
{
	struct buffers_item *item = buffers_arena_get(arena, 900 * KIB, 16);

	for (uint32_t number = 0; item && number < 20000; number++) {
		struct code code = code_of(number);
		unsigned char *copy = buffers_append_code(item, code.bytes, CODE_SIZE);

		ck_assert_ptr_nonnull(copy);
		__atomic_store_n(&relay.newest, copy, __ATOMIC_RELEASE);
	}
	buffers_release(item);
	__atomic_store_n(&relay.is_done, true, __ATOMIC_RELEASE);
	return item;
}

START_TEST(a_thread_executes_while_another_appends)
{
	struct buffers_arena *arena;
	uint32_t number, last = 0;
	pthread_t thread;
	unsigned char *code;
	void *item;

	SKIP_IF(is_tsan(), "TSan does not see accesses by executed code");
	SKIP_IF_NOT_SHARED(_i);
	arena = create_viewed(MIB, shared_flag(_i));
	relay.newest = NULL;
	relay.is_done = false;
	ck_assert_int_eq(pthread_create(&thread, NULL, append_functions, arena), 0);
	while (!__atomic_load_n(&relay.is_done, __ATOMIC_ACQUIRE)) {
		code = __atomic_load_n(&relay.newest, __ATOMIC_ACQUIRE);
		if (!code) {
			yield_cpu();
			continue;
		}
		number = call_code(code);
		ck_assert_uint_ge(number, last);
		last = number;
	}
	ck_assert_int_eq(pthread_join(thread, &item), 0);
	ck_assert_ptr_nonnull(item);
	ck_assert_uint_eq(call_code(relay.newest), 19999);
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
}
END_TEST

static void *map_and_free(void *failed)
{
	for (unsigned i = 0; i < how_many(300, 3000); i++) {
		struct buffers_request request = request_of(1 + i % 9000);
		size_t allocated;
		unsigned char *memory = buffers_alloc(&request, &allocated);
		unsigned char *view = memory ? buffers_view(memory) : NULL;

		if (!view)
			return failed;
		*view = (unsigned char)i;
		if (*memory != (unsigned char)i || buffers_overwrite(memory + 1, "x", 1) != 0 ||
		    view[1] != 'x' || buffers_free(memory, allocated) != 0)
			return failed;
	}
	return NULL;
}

START_TEST(threads_map_views_at_once)
{
	enum { THREADS = 4 };
	pthread_t threads[THREADS];
	int failed;
	void *result;

	SKIP_IF(is_tsan(), "it takes memory from mremap() for earlier memory at that address");
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, map_and_free, &failed), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &result), 0);
		ck_assert_ptr_null(result);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("api/view");
	TCase *alloc = tcase_create("alloc");
	TCase *other = tcase_create("other");
	TCase *arena = tcase_create("arena");
	TCase *threads = tcase_create("threads");

	if (!can_map_twice())
		skip_all("memory cannot be mapped twice here");
	tcase_add_loop_test(alloc, memory_and_view_have_the_same_bytes, 0, 5);
	tcase_add_test(alloc, overwriting_writes_through_the_view);
	tcase_add_test(alloc, bytes_beyond_the_memory_are_in_no_view);
	tcase_add_loop_test(alloc, edits_arrive_at_both_addresses, 0, 6);
	tcase_add_test(alloc, code_written_in_the_view_runs);
	tcase_add_test(alloc, many_views_come_and_go);
	tcase_add_test(alloc, freed_memory_has_no_view);
	tcase_add_test(alloc, freeing_other_memory_leaves_views_alone);
	suite_add_tcase(suite, alloc);

	tcase_add_loop_test(other, memory_that_can_be_written_is_its_own_view, 0, KINDS);
	tcase_add_test(other, no_view_is_einval);
	tcase_add_test(other, only_rx_memory_has_a_view);
	tcase_add_test(other, memory_with_a_view_has_no_write_windows);
	suite_add_tcase(suite, other);

	tcase_add_loop_test(arena, items_are_written_through_the_view, 0, 2);
	tcase_add_loop_test(arena, code_is_generated_in_place, 0, 2);
	tcase_add_loop_test(arena, appended_bytes_may_overlap_their_destination, 0, 2);
	tcase_add_loop_test(arena, appending_too_much_is_enospc_and_writes_nothing, 0, 3);
	tcase_add_test(arena, room_given_back_is_written_through_the_view);
	tcase_add_test(arena, memory_given_back_is_returned_to_the_system);
	tcase_add_test(arena, single_pages_given_back_are_returned_to_the_system);
	tcase_add_test(arena, a_large_window_has_a_view);
	tcase_add_loop_test(arena, destroying_an_arena_unmaps_its_view, 0, 2);
	suite_add_tcase(suite, arena);

	tcase_add_loop_test(threads, a_thread_executes_while_another_appends, 0, 2);
	tcase_add_test(threads, threads_map_views_at_once);
	suite_add_tcase(suite, threads);
	return run_suite(suite);
}
