/* SPDX-License-Identifier: MIT */
/*
 * write.c: writes memory that is mapped without write permission
 *
 * No mapping changes its protection, and none is writable and executable: policy may forbid
 * both.  There are three methods:
 *
 *  - /proc/self/mem, for private memory.  The kernel copies a page first that a child shares.
 *    It may write eight bytes in parts.  Bytes that must change at once are therefore
 *    written to a copy of their page, which then replaces the page.  Where nothing may replace
 *    the page, they are written if only one of them changes.
 *  - A second mapping of the same memory, for shared memory.
 *  - A copy of the pages in a file without a name, for private memory without /proc.
 *
 * A descriptor of /proc/self/mem stays open for one call only.  In a child it would write to
 * the parent; and after a program closed all descriptors, its number would mean another file.
 */

#include "config.h"
#include "base/atomic-store.h"
#include "platform/linux/internal.h"

#include <limits.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#ifndef MFD_EXEC
# define MFD_EXEC 0x0010U
#endif

#define MFD_FLAGS (MFD_CLOEXEC | MFD_ALLOW_SEALING)
#define ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

#define PIECE 4096	/* no page is smaller */

/* The bytes to write, and the pages that contain their destination. */
struct destination {
	uintptr_t address;
	const char *bytes;
	size_t size;
	bool is_atomic;		/* must change at once */
	bool becomes_rx;	/* all of its pages, which are writable */
	uintptr_t start;
	size_t length;
};

int buffers_linux_classify_write_failure(void)
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
	buffers_sys_unmap(memory, length);
	return error;
}

/*
 * Files
 */

/* Output to a closed standard stream must not land in the file. */
static int move_above_streams(int file)
{
	int copy;

	if (file < 0 || file > STDERR_FILENO)
		return file;
	copy = buffers_sys_duplicate(file, STDERR_FILENO + 1);
	buffers_sys_close(file);
	return copy;
}

/* Each 32-bit processor passes the offset of pwrite(2) in its own way. */
static ssize_t write_once(int file, uintptr_t at, const void *bytes, size_t size)
{
#if UINTPTR_MAX > UINT32_MAX
	return syscall(SYS_pwrite64, file, bytes, size, at);
#else
	struct iovec part = { (void *)(uintptr_t)bytes, size };

	return syscall(SYS_pwritev, file, &part, 1L, at, 0L);
#endif
}

static ssize_t write_at(int file, uintptr_t at, const void *bytes, size_t size)
{
	ssize_t written;

	do
		written = write_once(file, at, bytes, size);
	while (written < 0 && errno == EINTR);
	return written;
}

static bool write_all(int file, uintptr_t at, const char *bytes, size_t size)
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
 * Private memory: /proc/self/mem
 */

static bool write_backward(int file, const struct destination *destination)
{
	size_t left = destination->size;
	size_t piece;

	for (; left; left -= piece) {
		piece = left < PIECE ? left : PIECE;
		if (!write_all(file, destination->address + left - piece,
			       destination->bytes + left - piece, piece))
			return false;
	}
	return true;
}

static bool write_in_place(int file, const struct destination *destination)
{
	if (buffers_must_copy_backward(destination->address, destination->bytes,
				       destination->size))
		return write_backward(file, destination);
	return write_all(file, destination->address, destination->bytes, destination->size);
}

/* Then no reader sees a part of the change, in however many parts the kernel writes. */
static bool changes_one_byte(const struct destination *destination)
{
	const char *old = (const char *)destination->address;
	unsigned changed = 0;

	for (size_t i = 0; i < destination->size; i++)
		changed += old[i] != destination->bytes[i];
	return changed <= 1;
}

/*
 * Threads that execute there meanwhile wait in the kernel, then find the copy.  Fails for sealed
 * memory: mseal(2).
 */
static int replace_pages(void *copy, const struct destination *destination)
{
	if (syscall(SYS_mremap, copy, destination->length, destination->length,
		    MREMAP_MAYMOVE | MREMAP_FIXED, destination->start) ==
	    (long)destination->start)
		return 0;
	return unmap_after(buffers_linux_classify_write_failure(), copy, destination->length);
}

static bool is_zero(const char *bytes, size_t size)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* New pages are zero, and take no memory as long as they are not written. */
static bool write_used_pages(int file, uintptr_t to, const struct destination *destination)
{
	const char *from = (const char *)destination->start;
	size_t page = buffers_platform_granularity();
	size_t used = 0;

	for (size_t at = 0; at <= destination->length; at += page) {
		if (at < destination->length && !is_zero(from + at, page))
			continue;
		if (!write_all(file, to + used, from + used, at - used))
			return false;
		used = at + page;
	}
	return true;
}

/* The system calls take all of the time: the code may as well be small. */
__attribute__((cold))
static int replace_by_copy(int file, const struct destination *destination, int protection)
{
	size_t offset = destination->address - destination->start;
	void *copy = buffers_sys_map(destination->length, protection,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (copy == MAP_FAILED)
		return buffers_linux_classify_write_failure();
	if (!write_used_pages(file, (uintptr_t)copy, destination) ||
	    !write_all(file, (uintptr_t)copy + offset, destination->bytes, destination->size))
		return unmap_after(EACCES, copy, destination->length);
	return replace_pages(copy, destination);
}

static int write_to_copy(int file, const struct destination *destination)
{
	unsigned permissions;

	if (!buffers_linux_permissions(destination->address, &permissions) ||
	    (permissions & PERM_SHARED))
		return EACCES;
	if (permissions & PERM_WRITE)	/* a protection key forbids it: pkeys(7) */
		return write_in_place(file, destination) ? 0 : EACCES;
	return replace_by_copy(file, destination,
			       PROT_READ | (permissions & PERM_EXECUTE ? PROT_EXEC : 0));
}

/* Sandboxes may have put another file in the place of /proc/self/mem. */
static bool is_of_proc(int file)
{
	struct statfs system;

#ifdef SYS_fstatfs64	/* on 32-bit processors */
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
 * Whether the file has this program's addresses.  Under an emulator that keeps the program's
 * memory elsewhere, a write would hit the emulator.
 */
static bool has_own_addresses(int file)
{
	enum { UNKNOWN, SAME, OTHER };
	static int answer;	/* every thread finds the same */

	if (__atomic_load_n(&answer, __ATOMIC_RELAXED) == UNKNOWN)
		__atomic_store_n(&answer, shows_token(file) ? SAME : OTHER, __ATOMIC_RELAXED);
	return __atomic_load_n(&answer, __ATOMIC_RELAXED) == SAME;
}

/*
 * Descriptors during fork
 *
 * A descriptor that is open while another thread forks leads the child to its parent's
 * memory, so the child closes it.  The kernel copies descriptors before memory: the parent
 * may have closed it since.  The library therefore remembers each number for good, and opens
 * the file with flags that no other code uses for it, to recognise its own.
 */

#define OWN_FLAGS (O_RDWR | O_NONBLOCK | O_DSYNC)	/* harmless for any file */

enum { MOST_TRACKED = 16, HIGHEST_SEARCHED = 1024 };

static struct {
	bool is_opening;	/* a descriptor may be open that is not tracked yet */
	unsigned count;
	int files[MOST_TRACKED];
} tracked;

static void track_fd(int file)
{
	unsigned i = 0;

	while (i < tracked.count && i < MOST_TRACKED && tracked.files[i] != file)
		i++;
	if (i == tracked.count || i == MOST_TRACKED)
		tracked.files[tracked.count++ % MOST_TRACKED] = file;
}

/* The caller of buffers_platform_write() makes sure that one thread at a time comes here. */
static int open_memory(const char *name)
{
	int file;

	__atomic_store_n(&tracked.is_opening, true, __ATOMIC_SEQ_CST);
	file = move_above_streams(buffers_sys_open(AT_FDCWD, name, OWN_FLAGS | O_NOCTTY, 0));
	if (file >= 0)
		track_fd(file);
	__atomic_store_n(&tracked.is_opening, false, __ATOMIC_SEQ_CST);
	return file;
}

static void close_if_own(int file)
{
	long flags = syscall(SYS_fcntl, file, F_GETFL);

	if (flags >= 0 && (flags & (O_ACCMODE | OWN_FLAGS)) == OWN_FLAGS && is_of_proc(file))
		buffers_sys_close(file);
}

__attribute__((cold))
void buffers_linux_write_after_fork(void)
{
	for (unsigned i = 0; i < tracked.count && i < MOST_TRACKED; i++)
		close_if_own(tracked.files[i]);
	for (int file = 0; tracked.is_opening && file < HIGHEST_SEARCHED; file++)
		close_if_own(file);
	tracked.is_opening = false;
}

/* One byte changes in place only if nothing may replace the page. */
static int write_by(int file, const struct destination *destination)
{
	int error = EACCES;

	if (destination->becomes_rx)
		return replace_by_copy(file, destination, PROT_READ | PROT_EXEC);
	if (destination->is_atomic)
		error = write_to_copy(file, destination);
	if (error == EACCES && (!destination->is_atomic || changes_one_byte(destination)) &&
	    write_in_place(file, destination))
		error = 0;
	return error;
}

static int write_through_file(const char *name, const struct destination *destination)
{
	int file = open_memory(name);
	int error = EACCES;

	if (file < 0)
		return buffers_linux_classify_write_failure();
	if (is_of_proc(file) && has_own_addresses(file))
		error = write_by(file, destination);
	buffers_sys_close(file);
	return error;
}

/* /proc/self/mem accepts nothing after the main thread has ended. */
static int write_by_proc(const struct destination *destination)
{
	int error = write_through_file("/proc/self/mem", destination);

	return error == EACCES ? write_through_file("/proc/thread-self/mem", destination) : error;
}

/*
 * Shared memory: a second mapping
 */

/*
 * Before Linux 4.14, mremap(2) maps other memory for a private mapping instead of failing.
 * If another process writes at the same moment, both mappings show its bytes.
 */
static bool has_arrived(const struct destination *destination, const char *written)
{
	return memcmp((const void *)destination->address, written, destination->size) == 0 ||
	       memcmp(written, destination->bytes, destination->size) != 0;
}

/* The second mapping may be longer than the first: its end is then beyond all memory. */
static bool is_whole(const struct destination *destination, const char *alias)
{
	return destination->length <= buffers_platform_granularity() ||
	       buffers_platform_is_readable((uintptr_t)alias + destination->size - 1, 1);
}

/* EINVAL: the memory is private. */
static int write_by_view(const struct destination *destination)
{
	void *view;
	char *alias;
	int error = buffers_linux_map_twice(destination->start, destination->length, false, &view);

	if (error)
		return error;
	alias = (char *)view + (destination->address - destination->start);
	if (!is_whole(destination, alias))
		return unmap_after(EACCES, view, destination->length);
	buffers_copy_through_alias(alias, destination->address, destination->bytes,
				   destination->size);
	return unmap_after(has_arrived(destination, alias) ? 0 : EACCES, view,
			   destination->length);
}

/*
 * Private memory: a file
 */

static int make_file(void)
{
	static const char name[] = "reloaded-buffers";
	int file = (int)syscall(SYS_memfd_create, name, MFD_FLAGS | MFD_EXEC);

	if (file < 0 && errno == EINVAL)	/* before Linux 6.3 */
		file = (int)syscall(SYS_memfd_create, name, MFD_FLAGS);
	return move_above_streams(file);
}

/* A child that was forked before the file was sealed may have written to it. */
static bool is_as_written(const char *copy, const struct destination *destination)
{
	size_t before = destination->address - destination->start;
	size_t after = before + destination->size;

	return memcmp(copy, (const char *)destination->start, before) == 0 &&
	       memcmp(copy + before, destination->bytes, destination->size) == 0 &&
	       memcmp(copy + after, (const char *)destination->start + after,
		      destination->length - after) == 0;
}

static int map_file(int file, const struct destination *destination)
{
	void *copy;

	if (!write_all(file, 0, (const char *)destination->start, destination->length) ||
	    !write_all(file, destination->address - destination->start, destination->bytes,
		       destination->size) ||
	    syscall(SYS_fcntl, file, F_ADD_SEALS, ALL_SEALS) != 0)
		return buffers_linux_classify_write_failure();
	copy = buffers_sys_map(destination->length, PROT_READ | PROT_EXEC, MAP_PRIVATE, file);
	if (copy == MAP_FAILED)
		return buffers_linux_classify_write_failure();
	return is_as_written(copy, destination) ?
	       replace_pages(copy, destination) :
	       unmap_after(EACCES, copy, destination->length);
}

__attribute__((cold))
static int write_by_file(const struct destination *destination)
{
	int file, error;

	if (!buffers_sys_may_write(destination->length))
		return EACCES;
	file = make_file();
	if (file < 0)
		return buffers_linux_classify_write_failure();
	error = map_file(file, destination);
	buffers_sys_close(file);
	return error;
}

/* Tries a view of new shared memory: 0, or the reason why there is none. */
static int try_view(void)
{
	size_t page = buffers_platform_granularity();
	void *memory = buffers_sys_map(page, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1);
	void *view;
	int error;

	if (memory == MAP_FAILED)
		return buffers_linux_classify_write_failure();
	error = buffers_linux_map_twice((uintptr_t)memory, page, false, &view);
	if (!error)
		buffers_sys_unmap(view, page);
	return unmap_after(error, memory, page);
}

/*
 * 0: memory of which a view failed is private.  Without the list of mappings, EINVAL says so,
 * unless a filter or an emulator returns it for every view.
 */
__attribute__((cold))
static int confirm_private(uintptr_t address, int view_error)
{
	unsigned permissions;

	if (buffers_linux_permissions(address, &permissions))
		return permissions & PERM_SHARED ? view_error : 0;
	return view_error == EINVAL ? try_view() : view_error;
}

/* A copy of shared memory would part the processes that share it: makes one of private memory. */
static int write_by_view_or_file(const struct destination *destination,
				 enum buffers_write_mode mode)
{
	int error = write_by_view(destination);

	if (error && mode == BUFFERS_WRITE_IN_USE) {
		error = confirm_private(destination->address, error);
		if (!error)
			return write_by_file(destination);
	}
	return error == EINVAL ? EACCES : error;
}

/*
 * Linux 6.12 allocates a huge page only for a mapping around it, which the view is not.  A read
 * at the memory's own address allocates it before.  Arenas without huge pages pay a fault a page.
 */
__attribute__((cold))
static void allocate_shared(const struct destination *destination)
{
	for (size_t at = 0; at < destination->length; at += PIECE)
		(void)*(const volatile char *)(destination->start + at);
}

int buffers_platform_write(uintptr_t address, const void *bytes, size_t size,
			   enum buffers_write_mode mode)
{
	uintptr_t start = buffers_page_down(address);
	struct destination destination = {
		.address = address, .bytes = bytes, .size = size,
		.is_atomic = mode == BUFFERS_WRITE_IN_USE &&
			     buffers_is_atomic_size(address, size),
		.start = start, .length = buffers_page_up(address + size) - start,
	};
	int error;
	int lacking = 0;

	if (mode == BUFFERS_WRITE_FREE_SHARED) {
		allocate_shared(&destination);
	} else {
		error = write_by_proc(&destination);
		if (!error)
			return 0;
		lacking = error == ENOMEM ? ENOMEM : 0;
	}
	/* A view of private memory fails, and the kernel logs the first one: try /proc before. */
	error = mode == BUFFERS_WRITE_FREE_PRIVATE ? write_by_file(&destination) :
						     write_by_view_or_file(&destination, mode);
	return error == EACCES && lacking ? lacking : error;
}

/*
 * The copies are executable, and writable at no time.  Memory that the caller has unmapped in part
 * would fault where it is compared, while this thread holds a lock.
 */
int buffers_platform_replace(uintptr_t address, size_t size)
{
	struct destination destination = {
		.address = address, .bytes = (const char *)address, .size = 0, .becomes_rx = true,
		.start = address, .length = size,
	};
	int error, lacking;

	if (!buffers_platform_is_readable(address, size))
		return EACCES;
	lacking = error = write_by_proc(&destination);
	if (error)
		error = write_by_file(&destination);
	return error == EACCES ? lacking : error;
}
