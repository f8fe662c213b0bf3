/* SPDX-License-Identifier: MIT */
/*
 * hook: runs a program and prints each call of a function of its libraries
 *
 *	hook FUNCTION PROGRAM [ARGUMENT ...]
 *
 * The dynamic linker loads hook-preload.so into the program, and hook-preload.so hooks
 * the function.  This launcher prepends the name of each to a variable of the
 * environment, with a colon before the old value.  hook-preload.so removes the names
 * again before main() runs.  The linker does not preload objects into programs that
 * are linked statically or run with the rights of another user.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Exit statuses, as those of the shell and of env(1). */
enum { USAGE = 2, FAILED = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };

__attribute__((format(printf, 2, 3)))
static _Noreturn void exit_with(int status, const char *format, ...)
{
	va_list arguments;

	fputs("hook: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(status);
}

static char *join(const char *first, const char *second, const char *third)
{
	char *text;

	if (asprintf(&text, "%s%s%s", first, second, third) < 0)
		exit_with(FAILED, "%s", strerror(ENOMEM));
	return text;
}

static char *program_directory(void)
{
	static char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash;

	if (length < 0)
		exit_with(FAILED, "/proc/self/exe: %s", strerror(errno));
	path[length] = '\0';
	slash = strrchr(path, '/');
	if (slash)
		*slash = '\0';
	return path;
}

/* Looks installed this program and in .libs/, where libtool puts its objects. */
static char *find_object(void)
{
	const char *directory = program_directory();
	char *installed = join(directory, "/hook-preload.so", "");
	char *in_libs = join(directory, "/.libs/hook-preload.so", "");
	char *found = access(installed, R_OK) == 0 ? installed : in_libs;

	if (access(found, R_OK) != 0)
		exit_with(FAILED, "neither %s nor %s is there to be read", installed, in_libs);
	if (strpbrk(found, ": "))
		exit_with(FAILED, "%s: LD_PRELOAD takes no path with a blank or colon", found);
	return found;
}

static void prepend(const char *name, const char *word)
{
	const char *rest = getenv(name);

	if (setenv(name, rest ? join(word, ":", rest) : word, 1) != 0)
		exit_with(FAILED, "%s: %s", name, strerror(errno));
}

int main(int argc, char **argv)
{
	int error;

	if (argc < 3) {
		fputs("usage: hook FUNCTION PROGRAM [ARGUMENT ...]\n", stderr);
		return USAGE;
	}
	if (argv[1][0] == '\0' || strchr(argv[1], ':'))
		exit_with(USAGE, "no function is called \"%s\"", argv[1]);
	prepend("LD_PRELOAD", find_object());
	prepend("RELOADED_HOOK", argv[1]);
	execvp(argv[2], argv + 2);
	error = errno;
	exit_with(error == ENOENT ? NOT_FOUND : NOT_EXECUTABLE, "%s: %s", argv[2], strerror(error));
}
