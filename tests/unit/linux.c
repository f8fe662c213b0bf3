/* SPDX-License-Identifier: MIT */
/* unit/linux: the platform layer on Linux, on the kernel that runs the test */

#include "config.h"
#include "platform/linux/internal.h"
#include "platform/wait.h"
#include "support/restrict.h"
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((uintptr_t)1 << 20)
#define GIB ((uintptr_t)1 << 30)

/*
 * The library calls these wrappers instead of mmap(), so that tests can simulate other kernels.
 */
void *__real_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);

static bool is_noreplace_ignored;	/* simulates Linux before 4.17 */
static int placed_error;	/* for mappings at an address, unless 0 */
static int any_error;		/* for mappings anywhere, unless 0 */

/* Wraps both names: on 32-bit systems, 64-bit file offsets change mmap() to mmap64(). */
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
	int error = address ? placed_error : any_error;

	if (error) {
		errno = error;
		return MAP_FAILED;
	}
	if (is_noreplace_ignored)
		flags &= ~MAP_FIXED_NOREPLACE;
	return __real_mmap64(address, size, protection, flags, fd, offset);
}

#ifndef __USE_FILE_OFFSET64
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
	return __wrap_mmap64(address, size, protection, flags, fd, offset);
}
#endif

static size_t page(void)
{
	return buffers_platform_granularity();
}

static uintptr_t map_writable(size_t pages)
{
	uintptr_t address;

	ck_assert_int_eq(buffers_platform_map_anywhere(pages * page(), BUFFERS_KIND_RW,
						       BUFFERS_MAP_PLAIN, &address), 0);
	return address;
}

static struct buffers_span limits(void)
{
	return buffers_platform_usable((struct buffers_span){ 0, UINTPTR_MAX });
}

START_TEST(granularity_is_the_page_size)
{
	ck_assert_uint_eq(page(), (size_t)sysconf(_SC_PAGESIZE));
}
END_TEST

/* On Arm, the kernel maps helper functions for programs there. */
static bool is_kernel_mapping(uintptr_t address)
{
	return address >= UINTPTR_MAX - 0xffff;
}

START_TEST(limits_enclose_all_mappings_and_leave_the_lowest_64_kib)
{
	struct buffers_span all = limits();
	static struct mapping maps[10000];
	size_t count = read_maps(maps, 10000);

	ck_assert_uint_ge(all.start, 0x10000);
	ck_assert_uint_lt(all.start, MIB);
	for (size_t i = 0; i < count; i++) {
		if (strcmp(maps[i].name, "[vsyscall]") == 0 || is_kernel_mapping(maps[i].start))
			continue;
		ck_assert_uint_ge(maps[i].start, all.start);
		/* Without randomization the stack ends at the end of the user's addresses. */
		if (strcmp(maps[i].name, "[stack]") != 0)
			ck_assert_uint_le(maps[i].end, all.end);
	}
	ck_assert_uint_eq(limits().start, all.start);
}
END_TEST

START_TEST(top_of_the_limits_can_be_mapped)
{
	uintptr_t top = limits().end;

	SKIP_IF(is_asan() || is_tsan(), "the sanitizer reserves these addresses");
	SKIP_IF(is_mapped_as(top - page(), top, NULL), "the stack is there");
	ck_assert_int_eq(buffers_platform_map(top - page(), page(), BUFFERS_KIND_RW,
					      BUFFERS_MAP_PLAIN), 0);
	ck_assert_int_eq(buffers_platform_unmap(top - page(), page()), 0);
}
END_TEST

/* Whether the interpreter starts there, or the page of the stack's initial contents. */
static bool is_interpreter_or_stack(uintptr_t address)
{
	return address == getauxval(AT_BASE) ||
	       address == (getauxval(AT_RANDOM) & ~(uintptr_t)(page() - 1));
}

START_TEST(heap_grows_from_the_break)
{
	struct buffers_span heap = buffers_platform_heap_growth();
	uintptr_t end = (uintptr_t)sbrk(0);

	ck_assert_uint_ge(heap.start, end);
	ck_assert_uint_lt(heap.start - end, page());
	ck_assert(heap.end - heap.start > 64 * MIB || is_interpreter_or_stack(heap.end));
	sbrk(3 * (intptr_t)page());
	ck_assert_uint_eq(buffers_platform_heap_growth().start, heap.start + 3 * page());
}
END_TEST

/* Emulators map both directly above the break. */
START_TEST(heap_ends_below_interpreter_and_stack)
{
	struct buffers_span heap = buffers_platform_heap_growth();
	uintptr_t interpreter = getauxval(AT_BASE);
	uintptr_t stack = getauxval(AT_RANDOM);

	ck_assert(interpreter <= heap.start || interpreter >= heap.end);
	ck_assert(stack <= heap.start || stack >= heap.end);
}
END_TEST

static bool is_stack_limit(rlim_t limit)
{
	struct rlimit now;

	return getrlimit(RLIMIT_STACK, &now) == 0 && now.rlim_cur == limit;
}

START_TEST(stack_grows_down_by_its_limit_and_at_least_128_mib)
{
	char local;
	struct buffers_span stack;

	set_limit(RLIMIT_STACK, 8 * MIB);	/* it may be unlimited */
	stack = buffers_platform_stack_growth();
	if (!is_asan())		/* ASan may move local variables off the stack */
		ck_assert(stack.start < (uintptr_t)&local && (uintptr_t)&local < stack.end);
	ck_assert(stack.end - stack.start > 128 * MIB || stack.start == getauxval(AT_BASE));
	ck_assert_uint_lt(stack.end - stack.start, 256 * MIB);
	set_limit(RLIMIT_STACK, GIB);
	SKIP_IF(!is_stack_limit(GIB), "the limit cannot be raised");
	/* The region has the size of the limit, unless a mapping is in the way. */
	stack = buffers_platform_stack_growth();
	if (stack.start != getauxval(AT_BASE))
		ck_assert_uint_gt(stack.end - stack.start, GIB);
	set_limit(RLIMIT_STACK, RLIM_INFINITY);
	SKIP_IF(!is_stack_limit(RLIM_INFINITY), "the limit cannot be lifted");
	stack = buffers_platform_stack_growth();
	ck_assert_uint_ge(stack.start, getauxval(AT_BASE));
	ck_assert(stack.end - stack.start > 128 * MIB || stack.start == getauxval(AT_BASE));
}
END_TEST

static bool may_grow_into(uintptr_t page_start)
{
	return buffers_platform_may_grow_into((struct buffers_span){ page_start,
								     page_start + page() });
}

START_TEST(growth_rooms_of_heap_and_stack_are_recognized)
{
	struct buffers_span heap = buffers_platform_heap_growth();
	struct buffers_span stack = buffers_platform_stack_growth();

	ck_assert(may_grow_into(heap.start));
	ck_assert(may_grow_into(heap.end - page()));
	ck_assert(may_grow_into(stack.start));
	ck_assert(may_grow_into(stack.end - page()));
	ck_assert(!may_grow_into((heap.start & ~(page() - 1)) - page()) ||
		  stack.start < heap.start);
	/* The answer does not depend on the present ends of heap and stack. */
	sbrk(100 * (intptr_t)page());
	ck_assert(may_grow_into(heap.start + 100 * page()));
	ck_assert(may_grow_into(buffers_platform_heap_growth().end - page()));
	sbrk(-100 * (intptr_t)page());
	ck_assert(may_grow_into(heap.start));
	if (set_limit(RLIMIT_STACK, GIB).rlim_max >= GIB)
		ck_assert(may_grow_into(buffers_platform_stack_growth().start));
}
END_TEST

/* The heap may grow again into the space that it released. */
START_TEST(heap_may_grow_into_space_that_it_released)
{
	uintptr_t start = ((uintptr_t)sbrk(0) + page() - 1) & ~(page() - 1);

	sbrk(100 * (intptr_t)page());
	ck_assert_uint_gt(buffers_platform_heap_growth().start, start);
	sbrk(-100 * (intptr_t)page());
	ck_assert(may_grow_into(start));
}
END_TEST

START_TEST(memory_is_mapped_at_the_given_address)
{
	uintptr_t address = map_writable(3);

	ck_assert_int_eq(buffers_platform_unmap(address, 3 * page()), 0);
	ck_assert_int_eq(buffers_platform_map(address + page(), page(), BUFFERS_KIND_RWX,
					      BUFFERS_MAP_PLAIN), 0);
	ck_assert(is_mapped_as(address + page(), address + 2 * page(), "rwxp"));
	ck_assert_int_eq(buffers_platform_map(address, page(), BUFFERS_KIND_RW, BUFFERS_MAP_PLAIN),
			 0);
	ck_assert(is_mapped_as(address, address + page(), "rw-p"));
}
END_TEST

START_TEST(existing_mappings_are_not_replaced)
{
	const size_t sizes[] = { page(), 4 * MIB };
	uintptr_t address = map_writable(1);

	SKIP_IF(is_asan(), "the sanitizer's runtime maps memory at any time");

	*(char *)address = 'x';
	for (unsigned i = 0; i < 4; i++) {
		size_t size = sizes[i / 2];
		size_t before = count_mappings(0, UINTPTR_MAX);

		is_noreplace_ignored = i % 2;
		ck_assert_int_eq(buffers_platform_map(address, size, BUFFERS_KIND_RWX,
						      BUFFERS_MAP_PLAIN), EEXIST);
		ck_assert_int_eq(buffers_platform_map(address + page() - size, size,
						      BUFFERS_KIND_RWX, BUFFERS_MAP_PLAIN),
				 EEXIST);
		ck_assert_int_eq(*(char *)address, 'x');
		/* TSan's runtime maps memory at any time */
		ck_assert(is_tsan() || count_mappings(0, UINTPTR_MAX) == before);
	}
}
END_TEST

/* A mapping that grows down, in the middle of `around` free bytes to each side; 0: impossible. */
static uintptr_t map_growing(size_t around)
{
	char *free = mmap(NULL, 2 * around, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *stack;

	ck_assert_ptr_ne(free, MAP_FAILED);
	munmap(free, 2 * around);
	stack = mmap(free + around, page(), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
	return stack == free + around && !buffers_linux_is_eligible((uintptr_t)stack - page()) ?
	       (uintptr_t)stack : 0;
}
#define NO_GUARD_GAP "no gap is kept free below mappings that grow down here"

START_TEST(guard_gap_is_kept_below_a_mapping_that_grows_down)
{
	const size_t sizes[] = { page(), 64 * page(), 4 * MIB };
	uintptr_t gap = 256 * page();
	uintptr_t stack = map_growing(64 * MIB);

	SKIP_IF(is_emulated(), "the gap has pages of the emulator's kernel");
	SKIP_IF(!stack, NO_GUARD_GAP);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uintptr_t address = stack - gap - sizes[i];

		ck_assert_int_eq(buffers_platform_map(address + page(), sizes[i],
						      BUFFERS_KIND_RWX, BUFFERS_MAP_PLAIN),
				 EEXIST);
		ck_assert_int_eq(buffers_platform_map(address, sizes[i], BUFFERS_KIND_RWX,
						      BUFFERS_MAP_PLAIN), 0);
		ck_assert_int_eq(buffers_platform_unmap(address, sizes[i]), 0);
	}
}
END_TEST

START_TEST(guard_gap_is_found)
{
	static const int methods[] = { BUFFERS_MAPS_QUERY, BUFFERS_MAPS_SCAN, BUFFERS_MAPS_PROBE };
	uintptr_t stack = map_growing(64 * MIB);
	struct buffers_span gap = { stack - 256 * page(), stack };
	struct buffers_span found;
	struct buffers_maps maps;

	SKIP_IF(is_emulated(), "the gap has pages of the emulator's kernel");
	SKIP_IF(!stack, NO_GUARD_GAP);
	buffers_platform_maps_open(&maps);
	for (size_t i = maps.method; i < sizeof(methods) / sizeof(methods[0]); i++) {
		*(int *)&maps.method = methods[i];
		for (uintptr_t end = stack; end > gap.start; end -= 51 * page()) {
			struct buffers_span span = { end - 8 * page(), end };

			ck_assert(buffers_platform_find_guard_gap(&maps, span, &found));
			ck_assert_uint_eq(found.start, gap.start);
			ck_assert_uint_eq(found.end, gap.end);
		}
		ck_assert(!buffers_platform_find_guard_gap(&maps, (struct buffers_span){
			gap.start - page(), gap.start }, &found));
	}
	munmap((void *)stack, page());
	ck_assert_ptr_ne(mmap((void *)stack, page(), PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), MAP_FAILED);
	ck_assert(!buffers_platform_find_guard_gap(&maps, (struct buffers_span){
		stack - page(), stack }, &found));
	buffers_platform_maps_close(&maps);
}
END_TEST

START_TEST(kernel_errors_are_classified)
{
	static const struct {
		int placed, any, expected;
	} cases[] = {
		{ EEXIST, 0, EEXIST },
		{ EINVAL, 0, EEXIST },
		{ ENOMEM, 0, EEXIST },	/* kernel address; other addresses can be mapped */
		{ ENOMEM, ENOMEM, ENOMEM },
		{ EAGAIN, EAGAIN, ENOMEM },
		{ EPERM, 0, EEXIST },	/* protected address; other addresses can be mapped */
		{ EACCES, 0, EEXIST },
		{ EPERM, EPERM, EACCES },
		{ EACCES, EACCES, EACCES },
		{ EPERM, EACCES, EACCES },
		{ EPERM, ENOMEM, ENOMEM },
	};
	uintptr_t address = map_writable(1);

	ck_assert_int_eq(buffers_platform_unmap(address, page()), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		placed_error = cases[i].placed;
		any_error = cases[i].any;
		ck_assert_int_eq(buffers_platform_map(address, page(), BUFFERS_KIND_RWX,
						      BUFFERS_MAP_PLAIN), cases[i].expected);
	}
	ck_assert_uint_eq(count_mappings(address, address + page()), 0);
}
END_TEST

START_TEST(mapping_anywhere_reports_the_kernels_error)
{
	uintptr_t address;

	any_error = ENOMEM;
	ck_assert_int_eq(buffers_platform_map_anywhere(page(), BUFFERS_KIND_RWX, BUFFERS_MAP_PLAIN,
						       &address), ENOMEM);
	any_error = EPERM;
	ck_assert_int_eq(buffers_platform_map_anywhere(page(), BUFFERS_KIND_RWX, BUFFERS_MAP_PLAIN,
						       &address), EACCES);
}
END_TEST

START_TEST(unmapping_reports_the_kernels_error)
{
	ck_assert_int_eq(buffers_platform_unmap(1, page()), EINVAL);
}
END_TEST

/*
 * The three methods of reading the mappings agree
 */

struct list {
	struct buffers_span spans[10000];
	size_t count;
};

static void add_to_list(struct buffers_span mapping, void *context)
{
	struct list *list = context;

	if (list->count < 10000)
		list->spans[list->count++] = mapping;
}

static void scan_all(struct list *list)
{
	struct buffers_maps maps;

	list->count = 0;
	buffers_platform_maps_open(&maps);
	ck_assert_int_ne(maps.method, BUFFERS_MAPS_PROBE);
	maps.method = BUFFERS_MAPS_SCAN;
	ck_assert_int_eq(buffers_platform_maps_scan(&maps, add_to_list, list), 0);
	buffers_platform_maps_close(&maps);
}

/* Maps a file whose name contains blanks, a newline, and text in the format of a line. */
static void map_file_with_odd_name(void)
{
	static const char *const name = "/tmp/10000-20000 rwxp \n30000-40000 r--p";
	int file = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(file, 0);
	ck_assert_int_eq(ftruncate(file, (off_t)page()), 0);
	ck_assert_ptr_ne(mmap(NULL, page(), PROT_READ, MAP_PRIVATE, file, 0), MAP_FAILED);
	unlink(name);
	close(file);
}

START_TEST(scan_reads_every_line)
{
	static struct mapping maps[10000];
	static struct list list;
	size_t count;

	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps memory at any time");
	map_file_with_odd_name();
	for (unsigned i = 0; i < 2000; i++)	/* more lines than one read() returns */
		ck_assert_int_eq(mprotect((void *)(map_writable(3) + page()), page(), PROT_READ),
				 0);
	count = read_maps(maps, 10000);
	scan_all(&list);
	ck_assert_uint_gt(count, 2000);
	ck_assert_uint_eq(list.count, count);
	for (size_t i = 0; i < count; i++) {
		ck_assert_uint_eq(list.spans[i].start, maps[i].start);
		ck_assert_uint_eq(list.spans[i].end, maps[i].end);
	}
}
END_TEST

/* The mapping and its direct neighbours, which a probe cannot tell apart. */
static struct buffers_span run_around(const struct list *list, size_t i)
{
	size_t first = i;

	while (first > 0 && list->spans[first - 1].end == list->spans[first].start)
		first--;
	while (i + 1 < list->count && list->spans[i].end == list->spans[i + 1].start)
		i++;
	return (struct buffers_span){ list->spans[first].start, list->spans[i].end };
}

START_TEST(queries_and_probes_find_the_listed_mappings)
{
	static struct list list;
	struct buffers_maps maps;
	struct buffers_maps probe = { .descriptor = -1, .method = BUFFERS_MAPS_PROBE };
	struct buffers_span all = limits();
	struct buffers_span found, run;

	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime maps memory at any time");
	SKIP_IF(is_emulated() && page() > 4096, "the emulator's list lacks mappings");
	map_writable(3);
	scan_all(&list);
	buffers_platform_maps_open(&maps);
	for (size_t i = 0; i + 1 < list.count; i++) {
		struct buffers_span mapping = list.spans[i];
		struct buffers_span gap = { mapping.end, list.spans[i + 1].start };

		if (mapping.end > all.end || mapping.end - mapping.start > 64 * GIB)
			continue;
		run = run_around(&list, i);
		ck_assert_int_eq(buffers_platform_maps_find(&probe, mapping, &found), 0);
		ck_assert_uint_eq(found.start, run.start);
		if (run.end <= all.end)
			ck_assert_uint_eq(found.end, run.end);
		if (maps.method == BUFFERS_MAPS_QUERY) {
			ck_assert_int_eq(buffers_platform_maps_find(&maps, mapping, &found), 0);
			ck_assert_uint_eq(found.start, mapping.start);
			ck_assert_uint_eq(found.end, mapping.end);
		}
		if (gap.start == gap.end || gap.end > all.end)
			continue;
		if (maps.method == BUFFERS_MAPS_QUERY)
			ck_assert_int_eq(buffers_platform_maps_find(&maps, gap, &found), ENOENT);
		if (gap.end - gap.start > 64 * MIB)
			gap.start = gap.end - 64 * MIB;
		ck_assert_int_eq(buffers_platform_maps_find(&probe, gap, &found), ENOENT);
		gap.end += page();
		ck_assert_int_eq(buffers_platform_maps_find(&probe, gap, &found), 0);
		ck_assert_uint_eq(found.start, gap.end - page());
	}
	buffers_platform_maps_close(&maps);
}
END_TEST

START_TEST(probe_finds_the_exact_start)
{
	struct buffers_maps probe = { .descriptor = -1, .method = BUFFERS_MAPS_PROBE };
	enum { MAX_PAGES = 70 };
	struct buffers_span found;

	SKIP_IF(!can_probe(), NO_PROBES);
	for (size_t pages = 1; pages < MAX_PAGES; pages++) {
		uintptr_t end = map_writable(MAX_PAGES) + MAX_PAGES * page();
		uintptr_t start = end - pages * page();

		munmap((void *)(end - MAX_PAGES * page()), (MAX_PAGES - pages) * page());
		ck_assert_int_eq(buffers_platform_maps_find(
			&probe, (struct buffers_span){ end - page(), end }, &found), 0);
		ck_assert_uint_eq(found.start, start);
	}
}
END_TEST

START_TEST(probe_finds_the_exact_end)
{
	struct buffers_maps probe = { .descriptor = -1, .method = BUFFERS_MAPS_PROBE };
	enum { MAX_PAGES = 70 };
	struct buffers_span found;

	SKIP_IF(!can_probe(), NO_PROBES);
	for (size_t pages = 1; pages < MAX_PAGES - 1; pages++) {
		uintptr_t address = map_writable(MAX_PAGES);

		munmap((void *)(address + (pages + 1) * page()), (MAX_PAGES - pages - 1) * page());
		munmap((void *)address, page());	/* a neighbour would count */
		address += page();
		ck_assert_int_eq(buffers_platform_maps_find(
			&probe, (struct buffers_span){ address, address + page() }, &found), 0);
		ck_assert_uint_eq(found.start, address);
		ck_assert_uint_eq(found.end, address + pages * page());
	}
}
END_TEST

static int use_up_descriptors(void *context)
{
	struct rlimit before = set_limit(RLIMIT_NOFILE, 0);
	struct buffers_maps maps;

	(void)context;
	buffers_platform_maps_open(&maps);
	STEP(maps.method == BUFFERS_MAPS_PROBE);
	STEP(maps.descriptor == -1);
	buffers_platform_maps_close(&maps);
	STEP(limits().start >= 0x10000);
	STEP(setrlimit(RLIMIT_NOFILE, &before) == 0);
	return 0;
}

START_TEST(without_a_descriptor_mappings_are_probed)
{
	run_child(use_up_descriptors, NULL);
}
END_TEST

/* qemu-user ignores O_CLOEXEC for files that it emulates. */
static bool is_close_on_exec_kept(void)
{
	int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	bool is_kept = fcntl(file, F_GETFD) & FD_CLOEXEC;

	close(file);
	return is_kept;
}

START_TEST(list_is_closed_on_exec)
{
	struct buffers_maps maps;

	SKIP_IF(!is_close_on_exec_kept(), "the emulator ignores O_CLOEXEC");
	buffers_platform_maps_open(&maps);
	ck_assert_int_ge(maps.descriptor, 0);
	ck_assert_int_ne(fcntl(maps.descriptor, F_GETFD) & FD_CLOEXEC, 0);
	buffers_platform_maps_close(&maps);
	ck_assert_int_eq(fcntl(maps.descriptor, F_GETFD), -1);
}
END_TEST

START_TEST(closed_list_cannot_be_read)
{
	struct buffers_maps maps = { .descriptor = -1, .method = BUFFERS_MAPS_SCAN };
	struct buffers_maps directory = { .method = BUFFERS_MAPS_SCAN };
	static struct list list;

	ck_assert_int_eq(buffers_platform_maps_scan(&maps, add_to_list, &list), EIO);
	directory.descriptor = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(buffers_platform_maps_scan(&directory, add_to_list, &list), EIO);
	buffers_platform_maps_close(&directory);
	ck_assert_uint_eq(list.count, 0);
}
END_TEST

START_TEST(mappings_are_found_after_the_descriptor_was_closed)
{
	struct buffers_maps maps;
	struct buffers_span found;
	uintptr_t address = map_writable(1);
	struct buffers_span span = { address, address + page() };

	buffers_platform_maps_open(&maps);
	SKIP_IF(maps.method != BUFFERS_MAPS_QUERY, "this kernel has no queries about mappings");
	close(maps.descriptor);
	ck_assert_int_eq(buffers_platform_maps_find(&maps, span, &found), 0);
	ck_assert_uint_le(found.start, span.start);
	ck_assert_uint_ge(found.end, span.end);
}
END_TEST

/* After the main thread has exited, /proc/self/maps is empty for the other threads. */
static void *outlive_main(void *main_thread)
{
	struct buffers_maps maps;

	pthread_join(*(pthread_t *)main_thread, NULL);
	buffers_platform_maps_open(&maps);
	_exit(maps.method == BUFFERS_MAPS_PROBE ? 1 : 0);
}

START_TEST(mappings_are_read_after_the_main_thread_exited)
{
	static pthread_t main_thread;
	pthread_t other;
	int status;
	pid_t child;

	SKIP_IF(is_tsan(), "TSan needs the main thread");
	SKIP_IF(is_emulated() && page() > 4096,
		"the emulator does not report that a child's main thread exited");
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		main_thread = pthread_self();
		if (pthread_create(&other, NULL, outlive_main, &main_thread) == 0)
			pthread_exit(NULL);
		_exit(2);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

static int is_page_zero(void *page_of_parent)
{
	STEP(*(int *)page_of_parent == 0);
	return 0;
}

START_TEST(state_is_zero_at_first_and_in_a_child)
{
	void *state;

	ck_assert_int_eq(buffers_platform_map_state(&state), 0);
	ck_assert_int_eq(*(int *)state, 0);
	*(int *)state = 1;
	if (can_wipe_on_fork())
		run_child(is_page_zero, state);
	else
		printf("skipped: %s: %s\n", __func__, NO_WIPE);
	ck_assert_int_eq(*(int *)state, 1);
	any_error = ENOMEM;
	ck_assert_int_eq(buffers_platform_map_state(&state), ENOMEM);
}
END_TEST

/*
 * Memory that must be checked by system calls
 */

static bool is_writable(uintptr_t address, size_t size)
{
	return buffers_platform_is_writable(address, size);
}

static bool is_readable(uintptr_t address, size_t size)
{
	char *copy = malloc(size);
	bool is_copied = buffers_platform_try_read(address, copy, size) == 0;

	ck_assert(!is_copied || memcmp(copy, (void *)address, size) == 0);
	free(copy);
	return is_copied;
}

START_TEST(writable_memory_is_recognized)
{
	uintptr_t address = map_writable(5);
	void *second = (void *)(address + page());

	ck_assert(is_writable(address, 5 * page()));
	ck_assert(is_writable(address + 4, 5 * page() - 8));
	ck_assert_int_eq(mprotect(second, page(), PROT_READ), 0);
	ck_assert(is_readable(address, 5 * page()));
	ck_assert(!is_writable(address, 5 * page()));
	ck_assert(!is_writable(address + page() - 8, 16));
	ck_assert(!is_writable(address + page(), 8));
	ck_assert(is_writable(address + page() - 8, 8));
	ck_assert(is_writable(address + 2 * page(), 3 * page()));
	ck_assert_int_eq(mprotect(second, page(), PROT_NONE), 0);
	ck_assert(!is_writable(address + page() - 8, 16));
	ck_assert(!is_readable(address + page() - 8, 16));
	ck_assert(!is_readable(address, 5 * page()));
	ck_assert(is_readable(address + page() - 8, 8));
	ck_assert(!is_readable(address + page() - 4, 8));
	ck_assert_int_eq(munmap(second, page()), 0);
	ck_assert(!is_writable(address, 2 * page()));
	ck_assert(!is_readable(address, 2 * page()));
	ck_assert(!is_writable(address + page(), page()));
	ck_assert(!is_readable(address + page(), page()));
	ck_assert(is_writable(address, page()));
}
END_TEST

static int try_read_without_process_vm_readv(void *context)
{
	uintptr_t address = map_writable(2);
	void *second = (void *)(address + page());

	(void)context;
	STEP(refuse_call(SYS_process_vm_readv, EPERM));
	memset((void *)address, 0x5a, 2 * page());
	STEP(is_readable(address, 2 * page()));
	STEP(mprotect(second, page(), PROT_NONE) == 0);
	STEP(is_readable(address, page()));
	STEP(!is_readable(address, 2 * page()));
	STEP(!is_readable(address + page() - 4, 8));
	STEP(!is_readable(0, 8));
	STEP(!is_readable(UINTPTR_MAX - 7, 8));
	STEP(!is_readable(UINTPTR_MAX - 3, 8));
	STEP(munmap(second, page()) == 0);
	STEP(!is_readable(address + page(), 8));
	return 0;
}

START_TEST(try_read_works_where_a_filter_forbids_process_vm_readv)
{
	SKIP_IF(!can_filter(), NO_FILTER);
	run_child(try_read_without_process_vm_readv, NULL);
}
END_TEST

START_TEST(readable_memory_is_recognized)
{
	uintptr_t start = map_writable(4);
	uintptr_t end = start + 3 * page();

	ck_assert_int_eq(munmap((void *)end, page()), 0);
	ck_assert_int_eq(mprotect((void *)start, page(), PROT_READ | PROT_EXEC), 0);
	ck_assert(buffers_platform_is_readable(start, 3 * page()));
	ck_assert(buffers_platform_is_readable(end - 1, 1));
	ck_assert(buffers_platform_is_readable(start + page() - 1, 2));
	ck_assert(!buffers_platform_is_readable(end - 1, 2));
	ck_assert(!buffers_platform_is_readable(end, 1));
	ck_assert(!buffers_platform_is_readable(start, 4 * page()));
	ck_assert_int_eq(mprotect((void *)(start + page()), page(), PROT_NONE), 0);
	ck_assert(!buffers_platform_is_readable(start, 3 * page()));
	ck_assert(!buffers_platform_is_readable(start + page() - 1, 2));
	ck_assert(!buffers_platform_is_readable(1, 1));
	ck_assert(!buffers_platform_is_readable(start, SIZE_MAX));
	ck_assert(!buffers_platform_is_readable(UINTPTR_MAX, 1));
}
END_TEST

static void check_permissions(int protection, int sharing, unsigned expected)
{
	unsigned permissions = 77;
	char *start = mmap(NULL, 3 * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *middle = start + page();

	ck_assert_ptr_ne(start, MAP_FAILED);
	ck_assert_ptr_eq(mmap(middle, page(), protection, sharing | MAP_ANONYMOUS | MAP_FIXED,
			      -1, 0), middle);
	ck_assert(buffers_linux_permissions((uintptr_t)middle, &permissions));
	ck_assert_uint_eq(permissions, expected);
	ck_assert(buffers_linux_permissions((uintptr_t)middle + page() - 1, &permissions));
	ck_assert_uint_eq(permissions, expected);
	ck_assert(buffers_linux_permissions((uintptr_t)middle + page(), &permissions));
	ck_assert_uint_eq(permissions, 0);
	ck_assert_int_eq(munmap(middle, page()), 0);
	ck_assert(!buffers_linux_permissions((uintptr_t)middle, &permissions));
	munmap(start, 3 * page());
}

static int check_all_permissions(void *context)
{
	(void)context;
	check_permissions(PROT_READ, MAP_PRIVATE, PERM_READ);
	check_permissions(PROT_READ | PROT_WRITE, MAP_PRIVATE, PERM_READ | PERM_WRITE);
	check_permissions(PROT_READ | PROT_EXEC, MAP_PRIVATE, PERM_READ | PERM_EXECUTE);
	check_permissions(PROT_READ | PROT_EXEC, MAP_SHARED,
			  PERM_READ | PERM_EXECUTE | PERM_SHARED);
	return 0;
}

static int check_all_permissions_by_reading(void *context)
{
	STEP(refuse_call(SYS_ioctl, ENOTTY));
	return check_all_permissions(context);
}

/* The query exists since Linux 6.11; before that, the list is read. */
START_TEST(permissions_are_the_same_by_query_and_by_reading)
{
	run_child(check_all_permissions, NULL);
	SKIP_IF(!can_filter(), NO_FILTER);
	run_child(check_all_permissions_by_reading, NULL);
}
END_TEST

/* "rwx", "rw-", "r-x", "r--" and a free page; a kind may need more than the memory permits. */
START_TEST(mappings_permit_what_their_kind_needs)
{
	static const char *const permissions[] = { "rwxp", "rwxp", "rw-p", "r-xp", "r--p" };
	static const unsigned needs_write = 1, needs_execute = 2;
	static const unsigned needs[BUFFERS_KINDS] = {
		[BUFFERS_KIND_RWX] = needs_write | needs_execute,
		[BUFFERS_KIND_RW] = needs_write, [BUFFERS_KIND_RX] = needs_execute,
	};
	enum { PAGES = 5 };
	size_t page = granularity();
	char *start = reserve(0, (PAGES + 2) * page);
	struct buffers_maps maps;

	SKIP_IF(is_emulated(), "the emulator merges mappings in the list");
	start += page;
	for (unsigned i = 0; i < PAGES; i++)
		protect(start + i * page, page, permissions[i]);
	buffers_platform_maps_open(&maps);
	if (_i)
		maps.method = BUFFERS_MAPS_SCAN;
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		for (unsigned i = 0; i < PAGES; i++) {
			unsigned has = (permissions[i][1] == 'w' ? needs_write : 0) |
				       (permissions[i][2] == 'x' ? needs_execute : 0);

			ck_assert_int_eq(buffers_platform_maps_permit(
				&maps, (uintptr_t)start + i * page + 8, page - 8, kind),
				(has & needs[kind]) == needs[kind]);
		}
		ck_assert(!buffers_platform_maps_permit(&maps, (uintptr_t)start - 1, 2, kind));
	}
	ck_assert(buffers_platform_maps_permit(&maps, (uintptr_t)start + 1, 2 * page - 1,
					       BUFFERS_KIND_RWX));
	ck_assert(!buffers_platform_maps_permit(&maps, (uintptr_t)start + 1, 2 * page,
						BUFFERS_KIND_RWX));
	ck_assert(buffers_platform_maps_permit(&maps, (uintptr_t)start, 3 * page,
					       BUFFERS_KIND_RW));
	ck_assert(!buffers_platform_maps_permit(&maps, (uintptr_t)start, 0, BUFFERS_KIND_RW));
	ck_assert(!buffers_platform_maps_permit(&maps, (uintptr_t)start, UINTPTR_MAX -
						(uintptr_t)start, BUFFERS_KIND_RW));
	buffers_platform_maps_close(&maps);
	maps.method = BUFFERS_MAPS_PROBE;	/* does not tell whether memory can be executed */
	ck_assert(buffers_platform_maps_permit(&maps, (uintptr_t)start + 1, 3 * page - 2,
					       BUFFERS_KIND_RWX));
	ck_assert(!buffers_platform_maps_permit(&maps, (uintptr_t)start + 1, 3 * page,
						BUFFERS_KIND_RWX));
	ck_assert(buffers_platform_maps_permit(&maps, (uintptr_t)start + 1, 5 * page - 1,
					       BUFFERS_KIND_RX));
	unreserve(start - page, (PAGES + 2) * page);
}
END_TEST

START_TEST(impossible_addresses_are_not_writable)
{
	static const uintptr_t addresses[] = {
		0, 8, 0xfff, 0x1000, UINTPTR_MAX, UINTPTR_MAX - 7, UINTPTR_MAX - 4095,
		UINTPTR_MAX / 2 + 1, UINTPTR_MAX - 0xffff,
	};

	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		if (!is_mapped_as(addresses[i], addresses[i] | 1, NULL))
			ck_assert(!is_readable(addresses[i], 4096));
		ck_assert(!is_writable(addresses[i], 4096));
	}
	ck_assert(!is_writable(map_writable(1) + 1, 4));
}
END_TEST

START_TEST(checking_for_writable_memory_changes_nothing)
{
	uint32_t *words = (uint32_t *)map_writable(1);
	size_t count = page() / 4;

	for (size_t i = 0; i < count; i++)
		words[i] = (uint32_t)(i * 0x9e3779b9u);
	ck_assert(is_writable((uintptr_t)words, page()));
	for (size_t i = 0; i < count; i++)
		ck_assert_uint_eq(words[i], (uint32_t)(i * 0x9e3779b9u));
}
END_TEST

START_TEST(mapping_beyond_its_files_end_is_not_writable)
{
	FILE *file = tmpfile();
	uintptr_t address;

	SKIP_IF(!can_map_beyond_end(), NO_MAPPING_BEYOND_END);
	ck_assert_ptr_nonnull(file);
	address = (uintptr_t)mmap(NULL, page(), PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file),
				  0);
	ck_assert_uint_ne(address, (uintptr_t)MAP_FAILED);
	ck_assert(!is_writable(address, page()));
	ck_assert(!is_readable(address, page()));
	ck_assert_int_eq(ftruncate(fileno(file), 1), 0);
	ck_assert(is_writable(address, page()));
	fclose(file);
}
END_TEST

START_TEST(test_program_is_nodelete)
{
	ck_assert(buffers_platform_is_nodelete());
}
END_TEST

START_TEST(pid_namespace_is_that_of_proc)
{
	char path[] = "/proc/self/ns/pid";
	char name[64] = "";
	unsigned long long number = 0;

	ck_assert_int_gt(readlink(path, name, sizeof(name) - 1), 0);
	ck_assert_int_eq(sscanf(name, "pid:[%llu]", &number), 1);
	ck_assert_uint_eq(buffers_platform_pid_namespace(), number);
}
END_TEST

START_TEST(random_numbers_differ)
{
	uint64_t seen[100];

	for (unsigned i = 0; i < 100; i++) {
		seen[i] = buffers_platform_random();
		for (unsigned j = 0; j < i; j++)
			ck_assert_uint_ne(seen[i], seen[j]);
	}
}
END_TEST

START_TEST(backoff_returns)
{
	for (unsigned attempt = 0; attempt < 1100; attempt++)
		buffers_platform_backoff(attempt);
}
END_TEST

static void *back_off_while_cancelled(void *has_returned)
{
	pthread_cancel(pthread_self());
	buffers_platform_backoff(5000);
	*(bool *)has_returned = true;
	pthread_testcancel();
	return has_returned;
}

START_TEST(backoff_is_no_cancellation_point)
{
	bool has_returned = false;
	pthread_t thread;
	void *result;

	ck_assert_int_eq(pthread_create(&thread, NULL, back_off_while_cancelled, &has_returned), 0);
	ck_assert_int_eq(pthread_join(thread, &result), 0);
	ck_assert(has_returned);
	ck_assert_ptr_eq(result, PTHREAD_CANCELED);
}
END_TEST

/*
 * Names of mappings
 */

int __real_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int __wrap_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);

static unsigned named_mappings;

/* Simulates a kernel that can name mappings. */
int __wrap_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	enum { SET_VMA = 0x53564d41 };

	if (option != SET_VMA)
		return __real_prctl(option, a, b, c, d);
	named_mappings++;
	return 0;
}

/* perf(1) ignores /tmp/perf-PID.map for code in a named mapping. */
START_TEST(only_memory_without_code_is_named)
{
	static const enum buffers_kind kinds[] = { BUFFERS_KIND_RWX, BUFFERS_KIND_RX,
						   BUFFERS_KIND_RW };
	uintptr_t address;

	for (unsigned i = 0; i < 3; i++) {
		unsigned expected = kinds[i] == BUFFERS_KIND_RW;

		named_mappings = 0;
		ck_assert_int_eq(buffers_platform_map_anywhere(page(), kinds[i], BUFFERS_MAP_PLAIN,
							       &address), 0);
		ck_assert_uint_eq(named_mappings, expected);
		ck_assert_int_eq(buffers_platform_unmap(address, page()), 0);
		named_mappings = 0;
		ck_assert_int_eq(buffers_platform_map(address, page(), kinds[i],
						      BUFFERS_MAP_PLAIN), 0);
		ck_assert_uint_eq(named_mappings, expected);
	}
}
END_TEST

/*
 * Waiting
 */

uint64_t __real_buffers_platform_clock(void);
uint64_t __wrap_buffers_platform_clock(void);

static bool is_clock_simulated;
static uint64_t simulated_clock;
static unsigned simulated_step;		/* milliseconds from one read to the next */

uint64_t __wrap_buffers_platform_clock(void)
{
	if (!is_clock_simulated)
		return __real_buffers_platform_clock();
	simulated_clock += simulated_step;
	return simulated_clock;
}

START_TEST(clock_never_goes_back)
{
	uint64_t last = buffers_platform_clock();

	ck_assert_uint_ne(last, 0);
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t now = buffers_platform_clock();

		ck_assert_uint_ge(now, last);
		last = now;
	}
}
END_TEST

static unsigned count_waits(unsigned milliseconds)
{
	struct buffers_wait wait = { .attempts = 0 };

	while (buffers_wait_again(&wait, milliseconds))
		;
	return wait.attempts;
}

/* A thread that runs often waits as long as one that runs seldom. */
START_TEST(wait_ends_by_the_clock)
{
	is_clock_simulated = true;
	simulated_step = 1;
	ck_assert_uint_eq(count_waits(1500), 1500);
	ck_assert_uint_eq(count_waits(2000), 2000);
	simulated_step = 5;
	ck_assert_uint_eq(count_waits(7500), 1500);
}
END_TEST

/* The system did not run the thread until the time was over. */
START_TEST(wait_has_some_attempts_however_late)
{
	is_clock_simulated = true;
	simulated_step = 1000000;
	ck_assert_uint_eq(count_waits(1), 1224);
}
END_TEST

START_TEST(wait_without_a_clock_ends)
{
	is_clock_simulated = true;
	ck_assert_uint_eq(count_waits(50), 1224 + 8 * 50);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("unit/linux");
	TCase *space = tcase_create("space");
	TCase *mapping = tcase_create("mapping");
	TCase *maps = tcase_create("maps");
	TCase *process = tcase_create("process");

	tcase_add_test(space, granularity_is_the_page_size);
	tcase_add_test(space, limits_enclose_all_mappings_and_leave_the_lowest_64_kib);
	tcase_add_test(space, top_of_the_limits_can_be_mapped);
	tcase_add_test(space, heap_grows_from_the_break);
	tcase_add_test(space, heap_ends_below_interpreter_and_stack);
	tcase_add_test(space, growth_rooms_of_heap_and_stack_are_recognized);
	tcase_add_test(space, heap_may_grow_into_space_that_it_released);
	tcase_add_test(space, stack_grows_down_by_its_limit_and_at_least_128_mib);
	suite_add_tcase(suite, space);

	tcase_add_test(mapping, memory_is_mapped_at_the_given_address);
	tcase_add_test(mapping, existing_mappings_are_not_replaced);
	tcase_add_test(mapping, guard_gap_is_kept_below_a_mapping_that_grows_down);
	tcase_add_test(mapping, guard_gap_is_found);
	tcase_add_test(mapping, kernel_errors_are_classified);
	tcase_add_test(mapping, mapping_anywhere_reports_the_kernels_error);
	tcase_add_test(mapping, unmapping_reports_the_kernels_error);
	suite_add_tcase(suite, mapping);

	tcase_set_timeout(maps, 300);
	tcase_add_test(maps, scan_reads_every_line);
	tcase_add_test(maps, queries_and_probes_find_the_listed_mappings);
	tcase_add_test(maps, probe_finds_the_exact_start);
	tcase_add_test(maps, probe_finds_the_exact_end);
	tcase_add_test(maps, without_a_descriptor_mappings_are_probed);
	tcase_add_test(maps, list_is_closed_on_exec);
	tcase_add_test(maps, closed_list_cannot_be_read);
	tcase_add_test(maps, mappings_are_found_after_the_descriptor_was_closed);
	tcase_add_test(maps, mappings_are_read_after_the_main_thread_exited);
	suite_add_tcase(suite, maps);

	tcase_add_test(process, state_is_zero_at_first_and_in_a_child);
	tcase_add_test(process, writable_memory_is_recognized);
	tcase_add_test(process, try_read_works_where_a_filter_forbids_process_vm_readv);
	tcase_add_test(process, readable_memory_is_recognized);
	tcase_add_test(process, permissions_are_the_same_by_query_and_by_reading);
	tcase_add_loop_test(process, mappings_permit_what_their_kind_needs, 0, 2);
	tcase_add_test(process, impossible_addresses_are_not_writable);
	tcase_add_test(process, checking_for_writable_memory_changes_nothing);
	tcase_add_test(process, mapping_beyond_its_files_end_is_not_writable);
	tcase_add_test(process, test_program_is_nodelete);
	tcase_add_test(process, pid_namespace_is_that_of_proc);
	tcase_add_test(process, random_numbers_differ);
	tcase_add_test(process, backoff_returns);
	tcase_add_test(process, backoff_is_no_cancellation_point);
	tcase_add_test(process, clock_never_goes_back);
	tcase_add_test(process, wait_ends_by_the_clock);
	tcase_add_test(process, wait_has_some_attempts_however_late);
	tcase_add_test(process, wait_without_a_clock_ends);
	tcase_add_test(process, only_memory_without_code_is_named);
	suite_add_tcase(suite, process);
	return run_suite(suite);
}
