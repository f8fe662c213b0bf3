/* SPDX-License-Identifier: MIT */
/*
 * turns.h: worker processes that take the lines of standard input by turns
 *
 * Each line is answered once, also when workers are killed by SIGKILL at any
 * instant: another process takes over the place and the line.  So that what workers
 * share can be as robust, every change to it must count with its last store,
 * or be such that it can be made again.
 */
#ifndef EXAMPLES_TURNS_H
#define EXAMPLES_TURNS_H

#include <limits.h>
#include <pthread.h>

enum {
	TURNS_MOST_WORKERS = 64,
	TURNS_MOST_LINE = 1500,		/* characters; what would be longer is cut off there */
};

struct turns_answer {
	unsigned number;		/* of the line, from 1 */
	char text[PIPE_BUF - sizeof(unsigned)];	/* together what a pipe takes as a whole */
};

/* Sets the answer's text.  May be called again for a line whose worker was killed. */
typedef void turns_work(struct turns_answer *answer, const char *line);

/* Prints answers, each after its number, until the input ends.  Returns the exit status. */
int turns_serve(int num_workers, turns_work *work);

/* Memory and locks to share with workers; a lock outlives who holds it. */
void *turns_share(size_t size);
void turns_make_lock(pthread_mutex_t *mutex);
void turns_lock(pthread_mutex_t *mutex);

/* Prints what failed, and errno, and exits. */
_Noreturn void turns_fail(const char *what);

#endif
