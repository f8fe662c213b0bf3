/* SPDX-License-Identifier: MIT */
/*
 * tls.h: thread-local variables in the image's TLS directory
 *
 * GCC would keep them through a function of its runtime, in memory from malloc(3).  The
 * loader copies sections of this name for each thread: PE format, "The .tls Section".  It
 * sorts them by the part after "$", between the C runtime's A and Z.
 */
#ifndef BUFFERS_WINDOWS_TLS_H
#define BUFFERS_WINDOWS_TLS_H

#include <stdint.h>

#define BUFFERS_TLS __attribute__((section(".tls$B")))
#define BUFFERS_TLS_ADDRESS(variable) \
	((__typeof__(&(variable)))buffers_tls_address((uintptr_t)&(variable)))

/* From the C runtime: the index of this image's copy, and the start of the original. */
extern unsigned long _tls_index;
extern char _tls_start[];

/* The thread's array of copies: TEB.ThreadLocalStoragePointer. */
static inline char *const *buffers_tls_blocks(void)
{
	char *const *blocks;

#if defined(__x86_64__)
	__asm__("movq %%gs:0x58, %0" : "=r"(blocks));
#elif defined(__i386__)
	__asm__("movl %%fs:0x2c, %0" : "=r"(blocks));
#elif defined(__aarch64__)
	__asm__("ldr %0, [x18, #0x58]" : "=r"(blocks));
#else
# error "add the address of TEB.ThreadLocalStoragePointer for this processor"
#endif
	return blocks;
}

static inline void *buffers_tls_address(uintptr_t original)
{
	return buffers_tls_blocks()[_tls_index] + (original - (uintptr_t)_tls_start);
}

#endif
