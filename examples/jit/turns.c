/* SPDX-License-Identifier: MIT */
/*
 * turns.c: worker processes that take the lines of standard input by turns
 *
 * A line stays in shared memory until its answer is in the pipe to the parent,
 * which prints.  A worker killed between the two leaves a line that is answered
 * again; the parent knows its number and leaves the second answer out.
 */

#include "turns.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOBODY = -1 };

/* What a worker is at, and leaves to the one that takes its place. */
struct task {
	unsigned number;
	char line[TURNS_MOST_LINE + 2];	/* with its newline when it is complete; empty: none */
};

static struct shared {
	pthread_mutex_t turn;
	int num_workers;
	unsigned num_lines;
	bool has_ended;
	int last;			/* who began to read last */
	_Atomic int reader;		/* whose line is being read */
	struct task tasks[TURNS_MOST_WORKERS];
} *shared;

/* What the parent knows of its workers. */
static struct worker {
	pid_t process;
	unsigned answered;		/* the number of its last line */
} workers[TURNS_MOST_WORKERS];
static struct pollfd pipes[TURNS_MOST_WORKERS];
static int num_running;
static int exit_status;

void turns_fail(const char *what)
{
	fprintf(stderr, "prefork: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

/*
 * What outlives a process
 */

void *turns_share(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		turns_fail("memory to share");
	return memory;
}

static void check(int error)
{
	errno = error;
	if (error)
		turns_fail("lock");
}

void turns_make_lock(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attributes;

	check(pthread_mutexattr_init(&attributes));
	check(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
	check(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST));
	check(pthread_mutex_init(mutex, &attributes));
}

void turns_lock(pthread_mutex_t *mutex)
{
	int error = pthread_mutex_lock(mutex);

	check(error == EOWNERDEAD ? pthread_mutex_consistent(mutex) : error);
}

/*
 * Workers: reading
 */

/*
 * Byte by byte, straight to where others see it: what the kernel has handed out
 * nobody takes along when killed.  What is beyond the longest line goes over
 * its end.
 */
static void read_line(struct task *task)
{
	size_t length;

	while ((length = strlen(task->line)) == 0 || task->line[length - 1] != '\n') {
		char *at = &task->line[length < TURNS_MOST_LINE ? length : TURNS_MOST_LINE];
		ssize_t got = read(STDIN_FILENO, at, 1);

		if (got > 0)
			continue;
		shared->has_ended = true;
		if (got < 0) {
			shared->reader = NOBODY;	/* one complaint is enough */
			turns_fail("standard input");
		}
		if (length == 0)
			return;
		*at = '\n';
	}
}

static void finish_reading(void)
{
	struct task *task = &shared->tasks[shared->reader];

	read_line(task);
	if (*task->line)
		shared->num_lines = task->number;
	shared->reader = NOBODY;
}

/* Locks are not fair: who had the last turn gives the others a millisecond to come. */
static void take_turn(int worker)
{
	turns_lock(&shared->turn);
	for (int i = 0; i < 10 && shared->last == worker && shared->num_workers > 1; i++) {
		pthread_mutex_unlock(&shared->turn);
		usleep(100);
		turns_lock(&shared->turn);
	}
}

/* Returns false if there are no more. */
static bool take_line(int worker)
{
	struct task *task = &shared->tasks[worker];

	take_turn(worker);
	if (shared->reader != NOBODY)	/* it was killed */
		finish_reading();
	if (!*task->line && !shared->has_ended) {
		*task = (struct task){ .number = shared->num_lines + 1 };
		shared->last = worker;
		shared->reader = worker;
		finish_reading();
	}
	pthread_mutex_unlock(&shared->turn);
	return *task->line;
}

static void answer_lines(int worker, int pipe, turns_work *work)
{
	struct task *task = &shared->tasks[worker];

	while (take_line(worker)) {
		struct turns_answer answer = { .number = task->number };
		char line[sizeof(task->line)];

		strcpy(line, task->line);
		line[strlen(line) - 1] = '\0';
		work(&answer, line);
		if (write(pipe, &answer, sizeof(answer)) != sizeof(answer))
			turns_fail("answer");
		*task->line = '\0';
	}
}

/*
 * The parent: printing, and replacing who was killed
 */

static void start(int worker, turns_work *work)
{
	pid_t process;
	int ends[2];

	if (pipe(ends) != 0)
		turns_fail("pipe");
	process = fork();
	if (process < 0)
		turns_fail("fork");
	if (process == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);	/* without the parent nobody prints */
		answer_lines(worker, ends[1], work);
		_exit(EXIT_SUCCESS);
	}
	close(ends[1]);			/* so that the pipe ends when the worker does */
	num_running++;
	workers[worker].process = process;
	pipes[worker] = (struct pollfd){ .fd = ends[0], .events = POLLIN };
}

/* What crashed would crash again: only who was killed is replaced. */
static void bury(int worker, turns_work *work)
{
	pid_t process = workers[worker].process;
	int status;

	close(pipes[worker].fd);
	pipes[worker].fd = -1;
	num_running--;
	if (waitpid(process, &status, 0) != process)
		turns_fail("waitpid");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		start(worker, work);
		fprintf(stderr, "prefork: %d was killed, %d goes on\n",
			(int)process, (int)workers[worker].process);
	} else if (status != 0) {
		fprintf(stderr, "prefork: %d failed\n", (int)process);
		exit_status = EXIT_FAILURE;
	}
}

static void print(struct worker *worker, const struct turns_answer *answer)
{
	if (worker->answered == answer->number)
		return;
	worker->answered = answer->number;
	printf("%u: %s\n", answer->number, answer->text);
	if (fflush(stdout) != 0)
		turns_fail("standard output");
}

static void hear(int worker, turns_work *work)
{
	struct turns_answer answer;
	ssize_t got = read(pipes[worker].fd, &answer, sizeof(answer));

	if (got == sizeof(answer))
		print(&workers[worker], &answer);
	else if (got == 0)
		bury(worker, work);
	else
		turns_fail("answer");
}

int turns_serve(int num_workers, turns_work *work)
{
	shared = turns_share(sizeof(*shared));
	turns_make_lock(&shared->turn);
	shared->num_workers = num_workers;
	shared->reader = shared->last = NOBODY;
	turns_lock(&shared->turn);	/* until all are there */
	for (int i = 0; i < num_workers; i++)
		start(i, work);
	pthread_mutex_unlock(&shared->turn);
	while (num_running > 0) {
		if (poll(pipes, (nfds_t)num_workers, -1) < 0)
			turns_fail("poll");
		for (int i = 0; i < num_workers; i++)
			if (pipes[i].revents)
				hear(i, work);
	}
	return exit_status;
}
