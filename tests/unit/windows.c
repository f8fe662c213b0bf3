/* SPDX-License-Identifier: MIT */
/* unit-windows.c: the primitives on Windows, one by one, as platform.h words them */

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

static uintptr_t map(size_t size, unsigned kind)
{
	uintptr_t place = unused_address(size);

	ck_assert_int_eq(buffers_platform_map(place, size, kind), 0);
	return place;
}

static void unmap(uintptr_t address, size_t size)
{
	ck_assert_int_eq(buffers_platform_unmap(address, size), 0);
	ck_assert(is_range_free(address, address + size));
}

static int write_there(uintptr_t address, const void *bytes, size_t size)
{
	return buffers_platform_write(address, bytes, size, BUFFERS_WRITE_IN_USE);
}

/* A view of a section of our own, which is not the library's. */
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

START_TEST(granularity_and_limits_are_the_system_s)
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

START_TEST(usable_is_cut_and_may_be_empty_or_inverted)
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

START_TEST(nothing_grows)
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

START_TEST(memory_is_mapped_at_that_address_as_its_kind)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t place = map(3 * BLOCK, kind);

		ck_assert_uint_eq(region_at(place).allocation, place);
		ck_assert(is_committed_as(place, place + 3 * BLOCK, protections[kind]));
		ck_assert_uint_eq(end_of_allocation(place), place + 3 * BLOCK);
		ck_assert(is_zero(place, 3 * BLOCK));
		unmap(place, 3 * BLOCK);
	}
}
END_TEST

START_TEST(memory_is_mapped_anywhere_as_its_kind)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t place = 0;

		ck_assert_int_eq(buffers_platform_map_anywhere(2 * BLOCK, kind, &place), 0);
		ck_assert_uint_eq(place % BLOCK, 0);
		ck_assert(is_committed_as(place, place + 2 * BLOCK, protections[kind]));
		ck_assert(is_zero(place, 2 * BLOCK));
		unmap(place, 2 * BLOCK);
	}
}
END_TEST

/* What may be at an address, or in a part of it. */
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
	uintptr_t place = unused_address(2 * BLOCK);

	reserve_at(place + BLOCK, PAGE);
	return place;
}

static const struct {
	const char *what;
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

START_TEST(occupied_place_is_eexist_and_stays_as_it_is)
{
	for (unsigned i = 0; i < OCCUPIED * BUFFERS_KINDS; i++) {
		uintptr_t place = occupied[i / BUFFERS_KINDS].occupy();
		struct region first = region_at(place), second = region_at(place + BLOCK);

		ck_assert_msg(buffers_platform_map(place, 2 * BLOCK, i % BUFFERS_KINDS) == EEXIST,
			      "%s", occupied[i / BUFFERS_KINDS].what);
		ck_assert(is_same_region(region_at(place), first));
		ck_assert(is_same_region(region_at(place + BLOCK), second));
	}
}
END_TEST

/* The system takes what is asked for within a block for the block. */
START_TEST(place_inside_of_a_block_is_eexist_and_leaves_nothing)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t place = unused_address(4 * BLOCK);
		void *part = commit_at(place, PAGE, PAGE_READWRITE);

		ck_assert_int_eq(buffers_platform_map(place + PAGE, BLOCK, kind), EEXIST);
		ck_assert(is_range_free(place + PAGE, place + 2 * BLOCK));
		release_memory(part);
		ck_assert_int_eq(buffers_platform_map(place + PAGE, BLOCK, kind), EEXIST);
		ck_assert(is_range_free(place, place + 2 * BLOCK));
	}
}
END_TEST

START_TEST(lost_race_is_eexist_and_leaves_the_winner_alone)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t place = unused_address(BLOCK);
		struct buffers_maps maps;
		struct buffers_span span = { place, place + BLOCK }, mapping;
		char *winner;

		buffers_platform_maps_open(&maps);
		ck_assert_int_eq(buffers_platform_maps_find(&maps, span, &mapping), ENOENT);
		winner = commit_at(place, BLOCK, PAGE_READWRITE);
		memset(winner, 0x5a, BLOCK);
		ck_assert_int_eq(buffers_platform_map(place, BLOCK, kind), EEXIST);
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
	uintptr_t place;
	unsigned kind;
	volatile LONG winners, others;
};

static DWORD WINAPI race(void *context)
{
	struct race *all = context;

	for (unsigned i = 0; i < RACES; i++) {
		int error;

		WaitForSingleObject(all->start, INFINITE);
		error = buffers_platform_map(all->place, BLOCK, all->kind);
		if (error == 0)
			InterlockedIncrement(&all->winners);
		else if (error != EEXIST)
			InterlockedIncrement(&all->others);
		ReleaseSemaphore(all->end, 1, NULL);
	}
	return 0;
}

static void race_for_a_place(unsigned kind)
{
	struct race all = {
		.start = CreateSemaphoreA(NULL, 0, RACERS, NULL),
		.end = CreateSemaphoreA(NULL, 0, RACERS, NULL),
		.place = unused_address(BLOCK),
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
		unmap(all.place, BLOCK);
	}
	WaitForMultipleObjects(RACERS, threads, TRUE, INFINITE);
}

START_TEST(one_of_many_threads_gets_a_place)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++)
		race_for_a_place(kind);
}
END_TEST

START_TEST(more_than_all_addresses_is_enomem)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t place = 1;

		ck_assert_int_eq(buffers_platform_map_anywhere(limit_of_addresses(), kind, &place), ENOMEM);
		ck_assert_int_eq(buffers_platform_map_anywhere(UINTPTR_MAX - BLOCK + 1, kind, &place),
				 ENOMEM);
	}
}
END_TEST

START_TEST(more_than_all_memory_is_enomem_at_an_address_too)
{
	SKIP_IF(is_wine(), "Wine commits what there is not");
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		size_t size = (size_t)1 << (sizeof(void *) == 8 ? 46 : 31);
		uintptr_t place = sizeof(void *) == 8 ? lowest_candidate(0, UINTPTR_MAX, size, BLOCK) : 0;
		void *possible;

		SKIP_IF(!place, "no gap is larger than memory");
		possible = VirtualAlloc((void *)place, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
		if (possible)
			release_memory(possible);
		SKIP_IF(possible, "this system commits 64 TiB");
		ck_assert_int_eq(buffers_platform_map(place, size, kind), ENOMEM);
		ck_assert(is_range_free(place, place + size));
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

START_TEST(sparse_memory_is_there_once_committed)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t place = map(4 * BLOCK, kind | BUFFERS_MAP_RESERVED);
		uintptr_t odd = place + BLOCK + 100;

		ck_assert_uint_eq(region_at(place).state, MEM_RESERVE);
		ck_assert_uint_eq(end_of_allocation(place), place + 4 * BLOCK);
		ck_assert_int_eq(buffers_platform_commit(odd, 2 * PAGE, kind | BUFFERS_MAP_RESERVED), 0);
		ck_assert(is_committed_as(place + BLOCK, place + BLOCK + 3 * PAGE, protections[kind]));
		ck_assert_uint_eq(region_at(place + BLOCK - 1).state, MEM_RESERVE);
		ck_assert_uint_eq(region_at(place + BLOCK + 3 * PAGE).state, MEM_RESERVE);
		ck_assert(is_zero(place + BLOCK, 3 * PAGE));
		unmap(place, 4 * BLOCK);
	}
}
END_TEST

START_TEST(committing_again_changes_nothing)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t place = map(2 * BLOCK, kind | BUFFERS_MAP_RESERVED);

		ck_assert_int_eq(buffers_platform_commit(place, PAGE, kind | BUFFERS_MAP_RESERVED), 0);
		if (kind == BUFFERS_KIND_RX)
			ck_assert_int_eq(write_there(place, "kept", 5), 0);
		else
			memcpy((void *)place, "kept", 5);
		ck_assert_int_eq(buffers_platform_commit(place, 2 * PAGE, kind | BUFFERS_MAP_RESERVED), 0);
		ck_assert_str_eq((const char *)place, "kept");
		ck_assert(is_committed_as(place, place + 2 * PAGE, protections[kind]));
		unmap(place, 2 * BLOCK);
	}
}
END_TEST

START_TEST(sparse_memory_of_64_gib_takes_none)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		size_t size = sizeof(void *) == 8 ? GIB << (sizeof(void *) == 8 ? 6 : 0) : GIB / 2;
		uintptr_t place = 0;

		ck_assert_int_eq(buffers_platform_map_anywhere(size, kind | BUFFERS_MAP_RESERVED, &place), 0);
		ck_assert_int_eq(buffers_platform_commit(place + size - PAGE, PAGE, kind | BUFFERS_MAP_RESERVED), 0);
		ck_assert(is_committed_as(place + size - PAGE, place + size, protections[kind]));
		if (kind == BUFFERS_KIND_RX)
			ck_assert_int_eq(write_there(place + size - 4, "end", 4), 0);
		unmap(place, size);
	}
}
END_TEST

START_TEST(sparse_text_that_is_not_there_is_not_written)
{
	uintptr_t place = map(2 * BLOCK, BUFFERS_KIND_RX | BUFFERS_MAP_RESERVED);

	ck_assert_int_eq(buffers_platform_commit(place, PAGE, BUFFERS_KIND_RX | BUFFERS_MAP_RESERVED), 0);
	ck_assert(!buffers_platform_is_readable(place, PAGE + 1));
	ck_assert(buffers_platform_is_readable(place, PAGE));
	unmap(place, 2 * BLOCK);
}
END_TEST

/*
 * Unmapping
 */

START_TEST(parts_are_not_unmapped)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t place = map(4 * BLOCK, kind);

		ck_assert_int_eq(buffers_platform_unmap(place, BLOCK), EINVAL);
		ck_assert_int_eq(buffers_platform_unmap(place, 3 * BLOCK), EINVAL);
		ck_assert_int_eq(buffers_platform_unmap(place, 5 * BLOCK), EINVAL);
		ck_assert_int_eq(buffers_platform_unmap(place + BLOCK, 3 * BLOCK), EINVAL);
		ck_assert_int_eq(buffers_platform_unmap(place + BLOCK, BLOCK), EINVAL);
		ck_assert(is_committed_as(place, place + 4 * BLOCK, protections[kind]));
		unmap(place, 4 * BLOCK);
	}
}
END_TEST

START_TEST(two_that_touch_are_not_unmapped_as_one)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t place = unused_address(2 * BLOCK);

		ck_assert_int_eq(buffers_platform_map(place, BLOCK, kind), 0);
		ck_assert_int_eq(buffers_platform_map(place + BLOCK, BLOCK, kind), 0);
		ck_assert_int_eq(buffers_platform_unmap(place, 2 * BLOCK), EINVAL);
		unmap(place, BLOCK);
		unmap(place + BLOCK, BLOCK);
	}
}
END_TEST

START_TEST(what_is_unmapped_already_is_einval)
{
	for (unsigned kind = 0; kind < BUFFERS_KINDS; kind++) {
		uintptr_t place = map(BLOCK, kind);

		unmap(place, BLOCK);
		ck_assert_int_eq(buffers_platform_unmap(place, BLOCK), EINVAL);
	}
}
END_TEST

START_TEST(others_views_are_not_unmapped)
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

static int find(uintptr_t start, uintptr_t end, struct buffers_span *mapping)
{
	struct buffers_maps maps;
	int error;

	buffers_platform_maps_open(&maps);
	error = buffers_platform_maps_find(&maps, (struct buffers_span){ start, end }, mapping);
	buffers_platform_maps_close(&maps);
	return error;
}

START_TEST(all_that_occupies_a_place_is_found)
{
	for (unsigned i = 0; i < OCCUPIED; i++) {
		uintptr_t place = occupied[i].occupy();
		struct buffers_span mapping;

		ck_assert_msg(find(place, place + 2 * BLOCK, &mapping) == 0, "%s", occupied[i].what);
		ck_assert_uint_lt(mapping.start, place + 2 * BLOCK);
		ck_assert_uint_gt(mapping.end, place);
		ck_assert_uint_eq(mapping.start % BLOCK, 0);
		ck_assert_uint_eq(mapping.end % BLOCK, 0);
	}
}
END_TEST

START_TEST(the_lowest_of_several_is_found)
{
	uintptr_t place = unused_address(16 * BLOCK);
	struct buffers_span mapping;

	ck_assert_int_eq(find(place, place + 16 * BLOCK, &mapping), ENOENT);
	reserve_at(place + 9 * BLOCK, BLOCK);
	commit_at(place + 4 * BLOCK, PAGE, PAGE_NOACCESS);
	ck_assert_int_eq(find(place, place + 16 * BLOCK, &mapping), 0);
	ck_assert_uint_eq(mapping.start, place + 4 * BLOCK);
	ck_assert_uint_eq(mapping.end, place + 5 * BLOCK);
	ck_assert_int_eq(find(place + 5 * BLOCK, place + 16 * BLOCK, &mapping), 0);
	ck_assert_uint_eq(mapping.start, place + 9 * BLOCK);
	ck_assert_int_eq(find(place + 10 * BLOCK, place + 16 * BLOCK, &mapping), ENOENT);
	ck_assert_int_eq(find(place, place + 4 * BLOCK, &mapping), ENOENT);
}
END_TEST

START_TEST(the_last_block_is_asked_about)
{
	uintptr_t limit = limit_of_addresses();
	struct buffers_span mapping;
	int error = find(limit - BLOCK, limit, &mapping);

	ck_assert_int_eq(error, is_range_free(limit - BLOCK, limit) ? ENOENT : 0);
}
END_TEST

/*
 * Memory that may not be there
 */

/* Two pages that can be used, and a third which cannot, or not in some way. */
struct border {
	const char *what;
	DWORD protection;	/* 0: it is only reserved */
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
	uintptr_t place = unused_address(BLOCK);

	reserve_at(place, BLOCK);
	ck_assert_ptr_nonnull(VirtualAlloc((void *)place, 2 * PAGE, MEM_COMMIT, PAGE_READWRITE));
	memset((void *)place, 0x5a, 2 * PAGE);
	if (border->protection)
		ck_assert_ptr_nonnull(VirtualAlloc((void *)(place + 2 * PAGE), PAGE, MEM_COMMIT,
						   border->protection));
	return place + 2 * PAGE;
}

START_TEST(memory_is_read_up_to_what_cannot_be)
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
			      (border->is_readable ? 0 : EFAULT), "%s", border->what);
		ck_assert_int_eq(buffers_platform_try_read(edge, copy, 64), border->is_readable ? 0 : EFAULT);
		ck_assert_msg(is_same_region(region_at(edge), before), "%s", border->what);
	}
}
END_TEST

START_TEST(memory_is_readable_up_to_what_is_not)
{
	for (unsigned i = 0; i < BORDERS; i++) {
		const struct border *border = &borders[i];
		uintptr_t edge = make_border(border);
		struct region before = region_at(edge);

		ck_assert(buffers_platform_is_readable(edge - 2 * PAGE, 2 * PAGE));
		ck_assert(buffers_platform_is_readable(edge - 3, 3));
		ck_assert_msg(buffers_platform_is_readable(edge - 3, 4) == border->is_readable, "%s",
			      border->what);
		ck_assert(buffers_platform_is_readable(edge + PAGE - 1, 1) == border->is_readable);
		ck_assert(!buffers_platform_is_readable(edge - 2 * PAGE, BLOCK));
		ck_assert_msg(is_same_region(region_at(edge), before), "%s", border->what);
	}
}
END_TEST

START_TEST(memory_is_writable_up_to_what_is_not)
{
	for (unsigned i = 0; i < BORDERS; i++) {
		const struct border *border = &borders[i];
		uintptr_t edge = make_border(border);
		struct region before = region_at(edge);

		ck_assert(buffers_platform_is_writable(edge - 2 * PAGE, 2 * PAGE));
		ck_assert(buffers_platform_is_writable(edge - 4, 4));
		ck_assert_msg(buffers_platform_is_writable(edge - 4, 8) == border->is_writable, "%s",
			      border->what);
		ck_assert(buffers_platform_is_writable(edge + PAGE - 4, 4) == border->is_writable);
		ck_assert(!buffers_platform_is_writable(edge - 2 * PAGE, BLOCK));
		ck_assert_msg(is_same_region(region_at(edge), before), "%s", border->what);
	}
}
END_TEST

START_TEST(nothing_is_read_where_nothing_is)
{
	static const uintptr_t tops[] = { 0, 4096, UINTPTR_MAX - 63, UINTPTR_MAX - 7 };
	uintptr_t limit = limit_of_addresses();
	uintptr_t place = unused_address(BLOCK);
	char copy[64];

	for (unsigned i = 0; i < 4; i++) {
		ck_assert_int_eq(buffers_platform_try_read(tops[i], copy, 64), EFAULT);
		ck_assert(!buffers_platform_is_readable(tops[i], 64));
		ck_assert(!buffers_platform_is_writable(tops[i] & ~(uintptr_t)3, 64));
	}
	ck_assert_int_eq(buffers_platform_try_read(limit, copy, 64), EFAULT);
	ck_assert(!buffers_platform_is_readable(limit, 1));
	ck_assert_int_eq(buffers_platform_try_read(place, copy, 64), EFAULT);
	ck_assert(!buffers_platform_is_writable(place, 4));
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

START_TEST(text_is_written_and_not_by_its_address)
{
	uintptr_t place = map(BLOCK, BUFFERS_KIND_RX);

	ck_assert(!buffers_platform_is_writable(place, 4));
	ck_assert_int_eq(write_there(place + 7, "bytes", 6), 0);
	ck_assert_str_eq((const char *)place + 7, "bytes");
	ck_assert(is_zero(place, 7) && is_zero(place + 13, BLOCK - 13));
	ck_assert(is_committed_as(place, place + BLOCK, PAGE_EXECUTE_READ));
	unmap(place, BLOCK);
}
END_TEST

static const size_t lengths[] = { 1, 3, 4, 8, 100, 4096, 4097, 65536, 65537, 131072 };
enum { LENGTHS = sizeof(lengths) / sizeof(lengths[0]) };

static unsigned char *numbered(size_t size)
{
	unsigned char *bytes = malloc(size);

	ck_assert_ptr_nonnull(bytes);
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(i * 7 + i / 251 + 1);
	return bytes;
}

START_TEST(text_is_written_across_blocks)
{
	for (unsigned i = 0; i < LENGTHS; i++) {
		size_t size = lengths[i];
		unsigned char *bytes = numbered(size);
		uintptr_t place = map(4 * BLOCK, BUFFERS_KIND_RX);
		uintptr_t start = place + BLOCK - size / 2 % BLOCK;

		ck_assert_int_eq(write_there(start, bytes, size), 0);
		ck_assert_mem_eq((const void *)start, bytes, size);
		ck_assert(is_zero(place, start - place));
		ck_assert(is_zero(start + size, place + 4 * BLOCK - start - size));
		unmap(place, 4 * BLOCK);
	}
}
END_TEST

START_TEST(text_is_written_at_its_very_end)
{
	for (unsigned i = 0; i < LENGTHS; i++) {
		size_t size = lengths[i];
		unsigned char *bytes = numbered(size);
		uintptr_t place = map(4 * BLOCK, BUFFERS_KIND_RX);
		uintptr_t start = place + 4 * BLOCK - size;

		ck_assert_int_eq(write_there(start, bytes, size), 0);
		ck_assert_mem_eq((const void *)start, bytes, size);
		ck_assert(is_zero(place, start - place));
		ck_assert_int_eq(write_there(start + 1, bytes, size), EACCES);
		ck_assert_mem_eq((const void *)start, bytes, size);
		unmap(place, 4 * BLOCK);
	}
}
END_TEST

/* From before the place into it, and from behind it. */
START_TEST(bytes_may_overlap_the_text)
{
	static const int shifts[] = { -5000, -4096, -8, -4, -1, 0, 1, 4, 8, 4096, 5000 };
	size_t size = 20000;
	unsigned char *bytes = numbered(2 * BLOCK);
	uintptr_t place = map(2 * BLOCK, BUFFERS_KIND_RX);
	uintptr_t from = place + BLOCK - 10000;

	for (unsigned i = 0; i < sizeof(shifts) / sizeof(shifts[0]); i++) {
		uintptr_t to = from + (uintptr_t)shifts[i];

		ck_assert_int_eq(write_there(place, bytes, 2 * BLOCK), 0);
		ck_assert_int_eq(write_there(to, (const void *)from, size), 0);
		ck_assert_mem_eq((const void *)to, bytes + (from - place), size);
	}
	unmap(place, 2 * BLOCK);
}
END_TEST

struct words {
	uintptr_t place;
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
			eight = __atomic_load_n((const uint64_t *)words->place, __ATOMIC_ACQUIRE);
			words->torn |= eight != 0 && eight != UINT64_MAX;
		} else {
			four = __atomic_load_n((const uint32_t *)words->place, __ATOMIC_ACQUIRE);
			words->torn |= four != 0 && four != UINT32_MAX;
		}
		words->is_reading = 1;
	}
	return 0;
}

/* Of 8 bytes, i386 reads both halves at once only by other instructions than C's. */
START_TEST(four_and_eight_bytes_change_as_a_whole)
{
	static const uint64_t values[] = { 0, UINT64_MAX };
	struct words words = { .place = map(BLOCK, BUFFERS_KIND_RX), .size = (size_t)_i };
	HANDLE reader = CreateThread(NULL, 0, read_words, &words, 0, NULL);

	while (!words.is_reading)
		Sleep(0);
	for (unsigned i = 1; i < 20000; i++)
		ck_assert_int_eq(write_there(words.place, &values[i % 2], words.size), 0);
	words.is_over = 1;
	WaitForSingleObject(reader, INFINITE);
	CloseHandle(reader);
	ck_assert_int_eq(words.torn, 0);
	unmap(words.place, BLOCK);
}
END_TEST

START_TEST(writing_what_is_not_ours_is_eacces)
{
	uintptr_t private = (uintptr_t)commit_at(unused_address(BLOCK), BLOCK, PAGE_EXECUTE_READ);
	uintptr_t view = map_view(0, BLOCK, PAGE_EXECUTE_READWRITE,
				  FILE_MAP_READ | FILE_MAP_EXECUTE);
	uintptr_t image = (uintptr_t)GetModuleHandleA("kernel32.dll");
	uint32_t before = *(const uint32_t *)image;

	ck_assert_int_eq(write_there(private, "bytes", 5), EACCES);
	ck_assert(is_zero(private, BLOCK));
	ck_assert_int_eq(write_there(view, "bytes", 5), EACCES);
	ck_assert(is_zero(view, BLOCK));
	ck_assert_int_eq(write_there(image, "bytes", 5), EACCES);
	ck_assert_uint_eq(*(const uint32_t *)image, before);
	ck_assert_int_eq(write_there(unused_address(BLOCK), "bytes", 5), EACCES);
}
END_TEST

static void text_name(char name[128], uintptr_t address)
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

START_TEST(place_whose_name_is_taken_is_eexist)
{
	uintptr_t place = unused_address(BLOCK);
	char name[128];
	HANDLE section;

	text_name(name, place);
	section = make_section(name, BLOCK);
	ck_assert_int_eq(buffers_platform_map(place, BLOCK, BUFFERS_KIND_RX, BUFFERS_MAP_PLAIN), EEXIST);
	ck_assert(is_range_free(place, place + BLOCK));
	CloseHandle(section);
	ck_assert_int_eq(buffers_platform_map(place, BLOCK, BUFFERS_KIND_RX, BUFFERS_MAP_PLAIN), 0);
	unmap(place, BLOCK);
}
END_TEST

START_TEST(writing_under_another_s_name_is_eacces)
{
	uintptr_t view = map_view(0, BLOCK, PAGE_EXECUTE_READWRITE,
				  FILE_MAP_READ | FILE_MAP_EXECUTE);
	char name[128];
	HANDLE section;

	text_name(name, view);
	section = make_section(name, BLOCK);
	ck_assert_int_eq(write_there(view, "bytes", 6), EACCES);
	ck_assert(is_zero(view, BLOCK));
	CloseHandle(section);
}
END_TEST

/*
 * What is left over
 */

static void use_memory(unsigned kind)
{
	uintptr_t place = map(2 * BLOCK, kind), other;

	ck_assert_int_eq(buffers_platform_map(place, BLOCK, kind), EEXIST);
	ck_assert_int_eq(buffers_platform_map_anywhere(BLOCK, kind | BUFFERS_MAP_RESERVED, &other), 0);
	ck_assert_int_eq(buffers_platform_commit(other, PAGE, kind | BUFFERS_MAP_RESERVED), 0);
	ck_assert_int_eq(buffers_platform_unmap(place, BLOCK), EINVAL);
	if (kind == BUFFERS_KIND_RX)
		ck_assert_int_eq(write_there(place + BLOCK - 2, "over", 5), 0);
	ck_assert_int_eq(write_there(place, "bytes", 3 * BLOCK), EACCES);
	unmap(place, 2 * BLOCK);
	unmap(other, BLOCK);
}

START_TEST(no_handle_and_no_view_is_left_over)
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

START_TEST(text_takes_one_handle)
{
	uintptr_t place = map(BLOCK, BUFFERS_KIND_RX);
	unsigned handles;

	unmap(place, BLOCK);	/* the first name of all takes a handle of the place of names */
	handles = count_handles();
	place = map(BLOCK, BUFFERS_KIND_RX);
	ck_assert_uint_eq(count_handles(), handles + 1);
	unmap(place, BLOCK);
	ck_assert_uint_eq(count_handles(), handles);
}
END_TEST

/*
 * Notices
 */

START_TEST(notice_is_memory_that_is_found_by_its_name)
{
	uint64_t start[10];
	struct buffers_rendezvous_dirs board;
	struct buffers_rendezvous_id id;
	uintptr_t address = 0;
	bool is_fresh;
	unsigned place = (unsigned)_i;

	buffers_platform_rendezvous_open(&board);
	ck_assert_int_eq(buffers_platform_rendezvous_read(&board, place, "of a test", start, 80, &id,
						      &is_fresh), ENOENT);
	ck_assert_int_eq(buffers_platform_rendezvous_map(&board, place, "of a test", BLOCK, BUFFERS_KIND_RWX,
						     &address), 0);
	ck_assert(is_committed_as(address, address + BLOCK, PAGE_EXECUTE_READWRITE));
	ck_assert(is_zero(address, BLOCK));
	*(uint64_t *)address = 0x1234567890;
	ck_assert_int_eq(buffers_platform_rendezvous_read(&board, place, "of a test", start, 80, &id,
						      &is_fresh), 0);
	ck_assert_uint_eq(start[0], 0x1234567890);
	ck_assert_int_eq(buffers_platform_rendezvous_map(&board, place, "of a test", BLOCK, BUFFERS_KIND_RWX,
						     &address), EAGAIN);
	ck_assert_int_eq(buffers_platform_rendezvous_read(&board, !place, "of a test", start, 80, &id,
						      &is_fresh), ENOENT);
	ck_assert_int_eq(buffers_platform_rendezvous_create(&board, place, "of a test", start, 80, NULL),
			 EACCES);
	buffers_platform_rendezvous_remove(&board, place, "of a test", &id);
	buffers_platform_rendezvous_close(&board);
}
END_TEST

START_TEST(notice_is_never_another_object_of_that_name)
{
	struct buffers_rendezvous_dirs board;
	struct buffers_rendezvous_id id;
	uint64_t start[10];
	uintptr_t address = 0;
	char name[128];
	bool is_fresh;
	HANDLE event;

	snprintf(name, sizeof(name), "/of a test, PID %lu", GetCurrentProcessId());
	event = CreateEventA(NULL, FALSE, FALSE, name);
	ck_assert_ptr_nonnull(event);
	buffers_platform_rendezvous_open(&board);
	ck_assert_int_eq(buffers_platform_rendezvous_read(&board, 0, "of a test", start, 80, &id,
						      &is_fresh), EACCES);
	ck_assert_int_eq(buffers_platform_rendezvous_map(&board, 0, "of a test", BLOCK, BUFFERS_KIND_RWX,
						     &address), EACCES);
	buffers_platform_rendezvous_close(&board);
	CloseHandle(event);
}
END_TEST

/*
 * The process, and its threads
 */

START_TEST(numbers_are_the_system_s)
{
	ck_assert_uint_eq(buffers_platform_pid(), GetCurrentProcessId());
	ck_assert(!buffers_platform_has_robust_locks());
	ck_assert(!buffers_platform_is_nodelete());
}
END_TEST

static int compare(const void *one, const void *two)
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
	qsort(numbers, NUMBERS, sizeof(numbers[0]), compare);
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

static BUFFERS_TLS struct { uintptr_t words[4]; } mine;
static BUFFERS_TLS int mine_too;

enum { THREADS = 16 };
static HANDLE all_wrote;
static volatile LONG wrote, faults_seen;

static DWORD WINAPI use_own(void *context)
{
	uintptr_t number = (uintptr_t)context;

	for (unsigned i = 0; i < 4; i++)
		if (BUFFERS_TLS_ADDRESS(mine)->words[i] != 0)
			InterlockedIncrement(&faults_seen);
	if (*BUFFERS_TLS_ADDRESS(mine_too) != 0)
		InterlockedIncrement(&faults_seen);
	BUFFERS_TLS_ADDRESS(mine)->words[number % 4] = number;
	*BUFFERS_TLS_ADDRESS(mine_too) = (int)number;
	if (InterlockedIncrement(&wrote) == THREADS)
		SetEvent(all_wrote);
	WaitForSingleObject(all_wrote, INFINITE);
	if (BUFFERS_TLS_ADDRESS(mine)->words[number % 4] != number ||
	    *BUFFERS_TLS_ADDRESS(mine_too) != (int)number)
		InterlockedIncrement(&faults_seen);
	return 0;
}

START_TEST(thread_variables_are_zero_at_first_and_each_thread_s_own)
{
	HANDLE threads[THREADS];

	all_wrote = CreateEventA(NULL, TRUE, FALSE, NULL);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_uint_eq(BUFFERS_TLS_ADDRESS(mine)->words[i], 0);
	BUFFERS_TLS_ADDRESS(mine)->words[0] = 4711;
	for (uintptr_t i = 0; i < THREADS; i++)
		threads[i] = CreateThread(NULL, 0, use_own, (void *)(i + 1), 0, NULL);
	WaitForMultipleObjects(THREADS, threads, TRUE, INFINITE);
	ck_assert_int_eq(faults_seen, 0);
	ck_assert_uint_eq(BUFFERS_TLS_ADDRESS(mine)->words[0], 4711);
	ck_assert_int_eq(*BUFFERS_TLS_ADDRESS(mine_too), 0);
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
	uintptr_t place;
	HANDLE process;
	DWORD number = start_process(&process);

	ck_assert_int_eq(buffers_platform_maps_open_in(number, &maps, &usable), 0);
	ck_assert_uint_eq(usable.end, limit_of_addresses());
	for (place = GIB; !is_range_free_in(process, place, place + 2 * BLOCK); place += BLOCK)
		;
	ck_assert_int_eq(buffers_platform_maps_find(&maps, (struct buffers_span){ place, place +
						    2 * BLOCK }, &mapping), ENOENT);
	ck_assert_int_eq(buffers_platform_map_in(&maps, place, 2 * BLOCK, BUFFERS_KIND_RWX), 0);
	ck_assert_uint_eq(region_in(process, place).protection, PAGE_EXECUTE_READWRITE);
	ck_assert_int_eq(buffers_platform_map_in(&maps, place, 2 * BLOCK, BUFFERS_KIND_RWX), EEXIST);
	ck_assert_int_eq(buffers_platform_maps_find(&maps, (struct buffers_span){ place, place +
						    2 * BLOCK }, &mapping), 0);
	ck_assert_int_eq(buffers_platform_unmap_in(&maps, place, BLOCK), EINVAL);
	ck_assert_int_eq(buffers_platform_unmap_in(&maps, place, 2 * BLOCK), 0);
	ck_assert_int_eq(buffers_platform_unmap_in(&maps, place, 2 * BLOCK), EINVAL);
	buffers_platform_maps_close(&maps);
	end_process(process);
}
END_TEST

START_TEST(process_that_ends_meanwhile_is_einval)
{
	struct buffers_span usable;
	struct buffers_maps maps;
	HANDLE process;
	DWORD number = start_process(&process);

	ck_assert_int_eq(buffers_platform_maps_open_in(number, &maps, &usable), 0);
	ck_assert_int_eq(buffers_platform_map_in(&maps, GIB, BLOCK, BUFFERS_KIND_RWX), 0);
	end_process(process);
	ck_assert_int_eq(buffers_platform_map_in(&maps, GIB + BLOCK, BLOCK, BUFFERS_KIND_RWX), EINVAL);
	ck_assert_int_eq(buffers_platform_unmap_in(&maps, GIB, BLOCK), EINVAL);
	buffers_platform_maps_close(&maps);
	ck_assert_int_eq(buffers_platform_maps_open_in(number, &maps, &usable), EINVAL);
	CloseHandle(process);
}
END_TEST

static void add_all(Suite *suite)
{
	TCase *limits = tcase_create("limits");
	TCase *mapping = tcase_create("mapping");
	TCase *memory = tcase_create("memory");
	TCase *writing = tcase_create("writing");
	TCase *process = tcase_create("process");

	tcase_add_test(limits, granularity_and_limits_are_the_system_s);
	tcase_add_test(limits, usable_is_cut_and_may_be_empty_or_inverted);
	tcase_add_test(limits, nothing_grows);
	tcase_add_test(mapping, memory_is_mapped_at_that_address_as_its_kind);
	tcase_add_test(mapping, memory_is_mapped_anywhere_as_its_kind);
	tcase_add_test(mapping, occupied_place_is_eexist_and_stays_as_it_is);
	tcase_add_test(mapping, place_inside_of_a_block_is_eexist_and_leaves_nothing);
	tcase_add_test(mapping, lost_race_is_eexist_and_leaves_the_winner_alone);
	tcase_add_test(mapping, one_of_many_threads_gets_a_place);
	tcase_add_test(mapping, more_than_all_addresses_is_enomem);
	tcase_add_test(mapping, more_than_all_memory_is_enomem_at_an_address_too);
	tcase_add_test(mapping, state_is_a_page_of_zeros);
	tcase_add_test(mapping, sparse_memory_is_there_once_committed);
	tcase_add_test(mapping, committing_again_changes_nothing);
	tcase_add_test(mapping, sparse_memory_of_64_gib_takes_none);
	tcase_add_test(mapping, sparse_text_that_is_not_there_is_not_written);
	tcase_add_test(mapping, parts_are_not_unmapped);
	tcase_add_test(mapping, two_that_touch_are_not_unmapped_as_one);
	tcase_add_test(mapping, what_is_unmapped_already_is_einval);
	tcase_add_test(mapping, others_views_are_not_unmapped);
	tcase_add_test(mapping, images_are_not_unmapped);
	tcase_add_test(mapping, heap_memory_is_not_unmapped);
	tcase_add_test(memory, all_that_occupies_a_place_is_found);
	tcase_add_test(memory, the_lowest_of_several_is_found);
	tcase_add_test(memory, the_last_block_is_asked_about);
	tcase_add_test(memory, memory_is_read_up_to_what_cannot_be);
	tcase_add_test(memory, memory_is_readable_up_to_what_is_not);
	tcase_add_test(memory, memory_is_writable_up_to_what_is_not);
	tcase_add_test(memory, nothing_is_read_where_nothing_is);
	tcase_add_test(memory, guard_page_of_a_stack_still_grows_it);
	tcase_add_test(writing, text_is_written_and_not_by_its_address);
	tcase_add_test(writing, text_is_written_across_blocks);
	tcase_add_test(writing, text_is_written_at_its_very_end);
	tcase_add_test(writing, bytes_may_overlap_the_text);
	tcase_add_loop_test(writing, four_and_eight_bytes_change_as_a_whole, 4, 5);
	if (sizeof(void *) == 8)
		tcase_add_loop_test(writing, four_and_eight_bytes_change_as_a_whole, 8, 9);
	tcase_add_test(writing, writing_what_is_not_ours_is_eacces);
	tcase_add_test(writing, place_whose_name_is_taken_is_eexist);
	tcase_add_test(writing, writing_under_another_s_name_is_eacces);
	tcase_add_test(writing, no_handle_and_no_view_is_left_over);
	tcase_add_test(writing, text_takes_one_handle);
	tcase_add_loop_test(process, notice_is_memory_that_is_found_by_its_name, 0, 2);
	tcase_add_test(process, notice_is_never_another_object_of_that_name);
	tcase_add_test(process, numbers_are_the_system_s);
	tcase_add_test(process, random_numbers_differ);
	tcase_add_test(process, random_numbers_of_processes_differ);
	tcase_add_test(process, thread_variables_are_zero_at_first_and_each_thread_s_own);
	tcase_add_test(process, memory_of_another_process_is_mapped_and_unmapped);
	tcase_add_test(process, process_that_ends_meanwhile_is_einval);
	suite_add_tcase(suite, limits);
	suite_add_tcase(suite, mapping);
	suite_add_tcase(suite, memory);
	suite_add_tcase(suite, writing);
	suite_add_tcase(suite, process);
}

int main(void)
{
	Suite *suite = suite_create("unit-windows");

	add_all(suite);
	return run_suite(suite);
}
