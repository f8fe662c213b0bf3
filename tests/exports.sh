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
		grep -E '^_*(malloc|calloc|realloc|free|.*memalign|aligned_alloc|.*printf.*|f?puts|f?putc|perror|abort|_?_?exit|_Exit|raise|assert_fail|dlopen|getenv)$' |
		sort -u >"$dir/forbidden"
	# to divide by 0, where the processor cannot divide
	! $NM "$shared" | grep -q ' __aeabi_ldiv0$' || sed -i '/^raise$/d' "$dir/forbidden"
	if [ -s "$dir/forbidden" ] && grep -q 'undef NDEBUG' config.h; then
		echo "skipped: assertions of --enable-debug may print and abort"
	elif $NM "$shared" | grep -q '__asan_\|__tsan_\|__ubsan_\|__gcov_'; then
		echo "skipped: this build is instrumented, and its runtime calls what it likes"
	else
		none "it calls nothing that allocates, prints or ends the process" "$dir/forbidden"
	fi
else
	echo "skipped: no shared object was built"
fi

# No emulator executes what was there before, so that no other test would notice.
if echo | $CC -dM -E - | grep -q __powerpc64__ && [ -f "$shared" ]; then
	$OBJDUMP -d "$shared" | grep -q 'icbi' || echo "$shared" >"$dir/unflushed"
	none "it has the processor fetch code anew" "$dir/unflushed"
fi

if [ -f "$static" ]; then
	# __odr_asan.NAME is what the address sanitizer adds for each NAME; compilers for i386
	# add hidden functions that say where they are.
	$NM -g --defined-only "$static" | awk 'NF == 3 { print $3 }' |
		grep -v '^\(__odr_asan\.\)\{0,1\}buffers_\|^__x86\.get_pc_thunk\.' >"$dir/strays"
	none "the static archive defines no global name without our prefix" "$dir/strays"
	$NM -g --defined-only "$static" | awk 'NF == 3 { print $3 }' | sort >"$dir/all"
	comm -23 "$dir/map" "$dir/all" >"$dir/lacking"
	none "it defines all that the map exports" "$dir/lacking"
else
	echo "skipped: no static archive was built"
fi
exit $failed
