/* SPDX-License-Identifier: MIT */
/* ownership.c: a record of the bytes that the library handed out */

#include "config.h"
#include "support/ownership.h"
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

void ownership_fill(struct ownership *ownership, void *start, size_t size, unsigned char fill)
{
	*ownership = (struct ownership){ start, size, fill };
	memset(start, fill, size);
}

static int by_start(const void *a, const void *b)
{
	const struct ownership *one = a;
	const struct ownership *two = b;

	return (one->start > two->start) - (one->start < two->start);
}

static bool is_intact(const struct ownership *ownership)
{
	for (size_t i = 0; i < ownership->size; i++)
		if (ownership->start[i] != ownership->fill)
			return false;
	return true;
}

void check_ownership(struct ownership *ranges, size_t count)
{
	qsort(ranges, count, sizeof(*ranges), by_start);
	for (size_t i = 0; i < count; i++) {
		if (i)
			ck_assert_msg(ranges[i].start >=
				      ranges[i - 1].start + ranges[i - 1].size,
				      "bytes at %p belong to two ranges",
				      (void *)ranges[i].start);
		ck_assert_msg(is_intact(&ranges[i]), "bytes at %p were overwritten",
			      (void *)ranges[i].start);
	}
}
