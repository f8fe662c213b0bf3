/* SPDX-License-Identifier: MIT */
/*
 * asmjit.cc: compares asmjit::JitRuntime with the runtime of asmjit-runtime.hpp
 *
 * usage: asmjit [default | buffers] [NUMBER]
 *
 * Makes that many functions, which each call a function of this program a hundred times, calls
 * them, and prints the times, the mappings and the resident memory.
 */

#include "asmjit-runtime.hpp"
#include "measure.hpp"

#include <memory>
#include <vector>

using add_function = int (*)(int);
constexpr int CALLS = 100, CALLS_IN_LOOP = 10;

/* Not inline: the generated code calls it. */
__attribute__((noinline)) static int increment(int number)
{
	return number + 1;
}

static add_function make(asmjit::JitRuntime &runtime, int number)
{
	asmjit::CodeHolder code;
	add_function function = nullptr;

	code.init(runtime.environment());
	asmjit::x86::Assembler to(&code);
	const asmjit::Label again = to.newLabel();
	to.push(asmjit::x86::rbx);
	to.lea(asmjit::x86::eax, asmjit::x86::ptr(asmjit::x86::rdi, number));
	to.mov(asmjit::x86::ebx, CALLS / CALLS_IN_LOOP);
	to.bind(again);
	for (int i = 0; i < CALLS_IN_LOOP; i++) {
		to.mov(asmjit::x86::edi, asmjit::x86::eax);
		to.call(reinterpret_cast<std::uintptr_t>(increment));
	}
	to.dec(asmjit::x86::ebx);
	to.jnz(again);
	to.pop(asmjit::x86::rbx);
	to.ret();
	return runtime.add(&function, &code) == asmjit::kErrorOk ? function : nullptr;
}

int main(int argc, char **argv)
{
	const bool uses_buffers = argc < 2 || argv[1][0] == 'b';
	const int count = argc < 3 ? 20000 : std::atoi(argv[2]);
	const int rounds = 10;
	std::unique_ptr<asmjit::JitRuntime> runtime;
	std::vector<add_function> functions(std::size_t(count), nullptr);
	measurement before;

	if (uses_buffers)
		runtime = std::make_unique<buffers_runtime>(reinterpret_cast<const void *>(main));
	else
		runtime = std::make_unique<asmjit::JitRuntime>();
	for (int i = 0; i < count; i++)
		if (!(functions[std::size_t(i)] = make(*runtime, i)))
			return 1;
	const measurement made;
	for (int round = 0; round < rounds; round++)
		for (int i = 0; i < count; i++)
			if (functions[std::size_t(i)](round) != round + i + CALLS)
				return 1;
	const measurement called;
	report("creation", before, made, count);
	report("calls", made, called, rounds * count * CALLS);
	report_memory(before, called);
	for (add_function function : functions)
		if (runtime->release(function) != asmjit::kErrorOk)
			return 1;
	return 0;
}
