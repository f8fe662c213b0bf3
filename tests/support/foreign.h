/* SPDX-License-Identifier: MIT */
/*
 * foreign.h: another implementation of the same memory layout
 *
 * It works as other implementations do.  It follows the rendezvous file to the first locator, or
 * creates both; then it takes, fills and adds items while the library does the same.
 */
#ifndef TESTS_FOREIGN_H
#define TESTS_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FOREIGN_SIZE = 4096,
	FOREIGN_CAPACITY = sizeof(uintptr_t) == 8 ? 203 : 255,
};

struct foreign_item {
	uintptr_t base;
	uint32_t size;
	uint32_t position;
	uint32_t is_taken;
} __attribute__((packed, aligned(4)));

struct foreign_locator {
	uintptr_t this_address;
	uintptr_t next_locator;
	uint32_t is_locked;
	uint8_t flags;
	uint8_t num_items;
	uint8_t reserved[2];
	struct foreign_item items[FOREIGN_CAPACITY];
};

/* A creator keeps the locator in private memory or in the rendezvous file itself. */
enum foreign_storage { IN_MEMORY, IN_FILE, STORAGES };

/* Creates the rendezvous file, which is empty at first.  Returns -1 if it exists already. */
int foreign_create(void);

/*
 * The steps of a creator: sets the size of the file and stores the locator's address in it; then
 * resets the locator's other members.
 */
struct foreign_locator *foreign_publish_file(int file, enum foreign_storage storage);
void foreign_reset(struct foreign_locator *locator);

/*
 * The first locator of this process.  If the rendezvous file exists, waits for the address in it;
 * otherwise creates both.
 */
struct foreign_locator *foreign_find(enum foreign_storage storage);

/*
 * Whether the creator took so long to store the address that other copies may have stopped
 * waiting.  This happens on an overloaded machine.
 */
bool foreign_has_stalled(void);

/* Whether that long has passed since foreign_create(). */
bool foreign_is_late(void);

/* Takes an item with this much free space.  Adds one if there is none. */
struct foreign_item *foreign_get(struct foreign_locator *first, size_t size);

/* Adds a buffer; links another locator if all are full. */
struct foreign_item *foreign_add(struct foreign_locator *first, void *base, uint32_t size,
				 bool is_taken);

/*
 * The steps of linking a locator: takes the lock and links memory that still has its old content,
 * but for the address if is_named; then writes the locator and releases the lock.
 */
void foreign_begin_next(struct foreign_locator *locator, bool is_named);
void foreign_end_next(struct foreign_locator *locator);

/* The caller must hold the item. */
void *foreign_append(struct foreign_item *item, const void *data, size_t size);
void foreign_release(struct foreign_item *item);

/* Returns item n of the chain, or NULL. */
struct foreign_item *foreign_item_at(struct foreign_locator *first, size_t n);
struct foreign_locator *foreign_next(const struct foreign_locator *locator);

/* Maps memory for a buffer or a locator. */
void *foreign_map(size_t size);

#endif
