/* SPDX-License-Identifier: MIT */
/*
 * buffers.hpp: <reloaded/buffers.h> for C++17
 *
 * Owners of what the C functions return, as movable objects that cannot be copied; results that
 * hold a value or a std::error_code.  Each function calls one C function, whose description in
 * <reloaded/buffers.h> applies: errors, threads, signals and fork.  Nothing here throws, except
 * result::value(); the header needs neither exceptions nor run-time types.
 *
 *	buffers::request wanted{64};
 *	auto item = buffers::get(wanted.near(function));
 *	if (!item)
 *		return item.error();
 *	auto code = item->append_code(bytes);
 *
 * The item is released at the end of the scope.  Appended bytes stay.
 */
#ifndef RELOADED_BUFFERS_HPP
#define RELOADED_BUFFERS_HPP

#include <reloaded/buffers.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <system_error>
#include <type_traits>
#include <utility>

/* <windows.h> defines `near` as nothing.  Its users call near_to(). */
#pragma push_macro("near")
#undef near

namespace buffers {

/*
 * The kinds of memory: BUFFERS_RW, BUFFERS_RX and BUFFERS_VIEW.  rx_view is for alloc() and
 * arena::create() only.
 */
enum class kind : unsigned {
	rwx = 0,
	rw = BUFFERS_RW,
	rx = BUFFERS_RX,
	rx_view = BUFFERS_RX | BUFFERS_VIEW,
};

/*
 * result: a value, or the error that prevented it
 *
 * Converts to true if there is a value: a pointer that is not null, or an object that owns
 * something.  The value is at * and ->.  error() is of std::generic_category(), thus comparable
 * with std::errc; it is meaningful only if the call failed.
 */
template <class T>
class [[nodiscard]] result {
public:
	result(T value) noexcept : value_(std::move(value)) {}

	static result failure(int error) noexcept
	{
		result failed{T{}};

		failed.error_ = error;
		return failed;
	}

	explicit operator bool() const noexcept { return has_value(); }
	bool has_value() const noexcept { return static_cast<bool>(value_); }

	T &operator*() & noexcept { return value_; }
	const T &operator*() const & noexcept { return value_; }
	T &&operator*() && noexcept { return std::move(value_); }
	T *operator->() noexcept { return &value_; }
	const T *operator->() const noexcept { return &value_; }

	std::error_code error() const noexcept { return {error_, std::generic_category()}; }

#ifdef __cpp_exceptions
	/* The value; throws std::system_error if there is none. */
	T &value() &
	{
		require();
		return value_;
	}
	const T &value() const &
	{
		require();
		return value_;
	}
	T &&value() &&
	{
		require();
		return std::move(value_);
	}
#endif

private:
#ifdef __cpp_exceptions
	void require() const
	{
		if (!has_value())
			throw std::system_error(error());
	}
#endif

	T value_;
	int error_ = 0;
};

/* Success, or the error: for functions that return nothing else. */
template <>
class [[nodiscard]] result<void> {
public:
	result() noexcept = default;

	static result failure(int error) noexcept
	{
		result failed;

		failed.error_ = error;
		return failed;
	}

	explicit operator bool() const noexcept { return error_ == 0; }
	bool has_value() const noexcept { return error_ == 0; }
	std::error_code error() const noexcept { return {error_, std::generic_category()}; }

#ifdef __cpp_exceptions
	void value() const
	{
		if (error_ != 0)
			throw std::system_error(error());
	}
#endif

private:
	int error_ = 0;
};

namespace detail {

/* The errno of a failure; EIO if a DLL set that of another C runtime: 0 would be success. */
inline int last_error() noexcept
{
	return errno != 0 ? errno : EIO;
}

/* The C functions return NULL, or -1, and set errno. */
template <class T>
result<T *> from_pointer(void *address) noexcept
{
	if (!address)
		return result<T *>::failure(last_error());
	return static_cast<T *>(address);
}

inline result<void> from_status(int status) noexcept
{
	return status == 0 ? result<void>() : result<void>::failure(last_error());
}

/*
 * An argument that the C function checks for NULL.  Its attribute would let the compiler conclude
 * that the caller's pointer is not null, and remove the caller's checks.
 */
template <class T>
T *maybe_null(T *address) noexcept
{
#ifdef __GNUC__
	__asm__("" : "+r"(address));
#endif
	return address;
}

/* Bytes of a contiguous range: std::span, std::vector, std::array, std::string_view, an array. */
template <class Range>
using element_of = std::remove_reference_t<decltype(*std::data(std::declval<Range &>()))>;

/* An array of char may be a string literal, whose last byte few callers want. */
template <class Range>
constexpr bool is_text = std::is_array_v<Range> &&
			 std::is_same_v<std::remove_cv_t<std::remove_extent_t<Range>>, char>;

template <class Range, class = void>
constexpr bool is_range_of_bytes = false;
template <class Range>
constexpr bool is_range_of_bytes<Range, std::void_t<element_of<Range>>> =
	std::is_trivially_copyable_v<element_of<Range>> && !is_text<Range>;

template <class Range>
std::size_t bytes_of(const Range &range) noexcept
{
	return std::size(range) * sizeof(element_of<const Range>);
}

/* The macro has a cast of C, of which -Wold-style-cast would warn each caller. */
#ifdef __GNUC__
# pragma GCC diagnostic push
# pragma GCC diagnostic ignored "-Wold-style-cast"
#endif
inline constexpr std::size_t branch_reach = BUFFERS_REACH_BRANCH;
#ifdef __GNUC__
# pragma GCC diagnostic pop
#endif

}  // namespace detail

/*
 * request: struct buffers_request with setters that can be chained
 *
 * near() and narrow() can fail.  The request keeps the first error, and the call that gets the
 * request returns it.
 */
class request {
public:
	/* size in bytes, at least 1 */
	explicit constexpr request(std::size_t size) noexcept : wanted_{} { wanted_.size = size; }

	/* Within reach of a target, and mapped as near to it as possible; replaces the range. */
	request &near(const void *target, std::size_t reach = detail::branch_reach) noexcept
	{
		return near_to(target, reach);
	}
	request &near_to(const void *target, std::size_t reach = detail::branch_reach) noexcept
	{
		wanted_.target = target;
		return within(0, 0).narrow(target, reach);
	}

	/* In [min_address, max_address); 0 as the end: no upper bound. */
	request &within(std::uintptr_t min_address, std::uintptr_t max_address) noexcept
	{
		wanted_.min_address = min_address;
		wanted_.max_address = max_address;
		return *this;
	}

	/* Within reach of another target as well: buffers_request_narrow(). */
	request &narrow(const void *target, std::size_t reach = detail::branch_reach) noexcept
	{
		const void *const checked = detail::maybe_null(target);

		if (buffers_request_narrow(&wanted_, checked, reach) != 0 && error_ == 0)
			error_ = detail::last_error();
		return *this;
	}

	/* Alignment of the first free byte, or of the memory of alloc(): a power of two */
	request &aligned(std::size_t alignment) noexcept
	{
		wanted_.alignment = alignment;
		return *this;
	}

	request &kind(buffers::kind kind) noexcept
	{
		wanted_.flags = static_cast<unsigned>(kind);
		return *this;
	}

	/* For C functions.  error() is 0, or the errno of a setter that failed. */
	const buffers_request &c_request() const noexcept { return wanted_; }
	int error() const noexcept { return error_; }

private:
	buffers_request wanted_;
	int error_ = 0;
};

/* buffers_give_back() */
inline result<void> give_back(void *address, std::size_t size) noexcept
{
	return detail::from_status(buffers_give_back(address, size));
}

/*
 * piece: room in a buffer that gives itself back
 *
 * The owner makes sure that no thread executes or uses the room when the piece is destroyed.
 * A piece in an arena must not outlive the arena.  The destructor ignores errors; give_back()
 * reports them, and the room then stays owned.
 */
class piece {
public:
	piece() noexcept = default;
	/* Adopts room that the caller took with `padding` bytes before it. */
	piece(void *address, std::size_t size, std::size_t padding = 0) noexcept
	    : address_(static_cast<char *>(address)), size_(size), padding_(padding) {}
	piece(piece &&other) noexcept
	    : address_(std::exchange(other.address_, nullptr)), size_(other.size_),
	      padding_(other.padding_) {}
	piece &operator=(piece other) noexcept
	{
		std::swap(address_, other.address_);
		std::swap(size_, other.size_);
		std::swap(padding_, other.padding_);
		return *this;
	}
	~piece() { static_cast<void>(give_back()); }

	explicit operator bool() const noexcept { return address_ != nullptr; }
	void *get() const noexcept { return address_; }
	std::size_t size() const noexcept { return address_ ? size_ : 0; }

	result<void> give_back() noexcept
	{
		if (!address_)
			return {};
		const std::size_t size = padding_ + size_;
		if (size != 0)
			if (auto done = buffers::give_back(address_ - padding_, size); !done)
				return done;
		address_ = nullptr;
		return {};
	}

	/* Gives back all but the first `size` bytes, for a caller that estimated too much. */
	result<void> shrink(std::size_t size) noexcept
	{
		if (!address_ || size > size_)
			return result<void>::failure(EINVAL);
		if (size == 0)
			return give_back();
		if (size == size_)
			return {};
		const auto done = buffers::give_back(address_ + size, size_ - size);
		if (done)
			size_ = size;
		return done;
	}

	/* The room stays in use, until the process ends or the caller gives it back. */
	void *detach() noexcept { return std::exchange(address_, nullptr); }

private:
	char *address_ = nullptr;
	std::size_t size_ = 0;
	std::size_t padding_ = 0;
};

/* item: a buffer that the caller holds, until the object is destroyed or reset */
class item {
public:
	item() noexcept = default;
	/* Adopts an item that the caller holds. */
	explicit item(buffers_item *held) noexcept : held_(held) {}
	item(item &&other) noexcept : held_(other.detach()) {}
	item &operator=(item other) noexcept
	{
		std::swap(held_, other.held_);
		return *this;
	}
	~item() { reset(); }

	explicit operator bool() const noexcept { return held_ != nullptr; }
	buffers_item *get() const noexcept { return held_; }

	/* buffers_release() */
	void reset() noexcept
	{
		if (held_)
			buffers_release(std::exchange(held_, nullptr));
	}

	/* The caller must release the item. */
	[[nodiscard]] buffers_item *detach() noexcept { return std::exchange(held_, nullptr); }

	/* buffers_append() */
	result<void *> append(const void *data, std::size_t size) noexcept
	{
		return detail::from_pointer<void>(buffers_append(checked(), data, size));
	}

	/*
	 * The elements of a contiguous range, without padding before them.  For an array of char
	 * pass its size, or a std::string_view: a string literal has one byte more than its text.
	 */
	template <class Range, class = std::enable_if_t<detail::is_range_of_bytes<const Range>>>
	result<void *> append(const Range &range) noexcept
	{
		return append(std::data(range), detail::bytes_of(range));
	}

	/* A copy of a value, aligned for its type; after a failure the item may be aligned, too */
	template <class T>
	result<T *> append_value(const T &value) noexcept
	{
		static_assert(std::is_trivially_copyable_v<T>);
		if (!buffers_reserve(checked(), 0, alignof(T)))
			return result<T *>::failure(detail::last_error());
		return detail::from_pointer<T>(
		    buffers_append(checked(), std::addressof(value), sizeof(T)));
	}

	/* buffers_append_code() */
	result<void *> append_code(const void *code, std::size_t size) noexcept
	{
		return detail::from_pointer<void>(buffers_append_code(checked(), code, size));
	}
	template <class Range, class = std::enable_if_t<detail::is_range_of_bytes<const Range>>>
	result<void *> append_code(const Range &range) noexcept
	{
		return append_code(std::data(range), detail::bytes_of(range));
	}

	/* buffers_reserve() */
	result<void *> reserve(std::size_t size, std::size_t alignment = 1) noexcept
	{
		return detail::from_pointer<void>(buffers_reserve(checked(), size, alignment));
	}

	/* The same, for room that gives itself back with the padding before it */
	result<piece> take(std::size_t size, std::size_t alignment = 1) noexcept
	{
		char *const start = static_cast<char *>(buffers_next(checked()));
		char *const room = static_cast<char *>(buffers_reserve(checked(), size, alignment));

		if (!room)
			return result<piece>::failure(detail::last_error());
		return piece(room, size, static_cast<std::size_t>(room - start));
	}

	void *next() const noexcept { return buffers_next(checked()); }
	std::size_t remaining() const noexcept { return buffers_remaining(checked()); }
	void *base() const noexcept { return buffers_base(checked()); }
	std::size_t size() const noexcept { return buffers_size(checked()); }

private:
	buffers_item *checked() const noexcept { return detail::maybe_null(held_); }

	buffers_item *held_ = nullptr;
};

namespace detail {

inline result<item> from_item(buffers_item *held) noexcept
{
	return held ? result<item>(item(held)) : result<item>::failure(detail::last_error());
}

}  // namespace detail

/* buffers_get() */
inline result<item> get(const request &wanted) noexcept
{
	if (wanted.error() != 0)
		return result<item>::failure(wanted.error());
	return detail::from_item(buffers_get(&wanted.c_request()));
}

/* buffers_get_near() */
inline result<item> get_near(const void *target, std::size_t size) noexcept
{
	return detail::from_item(buffers_get_near(detail::maybe_null(target), size));
}

/* buffers_view() */
inline result<void *> view(const void *address) noexcept
{
	return detail::from_pointer<void>(buffers_view(detail::maybe_null(address)));
}

/* allocation: memory of buffers_alloc(), freed when the object is destroyed */
class allocation {
public:
	allocation() noexcept = default;
	/* Adopts memory that buffers_alloc() mapped. */
	allocation(void *address, std::size_t allocated) noexcept
	    : address_(address), size_(allocated) {}
	allocation(allocation &&other) noexcept
	    : address_(other.detach()), size_(other.size_) {}
	allocation &operator=(allocation other) noexcept
	{
		std::swap(address_, other.address_);
		std::swap(size_, other.size_);
		return *this;
	}
	~allocation() { static_cast<void>(free()); }

	explicit operator bool() const noexcept { return address_ != nullptr; }
	void *get() const noexcept { return address_; }
	std::size_t size() const noexcept { return address_ ? size_ : 0; }
	result<void *> view() const noexcept { return buffers::view(address_); }

	/* buffers_protect(): kind::rw opens a write window, kind::rx closes it. */
	result<void> protect(kind kind) noexcept
	{
		return detail::from_status(
		    buffers_protect(address_, size_, static_cast<unsigned>(kind)));
	}

	/* buffers_free(); the memory stays owned if it fails */
	result<void> free() noexcept
	{
		if (!address_)
			return {};
		const auto done = detail::from_status(buffers_free(address_, size_));
		if (done)
			address_ = nullptr;
		return done;
	}

	/* The caller must free the memory, of size() before the call. */
	void *detach() noexcept { return std::exchange(address_, nullptr); }

private:
	void *address_ = nullptr;
	std::size_t size_ = 0;
};

/* buffers_alloc() */
inline result<allocation> alloc(const request &wanted) noexcept
{
	std::size_t allocated = 0;

	if (wanted.error() != 0)
		return result<allocation>::failure(wanted.error());
	void *const address = buffers_alloc(&wanted.c_request(), &allocated);
	if (!address)
		return result<allocation>::failure(detail::last_error());
	return allocation(address, allocated);
}

/* remote_allocation: memory of buffers_alloc_in(), freed when the object is destroyed */
class remote_allocation {
public:
	remote_allocation() noexcept = default;
	remote_allocation(std::uint32_t pid, void *address, std::size_t allocated) noexcept
	    : address_(address), size_(allocated), pid_(pid) {}
	remote_allocation(remote_allocation &&other) noexcept
	    : address_(other.detach()), size_(other.size_), pid_(other.pid_) {}
	remote_allocation &operator=(remote_allocation other) noexcept
	{
		std::swap(address_, other.address_);
		std::swap(size_, other.size_);
		std::swap(pid_, other.pid_);
		return *this;
	}
	~remote_allocation() { static_cast<void>(free()); }

	explicit operator bool() const noexcept { return address_ != nullptr; }
	/* An address of the other process, which the caller must not dereference */
	void *get() const noexcept { return address_; }
	std::size_t size() const noexcept { return address_ ? size_ : 0; }

	result<void> free() noexcept
	{
		if (!address_)
			return {};
		const auto done = detail::from_status(buffers_free_in(pid_, address_, size_));
		if (done)
			address_ = nullptr;
		return done;
	}

	/* The memory stays, until its process ends. */
	void *detach() noexcept { return std::exchange(address_, nullptr); }

private:
	void *address_ = nullptr;
	std::size_t size_ = 0;
	std::uint32_t pid_ = 0;
};

/* buffers_alloc_in() */
inline result<remote_allocation> alloc_in(std::uint32_t pid, const request &wanted) noexcept
{
	std::size_t allocated = 0;

	if (wanted.error() != 0)
		return result<remote_allocation>::failure(wanted.error());
	void *const address = buffers_alloc_in(pid, &wanted.c_request(), &allocated);
	if (!address)
		return result<remote_allocation>::failure(detail::last_error());
	return remote_allocation(pid, address, allocated);
}

/*
 * arena: a window of addresses for a single user, unmapped when the object is destroyed
 *
 * Items and pieces of the arena must be released or given back before.
 */
class arena {
public:
	arena() noexcept = default;
	/* Adopts an arena that this process made or inherited. */
	explicit arena(buffers_arena *owned) noexcept : owned_(owned) {}
	arena(arena &&other) noexcept : owned_(other.detach()) {}
	arena &operator=(arena other) noexcept
	{
		std::swap(owned_, other.owned_);
		return *this;
	}
	~arena() { static_cast<void>(destroy()); }

	/* What a forked child gets: a copy, or the same memory (BUFFERS_ARENA_FORK_SHARED) */
	enum class in_children : unsigned { copied = 0, shared = BUFFERS_ARENA_FORK_SHARED };

	/* The pages that the system is asked for: huge is BUFFERS_ARENA_HUGE_PAGES. */
	enum class pages : unsigned { normal = 0, huge = BUFFERS_ARENA_HUGE_PAGES };

	/* buffers_arena_create(); the kind of the memory is that of the request. */
	static result<arena> create(const request &window,
				    in_children memory = in_children::copied,
				    pages wanted = pages::normal) noexcept
	{
		if (window.error() != 0)
			return result<arena>::failure(window.error());
		buffers_arena *const created = buffers_arena_create(
		    &window.c_request(),
		    static_cast<unsigned>(memory) | static_cast<unsigned>(wanted));
		if (!created)
			return result<arena>::failure(detail::last_error());
		return arena(created);
	}

	explicit operator bool() const noexcept { return owned_ != nullptr; }
	buffers_arena *c_arena() const noexcept { return owned_; }

	/* buffers_arena_get() */
	result<item> get(std::size_t size, std::size_t alignment = 1) noexcept
	{
		buffers_arena *const checked = detail::maybe_null(owned_);

		return detail::from_item(buffers_arena_get(checked, size, alignment));
	}

	/* buffers_arena_destroy(); the arena stays owned if it fails */
	result<void> destroy() noexcept
	{
		if (!owned_)
			return {};
		const auto done = detail::from_status(buffers_arena_destroy(owned_));
		if (done)
			owned_ = nullptr;
		return done;
	}

	/* The caller must destroy the arena. */
	[[nodiscard]] buffers_arena *detach() noexcept { return std::exchange(owned_, nullptr); }

private:
	buffers_arena *owned_ = nullptr;
};

/* buffers_overwrite() */
inline result<void> overwrite(void *dst, const void *src, std::size_t size) noexcept
{
	return detail::from_status(buffers_overwrite(dst, src, size));
}
template <class Range, class = std::enable_if_t<detail::is_range_of_bytes<const Range>>>
result<void> overwrite(void *dst, const Range &range) noexcept
{
	return overwrite(dst, std::data(range), detail::bytes_of(range));
}

/* buffers_overwrite_with(): patch(void *bytes, std::size_t size), which must not throw */
template <class Patch>
result<void> overwrite_with(void *dst, std::size_t size, Patch &&patch) noexcept
{
	auto call = [&patch](void *bytes, std::size_t length) { patch(bytes, length); };
	const auto call_in_c = [](void *bytes, std::size_t length, void *context) {
		(*static_cast<decltype(call) *>(context))(bytes, length);
	};

	return detail::from_status(buffers_overwrite_with(dst, size, call_in_c, &call));
}

/* buffers_flush_icache() */
inline void flush_icache(void *start, std::size_t size) noexcept
{
	buffers_flush_icache(start, size);
}

/*
 * buffers_walk(): visit(const buffers_info &) returns 0 to continue, and must not throw
 *
 * Returns 0, or the value that stopped the walk.
 */
template <class Visit>
int walk(Visit &&visit) noexcept
{
	auto call = [&visit](const buffers_info *info) -> int { return visit(*info); };
	const auto call_in_c = [](const buffers_info *info, void *context) {
		return (*static_cast<decltype(call) *>(context))(info);
	};

	return buffers_walk(call_in_c, &call);
}

}  // namespace buffers

#pragma pop_macro("near")

#endif /* RELOADED_BUFFERS_HPP */
