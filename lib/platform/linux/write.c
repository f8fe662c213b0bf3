/* SPDX-License-Identifier: MIT */
/*
 * platform-linux-write.c: writing memory that is mapped without permission to write
 *
 * No mapping that is there changes its protection, and none is made writable and
 * executable, for policy may forbid either.  There are three ways:
 *
 *  - /proc/self/mem, for private memory.  What it writes is copied first if a child
 *    has it, too.  The kernel may write eight bytes in parts, so those that have to
 *    change as a whole are written to a copy of their page, which then takes its place.
 *  - A second mapping of the same memory, for shared memory.
 *  - A copy of the pages in a file without a name, for private memory where there is
 *    no /proc.
 *
 * A descriptor of /proc/self/mem is never kept: a child could write to its parent
 * through it, and who closes all descriptors would have us write to what he opens next.
 */

#include "config.h"
#include "platform/platform.h"
#include "platform/linux/sys.h"
#include "base/atomic-store.h"

#include <limits.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#ifndef MFD_EXEC
# define MFD_EXEC 0x0010U
#endif

#define MFD_FLAGS (MFD_CLOEXEC | MFD_ALLOW_SEALING)
#define ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

#define PIECE 4096	/* no page is smaller */

/* Memory to write, and the pages that it is part of. */
struct place {
	uintptr_t address;
	const char *bytes;
	size_t size;
	bool is_whole;		/* to change at once */
	uintptr_t start;
	size_t length;
};

/* Of errno: whether the system lacks something, or refuses. */
static int failure(void)
{
	switch (errno) {
	case ENOMEM:
	case EAGAIN:
	case EMFILE:
	case ENFILE:
		return ENOMEM;
	default:
		return EACCES;
	}
}

static int unmap_after(int error, void *memory, size_t length)
{
	sys_unmap(memory, length);
	return error;
}

/*
 * Files
 */

/* What others print to a standard stream that is closed must not end up in it. */
static int above_streams(int file)
{
	int copy;

	if (file < 0 || file > STDERR_FILENO)
		return file;
	copy = (int)syscall(SYS_fcntl, file, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	sys_close(file);
	return copy;
}

static ssize_t write_at(int file, uintptr_t at, const void *bytes, size_t size)
{
	struct iovec part = { (void *)(uintptr_t)bytes, size };
	ssize_t written;

	do	/* pwrite() has its offset elsewhere on every architecture of 32 bits */
		written = syscall(SYS_pwritev, file, &part, 1L, at, 0L);
	while (written < 0 && errno == EINTR);
	return written;
}

static bool write_part(int file, uintptr_t at, const char *bytes, size_t size)
{
	ssize_t written;

	for (; size; at += (size_t)written, bytes += written, size -= (size_t)written) {
		written = write_at(file, at, bytes, size < INT_MAX ? size : INT_MAX);
		if (written <= 0)
			return false;
	}
	return true;
}

/*
 * Private memory, by /proc/self/mem
 */

static bool write_pieces_from_end(int file, const struct place *place)
{
	size_t left = place->size;
	size_t piece;

	for (; left; left -= piece) {
		piece = left < PIECE ? left : PIECE;
		if (!write_part(file, place->address + left - piece, place->bytes + left - piece,
				piece))
			return false;
	}
	return true;
}

static bool write_in_place(int file, const struct place *place)
{
	if (buffers_must_copy_backward(place->address, place->bytes, place->size))
		return write_pieces_from_end(file, place);
	return write_part(file, place->address, place->bytes, place->size);
}

/* Threads that come here meanwhile wait in the kernel, and find the copy. */
static int put_copy(void *copy, const struct place *place)
{
	if (syscall(SYS_mremap, copy, place->length, place->length,
		    MREMAP_MAYMOVE | MREMAP_FIXED, place->start) == (long)place->start)
		return 0;
	return unmap_after(failure(), copy, place->length);
}

static int write_copy(int file, const struct place *place)
{
	size_t offset = place->address - place->start;
	unsigned permissions;
	void *copy;

	if (!buffers_platform_permissions(place->address, &permissions) ||
	    (permissions & SYS_MAP_SHARED))
		return EACCES;
	if (permissions & SYS_MAP_WRITE)	/* not to this thread: pkeys(7) */
		return write_in_place(file, place) ? 0 : EACCES;
	copy = sys_map(place->length,
		       PROT_READ | (permissions & SYS_MAP_EXECUTE ? PROT_EXEC : 0),
		       MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (copy == MAP_FAILED)
		return failure();
	if (!write_part(file, (uintptr_t)copy, (const char *)place->start, place->length) ||
	    !write_part(file, (uintptr_t)copy + offset, place->bytes, place->size))
		return unmap_after(EACCES, copy, place->length);
	return put_copy(copy, place);
}

/* Sandboxes have files of their own by these names. */
static bool is_of_proc(int file)
{
	struct statfs system;

#ifdef SYS_fstatfs64	/* where words have 32 bits */
	return syscall(SYS_fstatfs64, file, sizeof(system), &system) == 0 &&
	       system.f_type == PROC_SUPER_MAGIC;
#else
	return syscall(SYS_fstatfs, file, &system) == 0 && system.f_type == PROC_SUPER_MAGIC;
#endif
}

static bool shows_token(int file)
{
	uint64_t token = buffers_platform_random();
	uint64_t copy = ~token;
	struct iovec part = { &copy, sizeof(copy) };

	return syscall(SYS_preadv, file, &part, 1L, &token, 0L) == sizeof(copy) &&
	       copy == token;
}

/*
 * Whether addresses mean in the file what they mean here.  Under emulators that keep
 * the program's memory elsewhere, a write would be to their own.
 */
static bool is_of_this_memory(int file)
{
	enum { UNKNOWN, SAME, OTHER };
	static int answer;	/* the same for all who find it */

	if (__atomic_load_n(&answer, __ATOMIC_RELAXED) == UNKNOWN)
		__atomic_store_n(&answer, shows_token(file) ? SAME : OTHER, __ATOMIC_RELAXED);
	return __atomic_load_n(&answer, __ATOMIC_RELAXED) == SAME;
}

/*
 * What is open while a child is forked
 *
 * leads from the child to the memory of its parent, so the child closes it.  The kernel
 * copies descriptors before memory: it may have been closed here since.  So numbers are
 * noted for good, and flags that nobody else opens such a file with tell what is ours.
 */

#define OUR_FLAGS (O_RDWR | O_NONBLOCK | O_DSYNC)	/* harmless for any file */

enum { MOST_NOTED = 16, FAR_ENOUGH = 1024 };

static struct {
	bool is_opening;	/* one that is not noted yet may be open */
	unsigned count;
	int files[MOST_NOTED];
} noted;

static void note(int file)
{
	unsigned i = 0;

	while (i < noted.count && i < MOST_NOTED && noted.files[i] != file)
		i++;
	if (i == noted.count || i == MOST_NOTED)
		noted.files[noted.count++ % MOST_NOTED] = file;
}

/* One at a time: the caller of buffers_platform_write() sees to that. */
static int open_memory(const char *name)
{
	int file;

	__atomic_store_n(&noted.is_opening, true, __ATOMIC_SEQ_CST);
	file = above_streams(sys_open(AT_FDCWD, name, OUR_FLAGS | O_NOCTTY, 0));
	if (file >= 0)
		note(file);
	__atomic_store_n(&noted.is_opening, false, __ATOMIC_SEQ_CST);
	return file;
}

static void close_if_ours(int file)
{
	long flags = syscall(SYS_fcntl, file, F_GETFL);

	if (flags >= 0 && (flags & (O_ACCMODE | OUR_FLAGS)) == OUR_FLAGS && is_of_proc(file))
		sys_close(file);
}

void buffers_platform_write_after_fork(void)
{
	for (unsigned i = 0; i < noted.count && i < MOST_NOTED; i++)
		close_if_ours(noted.files[i]);
	for (int file = 0; noted.is_opening && file < FAR_ENOUGH; file++)
		close_if_ours(file);
	noted.is_opening = false;
}

static int write_by(const char *name, const struct place *place)
{
	int file = open_memory(name);
	int error = EACCES;

	if (file < 0)
		return failure();
	if (is_of_proc(file) && is_of_this_memory(file)) {
		if (place->is_whole)
			error = write_copy(file, place);
		else if (write_in_place(file, place))
			error = 0;
	}
	sys_close(file);
	return error;
}

/* The first does nothing once the main thread has ended. */
static int write_by_proc(const struct place *place)
{
	int error = write_by("/proc/self/mem", place);

	return error == EACCES ? write_by("/proc/thread-self/mem", place) : error;
}

/*
 * Shared memory, by a second mapping
 */

/*
 * Before Linux 4.14 such a mapping of private memory is made, and is of other memory.
 * Where another process writes at the same moment, both see what that wrote.
 */
static bool has_arrived(const struct place *place, const char *written)
{
	return memcmp((const void *)place->address, written, place->size) == 0 ||
	       memcmp(written, place->bytes, place->size) != 0;
}

/* EINVAL: the memory is private. */
static int write_by_view(const struct place *place)
{
	/* From a length of 0 it is made anew, and the old one stays. */
	char *view = (char *)syscall(SYS_mremap, place->start, 0L, place->length,
				     MREMAP_MAYMOVE, 0L);
	char *to;

	if (view == MAP_FAILED)
		return errno == EINVAL ? EINVAL : failure();
	/* by another thread, meanwhile */
	syscall(SYS_madvise, view, place->length, MADV_DONTFORK);
	if (syscall(SYS_mprotect, view, place->length, PROT_READ | PROT_WRITE) != 0)
		return unmap_after(failure(), view, place->length);
	to = view + (place->address - place->start);
	buffers_copy_through_alias(to, place->address, place->bytes, place->size);
	return unmap_after(has_arrived(place, to) ? 0 : EACCES, view, place->length);
}

/*
 * Private memory, by a file
 */

static int make_file(void)
{
	static const char name[] = "reloaded-buffers";
	int file = (int)syscall(SYS_memfd_create, name, MFD_FLAGS | MFD_EXEC);

	if (file < 0 && errno == EINVAL)	/* before Linux 6.3 */
		file = (int)syscall(SYS_memfd_create, name, MFD_FLAGS);
	return above_streams(file);
}

/* A child that was forked before the file was sealed may have written to it. */
static bool is_as_written(const char *copy, const struct place *place)
{
	size_t before = place->address - place->start;
	size_t after = before + place->size;

	return memcmp(copy, (const char *)place->start, before) == 0 &&
	       memcmp(copy + before, place->bytes, place->size) == 0 &&
	       memcmp(copy + after, (const char *)place->start + after, place->length - after) == 0;
}

static int map_file(int file, const struct place *place)
{
	void *copy;

	if (!write_part(file, 0, (const char *)place->start, place->length) ||
	    !write_part(file, place->address - place->start, place->bytes, place->size) ||
	    syscall(SYS_fcntl, file, F_ADD_SEALS, ALL_SEALS) != 0)
		return failure();
	copy = sys_map(place->length, PROT_READ | PROT_EXEC, MAP_PRIVATE, file);
	if (copy == MAP_FAILED)
		return failure();
	return is_as_written(copy, place) ? put_copy(copy, place) :
					    unmap_after(EACCES, copy, place->length);
}

static int write_by_file(const struct place *place)
{
	int file, error;

	if (!sys_may_write(place->length))
		return EACCES;
	file = make_file();
	if (file < 0)
		return failure();
	error = map_file(file, place);
	sys_close(file);
	return error;
}

/* Emulators say otherwise than the kernel of a view that cannot be. */
static bool is_private(uintptr_t address)
{
	unsigned permissions;

	return buffers_platform_permissions(address, &permissions) &&
	       !(permissions & SYS_MAP_SHARED);
}

int buffers_platform_write(uintptr_t address, const void *bytes, size_t size,
			   enum buffers_write_mode target)
{
	uintptr_t start = buffers_page_down(address);
	struct place place = {
		.address = address, .bytes = bytes, .size = size,
		.is_whole = target == BUFFERS_WRITE_IN_USE && buffers_is_atomic_size(address, size),
		.start = start, .length = buffers_page_up(address + size) - start,
	};
	int error = EINVAL;
	int lacking = 0;

	if (target != BUFFERS_WRITE_FREE_SHARED) {
		error = write_by_proc(&place);
		if (!error)
			return 0;
		lacking = error == ENOMEM ? ENOMEM : 0;
	}
	/* Harmless for private memory, but the kernel remarks on it in its log, once. */
	if (target != BUFFERS_WRITE_FREE_PRIVATE) {
		error = write_by_view(&place);
		if (error && target == BUFFERS_WRITE_IN_USE && is_private(address))
			error = EINVAL;
	}
	if (target == BUFFERS_WRITE_FREE_PRIVATE || error == EINVAL)
		error = write_by_file(&place);
	return error == EACCES && lacking ? lacking : error;
}
