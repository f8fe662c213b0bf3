/* SPDX-License-Identifier: MIT */
/*
 * arena.c: windows of address space that one user has for itself
 *
 * An arena has four parts, each a mapping of its own:
 *
 *	arena	what never changes; inherited by children
 *	state	what this process knows; the kernel empties it in a child
 *	control	the list of the items and their locks; shared if the window is
 *	window	the memory itself
 *
 * New items are carved from the window one behind the other, under the arena's lock.
 * A process may be killed at any instant: what is published with an item's count is
 * all that counts, and how far the window is used is where the last item ends.
 */

#include "config.h"
#include "arena/arena.h"
#include "locator/pool.h"
#include "process/state.h"
#include "platform/tls.h"

#define CHUNK_MOST	((size_t)64 << 10)	/* of the window, for a new item */
#define CHUNKS		64			/* in a small window, for as many users */

/*
 * Only every fifth place of a locator has an item, so that no two are on one cache
 * line.  The others are empty, and passed over.
 */
#define STRIDE	5
#define SLOTS	((BUFFERS_LOCATOR_CAPACITY + STRIDE - 1) / STRIDE)
_Static_assert((STRIDE * sizeof(struct buffers_item)) >=
	       BUFFERS_CACHE_LINE + sizeof(struct buffers_item) - 1, "on lines of their own");

struct lock {
	struct buffers_robust_lock robust;	/* where the arena is shared */
} __attribute__((aligned(BUFFERS_CACHE_LINE)));

struct block {
	struct buffers_locator locator;	/* first: items are found from it, and it from them */
	struct buffers_arena *arena;
	struct lock locks[SLOTS];	/* of its items */
} __attribute__((aligned(BUFFERS_LOCATOR_SIZE)));

struct control {
	struct lock lock;		/* of an arena that is shared */
	uint32_t holder;		/* of another: the process that has locked it, or 0 */
	uint32_t last;			/* all blocks before this are full */
	uint32_t processes;		/* so many have used the arena */
	struct buffers_contention crowd;
	struct block blocks[];
};

/* All zero at first, and again in a forked child. */
struct state {
	uint32_t process;		/* its number */
	uint32_t seats;
	struct buffers_index index;	/* last: it uses the rest of the page */
};

struct buffers_arena {
	uint64_t serial;		/* random: several copies of the library make arenas */
	struct buffers_span window;
	unsigned kind;
	bool is_shared;
	size_t chunk;
	uint32_t block_count;
	size_t control_size;
	struct control *control;
	struct state *state;
	uintptr_t index_pages;		/* of the state's index, for children to unmap */
};

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

/* Nobody will unlock for us what another thread had locked when we were forked. */
static void lock_private(uint32_t *holder)
{
	uint32_t self = buffers_platform_pid();

	for (unsigned attempt = 0;; attempt++) {
		uint32_t old = __atomic_load_n(holder, __ATOMIC_RELAXED);

		if (old != self && __atomic_compare_exchange_n(holder, &old, self, false,
							       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return;
		buffers_platform_backoff(attempt);
	}
}

static bool lock(struct buffers_arena *arena)
{
	if (arena->is_shared)
		return buffers_platform_lock(&arena->control->lock.robust);
	lock_private(&arena->control->holder);
	return true;
}

static void unlock(struct buffers_arena *arena)
{
	if (arena->is_shared)
		buffers_platform_unlock(&arena->control->lock.robust);
	else
		__atomic_store_n(&arena->control->holder, 0, __ATOMIC_RELEASE);
}

/*
 * Taking and releasing
 */

/* 0: it has not entered this arena yet. */
static uint32_t own_process(const struct buffers_arena *arena)
{
	uint32_t process = __atomic_load_n(&arena->state->process, __ATOMIC_ACQUIRE);

	return process == buffers_state_pid() ? process : 0;
}

static void mark(const struct buffers_arena *arena, struct buffers_item *item)
{
	buffers_item_set_owner(item, BUFFERS_TAKEN |
			      (arena->kind == BUFFERS_KIND_RX ? BUFFERS_TAKEN_RX : 0) |
			      (arena->is_shared ? BUFFERS_TAKEN_SHARED : 0) |
			      own_process(arena) * BUFFERS_TAKEN_BY);
}

static bool is_ours(const struct buffers_arena *arena, const struct buffers_item *item)
{
	uint32_t mark = buffers_item_owner(item);

	return mark && mark / BUFFERS_TAKEN_BY == own_process(arena);
}

static bool take_private(struct buffers_item *item, const struct buffers_window *window)
{
	if (!buffers_item_take(item, window))
		return false;
	mark(block_of(item)->arena, item);
	return true;
}

static bool fits(const struct buffers_item *item, const struct buffers_window *window)
{
	return buffers_item_is_valid(item) &&
	       buffers_item_fits(item, buffers_item_position(item), window);
}

/* What the item says of its holder may be said by one who is dead: the lock decides. */
static bool take_shared(struct buffers_item *item, const struct buffers_window *window)
{
	struct buffers_robust_lock *lock = lock_of(item);

	if (!fits(item, window) || !buffers_platform_trylock(lock))
		return false;
	if (fits(item, window)) {
		mark(block_of(item)->arena, item);
		return true;
	}
	buffers_platform_unlock(lock);
	return false;
}

/* A child that was forked meanwhile is not the holder, nor is another thread. */
void buffers_arena_release(struct buffers_item *item)
{
	uint32_t mark = buffers_item_owner(item);

	if (!is_ours(block_of(item)->arena, item))
		return;
	buffers_item_set_owner(item, 0);
	if (!buffers_platform_unlock(lock_of(item)))
		buffers_item_set_owner(item, mark);
}

/*
 * Carving; the caller has locked the arena, or only looks
 */

/* Of its items; those that are published. */
static unsigned slots_of(const struct block *block)
{
	return (buffers_locator_count(&block->locator) + STRIDE - 1) / STRIDE;
}

static uintptr_t end_of(const struct block *block)
{
	const struct buffers_item *item =
		&block->locator.items[(slots_of(block) - 1) * STRIDE];

	return item->base_address + item->size;
}

/* The block with room for another item, or a full one after which none is begun. */
static struct block *last_block(struct buffers_arena *arena)
{
	struct control *control = arena->control;
	struct block *block = &control->blocks[__atomic_load_n(&control->last, __ATOMIC_RELAXED)];

	while (slots_of(block) == SLOTS && buffers_locator_next(&block->locator))
		block++;
	__atomic_store_n(&control->last, (uint32_t)(block - control->blocks), __ATOMIC_RELAXED);
	return block;
}

/* Up to where the window is used. */
static uintptr_t used_end(const struct buffers_arena *arena, const struct block *block)
{
	if (slots_of(block))
		return end_of(block);
	return block == arena->control->blocks ? arena->window.start : end_of(block - 1);
}

static int begin_block(struct buffers_arena *arena, struct block *block)
{
	int error = buffers_platform_commit((uintptr_t)block, sizeof(*block), BUFFERS_KIND_RW);

	if (error)
		return error;
	block->arena = arena;
	block->locator.this_address = (uintptr_t)block;
	return 0;
}

static int find_block_with_room(struct buffers_arena *arena, struct block **found)
{
	struct block *block = last_block(arena);
	int error;

	*found = block;
	if (slots_of(block) < SLOTS)
		return 0;
	if (block + 1 == arena->control->blocks + arena->block_count)
		return ENOSPC;
	error = begin_block(arena, block + 1);
	if (error)
		return error;
	__atomic_store_n(&block->locator.next_locator, (uintptr_t)(block + 1), __ATOMIC_RELEASE);
	*found = block + 1;
	return 0;
}

static void publish(struct block *block, unsigned slots)
{
	unsigned count = slots == SLOTS ? BUFFERS_LOCATOR_CAPACITY : slots * STRIDE;

	__atomic_store_n(&block->locator.num_items, (uint8_t)count, __ATOMIC_RELEASE);
}

/* Lists it, taken if it is for somebody. */
static int add(struct buffers_arena *arena, struct buffers_span span, struct buffers_item **taken)
{
	struct buffers_item *item;
	struct block *block;
	unsigned slot;
	int error = find_block_with_room(arena, &block);

	if (error)
		return error;
	slot = slots_of(block);
	item = &block->locator.items[slot * STRIDE];
	if (arena->is_shared && !buffers_platform_lock_init(lock_of(item)))
		return ENOMEM;
	if (arena->is_shared && taken)	/* nobody else can have it; not to wait is no order of locks */
		buffers_platform_trylock(lock_of(item));
	*item = (struct buffers_item){
		.base_address = span.start, .size = (uint32_t)(span.end - span.start),
	};
	if (taken) {
		mark(arena, item);
		*taken = item;
	}
	publish(block, slot + 1);
	return 0;
}

/* Where in what is left of the window an item would begin; false: there is too little. */
static bool find_room(struct buffers_arena *arena, const struct buffers_window *wanted,
		      uintptr_t *place)
{
	struct buffers_span left = { used_end(arena, last_block(arena)), arena->window.end };

	return buffers_gap_lowest(left, wanted->size, wanted->alignment, place);
}

static size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t largest_item(void)
{
	return UINT32_MAX & ~(uint32_t)(buffers_platform_granularity() - 1);
}

/* All is whole pages.  What was skipped to align the item is there for others. */
static int carve_locked(struct buffers_arena *arena, const struct buffers_window *wanted,
			struct buffers_item **item)
{
	size_t size = buffers_page_up(wanted->size);
	uintptr_t used = used_end(arena, last_block(arena));
	uintptr_t place, end;
	int error = 0;

	if (!find_room(arena, wanted, &place) || size > largest_item())
		return ENOSPC;
	for (; used < place && !error; used = end) {
		end = used + min(place - used, largest_item());
		error = add(arena, (struct buffers_span){ used, end }, NULL);
	}
	if (error)
		return error;
	if (size < arena->chunk)
		size = arena->chunk;
	end = place + min(size, arena->window.end - place);
	return add(arena, (struct buffers_span){ place, end }, item);
}

/* Most calls that can have nothing need no lock to learn it. */
static int carve(const struct buffers_pool *chain, const struct buffers_window *wanted,
		 struct buffers_item **item)
{
	struct buffers_arena *arena = chain->owner;
	uintptr_t place;
	int error;

	if (!find_room(arena, wanted, &place))
		return ENOSPC;
	if (!lock(arena))
		return ENOMEM;
	error = carve_locked(arena, wanted, item);
	unlock(arena);
	return error;
}

/*
 * Getting
 */

/* What the thread used last, of the arena with that serial. */
struct last {
	struct buffers_item *item;
	uint64_t serial;
};
static BUFFERS_TLS struct last last;

/* Also in a child whose kernel did not empty the page: its index is still right. */
static void enter_process(struct buffers_arena *arena)
{
	struct state *state = arena->state;

	if (own_process(arena))
		return;
	buffers_index_inherit(&state->index,
			      __atomic_load_n(&arena->index_pages, __ATOMIC_RELAXED));
	__atomic_store_n(&state->seats, __atomic_fetch_add(&arena->control->processes, 1,
							   __ATOMIC_RELAXED), __ATOMIC_RELAXED);
	__atomic_store_n(&state->process, buffers_state_pid(), __ATOMIC_RELEASE);
}

static void release(const struct buffers_arena *arena, struct buffers_item *item)
{
	if (arena->is_shared)
		buffers_arena_release(item);
	else
		buffers_item_release(item);
}

/* What was skipped, too, is usable only when somebody has it for the first time. */
static int make_usable(const struct buffers_arena *arena, struct buffers_item *item)
{
	int error = 0;

	if (buffers_item_position(item) == 0)
		error = buffers_platform_commit(item->base_address, item->size, arena->kind);
	if (error)
		release(arena, item);
	return error;
}

static int take_other(struct buffers_arena *arena, const struct buffers_window *wanted,
		      struct buffers_item **item)
{
	struct state *state = arena->state;
	struct buffers_pool chain = {
		.owner = arena, .first = &arena->control->blocks[0].locator,
		.index = &state->index, .crowd = &arena->control->crowd,
		.take = arena->is_shared ? take_shared : take_private,
		.release = arena->is_shared ? buffers_arena_release : buffers_item_release,
		.make = carve,
	};
	int error;

	enter_process(arena);
	chain.seats = __atomic_load_n(&state->seats, __ATOMIC_RELAXED);
	error = buffers_pool_get(&chain, wanted, item);
	__atomic_store_n(&arena->index_pages, buffers_index_pages(&state->index),
			 __ATOMIC_RELAXED);
	if (!error)
		error = make_usable(arena, *item);
	if (error)
		return error;
	*BUFFERS_TLS_ADDRESS(last) = (struct last){ *item, arena->serial };
	return 0;
}

int buffers_arena_take(struct buffers_arena *arena, size_t size, size_t alignment,
		       struct buffers_item **item)
{
	struct buffers_window wanted = {
		.range = arena->window, .size = size, .alignment = alignment,
	};
	const struct last *mine = BUFFERS_TLS_ADDRESS(last);

	if (size > UINT32_MAX)
		return ENOSPC;
	if (mine->serial == arena->serial && own_process(arena) &&
	    (arena->is_shared ? take_shared : take_private)(mine->item, &wanted)) {
		*item = mine->item;
		return 0;
	}
	return take_other(arena, &wanted, item);
}

/*
 * Making and destroying
 */

/* An item for each chunk, and one for what is skipped before it. */
static void measure(struct buffers_arena *arena)
{
	size_t page = buffers_platform_granularity();
	size_t size = arena->window.end - arena->window.start;

	arena->chunk = min(buffers_page_up(size / CHUNKS), CHUNK_MOST);
	if (arena->chunk < page)
		arena->chunk = page;
	arena->block_count = (uint32_t)(2 * (size / arena->chunk + 1) / SLOTS + 1);
	arena->control_size = buffers_page_up(sizeof(struct control) +
					      arena->block_count * sizeof(struct block));
}

static unsigned sharing_of(const struct buffers_arena *arena)
{
	return arena->is_shared ? BUFFERS_MAP_SHARED : 0;
}

static int map_window(struct buffers_arena *arena, const struct buffers_window *window)
{
	struct buffers_window wanted = *window;
	struct buffers_state *process;
	struct buffers_span mapped;
	int error = buffers_state_get(window->kind, &process);

	wanted.kind |= BUFFERS_MAP_RESERVED | sharing_of(arena);
	if (!error)
		error = buffers_allocator_map(&wanted, 0, &process->hindsight, &mapped);
	if (!error)
		arena->window = mapped;
	return error;
}

static int map_control(struct buffers_arena *arena)
{
	uintptr_t address;
	int error;

	measure(arena);
	error = buffers_platform_map_anywhere(arena->control_size,
					      BUFFERS_KIND_RW | BUFFERS_MAP_RESERVED | sharing_of(arena),
					      &address);
	if (error)
		return error;
	arena->control = (struct control *)address;
	error = buffers_platform_commit(address, offsetof(struct control, blocks), BUFFERS_KIND_RW);
	if (!error)
		error = begin_block(arena, arena->control->blocks);
	if (error)
		return error;
	if (arena->is_shared && !buffers_platform_lock_init(&arena->control->lock.robust))
		return ENOSYS;
	return 0;
}

static int map_state(struct buffers_arena *arena)
{
	void *state;
	int error = buffers_platform_map_state(&state);

	if (!error)
		arena->state = state;
	return error;
}

/* All but the window, as far as it is mapped. */
static void unmap_parts(struct buffers_arena *arena)
{
	size_t page = buffers_platform_granularity();

	if (arena->control)
		buffers_platform_unmap((uintptr_t)arena->control, arena->control_size);
	if (arena->state) {
		buffers_index_inherit(&arena->state->index, arena->index_pages);
		buffers_index_destroy(&arena->state->index);
		buffers_platform_unmap((uintptr_t)arena->state, page);
	}
	buffers_platform_unmap((uintptr_t)arena, page);
}

static int map_parts(const struct buffers_arena *plan, struct buffers_arena **arena)
{
	uintptr_t address;
	int error = buffers_platform_map_anywhere(buffers_platform_granularity(), BUFFERS_KIND_RW,
						  &address);

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

/* The window first: the rest can be anywhere, and might fill the gap for it. */
int buffers_arena_open(const struct buffers_window *window, bool is_shared,
		       struct buffers_arena **arena)
{
	struct buffers_arena plan = {
		.serial = buffers_platform_random() | 1,
		.kind = window->kind,
		.is_shared = is_shared,
	};
	int error = is_shared && !buffers_platform_has_robust_locks() ? ENOSYS : 0;

	if (!error)
		error = map_window(&plan, window);
	if (error)
		return error;
	error = map_parts(&plan, arena);
	if (error)
		buffers_state_unmap(plan.window);
	return error;
}

/* Whether a living thread of this process has it. */
static bool is_held(struct buffers_arena *arena, struct buffers_item *item)
{
	if (!is_ours(arena, item))
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
		for (unsigned slot = 0; slot < slots_of(block); slot++)
			if (is_held(arena, &block->locator.items[slot * STRIDE]))
				return true;
	return false;
}

int buffers_arena_close(struct buffers_arena *arena)
{
	int error = holds_any(arena) ? EINVAL : buffers_state_unmap(arena->window);

	if (!error)
		unmap_parts(arena);
	return error;
}
