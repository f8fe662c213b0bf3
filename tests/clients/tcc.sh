# shellcheck shell=bash disable=SC2034,SC2317
# SPDX-License-Identifier: MIT
#
# tcc.sh: TinyCC, a compiler that can run its output, for tests/run/clients to source
#
# The patch makes tcc_relocate() append the code to shared buffers near the compiler, RWX or, with
# BUFFERS_CLIENT_RX=1, RX.  The data beside which it was composed are in RW buffers.

package=tcc
needs='gcc perl'
denied=1
denied_why='113_btdll links a library whose code the dynamic linker must change'

build() {
	./configure --cpu="$(dpkg --print-architecture)" \
		--triplet="$(dpkg-architecture -q DEB_HOST_MULTIARCH)"
	run_make tcc libtcc.a libtcc1.a
}

# Its tests compile TinyCC with itself, and link it with the same libraries.
run_make() {
	make LIBS="-lm -lpthread -ldl $BUFFERS" "$@"
}

# -k: one test that fails does not hide the others.
suite() {
	run_make -k test
}

# A heading or "Test: NAME..." begins each test, make names those that fail; some list more.
count() {
	awk '
		/^-+ [^ ]+ -+$/ && !/ [a-z0-9]+-dir / { begun[$2] }
		/^(PP)?Test:? [^ ]+ ?\.\.\.$/ {
			sub(/ ?\.\.\.$/, "")
			begun[$2 ".test"]
		}
		/: (\*\*\* )?\[Makefile:[0-9]+: [^ ]+\] Error/ {
			sub(/.*\[Makefile:[0-9]+: /, "")
			sub(/\].*/, "")
			if (!/-dir$|^(all|test)$/)
				failed[$0]
		}
		/^[a-z0-9_]+\.\.\. success$/ { good++ }
		/^Test [0-9]+ (succeeded|failed) as expected$/ { good++ }
		END {
			for (name in begun)
				good += !(name in failed)
			for (name in failed)
				bad++
			print good + 0, bad + 0
		}'
}
