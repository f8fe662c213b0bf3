#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: tests/package/exports.sh
#
# Compares the exports of the shared object, the static archive and the header with
# lib/libreloaded-buffers.map, the only list of exports, and the calls of the library with a list
# of forbidden functions.  LIBRARY_DIR is the directory of both files; HEADER is the compiler's
# option for the header's directory.

usage() {
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}
case ${1-} in -*) usage ;; esac

set -u
export LC_ALL=C
dir=$(mktemp -d "$PWD/exports.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0
shared=$LIBRARY_DIR/libreloaded-buffers.so
static=$LIBRARY_DIR/libreloaded-buffers.a
dll=$(echo "$LIBRARY_DIR"/libreloaded-buffers-*.dll)
header=$(echo '#include <reloaded/buffers.h>' | $CC $HEADER -E - |
	sed -n 's|^# 1 "\(.*/reloaded/buffers\.h\)".*|\1|p')

sed -n 's/^	\(buffers_[a-z0-9_]*\);$/\1/p' "$top_srcdir/lib/libreloaded-buffers.map" |
	sort >"$dir/map"

# same FACT FILE: the file has the same names as the map
same() {
	if cmp -s "$dir/map" "$2"; then
		echo "ok - $1"
	else
		echo "not ok - $1"
		diff "$dir/map" "$2"
		failed=1
	fi
}

# none FACT FILE: the file is empty
none() {
	if [ -s "$2" ]; then
		echo "not ok - $1"
		cat "$2"
		failed=1
	else
		echo "ok - $1"
	fi
}

# Functions that the library must not call, as an extended regular expression
forbidden='malloc|calloc|realloc|free|.*memalign|aligned_alloc|.*printf.*|f?puts|f?putc|perror|abort|_?_?exit|_Exit|raise|assert_fail|dlopen|getenv'

# defined FILE: its global names.  On i386 Windows they have a leading underscore; compilers for
# Windows add .refptr.NAME for names of other objects.
defined() {
	$NM -g --defined-only "$1" |
		awk 'NF == 3 && $3 !~ /^\.refptr\./ { sub(/^_buffers_/, "buffers_", $3); print $3 }'
}

[ -s "$dir/map" ] || { echo "not ok - the map lists names"; exit 1; }

# Without comments and attribute macros, the name of a declaration precedes "(".
sed -e '/^ *\/\*/,/\*\//d' -e '/^#/d' "$header" |
	grep -o 'buffers_[a-z0-9_]*(' | tr -d '(' | sort >"$dir/header"
same "the header declares the names of the map" "$dir/header"

if [ -f "$shared" ]; then
	$NM -D --defined-only "$shared" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
		grep -v '^__gcov\|^mangle_path\|^__asan\|^__odr' | sort >"$dir/shared"
	same "the shared object exports the names of the map" "$dir/shared"
	$NM -D --undefined-only "$shared" | awk '{ sub(/@.*/, "", $NF); print $NF }' |
		grep -E "^_*($forbidden)\$" | sort -u >"$dir/forbidden"
	# the compiler's own, for a division by 0 on a processor that cannot divide
	! $NM "$shared" | grep -q ' __aeabi_ldiv0$' || sed -i '/^raise$/d' "$dir/forbidden"
	if [ -s "$dir/forbidden" ] && grep -q 'undef NDEBUG' config.h; then
		echo "skipped: assertions of --enable-debug may print and abort"
	elif $NM "$shared" | grep -q '__asan_\|__tsan_\|__ubsan_\|__gcov_'; then
		echo "skipped: this build is instrumented, and its runtime calls such functions"
	else
		none "the library calls no function that allocates, prints or ends the process" "$dir/forbidden"
	fi
elif [ ! -f "$dll" ]; then
	echo "skipped: no shared object was built"
fi

if [ -f "$dll" ]; then
	$OBJDUMP -p "$dll" >"$dir/headers"
	sed -n '/^.Ordinal.Name Pointer. Table/,/^$/s/^	.*[] ]\([^ ]*\)$/\1/p' \
		"$dir/headers" | sort >"$dir/dll"
	same "the DLL exports the names of the map" "$dir/dll"
	defined "$LIBRARY_DIR/libreloaded-buffers.dll.a" | grep '^buffers_' | sort >"$dir/imports"
	same "the import library has the same names" "$dir/imports"
	sed -n 's/^.*DLL Name: //p' "$dir/headers" |
		grep -v -i -x 'kernel32\.dll\|msvcrt\.dll\|ucrtbase\.dll\|api-ms-win-crt-.*' >"$dir/others"
	none "the DLL needs the DLLs of the system and of the C runtime only" "$dir/others"
	flags='DYNAMIC_BASE NX_COMPAT'
	! grep -q 'PE32+' "$dir/headers" || flags="$flags HIGH_ENTROPY_VA"
	for flag in $flags 'Base Relocation Directory'; do
		grep -v ' 00000000 Base' "$dir/headers" | grep -q "$flag" || echo "$flag"
	done >"$dir/lacking"
	none "the DLL can be loaded at any address, and its data is not executable" "$dir/lacking"
	# Not the DLL: it contains code of the C runtime, which may call these.
	$NM --undefined-only "$static" | awk '{ print $2 }' | sed 's/^__imp_//' |
		grep -E "^_*($forbidden|wassert|LoadLibrary.*|(Heap|Local|Global)Alloc)(@[0-9]*)?\$" |
		sort -u >"$dir/forbidden"
	if [ -s "$dir/forbidden" ] && grep -q 'undef NDEBUG' config.h; then
		echo "skipped: assertions of --enable-debug may print and abort"
	else
		none "the library calls no function that allocates, prints or ends the process" "$dir/forbidden"
	fi
fi

# Emulators never execute stale code, so no other test would find a missing flush.
if echo | $CC -dM -E - | grep -q __powerpc64__ && [ -f "$shared" ]; then
	$OBJDUMP -d "$shared" | grep -q 'icbi' || echo "$shared" >"$dir/unflushed"
	none "the library flushes the instruction cache" "$dir/unflushed"
fi

if [ -f "$static" ]; then
	# The address sanitizer adds an __odr_asan.NAME for each NAME; compilers for i386 add
	# hidden functions that return their own address.
	defined "$static" | grep -v '^\(__odr_asan\.\)\{0,1\}buffers_\|^__x86\.get_pc_thunk\.' >"$dir/strays"
	none "the static archive defines no global name without the prefix buffers_" "$dir/strays"
	defined "$static" | sort >"$dir/all"
	comm -23 "$dir/map" "$dir/all" >"$dir/lacking"
	none "the static archive defines all names of the map" "$dir/lacking"
else
	echo "skipped: no static archive was built"
fi
exit $failed
