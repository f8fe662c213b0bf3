/* SPDX-License-Identifier: MIT */
/* support.c: functions for all test programs */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/code.h"
#include "support/support.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void skip_all(const char *reason)
{
	printf("skipped: %s\n", reason);
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

bool is_coverage(void)
{
#ifdef COVERAGE
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

bool is_slow(void)
{
	return is_emulated() || getenv("BUFFERS_TEST_SLOW");
}

bool returns_number(const void *code, uint32_t number)
{
	return !can_replace_code() || call_code(code) == number;
}

void yield_cpu(void)
{
	if (is_slow())
		usleep(500);
	else
		sched_yield();
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

/* splitmix64, which accepts any seed */
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

enum { MAX_MAPPINGS = 70000 };

static size_t all_mappings(struct mapping **maps)
{
	*maps = calloc(MAX_MAPPINGS, sizeof(**maps));
	ck_assert_ptr_nonnull(*maps);
	return read_maps(*maps, MAX_MAPPINGS);
}

/* Emulators merge neighbours in the list, with the permissions of the first. */
static bool are_permissions_listed(void)
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
		if (permissions && are_permissions_listed() &&
		    strcmp(maps[i].permissions, permissions) != 0)
			break;
		start = maps[i].end;
	}
	free(maps);
	return start >= end;
}

static bool has_candidate(uintptr_t start, uintptr_t end, size_t size, size_t alignment)
{
	uintptr_t candidate;

	if (alignment < granularity())
		alignment = granularity();
	candidate = (start + alignment - 1) & ~(uintptr_t)(alignment - 1);
	return start <= candidate && candidate < end && end - candidate >= size;
}

bool is_any_candidate_left(size_t size, size_t alignment)
{
	uintptr_t start = 0x10000;
	bool is_left = false;
	struct mapping *maps;
	size_t count = all_mappings(&maps);

	for (size_t i = 0; i < count && !is_left; i++) {
		is_left = has_candidate(start, maps[i].start, size, alignment);
		start = maps[i].end;
	}
	free(maps);
	return is_left || has_candidate(start, end_of_addresses(), size, alignment);
}

bool is_rest_of_locator_page(const struct buffers_info *info)
{
	uintptr_t base = (uintptr_t)info->base;
	uintptr_t page = base & ~(uintptr_t)(granularity() - 1);

	/* A locator begins with its own address. */
	return info->used == 0 && !info->taken && base != page && *(uintptr_t *)page == page;
}
