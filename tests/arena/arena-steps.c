/* SPDX-License-Identifier: MIT */
/*
 * api-arena-steps.c: a process is killed, or forks, after each instruction
 *
 * A child is led through a few calls instruction by instruction, and stopped after so
 * many, a new child and a new arena for each number.
 *
 * Killed, it must leave a shared arena whole: its parent can use up the window to the
 * last byte, but for what the child had appended.  Where it forks instead, as another
 * thread might, its own child must be able to go on with what it has then.
 *
 * Random instants hardly ever hit the few that matter; of instructions a run takes some,
 * each time others.
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

/* What is done with a new arena before a child is led through use(). */
struct scene {
	size_t window;
	unsigned flags;
	unsigned used_up;	/* so many items have no room */
	unsigned released;	/* so many have, and nobody holds them */
};

static const struct scene scenes[] = {
	{ 64 * KIB, 0, 0, 0 },				/* the first item of all */
	{ 64 * KIB, 0, 0, 1 },				/* one that is there */
	{ 64 * KIB, 0, 1, 0 },				/* another one */
	{ 64 * KIB, 0, 16, 0 },				/* none is left */
	{ 1024 * KIB, 0, 41, 0 },			/* the first in another locator */
	{ 64 * KIB, BUFFERS_RW, 1, 1 },
	{ 64 * KIB, BUFFERS_RX, 0, 1 },			/* written by a second mapping */
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

static struct buffers_arena *set(const struct scene *scene, unsigned flags, size_t *used)
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

static void use(struct buffers_arena *arena)
{
	struct buffers_item *item = buffers_arena_get(arena, RECORD, 8);

	if (item && !buffers_append(item, record, RECORD))
		_exit(1);
	buffers_release(item);
}

/* A process learns what is in the arena when it searches first: all that is its own. */
static void learn(struct buffers_arena *arena, const struct scene *scene)
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

/* Stopped before it acts, and after. */
static pid_t start(struct buffers_arena *arena, const struct scene *scene)
{
	pid_t child = fork();
	int status;

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(77);
		learn(arena, scene);
		raise(SIGSTOP);
		use(arena);
		raise(SIGSTOP);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP)
		return child;
	kill(child, SIGKILL);
	return 0;
}

static void end(pid_t child)
{
	int status;

	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status));
}

/* How many instructions it took, `most` or fewer: then it has acted. */
static unsigned step(pid_t child, unsigned most)
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
 * Where atomic changes are a load that reserves and a store that needs the reservation,
 * a stop between the two loses it, and the loop around them never ends.
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
	steps = step(child, MOST);
	end(child);
	return steps < MOST;
}

#define SKIP_IF_STEPS_RESERVE_NOTHING()						\
	SKIP_IF(!can_step_over_atomics(), "no atomic change ends where each instruction is a stop")

/* All that is left can be had, and then nothing. */
static size_t drain(struct buffers_arena *arena)
{
	size_t sum = 0;
	size_t room;

	while ((room = use_up(arena)))
		sum += room;
	ck_assert_int_eq(errno, ENOSPC);
	return sum;
}

struct result {
	bool is_possible;	/* the system lets one lead another */
	unsigned steps;		/* that were made */
};

static struct result kill_after(const struct scene *scene, unsigned steps)
{
	size_t used, left, lost;
	struct buffers_arena *arena = set(scene, BUFFERS_ARENA_FORK_SHARED, &used);
	pid_t child = start(arena, scene);
	struct result result = { .is_possible = child != 0 };

	if (child) {
		result.steps = step(child, steps);
		end(child);
		left = drain(arena);
		ck_assert_uint_le(used + left, scene->window);
		lost = scene->window - used - left;
		ck_assert_msg(lost == 0 || lost == RECORD,
			      "%zu bytes lost after %u instructions", lost, steps);
	}
	ck_assert_int_eq(buffers_arena_destroy(arena), 0);
	return result;
}

/* To wake another processor for each step takes ten times as long. */
static void stay_here(void)
{
	cpu_set_t here;

	CPU_ZERO(&here);
	CPU_SET((size_t)sched_getcpu(), &here);
	sched_setaffinity(0, sizeof(here), &here);
}

/* After some instructions, all as far apart. */
static void try_all(const struct scene *scene,
		    struct result (*stop_after)(const struct scene *scene, unsigned steps))
{
	uint64_t seed = seed_random();
	struct result all;
	unsigned stride;

	stay_here();
	all = stop_after(scene, MOST_STEPS);
	if (!all.is_possible) {
		printf("skipped: no process can be traced here\n");
		return;
	}
	ck_assert_uint_lt(all.steps, MOST_STEPS);
	stride = (all.steps - 1) / (is_slow() ? 2 : how_many(20, 200)) + 1;
	for (unsigned steps = (unsigned)random_below(&seed, stride); steps < all.steps;
	     steps += stride)
		stop_after(scene, steps);
	printf("%u instructions, stopped after one in %u\n", all.steps, stride);
}

START_TEST(process_killed_after_any_instruction_leaves_all_whole)
{
	SKIP_IF(is_tsan(), "its runtime takes a hundred instructions for each of ours");
	SKIP_IF(!has_robust_locks(), NO_ROBUST_LOCKS);
	SKIP_IF_STEPS_RESERVE_NOTHING();
	try_all(&scenes[_i], kill_after);
}
END_TEST

/*
 * Forking
 */

/* What the interrupted thread held stays held: of the rest all can be used up. */
static int go_on(struct buffers_arena *arena, const struct scene *scene)
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

static void fork_and_leave(int signal)
{
	pid_t child = fork();
	int status;

	(void)signal;
	if (child == 0) {
		alarm(60);
		_exit(go_on(forked_arena, forked_scene));
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

	forked_arena = set(scene, 0, &used);
	forked_scene = scene;
	child = start(forked_arena, scene);
	if (child) {
		result = (struct result){ true, step(child, steps) };
		ck_assert_int_eq(ptrace(PTRACE_DETACH, child, NULL, SIGUSR1), 0);
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert(WIFEXITED(status));
		ck_assert_msg(WEXITSTATUS(status) == 0, "%d after %u instructions",
			      WEXITSTATUS(status), steps);
	}
	ck_assert_int_eq(buffers_arena_destroy(forked_arena), 0);
	return result;
}

START_TEST(child_forked_after_any_instruction_goes_on_with_its_copy)
{
	SKIP_IF(is_tsan(), "its runtime takes a hundred instructions for each of ours");
	SKIP_IF_STEPS_RESERVE_NOTHING();
	signal(SIGUSR1, fork_and_leave);
	try_all(&scenes[_i], fork_after);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("api-arena-steps");
	TCase *steps = tcase_create("steps");
	int count = sizeof(scenes) / sizeof(scenes[0]);

	tcase_set_timeout(steps, 600);
	tcase_set_tags(steps, "fork slow");
	tcase_add_loop_test(steps, process_killed_after_any_instruction_leaves_all_whole, 0, count);
	tcase_add_loop_test(steps, child_forked_after_any_instruction_goes_on_with_its_copy, 0,
			    count);
	suite_add_tcase(suite, steps);
	return run_suite(suite);
}
