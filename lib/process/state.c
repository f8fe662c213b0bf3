/* SPDX-License-Identifier: MIT */
/* state.c: the knowledge of this copy of the library about its process */

#include "config.h"
#include "process/state.h"
#include "allocator/allocator.h"

struct buffers_state *buffers_state_pages[BUFFERS_KINDS];

/* The other pages.  Each store leaves a whole list: a fork may copy it at any instant. */
static struct buffers_state_page *other_pages[BUFFERS_KINDS];

/*
 * Fork and exit
 */

static void empty_other_pages(struct buffers_state_page *page)
{
	for (; page; page = page->next)
		if (*page->canary) {
			memset(page->canary, 0, buffers_platform_granularity());
			*page->canary = 1;
		}
}

/*
 * Empties the pages that the kernel has not emptied.  Another fork handler of this child may
 * have used the others since.
 */
static void forget_parent(void)
{
	buffers_locator_note_fork(false);
	buffers_rendezvous_forget_parent();
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		struct buffers_state *state = buffers_state_pages[kind];

		if (state && state->canary)
			*state = (struct buffers_state){ .canary = 1 };
		empty_other_pages(other_pages[kind]);
	}
}

static void note_fork(void)
{
	buffers_locator_note_fork(true);
	buffers_rendezvous_note_fork();
}

__attribute__((constructor)) static void register_fork_handler(void)
{
	buffers_platform_at_fork(note_fork, forget_parent);
}

/* A copy that can be unloaded cannot tell an unload from the end of the process. */
__attribute__((destructor)) static void withdraw_all(void)
{
	if (!buffers_platform_is_nodelete())
		return;
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		const struct buffers_state *state = buffers_state_known(kind);

		if (state)
			buffers_rendezvous_withdraw(buffers_state_shared_first(state), kind);
	}
}

/*
 * The pages
 */

static int map_page(struct buffers_state **slot, struct buffers_state **state)
{
	struct buffers_state *page;
	void *address;
	int error = buffers_platform_map_state(&address);

	if (error)
		return error;
	page = address;
	page->canary = 1;
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

static void lock_pages(enum buffers_kind kind)
{
	struct buffers_state *state = buffers_state_known(kind);

	for (unsigned attempt = 0; !buffers_lock_try(&state->pages_lock); attempt++)
		buffers_platform_backoff(attempt);
}

static void unlock_pages(enum buffers_kind kind)
{
	buffers_lock_release(&buffers_state_known(kind)->pages_lock);
}

int buffers_state_map_page(enum buffers_kind kind, struct buffers_state_page *page)
{
	void *address;
	int error = buffers_platform_map_state(&address);

	if (error)
		return error;
	page->canary = address;
	*page->canary = 1;
	lock_pages(kind);
	page->next = other_pages[kind];
	__atomic_store_n(&other_pages[kind], page, __ATOMIC_RELEASE);
	unlock_pages(kind);
	return 0;
}

void buffers_state_unmap_page(enum buffers_kind kind, struct buffers_state_page *page)
{
	struct buffers_state_page **link = &other_pages[kind];

	lock_pages(kind);
	while (*link != page)
		link = &(*link)->next;
	__atomic_store_n(link, page->next, __ATOMIC_RELEASE);
	unlock_pages(kind);
	buffers_platform_unmap((uintptr_t)page->canary, buffers_platform_granularity());
}

struct buffers_state_page *buffers_state_find_page(enum buffers_kind kind,
						   bool (*matches)(struct buffers_state_page *page,
								   uintptr_t address),
						   uintptr_t address)
{
	struct buffers_state_page *page;

	if (!__atomic_load_n(&other_pages[kind], __ATOMIC_ACQUIRE))
		return NULL;
	lock_pages(kind);
	for (page = other_pages[kind]; page && !matches(page, address);)
		page = page->next;
	unlock_pages(kind);
	return page;
}

/*
 * Leaving a chain
 */

static struct buffers_locator *present_first(const struct buffers_state *state)
{
	return __atomic_load_n(&state->root.first, __ATOMIC_ACQUIRE);
}

static struct buffers_locator *left_first(const struct buffers_state *state)
{
	return __atomic_load_n(&state->left, __ATOMIC_ACQUIRE);
}

struct buffers_locator *buffers_state_shared_first(const struct buffers_state *state)
{
	struct buffers_locator *left = left_first(state);

	return left ? left : present_first(state);
}

/* Of threads that come here at once, the one that sets `left` replaces the chain. */
static int replace_chain(struct buffers_state *state, enum buffers_kind kind,
			 struct buffers_locator *present)
{
	struct buffers_locator *none = NULL;
	struct buffers_locator *first;
	int error = buffers_locator_create(kind, &first);

	if (error)
		return error;
	if (!__atomic_compare_exchange_n(&state->left, &none, present, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE)) {
		buffers_locator_destroy(first);
		return 0;
	}
	buffers_index_continue_at(&state->index, first);
	buffers_rendezvous_replace_first(&state->root, first);
	return 0;
}

/* Reads the present locator first: if it is the new one, `left` is set. */
int buffers_state_leave_chain(struct buffers_state *state, enum buffers_kind kind)
{
	struct buffers_locator *present = present_first(state);
	int error = left_first(state) ? 0 : replace_chain(state, kind, present);

	if (error)
		return error;
	for (unsigned attempt = 0; present_first(state) == left_first(state); attempt++)
		buffers_platform_backoff(attempt);
	return 0;
}

/* If there is no memory for the table, requests for several places go on searching. */
__attribute__((cold))
static void map_places(struct buffers_state *state)
{
	struct buffers_places *none = NULL;
	void *page;

	if (buffers_platform_map_state(&page) != 0)
		return;
	if (!__atomic_compare_exchange_n(&state->places, &none, page, false, __ATOMIC_RELEASE,
					 __ATOMIC_RELAXED))
		buffers_platform_unmap((uintptr_t)page, buffers_platform_granularity());
}

void buffers_state_count_search(struct buffers_state *state)
{
	enum { MANY = 1024 };	/* so that few programs have a table that they do not need */

	if (__atomic_add_fetch(&state->searches, 1, __ATOMIC_RELAXED) == MANY)
		map_places(state);
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
 * Waits as long as a holder lives: writes without the lock would lose bytes.  False: the lock was
 * not free for five seconds, and nothing shows whether its holder lives, or it is this thread.
 */
static bool lock_writers(struct buffers_locator *first)
{
	enum { LONGEST_WAIT = 5 };
	unsigned seconds = 0;

	while (!buffers_locator_lock(first))
		if (!buffers_locator_has_holder(first) && ++seconds == LONGEST_WAIT)
			return false;
	return true;
}

/* A thread that writes, and holds the lock of all writers. */
struct writer {
	struct buffers_locator *first;
	struct buffers_signals signals;
};

/*
 * Takes the lock of the first RX locator.  All copies of the library share that locator, and
 * a forked child has another: no thread of the parent can leave it locked for the child.  A
 * signal handler may call this, so no handler runs in a thread that holds the lock.
 */
static int begin_writing(struct writer *writer)
{
	struct buffers_state *state;
	int error = buffers_state_get(BUFFERS_KIND_RX, &state);

	if (!error)
		error = buffers_rendezvous_first(&state->root, BUFFERS_KIND_RX, &writer->first);
	if (error)
		return error;
	/* All copies keep this lock, also one that has left the chain. */
	writer->first = buffers_state_shared_first(state);
	buffers_platform_block_signals(&writer->signals);
	if (lock_writers(writer->first))
		return 0;
	buffers_platform_restore_signals(&writer->signals);
	return EACCES;
}

static void end_writing(const struct writer *writer)
{
	buffers_locator_unlock(writer->first);
	buffers_platform_restore_signals(&writer->signals);
}

int buffers_state_write(uintptr_t address, const void *bytes, size_t size,
			enum buffers_write_mode mode)
{
	struct writer writer;
	int error = begin_writing(&writer);

	if (error)
		return error;
	error = buffers_platform_write(address, bytes, size, mode);
	end_writing(&writer);
	return error;
}

__attribute__((cold))
static int replace_by_rx(struct buffers_span span)
{
	struct writer writer;
	int error = begin_writing(&writer);

	if (error)
		return error;
	error = buffers_platform_replace(span.start, buffers_span_size(span));
	end_writing(&writer);
	return error;
}

int buffers_state_protect(struct buffers_span span, enum buffers_kind kind)
{
	bool needs_copy;
	int error = buffers_platform_protect(span.start, buffers_span_size(span), kind,
					     &needs_copy);
	int copy_error = needs_copy ? replace_by_rx(span) : error;

	return kind == BUFFERS_KIND_RX ? copy_error : error;
}
