/* SPDX-License-Identifier: MIT */
/*
 * rx-sections.c: RX memory, as a named section that a second view writes
 *
 * The memory is a view of the section whose pages have no write permission.  A writable view
 * exists only during a write, unless BUFFERS_VIEW asks for one.  A write window is open while
 * the pages have write permission instead of execute permission; the view itself has both, since
 * its pages can have no others.
 * Every copy of the library finds the section by a name that contains the address.  Behind the
 * memory, the section has a page that neither view maps; it holds the handle that keeps the
 * name alive until the memory is unmapped.
 */

#include "config.h"
#include "base/atomic-store.h"
#include "base/format.h"
#include "platform/windows/internal.h"

#include <errno.h>

struct section_tail {
	uint64_t handle;	/* keeps the name alive */
};
#define TAIL_SIZE 4096

static void format_rx_name(char *at, uintptr_t address)
{
	at = buffers_format_string(at, "Reloaded.Memory.Buffers.RX, PID ");
	at = buffers_format_number(at, buffers_platform_pid(), 10, 1);
	at = buffers_format_string(at, ", ");
	buffers_format_number(at, address, 16, 1);
}

static HANDLE open_rx_section(uintptr_t address)
{
	char name[BUFFERS_SECTION_NAME_SIZE];

	format_rx_name(name, address);
	return buffers_windows_open_section(name, FILE_MAP_WRITE);
}

static struct section_tail *map_tail(HANDLE section, size_t size)
{
	return buffers_windows_map_section(section, FILE_MAP_WRITE, size, TAIL_SIZE);
}

static int write_tail(HANDLE section, size_t size)
{
	struct section_tail *tail = map_tail(section, size);
	bool is_committed = tail && VirtualAlloc(tail, TAIL_SIZE, MEM_COMMIT, PAGE_READWRITE);

	if (is_committed)
		tail->handle = (uintptr_t)section;
	if (tail)
		UnmapViewOfFile(tail);
	return is_committed ? 0 : ENOMEM;
}

static int map_view_at(HANDLE section, DWORD access, uintptr_t address, size_t size)
{
	void *view = MapViewOfFileEx(section, access, 0, 0, size, (void *)address);

	if (!view)
		return buffers_windows_classify_failure();
	if ((uintptr_t)view == address)
		return 0;
	UnmapViewOfFile(view);
	return EEXIST;
}

/*
 * No page is committed before the commit gives it its permissions, so none is writable and
 * executable at any time.  Reserved memory is an arena's, which has no write windows.
 */
static int map_memory(HANDLE section, uintptr_t address, size_t size,
		      enum buffers_map_flags flags)
{
	int error;

	if (flags & BUFFERS_MAP_RESERVED)
		return map_view_at(section, FILE_MAP_READ | FILE_MAP_EXECUTE, address, size);
	error = map_view_at(section, FILE_MAP_WRITE | FILE_MAP_EXECUTE, address, size);
	if (error)
		return error;
	error = buffers_platform_commit(address, size, BUFFERS_KIND_RX, flags);
	if (error)
		UnmapViewOfFile((void *)address);
	return error;
}

int buffers_windows_map_rx(uintptr_t address, size_t size, enum buffers_map_flags flags)
{
	char name[BUFFERS_SECTION_NAME_SIZE];
	HANDLE section;
	int error;

	format_rx_name(name, address);
	error = buffers_windows_create_section(name, (uint64_t)size + TAIL_SIZE,
					       PAGE_EXECUTE_READWRITE | SEC_RESERVE, &section);
	if (error)
		return error == EAGAIN ? EEXIST : error;
	error = write_tail(section, size);
	if (!error)
		error = map_memory(section, address, size, flags);
	return error ? buffers_windows_close_after(error, section) : 0;
}

int buffers_windows_unmap_rx(uintptr_t address, size_t size)
{
	HANDLE section = open_rx_section(address);
	struct section_tail *tail = section ? map_tail(section, size) : NULL;
	HANDLE name_handle;

	if (!tail)
		return section ? buffers_windows_close_after(EINVAL, section) : EINVAL;
	name_handle = (HANDLE)(uintptr_t)tail->handle;
	UnmapViewOfFile(tail);
	if (!UnmapViewOfFile((void *)address))
		return buffers_windows_close_after(ENOMEM, section);
	CloseHandle(name_handle);
	return buffers_windows_close_after(0, section);
}

/*
 * False if the section by that name is other memory.  If another thread writes at the same
 * moment, both views show its bytes.
 */
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
	char *view = buffers_windows_map_section(section, FILE_MAP_WRITE, offset, before + size);
	int error;

	if (!view)
		return buffers_windows_classify_failure() == ENOMEM ? ENOMEM : EACCES;
	buffers_copy_through_alias(view + before, address, bytes, size);
	error = has_arrived(address, view + before, bytes, size) ? 0 : EACCES;
	UnmapViewOfFile(view);
	return error;
}

/* Whether sections have all of this memory. */
static bool is_in_sections(struct buffers_span span)
{
	struct buffers_allocation allocation;

	for (; span.start < span.end; span.start = allocation.span.end)
		if (!buffers_windows_find_allocation(GetCurrentProcess(), span.start, span.end,
						     &allocation) ||
		    allocation.type != MEM_MAPPED)
			return false;
	return true;
}

/* Writes a part that lies in one section. */
static int write_in_section(uintptr_t base, struct buffers_span part, const void *bytes)
{
	HANDLE section = open_rx_section(base);

	if (!section)
		return buffers_windows_classify_failure() == ENOMEM ? ENOMEM : EACCES;
	return buffers_windows_close_after(write_by_view(section, base, part.start, bytes,
							 part.end - part.start), section);
}

/* Cuts off, from what is left, the part in the section of the first byte, or of the last. */
static int write_part(struct buffers_span *left, uintptr_t address, const char *bytes,
		      bool is_backward)
{
	struct buffers_span part = *left;
	struct buffers_allocation allocation;
	uintptr_t in_part = is_backward ? left->end - 1 : left->start;

	if (!buffers_windows_find_allocation(GetCurrentProcess(), in_part, left->end,
					     &allocation))
		return EACCES;
	if (is_backward)
		left->end = part.start = buffers_max(part.start, allocation.span.start);
	else
		left->start = part.end = buffers_min(part.end, allocation.span.end);
	return write_in_section(allocation.span.start, part, bytes + (part.start - address));
}

/* Room that was given back may lie in adjacent sections: looks at all before it writes one. */
int buffers_platform_write(uintptr_t address, const void *bytes, size_t size,
			   enum buffers_write_mode mode)
{
	bool is_backward = buffers_must_copy_backward(address, bytes, size);
	struct buffers_span left = { address, address + size };
	int error = 0;

	(void)mode;
	/* The caller holds a lock: a fault here would leave it locked. */
	if (!buffers_platform_is_readable((uintptr_t)bytes, size) || !is_in_sections(left))
		return EACCES;
	while (left.start < left.end && !error)
		error = write_part(&left, address, bytes, is_backward);
	return error;
}

/*
 * Views
 */

static bool is_committed(uintptr_t address)
{
	MEMORY_BASIC_INFORMATION region;

	return buffers_windows_query(GetCurrentProcess(), address, &region) &&
	       region.State == MEM_COMMIT;
}

int buffers_platform_map_view(uintptr_t address, size_t size, bool is_inherited, uintptr_t *view)
{
	HANDLE section = open_rx_section(address);
	void *got;

	(void)is_inherited;	/* there is no fork */
	if (!section)
		return buffers_windows_classify_failure() == ENOMEM ? ENOMEM : EACCES;
	got = buffers_windows_map_section(section, FILE_MAP_WRITE, 0, size);
	*view = (uintptr_t)got;
	/* An arena's memory is committed later.  If this fails, Wine still permits stores. */
	if (got && is_committed(address))
		buffers_platform_commit_view(*view, size);
	return buffers_windows_close_after(got ? 0 : ENOMEM, section);
}

int buffers_platform_unmap_view(uintptr_t view, size_t size)
{
	(void)size;
	return UnmapViewOfFile((void *)view) ? 0 : ENOMEM;
}

/* There is no fork. */
bool buffers_platform_is_shared(uintptr_t address, size_t size)
{
	(void)address, (void)size;
	return false;
}

/* The section has the memory already; Wine wants a commit in each mapping. */
int buffers_platform_commit_view(uintptr_t part, size_t size)
{
	return VirtualAlloc((void *)part, size, MEM_COMMIT, PAGE_READWRITE) ? 0 : ENOMEM;
}
