/* SPDX-License-Identifier: MIT */
/*
 * xbyak.cc: compares Xbyak's allocator with that of xbyak-allocator.hpp
 *
 * usage: xbyak [default | buffers] [NUMBER]
 *
 * Makes that many generators, calls each function once, and prints the times, the mappings and
 * the resident memory.
 */

#include "measure.hpp"
#include "xbyak-allocator.hpp"

#include <memory>
#include <vector>

class add_number : public Xbyak::CodeGenerator {
public:
	explicit add_number(int number, Xbyak::Allocator *allocator = nullptr)
	    : Xbyak::CodeGenerator(Xbyak::DEFAULT_MAX_CODE_SIZE, nullptr, allocator)
	{
#ifdef XBYAK64
		lea(rax, ptr[rdi + number]);
#else
		mov(eax, ptr[esp + 4]);
		add(eax, number);
#endif
		ret();
	}
};

int main(int argc, char **argv)
{
	const bool uses_buffers = argc < 2 || argv[1][0] == 'b';
	const int count = argc < 3 ? 20000 : std::atoi(argv[2]);
	buffers_allocator allocator(reinterpret_cast<const void *>(main), 16);
	std::vector<std::unique_ptr<add_number>> generators;
	std::vector<long (*)(long)> functions;
	measurement before;

	for (int i = 0; i < count; i++) {
		generators.push_back(std::make_unique<add_number>(
		    i, uses_buffers ? &allocator : nullptr));
		if (uses_buffers)
			allocator.finish(*generators.back());
	}
	const measurement made;
	for (const auto &generator : generators)
		functions.push_back(generator->getCode<long (*)(long)>());
	const measurement known;
	for (int i = 0; i < count; i++)
		if (functions[std::size_t(i)](1000) != 1000 + i)
			return 1;
	const measurement called;
	report("creation", before, made, count);
	report("first calls", known, called, count);
	report_memory(before, called);
	return 0;
}
