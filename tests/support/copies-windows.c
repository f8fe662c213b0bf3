/* SPDX-License-Identifier: MIT */
/* copies-windows.c: load and unload copies of the library */

#include "config.h"
#include "support/copies.h"
#include "support/regions.h"
#include "support/support.h"

void *find_in_copy(const struct copy *copy, const char *name)
{
	return (void *)(uintptr_t)GetProcAddress(copy->handle, name);
}

/* Wine does not recognize a loaded file by a path with slashes, so use the full path. */
bool load_copy(struct copy *copy, const char *file, bool is_isolated)
{
	char path[MAX_PATH];

	(void)is_isolated;
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
