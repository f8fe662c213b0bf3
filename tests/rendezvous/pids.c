/* SPDX-License-Identifier: MIT */
/* rendezvous/pids.c: PIDs that the kernel reuses, or that processes of two namespaces share */

#include "config.h"
#include "support/forged-files.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WHY_NO_PIDS "the kernel gives this user no PID namespace"

enum { REUSED = 100 };

/* Memory that the processes of a test share. */
static struct shared {
	uintptr_t locator;	/* address in the process that was killed */
	int line;		/* failed step of the killed process's child; -1: not ended */
	unsigned arrivals[4];
	bool has_failed;
} *shared;

static void map_shared(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
}

/*
 * Waits until two processes have called this with the same point.  Returns false if the
 * other process has failed, and will not arrive.
 */
static bool wait_at(unsigned point)
{
	alarm(120);	/* ends the process if the other one never arrives */
	__atomic_fetch_add(&shared->arrivals[point], 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&shared->arrivals[point], __ATOMIC_ACQUIRE) < 2) {
		if (__atomic_load_n(&shared->has_failed, __ATOMIC_ACQUIRE))
			return false;
		yield_cpu();
	}
	return true;
}

/* Makes the kernel give this PID to the next process of this namespace. */
static bool choose_next_pid(pid_t pid)
{
	int file = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	char text[20];
	int size = snprintf(text, sizeof(text), "%d", (int)pid - 1);
	bool is_chosen = file >= 0 && write(file, text, (size_t)size) == size;

	if (file >= 0)
		close(file);
	return is_chosen;
}

/*
 * Runs the body as PID 1 of a new PID namespace, in which the test chooses the PIDs.  If the
 * kernel refuses the namespace, prints that the test is skipped, and returns false.
 */
static bool run_first_process(int (*body)(void *context), void *context)
{
	if (!sandbox_tmp(NULL)) {
		printf("skipped: %s\n", NO_PRIVATE_TMP);
		return false;
	}
	map_shared();
	if (!enter_pid_namespace()) {
		printf("skipped: %s\n", WHY_NO_PIDS);
		return false;
	}
	run_child(body, context);
	return true;
}

static int count_buffer(const struct buffers_info *info, void *context)
{
	*(unsigned *)context += !is_rest_of_locator_page(info);
	return 0;
}

static int publish_and_get_killed(void *context)
{
	struct buffers_item *item = use_library();

	(void)context;
	STEP(item);
	STEP(is_published_in(NULL, item));
	shared->locator = locator_of(item);
	kill(getpid(), SIGKILL);
	return __LINE__;
}

/* A process with PID REUSED publishes and is killed: its file stays. */
static int leave_a_file(void)
{
	struct child child;
	int status;

	STEP(choose_next_pid(REUSED));
	child = start_child(publish_and_get_killed, NULL);
	STEP(child.pid == REUSED);
	STEP(waitpid(child.pid, &status, 0) == child.pid);
	STEP(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	STEP(read_address(rendezvous_path(NULL, REUSED)) == shared->locator);
	return 0;
}

/* A later process with PID REUSED finds that file, and replaces it. */
static int replace_stale_file(void *context)
{
	unsigned buffers = 0;
	struct buffers_item *item;

	(void)context;
	STEP(getpid() == REUSED);
	item = use_library();
	STEP(item);
	STEP(is_published_in(NULL, item));
	STEP(buffers_walk(count_buffer, &buffers) == 0);
	STEP(buffers == 1);
	STEP(use_library() == item);
	return 0;
}

static int replace_stale_file_elsewhere(void *context)
{
	struct buffers_item *item = use_library();

	STEP(item && locator_of(item) != shared->locator);
	return replace_stale_file(context);
}

/* The new process has nothing mapped at the old locator's address. */
static int reuse_pid(void *context)
{
	(void)context;
	STEP(leave_a_file() == 0);
	STEP(choose_next_pid(REUSED));
	run_child(replace_stale_file, NULL);
	STEP(count_files(SHARED_DIR) == 0);
	return 0;
}

START_TEST(file_of_a_dead_process_with_this_pid_is_replaced)
{
	run_first_process(reuse_pid, NULL);
}
END_TEST

/* The new process inherits a forged locator at the old locator's address. */
static int reuse_with_a_forgery(void *context)
{
	void *page;

	(void)context;
	STEP(leave_a_file() == 0);
	page = mmap((void *)shared->locator, 4096, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	STEP(page == (void *)shared->locator);
	forge_locator(&forged_locator, page);
	STEP(choose_next_pid(REUSED));
	run_child(replace_stale_file_elsewhere, NULL);
	STEP(is_untouched(&forged_locator));
	STEP(count_files(SHARED_DIR) == 0);
	return 0;
}

START_TEST(reused_pid_does_not_follow_an_inherited_forgery)
{
	SKIP_IF(is_emulated() && granularity() > 4096,
		"the emulator may run out of memory if its pages are larger than the kernel's");
	run_first_process(reuse_with_a_forgery, NULL);
}
END_TEST

/*
 * The new process inherits its parent's locator at the old locator's address.  The killed
 * child and the parent had the same mappings at their first use of the library, so the kernel
 * chose the same address for both locators.
 */
static int reuse_with_an_inherited_locator(void *context)
{
	struct buffers_item *item;
	void *next;

	(void)context;
	STEP(leave_a_file() == 0);
	/* Hide the file: the parent's first use would remove it as stale. */
	STEP(rename(rendezvous_path(NULL, REUSED), "/tmp/kept") == 0);
	item = use_library();
	STEP(item);
	STEP(rename("/tmp/kept", rendezvous_path(NULL, REUSED)) == 0);
	if (locator_of(item) != shared->locator) {
		printf("skipped: %s: the kernel chose another address\n", __func__);
		return 0;
	}
	next = buffers_next(item);
	STEP(choose_next_pid(REUSED));
	run_child(replace_stale_file_elsewhere, NULL);
	STEP(buffers_next(item) == next);
	STEP(count_files(SHARED_DIR) == 1);
	return 0;
}

START_TEST(reused_pid_does_not_follow_its_parents_locator)
{
	run_first_process(reuse_with_an_inherited_locator, NULL);
}
END_TEST

/*
 * A process with PID REUSED forks and is killed.  Its grandchild gets the same PID, and inherits
 * the very locator that the file names.
 */
static int reuse_pid_in_grandchild(void)
{
	STEP(wait_at(0));	/* the killed process has been waited for */
	STEP(choose_next_pid(REUSED));
	run_child(replace_stale_file_elsewhere, NULL);
	return 0;
}

static int fork_and_get_killed(void *context)
{
	struct buffers_item *item = use_library();

	(void)context;
	STEP(item);
	memset(shared, 0, sizeof(*shared));
	shared->locator = locator_of(item);
	shared->line = -1;
	if (fork() == 0) {
		shared->line = reuse_pid_in_grandchild();
		exit(shared->line != 0);
	}
	kill(getpid(), SIGKILL);
	return __LINE__;
}

static int reuse_by_a_grandchild(void *context)
{
	struct child child;
	int status;

	(void)context;
	STEP(choose_next_pid(REUSED));
	child = start_child(fork_and_get_killed, NULL);
	STEP(waitpid(REUSED, &status, 0) == REUSED && child.pid == REUSED);
	STEP(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	STEP(wait_at(0));
	STEP(wait(&status) > 0);
	if (shared->line)
		fprintf(stderr, "step in line %d failed\n", shared->line);
	STEP(WIFEXITED(status) && WEXITSTATUS(status) == 0 && shared->line == 0);
	STEP(count_files(SHARED_DIR) == 0);
	return 0;
}

START_TEST(reused_pid_does_not_follow_its_grandparents_locator)
{
	run_first_process(reuse_by_a_grandchild, NULL);
}
END_TEST

/* Repeats this until some reused PIDs start within the same clock tick as the killed process. */
static int reuse_pid_often(void *context)
{
	for (unsigned i = 0; i < *(unsigned *)context; i++) {
		STEP(reuse_by_a_grandchild(NULL) == 0);
		STEP(reuse_pid(NULL) == 0);
	}
	return 0;
}

START_TEST(pid_that_is_reused_at_once_gets_a_new_locator)
{
	run_first_process(reuse_pid_often, &(unsigned){ how_many(10, 200) });
}
END_TEST

/*
 * Two live processes with PID 1, in two PID namespaces that share /tmp
 */

enum { FIRST_HAS_PUBLISHED, BOTH_HAVE_PUBLISHED, BOTH_HAVE_USED, OTHER_HAS_ENDED };

static int use_often(struct buffers_item *item)
{
	for (unsigned i = 0; i < 1000; i++)
		STEP(use_library() == item);
	return 0;
}

struct twin {
	bool publishes_first;
	bool ends_first;
};

/* The library may choose either directory. */
static bool is_published(const struct buffers_item *item)
{
	const char *dir = published_dir(item);

	return dir && *dir;
}

static int be_pid_1(const struct twin *twin)
{
	struct buffers_item *item;

	STEP(getpid() == 1);
	if (!twin->publishes_first) {
		for (unsigned i = 0; i < 16; i++)
			new_page();	/* shifts the address of this process's locator */
		STEP(wait_at(FIRST_HAS_PUBLISHED));
	}
	STEP(use_library());
	/* Make a buffer for all later uses: the unused rest of a large page may be too small. */
	buffers_release(buffers_get(&(struct buffers_request){ .size = 32 << 10 }));
	item = use_library();
	STEP(item && is_published(item));
	if (twin->publishes_first)
		STEP(wait_at(FIRST_HAS_PUBLISHED));
	STEP(wait_at(BOTH_HAVE_PUBLISHED));
	STEP(use_often(item) == 0);
	STEP(wait_at(BOTH_HAVE_USED));
	if (twin->ends_first)
		return 0;
	STEP(wait_at(OTHER_HAS_ENDED));
	STEP(use_often(item) == 0);
	STEP(is_published(item));
	return 0;
}

static int be_pid_1_and_report(void *twin)
{
	int line = be_pid_1(twin);

	if (line)
		__atomic_store_n(&shared->has_failed, true, __ATOMIC_RELEASE);
	return line;
}

static int enter_and_be_pid_1(void *context)
{
	STEP(enter_pid_namespace());
	run_child(be_pid_1_and_report, context);
	return 0;
}

static void run_twins(bool publisher_ends_first)
{
	struct twin twins[2] = { { true, publisher_ends_first }, { false, !publisher_ends_first } };
	struct child children[2];
	size_t first = publisher_ends_first ? 0 : 1;

	memset(shared, 0, sizeof(*shared));
	for (size_t i = 0; i < 2; i++)
		children[i] = start_child(enter_and_be_pid_1, &twins[i]);
	finish_child(children[first]);
	ck_assert(wait_at(OTHER_HAS_ENDED));
	finish_child(children[1 - first]);
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}

static int probe_pids(void *context)
{
	*(bool *)context = enter_pid_namespace();
	return 0;
}

START_TEST(two_live_processes_with_one_pid_keep_their_locators)
{
	bool *has_pids = mmap(NULL, sizeof(bool), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	run_child(probe_pids, has_pids);
	SKIP_IF(!*has_pids, WHY_NO_PIDS);
	map_shared();
	for (unsigned i = 0; i < how_many(2, 10); i++) {
		run_twins(true);
		run_twins(false);
	}
}
END_TEST

/*
 * Processes with PID REUSED publish and are killed, each in a PID namespace that ends.  Their
 * files must not keep the next one from publishing.
 */
static int use_and_get_killed(void *round)
{
	struct buffers_item *item;

	/* Shift the locator's address, so that it differs in each round. */
	for (unsigned i = 0; i < 16 * *(unsigned *)round; i++)
		new_page();
	item = use_library();
	STEP(getpid() == REUSED);
	STEP(item && is_published(item));
	kill(getpid(), SIGKILL);
	return 0;
}

static int start_reused(void *round)
{
	struct child child;
	int status;

	STEP(choose_next_pid(REUSED));
	child = start_child(use_and_get_killed, round);
	STEP(waitpid(child.pid, &status, 0) == child.pid);
	STEP(*child.line == -1 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	return 0;
}

static int enter_and_start(void *round)
{
	STEP(enter_pid_namespace());
	run_child(start_reused, round);
	return 0;
}

START_TEST(process_publishes_despite_files_of_its_pid_from_other_namespaces)
{
	bool *has_pids = mmap(NULL, sizeof(bool), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	run_child(probe_pids, has_pids);
	SKIP_IF(!*has_pids, WHY_NO_PIDS);
	for (unsigned i = 0; i < 5; i++)
		run_child(enter_and_start, &i);
	ck_assert_uint_le(count_files(SHARED_DIR), 1);
	ck_assert_uint_le(count_files(own_dir()), 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rendezvous/pids");
	TCase *all = tcase_create("pids");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_test(all, file_of_a_dead_process_with_this_pid_is_replaced);
	tcase_add_test(all, reused_pid_does_not_follow_an_inherited_forgery);
	tcase_add_test(all, reused_pid_does_not_follow_its_parents_locator);
	tcase_add_test(all, reused_pid_does_not_follow_its_grandparents_locator);
	tcase_add_test(all, pid_that_is_reused_at_once_gets_a_new_locator);
	tcase_add_test(all, process_publishes_despite_files_of_its_pid_from_other_namespaces);
	tcase_add_test(all, two_live_processes_with_one_pid_keep_their_locators);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
