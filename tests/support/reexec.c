/* SPDX-License-Identifier: MIT */
/* reexec.c: test programs that execute themselves */

#include "config.h"
#include "support/reexec.h"

#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int find_library(struct dl_phdr_info *object, size_t size, void *directory)
{
	const char *name = object->dlpi_name;

	(void)size;
	if (!strstr(name, "/libreloaded-buffers.so"))
		return 0;
	snprintf(directory, PATH_MAX, "%.*s", (int)(strrchr(name, '/') - name), name);
	return 1;
}

/* Refers to the directory by a descriptor, because a sandbox may mount another one on its path. */
static void keep_library_reachable(void)
{
	const char *old = getenv("LD_LIBRARY_PATH");
	char directory[PATH_MAX];
	char path[PATH_MAX + 40];
	int file;

	if (!dl_iterate_phdr(find_library, directory))
		return;
	file = open(directory, O_PATH | O_DIRECTORY);
	if (file < 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d:%s", file, old ? old : "");
	setenv("LD_LIBRARY_PATH", path, 1);
}

bool run_own_role(const struct role *roles, int argc, char **argv, int *status)
{
	int line = -1;

	if (argc != 3) {
		keep_library_reachable();
		return false;
	}
	for (; roles->name && line == -1; roles++)
		if (strcmp(roles->name, argv[1]) == 0)
			line = roles->body(atoi(argv[2]));
	if (line)
		fprintf(stderr, "%s, role %s %s: step in line %d failed\n", argv[0], argv[1],
			argv[2], line);
	*status = line != 0;
	return true;
}

char **role_arguments(const char *name, int number)
{
	static char program[] = SELF_EXE, role[40], decimal[12];
	static char *arguments[] = { program, role, decimal, NULL };

	snprintf(role, sizeof(role), "%s", name);
	snprintf(decimal, sizeof(decimal), "%d", number);
	return arguments;
}

void exec_role(const char *name, int number)
{
	execv(SELF_EXE, role_arguments(name, number));
	_exit(127);
}

bool exits_with_zero(pid_t child)
{
	int status;

	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

bool run_role(const char *name, int number)
{
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child == 0)
		exec_role(name, number);
	return exits_with_zero(child);
}
