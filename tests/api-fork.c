/* SPDX-License-Identifier: MIT */
/* api-fork.c: a child starts with nothing, and what it inherited is its own */

#include "config.h"
#include "reloaded/buffers.h"
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define GIB ((size_t)1 << 30)

static const struct buffers_request request = { .max_address = 2 * GIB, .size = 16 };

struct list {
	uintptr_t start[100], end[100];
	size_t count;
};

static int note(const struct buffers_info *info, void *context)
{
	struct list *list = context;

	list->start[list->count] = (uintptr_t)info->base;
	list->end[list->count++] = (uintptr_t)info->base + info->size;
	return 0;
}

static int start_afresh(void *parents_item)
{
	struct list list = { .count = 0 };
	uintptr_t parents = (uintptr_t)buffers_base(parents_item);
	struct buffers_item *item;

	STEP(buffers_walk(note, &list) == 0);
	STEP(list.count == 0);
	item = buffers_get(&request);
	STEP(item && item != parents_item);
	STEP((uintptr_t)buffers_base(item) >= parents + buffers_size(parents_item) ||
	     (uintptr_t)buffers_base(item) + buffers_size(item) <= parents);
	STEP(buffers_append(item, "child", 6));
	STEP(buffers_walk(note, &list) == 0);
	STEP(list.count == 1);
	buffers_release(item);
	STEP(buffers_get(&request) == item);
	return 0;
}

START_TEST(child_starts_without_buffers)
{
	struct buffers_item *item = buffers_get(&request);
	struct list list = { .count = 0 };

	ck_assert_ptr_nonnull(item);
	buffers_release(item);
	run_child(start_afresh, item);
	ck_assert_int_eq(buffers_walk(note, &list), 0);
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

START_TEST(held_item_is_the_childs_own_copy)
{
	struct buffers_item *item = buffers_get(&request);

	ck_assert_ptr_nonnull(buffers_append(item, "parent", 6));
	run_child(use_held_item, item);
	ck_assert_uint_eq(buffers_remaining(item), buffers_size(item) - 6);
	ck_assert_mem_eq(buffers_base(item), "parent\0\0\0\0\0", 11);
	ck_assert_ptr_ne(buffers_get(&request), item);	/* still held here */
}
END_TEST

static int grandchild(void *item)
{
	struct buffers_item *mine = buffers_get(&request);
	struct child child;
	int status;

	STEP(mine && mine != item);
	child.process = fork();
	STEP(child.process >= 0);
	if (child.process == 0)
		_exit(start_afresh(mine) != 0);
	STEP(waitpid(child.process, &status, 0) == child.process);
	STEP(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return 0;
}

START_TEST(grandchild_starts_without_buffers)
{
	run_child(grandchild, buffers_get(&request));
}
END_TEST

/* No fork handler runs for this one; the kernel alone empties the page. */
START_TEST(child_of_a_raw_clone_starts_without_buffers)
{
	struct buffers_item *item = buffers_get(&request);
	int status;
	long child;

	ck_assert_ptr_nonnull(item);
	child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(start_afresh(item) != 0);
	ck_assert_int_eq(waitpid((pid_t)child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

/*
 * Another library's fork handler that runs before ours and uses the library.
 * What it made in the child must not be lost when our handler runs.
 */
static bool early_handler_is_active;
static struct buffers_item *of_early_handler;

static void early_handler(void)
{
	if (early_handler_is_active)
		of_early_handler = buffers_get(&request);
}

static void register_early_handler(void)
{
	pthread_atfork(NULL, NULL, early_handler);
}

/* Runs before the constructors of all libraries. */
__attribute__((section(".preinit_array"), used))
static void (*const before_all)(void) = register_early_handler;

static int find_what_the_early_handler_made(void *context)
{
	struct list list = { .count = 0 };

	(void)context;
	STEP(of_early_handler);
	STEP(buffers_walk(note, &list) == 0);
	STEP(list.count == 1);
	STEP(list.start[0] == (uintptr_t)buffers_base(of_early_handler));
	buffers_release(of_early_handler);
	STEP(buffers_get(&request) == of_early_handler);
	return 0;
}

START_TEST(fork_handlers_of_others_can_use_the_library)
{
	ck_assert_ptr_nonnull(buffers_get(&request));
	early_handler_is_active = true;
	run_child(find_what_the_early_handler_made, NULL);
}
END_TEST

/* Threads that allocate while another forks: children go on all the same. */
static bool stop;

static void *keep_allocating(void *context)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct buffers_item *item = buffers_get(&request);

		if (item && !buffers_append(item, "sixteen bytes...", 16))
			return context;
		buffers_release(item);
	}
	return NULL;
}

START_TEST(fork_in_the_middle_of_calls_leaves_the_child_well)
{
	pthread_t threads[4];
	void *failed;

	SKIP_IF(is_tsan(), "TSan does not support threads and fork");
	for (size_t i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, keep_allocating, &stop), 0);
	for (unsigned i = 0; i < 300; i++) {
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

int main(void)
{
	Suite *suite = suite_create("api-fork");
	TCase *all = tcase_create("fork");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 120);
	tcase_add_test(all, child_starts_without_buffers);
	tcase_add_test(all, held_item_is_the_childs_own_copy);
	tcase_add_test(all, grandchild_starts_without_buffers);
	tcase_add_test(all, child_of_a_raw_clone_starts_without_buffers);
	tcase_add_test(all, fork_handlers_of_others_can_use_the_library);
	tcase_add_test(all, fork_in_the_middle_of_calls_leaves_the_child_well);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
