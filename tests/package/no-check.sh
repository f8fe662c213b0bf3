#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: tests/package/no-check.sh
#
# Takes the place of the test programs, and fails, if configure did not find Check.

usage() {
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}
case ${1-} in -*) usage ;; esac

echo "the tests need Check (https://libcheck.github.io/check): none of them was built"
exit 1
