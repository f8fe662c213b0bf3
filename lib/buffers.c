/* SPDX-License-Identifier: MIT */
/*
 * buffers.c: the public calls
 *
 * Checks the arguments of the caller, and passes a request through the index and the
 * allocator.  Only this file sets errno for the caller.
 */

#include "config.h"
#include "reloaded/buffers.h"
#include "allocator/allocator.h"
#include "arena/arena.h"
#include "base/atomic-store.h"
#include "locator/pool.h"
#include "locator/walk.h"
#include "platform/tls.h"
#include "process/give-back.h"
#include "process/state.h"
#include "process/views.h"

#include <errno.h>
#include <string.h>

/* The size of new buffers, which later requests share; larger for a larger request. */
#define BUFFER_SIZE ((size_t)64 << 10)

#define KIND_FLAGS (BUFFERS_RW | BUFFERS_RX)
#define ARENA_FLAGS (BUFFERS_ARENA_FORK_SHARED | BUFFERS_ARENA_HUGE_PAGES)
#define PUBLIC_FLAGS (KIND_FLAGS | BUFFERS_VIEW | ARENA_FLAGS)
_Static_assert(BUFFERS_KIND_RWX == 0 && BUFFERS_KIND_RW == BUFFERS_RW &&
	       BUFFERS_KIND_RX == BUFFERS_RX, "a kind is the value of its flag");
_Static_assert((PUBLIC_FLAGS & BUFFERS_MAP_FLAGS) == 0,
	       "a modifier of mappings is never a public flag");

/*
 * The item of each kind that the thread used last; a request tries it first.  It is valid
 * while the process has the same first locator: a forked child has another one.
 */
struct cached {
	struct buffers_item *item;
	const struct buffers_locator *first;
};
static BUFFERS_TLS struct cached cached[BUFFERS_KINDS];

static inline struct cached *cached_of(enum buffers_kind kind)
{
	return &(*BUFFERS_TLS_ADDRESS(cached))[kind];
}

/* Sets errno to the error, or back to the caller's value if the call succeeded. */
static int set_errno(int error, int saved)
{
	errno = error ? error : saved;
	return error ? -1 : 0;
}

static bool is_alignment(size_t alignment)
{
	return alignment && (alignment & (alignment - 1)) == 0;
}

/*
 * Requests
 */

/* Whether the flags are those of one kind: RW and RX contradict each other. */
static bool is_kind(unsigned flags)
{
	return !(flags & ~KIND_FLAGS) && flags != KIND_FLAGS;
}

static bool has_range(const struct buffers_request *request)
{
	return !request->max_address || request->min_address < request->max_address;
}

static int window_from(const struct buffers_request *request, struct buffers_window *window)
{
	size_t alignment;

	if (!request)
		return EINVAL;
	alignment = request->alignment ? request->alignment : 1;
	if (request->size == 0 || !is_alignment(alignment) || !is_kind(request->flags) ||
	    request->reserved[0] || request->reserved[1] || !has_range(request))
		return EINVAL;
	*window = (struct buffers_window){
		.range = {
			request->min_address,
			request->max_address ? request->max_address : UINTPTR_MAX,
		},
		.target = (uintptr_t)request->target,
		.size = request->size,
		.alignment = alignment,
		.kind = request->flags & KIND_FLAGS,
	};
	return 0;
}

/* Memory with a view is shared by its two mappings. */
static int window_with_view_from(const struct buffers_request *request,
				 struct buffers_window *window)
{
	struct buffers_request plain;
	int error;

	if (!request || !(request->flags & BUFFERS_VIEW))
		return window_from(request, window);
	plain = *request;
	plain.flags &= ~BUFFERS_VIEW;
	error = plain.flags == BUFFERS_RX ? window_from(&plain, window) : EINVAL;
	window->map_flags = BUFFERS_MAP_SHARED;
	return error;
}

struct buffers_request buffers_request_near(const void *target, size_t reach, size_t size)
{
	uintptr_t address = (uintptr_t)target;

	if (!target || reach == 0)
		return (struct buffers_request){
			.min_address = UINTPTR_MAX, .max_address = 1,	/* an invalid range */
			.target = target, .size = size,
		};
	return (struct buffers_request){
		.min_address = address > reach ? address - reach : 0,
		.max_address = address <= UINTPTR_MAX - reach ? address + reach : 0,
		.target = target,
		.size = size,
	};
}

/* An end of 0 wraps to the highest address, and back. */
static int narrow(struct buffers_request *request, const struct buffers_request *other)
{
	uintptr_t first = buffers_max(request->min_address, other->min_address);
	uintptr_t last = buffers_min(request->max_address - 1, other->max_address - 1);

	if (first > last)
		return EADDRNOTAVAIL;
	request->min_address = first;
	request->max_address = last + 1;
	return 0;
}

int buffers_request_narrow(struct buffers_request *request, const void *target, size_t reach)
{
	struct buffers_request other = buffers_request_near(target, reach, 1);
	int saved = errno;

	return set_errno(request && has_range(request) && has_range(&other) ?
			 narrow(request, &other) : EINVAL, saved);
}

/* New buffers have at least this size.  They are smaller where a gap or a range is. */
static size_t new_size(const struct buffers_state *state)
{
	size_t size = __atomic_load_n(&state->new_size, __ATOMIC_RELAXED);

	return size ? size : BUFFER_SIZE;
}

/* A signal handler that writes RX memory takes the lock of the first locator. */
static int register_uninterrupted(struct buffers_locator *tail, enum buffers_kind kind,
				  struct buffers_span buffer, struct buffers_item **item)
{
	struct buffers_signals signals;
	int error;

	buffers_platform_block_signals(&signals);
	error = buffers_locator_register(tail, kind, buffer, item);
	buffers_platform_restore_signals(&signals);
	return error;
}

/*
 * Leaves a chain to which nothing can be added.  Indexes an item in another implementation's
 * locator at once: after a fork it could not tell whether a child listed it.
 */
static int register_buffer(const struct buffers_pool *pool, enum buffers_kind kind,
			   struct buffers_span buffer, struct buffers_item **item)
{
	struct buffers_locator *tail;
	int error;

	for (;;) {
		tail = buffers_index_tail(pool->index, pool->first);
		error = register_uninterrupted(tail, kind, buffer, item);
		if (!error && !buffers_locator_is_own(tail))
			buffers_index_update(pool->index, pool->first, kind);
		if (error != EBUSY)
			return error;
		error = buffers_state_leave_chain(pool->owner, kind);
		if (error)
			return error;
	}
}

/*
 * Whether the request is valid, its flags aside, and all free space of the item from
 * `position` on suits it.  Checks the same as window_from() and buffers_item_fits(), in the
 * few instructions that most calls consist of.
 */
static inline bool suits_request(const struct buffers_request *request,
				 const struct buffers_item *item, uint32_t position)
{
	uintptr_t start = item->base_address + position;
	size_t room = item->size - position;
	size_t rest = room - request->size;
	size_t mask = request->alignment - (request->alignment != 0);
	size_t slack = (size_t)-start & mask;

	/*
	 * Less room than the size wraps to a rest of more than the room, and a size of 0 leaves
	 * all of it.  An end of 0 wraps to the highest address.
	 */
	return position <= item->size && rest < room && slack <= rest &&
	       start >= request->min_address && start + room - 1 <= request->max_address - 1 &&
	       (request->alignment & mask) == 0 &&
	       (request->reserved[0] | request->reserved[1]) == 0;
}

static inline struct buffers_stretches *stretches_of(const struct buffers_state *state)
{
	return __atomic_load_n(&state->stretches, __ATOMIC_ACQUIRE);
}


static uint32_t owner_of_given(enum buffers_kind kind)
{
	return BUFFERS_TAKEN | BUFFERS_TAKEN_GIVEN |
	       (kind == BUFFERS_KIND_RX ? BUFFERS_TAKEN_RX : 0);
}

/* Takes room that was given back. */
static struct buffers_item *take_given(const struct buffers_window *window)
{
	const struct buffers_state *state = buffers_state_known(window->kind);

	return state ? buffers_stretches_take(stretches_of(state), window, BUFFER_SIZE,
					      owner_of_given(window->kind)) : NULL;
}

static inline void set_owner_for_kind(struct buffers_item *item, enum buffers_kind kind)
{
	if (kind == BUFFERS_KIND_RX)
		buffers_item_add_owner(item, BUFFERS_TAKEN_RX);
}

__attribute__((always_inline))
static inline struct buffers_item *take_suiting(const struct buffers_request *request,
						enum buffers_kind kind, struct buffers_item *item)
{
	uint32_t position = buffers_item_position(item);

	if (!suits_request(request, item, position) || !buffers_item_take_at(item, position))
		return NULL;
	set_owner_for_kind(item, kind);
	return item;
}

/*
 * Takes the item that the thread used last, if it suits.  The first attempt fails if any room was
 * given back, which is all that it costs programs that give nothing back.
 */
__attribute__((always_inline))
static inline struct buffers_item *take_cached(const struct buffers_request *request,
					       enum buffers_kind kind, bool is_first)
{
	const struct buffers_state *state = buffers_state_known(kind);
	const struct cached *own = cached_of(kind);

	if (!own->item || own->first != __atomic_load_n(&state->root.first, __ATOMIC_RELAXED))
		return NULL;
	if (is_first && __atomic_load_n(&state->stretches, __ATOMIC_RELAXED))
		return NULL;
	return take_suiting(request, kind, own->item);
}

/* The entries of the calling thread for a range; NULL: there is no table. */
static inline struct buffers_item **places_of(const struct buffers_state *state, uintptr_t first,
					      uintptr_t last)
{
	struct buffers_places *places = __atomic_load_n(&state->places, __ATOMIC_ACQUIRE);

	return places ? buffers_places_set(places, first, last,
					   (uintptr_t)cached_of(BUFFERS_KIND_RWX) >> 6) : NULL;
}

/* take_suiting() in one function, for all slower paths. */
__attribute__((noinline))
static struct buffers_item *try_item(const struct buffers_request *request,
				     enum buffers_kind kind, struct buffers_item *item)
{
	return take_suiting(request, kind, item);
}

/* Takes an item that served the same place before, if one suits. */
__attribute__((noinline))
static struct buffers_item *take_of_place(const struct buffers_request *request,
					  enum buffers_kind kind)
{
	const struct buffers_state *state = buffers_state_known(kind);
	struct buffers_item **set =
		state ? places_of(state, request->min_address, request->max_address - 1) : NULL;
	struct buffers_item *item = NULL;

	for (unsigned i = 0; set && i < BUFFERS_PLACES_WAYS && !item; i++) {
		item = __atomic_load_n(&set[i], __ATOMIC_ACQUIRE);
		item = item ? try_item(request, kind, item) : NULL;
	}
	return item;
}

/* Takes an item that the thread used before, in one function for all slower paths. */
__attribute__((noinline))
static struct buffers_item *take_used(const struct buffers_request *request,
				      enum buffers_kind kind)
{
	struct buffers_item *item = take_cached(request, kind, false);

	return item ? item : take_of_place(request, kind);
}

/*
 * The bytes that were skipped would part stretches at both sides for good: they are room, too.
 * Returns the item, so that the compiler can make the call a jump.
 */
__attribute__((noinline))
static struct buffers_item *keep_skipped(struct buffers_stretches *stretches,
					 struct buffers_item *item, uint32_t former)
{
	struct buffers_span skipped = { item->base_address + former, buffers_item_next(item) };
	struct buffers_item *stretch;

	if (stretches && buffers_stretches_try_begin(stretches, skipped, &stretch) == 0)
		buffers_stretches_release(stretch);
	return item;
}

static inline struct buffers_stretches *stretches_of_kind(enum buffers_kind kind)
{
	const struct buffers_state *state = buffers_state_known(kind);

	return state ? stretches_of(state) : NULL;
}

/* Returns whether the position has changed.  Succeeds: the item was taken because it fits. */
static inline bool skip_to_aligned(struct buffers_item *item, size_t alignment, uint32_t *former)
{
	uintptr_t address;

	*former = buffers_item_position(item);
	return buffers_item_reserve(item, 0, alignment, &address) == 0 &&
	       buffers_item_position(item) != *former;
}

static inline struct buffers_item *align_item(struct buffers_item *item, size_t alignment,
					      enum buffers_kind kind)
{
	uint32_t former;

	if (alignment <= 1 || !skip_to_aligned(item, alignment, &former))
		return item;
	return keep_skipped(stretches_of_kind(kind), item, former);
}

/* Shows the item in the index that has it. */
static void release_hidden(struct buffers_item *item)
{
	buffers_item_release(item);
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		struct buffers_state *state = buffers_state_known(kind);

		if (state)
			buffers_index_show(&state->index, item);
	}
}

static void release_item(struct buffers_item *item)
{
	uint32_t owner = buffers_item_owner(item);

	if (owner & BUFFERS_TAKEN_GIVEN)
		buffers_stretches_release(item);
	else if (owner & BUFFERS_TAKEN_HIDDEN)
		release_hidden(item);
	else
		buffers_item_release(item);
}

static int map_buffer(const struct buffers_pool *pool, const struct buffers_window *window,
		      struct buffers_item **item)
{
	struct buffers_state *state = pool->owner;
	struct buffers_span buffer;
	int error = buffers_allocator_map(window, BUFFER_SIZE, &state->search_cache, &buffer);

	if (error)
		return error;
	error = register_buffer(pool, window->kind, buffer, item);
	if (error)
		buffers_allocator_unmap(buffer, &state->search_cache);
	else if (buffers_span_size(buffer) < new_size(state))
		__atomic_store_n(&state->new_size, buffers_span_size(buffer), __ATOMIC_RELAXED);
	return error;
}

/* Free ends of buffers may join room that was given back, before or after a buffer is mapped. */
static int make_buffer(const struct buffers_pool *pool, const struct buffers_window *window,
		       struct buffers_item **item)
{
	struct buffers_state *state = pool->owner;
	struct buffers_given given = {
		.stretches = stretches_of(state), .index = &state->index,
		.release = release_item, .most = BUFFER_SIZE,
		.owner = owner_of_given(window->kind),
	};
	int error;

	*item = buffers_give_back_join(&given, window);
	if (*item)
		return 0;
	error = map_buffer(pool, window, item);
	if (error)
		return error;
	*item = buffers_give_back_join_new(&given, window, *item);
	return *item ? 0 : map_buffer(pool, window, item);
}

/* For the next requests of this thread. */
static void keep(struct buffers_state *state, const struct buffers_window *window,
		 struct cached used)
{
	struct buffers_item **set =
		places_of(state, window->range.start, window->range.end - 1);

	*cached_of(window->kind) = used;
	if (set)
		buffers_places_note(set, used.item);
	else
		buffers_state_count_search(state);
}

static int find_or_make(const struct buffers_window *window, struct buffers_item **item)
{
	struct buffers_state *state;
	struct buffers_pool pool;
	int error;

	if (window->size > UINT32_MAX)
		return EADDRNOTAVAIL;
	error = buffers_state_get(window->kind, &state);
	if (error)
		return error;
	pool = (struct buffers_pool){
		.owner = state, .index = &state->index, .contention = &state->contention,
		.shared_size = BUFFER_SIZE, .new_size = new_size(state),
		.take = buffers_item_take, .is_free = buffers_item_is_free,
		.mark_hidden = buffers_item_mark_hidden,
		.release = release_item, .make = make_buffer,
	};
	error = buffers_rendezvous_first(&state->root, window->kind, &pool.first);
	if (!error)
		error = buffers_pool_get(&pool, window, item);
	if (error)
		return error;
	set_owner_for_kind(*item, window->kind);
	if (!(buffers_item_owner(*item) & BUFFERS_TAKEN_GIVEN))
		keep(state, window, (struct cached){ *item, pool.first });
	return 0;
}

/*
 * The slow path of buffers_get(): other kinds, room that was given back, and requests that the
 * last item does not suit.
 */
__attribute__((noinline))
static struct buffers_item *get_slowly(const struct buffers_request *request)
{
	struct buffers_window window;
	struct buffers_item *item = NULL;
	int saved = errno;
	int error = window_from(request, &window);

	if (!error)
		item = take_given(&window);
	if (!error && !item)
		item = take_used(request, window.kind);
	if (!error && !item)
		error = find_or_make(&window, &item);
	if (set_errno(error, saved) != 0)
		return NULL;
	return align_item(item, window.alignment, window.kind);
}

/*
 * The second attempt of buffers_get(), after the item that the thread used last: other items, and
 * also this one if room was given back that cannot suit.
 */
__attribute__((noinline))
static struct buffers_item *get_of_place(const struct buffers_request *request)
{
	const struct buffers_stretches *stretches = stretches_of_kind(BUFFERS_KIND_RWX);
	struct buffers_item *item = NULL;

	if (!request || request->flags != 0)
		return get_slowly(request);
	if (!stretches)
		item = take_of_place(request, BUFFERS_KIND_RWX);
	else if (!buffers_stretches_may_fit(stretches, request->size, request->min_address,
					    request->max_address - 1))
		item = take_used(request, BUFFERS_KIND_RWX);
	if (!item)
		return get_slowly(request);
	return align_item(item, request->alignment, BUFFERS_KIND_RWX);
}

struct buffers_item *buffers_get(const struct buffers_request *request)
{
	struct buffers_item *item = NULL;

	if (request && request->flags == 0)	/* a constant kind saves a quarter of the time */
		item = take_cached(request, BUFFERS_KIND_RWX, true);
	if (!item)
		return get_of_place(request);
	return align_item(item, request->alignment, BUFFERS_KIND_RWX);
}

struct buffers_item *buffers_get_near(const void *target, size_t size)
{
	struct buffers_request request =
		buffers_request_near(target, BUFFERS_REACH_BRANCH, size);

	if (!target) {
		errno = EINVAL;
		return NULL;
	}
	return buffers_get(&request);
}

__attribute__((noinline))
static void release_slowly(struct buffers_item *item)
{
	if (buffers_item_owner(item) & BUFFERS_TAKEN_SHARED)
		buffers_arena_release(item);
	else
		release_item(item);
}

void buffers_release(struct buffers_item *item)
{
	if (!item)
		return;
	if (buffers_item_owner(item) &
	    (BUFFERS_TAKEN_SHARED | BUFFERS_TAKEN_GIVEN | BUFFERS_TAKEN_HIDDEN))
		release_slowly(item);
	else
		buffers_item_release(item);
}

/*
 * Items
 */

static void *fail_with(int error)
{
	errno = error;
	return NULL;
}

/*
 * A write that fails may leave changed bytes.  They are free space, which no code uses.  A child of
 * a private arena's process has no view, and must not write that memory in another way.
 */
static int write_rx(const struct buffers_item *item, uintptr_t address, const void *data,
		    size_t size)
{
	if (buffers_item_owner(item) & BUFFERS_TAKEN_VIEW)
		return EACCES;
	if (buffers_item_owner(item) & BUFFERS_TAKEN_SHARED)
		return buffers_platform_write(address, data, size, BUFFERS_WRITE_FREE_SHARED);
	return buffers_state_write(address, data, size, BUFFERS_WRITE_FREE_PRIVATE);
}

static int append_rx(struct buffers_item *item, const void *data, size_t size,
		     uintptr_t *address)
{
	int error;

	if (size > buffers_item_room(item))
		return ENOSPC;
	*address = buffers_item_next(item);
	error = size ? write_rx(item, *address, data, size) : 0;
	if (!error)
		buffers_item_set_position(item, buffers_item_position(item) + size);
	return error;
}

/* The address in the view of the item; 0: it has no view. */
__attribute__((noinline))
static uintptr_t view_of(struct buffers_item *item, uintptr_t address)
{
	uint32_t owner = buffers_item_owner(item);

	if (!(owner & BUFFERS_TAKEN_VIEW))
		return 0;
	return buffers_arena_written(owner & BUFFERS_TAKEN_GIVEN ? buffers_stretches_arena(item) :
								   buffers_arena_of(item), address);
}

/* NULL: the item has no view, or less room. */
static void *append_by_view(struct buffers_item *item, const void *data, size_t size)
{
	uintptr_t address = buffers_item_next(item);
	uintptr_t written = view_of(item, address);

	if (!written || size > buffers_item_room(item))
		return NULL;
	buffers_copy_through_alias((char *)written, address, data, size);
	buffers_item_set_position(item, buffers_item_position(item) + size);
	return (void *)address;
}

/* The same for short data in an item that was not given back, without a call. */
static inline void *append_short_by_view(struct buffers_item *item, const void *data, size_t size)
{
	uint32_t position = buffers_item_position(item);
	uintptr_t address = item->base_address + position;
	uintptr_t written;

	if (!buffers_is_short(size) || size > item->size - position ||
	    (buffers_item_owner(item) & (BUFFERS_TAKEN_VIEW | BUFFERS_TAKEN_GIVEN)) !=
	    BUFFERS_TAKEN_VIEW)
		return NULL;
	written = buffers_arena_written(buffers_arena_of(item), address);
	if (!written)
		return NULL;
	buffers_copy_short((void *)written, data, size);
	buffers_item_set_position(item, position + size);
	return (void *)address;
}

__attribute__((noinline))
static void *append_and_set_errno(struct buffers_item *item, const void *data, size_t size)
{
	int saved = errno;
	uintptr_t address = 0;
	int error;

	if (!item || (!data && size))
		return fail_with(EINVAL);
	if (buffers_item_is_directly_writable(item))
		error = buffers_item_append(item, data, size, &address);
	else
		error = append_rx(item, data, size, &address);
	return set_errno(error, saved) == 0 ? (void *)address : NULL;
}

__attribute__((noinline))
static void *append_any(struct buffers_item *item, const void *data, size_t size)
{
	void *copy = item && data ? append_by_view(item, data, size) : NULL;

	return copy ? copy : append_and_set_errno(item, data, size);
}

/* Its only call is its last step, so that the compiler saves no register for it. */
__attribute__((noinline))
static void *append_slowly(struct buffers_item *item, const void *data, size_t size)
{
	void *copy = item && data ? append_short_by_view(item, data, size) : NULL;

	return copy ? copy : append_any(item, data, size);
}

void *buffers_append(struct buffers_item *item, const void *data, size_t size)
{
	void *copy = item && data ? buffers_item_append_short(item, data, size) : NULL;

	return copy ? copy : append_slowly(item, data, size);
}

void *buffers_append_code(struct buffers_item *item, const void *code, size_t size)
{
	void *copy = buffers_append(item, code, size);

	if (copy)
		buffers_platform_flush_icache(copy, size);
	return copy;
}

/* A child of a private arena's process: the room is the parent's. */
static bool lacks_view(struct buffers_item *item)
{
	return (buffers_item_owner(item) & BUFFERS_TAKEN_VIEW) &&
	       !view_of(item, buffers_item_next(item));
}

void *buffers_reserve(struct buffers_item *item, size_t size, size_t alignment)
{
	uintptr_t address;
	int error;

	if (alignment == 0)
		alignment = 1;
	if (!item || !is_alignment(alignment))
		return fail_with(EINVAL);
	error = lacks_view(item) ? EACCES : buffers_item_reserve(item, size, alignment, &address);
	return error ? fail_with(error) : (void *)address;
}

void *buffers_next(const struct buffers_item *item)
{
	return item ? (void *)buffers_item_next(item) : fail_with(EINVAL);
}

size_t buffers_remaining(const struct buffers_item *item)
{
	if (!item) {
		errno = EINVAL;
		return 0;
	}
	return buffers_item_room(item);
}

void *buffers_base(const struct buffers_item *item)
{
	return item ? (void *)item->base_address : fail_with(EINVAL);
}

size_t buffers_size(const struct buffers_item *item)
{
	if (!item) {
		errno = EINVAL;
		return 0;
	}
	return item->size;
}

/*
 * Overwriting
 */

/* Whether the bytes are in a buffer of this kind that this copy knows.  Asks no system. */
static bool is_in_buffer(uintptr_t address, size_t size, enum buffers_kind kind)
{
	const struct buffers_state *state = buffers_state_known(kind);
	const struct cached *own = cached_of(kind);

	if (!state)
		return false;
	if (own->item && own->first == __atomic_load_n(&state->root.first, __ATOMIC_RELAXED) &&
	    buffers_item_contains(own->item, address, size))
		return true;
	return buffers_index_contains(&state->index, address, size);
}

static bool is_writable(uintptr_t address, size_t size)
{
	uintptr_t start = address & ~(uintptr_t)3;

	if (address > UINTPTR_MAX - 3 || size > UINTPTR_MAX - 3 - address)
		return false;
	if (is_in_buffer(address, size, BUFFERS_KIND_RWX) ||
	    is_in_buffer(address, size, BUFFERS_KIND_RW))
		return true;
	return buffers_platform_is_writable(start, ((address + size + 3) & ~(uintptr_t)3) - start);
}

/* The address at which stores change the bytes; 0: unknown.  A view needs no system call. */
static uintptr_t store_address(uintptr_t address, size_t size)
{
	uintptr_t written = buffers_views_try_find(address, size);

	if (written)
		return written;
	return is_writable(address, size) ? address : 0;
}

/* The memory may be another copy's, so its kind is unknown. */
static int overwrite_bytes(void *dst, const void *src, size_t size)
{
	uintptr_t address = (uintptr_t)dst;
	uintptr_t written = store_address(address, size);

	if (written) {
		buffers_copy_through_alias((char *)written, address, src, size);
		return 0;
	}
	if (!buffers_platform_is_readable(address, size))
		return EINVAL;
	return buffers_state_write(address, src, size, BUFFERS_WRITE_IN_USE);
}

int buffers_overwrite(void *dst, const void *src, size_t size)
{
	int saved = errno;
	int error;

	if (size == 0)
		return 0;
	error = dst && src ? overwrite_bytes(dst, src, size) : EINVAL;
	if (!error)
		buffers_platform_flush_icache(dst, size);
	return set_errno(error, saved);
}

struct patch {
	void (*edit)(void *bytes, size_t size, void *context);
	void *context;
};

static int overwrite_by_copy(void *dst, size_t size, void *copy, const struct patch *patch)
{
	memcpy(copy, dst, size);
	patch->edit(copy, size, patch->context);
	return overwrite_bytes(dst, copy, size);
}

static int overwrite_by_large_copy(void *dst, size_t size, const struct patch *patch)
{
	size_t length = buffers_page_up(size);
	uintptr_t copy;
	int error = buffers_platform_map_anywhere(length, BUFFERS_KIND_RW, BUFFERS_MAP_PLAIN,
						  &copy);

	if (error)
		return error;
	error = overwrite_by_copy(dst, size, (void *)copy, patch);
	buffers_platform_unmap(copy, length);
	return error;
}

static int edit_bytes(void *dst, size_t size, const struct patch *patch)
{
	uintptr_t written = store_address((uintptr_t)dst, size);
	char copy[256];

	if (written && !buffers_is_atomic_size((uintptr_t)dst, size)) {
		patch->edit((void *)written, size, patch->context);
		return 0;
	}
	if (!written && !buffers_platform_is_readable((uintptr_t)dst, size))
		return EINVAL;
	if (size <= sizeof(copy))
		return overwrite_by_copy(dst, size, copy, patch);
	return overwrite_by_large_copy(dst, size, patch);
}

int buffers_overwrite_with(void *dst, size_t size,
			   void (*patch)(void *bytes, size_t size, void *context),
			   void *context)
{
	int saved = errno;
	int error;

	if (size == 0)
		return 0;
	error = dst && patch ? edit_bytes(dst, size, &(struct patch){ patch, context }) : EINVAL;
	if (!error)
		buffers_platform_flush_icache(dst, size);
	return set_errno(error, saved);
}

void buffers_flush_icache(void *start, size_t size)
{
	buffers_platform_flush_icache(start, size);
}

/*
 * Views
 */

/* The list first: RX memory of this process needs no system call then. */
static uintptr_t written_address(uintptr_t address)
{
	uintptr_t written = buffers_views_find(address, 1);

	if (!written)
		written = buffers_arena_view(address);
	if (!written && is_writable(address, 1))
		written = address;
	return written;
}

void *buffers_view(const void *address)
{
	int saved = errno;
	uintptr_t written = address ? written_address((uintptr_t)address) : 0;

	return set_errno(written ? 0 : EINVAL, saved) == 0 ? (void *)written : NULL;
}

/*
 * Giving back
 */

/* The first locator of a kind, if this copy has used the kind. */
static struct buffers_locator *used_first(enum buffers_kind kind)
{
	const struct buffers_state *state = buffers_state_known(kind);

	return state ? __atomic_load_n(&state->root.first, __ATOMIC_ACQUIRE) : NULL;
}

/* ENOENT: no item of the chain has this room.  EINVAL: it is not in use. */
__attribute__((noinline))
static int give_back_in(struct buffers_locator *first, enum buffers_kind kind,
			struct buffers_span room)
{
	struct buffers_state *state = buffers_state_known(kind);
	struct buffers_item *last;
	int error = buffers_index_check_use(&state->index, first, kind, room, &last);

	return error ? error : buffers_give_back_to(&state->stretches, NULL, room, kind);
}

/* The caller may have the room from another copy, though this one has not used the kind. */
__attribute__((cold))
static int give_back_unused(enum buffers_kind kind, struct buffers_span room)
{
	struct buffers_root unknown = { 0 };
	struct buffers_locator *first;
	struct buffers_state *state;
	int error;

	if (!buffers_rendezvous_known(&unknown, kind))
		return ENOENT;
	error = buffers_state_get(kind, &state);
	if (!error)
		error = buffers_rendezvous_first(&state->root, kind, &first);
	return error ? error : give_back_in(first, kind, room);
}

/* Asks what needs no system call first. */
static int give_back(struct buffers_span room)
{
	bool was_used[BUFFERS_KINDS];
	int error = ENOENT;

	for (unsigned kind = 0; kind < BUFFERS_KINDS && error == ENOENT; kind++) {
		struct buffers_locator *first = used_first(kind);

		was_used[kind] = first;
		if (first)
			error = give_back_in(first, kind, room);
	}
	if (error == ENOENT)
		error = buffers_arena_give_back(room);
	for (unsigned kind = 0; kind < BUFFERS_KINDS && error == ENOENT; kind++)
		if (!was_used[kind])
			error = give_back_unused(kind, room);
	return error == ENOENT ? EINVAL : error;
}

int buffers_give_back(void *address, size_t size)
{
	uintptr_t start = (uintptr_t)address;
	int saved = errno;
	int error = EINVAL;

	if (size && size <= UINT32_MAX && start <= UINTPTR_MAX - size)
		error = give_back((struct buffers_span){ start, start + size });
	return set_errno(error, saved);
}

/*
 * Private memory
 */

static int map_private(const struct buffers_window *window, struct buffers_span *mapped)
{
	struct buffers_state *state;
	uintptr_t view;
	int error = buffers_state_get(window->kind, &state);

	if (!error)
		error = buffers_allocator_map(window, 0, &state->search_cache, mapped);
	if (error || !(window->map_flags & BUFFERS_MAP_SHARED))
		return error;
	error = buffers_views_map(*mapped, false, &view);
	if (error)
		buffers_state_unmap(*mapped);
	return error;
}

void *buffers_alloc(const struct buffers_request *request, size_t *allocated)
{
	struct buffers_window window;
	struct buffers_span mapped;
	int saved = errno;
	int error = allocated ? window_with_view_from(request, &window) : EINVAL;

	if (!error)
		error = map_private(&window, &mapped);
	if (set_errno(error, saved) != 0)
		return NULL;
	*allocated = mapped.end - mapped.start;
	return (void *)mapped.start;
}

/* Whether buffers_alloc() can have returned such a span. */
static bool span_from(void *address, size_t allocated, struct buffers_span *span)
{
	uintptr_t start = (uintptr_t)address;
	uintptr_t odd = buffers_platform_granularity() - 1;

	*span = (struct buffers_span){ start, start + allocated };
	return address && allocated && !((start | allocated) & odd) &&
	       allocated <= UINTPTR_MAX - start;
}

/* The view first: without the memory, its address could soon be other memory. */
int buffers_free(void *address, size_t allocated)
{
	struct buffers_span span;
	int saved = errno;
	int error = span_from(address, allocated, &span) ? buffers_views_unmap(span, 0) : EINVAL;

	return set_errno(error ? error : buffers_state_unmap(span), saved);
}

/*
 * Write windows
 */

/* Memory with a view is shared, and written there. */
int buffers_protect(void *address, size_t allocated, unsigned flags)
{
	struct buffers_span span;
	int saved = errno;
	int error = EINVAL;

	if (span_from(address, allocated, &span) && flags && is_kind(flags) &&
	    !buffers_views_exist(span))
		error = buffers_state_protect(span, flags);
	if (!error && flags == BUFFERS_RX)
		buffers_platform_flush_icache(address, allocated);
	return set_errno(error, saved);
}

/*
 * Private memory of other processes
 */

__attribute__((cold))
void *buffers_alloc_in(uint32_t pid, const struct buffers_request *request,
		       size_t *allocated)
{
	struct buffers_window window;
	struct buffers_span mapped;
	int saved = errno;
	int error = allocated ? window_from(request, &window) : EINVAL;

	if (!error)
		error = window.kind == BUFFERS_KIND_RX ?
			ENOSYS : buffers_allocator_map_in(pid, &window, &mapped);
	if (set_errno(error, saved) != 0)
		return NULL;
	*allocated = mapped.end - mapped.start;
	return (void *)mapped.start;
}

__attribute__((cold))
int buffers_free_in(uint32_t pid, void *address, size_t allocated)
{
	struct buffers_span span;
	int saved = errno;

	return set_errno(span_from(address, allocated, &span) ?
			 buffers_allocator_unmap_in(pid, span) : EINVAL, saved);
}

/*
 * Arenas
 */

/* The flags of the memory may be in the request, in the flags of the call, or in both. */
static int arena_window_from(const struct buffers_request *request, unsigned flags,
			     struct buffers_window *window)
{
	struct buffers_request whole;
	int error;

	if (!request || (flags & ~PUBLIC_FLAGS))
		return EINVAL;
	whole = *request;
	whole.flags |= flags & ~ARENA_FLAGS;
	error = window_with_view_from(&whole, window);
	if (error || !(flags & BUFFERS_ARENA_HUGE_PAGES))
		return error;
	if (BUFFERS_PORT_HAS_HUGE_PAGES)
		window->map_flags |= BUFFERS_MAP_HUGE_PAGES;
	return window->size < BUFFERS_HUGE_PAGE ? EINVAL : 0;
}

__attribute__((cold))
struct buffers_arena *buffers_arena_create(const struct buffers_request *request, unsigned flags)
{
	struct buffers_arena *arena = NULL;
	struct buffers_window window;
	int saved = errno;
	int error = arena_window_from(request, flags, &window);

	if (!error)
		error = buffers_arena_open(&window, flags & BUFFERS_ARENA_FORK_SHARED, &arena);
	return set_errno(error, saved) == 0 ? arena : NULL;
}

struct buffers_item *buffers_arena_get(struct buffers_arena *arena, size_t size, size_t alignment)
{
	struct buffers_item *item = NULL;
	uint32_t former;
	int saved = errno;
	int error = EINVAL;

	if (alignment == 0)
		alignment = 1;
	if (arena && size && is_alignment(alignment))
		error = buffers_arena_take(arena, size, alignment, &item);
	if (set_errno(error, saved) != 0)
		return NULL;
	if (!skip_to_aligned(item, alignment, &former))
		return item;
	return keep_skipped(buffers_arena_stretches(arena), item, former);
}

__attribute__((cold))
int buffers_arena_destroy(struct buffers_arena *arena)
{
	int saved = errno;

	return set_errno(arena ? buffers_arena_close(arena) : EINVAL, saved);
}

/*
 * Walking
 */

/* Finds another copy's locator even if this copy has not used the kind, and keeps no state. */
static struct buffers_locator *find_first(enum buffers_kind kind)
{
	struct buffers_state *state = buffers_state_known(kind);
	struct buffers_root unknown = { 0 };

	return buffers_rendezvous_known(state ? &state->root : &unknown, kind);
}

struct visitor {
	int (*visit)(const struct buffers_info *info, void *context);
	void *context;
};

/* Adds what this copy was given back of the buffer. */
__attribute__((cold))
static int visit_with_given(const struct buffers_info *info, void *context)
{
	const struct buffers_state *state = buffers_state_known(info->flags);
	const struct visitor *visitor = context;
	struct buffers_info whole = *info;
	uintptr_t base = (uintptr_t)info->base;

	if (state)
		whole.given_back = buffers_stretches_sum(stretches_of(state),
							 (struct buffers_span){
								base, base + info->used });
	return visitor->visit(&whole, visitor->context);
}

/* The chain that this copy has left, then the present one, which starts at `first`. */
static int walk_chains(enum buffers_kind kind, const struct buffers_locator *first,
		       struct visitor *visitor)
{
	const struct buffers_state *state = buffers_state_known(kind);
	const struct buffers_index *index = state ? &state->index : NULL;
	const struct buffers_locator *shared = state ? buffers_state_shared_first(state) : first;
	int verdict = 0;

	if (shared != first)
		verdict = buffers_walk_chain(index, shared, kind, visit_with_given, visitor);
	if (verdict)
		return verdict;
	return buffers_walk_chain(index, first, kind, visit_with_given, visitor);
}

__attribute__((cold))
int buffers_walk(int (*visit)(const struct buffers_info *info, void *context), void *context)
{
	int saved = errno;
	int verdict = 0;

	if (!visit)
		return set_errno(EINVAL, saved);
	for (unsigned kind = 0; kind < BUFFERS_KINDS && !verdict; kind++) {
		const struct buffers_locator *first = find_first(kind);

		errno = saved;
		verdict = walk_chains(kind, first, &(struct visitor){ visit, context });
	}
	return verdict;
}
