/* SPDX-License-Identifier: MIT */
/*
 * few-mappings.h: lets the mappings of the library's own pages fail
 *
 * Programs that use it are linked with -Wl,--wrap=buffers_platform_map_anywhere.
 */
#ifndef TESTS_FEW_MAPPINGS_H
#define TESTS_FEW_MAPPINGS_H

#include "platform/platform.h"

/* How many more mappings succeed; UINT32_MAX at first. */
extern unsigned mappings_left;

/* Maps without the limit. */
int __real_buffers_platform_map_anywhere(size_t size, enum buffers_kind kind,
					enum buffers_map_flags flags, uintptr_t *address);

#endif
