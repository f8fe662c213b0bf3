/* SPDX-License-Identifier: MIT */
/* rows.c: the rows of the benchmark */

#include "config.h"
#include "bench.h"
#include "reloaded/buffers.h"
#include "support/code.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef PR_SET_MDWE
# define PR_SET_MDWE		65
# define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

#define KIB ((size_t)1 << 10)
#define GIB ((size_t)1 << 30)

enum { PAGE = 4096, BUFFER = 64 << 10 };

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* Mean time of `count` iterations of the statement, in nanoseconds each. */
#define TIME(count, ...)						\
	__extension__ ({						\
		double start_ = now();					\
		for (unsigned i_ = 0; i_ < (count); i_++)		\
			__VA_ARGS__;					\
		(now() - start_) / (count);				\
	})

/* A function in the executable: the target of requests for near memory. */
static void target(void)
{
}

static struct buffers_request near_target(size_t size)
{
	return buffers_request_near((const void *)(uintptr_t)target, BUFFERS_REACH_BRANCH, size);
}

static struct buffers_request in_low_2_gib(size_t size)
{
	return (struct buffers_request){ .max_address = 2 * GIB, .size = size };
}

static struct buffers_item *get(const struct buffers_request *request)
{
	struct buffers_item *item = buffers_get(request);

	if (!item)
		err(1, "buffers_get");
	return item;
}

static void *populated(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (memory == MAP_FAILED)
		err(1, "mmap");
	return memory;
}

/* Page faults are work of the kernel, so they happen before the measurement. */
static void populate(struct buffers_item *item)
{
	if (madvise(buffers_base(item), buffers_size(item), MADV_POPULATE_WRITE) != 0)
		err(1, "madvise");
}

/*
 * Getting and releasing
 */

static void take_and_release(uint32_t *word)
{
	uint32_t free = 0;

	__atomic_compare_exchange_n(word, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
	__atomic_store_n(word, 0, __ATOMIC_RELEASE);
}

/*
 * Repeats one request, so that the item which the thread used last suits each
 * time, even after 5,000 others.  In time_turns() each call has to search.
 */
static struct sample measure_get_release(const struct row *row)
{
	enum { COUNT = 100000 };
	struct buffers_request request = near_target(64);
	struct buffers_item *item = get(&request);
	uint32_t word = 0;

	(void)row;
	buffers_release(item);
	return (struct sample){
		.value = TIME(COUNT, {
			item = buffers_get(&request);
			buffers_release(item);
		}),
		.limit = TIME(COUNT, take_and_release(&word)),
	};
}

static void make_buffers(struct buffers_request request, bool are_full)
{
	enum { MANY = 5000 };
	static struct buffers_item *items[MANY];

	request.size = BUFFER;
	for (unsigned i = 0; i < MANY; i++) {
		items[i] = get(&request);
		if (are_full && !buffers_reserve(items[i], buffers_remaining(items[i]), 1))
			err(1, "buffers_reserve");
	}
	for (unsigned i = 0; i < MANY; i++)
		buffers_release(items[i]);
}

static void prepare_full(const struct row *row)
{
	(void)row;
	make_buffers(near_target(1), true);
}

static void prepare_far(const struct row *row)
{
	(void)row;
	make_buffers(in_low_2_gib(1), false);
}

/* Full buffers in both ranges, and buffers with free space in the low range. */
static void prepare_turns(const struct row *row)
{
	prepare_full(row);
	make_buffers(in_low_2_gib(1), true);
}

/* The item which the thread used last never suits, so each call has to search. */
static struct sample time_turns(const struct buffers_request *requests, unsigned places)
{
	enum { COUNT = 102400 };
	uint32_t word = 0;

	return (struct sample){
		.value = TIME(COUNT / places, {
			for (unsigned place = 0; place < places; place++)
				buffers_release(get(&requests[place]));
		}) / places,
		.limit = TIME(COUNT, take_and_release(&word)),
	};
}

static struct sample measure_turns_full(const struct row *row)
{
	struct buffers_request requests[] = { near_target(64), in_low_2_gib(64) };

	(void)row;
	return time_turns(requests, 2);
}

/* Ranges that do not overlap; in 32 bits there is room for them, too. */
static struct buffers_request near_place(unsigned place, size_t size)
{
	enum { REACH = 8 << 20 };
	uintptr_t middle = GIB / 4 + (uintptr_t)place * 2 * REACH;

	return buffers_request_near((const void *)middle, REACH, size);
}

enum { MOST_PLACES = 64 };

static struct sample measure_turns(const struct row *row)
{
	struct buffers_request requests[MOST_PLACES];

	for (unsigned place = 0; place < row->places; place++)
		requests[place] = near_place(place, 64);
	return time_turns(requests, row->places);
}

static void append_bytes(const struct buffers_request *request)
{
	static char bytes[4096];
	struct buffers_item *item = get(request);

	if (!buffers_append(item, bytes, request->size))
		err(1, "buffers_append");
	buffers_release(item);
}

static void append_by_turns(unsigned first, unsigned places)
{
	for (unsigned i = 0; i < 5000; i++) {
		for (unsigned place = first; place < first + places; place++) {
			struct buffers_request request = near_place(place, 64);

			append_bytes(&request);
		}
	}
}

static int count_buffer(const struct buffers_info *info, void *count)
{
	(void)info;
	++*(unsigned *)count;
	return 0;
}

static unsigned count_buffers(void)
{
	unsigned count = 0;

	buffers_walk(count_buffer, &count);
	return count;
}

/* The buffers of each place; the limit is those of a place whose turn it always is. */
static struct sample measure_turns_buffers(const struct row *row)
{
	unsigned alone;

	append_by_turns(row->places, 1);
	alone = count_buffers();
	append_by_turns(0, row->places);
	return (struct sample){ (double)(count_buffers() - alone) / row->places, alone };
}

/*
 * Giving back
 */

enum { STUB = 64, STRETCHES = 100000 };

static char *take_piece(const struct buffers_request *request)
{
	struct buffers_item *item = get(request);
	char *piece = buffers_reserve(item, request->size, request->alignment);

	if (!piece)
		err(1, "buffers_reserve");
	buffers_release(item);
	return piece;
}

static void give_back(char *piece, size_t size)
{
	if (buffers_give_back(piece, size) != 0)
		err(1, "buffers_give_back");
}

/* Pieces in use with a stretch between any two. */
static char *pieces[STRETCHES];

static void prepare_stretches(const struct row *row)
{
	struct buffers_request request = near_target(STUB);
	static char *between[STRETCHES];

	(void)row;
	for (unsigned i = 0; i < STRETCHES; i++) {
		between[i] = take_piece(&request);
		pieces[i] = take_piece(&request);
	}
	for (unsigned i = 0; i < STRETCHES; i++)
		give_back(between[i], STUB);
}

static void make_stretch(struct buffers_request request)
{
	char *piece = take_piece(&request);

	take_piece(&request);
	give_back(piece, request.size);
}

/* One stretch that the request does not fit into, or that is out of its range. */
static void prepare_small_stretch(const struct row *row)
{
	(void)row;
	make_stretch(near_target(STUB / 2));
}

static void prepare_far_stretch(const struct row *row)
{
	(void)row;
	make_stretch(in_low_2_gib(STUB));
}

/* Stretches on both sides of the range: only a search tells. */
static void prepare_far_stretches(const struct row *row)
{
	struct buffers_request above = near_target(STUB);

	(void)row;
	above.min_address = above.max_address;
	above.max_address = 0;
	make_stretch(in_low_2_gib(STUB));
	make_stretch(above);
}

/* A stub that comes and goes, as that of a hook, alone or among many stretches. */
static struct sample measure_give_back(const struct row *row)
{
	enum { COUNT = 20000 };
	struct buffers_request request = near_target(STUB);
	char *piece = take_piece(&request);
	uint32_t word = 0;
	struct sample sample;

	(void)row;
	take_piece(&request);
	sample.value = TIME(COUNT, {
		give_back(piece, STUB);
		piece = take_piece(&request);
	});
	sample.limit = TIME(COUNT, take_and_release(&word));
	return sample;
}

/* Each time another of many stubs. */
static struct sample measure_give_back_any(const struct row *row)
{
	enum { COUNT = 20000 };
	struct buffers_request request = near_target(STUB);
	static uint32_t number;
	uint32_t word = 0;
	struct sample sample;

	(void)row;
	sample.value = TIME(COUNT, {
		char **piece = &pieces[(number = number * 1664525 + 1013904223) / 64 % STRETCHES];

		give_back(*piece, STUB);
		*piece = take_piece(&request);
	});
	sample.limit = TIME(COUNT, take_and_release(&word));
	return sample;
}

static int add_size(const struct buffers_info *info, void *context)
{
	*(size_t *)context += info->size;
	return 0;
}

/* Sizes up to 64 KiB, of which each magnitude is as frequent as another. */
static size_t random_size(void)
{
	return 1 + (size_t)random() % ((size_t)2 << random() % 16);
}

/* Mapped bytes after random takes and returns, in multiples of the most that was in use. */
static struct sample measure_fragmentation(const struct row *row)
{
	enum { COUNT = 1000000, PIECES = 6000 };
	static struct { char *start; size_t size; } used[PIECES];
	struct buffers_request request = near_target(1);
	size_t now = 0, peak = 0, mapped = 0;

	(void)row;
	for (unsigned i = 0; i < COUNT; i++) {
		unsigned n = (unsigned)random() % PIECES;

		if (used[n].start) {
			give_back(used[n].start, used[n].size);
			now -= used[n].size;
			used[n].start = NULL;
			continue;
		}
		used[n].size = request.size = random_size();
		request.alignment = (size_t)1 << random() % 7;
		used[n].start = take_piece(&request);
		now += used[n].size;
		peak = now > peak ? now : peak;
	}
	buffers_walk(add_size, &mapped);
	return (struct sample){ (double)mapped / (double)peak, 1 };
}

/*
 * Appending
 */

static const char sixteen[16] = "0123456789abcde";

static inline void append16(struct buffers_item *item)
{
	if (!buffers_append(item, sixteen, sizeof(sixteen)))
		err(1, "buffers_append");
}

static void copy16(char *to)
{
	memcpy(to, sixteen, sizeof(sixteen));
	__asm__ volatile("" : : : "memory");
}

static struct sample measure_append16(const struct row *row)
{
	enum { COUNT = BUFFER / 16, SIZE = BUFFER };
	static char *memory;
	struct buffers_request request = near_target(SIZE);
	struct buffers_item *item = get(&request);
	struct sample sample;

	(void)row;
	if (!memory)
		memory = populated(SIZE);
	populate(item);
	sample.value = TIME(COUNT, append16(item));
	sample.limit = TIME(COUNT, copy16(memory + i_ * 16));
	buffers_release(item);
	return sample;
}

static void write16(void *to)
{
	int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	if (memory < 0 ||
	    pwrite(memory, sixteen, sizeof(sixteen), (off_t)(uintptr_t)to) != sizeof(sixteen) ||
	    close(memory) != 0)
		err(1, "/proc/self/mem");
}

/* RX memory.  The limit is a write to /proc/self/mem that is opened for it. */
static struct sample measure_rx_append16(const struct row *row)
{
	enum { COUNT = 1000, SIZE = COUNT * 16 };
	struct buffers_request request = near_target(SIZE);
	struct buffers_item *item;
	struct sample sample;

	(void)row;
	request.flags = BUFFERS_RX;
	item = get(&request);
	append16(item);		/* the first call makes the state that all copies share */
	sample.value = TIME(COUNT, append16(item)) / 1000;
	sample.limit = TIME(COUNT, write16(buffers_base(item))) / 1000;
	buffers_release(item);
	return sample;
}

/*
 * Write windows
 */

enum { WINDOW = 64 << 10 };

static void protect_as(void *memory, unsigned flags)
{
	if (buffers_protect(memory, WINDOW, flags) != 0)
		err(1, "buffers_protect");
}

/* Every page has been written, so no page fault is measured. */
static void *closed_memory(void)
{
	struct buffers_request request = { .size = WINDOW, .flags = BUFFERS_RX };
	static void *memory;
	size_t allocated;

	if (memory)
		return memory;
	memory = buffers_alloc(&request, &allocated);
	if (!memory)
		err(1, "buffers_alloc");
	protect_as(memory, BUFFERS_RW);
	memset(memory, 0x90, WINDOW);
	protect_as(memory, BUFFERS_RX);
	return memory;
}

static void open_and_close(void *memory)
{
	protect_as(memory, BUFFERS_RW);
	protect_as(memory, BUFFERS_RX);
}

static struct sample measure_protect(const struct row *row)
{
	enum { COUNT = 100 };
	void *memory = closed_memory();
	struct sample sample;

	(void)row;
	sample.value = TIME(COUNT, open_and_close(memory)) / 1000;
	sample.limit = TIME(COUNT, {
		if (mprotect(memory, WINDOW, PROT_READ | PROT_WRITE) != 0 ||
		    mprotect(memory, WINDOW, PROT_READ | PROT_EXEC) != 0)
			err(1, "mprotect");
	}) / 1000;
	return sample;
}

static void *map_copy(const void *bytes)
{
	void *copy = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);

	if (copy == MAP_FAILED)
		err(1, "mmap");
	return memcpy(copy, bytes, WINDOW);
}

static void forbid_mprotect(const struct row *row)
{
	(void)row;
	if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0)
		err(1, "PR_SET_MDWE (Linux 6.3)");
}

/* Only this process is under the policy.  The limit: two mappings, filled. */
static struct sample measure_protect_mdwe(const struct row *row)
{
	enum { COUNT = 20 };
	void *memory = closed_memory();
	void *copies[2 * COUNT];
	struct sample sample;

	(void)row;
	sample.value = TIME(COUNT, open_and_close(memory)) / 1000;
	sample.limit = TIME(COUNT, {
		copies[2 * i_] = map_copy(memory);
		copies[2 * i_ + 1] = map_copy(memory);
	}) / 1000;
	for (unsigned i = 0; i < 2 * COUNT; i++)
		munmap(copies[i], WINDOW);
	return sample;
}

/*
 * Arenas
 */

static struct buffers_arena *new_arena(size_t size, unsigned flags)
{
	struct buffers_request window = near_target(size);
	struct buffers_arena *arena = buffers_arena_create(&window, flags);

	if (!arena)
		err(1, "buffers_arena_create");
	return arena;
}

static struct buffers_item *arena_get(struct buffers_arena *arena, size_t size)
{
	struct buffers_item *item = buffers_arena_get(arena, size, 0);

	if (!item)
		err(1, "buffers_arena_get");
	return item;
}

/* The limit is a copy to ordinary memory. */
static struct sample measure_rx_append16_view(const struct row *row)
{
	enum { COUNT = BUFFER / 16, SIZE = BUFFER };
	static char *memory;
	struct buffers_arena *arena = new_arena(2 * SIZE, BUFFERS_RX | BUFFERS_VIEW);
	struct buffers_item *item = arena_get(arena, SIZE);
	struct sample sample;

	(void)row;
	if (!memory)
		memory = populated(SIZE);
	memset(buffers_view(buffers_next(item)), 1, SIZE);
	sample.value = TIME(COUNT, append16(item));
	sample.limit = TIME(COUNT, copy16(memory + i_ * 16));
	buffers_release(item);
	buffers_arena_destroy(arena);
	return sample;
}

static pthread_mutex_t *robust_mutex(void)
{
	pthread_mutex_t *mutex = mmap(NULL, sizeof(*mutex), PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t attributes;

	if (mutex == MAP_FAILED)
		err(1, "mmap");
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(mutex, &attributes);
	return mutex;
}

/* An arena shared with children; the limit is a robust mutex. */
static struct sample measure_arena_get_release(const struct row *row)
{
	enum { COUNT = 100000 };
	struct buffers_arena *arena = new_arena(64 * KIB, BUFFERS_ARENA_FORK_SHARED);
	pthread_mutex_t *mutex = robust_mutex();
	struct sample sample;

	(void)row;
	buffers_release(arena_get(arena, 64));
	sample.value = TIME(COUNT, buffers_release(arena_get(arena, 64)));
	sample.limit = TIME(COUNT, {
		pthread_mutex_trylock(mutex);
		pthread_mutex_unlock(mutex);
	});
	buffers_arena_destroy(arena);
	munmap(mutex, sizeof(*mutex));
	return sample;
}

/* Start of the children: the parent sets go once all children are ready. */
struct race {
	uint32_t ready, go;
	unsigned count;
};

static void use_arena(struct buffers_arena *arena, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct buffers_item *item = arena_get(arena, 64);

		append16(item);
		buffers_release(item);
	}
}

static void run_child(struct race *race, struct buffers_arena *arena)
{
	__atomic_add_fetch(&race->ready, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&race->go, __ATOMIC_ACQUIRE))
		sched_yield();
	use_arena(arena, race->count);
	_exit(0);
}

/* Nanoseconds from start to end, divided by the number of calls of all children. */
static double time_children(unsigned children, unsigned count)
{
	struct buffers_arena *arena = new_arena(64 << 20, BUFFERS_ARENA_FORK_SHARED);
	struct race *race = mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	double start;

	if (race == MAP_FAILED)
		err(1, "mmap");
	race->count = count;
	for (unsigned i = 0; i < children; i++) {
		pid_t child = fork();

		if (child < 0)
			err(1, "fork");
		if (child == 0)
			run_child(race, arena);
	}
	while (__atomic_load_n(&race->ready, __ATOMIC_ACQUIRE) < children)
		sched_yield();
	start = now();
	__atomic_store_n(&race->go, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < children; i++)
		if (wait(NULL) < 0)
			err(1, "wait");
	start = now() - start;
	munmap(race, sizeof(*race));
	buffers_arena_destroy(arena);
	return start / children / count;
}

/* Millions of get, append 16, release per second in 8 processes; the limit is 1 process. */
static struct sample measure_arena_fork8(const struct row *row)
{
	enum { COUNT = 100000 };

	(void)row;
	return (struct sample){
		.value = 1e3 / time_children(8, COUNT),
		.limit = 1e3 / time_children(1, 8 * COUNT),
	};
}

/* Shuffles the numbers below `count`. */
static void shuffle(uint32_t *numbers, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t other = (uint32_t)random() % (i + 1);

		numbers[i] = numbers[other];
		numbers[other] = i;
	}
}

/* Calls each of a million functions, which are 64 bytes apart, in random order. */
static double time_calls(unsigned flags)
{
	enum { COUNT = 1 << 20, DISTANCE = 64 };
	static uint32_t order[COUNT];
	struct buffers_request window = { .size = (size_t)COUNT * DISTANCE };
	struct buffers_arena *arena = buffers_arena_create(&window, flags);
	struct code code = code_of(1);
	struct buffers_item *item;
	double time;
	char *start;

	if (!arena)
		err(1, "buffers_arena_create");
	item = arena_get(arena, window.size);
	start = buffers_reserve(item, window.size, 1);
	for (size_t i = 0; i < COUNT; i++)
		memcpy(start + i * DISTANCE, &code, sizeof(code));
	buffers_flush_icache(start, window.size);
	shuffle(order, COUNT);
	time = TIME(COUNT, ((uint32_t (*)(void))(start + (size_t)order[i_] * DISTANCE))());
	buffers_release(item);
	buffers_arena_destroy(arena);
	return time;
}

/* The limit is an arena that does not ask for huge pages. */
static struct sample measure_huge_pages(const struct row *row)
{
	(void)row;
	return (struct sample){
		.value = time_calls(BUFFERS_ARENA_HUGE_PAGES), .limit = time_calls(0),
	};
}

/*
 * New pages
 */

static void *alloc(const struct buffers_request *request)
{
	size_t allocated;
	void *page = buffers_alloc(request, &allocated);

	if (!page)
		err(1, "buffers_alloc");
	return page;
}

/* Maps one page after the other in a range that was free at the first call. */
static void map_next_page(void)
{
	static char *last;
	char *wanted;

	if (!last) {
		last = mmap(NULL, 256 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (last == MAP_FAILED || munmap(last, 256 << 20) != 0)
			err(1, "mmap");
	}
	wanted = last += PAGE;
	if (mmap(wanted, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != wanted)
		err(1, "mmap");
}

static struct sample measure_pages(struct buffers_request request)
{
	enum { COUNT = 1000 };

	return (struct sample){
		.value = TIME(COUNT, alloc(&request)) / 1000,
		.limit = TIME(COUNT, map_next_page()) / 1000,
	};
}

static void prepare_page_near(const struct row *row)
{
	struct buffers_request request = near_target(PAGE);

	(void)row;
	alloc(&request);
}

static void prepare_page_low(const struct row *row)
{
	struct buffers_request request = in_low_2_gib(PAGE);

	(void)row;
	alloc(&request);
}

static struct sample measure_page_near(const struct row *row)
{
	(void)row;
	return measure_pages(near_target(PAGE));
}

static struct sample measure_page_low(const struct row *row)
{
	(void)row;
	return measure_pages(in_low_2_gib(PAGE));
}

static void map_and_unmap(void)
{
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED || munmap(page, PAGE) != 0)
		err(1, "mmap");
}

static struct sample measure_alloc_free(const struct row *row)
{
	enum { COUNT = 1000 };
	struct buffers_request request = near_target(PAGE);

	(void)row;
	return (struct sample){
		.value = TIME(COUNT, buffers_free(alloc(&request), PAGE)) / 1000,
		.limit = TIME(COUNT, map_and_unmap()) / 1000,
	};
}

/*
 * The first call
 */

/* The system calls of a first buffers_get(): open, write, link, unlink, two mmaps. */
static double time_bare_first(void)
{
	char draft[64], name[64];
	char bytes[PAGE] = { 0 };
	double start;
	int file;

	snprintf(draft, sizeof(draft), "/tmp/bench-%ld.draft", (long)getpid());
	snprintf(name, sizeof(name), "/tmp/bench-%ld", (long)getpid());
	start = now();
	file = open(draft, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (file < 0 || write(file, bytes, sizeof(bytes)) != sizeof(bytes) ||
	    link(draft, name) != 0 || unlink(draft) != 0 || close(file) != 0)
		err(1, "/tmp");
	mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mmap(NULL, BUFFER, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	start = now() - start;
	unlink(name);
	return start;
}

/* Making 50,000 mappings has filled the caches: load this code into them. */
static void prepare_first_get(const struct row *row)
{
	(void)row;
	files_make(0);
	for (unsigned i = 0; i < 20; i++)
		time_bare_first();
}

/* Microseconds */
static double time_first_get(void)
{
	struct buffers_request request = near_target(64);
	double start = now();
	struct buffers_item *item = get(&request);
	double time = now() - start;

	buffers_release(item);
	return time / 1000;
}

static struct sample measure_first_get(const struct row *row)
{
	struct sample sample;

	(void)row;
	sample.value = time_first_get();
	sample.limit = time_bare_first() / 1000;
	return sample;
}

/* In a child, which removes its rendezvous file when it exits. */
static double time_first_get_of_child(void)
{
	double *time = mmap(NULL, sizeof(*time), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t child;
	double result;

	if (time == MAP_FAILED)
		err(1, "mmap");
	child = fork();
	if (child == 0) {
		*time = time_first_get();
		exit(0);
	}
	wait_for_child(child);
	result = *time;
	munmap(time, sizeof(*time));
	return result;
}

static void prepare_files(const struct row *row)
{
	(void)row;
	files_make(20000);
}

/* The limit is the same without these files. */
static struct sample measure_first_get_files(const struct row *row)
{
	struct sample sample;

	(void)row;
	sample.value = time_first_get_of_child();
	files_exchange();
	sample.limit = time_first_get_of_child();
	files_exchange();
	return sample;
}

/*
 * Memory
 */

/* The mappings and bytes that 10,000 requests of `size` bytes cost. */
static struct usage use_many(size_t size)
{
	struct buffers_request request = near_target(size);
	struct usage before = usage_now();
	struct usage after;

	for (unsigned i = 0; i < 10000; i++)
		append_bytes(&request);
	after = usage_now();
	return (struct usage){ after.mappings - before.mappings, after.bytes - before.bytes };
}

static struct sample measure_mapped_extra(const struct row *row)
{
	(void)row;
	return (struct sample){ (double)use_many(64).bytes / 1024 - 10000 * 64 / 1024., 64 };
}

static struct sample measure_mappings(const struct row *row)
{
	(void)row;
	return (struct sample){ (double)use_many(64).mappings, 1 };
}

static struct sample measure_mid_mappings(const struct row *row)
{
	(void)row;
	return (struct sample){ (double)use_many(1500).mappings, 1 };
}

static struct sample measure_waste(const struct row *row)
{
	double asked = 10000 * 1500;

	(void)row;
	/* 64 KiB hold 43 times 1,500 bytes */
	return (struct sample){ ((double)use_many(1500).bytes / asked - 1) * 100,
				(BUFFER / (43 * 1500.) - 1) * 100 };
}

/*
 * Threads
 */

enum { MOST_THREADS = 8 };

struct team {
	void (*work)(void);
	unsigned count;
	unsigned not_ready;	/* members that have not reached the start yet */
};

struct member {
	pthread_t thread;
	struct team *team;
	unsigned number;
	double start, end;
};

/* Pins each thread to a processor, since the scheduler spreads threads slowly. */
static void stay_on(unsigned number)
{
	cpu_set_t all, one;
	unsigned skipped = 0;

	if (sched_getaffinity(0, sizeof(all), &all) != 0)
		err(1, "sched_getaffinity");
	number %= (unsigned)CPU_COUNT(&all);
	for (unsigned i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &all) || skipped++ != number)
			continue;
		CPU_ZERO(&one);
		CPU_SET(i, &one);
		if (sched_setaffinity(0, sizeof(one), &one) != 0)
			err(1, "sched_setaffinity");
		return;
	}
}

static void *work_in_team(void *context)
{
	struct member *member = context;

	stay_on(member->number);
	member->team->work();	/* first-call costs must not count */
	__atomic_sub_fetch(&member->team->not_ready, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&member->team->not_ready, __ATOMIC_ACQUIRE))
		sched_yield();	/* sleeping threads would not start together */
	member->start = now();
	for (unsigned i = 0; i < member->team->count; i++)
		member->team->work();
	member->end = now();
	return NULL;
}

/* Nanoseconds until each of `threads` threads has called work() `count` times. */
static double time_team(unsigned threads, unsigned count, void (*work)(void))
{
	struct team team = { work, count, threads };
	struct member members[MOST_THREADS];
	double start, end;

	for (unsigned i = 0; i < threads; i++) {
		members[i].team = &team;
		members[i].number = i;
		if (pthread_create(&members[i].thread, NULL, work_in_team, &members[i]) != 0)
			err(1, "pthread_create");
	}
	for (unsigned i = 0; i < threads; i++)
		pthread_join(members[i].thread, NULL);
	start = members[0].start;
	end = members[0].end;
	for (unsigned i = 1; i < threads; i++) {
		start = start < members[i].start ? start : members[i].start;
		end = end > members[i].end ? end : members[i].end;
	}
	return end - start;
}

static void get_append_release(void)
{
	struct buffers_request request = near_target(16);
	struct buffers_item *item = get(&request);

	append16(item);
	buffers_release(item);
}

/* Each thread uses a cache line and memory of its own. */
static void bare_get_append_release(void)
{
	static __thread struct {
		uint32_t word, position;
		char bytes[BUFFER];
	} mine __attribute__((aligned(128)));

	copy16(mine.bytes + (mine.position++ * 16) % BUFFER);
	take_and_release(&mine.word);
}

/* Makes the buffers that `threads` threads need for `count` calls each. */
static void stock(unsigned threads, unsigned count)
{
	enum { MOST = 256 };
	static struct buffers_item *items[MOST];
	struct buffers_request request = near_target(BUFFER);
	unsigned needed = threads * (count * 16 / BUFFER + 2);

	for (unsigned i = 0; i < needed && i < MOST; i++) {
		items[i] = get(&request);
		populate(items[i]);
	}
	for (unsigned i = 0; i < needed && i < MOST; i++)
		buffers_release(items[i]);
}

static double time_stocked(unsigned threads, unsigned count)
{
	stock(threads, count);
	return time_team(threads, count, get_append_release);
}

static struct sample measure_scaling(const struct row *row)
{
	enum { COUNT = 50000 };

	(void)row;
	return (struct sample){
		.value = 2 * time_stocked(1, COUNT) / time_stocked(2, COUNT),
		.limit = 2 * time_team(1, COUNT, bare_get_append_release) /
			 time_team(2, COUNT, bare_get_append_release),
	};
}

static struct sample measure_contended(const struct row *row)
{
	enum { COUNT = 50000 };

	(void)row;
	return (struct sample){
		.value = time_stocked(8, COUNT) / (8 * COUNT),
		.limit = time_stocked(1, COUNT) / COUNT,
	};
}

/*
 * The library itself
 */

static struct sample measure_so_size(const struct row *row)
{
	static const char command[] =
		"strip -o bench/stripped .libs/libreloaded-buffers.so";
	struct stat status;

	(void)row;
	if (system(command) != 0 || stat("bench/stripped", &status) != 0) {
		errx(1, "strip is missing, or the shared library is not built");
	}
	unlink("bench/stripped");
	return (struct sample){ (double)status.st_size / 1024, 96 };
}

/*
 * Yardsticks: ways in which other allocators find memory near a target
 */

/* Copy of struct procmap_query of <linux/fs.h>, since Linux 6.11. */
struct map_query {
	uint64_t size, flags, address, start, end, unused[8];
};
#define MAP_QUERY	_IOWR('f', 17, struct map_query)
#define COVERING_OR_NEXT 0x10

static bool query(int maps, uint64_t address, struct map_query *answer)
{
	*answer = (struct map_query){
		.size = sizeof(*answer), .flags = COVERING_OR_NEXT, .address = address,
	};
	if (ioctl(maps, MAP_QUERY, answer) == 0)
		return true;
	if (errno != ENOENT)
		err(1, "PROCMAP_QUERY (Linux 6.11)");
	return false;
}

static double time_one_query(int maps)
{
	struct map_query answer;

	return TIME(100, query(maps, (uintptr_t)target, &answer)) / 1000;
}

static int open_maps(void)
{
	int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	if (maps < 0)
		err(1, "/proc/self/maps");
	return maps;
}

static struct sample measure_peer_maps(const struct row *row)
{
	static char page[PAGE];
	int maps = open_maps();
	struct sample sample;

	(void)row;
	sample.value = TIME(1, usage_now()) / 1000;
	sample.limit = TIME(1, {
		if (read(maps, page, sizeof(page)) <= 0)
			err(1, "/proc/self/maps");
	}) / 1000;
	close(maps);
	return sample;
}

static void query_all(int maps)
{
	struct map_query answer = { .end = 0 };

	while (query(maps, answer.end, &answer))
		;
}

static struct sample measure_peer_query(const struct row *row)
{
	int maps = open_maps();
	struct sample sample;

	(void)row;
	sample.value = TIME(1, query_all(maps)) / 1000;
	sample.limit = time_one_query(maps);
	close(maps);
	return sample;
}

static bool is_within_reach(const void *page)
{
	size_t distance = (uintptr_t)target > (uintptr_t)page ?
			  (uintptr_t)target - (uintptr_t)page : (uintptr_t)page - (uintptr_t)target;

	return distance < BUFFERS_REACH_BRANCH - PAGE;
}

/*
 * Maps a page near the target by hints, downward because the heap grows above.  Steps of
 * 64 KiB keep the number of attempts low, and pass over smaller gaps.
 */
static void *map_by_hints(void)
{
	uintptr_t hint = (uintptr_t)target & ~(uintptr_t)(BUFFER - 1);
	void *page;

	for (;; hint -= BUFFER) {
		page = mmap((void *)hint, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (page == MAP_FAILED)
			err(1, "mmap");
		if (is_within_reach(page))
			return page;
		munmap(page, PAGE);
	}
}

static struct sample measure_peer_hints(const struct row *row)
{
	void *page = NULL;
	struct sample sample;

	(void)row;
	sample.value = TIME(1, page = map_by_hints()) / 1000;
	munmap(page, PAGE);
	sample.limit = TIME(1, map_next_page()) / 1000;
	return sample;
}

/* Whether MAP_FIXED at this address would replace memory that is in use. */
static bool is_in_use(uintptr_t address)
{
	void *page = mmap((void *)address, PAGE, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (page == MAP_FAILED && errno == EEXIST)
		return true;
	if (page != MAP_FAILED)
		munmap(page, PAGE);
	return false;
}

/* The share of guessed pages within reach of the target that are in use. */
static struct sample measure_peer_fixed_lost(const struct row *row)
{
	enum { COUNT = 10000 };
	uintptr_t lowest = (uintptr_t)target - (BUFFERS_REACH_BRANCH - PAGE);
	unsigned in_use = 0;

	(void)row;
	lowest &= ~(uintptr_t)(PAGE - 1);
	for (unsigned i = 0; i < COUNT; i++)
		in_use += is_in_use(lowest + (uintptr_t)random() %
				    (2 * (BUFFERS_REACH_BRANCH / PAGE)) * PAGE);
	return (struct sample){ (double)in_use * 100 / COUNT, 100 };
}

static void map_fixed(void *page)
{
	if (mmap(page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != page)
		err(1, "mmap");
}

/* MAP_FIXED over a page that the benchmark owns: the call alone, without the guess. */
static struct sample measure_peer_fixed_page(const struct row *row)
{
	void *page = map_by_hints();
	struct sample sample;

	(void)row;
	sample.value = TIME(1, map_fixed(page)) / 1000;
	munmap(page, PAGE);
	sample.limit = TIME(1, map_next_page()) / 1000;
	return sample;
}

/*
 * Full ranges
 */

/* All pages within this reach of the target are mapped. */
static struct buffers_request in_packed(const struct row *row)
{
	return buffers_request_near((const void *)(uintptr_t)target, row->mappings / 4 * PAGE,
				    PAGE);
}

static void refuse(const struct buffers_request *request)
{
	size_t allocated;

	if (buffers_alloc(request, &allocated))
		errx(1, "buffers_alloc: the range is not full");
}

static void prepare_full_range(const struct row *row)
{
	struct buffers_request request = in_packed(row);

	refuse(&request);
}

/* The limit is one question about all pages of the range. */
static struct sample measure_full_range(const struct row *row)
{
	enum { COUNT = 10 };
	struct buffers_request request = in_packed(row);
	uintptr_t start = (request.min_address + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
	size_t size = (request.max_address & ~(uintptr_t)(PAGE - 1)) - start;
	struct sample sample;

	sample.value = TIME(COUNT, refuse(&request)) / 1000;
	sample.limit = TIME(COUNT, {
		if (msync((void *)start, size, MS_ASYNC) != 0)
			err(1, "msync");
	}) / 1000;
	return sample;
}

#define TURNS(n)							\
	{ "get_release_" #n "_turns", "ns", NULL, measure_turns,	\
	  .places = (n), .per_process = 31, .most = 20 }
#define PAGE_NEAR(n)							\
	{ "new_page_near_" #n, "us", prepare_page_near, measure_page_near,	\
	  .mappings = (n), .layout = BELOW, .per_process = 31, .ratio = 1.5 }
#define PAGE_LOW(n)							\
	{ "new_page_low_" #n, "us", prepare_page_low, measure_page_low,	\
	  .mappings = (n), .layout = AREA, .per_process = 31, .ratio = 1.5 }

const struct row rows[] = {
	{ "get_release", "ns", NULL, measure_get_release, .per_process = 31, .ratio = 2.3 },
	{ "get_release_50000", "ns", NULL, measure_get_release,
	  .mappings = 50000, .layout = BELOW, .per_process = 31, .ratio = 2.3 },
	{ "get_release_5000_full", "ns", prepare_full, measure_get_release,
	  .per_process = 31, .ratio = 2.3 },
	{ "get_release_5000_far", "ns", prepare_far, measure_get_release,
	  .per_process = 31, .ratio = 2.3 },
	{ "get_release_5000_turns", "ns", prepare_turns, measure_turns_full,
	  .per_process = 31, .most = 20 },
	TURNS(2),
	TURNS(8),
	TURNS(64),
	{ "get_release_64_buffers", "", NULL, measure_turns_buffers,
	  .places = 64, .per_process = 1, .ratio = 1 },
	{ "get_release_given", "ns", prepare_small_stretch, measure_get_release,
	  .per_process = 31, .ratio = 2.3 },
	{ "get_release_given_far", "ns", prepare_far_stretch, measure_get_release,
	  .per_process = 31, .ratio = 2.3 },
	{ "get_release_given_around", "ns", prepare_far_stretches, measure_get_release,
	  .per_process = 31 },
	{ "give_back_cycle", "ns", NULL, measure_give_back, .per_process = 31 },
	{ "give_back_100000", "ns", prepare_stretches, measure_give_back,
	  .per_process = 31, .most = 100 },
	{ "give_back_100000_any", "ns", prepare_stretches, measure_give_back_any,
	  .per_process = 31 },
	{ "give_back_fragmentation", "x", NULL, measure_fragmentation,
	  .per_process = 1, .most = 1.25 },
	{ "append16", "ns", NULL, measure_append16, .per_process = 31, .most = 2.5 },
	{ "rx_append16", "us", NULL, measure_rx_append16, .per_process = 31, .ratio = 1.3 },
	{ "rx_append16_view", "ns", NULL, measure_rx_append16_view, .per_process = 31, .most = 5 },
	{ "protect_cycle", "us", NULL, measure_protect, .per_process = 31, .ratio = 1.3 },
	{ "protect_cycle_mdwe", "us", forbid_mprotect, measure_protect_mdwe,
	  .per_process = 31, .ratio = 2 },
	{ "arena_get_release", "ns", NULL, measure_arena_get_release, .per_process = 31 },
	{ "arena_fork8_throughput", "M/s", NULL, measure_arena_fork8, .per_process = 31 },
	{ "arena_huge_pages", "ns", NULL, measure_huge_pages, .per_process = 1 },
	PAGE_NEAR(50),
	PAGE_NEAR(1000),
	PAGE_NEAR(10000),
	PAGE_NEAR(50000),
	PAGE_LOW(50),
	PAGE_LOW(50000),
	{ "first_get", "us", prepare_first_get, measure_first_get, .per_process = 1, .ratio = 2 },
	{ "first_get_50000", "us", prepare_first_get, measure_first_get,
	  .mappings = 50000, .layout = AREA, .per_process = 1, .ratio = 2.5 },
	{ "first_get_packed_50000", "us", prepare_first_get, measure_first_get,
	  .mappings = 50000, .layout = PACKED, .per_process = 1 },
	{ "first_get_files", "us", prepare_files, measure_first_get_files,
	  .per_process = 31, .ratio = 1.5 },
	{ "full_range_500", "us", prepare_full_range, measure_full_range,
	  .mappings = 500, .layout = PACKED, .per_process = 31, .ratio = 1.5 },
	{ "full_range_50000", "us", prepare_full_range, measure_full_range,
	  .mappings = 50000, .layout = PACKED, .per_process = 31, .ratio = 1.5 },
	{ "alloc_free_50", "us", NULL, measure_alloc_free,
	  .mappings = 50, .layout = BELOW, .per_process = 31 },
	{ "alloc_free_50000", "us", NULL, measure_alloc_free,
	  .mappings = 50000, .layout = BELOW, .per_process = 31 },
	{ "small64_mapped_extra", "KiB", NULL, measure_mapped_extra, .per_process = 1, .most = 64 },
	{ "small64_mappings", "", NULL, measure_mappings, .per_process = 1, .most = 3 },
	{ "mid1500_waste", "%", NULL, measure_waste, .per_process = 1, .most = 3 },
	{ "mid1500_mappings", "", NULL, measure_mid_mappings, .per_process = 1, .most = 3 },
	{ "threads2_scaling", "x", NULL, measure_scaling, .per_process = 31, .least = 1.7 },
	{ "threads8_contended", "ns", NULL, measure_contended, .per_process = 31 },
	{ "so_size", "KiB", NULL, measure_so_size, .per_process = 1, .most = 96 },
	{ "peer_maps_50", "us", NULL, measure_peer_maps,
	  .mappings = 50, .layout = BELOW, .per_process = 31 },
	{ "peer_maps_50000", "us", NULL, measure_peer_maps,
	  .mappings = 50000, .layout = BELOW, .per_process = 31 },
	{ "peer_query_50", "us", NULL, measure_peer_query,
	  .mappings = 50, .layout = BELOW, .per_process = 31 },
	{ "peer_query_50000", "us", NULL, measure_peer_query,
	  .mappings = 50000, .layout = BELOW, .per_process = 31 },
	{ "peer_hints_50", "us", NULL, measure_peer_hints,
	  .mappings = 50, .layout = BELOW, .per_process = 31 },
	{ "peer_hints_50000", "us", NULL, measure_peer_hints,
	  .mappings = 50000, .layout = BELOW, .per_process = 31 },
	{ "peer_fixed_50", "us", NULL, measure_peer_fixed_page,
	  .mappings = 50, .layout = BELOW, .per_process = 31 },
	{ "peer_fixed_50000", "us", NULL, measure_peer_fixed_page,
	  .mappings = 50000, .layout = BELOW, .per_process = 31 },
	{ "peer_fixed_lost_50000", "%", NULL, measure_peer_fixed_lost,
	  .mappings = 50000, .layout = BELOW, .per_process = 31 },
};
const size_t row_count = sizeof(rows) / sizeof(rows[0]);
