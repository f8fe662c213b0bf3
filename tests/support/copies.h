/* SPDX-License-Identifier: MIT */
/* copies.h: several copies of the library in one process */
#ifndef TESTS_COPIES_H
#define TESTS_COPIES_H

#include "support/ledger.h"
#include "reloaded/buffers.h"

#include <stdbool.h>

#ifdef _WIN32
# define COPY_ONE	"tests/support/copy-one.dll"
# define COPY_TWO	"tests/support/copy-two.dll"
# define PLUGIN		"tests/support/.libs/static-copy.dll"
#else
# define COPY_ONE	"tests/support/copy-one.so"
# define COPY_TWO	"tests/support/copy-two.so"
# define PLUGIN		"tests/support/.libs/static-copy.so"
# define PLUGIN_NODELETE	"tests/support/.libs/static-copy-nodelete.so"
#endif

struct calls {
	struct buffers_item *(*get)(const struct buffers_request *request);
	void (*release)(struct buffers_item *item);
	void *(*append)(struct buffers_item *item, const void *data, size_t size);
	void *(*next)(const struct buffers_item *item);
	int (*overwrite)(void *dst, const void *src, size_t size);
	int (*walk)(int (*visit)(const struct buffers_info *info, void *context), void *context);
	void *(*alloc)(const struct buffers_request *request, size_t *allocated);
	int (*free)(void *address, size_t allocated);
};

/* A plugin has a copy of the library inside.  This table of calls is its only export. */
extern const struct calls static_copy;

struct copy {
	void *handle;
	struct calls calls;
};

/*
 * find_in_copy() returns the copy's symbol of that name, or NULL.  look_up_calls() fills in
 * copy->calls and returns whether it found all of them.
 */
void *find_in_copy(const struct copy *copy, const char *name);
bool look_up_calls(struct copy *copy);

/*
 * Returns false if the copy cannot be loaded, and prints why.  On Linux, is_isolated loads it into
 * a new link namespace.
 */
bool load_copy(struct copy *copy, const char *file, bool is_isolated);

/* drop_copy() closes the copy.  close_copy() also returns whether the file is now unloaded. */
void drop_copy(struct copy *copy);
bool close_copy(struct copy *copy, const char *file);

/* The buffers that a copy lists, in the same order. */
struct listing {
	size_t count;
	struct buffers_info buffers[1000];
};
struct listing list_buffers(const struct copy *copy);
bool is_same_listing(const struct listing *one, const struct listing *two);

/* The address in this process's rendezvous file or section; 0 if there is none. */
uintptr_t rendezvous_address(void);

/* Whether the item lies in the locator that the rendezvous file names. */
bool is_item_of_first_locator(const struct buffers_item *item);

/*
 * Starts eight threads at once.  Each writes `rounds` entries, either through one of the copies or
 * through one of the files, which it then loads and closes for each entry.  Afterwards checks the
 * buffers that each copy lists.  Returns NULL, or a description of the fault.
 */
enum { WRITERS = 8 };
const char *write_concurrently(const struct copy *copies, const char *const *files, size_t count,
			       unsigned rounds);

#endif
