#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: tests/package/cpp.sh
#
# Runs cpp.cc, the test of <reloaded/buffers.hpp>, with and without exceptions and run-time types.
# HEADER is the compiler's option for the directory of the headers.

usage() {
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}
case ${1-} in -*) usage ;; esac

set -u
export LC_ALL=C
: "${LOG_COMPILER:=}" "${top_srcdir:?}" "${LIBRARY_DIR:?}" "${HEADER:?}"
dir=$(mktemp -d "$PWD/cpp.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
LD_LIBRARY_PATH=$(cd "$LIBRARY_DIR" && pwd)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
warnings='-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wundef -Werror'
failed=0

skip_all() {
	echo "skipped: $*"
	exit 77
}

# The C++ compiler beside the C compiler
name=${CC%% *}
case ${name##*/} in
*gcc*) cxx=${name%gcc*}g++${name##*gcc} ;;
*clang*) cxx=${name%clang*}clang++${name##*clang} ;;
*) cxx=c++ ;;
esac
command -v "$cxx" >/dev/null || skip_all "no $cxx here"
[ -f "$LIBRARY_DIR/libreloaded-buffers.so" ] || skip_all "there is no shared library"
! $NM -D "$LIBRARY_DIR/libreloaded-buffers.so" | grep -q '__[at]san_' ||
	skip_all "the sanitizer's runtime must be linked into the program"

for options in -std=c++17 -std=c++20 "-std=c++17 -fno-exceptions -fno-rtti"; do
	if $cxx -O2 $options $warnings $HEADER "$top_srcdir/tests/package/cpp.cc" \
		-o "$dir/cpp" -L"$LIBRARY_DIR" -lreloaded-buffers 2>"$dir/log"; then
		echo "# $cxx $options"
		$LOG_COMPILER "$dir/cpp" || failed=1
	else
		echo "not ok - $cxx $options"
		cat "$dir/log"
		failed=1
	fi
done

# A library that sets the errno of another C runtime, as a DLL may
cat >"$dir/errno.cc" <<'END'
#include <reloaded/buffers.hpp>

extern "C" int buffers_give_back(void *, std::size_t) { return -1; }
extern "C" int buffers_request_narrow(buffers_request *, const void *, std::size_t) { return -1; }

int main()
{
	errno = 0;
	return buffers::give_back(nullptr, 1) || !buffers::request{1}.near_to("").error();
}
END
if $cxx -std=c++17 $HEADER -o "$dir/errno" "$dir/errno.cc" && $LOG_COMPILER "$dir/errno"; then
	echo "ok - a failure without errno is a failure"
else
	echo "not ok - a failure without errno is a failure"
	failed=1
fi

# Pairs of functions that do the same, through each header
cat >"$dir/cost.cc" <<'END'
#include <reloaded/buffers.hpp>

extern "C" void *c_append(buffers_item *item, const void *data, std::size_t size)
{
	return buffers_append(item, data, size);
}
extern "C" void *cpp_append(buffers::item &item, const void *data, std::size_t size)
{
	const auto copy = item.append(data, size);
	return copy ? *copy : nullptr;
}
extern "C" void *c_get(const buffers_request &request, const void *data, std::size_t size)
{
	buffers_item *const item = buffers_get(&request);
	if (!item)
		return nullptr;
	void *const copy = buffers_append(item, data, size);
	buffers_release(item);
	return copy;
}
extern "C" void *cpp_get(const buffers::request &request, const void *data, std::size_t size)
{
	auto item = buffers::get(request);
	if (!item)
		return nullptr;
	const auto copy = item->append(data, size);
	return copy ? *copy : nullptr;
}
END

# instructions FUNCTION
instructions() {
	$OBJDUMP -d "$dir/cost.o" | awk -v name="<$1>:" '
		/^[0-9a-f]+ </ { inside = $2 == name }
		inside && /^ / { count++ }
		END { print count + 0 }'
}

# C++ loads the item from the object, and checks the error of the request.
if $cxx -std=c++17 -O2 $HEADER -fno-exceptions -c -o "$dir/cost.o" "$dir/cost.cc"; then
	for limit in append:1 get:4; do
		name=${limit%:*}
		c=$(instructions "c_$name")
		cpp=$(instructions "cpp_$name")
		if [ "$c" -gt 0 ] && [ "$cpp" -le $((c + ${limit#*:})) ]; then
			echo "ok - $name: $cpp instructions in C++, $c in C"
		else
			echo "not ok - $name: $cpp instructions in C++, $c in C"
			failed=1
		fi
	done
else
	echo "not ok - cost.cc compiles"
	failed=1
fi
exit $failed
