/* SPDX-License-Identifier: MIT */
/* arena/reserve.c: a window costs nothing until its items are handed out */

#include "config.h"
#include "support/arena-records.h"
#include "reloaded/buffers.h"
#include "support/restrict.h"
#include "support/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#define LARGE (SIZE_MAX > UINT32_MAX ? (size_t)UINT32_MAX + 1 : 512 * MIB)

/* The flags of arena_flags(), without and with huge pages by turns. */
static unsigned flags_of(int number)
{
	return arena_flags(number / 2) | (number % 2 ? BUFFERS_ARENA_HUGE_PAGES : 0);
}

static struct buffers_arena *new_arena(size_t size, unsigned flags)
{
	struct buffers_request window = { .size = size };

	return buffers_arena_create(&window, flags);
}

/* Gets an item, appends to it, and releases it. */
static bool use_item(struct buffers_arena *arena, size_t size, size_t alignment)
{
	struct buffers_item *item = buffers_arena_get(arena, size, alignment);
	bool is_used = item && buffers_append(item, "12345678", 8);

	buffers_release(item);
	return is_used;
}

static bool is_private(unsigned flags)
{
	return !(flags & BUFFERS_ARENA_FORK_SHARED);
}

/*
 * Limits
 */

/* The private memory that can be written, which RLIMIT_DATA limits. */
static size_t data_bytes(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	if (file && fscanf(file, "%*u %*u %*u %*u %*u %lu", &pages) != 1)
		pages = 0;
	if (file)
		fclose(file);
	return pages * granularity();
}

/* Private memory that can be written counts as data. */
static bool is_limited(unsigned flags)
{
	return is_private(flags) && !(flags & BUFFERS_RX) && !is_emulated();
}

static int create_with_little_data(void *context)
{
	unsigned flags = *(unsigned *)context;
	struct buffers_arena *arena;

	set_limit(RLIMIT_DATA, data_bytes() + 48 * MIB);
	arena = new_arena(LARGE, flags);
	STEP(arena);
	STEP(use_item(arena, 8, 1));
	errno = 0;
	STEP(use_item(arena, 128 * MIB, 1) || (is_limited(flags) && errno == ENOMEM));
	STEP(use_item(arena, MIB, 1));
	STEP(buffers_arena_destroy(arena) == 0);
	return 0;
}

START_TEST(window_may_be_larger_than_the_data_limit)
{
	unsigned flags = flags_of(_i);

	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps more than any limit allows");
	SKIP_IF(!arena_fits(flags, LARGE + MIB), NO_ADDRESS_SPACE);
	run_child(create_with_little_data, &flags);
}
END_TEST

/* Bytes that were skipped for alignment are too many for the limit: other bytes serve. */
static int skip_more_than_the_limit(void *context)
{
	unsigned flags = *(unsigned *)context;
	struct buffers_arena *arena;
	struct buffers_item *held;

	set_limit(RLIMIT_DATA, data_bytes() + 48 * MIB);
	arena = new_arena(LARGE, flags);
	STEP(arena);
	held = buffers_arena_get(arena, 8, 256 * MIB);
	if (!held)	/* by chance, the window's last multiple is too near its end */
		return errno == ENOSPC ? 0 : __LINE__;
	for (unsigned i = 0; i < 10; i++) {
		STEP(use_item(arena, 8, 1));
		STEP(buffers_arena_get(arena, 2 * KIB, 1));
	}
	return 0;
}

START_TEST(skipped_bytes_beyond_the_limit_are_left_alone)
{
	unsigned flags = flags_of(_i);

	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps more than any limit allows");
	SKIP_IF(!arena_fits(flags, LARGE + MIB), NO_ADDRESS_SPACE);
	run_child(skip_more_than_the_limit, &flags);
}
END_TEST

/*
 * What is mapped
 */

START_TEST(private_memory_has_no_access_until_it_is_handed_out)
{
	unsigned flags = flags_of(_i);
	size_t step = flags & BUFFERS_ARENA_HUGE_PAGES ? 2 * MIB : MIB;
	struct buffers_request window = exact_window(64 * MIB);
	/* The first chunk may lie in two huge pages. */
	uintptr_t end = (window.min_address + 64 * KIB + step - 1) & ~(uintptr_t)(step - 1);
	struct buffers_arena *arena = buffers_arena_create(&window, flags);
	struct buffers_item *item;

	SKIP_IF(is_emulated(), "the emulator merges mappings of different permissions");
	ck_assert_ptr_nonnull(arena);
	ck_assert(is_mapped_as(window.min_address, window.max_address, "---p"));
	item = buffers_arena_get(arena, 100, 1);
	ck_assert_ptr_nonnull(item);
	ck_assert(!is_mapped_as(window.min_address, window.min_address + 1, "---p"));
	ck_assert(is_mapped_as(end, window.max_address, "---p"));
	buffers_release(item);
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
}
END_TEST

START_TEST(huge_pages_do_not_grow_the_window)
{
	struct buffers_request window = exact_window(64 * MIB);
	struct buffers_arena *arena = buffers_arena_create(&window, arena_flags(_i));

	ck_assert_ptr_nonnull(arena);
	SKIP_IF(access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0,
		"this kernel has no transparent huge pages");
	SKIP_IF(is_emulated() || !mapping_flags(window.min_address), "mappings have no flags here");
	ck_assert_ptr_nonnull(strstr(mapping_flags(window.min_address), " nh"));
	ck_assert(use_item(arena, 10, 1));
	ck_assert_ptr_nonnull(strstr(mapping_flags(window.min_address), " nh"));
	ck_assert_ptr_nonnull(strstr(mapping_flags(window.max_address - 1), " nh"));
}
END_TEST

START_TEST(number_of_mappings_is_bounded)
{
	enum { BOUND = 2 * 4096 + 2 };	/* each unit committed by itself, and each gap */
	struct buffers_request window = exact_window(LARGE);
	struct buffers_arena *arena = buffers_arena_create(&window, flags_of(_i));
	unsigned count = 0;

	SKIP_IF(is_emulated(), "emulators cannot have that many mappings");
	SKIP_IF(is_tsan(), "TSan does not expect that many locks");
	SKIP_IF(is_slow() && _i / 2 % ARENA_SHARED, "a slow run tests one kind of memory");
	SKIP_IF(!can_overcommit(), "this system does not overcommit memory");
	SKIP_IF(!arena && !arena_fits(flags_of(_i), LARGE + MIB), NO_ADDRESS_SPACE);
	ck_assert_ptr_nonnull(arena);
	for (unsigned i = 0; i < 500; i++)	/* one behind the other */
		ck_assert_ptr_nonnull(buffers_arena_get(arena, 64 * KIB, 1));
	ck_assert_uint_le(count_mappings(window.min_address, window.max_address), 2);
	while (buffers_arena_get(arena, 1, 512 * KIB))
		count++;
	ck_assert_int_eq(errno, ENOSPC);
	ck_assert_uint_gt(count, window.size / (512 * KIB) / 2);
	ck_assert_uint_le(count_mappings(window.min_address, window.max_address), BOUND);
}
END_TEST

/*
 * Items that are committed already
 */

static void *get_without_calls(void *arena)
{
	struct buffers_item *item;

	if (!refuse_call(SYS_mprotect, ENOMEM) || !refuse_memory(ENOMEM) ||
	    !refuse_call(SYS_madvise, ENOMEM))
		return NULL;
	item = buffers_arena_get(arena, 8, 1);
	buffers_release(item);
	return item;
}

static int get_committed_item(void *context)
{
	struct buffers_arena *arena = new_arena(2 * MIB, *(unsigned *)context);
	struct buffers_item *item = arena ? buffers_arena_get(arena, 8, 1) : NULL;
	pthread_t thread;
	void *got;

	STEP(item);
	buffers_release(item);
	/* A thread that has not used the arena does not know the item yet. */
	STEP(pthread_create(&thread, NULL, get_without_calls, arena) == 0);
	STEP(pthread_join(thread, &got) == 0);
	STEP(got == item);
	return 0;
}

START_TEST(committed_item_is_handed_out_without_system_calls)
{
	unsigned flags = flags_of(_i);

	SKIP_IF(!can_filter(), NO_FILTER);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps memory itself");
	run_child(get_committed_item, &flags);
}
END_TEST

/*
 * Policy
 */

/* Fills half the arena with records of any size, also behind gaps. */
static int append_randomly(struct record_log *log, struct buffers_arena *arena)
{
	uint64_t random = seed_random();

	for (unsigned i = 0; i < 500; i++) {
		size_t size = random_record_size(&random);
		size_t alignment = (size_t)1 << random_below(&random, 20);
		struct buffers_item *item = buffers_arena_get(arena, size, alignment);

		STEP(item ? record_append(log, item, 0, size) != NULL : errno == ENOSPC);
		buffers_release(item);
	}
	return 0;
}

static int commit_without_exec_gain(void *context)
{
	struct record_log *log = record_log_new(10000, false);
	struct buffers_request window = exact_window(64 * MIB);
	struct buffers_arena *arena;

	(void)context;
	if (!refuse_exec_gain()) {
		printf("skipped: the kernel has no PR_SET_MDWE\n");
		return 0;
	}
	errno = 0;
	STEP(!new_arena(MIB, 0) && errno == EACCES);
	STEP(use_item(new_arena(MIB, BUFFERS_RW), 8, 1));
	arena = buffers_arena_create(&window, BUFFERS_RX);
	STEP(arena);
	for (unsigned i = 0; i < 20; i++)
		STEP(buffers_arena_get(arena, 64 * KIB, 1));
	STEP(count_mappings(window.min_address, window.max_address) <= 2);
	STEP(append_randomly(log, arena) == 0);
	STEP(!record_check(log));
	return 0;
}

START_TEST(memory_that_must_not_become_executable_is_mapped_so)
{
	run_child(commit_without_exec_gain, NULL);
}
END_TEST

/* Policy that came later: what was handed out stays, and no hole appears in the window. */
static int refuse_after_creation(void *context)
{
	struct buffers_request window = exact_window(MIB);
	struct buffers_arena *arena = buffers_arena_create(&window, 0);
	struct buffers_item *item = arena ? buffers_arena_get(arena, 64, 1) : NULL;
	char *bytes = item ? buffers_append(item, "before", 7) : NULL;

	(void)context;
	STEP(bytes);
	if (!refuse_exec_gain()) {
		printf("skipped: the kernel has no PR_SET_MDWE\n");
		return 0;
	}
	errno = 0;
	STEP(!buffers_arena_get(arena, MIB / 2, 1) && errno == EACCES);
	STEP(strcmp(bytes, "before") == 0);
	STEP(is_mapped_as(window.max_address - MIB / 2, window.max_address, "---p"));
	buffers_release(item);
	STEP(buffers_arena_destroy(arena) == 0);
	return 0;
}

START_TEST(refused_commit_leaves_the_window_as_it_was)
{
	run_child(refuse_after_creation, NULL);
}
END_TEST

/* As systemd's MemoryDenyWriteExecute= has it without PR_SET_MDWE. */
static int commit_under_filter(void *context)
{
	struct record_log *log = record_log_new(10000, false);
	struct buffers_arena *arena;

	(void)context;
	STEP(refuse_new_exec(EPERM));
	arena = new_arena(64 * MIB, BUFFERS_RX);
	STEP(arena);
	STEP(append_randomly(log, arena) == 0);
	STEP(!record_check(log));
	errno = 0;
	STEP(!new_arena(MIB, 0) && errno == EACCES);
	return 0;
}

START_TEST(filter_of_mprotect_changes_nothing)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	run_child(commit_under_filter, NULL);
}
END_TEST

/*
 * Core dumps
 */

static const char marker[] = "bytes that a core dump must contain";

static _Noreturn void dump_core(const char *dir, unsigned flags)
{
	struct buffers_arena *arena = new_arena(SIZE_MAX > UINT32_MAX ? GIB : 256 * MIB, flags);
	struct buffers_item *item = arena ? buffers_arena_get(arena, 100, 1) : NULL;

	if (!item || !buffers_append(item, marker, sizeof(marker)) || chdir(dir) != 0)
		_exit(1);
	signal(SIGABRT, SIG_DFL);
	abort();
}

/* Removes the file, and returns its size, and whether it contains the marker. */
static off_t examine_core(const char *name, bool *has_marker)
{
	int file = open(name, O_RDONLY);
	struct stat status = { .st_size = 0 };
	char *bytes = MAP_FAILED;

	if (file >= 0 && fstat(file, &status) == 0)
		bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	*has_marker = bytes != MAP_FAILED &&
		      memmem(bytes, (size_t)status.st_size, marker, sizeof(marker));
	if (bytes != MAP_FAILED)
		munmap(bytes, (size_t)status.st_size);
	close(file);
	unlink(name);
	return status.st_size;
}

/* Finds the one file in the directory, and removes both; 0: there is none. */
static off_t take_core(const char *dir, bool *has_marker)
{
	DIR *list = opendir(dir);
	struct dirent *entry;
	char name[512];
	off_t size = 0;

	while (list && (entry = readdir(list)))
		if (entry->d_name[0] != '.') {
			snprintf(name, sizeof(name), "%s/%s", dir, entry->d_name);
			size = examine_core(name, has_marker);
		}
	if (list)
		closedir(list);
	rmdir(dir);
	return size;
}

START_TEST(core_dump_contains_only_what_was_handed_out)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	char dir[] = "/tmp/core-XXXXXX";
	bool has_marker = false;
	int status;
	off_t size;
	pid_t child;

	SKIP_IF(is_asan() || is_tsan() || is_emulated(), "core dumps contain the runtime's memory");
	SKIP_IF(setrlimit(RLIMIT_CORE, &all) != 0, "this user may not write large core files");
	SKIP_IF(!mkdtemp(dir), "no writable /tmp");
	child = fork();
	if (child == 0)
		dump_core(dir, flags_of(_i));
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	size = take_core(dir, &has_marker);
	SKIP_IF(WIFSIGNALED(status) && size == 0, "this system writes no core files here");
	ck_assert(WIFSIGNALED(status));
	ck_assert(has_marker);
	ck_assert_int_lt(size, 32 << 20);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("arena/reserve");
	TCase *cost = tcase_create("cost");
	TCase *policy = tcase_create("policy");
	int kinds = arena_kinds();
	int both = 2 * kinds;	/* without and with huge pages */

	tcase_set_tags(cost, "fork");
	tcase_set_timeout(cost, 300);
	tcase_add_loop_test(cost, window_may_be_larger_than_the_data_limit, 0, both);
	tcase_add_loop_test(cost, skipped_bytes_beyond_the_limit_are_left_alone, 0, both);
	tcase_add_loop_test(cost, private_memory_has_no_access_until_it_is_handed_out, 0,
			    2 * (ARENA_SHARED - 1));	/* memory with a view is shared */
	tcase_add_loop_test(cost, huge_pages_do_not_grow_the_window, 0, kinds);
	tcase_add_loop_test(cost, number_of_mappings_is_bounded, 0, both);
	tcase_add_loop_test(cost, committed_item_is_handed_out_without_system_calls, 0, both);
	tcase_add_loop_test(cost, core_dump_contains_only_what_was_handed_out, 0, both);
	suite_add_tcase(suite, cost);

	tcase_set_tags(policy, "fork");
	tcase_set_timeout(policy, 300);
	tcase_add_test(policy, memory_that_must_not_become_executable_is_mapped_so);
	tcase_add_test(policy, refused_commit_leaves_the_window_as_it_was);
	tcase_add_test(policy, filter_of_mprotect_changes_nothing);
	suite_add_tcase(suite, policy);
	return run_suite(suite);
}
