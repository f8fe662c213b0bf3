/* SPDX-License-Identifier: MIT */
/*
 * twin.h: an older implementation with another layout, which shares the rendezvous file
 *
 * It counts its items in the last reserved byte of a locator.  It ignores the other
 * implementation's count, and adds to every locator whose own count is not full.
 */
#ifndef TESTS_TWIN_H
#define TESTS_TWIN_H

#include "support/foreign.h"

struct twin_item {
	uintptr_t base;
	uint32_t is_taken;
	uint32_t size;
	uint32_t position;
} __attribute__((packed, aligned(4)));

struct twin_locator {
	uintptr_t this_address;
	uintptr_t next_locator;
	uint32_t is_locked;
	uint8_t flags;
	uint8_t unused[2];
	uint8_t num_items;
	struct twin_item items[FOREIGN_CAPACITY];
};

/* Takes an item with this much free space in any locator of the chain, or adds one. */
struct twin_item *twin_get(struct twin_locator *first, size_t size);

void twin_release(struct twin_item *item);

struct twin_locator *twin_next(const struct twin_locator *locator);

#endif
