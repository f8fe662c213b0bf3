#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: tests/package/usage.sh
#
# Tests that each script of the tree prints its usage and exits with status 2 when it is called
# with -h, and, if it needs arguments, when it is called without any; and that it stops if mktemp(1)
# fails, rather than write to /.

usage() {
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}
case ${1-} in -*) usage ;; esac

set -u
export LC_ALL=C
cd "${top_srcdir:-.}" || exit 1
failed=0

# prints_usage FACT COMMAND...: the usage is in $printed
prints_usage() {
	fact=$1
	shift
	status=0
	printed=$(timeout 20 "$@" 2>&1 </dev/null) || status=$?
	if [ "$status" = 2 ] && echo "$printed" | grep -q "^usage: $script"; then
		echo "ok - $fact"
	else
		echo "not ok - $fact"
		echo "exit status $status" "$printed" | sed 's/^/#	/'
		failed=1
	fi
}

# needs_arguments: the usage has a word outside brackets after the script's name
needs_arguments() {
	echo "$printed" | sed -n "s|^usage: $script||p" |
		sed ':nested; s/\[[^][]*\]//g; t nested' | grep -q '[^ ]'
}

stops_without_directory() {
	calls=$(grep '[$](mktemp' "$script" | grep -v '||') || return 0
	echo "not ok - $script stops if mktemp fails"
	echo "$calls"
	failed=1
}

# A tarball lacks some of them.
for script in bootstrap .ci/run bench/* debian/tests/* examples/demo fuzz/* proof/* tests/run/* \
		tests/package/*.sh; do
	[ -f "$script" ] || continue
	stops_without_directory
	[ -x "$script" ] || continue
	prints_usage "$script -h prints its usage" "./$script" -h
	! needs_arguments || prints_usage "$script prints its usage without arguments" "./$script"
done
exit $failed
