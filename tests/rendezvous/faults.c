/* SPDX-License-Identifier: MIT */
/* rendezvous/faults.c: buffers_get() succeeds, whichever file-system call fails */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/inspect.h"
#include "support/sandbox.h"
#include "support/supervise.h"
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The supervisor counts these calls, and lets the kernel execute them or makes them fail. */
static const int file_system_calls[] = {
#ifdef SYS_open
	SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_mkdir, SYS_rmdir, SYS_unlink, SYS_link,
	SYS_rename, SYS_readlink,
#endif
#ifdef SYS_fstatat64
	SYS_fstat64, SYS_fstatat64, SYS_fcntl64,
#endif
#ifdef SYS_newfstatat
	SYS_newfstatat,
#endif
#ifdef SYS_renameat
	SYS_renameat,
#endif
	SYS_openat, SYS_fstat, SYS_statx, SYS_mkdirat, SYS_unlinkat, SYS_linkat, SYS_renameat2,
	SYS_fchmod, SYS_read, SYS_pread64, SYS_write, SYS_pwrite64, SYS_writev, SYS_fcntl,
	SYS_flock, SYS_getdents64, SYS_fallocate, SYS_ftruncate, SYS_lseek, SYS_close, SYS_ioctl,
	SYS_dup, SYS_dup3, SYS_prlimit64, SYS_kill,
};
enum { CALLS = sizeof(file_system_calls) / sizeof(file_system_calls[0]) };

/* Shared with the parent. */
struct plan {
	unsigned position;	/* number of the call that fails, from 1 */
	bool is_lasting;	/* all later calls fail as well */
	int error;
	bool until_exit;	/* false: calls fail in buffers_get() only */
	unsigned calls;
	unsigned failed;
};

static int error_for_call(int number, void *context)
{
	struct plan *plan = context;
	bool fails;

	(void)number;
	plan->calls++;
	fails = plan->is_lasting ? plan->calls >= plan->position : plan->calls == plan->position;
	plan->failed += fails;
	return fails ? plan->error : 0;
}

static unsigned open_descriptors(void)
{
	unsigned count = 0;

	for (int i = 0; i < 100; i++)
		count += fcntl(i, F_GETFD) >= 0;
	return count;
}

static int get_here(struct plan *plan)
{
	static struct supervision supervision;	/* the supervisor outlives this function */
	struct buffers_item *item;
	unsigned descriptors;
	char *copy;

	supervision = (struct supervision){ .judge = error_for_call, .context = plan };
	STEP(supervise_this_thread(&supervision, file_system_calls, CALLS));
	descriptors = open_descriptors();
	supervise_begin(&supervision);
	errno = 0;
	item = buffers_get(&(struct buffers_request){ .size = 64 });
	if (!plan->until_exit)
		supervise_end(&supervision);
	STEP(item);
	STEP(errno == 0);
	STEP(plan->until_exit || open_descriptors() == descriptors);
	copy = buffers_append(item, "whole", 6);
	STEP(copy && strcmp(copy, "whole") == 0);
	buffers_release(item);
	return 0;
}

struct work {
	struct plan *plan;
	int line;
};

static void *get_in_thread(void *context)
{
	struct work *work = context;

	work->line = get_here(work->plan);
	return NULL;
}

/* Installs the filter for one thread only, so that exit handlers run without it. */
static int get_with_faults(struct plan *plan)
{
	struct work work = { plan, 0 };
	pthread_t thread;

	if (plan->until_exit)
		return get_here(plan);
	STEP(pthread_create(&thread, NULL, get_in_thread, &work) == 0);
	STEP(pthread_join(thread, NULL) == 0);
	return work.line;
}

static int get_without_faults(void *context)
{
	(void)context;
	STEP(buffers_get(&(struct buffers_request){ .size = 64 }));
	STEP(read_address(rendezvous_path(NULL, getpid())) ||
	     read_address(rendezvous_path(own_dir(), getpid())));
	return 0;
}

/*
 * Files that exist before the call.  The child makes them itself, since its PID is part of
 * their names.
 */
struct scenario {
	struct plan *plan;
	bool has_stale, has_dead;
	bool has_live;		/* by another implementation in this process */
};

static void leave_stale_file(void)
{
	size_t words[512] = { 0x1000 };

	make_dir(SHARED_DIR);
	write_file(rendezvous_path(NULL, getpid()), words, sizeof(words));
}

/* The locator lists a full buffer: the library waits a second for one that lists nothing. */
static void publish_as_another(void)
{
	size_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *bytes = (unsigned char *)page;
	const uint32_t size = 16;

	page[0] = (size_t)page;
	bytes[AT_COUNT] = 1;
	memcpy(bytes + AT_ITEMS + ITEM_BASE, &page, sizeof(page));
	memcpy(bytes + AT_ITEMS + ITEM_SIZE, &size, sizeof(size));
	memcpy(bytes + AT_ITEMS + ITEM_POSITION, &size, sizeof(size));
	make_dir(SHARED_DIR);
	write_file(rendezvous_path(NULL, getpid()), page, 4096);
}

static void leave_dead_files(void)
{
	make_dir(SHARED_DIR);
	for (pid_t pid = 0x7ffffff0; pid < 0x7ffffff4; pid++)
		write_file(rendezvous_path(NULL, pid), "", 1);
}

static int set_up_and_get(void *context)
{
	const struct scenario *scenario = context;

	if (scenario->has_stale)
		leave_stale_file();
	if (scenario->has_dead)
		leave_dead_files();
	if (scenario->has_live)
		publish_as_another();
	return get_with_faults(scenario->plan);
}

/* Tries each position in turn; on slow machines every seventh. */
static void try_all_positions(struct scenario scenario, int error, bool is_lasting)
{
	struct plan *plan = scenario.plan;
	bool until_exit = plan->until_exit;
	unsigned step = is_slow() ? 7 : 1;
	unsigned position = 1;

	do {
		*plan = (struct plan){ .position = position, .is_lasting = is_lasting,
				       .error = error, .until_exit = until_exit };
		run_child(set_up_and_get, &scenario);
		run_child(get_without_faults, NULL);
		position += step;
	} while (plan->failed);
	ck_assert_uint_gt(plan->position, 10);
}

static struct plan *shared_plan(void)
{
	void *plan = mmap(NULL, sizeof(struct plan), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(plan, MAP_FAILED);
	return plan;
}

#define NO_PRIVATE_TMP	"the kernel gives this user no private /tmp"

static const int errors[] = { EIO, EACCES, ENOSPC, EMFILE, ENOMEM, EINTR };
enum { ERRORS = sizeof(errors) / sizeof(errors[0]) };

/* One error in make check, which the seed chooses; all in make check-slow. */

START_TEST(get_succeeds_if_the_nth_file_system_call_fails)
{
	struct scenario scenario = { shared_plan(), _i & 1, _i & 2, _i == 4 };
	uint64_t random = seed_random();
	unsigned first = (unsigned)random_below(&random, ERRORS);

	SKIP_IF(!can_supervise(), NO_LISTENER);
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	for (unsigned i = 0; i < how_many(1, ERRORS); i++) {
		int error = errors[(first + i) % ERRORS];

		try_all_positions(scenario, error, false);
		if (error != EINTR)	/* no kernel interrupts every call */
			try_all_positions(scenario, error, true);
	}
}
END_TEST

START_TEST(get_and_exit_succeed_if_the_nth_file_system_call_fails)
{
	struct scenario scenario = { shared_plan(), .has_dead = true };

	SKIP_IF(!can_supervise(), NO_LISTENER);
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	SKIP_IF(is_coverage(), "gcov writes its counts at exit");
	scenario.plan->until_exit = true;
	try_all_positions(scenario, EIO, false);
	scenario.plan->until_exit = true;
	try_all_positions(scenario, EACCES, true);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rendezvous/faults");
	TCase *all = tcase_create("faults");

	if (is_asan() || is_tsan())
		skip_all("the sanitizer's runtime makes file-system calls");
	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_loop_test(all, get_succeeds_if_the_nth_file_system_call_fails, 0, 5);
	tcase_add_test(all, get_and_exit_succeed_if_the_nth_file_system_call_fails);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
