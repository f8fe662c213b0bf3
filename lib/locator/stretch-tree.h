/* SPDX-License-Identifier: MIT */
/*
 * stretch-tree.h: nodes of stretches, in a treap by address
 *
 * A treap is a binary search tree whose shape is random: each node has a priority, and none is
 * above a node with a higher one.  The key is the end of a stretch.
 */
#ifndef BUFFERS_STRETCH_TREE_H
#define BUFFERS_STRETCH_TREE_H

#include "locator/item.h"

#pragma GCC visibility push(hidden)

/* No padding: 40 bytes with 64 bits, 28 with 32. */
struct buffers_stretch {
	struct buffers_stretch *left, *right;	/* in the treap */
	struct buffers_item item;
	uint32_t bound;		/* at least the size of every free stretch here and below */
};
_Static_assert(sizeof(struct buffers_stretch) <= 40, "a promise of the documentation");

/*
 * The last two words of an item in a node: position and owner word of an item in use; of a free
 * stretch, the numbers of its neighbours in a list.  This bit is set in each owner word, and in the
 * word that links released items; never in that of a free stretch.
 */
enum { BUFFERS_STRETCH_IN_USE = BUFFERS_TAKEN };

static inline uint32_t buffers_stretch_load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline void buffers_stretch_store(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline bool buffers_stretch_is_in_use(const struct buffers_stretch *node)
{
	return buffers_stretch_load(&node->item.is_taken) & BUFFERS_STRETCH_IN_USE;
}

/* The bytes that are not in use: all of a free stretch, the room of an item. */
static inline uintptr_t buffers_stretch_start(const struct buffers_stretch *node)
{
	return buffers_stretch_is_in_use(node) ? buffers_item_next(&node->item) :
						 node->item.base_address;
}

static inline uintptr_t buffers_stretch_end(const struct buffers_stretch *node)
{
	return node->item.base_address + node->item.size;
}

static inline struct buffers_span buffers_stretch_span(const struct buffers_stretch *node)
{
	return (struct buffers_span){ buffers_stretch_start(node), buffers_stretch_end(node) };
}

/* The place of a key. */
struct buffers_stretch_place {
	struct buffers_stretch *before;		/* the last node with a lower key, or NULL */
	struct buffers_stretch *after;		/* the first node with this key or a higher one */
	struct buffers_stretch *next;		/* the node after that one */
	struct buffers_stretch **link;		/* where a new node belongs */
};

/* Finds the place of a new node with this key and size, and raises the bounds on the way. */
struct buffers_stretch_place buffers_stretch_tree_prepare(struct buffers_stretch **tree,
							  const struct buffers_stretch *node,
							  uintptr_t key, uint32_t size);

/* Inserts the node at a place that was prepared for it; nothing has changed since. */
void buffers_stretch_tree_insert_at(struct buffers_stretch **link, struct buffers_stretch *node);

void buffers_stretch_tree_insert(struct buffers_stretch **tree, struct buffers_stretch *node);
void buffers_stretch_tree_remove(struct buffers_stretch **tree, struct buffers_stretch *node);

/* Raises the bounds above a node whose size has grown. */
void buffers_stretch_tree_raise(struct buffers_stretch *tree, const struct buffers_stretch *node);

/*
 * `before` is the last node that ends at the address or below, `after` the first one that ends
 * above.  Sets nothing else.
 */
struct buffers_stretch_place buffers_stretch_tree_find(struct buffers_stretch *tree,
						       uintptr_t address);

#pragma GCC visibility pop

#endif
