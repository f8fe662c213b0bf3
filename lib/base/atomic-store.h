/* SPDX-License-Identifier: MIT */
/*
 * store.h: bytes that threads may be executing while they change
 */
#ifndef BUFFERS_ATOMIC_STORE_H
#define BUFFERS_ATOMIC_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Whether so many bytes there are to change as a whole. */
static inline bool buffers_is_atomic_size(uintptr_t address, size_t size)
{
	return (size == 4 || (size == 8 && __atomic_always_lock_free(8, 0))) &&
	       (address & (size - 1)) == 0;
}

/* Alone, an integer of 64 bits is aligned to 4 on i386, and clang calls a function for it. */
typedef uint64_t buffers_aligned_uint64 __attribute__((aligned(8)));

/* One store if it can be. */
static inline void buffers_atomic_store(void *to, const void *bytes, size_t size)
{
	uint64_t eight;
	uint32_t four;

	if (!buffers_is_atomic_size((uintptr_t)to, size)) {
		memmove(to, bytes, size);
	} else if (size == 8) {
		memcpy(&eight, bytes, size);
		__atomic_store_n((buffers_aligned_uint64 *)to, eight, __ATOMIC_RELEASE);
	} else {
		memcpy(&four, bytes, size);
		__atomic_store_n((uint32_t *)to, four, __ATOMIC_RELEASE);
	}
}

/* Bytes that lie before the place and reach into it are to be read before they change. */
static inline bool buffers_must_copy_backward(uintptr_t address, const void *bytes, size_t size)
{
	uintptr_t from = (uintptr_t)bytes;

	return from < address && address - from < size;
}

/*
 * The same, by another mapping of the memory at that address: memmove() would not see what
 * overlaps.
 */
static inline void buffers_copy_through_alias(char *to, uintptr_t address, const char *bytes,
					size_t size)
{
	bool is_backward = buffers_must_copy_backward(address, bytes, size);
	char copy[4096];
	size_t piece;

	for (size_t done = 0; done < size; done += piece) {
		size_t left = size - done;
		size_t at = done;

		piece = left < sizeof(copy) ? left : sizeof(copy);
		if (is_backward)
			at = left - piece;
		memcpy(copy, bytes + at, piece);
		buffers_atomic_store(to + at, copy, piece);
	}
}

#endif
