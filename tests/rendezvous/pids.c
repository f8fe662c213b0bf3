/* SPDX-License-Identifier: MIT */
/* api-pids.c: process numbers that come round again, and those that two processes have */

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

/* What the processes of a test tell each other. */
static struct scene {
	uintptr_t locator;	/* of the process that was killed */
	int line;		/* of a grandchild's step that failed; -1: it did not end */
	unsigned arrivals[4];
	bool has_failed;
} *scene;

static void make_scene(void)
{
	scene = mmap(NULL, sizeof(*scene), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	ck_assert_ptr_ne(scene, MAP_FAILED);
}

/*
 * Waits until two processes have come to this point, each to its own first,
 * second and so on; false when one of them has failed and will not.
 */
static bool meet_at(unsigned point)
{
	alarm(120);	/* whoever is left alone here ends some time */
	__atomic_fetch_add(&scene->arrivals[point], 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&scene->arrivals[point], __ATOMIC_ACQUIRE) < 2) {
		if (__atomic_load_n(&scene->has_failed, __ATOMIC_ACQUIRE))
			return false;
		give_way();
	}
	return true;
}

/* The next process of this namespace gets this number. */
static bool choose_next(pid_t process)
{
	int file = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	char text[20];
	int size = snprintf(text, sizeof(text), "%d", (int)process - 1);
	bool is_chosen = file >= 0 && write(file, text, (size_t)size) == size;

	if (file >= 0)
		close(file);
	return is_chosen;
}

/*
 * Runs the body as process 1 of a new PID namespace, so that numbers are the
 * test's own.  Where that cannot be it says so and returns false.
 */
static bool run_first_process(int (*body)(void *context), void *context)
{
	if (!sandbox_tmp(NULL)) {
		printf("skipped: %s\n", WHY_NO_SANDBOX);
		return false;
	}
	make_scene();
	if (!enter_pid_namespace()) {
		printf("skipped: %s\n", WHY_NO_PIDS);
		return false;
	}
	run_child(body, context);
	return true;
}

static int count_one(const struct buffers_info *info, void *context)
{
	*(unsigned *)context += !is_unused_rest(info);
	return 0;
}

static int use_and_die(void *context)
{
	struct buffers_item *item = use_library();

	(void)context;
	STEP(item);
	STEP(is_published_in(NULL, item));
	scene->locator = locator_of(item);
	kill(getpid(), SIGKILL);
	return __LINE__;
}

/* Process REUSED publishes and is killed; its file stays. */
static int leave_a_file(void)
{
	struct child child;
	int status;

	STEP(choose_next(REUSED));
	child = start_child(use_and_die, NULL);
	STEP(child.process == REUSED);
	STEP(waitpid(child.process, &status, 0) == child.process);
	STEP(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	STEP(read_address(rendezvous_path(NULL, REUSED)) == scene->locator);
	return 0;
}

/* Another process REUSED finds that file. */
static int come_round(void *context)
{
	unsigned buffers = 0;
	struct buffers_item *item;

	(void)context;
	STEP(getpid() == REUSED);
	item = use_library();
	STEP(item);
	STEP(is_published_in(NULL, item));
	STEP(buffers_walk(count_one, &buffers) == 0);
	STEP(buffers == 1);
	STEP(use_library() == item);
	return 0;
}

static int come_round_elsewhere(void *context)
{
	struct buffers_item *item = use_library();

	STEP(item && locator_of(item) != scene->locator);
	return come_round(context);
}

/* Nothing is at that address. */
static int reuse_plainly(void *context)
{
	(void)context;
	STEP(leave_a_file() == 0);
	STEP(choose_next(REUSED));
	run_child(come_round, NULL);
	STEP(count_files(SHARED_DIR) == 0);
	return 0;
}

START_TEST(file_of_a_dead_process_with_this_number_is_replaced)
{
	run_first_process(reuse_plainly, NULL);
}
END_TEST

/* A locator is at that address, by chance, when the number comes round again. */
static int reuse_with_a_forgery(void *context)
{
	void *page;

	(void)context;
	STEP(leave_a_file() == 0);
	page = mmap((void *)scene->locator, 4096, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	STEP(page == (void *)scene->locator);
	forge_locator(&fake, page);
	STEP(choose_next(REUSED));
	run_child(come_round_elsewhere, NULL);
	STEP(is_untouched(&fake));
	STEP(count_files(SHARED_DIR) == 0);
	return 0;
}

START_TEST(reused_number_does_not_follow_what_its_parent_mapped)
{
	SKIP_IF(is_emulated() && granularity() > 4096,
		"the emulator at times has no memory, with pages larger than the kernel's");
	run_first_process(reuse_with_a_forgery, NULL);
}
END_TEST

/*
 * The parent's own locator is at that address.  The killed child and the parent
 * had the same mappings when each used the library for the first time, so the
 * kernel gives both the same address.
 */
static int reuse_with_an_inherited_locator(void *context)
{
	struct buffers_item *item;
	void *next;

	(void)context;
	STEP(leave_a_file() == 0);
	/* out of the way: the parent's first use would clean it up */
	STEP(rename(rendezvous_path(NULL, REUSED), "/tmp/kept") == 0);
	item = use_library();
	STEP(item);
	STEP(rename("/tmp/kept", rendezvous_path(NULL, REUSED)) == 0);
	if (locator_of(item) != scene->locator) {
		printf("skipped: %s: the kernel chose another address\n", __func__);
		return 0;
	}
	next = buffers_next(item);
	STEP(choose_next(REUSED));
	run_child(come_round_elsewhere, NULL);
	STEP(buffers_next(item) == next);
	STEP(count_files(SHARED_DIR) == 1);
	return 0;
}

START_TEST(reused_number_does_not_follow_its_parents_locator)
{
	run_first_process(reuse_with_an_inherited_locator, NULL);
}
END_TEST

/*
 * Process REUSED forks and is killed, and its child's child gets its number: at
 * that address is the very locator that the file is about, inherited.
 */
static int descend(void)
{
	STEP(meet_at(0));	/* now it is dead and gone */
	STEP(choose_next(REUSED));
	run_child(come_round_elsewhere, NULL);
	return 0;
}

static int fork_and_die(void *context)
{
	struct buffers_item *item = use_library();

	(void)context;
	STEP(item);
	memset(scene, 0, sizeof(*scene));
	scene->locator = locator_of(item);
	scene->line = -1;
	if (fork() == 0) {
		scene->line = descend();
		exit(scene->line != 0);
	}
	kill(getpid(), SIGKILL);
	return __LINE__;
}

static int reuse_by_a_grandchild(void *context)
{
	struct child child;
	int status;

	(void)context;
	STEP(choose_next(REUSED));
	child = start_child(fork_and_die, NULL);
	STEP(waitpid(REUSED, &status, 0) == REUSED && child.process == REUSED);
	STEP(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	STEP(meet_at(0));
	STEP(wait(&status) > 0);
	if (scene->line)
		fprintf(stderr, "step in line %d failed\n", scene->line);
	STEP(WIFEXITED(status) && WEXITSTATUS(status) == 0 && scene->line == 0);
	STEP(count_files(SHARED_DIR) == 0);
	return 0;
}

START_TEST(reused_number_does_not_follow_a_locator_that_it_inherited)
{
	run_first_process(reuse_by_a_grandchild, NULL);
}
END_TEST

/* So often that many a number comes round within one tick of the clock. */
static int reuse_often(void *context)
{
	for (unsigned i = 0; i < *(unsigned *)context; i++) {
		STEP(reuse_by_a_grandchild(NULL) == 0);
		STEP(reuse_plainly(NULL) == 0);
	}
	return 0;
}

START_TEST(number_that_is_reused_at_once_starts_afresh)
{
	run_first_process(reuse_often, &(unsigned){ how_many(10, 500) });
}
END_TEST

/*
 * Two namespaces, one /tmp: both processes are number 1 and alive
 */

enum { FIRST_HAS_PUBLISHED, BOTH_HAVE, BOTH_HAVE_USED, OTHER_IS_GONE };

static int use_often(struct buffers_item *item)
{
	for (unsigned i = 0; i < 1000; i++)
		STEP(use_library() == item);
	return 0;
}

struct twin {
	bool is_first;
	bool leaves_first;
};

/* In which of the places is the library's choice. */
static bool is_published(const struct buffers_item *item)
{
	const char *place = published_dir(item);

	return place && *place;
}

static int be_number_1(const struct twin *twin)
{
	struct buffers_item *item;

	STEP(getpid() == 1);
	if (!twin->is_first) {
		for (unsigned i = 0; i < 16; i++)
			new_page();	/* so that their locators differ in address */
		STEP(meet_at(FIRST_HAS_PUBLISHED));
	}
	STEP(use_library());
	/* with room for all that follows; what is left of a large page has it not */
	buffers_release(buffers_get(&(struct buffers_request){ .size = 32 << 10 }));
	item = use_library();
	STEP(item && is_published(item));
	if (twin->is_first)
		STEP(meet_at(FIRST_HAS_PUBLISHED));
	STEP(meet_at(BOTH_HAVE));
	STEP(use_often(item) == 0);
	STEP(meet_at(BOTH_HAVE_USED));
	if (twin->leaves_first)
		return 0;
	STEP(meet_at(OTHER_IS_GONE));
	STEP(use_often(item) == 0);
	STEP(is_published(item));
	return 0;
}

static int be_number_1_or_tell(void *twin)
{
	int line = be_number_1(twin);

	if (line)
		__atomic_store_n(&scene->has_failed, true, __ATOMIC_RELEASE);
	return line;
}

static int enter_and_be_number_1(void *context)
{
	STEP(enter_pid_namespace());
	run_child(be_number_1_or_tell, context);
	return 0;
}

static void be_twins(bool first_leaves_first)
{
	struct twin twins[2] = { { true, first_leaves_first }, { false, !first_leaves_first } };
	struct child children[2];
	size_t leaving = first_leaves_first ? 0 : 1;

	memset(scene, 0, sizeof(*scene));
	for (size_t i = 0; i < 2; i++)
		children[i] = start_child(enter_and_be_number_1, &twins[i]);
	finish_child(children[leaving]);
	ck_assert(meet_at(OTHER_IS_GONE));
	finish_child(children[1 - leaving]);
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}

static int probe_pids(void *context)
{
	*(bool *)context = enter_pid_namespace();
	return 0;
}

START_TEST(two_processes_of_one_number_do_not_disturb_each_other)
{
	bool *has_pids = mmap(NULL, sizeof(bool), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	SKIP_IF(!sandbox_tmp(NULL), WHY_NO_SANDBOX);
	run_child(probe_pids, has_pids);
	SKIP_IF(!*has_pids, WHY_NO_PIDS);
	make_scene();
	for (unsigned i = 0; i < how_many(2, 30); i++) {
		be_twins(true);
		be_twins(false);
	}
}
END_TEST

/* Numbers of killed processes, each of a namespace that is gone, bar nobody. */
static int use_and_tell(void *round)
{
	struct buffers_item *item;

	/* so that no two of them have their locator at the same address */
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

	STEP(choose_next(REUSED));
	child = start_child(use_and_tell, round);
	STEP(waitpid(child.process, &status, 0) == child.process);
	STEP(*child.line == -1 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	return 0;
}

static int enter_and_start(void *round)
{
	STEP(enter_pid_namespace());
	run_child(start_reused, round);
	return 0;
}

START_TEST(number_that_was_killed_in_other_namespaces_still_publishes)
{
	bool *has_pids = mmap(NULL, sizeof(bool), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	SKIP_IF(!sandbox_tmp(NULL), WHY_NO_SANDBOX);
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
	Suite *suite = suite_create("api-pids");
	TCase *all = tcase_create("pids");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 120);
	tcase_add_test(all, file_of_a_dead_process_with_this_number_is_replaced);
	tcase_add_test(all, reused_number_does_not_follow_what_its_parent_mapped);
	tcase_add_test(all, reused_number_does_not_follow_its_parents_locator);
	tcase_add_test(all, reused_number_does_not_follow_a_locator_that_it_inherited);
	tcase_add_test(all, number_that_is_reused_at_once_starts_afresh);
	tcase_add_test(all, number_that_was_killed_in_other_namespaces_still_publishes);
	tcase_add_test(all, two_processes_of_one_number_do_not_disturb_each_other);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
