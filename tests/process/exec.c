/* SPDX-License-Identifier: MIT */
/* process/exec.c: a file that a program left does not disturb the next program after exec() */

#include "config.h"
#include "support/reexec.h"
#include "reloaded/buffers.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <unistd.h>

#define NO_SANDBOX "the kernel gives this user no private /tmp; under TSan only root gets one"

extern char **environ;

static const struct buffers_request request = { .size = 16 };

static bool is_sandboxed;

static void setup(void)
{
	is_sandboxed = sandbox_tmp(NULL);
}

static int count_buffer(const struct buffers_info *info, void *context)
{
	*(size_t *)context += !is_rest_of_locator_page(info);
	return 0;
}

/* Uses the library for the first time, although the former program may have left a file. */
static int first_use(struct buffers_item **item)
{
	size_t buffers = 0;
	char *copy;

	STEP(buffers_walk(count_buffer, &buffers) == 0);
	STEP(buffers == 0);
	*item = buffers_get(&request);
	STEP(*item);
	copy = buffers_append(*item, "sixteen bytes...", 16);
	STEP(copy && memcmp(copy, "sixteen bytes...", 16) == 0);
	buffers_release(*item);
	STEP(buffers_get(&request) == *item);
	STEP(buffers_next(*item) == copy + 16);
	buffers_release(*item);
	STEP(buffers_walk(count_buffer, &buffers) == 0);
	STEP(buffers == 1);
	return 0;
}

static int use_and_publish(void)
{
	struct buffers_item *item;
	int line = first_use(&item);

	if (line)
		return line;
	STEP(is_named_in(rendezvous_path(NULL, getpid()), item));
	return 0;
}

/* Starts a child that uses the library, then executes the role; true if it exits with 0. */
static bool run_role_after_use(const char *role, int number)
{
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child == 0) {
		if (use_and_publish() != 0)
			_exit(126);
		exec_role(role, number);
	}
	return exits_with_zero(child);
}

static void assert_no_files_left(void)
{
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}

/*
 * Chains of programs that one process executes
 */

enum randomisation { RANDOM, FIXED, BOTH_IN_TURN };

static void set_randomisation(bool is_random)
{
	int persona = personality(0xffffffff);

	if (is_random)
		persona &= ~ADDR_NO_RANDOMIZE;
	else
		persona |= ADDR_NO_RANDOMIZE;
	personality((unsigned long)persona);
}

static bool is_random(void)
{
	return !(personality(0xffffffff) & ADDR_NO_RANDOMIZE);
}

static int next_link(const char *role, int links, bool in_turn)
{
	int line;

	STEP(read_address(rendezvous_path(NULL, getpid())) != 0);
	line = use_and_publish();
	STEP(count_files(SHARED_DIR) == 1);
	if (line || links == 0)
		return line;
	if (in_turn)
		set_randomisation(!is_random());
	exec_role(role, links - 1);
}

static int be_link(int links)
{
	return next_link("link", links, false);
}

static int be_alternating_link(int links)
{
	return next_link("alternating link", links, true);
}

START_TEST(every_program_of_a_chain_has_a_locator_of_its_own)
{
	int links = (int)how_many(20, 300);

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	set_randomisation(_i != FIXED);
	SKIP_IF(is_random() != (_i != FIXED), "the kernel refuses personality()");
	ck_assert(run_role_after_use(_i == BOTH_IN_TURN ? "alternating link" : "link", links));
	assert_no_files_left();
}
END_TEST

static int do_nothing(int number)
{
	(void)number;
	STEP(read_address(rendezvous_path(NULL, getpid())) != 0);
	return 0;
}

START_TEST(file_of_a_former_program_is_removed_by_the_next_process)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	ck_assert(run_role_after_use("nothing", 0));
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	ck_assert(run_role("use", 0));
	assert_no_files_left();
}
END_TEST

static int use_in_role(int number)
{
	int line = use_and_publish();

	(void)number;
	return line;
}

static int fail_to_execute(void *context)
{
	char *arguments[] = { NULL, NULL };
	char missing[] = "/missing/program";
	struct buffers_item *item;
	int line = first_use(&item);

	(void)context;
	arguments[0] = missing;
	STEP(line == 0);
	STEP(execv(missing, arguments) == -1);
	STEP(is_named_in(rendezvous_path(NULL, getpid()), item));
	STEP(buffers_get(&request) == item);
	return 0;
}

START_TEST(exec_that_fails_changes_nothing)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	run_child(fail_to_execute, NULL);
	assert_no_files_left();
}
END_TEST

/*
 * Threads that are in calls of the library when another thread calls exec()
 */

enum { THREADS = 4 };

static unsigned threads_at_work;
static bool stop;

static void *keep_calling(void *failed)
{
	bool has_called = false;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct buffers_item *item = buffers_get(&request);

		if (!item || !buffers_append(item, "sixteen bytes...", 16))
			return failed;
		buffers_release(item);
		if (!has_called)
			__atomic_add_fetch(&threads_at_work, 1, __ATOMIC_RELAXED);
		has_called = true;
	}
	return NULL;
}

static int start_threads(pthread_t *threads)
{
	for (size_t i = 0; i < THREADS; i++)
		STEP(pthread_create(&threads[i], NULL, keep_calling, &stop) == 0);
	while (__atomic_load_n(&threads_at_work, __ATOMIC_RELAXED) < THREADS)
		sched_yield();
	return 0;
}

static int join_threads(pthread_t *threads)
{
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < THREADS; i++) {
		void *failed;

		STEP(pthread_join(threads[i], &failed) == 0);
		STEP(!failed);
	}
	return 0;
}

static void *become_threaded_link(void *links)
{
	exec_role("threaded link", *(int *)links - 1);
}

/* If `links` is odd, another thread executes the next link, and becomes its main thread. */
static int be_threaded_link(int links)
{
	pthread_t threads[THREADS], thread;
	int line = use_and_publish();

	STEP(line == 0);
	line = start_threads(threads);
	STEP(line == 0);
	if (links == 0)
		return join_threads(threads);
	if (links % 2 == 0)
		become_threaded_link(&links);
	STEP(pthread_create(&thread, NULL, become_threaded_link, &links) == 0);
	pthread_join(thread, NULL);
	return __LINE__;
}

START_TEST(program_works_if_threads_of_the_former_one_were_in_calls)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	ck_assert(run_role_after_use("threaded link", (int)how_many(10, 200)));
	assert_no_files_left();
}
END_TEST

/*
 * Other memory at the address where the former program had its locator
 */

enum occupant {
	NOTHING, ZEROS, READ_ONLY, UNREADABLE, UNBACKED, OWN_ADDRESS_ALONE, UNKNOWN_VERSION,
	MANY_ITEMS, INVALID_ITEM, NOISE,	/* this and higher numbers: seeds of random bytes */
};

static bool points_to_itself(int occupant)
{
	return occupant >= OWN_ADDRESS_ALONE && occupant < NOISE;
}

static void fill_page(unsigned char *page, int occupant)
{
	uint64_t random = (uint64_t)occupant;
	uintptr_t address = (uintptr_t)page;

	for (size_t i = 0; occupant >= NOISE && i < 4096; i++)
		page[i] = (unsigned char)next_random(&random);
	if (points_to_itself(occupant))
		memcpy(page, &address, sizeof(address));
	if (occupant == OWN_ADDRESS_ALONE)
		memset(page + 2 * sizeof(address), 0xff, 8);
	if (occupant == UNKNOWN_VERSION)
		page[2 * sizeof(address) + 4] = 1;
	if (occupant == MANY_ITEMS)
		page[2 * sizeof(address) + 5] = sizeof(address) == 8 ? 204 : 255;
	if (occupant == INVALID_ITEM)
		page[2 * sizeof(address) + 5] = 1;	/* one item, with base 0 */
}

/* Opens an empty file: an access to memory that maps it raises SIGBUS. */
static int open_empty_file(void)
{
	int file = open("/tmp/empty", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	unlink("/tmp/empty");
	return file;
}

static void *map_at(unsigned char *page, int occupant)
{
	int flags = occupant == UNBACKED ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	int file = occupant == UNBACKED ? open_empty_file() : -1;
	void *mapped = mmap(page, 4096, PROT_READ | PROT_WRITE, flags | MAP_FIXED_NOREPLACE,
			    file, 0);

	if (file >= 0)
		close(file);
	return mapped;
}

/*
 * In 32-bit processes the kernel often maps part of the new program at the former address.
 * The test then executes the program again, at most 200 times.
 */
static bool can_retry(void)
{
	const char *tried = getenv("TRIED");
	char number[12];

	snprintf(number, sizeof(number), "%d", tried ? atoi(tried) + 1 : 1);
	setenv("TRIED", number, 1);
	return atoi(number) < 200;
}

static int map_occupant(unsigned char *page, int occupant)
{
	if (map_at(page, occupant) != page) {
		STEP(can_retry());
		/* Publish a new address: few bits are random, so the old one may always fail. */
		STEP(use_and_publish() == 0);
		exec_role("occupied", occupant);
	}
	fill_page(page, occupant);
	if (occupant == READ_ONLY)
		STEP(mprotect(page, 4096, PROT_READ) == 0);
	if (occupant == UNREADABLE)
		STEP(mprotect(page, 4096, PROT_NONE) == 0);
	return 0;
}

static bool is_untouched(unsigned char *page, int occupant)
{
	static unsigned char before[4096];
	uintptr_t address = (uintptr_t)page;

	if (occupant == NOTHING || occupant == UNBACKED)
		return true;
	if (occupant == UNREADABLE)
		mprotect(page, 4096, PROT_READ);
	fill_page(before, occupant);
	if (points_to_itself(occupant))
		memcpy(before, &address, sizeof(address));
	return memcmp(page, before, 4096) == 0;
}

static int find_page_occupied(int occupant)
{
	const char *path = rendezvous_path(NULL, getpid());
	unsigned char *page = (unsigned char *)(uintptr_t)read_address(path);
	struct buffers_item *item;
	int line = 0;

	STEP(page);
	if (occupant != NOTHING)
		line = map_occupant(page, occupant);
	if (line == 0)
		line = first_use(&item);
	if (line)
		return line;
	STEP(is_untouched(page, occupant));
	STEP(is_named_in(path, item) ||
	     (points_to_itself(occupant) &&
	      is_named_in(rendezvous_path(own_dir(), getpid()), item)));
	return 0;
}

START_TEST(program_works_with_other_memory_at_the_former_address)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(_i == UNBACKED && !can_map_beyond_end(), NO_MAPPING_BEYOND_END);
	set_randomisation(true);	/* without it the new program may use the address itself */
	ck_assert(run_role_after_use("occupied", _i));
	ck_assert_uint_eq(count_files(own_dir()), 0);
	/* The library leaves the file alone if another implementation may own it. */
	if (!points_to_itself(_i))
		ck_assert_uint_eq(count_files(SHARED_DIR), 0);
	ck_assert(run_role("use and leave", 0));
	assert_no_files_left();
}
END_TEST

static int use_and_leave(int number)
{
	struct buffers_item *item;

	(void)number;
	return first_use(&item);
}

START_TEST(program_works_with_random_bytes_at_the_former_address)
{
	unsigned times = how_many(30, 500);
	uint64_t random;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	set_randomisation(true);
	random = seed_random();
	for (unsigned i = 0; i < times; i++)
		ck_assert(run_role_after_use("occupied",
					     (int)(NOISE + random_below(&random, 1 << 30))));
	assert_no_files_left();
}
END_TEST

/*
 * Without randomisation the new program maps its locator at the former one's address, so the
 * former program's file seems to be its own.
 */
static int lock_file(int number)
{
	int line = use_and_publish();
	int file = open(rendezvous_path(NULL, getpid()), O_RDONLY);

	(void)number;
	STEP(line == 0);
	STEP(file >= 0 && flock(file, LOCK_EX) == 0);
	exec_role("use and leave", 0);
}

START_TEST(program_works_if_the_former_one_locked_its_file)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	set_randomisation(_i != FIXED);
	ck_assert(run_role_after_use("locked", 0));
	ck_assert(run_role("use and leave", 0));
	assert_no_files_left();
}
END_TEST

/*
 * Other system calls that execute a program
 */

static int become_by_descriptor(int links)
{
	int line = use_and_publish();
	/* Without O_CLOEXEC, because an emulator reads the program only after the exec. */
	int file = open(SELF_EXE, O_RDONLY);

	STEP(line == 0);
	STEP(file >= 0);
	if (!links)
		return 0;
	fexecve(file, role_arguments("by descriptor", links - 1), environ);
	if (errno != ENOSYS)
		return __LINE__;
	printf("skipped: program_after_fexecve_has_a_locator_of_its_own: no execveat()\n");
	return 0;
}

START_TEST(program_after_fexecve_has_a_locator_of_its_own)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	ck_assert(run_role_after_use("by descriptor", 5));
	assert_no_files_left();
}
END_TEST

static pid_t spawn_role(const char *name)
{
	pid_t child;
	int error = posix_spawn(&child, SELF_EXE, NULL, NULL, role_arguments(name, 0), environ);

	return error ? -1 : child;
}

static pid_t vfork_role(const char *name)
{
	char **arguments = role_arguments(name, 0);
	pid_t child = vfork();

	if (child == 0) {
		execv(SELF_EXE, arguments);
		_exit(127);
	}
	return child;
}

static int use_beside_parent(int number)
{
	struct buffers_item *item;
	int line = first_use(&item);

	(void)number;
	STEP(line == 0);
	STEP(is_named_in(rendezvous_path(NULL, getpid()), item));
	STEP(read_address(rendezvous_path(NULL, getppid())) != 0);
	return 0;
}

static int execute_beside_threads(void *context)
{
	pid_t (*start)(const char *) = *(pid_t (**)(const char *))context;
	const char *path = rendezvous_path(NULL, getpid());
	unsigned times = how_many(30, 500);
	struct buffers_item *item = buffers_get(&request);
	pthread_t threads[THREADS];
	int line = start_threads(threads);

	STEP(item && line == 0);
	for (unsigned i = 0; i < times; i++) {
		STEP(exits_with_zero(start("beside parent")));
		STEP(is_named_in(path, item));
		STEP(count_files(SHARED_DIR) == 1);
	}
	STEP(buffers_append(item, "held all the time", 17));
	return join_threads(threads);
}

static void assert_parent_and_child_work(pid_t (*start)(const char *))
{
	run_child(execute_beside_threads, &start);
	assert_no_files_left();
}

START_TEST(parent_and_child_work_after_posix_spawn_beside_threads)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	assert_parent_and_child_work(spawn_role);
}
END_TEST

START_TEST(parent_and_child_work_after_vfork_and_exec_beside_threads)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(is_tsan(), "TSan does not support threads and vfork");
	assert_parent_and_child_work(vfork_role);
}
END_TEST

static const struct role roles[] = {
	{ "link", be_link },
	{ "alternating link", be_alternating_link },
	{ "nothing", do_nothing },
	{ "use", use_in_role },
	{ "use and leave", use_and_leave },
	{ "threaded link", be_threaded_link },
	{ "occupied", find_page_occupied },
	{ "locked", lock_file },
	{ "by descriptor", become_by_descriptor },
	{ "beside parent", use_beside_parent },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	TCase *all = tcase_create("exec");
	Suite *suite;
	int status;

	if (run_own_role(roles, argc, argv, &status))
		return status;
	suite = suite_create("process/exec");
	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_checked_fixture(all, setup, NULL);
	tcase_add_loop_test(all, every_program_of_a_chain_has_a_locator_of_its_own, RANDOM,
			    BOTH_IN_TURN + 1);
	tcase_add_test(all, file_of_a_former_program_is_removed_by_the_next_process);
	tcase_add_test(all, exec_that_fails_changes_nothing);
	tcase_add_test(all, program_works_if_threads_of_the_former_one_were_in_calls);
	tcase_add_loop_test(all, program_works_with_other_memory_at_the_former_address, NOTHING,
			    NOISE + 1);
	tcase_add_test(all, program_works_with_random_bytes_at_the_former_address);
	tcase_add_loop_test(all, program_works_if_the_former_one_locked_its_file, RANDOM,
			    FIXED + 1);
	tcase_add_test(all, program_after_fexecve_has_a_locator_of_its_own);
	tcase_add_test(all, parent_and_child_work_after_posix_spawn_beside_threads);
	tcase_add_test(all, parent_and_child_work_after_vfork_and_exec_beside_threads);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
