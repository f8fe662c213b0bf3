#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: tests/package/man.sh
#
# Tests that the manual pages lint clean, agree with the header and the export list, that their
# examples work, and that each function has a page or a link to one.
#
# Runs in the build directory.  Variables of the environment: top_srcdir, CC, MANDOC, NM.

usage()
{
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}
case ${1-} in -*) usage ;; esac

set -u
: "${top_srcdir:=.}" "${CC:=cc}" "${MANDOC:=}" "${NM:=nm}"
LC_ALL=C
export LC_ALL

header=$top_srcdir/include/reloaded/buffers.h
map=$top_srcdir/lib/libreloaded-buffers.map
errors='EINVAL EADDRNOTAVAIL ENOMEM EACCES ENOSPC ENOSYS'
library=.libs/libreloaded-buffers.a
failures=0

dir=$(mktemp -d "$PWD/man.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM

ok()
{
	echo "ok - $1"
}

# not_ok FACT: prints $dir/log, too
not_ok()
{
	echo "not ok - $1"
	sed 's/^/# /' "$dir/log"
	failures=$((failures + 1))
}

# check FACT COMMAND...: the command succeeds
check()
{
	checked=$1
	shift
	if "$@" >"$dir/log" 2>&1; then
		ok "$checked"
	else
		not_ok "$checked"
	fi
}

skip()
{
	echo "# skipped: $1"
}

# Reading ----------------------------------------------------------------------

# A function of the awk programs below: keeps only the spaces that separate two words.
normal='
function normal(text)
{
	gsub(/[ \t\n]+/, " ", text)
	gsub(/ *\* */, "*", text)
	gsub(/ *\( */, "(", text)
	gsub(/ *\) */, ")", text)
	gsub(/ *\[ */, "[", text)
	gsub(/ *, */, ",", text)
	sub(/^ /, "", text)
	sub(/ $/, "", text)
	return text
}'

exported()
{
	awk '
	/global:/ { inside = 1 }
	/local:/ { inside = 0 }
	inside && /^[ \t]*[a-z_0-9]+;/ { gsub(/[ \t;]/, ""); print }' "$map"
}

# The macros and structures of the header that its users need
offered()
{
	sed -n -e 's/^#define \(BUFFERS_[A-Z_]*\)[	 ].*/\1/p' -e 's/^#[ ]*define \(BUFFERS_REACH_[A-Z_]*\).*/\1/p' \
		-e 's/^struct \(buffers_[a-z]*\)[; ].*/\1/p' "$header" |
		grep -v -x -E 'BUFFERS_(CHECK_RESULT|NONNULL|READS|FRESH)' | sort -u
}

# "NAME PROTOTYPE" of every function that the header declares
declared()
{
	awk "$normal"'
	{ text = text $0 "\n" }
	END {
		while (start = index(text, "/*")) {
			rest = substr(text, start + 2)
			text = substr(text, 1, start - 1) " " substr(rest, index(rest, "*/") + 2)
		}
		gsub(/\\\n/, " ", text)
		count = split(text, line, "\n")
		text = ""
		for (i = 1; i <= count; i++)
			if (line[i] !~ /^[ \t]*#/)
				text = text line[i] "\n"
		gsub(/BUFFERS_[A-Z_]+[ \t]*\([0-9, ]*\)/, " ", text)
		gsub(/BUFFERS_[A-Z_]+/, " ", text)
		count = split(text, statement, ";")
		for (i = 1; i <= count; i++) {
			sub(/.*[{}]/, "", statement[i])
			text = normal(statement[i])
			if (match(text, /buffers_[a-z_0-9]+\(/))
				print substr(text, RSTART, RLENGTH - 1), text
		}
	}' "$header"
}

# named PAGE: the functions in its NAME section
named()
{
	awk '
	/^\.Sh / { inside = $2 == "NAME" }
	inside && $1 == ".Nm" { print $2 }' "$1"
}

# synopsis PAGE: as declared(), from .Ft, .Fo, .Fa and .Fc
synopsis()
{
	awk "$normal"'
	# The arguments of a macro, a comma between them.
	function arguments(text,	list, word)
	{
		sub(/^\.[A-Z][a-z][ \t]*/, "", text)
		while (match(text, /^[ \t]*("[^"]*"|[^" \t]+)/)) {
			word = substr(text, 1, RLENGTH)
			text = substr(text, RLENGTH + 1)
			gsub(/^[ \t]*"?|"$/, "", word)
			list = list (list == "" ? "" : ",") word
		}
		return list
	}
	/^\.Sh / { inside = $2 == "SYNOPSIS" }
	!inside { next }
	$1 == ".Ft" { type = $0; sub(/^\.Ft[ \t]*/, "", type); gsub(/"/, "", type) }
	$1 == ".Fo" { name = $2; list = "" }
	$1 == ".Fa" { list = list (list == "" ? "" : ",") arguments($0) }
	$1 == ".Fc" { print name, normal(type " " name "(" list ")") }' "$1"
}

# listed_errors PAGE: the errors of its section or subsection ERRORS
listed_errors()
{
	awk '
	/^\.S[hs] / { inside = toupper($2) == "ERRORS" }
	inside && /^\./ {
		for (i = 1; i < NF; i++)
			if ($i ~ /^\.?Er$/)
				print $(i + 1)
	}' "$1"
}

# examples PAGE PREFIX: writes its programs to PREFIX-1.c, PREFIX-2.c, ...
examples()
{
	awk -v prefix="$2" '
	/^\.Sh / { inside = $2 == "EXAMPLES" }
	/^\.Bd -literal/ && inside { file = prefix "-" ++count ".c"; next }
	/^\.Ed/ { file = "" }
	file {
		gsub(/\\&/, "")
		gsub(/\\-/, "-")
		gsub(/\\\(aq/, "\047")
		gsub(/\\\(ha/, "^")
		gsub(/\\\(ti/, "~")
		gsub(/\\e/, "\\")
		print >file
	}' "$1"
}

# Facts ------------------------------------------------------------------------

lints_clean()
{
	"$MANDOC" -T lint -W warning "$1" >"$dir/lint" 2>&1
	status=$?
	cat "$dir/lint"
	[ "$status" -eq 0 ] && [ ! -s "$dir/lint" ]
}

# is_named_once FUNCTION: $dir/named has "FUNCTION PAGE" lines
is_named_once()
{
	awk -v name="$1" '
	$1 == name { print $2; count++ }
	END { print "pages: " count + 0; exit count != 1 }' "$dir/named"
}

# has_page FUNCTION: a page of its own, or a link to the one that names it
has_page()
{
	page=$(awk -v name="$1" '$1 == name { print $2 }' "$dir/named")
	[ "$page" = "$1.3" ] && return
	echo ".so man3/$page" | diff - "$top_srcdir/man/$1.3"
}

# Pages that only link to others have names of exported functions.
links_are_exports()
{
	grep -l '^\.so ' "$top_srcdir"/man/*.3 | sed 's|.*/||; s|\.3$||' >"$dir/words"
	! grep -v -x -F -f "$dir/exported" "$dir/words"
}

# is_explained NAME: a page has it as a word of its own
is_explained()
{
	grep -q -w -e "$1" $pages
}

has_prototype()
{
	grep "^$1 " "$dir/declared" >"$dir/wanted" || echo "not in the header"
	grep "^$1 " "$dir/synopsis" >"$dir/given" || echo "in no synopsis of the page that names it"
	sed 's/^/header: /' "$dir/wanted"
	sed 's/^/page:   /' "$dir/given"
	[ -s "$dir/wanted" ] && cmp -s "$dir/wanted" "$dir/given"
}

# names_exports PAGE: the functions in its NAME and SYNOPSIS are exported
names_exports()
{
	named "$1" >"$dir/words"
	synopsis "$1" | sed 's/ .*//' >>"$dir/words"
	! grep -v -x -F -f "$dir/exported" "$dir/words"
}

lists_known_errors()
{
	listed_errors "$1" >"$dir/words"
	for word in $errors; do
		echo "$word"
	done >"$dir/known"
	[ -s "$dir/words" ] || echo "lists none"
	[ -s "$dir/words" ] && ! grep -v -x -F -f "$dir/known" "$dir/words"
}

# The C++ compiler beside the C compiler
cxx=$(echo "${CC%% *}" | sed 's/gcc\(-[0-9]*\)*$/g++\1/; s/clang\(-[0-9]*\)*$/clang++\1/; s/^cc$/c++/')

is_cpp()
{
	grep -q '^#include <reloaded/buffers\.hpp>' "$1"
}

compiles()
{
	if is_cpp "$1.c"; then
		$cxx -x c++ -std=c++17 -Wall -Wextra -Wpedantic -Werror \
			-I"$top_srcdir/include" -c -o "$1.o" "$1.c"
	else
		$CC -std=c99 -Wall -Wextra -Wpedantic -Werror \
			-I"$top_srcdir/include" -c -o "$1.o" "$1.c"
	fi
}

links()
{
	if is_cpp "$1.c"; then
		$cxx -o "$1" "$1.o" -L.libs -lreloaded-buffers -Wl,-rpath,"$PWD/.libs"
	elif [ -f "$library" ]; then
		$CC -o "$1" "$1.o" "$library" -pthread
	else
		./libtool --mode=link --tag=CC $CC -o "$1" "$1.o" libreloaded-buffers.la
	fi
}

# Whether the compiler makes programs for another processor, which an emulator runs
is_emulated()
{
	case $($CC -dumpmachine) in
	"$(uname -m)"-* | i?86-*) return 1 ;;
	esac
}

# The program succeeds, or says that the system lacks a function, as emulators do.  They refuse a
# second mapping as if no memory was left.
runs()
{
	"$1" 2>"$dir/said"
	status=$?
	cat "$dir/said"
	echo "exit status $status"
	[ "$status" -eq 0 ] || grep -q ': Function not implemented$' "$dir/said" ||
		{ is_emulated && grep -q ': Cannot allocate memory$' "$dir/said"; }
}

# The reason why programs cannot be linked or run; empty if they can
obstacle()
{
	if [ -f "$library" ]; then
		$NM "$library"
	else
		$NM -D .libs/libreloaded-buffers.so
	fi 2>/dev/null >"$dir/symbols"
	if grep -E -q '__(asan|tsan|msan|ubsan|gcov|llvm)_' "$dir/symbols"; then
		echo "the library is instrumented"
		return
	fi
	echo 'int main(void) { return 0; }' >"$dir/nothing.c"
	if $CC -o "$dir/nothing" "$dir/nothing.c" >/dev/null 2>&1 &&
	   ! "$dir/nothing" 2>/dev/null; then
		echo "programs of this compiler do not run here"
	fi
}

# ------------------------------------------------------------------------------

# The pages without those that only link to others
pages=$(grep -L '^\.so ' "$top_srcdir"/man/*.[1-9])

exported >"$dir/exported"
offered >"$dir/offered"
declared >"$dir/declared"
: >"$dir/named"
: >"$dir/synopsis"
for page in $pages; do
	named "$page" | sed "s/\$/ ${page##*/}/" >>"$dir/named"
	synopsis "$page" >"$dir/shown"
	# a prototype counts only on the page that has the function in its NAME
	named "$page" | sed 's/$/ /' >"$dir/words"
	awk 'NR == FNR { named[$1] = 1; next } $1 in named' "$dir/words" "$dir/shown" >>"$dir/synopsis"
done

check "there are exports" test -s "$dir/exported"
check "there are pages" test -s "$dir/named"

if [ -n "$MANDOC" ]; then
	for page in $pages; do
		check "${page##*/} lints clean" lints_clean "$page"
	done
else
	skip "lint: no mandoc here"
fi

while read -r name; do
	check "$name is named in one page" is_named_once "$name"
	check "$name has a page or a link" has_page "$name"
	check "$name has the prototype of the header" has_prototype "$name"
done <"$dir/exported"
check "all links are for exports" links_are_exports
check "there are macros and structures" test -s "$dir/offered"
while read -r name; do
	check "a page explains $name" is_explained "$name"
done <"$dir/offered"

why=$(obstacle)
[ -z "$why" ] || skip "running the examples: $why"
for page in $pages; do
	base=${page##*/}
	check "$base lists known errors" lists_known_errors "$page"
	examples "$page" "$dir/$base"
	case $page in
	*/buffers_hpp.3)
		;;
	*.3)
		check "$base names exports" names_exports "$page"
		;;
	esac
	check "$base has an example" test -f "$dir/$base-1.c"
	for program in "$dir/$base"-*.c; do
		[ -f "$program" ] || continue
		program=${program%.c}
		fact="example ${program##*-} of $base"
		if is_cpp "$program.c" && ! command -v "$cxx" >/dev/null; then
			skip "$fact: no $cxx here"
			continue
		fi
		check "$fact compiles" compiles "$program"
		[ -f "$program.o" ] && [ -z "$why" ] || continue
		check "$fact links" links "$program"
		[ -f "$program" ] || continue
		check "$fact runs" runs "$program"
	done
done

[ "$failures" -eq 0 ]
