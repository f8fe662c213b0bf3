/* SPDX-License-Identifier: MIT */
/* rendezvous/descriptors.c: the program closes descriptors, sets a umask, or replaces /tmp */

#include "config.h"
#include "support/forged-files.h"
#include "support/restrict.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Sanitizers' runtimes leave memory below this address to the program. */
#define GIB_2 ((uintptr_t)1 << 31)

static void close_from(unsigned first)
{
	if (syscall(SYS_close_range, first, ~0u, 0) == 0)
		return;
	for (unsigned i = first; i < 1024; i++)
		close((int)i);
}

/*
 * The program closes all descriptors, the library's included
 */

static int close_between_calls(void *context)
{
	struct buffers_item *item = use_library();
	struct buffers_request request = { .size = 1 << 17, .max_address = GIB_2 };

	(void)context;
	STEP(item && is_published_in(NULL, item));
	for (unsigned i = 0; i < 100; i++) {
		int decoy;

		close_from(3);
		decoy = open("/tmp/decoy", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		STEP(decoy >= 0 && write(decoy, "x", 1) == 1);
		STEP(buffers_get(&request));	/* held: each call makes a new one */
		STEP(use_library());
		STEP(lseek(decoy, 0, SEEK_CUR) == 1 && lseek(decoy, 0, SEEK_END) == 1);
	}
	close_from(3);
	STEP(is_published_in(NULL, item));
	return 0;
}

START_TEST(closing_descriptors_between_calls_is_safe)
{
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	run_child(close_between_calls, NULL);
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
}
END_TEST

enum { THREADS = 3 };

struct calls {
	pthread_barrier_t start;
	unsigned running;
};

static void *get_often(void *context)
{
	struct calls *calls = context;
	void *failed = NULL;

	pthread_barrier_wait(&calls->start);
	for (unsigned i = 0; i < 20; i++) {
		struct buffers_request request = { .size = 1 << 17, .max_address = GIB_2 };
		struct buffers_item *item = buffers_get(&request);
		const char *copy = item ? buffers_append(item, "sixteen bytes...", 16) : NULL;

		if (!copy || memcmp(copy, "sixteen bytes...", 16) != 0)
			failed = calls;
	}
	__atomic_fetch_sub(&calls->running, 1, __ATOMIC_RELEASE);
	return failed;
}

static int close_during_calls(void *context)
{
	static struct calls calls;
	pthread_t threads[THREADS];
	bool has_failed = false;
	void *failed;

	(void)context;
	pthread_barrier_init(&calls.start, NULL, THREADS + 1);
	calls.running = THREADS;
	for (size_t i = 0; i < THREADS; i++)
		STEP(pthread_create(&threads[i], NULL, get_often, &calls) == 0);
	pthread_barrier_wait(&calls.start);
	do
		close_from(3);
	while (__atomic_load_n(&calls.running, __ATOMIC_ACQUIRE));
	for (size_t i = 0; i < THREADS; i++) {
		STEP(pthread_join(threads[i], &failed) == 0);
		has_failed |= failed != NULL;
	}
	STEP(!has_failed);
	STEP(count_descriptors() <= 3);
	return 0;
}

/* As before Linux 6.11: ioctl() fails, and the library reads the maps file, which takes longer. */
static int close_while_reading_maps(void *context)
{
	STEP(refuse_call(SYS_ioctl, ENOTTY));
	return close_during_calls(context);
}

static int publish_normally(void *context)
{
	struct buffers_item *item = use_library();

	(void)context;
	STEP(item);
	STEP(is_published_in(NULL, item));
	return 0;
}

START_TEST(closing_descriptors_during_calls_is_safe)
{
	unsigned count = how_many(50, 1000);
	bool can_refuse = can_filter();

	SKIP_IF(is_tsan() || is_asan(), "the sanitizer's runtime uses descriptors");
	SKIP_IF(is_emulated(), "the emulator uses descriptors");
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	for (unsigned i = 0; i < count; i++) {
		run_child(close_during_calls, NULL);
		if (can_refuse)
			run_child(close_while_reading_maps, NULL);
	}
	run_child(publish_normally, NULL);
}
END_TEST

/*
 * Standard input, output or error are closed before the first use
 */

static int use_without_standard_files(void *context)
{
	unsigned closed = *(unsigned *)context;
	struct buffers_item *item;

	while (open("/dev/null", O_RDWR | O_CLOEXEC) < 3)
		;
	for (int i = 0; i < 3; i++)
		if (closed & 1u << i)
			close(i);
	item = use_library();
	STEP(item && is_published_in(NULL, item));
	for (int i = 0; i < 3; i++) {
		if (closed & 1u << i)
			STEP(fcntl(i, F_GETFD) < 0);
		else
			STEP(fcntl(i, F_GETFD) >= 0);
	}
	return 0;
}

START_TEST(closed_standard_descriptors_stay_closed)
{
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	for (unsigned closed = 1; closed < 8; closed++)
		run_child(use_without_standard_files, &closed);
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
}
END_TEST

/*
 * Another thread writes to standard descriptors that are closed.  The library must not open its
 * files under these numbers, or the output would end up in them.
 */
static bool is_over;

struct output {
	unsigned closed;	/* a bit for each descriptor */
	unsigned written;
};

static void *print_often(void *context)
{
	struct output *output = context;

	while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED))
		for (int i = 1; i < 3; i++)
			if ((output->closed & 1u << i) && write(i, "an error message\n", 17) > 0)
				output->written++;
	return NULL;
}

static int print_without_standard_files(void *context)
{
	struct output output = { .closed = *(unsigned *)context };
	struct buffers_item *item;
	pthread_t thread;

	for (int i = 0; i < 3; i++)
		if (output.closed & 1u << i)
			close(i);
	STEP(pthread_create(&thread, NULL, print_often, &output) == 0);
	item = buffers_get(&(struct buffers_request){ .size = 1 });
	__atomic_store_n(&is_over, true, __ATOMIC_RELAXED);
	STEP(pthread_join(thread, NULL) == 0);
	STEP(item);
	STEP(output.written == 0);
	STEP(is_published_in(NULL, item));
	return 0;
}

/* The second time, the index cannot be used: the library writes its draft beside the files. */
START_TEST(output_of_the_program_does_not_reach_the_librarys_files)
{
	unsigned count = how_many(300, 3000);

	SKIP_IF(is_tsan() || is_asan(), "the sanitizer's runtime uses descriptors");
	SKIP_IF(is_emulated(), "emulators write a file when a program opens the maps file");
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	if (_i) {
		make_dir(SHARED_DIR);
		ck_assert_int_eq(chmod("/tmp/.reloaded/memory.buffers.index", 0777), 0);
	}
	for (unsigned i = 0; i < count; i++) {
		unsigned closed = 2 + i % 6;

		run_child(print_without_standard_files, &closed);
	}
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
}
END_TEST

/*
 * The file mode mask
 */

static bool has_mode(const char *path, mode_t mode)
{
	struct stat status;

	return lstat(path, &status) == 0 && status.st_mode == mode;
}

/*
 * With a umask that removes permissions of the owner, an ordinary user cannot open the
 * directory that the library just made.  The library must leave nothing behind then.
 */
static bool left_nothing(mode_t mask)
{
	struct stat status;

	return (mask & 0700) && lstat("/tmp/.reloaded", &status) != 0 &&
	       lstat(rendezvous_path(own_dir(), getpid()), &status) != 0;
}

static int publish_masked(void *mask)
{
	struct buffers_item *item;

	umask(*(mode_t *)mask);
	item = use_library();
	STEP(item);
	STEP(umask(022) == *(mode_t *)mask);
	if (left_nothing(*(mode_t *)mask)) {
		run_child(publish_normally, NULL);
		return 0;
	}
	STEP(is_published_in(NULL, item));
	STEP(has_mode("/tmp/.reloaded", S_IFDIR | 0700));
	STEP(has_mode(SHARED_DIR, S_IFDIR | 0700));
	run_child(publish_normally, NULL);
	return 0;
}

static int publish_masked_elsewhere(void *mask)
{
	struct buffers_item *item;
	char parent[80];

	write_file("/tmp/.reloaded", "x", 1);
	umask(*(mode_t *)mask);
	item = use_library();
	STEP(item);
	snprintf(parent, sizeof(parent), "/tmp/.reloaded-%u", geteuid());
	if ((*(mode_t *)mask & 0700) && access(parent, F_OK) != 0)
		return 0;
	STEP(is_published_in(own_dir(), item));
	STEP(has_mode(parent, S_IFDIR | 0700));
	STEP(has_mode(own_dir(), S_IFDIR | 0700));
	return 0;
}

START_TEST(umask_does_not_change_modes_of_published_files)
{
	static mode_t masks[] = { 0777, 0077, 0000, 0022, 0277, 0177, 0400 };

	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		run_child(publish_masked, &masks[i]);
		clear_directory("/tmp");
		run_child(publish_masked_elsewhere, &masks[i]);
		clear_directory("/tmp");
	}
}
END_TEST

/*
 * The program replaces /tmp after the first use
 */

/* Makes both directories anew, with files of this process's name that another program wrote. */
static void forge_files(void)
{
	make_dir(SHARED_DIR);
	make_dir(own_dir());
	write_rendezvous_file(rendezvous_path(NULL, getpid()), 12345);
	write_rendezvous_file(rendezvous_path(own_dir(), getpid()), 12345);
}

static int use_again(struct buffers_item *item)
{
	struct buffers_request large = { .size = 1 << 20, .max_address = GIB_2 };

	STEP(use_library() == item);
	STEP(buffers_get(&large));
	run_child(publish_normally, NULL);
	return 0;
}

static int outlive_removal(void *context)
{
	struct buffers_item *item = use_library();

	(void)context;
	STEP(item && is_published_in(NULL, item));
	clear_directory("/tmp");
	return use_again(item);
}

static int outlive_renaming(void *context)
{
	struct buffers_item *item = use_library();

	(void)context;
	STEP(item && is_published_in(NULL, item));
	STEP(rename("/tmp/.reloaded", "/tmp/moved") == 0);
	forge_files();
	return use_again(item);
}

static int outlive_replacement(void *context)
{
	struct buffers_item *item = use_library();

	(void)context;
	STEP(item && is_published_in(NULL, item));
	STEP(unlink(rendezvous_path(NULL, getpid())) == 0);
	forge_files();
	return use_again(item);
}

static int outlive_mounting(void *context)
{
	struct buffers_item *item = use_library();

	(void)context;
	STEP(item && is_published_in(NULL, item));
	STEP(mount_tmpfs("/tmp", NULL));
	forge_files();
	return use_again(item);
}

/* After the process ended: its own file is removed, the forged files (if any) are left. */
static void check_forged_files_left(bool are_left)
{
	ck_assert_uint_eq(count_files(SHARED_DIR), are_left);
	ck_assert_uint_eq(count_files(own_dir()), are_left);
	clear_directory("/tmp");
}

START_TEST(library_works_after_its_files_are_deleted)
{
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	run_child(outlive_removal, NULL);
	check_forged_files_left(false);
	run_child(outlive_renaming, NULL);
	check_forged_files_left(true);
	run_child(outlive_replacement, NULL);
	check_forged_files_left(true);
}
END_TEST

START_TEST(library_works_after_tmp_is_mounted_over)
{
	SKIP_IF(!enter_mount_namespace() || !mount_tmpfs("/tmp", NULL),
		"the kernel does not let this user mount");
	run_child(outlive_mounting, NULL);
	check_forged_files_left(true);
}
END_TEST

static int outlive_chroot(void *context)
{
	struct buffers_item *item = use_library();

	(void)context;
	STEP(item && is_published_in(NULL, item));
	STEP(mkdir("/tmp/root", 0755) == 0 && chroot("/tmp/root") == 0 && chdir("/") == 0);
	STEP(use_library() == item);
	STEP(mkdir("/tmp", 0777) == 0);
	forge_files();
	return use_again(item);
}

START_TEST(library_works_after_chroot)
{
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime reads /proc itself");
	SKIP_IF(!enter_mount_namespace() || !mount_tmpfs("/tmp", NULL),
		"the kernel does not let this user mount");
	run_child(outlive_chroot, NULL);
	ck_assert_uint_eq(count_files("/tmp/root" SHARED_DIR), 1);
	run_child(publish_normally, NULL);
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rendezvous/descriptors");
	TCase *all = tcase_create("descriptors");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_test(all, closing_descriptors_between_calls_is_safe);
	tcase_add_test(all, closing_descriptors_during_calls_is_safe);
	tcase_add_test(all, closed_standard_descriptors_stay_closed);
	tcase_add_loop_test(all, output_of_the_program_does_not_reach_the_librarys_files, 0, 2);
	tcase_add_test(all, umask_does_not_change_modes_of_published_files);
	tcase_add_test(all, library_works_after_its_files_are_deleted);
	tcase_add_test(all, library_works_after_tmp_is_mounted_over);
	tcase_add_test(all, library_works_after_chroot);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
