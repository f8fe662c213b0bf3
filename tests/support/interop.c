/* SPDX-License-Identifier: MIT */
/* interop.c: the library and another implementation in one process */

#include "config.h"
#include "support/interop.h"
#include "reloaded/buffers.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <unistd.h>

struct foreign_locator *make_first_locator(enum creator creator)
{
	const struct buffers_request request = { .size = 1 };
	struct buffers_item *item;

	if (creator == FOREIGN_IN_MEMORY)
		return foreign_find(IN_MEMORY);
	if (creator == FOREIGN_IN_FILE)
		return foreign_find(IN_FILE);
	item = buffers_get(&request);
	ck_assert_ptr_nonnull(item);
	buffers_release(item);
	return foreign_find(IN_MEMORY);
}

struct view {
	struct foreign_locator *first;
	size_t count;
	bool is_equal;
};

/* Foreign code can move the position beyond the end. */
static uint32_t used_bytes(const struct foreign_item *item)
{
	return item->position < item->size ? item->position : item->size;
}

static int compare_item(const struct buffers_info *info, void *context)
{
	struct view *view = context;
	const struct foreign_item *item = foreign_item_at(view->first, view->count++);

	view->is_equal = item && (uintptr_t)info->base == item->base && info->size == item->size &&
			 info->used == used_bytes(item) && info->taken == (item->is_taken != 0);
	return !view->is_equal;
}

bool see_same_items(struct foreign_locator *first)
{
	struct view view = { first, 0, true };

	return buffers_walk(compare_item, &view) == 0 && !foreign_item_at(first, view.count);
}

bool is_named_by_file(const struct foreign_locator *first)
{
	return read_address(rendezvous_path(NULL, getpid())) == (uintptr_t)first;
}
