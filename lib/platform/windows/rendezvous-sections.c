/* SPDX-License-Identifier: MIT */
/*
 * rendezvous-sections.c: the rendezvous file of platform.h as a named section
 *
 * The first locator is inside the section.  The handle that created it stays open to the end
 * of the process: a section lives as long as it is mapped, but its name only as long as a
 * handle is open.
 */

#include "config.h"
#include "base/format.h"
#include "platform/windows/internal.h"

#include <errno.h>

static uint64_t start_of_process(void)
{
	FILETIME start, end, kernel, user;

	if (!GetProcessTimes(GetCurrentProcess(), &start, &end, &kernel, &user))
		return 0;
	return (uint64_t)start.dwHighDateTime << 32 | start.dwLowDateTime;
}

/* Other implementations share the first name.  Only this library uses the second. */
static void format_section_name(char *at, unsigned dir, const char *name)
{
	at = buffers_format_string(at, "/");
	at = buffers_format_string(at, name);
	at = buffers_format_string(at, ", PID ");
	at = buffers_format_number(at, buffers_platform_pid(), 10, 1);
	if (dir > 0) {
		at = buffers_format_string(at, ", started ");
		buffers_format_number(at, start_of_process(), 16, 1);
	}
}

void buffers_platform_rendezvous_open(struct buffers_rendezvous_dirs *dirs)
{
	*dirs = (struct buffers_rendezvous_dirs){ .user = 0 };
}

void buffers_platform_rendezvous_close(struct buffers_rendezvous_dirs *dirs)
{
	(void)dirs;
}

/* Another process may have created the section, with pages that are not committed. */
static int read_section(HANDLE section, void *bytes, size_t size)
{
	void *view = buffers_windows_map_section(section, FILE_MAP_READ, 0, 0);
	int error = EACCES;

	if (view && buffers_platform_try_read((uintptr_t)view, bytes, size) == 0)
		error = 0;
	if (view)
		UnmapViewOfFile(view);
	return error;
}

/* The section is always fresh: its creator writes the address a moment after creating it. */
int buffers_platform_rendezvous_read(struct buffers_rendezvous_dirs *dirs, unsigned dir,
				     const char *name, void *bytes, size_t size,
				     struct buffers_rendezvous_id *id, bool *is_fresh)
{
	char section_name[BUFFERS_SECTION_NAME_SIZE];
	HANDLE section;

	(void)dirs;
	*id = (struct buffers_rendezvous_id){ 0 };
	*is_fresh = true;
	format_section_name(section_name, dir, name);
	section = buffers_windows_open_section(section_name, FILE_MAP_READ);
	if (!section)
		return GetLastError() == ERROR_FILE_NOT_FOUND ? ENOENT : EACCES;
	return buffers_windows_close_after(read_section(section, bytes, size), section);
}

int buffers_platform_rendezvous_map(const struct buffers_rendezvous_dirs *dirs, unsigned dir,
				    const char *name, size_t size, enum buffers_kind kind,
				    uintptr_t *address)
{
	bool is_executable = kind == BUFFERS_KIND_RWX;
	char section_name[BUFFERS_SECTION_NAME_SIZE];
	HANDLE section;
	void *view;
	int error;

	(void)dirs;
	format_section_name(section_name, dir, name);
	error = buffers_windows_create_section(section_name, size,
					       is_executable ? PAGE_EXECUTE_READWRITE :
							       PAGE_READWRITE, &section);
	if (error)
		return error == EEXIST ? EACCES : error;
	view = buffers_windows_map_section(section, FILE_MAP_WRITE |
					   (is_executable ? FILE_MAP_EXECUTE : 0), 0, size);
	if (!view) {
		error = buffers_windows_classify_failure();
		return buffers_windows_close_after(error == EEXIST ? EACCES : error, section);
	}
	*address = (uintptr_t)view;
	return 0;
}
