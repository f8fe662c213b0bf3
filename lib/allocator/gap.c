/* SPDX-License-Identifier: MIT */
/* gap.c: aligned addresses inside a gap */

#include "config.h"
#include "allocator/gap.h"

bool buffers_gap_lowest(struct buffers_span gap, size_t size, size_t alignment,
			uintptr_t *address)
{
	size_t slack = (size_t)-gap.start & (alignment - 1);
	size_t room = buffers_span_size(gap);

	if (room < slack || room - slack < size)
		return false;
	*address = gap.start + slack;
	return true;
}

bool buffers_gap_highest(struct buffers_span gap, size_t size, size_t alignment,
			 uintptr_t *address)
{
	uintptr_t highest;

	if (buffers_span_size(gap) < size)
		return false;
	highest = (gap.end - size) & ~(uintptr_t)(alignment - 1);
	if (highest < gap.start)
		return false;
	*address = highest;
	return true;
}
