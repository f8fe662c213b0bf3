/* SPDX-License-Identifier: MIT */
/* signals.h: a signal handler that runs many times, in any call of one thread */
#ifndef TESTS_SIGNALS_H
#define TESTS_SIGNALS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * start_signals(): starts a thread that sends signals to this one, each after the last one was
 * handled.  The handler calls `handle` with the number of the signal, from 1 to `count`; it returns
 * whether its steps succeeded.
 * are_signals_left(): whether some of them are not handled yet.
 * end_signals(): waits for the thread, and returns whether every step succeeded, without a change of
 * errno.
 */
bool start_signals(bool (*handle)(uint32_t number), uint32_t count);
bool are_signals_left(void);
bool end_signals(void);

#endif
