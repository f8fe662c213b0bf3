/* SPDX-License-Identifier: MIT */
/*
 * ledger.h: what many writers appended to buffers, and who holds which item
 *
 * Writers append entries only, so a buffer is entries from its first byte to
 * the last one used.  Reading them back shows whether one was lost, came twice,
 * was torn or written over.
 */
#ifndef TESTS_LEDGER_H
#define TESTS_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ENTRY_MAX = 256 };	/* bytes of an entry */

struct ledger {
	unsigned writers;
	unsigned numbers;	/* an entry's number is below this */
	unsigned char *seen;	/* how often, for each writer and number */
};

struct ledger ledger_new(unsigned writers, unsigned numbers);

/* Makes an entry of random length and contents, and returns its size. */
size_t entry_make(unsigned char bytes[ENTRY_MAX], unsigned writer, unsigned number,
		  uint64_t *random);

/* Reads what was used of a buffer.  Returns NULL, or what is wrong with it. */
const char *ledger_read(struct ledger *ledger, const void *base, size_t used);

/* Whether each of the writer's entries, which number `written`, was read once. */
bool ledger_has(const struct ledger *ledger, unsigned writer, unsigned written);

/*
 * A table of holders that knows nothing of the library's locks.  Both are false
 * when somebody else holds the item.
 */
bool mark_held(const void *item, unsigned holder);
bool mark_released(const void *item, unsigned holder);

#endif
