/* SPDX-License-Identifier: MIT */
/* arena-records.c: records that many processes append to an arena, and checks of them */

#include "config.h"
#include "support/arena-records.h"
#include "support/code.h"
#include "support/support.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#if CAN_FORK
# include <unistd.h>
#endif

struct header {
	uint32_t sequence, writer, size;
	uint32_t sum;		/* hash of the other fields; seed of the bytes that follow */
};
_Static_assert(sizeof(struct header) == RECORD_MIN, "the smallest record is a header");

/* Additional entries.  They record reserved room after the log is full of records. */
enum { SPARE = 100000 };

struct record_log *record_log_new(size_t capacity, bool is_shared)
{
	size_t size = sizeof(struct record_log) + (capacity + SPARE) * sizeof(struct record_entry);
	struct record_log *log = map_memory(size, is_shared);

	log->capacity = capacity;
	return log;
}

static size_t count_begun(const struct record_log *log)
{
	return __atomic_load_n(&log->count, __ATOMIC_RELAXED);
}

bool record_log_is_full(const struct record_log *log)
{
	return count_begun(log) >= log->capacity;
}

/* count also includes attempts that found the log full. */
static size_t count_entries(const struct record_log *log)
{
	size_t count = count_begun(log);

	return count < log->capacity + SPARE ? count : log->capacity + SPARE;
}

void record_log_clear(struct record_log *log)
{
	memset(log->entries, 0, count_entries(log) * sizeof(log->entries[0]));
	log->count = 0;
}

size_t random_record_size(uint64_t *random)
{
	size_t max = random_below(random, 50) ? 200 : RECORD_MAX - RECORD_MIN;

	return RECORD_MIN + random_below(random, max + 1);
}

static uint32_t sum_of(const struct header *header)
{
	uint64_t mix = ((uint64_t)header->sequence << 32 | header->writer) + header->size;

	return (uint32_t)next_random(&mix);
}

static void make_bytes(unsigned char *bytes, uint32_t sequence, const struct record_entry *entry)
{
	struct header header = { sequence, entry->writer, entry->size, 0 };
	uint64_t random;

	header.sum = sum_of(&header);
	random = header.sum;
	memcpy(bytes, &header, sizeof(header));
	for (size_t at = sizeof(header); at < entry->size; at += sizeof(uint64_t)) {
		uint64_t word = next_random(&random);
		size_t left = entry->size - at;

		memcpy(bytes + at, &word, left < sizeof(word) ? left : sizeof(word));
	}
}

static struct code make_code(uint32_t sequence)
{
	return code_of(sequence % CODE_NUMBERS);
}

bool record_has_code(void)
{
#ifdef HAVE_CODE
	return true;
#else
	return false;
#endif
}

/* Returns NULL if the log is full. */
static struct record_entry *begin_entry(struct record_log *log, enum record_kind kind,
					unsigned writer, size_t size)
{
	size_t limit = log->capacity + (kind == RECORD_ROOM ? SPARE : 0);
	struct record_entry *entry;
	size_t sequence;

	if (count_begun(log) >= limit)
		return NULL;
	sequence = __atomic_fetch_add(&log->count, 1, __ATOMIC_RELAXED);
	if (sequence >= limit)
		return NULL;
	entry = &log->entries[sequence];
	entry->writer = writer;
	entry->kind = kind;
	__atomic_store_n(&entry->size, (uint32_t)size, __ATOMIC_RELEASE);
	return entry;
}

static void *finish_entry(struct record_entry *entry, void *address)
{
	if (address)
		__atomic_store_n(&entry->address, (uintptr_t)address, __ATOMIC_RELEASE);
	else
		__atomic_store_n(&entry->size, 0, __ATOMIC_RELEASE);
	return address;
}

void *record_append(struct record_log *log, struct buffers_item *item, unsigned writer,
		    size_t size)
{
	struct record_entry *entry = begin_entry(log, RECORD_BYTES, writer, size);
	unsigned char bytes[RECORD_MAX];

	if (!entry)
		return NULL;
	make_bytes(bytes, (uint32_t)(entry - log->entries), entry);
	return finish_entry(entry, buffers_append(item, bytes, size));
}

void *record_append_code(struct record_log *log, struct buffers_item *item, unsigned writer)
{
	uintptr_t next = (uintptr_t)buffers_next(item);
	size_t padding = -next % CODE_ALIGNMENT;
	struct record_entry *entry;
	struct code code;

	if (padding && !record_reserve(log, item, writer, padding))
		return NULL;
	entry = begin_entry(log, RECORD_CODE, writer, CODE_MIN_SIZE);
	if (!entry)
		return NULL;
	code = make_code((uint32_t)(entry - log->entries));
	return finish_entry(entry, !record_has_code() ? NULL :
			    buffers_append_code(item, code.bytes, CODE_MIN_SIZE));
}

void *record_reserve(struct record_log *log, struct buffers_item *item, unsigned writer,
		     size_t size)
{
	struct record_entry *entry = begin_entry(log, RECORD_ROOM, writer, size);

	return entry ? finish_entry(entry, buffers_reserve(item, size, 1)) : NULL;
}

static uintptr_t address_of(const struct record_entry *entry)
{
	return __atomic_load_n(&entry->address, __ATOMIC_ACQUIRE);
}

bool record_call(const struct record_log *log, size_t sequence)
{
	uintptr_t address = address_of(&log->entries[sequence]);

	if (!record_has_code() || log->entries[sequence].kind != RECORD_CODE || !address)
		return false;
	return call_code((const void *)address) == sequence % CODE_NUMBERS;
}

static bool reserve_all_by(struct record_log *log, struct buffers_arena *arena, size_t size)
{
	struct buffers_item *item;

	while ((item = buffers_arena_get(arena, size, 1))) {
		bool is_recorded = record_reserve(log, item, UINT32_MAX, buffers_remaining(item));

		buffers_release(item);
		if (!is_recorded)
			return false;
	}
	return errno == ENOSPC;
}

/*
 * Starts with large requests: filling a large window with single bytes would need too many
 * items.
 */
bool record_fill_up(struct record_log *log, struct buffers_arena *arena)
{
	for (size_t size = (size_t)1 << 30; size; size >>= 10)
		if (!reserve_all_by(log, arena, size))
			return false;
	errno = 0;
	return !buffers_arena_get(arena, 1, 0) && errno == ENOSPC;
}

/*
 * Checking the records
 */

static bool is_intact(const struct record_log *log, const struct record_entry *entry,
		      uintptr_t address)
{
	uint32_t sequence = (uint32_t)(entry - log->entries);
	unsigned char bytes[RECORD_MAX];
	struct code code;

	if (entry->kind == RECORD_ROOM)
		return true;
	if (entry->kind == RECORD_CODE) {
		code = make_code(sequence);
		return memcmp((const void *)address, code.bytes, entry->size) == 0;
	}
	make_bytes(bytes, sequence, entry);
	return memcmp((const void *)address, bytes, entry->size) == 0;
}

static int by_address(const void *a, const void *b)
{
	uintptr_t one = address_of(*(struct record_entry *const *)a);
	uintptr_t two = address_of(*(struct record_entry *const *)b);

	return (one > two) - (one < two);
}

/* Lists the finished entries, ordered by address. */
static const struct record_entry **list_finished(const struct record_log *log, size_t *count)
{
	size_t total = count_entries(log);
	const struct record_entry **list = malloc((total + 1) * sizeof(*list));

	ck_assert_ptr_nonnull(list);
	*count = 0;
	for (size_t i = 0; i < total; i++)
		if (address_of(&log->entries[i]))
			list[(*count)++] = &log->entries[i];
	qsort(list, *count, sizeof(*list), by_address);
	return list;
}

__attribute__((__format__(__printf__, 1, 2)))
static const char *describe_fault(const char *format, ...)
{
	static char text[200];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	fprintf(stderr, "%s\n", text);
	return text;
}

static const char *check_list(const struct record_log *log, const struct record_entry **list,
			      size_t count)
{
	uintptr_t end = 0;

	for (size_t i = 0; i < count; i++) {
		uintptr_t address = address_of(list[i]);

		if (address < end)
			return describe_fault("record %td of writer %u overlaps another",
					      list[i] - log->entries, list[i]->writer);
		if (!is_intact(log, list[i], address))
			return describe_fault("record %td of writer %u is not intact",
					      list[i] - log->entries, list[i]->writer);
		end = address + list[i]->size;
	}
	return NULL;
}

const char *record_check(const struct record_log *log)
{
	size_t count;
	const struct record_entry **list = list_finished(log, &count);
	const char *error = check_list(log, list, count);

	free(list);
	return error;
}

static bool is_unfinished(const struct record_log *log, uint32_t sequence, enum record_kind kind,
			  uintptr_t address, size_t room)
{
	const struct record_entry *entry;

	if (sequence >= count_entries(log))
		return false;
	entry = &log->entries[sequence];
	return entry->kind == (uint32_t)kind && entry->size && entry->size <= room &&
	       !entry->address && is_intact(log, entry, address);
}

/*
 * The size of an intact record at this address whose writer was killed before it logged the
 * address; 0 if there is none.
 */
static size_t unfinished_size(const struct record_log *log, uintptr_t address, size_t room)
{
	const unsigned char *bytes = (const unsigned char *)address;
	uint32_t sequence;

	if (room >= CODE_MIN_SIZE) {
		sequence = read_code(bytes);
		for (; sequence < count_entries(log); sequence += CODE_NUMBERS)
			if (is_unfinished(log, sequence, RECORD_CODE, address, room))
				return CODE_MIN_SIZE;
	}
	if (room >= sizeof(struct header)) {
		memcpy(&sequence, bytes, sizeof(sequence));
		if (is_unfinished(log, sequence, RECORD_BYTES, address, room))
			return log->entries[sequence].size;
	}
	return 0;
}

static const char *check_gap(const struct record_log *log, uintptr_t start, uintptr_t end,
			     unsigned *unfinished)
{
	while (start < end) {
		size_t size = unfinished_size(log, start, end - start);

		if (!size)
			return describe_fault("%zu bytes at %#zx belong to no record",
					      (size_t)(end - start), (size_t)start);
		start += size;
		++*unfinished;
	}
	return NULL;
}

static const char *check_gaps(const struct record_log *log, const struct record_entry **list,
			      size_t count, const struct buffers_request *window,
			      unsigned *unfinished)
{
	uintptr_t end = window->min_address;

	for (size_t i = 0; i < count; i++) {
		const char *error = check_gap(log, end, address_of(list[i]), unfinished);

		if (error)
			return error;
		end = address_of(list[i]) + list[i]->size;
	}
	if (end > window->max_address)
		return describe_fault("a record lies above the window");
	return check_gap(log, end, window->max_address, unfinished);
}

const char *record_check_all(const struct record_log *log, const struct buffers_request *window,
			     unsigned *unfinished)
{
	size_t count;
	const struct record_entry **list = list_finished(log, &count);
	const char *error = check_list(log, list, count);

	*unfinished = 0;
	if (!error && count && address_of(list[0]) < window->min_address)
		error = describe_fault("a record lies below the window");
	if (!error)
		error = check_gaps(log, list, count, window, unfinished);
	free(list);
	return error;
}

/*
 * Arenas and children
 */

/* Tries once, and prints the reason if the answer is no. */
static bool try_once(bool (*can)(void), int *answer, const char *reason)
{
	if (*answer < 0) {
		*answer = can();
		if (!*answer)
			printf("padding: %s\n", reason);
	}
	return *answer;
}

bool can_share_arenas(void)
{
	static int answer = -1;

	return CAN_FORK && try_once(has_robust_locks, &answer, NO_ROBUST_LOCKS);
}

/* Shared memory of BUFFERS_RX can be written only through a second mapping. */
static bool can_write_shared_rx(void)
{
	static int answer = -1;

	return try_once(can_map_twice, &answer,
			"shared arenas of BUFFERS_RX: memory cannot be mapped a second time");
}

int arena_kinds(void)
{
	return can_share_arenas() ? ARENA_KINDS : ARENA_SHARED;
}

bool arena_fits(unsigned flags, size_t size)
{
	return has_address_space(flags & BUFFERS_VIEW ? 2 * size : size);
}

unsigned arena_flags(int number)
{
	static const unsigned kinds[ARENA_SHARED] = {
		0, BUFFERS_RX, BUFFERS_RW, BUFFERS_RX | BUFFERS_VIEW,
	};
	unsigned flags = kinds[number % ARENA_SHARED];

	if ((flags & BUFFERS_VIEW) && !can_map_twice())
		flags = BUFFERS_RX;
	if (number >= ARENA_SHARED && !can_share_arenas())
		return flags;
	if (number >= ARENA_SHARED)
		flags |= BUFFERS_ARENA_FORK_SHARED;
	if (flags == (BUFFERS_RX | BUFFERS_ARENA_FORK_SHARED) && !can_write_shared_rx())
		flags &= ~BUFFERS_RX;
	return flags;
}

struct buffers_request exact_window(size_t size)
{
	size_t pages = (size + granularity() - 1) & ~(granularity() - 1);
	void *start = reserve(secluded_address(), pages);

	unreserve(start, pages);
	return (struct buffers_request){
		.min_address = (uintptr_t)start,
		.max_address = (uintptr_t)start + pages,
		.size = size,
	};
}

bool is_window_free(const struct buffers_request *window)
{
	return is_free_candidate(window->min_address, window->max_address - window->min_address);
}

#if CAN_FORK
pid_t fork_body(int (*body)(void *context), void *context)
{
	pid_t child;
	int line;

	fflush(NULL);
	child = fork();
	if (child == 0) {
		line = body(context);
		if (line)
			fprintf(stderr, "child: step in line %d failed\n", line);
		exit(line != 0);
	}
	return child;
}
#endif
