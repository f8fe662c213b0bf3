/* SPDX-License-Identifier: MIT */
/* ownership.h: a record of the bytes that the library handed out */
#ifndef TESTS_OWNERSHIP_H
#define TESTS_OWNERSHIP_H

#include <stddef.h>

/* A range of bytes that was handed out, and the value of all its bytes. */
struct ownership {
	unsigned char *start;
	size_t size;
	unsigned char fill;
};

/* Fills the bytes and records the range. */
void ownership_fill(struct ownership *ownership, void *start, size_t size, unsigned char fill);

/* Asserts that no two ranges overlap and that each still holds its value. */
void check_ownership(struct ownership *ranges, size_t count);

#endif
