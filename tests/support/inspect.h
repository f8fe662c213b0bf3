/* SPDX-License-Identifier: MIT */
/* witness.h: what a use of the library leaves behind, and forgeries that it may meet */
#ifndef TESTS_INSPECT_H
#define TESTS_INSPECT_H

#include "reloaded/buffers.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Gets, appends, compares and releases, as one who has no wishes.  Returns the
 * item; NULL, and a word on standard error, when anything was not as it should
 * be, or errno or the open descriptors are not as they were.
 */
struct buffers_item *use_library(void);

/* The locator that lists an item. */
uintptr_t locator_of(const struct buffers_item *item);

/*
 * The place where this process's file is and names the item's locator: a
 * regular file of 4096 bytes, or a page where that is larger, mode 0600, one link.  "" when no place has a file
 * of this process, NULL when what is there is no good.
 */
const char *published_dir(const struct buffers_item *item);
bool is_published_in(const char *place, const struct buffers_item *item);

/*
 * A directory and all below, one line each: type and mode, owner, inode, size,
 * time of change, content.  `except` (NULL: nothing) is left out, and so is the
 * time and size of the directory that it is in.  To be freed.
 */
char *list_tree(const char *root, const char *except);

/* Whether two such are equal; frees them, and prints them where they are not. */
bool are_trees_equal(char *before, char *after);

/* Removes all in a directory, and not the directory. */
void clear_directory(const char *path);

/*
 * A locator by the published layout: version 0, one free buffer that suits
 * everybody, writable at the page, 4096 bytes, wherever that is.
 */
struct forgery {
	unsigned char *page;	/* NULL: none was made */
	unsigned char *room;
	unsigned char bytes[4096];	/* as the page was made */
};

/* Offsets in it, in 64-bit and 32-bit processes. */
enum {
	AT_THIS = 0,
	AT_NEXT = sizeof(void *),
	AT_LOCK = 2 * sizeof(void *),
	AT_VERSION = 2 * sizeof(void *) + 4,
	AT_COUNT = 2 * sizeof(void *) + 5,
	AT_RESERVED = 2 * sizeof(void *) + 6,
	AT_ITEMS = 2 * sizeof(void *) + 8,
	ITEM_BASE = 0,
	ITEM_SIZE = sizeof(void *),
	ITEM_POSITION = sizeof(void *) + 4,
	ITEM_TAKEN = sizeof(void *) + 8,
	SIZE_OF_ITEM = sizeof(void *) + 12,
	MAX_ITEMS = sizeof(void *) == 8 ? 203 : 255,
};

void forge_locator(struct forgery *forgery, void *page);

/* Changes bytes of the forgery, so that they count as it. */
void alter_forgery(struct forgery *forgery, size_t at, const void *bytes, size_t size);

bool is_untouched(const struct forgery *forgery);

/* A file of 4096 bytes that names the address, as another implementation leaves it. */
void write_rendezvous_file(const char *path, uintptr_t address);

/* A page of zeros that can be read and written. */
void *new_page(void);

/*
 * Rights over mounts, in a mount namespace of its own, that an ordinary user
 * has in a user namespace.  Unlike sandbox_tmp() it keeps them.
 */
bool enter_mount_namespace(void);

/* The children that are made from now on are a PID namespace. */
bool enter_pid_namespace(void);

#endif
