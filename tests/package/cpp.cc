/* SPDX-License-Identifier: MIT */
/*
 * cpp.cc: tests <reloaded/buffers.hpp>
 *
 * Without Check, so that each C++ compiler can compile it, also without exceptions and run-time
 * types, and so that it can test the installed library.
 */

#include <reloaded/buffers.hpp>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>
#ifdef __cpp_lib_span
# include <span>
#endif

namespace {

int failed;

void ok(bool is_true, const char *fact)
{
	std::printf("%s - C++: %s\n", is_true ? "ok" : "not ok", fact);
	failed += !is_true;
}

std::uintptr_t number(const void *address)
{
	return reinterpret_cast<std::uintptr_t>(address);
}

struct totals {
	std::size_t used = 0, given_back = 0;
	unsigned taken = 0, visited = 0;
};

totals walk_all()
{
	totals sum;

	const int stopped = buffers::walk([&sum](const buffers_info &info) {
		sum.used += info.used;
		sum.given_back += info.given_back;
		sum.taken += info.taken != 0;
		sum.visited++;
		return 0;
	});
	ok(stopped == 0, "a walk visits all buffers");
	return sum;
}

void test_item()
{
	buffers::request wanted{64};
	buffers::item empty;

	ok(!empty && !empty.get(), "an item that was made without a buffer is empty");
	auto item = buffers::get(wanted.kind(buffers::kind::rw).aligned(16));
	ok(item.has_value() && !item.error(), "get() returns an item");
	if (!item)
		return;
	ok(number(item->next()) % 16 == 0 && item->remaining() >= 64, "it has the free space");
	ok(number(item->base()) + item->size() == number(item->next()) + item->remaining(),
	   "its free space ends where it ends");
	ok(walk_all().taken == 1, "it is held");

	buffers::item moved = std::move(*item);
	ok(!*item && moved, "an item is moved");
	empty = std::move(moved);
	ok(!moved && empty && walk_all().taken == 1, "an item is moved to another one");
	empty.reset();
	ok(!empty && walk_all().taken == 0, "reset() releases it");
	{
		auto scoped = buffers::get(wanted);
		ok(scoped && walk_all().taken == 1, "the next one is held");
	}
	ok(walk_all().taken == 0, "the end of the scope releases it");

	auto detached = buffers::get(wanted);
	buffers_item *held = detached->detach();
	ok(!*detached && walk_all().taken == 1, "detach() does not release it");
	buffers::item adopted{held};
	ok(adopted.get() == held, "an item is adopted");
	adopted = buffers::item();
	ok(walk_all().taken == 0, "an assignment releases the former one");
}

void test_append()
{
	struct point {
		std::int32_t x;
		double y;
	};
	const std::vector<std::uint32_t> words{1, 2, 3};
	const std::array<char, 3> letters{{'a', 'b', 'c'}};
	auto item = buffers::get(buffers::request{256}.kind(buffers::kind::rw));

	if (!item)
		return ok(false, "get() for appends");
	void *next = item->next();
	auto copy = item->append(words);
	ok(copy && *copy == next && std::memcmp(*copy, words.data(), 12) == 0, "append() of a vector");
	copy = item->append(letters);
	ok(copy && std::memcmp(*copy, "abc", 3) == 0, "append() of an array");
	copy = item->append(std::string_view("def"));
	ok(copy && std::memcmp(*copy, "def", 3) == 0, "append() of a string view");
	copy = item->append("ghi", 3);
	ok(copy && std::memcmp(*copy, "ghi", 3) == 0, "append() of bytes");
#ifdef __cpp_lib_span
	copy = item->append(std::span<const char>(letters));
	ok(copy && std::memcmp(*copy, "abc", 3) == 0, "append() of a span");
#endif
	auto value = item->append_value(point{7, 0.5});
	ok(value && (*value)->x == 7 && (*value)->y == 0.5, "append_value()");
	ok(value && number(*value) % alignof(point) == 0, "append_value() aligns");
	auto room = item->reserve(8, 8);
	ok(room && number(*room) % 8 == 0, "reserve() aligns");
	copy = item->append(nullptr, item->remaining() + 1);
	ok(!copy && copy.error() == std::errc::invalid_argument, "append() of no bytes: EINVAL");
	room = item->reserve(item->remaining() + 1);
	ok(!room && room.error() == std::errc::no_space_on_device, "reserve() of too much: ENOSPC");
	ok(!item->append_value(std::array<char, 1 << 20>{}), "append_value() of too much fails");
}

template <class T, class = void>
constexpr bool can_append = false;
template <class T>
constexpr bool can_append<T, std::void_t<decltype(std::declval<buffers::item &>().append(
				     std::declval<T>()))>> = true;
static_assert(can_append<std::vector<int> &> && can_append<const unsigned char (&)[4]>);
static_assert(!can_append<int> && !can_append<const char *> &&
	      !can_append<std::vector<std::vector<int>>>);
static_assert(!can_append<const char (&)[4]>, "a string literal ends with a byte too many");

/* The attributes of the C functions must not lead the compiler to remove checks. */
void test_empty()
{
	static void *volatile null;
	const void *const target = null;
	buffers::request wanted{1};

	ok(wanted.near_to(target).error() == EINVAL && !target, "near_to() of NULL: EINVAL");
	const void *const second_target = null;
	ok(!buffers::get_near(second_target, 1) && !second_target, "get_near() of NULL fails");
	buffers::item item{static_cast<buffers_item *>(null)};
	const auto copy = item.append("x", 1);
	ok(!copy && copy.error() == std::errc::invalid_argument && !item,
	   "append() to an empty item: EINVAL");
	ok(!item.take(1) && !item.reserve(1) && !item.next() && item.size() == 0 && !item,
	   "take(), reserve(), next() and size() of one");
	buffers::allocation memory{null, 4096};
	ok(!memory.view() && !memory && memory.free(), "view() of an empty allocation");
	buffers::arena arena{static_cast<buffers_arena *>(null)};
	ok(!arena.get(1) && !arena && arena.destroy(), "get() of an empty arena");
}

int stop(const buffers_info &)
{
	return 7;
}

void set_to_1(void *bytes, std::size_t size)
{
	std::memset(bytes, 1, size);
}

void test_functions()
{
	auto item = buffers::get(buffers::request{64}.kind(buffers::kind::rw));

	if (!item)
		return ok(false, "get() for functions");
	ok(buffers::walk(stop) == 7 && buffers::walk(&stop) == 7, "walk() takes functions");
	auto room = item->reserve(2);
	ok(room && buffers::overwrite_with(*room, 2, set_to_1) &&
	       std::memcmp(*room, "\1\1", 2) == 0, "overwrite_with() takes functions");
}

void test_code()
{
	const std::array<unsigned char, 4> code{{1, 2, 3, 4}};
	auto item = buffers::get(buffers::request{64}.kind(buffers::kind::rx));

	if (!item)
		return ok(item.error() == std::errc::permission_denied, "RX memory or EACCES");
	auto copy = item->append_code(code);
	ok(copy && std::memcmp(*copy, code.data(), 4) == 0, "append_code() of an array");
	copy = item->append_code(code.data(), code.size());
	ok(copy.has_value(), "append_code() of bytes");
	ok(buffers::overwrite(*copy, std::array<char, 2>{{9, 8}}).has_value() &&
	       std::memcmp(*copy, "\x09\x08\x03\x04", 4) == 0, "overwrite()");
	unsigned called = 0;
	auto done = buffers::overwrite_with(*copy, 4, [&called](void *bytes, std::size_t size) {
		static_cast<char *>(bytes)[size - 1] = 6;
		called++;
	});
	ok(done && called == 1 && static_cast<char *>(*copy)[3] == 6, "overwrite_with()");
	done = buffers::overwrite(nullptr, "x", 1);
	ok(!done && done.error() == std::errc::invalid_argument, "overwrite() of NULL: EINVAL");
	buffers::flush_icache(*copy, 4);
	auto written = buffers::view(*copy);
	ok(!written && written.error() == std::errc::invalid_argument, "view() without one: EINVAL");
}

void test_piece()
{
	auto item = buffers::get(buffers::request{4096}.kind(buffers::kind::rw));

	if (!item || !item->append("x", 1))
		return ok(false, "get() for pieces");
	const std::size_t before = walk_all().given_back;
	{
		auto piece = item->take(100, 64);
		ok(piece && piece->size() == 100 && number(piece->get()) % 64 == 0, "take() aligns");
		ok(walk_all().given_back == before, "a piece is in use");
		ok(piece->shrink(40) && piece->size() == 40 &&
		       walk_all().given_back == before + 60, "shrink() gives back the rest");
		ok(!piece->shrink(41), "shrink() does not grow");
		buffers::piece other = std::move(*piece);
		ok(!*piece && other && piece->size() == 0, "a piece is moved");
	}
	const std::size_t after = walk_all().given_back;
	ok(after >= before + 100, "the end of the scope gives it back");
	{
		auto kept = item->take(32);
		ok(kept && kept->detach() && !*kept, "detach() keeps the room");
	}
	ok(walk_all().given_back == after, "which is not given back");
	auto explicitly = item->take(32);
	ok(explicitly->give_back() && !*explicitly && explicitly->give_back(),
	   "give_back() empties a piece, and ignores an empty one");
	auto nothing = item->take(0);
	ok(nothing && nothing->give_back() && !*nothing, "give_back() of no bytes");
	const auto unknown = buffers::give_back(&failed, 1);
	ok(!unknown && unknown.error() == std::errc::invalid_argument, "give_back() of other memory");
}

void test_request()
{
	static const char here = 0;
	const std::size_t reach = BUFFERS_REACH_BRANCH;
	buffers::request wanted{64};
	const auto &range = wanted.near_to(&here, 1 << 20).c_request();

	ok(range.target == &here && range.size == 64 && number(&here) - range.min_address == 1 << 20,
	   "near_to() sets the range and the target");
	wanted.within(0x10000, 0x20000);
	ok(range.min_address == 0x10000 && range.max_address == 0x20000, "within() sets the range");
	wanted.narrow(reinterpret_cast<const void *>(0x18000), 0x1000);
	ok(range.min_address == 0x17000 && range.max_address == 0x19000, "narrow() restricts it");
	wanted.narrow(reinterpret_cast<const void *>(0x10000000), 1).aligned(16);
	const auto item = buffers::get(wanted);
	ok(!item && item.error() == std::errc::address_not_available,
	   "get() returns the error of narrow()");
	ok(!buffers::alloc(wanted) && !buffers::arena::create(wanted), "so do the others");
	const auto nothing = buffers::get(buffers::request{0});
	ok(!nothing && nothing.error() == std::errc::invalid_argument, "a size of 0: EINVAL");
	const auto near_it = buffers::get_near(&here, 64);
	ok(near_it ? number(near_it->next()) - number(&here) + reach < 2 * reach ||
			     reach == SIZE_MAX :
	             near_it.error() == std::errc::permission_denied,
	   "get_near() is within reach");
}

void test_allocation()
{
	auto memory = buffers::alloc(buffers::request{5000}.kind(buffers::kind::rx));

	if (!memory)
		return ok(memory.error() == std::errc::permission_denied, "alloc() or EACCES");
	ok(memory->size() >= 5000 && memory->get(), "alloc() returns memory");
	ok(memory->protect(buffers::kind::rw).has_value(), "protect() opens a window");
	std::memset(memory->get(), 1, 5000);
	ok(memory->protect(buffers::kind::rx).has_value(), "protect() closes it");
	ok(*memory->view() != nullptr || !memory->view(), "view() of an allocation");
	buffers::allocation other;
	other = std::move(*memory);
	ok(other && !*memory && memory->size() == 0, "an allocation is moved");
	ok(other.free() && !other && other.free(), "free() empties it, and ignores an empty one");

	auto viewed = buffers::alloc(buffers::request{5000}.kind(buffers::kind::rx_view));
	if (!viewed)
		return ok(viewed.error() == std::errc::function_not_supported ||
			      viewed.error() == std::errc::not_enough_memory, "a view, or ENOSYS");
	auto written = viewed->view();
	ok(written && *written != viewed->get(), "an allocation has a view");
	std::memcpy(*written, "view", 4);
	ok(std::memcmp(viewed->get(), "view", 4) == 0, "which writes its bytes");
}

void test_arena()
{
	auto arena = buffers::arena::create(buffers::request{1 << 20}.kind(buffers::kind::rw));

	ok(arena && arena->c_arena(), "an arena is created");
	if (!arena)
		return;
	{
		auto item = arena->get(100, 64);
		ok(item && number(item->next()) % 64 == 0, "it provides an item");
		ok(!arena->destroy(), "it is not destroyed while an item is held");
	}
	const auto item = arena->get(2 << 20);
	ok(!item && item.error() == std::errc::no_space_on_device, "too much: ENOSPC");
	buffers::arena other = std::move(*arena);
	ok(other && !*arena, "it is moved");
	ok(other.destroy() && !other && other.destroy(), "destroy() empties it");
	const auto shared = buffers::arena::create(buffers::request{4096}.kind(buffers::kind::rw),
						   buffers::arena::in_children::shared);
	ok(shared || shared.error() == std::errc::function_not_supported,
	   "an arena that children share, or ENOSYS");
	const auto huge = buffers::arena::create(buffers::request{2 << 20}.kind(buffers::kind::rw),
						 buffers::arena::in_children::copied,
						 buffers::arena::pages::huge);
	ok(huge.has_value(), "an arena that asks for huge pages");
	const auto small = buffers::arena::create(buffers::request{1 << 20},
						  buffers::arena::in_children::copied,
						  buffers::arena::pages::huge);
	ok(!small && small.error() == std::errc::invalid_argument, "less than 2 MiB: EINVAL");
}

void test_other_process()
{
	const auto memory = buffers::alloc_in(0xfffffff0, buffers::request{1});

	ok(!memory, "alloc_in() of no process fails");
	buffers::remote_allocation none;
	ok(!none && none.free() && none.size() == 0, "an empty remote allocation");
}

void test_exceptions()
{
#ifdef __cpp_exceptions
	bool is_thrown = false;

	try {
		static_cast<void>(buffers::get(buffers::request{0}).value());
	} catch (const std::system_error &error) {
		is_thrown = error.code() == std::errc::invalid_argument;
	}
	ok(is_thrown, "value() throws the error");
	is_thrown = false;
	try {
		buffers::give_back(&failed, 1).value();
	} catch (const std::system_error &error) {
		is_thrown = error.code() == std::errc::invalid_argument;
	}
	ok(is_thrown, "value() of a call without a result throws the error");
	buffers::item item = buffers::get(buffers::request{1}.kind(buffers::kind::rw)).value();
	ok(bool(item), "value() returns what there is");
	const auto copy = item.append("x", 1);
	ok(copy.value() == *copy, "value() of a constant result");
#else
	std::puts("# C++: compiled without exceptions");
#endif
}

}  // namespace

int main()
{
	test_item();
	test_append();
	test_empty();
	test_functions();
	test_code();
	test_piece();
	test_request();
	test_allocation();
	test_arena();
	test_other_process();
	test_exceptions();
	return failed != 0;
}
