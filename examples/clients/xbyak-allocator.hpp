/* SPDX-License-Identifier: MIT */
/*
 * xbyak-allocator.hpp: functions of Xbyak side by side in shared buffers, near a target if any
 *
 * Each thread needs its own allocator, which lives as long as its generators; call finish() at the
 * end of a generator.  `alignment` is a power of two from 16 on; align() of a growing generator is
 * right up to it.  The memory is RWX: a generator must not call setProtectMode(), since other code
 * is in the same pages.  Where policy forbids RWX memory, give Xbyak memory of buffers_alloc() as
 * its user buffer, and change it with buffers_protect().
 */
#ifndef XBYAK_ALLOCATOR_HPP
#define XBYAK_ALLOCATOR_HPP
#include <reloaded/buffers.hpp>
#include <xbyak/xbyak.h>

class buffers_allocator : public Xbyak::Allocator {
public:
	explicit buffers_allocator(const void *target = nullptr, std::size_t alignment = 64)
	    : target_(target), header_(alignment) {}

	/* The room is taken when the generator is finished, or when another one begins. */
	std::uint8_t *alloc(std::size_t size) override
	{
		if (item_)
			take(size_of(open_));
		auto item = buffers::get(wanted(rounded(size) + header_));
		if (!item)
			return nullptr;
		item_ = std::move(*item);
		open_ = static_cast<std::uint8_t *>(item_.next()) + header_;
		size_of(open_) = rounded(size);
		return open_;
	}

	/* Keeps what the generator used.  It must not generate more. */
	void finish(const Xbyak::CodeArray &generator)
	{
		if (item_ && generator.getCode() == open_)
			take(rounded(generator.getSize()));
	}

	void free(std::uint8_t *code) override
	{
		if (item_ && code == open_)
			take(size_of(open_));	/* giving back clears it */
		if (code)	/* the piece gives itself back */
			buffers::piece(code, size_of(code), header_);
	}

	bool useProtect() const override { return false; }

private:
	/* Xbyak does not tell free() the size: it is stored before the code. */
	std::size_t &size_of(std::uint8_t *code) const
	{
		return *reinterpret_cast<std::size_t *>(code - header_);
	}

	std::size_t rounded(std::size_t size) const { return (size + header_ - 1) & -header_; }

	buffers::request wanted(std::size_t size) const
	{
		auto request = buffers::request{size}.aligned(header_);
		return target_ ? request.near_to(target_) : request;
	}

	void take(std::size_t size)
	{
		size_of(open_) = size;
		static_cast<void>(item_.reserve(size + header_, header_));
		item_.reset();
	}

	const void *target_;
	std::size_t header_;
	buffers::item item_;	/* the buffer of the generator that is not finished */
	std::uint8_t *open_ = nullptr;
};
#endif
