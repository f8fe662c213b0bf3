/* SPDX-License-Identifier: MIT */
/*
 * foreign.h: another implementation of the same layout, written by hand
 *
 * It does what others do: it finds the locator through the file that names it,
 * or makes both, and then takes, fills and adds items beside the library.
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

/* Where a creator keeps the locator: in memory of its own, or in the file itself. */
enum foreign_storage { IN_MEMORY, IN_FILE, STORAGES };

/* The file as its creator first makes it, empty; -1 when there is one already. */
int foreign_create(void);

/* Then it gets its size, and last the address. */
struct foreign_locator *foreign_publish_file(int file, enum foreign_storage storage);

/*
 * The process's first locator: the one that the file names, for whose address
 * it waits; or one that it makes.
 */
struct foreign_locator *foreign_find(enum foreign_storage storage);

/*
 * Whether an address was written so long after its file was made that others
 * need not have waited: this machine stood still.
 */
bool foreign_has_stalled(void);

/* Takes an item with so much room, adding one where there is none. */
struct foreign_item *foreign_get(struct foreign_locator *first, size_t size);

/* Adds a buffer, linking another locator when all are full. */
struct foreign_item *foreign_add(struct foreign_locator *first, void *base, uint32_t size,
				 bool is_taken);

/* What the holder of an item does. */
void *foreign_append(struct foreign_item *item, const void *data, size_t size);
void foreign_release(struct foreign_item *item);

/* The n-th item of the chain, or NULL. */
struct foreign_item *foreign_item_at(struct foreign_locator *first, size_t n);
struct foreign_locator *foreign_next(const struct foreign_locator *locator);

/* Memory for a buffer or a locator. */
void *foreign_map(size_t size);

#endif
