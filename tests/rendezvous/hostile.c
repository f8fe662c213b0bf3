/* SPDX-License-Identifier: MIT */
/* api-hostile.c: other users, and permissions that let them in */

#include "config.h"
#include "support/forged-files.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <grp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum who { VICTIM, ATTACKER };

/* How one component of the path is made: a directory, or the file at its end. */
struct component {
	enum who owner;
	mode_t mode;
	enum { REAL, LINK } kind;
	enum who owner_of_link;
};

struct hostility {
	const char *name;
	struct component outer, inner, file;
};

#define MINE(mode)	{ VICTIM, mode, REAL, VICTIM }
#define THEIRS(mode)	{ ATTACKER, mode, REAL, ATTACKER }
#define LINKED(to, by)	{ to, 0700, LINK, by }
#define GOOD		MINE(0700)
#define GOOD_FILE	MINE(0600)

static const struct hostility hostilities[] = {
	{ "outer directory of another", THEIRS(0755), GOOD, GOOD_FILE },
	{ "closed outer directory of another", THEIRS(0700), THEIRS(0700), THEIRS(0600) },
	{ "open outer directory of another", THEIRS(0777), GOOD, GOOD_FILE },
	{ "sticky outer directory of another", THEIRS(01777), GOOD, GOOD_FILE },
	{ "both directories of another", THEIRS(0755), THEIRS(0755), GOOD_FILE },
	{ "all of another", THEIRS(0755), THEIRS(0755), THEIRS(0644) },
	{ "all of another, open", THEIRS(0777), THEIRS(0777), THEIRS(0666) },
	{ "inner directory of another", GOOD, THEIRS(0755), GOOD_FILE },
	{ "open inner directory of another", GOOD, THEIRS(0777), GOOD_FILE },
	{ "file of another", GOOD, GOOD, THEIRS(0600) },
	{ "file of another, open", GOOD, GOOD, THEIRS(0666) },
	{ "group may write outer directory", MINE(0770), GOOD, GOOD_FILE },
	{ "all may write outer directory", MINE(0707), GOOD, GOOD_FILE },
	{ "sticky outer directory", MINE(01777), GOOD, GOOD_FILE },
	{ "group may write inner directory", GOOD, MINE(0770), GOOD_FILE },
	{ "all may write inner directory", GOOD, MINE(0702), GOOD_FILE },
	{ "sticky inner directory", GOOD, MINE(01777), GOOD_FILE },
	{ "group may write file", GOOD, GOOD, MINE(0660) },
	{ "all may write file", GOOD, GOOD, MINE(0602) },
	{ "outer link to own", LINKED(VICTIM, VICTIM), GOOD, GOOD_FILE },
	{ "outer link of another to own", LINKED(VICTIM, ATTACKER), GOOD, GOOD_FILE },
	{ "outer link to another's", LINKED(ATTACKER, ATTACKER), GOOD, GOOD_FILE },
	{ "own outer link to another's", LINKED(ATTACKER, VICTIM), THEIRS(0755), THEIRS(0644) },
	{ "inner link to own", GOOD, LINKED(VICTIM, VICTIM), GOOD_FILE },
	{ "inner link of another to own", GOOD, LINKED(VICTIM, ATTACKER), GOOD_FILE },
	{ "inner link to another's", GOOD, LINKED(ATTACKER, ATTACKER), GOOD_FILE },
	{ "inner link to another's of all", GOOD, LINKED(ATTACKER, VICTIM), THEIRS(0644) },
	{ "file is link to own", GOOD, GOOD, LINKED(VICTIM, VICTIM) },
	{ "file is another's link to own", GOOD, GOOD, LINKED(VICTIM, ATTACKER) },
	{ "file is link to another's", GOOD, GOOD, LINKED(ATTACKER, ATTACKER) },
	{ "all are links", LINKED(VICTIM, VICTIM), LINKED(VICTIM, VICTIM),
	  LINKED(VICTIM, VICTIM) },
};

enum { COUNT = sizeof(hostilities) / sizeof(hostilities[0]) };

/* Who is who: an ordinary user that runs this is both. */
static uid_t users[2];

static bool is_anothers(const struct component *component)
{
	return component->owner == ATTACKER || component->owner_of_link == ATTACKER;
}

static bool needs_two_users(const struct hostility *hostility)
{
	return is_anothers(&hostility->outer) || is_anothers(&hostility->inner) ||
	       is_anothers(&hostility->file);
}

static void give(const char *path, enum who owner)
{
	ck_assert_int_eq(lchown(path, users[owner], (gid_t)-1), 0);
}

/* Where links lead: names in /tmp/attic. */
static const char *make_target(const char *path, const struct component *component)
{
	static char target[80];
	static unsigned next;

	if (component->kind == REAL)
		return path;
	mkdir("/tmp/attic", 0755);
	snprintf(target, sizeof(target), "/tmp/attic/%u", next++);
	ck_assert_int_eq(symlink(target, path), 0);
	give(path, component->owner_of_link);
	return target;
}

static void make_directory(const char *path, const struct component *component)
{
	const char *target = make_target(path, component);

	ck_assert_int_eq(mkdir(target, 0700), 0);
	give(target, component->owner);
	ck_assert_int_eq(chmod(target, component->mode), 0);
}

static void make_file(const char *path, const struct component *component)
{
	const char *target = make_target(path, component);

	write_rendezvous_file(target, (uintptr_t)fake.page);
	give(target, component->owner);
	ck_assert_int_eq(chmod(target, component->kind == REAL ? component->mode : 0600), 0);
	make_old(target);
}

/* A file that would be cleaned up if it stood in a place that is trusted. */
static void make_bait(const char *place)
{
	const char *path = rendezvous_path(place, 4194304);

	write_rendezvous_file(path, 8);
	give(path, VICTIM);
	make_old(path);
}

/* Makes all of a place, for the process that will look there. */
static void arrange(const struct hostility *hostility, const char *outer, pid_t process)
{
	bool has_bait = hostility->file.kind == REAL && hostility->file.owner == VICTIM &&
			hostility->file.mode == 0600;
	char inner[80];

	snprintf(inner, sizeof(inner), "%s/memory.buffers", outer);
	make_directory(outer, &hostility->outer);
	make_directory(inner, &hostility->inner);
	make_file(rendezvous_path(inner, process), &hostility->file);
	if (has_bait)
		make_bait(inner);
}

static const char *outer_of_victim(void)
{
	static char path[80];

	snprintf(path, sizeof(path), "/tmp/.reloaded-%u", users[VICTIM]);
	return path;
}

/* The victim uses the library once what awaits it is arranged. */
struct victim {
	const struct hostility *shared, *own;	/* own NULL: good */
	int go[2];
};

static int become(uid_t user)
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
	const char *place;
	char byte;

	STEP(become(users[VICTIM]) == 0);
	STEP(read(victim->go[0], &byte, 1) == 1);
	item = use_library();
	STEP(item);
	STEP(locator_of(item) != (uintptr_t)fake.page);
	STEP(is_untouched(&fake));
	if (!victim->own)
		STEP(is_published_in(own_dir(), item));
	place = victim->own ? SHARED_DIR : "";
	STEP(!*place || !is_published_in(place, item));
	STEP(use_library() == item);
	STEP(is_untouched(&fake));
	return 0;
}

static void make_good_place(void)
{
	static const struct component good = GOOD;
	char inner[100];

	snprintf(inner, sizeof(inner), "%s/memory.buffers", outer_of_victim());
	make_directory(outer_of_victim(), &good);
	make_directory(inner, &good);
}

/* Nothing in /tmp changes but the victim's own place, when that is good. */
static void attack(const struct hostility *shared, const struct hostility *own)
{
	struct victim victim = { shared, own, { -1, -1 } };
	const char *except = own ? NULL : outer_of_victim();
	struct child child;
	char *before;
	bool is_same;

	if (users[VICTIM] == users[ATTACKER] &&
	    (needs_two_users(shared) || (own && needs_two_users(own))))
		return;
	printf("%s, %s\n", shared->name, own ? own->name : "own place is good");
	fflush(stdout);
	ck_assert_int_eq(pipe(victim.go), 0);
	child = start_child(be_victim, &victim);
	arrange(shared, "/tmp/.reloaded", child.process);
	if (own)
		arrange(own, outer_of_victim(), child.process);
	else
		make_good_place();
	before = list_tree("/tmp", except);
	ck_assert_int_eq(write(victim.go[1], "", 1), 1);
	finish_child(child);
	close(victim.go[0]);
	close(victim.go[1]);
	is_same = are_same(before, list_tree("/tmp", except));
	ck_assert_msg(is_same, "%s: the victim changed something", shared->name);
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

START_TEST(untrusted_place_is_passed_over)
{
	SKIP_IF(!choose_users(_i), "an ordinary user cannot be another");
	SKIP_IF(!sandbox_tmp(NULL), WHY_NO_SANDBOX);
	forge_locator(&fake, new_page());
	for (size_t i = 0; i < COUNT; i++)
		attack(&hostilities[i], NULL);
}
END_TEST

START_TEST(with_two_untrusted_places_nothing_is_published)
{
	uint64_t state = seed_random();
	unsigned count = how_many(60, COUNT * COUNT);

	SKIP_IF(!choose_users(_i), "an ordinary user cannot be another");
	SKIP_IF(!sandbox_tmp(NULL), WHY_NO_SANDBOX);
	forge_locator(&fake, new_page());
	for (size_t i = 0; i < COUNT; i++)
		attack(&hostilities[i], &hostilities[i]);
	for (unsigned i = 0; i < count; i++) {
		size_t pair = count < COUNT * COUNT ? random_below(&state, COUNT * COUNT) : i;

		attack(&hostilities[pair / COUNT], &hostilities[pair % COUNT]);
	}
}
END_TEST

static int act_as(uid_t user, const char *place)
{
	struct buffers_item *item;

	STEP(setresuid(user, user, user) == 0);
	item = use_library();
	STEP(item && is_published_in(place ? place : own_dir(), item));
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

START_TEST(second_user_of_a_machine_has_a_place_of_its_own)
{
	SKIP_IF(geteuid() != 0, "an ordinary user cannot be another");
	SKIP_IF(!sandbox_tmp(NULL), WHY_NO_SANDBOX);
	run_child(act_as_first, NULL);
	run_child(act_as_second, NULL);
	run_child(act_as_first, NULL);
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
}
END_TEST

/* Root acts for a user, who has a file ready that leads to what he made. */
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

START_TEST(user_does_not_lead_who_acts_for_him_for_a_while)
{
	SKIP_IF(geteuid() != 0, "an ordinary user cannot be another");
	SKIP_IF(!sandbox_tmp(NULL), WHY_NO_SANDBOX);
	run_child(act_for_a_user, NULL);
}
END_TEST

/* Files where directories should be. */
static int find_files_for_directories(void *context)
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
	STEP(are_same(before, list_tree("/tmp", NULL)));
	return 0;
}

START_TEST(files_in_place_of_directories_are_passed_over)
{
	SKIP_IF(!sandbox_tmp(NULL), WHY_NO_SANDBOX);
	users[VICTIM] = users[ATTACKER] = geteuid();
	run_child(find_files_for_directories, &(bool){ false });
	clear_directory("/tmp");
	run_child(find_files_for_directories, &(bool){ true });
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("api-hostile");
	TCase *all = tcase_create("hostile");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 120);
	tcase_add_loop_test(all, untrusted_place_is_passed_over, 0, 3);
	tcase_add_loop_test(all, with_two_untrusted_places_nothing_is_published, 0, 3);
	tcase_add_test(all, second_user_of_a_machine_has_a_place_of_its_own);
	tcase_add_test(all, user_does_not_lead_who_acts_for_him_for_a_while);
	tcase_add_test(all, files_in_place_of_directories_are_passed_over);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
