/* SPDX-License-Identifier: MIT */
/*
 * low2g: compiles an arithmetic expression to code in the first 2 GiB
 *
 *	low2g EXPRESSION [NAME=NUMBER ...]
 *
 * An x86-64 instruction can name the address of its operand in 32 bits, with
 * no register and wherever it lies itself, if that address is below 2 GiB.  So
 * every number that the code here works on lies there, and so does the code.
 *
 * Numbers are signed, of 64 bits, decimal or with 0x hexadecimal.  Operators
 * are + - * / % and unary minus, they bind and divide as in C, but an overflow
 * is an error.
 */

#include "config.h"
#include "reloaded/buffers.h"

#ifndef __x86_64__
# error "this example makes code for x86-64 only"
#endif

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MOST_CHARACTERS = 1000,		/* of the expression */
	MOST_NODES = MOST_CHARACTERS,	/* each takes a character at least */
	MOST_NESTED = 100,
	MOST_VARIABLES = 32,
	MOST_CODE = 60 * MOST_NODES + 16,	/* a remainder takes 59 bytes */
	ROOM = MOST_CODE + (MOST_NODES + MOST_VARIABLES) * (int)sizeof(int64_t),
};

enum failure { NONE, OVERFLOWED, DIVIDED_BY_ZERO };

/* Comes back in rax and rdx. */
struct outcome {
	int64_t value;
	int64_t failure;
};

struct code {
	uint8_t bytes[MOST_CODE];
	size_t size;
	size_t last_jump[DIVIDED_BY_ZERO + 1];	/* end of the last jump there; 0: none */
};

static _Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * The lines that matter: a buffer below 2 GiB, numbers and code in it
 */

static struct buffers_item *get_low_buffer(void)
{
	struct buffers_request request = {
		.max_address = 0x80000000,
		.size = ROOM,
		.alignment = sizeof(int64_t),
	};
	struct buffers_item *item = buffers_get(&request);

	if (!item)
		fail("no memory in the first 2 GiB: %s", strerror(errno));
	return item;
}

static int64_t *place_number(struct buffers_item *item, int64_t value)
{
	int64_t *number = buffers_reserve(item, sizeof(*number), sizeof(*number));

	if (!number)
		fail("no room for a number: %s", strerror(errno));
	*number = value;
	return number;
}

static void *place_code(struct buffers_item *item, const struct code *code)
{
	void *address = buffers_append_code(item, code->bytes, code->size);

	if (!address)
		fail("no room for the code: %s", strerror(errno));
	return address;
}

static struct outcome run(const void *address)
{
	struct outcome (*function)(void) = (struct outcome (*)(void))(uintptr_t)address;

	return function();
}

/*
 * What is compiled
 */

struct variable {
	const char *name;		/* not terminated */
	size_t length;
	const int64_t *number;
};

struct node {
	char operation;			/* + - * / %, m for unary minus, 0 for a number */
	const int64_t *number;		/* where its value lies or will lie */
	const struct node *left;
	struct node *right;
};

struct compiler {
	struct buffers_item *item;
	const char *text;
	const char *at;			/* what comes next of it */
	unsigned nested;
	struct variable variables[MOST_VARIABLES];
	size_t num_variables;
	struct node nodes[MOST_NODES];
	size_t num_nodes;
	struct code code;
};

static void fail(const char *format, ...)
{
	va_list arguments;

	fputs("low2g: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(EXIT_FAILURE);
}

static _Noreturn void fail_at(const struct compiler *compiler, const char *at, const char *what)
{
	fail("column %d: %s", (int)(at - compiler->text) + 1, what);
}

/*
 * Words
 */

static unsigned digit_of(char character)
{
	if (character >= '0' && character <= '9')
		return (unsigned)(character - '0');
	if (character >= 'a' && character <= 'f')
		return (unsigned)(character - 'a') + 10;
	if (character >= 'A' && character <= 'F')
		return (unsigned)(character - 'A') + 10;
	return 16;
}

static bool is_digit(char character)
{
	return digit_of(character) < 10;
}

static bool starts_name(char character)
{
	return (character >= 'a' && character <= 'z') ||
	       (character >= 'A' && character <= 'Z') || character == '_';
}

static size_t name_length(const char *text)
{
	size_t length = 0;

	if (starts_name(text[0]))
		while (starts_name(text[length]) || is_digit(text[length]))
			length++;
	return length;
}

/* Goes past the digits that start at *at.  Returns false if they say too much. */
static bool read_number(const char **at, bool is_negative, int64_t *number)
{
	uint64_t most = (uint64_t)INT64_MAX + is_negative;
	uint64_t value = 0;
	unsigned base = 10;
	bool fits = true;

	if ((*at)[0] == '0' && (*at)[1] == 'x' && digit_of((*at)[2]) < 16) {
		base = 16;
		*at += 2;
	}
	for (; digit_of(**at) < base; (*at)++) {
		fits = fits && value <= (most - digit_of(**at)) / base;
		value = value * base + digit_of(**at);
	}
	*number = is_negative ? (int64_t)-value : (int64_t)value;
	return fits;
}

static struct variable *find_variable(struct compiler *compiler, const char *name, size_t length)
{
	for (size_t i = 0; i < compiler->num_variables; i++) {
		struct variable *variable = &compiler->variables[i];

		if (variable->length == length && memcmp(variable->name, name, length) == 0)
			return variable;
	}
	return NULL;
}

/* NAME=NUMBER */
static void define(struct compiler *compiler, const char *argument)
{
	size_t length = name_length(argument);
	const char *at = argument + length + 1;
	bool is_negative;
	bool fits;
	int64_t value;

	if (length == 0 || argument[length] != '=')
		fail("%s: is not of the form NAME=NUMBER", argument);
	is_negative = *at == '-';
	at += is_negative;
	if (!is_digit(*at))
		fail("%s: is not of the form NAME=NUMBER", argument);
	fits = read_number(&at, is_negative, &value);
	if (*at)
		fail("%s: is not of the form NAME=NUMBER", argument);
	if (!fits)
		fail("%s: the number is too big", argument);
	if (find_variable(compiler, argument, length))
		fail("%s: the variable has a number already", argument);
	if (compiler->num_variables == MOST_VARIABLES)
		fail("%s: more than %d variables", argument, MOST_VARIABLES);
	compiler->variables[compiler->num_variables++] = (struct variable){
		argument, length, place_number(compiler->item, value),
	};
}

/*
 * Parsing
 */

static struct node *parse_sum(struct compiler *compiler);

static char next(struct compiler *compiler)
{
	while (*compiler->at == ' ' || *compiler->at == '\t' || *compiler->at == '\n')
		compiler->at++;
	return *compiler->at;
}

static struct node *add_node(struct compiler *compiler, struct node node)
{
	struct node *added = &compiler->nodes[compiler->num_nodes++];

	*added = node;
	return added;
}

static void enter(struct compiler *compiler)
{
	if (compiler->nested++ == MOST_NESTED)
		fail_at(compiler, compiler->at, "nested too deeply");
}

static void leave(struct compiler *compiler)
{
	compiler->nested--;
}

static struct node *parse_number(struct compiler *compiler, bool is_negative)
{
	const char *start = compiler->at;
	int64_t value;

	if (!read_number(&compiler->at, is_negative, &value))
		fail_at(compiler, start, "the number is too big");
	return add_node(compiler, (struct node){
		.number = place_number(compiler->item, value),
	});
}

static struct node *parse_variable(struct compiler *compiler)
{
	size_t length = name_length(compiler->at);
	struct variable *variable = find_variable(compiler, compiler->at, length);

	if (!variable)
		fail("column %d: unknown variable %.*s",
		     (int)(compiler->at - compiler->text) + 1, (int)length, compiler->at);
	compiler->at += length;
	return add_node(compiler, (struct node){ .number = variable->number });
}

static struct node *parse_parentheses(struct compiler *compiler)
{
	struct node *node;

	enter(compiler);
	compiler->at++;
	node = parse_sum(compiler);
	if (next(compiler) != ')')
		fail_at(compiler, compiler->at, "expected an operator or )");
	compiler->at++;
	leave(compiler);
	return node;
}

static struct node *parse_primary(struct compiler *compiler)
{
	char first = next(compiler);

	if (is_digit(first))
		return parse_number(compiler, false);
	if (starts_name(first))
		return parse_variable(compiler);
	if (first == '(')
		return parse_parentheses(compiler);
	fail_at(compiler, compiler->at, "expected a number, a variable, - or (");
}

static struct node *parse_unary(struct compiler *compiler)
{
	struct node *operand;

	if (next(compiler) != '-')
		return parse_primary(compiler);
	compiler->at++;
	if (is_digit(next(compiler)))	/* the lowest number has no positive counterpart */
		return parse_number(compiler, true);
	enter(compiler);
	operand = parse_unary(compiler);
	leave(compiler);
	return add_node(compiler, (struct node){ .operation = 'm', .left = operand });
}

static struct node *parse_product(struct compiler *compiler)
{
	struct node *left = parse_unary(compiler);
	char operation;

	while ((operation = next(compiler)) == '*' || operation == '/' || operation == '%') {
		compiler->at++;
		left = add_node(compiler, (struct node){
			.operation = operation, .left = left, .right = parse_unary(compiler),
		});
	}
	return left;
}

static struct node *parse_sum(struct compiler *compiler)
{
	struct node *left = parse_product(compiler);
	char operation;

	while ((operation = next(compiler)) == '+' || operation == '-') {
		compiler->at++;
		left = add_node(compiler, (struct node){
			.operation = operation, .left = left, .right = parse_product(compiler),
		});
	}
	return left;
}

static struct node *parse(struct compiler *compiler)
{
	struct node *root;

	if (strlen(compiler->text) > MOST_CHARACTERS)
		fail("the expression is longer than %d characters", MOST_CHARACTERS);
	root = parse_sum(compiler);
	if (*compiler->at)
		fail_at(compiler, compiler->at, "expected an operator or the end");
	return root;
}

/*
 * Generating code
 */

/* What comes before the 32 bits of a number's address. */
#define LOAD		"\x48\x8b\x04\x25"	/* mov rax, [number] */
#define STORE		"\x48\x89\x04\x25"	/* mov [number], rax */
#define ADD		"\x48\x03\x04\x25"	/* add rax, [number] */
#define SUBTRACT	"\x48\x2b\x04\x25"	/* sub rax, [number] */
#define MULTIPLY	"\x48\x0f\xaf\x04\x25"	/* imul rax, [number] */
#define DIVIDE		"\x48\xf7\x3c\x25"	/* idiv qword [number] */
#define COMPARE		"\x48\x83\x3c\x25"	/* cmp qword [number], the byte that follows */

/* What comes before the 32 bits of a distance. */
#define IF_OVERFLOW	"\x0f\x80"		/* jo */
#define IF_EQUAL	"\x0f\x84"		/* je */

static void emit(struct code *code, const void *bytes, size_t size)
{
	if (size > sizeof(code->bytes) - code->size)
		fail("the code is longer than %d bytes", MOST_CODE);
	memcpy(code->bytes + code->size, bytes, size);
	code->size += size;
}

static void emit_text(struct code *code, const char *bytes)
{
	emit(code, bytes, strlen(bytes));
}

static void emit_byte(struct code *code, uint8_t byte)
{
	emit(code, &byte, sizeof(byte));
}

static void emit_word(struct code *code, uint32_t word)
{
	emit(code, &word, sizeof(word));
}

static void emit_with(struct code *code, const char *instruction, const int64_t *number)
{
	emit_text(code, instruction);
	emit_word(code, (uint32_t)(uintptr_t)number);
}

/* Until it is known how far it goes, a jump holds where the one before it ends. */
static void emit_jump(struct code *code, const char *jump, enum failure failure)
{
	emit_text(code, jump);
	emit_word(code, (uint32_t)code->last_jump[failure]);
	code->last_jump[failure] = code->size;
}

static void land_jumps(struct code *code, enum failure failure)
{
	uint32_t end = (uint32_t)code->last_jump[failure];

	while (end) {
		uint8_t *field = code->bytes + end - sizeof(uint32_t);
		uint32_t distance = (uint32_t)code->size - end;

		memcpy(&end, field, sizeof(end));
		memcpy(field, &distance, sizeof(distance));
	}
}

static void emit_failure(struct code *code, enum failure failure)
{
	if (!code->last_jump[failure])
		return;
	land_jumps(code, failure);
	emit_text(code, "\xba");		/* mov edx, failure */
	emit_word(code, failure);
	emit_text(code, "\xc3");		/* ret */
}

/* idiv traps where the divisor is 0, and where it is -1 and rax the lowest number. */
static void emit_division(struct code *code, const int64_t *divisor)
{
	emit_with(code, COMPARE, divisor);
	emit_byte(code, 0);
	emit_jump(code, IF_EQUAL, DIVIDED_BY_ZERO);
	emit_with(code, COMPARE, divisor);
	emit_byte(code, 0xff);
	emit_text(code, "\x75\x0c"		/* jne past the next three */
			"\x48\x89\xc2"		/* mov rdx, rax */
			"\x48\xf7\xda");	/* neg rdx */
	emit_jump(code, IF_OVERFLOW, OVERFLOWED);
	emit_text(code, "\x48\x99");		/* cqo */
	emit_with(code, DIVIDE, divisor);
}

static void emit_operation(struct code *code, char operation, const int64_t *right)
{
	if (operation == '/' || operation == '%') {
		emit_division(code, right);
		if (operation == '%')
			emit_text(code, "\x48\x89\xd0");	/* mov rax, rdx */
		return;
	}
	emit_with(code, operation == '+' ? ADD : operation == '-' ? SUBTRACT : MULTIPLY, right);
	emit_jump(code, IF_OVERFLOW, OVERFLOWED);
}

/* Code that leaves the node's value in rax. */
static void generate(struct compiler *compiler, const struct node *node)
{
	struct code *code = &compiler->code;

	if (!node->operation) {
		emit_with(code, LOAD, node->number);
		return;
	}
	if (node->operation == 'm') {
		generate(compiler, node->left);
		emit_text(code, "\x48\xf7\xd8");	/* neg rax */
		emit_jump(code, IF_OVERFLOW, OVERFLOWED);
		return;
	}
	if (node->right->operation) {
		generate(compiler, node->right);
		node->right->number = place_number(compiler->item, 0);
		emit_with(code, STORE, node->right->number);
	}
	generate(compiler, node->left);
	emit_operation(code, node->operation, node->right->number);
}

static const struct code *compile(struct compiler *compiler)
{
	generate(compiler, parse(compiler));
	emit_text(&compiler->code, "\x31\xd2"		/* xor edx, edx */
				   "\xc3");		/* ret */
	emit_failure(&compiler->code, OVERFLOWED);
	emit_failure(&compiler->code, DIVIDED_BY_ZERO);
	return &compiler->code;
}

/*
 * Printing
 */

static void print(char **arguments, int64_t value, const void *address, const struct code *code)
{
	printf("%s%s", arguments[0], arguments[1] ? " with" : "");
	while (*++arguments)
		printf(" %s", *arguments);
	printf("\n= %" PRId64 "\ncode at %p, %zu bytes:", value, address, code->size);
	for (size_t i = 0; i < code->size; i++)
		printf("%s %02x", i % 16 ? "" : "\n", code->bytes[i]);
	printf("\n");
	if (fflush(stdout) != 0)
		fail("standard output: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	static struct compiler compiler;
	const struct code *code;
	struct outcome outcome;
	void *address;

	if (argc < 2) {
		fputs("usage: low2g EXPRESSION [NAME=NUMBER ...]\n", stderr);
		return 2;
	}
	compiler.item = get_low_buffer();
	compiler.text = compiler.at = argv[1];
	for (int i = 2; i < argc; i++)
		define(&compiler, argv[i]);
	code = compile(&compiler);
	address = place_code(compiler.item, code);
	buffers_release(compiler.item);
	outcome = run(address);
	if (outcome.failure)
		fail(outcome.failure == OVERFLOWED ? "overflow" : "division by zero");
	print(argv + 1, outcome.value, address, code);
	return EXIT_SUCCESS;
}
