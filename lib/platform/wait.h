/* SPDX-License-Identifier: MIT */
/* wait.h: waits for another thread or process, for a limited time */
#ifndef BUFFERS_WAIT_H
#define BUFFERS_WAIT_H

#include "platform/platform.h"

/* All zero at first. */
struct buffers_wait {
	uint64_t deadline;
	unsigned attempts;	/* waits so far */
};

/*
 * Waits a moment, and returns whether the caller should try again: for so many milliseconds,
 * and until it has yielded and slept often in any case, since a busy system may not have run the
 * other thread meanwhile.  Without a clock, the number of attempts limits the time.
 */
static inline bool buffers_wait_again(struct buffers_wait *wait, unsigned milliseconds)
{
	enum { LEAST_ATTEMPTS = 1224, ATTEMPTS_A_MILLISECOND = 8 };
	uint64_t now = buffers_platform_clock();

	if (wait->attempts == 0)
		wait->deadline = now + milliseconds;
	if (now >= wait->deadline && wait->attempts >= LEAST_ATTEMPTS)
		return false;
	if (now == 0 && wait->attempts >= LEAST_ATTEMPTS + ATTEMPTS_A_MILLISECOND * milliseconds)
		return false;
	buffers_platform_backoff(wait->attempts++);
	return true;
}

#endif
