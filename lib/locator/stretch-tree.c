/* SPDX-License-Identifier: MIT */
/* stretch-tree.c: nodes of stretches, in a treap by address */

#include "config.h"
#include "locator/stretch-tree.h"

/* Random, but always the same for a node: it orders the treap. */
static uint32_t priority_of(const struct buffers_stretch *node)
{
	uint64_t address = (uintptr_t)node;

	/* Without the shift, the distances of nodes and pages show in the shape. */
	return (uint32_t)((address ^ address >> 12) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

static void raise_bound(struct buffers_stretch *node, uint32_t size)
{
	if (node->bound < size)
		node->bound = size;
}

/* The way to a key, and to the place before it. */
static struct buffers_stretch **next_link(struct buffers_stretch *node, uintptr_t key)
{
	return buffers_stretch_end(node) < key ? &node->right : &node->left;
}

/* Those with a key below it, and the others. */
static void split(struct buffers_stretch *tree, uintptr_t key, struct buffers_stretch **below,
		  struct buffers_stretch **above)
{
	while (tree)
		if (buffers_stretch_end(tree) < key) {
			*below = tree;
			below = &tree->right;
			tree = tree->right;
		} else {
			*above = tree;
			above = &tree->left;
			tree = tree->left;
		}
	*below = *above = NULL;
}

struct buffers_stretch_place buffers_stretch_tree_prepare(struct buffers_stretch **tree,
							  const struct buffers_stretch *new_node,
							  uintptr_t key, uint32_t size)
{
	struct buffers_stretch *before = NULL, *after = NULL, *next = NULL, *node;
	struct buffers_stretch **link = tree, **own = NULL;
	uint32_t priority = priority_of(new_node);

	while ((node = *link)) {
		if (!own && priority_of(node) < priority)
			own = link;
		raise_bound(node, size);
		if (buffers_stretch_end(node) < key) {
			before = node;
			link = &node->right;
		} else {
			next = after;
			after = node;
			link = &node->left;
		}
	}
	return (struct buffers_stretch_place){ before, after, next, own ? own : link };
}

void buffers_stretch_tree_insert_at(struct buffers_stretch **link, struct buffers_stretch *node)
{
	node->bound = *link ? (*link)->bound : 0;
	raise_bound(node, node->item.size);
	split(*link, buffers_stretch_end(node), &node->left, &node->right);
	*link = node;
}

void buffers_stretch_tree_insert(struct buffers_stretch **tree, struct buffers_stretch *node)
{
	struct buffers_stretch_place place =
		buffers_stretch_tree_prepare(tree, node, buffers_stretch_end(node),
					     node->item.size);

	buffers_stretch_tree_insert_at(place.link, node);
}

static void join(struct buffers_stretch **link, struct buffers_stretch *left,
		 struct buffers_stretch *right)
{
	while (left && right)
		if (priority_of(left) >= priority_of(right)) {
			raise_bound(left, right->bound);
			*link = left;
			link = &left->right;
			left = left->right;
		} else {
			raise_bound(right, left->bound);
			*link = right;
			link = &right->left;
			right = right->left;
		}
	*link = left ? left : right;
}

/* The bounds above it stay: they are upper ones. */
void buffers_stretch_tree_remove(struct buffers_stretch **tree, struct buffers_stretch *node)
{
	struct buffers_stretch **link = tree;
	uintptr_t key = buffers_stretch_end(node);

	while (*link != node)
		link = next_link(*link, key);
	join(link, node->left, node->right);
}

void buffers_stretch_tree_raise(struct buffers_stretch *tree, const struct buffers_stretch *node)
{
	struct buffers_stretch *at = tree;
	uintptr_t key = buffers_stretch_end(node);

	for (; at != node; at = *next_link(at, key))
		raise_bound(at, node->item.size);
	raise_bound(at, node->item.size);
}

struct buffers_stretch_place buffers_stretch_tree_find(struct buffers_stretch *tree,
						       uintptr_t address)
{
	struct buffers_stretch_place place = { .before = NULL };
	struct buffers_stretch *node = tree;

	while (node)
		if (buffers_stretch_end(node) > address) {
			place.after = node;
			node = node->left;
		} else {
			place.before = node;
			node = node->right;
		}
	return place;
}
