/* SPDX-License-Identifier: MIT */
/*
 * text.h: puts names together
 *
 * Each writes to where the last one stopped, ends it with '\0' and returns the place of
 * that; the caller knows that there is room.
 */
#ifndef BUFFERS_FORMAT_H
#define BUFFERS_FORMAT_H

#include <stdint.h>

static inline char *buffers_format_string(char *at, const char *text)
{
	while (*text)
		*at++ = *text++;
	*at = '\0';
	return at;
}

static inline char *buffers_format_number(char *at, uint64_t number, unsigned base,
				       unsigned least_digits)
{
	char digits[24];
	unsigned count = 0;

	for (; number || count < least_digits; number /= base)
		digits[count++] = "0123456789abcdef"[number % base];
	while (count)
		*at++ = digits[--count];
	*at = '\0';
	return at;
}

#endif
