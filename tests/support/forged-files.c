/* SPDX-License-Identifier: MIT */
/* forged-files.c: forged rendezvous files of this process */

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

/* Makes the directory and unrelated files in it. */
static void make_unrelated_files(const char *dir)
{
	char path[160];

	make_dir(dir);
	snprintf(path, sizeof(path), "%s/README", dir);
	write_file(path, "text", 4);
	snprintf(path, sizeof(path), "%s/Reloaded.Memory.Buffers.MemoryBuffer.RW, PID %d", dir,
		 (int)getpid());
	write_rendezvous_file(path, 4096);
	write_rendezvous_file(rendezvous_path(dir, 1), 4096);
}

void make_both_dirs(void)
{
	make_unrelated_files(SHARED_DIR);
	make_unrelated_files(own_dir());
}

static bool is_as_expected(const char *dir, enum outcome outcome)
{
	bool is_shared = strcmp(dir, SHARED_DIR) == 0;

	return outcome == EITHER ? is_shared || strcmp(dir, own_dir()) == 0 :
	       outcome == REPLACED ? is_shared : strcmp(dir, own_dir()) == 0;
}

int use_with_forged_file(enum outcome outcome)
{
	char *around_shared = list_tree("/tmp", rendezvous_path(SHARED_DIR, getpid()));
	char *around_own = list_tree("/tmp", rendezvous_path(own_dir(), getpid()));
	struct buffers_item *item = use_library();
	const char *dir;
	bool is_shared;

	STEP(item);
	dir = published_dir(item);
	STEP(dir && is_as_expected(dir, outcome));
	is_shared = strcmp(dir, SHARED_DIR) == 0;
	STEP(are_trees_equal(is_shared ? around_shared : around_own,
			     list_tree("/tmp", rendezvous_path(dir, getpid()))));
	free(is_shared ? around_own : around_shared);
	STEP(!forged_locator.page ||
	     locator_of(item) != ((uintptr_t)forged_locator.page & ~(uintptr_t)4095));
	STEP(use_library() == item);
	return 0;
}

static int test_forged_file(void *context)
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
		run_child(test_forged_file, (void *)(uintptr_t)&files[i]);
		clear_directory("/tmp");
	}
}
