/* SPDX-License-Identifier: MIT */
/* sandbox.h: a private /tmp for a test, and the rendezvous files in it */
#ifndef TESTS_SANDBOX_H
#define TESTS_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SHARED_DIR	"/tmp/.reloaded/memory.buffers"
#define SHARED_INDEX	"/tmp/.reloaded/memory.buffers.index"	/* second links to the files */
#define RENDEZVOUS_STEM	"Reloaded.Memory.Buffers.MemoryBuffer"
#define RENDEZVOUS_NAME	RENDEZVOUS_STEM ", PID "

/*
 * Mounts an empty tmpfs on /tmp that only this process and its later children see.  `options`
 * are its mount options (NULL: mode=1777).  Returns false if the kernel does not let this user
 * do so.
 *
 * An ordinary user also enters a user namespace and has no capabilities afterwards.
 */
bool sandbox_tmp(const char *options);

/* Mounts a tmpfs on any directory.  The caller needs the right to mount in its namespace. */
bool mount_tmpfs(const char *directory, const char *options);

/*
 * "DIR/Reloaded..., PID n"; a `dir` of NULL means SHARED_DIR.  The next four calls reuse the
 * string.
 */
const char *rendezvous_path(const char *dir, pid_t pid);

/* The same for another kind of memory: ".RW" or ".RX". */
const char *rendezvous_path_of(const char *dir, const char *kind, pid_t pid);

/* "/tmp/.reloaded-<effective uid>/memory.buffers" */
const char *own_dir(void);

/* Makes the directory, its parent and its index as the library does. */
void make_dir(const char *dir);

/* Creates or truncates a file with mode 0600 and writes it. */
void write_file(const char *path, const void *bytes, size_t size);

/*
 * Sets the times of a file, or of a symbolic link itself, to an hour ago.  The library spares
 * recent files, because they may be another process's draft.
 */
void make_old(const char *path);

/* The first word of a file; 0 if the file is missing or shorter. */
unsigned long long read_address(const char *path);

/* Whether the file names the first locator of a chain that contains the item's locator. */
bool is_named_in(const char *path, const void *item);

/* The number of entries in a directory; 0 if it is missing. */
unsigned count_files(const char *dir);

#endif
