/* SPDX-License-Identifier: MIT */
/* record.c: who was given which bytes, kept apart from the library */

#include "config.h"
#include "support/ownership.h"
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

void ownership_fill(struct ownership *record, void *start, size_t size, unsigned char fill)
{
	*record = (struct ownership){ start, size, fill };
	memset(start, fill, size);
}

static int by_start(const void *a, const void *b)
{
	const struct ownership *one = a;
	const struct ownership *two = b;

	return (one->start > two->start) - (one->start < two->start);
}

static bool is_intact(const struct ownership *record)
{
	for (size_t i = 0; i < record->size; i++)
		if (record->start[i] != record->fill)
			return false;
	return true;
}

void check_ownership(struct ownership *records, size_t count)
{
	qsort(records, count, sizeof(*records), by_start);
	for (size_t i = 0; i < count; i++) {
		if (i)
			ck_assert_msg(records[i].start >=
				      records[i - 1].start + records[i - 1].size,
				      "bytes at %p were handed out twice",
				      (void *)records[i].start);
		ck_assert_msg(is_intact(&records[i]), "bytes at %p were overwritten",
			      (void *)records[i].start);
	}
}
