/* SPDX-License-Identifier: MIT */
/*
 * platform.h: all that the library asks of the operating system
 *
 * platform-linux.c implements it, with the notices in platform-linux-notices.c
 * and writing in platform-linux-write.c.
 * A port implements every function below as it is described.
 *
 * What holds for all of them:
 *
 * - The result is 0 or a positive errno where the type is int; errno itself
 *   may change.
 * - They call no malloc(3), take no lock that the same thread could hold, and
 *   may run in any thread at any time; none is a cancellation point.
 * - Addresses and sizes that are given are whole pages, unless it says so;
 *   spans are half open, and none ends beyond what buffers_platform_usable()
 *   leaves of everything.
 */
#ifndef BUFFERS_PLATFORM_H
#define BUFFERS_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

struct buffers_span {
	uintptr_t start, end;
};

/* What memory is for; the same numbers as the flags of public requests. */
enum buffers_kind {
	BUFFERS_KIND_RWX,	/* read, write, execute */
	BUFFERS_KIND_RW,	/* read, write */
	BUFFERS_KIND_RX,	/* read, execute */
};
#define BUFFERS_KINDS 3

/* May be added to a kind where memory is mapped. */
enum {
	BUFFERS_MAP_SHARED = 4,	/* children that are forked later use the same */
	BUFFERS_MAP_RESERVED = 8,	/* buffers_platform_commit() is called for what will be used */
};

/* Granularity of addresses and sizes, a power of two of at least 4096. */
size_t buffers_platform_granularity(void);

/* To whole pages. */
static inline uintptr_t buffers_page_down(uintptr_t address)
{
	return address & ~(uintptr_t)(buffers_platform_granularity() - 1);
}

static inline uintptr_t buffers_page_up(uintptr_t address)
{
	return buffers_page_down(address + buffers_platform_granularity() - 1);
}

/*
 * The part of a range where the library may map at all: from above what the
 * system protects (and at least 64 KiB) to the end of the user's half of the
 * address space.  It may be empty or inverted.
 */
struct buffers_span buffers_platform_usable(struct buffers_span range);

/*
 * Where the heap will grow from the program break upward, and where the main
 * stack will grow downward.  Any page of it may be mapped already.
 */
struct buffers_span buffers_platform_heap_growth(void);
struct buffers_span buffers_platform_stack_growth(void);

/*
 * Whether either may grow into this span; true when in doubt.  The system is
 * hardly ever asked: most places are where neither can be.
 */
bool buffers_platform_may_grow_into(struct buffers_span span);

/*
 * Maps zeroed memory of this kind at `address` exactly.  Never replaces anything.
 * EEXIST: that place is not to be had, another may be.
 * ENOMEM: no more memory or mappings.  EACCES: policy denies this kind.
 */
int buffers_platform_map(uintptr_t address, size_t size, unsigned kind);

/* The same wherever the system likes; a page of data is there at once.  ENOMEM, EACCES. */
int buffers_platform_map_anywhere(size_t size, unsigned kind, uintptr_t *address);

/*
 * Makes a part of what was mapped as BUFFERS_MAP_RESERVED, of any address and size, usable; once
 * more does no harm.  `kind` is what it was mapped as.  ENOMEM, EACCES.
 */
int buffers_platform_commit(uintptr_t address, size_t size, unsigned kind);

/* What was mapped at once, whole.  EINVAL: there is no such memory.  ENOMEM: the system refuses. */
int buffers_platform_unmap(uintptr_t address, size_t size);

/*
 * The process's mappings, as a search for a gap sees them.  Opened for one
 * search; the caller keeps the structure, which is small, and closes it.
 */
struct buffers_maps {
	int descriptor;
	uintptr_t process;	/* a handle of another one, or 0 */
	enum {
		BUFFERS_MAPS_QUERY,	/* buffers_platform_maps_find() is fast */
		BUFFERS_MAPS_SCAN,	/* only buffers_platform_maps_scan() works */
		BUFFERS_MAPS_PROBE,	/* only _find() works, page by page */
	} kind;
};

void buffers_platform_maps_open(struct buffers_maps *maps);
void buffers_platform_maps_close(struct buffers_maps *maps);

/*
 * The lowest mapping that meets `span`; `mapping` may be cut off where it
 * leaves the span at the start.  ENOENT: all of the span is free.
 */
int buffers_platform_maps_find(const struct buffers_maps *maps, struct buffers_span span,
			       struct buffers_span *mapping);

/* Calls `visit` with every mapping, lowest first.  EIO: cannot be read. */
int buffers_platform_maps_scan(const struct buffers_maps *maps,
			       void (*visit)(struct buffers_span mapping, void *context),
			       void *context);

/*
 * Another process's memory.  The maps that are opened are of that process, to be found in
 * and closed as above; `usable`, unless NULL, is what buffers_platform_usable() leaves of
 * everything there.
 * ENOSYS: this system has no such calls, and the other two are never called.
 * EINVAL: there is no such process.  EACCES: it is not to be touched.
 */
int buffers_platform_maps_open_in(uint32_t process, struct buffers_maps *maps,
				  struct buffers_span *usable);

/* As buffers_platform_map() and buffers_platform_unmap(); also EINVAL: it has ended. */
int buffers_platform_map_in(const struct buffers_maps *maps, uintptr_t address, size_t size,
			    unsigned kind);
int buffers_platform_unmap_in(const struct buffers_maps *maps, uintptr_t address, size_t size);

/*
 * Copies memory that may not be there, of any address and size, the size a
 * multiple of 8.  EFAULT: it cannot be read; the copy is undefined.
 */
int buffers_platform_try_read(uintptr_t address, void *copy, size_t size);

/*
 * Whether all of this memory, from any multiple of 4 on, and 4 bytes or more,
 * can be read and written.  It is not changed.
 */
bool buffers_platform_is_writable(uintptr_t address, size_t size);

/* Whether all of this memory, of any address and size, can be read. */
bool buffers_platform_is_readable(uintptr_t address, size_t size);

/* What is known of memory that is to be written. */
enum buffers_write_mode {
	BUFFERS_WRITE_FREE_PRIVATE,	/* nobody reads or executes it yet */
	BUFFERS_WRITE_FREE_SHARED,
	BUFFERS_WRITE_IN_USE,		/* it may be private or shared */
};

/*
 * Writes readable memory of the process though it is mapped without permission to
 * write, of any address and size; what is in use whole where buffers_atomic_store() would.
 * Bytes may overlap it.  A child that was forked before sees nothing of it, unless the
 * memory is shared.  Of private memory, no other part of the same pages is written in
 * this way meanwhile.
 * EACCES: it cannot be done.  ENOMEM: no memory, mapping or descriptor for that.
 */
int buffers_platform_write(uintptr_t address, const void *bytes, size_t size,
			   enum buffers_write_mode target);

/*
 * Notices: a few bytes that the process puts up under a name for all code that
 * runs in it, and that nobody but its user can have written.  There is more
 * than one place for them, since any may be unusable; all look in all of them
 * in the same order.
 *
 * The board is opened for one errand; the caller keeps the structure, which is
 * small, and closes it.  Opening cannot fail, but may find no place.
 */
#define BUFFERS_RENDEZVOUS_DIRS 2

struct buffers_rendezvous_dirs {
	int directories[BUFFERS_RENDEZVOUS_DIRS];
	uint32_t user;
};

/* Of all notices under all names, this one, with what it began with. */
struct buffers_rendezvous_id {
	uint64_t device, file;
	uint64_t start;
};

void buffers_platform_rendezvous_open(struct buffers_rendezvous_dirs *board);
void buffers_platform_rendezvous_close(struct buffers_rendezvous_dirs *board);

/*
 * What stands in the place, in whole words of 8 bytes, with zeros for what is
 * missing.  *is_fresh: it has changed within the last second.
 * ENOENT: nothing.  EACCES: the place cannot be used, or what stands there is
 * not to be trusted.
 */
int buffers_platform_rendezvous_read(const struct buffers_rendezvous_dirs *board, unsigned place,
				 const char *name, void *bytes, size_t size,
				 struct buffers_rendezvous_id *id, bool *is_fresh);

/*
 * Where a notice is memory that goes with the process, the first locator can be one: maps
 * zeros of this kind, put up in a place where nothing stands.
 * ENOSYS: notices are files.  EAGAIN: something stands there.  EACCES, ENOMEM: cannot be done.
 */
int buffers_platform_rendezvous_map(const struct buffers_rendezvous_dirs *board, unsigned place,
				const char *name, size_t size, unsigned kind,
				uintptr_t *address);

/*
 * Puts a notice up whole, at once, where nothing stands (old is NULL), or else
 * in the place of the one that was read.
 * EAGAIN: something else stands there, or is about to.  EACCES: cannot be done.
 */
int buffers_platform_rendezvous_create(struct buffers_rendezvous_dirs *board, unsigned place, const char *name,
				 const void *bytes, size_t size,
				 const struct buffers_rendezvous_id *old);

/* Removes the one that was read, if it still stands there. */
void buffers_platform_rendezvous_remove(const struct buffers_rendezvous_dirs *board, unsigned place,
				    const char *name, const struct buffers_rendezvous_id *id);

/*
 * Removes some notices by these names (NULL after the last) of processes that are
 * gone, as far as their numbers tell.  may_remove is asked about the start of each,
 * up to 128 bytes; is_old: it has stood for ten days.
 */
void buffers_platform_rendezvous_clean_up(const struct buffers_rendezvous_dirs *board, unsigned place,
				  const char *const *names, size_t size,
				  bool (*may_remove)(const void *bytes, bool is_old,
						     void *context),
				  void *context);

/*
 * A page that is zero at first, and again in every forked child.  Systems
 * where the kernel cannot promise that rely on buffers_platform_at_fork().
 */
int buffers_platform_map_state(void **page);

/*
 * Has `child` called in every child that fork(3) makes, before it goes on, and
 * after what led the child to its parent's memory is closed.  Once in a process.
 */
void buffers_platform_at_fork(void (*child)(void));

/*
 * The process's number, never 0.  Numbers of other processes mean something to
 * us only if they stem from the same space; 0: who knows.
 */
uint32_t buffers_platform_pid(void);
uint64_t buffers_platform_pid_namespace(void);

/* Whether this copy of the library is there until the process ends. */
bool buffers_platform_is_nodelete(void);

/*
 * Locks in memory that processes share: the kernel unlocks what a thread holds that ends.
 * Its next holder goes on where that one stopped.
 *
 * Whether there are such; the others are called only then, and say whether they could.
 */
bool buffers_platform_has_robust_locks(void);

struct buffers_robust_lock {
	uint64_t words[8];	/* as the system has it, and zero where it has none */
};

bool buffers_platform_lock_init(struct buffers_robust_lock *lock);
bool buffers_platform_lock(struct buffers_robust_lock *lock);
bool buffers_platform_trylock(struct buffers_robust_lock *lock);
bool buffers_platform_unlock(struct buffers_robust_lock *lock);	/* false: others hold it */

/* Not to be guessed from outside where the system has such numbers. */
uint64_t buffers_platform_random(void);

/* To be called between the attempts at a spin lock, counting them. */
void buffers_platform_backoff(unsigned attempt);

void buffers_platform_flush_icache(void *start, size_t size);

#pragma GCC visibility pop

#endif
