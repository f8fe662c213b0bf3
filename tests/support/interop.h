/* SPDX-License-Identifier: MIT */
/* beside.h: the library and another implementation in one process */
#ifndef TESTS_INTEROP_H
#define TESTS_INTEROP_H

#include "support/foreign.h"

#include <stdbool.h>

/* Who comes first, and where a foreign creator keeps its locator. */
enum creator { FOREIGN_IN_MEMORY = IN_MEMORY, FOREIGN_IN_FILE = IN_FILE, LIBRARY_FIRST, CREATORS };

/* The other's view of the process's first locator, which nobody had until now. */
struct foreign_locator *make_first_locator(enum creator creator);

/* Whether both see the same items. */
bool see_same_items(struct foreign_locator *first);

/* Whether the file of this process names the locator. */
bool is_named_by_file(const struct foreign_locator *first);

#endif
