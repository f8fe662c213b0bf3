/* SPDX-License-Identifier: MIT */
/* map.c: usable addresses, and mapping memory */

#include "config.h"
#include "platform/windows/internal.h"

#include <errno.h>
#include <string.h>

#define KIB ((uintptr_t)1 << 10)

/* Every thread computes the same value, so a race is harmless. */
size_t buffers_platform_granularity(void)
{
	static size_t granularity;
	size_t known = __atomic_load_n(&granularity, __ATOMIC_RELAXED);
	SYSTEM_INFO system;

	if (!known) {
		GetSystemInfo(&system);
		known = system.dwAllocationGranularity;
		__atomic_store_n(&granularity, known, __ATOMIC_RELAXED);
	}
	return known;
}

/*
 * Usable addresses
 */

/* A 32-bit program has 2 GiB, or nearly 4 GiB if it is marked large address aware. */
struct buffers_span buffers_windows_everything(void)
{
	SYSTEM_INFO system;

	GetSystemInfo(&system);
	return (struct buffers_span){
		buffers_max((uintptr_t)system.lpMinimumApplicationAddress, 64 * KIB),
		(uintptr_t)system.lpMaximumApplicationAddress + 1,
	};
}

struct buffers_span buffers_platform_usable(struct buffers_span range)
{
	static struct buffers_span usable;
	struct buffers_span known = {
		__atomic_load_n(&usable.start, __ATOMIC_RELAXED),
		__atomic_load_n(&usable.end, __ATOMIC_RELAXED),
	};

	if (!known.start || !known.end) {
		known = buffers_windows_everything();
		__atomic_store_n(&usable.start, known.start, __ATOMIC_RELAXED);
		__atomic_store_n(&usable.end, known.end, __ATOMIC_RELAXED);
	}
	return buffers_span_intersect(range, known);
}

/*
 * Mapping
 */

static DWORD protection_of(enum buffers_kind kind)
{
	static const DWORD protections[BUFFERS_KINDS] = {
		[BUFFERS_KIND_RWX] = PAGE_EXECUTE_READWRITE,
		[BUFFERS_KIND_RW] = PAGE_READWRITE,
		[BUFFERS_KIND_RX] = PAGE_EXECUTE_READ,
	};

	return protections[kind];
}

int buffers_windows_map_private(HANDLE process, uintptr_t address, size_t size,
				enum buffers_kind kind, enum buffers_map_flags flags,
				uintptr_t *mapped)
{
	DWORD type = MEM_RESERVE | (flags & BUFFERS_MAP_RESERVED ? 0 : MEM_COMMIT);
	void *got = VirtualAllocEx(process, (void *)address, size, type, protection_of(kind));

	if (!got)
		return buffers_windows_classify_failure();
	*mapped = (uintptr_t)got;
	if (!address || *mapped == address)
		return 0;
	VirtualFreeEx(process, got, 0, MEM_RELEASE);
	return EEXIST;
}

int buffers_windows_unmap_private(HANDLE process, uintptr_t address)
{
	return VirtualFreeEx(process, (void *)address, 0, MEM_RELEASE) ? 0 : ENOMEM;
}

/* An address that was free a moment ago; 0: none. */
static uintptr_t find_free_address(size_t size)
{
	void *candidate = VirtualAlloc(NULL, size, MEM_RESERVE, PAGE_NOACCESS);

	if (candidate)
		VirtualFree(candidate, 0, MEM_RELEASE);
	return (uintptr_t)candidate;
}

/* The section's name contains the address, which must therefore be known first. */
static int map_rx_anywhere(size_t size, enum buffers_map_flags flags, uintptr_t *address)
{
	unsigned attempts = 8;
	int error;

	do {
		*address = find_free_address(size);
		error = *address ? buffers_windows_map_rx(*address, size, flags) : ENOMEM;
	} while (error == EEXIST && --attempts);
	return error;
}

int buffers_platform_map_anywhere(size_t size, enum buffers_kind kind,
				  enum buffers_map_flags flags, uintptr_t *address)
{
	int error;

	if (kind == BUFFERS_KIND_RX)
		error = map_rx_anywhere(size, flags, address);
	else
		error = buffers_windows_map_private(GetCurrentProcess(), 0, size, kind, flags,
						    address);
	return error == EEXIST ? ENOMEM : error;
}

/*
 * The system also reports a lack of memory or rights for addresses that no program may use.
 * Only a real lack refuses an address of the system's choice, too.
 */
static int confirm_failure(int error, size_t size, enum buffers_kind kind,
			   enum buffers_map_flags flags)
{
	uintptr_t address;

	if (error == 0 || error == EEXIST)
		return error;
	error = buffers_platform_map_anywhere(size, kind, flags, &address);
	if (error)
		return error;
	buffers_platform_unmap(address, size);
	return EEXIST;
}

int buffers_platform_map(uintptr_t address, size_t size, enum buffers_kind kind,
			 enum buffers_map_flags flags)
{
	uintptr_t mapped;
	int error;

	if (kind == BUFFERS_KIND_RX)
		error = buffers_windows_map_rx(address, size, flags);
	else
		error = buffers_windows_map_private(GetCurrentProcess(), address, size, kind,
						    flags, &mapped);
	return confirm_failure(error, size, kind, flags);
}

int buffers_platform_commit(uintptr_t address, size_t size, enum buffers_kind kind,
			    enum buffers_map_flags flags)
{
	(void)flags;
	if (VirtualAlloc((void *)address, size, MEM_COMMIT, protection_of(kind)))
		return 0;
	return buffers_windows_classify_failure() == EACCES ? EACCES : ENOMEM;
}

/* The system changes all pages or none. */
int buffers_platform_protect(uintptr_t address, size_t size, enum buffers_kind kind,
			     bool *needs_copy)
{
	struct buffers_allocation allocation;
	DWORD former;

	*needs_copy = false;
	if (!buffers_windows_is_allocation(GetCurrentProcess(), address, size, &allocation) ||
	    allocation.type == MEM_IMAGE)
		return EINVAL;
	if (VirtualProtect((void *)address, size, protection_of(kind), &former))
		return 0;
	return buffers_windows_classify_failure() == ENOMEM ? ENOMEM : EACCES;
}

int buffers_platform_replace(uintptr_t address, size_t size)
{
	(void)address, (void)size;
	return EACCES;
}

/*
 * The system may keep the contents of pages that are reset, or replace them by zeros: written
 * before, the zeros are there in both cases.  An unlock of pages that are not locked removes them
 * from the working set.  Sections cannot be reset.
 */
int buffers_platform_discard(uintptr_t address, size_t size, enum buffers_kind kind,
			     enum buffers_map_flags flags)
{
	if (kind == BUFFERS_KIND_RX || (flags & BUFFERS_MAP_SHARED))
		return EAGAIN;
	memset((void *)address, 0, size);
	VirtualAlloc((void *)address, size, MEM_RESET, PAGE_NOACCESS);
	VirtualUnlock((void *)address, size);
	return 0;
}

int buffers_platform_unmap(uintptr_t address, size_t size)
{
	struct buffers_allocation allocation;

	if (!buffers_windows_is_allocation(GetCurrentProcess(), address, size, &allocation))
		return EINVAL;
	switch (allocation.type) {
	case MEM_PRIVATE:
		return buffers_windows_unmap_private(GetCurrentProcess(), address);
	case MEM_MAPPED:
		return buffers_windows_unmap_rx(address, size);
	default:
		return EINVAL;
	}
}
