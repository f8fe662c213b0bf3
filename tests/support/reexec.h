/* SPDX-License-Identifier: MIT */
/* program.h: test programs that execute themselves */
#ifndef TESTS_REEXEC_H
#define TESTS_REEXEC_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * What the program does when it is executed for it.  The body returns 0, or the
 * line of the step that failed, which is written to stderr.  Check knows nothing of
 * the program, so the body must not use ck_assert().
 */
struct role {
	const char *name;
	int (*body)(int number);
};

/*
 * First in main(): whether the program was executed for a role.  Then main()
 * returns *status.  If not, the shared library is kept within reach of the roles,
 * though a sandbox may hide the directory where it lies.
 */
bool run_own_role(const struct role *roles, int argc, char **argv, int *status);

/* argv for the role, and the program that it is for.  Static memory. */
#define SELF_EXE "/proc/self/exe"
char **role_arguments(const char *name, int number);

/* execv() into the role; ends the process where that fails. */
_Noreturn void exec_role(const char *name, int number);

/* Waits for the child: whether it exited with 0. */
bool exits_with_zero(pid_t child);

/* Whether a child that executes the role exits with 0. */
bool run_role(const char *name, int number);

#endif
