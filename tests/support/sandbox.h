/* SPDX-License-Identifier: MIT */
/* sandbox.h: a /tmp of a test's own, and what the library leaves there */
#ifndef TESTS_SANDBOX_H
#define TESTS_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SHARED_DIR	"/tmp/.reloaded/memory.buffers"
#define RENDEZVOUS_STEM	"Reloaded.Memory.Buffers.MemoryBuffer"
#define RENDEZVOUS_NAME	RENDEZVOUS_STEM ", PID "

/*
 * Gives this process, and the children it makes later, an empty tmpfs on /tmp
 * that nobody else sees, mounted with these options (NULL: mode=1777).
 * False where the kernel does not let this user do so.
 *
 * An ordinary user gets a user namespace with only itself in it, and no
 * capabilities are left when this returns.
 */
bool sandbox_tmp(const char *options);

/*
 * The same by a plain mount(2), for one who is privileged in its own mount
 * namespace already, on any directory.
 */
bool mount_tmpfs(const char *directory, const char *options);

/* "PLACE/Reloaded..., PID n"; `place` NULL means the shared one.  Static memory of 4 strings. */
const char *rendezvous_path(const char *place, pid_t process);

/* The same of another kind of memory: ".RW" or ".RX". */
const char *rendezvous_path_of(const char *place, const char *kind, pid_t process);

/* "/tmp/.reloaded-<effective uid>/memory.buffers" */
const char *own_dir(void);

/* Makes the directories of a place as the library would. */
void make_dir(const char *place);

/* Writes a file whole, made anew with mode 0600. */
void write_file(const char *path, const void *bytes, size_t size);

/*
 * Makes a file, or a symbolic link itself, an hour old: the young may be spared
 * for being somebody's draft.
 */
void make_old(const char *path);

/* The first word of a file, 0 when there is none or it is short. */
unsigned long long read_address(const char *path);

/* Whether the file holds the address of the locator that lists the process's first items. */
bool is_named_in(const char *path, const void *item);

/* The files in a place, 0 where there is none. */
unsigned count_files(const char *place);

#endif
