/* SPDX-License-Identifier: MIT */
/*
 * patch-loop: hooks and unhooks a function of the C library again and again
 *
 *	patch-loop [CYCLES]
 *
 * Each cycle puts a stub near getppid(), has the function jump there, calls it, restores it,
 * and gives the room of the stub back.  The program prints the memory that the process has
 * and uses, which stays the same.
 *
 * A program that unhooks must know that no thread is in the stub, or will return to it, before
 * it calls buffers_give_back().  This one has a single thread.  hook/hook-machine.h has the
 * part that depends on the processor.
 */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <err.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <reloaded/buffers.h>
#include "hook/hook-machine.h"
#include "hook/segment.h"

enum { ALIGNMENT = 16, MOST_JUMP = 32 };

static unsigned long calls;

static void on_call(uintptr_t argument)
{
	(void)argument;
	calls++;
}

bool refuse(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vwarnx(format, arguments);
	va_end(arguments);
	return false;
}

/*
 * The function
 */

static struct function find_function(void)
{
	struct function function = { .entry = dlsym(RTLD_NEXT, "getppid") };

	if (!function.entry || !find_segment(&function))
		errx(1, "getppid() was not found");
	if (!machine_examine(&function))
		exit(1);
	return function;
}

static void make_writable(const struct function *function)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t start = (uintptr_t)function->patched & ~(page - 1);
	uintptr_t end = (uintptr_t)function->patched + MOST_JUMP;

	if (mprotect((void *)start, end - start, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
		err(1, "the function's code cannot be made writable");
}

/*
 * A cycle
 */

static void write_code(const struct function *function, const struct code *code)
{
	machine_write_jump(function->patched, code);
	buffers_flush_icache(function->patched, code->size);
}

/* Puts the stub near the function; *code is a copy of it. */
static void *place_stub(struct function *function, struct code *code)
{
	struct buffers_request request =
		buffers_request_near(function->entry, BUFFERS_REACH_BRANCH, MOST_CODE);
	struct buffers_item *item;
	void *stub = NULL;

	request.alignment = ALIGNMENT;
	item = buffers_get(&request);
	if (!item)
		err(1, "no executable memory within reach of a jump");
	*code = (struct code){ .address = (uintptr_t)buffers_next(item) };
	if (machine_make_code(function, code, on_call))
		stub = buffers_append_code(item, code->bytes, code->size);
	buffers_release(item);
	if (!stub)
		errx(1, "the stub cannot be made");
	return stub;
}

static void hook_and_unhook(struct function *function)
{
	struct code jump = { .address = (uintptr_t)function->patched };
	struct code original = { .address = jump.address };
	struct code code;
	void *stub = place_stub(function, &code);
	unsigned long before = calls;

	if (!machine_put_jump(&jump, (uintptr_t)stub))
		exit(1);
	put(&original, function->patched, jump.size);
	write_code(function, &jump);
	getppid();
	write_code(function, &original);
	if (calls != before + 1)
		errx(1, "the stub was not called");
	if (buffers_give_back(stub, code.size) != 0)
		err(1, "buffers_give_back");
}

/*
 * The memory
 */

struct memory {
	size_t buffers, bytes, used;
};

static int add_buffer(const struct buffers_info *info, void *context)
{
	struct memory *memory = context;

	memory->buffers++;
	memory->bytes += info->size;
	memory->used += info->used - info->given_back;
	return 0;
}

static struct memory print_memory(unsigned long cycle)
{
	struct memory memory = { .buffers = 0 };

	buffers_walk(add_buffer, &memory);
	printf("after %lu cycles: %zu buffers, %zu bytes, %zu in use\n", cycle, memory.buffers,
	       memory.bytes, memory.used);
	return memory;
}

int main(int argc, char **argv)
{
	unsigned long cycles = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
	struct function function = find_function();
	struct memory first, last;

	make_writable(&function);
	hook_and_unhook(&function);
	first = print_memory(1);
	for (unsigned long i = 1; i < cycles; i++)
		hook_and_unhook(&function);
	last = print_memory(cycles);
	if (last.bytes != first.bytes || last.used != first.used)
		errx(1, "the memory has grown");
	puts("memory stays flat");
	return 0;
}
