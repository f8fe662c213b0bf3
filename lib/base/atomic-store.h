/* SPDX-License-Identifier: MIT */
/* atomic-store.h: writes memory that threads may execute at the same time */
#ifndef BUFFERS_ATOMIC_STORE_H
#define BUFFERS_ATOMIC_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#pragma GCC visibility push(hidden)

/*
 * Keeps the loads before it before the stores after it.  Without it a compiler, which does not know
 * that two addresses can have the same bytes, may copy again from the source instead of from a copy.
 */
static inline void buffers_compiler_barrier(void)
{
	__asm__ volatile("" : : : "memory");
}

/* Whether a write of this size at this address must be one store. */
static inline bool buffers_is_atomic_size(uintptr_t address, size_t size)
{
	return (size == 4 || (size == 8 && __atomic_always_lock_free(8, 0))) &&
	       (address & (size - 1)) == 0;
}

/* i386 aligns a plain 64-bit integer to 4 bytes, and clang then calls libatomic. */
typedef uint64_t buffers_aligned_uint64 __attribute__((aligned(8)));

/* Copies like memmove(), with a single store where buffers_is_atomic_size() says so. */
static inline void buffers_atomic_store(void *destination, const void *bytes, size_t size)
{
	uint64_t eight;
	uint32_t four;

	if (!buffers_is_atomic_size((uintptr_t)destination, size)) {
		memmove(destination, bytes, size);
	} else if (size == 8) {
		memcpy(&eight, bytes, size);
		__atomic_store_n((buffers_aligned_uint64 *)destination, eight, __ATOMIC_RELEASE);
	} else {
		memcpy(&four, bytes, size);
		__atomic_store_n((uint32_t *)destination, four, __ATOMIC_RELEASE);
	}
}

/* Whether the bytes begin below the destination and reach into it: copy from the end then. */
static inline bool buffers_must_copy_backward(uintptr_t address, const void *bytes, size_t size)
{
	uintptr_t from = (uintptr_t)bytes;

	return from < address && address - from < size;
}

/* Copies in pieces, each through memory of its own. */
__attribute__((cold))
void buffers_copy_overlapping(char *alias, uintptr_t address, const char *bytes, size_t size);

/*
 * The same as buffers_atomic_store(), through `alias`, another mapping of the memory at
 * `address`.  The bytes may overlap the memory at either address: memmove() compares addresses,
 * and would miss an overlap through the alias.
 */
static inline void buffers_copy_through_alias(char *alias, uintptr_t address, const char *bytes,
					      size_t size)
{
	uintptr_t from = (uintptr_t)bytes;

	if (from - address >= size && address - from >= size)
		buffers_atomic_store(alias, bytes, size);
	else
		buffers_copy_overlapping(alias, address, bytes, size);
}

#pragma GCC visibility pop

#endif
