/* SPDX-License-Identifier: MIT */
/*
 * sys.h: the system calls of the file-based rendezvous
 *
 * A POSIX port implements these functions and uses rendezvous-files.c as it is.  They enter
 * the kernel without the C library where the port can, for three reasons: a program may
 * replace functions of the C library and call this library from there; wrappers such as
 * fakeroot change users and files; and a thread that is cancelled in a C library function
 * would leave its descriptor open.
 *
 * A failure is -1, or false, with errno set.  A read or write that is interrupted is repeated.
 */
#ifndef BUFFERS_POSIX_SYS_H
#define BUFFERS_POSIX_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#pragma GCC visibility push(hidden)

struct buffers_sys_status {
	uint64_t device, file;
	uint32_t mode, user, links;
	int64_t mtime;			/* seconds */
	uint32_t mtime_nanoseconds;
};

/* open(2) and its relatives; descriptors are closed on exec. */
int buffers_sys_open(int dir, const char *name, int flags, unsigned mode);
bool buffers_sys_close(int file);
int buffers_sys_duplicate(int file, int least);
ssize_t buffers_sys_read(int file, void *bytes, size_t size);
bool buffers_sys_write(int file, const void *bytes, size_t size);
bool buffers_sys_status_of(int file, struct buffers_sys_status *status);
bool buffers_sys_set_mode(int file, unsigned mode);

/* Exclusive flock(2) without waiting: EWOULDBLOCK if another descriptor has it. */
bool buffers_sys_lock_file(int file);

/* Names in a directory; a symbolic link is not followed. */
bool buffers_sys_status_at(int dir, const char *name, struct buffers_sys_status *status);
bool buffers_sys_make_dir(int dir, const char *name, unsigned mode);
bool buffers_sys_remove_dir(int dir, const char *name);
bool buffers_sys_remove(int dir, const char *name);
bool buffers_sys_link(int dir, const char *name, int new_dir, const char *new_name);
bool buffers_sys_rename(int dir, const char *name, const char *new_name);

/*
 * Reads the next records of a directory, at most `size` bytes: their size, 0 at the end.
 * opendir(3) would call malloc(3).  buffers_sys_seek_dir() continues behind a record of which
 * buffers_sys_record_end() gave the position, also in another process, or starts again at 0.
 */
enum { BUFFERS_SYS_LONGEST_RECORD = 280 };
long buffers_sys_read_dir(int dir, char *records, size_t size);
void buffers_sys_seek_dir(int dir, uint64_t position);
uint64_t buffers_sys_record_end(const char *record);
const char *buffers_sys_record_name(const char *record);
size_t buffers_sys_record_size(const char *record);

/* Real, effective and saved ids. */
bool buffers_sys_ids(uint32_t users[3], uint32_t groups[3]);

/* Whether the program was started with more rights than its user has (AT_SECURE). */
bool buffers_sys_is_privileged(void);

/* Whether a process has this number. */
bool buffers_sys_is_pid_used(pid_t pid);

/* Nanoseconds since 1970, 0 if unknown. */
int64_t buffers_sys_now(void);

/* Whether a file may grow to this size: a write beyond the limit would raise SIGXFSZ. */
bool buffers_sys_may_write(uint64_t size);

#pragma GCC visibility pop

#endif
