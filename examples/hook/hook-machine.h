/* SPDX-License-Identifier: MIT */
/*
 * hook-machine.h: what hook does differently for each kind of processor
 *
 * Each hook-*.c beside has these functions for one kind, and hook-machine.c takes the
 * right one.
 */
#ifndef EXAMPLES_HOOK_MACHINE_H
#define EXAMPLES_HOOK_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#pragma GCC visibility push(hidden)

enum { MOST_CODE = 256 };	/* a stub takes 176 at most, what is moved less than 50 */

struct function {
	uint8_t *entry;
	size_t size;		/* 0: unknown */
	unsigned char other;	/* of its symbol */
	const uint8_t *start;	/* the segment it lies in */
	const uint8_t *end;
	uint8_t *place;		/* where the jump goes */
	size_t stolen;		/* bytes of the instructions that the jump overwrites */
	size_t far_jump;	/* bytes of one that reaches everywhere; 0: the jump does */
	size_t far_stolen;	/* that it would overwrite */
	uintptr_t trampoline;	/* where they go on, moved */
};

struct code {
	uintptr_t address;	/* of the first byte, when it is in place */
	size_t size;
	uint8_t bytes[MOST_CODE];
};

/* Says why the function is left as it is; false. */
bool refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Sets place and all of stolen and far; false where no jump can be put. */
bool machine_examine(struct function *function);

/*
 * The stub, which calls on_call() with the function's first argument and changes no
 * register, and the trampoline behind it.
 */
bool machine_make_code(struct function *function, struct code *code,
		       void (*on_call)(uintptr_t argument));

/* False, after refuse(), when the target is out of reach. */
bool machine_put_jump(struct code *code, uintptr_t target);

/* Writes one that was put alone.  Calls no function, for that may be the one. */
void machine_write_jump(uint8_t *place, const struct code *jump);

/* The sixth argument is 0. */
long machine_system_call(long number, long a, long b, long c, long d, long e);

static inline void put(struct code *code, const void *bytes, size_t size)
{
	memcpy(code->bytes + code->size, bytes, size);
	code->size += size;
}

#pragma GCC visibility pop

#endif
