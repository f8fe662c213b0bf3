#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: tests/package/layout-m32.sh
#
# Tests, with a 32-bit compiler, that the static assertions of lib/locator/locator.h hold and
# can fail, and that a 64-bit store calls no function of a library.

usage() {
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}
case ${1-} in -*) usage ;; esac

set -eu
export LC_ALL=C
dir=$(mktemp -d "$PWD/layout-m32.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT

compile() {
	$CC -m32 -ffreestanding -std=gnu11 -I"$top_srcdir/include" \
		-I"$top_srcdir/lib" "$@"
}

echo 'int x;' >"$dir/empty.c"
if ! compile -fsyntax-only "$dir/empty.c" 2>"$dir/log"; then
	echo "skipped: $CC knows no -m32"
	exit 77
fi

# Headers of the C library that a compiler without one lacks.
echo '#define ENOSPC 28' >"$dir/errno.h"
echo 'void *memcpy(void *, const void *, size_t), *memmove(void *, const void *, size_t);' \
	>"$dir/string.h"

cat >"$dir/layout.c" <<'END'
#include "locator/locator.h"
_Static_assert(sizeof(uintptr_t) == 4, "32 bit");
_Static_assert(BUFFERS_LOCATOR_CAPACITY == 255, "capacity");
_Static_assert(sizeof(struct buffers_item) == 16, "item");
_Static_assert(offsetof(struct buffers_item, size) == 4, "size");
_Static_assert(offsetof(struct buffers_item, position) == 8, "position");
_Static_assert(offsetof(struct buffers_item, is_taken) == 12, "is_taken");
_Static_assert(offsetof(struct buffers_locator, next_locator) == 4, "next_locator");
_Static_assert(offsetof(struct buffers_locator, is_locked) == 8, "is_locked");
_Static_assert(offsetof(struct buffers_locator, flags) == 12, "flags");
_Static_assert(offsetof(struct buffers_locator, num_items) == 13, "num_items");
_Static_assert(offsetof(struct buffers_locator, items) == 16, "items");
_Static_assert(sizeof(struct buffers_locator) == 4096, "locator");
END
compile -fsyntax-only -isystem "$dir" "$dir/layout.c"
echo "ok - the layout holds for 32 bits"

echo '_Static_assert(sizeof(struct buffers_item) == 20, "item");' >>"$dir/layout.c"
if compile -fsyntax-only -isystem "$dir" "$dir/layout.c" 2>"$dir/log"; then
	echo "not ok - a wrong layout does not compile"
	exit 1
fi
echo "ok - a wrong layout does not compile"

cat >"$dir/store.c" <<'END'
#include "base/atomic-store.h"
void store(void *to, const void *bytes);
void store(void *to, const void *bytes)
{
	buffers_atomic_store(to, bytes, 8);
}
END
compile -O2 -S -isystem "$dir" -o "$dir/store.s" "$dir/store.c"
if grep '__atomic_' "$dir/store.s"; then
	echo "not ok - a store of 64 bits calls no function"
	exit 1
fi
echo "ok - a store of 64 bits calls no function"
