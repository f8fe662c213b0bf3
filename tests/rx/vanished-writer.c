/* SPDX-License-Identifier: MIT */
/*
 * rx/vanished-writer.c: a task that shares the memory ends while it writes RX memory
 *
 * A child of vfork(2) must not call the library, but a program that does so and then kills the
 * child must not wait forever.  The task of these tests ends at a system call in the middle of a
 * write, and leaves the lock of the writers locked.
 */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/foreign.h"
#include "support/restrict.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)

static struct buffers_item *item;
static unsigned char *memory;		/* 64 bytes of it, zeros at first */
static time_t seconds_inside;		/* how long the task stays in its write */
static bool is_inside;

static const char *why_not(void)
{
	if (is_asan() || is_tsan() || is_emulated())
		return "tasks that share memory need the kernel";
	return can_filter() ? NULL : NO_FILTER;
}

static int prepare(void)
{
	struct buffers_request request = { .size = 32 * KIB, .flags = BUFFERS_RX };

	item = buffers_get(&request);
	STEP(item);
	memory = buffers_reserve(item, 64, 64);
	STEP(memory && buffers_overwrite(memory, "before", 6) == 0);
	return 0;
}

/* The first locator of the chain has the lock. */
static struct foreign_locator *first_locator(void)
{
	return (struct foreign_locator *)((uintptr_t)item & ~(uintptr_t)(FOREIGN_SIZE - 1));
}

/*
 * The task
 */

static void vanish(int number)
{
	const struct timespec stay = { .tv_sec = seconds_inside };

	(void)number;
	__atomic_store_n(&is_inside, true, __ATOMIC_SEQ_CST);
	nanosleep(&stay, NULL);
	__atomic_store_n(&is_inside, false, __ATOMIC_SEQ_CST);
	syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
}

static int write_and_vanish(void *unused)
{
	struct sigaction action = { .sa_handler = vanish };

	(void)unused;
	if (sigaction(SIGSYS, &action, NULL) == 0 && trap_call(SYS_WRITE_MEMORY))
		buffers_overwrite(memory + 8, "vanished", 8);
	_exit(1);
}

/* As vfork(2), which a function cannot return from.  The task is not waited for: a zombie. */
static pid_t run_task(void)
{
	static char stack[256 << 10] __attribute__((aligned(16)));

	return clone(write_and_vanish, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD,
		     NULL);
}

static bool was_killed(pid_t task)
{
	int status;

	return waitpid(task, &status, 0) == task && WIFSIGNALED(status) &&
	       WTERMSIG(status) == SIGKILL;
}

/*
 * After the task
 */

static int write_everything(void)
{
	STEP(buffers_overwrite(memory + 8, "after...", 8) == 0);
	STEP(buffers_overwrite(memory + 17, "after", 5) == 0);
	STEP(buffers_append(item, "appended", 8));
	STEP(memcmp(memory, "before\0\0after...\0after", 22) == 0);
	STEP(first_locator()->is_locked == 0);
	return 0;
}

static int write_beside_zombie(void *unused)
{
	pid_t task;

	(void)unused;
	STEP(prepare() == 0);
	task = run_task();
	STEP(task > 0 && first_locator()->is_locked != 0);
	STEP(write_everything() == 0);
	STEP(was_killed(task));
	return 0;
}

static int write_after_task(void *unused)
{
	pid_t task;

	(void)unused;
	STEP(prepare() == 0);
	task = run_task();
	STEP(was_killed(task) && first_locator()->is_locked != 0);
	return write_everything();
}

START_TEST(memory_is_written_after_a_writer_vanished)
{
	SKIP_IF(why_not(), why_not());
	run_child(_i ? write_after_task : write_beside_zombie, NULL);
}
END_TEST

static int add_after_task(void *unused)
{
	struct buffers_request request = { .size = 64 * KIB, .flags = BUFFERS_RX };
	struct buffers_item *added;
	unsigned count;

	(void)unused;
	STEP(prepare() == 0);
	count = first_locator()->num_items;
	STEP(was_killed(run_task()) && first_locator()->is_locked != 0);
	added = buffers_get(&request);
	STEP(added == (void *)&first_locator()->items[count]);
	return write_everything();
}

START_TEST(buffer_is_added_to_the_chain_after_a_writer_vanished)
{
	SKIP_IF(why_not(), why_not());
	run_child(add_after_task, NULL);
}
END_TEST

/*
 * A writer that lives, however slow it is
 */

static void *run_task_in_thread(void *task)
{
	*(pid_t *)task = run_task();
	return NULL;
}

static int write_after(void)
{
	STEP(buffers_overwrite(memory + 8, "after...", 8) == 0);
	return 0;
}

static int add_to_chain(void)
{
	struct buffers_request request = { .size = 64 * KIB, .flags = BUFFERS_RX };
	unsigned count = first_locator()->num_items;

	STEP(buffers_get(&request) == (void *)&first_locator()->items[count]);
	return 0;
}

static int run_beside_slow_writer(void *context)
{
	int (*call)(void) = *(int (**)(void))context;
	pthread_t thread;
	pid_t task;
	int line;

	STEP(prepare() == 0);
	seconds_inside = 4;
	STEP(pthread_create(&thread, NULL, run_task_in_thread, &task) == 0);
	while (!__atomic_load_n(&is_inside, __ATOMIC_SEQ_CST))
		yield_cpu();
	line = call();
	STEP(!__atomic_load_n(&is_inside, __ATOMIC_SEQ_CST));
	STEP(pthread_join(thread, NULL) == 0 && was_killed(task));
	return line ? line : write_everything();
}

START_TEST(writer_that_lives_is_waited_for)
{
	static int (*const calls[])(void) = { write_after, add_to_chain };

	SKIP_IF(why_not(), why_not());
	run_child(run_beside_slow_writer, (void *)&calls[_i]);
}
END_TEST

/*
 * A lock whose holder may live or be gone
 */

static int fail_until_released(void)
{
	errno = 0;
	STEP(buffers_overwrite(memory, "again.", 6) == -1 && errno == EACCES);
	STEP(memcmp(memory, "before\0", 7) == 0);
	first_locator()->is_locked = 0;
	STEP(buffers_overwrite(memory, "again.", 6) == 0);
	STEP(buffers_append(item, "again.", 6));
	return 0;
}

static int wait_for_unknown_holder(void *unused)
{
	(void)unused;
	STEP(prepare() == 0);
	first_locator()->is_locked = 1;
	return fail_until_released();
}

/* Without process_vm_readv(2), nothing shows that the task has ended. */
static int wait_without_question(void *unused)
{
	(void)unused;
	STEP(prepare() == 0);
	STEP(was_killed(run_task()));
	STEP(refuse_call(SYS_process_vm_readv, EPERM));
	return fail_until_released();
}

START_TEST(lock_of_an_unknown_holder_is_eacces)
{
	SKIP_IF(_i && why_not(), why_not());
	run_child(_i ? wait_without_question : wait_for_unknown_holder, NULL);
}
END_TEST

static void write_in_handler(int number)
{
	(void)number;
	errno = 0;
	_exit(buffers_append(item, "x", 1) || errno != EACCES);
}

/* A handler of a fault may have interrupted its own thread in a write. */
static int interrupt_write(void *unused)
{
	struct sigaction action = { .sa_handler = write_in_handler };
	int status;
	pid_t child;

	(void)unused;
	child = fork();
	if (child == 0) {
		if (prepare() != 0 || sigaction(SIGSYS, &action, NULL) != 0)
			_exit(2);
		trap_call(SYS_WRITE_MEMORY);
		buffers_overwrite(memory, "again.", 6);
		_exit(3);
	}
	STEP(waitpid(child, &status, 0) == child && WIFEXITED(status));
	STEP(WEXITSTATUS(status) == 0);
	return 0;
}

START_TEST(handler_that_interrupted_a_write_gets_eacces)
{
	SKIP_IF(why_not(), why_not());
	run_child(interrupt_write, NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rx/vanished-writer");
	TCase *all = tcase_create("vanished");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_loop_test(all, memory_is_written_after_a_writer_vanished, 0, 2);
	tcase_add_test(all, buffer_is_added_to_the_chain_after_a_writer_vanished);
	tcase_add_loop_test(all, writer_that_lives_is_waited_for, 0, 2);
	tcase_add_loop_test(all, lock_of_an_unknown_holder_is_eacces, 0, 2);
	tcase_add_test(all, handler_that_interrupted_a_write_gets_eacces);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
