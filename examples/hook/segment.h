/* SPDX-License-Identifier: MIT */
/* segment.h: the executable segment of a function, for hook and patch-loop */
#ifndef EXAMPLES_SEGMENT_H
#define EXAMPLES_SEGMENT_H

#include "hook-machine.h"

#pragma GCC visibility push(hidden)

/* Sets start and end.  False: the entry is in no executable segment. */
bool find_segment(struct function *function);

#pragma GCC visibility pop

#endif
