/* SPDX-License-Identifier: MIT */
/* api-arena-kill.c: processes that share an arena, and are killed in the middle of everything */

#include "config.h"
#include "support/arena-records.h"
#include "support/reexec.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

#define LARGE (64 * KIB)	/* what items that are in use have no room for */

enum { SHARED_KINDS = ARENA_KINDS - ARENA_SHARED };

/* What the processes of a test share, beside the arena. */
struct board {
	unsigned writers;	/* all that ever were */
	unsigned waiting;	/* to be killed, with what they hold */
	unsigned steps;		/* of the companion */
	bool is_over;
	int line;		/* of the first step that failed */
};

struct place {
	struct buffers_arena *arena;
	struct buffers_request window;
	struct record_log *log;
	struct board *board;
	uint64_t random;
	unsigned killed;
};

static struct place new_place(int kind, size_t size, size_t records)
{
	struct place place = {
		.log = record_log_new(records, true),
		.board = map_memory(sizeof(*place.board), true),
		.random = seed_random(),
	};

	place.window = exact_window(size);
	place.arena = buffers_arena_create(&place.window, arena_flags(kind));
	ck_assert_ptr_nonnull(place.arena);
	return place;
}

static unsigned new_writer(struct place *place)
{
	return __atomic_add_fetch(&place->board->writers, 1, __ATOMIC_RELAXED);
}

static void note_failure(struct place *place, int line)
{
	int none = 0;

	__atomic_compare_exchange_n(&place->board->line, &none, line, false, __ATOMIC_RELAXED,
				    __ATOMIC_RELAXED);
}

static int line_of_failure(const struct place *place)
{
	return __atomic_load_n(&place->board->line, __ATOMIC_RELAXED);
}

static void kill_process(pid_t child)
{
	int status;

	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGKILL);
}

/*
 * Everybody but the killed goes on, each killed one lost at most what it was
 * appending, and all room that is left can be used, down to the last byte.
 */
static void check_all(struct place *place)
{
	unsigned unfinished;

	ck_assert_msg(line_of_failure(place) == 0, "step in line %d failed",
		      line_of_failure(place));
	ck_assert(record_fill_up(place->log, place->arena));
	ck_assert_ptr_null(record_check_all(place->log, &place->window, &unfinished));
	ck_assert_uint_le(unfinished, place->killed);
	for (size_t size = 1; size < 5000; size += 99) {
		errno = 0;
		ck_assert_ptr_null(buffers_arena_get(place->arena, size, 1));
		ck_assert_int_eq(errno, ENOSPC);
	}
}

/*
 * Random instants
 */

enum { WORKERS = 4 };

static const size_t window_sizes[] = { 64 << 10, 1 << 20, 4 << 20, 256 << 20 };
enum { WINDOW_SIZES = sizeof(window_sizes) / sizeof(window_sizes[0]), ROUND = 50 };

static size_t wanted_size(uint64_t *random, size_t window)
{
	switch (random_below(random, 4)) {
	case 0:
		return RECORD_LEAST;
	case 1:		/* more than any item has left, mostly: a new one */
		return window / 64 < LARGE ? window / 64 : LARGE;
	default:
		return record_size(random);
	}
}

/* The first is no larger than what was wanted, so it fits. */
static int append_to(struct place *place, struct buffers_item *item, unsigned writer, size_t size)
{
	unsigned count = (unsigned)random_below(&place->random, 4);

	if (size > RECORD_MOST)
		size = RECORD_LEAST;
	for (unsigned i = 0; i < count && size <= buffers_remaining(item); i++) {
		const void *next = buffers_next(item);
		const void *copy = record_append(place->log, item, writer, size);

		STEP(copy ? copy == next : record_log_is_full(place->log));
		size = record_size(&place->random);
	}
	return 0;
}

static int work_once(struct place *place, unsigned writer)
{
	size_t size = wanted_size(&place->random, place->window.size);
	struct buffers_item *item = buffers_arena_get(place->arena, size, 1);

	if (!item) {
		STEP(errno == ENOSPC);
		return 0;
	}
	STEP(buffers_remaining(item) >= size);
	STEP(append_to(place, item, writer, size) == 0);
	if (random_below(&place->random, 8) == 0)
		sched_yield();
	STEP(append_to(place, item, writer, RECORD_LEAST) == 0);
	buffers_release(item);
	return 0;
}

static void *work(void *context)
{
	struct place place = *(struct place *)context;
	unsigned writer = new_writer(&place);
	int line;

	place.random ^= (uint64_t)writer << 32;
	while (!__atomic_load_n(&place.board->is_over, __ATOMIC_ACQUIRE)) {
		line = work_once(&place, writer);
		if (line) {
			note_failure(&place, line);
			break;
		}
	}
	return NULL;
}

static pid_t start_worker(struct place *place)
{
	pid_t child;

	fflush(NULL);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		work(place);
		exit(0);
	}
	return child;
}

/* From at once, before its first call, to well within its work. */
static void wait_a_moment(uint64_t *random)
{
	size_t longest = random_below(random, 4) ? 300000 : 3000000;
	struct timespec moment = { .tv_nsec = (long)random_below(random, longest) };

	nanosleep(&moment, NULL);
}

static void kill_some(struct place *place, pid_t workers[WORKERS], unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		size_t which = random_below(&place->random, WORKERS);

		wait_a_moment(&place->random);
		kill_process(workers[which]);
		place->killed++;
		ck_assert_int_eq(work_once(place, 0), 0);
		ck_assert_msg(line_of_failure(place) == 0, "step in line %d failed",
			      line_of_failure(place));
		workers[which] = start_worker(place);
	}
}

static void kill_for_a_round(struct place *place, unsigned times)
{
	pid_t workers[WORKERS];

	for (unsigned i = 0; i < WORKERS; i++)
		workers[i] = start_worker(place);
	kill_some(place, workers, times);
	__atomic_store_n(&place->board->is_over, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < WORKERS; i++)
		ck_assert(exits_well(workers[i]));
}

/* Another arena in the same place. */
static void remake(struct place *place, int kind)
{
	ck_assert_int_eq(buffers_arena_destroy(place->arena), 0);
	place->arena = buffers_arena_create(&place->window, arena_flags(kind));
	ck_assert_ptr_nonnull(place->arena);
}

/* In every kind, and windows of every size. */
START_TEST(killed_at_random_instants_lose_nothing_but_what_they_were_appending)
{
	size_t window = window_sizes[_i / SHARED_KINDS];
	int kind = ARENA_SHARED + _i % SHARED_KINDS;
	struct place place = new_place(kind, window, 300000);
	unsigned share = how_many(208, 2000) / (WINDOW_SIZES * SHARED_KINDS);
	unsigned rounds = 1 + share / ROUND;
	uint64_t random = place.random;

	for (unsigned i = 0; i < rounds; i++) {
		record_log_clear(place.log);
		*place.board = (struct board){ 0 };
		place.killed = 0;
		place.random = next_random(&random);
		kill_for_a_round(&place, (share + rounds - 1) / rounds);
		check_all(&place);
		remake(&place, kind);
	}
}
END_TEST

/* Processes with several threads, each of which holds something most of the time. */
static pid_t start_threads(struct place *place)
{
	pthread_t thread;
	pid_t child;

	fflush(NULL);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		for (unsigned i = 0; i < WORKERS; i++)
			if (pthread_create(&thread, NULL, work, place) != 0)
				_exit(1);
		pause();
	}
	return child;
}

START_TEST(killed_with_all_their_threads_lose_no_more)
{
	struct place place = new_place(ARENA_SHARED + _i, 16 * MIB, 300000);

	SKIP_IF(is_tsan(), "TSan does not support threads and fork");
	for (unsigned i = 0; i < how_many(20, 200); i++) {
		pid_t child = start_threads(&place);

		wait_a_moment(&place.random);
		kill_process(child);
		place.killed += WORKERS;
		ck_assert_int_eq(work_once(&place, 0), 0);
	}
	check_all(&place);
}
END_TEST

/*
 * Surely while an item is held
 */

static _Noreturn void wait_to_be_killed(struct place *place, bool is_well)
{
	if (!is_well)
		note_failure(place, __LINE__);
	__atomic_add_fetch(&place->board->waiting, 1, __ATOMIC_RELEASE);
	for (;;)
		pause();
}

static void wait_for_those_that_wait(const struct place *place, unsigned number)
{
	while (__atomic_load_n(&place->board->waiting, __ATOMIC_ACQUIRE) < number)
		give_way();
}

static pid_t start_holder(struct place *place, unsigned items)
{
	bool is_well = true;
	pid_t child;

	fflush(NULL);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child)
		return child;
	for (unsigned i = 0; i < items && is_well; i++) {
		struct buffers_item *item = buffers_arena_get(place->arena, 64, 1);

		is_well = item && record_append(place->log, item, 1, 64);
	}
	wait_to_be_killed(place, is_well);
}

START_TEST(item_of_the_killed_is_had_by_others_where_that_one_stopped)
{
	/* one page, so there is no other item */
	struct place place = new_place(ARENA_SHARED + _i, 1, 100);
	struct buffers_item *item;

	for (unsigned i = 1; i <= 10; i++) {
		pid_t child = start_holder(&place, 1);

		wait_for_those_that_wait(&place, i);
		errno = 0;
		ck_assert_ptr_null(buffers_arena_get(place.arena, 1, 1));
		ck_assert_int_eq(errno, ENOSPC);
		kill_process(child);
		errno = 1234;
		item = buffers_arena_get(place.arena, 1, 1);
		ck_assert_int_eq(errno, 1234);
		ck_assert_ptr_nonnull(item);
		ck_assert_uint_eq(buffers_size(item) - buffers_remaining(item), 96 * i - 32);
		ck_assert_ptr_nonnull(record_append(place.log, item, 0, 32));
		buffers_release(item);
	}
	check_all(&place);
}
END_TEST

START_TEST(all_items_of_many_killed_are_used_to_the_last_byte)
{
	enum { HOLDERS = 16, ITEMS = 4 };
	size_t window = HOLDERS * ITEMS * (size_t)getpagesize();	/* an item is a page or more */
	struct place place = new_place(ARENA_SHARED + _i, window > MIB ? window : MIB, 10000);
	pid_t children[HOLDERS];

	for (unsigned i = 0; i < HOLDERS; i++)
		children[i] = start_holder(&place, ITEMS);
	wait_for_those_that_wait(&place, HOLDERS);
	for (unsigned i = 0; i < HOLDERS; i++)
		kill_process(children[i]);
	check_all(&place);
}
END_TEST

START_TEST(arena_can_be_destroyed_when_those_who_held_items_were_killed)
{
	struct place place = new_place(ARENA_SHARED + _i, MIB, 100);
	pid_t child = start_holder(&place, 3);

	wait_for_those_that_wait(&place, 1);
	ck_assert_int_eq(buffers_arena_destroy(place.arena), 0);
	ck_assert(is_free(&place.window));
	kill_process(child);
	ck_assert_int_eq(line_of_failure(&place), 0);
}
END_TEST

/*
 * At any instruction of a call, so also where it holds the arena's own lock, while
 * another waits for that (api-arena-steps kills at every instruction, in a scene where
 * there is no other)
 */

#ifdef PT_STEP

/* Appends to an item that is there, and to one that must be carved. */
static int work_in_steps(struct place *place, unsigned writer)
{
	for (unsigned i = 0; i < 2; i++) {
		struct buffers_item *item =
			buffers_arena_get(place->arena, i ? LARGE : RECORD_LEAST, 1);

		if (!item) {
			STEP(errno == ENOSPC);
			continue;
		}
		STEP(record_append(place->log, item, writer, RECORD_LEAST) ||
		     record_log_is_full(place->log));
		buffers_release(item);
	}
	return 0;
}

/* The child after n instructions; 0 if it ended before. */
static pid_t stop_at_instruction(struct place *place, unsigned n)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		unsigned writer = new_writer(place);

		if (work_in_steps(place, writer) != 0)	/* what it does but once is done */
			_exit(1);
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(1);
		raise(SIGSTOP);
		_exit(work_in_steps(place, writer) != 0);
	}
	ck_assert_int_gt(child, 0);
	for (;; n--) {
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		if (WIFEXITED(status)) {
			ck_assert_int_eq(WEXITSTATUS(status), 0);
			return 0;
		}
		ck_assert(WIFSTOPPED(status));
		if (n == 0)
			return child;
		ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
	}
}

/*
 * One who wants new items, too, and waits when another holds the arena's lock.  Not so
 * many that who is led step by step never comes to the end of them.
 */
static pid_t start_companion(struct place *place)
{
	pid_t child;

	fflush(NULL);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child)
		return child;
	while (!__atomic_load_n(&place->board->is_over, __ATOMIC_ACQUIRE)) {
		if (work_in_steps(place, 0) != 0)
			note_failure(place, __LINE__);
		__atomic_add_fetch(&place->board->steps, 1, __ATOMIC_RELEASE);
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	exit(0);
}

/* It is not stopped for good by anybody who was killed. */
static void wait_for_companion(const struct place *place)
{
	unsigned steps = __atomic_load_n(&place->board->steps, __ATOMIC_ACQUIRE);

	while (__atomic_load_n(&place->board->steps, __ATOMIC_ACQUIRE) - steps < 2)
		sched_yield();
}

/* About as many as a child's work takes; who ends before is not killed. */
enum { INSTRUCTIONS = 3500 };

static void kill_at_instructions(struct place *place, unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		unsigned n = (unsigned)random_below(&place->random, INSTRUCTIONS);
		pid_t child = stop_at_instruction(place, n);

		if (child) {
			kill_process(child);
			place->killed++;
		}
		wait_for_companion(place);
		ck_assert_int_eq(work_in_steps(place, 0), 0);
	}
	printf("%u of %u killed\n", place->killed, times);
}

static const char *why_no_steps(void)
{
	if (is_asan() || is_tsan())
		return "the sanitizer's own instructions are too many";
	if (is_coverage())
		return "the counts of lines would be written by half";
	return can_trace() ? NULL : "ptrace() is refused";
}

START_TEST(those_who_wait_for_the_killed_go_on)
{
	struct place place;
	pid_t companion;

	SKIP_IF(why_no_steps(), why_no_steps());
	place = new_place(ARENA_SHARED + _i, 512 * MIB, MIB);
	companion = start_companion(&place);
	kill_at_instructions(&place, is_slow() ? 2 : how_many(15, 200));
	__atomic_store_n(&place.board->is_over, true, __ATOMIC_RELEASE);
	ck_assert(exits_well(companion));
	ck_assert_uint_gt(place.killed, 1);
	check_all(&place);
}
END_TEST

#endif

static TCase *add_case(Suite *suite, const char *name)
{
	TCase *tests = tcase_create(name);

	tcase_set_tags(tests, "fork slow");
	tcase_set_timeout(tests, 300);
	suite_add_tcase(suite, tests);
	return tests;
}

int main(void)
{
	Suite *suite = suite_create("api-arena-kill");
	TCase *instants = add_case(suite, "instants");
	TCase *holders = add_case(suite, "holders");

	if (!can_share_arenas())
		return 77;
	tcase_add_loop_test(instants,
			    killed_at_random_instants_lose_nothing_but_what_they_were_appending,
			    0, WINDOW_SIZES * SHARED_KINDS);
	tcase_add_loop_test(instants, killed_with_all_their_threads_lose_no_more, 0, SHARED_KINDS);
	tcase_add_loop_test(holders, item_of_the_killed_is_had_by_others_where_that_one_stopped, 0,
			    SHARED_KINDS);
	tcase_add_loop_test(holders, all_items_of_many_killed_are_used_to_the_last_byte, 0,
			    SHARED_KINDS);
	tcase_add_loop_test(holders, arena_can_be_destroyed_when_those_who_held_items_were_killed,
			    0, SHARED_KINDS);
#ifdef PT_STEP
	{
		TCase *instructions = add_case(suite, "instructions");

		tcase_add_loop_test(instructions, those_who_wait_for_the_killed_go_on, 0, 2);
	}
#endif
	return run_suite(suite);
}
