/* SPDX-License-Identifier: MIT */
/* rx/views.c: memory with a view after fork(2), in signal handlers, and where a call fails */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/code.h"
#include "support/maps-watch.h"
#include "support/restrict.h"
#include "support/signals.h"
#include "support/support.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define KIB ((size_t)1 << 10)
#define RX_VIEW (BUFFERS_RX | BUFFERS_VIEW)

static struct {
	struct buffers_arena *arena;
	struct buffers_item *item;
	unsigned char *memory, *view;
	size_t size;
	int error;			/* of a second mapping; 0: it stays RX */
	unsigned char *from_child;	/* code that a child appended, in shared memory */
} *test;

static int alloc_viewed(void)
{
	struct buffers_request request = { .size = 16 * KIB, .flags = RX_VIEW };

	test->memory = buffers_alloc(&request, &test->size);
	STEP(test->memory);
	test->view = buffers_view(test->memory);
	STEP(test->view);
	return 0;
}

static int make_arena(unsigned flags)
{
	struct buffers_request window = { .size = 256 * KIB, .flags = RX_VIEW };
	struct code code = code_of(11);

	test->size = 256 * KIB;
	test->arena = buffers_arena_create(&window, flags);
	STEP(test->arena);
	test->item = buffers_arena_get(test->arena, 1000, 8);
	STEP(test->item);
	test->memory = buffers_append_code(test->item, code.bytes, CODE_SIZE);
	test->view = buffers_view(test->memory);
	STEP(test->memory && test->view);
	return 0;
}

static int call_body(void *body)
{
	return (*(int (**)(void))body)();
}

static void run_in_child(int (*body)(void))
{
	run_child(call_body, &body);
}

static void start_test(void)
{
	test = map_memory(sizeof(*test), true);
}

static void run_body(int (*body)(void))
{
	start_test();
	run_in_child(body);
}

/* Whether memory here has no view: neither a mapping at its address nor an entry of the list. */
static int find_no_view(void)
{
	struct watch watch;

	STEP(watch_open(&watch));
	STEP(!watch_is_mapped_as(&watch, test->view, 1, "rw-s"));
	errno = 0;
	STEP(!buffers_view(test->memory) && errno == EINVAL);
	return 0;
}

/*
 * Memory of buffers_alloc()
 */

/* A window would let the child write the parent's memory. */
static int find_no_window(void)
{
	errno = 0;
	STEP(buffers_protect(test->memory, test->size, BUFFERS_RW) == -1 && errno == EINVAL);
	errno = 0;
	STEP(buffers_protect(test->memory, test->size, BUFFERS_RX) == -1 && errno == EINVAL);
	return is_mapped_as((uintptr_t)test->memory, (uintptr_t)test->memory + test->size,
			    "r-xs") ? 0 : __LINE__;
}

static int read_and_free(void)
{
	STEP(find_no_view() == 0);
	STEP(find_no_window() == 0);
	STEP(memcmp(test->memory, "parent", 6) == 0);
	STEP(buffers_overwrite(test->memory + 100, "child", 5) == 0);	/* without a view, too */
	STEP(memcmp(test->memory + 100, "child", 5) == 0);
	STEP(buffers_free(test->memory, test->size) == 0);
	return 0;
}

static int share_with_child(void)
{
	STEP(alloc_viewed() == 0);
	memcpy(test->view, "parent", 6);
	run_in_child(read_and_free);
	STEP(memcmp(test->memory, "parent", 6) == 0);
	STEP(memcmp(test->memory + 100, "child", 5) == 0);
	STEP(buffers_view(test->memory) == test->view);
	STEP(buffers_free(test->memory, test->size) == 0);
	return 0;
}

START_TEST(children_share_the_memory_but_have_no_view)
{
	run_body(share_with_child);
}
END_TEST

/* The child's own memory has windows; it may lack the list of mappings. */
static int open_windows(void)
{
	struct buffers_request request = { .size = 1, .flags = BUFFERS_RX };
	size_t size;
	unsigned char *memory = buffers_alloc(&request, &size);

	STEP(memory && buffers_protect(memory, size, BUFFERS_RW) == 0);
	*memory = 1;
	return buffers_protect(memory, size, BUFFERS_RX) == 0 ? 0 : __LINE__;
}

static int open_windows_without_list(void)
{
	STEP(open_windows() == 0);
	STEP(find_no_window() == 0);
	STEP(refuse_call(SYS_openat, EACCES));
	errno = 0;
	STEP(buffers_protect(test->memory, test->size, BUFFERS_RW) == -1 && errno == EINVAL);
	return open_windows();
}

static int share_without_list(void)
{
	STEP(alloc_viewed() == 0);
	run_in_child(open_windows_without_list);
	return 0;
}

START_TEST(children_open_no_window_of_shared_memory)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	run_body(share_without_list);
}
END_TEST

/* The list of the child is its own. */
static int map_own_views(void)
{
	for (unsigned i = 0; i < 100; i++) {
		struct buffers_request request = { .size = 1, .flags = RX_VIEW };
		size_t size;
		unsigned char *memory = buffers_alloc(&request, &size);
		unsigned char *view = buffers_view(memory);

		STEP(memory && view && view != memory);
		*view = 7;
		STEP(*memory == 7);
		STEP(i % 2 || buffers_free(memory, size) == 0);
	}
	errno = 0;
	STEP(!buffers_view(test->memory) && errno == EINVAL);
	return find_no_window();
}

static int map_in_child(void)
{
	STEP(alloc_viewed() == 0);
	run_in_child(map_own_views);
	return buffers_view(test->memory) == test->view ? 0 : __LINE__;
}

START_TEST(children_map_views_of_their_own)
{
	run_body(map_in_child);
}
END_TEST

/* Bytes that begin in memory with a view and end in other memory: no mapping has both. */
static int overwrite_across_the_end(void)
{
	struct buffers_request request = { .size = 1, .flags = BUFFERS_RX };
	unsigned char *end, *other;
	size_t size;

	STEP(alloc_viewed() == 0);
	end = test->memory + test->size;
	request.min_address = (uintptr_t)end;
	request.max_address = (uintptr_t)end + granularity();
	other = buffers_alloc(&request, &size);
	if (!other)
		return 0;	/* there is no gap above the memory */
	STEP(other == end);
	errno = 0;
	STEP(buffers_overwrite(end - 8, "0123456789abcdef", 16) == -1 && errno == EACCES);
	STEP(memcmp(end - 8, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16) == 0);
	STEP(buffers_overwrite(end, "other", 5) == 0);
	STEP(buffers_free(other, size) == 0);
	return 0;
}

START_TEST(bytes_beyond_the_memory_are_not_written)
{
	run_body(overwrite_across_the_end);
}
END_TEST

/*
 * Arenas
 */

/* Continues with an item of room that was given back: only the list knows its view. */
static int get_given_back(void)
{
	enum { SIZE = 40000 };
	struct buffers_item *item = buffers_arena_get(test->arena, SIZE, 8);
	char *room;

	STEP(item);
	room = buffers_reserve(item, SIZE, 8);
	STEP(room);
	buffers_release(item);
	STEP(buffers_give_back(room, SIZE) == 0);
	test->item = buffers_arena_get(test->arena, SIZE, 8);
	STEP(test->item && buffers_next(test->item) == room);
	return 0;
}

/* The child holds the item of the thread that forked. */
static int fail_to_append(void)
{
	errno = 0;
	STEP(!buffers_append(test->item, "some more than a few bytes", 26) && errno == EACCES);
	errno = 0;
	STEP(!buffers_append(test->item, "!", 1) && errno == EACCES);
	return 0;
}

/* The address of the parent's view may be that of other memory here. */
static int destroy_beside_other_memory(void)
{
	volatile char *other = mmap(test->view, 1, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	STEP(other != MAP_FAILED);
	*other = 1;
	STEP(buffers_arena_destroy(test->arena) == 0);
	STEP(*other == 1);
	return 0;
}

static int find_arena_closed(void)
{
	struct buffers_item *item;

	STEP(find_no_view() == 0);
	STEP(call_code(test->memory) == 11);
	errno = 0;
	item = buffers_arena_get(test->arena, 1, 1);
	STEP(!item && errno == EACCES);
	STEP(fail_to_append() == 0);
	errno = 0;
	STEP(!buffers_reserve(test->item, 1, 1) && errno == EACCES);	/* room of its parent */
	STEP(buffers_next(test->item) == test->memory + CODE_SIZE);
	errno = 0;
	STEP(buffers_give_back(test->memory, CODE_SIZE) == -1 && errno == EACCES);
	return destroy_beside_other_memory();
}

static int close_private_arena(void)
{
	struct code code = code_of(12);
	unsigned char *copy;

	STEP(make_arena(0) == 0);
	run_in_child(find_arena_closed);
	copy = buffers_append_code(test->item, code.bytes, CODE_SIZE);
	STEP(copy == test->memory + CODE_SIZE && call_code(copy) == 12);
	STEP(call_code(test->memory) == 11);
	buffers_release(test->item);
	STEP(buffers_give_back(test->memory, CODE_SIZE) == 0);
	return buffers_arena_destroy(test->arena);
}

START_TEST(a_private_arena_stays_with_its_process)
{
	run_body(close_private_arena);
}
END_TEST

/* An arena whose window cannot be unmapped has lost its view, and is not written in another way. */
static int lose_view(void)
{
	struct buffers_item *item;

	errno = 0;
	STEP(buffers_arena_destroy(test->arena) == -1 && errno != 0);
	errno = 0;
	item = buffers_arena_get(test->arena, 1, 1);
	STEP(!item && errno == EACCES);
	STEP(call_code(test->memory) == 11);
	return is_mapped_as((uintptr_t)test->memory, (uintptr_t)test->memory + test->size,
			    "r-xs") ? 0 : __LINE__;
}

static int lose_view_in_child(void)
{
	STEP(refuse_call(SYS_munmap, ENOMEM));
	STEP(lose_view() == 0);
	errno = 0;
	STEP(!buffers_append(test->item, "held by the thread that forked", 30) && errno == EACCES);
	return 0;
}

static int keep_window(void)
{
	STEP(make_arena(0) == 0);
	run_in_child(lose_view_in_child);
	buffers_release(test->item);
	STEP(refuse_call_at(SYS_munmap, test->memory, ENOMEM));
	return lose_view();
}

START_TEST(an_arena_that_lost_its_view_is_not_written)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps memory at any time");
	run_body(keep_window);
}
END_TEST

static int fork_with_given_room(void)
{
	char *room;

	STEP(make_arena(0) == 0 && get_given_back() == 0);
	room = buffers_next(test->item);
	run_in_child(fail_to_append);
	STEP(buffers_next(test->item) == room && *room == 0);
	return 0;
}

START_TEST(room_given_back_stays_with_its_process)
{
	run_body(fork_with_given_room);
}
END_TEST

/* The child knows the view before it gets an item, and writes through it afterwards. */
static int append_in_child(void)
{
	struct code code = code_of(13);
	struct buffers_item *item;

	STEP(buffers_view(test->memory) == test->view);
	test->view[200] = 1;
	STEP(test->memory[200] == 1);
	item = buffers_arena_get(test->arena, 64, 8);
	STEP(item && item != test->item);
	test->from_child = buffers_append_code(item, code.bytes, CODE_SIZE);
	STEP(test->from_child);
	STEP(!can_filter() || refuse_views(EPERM));	/* the only other way to write */
	STEP(buffers_overwrite(test->memory + 300, "child", 5) == 0);
	STEP(memcmp(test->view + 300, "child", 5) == 0);
	return 0;	/* ends with the item held */
}

static int append_and_destroy_in_child(void)
{
	run_in_child(append_in_child);	/* a grandchild */
	STEP(buffers_arena_destroy(test->arena) == 0);
	return find_no_view();
}

static int share_arena(void)
{
	STEP(make_arena(BUFFERS_ARENA_FORK_SHARED) == 0);
	run_in_child(append_in_child);
	STEP(call_code(test->from_child) == 13);
	STEP(test->memory[200] == 1 && memcmp(test->memory + 300, "child", 5) == 0);
	test->from_child = NULL;
	run_in_child(append_and_destroy_in_child);
	STEP(test->from_child && call_code(test->from_child) == 13);
	STEP(buffers_view(test->memory) == test->view);
	buffers_release(test->item);
	return buffers_arena_destroy(test->arena);
}

START_TEST(descendants_write_a_shared_arena_through_its_view)
{
	SKIP_IF(!has_robust_locks(), NO_ROBUST_LOCKS);
	run_body(share_arena);
}
END_TEST

/* Without memory for its list, a child finds the view by the arena. */
static int view_without_list(void)
{
	struct buffers_item *item;

	STEP(refuse_memory(ENOMEM));
	item = buffers_arena_get(test->arena, 1, 1);
	STEP(item && buffers_append(item, "x", 1));
	STEP(buffers_view(test->memory) == test->view);
	errno = 0;
	STEP(buffers_overwrite(test->memory, "y", 1) == -1 && errno == ENOMEM);
	buffers_release(item);
	STEP(buffers_arena_destroy(test->arena) == 0);
	return find_no_view();
}

static int lack_list(void)
{
	STEP(make_arena(BUFFERS_ARENA_FORK_SHARED) == 0);
	run_in_child(view_without_list);
	return 0;
}

START_TEST(a_child_needs_no_memory_to_use_an_inherited_view)
{
	SKIP_IF(!has_robust_locks(), NO_ROBUST_LOCKS);
	SKIP_IF(!can_filter(), NO_FILTER);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps memory at any time");
	run_body(lack_list);
}
END_TEST

/*
 * Signal handlers, which may interrupt a thread that has the lock of the list
 */

static bool overwrite_in_handler(uint32_t number)
{
	return buffers_overwrite(test->memory, &number, sizeof(number)) == 0 &&
	       memcmp(test->memory, &number, sizeof(number)) == 0 &&
	       buffers_append(test->item, "!", 1);
}

static int write_in_handlers(void)
{
	uint32_t count = how_many(300, 10000);

	STEP(test->arena || make_arena(0) == 0);
	STEP(start_signals(overwrite_in_handler, count));
	while (are_signals_left())
		for (unsigned i = 0; i < 1000; i++)
			STEP(buffers_view(test->memory + 8) == test->view + 8);
	STEP(end_signals() && memcmp(test->memory, &count, sizeof(count)) == 0);
	return 0;
}

static int write_given_back_in_handlers(void)
{
	STEP(make_arena(0) == 0 && get_given_back() == 0);
	return write_in_handlers();
}

START_TEST(signal_handlers_write_memory_with_a_view)
{
	SKIP_IF(is_emulated(), "the emulator delivers signals late");
	run_body(_i ? write_given_back_in_handlers : write_in_handlers);
}
END_TEST

static bool append_in_handler(uint32_t number)
{
	bool is_refused;

	(void)number;
	is_refused = !buffers_append(test->item, "!", 1) && errno == EACCES;
	errno = 0;
	return is_refused;
}

static int append_in_handlers(void)
{
	struct buffers_request request = { .size = 1, .flags = RX_VIEW };
	size_t size;
	void *memory = buffers_alloc(&request, &size);	/* the list has an entry */

	STEP(memory);
	STEP(start_signals(append_in_handler, how_many(300, 10000)));
	while (are_signals_left())
		for (unsigned i = 0; i < 1000; i++)
			STEP(buffers_view(memory));
	return end_signals() ? 0 : __LINE__;
}

/* The item is room that was given back, which the child's handler must not write either. */
static int hold_at_fork(void)
{
	STEP(make_arena(0) == 0 && get_given_back() == 0);
	run_in_child(append_in_handlers);
	STEP(*(unsigned char *)buffers_next(test->item) == 0);
	STEP(buffers_append(test->item, "parent", 6));
	return 0;
}

START_TEST(signal_handlers_of_a_child_do_not_write_given_room)
{
	SKIP_IF(is_emulated(), "the emulator delivers signals late");
	run_body(hold_at_fork);
}
END_TEST

/*
 * Calls that fail
 */

static size_t count_mappings_now(void)
{
	struct watch watch;
	size_t count;

	if (!watch_open(&watch))
		return 0;
	count = watch_count(&watch);
	watch_close(&watch);
	return count;
}

static int lose_second_mapping(void)
{
	struct buffers_request request = { .size = 16 * KIB, .flags = RX_VIEW };
	int expected = test->error == EINVAL ? ENOSYS : EACCES;
	size_t size = 77, before;

	STEP(alloc_viewed() == 0);
	before = count_mappings_now();
	STEP(test->error ? refuse_views(test->error) :
			   refuse_call_where(SYS_mprotect, 2, PROT_WRITE, EPERM));
	errno = 0;
	STEP(!buffers_alloc(&request, &size) && errno == expected && size == 77);
	errno = 0;
	STEP(!buffers_arena_create(&request, 0) && errno == expected);
	STEP(count_mappings_now() == before);
	STEP(buffers_overwrite(test->memory, "view", 4) == 0);
	STEP(buffers_view(test->memory) == test->view);
	STEP(buffers_free(test->memory, test->size) == 0);
	return 0;
}

START_TEST(without_second_mappings_nothing_is_mapped)
{
	static const int errors[] = { EPERM, EINVAL, 0 };

	SKIP_IF(!can_filter(), NO_FILTER);
	start_test();
	test->error = errors[_i];
	run_in_child(lose_second_mapping);
}
END_TEST

/* Records of views are private memory, and RX memory with a view is not. */
static int lack_records(void)
{
	struct buffers_request request = { .size = 1, .flags = RX_VIEW };
	size_t records = granularity() / 32;	/* more than a page holds */
	size_t size, before;

	STEP(alloc_viewed() == 0);
	STEP(refuse_private_memory(ENOMEM));
	do
		before = count_mappings_now();
	while (buffers_alloc(&request, &size) && records--);
	STEP(errno == ENOMEM && count_mappings_now() == before);
	return 0;
}

START_TEST(without_a_record_no_view_stays)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps memory at any time");
	run_body(lack_records);
}
END_TEST

static int refuse_unmapping(void)
{
	STEP(alloc_viewed() == 0);
	STEP(refuse_call(SYS_munmap, ENOMEM));
	errno = 0;
	STEP(buffers_free(test->memory, test->size) == -1 && errno == ENOMEM);
	STEP(buffers_view(test->memory) == test->view);
	STEP(buffers_overwrite(test->memory, "still", 5) == 0);
	STEP(memcmp(test->view, "still", 5) == 0);
	return 0;
}

START_TEST(memory_that_cannot_be_freed_keeps_its_view)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps memory at any time");
	run_body(refuse_unmapping);
}
END_TEST

/* Other code unmaps the memory; new memory at the address has its own view, or none. */
static int replace_memory(void)
{
	struct buffers_request request = { .size = 1, .flags = RX_VIEW };
	unsigned char *view;
	size_t size;

	STEP(alloc_viewed() == 0);
	STEP(munmap(test->memory, test->size) == 0);
	request.min_address = (uintptr_t)test->memory;
	request.max_address = (uintptr_t)test->memory + test->size;
	test->memory = buffers_alloc(&request, &size);
	STEP(test->memory);
	view = buffers_view(test->memory);
	STEP(view && view != test->view);
	STEP(buffers_overwrite(test->memory, "new", 3) == 0);
	STEP(memcmp(test->memory, "new", 3) == 0 && test->view[0] == 0);
	STEP(buffers_free(test->memory, size) == 0);
	errno = 0;
	STEP(!buffers_view(test->memory) && errno == EINVAL);
	return 0;
}

START_TEST(a_new_view_replaces_one_of_memory_that_is_gone)
{
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps memory at any time");
	run_body(replace_memory);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rx/views");
	TCase *all = tcase_create("all");

	if (!can_map_twice())
		skip_all("memory cannot be mapped twice here");
	tcase_set_tags(all, "fork");
	tcase_add_test(all, children_share_the_memory_but_have_no_view);
	tcase_add_test(all, children_open_no_window_of_shared_memory);
	tcase_add_test(all, children_map_views_of_their_own);
	tcase_add_test(all, bytes_beyond_the_memory_are_not_written);
	tcase_add_test(all, a_private_arena_stays_with_its_process);
	tcase_add_test(all, an_arena_that_lost_its_view_is_not_written);
	tcase_add_test(all, room_given_back_stays_with_its_process);
	tcase_add_test(all, descendants_write_a_shared_arena_through_its_view);
	tcase_add_test(all, a_child_needs_no_memory_to_use_an_inherited_view);
	tcase_add_loop_test(all, signal_handlers_write_memory_with_a_view, 0, 2);
	tcase_add_test(all, signal_handlers_of_a_child_do_not_write_given_room);
	tcase_add_loop_test(all, without_second_mappings_nothing_is_mapped, 0, 3);
	tcase_add_test(all, without_a_record_no_view_stays);
	tcase_add_test(all, memory_that_cannot_be_freed_keeps_its_view);
	tcase_add_test(all, a_new_view_replaces_one_of_memory_that_is_gone);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
