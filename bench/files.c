/* SPDX-License-Identifier: MIT */
/* files.c: makes rendezvous files of another PID namespace */

#include "config.h"
#include "bench.h"
#include "reloaded/buffers.h"
#include "support/sandbox.h"

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { UNUSED_PID = 4 << 20 };	/* Linux assigns no process id from here on */

void wait_for_child(pid_t child)
{
	int status;

	if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
		errx(1, "a child failed");
}

/* Leaves the rendezvous file of a process that was the first one of a PID namespace. */
static void publish_in_namespace(void)
{
	struct buffers_request request = { .size = 1 };
	pid_t child = fork();

	if (child == 0) {
		if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0)
			err(1, "CLONE_NEWPID");
		child = fork();
		if (child == 0)
			_exit(!buffers_get(&request));
		wait_for_child(child);
		_exit(0);
	}
	wait_for_child(child);
}

/* The end of the name of the file's second link, which names the namespace. */
static void read_suffix(char suffix[32])
{
	static const char file_name[] = RENDEZVOUS_NAME "1, ";
	DIR *index = opendir(SHARED_INDEX);
	struct dirent *entry = NULL;

	while (index && (entry = readdir(index)))
		if (strncmp(entry->d_name, file_name, strlen(file_name)) == 0)
			break;
	if (!entry)
		errx(1, SHARED_INDEX ": no second link");
	snprintf(suffix, 32, ", %s", entry->d_name + strlen(file_name));
	closedir(index);
}

static void write_copy(unsigned pid, const char *suffix, const char *bytes, size_t size)
{
	char path[160], link_path[200];
	int file;

	snprintf(path, sizeof(path), SHARED_DIR "/" RENDEZVOUS_NAME "%u", pid);
	snprintf(link_path, sizeof(link_path), SHARED_INDEX "/" RENDEZVOUS_NAME "%u%s", pid,
		 suffix);
	file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (file < 0 || write(file, bytes, size) != (ssize_t)size || close(file) != 0 ||
	    link(path, link_path) != 0)
		err(1, "%s", path);
}

static size_t read_first(char *bytes, size_t size)
{
	int file = open(SHARED_DIR "/" RENDEZVOUS_NAME "1", O_RDONLY | O_CLOEXEC);
	ssize_t got = read(file, bytes, size);

	if (got <= 0)
		err(1, SHARED_DIR);
	close(file);
	return (size_t)got;
}

/* The directories of a user that ran programs with the library before. */
static void make_dirs(void)
{
	if (mkdir("/tmp/.reloaded", 0700) != 0 || mkdir(SHARED_DIR, 0700) != 0 ||
	    mkdir(SHARED_INDEX, 0700) != 0)
		err(1, SHARED_DIR);
}

static void copy_file(unsigned copies)
{
	char bytes[4096], suffix[32];
	size_t size = read_first(bytes, sizeof(bytes));

	read_suffix(suffix);
	for (unsigned i = 0; i < copies; i++)
		write_copy(UNUSED_PID + i, suffix, bytes, size);
}

static const char other_dir[] = "/tmp/other";

void files_make(unsigned count)
{
	if (!sandbox_tmp(NULL))
		err(1, "a private /tmp");
	make_dirs();
	if (!count)
		return;
	publish_in_namespace();
	copy_file(count - 1);
	if (rename("/tmp/.reloaded", other_dir) != 0)
		err(1, "%s", other_dir);
	make_dirs();
	files_exchange();
}

void files_exchange(void)
{
	if (renameat2(AT_FDCWD, other_dir, AT_FDCWD, "/tmp/.reloaded", RENAME_EXCHANGE) != 0)
		err(1, "%s", other_dir);
}
