/* SPDX-License-Identifier: MIT */
/*
 * target.h: generates the machine code of a processor, step by step
 *
 * Each target-*.c implements these functions for one processor, and target.c includes
 * the right one.  Each function appends the code of one step.  Steps work on an
 * accumulator, a register that target-*.c chooses, and on numbers in memory.  A step
 * that fails jumps to the code of its failure.
 *
 * C code calls the result as a function, so target-*.c follows the calling convention
 * of the system for the argument and for a struct outcome.
 */
#ifndef EXAMPLES_TARGET_H
#define EXAMPLES_TARGET_H

#include "compile.h"

#include <assert.h>
#include <string.h>

/* Loads a number into the accumulator; stores the accumulator. */
void target_load(struct code *code, uint32_t number);
void target_store(struct code *code, uint32_t number);

void target_negate(struct code *code);

/* The operation is + - * / or %.  The accumulator is the left operand and receives the result. */
void target_operate(struct code *code, char operation, uint32_t right);

/* If failure is NONE, returns the accumulator as value. */
void target_return(struct code *code, enum failure failure);

/* Links the jump that ends at `end` to a target at this distance from the first byte. */
void target_link(struct code *code, size_t end, ptrdiff_t distance);

/*
 * Helpers for target-*.c
 */

static inline void emit(struct code *code, const void *bytes, size_t size)
{
	assert(size <= sizeof(code->bytes) - code->size);
	memcpy(code->bytes + code->size, bytes, size);
	code->size += size;
}

static inline void emit_text(struct code *code, const char *bytes)
{
	emit(code, bytes, strlen(bytes));
}

static inline void emit_word(struct code *code, uint32_t word)
{
	emit(code, &word, sizeof(word));
}

/* Until target_link() sets its distance, a jump contains the end of the previous jump. */
static inline void emit_distance(struct code *code, enum failure failure)
{
	emit_word(code, (uint32_t)code->last_jump[failure]);
	code->last_jump[failure] = code->size;
}

#endif
