/* SPDX-License-Identifier: MIT */
/* fake-platform.h: an address space of a few pages, to search in */
#ifndef TESTS_FAKE_PLATFORM_H
#define TESTS_FAKE_PLATFORM_H

#include "platform/platform.h"

enum {
	FAKE_PAGE = 4096,
	FAKE_FIRST = 16,	/* first page that may be mapped */
	FAKE_PAGES = 512,	/* end of the address space */
	FAKE_PROCESS = 12,	/* another one; it has the space instead of this one */
	FAKE_HANDLE = 34,
};

extern struct fake {
	bool mapped[FAKE_PAGES];
	bool refused[FAKE_PAGES];	/* seems free, cannot be mapped */
	bool seems_full;		/* to all who look */
	int kind;			/* of struct buffers_maps */
	struct buffers_span heap, stack;
	int error;			/* of every mapping, unless 0 */
	int scan_error;			/* of every scan, unless 0 */
	size_t longest;			/* mappings above this say ENOMEM, unless 0 */
	unsigned races;			/* so many mappings lose their first page to another */
	uint64_t random;
	unsigned opened, questions, attempts;
	unsigned elsewhere;		/* of the attempts, in the other process */
} fake;

void fake_reset(void);

#endif
