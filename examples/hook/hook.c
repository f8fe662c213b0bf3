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
 * are linked statically or run with the rights of another user; the launcher says so.
 */

#define _GNU_SOURCE

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/*
 * Programs without a preloaded object
 */

/* Opens the file that execvp() would execute, as far as this user can read it; or returns -1. */
static int open_program(const char *name)
{
	const char *path = getenv("PATH");
	char *list = path ? join(path, "", "") : join("/bin:/usr/bin", "", "");
	char *dir;

	if (strchr(name, '/'))
		return open(name, O_RDONLY | O_CLOEXEC);
	while ((dir = strsep(&list, ":"))) {
		char *file = join(*dir ? dir : ".", "/", name);
		struct stat status;

		if (access(file, X_OK) == 0 && stat(file, &status) == 0 && S_ISREG(status.st_mode))
			return open(file, O_RDONLY | O_CLOEXEC);
	}
	return -1;
}

static bool read_at(int file, void *bytes, size_t size, ElfW(Off) offset)
{
	return pread(file, bytes, size, (off_t)offset) == (ssize_t)size;
}

/* Whether the dynamic section is that of a program that relocates itself. */
static bool is_pie(int file, const ElfW(Phdr) *section)
{
	ElfW(Dyn) entry = { .d_tag = DT_NULL };
	ElfW(Off) offset = section->p_offset;

	while (read_at(file, &entry, sizeof(entry), offset) && entry.d_tag != DT_NULL) {
		if (entry.d_tag == DT_FLAGS_1)
			return (entry.d_un.d_val & DF_1_PIE) != 0;
		offset += sizeof(entry);
	}
	return false;
}

/* False also for the dynamic linker, which runs the program that its argument names. */
static bool is_static(int file)
{
	ElfW(Ehdr) header;
	ElfW(Phdr) part;
	bool is_program;

	if (!read_at(file, &header, sizeof(header), 0) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_phentsize != sizeof(part))		/* of another word size */
		return false;
	is_program = header.e_type == ET_EXEC;
	for (unsigned i = 0; i < header.e_phnum; i++) {
		if (!read_at(file, &part, sizeof(part), header.e_phoff + i * sizeof(part)) ||
		    part.p_type == PT_INTERP)
			return false;
		if (part.p_type == PT_DYNAMIC)
			is_program = is_program || is_pie(file, &part);
	}
	return is_program;
}

static bool has_rights_of_another(int file)
{
	struct stat status;

	return fstat(file, &status) == 0 &&
	       (((status.st_mode & S_ISUID) && status.st_uid != getuid()) ||
		((status.st_mode & S_ISGID) && status.st_gid != getgid()));
}

/* Why the linker will not preload the object into the program; NULL if it will. */
static const char *obstacle_in(const char *program)
{
	int file = open_program(program);
	const char *obstacle = NULL;

	if (file < 0)
		return NULL;
	if (is_static(file))
		obstacle = "the program is linked statically";
	else if (has_rights_of_another(file))
		obstacle = "the program runs with the rights of another user";
	close(file);
	return obstacle;
}

int main(int argc, char **argv)
{
	const char *object;
	const char *obstacle;
	int error;

	if (argc < 3) {
		fputs("usage: hook FUNCTION PROGRAM [ARGUMENT ...]\n", stderr);
		return USAGE;
	}
	if (argv[1][0] == '\0' || strchr(argv[1], ':'))
		exit_with(USAGE, "no function is called \"%s\"", argv[1]);
	object = find_object();
	obstacle = obstacle_in(argv[2]);
	if (obstacle) {
		fprintf(stderr, "hook: %s: %s; %s runs unpatched\n", argv[1], obstacle,
			basename(argv[2]));
	} else {
		prepend("LD_PRELOAD", object);
		prepend("RELOADED_HOOK", argv[1]);
	}
	execvp(argv[2], argv + 2);
	error = errno;
	exit_with(error == ENOENT ? NOT_FOUND : NOT_EXECUTABLE, "%s: %s", argv[2], strerror(error));
}
