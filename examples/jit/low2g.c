/* SPDX-License-Identifier: MIT */
/*
 * low2g: compiles an arithmetic expression to code in the first 2 GiB
 *
 *	low2g [-v] EXPRESSION [NAME=NUMBER ...]
 *
 * An x86-64 instruction can contain the address of its operand in 32 bits, with no
 * register and independent of its own address, if the operand is below 2 GiB.  Other
 * processors compute such an address in one or two instructions, and higher addresses
 * in more.  The program therefore keeps the code and all its numbers below 2 GiB.
 *
 * With -v no memory is writable and executable: the program writes through a view.
 *
 * compile.h describes the expressions.
 */

#include "compile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <reloaded/buffers.h>

/* The largest code and the most numbers that an expression can have. */
#define MOST_SIZE (MOST_CODE + MOST_NUMBERS * sizeof(int64_t))

static _Noreturn void exit_with_error(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

/*
 * Use of the library: a buffer below 2 GiB that receives numbers and code
 */

/* Only memory of one's own has a view: an arena instead of the buffers of the process. */
static struct buffers_item *get_item_with_view(struct buffers_request *request)
{
	struct buffers_arena *arena;

	request->flags = BUFFERS_RX | BUFFERS_VIEW;
	arena = buffers_arena_create(request, 0);
	return arena ? buffers_arena_get(arena, request->size, request->alignment) : NULL;
}

static struct buffers_item *get_low_buffer(bool has_view)
{
	struct buffers_request request = {
		.max_address = 0x80000000,
		.size = MOST_SIZE,
		.alignment = sizeof(int64_t),
	};
	struct buffers_item *item = has_view ? get_item_with_view(&request) : buffers_get(&request);

	if (!item)
		exit_with_error("no memory in the first 2 GiB: %s", strerror(errno));
	return item;
}

/* Without a view, buffers_view() returns the address itself. */
static uint32_t place_number(void *item, int64_t value)
{
	int64_t *number = buffers_reserve(item, sizeof(*number), sizeof(*number));
	int64_t *written = number ? buffers_view(number) : NULL;

	if (!written)
		exit_with_error("no space for a number: %s", strerror(errno));
	*written = value;
	return (uint32_t)(uintptr_t)number;
}

/* The code follows a number, so its address is a multiple of CODE_ALIGNMENT. */
static void *place_code(struct buffers_item *item, const struct code *code)
{
	void *address = buffers_append_code(item, code->bytes, code->size);

	if (!address)
		exit_with_error("no space for the code: %s", strerror(errno));
	return address;
}

static struct outcome run_code(const void *address)
{
	struct outcome (*function)(void) = (struct outcome (*)(void))(uintptr_t)address;

	return function();
}

static void exit_with_error(const char *format, ...)
{
	va_list arguments;

	fputs("low2g: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(EXIT_FAILURE);
}

static void print_result(char **arguments, int64_t value, const void *address,
			 const struct code *code)
{
	printf("%s%s", arguments[0], arguments[1] ? " with" : "");
	while (*++arguments)
		printf(" %s", *arguments);
	printf("\n= %" PRId64 "\ncode at %p, %zu bytes:", value, address, code->size);
	for (size_t i = 0; i < code->size; i++)
		printf("%s %02x", i % 16 ? "" : "\n", code->bytes[i]);
	printf("\n");
}

static void print_method(const void *address)
{
	printf("written at %p, in a view that is never executable\n", buffers_view(address));
}

static const struct code *compile_arguments(struct buffers_item *item, char **arguments)
{
	static struct compiler compiler = {
		.place = place_number, .code.addressing = ABSOLUTE,
	};

	compiler.context = item;
	for (char **argument = arguments + 1; *argument; argument++)
		compile_definition(&compiler, *argument);
	if (!compile_expression(&compiler, arguments[0]))
		exit_with_error("%s", compiler.complaint);
	compile_return(&compiler.code, OVERFLOWED);
	compile_return(&compiler.code, DIVIDED_BY_ZERO);
	return &compiler.code;
}

int main(int argc, char **argv)
{
	bool has_view = argc > 1 && strcmp(argv[1], "-v") == 0;
	struct buffers_item *item;
	const struct code *code;
	struct outcome outcome;
	void *address;

	argv += has_view;
	if (!argv[1] || strcmp(argv[1], "--help") == 0) {
		fputs("usage: low2g [-v] EXPRESSION [NAME=NUMBER ...]\n",
		      argv[1] ? stdout : stderr);
		return argv[1] ? EXIT_SUCCESS : 2;
	}
	item = get_low_buffer(has_view);
	code = compile_arguments(item, argv + 1);
	address = place_code(item, code);
	buffers_release(item);
	outcome = run_code(address);
	if (outcome.failure)
		exit_with_error(outcome.failure == OVERFLOWED ? "overflow" : "division by zero");
	print_result(argv + 1, outcome.value, address, code);
	if (has_view)
		print_method(address);
	if (fflush(stdout) != 0)
		exit_with_error("standard output: %s", strerror(errno));
	return EXIT_SUCCESS;
}
