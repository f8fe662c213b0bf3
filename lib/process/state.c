/* SPDX-License-Identifier: MIT */
/* process.c: all that this copy of the library knows of its process */

#include "config.h"
#include "process/state.h"

struct buffers_process *buffers_process_pages[BUFFERS_KINDS];

static uint32_t number;		/* 0: not asked for yet */

uint32_t buffers_process_number(void)
{
	uint32_t known = __atomic_load_n(&number, __ATOMIC_RELAXED);

	if (!known) {
		known = buffers_platform_process();
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
		struct buffers_process *process = buffers_process_pages[kind];

		if (process && process->root.process != buffers_platform_process())
			*process = (struct buffers_process){ 0 };
	}
}

__attribute__((constructor)) static void watch_forks(void)
{
	buffers_platform_at_fork(forget_parent);
}

/* A copy that may be unloaded cannot tell whether the process ends, too. */
__attribute__((destructor)) static void leave(void)
{
	if (!buffers_platform_stays_loaded())
		return;
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		const struct buffers_process *process = buffers_process_known(kind);

		if (process)
			buffers_locator_leave(&process->root, kind);
	}
}

static int map_page(struct buffers_process **place, struct buffers_process **process)
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

int buffers_process_get(enum buffers_kind kind, struct buffers_process **process)
{
	*process = buffers_process_known(kind);
	return *process ? 0 : map_page(&buffers_process_pages[kind], process);
}

int buffers_process_unmap(struct buffers_span mapped)
{
	int error = buffers_allocator_unmap(mapped, NULL);

	for (unsigned kind = 0; kind < BUFFERS_KINDS && !error; kind++) {
		struct buffers_process *process = buffers_process_known(kind);

		if (process)
			buffers_allocator_forget(mapped, &process->hindsight);
	}
	return error;
}

/*
 * All copies of the library share the first locator of such memory, and a forked
 * child has another: its lock is the one that nobody can leave locked for us.
 */
int buffers_process_write(uintptr_t address, const void *bytes, size_t size,
			  enum buffers_target target)
{
	struct buffers_process *process;
	struct buffers_locator *first;
	int error = buffers_process_get(BUFFERS_TEXT, &process);

	if (!error)
		error = buffers_locator_first(&process->root, BUFFERS_TEXT, &first);
	if (error)
		return error;
	buffers_locator_lock(first);
	error = buffers_platform_write(address, bytes, size, target);
	buffers_locator_unlock(first);
	return error;
}
