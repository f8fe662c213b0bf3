/* SPDX-License-Identifier: MIT */
/*
 * locator.c: pages that list buffers, linked to a chain
 *
 * Other threads, other copies of the library and other implementations read and write these
 * pages at the same time.  An item is complete before num_items publishes it.
 */

#include "config.h"
#include "locator/locator.h"
#include "platform/wait.h"

#define REST_BUFFER_SIZE ((size_t)16 << 10)
#define LONGEST_WAIT	 1000	/* milliseconds */

/* Ignores the reserved bytes: other implementations leave anything in them. */
static bool has_valid_header(const struct buffers_locator *locator)
{
	uintptr_t address = __atomic_load_n(&locator->this_address, __ATOMIC_ACQUIRE);
	unsigned count = __atomic_load_n(&locator->num_items, __ATOMIC_ACQUIRE);

	return address == (uintptr_t)locator && count <= BUFFERS_LOCATOR_CAPACITY &&
	       __atomic_load_n(&locator->flags, __ATOMIC_RELAXED) == 0;
}

bool buffers_locator_is_valid(const struct buffers_locator *locator)
{
	unsigned count = buffers_locator_count(locator);

	if (!has_valid_header(locator))
		return false;
	if (buffers_locator_is_twins(locator))
		return true;
	for (unsigned i = 0; i < count; i++)
		if (!buffers_item_is_valid(&locator->items[i]))
			return false;
	return true;
}

/* Asks whether the memory is writable only after it names its own address. */
bool buffers_locator_is_at(uintptr_t address)
{
	const struct buffers_locator *locator = (const struct buffers_locator *)address;
	uintptr_t start[8 / sizeof(uintptr_t)];

	return address % sizeof(uintptr_t) == 0 &&
	       buffers_platform_try_read(address, start, sizeof(start)) == 0 &&
	       start[0] == address &&
	       buffers_platform_is_writable(address, BUFFERS_LOCATOR_SIZE) &&
	       /* The second load orders all that the creator wrote before. */
	       __atomic_load_n(&locator->this_address, __ATOMIC_ACQUIRE) == address;
}

/* Another implementation's first locator may be shared with other processes: ask the kernel. */
static bool is_next_valid(const struct buffers_locator *locator,
			  const struct buffers_locator *next)
{
	return (buffers_locator_is_own(locator) || buffers_locator_is_at((uintptr_t)next)) &&
	       has_valid_header(next);
}

/*
 * Neighbours
 */

static bool has_forked;

void buffers_locator_note_fork(bool forked)
{
	__atomic_store_n(&has_forked, forked, __ATOMIC_SEQ_CST);
}

bool buffers_locator_may_be_shared(const struct buffers_locator *locator)
{
	return !buffers_locator_is_own(locator) && __atomic_load_n(&has_forked, __ATOMIC_ACQUIRE);
}

static bool is_closed(const struct buffers_locator *locator)
{
	return buffers_locator_is_own(locator) ||
	       buffers_locator_has_mark(locator, BUFFERS_MARK_CLOSED);
}

/* Native leaves anything in both bytes; an empty locator may be of either layout. */
bool buffers_locator_is_twins(const struct buffers_locator *locator)
{
	unsigned count = __atomic_load_n(&locator->reserved[1], __ATOMIC_ACQUIRE);

	return count != 0 && !is_closed(locator) &&
	       (__atomic_load_n(&locator->reserved[0], __ATOMIC_RELAXED) == 0 ||
		buffers_locator_count(locator) == 0);
}

/*
 * The twin scans every slot of a locator that it takes for full, so the unused slots are cleared.
 * The caller holds the lock.
 */
static void close_to_twin(struct buffers_locator *locator)
{
	unsigned used = buffers_locator_count(locator);

	if (used < locator->reserved[1])
		used = locator->reserved[1];
	for (; used < BUFFERS_LOCATOR_CAPACITY; used++)
		locator->items[used] = (struct buffers_item){ .base_address = 0 };
	buffers_locator_set_mark(locator, BUFFERS_MARK_CLOSED);
}

/* Asks again under the lock: the twin may have added its first item. */
static void try_to_close(struct buffers_locator *locator)
{
	if (buffers_locator_is_twins(locator) || buffers_locator_may_be_shared(locator) ||
	    !buffers_lock_try(&locator->is_locked))
		return;
	if (!buffers_locator_is_twins(locator) && !is_closed(locator))
		close_to_twin(locator);
	buffers_locator_unlock(locator);
}

unsigned buffers_locator_usable(struct buffers_locator *locator)
{
	if (!is_closed(locator))
		try_to_close(locator);
	return is_closed(locator) ? buffers_locator_count(locator) : 0;
}

/*
 * Other implementations link a locator before they write it, and hold the lock meanwhile.  The
 * own ones are complete when they are linked.
 */
struct buffers_locator *buffers_locator_follow(const struct buffers_locator *locator)
{
	struct buffers_locator *next = buffers_locator_next(locator);
	bool was_locked = next && buffers_locator_is_locked(locator);

	if (!next || buffers_locator_may_be_shared(locator) || !is_next_valid(locator, next))
		return NULL;
	return !was_locked || buffers_locator_is_own(next) ? next : NULL;
}

struct buffers_locator *buffers_locator_wait_for_next(const struct buffers_locator *locator)
{
	struct buffers_wait wait = { .attempts = 0 };
	struct buffers_locator *next = buffers_locator_follow(locator);

	while (!next && buffers_locator_next(locator) && buffers_locator_is_locked(locator) &&
	       buffers_wait_again(&wait, LONGEST_WAIT))
		next = buffers_locator_follow(locator);
	return next ? next : buffers_locator_follow(locator);
}

/*
 * The lock of an own locator contains its holder.  Another implementation's may be shared with
 * other processes, of which this one knows nothing.
 */
static uint32_t holder_word(const struct buffers_locator *locator)
{
	return buffers_locator_is_own(locator) ? buffers_platform_task() : 1;
}

static bool replace_holder(struct buffers_locator *locator, uint32_t old, uint32_t new)
{
	return __atomic_compare_exchange_n(&locator->is_locked, &old, new, false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static int find_holder(const struct buffers_locator *locator, uint32_t holder)
{
	return buffers_locator_is_own(locator) ? buffers_platform_find_task(holder) : ENOSYS;
}

/* What a holder leaves unfinished is not listed. */
static bool succeed_holder(struct buffers_locator *locator, uint32_t own)
{
	uint32_t holder = __atomic_load_n(&locator->is_locked, __ATOMIC_RELAXED);

	return (!holder || find_holder(locator, holder) == ESRCH) &&
	       replace_holder(locator, holder, own);
}

static bool lock_within_second(struct buffers_locator *locator)
{
	struct buffers_wait wait = { .attempts = 0 };
	uint32_t own = holder_word(locator);

	while (!replace_holder(locator, 0, own))
		if (!buffers_wait_again(&wait, LONGEST_WAIT))
			return succeed_holder(locator, own);
	return true;
}

bool buffers_locator_has_holder(const struct buffers_locator *locator)
{
	uint32_t holder = __atomic_load_n(&locator->is_locked, __ATOMIC_RELAXED);

	return find_holder(locator, holder) == 0 && holder != buffers_platform_task();
}

bool buffers_locator_lock(struct buffers_locator *locator)
{
	enum { LONGEST_WAIT_FOR_HOLDER = 10 };	/* seconds */

	for (unsigned seconds = 0; !lock_within_second(locator); seconds++)
		if (seconds == LONGEST_WAIT_FOR_HOLDER || !buffers_locator_has_holder(locator))
			return false;
	return true;
}

void buffers_locator_unlock(struct buffers_locator *locator)
{
	buffers_lock_release(&locator->is_locked);
}

/*
 * Creating
 */

/* The caller holds the locator's lock, or no other thread knows the locator. */
static struct buffers_item *append_item(struct buffers_locator *locator, uintptr_t base,
					size_t size, bool is_taken)
{
	struct buffers_item *item = &locator->items[locator->num_items];

	*item = (struct buffers_item){
		.base_address = base,
		.size = size < UINT32_MAX ? (uint32_t)size : UINT32_MAX,
		.is_taken = is_taken,
	};
	__atomic_store_n(&locator->num_items, locator->num_items + 1, __ATOMIC_RELEASE);
	return item;
}

struct buffers_locator *buffers_locator_init(uintptr_t address, size_t size)
{
	struct buffers_locator *locator = (struct buffers_locator *)address;
	size_t used, part;

	for (used = BUFFERS_LOCATOR_SIZE; used < size; used += part) {
		part = size - used < REST_BUFFER_SIZE ? size - used : REST_BUFFER_SIZE;
		append_item(locator, address + used, part, false);
	}
	buffers_locator_set_mark(locator, BUFFERS_MARK_OWN);
	__atomic_store_n(&locator->this_address, address, __ATOMIC_RELEASE);
	return locator;
}

/*
 * RX memory beside a locator would be writable, as the locator is: such a chain gets a page
 * of RW memory for the locator alone.
 */
int buffers_locator_create_in(enum buffers_kind kind,
			      int (*map)(void *context, size_t size, enum buffers_kind kind,
					 uintptr_t *address),
			      void *context, struct buffers_locator **locator)
{
	size_t size = buffers_platform_granularity();
	uintptr_t address;
	int error = EACCES;

	if (size > BUFFERS_LOCATOR_SIZE && kind != BUFFERS_KIND_RX)
		error = map(context, size, kind, &address);
	if (error == EACCES) {
		size = BUFFERS_LOCATOR_SIZE;
		error = map(context, buffers_platform_granularity(), BUFFERS_KIND_RW, &address);
	}
	if (error == 0)
		*locator = buffers_locator_init(address, size);
	return error;
}

static int map_anywhere(void *context, size_t size, enum buffers_kind kind, uintptr_t *address)
{
	(void)context;
	return buffers_platform_map_anywhere(size, kind, BUFFERS_MAP_PLAIN, address);
}

int buffers_locator_create(enum buffers_kind kind, struct buffers_locator **locator)
{
	return buffers_locator_create_in(kind, map_anywhere, NULL, locator);
}

void buffers_locator_destroy(struct buffers_locator *locator)
{
	buffers_platform_unmap((uintptr_t)locator, buffers_platform_granularity());
}

/*
 * Adding
 */

/* Reads the link under the lock: then the next locator is written.  NULL: no lock. */
static struct buffers_locator *link_or_next(struct buffers_locator *locator,
					    struct buffers_locator *created)
{
	struct buffers_locator *next;

	if (!buffers_locator_lock(locator))
		return NULL;
	next = buffers_locator_next(locator);
	if (!next) {
		next = created;
		__atomic_store_n(&locator->next_locator, (uintptr_t)next, __ATOMIC_RELEASE);
	}
	buffers_locator_unlock(locator);
	return next;
}

/* Maps outside the lock, since mapping is slow; another thread may link its locator first. */
static int make_next(struct buffers_locator *locator, enum buffers_kind kind,
		     struct buffers_locator **next)
{
	struct buffers_locator *created;
	int error = EBUSY;

	if (!buffers_locator_may_be_shared(locator))
		error = buffers_locator_create(kind, &created);
	if (error)
		return error;
	*next = link_or_next(locator, created);
	if (*next == created)
		return 0;
	buffers_locator_destroy(created);
	return *next && is_next_valid(locator, *next) ? 0 : EBUSY;
}

static bool has_free_slot(const struct buffers_locator *locator)
{
	return buffers_locator_count(locator) < BUFFERS_LOCATOR_CAPACITY &&
	       !buffers_locator_is_twins(locator);
}

/* *item is NULL if the locator is full, or the twin's.  EBUSY: nothing can be added. */
static int add_item(struct buffers_locator *locator, struct buffers_span buffer,
		    struct buffers_item **item)
{
	*item = NULL;
	if (!has_free_slot(locator))
		return 0;
	if (buffers_locator_may_be_shared(locator) || !buffers_locator_lock(locator))
		return EBUSY;
	if (has_free_slot(locator)) {
		if (!is_closed(locator))
			close_to_twin(locator);
		*item = append_item(locator, buffer.start, buffer.end - buffer.start, true);
	}
	buffers_locator_unlock(locator);
	return 0;
}

int buffers_locator_register(struct buffers_locator *locator, enum buffers_kind kind,
			     struct buffers_span buffer, struct buffers_item **item)
{
	int error = add_item(locator, buffer, item);

	while (!error && !*item) {
		struct buffers_locator *next = buffers_locator_follow(locator);

		if (!next)
			error = make_next(locator, kind, &next);
		if (!error)
			error = add_item(next, buffer, item);
		locator = next;
	}
	return error;
}
