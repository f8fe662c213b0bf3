/* SPDX-License-Identifier: MIT */
/* other-process.c: memory in another process, also in a 32-bit one from a 64-bit one */

#include "config.h"
#include "platform/windows/internal.h"

#include <errno.h>

#define KIB ((uintptr_t)1 << 10)
#define GIB ((uintptr_t)1 << 30)

/*
 * The process
 */

/* A process can end with the status STILL_ACTIVE, too: then only its end time tells. */
static bool has_ended(HANDLE process)
{
	FILETIME start, end = { 0, 0 }, kernel, user;
	DWORD status;

	if (GetExitCodeProcess(process, &status) && status != STILL_ACTIVE)
		return true;
	return GetProcessTimes(process, &start, &end, &kernel, &user) &&
	       (end.dwLowDateTime || end.dwHighDateTime);
}

static bool is_64_bit_system(void)
{
	BOOL is_guest;

	return sizeof(void *) == 8 || (IsWow64Process(GetCurrentProcess(), &is_guest) && is_guest);
}

static bool has_32_bits(HANDLE process)
{
	BOOL is_guest;

	return !is_64_bit_system() || (IsWow64Process(process, &is_guest) && is_guest);
}

/* Characteristics of the image at an address: PE format, "COFF File Header".  0: no image. */
static WORD characteristics_of(HANDLE process, uintptr_t image)
{
	IMAGE_DOS_HEADER start;
	struct {
		DWORD signature;
		IMAGE_FILE_HEADER file;
	} header;

	if (!buffers_windows_read(process, image, &start, sizeof(start)) ||
	    start.e_magic != IMAGE_DOS_SIGNATURE || start.e_lfanew < 0 ||
	    !buffers_windows_read(process, image + (uintptr_t)start.e_lfanew, &header,
				  sizeof(header)) ||
	    header.signature != IMAGE_NT_SIGNATURE)
		return 0;
	return header.file.Characteristics;
}

enum awareness { UNKNOWN, UNAWARE, AWARE };

/*
 * The program's image, one that is no library, says whether it is large address aware.  A
 * 64-bit process may also contain 32-bit images: ignore those.
 */
static enum awareness find_awareness(HANDLE process)
{
	WORD foreign = IMAGE_FILE_DLL | (has_32_bits(process) ? 0 : IMAGE_FILE_32BIT_MACHINE);
	enum awareness awareness = UNKNOWN;
	MEMORY_BASIC_INFORMATION region;
	WORD characteristics;

	for (uintptr_t at = 64 * KIB;
	     awareness != AWARE && at < UINT32_MAX && buffers_windows_query(process, at, &region);
	     at = buffers_windows_region_end(&region)) {
		if (region.State == MEM_FREE || region.Type != MEM_IMAGE ||
		    region.BaseAddress != region.AllocationBase)
			continue;
		characteristics = characteristics_of(process, at);
		if (characteristics && !(characteristics & foreign))
			awareness = characteristics & IMAGE_FILE_LARGE_ADDRESS_AWARE ?
				    AWARE : UNAWARE;
	}
	return awareness;
}

/* The system reports the highest address of the calling process only. */
static uintptr_t usable_end_in(HANDLE process)
{
	enum awareness awareness = find_awareness(process);
	uintptr_t low_end = 2 * GIB - 64 * KIB;

	if (has_32_bits(process)) {
		if (awareness != AWARE)
			return low_end;
		return low_end + (is_64_bit_system() ? 2 * GIB : 1 * GIB);
	}
	if (awareness == UNAWARE)
		return low_end;
	/* A 32-bit caller cannot name higher addresses. */
	return sizeof(void *) == 8 ? buffers_windows_everything().end :
				     UINTPTR_MAX & ~(64 * KIB - 1);
}

static int open_process(uint32_t pid, HANDLE *process)
{
	*process = OpenProcess(PROCESS_QUERY_INFORMATION | PROCESS_VM_OPERATION | PROCESS_VM_READ,
			       FALSE, pid);
	if (*process)
		return 0;
	switch (buffers_windows_classify_failure()) {
	case ENOMEM:
		return ENOMEM;
	case EACCES:
		return EACCES;
	default:
		return EINVAL;
	}
}

/*
 * A process that has ended keeps its number while any handle is open.  OpenProcess() rounds
 * numbers, so it may open another process.
 */
int buffers_platform_maps_open_in(uint32_t pid, struct buffers_maps *maps,
				  struct buffers_span *usable)
{
	HANDLE process;
	int error = open_process(pid, &process);

	if (error)
		return error;
	if (has_ended(process) || GetProcessId(process) != pid)
		return buffers_windows_close_after(EINVAL, process);
	*maps = (struct buffers_maps){
		.descriptor = -1, .handle = (uintptr_t)process, .method = BUFFERS_MAPS_QUERY,
	};
	if (usable)
		*usable = (struct buffers_span){
			buffers_windows_everything().start, usable_end_in(process),
		};
	return 0;
}

/*
 * Mapping
 */

static int try_anywhere(HANDLE process, size_t size, enum buffers_kind kind)
{
	uintptr_t address = 0;
	int error = buffers_windows_map_private(process, 0, size, kind, BUFFERS_MAP_PLAIN,
						&address);

	if (!error)
		buffers_windows_unmap_private(process, address);
	return error;
}

/* No policy forbids RW memory: if that is refused, the process is ending. */
static int confirm_failure_in(HANDLE process, int error, size_t size, enum buffers_kind kind)
{
	if (error == 0)
		return 0;
	if (has_ended(process) ||
	    (error == EACCES && try_anywhere(process, buffers_platform_granularity(),
					     BUFFERS_KIND_RW) == EACCES))
		return EINVAL;
	if (error == EEXIST)
		return EEXIST;
	error = try_anywhere(process, size, kind);
	if (error)
		return error == EEXIST ? ENOMEM : error;
	return EEXIST;
}

int buffers_platform_map_in(const struct buffers_maps *maps, uintptr_t address, size_t size,
			    enum buffers_kind kind)
{
	HANDLE process = buffers_windows_process_of(maps);
	uintptr_t mapped;
	int error = buffers_windows_map_private(process, address, size, kind, BUFFERS_MAP_PLAIN,
						&mapped);

	return confirm_failure_in(process, error, size, kind);
}

int buffers_platform_unmap_in(const struct buffers_maps *maps, uintptr_t address, size_t size)
{
	HANDLE process = buffers_windows_process_of(maps);
	struct buffers_allocation allocation;
	int error;

	if (!buffers_windows_is_allocation(process, address, size, &allocation) ||
	    allocation.type != MEM_PRIVATE)
		return EINVAL;
	error = buffers_windows_unmap_private(process, address);
	return error && has_ended(process) ? EINVAL : error;
}
