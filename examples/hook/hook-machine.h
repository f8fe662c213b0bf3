/* SPDX-License-Identifier: MIT */
/*
 * hook-machine.h: the part of hook that depends on the processor
 *
 * Each hook-*.c implements these functions for one kind of processor, and
 * hook-machine.c includes the right one.
 */
#ifndef EXAMPLES_HOOK_MACHINE_H
#define EXAMPLES_HOOK_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#pragma GCC visibility push(hidden)

enum { MOST_CODE = 256 };	/* stub: at most 176 bytes; moved instructions: less than 50 */

struct function {
	uint8_t *entry;
	size_t size;		/* 0: unknown */
	unsigned char other;	/* st_other of its symbol */
	const uint8_t *start;	/* its segment, up to end */
	const uint8_t *end;
	uint8_t *patched;	/* address of the jump that is written */
	size_t stolen;		/* size of the instructions that the jump overwrites */
	size_t far_jump;	/* size of a jump that reaches all addresses; 0: this jump does */
	size_t far_stolen;	/* size of the instructions that a far jump would overwrite */
	uintptr_t trampoline;	/* address of the moved instructions */
};

struct code {
	uintptr_t address;	/* final address of the first byte */
	size_t size;
	uint8_t bytes[MOST_CODE];
};

/* Prints why the function stays unpatched; returns false. */
bool refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Sets patched, stolen, far_jump and far_stolen.  False: the function cannot be patched. */
bool machine_examine(struct function *function);

/*
 * Makes the stub and, after it, the trampoline.  The stub calls on_call() with the first
 * argument of the function and preserves all registers.
 */
bool machine_make_code(struct function *function, struct code *code,
		       void (*on_call)(uintptr_t argument));

/* Returns false, after refuse(), if the target is out of reach. */
bool machine_put_jump(struct code *code, uintptr_t target);

/* Writes a jump.  Calls no library function, since that may be the function being hooked. */
void machine_write_jump(uint8_t *patched, const struct code *jump);

/* A system call with 0 as sixth argument. */
long machine_system_call(long number, long a, long b, long c, long d, long e);

static inline void put(struct code *code, const void *bytes, size_t size)
{
	memcpy(code->bytes + code->size, bytes, size);
	code->size += size;
}

#pragma GCC visibility pop

#endif
