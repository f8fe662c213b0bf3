/* SPDX-License-Identifier: MIT */
/*
 * secure-helper.c: uses the library, and its exit status says how
 *
 * With an argument it first plants a file of its own that names a locator in
 * its memory, in all ways to be trusted.  It asserts nothing: outside of a test
 * Check has nobody to tell.
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

static bool plant(void)
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
	bool has_planted = argc > 1;
	struct buffers_item *item;
	const char *place;

	(void)argv;
	if (has_planted && !plant())
		return status | HELPER_FAILED;
	item = use_library();
	if (!item)
		return status | HELPER_FAILED;
	if (has_planted)
		return status | (locator_of(item) == (uintptr_t)page ? HELPER_FOLLOWED : 0);
	place = published_dir(item);
	return status | (!place ? HELPER_FAILED : *place ? HELPER_PUBLISHED : 0);
}
