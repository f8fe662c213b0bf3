/* SPDX-License-Identifier: MIT */
/*
 * kind.h: the kinds of memory, and modifiers of a mapping
 *
 * They are separate types: a kind is the number that a public request has in its flags, a
 * modifier exists inside the library only.  lib/buffers.c asserts that no modifier has the
 * value of a public flag.
 */
#ifndef BUFFERS_KIND_H
#define BUFFERS_KIND_H

/* The permissions of memory.  Each kind has its own chain of locators. */
enum buffers_kind {
	BUFFERS_KIND_RWX,
	BUFFERS_KIND_RW,
	BUFFERS_KIND_RX,
};
#define BUFFERS_KINDS 3

enum buffers_map_flags {
	BUFFERS_MAP_PLAIN = 0,
	BUFFERS_MAP_SHARED = 1 << 16,	/* children forked later use the same memory */
	BUFFERS_MAP_RESERVED = 1 << 17,	/* buffers_platform_commit() precedes each use */
	BUFFERS_MAP_HUGE_PAGES = 1 << 18,	/* beside RESERVED: huge pages are wanted */
};
#define BUFFERS_MAP_FLAGS ((unsigned)BUFFERS_MAP_SHARED | BUFFERS_MAP_RESERVED | \
			   BUFFERS_MAP_HUGE_PAGES)

#endif
