/* SPDX-License-Identifier: MIT */
/*
 * process/give-back-fork.c: forks at any instant, also while other threads give room back
 *
 * The child starts without stretches and works; the parent's threads go on.
 */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/kinds.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 3, PIECES = 32, MOST = 3000 };

/* Pieces that one thread takes from buffers, or from an arena, and gives back. */
struct user {
	const struct kind *kind;
	struct buffers_arena *arena;	/* or NULL */
	uint64_t seed;
	struct piece {
		unsigned char *start;
		size_t size;
		unsigned char fill;
	} pieces[PIECES];
};

static bool has_only(const unsigned char *bytes, size_t size, unsigned char value)
{
	return bytes[0] == value && memcmp(bytes, bytes + 1, size - 1) == 0;
}

static struct buffers_item *get_item(const struct user *user, size_t size)
{
	struct buffers_request request = { .size = size, .flags = user->kind->flags };

	return user->arena ? buffers_arena_get(user->arena, size, 1) : buffers_get(&request);
}

static int take(struct user *user, struct piece *piece)
{
	unsigned char bytes[MOST];
	struct buffers_item *item;

	*piece = (struct piece){
		.size = 1 + random_below(&user->seed, MOST),
		.fill = (unsigned char)(1 + random_below(&user->seed, 255)),
	};
	item = get_item(user, piece->size);
	STEP(item);
	STEP(has_only(buffers_next(item), piece->size, 0));
	memset(bytes, piece->fill, piece->size);
	piece->start = buffers_append(item, bytes, piece->size);
	STEP(piece->start);
	buffers_release(item);
	return 0;
}

static int give_back(struct piece *piece)
{
	STEP(has_only(piece->start, piece->size, piece->fill));
	STEP(buffers_give_back(piece->start, piece->size) == 0);
	piece->start = NULL;
	return 0;
}

static int use_once(struct user *user)
{
	struct piece *piece = &user->pieces[random_below(&user->seed, PIECES)];

	return piece->start ? give_back(piece) : take(user, piece);
}

static int use_often(struct user *user, unsigned times)
{
	int line = 0;

	for (unsigned i = 0; i < times && !line; i++)
		line = use_once(user);
	return line;
}

static int give_all_back(struct user *user)
{
	int line = 0;

	for (unsigned i = 0; i < PIECES && !line; i++)
		if (user->pieces[i].start)
			line = give_back(&user->pieces[i]);
	return line;
}

/*
 * The threads
 */

static bool is_over;

struct worker {
	pthread_t thread;
	struct user user;
	int line;		/* of a step that failed */
};

static void *run_worker(void *context)
{
	struct worker *worker = context;

	while (!worker->line && !__atomic_load_n(&is_over, __ATOMIC_RELAXED))
		worker->line = use_often(&worker->user, 16);
	if (!worker->line)
		worker->line = give_all_back(&worker->user);
	return NULL;
}

/*
 * The children
 */

struct family {
	struct user user;	/* of the forking thread */
	struct buffers_item *held;
	bool is_raw;		/* without fork handlers */
};

static int live_in_child(void *context)
{
	struct family *family = context;
	const struct user *inherited = &family->user;
	struct user own = { .kind = inherited->kind, .arena = inherited->arena, .seed = 1 };
	unsigned rounds = inherited->kind->flags == BUFFERS_RX ? 100 : 1000;

	if (family->held) {
		STEP(has_only(buffers_next(family->held), buffers_remaining(family->held), 0));
		STEP(buffers_reserve(family->held, 1, 1));
		buffers_release(family->held);
	}
	STEP(use_often(&own, rounds) == 0);
	for (unsigned i = 0; i < PIECES; i++)
		if (inherited->pieces[i].start)
			STEP(has_only(inherited->pieces[i].start, inherited->pieces[i].size,
				      inherited->pieces[i].fill));
	STEP(give_all_back(&own) == 0);
	return 0;
}

static void fork_once(struct family *family)
{
	pid_t pid;
	int status;

	if (!family->is_raw) {
		run_child(live_in_child, family);
		return;
	}
	pid = fork_without_handlers();
	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		_exit(live_in_child(family) ? 1 : 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

/* Holds room that was given back over the fork. */
static void fork_with_item(struct family *family)
{
	struct piece piece;

	ck_assert_int_eq(take(&family->user, &piece), 0);
	ck_assert_int_eq(give_back(&piece), 0);
	family->held = get_item(&family->user, 1);
	ck_assert_ptr_nonnull(family->held);
	fork_once(family);
	buffers_release(family->held);
	family->held = NULL;
}

enum { PLACES = 2, LOOPS = 2 * PLACES * KINDS };

static struct family begin_family(int loop)
{
	struct buffers_request window = { .size = 16 * MIB };
	struct family family = {
		.user = { .kind = &kinds[loop % KINDS], .seed = seed_random() },
		.is_raw = loop / (PLACES * KINDS),
	};

	if (loop / KINDS % PLACES == 1) {
		family.user.arena = buffers_arena_create(&window, family.user.kind->flags);
		ck_assert_ptr_nonnull(family.user.arena);
	}
	return family;
}

START_TEST(child_starts_empty_and_parent_continues)
{
	static struct worker workers[THREADS];
	struct family family = begin_family(_i);
	unsigned threads = is_emulated() ? 0 : THREADS;

	SKIP_IF(is_tsan(), "the sanitizer's runtime locks up in a child of threads");
	SKIP_IF(family.is_raw && !can_wipe_on_fork(), NO_WIPE);
	for (unsigned i = 0; i < threads; i++) {
		workers[i].user = family.user;
		workers[i].user.seed = next_random(&family.user.seed);
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, run_worker,
						&workers[i]), 0);
	}
	for (unsigned i = how_many(16, 150); i--;) {
		ck_assert_int_eq(use_often(&family.user, 8), 0);
		if (i % 2)
			fork_once(&family);
		else
			fork_with_item(&family);
	}
	__atomic_store_n(&is_over, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < threads; i++) {
		ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
		ck_assert_int_eq(workers[i].line, 0);
	}
	ck_assert_int_eq(give_all_back(&family.user), 0);
	if (family.user.arena)
		ck_assert_int_eq(buffers_arena_destroy(family.user.arena), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("process/give-back-fork");
	TCase *all = tcase_create("forks");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_loop_test(all, child_starts_empty_and_parent_continues, 0, LOOPS);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
