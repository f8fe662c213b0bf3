#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: tests/package/header.sh
#
# Compiles each public header alone, first and twice, in each standard of C and C++ that the
# compilers know, and tests that its attributes catch misuse.  HEADER is the compiler's option
# for its directory.

usage() {
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}
case ${1-} in -*) usage ;; esac

set -u
export LC_ALL=C
dir=$(mktemp -d "$PWD/header.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0
warnings='-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wundef -Werror'

cat >"$dir/alone.c" <<'END'
#include <reloaded/buffers.h>
#include <reloaded/buffers.h>
int main(void)
{
	struct buffers_request request = buffers_request_near(0, BUFFERS_REACH_BRANCH, 1);
	return request.size == 1 ? 0 : 1;
}
END
cp "$dir/alone.c" "$dir/alone.cc"
cat >"$dir/alone-cpp.cc" <<'END'
#include <reloaded/buffers.hpp>
#include <reloaded/buffers.hpp>
int main()
{
	return buffers::get(buffers::request{1}.near_to("")) ? 0 : 1;
}
END

# On Windows also before and after windows.h, which defines many macros, some on demand.
windows_files=
if echo '#include <windows.h>' | $CC -E - >/dev/null 2>&1; then
	for define in UNICODE NOMINMAX WIN32_LEAN_AND_MEAN NO_DEFINITION; do
		for order in before after; do
			name=windows-$define-$order
			{
				echo "#define $define"
				[ $order = after ] || echo '#include <windows.h>'
				cat "$dir/alone.c"
				[ $order = before ] || echo '#include <windows.h>'
			} >"$dir/$name.c"
			cp "$dir/$name.c" "$dir/$name.cc"
			sed 's/^#include <reloaded.*/#include <reloaded\/buffers.hpp>/' \
				"$dir/$name.c" >"$dir/$name-cpp.cc"
			windows_files="$windows_files $name"
		done
	done
fi

# check COMPILER FILE STANDARD...
check() {
	compiler=$1
	file=$2
	shift 2
	for standard; do
		echo 'int x;' >"$dir/known.${file##*.}"
		$compiler -std="$standard" -fsyntax-only "$dir/known.${file##*.}" 2>/dev/null ||
			continue
		if $compiler -std="$standard" $warnings $HEADER -fsyntax-only \
			"$dir/$file" 2>"$dir/log"; then
			echo "ok - $compiler -std=$standard $file"
		else
			echo "not ok - $compiler -std=$standard $file"
			cat "$dir/log"
			failed=1
		fi
	done
}

for name in alone $windows_files; do
	check "$CC" $name.c c99 c11 c17 c2x c23 gnu99 gnu17
done

prefix=
case ${CC%% *} in *-mingw32-gcc) prefix=${CC%%gcc*} ;; esac

# check_cxx COMPILER: nothing if there is no such compiler
check_cxx() {
	command -v "$1" >/dev/null || return
	for name in alone $windows_files; do
		check "$1" "$name.cc" c++11 c++14 c++17 c++20 c++2b
	done
	check "$1" alone-cpp.cc c++17 c++20 c++2b
	check "$1 -Wold-style-cast -fno-exceptions -fno-rtti" alone-cpp.cc c++17
	for name in $windows_files; do	# including both headers takes long
		check "$1" "$name-cpp.cc" c++17
	done
}

for cxx in ${prefix}g++ ${prefix}clang++; do
	check_cxx $cxx || echo "skipped: no $cxx here"
	for number in 12 13 14 15 16 17 18 19; do
		check_cxx "$cxx-$number"
	done
done

# misuse WARNING STATEMENT
misuse() {
	cat >"$dir/misuse.c" <<END
#include <reloaded/buffers.h>
void misuse(struct buffers_item *item, struct buffers_request *request);
void misuse(struct buffers_item *item, struct buffers_request *request)
{
	(void)item;
	(void)request;
	$2;
}
END
	if $CC -std=c99 -O2 -Wall -Wextra $HEADER -c -o "$dir/misuse.o" \
		"$dir/misuse.c" 2>"$dir/log" && grep -q -e "$1" "$dir/log"; then
		echo "ok - $1: $2"
	else
		echo "not ok - $1: $2"
		failed=1
	fi
}

misuse -Wunused-result 'buffers_get(request)'
misuse -Wunused-result 'buffers_append(item, "x", 1)'
misuse -Wnonnull '(void)!buffers_get(0)'
misuse -Wnonnull '(void)!buffers_next(0)'
exit $failed
