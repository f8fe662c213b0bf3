/* SPDX-License-Identifier: MIT */
/* inspect.h: examine the files, directories and memory that the library uses; forge locators */
#ifndef TESTS_INSPECT_H
#define TESTS_INSPECT_H

#include "reloaded/buffers.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Gets an item with a request that has no constraints, appends, compares and releases.  Returns
 * the item.  Returns NULL and prints a message if a step fails, if a call that succeeds changes
 * errno, or if the number of open descriptors changes.
 */
struct buffers_item *use_library(void);

/* The locator that lists an item. */
uintptr_t locator_of(const struct buffers_item *item);

/*
 * The directory of this process's rendezvous file.  The file must name the item's locator, be a
 * regular file with mode 0600 and one link, and have 4096 bytes or one page if pages are larger.
 * Returns "" if there is no file, and NULL if it is invalid.
 */
const char *published_dir(const struct buffers_item *item);
bool is_published_in(const char *dir, const struct buffers_item *item);

/*
 * Lists a directory tree, one line for each entry: type and mode, owner, inode, size, time of
 * change, hash of the content.  Unless `except` is NULL, leaves out that path, the size and time of
 * the directory that contains it, and second links.  The caller frees the string.
 */
char *list_tree(const char *root, const char *except);

/* Compares two such lists and frees them; prints them if they differ. */
bool are_trees_equal(char *before, char *after);

/* Removes everything inside the directory. */
void clear_directory(const char *path);

/*
 * A valid locator of version 0 in the published layout.  It lists one free buffer that suits any
 * request.
 */
struct forgery {
	unsigned char *page;	/* 4096 writable bytes anywhere; NULL: not forged */
	unsigned char *buffer;
	unsigned char bytes[4096];	/* the original content of the page */
};

/* Offsets in a locator, for 64-bit and 32-bit processes. */
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

/* Changes bytes of the forgery, and of the copy that is_untouched() compares. */
void alter_forgery(struct forgery *forgery, size_t at, const void *bytes, size_t size);

bool is_untouched(const struct forgery *forgery);

/* Writes a rendezvous file of 4096 bytes, as another implementation does. */
void write_rendezvous_file(const char *path, uintptr_t address);

/* A zeroed page that can be read and written. */
void *new_page(void);

/*
 * Enters a new mount namespace in which this process may mount.  An ordinary user also enters a
 * user namespace.  Unlike sandbox_tmp(), keeps the capabilities.
 */
bool enter_mount_namespace(void);

/* Children that are forked later live in a new PID namespace. */
bool enter_pid_namespace(void);

#endif
