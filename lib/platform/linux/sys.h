/* SPDX-License-Identifier: MIT */
/*
 * platform-linux.h: system calls for platform-linux*.c, made directly
 *
 * Those who use this library replace functions of the C library, and may call
 * us from what they put there: we would wait for ourselves.  Others lie about
 * users and files (fakeroot).  And many are cancellation points, where a thread
 * that ends would leave its descriptor open.
 *
 * Results are -1 with errno set, as the C library's.
 */
#ifndef BUFFERS_LINUX_SYS_H
#define BUFFERS_LINUX_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int sys_open(int directory, const char *name, int flags, unsigned mode)
{
	return (int)syscall(SYS_openat, directory, name, flags | O_CLOEXEC | O_LARGEFILE, mode);
}

static inline void sys_close(int file)
{
	syscall(SYS_close, file);
}

static inline ssize_t sys_read(int file, void *bytes, size_t size)
{
	ssize_t got;

	do
		got = syscall(SYS_read, file, bytes, size);
	while (got < 0 && errno == EINTR);
	return got;
}

static inline bool sys_write(int file, const void *bytes, size_t size)
{
	ssize_t written;

	do
		written = syscall(SYS_write, file, bytes, size);
	while (written < 0 && errno == EINTR);
	return written == (ssize_t)size;
}

/* From the file's start. */
static inline void *sys_map(size_t size, int protection, int flags, int file)
{
#ifdef SYS_mmap2
	return (void *)syscall(SYS_mmap2, 0L, size, protection, flags, file, 0L);
#elif defined(__s390x__)	/* which has the old call, of a block of arguments */
	long arguments[] = { 0, (long)size, protection, flags, file, 0 };

	return (void *)syscall(SYS_mmap, arguments);
#else
	return (void *)syscall(SYS_mmap, 0L, size, protection, flags, file, 0L);
#endif
}

static inline void sys_unmap(void *memory, size_t size)
{
	syscall(SYS_munmap, memory, size);
}

/* Whether a file may become so long: writing beyond the limit would raise SIGXFSZ. */
static inline bool sys_may_write(uint64_t size)
{
	struct { uint64_t soft, hard; } limit;	/* as the kernel has it for all */

	return syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &limit) == 0 && limit.soft >= size;
}

/* Of a mapping, as PROCMAP_QUERY in <linux/fs.h> has them. */
enum { SYS_MAP_READ = 1, SYS_MAP_WRITE = 2, SYS_MAP_EXECUTE = 4, SYS_MAP_SHARED = 8 };

/* Of the one that an address is in; false: there is none, or nobody tells. */
__attribute__((visibility("hidden")))
bool buffers_platform_permissions(uintptr_t address, unsigned *permissions);

/* In a forked child: closes what its parent was just writing memory with. */
__attribute__((visibility("hidden"))) void buffers_platform_write_after_fork(void);

/* Of an open file, with the name "". */
static inline bool sys_stat(int file, const char *name, int flags, struct statx *status)
{
	return syscall(SYS_statx, file, name, flags | (*name ? 0 : AT_EMPTY_PATH),
		       STATX_BASIC_STATS, status) == 0;
}

#endif
