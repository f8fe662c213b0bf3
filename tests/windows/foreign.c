/* SPDX-License-Identifier: MIT */
/* win-foreign.c: beside another implementation of the layout, and beside what is none */

#include "config.h"
#include "support/copies.h"
#include "support/foreign-sections.h"
#include "support/regions.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static struct buffers_item *get(unsigned flags)
{
	struct buffers_request of_kind = { .size = 64, .flags = flags };
	struct buffers_item *item;

	errno = 1234;
	item = buffers_get(&of_kind);
	ck_assert_ptr_nonnull(item);
	ck_assert_int_eq(errno, 1234);
	return item;
}

/* Who comes first: both of them do what they always do. */
enum { FOREIGN_FIRST, WE_FIRST, ARRIVALS };

static struct foreign_locator *arrive(int arrival)
{
	if (arrival == WE_FIRST)
		buffers_release(get(0));
	return foreign_arrive();
}

struct view {
	struct foreign_locator *first;
	size_t count;
};

static int compare(const struct buffers_info *info, void *context)
{
	struct view *view = context;
	const struct foreign_item *item = foreign_item_at(view->first, view->count++);

	return !(item && (uintptr_t)info->base == item->base && info->size == item->size &&
		 info->used == item->position && info->taken == (item->is_taken != 0));
}

/* Whether both list the same. */
static bool is_one_chain(struct foreign_locator *first)
{
	struct view view = { first, 0 };

	return buffers_walk(compare, &view) == 0 && !foreign_item_at(first, view.count);
}

/*
 * One after the other
 */

START_TEST(each_goes_on_where_the_other_stopped)
{
	struct foreign_locator *first = arrive(_i);
	struct foreign_item *theirs = foreign_get(first, 64);
	char *text = foreign_append(theirs, "theirs, ", 8);
	struct buffers_item *ours;

	foreign_release(theirs);
	ours = get(0);
	ck_assert_ptr_eq(ours, theirs);
	ck_assert_ptr_eq(buffers_append(ours, "ours, ", 6), text + 8);
	buffers_release(ours);
	theirs = foreign_get(first, 64);
	ck_assert_ptr_eq(theirs, ours);
	ck_assert_ptr_eq(foreign_append(theirs, "theirs again", 13), text + 14);
	ck_assert_str_eq(text, "theirs, ours, theirs again");
	ck_assert(is_one_chain(first));
	ck_assert_uint_eq(named_address(), (uintptr_t)first);
}
END_TEST

START_TEST(item_that_one_holds_the_other_leaves_alone)
{
	struct foreign_locator *first = arrive(_i);
	struct foreign_item *theirs = foreign_get(first, 64);
	struct buffers_item *ours = get(0);

	ck_assert_ptr_ne(ours, theirs);
	ck_assert_ptr_ne(foreign_get(first, 64), ours);
	ck_assert_ptr_ne(get(0), theirs);
	ck_assert(is_one_chain(first));
	foreign_release(theirs);
	ck_assert_ptr_eq(get(0), theirs);
	buffers_release(ours);
	ck_assert_ptr_eq(foreign_get(first, 64), ours);
}
END_TEST

/* Items that nobody need look at, up to the last place. */
static void fill(struct foreign_locator *first)
{
	void *memory = foreign_map(FOREIGN_SIZE);

	for (unsigned i = 0; i < first->num_items; i++)
		first->items[i].is_taken = 1;
	while (!foreign_item_at(first, FOREIGN_CAPACITY - 1))
		foreign_add(first, memory, FOREIGN_SIZE, true)->position = FOREIGN_SIZE;
	ck_assert_uint_eq(first->next_locator, 0);
}

START_TEST(full_locator_is_linked_to_another_that_the_other_follows)
{
	struct foreign_locator *first = arrive(_i), *next;
	struct buffers_item *ours;

	fill(first);
	ours = get(0);
	next = foreign_next(first);
	ck_assert_ptr_nonnull(next);
	ck_assert_uint_eq(next->this_address, (uintptr_t)next);
	ck_assert((uintptr_t)ours > (uintptr_t)next && (uintptr_t)ours < (uintptr_t)next + FOREIGN_SIZE);
	ck_assert_ptr_eq(foreign_get(first, 64), &next->items[0]);
	ck_assert(is_one_chain(first));
}
END_TEST

START_TEST(locator_that_the_other_links_is_followed)
{
	struct foreign_locator *first = arrive(_i);
	struct foreign_item *theirs;

	fill(first);
	theirs = foreign_add(first, foreign_map(BLOCK), BLOCK, false);
	ck_assert_ptr_nonnull(foreign_next(first));
	ck_assert_ptr_eq(get(0), theirs);
	ck_assert(is_one_chain(first));
}
END_TEST

/* 203 buffers and more, of both. */
START_TEST(chain_of_many_locators_is_one)
{
	struct foreign_locator *first = arrive(_i);

	for (unsigned i = 0; i < 3 * FOREIGN_CAPACITY; i++) {
		if (i % 2)
			get(0);
		else
			foreign_get(first, 16);
	}
	ck_assert_ptr_nonnull(foreign_next(foreign_next(first)));
	ck_assert(is_one_chain(first));
}
END_TEST

/*
 * The first mapping
 */

static HANDLE open_named(const char *kind)
{
	char name[128];
	HANDLE section;

	section_name(name, kind, false);
	section = OpenFileMappingA(FILE_MAP_ALL_ACCESS, FALSE, name);
	ck_assert_ptr_nonnull(section);
	return section;
}

/* Of kinds that only we know, one is in memory that cannot be executed. */
static const struct {
	const char *name;
	unsigned flags;
	DWORD protection;
	bool has_rest;
} kinds[] = {
	{ "", 0, PAGE_EXECUTE_READWRITE, true },
	{ ".RW", BUFFERS_RW, PAGE_READWRITE, true },
	{ ".RX", BUFFERS_RX, PAGE_READWRITE, false },
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static struct foreign_locator *locator_of_kind(int kind)
{
	HANDLE section = open_named(kinds[kind].name);
	uintptr_t *view = MapViewOfFile(section, FILE_MAP_READ, 0, 0, BLOCK);
	struct foreign_locator *locator;

	ck_assert_ptr_nonnull(view);
	locator = (struct foreign_locator *)*view;
	UnmapViewOfFile(view);
	CloseHandle(section);
	return locator;
}

START_TEST(first_locator_is_the_named_section_itself)
{
	struct foreign_locator *locator, *view;
	struct region region;
	HANDLE section;

	buffers_release(get(kinds[_i].flags));
	locator = locator_of_kind(_i);
	region = region_at((uintptr_t)locator);
	ck_assert_uint_eq(region.type, MEM_MAPPED);
	ck_assert_uint_eq(region.allocation, (uintptr_t)locator);
	ck_assert_uint_eq(region.protection, kinds[_i].protection);
	ck_assert_uint_eq(end_of_allocation((uintptr_t)locator), (uintptr_t)locator + BLOCK);
	section = open_named(kinds[_i].name);
	view = MapViewOfFile(section, FILE_MAP_WRITE, 0, 0, BLOCK);
	ck_assert_ptr_nonnull(view);
	ck_assert_ptr_ne(view, locator);
	((char *)view)[BLOCK - 1] = 0x5a;
	ck_assert_int_eq(((char *)locator)[BLOCK - 1], 0x5a);
	view->is_locked = 1;
	ck_assert_uint_eq(locator->is_locked, 1);
	view->is_locked = 0;
}
END_TEST

START_TEST(rest_of_the_first_mapping_is_buffers_of_16_kib)
{
	struct foreign_locator *locator;
	size_t covered = FOREIGN_SIZE;
	unsigned count = 0;

	buffers_release(get(kinds[_i].flags));
	locator = locator_of_kind(_i);
	while (count < locator->num_items &&
	       locator->items[count].base == (uintptr_t)locator + covered) {
		ck_assert_uint_le(locator->items[count].size, 16 * KIB);
		covered += locator->items[count++].size;
	}
	ck_assert_uint_eq(covered, kinds[_i].has_rest ? BLOCK : FOREIGN_SIZE);
	ck_assert_uint_eq(locator->num_items - count, !kinds[_i].has_rest);
}
END_TEST

START_TEST(rest_that_the_other_lists_is_used_first)
{
	struct foreign_locator *first = foreign_arrive();
	struct buffers_item *ours = get(0);

	ck_assert_uint_ge((uintptr_t)buffers_base(ours), (uintptr_t)first + FOREIGN_SIZE);
	ck_assert_uint_lt((uintptr_t)buffers_base(ours), (uintptr_t)first + BLOCK);
	buffers_release(ours);
	ck_assert(is_one_chain(first));
}
END_TEST

START_TEST(other_kinds_have_sections_of_their_own)
{
	struct foreign_locator *first = foreign_arrive();
	char name[128];

	buffers_release(get(BUFFERS_RW));
	buffers_release(get(BUFFERS_RX));
	ck_assert_uint_eq(first->num_items, 4);
	for (unsigned i = 0; i < first->num_items; i++)
		ck_assert_uint_eq(first->items[i].position, 0);
	for (int kind = 1; kind < KINDS; kind++)
		ck_assert_ptr_ne(locator_of_kind(kind), first);
	section_name(name, "", true);
	ck_assert_ptr_null(OpenFileMappingA(FILE_MAP_READ, FALSE, name));
}
END_TEST

/*
 * A slow one
 */

enum { WAIT_MS = 100, LONG_MS = 400 };	/* within what we wait; what may be longer than that */

struct slow {
	HANDLE section, is_asked;
	struct foreign_locator *locator;
	DWORD written;			/* when, in ms */
};

static DWORD WINAPI write_slowly(void *context)
{
	struct slow *slow = context;

	slow->locator = foreign_prepare(slow->section);
	WaitForSingleObject(slow->is_asked, INFINITE);
	Sleep(WAIT_MS);
	slow->written = GetTickCount();
	foreign_publish(slow->locator);
	return 0;
}

START_TEST(address_that_is_written_late_is_waited_for)
{
	struct slow slow = {
		.section = foreign_create_section(),
		.is_asked = CreateEventA(NULL, FALSE, FALSE, NULL),
	};
	HANDLE thread = CreateThread(NULL, 0, write_slowly, &slow, 0, NULL);
	DWORD start = GetTickCount();
	struct buffers_item *ours;

	SetEvent(slow.is_asked);
	ours = get(0);
	WaitForSingleObject(thread, INFINITE);
	printf("written after %lu ms\n", slow.written - start);
	SKIP_IF(slow.written - start > LONG_MS, "this machine stood still");
	ck_assert_ptr_eq(ours, &slow.locator->items[0]);
	ck_assert(is_one_chain(slow.locator));
}
END_TEST

START_TEST(address_that_is_never_written_is_not_waited_for_long)
{
	DWORD start = GetTickCount();

	ck_assert_ptr_nonnull(foreign_create_section());
	buffers_release(get(0));
	printf("waited %lu ms\n", GetTickCount() - start);
	buffers_release(get(0));
	ck_assert_uint_eq(named_address(), 0);
}
END_TEST

/* As slow as can be: it writes when we have given up. */
START_TEST(address_that_is_written_too_late_changes_nothing)
{
	HANDLE section = foreign_create_section();
	struct buffers_item *ours = get(0);
	struct foreign_locator *locator = foreign_prepare(section);
	void *text = buffers_append(ours, "ours", 5);

	foreign_publish(locator);
	buffers_release(ours);
	ck_assert_ptr_eq(get(0), ours);
	ck_assert_str_eq(text, "ours");
	for (unsigned i = 0; i < locator->num_items; i++)
		ck_assert_uint_eq(locator->items[i].position, 0);
}
END_TEST

/*
 * What has the name and is no locator
 */

struct odd {
	const char *what;
	size_t size;		/* of the section; 0: 64 KiB */
	DWORD how;		/* to make it; 0: PAGE_EXECUTE_READWRITE */
	void (*write)(struct foreign_locator *view);
	bool is_waited_for;	/* a second, by each who looks */
};

static void write_nothing(struct foreign_locator *view)
{
	(void)view;
}

static void write_garbage(struct foreign_locator *view)
{
	for (size_t i = 0; i < FOREIGN_SIZE; i++)
		((unsigned char *)view)[i] = (unsigned char)(i * 37 + 11);
}

/* A locator with a buffer that would suit everybody. */
static void write_locator(struct foreign_locator *view)
{
	view->this_address = (uintptr_t)view;
	view->num_items = 1;
	view->items[0] = (struct foreign_item){ .base = (uintptr_t)view + FOREIGN_SIZE, .size = 16384 };
}

static void write_version(struct foreign_locator *view)
{
	write_locator(view);
	view->flags = 1;
}

static void write_reserved(struct foreign_locator *view)
{
	write_locator(view);
	view->reserved[1] = 1;
}

static void write_count(struct foreign_locator *view)
{
	write_locator(view);
	for (unsigned i = 0; i < FOREIGN_CAPACITY; i++)
		view->items[i] = view->items[0];
	view->num_items = FOREIGN_CAPACITY < 255 ? FOREIGN_CAPACITY + 1 : 255;
	view->items[FOREIGN_CAPACITY - 1].base = 0;
}

static void write_position(struct foreign_locator *view)
{
	write_locator(view);
	view->items[0].position = view->items[0].size + 1;
}

static void write_lock(struct foreign_locator *view)
{
	write_version(view);
	view->is_locked = 1;
}

static void write_circle(struct foreign_locator *view)
{
	write_locator(view);
	view->next_locator = (uintptr_t)view;
}

static void write_bad_next(struct foreign_locator *view)
{
	write_locator(view);
	view->next_locator = 16;
}

static void write_odd_address(struct foreign_locator *view)
{
	view->this_address = (uintptr_t)view + 2;
}

static void write_free_address(struct foreign_locator *view)
{
	view->this_address = unused_address(BLOCK);
}

static void write_high_address(struct foreign_locator *view)
{
	view->this_address = UINTPTR_MAX - 7;
}

static void write_stack_address(struct foreign_locator *view)
{
	view->this_address = (uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)15;
}

/* Memory with a locator in it that then cannot be used. */
static uintptr_t locator_in(DWORD protection)
{
	uintptr_t place = unused_address(BLOCK);
	DWORD before;

	write_locator(commit_at(place, BLOCK, PAGE_READWRITE));
	ck_assert(VirtualProtect((void *)place, BLOCK, protection, &before));
	return place;
}

static void write_unreadable(struct foreign_locator *view)
{
	view->this_address = locator_in(PAGE_NOACCESS);
}

static void write_guarded(struct foreign_locator *view)
{
	view->this_address = locator_in(PAGE_READWRITE | PAGE_GUARD);
}

static void write_read_only(struct foreign_locator *view)
{
	view->this_address = locator_in(PAGE_READONLY);
}

static void write_reserved_address(struct foreign_locator *view)
{
	view->this_address = (uintptr_t)reserve_at(unused_address(BLOCK), BLOCK);
}

static void write_image(struct foreign_locator *view)
{
	view->this_address = (uintptr_t)GetModuleHandleA(NULL);
}

static void write_edge(struct foreign_locator *view)
{
	uintptr_t place = unused_address(BLOCK);

	reserve_at(place, BLOCK);
	ck_assert_ptr_nonnull(VirtualAlloc((void *)place, PAGE, MEM_COMMIT, PAGE_READWRITE));
	view->this_address = place + PAGE - 64;
	*(uintptr_t *)view->this_address = view->this_address;
}

static const struct odd odds[] = {
	{ "garbage", 0, 0, write_garbage, false },
	{ "another version", 0, 0, write_version, false },
	{ "reserved bytes", 0, 0, write_reserved, false },
	{ "too many items", 0, 0, write_count, false },
	{ "a position beyond its end", 0, 0, write_position, false },
	{ "another version, locked", 0, 0, write_lock, true },
	{ "a circle", 0, 0, write_circle, false },
	{ "a next locator that is none", 0, 0, write_bad_next, false },
	{ "an odd address", 0, 0, write_odd_address, false },
	{ "an address where nothing is", 0, 0, write_free_address, false },
	{ "an address above all", 0, 0, write_high_address, false },
	{ "an address on the stack", 0, 0, write_stack_address, false },
	{ "a locator that cannot be read", 0, 0, write_unreadable, false },
	{ "a locator behind a guard", 0, 0, write_guarded, false },
	{ "a locator that cannot be written", 0, 0, write_read_only, false },
	{ "an address that is only reserved", 0, 0, write_reserved_address, false },
	{ "an image", 0, 0, write_image, false },
	{ "a locator that is cut off", 0, 0, write_edge, false },
	{ "a section of no pages", 0, PAGE_EXECUTE_READWRITE | SEC_RESERVE, write_nothing, false },
	{ "a tiny section", 1, PAGE_READWRITE, write_free_address, false },
	{ "nothing", 0, PAGE_READWRITE, write_nothing, true },
	{ "nothing, to be read only", 0, PAGE_READONLY, NULL, true },
};
enum { ODDS = sizeof(odds) / sizeof(odds[0]) };

static struct foreign_locator *make_odd(const struct odd *odd, const char *kind)
{
	DWORD access = odd->how == PAGE_READONLY ? FILE_MAP_READ : FILE_MAP_WRITE;
	struct foreign_locator *view;
	HANDLE section;
	char name[128];

	section_name(name, kind, false);
	section = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL,
				     odd->how ? odd->how : PAGE_EXECUTE_READWRITE, 0,
				     (DWORD)(odd->size ? odd->size : BLOCK), name);
	ck_assert_ptr_nonnull(section);
	view = MapViewOfFile(section, access, 0, 0, 0);
	ck_assert_ptr_nonnull(view);
	if (odd->write)
		odd->write(view);
	return view;
}

static int list_base(const struct buffers_info *info, void *context)
{
	return info->base == context;
}

/* A second copy of the library finds what the first one made. */
static void check_sharing(unsigned flags)
{
	struct buffers_request of_kind = { .size = 64, .flags = flags };
	struct buffers_item *item = get(flags);
	void *base = buffers_base(item);
	struct copy copy;

	buffers_release(item);
	ck_assert(load_copy(&copy, COPY_ONE, false));
	ck_assert_int_eq(copy.calls.walk(list_base, base), 1);
	ck_assert_ptr_eq(copy.calls.get(&of_kind), item);
	copy.calls.release(item);
}

static bool has_second_name(const char *kind)
{
	char name[128];
	HANDLE section;

	section_name(name, kind, true);
	section = OpenFileMappingA(FILE_MAP_READ, FALSE, name);
	if (section)
		CloseHandle(section);
	return section != NULL;
}

static void check_odd(const struct odd *odd, int kind)
{
	struct foreign_locator *view = make_odd(odd, kinds[kind].name);
	bool is_there = region_at((uintptr_t)view).state == MEM_COMMIT;
	unsigned char before[4096] = { 0 };
	struct region led_to = { 0 };

	if (is_there) {
		memcpy(before, view, sizeof(before));
		led_to = region_at(view->this_address);
	}
	check_sharing(kinds[kind].flags);
	ck_assert_msg(has_second_name(kinds[kind].name), "%s", odd->what);
	if (!is_there)
		return;
	ck_assert_msg(memcmp(view, before, sizeof(before)) == 0, "%s", odd->what);
	if (led_to.state != MEM_FREE && view->this_address != (uintptr_t)view)
		ck_assert_msg(is_same_region(region_at(view->this_address), led_to), "%s",
			      odd->what);
}

START_TEST(what_is_no_locator_is_left_alone)
{
	printf("%s\n", odds[_i].what);
	for (int kind = 0; kind < KINDS; kind++)
		if (!odds[_i].is_waited_for || kind == _i % KINDS)
			check_odd(&odds[_i], kind);
}
END_TEST

START_TEST(other_object_of_that_name_is_left_alone)
{
	char name[128];

	for (int kind = 0; kind < KINDS; kind++) {
		section_name(name, kinds[kind].name, false);
		ck_assert_ptr_nonnull(CreateEventA(NULL, FALSE, FALSE, name));
		check_sharing(kinds[kind].flags);
		ck_assert(has_second_name(kinds[kind].name));
	}
}
END_TEST

/* Then nothing can be published: the request succeeds, and sharing is lost. */
START_TEST(where_both_names_are_taken_requests_succeed)
{
	char name[128];

	for (int kind = 0; kind < KINDS; kind++) {
		for (int is_second = 0; is_second < 2; is_second++) {
			section_name(name, kinds[kind].name, is_second);
			ck_assert_ptr_nonnull(CreateEventA(NULL, FALSE, FALSE, name));
		}
		buffers_release(get(kinds[kind].flags));
		buffers_release(get(kinds[kind].flags));
	}
}
END_TEST

/* As a thing that is not ours to follow: whoever it was for has another number. */
START_TEST(section_of_another_number_is_not_ours)
{
	char name[128];
	HANDLE section;

	snprintf(name, sizeof(name), "/Reloaded.Memory.Buffers.MemoryBuffer, PID %lu",
		 GetCurrentProcessId() + 4);
	section = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL, PAGE_READWRITE, 0, BLOCK, name);
	write_locator(MapViewOfFile(section, FILE_MAP_WRITE, 0, 0, 0));
	buffers_release(get(0));
	ck_assert_uint_ne(named_address(), 0);
	ck_assert(!has_second_name(""));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("win-foreign");
	TCase *turns = tcase_create("turns");
	TCase *mapping = tcase_create("mapping");
	TCase *slow = tcase_create("slow");
	TCase *odd = tcase_create("odd");

	tcase_add_loop_test(turns, each_goes_on_where_the_other_stopped, 0, ARRIVALS);
	tcase_add_loop_test(turns, item_that_one_holds_the_other_leaves_alone, 0, ARRIVALS);
	tcase_add_loop_test(turns, full_locator_is_linked_to_another_that_the_other_follows, 0,
			    ARRIVALS);
	tcase_add_loop_test(turns, locator_that_the_other_links_is_followed, 0, ARRIVALS);
	tcase_add_loop_test(turns, chain_of_many_locators_is_one, 0, ARRIVALS);
	tcase_add_loop_test(mapping, first_locator_is_the_named_section_itself, 0, KINDS);
	tcase_add_loop_test(mapping, rest_of_the_first_mapping_is_buffers_of_16_kib, 0, KINDS);
	tcase_add_test(mapping, rest_that_the_other_lists_is_used_first);
	tcase_add_test(mapping, other_kinds_have_sections_of_their_own);
	tcase_add_test(slow, address_that_is_written_late_is_waited_for);
	tcase_add_test(slow, address_that_is_never_written_is_not_waited_for_long);
	tcase_add_test(slow, address_that_is_written_too_late_changes_nothing);
	tcase_add_loop_test(odd, what_is_no_locator_is_left_alone, 0, ODDS);
	tcase_add_test(odd, other_object_of_that_name_is_left_alone);
	tcase_add_test(odd, where_both_names_are_taken_requests_succeed);
	tcase_add_test(odd, section_of_another_number_is_not_ours);
	suite_add_tcase(suite, turns);
	suite_add_tcase(suite, mapping);
	suite_add_tcase(suite, slow);
	suite_add_tcase(suite, odd);
	return run_suite(suite);
}
