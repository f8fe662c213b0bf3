/* SPDX-License-Identifier: MIT */
/* api/kinds.c: RWX, RW and RX memory; each request gets memory of its own kind */

#include "config.h"
#include "support/kinds.h"
#include "support/code.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#if CAN_FORK
# include "support/forged-files.h"
# include "support/sandbox.h"
# include <sys/wait.h>
# include <unistd.h>
#endif

/*
 * Permissions of each kind
 */

static void check_permissions(const struct watch *watch, const struct kind *kind,
			      const struct buffers_request *request)
{
	struct buffers_item *item = buffers_get(request);
	size_t allocated;
	void *memory;

	ck_assert_ptr_nonnull(item);
	ck_assert_uint_eq((uintptr_t)buffers_next(item) %
			  (request->alignment ? request->alignment : 1), 0);
	ck_assert_uint_ge((uintptr_t)buffers_next(item), request->min_address);
	ck_assert(watch_is_mapped_as(watch, buffers_base(item), buffers_size(item),
				     kind->permissions));
	ck_assert_ptr_nonnull(buffers_append(item, "bytes", 5));
	ck_assert(watch_is_mapped_as(watch, buffers_base(item), buffers_size(item),
				     kind->permissions));
	memory = buffers_alloc(request, &allocated);
	ck_assert_ptr_nonnull(memory);
	ck_assert(watch_is_mapped_as(watch, memory, allocated, kind->permissions));
	ck_assert_int_eq(buffers_overwrite(memory, "bytes", 5), 0);
	ck_assert_mem_eq(memory, "bytes", 6);
	ck_assert(watch_is_mapped_as(watch, memory, allocated, kind->permissions));
}

START_TEST(memory_of_a_kind_has_its_permissions_everywhere)
{
	const struct kind *kind = &kinds[_i];
	const void *code = (const void *)(uintptr_t)getenv;
	struct buffers_request requests[] = {
		{ .size = 1 },
		{ .size = 3 * MIB, .alignment = 64 * KIB },
		{ .size = 100, .max_address = 2 * GIB, .alignment = 4096 },
		{ .size = 1000, .min_address = 64 * MIB, .max_address = GIB,
		  .target = (const void *)(uintptr_t)(512 * MIB) },
		buffers_request_near(&kinds, BUFFERS_REACH_BRANCH, 64),
		buffers_request_near(code, 256 * MIB, 5000),
	};
	struct watch watch;

	ck_assert(watch_open(&watch));
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		requests[i].flags = kind->flags;
		check_permissions(&watch, kind, &requests[i]);
	}
	watch_close(&watch);
}
END_TEST

#ifdef HAVE_CODE
static void call_it(void *code)
{
	call_code(code);
}

/* qemu-user reports no fault address on POWER. */
static bool faults_when_called(void *code)
{
	void *address;

	return does_fault(call_it, code, &address) &&
	       (address == code || (is_emulated() && !address));
}

static int execute_each(void *number)
{
	const struct kind *kind = &kinds[*(int *)number];
	struct buffers_request request = { .size = 64, .flags = kind->flags };
	struct code code = code_of(42);
	size_t allocated;
	void *functions[4];

	functions[0] = buffers_append_code(get_kind(kind, 64), code.bytes, CODE_SIZE);
	functions[1] = buffers_append(get_kind(kind, 64), code.bytes, CODE_SIZE);
	functions[2] = buffers_reserve(get_kind(kind, 64), CODE_SIZE, 8);
	functions[3] = buffers_alloc(&request, &allocated);
	for (unsigned i = 0; i < 4; i++) {
		STEP(functions[i]);
		if (i >= 2)
			STEP(buffers_overwrite(functions[i], code.bytes, CODE_SIZE) == 0);
		if (kind->permissions[2] == 'x')
			STEP(call_code(functions[i]) == 42);
		else
			STEP(faults_when_called(functions[i]));
	}
	return 0;
}

START_TEST(only_rwx_and_rx_can_be_executed)
{
	run_in_new_process(execute_each, &_i, sizeof(_i));
}
END_TEST
#endif

static void write_one(void *byte)
{
	*(volatile unsigned char *)byte = 1;
}

static bool faults_when_written(unsigned char *byte)
{
	void *address;

	return does_fault(write_one, byte, &address) && address == byte;
}

static int write_each(void *number)
{
	const struct kind *kind = &kinds[*(int *)number];
	struct buffers_request request = { .size = 64, .flags = kind->flags };
	bool is_writable = kind->permissions[1] == 'w';
	size_t allocated;
	unsigned char *destinations[4];

	destinations[0] = buffers_append(get_kind(kind, 64), "12345678", 8);
	destinations[1] = buffers_reserve(get_kind(kind, 64), 8, 8);
	destinations[2] = buffers_next(get_kind(kind, 64));
	destinations[3] = buffers_alloc(&request, &allocated);
	for (unsigned i = 0; i < 4; i++) {
		STEP(destinations[i]);
		STEP(faults_when_written(destinations[i]) == !is_writable);
		if (i != 2)
			STEP(buffers_overwrite(destinations[i], "abcdefgh", 8) == 0);
		STEP(faults_when_written(destinations[i]) == !is_writable);
	}
	return 0;
}

START_TEST(only_rwx_and_rw_can_be_written_by_address)
{
	run_in_new_process(write_each, &_i, sizeof(_i));
}
END_TEST

/*
 * Separation of the kinds
 */

struct list {
	size_t count;
	struct buffers_info buffers[4000];
};

static int add_to_list(const struct buffers_info *info, void *context)
{
	struct list *list = context;

	ck_assert_uint_lt(list->count, sizeof(list->buffers) / sizeof(list->buffers[0]));
	if (!is_rest_of_locator_page(info))
		list->buffers[list->count++] = *info;
	return 0;
}

static void list_all(struct list *list)
{
	list->count = 0;
	errno = 1234;
	ck_assert_int_eq(buffers_walk(add_to_list, list), 0);
	ck_assert_int_eq(errno, 1234);
}

static void check_flags_are_einval(unsigned flags)
{
	struct buffers_request request = { .size = 1, .flags = flags };
	size_t allocated = 77;

	errno = 0;
	ck_assert_ptr_null(buffers_get(&request));
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_ptr_null(buffers_alloc(&request, &allocated));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_uint_eq(allocated, 77);
}

START_TEST(unknown_or_contradictory_flags_are_einval_and_change_nothing)
{
	static struct list before, after;
	struct watch watch;
	size_t mappings;

	ck_assert(watch_open(&watch));
	for (unsigned i = 0; i < KINDS; i++)
		if (_i)		/* the library then has a cached item to try first */
			buffers_release(get_kind(&kinds[i], 1));
	list_all(&before);
	mappings = watch_count(&watch);
	check_flags_are_einval(BUFFERS_RW | BUFFERS_RX);
	for (unsigned bit = 2; bit < 32; bit++)
		for (unsigned i = 0; i < KINDS; i++)
			if ((1u << bit | kinds[i].flags) != (BUFFERS_RX | BUFFERS_VIEW))
				check_flags_are_einval(1u << bit | kinds[i].flags);
	list_all(&after);
	ck_assert_uint_eq(after.count, before.count);
	ck_assert_mem_eq(after.buffers, before.buffers, before.count * sizeof(before.buffers[0]));
	if (!is_asan() && !is_tsan())
		ck_assert_uint_eq(watch_count(&watch), mappings);
	watch_close(&watch);
}
END_TEST

/* The library tries the thread's cached item first, which may be of another kind. */
START_TEST(cached_item_is_given_for_its_kind_only)
{
	struct buffers_item *items[KINDS];

	for (unsigned i = 0; i < KINDS; i++) {
		items[i] = get_kind(&kinds[i], 16);
		for (unsigned j = 0; j < i; j++)
			ck_assert_ptr_ne(items[i], items[j]);
		buffers_release(items[i]);
	}
	for (unsigned i = 0; i < 1000; i++) {
		unsigned cached = i * i % 7 % KINDS;
		unsigned next = i % KINDS;

		buffers_release(get_kind(&kinds[cached], 16));
		ck_assert_ptr_eq(get_kind(&kinds[next], 16), items[next]);
		buffers_release(items[next]);
	}
}
END_TEST

/* The kind of each buffer, recorded independently of the library. */
enum { MOST_BUFFERS = 1 << 14 };
static struct known {
	uintptr_t base;
	unsigned kind;		/* 1 + the flags that buffers_walk() must report */
} known[MOST_BUFFERS];

/* Records the buffer's kind; false if it had another one before.  Threads may call it at once. */
static bool has_kept_its_kind(const void *base, unsigned listed)
{
	size_t i = (size_t)((uintptr_t)base >> 12) * 2654435761u % MOST_BUFFERS;

	for (;; i = (i + 1) % MOST_BUFFERS) {
		uintptr_t there = 0;
		unsigned kind = 0;

		if (__atomic_compare_exchange_n(&known[i].base, &there, (uintptr_t)base, false,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED) ||
		    there == (uintptr_t)base)
			return __atomic_compare_exchange_n(&known[i].kind, &kind, listed + 1,
							   false, __ATOMIC_RELAXED,
							   __ATOMIC_RELAXED) ||
			       kind == listed + 1;
	}
}

static size_t count_known(void)
{
	size_t count = 0;

	for (size_t i = 0; i < MOST_BUFFERS; i++)
		count += known[i].base != 0;
	return count;
}

static struct buffers_request random_request(uint64_t *seed, const struct kind *kind)
{
	size_t size = 1 + random_below(seed, random_below(seed, 20) ? 600 : 100 * KIB);
	struct buffers_request request = { .size = size };

	switch (random_below(seed, 4)) {
	case 0:
		request.max_address = 2 * GIB;
		break;
	case 1:
		request = buffers_request_near(&known, BUFFERS_REACH_BRANCH, size);
		break;
	case 2:
		request.min_address = 64 * MIB + 16 * MIB * random_below(seed, 16);
		request.max_address = request.min_address + 16 * MIB;
		break;
	}
	request.alignment = (size_t)1 << random_below(seed, 10);
	request.flags = kind->flags;
	return request;
}

static const struct kind *random_kind(uint64_t *seed)
{
	return &kinds[random_below(seed, KINDS)];
}

/* Allocates memory, which must overlap no buffer, and frees it in half of the calls. */
static void allocate_one(uint64_t *seed, const struct kind *kind)
{
	struct buffers_request request = random_request(seed, kind);
	static struct list list;
	size_t allocated;
	char *memory = buffers_alloc(&request, &allocated);

	ck_assert_ptr_nonnull(memory);
	list_all(&list);
	for (size_t i = 0; i < list.count; i++)
		ck_assert((char *)list.buffers[i].base + list.buffers[i].size <= memory ||
			  memory + allocated <= (char *)list.buffers[i].base);
	ck_assert_int_eq(buffers_overwrite(memory + allocated - 3, "end", 3), 0);
	ck_assert_mem_eq(memory + allocated - 3, "end", 3);
	if (random_below(seed, 2))
		ck_assert_int_eq(buffers_free(memory, allocated), 0);
}

static void check_walk(const struct watch *watch)
{
	static struct list list;

	list_all(&list);
	for (size_t i = 0; i < list.count; i++) {
		const struct buffers_info *info = &list.buffers[i];
		const struct kind *kind = &kinds[info->flags % KINDS];

		ck_assert_uint_lt(info->flags, 3);
		ck_assert(has_kept_its_kind(info->base, info->flags));
		ck_assert(is_asan() || is_tsan() || i % 16 ||
			  watch_is_mapped_as(watch, info->base, info->size,
					     kind->permissions));
	}
	ck_assert_uint_eq(list.count, count_known());
}

static void use_one(uint64_t *seed, struct buffers_item **held)
{
	const struct kind *kind = random_kind(seed);
	struct buffers_request request = random_request(seed, kind);
	static unsigned char bytes[100 << 10];
	size_t size = 1 + random_below(seed, request.size);
	struct buffers_item *item = buffers_get(&request);
	void *copy;

	ck_assert_ptr_nonnull(item);
	ck_assert(has_kept_its_kind(buffers_base(item), kind->listed_flags));
	fill_pattern(bytes, size, (unsigned)size);
	copy = buffers_append(item, bytes, size);
	ck_assert_ptr_nonnull(copy);
	ck_assert_mem_eq(copy, bytes, size);
	buffers_release(*held);
	*held = item;
}

START_TEST(random_requests_get_memory_of_their_kind)
{
	enum { HELD = 16, ROUNDS = 20000 };
	struct buffers_item *held[HELD] = { NULL };
	unsigned rounds = how_many(is_asan() || is_tsan() ? ROUNDS / 5 : ROUNDS, ROUNDS);
	uint64_t seed = seed_random();
	struct watch watch;

	ck_assert(watch_open(&watch));
	for (unsigned i = 0; i < rounds; i++) {
		use_one(&seed, &held[random_below(&seed, HELD)]);
		if (i % 50 == 0)
			allocate_one(&seed, random_kind(&seed));
		if (i % 2000 == 0)
			check_walk(&watch);
	}
	check_walk(&watch);
	watch_close(&watch);
}
END_TEST

enum { THREADS = 4 };

struct user {
	pthread_t thread;
	uint64_t seed;
	const char *fault;
};

static const char *use_once(struct user *user)
{
	const struct kind *kind = random_kind(&user->seed);
	struct buffers_request request = random_request(&user->seed, kind);
	struct buffers_item *item = buffers_get(&request);
	char *copy;

	if (!item)
		return "a request failed";
	if (!has_kept_its_kind(buffers_base(item), kind->listed_flags))
		return "two kinds got the same buffer";
	copy = buffers_append(item, "x", 1);
	if (!copy || *copy != 'x')
		return "an append failed";
	buffers_release(item);
	return NULL;
}

static void *use_many(void *context)
{
	struct user *user = context;

	for (unsigned i = 0; i < 4000 && !user->fault; i++)
		user->fault = use_once(user);
	return NULL;
}

START_TEST(requests_of_threads_get_memory_of_their_kind)
{
	struct user users[THREADS];
	uint64_t seed = seed_random();
	struct watch watch;

	ck_assert(watch_open(&watch));
	for (unsigned i = 0; i < THREADS; i++) {
		users[i] = (struct user){ .seed = seed + i };
		ck_assert_int_eq(pthread_create(&users[i].thread, NULL, use_many, &users[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(users[i].thread, NULL);
		ck_assert_msg(!users[i].fault, "%s", users[i].fault);
	}
	check_walk(&watch);
	watch_close(&watch);
}
END_TEST

static int stop_at(const struct buffers_info *info, void *flags)
{
	return info->flags == *(unsigned *)flags ? 7 : 0;
}

START_TEST(walk_visits_every_kind_and_can_stop_at_each)
{
	static struct list list;
	struct buffers_item *items[KINDS];
	unsigned none = 77;

	for (unsigned i = 0; i < KINDS; i++) {
		items[i] = get_kind(&kinds[i], 16);
		ck_assert_ptr_nonnull(buffers_append(items[i], "123456789", i + 1));
	}
	buffers_release(items[1]);
	list_all(&list);
	ck_assert_uint_eq(list.count, KINDS);
	for (unsigned i = 0; i < KINDS; i++) {
		unsigned kind = list.buffers[i].flags;

		ck_assert_uint_lt(kind, KINDS);	/* the index in kinds[], too */
		ck_assert_ptr_eq(list.buffers[i].base, buffers_base(items[kind]));
		ck_assert_uint_eq(list.buffers[i].used, kind + 1);
		ck_assert_int_eq(list.buffers[i].taken, kind != 1);
		ck_assert_int_eq(buffers_walk(stop_at, &kind), 7);
	}
	ck_assert_int_eq(buffers_walk(stop_at, &none), 0);
}
END_TEST

#if CAN_FORK
/*
 * Rendezvous files
 */

static int publish_each(void *leaves_files)
{
	for (unsigned i = 0; i < KINDS; i++) {
		const struct kind *kind = &kinds[(i + 1) % KINDS];
		const char *path = rendezvous_path_of(NULL, kind->file_suffix, getpid());
		struct buffers_item *item;

		STEP(access(path, F_OK) != 0);
		item = get_kind(kind, 1);
		STEP(is_named_in(path, item));
		STEP(count_files(SHARED_DIR) == i + 1);
		for (unsigned j = 0; j <= i; j++) {
			const struct kind *other = &kinds[(j + 1) % KINDS];
			const char *other_path = rendezvous_path_of(NULL, other->file_suffix, getpid());

			STEP(is_named_in(other_path, item) == (i == j));
		}
	}
	if (leaves_files)	/* _exit() skips the cleanup, as a kill does */
		_exit(1);
	return 0;
}

START_TEST(each_kind_has_a_rendezvous_file_and_exit_removes_it)
{
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	run_child(publish_each, NULL);
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
	ck_assert_uint_eq(count_files(own_dir()), 0);
}
END_TEST

static int use_one_kind(void *kind)
{
	const char *path = rendezvous_path_of(NULL, ((struct kind *)kind)->file_suffix, getpid());

	STEP(is_named_in(path, get_kind(kind, 1)));
	return 0;
}

/* A process that uses one kind removes the files that killed processes left for all kinds. */
START_TEST(rendezvous_files_of_killed_processes_are_removed)
{
	struct kind kind = kinds[_i];
	int status;
	pid_t pid;

	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	pid = fork();
	if (pid == 0)
		_exit(publish_each(&kind) ? 2 : 3);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	ck_assert_uint_eq(count_files(SHARED_DIR), KINDS);
	run_child(use_one_kind, &kind);
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
}
END_TEST

static void add_rendezvous_files(Suite *suite)
{
	TCase *files = tcase_create("rendezvous files");

	tcase_set_tags(files, "fork");
	tcase_add_test(files, each_kind_has_a_rendezvous_file_and_exit_removes_it);
	tcase_add_loop_test(files, rendezvous_files_of_killed_processes_are_removed, 0, KINDS);
	suite_add_tcase(suite, files);
}
#endif

static void add_kinds(Suite *suite)
{
	TCase *permissions = tcase_create("permissions");
	TCase *separation = tcase_create("separation");

	tcase_add_loop_test(permissions, memory_of_a_kind_has_its_permissions_everywhere, 0, KINDS);
#ifdef HAVE_CODE
	tcase_add_loop_test(permissions, only_rwx_and_rx_can_be_executed, 0, KINDS);
#endif
	tcase_add_loop_test(permissions, only_rwx_and_rw_can_be_written_by_address, 0, KINDS);
	suite_add_tcase(suite, permissions);

	tcase_set_timeout(separation, 300);
	tcase_add_loop_test(separation,
			    unknown_or_contradictory_flags_are_einval_and_change_nothing, 0, 2);
	tcase_add_test(separation, cached_item_is_given_for_its_kind_only);
	tcase_add_test(separation, random_requests_get_memory_of_their_kind);
	tcase_add_test(separation, requests_of_threads_get_memory_of_their_kind);
	tcase_add_test(separation, walk_visits_every_kind_and_can_stop_at_each);
	suite_add_tcase(suite, separation);
}

int main(void)
{
	Suite *suite = suite_create("api/kinds");

	add_kinds(suite);
#if CAN_FORK
	add_rendezvous_files(suite);
#endif
	return run_suite(suite);
}
