/* SPDX-License-Identifier: MIT */
/*
 * foreign-sections.h: the other implementation's way to the first locator on Windows
 *
 * The locator is at the start of a named, executable section of 64 KiB.  The rest of the section
 * is listed as buffers of at most 16 KiB.  The creator stores the address last.
 */
#ifndef TESTS_FOREIGN_SECTIONS_H
#define TESTS_FOREIGN_SECTIONS_H

#include "support/foreign.h"
#include "support/regions.h"

/* Creates the section, zeroed.  Returns NULL if it exists already. */
HANDLE foreign_create_section(void);

/*
 * foreign_prepare() maps the section and lists the buffers.  foreign_publish() stores the
 * address.
 */
struct foreign_locator *foreign_prepare(HANDLE section);
void foreign_publish(struct foreign_locator *locator);

/* Creates, prepares and publishes the section; if it exists already, waits for its address. */
struct foreign_locator *foreign_find_section(void);

#endif
