/* SPDX-License-Identifier: MIT */
/* rendezvous/secure.c: set-uid programs ignore files in /tmp and environment variables */

#include "config.h"
#include "support/forged-files.h"
#include "support/sandbox.h"
#include "rendezvous/secure-helper.h"
#include "support/support.h"

#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define HELPER "/tmp/bin/helper"

enum { OWNER = 1000, CALLER = 1001 };

/* The helper is linked statically with the library, so that one file is all to install. */
static void install_helper(uid_t owner, mode_t mode)
{
	static unsigned char bytes[1 << 16];
	int in = open("tests/rendezvous/secure-helper", O_RDONLY | O_CLOEXEC);
	int out;
	ssize_t got;

	ck_assert_msg(in >= 0, "tests/rendezvous/secure-helper is missing");
	ck_assert_int_eq(mkdir("/tmp/bin", 0700), 0);
	ck_assert_int_eq(chmod("/tmp/bin", 0755), 0);	/* regardless of the umask */
	out = open(HELPER, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	ck_assert_int_ge(out, 0);
	while ((got = read(in, bytes, sizeof(bytes))) > 0)
		ck_assert_int_eq(write(out, bytes, (size_t)got), got);
	close(in);
	close(out);
	ck_assert_int_eq(chown(HELPER, owner, owner), 0);
	ck_assert_int_eq(chmod(HELPER, mode), 0);
}

static void set_variables(void)
{
	static const char *const names[] = {
		"TMPDIR", "TMP", "TEMP", "TEMPDIR", "HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME",
		"DOTNET_BUNDLE_EXTRACT_BASE_DIR", "RELOADED_BUFFERS_DIR",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		setenv(names[i], "/tmp/elsewhere", 1);
}

/* Runs the helper as an ordinary user.  Returns its exit status, or -1 if a signal killed it. */
static int run_helper(uid_t user, const char *argument)
{
	int status;
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		if (setgroups(0, NULL) != 0 || setresgid(user, user, user) != 0 ||
		    setresuid(user, user, user) != 0)
			_exit(127);
		set_variables();
		execl(HELPER, HELPER, argument, (char *)NULL);
		_exit(127);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool prepare_or_skip(uid_t owner, mode_t mode)
{
	if (is_tsan()) {
		printf("skipped: TSan's runtime creates files in TMPDIR\n");
		return false;
	}
	if (geteuid() != 0) {
		printf("skipped: only root can create set-uid programs of other users\n");
		return false;
	}
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) {
		printf("skipped: no_new_privs disables set-uid bits\n");
		return false;
	}
	if ((mode & (S_ISUID | S_ISGID)) && is_emulated()) {
		printf("skipped: the emulator ignores set-uid bits\n");
		return false;
	}
	if (!sandbox_tmp("mode=1777")) {
		printf("skipped: %s\n", NO_PRIVATE_TMP);
		return false;
	}
	ck_assert_int_eq(mkdir("/tmp/elsewhere", 0700), 0);
	ck_assert_int_eq(chmod("/tmp/elsewhere", 0777), 0);
	install_helper(owner, mode);
	return true;
}

START_TEST(ordinary_program_publishes_and_follows_files)
{
	if (!prepare_or_skip(OWNER, 0755))
		return;
	ck_assert_int_eq(run_helper(CALLER, NULL), HELPER_PUBLISHED);
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
	ck_assert_uint_eq(count_files("/tmp/elsewhere"), 0);
	ck_assert_int_eq(run_helper(CALLER, "forge"), HELPER_FOLLOWED);
}
END_TEST

static void assert_files_are_ignored(uid_t owner, mode_t mode)
{
	char *before;

	if (!prepare_or_skip(owner, mode))
		return;
	before = list_tree("/tmp", NULL);
	ck_assert_int_eq(run_helper(CALLER, NULL), HELPER_IS_SECURE);
	ck_assert(are_trees_equal(before, list_tree("/tmp", NULL)));
	ck_assert_int_eq(run_helper(CALLER, "forge"), HELPER_IS_SECURE);
}

START_TEST(set_uid_program_neither_publishes_nor_follows)
{
	assert_files_are_ignored(OWNER, 04755);
}
END_TEST

START_TEST(set_uid_root_program_neither_publishes_nor_follows)
{
	assert_files_are_ignored(0, 04755);
}
END_TEST

START_TEST(set_gid_program_neither_publishes_nor_follows)
{
	assert_files_are_ignored(OWNER, 02755);
}
END_TEST

/* A set-uid program does not clean up, although stale files of its user exist. */
START_TEST(set_uid_program_opens_no_file)
{
	char events[4096];
	char *before;
	int watch;

	if (!prepare_or_skip(0, 04755))
		return;
	make_dir(SHARED_DIR);
	make_dir(own_dir());
	write_rendezvous_file(rendezvous_path(NULL, 4194304), 8);
	write_rendezvous_file(rendezvous_path(own_dir(), 4194304), 8);
	before = list_tree("/tmp", NULL);
	watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	ck_assert_int_ge(watch, 0);
	ck_assert_int_ge(inotify_add_watch(watch, "/tmp/.reloaded", IN_ALL_EVENTS), 0);
	ck_assert_int_ge(inotify_add_watch(watch, SHARED_DIR, IN_ALL_EVENTS), 0);
	ck_assert_int_ge(inotify_add_watch(watch, own_dir(), IN_ALL_EVENTS), 0);
	/* The helper's own checks call only lstat(), for which inotify reports no event. */
	ck_assert_int_eq(run_helper(CALLER, NULL), HELPER_IS_SECURE);
	ck_assert_int_le(read(watch, events, sizeof(events)), 0);
	close(watch);
	ck_assert(are_trees_equal(before, list_tree("/tmp", NULL)));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rendezvous/secure");
	TCase *all = tcase_create("secure");

	tcase_set_tags(all, "fork");
	tcase_add_test(all, ordinary_program_publishes_and_follows_files);
	tcase_add_test(all, set_uid_program_neither_publishes_nor_follows);
	tcase_add_test(all, set_uid_root_program_neither_publishes_nor_follows);
	tcase_add_test(all, set_gid_program_neither_publishes_nor_follows);
	tcase_add_test(all, set_uid_program_opens_no_file);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
