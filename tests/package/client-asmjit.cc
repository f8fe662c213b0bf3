/* SPDX-License-Identifier: MIT */
/* client-asmjit.cc: tests examples/clients/asmjit-runtime.hpp */

#include "asmjit-runtime.hpp"

#include <cstdio>

using address_function = std::uintptr_t (*)();

/* A function that returns the address of its data, which is aligned to 64 */
static address_function make(buffers_runtime &runtime)
{
	asmjit::CodeHolder code;
	address_function function = nullptr;
	const char data[64] = {};

	code.init(runtime.environment());
	asmjit::x86::Assembler to(&code);
	asmjit::Label label = to.newLabel();
	to.lea(asmjit::x86::rax, asmjit::x86::ptr(label));
	to.ret();
	to.align(asmjit::AlignMode::kData, 64);
	to.bind(label);
	to.embed(data, sizeof(data));
	return runtime.add(&function, &code) == asmjit::kErrorOk ? function : nullptr;
}

int main()
{
	unsigned failed = 0;

	for (const auto kind : {buffers::kind::rwx, buffers::kind::rx}) {
		buffers_runtime runtime(reinterpret_cast<const void *>(main), kind);
		const address_function kept = make(runtime), second = make(runtime);
		failed += !kept || kept() % 64 != 0 || !second || second() % 64 != 0;
		/* A foreign stretch of the same size, at a multiple of 64 */
		auto item = buffers::get(buffers::request{512}.aligned(64).kind(kind));
		void *const stretch = item ? *item->reserve(192, 64) : nullptr;
		failed += !item || !item->reserve(64) || !buffers::give_back(stretch, 192);
		item->reset();
		const address_function third = make(runtime);
		failed += !third || third() % 64 != 0;
		failed += runtime.release(second) != asmjit::kErrorOk || make(runtime) != second;
	}
	std::printf("%s - AsmJit: data stays aligned, and room is used again\n",
		    failed ? "not ok" : "ok");
	return failed != 0;
}
