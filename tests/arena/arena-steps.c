/* SPDX-License-Identifier: MIT */
/*
 * arena/arena-steps.c: a process is killed, or forks, after any instruction
 *
 * The test single-steps a child through a few calls and stops it after n instructions.  It
 * starts a new child and a new arena for each n.
 *
 * If the test kills the child, the shared arena must stay intact: the parent can use up the
 * window to the last byte, except for the record that the child had appended.  If the child
 * forks there, as another of its threads could, its own child must be able to use the copy of
 * the arena.
 *
 * A kill at a random time rarely hits the few instructions that matter.  Each run tries a
 * sample of all instructions, a different one each time.
 */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)

enum { RECORD = 24, MOST_STEPS = 1000000 };

static const char record[RECORD] = "a record of 24 bytes...";

/* The state of the arena before a child is stepped through append_record(). */
struct scene {
	size_t window;
	unsigned flags;
	unsigned used_up;	/* items without free space */
	unsigned released;	/* items with free space that no process holds */
};

static const struct scene scenes[] = {
	{ 64 * KIB, 0, 0, 0 },				/* makes the first item */
	{ 64 * KIB, 0, 0, 1 },				/* gets an existing item */
	{ 64 * KIB, 0, 1, 0 },				/* makes another item */
	{ 64 * KIB, 0, 16, 0 },				/* finds the window used up */
	{ 1024 * KIB, 0, 41, 0 },			/* makes the second locator */
	{ 64 * KIB, BUFFERS_RW, 1, 1 },
	{ 64 * KIB, BUFFERS_RX, 0, 1 },			/* writes through a second mapping */
};

static size_t use_up(struct buffers_arena *arena)
{
	struct buffers_item *item = buffers_arena_get(arena, 1, 0);
	size_t room;

	if (!item)
		return 0;
	room = buffers_remaining(item);
	ck_assert_ptr_nonnull(buffers_reserve(item, room, 1));
	buffers_release(item);
	return room;
}

static struct buffers_arena *new_arena(const struct scene *scene, unsigned flags, size_t *used)
{
	struct buffers_request window = { .size = scene->window };
	struct buffers_arena *arena =
		buffers_arena_create(&window, scene->flags | flags);

	ck_assert_ptr_nonnull(arena);
	*used = 0;
	for (unsigned i = 0; i < scene->used_up; i++)
		*used += use_up(arena);
	for (unsigned i = 0; i < scene->released; i++)
		buffers_release(buffers_arena_get(arena, 1, 0));
	return arena;
}

static void append_record(struct buffers_arena *arena)
{
	struct buffers_item *item = buffers_arena_get(arena, RECORD, 8);

	if (item && !buffers_append(item, record, RECORD))
		_exit(1);
	buffers_release(item);
}

/*
 * Lets the child do its one-time work before it is stepped: the first search, which reads the
 * whole arena, and the first write to RX memory.
 */
static void do_first_calls(struct buffers_arena *arena, const struct scene *scene)
{
	struct buffers_request request = { .size = 1, .flags = BUFFERS_RX };
	struct buffers_item *item;

	if ((scene->used_up || scene->released) && buffers_arena_get(arena, scene->window, 1))
		_exit(1);
	if (!(scene->flags & BUFFERS_RX))
		return;
	item = buffers_get(&request);
	if (!item || !buffers_append(item, record, 1))
		_exit(1);
	buffers_release(item);
}

/* Starts a child that stops before and after append_record(); 0 if it cannot be traced. */
static pid_t start_stepped(struct buffers_arena *arena, const struct scene *scene)
{
	pid_t child = fork();
	int status;

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(77);
		do_first_calls(arena, scene);
		raise(SIGSTOP);
		append_record(arena);
		raise(SIGSTOP);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP)
		return child;
	kill(child, SIGKILL);
	return 0;
}

static void kill_stepped(pid_t child)
{
	int status;

	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status));
}

/* Executes `most` instructions of the child, or fewer if it stops before; returns how many. */
static unsigned step_child(pid_t child, unsigned most)
{
	unsigned steps;
	int status;

	for (steps = 0; steps < most; steps++) {
		ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert(WIFSTOPPED(status));
		if (WSTOPSIG(status) == SIGSTOP)
			break;
		ck_assert_int_eq(WSTOPSIG(status), SIGTRAP);
	}
	return steps;
}

/*
 * On some processors an atomic change is a loop of a load that makes a reservation and a store
 * that needs it.  A stop between the two loses the reservation, so the loop never ends.
 */
static bool can_step_over_atomics(void)
{
	enum { MOST = 10000 };
	static unsigned word;
	pid_t child = fork();
	unsigned steps;
	int status;

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(77);
		raise(SIGSTOP);
		__atomic_add_fetch(&word, 1, __ATOMIC_RELAXED);
		raise(SIGSTOP);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	if (!WIFSTOPPED(status))
		return true;
	steps = step_child(child, MOST);
	kill_stepped(child);
	return steps < MOST;
}

#define SKIP_IF_STEPS_BREAK_ATOMICS()						\
	SKIP_IF(!can_step_over_atomics(), "atomic changes never end under single-stepping here")

/* Uses up all free space, asserts that ENOSPC follows, and returns the number of bytes. */
static size_t use_up_all(struct buffers_arena *arena)
{
	size_t sum = 0;
	size_t room;

	while ((room = use_up(arena)))
		sum += room;
	ck_assert_int_eq(errno, ENOSPC);
	return sum;
}

struct result {
	bool is_possible;	/* the system permits ptrace() */
	unsigned steps;		/* instructions that the child executed */
};

static struct result kill_after(const struct scene *scene, unsigned steps)
{
	size_t used, left, lost;
	struct buffers_arena *arena = new_arena(scene, BUFFERS_ARENA_FORK_SHARED, &used);
	pid_t child = start_stepped(arena, scene);
	struct result result = { .is_possible = child != 0 };

	if (child) {
		result.steps = step_child(child, steps);
		kill_stepped(child);
		left = use_up_all(arena);
		ck_assert_uint_le(used + left, scene->window);
		lost = scene->window - used - left;
		ck_assert_msg(lost == 0 || lost == RECORD,
			      "%zu bytes lost after %u instructions", lost, steps);
	}
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
	return result;
}

/* On one processor: waking another one for each step takes ten times as long. */
static void stay_on_this_processor(void)
{
	cpu_set_t here;

	CPU_ZERO(&here);
	CPU_SET((size_t)sched_getcpu(), &here);
	sched_setaffinity(0, sizeof(here), &here);
}

/* Stops children after numbers of instructions that are `stride` apart. */
static void try_all(const struct scene *scene,
		    struct result (*stop_after)(const struct scene *scene, unsigned steps))
{
	uint64_t seed = seed_random();
	struct result all;
	unsigned stride;

	stay_on_this_processor();
	all = stop_after(scene, MOST_STEPS);
	if (!all.is_possible) {
		printf("skipped: this process may not use ptrace()\n");
		return;
	}
	ck_assert_uint_lt(all.steps, MOST_STEPS);
	stride = (all.steps - 1) / (is_slow() ? 2 : how_many(20, 200)) + 1;
	for (unsigned steps = (unsigned)random_below(&seed, stride); steps < all.steps;
	     steps += stride)
		stop_after(scene, steps);
	printf("%u instructions, stopped after one in %u\n", all.steps, stride);
}

START_TEST(process_killed_after_any_instruction_leaves_the_arena_intact)
{
	SKIP_IF(is_tsan(), "TSan's runtime multiplies the instructions by a hundred");
	SKIP_IF(!has_robust_locks(), NO_ROBUST_LOCKS);
	SKIP_IF_STEPS_BREAK_ATOMICS();
	try_all(&scenes[_i], kill_after);
}
END_TEST

/*
 * Forking
 */

/* Uses up all free space.  An item that the interrupted thread held stays held in the copy. */
static int use_up_copy(struct buffers_arena *arena, const struct scene *scene)
{
	size_t sum = 0;
	struct buffers_item *item;

	while ((item = buffers_arena_get(arena, 1, 0))) {
		if (!buffers_append(item, record, 1))
			return 1;
		sum += buffers_remaining(item);
		if (!buffers_reserve(item, buffers_remaining(item), 1))
			return 2;
		buffers_release(item);
	}
	if (errno != ENOSPC)
		return 3;
	return sum <= scene->window ? 0 : 4;
}

static struct buffers_arena *forked_arena;
static const struct scene *forked_scene;

static void fork_and_exit(int signal)
{
	pid_t child = fork();
	int status;

	(void)signal;
	if (child == 0) {
		alarm(60);
		_exit(use_up_copy(forked_arena, forked_scene));
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		_exit(10);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 11);
}

static struct result fork_after(const struct scene *scene, unsigned steps)
{
	struct result result = { .is_possible = false };
	size_t used;
	pid_t child;
	int status;

	forked_arena = new_arena(scene, 0, &used);
	forked_scene = scene;
	child = start_stepped(forked_arena, scene);
	if (child) {
		result = (struct result){ true, step_child(child, steps) };
		ck_assert_int_eq(ptrace(PTRACE_DETACH, child, NULL, SIGUSR1), 0);
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert(WIFEXITED(status));
		ck_assert_msg(WEXITSTATUS(status) == 0, "%d after %u instructions",
			      WEXITSTATUS(status), steps);
	}
	ck_assert_int_eq(buffers_arena_destroy(forked_arena), 0);
	return result;
}

START_TEST(child_forked_after_any_instruction_can_use_its_copy)
{
	SKIP_IF(is_tsan(), "TSan's runtime multiplies the instructions by a hundred");
	SKIP_IF_STEPS_BREAK_ATOMICS();
	signal(SIGUSR1, fork_and_exit);
	try_all(&scenes[_i], fork_after);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("arena/arena-steps");
	TCase *steps = tcase_create("steps");
	int count = sizeof(scenes) / sizeof(scenes[0]);

	tcase_set_timeout(steps, 600);
	tcase_set_tags(steps, "fork slow");
	tcase_add_loop_test(steps, process_killed_after_any_instruction_leaves_the_arena_intact, 0,
			    count);
	tcase_add_loop_test(steps, child_forked_after_any_instruction_can_use_its_copy, 0,
			    count);
	suite_add_tcase(suite, steps);
	return run_suite(suite);
}
