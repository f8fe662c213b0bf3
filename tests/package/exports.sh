#!/bin/sh
# SPDX-License-Identifier: MIT
# lib/libreloaded-buffers.map is the only list of exports: the shared object,
# the static archive and the header are held against it, and what the library
# calls against what it may call.  LIBRARY_DIR has the two files, HEADER is the
# option with which the header is found.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
shared=$LIBRARY_DIR/libreloaded-buffers.so
static=$LIBRARY_DIR/libreloaded-buffers.a
dll=$(echo "$LIBRARY_DIR"/libreloaded-buffers-*.dll)
header=$(echo '#include <reloaded/buffers.h>' | $CC $HEADER -E - |
	sed -n 's|^# 1 "\(.*/reloaded/buffers\.h\)".*|\1|p')

sed -n 's/^	\(buffers_[a-z0-9_]*\);$/\1/p' "$top_srcdir/lib/libreloaded-buffers.map" |
	sort >"$dir/map"

# same FACT FILE: the file holds the names of the map
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

# What must not be called, as an extended regular expression.
forbidden='malloc|calloc|realloc|free|.*memalign|aligned_alloc|.*printf.*|f?puts|f?putc|perror|abort|_?_?exit|_Exit|raise|assert_fail|dlopen|getenv'

# defined FILE: its global names; those of i386 on Windows begin with one more character, and
# its compiler adds what leads to a name of another object.
defined() {
	$NM -g --defined-only "$1" |
		awk 'NF == 3 && $3 !~ /^\.refptr\./ { sub(/^_buffers_/, "buffers_", $3); print $3 }'
}

[ -s "$dir/map" ] || { echo "not ok - the map lists names"; exit 1; }

# Without comments and attribute macros, a declaration's name stands before "(".
sed -e '/^ *\/\*/,/\*\//d' -e '/^#/d' "$header" |
	grep -o 'buffers_[a-z0-9_]*(' | tr -d '(' | sort >"$dir/header"
same "the header declares what the map exports" "$dir/header"

if [ -f "$shared" ]; then
	$NM -D --defined-only "$shared" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
		grep -v '^__gcov\|^mangle_path\|^__asan\|^__odr' | sort >"$dir/shared"
	same "the shared object exports it" "$dir/shared"
	$NM -D --undefined-only "$shared" | awk '{ sub(/@.*/, "", $NF); print $NF }' |
		grep -E "^_*($forbidden)\$" | sort -u >"$dir/forbidden"
	# to divide by 0, where the processor cannot divide
	! $NM "$shared" | grep -q ' __aeabi_ldiv0$' || sed -i '/^raise$/d' "$dir/forbidden"
	if [ -s "$dir/forbidden" ] && grep -q 'undef NDEBUG' config.h; then
		echo "skipped: assertions of --enable-debug may print and abort"
	elif $NM "$shared" | grep -q '__asan_\|__tsan_\|__ubsan_\|__gcov_'; then
		echo "skipped: this build is instrumented, and its runtime calls what it likes"
	else
		none "it calls nothing that allocates, prints or ends the process" "$dir/forbidden"
	fi
elif [ ! -f "$dll" ]; then
	echo "skipped: no shared object was built"
fi

if [ -f "$dll" ]; then
	$OBJDUMP -p "$dll" >"$dir/headers"
	sed -n '/^.Ordinal.Name Pointer. Table/,/^$/s/^	.*[] ]\([^ ]*\)$/\1/p' \
		"$dir/headers" | sort >"$dir/dll"
	same "the DLL exports it" "$dir/dll"
	defined "$LIBRARY_DIR/libreloaded-buffers.dll.a" | grep '^buffers_' | sort >"$dir/imports"
	same "its import library has it" "$dir/imports"
	sed -n 's/^.*DLL Name: //p' "$dir/headers" |
		grep -v -i -x 'kernel32\.dll\|msvcrt\.dll\|ucrtbase\.dll\|api-ms-win-crt-.*' >"$dir/others"
	none "it needs no DLL but the system's and the C runtime's" "$dir/others"
	flags='DYNAMIC_BASE NX_COMPAT'
	! grep -q 'PE32+' "$dir/headers" || flags="$flags HIGH_ENTROPY_VA"
	for flag in $flags 'Base Relocation Directory'; do
		grep -v ' 00000000 Base' "$dir/headers" | grep -q "$flag" || echo "$flag"
	done >"$dir/lacking"
	none "it may lie anywhere, and its data is not executed" "$dir/lacking"
	# The C runtime's own code calls what it likes.
	$NM --undefined-only "$static" | awk '{ print $2 }' | sed 's/^__imp_//' |
		grep -E "^_*($forbidden|wassert|LoadLibrary.*|(Heap|Local|Global)Alloc)(@[0-9]*)?\$" |
		sort -u >"$dir/forbidden"
	if [ -s "$dir/forbidden" ] && grep -q 'undef NDEBUG' config.h; then
		echo "skipped: assertions of --enable-debug may print and abort"
	else
		none "it calls nothing that allocates, prints or ends the process" "$dir/forbidden"
	fi
fi

# No emulator executes what was there before, so that no other test would notice.
if echo | $CC -dM -E - | grep -q __powerpc64__ && [ -f "$shared" ]; then
	$OBJDUMP -d "$shared" | grep -q 'icbi' || echo "$shared" >"$dir/unflushed"
	none "it has the processor fetch code anew" "$dir/unflushed"
fi

if [ -f "$static" ]; then
	# __odr_asan.NAME is what the address sanitizer adds for each NAME; compilers for i386
	# add hidden functions that say where they are.
	defined "$static" | grep -v '^\(__odr_asan\.\)\{0,1\}buffers_\|^__x86\.get_pc_thunk\.' >"$dir/strays"
	none "the static archive defines no global name without our prefix" "$dir/strays"
	defined "$static" | sort >"$dir/all"
	comm -23 "$dir/map" "$dir/all" >"$dir/lacking"
	none "it defines all that the map exports" "$dir/lacking"
else
	echo "skipped: no static archive was built"
fi
exit $failed
