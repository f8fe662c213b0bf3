/* SPDX-License-Identifier: MIT */
/*
 * foreign-sections.h: how another implementation finds the first locator on Windows
 *
 * It is the start of a section with a name, 64 KiB that can be executed.  What is behind the
 * locator is listed as buffers of at most 16 KiB, and the address is written last.
 */
#ifndef TESTS_FOREIGN_SECTIONS_H
#define TESTS_FOREIGN_SECTIONS_H

#include "support/foreign.h"
#include "support/regions.h"

/* The section as its creator first makes it, zeroed; NULL when there is one already. */
HANDLE foreign_create_section(void);

/* A view of it, with the buffers but without its address; and then that, too. */
struct foreign_locator *foreign_prepare(HANDLE section);
void foreign_publish(struct foreign_locator *locator);

/* All three; or the locator that the section leads to, for which it waits. */
struct foreign_locator *foreign_find_section(void);

#endif
