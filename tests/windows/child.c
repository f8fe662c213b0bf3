/* SPDX-License-Identifier: MIT */
/*
 * child.c: a process in which tests map memory
 *
 * It prints the address of one of its functions and the end of its address space.  Then
 * it answers lines: "call ADDRESS" with the result of the function at the address,
 * "read ADDRESS SIZE" with the bytes at the address, in hexadecimal.  It exits at the end
 * of its input, or at "end STATUS".
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

int near_function(void);

int near_function(void)
{
	return 1;
}

static unsigned call(unsigned long long address)
{
	unsigned (*function)(void);
	uintptr_t pointer = (uintptr_t)address;

	memcpy(&function, &pointer, sizeof(function));
	return function();
}

static void print_bytes(unsigned long long address, unsigned size)
{
	const unsigned char *bytes = (const unsigned char *)(uintptr_t)address;

	for (unsigned i = 0; i < size; i++)
		printf("%02x", bytes[i]);
	printf("\n");
}

int main(void)
{
	unsigned long long address;
	SYSTEM_INFO system;
	unsigned size;
	char line[128];

	setvbuf(stdout, NULL, _IONBF, 0);
	GetSystemInfo(&system);
	printf("%llx %llx\n", (unsigned long long)(uintptr_t)near_function,
	       (unsigned long long)(uintptr_t)system.lpMaximumApplicationAddress + 1);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "call %llx", &address) == 1)
			printf("%u\n", call(address));
		else if (sscanf(line, "read %llx %u", &address, &size) == 2)
			print_bytes(address, size);
		else if (sscanf(line, "end %u", &size) == 1)
			return (int)size;
	}
	return 0;
}
