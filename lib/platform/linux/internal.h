/* SPDX-License-Identifier: MIT */
/* internal.h: functions that the files of this port share */
#ifndef BUFFERS_LINUX_INTERNAL_H
#define BUFFERS_LINUX_INTERNAL_H

#include "platform/platform.h"
#include "platform/posix/sys.h"

#pragma GCC visibility push(hidden)

/* Permissions of a mapping, with the values of PROCMAP_QUERY in <linux/fs.h>. */
enum { PERM_READ = 1, PERM_WRITE = 2, PERM_EXECUTE = 4, PERM_SHARED = 8 };

/* The permissions of the mapping at an address; false: none is there, or it is unknown. */
bool buffers_linux_permissions(uintptr_t address, unsigned *permissions);

/* The protection of memory of this kind, as mmap(2) takes it. */
int buffers_linux_protection_of(enum buffers_kind kind);

/*
 * mmap(2), but the memory has exactly this protection; and mmap(2) of memory with
 * BUFFERS_MAP_RESERVED, where `flags` are more flags for mmap(2).  MAP_FAILED: see errno.
 */
void *buffers_linux_map_exactly(uintptr_t hint, size_t size, int protection, int flags, int file);
void *buffers_linux_reserve(uintptr_t hint, size_t size, enum buffers_kind kind,
			    enum buffers_map_flags map_flags, int flags);

/*
 * Maps shared memory a second time, readable and writable.  EINVAL: it is private.  EACCES,
 * ENOMEM.
 */
int buffers_linux_map_twice(uintptr_t address, size_t size, bool is_inherited, void **view);

/* The meaning of errno: ENOMEM if the system lacks something, EACCES if it refuses. */
int buffers_linux_classify_write_failure(void);

/* In a forked child: closes the descriptors that its parent was writing RX memory with. */
void buffers_linux_write_after_fork(void);

/* The 16 random bytes that the kernel puts at the top of the main stack at exec. */
uintptr_t buffers_linux_stack_top(void);

/* The highest address of user memory, rounded up to a power of two, minus 1. */
uintptr_t buffers_linux_space_mask(void);

/* Whether the kernel itself would choose this page for a mapping.  If not, errno says why. */
bool buffers_linux_is_eligible(uintptr_t page);

/*
 * Between these two calls, memory that the thread maps or protects without PROT_EXEC is not
 * executable, whatever its personality(2).  *former is for the second call, which may change
 * errno only if it fails.  `memory` was mapped or protected meanwhile, or is MAP_FAILED.
 * False: policy forbids that; the memory may be executable.
 */
bool buffers_linux_begin_exact(int protection, long *former);
bool buffers_linux_end_exact(long former, const void *memory);

/*
 * mmap(2) from the start of a file, at an address of the kernel's choice; mprotect(2); both
 * with exactly this protection; munmap(2).  If policy forbids the exact protection, memory to
 * protect is left without access.
 */
void *buffers_sys_map(size_t size, int protection, int flags, int file);
bool buffers_sys_protect(void *memory, size_t size, int protection);
void buffers_sys_unmap(void *memory, size_t size);

/* As buffers_sys_status_at(), but follows a symbolic link. */
bool buffers_sys_status_behind(const char *name, struct buffers_sys_status *status);

#pragma GCC visibility pop

#endif
