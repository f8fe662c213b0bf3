# shellcheck shell=bash disable=SC2034,SC2317
# SPDX-License-Identifier: MIT
#
# asmjit.sh: AsmJit, for tests/run/clients to source
#
# The patch makes JitRuntime put its functions into shared buffers near AsmJit, and JitAllocator
# take its blocks from buffers_alloc().  With BUFFERS_CLIENT_RX=1 the functions are in RX memory
# and the blocks have views.

package=asmjit
needs='cmake g++ make'

# The tests that use memory for code.  With ALL, the tests of the encoder, too; they take longer
# to compile than everything else.
programs='asmjit_test_emitters asmjit_test_x86_sections asmjit_test_instinfo asmjit_test_compiler'
programs="$programs ${ALL:+asmjit_test_assembler}"

build() {
	cmake -S . -B build -DASMJIT_STATIC=ON -DASMJIT_TEST=ON -DCMAKE_CXX_FLAGS="-O0 $BUFFERS" \
		-DCMAKE_CXX_STANDARD_LIBRARIES="$BUFFERS" || return
	# shellcheck disable=SC2086
	make -s -C build -j "$(nproc)" asmjit_test_unit $programs
}

# run_program NAME COMMAND...
run_program() {
	name=$1
	shift
	if "$@"; then
		echo "passed: $name"
	else
		echo "failed: $name"
	fi
}

# Each unit in a process of its own, since the first failure ends the process.
suite() {
	for unit in $(build/asmjit_test_unit --list | sed -n 's/^ *\([a-z0-9_]*\) \[priority=.*/\1/p'); do
		run_program "unit $unit" build/asmjit_test_unit "--run-$unit"
	done
	for program in $programs; do
		run_program "$program" "build/$program"
	done
}

# Units and programs, and the tests that a program lists
count() {
	awk '
		/^passed: / || /\[OK\]$/ { passed++ }
		/^failed: / || /\[FAILED\]$/ { failed++ }
		/^ *Passed: [0-9]+ \/ [0-9]+ tests/ { passed += $2; failed += $4 - $2 }
		END { print passed + 0, failed + 0 }'
}
