/* SPDX-License-Identifier: MIT */
/* fake-platform.c: a simulated address space of a few pages for the allocator */

#include "config.h"
#include "support/fake-platform.h"
#include "support/support.h"

#include <errno.h>
#include <string.h>

struct fake fake;

void fake_reset(void)
{
	fake = (struct fake){ .method = BUFFERS_MAPS_QUERY, .random = 1 };
}

static bool is_free(size_t page)
{
	return page < FAKE_PAGES && !fake.mapped[page];
}

size_t buffers_platform_granularity(void)
{
	return FAKE_PAGE;
}

struct buffers_span buffers_platform_usable(struct buffers_span range)
{
	if (range.start < FAKE_FIRST * FAKE_PAGE)
		range.start = FAKE_FIRST * FAKE_PAGE;
	if (range.end > FAKE_PAGES * FAKE_PAGE)
		range.end = FAKE_PAGES * FAKE_PAGE;
	return range;
}

struct buffers_span buffers_platform_heap_growth(void)
{
	return fake.heap;
}

struct buffers_span buffers_platform_stack_growth(void)
{
	return fake.stack;
}

bool buffers_platform_may_grow_into(struct buffers_span span)
{
	return (fake.heap.start < span.end && span.start < fake.heap.end) ||
	       (fake.stack.start < span.end && span.start < fake.stack.end);
}

static bool is_in_guard_gap(struct buffers_span span)
{
	return fake.guard_gap.start < span.end && span.start < fake.guard_gap.end;
}

bool buffers_platform_find_guard_gap(const struct buffers_maps *maps, struct buffers_span span,
				     struct buffers_span *gap)
{
	(void)maps;
	*gap = fake.guard_gap;
	return is_in_guard_gap(span);
}

int buffers_platform_map(uintptr_t address, size_t size, enum buffers_kind kind,
			 enum buffers_map_flags flags)
{
	size_t first = address / FAKE_PAGE;
	size_t end = first + size / FAKE_PAGE;

	/* RW: a page by which the allocator tries the system */
	ck_assert(kind == BUFFERS_KIND_RWX || (kind == BUFFERS_KIND_RW && size == FAKE_PAGE));
	ck_assert_uint_eq(flags, BUFFERS_MAP_PLAIN);
	ck_assert_uint_eq(address % FAKE_PAGE, 0);
	ck_assert_uint_eq(size % FAKE_PAGE, 0);
	ck_assert_uint_gt(size, 0);
	ck_assert_uint_ge(first, FAKE_FIRST);
	ck_assert_uint_le(end, FAKE_PAGES);
	fake.attempts++;
	if (fake.before_map) {
		void (*act)(void) = fake.before_map;

		fake.before_map = NULL;
		act();
	}
	if (fake.error)
		return fake.error;
	if (fake.max_size && size > fake.max_size)
		return ENOMEM;
	if (fake.races) {
		fake.races--;
		fake.mapped[first] = true;
	}
	if (is_in_guard_gap((struct buffers_span){ address, address + size }))
		return EEXIST;
	for (size_t page = first; page < end; page++)
		if (!is_free(page) || fake.refused[page])
			return EEXIST;
	memset(&fake.mapped[first], 1, end - first);
	return 0;
}

int buffers_platform_map_anywhere(size_t size, enum buffers_kind kind,
				  enum buffers_map_flags flags, uintptr_t *address)
{
	for (size_t page = FAKE_PAGES - size / FAKE_PAGE; page >= FAKE_FIRST; page--) {
		*address = page * FAKE_PAGE;
		if (is_free(page) && buffers_platform_map(*address, size, kind, flags) == 0)
			return 0;
	}
	return ENOMEM;
}

int buffers_platform_unmap(uintptr_t address, size_t size)
{
	memset(&fake.mapped[address / FAKE_PAGE], 0, size / FAKE_PAGE);
	return 0;
}

void buffers_platform_maps_open(struct buffers_maps *maps)
{
	fake.opened++;
	maps->descriptor = -1;
	*(int *)&maps->method = fake.method;
}

void buffers_platform_maps_close(struct buffers_maps *maps)
{
	(void)maps;
	fake.opened--;
}

int buffers_platform_maps_find(const struct buffers_maps *maps, struct buffers_span span,
			       struct buffers_span *mapping)
{
	size_t page = span.start / FAKE_PAGE;
	size_t end = span.end / FAKE_PAGE;

	ck_assert_int_ne(maps->method, BUFFERS_MAPS_SCAN);
	fake.queries++;
	while (page < end && is_free(page) && !fake.looks_full)
		page++;
	if (page >= end)
		return ENOENT;
	mapping->start = page * FAKE_PAGE;
	if (maps->method == BUFFERS_MAPS_QUERY)	/* a probe does not report the mapping's start */
		for (; !is_free(mapping->start / FAKE_PAGE - 1); mapping->start -= FAKE_PAGE)
			if (mapping->start == 0)
				break;
	while (page < FAKE_PAGES && (!is_free(page) || fake.looks_full))
		page++;
	mapping->end = page * FAKE_PAGE;
	return 0;
}

int buffers_platform_maps_scan(const struct buffers_maps *maps,
			       void (*visit)(struct buffers_span mapping, void *context),
			       void *context)
{
	ck_assert_int_eq(maps->method, BUFFERS_MAPS_SCAN);
	fake.queries++;
	if (fake.scan_error)
		return fake.scan_error;
	for (size_t page = 0; page < FAKE_PAGES; page++)
		if (fake.mapped[page] || fake.looks_full)	/* does not merge neighbours */
			visit((struct buffers_span){ page * FAKE_PAGE,
						     (page + 1) * FAKE_PAGE }, context);
	/* On x86-64 the kernel lists [vsyscall] at this address, beyond the usable addresses. */
	visit((struct buffers_span){ UINTPTR_MAX - 0x9fffff, UINTPTR_MAX - 0x9fefff }, context);
	return 0;
}

bool buffers_platform_is_packed(struct buffers_span span)
{
	bool is_packed = !fake.knows_no_packed;

	ck_assert_uint_lt(span.start, span.end);
	fake.packed_questions++;
	for (size_t page = span.start / FAKE_PAGE; page < span.end / FAKE_PAGE; page++)
		is_packed &= fake.counts_unmapped || !is_free(page);
	if (fake.after_packed) {
		void (*act)(void) = fake.after_packed;

		fake.after_packed = NULL;
		act();
	}
	return is_packed;
}

int buffers_platform_maps_open_in(uint32_t process, struct buffers_maps *maps,
				  struct buffers_span *usable)
{
	static const struct buffers_span all = { 0, UINTPTR_MAX };

	if (process != FAKE_PID)
		return EINVAL;
	buffers_platform_maps_open(maps);
	maps->handle = FAKE_HANDLE;
	if (usable)
		*usable = buffers_platform_usable(all);
	return 0;
}

int buffers_platform_map_in(const struct buffers_maps *maps, uintptr_t address, size_t size,
			    enum buffers_kind kind)
{
	ck_assert_uint_eq(maps->handle, FAKE_HANDLE);
	fake.remote_attempts++;
	return buffers_platform_map(address, size, kind, BUFFERS_MAP_PLAIN);
}

int buffers_platform_unmap_in(const struct buffers_maps *maps, uintptr_t address, size_t size)
{
	ck_assert_uint_eq(maps->handle, FAKE_HANDLE);
	return buffers_platform_unmap(address, size);
}

uint64_t buffers_platform_random(void)
{
	return next_random(&fake.random);
}
