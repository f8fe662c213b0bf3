/* SPDX-License-Identifier: MIT */
/*
 * api/growth.c: heap and stacks can grow after many buffers near them
 *
 * The program runs the tests twice, with and without randomised addresses.
 */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/restrict.h"
#include "support/support.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#define BUFFERS ((size_t)how_many(1000, 1000))

static int in_the_executable;

static size_t least_of(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* How many buffers of 64 KiB the tests take within the reach. */
static size_t buffers_within(size_t reach)
{
	return least_of(BUFFERS, reach / 4 / (64 * KIB));
}

/* Holds each item, so that every call returns a new buffer. */
static void take_near(const void *target, size_t reach)
{
	struct buffers_request request = buffers_request_near(target, reach, 64 * KIB);
	size_t count = buffers_within(reach);

	for (size_t i = 0; i < count; i++) {
		struct buffers_item *item = buffers_get(&request);

		ck_assert_ptr_nonnull(item);
		ck_assert_uint_ge((uintptr_t)buffers_base(item), 64 * KIB);
		ck_assert_ptr_nonnull(buffers_append(item, "used", 4));
	}
}

/* A test must call this before it takes buffers. */
static bool can_grow_heap(void)
{
	void *start = sbrk(0);
	bool can = sbrk((intptr_t)(64 * MIB)) == start;

	return brk(start) == 0 && can;
}

/* With a short reach, the heap's growth room may cover all addresses within reach. */
#define SKIP_IF_REACH_IS_SHORT()						\
	SKIP_IF(BUFFERS_REACH_BRANCH < 64 * MIB, "a branch reaches less far than the heap grows")
#define SKIP_IF_HEAP_IS_BOUND()	SKIP_IF(!can_grow_heap(), "the heap cannot grow here")

static void check_heap_grows(void)
{
	char *start = sbrk(0);

	for (size_t grown = 0; grown < 64 * MIB; grown += 64 * KIB) {
		char *more = sbrk((intptr_t)(64 * KIB));

		ck_assert_ptr_eq(more, start + grown);
		more[0] = more[64 * KIB - 1] = 1;
	}
}

START_TEST(heap_grows_after_buffers_near_the_break)
{
	SKIP_IF_REACH_IS_SHORT();
	SKIP_IF_HEAP_IS_BOUND();
	take_near(sbrk(0), BUFFERS_REACH_BRANCH);
	check_heap_grows();
}
END_TEST

START_TEST(heap_grows_after_buffers_near_the_executable)
{
	SKIP_IF_HEAP_IS_BOUND();
	take_near(&in_the_executable, 512 * MIB);
	check_heap_grows();
}
END_TEST

/*
 * Allocates page after page while the heap grows and shrinks.  The search cache puts each page
 * beside the previous one and does not query the current break.
 */
START_TEST(heap_grows_while_pages_are_mapped_near_it)
{
	char *start = sbrk(0);
	struct buffers_request request = buffers_request_near(start, BUFFERS_REACH_BRANCH, 4096);
	size_t count = BUFFERS * 4096 / (size_t)getpagesize();
	size_t rounds = is_slow() ? 2 : 8;
	size_t allocated;

	SKIP_IF_REACH_IS_SHORT();
	SKIP_IF_HEAP_IS_BOUND();
	for (size_t round = 0; round < rounds; round++) {
		for (size_t i = 0; i < count; i++) {
			char *page = buffers_alloc(&request, &allocated);

			ck_assert_ptr_nonnull(page);
			ck_assert(page < start || page >= start + 64 * MIB);
			if (i % 16 == 0)
				ck_assert_ptr_ne(sbrk((intptr_t)(64 * KIB)), (void *)-1);
		}
		if (round % 2)
			ck_assert_int_eq(brk(start), 0);
	}
	check_heap_grows();
}
END_TEST

/* The heap of a position-dependent executable lies in this range. */
START_TEST(heap_grows_after_buffers_in_the_first_2_gib)
{
	SKIP_IF_HEAP_IS_BOUND();
	take_near((void *)1, 2 * GIB);
	check_heap_grows();
}
END_TEST

/* The range holds only the heap's growth room, so the library takes its far end. */
START_TEST(heap_grows_after_buffers_in_its_growth_room)
{
	uintptr_t start = (uintptr_t)sbrk(0);
	struct buffers_request request = {
		.min_address = start,
		.max_address = start + 256 * MIB,
		.target = (void *)start,
		.size = 64 * KIB,
	};

	SKIP_IF_HEAP_IS_BOUND();
	for (size_t i = 0; i < BUFFERS; i++)
		ck_assert_ptr_nonnull(buffers_get(&request));
	check_heap_grows();
}
END_TEST

__attribute__((noinline)) static size_t descend(size_t left)
{
	volatile size_t frame[(16 << 10) / sizeof(size_t)];

	frame[0] = 1;
	frame[sizeof(frame) / sizeof(*frame) - 1] = 1;
	if (left > sizeof(frame))
		return descend(left - sizeof(frame)) + frame[0];
	return frame[sizeof(frame) / sizeof(*frame) - 1];
}

static bool can_grow_stack(void)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		set_limit(RLIMIT_STACK, 100 * MIB);
		_exit(descend(64 * MIB) == 0);
	}
	return waitpid(child, &status, 0) == child && status == 0;
}

/* Bytes from this address down to the next mapping. */
static size_t free_below(uintptr_t here)
{
	static struct mapping maps[10000];
	size_t count = read_maps(maps, 10000);
	uintptr_t below = 0;

	for (size_t i = 0; i < count; i++)
		if (maps[i].end <= here)
			below = maps[i].end;
	return here - below;
}

/* How far the stack can grow within the reach if the buffers lie at the far end. */
static size_t depth_above_buffers(void)
{
	size_t room = free_below((uintptr_t)__builtin_frame_address(0));
	size_t guard = 256 * (size_t)getpagesize();
	size_t taken = buffers_within(BUFFERS_REACH_BRANCH) * 64 * KIB + guard + MIB;

	room = least_of(room, BUFFERS_REACH_BRANCH);
	return room > taken ? least_of(64 * MIB, room - taken) : 0;
}

/* Raises the stack's limit last: the library must leave more room than the current limit. */
START_TEST(stack_grows_after_buffers_near_it)
{
	size_t depth;

	SKIP_IF(!can_grow_stack(), "the stack cannot grow here");
	depth = depth_above_buffers();
	take_near(__builtin_frame_address(0), BUFFERS_REACH_BRANCH);
	take_near(__builtin_frame_address(0), 1 * GIB);
	set_limit(RLIMIT_STACK, 100 * MIB);
	ck_assert_uint_gt(descend(depth), 0);
}
END_TEST

START_TEST(stack_grows_after_buffers_in_its_growth_room)
{
	uintptr_t end = (uintptr_t)__builtin_frame_address(0);
	struct buffers_request request = {
		.min_address = end - 133 * MIB,
		.max_address = end,
		.target = (void *)end,
		.size = 64 * KIB,
	};

	SKIP_IF(!can_grow_stack(), "the stack cannot grow here");
	for (size_t i = 0; i < how_many(600, 600); i++)	/* 37 of 133 MiB */
		ck_assert_ptr_nonnull(buffers_get(&request));
	set_limit(RLIMIT_STACK, 100 * MIB);
	ck_assert_uint_gt(descend(64 * MIB), 0);
}
END_TEST

/*
 * A stack of a page that the kernel lets grow, as coroutines and emulators have one, with much
 * free memory around it; NULL if the kernel keeps no gap below it.
 */
static char *map_stack(void)
{
	size_t page = (size_t)getpagesize();
	char *free = mmap(NULL, 256 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			  -1, 0);
	char *top = free + 128 * MIB;
	char *stack, *below;

	ck_assert_ptr_ne(free, MAP_FAILED);
	munmap(free, 256 * MIB);
	stack = mmap(top - page, page, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
	below = mmap(stack - page, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (below != MAP_FAILED)
		munmap(below, page);
	return stack == top - page && below != stack - page ? stack : NULL;
}

/* The nearest addresses below a stack and above it, where the search starts or which it passes. */
static void take_around(char *stack)
{
	const uintptr_t targets[] = {
		(uintptr_t)stack, (uintptr_t)stack - MIB, (uintptr_t)stack + MIB / 2,
	};
	size_t allocated;

	for (size_t i = 0; i < 3 * 16; i++) {
		struct buffers_request request = buffers_request_near((void *)targets[i / 16],
								      64 * MIB, 60000);

		request.min_address = i % 2 ? (uintptr_t)stack - 32 * MIB : request.min_address;
		request.max_address = i % 2 ? (uintptr_t)stack : request.max_address;
		ck_assert_ptr_nonnull(buffers_get(&request));
		ck_assert_ptr_nonnull(buffers_alloc(&request, &allocated));
		request.size = 1;
		ck_assert_ptr_nonnull(buffers_alloc(&request, &allocated));
	}
}

/* The ways to list the mappings that the kernel and the tests offer. */
static const struct {
	int refused_call;
	const char *name;
} methods[] = { { -1, "any" }, { SYS_ioctl, "/proc/self/maps" }, { SYS_openat, "msync()" } };

START_TEST(other_stack_keeps_its_guard_gap)
{
	char *stack = map_stack();
	uintptr_t gap = 256 * (uintptr_t)getpagesize();
	int call = methods[_i].refused_call;

	SKIP_IF(is_emulated(), "the gap has pages of the emulator's kernel");
	SKIP_IF(!stack, "the kernel keeps no gap below such mappings here");
	SKIP_IF(call >= 0 && !refuse_call(call, EPERM), NO_FILTER);
	take_around(stack);
	/* nothing is in the gap, and the memory directly below it is used */
	for (uintptr_t at = (uintptr_t)stack - gap; at < (uintptr_t)stack; at += 4096)
		ck_assert_int_ne(msync((void *)at, 1, MS_ASYNC), 0);
	ck_assert_int_eq(msync(stack - gap - getpagesize(), 1, MS_ASYNC), 0);
}
END_TEST

START_TEST(nothing_is_mapped_below_64_kib)
{
	static struct mapping maps[10000];
	struct buffers_request request = { .max_address = 192 * KIB, .size = 4096 };
	size_t allocated;
	size_t count = 0;

	while (buffers_get(&request))
		count++;
	ck_assert_int_eq(errno, EADDRNOTAVAIL);
	/* the executable may fill the range */
	ck_assert(count > 0 || is_mapped_as(64 * KIB, 192 * KIB, NULL));
	request.size = 1;
	ck_assert_ptr_null(buffers_alloc(&request, &allocated));
	request.max_address = 64 * KIB;
	ck_assert_ptr_null(buffers_get(&request));
	ck_assert_ptr_null(buffers_alloc(&request, &allocated));
	count = read_maps(maps, 10000);
	for (size_t i = 0; i < count; i++)
		ck_assert_uint_ge(maps[i].start, 64 * KIB);
}
END_TEST

/* A stack cannot grow past other mappings, so addresses near libc are no growth room. */
START_TEST(unlimited_stack_leaves_addresses_near_libc)
{
	/* in a program at a fixed address, &getenv may be a stub of the executable */
	uintptr_t target = (uintptr_t)dlsym(RTLD_NEXT, "getenv");
	struct buffers_item *item;
	uintptr_t base;

	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps most memory near libc");
	set_limit(RLIMIT_STACK, RLIM_INFINITY);
	item = buffers_get_near((const void *)target, 4096);
	ck_assert_ptr_nonnull(item);
	base = (uintptr_t)buffers_base(item);
	ck_assert_uint_lt(base > target ? base - target : target - base, 64 * MIB);
}
END_TEST

static int run_growth_tests(const char *name)
{
	Suite *suite = suite_create(name);
	TCase *all = tcase_create("growth");

	tcase_set_timeout(all, 300);
	tcase_add_test(all, nothing_is_mapped_below_64_kib);
	tcase_add_test(all, heap_grows_after_buffers_near_the_break);
	tcase_add_test(all, heap_grows_after_buffers_near_the_executable);
	tcase_add_test(all, heap_grows_while_pages_are_mapped_near_it);
	tcase_add_test(all, heap_grows_after_buffers_in_the_first_2_gib);
	tcase_add_test(all, heap_grows_after_buffers_in_its_growth_room);
	tcase_add_test(all, stack_grows_after_buffers_near_it);
	tcase_add_test(all, unlimited_stack_leaves_addresses_near_libc);
	tcase_add_test(all, stack_grows_after_buffers_in_its_growth_room);
	tcase_add_loop_test(all, other_stack_keeps_its_guard_gap, 0,
			    (int)(sizeof(methods) / sizeof(methods[0])));
	suite_add_tcase(suite, all);
	return run_suite(suite);
}

int main(int argc, char **argv)
{
	static char fixed[] = "fixed";
	int failed;

	if (argc > 1 && strcmp(argv[1], fixed) == 0)
		return run_growth_tests("api/growth, fixed addresses");
	failed = run_growth_tests("api/growth, random addresses");
	fflush(stdout);
	if (failed)
		return failed;
	if (personality(ADDR_NO_RANDOMIZE) == -1) {
		puts("skipped: fixed addresses: personality() failed");
		return 0;
	}
	execv("/proc/self/exe", (char *[]){ argv[0], fixed, NULL });
	return 1;
}
