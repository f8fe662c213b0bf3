/* SPDX-License-Identifier: MIT */
/* forged-files.h: forged rendezvous files of this process */
#ifndef TESTS_FORGED_FILES_H
#define TESTS_FORGED_FILES_H

#include "support/inspect.h"

#include <stddef.h>

#define NO_PRIVATE_TMP "the kernel does not let this user mount a private /tmp"

/* The library's reaction to a file that it must not follow. */
enum outcome {
	REPLACED,
	LEFT_ALONE,	/* the library uses the other directory */
	EITHER,
};

/* A test may forge a locator here; otherwise its page is NULL. */
extern struct forgery forged_locator;

/* Makes both directories, each with unrelated files that the library must leave alone. */
void make_both_dirs(void);

/*
 * Uses the library while a forged file lies in the shared directory.  The library must change
 * nothing else, and must not use the forged locator.  Returns 0, or the line of the failed step.
 */
int use_with_forged_file(enum outcome outcome);

/* Each forged file is tested in a child.  It lies in a sandbox of /tmp and is an hour old. */
struct forged_file {
	const char *name;
	void (*make)(const char *path);
	enum outcome outcome;
};
void check_forged_files(const struct forged_file *files, size_t count);

#define NAMED(function, outcome) { #function, function, outcome }
#define CHECK_FORGED_FILES(files) check_forged_files(files, sizeof(files) / sizeof((files)[0]))

#endif
