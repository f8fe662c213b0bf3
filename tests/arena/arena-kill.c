/* SPDX-License-Identifier: MIT */
/* arena/arena-kill.c: processes that share an arena, and are killed at any moment */

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

#define LARGE (64 * KIB)	/* more than an item in use has free, so that a new one is made */

enum { SHARED_KINDS = ARENA_KINDS - ARENA_SHARED };

/* Memory that the processes of a test share apart from the arena. */
struct progress {
	unsigned writers;	/* started so far */
	unsigned waiting;	/* hold items and wait to be killed */
	unsigned rounds;	/* finished by the companion */
	bool is_over;
	int line;		/* line of the first failed step */
};

struct trial {
	struct buffers_arena *arena;
	struct buffers_request window;
	struct record_log *log;
	struct progress *progress;
	uint64_t random;
	unsigned killed;
};

static struct trial new_trial(int kind, size_t size, size_t records)
{
	struct trial trial = {
		.log = record_log_new(records, true),
		.progress = map_memory(sizeof(*trial.progress), true),
		.random = seed_random(),
	};

	trial.window = exact_window(size);
	trial.arena = buffers_arena_create(&trial.window, arena_flags(kind));
	ck_assert_ptr_nonnull(trial.arena);
	return trial;
}

static unsigned new_writer(struct trial *trial)
{
	return __atomic_add_fetch(&trial->progress->writers, 1, __ATOMIC_RELAXED);
}

static void store_failure(struct trial *trial, int line)
{
	int none = 0;

	__atomic_compare_exchange_n(&trial->progress->line, &none, line, false, __ATOMIC_RELAXED,
				    __ATOMIC_RELAXED);
}

static int line_of_failure(const struct trial *trial)
{
	return __atomic_load_n(&trial->progress->line, __ATOMIC_RELAXED);
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
 * Asserts that no surviving process failed, that each kill lost at most the record that was
 * being appended, and that the rest of the window can be used to the last byte.
 */
static void check_all(struct trial *trial)
{
	unsigned unfinished;

	ck_assert_msg(line_of_failure(trial) == 0, "step in line %d failed",
		      line_of_failure(trial));
	ck_assert(record_fill_up(trial->log, trial->arena));
	ck_assert_ptr_null(record_check_all(trial->log, &trial->window, &unfinished));
	ck_assert_uint_le(unfinished, trial->killed);
	for (size_t size = 1; size < 5000; size += 99) {
		errno = 0;
		ck_assert_ptr_null(buffers_arena_get(trial->arena, size, 1));
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
		return RECORD_MIN;
	case 1:		/* mostly more than any item has free, so that a new one is made */
		return window / 64 < LARGE ? window / 64 : LARGE;
	default:
		return random_record_size(random);
	}
}

/* The first record is no larger than the requested size, so it fits. */
static int append_to(struct trial *trial, struct buffers_item *item, unsigned writer, size_t size)
{
	unsigned count = (unsigned)random_below(&trial->random, 4);

	if (size > RECORD_MAX)
		size = RECORD_MIN;
	for (unsigned i = 0; i < count && size <= buffers_remaining(item); i++) {
		const void *next = buffers_next(item);
		const void *copy = record_append(trial->log, item, writer, size);

		STEP(copy ? copy == next : record_log_is_full(trial->log));
		size = random_record_size(&trial->random);
	}
	return 0;
}

static int append_once(struct trial *trial, unsigned writer)
{
	size_t size = wanted_size(&trial->random, trial->window.size);
	struct buffers_item *item = buffers_arena_get(trial->arena, size, 1);

	if (!item) {
		STEP(errno == ENOSPC);
		return 0;
	}
	STEP(buffers_remaining(item) >= size);
	STEP(append_to(trial, item, writer, size) == 0);
	if (random_below(&trial->random, 8) == 0)
		sched_yield();
	STEP(append_to(trial, item, writer, RECORD_MIN) == 0);
	buffers_release(item);
	return 0;
}

static void *run_worker(void *context)
{
	struct trial trial = *(struct trial *)context;
	unsigned writer = new_writer(&trial);
	int line;

	trial.random ^= (uint64_t)writer << 32;
	while (!__atomic_load_n(&trial.progress->is_over, __ATOMIC_ACQUIRE)) {
		line = append_once(&trial, writer);
		if (line) {
			store_failure(&trial, line);
			break;
		}
	}
	return NULL;
}

static pid_t start_worker(struct trial *trial)
{
	pid_t child;

	fflush(NULL);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		run_worker(trial);
		exit(0);
	}
	return child;
}

/*
 * Sleeps up to 0.3 ms in three of four calls, and up to 3 ms in the fourth: the kill comes
 * before the first call of the worker, or at any moment of its work.
 */
static void wait_a_moment(uint64_t *random)
{
	size_t longest = random_below(random, 4) ? 300000 : 3000000;
	struct timespec moment = { .tv_nsec = (long)random_below(random, longest) };

	nanosleep(&moment, NULL);
}

static void kill_some(struct trial *trial, pid_t workers[WORKERS], unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		size_t which = random_below(&trial->random, WORKERS);

		wait_a_moment(&trial->random);
		kill_process(workers[which]);
		trial->killed++;
		ck_assert_int_eq(append_once(trial, 0), 0);
		ck_assert_msg(line_of_failure(trial) == 0, "step in line %d failed",
			      line_of_failure(trial));
		workers[which] = start_worker(trial);
	}
}

static void kill_for_a_round(struct trial *trial, unsigned times)
{
	pid_t workers[WORKERS];

	for (unsigned i = 0; i < WORKERS; i++)
		workers[i] = start_worker(trial);
	kill_some(trial, workers, times);
	__atomic_store_n(&trial->progress->is_over, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < WORKERS; i++)
		ck_assert(exits_with_zero(workers[i]));
}

/* Replaces the arena by a new one at the same address. */
static void recreate_arena(struct trial *trial, int kind)
{
	ck_assert_int_eq(buffers_arena_destroy(trial->arena), 0);
	trial->arena = buffers_arena_create(&trial->window, arena_flags(kind));
	ck_assert_ptr_nonnull(trial->arena);
}

START_TEST(processes_killed_at_random_lose_only_unfinished_records)
{
	size_t window = window_sizes[_i / SHARED_KINDS];
	int kind = ARENA_SHARED + _i % SHARED_KINDS;
	struct trial trial = new_trial(kind, window, 300000);
	unsigned share = how_many(208, 2000) / (WINDOW_SIZES * SHARED_KINDS);
	unsigned rounds = 1 + share / ROUND;
	uint64_t random = trial.random;

	for (unsigned i = 0; i < rounds; i++) {
		record_log_clear(trial.log);
		*trial.progress = (struct progress){ 0 };
		trial.killed = 0;
		trial.random = next_random(&random);
		kill_for_a_round(&trial, (share + rounds - 1) / rounds);
		check_all(&trial);
		recreate_arena(&trial, kind);
	}
}
END_TEST

/* Starts a process with several threads, each of which holds an item most of the time. */
static pid_t start_threads(struct trial *trial)
{
	pthread_t thread;
	pid_t child;

	fflush(NULL);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		for (unsigned i = 0; i < WORKERS; i++)
			if (pthread_create(&thread, NULL, run_worker, trial) != 0)
				_exit(1);
		pause();
	}
	return child;
}

START_TEST(processes_killed_with_threads_lose_only_unfinished_records)
{
	struct trial trial = new_trial(ARENA_SHARED + _i, 16 * MIB, 300000);

	SKIP_IF(is_tsan(), "TSan does not support threads and fork");
	for (unsigned i = 0; i < how_many(20, 200); i++) {
		pid_t child = start_threads(&trial);

		wait_a_moment(&trial.random);
		kill_process(child);
		trial.killed += WORKERS;
		ck_assert_int_eq(append_once(&trial, 0), 0);
	}
	check_all(&trial);
}
END_TEST

/*
 * Kills while an item is certainly held
 */

static _Noreturn void wait_to_be_killed(struct trial *trial, bool is_well)
{
	if (!is_well)
		store_failure(trial, __LINE__);
	__atomic_add_fetch(&trial->progress->waiting, 1, __ATOMIC_RELEASE);
	for (;;)
		pause();
}

static void wait_for_holders(const struct trial *trial, unsigned number)
{
	while (__atomic_load_n(&trial->progress->waiting, __ATOMIC_ACQUIRE) < number)
		yield_cpu();
}

static pid_t start_holder(struct trial *trial, unsigned items)
{
	bool is_well = true;
	pid_t child;

	fflush(NULL);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child)
		return child;
	for (unsigned i = 0; i < items && is_well; i++) {
		struct buffers_item *item = buffers_arena_get(trial->arena, 64, 1);

		is_well = item && record_append(trial->log, item, 1, 64);
	}
	wait_to_be_killed(trial, is_well);
}

START_TEST(item_of_a_killed_process_is_continued_by_another)
{
	/* the window is one page, so there is one item */
	struct trial trial = new_trial(ARENA_SHARED + _i, 1, 100);
	struct buffers_item *item;

	for (unsigned i = 1; i <= 10; i++) {
		pid_t child = start_holder(&trial, 1);

		wait_for_holders(&trial, i);
		errno = 0;
		ck_assert_ptr_null(buffers_arena_get(trial.arena, 1, 1));
		ck_assert_int_eq(errno, ENOSPC);
		kill_process(child);
		errno = 1234;
		item = buffers_arena_get(trial.arena, 1, 1);
		ck_assert_int_eq(errno, 1234);
		ck_assert_ptr_nonnull(item);
		ck_assert_uint_eq(buffers_size(item) - buffers_remaining(item), 96 * i - 32);
		ck_assert_ptr_nonnull(record_append(trial.log, item, 0, 32));
		buffers_release(item);
	}
	check_all(&trial);
}
END_TEST

START_TEST(items_of_many_killed_processes_are_used_to_the_last_byte)
{
	enum { HOLDERS = 16, ITEMS = 4 };
	/* an item has at least a page */
	size_t window = HOLDERS * ITEMS * (size_t)getpagesize();
	struct trial trial = new_trial(ARENA_SHARED + _i, window > MIB ? window : MIB, 10000);
	pid_t children[HOLDERS];

	for (unsigned i = 0; i < HOLDERS; i++)
		children[i] = start_holder(&trial, ITEMS);
	wait_for_holders(&trial, HOLDERS);
	for (unsigned i = 0; i < HOLDERS; i++)
		kill_process(children[i]);
	check_all(&trial);
}
END_TEST

START_TEST(arena_can_be_destroyed_while_another_process_holds_items)
{
	struct trial trial = new_trial(ARENA_SHARED + _i, MIB, 100);
	pid_t child = start_holder(&trial, 3);

	wait_for_holders(&trial, 1);
	ck_assert_int_eq(buffers_arena_destroy(trial.arena), 0);
	ck_assert(is_window_free(&trial.window));
	kill_process(child);
	ck_assert_int_eq(line_of_failure(&trial), 0);
}
END_TEST

/*
 * Kills at a random instruction of a call.  The process may hold the arena's lock, and another
 * one may wait for it.  (arena-steps kills after every instruction, but runs no other process.)
 */

#ifdef PT_STEP

/* Appends to an existing item, and to a new one. */
static int append_twice(struct trial *trial, unsigned writer)
{
	for (unsigned i = 0; i < 2; i++) {
		struct buffers_item *item =
			buffers_arena_get(trial->arena, i ? LARGE : RECORD_MIN, 1);

		if (!item) {
			STEP(errno == ENOSPC);
			continue;
		}
		STEP(record_append(trial->log, item, writer, RECORD_MIN) ||
		     record_log_is_full(trial->log));
		buffers_release(item);
	}
	return 0;
}

/* Returns a child that is stopped after n instructions, or 0 if it exited before. */
static pid_t stop_at_instruction(struct trial *trial, unsigned n)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		unsigned writer = new_writer(trial);

		/* not counted: the first calls of a process do more than later ones */
		if (append_twice(trial, writer) != 0)
			_exit(1);
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(1);
		raise(SIGSTOP);
		_exit(append_twice(trial, writer) != 0);
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
 * Starts a process that also makes new items, and so waits while a stepped child holds the
 * arena's lock.  It pauses between them: a stepped child looks at all items, and would never
 * get through them if new ones came too fast.
 */
static pid_t start_companion(struct trial *trial)
{
	pid_t child;

	fflush(NULL);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child)
		return child;
	while (!__atomic_load_n(&trial->progress->is_over, __ATOMIC_ACQUIRE)) {
		if (append_twice(trial, 0) != 0)
			store_failure(trial, __LINE__);
		__atomic_add_fetch(&trial->progress->rounds, 1, __ATOMIC_RELEASE);
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	exit(0);
}

/* Waits until the companion finishes a round that it began after the kill. */
static void wait_for_companion(const struct trial *trial)
{
	unsigned rounds = __atomic_load_n(&trial->progress->rounds, __ATOMIC_ACQUIRE);

	while (__atomic_load_n(&trial->progress->rounds, __ATOMIC_ACQUIRE) - rounds < 2)
		sched_yield();
}

/* About as many as a child's work takes; a child that exits earlier is not killed. */
enum { INSTRUCTIONS = 3500 };

static void kill_at_instructions(struct trial *trial, unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		unsigned n = (unsigned)random_below(&trial->random, INSTRUCTIONS);
		pid_t child = stop_at_instruction(trial, n);

		if (child) {
			kill_process(child);
			trial->killed++;
		}
		wait_for_companion(trial);
		ck_assert_int_eq(append_twice(trial, 0), 0);
	}
	printf("%u of %u killed\n", trial->killed, times);
}

static const char *why_no_steps(void)
{
	if (is_asan() || is_tsan())
		return "the sanitizer adds too many instructions";
	if (is_coverage())
		return "a killed process would leave incomplete coverage counts";
	return can_trace() ? NULL : "this process may not use ptrace()";
}

START_TEST(processes_waiting_for_a_killed_one_go_on)
{
	struct trial trial;
	pid_t companion;

	SKIP_IF(why_no_steps(), why_no_steps());
	trial = new_trial(ARENA_SHARED + _i, 512 * MIB, MIB);
	companion = start_companion(&trial);
	kill_at_instructions(&trial, is_slow() ? 2 : how_many(15, 200));
	__atomic_store_n(&trial.progress->is_over, true, __ATOMIC_RELEASE);
	ck_assert(exits_with_zero(companion));
	ck_assert_uint_gt(trial.killed, 1);
	check_all(&trial);
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
	Suite *suite = suite_create("arena/arena-kill");
	TCase *instants = add_case(suite, "instants");
	TCase *holders = add_case(suite, "holders");

	if (!can_share_arenas())
		return 77;
	tcase_add_loop_test(instants,
			    processes_killed_at_random_lose_only_unfinished_records,
			    0, WINDOW_SIZES * SHARED_KINDS);
	tcase_add_loop_test(instants, processes_killed_with_threads_lose_only_unfinished_records,
			    0, SHARED_KINDS);
	tcase_add_loop_test(holders, item_of_a_killed_process_is_continued_by_another, 0,
			    SHARED_KINDS);
	tcase_add_loop_test(holders, items_of_many_killed_processes_are_used_to_the_last_byte, 0,
			    SHARED_KINDS);
	tcase_add_loop_test(holders, arena_can_be_destroyed_while_another_process_holds_items,
			    0, SHARED_KINDS);
#ifdef PT_STEP
	{
		TCase *instructions = add_case(suite, "instructions");

		tcase_add_loop_test(instructions, processes_waiting_for_a_killed_one_go_on, 0, 2);
	}
#endif
	return run_suite(suite);
}
