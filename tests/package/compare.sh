#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: tests/package/compare.sh
#
# Tests bench/compare with two build directories whose benchmark is a script that prints known
# samples.

usage() {
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}
case ${1-} in -*) usage ;; esac

set -u
export LC_ALL=C
top=$(cd "${top_srcdir:-.}" && pwd) || exit 1
dir=$(mktemp -d "$PWD/compare.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

# says FACT STATUS
says() {
	if [ "$2" = 0 ]; then
		echo "ok - $1"
	else
		echo "not ok - $1"
		sed 's/^/#	/' "$dir/out"
		failed=1
	fi
}

# make_build NAME SEED ROWS: a row is NAME:VALUE:SPREAD:GROWTH.  Its samples lie within SPREAD per
# cent around VALUE, and grow by GROWTH per cent of it with each run of either build.
make_build() {
	mkdir -p "$dir/$1/bench"
	echo "$2" >"$dir/$1/seed"
	echo "$3" | tr -s '[:space:]' '\n' >"$dir/$1/rows"
	cat >"$dir/$1/bench/bench" <<'END'
#!/bin/sh
[ "$1" = --row ] || { cut -d: -f1 rows; exit; }
echo "${PWD##*/}" >>../runs
awk -F: -v row="$2" -v seed="$(cat seed)" -v runs="$(wc -l <../runs)" '
	$1 == row && $2 == "fails" { exit 1 }
	$1 == row && $2 == "binary" { printf "%c%c%c", 1, 200, 10 }
	$1 == row && $2 ~ /^[0-9]/ {
		for (i = 0; i < 31; i++) {
			seed = (seed * 1103 + 12345) % 65536
			print $2 * (1 + $3 / 100 * (seed / 32768 - 1) + $4 / 100 * runs), 1
		}
		print seed >"seed"
	}' rows
END
	chmod +x "$dir/$1/bench/bench"
}

compare() {
	: >"$dir/runs"
	TMPDIR=$dir "$top/bench/compare" "$@" >"$dir/out" 2>&1
}

# difference ROW: the last column
difference() {
	sed -n "s/^$1  *\([^ ]*  *\)\{5\}//p" "$dir/out"
}

# lies_between ROW FROM TO: in per cent
lies_between() {
	difference "$1" | awk -v from="$2" -v to="$3" '
		{ is_inside = $2 == "%" && $1 >= from && $1 <= to }
		END { exit !is_inside }'
}

is_noise() {
	[ "$(difference "$1")" = noise ]
}

make_build old 1 "equal:50:30:0 longer:50:30:0 shorter:50:30:0 growing:50:1:3 behind:50:1:3
	fixed:3:0:0 zero:0:0:0 size:94:0:0 dropped:1:0:0 fails:fails binary:binary"
make_build new 2 "equal:50:30:0 longer:60:30:0 shorter:45:30:0 growing:50:1:3 behind:55:1:3
	fixed:3:0:0 zero:0:0:0 size:95:0:0 added:1:0:0 fails:1:0:0 binary:1:0:0"

compare "$dir/old" "$dir/new" equal longer shorter fixed zero size
says "rows are compared" $?
is_noise equal
says "builds whose samples have one distribution differ by noise" $?
lies_between longer 15 25
says "an increase by 20 % is found" $?
lies_between shorter -15 -5
says "a decrease by 10 % is found" $?
is_noise fixed && is_noise zero
says "equal figures without any spread are noise" $?
lies_between size 1 1.1
says "a difference without any spread is found" $?

compare -n 30 "$dir/old" "$dir/new" growing behind
is_noise growing
says "load that grows during the run is noise" $?
lies_between behind 5 15
says "an increase beside growing load is found" $?
[ "$(head -n 6 "$dir/runs" | tr '\n' ' ')" = "old new new old old new " ]
says "every second pair starts with the new build" $?
[ "$(wc -l <"$dir/runs")" = 120 ]
says "the pairs are as many as was asked for" $?

! compare "$dir/old" "$dir/new" fails binary size
says "the status tells that a row was not measured" $?
[ "$(grep -c 'not measured' "$dir/out")" = 2 ] && lies_between size 1 1.1
says "the other rows are measured nevertheless" $?

compare -n 12 "$dir/old" "$dir/new" fixed added dropped
[ "$(sed 1d "$dir/out" | cut -d' ' -f1)" = fixed ]
says "rows of one build alone are left out" $?
! compare -n 5 "$dir/old" "$dir/new" fixed && grep -q 'too few' "$dir/out"
says "too few pairs are refused" $?
! compare "$dir/old" "$dir/new" unknown
says "a prefix of no row is refused" $?
exit $failed
