# shellcheck shell=bash disable=SC2034,SC2317
# SPDX-License-Identifier: MIT
#
# libffi.sh: libffi, for tests/run/clients to source
#
# The patch makes ffi_closure_alloc() put closures into shared buffers, or with
# BUFFERS_CLIENT_RX=1 into arenas of RX memory with a view.  Both builds are without static
# trampolines, as Debian's package is: closures with them need no memory that is executable.

package=libffi
needs='gcc g++ libc6-dev make dejagnu'

# The tests that use closures, compiled once.  With ALL, all tests, compiled with and without
# optimization: these take several minutes.
selection='closure.exp go.exp'
if [ -n "${ALL-}" ]; then
	selection=
else
	export LIBFFI_TEST_OPTIMIZATION=-O2
fi

build() {
	./configure -q --disable-exec-static-tramp --disable-static --disable-docs \
		CFLAGS='-O2 -g0' CPPFLAGS="$BUFFERS" LIBS="$BUFFERS" || return
	make -s -j "$(nproc)"
}

suite() {
	echo "selection: ${selection:-all} ${LIBFFI_TEST_OPTIMIZATION-}"
	make check RUNTESTFLAGS="$selection"
}

count() {
	awk '
		/^# of (expected passes|unexpected successes)/ { passed += $NF }
		/^# of (unexpected failures|unresolved testcases)/ { failed += $NF }
		END { print passed + 0, failed + 0 }'
}
