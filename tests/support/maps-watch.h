/* SPDX-License-Identifier: MIT */
/*
 * watch.h: what is mapped, read through descriptors that were opened before
 *
 * So it goes on where /proc was hidden since, or no descriptor is left.  Emulators make
 * a copy when the list is opened; under them it is opened again, and where that cannot
 * be, all is taken to be as it should.
 *
 * On Windows the first four functions are there, and nothing is opened.
 */
#ifndef TESTS_MAPS_WATCH_H
#define TESTS_MAPS_WATCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct watch {
	int maps;		/* for the caller */
	int thread_maps;	/* for the thread that reads without end */
	bool is_copy;		/* an emulator's, of what was mapped then */
	pthread_t thread;
	bool stop;
	bool has_seen_rwx;
};

/* False when there is no /proc/self/maps. */
bool watch_open(struct watch *watch);
void watch_close(struct watch *watch);

/* How many mappings there are. */
size_t watch_count(const struct watch *watch);

/* Whether all of [start, end) is mapped with these permissions. */
bool watch_is_mapped_as(const struct watch *watch, const void *start, size_t size,
			const char *permissions);

/* Whether anything is mapped writable and executable. */
bool watch_has_rwx(const struct watch *watch);

/* Both in one reading: whether that is mapped so, and nothing else is so. */
bool watch_is_mapped_without_rwx(const struct watch *watch, const void *start, size_t size,
				 const char *permissions);

/*
 * Starts a thread that looks for such from now on.  watch_stop() returns whether it
 * has seen any.
 */
bool watch_start(struct watch *watch);
bool watch_stop(struct watch *watch);

#endif
