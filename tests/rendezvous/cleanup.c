/* SPDX-License-Identifier: MIT */
/* rendezvous/cleanup.c: a process that publishes its file removes files of dead processes */

#include "config.h"
#include "support/reexec.h"
#include "support/publish.h"
#include "reloaded/buffers.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOT_ROOT_OF_PIDS "only root can create PID namespaces"

static bool is_sandboxed;

static void setup(void)
{
	is_sandboxed = sandbox_tmp(NULL);
}

/*
 * Files of processes that ended without exit handlers
 */

static void publish_and_end(int signal_number)
{
	set_limit(RLIMIT_CORE, 0);
	signal(signal_number, SIG_DFL);
	if (publish_file(NULL) == 0 && signal_number)
		kill(getpid(), signal_number);
	_exit(0);
}

static pid_t make_orphaned_file(int signal_number)
{
	pid_t child = fork();
	int status;

	if (child == 0)
		publish_and_end(signal_number);
	ck_assert_int_gt(child, 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(WIFSIGNALED(status) ? WTERMSIG(status) : 0, signal_number);
	return child;
}

START_TEST(file_of_a_dead_process_is_removed_by_the_next)
{
	static const int signals[] = { 0, SIGKILL, SIGTERM, SIGABRT, SIGSEGV };
	pid_t dead;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	dead = make_orphaned_file(signals[_i]);
	ck_assert(path_exists(rendezvous_path(NULL, dead)));
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	run_child(publish_file, NULL);
	assert_no_files_left();
}
END_TEST

static const char *path_of(const char *format, const char *name, unsigned pid)
{
	static char path[300];
	char file[200];

	snprintf(file, sizeof(file), format, name, pid);
	snprintf(path, sizeof(path), "%s/%s", SHARED_DIR, file);
	return path;
}

START_TEST(temporary_file_of_a_dead_process_is_removed_by_the_next)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	make_dir(SHARED_DIR);
	write_old_file(path_of("%s%u.0123456789abcdef", RENDEZVOUS_NAME, UNUSED_PID));
	write_old_file(path_of("%s%u.ffffffffffffffff", RENDEZVOUS_NAME, UNUSED_PID));
	write_file(path_of("%s%u.0000000000000000", RENDEZVOUS_NAME, UNUSED_PID + 1), "", 0);
	make_old(path_of("%s%u.0000000000000000", RENDEZVOUS_NAME, UNUSED_PID + 1));
	run_child(publish_file, NULL);
	assert_no_files_left();
}
END_TEST

/*
 * Files that stay
 */

/* Starts enough processes to remove every file that the library removes. */
static void publish_repeatedly(void)
{
	for (unsigned i = 0; i < 5; i++)
		run_child(publish_file, NULL);
}

static const struct {
	const char *format;
	unsigned pid;
} other_names[] = {
	{ "Another.Memory.Buffers.MemoryBuffer, PID %.0s%u", UNUSED_PID },
	{ "x%s%u", UNUSED_PID },
	{ " %s%u", UNUSED_PID },
	{ "%s", 0 },
	{ "%s%ux", UNUSED_PID },
	{ "%s%u ", UNUSED_PID },
	{ "%s%u\n", UNUSED_PID },
	{ "%s %u", UNUSED_PID },
	{ "%s+%u", UNUSED_PID },
	{ "%s-%u", UNUSED_PID },
	{ "%s-5", 0 },
	{ "%s-1", 0 },
	{ "%s0", 0 },
	{ "%s0%u", UNUSED_PID },
	{ "%s000%u", UNUSED_PID },
	{ "%s0x%x", UNUSED_PID },
	{ "%s99999999999", 0 },
	{ "%s2147483648", 0 },
	{ "%s4294967295", 0 },
	{ "%s4294967296%u", UNUSED_PID },
	{ "%s18446744073713745920", 0 },	/* 2^64 + UNUSED_PID */
	{ "%s4299161600", 0 },			/* 2^32 + UNUSED_PID */
	{ "%s%u.", UNUSED_PID },
	{ "%s%u.0123456789abcde", UNUSED_PID },
	{ "%s%u.0123456789abcdef0", UNUSED_PID },
	{ "%s%u.0123456789abcdeg", UNUSED_PID },
	{ "%s%u.0123456789abcde ", UNUSED_PID },
	{ "%s%u.0123456789abcdef.", UNUSED_PID },
	{ "%s%u,0123456789abcdef", UNUSED_PID },
	{ "%s%u.tmp", UNUSED_PID },
	{ "%s0.0123456789abcdef", 0 },
	{ "%s.0123456789abcdef", 0 },
};

enum { OTHER_NAMES = sizeof(other_names) / sizeof(other_names[0]) };

static const char *other_path(size_t i)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	return path_of(other_names[i].format, RENDEZVOUS_NAME, other_names[i].pid);
#pragma GCC diagnostic pop
}

START_TEST(files_with_unrelated_names_stay)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	make_dir(SHARED_DIR);
	for (size_t i = 0; i < OTHER_NAMES; i++)
		write_old_file(other_path(i));
	ck_assert_uint_eq(count_files(SHARED_DIR), OTHER_NAMES);
	write_old_file(rendezvous_path(NULL, UNUSED_PID));
	publish_repeatedly();
	ck_assert(!path_exists(rendezvous_path(NULL, UNUSED_PID)));
	for (size_t i = 0; i < OTHER_NAMES; i++)
		ck_assert_msg(path_exists(other_path(i)), "the library removed %s", other_path(i));
}
END_TEST

static void make_untrusted_files(const char *suffix)
{
	char path[6][200];

	for (int i = 0; i < 6; i++)
		snprintf(path[i], sizeof(path[i]), "%s%s", rendezvous_path(NULL, UNUSED_PID + i),
			 suffix);
	write_old_file("/tmp/elsewhere");
	ck_assert_int_eq(mkdir(path[0], 0700), 0);
	ck_assert_int_eq(symlink("/tmp/elsewhere", path[1]), 0);
	ck_assert_int_eq(symlink("/tmp/missing", path[2]), 0);
	ck_assert_int_eq(mkfifo(path[3], 0600), 0);
	write_old_file(path[4]);
	ck_assert_int_eq(chmod(path[4], 0660), 0);
	write_old_file(path[5]);
	ck_assert_int_eq(chmod(path[5], 0602), 0);
}

START_TEST(untrusted_or_special_file_stays)
{
	const char *suffix = _i ? ".0123456789abcdef" : "";

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	make_dir(SHARED_DIR);
	make_untrusted_files(suffix);
	write_old_file(rendezvous_path(NULL, UNUSED_PID + 6));
	publish_repeatedly();
	ck_assert(!path_exists(rendezvous_path(NULL, UNUSED_PID + 6)));
	ck_assert_uint_eq(count_files(SHARED_DIR), 6);
	ck_assert(path_exists("/tmp/elsewhere"));
}
END_TEST

static int publish_beside_live_processes(void *context)
{
	pid_t living[] = { 1, getppid(), getpid() };
	char path[3][200];

	(void)context;
	for (size_t i = 0; i < 3; i++) {
		snprintf(path[i], sizeof(path[i]), "%s.0123456789abcdef",
			 rendezvous_path(NULL, living[i]));
		write_old_file(path[i]);
		write_old_file(rendezvous_path(NULL, living[i]));
	}
	publish_repeatedly();
	for (size_t i = 0; i < 3; i++) {
		STEP(path_exists(rendezvous_path(NULL, living[i])));
		STEP(path_exists(path[i]));
	}
	return 0;
}

START_TEST(files_of_live_processes_stay)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	make_dir(SHARED_DIR);
	run_child(publish_beside_live_processes, NULL);
}
END_TEST

static void write_file_of_user(const char *path, uid_t user)
{
	write_old_file(path);
	ck_assert_int_eq(chown(path, user, (gid_t)-1), 0);
}

START_TEST(files_of_other_users_stay)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(geteuid() != 0, NOT_ROOT);
	make_dir(SHARED_DIR);
	write_file_of_user(rendezvous_path(NULL, UNUSED_PID), NOBODY_UID);
	write_file_of_user(path_of("%s%u.0123456789abcdef", RENDEZVOUS_NAME, UNUSED_PID),
			   NOBODY_UID);
	write_old_file(rendezvous_path(NULL, UNUSED_PID + 1));
	publish_repeatedly();
	ck_assert(!path_exists(rendezvous_path(NULL, UNUSED_PID + 1)));
	ck_assert_uint_eq(count_files(SHARED_DIR), 2);
}
END_TEST

static int publish_as_nobody(void *context)
{
	STEP(setresgid(NOBODY_UID, NOBODY_UID, NOBODY_UID) == 0);
	STEP(setresuid(NOBODY_UID, NOBODY_UID, NOBODY_UID) == 0);
	return publish_file(context);
}

START_TEST(files_of_root_in_a_directory_of_the_user_stay)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(geteuid() != 0, NOT_ROOT);
	make_dir(SHARED_DIR);
	ck_assert_int_eq(chown("/tmp/.reloaded", NOBODY_UID, NOBODY_UID), 0);
	ck_assert_int_eq(chown(SHARED_DIR, NOBODY_UID, NOBODY_UID), 0);
	write_old_file(rendezvous_path(NULL, UNUSED_PID));
	write_old_file(path_of("%s%u.0123456789abcdef", RENDEZVOUS_NAME, UNUSED_PID));
	write_file_of_user(rendezvous_path(NULL, UNUSED_PID + 1), NOBODY_UID);
	for (unsigned i = 0; i < 5; i++)
		run_child(publish_as_nobody, NULL);
	ck_assert(!path_exists(rendezvous_path(NULL, UNUSED_PID + 1)));
	ck_assert_uint_eq(count_files(SHARED_DIR), 2);
}
END_TEST

/*
 * PID namespaces that share /tmp but number processes separately
 */

static bool enter_pid_namespace(void)
{
	return syscall(SYS_unshare, 0x20000000 /* CLONE_NEWPID */) == 0;
}

static int publish_many_times(void *context)
{
	publish_repeatedly();
	return publish_file(context);
}

static int publish_in_pid_namespace(void *context)
{
	STEP(enter_pid_namespace());
	run_child(publish_many_times, context);
	return 0;
}

START_TEST(files_of_live_processes_outside_the_pid_namespace_stay)
{
	struct buffers_item *item;
	const char *path;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(geteuid() != 0, NOT_ROOT_OF_PIDS);
	item = use_buffer();
	path = rendezvous_path(NULL, getpid());
	ck_assert(is_named_in(path, item));
	run_child(publish_in_pid_namespace, NULL);
	ck_assert(is_named_in(path, item));
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
}
END_TEST

struct insider {
	int pid;	/* its number in the namespace; unused outside */
	int is_ready[2], is_done[2];
};

static int publish_and_wait(void *context)
{
	struct insider *insider = context;
	struct buffers_item *item = use_buffer();
	char byte = 0;

	STEP(getpid() == insider->pid);
	STEP(is_named_in(rendezvous_path(NULL, getpid()), item));
	STEP(write(insider->is_ready[1], &byte, 1) == 1);
	STEP(read(insider->is_done[0], &byte, 1) == 0);
	STEP(is_named_in(rendezvous_path(NULL, getpid()), item));
	return 0;
}

/* Runs as PID 1 of the namespace, and makes the kernel give the next child this PID. */
static int lead_insider(void *context)
{
	struct insider *insider = context;
	FILE *file;

	close(insider->is_done[1]);
	file = fopen("/proc/sys/kernel/ns_last_pid", "we");
	STEP(file && fprintf(file, "%d", insider->pid - 1) > 0 && fclose(file) == 0);
	run_child(publish_and_wait, insider);
	return 0;
}

static int live_in_pid_namespace(void *context)
{
	struct insider *insider = context;
	struct child leader;

	STEP(enter_pid_namespace());
	leader = start_child(lead_insider, context);
	close(insider->is_ready[1]);
	close(insider->is_done[1]);
	finish_child(leader);
	return 0;
}

static int find_unused_pid(void)
{
	int pid = 20000;

	while (kill(pid, 0) == 0 || errno != ESRCH)
		pid++;
	return pid;
}

START_TEST(files_of_live_processes_in_another_pid_namespace_stay)
{
	struct insider insider = { .pid = find_unused_pid() };
	struct child child;
	char byte;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(geteuid() != 0, NOT_ROOT_OF_PIDS);
	SKIP_IF(access("/proc/sys/kernel/ns_last_pid", W_OK) != 0,
		"the kernel does not let this user choose PIDs");
	ck_assert_int_eq(pipe(insider.is_ready), 0);
	ck_assert_int_eq(pipe(insider.is_done), 0);
	child = start_child(live_in_pid_namespace, &insider);
	close(insider.is_ready[1]);
	ck_assert_int_eq(read(insider.is_ready[0], &byte, 1), 1);
	publish_repeatedly();
	ck_assert(path_exists(rendezvous_path(NULL, insider.pid)));
	close(insider.is_done[1]);
	finish_child(child);
	assert_no_files_left();
}
END_TEST

/*
 * Thousands of stale files
 */

static const struct buffers_request request = { .size = 16 };

enum { STARTS = 30 };
#define STALE how_many(5000, 5000)

static void make_stale_files(void)
{
	make_dir(SHARED_DIR);
	for (int i = 0; i < (int)STALE; i++)
		if (!path_exists(rendezvous_path(NULL, UNUSED_PID + i)))
			write_old_file(rendezvous_path(NULL, UNUSED_PID + i));
}

START_TEST(repeated_starts_remove_5000_stale_files_step_by_step)
{
	unsigned before, after;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	make_stale_files();
	for (before = STALE; before > 0; before = after) {
		run_child(publish_file, NULL);
		after = count_files(SHARED_DIR);
		ck_assert_uint_lt(after, before);
		ck_assert_uint_le(before - after, 16);
	}
}
END_TEST

/* One process in four cleans up at its start: without it, none of these would. */
START_TEST(processes_that_are_always_killed_leave_few_files)
{
	unsigned most = 0, count;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	for (unsigned i = 0; i < 200; i++) {
		make_orphaned_file(0);
		count = count_files(SHARED_DIR);
		most = count > most ? count : most;
	}
	printf("200 processes left at most %u files\n", most);
	ck_assert_uint_lt(most, 120);	/* by chance once in 10^15 */
}
END_TEST

/* Files that stay must not keep the library from finding the stale files behind them. */
START_TEST(stale_files_among_many_that_stay_are_removed_in_time)
{
	enum { MANY = 600, FEW = 10 };
	unsigned starts = 0;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	make_dir(SHARED_DIR);
	for (unsigned i = 0; i < MANY; i++)
		write_old_file(path_of("x%s%u", RENDEZVOUS_NAME, i));
	for (int i = 0; i < FEW; i++)
		write_old_file(rendezvous_path(NULL, UNUSED_PID + i));
	for (unsigned i = MANY; i < 2 * MANY; i++)
		write_old_file(path_of("x%s%u", RENDEZVOUS_NAME, i));
	while (count_files(SHARED_DIR) > 2 * MANY && starts++ < 300)
		run_child(publish_file, NULL);
	ck_assert_uint_eq(count_files(SHARED_DIR), 2 * MANY);
	printf("%d stale files among %d others: removed after %u starts\n", FEW, 2 * MANY, starts);
}
END_TEST

/*
 * Files that this process may remove among files of other PID namespaces
 */

enum { AT_PID_NAMESPACE = 64 };	/* in a file of this library */

static void read_own_file(char bytes[4096])
{
	FILE *file = fopen(rendezvous_path(NULL, make_orphaned_file(0)), "re");

	ck_assert(file && fread(bytes, 1, 4096, file) == 4096);
	fclose(file);
}

/* As a container that shares /tmp leaves them when it is killed, with their second links. */
static void make_files_from(int first, int count)
{
	char bytes[4096], name[120], second[300];
	uint64_t number;

	read_own_file(bytes);
	memcpy(&number, bytes + AT_PID_NAMESPACE, sizeof(number));
	number++;
	memcpy(bytes + AT_PID_NAMESPACE, &number, sizeof(number));
	for (int i = 0; i < count; i++) {
		const char *path = rendezvous_path(NULL, first + i);

		write_file(path, bytes, sizeof(bytes));
		snprintf(name, sizeof(name), "%s, %llu", strrchr(path, '/'),
			 (unsigned long long)number);
		snprintf(second, sizeof(second), "%s%s", SHARED_INDEX, name);
		ck_assert_int_eq(link(path, second), 0);
	}
}

static void make_files_of_other_namespaces(int count)
{
	make_files_from(UNUSED_PID, count);
}

/* The names in the index without the positions. */
static unsigned count_links(void)
{
	return count_files(SHARED_INDEX) - path_exists(SHARED_INDEX "/positions");
}

static unsigned count_starts_until(unsigned files, unsigned most)
{
	unsigned starts = 0;

	while (count_files(SHARED_DIR) > files && starts++ < most)
		run_child(publish_file, NULL);
	ck_assert_uint_eq(count_files(SHARED_DIR), files);
	return starts;
}

/* Each start examines 64 names in the index and removes up to 16 files. */
START_TEST(files_of_other_namespaces_do_not_hide_own_stale_files)
{
	enum { MANY = 3000, OWN = 40 };
	unsigned starts;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(access("/proc/self/ns/pid", F_OK) != 0, "/proc does not name the namespace");
	make_dir(SHARED_DIR);
	for (int i = 0; i < OWN; i++)
		make_orphaned_file(0);
	make_files_of_other_namespaces(MANY);
	for (int i = 0; i < OWN; i++)
		make_orphaned_file(0);
	/* before Linux 6.6, new files move the positions of others in a directory of tmpfs */
	starts = count_starts_until(MANY, 4 * ((MANY + 2 * OWN) / 64 + 2 * OWN / 16 + 2));
	ck_assert_uint_eq(count_links(), MANY);
	printf("%d stale files among %d of another namespace: removed after %u starts\n", 2 * OWN,
	       MANY, starts);
}
END_TEST

/* Each start examines two files whose namespace it cannot tell by their names. */
START_TEST(files_of_other_namespaces_do_not_hide_other_stale_files)
{
	enum { MANY = 300, FEW = 5 };
	unsigned starts;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(access("/proc/self/ns/pid", F_OK) != 0, "/proc does not name the namespace");
	make_dir(SHARED_DIR);
	for (int i = 0; i < FEW; i++)
		write_old_file(rendezvous_path(NULL, UNUSED_PID + MANY + 100 + i));
	make_files_of_other_namespaces(MANY);
	for (int i = 0; i < FEW; i++)
		write_old_file(rendezvous_path(NULL, UNUSED_PID + MANY + i));
	starts = count_starts_until(MANY, (MANY + 2 * FEW) / 2 + 2);
	printf("%d stale files among %d of another namespace: removed after %u starts\n", 2 * FEW,
	       MANY, starts);
}
END_TEST

/* A file and its second link are one file, so both have this time. */
static void make_older_than_ten_days(int count)
{
	struct timespec times[2];

	ck_assert_int_eq(clock_gettime(CLOCK_REALTIME, &times[0]), 0);
	times[0].tv_sec -= 11 * 86400;
	times[1] = times[0];
	for (int i = 0; i < count; i++)
		ck_assert_int_eq(utimensat(AT_FDCWD, rendezvous_path(NULL, UNUSED_PID + i), times, 0),
				 0);
}

START_TEST(old_files_of_other_namespaces_are_removed)
{
	enum { MANY = 100, MOST_STARTS = 500 };
	unsigned starts = 0;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(access("/proc/self/ns/pid", F_OK) != 0, "/proc does not name the namespace");
	make_files_of_other_namespaces(MANY);
	make_older_than_ten_days(MANY);
	while (count_files(SHARED_DIR) + count_links() && starts++ < MOST_STARTS)
		run_child(publish_file, NULL);
	assert_no_files_left();
	printf("%d old files of another namespace: removed after %u starts\n", MANY, starts);
}
END_TEST

/* The file was removed by another implementation, or its creator was killed before it had one. */
START_TEST(second_link_of_a_dead_process_is_removed)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(access("/proc/self/ns/pid", F_OK) != 0, "/proc does not name the namespace");
	ck_assert_int_eq(unlink(rendezvous_path(NULL, make_orphaned_file(0))), 0);
	ck_assert_uint_eq(count_links(), 1);
	for (unsigned i = 0; i < 500 && count_links(); i++)
		run_child(publish_file, NULL);
	assert_no_files_left();
}
END_TEST

static int publish_as_pid_1(void *context)
{
	STEP(enter_pid_namespace());
	run_child(publish_file, context);
	return 0;
}

/* As in a container, whose process has the same number at each start. */
START_TEST(second_link_is_removed_by_processes_of_one_number)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(geteuid() != 0, NOT_ROOT_OF_PIDS);
	SKIP_IF(access("/proc/self/ns/pid", F_OK) != 0, "/proc does not name the namespace");
	make_files_of_other_namespaces(1);
	make_older_than_ten_days(1);
	ck_assert_int_eq(unlink(rendezvous_path(NULL, UNUSED_PID)), 0);
	run_child(publish_file, NULL);		/* removes the file that was the model */
	for (unsigned i = 0; i < 500 && count_links(); i++)
		run_child(publish_as_pid_1, NULL);
	assert_no_files_left();
}
END_TEST

/* Its process was killed in another container, and the other directory cannot be used. */
START_TEST(second_link_of_a_replaced_file_is_removed)
{
	char path[60];

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(geteuid() != 0, NOT_ROOT_OF_PIDS);
	SKIP_IF(access("/proc/self/ns/pid", F_OK) != 0, "/proc does not name the namespace");
	make_files_from(1, 1);
	run_child(publish_file, NULL);		/* removes the file that was the model */
	ck_assert_uint_eq(count_links(), 1);
	snprintf(path, sizeof(path), "/tmp/.reloaded-%u", (unsigned)geteuid());
	write_file(path, "", 0);
	run_child(publish_as_pid_1, NULL);
	assert_no_files_left();
	ck_assert_int_eq(unlink(path), 0);
}
END_TEST

static int measure_first_get(int output)
{
	struct timespec start, end;
	struct buffers_item *item;
	double microseconds;

	clock_gettime(CLOCK_MONOTONIC, &start);
	item = buffers_get(&request);
	clock_gettime(CLOCK_MONOTONIC, &end);
	STEP(is_named_in(rendezvous_path(NULL, getpid()), item));
	microseconds = (double)(end.tv_sec - start.tv_sec) * 1e6 +
		       (double)(end.tv_nsec - start.tv_nsec) / 1e3;
	STEP(write(output, &microseconds, sizeof(microseconds)) == sizeof(microseconds));
	return 0;
}

static int compare_values(const void *a, const void *b)
{
	double one = *(const double *)a;
	double two = *(const double *)b;

	return (one > two) - (one < two);
}

static double median_of_first_gets(bool has_stale_files)
{
	double microseconds[STARTS];
	size_t starts = how_many(STARTS, STARTS);
	int ends[2];

	ck_assert_int_eq(pipe(ends), 0);
	for (size_t i = 0; i < starts; i++) {
		if (has_stale_files)
			make_stale_files();
		ck_assert(run_role("measure", ends[1]));
		ck_assert_int_eq(read(ends[0], &microseconds[i], sizeof(double)),
				 sizeof(double));
	}
	close(ends[0]);
	close(ends[1]);
	qsort(microseconds, starts, sizeof(double), compare_values);
	return microseconds[starts / 2];
}

/* Prints times only: no assertion depends on them. */
START_TEST(first_get_with_5000_stale_files_is_measured)
{
	double without, with;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	without = median_of_first_gets(false);
	with = median_of_first_gets(true);
	printf("first buffers_get(), median of %d: %.0f us; with %u stale files: %.0f us\n",
	       (int)how_many(STARTS, STARTS), without, STALE, with);
}
END_TEST

static const struct role roles[] = {
	{ "measure", measure_first_get },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	TCase *all = tcase_create("cleanup");
	Suite *suite;
	int status;

	if (run_own_role(roles, argc, argv, &status))
		return status;
	suite = suite_create("rendezvous/cleanup");
	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_checked_fixture(all, setup, NULL);
	tcase_add_loop_test(all, file_of_a_dead_process_is_removed_by_the_next, 0, 5);
	tcase_add_test(all, temporary_file_of_a_dead_process_is_removed_by_the_next);
	tcase_add_test(all, files_of_other_namespaces_do_not_hide_own_stale_files);
	tcase_add_test(all, files_of_other_namespaces_do_not_hide_other_stale_files);
	tcase_add_test(all, old_files_of_other_namespaces_are_removed);
	tcase_add_test(all, second_link_of_a_dead_process_is_removed);
	tcase_add_test(all, second_link_is_removed_by_processes_of_one_number);
	tcase_add_test(all, second_link_of_a_replaced_file_is_removed);
	tcase_add_test(all, files_with_unrelated_names_stay);
	tcase_add_loop_test(all, untrusted_or_special_file_stays, 0, 2);
	tcase_add_test(all, files_of_live_processes_stay);
	tcase_add_test(all, files_of_other_users_stay);
	tcase_add_test(all, files_of_root_in_a_directory_of_the_user_stay);
	tcase_add_test(all, files_of_live_processes_outside_the_pid_namespace_stay);
	tcase_add_test(all, files_of_live_processes_in_another_pid_namespace_stay);
	tcase_add_test(all, processes_that_are_always_killed_leave_few_files);
	tcase_add_test(all, stale_files_among_many_that_stay_are_removed_in_time);
	tcase_add_test(all, repeated_starts_remove_5000_stale_files_step_by_step);
	tcase_add_test(all, first_get_with_5000_stale_files_is_measured);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
