/* SPDX-License-Identifier: MIT */
/* few-mappings.c: lets the mappings of the library's own pages fail */

#include "config.h"
#include "support/few-mappings.h"

#include <errno.h>

unsigned mappings_left = UINT32_MAX;

int __wrap_buffers_platform_map_anywhere(size_t size, enum buffers_kind kind,
					enum buffers_map_flags flags, uintptr_t *address);

int __wrap_buffers_platform_map_anywhere(size_t size, enum buffers_kind kind,
					enum buffers_map_flags flags, uintptr_t *address)
{
	if (__atomic_load_n(&mappings_left, __ATOMIC_RELAXED) == 0)
		return ENOMEM;
	__atomic_fetch_sub(&mappings_left, 1, __ATOMIC_RELAXED);
	return __real_buffers_platform_map_anywhere(size, kind, flags, address);
}
