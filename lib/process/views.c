/* SPDX-License-Identifier: MIT */
/* views.c: which RX memory of this process has a view, and where */

#include "config.h"
#include "process/views.h"
#include "locator/stretch-tree.h"
#include "process/state.h"

#include <limits.h>

/* A stretch holds 4 GiB at most, so the one of the node is only the last byte of the memory. */
struct record {
	struct buffers_stretch last_byte;
	uintptr_t start;
	uintptr_t view;
};

/*
 * A child inherits this, and memory whose view it has no record of.  Of 32 bits: gcc 12 calls
 * libatomic to exchange a byte on riscv64.
 */
static uint32_t were_listed;

#define FEW_ATTEMPTS	256		/* for an answer that is not needed */
#define ALL_ATTEMPTS	UINT_MAX	/* the holder makes no system call */

static bool try_lock(struct buffers_views *views, unsigned attempts)
{
	for (unsigned attempt = 0; !buffers_lock_try(&views->is_locked); attempt++) {
		if (attempt == attempts)
			return false;
		buffers_platform_backoff(attempt);
	}
	return true;
}

static struct buffers_views *lock_views(void)
{
	struct buffers_views *views = &buffers_state_known(BUFFERS_KIND_RX)->views;

	try_lock(views, ALL_ATTEMPTS);
	return views;
}

static void unlock_views(struct buffers_views *views)
{
	buffers_lock_release(&views->is_locked);
}

static struct record *record_of(struct buffers_stretch *node)
{
	return (struct record *)node;
}

static void add_spare(struct buffers_views *views, struct record *record)
{
	record->last_byte.left = views->spare;
	views->spare = &record->last_byte;
}

static struct record *take_spare(struct buffers_views *views)
{
	struct buffers_stretch *node = views->spare;

	if (node)
		views->spare = node->left;
	return record_of(node);
}

static int map_records(void)
{
	size_t page = buffers_platform_granularity();
	struct buffers_views *views;
	struct record *records;
	uintptr_t address;
	int error = buffers_platform_map_anywhere(page, BUFFERS_KIND_RW, BUFFERS_MAP_PLAIN,
						  &address);

	if (error)
		return error;
	records = (struct record *)address;
	views = lock_views();
	for (size_t i = page / sizeof(*records); i--;)
		add_spare(views, &records[i]);
	unlock_views(views);
	return 0;
}

/* Gets an unused record.  ENOMEM. */
static int new_record(struct record **record)
{
	struct buffers_views *views;
	struct buffers_state *state;
	int error = buffers_state_get(BUFFERS_KIND_RX, &state);

	for (*record = NULL; !error && !*record;) {
		views = lock_views();
		*record = take_spare(views);
		unlock_views(views);
		if (!*record)
			error = map_records();
	}
	return error;
}

static void free_record(struct record *record)
{
	struct buffers_views *views = lock_views();

	add_spare(views, record);
	unlock_views(views);
}

/* The first record that ends above the address. */
static struct record *record_above(struct buffers_views *views, uintptr_t address)
{
	return record_of(buffers_stretch_tree_find(views->tree, address).after);
}

static void unlist(struct buffers_views *views, struct record *record)
{
	buffers_stretch_tree_remove(&views->tree, &record->last_byte);
}

/* New memory lies there: code that does not know of views has unmapped the old. */
static void drop_old(struct buffers_views *views, struct buffers_span memory)
{
	struct record *old;

	while ((old = record_above(views, memory.start)) && old->start < memory.end) {
		unlist(views, old);
		add_spare(views, old);
	}
}

static void list(struct record *record, struct buffers_span memory, uintptr_t view)
{
	struct buffers_views *views;

	*record = (struct record){
		.last_byte.item = { .base_address = memory.end - 1, .size = 1 },
		.start = memory.start,
		.view = view,
	};
	views = lock_views();
	if (!__atomic_exchange_n(&were_listed, 1, __ATOMIC_RELAXED))
		__atomic_store_n(&views->are_all, true, __ATOMIC_RELAXED);
	drop_old(views, memory);
	__atomic_store_n(&views->is_used, 1, __ATOMIC_RELAXED);
	buffers_stretch_tree_insert(&views->tree, &record->last_byte);
	unlock_views(views);
}

int buffers_views_list(struct buffers_span memory, uintptr_t view)
{
	struct record *record;
	int error = new_record(&record);

	if (!error)
		list(record, memory, view);
	return error;
}

int buffers_views_map(struct buffers_span memory, bool is_inherited, uintptr_t *view)
{
	size_t size = buffers_span_size(memory);
	int error = buffers_platform_map_view(memory.start, size, is_inherited, view);

	if (error)
		return error;
	error = buffers_views_list(memory, *view);
	if (error)
		buffers_platform_unmap_view(*view, size);
	return error;
}

static bool may_be_listed(const struct buffers_state *state)
{
	return state && __atomic_load_n(&state->views.is_used, __ATOMIC_RELAXED);
}

/* Removes the record of exactly this memory.  NULL: there is none. */
static struct record *remove_record(struct buffers_span memory)
{
	struct record *record;
	struct buffers_views *views;

	if (!may_be_listed(buffers_state_known(BUFFERS_KIND_RX)))
		return NULL;
	views = lock_views();
	record = record_above(views, memory.start);
	if (record && record->start == memory.start &&
	    buffers_stretch_end(&record->last_byte) == memory.end)
		unlist(views, record);
	else
		record = NULL;
	unlock_views(views);
	return record;
}

int buffers_views_unmap(struct buffers_span memory, uintptr_t inherited)
{
	struct record *record = remove_record(memory);
	uintptr_t view = record ? record->view : inherited;
	int error = view ? buffers_platform_unmap_view(view, buffers_span_size(memory)) : 0;

	if (record && error)
		list(record, memory, view);
	else if (record)
		free_record(record);
	return error;
}

static uintptr_t find_locked(struct buffers_views *views, uintptr_t address, size_t size)
{
	const struct record *record = record_above(views, address);

	if (!record || address < record->start ||
	    size > buffers_stretch_end(&record->last_byte) - address)
		return 0;
	return record->view + (address - record->start);
}

static uintptr_t find(uintptr_t address, size_t size, unsigned attempts)
{
	struct buffers_state *state = buffers_state_known(BUFFERS_KIND_RX);
	uintptr_t written;

	if (!may_be_listed(state) || !try_lock(&state->views, attempts))
		return 0;
	written = find_locked(&state->views, address, size);
	unlock_views(&state->views);
	return written;
}

uintptr_t buffers_views_try_find(uintptr_t address, size_t size)
{
	return find(address, size, FEW_ATTEMPTS);
}

uintptr_t buffers_views_find(uintptr_t address, size_t size)
{
	return find(address, size, ALL_ATTEMPTS);
}

bool buffers_views_exist(struct buffers_span memory)
{
	const struct buffers_state *state = buffers_state_known(BUFFERS_KIND_RX);

	if (buffers_views_find(memory.start, 1))
		return true;
	if (!__atomic_load_n(&were_listed, __ATOMIC_RELAXED) ||
	    (state && __atomic_load_n(&state->views.are_all, __ATOMIC_RELAXED)))
		return false;
	return buffers_platform_is_shared(memory.start, buffers_span_size(memory));
}
