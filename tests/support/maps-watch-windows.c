/* SPDX-License-Identifier: MIT */
/* maps-watch-windows.c: read the list of mappings by VirtualQuery(), which needs no handle */

#include "config.h"
#include "support/support.h"
#include "support/maps-watch.h"

bool watch_open(struct watch *watch)
{
	*watch = (struct watch){ .maps = -1 };
	return true;
}

void watch_close(struct watch *watch)
{
	(void)watch;
}

size_t watch_count(const struct watch *watch)
{
	(void)watch;
	return count_mappings(0, UINTPTR_MAX);
}

bool watch_is_mapped_as(const struct watch *watch, const void *start, size_t size,
			const char *permissions)
{
	(void)watch;
	return is_mapped_as((uintptr_t)start, (uintptr_t)start + size, permissions);
}
