/* SPDX-License-Identifier: MIT */
/*
 * stretches.c: room that its owners gave back
 *
 * A node for each stretch is in two structures: a treap by the stretch's end, to find neighbours
 * and overlaps, and the list of its class of sizes, newest first.  Nodes of the treap have an
 * upper bound of the sizes below them, which a search that fails lowers.
 *
 * A stretch that is handed out keeps its node, which contains the item, and its place in the
 * treap: room beyond the item's position is not in use, so it cannot be given back.  Its holder
 * may give back the bytes before the position.  The key is the end because it never changes
 * meanwhile.
 *
 * A release only pushes the node on a stack.  The next thread that takes the lock settles the
 * nodes there.
 */

#include "config.h"
#include "locator/stretches.h"
#include "locator/stretch-tree.h"
#include "platform/platform.h"
#include "platform/wait.h"

#define LONGEST_WAIT	1000	/* milliseconds */
#define HOLDER_IS_STUCK	2	/* value of the lock */
#define PATIENCE	32	/* stretches that may fail before a search changes its method */
#define CLASS_PATIENCE	16	/* the same, of one class */
#define PAGES_LEFT	8	/* pages that may stay resident */

/* A page of nodes. */
struct chunk {
	struct buffers_stretches *owner;
	uint32_t first;		/* the number of its first node */
	uint32_t unused;
	struct buffers_stretch nodes[];
};

/*
 * Numbers of nodes
 */

static struct chunk *chunk_of(const struct buffers_stretch *node)
{
	return (struct chunk *)buffers_page_down((uintptr_t)node);
}

static uint32_t number_in(const struct chunk *chunk, const struct buffers_stretch *node)
{
	return chunk->first + (uint32_t)(node - chunk->nodes);
}

static uint32_t number_of(const struct buffers_stretches *stretches,
			  const struct buffers_stretch *node)
{
	return number_in((struct chunk *)((uintptr_t)node & ~(uintptr_t)(stretches->page - 1)),
			 node);
}

static struct buffers_stretch *node_of(const struct buffers_stretches *stretches, uint32_t number)
{
	struct chunk *chunk = (struct chunk *)stretches->chunks[number >> stretches->shift];

	return &chunk->nodes[number & ((1u << stretches->shift) - 1)];
}

static struct buffers_stretch *node_with(struct buffers_item *item)
{
	return (struct buffers_stretch *)((uintptr_t)item -
					  offsetof(struct buffers_stretch, item));
}

static void unmap_table(struct buffers_stretches *stretches)
{
	if (stretches->chunks != stretches->own_chunks)
		buffers_platform_unmap((uintptr_t)stretches->chunks,
				       buffers_page_up(stretches->chunk_limit *
						       sizeof(uintptr_t)));
}

static int grow_table(struct buffers_stretches *stretches)
{
	size_t size = buffers_page_up(2 * stretches->chunk_limit * sizeof(uintptr_t));
	uintptr_t address;
	int error = buffers_platform_map_anywhere(size, BUFFERS_KIND_RW, BUFFERS_MAP_PLAIN,
						  &address);

	if (error)
		return error;
	memcpy((void *)address, stretches->chunks, stretches->chunk_count * sizeof(uintptr_t));
	unmap_table(stretches);
	stretches->chunks = (uintptr_t *)address;
	stretches->chunk_limit = size / sizeof(uintptr_t);
	return 0;
}

static void add_spare(struct buffers_stretches *stretches, struct buffers_stretch *node)
{
	node->left = stretches->spare;
	stretches->spare = node;
}

__attribute__((cold))
static int add_chunk(struct buffers_stretches *stretches)
{
	size_t page = stretches->page;
	struct chunk *chunk;
	uintptr_t address;
	int error = 0;

	if (stretches->chunk_count >> (31 - stretches->shift))
		return ENOMEM;
	if (stretches->chunk_count == stretches->chunk_limit)
		error = grow_table(stretches);
	if (!error)
		error = buffers_platform_map_anywhere(page, BUFFERS_KIND_RW, BUFFERS_MAP_PLAIN,
						      &address);
	if (error)
		return error;
	chunk = (struct chunk *)address;
	chunk->owner = stretches;
	chunk->first = (uint32_t)stretches->chunk_count << stretches->shift;
	stretches->chunks[stretches->chunk_count++] = address;
	for (size_t i = (page - sizeof(struct chunk)) / sizeof(struct buffers_stretch); i--;)
		add_spare(stretches, &chunk->nodes[i]);
	return 0;
}

/* Makes sure that the next two calls of new_node() find one. */
static int provide_nodes(struct buffers_stretches *stretches)
{
	if (stretches->spare && stretches->spare->left)
		return 0;
	return add_chunk(stretches);
}

static struct buffers_stretch *new_node(struct buffers_stretches *stretches,
					struct buffers_span span, uint32_t owner)
{
	struct buffers_stretch *node = stretches->spare;

	stretches->spare = node->left;
	*node = (struct buffers_stretch){
		.item = {
			.base_address = span.start, .size = (uint32_t)(span.end - span.start),
			.is_taken = owner,
		},
	};
	return node;
}

/*
 * The classes of sizes
 */

static unsigned class_of(uint32_t size)
{
	unsigned top;

	if (size < 16)
		return size;
	top = 31 - (unsigned)__builtin_clz(size);
	return 16 + (top - 4) * 8 + ((size >> (top - 3)) & 7);
}

/* The largest size of a class. */
static uint32_t limit_of(unsigned class)
{
	if (class < 16)
		return class;
	return (uint32_t)((UINT64_C(9) + (class & 7)) << ((class - 16) / 8 + 1)) - 1;
}

/* The first class from this one on that has a stretch; BUFFERS_STRETCH_CLASSES: none. */
static unsigned next_class(const struct buffers_stretches *stretches, unsigned class)
{
	unsigned word = class / 64;
	uint64_t bits;

	if (class >= BUFFERS_STRETCH_CLASSES)
		return BUFFERS_STRETCH_CLASSES;
	bits = stretches->filled[word] >> class % 64 << class % 64;
	while (!bits && ++word < BUFFERS_STRETCH_WORDS)
		bits = stretches->filled[word];
	return bits ? word * 64 + (unsigned)__builtin_ctzll(bits) : BUFFERS_STRETCH_CLASSES;
}

static uint32_t largest_size(const struct buffers_stretches *stretches)
{
	for (unsigned word = BUFFERS_STRETCH_WORDS; word--;)
		if (stretches->filled[word])
			return limit_of(word * 64 + 63 -
					(unsigned)__builtin_clzll(stretches->filled[word]));
	return 0;
}

static struct buffers_stretch *next_in_class(const struct buffers_stretches *stretches,
					     const struct buffers_stretch *node)
{
	uint32_t next = node->item.is_taken >> 1;

	return next ? node_of(stretches, next) : NULL;
}

static void flip_class(struct buffers_stretches *stretches, unsigned class)
{
	stretches->filled[class / 64] ^= UINT64_C(1) << class % 64;
	stretches->has_new_classes = true;
}

__attribute__((noinline))
static void enlist(struct buffers_stretches *stretches, struct buffers_stretch *node)
{
	unsigned class = class_of(node->item.size);
	uint32_t number = number_of(stretches, node);
	uint32_t next = stretches->newest[class];

	node->item.position = 0;
	buffers_stretch_store(&node->item.is_taken, next << 1);
	if (next)
		node_of(stretches, next)->item.position = number;
	else
		flip_class(stretches, class);
	stretches->newest[class] = number;
}

static void delist(struct buffers_stretches *stretches, struct buffers_stretch *node)
{
	unsigned class = class_of(node->item.size);
	uint32_t previous = node->item.position;
	uint32_t next = node->item.is_taken >> 1;

	if (next)
		node_of(stretches, next)->item.position = previous;
	if (previous)
		node_of(stretches, previous)->item.is_taken = next << 1;
	else
		stretches->newest[class] = next;
	if (!stretches->newest[class])
		flip_class(stretches, class);
}

/*
 * Pages that became free bit by bit
 */

/* Keeps a page for take_page(); while too many wait, later ones stay resident. */
__attribute__((noinline))
static void note_page(struct buffers_stretches *stretches, uintptr_t page)
{
	for (unsigned i = 0; i < stretches->page_count; i++)
		if (stretches->pages[i] == page)
			return;
	if (stretches->page_count == BUFFERS_STRETCH_PAGES)
		return;
	stretches->pages[stretches->page_count] = page;
	buffers_stretch_store(&stretches->page_count, stretches->page_count + 1);
}

/* The pages at both ends of the new part that are free now; the caller freed those between. */
static void note_pages(struct buffers_stretches *stretches, const struct buffers_stretch *node,
		       struct buffers_span part)
{
	size_t page = stretches->page;
	uintptr_t first = part.start & ~(uintptr_t)(page - 1);
	uintptr_t last = part.end & ~(uintptr_t)(page - 1);
	struct buffers_span whole = buffers_stretch_span(node);

	if (first != part.start &&
	    buffers_span_contains(whole, (struct buffers_span){ first, first + page }))
		note_page(stretches, first);
	if (last != part.end && (last != first || first == part.start) &&
	    buffers_span_contains(whole, (struct buffers_span){ last, last + page }))
		note_page(stretches, last);
}

/*
 * Merging
 */

/* Adds a free neighbour's bytes to a node in use, unless an item could not hold as many. */
__attribute__((noinline))
__attribute__((cold))
static void absorb(struct buffers_stretches *stretches, struct buffers_stretch *node,
		   struct buffers_stretch *neighbour)
{
	size_t size = (size_t)node->item.size + neighbour->item.size;

	if (size < node->item.size || size > UINT32_MAX)
		return;
	delist(stretches, neighbour);
	buffers_stretch_tree_remove(&stretches->tree, neighbour);
	if (neighbour->item.base_address < node->item.base_address)
		node->item.base_address = neighbour->item.base_address;
	node->item.size = (uint32_t)size;
	add_spare(stretches, neighbour);
}

/* Makes a node of the treap, in use at position 0, a free stretch. */
static void settle(struct buffers_stretches *stretches, struct buffers_stretch *node,
		   struct buffers_stretch_place place)
{
	struct buffers_span part = buffers_stretch_span(node);

	if (place.before && !buffers_stretch_is_in_use(place.before) &&
	    buffers_stretch_end(place.before) == part.start)
		absorb(stretches, node, place.before);
	if (place.after && !buffers_stretch_is_in_use(place.after) &&
	    place.after->item.base_address == part.end)
		absorb(stretches, node, place.after);
	if (node->item.size > buffers_span_size(part))
		buffers_stretch_tree_raise(stretches->tree, node);
	enlist(stretches, node);
	note_pages(stretches, node, part);
}

/* A node that left the treap early links to itself. */
static bool is_detached(const struct buffers_stretch *node)
{
	return node->left == node;
}

static void detach(struct buffers_stretches *stretches, struct buffers_stretch *node)
{
	buffers_stretch_tree_remove(&stretches->tree, node);
	node->left = node;
}

/* The node of the same room is often needed again at once, so one may stay in the treap. */
__attribute__((noinline))
static void set_idle(struct buffers_stretches *stretches, struct buffers_stretch *node)
{
	if (stretches->idle) {
		buffers_stretch_tree_remove(&stretches->tree, stretches->idle);
		add_spare(stretches, stretches->idle);
	}
	stretches->idle = node;
}

/* Takes a node without room out of the treap: its holder gave the bytes before it back. */
__attribute__((cold))
static void drop_empty(struct buffers_stretches *stretches, struct buffers_stretch *node)
{
	if (node == stretches->idle)
		set_idle(stretches, NULL);
	else
		detach(stretches, node);
}

/* The room of a released item becomes a stretch. */
static void settle_released(struct buffers_stretches *stretches, struct buffers_stretch *node)
{
	uint32_t room = buffers_item_room(&node->item);
	struct buffers_stretch_place place;

	if (room == 0) {
		if (is_detached(node))
			add_spare(stretches, node);
		else
			set_idle(stretches, node);
		return;
	}
	node->item.base_address = buffers_stretch_end(node) - room;
	node->item.size = room;
	buffers_stretch_store(&node->item.position, 0);
	buffers_stretch_tree_raise(stretches->tree, node);
	place = buffers_stretch_tree_find(stretches->tree, node->item.base_address);
	place.after = buffers_stretch_tree_find(stretches->tree, buffers_stretch_end(node)).after;
	settle(stretches, node, place);
}

/*
 * Lock
 */

static void settle_all(struct buffers_stretches *stretches)
{
	uint32_t number, next;

	if (!buffers_stretch_load(&stretches->released))
		return;
	number = __atomic_exchange_n(&stretches->released, 0, __ATOMIC_ACQUIRE);
	for (; number; number = next) {
		struct buffers_stretch *node = node_of(stretches, number);

		next = node->item.is_taken >> 1;
		stretches->held--;
		settle_released(stretches, node);
	}
}

static void lock_stretches(struct buffers_stretches *stretches)
{
	for (unsigned attempt = 0; !buffers_lock_try(&stretches->is_locked); attempt++)
		buffers_platform_backoff(attempt);
	settle_all(stretches);
}

/* Has later calls of try_to_lock() fail at once, until the holder goes on. */
static bool give_up(struct buffers_stretches *stretches)
{
	uint32_t locked = 1;

	__atomic_compare_exchange_n(&stretches->is_locked, &locked, HOLDER_IS_STUCK, false,
				    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	return false;
}

/* False: a second has passed.  The holder may be suspended. */
static bool try_to_lock(struct buffers_stretches *stretches)
{
	struct buffers_wait wait = { .attempts = 0 };

	while (!buffers_lock_try(&stretches->is_locked))
		if (buffers_stretch_load(&stretches->is_locked) == HOLDER_IS_STUCK ||
		    !buffers_wait_again(&wait, LONGEST_WAIT))
			return give_up(stretches);
	settle_all(stretches);
	return true;
}

/* A thread that releases an item meanwhile raises the size after its push, or is seen here. */
static void unlock_stretches(struct buffers_stretches *stretches)
{
	if (stretches->has_new_classes || buffers_stretch_load(&stretches->largest) == UINT32_MAX) {
		stretches->has_new_classes = false;
		__atomic_exchange_n(&stretches->largest, largest_size(stretches), __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&stretches->released, __ATOMIC_SEQ_CST))
			buffers_stretch_store(&stretches->largest, UINT32_MAX);
	}
	buffers_lock_release(&stretches->is_locked);
}

/* The stack is only pushed to, or emptied: the same number on top means that it is unchanged. */
void buffers_stretches_release(struct buffers_item *item)
{
	struct buffers_stretch *node = node_with(item);
	struct chunk *chunk = chunk_of(node);
	struct buffers_stretches *stretches = chunk->owner;
	uint32_t room = buffers_item_room(item);
	uint32_t number = number_in(chunk, node);
	uint32_t top = buffers_stretch_load(&stretches->released);

	do
		buffers_stretch_store(&item->is_taken, top << 1 | BUFFERS_STRETCH_IN_USE);
	while (!__atomic_compare_exchange_n(&stretches->released, &top, number, true,
					    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
	if (room)	/* it may merge with neighbours */
		__atomic_store_n(&stretches->largest, UINT32_MAX, __ATOMIC_SEQ_CST);
}

const struct buffers_arena_view *buffers_stretches_arena(struct buffers_item *item)
{
	return chunk_of(node_with(item))->owner->arena;
}

/*
 * Adding
 */

static bool is_empty(const struct buffers_stretch *node)
{
	return buffers_stretch_start(node) == buffers_stretch_end(node);
}

/*
 * Finds where a node of the room belongs, the first spare one.  Nodes without room that are there do
 * not count, and may become the first spare one.
 */
static struct buffers_stretch_place find_new_place(struct buffers_stretches *stretches,
						   struct buffers_span room)
{
	for (;;) {
		struct buffers_stretch_place place = buffers_stretch_tree_prepare(
			&stretches->tree, stretches->spare, room.end,
			(uint32_t)(room.end - room.start));
		struct buffers_stretch *before = place.before;
		struct buffers_stretch *after = place.after;

		if (before && buffers_stretch_end(before) > room.start && is_empty(before))
			drop_empty(stretches, before);
		else if (after && after != stretches->idle && is_empty(after) &&
			 buffers_stretch_end(after) == room.end)
			drop_empty(stretches, after);
		else
			return place;
	}
}

static bool overlaps(const struct buffers_stretch_place *place, struct buffers_span room)
{
	return (place->before && buffers_stretch_end(place->before) > room.start) ||
	       (place->after && buffers_stretch_start(place->after) < room.end);
}

/* Uses the idle node again if it stands for the same room. */
static struct buffers_stretch *reuse_idle(struct buffers_stretches *stretches,
					  struct buffers_span room,
					  struct buffers_stretch_place *place)
{
	struct buffers_stretch *node = stretches->idle;

	if (!node || node != place->after || buffers_stretch_end(node) != room.end)
		return NULL;
	stretches->idle = NULL;
	place->after = place->next;
	if (node->right)
		for (place->after = node->right; place->after->left;)
			place->after = place->after->left;
	node->item.base_address = room.start;
	node->item.size = (uint32_t)(room.end - room.start);
	buffers_stretch_store(&node->item.position, 0);
	buffers_stretch_store(&node->item.is_taken, BUFFERS_STRETCH_IN_USE);
	return node;
}

static void widen_hull(struct buffers_span *hull, struct buffers_span room)
{
	if (room.start < hull->start)
		__atomic_store_n(&hull->start, room.start, __ATOMIC_RELAXED);
	if (room.end > hull->end)
		__atomic_store_n(&hull->end, room.end, __ATOMIC_RELAXED);
}

/* Adds a node in use.  EINVAL: some of the room is not in use. */
static int add_in_use(struct buffers_stretches *stretches, struct buffers_span room,
		      struct buffers_stretch_place *place, struct buffers_stretch **node)
{
	int error = provide_nodes(stretches);

	if (error)
		return error;
	*place = find_new_place(stretches, room);
	if (overlaps(place, room))
		return EINVAL;
	widen_hull(&stretches->hull, room);
	*node = reuse_idle(stretches, room, place);
	if (*node)
		return 0;
	*node = new_node(stretches, room, BUFFERS_STRETCH_IN_USE);
	buffers_stretch_tree_insert_at(place->link, *node);
	return 0;
}

int buffers_stretches_add(struct buffers_stretches *stretches, struct buffers_span room)
{
	struct buffers_stretch *node;
	struct buffers_stretch_place place;
	int error;

	lock_stretches(stretches);
	error = add_in_use(stretches, room, &place, &node);
	if (!error) {
		memset((void *)room.start, 0, room.end - room.start);
		settle(stretches, node, place);
	}
	unlock_stretches(stretches);
	return error;
}

static int begin_locked(struct buffers_stretches *stretches, struct buffers_span room,
			struct buffers_item **item)
{
	struct buffers_stretch *node;
	struct buffers_stretch_place place;
	int error = add_in_use(stretches, room, &place, &node);

	if (!error) {
		stretches->held++;
		*item = &node->item;
	}
	unlock_stretches(stretches);
	return error;
}

__attribute__((cold))
int buffers_stretches_begin(struct buffers_stretches *stretches, struct buffers_span room,
			    struct buffers_item **item)
{
	lock_stretches(stretches);
	return begin_locked(stretches, room, item);
}

__attribute__((cold))
int buffers_stretches_try_begin(struct buffers_stretches *stretches, struct buffers_span room,
				struct buffers_item **item)
{
	return try_to_lock(stretches) ? begin_locked(stretches, room, item) : EBUSY;
}

void buffers_stretches_cancel(struct buffers_item *item)
{
	buffers_item_set_position(item, item->size);
	buffers_stretches_release(item);
}

/*
 * Taking
 */

struct search {
	struct buffers_stretches *stretches;
	const struct buffers_window *window;
	size_t size;		/* stretches with less are skipped */
	size_t most;
	bool has_nodes;		/* to split a stretch */
	bool is_exhausted;	/* not all stretches were tried */
	unsigned patience;
	struct buffers_span room;	/* of the stretch that suits */
};

/* The part of a free stretch that suits the window, as an item gets it. */
static bool find_room(const struct search *search, const struct buffers_stretch *node,
		      struct buffers_span *room)
{
	const struct buffers_window *window = search->window;
	struct buffers_span whole = { node->item.base_address, buffers_stretch_end(node) };
	struct buffers_span part = buffers_span_intersect(whole, window->range);
	size_t slack = (size_t)-part.start & (window->alignment - 1);
	size_t size = buffers_span_size(part);

	if (size < slack || size - slack < window->size)
		return false;
	*room = (struct buffers_span){ part.start + slack, part.end };
	if (search->has_nodes) {
		room->end = buffers_min(room->end, room->start +
					buffers_max(window->size, search->most));
		return true;
	}
	return room->start == whole.start && room->end == whole.end;
}

/* Of the first stretches of a class, the smallest that suits. */
static struct buffers_stretch *best_of_class(struct search *search, unsigned class)
{
	uint32_t number = search->stretches->newest[class];
	struct buffers_stretch *node = node_of(search->stretches, number);
	struct buffers_stretch *best = NULL;
	unsigned patience = (unsigned)buffers_min(search->patience, CLASS_PATIENCE);
	struct buffers_span room;

	for (; node && patience; node = next_in_class(search->stretches, node)) {
		search->patience--;
		patience--;
		if (node->item.size < search->size || !find_room(search, node, &room) ||
		    (best && best->item.size <= node->item.size))
			continue;
		best = node;
		search->room = room;
		if (best->item.size == search->size)
			return best;
	}
	search->is_exhausted |= node != NULL;
	return best;
}

static struct buffers_stretch *best_by_class(struct search *search, size_t size)
{
	struct buffers_stretch *best;
	unsigned class;

	search->size = size;
	search->patience = PATIENCE;
	search->is_exhausted = false;
	if (size > UINT32_MAX)
		return NULL;
	class = next_class(search->stretches, class_of((uint32_t)size));
	while (class < BUFFERS_STRETCH_CLASSES && search->patience) {
		best = best_of_class(search, class);
		if (best)
			return best;
		class = next_class(search->stretches, class + 1);
	}
	search->is_exhausted |= class < BUFFERS_STRETCH_CLASSES;
	return NULL;
}

/* The lowest stretch that suits.  A subtree without one gets a bound that says so. */
__attribute__((cold))
static struct buffers_stretch *lowest_below(struct search *search, struct buffers_stretch *node)
{
	const struct buffers_span *range = &search->window->range;
	struct buffers_stretch *found = NULL;
	uint32_t bound;

	if (!node || node->bound < search->size)
		return NULL;
	if (buffers_stretch_end(node) > range->start)
		found = lowest_below(search, node->left);
	if (!found && !buffers_stretch_is_in_use(node) && node->item.size >= search->size &&
	    find_room(search, node, &search->room))
		found = node;
	if (!found && buffers_stretch_end(node) < range->end)
		found = lowest_below(search, node->right);
	if (found)
		return found;
	bound = buffers_stretch_is_in_use(node) ? 0 : node->item.size;
	if (node->left)
		bound = (uint32_t)buffers_max(bound, node->left->bound);
	if (node->right)
		bound = (uint32_t)buffers_max(bound, node->right->bound);
	node->bound = bound;
	return NULL;
}

/* With size + alignment - 1 bytes, a stretch within the range suits whatever its address is. */
static struct buffers_stretch *find_stretch(struct search *search)
{
	size_t size = search->window->size;
	size_t enough = size + search->window->alignment - 1;
	struct buffers_stretch *best = best_by_class(search, size);

	if (best || !search->is_exhausted)
		return best;
	if (enough > size)
		best = best_by_class(search, enough);
	if (best || !search->is_exhausted)
		return best;
	return lowest_below(search, search->stretches->tree);
}

/* Takes a part of a free stretch; the rest stays free. */
static struct buffers_item *carve(struct buffers_stretches *stretches,
				  struct buffers_stretch *node, struct buffers_span room,
				  uint32_t owner)
{
	struct buffers_span whole = { node->item.base_address, buffers_stretch_end(node) };
	struct buffers_stretch *rest;

	delist(stretches, node);
	if (room.end < whole.end) {
		node->item.base_address = room.end;
		node->item.size = (uint32_t)(whole.end - room.end);
		enlist(stretches, node);
		node = new_node(stretches, room, owner);
		buffers_stretch_tree_insert(&stretches->tree, node);
	}
	node->item.base_address = room.start;
	node->item.size = (uint32_t)(room.end - room.start);
	if (whole.start < room.start) {
		rest = new_node(stretches, (struct buffers_span){ whole.start, room.start }, 0);
		buffers_stretch_tree_insert(&stretches->tree, rest);
		enlist(stretches, rest);
	}
	buffers_stretch_store(&node->item.position, 0);
	buffers_stretch_store(&node->item.is_taken, owner | BUFFERS_STRETCH_IN_USE);
	stretches->held++;
	return &node->item;
}

struct buffers_item *buffers_stretches_take(struct buffers_stretches *stretches,
					    const struct buffers_window *window, size_t most,
					    uint32_t owner)
{
	struct search search = { .stretches = stretches, .window = window, .most = most };
	struct buffers_item *item = NULL;
	struct buffers_stretch *node;

	if (!buffers_stretches_may_suit(stretches, window) || !try_to_lock(stretches))
		return NULL;
	search.has_nodes = provide_nodes(stretches) == 0;
	node = find_stretch(&search);
	if (node)
		item = carve(stretches, node, search.room, owner);
	unlock_stretches(stretches);
	return item;
}

static struct buffers_item *take_first_page(struct buffers_stretches *stretches)
{
	uintptr_t page = stretches->pages[0];
	struct buffers_span span = { page, page + stretches->page };
	struct buffers_stretch *node = buffers_stretch_tree_find(stretches->tree, page).after;

	buffers_stretch_store(&stretches->page_count, stretches->page_count - 1);
	memmove(stretches->pages, stretches->pages + 1,
		stretches->page_count * sizeof(stretches->pages[0]));
	if (!node || buffers_stretch_is_in_use(node) ||
	    !buffers_span_contains(buffers_stretch_span(node), span) ||
	    provide_nodes(stretches) != 0)
		return NULL;
	return carve(stretches, node, span, BUFFERS_TAKEN);
}

__attribute__((cold))
struct buffers_item *buffers_stretches_take_page(struct buffers_stretches *stretches)
{
	struct buffers_item *item = NULL;

	if (buffers_stretch_load(&stretches->page_count) <= PAGES_LEFT || !try_to_lock(stretches))
		return NULL;
	while (!item && stretches->page_count > PAGES_LEFT)
		item = take_first_page(stretches);
	unlock_stretches(stretches);
	return item;
}

/*
 * Asking
 */

__attribute__((cold))
bool buffers_stretches_touch(struct buffers_stretches *stretches, struct buffers_span span)
{
	struct buffers_stretch *before, *after;
	bool touches;

	if (!try_to_lock(stretches))
		return false;
	before = buffers_stretch_tree_find(stretches->tree, span.start).before;
	after = buffers_stretch_tree_find(stretches->tree, span.end).after;
	touches = (before && !buffers_stretch_is_in_use(before) &&
		   buffers_stretch_end(before) == span.start) ||
		  (after && !buffers_stretch_is_in_use(after) &&
		   after->item.base_address == span.end);
	unlock_stretches(stretches);
	return touches;
}

__attribute__((cold))
static size_t sum_below(const struct buffers_stretch *node, struct buffers_span span)
{
	size_t sum;

	if (!node)
		return 0;
	sum = buffers_span_size(buffers_span_intersect(buffers_stretch_span(node), span));
	if (buffers_stretch_end(node) > span.start)
		sum += sum_below(node->left, span);
	if (buffers_stretch_end(node) < span.end)
		sum += sum_below(node->right, span);
	return sum;
}

__attribute__((cold))
size_t buffers_stretches_sum(struct buffers_stretches *stretches, struct buffers_span span)
{
	size_t sum = 0;

	if (stretches && try_to_lock(stretches)) {
		sum = sum_below(stretches->tree, span);
		unlock_stretches(stretches);
	}
	return sum;
}

__attribute__((cold))
bool buffers_stretches_are_held(struct buffers_stretches *stretches)
{
	bool are_held;

	if (!stretches)
		return false;
	if (!try_to_lock(stretches))
		return true;
	are_held = stretches->held > 0;
	unlock_stretches(stretches);
	return are_held;
}

/*
 * Creating
 */

__attribute__((cold))
int buffers_stretches_create(struct buffers_stretches **stretches)
{
	size_t page = buffers_platform_granularity();
	struct buffers_stretches *created;
	uintptr_t address;
	int error = buffers_platform_map_anywhere(page, BUFFERS_KIND_RW, BUFFERS_MAP_PLAIN,
						  &address);

	if (error)
		return error;
	created = (struct buffers_stretches *)address;
	created->page = page;
	created->hull.start = UINTPTR_MAX;
	created->shift = (unsigned)__builtin_ctzll(page) - 4;	/* a node has more than 16 bytes */
	created->chunks = created->own_chunks;
	created->chunk_count = 1;
	created->chunk_limit = (page - sizeof(*created)) / sizeof(uintptr_t);
	*stretches = created;
	return 0;
}

__attribute__((cold))
void buffers_stretches_destroy(struct buffers_stretches *stretches)
{
	size_t page;

	if (!stretches)
		return;
	page = stretches->page;
	for (size_t i = 1; i < stretches->chunk_count; i++)
		buffers_platform_unmap(stretches->chunks[i], page);
	unmap_table(stretches);
	buffers_platform_unmap((uintptr_t)stretches, page);
}
