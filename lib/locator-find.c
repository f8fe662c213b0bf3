/* SPDX-License-Identifier: MIT */
/*
 * locator-find.c: one first locator for all copies of the library in a process
 *
 * The copies know nothing of each other.  The first puts up a notice with the
 * address of its locator, which the others follow.  Notices outlive processes,
 * and their names are used again, so each is held against what is in memory.
 */

#include "config.h"
#include "locator.h"

#include <errno.h>
#include <string.h>

#define NAME "Reloaded.Memory.Buffers.MemoryBuffer"

/*
 * The start of a notice.  Other implementations read and write this_address
 * alone; some keep their first locator in it.  Ours are copies of a locator
 * without items, and signed where its items would be.
 */
struct notice {
	uintptr_t this_address;
	uintptr_t next_locator;
	uint32_t is_locked;
	uint8_t flags, num_items, reserved[2];
	char signature[16];
	uint64_t root;		/* the address of the publisher's */
	uint64_t space;		/* what its process number counts in */
};
_Static_assert(offsetof(struct notice, signature) == offsetof(struct buffers_locator, items),
	       "layout");

static const char signature[16] = "reloaded-buffers";

static bool is_signed(const struct notice *notice)
{
	return memcmp(notice->signature, signature, sizeof(signature)) == 0;
}

/*
 * Reading a notice
 */

static bool is_aligned(uintptr_t address)
{
	return address % sizeof(uintptr_t) == 0;
}

/*
 * A forked child has copies of its parent's locators.  Should a dead process
 * of its number have had one at the address of such a copy, only this tells
 * the notice's death: roots are empty in the child, and refilled by it alone.
 */
static bool is_of_this_process(const struct notice *notice)
{
	const struct buffers_root *root = (const struct buffers_root *)(uintptr_t)notice->root;

	return notice->root <= UINTPTR_MAX && is_aligned((uintptr_t)root) &&
	       buffers_platform_is_readable((uintptr_t)root, sizeof(*root)) &&
	       __atomic_load_n(&root->offered, __ATOMIC_ACQUIRE) == notice->this_address &&
	       __atomic_load_n(&root->process, __ATOMIC_RELAXED) == buffers_platform_process();
}

/* Others' memory is written to, be it with what it holds, only if it says so. */
static bool is_locator(uintptr_t address)
{
	const struct buffers_locator *locator = (const struct buffers_locator *)address;

	return is_aligned(address) &&
	       buffers_platform_is_readable(address, BUFFERS_LOCATOR_SIZE) &&
	       __atomic_load_n(&locator->this_address, __ATOMIC_ACQUIRE) == address &&
	       buffers_platform_is_writable(address, BUFFERS_LOCATOR_SIZE);
}

/* More locators than a process has mappings to list make a circle. */
enum { LONGEST_CHAIN = 65536 };

/* From its first, which is one. */
static bool is_valid_chain(const struct buffers_locator *locator)
{
	for (unsigned i = 0; i < LONGEST_CHAIN && buffers_locator_is_valid(locator); i++) {
		locator = buffers_locator_next(locator);
		if (!locator)
			return true;
		if (!is_locator((uintptr_t)locator))
			break;
	}
	return false;
}

/* Its process has our number, but where that means another. */
static bool is_of_other_space(const struct notice *notice)
{
	uint64_t space = buffers_platform_process_space();

	return is_signed(notice) && space && notice->space && space != notice->space;
}

enum verdict {
	LIVE,		/* follow it */
	STALE,		/* nothing of this process: replace it */
	DISTANT,	/* of another process, which may live: replace it if need be */
	ALIEN,		/* of this process, but not as we understand it: let it be */
};

static enum verdict judge(const struct notice *notice)
{
	if (is_of_other_space(notice))
		return DISTANT;
	if ((is_signed(notice) && !is_of_this_process(notice)) ||
	    !is_locator(notice->this_address))
		return STALE;
	return is_valid_chain((const struct buffers_locator *)notice->this_address) ?
	       LIVE : ALIEN;
}

/*
 * Looking in all places
 */

/* What we may do there, the best first. */
enum state { PUT_UP, REPLACE, REPLACE_IF_NEED_BE, NOTHING };

struct place {
	enum state state;
	struct buffers_notice_id old;
};

struct survey {
	struct buffers_board board;
	struct place places[BUFFERS_BOARD_PLACES];
	bool is_unsettled;	/* somebody is about to write: look again */
	unsigned attempts;
};

static int read_notice(const struct survey *survey, unsigned place, struct notice *notice,
		       struct buffers_notice_id *id, bool *is_fresh)
{
	return buffers_platform_notice_read(&survey->board, place, NAME, notice,
					    sizeof(*notice), id, is_fresh);
}

/* The locator that a notice in this place leads to, or NULL. */
static struct buffers_locator *look(struct survey *survey, unsigned number)
{
	struct place *place = &survey->places[number];
	struct notice notice;
	bool is_fresh;
	int error = read_notice(survey, number, &notice, &place->old, &is_fresh);

	place->state = error == ENOENT ? PUT_UP : NOTHING;
	if (error == EAGAIN || (!error && is_fresh && notice.this_address == 0))
		survey->is_unsettled = true;
	if (error)
		return NULL;
	switch (judge(&notice)) {
	case LIVE:
		return (struct buffers_locator *)notice.this_address;
	case STALE:
		place->state = REPLACE;
		break;
	case DISTANT:
		place->state = REPLACE_IF_NEED_BE;
		break;
	case ALIEN:
		break;
	}
	return NULL;
}

static struct buffers_locator *look_around(struct survey *survey)
{
	struct buffers_locator *found = NULL;

	survey->is_unsettled = false;
	for (unsigned place = 0; place < BUFFERS_BOARD_PLACES && !found; place++)
		found = look(survey, place);
	return found;
}

/*
 * Publishing
 */

static struct notice write_notice(const struct buffers_root *root)
{
	struct notice notice = {
		.this_address = root->offered,
		.root = (uintptr_t)root,
		.space = buffers_platform_process_space(),
	};

	memcpy(notice.signature, signature, sizeof(signature));
	return notice;
}

static bool may_remove(const void *bytes)
{
	const struct notice *notice = bytes;

	return !is_signed(notice) || notice->space == buffers_platform_process_space();
}

static int publish_in(struct survey *survey, unsigned number, const struct notice *notice)
{
	const struct place *place = &survey->places[number];
	int error = buffers_platform_notice_post(&survey->board, number, NAME, notice,
						 sizeof(*notice),
						 place->state == PUT_UP ? NULL : &place->old);

	if (!error)
		buffers_platform_notice_tidy(&survey->board, number, NAME, sizeof(*notice),
					     may_remove);
	return error;
}

/* 0; EAGAIN: another was first, look again; EACCES: no place can be used. */
static int publish(struct survey *survey, const struct buffers_root *root)
{
	struct notice notice = write_notice(root);
	int error = EACCES;

	for (unsigned late = 0; late < 2; late++)
		for (unsigned i = 0; i < BUFFERS_BOARD_PLACES && error == EACCES; i++) {
			enum state state = survey->places[i].state;

			if (state != NOTHING && (state == REPLACE_IF_NEED_BE) == late)
				error = publish_in(survey, i, &notice);
		}
	return error;
}

static int offer(struct buffers_root *root)
{
	struct buffers_locator *locator;
	int error = buffers_locator_create(&locator);

	if (error)
		return error;
	__atomic_store_n(&root->offered, (uintptr_t)locator, __ATOMIC_RELEASE);
	return 0;
}

static void withdraw(struct buffers_root *root)
{
	uintptr_t locator = root->offered;

	__atomic_store_n(&root->offered, 0, __ATOMIC_RELEASE);
	if (locator)
		buffers_locator_destroy((struct buffers_locator *)locator);
}

/*
 * Finding
 */

/* Attempts; with buffers_platform_relax() between them more than a second. */
enum { PATIENCE = 16384 };

static bool wait_a_moment(struct survey *survey)
{
	if (survey->attempts == PATIENCE)
		return false;
	buffers_platform_relax(survey->attempts++);
	return true;
}

/* NULL: there is none, or none that is understood. */
static struct buffers_locator *find(struct survey *survey)
{
	struct buffers_locator *found;

	do
		found = look_around(survey);
	while (!found && survey->is_unsettled && wait_a_moment(survey));
	return found;
}

static int find_or_offer(struct survey *survey, struct buffers_root *root,
			 struct buffers_locator **locator)
{
	int error;

	do {
		*locator = find(survey);
		if (*locator) {
			withdraw(root);
			return 0;
		}
		error = root->offered ? 0 : offer(root);
		if (error)
			return error;
	} while (publish(survey, root) == EAGAIN && wait_a_moment(survey));
	*locator = (struct buffers_locator *)root->offered;
	return 0;
}

/* As find_or_offer(), or with `may_offer` false as find(). */
static int settle(struct buffers_root *root, bool may_offer, struct buffers_locator **locator)
{
	struct survey survey = { .attempts = 0 };
	int error = 0;

	buffers_platform_board_open(&survey.board);
	if (may_offer)
		error = find_or_offer(&survey, root, locator);
	else
		*locator = find(&survey);
	buffers_platform_board_close(&survey.board);
	return error;
}

static int get_first(struct buffers_root *root, bool may_offer, struct buffers_locator **locator)
{
	int error = 0;

	*locator = __atomic_load_n(&root->first, __ATOMIC_ACQUIRE);
	if (*locator)
		return 0;
	buffers_locator_lock(&root->is_locked);
	*locator = root->first;
	if (!*locator) {
		__atomic_store_n(&root->process, buffers_platform_process(), __ATOMIC_RELAXED);
		error = settle(root, may_offer, locator);
	}
	if (!error)
		__atomic_store_n(&root->first, *locator, __ATOMIC_RELEASE);
	buffers_locator_unlock(&root->is_locked);
	return error;
}

int buffers_locator_first(struct buffers_root *root, struct buffers_locator **locator)
{
	return get_first(root, true, locator);
}

struct buffers_locator *buffers_locator_known(struct buffers_root *root)
{
	struct buffers_locator *locator;

	get_first(root, false, &locator);
	return locator;
}

void buffers_locator_leave(const struct buffers_root *root)
{
	uintptr_t first = (uintptr_t)__atomic_load_n(&root->first, __ATOMIC_ACQUIRE);
	struct buffers_notice_id id;
	struct survey survey;
	struct notice notice;
	bool is_fresh;

	if (!first)
		return;
	buffers_platform_board_open(&survey.board);
	for (unsigned place = 0; place < BUFFERS_BOARD_PLACES; place++)
		if (read_notice(&survey, place, &notice, &id, &is_fresh) == 0 &&
		    notice.this_address == first && is_signed(&notice) && judge(&notice) == LIVE)
			buffers_platform_notice_remove(&survey.board, place, NAME, &id);
	buffers_platform_board_close(&survey.board);
}
