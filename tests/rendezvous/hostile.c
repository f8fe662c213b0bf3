/* SPDX-License-Identifier: MIT */
/* rendezvous/hostile.c: paths that another user owns, or that other users may write */

#include "config.h"
#include "support/forged-files.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <grp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum user { VICTIM, ATTACKER };

/* One component of the path: a directory, or the file at its end. */
struct component {
	enum user owner;
	mode_t mode;
	enum { REAL, LINK } type;
	enum user owner_of_link;
};

struct layout {
	const char *name;
	struct component outer, inner, file;
};

#define VICTIMS(mode)	{ VICTIM, mode, REAL, VICTIM }
#define ATTACKERS(mode)	{ ATTACKER, mode, REAL, ATTACKER }
#define LINKED(to, by)	{ to, 0700, LINK, by }
#define GOOD		VICTIMS(0700)
#define GOOD_FILE	VICTIMS(0600)

static const struct layout layouts[] = {
	{ "attacker owns outer directory", ATTACKERS(0755), GOOD, GOOD_FILE },
	{ "attacker owns all, mode 0700", ATTACKERS(0700), ATTACKERS(0700), ATTACKERS(0600) },
	{ "attacker owns outer directory, all may write", ATTACKERS(0777), GOOD, GOOD_FILE },
	{ "attacker owns outer directory, sticky", ATTACKERS(01777), GOOD, GOOD_FILE },
	{ "attacker owns both directories", ATTACKERS(0755), ATTACKERS(0755), GOOD_FILE },
	{ "attacker owns all", ATTACKERS(0755), ATTACKERS(0755), ATTACKERS(0644) },
	{ "attacker owns all, all may write", ATTACKERS(0777), ATTACKERS(0777), ATTACKERS(0666) },
	{ "attacker owns inner directory", GOOD, ATTACKERS(0755), GOOD_FILE },
	{ "attacker owns inner directory, all may write", GOOD, ATTACKERS(0777), GOOD_FILE },
	{ "attacker owns file", GOOD, GOOD, ATTACKERS(0600) },
	{ "attacker owns file, all may write", GOOD, GOOD, ATTACKERS(0666) },
	{ "group may write outer directory", VICTIMS(0770), GOOD, GOOD_FILE },
	{ "all may write outer directory", VICTIMS(0707), GOOD, GOOD_FILE },
	{ "all may write outer directory, sticky", VICTIMS(01777), GOOD, GOOD_FILE },
	{ "group may write inner directory", GOOD, VICTIMS(0770), GOOD_FILE },
	{ "all may write inner directory", GOOD, VICTIMS(0702), GOOD_FILE },
	{ "all may write inner directory, sticky", GOOD, VICTIMS(01777), GOOD_FILE },
	{ "group may write file", GOOD, GOOD, VICTIMS(0660) },
	{ "all may write file", GOOD, GOOD, VICTIMS(0602) },
	{ "victim's outer link to victim's directory", LINKED(VICTIM, VICTIM), GOOD, GOOD_FILE },
	{ "attacker's outer link to victim's directory", LINKED(VICTIM, ATTACKER), GOOD,
	  GOOD_FILE },
	{ "attacker's outer link to attacker's directory", LINKED(ATTACKER, ATTACKER), GOOD,
	  GOOD_FILE },
	{ "victim's outer link to attacker's directory", LINKED(ATTACKER, VICTIM), ATTACKERS(0755),
	  ATTACKERS(0644) },
	{ "victim's inner link to victim's directory", GOOD, LINKED(VICTIM, VICTIM), GOOD_FILE },
	{ "attacker's inner link to victim's directory", GOOD, LINKED(VICTIM, ATTACKER),
	  GOOD_FILE },
	{ "attacker's inner link to attacker's directory", GOOD, LINKED(ATTACKER, ATTACKER),
	  GOOD_FILE },
	{ "victim's inner link to attacker's directory", GOOD, LINKED(ATTACKER, VICTIM),
	  ATTACKERS(0644) },
	{ "file is victim's link to victim's file", GOOD, GOOD, LINKED(VICTIM, VICTIM) },
	{ "file is attacker's link to victim's file", GOOD, GOOD, LINKED(VICTIM, ATTACKER) },
	{ "file is attacker's link to attacker's file", GOOD, GOOD, LINKED(ATTACKER, ATTACKER) },
	{ "victim's links to victim's directories and file", LINKED(VICTIM, VICTIM),
	  LINKED(VICTIM, VICTIM), LINKED(VICTIM, VICTIM) },
};

enum { COUNT = sizeof(layouts) / sizeof(layouts[0]) };

/* User IDs of victim and attacker; they are the same unless the test runs as root. */
static uid_t users[2];

static bool has_attacker(const struct component *component)
{
	return component->owner == ATTACKER || component->owner_of_link == ATTACKER;
}

static bool needs_two_users(const struct layout *layout)
{
	return has_attacker(&layout->outer) || has_attacker(&layout->inner) ||
	       has_attacker(&layout->file);
}

static void set_owner(const char *path, enum user owner)
{
	ck_assert_int_eq(lchown(path, users[owner], (gid_t)-1), 0);
}

/* Makes the link, if it is one, and returns the path that it leads to, in /tmp/attic. */
static const char *make_target(const char *path, const struct component *component)
{
	static char target[80];
	static unsigned next;

	if (component->type == REAL)
		return path;
	mkdir("/tmp/attic", 0755);
	snprintf(target, sizeof(target), "/tmp/attic/%u", next++);
	ck_assert_int_eq(symlink(target, path), 0);
	set_owner(path, component->owner_of_link);
	return target;
}

static void make_directory(const char *path, const struct component *component)
{
	const char *target = make_target(path, component);

	ck_assert_int_eq(mkdir(target, 0700), 0);
	set_owner(target, component->owner);
	ck_assert_int_eq(chmod(target, component->mode), 0);
}

static void make_file(const char *path, const struct component *component)
{
	const char *target = make_target(path, component);

	write_rendezvous_file(target, (uintptr_t)forged_locator.page);
	set_owner(target, component->owner);
	ck_assert_int_eq(chmod(target, component->type == REAL ? component->mode : 0600), 0);
	make_old(target);
}

/* Makes a stale file, which the library would remove if it trusted the directory. */
static void make_bait(const char *dir)
{
	const char *path = rendezvous_path(dir, 4194304);

	write_rendezvous_file(path, 8);
	set_owner(path, VICTIM);
	make_old(path);
}

/* Makes both directories and the file, for the process with this PID. */
static void make_layout(const struct layout *layout, const char *outer, pid_t pid)
{
	bool has_bait = layout->file.type == REAL && layout->file.owner == VICTIM &&
			layout->file.mode == 0600;
	char inner[80];

	snprintf(inner, sizeof(inner), "%s/memory.buffers", outer);
	make_directory(outer, &layout->outer);
	make_directory(inner, &layout->inner);
	make_file(rendezvous_path(inner, pid), &layout->file);
	if (has_bait)
		make_bait(inner);
}

static const char *outer_of_victim(void)
{
	static char path[80];

	snprintf(path, sizeof(path), "/tmp/.reloaded-%u", users[VICTIM]);
	return path;
}

/* The victim waits for a byte on `go` before it uses the library. */
struct victim {
	const struct layout *shared, *own;	/* own NULL: its own directory is good */
	int go[2];
};

static int switch_user(uid_t user)
{
	if (user == geteuid())
		return 0;
	STEP(setgroups(0, NULL) == 0);
	STEP(setresgid(user, user, user) == 0);
	STEP(setresuid(user, user, user) == 0);
	return 0;
}

static int be_victim(void *context)
{
	const struct victim *victim = context;
	struct buffers_item *item;
	const char *dir;
	char byte;

	STEP(switch_user(users[VICTIM]) == 0);
	STEP(read(victim->go[0], &byte, 1) == 1);
	item = use_library();
	STEP(item);
	STEP(locator_of(item) != (uintptr_t)forged_locator.page);
	STEP(is_untouched(&forged_locator));
	if (!victim->own)
		STEP(is_published_in(own_dir(), item));
	dir = victim->own ? SHARED_DIR : "";
	STEP(!*dir || !is_published_in(dir, item));
	STEP(use_library() == item);
	STEP(is_untouched(&forged_locator));
	return 0;
}

static void make_good_directory(void)
{
	static const struct component good = GOOD;
	char inner[100];

	snprintf(inner, sizeof(inner), "%s/memory.buffers", outer_of_victim());
	make_directory(outer_of_victim(), &good);
	make_directory(inner, &good);
}

/* Asserts that the victim changes nothing in /tmp, except in its own directory if that is good. */
static void attack_layouts(const struct layout *shared, const struct layout *own)
{
	struct victim victim = { shared, own, { -1, -1 } };
	const char *except = own ? NULL : outer_of_victim();
	struct child child;
	char *before;
	bool is_same;

	if (users[VICTIM] == users[ATTACKER] &&
	    (needs_two_users(shared) || (own && needs_two_users(own))))
		return;
	printf("%s, %s\n", shared->name, own ? own->name : "own directory is good");
	fflush(stdout);
	ck_assert_int_eq(pipe(victim.go), 0);
	child = start_child(be_victim, &victim);
	make_layout(shared, "/tmp/.reloaded", child.pid);
	if (own)
		make_layout(own, outer_of_victim(), child.pid);
	else
		make_good_directory();
	before = list_tree("/tmp", except);
	ck_assert_int_eq(write(victim.go[1], "", 1), 1);
	finish_child(child);
	close(victim.go[0]);
	close(victim.go[1]);
	is_same = are_trees_equal(before, list_tree("/tmp", except));
	ck_assert_msg(is_same, "%s: the victim changed a file", shared->name);
	clear_directory("/tmp");
}

static bool choose_users(int i)
{
	static const uid_t pairs[][2] = { { 1000, 1001 }, { 0, 1001 }, { 1001, 0 } };

	if (geteuid() != 0) {
		users[VICTIM] = users[ATTACKER] = geteuid();
		return i == 0;
	}
	memcpy(users, pairs[i], sizeof(users));
	return true;
}

START_TEST(untrusted_shared_directory_is_not_used)
{
	SKIP_IF(!choose_users(_i), "only root can act as another user");
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	forge_locator(&forged_locator, new_page());
	for (size_t i = 0; i < COUNT; i++)
		attack_layouts(&layouts[i], NULL);
}
END_TEST

START_TEST(nothing_is_published_if_both_directories_are_untrusted)
{
	uint64_t state = seed_random();
	unsigned count = how_many(60, COUNT * COUNT);

	SKIP_IF(!choose_users(_i), "only root can act as another user");
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	forge_locator(&forged_locator, new_page());
	for (size_t i = 0; i < COUNT; i++)
		attack_layouts(&layouts[i], &layouts[i]);
	for (unsigned i = 0; i < count; i++) {
		size_t pair = count < COUNT * COUNT ? random_below(&state, COUNT * COUNT) : i;

		attack_layouts(&layouts[pair / COUNT], &layouts[pair % COUNT]);
	}
}
END_TEST

static int act_as(uid_t user, const char *dir)
{
	struct buffers_item *item;

	STEP(setresuid(user, user, user) == 0);
	item = use_library();
	STEP(item && is_published_in(dir ? dir : own_dir(), item));
	return 0;
}

static int act_as_first(void *context)
{
	(void)context;
	return act_as(1000, SHARED_DIR);
}

static int act_as_second(void *context)
{
	(void)context;
	return act_as(1001, NULL);
}

START_TEST(second_user_publishes_in_its_own_directory)
{
	SKIP_IF(geteuid() != 0, "only root can act as another user");
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	run_child(act_as_first, NULL);
	run_child(act_as_second, NULL);
	run_child(act_as_first, NULL);
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
}
END_TEST

/*
 * Root has taken on a user's effective UID for a while.  A file of this user names a locator
 * that the user forged.
 */
static int act_for_a_user(void *context)
{
	struct forgery forgery;
	struct buffers_item *item;

	(void)context;
	forge_locator(&forgery, new_page());
	STEP(seteuid(1000) == 0);
	make_dir(SHARED_DIR);
	write_rendezvous_file(rendezvous_path(NULL, getpid()), (uintptr_t)forgery.page);
	item = use_library();
	STEP(item && item != (void *)(forgery.page + AT_ITEMS));
	STEP(is_untouched(&forgery));
	STEP(read_address(rendezvous_path(NULL, getpid())) == (uintptr_t)forgery.page);
	STEP(!published_dir(item));
	return 0;
}

START_TEST(root_that_acts_for_a_user_ignores_the_users_file)
{
	SKIP_IF(geteuid() != 0, "only root can act as another user");
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	run_child(act_for_a_user, NULL);
}
END_TEST

/* Puts files under the names of the outer or inner directories. */
static int use_library_with_files_for_directories(void *context)
{
	bool has_inner = *(bool *)context;
	char *before;

	write_file("/tmp/.reloaded", "x", 1);
	if (has_inner) {
		mkdir(outer_of_victim(), 0700);
		write_file(own_dir(), "x", 1);
	} else {
		write_file(outer_of_victim(), "x", 1);
	}
	before = list_tree("/tmp", NULL);
	STEP(use_library());
	STEP(are_trees_equal(before, list_tree("/tmp", NULL)));
	return 0;
}

START_TEST(files_in_place_of_directories_are_left_alone)
{
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	users[VICTIM] = users[ATTACKER] = geteuid();
	run_child(use_library_with_files_for_directories, &(bool){ false });
	clear_directory("/tmp");
	run_child(use_library_with_files_for_directories, &(bool){ true });
}
END_TEST

/*
 * The directory of second links
 */

static void link_index(void)
{
	ck_assert_int_eq(symlink("/tmp/elsewhere", SHARED_INDEX), 0);
}

static void write_over_index(void)
{
	write_file(SHARED_INDEX, "x", 1);
}

static void open_index_to_all(void)
{
	ck_assert_int_eq(mkdir(SHARED_INDEX, 0700), 0);
	ck_assert_int_eq(chmod(SHARED_INDEX, 0777), 0);
}

static void give_index_away(void)
{
	ck_assert_int_eq(mkdir(SHARED_INDEX, 0755), 0);
	ck_assert(geteuid() != 0 || chown(SHARED_INDEX, 65534, 0) == 0);
}

static void (*const spoil_index[])(void) = {
	link_index, write_over_index, open_index_to_all, give_index_away,
};
enum { SPOILT = sizeof(spoil_index) / sizeof(spoil_index[0]) };

static int use_library_with_spoilt_index(void *spoil)
{
	char *index, *elsewhere;
	struct buffers_item *item;

	make_dir(SHARED_DIR);
	STEP(rmdir(SHARED_INDEX) == 0);
	STEP(mkdir("/tmp/elsewhere", 0700) == 0);
	(*(void (*const *)(void))spoil)();
	index = list_tree(SHARED_INDEX, NULL);
	elsewhere = list_tree("/tmp/elsewhere", NULL);
	for (unsigned i = 0; i < 64; i++)	/* a large directory is cleaned up with the index */
		write_file(rendezvous_path(NULL, (4 << 20) + (int)i), "", 0);
	item = use_library();
	STEP(item && is_published_in(SHARED_DIR, item));
	STEP(are_trees_equal(index, list_tree(SHARED_INDEX, NULL)));
	STEP(are_trees_equal(elsewhere, list_tree("/tmp/elsewhere", NULL)));
	return 0;
}

START_TEST(untrusted_index_is_not_used)
{
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	SKIP_IF(geteuid() != 0 && spoil_index[_i] == give_index_away, "only root has other users");
	run_child(use_library_with_spoilt_index, (void *)(uintptr_t)&spoil_index[_i]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rendezvous/hostile");
	TCase *all = tcase_create("hostile");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_loop_test(all, untrusted_shared_directory_is_not_used, 0, 3);
	tcase_add_loop_test(all, nothing_is_published_if_both_directories_are_untrusted, 0, 3);
	tcase_add_test(all, second_user_publishes_in_its_own_directory);
	tcase_add_test(all, root_that_acts_for_a_user_ignores_the_users_file);
	tcase_add_test(all, files_in_place_of_directories_are_left_alone);
	tcase_add_loop_test(all, untrusted_index_is_not_used, 0, SPOILT);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
