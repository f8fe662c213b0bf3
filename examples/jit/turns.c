/* SPDX-License-Identifier: MIT */
/*
 * turns.c: worker processes that take the lines of standard input by turns
 *
 * A line stays in shared memory until its answer is in the pipe to the parent, which
 * prints it.  If a worker is killed after it has written the answer and before it has
 * cleared the line, its successor answers the line again.  The parent recognizes the
 * number and drops the second answer.
 */

#define _GNU_SOURCE

#include "turns.h"

#include <errno.h>
#include <fcntl.h>
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

enum { NO_WORKER = -1 };

/* The line of a worker, which its successor takes over. */
struct task {
	unsigned number;
	char line[TURNS_MOST_LINE + 2];	/* ends in a newline when complete; empty: no line */
};

static struct shared {
	pthread_mutex_t turn;
	int num_workers;
	unsigned num_lines;
	bool has_ended;
	int last;			/* the worker that last began to read */
	_Atomic int reader;		/* the worker whose line is being read */
	struct task tasks[TURNS_MOST_WORKERS];
} *shared;

/* The parent's record of its workers. */
static struct worker {
	pid_t pid;
	unsigned answered;		/* number of the last line it answered */
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
 * Memory and locks that outlive a process
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
 * Reads byte by byte into shared memory, so that a killed worker takes no byte of the
 * input with it.  Bytes of a line that is too long overwrite its last byte.
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
			shared->reader = NO_WORKER;	/* the other workers must not read again */
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
	shared->reader = NO_WORKER;
}

/* Mutexes are not fair: the worker that had the last turn lets the others go first for 1 ms. */
static void take_turn(int worker)
{
	turns_lock(&shared->turn);
	for (int i = 0; i < 10 && shared->last == worker && shared->num_workers > 1; i++) {
		pthread_mutex_unlock(&shared->turn);
		usleep(100);
		turns_lock(&shared->turn);
	}
}

/* Returns false if there are no more lines. */
static bool take_line(int worker)
{
	struct task *task = &shared->tasks[worker];

	take_turn(worker);
	if (shared->reader != NO_WORKER)	/* the reader was killed */
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

/* Copies the line without its end, which is CR LF in some files. */
static void copy_line(char *to, const char *line)
{
	size_t length = strlen(line) - 1;

	if (length > 0 && line[length - 1] == '\r')
		length--;
	memcpy(to, line, length);
	to[length] = '\0';
}

static void answer_lines(int worker, int pipe, turns_work *work)
{
	struct task *task = &shared->tasks[worker];

	while (take_line(worker)) {
		struct turns_answer answer = { .number = task->number };
		char line[sizeof(task->line)];

		copy_line(line, task->line);
		work(&answer, line);
		if (write(pipe, &answer, sizeof(answer)) != sizeof(answer))
			turns_fail("answer");
		*task->line = '\0';
	}
}

/*
 * The parent: printing, and replacing killed workers
 */

static void start_worker(int worker, turns_work *work)
{
	pid_t pid;
	int ends[2];

	if (pipe(ends) != 0)
		turns_fail("pipe");
	pid = fork();
	if (pid < 0)
		turns_fail("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);	/* only the parent prints */
		answer_lines(worker, ends[1], work);
		_exit(EXIT_SUCCESS);
	}
	close(ends[1]);			/* otherwise the pipe would not end with the worker */
	num_running++;
	workers[worker].pid = pid;
	pipes[worker] = (struct pollfd){ .fd = ends[0], .events = POLLIN };
}

/* Replaces a killed worker.  A worker that crashed is not replaced: it would crash again. */
static void reap(int worker, turns_work *work)
{
	pid_t pid = workers[worker].pid;
	int status;

	close(pipes[worker].fd);
	pipes[worker].fd = -1;
	num_running--;
	if (waitpid(pid, &status, 0) != pid)
		turns_fail("waitpid");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		start_worker(worker, work);
		fprintf(stderr, "prefork: %d was killed, %d goes on\n",
			(int)pid, (int)workers[worker].pid);
	} else if (status != 0) {
		fprintf(stderr, "prefork: %d failed\n", (int)pid);
		exit_status = EXIT_FAILURE;
	}
}

static void print_answer(struct worker *worker, const struct turns_answer *answer)
{
	if (worker->answered == answer->number)
		return;
	worker->answered = answer->number;
	printf("%u: %s\n", answer->number, answer->text);
	if (fflush(stdout) != 0)
		turns_fail("standard output");
}

static void read_answer(int worker, turns_work *work)
{
	struct turns_answer answer;
	ssize_t got = read(pipes[worker].fd, &answer, sizeof(answer));

	if (got == sizeof(answer))
		print_answer(&workers[worker], &answer);
	else if (got == 0)
		reap(worker, work);
	else
		turns_fail("answer");
}

/* A pipe must not take the number of a standard stream that is closed. */
static void check_streams(void)
{
	static const char *const names[] = { "standard input", "standard output", "standard error" };

	for (int stream = 0; stream <= STDERR_FILENO; stream++)
		if (fcntl(stream, F_GETFD) < 0)
			turns_fail(names[stream]);
}

int turns_serve(int num_workers, turns_work *work)
{
	check_streams();
	shared = turns_share(sizeof(*shared));
	turns_make_lock(&shared->turn);
	shared->num_workers = num_workers;
	shared->reader = shared->last = NO_WORKER;
	turns_lock(&shared->turn);	/* until all workers exist */
	for (int i = 0; i < num_workers; i++)
		start_worker(i, work);
	pthread_mutex_unlock(&shared->turn);
	while (num_running > 0) {
		if (poll(pipes, (nfds_t)num_workers, -1) < 0)
			turns_fail("poll");
		for (int i = 0; i < num_workers; i++)
			if (pipes[i].revents)
				read_answer(i, work);
	}
	return exit_status;
}
