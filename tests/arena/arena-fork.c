/* SPDX-License-Identifier: MIT */
/* arena/arena-fork.c: parents and children that share an arena, or have copies of it */

#include "config.h"
#include "support/arena-records.h"
#include "support/reexec.h"
#include "reloaded/buffers.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#define NO_SANDBOX "this user cannot mount a private /tmp; under TSan only root can"

#define TSAN_HELD "TSan takes locks that the parent held at fork for locks of the child"

static bool is_sandboxed;

/* Some tests use shared buffers, for which the library writes files to /tmp. */
static void set_up_sandbox(void)
{
	is_sandboxed = sandbox_tmp(NULL);
}

/*
 * A team: processes that share an arena, and memory for their results
 */

enum { MOST_CHILDREN = 64 };

struct team {
	struct buffers_arena *arena;
	struct buffers_request window;
	struct record_log *log;
	uint64_t seed;
	unsigned writers;	/* started so far */
	unsigned records;	/* for each process to append */
	unsigned functions;	/* for each process to append instead of records */
	unsigned members;
	unsigned arrived[4];	/* processes that finished each phase */
	unsigned succeeded;	/* orphans without a failed step */
	bool is_destroyed;	/* the parent has destroyed its arena */
	int line;		/* line of the first failed step of an orphan */
};

static struct team *new_team(int kind, size_t size, size_t records)
{
	struct team *team = map_memory(sizeof(*team), true);

	team->log = record_log_new(records, true);
	/* A first arena maps all that the library keeps, before exact_window() seeks a range. */
	buffers_arena_destroy(buffers_arena_create(&(struct buffers_request){ .size = 1 },
						   arena_flags(kind)));
	team->window = exact_window(size);
	team->arena = buffers_arena_create(&team->window, arena_flags(kind));
	ck_assert_ptr_nonnull(team->arena);
	team->seed = seed_random();
	return team;
}

static unsigned new_writer(struct team *team)
{
	return __atomic_add_fetch(&team->writers, 1, __ATOMIC_RELAXED);
}

static uint64_t random_of(const struct team *team, unsigned writer)
{
	return team->seed ^ (uint64_t)writer << 32;
}

/*
 * Waits until all members have finished the phase.  If one failed, the parent's assertion ends
 * the test, and Check kills the others.
 */
static void finish_phase(struct team *team, unsigned phase)
{
	__atomic_add_fetch(&team->arrived[phase], 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&team->arrived[phase], __ATOMIC_ACQUIRE) < team->members)
		yield_cpu();
}

static void start_all(struct team *team, int (*body)(void *), pid_t children[MOST_CHILDREN])
{
	for (unsigned i = 0; i < team->members; i++) {
		children[i] = fork_body(body, team);
		ck_assert_int_gt(children[i], 0);
	}
}

static void finish_all(struct team *team, const pid_t children[MOST_CHILDREN])
{
	for (unsigned i = 0; i < team->members; i++) {
		int status;
		pid_t child = waitpid(-1, &status, 0);
		bool is_member = false;

		for (unsigned j = 0; j < team->members; j++)
			is_member |= children[j] == child;
		ck_assert(is_member);
		ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
			      "a child failed: its output says where");
	}
}

static void run_all(struct team *team, int (*body)(void *))
{
	pid_t children[MOST_CHILDREN];

	start_all(team, body, children);
	finish_all(team, children);
}

/* Asserts that all records are finished and intact, and that no space was lost. */
static void check_all(struct team *team)
{
	unsigned unfinished;

	ck_assert(record_fill_up(team->log, team->arena));
	ck_assert(!record_log_is_full(team->log));
	ck_assert_ptr_null(record_check_all(team->log, &team->window, &unfinished));
	ck_assert_uint_eq(unfinished, 0);
	ck_assert_int_eq(team->line, 0);
}

/*
 * Gets an item and appends up to four records.  Returns -1 for ENOSPC, 0, or the line of the
 * step that failed.
 */
static int append_some(struct team *team, unsigned writer, uint64_t *random)
{
	size_t size = random_record_size(random);
	struct buffers_item *item;

	errno = 1234;
	item = buffers_arena_get(team->arena, size, 1);
	if (!item) {
		STEP(errno == ENOSPC);
		return -1;
	}
	STEP(errno == 1234);
	STEP(buffers_remaining(item) >= size);
	for (unsigned i = 0; i < 4 && size <= buffers_remaining(item); i++) {
		const void *next = buffers_next(item);

		STEP(record_append(team->log, item, writer, size) == next);
		size = random_record_size(random);
	}
	STEP(errno == 1234);
	buffers_release(item);
	return 0;
}

static int append_records(void *context)
{
	struct team *team = context;
	unsigned writer = new_writer(team);
	uint64_t random = random_of(team, writer);

	for (unsigned i = 0; i < team->records; i++) {
		int line = append_some(team, writer, &random);

		if (line > 0)
			return line;
		if (line < 0)
			sched_yield();
	}
	return 0;
}

static int append_with_children(void *context)
{
	struct team *team = context;
	pid_t children[2];
	int line = append_records(team);

	for (unsigned i = 0; i < 2; i++)
		children[i] = fork_body(append_records, team);
	if (line == 0)
		line = append_records(team);
	for (unsigned i = 0; i < 2; i++)
		if (!exits_with_zero(children[i]) && line == 0)
			line = __LINE__;
	return line;
}

static const unsigned sizes_of_teams[] = { 2, 8, 64 };
enum { TEAMS = 3, SHARED_KINDS = ARENA_KINDS - ARENA_SHARED };

START_TEST(no_record_of_any_child_is_lost_or_torn)
{
	struct team *team = new_team(ARENA_SHARED + _i % SHARED_KINDS, 16 * MIB, MIB);

	team->members = sizes_of_teams[_i / SHARED_KINDS];
	team->records = how_many(2000, 20000) / team->members;
	run_all(team, append_records);
	check_all(team);
}
END_TEST

START_TEST(grandchildren_share_the_arena)
{
	struct team *team = new_team(ARENA_SHARED + _i, 16 * MIB, MIB);

	team->members = 10;
	team->records = how_many(100, 1000);
	run_all(team, append_with_children);
	ck_assert_uint_eq(team->writers, 10 * 4);
	ck_assert_int_eq(append_records(team), 0);
	check_all(team);
}
END_TEST

/* Returns after 50 failed gets in a row, when hardly any space is free. */
static int append_until_exhausted(void *context)
{
	struct team *team = context;
	unsigned writer = new_writer(team);
	uint64_t random = random_of(team, writer);
	unsigned failures = 0;

	while (failures < 50) {
		int line = append_some(team, writer, &random);

		if (line > 0)
			return line;
		failures = line ? failures + 1 : 0;
	}
	return 0;
}

static int find_exhausted(struct team *team)
{
	for (size_t size = 1; size < 5000; size += 7) {
		errno = 0;
		STEP(!buffers_arena_get(team->arena, size, 1));
		STEP(errno == ENOSPC);
	}
	return 0;
}

/*
 * Waits until every process has found the arena exhausted.  Then all use up the rest, and then
 * all assert that nothing is left.
 */
static int exhaust(void *context)
{
	struct team *team = context;
	int line = append_until_exhausted(team);

	STEP(line == 0);
	finish_phase(team, 0);
	STEP(record_fill_up(team->log, team->arena));
	finish_phase(team, 1);
	line = find_exhausted(team);
	if (line)
		return line;
	STEP(!record_check(team->log));
	finish_phase(team, 2);
	return 0;
}

static int find_exhausted_as_child(void *team)
{
	return find_exhausted(team);
}

START_TEST(exhausted_arena_is_enospc_in_all_processes_and_intact)
{
	struct team *team = new_team(ARENA_SHARED + _i % SHARED_KINDS,
				     _i >= SHARED_KINDS || is_slow() ? 100 * KIB : 2 * MIB, MIB);
	static const char bytes[] = "changed";
	char *start = (char *)team->window.min_address;

	team->members = 6;
	run_all(team, exhaust);
	ck_assert_int_eq(find_exhausted(team), 0);
	check_all(team);
	ck_assert_int_eq(buffers_overwrite(start, bytes, sizeof(bytes)), 0);
	ck_assert_mem_eq(start, bytes, sizeof(bytes));
	run_child(find_exhausted_as_child, team);
	ck_assert_int_eq(buffers_arena_destroy(team->arena), 0);
}
END_TEST

/*
 * Code
 */

static int append_functions(struct team *team, unsigned writer)
{
	uint64_t random = random_of(team, writer);

	for (unsigned i = 0; i < team->functions; i++) {
		struct buffers_item *item = buffers_arena_get(team->arena, RECORD_CODE_MAX, 1);

		STEP(item);
		STEP(record_append_code(team->log, item, writer));
		buffers_release(item);
		if (random_below(&random, 4) == 0)
			STEP(append_some(team, writer, &random) <= 0);
	}
	return 0;
}

/* Calls the functions of all writers; *called is their number. */
static int call_functions(const struct team *team, unsigned *called)
{
	*called = 0;
	for (size_t i = 0; i < team->log->count; i++) {
		if (team->log->entries[i].kind != RECORD_CODE)
			continue;
		STEP(record_call(team->log, i));
		++*called;
	}
	return 0;
}

static int append_and_call_functions(void *context)
{
	struct team *team = context;
	int line = append_functions(team, new_writer(team));
	unsigned called;

	STEP(line == 0);
	finish_phase(team, 0);
	STEP(call_functions(team, &called) == 0);
	STEP(called == team->members * team->functions);
	return 0;
}

static int call_all_functions(void *context)
{
	struct team *team = context;
	unsigned called;

	STEP(call_functions(team, &called) == 0);
	STEP(called == team->members * team->functions);
	return 0;
}

START_TEST(code_of_each_child_runs_in_all_processes)
{
	struct team *team;

	SKIP_IF(!record_has_code(), "the tests have no code for this processor");
	team = new_team(ARENA_SHARED + _i, 16 * MIB, MIB);
	team->members = 8;
	team->functions = 200;
	run_all(team, append_and_call_functions);
	ck_assert_int_eq(call_all_functions(team), 0);
	run_child(call_all_functions, team);
	check_all(team);
}
END_TEST

/* The child sees the bytes of the parent, then overwrites them. */
static int see_and_overwrite(void *context)
{
	struct team *team = context;
	char *bytes = (char *)team->window.min_address;

	STEP(memcmp(bytes, "of the parent", 13) == 0);
	STEP(buffers_overwrite(bytes + 7, "child", 6) == 0);
	STEP(memcmp(bytes, "of the child", 13) == 0);
	return 0;
}

START_TEST(overwritten_bytes_are_seen_by_parent_and_child)
{
	struct team *team = new_team(ARENA_SHARED + _i, MIB, 10);
	struct buffers_item *item = buffers_arena_get(team->arena, 100, 1);
	char *bytes = buffers_append(item, "in the parent", 13);

	buffers_release(item);
	ck_assert_uint_eq((uintptr_t)bytes, team->window.min_address);
	ck_assert_int_eq(buffers_overwrite(bytes, "of", 2), 0);
	run_child(see_and_overwrite, team);
	ck_assert_mem_eq(bytes, "of the child", 13);
}
END_TEST

/*
 * Items of processes that exit
 */

static int end_with_an_item(void *context)
{
	struct team *team = context;
	struct buffers_item *item = buffers_arena_get(team->arena, 1, 1);

	STEP(item);
	STEP(buffers_append(item, "child", 5));
	return 0;
}

static int end_at_once_with_an_item(void *team)
{
	_exit(end_with_an_item(team));
}

static int execute_with_an_item(void *team)
{
	static char program[] = "/bin/true";
	static char *const arguments[] = { program, NULL };

	if (end_with_an_item(team) == 0)
		execv(arguments[0], arguments);
	return __LINE__;
}

static int (*const ends[])(void *) = {
	end_with_an_item, end_at_once_with_an_item, execute_with_an_item
};
enum { ENDS = 3 };

START_TEST(items_of_an_exited_process_are_released)
{
	/* the window is one page, so there is one item */
	struct team *team = new_team(ARENA_SHARED + _i % SHARED_KINDS, 1, 10);

	for (unsigned i = 1; i < 10; i++) {
		struct buffers_item *item;

		ck_assert(exits_with_zero(fork_body(ends[_i / SHARED_KINDS], team)));
		item = buffers_arena_get(team->arena, 1, 1);
		ck_assert_ptr_nonnull(item);
		ck_assert_uint_eq(buffers_size(item) - buffers_remaining(item), 11 * i - 6);
		ck_assert_mem_eq((char *)buffers_next(item) - 5, "child", 5);
		ck_assert_ptr_nonnull(buffers_append(item, "parent", 6));
		buffers_release(item);
	}
}
END_TEST

static int find_none(void *context)
{
	struct team *team = context;

	errno = 0;
	STEP(!buffers_arena_get(team->arena, 1, 1));
	STEP(errno == ENOSPC);
	return 0;
}

START_TEST(exit_of_a_child_releases_no_item_of_its_parent)
{
	struct team *team = new_team(ARENA_SHARED + _i, 1, 10);
	struct buffers_item *item = buffers_arena_get(team->arena, 1, 1);

	ck_assert_ptr_nonnull(item);
	for (unsigned i = 0; i < 10; i++) {
		run_child(find_none, team);
		ck_assert_ptr_nonnull(buffers_append(item, "parent", 6));
	}
	buffers_release(item);
	ck_assert_ptr_eq(buffers_arena_get(team->arena, 1, 1), item);
	buffers_release(item);
}
END_TEST

/* Reports for an orphan, for which no process of the test waits. */
static void store_failure(struct team *team, int line)
{
	int none = 0;

	if (line)
		__atomic_compare_exchange_n(&team->line, &none, line, false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
}

struct orphans {
	struct team *team;
	int kind;
	int parent_is_gone[2], all_are_done[2];
};

static _Noreturn void run_orphan(struct orphans *orphans, struct team *team)
{
	char byte;
	int line;

	close(orphans->parent_is_gone[1]);
	while (read(orphans->parent_is_gone[0], &byte, 1) > 0)
		;
	line = append_records(team);
	if (line == 0 && record_check(team->log))
		line = __LINE__;
	store_failure(orphans->team, line);
	__atomic_add_fetch(&orphans->team->succeeded, line == 0, __ATOMIC_RELEASE);
	exit(0);
}

/* This process creates the arena, so that the process of the test has no part in it. */
static int leave_orphans(void *context)
{
	struct orphans *orphans = context;
	struct team inner = *orphans->team;
	struct buffers_item *held;

	close(orphans->all_are_done[0]);
	inner.arena = buffers_arena_create(&inner.window, arena_flags(orphans->kind));
	STEP(inner.arena);
	held = buffers_arena_get(inner.arena, 1, 1);
	STEP(held);
	fflush(NULL);
	for (unsigned i = 0; i < 4; i++) {
		pid_t child = fork();

		STEP(child >= 0);
		if (child == 0)
			run_orphan(orphans, &inner);
	}
	return 0;
}

START_TEST(children_can_use_an_arena_after_its_creator_exited)
{
	struct orphans orphans = { .kind = ARENA_SHARED + _i };
	char byte;

	SKIP_IF(is_tsan(), TSAN_HELD);
	orphans.team = map_memory(sizeof(*orphans.team), true);
	orphans.team->log = record_log_new(100000, true);
	orphans.team->seed = seed_random();
	orphans.team->records = 200;
	orphans.team->window = (struct buffers_request){ .size = 16 * MIB };
	ck_assert_int_eq(pipe(orphans.parent_is_gone), 0);
	ck_assert_int_eq(pipe(orphans.all_are_done), 0);
	ck_assert(exits_with_zero(fork_body(leave_orphans, &orphans)));
	close(orphans.parent_is_gone[1]);
	close(orphans.all_are_done[1]);
	ck_assert_int_eq(read(orphans.all_are_done[0], &byte, 1), 0);
	ck_assert_int_eq(orphans.team->line, 0);
	ck_assert_uint_eq(orphans.team->succeeded, 4);
}
END_TEST

/*
 * Destruction
 */

static int destroy_and_go_on(void *context)
{
	struct team *team = context;
	struct buffers_request window = { .size = 100 };
	struct buffers_item *item = buffers_arena_get(team->arena, 1, 1);
	struct buffers_arena *other;

	STEP(item && buffers_append(item, "x", 1));
	errno = 0;
	STEP(buffers_arena_destroy(team->arena) == -1 && errno == EINVAL);
	buffers_release(item);
	STEP(append_records(team) == 0);
	errno = 1234;
	STEP(buffers_arena_destroy(team->arena) == 0 && errno == 1234);
	STEP(is_window_free(&team->window));
	other = buffers_arena_create(&window, BUFFERS_ARENA_FORK_SHARED);
	item = other ? buffers_arena_get(other, 1, 1) : NULL;
	STEP(item && buffers_next(item) == buffers_base(item));
	return 0;
}

START_TEST(destroy_in_a_child_does_not_affect_other_processes)
{
	struct team *team;
	pid_t children[MOST_CHILDREN];
	struct buffers_item *held;

	SKIP_IF(is_tsan(), TSAN_HELD);
	team = new_team(ARENA_SHARED + _i, 16 * MIB, MIB);
	team->members = 8;
	team->records = 100;
	held = buffers_arena_get(team->arena, 100, 1);
	ck_assert_ptr_nonnull(record_append(team->log, held, 0, 100));
	start_all(team, append_records, children);
	for (unsigned i = 0; i < 8; i++) {
		pid_t child = fork_body(destroy_and_go_on, team);

		ck_assert_int_eq(append_records(team), 0);
		ck_assert(exits_with_zero(child));
		ck_assert_ptr_nonnull(record_append(team->log, held, 0, 100));
	}
	buffers_release(held);
	finish_all(team, children);
	/* check_all() would count the "x" of each child as lost, for the log does not list it. */
	for (unsigned i = 0; i < team->log->count; i++)
		ck_assert_uint_ne(team->log->entries[i].address, 0);
	ck_assert_ptr_null(record_check(team->log));
	ck_assert_int_eq(append_records(team), 0);
	ck_assert_int_eq(buffers_arena_destroy(team->arena), 0);
}
END_TEST

static int append_before_and_after(void *context)
{
	struct team *team = context;

	STEP(append_records(team) == 0);
	finish_phase(team, 0);
	while (!__atomic_load_n(&team->is_destroyed, __ATOMIC_ACQUIRE))
		yield_cpu();
	STEP(append_with_children(team) == 0);
	finish_phase(team, 1);
	STEP(record_fill_up(team->log, team->arena));
	finish_phase(team, 2);
	STEP(!record_check(team->log));
	return find_exhausted(team);
}

START_TEST(destroy_in_the_parent_does_not_affect_children)
{
	struct team *team = new_team(ARENA_SHARED + _i, (is_slow() ? 1 : 16) * MIB, MIB);
	pid_t children[MOST_CHILDREN];

	team->members = 5;
	team->records = 100;
	start_all(team, append_before_and_after, children);
	while (__atomic_load_n(&team->arrived[0], __ATOMIC_ACQUIRE) < team->members)
		yield_cpu();
	ck_assert_int_eq(buffers_arena_destroy(team->arena), 0);
	ck_assert(is_window_free(&team->window));
	__atomic_store_n(&team->is_destroyed, true, __ATOMIC_RELEASE);
	finish_all(team, children);
}
END_TEST

/*
 * Private memory of each kind and source: parent and child have copies of their own
 */

enum source { FROM_ARENA, FROM_GET, FROM_ALLOC, SOURCES };
enum { PRIVATE_KINDS = 3 };	/* those that a child has a copy of: no view */

struct privacy {
	enum source source;
	unsigned flags;
	struct buffers_request request;
	struct buffers_arena *arena;
	struct buffers_item *item;	/* NULL if from buffers_alloc() */
	char *bytes;
	int from_parent[2], from_child[2];
};

enum { FAR = 20000 };		/* offset into a page that is untouched until the fork */

static void prepare_memory(struct privacy *privacy, int number)
{
	size_t allocated;

	privacy->source = (enum source)(number / PRIVATE_KINDS);
	privacy->flags = arena_flags(number % PRIVATE_KINDS);
	privacy->request = (struct buffers_request){
		.size = 4 * FAR, .max_address = 2 * GIB, .flags = privacy->flags,
	};
	if (privacy->source == FROM_ALLOC) {
		privacy->bytes = buffers_alloc(&privacy->request, &allocated);
		ck_assert_ptr_nonnull(privacy->bytes);
		ck_assert_int_eq(buffers_overwrite(privacy->bytes, "before", 6), 0);
		return;
	}
	if (privacy->source == FROM_ARENA) {
		privacy->arena = buffers_arena_create(&privacy->request, 0);
		ck_assert_ptr_nonnull(privacy->arena);
		privacy->item = buffers_arena_get(privacy->arena, 3 * FAR, 1);
	} else {
		privacy->item = buffers_get(&privacy->request);
	}
	ck_assert_ptr_nonnull(privacy->item);
	privacy->bytes = buffers_append(privacy->item, "before", 6);
	ck_assert_ptr_eq(buffers_reserve(privacy->item, FAR - 6, 1), privacy->bytes + 6);
}

static bool send_byte(int file)
{
	return write(file, "", 1) == 1;
}

static bool receive_byte(int file)
{
	char byte;

	return read(file, &byte, 1) == 1;
}

/* Overwrites bytes from before the fork, and writes to a page that was untouched then. */
static int change_bytes(struct privacy *privacy, const char *name)
{
	char *far = privacy->bytes + FAR;

	STEP(memcmp(privacy->bytes, "before\0", 7) == 0);
	STEP(far[0] == 0);
	STEP(buffers_overwrite(privacy->bytes, name, 6) == 0);
	if (privacy->item)
		STEP(buffers_append(privacy->item, name, 6) == far);
	else
		STEP(buffers_overwrite(far, name, 6) == 0);
	return 0;
}

static int find_changed_bytes(const struct privacy *privacy, const char *name)
{
	STEP(memcmp(privacy->bytes, name, 6) == 0 && privacy->bytes[6] == 0);
	STEP(memcmp(privacy->bytes + FAR, name, 6) == 0 && privacy->bytes[FAR + 6] == 0);
	return 0;
}

/*
 * In an arena, parent and child get the item of their own copy.  From buffers_get(), only the
 * parent gets its item again; the child gets another one.
 */
static int get_another(struct privacy *privacy, const char *name, bool is_child)
{
	struct buffers_request request = privacy->request;
	struct buffers_item *item;
	size_t allocated;
	char *copy;

	if (privacy->source == FROM_ALLOC) {
		copy = buffers_alloc(&request, &allocated);
		STEP(copy && copy != privacy->bytes);
		STEP(buffers_overwrite(copy, name, 6) == 0 && memcmp(copy, name, 6) == 0);
		return 0;
	}
	request.size = 10;
	buffers_release(privacy->item);
	item = privacy->arena ? buffers_arena_get(privacy->arena, 10, 1) : buffers_get(&request);
	STEP(item);
	STEP((item == privacy->item) == (privacy->arena || !is_child));
	copy = buffers_append(item, name, 6);
	STEP(copy && memcmp(copy, name, 6) == 0);
	STEP(!privacy->arena || copy == privacy->bytes + FAR + 6);
	buffers_release(item);
	return 0;
}

static int change_while_the_parent_does(struct privacy *privacy)
{
	int line;

	STEP(receive_byte(privacy->from_parent[0]));
	line = change_bytes(privacy, "child!");
	STEP(line == 0);
	STEP(send_byte(privacy->from_child[1]) && receive_byte(privacy->from_parent[0]));
	line = find_changed_bytes(privacy, "child!");
	STEP(line == 0);
	line = get_another(privacy, "child!", true);
	STEP(line == 0);
	STEP(send_byte(privacy->from_child[1]) && receive_byte(privacy->from_parent[0]));
	STEP(!privacy->arena || memcmp(privacy->bytes + FAR + 6, "child!", 6) == 0);
	STEP(!privacy->arena || buffers_arena_destroy(privacy->arena) == 0);
	return 0;
}

/* fork() runs the library's fork handlers, and a clone runs none. */
static pid_t fork_or_clone(bool is_clone)
{
	return is_clone ? fork_without_handlers() : fork();
}

START_TEST(parent_and_child_never_see_each_others_private_writes)
{
	struct privacy privacy = { .item = NULL };
	pid_t child;
	int line;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF((_i & 1) && !can_wipe_on_fork(), NO_WIPE);
	prepare_memory(&privacy, _i / 2);
	ck_assert_int_eq(pipe(privacy.from_parent), 0);
	ck_assert_int_eq(pipe(privacy.from_child), 0);
	fflush(NULL);
	child = fork_or_clone(_i & 1);
	if (child == 0) {
		line = change_while_the_parent_does(&privacy);
		if (line)
			fprintf(stderr, "child's step in line %d failed\n", line);
		_exit(line != 0);
	}
	ck_assert_int_gt(child, 0);
	close(privacy.from_child[1]);
	ck_assert_int_eq(change_bytes(&privacy, "parent"), 0);
	ck_assert(send_byte(privacy.from_parent[1]) && receive_byte(privacy.from_child[0]));
	ck_assert_int_eq(find_changed_bytes(&privacy, "parent"), 0);
	ck_assert_int_eq(get_another(&privacy, "parent", false), 0);
	ck_assert(send_byte(privacy.from_parent[1]) && receive_byte(privacy.from_child[0]));
	if (privacy.arena)
		ck_assert_mem_eq(privacy.bytes + FAR + 6, "parent", 6);
	ck_assert(send_byte(privacy.from_parent[1]));
	ck_assert(exits_with_zero(child));
	if (privacy.arena) {
		ck_assert_mem_eq(privacy.bytes + FAR, "parentparent", 12);
		ck_assert_int_eq(buffers_arena_destroy(privacy.arena), 0);
	}
}
END_TEST

static int use_up_a_copy(void *context)
{
	struct team *team = context;
	struct buffers_item *item;

	while ((item = buffers_arena_get(team->arena, 1, 1))) {
		STEP(record_append(team->log, item, 7, RECORD_MIN) ||
		     record_reserve(team->log, item, 7, buffers_remaining(item)));
		buffers_release(item);
	}
	STEP(errno == ENOSPC);
	STEP(!record_check(team->log));
	STEP(buffers_arena_destroy(team->arena) == 0);
	return 0;
}

START_TEST(space_used_up_in_the_copy_of_a_child_stays_free_in_the_parent)
{
	struct team team = { .log = record_log_new(100000, false), .records = 100 };
	unsigned unfinished;

	buffers_arena_destroy(buffers_arena_create(&(struct buffers_request){ .size = 1 }, 0));
	team.window = exact_window(is_slow() ? 256 * KIB : MIB);
	team.arena = buffers_arena_create(&team.window, arena_flags(_i));
	ck_assert_ptr_nonnull(team.arena);
	for (unsigned i = 0; i < how_many(3, 3); i++) {
		ck_assert_int_eq(append_records(&team), 0);
		run_child(use_up_a_copy, &team);
	}
	ck_assert(record_fill_up(team.log, team.arena));
	ck_assert_ptr_null(record_check_all(team.log, &team.window, &unfinished));
	ck_assert_uint_eq(unfinished, 0);
}
END_TEST

/*
 * Threads that use an arena while another thread forks
 */

enum { BUSY = 3 };

/* Larger than an item can be, but in a 64-bit process smaller than the window. */
#define TOO_LARGE ((size_t)UINT32_MAX)
#define BUSY_WINDOW (SIZE_MAX > UINT32_MAX ? TOO_LARGE + 256 * MIB : 64 * MIB)

struct busy {
	struct team team;
	size_t allowed;		/* records; bounds the number that each child must check */
	bool stop;
};

static bool may_append(const struct busy *busy)
{
	return __atomic_load_n(&busy->team.log->count, __ATOMIC_RELAXED) <
	       __atomic_load_n(&busy->allowed, __ATOMIC_RELAXED);
}

static void *keep_busy(void *context)
{
	struct busy *busy = context;
	unsigned writer = new_writer(&busy->team);

	while (!__atomic_load_n(&busy->stop, __ATOMIC_RELAXED)) {
		struct buffers_item *item = buffers_arena_get(busy->team.arena, 1, 1);

		/* takes the arena's lock before it fails */
		if (busy->team.window.size > TOO_LARGE &&
		    buffers_arena_get(busy->team.arena, TOO_LARGE, 1))
			return busy;
		if (item && may_append(busy) && buffers_remaining(item) >= 100 &&
		    !record_append(busy->team.log, item, writer, 100))
			return busy;
		if (item)
			buffers_release(item);
		else if (errno != ENOSPC)
			return busy;
	}
	return NULL;
}

static int use_copy(void *context)
{
	struct busy *busy = context;
	uint64_t random = 1;

	STEP(!record_check(busy->team.log));
	for (unsigned i = 0; i < 50; i++)
		STEP(append_some(&busy->team, 1000, &random) == 0);
	STEP(!record_check(busy->team.log));
	return 0;
}

/* Makes all threads append at once, so that the next fork comes while they do. */
static void allow_some(struct busy *busy)
{
	size_t count = __atomic_load_n(&busy->team.log->count, __ATOMIC_RELAXED);

	__atomic_store_n(&busy->allowed, count + 100, __ATOMIC_RELAXED);
}

static void use_copies(struct busy *busy, bool is_clone)
{
	for (unsigned i = 0; i < how_many(20, 60); i++) {
		pid_t child;

		allow_some(busy);
		if (is_clone) {
			child = fork_or_clone(true);
			if (child == 0)
				_exit(use_copy(busy) != 0);
		} else {
			child = fork_body(use_copy, busy);
		}
		ck_assert_int_gt(child, 0);
		ck_assert(exits_with_zero(child));
	}
}

START_TEST(child_forked_amid_busy_threads_can_use_its_copy)
{
	struct busy busy = { .team = { .log = record_log_new(MIB, false) } };
	pthread_t threads[BUSY];
	unsigned unfinished;
	void *failed;

	SKIP_IF(is_tsan(), "TSan does not support threads and fork");
	SKIP_IF(is_emulated(), FORKS_IN_THREADS);
	SKIP_IF(!can_overcommit(), "this system does not overcommit memory");
	buffers_arena_destroy(buffers_arena_create(&(struct buffers_request){ .size = 1 }, 0));
	SKIP_IF(!arena_fits(arena_flags(_i / 2), BUSY_WINDOW + MIB), NO_ADDRESS_SPACE);
	busy.team.window = exact_window(BUSY_WINDOW);
	busy.team.arena = buffers_arena_create(&busy.team.window, arena_flags(_i / 2));
	ck_assert_ptr_nonnull(busy.team.arena);
	for (size_t i = 0; i < BUSY; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, keep_busy, &busy), 0);
	use_copies(&busy, _i & 1);
	__atomic_store_n(&busy.stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < BUSY; i++) {
		pthread_join(threads[i], &failed);
		ck_assert_ptr_null(failed);
	}
	ck_assert(record_fill_up(busy.team.log, busy.team.arena));
	ck_assert_ptr_null(record_check_all(busy.team.log, &busy.team.window, &unfinished));
	ck_assert_uint_eq(unfinished, 0);
}
END_TEST

/* In a shared arena, items that threads of the parent hold are held for the child, too. */
START_TEST(child_forked_amid_busy_threads_can_share_the_arena)
{
	struct busy busy = { .team = { .log = record_log_new(MIB, true) } };
	pthread_t threads[BUSY];
	unsigned unfinished;
	void *failed;

	SKIP_IF(is_tsan(), "TSan does not support threads and fork");
	SKIP_IF(is_emulated(), FORKS_IN_THREADS);
	buffers_arena_destroy(buffers_arena_create(&(struct buffers_request){ .size = 1 },
						   BUFFERS_ARENA_FORK_SHARED));
	SKIP_IF(!arena_fits(arena_flags(ARENA_SHARED + _i), BUSY_WINDOW + MIB), NO_ADDRESS_SPACE);
	busy.team.window = exact_window(BUSY_WINDOW);
	busy.team.arena = buffers_arena_create(&busy.team.window, arena_flags(ARENA_SHARED + _i));
	ck_assert_ptr_nonnull(busy.team.arena);
	for (size_t i = 0; i < BUSY; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, keep_busy, &busy), 0);
	for (unsigned i = 0; i < how_many(20, 60); i++) {
		allow_some(&busy);
		ck_assert(exits_with_zero(fork_body(use_copy, &busy)));
	}
	__atomic_store_n(&busy.stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < BUSY; i++) {
		pthread_join(threads[i], &failed);
		ck_assert_ptr_null(failed);
	}
	ck_assert(record_fill_up(busy.team.log, busy.team.arena));
	ck_assert_ptr_null(record_check_all(busy.team.log, &busy.team.window, &unfinished));
	ck_assert_uint_eq(unfinished, 0);
}
END_TEST

/*
 * An arena of many items
 */

#define MANY_ITEMS (SIZE_MAX > UINT32_MAX && !is_slow() ? 4 * GIB : 256 * MIB)

/* Nodes for all the items would take much more than this; a view takes a page. */
static int use_without_new_index(void *context)
{
	struct team *team = context;
	size_t before = mapped_bytes();
	struct buffers_item *item;

	for (unsigned i = 0; i < 3; i++) {
		item = buffers_arena_get(team->arena, 1, 1);
		STEP(item);
		buffers_release(item);
	}
	STEP(mapped_bytes() - before < 64 * KIB + granularity());
	return 0;
}

START_TEST(child_continues_with_the_index_of_its_parent)
{
	struct team team = { .writers = 0 };
	struct buffers_item *item = NULL;

	SKIP_IF(!can_overcommit(), "this system does not overcommit memory");
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps memory itself");
	team.arena = buffers_arena_create(&(struct buffers_request){ .size = MANY_ITEMS },
					  arena_flags(_i));
	ck_assert_ptr_nonnull(team.arena);
	for (size_t i = 0; i < MANY_ITEMS / (64 * KIB) - 10; i++) {
		item = buffers_arena_get(team.arena, 1, 1);
		ck_assert_ptr_nonnull(item);
		ck_assert_ptr_nonnull(buffers_reserve(item, buffers_remaining(item), 1));
		buffers_release(item);
	}
	run_child(use_without_new_index, &team);
}
END_TEST

static TCase *add_case(Suite *suite, const char *name)
{
	TCase *tests = tcase_create(name);

	tcase_set_tags(tests, "fork slow");
	tcase_set_timeout(tests, 300);
	tcase_add_checked_fixture(tests, set_up_sandbox, NULL);
	suite_add_tcase(suite, tests);
	return tests;
}

static void add_shared(Suite *suite)
{
	TCase *shared = add_case(suite, "shared");
	TCase *at_exit = add_case(suite, "ends");

	tcase_add_loop_test(shared, no_record_of_any_child_is_lost_or_torn, 0,
			    TEAMS * SHARED_KINDS);
	tcase_add_loop_test(shared, grandchildren_share_the_arena, 0, SHARED_KINDS);
	tcase_add_loop_test(shared, exhausted_arena_is_enospc_in_all_processes_and_intact, 0,
			    2 * SHARED_KINDS);
	tcase_add_loop_test(shared, code_of_each_child_runs_in_all_processes, 0, 2);
	tcase_add_loop_test(shared, overwritten_bytes_are_seen_by_parent_and_child, 0,
			    SHARED_KINDS);
	tcase_add_loop_test(shared, child_forked_amid_busy_threads_can_share_the_arena, 0,
			    SHARED_KINDS);
	tcase_add_loop_test(shared, child_continues_with_the_index_of_its_parent, ARENA_SHARED,
			    ARENA_KINDS);

	tcase_add_loop_test(at_exit, items_of_an_exited_process_are_released, 0,
			    ENDS * SHARED_KINDS);
	tcase_add_loop_test(at_exit, exit_of_a_child_releases_no_item_of_its_parent, 0,
			    SHARED_KINDS);
	tcase_add_loop_test(at_exit, children_can_use_an_arena_after_its_creator_exited, 0,
			    SHARED_KINDS);
	tcase_add_loop_test(at_exit, destroy_in_a_child_does_not_affect_other_processes, 0,
			    SHARED_KINDS);
	tcase_add_loop_test(at_exit, destroy_in_the_parent_does_not_affect_children, 0,
			    SHARED_KINDS);
}

int main(void)
{
	Suite *suite = suite_create("arena/arena-fork");
	TCase *private = add_case(suite, "private");

	if (can_share_arenas())
		add_shared(suite);
	tcase_add_loop_test(private,
			    parent_and_child_never_see_each_others_private_writes, 0,
			    2 * SOURCES * PRIVATE_KINDS);
	tcase_add_loop_test(private, space_used_up_in_the_copy_of_a_child_stays_free_in_the_parent,
			    0, PRIVATE_KINDS);
	tcase_add_loop_test(private, child_forked_amid_busy_threads_can_use_its_copy, 0,
			    2 * PRIVATE_KINDS);
	tcase_add_loop_test(private, child_continues_with_the_index_of_its_parent, 0, PRIVATE_KINDS);
	return run_suite(suite);
}
