/* SPDX-License-Identifier: MIT */
/* support.c: what the test programs share */

#include "config.h"
#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int run_suite(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
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
	return getenv("BUFFERS_TEST_FULL") ? full : some;
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

struct rlimit set_limit(unsigned resource, unsigned long soft)
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

void run_child(int (*body)(void *context), void *context)
{
	finish_child(start_child(body, context));
}

bool can_trace(void)
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0);
	return waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
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

uint64_t random_below(uint64_t *state, uint64_t bound)
{
	return next_random(state) % bound;
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

bool is_mapped_as(uintptr_t start, uintptr_t end, const char *permissions)
{
	struct mapping *maps;
	size_t count = all_mappings(&maps);

	for (size_t i = 0; i < count && start < end; i++) {
		if (maps[i].start > start || maps[i].end <= start)
			continue;
		if (permissions && strcmp(maps[i].permissions, permissions) != 0)
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
