#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: tests/package/installed.sh
#
# Tests the installed library, manual pages and examples.
#
# make installcheck runs it, for DESTDIR and any prefix, and so do the tests of the Debian
# packages, for the system.  It needs some files of the source: installed.c, cpp.cc, client-*.cc
# and cmake/, beside it, and ../support/code.h.  Variables of the environment, all of them optional:
#
#	CC, CXX, PKG_CONFIG
#	complete	if not empty, a fact that cannot be tested is a failure
#	DESTDIR		precedes all directories below
#	pkgconfigdir	directory of buffers.pc, if pkg-config does not search it
#	mandir		directory of the manual pages, if man(1) does not search it
#	exampledir	directory of the examples' sources

usage() {
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}
case ${1-} in -*) usage ;; esac

set -u
: "${CC:=cc}" "${CXX:=c++}" "${PKG_CONFIG:=pkg-config}" "${DESTDIR:=}"
: "${pkgconfigdir:=}" "${mandir:=}" "${exampledir:=}" "${complete:=}"
export LC_ALL=C
[ -z "$DESTDIR" ] || DESTDIR=$(cd "$DESTDIR" && pwd) || exit 1
source=$(cd "$(dirname "$0")" && pwd)
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

# build COMPILER OUTPUT OPTIONS SOURCE-OPTION...: OPTIONS are for pkg-config, which escapes
# blanks of paths in its answer
build() {
	compiler=$1
	output=$2
	options=$3
	shift 3
	flags=$($PKG_CONFIG $options --cflags --libs buffers) || return
	eval "\$compiler $warnings -I\"\$source/..\" -o \"\$output\" \"\$@\" $flags"
}

needs_library() {
	${OBJDUMP:-objdump} -p "$1" | grep -q 'NEEDED.*libreloaded-buffers\.so\.0'
}

needs_no_library() {
	! needs_library "$1"
}

# program COMPILER NAME OPTION...: compiles installed.c, links it both ways, and runs it
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

# A plugin with the archive inside must stay loaded; pkg-config --static has the linker flag.
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
	check "the plugin needs no shared library" needs_no_library "$dir/plugin.so"
	check "the plugin stays loaded" is_nodelete "$dir/plugin.so"
}

is_nodelete() {
	${READELF:-readelf} -d "$1" | grep FLAGS_1.*NODELETE
}

# cmake_builds NAME PREFIX COMPONENTS: with the package below the prefix, or the system's
cmake_builds() {
	mkdir "$dir/cmake-$1" && cd "$dir/cmake-$1" &&
		CC=${CC%% *} CXX=${CXX%% *} cmake -DCMAKE_PREFIX_PATH="$2" -Dcomponents="$3" \
			"$source/cmake" &&
		cmake --build . && cd - >/dev/null
}

# cmake_package NAME PREFIX: find_package() and the targets
cmake_package() {
	if ! command -v cmake >/dev/null || ! command -v "${CXX%% *}" >/dev/null; then
		skip "there is no cmake, or no C++ compiler"
		return
	fi
	components=
	[ ! -f "$libdir/libreloaded-buffers.so" ] || components=shared
	[ ! -f "$libdir/libreloaded-buffers.a" ] || components="${components:+$components }static"
	check "CMake, $1: the package is found and programs are linked" \
		cmake_builds "$@" "$(echo "$components" | tr ' ' ';')"
	for component in $components; do
		check "CMake, $1, $component: the C program works" "$dir/cmake-$1/c-$component"
		check "CMake, $1, $component: the C++ program works" "$dir/cmake-$1/cpp-$component"
	done
	check "CMake, $1: the program of reloaded::buffers works" "$dir/cmake-$1/cpp-buffers"
	if [ "$components" = "shared static" ]; then
		check "CMake, $1: the shared library is preferred" needs_library \
			"$dir/cmake-$1/c-buffers"
		check "CMake, $1: it is needed by its soname" needs_library "$dir/cmake-$1/c-shared"
		check "CMake, $1: the archive is linked" needs_no_library "$dir/cmake-$1/c-static"
	fi
}

# An installed tree still works after it was moved to another prefix.
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
	cp -R "$libdir"/libreloaded-buffers.* "$libdir/pkgconfig" "$libdir/cmake" "$moved/$lib" ||
		failed=1
	PKG_CONFIG_PATH="$moved/$lib/pkgconfig"
	unset PKG_CONFIG_SYSROOT_DIR
	check "a moved tree is found with --define-prefix" is_moved
	check "a program is linked with the moved tree" \
		build "$CC" "$dir/program" --define-prefix "$source/installed.c"
	LD_LIBRARY_PATH="$moved/$lib"
	check "the program works" "$dir/program"
	cmake_package moved "$moved"
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

# page SECTION NAME: man(1) shows a page that has the name in its text, from a file of that name:
# the index alone is not enough
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
	check "near is built from its installed source" make -C "$dir/examples" near
	check "near works" near
	if $CC -fsyntax-only "$dir/examples/jit/target.c" 2>&1 | grep -q ' no target-'; then
		echo "# low2g and prefork make no code for this processor"
	else
		check "low2g and prefork are built from their installed sources" \
			make -C "$dir/examples" jit/low2g jit/prefork
		check "low2g works" low2g
		check "prefork works" prefork
	fi
	if $CC -fsyntax-only "$dir/examples/hook/hook-machine.c" 2>"$dir/err"; then
		check "hook is built from its installed sources" make -C "$dir/examples" hook/hook
		check "hook shows the calls of an unmodified program" hook
	elif grep -q ' no hook-' "$dir/err"; then
		echo "# hook does not know this processor"
	else
		skip "hook needs Zydis"
	fi
	case $($CC -dumpmachine) in
	x86_64*-linux-gnu)
		client xbyak xbyak/xbyak.h default buffers
		client asmjit asmjit/asmjit.h default buffers
		client tcc-near libtcc.h default buffers
		;;
	*) echo "# the adapters' programs are for x86-64" ;;
	esac
}

# client NAME HEADER ARGUMENT...: a program with an adapter for another project's library works
# with that project's memory and with buffers
client() {
	name=$1
	if ! echo "#include <$2>" | "${CXX%% *}" -x c++ -fsyntax-only - 2>/dev/null; then
		skip "clients/$name needs $2"
		return
	fi
	shift 2
	check "clients/$name is built from its installed source" \
		make -C "$dir/examples" "clients/$name"
	for memory; do
		check "clients/$name works with $memory" \
			"$dir/examples/clients/$name" "$memory" 100
	done
	[ -f "$source/client-$name.cc" ] || return 0
	check "the test of clients/$name is built" \
		build "$CXX" "$dir/client" '' -std=c++17 -w -I"$dir/examples/clients" \
		"$source/client-$name.cc" $(echo "$name" | sed -n 's/^asmjit$/-lasmjit -lrt/p')
	check "the adapter of clients/$name works" "$dir/client"
}

near() {
	"$dir/examples/near" >"$dir/out"
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

check "buffers.pc is found and valid" $PKG_CONFIG --validate buffers
check "the library is there" test -f "$libdir/libreloaded-buffers.so" -o \
	-f "$libdir/libreloaded-buffers.a"
program "$CC" "a C" -std=c99
if command -v "$CXX" >/dev/null; then
	program "$CXX" "a C++" -x c++
else
	skip "there is no C++ compiler"
fi
plugin
cmake_package installed "${pkgconfigdir:+$DESTDIR$($PKG_CONFIG --variable=prefix buffers | sed 's/\\ / /g')}"
pages
examples
[ -z "$pkgconfigdir" ] || relocate
exit $failed
