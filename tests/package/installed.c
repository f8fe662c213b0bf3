/* SPDX-License-Identifier: MIT */
/*
 * installed.c: a user's program, written from the manual pages alone
 *
 * C99 and C++.  Exits with 0 if the library does what the pages say.
 */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <reloaded/buffers.h>

#include "support/code.h"

static int failures;

static void check(int holds, const char *fact)
{
	printf("%s - %s\n", holds ? "ok" : "not ok", fact);
	failures += !holds;
}

static int function(int x)
{
	return x + 1;
}

static const void *address_of_function(void)
{
	return (const void *)(uintptr_t)function;
}

static void patch_fourth_byte(void *bytes, size_t size, void *context)
{
	if (size > 3)
		((unsigned char *)bytes)[3] = *(unsigned char *)context;
}

static int is_within(const void *address, const void *target, uintptr_t reach)
{
	uintptr_t a = (uintptr_t)address, b = (uintptr_t)target;

	return (a < b ? b - a : a - b) <= reach;
}

/* On a processor that code.h does not support, the bytes are data and are not executed. */
static void execute(struct buffers_item *item)
{
	struct code code = code_of(42), more = code_of(43);
	void *copy = buffers_append_code(item, code.bytes, sizeof(code.bytes));

	check(copy && call_code(copy) == 42, "appended code is called");
	check(copy && buffers_overwrite(copy, more.bytes, sizeof(more.bytes)) == 0 &&
	      call_code(copy) == 43, "overwritten code is called");
}

static void use_buffer(void)
{
	const void *target = address_of_function();
	struct buffers_item *item = buffers_get_near(target, 100);
	size_t remaining;
	void *next, *text, *space;
	unsigned char letter = 'E';

	check(item != NULL, "a buffer is near a function");
	if (!item)
		return;
	execute(item);
	next = buffers_next(item);
	remaining = buffers_remaining(item);
	text = buffers_append(item, "a text", 7);
	check(text != NULL && text == next, "an append lands where buffers_next() points");
	check(buffers_remaining(item) + 7 == remaining, "an append takes the size of its data");
	check(text != NULL && is_within(text, target, BUFFERS_REACH_BRANCH),
	      "the text is within reach of a branch");
	check(text != NULL &&
	      buffers_overwrite_with(text, 7, patch_fourth_byte, &letter) == 0 &&
	      strcmp((const char *)text, "a tExt") == 0, "a function overwrites the text");
	space = buffers_reserve(item, 64, 64);
	check(space != NULL && (uintptr_t)space % 64 == 0, "reserved space is aligned");
	errno = 0;
	check(buffers_reserve(item, buffers_size(item), 1) == NULL && errno == ENOSPC,
	      "more space than the buffer has is ENOSPC");
	buffers_release(item);
}

static int count_buffer(const struct buffers_info *info, void *context)
{
	*(size_t *)context += info->size >= info->used;
	return 0;
}

static void walk(void)
{
	size_t count = 0;

	check(buffers_walk(count_buffer, &count) == 0 && count > 0, "buffers are visited");
}

static void map_alone(void)
{
	struct buffers_request request =
		buffers_request_near(address_of_function(), BUFFERS_REACH_BRANCH, 10000);
	size_t size;
	void *memory;

	request.flags = BUFFERS_RW;
	memory = buffers_alloc(&request, &size);
	check(memory != NULL && size >= 10000, "memory is allocated");
	if (memory != NULL) {
		memset(memory, 1, size);
		check(buffers_free(memory, size) == 0, "memory is freed");
	}
	request.size = 0;
	errno = 0;
	memory = buffers_alloc(&request, &size);
	check(memory == NULL && errno == EINVAL, "an allocation of 0 bytes is EINVAL");
}

/* Windows cannot fork, so it has no arenas that forked children share. */
#ifdef _WIN32
# define SHARED 0
#else
# define SHARED BUFFERS_ARENA_FORK_SHARED
#endif

static void use_arena(void)
{
	struct buffers_request window =
		buffers_request_near(address_of_function(), BUFFERS_REACH_BRANCH, 1 << 20);
	struct buffers_arena *arena = buffers_arena_create(&window, SHARED);
	struct buffers_item *item;

	check(arena != NULL, "an arena is made");
	if (!arena)
		return;
	item = buffers_arena_get(arena, 100, 16);
	check(item != NULL && buffers_append(item, "x", 1) == buffers_base(item),
	      "an arena has an item");
	buffers_release(item);
	check(buffers_arena_destroy(arena) == 0, "an arena is destroyed");
}

int main(void)
{
	use_buffer();
	walk();
	map_alone();
	use_arena();
	return failures != 0;
}
