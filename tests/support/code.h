/* SPDX-License-Identifier: MIT */
/*
 * code.h: functions that return a number, as machine code
 *
 * One instruction contains the number, in the four bytes at offset CODE_WORD.  Storing new bytes
 * there changes the number; an aligned store changes it atomically.  A function must start at a
 * multiple of CODE_ALIGNMENT, and only its first CODE_MIN_SIZE bytes are executed.
 *
 * HAVE_CODE: this header knows machine code for this processor.
 * CODE_ASM: code_of(42) in assembly language.
 * CODE_LABEL(name): the directives that must precede CODE_ASM.
 * CODE_IS_COHERENT: a thread may execute code that another thread changes, without any barrier.
 *
 * installed.c includes this header, so it must be valid C99 and C++.
 */
#ifndef TESTS_CODE_H
#define TESTS_CODE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
# define HAVE_CODE 1
# define CODE_IS_COHERENT 1
# define CODE_ASM "mov $42, %eax\n ret\n nop\n nop\n"
# define CODE_BYTES	{ 0xb8, 0, 0, 0, 0, 0xc3, 0x90, 0x90 }
# define CODE_OTHER	{ 0xb8, 0, 0, 0, 0, 0xc3, 0xcc, 0xcc }
enum { CODE_MIN_SIZE = 6, CODE_WORD = 1, CODE_ALIGNMENT = 1 };
enum { CODE_ONE = 0x11223344, CODE_TWO = 0x55667788 };
#else
enum { CODE_MIN_SIZE = 8, CODE_WORD = 0, CODE_ALIGNMENT = 4, CODE_ONE = 0x1122, CODE_TWO = 0x5566 };
#endif

#if defined(__AARCH64EL__)
# define HAVE_CODE 1
# define CODE_ASM "mov w0, 42\n ret\n"
# define CODE_BYTES	{ 0, 0, 0, 0, 0xc0, 0x03, 0x5f, 0xd6 }
# define CODE_OTHER	{ 0, 0, 0, 0, 0xc0, 0x03, 0x1f, 0xd6 }	/* br x30 */
#elif defined(__ARMEL__) && __ARM_ARCH >= 7
# define HAVE_CODE 1
# define CODE_MODE ".arm\n"
# define CODE_ASM "movw r0, 42\n bx lr\n"
# define CODE_BYTES	{ 0, 0, 0, 0, 0x1e, 0xff, 0x2f, 0xe1 }
# define CODE_OTHER	{ 0, 0, 0, 0, 0x0e, 0xf0, 0xa0, 0xe1 }	/* mov pc, lr */
#elif defined(__riscv_compressed)
# define HAVE_CODE 1
# define CODE_ASM "lui a0, 42\n c.srli a0, 12\n c.jr ra\n"
# define CODE_BYTES	{ 0, 0, 0, 0, 0x31, 0x81, 0x82, 0x80 }
# define CODE_OTHER	{ 0, 0, 0, 0, 0x31, 0x85, 0x82, 0x80 }	/* c.srai a0, 12 */
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
# define HAVE_CODE 1
# define CODE_ASM "li 3, 42\n blr\n"
# define CODE_BYTES	{ 0, 0, 0, 0, 0x20, 0x00, 0x80, 0x4e }
# define CODE_OTHER	{ 0, 0, 0, 0, 0x20, 0x08, 0x80, 0x4e }	/* blr, with another hint */
#elif defined(__s390x__)
# define HAVE_CODE 1
# define CODE_ASM "lghi %r2, 42\n br %r14\n nopr %r7\n"
# define CODE_BYTES	{ 0, 0, 0, 0, 0x07, 0xfe, 0x07, 0x07 }
# define CODE_OTHER	{ 0, 0, 0, 0, 0x07, 0xfe, 0x00, 0x00 }
#elif !defined(HAVE_CODE)
# define CODE_BYTES	{ 0, 0, 0, 0, 1, 1, 1, 1 }
# define CODE_OTHER	{ 0, 0, 0, 0, 2, 2, 2, 2 }
#endif

#ifndef CODE_MODE
# define CODE_MODE ""
#endif
#ifdef _WIN32
# define CODE_LABEL(name) ".globl " name "\n" name ":\n"
#else
# define CODE_LABEL(name) CODE_MODE ".globl " name "\n.type " name ", %function\n" name ":\n"
#endif

#ifndef CODE_IS_COHERENT
# define CODE_IS_COHERENT 0
#endif

enum {
	CODE_SIZE = 8,
	CODE_NUMBERS = 0x8000,		/* every processor can return all numbers below this */
};

struct code {
	unsigned char bytes[CODE_SIZE];
};

static inline uint32_t word_of_code(uint32_t number)
{
#if defined(__AARCH64EL__)
	return 0x52800000 | number << 5;	/* movz w0, number */
#elif defined(__ARMEL__)
	return 0xe3000000 | (number & 0xf000) << 4 | (number & 0xfff);	/* movw r0, number */
#elif defined(__riscv)
	return 0x00000537 | number << 12;	/* lui a0, number: the code shifts it back */
#elif defined(__powerpc64__)
	return 0x38600000 | number;		/* li r3, number */
#elif defined(__s390x__)
	return 0xa7290000 | number;		/* lghi r2, number */
#else
	return number;
#endif
}

static inline uint32_t number_in_word(uint32_t word)
{
#if defined(__AARCH64EL__)
	return word >> 5 & 0x7fff;
#elif defined(__ARMEL__)
	return (word >> 4 & 0xf000) | (word & 0xfff);
#elif defined(__riscv)
	return word >> 12 & 0x7fff;
#elif defined(__powerpc64__) || defined(__s390x__)
	return word & 0x7fff;
#else
	return word;
#endif
}

static inline struct code put_number(struct code code, uint32_t number)
{
	uint32_t word = word_of_code(number);

	memcpy(&code.bytes[CODE_WORD], &word, sizeof(word));
	return code;
}

static inline struct code code_of(uint32_t number)
{
	struct code code = { CODE_BYTES };

	return put_number(code, number);
}

/* Code of the same function with other bytes in its second half. */
static inline struct code other_code_of(uint32_t number)
{
	struct code code = { CODE_OTHER };

	return put_number(code, number);
}

/* Decodes the number; does not execute the code. */
static inline uint32_t read_code(const void *code)
{
	uint32_t word;

	memcpy(&word, (const char *)code + CODE_WORD, sizeof(word));
	return number_in_word(word);
}

/* Executes the code where that is possible, otherwise decodes the number. */
static inline uint32_t call_code(const void *code)
{
#ifdef HAVE_CODE
	uint32_t (*function)(void);

	memcpy(&function, &code, sizeof(function));
	if ((uintptr_t)code % CODE_ALIGNMENT == 0)
		return function();
#endif
	return read_code(code);
}

#endif
