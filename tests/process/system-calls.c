/* SPDX-License-Identifier: MIT */
/*
 * process/system-calls.c: the system calls of each function are those that the manual lists
 *
 * The section "System calls" of man/buffers.7 has an item for each case below.  Its first line
 * lists the calls that the case always makes, the line that begins with "Also" those that it may
 * make on another kernel or in another process.
 */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/restrict.h"
#include "support/sandbox.h"
#include "support/supervise.h"
#include "support/support.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/*
 * Names of system calls.  Processors that have a call in two sizes use the name of the first.
 */

static const struct { const char *name; int number; } names[] = {
#define CALL(name) { #name, SYS_##name }
	CALL(brk), CALL(close), CALL(exit_group), CALL(fchmod), CALL(fcntl), CALL(flock),
	CALL(futex), CALL(get_robust_list), CALL(getdents64), CALL(getpid), CALL(getrandom),
	CALL(getresgid), CALL(getresuid), CALL(gettid), CALL(ioctl), CALL(kill), CALL(linkat),
	CALL(lseek), CALL(madvise), CALL(memfd_create), CALL(mkdirat), CALL(mprotect),
	CALL(mremap), CALL(msync), CALL(munmap), CALL(openat), CALL(prctl), CALL(preadv),
	CALL(prlimit64), CALL(process_vm_readv), CALL(read), CALL(renameat2),
	CALL(personality), CALL(rt_sigprocmask), CALL(ftruncate),
	CALL(clock_nanosleep), CALL(sched_yield), CALL(statx), CALL(unlinkat), CALL(write),
	{ "pwrite64", SYS_WRITE_MEMORY },
#ifdef SYS_riscv_flush_icache
	CALL(riscv_flush_icache),
#endif
#ifdef __arm__
	{ "cacheflush", 0 },	/* its number is beyond all others: see record_call() */
#endif
#ifdef SYS_clock_gettime
	CALL(clock_gettime),
#endif
#ifdef SYS__llseek
	{ "lseek", SYS__llseek },
#endif
#ifdef SYS_clock_nanosleep_time64
	{ "clock_nanosleep", SYS_clock_nanosleep_time64 },
#endif
#ifdef SYS_futex_time64
	{ "futex", SYS_futex_time64 },
#endif
#ifdef SYS_clock_gettime64
	{ "clock_gettime", SYS_clock_gettime64 },
#endif
#ifdef SYS_fstatfs64
	{ "fstatfs", SYS_fstatfs64 },
#else
	CALL(fstatfs),
#endif
#ifdef SYS_ftruncate64
	{ "ftruncate", SYS_ftruncate64 },
#endif
#ifdef SYS_getresuid32
	{ "getresuid", SYS_getresuid32 }, { "getresgid", SYS_getresgid32 },
#endif
#ifdef SYS_mmap
	CALL(mmap),
#endif
#ifdef SYS_mmap2
	{ "mmap", SYS_mmap2 },
#endif
#ifdef SYS_ugetrlimit
	{ "prlimit64", SYS_ugetrlimit },
#endif
#undef CALL
};

static const char *name_of(int number)
{
	static char unknown[24];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].number == number)
			return names[i].name;
	snprintf(unknown, sizeof(unknown), "number %d", number);
	return unknown;
}

/*
 * What the manual lists
 */

struct item {
	char always[800], also[800];	/* each name with a blank before and behind it */
};

static void add_names(char *list, size_t size, const char *line)
{
	size_t length = strlen(list);

	if (length == 0)
		list[length++] = ' ';
	for (; *line && length + 2 < size; line++)
		list[length++] = isalnum((unsigned char)*line) || *line == '_' ? *line : ' ';
	list[length++] = ' ';
	list[length] = '\0';
}

static FILE *open_manual(void)
{
	const char *top = getenv("top_srcdir");
	char path[4096];

	snprintf(path, sizeof(path), "%s/man/buffers.7", top ? top : ".");
	return fopen(path, "re");
}

#define NO_MANUAL "there is no man/buffers.7 in top_srcdir"
static bool has_manual(void)
{
	FILE *manual = open_manual();

	return manual && fclose(manual) == 0;
}

static bool read_item(const char *title, struct item *item)
{
	FILE *manual = open_manual();
	bool is_inside = false;
	bool is_found = false;
	char *list = item->always;
	char line[200];

	*item = (struct item){ "", "" };
	while (manual && fgets(line, sizeof(line), manual)) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '.')
			is_inside = strncmp(line, ".It ", 4) == 0 && strcmp(line + 4, title) == 0;
		else if (is_inside && strncmp(line, "Also ", 5) == 0)
			list = item->also;
		if (is_inside && line[0] != '.')
			add_names(list, sizeof(item->always), line);
		is_found = is_found || is_inside;
	}
	if (manual)
		fclose(manual);
	return is_found;
}

static bool has_name(const char *list, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = strstr(list, name); at; at = strstr(at + 1, name))
		if (at[-1] == ' ' && at[length] == ' ')
			return true;
	return false;
}

/*
 * What the kernel sees
 */

enum { MOST_NUMBERS = 8192 };

struct record {
	bool is_seen[MOST_NUMBERS];
};

static struct supervision supervision;

static int record_call(int number, void *context)
{
	struct record *record = context;

	record->is_seen[number < MOST_NUMBERS ? number : 0] = true;
	return 0;
}

static bool was_called(const struct record *record, const char *name)
{
	for (int number = 0; number < MOST_NUMBERS; number++)
		if (record->is_seen[number] && strcmp(name, name_of(number)) == 0)
			return true;
	return false;
}

static void check_listed(const char *title, const struct item *item, const struct record *record)
{
	for (int number = 0; number < MOST_NUMBERS; number++)
		if (record->is_seen[number] && number != SYS_exit_group)
			ck_assert_msg(has_name(item->always, name_of(number)) ||
				      has_name(item->also, name_of(number)),
				      "%s: the manual does not list %s", title, name_of(number));
}

static void compare(const char *title, const struct record *record)
{
	struct item item;
	char *left, *name, *rest;

	ck_assert_msg(read_item(title, &item), "the manual has no item \"%s\"", title);
	check_listed(title, &item, record);
	left = rest = strdup(item.always);
	while ((name = strtok_r(rest, " ", &rest)))
		if (strcmp(name, "none") != 0)
			ck_assert_msg(was_called(record, name), "%s: %s was not called", title, name);
	free(left);
}

/*
 * Cases: each prepares itself, then calls between begin() and end()
 */

static void begin(void)
{
	supervise_begin(&supervision);
}

static void end(void)
{
	supervise_end(&supervision);
}

static const unsigned kinds[] = { 0, BUFFERS_RW, BUFFERS_RX };

static struct buffers_item *get(unsigned kind, size_t size)
{
	return buffers_get(&(struct buffers_request){ .size = size, .flags = kind });
}

static int get_known(void *context)
{
	(void)context;
	for (int i = 0; i < 3; i++)
		buffers_release(get(kinds[i], 64));
	for (int i = 0; i < 3; i++) {
		begin();
		struct buffers_item *item = get(kinds[i], 64);

		buffers_release(item);
		end();
		STEP(item);
	}
	return 0;
}

static int get_new(void *context)
{
	(void)context;
	for (int i = 0; i < 3; i++)
		STEP(get(kinds[i], 64 * KIB));
	begin();
	for (int i = 0; i < 3; i++)
		STEP(get(kinds[i], 64 * KIB));
	STEP(buffers_get_near((const void *)(uintptr_t)get_new, 64 * KIB));
	end();
	return 0;
}

static int use_item(struct buffers_item *item)
{
	struct buffers_request request = buffers_request_near(item, 2, 1);

	STEP(buffers_append(item, "0123456789", 10));
	STEP(buffers_append_code(item, "x", 1));
	STEP(buffers_append(item, "", 0));
	STEP(buffers_reserve(item, 8, 8));
	STEP(buffers_next(item) && buffers_remaining(item));
	STEP(buffers_base(item) && buffers_size(item));
	STEP(buffers_request_narrow(&request, item, 1) == 0);
	return 0;
}

static int use_writable(void *context)
{
	(void)context;
	for (int i = 0; i < 2; i++) {
		struct buffers_item *item = get(kinds[i], 64);
		int line;

		STEP(item);
		begin();
		line = use_item(item);
		buffers_release(item);
		end();
		STEP(line == 0);
	}
	return 0;
}

static int use_rx(void *context)
{
	struct buffers_item *item = get(BUFFERS_RX, 64);

	(void)context;
	STEP(item && buffers_append(item, "first", 5));
	begin();
	STEP(buffers_append(item, "second", 6));
	end();
	return 0;
}

static void keep(void *bytes, size_t size, void *context)
{
	(void)bytes;
	(void)size;
	(void)context;
}

/* Overwrites bytes that change at once, and others. */
static int overwrite(char *dst)
{
	STEP(buffers_overwrite(dst, "01234567", 8) == 0);
	STEP(buffers_overwrite(dst + 1, "abc", 3) == 0);
	STEP(buffers_overwrite_with(dst, 4, keep, NULL) == 0);
	STEP(buffers_overwrite_with(dst, 300, keep, NULL) == 0);
	return 0;
}

static int overwrite_in_buffer(void *context)
{
	(void)context;
	for (int i = 0; i < 2; i++) {
		struct buffers_item *item = get(kinds[i], 400);
		char *dst = buffers_reserve(item, 400, 8);
		int line;

		begin();
		line = overwrite(dst);
		end();
		STEP(line == 0);
	}
	return 0;
}

static struct buffers_arena *arena_of(unsigned flags)
{
	return buffers_arena_create(&(struct buffers_request){ .size = MIB }, flags);
}

static struct buffers_item *get_viewed(void)
{
	return buffers_arena_get(arena_of(BUFFERS_RX | BUFFERS_VIEW), 400, 8);
}

static int append_to_viewed(void *context)
{
	struct buffers_item *item = get_viewed();

	(void)context;
	begin();
	STEP(buffers_append(item, "first", 5));
	STEP(buffers_append_code(item, "0123456789012345", 16));
	end();
	return 0;
}

static int overwrite_viewed(void *context)
{
	char *dst = buffers_reserve(get_viewed(), 400, 8);

	(void)context;
	begin();
	STEP(overwrite(dst) == 0);
	end();
	return 0;
}

static int find_view(void *context)
{
	char *address = buffers_next(get_viewed());

	(void)context;
	begin();
	STEP(buffers_view(address));
	end();
	return 0;
}

static int overwrite_private(void *context)
{
	size_t allocated;
	struct buffers_request request = { .size = 400 };
	char *dst = buffers_alloc(&request, &allocated);

	(void)context;
	STEP(dst);
	begin();
	STEP(overwrite(dst) == 0);
	end();
	return 0;
}

static int overwrite_rx(void *context)
{
	struct buffers_item *item = get(BUFFERS_RX, 400);
	char *dst = buffers_reserve(item, 400, 8);

	(void)context;
	STEP(overwrite(dst) == 0);
	begin();
	STEP(overwrite(dst) == 0);
	end();
	return 0;
}

static int flush(void *context)
{
	char *code = buffers_base(get(0, 64));

	(void)context;
	begin();
	buffers_flush_icache(code, 64);
	end();
	return 0;
}

static int alloc(void *context)
{
	struct buffers_request request = { .size = 64 };
	size_t allocated;

	(void)context;
	for (int i = 0; i < 3; i++) {
		request.flags = kinds[i];
		STEP(buffers_alloc(&request, &allocated));
		begin();
		STEP(buffers_alloc(&request, &allocated));
		end();
	}
	return 0;
}

static int alloc_viewed(void *context)
{
	struct buffers_request request = { .size = 64, .flags = BUFFERS_RX | BUFFERS_VIEW };
	size_t allocated;

	(void)context;
	STEP(buffers_alloc(&request, &allocated));
	begin();
	STEP(buffers_alloc(&request, &allocated));
	end();
	return 0;
}

static int free_it(void *context)
{
	struct buffers_request request = { .size = 64 };
	size_t allocated;
	void *memory = buffers_alloc(&request, &allocated);

	(void)context;
	begin();
	STEP(buffers_free(memory, allocated) == 0);
	end();
	return 0;
}

static int open_and_close(unsigned kind)
{
	struct buffers_request request = { .size = 64, .flags = kind };
	size_t allocated;
	char *memory = buffers_alloc(&request, &allocated);

	for (int i = 0; i < 2; i++) {
		if (i == 1)
			begin();
		STEP(buffers_protect(memory, allocated, BUFFERS_RW) == 0);
		memory[0] = 1;
		STEP(buffers_protect(memory, allocated, BUFFERS_RX) == 0);
	}
	end();
	return 0;
}

static int protect_windows(void *context)
{
	(void)context;
	for (int i = 0; i < 3; i++)
		STEP(open_and_close(kinds[i]) == 0);
	return 0;
}

static int protect_under_policy(void *context)
{
	(void)context;
	STEP(refuse_exec_gain() || refuse_new_exec(EPERM));
	STEP(open_and_close(BUFFERS_RW) == 0);
	return open_and_close(BUFFERS_RX);
}

static int create_arenas(void *context)
{
	(void)context;
	STEP(arena_of(0));
	begin();
	for (int i = 0; i < 3; i++) {
		STEP(arena_of(kinds[i]));
		STEP(arena_of(kinds[i] | BUFFERS_ARENA_FORK_SHARED));
	}
	end();
	return 0;
}

static int get_from_arenas(void *context)
{
	(void)context;
	for (unsigned flags = 0; flags <= BUFFERS_ARENA_FORK_SHARED;
	     flags += BUFFERS_ARENA_FORK_SHARED) {
		struct buffers_arena *arena = arena_of(flags);

		buffers_release(buffers_arena_get(arena, 64, 1));
		begin();
		for (int i = 0; i < 10; i++)	/* an item that was used, then new ones */
			STEP(buffers_append(buffers_arena_get(arena, 64, 1), "x", 1));
		buffers_release(buffers_arena_get(arena, 64, 1));
		end();
	}
	return 0;
}

static int append_to_shared_rx(void *context)
{
	struct buffers_arena *arena = arena_of(BUFFERS_RX | BUFFERS_ARENA_FORK_SHARED);
	struct buffers_item *item = buffers_arena_get(arena, 64, 1);

	(void)context;
	STEP(buffers_append(item, "first", 5));
	begin();
	STEP(buffers_append(item, "second", 6));
	end();
	return 0;
}

static int destroy_arenas(void *context)
{
	struct buffers_arena *private = arena_of(0);
	struct buffers_arena *shared = arena_of(BUFFERS_ARENA_FORK_SHARED);

	(void)context;
	buffers_release(buffers_arena_get(shared, 64, 1));
	begin();
	STEP(buffers_arena_destroy(private) == 0);
	STEP(buffers_arena_destroy(shared) == 0);
	end();
	return 0;
}

/* A piece of a kind, small or with whole pages. */
static char *take_piece(unsigned kind, size_t size)
{
	struct buffers_item *item = get(kind, size);
	char *piece = item ? buffers_reserve(item, size, 1) : NULL;

	buffers_release(item);
	return piece;
}

/* Room for nodes was mapped before. */
static int give_back_pieces(unsigned kind, size_t size)
{
	char *first = take_piece(kind, 2 * size);
	char *second = take_piece(kind, size);
	int result;

	STEP(first && second && buffers_give_back(first, 16) == 0);
	begin();
	result = buffers_give_back(second, size) | buffers_give_back(first + size, size);
	end();
	STEP(result == 0);
	return 0;
}

static int give_back_writable(void *context)
{
	(void)context;
	STEP(give_back_pieces(0, 64) == 0);
	STEP(give_back_pieces(BUFFERS_RW, 20 * KIB) == 0);
	return 0;
}

static int give_back_rx(void *context)
{
	(void)context;
	STEP(give_back_pieces(BUFFERS_RX, 64) == 0);
	STEP(give_back_pieces(BUFFERS_RX, 20 * KIB) == 0);
	return 0;
}

static int get_given(void *context)
{
	(void)context;
	for (int i = 0; i < 3; i++) {
		char *piece = take_piece(kinds[i], 64);
		struct buffers_item *item;

		STEP(piece && buffers_give_back(piece, 64) == 0);
		begin();
		item = get(kinds[i], 64);
		buffers_release(item);
		end();
		STEP(item);
	}
	return 0;
}

static int ignore_buffer(const struct buffers_info *info, void *context)
{
	(void)info;
	(void)context;
	return 0;
}

static int walk(void *context)
{
	(void)context;
	for (int i = 0; i < 3; i++)
		STEP(get(kinds[i], 64));
	begin();
	STEP(buffers_walk(ignore_buffer, NULL) == 0);
	end();
	return 0;
}

static int first_calls(void *context)
{
	(void)context;
	begin();
	for (int i = 0; i < 3; i++)
		STEP(get(kinds[i], 64));
	end();
	return 0;
}

static int exit_normally(void *context)
{
	(void)context;
	STEP(get(0, 64));
	fflush(NULL);
	begin();
	return 0;		/* the program ends under supervision */
}

static const struct {
	const char *title;
	int (*body)(void *context);
} cases[] = {
	{ "buffers_get and buffers_get_near, known buffer", get_known },
	{ "buffers_get and buffers_get_near, new buffer", get_new },
	{ "buffers_get and buffers_get_near, room that was given back", get_given },
	{ "functions of an item, RWX and RW memory", use_writable },
	{ "buffers_give_back, RWX and RW memory", give_back_writable },
	{ "buffers_give_back, RX memory", give_back_rx },
	{ "buffers_append and buffers_append_code, RX memory", use_rx },
	{ "buffers_append and buffers_append_code, RX memory of a shared arena", append_to_shared_rx },
	{ "buffers_append and buffers_append_code, memory with a view", append_to_viewed },
	{ "buffers_overwrite and buffers_overwrite_with, memory with a view", overwrite_viewed },
	{ "buffers_view, memory with a view", find_view },
	{ "buffers_overwrite and buffers_overwrite_with, known RWX or RW buffer", overwrite_in_buffer },
	{ "buffers_overwrite and buffers_overwrite_with, other RWX or RW memory", overwrite_private },
	{ "buffers_overwrite and buffers_overwrite_with, RX memory", overwrite_rx },
	{ "buffers_flush_icache", flush },
	{ "buffers_alloc", alloc },
	{ "buffers_alloc, memory with a view", alloc_viewed },
	{ "buffers_free", free_it },
	{ "buffers_protect", protect_windows },
	{ "buffers_protect, where policy refuses mprotect", protect_under_policy },
	{ "buffers_arena_create", create_arenas },
	{ "buffers_arena_get", get_from_arenas },
	{ "buffers_arena_destroy", destroy_arenas },
	{ "buffers_walk", walk },
	{ "first call of a copy for each kind", first_calls },
	{ "exit", exit_normally },
};
enum { CASES = sizeof(cases) / sizeof(cases[0]) };

static int run_case(void *context)
{
	int number = *(int *)context;

	if (cases[number].body == exit_normally) {
		STEP(supervise_this_thread(&supervision, NULL, 0));
		return exit_normally(NULL);
	}
	return run_supervised(&supervision, cases[number].body, NULL);
}

START_TEST(system_calls_are_those_of_the_manual)
{
	struct record *record = map_memory(sizeof(*record), true);
	bool is_shared = cases[_i].body == append_to_shared_rx ||
			 cases[_i].body == destroy_arenas || cases[_i].body == create_arenas ||
			 cases[_i].body == get_from_arenas;
	bool is_viewed = strstr(cases[_i].title, "a view");

	SKIP_IF(!has_manual(), NO_MANUAL);
	SKIP_IF(!can_supervise(), NO_LISTENER);
	SKIP_IF(is_shared && !has_robust_locks(), NO_ROBUST_LOCKS);
	SKIP_IF(is_viewed && !can_map_twice(), "memory cannot be mapped twice here");
	SKIP_IF(!sandbox_tmp(NULL), "the kernel gives this user no private /tmp");
	SKIP_IF(is_coverage() && cases[_i].body == exit_normally, "gcov writes its counts at exit");
	supervision = (struct supervision){ .judge = record_call, .context = record };
	run_child(run_case, &_i);
	compare(cases[_i].title, record);
}
END_TEST

/* Lets this process, which has a private /tmp, see vm.overcommit_memory=2. */
static bool pretend_strict_accounting(void)
{
	FILE *file = fopen("/tmp/overcommit_memory", "we");

	return file && fputs("2\n", file) >= 0 && fclose(file) == 0 &&
	       mount("/tmp/overcommit_memory", "/proc/sys/vm/overcommit_memory", NULL, MS_BIND,
		     NULL) == 0;
}

/* A file moves to another descriptor if a standard stream is closed. */
static int create_strictly_accounted(void *context)
{
	close(STDIN_FILENO);
	return create_arenas(context);
}

static int run_strictly_accounted(void *context)
{
	return run_supervised(&supervision, create_strictly_accounted, context);
}

START_TEST(system_calls_of_strictly_accounted_memory_are_those_of_the_manual)
{
	static const char title[] = "buffers_arena_create";
	struct record *record = map_memory(sizeof(*record), true);
	struct item item;

	SKIP_IF(!has_manual(), NO_MANUAL);
	SKIP_IF(!can_supervise(), NO_LISTENER);
	SKIP_IF(!has_robust_locks(), NO_ROBUST_LOCKS);
	SKIP_IF(!sandbox_tmp(NULL), "the kernel gives this user no private /tmp");
	SKIP_IF(!pretend_strict_accounting(), "only root can mount a file");
	supervision = (struct supervision){ .judge = record_call, .context = record };
	run_child(run_strictly_accounted, NULL);
	ck_assert(was_called(record, "memfd_create"));
	ck_assert(read_item(title, &item));
	check_listed(title, &item, record);
}
END_TEST

START_TEST(manual_has_no_other_items)
{
	FILE *manual = open_manual();
	bool is_inside = false;
	unsigned items = 0;
	char line[200];

	SKIP_IF(!manual, NO_MANUAL);
	while (fgets(line, sizeof(line), manual)) {
		if (strncmp(line, ".Ss", 3) == 0)
			is_inside = strcmp(line, ".Ss System calls\n") == 0;
		items += is_inside && strncmp(line, ".It ", 4) == 0;
	}
	fclose(manual);
	ck_assert_uint_eq(items, CASES);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("process/system-calls");
	TCase *all = tcase_create("manual");

	if (is_asan() || is_tsan())
		skip_all("the sanitizer's runtime makes system calls");
	tcase_set_tags(all, "fork");
	tcase_add_loop_test(all, system_calls_are_those_of_the_manual, 0, CASES);
	tcase_add_test(all, system_calls_of_strictly_accounted_memory_are_those_of_the_manual);
	tcase_add_test(all, manual_has_no_other_items);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
