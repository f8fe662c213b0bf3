/* SPDX-License-Identifier: MIT */
/* maps.c: the regions of a process, by VirtualQueryEx() */

#include "config.h"
#include "platform/windows/internal.h"

#include <errno.h>

/*
 * Regions and allocations
 */

bool buffers_windows_query(HANDLE process, uintptr_t address, MEMORY_BASIC_INFORMATION *region)
{
	return VirtualQueryEx(process, (const void *)address, region, sizeof(*region)) != 0;
}

/* A process of more bits has sizes that do not fit: they are cut off, or 0. */
uintptr_t buffers_windows_region_end(const MEMORY_BASIC_INFORMATION *region)
{
	uintptr_t start = (uintptr_t)region->BaseAddress;

	if (region->RegionSize == 0 || region->RegionSize > UINTPTR_MAX - start)
		return UINTPTR_MAX;
	return start + region->RegionSize;
}

bool buffers_windows_find_allocation(HANDLE process, uintptr_t address, uintptr_t enough,
				     struct buffers_allocation *allocation)
{
	MEMORY_BASIC_INFORMATION region;
	struct buffers_span *span = &allocation->span;

	if (!buffers_windows_query(process, address, &region) || region.State == MEM_FREE)
		return false;
	allocation->type = region.Type;
	span->start = (uintptr_t)region.AllocationBase;
	do
		span->end = buffers_windows_region_end(&region);
	while (span->end < enough && buffers_windows_query(process, span->end, &region) &&
	       region.State != MEM_FREE && (uintptr_t)region.AllocationBase == span->start);
	return true;
}

bool buffers_windows_is_allocation(HANDLE process, uintptr_t address, size_t size,
				   struct buffers_allocation *allocation)
{
	return buffers_windows_find_allocation(process, address, UINTPTR_MAX, allocation) &&
	       allocation->span.start == address && allocation->span.end - address == size;
}

/*
 * The list of mappings of platform.h
 */

void buffers_platform_maps_open(struct buffers_maps *maps)
{
	*maps = (struct buffers_maps){ .descriptor = -1, .method = BUFFERS_MAPS_QUERY };
}

void buffers_platform_maps_close(struct buffers_maps *maps)
{
	if (maps->handle)
		CloseHandle((HANDLE)maps->handle);
}

HANDLE buffers_windows_process_of(const struct buffers_maps *maps)
{
	return maps->handle ? (HANDLE)maps->handle : GetCurrentProcess();
}

/* A region occupies whole blocks of the granularity: the rest cannot be allocated. */
static struct buffers_span blocks_of(const MEMORY_BASIC_INFORMATION *region)
{
	uintptr_t odd = buffers_platform_granularity() - 1;
	uintptr_t last = (buffers_windows_region_end(region) - 1) | odd;

	return (struct buffers_span){
		(uintptr_t)region->AllocationBase & ~odd,
		last < UINTPTR_MAX ? last + 1 : UINTPTR_MAX,
	};
}

/*
 * 32-bit Wine reports addresses that it does not manage as reserved, with a protection.
 * Windows reports no protection of reserved memory.
 */
static bool is_unknown(const MEMORY_BASIC_INFORMATION *region)
{
	return region->State == MEM_RESERVE && region->Protect == PAGE_NOACCESS;
}

/* Unknown addresses count as free: mapping shows whether they are. */
int buffers_platform_maps_find(const struct buffers_maps *maps, struct buffers_span span,
			       struct buffers_span *mapping)
{
	HANDLE process = buffers_windows_process_of(maps);
	MEMORY_BASIC_INFORMATION region;
	uintptr_t at = span.start;

	while (at < span.end && buffers_windows_query(process, at, &region)) {
		if (region.State != MEM_FREE && !is_unknown(&region)) {
			*mapping = blocks_of(&region);
			return 0;
		}
		at = buffers_windows_region_end(&region);
	}
	return ENOENT;
}

bool buffers_platform_maps_permit(const struct buffers_maps *maps, uintptr_t address,
				  size_t size, enum buffers_kind kind)
{
	static const DWORD protections[BUFFERS_KINDS] = {
		[BUFFERS_KIND_RWX] = PAGE_EXECUTE_READWRITE | PAGE_EXECUTE_WRITECOPY,
		[BUFFERS_KIND_RW] = PAGE_READWRITE | PAGE_WRITECOPY | PAGE_EXECUTE_READWRITE |
				    PAGE_EXECUTE_WRITECOPY,
		[BUFFERS_KIND_RX] = PAGE_EXECUTE_READ | PAGE_EXECUTE_READWRITE |
				    PAGE_EXECUTE_WRITECOPY,
	};

	(void)maps;
	return size && buffers_windows_has_protection(address, size, protections[kind]);
}
