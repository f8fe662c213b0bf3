/* SPDX-License-Identifier: MIT */
/* section.c: named sections, which all copies of the library in the process find */

#include "config.h"
#include "platform/windows/internal.h"

#include <errno.h>

/* The functions that take narrow names convert them in memory that they allocate. */
static const wchar_t *widen(const char *name, wchar_t *wide)
{
	size_t i = 0;

	do
		wide[i] = (unsigned char)name[i];
	while (name[i++]);
	return wide;
}

HANDLE buffers_windows_open_section(const char *name, DWORD access)
{
	wchar_t wide[BUFFERS_SECTION_NAME_SIZE];

	return OpenFileMappingW(access, FALSE, widen(name, wide));
}

/* A section that existed before belongs to other code. */
int buffers_windows_create_section(const char *name, uint64_t size, DWORD protection,
				   HANDLE *section)
{
	wchar_t wide[BUFFERS_SECTION_NAME_SIZE];
	int error;

	SetLastError(ERROR_SUCCESS);
	*section = CreateFileMappingW(INVALID_HANDLE_VALUE, NULL, protection, (DWORD)(size >> 32),
				      (DWORD)size, widen(name, wide));
	error = GetLastError() == ERROR_ALREADY_EXISTS ? EAGAIN : 0;
	if (!*section)
		return buffers_windows_classify_failure();
	if (error)
		CloseHandle(*section);
	return error;
}

void *buffers_windows_map_section(HANDLE section, DWORD access, uint64_t offset, size_t size)
{
	return MapViewOfFile(section, access, (DWORD)(offset >> 32), (DWORD)offset, size);
}

int buffers_windows_close_after(int error, HANDLE handle)
{
	CloseHandle(handle);
	return error;
}
