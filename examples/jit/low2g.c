/* SPDX-License-Identifier: MIT */
/*
 * low2g: compiles an arithmetic expression to code in the first 2 GiB
 *
 *	low2g EXPRESSION [NAME=NUMBER ...]
 *
 * An x86-64 instruction can name the address of its operand in 32 bits, with
 * no register and wherever it lies itself, if that address is below 2 GiB.  Other
 * processors make such an address in one or two instructions, and another one in
 * more.  So every number that the code here works on lies there, and so does the
 * code.
 * compile.h says what an expression is.
 */

#include "compile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <reloaded/buffers.h>

/* Of each size the most that is possible. */
#define ROOM (MOST_CODE + MOST_NUMBERS * sizeof(int64_t))

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

static uint32_t place_number(void *item, int64_t value)
{
	int64_t *number = buffers_reserve(item, sizeof(*number), sizeof(*number));

	if (!number)
		fail("no room for a number: %s", strerror(errno));
	*number = value;
	return (uint32_t)(uintptr_t)number;
}

/* It comes after a number, so it begins at a multiple of CODE_ALIGNMENT. */
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

static const struct code *compile(struct buffers_item *item, char **arguments)
{
	static struct compiler compiler = {
		.place = place_number, .code.addressing = ABSOLUTE,
	};

	compiler.context = item;
	for (char **argument = arguments + 1; *argument; argument++)
		compile_definition(&compiler, *argument);
	if (!compile_expression(&compiler, arguments[0]))
		fail("%s", compiler.complaint);
	compile_return(&compiler.code, OVERFLOWED);
	compile_return(&compiler.code, DIVIDED_BY_ZERO);
	return &compiler.code;
}

int main(int argc, char **argv)
{
	struct buffers_item *item;
	const struct code *code;
	struct outcome outcome;
	void *address;

	if (argc < 2) {
		fputs("usage: low2g EXPRESSION [NAME=NUMBER ...]\n", stderr);
		return 2;
	}
	item = get_low_buffer();
	code = compile(item, argv + 1);
	address = place_code(item, code);
	buffers_release(item);
	outcome = run(address);
	if (outcome.failure)
		fail(outcome.failure == OVERFLOWED ? "overflow" : "division by zero");
	print(argv + 1, outcome.value, address, code);
	return EXIT_SUCCESS;
}
