/* SPDX-License-Identifier: MIT */
/* gap.h: aligned addresses inside a gap */
#ifndef BUFFERS_GAP_H
#define BUFFERS_GAP_H

#include "base/span.h"

#pragma GCC visibility push(hidden)

/*
 * Find the lowest and the highest aligned address in a gap at which `size` bytes fit; false
 * if there is none.  `size` is at least 1.  The gap may be empty or inverted.
 */
bool buffers_gap_lowest(struct buffers_span gap, size_t size, size_t alignment,
			uintptr_t *address);
bool buffers_gap_highest(struct buffers_span gap, size_t size, size_t alignment,
			 uintptr_t *address);

#pragma GCC visibility pop

#endif
