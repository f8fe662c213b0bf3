/* SPDX-License-Identifier: MIT */
/*
 * platform.h: everything that the library asks of the operating system
 *
 * A port is a folder beside this file.  It implements the core, and those of the optional
 * groups that its port.h names; defaults.c has the others.  doc/porting.md has the order of
 * work.
 *
 * Rules for every function:
 *
 * - An int result is 0 or a positive errno value.  errno itself may change.
 * - None calls malloc(3), takes a lock that the same thread may hold, or is a cancellation
 *   point.  Any thread may call any function at any time.
 * - Addresses and sizes are whole pages unless a comment says otherwise.  Spans are half
 *   open and end within the part that buffers_platform_usable() leaves of everything.
 */
#ifndef BUFFERS_PLATFORM_H
#define BUFFERS_PLATFORM_H

#include "base/kind.h"
#include "base/span.h"

#if defined(__linux__)
# include "platform/linux/port.h"
#elif defined(_WIN32)
# include "platform/windows/port.h"
#else
# error "no port for this system: doc/porting.md says how to write one"
#endif

#pragma GCC visibility push(hidden)

/*
 * Core: mapping
 */

/* Granularity of addresses and sizes, a power of two of at least 4096. */
__attribute__((const))
size_t buffers_platform_granularity(void);

static inline uintptr_t buffers_page_down(uintptr_t address)
{
	return address & ~(uintptr_t)(buffers_platform_granularity() - 1);
}

static inline uintptr_t buffers_page_up(uintptr_t address)
{
	return buffers_page_down(address + buffers_platform_granularity() - 1);
}

/*
 * The part of a range where the library may map: above the addresses that the system
 * protects (at least 64 KiB), up to the end of the user's addresses.  The result may be
 * empty or inverted.
 */
struct buffers_span buffers_platform_usable(struct buffers_span range);

/*
 * Maps zeroed memory of this kind at exactly `address`.  Never replaces a mapping, and leaves
 * the gap below a mapping that can grow down.
 * EEXIST: that address is not available, another may be.
 * ENOMEM: no more memory or mappings.  EACCES: policy forbids this kind.
 */
int buffers_platform_map(uintptr_t address, size_t size, enum buffers_kind kind,
			 enum buffers_map_flags flags);

/*
 * The same at an address of the system's choice.  A single page of RW memory is made
 * resident at once.  ENOMEM, EACCES.
 */
int buffers_platform_map_anywhere(size_t size, enum buffers_kind kind,
				  enum buffers_map_flags flags, uintptr_t *address);

/*
 * Unmaps one whole mapping.
 * EINVAL: there is no such mapping.  ENOMEM: the system refuses.
 */
int buffers_platform_unmap(uintptr_t address, size_t size);

/*
 * Core: the mappings of the process
 *
 * A search for a gap opens a list of mappings, asks it, and closes it.  The caller owns the
 * structure.
 */
struct buffers_maps {
	int descriptor;
	uintptr_t handle;	/* another process, or 0 */
	enum {
		BUFFERS_MAPS_QUERY,	/* buffers_platform_maps_find() is fast */
		BUFFERS_MAPS_SCAN,	/* only buffers_platform_maps_scan() works */
		BUFFERS_MAPS_PROBE,	/* _find() works, but probes page by page */
	} method;
};

void buffers_platform_maps_open(struct buffers_maps *maps);
void buffers_platform_maps_close(struct buffers_maps *maps);

/*
 * Finds the lowest mapping that overlaps `span`.  *mapping may be cut off at the start of
 * the span.  ENOENT: the whole span is free.
 */
int buffers_platform_maps_find(const struct buffers_maps *maps, struct buffers_span span,
			       struct buffers_span *mapping);

/*
 * Whether all of this memory permits what the kind permits; any address and size.  Without a
 * list, asks only whether the memory can be written, or read if it is RX.
 */
__attribute__((cold))
bool buffers_platform_maps_permit(const struct buffers_maps *maps, uintptr_t address,
				  size_t size, enum buffers_kind kind);

/*
 * Core: memory that may be absent or protected
 */

/*
 * Copies memory of any address; the size is a multiple of 8.
 * EFAULT: it cannot be read, and the copy is undefined.
 */
__attribute__((cold))
int buffers_platform_try_read(uintptr_t address, void *copy, size_t size);

/*
 * Whether all of this memory can be read and written.  The address is a multiple of 4, the
 * size at least 4.  The memory does not change.
 */
bool buffers_platform_is_writable(uintptr_t address, size_t size);

/* Whether all of this memory can be read; any address and size. */
bool buffers_platform_is_readable(uintptr_t address, size_t size);

/*
 * Core: the process
 */

/* The number of the process, never 0. */
uint32_t buffers_platform_pid(void);

/* An outsider cannot guess the number, where the system has such numbers. */
uint64_t buffers_platform_random(void);

/* Milliseconds of a clock that never goes back, from any moment on; 0: there is no clock. */
uint64_t buffers_platform_clock(void);

/* Waits between two attempts at a spin lock; `attempt` counts them from 0. */
void buffers_platform_backoff(unsigned attempt);

void buffers_platform_flush_icache(void *start, size_t size);

/*
 * Core: the rendezvous file
 *
 * A few bytes that the process publishes under a name for all code that runs in it.  Only
 * the user of the process can have written them.  There are several directories, since any
 * may be unusable; every copy of the library looks in all of them, in the same order.
 *
 * A lookup opens the structure, which the caller owns, uses and closes it.  That cannot fail, but
 * there may be no usable directory.  The first read in a directory opens it; the functions that
 * create, remove and clean up work only after a read there.
 */
#define BUFFERS_RENDEZVOUS_DIRS 2

struct buffers_rendezvous_dirs {
	int descriptors[BUFFERS_RENDEZVOUS_DIRS];
	uint32_t user, pid;
	uint64_t pid_namespace;	/* set by the caller after opening; 0: unknown */
};

/* Identifies one rendezvous file, and the first bytes that were read from it. */
struct buffers_rendezvous_id {
	uint64_t device, file;
	uint64_t start;
	uint64_t pid_namespace;	/* that the file names; set by the caller after reading, or 0 */
};

__attribute__((cold))
void buffers_platform_rendezvous_open(struct buffers_rendezvous_dirs *dirs);
void buffers_platform_rendezvous_close(struct buffers_rendezvous_dirs *dirs);

/*
 * Reads the start of a file in whole words of 8 bytes, with zeros for missing bytes.
 * *is_fresh: the file changed within the last second.
 * ENOENT: there is no file.  EACCES: the directory is unusable, or the file not trusted.
 */
__attribute__((cold))
int buffers_platform_rendezvous_read(struct buffers_rendezvous_dirs *dirs, unsigned dir,
				     const char *name, void *bytes, size_t size,
				     struct buffers_rendezvous_id *id, bool *is_fresh);

/*
 * Group BUFFERS_PORT_HAS_RENDEZVOUS_FILES: files that outlive their process
 *
 * Cold functions run once in a process: the compiler makes them small.
 */

/*
 * Creates a file in one step where there is none (old is NULL), or replaces the file that
 * was read as `old`.
 * EAGAIN: another file is there, or about to be.  EACCES: impossible.
 */
__attribute__((cold))
int buffers_platform_rendezvous_create(struct buffers_rendezvous_dirs *dirs, unsigned dir,
				       const char *name, const void *bytes, size_t size,
				       const struct buffers_rendezvous_id *old);

/* Removes the file that was read, if it is still there. */
__attribute__((cold))
void buffers_platform_rendezvous_remove(const struct buffers_rendezvous_dirs *dirs, unsigned dir,
					const char *name, const struct buffers_rendezvous_id *id);

/*
 * Removes some of the files by these names (NULL after the last) whose processes have ended,
 * judged by the number in the file's name.  Files that must stay do not hide others.  Asks
 * may_remove about the start of each file, up to 128 bytes; is_old: the file is older than ten
 * days.
 */
__attribute__((cold))
void buffers_platform_rendezvous_clean_up(const struct buffers_rendezvous_dirs *dirs,
					  unsigned dir, const char *const *names, size_t size,
					  bool (*may_remove)(const void *bytes, bool is_old,
							     const void *context),
					  const void *context);

/*
 * Numbers of two processes can be compared only if they stem from the same namespace.
 * 0: unknown.
 */
__attribute__((cold))
uint64_t buffers_platform_pid_namespace(void);

/* Whether this copy of the library stays loaded until the process ends. */
__attribute__((cold))
bool buffers_platform_is_nodelete(void);

/*
 * Group BUFFERS_PORT_HAS_RENDEZVOUS_MEMORY: the first locator is in the rendezvous file
 *
 * For systems where the file is memory that vanishes with the process.  Maps zeroed memory
 * of this kind, and publishes it where nothing has the name.
 * ENOSYS: this group is missing.  EAGAIN: the name exists.  EACCES, ENOMEM.
 */
int buffers_platform_rendezvous_map(const struct buffers_rendezvous_dirs *dirs, unsigned dir,
				    const char *name, size_t size, enum buffers_kind kind,
				    uintptr_t *address);

/*
 * Group BUFFERS_PORT_HAS_MAPS_SCAN: a list of mappings without fast questions
 *
 * Calls `visit` with every mapping, lowest first.  EIO: the list cannot be read.
 */
__attribute__((cold))
int buffers_platform_maps_scan(const struct buffers_maps *maps,
			       void (*visit)(struct buffers_span mapping, void *context),
			       void *context);

/*
 * Group BUFFERS_PORT_HAS_PACKED: one question about all pages of a span
 *
 * Whether all pages of a span that is not empty are mapped; false when in doubt.  Costs much less
 * than finding the mappings one by one.
 */
bool buffers_platform_is_packed(struct buffers_span span);

/*
 * Group BUFFERS_PORT_HAS_GROWTH: heap and main stack that grow in place
 *
 * The span above the program break into which the heap grows, and the span below the main
 * stack.  Any page of either may be mapped already.
 */
struct buffers_span buffers_platform_heap_growth(void);
struct buffers_span buffers_platform_stack_growth(void);

/* Whether one of them may grow into this span; true when in doubt.  Rarely asks the system. */
bool buffers_platform_may_grow_into(struct buffers_span span);

/*
 * Whether buffers_platform_map() refuses `span`, which is free, because the system keeps a gap
 * below another mapping that can grow down.  *gap is that gap, which overlaps the span.
 */
bool buffers_platform_find_guard_gap(const struct buffers_maps *maps, struct buffers_span span,
				     struct buffers_span *gap);

/*
 * Group BUFFERS_PORT_HAS_COMMIT: reserved memory must be committed before its use
 *
 * Commits a part of a mapping that was made with these flags, BUFFERS_MAP_RESERVED among them.
 * A part that is committed again may lose its contents, unless it is shared or RW.  The other
 * processes that share the memory need not commit what one has committed.  ENOMEM, EACCES.
 */
int buffers_platform_commit(uintptr_t address, size_t size, enum buffers_kind kind,
			    enum buffers_map_flags flags);

/*
 * Group BUFFERS_PORT_HAS_DISCARD: free memory that returns to the system
 *
 * Returns the memory of whole pages, which remain mapped and read as zeros.  Memory that is
 * mapped with BUFFERS_MAP_SHARED, or a view of it, must be writable.
 * ENOSYS: this group is missing.  EAGAIN: impossible; the memory holds any bytes.
 */
int buffers_platform_discard(uintptr_t address, size_t size, enum buffers_kind kind,
			     enum buffers_map_flags flags);

/*
 * Group BUFFERS_PORT_HAS_HUGE_PAGES: BUFFERS_MAP_HUGE_PAGES has an effect
 *
 * Such memory is aligned to this size and committed in such steps, where that is possible.  Most
 * processors with pages of 4 KiB have huge pages of this size.
 */
#define BUFFERS_HUGE_PAGE	((size_t)2 << 20)

/*
 * Group BUFFERS_PORT_HAS_FORK: processes that fork
 */

/* Maps a page that is zero at first, and zero again in a forked child where possible. */
int buffers_platform_map_state(void **page);

/*
 * Registers functions to call at each fork(3): `before` in the parent, and `child` in the child
 * before the program continues there, after the descriptors of this library that lead to the
 * parent's memory are closed.  Called once in a process.
 */
void buffers_platform_at_fork(void (*before)(void), void (*child)(void));

/*
 * Group BUFFERS_PORT_HAS_TASKS: threads, and other tasks with numbers of their own that share the
 * memory of the process, as the child of vfork(2) does, can end while they hold a lock
 *
 * The number of the calling task plus 1, for the word of a lock; 1: unknown.
 */
uint32_t buffers_platform_task(void);

/*
 * 0: the task lives, and shares this memory.  ESRCH: none with this number does.  ENOSYS:
 * unknown.
 */
int buffers_platform_find_task(uint32_t task);

/*
 * Group BUFFERS_PORT_HAS_SIGNALS: signal handlers
 *
 * Between these two calls no handler runs in this thread, except for a fault of its own: a
 * handler that needs a lock which its own thread holds would wait forever.
 */
struct buffers_signals {
	unsigned long blocked[16 / sizeof(unsigned long)];	/* before the first call */
	bool is_known;
};

void buffers_platform_block_signals(struct buffers_signals *former);
void buffers_platform_restore_signals(const struct buffers_signals *former);

/*
 * Group BUFFERS_PORT_HAS_ROBUST_LOCKS: locks in memory that processes share
 *
 * The kernel releases the locks of a thread that ends, and the next holder continues its
 * work.  The other functions are called only if buffers_platform_has_robust_locks() says so;
 * they return whether they succeeded.
 */
struct buffers_robust_lock {
	uint64_t words[8];	/* the system's lock; zero where there is none */
};

bool buffers_platform_has_robust_locks(void);
bool buffers_platform_lock_init(struct buffers_robust_lock *lock);
bool buffers_platform_lock(struct buffers_robust_lock *lock);
bool buffers_platform_trylock(struct buffers_robust_lock *lock);
bool buffers_platform_unlock(struct buffers_robust_lock *lock);	/* false: another holds it */

/*
 * Group BUFFERS_PORT_HAS_OTHER_PROCESSES: memory in another process
 *
 * Opens the mappings of another process, for buffers_platform_maps_find() and _close().
 * *usable, unless NULL, is set to the addresses that a program may use there.
 * ENOSYS: this group is missing.  EINVAL: there is no such process.  EACCES: no access.
 */
int buffers_platform_maps_open_in(uint32_t pid, struct buffers_maps *maps,
				  struct buffers_span *usable);

/* As buffers_platform_map() and _unmap().  Also EINVAL: the process has ended. */
int buffers_platform_map_in(const struct buffers_maps *maps, uintptr_t address, size_t size,
			    enum buffers_kind kind);
int buffers_platform_unmap_in(const struct buffers_maps *maps, uintptr_t address, size_t size);

/*
 * Group BUFFERS_PORT_HAS_RX_WRITE: writing memory that its address does not write
 */

/* The caller's knowledge of the destination. */
enum buffers_write_mode {
	BUFFERS_WRITE_FREE_PRIVATE,	/* free space: no thread reads or executes it yet */
	BUFFERS_WRITE_FREE_SHARED,
	BUFFERS_WRITE_IN_USE,		/* may be private or shared */
};

/*
 * Writes readable memory of the process that is mapped without write permission; any address
 * and size.  Memory in use changes in one store where buffers_is_atomic_size() says so.  The
 * bytes may overlap the destination.  A child that was forked before sees the change only if
 * the memory is shared.  The caller makes sure that no other thread writes the same pages of
 * private memory through this function meanwhile.
 * EACCES: impossible.  ENOMEM: no memory, mapping or descriptor for it.
 */
int buffers_platform_write(uintptr_t address, const void *bytes, size_t size,
			   enum buffers_write_mode mode);

/*
 * Gives one whole mapping of private memory the protection of RW or RX memory.  The bytes stay.
 * *needs_copy: policy keeps it from being RX, which it is to become, or was before the call failed;
 * buffers_platform_replace() can make it so.
 * EINVAL: there is no such mapping.  EACCES: policy forbids it.  ENOMEM.  On failure the memory is
 * as it was, where the system permits that.
 */
int buffers_platform_protect(uintptr_t address, size_t size, enum buffers_kind kind,
			     bool *needs_copy);

/*
 * Puts an RX copy in the place of private memory.  The caller makes sure that no other
 * thread writes that memory, or is in buffers_platform_write() or this function.
 * EACCES: impossible, or a part cannot be read.  ENOMEM: no memory, mapping or descriptor for it.
 */
int buffers_platform_replace(uintptr_t address, size_t size);

/*
 * Group BUFFERS_PORT_HAS_VIEWS: second mappings of RX memory, which can be written
 *
 * Maps a view of RX memory that was mapped with BUFFERS_MAP_SHARED, whole, at an address of the
 * system's choice.  The view is never executable.  A forked child has it if is_inherited.
 * ENOSYS: this group is missing.  EACCES, ENOMEM.
 */
__attribute__((cold))
int buffers_platform_map_view(uintptr_t address, size_t size, bool is_inherited, uintptr_t *view);
__attribute__((cold))
int buffers_platform_unmap_view(uintptr_t view, size_t size);

/* Whether this memory of a forked child is shared with the process that forked it. */
__attribute__((cold))
bool buffers_platform_is_shared(uintptr_t address, size_t size);

/* Commits a part of a view, after the same part of the reserved memory.  ENOMEM. */
int buffers_platform_commit_view(uintptr_t part, size_t size);

#pragma GCC visibility pop

#endif
