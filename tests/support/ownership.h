/* SPDX-License-Identifier: MIT */
/* record.h: who was given which bytes, kept apart from the library */
#ifndef TESTS_OWNERSHIP_H
#define TESTS_OWNERSHIP_H

#include <stddef.h>

/* Bytes that were handed out, and what they were filled with. */
struct ownership {
	unsigned char *start;
	size_t size;
	unsigned char fill;
};

/* Fills the bytes and notes that. */
void ownership_fill(struct ownership *record, void *start, size_t size, unsigned char fill);

/* Asserts that no two overlap and that all hold what they were filled with. */
void check_ownership(struct ownership *records, size_t count);

#endif
