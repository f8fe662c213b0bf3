/* SPDX-License-Identifier: MIT */
/* fake-platform.h: a simulated address space of a few pages for the allocator */
#ifndef TESTS_FAKE_PLATFORM_H
#define TESTS_FAKE_PLATFORM_H

#include "platform/platform.h"

enum {
	FAKE_PAGE = 4096,
	FAKE_FIRST = 16,	/* first page that may be mapped */
	FAKE_PAGES = 512,	/* end of the address space */
	FAKE_PID = 12,	/* id of another process, which then owns the simulated space */
	FAKE_HANDLE = 34,
};

extern struct fake {
	bool mapped[FAKE_PAGES];
	bool refused[FAKE_PAGES];	/* looks free, but mapping it fails */
	struct buffers_span guard_gap;	/* the same, and the search can ask for it */
	bool looks_full;		/* each lookup reports it as mapped */
	int method;			/* method of struct buffers_maps */
	struct buffers_span heap, stack;
	int error;			/* every mapping fails with it, unless 0 */
	int scan_error;			/* every scan fails with it, unless 0 */
	size_t max_size;			/* larger mappings fail with ENOMEM, unless 0 */
	unsigned races;			/* mappings that lose their first page to another thread */
	void (*before_map)(void);	/* actions of another thread before the next mapping */
	uint64_t random;
	unsigned opened, queries, attempts;
	unsigned packed_questions;
	bool counts_unmapped;		/* each page counts as mapped, as under some emulators */
	bool knows_no_packed;		/* no span counts as packed */
	void (*after_packed)(void);	/* actions of another thread after the next such question */
	unsigned remote_attempts;		/* attempts to map in the other process */
} fake;

void fake_reset(void);

#endif
