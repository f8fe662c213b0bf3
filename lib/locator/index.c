/* SPDX-License-Identifier: MIT */
/*
 * index.c: finds an item that fits without looking at all items
 *
 * A crit-bit trie, augmented with each side's largest free room.  A node stands for all keys
 * with its prefix; its sides are the keys whose next bit is 0 or 1.  A search for a size in
 * a range skips every side whose room is too small or whose keys are outside.  Nodes are
 * added, but never moved or removed: a reader sees the trie before or after an addition.
 *
 * A search that meets an item that a user holds hides it from later searches, or many such
 * items would stop each of them.  The holder shows it when it releases it, if it is a thread of
 * this copy, and if the index is not locked then.  For the others, a search that finds nothing
 * looks at the hidden items, and shows those that are free.
 *
 * The key of an item is the address of its last byte.  Buffers are disjoint, so among those
 * that end in a range at most one begins below it.
 */

#include "config.h"
#include "locator/index.h"
#include "locator/examine.h"
#include "platform/platform.h"

/* One item in so many may be added although a hidden item is free: a sweep looks at all. */
#define SWEEP_SHARE 64

struct node {
	uintptr_t prefix;	/* zero from `bit` downward */
	uintptr_t bit;		/* the highest bit that differs among the keys */
	uintptr_t sides[2];	/* links */
	uint32_t room[2];	/* upper bound of the room of every item there */
	uint32_t shown[2];	/* the same, of the items that are not hidden */
};

/*
 * A link is 0, or the address of an item or a node plus flags.  HIDDEN in a link to a node: an item
 * below it is hidden, or was.  A sweep follows only such links.
 */
enum {
	ITEM = 1,
	HIDDEN = 2,
};
_Static_assert(_Alignof(struct buffers_item) >= 4, "the flags have room in an address");
_Static_assert(_Alignof(struct node) >= 4, "the flags have room in an address");

static bool is_item(uintptr_t link)
{
	return link & ITEM;
}

static bool is_hidden(uintptr_t link)
{
	return link & HIDDEN;
}

static uintptr_t link_to(struct buffers_item *item)
{
	return (uintptr_t)item | ITEM;
}

static struct buffers_item *item_at(uintptr_t link)
{
	return (struct buffers_item *)(link & ~(uintptr_t)(ITEM | HIDDEN));
}

static struct node *node_at(uintptr_t link)
{
	return (struct node *)(link & ~(uintptr_t)HIDDEN);
}

static uintptr_t load_link(const uintptr_t *link)
{
	return __atomic_load_n(link, __ATOMIC_ACQUIRE);
}

static uint32_t load_bound(const uint32_t *bound)
{
	return __atomic_load_n(bound, __ATOMIC_RELAXED);
}

static void set_bound(uint32_t *bound, uint32_t room)
{
	__atomic_store_n(bound, room, __ATOMIC_RELAXED);
}

static void raise_bound(uint32_t *bound, uint32_t room)
{
	if (load_bound(bound) < room)
		set_bound(bound, room);
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

static uint32_t larger(const uint32_t bounds[2])
{
	uint32_t left = load_bound(&bounds[0]);
	uint32_t right = load_bound(&bounds[1]);

	return left > right ? left : right;
}

/* An upper bound of the room of every item below the link. */
static uint32_t room_below(uintptr_t link)
{
	return is_item(link) ? buffers_item_room(item_at(link)) : larger(node_at(link)->room);
}

static uint32_t shown_below(uintptr_t link)
{
	if (!is_item(link))
		return larger(node_at(link)->shown);
	return is_hidden(link) ? 0 : buffers_item_room(item_at(link));
}

/* Sets the bounds of a side from the bounds below it. */
static void update_bounds(struct node *node, unsigned side)
{
	set_bound(&node->room[side], room_below(node->sides[side]));
	set_bound(&node->shown[side], shown_below(node->sides[side]));
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

/* A fork between the stores leaves an end that is too low. */
static void set_nodes(struct buffers_index *index, uintptr_t start, uintptr_t end)
{
	__atomic_store_n(&index->nodes_end, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&index->nodes, start, __ATOMIC_RELEASE);
	__atomic_store_n(&index->nodes_end, end, __ATOMIC_RELEASE);
}

static struct node *new_node(struct buffers_index *index)
{
	size_t page = buffers_platform_granularity();
	uintptr_t address;

	if (!index->nodes)
		set_nodes(index, (uintptr_t)(index + 1),
			  ((uintptr_t)index + page) & ~(uintptr_t)(page - 1));
	if (index->nodes + sizeof(struct node) > index->nodes_end) {
		if (buffers_platform_map_anywhere(page, BUFFERS_KIND_RW, BUFFERS_MAP_PLAIN,
						  &address) != 0)
			return NULL;
		*(uintptr_t *)address = index->pages;
		__atomic_store_n(&index->pages, address, __ATOMIC_RELEASE);
		set_nodes(index, address + sizeof(uintptr_t), address + page);
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
	update_bounds(node, 0);
	update_bounds(node, 1);
	__atomic_store_n(link, (uintptr_t)node | (old & HIDDEN), __ATOMIC_RELEASE);
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
		raise_bound(&node->room[side], room);
		raise_bound(&node->shown[side], room);
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

/* Sets the bounds on the way to the key to the present values. */
static void tighten(uintptr_t link, uintptr_t key)
{
	struct node *node = node_at(link);
	unsigned side;

	if (is_item(link))
		return;
	side = side_of(node, key);
	tighten(node->sides[side], key);
	update_bounds(node, side);
}

/* The link to the item with this key, if there is one. */
static uintptr_t *find_link(struct buffers_index *index, uintptr_t key)
{
	uintptr_t *link = &index->tree;

	while (*link && !is_item(*link))
		link = &node_at(*link)->sides[side_of(node_at(*link), key)];
	return link;
}

static void set_flag(struct buffers_index *index, uintptr_t *link, bool hidden)
{
	if (is_hidden(*link) == hidden)
		return;
	__atomic_store_n(link, *link ^ HIDDEN, __ATOMIC_RELEASE);
	__atomic_store_n(&index->hidden, hidden ? index->hidden + 1 : index->hidden - 1,
			 __ATOMIC_RELAXED);
}

/* Hides the item, and first lets sweeps find the way to it. */
static void hide_item(struct buffers_index *index, struct buffers_item *item)
{
	uintptr_t key = key_of(item);
	uintptr_t *link = &index->tree;

	while (!is_item(*link)) {
		if (!is_hidden(*link))
			__atomic_store_n(link, *link | HIDDEN, __ATOMIC_RELEASE);
		link = &node_at(*link)->sides[side_of(node_at(*link), key)];
	}
	set_flag(index, link, true);
	tighten(index->tree, key);
}

/* Shows the item, and first lets searches find the way to it: a fork may copy the index. */
static void show_item(struct buffers_index *index, struct buffers_item *item)
{
	uint32_t room = buffers_item_room(item);
	uintptr_t key = key_of(item);
	uintptr_t *link = &index->tree;

	while (!is_item(*link)) {
		struct node *node = node_at(*link);
		unsigned side = side_of(node, key);

		raise_bound(&node->shown[side], room);
		link = &node->sides[side];
	}
	set_flag(index, link, false);
}

/* Hides an item that a user holds, unless it is released meanwhile.  False: the index is locked. */
static bool hide(struct buffers_index *index, struct buffers_item *item,
		 const struct buffers_item_filter *filter)
{
	if (!lock_index(index))
		return false;
	hide_item(index, item);
	if (filter->mark_hidden ? !filter->mark_hidden(item) : filter->is_free(item))
		show_item(index, item);
	unlock_index(index);
	return true;
}

void buffers_index_show(struct buffers_index *index, const struct buffers_item *item)
{
	uintptr_t *link;

	if (!__atomic_load_n(&index->hidden, __ATOMIC_RELAXED) || !lock_index(index))
		return;
	link = find_link(index, key_of(item));
	if (is_hidden(*link) && item_at(*link) == item)
		show_item(index, item_at(*link));
	unlock_index(index);
}

/*
 * Following the chain
 */

/* The next item that is not indexed; advances to the next locator. */
static struct buffers_item *next_new(struct buffers_locator **tail, uint32_t *count)
{
	struct buffers_locator *next;

	while (*count >= buffers_locator_usable(*tail)) {
		next = buffers_locator_follow(*tail);
		if (!next)
			return NULL;
		*tail = next;
		*count = 0;
	}
	return &(*tail)->items[(*count)++];
}

/*
 * Other implementations may count an item before they write it, while they hold the lock.
 * Reads the lock first: once it is free, the item is complete.  In an own locator, they add
 * items less often than this library, which counts complete items.
 */
static bool is_being_written(const struct buffers_locator *locator,
			     const struct buffers_item *item)
{
	return buffers_locator_is_locked(locator) &&
	       (!buffers_locator_is_own(locator) || !buffers_item_is_usable(item));
}

/* The item below the link, which is not 0, with the lowest key. */
static uintptr_t lowest_below(uintptr_t link)
{
	while (!is_item(link))
		link = load_link(&node_at(link)->sides[0]);
	return link;
}

/* The item below the link with the lowest key from `key` on; 0: there is none. */
static uintptr_t lowest_from(uintptr_t link, uintptr_t key)
{
	uintptr_t higher = 0;	/* the nearest side with higher keys only */

	while (link && !is_item(link)) {
		const struct node *node = node_at(link);
		unsigned side = side_of(node, key);

		if ((key ^ node->prefix) & ~suffix_mask(node)) {
			if (node->prefix > key)
				return lowest_below(link);
			break;
		}
		if (side == 0)
			higher = load_link(&node->sides[1]);
		link = load_link(&node->sides[side]);
	}
	if (link && is_item(link) && key_of(item_at(link)) >= key)
		return link;
	return higher ? lowest_below(higher) : 0;
}

/* Whether an indexed item has some of the same memory. */
static bool is_overlapping(const struct buffers_index *index, const struct buffers_item *item)
{
	uintptr_t link = lowest_from(load_link(&index->tree), item->base_address);

	return link && item_at(link)->base_address <= key_of(item);
}

/* Whether the item can be handed out. */
static bool is_sound(const struct buffers_index *index, struct buffers_examination *examination,
		     const struct buffers_locator *locator, const struct buffers_item *item)
{
	return buffers_item_is_usable(item) &&
	       (buffers_locator_is_own(locator) ||
		(!buffers_locator_may_be_shared(locator) && !is_overlapping(index, item) &&
		 buffers_examine_item(examination, item)));
}

static bool is_behind(const struct buffers_index *index)
{
	const struct buffers_locator *tail = __atomic_load_n(&index->tail, __ATOMIC_ACQUIRE);

	return !tail || buffers_locator_next(tail) ||
	       __atomic_load_n(&index->count, __ATOMIC_RELAXED) < buffers_locator_count(tail);
}

/*
 * Other implementations may still add to a locator that is not full, though it has a next one.
 * No item of the twin's locators is used.
 */
static bool would_skip_room(const struct buffers_index *index,
			    const struct buffers_locator *first,
			    const struct buffers_locator *next)
{
	const struct buffers_locator *tail = index->tail ? index->tail : first;

	return next != tail && index->count < BUFFERS_LOCATOR_CAPACITY &&
	       !buffers_locator_is_twins(tail);
}

static void catch_up(struct buffers_index *index, struct buffers_locator *first,
		     enum buffers_kind kind)
{
	struct buffers_examination examination = { .kind = kind };
	struct buffers_locator *tail = index->tail ? index->tail : first;
	uint32_t count = index->count;
	struct buffers_item *item;

	while ((item = next_new(&tail, &count)) && !would_skip_room(index, first, tail) &&
	       !is_being_written(tail, item) &&
	       (!is_sound(index, &examination, tail, item) || insert(index, item))) {
		if (tail != index->tail)	/* buffers_index_take() relies on this order */
			__atomic_store_n(&index->count, 0, __ATOMIC_RELEASE);
		__atomic_store_n(&index->tail, tail, __ATOMIC_RELEASE);
		__atomic_store_n(&index->count, count, __ATOMIC_RELEASE);
	}
	buffers_examine_end(&examination);
}

void buffers_index_update(struct buffers_index *index, struct buffers_locator *first,
			  enum buffers_kind kind)
{
	if (!is_behind(index) || !lock_index(index))
		return;
	catch_up(index, first, kind);
	unlock_index(index);
}

/*
 * Searching
 */

struct search {
	struct buffers_index *index;
	const struct buffers_window *window;
	const struct buffers_item_filter *filter;
	struct buffers_span keys;	/* both inclusive */
	size_t room;			/* items with less are skipped */
	unsigned patience;		/* the number of items with that room that may still fail */
	bool is_second;
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

/*
 * Counts a failure.  Hiding an item is free: its holder's request pays for it.  In the second
 * search, items that the alignment does not suit are free to fail, too.
 */
static void lose_patience(struct search *search, struct buffers_item *item)
{
	bool is_held = buffers_item_fits(item, buffers_item_position(item), search->window);

	if (is_held ? !hide(search->index, item, search->filter) : !search->is_second)
		search->patience--;
}

static struct buffers_item *try_item(struct search *search, uintptr_t link)
{
	struct buffers_item *item = item_at(link);

	if (is_hidden(link) && !search->filter->is_thorough)
		return NULL;
	if (buffers_contention_is_near(search->filter->busy, item))
		return NULL;
	if (search->filter->take(item, search->window)) {
		if (is_hidden(link))
			buffers_index_show(search->index, item);
		return item;
	}
	if (buffers_item_room(item) < search->room)
		correct_bounds(search->index, item);
	else if (!search->filter->is_thorough)
		lose_patience(search, item);
	return NULL;
}

static bool may_have(const struct search *search, const struct node *node, unsigned side)
{
	const uint32_t *bounds = search->filter->is_thorough ? node->room : node->shown;
	struct buffers_span keys = keys_on(node, side);

	return load_bound(&bounds[side]) >= search->room && keys.start <= search->keys.end &&
	       keys.end >= search->keys.start;
}

static struct buffers_item *take_below(struct search *search, uintptr_t link)
{
	struct buffers_item *item = NULL;

	if (is_item(link))
		return try_item(search, link);
	for (unsigned side = 0; side < 2 && !item && search->patience; side++)
		if (may_have(search, node_at(link), side))
			item = take_below(search, load_link(&node_at(link)->sides[side]));
	return item;
}

/*
 * The room that a new item has: it suits each alignment of the window, or is the whole item.
 * A window of more than new_size bytes gets an item of its own size.
 */
static size_t room_of_new_item(const struct buffers_window *window, size_t new_size)
{
	size_t most = buffers_max(new_size, window->size);

	return window->alignment - 1 > most - window->size ? most :
							     window->size + window->alignment - 1;
}

/*
 * If too many items fail, a second search skips those that have less room than a new item.
 * The items that other users hold are hidden from it.
 */
static struct buffers_item *take_indexed(struct search *search, uintptr_t tree)
{
	struct buffers_item *item;

	search->room = search->window->size;
	search->is_second = false;
	search->patience = BUFFERS_INDEX_PATIENCE;
	item = take_below(search, tree);
	if (item || search->patience)
		return item;
	search->room = room_of_new_item(search->window, search->filter->new_size);
	search->is_second = true;
	search->patience = BUFFERS_INDEX_PATIENCE;
	return take_below(search, tree);
}

/*
 * Showing hidden items
 */

struct sweep {
	struct buffers_index *index;
	bool (*is_free)(struct buffers_item *item);
	uint32_t seen, shown;	/* hidden items */
};

static void sweep_item(struct sweep *sweep, uintptr_t *link)
{
	sweep->seen++;
	if (!sweep->is_free(item_at(*link)))
		return;
	show_item(sweep->index, item_at(*link));
	sweep->shown++;
}

static void sweep_below(struct sweep *sweep, uintptr_t *link)
{
	struct node *node = node_at(*link);

	if (!is_hidden(*link))
		return;
	if (is_item(*link)) {
		sweep_item(sweep, link);
		return;
	}
	for (unsigned side = 0; side < 2; side++)
		if (load_bound(&node->room[side]))
			sweep_below(sweep, &node->sides[side]);
	if (!is_hidden(node->sides[0]) && !is_hidden(node->sides[1]))
		__atomic_store_n(link, (uintptr_t)node, __ATOMIC_RELEASE);
}

/*
 * Shows all hidden items that are free.  If they are few, the next searches that find nothing
 * do without a sweep: it costs them as much as SWEEP_SHARE items each.
 */
static bool show_released(struct buffers_index *index, bool (*is_free)(struct buffers_item *item))
{
	struct sweep sweep = { .index = index, .is_free = is_free };

	if (index->unswept) {
		index->unswept--;
		return false;
	}
	sweep_below(&sweep, &index->tree);
	if (sweep.shown < sweep.seen / SWEEP_SHARE)
		index->unswept = sweep.seen / SWEEP_SHARE - sweep.shown;
	return sweep.shown;
}

/* No other user can show an item while the index is locked: then looks at hidden items, too. */
static struct buffers_item *take_hidden(struct search *search)
{
	struct buffers_index *index = search->index;
	struct buffers_item_filter thorough = *search->filter;
	bool has_shown;

	/* In a forked child, an empty index may count a hidden item: see buffers_index_inherit(). */
	if (!__atomic_load_n(&index->hidden, __ATOMIC_RELAXED) || !load_link(&index->tree))
		return NULL;
	if (search->patience && lock_index(index)) {
		has_shown = show_released(index, thorough.is_free);
		unlock_index(index);
		if (!has_shown)
			return NULL;
	} else {
		thorough.is_thorough = true;
		search->filter = &thorough;
	}
	return take_indexed(search, load_link(&index->tree));
}

/*
 * Taking
 */

/* Walks the items that are not indexed: the index was locked, or had no memory for nodes. */
static struct buffers_item *take_unindexed(const struct search *search,
					   struct buffers_locator *tail, uint32_t count)
{
	struct buffers_examination examination = { .kind = search->window->kind };
	struct buffers_item *item;

	while ((item = next_new(&tail, &count)))
		if (!is_being_written(tail, item) &&
		    buffers_item_room(item) >= search->window->size &&
		    is_sound(search->index, &examination, tail, item) &&
		    take_item(search, item))
			break;
	buffers_examine_end(&examination);
	return item;
}

struct buffers_item *buffers_index_take(struct buffers_index *index,
					struct buffers_locator *first,
					const struct buffers_window *window,
					const struct buffers_item_filter *filter)
{
	struct search search = {
		.index = index, .window = window, .filter = filter,
		.keys = { window->range.start, window->range.end - 1 },
	};
	struct buffers_item *item = NULL;
	struct buffers_locator *tail;
	uint32_t count;
	uintptr_t tree;

	buffers_index_update(index, first, window->kind);
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
	if (!item)
		item = take_hidden(&search);
	return item;
}

bool buffers_index_contains(const struct buffers_index *index, uintptr_t address, size_t size)
{
	uintptr_t link = lowest_from(load_link(&index->tree), address + (size - 1));

	return link && buffers_item_contains(item_at(link), address, size);
}

/* Among the items that are not indexed, as take_unindexed(). */
__attribute__((cold))
static struct buffers_item *find_unindexed(const struct buffers_index *index,
					   struct buffers_locator *first,
					   enum buffers_kind kind, uintptr_t address)
{
	struct buffers_examination examination = { .kind = kind };
	struct buffers_locator *tail = __atomic_load_n(&index->tail, __ATOMIC_ACQUIRE);
	uint32_t count = tail ? __atomic_load_n(&index->count, __ATOMIC_ACQUIRE) : 0;
	struct buffers_item *item;

	tail = tail ? tail : first;
	while ((item = next_new(&tail, &count)))
		if (!is_being_written(tail, item) && buffers_item_contains(item, address, 1) &&
		    is_sound(index, &examination, tail, item))
			break;
	buffers_examine_end(&examination);
	return item;
}

static struct buffers_item *find_indexed(const struct buffers_index *index, uintptr_t address)
{
	uintptr_t link = lowest_from(load_link(&index->tree), address);

	return link && buffers_item_contains(item_at(link), address, 1) ? item_at(link) : NULL;
}

/* Between the first two searches, another thread may index the item. */
static struct buffers_item *find_item(const struct buffers_index *index,
				      struct buffers_locator *first, enum buffers_kind kind,
				      uintptr_t address)
{
	struct buffers_item *item = find_indexed(index, address);

	if (!item)
		item = find_unindexed(index, first, kind, address);
	return item ? item : find_indexed(index, address);
}

int buffers_index_check_use(struct buffers_index *index, struct buffers_locator *first,
			    enum buffers_kind kind, struct buffers_span room,
			    struct buffers_item **last)
{
	uintptr_t at = room.start;

	buffers_index_update(index, first, kind);
	while (at < room.end) {
		struct buffers_item *item = find_item(index, first, kind, at);

		if (!item)
			return at == room.start ? ENOENT : EINVAL;
		at = buffers_min(room.end, item->base_address + item->size);
		if (at > buffers_item_next(item))
			return EINVAL;
		*last = item;
	}
	return 0;
}

struct tour {
	struct buffers_index *index;
	struct buffers_span keys;	/* both inclusive */
	void (*visit)(struct buffers_item *item, void *context);
	void *context;
	unsigned patience;
	uintptr_t next;
};

static void visit_item(struct tour *tour, struct buffers_item *item)
{
	tour->patience--;
	tour->next = key_of(item) + 1;
	if (buffers_item_room(item))
		tour->visit(item, tour->context);
	else
		correct_bounds(tour->index, item);
}

__attribute__((cold))
static void visit_below(struct tour *tour, uintptr_t link)
{
	struct node *node = node_at(link);

	if (is_item(link)) {
		visit_item(tour, item_at(link));
		return;
	}
	for (unsigned side = 0; side < 2 && tour->patience; side++)
		if (load_bound(&node->room[side]) &&
		    keys_on(node, side).start <= tour->keys.end &&
		    keys_on(node, side).end >= tour->keys.start)
			visit_below(tour, load_link(&node->sides[side]));
}

__attribute__((cold))
uintptr_t buffers_index_visit_room(struct buffers_index *index, struct buffers_span range,
				   void (*visit)(struct buffers_item *item, void *context),
				   void *context)
{
	struct tour tour = {
		.index = index, .keys = { range.start, range.end - 1 },
		.visit = visit, .context = context, .patience = BUFFERS_INDEX_PATIENCE,
	};
	uintptr_t tree = load_link(&index->tree);

	if (tree)
		visit_below(&tour, tree);
	return tour.patience ? 0 : tour.next;
}

bool buffers_index_has(const struct buffers_index *index, const struct buffers_item *item)
{
	uintptr_t link = load_link(&index->tree);
	uintptr_t key = key_of(item);

	while (link && !is_item(link))
		link = load_link(&node_at(link)->sides[side_of(node_at(link), key)]);
	return link && item_at(link) == item;
}

struct buffers_locator *buffers_index_tail(const struct buffers_index *index,
					   struct buffers_locator *first)
{
	struct buffers_locator *tail = __atomic_load_n(&index->tail, __ATOMIC_ACQUIRE);

	return tail ? tail : first;
}

void buffers_index_continue_at(struct buffers_index *index, struct buffers_locator *first)
{
	for (unsigned attempt = 0; !lock_index(index); attempt++)
		buffers_platform_backoff(attempt);
	__atomic_store_n(&index->count, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&index->tail, first, __ATOMIC_RELEASE);
	unlock_index(index);
}

/*
 * The copy of an index that was being changed is as right as the index was for its readers.
 * Only the number of hidden items may be too low: another one makes the sweeps go on.
 */
void buffers_index_inherit(struct buffers_index *index)
{
	if (!index->is_locked)
		return;
	index->hidden++;
	unlock_index(index);
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
