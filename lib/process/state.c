/* SPDX-License-Identifier: MIT */
/* state.c: the knowledge of this copy of the library about its process */

#include "config.h"
#include "process/state.h"
#include "allocator/allocator.h"

struct buffers_state *buffers_state_pages[BUFFERS_KINDS];

static uint32_t pid;		/* 0: not asked for yet */

uint32_t buffers_state_pid(void)
{
	uint32_t known = __atomic_load_n(&pid, __ATOMIC_RELAXED);

	if (!known) {
		known = buffers_platform_pid();
		__atomic_store_n(&pid, known, __ATOMIC_RELAXED);
	}
	return known;
}

/*
 * Fork and exit
 */

/*
 * Empties the pages where the kernel has not done so.  A page that another fork handler of
 * this child has used before stays.
 */
static void forget_parent(void)
{
	pid = 0;
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		struct buffers_state *state = buffers_state_pages[kind];

		if (state && state->root.pid != buffers_platform_pid())
			*state = (struct buffers_state){ 0 };
	}
}

__attribute__((constructor)) static void register_fork_handler(void)
{
	buffers_platform_at_fork(forget_parent);
}

/* A copy that can be unloaded cannot tell an unload from the end of the process. */
__attribute__((destructor)) static void withdraw_all(void)
{
	if (!buffers_platform_is_nodelete())
		return;
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		const struct buffers_state *state = buffers_state_known(kind);

		if (state)
			buffers_rendezvous_withdraw(&state->root, kind);
	}
}

/*
 * The pages
 */

static int map_page(struct buffers_state **slot, struct buffers_state **state)
{
	void *page;
	int error = buffers_platform_map_state(&page);

	if (error)
		return error;
	*state = NULL;
	if (__atomic_compare_exchange_n(slot, state, page, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE))
		*state = page;
	else
		buffers_platform_unmap((uintptr_t)page, buffers_platform_granularity());
	return 0;
}

int buffers_state_get(enum buffers_kind kind, struct buffers_state **state)
{
	*state = buffers_state_known(kind);
	return *state ? 0 : map_page(&buffers_state_pages[kind], state);
}

int buffers_state_unmap(struct buffers_span mapped)
{
	int error = buffers_allocator_unmap(mapped, NULL);

	for (unsigned kind = 0; kind < BUFFERS_KINDS && !error; kind++) {
		struct buffers_state *state = buffers_state_known(kind);

		if (state)
			buffers_search_cache_invalidate(&state->search_cache, mapped);
	}
	return error;
}

/*
 * Writing RX memory
 */

/*
 * Takes the lock of the first RX locator.  All copies of the library share that locator, and
 * a forked child has another: no thread of the parent can leave it locked for the child.
 */
int buffers_state_write(uintptr_t address, const void *bytes, size_t size,
			enum buffers_write_mode mode)
{
	struct buffers_state *state;
	struct buffers_locator *first;
	int error = buffers_state_get(BUFFERS_KIND_RX, &state);

	if (!error)
		error = buffers_rendezvous_first(&state->root, BUFFERS_KIND_RX, &first);
	if (error)
		return error;
	buffers_locator_lock(first);
	error = buffers_platform_write(address, bytes, size, mode);
	buffers_locator_unlock(first);
	return error;
}
