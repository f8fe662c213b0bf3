/* SPDX-License-Identifier: MIT */
/*
 * tcc-near.c: compiles C at run time, with libtcc, to code near this program
 *
 * usage: tcc-near [default | buffers] [NUMBER]
 *
 * Compiles that many programs, which call printf(3), runs the last one, and prints the number
 * of mappings.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libtcc.h>
#include <reloaded/buffers.h>

/* libtcc writes the code where it will run, so the memory is RWX.  -1: an error */
static int relocate_near(TCCState *state, const void *target)
{
	int size = tcc_relocate(state, NULL);
	struct buffers_request request =
		buffers_request_near(target, BUFFERS_REACH_BRANCH, size < 0 ? 0 : (size_t)size);
	struct buffers_item *item;
	void *code;
	request.alignment = 16;
	item = buffers_get(&request);
	if (!item)
		return -1;
	code = buffers_reserve(item, request.size, request.alignment);
	buffers_release(item);
	if (!code || tcc_relocate(state, code) == 0)
		return code ? 0 : -1;
	buffers_give_back(code, request.size);
	return -1;
}

static TCCState *compile(const char *source, int is_near)
{
	TCCState *state = tcc_new();
	const void *here = (const void *)(uintptr_t)compile;

	if (!state)
		return NULL;
	tcc_set_output_type(state, TCC_OUTPUT_MEMORY);
	if (tcc_compile_string(state, source) == 0 &&
	    (is_near ? relocate_near(state, here) : tcc_relocate(state, TCC_RELOCATE_AUTO)) == 0)
		return state;
	tcc_delete(state);
	return NULL;
}

static int mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	int count = 0;

	for (int c; maps && (c = getc(maps)) != EOF;)
		count += c == '\n';
	if (maps)
		fclose(maps);
	return count;
}

int main(int argc, char **argv)
{
	int is_near = argc < 2 || strcmp(argv[1], "default") != 0;
	int count = argc < 3 ? 300 : atoi(argv[2]), before = mappings();
	TCCState *state = NULL;

	for (int i = 0; i < count; i++)
		if (!(state = compile("int printf(const char *, ...);\n"
				      "int say(int n) { return printf(\"program %d\\n\", n); }", is_near)))
			return 1;
	if (!state || ((int (*)(int))(uintptr_t)tcc_get_symbol(state, "say"))(count) <= 0)
		return 1;
	printf("%d programs, %d mappings\n", count, mappings() - before);
	return 0;
}
