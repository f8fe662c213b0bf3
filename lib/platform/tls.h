/* SPDX-License-Identifier: MIT */
/*
 * tls.h: thread-local variables that need no memory from malloc(3)
 *
 *	static BUFFERS_TLS struct thing cached;		zero at first in each thread
 *	BUFFERS_TLS_ADDRESS(cached)->member = 1;	the calling thread's
 *
 * An access calls no function.  The models that compilers choose by themselves may call
 * malloc(3) for the first one.
 */
#ifndef BUFFERS_TLS_H
#define BUFFERS_TLS_H

#if defined(_WIN32)
# include "platform/windows/tls.h"
#else
# define BUFFERS_TLS __thread __attribute__((tls_model("initial-exec")))
# define BUFFERS_TLS_ADDRESS(variable) (&(variable))
#endif

#endif
