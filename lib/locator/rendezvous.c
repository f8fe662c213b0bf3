/* SPDX-License-Identifier: MIT */
/*
 * locator-find.c: one first locator for all copies of the library in a process
 *
 * The copies know nothing of each other.  The first puts up a notice with the
 * address of its locator, which the others follow.  Notices outlive processes,
 * and their names are used again, so each is held against what is in memory.
 *
 * No lock is held meanwhile: threads of one copy that come here at once offer
 * the same locator, and one of them publishes it.
 */

#include "config.h"
#include "locator/locator.h"

#include <errno.h>
#include <string.h>

#define NAME "Reloaded.Memory.Buffers.MemoryBuffer"

/* One for the locators of each kind of buffers, and NULL. */
static const char *const names[BUFFERS_KINDS + 1] = {
	[BUFFERS_KIND_RWX] = NAME,
	[BUFFERS_KIND_RW] = NAME ".RW",
	[BUFFERS_KIND_RX] = NAME ".RX",
};

/*
 * The start of a notice.  Other implementations read and write this_address
 * alone; some keep their first locator in it.  Ours are copies of a locator
 * without items, and signed where its items would be.
 */
struct notice {
	uintptr_t this_address;
	char rest_of_locator[32 - sizeof(uintptr_t)];
	char signature[16];
	uint64_t root;		/* the address of the publisher's */
	uint64_t token;		/* what stands there */
	uint64_t space;		/* what its process number counts in */
	uint64_t signed_address;	/* others may use an old file of ours for theirs */
};
_Static_assert(offsetof(struct notice, signature) == 32, "layout");
_Static_assert(sizeof(struct notice) == 80, "layout");

static const char signature[16] = "reloaded-buffers";

static bool is_signed(const struct notice *notice)
{
	return memcmp(notice->signature, signature, sizeof(signature)) == 0 &&
	       notice->signed_address == notice->this_address;
}

/*
 * The errand: looking in all places, and publishing in one
 */

/* What may be done in a place. */
enum state { PUT_UP, REPLACE, REPLACE_IF_NEED_BE, NOTHING };

struct errand {
	struct buffers_rendezvous_dirs board;
	enum buffers_kind kind;		/* of what is sought */
	enum state states[BUFFERS_RENDEZVOUS_DIRS];
	struct buffers_rendezvous_id ids[BUFFERS_RENDEZVOUS_DIRS];	/* of what is replaced */
	uint64_t space;
	uintptr_t stack_top;	/* all that is said of notices on the stack lies below */
	bool is_unsettled;	/* somebody is about to write: look again */
	unsigned attempts;
};

/* To be called with __builtin_frame_address(0) where no notice is looked at. */
static void begin(struct errand *errand, enum buffers_kind kind, const void *frame)
{
	*errand = (struct errand){
		.kind = kind,
		.space = buffers_platform_pid_namespace(),
		.stack_top = (uintptr_t)frame,
	};
	buffers_platform_rendezvous_open(&errand->board);
}

static void end(struct errand *errand)
{
	buffers_platform_rendezvous_close(&errand->board);
}

/*
 * Judging a notice
 */

enum verdict {
	LIVE,		/* follow it */
	UNFINISHED,	/* its maker is about to write */
	STALE,		/* nothing of this process: replace it */
	DISTANT,	/* of another process, which may live: replace it if need be */
	ALIEN,		/* of this process, but not as we understand it: let it be */
	CHANGING,	/* the same, but somebody writes to it */
};

static bool is_aligned(uintptr_t address)
{
	return address % sizeof(uintptr_t) == 0;
}

/*
 * Copies of locators are in forked children, and programs without randomisation
 * have theirs where the last one had it.  So an address may look right that a
 * dead process published.  Roots are empty in a child and after exec, and no two
 * have the same token.
 */
static bool is_of_this_process(const struct notice *notice)
{
	struct buffers_root root;

	return notice->root <= UINTPTR_MAX &&
	       buffers_platform_try_read((uintptr_t)notice->root, &root, sizeof(root)) == 0 &&
	       root.offered == notice->this_address && root.token == notice->token &&
	       root.process == buffers_platform_pid();
}
_Static_assert(sizeof(struct buffers_root) % 8 == 0, "can be peeked at");

static bool is_of_our_space(const struct errand *errand, const struct notice *notice)
{
	return errand->space && notice->space == errand->space;
}

/* Its process has our number, but where that means another. */
static bool is_of_other_space(const struct errand *errand, const struct notice *notice)
{
	return errand->space && notice->space && !is_of_our_space(errand, notice);
}

static enum verdict judge_signature(const struct errand *errand, const struct notice *notice)
{
	if (is_of_other_space(errand, notice))
		return DISTANT;
	if (is_of_this_process(notice))
		return LIVE;
	return is_of_our_space(errand, notice) ? STALE : DISTANT;
}

/*
 * An address that we read is in our own stack frames, too, and if it leads right
 * there, it looks like a locator that says where it is.
 */
static bool is_in_our_frames(const struct errand *errand, uintptr_t address)
{
	enum { FRAMES_BELOW = 2048, OWN_FRAME = 1024 };	/* whose address may be its lower end */
	uintptr_t bottom = (uintptr_t)__builtin_frame_address(0) - FRAMES_BELOW;

	return address < errand->stack_top + OWN_FRAME &&
	       address + BUFFERS_LOCATOR_SIZE > bottom;
}

/* The kernel is asked to write only where it says that there is a locator. */
static bool is_locator(const struct errand *errand, uintptr_t address)
{
	const struct buffers_locator *locator = (const struct buffers_locator *)address;
	uintptr_t start[8 / sizeof(uintptr_t)];

	return is_aligned(address) && !is_in_our_frames(errand, address) &&
	       buffers_platform_try_read(address, start, sizeof(start)) == 0 &&
	       start[0] == address &&
	       buffers_platform_is_writable(address, BUFFERS_LOCATOR_SIZE) &&
	       /* Again, for what its maker wrote before. */
	       __atomic_load_n(&locator->this_address, __ATOMIC_ACQUIRE) == address;
}

/* More locators than there can be mappings to list make a circle. */
enum { LONGEST_CHAIN = 65536 };

enum chain { WHOLE, BROKEN, CIRCULAR };

/* From its first, which is one. */
static enum chain judge_chain(const struct errand *errand, const struct buffers_locator *locator)
{
	const struct buffers_locator *noted = NULL;	/* to be met again in a circle */

	for (unsigned i = 1; i < LONGEST_CHAIN; i++) {
		if (!buffers_locator_is_valid(locator))
			return BROKEN;
		if ((i & (i - 1)) == 0)
			noted = locator;
		locator = buffers_locator_next(locator);
		if (!locator)
			return WHOLE;
		if (locator == noted)
			return CIRCULAR;
		if (!is_locator(errand, (uintptr_t)locator))
			return BROKEN;
	}
	return CIRCULAR;
}

static bool is_locked(const struct buffers_locator *locator)
{
	return __atomic_load_n(&locator->is_locked, __ATOMIC_ACQUIRE) == 1;
}

static enum verdict judge_locator(const struct errand *errand,
				  const struct buffers_locator *locator)
{
	bool is_changing = is_locked(locator);

	switch (judge_chain(errand, locator)) {
	case WHOLE:
		return LIVE;
	case BROKEN:
		return is_changing || is_locked(locator) ? CHANGING : ALIEN;
	default:
		return ALIEN;
	}
}

static enum verdict judge(const struct errand *errand, const struct notice *notice,
			  bool is_fresh)
{
	enum verdict verdict = LIVE;

	if (is_fresh && notice->this_address == 0)
		return UNFINISHED;
	if (is_signed(notice))
		verdict = judge_signature(errand, notice);
	if (verdict == LIVE && !is_locator(errand, notice->this_address))
		verdict = STALE;
	if (verdict == LIVE)
		verdict = judge_locator(errand,
					(const struct buffers_locator *)notice->this_address);
	return verdict;
}

/*
 * Looking in all places
 */

static int read_notice(const struct errand *errand, unsigned place, struct notice *notice,
		       struct buffers_rendezvous_id *id, bool *is_fresh)
{
	return buffers_platform_rendezvous_read(&errand->board, place, names[errand->kind], notice,
					    sizeof(*notice), id, is_fresh);
}

/* Whether a notice in this place leads to a locator; if not, notes what may be done. */
static bool look(struct errand *errand, unsigned place, struct buffers_locator **locator)
{
	static const enum state states[] = {
		[UNFINISHED] = REPLACE,	/* in the end */
		[STALE] = REPLACE,
		[DISTANT] = REPLACE_IF_NEED_BE,
		[ALIEN] = NOTHING,
		[CHANGING] = NOTHING,
	};
	struct notice notice;
	bool is_fresh = false;
	int error = read_notice(errand, place, &notice, &errand->ids[place], &is_fresh);
	enum verdict verdict;

	errand->states[place] = error == ENOENT ? PUT_UP : NOTHING;
	if (error)
		return false;
	verdict = judge(errand, &notice, is_fresh);
	if (verdict == LIVE) {
		*locator = (struct buffers_locator *)notice.this_address;
		return true;
	}
	errand->is_unsettled |= verdict == UNFINISHED || verdict == CHANGING;
	errand->states[place] = states[verdict];
	return false;
}

static bool look_around(struct errand *errand, struct buffers_locator **locator)
{
	errand->is_unsettled = false;
	for (unsigned place = 0; place < BUFFERS_RENDEZVOUS_DIRS; place++)
		if (look(errand, place, locator))
			return true;
	return false;
}

/* Attempts; with buffers_platform_backoff() between them about a second. */
enum { PATIENCE = 8192 };

static bool wait_a_moment(struct errand *errand)
{
	if (errand->attempts == PATIENCE)
		return false;
	buffers_platform_backoff(errand->attempts++);
	return true;
}

__attribute__((noinline))
static bool find(struct errand *errand, struct buffers_locator **locator)
{
	do {
		if (look_around(errand, locator))
			return true;
	} while (errand->is_unsettled && wait_a_moment(errand));
	return false;
}

/*
 * Publishing
 */

static struct notice write_rendezvous_file(const struct errand *errand, const struct buffers_root *root)
{
	struct notice notice = {
		.this_address = __atomic_load_n(&root->offered, __ATOMIC_ACQUIRE),
		.root = (uintptr_t)root,
		.token = __atomic_load_n(&root->token, __ATOMIC_RELAXED),
		.space = errand->space,
	};

	notice.signed_address = notice.this_address;
	memcpy(notice.signature, signature, sizeof(signature));
	return notice;
}

/*
 * Of a process that is gone as far as we can see.  What may be another space's
 * is left for as long as others leave files in /tmp.
 */
static bool may_remove(const void *bytes, bool is_old, void *context)
{
	const struct errand *errand = context;
	struct notice notice;

	memcpy(&notice, bytes, sizeof(notice));
	return is_old || !is_signed(&notice) || is_of_our_space(errand, &notice);
}

static int publish_in(struct errand *errand, unsigned place, const struct notice *notice)
{
	const struct buffers_rendezvous_id *old =
		errand->states[place] == PUT_UP ? NULL : &errand->ids[place];
	int error = buffers_platform_rendezvous_create(&errand->board, place, names[errand->kind],
						 notice, sizeof(*notice), old);

	if (!error)
		buffers_platform_rendezvous_clean_up(&errand->board, place, names, sizeof(*notice),
					     may_remove, errand);
	return error;
}

static int publish_where(struct errand *errand, const struct notice *notice,
			 bool is_last_resort)
{
	int error = EACCES;

	for (unsigned place = 0; place < BUFFERS_RENDEZVOUS_DIRS && error == EACCES; place++) {
		enum state state = errand->states[place];

		if (state != NOTHING && (state == REPLACE_IF_NEED_BE) == is_last_resort)
			error = publish_in(errand, place, notice);
	}
	return error;
}

/* 0; EAGAIN: another was first, look again; EACCES: no place can be used. */
static int publish(struct errand *errand, const struct buffers_root *root)
{
	struct notice notice = write_rendezvous_file(errand, root);
	int error = publish_where(errand, &notice, false);

	return error == EACCES ? publish_where(errand, &notice, true) : error;
}

static void set_once(uintptr_t *word, uintptr_t value)
{
	uintptr_t unset = 0;

	__atomic_compare_exchange_n(word, &unset, value, false, __ATOMIC_ACQ_REL,
				    __ATOMIC_ACQUIRE);
}

/*
 * What was offered once is never unmapped, though another copy be first: a
 * notice may lead to it for a moment.
 */
static int offer(struct buffers_root *root, enum buffers_kind kind)
{
	struct buffers_locator *locator;
	int error;

	if (__atomic_load_n(&root->offered, __ATOMIC_ACQUIRE))
		return 0;
	error = buffers_locator_create(kind, &locator);
	if (error)
		return error;
	set_once(&root->token, (uintptr_t)buffers_platform_random() | 1);
	set_once(&root->offered, (uintptr_t)locator);
	if (__atomic_load_n(&root->offered, __ATOMIC_ACQUIRE) != (uintptr_t)locator)
		buffers_locator_destroy(locator);
	return 0;
}

/* Where notices are memory, the locator is one. */
struct site {
	const struct errand *errand;
	unsigned place;
};

static int map_notice(void *context, size_t size, unsigned kind, uintptr_t *address)
{
	const struct site *site = context;
	const struct errand *errand = site->errand;

	return buffers_platform_rendezvous_map(&errand->board, site->place, names[errand->kind],
					   size, kind, address);
}

/* 0; EAGAIN: another was first, look again; else no place can be used so. */
static int create_in_notice(const struct errand *errand, struct buffers_locator **locator)
{
	struct site site = { .errand = errand };
	int error = EACCES;

	for (; site.place < BUFFERS_RENDEZVOUS_DIRS && error == EACCES; site.place++)
		if (errand->states[site.place] == PUT_UP)
			error = buffers_locator_create_in(errand->kind, map_notice, &site, locator);
	return error;
}

/* Where nothing can be published, it is used all the same. */
static int offer_and_publish(struct errand *errand, struct buffers_root *root,
			     struct buffers_locator **locator)
{
	int error = offer(root, errand->kind);

	if (error)
		return error;
	*locator = (struct buffers_locator *)__atomic_load_n(&root->offered, __ATOMIC_ACQUIRE);
	return publish(errand, root) == EAGAIN ? EAGAIN : 0;
}

/* Where something stands, somebody keeps us from replacing it. */
static int publish_elsewhere(struct errand *errand, struct buffers_root *root,
			     struct buffers_locator **locator)
{
	for (unsigned place = 0; place < BUFFERS_RENDEZVOUS_DIRS; place++)
		if (errand->states[place] != PUT_UP)
			errand->states[place] = NOTHING;
	return offer_and_publish(errand, root, locator);
}

/*
 * Finding
 */

static int find_or_publish(struct errand *errand, struct buffers_root *root,
			   struct buffers_locator **locator)
{
	int error;

	do {
		if (find(errand, locator))
			return 0;
		error = create_in_notice(errand, locator);
		if (error && error != EAGAIN)
			error = offer_and_publish(errand, root, locator);
	} while (error == EAGAIN && wait_a_moment(errand));
	if (error == EAGAIN)
		error = publish_elsewhere(errand, root, locator);
	return error == EAGAIN ? 0 : error;
}

static struct buffers_locator *first_of(const struct buffers_root *root)
{
	return __atomic_load_n(&root->first, __ATOMIC_ACQUIRE);
}

/* Of threads that found different ones, as when they could not publish, one decides. */
static void settle(struct buffers_root *root, struct buffers_locator **locator)
{
	struct buffers_locator *none = NULL;

	if (!__atomic_compare_exchange_n(&root->first, &none, *locator, false,
					 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		*locator = none;
}

int buffers_rendezvous_first(struct buffers_root *root, enum buffers_kind kind,
			  struct buffers_locator **locator)
{
	struct errand errand;
	int error;

	*locator = first_of(root);
	if (*locator)
		return 0;
	__atomic_store_n(&root->process, buffers_platform_pid(), __ATOMIC_RELAXED);
	begin(&errand, kind, __builtin_frame_address(0));
	error = find_or_publish(&errand, root, locator);
	end(&errand);
	if (!error)
		settle(root, locator);
	return error;
}

struct buffers_locator *buffers_rendezvous_known(struct buffers_root *root,
					      enum buffers_kind kind)
{
	struct buffers_locator *locator = first_of(root);
	struct errand errand;

	if (locator)
		return locator;
	__atomic_store_n(&root->process, buffers_platform_pid(), __ATOMIC_RELAXED);
	begin(&errand, kind, __builtin_frame_address(0));
	if (find(&errand, &locator))
		settle(root, &locator);
	end(&errand);
	return locator;
}

/* Another copy may have published it, and be gone. */
static void leave_place(const struct errand *errand, unsigned place, uintptr_t first)
{
	struct buffers_rendezvous_id id;
	struct notice notice;
	bool is_fresh;

	if (read_notice(errand, place, &notice, &id, &is_fresh) == 0 &&
	    notice.this_address == first && is_signed(&notice) && is_of_this_process(&notice))
		buffers_platform_rendezvous_remove(&errand->board, place, names[errand->kind], &id);
}

void buffers_rendezvous_withdraw(const struct buffers_root *root, enum buffers_kind kind)
{
	uintptr_t first = (uintptr_t)first_of(root);
	struct errand errand;

	if (!first)
		return;
	begin(&errand, kind, __builtin_frame_address(0));
	for (unsigned place = 0; place < BUFFERS_RENDEZVOUS_DIRS; place++)
		leave_place(&errand, place, first);
	end(&errand);
}
