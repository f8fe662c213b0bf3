/* SPDX-License-Identifier: MIT */
/*
 * thread.h: variables that each thread has for itself
 *
 *	static BUFFERS_TLS struct thing mine;	all zero at first
 *	BUFFERS_TLS_ADDRESS(mine)->member = 1;			this thread's
 *
 * Reading one calls nothing, not even malloc(3), as models of such variables do that
 * compilers choose by themselves.
 */
#ifndef BUFFERS_TLS_H
#define BUFFERS_TLS_H

#ifdef _WIN32

#include <stdint.h>

/*
 * GCC has a function of its runtime keep them, in memory from malloc(3).  But what is in
 * sections of this name, the loader copies for each thread: PE format, "The .tls Section".
 * They are put together in the order of what follows "$", of the C runtime's A and Z.
 */
# define BUFFERS_TLS __attribute__((section(".tls$B")))
# define BUFFERS_TLS_ADDRESS(variable) \
	((__typeof__(&(variable)))buffers_tls_address((uintptr_t)&(variable)))

/* Of the C runtime: the number of this image's copy, and where the original begins. */
extern unsigned long _tls_index;
extern char _tls_start[];

/* The thread's array of copies: TEB.ThreadLocalStoragePointer. */
static inline char *const *buffers_tls_blocks(void)
{
	char *const *copies;

# if defined(__x86_64__)
	__asm__("movq %%gs:0x58, %0" : "=r"(copies));
# elif defined(__i386__)
	__asm__("movl %%fs:0x2c, %0" : "=r"(copies));
# elif defined(__aarch64__)
	__asm__("ldr %0, [x18, #0x58]" : "=r"(copies));
# else
#  error "state here where threads have their copies"
# endif
	return copies;
}

static inline void *buffers_tls_address(uintptr_t original)
{
	return buffers_tls_blocks()[_tls_index] + (original - (uintptr_t)_tls_start);
}

#else

# define BUFFERS_TLS __thread __attribute__((tls_model("initial-exec")))
# define BUFFERS_TLS_ADDRESS(variable) (&(variable))

#endif

#endif
