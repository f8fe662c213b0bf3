/* SPDX-License-Identifier: MIT */
/* arena/arena-destroy.c: another thread uses the addresses of an arena that is being destroyed */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/arena-records.h"
#include "support/supervise.h"
#include "support/support.h"

#include <errno.h>
#include <sys/syscall.h>

/* One thread destroys the old arena; the supervisor uses a new one between its system calls. */
static struct {
	struct buffers_request window;
	struct buffers_arena *old;
	unsigned old_flags, new_flags;
	unsigned calls;			/* to munmap(2) */
	bool is_used;			/* the new arena, after the first call */
	int result;			/* 0, or the line of the step that failed, of its use */
} scene;
static struct supervision supervision;

static bool has_right_view(void *room)
{
	void *view = buffers_view(room);

	if (scene.new_flags & BUFFERS_VIEW)
		return view && view != room;
	return view == (scene.new_flags & BUFFERS_RX ? NULL : room);
}

/* Room is given back to the new arena if it is what the arena hands out next. */
static int use_new_arena(void)
{
	struct buffers_arena *arena = buffers_arena_create(&scene.window, scene.new_flags);
	struct buffers_item *item;
	void *room;

	STEP(arena);
	item = buffers_arena_get(arena, 64, 16);
	STEP(item);
	room = buffers_append(item, "sixteen bytes...", 16);
	STEP(room);
	buffers_release(item);
	STEP(has_right_view(room));
	STEP(buffers_give_back(room, 16) == 0);
	item = buffers_arena_get(arena, 16, 16);
	STEP(item && buffers_next(item) == room);
	buffers_release(item);
	STEP(buffers_arena_destroy(arena) == 0);
	return 0;
}

/* The window is unmapped by one of the first calls; the new arena fits as soon as it is. */
static int use_between(int number, void *context)
{
	(void)context;
	if (number != SYS_munmap || scene.is_used)
		return 0;
	scene.is_used = scene.calls++ && is_window_free(&scene.window);
	if (scene.is_used)
		__atomic_store_n(&scene.result, use_new_arena(), __ATOMIC_RELEASE);
	return 0;
}

static int destroy_supervised(void *context)
{
	int status;

	(void)context;
	supervise_begin(&supervision);
	status = buffers_arena_destroy(scene.old);
	supervise_end(&supervision);
	return status == 0 ? 0 : __LINE__;
}

/* Also for room that the old arena had handed out. */
START_TEST(room_of_a_new_arena_is_not_taken_for_that_of_the_old_one)
{
	struct buffers_item *item;

	SKIP_IF(!can_supervise(), NO_LISTENER);
	scene.result = __LINE__;	/* not used at all */
	scene.window = exact_window(64 * 1024);
	scene.old_flags = arena_flags(_i / 2 / ARENA_SHARED);
	scene.new_flags = arena_flags(_i / 2 % ARENA_SHARED);
	scene.old = buffers_arena_create(&scene.window, scene.old_flags);
	ck_assert_ptr_nonnull(scene.old);
	if (_i % 2) {
		item = buffers_arena_get(scene.old, 64, 16);
		ck_assert_ptr_nonnull(item);
		ck_assert_ptr_nonnull(buffers_append(item, "sixteen bytes...", 16));
		buffers_release(item);
	}
	supervision = (struct supervision){ .judge = use_between };
	ck_assert_int_eq(run_supervised(&supervision, destroy_supervised, NULL), 0);
	ck_assert_int_eq(__atomic_load_n(&scene.result, __ATOMIC_ACQUIRE), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("arena/arena-destroy");
	TCase *all = tcase_create("addresses used again");

	tcase_set_tags(all, "fork");
	tcase_add_loop_test(all, room_of_a_new_arena_is_not_taken_for_that_of_the_old_one, 0,
			    2 * ARENA_SHARED * ARENA_SHARED);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
