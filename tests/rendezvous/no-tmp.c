/* SPDX-License-Identifier: MIT */
/* rendezvous/no-tmp.c: /tmp is read-only, full, limited or missing, and becomes usable again */

#include "config.h"
#include "support/forged-files.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WHY_NO_MOUNTS "the kernel does not let this user mount"

enum { STALE = 8 };	/* the address in a stale file */

/* Contents of /tmp before the trouble begins. */
enum state { NOTHING, DIRS, STALE_FILE, STATES };

struct trouble {
	const char *name;
	bool (*begin)(void);	/* false: the system does not allow it */
	void (*end)(void);	/* NULL: it lasts as long as the process */
	enum { NEVER, PERHAPS, ALWAYS } is_published;
};

static enum state state;

static void prepare(void)
{
	if (state == NOTHING)
		return;
	make_dir(SHARED_DIR);
	make_dir(own_dir());
	if (state == STALE_FILE) {
		write_rendezvous_file(rendezvous_path(NULL, getpid()), STALE);
		make_old(rendezvous_path(NULL, getpid()));
	}
}

/* Either the library has published a valid file, or the directories are as before. */
static int check_files(const struct trouble *trouble, const struct buffers_item *item)
{
	bool is_published = is_published_in(NULL, item);
	bool is_in_second = is_published_in(own_dir(), item);
	bool has_stale = state == STALE_FILE &&
			 read_address(rendezvous_path(NULL, getpid())) == STALE;

	STEP(trouble->is_published != NEVER || !(is_published || is_in_second));
	STEP(trouble->is_published != ALWAYS || is_published);
	STEP(count_files(SHARED_DIR) == (is_published || has_stale));
	STEP(count_files(own_dir()) == is_in_second);
	return 0;
}

static int use_during_trouble(void *context)
{
	const struct trouble *trouble = context;
	struct buffers_item *item, *again;

	prepare();
	if (!trouble->begin()) {
		printf("skipped: %s: %s\n", trouble->name, strerror(errno));
		return 0;
	}
	item = use_library();
	again = use_library();
	if (trouble->end)
		trouble->end();
	STEP(item);
	STEP(again == item);
	STEP(use_library() == item);
	return trouble->end ? check_files(trouble, item) : 0;
}

static int publish_normally(void *context)
{
	struct buffers_item *item = use_library();

	(void)context;
	STEP(item);
	STEP(is_published_in(NULL, item));
	return 0;
}

/* Makes all files old: the library does not remove the fresh drafts of a dead process. */
static void make_files_old(const char *dir)
{
	DIR *directory = opendir(dir);
	struct dirent *entry;
	char path[400];

	while (directory && (entry = readdir(directory))) {
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		if (entry->d_name[0] != '.')
			make_old(path);
	}
	if (directory)
		closedir(directory);
}

static void use_in_all_states(const struct trouble *trouble)
{
	for (state = NOTHING; state < STATES; state++) {
		printf("%s, state %d\n", trouble->name, (int)state);
		run_child(use_during_trouble, (void *)(uintptr_t)trouble);
		make_files_old(SHARED_DIR);
		run_child(publish_normally, NULL);
		ck_assert_uint_eq(count_files(SHARED_DIR), 0);
		clear_directory("/tmp");
	}
}

static bool mount_private_tmp(const char *options)
{
	return enter_mount_namespace() && mount_tmpfs("/tmp", options);
}

static bool make_read_only(void)
{
	return mount(NULL, "/tmp", NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0;
}

static void make_writable(void)
{
	ck_assert_int_eq(mount(NULL, "/tmp", NULL, MS_REMOUNT, NULL), 0);
}

START_TEST(library_works_with_a_read_only_tmp)
{
	SKIP_IF(!mount_private_tmp(NULL), WHY_NO_MOUNTS);
	use_in_all_states(&(struct trouble){ "read-only", make_read_only, make_writable, NEVER });
}
END_TEST

static bool make_noexec(void)
{
	return mount(NULL, "/tmp", NULL, MS_REMOUNT | MS_BIND | MS_NOEXEC | MS_NOSUID | MS_NODEV,
		     NULL) == 0;
}

static void do_nothing(void)
{
}

START_TEST(library_works_with_a_noexec_tmp)
{
	SKIP_IF(!mount_private_tmp(NULL), WHY_NO_MOUNTS);
	use_in_all_states(&(struct trouble){ "noexec", make_noexec, do_nothing, ALWAYS });
}
END_TEST

/* Fills the file system to its last byte. */
static bool fill_up(void)
{
	char bytes[512] = { 1 };
	int file = open("/tmp/filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	bool is_full;

	while (write(file, bytes, sizeof(bytes)) > 0)
		;
	is_full = errno == ENOSPC;
	close(file);
	return is_full;
}

static void make_room(void)
{
	ck_assert_int_eq(unlink("/tmp/filler"), 0);
}

START_TEST(library_works_with_a_full_tmp)
{
	SKIP_IF(!mount_private_tmp("mode=1777,size=256k"), WHY_NO_MOUNTS);
	use_in_all_states(&(struct trouble){ "full", fill_up, make_room, NEVER });
}
END_TEST

/* Number of inodes that are left free; the test varies it, so that each step fails in turn. */
static unsigned inodes_left;

static const char *filler(unsigned i)
{
	static char path[40];

	snprintf(path, sizeof(path), "/tmp/filler-%u", i);
	return path;
}

static bool use_up_inodes(void)
{
	unsigned i = 0;
	int file;

	while ((file = open(filler(i), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) >= 0) {
		close(file);
		i++;
	}
	for (unsigned j = 0; j < inodes_left; j++)
		unlink(filler(--i));
	return errno == ENOSPC;
}

static void free_inodes(void)
{
	for (unsigned i = 0; unlink(filler(i)) == 0; i++)
		;
}

START_TEST(library_works_without_free_inodes)
{
	struct trouble trouble = { "without inodes", use_up_inodes, free_inodes, NEVER };

	SKIP_IF(!mount_private_tmp("mode=1777,nr_inodes=40"), WHY_NO_MOUNTS);
	for (inodes_left = 0; inodes_left < 10; inodes_left++) {
		trouble.is_published = inodes_left == 0 ? NEVER :
				       inodes_left < 8 ? PERHAPS : ALWAYS;
		use_in_all_states(&trouble);
	}
}
END_TEST

/*
 * Resource limits of the process
 */

static unsigned long limit;
static struct rlimit limit_before;

/* Must not assert while the limit is in force: Check writes each assertion to a file. */
static bool limit_size(void)
{
	struct rlimit now;

	if (getrlimit(RLIMIT_FSIZE, &limit_before) != 0)
		return false;
	now = limit_before;
	now.rlim_cur = limit;
	return setrlimit(RLIMIT_FSIZE, &now) == 0;
}

static void unlimit_size(void)
{
	setrlimit(RLIMIT_FSIZE, &limit_before);
}

START_TEST(library_works_with_a_limited_file_size)
{
	/* The size of a rendezvous file. */
	const unsigned long page = (unsigned long)getpagesize();
	const unsigned long limits[] = { 0, 1, 8, 511, 4095, page - 1 };
	struct trouble trouble = { "RLIMIT_FSIZE", limit_size, unlimit_size, NEVER };

	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	SKIP_IF(is_emulated(), "emulators write a file when a program opens the maps file");
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		limit = limits[i];
		use_in_all_states(&trouble);
	}
	limit = page;
	trouble.is_published = ALWAYS;
	use_in_all_states(&trouble);
}
END_TEST

static bool limit_descriptors(void)
{
	limit_before = set_limit(RLIMIT_NOFILE, limit ? count_descriptors() + limit - 1 : 0);
	return true;
}

static void unlimit_descriptors(void)
{
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit_before), 0);
}

/* `limit`: 0 allows no descriptor, 1 those that are open, 2 one more, and so on. */
START_TEST(library_works_with_limited_descriptors)
{
	struct trouble trouble = { "RLIMIT_NOFILE", limit_descriptors, unlimit_descriptors, NEVER };

	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime needs descriptors");
	for (limit = 0; limit < 13; limit++) {
		/* Unused numbers below the limit may allow more. */
		trouble.is_published = limit == 0 ? NEVER : limit < 10 ? PERHAPS : ALWAYS;
		use_in_all_states(&trouble);
	}
}
END_TEST

/*
 * A missing /proc, denied access, and a missing /tmp
 */

static bool hide_proc(void)
{
	return unshare(CLONE_NEWNS) == 0 && mount_tmpfs("/proc", NULL);
}

static void show_proc(void)
{
	ck_assert_int_eq(umount2("/proc", MNT_DETACH), 0);
}

START_TEST(library_works_without_proc)
{
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime reads /proc itself");
	SKIP_IF(!mount_private_tmp(NULL), WHY_NO_MOUNTS);
	use_in_all_states(&(struct trouble){ "without /proc", hide_proc, show_proc, PERHAPS });
}
END_TEST

/* Access rights of Landlock's ABI version 1 that the kernel denies; the first set is all. */
static uint64_t denied;

static bool deny(void)
{
	struct landlock_ruleset_attr rules = { .handled_access_fs = denied };
	long ruleset = syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
	bool is_denied = ruleset >= 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
			 syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;

	if (ruleset >= 0)
		close((int)ruleset);
	return is_denied;
}

START_TEST(library_works_if_landlock_denies_access)
{
	static const uint64_t rights[] = {
		(LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1,
		LANDLOCK_ACCESS_FS_WRITE_FILE,
		LANDLOCK_ACCESS_FS_READ_FILE,
		LANDLOCK_ACCESS_FS_READ_DIR,
		LANDLOCK_ACCESS_FS_MAKE_DIR,
		LANDLOCK_ACCESS_FS_MAKE_REG,
		LANDLOCK_ACCESS_FS_REMOVE_FILE,
		LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE,
	};

	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime reads /proc itself");
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++) {
		denied = rights[i];
		use_in_all_states(&(struct trouble){ "Landlock", deny, NULL, PERHAPS });
	}
}
END_TEST

/* A root directory without /tmp, or with another kind of file in its place. */
struct root {
	const char *name;
	void (*make_tmp)(void);
};

static void no_tmp(void)
{
}

static void file_for_tmp(void)
{
	write_file("/tmp", "x", 1);
}

static void fifo_for_tmp(void)
{
	ck_assert_int_eq(mkfifo("/tmp", 0600), 0);
}

static void dangling_tmp(void)
{
	ck_assert_int_eq(symlink("/missing", "/tmp"), 0);
}

static void tmp_that_links_to_itself(void)
{
	ck_assert_int_eq(symlink("/tmp", "/tmp"), 0);
}

static int use_without_tmp(void *context)
{
	const struct root *root = context;
	struct buffers_item *item;

	STEP(mkdir("/tmp/root", 0755) == 0 && chroot("/tmp/root") == 0 && chdir("/") == 0);
	root->make_tmp();
	item = use_library();
	STEP(item);
	STEP(use_library() == item);
	STEP(unlink("/tmp") == 0 || errno == ENOENT);
	STEP(mkdir("/tmp", 0777) == 0);
	STEP(use_library() == item);
	run_child(publish_normally, NULL);
	return 0;
}

START_TEST(library_works_without_tmp)
{
	static const struct root roots[] = {
		{ "no /tmp", no_tmp },
		{ "a file", file_for_tmp },
		{ "a FIFO", fifo_for_tmp },
		{ "a dangling link", dangling_tmp },
		{ "a link to itself", tmp_that_links_to_itself },
	};

	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime reads /proc itself");
	SKIP_IF(!mount_private_tmp(NULL), WHY_NO_MOUNTS);
	for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++) {
		printf("%s\n", roots[i].name);
		run_child(use_without_tmp, (void *)(uintptr_t)&roots[i]);
		clear_directory("/tmp");
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rendezvous/no-tmp");
	TCase *all = tcase_create("no-tmp");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_test(all, library_works_with_a_read_only_tmp);
	tcase_add_test(all, library_works_with_a_noexec_tmp);
	tcase_add_test(all, library_works_with_a_full_tmp);
	tcase_add_test(all, library_works_without_free_inodes);
	tcase_add_test(all, library_works_with_a_limited_file_size);
	tcase_add_test(all, library_works_with_limited_descriptors);
	tcase_add_test(all, library_works_without_proc);
	tcase_add_test(all, library_works_if_landlock_denies_access);
	tcase_add_test(all, library_works_without_tmp);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
