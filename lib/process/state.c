/* SPDX-License-Identifier: MIT */
/* process.c: all that this copy of the library knows of its process */

#include "config.h"
#include "process/state.h"

struct buffers_state *buffers_state_pages[BUFFERS_KINDS];

static uint32_t number;		/* 0: not asked for yet */

uint32_t buffers_state_pid(void)
{
	uint32_t known = __atomic_load_n(&number, __ATOMIC_RELAXED);

	if (!known) {
		known = buffers_platform_pid();
		__atomic_store_n(&number, known, __ATOMIC_RELAXED);
	}
	return known;
}

/*
 * The kernel has emptied the pages by now.  Where it does not, this does, but
 * not what another fork handler of this child has put there before us.
 */
static void forget_parent(void)
{
	number = 0;
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		struct buffers_state *process = buffers_state_pages[kind];

		if (process && process->root.process != buffers_platform_pid())
			*process = (struct buffers_state){ 0 };
	}
}

__attribute__((constructor)) static void watch_forks(void)
{
	buffers_platform_at_fork(forget_parent);
}

/* A copy that may be unloaded cannot tell whether the process ends, too. */
__attribute__((destructor)) static void leave(void)
{
	if (!buffers_platform_is_nodelete())
		return;
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		const struct buffers_state *process = buffers_state_known(kind);

		if (process)
			buffers_rendezvous_withdraw(&process->root, kind);
	}
}

static int map_page(struct buffers_state **place, struct buffers_state **process)
{
	void *page;
	int error = buffers_platform_map_state(&page);

	if (error)
		return error;
	*process = NULL;
	if (__atomic_compare_exchange_n(place, process, page, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE))
		*process = page;
	else
		buffers_platform_unmap((uintptr_t)page, buffers_platform_granularity());
	return 0;
}

int buffers_state_get(enum buffers_kind kind, struct buffers_state **process)
{
	*process = buffers_state_known(kind);
	return *process ? 0 : map_page(&buffers_state_pages[kind], process);
}

int buffers_state_unmap(struct buffers_span mapped)
{
	int error = buffers_allocator_unmap(mapped, NULL);

	for (unsigned kind = 0; kind < BUFFERS_KINDS && !error; kind++) {
		struct buffers_state *process = buffers_state_known(kind);

		if (process)
			buffers_search_cache_invalidate(mapped, &process->hindsight);
	}
	return error;
}

/*
 * All copies of the library share the first locator of such memory, and a forked
 * child has another: its lock is the one that nobody can leave locked for us.
 */
int buffers_state_write(uintptr_t address, const void *bytes, size_t size,
			  enum buffers_write_mode target)
{
	struct buffers_state *process;
	struct buffers_locator *first;
	int error = buffers_state_get(BUFFERS_KIND_RX, &process);

	if (!error)
		error = buffers_rendezvous_first(&process->root, BUFFERS_KIND_RX, &first);
	if (error)
		return error;
	buffers_locator_lock(first);
	error = buffers_platform_write(address, bytes, size, target);
	buffers_locator_unlock(first);
	return error;
}
