/* SPDX-License-Identifier: MIT */
/* rendezvous/secure-helper.h: bits of the exit status of tests/rendezvous/secure-helper */
#ifndef TESTS_SECURE_HELPER_H
#define TESTS_SECURE_HELPER_H

enum {
	HELPER_IS_SECURE = 1,	/* AT_SECURE is set */
	HELPER_PUBLISHED = 2,
	HELPER_FOLLOWED = 4,	/* the library used the forged locator */
	HELPER_FAILED = 8,
};

#endif
