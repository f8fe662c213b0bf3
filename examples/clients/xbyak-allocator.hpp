/* SPDX-License-Identifier: MIT */
/*
 * xbyak-allocator.hpp: functions of Xbyak side by side in shared buffers, near a target if any
 *
 * Each thread needs its own allocator, which lives as long as its generators; call finish() at
 * the end of a generator.  The memory is RWX, so no mprotect(2) is needed: a generator must not
 * call setProtectMode(), since other code is in the same pages.  Where policy forbids RWX memory,
 * give Xbyak memory of buffers_alloc() as its user buffer, and change it with buffers_protect().
 */
#ifndef XBYAK_ALLOCATOR_HPP
#define XBYAK_ALLOCATOR_HPP

#include <reloaded/buffers.hpp>
#include <xbyak/xbyak.h>

class buffers_allocator : public Xbyak::Allocator {
public:
	explicit buffers_allocator(const void *target = nullptr) : target_(target) {}

	/* The room is taken when the generator is finished, or when another one begins. */
	std::uint8_t *alloc(std::size_t size) override
	{
		if (item_)
			take(open_, size_of(open_));
		auto item = buffers::get(wanted(size + HEADER));
		if (!item)
			return nullptr;
		item_ = std::move(*item);
		open_ = static_cast<std::uint8_t *>(item_.next()) + HEADER;
		size_of(open_) = size;
		return open_;
	}

	/* Keeps what the generator used.  It must not generate more. */
	void finish(const Xbyak::CodeArray &generator)
	{
		if (item_ && generator.getCode() == open_)
			take(open_, generator.getSize());
	}

	void free(std::uint8_t *code) override
	{
		if (item_ && code == open_)
			item_.reset();
		else if (code)
			static_cast<void>(buffers::give_back(code - HEADER, size_of(code) + HEADER));
	}

	bool useProtect() const override { return false; }

private:
	/* Xbyak does not tell free() the size: it is stored before the code. */
	static constexpr std::size_t HEADER = 16;

	static std::size_t &size_of(std::uint8_t *code)
	{
		return *reinterpret_cast<std::size_t *>(code - HEADER);
	}

	buffers::request wanted(std::size_t size) const
	{
		const auto request = buffers::request{size}.aligned(HEADER);

		return target_ ? buffers::request(request).near_to(target_) : request;
	}

	void take(std::uint8_t *code, std::size_t size)
	{
		size_of(code) = (size + HEADER - 1) / HEADER * HEADER;
		static_cast<void>(item_.reserve(size_of(code) + HEADER, HEADER));
		item_.reset();
	}

	const void *target_;
	buffers::item item_;	/* the buffer of the generator that is not finished */
	std::uint8_t *open_ = nullptr;
};

#endif
