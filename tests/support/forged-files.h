/* SPDX-License-Identifier: MIT */
/* planted.h: files that stand where the library looks for that of this process */
#ifndef TESTS_FORGED_FILES_H
#define TESTS_FORGED_FILES_H

#include "support/inspect.h"

#include <stddef.h>

#define WHY_NO_SANDBOX "the kernel gives this user no /tmp of its own"

/* What the library does about a file that it does not follow. */
enum outcome {
	REPLACED,
	LEFT_ALONE,	/* the next place is used */
	EITHER,
};

/* The forgery that a test makes, if it makes one. */
extern struct forgery fake;

/* Makes both places, each with files that are none of the library's business. */
void make_dirs(void);

/*
 * Uses the library, with a file planted in the shared place.  Nothing but that
 * may be changed, and the forgery not followed.  For STEP(): 0 or a line.
 */
int meet(enum outcome outcome);

/* Plants each, an hour old, in a child of its own that meets it; /tmp is a sandbox. */
struct plant {
	const char *name;
	void (*make)(const char *path);
	enum outcome outcome;
};
void check_forged_files(const struct plant *plants, size_t count);

#define NAMED(function, outcome) { #function, function, outcome }
#define MEET_ALL(plants) check_forged_files(plants, sizeof(plants) / sizeof((plants)[0]))

#endif
