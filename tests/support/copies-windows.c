/* SPDX-License-Identifier: MIT */
/* copies-windows.c: how copies of the library are loaded */

#include "config.h"
#include "support/copies.h"
#include "support/regions.h"
#include "support/support.h"

void *find_in_copy(const struct copy *copy, const char *name)
{
	return (void *)(uintptr_t)GetProcAddress(copy->handle, name);
}

/* Under Wine a path with slashes is not taken for the file that it names. */
bool load_copy(struct copy *copy, const char *file, bool apart)
{
	char path[MAX_PATH];

	(void)apart;
	copy->handle = NULL;
	if (GetFullPathNameA(file, sizeof(path), path, NULL))
		copy->handle = LoadLibraryA(path);
	if (copy->handle && look_up_calls(copy))
		return true;
	printf("%s: error %lu\n", path, GetLastError());
	return false;
}

void drop_copy(struct copy *copy)
{
	ck_assert(FreeLibrary(copy->handle));
}

bool close_copy(struct copy *copy, const char *file)
{
	char path[MAX_PATH];

	drop_copy(copy);
	ck_assert_uint_ne(GetFullPathNameA(file, sizeof(path), path, NULL), 0);
	return !GetModuleHandleA(path);
}

uintptr_t rendezvous_address(void)
{
	uintptr_t address = 0;
	char name[128];
	HANDLE section;
	const uintptr_t *view;

	section_name(name, "", false);
	section = OpenFileMappingA(FILE_MAP_READ, FALSE, name);
	view = section ? MapViewOfFile(section, FILE_MAP_READ, 0, 0, 0) : NULL;
	if (view) {
		address = *view;
		UnmapViewOfFile(view);
	}
	if (section)
		CloseHandle(section);
	return address;
}
