/* SPDX-License-Identifier: MIT */
/* window.h: a request after it was checked */
#ifndef BUFFERS_WINDOW_H
#define BUFFERS_WINDOW_H

#include "base/kind.h"
#include "base/span.h"

/* The wanted memory: its range, its size and its kind. */
struct buffers_window {
	struct buffers_span range;
	uintptr_t target;	/* 0: none */
	size_t size;
	size_t alignment;	/* a power of two */
	enum buffers_kind kind;
	enum buffers_map_flags map_flags;
};

#endif
