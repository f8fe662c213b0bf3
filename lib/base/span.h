/* SPDX-License-Identifier: MIT */
/* span.h: half-open ranges of addresses, and arithmetic on them */
#ifndef BUFFERS_SPAN_H
#define BUFFERS_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Empty if it does not end above its start. */
struct buffers_span {
	uintptr_t start, end;
};

static inline uintptr_t buffers_min(uintptr_t a, uintptr_t b)
{
	return a < b ? a : b;
}

static inline uintptr_t buffers_max(uintptr_t a, uintptr_t b)
{
	return a > b ? a : b;
}

static inline size_t buffers_span_size(struct buffers_span span)
{
	return span.start < span.end ? span.end - span.start : 0;
}

static inline struct buffers_span buffers_span_intersect(struct buffers_span a,
							 struct buffers_span b)
{
	return (struct buffers_span){
		buffers_max(a.start, b.start), buffers_min(a.end, b.end),
	};
}

static inline bool buffers_span_overlap(struct buffers_span a, struct buffers_span b)
{
	return buffers_span_size(buffers_span_intersect(a, b)) > 0;
}

static inline bool buffers_span_contains(struct buffers_span outer, struct buffers_span inner)
{
	return outer.start <= inner.start && inner.end <= outer.end;
}

#endif
