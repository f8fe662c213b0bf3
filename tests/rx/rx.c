/* SPDX-License-Identifier: MIT */
/* rx/rx.c: no memory is writable and executable, whatever the system forbids or lacks */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/code.h"
#include "support/restrict.h"
#include "support/scenes.h"
#include "support/signals.h"
#include "support/support.h"
#include "support/maps-watch.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)

struct scene {
	enum outcome outcome;
	struct watch watch;
};

/* Whether the scene permits this result; errno must be unchanged after success. */
static bool is_permitted(const struct scene *scene, bool is_done)
{
	if (is_done)
		return scene->outcome != IS_CLOSED && errno == 1234;
	return (scene->outcome != WORKS && errno == EACCES) ||
	       (scene->outcome == MAY_FAIL && errno == ENOMEM);
}

/*
 * All calls that write, each followed by a check of all mappings
 */

/* Memory to write to, with the bytes and permissions that it must have. */
struct destination {
	unsigned char *start;
	size_t size;
	const char *permissions;
	const void *view;		/* NULL: none */
	unsigned char expected[32 << 10];
};

/* Checks bytes and permissions, and that no mapping is writable and executable. */
static int check_memory(const struct scene *scene, const struct destination *destination)
{
	STEP(!destination->view || watch_is_mapped_as(&scene->watch, destination->view,
						      destination->size, "rw-s"));
	STEP(watch_is_mapped_without_rwx(&scene->watch, destination->start, destination->size,
					 destination->permissions));
	STEP(memcmp(destination->start, destination->expected, destination->size) == 0);
	return 0;
}

static int overwrite_at(const struct scene *scene, struct destination *destination, size_t at,
			const void *bytes, size_t size)
{
	bool is_done;

	errno = 1234;
	is_done = buffers_overwrite(destination->start + at, bytes, size) == 0;
	STEP(is_permitted(scene, is_done));
	if (is_done)
		memcpy(destination->expected + at, bytes, size);
	return check_memory(scene, destination);
}

static void flip_bits(void *bytes_, size_t size, void *context)
{
	unsigned char *bytes = bytes_;

	(void)context;
	for (size_t i = 0; i < size; i++)
		bytes[i] ^= 0x5a;
}

static int edit_at(const struct scene *scene, struct destination *destination, size_t at,
		   size_t size)
{
	bool is_done;

	errno = 1234;
	is_done = buffers_overwrite_with(destination->start + at, size, flip_bits, NULL) == 0;
	STEP(is_permitted(scene, is_done));
	if (is_done)
		flip_bits(destination->expected + at, size, NULL);
	return check_memory(scene, destination);
}

static int call_at(const struct scene *scene, struct destination *destination, size_t at,
		   uint32_t number)
{
	struct code code = code_of(number);
	uint32_t word;

	STEP(overwrite_at(scene, destination, at, code.bytes, CODE_SIZE) == 0);
	if (memcmp(destination->start + at, code.bytes, CODE_SIZE) != 0 ||
	    destination->permissions[2] != 'x')
		return 0;
	STEP(returns_number(destination->start + at, number));
	number++;
	word = word_of_code(number);
	STEP(overwrite_at(scene, destination, at + CODE_WORD, &word, 4) == 0);
	STEP(read_code(destination->start + at) != number ||
	     returns_number(destination->start + at, number));
	return 0;
}

static int change_everywhere(const struct scene *scene, struct destination *destination)
{
	unsigned char bytes[3 * 4096];

	memset(bytes, 0x77, sizeof(bytes));
	STEP(call_at(scene, destination, 8, 100) == 0);
	STEP(call_at(scene, destination, 16, 101) == 0);
	STEP(call_at(scene, destination, 4099, 102) == 0);
	STEP(call_at(scene, destination, 4096 - 8, 103) == 0);
	STEP(overwrite_at(scene, destination, 4, bytes, 4) == 0);
	STEP(overwrite_at(scene, destination, 8192, bytes, 8) == 0);
	STEP(overwrite_at(scene, destination, 101, bytes, 1) == 0);
	STEP(overwrite_at(scene, destination, 4090, bytes, 13) == 0);
	STEP(overwrite_at(scene, destination, 777, bytes, sizeof(bytes)) == 0);
	STEP(edit_at(scene, destination, 64, 8) == 0);
	STEP(edit_at(scene, destination, 4093, 7) == 0);
	STEP(edit_at(scene, destination, 3000, 6000) == 0);
	return 0;
}

static bool is_code(const void *bytes)
{
	struct code code = code_of(read_code(bytes));

	return memcmp(bytes, code.bytes, CODE_SIZE) == 0;
}

static int append_at_end(const struct scene *scene, struct buffers_item *item,
			 const struct destination *destination, const void *bytes, size_t size)
{
	void *next = buffers_next(item);
	size_t remaining = buffers_remaining(item);
	void *copy;

	errno = 1234;
	copy = buffers_append_code(item, bytes, size);
	STEP(is_permitted(scene, copy));
	STEP(!copy || (copy == next && memcmp(copy, bytes, size) == 0));
	STEP(buffers_next(item) == (char *)next + (copy ? size : 0));
	STEP(buffers_remaining(item) == remaining - (copy ? size : 0));
	if (copy && is_code(copy) && destination->permissions[2] == 'x')
		STEP(returns_number(copy, read_code(copy)));
	return check_memory(scene, destination);
}

static int append_everything(const struct scene *scene, struct buffers_item *item,
			     const struct destination *destination)
{
	unsigned char bytes[10000];

	memset(bytes, 0x66, sizeof(bytes));
	for (unsigned i = 0; i < 3; i++) {
		struct code code = code_of(i + 1000);

		STEP(append_at_end(scene, item, destination, code.bytes, CODE_SIZE) == 0);
		STEP(append_at_end(scene, item, destination, bytes, 1) == 0);
		STEP(append_at_end(scene, item, destination, code.bytes, CODE_SIZE) == 0);
		STEP(append_at_end(scene, item, destination, bytes, 8) == 0);
		STEP(append_at_end(scene, item, destination, bytes, sizeof(bytes)) == 0);
	}
	return 0;
}

static void set_destination(struct destination *destination, unsigned char *start,
			    const char *permissions)
{
	destination->start = start;
	destination->size = 16 * KIB;
	destination->permissions = permissions;
	destination->view = NULL;
	memset(destination->expected, 0, sizeof(destination->expected));
}

/* Reserves memory in the item, overwrites it, and appends after it. */
static int use_item(const struct scene *scene, struct buffers_item *item, const char *permissions)
{
	struct destination destination;
	unsigned char *room;

	STEP(item);
	room = buffers_reserve(item, 16 * KIB, 4096);
	STEP(room);
	set_destination(&destination, room, permissions);
	STEP(check_memory(scene, &destination) == 0);
	STEP(change_everywhere(scene, &destination) == 0);
	STEP(append_everything(scene, item, &destination) == 0);
	return 0;
}

static int use_buffers(const struct scene *scene, unsigned flags, const char *permissions)
{
	struct buffers_request request = { .size = 80 * KIB, .flags = flags };
	struct buffers_item *item;

	errno = 1234;
	item = buffers_get(&request);
	STEP(item && errno == 1234);
	STEP(use_item(scene, item, permissions) == 0);
	buffers_release(item);
	request.size = 64;
	item = buffers_get(&request);
	STEP(item && buffers_append(item, "", 0));
	return 0;
}

static int use_allocated(const struct scene *scene, unsigned flags, const char *permissions)
{
	struct buffers_request request = { .size = 16 * KIB, .flags = flags };
	struct destination destination;
	size_t allocated;
	unsigned char *memory;

	errno = 1234;
	memory = buffers_alloc(&request, &allocated);
	STEP(memory && errno == 1234);
	set_destination(&destination, memory, permissions);
	STEP(check_memory(scene, &destination) == 0);
	STEP(change_everywhere(scene, &destination) == 0);
	STEP(buffers_free(memory, allocated) == 0);
	STEP(errno == 1234 || scene->outcome != WORKS);
	return 0;
}

/* A lack does not affect memory that is writable, at its own address or in a view. */
static struct scene without_lack(const struct scene *scene)
{
	struct scene other = *scene;

	other.outcome = WORKS;
	return other;
}

/* Only a second mapping may be denied; it never fails to be written. */
static bool is_view_denied(const struct scene *scene, const void *memory)
{
	return !memory && errno == EACCES && scene->outcome == MAY_FAIL;
}

static int use_viewed(const struct scene *scene)
{
	struct buffers_request request = { .size = 16 * KIB, .flags = BUFFERS_RX | BUFFERS_VIEW };
	struct scene plain = without_lack(scene);
	struct destination destination;
	unsigned char *memory;
	size_t allocated;

	if (!can_map_twice())
		return 0;
	errno = 1234;
	memory = buffers_alloc(&request, &allocated);
	if (is_view_denied(scene, memory))
		return 0;
	STEP(memory && errno == 1234);
	set_destination(&destination, memory, "r-xs");
	destination.view = buffers_view(memory);
	STEP(destination.view && errno == 1234);
	STEP(check_memory(&plain, &destination) == 0);
	STEP(change_everywhere(&plain, &destination) == 0);
	STEP(buffers_free(memory, allocated) == 0);
	return 0;
}

/*
 * Arenas
 */

struct relay {
	struct buffers_arena *arena;
	unsigned char *from_parent;	/* memory that the parent wrote */
	bool is_shared;
	bool is_viewed;
	unsigned char *copy;		/* from the child's append, NULL if it failed */
};

static int use_arena_as_child(const struct scene *scene, struct relay *relay)
{
	struct code code = code_of(4321);
	struct buffers_item *item = buffers_arena_get(relay->arena, 64, 8);
	bool is_done;

	if (relay->is_viewed && !relay->is_shared) {
		STEP(!item && errno == EACCES);
		return 0;
	}
	STEP(item);
	errno = 1234;
	relay->copy = buffers_append_code(item, code.bytes, CODE_SIZE);
	STEP(is_permitted(scene, relay->copy));
	buffers_release(item);
	if (relay->is_shared)
		return 0;
	errno = 1234;
	is_done = buffers_overwrite(relay->from_parent, code.bytes, CODE_SIZE) == 0;
	STEP(is_permitted(scene, is_done));
	STEP(!is_done || memcmp(relay->from_parent, code.bytes, CODE_SIZE) == 0);
	return 0;
}

static int fork_and_wait(const struct scene *scene, struct relay *relay)
{
	int status;
	pid_t child = fork();

	STEP(child >= 0);
	if (child == 0)
		_exit(use_arena_as_child(scene, relay) != 0);
	STEP(waitpid(child, &status, 0) == child);
	STEP(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return 0;
}

/*
 * In a shared arena, the parent sees the code that the child appends, and can call it.  In a
 * private one, the memory of the parent does not change.
 */
static int use_arena_in_child(const struct scene *scene, struct buffers_arena *arena,
			      const struct destination *destination, unsigned flags)
{
	bool is_shared = flags & BUFFERS_ARENA_FORK_SHARED;

	struct relay *relay = mmap(NULL, sizeof(*relay), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	STEP(relay != MAP_FAILED);
	*relay = (struct relay){ arena, destination->start, is_shared, flags & BUFFERS_VIEW, NULL };
	STEP(fork_and_wait(scene, relay) == 0);
	STEP(check_memory(scene, destination) == 0);
	if (relay->copy && is_shared) {
		STEP(read_code(relay->copy) == 4321);
		STEP(destination->permissions[2] != 'x' || returns_number(relay->copy, 4321));
	}
	return munmap(relay, sizeof(*relay));
}

static int use_made_arena(const struct scene *scene, struct buffers_arena *arena,
			  unsigned flags, const char *permissions)
{
	struct buffers_item *item = buffers_arena_get(arena, 80 * KIB, 4096);
	struct destination destination;
	unsigned char *room;

	STEP(use_item(scene, item, permissions) == 0);
	buffers_release(item);
	item = buffers_arena_get(arena, 20 * KIB, 4096);
	STEP(item);
	room = buffers_reserve(item, 16 * KIB, 4096);
	STEP(room);
	set_destination(&destination, room, permissions);
	STEP(call_at(scene, &destination, 0, 11) == 0);
	buffers_release(item);
	STEP(use_arena_in_child(scene, arena, &destination, flags) == 0);
	return buffers_arena_destroy(arena);
}

static bool can_share;	/* determined before a policy applies */

static int use_arena(const struct scene *scene, unsigned flags, const char *permissions)
{
	struct buffers_request window = { .size = 512 * KIB };
	struct buffers_arena *arena;
	struct scene plain;

	if ((flags & BUFFERS_ARENA_FORK_SHARED) && (!can_share || !can_map_twice()))
		return 0;	/* the arena cannot be created, or not written to */
	if ((flags & BUFFERS_VIEW) && !can_map_twice())
		return 0;
	errno = 1234;
	arena = buffers_arena_create(&window, flags);
	if ((flags & BUFFERS_VIEW) && is_view_denied(scene, arena))
		return 0;
	STEP(arena && errno == 1234);
	plain = without_lack(scene);
	return use_made_arena(flags & BUFFERS_VIEW ? &plain : scene, arena, flags, permissions);
}

/*
 * The scenes
 */

static bool set_scene(struct scene *scene, int number)
{
	scene->outcome = lacks[number / POLICIES].outcome;
	ck_assert(watch_open(&scene->watch));
	return impose_scene(number);
}

static int use_memory(const struct scene *scene)
{
	struct scene plain = without_lack(scene);

	STEP(use_buffers(scene, BUFFERS_RX, "r-xp") == 0);
	STEP(use_allocated(scene, BUFFERS_RX, "r-xp") == 0);
	STEP(use_buffers(&plain, BUFFERS_RW, "rw-p") == 0);
	STEP(use_allocated(&plain, BUFFERS_RW, "rw-p") == 0);
	return use_viewed(scene);
}

static int use_arenas(const struct scene *scene)
{
	struct scene plain = without_lack(scene);
	struct scene shared = *scene;

	if (shared.outcome == IS_CLOSED)	/* only for private memory */
		shared.outcome = WORKS;
	STEP(use_arena(scene, BUFFERS_RX, "r-xp") == 0);
	STEP(use_arena(&shared, BUFFERS_RX | BUFFERS_ARENA_FORK_SHARED, "r-xs") == 0);
	STEP(use_arena(&plain, BUFFERS_RW, "rw-p") == 0);
	STEP(use_arena(&plain, BUFFERS_RW | BUFFERS_ARENA_FORK_SHARED, "rw-s") == 0);
	STEP(use_arena(scene, BUFFERS_RX | BUFFERS_VIEW, "r-xs") == 0);
	STEP(use_arena(scene, BUFFERS_RX | BUFFERS_VIEW | BUFFERS_ARENA_FORK_SHARED, "r-xs") == 0);
	return 0;
}

static int use_all(const struct scene *scene)
{
	STEP(use_memory(scene) == 0);
	return use_arenas(scene);
}

static int count_default(const struct buffers_info *info, void *count)
{
	*(unsigned *)count += info->flags == 0;
	return 0;
}

static int find_denied(void)
{
	struct buffers_request request = { .size = 1 };
	size_t allocated = 77;
	unsigned count = 0;

	errno = 0;
	STEP(!buffers_get(&request) && errno == EACCES);
	errno = 0;
	STEP(!buffers_alloc(&request, &allocated) && errno == EACCES);
	STEP(allocated == 77);
	errno = 0;
	STEP(!buffers_arena_create(&request, 0) && errno == EACCES);
	errno = 0;
	STEP(!buffers_arena_create(&request, BUFFERS_ARENA_FORK_SHARED) && errno == EACCES);
	STEP(buffers_walk(count_default, &count) == 0);
	STEP(count == 0);
	return 0;
}

/* The last step of a scene: it maps RWX memory, unless a policy denies that. */
static int use_default(int number)
{
	struct buffers_request request = { .size = 100 };
	struct code code = code_of(55);
	struct buffers_item *item;
	void *copy;

	if (policies[number % POLICIES].is_denying)
		return find_denied();
	item = buffers_get(&request);
	STEP(item);
	copy = buffers_append_code(item, code.bytes, CODE_SIZE);
	STEP(copy && returns_number(copy, 55));
	return 0;
}

static int play_scene(int number)
{
	struct scene scene;

	if (!set_scene(&scene, number))
		return 0;
	STEP(!watch_has_rwx(&scene.watch));
	STEP(watch_start(&scene.watch));
	STEP(use_all(&scene) == 0);
	STEP(!watch_stop(&scene.watch));
	return use_default(number);
}

START_TEST(rx_and_rw_memory_can_be_written_and_rwx_is_eacces)
{
	SKIP_IF_NO_SCENE(_i);
	run_scene(play_scene, _i);
}
END_TEST

/* Calls that failed because of a lack succeed as soon as it ends. */
static int play_and_recover(int number)
{
	struct scene scene, plain;

	if (!set_scene(&scene, number))
		return 0;
	STEP(use_all(&scene) == 0);
	STEP(raise_limits());
	plain = without_lack(&scene);
	return use_all(&plain);
}

START_TEST(writing_succeeds_after_a_lack_ends)
{
	static const unsigned char ending[] = { 2, 3, 6, 7 };
	int number = ending[_i / POLICIES] * POLICIES + _i % POLICIES;

	SKIP_IF_NO_SCENE(number);
	run_scene(play_and_recover, number);
}
END_TEST

/*
 * Several threads
 */

enum { THREADS = 3 };

static void *use_all_once(void *scene)
{
	static int done;

	if (is_tsan())	/* it takes memory from mremap() for earlier memory at that address */
		return use_memory(scene) == 0 ? &done : NULL;
	return use_all(scene) == 0 ? &done : NULL;
}

static int play_by_threads(int number)
{
	pthread_t threads[THREADS];
	struct scene scenes[THREADS];
	struct watch watch;
	void *result;

	STEP(watch_open(&watch));
	for (unsigned i = 0; i < THREADS; i++)
		STEP(watch_open(&scenes[i].watch));
	if (!impose_scene(number))
		return 0;
	STEP(watch_start(&watch));
	for (unsigned i = 0; i < THREADS; i++) {
		scenes[i].outcome = WORKS;
		STEP(pthread_create(&threads[i], NULL, use_all_once, &scenes[i]) == 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		STEP(pthread_join(threads[i], &result) == 0 && result);
	STEP(!watch_stop(&watch));
	return 0;
}

START_TEST(threads_that_write_make_no_memory_writable_and_executable)
{
	SKIP_IF_NO_SCENE(_i);
	SKIP_IF(is_emulated(), "the emulator's list misses mappings that other threads make");
	run_scene(play_by_threads, _i);
}
END_TEST

/*
 * Memory whose pages cannot be replaced
 */

/* A word changes as a whole or not at all; one byte of it, and other sizes, change in place. */
static int overwrite_fixed_page(unsigned char *page)
{
	STEP(buffers_overwrite(page, "word", 4) == -1 && errno == EACCES);
	STEP(memcmp(page, "\0\0\0\0", 4) == 0);
	STEP(buffers_overwrite(page + 8, "aligned!", 8) == -1 && errno == EACCES);
	STEP(memcmp(page + 8, "\0\0\0\0\0\0\0\0", 8) == 0);
	STEP(buffers_overwrite(page, "w\0\0\0", 4) == 0);
	STEP(buffers_overwrite(page, "w\0\0d", 4) == 0);
	STEP(buffers_overwrite(page + 8, "\0\0\0\0\0\0!\0", 8) == 0);
	STEP(memcmp(page, "w\0\0d\0\0\0\0\0\0\0\0\0\0!\0", 16) == 0);
	STEP(buffers_overwrite(page, "word", 3) == 0);
	STEP(buffers_overwrite(page + 4, "unaligned", 9) == 0);
	STEP(memcmp(page, "wordunaligned\0!\0", 16) == 0);
	return 0;
}

static int forbid_replacement(void *is_sealed)
{
	struct buffers_request request = { .size = 1, .flags = BUFFERS_RX };
	size_t size;
	unsigned char *page = buffers_alloc(&request, &size);

	STEP(page);
	if (!*(bool *)is_sealed) {
		STEP(refuse_call(SYS_mremap, EPERM));
	} else if (!seal_memory(page, size)) {
		return 0;
	}
	STEP(overwrite_fixed_page(page) == 0);
	errno = 0;
	STEP(buffers_free(page, size) == 0 || (errno == ENOMEM && *(bool *)is_sealed));
	return 0;
}

START_TEST(words_change_as_a_whole_or_not_at_all)
{
	SKIP_IF(!_i && !can_filter(), NO_FILTER);
	SKIP_IF(is_emulated(), "the emulator does not pass all calls to the kernel");
	run_child(forbid_replacement, &(bool){ _i });
}
END_TEST

/*
 * Signal handlers that write RX memory
 */

static struct {
	uint32_t *word;			/* at the start of a page */
	unsigned char *odd;		/* three bytes in it */
	struct buffers_item *item;	/* for appends of the handler only */
} handler;

static bool patch_in_handler(uint32_t number)
{
	uint32_t *copy;

	if (buffers_overwrite(handler.word, &number, 4) != 0 || *handler.word != number ||
	    buffers_overwrite(handler.odd, &number, 3) != 0 || memcmp(handler.odd, &number, 3) != 0)
		return false;
	copy = buffers_append(handler.item, &number, sizeof(number));
	return copy && *copy == number;
}

/* Writes the same pages in the meantime, and maps buffers. */
static int write_while_handlers_run(uint32_t *word, struct buffers_item *item, uint32_t count)
{
	struct buffers_request request = { .size = 64 * KIB, .flags = BUFFERS_RX };
	unsigned i;

	for (i = 1; are_signals_left(); i++) {
		STEP(buffers_overwrite(word, &i, sizeof(i)) == 0 && *word == i);
		if (buffers_remaining(item))
			STEP(buffers_append(item, "x", 1));
		if (i % 16 == 0 && i / 16 < 100)
			STEP(buffers_get(&request));
	}
	STEP(end_signals() && *handler.word == count);
	STEP(memcmp(handler.odd, &count, 3) == 0);
	return 0;
}

static int patch_in_handlers(void *hides_proc)
{
	struct buffers_request request = { .size = 32 * KIB, .flags = BUFFERS_RX };
	struct buffers_item *item = buffers_get(&request);
	uint32_t count = how_many(500, 2000);
	uint32_t *words;

	STEP(item);
	words = buffers_reserve(item, 64, 64);
	handler.item = buffers_get(&request);
	handler.word = words;
	handler.odd = (unsigned char *)&words[3];
	STEP(words && handler.item);
	if (*(bool *)hides_proc && !hide_proc())
		return 0;
	STEP(start_signals(patch_in_handler, count));
	return write_while_handlers_run(&words[2], item, count);
}

START_TEST(signal_handlers_write_rx_memory)
{
	SKIP_IF(is_emulated(), "the emulator delivers signals late");
	run_child(patch_in_handlers, &(bool){ _i });
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rx/rx");
	TCase *scenes = tcase_create("scenes");
	TCase *threads = tcase_create("threads");
	TCase *fixed = tcase_create("fixed");
	TCase *signals = tcase_create("signals");

	can_share = has_robust_locks();
	tcase_set_tags(scenes, "fork");
	tcase_set_timeout(scenes, 300);
	tcase_add_loop_test(scenes,
			    rx_and_rw_memory_can_be_written_and_rwx_is_eacces,
			    0, SCENES);
	tcase_add_loop_test(scenes, writing_succeeds_after_a_lack_ends, 0, 4 * POLICIES);
	suite_add_tcase(suite, scenes);

	tcase_set_tags(threads, "fork");
	tcase_set_timeout(threads, 300);
	tcase_add_loop_test(threads, threads_that_write_make_no_memory_writable_and_executable,
			    0, 2 * POLICIES);
	suite_add_tcase(suite, threads);

	tcase_set_tags(fixed, "fork");
	tcase_add_loop_test(fixed, words_change_as_a_whole_or_not_at_all, 0, 2);
	suite_add_tcase(suite, fixed);

	tcase_set_tags(signals, "fork");
	tcase_set_timeout(signals, 300);
	tcase_add_loop_test(signals, signal_handlers_write_rx_memory, 0, 2);
	suite_add_tcase(suite, signals);
	return run_suite(suite);
}
