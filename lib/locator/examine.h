/* SPDX-License-Identifier: MIT */
/*
 * examine.h: whether the memory of an item is there
 *
 * Other implementations list memory that is missing, or of another kind.
 */
#ifndef BUFFERS_EXAMINE_H
#define BUFFERS_EXAMINE_H

#include "locator/item.h"
#include "platform/platform.h"

#pragma GCC visibility push(hidden)

/* Only the kind is set at first.  The list of mappings is opened once for many items. */
struct buffers_examination {
	enum buffers_kind kind;
	bool is_open;
	struct buffers_maps maps;
};

/* Whether the kernel shows all memory of the item, with the permissions of the kind. */
bool buffers_examine_item(struct buffers_examination *examination,
			  const struct buffers_item *item);

/* Closes the list of mappings.  The next item opens it again. */
void buffers_examine_end(struct buffers_examination *examination);

#pragma GCC visibility pop

#endif
