/* SPDX-License-Identifier: MIT */
/*
 * api.c: fuzzes sequences of public calls, and compares each result with a model
 *
 * The model knows what is held, allocated and open, and every byte that was appended.  Each
 * call may fail only with the errors that the header lists, must leave errno alone if it
 * succeeds, and must not touch memory of others.
 */

#define _GNU_SOURCE
#include "reloaded/buffers.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "input.h"

#define KINDS (BUFFERS_RW | BUFFERS_RX)
#define RX_VIEW (BUFFERS_RX | BUFFERS_VIEW)
#define UNSET 77	/* errno before each call */

enum { ITEMS = 24, ALLOCATIONS = 24, ARENAS = 4, PIECES = 100000, NO_ARENA = -1 };

static struct held {
	struct buffers_item *item;
	int arena;
	unsigned kind;
	uintptr_t base;
	size_t size, position;
} items[ITEMS];

static struct allocation {
	uintptr_t start;
	size_t size;
	unsigned flags;
	uint8_t first;		/* its first byte */
} allocations[ALLOCATIONS];

static struct arena {
	struct buffers_arena *arena;
	unsigned kind;
	uintptr_t low, high;
} arenas[ARENAS];

/* Bytes that were appended to buffers, which stay until they are given back. */
static struct piece {
	uintptr_t start;
	uint32_t size;
	uint8_t value;
} *pieces;
static size_t piece_count;

static uint8_t data[1 << 17];
static size_t page;

/*
 * Arguments
 */

static uintptr_t take_address(void)
{
	static const uint64_t spots[] = {
		0, 0x10000, 0x200000, 0x40000000, 0x7fff0000, 0x80000000, 0x100000000,
		0x2000000000, 0x100000000000, 0x300000000000, 0x500000000000, 0x7ffff0000000,
		0x7fffffff0000, 0x7fffffffffff, UINT64_MAX,
	};
	unsigned choice = take_byte();
	uintptr_t address = (uintptr_t)spots[choice % 15];

	if (choice == 255)
		return (uintptr_t)data + (uintptr_t)(int32_t)take(4);
	if (choice == 254)
		return (uintptr_t)take(8);
	if (choice & 64)
		return address + (uintptr_t)(int32_t)take(4);
	return choice & 32 ? address + (uintptr_t)(int16_t)take(2) : address;
}

static size_t take_size(void)
{
	unsigned choice = take_byte();

	switch (choice & 7) {
	case 0:
		return 0;
	case 1:
	case 2:
		return 1 + take_byte();
	case 3:
		return (size_t)take(2);
	case 4:
		return page * (1 + take_byte() % 32);
	case 5:
		return (size_t)take(2) << 8;
	case 6:
		return choice & 8 ? (size_t)0 - (size_t)take(2) :
				    (size_t)1 << take_byte() % (8 * sizeof(size_t));
	default:
		return choice & 128 ? (size_t)take(8) : UINT32_MAX - 4096 + (size_t)take(2);
	}
}

static size_t take_alignment(void)
{
	unsigned choice = take_byte();

	if (choice < 100)
		return 0;
	if (choice < 240)
		return (size_t)1 << choice % 14;
	return choice < 250 ? (size_t)1 << take_byte() % (8 * sizeof(size_t)) : (size_t)take(8);
}

/* Sizes between `least` and 2^40 are made smaller: they would use up the memory. */
static struct buffers_request take_request(size_t least)
{
	unsigned choice = take_byte();
	struct buffers_request request = { 0 };

	if (choice & 1) {
		const void *target = (const void *)take_address();

		request = buffers_request_near(target, choice & 2 ? BUFFERS_REACH_BRANCH :
								    take_size(), 1);
	} else {
		request.min_address = choice & 2 ? take_address() : 0;
		request.max_address = choice & 4 ? take_address() : 0;
		request.target = choice & 8 ? (const void *)take_address() : NULL;
	}
	request.size = take_size();
	if (request.size > least && request.size >> 20 >> 20 == 0)
		request.size %= least;
	request.alignment = take_alignment();
	request.flags = choice < 250 ? take_byte() & 7 : take_byte();
	request.reserved[choice & 1] = choice == 255;
	return request;
}

/*
 * The model
 */

static bool is_power(size_t alignment)
{
	return alignment && (alignment & (alignment - 1)) == 0;
}

static size_t aligned_to(size_t alignment)
{
	return alignment ? alignment : 1;
}

static bool is_valid(const struct buffers_request *request, unsigned flags)
{
	return request->size && is_power(aligned_to(request->alignment)) && !(flags & ~KINDS) &&
	       flags != KINDS && !request->reserved[0] && !request->reserved[1] &&
	       !(request->max_address && request->min_address >= request->max_address);
}

static bool is_valid_or_view(const struct buffers_request *request, unsigned flags)
{
	return is_valid(request, flags == RX_VIEW ? BUFFERS_RX : flags);
}

static uintptr_t end_of(const struct buffers_request *request)
{
	return request->max_address ? request->max_address : UINTPTR_MAX;
}

static bool is_one_of(int error, int one, int two, int three)
{
	return error == one || error == two || error == three;
}

static bool overlap(uintptr_t start, size_t size, uintptr_t other, size_t other_size)
{
	return start < other + other_size && other < start + size;
}

static void check_not_allocated(uintptr_t start, size_t size)
{
	for (int i = 0; i < ALLOCATIONS; i++)
		CHECK(!allocations[i].size ||
		      !overlap(start, size, allocations[i].start, allocations[i].size));
}

static void check_item(const struct held *held)
{
	errno = UNSET;
	CHECK((uintptr_t)buffers_base(held->item) == held->base);
	CHECK(buffers_size(held->item) == held->size);
	CHECK((uintptr_t)buffers_next(held->item) == held->base + held->position);
	CHECK(buffers_remaining(held->item) == held->size - held->position);
	CHECK(errno == UNSET);
}

static void check_zeros(const struct held *held, size_t most)
{
	const uint8_t *bytes = (const uint8_t *)held->base + held->position;

	for (size_t i = 0; i < most && i < held->size - held->position; i++)
		CHECK(bytes[i] == 0);
}

static void check_piece(const struct piece *piece)
{
	for (uint32_t i = 0; i < piece->size; i++)
		CHECK(((const uint8_t *)piece->start)[i] == piece->value);
}

static void add_piece(const struct held *held, uintptr_t start, size_t size, uint8_t value)
{
	if (size && size <= 4096 && piece_count < PIECES && held->arena == NO_ARENA)
		pieces[piece_count++] = (struct piece){ start, (uint32_t)size, value };
}

static int free_item_slot(void)
{
	int slot = 0;

	while (slot < ITEMS && items[slot].item)
		slot++;
	return slot;
}

static void add_item(int slot, struct buffers_item *item, int arena, unsigned kind, size_t size,
		     size_t alignment)
{
	struct held held = {
		.item = item, .arena = arena, .kind = kind,
		.base = (uintptr_t)buffers_base(item), .size = buffers_size(item),
	};

	held.position = (uintptr_t)buffers_next(item) - held.base;
	CHECK(held.position <= held.size);
	CHECK(held.size - held.position >= size);
	CHECK(((held.base + held.position) & (aligned_to(alignment) - 1)) == 0);
	for (int i = 0; i < ITEMS; i++)		/* the used part of an item may have been given back */
		CHECK(!items[i].item || (items[i].item != item &&
		      !overlap(held.base + held.position, held.size - held.position,
			       items[i].base + items[i].position,
			       items[i].size - items[i].position)));
	check_not_allocated(held.base, held.size);
	check_item(&held);
	check_zeros(&held, 64);
	items[slot] = held;
}

/*
 * Calls
 */

static void get_item(unsigned choice)
{
	struct buffers_request request = take_request((size_t)8 << 20);
	int slot = free_item_slot();
	struct buffers_item *item;

	if (slot == ITEMS)
		return;
	errno = UNSET;
	if (choice & 128) {
		item = buffers_get_near(request.target, request.size);
		request = buffers_request_near(request.target, BUFFERS_REACH_BRANCH, request.size);
	} else {
		item = buffers_get(&request);
	}
	if (!is_valid(&request, request.flags)) {
		CHECK(!item && errno == EINVAL);
	} else if (!item) {
		CHECK(is_one_of(errno, EADDRNOTAVAIL, ENOMEM, EACCES));
	} else {
		CHECK(errno == UNSET);
		add_item(slot, item, NO_ARENA, request.flags, request.size, request.alignment);
		CHECK(items[slot].base + items[slot].position >= request.min_address);
		CHECK(items[slot].base + items[slot].size <= end_of(&request));
	}
}

static void release_item(struct held *held)
{
	errno = UNSET;
	buffers_release(held->item);
	CHECK(errno == UNSET);
	held->item = NULL;
}

static void release_any(unsigned choice)
{
	(void)choice;
	release_item(&items[take_byte() % ITEMS]);	/* NULL has no effect */
}

/* Often about what is left. */
static size_t take_size_for(const struct held *held)
{
	unsigned choice = take_byte();

	if (choice >= 64)
		return take_size();
	return held->size - held->position + choice % 5 - 2;
}

static void append_bytes(unsigned choice)
{
	struct held *held = &items[take_byte() % ITEMS];
	size_t size = take_size_for(held);
	uint8_t value = (uint8_t)(take_byte() | 1);
	const void *from = choice & 64 && size ? NULL : data;
	void *copy;

	if (!held->item)
		return;
	if (size > sizeof(data) && size <= held->size - held->position)
		size = sizeof(data);
	memset(data, value, size < sizeof(data) ? size : sizeof(data));
	errno = UNSET;
	copy = choice & 128 ? buffers_append(held->item, from, size) :
			      buffers_append_code(held->item, from, size);
	if (!from) {
		CHECK(!copy && errno == EINVAL);
	} else if (size > held->size - held->position) {
		CHECK(!copy && errno == ENOSPC);
	} else if (!copy) {
		CHECK(held->kind == BUFFERS_RX && is_one_of(errno, EACCES, ENOMEM, ENOMEM));
	} else {
		CHECK(errno == UNSET && (uintptr_t)copy == held->base + held->position);
		CHECK(memcmp(copy, data, size) == 0);
		held->position += size;
		add_piece(held, (uintptr_t)copy, size, value);
	}
	check_item(held);
}

static void reserve_bytes(unsigned choice)
{
	struct held *held = &items[take_byte() % ITEMS];
	size_t size = take_size_for(held), alignment = take_alignment(), room, slack;
	void *bytes;

	(void)choice;
	if (!held->item)
		return;
	room = held->size - held->position;
	slack = -(held->base + held->position) & (aligned_to(alignment) - 1);
	errno = UNSET;
	bytes = buffers_reserve(held->item, size, alignment);
	if (!is_power(aligned_to(alignment))) {
		CHECK(!bytes && errno == EINVAL);
	} else if (slack > room || size > room - slack) {
		CHECK(!bytes && errno == ENOSPC);
	} else {
		CHECK(errno == UNSET);
		CHECK((uintptr_t)bytes == held->base + held->position + slack);
		held->position += slack;
		if (size <= 4096)
			check_zeros(held, size);
		held->position += size;
		add_piece(held, (uintptr_t)bytes, size, 0);
	}
	check_item(held);
}

static struct patch {
	size_t size;
	uint8_t value;
	unsigned calls;
} patch;

static void apply_patch(void *bytes, size_t size, void *context)
{
	CHECK(context == &patch && size == patch.size);
	memset(bytes, patch.value, size);
	patch.calls++;
}

static void overwrite_piece(unsigned choice)
{
	struct piece *piece = &pieces[piece_count ? take(4) % piece_count : 0];
	unsigned offset, size;
	uint8_t value = (uint8_t)take_byte();
	void *start;

	if (!piece_count)
		return;
	offset = (unsigned)take(2) % piece->size;
	size = 1 + (unsigned)take(2) % (piece->size - offset);
	start = (void *)(piece->start + offset);
	check_piece(piece);
	memset(data, value, size);
	patch = (struct patch){ size, value, 0 };
	errno = UNSET;
	if (choice & 128)
		CHECK(buffers_overwrite(start, data, size) == 0);
	else
		CHECK(buffers_overwrite_with(start, size, apply_patch, &patch) == 0 &&
		      patch.calls == 1);
	CHECK(errno == UNSET && memcmp(start, data, size) == 0);
	memset(data, piece->value, size);
	CHECK(buffers_overwrite(start, data, size) == 0);
	check_piece(piece);
}

/* Gives the end of a piece back, and then something that is no longer in use. */
static void give_back_piece(unsigned choice)
{
	struct piece *piece = &pieces[piece_count ? take(4) % piece_count : 0];
	unsigned left = (unsigned)take(2);
	uint32_t size;
	void *start;

	if (!piece_count)
		return;
	check_piece(piece);
	left %= piece->size;
	size = piece->size - left;
	start = (void *)(piece->start + left);
	errno = UNSET;
	if (buffers_give_back(start, size) != 0) {
		CHECK(is_one_of(errno, ENOMEM, EACCES, ENOMEM));
		return;
	}
	CHECK(errno == UNSET);
	piece->size = left;
	if (left == 0)
		*piece = pieces[--piece_count];
	if (choice & 128)
		CHECK(buffers_give_back(start, 1 + take(2)) == -1 && errno == EINVAL);
}

static void give_back_nothing(unsigned choice)
{
	struct allocation *allocation = &allocations[take_byte() % ALLOCATIONS];

	if (allocation->size)
		CHECK(buffers_give_back((void *)allocation->start, 1) == -1 && errno == EINVAL);
	CHECK(buffers_give_back(data + take_byte(), 1) == -1 && errno == EINVAL);
	CHECK(buffers_give_back((void *)(uintptr_t)take(8), choice & 64 ? 0 : SIZE_MAX) == -1 &&
	      errno == EINVAL);
}

/* Memory that wraps, that nothing maps, or of size 0: never a crash. */
static void overwrite_nothing(unsigned choice)
{
	static const uintptr_t places[] = { 0, 1, 4096, UINTPTR_MAX, UINTPTR_MAX - 3, 8192 };
	uintptr_t place = places[take_byte() % 6];
	size_t size = choice & 128 ? (size_t)0 - 1 - take_byte() % 8 : take_byte() % 64;

	errno = UNSET;
	if (buffers_overwrite((void *)place, data, size) == 0)
		CHECK(size == 0 && errno == UNSET);
	else
		CHECK(errno == EINVAL);
	CHECK(buffers_overwrite(data, data, SIZE_MAX - take_byte() % 4) == -1 && errno == EINVAL);
	patch = (struct patch){ size, 0, 0 };
	if (buffers_overwrite_with((void *)place, size, apply_patch, &patch) == 0)
		CHECK(size == 0);
	CHECK(patch.calls == 0);
}

/* Writes the first and the last byte, where the library says that they are written. */
static void write_ends(struct allocation *allocation)
{
	const uint8_t *memory = (const uint8_t *)allocation->start;
	uint8_t *written = buffers_view(memory);

	CHECK(!written == (allocation->flags == BUFFERS_RX));
	if (!written)
		return;
	CHECK((written == memory) == !(allocation->flags & BUFFERS_VIEW));
	written[0] = written[allocation->size - 1] = ++allocation->first;
	CHECK(memory[0] == allocation->first && memory[allocation->size - 1] == memory[0]);
}

static void allocate(unsigned choice)
{
	struct buffers_request request = take_request((size_t)64 << 20);
	size_t allocated = UNSET;
	uintptr_t start;
	int slot = 0;

	while (slot < ALLOCATIONS && allocations[slot].size)
		slot++;
	if (slot == ALLOCATIONS)
		return;
	errno = UNSET;
	start = (uintptr_t)buffers_alloc(&request, choice & 128 ? NULL : &allocated);
	if (choice & 128 || !is_valid_or_view(&request, request.flags)) {
		CHECK(!start && errno == EINVAL && allocated == UNSET);
		return;
	}
	if (!start) {
		CHECK(is_one_of(errno, EADDRNOTAVAIL, ENOMEM, EACCES) && allocated == UNSET);
		return;
	}
	CHECK(errno == UNSET && allocated == (request.size + page - 1) / page * page);
	CHECK(start >= request.min_address && start + allocated > start);
	CHECK(start + allocated <= end_of(&request) && start % page == 0);
	CHECK((start & (aligned_to(request.alignment) - 1)) == 0);
	check_not_allocated(start, allocated);
	CHECK(*(uint8_t *)start == 0 && ((uint8_t *)start)[allocated - 1] == 0);
	allocations[slot] = (struct allocation){ start, allocated, request.flags, 0 };
	write_ends(&allocations[slot]);
}

static void free_allocation(struct allocation *allocation)
{
	errno = UNSET;
	CHECK(buffers_free((void *)allocation->start, allocation->size) == 0 && errno == UNSET);
	allocation->size = 0;
}

static void view_any(unsigned choice)
{
	struct allocation *allocation = &allocations[take_byte() % ALLOCATIONS];
	const struct held *held = &items[take_byte() % ITEMS];
	const uint8_t *next = held->item ? buffers_next(held->item) : NULL;
	uint8_t *written;

	(void)choice;
	if (allocation->size)
		write_ends(allocation);
	if (!held->item || held->position == held->size)
		return;
	written = buffers_view(next);
	CHECK(!written == (held->kind == BUFFERS_RX));
	if (!written)
		return;
	CHECK((written == next) == !(held->kind & BUFFERS_VIEW));
	*written = 1;
	CHECK(*next == 1);
	*written = 0;
}

static void protect_any(unsigned choice)
{
	struct allocation *allocation = &allocations[take_byte() % ALLOCATIONS];
	const uint8_t *memory = (const uint8_t *)allocation->start;
	unsigned flags = choice & 64 ? 1u + (choice >> 7) : take_byte();
	int result;

	if (!allocation->size)
		return;
	errno = UNSET;
	result = buffers_protect((void *)allocation->start, allocation->size, flags);
	if (allocation->flags & BUFFERS_VIEW || (flags != BUFFERS_RW && flags != BUFFERS_RX)) {
		CHECK(result == -1 && errno == EINVAL);
	} else if (result == 0) {
		CHECK(errno == UNSET);
		allocation->flags = flags;
	} else {
		CHECK(is_one_of(errno, EACCES, ENOMEM, ENOMEM));
	}
	CHECK(*memory == allocation->first);
	write_ends(allocation);
}

static void narrow(unsigned choice)
{
	struct buffers_request request = take_request(1 << 20), before = request;
	const void *target = (const void *)take_address();
	size_t reach = take_size();
	bool is_invalid = !target || !reach || (request.max_address &&
						request.min_address >= request.max_address);

	(void)choice;
	errno = UNSET;
	if (buffers_request_narrow(&request, target, reach) == 0) {
		CHECK(errno == UNSET && !is_invalid);
		CHECK(request.min_address >= before.min_address);
		CHECK(end_of(&request) <= end_of(&before) && request.min_address < end_of(&request));
	} else {
		CHECK(errno == (is_invalid ? EINVAL : EADDRNOTAVAIL));
		CHECK(memcmp(&request, &before, sizeof(request)) == 0);
	}
	CHECK(request.target == before.target && request.size == before.size);
}

static void free_any(unsigned choice)
{
	struct allocation *allocation = &allocations[take_byte() % ALLOCATIONS];
	void *start = (void *)allocation->start;

	if (!allocation->size)
		return;
	if (choice & 128) {
		CHECK(buffers_free((char *)start + 1, allocation->size) && errno == EINVAL);
		errno = UNSET;
		CHECK(buffers_free(start, allocation->size - 1) && errno == EINVAL);
		errno = UNSET;
		CHECK(buffers_free(start, 0) && errno == EINVAL);
		errno = UNSET;
		CHECK(buffers_free(start, (size_t)0 - page) && errno == EINVAL);
	}
	free_allocation(allocation);
}

static void create_arena(unsigned choice)
{
	struct buffers_request request = take_request((size_t)4 << 20);
	unsigned flags = take_byte() & (KINDS | BUFFERS_VIEW);
	unsigned all = request.flags | flags;
	bool is_correct = is_valid_or_view(&request, all);
	struct buffers_arena *arena;
	int slot = 0;

	if (choice & 128)
		flags |= BUFFERS_ARENA_FORK_SHARED;
	if (choice & 64) {
		flags |= BUFFERS_ARENA_HUGE_PAGES;
		is_correct = is_correct && request.size >= (size_t)2 << 20;
	}
	while (slot < ARENAS && arenas[slot].arena)
		slot++;
	if (slot == ARENAS)
		return;
	errno = UNSET;
	arena = buffers_arena_create(&request, flags);
	if (!is_correct) {
		CHECK(!arena && errno == EINVAL);
	} else if (!arena) {
		CHECK(errno == ENOSYS || is_one_of(errno, EADDRNOTAVAIL, ENOMEM, EACCES));
	} else {
		CHECK(errno == UNSET);
		arenas[slot] = (struct arena){ arena, all, request.min_address, end_of(&request) };
	}
}

static void get_from_arena(unsigned choice)
{
	int number = (int)(take_byte() % ARENAS), slot = free_item_slot();
	const struct arena *arena = &arenas[number];
	size_t size = take_size(), alignment = take_alignment();
	struct buffers_item *item;

	(void)choice;
	if (!arena->arena || slot == ITEMS)
		return;
	errno = UNSET;
	item = buffers_arena_get(arena->arena, size, alignment);
	if (!size || !is_power(aligned_to(alignment))) {
		CHECK(!item && errno == EINVAL);
	} else if (!item) {
		CHECK(is_one_of(errno, ENOSPC, ENOMEM, EACCES));
	} else {
		CHECK(errno == UNSET);
		add_item(slot, item, number, arena->kind, size, alignment);
		CHECK(items[slot].base >= arena->low);
		CHECK(items[slot].base + items[slot].size <= arena->high);
	}
}

static void destroy_arena(int number)
{
	for (int i = 0; i < ITEMS; i++)
		if (items[i].item && items[i].arena == number)
			release_item(&items[i]);
	errno = UNSET;
	CHECK(buffers_arena_destroy(arenas[number].arena) == 0 && errno == UNSET);
	arenas[number].arena = NULL;
}

static void destroy_any(unsigned choice)
{
	int number = (int)(take_byte() % ARENAS);
	bool is_used = false;

	if (!arenas[number].arena)
		return;
	for (int i = 0; i < ITEMS; i++)
		is_used |= items[i].item && items[i].arena == number;
	if (is_used && choice & 128)
		CHECK(buffers_arena_destroy(arenas[number].arena) == -1 && errno == EINVAL);
	else
		destroy_arena(number);
}

static int check_info(const struct buffers_info *info, void *context)
{
	(void)context;
	CHECK(info->used <= info->size && info->flags <= BUFFERS_RX);
	CHECK(info->given_back <= info->used);
	check_not_allocated((uintptr_t)info->base, info->size);
	return 0;
}

static void walk(unsigned choice)
{
	(void)choice;
	errno = UNSET;
	CHECK(buffers_walk(check_info, NULL) == 0 && errno == UNSET);
	CHECK(buffers_walk(NULL, NULL) == -1 && errno == EINVAL);
}

static void clean_up(void)
{
	for (int i = 0; i < ITEMS; i++)
		if (items[i].item)
			release_item(&items[i]);
	for (int i = 0; i < ARENAS; i++)
		if (arenas[i].arena)
			destroy_arena(i);
	for (int i = 0; i < ALLOCATIONS; i++)
		if (allocations[i].size)
			free_allocation(&allocations[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static void (*const calls[])(unsigned choice) = {
		get_item, get_item, get_item, get_item, release_any, append_bytes, append_bytes,
		append_bytes, append_bytes, reserve_bytes, reserve_bytes, overwrite_piece, allocate,
		allocate, free_any, create_arena, get_from_arena, get_from_arena, destroy_any,
		walk, overwrite_nothing, give_back_piece, give_back_piece, give_back_piece,
		give_back_nothing, view_any, protect_any, protect_any, narrow,
	};
	static unsigned runs;

	if (!pieces)
		pieces = mmap(NULL, PIECES * sizeof(*pieces), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	page = (size_t)sysconf(_SC_PAGESIZE);
	input = bytes;
	input_left = size;
	while (input_left) {
		unsigned choice = take_byte();

		calls[choice % (sizeof(calls) / sizeof(calls[0]))](choice);
	}
	clean_up();
	if (++runs % 256 == 0)
		for (size_t i = 0; i < piece_count; i += 1 + piece_count / 500)
			check_piece(&pieces[i]);
	return 0;
}
