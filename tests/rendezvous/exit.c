/* SPDX-License-Identifier: MIT */
/* rendezvous/exit.c: a process removes its own file, and no other, when it exits */

#include "config.h"
#include "support/reexec.h"
#include "support/publish.h"
#include "reloaded/buffers.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { THREADS = 4 };

static bool is_sandboxed;

static void setup(void)
{
	is_sandboxed = sandbox_tmp(NULL);
}

/*
 * Ways to exit, each in a new program
 */

static int return_from_main(int number)
{
	(void)number;
	return publish_file(NULL);
}

static int call_exit(int number)
{
	int line = publish_file(NULL);

	(void)number;
	STEP(line == 0);
	exit(0);
}

static void *exit_here(void *context)
{
	exit(publish_file(context) != 0);
}

static int exit_in_thread(int number)
{
	int line = publish_file(NULL);
	pthread_t thread;

	(void)number;
	STEP(line == 0);
	STEP(pthread_create(&thread, NULL, exit_here, NULL) == 0);
	pthread_join(thread, NULL);
	return __LINE__;
}

static int publish_in_thread(int number)
{
	pthread_t thread;

	(void)number;
	STEP(pthread_create(&thread, NULL, exit_here, NULL) == 0);
	pthread_join(thread, NULL);
	return __LINE__;
}

static unsigned threads_at_work;

static void *keep_calling(void *context)
{
	if (!use_buffer())
		_exit(125);
	__atomic_add_fetch(&threads_at_work, 1, __ATOMIC_RELAXED);
	for (;;)
		if (!use_buffer())
			_exit(125);
	return context;
}

static int exit_beside_threads(int number)
{
	pthread_t thread;

	(void)number;
	for (size_t i = 0; i < THREADS; i++) {
		STEP(pthread_create(&thread, NULL, keep_calling, NULL) == 0);
		pthread_detach(thread);
	}
	while (__atomic_load_n(&threads_at_work, __ATOMIC_RELAXED) < THREADS)
		sched_yield();
	return publish_file(NULL);
}

static void use_in_handler(void)
{
	if (!use_buffer())
		_exit(124);
}

static int use_in_handlers(int number)
{
	int line;

	(void)number;
	STEP(atexit(use_in_handler) == 0);
	line = publish_file(NULL);
	STEP(atexit(use_in_handler) == 0);
	return line;
}

static void publish_in_handler(void)
{
	if (publish_file(NULL) != 0)
		_exit(124);
}

static int first_use_in_handler(int number)
{
	(void)number;
	STEP(atexit(publish_in_handler) == 0);
	return 0;
}

static bool uses_in_destructor;

__attribute__((destructor)) static void use_in_destructor(void)
{
	if (uses_in_destructor)
		publish_in_handler();
}

static int first_use_in_destructor(int number)
{
	(void)number;
	uses_in_destructor = true;
	return 0;
}

static pthread_t main_thread;

static void *publish_alone(void *context)
{
	if (pthread_join(main_thread, NULL) != 0 || publish_file(context) != 0)
		_exit(123);
	return NULL;
}

/* `number`: 1 if the main thread publishes before it ends, else 0. */
static int end_main_thread(int number)
{
	pthread_t thread;

	main_thread = pthread_self();
	STEP(!number || use_buffer());
	STEP(pthread_create(&thread, NULL, publish_alone, NULL) == 0);
	pthread_exit(NULL);
}

static int end_main_thread_first(int number)
{
	return end_main_thread(number);
}

static int end_main_thread_after_use(int number)
{
	(void)number;
	return end_main_thread(1);
}

static const struct role roles[] = {
	{ "return from main", return_from_main },
	{ "exit()", call_exit },
	{ "exit() in a thread", exit_in_thread },
	{ "exit() in the thread that publishes", publish_in_thread },
	{ "exit while other threads are in calls", exit_beside_threads },
	{ "use in atexit handlers", use_in_handlers },
	{ "first use in an atexit handler", first_use_in_handler },
	{ "first use in a destructor", first_use_in_destructor },
	{ "main thread ends before the first use", end_main_thread_first },
	{ "main thread ends after the first use", end_main_thread_after_use },
	{ NULL, NULL },
};

enum { MAIN_THREAD_ENDS = 8, ENDS = 10 };

START_TEST(normal_exit_leaves_no_file)
{
	unsigned times = how_many(5, 100);

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(is_tsan() && _i >= MAIN_THREAD_ENDS, "the main thread cannot end under TSan");
	SKIP_IF(is_emulated() && sysconf(_SC_PAGESIZE) > 4096 && _i >= MAIN_THREAD_ENDS,
		"the emulator does not report the end of the main thread");
	for (unsigned i = 0; i < times; i++)
		ck_assert_msg(run_role(roles[_i].name, 0), "%s", roles[_i].name);
	ck_assert(path_exists(SHARED_DIR));
	assert_no_files_left();
}
END_TEST

/*
 * Files that stay: the parent's, and one that replaced the process's own
 */

static int do_nothing(void *context)
{
	(void)context;
	return 0;
}

static int fork_again(void *context)
{
	run_child(context ? publish_file : do_nothing, NULL);
	return 0;
}

START_TEST(exit_of_a_child_keeps_the_file_of_its_parent)
{
	static int (*const bodies[])(void *) = { do_nothing, publish_file, fork_again };
	struct buffers_item *item;
	const char *path;
	long child;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	item = use_buffer();
	path = rendezvous_path(NULL, getpid());
	ck_assert(is_named_in(path, item));
	for (size_t i = 0; i < 3; i++) {
		run_child(bodies[i], NULL);
		run_child(bodies[i], &is_sandboxed);
	}
	child = fork_without_handlers();
	if (child == 0)
		exit(0);
	ck_assert(exits_with_zero((pid_t)child));
	ck_assert(is_named_in(path, item));
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
}
END_TEST

enum replacement { ANOTHER_FILE, OTHER_BYTES, SYMLINK, DIRECTORY, OTHER_USER, NO_FILE, NO_DIR };

static void replace(const char *path, enum replacement replacement)
{
	switch (replacement) {
	case ANOTHER_FILE:
		write_old_file("/tmp/another");
		ck_assert_int_eq(rename("/tmp/another", path), 0);
		return;
	case OTHER_BYTES:
		write_old_file(path);
		return;
	case OTHER_USER:
		ck_assert_int_eq(chown(path, NOBODY_UID, (gid_t)-1), 0);
		return;
	default:
		break;
	}
	ck_assert_int_eq(rename(path, "/tmp/moved"), 0);
	if (replacement == SYMLINK)
		ck_assert_int_eq(symlink("/tmp/moved", path), 0);
	if (replacement == DIRECTORY)
		ck_assert_int_eq(mkdir(path, 0700), 0);
	if (replacement == NO_DIR)
		ck_assert_int_eq(rename("/tmp/.reloaded", "/tmp/.renamed"), 0);
}

static int publish_and_replace(void *replacement)
{
	int line = publish_file(NULL);

	STEP(line == 0);
	replace(rendezvous_path(NULL, getpid()), *(enum replacement *)replacement);
	return 0;
}

START_TEST(file_that_replaced_the_published_one_stays)
{
	enum replacement replacement = (enum replacement)_i;
	struct child child;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(_i == OTHER_USER && geteuid() != 0, NOT_ROOT);
	child = start_child(publish_and_replace, &replacement);
	finish_child(child);
	ck_assert_int_eq(path_exists(rendezvous_path(NULL, child.pid)), _i < NO_FILE);
	ck_assert_int_eq(path_exists("/tmp/moved"), _i != ANOTHER_FILE && _i != OTHER_BYTES &&
					       _i != OTHER_USER);
}
END_TEST

int main(int argc, char **argv)
{
	TCase *all = tcase_create("exit");
	Suite *suite;
	int status;

	if (run_own_role(roles, argc, argv, &status))
		return status;
	suite = suite_create("rendezvous/exit");
	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_checked_fixture(all, setup, NULL);
	tcase_add_loop_test(all, normal_exit_leaves_no_file, 0, ENDS);
	tcase_add_test(all, exit_of_a_child_keeps_the_file_of_its_parent);
	tcase_add_loop_test(all, file_that_replaced_the_published_one_stays, ANOTHER_FILE,
			    NO_DIR + 1);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
