/* SPDX-License-Identifier: MIT */
/* rendezvous/unload.c: the program closes a copy of the library, and other copies still work */

#include "config.h"
#include "support/copies.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <string.h>
#include <unistd.h>

static const struct buffers_request request = { .size = 64 };

/* The copy that publishes, and is closed: dlclose() unloads the first only. */
static const char *const publishers[] = { PLUGIN, PLUGIN_NODELETE, COPY_ONE };

/* State of the other copy when the publisher is closed. */
enum { USED, LOADED, ABSENT, STATES };
enum { CASES = 3 * STATES };

static char *write_text(const struct copy *copy, const char *text)
{
	struct buffers_item *item = copy->calls.get(&request);
	char *start;

	ck_assert_ptr_nonnull(item);
	start = copy->calls.append(item, text, strlen(text));
	ck_assert_ptr_nonnull(start);
	copy->calls.release(item);
	return start;
}

START_TEST(other_copies_work_after_the_publisher_is_closed)
{
	const char *file = publishers[_i / STATES];
	int state = _i % STATES;
	struct copy publisher, other;
	uintptr_t address;
	char *text;

	SKIP_IF(!sandbox_tmp(NULL), "the kernel gives this user no mount namespace");
	ck_assert(load_copy(&publisher, file, false));
	if (state != ABSENT)
		ck_assert(load_copy(&other, COPY_TWO, false));
	text = write_text(&publisher, "publisher, ");
	if (state == USED)
		ck_assert_ptr_eq(write_text(&other, ""), text + 11);
	address = rendezvous_address();
	ck_assert_uint_ne(address, 0);
	ck_assert_int_eq(close_copy(&publisher, file), strcmp(file, PLUGIN) == 0);
	ck_assert_uint_eq(rendezvous_address(), address);
	if (state == ABSENT)
		ck_assert(load_copy(&other, COPY_TWO, false));
	ck_assert_ptr_eq(write_text(&other, "other, "), text + 11);
	ck_assert(load_copy(&publisher, file, false));
	ck_assert_ptr_eq(write_text(&publisher, "publisher again"), text + 18);
	ck_assert_str_eq(text, "publisher, other, publisher again");
	ck_assert_uint_eq(rendezvous_address(), address);
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
}
END_TEST

static int do_nothing(void *context)
{
	(void)context;
	return 0;
}

/* dlclose() unloads the publisher's whole link namespace, with the C library in it. */
START_TEST(other_copies_work_after_the_publishers_namespace_is_closed)
{
	struct copy publisher, other;
	char *text;

	SKIP_IF(is_asan() || is_tsan(), "a process cannot load a sanitizer's runtime twice");
	SKIP_IF(!sandbox_tmp(NULL), "the kernel gives this user no mount namespace");
	ck_assert(load_copy(&publisher, PLUGIN, true));
	text = write_text(&publisher, "publisher, ");
	ck_assert(close_copy(&publisher, PLUGIN));
	ck_assert(load_copy(&other, COPY_TWO, false));
	ck_assert_ptr_eq(write_text(&other, "other"), text + 11);
	run_child(do_nothing, NULL);
	ck_assert(load_copy(&publisher, PLUGIN, true));
	ck_assert_ptr_eq(write_text(&publisher, ""), text + 16);
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
}
END_TEST

START_TEST(plugin_that_is_loaded_again_finds_its_buffer)
{
	struct copy plugin;
	struct listing listing;
	char *text = NULL;

	SKIP_IF(!sandbox_tmp(NULL), "the kernel gives this user no mount namespace");
	for (unsigned i = 0; i < 100; i++) {
		ck_assert(load_copy(&plugin, PLUGIN, false));
		if (i == 0)
			text = write_text(&plugin, "");
		ck_assert_ptr_eq(write_text(&plugin, "x"), text + i);
		listing = list_buffers(&plugin);
		ck_assert_uint_eq(listing.count, 1);
		ck_assert(close_copy(&plugin, PLUGIN));
	}
	ck_assert_uint_eq(strspn(text, "x"), 100);
}
END_TEST

START_TEST(item_that_an_unloaded_plugin_holds_stays_held)
{
	struct copy plugin, other;
	struct buffers_item *held;

	SKIP_IF(!sandbox_tmp(NULL), "the kernel gives this user no mount namespace");
	ck_assert(load_copy(&plugin, PLUGIN, false));
	ck_assert(load_copy(&other, COPY_TWO, false));
	held = plugin.calls.get(&request);
	ck_assert_ptr_nonnull(held);
	ck_assert(close_copy(&plugin, PLUGIN));
	ck_assert_ptr_ne(other.calls.get(&request), held);
	ck_assert_ptr_nonnull(other.calls.append(held, "x", 1));
	other.calls.release(held);
	ck_assert_ptr_eq(other.calls.get(&request), held);
}
END_TEST

START_TEST(threads_load_and_close_a_plugin_while_others_work)
{
	static const char *const files[] = { PLUGIN, COPY_ONE };
	const char *fault;

	SKIP_IF(is_tsan(), "TSan does not see the dynamic linker's lock");
	SKIP_IF(!sandbox_tmp(NULL), "the kernel gives this user no mount namespace");
	fault = write_concurrently(NULL, files, 2, how_many(100, 2000));
	ck_assert_msg(!fault, "%s", fault);
	ck_assert_uint_eq(count_files(SHARED_DIR), 1);
}
END_TEST

/*
 * Fork and exit handlers that an unloaded plugin had registered
 */

static int start_with_a_new_locator(void *context)
{
	const struct copy *other = context;
	struct copy plugin;
	struct listing listing = list_buffers(other);
	char *text;

	STEP(listing.count == 0);
	text = write_text(other, "x");
	STEP(load_copy(&plugin, PLUGIN, false));
	STEP(write_text(&plugin, "y") == text + 1);
	STEP(rendezvous_address() == *(const uintptr_t *)rendezvous_address());
	return 0;
}

START_TEST(fork_after_a_plugin_was_unloaded_is_safe)
{
	struct copy plugin, other;
	char *text;

	SKIP_IF(!sandbox_tmp(NULL), "the kernel gives this user no mount namespace");
	ck_assert(load_copy(&plugin, PLUGIN, false));
	text = write_text(&plugin, "x");
	ck_assert(close_copy(&plugin, PLUGIN));
	run_child(do_nothing, NULL);
	ck_assert(load_copy(&other, COPY_TWO, false));
	run_child(start_with_a_new_locator, &other);
	ck_assert_ptr_eq(write_text(&other, "y"), text + 1);
}
END_TEST

static int unload_and_exit(void *context)
{
	struct copy *other = context;
	struct copy plugin;

	STEP(load_copy(&plugin, PLUGIN, false));
	if (other)
		STEP(load_copy(other, COPY_TWO, false));
	write_text(&plugin, "x");
	if (other)
		write_text(other, "y");
	STEP(close_copy(&plugin, PLUGIN));
	STEP(count_files(SHARED_DIR) == 1);
	return 0;
}

START_TEST(exit_after_the_publisher_was_unloaded_is_safe)
{
	SKIP_IF(!sandbox_tmp(NULL), "the kernel gives this user no mount namespace");
	run_child(unload_and_exit, NULL);
}
END_TEST

START_TEST(remaining_copies_remove_the_file_at_exit)
{
	struct copy other;

	SKIP_IF(!sandbox_tmp(NULL), "the kernel gives this user no mount namespace");
	run_child(unload_and_exit, &other);
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rendezvous/unload");
	TCase *all = tcase_create("unload");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_loop_test(all, other_copies_work_after_the_publisher_is_closed, 0, CASES);
	tcase_add_test(all, other_copies_work_after_the_publishers_namespace_is_closed);
	tcase_add_test(all, plugin_that_is_loaded_again_finds_its_buffer);
	tcase_add_test(all, item_that_an_unloaded_plugin_holds_stays_held);
	tcase_add_test(all, threads_load_and_close_a_plugin_while_others_work);
	tcase_add_test(all, fork_after_a_plugin_was_unloaded_is_safe);
	tcase_add_test(all, exit_after_the_publisher_was_unloaded_is_safe);
	tcase_add_test(all, remaining_copies_remove_the_file_at_exit);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
