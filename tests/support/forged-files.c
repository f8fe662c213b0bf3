/* SPDX-License-Identifier: MIT */
/* planted.c: files that stand where the library looks for that of this process */

#include "config.h"
#include "support/forged-files.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct forgery forged_locator;

/* Files that are none of the library's business. */
static void make_neighbours(const char *place)
{
	char path[160];

	make_dir(place);
	snprintf(path, sizeof(path), "%s/README", place);
	write_file(path, "text", 4);
	snprintf(path, sizeof(path), "%s/Reloaded.Memory.Buffers.MemoryBuffer.RW, PID %d", place,
		 (int)getpid());
	write_rendezvous_file(path, 4096);
	write_rendezvous_file(rendezvous_path(place, 1), 4096);
}

void make_both_dirs(void)
{
	make_neighbours(SHARED_DIR);
	make_neighbours(own_dir());
}

static bool is_as_expected(const char *place, enum outcome outcome)
{
	bool is_shared = strcmp(place, SHARED_DIR) == 0;

	return outcome == EITHER ? is_shared || strcmp(place, own_dir()) == 0 :
	       outcome == REPLACED ? is_shared : strcmp(place, own_dir()) == 0;
}

int use_with_forged_file(enum outcome outcome)
{
	char *around_shared = list_tree("/tmp", rendezvous_path(SHARED_DIR, getpid()));
	char *around_own = list_tree("/tmp", rendezvous_path(own_dir(), getpid()));
	struct buffers_item *item = use_library();
	const char *place;
	bool is_shared;

	STEP(item);
	place = published_dir(item);
	STEP(place && is_as_expected(place, outcome));
	is_shared = strcmp(place, SHARED_DIR) == 0;
	STEP(are_trees_equal(is_shared ? around_shared : around_own,
			     list_tree("/tmp", rendezvous_path(place, getpid()))));
	free(is_shared ? around_own : around_shared);
	STEP(!forged_locator.page ||
	     locator_of(item) != ((uintptr_t)forged_locator.page & ~(uintptr_t)4095));
	STEP(use_library() == item);
	return 0;
}

static int meet_plant(void *context)
{
	const struct forged_file *file = context;
	const char *path = rendezvous_path(NULL, getpid());
	struct stat status;
	int line;

	make_both_dirs();
	file->make(path);
	if (lstat(path, &status) != 0) {
		printf("skipped: %s: %s\n", file->name, strerror(errno));
		return 0;
	}
	make_old(path);
	line = use_with_forged_file(file->outcome);
	if (line)
		fprintf(stderr, "%s\n", file->name);
	return line;
}

void check_forged_files(const struct forged_file *files, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		run_child(meet_plant, (void *)(uintptr_t)&files[i]);
		clear_directory("/tmp");
	}
}
