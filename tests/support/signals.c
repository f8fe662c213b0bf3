/* SPDX-License-Identifier: MIT */
/* signals.c: a signal handler that runs many times, in any call of one thread */

#include "config.h"
#include "support/signals.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

static struct {
	bool (*handle)(uint32_t number);
	uint32_t count;
	uint32_t handled;
	bool is_failed;
	pthread_t victim, sender;
} signals;

static uint32_t handled(void)
{
	return __atomic_load_n(&signals.handled, __ATOMIC_ACQUIRE);
}

static void handle_next(int number)
{
	uint32_t next = handled() + 1;
	int saved = errno;

	(void)number;
	errno = 0;
	if (!signals.handle(next) || errno != 0)
		signals.is_failed = true;
	errno = saved;
	__atomic_store_n(&signals.handled, next, __ATOMIC_RELEASE);
}

static void *send_all(void *unused)
{
	for (uint32_t i = 0; i < signals.count; i++) {
		pthread_kill(signals.victim, SIGUSR1);
		while (handled() == i)
			yield_cpu();
	}
	return unused;
}

bool start_signals(bool (*handle)(uint32_t number), uint32_t count)
{
	struct sigaction action = { .sa_handler = handle_next };

	signals.handle = handle;
	signals.count = count;
	signals.victim = pthread_self();
	return sigaction(SIGUSR1, &action, NULL) == 0 &&
	       pthread_create(&signals.sender, NULL, send_all, NULL) == 0;
}

bool are_signals_left(void)
{
	return handled() < signals.count;
}

bool end_signals(void)
{
	return pthread_join(signals.sender, NULL) == 0 && !signals.is_failed;
}
