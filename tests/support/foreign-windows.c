/* SPDX-License-Identifier: MIT */
/* foreign-windows.c: the other implementation's way to the first locator on Windows */

#include "config.h"
#include "support/foreign-sections.h"

#include <check.h>

enum { REST_SIZE = 16 << 10 };

void *foreign_map(size_t size)
{
	void *memory = VirtualAlloc(NULL, size, MEM_RESERVE | MEM_COMMIT, PAGE_EXECUTE_READWRITE);

	ck_assert_ptr_nonnull(memory);
	return memory;
}

HANDLE foreign_create_section(void)
{
	char name[128];
	HANDLE section;
	bool is_old;

	section_name(name, "", false);
	section = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL, PAGE_EXECUTE_READWRITE, 0, BLOCK,
				     name);
	is_old = GetLastError() == ERROR_ALREADY_EXISTS;
	ck_assert_ptr_nonnull(section);
	if (!is_old)
		return section;
	CloseHandle(section);
	return NULL;
}

static void *view_of(HANDLE section)
{
	void *view = MapViewOfFile(section, FILE_MAP_ALL_ACCESS | FILE_MAP_EXECUTE, 0, 0, BLOCK);

	ck_assert_ptr_nonnull(view);
	return view;
}

struct foreign_locator *foreign_prepare(HANDLE section)
{
	struct foreign_locator *locator = view_of(section);

	for (size_t used = FOREIGN_SIZE; used < BLOCK; ) {
		size_t left = BLOCK - used;
		uint32_t size = (uint32_t)(left < REST_SIZE ? left : REST_SIZE);

		locator->items[locator->num_items++] = (struct foreign_item){
			.base = (uintptr_t)locator + used, .size = size,
		};
		used += size;
	}
	return locator;
}

void foreign_publish(struct foreign_locator *locator)
{
	__atomic_store_n(&locator->this_address, (uintptr_t)locator, __ATOMIC_RELEASE);
}

static struct foreign_locator *wait_for_address(void)
{
	char name[128];
	HANDLE section;
	uintptr_t *start, address;

	section_name(name, "", false);
	section = OpenFileMappingA(FILE_MAP_ALL_ACCESS, FALSE, name);
	ck_assert_ptr_nonnull(section);
	start = view_of(section);
	while (!(address = __atomic_load_n(start, __ATOMIC_ACQUIRE)))
		Sleep(0);
	ck_assert(UnmapViewOfFile(start));
	CloseHandle(section);
	ck_assert_uint_eq(*(uintptr_t *)address, address);
	return (struct foreign_locator *)address;
}

struct foreign_locator *foreign_find_section(void)
{
	HANDLE section = foreign_create_section();
	struct foreign_locator *locator;

	if (!section)
		return wait_for_address();
	locator = foreign_prepare(section);
	foreign_publish(locator);
	return locator;
}
