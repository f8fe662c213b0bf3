/* SPDX-License-Identifier: MIT */
/*
 * rendezvous/secure-helper.c: uses the library, and reports the result by its exit status
 *
 * With an argument it first writes a rendezvous file that names a forged locator in its own
 * memory; owner and modes are such that the library trusts the file.  The helper must not use
 * ck_assert(): no test of Check runs in this process.
 */

#include "config.h"
#include "support/sandbox.h"
#include "rendezvous/secure-helper.h"
#include "support/inspect.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROOM = 65536 };

static _Alignas(4096) unsigned char page[4096], room[ROOM];

static void fill_page(void)
{
	void *locator = page, *base = room;
	uint32_t size = ROOM;

	memcpy(page + AT_THIS, &locator, sizeof(locator));
	memcpy(page + AT_ITEMS + ITEM_BASE, &base, sizeof(base));
	memcpy(page + AT_ITEMS + ITEM_SIZE, &size, sizeof(size));
	page[AT_COUNT] = 1;
}

static bool forge_file(void)
{
	int file;
	bool is_whole;

	fill_page();
	mkdir("/tmp/.reloaded", 0700);
	mkdir(SHARED_DIR, 0700);
	file = open(rendezvous_path(NULL, getpid()), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	is_whole = file >= 0 && write(file, page, sizeof(page)) == (ssize_t)sizeof(page);
	if (file >= 0)
		close(file);
	return is_whole;
}

int main(int argc, char **argv)
{
	int status = getauxval(AT_SECURE) ? HELPER_IS_SECURE : 0;
	bool has_forged = argc > 1;
	struct buffers_item *item;
	const char *dir;

	(void)argv;
	if (has_forged && !forge_file())
		return status | HELPER_FAILED;
	item = use_library();
	if (!item)
		return status | HELPER_FAILED;
	if (has_forged)
		return status | (locator_of(item) == (uintptr_t)page ? HELPER_FOLLOWED : 0);
	dir = published_dir(item);
	return status | (!dir ? HELPER_FAILED : *dir ? HELPER_PUBLISHED : 0);
}
