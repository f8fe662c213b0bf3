/* SPDX-License-Identifier: MIT */
/* publish.h: processes that use the library, so that it leaves a file in a sandbox */
#ifndef TESTS_PUBLISH_H
#define TESTS_PUBLISH_H

#include <stdbool.h>

#define NO_SANDBOX	"no /tmp of its own here; under TSan only root gets one"
#define NOT_ROOT	"only root can make files of other users"

enum {
	NOBODY_UID = 65534,
	UNUSED_PID = 4 << 20,	/* and above: more than Linux gives to processes */
};

/* Gets a buffer, appends to it, and releases it: the item, or NULL. */
struct buffers_item *use_buffer(void);

/* Body of a child: the first use, and that the file says so. */
int publish_file(void *context);

/* Whether there is anything of that name, be it a dangling link. */
bool path_exists(const char *path);

/* A file as another implementation would have left it an hour ago. */
void write_old_file(const char *path);

/* Asserts that neither place holds a file. */
void assert_no_files_left(void);

#endif
