/* SPDX-License-Identifier: MIT */
/* sandbox.c: the rendezvous files in the sandbox of a test */

#include "config.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *rendezvous_path_of(const char *dir, const char *kind, pid_t pid)
{
	static char paths[4][160];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s%s, PID %u", dir ? dir : SHARED_DIR,
		 RENDEZVOUS_STEM, kind, (unsigned)pid);
	return path;
}

const char *rendezvous_path(const char *dir, pid_t pid)
{
	return rendezvous_path_of(dir, "", pid);
}

const char *own_dir(void)
{
	static char path[80];

	snprintf(path, sizeof(path), "/tmp/.reloaded-%u/memory.buffers", geteuid());
	return path;
}

void make_dir(const char *dir)
{
	char parent[80], index[120];

	snprintf(parent, sizeof(parent), "%s", dir);
	*strrchr(parent, '/') = '\0';
	snprintf(index, sizeof(index), "%s/memory.buffers.index", parent);
	ck_assert(mkdir(parent, 0700) == 0 || errno == EEXIST);
	ck_assert(mkdir(dir, 0700) == 0 || errno == EEXIST);
	ck_assert(mkdir(index, 0700) == 0 || errno == EEXIST);
}

void write_file(const char *path, const void *bytes, size_t size)
{
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(file, 0);
	ck_assert_int_eq(write(file, bytes, size), (ssize_t)size);
	close(file);
}

void make_old(const char *path)
{
	struct timespec times[2];

	clock_gettime(CLOCK_REALTIME, &times[0]);
	times[0].tv_sec -= 3600;
	times[1] = times[0];
	ck_assert_int_eq(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

unsigned long long read_address(const char *path)
{
	size_t address = 0;
	int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (file < 0)
		return 0;
	if (read(file, &address, sizeof(address)) != (ssize_t)sizeof(address))
		address = 0;
	close(file);
	return address;
}

bool is_named_in(const char *path, const void *item)
{
	uintptr_t sought = (uintptr_t)item & ~(uintptr_t)4095;
	const uintptr_t *locator = (const uintptr_t *)(uintptr_t)read_address(path);

	while (item && locator && locator[0] == (uintptr_t)locator) {
		if (locator[0] == sought)
			return true;
		locator = (const uintptr_t *)__atomic_load_n(&locator[1], __ATOMIC_ACQUIRE);
	}
	return false;
}

unsigned count_files(const char *dir)
{
	DIR *directory = opendir(dir);
	unsigned count = 0;
	struct dirent *entry;

	if (!directory)
		return 0;
	while ((entry = readdir(directory)))
		count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	closedir(directory);
	return count;
}
