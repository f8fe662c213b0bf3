/* SPDX-License-Identifier: MIT */
/* walk.h: visits the buffers of a chain */
#ifndef BUFFERS_WALK_H
#define BUFFERS_WALK_H

#include "locator/index.h"

#pragma GCC visibility push(hidden)

struct buffers_info;

/*
 * buffers_walk() for a chain of one kind; `index` and `first` may be NULL.  Leaves out the items
 * that may be another process's.
 */
__attribute__((cold))
int buffers_walk_chain(const struct buffers_index *index, const struct buffers_locator *first,
		       enum buffers_kind kind,
		       int (*visit)(const struct buffers_info *info, void *context),
		       void *context);

#pragma GCC visibility pop

#endif
