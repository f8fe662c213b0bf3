/* SPDX-License-Identifier: MIT */
/* publish.c: processes that use the library and leave a rendezvous file in a sandbox */

#include "config.h"
#include "support/publish.h"
#include "reloaded/buffers.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <sys/stat.h>
#include <unistd.h>

static const struct buffers_request request = { .size = 16 };

struct buffers_item *use_buffer(void)
{
	struct buffers_item *item = buffers_get(&request);

	if (!item || !buffers_append(item, "sixteen bytes...", 16))
		return NULL;
	buffers_release(item);
	return item;
}

int publish_file(void *context)
{
	(void)context;
	STEP(is_named_in(rendezvous_path(NULL, getpid()), use_buffer()));
	return 0;
}

bool path_exists(const char *path)
{
	struct stat status;

	return lstat(path, &status) == 0;
}

void write_old_file(const char *path)
{
	static const uintptr_t page[4096 / sizeof(uintptr_t)] = { (uintptr_t)1 << 20 };

	write_file(path, page, sizeof(page));
	make_old(path);
}

void assert_no_files_left(void)
{
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
	ck_assert_uint_eq(count_files(SHARED_INDEX), path_exists(SHARED_INDEX "/positions"));
	ck_assert_uint_eq(count_files(own_dir()), 0);
}
