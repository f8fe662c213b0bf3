/* SPDX-License-Identifier: MIT */
/*
 * api/give-back-random.c: random takes and returns, checked against an independent record
 *
 * Threads take pieces of all kinds in several ranges, or in an arena, and give them back, whole or
 * in parts.  The record has a bit for each byte that is in use.
 */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/copies.h"
#include "support/support.h"
#if CAN_FORK
# include "support/foreign.h"
# include "support/sandbox.h"
#endif

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { RANGES = 8, KINDS = 3, THREADS = 8, PIECES = 1400, MANY_PIECES = 6000 };
#define RANGE (32 * MIB)

/* A write of RX memory on Windows takes some hundred times as long. */
enum { SLOWNESS = CAN_FORK ? 1 : 5 };

static struct {
	uintptr_t start;
	uint32_t *used;		/* a bit for each byte */
} ranges[RANGES];

static const unsigned flags_of[KINDS] = { 0, BUFFERS_RW, BUFFERS_RX };

/* Bytes in use, and the most there ever were, by kind and range. */
static struct {
	size_t now, peak;
} use[KINDS][RANGES];

struct piece {
	unsigned char *start;
	size_t size;
	unsigned kind, range;
	unsigned char fill;
};

struct worker {
	pthread_t thread;
	uint64_t seed;
	unsigned rounds;
	struct buffers_arena *arena;	/* or NULL */
	unsigned kind;			/* of the arena */
	bool is_in_one_range;
	const char *fault;
	int error;			/* the errno of a failed call, or 0 */
	struct piece *pieces;
	unsigned count;
};

/* Held until all threads exist and the ranges are chosen: a stack might lie in a range. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

/*
 * The record
 */

static bool mark_bits(const struct piece *piece, size_t offset, size_t size, bool is_used)
{
	uintptr_t first = (uintptr_t)piece->start + offset - ranges[piece->range].start;
	uint32_t *words = ranges[piece->range].used;

	for (uintptr_t at = first; at < first + size;) {
		unsigned count = 32 - at % 32 < first + size - at ? (unsigned)(32 - at % 32) :
				 (unsigned)(first + size - at);
		uint32_t mask = UINT32_MAX >> (32 - count) << at % 32;
		uint32_t before = is_used ?
			__atomic_fetch_or(&words[at / 32], mask, __ATOMIC_RELAXED) :
			__atomic_fetch_and(&words[at / 32], ~mask, __ATOMIC_RELAXED);

		if ((before & mask) != (is_used ? 0 : mask))
			return false;
		at += count;
	}
	return true;
}

static void count_use(const struct piece *piece)
{
	size_t now = __atomic_add_fetch(&use[piece->kind][piece->range].now, piece->size,
					__ATOMIC_RELAXED);
	size_t *peak = &use[piece->kind][piece->range].peak;
	size_t before = __atomic_load_n(peak, __ATOMIC_RELAXED);

	while (now > before && !__atomic_compare_exchange_n(peak, &before, now, false,
							    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static bool has_only(const unsigned char *bytes, size_t size, unsigned char value)
{
	return bytes[0] == value && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/*
 * Taking and returning
 */

/* Most sizes are small; each magnitude is as frequent as another. */
static size_t random_size(uint64_t *seed)
{
	size_t limit = (size_t)1 << (1 + random_below(seed, 16));

	return 1 + random_below(seed, limit);
}

static const char *write_piece(struct buffers_item *item, struct piece *piece, size_t alignment)
{
	unsigned char *next = buffers_next(item);

	if (!has_only(next, piece->size, 0))
		return "room does not read as zeros";
	if ((uintptr_t)next % alignment)
		return "room is not aligned";
	if (flags_of[piece->kind] == BUFFERS_RX) {
		unsigned char bytes[2 * KIB];

		piece->size = piece->size < sizeof(bytes) ? piece->size : sizeof(bytes);
		memset(bytes, piece->fill, piece->size);
		piece->start = buffers_append(item, bytes, piece->size);
	} else {
		piece->start = buffers_reserve(item, piece->size, alignment);
		if (piece->start)
			memset(piece->start, piece->fill, piece->size);
	}
	return piece->start == next ? NULL : "a piece cannot be taken from its item";
}

static struct piece random_piece(struct worker *worker)
{

	bool is_anywhere = !worker->arena && !worker->is_in_one_range;

	struct piece piece = {
		.size = random_size(&worker->seed),
		.kind = is_anywhere ? (unsigned)random_below(&worker->seed, KINDS) : worker->kind,
		.range = is_anywhere ? (unsigned)random_below(&worker->seed, RANGES) : 0,
		.fill = (unsigned char)(1 + random_below(&worker->seed, 255)),
	};

	if (flags_of[piece.kind] == BUFFERS_RX)	/* a write takes a thousand times as long */
		piece.size = 1 + piece.size % (2 * KIB);
	return piece;
}

static struct buffers_item *get(const struct worker *worker, const struct piece *piece,
				size_t alignment, const char **fault)
{
	struct buffers_request request = {
		.min_address = ranges[piece->range].start,
		.max_address = ranges[piece->range].start + RANGE * (worker->arena ? 2 : 1),
		.size = piece->size, .alignment = alignment, .flags = flags_of[piece->kind],
	};
	struct buffers_item *item = worker->arena ?
		buffers_arena_get(worker->arena, piece->size, alignment) : buffers_get(&request);

	if (!item)
		*fault = "a request failed";
	else if ((uintptr_t)buffers_base(item) < request.min_address ||
		 (uintptr_t)buffers_base(item) + buffers_size(item) > request.max_address)
		*fault = "room outside of the range";
	else if (buffers_remaining(item) < piece->size)
		*fault = "less room than requested";
	return item;
}

static const char *take(struct worker *worker, struct piece *piece)
{
	size_t alignment = (size_t)1 << random_below(&worker->seed, 7);
	const char *fault = NULL;
	struct buffers_item *item;

	*piece = random_piece(worker);
	item = get(worker, piece, alignment, &fault);
	worker->error = item ? 0 : errno;
	if (fault)
		return fault;
	fault = write_piece(item, piece, alignment);
	if (!fault && !mark_bits(piece, 0, piece->size, true))
		fault = "bytes were handed out twice";
	count_use(piece);
	buffers_release(item);
	return fault;
}

static const char *give_back(struct worker *worker, struct piece *piece)
{
	size_t parts[3] = { 0, piece->size, piece->size };
	bool is_split = piece->size > 1 && random_below(&worker->seed, 8) == 0;

	if (!has_only(piece->start, piece->size, piece->fill))
		return "bytes in use changed";
	if (!mark_bits(piece, 0, piece->size, false))
		return "the record is wrong";
	__atomic_sub_fetch(&use[piece->kind][piece->range].now, piece->size, __ATOMIC_RELAXED);
	if (is_split)
		parts[1] = 1 + random_below(&worker->seed, piece->size - 1);
	for (unsigned i = 0; i <= is_split; i++)
		if (buffers_give_back(piece->start + parts[i], parts[i + 1] - parts[i]) != 0) {
			worker->error = errno;
			return "giving back failed";
		}
	piece->start = NULL;
	return NULL;
}

static const char *take_or_give_back(struct worker *worker, struct piece *piece)
{
	return piece->start ? give_back(worker, piece) : take(worker, piece);
}

static void *run_worker(void *context)
{
	struct worker *worker = context;

	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	for (unsigned i = 0; i < worker->rounds && !worker->fault; i++)
		worker->fault = take_or_give_back(worker, &worker->pieces[random_below(
			&worker->seed, worker->count)]);
	for (unsigned i = 0; i < worker->count && !worker->fault; i++)
		if (worker->pieces[i].start)
			worker->fault = give_back(worker, &worker->pieces[i]);
	return NULL;
}

static void start_workers(struct worker *workers, unsigned rounds)
{
	static struct piece pieces[THREADS][PIECES];
	uint64_t seed = seed_random();

	pthread_mutex_lock(&gate);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i].pieces = pieces[i];
		workers[i].count = PIECES;
		workers[i].seed = next_random(&seed);
		workers[i].rounds = rounds / THREADS;
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, run_worker,
						&workers[i]), 0);
	}
}

static void check_fault(const struct worker *worker)
{
	ck_assert_msg(!worker->fault, "%s: errno %d", worker->fault, worker->error);
}

static void finish_workers(struct worker *workers)
{
	pthread_mutex_unlock(&gate);
	for (unsigned i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
		check_fault(&workers[i]);
	}
}

/*
 * Shared buffers
 */

/* Addresses that are free before the first request. */
static void choose_ranges(void)
{
	struct buffers_request whole = { .size = RANGE, .alignment = MIB, .flags = BUFFERS_RW };
	size_t allocated;

	for (unsigned i = 0; i < RANGES; i++) {
		ranges[i].start = (uintptr_t)buffers_alloc(&whole, &allocated);
		ck_assert_uint_ne(ranges[i].start, 0);
		ranges[i].used = map_memory(RANGE / 8, false);
	}
	for (unsigned i = 0; i < RANGES; i++)
		ck_assert_int_eq(buffers_free((void *)ranges[i].start, allocated), 0);
}

struct tally {
	size_t mapped, used, given_back;
};

static int add_up(const struct buffers_info *info, void *context)
{
	struct tally *tally = context;

	for (unsigned i = 0; i < RANGES; i++)
		if ((uintptr_t)info->base - ranges[i].start < RANGE) {
			tally->mapped += info->size;
			tally->used += info->used;
			tally->given_back += info->given_back;
		}
	return 0;
}

/* Each thread may hold a buffer, and each range and kind begins with one. */
#define SPARE ((THREADS + 1) * KINDS * RANGES * 64 * KIB)

static size_t sum_of_peaks(void)
{
	size_t sum = 0;

	for (unsigned kind = 0; kind < KINDS; kind++)
		for (unsigned range = 0; range < RANGES; range++)
			sum += use[kind][range].peak;
	return sum;
}

START_TEST(pieces_are_reused_and_stay_apart)
{
	static struct worker workers[THREADS];
	struct tally tally = { 0 };
	size_t peak;

	start_workers(workers, how_many(300000 / SLOWNESS, 10000000));
	choose_ranges();
	finish_workers(workers);
	ck_assert_int_eq(buffers_walk(add_up, &tally), 0);
	peak = sum_of_peaks();
	printf("mapped %zu KiB, used %zu, given back %zu, peak %zu KiB: %.3f\n",
	       tally.mapped / KIB, tally.used, tally.given_back, peak / KIB,
	       (double)tally.mapped / (double)peak);
	ck_assert_uint_le(tally.mapped, peak + peak / 4 + SPARE);
	ck_assert_uint_ge(tally.given_back + KIB * 64, tally.used);
}
END_TEST

/* One thread, so that nothing is held meanwhile. */
START_TEST(mapped_memory_is_bounded_by_the_peak)
{
	static struct piece pieces[MANY_PIECES];
	struct worker worker = {
		.pieces = pieces, .count = MANY_PIECES, .is_in_one_range = true,
	};
	struct tally tally = { 0 };
	size_t peak;

	choose_ranges();
	worker.seed = seed_random();
	worker.rounds = how_many(100000, 2000000);
	run_worker(&worker);
	check_fault(&worker);
	ck_assert_int_eq(buffers_walk(add_up, &tally), 0);
	peak = sum_of_peaks();
	printf("mapped %zu KiB, peak %zu KiB: %.3f\n", tally.mapped / KIB, peak / KIB,
	       (double)tally.mapped / (double)peak);
	ck_assert_uint_le(tally.mapped, peak + peak / 4 + 64 * KIB);
	ck_assert_uint_eq(use[0][0].now, 0);
}
END_TEST

/*
 * Arenas
 */

START_TEST(pieces_of_an_arena_are_reused_and_stay_apart)
{
	struct buffers_request window = { .size = RANGE };
	static struct worker workers[THREADS];
	struct buffers_arena *arena = buffers_arena_create(&window, flags_of[_i]);
	struct buffers_item *item;

	ck_assert_ptr_nonnull(arena);
	item = buffers_arena_get(arena, 1, 1);
	ck_assert_ptr_nonnull(item);
	ranges[0].start = (uintptr_t)buffers_base(item) & ~(RANGE - 1);
	ranges[0].used = map_memory(RANGE / 4, false);
	buffers_release(item);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i].arena = arena;
		workers[i].kind = (unsigned)_i;
	}
	start_workers(workers, how_many(100000 / SLOWNESS, 1000000));
	finish_workers(workers);
	ck_assert_uint_eq(use[_i][0].now, 0);
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
}
END_TEST

#if CAN_FORK

/*
 * Guests: another copy and another implementation, which take pieces meanwhile and keep them
 */

enum { GUESTS = 2, KEPT = 2000 };

struct guest {
	pthread_t thread;
	uint64_t seed;
	const struct copy *copy;		/* or NULL: the other implementation */
	struct foreign_locator *first;
	unsigned count;
	const char *fault;
	struct piece pieces[KEPT];
};

static unsigned char *append_by_copy(struct guest *guest, struct piece *piece,
				     const unsigned char *bytes)
{
	struct buffers_request request = {
		.min_address = ranges[piece->range].start,
		.max_address = ranges[piece->range].start + RANGE,
		.size = piece->size, .flags = flags_of[piece->kind],
	};
	struct buffers_item *item = guest->copy->calls.get(&request);
	unsigned char *start = item ? guest->copy->calls.append(item, bytes, piece->size) : NULL;

	if (item)
		guest->copy->calls.release(item);
	return start;
}

/* The other implementation knows neither kinds nor ranges: finds the range of what it got. */
static unsigned char *append_by_foreign(struct guest *guest, struct piece *piece,
					const unsigned char *bytes)
{
	struct foreign_item *item = foreign_get(guest->first, piece->size);
	unsigned char *start = foreign_append(item, bytes, piece->size);

	foreign_release(item);
	piece->kind = 0;
	for (piece->range = 0; piece->range < RANGES; piece->range++)
		if ((uintptr_t)start - ranges[piece->range].start < RANGE)
			break;
	return start;
}

static const char *keep_piece(struct guest *guest, struct piece *piece)
{
	unsigned char bytes[400];

	*piece = (struct piece){
		.size = 1 + random_below(&guest->seed, sizeof(bytes)),
		.kind = (unsigned)random_below(&guest->seed, KINDS),
		.range = (unsigned)random_below(&guest->seed, RANGES),
		.fill = (unsigned char)(1 + random_below(&guest->seed, 255)),
	};
	memset(bytes, piece->fill, piece->size);
	piece->start = guest->copy ? append_by_copy(guest, piece, bytes) :
				     append_by_foreign(guest, piece, bytes);
	if (!piece->start)
		return "a guest got no room";
	if (piece->range < RANGES && !mark_bits(piece, 0, piece->size, true))
		return "a guest got bytes in use";
	return NULL;
}

static void *run_guest(void *context)
{
	struct guest *guest = context;

	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	for (unsigned i = 0; i < guest->count && !guest->fault; i++)
		guest->fault = keep_piece(guest, &guest->pieces[i]);
	return NULL;
}

static void check_guest(const struct guest *guest)
{
	ck_assert_msg(!guest->fault, "%s", guest->fault);
	for (unsigned i = 0; i < guest->count; i++)
		ck_assert_msg(has_only(guest->pieces[i].start, guest->pieces[i].size,
				       guest->pieces[i].fill), "bytes of a guest changed");
}

START_TEST(others_never_get_the_room)
{
	static struct worker workers[THREADS];
	static struct guest guests[GUESTS];
	struct copy copy;

	SKIP_IF(!sandbox_tmp(NULL), "no mount namespace for this user");
	SKIP_IF(!load_copy(&copy, COPY_ONE, false), "no second copy of the library");
	start_workers(workers, how_many(60000, 600000));
	buffers_release(buffers_get(&(struct buffers_request){ .size = 1 }));
	guests[0].copy = &copy;
	guests[1].first = foreign_find(IN_MEMORY);
	for (unsigned i = 0; i < GUESTS; i++) {
		guests[i].seed = seed_random() + i;
		guests[i].count = how_many(KEPT, KEPT);
		ck_assert_int_eq(pthread_create(&guests[i].thread, NULL, run_guest, &guests[i]),
				 0);
	}
	choose_ranges();
	finish_workers(workers);
	for (unsigned i = 0; i < GUESTS; i++) {
		ck_assert_int_eq(pthread_join(guests[i].thread, NULL), 0);
		check_guest(&guests[i]);
	}
}
END_TEST

#endif

int main(void)
{
	Suite *suite = suite_create("api/give-back-random");
	TCase *all = tcase_create("random pieces");
	TCase *bound = tcase_create("bound");

	tcase_set_tags(all, "slow");
	tcase_set_timeout(all, 900);
	tcase_add_test(all, pieces_are_reused_and_stay_apart);
	tcase_set_timeout(bound, 300);
	tcase_add_test(bound, mapped_memory_is_bounded_by_the_peak);
	tcase_add_loop_test(all, pieces_of_an_arena_are_reused_and_stay_apart, 0, KINDS);
#if CAN_FORK
	tcase_add_test(all, others_never_get_the_room);
#endif
	suite_add_tcase(suite, all);
	suite_add_tcase(suite, bound);
	return run_suite(suite);
}
