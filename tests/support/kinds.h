/* SPDX-License-Identifier: MIT */
/* kinds.h: the kinds of memory, and helpers for the tests of each kind */
#ifndef TESTS_KINDS_H
#define TESTS_KINDS_H

#include "reloaded/buffers.h"
#include "support/support.h"
#include "support/maps-watch.h"
#if CAN_FORK
# include "support/restrict.h"
#endif

#define KIB	((size_t)1 << 10)
#define MIB	((size_t)1 << 20)
#define GIB	((size_t)1 << 30)
#define PAGE	(granularity())

/* The flags of a request, and the resulting memory. */
struct kind {
	unsigned flags;
	unsigned listed_flags;		/* in buffers_walk() */
	const char *permissions;	/* in /proc/self/maps */
	const char *file_suffix;		/* in the rendezvous file name, before the pid */
};
enum { KINDS = 3 };
extern const struct kind kinds[KINDS];

/* Loop tests run each kind first with /proc and then, on Linux, with /proc hidden. */
enum { VIEWS = (1 + CAN_FORK) * KINDS };
const struct kind *kind_of(int view);

#if CAN_FORK
#define SKIP_IF_NO_VIEW(view)							\
	do {									\
		SKIP_IF((view) >= KINDS && (is_asan() || is_tsan()),	\
			"the sanitizer's runtime reads /proc itself");		\
		SKIP_IF((view) >= KINDS && !hide_proc(),			\
			"this user cannot create a mount namespace");			\
		SKIP_IF((view) == VIEWS - 1 && !can_map_twice(),		\
			"shared memory is not listed as shared here");		\
	} while (0)
#else
#define SKIP_IF_NO_VIEW(view) ((void)(view))
#endif

/* Gets an item.  Asserts that this succeeds and does not change errno. */
struct buffers_item *get_kind(const struct kind *kind, size_t size);

/* Whole pages.  They are reserved in an item or, if is_dedicated, allocated by buffers_alloc(). */
unsigned char *make_memory(const struct kind *kind, size_t size, bool is_dedicated);

/* Bytes that differ from their neighbours, and from the bytes of other numbers. */
void fill_pattern(unsigned char *bytes, size_t size, unsigned number);
unsigned char *new_pattern(size_t size, unsigned number);

#endif
