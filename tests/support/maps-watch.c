/* SPDX-License-Identifier: MIT */
/* maps-watch.c: read the list of mappings through descriptors that are opened early */

#include "config.h"
#include "support/support.h"
#include "support/maps-watch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool watch_open(struct watch *watch)
{
	*watch = (struct watch){ .is_copy = is_emulated() };
	watch->maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	watch->thread_maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	return watch->maps >= 0 && watch->thread_maps >= 0;
}

void watch_close(struct watch *watch)
{
	close(watch->maps);
	close(watch->thread_maps);
}

struct line {
	uintptr_t start, end;
	char permissions[5];
};

static struct line read_line(const char *text)
{
	struct line line = { .start = 0 };
	char *rest;

	line.start = (uintptr_t)strtoull(text, &rest, 16);
	line.end = (uintptr_t)strtoull(rest + 1, &rest, 16);
	memcpy(line.permissions, rest + 1, 4);
	return line;
}

/*
 * Calls `visit` with each mapping.  Returns false if the list is empty.  The kernel returns
 * whole lines and no mapping twice, but the mappings may change between two calls of read().
 */
static bool visit_lines(int maps, void (*visit)(const struct line *line, void *context),
			void *context)
{
	char text[16384 + 1];
	size_t partial = 0;
	bool has_lines = false;
	ssize_t got;

	lseek(maps, 0, SEEK_SET);
	while ((got = read(maps, text + partial, sizeof(text) - 1 - partial)) > 0) {
		char *at = text;
		char *end;

		text[partial + (size_t)got] = '\0';
		for (; (end = strchr(at, '\n')); at = end + 1) {
			struct line line = read_line(at);

			visit(&line, context);
			has_lines = true;
		}
		partial = strlen(at);
		memmove(text, at, partial);
	}
	return has_lines;
}

/* Returns false if the list cannot be read. */
static bool visit_maps(const struct watch *watch, int maps,
		       void (*visit)(const struct line *line, void *context), void *context)
{
	bool is_seen;

	if (!watch->is_copy)
		return visit_lines(maps, visit, context);
	maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	if (maps < 0)
		return false;
	is_seen = visit_lines(maps, visit, context);	/* some emulators give an empty list */
	close(maps);
	return is_seen;
}

static void count_line(const struct line *line, void *count)
{
	(void)line;
	++*(size_t *)count;
}

size_t watch_count(const struct watch *watch)
{
	size_t count = 0;

	visit_maps(watch, watch->maps, count_line, &count);
	return count;
}

/* Emulators merge neighbours in the list, with the permissions of the first. */
static void check_for_rwx(const struct line *line, void *has_seen_rwx)
{
	if (is_emulated() || line->permissions[1] != 'w' || line->permissions[2] != 'x')
		return;
	*(bool *)has_seen_rwx = true;
}

struct range {
	uintptr_t start, end;
	const char *permissions;
	bool has_seen_rwx;
};

static void pass_line(const struct line *line, void *context)
{
	struct range *left = context;

	check_for_rwx(line, &left->has_seen_rwx);
	if (line->start <= left->start && left->start < line->end &&
	    (is_emulated() || strcmp(line->permissions, left->permissions) == 0))
		left->start = line->end;
}

static struct range pass_lines(const struct watch *watch, const void *start, size_t size,
			       const char *permissions)
{
	struct range left = { (uintptr_t)start, (uintptr_t)start + size, permissions, false };

	if (!visit_maps(watch, watch->maps, pass_line, &left))
		left.start = left.end;
	return left;
}

bool watch_is_mapped_as(const struct watch *watch, const void *start, size_t size,
			const char *permissions)
{
	struct range left = pass_lines(watch, start, size, permissions);

	return left.start >= left.end;
}

bool watch_is_mapped_without_rwx(const struct watch *watch, const void *start, size_t size,
				 const char *permissions)
{
	struct range left = pass_lines(watch, start, size, permissions);

	return left.start >= left.end && !left.has_seen_rwx;
}

bool watch_has_rwx(const struct watch *watch)
{
	bool has_seen_rwx = false;

	visit_maps(watch, watch->maps, check_for_rwx, &has_seen_rwx);
	return has_seen_rwx;
}

static void *run_watcher(void *context)
{
	struct watch *watch = context;

	do {
		visit_maps(watch, watch->thread_maps, check_for_rwx, &watch->has_seen_rwx);
		if (is_slow())	/* let the watched threads run */
			usleep(1000);
	} while (!__atomic_load_n(&watch->stop, __ATOMIC_RELAXED) && !watch->has_seen_rwx);
	return NULL;
}

bool watch_start(struct watch *watch)
{
	return pthread_create(&watch->thread, NULL, run_watcher, watch) == 0;
}

bool watch_stop(struct watch *watch)
{
	__atomic_store_n(&watch->stop, true, __ATOMIC_RELAXED);
	pthread_join(watch->thread, NULL);
	return watch->has_seen_rwx;
}
