/* SPDX-License-Identifier: MIT */
/* client-xbyak.cc: tests examples/clients/xbyak-allocator.hpp */

#include "xbyak-allocator.hpp"

#include <cstdio>

namespace {

int failed;

void ok(bool is_true, const char *fact)
{
	std::printf("%s - Xbyak: %s\n", is_true ? "ok" : "not ok", fact);
	failed += !is_true;
}

struct generator : Xbyak::CodeGenerator {
	generator(std::size_t size, buffers_allocator &allocator)
	    : Xbyak::CodeGenerator(size, nullptr, &allocator)
	{
		mov(eax, 7);
	}
};

struct throwing : generator {
	explicit throwing(buffers_allocator &allocator) : generator(4096, allocator) { throw 1; }
};

struct growing : Xbyak::CodeGenerator {
	std::size_t offset;

	growing(buffers_allocator &allocator, int skipped)
	    : Xbyak::CodeGenerator(64, Xbyak::AutoGrow, &allocator)
	{
		nop(std::size_t(skipped));
		align(64);
		offset = getSize();
		for (int i = 0; i < 9000; i++)
			db(0x90);
		ready();
	}
};

/* A stretch that is not a multiple of the alignment must not be given to others as well. */
void test_odd_stretch()
{
	buffers_allocator allocator(nullptr, 16);
	auto item = buffers::get(buffers::request{256}.aligned(16));
	void *const stretch = *item->reserve(24, 16);

	static_cast<void>(item->reserve(64));
	item->reset();
	static_cast<void>(buffers::give_back(stretch, 24));
	generator held(6, allocator);
	allocator.finish(held);
	auto other = buffers::get(buffers::request{24});
	const auto *code = held.getCode(), *next = static_cast<const std::uint8_t *>(other->next());
	ok(next + other->remaining() <= code || next >= code + held.getSize(),
	   "finished code is not free space");
}

void test_exception()
{
	buffers_allocator allocator;
	const std::uint8_t *next = nullptr;
	std::size_t dirty = 0;

	{
		auto item = buffers::get(buffers::request{8192}.aligned(64));
		next = static_cast<const std::uint8_t *>(item->next());
	}
	try {
		throwing thrown(allocator);
	} catch (int) {
	}
	for (int i = 0; i < 4096; i++)
		dirty += next[i] != 0;
	ok(dirty == 0, "a constructor that throws leaves zeros");
}

void test_growth()
{
	buffers_allocator allocator;
	unsigned misaligned = 0;

	for (int i = 1; i < 8; i++) {
		growing grown(allocator, i * 3);
		allocator.finish(grown);
		const auto aligned = reinterpret_cast<std::uintptr_t>(grown.getCode()) + grown.offset;
		misaligned += aligned % 64 != 0;
	}
	ok(misaligned == 0, "growing code stays aligned");
}

}  // namespace

int main()
{
	test_odd_stretch();
	test_exception();
	test_growth();
	return failed != 0;
}
