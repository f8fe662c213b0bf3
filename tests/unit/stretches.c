/* SPDX-License-Identifier: MIT */
/* unit/stretches: room that was given back, compared with a map of all bytes */

#include "config.h"
#include "locator/stretches.h"
#include "platform/platform.h"
#include "support/few-mappings.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* With more stretches, a search does not look at each. */
enum { LOOKED_AT = 16 };

enum { MOST_BYTES = 6000, HELD = 8, OWNER = BUFFERS_TAKEN | BUFFERS_TAKEN_GIVEN };
#define MOST ((size_t)64 << 10)

/* How often a thread waited. */
static unsigned waits;
void __real_buffers_platform_backoff(unsigned attempt);
void __wrap_buffers_platform_backoff(unsigned attempt);

void __wrap_buffers_platform_backoff(unsigned attempt)
{
	__atomic_fetch_add(&waits, 1, __ATOMIC_RELAXED);
	__real_buffers_platform_backoff(attempt);
}

/*
 * The map of all bytes
 */

enum state { USED, FREE, ROOM };	/* ROOM: beyond the position of an item in use */

static struct {
	struct buffers_stretches *stretches;
	unsigned char *memory;
	size_t bytes;
	enum state states[MOST_BYTES + 1];
	struct buffers_item *held[HELD];
	uint64_t seed;
} world;

static void begin_world(size_t bytes)
{
	world.bytes = bytes;
	world.memory = map_memory(bytes, false);
	memset(world.memory, 0xaa, bytes);
	world.seed = seed_random();
	ck_assert_int_eq(buffers_stretches_create(&world.stretches), 0);
}

static uintptr_t address_of(size_t offset)
{
	return (uintptr_t)world.memory + offset;
}

static struct buffers_span span_at(size_t offset, size_t size)
{
	return (struct buffers_span){ address_of(offset), address_of(offset + size) };
}

static struct buffers_span span_from(uintptr_t start, size_t size)
{
	return (struct buffers_span){ start, start + size };
}

static bool are_all(size_t offset, size_t size, enum state state)
{
	for (size_t i = offset; i < offset + size; i++)
		if (world.states[i] != state)
			return false;
	return true;
}

static void set_all(size_t offset, size_t size, enum state state)
{
	for (size_t i = offset; i < offset + size; i++)
		world.states[i] = state;
}

static size_t count_unused(size_t offset, size_t size)
{
	size_t count = 0;

	for (size_t i = offset; i < offset + size; i++)
		count += world.states[i] != USED;
	return count;
}

/* The next maximal stretch of free bytes from *offset on; its size, or 0. */
static size_t next_free(size_t *offset)
{
	size_t end;

	while (*offset < world.bytes && world.states[*offset] != FREE)
		++*offset;
	for (end = *offset; end < world.bytes && world.states[end] == FREE;)
		end++;
	return end - *offset;
}

static bool suits(const struct buffers_window *window, size_t offset, size_t size)
{
	struct buffers_span part = buffers_span_intersect(span_at(offset, size), window->range);
	size_t slack = (size_t)-part.start & (window->alignment - 1);

	return buffers_span_size(part) >= slack + window->size;
}

/* The size of the smallest stretch that suits, or 0, and the number of stretches. */
static size_t best_size(const struct buffers_window *window, unsigned *count)
{
	size_t offset = 0;
	size_t best = 0;
	size_t size;

	for (*count = 0; (size = next_free(&offset)); offset += size, ++*count)
		if (suits(window, offset, size) && (!best || size < best))
			best = size;
	return best;
}

/*
 * Steps
 */

static void add_some(void)
{
	size_t offset = random_below(&world.seed, world.bytes);
	size_t size = 1 + random_below(&world.seed, 200);
	bool is_valid;

	if (size > world.bytes - offset)
		size = world.bytes - offset;
	is_valid = are_all(offset, size, USED);
	ck_assert_int_eq(buffers_stretches_add(world.stretches, span_at(offset, size)),
			 is_valid ? 0 : EINVAL);
	if (is_valid)
		set_all(offset, size, FREE);
}

/* Up to the next stretch: the node of an item that was used up may be there. */
static void add_up_to_next(void)
{
	size_t offset = random_below(&world.seed, world.bytes);
	size_t end = offset;

	while (end < world.bytes && world.states[end] == USED)
		end++;
	if (end == offset)
		return;
	ck_assert_int_eq(buffers_stretches_add(world.stretches, span_at(offset, end - offset)), 0);
	set_all(offset, end - offset, FREE);
}

/* In two steps, the second of which may be a cancellation. */
static void begin_some(void)
{
	size_t offset = random_below(&world.seed, world.bytes - 200);
	size_t size = 1 + random_below(&world.seed, 200);
	bool is_valid = are_all(offset, size, USED);
	struct buffers_item *item;

	ck_assert_int_eq(buffers_stretches_begin(world.stretches, span_at(offset, size), &item),
			 is_valid ? 0 : EINVAL);
	if (!is_valid)
		return;
	ck_assert_int_eq(buffers_stretches_add(world.stretches, span_at(offset + size / 2, 1)),
			 EINVAL);
	if (random_below(&world.seed, 2)) {
		buffers_stretches_cancel(item);
		return;
	}
	memset(world.memory + offset, 0, size);
	set_all(offset, size, FREE);
	buffers_stretches_release(item);
}

static struct buffers_window random_window(void)
{
	size_t first = random_below(&world.seed, world.bytes);
	size_t end = first + 1 + random_below(&world.seed, world.bytes - first);

	return (struct buffers_window){
		.range = random_below(&world.seed, 2) ? span_at(0, world.bytes) :
							 span_at(first, end - first),
		.size = 1 + random_below(&world.seed, 120),
		.alignment = (size_t)1 << random_below(&world.seed, 6),
	};
}

static void check_taken(const struct buffers_item *item, const struct buffers_window *window)
{
	size_t offset = item->base_address - address_of(0);

	ck_assert_uint_eq(item->position, 0);
	ck_assert_uint_eq(item->base_address % window->alignment, 0);
	ck_assert_uint_ge(item->size, window->size);
	ck_assert(buffers_span_contains(window->range, span_at(offset, item->size)));
	ck_assert(are_all(offset, item->size, FREE));
	for (size_t i = 0; i < item->size; i++)
		ck_assert_uint_eq(world.memory[offset + i], 0);
	set_all(offset, item->size, ROOM);
}

/* The size of the stretch that the item is a part of. */
static size_t size_around(const struct buffers_item *item)
{
	size_t offset = item->base_address - address_of(0);
	size_t end = offset;

	while (offset && world.states[offset - 1] == FREE)
		offset--;
	while (end < world.bytes && world.states[end] == FREE)
		end++;
	return end - offset;
}

static void take_some(void)
{
	unsigned slot = (unsigned)random_below(&world.seed, HELD);
	struct buffers_window window = random_window();
	unsigned count;
	size_t best = best_size(&window, &count);
	struct buffers_item *item;

	ck_assert(!best || buffers_stretches_may_suit(world.stretches, &window));
	if (world.held[slot])
		return;
	item = buffers_stretches_take(world.stretches, &window, MOST, OWNER);
	if (count <= LOOKED_AT)
		ck_assert_uint_eq(item ? size_around(item) : 0, best);
	else if (!item)		/* only those of which the alignment may fail were missed */
		ck_assert_uint_eq(best_size(&(struct buffers_window){
			.range = window.range, .size = window.size + window.alignment - 1,
			.alignment = 1 }, &count), 0);
	if (!item)
		return;
	check_taken(item, &window);
	world.held[slot] = item;
}

static void use_some(void)
{
	struct buffers_item *item = world.held[random_below(&world.seed, HELD)];
	uintptr_t address = 0;
	size_t size;

	if (!item || !buffers_item_room(item))
		return;
	size = 1 + random_below(&world.seed, buffers_item_room(item));
	ck_assert_int_eq(buffers_item_reserve(item, size, 1, &address), 0);
	memset((void *)address, 0xaa, size);
	set_all(address - address_of(0), size, USED);
}

static void release_some(void)
{
	struct buffers_item **held = &world.held[random_below(&world.seed, HELD)];

	if (!*held)
		return;
	set_all(buffers_item_next(*held) - address_of(0), buffers_item_room(*held), FREE);
	buffers_stretches_release(*held);
	*held = NULL;
}

static void check_sum(void)
{
	size_t offset = random_below(&world.seed, world.bytes);
	size_t size = random_below(&world.seed, world.bytes - offset + 1);

	ck_assert_uint_eq(buffers_stretches_sum(world.stretches, span_at(offset, size)),
			  count_unused(offset, size));
}

static bool is_any_held(void)
{
	for (unsigned i = 0; i < HELD; i++)
		if (world.held[i])
			return true;
	return false;
}

START_TEST(stretches_are_as_the_map_of_bytes_says)
{
	static void (*const steps[])(void) = {
		add_some, add_some, add_up_to_next, begin_some, take_some, take_some, use_some, use_some,
		release_some, check_sum,
	};
	enum { STEPS = sizeof(steps) / sizeof(steps[0]) };

	begin_world(_i == 0 ? 700 : MOST_BYTES);	/* few and many stretches */
	for (unsigned i = how_many(200000, 3000000); i--;)
		steps[random_below(&world.seed, STEPS)]();
	while (is_any_held())
		release_some();
	ck_assert(!buffers_stretches_are_held(world.stretches));
	ck_assert_uint_eq(buffers_stretches_sum(world.stretches, span_at(0, world.bytes)),
			  count_unused(0, world.bytes));
	buffers_stretches_destroy(world.stretches);
}
END_TEST

/* A copy of the node's members before the item. */
static size_t depth_of(void *const *node)
{
	size_t left, right;

	if (!node)
		return 0;
	left = depth_of(node[0]);
	right = depth_of(node[1]);
	return 1 + (left > right ? left : right);
}

/* Adds stretches in an order that would make a plain tree a list. */
START_TEST(depth_is_logarithmic)
{
	enum { MANY = 100000, STEP = 8 };
	unsigned char *memory = map_memory((size_t)MANY * STEP, false);
	struct buffers_stretches *stretches;

	ck_assert_int_eq(buffers_stretches_create(&stretches), 0);
	for (size_t i = 0; i < MANY; i++) {
		uintptr_t start = (uintptr_t)memory + STEP * (_i == 0 ? i :
							     _i == 1 ? MANY - 1 - i :
							     i * 7919 % MANY);

		ck_assert_int_eq(buffers_stretches_add(stretches, (struct buffers_span){
			start, start + STEP - 1 }), 0);
	}
	printf("depth of %d stretches: %zu\n", MANY, depth_of((void *)stretches->tree));
	ck_assert_uint_le(depth_of((void *)stretches->tree), 64);
	buffers_stretches_destroy(stretches);
}
END_TEST

/* Room that grows by a byte covers the node of an item that was used up. */
START_TEST(depth_stays_logarithmic)
{
	enum { MANY = 4000, STEP = 16, SIZE = 8 };
	uintptr_t start = (uintptr_t)map_memory((size_t)MANY * STEP, false);
	struct buffers_stretches *stretches;
	struct buffers_item *item;

	ck_assert_int_eq(buffers_stretches_create(&stretches), 0);
	for (uintptr_t at = start; at < start + MANY * STEP; at += STEP)
		ck_assert_int_eq(buffers_stretches_add(stretches, (struct buffers_span){
			at, at + SIZE }), 0);
	for (uintptr_t at = start; at < start + MANY * STEP; at += STEP) {
		item = buffers_stretches_take(stretches, &(struct buffers_window){
			.range = { at, at + SIZE }, .size = SIZE, .alignment = 1 }, MOST, OWNER);
		ck_assert_ptr_nonnull(item);
		buffers_item_set_position(item, SIZE);
		buffers_stretches_release(item);
		ck_assert_int_eq(buffers_stretches_add(stretches, (struct buffers_span){
			at, at + SIZE + 1 }), 0);
	}
	ck_assert_uint_le(depth_of((void *)stretches->tree), 64);
	buffers_stretches_destroy(stretches);
}
END_TEST

/* Bounded also where no stretch of the newest is in the range. */
START_TEST(old_stretch_is_found_behind_many_others)
{
	enum { MANY = 20000, STEP = 128 };
	static const size_t sizes[] = { 64, 70, 100, 127 };
	uintptr_t start = (uintptr_t)map_memory((size_t)MANY * STEP, false);
	struct buffers_window window = {
		.range = { start, start + STEP }, .size = sizes[_i], .alignment = 1,
	};
	struct buffers_stretches *stretches;
	struct buffers_item *item;

	ck_assert_int_eq(buffers_stretches_create(&stretches), 0);
	for (uintptr_t i = 0; i < MANY; i++)
		ck_assert_int_eq(buffers_stretches_add(stretches, (struct buffers_span){
			start + i * STEP, start + i * STEP + sizes[_i] }), 0);
	item = buffers_stretches_take(stretches, &window, MOST, OWNER);
	ck_assert_ptr_nonnull(item);
	ck_assert_uint_eq(item->base_address, start);
	buffers_stretches_destroy(stretches);
}
END_TEST

/* Adds stretches that a search looks at before older ones of this size. */
static void add_newer(struct buffers_stretches *stretches, size_t size)
{
	enum { NEWER = 2 * LOOKED_AT };
	uintptr_t start = (uintptr_t)map_memory(NEWER * (size + 1), false);

	for (uintptr_t at = start; at < start + NEWER * (size + 1); at += size + 1)
		ck_assert_int_eq(buffers_stretches_add(stretches, span_from(at, size)), 0);
}

/* Adds small stretches at both sides of 128 bytes, so that no way to others leads over these. */
static uintptr_t add_around(struct buffers_stretches *stretches)
{
	enum { SIDE = 16 * 1024 };
	uintptr_t start = (uintptr_t)map_memory(2 * SIDE + 128, false);
	uintptr_t end = start + 2 * SIDE + 128;

	for (uintptr_t at = start; at < start + SIDE; at += 16)
		ck_assert_int_eq(buffers_stretches_add(stretches, span_from(at, 8)), 0);
	for (uintptr_t at = end - SIDE; at < end; at += 16)
		ck_assert_int_eq(buffers_stretches_add(stretches, span_from(at + 8, 8)), 0);
	return start + SIDE;
}

static struct buffers_item *take_in(struct buffers_stretches *stretches, struct buffers_span range,
				    size_t size)
{
	return buffers_stretches_take(stretches, &(struct buffers_window){
		.range = range, .size = size, .alignment = 1 }, MOST, OWNER);
}

START_TEST(merged_stretch_is_found_behind_many_others)
{
	struct buffers_stretches *stretches;
	uintptr_t start;

	ck_assert_int_eq(buffers_stretches_create(&stretches), 0);
	start = add_around(stretches);
	ck_assert_int_eq(buffers_stretches_add(stretches, span_from(start, 32)), 0);
	ck_assert_int_eq(buffers_stretches_add(stretches, span_from(start + 64, 32)), 0);
	ck_assert_int_eq(buffers_stretches_add(stretches, span_from(start + 32, 32)), 0);
	add_newer(stretches, 96);
	ck_assert_ptr_nonnull(take_in(stretches, span_from(start, 96), 96));
	buffers_stretches_destroy(stretches);
}
END_TEST

/* The owner of an item that was used up gives its room back, beside a stretch. */
START_TEST(room_of_used_up_item_merges)
{
	enum { MANY = 200, HALF = 32, STEP = 3 * HALF };
	uintptr_t start = (uintptr_t)map_memory((size_t)MANY * STEP, false);
	struct buffers_stretches *stretches;
	struct buffers_item *item;

	ck_assert_int_eq(buffers_stretches_create(&stretches), 0);
	for (uintptr_t at = start; at < start + MANY * STEP; at += STEP)
		ck_assert_int_eq(buffers_stretches_add(stretches, span_from(at, 2 * HALF)), 0);
	for (uintptr_t at = start; at < start + MANY * STEP; at += STEP) {
		item = take_in(stretches, span_from(at, HALF), HALF);
		ck_assert_ptr_nonnull(item);
		buffers_item_set_position(item, HALF);
		buffers_stretches_release(item);
		ck_assert_int_eq(buffers_stretches_add(stretches, span_from(at, HALF)), 0);
		item = take_in(stretches, span_from(at, 2 * HALF), 2 * HALF);
		ck_assert_ptr_nonnull(item);
		buffers_stretches_release(item);
	}
	buffers_stretches_destroy(stretches);
}
END_TEST

#if CAN_FORK	/* Linux: the mapped bytes are known */
START_TEST(memory_of_nodes_is_unmapped)
{
	enum { MANY = 20000, STEP = 8 };
	uintptr_t start = (uintptr_t)map_memory((size_t)MANY * STEP, false);
	struct buffers_stretches *stretches;
	size_t before = mapped_bytes();

	SKIP_IF(is_emulated(), "the emulator maps memory of its own");
	ck_assert_int_eq(buffers_stretches_create(&stretches), 0);
	for (uintptr_t at = start; at < start + MANY * STEP; at += STEP)
		ck_assert_int_eq(buffers_stretches_add(stretches, span_from(at, STEP / 2)), 0);
	ck_assert_uint_ge(mapped_bytes(), before + MANY * sizeof(struct buffers_item));
	buffers_stretches_destroy(stretches);
	ck_assert_uint_lt(mapped_bytes(), before + MANY * sizeof(struct buffers_item) / 2);
}
END_TEST
#endif

/* Not the lowest of those that are long enough for each alignment. */
START_TEST(smallest_stretch_that_can_be_aligned_is_taken)
{
	enum { LARGE = 4096, LEAST = 127 };
	uintptr_t start = (uintptr_t)map_memory(LARGE + 64 + LEAST, false);
	struct buffers_window window = { .range = { 0, UINTPTR_MAX }, .size = 64, .alignment = 64 };
	uintptr_t odd = (uintptr_t)map_memory(64 * 1024, false) + 1;
	struct buffers_stretches *stretches;
	struct buffers_item *item;

	ck_assert_int_eq(buffers_stretches_create(&stretches), 0);
	ck_assert_int_eq(buffers_stretches_add(stretches, span_from(start, LARGE)), 0);
	ck_assert_int_eq(buffers_stretches_add(stretches, span_from(start + LARGE + 64, LEAST)), 0);
	for (unsigned i = 0; i < 64; i++)	/* in two classes */
		ck_assert_int_eq(buffers_stretches_add(stretches, span_from(odd + i * 128,
									    64 + i % 2 * 16)), 0);
	item = buffers_stretches_take(stretches, &window, MOST, OWNER);
	ck_assert_ptr_nonnull(item);
	ck_assert_uint_ge(item->base_address, start + LARGE);
	ck_assert_uint_lt(item->base_address, start + LARGE + 64 + LEAST);
	buffers_stretches_destroy(stretches);
}
END_TEST

#if UINTPTR_MAX > UINT32_MAX
/* The size of an item has 32 bits.  Nothing reads or writes the room. */
START_TEST(stretches_merge_up_to_the_largest_item)
{
	uintptr_t gib = (uintptr_t)1 << 30;
	struct buffers_stretches *stretches;
	struct buffers_item *item;

	ck_assert_int_eq(buffers_stretches_create(&stretches), 0);
	for (uintptr_t start = 4 * gib; start < 16 * gib; start += 3 * gib) {
		ck_assert_int_eq(buffers_stretches_begin(stretches, span_from(start, 3 * gib),
							 &item), 0);
		buffers_stretches_release(item);
	}
	ck_assert_uint_eq(buffers_stretches_sum(stretches, span_from(0, 32 * gib)), 12 * gib);
	buffers_stretches_destroy(stretches);
}
END_TEST
#endif

START_TEST(room_is_recorded_or_not_when_mappings_fail)
{
	enum { MANY = 1000, STEP = 8 };
	uintptr_t start = (uintptr_t)map_memory(MANY * STEP, false);
	struct buffers_window window = {
		.range = { start, start + MANY * STEP }, .size = STEP - 1, .alignment = 1,
	};
	struct buffers_stretches *stretches;
	unsigned added = 0;

	ck_assert_int_eq(buffers_stretches_create(&stretches), 0);
	mappings_left = 2;
	for (uintptr_t i = 0; i < MANY; i++) {
		struct buffers_span room = { start + i * STEP, start + i * STEP + STEP - 1 };
		int error = buffers_stretches_add(stretches, room);

		ck_assert(error == 0 || error == ENOMEM);
		added += error == 0;
		ck_assert_uint_eq(buffers_stretches_sum(stretches, room), error ? 0 : STEP - 1);
	}
	ck_assert_uint_gt(added, 0);
	/* Whole stretches are handed out without memory for nodes. */
	for (unsigned i = 0; i < added; i++)
		ck_assert_ptr_nonnull(buffers_stretches_take(stretches, &window, MOST, OWNER));
	ck_assert_ptr_null(buffers_stretches_take(stretches, &window, MOST, OWNER));
	mappings_left = 0;
	ck_assert_int_eq(buffers_stretches_create(&stretches), ENOMEM);
}
END_TEST

/* With 64 bits; nodes with 32 bits are smaller. */
START_TEST(nodes_of_merged_stretches_are_used_again)
{
	enum { MANY = 20000 };
	size_t page = buffers_platform_granularity();
	uintptr_t start = (uintptr_t)map_memory(2 * MANY, false);
	struct buffers_stretches *stretches;
	size_t chunks;

	ck_assert_int_eq(buffers_stretches_create(&stretches), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (uintptr_t i = 0; i < 2 * MANY; i += 2)
			ck_assert_int_eq(buffers_stretches_add(stretches, (struct buffers_span){
				start + i, start + i + 1 }), 0);
		chunks = stretches->chunk_count - 1;
		ck_assert_uint_le(chunks * (page - 16), 40 * MANY + page);
		for (uintptr_t i = 1; i < 2 * MANY; i += 2)
			ck_assert_int_eq(buffers_stretches_add(stretches, (struct buffers_span){
				start + i, start + i + 1 }), 0);
		ck_assert_ptr_nonnull(buffers_stretches_take(stretches, &(struct buffers_window){
			.range = { start, start + 2 * MANY }, .size = 2 * MANY, .alignment = 1,
		}, MOST, OWNER)->base_address == start ? stretches : NULL);
		ck_assert_uint_eq(stretches->chunk_count - 1, chunks);
		buffers_stretches_destroy(stretches);
		ck_assert_int_eq(buffers_stretches_create(&stretches), 0);
	}
}
END_TEST

static struct buffers_stretches *new_stretches(struct buffers_span room)
{
	struct buffers_stretches *stretches;

	ck_assert_int_eq(buffers_stretches_create(&stretches), 0);
	ck_assert_int_eq(buffers_stretches_add(stretches, room), 0);
	return stretches;
}

/* A signal handler may have interrupted the holder of the lock, or it was held at fork. */
START_TEST(release_takes_no_lock)
{
	uintptr_t start = (uintptr_t)map_memory(64, false);
	struct buffers_window window = {
		.range = { start, start + 64 }, .size = 64, .alignment = 1,
	};
	struct buffers_stretches *stretches = new_stretches(window.range);
	struct buffers_item *item;

	item = buffers_stretches_take(stretches, &window, MOST, OWNER);
	ck_assert_ptr_nonnull(item);
	stretches->is_locked = 1;
	buffers_stretches_release(item);
	stretches->is_locked = 0;
	ck_assert(buffers_stretches_may_suit(stretches, &window));
	item = buffers_stretches_take(stretches, &window, MOST, OWNER);
	ck_assert_ptr_nonnull(item);
	ck_assert_uint_eq(item->size, 64);
	window.size = 1;
	ck_assert(!buffers_stretches_may_suit(stretches, &window));
	buffers_stretches_destroy(stretches);
}
END_TEST

/* The first call waits; after it, a program that suspends threads gets its buffers at once. */
START_TEST(holder_of_the_lock_may_be_suspended)
{
	uintptr_t start = (uintptr_t)map_memory(64, false);
	struct buffers_window window = {
		.range = { start, start + 64 }, .size = 32, .alignment = 1,
	};
	struct buffers_stretches *stretches = new_stretches(span_from(start, 32));
	struct buffers_item *item;
	unsigned before;

	stretches->is_locked = 1;
	before = waits;
	ck_assert_ptr_null(buffers_stretches_take(stretches, &window, MOST, OWNER));
	ck_assert_uint_gt(waits, before);
	before = waits;
	ck_assert_ptr_null(buffers_stretches_take(stretches, &window, MOST, OWNER));
	ck_assert(!buffers_stretches_touch(stretches, span_from(start + 32, 32)));
	ck_assert_int_eq(buffers_stretches_try_begin(stretches, span_from(start + 32, 32), &item),
			 EBUSY);
	ck_assert(buffers_stretches_are_held(stretches));
	ck_assert_uint_eq(waits, before);
	stretches->is_locked = 0;	/* as the holder does */
	ck_assert_int_eq(buffers_stretches_try_begin(stretches, span_from(start + 32, 32), &item), 0);
	buffers_stretches_release(item);
	window.size = 64;
	ck_assert_ptr_nonnull(buffers_stretches_take(stretches, &window, MOST, OWNER));
	buffers_stretches_destroy(stretches);
}
END_TEST

/*
 * Threads
 */

enum { THREADS = 4, PIECE = 16, PIECES = 64 };
static unsigned char room_of_threads[THREADS * PIECES * PIECE] __attribute__((aligned(64)));

struct worker {
	pthread_t thread;
	struct buffers_stretches *stretches;
	unsigned rounds;
	unsigned number;
	bool has_failed;
};

static unsigned char *take_piece(struct worker *worker)
{
	struct buffers_window window = {
		.range = { (uintptr_t)room_of_threads,
			   (uintptr_t)room_of_threads + sizeof(room_of_threads) },
		.size = PIECE, .alignment = 1,
	};
	struct buffers_item *item = buffers_stretches_take(worker->stretches, &window, 4 * PIECE,
							   OWNER);
	uintptr_t address = 0;

	if (!item)
		return NULL;
	worker->has_failed |= buffers_item_reserve(item, PIECE, 1, &address) != 0;
	buffers_stretches_release(item);
	return (unsigned char *)address;
}

static void return_piece(struct worker *worker, const unsigned char *piece)
{
	uintptr_t start = (uintptr_t)piece;

	worker->has_failed |= piece[0] != worker->number || piece[PIECE - 1] != worker->number;
	worker->has_failed |= buffers_stretches_add(worker->stretches, (struct buffers_span){
		start, start + PIECE }) != 0;
}

/* Takes pieces and marks them, and returns them in another order. */
static void *take_and_return(void *context)
{
	struct worker *worker = context;
	unsigned char *pieces[PIECES];

	for (unsigned round = 0; round < worker->rounds && !worker->has_failed; round++) {
		unsigned count = 0;

		while (count < PIECES && (pieces[count] = take_piece(worker))) {
			worker->has_failed |= pieces[count][PIECE - 1] != 0;
			memset(pieces[count++], (int)worker->number, PIECE);
		}
		for (unsigned i = 0; i < count; i += 2)
			return_piece(worker, pieces[i]);
		for (unsigned i = 1; i < count; i += 2)
			return_piece(worker, pieces[i]);
	}
	return NULL;
}

START_TEST(threads_share_the_stretches)
{
	struct buffers_span all = {
		(uintptr_t)room_of_threads, (uintptr_t)room_of_threads + sizeof(room_of_threads),
	};
	static struct worker workers[THREADS];
	struct buffers_stretches *stretches;

	ck_assert_int_eq(buffers_stretches_create(&stretches), 0);
	ck_assert_int_eq(buffers_stretches_add(stretches, all), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){
			.stretches = stretches, .rounds = how_many(500, 20000), .number = i + 1,
		};
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, take_and_return,
						&workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
		ck_assert(!workers[i].has_failed);
	}
	ck_assert_uint_eq(buffers_stretches_sum(stretches, all), sizeof(room_of_threads));
	ck_assert(!buffers_stretches_are_held(stretches));
	buffers_stretches_destroy(stretches);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("unit/stretches");
	TCase *all = tcase_create("stretches");

	tcase_set_tags(all, "slow");
	tcase_set_timeout(all, 300);
	tcase_add_loop_test(all, stretches_are_as_the_map_of_bytes_says, 0, 2);
	tcase_add_loop_test(all, depth_is_logarithmic, 0, 3);
	tcase_add_test(all, depth_stays_logarithmic);
	tcase_add_loop_test(all, old_stretch_is_found_behind_many_others, 0, 4);
	tcase_add_test(all, merged_stretch_is_found_behind_many_others);
	tcase_add_test(all, room_of_used_up_item_merges);
#if CAN_FORK
	tcase_add_test(all, memory_of_nodes_is_unmapped);
#endif
	tcase_add_test(all, smallest_stretch_that_can_be_aligned_is_taken);
#if UINTPTR_MAX > UINT32_MAX
	tcase_add_test(all, stretches_merge_up_to_the_largest_item);
#endif
	tcase_add_test(all, room_is_recorded_or_not_when_mappings_fail);
	tcase_add_test(all, nodes_of_merged_stretches_are_used_again);
	tcase_add_test(all, release_takes_no_lock);
	tcase_add_test(all, holder_of_the_lock_may_be_suspended);
	tcase_add_test(all, threads_share_the_stretches);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
