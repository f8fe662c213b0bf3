/* SPDX-License-Identifier: MIT */
/* give-back.c: takes room back from its owner */

#include "config.h"
#include "process/give-back.h"
#include "process/state.h"
#include "process/views.h"

/* Writes zeros.  Bytes that no thread uses need no flush of instructions. */
static int write_zeros(struct buffers_span span, enum buffers_kind kind)
{
	static char zeros[4096];	/* not const: it takes no space in the file */
	uintptr_t at = span.start;
	int error = 0;

	if (kind != BUFFERS_KIND_RX) {
		memset((void *)span.start, 0, buffers_span_size(span));
		return 0;
	}
	while (at < span.end && !error) {
		size_t size = buffers_min(span.end - at, sizeof(zeros));

		error = buffers_state_write(at, zeros, size, BUFFERS_WRITE_FREE_PRIVATE);
		at += size;
	}
	return error;
}

static struct buffers_span whole_pages(struct buffers_span room)
{
	uintptr_t odd = buffers_platform_granularity() - 1;

	return (struct buffers_span){ (room.start + odd) & ~odd, room.end & ~odd };
}

/* Returns whole pages to the system, and clears the rest, which is more likely to fail. */
__attribute__((cold))
static int clean(struct buffers_span room, enum buffers_kind kind, enum buffers_map_flags flags)
{
	struct buffers_span pages = whole_pages(room);
	int error;

	if (!buffers_span_size(pages))
		return write_zeros(room, kind);
	error = write_zeros((struct buffers_span){ room.start, pages.start }, kind);
	if (!error)
		error = write_zeros((struct buffers_span){ pages.end, room.end }, kind);
	if (!error && buffers_platform_discard(pages.start, buffers_span_size(pages), kind, flags))
		error = write_zeros(pages, kind);
	return error;
}

/* RX memory with a view is shared, and cleaned through the view. */
static int clean_by_view(struct buffers_span room, enum buffers_kind kind)
{
	size_t size = buffers_span_size(room);
	uintptr_t view = kind == BUFFERS_KIND_RX ? buffers_views_find(room.start, size) : 0;

	if (!view)
		return clean(room, kind, BUFFERS_MAP_PLAIN);
	return clean((struct buffers_span){ view, view + size }, BUFFERS_KIND_RW,
		     BUFFERS_MAP_SHARED);
}

__attribute__((cold))
static int clean_item(struct buffers_item *item, struct buffers_span room, enum buffers_kind kind)
{
	int error = clean_by_view(room, kind);

	if (error)
		buffers_stretches_cancel(item);
	else
		buffers_stretches_release(item);
	return error;
}

static int find_stretches(struct buffers_stretches **slot, const struct buffers_arena_view *arena,
			  struct buffers_stretches **stretches)
{
	struct buffers_stretches *created;
	int error;

	*stretches = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
	if (*stretches)
		return 0;
	error = buffers_stretches_create(&created);
	if (error)
		return error;
	created->arena = arena;
	if (__atomic_compare_exchange_n(slot, stretches, created, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE))
		*stretches = created;
	else
		buffers_stretches_destroy(created);
	return 0;
}

/* Room without whole pages that can be written needs no system call. */
static int add(struct buffers_stretches *stretches, struct buffers_span room,
	       enum buffers_kind kind)
{
	struct buffers_item *item;
	int error;

	if (kind != BUFFERS_KIND_RX && !buffers_span_size(whole_pages(room)))
		return buffers_stretches_add(stretches, room);
	error = buffers_stretches_begin(stretches, room, &item);
	return error ? error : clean_item(item, room, kind);
}

/*
 * One call frees a page at each end of its room.  A page that cannot be returned stays in use for
 * good, which only RX memory can make happen.
 */
__attribute__((cold))
static void return_pages(struct buffers_stretches *stretches, enum buffers_kind kind)
{
	struct buffers_item *item;

	while ((item = buffers_stretches_take_page(stretches)))
		clean_item(item, (struct buffers_span){
			item->base_address, item->base_address + item->size
		}, kind);
}

int buffers_give_back_to(struct buffers_stretches **slot,
			 const struct buffers_arena_view *arena, struct buffers_span room,
			 enum buffers_kind kind)
{
	struct buffers_stretches *stretches;
	int error = find_stretches(slot, arena, &stretches);

	if (!error)
		error = add(stretches, room, kind);
	if (!error)
		return_pages(stretches, kind);
	return error;
}

/*
 * Ends of items
 */

static struct buffers_span end_of(const struct buffers_item *item)
{
	return (struct buffers_span){
		buffers_item_next(item), item->base_address + item->size,
	};
}

/* Adds the room of an item that this thread holds, and releases the item. */
static bool add_end(const struct buffers_given *given, struct buffers_item *item)
{
	struct buffers_item *stretch;

	if (buffers_stretches_try_begin(given->stretches, end_of(item), &stretch) != 0)
		return false;
	buffers_item_set_position(item, item->size);
	buffers_stretches_release(stretch);
	given->release(item);
	return true;
}

/* Without the room of its end, a buffer would separate the stretches at both sides. */
__attribute__((cold))
static void join_end(struct buffers_item *item, void *context)
{
	const struct buffers_given *given = context;
	uint32_t position = buffers_item_position(item);

	/* Since its room was seen, another implementation may have filled it, or more than that. */
	if (position >= item->size || (given->skips_unused && position == 0))
		return;
	if (buffers_item_is_taken(item) ||
	    !buffers_stretches_touch(given->stretches, end_of(item)) ||
	    !buffers_item_take_at(item, position))
		return;
	if (!add_end(given, item))
		given->release(item);
}

static struct buffers_item *take(const struct buffers_given *given,
				 const struct buffers_window *window)
{
	return buffers_stretches_take(given->stretches, window, given->most, given->owner);
}

__attribute__((cold))
struct buffers_item *buffers_give_back_join(const struct buffers_given *given,
					    const struct buffers_window *window)
{
	struct buffers_stretches *stretches = given->stretches;
	struct buffers_given joined = *given;
	struct buffers_span range = window->range;
	uintptr_t cursor;

	if (!stretches)
		return NULL;
	cursor = __atomic_load_n(&stretches->cursor, __ATOMIC_RELAXED);
	if (cursor > range.start && cursor < range.end)
		range.start = cursor;
	cursor = buffers_index_visit_room(given->index, range, join_end, &joined);
	__atomic_store_n(&stretches->cursor, cursor, __ATOMIC_RELAXED);
	return take(given, window);
}

__attribute__((cold))
struct buffers_item *buffers_give_back_join_new(const struct buffers_given *given,
						const struct buffers_window *window,
						struct buffers_item *item)
{
	if (!given->stretches || !buffers_stretches_touch(given->stretches, end_of(item)) ||
	    !add_end(given, item))
		return item;
	return take(given, window);
}
