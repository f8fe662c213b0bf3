/* SPDX-License-Identifier: MIT */
/*
 * growth.c: the addresses into which the heap and stacks grow
 *
 * Neither has a known bound.  A sixteenth of the address space is more than machines have
 * memory, and leaves enough for buffers.
 */

#include "config.h"
#include "platform/linux/internal.h"

#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define MIB ((uintptr_t)1 << 20)

/* The kernel's stack_guard_gap; a parameter at boot can change it. */
#define GUARD_PAGES ((uintptr_t)256)

static uintptr_t largest_growth(void)
{
	return buffers_linux_space_mask() / 16 + 1;
}

/* The address at which the kernel mapped the dynamic linker at exec; 0: it mapped none. */
static uintptr_t interpreter_base(void)
{
	enum { KNOWN = 1 };		/* a base is a multiple of the page size */
	static uintptr_t base;		/* every thread reads the same value */
	uintptr_t known = __atomic_load_n(&base, __ATOMIC_RELAXED);

	if (known == 0) {
		known = getauxval(AT_BASE) | KNOWN;
		__atomic_store_n(&base, known, __ATOMIC_RELAXED);
	}
	return known & ~(uintptr_t)KNOWN;
}

/*
 * The heap
 */

/* It ends at the lowest of what the kernel, or an emulator, mapped above it at exec. */
static struct buffers_span heap_from(uintptr_t start, uintptr_t size)
{
	const uintptr_t above[] = {
		buffers_linux_space_mask(), buffers_linux_stack_top(), interpreter_base(),
	};

	for (size_t i = 0; i < sizeof(above) / sizeof(above[0]); i++)
		if (above[i] > start && above[i] - start < size)
			size = buffers_page_down(above[i]) - start;
	return (struct buffers_span){ start, start + size };
}

__attribute__((cold))
struct buffers_span buffers_platform_heap_growth(void)
{
	/* The kernel's brk(2) returns the break, the C library's does not. */
	return heap_from(buffers_page_up((uintptr_t)syscall(SYS_brk, 0L)), largest_growth());
}

/* A numeric field of /proc/self/stat behind the program's name, which may hold any byte. */
static uintptr_t field_of_stat(const char *stat, size_t size, unsigned field)
{
	uintptr_t number = 0;
	size_t at = size;

	while (at > 0 && stat[at - 1] != ')')
		at--;
	for (unsigned blanks = field - 2; at < size && blanks; at++)
		blanks -= stat[at] == ' ';
	for (; at < size && stat[at] >= '0' && stat[at] <= '9'; at++)
		number = number * 10 + (uintptr_t)(stat[at] - '0');
	return at < size ? number : 0;
}

/* proc(5), start_brk: the break is never below it.  0: unknown. */
__attribute__((cold))
static uintptr_t read_heap_start(void)
{
	enum { START_BRK = 47 };
	char stat[1024];
	ssize_t got;
	int descriptor = buffers_sys_open(AT_FDCWD, "/proc/self/stat", O_RDONLY, 0);

	if (descriptor < 0)
		return 0;
	got = buffers_sys_read(descriptor, stat, sizeof(stat));
	buffers_sys_close(descriptor);
	return got > 0 ? field_of_stat(stat, (size_t)got, START_BRK) : 0;
}

static uintptr_t heap_start(void)
{
	static uintptr_t start;		/* every thread reads the same value */
	static bool is_read;

	if (!__atomic_load_n(&is_read, __ATOMIC_ACQUIRE)) {
		__atomic_store_n(&start, read_heap_start(), __ATOMIC_RELAXED);
		__atomic_store_n(&is_read, true, __ATOMIC_RELEASE);
	}
	return __atomic_load_n(&start, __ATOMIC_RELAXED);
}

/* False below the heap's start and far above it, wherever the break is. */
static bool may_be_heap(struct buffers_span span)
{
	uintptr_t start = heap_start();

	return !start || buffers_span_overlap(span, heap_from(start, 4 * largest_growth()));
}

/*
 * The main stack
 */

/* The span of a stack that may grow to `room` bytes, with the guard gap below it. */
static struct buffers_span stack_down(uintptr_t room)
{
	uintptr_t end = buffers_page_up(buffers_linux_stack_top());
	uintptr_t guard = GUARD_PAGES * buffers_platform_granularity();
	uintptr_t start = end - room - guard;
	uintptr_t interpreter = interpreter_base();

	/* The kernel mapped the interpreter directly below the stack's room at exec. */
	if (start < interpreter && interpreter < end)
		start = interpreter;
	return (struct buffers_span){ start, end };
}

__attribute__((cold))
struct buffers_span buffers_platform_stack_growth(void)
{
	uintptr_t least = 128 * MIB;	/* the kernel always leaves as much: mmap_base() */
	struct rlimit limit;
	uintptr_t room = least;

	if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur > least)
		room = limit.rlim_cur < largest_growth() ?
		       buffers_page_up((uintptr_t)limit.rlim_cur) : largest_growth();
	return stack_down(room);
}

/* Covers every stack limit, so no limit has to be asked for. */
bool buffers_platform_may_grow_into(struct buffers_span span)
{
	return buffers_span_overlap(span, stack_down(largest_growth())) ||
	       (may_be_heap(span) && buffers_span_overlap(span, buffers_platform_heap_growth()));
}

/*
 * Other mappings that can grow down: MAP_GROWSDOWN
 *
 * Only /proc/self/smaps tells them from others, slowly.  The kernel keeps the gap below them
 * free from mappings at a hint, so a hint shows it.
 */

/* The size of the gap below a mapping, rounded up to a power of two of pages. */
static uintptr_t gap_below(uintptr_t mapping)
{
	uintptr_t page = buffers_platform_granularity();
	uintptr_t gap = page;

	while (gap < GUARD_PAGES * page && !buffers_linux_is_eligible(mapping - gap - page))
		gap *= 2;
	return gap;
}

__attribute__((cold))
bool buffers_platform_find_guard_gap(const struct buffers_maps *maps, struct buffers_span span,
				     struct buffers_span *gap)
{
	uintptr_t page = buffers_platform_granularity();
	struct buffers_span above = { span.end, span.end + GUARD_PAGES * page };
	struct buffers_span mapping;

	if (above.start > above.end || buffers_platform_maps_find(maps, above, &mapping) != 0 ||
	    mapping.start < span.end || buffers_linux_is_eligible(mapping.start - page))
		return false;
	*gap = (struct buffers_span){ mapping.start, mapping.start };
	gap->start -= buffers_min(gap_below(mapping.start), mapping.start);
	return buffers_span_overlap(*gap, span);
}
