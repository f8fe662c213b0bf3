/* SPDX-License-Identifier: MIT */
/* walk.c: visits the buffers of a chain */

#include "config.h"
#include "locator/walk.h"
#include "locator/examine.h"
#include "reloaded/buffers.h"

/*
 * An item of another implementation may not be indexed: a full one, or if this copy has no index.
 * The index has none that was added after a fork, which may be a child's.
 */
static bool is_visited(const struct buffers_index *index, struct buffers_examination *examination,
		       const struct buffers_locator *locator, const struct buffers_item *item)
{
	return buffers_locator_is_own(locator) || (index && buffers_index_has(index, item)) ||
	       (!buffers_locator_may_be_shared(locator) && buffers_item_is_usable(item) &&
		buffers_examine_item(examination, item));
}

/*
 * Reads the position twice and the lock between.  A position that changes is the holder's work,
 * and one that does not change was the same when the lock was read.
 */
static bool is_taken_at(const struct buffers_item *item, uint32_t *position)
{
	uint32_t before = __atomic_load_n(&item->position, __ATOMIC_ACQUIRE);
	bool is_taken = __atomic_load_n(&item->is_taken, __ATOMIC_ACQUIRE) != 0;

	*position = buffers_item_position(item);
	return is_taken || *position != before;
}

static int visit_item(const struct buffers_item *item, enum buffers_kind kind,
		      int (*visit)(const struct buffers_info *info, void *context),
		      void *context)
{
	uint32_t position;
	bool is_taken = is_taken_at(item, &position);
	struct buffers_info info = {
		.base = (void *)item->base_address, .size = item->size,
		.used = position < item->size ? position : item->size,
		.taken = is_taken, .flags = kind,
	};

	return visit(&info, context);
}

static int visit_locator(const struct buffers_index *index,
			 const struct buffers_locator *locator, enum buffers_kind kind,
			 int (*visit)(const struct buffers_info *info, void *context),
			 void *context)
{
	struct buffers_examination examination = { .kind = kind };
	unsigned count = buffers_locator_count(locator);
	int verdict = 0;

	for (unsigned i = 0; i < count && !verdict; i++) {
		const struct buffers_item *item = &locator->items[i];
		bool is_ours = is_visited(index, &examination, locator, item);

		buffers_examine_end(&examination);	/* the visitor may do anything */
		if (is_ours)
			verdict = visit_item(item, kind, visit, context);
	}
	return verdict;
}

int buffers_walk_chain(const struct buffers_index *index, const struct buffers_locator *first,
		       enum buffers_kind kind,
		       int (*visit)(const struct buffers_info *info, void *context),
		       void *context)
{
	const struct buffers_locator *locator = first;
	int verdict = 0;

	for (; locator && !verdict; locator = buffers_locator_wait_for_next(locator))
		if (!buffers_locator_is_twins(locator))
			verdict = visit_locator(index, locator, kind, visit, context);
	return verdict;
}
