/* SPDX-License-Identifier: MIT */
/*
 * buffers.c: the public calls
 *
 * Checks what callers give, leads a request through locator and allocator, and
 * is alone in writing errno.
 */

#include "config.h"
#include "locator.h"
#include "reloaded/buffers.h"

#include <errno.h>
#include <string.h>

/* New buffers are at least this long, so that neighbours share them. */
#define BUFFER_SIZE ((size_t)64 << 10)

/* All that the library knows of this process; all zero at its start. */
struct process {
	struct buffers_root root;
	struct buffers_hindsight hindsight;
};

static struct process *process_page;

/*
 * The kernel has emptied the page by now.  Where it does not, this does, but
 * not what another fork handler of this child has put there before us.
 */
static void forget_parent(void)
{
	struct process *process = process_page;

	if (process && process->root.process != buffers_platform_process())
		*process = (struct process){ 0 };
}

__attribute__((constructor)) static void watch_forks(void)
{
	buffers_platform_at_fork(forget_parent);
}

/* A copy that may be unloaded cannot tell whether the process ends, too. */
__attribute__((destructor)) static void leave(void)
{
	struct process *process = __atomic_load_n(&process_page, __ATOMIC_ACQUIRE);

	if (process && buffers_platform_stays_loaded())
		buffers_locator_leave(&process->root);
}

static int map_process_page(struct process **process)
{
	void *page;
	int error = buffers_platform_map_state(&page);

	if (error)
		return error;
	*process = NULL;
	if (__atomic_compare_exchange_n(&process_page, process, page, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE))
		*process = page;
	else
		buffers_platform_unmap((uintptr_t)page, buffers_platform_granularity());
	return 0;
}

static int get_process(struct process **process)
{
	*process = __atomic_load_n(&process_page, __ATOMIC_ACQUIRE);
	return *process ? 0 : map_process_page(process);
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
	if (request->size == 0 || !is_alignment(alignment) || request->flags ||
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

static int make_buffer(struct process *process, struct buffers_locator *first,
		       const struct buffers_window *window,
		       const struct buffers_span *neighbour, struct buffers_item **item)
{
	struct buffers_span buffer;
	int error = buffers_allocator_map(window, BUFFER_SIZE, neighbour,
					  &process->hindsight, &buffer);

	if (error)
		return error;
	error = buffers_locator_register(first, buffer, item);
	if (error)
		buffers_allocator_unmap(buffer, &process->hindsight);
	return error;
}

static int get(const struct buffers_window *window, struct buffers_item **item)
{
	struct process *process;
	struct buffers_locator *first;
	struct buffers_span neighbour;
	uintptr_t address;
	int error;

	if (window->size > UINT32_MAX)
		return EADDRNOTAVAIL;
	error = get_process(&process);
	if (error)
		return error;
	error = buffers_locator_first(&process->root, &first);
	if (error)
		return error;
	*item = buffers_locator_take(first, window, &neighbour);
	if (!*item)
		error = make_buffer(process, first, window,
				    neighbour.end ? &neighbour : NULL, item);
	if (error)
		return error;
	return buffers_item_reserve(*item, 0, window->alignment, &address);
}

struct buffers_item *buffers_get(const struct buffers_request *request)
{
	struct buffers_item *item = NULL;
	struct buffers_window window;
	int saved = errno;
	int error = window_from(request, &window);

	if (!error)
		error = get(&window, &item);
	return conclude(error, saved) == 0 ? item : NULL;
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
	if (item)
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

void *buffers_append(struct buffers_item *item, const void *data, size_t size)
{
	uintptr_t address;
	int error;

	if (!item || (!data && size))
		return fail(EINVAL);
	error = buffers_item_append(item, data, size, &address);
	return error ? fail(error) : (void *)address;
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

/* Threads may execute what is here while it changes: one store if it can be. */
static void store(void *dst, const void *src, size_t size)
{
	bool is_aligned = ((uintptr_t)dst & (size - 1)) == 0;
	uint64_t eight;
	uint32_t four;

	if (size == 8 && is_aligned && __atomic_always_lock_free(8, 0)) {
		memcpy(&eight, src, size);
		__atomic_store_n((uint64_t *)dst, eight, __ATOMIC_RELEASE);
	} else if (size == 4 && is_aligned) {
		memcpy(&four, src, size);
		__atomic_store_n((uint32_t *)dst, four, __ATOMIC_RELEASE);
	} else {
		memcpy(dst, src, size);
	}
}

int buffers_overwrite(void *dst, const void *src, size_t size)
{
	if (size == 0)
		return 0;
	if (!dst || !src) {
		errno = EINVAL;
		return -1;
	}
	store(dst, src, size);
	buffers_platform_flush_icache(dst, size);
	return 0;
}

int buffers_overwrite_with(void *dst, size_t size,
			   void (*patch)(void *bytes, size_t size, void *context),
			   void *context)
{
	if (size == 0)
		return 0;
	if (!dst || !patch) {
		errno = EINVAL;
		return -1;
	}
	patch(dst, size, context);
	buffers_platform_flush_icache(dst, size);
	return 0;
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
	struct process *process;
	int error = get_process(&process);

	if (error)
		return error;
	return buffers_allocator_map(window, 0, NULL, &process->hindsight, mapped);
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

int buffers_free(void *address, size_t allocated)
{
	uintptr_t start = (uintptr_t)address;
	uintptr_t odd = buffers_platform_granularity() - 1;
	struct process *process = __atomic_load_n(&process_page, __ATOMIC_ACQUIRE);
	int saved = errno;
	int error = EINVAL;

	if (address && allocated && !((start | allocated) & odd) &&
	    allocated <= UINTPTR_MAX - start)
		error = buffers_allocator_unmap((struct buffers_span){ start, start + allocated },
						process ? &process->hindsight : NULL);
	return conclude(error, saved);
}

/*
 * Looking on
 */

int buffers_walk(int (*visit)(const struct buffers_info *info, void *context), void *context)
{
	struct buffers_locator *first;
	struct process *process;
	int saved = errno;
	int error = visit ? get_process(&process) : EINVAL;

	if (conclude(error, saved) != 0)
		return -1;
	first = buffers_locator_known(&process->root);
	errno = saved;
	return buffers_locator_walk(first, visit, context);
}
