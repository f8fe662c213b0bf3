#!/bin/sh
# SPDX-License-Identifier: MIT
#
# installed.sh: what is installed works as its users find it
#
# make installcheck runs it, for DESTDIR and any prefix; the tests of the Debian
# packages do, for the system.  Only the directory of this script belongs to the
# source.  From the environment, all of it optional:
#
#	CC, CXX, PKG_CONFIG
#	complete	if not empty, what cannot be tested has failed
#	DESTDIR		before all that follow
#	pkgconfigdir	of buffers.pc, if pkg-config does not find it by itself
#	mandir		of the manual pages, if man(1) does not
#	exampledir	of the examples' sources
set -u
: "${CC:=cc}" "${CXX:=c++}" "${PKG_CONFIG:=pkg-config}" "${DESTDIR:=}"
: "${pkgconfigdir:=}" "${mandir:=}" "${exampledir:=}" "${complete:=}"
export LC_ALL=C
[ -z "$DESTDIR" ] || DESTDIR=$(cd "$DESTDIR" && pwd) || exit 1
source=$(dirname "$0")
warnings='-O2 -Wall -Wextra -Wpedantic -Werror'
failed=0

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM

# check FACT COMMAND...: the command succeeds
check() {
	fact=$1
	shift
	if "$@" >"$dir/log" 2>&1; then
		echo "ok - $fact"
	else
		echo "not ok - $fact"
		sed 's/^/#	/' "$dir/log"
		failed=1
	fi
}

skip() {
	if [ -n "$complete" ]; then
		echo "not ok - $*"
		failed=1
	else
		echo "skipped: $*"
	fi
}

# pkg-config and the linker ----------------------------------------------------

if [ -n "$pkgconfigdir" ]; then
	export PKG_CONFIG_PATH="$DESTDIR$pkgconfigdir"
	[ -z "$DESTDIR" ] || export PKG_CONFIG_SYSROOT_DIR="$DESTDIR"
fi
# variable NAME: of buffers.pc, where blanks are escaped
variable() {
	printf '%s' "$DESTDIR"
	$PKG_CONFIG --variable="$1" buffers | sed 's/\\ / /g'
}

libdir=$(variable libdir)
export LD_LIBRARY_PATH="$libdir"

# build COMPILER OUTPUT OPTIONS SOURCE-OPTION...: options are pkg-config's, whose
# answer has blanks of paths escaped
build() {
	compiler=$1
	output=$2
	options=$3
	shift 3
	flags=$($PKG_CONFIG $options --cflags --libs buffers) || return
	eval "\$compiler $warnings -o \"\$output\" \"\$@\" $flags"
}

needs_library() {
	${OBJDUMP:-objdump} -p "$1" | grep -q 'NEEDED.*libreloaded-buffers\.so\.0'
}

needs_no_library() {
	! needs_library "$1"
}

# program COMPILER NAME OPTION...: compiled, linked both ways, run
program() {
	compiler=$1
	name=$2
	shift 2
	if [ -f "$libdir/libreloaded-buffers.so" ]; then
		check "$name program is linked with the shared library" \
			build "$compiler" "$dir/shared" '' "$@" "$source/installed.c"
		check "$name program needs the library by its soname" needs_library "$dir/shared"
		check "$name program works" "$dir/shared"
	else
		skip "there is no shared library"
	fi
	if [ -f "$libdir/libreloaded-buffers.a" ]; then
		check "$name program is linked statically" \
			build "$compiler" "$dir/static" --static -static "$@" "$source/installed.c"
		check "$name program needs no library" needs_no_library "$dir/static"
		check "$name program works without one" "$dir/static"
	else
		skip "there is no static library"
	fi
}

# What a plugin has inside must not be unloaded: buffers.7 has it of pkg-config --static.
plugin() {
	if [ ! -f "$libdir/libreloaded-buffers.a" ]; then
		skip "there is no static library"
		return
	fi
	mkdir "$dir/archive"
	cp "$libdir/libreloaded-buffers.a" "$dir/archive" || failed=1
	check "a plugin is linked with the static library" \
		build "$CC" "$dir/plugin.so" --static -L"$dir/archive" -shared -fPIC \
		"$source/installed.c"
	check "it needs no shared one" needs_no_library "$dir/plugin.so"
	check "it will stay loaded" is_nodelete "$dir/plugin.so"
}

is_nodelete() {
	${READELF:-readelf} -d "$1" | grep FLAGS_1.*NODELETE
}

# A whole tree that was installed below a prefix is moved elsewhere.
relocate() {
	prefix=$(variable prefix)
	if [ "${DESTDIR}${pkgconfigdir%/*/pkgconfig}" != "$prefix" ]; then
		echo "# $pkgconfigdir does not tell pkg-config the prefix"
		return
	fi
	moved="$dir/moved to"
	lib=${libdir##*/}
	mkdir -p "$moved/$lib" "$moved/include"
	cp -R "$prefix/include/reloaded" "$moved/include" || failed=1
	cp -R "$libdir"/libreloaded-buffers.* "$libdir/pkgconfig" "$moved/$lib" || failed=1
	PKG_CONFIG_PATH="$moved/$lib/pkgconfig"
	unset PKG_CONFIG_SYSROOT_DIR
	check "a tree that was moved is found with --define-prefix" is_moved
	check "and a program linked with it" \
		build "$CC" "$dir/program" --define-prefix "$source/installed.c"
	LD_LIBRARY_PATH="$moved/$lib"
	check "works" "$dir/program"
}

is_moved() {
	eval "set -- $($PKG_CONFIG --define-prefix --cflags --libs buffers)"
	printf '%s\n' "$@"
	[ "$1" = "-I$moved/include" ] && [ "$2" = "-L$moved/$lib" ] &&
		[ "$3" = -lreloaded-buffers ]
}

# Manual pages -----------------------------------------------------------------

functions() {
	eval "set -- $($PKG_CONFIG --cflags buffers)"
	echo '#include <reloaded/buffers.h>' | $CC "$@" -E - |
		tr -s ' ' '\n' | sed -n 's/^\**\(buffers_[a-z_]*\)(.*/\1/p' | sort -u
}

# page SECTION NAME: man(1) shows a page with that name on it, and not only since its
# index knows what other pages name
page() {
	ls "$DESTDIR${mandir:-/usr/share/man}/man$1/$2.$1"* || return
	MANWIDTH=80 man ${mandir:+-M "$DESTDIR$mandir"} "$1" "$2" >"$dir/page" || return
	sed "s/.$(printf '\b')//g" "$dir/page" | grep -q -w -e "$2"
}

pages() {
	if ! command -v man >/dev/null; then
		skip "there is no man"
		return
	fi
	check "man 7 buffers" page 7 buffers
	functions >"$dir/functions"
	check "there are functions" test -s "$dir/functions"
	while read -r function; do
		check "man 3 $function" page 3 "$function"
	done <"$dir/functions"
}

# Examples ---------------------------------------------------------------------

examples() {
	if [ -z "$exampledir" ]; then
		skip "no directory of the examples was given"
		return
	fi
	mkdir "$dir/examples"
	cp -R "$DESTDIR$exampledir"/* "$dir/examples" || failed=1
	if $CC -fsyntax-only "$dir/examples/jit/target.c" 2>&1 | grep -q ' no target-'; then
		echo "# low2g and prefork make no code for this processor"
	else
		check "examples are built from their installed sources" \
			make -C "$dir/examples" jit/low2g jit/prefork
		check "low2g works" low2g
		check "prefork works" prefork
	fi
	if $CC -fsyntax-only "$dir/examples/hook/hook-machine.c" 2>"$dir/err"; then
		check "so is hook" make -C "$dir/examples" hook/hook
		check "it shows what an unmodified program calls" hook
	elif grep -q ' no hook-' "$dir/err"; then
		echo "# hook does not know this processor"
	else
		skip "hook needs Zydis"
	fi
}

low2g() {
	"$dir/examples/jit/low2g" '(x+3)*7' x=5 >"$dir/out" && grep -q -x '= 56' "$dir/out"
}

prefork() {
	echo '(x+3)*7 x=5' | "$dir/examples/jit/prefork" >"$dir/out" &&
		grep -q '^1: (x+3)\*7 x=5 = 56 ([0-9]* compiled)$' "$dir/out"
}

hook() {
	"$dir/examples/hook/hook" getenv ls -d / >"$dir/out" 2>"$dir/err" &&
		grep -q -x / "$dir/out" && grep '^hook: getenv called [1-9]' "$dir/err"
}

# ------------------------------------------------------------------------------

check "buffers.pc is found, and valid" $PKG_CONFIG --validate buffers
check "the library is there" test -f "$libdir/libreloaded-buffers.so" -o \
	-f "$libdir/libreloaded-buffers.a"
program "$CC" "a C" -std=c99
if command -v "$CXX" >/dev/null; then
	program "$CXX" "a C++" -x c++
else
	skip "there is no C++ compiler"
fi
plugin
pages
examples
[ -z "$pkgconfigdir" ] || relocate
exit $failed
