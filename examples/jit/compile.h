/* SPDX-License-Identifier: MIT */
/*
 * compile.h: from arithmetic expressions to machine code
 *
 * Numbers are signed, of 64 bits, decimal or with 0x hexadecimal.  Operators
 * are + - * / % and unary minus, they bind and divide as in C, but an overflow
 * is an error.
 *
 * Every number that the code works on lies in memory, and the program says
 * where: variables, in the order they are defined, then constants and room for
 * what comes in between.
 */
#ifndef EXAMPLES_COMPILE_H
#define EXAMPLES_COMPILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MOST_CHARACTERS = 1000,		/* of the expression */
	MOST_NODES = MOST_CHARACTERS + 1, /* each takes a character, but one after an error */
	MOST_NESTED = 100,
	MOST_VARIABLES = 32,
	MOST_NUMBERS = MOST_NODES + MOST_VARIABLES,
	MOST_CODE = 80 * MOST_NODES + 100,	/* a remainder takes 76 bytes for Arm */
	MOST_COMPLAINT = 2000,
	CODE_ALIGNMENT = 4,		/* bytes that an instruction of any processor asks for */
};

enum failure { NONE, OVERFLOWED, DIVIDED_BY_ZERO };

/* What the code returns. */
struct outcome {
	int64_t value;
	int64_t failure;
};

/* How the code finds its numbers. */
enum addressing {
	ABSOLUTE,	/* by 32 bits of address, which is below 2 GiB */
	FROM_ARGUMENT,	/* by a distance from the code's only argument, a pointer */
};

struct code {
	enum addressing addressing;
	uint8_t bytes[MOST_CODE];
	size_t size;
	size_t last_jump[DIVIDED_BY_ZERO + 1];	/* end of the last jump there; 0: none */
};

struct variable {
	const char *name;		/* not terminated */
	size_t length;
	uint32_t number;
};

struct node {
	char operation;			/* + - * / %, m for unary minus, 0 for a number */
	uint32_t number;		/* where its value lies or will lie */
	const struct node *left;
	struct node *right;
};

/* Zero but for the first two members, and how the code finds its numbers. */
struct compiler {
	uint32_t (*place)(void *context, int64_t value);	/* returns where it put it */
	void *context;
	struct code code;
	char complaint[MOST_COMPLAINT];	/* what is wrong; empty: nothing */
	const char *text;
	const char *at;			/* what comes next of it */
	unsigned nested;
	struct variable variables[MOST_VARIABLES];
	size_t num_variables;
	struct node nodes[MOST_NODES];
	size_t num_nodes;
};

/*
 * Takes NAME=NUMBER, text that must stay as long as the compiler is used.  Returns
 * false with a complaint.
 */
bool compile_definition(struct compiler *compiler, const char *argument);

/*
 * Leaves in compiler->code what computes the expression.  It is complete when
 * both failures have a place to go.  Returns false with a complaint, also one that
 * an earlier call made.
 */
bool compile_expression(struct compiler *compiler, const char *text);

/* Adds code that returns the failure, for the jumps there. */
void compile_return(struct code *code, enum failure failure);

/* Has the jumps there go so far from the code's first byte. */
void compile_jumps(struct code *code, enum failure failure, ptrdiff_t distance);

#endif
