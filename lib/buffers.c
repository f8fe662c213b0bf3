/* SPDX-License-Identifier: MIT */
/*
 * buffers.c: the public calls
 *
 * Checks what callers give, leads a request through index and allocator, and is
 * alone in writing errno.
 */

#include "config.h"
#include "arena/arena.h"
#include "locator/pool.h"
#include "process/state.h"
#include "reloaded/buffers.h"
#include "base/atomic-store.h"
#include "platform/tls.h"

#include <errno.h>
#include <string.h>

/* New buffers are at least this long, so that neighbours share them. */
#define BUFFER_SIZE ((size_t)64 << 10)

#define KIND_FLAGS (BUFFERS_RW | BUFFERS_RX)
_Static_assert(BUFFERS_KIND_RWX == 0 && BUFFERS_KIND_RW == BUFFERS_RW && BUFFERS_KIND_RX == BUFFERS_RX,
	       "a kind is its flag");

/*
 * What the thread used last of each kind, to be tried first.  It counts only as long
 * as the process has the same first locator: a forked child has another.
 */
struct last {
	struct buffers_item *item;
	const struct buffers_locator *first;
};
static BUFFERS_TLS struct last lasts[BUFFERS_KINDS];

static inline struct last *last_of(enum buffers_kind kind)
{
	return &(*BUFFERS_TLS_ADDRESS(lasts))[kind];
}

/* What a public call leaves in errno: an error, or what was there before. */
static int conclude(int error, int saved)
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

static int window_from(const struct buffers_request *request, struct buffers_window *window)
{
	size_t alignment;

	if (!request)
		return EINVAL;
	alignment = request->alignment ? request->alignment : 1;
	if (request->size == 0 || !is_alignment(alignment) || request->flags >= BUFFERS_KINDS ||
	    request->reserved[0] || request->reserved[1] ||
	    (request->max_address && request->min_address >= request->max_address))
		return EINVAL;
	*window = (struct buffers_window){
		.range = {
			request->min_address,
			request->max_address ? request->max_address : UINTPTR_MAX,
		},
		.target = (uintptr_t)request->target,
		.size = request->size,
		.alignment = alignment,
		.kind = request->flags,
	};
	return 0;
}

struct buffers_request buffers_request_near(const void *target, size_t reach, size_t size)
{
	uintptr_t address = (uintptr_t)target;

	return (struct buffers_request){
		.min_address = address > reach ? address - reach : 0,
		.max_address = address <= UINTPTR_MAX - reach ? address + reach : 0,
		.target = target,
		.size = size,
	};
}

static int make_buffer(const struct buffers_pool *chain, const struct buffers_window *window,
		       struct buffers_item **item)
{
	struct buffers_state *process = chain->owner;
	struct buffers_locator *last = buffers_index_last(chain->index, chain->first);
	struct buffers_span buffer;
	int error = buffers_allocator_map(window, BUFFER_SIZE, &process->hindsight, &buffer);

	if (error)
		return error;
	error = buffers_locator_register(last, window->kind, buffer, item);
	if (error)
		buffers_allocator_unmap(buffer, &process->hindsight);
	return error;
}

/*
 * Whether the request is valid but for its flags and all that is free in the item
 * suits it, with the free bytes from `position` on.  The same as window_from() and
 * buffers_item_fits() say, but this is all that most calls do.
 */
static inline bool is_met(const struct buffers_request *request,
			  const struct buffers_item *item, uint32_t position)
{
	uintptr_t start = item->base_address + position;
	size_t room = item->size - position;
	size_t mask = request->alignment - (request->alignment != 0);
	size_t slack = (size_t)-start & mask;

	/* 0 less 1 is more than anything: no size is too much, no end is far enough. */
	return request->size - 1 < room && slack <= room - request->size &&
	       start >= request->min_address && start + room - 1 <= request->max_address - 1 &&
	       (request->alignment & mask) == 0 &&
	       (request->reserved[0] | request->reserved[1]) == 0;
}

static inline void mark_kind(struct buffers_item *item, enum buffers_kind kind)
{
	if (kind == BUFFERS_KIND_RX)
		buffers_item_set_owner(item, BUFFERS_TAKEN | BUFFERS_TAKEN_RX);
}

/* The item that the thread used last, if it suits. */
static inline struct buffers_item *take_mine(const struct buffers_request *request,
					      enum buffers_kind kind)
{
	const struct buffers_state *process = buffers_state_known(kind);
	const struct last *last = last_of(kind);
	struct buffers_item *item = last->item;
	uint32_t position;

	if (!item || last->first != __atomic_load_n(&process->root.first, __ATOMIC_RELAXED))
		return NULL;
	position = buffers_item_position(item);
	if (!is_met(request, item, position) || !buffers_item_take_at(item, position))
		return NULL;
	mark_kind(item, kind);
	return item;
}

static void align(struct buffers_item *item, size_t alignment)
{
	uintptr_t address;

	if (alignment > 1)	/* fits, or it would not have been taken */
		buffers_item_reserve(item, 0, alignment, &address);
}

static int take_other(const struct buffers_window *window, struct buffers_item **item)
{
	struct buffers_state *process;
	struct buffers_pool chain;
	int error;

	if (window->size > UINT32_MAX)
		return EADDRNOTAVAIL;
	error = buffers_state_get(window->kind, &process);
	if (error)
		return error;
	chain = (struct buffers_pool){
		.owner = process, .index = &process->index, .crowd = &process->crowd,
		.shared_size = BUFFER_SIZE,
		.take = buffers_item_take, .release = buffers_item_release, .make = make_buffer,
	};
	error = buffers_rendezvous_first(&process->root, window->kind, &chain.first);
	if (!error)
		error = buffers_pool_get(&chain, window, item);
	if (error)
		return error;
	mark_kind(*item, window->kind);
	*last_of(window->kind) = (struct last){ *item, chain.first };
	return 0;
}

/* All that buffers_get() does beyond the thread's last item of the first kind. */
__attribute__((noinline))
static struct buffers_item *get(const struct buffers_request *request)
{
	struct buffers_window window;
	struct buffers_item *item = NULL;
	int saved = errno;
	int error = window_from(request, &window);

	if (!error && window.kind != BUFFERS_KIND_RWX)
		item = take_mine(request, window.kind);
	if (!error && !item)
		error = take_other(&window, &item);
	if (conclude(error, saved) != 0)
		return NULL;
	align(item, window.alignment);
	return item;
}

struct buffers_item *buffers_get(const struct buffers_request *request)
{
	struct buffers_item *item = NULL;

	if (request && request->flags == 0)	/* a kind that is known saves a quarter of it */
		item = take_mine(request, BUFFERS_KIND_RWX);
	if (!item)
		return get(request);
	align(item, request->alignment);
	return item;
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

void buffers_release(struct buffers_item *item)
{
	if (!item)
		return;
	if (buffers_item_owner(item) & BUFFERS_TAKEN_SHARED)
		buffers_arena_release(item);
	else
		buffers_item_release(item);
}

/*
 * Items
 */

static void *fail(int error)
{
	errno = error;
	return NULL;
}

/* What is free is nobody's: bytes of it may have changed when this fails. */
static int write_text(const struct buffers_item *item, uintptr_t address, const void *data,
		      size_t size)
{
	if (buffers_item_owner(item) & BUFFERS_TAKEN_SHARED)
		return buffers_platform_write(address, data, size, BUFFERS_WRITE_FREE_SHARED);
	return buffers_state_write(address, data, size, BUFFERS_WRITE_FREE_PRIVATE);
}

static int append_text(struct buffers_item *item, const void *data, size_t size,
		       uintptr_t *address)
{
	int error;

	if (size > buffers_item_room(item))
		return ENOSPC;
	*address = buffers_item_next(item);
	error = size ? write_text(item, *address, data, size) : 0;
	if (!error)
		buffers_item_set_position(item, buffers_item_position(item) + size);
	return error;
}

__attribute__((noinline))
static void *append(struct buffers_item *item, const void *data, size_t size)
{
	int saved = errno;
	uintptr_t address = 0;
	int error;

	if (!item || (!data && size))
		return fail(EINVAL);
	if (buffers_item_is_directly_writable(item))
		error = buffers_item_append(item, data, size, &address);
	else
		error = append_text(item, data, size, &address);
	return conclude(error, saved) == 0 ? (void *)address : NULL;
}

void *buffers_append(struct buffers_item *item, const void *data, size_t size)
{
	void *copy = item && data ? buffers_item_append_short(item, data, size) : NULL;

	return copy ? copy : append(item, data, size);
}

void *buffers_append_code(struct buffers_item *item, const void *code, size_t size)
{
	void *copy = buffers_append(item, code, size);

	if (copy)
		buffers_platform_flush_icache(copy, size);
	return copy;
}

void *buffers_reserve(struct buffers_item *item, size_t size, size_t alignment)
{
	uintptr_t address;
	int error;

	if (alignment == 0)
		alignment = 1;
	if (!item || !is_alignment(alignment))
		return fail(EINVAL);
	error = buffers_item_reserve(item, size, alignment, &address);
	return error ? fail(error) : (void *)address;
}

void *buffers_next(const struct buffers_item *item)
{
	return item ? (void *)buffers_item_next(item) : fail(EINVAL);
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
	return item ? (void *)item->base_address : fail(EINVAL);
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
 * Code that was handed out
 */

static bool is_writable(uintptr_t address, size_t size)
{
	uintptr_t start = address & ~(uintptr_t)3;

	if (address > UINTPTR_MAX - 3 - size)
		return false;
	return buffers_platform_is_writable(start, ((address + size + 3) & ~(uintptr_t)3) - start);
}

/* Nobody knows of what kind memory is that may be another copy's. */
static int overwrite(void *dst, const void *src, size_t size)
{
	uintptr_t address = (uintptr_t)dst;

	if (is_writable(address, size)) {
		buffers_atomic_store(dst, src, size);
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
	error = dst && src ? overwrite(dst, src, size) : EINVAL;
	if (!error)
		buffers_platform_flush_icache(dst, size);
	return conclude(error, saved);
}

struct patch {
	void (*edit)(void *bytes, size_t size, void *context);
	void *context;
};

static int overwrite_by_copy(void *dst, size_t size, void *copy, const struct patch *patch)
{
	memcpy(copy, dst, size);
	patch->edit(copy, size, patch->context);
	return overwrite(dst, copy, size);
}

static int overwrite_by_pages(void *dst, size_t size, const struct patch *patch)
{
	size_t length = buffers_page_up(size);
	uintptr_t copy;
	int error = buffers_platform_map_anywhere(length, BUFFERS_KIND_RW, &copy);

	if (error)
		return error;
	error = overwrite_by_copy(dst, size, (void *)copy, patch);
	buffers_platform_unmap(copy, length);
	return error;
}

static int edit(void *dst, size_t size, const struct patch *patch)
{
	char copy[256];

	if (is_writable((uintptr_t)dst, size) && !buffers_is_atomic_size((uintptr_t)dst, size)) {
		patch->edit(dst, size, patch->context);
		return 0;
	}
	if (!buffers_platform_is_readable((uintptr_t)dst, size))
		return EINVAL;
	if (size <= sizeof(copy))
		return overwrite_by_copy(dst, size, copy, patch);
	return overwrite_by_pages(dst, size, patch);
}

int buffers_overwrite_with(void *dst, size_t size,
			   void (*patch)(void *bytes, size_t size, void *context),
			   void *context)
{
	int saved = errno;
	int error;

	if (size == 0)
		return 0;
	error = dst && patch ? edit(dst, size, &(struct patch){ patch, context }) : EINVAL;
	if (!error)
		buffers_platform_flush_icache(dst, size);
	return conclude(error, saved);
}

void buffers_flush_icache(void *start, size_t size)
{
	buffers_platform_flush_icache(start, size);
}

/*
 * Private memory
 */

static int alloc(const struct buffers_window *window, struct buffers_span *mapped)
{
	struct buffers_state *process;
	int error = buffers_state_get(window->kind, &process);

	if (error)
		return error;
	return buffers_allocator_map(window, 0, &process->hindsight, mapped);
}

void *buffers_alloc(const struct buffers_request *request, size_t *allocated)
{
	struct buffers_window window;
	struct buffers_span mapped;
	int saved = errno;
	int error = allocated ? window_from(request, &window) : EINVAL;

	if (!error)
		error = alloc(&window, &mapped);
	if (conclude(error, saved) != 0)
		return NULL;
	*allocated = mapped.end - mapped.start;
	return (void *)mapped.start;
}

/* Whether it can have been mapped. */
static bool span_from(void *address, size_t allocated, struct buffers_span *span)
{
	uintptr_t start = (uintptr_t)address;
	uintptr_t odd = buffers_platform_granularity() - 1;

	*span = (struct buffers_span){ start, start + allocated };
	return address && allocated && !((start | allocated) & odd) &&
	       allocated <= UINTPTR_MAX - start;
}

int buffers_free(void *address, size_t allocated)
{
	struct buffers_span span;
	int saved = errno;

	return conclude(span_from(address, allocated, &span) ? buffers_state_unmap(span) :
							       EINVAL, saved);
}

/*
 * Private memory of other processes
 */

void *buffers_alloc_in(uint32_t process, const struct buffers_request *request,
		       size_t *allocated)
{
	struct buffers_window window;
	struct buffers_span mapped;
	int saved = errno;
	int error = allocated ? window_from(request, &window) : EINVAL;

	if (!error)
		error = window.kind == BUFFERS_KIND_RX ?
			ENOSYS : buffers_allocator_map_in(process, &window, &mapped);
	if (conclude(error, saved) != 0)
		return NULL;
	*allocated = mapped.end - mapped.start;
	return (void *)mapped.start;
}

int buffers_free_in(uint32_t process, void *address, size_t allocated)
{
	struct buffers_span span;
	int saved = errno;

	return conclude(span_from(address, allocated, &span) ?
			buffers_allocator_unmap_in(process, span) : EINVAL, saved);
}

/*
 * Arenas
 */

/* The kind may stand in either: both together are one set of flags. */
static int arena_window_from(const struct buffers_request *request, unsigned flags,
			     struct buffers_window *window)
{
	struct buffers_request whole;

	if (!request || (flags & ~(KIND_FLAGS | BUFFERS_ARENA_FORK_SHARED)))
		return EINVAL;
	whole = *request;
	whole.flags |= flags & KIND_FLAGS;
	return window_from(&whole, window);
}

struct buffers_arena *buffers_arena_create(const struct buffers_request *request, unsigned flags)
{
	struct buffers_arena *arena = NULL;
	struct buffers_window window;
	int saved = errno;
	int error = arena_window_from(request, flags, &window);

	if (!error)
		error = buffers_arena_open(&window, flags & BUFFERS_ARENA_FORK_SHARED, &arena);
	return conclude(error, saved) == 0 ? arena : NULL;
}

struct buffers_item *buffers_arena_get(struct buffers_arena *arena, size_t size, size_t alignment)
{
	struct buffers_item *item = NULL;
	int saved = errno;
	int error = EINVAL;

	if (alignment == 0)
		alignment = 1;
	if (arena && size && is_alignment(alignment))
		error = buffers_arena_take(arena, size, alignment, &item);
	if (conclude(error, saved) != 0)
		return NULL;
	align(item, alignment);
	return item;
}

int buffers_arena_destroy(struct buffers_arena *arena)
{
	int saved = errno;

	return conclude(arena ? buffers_arena_close(arena) : EINVAL, saved);
}

/*
 * Looking on
 */

/* Another copy's may be there where this one has made none, and then is not noted. */
static struct buffers_locator *find_first(enum buffers_kind kind)
{
	struct buffers_state *process = buffers_state_known(kind);
	struct buffers_root unknown = { 0 };

	return buffers_rendezvous_known(process ? &process->root : &unknown, kind);
}

int buffers_walk(int (*visit)(const struct buffers_info *info, void *context), void *context)
{
	int saved = errno;
	int verdict = 0;

	if (!visit)
		return conclude(EINVAL, saved);
	for (unsigned kind = 0; kind < BUFFERS_KINDS && !verdict; kind++) {
		const struct buffers_locator *first = find_first(kind);

		errno = saved;
		verdict = buffers_locator_walk(first, kind, visit, context);
	}
	return verdict;
}
