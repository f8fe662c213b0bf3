/* SPDX-License-Identifier: MIT */
/* restrict.h: simulate systems that forbid or hide a facility that the library uses */
#ifndef TESTS_RESTRICT_H
#define TESTS_RESTRICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NO_FILTER "filters of system calls are not supported here"

/*
 * From now on the system call fails with `error` in this thread, and in threads and children
 * that it starts.  refuse_call_where() restricts this to calls whose argument has all `bits`
 * set, refuse_call_at() to calls whose first argument has the low 32 bits of the address.  All
 * return false if the kernel has no such filters.
 */
bool refuse_call(int number, int error);
bool refuse_call_where(int number, unsigned argument, unsigned bits, int error);
bool refuse_call_at(int number, const void *address, int error);

/*
 * The call by which the library writes through /proc/self/mem: pwrite64(file, bytes, size, offset)
 * or, on 32-bit processors, pwritev(file, parts, count, low offset, high offset)
 */
#if UINTPTR_MAX > UINT32_MAX
# define SYS_WRITE_MEMORY SYS_pwrite64
#else
# define SYS_WRITE_MEMORY SYS_pwritev
#endif

/* From now on the system call raises SIGSYS in this task.  False: as above. */
bool trap_call(int number);

/* Shared memory cannot be mapped a second time. */
bool refuse_views(int error);

/* Every mmap() fails, or every one of private memory. */
bool refuse_memory(int error);
bool refuse_private_memory(int error);

/* No memory can be writable and executable at once. */
bool refuse_rwx(int error);

/* In addition, no memory can become executable, as with systemd's MemoryDenyWriteExecute=. */
bool refuse_new_exec(int error);

/* The same restriction by PR_SET_MDWE.  Returns false before Linux 6.3. */
bool refuse_exec_gain(void);

/* From now on this memory cannot be changed.  Returns false and prints why before Linux 6.10. */
bool seal_memory(void *start, size_t size);

/*
 * This process and its children see an empty /proc.  Returns false and prints why if the kernel
 * does not let this user do so.
 */
bool hide_proc(void);

#endif
