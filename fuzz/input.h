/* SPDX-License-Identifier: MIT */
/* input.h: takes numbers from the bytes that libFuzzer makes up; zeros after the last one */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static const uint8_t *input;
static size_t input_left;

static inline uint64_t take(unsigned bytes)
{
	uint64_t number = 0;

	for (unsigned i = 0; i < bytes && input_left; i++, input_left--)
		number |= (uint64_t)*input++ << 8 * i;
	return number;
}

static inline unsigned take_byte(void)
{
	return (unsigned)take(1);
}

/* libFuzzer keeps the input that makes a harness abort. */
#define CHECK(condition)								\
	do {										\
		if (!(condition)) {							\
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			abort();							\
		}									\
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
