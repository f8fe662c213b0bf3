/* SPDX-License-Identifier: MIT */
/*
 * maps-watch.h: read the list of mappings through descriptors that are opened early
 *
 * These keep working after /proc is hidden or the process has run out of descriptors.  Emulators
 * copy the list when it is opened, so under them it is opened anew each time; if that fails, the
 * checks pass.
 *
 * Windows has only the first four functions.  They open nothing.
 */
#ifndef TESTS_MAPS_WATCH_H
#define TESTS_MAPS_WATCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct watch {
	int maps;		/* for calls */
	int thread_maps;	/* for the watching thread */
	bool is_copy;		/* the emulator lists the mappings at the time of open() */
	pthread_t thread;
	bool stop;
	bool has_seen_rwx;
};

/* Returns false if /proc/self/maps cannot be opened. */
bool watch_open(struct watch *watch);
void watch_close(struct watch *watch);

/* The number of mappings. */
size_t watch_count(const struct watch *watch);

/* Whether all of [start, end) is mapped with these permissions. */
bool watch_is_mapped_as(const struct watch *watch, const void *start, size_t size,
			const char *permissions);

/* Whether any mapping is both writable and executable. */
bool watch_has_rwx(const struct watch *watch);

/*
 * Like watch_is_mapped_as(); also requires, in the same reading, that no mapping is both writable
 * and executable.
 */
bool watch_is_mapped_without_rwx(const struct watch *watch, const void *start, size_t size,
				 const char *permissions);

/*
 * watch_start() starts a thread that looks for mappings that are both writable and executable.
 * watch_stop() stops it and returns whether it found any.
 */
bool watch_start(struct watch *watch);
bool watch_stop(struct watch *watch);

#endif
