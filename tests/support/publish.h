/* SPDX-License-Identifier: MIT */
/* publish.h: processes that use the library and leave a rendezvous file in a sandbox */
#ifndef TESTS_PUBLISH_H
#define TESTS_PUBLISH_H

#include <stdbool.h>

#define NO_SANDBOX	"this user cannot mount a private /tmp; under TSan only root can"
#define NOT_ROOT	"only root can create files of other users"

enum {
	NOBODY_UID = 65534,
	UNUSED_PID = 4 << 20,	/* Linux assigns no process id from here on */
};

/* Gets a buffer, appends and releases it.  Returns the item, or NULL if a call fails. */
struct buffers_item *use_buffer(void);

/* Body of a child: uses the library and checks that the rendezvous file names the locator. */
int publish_file(void *context);

/* Whether the path exists; a dangling link counts. */
bool path_exists(const char *path);

/* Writes a rendezvous file as another implementation left it an hour ago. */
void write_old_file(const char *path);

/* Asserts that both directories are empty or missing, and that no second link is left. */
void assert_no_files_left(void);

#endif
