# shellcheck shell=bash disable=SC2034,SC2317
# SPDX-License-Identifier: MIT
#
# pcre2.sh: PCRE2, whose compiler is sljit, for tests/run/clients to source
#
# The patch makes sljit take its chunks from buffers_alloc(): RWX memory, or with
# BUFFERS_CLIENT_RX=1 RX memory with a view.  It selects sljit's allocator that tells the
# distance between the address to write and the address to execute.

package=pcre2
needs='gcc libc6-dev make'

# With ALL, the libraries for characters of 16 and 32 bits, too.
build() {
	# shellcheck disable=SC2086
	./configure -q --disable-static --disable-pcre2grep-callout --enable-jit \
		${ALL:+--enable-pcre2-16 --enable-pcre2-32} \
		CFLAGS=-O1 CPPFLAGS="$BUFFERS" LIBS="$BUFFERS" || return
	make -s -j "$(nproc)"
}

# Automake prints the results of the programs, which write logs.
suite() {
	rm -f ./*.log ./*.trs
	make -k check
	cat RunTest.log RunGrepTest.log pcre2posix_test.log pcre2_jit_test.log
}

# Programs, the tests of RunTest, and the patterns of pcre2_jit_test.  That prints a dot for each
# regression test that passes, and in its other sections for each test.
count() {
	LC_ALL=C awk '
		/^PASS: / || /^  OK/ { passed++ }
		/^(FAIL|ERROR): / || /^\*\* Test .* failed/ { failed++ }
		/^Running JIT regression tests/ { in_patterns = 1; failures_have_dots = 0 }
		/^Running invalid-utf/ { failures_have_dots = 1 }
		/^(PASS|FAIL) pcre2_jit_test/ { in_patterns = 0 }
		in_patterns && match($0, /^\.+/) { passed += RLENGTH }
		in_patterns && /test ratio: .* failed\)/ {
			sub(/.*\(/, "")
			failed += $1
			if (failures_have_dots)
				passed -= $1
		}
		END { print passed + 0, failed + 0 }'
}
