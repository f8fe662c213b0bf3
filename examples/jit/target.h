/* SPDX-License-Identifier: MIT */
/*
 * target.h: from the steps of a computation to the machine code of a processor
 *
 * Each target-*.c has these functions for one processor, and target.c takes the right
 * one.  They append to the code what does a step.  All steps work on an accumulator,
 * whichever register that is there, and on numbers in memory; what goes wrong
 * jumps to the failure.
 *
 * The code is a function as C knows it, so target-*.c also has to do with how the
 * system passes the argument and a struct outcome.
 */
#ifndef EXAMPLES_TARGET_H
#define EXAMPLES_TARGET_H

#include "compile.h"

#include <assert.h>
#include <string.h>

/* From memory to the accumulator, and back. */
void target_load(struct code *code, uint32_t number);
void target_store(struct code *code, uint32_t number);

void target_negate(struct code *code);

/* + - * / or %: the accumulator is the left side, and becomes the result. */
void target_operate(struct code *code, char operation, uint32_t right);

/* With NONE, the accumulator is the value. */
void target_return(struct code *code, enum failure failure);

/* Has the jump whose distance ends there go so far from the code's first byte. */
void target_link(struct code *code, size_t end, ptrdiff_t distance);

/*
 * For target-*.c
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

/* Until it is known how far it goes, a jump holds where the one before it ends. */
static inline void emit_distance(struct code *code, enum failure failure)
{
	emit_word(code, (uint32_t)code->last_jump[failure]);
	code->last_jump[failure] = code->size;
}

#endif
