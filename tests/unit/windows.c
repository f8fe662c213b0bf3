/* SPDX-License-Identifier: MIT */
/* unit/windows: each function of platform.h on Windows */

#include "config.h"
#include "platform/platform.h"
#include "support/regions.h"
#include "support/support.h"
#include "platform/tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const DWORD protections[BUFFERS_KINDS] = {
	[BUFFERS_KIND_RWX] = PAGE_EXECUTE_READWRITE,
	[BUFFERS_KIND_RW] = PAGE_READWRITE,
	[BUFFERS_KIND_RX] = PAGE_EXECUTE_READ,
};

static bool is_zero(uintptr_t start, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (((const char *)start)[i])
			return false;
	return true;
}

static uintptr_t map_with_flags(size_t size, unsigned kind, enum buffers_map_flags flags)
{
	uintptr_t address = unused_address(size);

	ck_assert_int_eq(buffers_platform_map(address, size, kind, flags), 0);
	return address;
}

static uintptr_t map_unused(size_t size, unsigned kind)
{
	return map_with_flags(size, kind, BUFFERS_MAP_PLAIN);
}

static void unmap_whole(uintptr_t address, size_t size)
{
	ck_assert_int_eq(buffers_platform_unmap(address, size), 0);
	ck_assert(is_range_free(address, address + size));
}

static int write_rx(uintptr_t address, const void *bytes, size_t size)
{
	return buffers_platform_write(address, bytes, size, BUFFERS_WRITE_IN_USE);
}

/* Maps a view of a section that the test creates, not the library. */
static uintptr_t map_view(uintptr_t wish, size_t size, DWORD protection, DWORD access)
{
	HANDLE section = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL, protection, 0,
					    (DWORD)size, NULL);
	void *view = MapViewOfFileEx(section, access, 0, 0, size, (void *)wish);

	ck_assert_ptr_nonnull(view);
	CloseHandle(section);
	return (uintptr_t)view;
}

/*
 * Limits
 */

START_TEST(granularity_and_limits_are_those_of_windows)
{
	struct buffers_span all = { 0, UINTPTR_MAX };
	struct buffers_span usable = buffers_platform_usable(all);

	ck_assert_uint_eq(buffers_platform_granularity(), BLOCK);
	ck_assert_uint_eq(usable.start, lowest_address());
	ck_assert_uint_ge(usable.start, BLOCK);
	ck_assert_uint_eq(usable.end, limit_of_addresses());
	ck_assert_uint_eq(usable.end % BLOCK, 0);
}
END_TEST

START_TEST(usable_is_clipped_and_may_be_empty_or_inverted)
{
	uintptr_t limit = limit_of_addresses();
	struct buffers_span inner = { 0x100000, 0x200000 };
	struct buffers_span cut = buffers_platform_usable(inner);
	struct buffers_span beyond = { limit, UINTPTR_MAX };

	ck_assert(cut.start == inner.start && cut.end == inner.end);
	cut = buffers_platform_usable(beyond);
	ck_assert_uint_ge(cut.start, cut.end);
	cut = buffers_platform_usable((struct buffers_span){ 0, 4096 });
	ck_assert_uint_ge(cut.start, cut.end);
}
END_TEST

START_TEST(heap_and_stack_do_not_grow)
{
	struct buffers_span heap = buffers_platform_heap_growth();
	struct buffers_span stack = buffers_platform_stack_growth();

	ck_assert(heap.start >= heap.end && stack.start >= stack.end);
	ck_assert(!buffers_platform_may_grow_into((struct buffers_span){ 0, UINTPTR_MAX }));
}
END_TEST

/*
 * Mapping
 */

START_TEST(each_kind_of_memory_is_mapped_at_an_address)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t address = map_unused(3 * BLOCK, kind);

		ck_assert_uint_eq(region_at(address).allocation, address);
		ck_assert(is_committed_as(address, address + 3 * BLOCK, protections[kind]));
		ck_assert_uint_eq(end_of_allocation(address), address + 3 * BLOCK);
		ck_assert(is_zero(address, 3 * BLOCK));
		unmap_whole(address, 3 * BLOCK);
	}
}
END_TEST

START_TEST(each_kind_of_memory_is_mapped_anywhere)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t address = 0;

		ck_assert_int_eq(buffers_platform_map_anywhere(2 * BLOCK, kind, BUFFERS_MAP_PLAIN,
							       &address), 0);
		ck_assert_uint_eq(address % BLOCK, 0);
		ck_assert(is_committed_as(address, address + 2 * BLOCK, protections[kind]));
		ck_assert(is_zero(address, 2 * BLOCK));
		unmap_whole(address, 2 * BLOCK);
	}
}
END_TEST

/* Objects that occupy an address or a part of the range. */
static uintptr_t occupy_private(void)
{
	return (uintptr_t)commit_at(unused_address(BLOCK), BLOCK, PAGE_READWRITE);
}

static uintptr_t occupy_reserved(void)
{
	return (uintptr_t)reserve_at(unused_address(BLOCK), BLOCK);
}

static uintptr_t occupy_view(void)
{
	return map_view(0, BLOCK, PAGE_READWRITE, FILE_MAP_WRITE);
}

static uintptr_t occupy_image(void)
{
	return (uintptr_t)GetModuleHandleA(NULL);
}

static uintptr_t occupy_part(void)
{
	return (uintptr_t)commit_at(unused_address(BLOCK), PAGE, PAGE_READWRITE);
}

static uintptr_t occupy_next(void)
{
	uintptr_t address = unused_address(2 * BLOCK);

	reserve_at(address + BLOCK, PAGE);
	return address;
}

static const struct {
	const char *name;
	uintptr_t (*occupy)(void);
} occupied[] = {
	{ "private memory", occupy_private },
	{ "memory that is only reserved", occupy_reserved },
	{ "a view of a section", occupy_view },
	{ "an image", occupy_image },
	{ "a part of the first block", occupy_part },
	{ "a part of the second block", occupy_next },
};
enum { OCCUPIED = sizeof(occupied) / sizeof(occupied[0]) };

START_TEST(occupied_address_is_eexist_and_unchanged)
{
	for (unsigned i = 0; i < OCCUPIED * BUFFERS_KINDS; i++) {
		uintptr_t address = occupied[i / BUFFERS_KINDS].occupy();
		struct region first = region_at(address), second = region_at(address + BLOCK);

		ck_assert_msg(buffers_platform_map(address, 2 * BLOCK, i % BUFFERS_KINDS,
						   BUFFERS_MAP_PLAIN) == EEXIST,
			      "%s", occupied[i / BUFFERS_KINDS].name);
		ck_assert(is_same_region(region_at(address), first));
		ck_assert(is_same_region(region_at(address + BLOCK), second));
	}
}
END_TEST

/* Windows rounds the address down to a whole block. */
START_TEST(address_inside_a_block_is_eexist_and_maps_nothing)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t address = unused_address(4 * BLOCK);
		void *part = commit_at(address, PAGE, PAGE_READWRITE);

		ck_assert_int_eq(buffers_platform_map(address + PAGE, BLOCK, kind,
						      BUFFERS_MAP_PLAIN), EEXIST);
		ck_assert(is_range_free(address + PAGE, address + 2 * BLOCK));
		release_memory(part);
		ck_assert_int_eq(buffers_platform_map(address + PAGE, BLOCK, kind,
						      BUFFERS_MAP_PLAIN), EEXIST);
		ck_assert(is_range_free(address, address + 2 * BLOCK));
	}
}
END_TEST

START_TEST(lost_race_is_eexist_and_keeps_the_winners_memory)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t address = unused_address(BLOCK);
		struct buffers_maps maps;
		struct buffers_span span = { address, address + BLOCK }, mapping;
		char *winner;

		buffers_platform_maps_open(&maps);
		ck_assert_int_eq(buffers_platform_maps_find(&maps, span, &mapping), ENOENT);
		winner = commit_at(address, BLOCK, PAGE_READWRITE);
		memset(winner, 0x5a, BLOCK);
		ck_assert_int_eq(buffers_platform_map(address, BLOCK, kind, BUFFERS_MAP_PLAIN),
				 EEXIST);
		ck_assert_int_eq(winner[0], 0x5a);
		ck_assert_int_eq(winner[BLOCK - 1], 0x5a);
		ck_assert_int_eq(buffers_platform_maps_find(&maps, span, &mapping), 0);
		buffers_platform_maps_close(&maps);
	}
}
END_TEST

enum { RACERS = 8, RACES = 200 };

struct race {
	HANDLE start, end;
	uintptr_t address;
	unsigned kind;
	volatile LONG winners, others;
};

static DWORD WINAPI race(void *context)
{
	struct race *all = context;

	for (unsigned i = 0; i < RACES; i++) {
		int error;

		WaitForSingleObject(all->start, INFINITE);
		error = buffers_platform_map(all->address, BLOCK, all->kind, BUFFERS_MAP_PLAIN);
		if (error == 0)
			InterlockedIncrement(&all->winners);
		else if (error != EEXIST)
			InterlockedIncrement(&all->others);
		ReleaseSemaphore(all->end, 1, NULL);
	}
	return 0;
}

static void race_for_an_address(unsigned kind)
{
	struct race all = {
		.start = CreateSemaphoreA(NULL, 0, RACERS, NULL),
		.end = CreateSemaphoreA(NULL, 0, RACERS, NULL),
		.address = unused_address(BLOCK),
		.kind = kind,
	};
	HANDLE threads[RACERS];

	for (unsigned i = 0; i < RACERS; i++)
		threads[i] = CreateThread(NULL, 0, race, &all, 0, NULL);
	for (unsigned i = 0; i < RACES; i++) {
		all.winners = 0;
		ReleaseSemaphore(all.start, RACERS, NULL);
		for (unsigned j = 0; j < RACERS; j++)
			WaitForSingleObject(all.end, INFINITE);
		ck_assert_int_eq(all.winners, 1);
		ck_assert_int_eq(all.others, 0);
		unmap_whole(all.address, BLOCK);
	}
	WaitForMultipleObjects(RACERS, threads, TRUE, INFINITE);
}

START_TEST(one_of_many_threads_maps_an_address)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++)
		race_for_an_address(kind);
}
END_TEST

START_TEST(more_than_all_addresses_is_enomem)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t address = 1;

		ck_assert_int_eq(buffers_platform_map_anywhere(limit_of_addresses(), kind,
							       BUFFERS_MAP_PLAIN, &address),
				 ENOMEM);
		ck_assert_int_eq(buffers_platform_map_anywhere(UINTPTR_MAX - BLOCK + 1, kind,
							       BUFFERS_MAP_PLAIN, &address),
				 ENOMEM);
	}
}
END_TEST

START_TEST(more_than_all_memory_is_enomem_at_an_address_too)
{
	SKIP_IF(is_wine(), "Wine commits more memory than exists");
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		size_t size = (size_t)1 << (sizeof(void *) == 8 ? 46 : 31);
		uintptr_t address = sizeof(void *) == 8 ?
				    lowest_candidate(0, UINTPTR_MAX, size, BLOCK) : 0;
		void *possible;

		SKIP_IF(!address, "no gap is larger than memory");
		possible = VirtualAlloc((void *)address, size, MEM_RESERVE | MEM_COMMIT,
					PAGE_READWRITE);
		if (possible)
			release_memory(possible);
		SKIP_IF(possible, "this system commits 64 TiB");
		ck_assert_int_eq(buffers_platform_map(address, size, kind, BUFFERS_MAP_PLAIN),
				 ENOMEM);
		ck_assert(is_range_free(address, address + size));
	}
}
END_TEST

START_TEST(state_is_a_page_of_zeros)
{
	void *page = NULL;

	ck_assert_int_eq(buffers_platform_map_state(&page), 0);
	ck_assert(is_zero((uintptr_t)page, BLOCK));
	memset(page, 1, BLOCK);
}
END_TEST

/*
 * Sparse memory
 */

static int commit(uintptr_t address, size_t size, enum buffers_kind kind)
{
	return buffers_platform_commit(address, size, kind, BUFFERS_MAP_RESERVED);
}

START_TEST(sparse_memory_is_usable_once_committed)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t address = map_with_flags(4 * BLOCK, kind, BUFFERS_MAP_RESERVED);
		uintptr_t odd = address + BLOCK + 100;

		ck_assert_uint_eq(region_at(address).state, MEM_RESERVE);
		ck_assert_uint_eq(end_of_allocation(address), address + 4 * BLOCK);
		ck_assert_int_eq(commit(odd, 2 * PAGE, kind), 0);
		ck_assert(is_committed_as(address + BLOCK, address + BLOCK + 3 * PAGE,
					  protections[kind]));
		ck_assert_uint_eq(region_at(address + BLOCK - 1).state, MEM_RESERVE);
		ck_assert_uint_eq(region_at(address + BLOCK + 3 * PAGE).state, MEM_RESERVE);
		ck_assert(is_zero(address + BLOCK, 3 * PAGE));
		unmap_whole(address, 4 * BLOCK);
	}
}
END_TEST

START_TEST(committing_again_changes_nothing)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t address = map_with_flags(2 * BLOCK, kind, BUFFERS_MAP_RESERVED);

		ck_assert_int_eq(commit(address, PAGE, kind), 0);
		if (kind == BUFFERS_KIND_RX)
			ck_assert_int_eq(write_rx(address, "kept", 5), 0);
		else
			memcpy((void *)address, "kept", 5);
		ck_assert_int_eq(commit(address, 2 * PAGE, kind), 0);
		ck_assert_str_eq((const char *)address, "kept");
		ck_assert(is_committed_as(address, address + 2 * PAGE, protections[kind]));
		unmap_whole(address, 2 * BLOCK);
	}
}
END_TEST

START_TEST(reserving_64_gib_takes_no_memory)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		size_t size = sizeof(void *) == 8 ? GIB << (sizeof(void *) == 8 ? 6 : 0) : GIB / 2;
		uintptr_t address = 0;

		ck_assert_int_eq(buffers_platform_map_anywhere(size, kind, BUFFERS_MAP_RESERVED,
							       &address), 0);
		ck_assert_int_eq(commit(address + size - PAGE, PAGE, kind), 0);
		ck_assert(is_committed_as(address + size - PAGE, address + size,
					  protections[kind]));
		if (kind == BUFFERS_KIND_RX)
			ck_assert_int_eq(write_rx(address + size - 4, "end", 4), 0);
		unmap_whole(address, size);
	}
}
END_TEST

START_TEST(uncommitted_rx_memory_is_not_readable)
{
	uintptr_t address = map_with_flags(2 * BLOCK, BUFFERS_KIND_RX, BUFFERS_MAP_RESERVED);

	ck_assert_int_eq(commit(address, PAGE, BUFFERS_KIND_RX), 0);
	ck_assert(!buffers_platform_is_readable(address, PAGE + 1));
	ck_assert(buffers_platform_is_readable(address, PAGE));
	unmap_whole(address, 2 * BLOCK);
}
END_TEST

/*
 * Unmapping
 */

START_TEST(parts_are_not_unmapped)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t address = map_unused(4 * BLOCK, kind);

		ck_assert_int_eq(buffers_platform_unmap(address, BLOCK), EINVAL);
		ck_assert_int_eq(buffers_platform_unmap(address, 3 * BLOCK), EINVAL);
		ck_assert_int_eq(buffers_platform_unmap(address, 5 * BLOCK), EINVAL);
		ck_assert_int_eq(buffers_platform_unmap(address + BLOCK, 3 * BLOCK), EINVAL);
		ck_assert_int_eq(buffers_platform_unmap(address + BLOCK, BLOCK), EINVAL);
		ck_assert(is_committed_as(address, address + 4 * BLOCK, protections[kind]));
		unmap_whole(address, 4 * BLOCK);
	}
}
END_TEST

START_TEST(adjacent_mappings_are_not_unmapped_as_one)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t address = unused_address(2 * BLOCK);

		ck_assert_int_eq(buffers_platform_map(address, BLOCK, kind, BUFFERS_MAP_PLAIN), 0);
		ck_assert_int_eq(buffers_platform_map(address + BLOCK, BLOCK, kind,
						      BUFFERS_MAP_PLAIN), 0);
		ck_assert_int_eq(buffers_platform_unmap(address, 2 * BLOCK), EINVAL);
		unmap_whole(address, BLOCK);
		unmap_whole(address + BLOCK, BLOCK);
	}
}
END_TEST

START_TEST(unmapping_twice_is_einval)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t address = map_unused(BLOCK, kind);

		unmap_whole(address, BLOCK);
		ck_assert_int_eq(buffers_platform_unmap(address, BLOCK), EINVAL);
	}
}
END_TEST

START_TEST(views_of_other_sections_are_not_unmapped)
{
	static const DWORD accesses[] = {
		FILE_MAP_READ, FILE_MAP_WRITE, FILE_MAP_READ | FILE_MAP_EXECUTE,
	};

	for (unsigned i = 0; i < 3; i++) {
		uintptr_t view = map_view(0, BLOCK, PAGE_EXECUTE_READWRITE, accesses[i]);

		ck_assert_int_eq(buffers_platform_unmap(view, BLOCK), EINVAL);
		ck_assert_uint_eq(region_at(view).state, MEM_COMMIT);
	}
}
END_TEST

START_TEST(images_are_not_unmapped)
{
	uintptr_t image = (uintptr_t)GetModuleHandleA("kernel32.dll");

	ck_assert_int_eq(buffers_platform_unmap(image, BLOCK), EINVAL);
	ck_assert_int_eq(buffers_platform_unmap(image, end_of_allocation(image) - image), EINVAL);
	ck_assert_uint_eq(region_at(image).state, MEM_COMMIT);
}
END_TEST

START_TEST(heap_memory_is_not_unmapped)
{
	static const size_t sizes[] = { 100, 65536, 4 << 20 };

	for (unsigned i = 0; i < 3; i++) {
		char *memory = HeapAlloc(GetProcessHeap(), 0, sizes[i]);
		uintptr_t block = (uintptr_t)memory & ~(uintptr_t)(BLOCK - 1);

		ck_assert_ptr_nonnull(memory);
		memset(memory, 0x5a, sizes[i]);
		ck_assert_int_eq(buffers_platform_unmap((uintptr_t)memory, BLOCK), EINVAL);
		ck_assert_int_eq(buffers_platform_unmap(block, BLOCK), EINVAL);
		ck_assert_int_eq(memory[0], 0x5a);
		ck_assert(HeapFree(GetProcessHeap(), 0, memory));
	}
}
END_TEST

/*
 * Mappings
 */

static int find_mapping(uintptr_t start, uintptr_t end, struct buffers_span *mapping)
{
	struct buffers_maps maps;
	int error;

	buffers_platform_maps_open(&maps);
	error = buffers_platform_maps_find(&maps, (struct buffers_span){ start, end }, mapping);
	buffers_platform_maps_close(&maps);
	return error;
}

START_TEST(everything_that_occupies_an_address_is_found)
{
	for (unsigned i = 0; i < OCCUPIED; i++) {
		uintptr_t address = occupied[i].occupy();
		struct buffers_span mapping;

		ck_assert_msg(find_mapping(address, address + 2 * BLOCK, &mapping) == 0, "%s",
			      occupied[i].name);
		ck_assert_uint_lt(mapping.start, address + 2 * BLOCK);
		ck_assert_uint_gt(mapping.end, address);
		ck_assert_uint_eq(mapping.start % BLOCK, 0);
		ck_assert_uint_eq(mapping.end % BLOCK, 0);
	}
}
END_TEST

START_TEST(the_lowest_of_several_is_found)
{
	uintptr_t address = unused_address(16 * BLOCK);
	struct buffers_span mapping;

	ck_assert_int_eq(find_mapping(address, address + 16 * BLOCK, &mapping), ENOENT);
	reserve_at(address + 9 * BLOCK, BLOCK);
	commit_at(address + 4 * BLOCK, PAGE, PAGE_NOACCESS);
	ck_assert_int_eq(find_mapping(address, address + 16 * BLOCK, &mapping), 0);
	ck_assert_uint_eq(mapping.start, address + 4 * BLOCK);
	ck_assert_uint_eq(mapping.end, address + 5 * BLOCK);
	ck_assert_int_eq(find_mapping(address + 5 * BLOCK, address + 16 * BLOCK, &mapping), 0);
	ck_assert_uint_eq(mapping.start, address + 9 * BLOCK);
	ck_assert_int_eq(find_mapping(address + 10 * BLOCK, address + 16 * BLOCK, &mapping),
			 ENOENT);
	ck_assert_int_eq(find_mapping(address, address + 4 * BLOCK, &mapping), ENOENT);
}
END_TEST

START_TEST(the_last_block_is_searched)
{
	uintptr_t limit = limit_of_addresses();
	struct buffers_span mapping;
	int error = find_mapping(limit - BLOCK, limit, &mapping);

	ck_assert_int_eq(error, is_range_free(limit - BLOCK, limit) ? ENOENT : 0);
}
END_TEST

/*
 * Memory that may be inaccessible
 */

/* Two accessible pages, followed by one with this protection. */
struct border {
	const char *name;
	DWORD protection;	/* 0: only reserved */
	bool is_readable, is_writable;
};

static const struct border borders[] = {
	{ "reserved", 0, false, false },
	{ "PAGE_NOACCESS", PAGE_NOACCESS, false, false },
	{ "a guard page", PAGE_READWRITE | PAGE_GUARD, false, false },
	{ "a guard page to be read", PAGE_READONLY | PAGE_GUARD, false, false },
	{ "PAGE_EXECUTE", PAGE_EXECUTE, false, false },
	{ "PAGE_READONLY", PAGE_READONLY, true, false },
	{ "PAGE_EXECUTE_READ", PAGE_EXECUTE_READ, true, false },
	{ "PAGE_READWRITE", PAGE_READWRITE, true, true },
	{ "PAGE_EXECUTE_READWRITE", PAGE_EXECUTE_READWRITE, true, true },
};
enum { BORDERS = sizeof(borders) / sizeof(borders[0]) };

static uintptr_t make_border(const struct border *border)
{
	uintptr_t address = unused_address(BLOCK);

	reserve_at(address, BLOCK);
	ck_assert_ptr_nonnull(VirtualAlloc((void *)address, 2 * PAGE, MEM_COMMIT, PAGE_READWRITE));
	memset((void *)address, 0x5a, 2 * PAGE);
	if (border->protection)
		ck_assert_ptr_nonnull(VirtualAlloc((void *)(address + 2 * PAGE), PAGE, MEM_COMMIT,
						   border->protection));
	return address + 2 * PAGE;
}

START_TEST(try_read_fails_at_unreadable_memory)
{
	for (unsigned i = 0; i < BORDERS; i++) {
		const struct border *border = &borders[i];
		uintptr_t edge = make_border(border);
		struct region before = region_at(edge);
		unsigned char copy[64];

		ck_assert_int_eq(buffers_platform_try_read(edge - 64, copy, 64), 0);
		ck_assert_uint_eq(copy[0], 0x5a);
		ck_assert_uint_eq(copy[63], 0x5a);
		ck_assert_msg(buffers_platform_try_read(edge - 56, copy, 64) ==
			      (border->is_readable ? 0 : EFAULT), "%s", border->name);
		ck_assert_int_eq(buffers_platform_try_read(edge, copy, 64),
				 border->is_readable ? 0 : EFAULT);
		ck_assert_msg(is_same_region(region_at(edge), before), "%s", border->name);
	}
}
END_TEST

START_TEST(unreadable_memory_is_not_readable)
{
	for (unsigned i = 0; i < BORDERS; i++) {
		const struct border *border = &borders[i];
		uintptr_t edge = make_border(border);
		struct region before = region_at(edge);

		ck_assert(buffers_platform_is_readable(edge - 2 * PAGE, 2 * PAGE));
		ck_assert(buffers_platform_is_readable(edge - 3, 3));
		ck_assert_msg(buffers_platform_is_readable(edge - 3, 4) == border->is_readable,
			      "%s",
			      border->name);
		ck_assert(buffers_platform_is_readable(edge + PAGE - 1, 1) == border->is_readable);
		ck_assert(!buffers_platform_is_readable(edge - 2 * PAGE, BLOCK));
		ck_assert_msg(is_same_region(region_at(edge), before), "%s", border->name);
	}
}
END_TEST

START_TEST(unwritable_memory_is_not_writable)
{
	for (unsigned i = 0; i < BORDERS; i++) {
		const struct border *border = &borders[i];
		uintptr_t edge = make_border(border);
		struct region before = region_at(edge);

		ck_assert(buffers_platform_is_writable(edge - 2 * PAGE, 2 * PAGE));
		ck_assert(buffers_platform_is_writable(edge - 4, 4));
		ck_assert_msg(buffers_platform_is_writable(edge - 4, 8) == border->is_writable,
			      "%s",
			      border->name);
		ck_assert(buffers_platform_is_writable(edge + PAGE - 4, 4) == border->is_writable);
		ck_assert(!buffers_platform_is_writable(edge - 2 * PAGE, BLOCK));
		ck_assert_msg(is_same_region(region_at(edge), before), "%s", border->name);
	}
}
END_TEST

START_TEST(unmapped_memory_is_not_read)
{
	static const uintptr_t tops[] = { 0, 4096, UINTPTR_MAX - 63, UINTPTR_MAX - 7 };
	uintptr_t limit = limit_of_addresses();
	uintptr_t address = unused_address(BLOCK);
	char copy[64];

	for (unsigned i = 0; i < 4; i++) {
		ck_assert_int_eq(buffers_platform_try_read(tops[i], copy, 64), EFAULT);
		ck_assert(!buffers_platform_is_readable(tops[i], 64));
		ck_assert(!buffers_platform_is_writable(tops[i] & ~(uintptr_t)3, 64));
	}
	ck_assert_int_eq(buffers_platform_try_read(limit, copy, 64), EFAULT);
	ck_assert(!buffers_platform_is_readable(limit, 1));
	ck_assert_int_eq(buffers_platform_try_read(address, copy, 64), EFAULT);
	ck_assert(!buffers_platform_is_writable(address, 4));
}
END_TEST

START_TEST(guard_page_of_a_stack_still_grows_it)
{
	struct region stack = region_at((uintptr_t)__builtin_frame_address(0));
	struct region region;
	uintptr_t guard = 0;
	char copy[8];

	for (uintptr_t at = stack.allocation; at < stack.end; at = region.end) {
		region = region_at(at);
		if (region.protection & PAGE_GUARD)
			guard = region.start;
	}
	SKIP_IF(!guard, "this system's stacks have no guard page");
	ck_assert_int_eq(buffers_platform_try_read(guard, copy, 8), EFAULT);
	ck_assert(!buffers_platform_is_readable(guard, 8));
	ck_assert(!buffers_platform_is_writable(guard, 8));
	ck_assert_uint_ne(region_at(guard).protection & PAGE_GUARD, 0);
}
END_TEST

/*
 * Writing
 */

START_TEST(rx_memory_is_written_but_not_by_its_address)
{
	uintptr_t address = map_unused(BLOCK, BUFFERS_KIND_RX);

	ck_assert(!buffers_platform_is_writable(address, 4));
	ck_assert_int_eq(write_rx(address + 7, "bytes", 6), 0);
	ck_assert_str_eq((const char *)address + 7, "bytes");
	ck_assert(is_zero(address, 7) && is_zero(address + 13, BLOCK - 13));
	ck_assert(is_committed_as(address, address + BLOCK, PAGE_EXECUTE_READ));
	unmap_whole(address, BLOCK);
}
END_TEST

static const size_t lengths[] = { 1, 3, 4, 8, 100, 4096, 4097, 65536, 65537, 131072 };
enum { LENGTHS = sizeof(lengths) / sizeof(lengths[0]) };

static unsigned char *new_numbered_bytes(size_t size)
{
	unsigned char *bytes = malloc(size);

	ck_assert_ptr_nonnull(bytes);
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(i * 7 + i / 251 + 1);
	return bytes;
}

START_TEST(rx_memory_is_written_across_blocks)
{
	for (unsigned i = 0; i < LENGTHS; i++) {
		size_t size = lengths[i];
		unsigned char *bytes = new_numbered_bytes(size);
		uintptr_t address = map_unused(4 * BLOCK, BUFFERS_KIND_RX);
		uintptr_t start = address + BLOCK - size / 2 % BLOCK;

		ck_assert_int_eq(write_rx(start, bytes, size), 0);
		ck_assert_mem_eq((const void *)start, bytes, size);
		ck_assert(is_zero(address, start - address));
		ck_assert(is_zero(start + size, address + 4 * BLOCK - start - size));
		unmap_whole(address, 4 * BLOCK);
	}
}
END_TEST

START_TEST(rx_memory_is_written_at_its_end)
{
	for (unsigned i = 0; i < LENGTHS; i++) {
		size_t size = lengths[i];
		unsigned char *bytes = new_numbered_bytes(size);
		uintptr_t address = map_unused(4 * BLOCK, BUFFERS_KIND_RX);
		uintptr_t start = address + 4 * BLOCK - size;

		ck_assert_int_eq(write_rx(start, bytes, size), 0);
		ck_assert_mem_eq((const void *)start, bytes, size);
		ck_assert(is_zero(address, start - address));
		ck_assert_int_eq(write_rx(start + 1, bytes, size), EACCES);
		ck_assert_mem_eq((const void *)start, bytes, size);
		unmap_whole(address, 4 * BLOCK);
	}
}
END_TEST

/* As room that was given back; the source may be the same memory. */
START_TEST(rx_memory_of_two_sections_is_written)
{
	static const int shifts[] = { -5000, -1, 1, 5000 };
	size_t size = 20000;
	unsigned char *bytes = new_numbered_bytes(2 * BLOCK);
	uintptr_t address = map_unused(2 * BLOCK, BUFFERS_KIND_RX);
	uintptr_t start = address + BLOCK - size / 2;

	unmap_whole(address, 2 * BLOCK);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(buffers_platform_map(address + i * BLOCK, BLOCK, BUFFERS_KIND_RX,
						      BUFFERS_MAP_PLAIN), 0);
	for (unsigned i = 0; i < sizeof(shifts) / sizeof(shifts[0]); i++) {
		ck_assert_int_eq(write_rx(address, bytes, 2 * BLOCK), 0);
		ck_assert_mem_eq((const void *)address, bytes, 2 * BLOCK);
		ck_assert_int_eq(write_rx(start + (uintptr_t)shifts[i], (const void *)start, size),
				 0);
		ck_assert_mem_eq((const void *)(start + (uintptr_t)shifts[i]),
				 bytes + (start - address), size);
	}
	for (unsigned i = 0; i < 2; i++)
		unmap_whole(address + i * BLOCK, BLOCK);
}
END_TEST

/* Overlaps by a source that starts before and after the destination. */
START_TEST(source_may_overlap_rx_memory)
{
	static const int shifts[] = { -5000, -4096, -8, -4, -1, 0, 1, 4, 8, 4096, 5000 };
	size_t size = 20000;
	unsigned char *bytes = new_numbered_bytes(2 * BLOCK);
	uintptr_t address = map_unused(2 * BLOCK, BUFFERS_KIND_RX);
	uintptr_t from = address + BLOCK - 10000;

	for (unsigned i = 0; i < sizeof(shifts) / sizeof(shifts[0]); i++) {
		uintptr_t to = from + (uintptr_t)shifts[i];

		ck_assert_int_eq(write_rx(address, bytes, 2 * BLOCK), 0);
		ck_assert_int_eq(write_rx(to, (const void *)from, size), 0);
		ck_assert_mem_eq((const void *)to, bytes + (from - address), size);
	}
	unmap_whole(address, 2 * BLOCK);
}
END_TEST

struct words {
	uintptr_t address;
	size_t size;
	volatile LONG is_over, torn;
	volatile LONG is_reading;
};

static DWORD WINAPI read_words(void *context)
{
	struct words *words = context;
	uint64_t eight;
	uint32_t four;

	while (!words->is_over) {
		if (words->size == 8) {
			eight = __atomic_load_n((const uint64_t *)words->address, __ATOMIC_ACQUIRE);
			words->torn |= eight != 0 && eight != UINT64_MAX;
		} else {
			four = __atomic_load_n((const uint32_t *)words->address, __ATOMIC_ACQUIRE);
			words->torn |= four != 0 && four != UINT32_MAX;
		}
		words->is_reading = 1;
	}
	return 0;
}

/* On i386, C has no atomic 8-byte load, so only 4 bytes can be checked. */
START_TEST(four_and_eight_bytes_change_atomically)
{
	static const uint64_t values[] = { 0, UINT64_MAX };
	struct words words = { .address = map_unused(BLOCK, BUFFERS_KIND_RX), .size = (size_t)_i };
	HANDLE reader = CreateThread(NULL, 0, read_words, &words, 0, NULL);

	while (!words.is_reading)
		Sleep(0);
	for (unsigned i = 1; i < 20000; i++)
		ck_assert_int_eq(write_rx(words.address, &values[i % 2], words.size), 0);
	words.is_over = 1;
	WaitForSingleObject(reader, INFINITE);
	CloseHandle(reader);
	ck_assert_int_eq(words.torn, 0);
	unmap_whole(words.address, BLOCK);
}
END_TEST

START_TEST(writing_memory_of_others_is_eacces)
{
	uintptr_t private = (uintptr_t)commit_at(unused_address(BLOCK), BLOCK, PAGE_EXECUTE_READ);
	uintptr_t view = map_view(0, BLOCK, PAGE_EXECUTE_READWRITE,
				  FILE_MAP_READ | FILE_MAP_EXECUTE);
	uintptr_t image = (uintptr_t)GetModuleHandleA("kernel32.dll");
	uint32_t before = *(const uint32_t *)image;

	ck_assert_int_eq(write_rx(private, "bytes", 5), EACCES);
	ck_assert(is_zero(private, BLOCK));
	ck_assert_int_eq(write_rx(view, "bytes", 5), EACCES);
	ck_assert(is_zero(view, BLOCK));
	ck_assert_int_eq(write_rx(image, "bytes", 5), EACCES);
	ck_assert_uint_eq(*(const uint32_t *)image, before);
	ck_assert_int_eq(write_rx(unused_address(BLOCK), "bytes", 5), EACCES);
}
END_TEST

static void rx_section_name(char name[128], uintptr_t address)
{
	snprintf(name, 128, "Reloaded.Memory.Buffers.RX, PID %lu, %llx", GetCurrentProcessId(),
		 (unsigned long long)address);
}

static HANDLE make_section(const char *name, size_t size)
{
	HANDLE section = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL, PAGE_EXECUTE_READWRITE, 0,
					    (DWORD)size, name);

	ck_assert_ptr_nonnull(section);
	return section;
}

START_TEST(address_whose_section_name_exists_is_eexist)
{
	uintptr_t address = unused_address(BLOCK);
	char name[128];
	HANDLE section;

	rx_section_name(name, address);
	section = make_section(name, BLOCK);
	ck_assert_int_eq(buffers_platform_map(address, BLOCK, BUFFERS_KIND_RX, BUFFERS_MAP_PLAIN),
			 EEXIST);
	ck_assert(is_range_free(address, address + BLOCK));
	CloseHandle(section);
	ck_assert_int_eq(buffers_platform_map(address, BLOCK, BUFFERS_KIND_RX, BUFFERS_MAP_PLAIN),
			 0);
	unmap_whole(address, BLOCK);
}
END_TEST

START_TEST(writing_under_the_name_of_another_section_is_eacces)
{
	uintptr_t view = map_view(0, BLOCK, PAGE_EXECUTE_READWRITE,
				  FILE_MAP_READ | FILE_MAP_EXECUTE);
	char name[128];
	HANDLE section;

	rx_section_name(name, view);
	section = make_section(name, BLOCK);
	ck_assert_int_eq(write_rx(view, "bytes", 6), EACCES);
	ck_assert(is_zero(view, BLOCK));
	CloseHandle(section);
}
END_TEST

/*
 * Leaks
 */

static void use_memory(unsigned kind)
{
	uintptr_t address = map_unused(2 * BLOCK, kind), other;

	ck_assert_int_eq(buffers_platform_map(address, BLOCK, kind, BUFFERS_MAP_PLAIN), EEXIST);
	ck_assert_int_eq(buffers_platform_map_anywhere(BLOCK, kind, BUFFERS_MAP_RESERVED, &other),
			 0);
	ck_assert_int_eq(commit(other, PAGE, kind), 0);
	ck_assert_int_eq(buffers_platform_unmap(address, BLOCK), EINVAL);
	if (kind == BUFFERS_KIND_RX)
		ck_assert_int_eq(write_rx(address + BLOCK - 2, "over", 5), 0);
	ck_assert_int_eq(write_rx(address, "bytes", 3 * BLOCK), EACCES);
	unmap_whole(address, 2 * BLOCK);
	unmap_whole(other, BLOCK);
}

START_TEST(handles_and_views_are_not_leaked)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		unsigned handles;
		size_t views, private;

		use_memory(kind);
		handles = count_handles();
		views = count_allocations(MEM_MAPPED);
		private = count_allocations(MEM_PRIVATE);
		for (unsigned i = 0; i < 100; i++)
			use_memory(kind);
		ck_assert_uint_eq(count_handles(), handles);
		ck_assert_uint_eq(count_allocations(MEM_MAPPED), views);
		ck_assert_uint_eq(count_allocations(MEM_PRIVATE), private);
	}
}
END_TEST

START_TEST(rx_memory_takes_one_handle)
{
	uintptr_t address = map_unused(BLOCK, BUFFERS_KIND_RX);
	unsigned handles;

	/* The first named object of a process opens a handle of the object directory. */
	unmap_whole(address, BLOCK);
	handles = count_handles();
	address = map_unused(BLOCK, BUFFERS_KIND_RX);
	ck_assert_uint_eq(count_handles(), handles + 1);
	unmap_whole(address, BLOCK);
	ck_assert_uint_eq(count_handles(), handles);
}
END_TEST

/*
 * Rendezvous sections
 */

START_TEST(rendezvous_section_is_found_by_its_name)
{
	uint64_t start[10];
	struct buffers_rendezvous_dirs dirs;
	struct buffers_rendezvous_id id;
	uintptr_t address = 0;
	bool is_fresh;
	unsigned dir = (unsigned)_i;

	buffers_platform_rendezvous_open(&dirs);
	ck_assert_int_eq(buffers_platform_rendezvous_read(&dirs, dir, "of a test", start, 80, &id,
						      &is_fresh), ENOENT);
	ck_assert_int_eq(buffers_platform_rendezvous_map(&dirs, dir, "of a test", BLOCK,
							 BUFFERS_KIND_RWX,
						     &address), 0);
	ck_assert(is_committed_as(address, address + BLOCK, PAGE_EXECUTE_READWRITE));
	ck_assert(is_zero(address, BLOCK));
	*(uint64_t *)address = 0x1234567890;
	ck_assert_int_eq(buffers_platform_rendezvous_read(&dirs, dir, "of a test", start, 80, &id,
						      &is_fresh), 0);
	ck_assert_uint_eq(start[0], 0x1234567890);
	ck_assert_int_eq(buffers_platform_rendezvous_map(&dirs, dir, "of a test", BLOCK,
							 BUFFERS_KIND_RWX,
						     &address), EAGAIN);
	ck_assert_int_eq(buffers_platform_rendezvous_read(&dirs, !dir, "of a test", start, 80, &id,
						      &is_fresh), ENOENT);
	ck_assert_int_eq(buffers_platform_rendezvous_create(&dirs, dir, "of a test", start, 80,
							    NULL),
			 EACCES);
	buffers_platform_rendezvous_remove(&dirs, dir, "of a test", &id);
	buffers_platform_rendezvous_close(&dirs);
}
END_TEST

START_TEST(other_object_of_the_rendezvous_name_is_rejected)
{
	struct buffers_rendezvous_dirs dirs;
	struct buffers_rendezvous_id id;
	uint64_t start[10];
	uintptr_t address = 0;
	char name[128];
	bool is_fresh;
	HANDLE event;

	snprintf(name, sizeof(name), "/of a test, PID %lu", GetCurrentProcessId());
	event = CreateEventA(NULL, FALSE, FALSE, name);
	ck_assert_ptr_nonnull(event);
	buffers_platform_rendezvous_open(&dirs);
	ck_assert_int_eq(buffers_platform_rendezvous_read(&dirs, 0, "of a test", start, 80, &id,
						      &is_fresh), EACCES);
	ck_assert_int_eq(buffers_platform_rendezvous_map(&dirs, 0, "of a test", BLOCK,
							 BUFFERS_KIND_RWX,
						     &address), EACCES);
	buffers_platform_rendezvous_close(&dirs);
	CloseHandle(event);
}
END_TEST

/*
 * The process and its threads
 */

START_TEST(pid_and_properties_are_those_of_windows)
{
	ck_assert_uint_eq(buffers_platform_pid(), GetCurrentProcessId());
	ck_assert(!buffers_platform_has_robust_locks());
	ck_assert(!buffers_platform_is_nodelete());
}
END_TEST

static int compare_numbers(const void *one, const void *two)
{
	uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)two;

	return a < b ? -1 : a > b;
}

START_TEST(random_numbers_differ)
{
	enum { NUMBERS = 10000 };
	static uint64_t numbers[NUMBERS];
	uint64_t ones = 0, zeros = 0;

	for (unsigned i = 0; i < NUMBERS; i++) {
		numbers[i] = buffers_platform_random();
		ones |= numbers[i];
		zeros |= ~numbers[i];
	}
	qsort(numbers, NUMBERS, sizeof(numbers[0]), compare_numbers);
	for (unsigned i = 1; i < NUMBERS; i++)
		ck_assert_uint_ne(numbers[i], numbers[i - 1]);
	ck_assert_uint_eq(ones, UINT64_MAX);
	ck_assert_uint_eq(zeros, UINT64_MAX);
}
END_TEST

static int draw(void *context)
{
	*(uint64_t *)context = buffers_platform_random();
	return 0;
}

START_TEST(random_numbers_of_processes_differ)
{
	uint64_t one = 0, two = 0;

	run_in_new_process(draw, &one, sizeof(one));
	run_in_new_process(draw, &two, sizeof(two));
	ck_assert_uint_ne(one, two);
	ck_assert_uint_ne(one, buffers_platform_random());
}
END_TEST

static BUFFERS_TLS struct { uintptr_t words[4]; } thread_words;
static BUFFERS_TLS int thread_number;

enum { THREADS = 16 };
static HANDLE all_wrote;
static volatile LONG wrote, faults_seen;

static DWORD WINAPI use_thread_variables(void *context)
{
	uintptr_t number = (uintptr_t)context;

	for (unsigned i = 0; i < 4; i++)
		if (BUFFERS_TLS_ADDRESS(thread_words)->words[i] != 0)
			InterlockedIncrement(&faults_seen);
	if (*BUFFERS_TLS_ADDRESS(thread_number) != 0)
		InterlockedIncrement(&faults_seen);
	BUFFERS_TLS_ADDRESS(thread_words)->words[number % 4] = number;
	*BUFFERS_TLS_ADDRESS(thread_number) = (int)number;
	if (InterlockedIncrement(&wrote) == THREADS)
		SetEvent(all_wrote);
	WaitForSingleObject(all_wrote, INFINITE);
	if (BUFFERS_TLS_ADDRESS(thread_words)->words[number % 4] != number ||
	    *BUFFERS_TLS_ADDRESS(thread_number) != (int)number)
		InterlockedIncrement(&faults_seen);
	return 0;
}

START_TEST(thread_variables_are_zero_and_private_to_a_thread)
{
	HANDLE threads[THREADS];

	all_wrote = CreateEventA(NULL, TRUE, FALSE, NULL);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_uint_eq(BUFFERS_TLS_ADDRESS(thread_words)->words[i], 0);
	BUFFERS_TLS_ADDRESS(thread_words)->words[0] = 4711;
	for (uintptr_t i = 0; i < THREADS; i++)
		threads[i] = CreateThread(NULL, 0, use_thread_variables, (void *)(i + 1), 0, NULL);
	WaitForMultipleObjects(THREADS, threads, TRUE, INFINITE);
	ck_assert_int_eq(faults_seen, 0);
	ck_assert_uint_eq(BUFFERS_TLS_ADDRESS(thread_words)->words[0], 4711);
	ck_assert_int_eq(*BUFFERS_TLS_ADDRESS(thread_number), 0);
}
END_TEST

/*
 * Other processes
 */

static DWORD start_process(HANDLE *process)
{
	STARTUPINFOA start = { .cb = sizeof(start) };
	PROCESS_INFORMATION information;
	char program[MAX_PATH];

	GetModuleFileNameA(NULL, program, sizeof(program));
	ck_assert_msg(create_process(program, NULL, false, CREATE_SUSPENDED, &start, &information),
		      "error %lu", GetLastError());
	CloseHandle(information.hThread);
	*process = information.hProcess;
	return information.dwProcessId;
}

static void end_process(HANDLE process)
{
	TerminateProcess(process, 1);
	WaitForSingleObject(process, INFINITE);
}

START_TEST(memory_of_another_process_is_mapped_and_unmapped)
{
	struct buffers_span usable, mapping;
	struct buffers_maps maps;
	uintptr_t address;
	HANDLE process;
	DWORD number = start_process(&process);

	ck_assert_int_eq(buffers_platform_maps_open_in(number, &maps, &usable), 0);
	ck_assert_uint_eq(usable.end, limit_of_addresses());
	for (address = GIB; !is_range_free_in(process, address,
					      address + 2 * BLOCK); address += BLOCK)
		;
	ck_assert_int_eq(buffers_platform_maps_find(&maps, (struct buffers_span){ address, address +
						    2 * BLOCK }, &mapping), ENOENT);
	ck_assert_int_eq(buffers_platform_map_in(&maps, address, 2 * BLOCK, BUFFERS_KIND_RWX), 0);
	ck_assert_uint_eq(region_in(process, address).protection, PAGE_EXECUTE_READWRITE);
	ck_assert_int_eq(buffers_platform_map_in(&maps, address, 2 * BLOCK, BUFFERS_KIND_RWX),
			 EEXIST);
	ck_assert_int_eq(buffers_platform_maps_find(&maps, (struct buffers_span){ address, address +
						    2 * BLOCK }, &mapping), 0);
	ck_assert_int_eq(buffers_platform_unmap_in(&maps, address, BLOCK), EINVAL);
	ck_assert_int_eq(buffers_platform_unmap_in(&maps, address, 2 * BLOCK), 0);
	ck_assert_int_eq(buffers_platform_unmap_in(&maps, address, 2 * BLOCK), EINVAL);
	buffers_platform_maps_close(&maps);
	end_process(process);
}
END_TEST

START_TEST(process_that_ended_is_einval)
{
	struct buffers_span usable;
	struct buffers_maps maps;
	HANDLE process;
	DWORD number = start_process(&process);

	ck_assert_int_eq(buffers_platform_maps_open_in(number, &maps, &usable), 0);
	ck_assert_int_eq(buffers_platform_map_in(&maps, GIB, BLOCK, BUFFERS_KIND_RWX), 0);
	end_process(process);
	ck_assert_int_eq(buffers_platform_map_in(&maps, GIB + BLOCK, BLOCK, BUFFERS_KIND_RWX),
			 EINVAL);
	ck_assert_int_eq(buffers_platform_unmap_in(&maps, GIB, BLOCK), EINVAL);
	buffers_platform_maps_close(&maps);
	ck_assert_int_eq(buffers_platform_maps_open_in(number, &maps, &usable), EINVAL);
	CloseHandle(process);
}
END_TEST

/*
 * Tasks
 */

static DWORD WINAPI report_task(void *task)
{
	*(uint32_t *)task = buffers_platform_task();
	return 0;
}

/* An open handle keeps the number of the thread. */
START_TEST(task_is_found_until_it_ends)
{
	uint32_t task = 0;
	HANDLE thread = CreateThread(NULL, 0, report_task, &task, CREATE_SUSPENDED, NULL);
	uint32_t number = GetThreadId(thread) + 1;

	ck_assert_int_eq(buffers_platform_find_task(buffers_platform_task()), 0);
	ck_assert_int_eq(buffers_platform_find_task(number), 0);
	ResumeThread(thread);
	WaitForSingleObject(thread, INFINITE);
	ck_assert_uint_eq(task, number);
	ck_assert_int_eq(buffers_platform_find_task(number), ESRCH);
	CloseHandle(thread);
	ck_assert_int_eq(buffers_platform_find_task(1), ENOSYS);
}
END_TEST

static void add_all(Suite *suite)
{
	TCase *limits = tcase_create("limits");
	TCase *mapping = tcase_create("mapping");
	TCase *memory = tcase_create("memory");
	TCase *writing = tcase_create("writing");
	TCase *process = tcase_create("process");

	tcase_add_test(limits, granularity_and_limits_are_those_of_windows);
	tcase_add_test(limits, usable_is_clipped_and_may_be_empty_or_inverted);
	tcase_add_test(limits, heap_and_stack_do_not_grow);
	tcase_add_test(mapping, each_kind_of_memory_is_mapped_at_an_address);
	tcase_add_test(mapping, each_kind_of_memory_is_mapped_anywhere);
	tcase_add_test(mapping, occupied_address_is_eexist_and_unchanged);
	tcase_add_test(mapping, address_inside_a_block_is_eexist_and_maps_nothing);
	tcase_add_test(mapping, lost_race_is_eexist_and_keeps_the_winners_memory);
	tcase_add_test(mapping, one_of_many_threads_maps_an_address);
	tcase_add_test(mapping, more_than_all_addresses_is_enomem);
	tcase_add_test(mapping, more_than_all_memory_is_enomem_at_an_address_too);
	tcase_add_test(mapping, state_is_a_page_of_zeros);
	tcase_add_test(mapping, sparse_memory_is_usable_once_committed);
	tcase_add_test(mapping, committing_again_changes_nothing);
	tcase_add_test(mapping, reserving_64_gib_takes_no_memory);
	tcase_add_test(mapping, uncommitted_rx_memory_is_not_readable);
	tcase_add_test(mapping, parts_are_not_unmapped);
	tcase_add_test(mapping, adjacent_mappings_are_not_unmapped_as_one);
	tcase_add_test(mapping, unmapping_twice_is_einval);
	tcase_add_test(mapping, views_of_other_sections_are_not_unmapped);
	tcase_add_test(mapping, images_are_not_unmapped);
	tcase_add_test(mapping, heap_memory_is_not_unmapped);
	tcase_add_test(memory, everything_that_occupies_an_address_is_found);
	tcase_add_test(memory, the_lowest_of_several_is_found);
	tcase_add_test(memory, the_last_block_is_searched);
	tcase_add_test(memory, try_read_fails_at_unreadable_memory);
	tcase_add_test(memory, unreadable_memory_is_not_readable);
	tcase_add_test(memory, unwritable_memory_is_not_writable);
	tcase_add_test(memory, unmapped_memory_is_not_read);
	tcase_add_test(memory, guard_page_of_a_stack_still_grows_it);
	tcase_add_test(writing, rx_memory_is_written_but_not_by_its_address);
	tcase_add_test(writing, rx_memory_is_written_across_blocks);
	tcase_add_test(writing, rx_memory_is_written_at_its_end);
	tcase_add_test(writing, rx_memory_of_two_sections_is_written);
	tcase_add_test(writing, source_may_overlap_rx_memory);
	tcase_add_loop_test(writing, four_and_eight_bytes_change_atomically, 4, 5);
	if (sizeof(void *) == 8)
		tcase_add_loop_test(writing, four_and_eight_bytes_change_atomically, 8, 9);
	tcase_add_test(writing, writing_memory_of_others_is_eacces);
	tcase_add_test(writing, address_whose_section_name_exists_is_eexist);
	tcase_add_test(writing, writing_under_the_name_of_another_section_is_eacces);
	tcase_add_test(writing, handles_and_views_are_not_leaked);
	tcase_add_test(writing, rx_memory_takes_one_handle);
	tcase_add_loop_test(process, rendezvous_section_is_found_by_its_name, 0, 2);
	tcase_add_test(process, other_object_of_the_rendezvous_name_is_rejected);
	tcase_add_test(process, pid_and_properties_are_those_of_windows);
	tcase_add_test(process, task_is_found_until_it_ends);
	tcase_add_test(process, random_numbers_differ);
	tcase_add_test(process, random_numbers_of_processes_differ);
	tcase_add_test(process, thread_variables_are_zero_and_private_to_a_thread);
	tcase_add_test(process, memory_of_another_process_is_mapped_and_unmapped);
	tcase_add_test(process, process_that_ended_is_einval);
	suite_add_tcase(suite, limits);
	suite_add_tcase(suite, mapping);
	suite_add_tcase(suite, memory);
	suite_add_tcase(suite, writing);
	suite_add_tcase(suite, process);
}

int main(void)
{
	Suite *suite = suite_create("unit/windows");

	add_all(suite);
	return run_suite(suite);
}
