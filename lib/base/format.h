/* SPDX-License-Identifier: MIT */
/*
 * format.h: builds strings from parts
 *
 * Each function appends at `at`, terminates the string, and returns the address of the
 * terminator for the next part.  The caller provides enough space.
 */
#ifndef BUFFERS_FORMAT_H
#define BUFFERS_FORMAT_H

#include <stdint.h>

static inline char *buffers_format_string(char *at, const char *string)
{
	while (*string)
		*at++ = *string++;
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
