/* SPDX-License-Identifier: MIT */
/* ledger.c: entries that many writers append to buffers, and the holder of each item */

#include "config.h"
#include "support/ledger.h"
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

struct entry {
	uint32_t size;		/* including this header */
	uint32_t writer;
	uint32_t number;
	uint32_t sum;		/* hash of the entry, with 0 in this field */
};

struct ledger ledger_new(unsigned writers, unsigned numbers)
{
	struct ledger ledger = { writers, numbers, calloc(writers, numbers) };

	ck_assert_ptr_nonnull(ledger.seen);
	return ledger;
}

/* FNV-1a */
static uint32_t sum_of(const unsigned char *bytes, size_t size)
{
	uint32_t sum = 2166136261u;

	for (size_t i = 0; i < size; i++)
		sum = (sum ^ bytes[i]) * 16777619u;
	return sum;
}

size_t entry_make(unsigned char bytes[ENTRY_MAX], unsigned writer, unsigned number,
		  uint64_t *random)
{
	struct entry entry = {
		.size = (uint32_t)sizeof(entry),
		.writer = writer,
		.number = number,
	};
	uint64_t fill = next_random(random);

	entry.size += (uint32_t)random_below(random, ENTRY_MAX - sizeof(entry));
	memset(bytes, (int)(fill & 0xff), entry.size);
	memcpy(bytes, &entry, sizeof(entry));
	entry.sum = sum_of(bytes, entry.size);
	memcpy(bytes, &entry, sizeof(entry));
	return entry.size;
}

static bool is_intact(const unsigned char *at, struct entry entry)
{
	unsigned char bytes[ENTRY_MAX];
	uint32_t sum = entry.sum;

	entry.sum = 0;
	memcpy(bytes, at, entry.size);
	memcpy(bytes, &entry, sizeof(entry));
	return sum_of(bytes, entry.size) == sum;
}

const char *ledger_read(struct ledger *ledger, const void *base, size_t used)
{
	const unsigned char *at = base;
	const unsigned char *end = at + used;
	struct entry entry;

	for (; at < end; at += entry.size) {
		if ((size_t)(end - at) < sizeof(entry))
			return "the buffer ends within an entry";
		memcpy(&entry, at, sizeof(entry));
		if (entry.size < sizeof(entry) || entry.size > ENTRY_MAX ||
		    entry.size > (size_t)(end - at))
			return "no entry begins at the end of the previous one";
		if (!is_intact(at, entry))
			return "an entry was overwritten";
		if (entry.writer >= ledger->writers || entry.number >= ledger->numbers)
			return "an entry has an unknown writer or number";
		if (ledger->seen[entry.writer * ledger->numbers + entry.number]++)
			return "an entry occurs twice";
	}
	return NULL;
}

bool ledger_has(const struct ledger *ledger, unsigned writer, unsigned written)
{
	const unsigned char *seen = ledger->seen + writer * ledger->numbers;

	for (unsigned i = 0; i < ledger->numbers; i++)
		if (seen[i] != (i < written))
			return false;
	return true;
}

enum { HOLDERS = 1 << 16 };

static struct holder {
	const void *item;
	unsigned number;
} holders[HOLDERS];

static struct holder *holder_of(const void *item)
{
	size_t i = (size_t)((uintptr_t)item / 4 * 2654435761u) % HOLDERS;

	for (;; i = (i + 1) % HOLDERS) {
		const void *there = NULL;

		if (__atomic_compare_exchange_n(&holders[i].item, &there, item, false,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED) ||
		    there == item)
			return &holders[i];
	}
}

bool mark_held(const void *item, unsigned holder)
{
	return __atomic_exchange_n(&holder_of(item)->number, holder + 1, __ATOMIC_RELAXED) == 0;
}

bool mark_released(const void *item, unsigned holder)
{
	return __atomic_exchange_n(&holder_of(item)->number, 0, __ATOMIC_RELAXED) == holder + 1;
}
