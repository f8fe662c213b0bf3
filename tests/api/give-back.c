/* SPDX-License-Identifier: MIT */
/* api/give-back.c: room that was given back serves later requests */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/copies.h"
#include "support/kinds.h"
#include "support/support.h"

#include <errno.h>
#include <string.h>

/* Every test runs with shared buffers and with a private arena, of each kind. */
enum { SHARED_BUFFERS, ARENA, PLACES, LOOPS = PLACES * KINDS };

struct place {
	const struct kind *kind;
	struct buffers_arena *arena;	/* or NULL */
};

static struct place place_of(int loop)
{
	struct buffers_request window = { .size = 16 * MIB };
	struct place place = { .kind = &kinds[loop % KINDS] };

	if (loop / KINDS == ARENA) {
		place.arena = buffers_arena_create(&window, place.kind->flags);
		ck_assert_ptr_nonnull(place.arena);
	}
	return place;
}

static struct buffers_item *get(const struct place *place, size_t size, size_t alignment)
{
	struct buffers_request request = {
		.size = size, .alignment = alignment, .flags = place->kind->flags,
	};
	struct buffers_item *item = place->arena ?
		buffers_arena_get(place->arena, size, alignment) : buffers_get(&request);

	ck_assert_ptr_nonnull(item);
	return item;
}

/* Takes a piece and fills it. */
static unsigned char *take(const struct place *place, size_t size, size_t alignment)
{
	static unsigned char bytes[256 * 1024];
	struct buffers_item *item = get(place, size, alignment);
	unsigned char *piece;

	memset(bytes, 0xaa, size);
	piece = buffers_append(item, bytes, size);
	ck_assert_ptr_nonnull(piece);
	buffers_release(item);
	return piece;
}

/* Asserts that giving back fails for this reason, and that it succeeds. */
static void refuse(void *address, size_t size, int reason)
{
	errno = 0;
	ck_assert_int_eq(buffers_give_back(address, size), -1);
	ck_assert_int_eq(errno, reason);
}

static void give_back(void *address, size_t size)
{
	errno = 7;
	ck_assert_int_eq(buffers_give_back(address, size), 0);
	ck_assert_int_eq(errno, 7);
}

static bool is_zero(const unsigned char *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i])
			return false;
	return true;
}

/* Asserts that the next item of this size is the room at `address`, cleared. */
static struct buffers_item *expect(const struct place *place, size_t size, void *address,
				   size_t room)
{
	struct buffers_item *item = get(place, size, 1);

	ck_assert_ptr_eq(buffers_next(item), address);
	ck_assert_ptr_eq(buffers_base(item), address);
	ck_assert_uint_eq(buffers_remaining(item), room);
	ck_assert_uint_eq(buffers_size(item), room);
	ck_assert(is_zero(address, room));
	return item;
}

START_TEST(next_request_gets_the_room)
{
	struct place place = place_of(_i);
	unsigned char *piece = take(&place, 64, 1);
	unsigned char *neighbour = take(&place, 64, 1);
	struct buffers_item *item;

	give_back(piece, 64);
	item = expect(&place, 64, piece, 64);
	ck_assert_ptr_eq(buffers_append(item, "new", 3), piece);
	ck_assert_int_eq(memcmp(piece, "new", 3), 0);
	ck_assert_uint_eq(buffers_remaining(item), 61);
	buffers_release(item);
	ck_assert(neighbour[0] == 0xaa && neighbour[63] == 0xaa);
	buffers_release(expect(&place, 61, piece + 3, 61));	/* what the holder left */
	ck_assert_int_eq(memcmp(piece, "new", 3), 0);
}
END_TEST

START_TEST(smallest_stretch_that_suits_is_taken)
{
	static const size_t sizes[] = { 300, 40, 1000, 41, 90 };
	struct place place = place_of(_i);
	unsigned char *pieces[5];

	for (unsigned i = 0; i < 5; i++) {
		pieces[i] = take(&place, sizes[i], 1);
		take(&place, 1, 1);
	}
	for (unsigned i = 0; i < 5; i++)
		give_back(pieces[i], sizes[i]);
	expect(&place, 40, pieces[1], 40);
	expect(&place, 40, pieces[3], 41);
	expect(&place, 40, pieces[4], 90);
	expect(&place, 301, pieces[2], 1000);
	expect(&place, 40, pieces[0], 300);
}
END_TEST

START_TEST(adjacent_stretches_merge)
{
	static const unsigned orders[][4] = {
		{ 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 0, 2, 1, 3 }, { 1, 3, 2, 0 }, { 0, 3, 1, 2 },
	};
	struct place place = place_of(_i);

	for (unsigned order = 0; order < 5; order++) {
		unsigned char *pieces = take(&place, 400, 1);

		take(&place, 1, 1);
		for (unsigned i = 0; i < 4; i++)
			give_back(pieces + 100 * orders[order][i], 100);
		buffers_release(expect(&place, 400, pieces, 400));
		ck_assert_ptr_eq(take(&place, 400, 1), pieces);
		if (order == 4)
			give_back(pieces, 400);
	}
}
END_TEST

START_TEST(alignment_takes_no_room)
{
	struct place place = place_of(_i);
	unsigned char *piece = take(&place, 256, 64);
	struct buffers_item *item;

	take(&place, 1, 1);
	give_back(piece + 1, 255);
	item = get(&place, 64, 64);
	ck_assert_ptr_eq(buffers_next(item), piece + 64);
	ck_assert_uint_eq(buffers_remaining(item), 192);
	buffers_release(expect(&place, 63, piece + 1, 63));
	buffers_release(item);
	expect(&place, 255, piece + 1, 255);
}
END_TEST

START_TEST(bytes_that_a_request_skips_are_room)
{
	struct place place = place_of(_i);
	unsigned char *first = take(&place, 4, 1);
	unsigned char *second = take(&place, 1, 1);
	unsigned char *aligned;

	give_back(first, 4);
	aligned = take(&place, 64, 512);
	ck_assert_uint_gt((size_t)(aligned - second), 8);
	buffers_release(expect(&place, 5, second + 1, (size_t)(aligned - second) - 1));
	give_back(second, 1);
	give_back(aligned, 64);
	expect(&place, 64, first, (size_t)(aligned - first) + 64);
}
END_TEST

START_TEST(range_limits_the_room)
{
	const struct kind *kind = &kinds[_i];
	struct place place = { .kind = kind };
	unsigned char *piece = take(&place, 1000, 1);
	struct buffers_request request = {
		.min_address = (uintptr_t)piece + 100, .max_address = (uintptr_t)piece + 200,
		.size = 100, .flags = kind->flags,
	};
	struct buffers_item *item;

	take(&place, 1, 1);
	give_back(piece, 1000);
	item = buffers_get(&request);
	ck_assert_ptr_nonnull(item);
	ck_assert_ptr_eq(buffers_next(item), piece + 100);
	ck_assert_uint_eq(buffers_remaining(item), 100);
	buffers_release(expect(&place, 101, piece + 200, 800));
	buffers_release(item);
	expect(&place, 1000, piece, 1000);
}
END_TEST

START_TEST(room_that_is_not_in_use_is_refused)
{
	struct place place = place_of(_i);
	unsigned char *piece = take(&place, 100, 1);
	unsigned char *behind = take(&place, 1, 1);
	struct buffers_item *item;
	size_t allocated;
	char own[64];

	refuse(NULL, 1, EINVAL);
	refuse(own, sizeof(own), EINVAL);
	refuse((void *)(uintptr_t)refuse, 16, EINVAL);
	refuse(buffers_alloc(&(struct buffers_request){ .size = 1 }, &allocated), 1, EINVAL);
	refuse(piece, 0, EINVAL);
	refuse(piece, SIZE_MAX, EINVAL);
	refuse(piece, SIZE_MAX - (uintptr_t)piece, EINVAL);
	refuse(behind + 1, 1, EINVAL);		/* never taken */
	refuse(behind, 2, EINVAL);
	give_back(piece + 20, 60);
	refuse(piece + 20, 60, EINVAL);		/* twice */
	refuse(piece, 100, EINVAL);		/* partly twice */
	refuse(piece, 21, EINVAL);
	refuse(piece + 79, 21, EINVAL);
	refuse(piece + 50, 1, EINVAL);
	item = expect(&place, 60, piece + 20, 60);
	refuse(piece + 20, 1, EINVAL);		/* handed out, but not taken */
	ck_assert_ptr_eq(buffers_reserve(item, 10, 1), piece + 20);
	refuse(piece + 20, 11, EINVAL);
	give_back(piece + 20, 10);		/* the holder may do that */
	refuse(piece + 20, 1, EINVAL);
	buffers_release(item);
	expect(&place, 60, piece + 20, 60);
}
END_TEST

START_TEST(parts_of_pieces_and_several_pieces_are_accepted)
{
	struct place place = place_of(_i);
	struct buffers_item *item = get(&place, 300, 1);
	unsigned char *piece = buffers_reserve(item, 100, 1);

	ck_assert_ptr_eq(buffers_reserve(item, 100, 1), piece + 100);
	ck_assert_ptr_eq(buffers_reserve(item, 100, 1), piece + 200);
	give_back(piece + 50, 200);
	buffers_release(expect(&place, 200, piece + 50, 200));
	give_back(piece + 250, 1);
	buffers_release(expect(&place, 201, piece + 50, 201));
	buffers_release(item);
}
END_TEST

/* The holder has used all room of an item, and returns it before it releases the item. */
START_TEST(holder_returns_room_before_the_item)
{
	struct place place = place_of(_i);
	unsigned char *piece = take(&place, 64, 1);
	struct buffers_item *items[3];

	take(&place, 1, 1);
	for (unsigned i = 0; i < 3; i++) {
		give_back(piece, 64);
		items[i] = expect(&place, 64, piece, 64);
		ck_assert_ptr_eq(buffers_reserve(items[i], 64, 1), piece);
	}
	give_back(piece, 32);
	give_back(piece + 32, 32);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(buffers_remaining(items[i]), 0);
		buffers_release(items[i]);
	}
	expect(&place, 64, piece, 64);
}
END_TEST

START_TEST(memory_stays_level)
{
	struct place place = place_of(_i);
	unsigned char *first = take(&place, 64, 1);

	give_back(first, 64);
	for (unsigned i = how_many(500, 200000); i--;) {
		unsigned char *piece = take(&place, 64, 1);

		ck_assert_ptr_eq(piece, first);
		give_back(piece, 64);
	}
}
END_TEST

#define NOT_DISCARDED "the memory of a process is not reported, or not that of this kind"
static bool are_discarded(const struct place *place)
{
	return CAN_FORK && !is_emulated() && !is_asan() && !is_tsan() && resident_bytes() != 0 &&
	       place->kind->flags != BUFFERS_RX;
}

START_TEST(whole_pages_return_to_the_system)
{
	enum { MANY = 40 };
	struct place place = place_of(_i);
	unsigned char *pieces[MANY];
	size_t before;

	SKIP_IF(!are_discarded(&place), NOT_DISCARDED);
	use_small_pages();
	for (unsigned i = 0; i < MANY; i++)
		pieces[i] = take(&place, 256 * KIB, 1);
	before = resident_bytes();
	for (unsigned i = 0; i < MANY; i++)
		give_back(pieces[i], 256 * KIB);
	ck_assert_uint_le(resident_bytes() + MANY * 200 * KIB, before);
	ck_assert(is_zero(pieces[7], 256 * KIB));
}
END_TEST

/* A few pages may stay. */
START_TEST(pages_that_become_free_bit_by_bit_return)
{
	enum { PIECE = 512 };
	struct place place = place_of(_i);
	unsigned char *piece = take(&place, 256 * KIB, 1);
	size_t before;

	SKIP_IF(!are_discarded(&place), NOT_DISCARDED);
	SKIP_IF(PAGE > 4 * KIB, "pages are too large");
	use_small_pages();
	before = resident_bytes();
	for (size_t i = 0; i < 256 * KIB / PIECE; i++)
		give_back(piece + i * PIECE, PIECE);
	ck_assert_uint_le(resident_bytes() + 128 * KIB, before);
	buffers_release(expect(&place, 256 * KIB, piece, 256 * KIB));
}
END_TEST

/* Pieces that lie across pages: half of them complete the pages at both ends. */
START_TEST(pages_at_both_ends_return)
{
	enum { MANY = 63, HALF = 2 * KIB, PIECE = 2 * HALF };
	struct place place = place_of(_i);
	unsigned char *room;
	size_t before;

	SKIP_IF(!are_discarded(&place), NOT_DISCARDED);
	SKIP_IF(PAGE > 4 * KIB, "pages are too large");
	use_small_pages();
	room = take(&place, (MANY + 1) * PIECE, PIECE) + HALF;
	before = resident_bytes();
	for (size_t i = 0; i < MANY; i += 2)
		give_back(room + i * PIECE, PIECE);
	for (size_t i = 1; i < MANY; i += 2)
		give_back(room + i * PIECE, PIECE);
	ck_assert_uint_le(resident_bytes() + MANY * PIECE * 3 / 4, before);
}
END_TEST

/* Shared buffers only: buffers_walk() does not visit arenas. */
struct tally {
	const unsigned char *piece;
	struct buffers_info info;
};

static int find_buffer(const struct buffers_info *info, void *context)
{
	struct tally *tally = context;

	if ((uintptr_t)tally->piece - (uintptr_t)info->base < info->size)
		tally->info = *info;
	return 0;
}

static void check_walk(const unsigned char *piece, size_t used, size_t given_back)
{
	struct tally tally = { .piece = piece };

	ck_assert_int_eq(buffers_walk(find_buffer, &tally), 0);
	ck_assert_uint_eq(tally.info.used, used);
	ck_assert_uint_eq(tally.info.given_back, given_back);
}

START_TEST(walk_reports_the_room)
{
	struct place place = { .kind = &kinds[_i] };
	unsigned char *piece = take(&place, 1000, 1);
	struct tally tally = { .piece = piece };
	struct buffers_item *item;

	ck_assert_int_eq(buffers_walk(find_buffer, &tally), 0);
	ck_assert_uint_eq(tally.info.given_back, 0);
	give_back(piece + 100, 200);
	give_back(piece + 400, 50);
	check_walk(piece, tally.info.used, 250);
	item = expect(&place, 150, piece + 100, 200);
	ck_assert_ptr_nonnull(buffers_reserve(item, 150, 1));
	check_walk(piece, tally.info.used, 100);
	buffers_release(item);
	check_walk(piece, tally.info.used, 100);
}
END_TEST

/*
 * A range that two buffers fill
 */

#define BUFFER (64 * KIB)

/* Gives room back first: the library then has all pages for itself that it needs. */
static struct buffers_request request_for_two_buffers(const struct kind *kind)
{
	struct place place = { .kind = kind };
	struct buffers_request request = { .size = 2 * BUFFER, .alignment = BUFFER };
	size_t allocated;
	void *start;

	give_back(take(&place, 1, 1), 1);
	start = buffers_alloc(&request, &allocated);
	ck_assert_ptr_nonnull(start);
	ck_assert_int_eq(buffers_free(start, allocated), 0);
	return (struct buffers_request){
		.min_address = (uintptr_t)start, .max_address = (uintptr_t)start + 2 * BUFFER,
		.target = start, .size = BUFFER, .flags = kind->flags,
	};
}

struct sum {
	const struct buffers_request *range;
	struct buffers_info info;
};

static int add_buffer(const struct buffers_info *info, void *context)
{
	struct sum *sum = context;

	if ((uintptr_t)info->base - sum->range->min_address < 2 * BUFFER) {
		sum->info.size += info->size;
		sum->info.used += info->used;
		sum->info.given_back += info->given_back;
	}
	return 0;
}

START_TEST(new_buffer_joins_the_room_beside_it)
{
	struct buffers_request request = request_for_two_buffers(&kinds[_i]);
	struct sum sum = { .range = &request };
	struct buffers_item *item = buffers_get(&request);
	char *piece;

	ck_assert_ptr_nonnull(item);
	piece = buffers_reserve(item, BUFFER, 1);
	ck_assert_ptr_nonnull(piece);
	buffers_release(item);
	ck_assert_uint_eq((uintptr_t)piece, request.min_address);
	give_back(piece + BUFFER - 100, 100);
	request.size = BUFFER - 1000;
	item = buffers_get(&request);
	ck_assert_ptr_nonnull(item);
	buffers_release(item);
	ck_assert_int_eq(buffers_walk(add_buffer, &sum), 0);
	ck_assert_uint_eq(sum.info.size, 2 * BUFFER);
	ck_assert_uint_eq(sum.info.used, 2 * BUFFER);
	ck_assert_uint_eq(sum.info.given_back, BUFFER + 100);
}
END_TEST

START_TEST(kinds_stay_apart)
{
	struct place places[KINDS];
	unsigned char *pieces[KINDS];

	for (unsigned i = 0; i < KINDS; i++) {
		places[i] = (struct place){ .kind = &kinds[i] };
		pieces[i] = take(&places[i], 64, 1);
		take(&places[i], 1, 1);
	}
	for (unsigned i = 0; i < KINDS; i++)
		give_back(pieces[i], 64);
	for (unsigned i = 0; i < KINDS; i++)
		expect(&places[i], 64, pieces[i], 64);
}
END_TEST

START_TEST(arenas_keep_their_room)
{
	struct place one = place_of(_i + KINDS), two = place_of(_i + KINDS);
	struct place shared = { .kind = &kinds[_i] };
	unsigned char *piece = take(&one, 64, 1);
	struct buffers_item *item;

	take(&one, 1, 1);
	give_back(piece, 64);
	ck_assert_ptr_ne(take(&two, 64, 1), piece);
	ck_assert_ptr_ne(take(&shared, 64, 1), piece);
	item = expect(&one, 64, piece, 64);
	ck_assert_int_eq(buffers_arena_destroy(one.arena), -1);
	ck_assert_int_eq(errno, EINVAL);
	buffers_release(item);
	ck_assert_int_eq(buffers_arena_destroy(one.arena), 0);
	refuse(piece, 64, EINVAL);
	ck_assert_int_eq(buffers_arena_destroy(two.arena), 0);
}
END_TEST

/* A full arena has what was given back. */
START_TEST(full_arena_serves_given_room)
{
	struct buffers_request window = { .size = 256 * KIB };
	struct place place = { .kind = &kinds[_i] };
	unsigned char *pieces[1000];
	struct buffers_item *item;
	unsigned count = 0;

	place.arena = buffers_arena_create(&window, place.kind->flags);
	ck_assert_ptr_nonnull(place.arena);
	while (count < 1000 && (item = buffers_arena_get(place.arena, 1000, 1))) {
		pieces[count++] = buffers_reserve(item, 1000, 1);
		buffers_release(item);
	}
	ck_assert_int_eq(errno, ENOSPC);
	for (unsigned i = 0; i < count; i++)
		give_back(pieces[i], 1000);
	for (unsigned i = 0; i < count; i++)
		take(&place, 1000, 1);
	ck_assert_int_eq(buffers_arena_destroy(place.arena), 0);
}
END_TEST

/* Bytes that were skipped for an alignment are not committed before an item there is used. */
START_TEST(reserved_memory_joins_no_room)
{
	struct buffers_request window = { .size = 256 * PAGE, .alignment = 256 * PAGE };
	struct place place = { .kind = &kinds[_i] };
	struct buffers_item *first, *item, *next;
	unsigned char *start;

	place.arena = buffers_arena_create(&window, place.kind->flags);
	ck_assert_ptr_nonnull(place.arena);
	first = get(&place, 12 * PAGE, 1);
	start = buffers_reserve(first, buffers_remaining(first), 1);
	buffers_release(first);
	buffers_release(get(&place, 1, 32 * PAGE));
	give_back(start, 12 * PAGE);
	item = get(&place, 21 * PAGE, 1);
	next = get(&place, 6 * PAGE, 1);
	ck_assert(is_zero(buffers_next(item), 21 * PAGE));
	ck_assert(is_zero(buffers_next(next), 6 * PAGE));
	buffers_release(item);
	buffers_release(next);
	ck_assert_int_eq(buffers_arena_destroy(place.arena), 0);
}
END_TEST

START_TEST(shared_arena_is_enosys)
{
	struct buffers_request window = { .size = MIB };
	struct place place = { .kind = &kinds[_i] };
	unsigned char *piece;

	SKIP_IF(!has_robust_locks(), NO_ROBUST_LOCKS);
	place.arena = buffers_arena_create(&window,
					   BUFFERS_ARENA_FORK_SHARED | place.kind->flags);
	ck_assert_ptr_nonnull(place.arena);
	SKIP_IF(place.kind->flags == BUFFERS_RX && !can_map_twice(),
		"shared RX memory cannot be written here");
	piece = take(&place, 64, 1);
	refuse(piece, 64, ENOSYS);
	ck_assert_uint_eq(piece[63], 0xaa);
}
END_TEST

#if CAN_FORK

static unsigned char *take_by_copy(const struct copy *copy, const struct kind *kind, size_t size)
{
	struct buffers_request request = { .size = size, .flags = kind->flags };
	struct buffers_item *item = copy->calls.get(&request);
	unsigned char *piece;

	ck_assert_ptr_nonnull(item);
	piece = copy->calls.append(item, "piece of another copy", size);
	ck_assert_ptr_nonnull(piece);
	copy->calls.release(item);
	return piece;
}

/* This copy has not used the kind before. */
START_TEST(room_of_another_copy_serves_this_one)
{
	struct place place = { .kind = &kinds[_i] };
	struct tally tally = { .piece = NULL };
	unsigned char *piece;
	struct copy copy;

	SKIP_IF(!load_copy(&copy, COPY_ONE, false), "no second copy of the library");
	piece = take_by_copy(&copy, place.kind, 20);
	tally.piece = take_by_copy(&copy, place.kind, 1);
	SKIP_IF(rendezvous_address() == 0, "copies do not find each other here");
	ck_assert_int_eq(copy.calls.walk(find_buffer, &tally), 0);
	give_back(piece, 20);
	refuse(piece, 20, EINVAL);
	ck_assert_ptr_ne(take_by_copy(&copy, place.kind, 20), piece);
	check_walk(piece, tally.info.used + 20, 20);
	expect(&place, 20, piece, 20);
}
END_TEST

struct inherited {
	struct place place;
	unsigned char *piece, *given;
	struct buffers_item *item;
};

/* The lists of room are empty, and what the forking thread holds stays usable. */
static int use_in_child(void *context)
{
	struct inherited *inherited = context;
	const struct place *place = &inherited->place;
	unsigned char *next = buffers_next(inherited->item);
	unsigned char *piece;

	STEP(buffers_remaining(inherited->item) == 32);
	STEP(is_zero(next, 32));
	STEP(buffers_append(inherited->item, "child", 5) == next);
	buffers_release(inherited->item);
	STEP(take(place, 64, 1) != inherited->given);
	STEP(take(place, 27, 1) != next + 5);
	/* Room of shared buffers that were inherited is in use for good. */
	errno = 0;
	STEP(buffers_give_back(inherited->piece, 64) == (place->arena ? 0 : -1));
	STEP(place->arena || errno == EINVAL);
	piece = take(place, 48, 1);
	STEP(buffers_give_back(piece, 48) == 0);
	STEP(take(place, 48, 1) == piece);
	return 0;
}

START_TEST(child_starts_empty)
{
	struct inherited inherited = { .place = place_of(_i) };
	const struct place *place = &inherited.place;
	unsigned char *held;

	held = take(place, 32, 1);
	take(place, 1, 1);
	inherited.given = take(place, 64, 1);
	take(place, 1, 1);
	inherited.piece = take(place, 64, 1);
	take(place, 1, 1);
	give_back(held, 32);
	give_back(inherited.given, 64);
	inherited.item = expect(place, 32, held, 32);
	run_child(use_in_child, &inherited);
	ck_assert(is_zero(held, 32));
	buffers_release(inherited.item);
	expect(place, 32, held, 32);
	expect(place, 64, inherited.given, 64);
}
END_TEST

#endif

static void add_loops(TCase *tcase)
{
	tcase_add_loop_test(tcase, next_request_gets_the_room, 0, LOOPS);
	tcase_add_loop_test(tcase, smallest_stretch_that_suits_is_taken, 0, LOOPS);
	tcase_add_loop_test(tcase, adjacent_stretches_merge, 0, LOOPS);
	tcase_add_loop_test(tcase, alignment_takes_no_room, 0, LOOPS);
	tcase_add_loop_test(tcase, bytes_that_a_request_skips_are_room, 0, LOOPS);
	tcase_add_loop_test(tcase, room_that_is_not_in_use_is_refused, 0, LOOPS);
	tcase_add_loop_test(tcase, parts_of_pieces_and_several_pieces_are_accepted, 0, LOOPS);
	tcase_add_loop_test(tcase, holder_returns_room_before_the_item, 0, LOOPS);
	tcase_add_loop_test(tcase, memory_stays_level, 0, LOOPS);
	tcase_add_loop_test(tcase, whole_pages_return_to_the_system, 0, LOOPS);
	tcase_add_loop_test(tcase, pages_that_become_free_bit_by_bit_return, 0, LOOPS);
	tcase_add_loop_test(tcase, pages_at_both_ends_return, 0, LOOPS);
}

int main(void)
{
	Suite *suite = suite_create("api/give-back");
	TCase *all = tcase_create("all kinds, shared and in arenas");
	TCase *some = tcase_create("buffers and arenas");

	add_loops(all);
	tcase_add_loop_test(some, range_limits_the_room, 0, KINDS);
	tcase_add_loop_test(some, walk_reports_the_room, 0, KINDS);
	tcase_add_test(some, kinds_stay_apart);
	tcase_add_loop_test(some, arenas_keep_their_room, 0, KINDS);
	tcase_add_loop_test(some, full_arena_serves_given_room, 0, KINDS);
	tcase_add_loop_test(some, new_buffer_joins_the_room_beside_it, 0, KINDS);
	tcase_add_loop_test(some, reserved_memory_joins_no_room, 0, KINDS);
	tcase_add_loop_test(some, shared_arena_is_enosys, 0, KINDS);
#if CAN_FORK
	tcase_add_loop_test(some, child_starts_empty, 0, LOOPS);
	tcase_add_loop_test(some, room_of_another_copy_serves_this_one, 0, KINDS);
#endif
	suite_add_tcase(suite, all);
	suite_add_tcase(suite, some);
	return run_suite(suite);
}
