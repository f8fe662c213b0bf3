/* SPDX-License-Identifier: MIT */
/* support.c: what the test programs share */

#include "config.h"
#include "reloaded/buffers.h"
#include "support.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int run(Suite *suite, enum fork_status status)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	is_emulated();	/* tests may hide what tells */
	srunner_set_fork_status(runner, status);
	if (status == CK_NOFORK)	/* then Check knows no time limit */
		alarm(300);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int run_suite(Suite *suite)
{
	return run(suite, CK_FORK_GETENV);
}

int run_suite_of_functions(Suite *suite)
{
	return run(suite, is_slow() ? CK_NOFORK : CK_FORK_GETENV);
}

void skip_all(const char *why)
{
	printf("skipped: %s\n", why);
	exit(77);
}

bool is_asan(void)
{
#ifdef TESTS_ASAN
	return true;
#else
	return false;
#endif
}

bool is_tsan(void)
{
#ifdef TESTS_TSAN
	return true;
#else
	return false;
#endif
}

unsigned how_many(unsigned some, unsigned full)
{
	if (getenv("BUFFERS_TEST_FULL"))
		return full;
	return is_slow() ? (some + 29) / 30 : some;
}

bool is_coverage(void)
{
#ifdef COVERAGE
	return true;
#else
	return false;
#endif
}

struct child start_child(int (*body)(void *context), void *context)
{
	struct child child;

	child.line = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(child.line, MAP_FAILED);
	*child.line = -1;
	fflush(NULL);
	child.process = fork();
	ck_assert_int_ge(child.process, 0);
	if (child.process == 0) {
		*child.line = body(context);
		exit(*child.line != 0);	/* and not _exit(), which writes no coverage */
	}
	return child;
}

struct rlimit set_limit(unsigned resource, rlim_t soft)
{
	struct rlimit old, limit;

	ck_assert_int_eq(getrlimit(resource, &old), 0);
	limit = old;
	limit.rlim_cur = soft < old.rlim_max ? soft : old.rlim_max;
	ck_assert_int_eq(setrlimit(resource, &limit), 0);
	return old;
}

void finish_child(struct child child)
{
	int status;
	int line;

	ck_assert_int_eq(waitpid(child.process, &status, 0), child.process);
	line = *child.line;
	munmap(child.line, sizeof(int));
	ck_assert_msg(!WIFSIGNALED(status), "child killed by signal %d", WTERMSIG(status));
	ck_assert_msg(line != -1, "child exited with %d before its end", WEXITSTATUS(status));
	ck_assert_msg(line == 0, "child's step in line %d failed", line);
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}

pid_t fork_without_handlers(void)
{
#ifdef __s390x__	/* the stack comes first there */
	return (pid_t)syscall(SYS_clone, 0L, (long)SIGCHLD, 0L, 0L, 0L);
#else
	return (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
#endif
}

void run_child(int (*body)(void *context), void *context)
{
	finish_child(start_child(body, context));
}

/* Emulators answer for the first, and few know the second. */
static bool are_programs_two(void)
{
	char of_process[4096] = "";
	char of_thread[4096] = "";

	if (readlink("/proc/self/exe", of_process, sizeof(of_process) - 1) < 0 ||
	    readlink("/proc/thread-self/exe", of_thread, sizeof(of_thread) - 1) < 0)
		return false;
	return strcmp(of_process, of_thread) != 0;
}

bool is_emulated(void)
{
	enum { UNKNOWN, NO, YES };
	static int answer;	/* also where /proc is hidden later */

	if (__atomic_load_n(&answer, __ATOMIC_RELAXED) == UNKNOWN)
		__atomic_store_n(&answer, are_programs_two() ? YES : NO, __ATOMIC_RELAXED);
	return __atomic_load_n(&answer, __ATOMIC_RELAXED) == YES;
}

bool is_slow(void)
{
	return is_emulated() || getenv("BUFFERS_TEST_SLOW");
}

void give_way(void)
{
	if (is_slow())
		usleep(500);
	else
		sched_yield();
}

/* Whether the body, in a child, returns true. */
static bool child_can(bool (*body)(void))
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(!body());
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

static bool is_traced(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

bool can_trace(void)
{
	return child_can(is_traced);
}

static bool is_filtered(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog filter = { 1, &allow };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

bool can_filter(void)
{
	return child_can(is_filtered);
}

static void *map_some(int sharing)
{
	return mmap(NULL, (size_t)getpagesize(), PROT_READ | PROT_WRITE,
		    sharing | MAP_ANONYMOUS, -1, 0);
}

static bool is_memory_limited(void)
{
	struct rlimit none = { 0, 0 };

	return setrlimit(RLIMIT_AS, &none) == 0 && map_some(MAP_PRIVATE) == MAP_FAILED;
}

bool can_limit_memory(void)
{
	return child_can(is_memory_limited);
}

static char *kept;	/* of the parent */

static bool is_wiped(void)
{
	return *kept == 0;
}

bool can_wipe_on_fork(void)
{
	bool can;

	kept = map_some(MAP_PRIVATE);
	*kept = 1;
	can = madvise(kept, (size_t)getpagesize(), MADV_WIPEONFORK) == 0 && child_can(is_wiped);
	munmap(kept, (size_t)getpagesize());
	return can;
}

static pthread_mutex_t *deadly;	/* shared with children */

static bool is_lock_taken(void)
{
	return pthread_mutex_lock(deadly) == 0;
}

bool can_tell_the_dead(void)
{
	pthread_mutexattr_t attributes;
	bool can;

	deadly = map_some(MAP_SHARED);
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	can = pthread_mutex_init(deadly, &attributes) == 0 && child_can(is_lock_taken) &&
	      pthread_mutex_trylock(deadly) == EOWNERDEAD;
	if (can)
		pthread_mutex_unlock(deadly);
	munmap(deadly, (size_t)getpagesize());
	return can;
}

bool can_map_twice(void)
{
	size_t page = (size_t)getpagesize();
	void *first = map_some(MAP_SHARED);
	void *second = mremap(first, 0, page, MREMAP_MAYMOVE);
	bool can = second != MAP_FAILED;

	if (can)
		munmap(second, page);
	munmap(first, page);
	return can;
}

/* An emulator may hold all addresses that it gives to programs. */
bool can_probe(void)
{
	size_t page = (size_t)getpagesize();
	void *address = map_some(MAP_PRIVATE);

	munmap(address, page);
	return msync(address, page, MS_ASYNC) != 0;
}

/* Where an emulator's pages are larger than the kernel's, it maps what the file has. */
bool can_map_beyond_end(void)
{
	FILE *file = tmpfile();
	void *address;

	if (!file)
		return false;
	address = mmap(NULL, (size_t)getpagesize(), PROT_READ, MAP_SHARED, fileno(file), 0);
	fclose(file);
	if (address == MAP_FAILED)
		return false;
	munmap(address, (size_t)getpagesize());
	return true;
}

bool can_replace_code(void)
{
	return !is_slow() || is_emulated() || getpagesize() == 4096;
}

uint64_t seed_random(void)
{
	const char *given = getenv("BUFFERS_TEST_SEED");
	struct timespec now;
	uint64_t seed;

	if (given) {
		seed = strtoull(given, NULL, 0);
	} else {
		clock_gettime(CLOCK_REALTIME, &now);
		seed = (uint64_t)now.tv_sec * 1000003u ^ (uint64_t)now.tv_nsec;
	}
	printf("BUFFERS_TEST_SEED=%#llx\n", (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

/* splitmix64: every seed is as good as any other */
uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

size_t random_below(uint64_t *state, size_t bound)
{
	return (size_t)(next_random(state) % bound);
}

static FILE *open_maps(void)
{
	FILE *file = fopen("/proc/self/maps", "re");

	ck_assert_ptr_nonnull(file);
	return file;
}

static bool read_mapping(FILE *file, struct mapping *mapping)
{
	char line[4400];
	unsigned long long start, end;

	if (!fgets(line, sizeof(line), file))
		return false;
	*mapping = (struct mapping){ .name = "" };
	ck_assert_int_ge(sscanf(line, "%llx-%llx %4s %*s %*s %*s %63s", &start, &end,
				mapping->permissions, mapping->name), 3);
	mapping->start = (uintptr_t)start;
	mapping->end = (uintptr_t)end;
	return true;
}

size_t read_maps(struct mapping *maps, size_t most)
{
	FILE *file = open_maps();
	struct mapping mapping;
	size_t count = 0;

	while (read_mapping(file, &mapping)) {
		ck_assert_uint_lt(count, most);
		maps[count++] = mapping;
	}
	fclose(file);
	return count;
}

enum { MOST_MAPPINGS = 70000 };

static size_t all_mappings(struct mapping **maps)
{
	*maps = calloc(MOST_MAPPINGS, sizeof(**maps));
	ck_assert_ptr_nonnull(*maps);
	return read_maps(*maps, MOST_MAPPINGS);
}

/* Emulators list neighbours as one, with the permissions of the first. */
static bool are_permissions_told(void)
{
	return !is_emulated();
}

bool is_mapped_as(uintptr_t start, uintptr_t end, const char *permissions)
{
	struct mapping *maps;
	size_t count = all_mappings(&maps);

	for (size_t i = 0; i < count && start < end; i++) {
		if (maps[i].start > start || maps[i].end <= start)
			continue;
		if (permissions && are_permissions_told() && strcmp(maps[i].permissions, permissions) != 0)
			break;
		start = maps[i].end;
	}
	free(maps);
	return start >= end;
}

/* Without a list in memory, which would be counted, or not where it joins a neighbour. */
size_t count_mappings(uintptr_t start, uintptr_t end)
{
	FILE *file = open_maps();
	struct mapping mapping;
	size_t meeting = 0;

	while (read_mapping(file, &mapping))
		meeting += mapping.start < end && start < mapping.end;
	fclose(file);
	return meeting;
}

bool is_unused_rest(const struct buffers_info *info)
{
	uintptr_t base = (uintptr_t)info->base;
	uintptr_t page = base & ~((uintptr_t)getpagesize() - 1);

	/* a locator begins with its own address */
	return info->used == 0 && !info->taken && base != page && *(uintptr_t *)page == page;
}
