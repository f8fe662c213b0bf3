/* SPDX-License-Identifier: MIT */
/*
 * packed.h: refuses requests in full ranges without a search
 *
 * A span is packed if all its pages are mapped.  A search that failed records the packed spans of
 * its range.  They are hints: the program may have unmapped pages since, so a span counts only
 * after the system has confirmed it.
 */
#ifndef BUFFERS_PACKED_H
#define BUFFERS_PACKED_H

#include "allocator/search.h"

#pragma GCC visibility push(hidden)

/*
 * Whether spans that are packed now leave no candidate in the range of the search.  Forgets a
 * recorded span that is no longer packed.
 */
bool buffers_packed_is_full(const struct buffers_search *search);

/* Records the packed spans in the range of a search that failed; its maps are open. */
__attribute__((cold))
void buffers_packed_record(struct buffers_search *search);

#pragma GCC visibility pop

#endif
