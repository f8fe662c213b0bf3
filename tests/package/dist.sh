#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: tests/package/dist.sh
#
# Tests in the build directory that make dist fails without xz, says so, and leaves no tarball.

usage() {
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}
case ${1-} in -*) usage ;; esac

set -u
export LC_ALL=C
dir=$(mktemp -d "$PWD/dist.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
name=${dir##*/}/tarball
failed=0

# ok FACT COMMAND...: the fact holds if the command succeeds
ok() {
	fact=$1
	shift
	if "$@"; then
		echo "ok - $fact"
	else
		echo "not ok - $fact"
		sed 's/^/#	/' "$dir/log"
		failed=1
	fi
}

# All programs of PATH except xz
mkdir "$dir/bin"
(IFS=:; for place in $PATH; do
	ln -s "$place"/* "$dir/bin" 2>/dev/null
done)
rm -f "$dir/bin/xz"

status=0
PATH=$dir/bin make dist distdir="$name" >"$dir/log" 2>&1 </dev/null || status=$?
ok "without xz, make dist fails" [ "$status" != 0 ]
ok "it says that xz is missing" grep -q 'needs xz' "$dir/log"
ok "it leaves no tarball" [ ! -e "$name.tar.xz" ]
ok "it leaves no directory" [ ! -e "$name" ]
exit $failed
