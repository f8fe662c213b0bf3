/* SPDX-License-Identifier: MIT */
/*
 * compile.h: compiles arithmetic expressions to machine code
 *
 * Numbers are signed and have 64 bits; they are decimal, or hexadecimal with 0x.
 * The operators are + - * / % and unary minus, with the precedence and the
 * division of C.  An overflow is an error.
 *
 * All numbers that the code uses are in memory, at locations that the program
 * chooses: first the variables, in the order of their definitions, then constants
 * and intermediate results.
 */
#ifndef EXAMPLES_COMPILE_H
#define EXAMPLES_COMPILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MOST_CHARACTERS = 1000,		/* in an expression */
	MOST_NODES = MOST_CHARACTERS + 1, /* each takes a character, except one after an error */
	MOST_NESTED = 100,
	MOST_VARIABLES = 32,
	MOST_NUMBERS = MOST_NODES + MOST_VARIABLES,
	MOST_CODE = 80 * MOST_NODES + 100,	/* a remainder takes 76 bytes on Arm */
	MOST_COMPLAINT = 2000,
	CODE_ALIGNMENT = 4,		/* bytes; suits the instructions of every processor */
};

enum failure { NONE, OVERFLOWED, DIVIDED_BY_ZERO };

/* The return value of the code. */
struct outcome {
	int64_t value;
	int64_t failure;
};

/* How the code finds its numbers. */
enum addressing {
	ABSOLUTE,	/* by a 32-bit address below 2 GiB */
	FROM_ARGUMENT,	/* by an offset from the code's only argument, a pointer */
};

struct code {
	enum addressing addressing;
	uint8_t bytes[MOST_CODE];
	size_t size;
	size_t last_jump[DIVIDED_BY_ZERO + 1];	/* end of the last jump to the failure; 0: none */
};

struct variable {
	const char *name;		/* not terminated */
	size_t length;
	uint32_t number;
};

struct node {
	char operation;			/* + - * / %, m for unary minus, 0 for a number */
	uint32_t number;		/* location of its value */
	const struct node *left;
	struct node *right;
};

/* The caller sets place, context and code.addressing, and all other members to zero. */
struct compiler {
	/* Stores a number, returns its location. */
	uint32_t (*place)(void *context, int64_t value);
	void *context;
	struct code code;
	char complaint[MOST_COMPLAINT];	/* error message; empty: no error */
	const char *text;
	const char *at;			/* the next character of text */
	unsigned nested;
	struct variable variables[MOST_VARIABLES];
	size_t num_variables;
	struct node nodes[MOST_NODES];
	size_t num_nodes;
};

/*
 * Defines a variable.  The argument is NAME=NUMBER and must stay valid as long as the
 * compiler is used.  Returns false and sets the complaint on failure.
 */
bool compile_definition(struct compiler *compiler, const char *argument);

/*
 * Compiles the expression into compiler->code.  The caller completes the code with
 * compile_return() or compile_jumps() for both failures.  Returns false if the
 * compiler has a complaint, also one of an earlier call.
 */
bool compile_expression(struct compiler *compiler, const char *text);

/* Appends code that returns the failure, and links the failure's jumps to it. */
void compile_return(struct code *code, enum failure failure);

/* Links the failure's jumps to a target at this distance from the first byte of the code. */
void compile_jumps(struct code *code, enum failure failure, ptrdiff_t distance);

#endif
