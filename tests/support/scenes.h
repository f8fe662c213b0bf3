/* SPDX-License-Identifier: MIT */
/*
 * scenes.h: policies and missing features, each alone and combined
 *
 * A policy forbids memory that is writable and executable.  A lack is a feature that the system
 * does not have, for which RX memory needs another way.  A scene combines one of each: its number
 * is that of the lack times POLICIES, plus that of the policy.
 */
#ifndef TESTS_SCENES_H
#define TESTS_SCENES_H

#include "support/support.h"

#include <stdbool.h>

struct policy {
	const char *name;
	bool (*impose)(void);
	bool is_denying;		/* RWX memory */
	bool is_final;			/* writable memory never becomes executable */
};
enum { POLICIES = 6 };
extern const struct policy policies[POLICIES];

/* Result of a call that writes RX memory. */
enum outcome {
	WORKS,
	MAY_FAIL,	/* with ENOMEM or EACCES */
	IS_CLOSED,	/* fails with EACCES */
};

struct lack {
	const char *name;
	bool (*impose)(void);
	enum outcome outcome;
	bool is_without_proc;
};
enum { LACKS = 16, SCENES = POLICIES * LACKS };
extern const struct lack lacks[LACKS];

#define SKIP_IF_NO_SCENE(number)							\
	do {										\
		SKIP_IF(lacks[(number) / POLICIES].is_without_proc &&			\
			(is_asan() || is_tsan()),					\
			"the sanitizer's runtime reads /proc itself");			\
		SKIP_IF((number) >= POLICIES && is_emulated(),				\
			"the emulator itself needs the missing feature");	\
	} while (0)

/* False if this system cannot impose the scene; the reason is then printed. */
bool impose_scene(int number);

/* Ends the lack of descriptors or of file size, if the scene has one. */
bool raise_limits(void);

/*
 * Like run_child() with the number of a scene, which the body imposes.  Raises the limits after it,
 * because a child writes its coverage counts to files when it exits.
 */
void run_scene(int (*body)(int number), int number);

#endif
