/* SPDX-License-Identifier: MIT */
/* rendezvous/bad-files.c: rendezvous files with bad content, and special files in their place */

#include "config.h"
#include "support/forged-files.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * Files with bad content
 */

static void empty(const char *path)
{
	write_file(path, "", 0);
}

static void all_zero(const char *path)
{
	write_rendezvous_file(path, 0);
}

static void all_ones(const char *path)
{
	unsigned char bytes[4096];

	memset(bytes, 0xff, sizeof(bytes));
	write_file(path, bytes, sizeof(bytes));
}

static void other_version(const char *path)
{
	unsigned char bytes[4096] = { 0 };
	uintptr_t address = (uintptr_t)new_page();

	munmap((void *)address, 4096);
	memcpy(bytes, &address, sizeof(address));
	bytes[AT_VERSION] = 5;
	write_file(path, bytes, sizeof(bytes));
}

static void other_version_in_both(const char *path)
{
	forge_locator(&forged_locator, new_page());
	alter_forgery(&forged_locator, AT_VERSION, "\5", 1);
	write_file(path, forged_locator.bytes, sizeof(forged_locator.bytes));
}

static void stretch(const char *path, uintptr_t address, off_t size)
{
	write_rendezvous_file(path, address);
	if (truncate(path, size) != 0)
		unlink(path);
}

static void tebibyte_of_zeros(const char *path)
{
	stretch(path, 0, sizeof(off_t) == 8 ? (off_t)(UINT64_C(1) << 40) : 1 << 30);
}

static void tebibyte_with_an_address(const char *path)
{
	stretch(path, 4096, sizeof(off_t) == 8 ? (off_t)(UINT64_C(1) << 40) : 1 << 30);
}

static void two_links(const char *path)
{
	write_rendezvous_file(path, 8);
	ck_assert_int_eq(link(path, "/tmp/second"), 0);
}

static void readable_by_all(const char *path)
{
	write_rendezvous_file(path, 8);
	ck_assert_int_eq(chmod(path, 0644), 0);
}

static void closed_to_its_owner(const char *path)
{
	write_rendezvous_file(path, 8);
	ck_assert_int_eq(chmod(path, 0), 0);
}

START_TEST(file_with_bad_content_is_replaced)
{
	static const struct forged_file files[] = {
		NAMED(empty, REPLACED),
		NAMED(all_zero, REPLACED),
		NAMED(all_ones, REPLACED),
		NAMED(other_version, REPLACED),
		NAMED(other_version_in_both, LEFT_ALONE),
		NAMED(tebibyte_of_zeros, REPLACED),
		NAMED(tebibyte_with_an_address, REPLACED),
		NAMED(two_links, REPLACED),
		NAMED(readable_by_all, REPLACED),
		NAMED(closed_to_its_owner, EITHER),
	};

	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	CHECK_FORGED_FILES(files);
}
END_TEST

static int check_short_file(void *size)
{
	const char *path = rendezvous_path(NULL, getpid());
	unsigned char bytes[24];
	uintptr_t address;

	forge_locator(&forged_locator, new_page());
	address = (uintptr_t)forged_locator.page;
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, &address, sizeof(address));
	make_both_dirs();
	write_file(path, bytes, *(size_t *)size);
	make_old(path);
	/* A file that contains the whole address may be accepted. */
	if (*(size_t *)size >= sizeof(address)) {
		struct buffers_item *item = use_library();

		STEP(item);
		STEP(item == (void *)(forged_locator.page + AT_ITEMS) || published_dir(item));
		return 0;
	}
	STEP(use_with_forged_file(REPLACED) == 0);
	STEP(is_untouched(&forged_locator));
	return 0;
}

START_TEST(short_file_is_replaced)
{
	SKIP_IF(is_emulated(), "the emulator merges mappings of different permissions");
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	for (size_t size = 1; size <= 24; size++) {
		run_child(check_short_file, &size);
		clear_directory("/tmp");
	}
}
END_TEST

/*
 * Fresh files: another implementation may still be writing one, so the library waits for
 * its address, for a limited time.
 */
static void in_the_future(const char *path)
{
	time_t far = sizeof(time_t) == 8 ? (time_t)INT64_C(4000000000) : INT32_MAX;
	struct timespec times[2] = { { .tv_sec = far }, { .tv_sec = far } };

	write_rendezvous_file(path, 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

static int check_fresh_file(void *context)
{
	const struct forged_file *file = context;

	make_dir(SHARED_DIR);
	make_dir(own_dir());
	file->make(rendezvous_path(NULL, getpid()));
	STEP(use_library());
	STEP(is_published_in(NULL, use_library()));
	return 0;
}

START_TEST(wait_for_a_missing_address_ends)
{
	static const struct forged_file files[] = {
		NAMED(empty, REPLACED),
		NAMED(all_zero, REPLACED),
		NAMED(in_the_future, REPLACED),
	};
	struct child children[3];

	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	for (size_t i = 0; i < 3; i++)
		children[i] = start_child(check_fresh_file, (void *)(uintptr_t)&files[i]);
	for (size_t i = 0; i < 3; i++)
		finish_child(children[i]);
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
}
END_TEST

/*
 * Special files and links of the rendezvous file's name
 */

static void fifo(const char *path)
{
	ck_assert_int_eq(mkfifo(path, 0600), 0);
}

static void directory(const char *path)
{
	ck_assert_int_eq(mkdir(path, 0700), 0);
}

static void directory_with_a_file(const char *path)
{
	char below[200];

	directory(path);
	snprintf(below, sizeof(below), "%s/file", path);
	write_file(below, "x", 1);
}

static void dangling_link(const char *path)
{
	ck_assert_int_eq(symlink("/tmp/nothing", path), 0);
}

static void link_to_itself(const char *path)
{
	ck_assert_int_eq(symlink(path, path), 0);
}

static void link_to_a_good_file(const char *path)
{
	forge_locator(&forged_locator, new_page());
	write_rendezvous_file("/tmp/good", (uintptr_t)forged_locator.page);
	ck_assert_int_eq(symlink("/tmp/good", path), 0);
}

static void link_to_a_stale_file(const char *path)
{
	write_rendezvous_file("/tmp/stale", 8);
	ck_assert_int_eq(symlink("/tmp/stale", path), 0);
}

static void three_links(const char *path)
{
	forge_locator(&forged_locator, new_page());
	write_rendezvous_file(path, (uintptr_t)forged_locator.page);
	ck_assert_int_eq(link(path, "/tmp/second"), 0);
	ck_assert_int_eq(link(path, "/tmp/third"), 0);
}

static void unix_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int end = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(end, 0);
	ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	ck_assert_int_eq(bind(end, (struct sockaddr *)&address, sizeof(address)), 0);
	close(end);
}

static void dev_null(const char *path)
{
	mknod(path, S_IFCHR | 0600, makedev(1, 3));
}

static void dev_zero(const char *path)
{
	mknod(path, S_IFCHR | 0600, makedev(1, 5));
}

START_TEST(special_file_or_link_is_left_alone)
{
	static const struct forged_file files[] = {
		NAMED(fifo, LEFT_ALONE),
		NAMED(directory, LEFT_ALONE),
		NAMED(directory_with_a_file, LEFT_ALONE),
		NAMED(dangling_link, LEFT_ALONE),
		NAMED(link_to_itself, LEFT_ALONE),
		NAMED(link_to_a_good_file, LEFT_ALONE),
		NAMED(link_to_a_stale_file, LEFT_ALONE),
		NAMED(three_links, LEFT_ALONE),
		NAMED(unix_socket, LEFT_ALONE),
		NAMED(dev_null, LEFT_ALONE),
		NAMED(dev_zero, LEFT_ALONE),
	};

	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	CHECK_FORGED_FILES(files);
}
END_TEST

/* The name is taken in both directories, and the library has no third one. */
static int find_no_free_name(void *context)
{
	const struct forged_file *file = context;
	struct buffers_item *item;
	char *before;

	make_both_dirs();
	file->make(rendezvous_path(NULL, getpid()));
	file->make(rendezvous_path(own_dir(), getpid()));
	before = list_tree("/tmp", NULL);
	item = use_library();
	STEP(item);
	STEP(use_library() == item);
	STEP(are_trees_equal(before, list_tree("/tmp", NULL)));
	return 0;
}

START_TEST(nothing_is_published_if_the_name_is_taken_in_both_dirs)
{
	static const struct forged_file files[] = {
		NAMED(fifo, LEFT_ALONE),
		NAMED(directory, LEFT_ALONE),
		NAMED(dangling_link, LEFT_ALONE),
		NAMED(unix_socket, LEFT_ALONE),
	};

	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		run_child(find_no_free_name, (void *)(uintptr_t)&files[i]);
		clear_directory("/tmp");
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rendezvous/bad-files");
	TCase *all = tcase_create("bad-files");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_test(all, file_with_bad_content_is_replaced);
	tcase_add_test(all, short_file_is_replaced);
	tcase_add_test(all, wait_for_a_missing_address_ends);
	tcase_add_test(all, special_file_or_link_is_left_alone);
	tcase_add_test(all, nothing_is_published_if_the_name_is_taken_in_both_dirs);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
