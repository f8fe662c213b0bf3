/* SPDX-License-Identifier: MIT */
/*
 * index.c: finds an item that fits without looking at all items
 *
 * A crit-bit trie, augmented with each side's largest free room.  A node stands for all keys
 * with its prefix; its sides are the keys whose next bit is 0 or 1.  A search for a size in
 * a range skips every side whose room is too small or whose keys are outside.  Nodes are
 * added, but never moved or removed: a reader sees the trie before or after an addition.
 *
 * The key of an item is the address of its last byte.  Buffers are disjoint, so among those
 * that end in a range at most one begins below it.
 */

#include "config.h"
#include "locator/index.h"
#include "platform/platform.h"

struct node {
	uintptr_t prefix;	/* zero from `bit` downward */
	uintptr_t bit;		/* the highest bit that differs among the keys */
	uintptr_t sides[2];	/* links */
	uint32_t room[2];	/* upper bound of the room of every item there */
};

/* A link is 0, the address of a node, or the address of an item plus 1. */
static bool is_item(uintptr_t link)
{
	return link & 1;
}

static uintptr_t link_to(struct buffers_item *item)
{
	return (uintptr_t)item | 1;
}

static struct buffers_item *item_at(uintptr_t link)
{
	return (struct buffers_item *)(link - 1);
}

static struct node *node_at(uintptr_t link)
{
	return (struct node *)link;
}

static uintptr_t load_link(const uintptr_t *link)
{
	return __atomic_load_n(link, __ATOMIC_ACQUIRE);
}

static uint32_t room_at(const struct node *node, unsigned side)
{
	return __atomic_load_n(&node->room[side], __ATOMIC_RELAXED);
}

static void set_room(struct node *node, unsigned side, uint32_t room)
{
	__atomic_store_n(&node->room[side], room, __ATOMIC_RELAXED);
}

static uintptr_t key_of(const struct buffers_item *item)
{
	return item->base_address + (item->size - 1);
}

static unsigned side_of(const struct node *node, uintptr_t key)
{
	return (key & node->bit) != 0;
}

/* The bits that a node's prefix leaves open. */
static uintptr_t suffix_mask(const struct node *node)
{
	return 2 * node->bit - 1;
}

static struct buffers_span keys_on(const struct node *node, unsigned side)
{
	uintptr_t first = node->prefix | (side ? node->bit : 0);

	return (struct buffers_span){ first, first | (node->bit - 1) };	/* both inclusive */
}

/* An upper bound of the room of every item below the link. */
static uint32_t bound_of(uintptr_t link)
{
	const struct node *node = node_at(link);

	if (is_item(link))
		return buffers_item_room(item_at(link));
	return room_at(node, 0) > room_at(node, 1) ? room_at(node, 0) : room_at(node, 1);
}

/*
 * Changing
 */

/* A thread that fails to get the lock skips its update. */
static bool lock_index(struct buffers_index *index)
{
	return __atomic_exchange_n(&index->is_locked, 1, __ATOMIC_ACQUIRE) == 0;
}

static void unlock_index(struct buffers_index *index)
{
	__atomic_store_n(&index->is_locked, 0, __ATOMIC_RELEASE);
}

static struct node *new_node(struct buffers_index *index)
{
	size_t page = buffers_platform_granularity();
	uintptr_t address;

	if (!index->nodes) {
		index->nodes = (uintptr_t)(index + 1);
		index->nodes_end = ((uintptr_t)index + page) & ~(uintptr_t)(page - 1);
	}
	if (index->nodes_end - index->nodes < sizeof(struct node)) {
		if (buffers_platform_map_anywhere(page, BUFFERS_KIND_RW, BUFFERS_MAP_PLAIN,
						  &address) != 0)
			return NULL;
		*(uintptr_t *)address = index->pages;
		__atomic_store_n(&index->pages, address, __ATOMIC_RELEASE);
		index->nodes = address + sizeof(uintptr_t);
		index->nodes_end = address + page;
	}
	address = index->nodes;
	index->nodes += sizeof(struct node);
	return node_at(address);
}

/* Replaces a link by a node with the old link on one side and the item on the other. */
static bool split_link(struct buffers_index *index, uintptr_t *link, uintptr_t difference,
		       struct buffers_item *item)
{
	struct node *node = new_node(index);
	uintptr_t key = key_of(item);
	uintptr_t old = *link;
	unsigned side;

	if (!node)
		return false;
	node->bit = (uintptr_t)1 << (63 - __builtin_clzll(difference));
	node->prefix = key & ~suffix_mask(node);
	side = side_of(node, key);
	node->sides[side] = link_to(item);
	node->sides[!side] = old;
	set_room(node, side, buffers_item_room(item));
	set_room(node, !side, bound_of(old));
	__atomic_store_n(link, (uintptr_t)node, __ATOMIC_RELEASE);
	return true;
}

/* Raises the ancestors' bounds before linking, so that readers cannot miss the item. */
static bool insert(struct buffers_index *index, struct buffers_item *item)
{
	uint32_t room = buffers_item_room(item);
	uintptr_t key = key_of(item);
	uintptr_t *link = &index->tree;
	uintptr_t difference;

	while (*link && !is_item(*link)) {
		struct node *node = node_at(*link);
		unsigned side = side_of(node, key);

		difference = (key ^ node->prefix) & ~suffix_mask(node);
		if (difference)
			return split_link(index, link, difference, item);
		if (room_at(node, side) < room)
			set_room(node, side, room);
		link = &node->sides[side];
	}
	if (!*link) {
		__atomic_store_n(link, link_to(item), __ATOMIC_RELEASE);
		return true;
	}
	difference = key ^ key_of(item_at(*link));
	/* No difference: the same memory is listed twice.  Do not hand it out a second time. */
	return !difference || split_link(index, link, difference, item);
}

/* Lowers the bounds on the way to the key to the present values. */
static uint32_t tighten(uintptr_t link, uintptr_t key)
{
	struct node *node = node_at(link);
	unsigned side;

	if (!is_item(link)) {
		side = side_of(node, key);
		set_room(node, side, tighten(node->sides[side], key));
	}
	return bound_of(link);
}

/*
 * Following the chain
 */

/* The next item that is not indexed; advances to the next locator. */
static struct buffers_item *next_new(struct buffers_locator **tail, uint32_t *count)
{
	struct buffers_locator *next;

	while (*count >= buffers_locator_count(*tail)) {
		next = buffers_locator_next(*tail);
		if (!next)
			return NULL;
		*tail = next;
		*count = 0;
	}
	return &(*tail)->items[(*count)++];
}

static bool is_usable_item(const struct buffers_item *item)
{
	return buffers_item_is_valid(item) && item->size > 0;
}

/*
 * Other implementations may count an item before they write it, while they hold the lock.
 * Reads the lock first: once it is free, the item is complete.
 */
static bool is_being_written(const struct buffers_locator *locator,
			     const struct buffers_item *item)
{
	return __atomic_load_n(&locator->is_locked, __ATOMIC_ACQUIRE) && !is_usable_item(item);
}

static bool is_behind(const struct buffers_index *index)
{
	const struct buffers_locator *tail = __atomic_load_n(&index->tail, __ATOMIC_ACQUIRE);

	return !tail || buffers_locator_next(tail) ||
	       __atomic_load_n(&index->count, __ATOMIC_RELAXED) < buffers_locator_count(tail);
}

/* Other implementations may still add to a locator that is not full, though it has a next one. */
static bool would_skip_room(const struct buffers_index *index,
			    const struct buffers_locator *next)
{
	return index->tail && next != index->tail && index->count < BUFFERS_LOCATOR_CAPACITY;
}

static void catch_up(struct buffers_index *index, struct buffers_locator *first)
{
	struct buffers_locator *tail = index->tail ? index->tail : first;
	uint32_t count = index->count;
	struct buffers_item *item;

	while ((item = next_new(&tail, &count)) && !would_skip_room(index, tail) &&
	       !is_being_written(tail, item) && (!is_usable_item(item) || insert(index, item))) {
		if (tail != index->tail)	/* buffers_index_take() relies on this order */
			__atomic_store_n(&index->count, 0, __ATOMIC_RELEASE);
		__atomic_store_n(&index->tail, tail, __ATOMIC_RELEASE);
		__atomic_store_n(&index->count, count, __ATOMIC_RELEASE);
	}
}

/*
 * Searching
 */

struct search {
	struct buffers_index *index;
	const struct buffers_window *window;
	const struct buffers_item_filter *filter;
	struct buffers_span keys;	/* both inclusive */
	unsigned patience;
};

static bool take_item(const struct search *search, struct buffers_item *item)
{
	return !buffers_contention_is_near(search->filter->busy, item) &&
	       search->filter->take(item, search->window);
}

/* Corrects the bounds: the item has less room than the index recorded. */
static void correct_bounds(struct buffers_index *index, const struct buffers_item *item)
{
	if (!lock_index(index))
		return;
	tighten(index->tree, key_of(item));
	unlock_index(index);
}

static struct buffers_item *try_item(struct search *search, struct buffers_item *item)
{
	if (take_item(search, item))
		return item;
	if (buffers_item_room(item) < search->window->size)
		correct_bounds(search->index, item);
	else if (--search->patience == 0)
		__atomic_store_n(&search->index->resume_at, key_of(item), __ATOMIC_RELAXED);
	return NULL;
}

static bool may_have(const struct search *search, const struct node *node, unsigned side)
{
	struct buffers_span keys = keys_on(node, side);

	return room_at(node, side) >= search->window->size && keys.start <= search->keys.end &&
	       keys.end >= search->keys.start;
}

static struct buffers_item *take_below(struct search *search, uintptr_t link)
{
	struct buffers_item *item = NULL;

	if (is_item(link))
		return try_item(search, item_at(link));
	for (unsigned side = 0; side < 2 && !item && search->patience; side++)
		if (may_have(search, node_at(link), side))
			item = take_below(search, load_link(&node_at(link)->sides[side]));
	return item;
}

/* Searches from the key at which the last search gave up to the end, then from the start. */
static struct buffers_item *take_indexed(struct search *search, uintptr_t link)
{
	uintptr_t resume_at = __atomic_load_n(&search->index->resume_at, __ATOMIC_RELAXED);
	struct buffers_span range = search->window->range;
	struct buffers_item *item = NULL;

	if (resume_at < range.start || resume_at >= range.end)
		resume_at = range.start;
	search->keys = (struct buffers_span){ resume_at, range.end - 1 };
	item = take_below(search, link);
	if (!item && search->patience && resume_at > range.start) {
		search->keys = (struct buffers_span){ range.start, resume_at - 1 };
		item = take_below(search, link);
	}
	return item;
}

/* Walks the items that are not indexed: the index was locked, or had no memory for nodes. */
static struct buffers_item *take_unindexed(const struct search *search,
					   struct buffers_locator *tail, uint32_t count)
{
	struct buffers_item *item;

	while ((item = next_new(&tail, &count)))
		if (is_usable_item(item) && take_item(search, item))
			return item;
	return NULL;
}

struct buffers_item *buffers_index_take(struct buffers_index *index,
					struct buffers_locator *first,
					const struct buffers_window *window,
					const struct buffers_item_filter *filter)
{
	struct search search = {
		.index = index, .window = window, .filter = filter,
		.patience = filter->patience,
	};
	struct buffers_item *item = NULL;
	struct buffers_locator *tail;
	uint32_t count;
	uintptr_t tree;

	if (is_behind(index) && lock_index(index)) {
		catch_up(index, first);
		unlock_index(index);
	}
	/*
	 * If the count belongs to a later locator than the tail, this tail was indexed whole at
	 * that moment.  The tree is read afterwards, and contains every item that is skipped.
	 */
	tail = __atomic_load_n(&index->tail, __ATOMIC_ACQUIRE);
	count = __atomic_load_n(&index->count, __ATOMIC_ACQUIRE);
	tree = load_link(&index->tree);
	if (tree)
		item = take_indexed(&search, tree);
	if (!item)
		item = take_unindexed(&search, tail ? tail : first, tail ? count : 0);
	return item;
}

struct buffers_locator *buffers_index_tail(const struct buffers_index *index,
					   struct buffers_locator *first)
{
	struct buffers_locator *tail = __atomic_load_n(&index->tail, __ATOMIC_ACQUIRE);

	return tail ? tail : first;
}

uintptr_t buffers_index_pages(const struct buffers_index *index)
{
	return __atomic_load_n(&index->pages, __ATOMIC_ACQUIRE);
}

void buffers_index_inherit(struct buffers_index *index, uintptr_t pages)
{
	uintptr_t none = 0;

	__atomic_compare_exchange_n(&index->pages, &none, pages, false, __ATOMIC_ACQ_REL,
				    __ATOMIC_RELAXED);
}

void buffers_index_destroy(struct buffers_index *index)
{
	uintptr_t page, next;

	for (page = index->pages; page; page = next) {
		next = *(uintptr_t *)page;
		buffers_platform_unmap(page, buffers_platform_granularity());
	}
	*index = (struct buffers_index){ .is_locked = 0 };
}
