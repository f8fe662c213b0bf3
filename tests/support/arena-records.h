/* SPDX-License-Identifier: MIT */
/*
 * arena-records.h: records that many processes append to an arena, and checks of them
 *
 * A writer logs each record before it appends it, and logs the address once the append is
 * done.  After a writer was killed, other processes tell from the log which records it finished.
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
	uintptr_t address;	/* 0: not finished yet */
	uint32_t size;		/* 0: not begun yet */
	uint32_t writer;
	uint32_t kind;
	uint32_t reserved;
};

struct record_log {
	size_t capacity;		/* for records and functions; reserved room has more */
	size_t count;
	struct record_entry entries[];	/* the index is the record's sequence number */
};

/* is_shared: children that are forked later share the log; otherwise each gets a copy. */
struct record_log *record_log_new(size_t capacity, bool is_shared);
void record_log_clear(struct record_log *log);
bool record_log_is_full(const struct record_log *log);

/* A random size; small ones are more likely. */
size_t random_record_size(uint64_t *random);

/* Appends a record with its writer, size and checksum.  Returns NULL if there is no room. */
void *record_append(struct record_log *log, struct buffers_item *item, unsigned writer,
		    size_t size);

/*
 * record_append_code() appends a function that returns its sequence number modulo CODE_NUMBERS.
 * It returns NULL if there is no room, and on processors that code.h does not know.  With its
 * alignment the function takes up to RECORD_CODE_MAX bytes.  record_call() calls it and compares
 * the number.
 */
enum { RECORD_CODE_MAX = 8 + 3 };
bool record_has_code(void);
void *record_append_code(struct record_log *log, struct buffers_item *item, unsigned writer);
bool record_call(const struct record_log *log, size_t sequence);

/* Reserves room and logs it. */
void *record_reserve(struct record_log *log, struct buffers_item *item, unsigned writer,
		     size_t size);

/* Reserves all remaining room.  Returns false unless two requests in a row end with ENOSPC. */
bool record_fill_up(struct record_log *log, struct buffers_arena *arena);

/* Returns NULL if all finished records are intact and do not overlap, else a description. */
const char *record_check(const struct record_log *log);

/*
 * Like record_check(), for a window that is full: each byte must belong to an intact record.
 * Writers may have been killed after they appended a record and before they logged its address.
 * Such records count as intact; *unfinished is their number.
 */
const char *record_check_all(const struct record_log *log, const struct buffers_request *window,
			     unsigned *unfinished);

/*
 * arena_flags() returns the flags of the arena with this number.  Numbers from ARENA_SHARED on
 * have FORK_SHARED.  arena_kinds() is the end of the usable numbers: ARENA_SHARED where the system
 * cannot share arenas, else ARENA_KINDS.
 */
enum { ARENA_KINDS = 8, ARENA_SHARED = 4 };
unsigned arena_flags(int number);

/* Whether the process has the address space for an arena; a view takes as much again. */
bool arena_fits(unsigned flags, size_t size);
int arena_kinds(void);
bool can_share_arenas(void);

/* Whole pages that are free at the moment, as a window for a request of exactly that size. */
struct buffers_request exact_window(size_t size);

/* Whether nothing is mapped in the window. */
bool is_window_free(const struct buffers_request *window);

#if CAN_FORK
/* Forks a child.  It exits with 0 if the body returns 0; otherwise it prints the line. */
pid_t fork_body(int (*body)(void *context), void *context);
#endif

#endif
