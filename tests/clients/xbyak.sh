# shellcheck shell=bash disable=SC2034,SC2317
# SPDX-License-Identifier: MIT
#
# xbyak.sh: Xbyak, an assembler in a C++ header, for tests/run/clients to source
#
# The patch makes MmapAllocator take pieces of shared buffers near the program.  With
# BUFFERS_CLIENT_RX=1 it takes RX memory of buffers_alloc(): a window opens when a generator
# writes, and closes when its code is asked for.

package=xbyak
needs='g++ yasm'
denied=6
denied_why='test5 and rip_addr_with_fixed_buf make memory of their own executable'

programs='make_nm bad_address misc misc32 cvt_test jmp64 apx avx10_test detect_x32'

# run_make ARGUMENT...: its makefile, with one compiler for all; -m32 is left out
run_make() {
	make BIT=64 ONLY_64BIT=1 CXX="$PWD/c++" CXXFLAGS='-O0 -w' TARGET="$programs" "$@"
}

# Its scripts compile, too, and know no libraries.
build() {
	printf '#!/bin/sh\nexec g++ "$@" %s\n' "$BUFFERS" >c++
	chmod +x c++
	run_make -C gen CFLAGS='-O0 -w -I.. -I.'
	run_make -C test all
}

# -i: one program that fails does not hide the others.
suite() {
	run_make -i -C test test
}

# A program prints the numbers of its checks; a script prints "ok".
count() {
	awk '
		/^ctest:name=/ {
			gsub(/[a-z]+=/, " ")
			gsub(",", " ")
			good += $5
			bad += $6 + $7
			next
		}
		/^ok$/ { good++ }
		/\[Makefile:[0-9]+: [^ ]+\] Error/ { bad++ }
		END { print good + 0, bad + 0 }'
}
