/* SPDX-License-Identifier: MIT */
/* supervise.h: system calls that a supervisor sees, and lets fail, before the kernel executes them */
#ifndef TESTS_SUPERVISE_H
#define TESTS_SUPERVISE_H

#include <stdbool.h>
#include <stddef.h>

#define NO_LISTENER "the kernel does not let a filter report system calls"

/*
 * The supervisor asks judge() about each system call of the supervised thread while is_active.
 * It returns 0, or the error with which the call fails.  A close(2) that fails closes all the
 * same, as on Linux.
 */
struct supervision {
	bool is_active;		/* set by supervise_begin() and supervise_end() */
	int (*judge)(int number, void *context);
	void *context;
	int listener;
};

void supervise_begin(struct supervision *supervision);
void supervise_end(struct supervision *supervision);

/*
 * From now on the supervisor, another thread of the process, sees the calls of this thread and
 * of threads and children that it starts: the calls in the list, or all if it is NULL.  The
 * supervision must stay.  Returns false if the kernel does not support it.
 */
bool supervise_this_thread(struct supervision *supervision, const int *numbers, size_t count);

/*
 * Runs the body in a thread of its own, whose calls are all supervised; the rest of the process
 * ends without supervision.  Returns what the body returns, or the line of a step that failed.
 */
int run_supervised(struct supervision *supervision, int (*body)(void *context), void *context);

/* Whether it is supported here, found by trying in a child. */
bool can_supervise(void);

#endif
