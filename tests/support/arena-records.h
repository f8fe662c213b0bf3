/* SPDX-License-Identifier: MIT */
/*
 * arena-records.h: what many processes append to an arena, and what is there in the end
 *
 * A writer notes in a log what it is about to append, and where it came to lie
 * once that is done.  So after it was killed others can tell what it finished
 * from what it did not.
 */
#ifndef TESTS_ARENA_RECORDS_H
#define TESTS_ARENA_RECORDS_H

#include "reloaded/buffers.h"
#include "support/support.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RECORD_MIN = 16, RECORD_MAX = 8192 };	/* bytes of a record */

enum record_kind { RECORD_BYTES, RECORD_CODE, RECORD_ROOM };

struct record_entry {
	uintptr_t address;	/* 0: not finished */
	uint32_t size;		/* 0: nothing was begun */
	uint32_t writer;
	uint32_t kind;
	uint32_t reserved;
};

struct record_log {
	size_t capacity;		/* records and functions; for reserved room there is more */
	size_t count;
	struct record_entry entries[];	/* a record's sequence number is its place here */
};

/* Children share it, or get a copy. */
struct record_log *record_log_new(size_t most, bool is_shared);
void record_log_clear(struct record_log *log);
bool record_log_is_full(const struct record_log *log);

/* Mostly short. */
size_t random_record_size(uint64_t *random);

/* A record that says whose it is, how long, and what its bytes must be.  NULL: no room. */
void *record_append(struct record_log *log, struct buffers_item *item, unsigned writer,
		    size_t size);

/*
 * A function that returns its sequence number, as far as code.h can; NULL also where the
 * tests know no code for this machine.  It takes up to RECORD_CODE_MAX bytes, for it is
 * aligned.  record_call() calls one that is in a log.
 */
enum { RECORD_CODE_MAX = 8 + 3 };
bool record_has_code(void);
void *record_append_code(struct record_log *log, struct buffers_item *item, unsigned writer);
bool record_call(const struct record_log *log, size_t sequence);

/* Reserves room and notes that. */
void *record_reserve(struct record_log *log, struct buffers_item *item, unsigned writer,
		     size_t size);

/* Reserves all that is left; false: it did not end with ENOSPC, and with that again. */
bool record_fill_up(struct record_log *log, struct buffers_arena *arena);

/* NULL when all that was finished is whole and nothing overlaps, else what is wrong. */
const char *record_check(const struct record_log *log);

/*
 * The same for a window that is used up: no byte of it is lost but in records that
 * are whole, too, though who appended them did not live to note that; those are
 * counted.
 */
const char *record_check_all(const struct record_log *log, const struct buffers_request *window,
			     unsigned *unfinished);

/*
 * The flags that an arena can have, by number; those below 4 without FORK_SHARED, which
 * is left out where the system cannot do it.  How many numbers there are then.
 */
enum { ARENA_KINDS = 6, ARENA_SHARED = 3 };
unsigned arena_flags(int number);
int arena_kinds(void);
bool can_share_arenas(void);

/* A range that is free and just as large as its window, in whole pages. */
struct buffers_request exact_window(size_t size);

/* Whether nothing is mapped between its addresses. */
bool is_window_free(const struct buffers_request *window);

#if CAN_FORK
/* A child that exits with 0 when the body returns 0, and else says the line. */
pid_t fork_body(int (*body)(void *context), void *context);
#endif

#endif
