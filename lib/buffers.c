/* SPDX-License-Identifier: MIT */
/*
 * buffers.c: the public calls
 *
 * Checks what callers give, leads a request through index and allocator, and is
 * alone in writing errno.
 */

#include "config.h"
#include "index.h"
#include "reloaded/buffers.h"

#include <errno.h>
#include <string.h>

/* New buffers are at least this long, so that neighbours share them. */
#define BUFFER_SIZE ((size_t)64 << 10)

/* All that the library knows of this process; all zero at its start. */
struct process {
	struct buffers_root root;
	struct buffers_hindsight hindsight;
	struct buffers_crowd crowd;
	struct buffers_index index;	/* last: it uses the rest of the page */
};
_Static_assert(sizeof(struct process) <= 1024, "most of the page is left");

static struct process *process_page;

/*
 * What the thread used last, to be tried first.  It counts only as long as the
 * process has the same first locator: a forked child has another.  (The dynamic
 * model of thread-local storage calls malloc().)
 */
static __thread struct {
	struct buffers_item *item;
	const struct buffers_locator *first;
	unsigned seat;			/* in the crowd; 0: none yet */
} mine __attribute__((tls_model("initial-exec")));

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
		       const struct buffers_window *window, struct buffers_item **item)
{
	struct buffers_span buffer;
	int error = buffers_allocator_map(window, BUFFER_SIZE, &process->hindsight, &buffer);

	if (error)
		return error;
	error = buffers_locator_register(buffers_index_last(&process->index, first), buffer, item);
	if (error)
		buffers_allocator_unmap(buffer, &process->hindsight);
	return error;
}

/*
 * Those that lie too near to what others are busy with are left for later; of
 * large ones that would be too much.
 */
static int make_apart(struct process *process, struct buffers_locator *first,
		      const struct buffers_window *window, const struct buffers_busy *busy,
		      struct buffers_item **item)
{
	int error = make_buffer(process, first, window, item);

	while (!error && window->size <= BUFFER_SIZE && buffers_crowd_is_near(busy, *item)) {
		buffers_item_release(*item);
		*item = NULL;
		error = make_buffer(process, first, window, item);
	}
	return error;
}

static unsigned own_seat(void)
{
	static unsigned last;

	if (!mine.seat)
		mine.seat = __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
	return mine.seat;
}

static int find_or_make(struct process *process, struct buffers_locator *first,
			const struct buffers_window *window, struct buffers_item **item)
{
	struct buffers_busy busy;
	int error;

	buffers_crowd_look(&process->crowd, own_seat(), &busy);
	*item = buffers_index_take(&process->index, first, window, &busy);
	if (*item)
		return 0;
	error = make_apart(process, first, window, &busy, item);
	if (error && busy.count) {
		busy.count = 0;
		*item = buffers_index_take(&process->index, first, window, &busy);
	}
	return *item ? 0 : error;
}

/* A few attempts, for others may come to sit nearby at the same moment. */
static int find_a_seat(struct process *process, struct buffers_locator *first,
		       const struct buffers_window *window, struct buffers_item **item)
{
	unsigned attempts = 3;
	int error = find_or_make(process, first, window, item);

	while (!error && !buffers_crowd_sit(&process->crowd, own_seat(), *item) && --attempts) {
		buffers_item_release(*item);
		error = find_or_make(process, first, window, item);
	}
	return error;
}

/*
 * Whether the request is valid and all that is free in the item suits it, with
 * the free bytes from `position` on.  The same as window_from() and
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
	       (request->flags | request->reserved[0] | request->reserved[1]) == 0;
}

/* The item that the thread used last, if it suits. */
static inline struct buffers_item *take_mine(const struct buffers_request *request)
{
	const struct process *process = __atomic_load_n(&process_page, __ATOMIC_ACQUIRE);
	struct buffers_item *item = mine.item;
	uint32_t position;

	if (!item || mine.first != __atomic_load_n(&process->root.first, __ATOMIC_RELAXED))
		return NULL;
	position = buffers_item_position(item);
	if (!is_met(request, item, position) || !buffers_item_take_at(item, position))
		return NULL;
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
	struct process *process;
	struct buffers_locator *first;
	int error;

	if (window->size > UINT32_MAX)
		return EADDRNOTAVAIL;
	error = get_process(&process);
	if (error)
		return error;
	error = buffers_locator_first(&process->root, &first);
	if (error)
		return error;
	error = find_a_seat(process, first, window, item);
	if (error)
		return error;
	mine.item = *item;
	mine.first = first;
	return 0;
}

/* All that buffers_get() does beyond the thread's last item. */
__attribute__((noinline))
static struct buffers_item *get(const struct buffers_request *request)
{
	struct buffers_window window;
	struct buffers_item *item = NULL;
	int saved = errno;
	int error = window_from(request, &window);

	if (!error)
		error = take_other(&window, &item);
	if (conclude(error, saved) != 0)
		return NULL;
	align(item, window.alignment);
	return item;
}

struct buffers_item *buffers_get(const struct buffers_request *request)
{
	struct buffers_item *item = request ? take_mine(request) : NULL;

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

__attribute__((noinline))
static void *append(struct buffers_item *item, const void *data, size_t size)
{
	uintptr_t address;
	int error;

	if (!item || (!data && size))
		return fail(EINVAL);
	error = buffers_item_append(item, data, size, &address);
	return error ? fail(error) : (void *)address;
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
