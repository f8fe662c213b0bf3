/* SPDX-License-Identifier: MIT */
/* scenes.c: policies and missing features, each alone and combined */

#include "config.h"
#include "support/restrict.h"
#include "support/scenes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Policies, which forbid system calls
 */

static bool forbid_nothing(void)
{
	return true;
}

static bool forbid_by_filter(void)
{
	return refuse_rwx(EPERM);
}

static bool forbid_as_systemd(void)
{
	return refuse_new_exec(EPERM);
}

static bool forbid_by_both(void)
{
	return refuse_exec_gain() && refuse_rwx(EACCES);
}

static bool forbid_all(void)
{
	return refuse_exec_gain() && refuse_new_exec(EACCES);
}

const struct policy policies[POLICIES] = {
	{ "no policy", forbid_nothing, false, false },
	{ "PR_SET_MDWE", refuse_exec_gain, true, true },
	{ "a filter of W+X", forbid_by_filter, true, false },
	{ "MemoryDenyWriteExecute=", forbid_as_systemd, true, true },
	{ "PR_SET_MDWE and a filter of W+X", forbid_by_both, true, true },
	{ "PR_SET_MDWE and MemoryDenyWriteExecute=", forbid_all, true, true },
};

/*
 * Features that a system may lack
 */

static bool lack_nothing(void)
{
	return true;
}

static struct rlimit descriptors, file_size;

/* Does not assert as set_limit() does: Check writes to a file, which these limits prevent. */
static bool lower_limit(unsigned resource, struct rlimit *before)
{
	struct rlimit limit;

	if (getrlimit(resource, before) != 0)
		return false;
	limit = *before;
	limit.rlim_cur = 0;
	return setrlimit(resource, &limit) == 0;
}

static bool lack_descriptors(void)
{
	return lower_limit(RLIMIT_NOFILE, &descriptors);
}

static bool lack_file_size(void)
{
	return lower_limit(RLIMIT_FSIZE, &file_size);
}

static bool lack_memfd(void)
{
	return refuse_call(SYS_memfd_create, ENOSYS);
}

static bool lack_executable_memfd(void)
{
	return refuse_call(SYS_memfd_create, EACCES);
}

static bool lack_proc_and_memfd(void)
{
	return hide_proc() && lack_memfd();
}

static bool lack_proc_and_descriptors(void)
{
	return hide_proc() && lack_descriptors();
}

static bool lack_proc_and_file_size(void)
{
	return hide_proc() && lack_file_size();
}

/* The files in /proc/self then belong to root. */
static bool lack_own_proc(void)
{
	return prctl(PR_SET_DUMPABLE, 0) == 0;
}

static bool lack_reading(void)
{
	return refuse_call(SYS_process_vm_readv, ENOSYS);
}

/* Linux before 6.11 lacks PROCMAP_QUERY, too. */
static bool lack_queries(void)
{
	return refuse_call(SYS_ioctl, ENOTTY);
}

static bool lack_moving(void)
{
	return refuse_call(SYS_mremap, EPERM);
}

/* Gives the error of a kernel that forbids such writes (proc_mem.force_override=). */
static bool lack_writing(void)
{
	return refuse_call(SYS_pwrite64, EIO) && refuse_call(SYS_pwritev, EIO) &&
	       refuse_call(SYS_pwritev2, EIO);
}

/* Fails if the user namespace maps no ID to this user. */
static bool make_fake_directories(void)
{
	if (!hide_proc())
		return false;
	if (mkdir("/proc/self", 0755) == 0 && mkdir("/proc/thread-self", 0755) == 0)
		return true;
	printf("skipped: %s: %s\n", __func__, strerror(errno));
	return false;
}

/* Writes to these regular files succeed, but change no memory. */
static bool have_fake_files(void)
{
	return make_fake_directories() && mknod("/proc/self/mem", S_IFREG | 0666, 0) == 0 &&
	       mknod("/proc/thread-self/mem", S_IFREG | 0666, 0) == 0;
}

static bool have_links_to_nothing(void)
{
	return make_fake_directories() && symlink("/dev/null", "/proc/self/mem") == 0 &&
	       symlink("/dev/null", "/proc/thread-self/mem") == 0;
}

const struct lack lacks[LACKS] = {
	{ "nothing", lack_nothing, WORKS, false },
	{ "/proc", hide_proc, WORKS, true },
	{ "descriptors", lack_descriptors, MAY_FAIL, false },
	{ "file size", lack_file_size, WORKS, false },
	{ "memfd_create()", lack_memfd, WORKS, false },
	{ "/proc and memfd_create()", lack_proc_and_memfd, IS_CLOSED, true },
	{ "/proc and descriptors", lack_proc_and_descriptors, MAY_FAIL, true },
	{ "/proc and file size", lack_proc_and_file_size, MAY_FAIL, true },
	{ "access to /proc/self", lack_own_proc, WORKS, false },
	{ "process_vm_readv()", lack_reading, WORKS, false },
	{ "PROCMAP_QUERY", lack_queries, WORKS, false },
	{ "mremap()", lack_moving, MAY_FAIL, false },
	{ "pwrite()", lack_writing, MAY_FAIL, false },
	{ "a genuine /proc", have_fake_files, MAY_FAIL, true },
	{ "a genuine /proc/self/mem", have_links_to_nothing, MAY_FAIL, true },
	{ "executable files (vm.memfd_noexec)", lack_executable_memfd, WORKS, false },
};

bool impose_scene(int number)
{
	if (!lacks[number / POLICIES].impose())
		return false;
	if (policies[number % POLICIES].impose())
		return true;
	printf("skipped: %s\n", policies[number % POLICIES].name);
	return false;
}

bool raise_limits(void)
{
	return (!descriptors.rlim_cur || setrlimit(RLIMIT_NOFILE, &descriptors) == 0) &&
	       (!file_size.rlim_cur || setrlimit(RLIMIT_FSIZE, &file_size) == 0);
}

struct play {
	int (*body)(int number);
	int number;
};

static int play_and_raise_limits(void *context)
{
	const struct play *play = context;
	int line = play->body(play->number);

	STEP(raise_limits());
	return line;
}

void run_scene(int (*body)(int number), int number)
{
	run_child(play_and_raise_limits, &(struct play){ body, number });
}
