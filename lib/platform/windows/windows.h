/* SPDX-License-Identifier: MIT */
/* platform-windows.h: what the files of platform-windows*.c share */
#ifndef BUFFERS_WINDOWS_H
#define BUFFERS_WINDOWS_H

#include "platform/platform.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#pragma GCC visibility push(hidden)

/*
 * Of GetLastError(), after memory was asked for.  ENOMEM and EACCES: the system refuses, if
 * not only at that address; EEXIST: that place is not to be had.
 */
int buffers_platform_classify_failure(void);

/*
 * What was mapped at once and an address is in, at least as far as `enough`.  False: nothing,
 * or there is no such process.
 */
struct buffers_allocation {
	struct buffers_span span;
	DWORD type;		/* MEM_PRIVATE, MEM_MAPPED, MEM_IMAGE */
};
bool buffers_platform_find_allocation(HANDLE process, uintptr_t address, uintptr_t enough,
				      struct buffers_allocation *allocation);

/* As buffers_platform_map() and buffers_platform_unmap(), memory of BUFFERS_KIND_RX. */
int buffers_platform_map_rx(uintptr_t address, size_t size, unsigned kind);
int buffers_platform_unmap_rx(uintptr_t address, size_t size);

#pragma GCC visibility pop

#endif
