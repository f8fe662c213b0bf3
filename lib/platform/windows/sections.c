/* SPDX-License-Identifier: MIT */
/*
 * platform-windows-sections.c: notices, and memory that is never writable and executable
 *
 * Both are sections with names ("file mappings", of no file), which all copies of the library
 * in the process find.  A section lives as long as it is mapped, but its name only as long as
 * a handle is open: the one that it was made with stays open, to the end of the process or
 * until the memory is given back.
 */

#include "config.h"
#include "platform/platform.h"
#include "platform/windows/windows.h"
#include "base/atomic-store.h"
#include "base/format.h"

#include <errno.h>

#define NAME_SIZE 128

/* The functions that take bytes convert them in memory that they allocate. */
static const wchar_t *widen(const char *name, wchar_t *wide)
{
	size_t i = 0;

	do
		wide[i] = (unsigned char)name[i];
	while (name[i++]);
	return wide;
}

static HANDLE open_section(const char *name, DWORD access)
{
	wchar_t wide[NAME_SIZE];

	return OpenFileMappingW(access, FALSE, widen(name, wide));
}

/* Where one by this name was there before, that is no section of ours. */
static int create_section(const char *name, uint64_t size, DWORD protection, HANDLE *section)
{
	wchar_t wide[NAME_SIZE];
	int error;

	SetLastError(ERROR_SUCCESS);
	*section = CreateFileMappingW(INVALID_HANDLE_VALUE, NULL, protection, (DWORD)(size >> 32),
				      (DWORD)size, widen(name, wide));
	error = GetLastError() == ERROR_ALREADY_EXISTS ? EAGAIN : 0;
	if (!*section)
		return buffers_platform_classify_failure();
	if (error)
		CloseHandle(*section);
	return error;
}

static int close_after(int error, HANDLE section)
{
	CloseHandle(section);
	return error;
}

static void *map_part(HANDLE section, DWORD access, uint64_t offset, size_t size)
{
	return MapViewOfFile(section, access, (DWORD)(offset >> 32), (DWORD)offset, size);
}

/*
 * Notices
 */

static uint64_t start_of_process(void)
{
	FILETIME start, end, kernel, user;

	if (!GetProcessTimes(GetCurrentProcess(), &start, &end, &kernel, &user))
		return 0;
	return (uint64_t)start.dwHighDateTime << 32 | start.dwLowDateTime;
}

/* The first place is shared with other implementations.  Nobody else means the second. */
static void put_notice_name(char *at, unsigned place, const char *name)
{
	at = buffers_format_string(at, "/");
	at = buffers_format_string(at, name);
	at = buffers_format_string(at, ", PID ");
	at = buffers_format_number(at, buffers_platform_pid(), 10, 1);
	if (place > 0) {
		at = buffers_format_string(at, ", started ");
		buffers_format_number(at, start_of_process(), 16, 1);
	}
}

void buffers_platform_rendezvous_open(struct buffers_rendezvous_dirs *board)
{
	*board = (struct buffers_rendezvous_dirs){ .user = 0 };
}

void buffers_platform_rendezvous_close(struct buffers_rendezvous_dirs *board)
{
	(void)board;
}

/* Another process may have made it, of pages that are not there. */
static int read_start(HANDLE section, void *bytes, size_t size)
{
	void *view = map_part(section, FILE_MAP_READ, 0, 0);
	int error = EACCES;

	if (view && buffers_platform_try_read((uintptr_t)view, bytes, size) == 0)
		error = 0;
	if (view)
		UnmapViewOfFile(view);
	return error;
}

/* Whoever makes one writes the address next. */
int buffers_platform_rendezvous_read(const struct buffers_rendezvous_dirs *board, unsigned place,
				 const char *name, void *bytes, size_t size,
				 struct buffers_rendezvous_id *id, bool *is_fresh)
{
	char section_name[NAME_SIZE];
	HANDLE section;

	(void)board;
	*id = (struct buffers_rendezvous_id){ 0 };
	*is_fresh = true;
	put_notice_name(section_name, place, name);
	section = open_section(section_name, FILE_MAP_READ);
	if (!section)
		return GetLastError() == ERROR_FILE_NOT_FOUND ? ENOENT : EACCES;
	return close_after(read_start(section, bytes, size), section);
}

int buffers_platform_rendezvous_map(const struct buffers_rendezvous_dirs *board, unsigned place,
				const char *name, size_t size, unsigned kind,
				uintptr_t *address)
{
	bool is_code = kind == BUFFERS_KIND_RWX;
	char section_name[NAME_SIZE];
	HANDLE section;
	void *view;
	int error;

	(void)board;
	put_notice_name(section_name, place, name);
	error = create_section(section_name, size,
			       is_code ? PAGE_EXECUTE_READWRITE : PAGE_READWRITE, &section);
	if (error)
		return error == EEXIST ? EACCES : error;
	view = map_part(section, FILE_MAP_WRITE | (is_code ? FILE_MAP_EXECUTE : 0), 0, size);
	if (!view) {
		error = buffers_platform_classify_failure();
		return close_after(error == EEXIST ? EACCES : error, section);
	}
	*address = (uintptr_t)view;
	return 0;
}

int buffers_platform_rendezvous_create(struct buffers_rendezvous_dirs *board, unsigned place, const char *name,
				 const void *bytes, size_t size,
				 const struct buffers_rendezvous_id *old)
{
	(void)board;
	(void)place;
	(void)name;
	(void)bytes;
	(void)size;
	(void)old;
	return EACCES;
}

void buffers_platform_rendezvous_remove(const struct buffers_rendezvous_dirs *board, unsigned place,
				    const char *name, const struct buffers_rendezvous_id *id)
{
	(void)board;
	(void)place;
	(void)name;
	(void)id;
}

void buffers_platform_rendezvous_clean_up(const struct buffers_rendezvous_dirs *board, unsigned place,
				  const char *const *names, size_t size,
				  bool (*may_remove)(const void *bytes, bool is_old,
						     void *context),
				  void *context)
{
	(void)board;
	(void)place;
	(void)names;
	(void)size;
	(void)may_remove;
	(void)context;
}

/*
 * Memory that is read and executed at its address, and written by a second view
 *
 * is mapped for the moment of a write.  Behind the memory its section has a page that is
 * mapped with neither.
 */

struct tail {
	uint64_t handle;	/* that keeps the name */
};
#define TAIL_SIZE 4096

static void put_text_name(char *at, uintptr_t address)
{
	at = buffers_format_string(at, "Reloaded.Memory.Buffers.Text, PID ");
	at = buffers_format_number(at, buffers_platform_pid(), 10, 1);
	at = buffers_format_string(at, ", ");
	buffers_format_number(at, address, 16, 1);
}

static HANDLE open_text(uintptr_t address)
{
	char name[NAME_SIZE];

	put_text_name(name, address);
	return open_section(name, FILE_MAP_WRITE);
}

static struct tail *map_tail(HANDLE section, size_t size)
{
	return map_part(section, FILE_MAP_WRITE, size, TAIL_SIZE);
}

static int write_tail(HANDLE section, size_t size, bool is_reserved)
{
	struct tail *tail = map_tail(section, size);
	bool is_there = tail && (!is_reserved ||
				 VirtualAlloc(tail, TAIL_SIZE, MEM_COMMIT, PAGE_READWRITE));

	if (is_there)
		tail->handle = (uintptr_t)section;
	if (tail)
		UnmapViewOfFile(tail);
	return is_there ? 0 : ENOMEM;
}

static int map_view_at(HANDLE section, uintptr_t address, size_t size)
{
	void *view = MapViewOfFileEx(section, FILE_MAP_READ | FILE_MAP_EXECUTE, 0, 0, size,
				     (void *)address);

	if (!view)
		return buffers_platform_classify_failure();
	if ((uintptr_t)view == address)
		return 0;
	UnmapViewOfFile(view);
	return EEXIST;
}

int buffers_platform_map_rx(uintptr_t address, size_t size, unsigned kind)
{
	bool is_reserved = kind & BUFFERS_MAP_RESERVED;
	char name[NAME_SIZE];
	HANDLE section;
	int error;

	put_text_name(name, address);
	error = create_section(name, (uint64_t)size + TAIL_SIZE,
			       PAGE_EXECUTE_READWRITE | (is_reserved ? SEC_RESERVE : SEC_COMMIT),
			       &section);
	if (error)
		return error == EAGAIN ? EEXIST : error;
	error = write_tail(section, size, is_reserved);
	if (!error)
		error = map_view_at(section, address, size);
	return error ? close_after(error, section) : 0;
}

int buffers_platform_unmap_rx(uintptr_t address, size_t size)
{
	HANDLE section = open_text(address);
	struct tail *tail = section ? map_tail(section, size) : NULL;
	HANDLE kept;

	if (!tail)
		return section ? close_after(EINVAL, section) : EINVAL;
	kept = (HANDLE)(uintptr_t)tail->handle;
	UnmapViewOfFile(tail);
	if (!UnmapViewOfFile((void *)address))
		return close_after(ENOMEM, section);
	CloseHandle(kept);
	return close_after(0, section);
}

/* Where the name is another's, it is not there; others may have written it meanwhile. */
static bool has_arrived(uintptr_t address, const char *written, const void *bytes, size_t size)
{
	return memcmp((const void *)address, written, size) == 0 ||
	       memcmp(written, bytes, size) != 0;
}

static int write_by_view(HANDLE section, uintptr_t base, uintptr_t address, const void *bytes,
			 size_t size)
{
	uintptr_t offset = buffers_page_down(address - base);
	size_t before = address - base - offset;
	char *view = map_part(section, FILE_MAP_WRITE, offset, before + size);
	int error;

	if (!view)
		return buffers_platform_classify_failure() == ENOMEM ? ENOMEM : EACCES;
	buffers_copy_through_alias(view + before, address, bytes, size);
	error = has_arrived(address, view + before, bytes, size) ? 0 : EACCES;
	UnmapViewOfFile(view);
	return error;
}

int buffers_platform_write(uintptr_t address, const void *bytes, size_t size,
			   enum buffers_write_mode target)
{
	struct buffers_allocation allocation;
	HANDLE section;

	(void)target;
	/* Nobody would unlock what the caller has locked if it faulted here. */
	if (!buffers_platform_is_readable((uintptr_t)bytes, size) ||
	    !buffers_platform_find_allocation(GetCurrentProcess(), address, address + size,
					      &allocation) ||
	    allocation.type != MEM_MAPPED || size > allocation.span.end - address)
		return EACCES;
	section = open_text(allocation.span.start);
	if (!section)
		return buffers_platform_classify_failure() == ENOMEM ? ENOMEM : EACCES;
	return close_after(write_by_view(section, allocation.span.start, address, bytes, size),
			   section);
}
