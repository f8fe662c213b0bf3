/* SPDX-License-Identifier: MIT */
/* rx/protect.c: write windows, whatever the system forbids or lacks */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/code.h"
#include "support/maps-watch.h"
#include "support/restrict.h"
#include "support/scenes.h"
#include "support/supervise.h"
#include "support/support.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)

static const unsigned kinds[] = { BUFFERS_RX, BUFFERS_RW };

/* Memory that changes between RW and RX. */
struct memory {
	unsigned char *start;
	size_t size;
};

static bool map(struct memory *memory, size_t size, unsigned flags)
{
	struct buffers_request request = { .size = size, .flags = flags };

	memory->start = buffers_alloc(&request, &memory->size);
	return memory->start;
}

static int protect_as(const struct memory *memory, unsigned flags)
{
	return buffers_protect(memory->start, memory->size, flags);
}

/* Code in the first and the last page, and a number between them. */
static void fill(const struct memory *memory, uint32_t number)
{
	struct code code = code_of(number & 0x3fff);

	memcpy(memory->start, code.bytes, CODE_SIZE);
	memcpy(memory->start + memory->size / 2, &number, sizeof(number));
	memcpy(memory->start + memory->size - CODE_SIZE, code.bytes, CODE_SIZE);
}

static bool is_filled(const struct memory *memory, uint32_t number)
{
	struct code code = code_of(number & 0x3fff);

	return memcmp(memory->start, code.bytes, CODE_SIZE) == 0 &&
	       memcmp(memory->start + memory->size / 2, &number, sizeof(number)) == 0 &&
	       memcmp(memory->start + memory->size - CODE_SIZE, code.bytes, CODE_SIZE) == 0;
}

static bool executes(const struct memory *memory, uint32_t number)
{
	return returns_number(memory->start, number & 0x3fff) &&
	       returns_number(memory->start + memory->size - CODE_SIZE, number & 0x3fff);
}

/*
 * Scenes: policies and missing features
 */

struct scene {
	enum outcome closing, writing;	/* windows; writing RX memory */
	struct watch watch;
};

static bool has_permissions(const struct scene *scene, const struct memory *memory,
			    const char *permissions)
{
	return watch_is_mapped_without_rwx(&scene->watch, memory->start, memory->size,
					   permissions);
}

static bool is_permitted_failure(enum outcome outcome)
{
	return outcome != WORKS && (errno == EACCES || (errno == ENOMEM && outcome == MAY_FAIL));
}

/* Opens, writes and closes.  *is_closed: whether the scene permitted that. */
static int cycle(const struct scene *scene, const struct memory *memory, uint32_t number,
		 bool *is_closed)
{
	errno = 1234;
	STEP(protect_as(memory, BUFFERS_RW) == 0 && errno == 1234);
	STEP(has_permissions(scene, memory, "rw-p"));
	fill(memory, number);
	*is_closed = protect_as(memory, BUFFERS_RX) == 0;
	STEP(is_filled(memory, number));
	if (!*is_closed) {
		STEP(is_permitted_failure(scene->closing));
		STEP(has_permissions(scene, memory, "rw-p"));
		return 0;
	}
	STEP(errno == 1234 && scene->closing != IS_CLOSED);
	STEP(has_permissions(scene, memory, "r-xp"));
	STEP(executes(memory, number));
	return 0;
}

/* buffers_overwrite() follows the protection. */
static int overwrite(const struct scene *scene, const struct memory *memory)
{
	uint32_t word = 0x12345678;

	STEP(buffers_overwrite(memory->start + 8, &word, 4) == 0 ||
	     is_permitted_failure(scene->writing));
	STEP(protect_as(memory, BUFFERS_RW) == 0);
	STEP(buffers_overwrite(memory->start + 8, &word, 4) == 0);
	STEP(memcmp(memory->start + 8, &word, 4) == 0);
	STEP(has_permissions(scene, memory, "rw-p"));
	STEP(protect_as(memory, BUFFERS_RX) == 0 || is_permitted_failure(scene->closing));
	return 0;
}

/* Some pages stay zero: a copy of the memory must have them, too. */
static int use_memory(const struct scene *scene, const struct memory *memory)
{
	bool is_closed;

	for (uint32_t number = 1; number < 4; number++)
		STEP(cycle(scene, memory, number, &is_closed) == 0);
	for (size_t i = 4096; i < 8192; i++)
		STEP(memory->start[i] == 0);
	STEP(overwrite(scene, memory) == 0);
	STEP(protect_as(memory, BUFFERS_RX) == 0 || is_permitted_failure(scene->closing));
	STEP(protect_as(memory, BUFFERS_RX) == 0 || is_permitted_failure(scene->closing));
	STEP(buffers_free(memory->start, memory->size) == 0);
	return 0;
}

static bool set_scene(struct scene *scene, int number)
{
	bool is_final = policies[number % POLICIES].is_final;

	scene->writing = lacks[number / POLICIES].outcome;
	scene->closing = is_final ? scene->writing : WORKS;
	ck_assert(watch_open(&scene->watch));
	return impose_scene(number);
}

/* The policy arrives after the first windows, or before all memory. */
static int play_scene(int number)
{
	struct scene before = { .closing = WORKS };
	struct scene scene;
	struct memory early[2], late[2];
	bool is_closed;

	STEP(watch_open(&before.watch));
	for (unsigned i = 0; i < 2; i++) {
		STEP(map(&early[i], 32 * KIB, kinds[i]));
		STEP(cycle(&before, &early[i], 77, &is_closed) == 0 && is_closed);
	}
	if (!set_scene(&scene, number))
		return 0;
	STEP(watch_start(&scene.watch));
	for (unsigned i = 0; i < 2; i++) {
		STEP(map(&late[i], 32 * KIB, kinds[i]));
		STEP(use_memory(&scene, &early[i]) == 0);
		STEP(use_memory(&scene, &late[i]) == 0);
	}
	STEP(!watch_stop(&scene.watch));
	return 0;
}

START_TEST(windows_open_and_close_or_closing_is_eacces)
{
	SKIP_IF_NO_SCENE(_i);
	run_scene(play_scene, _i);
}
END_TEST

/* No watch: the memory starts as RWX. */
static int close_rwx_memory(int number)
{
	struct scene scene;
	struct memory memory[2];
	bool is_closed;

	for (unsigned i = 0; i < 2; i++)
		STEP(map(&memory[i], 32 * KIB, 0));
	fill(&memory[0], 5);
	if (!set_scene(&scene, number))
		return 0;
	STEP(protect_as(&memory[1], BUFFERS_RW) == 0);
	if (scene.closing == WORKS)
		STEP(protect_as(&memory[0], BUFFERS_RX) == 0);
	STEP(is_filled(&memory[0], 5) && executes(&memory[0], 5));
	for (unsigned i = 0; i < 2; i++)
		STEP(cycle(&scene, &memory[i], 6, &is_closed) == 0);
	return 0;
}

START_TEST(rwx_memory_gets_windows)
{
	SKIP_IF_NO_SCENE(_i);
	run_scene(close_rwx_memory, _i);
}
END_TEST

/*
 * Many windows
 */

static int open_many_windows(int number)
{
	unsigned count = is_slow() ? 300 : 10000;
	struct scene scene;
	struct memory memory;
	size_t mappings;

	STEP(map(&memory, 12 * KIB, BUFFERS_RX));
	if (!set_scene(&scene, number))
		return 0;
	STEP(protect_as(&memory, BUFFERS_RW) == 0 && protect_as(&memory, BUFFERS_RX) == 0);
	mappings = watch_count(&scene.watch);
	for (uint32_t i = 0; i < count; i++) {
		STEP(protect_as(&memory, BUFFERS_RW) == 0);
		STEP(i == 0 || is_filled(&memory, i - 1));
		fill(&memory, i);
		STEP(protect_as(&memory, BUFFERS_RX) == 0);
		STEP(is_filled(&memory, i) && executes(&memory, i));
	}
	STEP(!watch_has_rwx(&scene.watch));
	STEP(is_asan() || is_tsan() || watch_count(&scene.watch) == mappings);
	return 0;
}

/* No policy, PR_SET_MDWE, that without /proc, and both ways to forbid it. */
static const int many_scenes[] = { 0, 1, POLICIES + 1, POLICIES - 1 };
enum { MANY_SCENES = sizeof(many_scenes) / sizeof(many_scenes[0]) };

START_TEST(ten_thousand_windows_leave_no_mapping)
{
	int number = many_scenes[_i];

	SKIP_IF_NO_SCENE(number);
	run_scene(open_many_windows, number);
}
END_TEST

/* A copy has memory only for the pages that were written. */
static int close_sparse_memory(void *unused)
{
	size_t size = 64 << 20;
	struct memory memory;
	size_t before;

	(void)unused;
	STEP(map(&memory, size, BUFFERS_RX));
	STEP(refuse_new_exec(EPERM));
	STEP(protect_as(&memory, BUFFERS_RW) == 0);
	fill(&memory, 9);
	before = resident_bytes();
	STEP(protect_as(&memory, BUFFERS_RX) == 0);
	STEP(is_filled(&memory, 9) && executes(&memory, 9));
	STEP(resident_bytes() < before + size / 8);
	return 0;
}

START_TEST(untouched_pages_of_a_window_take_no_memory)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	SKIP_IF(resident_bytes() == 0, NO_RESIDENT_BYTES);
	SKIP_IF(is_emulated() || is_asan() || is_tsan(), "memory is counted in another way");
	run_child(close_sparse_memory, NULL);
}
END_TEST

/*
 * Failures in the middle: mprotect(2) has changed the first pages
 */

static size_t writable_bytes(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	size_t kibibytes = 0;
	char line[200];

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "VmData: %zu", &kibibytes) == 1)
			break;
	if (status)
		fclose(status);
	return kibibytes * KIB;
}

/* Makes the middle page a mapping of its own. */
static int map_in_parts(struct memory *memory)
{
	uint64_t word = 0x0102030405060708;

	STEP(map(memory, 3 * granularity(), BUFFERS_RX));
	STEP(buffers_overwrite(memory->start + granularity(), &word, 8) == 0);
	return 0;
}

/* The limit of writable memory is reached after the first page. */
static int fail_in_the_middle(void *policy)
{
	struct watch watch;
	struct memory memory;
	struct rlimit before;

	STEP(map_in_parts(&memory) == 0);
	STEP(protect_as(&memory, BUFFERS_RW) == 0);
	fill(&memory, 3);
	STEP(protect_as(&memory, BUFFERS_RX) == 0);
	STEP(watch_open(&watch));
	if (!policies[*(int *)policy].impose())
		return 0;
	before = set_limit(RLIMIT_DATA, writable_bytes() + granularity());
	errno = 0;
	STEP(protect_as(&memory, BUFFERS_RW) == -1 && errno == ENOMEM);
	setrlimit(RLIMIT_DATA, &before);
	STEP(watch_is_mapped_without_rwx(&watch, memory.start, memory.size, "r-xp"));
	STEP(is_filled(&memory, 3) && executes(&memory, 3));
	STEP(protect_as(&memory, BUFFERS_RW) == 0 && protect_as(&memory, BUFFERS_RX) == 0);
	return 0;
}

START_TEST(window_that_opens_only_in_part_is_closed_again)
{
	SKIP_IF(is_emulated() || is_asan() || is_tsan(), "other memory counts as well");
	run_child(fail_in_the_middle, &_i);
}
END_TEST

/* As a filter that comes while a window of several mappings is open. */
static int fail_to_close(void *context)
{
	struct watch watch;
	struct memory memory;
	size_t mappings;

	(void)context;
	STEP(map_in_parts(&memory) == 0);
	STEP(protect_as(&memory, BUFFERS_RW) == 0);
	fill(&memory, 4);
	STEP(watch_open(&watch));
	STEP(refuse_new_exec(EPERM) && refuse_call(SYS_mremap, EPERM));
	mappings = watch_count(&watch);
	errno = 0;
	STEP(protect_as(&memory, BUFFERS_RX) == -1 && errno == EACCES);
	STEP(protect_as(&memory, BUFFERS_RX) == -1 && errno == EACCES);
	STEP(is_asan() || is_tsan() || watch_count(&watch) == mappings);
	STEP(watch_is_mapped_without_rwx(&watch, memory.start, memory.size, "rw-p"));
	fill(&memory, 5);
	STEP(is_filled(&memory, 5));
	return 0;
}

START_TEST(window_that_cannot_be_closed_stays_open)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	run_child(fail_to_close, NULL);
}
END_TEST

/* An error of the caller, and a fault if the library read the memory unasked. */
static int lack_a_page(void *policy)
{
	struct memory memory;

	STEP(map(&memory, 3 * granularity(), BUFFERS_RX));
	STEP(protect_as(&memory, BUFFERS_RW) == 0);
	fill(&memory, 6);
	STEP(munmap(memory.start + granularity(), granularity()) == 0);
	if (!policies[*(int *)policy].impose())
		return 0;
	errno = 0;
	STEP(protect_as(&memory, BUFFERS_RX) == -1 && (errno == ENOMEM || errno == EACCES));
	memory.start[0] = memory.start[memory.size - 1] = 1;
	return 0;
}

START_TEST(memory_with_a_hole_does_not_change)
{
	SKIP_IF(is_emulated(), "the emulator does not pass all calls to the kernel");
	run_child(lack_a_page, &_i);
}
END_TEST

struct sealing {
	bool is_whole;			/* or only the last page */
	unsigned from, to;
	const char *permissions;	/* before and after */
};
static struct sealing sealings[] = {
	{ false, BUFFERS_RX, BUFFERS_RW, "r-xp" },
	{ true, BUFFERS_RX, BUFFERS_RW, "r-xp" },
	{ false, 0, BUFFERS_RX, "rwxp" },
	{ true, 0, BUFFERS_RX, "rwxp" },
};
enum { SEALINGS = sizeof(sealings) / sizeof(sealings[0]) };

static int protect_sealed(void *context)
{
	const struct sealing *sealing = context;
	struct watch watch;
	struct memory memory;
	size_t size;

	STEP(map(&memory, 3 * granularity(), sealing->from));
	STEP(watch_open(&watch));
	size = sealing->is_whole ? memory.size : granularity();
	if (!seal_memory(memory.start + memory.size - size, size))
		return 0;
	errno = 0;
	STEP(protect_as(&memory, sealing->to) == -1 && errno == EACCES);
	STEP(watch_is_mapped_as(&watch, memory.start, memory.size, sealing->permissions));
	return 0;
}

START_TEST(sealed_memory_is_eacces)
{
	SKIP_IF(is_emulated(), "the emulator does not pass all calls to the kernel");
	run_child(protect_sealed, &sealings[_i]);
}
END_TEST

/*
 * A protection key hides pages from this thread.  The kernel can read them for the thread, which
 * must not fault while it holds the lock of all writers.
 */
static int hide_pages(void *unused)
{
	struct memory memory;
	unsigned char *hidden;
	int key;

	(void)unused;
	STEP(map(&memory, 128 * KIB, BUFFERS_RX));
	STEP(protect_as(&memory, BUFFERS_RW) == 0);
	hidden = memory.start + 64 * KIB;
	key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
	STEP(pkey_mprotect(hidden, 64 * KIB, PROT_READ | PROT_WRITE, key) == 0);
	STEP(refuse_new_exec(EPERM));
	errno = 0;
	STEP(protect_as(&memory, BUFFERS_RX) == -1 && errno == EACCES);
	STEP(pkey_set(key, 0) == 0);
	memset(memory.start, 1, memory.size);
	STEP(pkey_mprotect(hidden, 64 * KIB, PROT_READ, key) == 0);
	STEP(pkey_set(key, PKEY_DISABLE_ACCESS) == 0);
	errno = 0;
	return buffers_overwrite(hidden + 8, "12345678", 8) == -1 && errno == EINVAL ? 0 : __LINE__;
}

START_TEST(pages_that_a_protection_key_hides_are_not_read)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	SKIP_IF(pkey_alloc(0, 0) < 0, "no protection keys here");
	run_child(hide_pages, NULL);
}
END_TEST

/*
 * Forked children
 */

static int write_as_child(void *context)
{
	const struct memory *memory = context;

	fill(memory, 21);
	STEP(protect_as(memory, BUFFERS_RX) == 0);
	STEP(is_filled(memory, 21) && executes(memory, 21));
	STEP(protect_as(memory, BUFFERS_RW) == 0);
	fill(memory, 22);
	return 0;
}

static int fork_in_window(void *policy)
{
	struct memory memory;

	STEP(map(&memory, 32 * KIB, BUFFERS_RX));
	if (!policies[*(int *)policy].impose())
		return 0;
	for (uint32_t i = 0; i < 3; i++) {
		STEP(protect_as(&memory, BUFFERS_RW) == 0);
		fill(&memory, i);
		run_child(write_as_child, &memory);
		STEP(is_filled(&memory, i));
		STEP(protect_as(&memory, BUFFERS_RX) == 0);
		STEP(is_filled(&memory, i) && executes(&memory, i));
	}
	return 0;
}

START_TEST(child_that_is_forked_in_a_window_has_its_own_memory)
{
	run_child(fork_in_window, &_i);
}
END_TEST

/*
 * A process that is killed at each system call of a window, after it has forked there
 */

enum { BEFORE = 31, AFTER = 32, STAYING = 33 };

/* Shared by all processes. */
struct killing {
	unsigned position;	/* number of the call that kills, from 1 */
	unsigned calls;
	int policy;
	bool hides_proc;
	bool is_over;		/* no call has this number */
	int line[2];		/* a failed step of each child; -1 before it ends */
	struct memory memory;
};

static struct supervision supervision;

/* Its parent has written the memory, or not, and is killed now or was. */
static int use_inherited(const struct killing *killing)
{
	const struct memory *memory = &killing->memory;
	struct watch watch;

	STEP(is_filled(memory, BEFORE) || is_filled(memory, AFTER));
	STEP(protect_as(memory, BUFFERS_RX) == 0);
	STEP(is_filled(memory, BEFORE) || is_filled(memory, AFTER));
	STEP(executes(memory, is_filled(memory, BEFORE) ? BEFORE : AFTER));
	STEP(protect_as(memory, BUFFERS_RW) == 0);
	fill(memory, STAYING);
	STEP(protect_as(memory, BUFFERS_RX) == 0);
	STEP(is_filled(memory, STAYING) && executes(memory, STAYING));
	STEP(killing->hides_proc || (watch_open(&watch) && !watch_has_rwx(&watch)));
	return 0;
}

static pid_t fork_user(struct killing *killing, unsigned number, int start)
{
	pid_t child = fork();
	char byte;

	if (child != 0)
		return child;
	if (start >= 0 && read(start, &byte, 1) != 0)	/* the end: the parent is dead */
		_exit(1);
	killing->line[number] = use_inherited(killing);
	_exit(0);
}

static int kill_at_call(int number, void *context)
{
	struct killing *killing = context;

	(void)number;
	if (++killing->calls != killing->position)
		return 0;
	if (fork_user(killing, 1, -1) > 0)
		kill(getpid(), SIGKILL);
	return EPERM;
}

static int open_window_supervised(void *context)
{
	struct killing *killing = context;

	supervise_begin(&supervision);
	protect_as(&killing->memory, BUFFERS_RW);
	fill(&killing->memory, AFTER);
	protect_as(&killing->memory, BUFFERS_RX);
	supervise_end(&supervision);
	killing->is_over = true;
	return 0;
}

static int live_until_killed(void *context)
{
	struct killing *killing = context;
	int ends[2];

	STEP(map(&killing->memory, 12 * KIB, BUFFERS_RX));
	if ((killing->hides_proc && !hide_proc()) || !policies[killing->policy].impose()) {
		killing->is_over = true;
		return 0;
	}
	STEP(protect_as(&killing->memory, BUFFERS_RW) == 0);
	fill(&killing->memory, BEFORE);
	STEP(protect_as(&killing->memory, BUFFERS_RX) == 0);
	STEP(pipe(ends) == 0);
	if (fork() == 0) {
		close(ends[1]);
		fork_user(killing, 0, ends[0]);
		_exit(0);
	}
	supervision = (struct supervision){ .judge = kill_at_call, .context = killing };
	return run_supervised(&supervision, open_window_supervised, killing);
}

/* Waits until no process has the other end. */
static void wait_for_end(int ends[2])
{
	char byte;

	close(ends[1]);
	ck_assert_int_eq(read(ends[0], &byte, 1), 0);
	close(ends[0]);
}

static bool kill_at(struct killing *killing, unsigned position)
{
	struct child child;
	int ends[2];
	int status;

	killing->position = position;
	killing->calls = 0;
	killing->line[0] = killing->line[1] = -1;
	ck_assert_int_eq(pipe(ends), 0);
	child = start_child(live_until_killed, killing);
	ck_assert_int_eq(waitpid(child.pid, &status, 0), child.pid);
	wait_for_end(ends);
	if (killing->is_over) {
		ck_assert_int_eq(*child.line, 0);
		return false;
	}
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	ck_assert_msg(killing->line[0] == 0 && killing->line[1] == 0,
		      "call %u: steps in lines %d and %d", position, killing->line[0],
		      killing->line[1]);
	return true;
}

START_TEST(killing_at_any_step_leaves_children_alone)
{
	struct killing *killing = map_memory(sizeof(*killing), true);
	unsigned position = 1;

	SKIP_IF(!can_supervise(), NO_LISTENER);
	SKIP_IF(_i / POLICIES && (is_asan() || is_tsan()),
		"the sanitizer's runtime reads /proc itself");
	killing->policy = _i % POLICIES;
	killing->hides_proc = _i / POLICIES;
	while (kill_at(killing, position))
		position++;
	printf("%s: killed at %u calls\n", policies[killing->policy].name, position - 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rx/protect");
	TCase *scenes = tcase_create("scenes");
	TCase *many = tcase_create("many");
	TCase *failures = tcase_create("failures");
	TCase *forks = tcase_create("forks");
	TCase *kills = tcase_create("kills");

	tcase_set_tags(scenes, "fork");
	tcase_add_loop_test(scenes, windows_open_and_close_or_closing_is_eacces, 0, SCENES);
	tcase_add_loop_test(scenes, rwx_memory_gets_windows, 0, SCENES);
	suite_add_tcase(suite, scenes);

	tcase_set_tags(many, "fork");
	tcase_add_loop_test(many, ten_thousand_windows_leave_no_mapping, 0, MANY_SCENES);
	tcase_add_test(many, untouched_pages_of_a_window_take_no_memory);
	suite_add_tcase(suite, many);

	tcase_set_tags(failures, "fork");
	tcase_add_loop_test(failures, window_that_opens_only_in_part_is_closed_again, 0, POLICIES);
	tcase_add_test(failures, window_that_cannot_be_closed_stays_open);
	tcase_add_test(failures, pages_that_a_protection_key_hides_are_not_read);
	tcase_add_loop_test(failures, memory_with_a_hole_does_not_change, 0, POLICIES);
	tcase_add_loop_test(failures, sealed_memory_is_eacces, 0, SEALINGS);
	suite_add_tcase(suite, failures);

	tcase_set_tags(forks, "fork");
	tcase_add_loop_test(forks, child_that_is_forked_in_a_window_has_its_own_memory, 0,
			    POLICIES);
	suite_add_tcase(suite, forks);

	tcase_set_tags(kills, "fork");
	tcase_add_loop_test(kills, killing_at_any_step_leaves_children_alone, 0, 2 * POLICIES);
	suite_add_tcase(suite, kills);
	return run_suite(suite);
}
