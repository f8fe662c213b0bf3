/* SPDX-License-Identifier: MIT */
/* process/policy.c: systems that deny, hide or lack features that the library uses */

#include "config.h"
#include "support/restrict.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

static int count_buffer(const struct buffers_info *info, void *context)
{
	(void)info;
	++*(size_t *)context;
	return 0;
}

/*
 * Systems that deny memory that is writable and executable
 */

static int check_denied(void)
{
	struct buffers_request request = { .size = 1 };
	size_t allocated = 77;
	size_t buffers = 0;

	errno = 0;
	STEP(!buffers_get(&request));
	STEP(errno == EACCES);
	request.max_address = 2 * GIB;
	errno = 0;
	STEP(!buffers_get(&request));
	STEP(errno == EACCES);
	errno = 0;
	STEP(!buffers_alloc(&request, &allocated));
	STEP(errno == EACCES);
	STEP(allocated == 77);
	STEP(buffers_walk(count_buffer, &buffers) == 0);
	STEP(buffers == 0);
	return 0;
}

static int deny_by_mdwe(void *context)
{
	(void)context;
	if (!refuse_exec_gain()) {
		printf("skipped: %s: PR_SET_MDWE needs Linux 6.3\n", __func__);
		return 0;
	}
	return check_denied();
}

START_TEST(mdwe_is_eacces)
{
	run_child(deny_by_mdwe, NULL);
}
END_TEST

static int deny_by_filter(void *error)
{
	STEP(refuse_rwx(*(int *)error));
	return check_denied();
}

START_TEST(filter_is_eacces)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	run_child(deny_by_filter, &(int){ EPERM });
	run_child(deny_by_filter, &(int){ EACCES });
}
END_TEST

/* Free space directly below a mapping. */
static struct buffers_request below_mapping(size_t size)
{
	char *space = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(space, MAP_FAILED);
	munmap(space, size);
	return (struct buffers_request){
		.min_address = (uintptr_t)space, .max_address = (uintptr_t)space + size,
		.size = size,
	};
}

/* Denies all mappings after one request has succeeded. */
static int deny_all(void *error)
{
	struct buffers_request request = { .size = 1 };
	struct buffers_request exact = below_mapping(4 * MIB);
	int expected = *(int *)error == EPERM ? EACCES : ENOMEM;
	size_t allocated;
	void *memory = buffers_alloc(&exact, &allocated);

	STEP(!memory || buffers_free(memory, allocated) == 0);
	STEP(buffers_alloc(&request, &allocated));
	STEP(refuse_memory(*(int *)error));
	errno = 0;
	STEP(!buffers_get(&request));
	STEP(errno == expected);
	errno = 0;
	STEP(!buffers_alloc(&exact, &allocated));
	STEP(errno == expected || !memory);	/* the stack may need the range to grow */
	return 0;
}

START_TEST(refusal_of_all_mappings_is_eacces_or_enomem)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	SKIP_IF(is_asan(), "the sanitizer's runtime may map memory at exit");
	run_child(deny_all, &(int){ EPERM });
	run_child(deny_all, &(int){ ENOMEM });
}
END_TEST

/*
 * The personality that makes all readable memory executable
 */

static size_t count_writable_code(void)
{
	static struct mapping maps[10000];
	size_t all = read_maps(maps, 10000);
	size_t count = 0;

	for (size_t i = 0; i < all; i++)
		count += maps[i].permissions[1] == 'w' && maps[i].permissions[2] == 'x';
	return count;
}

static bool imply_exec(void)
{
	return personality((unsigned long)personality(0xffffffff) | READ_IMPLIES_EXEC) != -1;
}

/* Containers often forbid that personality. */
#define NO_PERSONALITY "this system does not permit the personality READ_IMPLIES_EXEC"
static bool can_imply_exec(void)
{
	int former = personality(0xffffffff);

	return imply_exec() && personality((unsigned long)former) != -1;
}

/* RX memory that becomes RW counts as well. */
static int open_window(void)
{
	struct buffers_request request = { .size = 1, .flags = BUFFERS_RX };
	size_t allocated;
	char *memory = buffers_alloc(&request, &allocated);

	STEP(memory && buffers_protect(memory, allocated, BUFFERS_RW) == 0);
	memory[0] = 1;
	return 0;
}

static int use_rw_memory(unsigned shared)
{
	struct buffers_request request = { .size = 64 * KIB, .flags = BUFFERS_RW };
	struct buffers_arena *arena;
	struct buffers_item *item;
	size_t allocated;

	STEP(open_window() == 0);
	item = buffers_get(&request);
	STEP(item && buffers_append(item, "data", 4));
	STEP(buffers_alloc(&request, &allocated));
	request.size = 4 * MIB;
	STEP(buffers_alloc(&request, &allocated));
	arena = buffers_arena_create(&request, 0);
	STEP(arena && (item = buffers_arena_get(arena, 64, 0)) && buffers_append(item, "data", 4));
	arena = buffers_arena_create(&request, shared);
	STEP(arena && (item = buffers_arena_get(arena, 64, 0)) && buffers_append(item, "data", 4));
	return 0;
}

static unsigned arena_flags(void)
{
	return has_robust_locks() ? BUFFERS_ARENA_FORK_SHARED : 0;
}

static int imply_exec_from_now(void *context)
{
	size_t before = count_writable_code();
	int set;

	STEP(imply_exec());
	set = personality(0xffffffff);
	STEP(use_rw_memory(*(unsigned *)context) == 0);
	STEP(count_writable_code() == before);
	STEP(personality(0xffffffff) == set);
	return 0;
}

START_TEST(rw_memory_is_not_executable_where_reading_implies_it)
{
	SKIP_IF(is_tsan(), "the sanitizer's runtime maps memory at any time");
	SKIP_IF(!can_imply_exec(), NO_PERSONALITY);
	run_child(imply_exec_from_now, &(unsigned){ arena_flags() });
}
END_TEST

static int imply_exec_without_way_back(void *context)
{
	struct buffers_request request = { .size = 1, .flags = BUFFERS_RW };
	size_t before = count_writable_code();
	size_t allocated;

	(void)context;
	STEP(imply_exec());
	STEP(refuse_call(SYS_personality, EPERM));
	errno = 0;
	STEP(!buffers_get(&request) && errno == EACCES);
	errno = 0;
	STEP(!buffers_alloc(&request, &allocated) && errno == EACCES);
	STEP(count_writable_code() == before);
	return 0;
}

static int imply_exec_after_creation(void *context)
{
	struct buffers_request request = { .size = 4 * MIB, .flags = BUFFERS_RW };
	struct buffers_arena *arena = buffers_arena_create(&request, 0);
	size_t before = count_writable_code();

	(void)context;
	STEP(arena && imply_exec());
	STEP(refuse_call(SYS_personality, EPERM));
	errno = 0;
	STEP(!buffers_arena_get(arena, 64, 0) && errno == EACCES);
	STEP(count_writable_code() == before);
	return 0;
}

/* mprotect(2) makes the memory RWX, since nothing tells before: it must be RX again. */
static int imply_exec_in_window(void *context)
{
	struct buffers_request request = { .size = 3 * 4096, .flags = BUFFERS_RX };
	size_t allocated;
	char *memory = buffers_alloc(&request, &allocated);

	(void)context;
	STEP(memory && buffers_overwrite(memory, "text", 5) == 0);
	STEP(imply_exec());
	STEP(refuse_call(SYS_personality, EPERM));
	errno = 0;
	STEP(buffers_protect(memory, allocated, BUFFERS_RW) == -1 && errno == EACCES);
	STEP(is_mapped_as((uintptr_t)memory, (uintptr_t)memory + allocated, "r-xp"));
	STEP(strcmp(memory, "text") == 0);
	return 0;
}

/* Then it cannot become RX again either: at least it is not left executable. */
static int imply_exec_in_last_window(void *context)
{
	struct buffers_request request = { .size = 1, .flags = BUFFERS_RX };
	size_t allocated;
	char *memory = buffers_alloc(&request, &allocated);

	(void)context;
	STEP(memory && imply_exec() && refuse_call(SYS_personality, EPERM));
	STEP(refuse_call_where(SYS_mprotect, 2, PROT_EXEC, EPERM));
	errno = 0;
	STEP(buffers_protect(memory, allocated, BUFFERS_RW) == -1 && errno == EACCES);
	STEP(is_mapped_as((uintptr_t)memory, (uintptr_t)memory + allocated, "---p"));
	return 0;
}

static int forbid_questions(void *context)
{
	STEP(refuse_call(SYS_personality, EPERM));
	return use_rw_memory(*(unsigned *)context);
}

START_TEST(rw_memory_is_eacces_where_it_would_be_executable)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	SKIP_IF(!can_imply_exec(), NO_PERSONALITY);
	run_child(imply_exec_without_way_back, NULL);
	run_child(imply_exec_after_creation, NULL);
	run_child(imply_exec_in_window, NULL);
	run_child(imply_exec_in_last_window, NULL);
	run_child(forbid_questions, &(unsigned){ arena_flags() });
}
END_TEST

/* MDWE refuses memory that would be writable and executable for a moment. */
static int imply_exec_under_mdwe(void *context)
{
	struct buffers_request request = { .size = 64 * KIB, .flags = BUFFERS_RX };
	struct buffers_arena *arena;
	struct buffers_item *item;

	if (!refuse_exec_gain()) {
		printf("skipped: %s: PR_SET_MDWE needs Linux 6.3\n", __func__);
		return 0;
	}
	STEP(imply_exec());
	arena = buffers_arena_create(&request, *(unsigned *)context);
	STEP(arena && (item = buffers_arena_get(arena, 64, 0)));
	STEP(buffers_append(item, "data", 4));
	return use_rw_memory(*(unsigned *)context);
}

START_TEST(memory_is_not_writable_and_executable_for_a_moment)
{
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime cannot map its own memory then");
	SKIP_IF(!can_imply_exec(), NO_PERSONALITY);
	run_child(imply_exec_under_mdwe, &(unsigned){ arena_flags() });
}
END_TEST

static int overwrite_constants(void *page)
{
	size_t size = granularity();

	STEP(imply_exec());
	STEP(buffers_overwrite(page, "replaced", 8) == 0);
	STEP(is_mapped_as((uintptr_t)page, (uintptr_t)page + size, "r--p"));
	return 0;
}

/* The bytes change as a whole, in a copy of the page. */
START_TEST(overwritten_constants_do_not_become_executable)
{
	void *page = mmap(NULL, granularity(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(page, MAP_FAILED);
	SKIP_IF(!can_imply_exec(), NO_PERSONALITY);
	SKIP_IF(buffers_overwrite(page, "original", 8) != 0, "read-only memory cannot be written");
	run_child(overwrite_constants, page);
}
END_TEST

/*
 * Systems without some of the methods that read the list of mappings
 */

static char *packed;	/* 16 MiB without a gap; check_all_placements() frees one page in it */

static void map_packed(void)
{
	packed = mmap(NULL, 16 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(packed, MAP_FAILED);
}

static int check_all_placements(void)
{
	struct buffers_request request = { .size = 100, .max_address = 2 * GIB };
	struct buffers_item *item;
	size_t allocated;

	errno = 1234;
	item = buffers_get(&request);
	STEP(item);
	STEP(errno == 1234);
	STEP(buffers_append(item, "x", 1));
	buffers_release(item);
	STEP(buffers_get(&request) == item);

	item = buffers_get_near((const void *)(uintptr_t)getenv, 100);
	STEP(item);
	STEP(errno == 1234);

	/* Make the gap only now, or the library's own pages could fill it. */
	STEP(munmap(packed + 9 * MIB, (size_t)sysconf(_SC_PAGESIZE)) == 0);
	request.min_address = (uintptr_t)packed;
	request.max_address = (uintptr_t)packed + 16 * MIB;
	request.target = packed + 2 * MIB;
	item = buffers_get(&request);
	STEP(item);
	STEP(buffers_base(item) == packed + 9 * MIB);
	STEP(errno == 1234);
	STEP(!buffers_alloc(&request, &allocated));
	STEP(errno == EADDRNOTAVAIL);
	return 0;
}

static int have_no_query(void *context)
{
	(void)context;
	STEP(refuse_call(SYS_ioctl, ENOTTY));
	return check_all_placements();
}

static int have_no_descriptors(void *context)
{
	struct rlimit before = set_limit(RLIMIT_NOFILE, 0);
	int line = check_all_placements();

	(void)context;
	setrlimit(RLIMIT_NOFILE, &before);
	return line;
}

static int have_no_proc(void *context)
{
	(void)context;
	if (!hide_proc())
		return 0;
	STEP(access("/proc/self/maps", F_OK) != 0);
	return check_all_placements();
}

/* Replaces the maps file by a directory, which can be opened but not read as a file. */
static bool make_false_proc(void)
{
	if (!hide_proc())
		return false;
	if (mkdir("/proc/self", 0755) == 0 && mkdir("/proc/self/maps", 0755) == 0)
		return true;
	/* mkdir() fails in a user namespace that does not map this user. */
	printf("skipped: %s: %s\n", __func__, strerror(errno));
	return false;
}

static int have_false_proc(void *context)
{
	(void)context;
	return make_false_proc() ? check_all_placements() : 0;
}

/* A maps file that lists other memory than the program's, as under qemu-user. */
static int have_foreign_maps(void *context)
{
	FILE *list;

	(void)context;
	if (!make_false_proc())
		return 0;
	STEP(mkdir("/proc/thread-self", 0755) == 0);
	list = fopen("/proc/thread-self/maps", "w");
	STEP(list);
	STEP(fprintf(list, "10000-80000000 rwxp 00000000 00:00 0\n"
		     "%jx-%jx rwxp 00000000 00:00 0\n", (uintmax_t)(uintptr_t)packed,
		     (uintmax_t)(uintptr_t)packed + 16 * MIB) > 0);
	STEP(fclose(list) == 0);
	return check_all_placements();
}

START_TEST(without_queries_the_maps_file_is_read)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	map_packed();
	run_child(have_no_query, NULL);
}
END_TEST

START_TEST(without_descriptors_memory_is_probed)
{
	SKIP_IF(!can_probe(), NO_PROBES);
	map_packed();
	run_child(have_no_descriptors, NULL);
}
END_TEST

START_TEST(without_proc_memory_is_probed)
{
	SKIP_IF(!can_probe(), NO_PROBES);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime reads /proc itself");
	map_packed();
	run_child(have_no_proc, NULL);
	run_child(have_false_proc, NULL);
	run_child(have_foreign_maps, NULL);
}
END_TEST

/*
 * Systems without random numbers, madvise() or robust mutexes
 */

static int have_no_random_numbers(void *context)
{
	struct buffers_request request = { .size = 1 };
	uintptr_t seen[20];

	(void)context;
	STEP(refuse_call(SYS_getrandom, ENOSYS));
	for (size_t i = 0; i < 20; i++) {
		size_t allocated;

		seen[i] = (uintptr_t)buffers_alloc(&request, &allocated);
		STEP(seen[i]);
		for (size_t j = 0; j < i; j++)
			STEP(seen[i] != seen[j] && seen[i] != seen[j] + allocated);
	}
	return 0;
}

static int allocate_one(void *address)
{
	size_t allocated;

	*(void **)address = buffers_alloc(&(struct buffers_request){ .size = 1 }, &allocated);
	return 0;
}

static int fork_without_random_numbers(void *context)
{
	void **addresses = mmap(NULL, 2 * sizeof(*addresses), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)context;
	STEP(addresses != MAP_FAILED);
	STEP(refuse_call(SYS_getrandom, ENOSYS));
	run_child(allocate_one, &addresses[0]);
	run_child(allocate_one, &addresses[1]);
	STEP(addresses[0] && addresses[1] && addresses[0] != addresses[1]);
	return 0;
}

START_TEST(without_random_numbers_addresses_still_differ)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime takes much of the address space");
	run_child(have_no_random_numbers, NULL);
	run_child(fork_without_random_numbers, NULL);
}
END_TEST

static int have_no_advice(void *context)
{
	struct buffers_request request = { .size = 1 };

	(void)context;
	STEP(refuse_call(SYS_madvise, EINVAL));
	STEP(buffers_get(&request));
	return 0;
}

/* As before Linux 4.14, without MADV_WIPEONFORK: the fork handler empties the pages. */
static int fork_without_wiping(void *context)
{
	size_t buffers = 0;
	int status;
	pid_t child;

	STEP(have_no_advice(context) == 0);
	child = fork();
	if (child == 0) {
		buffers_walk(count_buffer, &buffers);
		exit(buffers ? 1 : 0);
	}
	STEP(waitpid(child, &status, 0) == child);
	STEP(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return 0;
}

START_TEST(without_wiping_a_forked_child_has_no_buffers)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime needs madvise()");
	run_child(fork_without_wiping, NULL);
}
END_TEST

static int have_no_robust_mutexes(void *error)
{
	struct buffers_request window = { .size = MIB };
	struct buffers_arena *arena;
	size_t mappings;

	STEP(refuse_call(SYS_get_robust_list, *(int *)error));
	STEP(buffers_arena_destroy(buffers_arena_create(&window, 0)) == 0);
	mappings = count_mappings(0, UINTPTR_MAX);
	errno = 0;
	arena = buffers_arena_create(&window, BUFFERS_ARENA_FORK_SHARED);
	if (*(int *)error == ENOSYS)
		STEP(!arena && errno == ENOSYS);
	else	/* a filter forbids the query, but the kernel has robust mutexes */
		STEP(arena && buffers_arena_destroy(arena) == 0);
	STEP(is_asan() || is_tsan() || count_mappings(0, UINTPTR_MAX) == mappings);
	return 0;
}

START_TEST(without_robust_mutexes_no_arena_is_shared_with_children)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	run_child(have_no_robust_mutexes, &(int){ ENOSYS });
	run_child(have_no_robust_mutexes, &(int){ EPERM });
}
END_TEST

/* Shared RX memory must stay shared: a write that succeeds only in a copy would be lost. */
static int have_no_views(void *hides_proc)
{
	struct buffers_request window = { .size = MIB };
	struct buffers_arena *arena =
		buffers_arena_create(&window, BUFFERS_RX | BUFFERS_ARENA_FORK_SHARED);
	struct buffers_item *item = buffers_arena_get(arena, 100, 1);
	char *text = item ? buffers_append(item, "before", 7) : NULL;

	STEP(text);
	if (*(bool *)hides_proc && !hide_proc())
		return 0;
	STEP(refuse_views(EINVAL));
	errno = 0;
	STEP(!buffers_append(item, "after", 6));
	STEP(errno == EACCES);
	errno = 0;
	STEP(buffers_overwrite(text, "after!", 7) == -1);
	STEP(errno == EACCES);
	STEP(memcmp(text, "before", 7) == 0);
	return 0;
}

START_TEST(without_views_shared_memory_is_not_replaced_by_a_copy)
{
	bool hides_proc = _i;

	SKIP_IF(!can_filter(), NO_FILTER);
	SKIP_IF(!has_robust_locks(), NO_ROBUST_LOCKS);
	SKIP_IF(!can_map_twice(), "shared memory cannot be mapped twice here");
	SKIP_IF(hides_proc && (is_asan() || is_tsan()),
		"the sanitizer's runtime reads /proc itself");
	run_child(have_no_views, &hides_proc);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("process/policy");
	TCase *denied = tcase_create("denied");
	TCase *blind = tcase_create("blind");
	TCase *lacking = tcase_create("lacking");

	tcase_add_test(denied, mdwe_is_eacces);
	tcase_add_test(denied, filter_is_eacces);
	tcase_add_test(denied, refusal_of_all_mappings_is_eacces_or_enomem);
	tcase_add_test(denied, rw_memory_is_not_executable_where_reading_implies_it);
	tcase_add_test(denied, rw_memory_is_eacces_where_it_would_be_executable);
	tcase_add_test(denied, memory_is_not_writable_and_executable_for_a_moment);
	tcase_add_test(denied, overwritten_constants_do_not_become_executable);
	suite_add_tcase(suite, denied);

	tcase_set_timeout(blind, 300);
	tcase_add_test(blind, without_queries_the_maps_file_is_read);
	tcase_add_test(blind, without_descriptors_memory_is_probed);
	tcase_add_test(blind, without_proc_memory_is_probed);
	suite_add_tcase(suite, blind);

	tcase_add_test(lacking, without_random_numbers_addresses_still_differ);
	tcase_add_test(lacking, without_wiping_a_forked_child_has_no_buffers);
	tcase_add_test(lacking, without_robust_mutexes_no_arena_is_shared_with_children);
	tcase_add_loop_test(lacking, without_views_shared_memory_is_not_replaced_by_a_copy, 0, 2);
	suite_add_tcase(suite, lacking);
	return run_suite(suite);
}
