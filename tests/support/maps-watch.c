/* SPDX-License-Identifier: MIT */
/* watch.c: what is mapped, read through descriptors that were opened before */

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
 * Calls `visit` with each mapping.  The kernel hands out whole lines, and never a
 * mapping twice, but what is mapped may change between two reads.  False: there were none.
 */
static bool visit_lines(int maps, void (*visit)(const struct line *line, void *context),
			void *context)
{
	char text[16384 + 1];
	size_t kept = 0;
	bool has_lines = false;
	ssize_t got;

	lseek(maps, 0, SEEK_SET);
	while ((got = read(maps, text + kept, sizeof(text) - 1 - kept)) > 0) {
		char *at = text;
		char *end;

		text[kept + (size_t)got] = '\0';
		for (; (end = strchr(at, '\n')); at = end + 1) {
			struct line line = read_line(at);

			visit(&line, context);
			has_lines = true;
		}
		kept = strlen(at);
		memmove(text, at, kept);
	}
	return has_lines;
}

/* False where they are not to be seen. */
static bool visit_maps(const struct watch *watch, int maps,
		       void (*visit)(const struct line *line, void *context), void *context)
{
	bool is_seen;

	if (!watch->is_copy)
		return visit_lines(maps, visit, context);
	maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	if (maps < 0)
		return false;
	is_seen = visit_lines(maps, visit, context);	/* an emulator's may be empty */
	close(maps);
	return is_seen;
}

static void count_one(const struct line *line, void *count)
{
	(void)line;
	++*(size_t *)count;
}

size_t watch_count(const struct watch *watch)
{
	size_t count = 0;

	visit_maps(watch, watch->maps, count_one, &count);
	return count;
}

/* Emulators list neighbours as one, with the permissions of the first. */
static void look_at_one(const struct line *line, void *has_seen_rwx)
{
	if (is_emulated() || line->permissions[1] != 'w' || line->permissions[2] != 'x')
		return;
	*(bool *)has_seen_rwx = true;
}

struct stretch {
	uintptr_t start, end;
	const char *permissions;
	bool has_seen_rwx;
};

static void pass_one(const struct line *line, void *context)
{
	struct stretch *left = context;

	look_at_one(line, &left->has_seen_rwx);
	if (line->start <= left->start && left->start < line->end &&
	    (is_emulated() || strcmp(line->permissions, left->permissions) == 0))
		left->start = line->end;
}

static struct stretch pass_all(const struct watch *watch, const void *start, size_t size,
			       const char *permissions)
{
	struct stretch left = { (uintptr_t)start, (uintptr_t)start + size, permissions, false };

	if (!visit_maps(watch, watch->maps, pass_one, &left))
		left.start = left.end;
	return left;
}

bool watch_is_mapped_as(const struct watch *watch, const void *start, size_t size,
			const char *permissions)
{
	struct stretch left = pass_all(watch, start, size, permissions);

	return left.start >= left.end;
}

bool watch_is_mapped_without_rwx(const struct watch *watch, const void *start, size_t size,
				 const char *permissions)
{
	struct stretch left = pass_all(watch, start, size, permissions);

	return left.start >= left.end && !left.has_seen_rwx;
}

bool watch_has_rwx(const struct watch *watch)
{
	bool has_seen_rwx = false;

	visit_maps(watch, watch->maps, look_at_one, &has_seen_rwx);
	return has_seen_rwx;
}

static void *look_on(void *context)
{
	struct watch *watch = context;

	do {
		visit_maps(watch, watch->thread_maps, look_at_one, &watch->has_seen_rwx);
		if (is_slow())	/* leaves the processor to those who are looked at */
			usleep(1000);
	} while (!__atomic_load_n(&watch->stop, __ATOMIC_RELAXED) && !watch->has_seen_rwx);
	return NULL;
}

bool watch_start(struct watch *watch)
{
	return pthread_create(&watch->thread, NULL, look_on, watch) == 0;
}

bool watch_stop(struct watch *watch)
{
	__atomic_store_n(&watch->stop, true, __ATOMIC_RELAXED);
	pthread_join(watch->thread, NULL);
	return watch->has_seen_rwx;
}
