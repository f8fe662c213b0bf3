/* SPDX-License-Identifier: MIT */
/* random.c: random requests, compared with the free blocks that VirtualQuery() reports */

#include "config.h"
#include "support/regions.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * The part of the address space that the requests ask for.  It is free at first, so it
 * contains only mappings of the test and of the library.
 */
enum { BLOCKS = 1024 };
static uintptr_t area;

/* The test's own record of the mappings in the area. */
struct held {
	uintptr_t start;
	size_t size;
	unsigned char byte;	/* content of all its bytes */
	bool is_obstacle;	/* mapped by the test, not by the library */
};
enum { MOST_HELD = 256 };
static struct held held[MOST_HELD];
static unsigned held_count;
static bool is_used[BLOCKS];

static const unsigned kinds[] = { 0, BUFFERS_RW, BUFFERS_RX };

static void set_used(uintptr_t start, size_t size, bool is)
{
	for (size_t i = 0; i < size / BLOCK; i++) {
		size_t block = (start - area) / BLOCK + i;

		ck_assert_uint_lt(block, BLOCKS);
		ck_assert(is_used[block] != is);
		is_used[block] = is;
	}
}

static void hold(uintptr_t start, size_t size, unsigned char byte, bool is_obstacle)
{
	ck_assert_uint_lt(held_count, MOST_HELD);
	set_used(start, size, true);
	held[held_count++] = (struct held){ start, size, byte, is_obstacle };
}

static void check_bytes(const struct held *one)
{
	const unsigned char *bytes = (const unsigned char *)one->start;

	if (one->is_obstacle)
		return;
	for (size_t at = 0; at < one->size; at += PAGE)
		ck_assert_uint_eq(bytes[at], one->byte);
	ck_assert_uint_eq(bytes[one->size - 1], one->byte);
}

static void free_held(unsigned i)
{
	struct held one = held[i];

	check_bytes(&one);
	if (one.is_obstacle)
		release_memory((void *)one.start);
	else
		ck_assert_int_eq(buffers_free((void *)one.start, one.size), 0);
	set_used(one.start, one.size, false);
	held[i] = held[--held_count];
}

/*
 * Candidates, found by trying each block
 */

static bool is_candidate(uintptr_t start, size_t size, const struct buffers_request *request)
{
	if (start < request->min_address || start + size > request->max_address ||
	    (request->alignment && start % request->alignment))
		return false;
	for (size_t i = 0; i < size / BLOCK; i++)
		if (is_used[(start - area) / BLOCK + i])
			return false;
	return true;
}

static size_t distance_from(uintptr_t start, size_t size, uintptr_t target)
{
	if (start > target)
		return start - target;
	return target > start + size ? target - start - size : 0;
}

struct best {
	bool exists;
	size_t distance;
};

static struct best find_best(const struct buffers_request *request, size_t size)
{
	struct best best = { false, SIZE_MAX };

	for (unsigned i = 0; i + size / BLOCK <= BLOCKS; i++) {
		uintptr_t start = area + i * BLOCK;
		size_t from = distance_from(start, size, (uintptr_t)request->target);

		if (is_candidate(start, size, request) && (!best.exists || from < best.distance))
			best = (struct best){ true, from };
	}
	return best;
}

/* Compares the record with the report of the system. */
static void check_record(void)
{
	struct region region = { 0 };

	for (unsigned i = 0; i < BLOCKS; i++) {
		uintptr_t block = area + i * BLOCK;

		if (block >= region.end)
			region = region_at(block);
		ck_assert_msg(is_used[i] == (region.state != MEM_FREE), "block %u", i);
	}
}

/*
 * Requests
 */

static struct buffers_request draw_request(uint64_t *random)
{
	uintptr_t one = area + random_below(random, BLOCKS * BLOCK);
	uintptr_t two = area + random_below(random, BLOCKS * BLOCK);
	struct buffers_request request = {
		.min_address = one < two ? one : two,
		.max_address = (one < two ? two : one) + 1,
		.size = 1 + random_below(random, random_below(random, 4) ? 4 * BLOCK : 64 * BLOCK),
		.alignment = random_below(random, 2) ? 0 : (size_t)1 << random_below(random, 22),
		.flags = kinds[random_below(random, 3)],
	};

	if (random_below(random, 4))	/* otherwise no target */
		request.target = (void *)(area + random_below(random, BLOCKS * BLOCK));
	return request;
}

static void check_refusal(const struct buffers_request *request, size_t size, size_t allocated)
{
	ck_assert_int_eq(errno, EADDRNOTAVAIL);
	ck_assert_uint_eq(allocated, 4711);
	ck_assert_msg(!find_best(request, size).exists, "%zu bytes are free in %zx-%zx", size,
		      (size_t)request->min_address, (size_t)request->max_address);
}

/* The library measures distances from the block of the target, hence the tolerance. */
static void check_success(const struct buffers_request *request, uintptr_t start, size_t size)
{
	struct best best = find_best(request, size);

	ck_assert(is_candidate(start, size, request));
	if (request->target)
		ck_assert_uint_lt(distance_from(start, size, (uintptr_t)request->target),
				  best.distance + BLOCK);
}

static void fill_bytes(uintptr_t start, size_t size, unsigned char byte)
{
	static unsigned char bytes[64 * BLOCK];

	for (size_t at = 0; at < size; at += PAGE)
		ck_assert_uint_eq(*(unsigned char *)(start + at), 0);
	memset(bytes, byte, size);
	ck_assert_int_eq(buffers_overwrite((void *)start, bytes, size), 0);
}

static bool try_request(uint64_t *random)
{
	struct buffers_request request = draw_request(random);
	size_t size = (request.size + BLOCK - 1) & ~(BLOCK - 1), allocated = 4711;
	unsigned char byte = (unsigned char)(1 + random_below(random, 255));
	void *memory;

	memory = buffers_alloc(&request, &allocated);
	if (!memory) {
		check_refusal(&request, size, allocated);
		return false;
	}
	ck_assert_uint_eq(allocated, size);
	check_success(&request, (uintptr_t)memory, size);
	hold((uintptr_t)memory, size, byte, false);
	fill_bytes((uintptr_t)memory, size, byte);
	return true;
}

/* Reserves a part of a block, or all of it. */
static void add_obstacle(uint64_t *random)
{
	uintptr_t start = area + random_below(random, BLOCKS) * BLOCK;

	if (is_used[(start - area) / BLOCK])
		return;
	reserve_at(start, PAGE + random_below(random, BLOCK - PAGE));
	hold(start, BLOCK, 0, true);
}

/* Keeps obstacles: the library does not notice when other code frees memory. */
static void free_one(uint64_t *random)
{
	unsigned which = (unsigned)random_below(random, held_count);

	if (!held[which].is_obstacle)
		free_held(which);
}

START_TEST(allocations_are_in_the_range_free_and_nearest)
{
	uint64_t random = seed_random();
	unsigned requests = how_many(10000, 100000), successes = 0;

	area = unused_address(BLOCKS * BLOCK);
	for (unsigned i = 0; i < 40; i++)
		add_obstacle(&random);
	for (unsigned i = 0; i < requests; i++) {
		successes += try_request(&random);
		for (unsigned j = 0; j < held_count && i % 16 == 0; j++)
			check_bytes(&held[j]);
		if (i % 64 == 0)
			check_record();
		while (held_count > MOST_HELD - 8 || random_below(&random, 5) < 2)
			free_one(&random);
	}
	check_record();
	printf("%u requests, %u successes\n", requests, successes);
	ck_assert_uint_gt(successes, requests / 4);
	ck_assert_uint_lt(successes, requests);
}
END_TEST

/*
 * Items
 */

enum { PIECES = 10000, MOST_PIECE = 600 };

struct piece {
	unsigned char *start;
	unsigned size;
	unsigned char byte;
};
static struct piece pieces[PIECES];

static int compare_pieces(const void *one, const void *two)
{
	const struct piece *a = one, *b = two;

	return a->start < b->start ? -1 : a->start > b->start;
}

static struct piece append_some(uint64_t *random)
{
	struct buffers_request request = draw_request(random);
	unsigned size = 1 + (unsigned)random_below(random, MOST_PIECE);
	struct piece piece = { NULL, size, (unsigned char)(1 + random_below(random, 255)) };
	unsigned char bytes[MOST_PIECE];
	struct buffers_item *item;

	request.size = size;
	request.alignment = request.alignment > 4096 ? 16 : request.alignment;
	memset(bytes, piece.byte, size);
	item = buffers_get(&request);
	if (!item) {
		ck_assert_int_eq(errno, EADDRNOTAVAIL);
		return piece;
	}
	ck_assert_uint_ge((uintptr_t)buffers_next(item), request.min_address);
	ck_assert_uint_le((uintptr_t)buffers_next(item) + buffers_remaining(item),
			  request.max_address);
	ck_assert_uint_ge(buffers_remaining(item), size);
	if (request.alignment)
		ck_assert_uint_eq((uintptr_t)buffers_next(item) % request.alignment, 0);
	piece.start = buffers_append(item, bytes, size);
	ck_assert_ptr_nonnull(piece.start);
	buffers_release(item);
	return piece;
}

START_TEST(bytes_are_handed_out_once_and_never_change)
{
	uint64_t random = seed_random();
	unsigned requests = how_many(PIECES, PIECES), count = 0;

	area = unused_address(BLOCKS * BLOCK);
	for (unsigned i = 0; i < requests; i++) {
		pieces[count] = append_some(&random);
		count += pieces[count].start != NULL;
	}
	qsort(pieces, count, sizeof(pieces[0]), compare_pieces);
	for (unsigned i = 0; i < count; i++) {
		if (i)
			ck_assert(pieces[i - 1].start + pieces[i - 1].size <= pieces[i].start);
		for (unsigned j = 0; j < pieces[i].size; j++)
			ck_assert_uint_eq(pieces[i].start[j], pieces[i].byte);
	}
	printf("%u requests, %u successes\n", requests, count);
	ck_assert_uint_gt(count, requests / 2);
}
END_TEST

/* In the whole address space, checks only that the memory is in the range and new. */
START_TEST(allocations_anywhere_are_in_the_range_and_new)
{
	uint64_t random = seed_random();
	uintptr_t limit = limit_of_addresses();

	for (unsigned i = 0; i < how_many(500, 5000); i++) {
		uintptr_t one = (uintptr_t)next_random(&random) % limit;
		uintptr_t two = (uintptr_t)next_random(&random) % limit;
		struct buffers_request request = {
			.min_address = one < two ? one : two,
			.max_address = (one < two ? two : one) + 1,
			.target = (void *)((uintptr_t)next_random(&random) % limit),
			.size = 1 + random_below(&random, 16 * BLOCK),
			.flags = kinds[random_below(&random, 3)],
		};
		size_t size;
		void *memory = buffers_alloc(&request, &size);

		if (!memory) {
			ck_assert_int_eq(errno, EADDRNOTAVAIL);
			ck_assert_uint_lt(request.max_address - request.min_address, 512 * MIB);
			continue;
		}
		ck_assert_uint_ge((uintptr_t)memory, request.min_address);
		ck_assert_uint_le((uintptr_t)memory + size, request.max_address);
		ck_assert_uint_eq(region_at((uintptr_t)memory).allocation, (uintptr_t)memory);
		ck_assert_uint_eq(end_of_allocation((uintptr_t)memory), (uintptr_t)memory + size);
		if (random_below(&random, 4))
			ck_assert_int_eq(buffers_free(memory, size), 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("windows/random");
	TCase *all = tcase_create("all");

	tcase_add_test(all, allocations_are_in_the_range_free_and_nearest);
	tcase_add_test(all, bytes_are_handed_out_once_and_never_change);
	tcase_add_test(all, allocations_anywhere_are_in_the_range_and_new);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
