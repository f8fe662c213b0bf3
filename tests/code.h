/* SPDX-License-Identifier: MIT */
/* code.h: functions that return a number, and how to call them */
#ifndef TESTS_CODE_H
#define TESTS_CODE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
# define HAVE_CODE 1
#endif

enum { CODE_SIZE = 8 };

/* x86: mov $number, %eax; ret; nop; nop */
struct code {
	unsigned char bytes[CODE_SIZE];
};

static inline struct code code_of(uint32_t number)
{
	struct code code = { { 0xb8, 0, 0, 0, 0, 0xc3, 0x90, 0x90 } };

	memcpy(&code.bytes[1], &number, sizeof(number));
	return code;
}

/* The number in the code, without executing it. */
static inline uint32_t read_code(const void *code)
{
	uint32_t number;

	memcpy(&number, (const char *)code + 1, sizeof(number));
	return number;
}

static inline uint32_t call_code(const void *code)
{
#ifdef HAVE_CODE
	uint32_t (*function)(void);

	memcpy(&function, &code, sizeof(function));
	return function();
#else
	return read_code(code);
#endif
}

#endif
