/* SPDX-License-Identifier: MIT */
/* beside.h: the library and another implementation in one process */
#ifndef TESTS_INTEROP_H
#define TESTS_INTEROP_H

#include "support/foreign.h"

#include <stdbool.h>

/* Who comes first, and where a foreign creator keeps its locator. */
enum arrival { FOREIGN_IN_MEMORY = IN_MEMORY, FOREIGN_IN_FILE = IN_FILE, WE_FIRST, ARRIVALS };

/* The other's view of the process's first locator, which nobody had until now. */
struct foreign_locator *arrive(enum arrival arrival);

/* Whether both see the same items. */
bool is_one_chain(struct foreign_locator *first);

/* Whether the file of this process names the locator. */
bool is_named(const struct foreign_locator *first);

#endif
