/* SPDX-License-Identifier: MIT */
/* atomic-store.c: the part of atomic-store.h that is too large for a header */

#include "config.h"
#include "base/atomic-store.h"

void buffers_copy_overlapping(char *alias, uintptr_t address, const char *bytes, size_t size)
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
		buffers_compiler_barrier();
		buffers_atomic_store(alias + at, copy, piece);
	}
}
