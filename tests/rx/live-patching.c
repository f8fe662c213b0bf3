/* SPDX-License-Identifier: MIT */
/* rx/live-patching.c: overwriting memory while threads execute or write it, or fork */

#include "config.h"
#include "support/kinds.h"
#include "support/code.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef HAVE_CODE
/*
 * Code
 */

START_TEST(appended_code_can_be_called_and_changed)
{
	struct buffers_item *item;
	uint32_t word = word_of_code(7);

	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(kind_of(_i)->permissions[2] != 'x', "RW memory is not executable");
	SKIP_IF(!can_replace_code(), "the emulator may execute the old code");
	item = get_kind(kind_of(_i), 64 * KIB);
	for (unsigned i = 0; i < how_many(1000, 3000); i++) {
		struct code code = code_of(i);
		unsigned char *copy = buffers_append_code(item, code.bytes, CODE_MIN_SIZE);

		ck_assert_ptr_nonnull(copy);
		ck_assert_uint_eq(call_code(copy), i);
		ck_assert_int_eq(buffers_overwrite(copy + CODE_WORD, &word, 4), 0);
		ck_assert_uint_eq(call_code(copy), 7);
	}
}
END_TEST
#endif

/*
 * Four or eight aligned bytes change atomically while a thread reads and executes them
 */

enum { MEMORY_SIZE = 3 * 4096 };

struct change {
	unsigned char *destination;
	size_t size;
	uint64_t values[2];
	bool is_code;		/* calls the function that contains the bytes, too */
	pthread_barrier_t start;
	bool stop;
	uint64_t torn;
	unsigned torn_calls;
};

/*
 * The kernel may copy eight bytes in parts, on some processors only if an interrupt comes at
 * that moment.  The function syscall() below always writes in two halves, and reads the bytes
 * in between.
 */
static struct change *torn_change;
static unsigned halves;

static uint64_t read_whole(const struct change *change);

static void check_between_halves(void)
{
	uint64_t value = read_whole(torn_change);

	halves++;
	if (value != torn_change->values[0] && value != torn_change->values[1])
		torn_change->torn = value;
}

/* A call that writes through /proc/self/mem, with its arguments in the order of this kernel. */
struct write {
	long file;
	struct iovec bytes;
	long offset;
};

static struct write write_of(const long a[6])
{
#if UINTPTR_MAX > UINT32_MAX
	return (struct write){ a[0], { (void *)a[1], (size_t)a[2] }, a[3] };
#else
	return (struct write){ a[0], *(const struct iovec *)a[1], a[3] };
#endif
}

static long write_part(long (*real)(long, ...), const struct write *write, size_t start,
		       size_t size)
{
	struct iovec part = { (char *)write->bytes.iov_base + start, size };

	return real(SYS_pwritev, write->file, &part, 1L, write->offset + (long)start, 0L);
}

static long write_halves(long (*real)(long, ...), struct write write)
{
	size_t half = write.bytes.iov_len / 2;
	long written = write_part(real, &write, 0, half);

	if (written != (long)half)
		return written;
	check_between_halves();
	return written + write_part(real, &write, half, half);
}

/* The library calls this, too.  It reads six arguments, even if the caller passes fewer. */
__attribute__((no_sanitize_address))
long syscall(long number, ...)
{
	static long (*real)(long, ...);
	long a[6];
	va_list list;

	if (!real)
		real = (long (*)(long, ...))(uintptr_t)dlsym(RTLD_NEXT, "syscall");
	va_start(list, number);
	for (unsigned i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (torn_change && number == SYS_WRITE_MEMORY &&
	    write_of(a).bytes.iov_len == torn_change->size)
		return write_halves(real, write_of(a));
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static uint64_t read_whole(const struct change *change)
{
	if (change->size == 4)
		return __atomic_load_n((uint32_t *)(void *)change->destination, __ATOMIC_RELAXED);
	return __atomic_load_n((uint64_t *)(void *)change->destination, __ATOMIC_RELAXED);
}

/* The bytes to write: all of the value, or its low half if the size is 4. */
static const void *value_of(const struct change *change, unsigned i)
{
	bool is_high_first = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;

	return (const char *)&change->values[i % 2] +
	       (is_high_first && change->size == 4 ? 4 : 0);
}

/* One thread reads and executes: several would wait for each other on few processors. */
static void *read_and_execute(void *context)
{
	struct change *change = context;
	const void *code = change->destination - (change->size == 4 ? CODE_WORD : 0);

	pthread_barrier_wait(&change->start);
	while (!__atomic_load_n(&change->stop, __ATOMIC_RELAXED)) {
		uint64_t value = read_whole(change);
		uint32_t number = change->is_code ? call_code(code) : CODE_ONE;

		if (value != change->values[0] && value != change->values[1])
			change->torn = value;
		change->torn_calls += number != CODE_ONE && number != CODE_TWO;
	}
	return NULL;
}

static void set_values(struct change *change)
{
	struct code codes[2] = { code_of(CODE_ONE), other_code_of(CODE_TWO) };
	uint32_t words[2] = { word_of_code(CODE_ONE), word_of_code(CODE_TWO) };

	for (unsigned i = 0; i < 2; i++) {
		change->values[i] = words[i];
		if (change->size == 8)
			memcpy(&change->values[i], codes[i].bytes, 8);
	}
}

/* Writes a function with the first value in it, before the other thread starts. */
static void write_function(struct change *change)
{
	struct code code = code_of(CODE_ONE);

	set_values(change);
	change->torn = change->values[0];
	if (change->size == 4)
		ck_assert_int_eq(buffers_overwrite(change->destination - CODE_WORD, code.bytes,
						   CODE_SIZE), 0);
	else
		ck_assert_int_eq(buffers_overwrite(change->destination, &change->values[0], 8), 0);
}

static void change_often(unsigned char *destination, size_t size, bool is_code)
{
	struct change change = { .destination = destination, .size = size };
	pthread_t thread;
	unsigned changes = size == 8 ? how_many(2000, 2000) : how_many(500, 500);
	int failed = 0;

	change.is_code = is_code && CODE_IS_COHERENT;
	write_function(&change);
	ck_assert_int_eq(pthread_barrier_init(&change.start, NULL, 2), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, read_and_execute, &change), 0);
	pthread_barrier_wait(&change.start);
	for (unsigned i = 1; i <= changes; i++) {
		failed += buffers_overwrite(destination, value_of(&change, i), size) != 0;
		failed += read_whole(&change) != change.values[i % 2];
	}
	__atomic_store_n(&change.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&change.start);
	ck_assert_int_eq(failed, 0);
	ck_assert_msg(change.torn == change.values[0], "torn at %p: %#llx", (void *)destination,
		      (unsigned long long)change.torn);
	ck_assert_msg(!change.torn_calls, "torn code at %p", (void *)destination);
}

static void change_in_halves(unsigned char *destination, size_t size)
{
	struct change change = { .destination = destination, .size = size };

	write_function(&change);
	torn_change = &change;
	for (unsigned i = 1; i <= 10; i++) {
		ck_assert_int_eq(buffers_overwrite(destination, value_of(&change, i), size), 0);
		ck_assert_uint_eq(read_whole(&change), change.values[i % 2]);
	}
	torn_change = NULL;
	ck_assert_msg(change.torn == change.values[0], "torn at %p", (void *)destination);
}

START_TEST(aligned_words_change_atomically_if_the_kernel_writes_halves)
{
	unsigned char *memory;

	SKIP_IF_NO_VIEW(_i);
	memory = make_memory(kind_of(_i), MEMORY_SIZE, false);
	for (size_t offset = 0; offset < 64; offset += 4) {
		change_in_halves(memory + 4096 + offset, 4);
		if (offset % 8 == 0)
			change_in_halves(memory + 4096 + offset, 8);
	}
	change_in_halves(memory + 4088, 8);
	/* otherwise the library uses a call that this program does not replace */
	ck_assert(kind_of(_i)->permissions[1] == 'w' || halves > 0);
}
END_TEST

/* At each offset in a cache line, and on both sides of page boundaries. */
START_TEST(aligned_words_change_atomically)
{
	const struct kind *kind = kind_of(_i);
	bool is_code = kind->permissions[2] == 'x';
	unsigned char *memory;

	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(is_tsan(), "TSan does not see accesses by executed code");
	memory = make_memory(kind, MEMORY_SIZE, false);
	for (size_t offset = 0; offset < 64; offset += is_slow() ? 40 : 8)
		change_often(memory + 4096 + offset, 8, is_code);
	change_often(memory + 4088, 8, is_code);
	change_often(memory + 2 * 4096 - 8, 8, is_code);
	change_often(memory + 2 * 4096, 8, is_code);
	for (size_t offset = 4; offset < 64; offset += is_slow() ? 44 : 12)
		change_often(memory + 2 * 4096 + offset, 4, is_code);
	change_often(memory + 4092, 4, is_code);
	change_often(memory + 4096, 4, is_code);
}
END_TEST

START_TEST(words_of_allocated_memory_change_atomically)
{
	const struct kind *kind = kind_of(_i);
	unsigned char *memory;

	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(is_tsan(), "TSan does not see accesses by executed code");
	memory = make_memory(kind, MEMORY_SIZE, true);
	change_often(memory + 40, 8, kind->permissions[2] == 'x');
	change_often(memory + 4096 - 8, 8, kind->permissions[2] == 'x');
	change_often(memory + 4096 + 44, 4, kind->permissions[2] == 'x');
}
END_TEST

/*
 * Threads that write to the same page
 */

struct writer {
	pthread_t thread;
	pthread_barrier_t *start;
	struct buffers_item *item;	/* for append_bytes() */
	unsigned char *destination;	/* no other thread writes to it */
	unsigned number;
	const char *fault;
};

#define ROUNDS	how_many(1000, 3000)

static void *change_a_word(void *context)
{
	struct writer *writer = context;
	uint64_t *word = (uint64_t *)(void *)writer->destination;

	pthread_barrier_wait(writer->start);
	for (uint64_t i = 1; i <= ROUNDS && !writer->fault; i++) {
		if (buffers_overwrite(word, &i, sizeof(i)) != 0)
			writer->fault = "a word could not be overwritten";
		else if (__atomic_load_n(word, __ATOMIC_RELAXED) != i)
			writer->fault = "a word was lost";
	}
	return NULL;
}

static void *change_odd_bytes(void *context)
{
	struct writer *writer = context;
	unsigned char bytes[27];

	pthread_barrier_wait(writer->start);
	for (unsigned i = 0; i < ROUNDS && !writer->fault; i++) {
		fill_pattern(bytes, sizeof(bytes), i);
		if (buffers_overwrite(writer->destination + 3, bytes, sizeof(bytes)) != 0)
			writer->fault = "bytes could not be overwritten";
		else if (memcmp(writer->destination + 3, bytes, sizeof(bytes)) != 0)
			writer->fault = "bytes were lost";
	}
	return NULL;
}

static void add_one(void *bytes, size_t size, void *context)
{
	uint64_t value;

	(void)context;
	memcpy(&value, bytes, size);
	value++;
	memcpy(bytes, &value, size);
}

static void *edit_a_word(void *context)
{
	struct writer *writer = context;
	uint64_t *word = (uint64_t *)(void *)writer->destination;

	pthread_barrier_wait(writer->start);
	for (uint64_t i = 1; i <= ROUNDS && !writer->fault; i++) {
		if (buffers_overwrite_with(word, sizeof(*word), add_one, NULL) != 0)
			writer->fault = "a word could not be edited";
		else if (__atomic_load_n(word, __ATOMIC_RELAXED) != i)
			writer->fault = "an edited word was lost";
	}
	return NULL;
}

static void *append_bytes(void *context)
{
	struct writer *writer = context;

	pthread_barrier_wait(writer->start);
	for (unsigned i = 0; i < ROUNDS && !writer->fault; i++) {
		unsigned char byte = (unsigned char)(i % 251 + 1);
		unsigned char *copy = buffers_append(writer->item, &byte, 1);

		if (copy != writer->destination + i)
			writer->fault = "a byte could not be appended";
		else if (*copy != byte)
			writer->fault = "an appended byte was lost";
	}
	return NULL;
}

static void *(*const bodies[])(void *) = {
	append_bytes, change_a_word, change_a_word, change_odd_bytes, edit_a_word,
};
enum { WRITERS = sizeof(bodies) / sizeof(bodies[0]) };

static void check_appended(const unsigned char *bytes)
{
	for (unsigned i = 0; i < ROUNDS; i++)
		ck_assert_uint_eq(bytes[i], i % 251 + 1);
}

START_TEST(threads_that_write_to_one_page_lose_no_bytes)
{
	struct writer writers[WRITERS] = { 0 };
	pthread_barrier_t start;
	struct buffers_item *item;
	unsigned char *memory;

	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(is_tsan(), "TSan takes writes to neighbouring bytes for a race");
	item = get_kind(kind_of(_i), 64 * KIB);
	memory = buffers_reserve(item, WRITERS * 64, 4096);
	ck_assert_ptr_nonnull(memory);
	ck_assert_int_eq(pthread_barrier_init(&start, NULL, WRITERS), 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i].start = &start;
		writers[i].item = item;
		writers[i].destination = i ? memory + 64 * i : buffers_next(item);
		ck_assert_int_eq(pthread_create(&writers[i].thread, NULL, bodies[i], &writers[i]),
				 0);
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(writers[i].thread, NULL);
		ck_assert_msg(!writers[i].fault, "%s", writers[i].fault);
	}
	check_appended(writers[0].destination);
	for (unsigned i = 1; i < WRITERS; i++)
		ck_assert(i == 3 || *(uint64_t *)(void *)writers[i].destination == ROUNDS);
	pthread_barrier_destroy(&start);
}
END_TEST

/*
 * Forked children
 */

struct turns {
	unsigned turn;
	unsigned char *destinations[2];	/* in different pages */
	bool closes;			/* closes all descriptors before it writes */
};

/* Waits at most 20 seconds, because the other process may have failed. */
static bool wait_for_turn(struct turns *turns, unsigned turn)
{
	for (unsigned i = 0; i < 20000; i++) {
		if (__atomic_load_n(&turns->turn, __ATOMIC_ACQUIRE) == turn)
			return true;
		usleep(i < 100 ? 10 : 1000);
	}
	return false;
}

static void end_turn(struct turns *turns)
{
	__atomic_add_fetch(&turns->turn, 1, __ATOMIC_RELEASE);
}

/* Files of the program that get the numbers of the library's closed descriptors. */
enum { DECOYS = 8, DECOY_SIZE = 64 };

/* After this call, ck_assert() is forbidden: Check would write to one of the decoys. */
static bool open_decoys(void)
{
	char content[DECOY_SIZE];

	memset(content, 'x', sizeof(content));
	syscall(SYS_close_range, 3, ~0u, 0);
	for (int i = 0; i < DECOYS; i++)
		if (memfd_create("decoy", 0) != 3 + i ||
		    write(3 + i, content, DECOY_SIZE) != DECOY_SIZE)
			return false;
	return true;
}

static bool are_decoys_untouched(void)
{
	char content[DECOY_SIZE + 1];

	for (int i = 0; i < DECOYS; i++) {
		if (lseek(3 + i, 0, SEEK_CUR) != DECOY_SIZE ||
		    pread(3 + i, content, sizeof(content), 0) != DECOY_SIZE)
			return false;
		for (size_t j = 0; j < DECOY_SIZE; j++)
			if (content[j] != 'x')
				return false;
	}
	return dup(STDOUT_FILENO) == 3 + DECOYS && close(3 + DECOYS) == 0;
}

/* Writes an aligned word to one destination, and odd bytes to the other. */
static int write_as(struct turns *turns, uint64_t value)
{
	uint64_t odd[3] = { value, value, value };

	STEP(!turns->closes || open_decoys());
	STEP(buffers_overwrite(turns->destinations[0], &value, 8) == 0);
	STEP(buffers_overwrite(turns->destinations[1] + 5, odd, sizeof(odd)) == 0);
	STEP(!turns->closes || are_decoys_untouched());
	return 0;
}

static bool sees(const struct turns *turns, uint64_t value)
{
	uint64_t odd[3] = { value, value, value };

	return memcmp(turns->destinations[0], &value, 8) == 0 &&
	       memcmp(turns->destinations[1] + 5, odd, sizeof(odd)) == 0;
}

enum { TURNS = 100 };

static int take_even_turns(void *context)
{
	struct turns *turns = context;
	uint64_t mine = 1000;

	for (unsigned turn = 0; turn < TURNS; turn += 2) {
		STEP(wait_for_turn(turns, turn));
		STEP(sees(turns, mine));
		mine = 2000 + turn;
		STEP(write_as(turns, mine) == 0);
		STEP(sees(turns, mine));
		end_turn(turns);
	}
	return 0;
}

static int take_odd_turns(struct turns *turns)
{
	uint64_t mine = 1000;

	for (unsigned turn = 1; turn < TURNS; turn += 2) {
		STEP(wait_for_turn(turns, turn));
		STEP(sees(turns, mine));
		mine = 2000 + turn;
		STEP(write_as(turns, mine) == 0);
		STEP(sees(turns, mine));
		end_turn(turns);
	}
	return 0;
}

static int write_in_turns(void *context)
{
	struct turns *turns = context;
	int line, status;
	pid_t child;

	STEP(write_as(turns, 1000) == 0);
	child = fork();
	STEP(child >= 0);
	if (child == 0)
		_exit(take_even_turns(turns) != 0);
	line = take_odd_turns(turns);
	STEP(waitpid(child, &status, 0) == child);
	STEP(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return line;
}

static void check_turns(const struct kind *kind, bool closes, bool is_alone)
{
	struct turns *turns = mmap(NULL, sizeof(*turns), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned char *memory = make_memory(kind, 4 * PAGE, is_alone);

	ck_assert_ptr_ne(turns, MAP_FAILED);
	turns->closes = closes;
	turns->destinations[0] = memory + 40;
	turns->destinations[1] = memory + 2 * PAGE - 16;
	run_child(write_in_turns, turns);
	munmap(turns, sizeof(*turns));
}

START_TEST(parent_and_child_never_see_what_the_other_writes)
{
	SKIP_IF_NO_VIEW(_i);
	check_turns(kind_of(_i), false, false);
	check_turns(kind_of(_i), false, true);
}
END_TEST

/* The library must not write to the program's files that have got their numbers. */
START_TEST(closed_descriptors_are_not_used)
{
	SKIP_IF_NO_VIEW(_i);
	check_turns(kind_of(_i), true, false);
	check_turns(kind_of(_i), true, true);
}
END_TEST

/* One thread of the parent writes, and may hold the library's lock, while another forks. */
struct storm {
	const struct kind *kind;
	unsigned char *words;	/* the thread writes from 0 on, the children also from 32 on */
	bool stop;
	const char *fault;
};

static void *keep_writing(void *context)
{
	struct storm *storm = context;

	for (uint64_t i = 1; !__atomic_load_n(&storm->stop, __ATOMIC_RELAXED); i++)
		if (buffers_overwrite(storm->words, &i, 8) != 0 ||
		    buffers_overwrite(storm->words + 13, &i, 7) != 0 ||
		    memcmp(storm->words, &i, 8) != 0)
			storm->fault = "a word of the thread was lost";
	return NULL;
}

/* Whether descriptors let the child write to its parent.  Without /proc it finds none. */
static bool can_write_to_parent(void)
{
	char path[40], target[80];

	for (int i = 3; i < 64; i++) {
		ssize_t size;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", i);
		size = readlink(path, target, sizeof(target) - 1);
		target[size > 0 ? size : 0] = '\0';
		if (strncmp(target, "/memfd:reloaded-buffers", 23) == 0 ||
		    (size > 4 && strcmp(target + size - 4, "/mem") == 0))
			return true;
	}
	return false;
}

static int write_amid_the_storm(const struct storm *storm, uint64_t number)
{
	struct buffers_request request = { .size = 64, .flags = storm->kind->flags };
	struct buffers_item *item = buffers_get(&request);
	char *copy;

	STEP(!can_write_to_parent());
	STEP(item);
	copy = buffers_append_code(item, &number, 8);
	STEP(copy && memcmp(copy, &number, 8) == 0);
	STEP(buffers_overwrite(storm->words + 32, &number, 8) == 0);
	STEP(memcmp(storm->words + 32, &number, 8) == 0);
	STEP(buffers_overwrite(storm->words, &number, 8) == 0);
	STEP(buffers_overwrite(storm->words + 43, &number, 5) == 0);
	STEP(memcmp(storm->words + 43, &number, 5) == 0);
	return 0;
}

static int fork_amid_the_storm(struct storm *storm)
{
	static const unsigned char zeros[32];

	for (uint64_t i = 0; i < how_many(200, 200); i++) {
		int status;
		pid_t child = fork();

		STEP(child >= 0);
		if (child == 0)
			_exit(write_amid_the_storm(storm, ~i) != 0);
		STEP(waitpid(child, &status, 0) == child);
		STEP(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		STEP(memcmp(storm->words + 32, zeros, sizeof(zeros)) == 0);
	}
	return 0;
}

static int run_storm(void *context)
{
	struct storm *storm = context;
	pthread_t thread;
	int line;

	STEP(pthread_create(&thread, NULL, keep_writing, storm) == 0);
	line = fork_amid_the_storm(storm);
	__atomic_store_n(&storm->stop, true, __ATOMIC_RELAXED);
	STEP(pthread_join(thread, NULL) == 0);
	STEP(!storm->fault);
	return line;
}

START_TEST(children_forked_amid_writes_change_their_copy_only)
{
	struct storm storm = { .kind = kind_of(_i) };

	SKIP_IF_NO_VIEW(_i);
	SKIP_IF(is_tsan(), "TSan does not support threads and fork");
	SKIP_IF(is_emulated(), FORKS_IN_THREADS);
	storm.words = make_memory(kind_of(_i), 4096, false);
	run_child(run_storm, &storm);
}
END_TEST

struct held {
	const struct kind *kind;
	struct buffers_item *item;
};

static int use_held_item(void *context)
{
	const struct held *held = context;
	char *base = buffers_base(held->item);
	char *other;

	STEP(buffers_append(held->item, "child", 5) == base + 6);
	STEP(memcmp(base, "parentchild", 12) == 0);
	STEP(buffers_overwrite(base, "PARENT", 6) == 0);
	buffers_release(held->item);
	other = buffers_append_code(get_kind(held->kind, 100), "new", 3);
	STEP(other);
	STEP(other < base || other >= base + 64 * KIB);
	STEP(memcmp(base, "PARENTchild", 12) == 0);
	return 0;
}

START_TEST(held_item_is_a_copy_in_the_child)
{
	struct held held;
	char *base;

	SKIP_IF_NO_VIEW(_i);
	held = (struct held){ kind_of(_i), get_kind(kind_of(_i), 64 * KIB) };
	base = buffers_append(held.item, "parent", 6);
	ck_assert_ptr_nonnull(base);
	run_child(use_held_item, &held);
	ck_assert_mem_eq(base, "parent\0\0\0\0\0", 12);
	ck_assert_ptr_eq(buffers_append(held.item, "rest", 4), base + 6);
	ck_assert_mem_eq(base, "parentrest", 11);
}
END_TEST

static void add_cases(Suite *suite)
{
	TCase *atomicity = tcase_create("atomicity");
	TCase *children = tcase_create("children");

	tcase_set_timeout(atomicity, 300);
#ifdef HAVE_CODE
	tcase_add_loop_test(atomicity, appended_code_can_be_called_and_changed, 0, VIEWS);
#endif
	tcase_add_loop_test(atomicity, aligned_words_change_atomically, 0, VIEWS);
	tcase_add_loop_test(atomicity, aligned_words_change_atomically_if_the_kernel_writes_halves,
			    0, VIEWS);
	tcase_add_loop_test(atomicity, words_of_allocated_memory_change_atomically, 0, VIEWS);
	tcase_add_loop_test(atomicity, threads_that_write_to_one_page_lose_no_bytes, 0, VIEWS);
	suite_add_tcase(suite, atomicity);

	tcase_set_tags(children, "fork");
	tcase_set_timeout(children, 300);
	tcase_add_loop_test(children, parent_and_child_never_see_what_the_other_writes, 0, VIEWS);
	tcase_add_loop_test(children, closed_descriptors_are_not_used, 0, VIEWS);
	tcase_add_loop_test(children, children_forked_amid_writes_change_their_copy_only, 0, VIEWS);
	tcase_add_loop_test(children, held_item_is_a_copy_in_the_child, 0, VIEWS);
	suite_add_tcase(suite, children);
}

int main(void)
{
	Suite *suite = suite_create("rx/live-patching");

	add_cases(suite);
	return run_suite(suite);
}
