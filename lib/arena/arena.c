/* SPDX-License-Identifier: MIT */
/*
 * arena.c: windows of addresses that one user creates for itself
 *
 * An arena has four or five parts, each a mapping of its own:
 *
 *	arena	constants, the committed parts of the window, and the index; children
 *		inherit them
 *	state	knowledge of this process; empty in a forked child
 *	control	the list of items and their locks; shared if the window is
 *	window	the memory itself
 *	view	if wanted: the window again, writable
 *
 * The window and the control are reserved.  Both are committed as they are used.
 *
 * New items are carved from the window one after the other, under the arena's lock.  A
 * process may be killed at any instant.  An item exists once the count of its locator
 * includes it, and the used part of the window ends where the last item ends.
 */

#include "config.h"
#include "arena/arena.h"
#include "allocator/allocator.h"
#include "allocator/gap.h"
#include "locator/pool.h"
#include "platform/tls.h"
#include "process/give-back.h"
#include "process/state.h"
#include "process/views.h"

#define CHUNK_MOST	((size_t)64 << 10)	/* largest default size of a new item */
#define CHUNKS		64			/* number of items in a small window */

#define MOST_UNITS	4096			/* in which the window is committed */
#define CONTROL_STEP	((uintptr_t)64 << 10)	/* in which the control is committed */

/*
 * Only every fifth entry of a locator is a slot for an item: no two items share a cache line.
 * The entries between them stay empty, and are skipped.
 */
#define STRIDE	5
#define SLOTS	((BUFFERS_LOCATOR_CAPACITY + STRIDE - 1) / STRIDE)
_Static_assert((STRIDE * sizeof(struct buffers_item)) >=
	       BUFFERS_CACHE_LINE + sizeof(struct buffers_item) - 1,
	       "each item has its own cache lines");

struct lock {
	struct buffers_robust_lock robust;	/* used if the arena is shared */
} __attribute__((aligned(BUFFERS_CACHE_LINE)));

struct block {
	struct buffers_locator locator;	/* first: an item's address leads to its block */
	struct buffers_arena *arena;	/* struct buffers_arena_block */
	struct lock locks[SLOTS];	/* one for each slot */
} __attribute__((aligned(BUFFERS_LOCATOR_SIZE)));

struct control {
	struct lock lock;		/* the lock of a shared arena */
	uint32_t tail;			/* every block before it is full */
	uint32_t processes;		/* the last number that a process drew */
	struct buffers_contention contention;
	struct block blocks[];
};

/*
 * A page of buffers_state_map_page().
 *
 * The number of a process is a matter of this arena, and names the holders of items.  No two
 * processes draw the same one, whatever numbers the kernel has given them: those repeat, and
 * a child in a PID namespace can have its parent's.
 */
struct state {
	uint32_t canary;
	uint32_t number;		/* 0: this process has not used the arena yet */
	uint32_t is_locked;		/* the lock of a private arena */
	uint32_t is_committing;		/* a lock within that one */
	uint32_t is_entering;		/* the lock of enter_arena() */
	uint32_t has_view;		/* this process made the arena, and its view */
	struct buffers_stretches *stretches;	/* NULL: no room was given back */
};
#define MOST_PROCESSES	(UINT32_MAX / BUFFERS_TAKEN_BY)

struct buffers_arena {
	struct buffers_arena_view view;
	uint64_t serial;		/* random: other copies of the library have arenas, too */
	struct buffers_span window;
	enum buffers_kind kind;
	bool is_shared;
	bool is_closing;		/* the window may be other memory already */
	enum buffers_map_flags window_flags;
	size_t chunk;
	size_t unit;
	uintptr_t first_unit;		/* may begin below the window */
	uint32_t block_count;
	size_t control_size;
	struct control *control;
	struct state *state;
	struct buffers_state_page state_page;
	uint32_t committed[MOST_UNITS / 32];	/* a bit for each unit; never cleared */
	/* last: its nodes fill the rest of the page */
	struct buffers_index index __attribute__((aligned(BUFFERS_CACHE_LINE)));
};
_Static_assert(sizeof(struct buffers_arena) <= 1024, "most of the page is left for nodes");
_Static_assert(offsetof(struct buffers_arena, view) == 0 && offsetof(struct block, arena) ==
	       offsetof(struct buffers_arena_block, arena), "buffers_arena_written()");

/* Children inherit the view of a shared arena. */
static const uint32_t always = 1;

/* An arena that lost its view remains one with a view, which nothing writes. */
static const uint32_t never;

/*
 * Locks
 */

static struct block *block_of(const struct buffers_item *item)
{
	return (struct block *)((uintptr_t)item & ~(uintptr_t)(BUFFERS_LOCATOR_SIZE - 1));
}

static struct buffers_robust_lock *lock_of(const struct buffers_item *item)
{
	struct block *block = block_of(item);

	return &block->locks[(item - block->locator.items) / STRIDE].robust;
}

/* A lock that another thread held at fork is never released in the child, but is empty there. */
static void lock_private(uint32_t *word)
{
	for (unsigned attempt = 0; !buffers_lock_try(word); attempt++)
		buffers_platform_backoff(attempt);
}

static bool lock_arena(struct buffers_arena *arena)
{
	if (arena->is_shared)
		return buffers_platform_lock(&arena->control->lock.robust);
	lock_private(&arena->state->is_locked);
	return true;
}

static void unlock_arena(struct buffers_arena *arena)
{
	if (arena->is_shared)
		buffers_platform_unlock(&arena->control->lock.robust);
	else
		buffers_lock_release(&arena->state->is_locked);
}

/*
 * Taking and releasing
 */

static uint32_t own_number(const struct buffers_arena *arena)
{
	return __atomic_load_n(&arena->state->number, __ATOMIC_ACQUIRE);
}

static bool has_view(const struct buffers_arena_view *view)
{
	return view->has_view && *view->has_view;
}

/* A private window with a view is shared with children, which have no part in its list. */
static bool is_another_process(const struct buffers_arena *arena)
{
	return arena->view.has_view && !has_view(&arena->view);
}

static uint32_t kind_bits(const struct buffers_arena *arena)
{
	return (arena->kind == BUFFERS_KIND_RX ? BUFFERS_TAKEN_RX : 0) |
	       (arena->view.has_view ? BUFFERS_TAKEN_VIEW : 0);
}

static void set_arena_owner(const struct buffers_arena *arena, struct buffers_item *item)
{
	buffers_item_set_owner(item, BUFFERS_TAKEN | kind_bits(arena) |
			       (arena->is_shared ? BUFFERS_TAKEN_SHARED : 0) |
			       own_number(arena) * BUFFERS_TAKEN_BY);
}

static bool is_own(const struct buffers_arena *arena, const struct buffers_item *item)
{
	uint32_t number = own_number(arena);

	return number && buffers_item_owner(item) / BUFFERS_TAKEN_BY == number;
}

static bool take_private(struct buffers_item *item, const struct buffers_window *window)
{
	if (!buffers_item_take(item, window))
		return false;
	set_arena_owner(block_of(item)->arena, item);
	return true;
}

static bool fits(const struct buffers_item *item, const struct buffers_window *window)
{
	return buffers_item_is_valid(item) &&
	       buffers_item_fits(item, buffers_item_position(item), window);
}

/* The owner word may stem from a process that has ended: the lock decides. */
static bool take_shared(struct buffers_item *item, const struct buffers_window *window)
{
	struct buffers_robust_lock *lock = lock_of(item);

	if (!fits(item, window) || !buffers_platform_trylock(lock))
		return false;
	if (fits(item, window)) {
		set_arena_owner(block_of(item)->arena, item);
		return true;
	}
	buffers_platform_unlock(lock);
	return false;
}

/* Whether the lock can be had, also if the owner word stems from a process that has ended. */
static bool is_free_shared(struct buffers_item *item)
{
	struct buffers_robust_lock *lock = lock_of(item);

	if (!buffers_platform_trylock(lock))
		return false;
	buffers_platform_unlock(lock);
	return true;
}

/* Neither a child that was forked meanwhile nor another thread is the holder. */
void buffers_arena_release(struct buffers_item *item)
{
	uint32_t owner = buffers_item_owner(item);

	if (!is_own(block_of(item)->arena, item))
		return;
	buffers_item_set_owner(item, 0);
	if (!buffers_platform_unlock(lock_of(item)))
		buffers_item_set_owner(item, owner);
}

/*
 * Committing
 *
 * The kernel makes each committed stretch of the window a mapping.  Units bound their number.
 */

static bool is_committed(const struct buffers_arena *arena, size_t unit)
{
	return __atomic_load_n(&arena->committed[unit / 32], __ATOMIC_ACQUIRE) >> unit % 32 & 1;
}

static size_t next_unit(const struct buffers_arena *arena, size_t unit, size_t end,
			bool wants_committed)
{
	while (unit < end && is_committed(arena, unit) != wants_committed)
		unit++;
	return unit;
}

static enum buffers_map_flags control_flags(const struct buffers_arena *arena)
{
	return BUFFERS_MAP_RESERVED | (arena->is_shared ? BUFFERS_MAP_SHARED : 0);
}

/* All of it is committed in the window; then so is the view, wherever the process has one. */
static int commit_window(const struct buffers_arena *arena, struct buffers_span span)
{
	size_t size = buffers_span_size(span);
	int error = buffers_platform_commit(span.start, size, arena->kind, arena->window_flags);

	if (error || !arena->view.has_view)
		return error;
	return buffers_platform_commit_view(span.start + arena->view.distance, size);
}

__attribute__((cold))
static int commit_units(struct buffers_arena *arena, size_t first, size_t end)
{
	uintptr_t base = arena->first_unit;
	struct buffers_span span = {
		base + buffers_max(first * arena->unit, arena->window.start - base),
		base + buffers_min(end * arena->unit, arena->window.end - base),
	};
	int error = commit_window(arena, span);

	for (size_t unit = first; unit < end && !error; unit++)
		__atomic_fetch_or(&arena->committed[unit / 32], (uint32_t)1 << unit % 32,
				  __ATOMIC_RELEASE);
	return error;
}

/* Commits the units of the span that this process has not committed yet, each of them once. */
static int commit_span(struct buffers_arena *arena, struct buffers_span span)
{
	size_t unit = (span.start - arena->first_unit) / arena->unit;
	size_t end = (span.end - 1 - arena->first_unit) / arena->unit + 1;
	size_t next;
	int error = 0;

	if (next_unit(arena, unit, end, false) == end)
		return 0;
	lock_private(&arena->state->is_committing);
	while ((unit = next_unit(arena, unit, end, false)) < end && !error) {
		next = next_unit(arena, unit, end, true);
		error = commit_units(arena, unit, next);
		unit = next;
	}
	buffers_lock_release(&arena->state->is_committing);
	return error;
}

static struct buffers_span span_of(const struct buffers_item *item)
{
	return (struct buffers_span){ item->base_address, item->base_address + item->size };
}

static uintptr_t step_up(uintptr_t offset)
{
	return (offset + CONTROL_STEP - 1) & ~(CONTROL_STEP - 1);
}

/* Commits the steps of the control that this block is the first one to use. */
static int commit_block(const struct buffers_arena *arena, const struct block *block)
{
	uintptr_t start = (uintptr_t)arena->control;
	uintptr_t used = block == arena->control->blocks ? 0 : step_up((uintptr_t)block - start);
	uintptr_t end = buffers_min(step_up((uintptr_t)(block + 1) - start), arena->control_size);

	if (used >= end)
		return 0;
	return buffers_platform_commit(start + used, end - used, BUFFERS_KIND_RW,
				       control_flags(arena));
}

/*
 * Carving; the caller holds the arena's lock, or only reads
 */

/* The number of slots with a published item. */
static unsigned used_slots(const struct block *block)
{
	return (buffers_locator_count(&block->locator) + STRIDE - 1) / STRIDE;
}

static uintptr_t end_of(const struct block *block)
{
	const struct buffers_item *item =
		&block->locator.items[(used_slots(block) - 1) * STRIDE];

	return item->base_address + item->size;
}

/* The block with room for another item, or the last one if all are full. */
static struct block *tail_block(struct buffers_arena *arena)
{
	struct control *control = arena->control;
	struct block *block = &control->blocks[__atomic_load_n(&control->tail, __ATOMIC_ACQUIRE)];

	while (used_slots(block) == SLOTS && buffers_locator_next(&block->locator))
		block++;
	/* Releases the block, which this thread may know by its link from the one before. */
	__atomic_store_n(&control->tail, (uint32_t)(block - control->blocks), __ATOMIC_RELEASE);
	return block;
}

/* The end of the used part of the window. */
static uintptr_t used_end(const struct buffers_arena *arena, const struct block *block)
{
	if (used_slots(block))
		return end_of(block);
	return block == arena->control->blocks ? arena->window.start : end_of(block - 1);
}

__attribute__((cold))
static int init_block(struct buffers_arena *arena, struct block *block)
{
	int error = commit_block(arena, block);

	if (error)
		return error;
	block->arena = arena;
	buffers_locator_set_mark(&block->locator, BUFFERS_MARK_OWN);
	block->locator.this_address = (uintptr_t)block;
	return 0;
}

static int find_block_with_room(struct buffers_arena *arena, struct block **found)
{
	struct block *block = tail_block(arena);
	int error;

	*found = block;
	if (used_slots(block) < SLOTS)
		return 0;
	if (block + 1 == arena->control->blocks + arena->block_count)
		return ENOSPC;
	error = init_block(arena, block + 1);
	if (error)
		return error;
	__atomic_store_n(&block->locator.next_locator, (uintptr_t)(block + 1), __ATOMIC_RELEASE);
	*found = block + 1;
	return 0;
}

static void publish_slots(struct block *block, unsigned slots)
{
	unsigned count = slots == SLOTS ? BUFFERS_LOCATOR_CAPACITY : slots * STRIDE;

	__atomic_store_n(&block->locator.num_items, (uint8_t)count, __ATOMIC_RELEASE);
}

/* Adds an item, taken by the caller unless `taken` is NULL. */
static int list_item(struct buffers_arena *arena, struct buffers_span span,
		     struct buffers_item **taken)
{
	struct buffers_item *item;
	struct block *block;
	unsigned slot;
	int error = find_block_with_room(arena, &block);

	if (error)
		return error;
	slot = used_slots(block);
	item = &block->locator.items[slot * STRIDE];
	if (arena->is_shared && !buffers_platform_lock_init(lock_of(item)))
		return ENOMEM;
	/* Succeeds, since the item is not published yet; trylock adds no lock order. */
	if (arena->is_shared && taken)
		buffers_platform_trylock(lock_of(item));
	*item = (struct buffers_item){
		.base_address = span.start, .size = (uint32_t)(span.end - span.start),
	};
	if (taken) {
		set_arena_owner(arena, item);
		*taken = item;
	}
	publish_slots(block, slot + 1);
	return 0;
}

/* Finds the address of a new item in the rest of the window; false: too little is left. */
static bool find_room(struct buffers_arena *arena, const struct buffers_window *wanted,
		      uintptr_t *start)
{
	struct buffers_span left = { used_end(arena, tail_block(arena)), arena->window.end };

	return buffers_gap_lowest(left, wanted->size, wanted->alignment, start);
}

static size_t largest_item(void)
{
	return UINT32_MAX & ~(uint32_t)(buffers_platform_granularity() - 1);
}

/* Works in whole pages.  The bytes skipped for alignment become items for other requests. */
static int carve_locked(struct buffers_arena *arena, const struct buffers_window *wanted,
			struct buffers_item **item)
{
	size_t size = buffers_page_up(wanted->size);
	uintptr_t used = used_end(arena, tail_block(arena));
	uintptr_t start, end;
	int error = 0;

	if (!find_room(arena, wanted, &start) || size > largest_item())
		return ENOSPC;
	for (; used < start && !error; used = end) {
		end = used + buffers_min(start - used, largest_item());
		error = list_item(arena, (struct buffers_span){ used, end }, NULL);
	}
	if (error)
		return error;
	if (size < arena->chunk)
		size = arena->chunk;
	end = start + buffers_min(size, arena->window.end - start);
	error = commit_span(arena, (struct buffers_span){ start, end });
	return error ? error : list_item(arena, (struct buffers_span){ start, end }, item);
}

/* Looks for room without the lock first: most calls that fail then need no lock. */
static int carve_new(const struct buffers_pool *pool, const struct buffers_window *wanted,
		 struct buffers_item **item)
{
	struct buffers_arena *arena = pool->owner;
	uintptr_t start;
	int error;

	if (!find_room(arena, wanted, &start))
		return ENOSPC;
	if (!lock_arena(arena))
		return ENOMEM;
	error = carve_locked(arena, wanted, item);
	unlock_arena(arena);
	return error;
}

struct buffers_stretches *buffers_arena_stretches(const struct buffers_arena *arena)
{
	return __atomic_load_n(&arena->state->stretches, __ATOMIC_ACQUIRE);
}

static uint32_t owner_of_given(const struct buffers_arena *arena)
{
	return BUFFERS_TAKEN | BUFFERS_TAKEN_GIVEN | kind_bits(arena);
}

static void release_private(struct buffers_item *item)
{
	if (buffers_item_owner(item) & BUFFERS_TAKEN_GIVEN)
		buffers_stretches_release(item);
	else
		buffers_item_release(item);
}

/* The free ends of items may join room that was given back, before another item is carved. */
static int carve(const struct buffers_pool *pool, const struct buffers_window *wanted,
		 struct buffers_item **item)
{
	struct buffers_arena *arena = pool->owner;
	struct buffers_given given = {
		.stretches = buffers_arena_stretches(arena), .index = &arena->index,
		.release = release_private, .skips_unused = true, .most = arena->chunk,
		.owner = owner_of_given(arena),
	};

	*item = buffers_give_back_join(&given, wanted);
	return *item ? 0 : carve_new(pool, wanted, item);
}

/*
 * Getting
 */

/* The thread's last item, and the serial of its arena. */
struct cached {
	struct buffers_item *item;
	uint64_t serial;
};
static BUFFERS_TLS struct cached cached;

/* The processes that come after the last number share it; locks know their threads as well. */
static uint32_t draw_number(struct control *control)
{
	uint32_t last = __atomic_load_n(&control->processes, __ATOMIC_RELAXED);

	while (last < MOST_PROCESSES &&
	       !__atomic_compare_exchange_n(&control->processes, &last, last + 1, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return last < MOST_PROCESSES ? last + 1 : MOST_PROCESSES;
}

/*
 * Lists the view that a child inherits.  If several threads do, the last record replaces the
 * others.  Without a record, overwriting is only slower.
 */
static void list_inherited_view(const struct buffers_arena *arena)
{
	uintptr_t start = arena->window.start;

	if (arena->view.has_view == &always && !buffers_views_find(start, 1))
		buffers_views_list(arena->window, start + arena->view.distance);
}

/* A child continues with its parent's index: an arena may have millions of items. */
static void enter_arena(struct buffers_arena *arena)
{
	struct state *state = arena->state;

	if (own_number(arena))
		return;
	list_inherited_view(arena);	/* makes system calls: not under the lock */
	lock_private(&state->is_entering);
	if (!own_number(arena)) {
		buffers_index_inherit(&arena->index);
		__atomic_store_n(&state->number, draw_number(arena->control), __ATOMIC_RELEASE);
	}
	buffers_lock_release(&state->is_entering);
}

/*
 * Commits an item that was carved by another process, or of skipped bytes.  If that fails, a
 * smaller item may do.
 */
static int commit_item(const struct buffers_pool *pool, const struct buffers_window *wanted,
		       struct buffers_item **item)
{
	int error = commit_span(pool->owner, span_of(*item));

	if (!error)
		return 0;
	pool->release(*item);
	return carve(pool, wanted, item) == 0 ? 0 : error;
}

static int find_or_carve(struct buffers_arena *arena, const struct buffers_window *wanted,
			 struct buffers_item **item)
{
	struct buffers_pool pool = {
		.owner = arena, .first = &arena->control->blocks[0].locator,
		.index = &arena->index, .contention = &arena->control->contention,
		.new_size = arena->chunk,
		.take = arena->is_shared ? take_shared : take_private,
		.is_free = arena->is_shared ? is_free_shared : buffers_item_is_free,
		.release = arena->is_shared ? buffers_arena_release : release_private,
		.make = carve,
	};
	int error;

	enter_arena(arena);
	pool.first_slot = own_number(arena);
	error = buffers_pool_get(&pool, wanted, item);
	if (!error)
		error = commit_item(&pool, wanted, item);
	if (error)
		return error;
	if (!(buffers_item_owner(*item) & BUFFERS_TAKEN_GIVEN))
		*BUFFERS_TLS_ADDRESS(cached) = (struct cached){ *item, arena->serial };
	return 0;
}

/* Takes room that was given back. */
static struct buffers_item *take_given(const struct buffers_arena *arena,
				       const struct buffers_window *wanted)
{
	return buffers_stretches_take(buffers_arena_stretches(arena), wanted, arena->chunk,
				      owner_of_given(arena));
}

int buffers_arena_take(struct buffers_arena *arena, size_t size, size_t alignment,
		       struct buffers_item **item)
{
	struct buffers_window wanted = {
		.range = arena->window, .size = size, .alignment = alignment,
	};
	const struct cached *own = BUFFERS_TLS_ADDRESS(cached);

	if (size > UINT32_MAX)
		return ENOSPC;
	if (is_another_process(arena))
		return EACCES;
	*item = take_given(arena, &wanted);
	if (*item)
		return 0;
	if (own->serial == arena->serial && own_number(arena) &&
	    (arena->is_shared ? take_shared : take_private)(own->item, &wanted)) {
		*item = own->item;
		return 0;
	}
	return find_or_carve(arena, &wanted, item);
}

/*
 * Giving back
 */

static struct buffers_arena *arena_with(struct buffers_state_page *page)
{
	return (struct buffers_arena *)((uintptr_t)page -
					offsetof(struct buffers_arena, state_page));
}

static bool has_address(struct buffers_state_page *page, uintptr_t address)
{
	const struct buffers_arena *arena = arena_with(page);

	return address >= arena->window.start && address < arena->window.end &&
	       !__atomic_load_n(&arena->is_closing, __ATOMIC_ACQUIRE);
}

static int give_back(struct buffers_arena *arena, struct buffers_span room)
{
	struct buffers_item *last;
	int error;

	if (arena->is_shared)
		return ENOSYS;
	if (is_another_process(arena))
		return EACCES;
	enter_arena(arena);
	error = buffers_index_check_use(&arena->index, &arena->control->blocks[0].locator,
					arena->kind, room, &last);
	if (error)
		return EINVAL;
	return buffers_give_back_to(&arena->state->stretches, &arena->view, room, arena->kind);
}

int buffers_arena_give_back(struct buffers_span room)
{
	struct buffers_state_page *page = NULL;

	for (unsigned kind = 0; kind < BUFFERS_KINDS && !page; kind++)
		page = buffers_state_find_page(kind, has_address, room.start);
	return page ? give_back(arena_with(page), room) : ENOENT;
}

uintptr_t buffers_arena_view(uintptr_t address)
{
	struct buffers_state_page *page = buffers_state_find_page(BUFFERS_KIND_RX, has_address,
								  address);
	const struct buffers_arena_view *view = page ? &arena_with(page)->view : NULL;

	return view && has_view(view) ? address + view->distance : 0;
}

/*
 * Opening and closing
 */

/* A huge page needs one mapping around it: units are whole huge pages, wherever the window is. */
static void measure_units(struct buffers_arena *arena)
{
	size_t step = arena->window_flags & BUFFERS_MAP_HUGE_PAGES ?
		      BUFFERS_HUGE_PAGE : buffers_platform_granularity();
	size_t least;

	arena->first_unit = arena->window.start & ~(uintptr_t)(step - 1);
	least = (arena->window.end - 1 - arena->first_unit) / MOST_UNITS;
	arena->unit = buffers_max(arena->chunk, (least & ~(step - 1)) + step);
}

/* Provides an item for each chunk, and one for the bytes skipped before it. */
static void measure(struct buffers_arena *arena)
{
	size_t page = buffers_platform_granularity();
	size_t size = arena->window.end - arena->window.start;

	arena->chunk = buffers_min(buffers_page_up(size / CHUNKS), CHUNK_MOST);
	arena->chunk = buffers_max(arena->chunk, page);
	measure_units(arena);
	arena->block_count = (uint32_t)(2 * (size / arena->chunk + 1) / SLOTS + 1);
	arena->control_size = buffers_page_up(sizeof(struct control) +
					      arena->block_count * sizeof(struct block));
}

/* Unmaps the view first: without the window, its address could soon be other memory. */
static int unmap_window(struct buffers_arena *arena, bool has_view)
{
	uintptr_t start = arena->window.start;
	int error = has_view ? buffers_views_unmap(arena->window, start + arena->view.distance) : 0;

	if (error)
		return error;
	if (has_view)
		arena->view.has_view = &never;
	return buffers_state_unmap(arena->window);
}

static int map_view(struct buffers_arena *arena)
{
	uintptr_t address;
	int error = buffers_views_map(arena->window, arena->is_shared, &address);

	if (error)
		return error;
	arena->view.distance = address - arena->window.start;
	arena->view.has_view = &always;
	return 0;
}

/* Huge pages fit best into an aligned window, but any window does. */
static int find_window(struct buffers_window *wanted, struct buffers_search_cache *cache,
		       struct buffers_span *mapped)
{
	size_t alignment = wanted->alignment;
	int error;

	if (wanted->map_flags & BUFFERS_MAP_HUGE_PAGES)
		wanted->alignment = buffers_max(alignment, BUFFERS_HUGE_PAGE);
	error = buffers_allocator_map(wanted, 0, cache, mapped);
	if (error != EADDRNOTAVAIL || wanted->alignment == alignment)
		return error;
	wanted->alignment = alignment;
	return buffers_allocator_map(wanted, 0, cache, mapped);
}

static int map_window(struct buffers_arena *arena, const struct buffers_window *window)
{
	struct buffers_window wanted = *window;
	struct buffers_state *state;
	struct buffers_span mapped;
	int error = buffers_state_get(window->kind, &state);

	wanted.map_flags = arena->window_flags;
	if (!error)
		error = find_window(&wanted, &state->search_cache, &mapped);
	if (error)
		return error;
	arena->window = mapped;
	if (window->map_flags & BUFFERS_MAP_SHARED)
		error = map_view(arena);
	if (error)
		buffers_state_unmap(mapped);
	return error;
}

static int map_control(struct buffers_arena *arena)
{
	uintptr_t address;
	int error;

	measure(arena);
	error = buffers_platform_map_anywhere(arena->control_size, BUFFERS_KIND_RW,
					      control_flags(arena), &address);
	if (error)
		return error;
	arena->control = (struct control *)address;
	error = init_block(arena, arena->control->blocks);
	if (error)
		return error;
	if (arena->is_shared && !buffers_platform_lock_init(&arena->control->lock.robust))
		return ENOSYS;
	return 0;
}

static int map_state(struct buffers_arena *arena)
{
	int error = buffers_state_map_page(arena->kind, &arena->state_page);

	if (error)
		return error;
	arena->state = (struct state *)arena->state_page.canary;
	arena->state->has_view = 1;
	if (arena->view.has_view && !arena->is_shared)
		arena->view.has_view = &arena->state->has_view;
	return 0;
}

/* Unmaps the parts that exist, but not the window. */
static void unmap_parts(struct buffers_arena *arena)
{
	size_t page = buffers_platform_granularity();

	if (arena->control)
		buffers_platform_unmap((uintptr_t)arena->control, arena->control_size);
	if (arena->state) {
		buffers_stretches_destroy(buffers_arena_stretches(arena));
		buffers_state_unmap_page(arena->kind, &arena->state_page);
	}
	buffers_index_destroy(&arena->index);
	buffers_platform_unmap((uintptr_t)arena, page);
}

static int map_parts(const struct buffers_arena *plan, struct buffers_arena **arena)
{
	uintptr_t address;
	int error = buffers_platform_map_anywhere(buffers_platform_granularity(), BUFFERS_KIND_RW,
						  BUFFERS_MAP_PLAIN, &address);

	if (error)
		return error;
	*arena = (struct buffers_arena *)address;
	**arena = *plan;
	error = map_state(*arena);
	if (!error)
		error = map_control(*arena);
	if (error)
		unmap_parts(*arena);
	return error;
}

/* Maps the window first: the other parts can be anywhere, and might occupy its gap. */
int buffers_arena_open(const struct buffers_window *window, bool is_shared,
		       struct buffers_arena **arena)
{
	struct buffers_arena plan = {
		.serial = buffers_platform_random() | 1,
		.kind = window->kind,
		.is_shared = is_shared,
	};
	int error = is_shared && !buffers_platform_has_robust_locks() ? ENOSYS : 0;

	plan.window_flags = window->map_flags | control_flags(&plan);
	if (!error)
		error = map_window(&plan, window);
	if (error)
		return error;
	error = map_parts(&plan, arena);
	if (error)
		unmap_window(&plan, plan.view.has_view);
	return error;
}

/* Whether a living thread of this process holds the item. */
static bool is_held(struct buffers_arena *arena, struct buffers_item *item)
{
	if (!is_own(arena, item))
		return false;
	if (!arena->is_shared || !buffers_platform_trylock(lock_of(item)))
		return true;
	buffers_platform_unlock(lock_of(item));
	return false;
}

static bool holds_any(struct buffers_arena *arena)
{
	struct block *block = arena->control->blocks;

	for (; block; block = (struct block *)buffers_locator_next(&block->locator))
		for (unsigned slot = 0; slot < used_slots(block); slot++)
			if (is_held(arena, &block->locator.items[slot * STRIDE]))
				return true;
	return false;
}

int buffers_arena_close(struct buffers_arena *arena)
{
	bool is_in_use = holds_any(arena) ||
			 buffers_stretches_are_held(buffers_arena_stretches(arena));
	int error;

	if (is_in_use)
		return EINVAL;
	__atomic_store_n(&arena->is_closing, true, __ATOMIC_RELEASE);
	error = unmap_window(arena, has_view(&arena->view));
	if (error)
		__atomic_store_n(&arena->is_closing, false, __ATOMIC_RELEASE);
	else
		unmap_parts(arena);
	return error;
}
