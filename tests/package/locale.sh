#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: tests/package/locale.sh
#
# Tests that no script depends on the user's language: in some, [a-z] lacks letters of the
# alphabet (in Turkish the i), and sort has another order.

usage() {
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}
case ${1-} in -*) usage ;; esac

set -u
export LC_ALL=C
cd "${top_srcdir:-.}" || exit 1
failed=0

# says FACT STATUS
says() {
	if [ "$2" = 0 ]; then
		echo "ok - $1"
	else
		echo "not ok - $1"
		failed=1
	fi
}

# A tarball lacks some of them.  Perl has the C locale unless a program asks for another.
for script in bootstrap .ci/run bench/* debian/tests/* examples/demo man/html tests/run/* \
		tests/package/*.sh; do
	head -n 1 "$script" 2>/dev/null | grep -q '^#!.*sh$' || continue
	grep -q '[[][a-z0-9A-Z]*[a-z]-[a-z]\|[[][^]]*A-Z\|\<sort\>' "$script" || continue
	grep -q 'LC_ALL=C\|/chroot[.]sh"' "$script"
	says "$script sets the language that it needs" $?
done

# Recipes run in the user's language.
! grep -n '[[][^]]*a-z' Makefile.am ./*/local.mk | grep -v 'LC_ALL=C'
says "each recipe with a range of letters sets the language" $?
exit $failed
