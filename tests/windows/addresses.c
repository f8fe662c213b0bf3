/* SPDX-License-Identifier: MIT */
/* addresses.c: the library uses all addresses that the system grants a program, and no others */

#include "config.h"
#include "support/code.h"
#include "support/regions.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <string.h>

static const unsigned kinds[] = { 0, BUFFERS_RW, BUFFERS_RX };
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static struct buffers_request range(uintptr_t start, uintptr_t end, size_t size)
{
	return (struct buffers_request){ .min_address = start, .max_address = end, .size = size };
}

static bool is_in(const struct buffers_request *request, const void *memory, size_t size)
{
	uintptr_t start = (uintptr_t)memory;
	uintptr_t end = request->max_address ? request->max_address : UINTPTR_MAX;

	return start >= request->min_address && start <= end - size && start >= lowest_address() &&
	       start + size <= limit_of_addresses();
}

static char *alloc(const struct buffers_request *request)
{
	size_t size = 0;
	char *memory;

	errno = 1234;
	memory = buffers_alloc(request, &size);
	ck_assert_msg(memory != NULL, "errno %d", errno);
	ck_assert_int_eq(errno, 1234);
	ck_assert_uint_eq(size, (request->size + BLOCK - 1) & ~(BLOCK - 1));
	ck_assert(is_in(request, memory, size));
	ck_assert_uint_eq(region_at((uintptr_t)memory).allocation, (uintptr_t)memory);
	return memory;
}

static void expect_no_memory(const struct buffers_request *request)
{
	size_t size = 4711;

	errno = 0;
	ck_assert_ptr_null(buffers_alloc(request, &size));
	ck_assert_int_eq(errno, EADDRNOTAVAIL);
	ck_assert_uint_eq(size, 4711);
}

static void expect_no_item(const struct buffers_request *request)
{
	errno = 0;
	ck_assert_ptr_null(buffers_get(request));
	ck_assert_int_eq(errno, EADDRNOTAVAIL);
}

/* Asks the system itself for the memory. */
static bool is_available(uintptr_t start, size_t size)
{
	void *memory = VirtualAlloc((void *)start, size, MEM_RESERVE, PAGE_NOACCESS);

	if (memory)
		release_memory(memory);
	return memory == (void *)start && start + size <= limit_of_addresses();
}

static void use_item(const struct buffers_request *request, uint32_t number)
{
	struct code code = code_of(number);
	struct buffers_item *item = buffers_get(request);
	void *there;

	ck_assert_msg(item != NULL, "errno %d", errno);
	ck_assert(is_in(request, buffers_next(item), buffers_remaining(item)));
	there = buffers_append_code(item, &code, sizeof(code));
	ck_assert_ptr_nonnull(there);
	if (request->flags != BUFFERS_RW)
		ck_assert_uint_eq(call_code(there), number);
	ck_assert_int_eq(buffers_overwrite(there, &code, sizeof(code)), 0);
	buffers_release(item);
}

/*
 * Between 2 and 4 GiB
 */

static const struct {
	uintptr_t start, end;
} high[] = {
	{ 0x9f000000, 0xa1000000 },	/* 2.5 GiB */
	{ 0xdf000000, 0xe1000000 },	/* 3.5 GiB */
	{ 0x80010000, 0x90000000 },
	{ 0x80010000, 0xf0000000 },
};
enum { HIGH = sizeof(high) / sizeof(high[0]) };

START_TEST(buffers_above_2_gib_need_a_large_address_aware_program)
{
	for (unsigned i = 0; i < HIGH * KINDS; i++) {
		struct buffers_request request =
			range(high[i / KINDS].start, high[i / KINDS].end, 64);

		request.flags = kinds[i % KINDS];
		if (limit_of_addresses() > request.max_address)
			use_item(&request, 42 + i);
		else
			expect_no_item(&request);
	}
}
END_TEST

START_TEST(allocations_above_2_gib_need_a_large_address_aware_program)
{
	for (unsigned i = 0; i < HIGH * KINDS; i++) {
		struct buffers_request request =
			range(high[i / KINDS].start, high[i / KINDS].end, MIB);
		char *memory;

		request.flags = kinds[i % KINDS];
		request.target = (void *)(high[i / KINDS].start + 0x800000);
		if (limit_of_addresses() > request.max_address) {
			memory = alloc(&request);
			ck_assert_int_eq(buffers_overwrite(memory + MIB - 4, "end", 4), 0);
			ck_assert_str_eq(memory + MIB - 4, "end");
			ck_assert_int_eq(buffers_free(memory, MIB), 0);
		} else {
			expect_no_memory(&request);
		}
	}
}
END_TEST

START_TEST(targets_above_2_gib_get_near_memory)
{
	static const uintptr_t targets[] = { 0x80000000, 0x90000123, 0xb0000000, 0xe7ffffff };

	for (unsigned i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct buffers_request request =
			buffers_request_near((void *)targets[i], 16 * MIB, 64);

		ck_assert_uint_eq(request.min_address, targets[i] - 16 * MIB);
		ck_assert_uint_eq(request.max_address, targets[i] + 16 * MIB);
		if (limit_of_addresses() >= request.max_address) {
			use_item(&request, i);
			alloc(&request);
		} else if (limit_of_addresses() <= request.min_address) {
			expect_no_item(&request);
			expect_no_memory(&request);
		}
	}
}
END_TEST

/* Both sides of 2 GiB are free: the side of the target is nearer. */
START_TEST(range_across_2_gib_is_used_on_the_side_of_the_target)
{
	struct buffers_request request = range(0x78000000, 0x90000000, BLOCK);
	uintptr_t below, above;

	request.target = (void *)0x79000000;
	below = (uintptr_t)alloc(&request);
	ck_assert_uint_lt(below, 0x80000000);
	request.target = (void *)0x88000000;
	above = (uintptr_t)alloc(&request);
	ck_assert_uint_gt(above, below);
	if (limit_of_addresses() > 0x90000000)
		ck_assert_uint_gt(above, 0x87000000);
	else
		ck_assert_uint_lt(above, 0x80000000);
}
END_TEST

/* Two blocks, one on either side of the boundary. */
static void try_boundary(uintptr_t boundary)
{
	struct buffers_request request = range(boundary - BLOCK, boundary + BLOCK, 2 * BLOCK);
	char *memory;

	if (is_available(boundary - BLOCK, 2 * BLOCK)) {
		memory = alloc(&request);
		ck_assert_ptr_eq(memory, (void *)(boundary - BLOCK));
		memset(memory, 1, 2 * BLOCK);
		ck_assert_int_eq(buffers_free(memory, 2 * BLOCK), 0);
	} else {
		printf("%llx: in use\n", (unsigned long long)boundary);
		expect_no_memory(&request);
	}
}

START_TEST(memory_may_cross_a_boundary)
{
	try_boundary(GIB);
	try_boundary(2 * GIB);
	try_boundary(3 * GIB);
	try_boundary(0xa0000000);
}
END_TEST

/*
 * The ends
 */

START_TEST(unlimited_range_gives_usable_memory)
{
	struct buffers_request request = { .size = 1 };

	for (unsigned i = 0; i < 200; i++)
		alloc(&request);
	use_item(&request, 42);
}
END_TEST

START_TEST(last_block_is_used_and_none_after_it)
{
	uintptr_t limit = limit_of_addresses();
	struct buffers_request last = range(limit - BLOCK, limit, BLOCK);
	struct buffers_request after = range(limit, 0, 1);
	struct buffers_request across = range(limit - BLOCK, 0, 2 * BLOCK);
	bool is_free_block = is_available(limit - BLOCK, BLOCK);

	printf("the last block is %s\n", is_free_block ? "free" : "in use");
	expect_no_memory(&across);
	expect_no_memory(&after);
	expect_no_item(&after);
	if (!is_free_block) {
		expect_no_memory(&last);
		return;
	}
	memset(alloc(&last), 1, BLOCK);
	expect_no_memory(&last);
}
END_TEST

START_TEST(all_of_the_last_mib_is_used)
{
	uintptr_t limit = limit_of_addresses();
	struct buffers_request request = range(limit - MIB, 0, 1);
	unsigned free = 0;

	alloc(&(struct buffers_request){ .size = 1 });	/* maps the library's own memory, too */
	for (uintptr_t at = limit - MIB; at < limit; at += BLOCK)
		free += is_available(at, BLOCK);
	printf("%u of 16 blocks are free\n", free);
	while (free--)
		memset(alloc(&request), 1, BLOCK);
	expect_no_memory(&request);
}
END_TEST

/*
 * Wine refuses free addresses for some distance below the limit, and does so repeatedly.
 * There the library continues in steps that grow each time.
 */
START_TEST(target_at_the_top_gets_the_highest_free_blocks)
{
	static const uintptr_t below[] = { 0, 1, 65535, 65536 };
	uintptr_t limit = limit_of_addresses();
	size_t times = is_wine() ? 16 : 2;

	for (unsigned i = 0; i < 4; i++) {
		struct buffers_request reach =
			buffers_request_near((void *)(UINTPTR_MAX - below[i]), SIZE_MAX, BLOCK);
		struct buffers_request wide = { .target = reach.target, .size = BLOCK };
		uintptr_t highest = limit - BLOCK;

		ck_assert_uint_eq(reach.max_address, 0);
		while (!is_available(highest, BLOCK))
			highest -= BLOCK;
		ck_assert_uint_le(limit - (uintptr_t)alloc(&reach), times * (limit - highest));
		ck_assert_uint_le(limit - (uintptr_t)alloc(&wide), times * (limit - highest) + BLOCK);
	}
}
END_TEST

START_TEST(range_near_the_top_is_beyond_the_limit)
{
	struct buffers_request request = buffers_request_near((void *)UINTPTR_MAX, 32768, 1);

	expect_no_memory(&request);
	expect_no_item(&request);
}
END_TEST

START_TEST(nothing_is_mapped_in_the_first_64_kib)
{
	struct buffers_request request = range(0, BLOCK, 1);
	struct buffers_request with_next = range(0, lowest_address(), BLOCK);

	expect_no_memory(&request);
	expect_no_memory(&with_next);
	expect_no_item(&request);
}
END_TEST

START_TEST(branches_reach_buffers_near_code)
{
	const void *code[] = {
		(const void *)(uintptr_t)branches_reach_buffers_near_code_fn,
		(const void *)(uintptr_t)GetProcAddress(GetModuleHandleA("kernel32.dll"), "Sleep"),
		(const void *)(uintptr_t)GetProcAddress(GetModuleHandleA("msvcrt.dll"), "getenv"),
	};

	for (unsigned i = 0; i < 3; i++) {
		struct buffers_request request =
			buffers_request_near(code[i], BUFFERS_REACH_BRANCH, 64);
		struct buffers_item *item = buffers_get_near(code[i], 64);

		ck_assert_ptr_nonnull(item);
		ck_assert(is_in(&request, buffers_next(item), buffers_remaining(item)));
		buffers_release(item);
		use_item(&request, i);
		alloc(&request);
	}
}
END_TEST

#ifdef _WIN64
START_TEST(memory_may_cross_4_gib)
{
	try_boundary(4 * GIB);
	try_boundary(8 * GIB);
	try_boundary((uintptr_t)1 << 46);
}
END_TEST

START_TEST(both_sides_of_4_gib_are_used)
{
	struct buffers_request below = range(4 * GIB - 16 * MIB, 4 * GIB, BLOCK);
	struct buffers_request above = range(4 * GIB, 4 * GIB + 16 * MIB, BLOCK);

	below.target = above.target = (void *)(4 * GIB);
	ck_assert_uint_eq((uintptr_t)alloc(&below), 4 * GIB - BLOCK);
	ck_assert_uint_eq((uintptr_t)alloc(&above), 4 * GIB);
	use_item(&below, 1);
	use_item(&above, 2);
}
END_TEST

START_TEST(low_2_gib_are_used)
{
	struct buffers_request request = range(0, 2 * GIB, 64);

	for (unsigned i = 0; i < KINDS; i++) {
		request.flags = kinds[i];
		use_item(&request, i);
		alloc(&request);
	}
}
END_TEST

START_TEST(all_parts_of_the_address_space_are_used)
{
	for (unsigned bits = 32; bits < 47; bits++) {
		uintptr_t start = (uintptr_t)1 << bits;
		struct buffers_request request = range(start, start + GIB, MIB);

		use_item(&request, bits);
		alloc(&request);
		request.target = (void *)(start + GIB / 2 + 12345);
		ck_assert_uint_lt((uintptr_t)alloc(&request) - start - GIB / 2 + 2 * MIB, 4 * MIB);
	}
}
END_TEST
#endif

/*
 * Candidates
 */

START_TEST(alignment_may_be_large)
{
	size_t most = sizeof(void *) == 8 ? 64 * GIB / (sizeof(void *) == 8 ? 1 : 64) : 256 * MIB;

	for (size_t alignment = 1; alignment <= most; alignment *= 2) {
		struct buffers_request request = { .size = 100, .alignment = alignment };
		char *memory = alloc(&request);

		ck_assert_uint_eq((uintptr_t)memory % alignment, 0);
		ck_assert_int_eq(buffers_free(memory, BLOCK), 0);
	}
}
END_TEST

START_TEST(hole_of_one_block_is_used_exactly)
{
	for (unsigned i = 0; i < KINDS; i++) {
		uintptr_t address = unused_address(9 * BLOCK);
		struct buffers_request request = range(address, address + 9 * BLOCK, BLOCK);

		request.flags = kinds[i];
		reserve_at(address, 4 * BLOCK);
		reserve_at(address + 5 * BLOCK, 4 * BLOCK);
		request.target = i ? NULL : (void *)(address + 8 * BLOCK);
		ck_assert_uint_eq((uintptr_t)alloc(&request), address + 4 * BLOCK);
		expect_no_memory(&request);
		expect_no_item(&request);
		ck_assert_int_eq(buffers_free((void *)(address + 4 * BLOCK), BLOCK), 0);
		request.size = 60000;
		use_item(&request, i);
	}
}
END_TEST

START_TEST(hole_that_is_too_small_is_not_used)
{
	uintptr_t address = unused_address(16 * BLOCK);
	struct buffers_request request = range(address, address + 16 * BLOCK, BLOCK + 1);

	for (unsigned i = 0; i < 16; i += 2)
		reserve_at(address + i * BLOCK, BLOCK);
	expect_no_memory(&request);
	expect_no_item(&request);
	request = range(address + BLOCK + 1, address + 2 * BLOCK, 1);
	expect_no_memory(&request);
	request = range(address + BLOCK, address + 2 * BLOCK - 1, 1);
	expect_no_memory(&request);
	request = range(address + BLOCK, address + 2 * BLOCK, 1);
	ck_assert_uint_eq((uintptr_t)alloc(&request), address + BLOCK);
}
END_TEST

/* Uses a block, or a part of it. */
static void add_obstacle(uintptr_t address, unsigned obstacle)
{
	HANDLE section;

	switch (obstacle) {
	case 0:
		memset(commit_at(address, BLOCK, PAGE_READWRITE), 0x5a, BLOCK);
		break;
	case 1:
		reserve_at(address, BLOCK);
		break;
	case 2:
		commit_at(address, BLOCK, PAGE_READWRITE | PAGE_GUARD);
		break;
	case 3:
		commit_at(address, BLOCK, PAGE_NOACCESS);
		break;
	case 4:
		memset(commit_at(address, PAGE, PAGE_READWRITE), 0x5a, PAGE);
		break;
	case 5:
		reserve_at(address, PAGE);
		break;
	default:
		section = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL, PAGE_READWRITE, 0,
					     (DWORD)PAGE, NULL);
		ck_assert_ptr_eq(MapViewOfFileEx(section, FILE_MAP_WRITE, 0, 0, 0, (void *)address),
				 (void *)address);
		CloseHandle(section);
	}
}
enum { OBSTACLES = 7 };

START_TEST(nothing_is_overwritten)
{
	uintptr_t address = unused_address(2 * OBSTACLES * BLOCK);
	struct buffers_request request = range(address, address + 2 * OBSTACLES * BLOCK, 100);
	struct region before[OBSTACLES];

	for (unsigned i = 0; i < OBSTACLES; i++) {
		add_obstacle(address + 2 * i * BLOCK, i);
		before[i] = region_at(address + 2 * i * BLOCK);
	}
	for (unsigned i = 0; i < OBSTACLES; i++) {
		char *memory;

		request.flags = kinds[i % KINDS];
		request.target = (void *)(address + 2 * i * BLOCK + 2 * PAGE);
		memory = alloc(&request);
		ck_assert_uint_eq(((uintptr_t)memory - address) / BLOCK % 2, 1);
		ck_assert_int_eq(buffers_overwrite(memory, "bytes", 5), 0);
	}
	expect_no_memory(&request);
	expect_no_item(&request);
	for (unsigned i = 0; i < OBSTACLES; i++)
		ck_assert(is_same_region(region_at(address + 2 * i * BLOCK), before[i]));
	for (unsigned i = 0; i < BLOCK; i++)
		ck_assert_uint_eq(((unsigned char *)address)[i], 0x5a);
	for (unsigned i = 0; i < PAGE; i++)
		ck_assert_uint_eq(((unsigned char *)address)[8 * BLOCK + i], 0x5a);
}
END_TEST

/* The rest of a partly used block cannot be mapped, though the system reports it as free. */
START_TEST(target_in_a_partly_used_block_gets_an_adjacent_block)
{
	for (unsigned i = 0; i < KINDS; i++) {
		uintptr_t address = unused_address(3 * BLOCK) + BLOCK;
		struct buffers_request request = range(address - BLOCK, address + 2 * BLOCK, BLOCK);
		uintptr_t first, second;

		request.flags = kinds[i];
		request.target = (void *)(address + 2 * PAGE);
		commit_at(address, PAGE, PAGE_READWRITE);
		ck_assert_uint_eq(region_at(address + PAGE).state, MEM_FREE);
		first = (uintptr_t)alloc(&request);
		second = (uintptr_t)alloc(&request);
		ck_assert(first == address - BLOCK || first == address + BLOCK);
		ck_assert_uint_eq(first + second, 2 * address);
		expect_no_memory(&request);
		ck_assert_uint_eq(region_at(address + PAGE).state, MEM_FREE);
	}
}
END_TEST

START_TEST(range_of_an_image_has_no_free_block)
{
	static const char *const images[] = { NULL, "kernel32.dll", "ntdll.dll", "msvcrt.dll" };

	for (unsigned i = 0; i < 4; i++) {
		uintptr_t start = (uintptr_t)GetModuleHandleA(images[i]);
		uintptr_t end = (end_of_allocation(start) + BLOCK - 1) & ~(BLOCK - 1);
		struct buffers_request request = range(start, end, 1);

		request.target = (void *)(start + (end - start) / 2);
		expect_no_memory(&request);
		expect_no_item(&request);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("windows/addresses");
	TCase *ends = tcase_create("ends");
	TCase *choice = tcase_create("choice");

	printf("addresses: %llx to %llx\n", (unsigned long long)lowest_address(),
	       (unsigned long long)limit_of_addresses());
	tcase_add_test(ends, buffers_above_2_gib_need_a_large_address_aware_program);
	tcase_add_test(ends, allocations_above_2_gib_need_a_large_address_aware_program);
	tcase_add_test(ends, targets_above_2_gib_get_near_memory);
	tcase_add_test(ends, range_across_2_gib_is_used_on_the_side_of_the_target);
	tcase_add_test(ends, memory_may_cross_a_boundary);
	tcase_add_test(ends, unlimited_range_gives_usable_memory);
	tcase_add_test(ends, last_block_is_used_and_none_after_it);
	tcase_add_test(ends, all_of_the_last_mib_is_used);
	tcase_add_test(ends, target_at_the_top_gets_the_highest_free_blocks);
	tcase_add_test(ends, range_near_the_top_is_beyond_the_limit);
	tcase_add_test(ends, nothing_is_mapped_in_the_first_64_kib);
	tcase_add_test(ends, branches_reach_buffers_near_code);
#ifdef _WIN64
	tcase_add_test(ends, memory_may_cross_4_gib);
	tcase_add_test(ends, both_sides_of_4_gib_are_used);
	tcase_add_test(ends, low_2_gib_are_used);
	tcase_add_test(ends, all_parts_of_the_address_space_are_used);
#endif
	tcase_add_test(choice, alignment_may_be_large);
	tcase_add_test(choice, hole_of_one_block_is_used_exactly);
	tcase_add_test(choice, hole_that_is_too_small_is_not_used);
	tcase_add_test(choice, nothing_is_overwritten);
	tcase_add_test(choice, target_in_a_partly_used_block_gets_an_adjacent_block);
	tcase_add_test(choice, range_of_an_image_has_no_free_block);
	suite_add_tcase(suite, ends);
	suite_add_tcase(suite, choice);
	return run_suite(suite);
}
