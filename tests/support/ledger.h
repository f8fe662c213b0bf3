/* SPDX-License-Identifier: MIT */
/*
 * ledger.h: entries that many writers append to buffers, and the holder of each item
 *
 * Writers append only entries.  A buffer therefore consists of entries, up to its last used byte.
 * Reading them back finds entries that are lost, duplicated, torn or overwritten.
 */
#ifndef TESTS_LEDGER_H
#define TESTS_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ENTRY_MAX = 256 };	/* bytes of an entry */

struct ledger {
	unsigned writers;
	unsigned numbers;	/* an entry's number is less than this */
	unsigned char *seen;	/* count of each entry, by writer and number */
};

struct ledger ledger_new(unsigned writers, unsigned numbers);

/* Makes an entry of random length and content.  Returns its size. */
size_t entry_make(unsigned char bytes[ENTRY_MAX], unsigned writer, unsigned number,
		  uint64_t *random);

/* Reads the used bytes of a buffer.  Returns NULL, or a description of the fault. */
const char *ledger_read(struct ledger *ledger, const void *base, size_t used);

/* Whether each of the writer's first `written` entries was read exactly once, and no other. */
bool ledger_has(const struct ledger *ledger, unsigned writer, unsigned written);

/*
 * A table of holders that is independent of the library's locks.  mark_held() returns false if
 * another holder has the item, and mark_released() if the caller did not hold it.
 */
bool mark_held(const void *item, unsigned holder);
bool mark_released(const void *item, unsigned holder);

#endif
