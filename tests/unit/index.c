/* SPDX-License-Identifier: MIT */
/* unit/index: the index finds the same items as a linear walk, and reads few of them */

#include "config.h"
#include "locator/index.h"
#include "platform/platform.h"
#include "support/few-mappings.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define PAGE	  ((uintptr_t)0x1000)
#define MIB	  ((uintptr_t)1 << 20)
#define WORD_BITS (8 * (unsigned)sizeof(uintptr_t))

static const struct buffers_busy none_busy;
static const struct buffers_item_filter any = {
	.take = buffers_item_take, .is_free = buffers_item_is_free, .busy = &none_busy,
	.new_size = (size_t)64 << 10,
};

/*
 * A chain of locators for a linear walk, and its index
 */

enum { MAX_ITEMS = 24000 };

struct world {
	struct buffers_index *index;
	struct buffers_locator *first, *tail;
	unsigned capacity;	/* items in each locator */
	unsigned count;
	struct buffers_item *items[MAX_ITEMS];
};
static struct world world;

static uintptr_t page_of(const void *memory)
{
	return (uintptr_t)memory & ~(uintptr_t)(buffers_platform_granularity() - 1);
}

/* Zeroed memory, followed by an inaccessible page. */
static void *new_memory(size_t size)
{
	size_t page = buffers_platform_granularity();
	uintptr_t address;

	ck_assert_int_eq(__real_buffers_platform_map_anywhere(2 * page, BUFFERS_KIND_RW,
							      BUFFERS_MAP_PLAIN, &address),
			 0);
	protect((void *)(address + page), page, "---p");
	return (void *)(address + page - size);
}

static void free_memory(const void *memory)
{
	buffers_platform_unmap(page_of(memory), 2 * buffers_platform_granularity());
}

static struct buffers_index *new_index(void)
{
	return new_memory(buffers_platform_granularity());
}

static struct buffers_locator *new_locator(void)
{
	return buffers_locator_init((uintptr_t)new_memory(BUFFERS_LOCATOR_SIZE),
				    BUFFERS_LOCATOR_SIZE);
}

static void new_world(unsigned capacity)
{
	world.index = new_index();
	world.first = world.tail = new_locator();
	world.capacity = capacity;
	world.count = 0;
}

static void free_world(void)
{
	struct buffers_locator *next;

	for (struct buffers_locator *l = world.first; l; l = next) {
		next = buffers_locator_next(l);
		free_memory(l);
	}
	free_memory(world.index);
}

static void lengthen_chain(void)
{
	struct buffers_locator *locator = new_locator();

	world.tail->next_locator = (uintptr_t)locator;
	world.tail = locator;
}

/* Adds an item as other implementations do: first its bytes, then the count. */
static struct buffers_item *list_item(uintptr_t base, uint32_t size, uint32_t position)
{
	struct buffers_item *item;

	if (world.tail->num_items >= world.capacity)
		lengthen_chain();
	item = &world.tail->items[world.tail->num_items];
	*item = (struct buffers_item){ base, size, position, 0 };
	world.tail->num_items++;
	ck_assert_uint_lt(world.count, MAX_ITEMS);
	return world.items[world.count++] = item;
}

static struct buffers_window make_window(uintptr_t start, uintptr_t end, size_t size)
{
	return (struct buffers_window){ .range = { start, end }, .size = size, .alignment = 1 };
}

static struct buffers_item *take_item(uintptr_t start, uintptr_t end, size_t size)
{
	struct buffers_window wanted = make_window(start, end, size);

	return buffers_index_take(world.index, world.first, &wanted, &any);
}

static struct buffers_item *take_anywhere(size_t size)
{
	return take_item(0, UINTPTR_MAX, size);
}

static uintptr_t end_of(const struct buffers_item *item)
{
	return item->base_address + item->size;
}

/* Searches with a window that fits no other item. */
static bool is_found(const struct buffers_item *item)
{
	struct buffers_item *found = take_item(buffers_item_next(item), end_of(item),
					       buffers_item_room(item));

	if (found)
		buffers_item_release(found);
	return found == item;
}

static unsigned count_found(void)
{
	unsigned found = 0;

	for (unsigned i = 0; i < world.count; i++)
		found += is_found(world.items[i]);
	return found;
}

static bool is_caught_up(void)
{
	return world.index->tail == world.tail && world.index->count == world.tail->num_items;
}

/*
 * Random items and windows, compared with a linear walk
 */

static bool one_in(uint64_t *seed, unsigned many)
{
	return random_below(seed, many) == 0;
}

/* Less than 2^bits; all magnitudes are equally likely. */
static uintptr_t random_length(uint64_t *seed, unsigned bits)
{
	return (uintptr_t)random_below(seed, (uint64_t)1 << random_below(seed, bits + 1));
}

static uintptr_t random_end(uint64_t *seed)
{
	switch (random_below(seed, 3)) {
	case 0:
		return UINTPTR_MAX;
	case 1:
		return (uintptr_t)1 << (12 + random_below(seed, WORD_BITS - 12));
	default:
		return (uintptr_t)next_random(seed) | PAGE;
	}
}

/*
 * Disjoint buffers in random order, downward from a random end.  Returns how many, at most
 * `max`.
 */
static unsigned make_layout(struct buffers_span *buffers, unsigned max, uint64_t *seed)
{
	uintptr_t end = random_end(seed);
	unsigned count = 0;

	while (count < max) {
		uintptr_t gap = one_in(seed, 2) ? 0 : random_length(seed, 30);
		uintptr_t size = 1 + random_length(seed, 22);

		if (one_in(seed, 4))
			end &= ~(((uintptr_t)1 << random_below(seed, 24)) - 1);
		if (end <= gap || end - gap <= size)
			break;
		buffers[count++] = (struct buffers_span){ end - gap - size, end - gap };
		end -= gap + size;
	}
	for (unsigned i = count; i > 1; i--) {
		unsigned other = (unsigned)random_below(seed, i);
		struct buffers_span buffer = buffers[other];

		buffers[other] = buffers[i - 1];
		buffers[i - 1] = buffer;
	}
	return count;
}

static struct buffers_item *random_item(uint64_t *seed)
{
	return world.items[random_below(seed, world.count)];
}

/* Often the edge of an item, or a byte next to it. */
static uintptr_t random_point(uint64_t *seed)
{
	const struct buffers_item *item = random_item(seed);
	uintptr_t shift = (uintptr_t)random_below(seed, 3) - 1;

	switch (random_below(seed, 6)) {
	case 0:
		return 0;
	case 1:
		return UINTPTR_MAX;
	case 2:
		return (uintptr_t)next_random(seed);
	case 3:
		return item->base_address + shift;
	case 4:
		return buffers_item_next(item) + shift;
	default:
		return end_of(item) + shift;
	}
}

static struct buffers_window random_window(uint64_t *seed)
{
	const struct buffers_item *item = random_item(seed);
	struct buffers_window wanted = make_window(random_point(seed), random_point(seed),
						   1 + random_length(seed, 23));
	uintptr_t start = wanted.range.start;

	if (one_in(seed, 4))
		wanted.range = (struct buffers_span){ buffers_item_next(item), end_of(item) };
	else if (start > wanted.range.end && !one_in(seed, 10))
		wanted.range = (struct buffers_span){ wanted.range.end, start };
	if (one_in(seed, 2))
		wanted.size = 1 + (buffers_item_room(item) + random_below(seed, 3)) % (4 * MIB);
	if (one_in(seed, 3))
		wanted.alignment = (size_t)1 << random_below(seed, 20);
	return wanted;
}

static struct buffers_busy random_busy(uint64_t *seed)
{
	struct buffers_busy busy = { .count = (unsigned)random_below(seed, 3) };

	for (unsigned i = 0; i < busy.count; i++)
		busy.items[i] = random_item(seed);
	return busy;
}

/* Changes items without telling the index, as another copy of the library does. */
static void change_items(uint64_t *seed)
{
	for (uint64_t n = random_below(seed, 6); n > 0; n--) {
		struct buffers_item *item = random_item(seed);
		uint32_t room = buffers_item_room(item);

		if (one_in(seed, 4))
			item->is_taken = !item->is_taken;
		else if (one_in(seed, 4))
			item->position = item->size;
		else
			item->position += (uint32_t)random_below(seed, (uint64_t)room + 1);
	}
}

static bool suits(const struct buffers_item *item, const struct buffers_window *wanted,
		  const struct buffers_busy *busy)
{
	return !item->is_taken && !buffers_contention_is_near(busy, item) &&
	       buffers_item_fits(item, item->position, wanted);
}

static unsigned count_taken(void)
{
	unsigned taken = 0;

	for (unsigned i = 0; i < world.count; i++)
		taken += world.items[i]->is_taken;
	return taken;
}

/*
 * Counts the items with enough free space that cannot be taken.  Enough of them end a search
 * early.
 */
static unsigned count_refused(const struct buffers_window *wanted,
			      const struct buffers_busy *busy)
{
	unsigned count = 0;

	for (unsigned i = 0; i < world.count; i++)
		count += buffers_item_room(world.items[i]) >= wanted->size &&
			 !suits(world.items[i], wanted, busy);
	return count;
}

static struct buffers_item *check_take(const struct buffers_window *wanted,
				       const struct buffers_busy *busy)
{
	static bool is_allowed[MAX_ITEMS];
	struct buffers_item_filter choice = {
		.take = buffers_item_take, .is_free = buffers_item_is_free, .busy = busy,
		.new_size = UINT32_MAX,
	};
	unsigned taken = count_taken();
	bool is_expected = false;
	struct buffers_item *item;
	unsigned number = 0;

	for (unsigned i = 0; i < world.count; i++)
		is_expected |= is_allowed[i] = suits(world.items[i], wanted, busy);
	item = buffers_index_take(world.index, world.first, wanted, &choice);
	if (!item && is_expected) {
		ck_assert(world.index->hidden ||
			  count_refused(wanted, busy) >= BUFFERS_INDEX_PATIENCE);
		is_expected = false;
	}
	ck_assert_int_eq(item != NULL, is_expected);
	ck_assert_uint_eq(count_taken(), taken + is_expected);
	if (!item)
		return NULL;
	while (number < world.count && world.items[number] != item)
		number++;
	ck_assert_uint_lt(number, world.count);
	ck_assert(is_allowed[number]);
	ck_assert_uint_eq(item->is_taken, 1);
	return item;
}

/*
 * Returns whether an item was found.  Sometimes another thread has locked the index, or no
 * memory is left.
 */
static bool random_search(uint64_t *seed)
{
	struct buffers_window wanted = random_window(seed);
	struct buffers_busy busy = random_busy(seed);
	bool is_locked = one_in(seed, 8);
	struct buffers_item *item;

	change_items(seed);
	world.index->is_locked = is_locked;
	mappings_left = one_in(seed, 8) ? 0 : UINT32_MAX;
	item = check_take(&wanted, &busy);
	ck_assert_uint_eq(world.index->is_locked, is_locked);
	world.index->is_locked = 0;
	ck_assert(is_locked || mappings_left == 0 || is_caught_up() ||
		  world.capacity < BUFFERS_LOCATOR_CAPACITY);
	if (item && !one_in(seed, 3)) {
		item->position += (uint32_t)random_below(seed, wanted.size + 1);
		buffers_item_release(item);
	}
	return item;
}

START_TEST(index_finds_what_a_linear_walk_finds)
{
	static struct buffers_span buffers[1000];
	uint64_t seed = seed_random();
	unsigned searches = 0;
	unsigned finds = 0;

	for (unsigned round = 0; round < (is_slow() ? 40 : how_many(400, 4000)); round++) {
		unsigned max = 1 + (unsigned)random_length(&seed, 10) % 1000;
		unsigned count = make_layout(buffers, max, &seed);
		unsigned some = (unsigned)random_below(&seed, count + 1);

		new_world(one_in(&seed, 2) ? BUFFERS_LOCATOR_CAPACITY :
			  1 + (unsigned)random_below(&seed, BUFFERS_LOCATOR_CAPACITY));
		for (unsigned i = 0; i < count; searches++) {
			for (unsigned end = i + 1; i < count && (i < end || i < some); i++)
				list_item(buffers[i].start,
					  (uint32_t)(buffers[i].end - buffers[i].start), 0);
			finds += random_search(&seed);
			if (one_in(&seed, 20))
				some = count;
		}
		for (unsigned i = 0; count && i < 50; i++, searches++)
			finds += random_search(&seed);
		free_world();
	}
	printf("%u searches, %u finds\n", searches, finds);
	/* A quarter on average; a few layouts decide when only 40 are tried. */
	ck_assert_uint_gt(finds, searches / (is_slow() ? 50 : 8));
}
END_TEST

/*
 * Single facts
 */

/* The used part and the free part lie on different sides of a power of two. */
START_TEST(item_whose_used_part_lies_below_the_range_is_found)
{
	uintptr_t middle = PAGE << _i;
	struct buffers_item *item;

	new_world(BUFFERS_LOCATOR_CAPACITY);
	for (uintptr_t i = 1; i < 16; i++) {
		list_item(middle - 16 * PAGE / 32 - i * 16, 16, 0);
		list_item(middle + 64 + i * 16, 16, 0);
	}
	item = list_item(middle - 64, 128, 64);
	ck_assert_ptr_eq(take_item(middle, middle + 64, 64), item);
	ck_assert_ptr_null(take_item(middle, middle + 64, 1));
	buffers_item_release(item);
	ck_assert_ptr_null(take_item(middle + 1, middle + 64, 1));
	ck_assert_ptr_null(take_item(middle, middle + 63, 1));
}
END_TEST

static struct buffers_span next_page(void)
{
	uintptr_t start = MIB + world.count * PAGE;

	return (struct buffers_span){ start, start + PAGE };
}

static void list_pages(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		list_item(next_page().start, PAGE, 0);
}

static void register_next_page(void)
{
	struct buffers_locator *tail = buffers_index_tail(world.index, world.first);
	struct buffers_item *item;

	ck_assert_int_eq(buffers_locator_register(tail, BUFFERS_KIND_RWX, next_page(), &item), 0);
	buffers_item_release(item);
	world.items[world.count++] = item;
	if (buffers_locator_next(world.tail))
		world.tail = buffers_locator_next(world.tail);
}

START_TEST(items_added_later_are_found)
{
	new_world(BUFFERS_LOCATOR_CAPACITY);
	for (unsigned i = 0; i < 3 * BUFFERS_LOCATOR_CAPACITY; i++) {
		if (i % 2)
			register_next_page();
		else
			list_pages(1);
		ck_assert(is_found(world.items[i]));
	}
	ck_assert_uint_eq(count_found(), world.count);
	ck_assert(is_caught_up());
}
END_TEST

/* Whether a linear walk finds the bytes in one item. */
static bool is_in_any(uintptr_t address, size_t size)
{
	for (unsigned i = 0; i < world.count; i++)
		if (address >= world.items[i]->base_address && address < end_of(world.items[i]) &&
		    size <= end_of(world.items[i]) - address)
			return true;
	return false;
}

START_TEST(bytes_of_an_item_are_recognized)
{
	static struct buffers_span buffers[200];
	uint64_t seed = seed_random();
	unsigned count = make_layout(buffers, 200, &seed);

	new_world(BUFFERS_LOCATOR_CAPACITY);
	ck_assert(!buffers_index_contains(world.index, MIB, 1));
	for (unsigned i = 0; i < count; i++)
		list_item(buffers[i].start, (uint32_t)(buffers[i].end - buffers[i].start), 0);
	take_anywhere(1);
	ck_assert(count == 0 || is_caught_up());
	for (unsigned i = 0; i < count; i++) {
		uintptr_t start = buffers[i].start;
		size_t size = buffers[i].end - start;

		ck_assert(buffers_index_contains(world.index, start, size));
		ck_assert(buffers_index_contains(world.index, start + size - 1, 1));
		for (int offset = -1; offset < 2; offset++) {
			size_t some = 1 + random_below(&seed, 2 * size);
			uintptr_t at = start + (uintptr_t)offset + random_below(&seed, size);

			ck_assert_int_eq(buffers_index_contains(world.index, at, some),
					 is_in_any(at, some));
		}
	}
}
END_TEST

START_TEST(tail_is_the_last_locator)
{
	new_world(BUFFERS_LOCATOR_CAPACITY);
	ck_assert_ptr_eq(buffers_index_tail(world.index, world.first), world.first);
	for (unsigned i = 0; i < 3 * BUFFERS_LOCATOR_CAPACITY; i++) {
		struct buffers_item *item;

		list_pages(1);
		item = take_anywhere(1);
		ck_assert_ptr_nonnull(item);
		item->position = item->size;
		ck_assert_ptr_eq(buffers_index_tail(world.index, world.first), world.tail);
	}
	ck_assert_ptr_ne(world.tail, world.first);
}
END_TEST

/*
 * The other implementation writes the fields in either order.  Searches run after each step, as if
 * in other threads.
 */
START_TEST(item_counted_before_it_is_written_is_found)
{
	struct buffers_item *item;

	new_world(BUFFERS_LOCATOR_CAPACITY);
	list_item(MIB, PAGE, 0);
	ck_assert(is_found(world.items[0]));
	item = &world.tail->items[world.tail->num_items];
	world.tail->is_locked = 1;
	world.tail->num_items++;
	ck_assert_ptr_eq(take_anywhere(1), world.items[0]);
	ck_assert_ptr_null(take_anywhere(1));
	if (_i)
		item->base_address = 2 * MIB;
	else
		item->size = PAGE;
	ck_assert_ptr_null(take_anywhere(1));
	item->base_address = 2 * MIB;
	item->size = PAGE;
	world.tail->is_locked = 0;
	ck_assert(is_found(item));
	ck_assert(is_caught_up());
}
END_TEST

/* The twin's items have another layout.  The index does not wait for its locators to fill up. */
START_TEST(index_continues_behind_locators_of_the_twin)
{
	new_world(BUFFERS_LOCATOR_CAPACITY);
	for (unsigned i = 0; i < 3; i++) {
		world.tail->reserved[0] = 0;
		world.tail->reserved[1] = 3;
		world.tail->items[1] = (struct buffers_item){ (i + 1) * MIB, PAGE, 0, 0 };
		lengthen_chain();
	}
	list_item(16 * MIB, PAGE, 0);
	ck_assert_ptr_eq(take_anywhere(1), world.items[0]);
	ck_assert(is_caught_up());
	ck_assert_ptr_null(take_anywhere(1));
}
END_TEST

/* A process was killed while it held the locator's lock, so that is never released. */
START_TEST(items_after_one_that_is_never_written_are_found)
{
	new_world(BUFFERS_LOCATOR_CAPACITY);
	list_item(0, 0, 0);
	world.tail->is_locked = 1;
	list_pages(2 * BUFFERS_LOCATOR_CAPACITY);
	for (unsigned i = 1; i < world.count; i++)
		ck_assert(is_found(world.items[i]));
}
END_TEST

/* The state of the index: usable, locked by another thread, or full with no memory left. */
enum { HEALTHY, LOCKED, OUT_OF_MEMORY, STATES };

static void set_state(int state)
{
	uintptr_t end = page_of(world.index) + buffers_platform_granularity();

	world.index->is_locked = state == LOCKED;
	mappings_left = state == OUT_OF_MEMORY ? 0 : UINT32_MAX;
	if (state == OUT_OF_MEMORY)	/* the index's own page is full, too */
		world.index->nodes = world.index->nodes_end = end;
}

static const struct {
	const char *fact;
	uintptr_t base;
	uint32_t size, position;
} invalid_items[] = {
	{ "base 0", 0, PAGE, 0 },
	{ "base 0, some used", 0, 8 * PAGE, PAGE },
	{ "used more than its size", 2 * MIB, PAGE, PAGE + 1 },
	{ "the largest used value", 2 * MIB, PAGE, UINT32_MAX },
	{ "end above all addresses", UINTPTR_MAX - PAGE + 2, PAGE, 0 },
	{ "free space that begins above all addresses", UINTPTR_MAX - 15, PAGE, 0x100 },
	{ "size 0", 2 * MIB, 0, 0 },
	{ "all fields 0", 0, 0, 0 },
	{ "size 0 within another", 10 * MIB + 8, 0, 0 },
	{ "size 0 where another ends", 12 * MIB + PAGE, 0, 0 },
	{ "size 0, and base + UINT32_MAX is another's last byte",
	  12 * MIB + PAGE - 1 - UINT32_MAX, 0, 0 },
	{ "size 0, some used", 2 * MIB, 0, 1 },
};
enum { INVALID_ITEMS = sizeof(invalid_items) / sizeof(invalid_items[0]) };

START_TEST(invalid_item_is_not_handed_out_and_hides_no_other)
{
	int number = _i / STATES;

	new_world(BUFFERS_LOCATOR_CAPACITY);
	for (uintptr_t i = 0; i < 3; i++) {
		list_item((10 + i) * MIB, PAGE, 0);
		list_item(invalid_items[number].base, invalid_items[number].size,
			  invalid_items[number].position);
	}
	set_state(_i % STATES);
	for (unsigned i = 0; i < 6; i += 2)
		ck_assert_msg(take_anywhere(1) == world.items[i], "%s", invalid_items[number].fact);
	ck_assert_msg(!take_anywhere(1), "%s", invalid_items[number].fact);
}
END_TEST

START_TEST(same_memory_listed_twice_is_handed_out_once)
{
	new_world(BUFFERS_LOCATOR_CAPACITY);
	for (unsigned twice = 0; twice < 2; twice++)
		for (unsigned i = 0; i < 3; i++)
			list_item(MIB + i * PAGE, PAGE, 0);
	list_item(2 * MIB, PAGE, 0);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_ptr_nonnull(take_anywhere(1));
	ck_assert_ptr_null(take_anywhere(1));
	ck_assert_uint_eq(count_taken(), 4);
	for (unsigned i = 3; i < 6; i++)
		ck_assert_uint_eq(world.items[i]->is_taken, 0);
}
END_TEST

START_TEST(locator_that_counts_too_many_items_hides_no_other)
{
	new_world(BUFFERS_LOCATOR_CAPACITY);
	list_pages(BUFFERS_LOCATOR_CAPACITY);
	world.first->num_items = 255;
	lengthen_chain();
	list_pages(1);
	set_state(_i);
	ck_assert_uint_eq(count_found(), world.count);
}
END_TEST

START_TEST(locked_index_is_not_changed_and_all_items_are_found)
{
	size_t size = buffers_platform_granularity();
	void *before = malloc(size);

	new_world(BUFFERS_LOCATOR_CAPACITY);
	list_pages((unsigned)_i * 30);
	ck_assert_uint_eq(count_found(), world.count);
	list_pages(500);
	world.items[0]->position = PAGE - 8;
	world.index->is_locked = 1;
	memcpy(before, world.index, size);	/* includes its first nodes */
	ck_assert_ptr_null(take_item(MIB, MIB + PAGE, PAGE));
	ck_assert_uint_eq(count_found(), world.count);
	ck_assert_mem_eq(world.index, before, size);
	world.index->is_locked = 0;
	ck_assert_uint_eq(count_found(), world.count);
	ck_assert(is_caught_up());
	free(before);
}
END_TEST

/* As in a child that was forked while another thread changed the index. */
START_TEST(copy_of_an_index_amid_a_change_is_usable)
{
	new_world(BUFFERS_LOCATOR_CAPACITY);
	list_pages(30);
	ck_assert_uint_eq(count_found(), world.count);
	list_pages(500);
	world.index->is_locked = 1;
	world.index->nodes_end = 0;
	buffers_index_inherit(world.index);
	ck_assert_uint_eq(count_found(), world.count);
	ck_assert(is_caught_up());
	buffers_index_inherit(world.index);
	ck_assert_uint_eq(count_found(), world.count);
}
END_TEST

START_TEST(without_memory_for_nodes_items_are_found_and_indexed_later)
{
	/* A node takes at least four words. */
	size_t nodes = (1 + (size_t)_i) * buffers_platform_granularity() / (4 * sizeof(uintptr_t));

	new_world(BUFFERS_LOCATOR_CAPACITY);
	mappings_left = (unsigned)_i;
	list_pages((unsigned)nodes + 1000);
	ck_assert_uint_eq(count_found(), world.count);
	ck_assert_uint_eq(mappings_left, 0);
	ck_assert(!is_caught_up());
	mappings_left = UINT32_MAX;
	ck_assert(is_found(world.items[0]));
	ck_assert(is_caught_up());
	mappings_left = 0;
	ck_assert_uint_eq(count_found(), world.count);
}
END_TEST

/*
 * Locators that a search must not read are inaccessible
 */

enum { MANY = 5000 };

static void protect_page(const void *memory, const char *permissions)
{
	protect((void *)page_of(memory), buffers_platform_granularity(), permissions);
}

static void protect_full_locators(void)
{
	struct buffers_locator *next;

	for (struct buffers_locator *l = world.first; l != world.tail; l = next) {
		next = buffers_locator_next(l);
		protect_page(l, "---p");
	}
}

/* A search without a result. */
static void update_index(void)
{
	ck_assert_ptr_null(take_item(0, 1, 1));
	ck_assert(is_caught_up());
}

/* Fills locators with items, then adds the item with the n-th lowest address to a new one. */
static struct buffers_item *list_many(unsigned n)
{
	struct buffers_span page = { MIB + n * PAGE, MIB + (n + 1) * PAGE };
	unsigned many = MANY - MANY % BUFFERS_LOCATOR_CAPACITY + BUFFERS_LOCATOR_CAPACITY;

	new_world(BUFFERS_LOCATOR_CAPACITY);
	for (unsigned i = 0; i < many; i++)
		list_item(MIB + (i < n ? i : i + 1) * PAGE, PAGE, 0);
	return list_item(page.start, PAGE, 0);
}

/*
 * A thread that keeps all its items must not slow down each search, but a free item must be found
 * eventually.
 */
START_TEST(held_items_are_tried_a_few_at_a_time)
{
	enum { HELD = 1000 };
	struct buffers_item *item = NULL;
	unsigned searches = 0;

	new_world(BUFFERS_LOCATOR_CAPACITY);
	list_pages(HELD);
	for (unsigned i = 0; i < HELD; i++)
		world.items[i]->is_taken = i != (unsigned)_i * (HELD - 1) / 4;
	for (; !item; searches++) {
		item = take_anywhere(1);
		ck_assert_uint_le(searches, HELD / BUFFERS_INDEX_PATIENCE + 2);
	}
	ck_assert_ptr_eq(item, world.items[(unsigned)_i * (HELD - 1) / 4]);
	ck_assert_ptr_null(take_anywhere(1));
}
END_TEST

/*
 * Bounds of the number of items
 */

enum { RANGE = 16 << 20, BUFFER = 64 << 10 };

/* Lists items at the low end of a range: the user holds them, or their rest suits no alignment. */
static void list_failing(unsigned range, unsigned count, bool is_held)
{
	for (unsigned i = 0; i < count; i++)
		list_item((1 + range) * (uintptr_t)RANGE + i * BUFFER, BUFFER,
			  is_held ? 0 : BUFFER - 56)->is_taken = is_held;
}

/* Takes an item of a range, or adds one, as a copy of the library does. */
static struct buffers_item *take_or_add(unsigned range, size_t size, size_t alignment,
					unsigned *added)
{
	uintptr_t start = (1 + range) * (uintptr_t)RANGE;
	struct buffers_window wanted = make_window(start, start + RANGE, size);
	struct buffers_item *item;

	wanted.alignment = alignment;
	item = buffers_index_take(world.index, world.first, &wanted, &any);
	if (item)
		return item;
	item = list_item(start + RANGE / 2 + *added % 100 * BUFFER, BUFFER, 0);
	item->is_taken = 1;
	++*added;
	return item;
}

/* Ranges in turn, each with many items at its low end that fail: later calls find the new items. */
START_TEST(items_that_fail_in_several_ranges_do_not_conceal_new_ones)
{
	static const unsigned many[] = { 1, 2, 9, 40 };
	const unsigned ranges = many[_i / 2];
	unsigned added = 0;

	new_world(BUFFERS_LOCATOR_CAPACITY);
	for (unsigned range = 0; range < ranges; range++)
		list_failing(range, 40, _i % 2);
	for (unsigned call = 0; call < 100 * ranges; call++)
		buffers_item_release(take_or_add(call % ranges, 48, 64, &added));
	ck_assert_uint_eq(added, ranges);
}
END_TEST

/* Only the last of many items has an aligned address with enough room behind it. */
START_TEST(item_that_suits_an_alignment_is_found_behind_items_that_do_not)
{
	static const struct { size_t size, alignment; } wanted[] = {
		{ 48, 4096 }, { 48, BUFFER }, { BUFFER - 16, 64 }, { BUFFER, 16 }, { 48, 2 << 20 },
	};
	unsigned added = 0;
	struct buffers_item *item;

	new_world(BUFFERS_LOCATOR_CAPACITY);
	for (unsigned i = 1; i <= 80; i++)
		list_item(RANGE + i * (uintptr_t)(2 * BUFFER) + 8, 2 * BUFFER - 16,
			  2 * BUFFER - 17 - (uint32_t)wanted[_i].size);
	item = list_item(2 * RANGE - (2 << 20), BUFFER, 0);
	for (unsigned call = 0; call < 3; call++) {
		ck_assert_ptr_eq(take_or_add(0, wanted[_i].size, wanted[_i].alignment, &added), item);
		buffers_item_release(item);
	}
}
END_TEST

static struct buffers_item *take_thoroughly(size_t size)
{
	struct buffers_window wanted = make_window(0, UINTPTR_MAX, size);
	struct buffers_item_filter thorough = any;

	thorough.is_thorough = true;
	return buffers_index_take(world.index, world.first, &wanted, &thorough);
}

/*
 * The last resort of a caller that cannot add an item.  Finding the item shows it.  If another
 * thread has locked the index, each search is thorough.
 */
START_TEST(thorough_search_finds_hidden_items)
{
	struct buffers_item *item;

	new_world(BUFFERS_LOCATOR_CAPACITY);
	list_failing(0, 200, true);
	ck_assert_ptr_null(take_anywhere(1));
	ck_assert_uint_eq(world.index->hidden, 200);
	item = world.items[150];
	item->is_taken = 0;
	world.index->is_locked = _i == 1;
	ck_assert_ptr_eq(_i == 1 ? take_anywhere(1) : take_thoroughly(1), item);
	ck_assert_uint_eq(world.index->hidden, _i == 1 ? 200 : 199);
	buffers_item_release(item);
	ck_assert_ptr_eq(take_anywhere(1), item);
}
END_TEST

/* An item alone has no node above it. */
START_TEST(hidden_item_is_found_when_it_is_the_only_one)
{
	struct buffers_item *item;

	new_world(BUFFERS_LOCATOR_CAPACITY);
	item = list_item(MIB, PAGE, 0);
	item->is_taken = 1;
	ck_assert_ptr_null(take_anywhere(1));
	ck_assert_uint_eq(world.index->hidden, 1);
	item->is_taken = 0;
	ck_assert_ptr_eq(take_anywhere(1), item);
}
END_TEST

/* A thread of the parent had locked the index, and had added nothing yet. */
START_TEST(child_can_search_the_copy_of_an_empty_index)
{
	new_world(BUFFERS_LOCATOR_CAPACITY);
	world.index->is_locked = 1;
	buffers_index_inherit(world.index);
	ck_assert_uint_eq(world.index->is_locked, 0);
	ck_assert_ptr_null(take_anywhere(1));
	ck_assert_ptr_null(take_thoroughly(1));
}
END_TEST

/* The holder shows the item; no search has to look for it. */
START_TEST(item_that_its_holder_shows_is_found)
{
	struct buffers_item_filter filter = any;
	struct buffers_window wanted = make_window(0, UINTPTR_MAX, 1);
	struct buffers_item *item;

	filter.mark_hidden = buffers_item_mark_hidden;
	new_world(BUFFERS_LOCATOR_CAPACITY);
	item = list_item(MIB, PAGE, 0);
	item->is_taken = BUFFERS_TAKEN;
	ck_assert_ptr_null(buffers_index_take(world.index, world.first, &wanted, &filter));
	ck_assert_uint_eq(item->is_taken, BUFFERS_TAKEN | BUFFERS_TAKEN_HIDDEN);
	buffers_item_release(item);
	buffers_index_show(world.index, item);
	ck_assert_uint_eq(world.index->hidden, 0);
	ck_assert_ptr_eq(take_anywhere(1), item);
}
END_TEST

/* Searches hid the items while they were held. */
START_TEST(released_items_are_found_again)
{
	enum { HELD = 100, RANGES = 2 };
	unsigned added = 0;
	unsigned before;

	new_world(BUFFERS_LOCATOR_CAPACITY);
	for (unsigned range = 0; range < RANGES; range++)
		list_failing(range, HELD, true);
	for (unsigned call = 0; call < 20; call++)
		buffers_item_release(take_or_add(call % RANGES, 1, 1, &added));
	ck_assert_uint_eq(world.index->hidden, RANGES * HELD);
	for (unsigned i = 0; i < world.count; i++)
		world.items[i]->is_taken = 0;
	before = world.count;
	for (unsigned call = 0; call < before; call++)
		take_or_add(call % RANGES, 1, 1, &added);
	ck_assert_uint_le(world.count, before + before / 32);
}
END_TEST

/*
 * The library never leaves a locator partly filled, but other implementations may, and may add
 * items later.
 */
START_TEST(item_added_later_to_a_partly_filled_locator_is_found)
{
	struct buffers_locator *first;
	struct buffers_item *item;

	new_world(1);
	list_pages(2);
	first = world.first;
	ck_assert_ptr_ne(world.tail, first);
	for (unsigned i = 0; i < 2; i++) {
		item = take_anywhere(1);
		ck_assert_ptr_nonnull(item);
		item->position = item->size;
	}
	first->items[1] = (struct buffers_item){ .base_address = 16 * MIB, .size = 64 };
	__atomic_store_n(&first->num_items, 2, __ATOMIC_RELEASE);
	ck_assert_ptr_eq(take_anywhere(1), &first->items[1]);
}
END_TEST

/* Only the item with the highest address has free space, so a search must pass all others. */
START_TEST(full_items_are_not_read)
{
	bool is_found_full = _i;	/* by a search; otherwise already when indexed */
	struct buffers_item *item = list_many(MAX_ITEMS);

	if (is_found_full)
		update_index();
	for (unsigned i = 0; i < world.count - 1; i++)
		world.items[i]->position = PAGE - 8;
	if (is_found_full)
		ck_assert_ptr_eq(take_anywhere(16), item);
	buffers_item_release(item);
	update_index();
	protect_full_locators();
	ck_assert_ptr_eq(take_anywhere(16), item);
	world.index->is_locked = 1;	/* or the search would hide the item, and look for hidden ones */
	ck_assert_ptr_null(take_anywhere(16));
}
END_TEST

/* Looking for free ones among the hidden items passes over all others. */
START_TEST(hidden_item_does_not_make_searches_read_others)
{
	struct buffers_item *item = list_many(MAX_ITEMS);

	for (unsigned i = 0; i < world.count - 1; i++)
		world.items[i]->position = PAGE - 8;
	update_index();
	protect_full_locators();
	for (unsigned turn = 0; turn < 3; turn++) {
		item->is_taken = 1;
		ck_assert_ptr_null(take_anywhere(16));
		ck_assert_uint_eq(world.index->hidden, 1);
		ck_assert_ptr_null(take_anywhere(16));
		item->is_taken = 0;
		ck_assert_ptr_eq(take_anywhere(16), item);
		ck_assert_uint_eq(world.index->hidden, 0);
	}
}
END_TEST

/* A search that learns nothing new does not write to the index either. */
START_TEST(items_out_of_range_are_not_read)
{
	static const unsigned positions[] = { 0, 1, 2500, 4095, MANY - 1 };
	struct buffers_item *item = list_many(positions[_i]);

	update_index();
	protect_full_locators();
	protect_page(world.index, "r--p");
	ck_assert(is_found(item));
	item->position = PAGE - 8;
	ck_assert(is_found(item));
}
END_TEST

/*
 * Threads: two copies of the library take items while another implementation adds some
 */

enum { TAKERS = 7, MAX_PAGES = 1 << 14 };
#define SHARED_END	(shared.start + MAX_PAGES * PAGE)

static struct shared {
	uintptr_t start;	/* reserved: no rest of a locator's page lies here */
	struct buffers_locator *first;
	uint32_t *used;		/* for each byte of the range, whether it was handed out */
	uint32_t pages;		/* listed, or about to be */
	bool counts_first;	/* the other implementation counts an item before it writes it */
} shared;

struct taker {
	pthread_t thread;
	struct buffers_index *index;
	uint64_t seed;
	unsigned count;
	const char *fault;
};

static uintptr_t listed_memory(void)
{
	return shared.start + __atomic_load_n(&shared.pages, __ATOMIC_RELAXED) * PAGE;
}

static uintptr_t next_unlisted_page(void)
{
	return shared.start + __atomic_fetch_add(&shared.pages, 1, __ATOMIC_RELAXED) * PAGE;
}

static bool is_handed_out_twice(uintptr_t address, size_t size)
{
	bool is_used = false;

	for (size_t i = 0; i < size; i++)
		is_used |= __atomic_exchange_n(&shared.used[address - shared.start + i], 1,
					       __ATOMIC_RELAXED) != 0;
	return is_used;
}

static void write_item(struct buffers_item *item, bool base_first)
{
	uintptr_t base = next_unlisted_page();

	if (base_first)
		memcpy(item, &base, sizeof(base));
	sched_yield();		/* lets other threads see a partly written item */
	__atomic_store_n(&item->size, (uint32_t)PAGE, __ATOMIC_RELEASE);
	sched_yield();
	if (!base_first)
		memcpy(item, &base, sizeof(base));
}

/* The caller must hold the lock, and the locator must have a free slot. */
static void add_item(struct buffers_locator *locator)
{
	unsigned count = locator->num_items;

	if (!shared.counts_first)
		write_item(&locator->items[count], count % 2);
	__atomic_store_n(&locator->num_items, (uint8_t)(count + 1), __ATOMIC_RELEASE);
	if (shared.counts_first)
		write_item(&locator->items[count], count % 2);
}

/* Thread of the other implementation. */
static void *add_items(void *context)
{
	struct buffers_locator *locator = shared.first;
	struct buffers_locator *next;
	unsigned left = how_many(3000, 8000);

	while (left > 0) {
		while (!buffers_lock_try(&locator->is_locked))
			sched_yield();
		next = buffers_locator_next(locator);
		if (locator->num_items < BUFFERS_LOCATOR_CAPACITY) {
			add_item(locator);
			left--;
		} else if (!next && buffers_locator_create(BUFFERS_KIND_RWX, &next) == 0) {
			__atomic_store_n(&locator->next_locator, (uintptr_t)next, __ATOMIC_RELEASE);
		}
		buffers_lock_release(&locator->is_locked);
		locator = next ? next : locator;
	}
	return context;
}

static struct buffers_window random_shared_window(uint64_t *seed)
{
	uintptr_t start = shared.start + random_below(seed, listed_memory() - shared.start + 1);
	struct buffers_window wanted = make_window(shared.start, SHARED_END,
						1 + random_below(seed, 500));

	if (!one_in(seed, 4))
		wanted.range = (struct buffers_span){
			start, start + random_below(seed, 8 * PAGE) };
	wanted.alignment = (size_t)1 << random_below(seed, 6);
	return wanted;
}

static bool is_in_use(const struct taker *taker, uintptr_t address, size_t size)
{
	struct buffers_item *last;

	return buffers_index_check_use(taker->index, shared.first, BUFFERS_KIND_RWX,
				       (struct buffers_span){ address, address + size },
				       &last) == 0;
}

/*
 * The library's threads add items as well, but less often.  The thread of the other implementation
 * yields with the lock held, so on a busy system they may wait for longer than the library does.
 */
static const char *register_page(struct taker *taker)
{
	uintptr_t start = next_unlisted_page();
	struct buffers_item *item;
	int error;

	do
		error = buffers_locator_register(buffers_index_tail(taker->index, shared.first),
						 BUFFERS_KIND_RWX,
						 (struct buffers_span){ start, start + PAGE },
						 &item);
	while (error == EBUSY);
	if (error)
		return "an item could not be listed";
	buffers_item_set_position(item, 16);
	if (is_handed_out_twice(start, 16))
		return "a byte of a new item was handed out twice";
	buffers_item_release(item);
	return is_in_use(taker, start, 16) ? NULL : "a byte of a new item is not in use";
}

static const char *use_item(struct taker *taker)
{
	struct buffers_window wanted = random_shared_window(&taker->seed);
	struct buffers_item *item = buffers_index_take(taker->index, shared.first, &wanted,
						       &any);
	uintptr_t address;

	if (!item)
		return one_in(&taker->seed, 32) &&
		       listed_memory() < shared.start + MAX_PAGES / 2 * PAGE ?
		       register_page(taker) : NULL;
	if (!buffers_item_is_taken(item))
		return "an item is not marked as taken";
	if (!buffers_item_fits(item, buffers_item_position(item), &wanted))
		return "an item does not fit";
	if (buffers_item_reserve(item, wanted.size, wanted.alignment, &address) != 0)
		return "an item has too little free space";
	if (is_handed_out_twice(address, wanted.size))
		return "a byte was handed out twice";
	if (!is_in_use(taker, address, wanted.size))
		return "a byte that was handed out is not in use";
	taker->count++;
	if (one_in(&taker->seed, 16))
		sched_yield();	/* lets other threads find it taken */
	buffers_item_release(item);
	return NULL;
}

static void *use_items(void *context)
{
	struct taker *taker = context;

	for (unsigned i = 0; i < how_many(20000, 200000) && !taker->fault; i++)
		taker->fault = use_item(taker);
	return NULL;
}

static void take_remaining_space(struct buffers_index *index)
{
	struct buffers_window wanted = make_window(shared.start, SHARED_END, 1);
	struct buffers_item *item;

	while ((item = buffers_index_take(index, shared.first, &wanted, &any))) {
		ck_assert(!is_handed_out_twice(buffers_item_next(item), buffers_item_room(item)));
		buffers_item_set_position(item, item->size);
		buffers_item_release(item);
	}
}

static void check_nothing_remains(void)
{
	unsigned count = 0;
	unsigned left = 0;

	for (struct buffers_locator *l = shared.first; l; l = buffers_locator_next(l))
		for (unsigned i = 0; i < l->num_items; i++) {
			if (l->items[i].base_address - shared.start >= MAX_PAGES * PAGE)
				continue;
			left += l->items[i].is_taken || buffers_item_room(&l->items[i]);
			count++;
		}
	ck_assert_uint_eq(left, 0);
	ck_assert_uint_eq(count, shared.pages);
}

START_TEST(each_byte_is_handed_out_to_one_thread)
{
	struct buffers_index *indexes[2] = { new_index(), new_index() };
	struct taker takers[TAKERS];
	uint64_t seed = seed_random();
	pthread_t adder;

	SKIP_IF(_i && is_tsan(), "counting an item before writing it is a data race");
	shared = (struct shared){
		.start = (uintptr_t)reserve(0, MAX_PAGES * PAGE),
		.first = new_locator(),
		.used = calloc(MAX_PAGES * PAGE, sizeof(uint32_t)),
		.counts_first = _i,
	};
	ck_assert_ptr_nonnull(shared.used);
	for (unsigned i = 0; i < TAKERS; i++) {
		takers[i] = (struct taker){ .index = indexes[i % 2],
					    .seed = next_random(&seed) };
		ck_assert_int_eq(pthread_create(&takers[i].thread, NULL, use_items,
						&takers[i]), 0);
	}
	ck_assert_int_eq(pthread_create(&adder, NULL, add_items, NULL), 0);
	ck_assert_int_eq(pthread_join(adder, NULL), 0);
	for (unsigned i = 0; i < TAKERS; i++)
		ck_assert_int_eq(pthread_join(takers[i].thread, NULL), 0);
	for (unsigned i = 0; i < TAKERS; i++) {
		ck_assert_msg(!takers[i].fault, "%s", takers[i].fault);
		printf("%u takes, ", takers[i].count);
	}
	printf("%u items\n", shared.pages);
	take_remaining_space(indexes[_i]);
	check_nothing_remains();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("unit/index");
	TCase *random = tcase_create("random");
	TCase *facts = tcase_create("facts");
	TCase *threads = tcase_create("threads");

	tcase_add_test(random, index_finds_what_a_linear_walk_finds);
	suite_add_tcase(suite, random);

	tcase_add_loop_test(facts, item_whose_used_part_lies_below_the_range_is_found, 0,
			    (int)WORD_BITS - 12);
	tcase_add_test(facts, items_added_later_are_found);
	tcase_add_test(facts, bytes_of_an_item_are_recognized);
	tcase_add_test(facts, tail_is_the_last_locator);
	tcase_add_loop_test(facts, held_items_are_tried_a_few_at_a_time, 0, 5);
	tcase_add_loop_test(facts, items_that_fail_in_several_ranges_do_not_conceal_new_ones, 0, 8);
	tcase_add_loop_test(facts, item_that_suits_an_alignment_is_found_behind_items_that_do_not,
			    0, 5);
	tcase_add_test(facts, released_items_are_found_again);
	tcase_add_loop_test(facts, thorough_search_finds_hidden_items, 0, 2);
	tcase_add_test(facts, hidden_item_is_found_when_it_is_the_only_one);
	tcase_add_test(facts, child_can_search_the_copy_of_an_empty_index);
	tcase_add_test(facts, item_that_its_holder_shows_is_found);
	tcase_add_test(facts, item_added_later_to_a_partly_filled_locator_is_found);
	tcase_add_loop_test(facts, item_counted_before_it_is_written_is_found, 0, 2);
	tcase_add_test(facts, index_continues_behind_locators_of_the_twin);
	tcase_add_test(facts, items_after_one_that_is_never_written_are_found);
	tcase_add_loop_test(facts, invalid_item_is_not_handed_out_and_hides_no_other, 0,
			    INVALID_ITEMS * STATES);
	tcase_add_test(facts, same_memory_listed_twice_is_handed_out_once);
	tcase_add_loop_test(facts, locator_that_counts_too_many_items_hides_no_other, 0, STATES);
	tcase_add_loop_test(facts, locked_index_is_not_changed_and_all_items_are_found, 0, 3);
	tcase_add_test(facts, copy_of_an_index_amid_a_change_is_usable);
	tcase_add_loop_test(facts, without_memory_for_nodes_items_are_found_and_indexed_later, 0,
			    5);
	tcase_add_loop_test(facts, full_items_are_not_read, 0, 2);
	tcase_add_test(facts, hidden_item_does_not_make_searches_read_others);
	tcase_add_loop_test(facts, items_out_of_range_are_not_read, 0, 5);
	suite_add_tcase(suite, facts);

	tcase_set_timeout(threads, 300);
	tcase_add_loop_test(threads, each_byte_is_handed_out_to_one_thread, 0, 2);
	suite_add_tcase(suite, threads);
	return run_suite(suite);
}
