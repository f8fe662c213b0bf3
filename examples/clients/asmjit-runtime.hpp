/* SPDX-License-Identifier: MIT */
/*
 * asmjit-runtime.hpp: functions of AsmJit in shared buffers, near a target
 *
 * Use it like asmjit::JitRuntime.  Code near the program calls its functions directly, without a
 * table of addresses.  With buffers::kind::rx instead of RWX, the memory is never writable.
 * Functions that were not released stay when the runtime is destroyed.
 */
#ifndef ASMJIT_RUNTIME_HPP
#define ASMJIT_RUNTIME_HPP
#include <asmjit/asmjit.h>
#include <reloaded/buffers.hpp>
#include <cstring>
#include <memory>
#include <new>

class buffers_runtime : public asmjit::JitRuntime {
public:
	explicit buffers_runtime(const void *target, buffers::kind kind = buffers::kind::rwx)
	    : target_(target), kind_(kind) {}

	asmjit::Error _add(void **function, asmjit::CodeHolder *code) noexcept override
	{
		*function = nullptr;
		ASMJIT_PROPAGATE(code->flatten());
		ASMJIT_PROPAGATE(code->resolveUnresolvedLinks());
		if (code->codeSize() == 0)
			return asmjit::kErrorNoCodeGenerated;
		auto item = get(rounded(code->codeSize()));
		if (!item)
			return asmjit::kErrorOutOfMemory;
		const auto start = reinterpret_cast<std::uintptr_t>(item->next()) + padding(*item);
		ASMJIT_PROPAGATE(code->relocateToBase(start + HEADER));
		/* Relocation may have made the code smaller. */
		const std::size_t size = rounded(code->codeSize());
		const bool needs_copy = kind_ == buffers::kind::rx;	/* RX: not writable */
		std::unique_ptr<char[]> copy(needs_copy ? new (std::nothrow) char[size]() : nullptr);
		char *const bytes = copy ? copy.get() : reinterpret_cast<char *>(start);
		if ((needs_copy && !copy) || !item->reserve(padding(*item)))
			return asmjit::kErrorOutOfMemory;
		std::memcpy(bytes, &size, sizeof(size));
		ASMJIT_PROPAGATE(code->copyFlattenedData(bytes + HEADER, size - HEADER,
			asmjit::CopySectionFlags::kPadSectionBuffer));
		if (!item->append_code(bytes, size))
			return asmjit::kErrorOutOfMemory;
		*function = reinterpret_cast<void *>(start + HEADER);
		return asmjit::kErrorOk;
	}

	/* AsmJit does not tell the size: it is stored before the code. */
	asmjit::Error _release(void *function) noexcept override
	{
		std::size_t size;
		if (!function)
			return asmjit::kErrorInvalidArgument;
		char *const start = static_cast<char *>(function) - HEADER;
		std::memcpy(&size, start, sizeof(size));
		const auto done = buffers::give_back(start, size);
		return done ? asmjit::kErrorOk : asmjit::kErrorInvalidState;
	}

private:
	/* AsmJit's own runtime aligns to 64, too: generators align data for AVX-512. */
	static constexpr std::size_t HEADER = 16, ALIGNMENT = 64;
	static std::size_t rounded(std::size_t code) { return (HEADER + code + 63) & -ALIGNMENT; }
	static std::size_t padding(const buffers::item &item)
	{
		return -(reinterpret_cast<std::uintptr_t>(item.next()) + HEADER) % ALIGNMENT;
	}
	/* Room that was given back fits without padding. */
	buffers::result<buffers::item> get(std::size_t size, std::size_t slack = 0) const
	{
		auto it = buffers::get(buffers::request{size + slack}.near_to(target_).kind(kind_));
		return it && padding(*it) + size > it->remaining() ? get(size, 64) : std::move(it);
	}
	const void *target_;
	buffers::kind kind_;
};
#endif
