/* SPDX-License-Identifier: MIT */
/* static-copy.c: a plugin with a copy of the library inside; exports only a table of its calls */

#include "support/copies.h"

const struct calls static_copy = {
	.get = buffers_get,
	.release = buffers_release,
	.append = buffers_append,
	.next = buffers_next,
	.overwrite = buffers_overwrite,
	.walk = buffers_walk,
	.alloc = buffers_alloc,
	.free = buffers_free,
};
