/* SPDX-License-Identifier: MIT */
/* api/random.c: 100,000 random requests, checked against an independent record */

#include "config.h"
#include "support/ownership.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <stdlib.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

enum { REQUESTS = 100000, HELD = 32 };

static uint64_t seed;

static size_t random_size(void)
{
	switch (random_below(&seed, 100)) {
	case 0:
		return 1 + random_below(&seed, 256 * KIB);
	case 1:
	case 2:
		return 1 + random_below(&seed, 20 * KIB);
	default:
		return 1 + random_below(&seed, 600);
	}
}

static struct buffers_request random_request(void)
{
	static int in_the_executable;
	struct buffers_request request = { .size = random_size() };

	switch (random_below(&seed, 6)) {
	case 0:
		request.max_address = 2 * GIB;
		break;
	case 1:
		request = buffers_request_near(&in_the_executable, BUFFERS_REACH_BRANCH,
					       request.size);
		break;
	case 2:
		request = buffers_request_near((const void *)(uintptr_t)getenv, 128 * MIB,
					       request.size);
		break;
	case 3:
		request.min_address = 16 * MIB + random_below(&seed, GIB);
		request.max_address = request.min_address + 1 +
				      random_below(&seed, 64 * MIB);
		break;
	case 4:
		request.min_address = 16 * MIB + random_below(&seed, 256 * MIB);
		request.max_address = request.min_address + 1 +
				      random_below(&seed, 128 * KIB);
		request.target = (const void *)(uintptr_t)random_below(&seed, GIB);
		break;
	}
	request.alignment = (size_t)1 << random_below(&seed, 10);
	return request;
}

static bool has_room_for(const struct buffers_request *request, const struct buffers_item *item)
{
	uintptr_t next = (uintptr_t)buffers_next(item);
	uintptr_t end = (uintptr_t)buffers_base(item) + buffers_size(item);

	return next >= request->min_address && next % request->alignment == 0 &&
	       (!request->max_address || end <= request->max_address) &&
	       buffers_remaining(item) >= request->size;
}

struct uses {
	size_t used, size, buffers;
};

static int add_up(const struct buffers_info *info, void *context)
{
	struct uses *uses = context;

	uses->used += info->used;
	uses->size += info->size;
	uses->buffers++;
	return 0;
}

START_TEST(bytes_stay_unchanged_and_are_never_handed_out_twice)
{
	static struct ownership records[REQUESTS];
	struct buffers_item *held[HELD] = { NULL };
	struct uses uses = { 0 };
	size_t count = 0;
	size_t bytes = 0;
	size_t refused = 0;
	size_t requests = is_slow() ? REQUESTS / 100 : REQUESTS;

	seed = seed_random();
	for (size_t i = 0; i < requests; i++) {
		struct buffers_request request = random_request();
		struct buffers_item *item = buffers_get(&request);
		size_t slot = random_below(&seed, HELD);
		size_t size = 1 + random_below(&seed, request.size);

		if (!item) {
			ck_assert_int_eq(errno, EADDRNOTAVAIL);
			ck_assert_uint_ne(request.max_address, 0);
			refused++;
			continue;
		}
		ck_assert(has_room_for(&request, item));
		for (size_t j = 0; j < HELD; j++)
			ck_assert_ptr_ne(item, held[j]);
		ownership_fill(&records[count++], buffers_reserve(item, size, 1), size,
			       (unsigned char)next_random(&seed));
		bytes += size;
		buffers_release(held[slot]);
		held[slot] = item;
	}
	check_ownership(records, count);
	ck_assert_int_eq(buffers_walk(add_up, &uses), 0);
	ck_assert_uint_ge(uses.used, bytes);
	printf("%zu requests, %zu refused; %zu bytes in %zu buffers of %zu bytes, %zu used\n",
	       requests, refused, bytes, uses.buffers, uses.size, uses.used);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("api/random");
	TCase *all = tcase_create("random requests");

	tcase_set_tags(all, "slow");
	tcase_set_timeout(all, 600);
	tcase_add_test(all, bytes_stay_unchanged_and_are_never_handed_out_twice);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
