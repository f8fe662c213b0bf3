/* SPDX-License-Identifier: MIT */
/* copies.c: several copies of the library in one process */

#include "config.h"
#include "support/copies.h"
#include "support/support.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_UP(copy, call)						\
	((copy)->calls.call = (__typeof__((copy)->calls.call))		\
	 (uintptr_t)find_in_copy((copy), "buffers_" #call))

bool look_up_calls(struct copy *copy)
{
	const struct calls *table = find_in_copy(copy, "static_copy");

	if (table) {
		copy->calls = *table;
		return true;
	}
	return LOOK_UP(copy, get) && LOOK_UP(copy, release) && LOOK_UP(copy, append) &&
	       LOOK_UP(copy, next) && LOOK_UP(copy, overwrite) && LOOK_UP(copy, walk) &&
	       LOOK_UP(copy, alloc) && LOOK_UP(copy, free);
}

static int add_to_listing(const struct buffers_info *info, void *context)
{
	struct listing *listing = context;

	if (listing->count == sizeof(listing->buffers) / sizeof(listing->buffers[0]))
		return 1;
	if (!is_rest_of_locator_page(info))
		listing->buffers[listing->count++] = *info;
	return 0;
}

struct listing list_buffers(const struct copy *copy)
{
	struct listing listing = { .count = 0 };

	ck_assert_int_eq(copy->calls.walk(add_to_listing, &listing), 0);
	return listing;
}

bool is_same_listing(const struct listing *one, const struct listing *two)
{
	if (one->count != two->count)
		return false;
	for (size_t i = 0; i < one->count; i++)
		if (one->buffers[i].base != two->buffers[i].base ||
		    one->buffers[i].size != two->buffers[i].size ||
		    one->buffers[i].used != two->buffers[i].used ||
		    one->buffers[i].taken != two->buffers[i].taken ||
		    one->buffers[i].flags != two->buffers[i].flags)
			return false;
	return true;
}

bool is_item_of_first_locator(const struct buffers_item *item)
{
	uintptr_t locator = rendezvous_address();

	return locator && (uintptr_t)item > locator && (uintptr_t)item < locator + 4096;
}

struct writer {
	pthread_t thread;
	pthread_barrier_t *start;
	const struct copy *copy;
	const char *file;	/* file to load for each entry, or NULL */
	unsigned number;
	unsigned rounds;
	uint64_t random;
	const char *fault;
};

static const char *write_entry(struct writer *writer, const struct calls *calls, unsigned number)
{
	static const struct buffers_request request = { .size = ENTRY_MAX };
	unsigned char entry[ENTRY_MAX];
	size_t size = entry_make(entry, writer->number, number, &writer->random);
	struct buffers_item *item = calls->get(&request);

	if (!item)
		return "a request failed";
	if (!mark_held(item, writer->number))
		return "two writers hold one item";
	if (!calls->append(item, entry, size))
		return "an item has less free space than requested";
	if (!mark_released(item, writer->number))
		return "a held item was given to another writer";
	calls->release(item);
	return NULL;
}

static const char *load_and_write(struct writer *writer, unsigned number)
{
	struct copy copy;
	const char *fault;

	if (!writer->file)
		return write_entry(writer, &writer->copy->calls, number);
	if (!load_copy(&copy, writer->file, false))
		return "a copy cannot be loaded";
	fault = write_entry(writer, &copy.calls, number);
	drop_copy(&copy);
	return fault;
}

static void *run_writer(void *context)
{
	struct writer *writer = context;

	pthread_barrier_wait(writer->start);
	for (unsigned i = 0; i < writer->rounds && !writer->fault; i++)
		writer->fault = load_and_write(writer, i);
	return NULL;
}

static const char *read_buffers(const struct copy *copy, unsigned rounds)
{
	struct ledger ledger = ledger_new(WRITERS, rounds);
	struct listing listing = list_buffers(copy);
	const char *fault = NULL;

	for (size_t i = 0; i < listing.count && !fault; i++)
		fault = listing.buffers[i].taken ? "an item stays taken" :
			ledger_read(&ledger, listing.buffers[i].base, listing.buffers[i].used);
	for (unsigned i = 0; i < WRITERS && !fault; i++)
		if (!ledger_has(&ledger, i, rounds))
			fault = "a copy does not list an entry of another writer";
	free(ledger.seen);
	return fault;
}

static const char *join_writers(struct writer *writers)
{
	const char *fault = NULL;

	for (unsigned i = 0; i < WRITERS; i++) {
		ck_assert_int_eq(pthread_join(writers[i].thread, NULL), 0);
		if (!fault)
			fault = writers[i].fault;
	}
	return fault;
}

const char *write_concurrently(const struct copy *copies, const char *const *files, size_t count,
			       unsigned rounds)
{
	static struct writer writers[WRITERS];
	struct copy loaded;
	pthread_barrier_t start;
	const char *fault;

	ck_assert_int_eq(pthread_barrier_init(&start, NULL, WRITERS), 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){
			.start = &start,
			.copy = copies ? &copies[i % count] : NULL,
			.file = files ? files[i % count] : NULL,
			.number = i,
			.rounds = rounds,
			.random = i,
		};
		ck_assert_int_eq(pthread_create(&writers[i].thread, NULL, run_writer,
						&writers[i]), 0);
	}
	fault = join_writers(writers);
	pthread_barrier_destroy(&start);
	for (size_t i = 0; i < count && !fault; i++) {
		if (files && !load_copy(&loaded, files[i], false))
			return "a copy cannot be loaded again";
		fault = read_buffers(files ? &loaded : &copies[i], rounds);
	}
	return fault;
}
