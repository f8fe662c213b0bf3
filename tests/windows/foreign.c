/* SPDX-License-Identifier: MIT */
/* foreign.c: the library and another implementation of the layout, and invalid sections */

#include "config.h"
#include "support/copies.h"
#include "support/foreign-sections.h"
#include "support/regions.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static struct buffers_item *get_item(unsigned flags)
{
	struct buffers_request of_kind = { .size = 64, .flags = flags };
	struct buffers_item *item;

	errno = 1234;
	item = buffers_get(&of_kind);
	ck_assert_ptr_nonnull(item);
	ck_assert_int_eq(errno, 1234);
	return item;
}

/* The implementation that makes the first locator. */
enum { FOREIGN_FIRST, LIBRARY_FIRST, CREATORS };

static struct foreign_locator *make_first_locator(int creator)
{
	if (creator == LIBRARY_FIRST)
		buffers_release(get_item(0));
	return foreign_find_section();
}

struct view {
	struct foreign_locator *first;
	size_t count;
};

static int compare_with_view(const struct buffers_info *info, void *context)
{
	struct view *view = context;
	const struct foreign_item *item = foreign_item_at(view->first, view->count++);

	return !(item && (uintptr_t)info->base == item->base && info->size == item->size &&
		 info->used == item->position && info->taken == (item->is_taken != 0));
}

/* Whether both implementations list the same items. */
static bool see_same_items(struct foreign_locator *first)
{
	struct view view = { first, 0 };

	return buffers_walk(compare_with_view, &view) == 0 && !foreign_item_at(first, view.count);
}

/*
 * Both in turn
 */

START_TEST(each_continues_where_the_other_stopped)
{
	struct foreign_locator *first = make_first_locator(_i);
	struct foreign_item *foreign = foreign_get(first, 64);
	char *text = foreign_append(foreign, "foreign, ", 9);
	struct buffers_item *own;

	foreign_release(foreign);
	own = get_item(0);
	ck_assert_ptr_eq(own, foreign);
	ck_assert_ptr_eq(buffers_append(own, "own, ", 5), text + 9);
	buffers_release(own);
	foreign = foreign_get(first, 64);
	ck_assert_ptr_eq(foreign, own);
	ck_assert_ptr_eq(foreign_append(foreign, "foreign again", 14), text + 14);
	ck_assert_str_eq(text, "foreign, own, foreign again");
	ck_assert(see_same_items(first));
	ck_assert_uint_eq(rendezvous_address(), (uintptr_t)first);
}
END_TEST

START_TEST(item_held_by_the_other_is_skipped)
{
	struct foreign_locator *first = make_first_locator(_i);
	struct foreign_item *foreign = foreign_get(first, 64);
	struct buffers_item *own = get_item(0);

	ck_assert_ptr_ne(own, foreign);
	ck_assert_ptr_ne(foreign_get(first, 64), own);
	ck_assert_ptr_ne(get_item(0), foreign);
	ck_assert(see_same_items(first));
	foreign_release(foreign);
	ck_assert_ptr_eq(get_item(0), foreign);
	buffers_release(own);
	ck_assert_ptr_eq(foreign_get(first, 64), own);
}
END_TEST

/* Fills the first locator with items that have no free space. */
static void fill_locator(struct foreign_locator *first)
{
	void *memory = foreign_map(FOREIGN_SIZE);

	for (unsigned i = 0; i < first->num_items; i++)
		first->items[i].is_taken = 1;
	while (!foreign_item_at(first, FOREIGN_CAPACITY - 1))
		foreign_add(first, memory, FOREIGN_SIZE, true)->position = FOREIGN_SIZE;
	ck_assert_uint_eq(first->next_locator, 0);
}

START_TEST(foreign_code_follows_a_locator_that_the_library_links)
{
	struct foreign_locator *first = make_first_locator(_i), *next;
	struct buffers_item *own;

	fill_locator(first);
	own = get_item(0);
	next = foreign_next(first);
	ck_assert_ptr_nonnull(next);
	ck_assert_uint_eq(next->this_address, (uintptr_t)next);
	ck_assert((uintptr_t)own > (uintptr_t)next &&
		  (uintptr_t)own < (uintptr_t)next + FOREIGN_SIZE);
	ck_assert_ptr_eq(foreign_get(first, 64), &next->items[0]);
	ck_assert(see_same_items(first));
}
END_TEST

START_TEST(library_follows_a_locator_that_foreign_code_links)
{
	struct foreign_locator *first = make_first_locator(_i);
	struct foreign_item *foreign;

	fill_locator(first);
	foreign = foreign_add(first, foreign_map(BLOCK), BLOCK, false);
	ck_assert_ptr_nonnull(foreign_next(first));
	ck_assert_ptr_eq(get_item(0), foreign);
	ck_assert(see_same_items(first));
}
END_TEST

/* More than the 203 buffers that one locator holds, made by both in turn. */
START_TEST(both_list_the_same_chain_of_many_locators)
{
	struct foreign_locator *first = make_first_locator(_i);

	for (unsigned i = 0; i < 3 * FOREIGN_CAPACITY; i++) {
		if (i % 2)
			get_item(0);
		else
			foreign_get(first, 16);
	}
	ck_assert_ptr_nonnull(foreign_next(foreign_next(first)));
	ck_assert(see_same_items(first));
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

/* Other implementations know only RWX.  The locator of RX buffers is not executable itself. */
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

START_TEST(first_locator_is_a_view_of_the_named_section)
{
	struct foreign_locator *locator, *view;
	struct region region;
	HANDLE section;

	buffers_release(get_item(kinds[_i].flags));
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

START_TEST(rest_of_the_first_section_is_listed_as_buffers_of_16_kib)
{
	struct foreign_locator *locator;
	size_t covered = FOREIGN_SIZE;
	unsigned count = 0;

	buffers_release(get_item(kinds[_i].flags));
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

START_TEST(rest_listed_by_foreign_code_is_used_first)
{
	struct foreign_locator *first = foreign_find_section();
	struct buffers_item *own = get_item(0);

	ck_assert_uint_ge((uintptr_t)buffers_base(own), (uintptr_t)first + FOREIGN_SIZE);
	ck_assert_uint_lt((uintptr_t)buffers_base(own), (uintptr_t)first + BLOCK);
	buffers_release(own);
	ck_assert(see_same_items(first));
}
END_TEST

START_TEST(other_kinds_have_sections_of_their_own)
{
	struct foreign_locator *first = foreign_find_section();
	char name[128];

	buffers_release(get_item(BUFFERS_RW));
	buffers_release(get_item(BUFFERS_RX));
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
 * A slow creator
 */

/* The library waits longer than WAIT_MS, but perhaps not as long as LONG_MS. */
enum { WAIT_MS = 100, LONG_MS = 400 };

struct slow {
	HANDLE section, is_asked;
	struct foreign_locator *locator;
	DWORD written;			/* time in ms */
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

START_TEST(library_waits_for_an_address_that_is_written_late)
{
	struct slow slow = {
		.section = foreign_create_section(),
		.is_asked = CreateEventA(NULL, FALSE, FALSE, NULL),
	};
	HANDLE thread = CreateThread(NULL, 0, write_slowly, &slow, 0, NULL);
	DWORD start = GetTickCount();
	struct buffers_item *own;

	SetEvent(slow.is_asked);
	own = get_item(0);
	WaitForSingleObject(thread, INFINITE);
	printf("written after %lu ms\n", slow.written - start);
	SKIP_IF(slow.written - start > LONG_MS, "the machine stalled: the creator was too slow");
	ck_assert_ptr_eq(own, &slow.locator->items[0]);
	ck_assert(see_same_items(slow.locator));
}
END_TEST

START_TEST(library_stops_waiting_for_an_address_that_is_never_written)
{
	DWORD start = GetTickCount();

	ck_assert_ptr_nonnull(foreign_create_section());
	buffers_release(get_item(0));
	printf("waited %lu ms\n", GetTickCount() - start);
	buffers_release(get_item(0));
	ck_assert_uint_eq(rendezvous_address(), 0);
}
END_TEST

/* The creator writes the address after the library has stopped waiting. */
START_TEST(address_written_after_the_wait_is_ignored)
{
	HANDLE section = foreign_create_section();
	struct buffers_item *own = get_item(0);
	struct foreign_locator *locator = foreign_prepare(section);
	void *text = buffers_append(own, "text", 5);

	foreign_publish(locator);
	buffers_release(own);
	ck_assert_ptr_eq(get_item(0), own);
	ck_assert_str_eq(text, "text");
	for (unsigned i = 0; i < locator->num_items; i++)
		ck_assert_uint_eq(locator->items[i].position, 0);
}
END_TEST

/*
 * Sections with the right name and no valid locator
 */

struct bad_section {
	const char *name;
	size_t size;		/* size of the section; 0: 64 KiB */
	DWORD protection;	/* and attributes; 0: PAGE_EXECUTE_READWRITE */
	void (*write)(struct foreign_locator *view);
	bool is_waited_for;	/* each copy waits a second for it */
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

/* A valid locator with a buffer that suits every request. */
static void write_locator(struct foreign_locator *view)
{
	view->this_address = (uintptr_t)view;
	view->num_items = 1;
	view->items[0] = (struct foreign_item){
		.base = (uintptr_t)view + FOREIGN_SIZE, .size = 16384,
	};
}

static void write_version(struct foreign_locator *view)
{
	write_locator(view);
	view->flags = 1;
}

static void write_count(struct foreign_locator *view)
{
	write_locator(view);
	for (unsigned i = 0; i < FOREIGN_CAPACITY; i++)
		view->items[i] = view->items[0];
	view->num_items = FOREIGN_CAPACITY < 255 ? FOREIGN_CAPACITY + 1 : 255;
	view->items[FOREIGN_CAPACITY - 1].base = 0;
}

static void write_lock(struct foreign_locator *view)
{
	write_version(view);
	view->is_locked = 1;
}

static void write_cycle(struct foreign_locator *view)
{
	write_locator(view);
	view->next_locator = (uintptr_t)view;
}

static void write_bad_next(struct foreign_locator *view)
{
	write_locator(view);
	view->next_locator = 16;
}

static void write_misaligned_address(struct foreign_locator *view)
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

/* Memory with a locator in it, then with another protection. */
static uintptr_t locator_in(DWORD protection)
{
	uintptr_t address = unused_address(BLOCK);
	DWORD before;

	write_locator(commit_at(address, BLOCK, PAGE_READWRITE));
	ck_assert(VirtualProtect((void *)address, BLOCK, protection, &before));
	return address;
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
	uintptr_t address = unused_address(BLOCK);

	reserve_at(address, BLOCK);
	ck_assert_ptr_nonnull(VirtualAlloc((void *)address, PAGE, MEM_COMMIT, PAGE_READWRITE));
	view->this_address = address + PAGE - 64;
	*(uintptr_t *)view->this_address = view->this_address;
}

static const struct bad_section bad_sections[] = {
	{ "garbage", 0, 0, write_garbage, false },
	{ "another version", 0, 0, write_version, false },
	{ "too many items", 0, 0, write_count, false },
	{ "another version, locked", 0, 0, write_lock, true },
	{ "a cyclic chain", 0, 0, write_cycle, false },
	{ "an invalid next locator", 0, 0, write_bad_next, false },
	{ "a misaligned address", 0, 0, write_misaligned_address, false },
	{ "an address in free space", 0, 0, write_free_address, false },
	{ "the highest address", 0, 0, write_high_address, false },
	{ "an address on the stack", 0, 0, write_stack_address, false },
	{ "a locator that cannot be read", 0, 0, write_unreadable, false },
	{ "a locator in a guard page", 0, 0, write_guarded, false },
	{ "a locator that cannot be written", 0, 0, write_read_only, false },
	{ "an address in reserved memory", 0, 0, write_reserved_address, false },
	{ "an image", 0, 0, write_image, false },
	{ "a truncated locator", 0, 0, write_edge, false },
	{ "a section without pages", 0, PAGE_EXECUTE_READWRITE | SEC_RESERVE, write_nothing,
	  false },
	{ "a tiny section", 1, PAGE_READWRITE, write_free_address, false },
	{ "zeros", 0, PAGE_READWRITE, write_nothing, true },
	{ "zeros, read-only", 0, PAGE_READONLY, NULL, true },
};
enum { BAD_SECTIONS = sizeof(bad_sections) / sizeof(bad_sections[0]) };

static struct foreign_locator *make_bad_section(const struct bad_section *bad, const char *kind)
{
	DWORD access = bad->protection == PAGE_READONLY ? FILE_MAP_READ : FILE_MAP_WRITE;
	struct foreign_locator *view;
	HANDLE section;
	char name[128];

	section_name(name, kind, false);
	section = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL,
				     bad->protection ? bad->protection : PAGE_EXECUTE_READWRITE, 0,
				     (DWORD)(bad->size ? bad->size : BLOCK), name);
	ck_assert_ptr_nonnull(section);
	view = MapViewOfFile(section, access, 0, 0, 0);
	ck_assert_ptr_nonnull(view);
	if (bad->write)
		bad->write(view);
	return view;
}

static int list_base(const struct buffers_info *info, void *context)
{
	return info->base == context;
}

/* A second copy of the library finds the buffers of the first. */
static void check_sharing(unsigned flags)
{
	struct buffers_request of_kind = { .size = 64, .flags = flags };
	struct buffers_item *item = get_item(flags);
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

static void check_bad_section(const struct bad_section *bad, int kind)
{
	struct foreign_locator *view = make_bad_section(bad, kinds[kind].name);
	bool is_there = region_at((uintptr_t)view).state == MEM_COMMIT;
	unsigned char before[4096] = { 0 };
	struct region led_to = { 0 };

	if (is_there) {
		memcpy(before, view, sizeof(before));
		led_to = region_at(view->this_address);
	}
	check_sharing(kinds[kind].flags);
	ck_assert_msg(has_second_name(kinds[kind].name), "%s", bad->name);
	if (!is_there)
		return;
	ck_assert_msg(memcmp(view, before, sizeof(before)) == 0, "%s", bad->name);
	if (led_to.state != MEM_FREE && view->this_address != (uintptr_t)view)
		ck_assert_msg(is_same_region(region_at(view->this_address), led_to), "%s",
			      bad->name);
}

START_TEST(invalid_section_is_left_alone)
{
	printf("%s\n", bad_sections[_i].name);
	for (int kind = 0; kind < KINDS; kind++)
		if (!bad_sections[_i].is_waited_for || kind == _i % KINDS)
			check_bad_section(&bad_sections[_i], kind);
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

/* The library cannot publish its locator then: requests succeed, but copies do not share. */
START_TEST(requests_succeed_when_both_names_are_taken)
{
	char name[128];

	for (int kind = 0; kind < KINDS; kind++) {
		for (int is_second = 0; is_second < 2; is_second++) {
			section_name(name, kinds[kind].name, is_second);
			ck_assert_ptr_nonnull(CreateEventA(NULL, FALSE, FALSE, name));
		}
		buffers_release(get_item(kinds[kind].flags));
		buffers_release(get_item(kinds[kind].flags));
	}
}
END_TEST

/* The section belongs to a process with another ID. */
START_TEST(section_of_another_pid_is_ignored)
{
	char name[128];
	HANDLE section;

	snprintf(name, sizeof(name), "/Reloaded.Memory.Buffers.MemoryBuffer, PID %lu",
		 GetCurrentProcessId() + 4);
	section = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL, PAGE_READWRITE, 0, BLOCK, name);
	write_locator(MapViewOfFile(section, FILE_MAP_WRITE, 0, 0, 0));
	buffers_release(get_item(0));
	ck_assert_uint_ne(rendezvous_address(), 0);
	ck_assert(!has_second_name(""));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("windows/foreign");
	TCase *turns = tcase_create("turns");
	TCase *mapping = tcase_create("mapping");
	TCase *slow = tcase_create("slow");
	TCase *invalid = tcase_create("invalid");

	tcase_add_loop_test(turns, each_continues_where_the_other_stopped, 0, CREATORS);
	tcase_add_loop_test(turns, item_held_by_the_other_is_skipped, 0, CREATORS);
	tcase_add_loop_test(turns, foreign_code_follows_a_locator_that_the_library_links, 0,
			    CREATORS);
	tcase_add_loop_test(turns, library_follows_a_locator_that_foreign_code_links, 0, CREATORS);
	tcase_add_loop_test(turns, both_list_the_same_chain_of_many_locators, 0, CREATORS);
	tcase_add_loop_test(mapping, first_locator_is_a_view_of_the_named_section, 0, KINDS);
	tcase_add_loop_test(mapping, rest_of_the_first_section_is_listed_as_buffers_of_16_kib, 0,
			    KINDS);
	tcase_add_test(mapping, rest_listed_by_foreign_code_is_used_first);
	tcase_add_test(mapping, other_kinds_have_sections_of_their_own);
	tcase_add_test(slow, library_waits_for_an_address_that_is_written_late);
	tcase_add_test(slow, library_stops_waiting_for_an_address_that_is_never_written);
	tcase_add_test(slow, address_written_after_the_wait_is_ignored);
	tcase_add_loop_test(invalid, invalid_section_is_left_alone, 0, BAD_SECTIONS);
	tcase_add_test(invalid, other_object_of_that_name_is_left_alone);
	tcase_add_test(invalid, requests_succeed_when_both_names_are_taken);
	tcase_add_test(invalid, section_of_another_pid_is_ignored);
	suite_add_tcase(suite, turns);
	suite_add_tcase(suite, mapping);
	suite_add_tcase(suite, slow);
	suite_add_tcase(suite, invalid);
	return run_suite(suite);
}
