/* SPDX-License-Identifier: MIT */
/* sandbox-tmp.c: a private /tmp, for a test or a row of the benchmark */

#include "config.h"
#include "support/sandbox.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool write_text(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t size = (ssize_t)strlen(text);
	bool is_written = file >= 0 && write(file, text, (size_t)size) == size;

	if (file >= 0)
		close(file);
	return is_written;
}

static bool map_self(const char *path, unsigned id)
{
	char text[40];

	snprintf(text, sizeof(text), "%u %u 1", id, id);
	return write_text(path, text);
}

static bool enter_namespaces(void)
{
	unsigned user = geteuid();
	unsigned group = getegid();

	if (user == 0)
		return unshare(CLONE_NEWNS) == 0;
	return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
	       write_text("/proc/self/setgroups", "deny") &&
	       map_self("/proc/self/uid_map", user) && map_self("/proc/self/gid_map", group);
}

static bool drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { { 0, 0, 0 }, { 0, 0, 0 } };

	return geteuid() == 0 || syscall(SYS_capset, &header, none) == 0;
}

bool mount_tmpfs(const char *directory, const char *options)
{
	return mount("tmpfs", directory, "tmpfs", 0, options ? options : "mode=1777") == 0;
}

bool sandbox_tmp(const char *options)
{
	return enter_namespaces() &&
	       mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount_tmpfs("/tmp", options) && drop_capabilities();
}
