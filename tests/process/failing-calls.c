/* SPDX-License-Identifier: MIT */
/*
 * process/failing-calls.c: every system call of every public function fails in turn
 *
 * The function succeeds, or fails with one of the documented errors.  It leaks neither descriptors
 * nor memory, and its next call works.
 */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/restrict.h"
#include "support/sandbox.h"
#include "support/supervise.h"
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/*
 * The attempts after the first two find the library as these have left it.  A search that tried
 * all addresses in reach, one after the other, would make 28,000 calls.
 */
enum { ATTEMPTS = 4, SETTLED = 2, SIZE = 400, MOST_CALLS = 4096 };

static const int errors[] = { ENOMEM, EPERM, EINTR, EMFILE, ENOSYS, EINVAL, EIO, EBADF };
enum { ERRORS = sizeof(errors) / sizeof(errors[0]) };

/* Shared with the parent. */
struct plan {
	unsigned position;	/* number of the call that fails, from 1 */
	bool is_lasting;	/* all later calls of the attempt fail as well */
	int error;
	unsigned calls;		/* of this attempt */
	unsigned failed;	/* of all attempts */
	int number;		/* the call that failed last */
	int attempt;
	int got;		/* errno of an attempt that failed */
};

static struct supervision supervision;

static int judge(int number, void *context)
{
	struct plan *plan = context;
	bool fails;

	plan->calls++;
	fails = plan->is_lasting ? plan->calls >= plan->position : plan->calls == plan->position;
	if (!fails)
		return 0;
	plan->failed++;
	plan->number = number;
	return plan->error;
}

/*
 * Uses: begin() prepares an attempt, call() is supervised and returns whether it succeeded, and
 * end() undoes it or checks its result
 */

struct use {
	unsigned flags;
	struct buffers_item *item;
	struct buffers_arena *arena;
	char *memory;
	size_t allocated;
};

static bool get_first(struct use *use)
{
	use->item = buffers_get(&(struct buffers_request){ .size = 8, .flags = use->flags });
	return use->item;
}

static int release(struct use *use, bool is_done)
{
	buffers_release(is_done ? use->item : NULL);
	return 0;
}

/* Held items make every call map a buffer. */
static bool get_new(struct use *use)
{
	struct buffers_request request = { .size = 64 * KIB, .flags = use->flags };

	return buffers_get(&request);
}

static bool get_near(struct use *use)
{
	(void)use;
	return buffers_get_near((const void *)(uintptr_t)get_near, 64 * KIB);
}

static int prepare_item(struct use *use)
{
	if (!use->item)
		use->item = buffers_get(&(struct buffers_request){ .size = 32 * KIB,
								   .flags = use->flags });
	STEP(use->item);
	use->memory = buffers_next(use->item);
	return 0;
}

static bool append(struct use *use)
{
	return buffers_append(use->item, "appended", 9);
}

static int check_append(struct use *use, bool is_done)
{
	STEP((char *)buffers_next(use->item) == use->memory + (is_done ? 9 : 0));
	STEP(!is_done || strcmp(use->memory, "appended") == 0);
	return 0;
}

static int prepare_shared_item(struct use *use)
{
	struct buffers_request window = { .size = MIB };

	if (!use->arena)
		use->arena = buffers_arena_create(&window, use->flags);
	STEP(use->arena);
	if (!use->item)
		use->item = buffers_arena_get(use->arena, 32 * KIB, 1);
	STEP(use->item);
	use->memory = buffers_next(use->item);
	return 0;
}

static int prepare_memory(struct use *use)
{
	struct buffers_request request = { .size = SIZE, .flags = use->flags };

	if (!use->memory)
		use->memory = buffers_alloc(&request, &use->allocated);
	STEP(use->memory);
	STEP(buffers_overwrite(use->memory, "beforebefore", 12) == 0);
	return 0;
}

static bool overwrite_at_once(struct use *use)
{
	return buffers_overwrite(use->memory, "afterwar", 8) == 0;
}

static bool overwrite_some(struct use *use)
{
	return buffers_overwrite(use->memory, "after", 5) == 0;
}

static void edit(void *bytes, size_t size, void *context)
{
	(void)size;
	(void)context;
	memcpy(bytes, "after", 5);
}

static bool overwrite_with(struct use *use)
{
	return buffers_overwrite_with(use->memory, SIZE, edit, NULL) == 0;
}

static int check_overwrite(struct use *use, bool is_done)
{
	STEP(memcmp(use->memory, is_done ? "after" : "befor", 5) == 0);
	return 0;
}

static bool alloc(struct use *use)
{
	struct buffers_request request = { .size = SIZE, .flags = use->flags };

	use->memory = buffers_alloc(&request, &use->allocated);
	return use->memory;
}

static int free_memory(struct use *use, bool is_done)
{
	STEP(!is_done || buffers_free(use->memory, use->allocated) == 0);
	return 0;
}

static int alloc_before(struct use *use)
{
	STEP(alloc(use));
	return 0;
}

static bool free_it(struct use *use)
{
	return buffers_free(use->memory, use->allocated) == 0;
}

static int free_again(struct use *use, bool is_done)
{
	return free_memory(use, !is_done);
}

static bool create_arena(struct use *use)
{
	use->arena = buffers_arena_create(&(struct buffers_request){ .size = MIB }, use->flags);
	return use->arena;
}

static int destroy_after(struct use *use, bool is_done)
{
	STEP(!is_done || buffers_arena_destroy(use->arena) == 0);
	return 0;
}

static int create_before(struct use *use)
{
	STEP(create_arena(use));
	return 0;
}

static bool get_from_arena(struct use *use)
{
	use->item = buffers_arena_get(use->arena, 64, 1);
	return use->item;
}

static int destroy_with_item(struct use *use, bool is_done)
{
	buffers_release(is_done ? use->item : NULL);
	return destroy_after(use, true);
}

static bool destroy_arena(struct use *use)
{
	return buffers_arena_destroy(use->arena) == 0;
}

static int ignore_buffer(const struct buffers_info *info, void *context)
{
	(void)info;
	(void)context;
	return 0;
}

static bool walk(struct use *use)
{
	(void)use;
	return buffers_walk(ignore_buffer, NULL) == 0;
}

/*
 * Giving back: the room is returned or not, as the result says
 */

static struct buffers_item *get_piece(struct use *use)
{
	struct buffers_request request = { .size = use->allocated, .flags = use->flags };

	return use->arena ? buffers_arena_get(use->arena, use->allocated, 1) :
			    buffers_get(&request);
}

static int take_piece(struct use *use)
{
	static const char bytes[40 * KIB] = "bytes";
	struct buffers_item *item = get_piece(use);

	STEP(item);
	use->memory = buffers_append(item, bytes, use->allocated);
	STEP(use->memory);
	buffers_release(item);
	return 0;
}

static int prepare_piece(struct use *use)
{
	use->allocated = SIZE;
	return use->memory ? 0 : take_piece(use);
}

/* The piece has whole pages. */
static int prepare_pages(struct use *use)
{
	use->allocated = 40 * KIB;
	return use->memory ? 0 : take_piece(use);
}

static int take_piece_of_arena(struct use *use, size_t size)
{
	use->allocated = size;
	if (!use->arena)
		use->arena = buffers_arena_create(&(struct buffers_request){ .size = MIB },
						  use->flags);
	STEP(use->arena);
	return use->memory ? 0 : take_piece(use);
}

static int prepare_piece_of_arena(struct use *use)
{
	return take_piece_of_arena(use, SIZE);
}

static int prepare_pages_of_arena(struct use *use)
{
	return take_piece_of_arena(use, 40 * KIB);
}

static bool give_back(struct use *use)
{
	return buffers_give_back(use->memory, use->allocated) == 0;
}

/*
 * Write windows: the memory is open or closed, as the result says, and holds its bytes
 */

static bool is_whole(const struct use *use, bool is_open)
{
	const char *permissions = is_open ? "rw-p" : "r-xp";

	return is_mapped_as((uintptr_t)use->memory, (uintptr_t)use->memory + use->allocated,
			    permissions) &&
	       strcmp(use->memory, "start") == 0 &&
	       strcmp(use->memory + use->allocated - 8, "end") == 0;
}

static bool open_window(struct use *use)
{
	return buffers_protect(use->memory, use->allocated, BUFFERS_RW) == 0;
}

static bool close_window(struct use *use)
{
	return buffers_protect(use->memory, use->allocated, BUFFERS_RX) == 0;
}

static int prepare_window(struct use *use)
{
	struct buffers_request request = { .size = 3 * granularity(), .flags = use->flags };

	if (!use->memory)
		use->memory = buffers_alloc(&request, &use->allocated);
	STEP(use->memory);
	STEP(open_window(use));
	strcpy(use->memory, "start");
	strcpy(use->memory + use->allocated - 8, "end");
	return 0;
}

static int prepare_closed(struct use *use)
{
	STEP(prepare_window(use) == 0 && close_window(use));
	return 0;
}

/* A close that needs a copy of the memory. */
static int prepare_window_under_mdwe(struct use *use)
{
	if (!use->memory)
		refuse_exec_gain();
	return prepare_window(use);
}

static int prepare_closed_under_mdwe(struct use *use)
{
	STEP(prepare_window_under_mdwe(use) == 0 && close_window(use));
	return 0;
}

static int prepare_window_without_proc(struct use *use)
{
	if (!use->memory)
		STEP(refuse_call_where(SYS_openat, 2, O_RDWR, ENOENT));
	return prepare_window_under_mdwe(use);
}

static int check_open(struct use *use, bool is_done)
{
	STEP(is_whole(use, is_done));
	return 0;
}

static int check_closed(struct use *use, bool is_done)
{
	STEP(is_whole(use, !is_done));
	return 0;
}

/* The next request of this size gets the room, cleared. */
static int check_given(struct use *use, bool is_done)
{
	char *former = use->memory;
	struct buffers_item *item;

	STEP(buffers_give_back(former, use->allocated) == (is_done ? -1 : 0));
	STEP(!is_done || errno == EINVAL);
	item = get_piece(use);
	STEP(item && buffers_next(item) == former);
	for (size_t i = 0; i < use->allocated; i++)
		STEP(former[i] == 0);
	buffers_release(item);
	STEP(take_piece(use) == 0);
	STEP(use->memory == former);
	return 0;
}

/* A request that room suits, and one that needs a new buffer in spite of it. */
static bool get_given(struct use *use)
{
	use->item = get_piece(use);
	return use->item;
}

static int give_back_before(struct use *use)
{
	STEP(prepare_piece(use) == 0);
	STEP(give_back(use));
	return 0;
}

static int check_got(struct use *use, bool is_done)
{
	STEP(!is_done || buffers_next(use->item) == use->memory);
	buffers_release(is_done ? use->item : NULL);
	return take_piece(use);
}

enum { SHARED = BUFFERS_ARENA_FORK_SHARED, VIEWED = BUFFERS_RX | BUFFERS_VIEW };

static const struct scene {
	const char *name;
	int (*begin)(struct use *use);
	bool (*call)(struct use *use);
	int (*end)(struct use *use, bool is_done);
	unsigned flags;
	bool takes;		/* a call that succeeds takes memory for good */
} scenes[] = {
	{ "get, RWX", NULL, get_first, release, 0, false },
	{ "get, RW", NULL, get_first, release, BUFFERS_RW, false },
	{ "get, RX", NULL, get_first, release, BUFFERS_RX, false },
	{ "get a new buffer, RWX", NULL, get_new, NULL, 0, true },
	{ "get a new buffer, RX", NULL, get_new, NULL, BUFFERS_RX, true },
	{ "get_near", NULL, get_near, NULL, 0, true },
	{ "append, RX", prepare_item, append, check_append, BUFFERS_RX, false },
	{ "append, shared RX", prepare_shared_item, append, check_append, SHARED | BUFFERS_RX,
	  false },
	{ "overwrite, RWX", prepare_memory, overwrite_some, check_overwrite, 0, false },
	{ "overwrite, RX", prepare_memory, overwrite_some, check_overwrite, BUFFERS_RX, false },
	{ "overwrite at once, RX", prepare_memory, overwrite_at_once, check_overwrite, BUFFERS_RX,
	  false },
	{ "overwrite_with, RX", prepare_memory, overwrite_with, check_overwrite, BUFFERS_RX,
	  false },
	{ "alloc, RWX", NULL, alloc, free_memory, 0, false },
	{ "alloc, RX", NULL, alloc, free_memory, BUFFERS_RX, false },
	{ "free", alloc_before, free_it, free_again, 0, false },
	{ "arena_create", NULL, create_arena, destroy_after, 0, false },
	{ "arena_create, shared", NULL, create_arena, destroy_after, SHARED, false },
	{ "arena_get", create_before, get_from_arena, destroy_with_item, 0, false },
	{ "arena_get, shared", create_before, get_from_arena, destroy_with_item, SHARED, false },
	{ "arena_destroy", create_before, destroy_arena, NULL, 0, true },
	{ "arena_destroy, shared", create_before, destroy_arena, NULL, SHARED, true },
	{ "walk", NULL, walk, NULL, 0, false },
	{ "give_back, RWX", prepare_piece, give_back, check_given, 0, false },
	{ "give_back, whole pages, RW", prepare_pages, give_back, check_given, BUFFERS_RW, false },
	{ "give_back, RX", prepare_piece, give_back, check_given, BUFFERS_RX, false },
	{ "give_back, whole pages, RX", prepare_pages, give_back, check_given, BUFFERS_RX, false },
	{ "give_back, arena", prepare_piece_of_arena, give_back, check_given, 0, false },
	{ "alloc with a view", NULL, alloc, free_memory, VIEWED, false },
	{ "free with a view", alloc_before, free_it, free_again, VIEWED, false },
	{ "overwrite with a view", prepare_memory, overwrite_some, check_overwrite, VIEWED, false },
	{ "arena_create with a view", NULL, create_arena, destroy_after, VIEWED, false },
	{ "arena_create with a view, shared", NULL, create_arena, destroy_after, SHARED | VIEWED,
	  false },
	{ "arena_destroy with a view", create_before, destroy_arena, NULL, VIEWED, true },
	{ "give_back, pages with a view", prepare_pages_of_arena, give_back, check_given, VIEWED,
	  false },
	{ "protect, to RW", prepare_closed, open_window, check_open, BUFFERS_RX, false },
	{ "protect, to RX", prepare_window, close_window, check_closed, BUFFERS_RX, false },
	{ "protect, to RW under a policy", prepare_closed_under_mdwe, open_window, check_open,
	  BUFFERS_RX, false },
	{ "protect, to RX by a copy", prepare_window_under_mdwe, close_window, check_closed,
	  BUFFERS_RX, false },
	{ "protect, to RX by a file", prepare_window_without_proc, close_window, check_closed,
	  BUFFERS_RX, false },
	{ "get room that was given back", give_back_before, get_given, check_got, 0, false },
};
enum { SCENES = sizeof(scenes) / sizeof(scenes[0]) };

static bool is_documented(int error)
{
	static const int documented[] = { EINVAL, EADDRNOTAVAIL, ENOMEM, EACCES, ENOSPC, ENOSYS };

	for (size_t i = 0; i < sizeof(documented) / sizeof(documented[0]); i++)
		if (documented[i] == error)
			return true;
	return false;
}

/* An unmapping that fails leaves its memory. */
static bool may_leave_memory(const struct plan *plan)
{
	return plan->is_lasting || plan->number == SYS_munmap;
}

/* Each call of this thread goes through the supervisor: asks for as few as can be open. */
static unsigned open_descriptors(void)
{
	unsigned count = 0;

	for (int i = 0; i < 24; i++)
		count += fcntl(i, F_GETFD) >= 0;
	return count;
}

static int attempt(const struct scene *scene, struct plan *plan, struct use *use)
{
	unsigned descriptors = open_descriptors();
	size_t mapped = mapped_bytes();
	bool is_done;

	STEP(!scene->begin || scene->begin(use) == 0);
	plan->calls = 0;
	errno = 1234;
	supervise_begin(&supervision);
	is_done = scene->call(use);
	supervise_end(&supervision);
	plan->got = errno;
	STEP(plan->calls < MOST_CALLS);
	STEP(is_done ? errno == 1234 : is_documented(errno));
	STEP(!scene->end || scene->end(use, is_done) == 0);
	STEP(open_descriptors() == descriptors);
	if (plan->attempt >= SETTLED && !may_leave_memory(plan) && !(is_done && scene->takes))
		STEP(mapped_bytes() == mapped);
	return 0;
}

struct task {
	const struct scene *scene;
	struct plan *plan;
};

static int run_attempts(void *context)
{
	const struct task *task = context;
	struct plan *plan = task->plan;
	struct use use = { .flags = task->scene->flags };

	for (plan->attempt = 0; plan->attempt < ATTEMPTS; plan->attempt++) {
		int line = attempt(task->scene, plan, &use);

		if (line)
			return line;
	}
	/* The next call works. */
	STEP(!task->scene->begin || task->scene->begin(&use) == 0);
	STEP(task->scene->call(&use));
	return 0;
}

static int run_task(void *context)
{
	const struct task *task = context;

	supervision = (struct supervision){ .judge = judge, .context = task->plan };
	return run_supervised(&supervision, run_attempts, context);
}

static void try_position(struct task *task)
{
	const struct plan *plan = task->plan;
	struct child child = start_child(run_task, task);
	int line;

	waitpid(child.pid, NULL, 0);
	line = *child.line;
	ck_assert_msg(line == 0, "%s: step in line %d, attempt %d: call %u (number %d) failed with "
		      "%s%s: errno %s", task->scene->name, line, plan->attempt, plan->position,
		      plan->number, strerror(plan->error), plan->is_lasting ? " for good" : "",
		      strerror(plan->got));
}

/*
 * Tries each position in turn; on slow machines every sixth, from a random one on.  A search whose
 * mappings fail repeats one call thousands of times: far positions are tried ever more seldom.
 */
static void try_positions(struct task *task, int error, bool is_lasting, uint64_t *seed)
{
	unsigned step = is_slow() ? 6 : 1;
	unsigned position = 1 + (unsigned)random_below(seed, step);

	do {
		*task->plan = (struct plan){ .position = position, .is_lasting = is_lasting,
					     .error = error };
		try_position(task);
		position += step + (unsigned)random_below(seed, 1 + position / 64);
	} while (task->plan->failed);
}

START_TEST(failing_call_gives_a_documented_error_and_leaks_nothing)
{
	struct task task = { &scenes[_i], map_memory(sizeof(struct plan), true) };
	uint64_t seed = seed_random();
	unsigned first = (unsigned)random_below(&seed, 2 * ERRORS);

	SKIP_IF(!can_supervise(), NO_LISTENER);
	SKIP_IF((scenes[_i].flags & SHARED) && !has_robust_locks(), NO_ROBUST_LOCKS);
	SKIP_IF(!sandbox_tmp(NULL), "the kernel gives this user no private /tmp");
	for (unsigned i = first; i < first + how_many(1, 2 * ERRORS); i++) {
		int error = errors[i % ERRORS];
		bool is_lasting = i / ERRORS % 2 && error != EINTR;	/* not of every call */

		try_positions(&task, error, is_lasting, &seed);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("process/failing-calls");
	TCase *all = tcase_create("calls");

	if (is_asan() || is_tsan())
		skip_all("the sanitizer's runtime makes system calls");
	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_loop_test(all, failing_call_gives_a_documented_error_and_leaks_nothing, 0,
			    SCENES);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
