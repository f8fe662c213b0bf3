/* SPDX-License-Identifier: MIT */
/* sys.c: the system calls of posix/sys.h and internal.h on Linux, made directly */

#include "config.h"
#include "platform/linux/internal.h"

#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#define SECOND ((int64_t)1000000000)

int buffers_sys_open(int dir, const char *name, int flags, unsigned mode)
{
	return (int)syscall(SYS_openat, dir, name, flags | O_CLOEXEC | O_LARGEFILE, mode);
}

bool buffers_sys_close(int file)
{
	return syscall(SYS_close, file) == 0;
}

int buffers_sys_duplicate(int file, int least)
{
	return (int)syscall(SYS_fcntl, file, F_DUPFD_CLOEXEC, least);
}

ssize_t buffers_sys_read(int file, void *bytes, size_t size)
{
	ssize_t got;

	do
		got = syscall(SYS_read, file, bytes, size);
	while (got < 0 && errno == EINTR);
	return got;
}

bool buffers_sys_write(int file, const void *bytes, size_t size)
{
	ssize_t written;

	do
		written = syscall(SYS_write, file, bytes, size);
	while (written < 0 && errno == EINTR);
	return written == (ssize_t)size;
}

static bool read_status(int dir, const char *name, int flags, struct buffers_sys_status *status)
{
	struct statx raw;

	if (syscall(SYS_statx, dir, name, flags, STATX_BASIC_STATS, &raw) != 0)
		return false;
	*status = (struct buffers_sys_status){
		.device = (uint64_t)raw.stx_dev_major << 32 | raw.stx_dev_minor,
		.file = raw.stx_ino,
		.mode = raw.stx_mode,
		.user = raw.stx_uid,
		.links = raw.stx_nlink,
		.mtime = raw.stx_mtime.tv_sec,
		.mtime_nanoseconds = raw.stx_mtime.tv_nsec,
	};
	return true;
}

bool buffers_sys_status_of(int file, struct buffers_sys_status *status)
{
	return read_status(file, "", AT_EMPTY_PATH, status);
}

bool buffers_sys_status_at(int dir, const char *name, struct buffers_sys_status *status)
{
	return read_status(dir, name, AT_SYMLINK_NOFOLLOW, status);
}

bool buffers_sys_status_behind(const char *name, struct buffers_sys_status *status)
{
	return read_status(AT_FDCWD, name, 0, status);
}

bool buffers_sys_set_mode(int file, unsigned mode)
{
	return syscall(SYS_fchmod, file, mode) == 0;
}

bool buffers_sys_lock_file(int file)
{
	return syscall(SYS_flock, file, LOCK_EX | LOCK_NB) == 0;
}

bool buffers_sys_make_dir(int dir, const char *name, unsigned mode)
{
	return syscall(SYS_mkdirat, dir, name, mode) == 0;
}

bool buffers_sys_remove_dir(int dir, const char *name)
{
	return syscall(SYS_unlinkat, dir, name, AT_REMOVEDIR) == 0;
}

bool buffers_sys_remove(int dir, const char *name)
{
	return syscall(SYS_unlinkat, dir, name, 0) == 0;
}

bool buffers_sys_link(int dir, const char *name, int new_dir, const char *new_name)
{
	return syscall(SYS_linkat, dir, name, new_dir, new_name, 0) == 0;
}

bool buffers_sys_rename(int dir, const char *name, const char *new_name)
{
	return syscall(SYS_renameat2, dir, name, dir, new_name, 0) == 0;
}

/* As getdents64(2) has it. */
struct dir_record {
	uint64_t file;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

long buffers_sys_read_dir(int dir, char *records, size_t size)
{
	return syscall(SYS_getdents64, dir, records, size);
}

/* A file system may refuse a position of another one, or of a 64-bit process. */
void buffers_sys_seek_dir(int dir, uint64_t position)
{
#ifdef SYS__llseek
	int64_t found;
	long error = syscall(SYS__llseek, dir, (unsigned long)(position >> 32),
			     (unsigned long)position, &found, SEEK_SET);
#else
	long error = syscall(SYS_lseek, dir, position, SEEK_SET);
#endif
	if (error < 0)
		syscall(SYS_lseek, dir, 0L, SEEK_SET);
}

uint64_t buffers_sys_record_end(const char *record)
{
	uint64_t position;

	memcpy(&position, record + offsetof(struct dir_record, offset), sizeof(position));
	return position;
}

const char *buffers_sys_record_name(const char *record)
{
	return record + offsetof(struct dir_record, name);
}

size_t buffers_sys_record_size(const char *record)
{
	uint16_t size;

	memcpy(&size, record + offsetof(struct dir_record, size), sizeof(size));
	return size;
}

#ifdef SYS_getresuid32	/* the plain calls have 16 bits on these processors */
# define GETRESUID SYS_getresuid32
# define GETRESGID SYS_getresgid32
#else
# define GETRESUID SYS_getresuid
# define GETRESGID SYS_getresgid
#endif

bool buffers_sys_ids(uint32_t users[3], uint32_t groups[3])
{
	return syscall(GETRESUID, &users[0], &users[1], &users[2]) == 0 &&
	       syscall(GETRESGID, &groups[0], &groups[1], &groups[2]) == 0;
}

bool buffers_sys_is_privileged(void)
{
	return getauxval(AT_SECURE) != 0;
}

bool buffers_sys_is_pid_used(pid_t pid)
{
	return syscall(SYS_kill, pid, 0) == 0 || errno != ESRCH;
}

/* Nanoseconds of the clock, 0 if unknown. */
static int64_t read_clock(clockid_t clock)
{
	struct { long seconds, nanoseconds; } time;
#ifdef SYS_clock_gettime64
	struct { int64_t seconds, nanoseconds; } long_time;

	if (syscall(SYS_clock_gettime64, clock, &long_time) == 0)	/* Linux 5.1 */
		return long_time.seconds * SECOND + long_time.nanoseconds;
#endif
	if (syscall(SYS_clock_gettime, clock, &time) != 0)
		return 0;
	return time.seconds * SECOND + time.nanoseconds;
}

int64_t buffers_sys_now(void)
{
	return read_clock(CLOCK_REALTIME);
}

uint64_t buffers_platform_clock(void)
{
	return (uint64_t)(read_clock(CLOCK_MONOTONIC) / 1000000);
}

bool buffers_sys_may_write(uint64_t size)
{
	struct { uint64_t soft, hard; } limit;	/* the kernel has it for every processor */

	return syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &limit) == 0 && limit.soft >= size;
}

static void *map_file(size_t size, int protection, int flags, int file)
{
#ifdef SYS_mmap2
	return (void *)syscall(SYS_mmap2, 0L, size, protection, flags, file, 0L);
#elif defined(__s390x__)	/* has the old call, with a block of arguments */
	long arguments[] = { 0, (long)size, protection, flags, file, 0 };

	return (void *)syscall(SYS_mmap, arguments);
#else
	return (void *)syscall(SYS_mmap, 0L, size, protection, flags, file, 0L);
#endif
}

void *buffers_sys_map(size_t size, int protection, int flags, int file)
{
	long former;
	void *got;

	if (!buffers_linux_begin_exact(protection, &former)) {
		errno = EACCES;
		return MAP_FAILED;
	}
	got = map_file(size, protection, flags, file);
	if (buffers_linux_end_exact(former, got))
		return got;
	buffers_sys_unmap(got, size);
	errno = EACCES;
	return MAP_FAILED;
}

bool buffers_sys_protect(void *memory, size_t size, int protection)
{
	bool is_done;
	long former;

	if (!buffers_linux_begin_exact(protection, &former)) {
		errno = EACCES;
		return false;
	}
	is_done = syscall(SYS_mprotect, memory, size, protection) == 0;
	if (buffers_linux_end_exact(former, is_done ? memory : MAP_FAILED))
		return is_done;
	syscall(SYS_mprotect, memory, size, PROT_NONE);
	errno = EACCES;
	return false;
}

void buffers_sys_unmap(void *memory, size_t size)
{
	syscall(SYS_munmap, memory, size);
}
