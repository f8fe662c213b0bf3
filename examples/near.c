/* SPDX-License-Identifier: MIT */
/* near.c: puts code within a branch of main(), and calls it on x86 */

#include <stdint.h>
#include <stdio.h>

#include <reloaded/buffers.h>

static void *place_near(const void *function, const void *code, size_t size)
{
	struct buffers_item *item = buffers_get_near(function, size);
	void *copy = item ? buffers_append_code(item, code, size) : NULL;

	buffers_release(item);
	return copy;
}

int main(void)
{
	/* x86: mov $42, %eax; ret */
	static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
	const void *function = (const void *)(uintptr_t)main;
	void *copy = place_near(function, code, sizeof(code));

	if (!copy) {
		perror("near");
		return 1;
	}
	printf("main() at %p, the code at %p\n", function, copy);
#if defined(__x86_64__) || defined(__i386__)
	printf("it returns %d\n", ((int (*)(void))(uintptr_t)copy)());
#endif
	return 0;
}
