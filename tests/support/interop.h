/* SPDX-License-Identifier: MIT */
/* interop.h: the library and another implementation in one process */
#ifndef TESTS_INTEROP_H
#define TESTS_INTEROP_H

#include "support/foreign.h"

#include <stdbool.h>

/* The implementation that creates the first locator. */
enum creator { FOREIGN_IN_MEMORY = IN_MEMORY, FOREIGN_IN_FILE = IN_FILE, LIBRARY_FIRST, CREATORS };

/* Creates the first locator and returns it.  No copy in this process may have used it before. */
struct foreign_locator *make_first_locator(enum creator creator);

/* Whether the library and the other implementation list the same items. */
bool see_same_items(struct foreign_locator *first);

/* Whether this process's rendezvous file names the locator. */
bool is_named_by_file(const struct foreign_locator *first);

#endif
