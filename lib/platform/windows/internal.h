/* SPDX-License-Identifier: MIT */
/* internal.h: functions that the files of this port share */
#ifndef BUFFERS_WINDOWS_INTERNAL_H
#define BUFFERS_WINDOWS_INTERNAL_H

#include "platform/platform.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#pragma GCC visibility push(hidden)

/* The addresses that a program may use. */
struct buffers_span buffers_windows_everything(void);

/*
 * Classifies GetLastError() after a failed allocation.  ENOMEM and EACCES: the system
 * refuses, perhaps at that address only; EEXIST: the address is not available.
 */
int buffers_windows_classify_failure(void);

/* VirtualQueryEx(); false: there is no such address or process. */
bool buffers_windows_query(HANDLE process, uintptr_t address, MEMORY_BASIC_INFORMATION *region);

/* The end of a region, cut off at the end of this process's address space. */
uintptr_t buffers_windows_region_end(const MEMORY_BASIC_INFORMATION *region);

/* One call's allocation, of which an address is a part. */
struct buffers_allocation {
	struct buffers_span span;
	DWORD type;		/* MEM_PRIVATE, MEM_MAPPED, MEM_IMAGE */
};

/* Finds it, at least up to `enough`.  False: none, or there is no such process. */
bool buffers_windows_find_allocation(HANDLE process, uintptr_t address, uintptr_t enough,
				     struct buffers_allocation *allocation);

/* Whether an allocation has exactly this address and size. */
bool buffers_windows_is_allocation(HANDLE process, uintptr_t address, size_t size,
				   struct buffers_allocation *allocation);

/* Whether all of this memory of the process has one of these protections. */
bool buffers_windows_has_protection(uintptr_t address, size_t size, DWORD protections);

/* The process whose mappings were opened. */
HANDLE buffers_windows_process_of(const struct buffers_maps *maps);

/*
 * Allocates private memory of any process.  Address 0 lets the system choose.
 * EEXIST: the address is not available, or the system chose another one.
 */
int buffers_windows_map_private(HANDLE process, uintptr_t address, size_t size,
				enum buffers_kind kind, enum buffers_map_flags flags,
				uintptr_t *mapped);
int buffers_windows_unmap_private(HANDLE process, uintptr_t address);

/* ReadProcessMemory() of a whole range. */
bool buffers_windows_read(HANDLE process, uintptr_t address, void *copy, size_t size);

/* As buffers_platform_map() and buffers_platform_unmap(), for RX memory. */
int buffers_windows_map_rx(uintptr_t address, size_t size, enum buffers_map_flags flags);
int buffers_windows_unmap_rx(uintptr_t address, size_t size);

/*
 * Named sections ("file mappings" without a file)
 *
 * create: EAGAIN if the name exists; also what buffers_windows_classify_failure() says.
 * open: NULL, see GetLastError().
 */
enum { BUFFERS_SECTION_NAME_SIZE = 128 };
int buffers_windows_create_section(const char *name, uint64_t size, DWORD protection,
				   HANDLE *section);
HANDLE buffers_windows_open_section(const char *name, DWORD access);
void *buffers_windows_map_section(HANDLE section, DWORD access, uint64_t offset, size_t size);

/* Closes the handle and returns the error. */
int buffers_windows_close_after(int error, HANDLE handle);

#pragma GCC visibility pop

#endif
