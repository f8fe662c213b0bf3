/* SPDX-License-Identifier: MIT */
/*
 * rendezvous.c: one first locator for all copies of the library in a process
 *
 * Rendezvous files outlive their processes, and process numbers are used again.  Each file is
 * therefore compared with the memory of this process before the library follows it.
 *
 * No lock is held meanwhile.  Threads of one copy that come here at once offer the same
 * locator, and one of them publishes it.
 */

#include "config.h"
#include "locator/rendezvous.h"
#include "platform/wait.h"

#define NAME "Reloaded.Memory.Buffers.MemoryBuffer"

/* The files' names, one for each kind of memory, and NULL. */
static const char *const names[BUFFERS_KINDS + 1] = {
	[BUFFERS_KIND_RWX] = NAME,
	[BUFFERS_KIND_RW] = NAME ".RW",
	[BUFFERS_KIND_RX] = NAME ".RX",
};

/*
 * The start of a rendezvous file.  Other implementations read and write this_address alone;
 * some keep their first locator in the file.  This library writes a locator without items,
 * and a signature where its items would be.
 */
struct record {
	uintptr_t this_address;
	char rest_of_locator[32 - sizeof(uintptr_t)];
	char signature[16];
	uint64_t root;		/* address of the publisher's struct buffers_root */
	uint64_t token;		/* the token in it */
	uint64_t pid_namespace;
	uint64_t signed_address;	/* other code may have put another address into the file */
};
_Static_assert(offsetof(struct record, signature) == 32, "layout");
_Static_assert(sizeof(struct record) == 80, "layout");

/* "reloaded-buffers" without a terminator, which newer compilers warn of in a string. */
static const char signature[16] = {
	'r', 'e', 'l', 'o', 'a', 'd', 'e', 'd', '-', 'b', 'u', 'f', 'f', 'e', 'r', 's',
};

static bool is_signed(const struct record *record)
{
	return memcmp(record->signature, signature, sizeof(signature)) == 0 &&
	       record->signed_address == record->this_address;
}

/*
 * A lookup reads the file in every directory, and may publish in one
 */

/* The permitted action in a directory. */
enum dir_state { CREATE, REPLACE, REPLACE_LAST, SKIP };

struct lookup {
	struct buffers_rendezvous_dirs dirs;
	enum buffers_kind kind;
	enum dir_state states[BUFFERS_RENDEZVOUS_DIRS];
	struct buffers_rendezvous_id ids[BUFFERS_RENDEZVOUS_DIRS];	/* files read */
	uint64_t pid_namespace;
	uintptr_t stack_top;	/* copies of records on the stack lie below it */
	bool is_pending;	/* another thread or process is about to write: look again */
	bool is_wait_over;	/* follow what is still not filled */
	struct buffers_wait wait;
};

/* The caller passes __builtin_frame_address(0), and reads no record itself. */
static void begin_lookup(struct lookup *lookup, enum buffers_kind kind, const void *frame)
{
	*lookup = (struct lookup){
		.kind = kind,
		.pid_namespace = buffers_platform_pid_namespace(),
		.stack_top = (uintptr_t)frame,
	};
	buffers_platform_rendezvous_open(&lookup->dirs);
	lookup->dirs.pid_namespace = lookup->pid_namespace;
}

static void end_lookup(struct lookup *lookup)
{
	buffers_platform_rendezvous_close(&lookup->dirs);
}

/*
 * Judging a record
 */

enum verdict {
	LIVE,		/* follow it */
	PENDING,	/* its creator is about to write the address */
	UNFILLED,	/* its creator has written the address, and not yet the locator */
	STALE,		/* not of this process: replace it */
	OTHER_PID_NS,	/* its process may live in another PID namespace: replace it last */
	PARENTS,	/* the parent's, which has the same number: leave it alone */
	INCOMPATIBLE,	/* this process's, in another version: leave it alone */
	LOCKED,		/* the same, and another thread holds the locator's lock */
};

/*
 * An address that a dead process published can look right: forked children have copies of
 * locators, and programs without address randomisation have theirs at the same addresses.
 * A root is zero in a child and after exec, and each has a token of its own.  The number of
 * the process would tell no more: it names the file.
 */
static bool is_of_this_process(const struct record *record)
{
	struct { uintptr_t offered, token; } root;

	return record->root <= UINTPTR_MAX &&
	       buffers_platform_try_read((uintptr_t)record->root, &root, sizeof(root)) == 0 &&
	       root.offered == record->this_address && root.token == record->token;
}

static bool is_of_own_namespace(const struct lookup *lookup, const struct record *record)
{
	return lookup->pid_namespace && record->pid_namespace == lookup->pid_namespace;
}

/* There, the number of this process means another process. */
static bool is_of_other_namespace(const struct lookup *lookup, const struct record *record)
{
	return lookup->pid_namespace && record->pid_namespace &&
	       !is_of_own_namespace(lookup, record);
}

static enum verdict judge_signature(const struct lookup *lookup, const struct record *record)
{
	if (is_of_other_namespace(lookup, record))
		return OTHER_PID_NS;
	if (is_of_this_process(record))
		return LIVE;
	return is_of_own_namespace(lookup, record) ? STALE : OTHER_PID_NS;
}

/*
 * The address that was read is also in the stack frames of this code.  If it points there,
 * the memory looks like a locator that names its own address.
 */
static bool is_in_own_frames(const struct lookup *lookup, uintptr_t address)
{
	/* On some processors a frame's address is its lower end. */
	enum { FRAMES_BELOW = 2048, OWN_FRAME = 1024 };
	uintptr_t bottom = (uintptr_t)__builtin_frame_address(0) - FRAMES_BELOW;

	return address < lookup->stack_top + OWN_FRAME &&
	       address + BUFFERS_LOCATOR_SIZE > bottom;
}

static bool is_locator(const struct lookup *lookup, uintptr_t address)
{
	return !is_in_own_frames(lookup, address) && buffers_locator_is_at(address);
}

/* A longer chain would list more buffers than a process can have mappings. */
enum { LONGEST_CHAIN = 65536 };

enum chain_state { VALID, BROKEN, CIRCULAR };

/* The caller has checked that the first is a locator. */
static enum chain_state judge_chain(const struct lookup *lookup,
				    const struct buffers_locator *locator)
{
	const struct buffers_locator *marker = NULL;	/* a circle leads back to it */

	for (unsigned i = 1; i < LONGEST_CHAIN; i++) {
		if (!buffers_locator_is_valid(locator))
			return BROKEN;
		if ((i & (i - 1)) == 0)
			marker = locator;
		locator = buffers_locator_next(locator);
		if (!locator)
			return VALID;
		if (locator == marker)
			return CIRCULAR;
		if (!is_locator(lookup, (uintptr_t)locator))
			return BROKEN;
	}
	return CIRCULAR;
}

static bool is_locked(const struct buffers_locator *locator)
{
	return __atomic_load_n(&locator->is_locked, __ATOMIC_ACQUIRE) == 1;
}

static enum verdict judge_locator(const struct lookup *lookup,
				  const struct buffers_locator *locator)
{
	bool was_locked = is_locked(locator);

	switch (judge_chain(lookup, locator)) {
	case VALID:
		return LIVE;
	case BROKEN:
		return was_locked || is_locked(locator) ? LOCKED : INCOMPATIBLE;
	default:
		return INCOMPATIBLE;
	}
}

/* Other implementations write the address first, and reset the rest of the locator later. */
static bool is_unfilled(const struct lookup *lookup, const struct record *record)
{
	return !lookup->is_wait_over && !is_signed(record) &&
	       buffers_locator_is_empty((const struct buffers_locator *)record->this_address);
}

static enum verdict judge_record(const struct lookup *lookup, const struct record *record,
				 bool is_fresh)
{
	enum verdict verdict = LIVE;

	if (is_fresh && record->this_address == 0)
		return PENDING;
	if (is_signed(record))
		verdict = judge_signature(lookup, record);
	if (verdict == LIVE && !is_locator(lookup, record->this_address))
		verdict = STALE;
	if (verdict == LIVE && is_fresh && is_unfilled(lookup, record))
		return UNFILLED;
	if (verdict == LIVE)
		verdict = judge_locator(lookup,
					(const struct buffers_locator *)record->this_address);
	return verdict;
}

/*
 * Finding a published locator
 */

static int read_record(struct lookup *lookup, unsigned dir, struct record *record,
		       struct buffers_rendezvous_id *id, bool *is_fresh)
{
	return buffers_platform_rendezvous_read(&lookup->dirs, dir, names[lookup->kind], record,
						sizeof(*record), id, is_fresh);
}

/*
 * The unsigned files that this process found at its fork, if it has its parent's number.  They
 * name the parent's locators, which the child has a copy of, or shares with the parent.
 */
static struct buffers_rendezvous_id parents_files[BUFFERS_KINDS][BUFFERS_RENDEZVOUS_DIRS];

/* The number of a file can be used again; its start is 0 until its creator writes the address. */
static bool is_parents(const struct lookup *lookup, unsigned dir, const struct record *record)
{
	const struct buffers_rendezvous_id *parents = &parents_files[lookup->kind][dir];
	const struct buffers_rendezvous_id *id = &lookup->ids[dir];

	return parents->file && parents->file == id->file && parents->device == id->device &&
	       (!parents->start || parents->start == id->start) && !is_signed(record);
}

/* Whether the file in this directory leads to a locator; if not, sets the permitted action. */
static bool look_in(struct lookup *lookup, unsigned dir, struct buffers_locator **locator)
{
	static const enum dir_state states[] = {
		[PENDING] = REPLACE,	/* once the wait is over */
		[UNFILLED] = SKIP,
		[STALE] = REPLACE,
		[OTHER_PID_NS] = REPLACE_LAST,
		[PARENTS] = SKIP,
		[INCOMPATIBLE] = SKIP,
		[LOCKED] = SKIP,
	};
	struct record record;
	bool is_fresh = false;
	int error = read_record(lookup, dir, &record, &lookup->ids[dir], &is_fresh);
	enum verdict verdict;

	lookup->states[dir] = error == ENOENT ? CREATE : SKIP;
	if (error)
		return false;
	if (is_signed(&record))
		lookup->ids[dir].pid_namespace = record.pid_namespace;
	verdict = is_parents(lookup, dir, &record) ? PARENTS :
		  judge_record(lookup, &record, is_fresh);
	if (verdict == LIVE) {
		*locator = (struct buffers_locator *)record.this_address;
		return true;
	}
	lookup->is_pending |= verdict == PENDING || verdict == UNFILLED || verdict == LOCKED;
	lookup->states[dir] = states[verdict];
	return false;
}

static bool look_in_all(struct lookup *lookup, struct buffers_locator **locator)
{
	lookup->is_pending = false;
	for (unsigned dir = 0; dir < BUFFERS_RENDEZVOUS_DIRS; dir++)
		if (look_in(lookup, dir, locator))
			return true;
	return false;
}

static bool wait_to_retry(struct lookup *lookup)
{
	enum { LONGEST_WAIT = 1000 };	/* milliseconds */

	return buffers_wait_again(&lookup->wait, LONGEST_WAIT);
}

__attribute__((noinline))
static bool find_published(struct lookup *lookup, struct buffers_locator **locator)
{
	while (!look_in_all(lookup, locator)) {
		if (!lookup->is_pending || lookup->is_wait_over)
			return false;
		lookup->is_wait_over = !wait_to_retry(lookup);
	}
	return true;
}

/*
 * Publishing
 */

static struct record make_record(const struct lookup *lookup, const struct buffers_root *root)
{
	struct record record = {
		.this_address = __atomic_load_n(&root->offered, __ATOMIC_ACQUIRE),
		.root = (uintptr_t)root,
		.token = __atomic_load_n(&root->token, __ATOMIC_RELAXED),
		.pid_namespace = lookup->pid_namespace,
	};

	record.signed_address = record.this_address;
	memcpy(record.signature, signature, sizeof(signature));
	return record;
}

/*
 * Decides about a file whose process has ended as far as this process can see.  A file of
 * another PID namespace stays as long as other programs leave files in /tmp.
 */
static bool may_remove(const void *bytes, bool is_old, const void *context)
{
	const struct lookup *lookup = context;
	struct record record;

	memcpy(&record, bytes, sizeof(record));
	return is_old || !is_signed(&record) || is_of_own_namespace(lookup, &record);
}

static void clean_up(const struct lookup *lookup, unsigned dir)
{
	buffers_platform_rendezvous_clean_up(&lookup->dirs, dir, names, sizeof(struct record),
					     may_remove, lookup);
}

/*
 * Each published file leads to one cleanup, at the end of the process, where no request waits for
 * it.  One in four processes cleans up at its start instead: nothing else would remove the files of
 * programs that are always killed.
 */
static bool cleans_up_at_start(const struct record *record)
{
	return record->token / 2 % 4 == 0;	/* all tokens are odd */
}

static int publish_in(struct lookup *lookup, unsigned dir, const struct record *record)
{
	const struct buffers_rendezvous_id *old =
		lookup->states[dir] == CREATE ? NULL : &lookup->ids[dir];
	int error = buffers_platform_rendezvous_create(&lookup->dirs, dir, names[lookup->kind],
						       record, sizeof(*record), old);

	if (!error && cleans_up_at_start(record))
		clean_up(lookup, dir);
	return error;
}

static int publish_where(struct lookup *lookup, const struct record *record, bool is_last_resort)
{
	int error = EACCES;

	for (unsigned dir = 0; dir < BUFFERS_RENDEZVOUS_DIRS && error == EACCES; dir++) {
		enum dir_state state = lookup->states[dir];

		if (state != SKIP && (state == REPLACE_LAST) == is_last_resort)
			error = publish_in(lookup, dir, record);
	}
	return error;
}

/* EAGAIN: another thread or process was first, look again.  EACCES: no directory is usable. */
static int publish_record(struct lookup *lookup, const struct buffers_root *root)
{
	struct record record = make_record(lookup, root);
	int error = publish_where(lookup, &record, false);

	return error == EACCES ? publish_where(lookup, &record, true) : error;
}

static void set_once(uintptr_t *word, uintptr_t value)
{
	uintptr_t unset = 0;

	__atomic_compare_exchange_n(word, &unset, value, false, __ATOMIC_ACQ_REL,
				    __ATOMIC_ACQUIRE);
}

/* An offered locator is never unmapped: a file may lead to it even if another copy wins. */
static int offer_locator(struct buffers_root *root, enum buffers_kind kind)
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

/* A locator inside the rendezvous file, on systems where that is memory. */
struct site {
	const struct lookup *lookup;
	unsigned dir;
};

static int map_site(void *context, size_t size, enum buffers_kind kind, uintptr_t *address)
{
	const struct site *site = context;
	const struct lookup *lookup = site->lookup;

	return buffers_platform_rendezvous_map(&lookup->dirs, site->dir, names[lookup->kind],
					       size, kind, address);
}

/* EAGAIN: another thread or copy was first, look again.  Other errors: impossible. */
static int create_in_file(const struct lookup *lookup, struct buffers_locator **locator)
{
	struct site site = { .lookup = lookup };
	int error = EACCES;

	for (; site.dir < BUFFERS_RENDEZVOUS_DIRS && error == EACCES; site.dir++)
		if (lookup->states[site.dir] == CREATE)
			error = buffers_locator_create_in(lookup->kind, map_site, &site, locator);
	return error;
}

/* Uses the offered locator even if it cannot be published anywhere. */
static int offer_and_publish(struct lookup *lookup, struct buffers_root *root,
			     struct buffers_locator **locator)
{
	int error = offer_locator(root, lookup->kind);

	if (error)
		return error;
	*locator = (struct buffers_locator *)__atomic_load_n(&root->offered, __ATOMIC_ACQUIRE);
	return publish_record(lookup, root) == EAGAIN ? EAGAIN : 0;
}

/* The last attempt: a file that could not be replaced until now is left alone. */
static int publish_where_nothing_is(struct lookup *lookup, struct buffers_root *root,
				    struct buffers_locator **locator)
{
	for (unsigned dir = 0; dir < BUFFERS_RENDEZVOUS_DIRS; dir++)
		if (lookup->states[dir] != CREATE)
			lookup->states[dir] = SKIP;
	return offer_and_publish(lookup, root, locator);
}

static int find_or_publish(struct lookup *lookup, struct buffers_root *root,
			   struct buffers_locator **locator)
{
	int error;

	do {
		if (find_published(lookup, locator))
			return 0;
		error = create_in_file(lookup, locator);
		if (error && error != EAGAIN)
			error = offer_and_publish(lookup, root, locator);
	} while (error == EAGAIN && wait_to_retry(lookup));
	if (error == EAGAIN)
		error = publish_where_nothing_is(lookup, root, locator);
	return error == EAGAIN ? 0 : error;
}

/*
 * The calls of the unit
 */

static struct buffers_locator *known_first(const struct buffers_root *root)
{
	return __atomic_load_n(&root->first, __ATOMIC_ACQUIRE);
}

/* Threads that could not publish may have different locators: the first one to come wins. */
static void settle_first(struct buffers_root *root, struct buffers_locator **locator)
{
	struct buffers_locator *none = NULL;

	if (!__atomic_compare_exchange_n(&root->first, &none, *locator, false,
					 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		*locator = none;
}

__attribute__((cold, noinline))
static int look_for_first(struct buffers_root *root, enum buffers_kind kind,
			  struct buffers_locator **locator)
{
	struct lookup lookup;
	int error;

	begin_lookup(&lookup, kind, __builtin_frame_address(0));
	error = find_or_publish(&lookup, root, locator);
	end_lookup(&lookup);
	if (!error)
		settle_first(root, locator);
	return error;
}

int buffers_rendezvous_first(struct buffers_root *root, enum buffers_kind kind,
			     struct buffers_locator **locator)
{
	*locator = known_first(root);
	return *locator ? 0 : look_for_first(root, kind, locator);
}

struct buffers_locator *buffers_rendezvous_known(struct buffers_root *root,
						 enum buffers_kind kind)
{
	struct buffers_locator *locator = known_first(root);
	struct lookup lookup;

	if (locator)
		return locator;
	begin_lookup(&lookup, kind, __builtin_frame_address(0));
	if (find_published(&lookup, &locator))
		settle_first(root, &locator);
	end_lookup(&lookup);
	return locator;
}

void buffers_rendezvous_replace_first(struct buffers_root *root, struct buffers_locator *first)
{
	__atomic_store_n(&root->first, first, __ATOMIC_RELEASE);
}

/* The locator may be another copy's, which was unloaded meanwhile. */
static void withdraw_from(struct lookup *lookup, unsigned dir, uintptr_t first)
{
	struct buffers_rendezvous_id id;
	struct record record;
	bool is_fresh;

	if (read_record(lookup, dir, &record, &id, &is_fresh) != 0 ||
	    record.this_address != first || !is_signed(&record) || !is_of_this_process(&record))
		return;
	buffers_platform_rendezvous_remove(&lookup->dirs, dir, names[lookup->kind], &id);
	if (!cleans_up_at_start(&record))
		clean_up(lookup, dir);
}

void buffers_rendezvous_withdraw(const struct buffers_locator *published,
				 enum buffers_kind kind)
{
	struct lookup lookup;

	if (!published)
		return;
	begin_lookup(&lookup, kind, __builtin_frame_address(0));
	for (unsigned dir = 0; dir < BUFFERS_RENDEZVOUS_DIRS; dir++)
		withdraw_from(&lookup, dir, (uintptr_t)published);
	end_lookup(&lookup);
}

/*
 * Forked children
 */

static uint32_t number_before_fork;

void buffers_rendezvous_note_fork(void)
{
	__atomic_store_n(&number_before_fork, buffers_platform_pid(), __ATOMIC_RELAXED);
}

static void note_parents_file(struct lookup *lookup, unsigned dir)
{
	struct buffers_rendezvous_id *parents = &parents_files[lookup->kind][dir];
	struct record record;
	bool is_fresh;

	if (read_record(lookup, dir, &record, parents, &is_fresh) != 0 || is_signed(&record))
		*parents = (struct buffers_rendezvous_id){ 0 };
}

void buffers_rendezvous_forget_parent(void)
{
	struct lookup lookup;

	memset(parents_files, 0, sizeof(parents_files));
	if (buffers_platform_pid() != number_before_fork)
		return;
	begin_lookup(&lookup, BUFFERS_KIND_RWX, __builtin_frame_address(0));
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		lookup.kind = kind;
		for (unsigned dir = 0; dir < BUFFERS_RENDEZVOUS_DIRS; dir++)
			note_parents_file(&lookup, dir);
	}
	end_lookup(&lookup);
}
