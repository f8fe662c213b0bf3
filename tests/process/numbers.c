/* SPDX-License-Identifier: MIT */
/*
 * process/numbers.c: processes whose numbers are equal, unknown, or not their own
 *
 * In a PID namespace a child can have the number of its parent.  A filter can deny getpid(2).
 * A task of vfork(2) has a number of its own in the memory of its parent.  And where the kernel
 * does not empty the library's pages in a child, a fork handler must do so.
 */

#include "config.h"
#include "support/arena-records.h"
#include "support/foreign.h"
#include "reloaded/buffers.h"
#include "support/restrict.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

#define NO_NAMESPACE "this user cannot make PID namespaces"

/* The ways in which a child can be taken for its parent. */
enum number { FIRST_OF_NAMESPACE, UNKNOWN, NOT_EMPTIED, NUMBERS };

static struct buffers_arena *arena;

static struct buffers_arena *new_arena(size_t size, unsigned flags)
{
	struct buffers_request window = { .size = size };

	return buffers_arena_create(&window, flags);
}

static bool unshare_numbers(void)
{
	return unshare(CLONE_NEWPID) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0;
}

static bool can_have(enum number number)
{
	int status = 0;
	pid_t child;

	if (number != FIRST_OF_NAMESPACE)
		return can_filter();
	child = fork();
	if (child == 0)
		_exit(!unshare_numbers());
	return waitpid(child, &status, 0) == child && status == 0;
}

static const char *why_not(enum number number)
{
	if (is_emulated())
		return "emulators have numbers of their own";
	if (is_asan())
		return "LeakSanitizer needs the number of the process";
	if (number == NOT_EMPTIED && is_tsan())
		return "the sanitizer's runtime needs madvise()";
	if (can_have(number))
		return NULL;
	return number == FIRST_OF_NAMESPACE ? NO_NAMESPACE : NO_FILTER;
}

/* Calls the body in a process whose children can be taken for it. */
static int call_with(enum number number, int (*body)(enum number number))
{
	int status;
	pid_t child;

	if (number != FIRST_OF_NAMESPACE) {
		STEP(number == UNKNOWN ? refuse_call(SYS_getpid, EPERM) :
					 refuse_call(SYS_madvise, EINVAL));
		return body(number);
	}
	STEP(unshare_numbers());
	child = fork();
	if (child == 0)
		_exit(getpid() == 1 ? body(number) & 0xff : 255);
	STEP(waitpid(child, &status, 0) == child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : __LINE__;
}

struct call {
	enum number number;
	int (*body)(enum number number);
};

static int call_in_child(void *context)
{
	struct call *call = context;

	return call_with(call->number, call->body);
}

static void run_with(enum number number, int (*body)(enum number number))
{
	run_child(call_in_child, &(struct call){ number, body });
}

/* A real fork; in a namespace, it can be made once only. */
static pid_t fork_same_number(enum number number)
{
	if (number == FIRST_OF_NAMESPACE && unshare(CLONE_NEWPID) != 0)
		return -1;
	return fork();
}

static bool succeeds(pid_t child)
{
	int status;

	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

/*
 * The lock of a private arena, which another thread holds at fork
 */

/* Larger than an item can be: the thread takes the lock, and then fails. */
#define TOO_LARGE ((size_t)UINT32_MAX)

static bool is_over;

static void *keep_lock_busy(void *unused)
{
	(void)unused;
	while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED))
		if (buffers_arena_get(arena, TOO_LARGE, 1))
			return &is_over;
	return NULL;
}

static pid_t fork_in_any_way(enum number number)
{
	if (number == NOT_EMPTIED)
		return fork();
	return clone_process(number == FIRST_OF_NAMESPACE ? CLONE_NEWPID : 0);
}

static int use_copy(void)
{
	alarm(20);
	return !buffers_arena_get(arena, 100 * KIB, 1);
}

static int fork_amid_locks(enum number number)
{
	pthread_t threads[2];
	bool have_failed = false;

	arena = new_arena(TOO_LARGE + 64 * MIB, 0);
	STEP(arena && buffers_arena_get(arena, 1, 1));
	for (unsigned i = 0; i < 2; i++)
		STEP(pthread_create(&threads[i], NULL, keep_lock_busy, NULL) == 0);
	for (unsigned i = 0; i < how_many(100, 500) && !have_failed; i++) {
		pid_t child = fork_in_any_way(number);

		if (child == 0)
			_exit(use_copy());
		have_failed = !succeeds(child);
	}
	__atomic_store_n(&is_over, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		STEP(pthread_join(threads[i], NULL) == 0);
	STEP(!have_failed);
	return 0;
}

START_TEST(lock_held_at_fork_is_free_in_a_child_of_the_same_number)
{
	SKIP_IF(SIZE_MAX <= UINT32_MAX, "the address space is smaller");
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer does not support threads and clones");
	SKIP_IF(why_not((enum number)_i), why_not((enum number)_i));
	SKIP_IF(!can_wipe_on_fork(), NO_WIPE);
	SKIP_IF(!can_overcommit(), "this system does not overcommit memory");
	run_with((enum number)_i, fork_amid_locks);
}
END_TEST

/*
 * Items that another thread of the parent holds
 */

static sem_t has_item;

static void *hold_item(void *unused)
{
	if (buffers_arena_get(arena, 1, 1))
		sem_post(&has_item);
	pause();
	return unused;
}

/* The child holds none of these items: it can neither release them, nor do they bind it. */
static int leave_items_alone(struct buffers_item *parents)
{
	struct buffers_item *item = buffers_arena_get(arena, 1, 1);

	STEP(item && item != parents);
	buffers_release(item);
	STEP(buffers_arena_destroy(arena) == 0);
	return 0;
}

static int hold_while_forking(enum number number, unsigned flags)
{
	struct buffers_item *own;
	pthread_t thread;
	pid_t child;

	arena = new_arena(MIB, flags);
	own = arena ? buffers_arena_get(arena, 1, 1) : NULL;
	STEP(own && sem_init(&has_item, 0, 0) == 0);
	STEP(pthread_create(&thread, NULL, hold_item, NULL) == 0 && sem_wait(&has_item) == 0);
	child = fork_same_number(number);
	if (child == 0)
		_exit(leave_items_alone(own));
	STEP(succeeds(child));
	errno = 0;
	STEP(buffers_arena_destroy(arena) == -1 && errno == EINVAL);
	return 0;
}

static int hold_private(enum number number)
{
	return hold_while_forking(number, 0);
}

static int hold_shared(enum number number)
{
	return hold_while_forking(number, BUFFERS_ARENA_FORK_SHARED);
}

START_TEST(items_of_the_parent_do_not_bind_a_child_of_the_same_number)
{
	SKIP_IF(is_tsan(), "TSan does not support threads and fork");
	SKIP_IF(why_not((enum number)_i), why_not((enum number)_i));
	run_with((enum number)_i, hold_private);
	if (has_robust_locks())
		run_with((enum number)_i, hold_shared);
}
END_TEST

/* The child's last thread has the parent's number, too, and releases what it got. */
static int release_parents_item(struct buffers_item *parents)
{
	buffers_release(parents);
	errno = 0;
	STEP(!buffers_arena_get(arena, 1, 1) && errno == ENOSPC);
	return 0;
}

static int release_in_child(enum number number)
{
	struct buffers_item *item;
	pid_t child;

	arena = new_arena(1, BUFFERS_ARENA_FORK_SHARED);	/* one item */
	item = arena ? buffers_arena_get(arena, 1, 1) : NULL;
	STEP(item);
	child = fork_same_number(number);
	if (child == 0)
		_exit(release_parents_item(item));
	STEP(succeeds(child));
	buffers_release(item);
	STEP(buffers_arena_get(arena, 1, 1) == item);
	buffers_release(item);
	STEP(buffers_arena_destroy(arena) == 0);
	return 0;
}

START_TEST(child_of_the_same_number_cannot_release_an_item_of_its_parent)
{
	SKIP_IF(!has_robust_locks(), NO_ROBUST_LOCKS);
	SKIP_IF(why_not((enum number)_i), why_not((enum number)_i));
	run_with((enum number)_i, release_in_child);
}
END_TEST

/*
 * Items of a shared arena are released
 */

static int use_item_up(struct buffers_arena *shared)
{
	struct buffers_item *item = buffers_arena_get(shared, 1, 1);

	STEP(item && buffers_append(item, "bytes", 5));
	buffers_release(item);
	STEP(buffers_arena_get(shared, 1, 1) == item);
	buffers_release(item);
	return 0;
}

static int end_with_an_item(void)
{
	return !buffers_arena_get(arena, 1, 1);
}

/* A lock that stays in the list of a thread makes the next arena's lock fault. */
static int release_by(enum number number, unsigned kind)
{
	pid_t child;

	for (unsigned i = 0; i < 3; i++) {
		arena = new_arena(1, kind | BUFFERS_ARENA_FORK_SHARED);
		STEP(arena && use_item_up(arena) == 0);
		if (i == 1 || number != FIRST_OF_NAMESPACE) {
			child = fork_same_number(number);
			if (child == 0)
				_exit(end_with_an_item());
			STEP(succeeds(child));
			STEP(use_item_up(arena) == 0);
		}
		STEP(buffers_arena_destroy(arena) == 0);
	}
	return 0;
}

static int release_rwx(enum number number)
{
	return release_by(number, 0);
}

static int release_rw(enum number number)
{
	return release_by(number, BUFFERS_RW);
}

static int release_rx(enum number number)
{
	return release_by(number, BUFFERS_RX);
}

START_TEST(items_of_a_shared_arena_are_released)
{
	SKIP_IF(!has_robust_locks(), NO_ROBUST_LOCKS);
	SKIP_IF(why_not((enum number)_i), why_not((enum number)_i));
	run_with((enum number)_i, release_rwx);
	run_with((enum number)_i, release_rw);
	run_with((enum number)_i, release_rx);
}
END_TEST

/*
 * Another implementation's locator, which a file of the parent names
 */

static struct foreign_locator *first;	/* the parent's */

static bool is_item_of(const struct foreign_locator *locator, const void *item)
{
	return (uintptr_t)item > (uintptr_t)locator &&
	       (uintptr_t)item < (uintptr_t)locator + FOREIGN_SIZE;
}

/* The child's second copy of the library would look where the first one has published. */
static int use_own_locator(void)
{
	struct buffers_request request = { .size = 64 * KIB };
	unsigned long long named = read_address(rendezvous_path(NULL, getpid()));

	for (unsigned i = 0; i < 2; i++) {
		struct buffers_item *item = buffers_get(&request);

		STEP(item && !is_item_of(first, item));
		STEP(buffers_append(item, "x", 1));
	}
	STEP(named == (uintptr_t)first);
	STEP(read_address(rendezvous_path(NULL, getpid())) == named);
	STEP(count_files(own_dir()) == 1);
	return 0;
}

static int fork_beside_foreign_code(enum number number, enum foreign_storage storage)
{
	unsigned char before[FOREIGN_SIZE];
	pid_t child;

	first = foreign_find(storage);
	foreign_add(first, foreign_map(64 * KIB), 64 * KIB, false);
	memcpy(before, first, FOREIGN_SIZE);
	child = fork_same_number(number);
	if (child == 0)
		_exit(use_own_locator());
	STEP(succeeds(child));
	STEP(memcmp(before, first, FOREIGN_SIZE) == 0);
	return 0;
}

static int fork_beside_private_locator(enum number number)
{
	return fork_beside_foreign_code(number, IN_MEMORY);
}

static int fork_beside_shared_locator(enum number number)
{
	return fork_beside_foreign_code(number, IN_FILE);
}

START_TEST(child_of_the_same_number_leaves_the_parents_foreign_locator_alone)
{
	SKIP_IF(why_not((enum number)_i), why_not((enum number)_i));
	SKIP_IF(!sandbox_tmp(NULL), "no mount namespace for this user");
	run_with((enum number)_i, fork_beside_private_locator);
	ck_assert_int_eq(unlink(rendezvous_path(NULL, _i == FIRST_OF_NAMESPACE ? 1 : -1)), 0);
	run_with((enum number)_i, fork_beside_shared_locator);
}
END_TEST

/* The file is another one, although it has the name and the number of the parent's. */
static int follow_own_file(void)
{
	struct buffers_request request = { .size = 1 };
	struct foreign_locator *own;

	STEP(unlink(rendezvous_path(NULL, getpid())) == 0);
	own = foreign_find(IN_MEMORY);
	STEP(own != first);
	foreign_add(own, foreign_map(64 * KIB), 64 * KIB, false);
	STEP(is_item_of(own, buffers_get(&request)));
	return 0;
}

static int fork_and_replace_file(enum number number)
{
	pid_t child;

	first = foreign_find(IN_FILE);
	child = fork_same_number(number);
	if (child == 0)
		_exit(follow_own_file());
	STEP(succeeds(child));
	return 0;
}

START_TEST(child_of_the_same_number_follows_a_file_of_its_own)
{
	SKIP_IF(why_not((enum number)_i), why_not((enum number)_i));
	SKIP_IF(!sandbox_tmp(NULL), "no mount namespace for this user");
	run_with((enum number)_i, fork_and_replace_file);
}
END_TEST

/*
 * Tasks with numbers of their own in one memory
 */

enum { TAKERS = 2, MOST_ITEMS = 5000 };

struct taker {
	unsigned count;
	struct buffers_item *items[MOST_ITEMS];
};
static struct taker takers[TAKERS];

/* Each item is used up by its size, so that every call makes a new one. */
static int take_items(void *context)
{
	struct taker *taker = context;
	struct buffers_item *item;

	while (taker->count < MOST_ITEMS && (item = buffers_arena_get(arena, 64 * KIB, 1)))
		taker->items[taker->count++] = item;
	return 0;
}

static void *take_items_in_thread(void *taker)
{
	take_items(taker);
	return NULL;
}

static int compare_bases(const void *a, const void *b)
{
	uintptr_t one = (uintptr_t)buffers_base(*(struct buffers_item *const *)a);
	uintptr_t two = (uintptr_t)buffers_base(*(struct buffers_item *const *)b);

	return one < two ? -1 : one > two;
}

static void check_items_differ(void)
{
	static struct buffers_item *all[TAKERS * MOST_ITEMS];
	unsigned count = 0;

	for (unsigned i = 0; i < TAKERS; i++)
		for (unsigned j = 0; j < takers[i].count; j++)
			all[count++] = takers[i].items[j];
	qsort(all, count, sizeof(all[0]), compare_bases);
	for (unsigned i = 1; i < count; i++)
		ck_assert_ptr_eq(buffers_base(all[i]),
				 (char *)buffers_base(all[i - 1]) + buffers_size(all[i - 1]));
}

START_TEST(tasks_in_one_memory_get_different_items)
{
	static char stack[64 << 10] __attribute__((aligned(16)));
	pthread_t thread;
	int status;
	pid_t task;

	SKIP_IF(is_asan() || is_tsan() || is_emulated(), "tasks that share memory need the kernel");
	for (unsigned i = 0; i < how_many(10, 50); i++) {
		memset(takers, 0, sizeof(takers));
		arena = new_arena(256 * MIB, BUFFERS_RW);
		ck_assert_ptr_nonnull(arena);
		ck_assert_int_eq(pthread_create(&thread, NULL, take_items_in_thread, &takers[0]),
				 0);
		/* This thread waits for the task, which uses its thread-local memory. */
		task = clone(take_items, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD,
			     &takers[1]);
		ck_assert_int_gt(task, 0);
		ck_assert_int_eq(waitpid(task, &status, 0), task);
		pthread_join(thread, NULL);
		ck_assert_uint_gt(takers[0].count + takers[1].count, 0);
		check_items_differ();
		for (unsigned j = 0; j < TAKERS; j++)
			for (unsigned k = 0; k < takers[j].count; k++)
				buffers_release(takers[j].items[k]);
		ck_assert_int_eq(buffers_arena_destroy(arena), 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("process/numbers");
	TCase *same = tcase_create("same");
	TCase *own = tcase_create("own");

	tcase_set_tags(same, "fork slow");
	tcase_set_timeout(same, 300);
	tcase_add_loop_test(same, lock_held_at_fork_is_free_in_a_child_of_the_same_number, 0,
			    NUMBERS);
	tcase_add_loop_test(same, items_of_the_parent_do_not_bind_a_child_of_the_same_number, 0,
			    NUMBERS);
	tcase_add_loop_test(same, child_of_the_same_number_cannot_release_an_item_of_its_parent, 0,
			    NUMBERS);
	tcase_add_loop_test(same, items_of_a_shared_arena_are_released, 0, NUMBERS);
	tcase_add_loop_test(same,
			    child_of_the_same_number_leaves_the_parents_foreign_locator_alone,
			    0, NOT_EMPTIED);
	tcase_add_loop_test(same, child_of_the_same_number_follows_a_file_of_its_own, 0,
			    NOT_EMPTIED);
	suite_add_tcase(suite, same);

	tcase_set_tags(own, "fork slow");
	tcase_set_timeout(own, 300);
	tcase_add_test(own, tasks_in_one_memory_get_different_items);
	suite_add_tcase(suite, own);
	return run_suite(suite);
}
