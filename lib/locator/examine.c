/* SPDX-License-Identifier: MIT */
/* examine.c: whether the memory of an item is there */

#include "config.h"
#include "locator/examine.h"

bool buffers_examine_item(struct buffers_examination *examination,
			  const struct buffers_item *item)
{
	if (!examination->is_open)
		buffers_platform_maps_open(&examination->maps);
	examination->is_open = true;
	return buffers_platform_maps_permit(&examination->maps, item->base_address, item->size,
					    examination->kind);
}

void buffers_examine_end(struct buffers_examination *examination)
{
	if (examination->is_open)
		buffers_platform_maps_close(&examination->maps);
	examination->is_open = false;
}
