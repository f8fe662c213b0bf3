/* SPDX-License-Identifier: MIT */
/* planted.h: files that stand where the library looks for that of this process */
#ifndef TESTS_FORGED_FILES_H
#define TESTS_FORGED_FILES_H

#include "support/inspect.h"

#include <stddef.h>

#define NO_PRIVATE_TMP "the kernel gives this user no /tmp of its own"

/* What the library does about a file that it does not follow. */
enum outcome {
	REPLACED,
	LEFT_ALONE,	/* the next place is used */
	EITHER,
};

/* The forgery that a test makes, if it makes one. */
extern struct forgery forged_locator;

/* Makes both places, each with files that are none of the library's business. */
void make_both_dirs(void);

/*
 * Uses the library, with a file planted in the shared place.  Nothing but that
 * may be changed, and the forgery not followed.  For STEP(): 0 or a line.
 */
int use_with_forged_file(enum outcome outcome);

/* Plants each, an hour old, in a child of its own that meets it; /tmp is a sandbox. */
struct forged_file {
	const char *name;
	void (*make)(const char *path);
	enum outcome outcome;
};
void check_forged_files(const struct forged_file *files, size_t count);

#define NAMED(function, outcome) { #function, function, outcome }
#define CHECK_FORGED_FILES(files) check_forged_files(files, sizeof(files) / sizeof((files)[0]))

#endif
