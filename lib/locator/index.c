/* SPDX-License-Identifier: MIT */
/*
 * index.c: finds an item that fits without looking at all of them
 *
 * A binary trie over the items' last bytes.  A node stands for all keys that
 * begin with its prefix; its sides are those with the next bit 0 and 1, and for
 * each it knows a bound of the room that any item there has.  So a search for
 * a size within a range passes over whole sides.  Nodes are added, never moved
 * or removed; readers see the trie as it was before an addition, or after.
 *
 * The key is the last byte, not the first, since buffers are disjoint: of those
 * that end in a range, only one can begin below it.
 */

#include "config.h"
#include "locator/index.h"

struct node {
	uintptr_t prefix;	/* zeros from the bit on */
	uintptr_t bit;		/* the highest that differs among the keys */
	uintptr_t sides[2];	/* links */
	uint32_t room[2];	/* no item there has more */
};

/* A link is 0, the address of a node, or that of an item and 1. */
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

static uintptr_t follow(const uintptr_t *link)
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

/* The bits below a node's prefix. */
static uintptr_t variable(const struct node *node)
{
	return 2 * node->bit - 1;
}

static struct buffers_span keys_on(const struct node *node, unsigned side)
{
	uintptr_t first = node->prefix | (side ? node->bit : 0);

	return (struct buffers_span){ first, first | (node->bit - 1) };	/* both included */
}

/* No item below this link has more room. */
static uint32_t bound_of(uintptr_t link)
{
	const struct node *node = node_at(link);

	if (is_item(link))
		return buffers_item_room(item_at(link));
	return room_at(node, 0) > room_at(node, 1) ? room_at(node, 0) : room_at(node, 1);
}

/*
 * Changing; whoever finds the index locked does without
 */

static bool enter(struct buffers_index *index)
{
	return __atomic_exchange_n(&index->is_locked, 1, __ATOMIC_ACQUIRE) == 0;
}

static void leave(struct buffers_index *index)
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
		if (buffers_platform_map_anywhere(page, BUFFERS_KIND_RW, &address) != 0)
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

/* Puts a node in the place of a link, with the item on its other side. */
static bool fork_link(struct buffers_index *index, uintptr_t *link, uintptr_t difference,
		      struct buffers_item *item)
{
	struct node *node = new_node(index);
	uintptr_t key = key_of(item);
	uintptr_t old = *link;
	unsigned side;

	if (!node)
		return false;
	node->bit = (uintptr_t)1 << (63 - __builtin_clzll(difference));
	node->prefix = key & ~variable(node);
	side = side_of(node, key);
	node->sides[side] = link_to(item);
	node->sides[!side] = old;
	set_room(node, side, buffers_item_room(item));
	set_room(node, !side, bound_of(old));
	__atomic_store_n(link, (uintptr_t)node, __ATOMIC_RELEASE);
	return true;
}

/* Bounds above it first, so that who finds the item could. */
static bool insert(struct buffers_index *index, struct buffers_item *item)
{
	uint32_t room = buffers_item_room(item);
	uintptr_t key = key_of(item);
	uintptr_t *link = &index->tree;
	uintptr_t difference;

	while (*link && !is_item(*link)) {
		struct node *node = node_at(*link);
		unsigned side = side_of(node, key);

		difference = (key ^ node->prefix) & ~variable(node);
		if (difference)
			return fork_link(index, link, difference, item);
		if (room_at(node, side) < room)
			set_room(node, side, room);
		link = &node->sides[side];
	}
	if (!*link) {
		__atomic_store_n(link, link_to(item), __ATOMIC_RELEASE);
		return true;
	}
	difference = key ^ key_of(item_at(*link));
	/* None: the same memory listed twice, which nobody should be given. */
	return !difference || fork_link(index, link, difference, item);
}

/* Makes the bounds of the sides that lead to the key what they are now. */
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

/* The next item that is not indexed; moves on to the next locator. */
static struct buffers_item *next_new(struct buffers_locator **last, uint32_t *count)
{
	struct buffers_locator *next;

	while (*count >= buffers_locator_count(*last)) {
		next = buffers_locator_next(*last);
		if (!next)
			return NULL;
		*last = next;
		*count = 0;
	}
	return &(*last)->items[(*count)++];
}

static bool can_be_of_use(const struct buffers_item *item)
{
	return buffers_item_is_valid(item) && item->size > 0;
}

/*
 * Other implementations may count an item before they write it, while they hold
 * the lock, which is looked at first: if they have left, the item is whole.
 */
static bool is_being_written(const struct buffers_locator *locator,
			     const struct buffers_item *item)
{
	return __atomic_load_n(&locator->is_locked, __ATOMIC_ACQUIRE) && !can_be_of_use(item);
}

static bool is_behind(const struct buffers_index *index)
{
	const struct buffers_locator *last = __atomic_load_n(&index->last, __ATOMIC_ACQUIRE);

	return !last || buffers_locator_next(last) ||
	       __atomic_load_n(&index->count, __ATOMIC_RELAXED) < buffers_locator_count(last);
}

/* Others may add to a locator that is not full, though there is a next one. */
static bool is_left_behind(const struct buffers_index *index,
			   const struct buffers_locator *next)
{
	return index->last && next != index->last && index->count < BUFFERS_LOCATOR_CAPACITY;
}

static void catch_up(struct buffers_index *index, struct buffers_locator *first)
{
	struct buffers_locator *last = index->last ? index->last : first;
	uint32_t count = index->count;
	struct buffers_item *item;

	while ((item = next_new(&last, &count)) && !is_left_behind(index, last) &&
	       !is_being_written(last, item) && (!can_be_of_use(item) || insert(index, item))) {
		if (last != index->last)	/* in this order: see buffers_index_take() */
			__atomic_store_n(&index->count, 0, __ATOMIC_RELEASE);
		__atomic_store_n(&index->last, last, __ATOMIC_RELEASE);
		__atomic_store_n(&index->count, count, __ATOMIC_RELEASE);
	}
}

/*
 * Searching
 */

struct search {
	struct buffers_index *index;
	const struct buffers_window *window;
	const struct buffers_item_filter *choice;
	struct buffers_span keys;	/* both included */
	unsigned patience;
};

static bool suits(const struct search *search, struct buffers_item *item)
{
	return !buffers_contention_is_near(search->choice->busy, item) &&
	       search->choice->take(item, search->window);
}

/* The item has less room than the index believed. */
static void correct(struct buffers_index *index, const struct buffers_item *item)
{
	if (!enter(index))
		return;
	tighten(index->tree, key_of(item));
	leave(index);
}

static struct buffers_item *try_item(struct search *search, struct buffers_item *item)
{
	if (suits(search, item))
		return item;
	if (buffers_item_room(item) < search->window->size)
		correct(search->index, item);
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
			item = take_below(search, follow(&node_at(link)->sides[side]));
	return item;
}

/* From where the last search lost patience to the end, and then from the start. */
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

/* What the index lacks: it was locked, or there was no memory for nodes. */
static struct buffers_item *take_new(const struct search *search, struct buffers_locator *last,
				     uint32_t count)
{
	struct buffers_item *item;

	while ((item = next_new(&last, &count)))
		if (can_be_of_use(item) && suits(search, item))
			return item;
	return NULL;
}

struct buffers_item *buffers_index_take(struct buffers_index *index,
					struct buffers_locator *first,
					const struct buffers_window *window,
					const struct buffers_item_filter *choice)
{
	struct search search = {
		.index = index, .window = window, .choice = choice,
		.patience = choice->patience,
	};
	struct buffers_item *item = NULL;
	struct buffers_locator *last;
	uint32_t count;
	uintptr_t tree;

	if (is_behind(index) && enter(index)) {
		catch_up(index, first);
		leave(index);
	}
	/*
	 * A count that belongs to a later locator is of a moment when all of this
	 * one were indexed, so what is passed over is in the tree, read afterwards.
	 */
	last = __atomic_load_n(&index->last, __ATOMIC_ACQUIRE);
	count = __atomic_load_n(&index->count, __ATOMIC_ACQUIRE);
	tree = follow(&index->tree);
	if (tree)
		item = take_indexed(&search, tree);
	if (!item)
		item = take_new(&search, last ? last : first, last ? count : 0);
	return item;
}

struct buffers_locator *buffers_index_last(const struct buffers_index *index,
					   struct buffers_locator *first)
{
	struct buffers_locator *last = __atomic_load_n(&index->last, __ATOMIC_ACQUIRE);

	return last ? last : first;
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
