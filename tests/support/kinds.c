/* SPDX-License-Identifier: MIT */
/* kinds.c: the kinds of memory, and helpers for the tests of each kind */

#include "config.h"
#include "support/kinds.h"

#include <errno.h>
#include <stdlib.h>

const struct kind kinds[KINDS] = {
	{ 0, 0, "rwxp", "" },
	{ BUFFERS_RW, BUFFERS_RW, "rw-p", ".RW" },
	{ BUFFERS_RX, BUFFERS_RX, "r-xp", ".RX" },
};

const struct kind *kind_of(int view)
{
	return &kinds[view % KINDS];
}

struct buffers_item *get_kind(const struct kind *kind, size_t size)
{
	struct buffers_request request = { .size = size, .flags = kind->flags };
	struct buffers_item *item;

	errno = 1234;
	item = buffers_get(&request);
	ck_assert_int_eq(errno, 1234);
	ck_assert_ptr_nonnull(item);
	return item;
}

unsigned char *make_memory(const struct kind *kind, size_t size, bool is_dedicated)
{
	struct buffers_request request = { .size = size, .alignment = 4096, .flags = kind->flags };
	size_t allocated;
	unsigned char *memory = is_dedicated ? buffers_alloc(&request, &allocated) :
				buffers_reserve(get_kind(kind, size + 4096), size, 4096);

	ck_assert_ptr_nonnull(memory);
	return memory;
}

void fill_pattern(unsigned char *bytes, size_t size, unsigned number)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(i * 7 + (i >> 8) * 13 + number * 29 + 1);
}

unsigned char *new_pattern(size_t size, unsigned number)
{
	unsigned char *bytes = malloc(size);

	ck_assert_ptr_nonnull(bytes);
	fill_pattern(bytes, size, number);
	return bytes;
}
