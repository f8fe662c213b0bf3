/* SPDX-License-Identifier: MIT */
/* reexec.h: test programs that execute themselves */
#ifndef TESTS_REEXEC_H
#define TESTS_REEXEC_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * A role that the program plays when it executes itself.  The body returns 0, or the line of the
 * failed step, which is printed to stderr.  The program does not run under Check in a role, so the
 * body must not use ck_assert().
 */
struct role {
	const char *name;
	int (*body)(int number);
};

/*
 * main() must call this first.  Returns whether the program was executed for a role; main()
 * then returns *status.  Otherwise, makes sure that roles find the shared library even if a
 * sandbox hides its directory.
 */
bool run_own_role(const struct role *roles, int argc, char **argv, int *status);

/* Arguments for execv() of SELF_EXE in this role.  The strings are static. */
#define SELF_EXE "/proc/self/exe"
char **role_arguments(const char *name, int number);

/* Executes the role; exits with 127 if that fails. */
_Noreturn void exec_role(const char *name, int number);

/* Waits for the child.  Returns whether it exited with 0. */
bool exits_with_zero(pid_t child);

/* Executes the role in a child.  Returns whether it exited with 0. */
bool run_role(const char *name, int number);

#endif
