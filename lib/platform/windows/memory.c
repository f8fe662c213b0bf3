/* SPDX-License-Identifier: MIT */
/* memory.c: reads and checks memory that may be absent or protected */

#include "config.h"
#include "platform/windows/internal.h"

#include <errno.h>

#define WRITABLE (PAGE_READWRITE | PAGE_WRITECOPY | PAGE_EXECUTE_READWRITE | \
		  PAGE_EXECUTE_WRITECOPY)
#define READABLE (WRITABLE | PAGE_READONLY | PAGE_EXECUTE_READ)

bool buffers_windows_read(HANDLE process, uintptr_t address, void *copy, size_t size)
{
	SIZE_T got;

	return ReadProcessMemory(process, (const void *)address, copy, size, &got) && got == size;
}

/* A guard page does not count: an access to it would stop the growth of a stack. */
bool buffers_windows_has_protection(uintptr_t address, size_t size, DWORD protections)
{
	HANDLE process = GetCurrentProcess();
	MEMORY_BASIC_INFORMATION region;

	if (address > UINTPTR_MAX - size)
		return false;
	for (uintptr_t at = address; at < address + size;
	     at = buffers_windows_region_end(&region))
		if (!buffers_windows_query(process, at, &region) || region.State != MEM_COMMIT ||
		    !(region.Protect & protections) || (region.Protect & PAGE_GUARD))
			return false;
	return true;
}

bool buffers_platform_is_writable(uintptr_t address, size_t size)
{
	return address % 4 == 0 && size % 4 == 0 &&
	       buffers_windows_has_protection(address, size, WRITABLE);
}

bool buffers_platform_is_readable(uintptr_t address, size_t size)
{
	return buffers_windows_has_protection(address, size, READABLE);
}

/* Memory that was readable a moment ago may be unmapped by now. */
int buffers_platform_try_read(uintptr_t address, void *copy, size_t size)
{
	if (buffers_platform_is_readable(address, size) &&
	    buffers_windows_read(GetCurrentProcess(), address, copy, size))
		return 0;
	return EFAULT;
}
