/* SPDX-License-Identifier: MIT */
/* unit-locator.c: the layout that others share, items and their locks, the chain */

#include "config.h"
#include "locator/index.h"
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
# include <unistd.h>
#endif

#define KIB ((size_t)1 << 10)

/* Pages that the locator maps and gives back are counted here. */
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
	sched_yield();		/* so that more threads come to be here at once */
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

START_TEST(fields_lie_where_other_implementations_look)
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

/* What is left of a locator's page, where that is larger, is listed as well. */
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

/* The bytes themselves, as a reader with its own idea of the structure sees them. */
START_TEST(bytes_of_an_item_are_where_they_should_be)
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

START_TEST(bytes_that_make_no_sense_are_not_a_locator)
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
	BREAKS(locator->reserved[0] = 1);
	BREAKS(locator->reserved[1] = 1);
	BREAKS(locator->items[0].base_address = 0);
	BREAKS(locator->items[0].position = 0x10001);
	BREAKS(locator->items[0].base_address = UINTPTR_MAX - 0xffff);
	if (is_64_bit())
		BREAKS(locator->num_items = 204);
#undef BREAKS
}
END_TEST

static struct buffers_window window(uintptr_t start, uintptr_t end, size_t size,
				    size_t alignment)
{
	return (struct buffers_window){
		.range = { start, end }, .size = size, .alignment = alignment,
	};
}

/* The index of a copy that has seen nothing yet, at the start of its page. */
static struct buffers_index *new_index(void)
{
	return (struct buffers_index *)aligned_memory(buffers_platform_granularity());
}

static struct buffers_item *take(struct buffers_locator *locator, uintptr_t start,
				 uintptr_t end, size_t size, size_t alignment)
{
	struct buffers_window wanted = window(start, end, size, alignment);
	struct buffers_index *index = new_index();
	struct buffers_busy nobody = { .count = 0 };
	struct buffers_item_filter any = { buffers_item_take, &nobody, BUFFERS_INDEX_PATIENCE };
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

START_TEST(item_fits_when_all_its_free_room_is_in_the_range)
{
	struct buffers_locator *locator = new_locator();
	struct buffers_item *item = register_free(locator, 0x10000, 0x20000);
	uintptr_t address;

#define FITS(...)								\
	do {									\
		ck_assert_ptr_eq(take(locator, __VA_ARGS__), item);		\
		buffers_item_release(item);					\
	} while (0)
#define FITS_NOT(...) ck_assert_ptr_null(take(locator, __VA_ARGS__))
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

	ck_assert_ptr_eq(take(locator, 0, UINTPTR_MAX, 1, 1), first);
	ck_assert_ptr_eq(take(locator, 0, UINTPTR_MAX, 1, 1), second);
	ck_assert_ptr_null(take(locator, 0, UINTPTR_MAX, 1, 1));
	buffers_item_release(first);
	ck_assert_ptr_eq(take(locator, 0, UINTPTR_MAX, 1, 1), first);
}
END_TEST

START_TEST(buffer_of_4_gib_is_listed_a_byte_short)
{
	struct buffers_locator *locator = new_locator();
	struct buffers_item *item;

	SKIP_IF(!is_64_bit(), "no address space of that size");
	item = register_free(locator, 0x10000, 0x10000 + ((uintptr_t)1 << 16 << 16));
	ck_assert_uint_eq(item->size, UINT32_MAX);
	ck_assert_uint_eq(buffers_item_room(item), UINT32_MAX);
}
END_TEST

START_TEST(full_locators_are_chained)
{
	struct buffers_locator *locator = new_locator();
	enum { MANY = 5 * 255 };
	uintptr_t start = (uintptr_t)reserve(0, MANY * 0x10000);	/* nothing else is there */
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
		ck_assert_ptr_nonnull(take(locator, start + i * 0x10000, start + (i + 1) * 0x10000,
					   0x10000, 1));
	ck_assert_ptr_null(take(locator, start, start + MANY * 0x10000, 1, 1));
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

struct crowd {
	pthread_barrier_t start;
	struct buffers_root roots[2];	/* of two copies of the library */
	struct buffers_locator *first;
	struct buffers_locator *seen[THREADS];
	uintptr_t memory;		/* to be listed */
	unsigned number;
};

static void crowd_init(struct crowd *crowd, struct buffers_locator *first)
{
	*crowd = (struct crowd){ .first = first };
	ck_assert_int_eq(pthread_barrier_init(&crowd->start, NULL, THREADS), 0);
}

static void *find_first(void *context)
{
	struct crowd *crowd = context;
	unsigned me = __atomic_fetch_add(&crowd->number, 1, __ATOMIC_RELAXED);

	pthread_barrier_wait(&crowd->start);
	buffers_rendezvous_first(&crowd->roots[me % 2], BUFFERS_KIND_RWX, &crowd->seen[me]);
	return NULL;
}

#if CAN_FORK
/*
 * Signed notices, as the copies of the library write them for each other
 */

struct signed_notice {
	uint64_t words[4];	/* the first is the address, on little-endian systems */
	char signature[16];
	uint64_t root, token, space, address;
	char rest[4096 - 80];
};

static struct buffers_root publisher;
static struct buffers_locator *published;

static void offer_a_locator(void)
{
	published = new_locator();
	publisher = (struct buffers_root){ (uintptr_t)published, 4711,
					   buffers_platform_pid(), published };
}

static struct signed_notice write_signed_notice(void)
{
	struct signed_notice notice = {
		.signature = "reloaded-buffers",
		.root = (uintptr_t)&publisher,
		.token = 4711,
		.space = buffers_platform_pid_namespace(),
		.address = (uintptr_t)published,
	};

	memcpy(notice.words, &published, sizeof(published));
	return notice;
}

/* What another copy finds, with the notice put up, and whether it stood that. */
static bool is_followed(const struct signed_notice *notice, bool *is_replaced)
{
	struct buffers_root root = { .offered = 0 };
	struct buffers_locator *found;
	unsigned long long before;

	make_dir(SHARED_DIR);
	write_file(rendezvous_path(NULL, getpid()), notice, sizeof(*notice));
	make_old(rendezvous_path(NULL, getpid()));
	before = read_address(rendezvous_path(NULL, getpid()));
	ck_assert_int_eq(buffers_rendezvous_first(&root, BUFFERS_KIND_RWX, &found), 0);
	*is_replaced = read_address(rendezvous_path(NULL, getpid())) != before;
	unlink(rendezvous_path(NULL, getpid()));
	unlink(rendezvous_path(own_dir(), getpid()));
	return found == published;
}

START_TEST(signed_notice_is_followed_if_its_root_confirms_it)
{
	struct signed_notice notice;
	bool is_replaced;

	SKIP_IF(!sandbox_tmp(NULL), "no private /tmp");
	offer_a_locator();
	notice = write_signed_notice();
	ck_assert(is_followed(&notice, &is_replaced));
	ck_assert(!is_replaced);

	notice.token++;
	ck_assert(!is_followed(&notice, &is_replaced));
	ck_assert(is_replaced);
	notice = write_signed_notice();
	notice.root += 4096 * 1024;
	ck_assert(!is_followed(&notice, &is_replaced));
	ck_assert(is_replaced);
	notice = write_signed_notice();
	publisher.pid++;
	ck_assert(!is_followed(&notice, &is_replaced));
	ck_assert(is_replaced);
	publisher.pid--;
	publisher.offered = 0;
	ck_assert(!is_followed(&notice, &is_replaced));
	ck_assert(is_replaced);
	publisher.offered = (uintptr_t)published;
	ck_assert(is_followed(&notice, &is_replaced));
}
END_TEST

START_TEST(signed_notice_of_another_namespace_stays)
{
	struct signed_notice notice;
	bool is_replaced;

	SKIP_IF(!sandbox_tmp(NULL), "no private /tmp");
	offer_a_locator();
	notice = write_signed_notice();
	notice.space++;
	ck_assert(!is_followed(&notice, &is_replaced));
	ck_assert(!is_replaced);
	notice.space = 0;	/* made without /proc: its root alone tells */
	ck_assert(is_followed(&notice, &is_replaced));
	notice.token++;
	ck_assert(!is_followed(&notice, &is_replaced));
	ck_assert(!is_replaced);
}
END_TEST

/* Another implementation that uses an old file of ours for its own locator. */
START_TEST(signature_of_another_address_does_not_count)
{
	struct signed_notice notice;
	bool is_replaced;

	SKIP_IF(!sandbox_tmp(NULL), "no private /tmp");
	offer_a_locator();
	notice = write_signed_notice();
	notice.address = 0x10000;
	notice.token++;
	ck_assert(is_followed(&notice, &is_replaced));
	ck_assert(!is_replaced);
}
END_TEST

/*
 * The files of those who race for the first locator
 */

static bool is_alone;	/* not with a sanitizer's threads */

static void open_place(void)
{
	is_alone = sandbox_tmp(NULL);
}

/* As an earlier program of this process leaves it. */
static void plant_stale_notice(void)
{
	const char *place = is_alone ? SHARED_DIR : own_dir();
	size_t nowhere[512] = { (size_t)1 << 20 };

	make_dir(place);
	write_file(rendezvous_path(place, getpid()), nowhere, sizeof(nowhere));
}

static void check_notices(unsigned count)
{
	ck_assert(!is_alone || count_files(SHARED_DIR) == count);
}
#else
static void open_place(void)
{
}

static void plant_stale_notice(void)
{
}

static void check_notices(unsigned count)
{
	(void)count;
}
#endif

START_TEST(all_who_race_get_the_same_first_locator)
{
	bool is_stale_there = _i;
	size_t offered = 0;

	open_place();
	for (unsigned round = 0; round < how_many(300, 3000); round++) {
		struct crowd crowd;

		crowd_init(&crowd, NULL);
		if (is_stale_there)
			plant_stale_notice();
		run_threads(find_first, &crowd);
		ck_assert_ptr_nonnull(crowd.seen[0]);
		ck_assert(buffers_locator_is_valid(crowd.seen[0]));
		for (unsigned i = 0; i < THREADS; i++)
			ck_assert_ptr_eq(crowd.seen[i], crowd.seen[0]);
		for (unsigned i = 0; i < 2; i++)
			ck_assert_ptr_eq(crowd.roots[i].first, crowd.seen[0]);
		check_notices(1);
		buffers_rendezvous_withdraw(&crowd.roots[round % 2], BUFFERS_KIND_RWX);
		check_notices(0);
		for (unsigned i = 0; i < 2; i++)
			offered += crowd.roots[i].offered != 0;
		ck_assert_uint_eq(mapped_pages, offered);
		pthread_barrier_destroy(&crowd.start);
	}
}
END_TEST

enum { PER_THREAD = 500 };

static void *register_many(void *context)
{
	struct crowd *crowd = context;
	uintptr_t me = __atomic_fetch_add(&crowd->number, 1, __ATOMIC_RELAXED);

	pthread_barrier_wait(&crowd->start);
	for (uintptr_t i = 0; i < PER_THREAD; i++) {
		uintptr_t start = crowd->memory + (me * PER_THREAD + i) * 0x1000;
		struct buffers_item *item = NULL;

		buffers_locator_register(crowd->first, BUFFERS_KIND_RWX,
					 (struct buffers_span){ start, start + 0x1000 }, &item);
		if (item && item->base_address == start)
			buffers_item_release(item);
	}
	return NULL;
}

START_TEST(all_who_register_at_once_are_listed_once)
{
	struct crowd crowd;
	static unsigned seen[THREADS * PER_THREAD];
	unsigned total = 0;
	unsigned length = 0;

	crowd_init(&crowd, new_locator());
	crowd.memory = (uintptr_t)reserve(0, sizeof(seen) / sizeof(seen[0]) * 0x1000);
	run_threads(register_many, &crowd);
	for (struct buffers_locator *l = crowd.first; l;
	     l = (struct buffers_locator *)l->next_locator) {
		ck_assert(buffers_locator_is_valid(l));
		length++;
		total += count_all_but_rests(l);
		for (unsigned i = 0; i < l->num_items; i++) {
			ck_assert_uint_eq(l->items[i].is_taken, 0);
			if (!is_rest(l, &l->items[i]))
				seen[(l->items[i].base_address - crowd.memory) / 0x1000]++;
		}
	}
	ck_assert_uint_eq(total, THREADS * PER_THREAD);
	ck_assert_uint_eq(mapped_pages, length - 1);	/* the first is the test's */
	for (unsigned i = 0; i < THREADS * PER_THREAD; i++)
		ck_assert_uint_eq(seen[i], 1);
}
END_TEST

/*
 * The race between looking and taking: all see the room, one at a time takes
 * it, and whoever comes too late must notice.  Room for 1,000 bytes is wanted
 * byte by byte, so an overlooked race would hand out more than there is.
 */
static void *drain(void *context)
{
	struct crowd *crowd = context;
	uintptr_t address;

	pthread_barrier_wait(&crowd->start);
	for (;;) {
		struct buffers_item *item = take(crowd->first, 0, UINTPTR_MAX, 3, 1);

		if (item) {
			if (buffers_item_room(item) < 3 ||
			    buffers_item_reserve(item, 3, 1, &address) != 0)
				abort();
			__atomic_fetch_add(&crowd->number, 3, __ATOMIC_RELAXED);
			buffers_item_release(item);
		} else if (__atomic_load_n(&crowd->number, __ATOMIC_RELAXED) >= 999) {
			return NULL;
		}
	}
}

START_TEST(room_that_is_used_between_looking_and_taking_is_noticed)
{
	for (unsigned round = 0; round < how_many(200, 200); round++) {
		struct crowd crowd;

		crowd_init(&crowd, new_locator());
		register_free(crowd.first, 0x10000, 0x10000 + 1000);
		run_threads(drain, &crowd);
		ck_assert_uint_eq(crowd.number, 999);
		ck_assert_uint_eq(crowd.first->items[0].position, 999);
	}
}
END_TEST

static int stop_at_third(const struct buffers_info *info, void *context)
{
	unsigned *count = context;

	ck_assert_ptr_nonnull(info->base);
	return ++*count == 3 ? 42 : 0;
}

START_TEST(walk_ends_where_the_visitor_says)
{
	struct buffers_locator *locator = new_locator();
	unsigned count = 0;

	for (uintptr_t i = 1; i < 10; i++)
		register_free(locator, i * 0x10000, (i + 1) * 0x10000);
	ck_assert_int_eq(buffers_locator_walk(locator, BUFFERS_KIND_RWX, stop_at_third, &count), 42);
	ck_assert_uint_eq(count, 3);
	ck_assert_int_eq(buffers_locator_walk(NULL, BUFFERS_KIND_RWX, stop_at_third, &count), 0);
	ck_assert_uint_eq(count, 3);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("unit-locator");
	TCase *layout = tcase_create("layout");
	TCase *items = tcase_create("items");
	TCase *threads = tcase_create("threads");

	tcase_add_test(layout, fields_lie_where_other_implementations_look);
	tcase_add_test(layout, bytes_of_an_item_are_where_they_should_be);
	tcase_add_test(layout, rest_of_a_large_page_is_listed_in_parts_of_16_kib);
	tcase_add_test(layout, bytes_that_make_no_sense_are_not_a_locator);
	suite_add_tcase(suite, layout);

	tcase_add_test(items, item_fits_when_all_its_free_room_is_in_the_range);
	tcase_add_test(items, taken_item_is_skipped);
	tcase_add_test(items, buffer_of_4_gib_is_listed_a_byte_short);
	tcase_add_test(items, full_locators_are_chained);
	tcase_add_test(items, walk_ends_where_the_visitor_says);
	suite_add_tcase(suite, items);

	tcase_set_timeout(threads, 300);
#if CAN_FORK
	tcase_add_test(threads, signed_notice_is_followed_if_its_root_confirms_it);
	tcase_add_test(threads, signed_notice_of_another_namespace_stays);
	tcase_add_test(threads, signature_of_another_address_does_not_count);
#endif
	tcase_add_loop_test(threads, all_who_race_get_the_same_first_locator, 0, 1 + CAN_FORK);
	tcase_add_test(threads, all_who_register_at_once_are_listed_once);
	tcase_add_test(threads, room_that_is_used_between_looking_and_taking_is_noticed);
	suite_add_tcase(suite, threads);
	return run_suite(suite);
}
