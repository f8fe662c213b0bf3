/* SPDX-License-Identifier: MIT */
/* process/fork.c: a child starts without buffers, and has its own copy of inherited memory */

#include "config.h"
#include "support/reexec.h"
#include "reloaded/buffers.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define GIB ((size_t)1 << 30)

#define NO_SANDBOX "the kernel gives this user no private /tmp; under TSan only root gets one"

static const struct buffers_request request = { .max_address = 2 * GIB, .size = 16 };

enum { MOST = 1000 };

struct list {
	uintptr_t start[MOST], end[MOST];
	size_t count;
};

static bool is_sandboxed;

static void setup(void)
{
	is_sandboxed = sandbox_tmp(NULL);
}

/* Makes a request, which writes to /tmp, only if the test has a private /tmp. */
static struct buffers_item *get_in_sandbox(void)
{
	return is_sandboxed ? buffers_get(&request) : NULL;
}

static int add_to_list(const struct buffers_info *info, void *context)
{
	struct list *list = context;

	if (is_rest_of_locator_page(info))
		return 0;
	if (list->count == MOST)
		return -1;
	list->start[list->count] = (uintptr_t)info->base;
	list->end[list->count++] = (uintptr_t)info->base + info->size;
	return 0;
}

static int start_afresh(void *parents_item)
{
	struct list list = { .count = 0 };
	uintptr_t parents = (uintptr_t)buffers_base(parents_item);
	struct buffers_item *item;

	STEP(buffers_walk(add_to_list, &list) == 0);
	STEP(list.count == 0);
	item = buffers_get(&request);
	STEP(item && item != parents_item);
	STEP((uintptr_t)buffers_base(item) >= parents + buffers_size(parents_item) ||
	     (uintptr_t)buffers_base(item) + buffers_size(item) <= parents);
	STEP(buffers_append(item, "child", 6));
	STEP(buffers_walk(add_to_list, &list) == 0);
	STEP(list.count == 1);
	buffers_release(item);
	STEP(buffers_get(&request) == item);
	return 0;
}

START_TEST(child_starts_without_buffers)
{
	struct buffers_item *item = get_in_sandbox();
	struct list list = { .count = 0 };

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	ck_assert_ptr_nonnull(item);
	buffers_release(item);
	run_child(start_afresh, item);
	ck_assert_int_eq(buffers_walk(add_to_list, &list), 0);
	ck_assert_uint_eq(list.count, 1);
	ck_assert_ptr_eq(buffers_get(&request), item);
	ck_assert_ptr_eq(buffers_next(item), buffers_base(item));
}
END_TEST

static int use_held_item(void *held)
{
	char *copy;

	STEP(memcmp(buffers_base(held), "parent", 6) == 0);
	copy = buffers_append(held, "child", 5);
	STEP(copy == (char *)buffers_base(held) + 6);
	STEP(memcmp(buffers_base(held), "parentchild", 11) == 0);
	buffers_release(held);
	STEP(buffers_get(&request) != held);
	return 0;
}

START_TEST(child_has_its_own_copy_of_a_held_item)
{
	struct buffers_item *item = get_in_sandbox();

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	ck_assert_ptr_nonnull(buffers_append(item, "parent", 6));
	run_child(use_held_item, item);
	ck_assert_uint_eq(buffers_remaining(item), buffers_size(item) - 6);
	ck_assert_mem_eq(buffers_base(item), "parent\0\0\0\0\0", 11);
	ck_assert_ptr_ne(buffers_get(&request), item);	/* the parent still holds the item */
}
END_TEST

static int fork_grandchild(void *item)
{
	struct buffers_item *childs_item = buffers_get(&request);
	struct child child;
	int status;

	STEP(childs_item && childs_item != item);
	child.pid = fork();
	STEP(child.pid >= 0);
	if (child.pid == 0)
		_exit(start_afresh(childs_item) != 0);
	STEP(waitpid(child.pid, &status, 0) == child.pid);
	STEP(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return 0;
}

START_TEST(grandchild_starts_without_buffers)
{
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	run_child(fork_grandchild, buffers_get(&request));
}
END_TEST

/* A raw clone() runs no fork handler: only MADV_WIPEONFORK empties the page. */
START_TEST(child_of_a_raw_clone_starts_without_buffers)
{
	struct buffers_item *item = get_in_sandbox();
	int status;
	long child;

	SKIP_IF(!can_wipe_on_fork(), NO_WIPE);
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	ck_assert_ptr_nonnull(item);
	child = fork_without_handlers();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(start_afresh(item) != 0);
	ck_assert_int_eq(waitpid((pid_t)child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

/*
 * A fork handler of another library, which runs in the child before the handler of this
 * library, and gets a buffer.  The later handler must not lose this buffer.
 */
static bool early_handler_is_active;
static struct buffers_item *item_of_early_handler;

static void early_handler(void)
{
	if (early_handler_is_active)
		item_of_early_handler = buffers_get(&request);
}

static void register_early_handler(void)
{
	pthread_atfork(NULL, NULL, early_handler);
}

/* The dynamic linker calls this before the constructors of all libraries. */
__attribute__((section(".preinit_array"), used))
static void (*const before_all)(void) = register_early_handler;

static int find_what_the_early_handler_made(void *context)
{
	struct list list = { .count = 0 };

	(void)context;
	STEP(item_of_early_handler);
	STEP(buffers_walk(add_to_list, &list) == 0);
	STEP(list.count == 1);
	STEP(list.start[0] == (uintptr_t)buffers_base(item_of_early_handler));
	buffers_release(item_of_early_handler);
	STEP(buffers_get(&request) == item_of_early_handler);
	return 0;
}

START_TEST(fork_handlers_of_other_libraries_can_get_buffers)
{
	SKIP_IF(!can_wipe_on_fork(), NO_WIPE);
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	ck_assert_ptr_nonnull(buffers_get(&request));
	early_handler_is_active = true;
	run_child(find_what_the_early_handler_made, NULL);
}
END_TEST

/* Threads that are in calls while another thread forks: the child must still work. */
static bool stop;

/* Appends at most a million times: without a bound the threads fill the range in seconds. */
static void *keep_allocating(void *context)
{
	for (unsigned i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
		struct buffers_item *item = buffers_get(&request);

		if (item && i < 1000000 && !buffers_append(item, "sixteen bytes...", 16))
			return context;
		buffers_release(item);
	}
	return NULL;
}

START_TEST(child_works_if_threads_were_in_calls_at_fork)
{
	pthread_t threads[4];
	void *failed;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(is_tsan(), "TSan does not support threads and fork");
	for (size_t i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, keep_allocating, &stop), 0);
	for (unsigned i = 0; i < how_many(100, 1000); i++) {
		struct buffers_item *item = buffers_get(&request);

		ck_assert_ptr_nonnull(item);
		run_child(start_afresh, item);
		buffers_release(item);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < 4; i++) {
		pthread_join(threads[i], &failed);
		ck_assert_ptr_null(failed);
	}
}
END_TEST

/*
 * Lists, files and bytes of parent and child
 */

/* Makes buffers at varied addresses, reserves space in each, and keeps some items held. */
static int make_buffers(unsigned amount)
{
	uint64_t random = amount;

	for (unsigned i = 0; i < amount; i++) {
		struct buffers_request some = { .size = 1 + random_below(&random, 100 * KIB) };
		struct buffers_item *item;

		if (i % 3 == 0)
			some.max_address = 2 * GIB;
		if (i % 3 == 1)
			some = buffers_request_near((const void *)(uintptr_t)getenv,
						    BUFFERS_REACH_BRANCH, some.size);
		item = buffers_get(&some);
		STEP(item && buffers_reserve(item, some.size, 1));
		if (i % 4)
			buffers_release(item);
	}
	return 0;
}

static bool have_overlap(const struct list *a, const struct list *b)
{
	for (size_t i = 0; i < a->count; i++)
		for (size_t j = 0; j < b->count; j++)
			if (a->start[i] < b->end[j] && b->start[j] < a->end[i])
				return true;
	return false;
}

static int make_buffers_of_its_own(void *parents_list)
{
	static struct list list;
	int line;

	STEP(buffers_walk(add_to_list, &list) == 0 && list.count == 0);
	line = make_buffers(150);
	STEP(line == 0);
	STEP(buffers_walk(add_to_list, &list) == 0 && list.count > 10);
	STEP(!have_overlap(&list, parents_list));
	return 0;
}

START_TEST(buffers_of_the_child_do_not_overlap_those_of_the_parent)
{
	static struct list before, after;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	ck_assert_int_eq(make_buffers(150), 0);
	ck_assert_int_eq(buffers_walk(add_to_list, &before), 0);
	run_child(make_buffers_of_its_own, &before);
	ck_assert_int_eq(buffers_walk(add_to_list, &after), 0);
	ck_assert_mem_eq(&before, &after, sizeof(before));
}
END_TEST

static int publish_its_own(void *parents_item)
{
	const char *parents = rendezvous_path(NULL, getppid());
	const char *path = rendezvous_path(NULL, getpid());
	struct buffers_item *item;

	STEP(is_named_in(parents, parents_item));	/* the child has inherited the item */
	STEP(count_files(SHARED_DIR) == 1);
	item = buffers_get(&request);
	STEP(is_named_in(path, item));
	STEP(read_address(path) != read_address(parents));
	STEP(is_named_in(parents, parents_item));
	STEP(count_files(SHARED_DIR) == 2);
	return 0;
}

START_TEST(files_of_parent_and_child_name_different_locators)
{
	struct buffers_item *item;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	item = buffers_get(&request);
	for (unsigned i = 0; i < 20; i++) {
		run_child(publish_its_own, item);
		ck_assert(is_named_in(rendezvous_path(NULL, getpid()), item));
		ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	}
}
END_TEST

/* The file under the child's PID, as if a dead process had left it, names an inherited locator. */
static int find_a_file_of_its_pid(void *parents_item)
{
	const char *path = rendezvous_path(NULL, getpid());
	FILE *original = fopen(rendezvous_path(NULL, getppid()), "re");
	struct buffers_item *item;
	char bytes[4096];

	STEP(original && fread(bytes, 1, sizeof(bytes), original) == sizeof(bytes));
	fclose(original);
	write_file(path, bytes, sizeof(bytes));
	item = buffers_get(&request);
	STEP(item && item != parents_item);
	STEP(is_named_in(path, item));
	STEP(is_named_in(rendezvous_path(NULL, getppid()), parents_item));
	return 0;
}

START_TEST(child_does_not_follow_a_file_that_names_the_locator_of_its_parent)
{
	struct buffers_item *item;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	item = buffers_get(&request);
	buffers_release(item);
	run_child(find_a_file_of_its_pid, item);
	ck_assert(is_named_in(rendezvous_path(NULL, getpid()), item));
}
END_TEST

struct meeting {
	struct buffers_item *item;
	char *bytes;
	int from_parent[2], from_child[2];
};

static bool send_byte(int file)
{
	return write(file, "", 1) == 1;
}

static bool receive_byte(int file)
{
	char byte;

	return read(file, &byte, 1) == 1;
}

static int change_while_the_parent_does(void *context)
{
	struct meeting *meeting = context;

	STEP(receive_byte(meeting->from_parent[0]));
	STEP(memcmp(meeting->bytes, "before\0\0\0\0\0", 11) == 0);
	STEP(buffers_overwrite(meeting->bytes, "childs", 6) == 0);
	STEP(buffers_append(meeting->item, "child", 5) == meeting->bytes + 6);
	STEP(send_byte(meeting->from_child[1]));
	STEP(receive_byte(meeting->from_parent[0]));
	STEP(memcmp(meeting->bytes, "childschild\0\0\0\0\0", 16) == 0);
	buffers_release(meeting->item);
	return 0;
}

START_TEST(parent_and_child_do_not_see_each_others_writes)
{
	struct meeting meeting = { .item = get_in_sandbox() };
	struct child child;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	meeting.bytes = buffers_append(meeting.item, "before", 6);
	ck_assert_int_eq(pipe(meeting.from_parent), 0);
	ck_assert_int_eq(pipe(meeting.from_child), 0);
	child = start_child(change_while_the_parent_does, &meeting);
	close(meeting.from_parent[0]);
	close(meeting.from_child[1]);
	ck_assert_int_eq(buffers_overwrite(meeting.bytes, "parent", 6), 0);
	ck_assert(send_byte(meeting.from_parent[1]) && receive_byte(meeting.from_child[0]));
	ck_assert_mem_eq(meeting.bytes, "parent\0\0\0\0\0", 11);
	ck_assert_ptr_eq(buffers_append(meeting.item, "and more", 8), meeting.bytes + 6);
	ck_assert(send_byte(meeting.from_parent[1]));
	finish_child(child);
	ck_assert_mem_eq(meeting.bytes, "parentand more\0\0", 16);
}
END_TEST

/*
 * Raw system calls, and daemons
 */

static long raw_clone(void)
{
	return fork_without_handlers();
}

static long raw_clone3(void)
{
#ifdef SYS_clone3
	struct clone_args args = { .exit_signal = SIGCHLD };

	return syscall(SYS_clone3, &args, sizeof(args));
#else
	errno = ENOSYS;
	return -1;
#endif
}

START_TEST(child_works_if_threads_were_in_calls_at_clone)
{
	long (*clone_now)(void) = _i ? raw_clone3 : raw_clone;
	pthread_t threads[4];

	SKIP_IF(!can_wipe_on_fork(), NO_WIPE);
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(is_tsan(), "TSan does not support threads and fork");
	for (size_t i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, keep_allocating, &stop), 0);
	for (unsigned i = 0; i < how_many(60, 1000); i++) {
		struct buffers_item *item = buffers_get(&request);
		long child = clone_now();

		if (child == 0)
			_exit(start_afresh(item) != 0);
		if (child < 0 && errno == ENOSYS)
			break;
		ck_assert(exits_with_zero((pid_t)child));
		buffers_release(item);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < 4; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		ck_assert_ptr_null(failed);
	}
}
END_TEST

struct service {
	struct buffers_item *inherited;
	int report[2];
	pid_t former;	/* the daemon's parent, which has ended */
};

static int serve(const struct service *service)
{
	struct buffers_item *item;
	int line;

	STEP(getpid() != service->former);
	STEP(memcmp(buffers_base(service->inherited), "parent", 6) == 0);
	STEP(buffers_append(service->inherited, "daemon", 6));
	buffers_release(service->inherited);
	item = buffers_get(&request);
	STEP(item && item != service->inherited);
	STEP(is_named_in(rendezvous_path(NULL, getpid()), item));
	line = make_buffers(20);
	if (line)
		return line;
	STEP(is_named_in(rendezvous_path(NULL, getpid()), item));
	return 0;
}

/*
 * Waits until the parent's end closes the pipe `parent_is_gone`.  Then serves, and writes the line
 * of the failed step, or 0, to the pipe `report`, which the daemon's own end closes.
 */
static _Noreturn void be_daemon(const struct service *service, int *parent_is_gone)
{
	int line;
	char byte;

	close(parent_is_gone[1]);
	while (read(parent_is_gone[0], &byte, 1) > 0)
		;
	line = serve(service);
	if (write(service->report[1], &line, sizeof(line)) != sizeof(line))
		_exit(1);
	exit(0);
}

static _Noreturn void start_daemon(struct service *service, bool has_used_the_library)
{
	int parent_is_gone[2];

	service->former = getpid();
	if (setsid() < 0 || pipe(parent_is_gone) != 0 ||
	    (has_used_the_library && !buffers_get(&request)))
		_exit(1);
	if (fork() == 0)
		be_daemon(service, parent_is_gone);
	_exit(0);
}

START_TEST(daemon_has_a_locator_of_its_own)
{
	struct service service = { .inherited = get_in_sandbox() };
	int line = -1;
	pid_t child;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	ck_assert_ptr_nonnull(buffers_append(service.inherited, "parent", 6));
	ck_assert_int_eq(pipe(service.report), 0);
	fflush(NULL);
	child = fork();
	if (child == 0)
		start_daemon(&service, _i);
	close(service.report[1]);
	ck_assert(exits_with_zero(child));
	ck_assert_int_eq(read(service.report[0], &line, sizeof(line)), sizeof(line));
	ck_assert_msg(line == 0, "the daemon's step in line %d failed", line);
	ck_assert_int_eq(read(service.report[0], &line, sizeof(line)), 0);
	ck_assert_mem_eq(buffers_base(service.inherited), "parent\0\0\0\0\0\0", 12);
	run_child(start_afresh, service.inherited);	/* removes the files that _exit() left */
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
	ck_assert(is_named_in(rendezvous_path(NULL, getpid()), service.inherited));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("process/fork");
	TCase *all = tcase_create("fork");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_checked_fixture(all, setup, NULL);
	tcase_add_test(all, child_starts_without_buffers);
	tcase_add_test(all, child_has_its_own_copy_of_a_held_item);
	tcase_add_test(all, grandchild_starts_without_buffers);
	tcase_add_test(all, child_of_a_raw_clone_starts_without_buffers);
	tcase_add_test(all, fork_handlers_of_other_libraries_can_get_buffers);
	tcase_add_test(all, child_works_if_threads_were_in_calls_at_fork);
	tcase_add_test(all, buffers_of_the_child_do_not_overlap_those_of_the_parent);
	tcase_add_test(all, files_of_parent_and_child_name_different_locators);
	tcase_add_test(all, child_does_not_follow_a_file_that_names_the_locator_of_its_parent);
	tcase_add_test(all, parent_and_child_do_not_see_each_others_writes);
	tcase_add_loop_test(all, child_works_if_threads_were_in_calls_at_clone, 0, 2);
	tcase_add_loop_test(all, daemon_has_a_locator_of_its_own, 0, 2);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
