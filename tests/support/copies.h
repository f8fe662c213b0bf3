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

/* All that a plugin exports: the calls of the copy inside it. */
extern const struct calls static_copy;

struct copy {
	void *handle;
	struct calls calls;
};

/* What the copy has by that name; NULL: nothing.  The calls that are found so, and whether all are. */
void *find_in_copy(const struct copy *copy, const char *name);
bool look_up_calls(struct copy *copy);

/*
 * False when it cannot be loaded, and says why; `apart`: in a link namespace of its own,
 * which Linux has.
 */
bool load_copy(struct copy *copy, const char *file, bool apart);

/* Closes it; and returns whether it is unloaded. */
void drop_copy(struct copy *copy);
bool close_copy(struct copy *copy, const char *file);

/* The buffers that a copy lists, in its order. */
struct listing {
	size_t count;
	struct buffers_info buffers[1000];
};
struct listing list_buffers(const struct copy *copy);
bool is_same_listing(const struct listing *one, const struct listing *two);

/* The address that the process's file or section names, 0 when there is none. */
uintptr_t rendezvous_address(void);

/* Whether the item stands in the first locator, which the file names. */
bool is_item_of_first_locator(const struct buffers_item *item);

/*
 * Starts eight threads at once, each with one of the copies, or with one of the
 * files, which it loads and closes for each entry.  Each writes `rounds` entries.  Then reads the
 * buffers that each copy lists.  Returns NULL, or what went wrong.
 */
enum { WRITERS = 8 };
const char *write_concurrently(const struct copy *copies, const char *const *files, size_t count,
			       unsigned rounds);

#endif
