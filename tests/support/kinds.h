/* SPDX-License-Identifier: MIT */
/* kinds.h: the kinds of memory, and what the tests of them share */
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

/* What a request may ask for, and what it gets. */
struct kind {
	unsigned flags;
	unsigned listed_flags;		/* as buffers_walk() has it */
	const char *permissions;	/* as /proc/self/maps has them */
	const char *file_suffix;		/* between stem and number of the file's name */
};
enum { KINDS = 3 };
extern const struct kind kinds[KINDS];

/* Loop tests: each kind that there is, first with /proc and then, where it is, without. */
enum { VIEWS = (1 + CAN_FORK) * KINDS };
const struct kind *kind_of(int view);

#if CAN_FORK
#define SKIP_IF_NO_VIEW(view)							\
	do {									\
		SKIP_IF((view) >= KINDS && (is_asan() || is_tsan()),	\
			"the sanitizer's runtime reads /proc itself");		\
		SKIP_IF((view) >= KINDS && !hide_proc(),			\
			"no mount namespace for this user");			\
		SKIP_IF((view) == VIEWS - 1 && !can_map_twice(),		\
			"shared memory looks as private does here");		\
	} while (0)
#else
#define SKIP_IF_NO_VIEW(view) ((void)(view))
#endif

/* Asserts that there is one, and that errno stays as it was. */
struct buffers_item *get_kind(const struct kind *kind, size_t size);

/* Whole pages that were reserved, or allocated for one alone. */
unsigned char *make_memory(const struct kind *kind, size_t size, bool is_alone);

/* Bytes that differ from their neighbours and from those of other numbers. */
void fill_pattern(unsigned char *bytes, size_t size, unsigned number);
unsigned char *new_pattern(size_t size, unsigned number);

#endif
