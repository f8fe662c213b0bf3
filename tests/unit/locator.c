/* SPDX-License-Identifier: MIT */
/* unit/locator: the shared layout, items and their locks, the chain of locators */

#include "config.h"
#include "locator/walk.h"
#include "locator/rendezvous.h"
#include "platform/platform.h"
#include "reloaded/buffers.h"
#include "support/support.h"
#if CAN_FORK
# include "support/sandbox.h"
#endif

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#if CAN_FORK
# include <signal.h>
# include <sys/ptrace.h>
# include <sys/wait.h>
# include <unistd.h>
#endif

#define KIB ((size_t)1 << 10)

/* Counts the pages that the locator code maps, less those that it unmaps. */
static size_t mapped_pages;
int __real_buffers_platform_map_anywhere(size_t size, enum buffers_kind kind,
					enum buffers_map_flags flags, uintptr_t *address);
int __wrap_buffers_platform_map_anywhere(size_t size, enum buffers_kind kind,
					enum buffers_map_flags flags, uintptr_t *address);
int __real_buffers_platform_unmap(uintptr_t address, size_t size);
int __wrap_buffers_platform_unmap(uintptr_t address, size_t size);

int __wrap_buffers_platform_map_anywhere(size_t size, enum buffers_kind kind,
					enum buffers_map_flags flags, uintptr_t *address)
{
	__atomic_fetch_add(&mapped_pages, 1, __ATOMIC_RELAXED);
	sched_yield();		/* makes races more likely */
	return __real_buffers_platform_map_anywhere(size, kind, flags, address);
}

int __wrap_buffers_platform_unmap(uintptr_t address, size_t size)
{
	__atomic_fetch_sub(&mapped_pages, 1, __ATOMIC_RELAXED);
	return __real_buffers_platform_unmap(address, size);
}

static bool is_64_bit(void)
{
	return sizeof(uintptr_t) == 8;
}

START_TEST(fields_have_the_published_offsets)
{
	static const struct {
		size_t here, on_64, on_32;
	} fields[] = {
		{ offsetof(struct buffers_locator, this_address), 0, 0 },
		{ offsetof(struct buffers_locator, next_locator), 8, 4 },
		{ offsetof(struct buffers_locator, is_locked), 16, 8 },
		{ offsetof(struct buffers_locator, flags), 20, 12 },
		{ offsetof(struct buffers_locator, num_items), 21, 13 },
		{ offsetof(struct buffers_locator, reserved), 22, 14 },
		{ offsetof(struct buffers_locator, items), 24, 16 },
		{ offsetof(struct buffers_item, base_address), 0, 0 },
		{ offsetof(struct buffers_item, size), 8, 4 },
		{ offsetof(struct buffers_item, position), 12, 8 },
		{ offsetof(struct buffers_item, is_taken), 16, 12 },
		{ sizeof(struct buffers_item), 20, 16 },
		{ sizeof(((struct buffers_locator *)0)->items) / sizeof(struct buffers_item),
		  203, 255 },
		{ BUFFERS_LOCATOR_CAPACITY, 203, 255 },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		ck_assert_uint_eq(fields[i].here, is_64_bit() ? fields[i].on_64 : fields[i].on_32);
}
END_TEST

static uintptr_t aligned_memory(size_t size)
{
	void *memory = new_pages(size);

	memset(memory, 0, size);
	return (uintptr_t)memory;
}

/* If pages are larger than a locator, the rest of its page is listed as well. */
static bool is_rest(const struct buffers_locator *locator, const struct buffers_item *item)
{
	size_t at = 4 * KIB + 16 * KIB * (size_t)(item - locator->items);

	return at < buffers_platform_granularity() &&
	       item->base_address == (uintptr_t)locator + at;
}

static unsigned count_all_but_rests(const struct buffers_locator *locator)
{
	unsigned count = 0;

	for (unsigned i = 0; i < locator->num_items; i++)
		count += !is_rest(locator, &locator->items[i]);
	return count;
}

static struct buffers_locator *new_locator(void)
{
	return buffers_locator_init(aligned_memory(BUFFERS_LOCATOR_SIZE), BUFFERS_LOCATOR_SIZE);
}

/* Reads single bytes, as another implementation with its own structure definition does. */
START_TEST(bytes_of_an_item_have_the_published_positions)
{
	struct buffers_locator *locator = new_locator();
	const unsigned char *bytes = (const unsigned char *)locator;
	size_t word = sizeof(uintptr_t);
	size_t first = 2 * word + 8;
	struct buffers_item *item;
	uintptr_t address;
	uint32_t number;

	ck_assert_int_eq(buffers_locator_register(
		locator, BUFFERS_KIND_RWX, (struct buffers_span){ 0x10000, 0x30000 }, &item), 0);
	ck_assert_int_eq(buffers_item_reserve(item, 0x1234, 1, &address), 0);
	memcpy(&address, bytes, word);
	ck_assert_uint_eq(address, (uintptr_t)locator);
	memcpy(&address, bytes + word, word);
	ck_assert_uint_eq(address, 0);
	ck_assert_uint_eq(bytes[2 * word + 4], 0);
	ck_assert_uint_eq(bytes[2 * word + 5], 1);
	ck_assert_uint_eq(bytes[2 * word + 6], 0x52);
	ck_assert_uint_eq(bytes[2 * word + 7], is_64_bit() ? 203 : 255);
	memcpy(&address, bytes + first, word);
	ck_assert_uint_eq(address, 0x10000);
	memcpy(&number, bytes + first + word, 4);
	ck_assert_uint_eq(number, 0x20000);
	memcpy(&number, bytes + first + word + 4, 4);
	ck_assert_uint_eq(number, 0x1234);
	memcpy(&number, bytes + first + word + 8, 4);
	ck_assert_uint_eq(number, 1);
}
END_TEST

START_TEST(rest_of_a_large_page_is_listed_in_parts_of_16_kib)
{
	uintptr_t address = aligned_memory(64 * KIB);
	struct buffers_locator *locator = buffers_locator_init(address, 64 * KIB);
	uintptr_t expected = address + 4 * KIB;

	ck_assert(buffers_locator_is_valid(locator));
	ck_assert_uint_eq(locator->num_items, 4);
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_uint_eq(locator->items[i].base_address, expected);
		ck_assert_uint_eq(locator->items[i].size, i < 3 ? 16 * KIB : 12 * KIB);
		ck_assert_uint_eq(locator->items[i].is_taken, 0);
		ck_assert_uint_eq(locator->items[i].position, 0);
		expected += locator->items[i].size;
	}
	ck_assert_uint_eq(expected, address + 64 * KIB);
}
END_TEST

START_TEST(invalid_bytes_are_not_a_locator)
{
	struct buffers_locator good;
	struct buffers_locator *locator = new_locator();
	struct buffers_item *item;

	ck_assert_int_eq(buffers_locator_register(
		locator, BUFFERS_KIND_RWX, (struct buffers_span){ 0x10000, 0x20000 }, &item), 0);
	good = *locator;
	ck_assert(buffers_locator_is_valid(locator));
#define BREAKS(change)						\
	do {							\
		change;						\
		ck_assert(!buffers_locator_is_valid(locator));	\
		*locator = good;				\
		ck_assert(buffers_locator_is_valid(locator));	\
	} while (0)
	BREAKS(locator->this_address++);
	BREAKS(locator->flags = 1);
	BREAKS(locator->flags = 8);
	BREAKS(locator->items[0].base_address = 0);
	BREAKS(locator->items[0].base_address = UINTPTR_MAX - 0xffff);
	if (is_64_bit())
		BREAKS(locator->num_items = 204);
#undef BREAKS
}
END_TEST

/* The native implementation does not clear the bytes of a new locator. */
START_TEST(locator_with_any_reserved_bytes_is_valid)
{
	struct buffers_locator *locator = new_locator();

	for (unsigned i = 0; i < 256; i++) {
		locator->reserved[_i] = (uint8_t)i;
		ck_assert(buffers_locator_is_valid(locator));
	}
}
END_TEST

static void fill_with_leftovers(struct buffers_locator *locator)
{
	for (unsigned i = 0; i < BUFFERS_LOCATOR_CAPACITY; i++)
		locator->items[i] = (struct buffers_item){
			.base_address = (i + 1) * (uintptr_t)0x10000, .size = 0x1000,
		};
}

/* The items that either layout counts stay; the other slots become empty for both. */
START_TEST(locator_of_another_implementation_is_closed_to_the_twin)
{
	struct buffers_locator *locator = new_locator();

	fill_with_leftovers(locator);
	locator->num_items = 2;
	locator->reserved[0] = 0x36;
	locator->reserved[1] = 5;
	locator->is_locked = 1;
	ck_assert_uint_eq(buffers_locator_usable(locator), 0);
	ck_assert_uint_eq(locator->reserved[0], 0x36);
	locator->is_locked = 0;
	ck_assert_uint_eq(buffers_locator_usable(locator), 2);
	ck_assert_uint_eq(locator->is_locked, 0);
	ck_assert_uint_eq(locator->reserved[0], 0x53);
	ck_assert_uint_eq(locator->reserved[1], BUFFERS_LOCATOR_CAPACITY);
	for (unsigned i = 0; i < BUFFERS_LOCATOR_CAPACITY; i++)
		ck_assert_uint_eq(locator->items[i].base_address,
				  i < 5 ? (i + 1) * (uintptr_t)0x10000 : 0);
}
END_TEST

/* The reserved bytes and the count of a locator. */
static const struct {
	uint8_t mark, twin_count, num_items;
	bool is_twins;
} headers[] = {
	{ 0, 1, 0, true }, { 0, 3, 2, true }, { 7, 3, 0, true },
	{ 0, 0, 0, false }, { 0, 0, 2, false }, { 7, 0, 2, false }, { 7, 3, 2, false },
	{ 0x52, 3, 0, true }, { 0x52, 3, 2, false },
	{ 0x52, BUFFERS_LOCATOR_CAPACITY, 0, false }, { 0x53, BUFFERS_LOCATOR_CAPACITY, 2, false },
};

START_TEST(locators_of_the_twin_are_recognized_and_left_alone)
{
	struct buffers_locator *locator = new_locator();
	struct buffers_item *item;

	fill_with_leftovers(locator);
	locator->reserved[0] = headers[_i].mark;
	locator->reserved[1] = headers[_i].twin_count;
	locator->num_items = headers[_i].num_items;
	ck_assert_int_eq(buffers_locator_is_twins(locator), headers[_i].is_twins);
	ck_assert(buffers_locator_is_valid(locator));
	ck_assert_uint_eq(buffers_locator_usable(locator),
			  headers[_i].is_twins ? 0 : headers[_i].num_items);
	ck_assert_int_eq(buffers_locator_register(
		locator, BUFFERS_KIND_RWX, (struct buffers_span){ 0x10000, 0x20000 }, &item), 0);
	ck_assert_int_eq(item == &locator->items[headers[_i].num_items], !headers[_i].is_twins);
	ck_assert_uint_eq(locator->num_items, headers[_i].num_items + !headers[_i].is_twins);
}
END_TEST

/* Other implementations append without a bound. */
START_TEST(item_with_a_position_beyond_its_end_has_no_room)
{
	static const uint32_t positions[] = { 0x10001, 0x10002, 0x80000000, UINT32_MAX };
	const struct buffers_window anywhere = {
		.range = { 0, UINTPTR_MAX }, .size = 1, .alignment = 1,
	};
	struct buffers_locator *locator = new_locator();
	struct buffers_item *item;

	ck_assert_int_eq(buffers_locator_register(
		locator, BUFFERS_KIND_RWX, (struct buffers_span){ 0x10000, 0x20000 }, &item), 0);
	buffers_item_release(item);
	for (size_t i = 0; i < sizeof(positions) / sizeof(positions[0]); i++) {
		buffers_item_set_position(item, positions[i]);
		ck_assert(buffers_locator_is_valid(locator));
		ck_assert_uint_eq(buffers_item_room(item), 0);
		ck_assert(!buffers_item_take(item, &anywhere));
	}
	buffers_item_set_position(item, 0xffff);
	ck_assert(buffers_item_take(item, &anywhere));
}
END_TEST

static struct buffers_window make_window(uintptr_t start, uintptr_t end, size_t size,
					 size_t alignment)
{
	return (struct buffers_window){
		.range = { start, end }, .size = size, .alignment = alignment,
	};
}

/* An empty index at the start of a page, as a new copy of the library has it. */
static struct buffers_index *new_index(void)
{
	return (struct buffers_index *)aligned_memory(buffers_platform_granularity());
}

static struct buffers_item *take_item(struct buffers_locator *locator, uintptr_t start,
				      uintptr_t end, size_t size, size_t alignment)
{
	struct buffers_window wanted = make_window(start, end, size, alignment);
	struct buffers_index *index = new_index();
	struct buffers_busy none_busy = { .count = 0 };
	struct buffers_item_filter any = {
		.take = buffers_item_take, .is_free = buffers_item_is_free, .busy = &none_busy,
	};
	struct buffers_item *item = buffers_index_take(index, locator, &wanted, &any);

	free_pages(index);
	return item;
}

static struct buffers_item *register_free(struct buffers_locator *locator, uintptr_t start,
					  uintptr_t end)
{
	struct buffers_item *item;

	ck_assert_int_eq(buffers_locator_register(
		locator, BUFFERS_KIND_RWX, (struct buffers_span){ start, end }, &item), 0);
	buffers_item_release(item);
	return item;
}

START_TEST(item_fits_if_its_free_space_is_in_the_range)
{
	struct buffers_locator *locator = new_locator();
	struct buffers_item *item = register_free(locator, 0x10000, 0x20000);
	uintptr_t address;

#define FITS(...)								\
	do {									\
		ck_assert_ptr_eq(take_item(locator, __VA_ARGS__), item);		\
		buffers_item_release(item);					\
	} while (0)
#define FITS_NOT(...) ck_assert_ptr_null(take_item(locator, __VA_ARGS__))
	FITS(0x10000, 0x20000, 0x10000, 1);
	FITS(0, UINTPTR_MAX, 1, 0x10000);
	FITS_NOT(0x10001, 0x20000, 1, 1);
	FITS_NOT(0x10000, 0x1ffff, 1, 1);
	FITS_NOT(0x10000, 0x20000, 0x10001, 1);
	FITS_NOT(0x10000, 0x20000, 1, 0x20000);

	ck_assert_int_eq(buffers_item_reserve(item, 0x1001, 1, &address), 0);
	FITS(0x11001, 0x20000, 0xefff, 1);
	FITS_NOT(0x11002, 0x20000, 1, 1);
	FITS(0, 0x20000, 0xeffe, 2);
	FITS_NOT(0, 0x20000, 0xefff, 2);
	FITS(0, 0x20000, 0xe000, 0x2000);
	FITS_NOT(0, 0x20000, 0xe001, 0x2000);

	ck_assert_int_eq(buffers_item_reserve(item, 0xefff, 1, &address), 0);
	FITS_NOT(0, UINTPTR_MAX, 1, 1);
#undef FITS
#undef FITS_NOT
}
END_TEST

START_TEST(taken_item_is_skipped)
{
	struct buffers_locator *locator = new_locator();
	struct buffers_item *first = register_free(locator, 0x10000, 0x20000);
	struct buffers_item *second = register_free(locator, 0x30000, 0x40000);

	ck_assert_ptr_eq(take_item(locator, 0, UINTPTR_MAX, 1, 1), first);
	ck_assert_ptr_eq(take_item(locator, 0, UINTPTR_MAX, 1, 1), second);
	ck_assert_ptr_null(take_item(locator, 0, UINTPTR_MAX, 1, 1));
	buffers_item_release(first);
	ck_assert_ptr_eq(take_item(locator, 0, UINTPTR_MAX, 1, 1), first);
}
END_TEST

START_TEST(buffer_of_4_gib_is_listed_a_byte_short)
{
	struct buffers_locator *locator = new_locator();
	struct buffers_item *item;

	SKIP_IF(!is_64_bit(), "the address space is too small");
	item = register_free(locator, 0x10000, 0x10000 + ((uintptr_t)1 << 16 << 16));
	ck_assert_uint_eq(item->size, UINT32_MAX);
	ck_assert_uint_eq(buffers_item_room(item), UINT32_MAX);
}
END_TEST

START_TEST(full_locators_are_chained)
{
	struct buffers_locator *locator = new_locator();
	enum { MANY = 5 * 255 };
	uintptr_t start = (uintptr_t)reserve(0, MANY * 0x10000);	/* unused addresses */
	unsigned length = 0;
	unsigned total = 0;

	for (uintptr_t i = 0; i < MANY; i++)
		register_free(locator, start + i * 0x10000, start + (i + 1) * 0x10000);
	for (struct buffers_locator *l = locator; l;
	     l = (struct buffers_locator *)l->next_locator) {
		ck_assert(buffers_locator_is_valid(l));
		ck_assert(!l->next_locator || l->num_items == BUFFERS_LOCATOR_CAPACITY);
		length++;
		total += count_all_but_rests(l);
	}
	ck_assert_uint_gt(length, 3);
	ck_assert_uint_eq(total, MANY);
	for (uintptr_t i = 0; i < MANY; i++)
		ck_assert_ptr_nonnull(take_item(locator, start + i * 0x10000,
						start + (i + 1) * 0x10000,
					   0x10000, 1));
	ck_assert_ptr_null(take_item(locator, start, start + MANY * 0x10000, 1, 1));
}
END_TEST

/*
 * Threads
 */

enum { THREADS = 8 };

static void run_threads(void *(*body)(void *), void *context)
{
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, body, context), 0);
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}

struct group {
	pthread_barrier_t start;
	struct buffers_root roots[2];	/* for two copies of the library */
	struct buffers_locator *first;
	struct buffers_locator *seen[THREADS];
	uintptr_t memory;		/* address range to be listed */
	unsigned number;
};

static void group_init(struct group *group, struct buffers_locator *first)
{
	*group = (struct group){ .first = first };
	ck_assert_int_eq(pthread_barrier_init(&group->start, NULL, THREADS), 0);
}

static void *find_first(void *context)
{
	struct group *group = context;
	unsigned me = __atomic_fetch_add(&group->number, 1, __ATOMIC_RELAXED);

	pthread_barrier_wait(&group->start);
	buffers_rendezvous_first(&group->roots[me % 2], BUFFERS_KIND_RWX, &group->seen[me]);
	return NULL;
}

#if CAN_FORK
/*
 * Signed rendezvous files, which copies of the library write for each other
 */

struct signed_file {
	uint64_t words[4];	/* words[0] is the address on little-endian systems */
	char signature[16];
	uint64_t root, token, pid_namespace, address;
	char rest[4096 - 80];
};

static struct buffers_root publisher;
static struct buffers_locator *published;

static void publish_locator(void)
{
	published = new_locator();
	publisher = (struct buffers_root){ (uintptr_t)published, 4711, published };
}

static struct signed_file make_signed_file(void)
{
	struct signed_file file = {
		.signature = "reloaded-buffers",
		.root = (uintptr_t)&publisher,
		.token = 4711,
		.pid_namespace = buffers_platform_pid_namespace(),
		.address = (uintptr_t)published,
	};

	memcpy(file.words, &published, sizeof(published));
	return file;
}

/*
 * Writes the file, and finds the first locator as another copy does.  Returns whether that is the
 * published one; *is_replaced tells whether the copy replaced the file.
 */
static bool is_followed(const struct signed_file *file, bool *is_replaced)
{
	struct buffers_root root = { .offered = 0 };
	struct buffers_locator *found;
	unsigned long long before;

	make_dir(SHARED_DIR);
	write_file(rendezvous_path(NULL, getpid()), file, sizeof(*file));
	make_old(rendezvous_path(NULL, getpid()));
	before = read_address(rendezvous_path(NULL, getpid()));
	ck_assert_int_eq(buffers_rendezvous_first(&root, BUFFERS_KIND_RWX, &found), 0);
	*is_replaced = read_address(rendezvous_path(NULL, getpid())) != before;
	unlink(rendezvous_path(NULL, getpid()));
	unlink(rendezvous_path(own_dir(), getpid()));
	return found == published;
}

START_TEST(signed_file_is_followed_if_its_root_confirms_it)
{
	struct signed_file file;
	bool is_replaced;

	SKIP_IF(!sandbox_tmp(NULL), "no private /tmp");
	publish_locator();
	file = make_signed_file();
	ck_assert(is_followed(&file, &is_replaced));
	ck_assert(!is_replaced);

	file.token++;
	ck_assert(!is_followed(&file, &is_replaced));
	ck_assert(is_replaced);
	file = make_signed_file();
	file.root += 4096 * 1024;
	ck_assert(!is_followed(&file, &is_replaced));
	ck_assert(is_replaced);
	file = make_signed_file();
	publisher.offered = 0;
	ck_assert(!is_followed(&file, &is_replaced));
	ck_assert(is_replaced);
	publisher.offered = (uintptr_t)published;
	ck_assert(is_followed(&file, &is_replaced));
}
END_TEST

START_TEST(signed_file_of_another_pid_namespace_is_kept)
{
	struct signed_file file;
	bool is_replaced;

	SKIP_IF(!sandbox_tmp(NULL), "no private /tmp");
	publish_locator();
	file = make_signed_file();
	file.pid_namespace++;
	ck_assert(!is_followed(&file, &is_replaced));
	ck_assert(!is_replaced);
	file.pid_namespace = 0;	/* written without /proc: only the root can confirm it */
	ck_assert(is_followed(&file, &is_replaced));
	file.token++;
	ck_assert(!is_followed(&file, &is_replaced));
	ck_assert(!is_replaced);
}
END_TEST

/* Another implementation has reused an old file of this library for its own locator. */
START_TEST(signature_of_another_address_is_ignored)
{
	struct signed_file file;
	bool is_replaced;

	SKIP_IF(!sandbox_tmp(NULL), "no private /tmp");
	publish_locator();
	file = make_signed_file();
	file.address = 0x10000;
	file.token++;
	ck_assert(is_followed(&file, &is_replaced));
	ck_assert(!is_replaced);
}
END_TEST

/*
 * Rendezvous files of threads that race to create the first locator
 */

static bool has_sandbox;	/* not possible with a sanitizer's threads */

static void open_sandbox(void)
{
	has_sandbox = sandbox_tmp(NULL);
}

/* Writes a file that an earlier program with this process id left behind. */
static void leave_stale_file(void)
{
	const char *dir = has_sandbox ? SHARED_DIR : own_dir();
	size_t stale_page[512] = { (size_t)1 << 20 };

	make_dir(dir);
	write_file(rendezvous_path(dir, getpid()), stale_page, sizeof(stale_page));
}

static void check_file_count(unsigned count)
{
	ck_assert(!has_sandbox || count_files(SHARED_DIR) == count);
}
#else
static void open_sandbox(void)
{
}

static void leave_stale_file(void)
{
}

static void check_file_count(unsigned count)
{
	(void)count;
}
#endif

START_TEST(racing_threads_get_the_same_first_locator)
{
	bool has_stale_file = _i;
	size_t offered = 0;

	open_sandbox();
	for (unsigned round = 0; round < how_many(300, 3000); round++) {
		struct group group;

		group_init(&group, NULL);
		if (has_stale_file)
			leave_stale_file();
		run_threads(find_first, &group);
		ck_assert_ptr_nonnull(group.seen[0]);
		ck_assert(buffers_locator_is_valid(group.seen[0]));
		for (unsigned i = 0; i < THREADS; i++)
			ck_assert_ptr_eq(group.seen[i], group.seen[0]);
		for (unsigned i = 0; i < 2; i++)
			ck_assert_ptr_eq(group.roots[i].first, group.seen[0]);
		check_file_count(1);
		buffers_rendezvous_withdraw(group.roots[round % 2].first, BUFFERS_KIND_RWX);
		check_file_count(0);
		for (unsigned i = 0; i < 2; i++)
			offered += group.roots[i].offered != 0;
		ck_assert_uint_eq(mapped_pages, offered);
		pthread_barrier_destroy(&group.start);
	}
}
END_TEST

enum { PER_THREAD = 500 };

static void *register_many(void *context)
{
	struct group *group = context;
	uintptr_t me = __atomic_fetch_add(&group->number, 1, __ATOMIC_RELAXED);

	pthread_barrier_wait(&group->start);
	for (uintptr_t i = 0; i < PER_THREAD; i++) {
		uintptr_t start = group->memory + (me * PER_THREAD + i) * 0x1000;
		struct buffers_item *item = NULL;

		buffers_locator_register(group->first, BUFFERS_KIND_RWX,
					 (struct buffers_span){ start, start + 0x1000 }, &item);
		if (item && item->base_address == start)
			buffers_item_release(item);
	}
	return NULL;
}

START_TEST(buffers_registered_concurrently_are_listed_once)
{
	struct group group;
	static unsigned seen[THREADS * PER_THREAD];
	unsigned total = 0;
	unsigned length = 0;

	group_init(&group, new_locator());
	group.memory = (uintptr_t)reserve(0, sizeof(seen) / sizeof(seen[0]) * 0x1000);
	run_threads(register_many, &group);
	for (struct buffers_locator *l = group.first; l;
	     l = (struct buffers_locator *)l->next_locator) {
		ck_assert(buffers_locator_is_valid(l));
		length++;
		total += count_all_but_rests(l);
		for (unsigned i = 0; i < l->num_items; i++) {
			ck_assert_uint_eq(l->items[i].is_taken, 0);
			if (!is_rest(l, &l->items[i]))
				seen[(l->items[i].base_address - group.memory) / 0x1000]++;
		}
	}
	ck_assert_uint_eq(total, THREADS * PER_THREAD);
	ck_assert_uint_eq(mapped_pages, length - 1);	/* the test mapped the first one itself */
	for (unsigned i = 0; i < THREADS * PER_THREAD; i++)
		ck_assert_uint_eq(seen[i], 1);
}
END_TEST

/*
 * A race between the check for free space and the lock: all threads see the free space, but only
 * one at a time can take the item, so the others must check again.  The threads reserve 999 bytes
 * in pieces of 3.  If a thread did not check again, they would get more.
 */
static void *drain_item(void *context)
{
	struct group *group = context;
	uintptr_t address;

	pthread_barrier_wait(&group->start);
	for (;;) {
		struct buffers_item *item = take_item(group->first, 0, UINTPTR_MAX, 3, 1);

		if (item) {
			if (buffers_item_room(item) < 3 ||
			    buffers_item_reserve(item, 3, 1, &address) != 0)
				abort();
			__atomic_fetch_add(&group->number, 3, __ATOMIC_RELAXED);
			buffers_item_release(item);
		} else if (__atomic_load_n(&group->number, __ATOMIC_RELAXED) >= 999) {
			return NULL;
		}
	}
}

START_TEST(free_space_used_between_check_and_lock_is_noticed)
{
	for (unsigned round = 0; round < how_many(200, 200); round++) {
		struct group group;

		group_init(&group, new_locator());
		register_free(group.first, 0x10000, 0x10000 + 1000);
		run_threads(drain_item, &group);
		ck_assert_uint_eq(group.number, 999);
		ck_assert_uint_eq(group.first->items[0].position, 999);
	}
}
END_TEST

static int stop_at_third(const struct buffers_info *info, void *context)
{
	unsigned *count = context;

	ck_assert_ptr_nonnull(info->base);
	return ++*count == 3 ? 42 : 0;
}

START_TEST(walk_ends_with_the_visitors_result)
{
	struct buffers_locator *locator = new_locator();
	unsigned count = 0;

	for (uintptr_t i = 1; i < 10; i++)
		register_free(locator, i * 0x10000, (i + 1) * 0x10000);
	ck_assert_int_eq(buffers_walk_chain(NULL, locator, BUFFERS_KIND_RWX, stop_at_third, &count),
			 42);
	ck_assert_uint_eq(count, 3);
	ck_assert_int_eq(buffers_walk_chain(NULL, NULL, BUFFERS_KIND_RWX, stop_at_third, &count), 0);
	ck_assert_uint_eq(count, 3);
}
END_TEST

#if CAN_FORK

/*
 * A holder that works between two reads of a walk: the lock of its item is on a page of its own,
 * which cannot be read at first.
 */
static struct buffers_item *held;

static void append_and_release(int number)
{
	(void)number;
	protect(&held->is_taken, granularity(), "rw-");
	held->position = 2;
	held->is_taken = 0;
}

static struct buffers_locator *list_held_item(void)
{
	size_t lock = offsetof(struct buffers_locator, items) +
		      offsetof(struct buffers_item, is_taken);
	char *pages = map_memory(2 * granularity(), false);
	struct buffers_locator *locator = (void *)(pages + granularity() - lock);

	buffers_locator_set_mark(locator, BUFFERS_MARK_OWN);
	locator->num_items = 1;
	held = locator->items;
	*held = (struct buffers_item){ .base_address = 0x10000, .size = 16, .position = 1,
				       .is_taken = 1 };
	return locator;
}

static int copy_info(const struct buffers_info *info, void *context)
{
	*(struct buffers_info *)context = *info;
	return 0;
}

static bool is_valgrind(void)
{
	const char *preloaded = getenv("LD_PRELOAD");

	return preloaded && strstr(preloaded, "vgpreload");
}

START_TEST(walk_reads_use_and_lock_of_one_moment)
{
	struct sigaction action = { .sa_handler = append_and_release };
	const struct buffers_locator *locator = list_held_item();
	struct buffers_info info;

	SKIP_IF(is_valgrind(), "valgrind does not stop exactly at the fault");
	ck_assert_int_eq(sigaction(SIGSEGV, &action, NULL), 0);
	protect(&held->is_taken, granularity(), "---");
	ck_assert_int_eq(buffers_walk_chain(NULL, locator, BUFFERS_KIND_RWX, copy_info, &info),
			 0);
	ck_assert_uint_eq(held->is_taken, 0);
	ck_assert_uint_ge(info.used, 1);
	/* The item never was free with one byte in use. */
	ck_assert(info.taken || info.used == 2);
}
END_TEST

/* A child that stops before and after it marks the locator, and exits. */
static void mark_stepped(struct buffers_locator *locator)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
		_exit(77);
	raise(SIGSTOP);
	buffers_locator_set_mark(locator, BUFFERS_MARK_CLOSED);
	raise(SIGSTOP);
	_exit(0);
}

/* Another thread may look after any instruction. */
START_TEST(locator_that_is_being_marked_is_not_taken_for_the_twins)
{
	struct buffers_locator *locator = map_memory(granularity(), true);
	pid_t child;
	int status;

	SKIP_IF(is_valgrind(), "the steps would be those of valgrind");
	locator->num_items = 1;
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		mark_stepped(locator);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	SKIP_IF(!WIFSTOPPED(status), "no process can be traced here");
	do {
		ck_assert(!buffers_locator_is_twins(locator));
		ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(child, &status, 0), child);
	} while (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
	ck_assert(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	ck_assert(buffers_locator_has_mark(locator, BUFFERS_MARK_CLOSED));
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
}
END_TEST

#endif

int main(void)
{
	Suite *suite = suite_create("unit/locator");
	TCase *layout = tcase_create("layout");
	TCase *items = tcase_create("items");
	TCase *threads = tcase_create("threads");

	tcase_add_test(layout, fields_have_the_published_offsets);
	tcase_add_test(layout, bytes_of_an_item_have_the_published_positions);
	tcase_add_test(layout, rest_of_a_large_page_is_listed_in_parts_of_16_kib);
	tcase_add_test(layout, invalid_bytes_are_not_a_locator);
	tcase_add_loop_test(layout, locator_with_any_reserved_bytes_is_valid, 0, 2);
	tcase_add_test(layout, locator_of_another_implementation_is_closed_to_the_twin);
	tcase_add_loop_test(layout, locators_of_the_twin_are_recognized_and_left_alone, 0,
			    sizeof(headers) / sizeof(headers[0]));
	tcase_add_test(layout, item_with_a_position_beyond_its_end_has_no_room);
	suite_add_tcase(suite, layout);

	tcase_add_test(items, item_fits_if_its_free_space_is_in_the_range);
	tcase_add_test(items, taken_item_is_skipped);
	tcase_add_test(items, buffer_of_4_gib_is_listed_a_byte_short);
	tcase_add_test(items, full_locators_are_chained);
	tcase_add_test(items, walk_ends_with_the_visitors_result);
#if CAN_FORK
	tcase_add_test(items, walk_reads_use_and_lock_of_one_moment);
	tcase_add_test(items, locator_that_is_being_marked_is_not_taken_for_the_twins);
#endif
	suite_add_tcase(suite, items);

	tcase_set_timeout(threads, 300);
#if CAN_FORK
	tcase_add_test(threads, signed_file_is_followed_if_its_root_confirms_it);
	tcase_add_test(threads, signed_file_of_another_pid_namespace_is_kept);
	tcase_add_test(threads, signature_of_another_address_is_ignored);
#endif
	tcase_add_loop_test(threads, racing_threads_get_the_same_first_locator, 0, 1 + CAN_FORK);
	tcase_add_test(threads, buffers_registered_concurrently_are_listed_once);
	tcase_add_test(threads, free_space_used_between_check_and_lock_is_noticed);
	suite_add_tcase(suite, threads);
	return run_suite(suite);
}
