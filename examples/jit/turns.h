/* SPDX-License-Identifier: MIT */
/*
 * turns.h: worker processes that take the lines of standard input by turns
 *
 * Each line is answered once, even if workers are killed by SIGKILL at any
 * instant: another process takes over the slot and the line.  Data that workers
 * share must be as robust: each change to it must take effect with its last store,
 * or must be repeatable.
 */
#ifndef EXAMPLES_TURNS_H
#define EXAMPLES_TURNS_H

#include <limits.h>
#include <pthread.h>

enum {
	TURNS_MOST_WORKERS = 64,
	TURNS_MOST_LINE = 1500,		/* characters; longer lines are truncated */
};

struct turns_answer {
	unsigned number;		/* number of the line, from 1 */
	char text[PIPE_BUF - sizeof(unsigned)];	/* a pipe takes both members atomically */
};

/* Sets the answer's text.  Is called again for a line if its worker was killed. */
typedef void turns_work(struct turns_answer *answer, const char *line);

/* Prints numbered answers until the input ends.  Returns the exit status. */
int turns_serve(int num_workers, turns_work *work);

/* Memory and locks to share with workers.  The locks are robust: they survive their holder. */
void *turns_share(size_t size);
void turns_make_lock(pthread_mutex_t *mutex);
void turns_lock(pthread_mutex_t *mutex);

/* Prints `what` and the text of errno, and exits. */
_Noreturn void turns_fail(const char *what);

#endif
