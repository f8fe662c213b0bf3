/* SPDX-License-Identifier: MIT */
/*
 * compile.c: scanner, parser and code generation
 *
 * A complaint moves the scanner to the end of the text.  The parser then completes
 * the nodes that it has begun with dummy operands.
 */

#include "compile.h"
#include "target.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Only the first complaint is kept. */
__attribute__((format(printf, 2, 3)))
static void complain(struct compiler *compiler, const char *format, ...)
{
	va_list arguments;

	if (*compiler->complaint)
		return;
	va_start(arguments, format);
	vsnprintf(compiler->complaint, sizeof(compiler->complaint), format, arguments);
	va_end(arguments);
	compiler->at = "";
}

static void complain_at(struct compiler *compiler, const char *at, const char *what)
{
	complain(compiler, "column %d: %s", (int)(at - compiler->text) + 1, what);
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

/* Moves *at past the digits.  Returns false if the number is out of range. */
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

static void add_variable(struct compiler *compiler, const char *name, size_t length, int64_t value)
{
	compiler->variables[compiler->num_variables++] = (struct variable){
		name, length, compiler->place(compiler->context, value),
	};
}

bool compile_definition(struct compiler *compiler, const char *argument)
{
	size_t length = name_length(argument);
	const char *at = argument + length + (argument[length] == '=');
	bool is_negative = *at == '-';
	bool is_well_formed = length > 0 && argument[length] == '=' && is_digit(at[is_negative]);
	int64_t value;
	bool fits;

	at += is_negative;
	fits = read_number(&at, is_negative, &value);
	if (!is_well_formed || *at)
		complain(compiler, "%s: is not of the form NAME=NUMBER", argument);
	else if (!fits)
		complain(compiler, "%s: the number is too big", argument);
	else if (find_variable(compiler, argument, length))
		complain(compiler, "%s: the variable has a number already", argument);
	else if (compiler->num_variables == MOST_VARIABLES)
		complain(compiler, "%s: more than %d variables", argument, MOST_VARIABLES);
	else
		add_variable(compiler, argument, length, value);
	return !*compiler->complaint;
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

static void enter_nesting(struct compiler *compiler, const char *at)
{
	if (compiler->nested++ == MOST_NESTED)
		complain_at(compiler, at, "nested too deeply");
}

static void leave_nesting(struct compiler *compiler)
{
	compiler->nested--;
}

static struct node *parse_number(struct compiler *compiler, bool is_negative)
{
	const char *start = compiler->at;
	int64_t value;

	if (!read_number(&compiler->at, is_negative, &value))
		complain_at(compiler, start, "the number is too big");
	return add_node(compiler, (struct node){
		.number = compiler->place(compiler->context, value),
	});
}

static struct node *parse_variable(struct compiler *compiler)
{
	size_t length = name_length(compiler->at);
	struct variable *variable = find_variable(compiler, compiler->at, length);

	if (!variable) {
		complain(compiler, "column %d: unknown variable %.*s",
			 (int)(compiler->at - compiler->text) + 1, (int)length, compiler->at);
		return add_node(compiler, (struct node){ 0 });
	}
	compiler->at += length;
	return add_node(compiler, (struct node){ .number = variable->number });
}

static struct node *parse_parentheses(struct compiler *compiler)
{
	const char *start = compiler->at++;
	struct node *node;

	enter_nesting(compiler, start);
	node = parse_sum(compiler);
	if (next(compiler) == ')')
		compiler->at++;
	else
		complain_at(compiler, compiler->at, "expected an operator or )");
	leave_nesting(compiler);
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
	complain_at(compiler, compiler->at, "expected a number, a variable, - or (");
	return add_node(compiler, (struct node){ 0 });
}

static struct node *parse_unary(struct compiler *compiler)
{
	struct node *operand;

	if (next(compiler) != '-')
		return parse_primary(compiler);
	compiler->at++;
	if (is_digit(next(compiler)))	/* INT64_MIN has no positive counterpart */
		return parse_number(compiler, true);
	enter_nesting(compiler, compiler->at);
	operand = parse_unary(compiler);
	leave_nesting(compiler);
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

static struct node *parse(struct compiler *compiler, const char *text)
{
	struct node *root;

	compiler->text = compiler->at = text;
	if (strlen(text) > MOST_CHARACTERS)
		complain(compiler, "the expression is longer than %d characters", MOST_CHARACTERS);
	root = parse_sum(compiler);
	if (*compiler->at)
		complain_at(compiler, compiler->at, "expected an operator or the end");
	return root;
}

/*
 * Generating code
 */

void compile_jumps(struct code *code, enum failure failure, ptrdiff_t distance)
{
	uint32_t end = (uint32_t)code->last_jump[failure];

	while (end) {
		uint32_t before;

		memcpy(&before, code->bytes + end - sizeof(before), sizeof(before));
		target_link(code, end, distance);
		end = before;
	}
}

void compile_return(struct code *code, enum failure failure)
{
	if (!code->last_jump[failure])
		return;
	compile_jumps(code, failure, (ptrdiff_t)code->size);
	target_return(code, failure);
}

/* Generates code that computes the node's value in the accumulator. */
static void generate(struct compiler *compiler, const struct node *node)
{
	struct code *code = &compiler->code;

	if (!node->operation) {
		target_load(code, node->number);
		return;
	}
	if (node->operation == 'm') {
		generate(compiler, node->left);
		target_negate(code);
		return;
	}
	if (node->right->operation) {
		generate(compiler, node->right);
		node->right->number = compiler->place(compiler->context, 0);
		target_store(code, node->right->number);
	}
	generate(compiler, node->left);
	target_operate(code, node->operation, node->right->number);
}

bool compile_expression(struct compiler *compiler, const char *text)
{
	const struct node *root;

	if (*compiler->complaint)
		return false;
	root = parse(compiler, text);
	if (*compiler->complaint)
		return false;
	generate(compiler, root);
	target_return(&compiler->code, NONE);
	return true;
}
