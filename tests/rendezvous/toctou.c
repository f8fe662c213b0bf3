/* SPDX-License-Identifier: MIT */
/* rendezvous/toctou.c: an attacker exchanges files while the library checks them */

#include "config.h"
#include "support/forged-files.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef RENAME_EXCHANGE
# define RENAME_EXCHANGE	(1 << 1)
#endif

enum { ATTACKER = 1001 };

static bool is_root;
static uid_t victim;	/* only if is_root; else one user is victim and attacker */

/*
 * The attacker exchanges the paths `good` and `bad` without a pause.  `evil` is a descriptor of
 * the untrusted directory; the test lists it through this, since its name changes.
 */
struct swap {
	void (*make)(struct swap *swap);
	char good[160], bad[160];
	int evil;
	pid_t pid;	/* the victim's */
};

/* Memory that the processes of a test share. */
static struct shared {
	bool is_over;
	unsigned long exchanges;
} *shared;

static bool exchange(const char *one, const char *other)
{
	return syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) == 0;
}

static int keep_exchanging(void *context)
{
	const struct swap *swap = context;

	while (!__atomic_load_n(&shared->is_over, __ATOMIC_RELAXED)) {
		/* Fails after the victim has removed its file. */
		if (exchange(swap->good, swap->bad))
			__atomic_fetch_add(&shared->exchanges, 1, __ATOMIC_RELAXED);
	}
	return 0;
}

static void set_owner(const char *path, uid_t user)
{
	if (is_root)
		ck_assert_int_eq(lchown(path, user, user), 0);
}

static void make_directory(const char *path, uid_t owner, mode_t mode)
{
	ck_assert_int_eq(mkdir(path, 0700), 0);
	set_owner(path, owner);
	ck_assert_int_eq(chmod(path, mode), 0);
}

/* Owned by the attacker if the test runs as root; else owned by its user and writable by all. */
static void make_evil_directory(const char *path)
{
	make_directory(path, ATTACKER, is_root ? 0755 : 0777);
}

static void forge_files(struct swap *swap, const char *dir)
{
	const char *path = rendezvous_path(dir, swap->pid);

	write_rendezvous_file(path, (uintptr_t)forged_locator.page);
	set_owner(path, victim);
	make_old(path);
	path = rendezvous_path(dir, 4194304);
	write_rendezvous_file(path, 8);
	set_owner(path, victim);
	make_old(path);
	swap->evil = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(swap->evil, 0);
}

static void make_good_directories(void)
{
	make_directory("/tmp/.reloaded", victim, 0700);
	make_directory(SHARED_DIR, victim, 0700);
}

static void set_names(struct swap *swap, const char *good, const char *bad)
{
	snprintf(swap->good, sizeof(swap->good), "%s", good);
	snprintf(swap->bad, sizeof(swap->bad), "%s", bad);
}

static void swap_outer(struct swap *swap)
{
	make_good_directories();
	make_evil_directory("/tmp/evil");
	make_evil_directory("/tmp/evil/memory.buffers");
	forge_files(swap, "/tmp/evil/memory.buffers");
	set_names(swap, "/tmp/.reloaded", "/tmp/evil");
}

static void swap_inner(struct swap *swap)
{
	make_good_directories();
	make_evil_directory("/tmp/.reloaded/evil");
	forge_files(swap, "/tmp/.reloaded/evil");
	set_names(swap, SHARED_DIR, "/tmp/.reloaded/evil");
}

static void swap_outer_for_a_link(struct swap *swap)
{
	make_good_directories();
	make_evil_directory("/tmp/evil");
	make_evil_directory("/tmp/evil/memory.buffers");
	forge_files(swap, "/tmp/evil/memory.buffers");
	ck_assert_int_eq(symlink("/tmp/evil", "/tmp/link"), 0);
	set_names(swap, "/tmp/.reloaded", "/tmp/link");
}

static void swap_inner_for_a_link(struct swap *swap)
{
	make_good_directories();
	make_evil_directory("/tmp/evil");
	forge_files(swap, "/tmp/evil");
	ck_assert_int_eq(symlink("/tmp/evil", "/tmp/.reloaded/link"), 0);
	set_names(swap, SHARED_DIR, "/tmp/.reloaded/link");
}

static void make_stale(const char *path)
{
	write_rendezvous_file(path, 8);
	set_owner(path, victim);
	make_old(path);
}

/* Exchanges a stale file of the victim and one that names a forged locator. */
static void swap_file(struct swap *swap)
{
	const char *path = rendezvous_path(NULL, swap->pid);

	make_good_directories();
	make_evil_directory("/tmp/evil");
	forge_files(swap, "/tmp/evil");
	make_stale(path);
	write_rendezvous_file("/tmp/.reloaded/bad", (uintptr_t)forged_locator.page);
	set_owner("/tmp/.reloaded/bad", ATTACKER);
	if (!is_root)
		ck_assert_int_eq(chmod("/tmp/.reloaded/bad", 0666), 0);
	set_names(swap, path, "/tmp/.reloaded/bad");
}

static void swap_file_for_a_link(struct swap *swap)
{
	const char *path = rendezvous_path(NULL, swap->pid);

	make_good_directories();
	make_evil_directory("/tmp/evil");
	forge_files(swap, "/tmp/evil");
	make_stale(path);
	ck_assert_int_eq(symlink(rendezvous_path("/tmp/evil", swap->pid), "/tmp/.reloaded/bad"), 0);
	set_names(swap, path, "/tmp/.reloaded/bad");
}

static int be_victim(void *context)
{
	int *go = context;
	struct buffers_item *item;
	char byte;

	if (is_root) {
		STEP(setgroups(0, NULL) == 0);
		STEP(setresgid(victim, victim, victim) == 0);
		STEP(setresuid(victim, victim, victim) == 0);
	}
	STEP(read(go[0], &byte, 1) == 1);
	item = use_library();
	STEP(item);
	STEP(locator_of(item) != (uintptr_t)forged_locator.page);
	STEP(is_untouched(&forged_locator));
	STEP(use_library() == item);
	return 0;
}

static void attack_with_swap(void (*make)(struct swap *))
{
	struct swap swap = { .evil = -1 };
	struct child attacked, attacker;
	unsigned long exchanges;
	bool is_same;
	char *before;
	int go[2];

	clear_directory("/tmp");
	ck_assert_int_eq(pipe(go), 0);
	attacked = start_child(be_victim, go);
	swap.pid = attacked.pid;
	make(&swap);
	ck_assert_int_eq(fchdir(swap.evil), 0);
	before = list_tree(".", NULL);
	exchanges = __atomic_load_n(&shared->exchanges, __ATOMIC_RELAXED);
	__atomic_store_n(&shared->is_over, false, __ATOMIC_RELAXED);
	attacker = start_child(keep_exchanging, &swap);
	while (__atomic_load_n(&shared->exchanges, __ATOMIC_RELAXED) == exchanges)
		sched_yield();
	ck_assert_int_eq(write(go[1], "", 1), 1);
	finish_child(attacked);
	__atomic_store_n(&shared->is_over, true, __ATOMIC_RELAXED);
	finish_child(attacker);
	is_same = are_trees_equal(before, list_tree(".", NULL));
	ck_assert_msg(is_same, "the victim changed a file in the untrusted directory");
	ck_assert(is_untouched(&forged_locator));
	close(swap.evil);
	close(go[0]);
	close(go[1]);
}

static bool can_exchange(void)
{
	write_file("/tmp/one", "1", 1);
	write_file("/tmp/other", "2", 1);
	return exchange("/tmp/one", "/tmp/other");
}

static void attack_often(void (*make)(struct swap *), int number)
{
	unsigned count = how_many(25, 200);

	is_root = geteuid() == 0;
	victim = number == 0 ? 1000 : 0;
	SKIP_IF(!is_root && number > 0, "only root can act as another user");
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	SKIP_IF(!can_exchange(), "the kernel does not support RENAME_EXCHANGE");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
	forge_locator(&forged_locator, new_page());
	for (unsigned i = 0; i < count; i++)
		attack_with_swap(make);
}

START_TEST(swapping_the_outer_directory_is_harmless)
{
	attack_often(swap_outer, _i);
}
END_TEST

START_TEST(swapping_the_inner_directory_is_harmless)
{
	attack_often(swap_inner, _i);
}
END_TEST

START_TEST(swapping_the_outer_directory_for_a_link_is_harmless)
{
	attack_often(swap_outer_for_a_link, _i);
}
END_TEST

START_TEST(swapping_the_inner_directory_for_a_link_is_harmless)
{
	attack_often(swap_inner_for_a_link, _i);
}
END_TEST

START_TEST(swapping_the_file_is_harmless)
{
	attack_often(swap_file, _i);
}
END_TEST

START_TEST(swapping_the_file_for_a_link_is_harmless)
{
	attack_often(swap_file_for_a_link, _i);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rendezvous/toctou");
	TCase *all = tcase_create("toctou");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_loop_test(all, swapping_the_outer_directory_is_harmless, 0, 2);
	tcase_add_loop_test(all, swapping_the_inner_directory_is_harmless, 0, 2);
	tcase_add_loop_test(all, swapping_the_outer_directory_for_a_link_is_harmless, 0, 2);
	tcase_add_loop_test(all, swapping_the_inner_directory_for_a_link_is_harmless, 0, 2);
	tcase_add_loop_test(all, swapping_the_file_is_harmless, 0, 2);
	tcase_add_loop_test(all, swapping_the_file_for_a_link_is_harmless, 0, 2);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
