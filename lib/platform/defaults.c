/* SPDX-License-Identifier: MIT */
/* defaults.c: the optional groups of platform.h, for ports that leave them out */

#include "config.h"
#include "platform/platform.h"

#include <errno.h>

#if !BUFFERS_PORT_HAS_RENDEZVOUS_FILES

int buffers_platform_rendezvous_create(struct buffers_rendezvous_dirs *dirs, unsigned dir,
				       const char *name, const void *bytes, size_t size,
				       const struct buffers_rendezvous_id *old)
{
	(void)dirs, (void)dir, (void)name, (void)bytes, (void)size, (void)old;
	return EACCES;
}

void buffers_platform_rendezvous_remove(const struct buffers_rendezvous_dirs *dirs, unsigned dir,
					const char *name, const struct buffers_rendezvous_id *id)
{
	(void)dirs, (void)dir, (void)name, (void)id;
}

void buffers_platform_rendezvous_clean_up(const struct buffers_rendezvous_dirs *dirs,
					  unsigned dir, const char *const *names, size_t size,
					  bool (*may_remove)(const void *bytes, bool is_old,
							     const void *context),
					  const void *context)
{
	(void)dirs, (void)dir, (void)names, (void)size, (void)may_remove, (void)context;
}

uint64_t buffers_platform_pid_namespace(void)
{
	return 0;
}

/* A name that vanishes with its process needs no withdrawal at exit. */
bool buffers_platform_is_nodelete(void)
{
	return false;
}

#endif

#if !BUFFERS_PORT_HAS_RENDEZVOUS_MEMORY

int buffers_platform_rendezvous_map(const struct buffers_rendezvous_dirs *dirs, unsigned dir,
				    const char *name, size_t size, enum buffers_kind kind,
				    uintptr_t *address)
{
	(void)dirs, (void)dir, (void)name, (void)size, (void)kind, (void)address;
	return ENOSYS;
}

#endif

#if !BUFFERS_PORT_HAS_MAPS_SCAN

int buffers_platform_maps_scan(const struct buffers_maps *maps,
			       void (*visit)(struct buffers_span mapping, void *context),
			       void *context)
{
	(void)maps, (void)visit, (void)context;
	return EIO;
}

#endif

#if !BUFFERS_PORT_HAS_PACKED

bool buffers_platform_is_packed(struct buffers_span span)
{
	(void)span;
	return false;
}

#endif

#if !BUFFERS_PORT_HAS_GROWTH

struct buffers_span buffers_platform_heap_growth(void)
{
	return (struct buffers_span){ 0, 0 };
}

struct buffers_span buffers_platform_stack_growth(void)
{
	return (struct buffers_span){ 0, 0 };
}

bool buffers_platform_may_grow_into(struct buffers_span span)
{
	(void)span;
	return false;
}

bool buffers_platform_find_guard_gap(const struct buffers_maps *maps, struct buffers_span span,
				     struct buffers_span *gap)
{
	(void)maps, (void)span, (void)gap;
	return false;
}

#endif

#if !BUFFERS_PORT_HAS_COMMIT

int buffers_platform_commit(uintptr_t address, size_t size, enum buffers_kind kind,
			    enum buffers_map_flags flags)
{
	(void)address, (void)size, (void)kind, (void)flags;
	return 0;
}

#endif

#if !BUFFERS_PORT_HAS_DISCARD

int buffers_platform_discard(uintptr_t address, size_t size, enum buffers_kind kind,
			     enum buffers_map_flags flags)
{
	(void)address, (void)size, (void)kind, (void)flags;
	return ENOSYS;
}

#endif

#if !BUFFERS_PORT_HAS_FORK

int buffers_platform_map_state(void **page)
{
	uintptr_t address = 0;
	int error = buffers_platform_map_anywhere(buffers_platform_granularity(),
						  BUFFERS_KIND_RW, BUFFERS_MAP_PLAIN, &address);

	if (!error)
		*page = (void *)address;
	return error;
}

void buffers_platform_at_fork(void (*before)(void), void (*child)(void))
{
	(void)before, (void)child;
}

#endif

#if !BUFFERS_PORT_HAS_TASKS

uint32_t buffers_platform_task(void)
{
	return 1;
}

int buffers_platform_find_task(uint32_t task)
{
	(void)task;
	return ENOSYS;
}

#endif

#if !BUFFERS_PORT_HAS_SIGNALS

void buffers_platform_block_signals(struct buffers_signals *former)
{
	(void)former;
}

void buffers_platform_restore_signals(const struct buffers_signals *former)
{
	(void)former;
}

#endif

#if !BUFFERS_PORT_HAS_ROBUST_LOCKS

bool buffers_platform_has_robust_locks(void)
{
	return false;
}

bool buffers_platform_lock_init(struct buffers_robust_lock *lock)
{
	(void)lock;
	return false;
}

bool buffers_platform_lock(struct buffers_robust_lock *lock)
{
	(void)lock;
	return false;
}

bool buffers_platform_trylock(struct buffers_robust_lock *lock)
{
	(void)lock;
	return false;
}

bool buffers_platform_unlock(struct buffers_robust_lock *lock)
{
	(void)lock;
	return false;
}

#endif

#if !BUFFERS_PORT_HAS_OTHER_PROCESSES

int buffers_platform_maps_open_in(uint32_t pid, struct buffers_maps *maps,
				  struct buffers_span *usable)
{
	(void)pid, (void)maps, (void)usable;
	return ENOSYS;
}

int buffers_platform_map_in(const struct buffers_maps *maps, uintptr_t address, size_t size,
			    enum buffers_kind kind)
{
	(void)maps, (void)address, (void)size, (void)kind;
	return ENOSYS;
}

int buffers_platform_unmap_in(const struct buffers_maps *maps, uintptr_t address, size_t size)
{
	(void)maps, (void)address, (void)size;
	return ENOSYS;
}

#endif

#if !BUFFERS_PORT_HAS_RX_WRITE

int buffers_platform_write(uintptr_t address, const void *bytes, size_t size,
			   enum buffers_write_mode mode)
{
	(void)address, (void)bytes, (void)size, (void)mode;
	return EACCES;
}

int buffers_platform_protect(uintptr_t address, size_t size, enum buffers_kind kind,
			     bool *needs_copy)
{
	(void)address, (void)size, (void)kind;
	*needs_copy = false;
	return EACCES;
}

int buffers_platform_replace(uintptr_t address, size_t size)
{
	(void)address, (void)size;
	return EACCES;
}

#endif

#if !BUFFERS_PORT_HAS_VIEWS

int buffers_platform_map_view(uintptr_t address, size_t size, bool is_inherited, uintptr_t *view)
{
	(void)address, (void)size, (void)is_inherited, (void)view;
	return ENOSYS;
}

int buffers_platform_unmap_view(uintptr_t view, size_t size)
{
	(void)view, (void)size;
	return ENOSYS;
}

bool buffers_platform_is_shared(uintptr_t address, size_t size)
{
	(void)address, (void)size;
	return false;
}

int buffers_platform_commit_view(uintptr_t part, size_t size)
{
	(void)part, (void)size;
	return ENOSYS;
}

#endif
