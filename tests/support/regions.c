/* SPDX-License-Identifier: MIT */
/* regions.c: memory and handles, as Windows reports them */

#include "config.h"
#include "support/regions.h"

#include <check.h>
#include <stdio.h>

static uintptr_t round_up(uintptr_t address, size_t alignment)
{
	return (address + alignment - 1) & ~(uintptr_t)(alignment - 1);
}

static uintptr_t round_down(uintptr_t address, size_t alignment)
{
	return address & ~(uintptr_t)(alignment - 1);
}

/*
 * In 32-bit programs, Wine does not know all mappings of the host.  It reports unknown ranges
 * as reserved with PAGE_NOACCESS; they may be free.
 */
static bool is_unknown_to_wine(const MEMORY_BASIC_INFORMATION *info)
{
	return info->State == MEM_RESERVE && info->Protect == PAGE_NOACCESS;
}

struct region region_in(HANDLE process, uintptr_t address)
{
	MEMORY_BASIC_INFORMATION info;

	if (!VirtualQueryEx(process, (void *)address, &info, sizeof(info)))
		return (struct region){ 0 };
	if (is_unknown_to_wine(&info))
		info.State = MEM_FREE;
	return (struct region){
		.start = (uintptr_t)info.BaseAddress,
		.end = (uintptr_t)info.BaseAddress + info.RegionSize,
		.allocation = info.State == MEM_FREE ? 0 : (uintptr_t)info.AllocationBase,
		.state = info.State,
		.type = info.State == MEM_FREE ? 0 : info.Type,
		.protection = info.State == MEM_COMMIT ? info.Protect : 0,
	};
}

bool is_wine(void)
{
	return GetProcAddress(GetModuleHandleA("ntdll.dll"), "wine_get_version") != NULL;
}

struct region region_at(uintptr_t address)
{
	return region_in(GetCurrentProcess(), address);
}

uintptr_t end_of_allocation(uintptr_t start)
{
	struct region region = region_at(start);
	uintptr_t allocation = region.allocation;

	while (region.allocation == allocation) {
		start = region.end;
		region = region_at(start);
	}
	return start;
}

uintptr_t lowest_address(void)
{
	SYSTEM_INFO system;

	GetSystemInfo(&system);
	return (uintptr_t)system.lpMinimumApplicationAddress;
}

uintptr_t limit_of_addresses(void)
{
	SYSTEM_INFO system;

	GetSystemInfo(&system);
	return (uintptr_t)system.lpMaximumApplicationAddress + 1;
}

bool is_range_free_in(HANDLE process, uintptr_t start, uintptr_t end)
{
	while (start < end) {
		struct region region = region_in(process, start);

		if (region.state != MEM_FREE)
			return false;
		start = region.end;
	}
	return true;
}

bool is_range_free(uintptr_t start, uintptr_t end)
{
	return is_range_free_in(GetCurrentProcess(), start, end);
}

bool is_committed_as(uintptr_t start, uintptr_t end, DWORD protection)
{
	while (start < end) {
		struct region region = region_at(start);

		if (region.state != MEM_COMMIT || region.protection != protection)
			return false;
		start = region.end;
	}
	return true;
}

bool is_same_region(struct region one, struct region two)
{
	return one.start == two.start && one.end == two.end &&
	       one.allocation == two.allocation && one.state == two.state &&
	       one.type == two.type && one.protection == two.protection;
}

/*
 * Finds the next free range of whole blocks at or above `at`.  Returns false if none begins
 * below `end`.
 */
static bool next_gap(uintptr_t at, uintptr_t end, uintptr_t *from, uintptr_t *to)
{
	struct region region;
	uintptr_t free_to;

	for (; at < end; at = region.end) {
		region = region_at(at);
		if (!region.state)
			return false;
		if (region.state != MEM_FREE)
			continue;
		*from = round_up(at, BLOCK);
		for (free_to = region.end; free_to < end; free_to = region.end) {
			region = region_at(free_to);
			if (region.state != MEM_FREE)
				break;
		}
		*to = round_down(free_to < end ? free_to : end, BLOCK);
		if (*from < *to)
			return true;
	}
	return false;
}

static uintptr_t find_candidate(uintptr_t start, uintptr_t end, size_t size, size_t alignment,
				bool is_highest)
{
	uintptr_t found = 0;
	uintptr_t from, to;

	if (start < lowest_address())
		start = lowest_address();
	if (end > limit_of_addresses())
		end = limit_of_addresses();
	size = round_up(size, BLOCK);
	if (alignment < BLOCK)
		alignment = BLOCK;
	for (uintptr_t at = start; next_gap(at, end, &from, &to); at = to + 1) {
		uintptr_t low = round_up(from, alignment);

		if (low < from || low >= to || to - low < size)
			continue;
		if (!is_highest)
			return low;
		found = round_down(to - size, alignment);
	}
	return found;
}

uintptr_t lowest_candidate(uintptr_t start, uintptr_t end, size_t size, size_t alignment)
{
	return find_candidate(start, end, size, alignment, false);
}

uintptr_t highest_candidate(uintptr_t start, uintptr_t end, size_t size, size_t alignment)
{
	return find_candidate(start, end, size, alignment, true);
}

/* The system allocates at the ends of gaps, so the middle of a large gap stays free. */
uintptr_t unused_address(size_t size)
{
	size_t around = size + 64 * MIB;
	uintptr_t gap = lowest_candidate(16 * MIB, limit_of_addresses(), 2 * around, BLOCK);

	ck_assert_uint_ne(gap, 0);
	return round_up(gap + around / 2, BLOCK);
}

static void *allocate_at(uintptr_t address, size_t size, DWORD type, DWORD protection)
{
	void *memory = VirtualAlloc((void *)address, size, type, protection);

	ck_assert_ptr_eq(memory, (void *)address);
	return memory;
}

void *reserve_at(uintptr_t address, size_t size)
{
	return allocate_at(address, size, MEM_RESERVE, PAGE_NOACCESS);
}

void *commit_at(uintptr_t address, size_t size, DWORD protection)
{
	return allocate_at(address, size, MEM_RESERVE | MEM_COMMIT, protection);
}

void release_memory(void *memory)
{
	ck_assert(VirtualFree(memory, 0, MEM_RELEASE));
}

/* Wine's GetProcessHandleCount() returns 0. */
static unsigned try_handles(void)
{
	unsigned count = 0;
	DWORD flags;

	for (uintptr_t handle = 4; handle < 4096; handle += 4)
		count += GetHandleInformation((HANDLE)handle, &flags) != 0;
	return count;
}

unsigned count_handles(void)
{
	DWORD count;

	ck_assert(GetProcessHandleCount(GetCurrentProcess(), &count));
	return count ? count : try_handles();
}

size_t count_allocations(DWORD type)
{
	size_t count = 0;
	struct region region = region_at(lowest_address());

	for (; region.state; region = region_at(region.end))
		count += region.type == type && region.start == region.allocation;
	return count;
}

void section_name(char name[128], const char *kind, bool is_second)
{
	FILETIME start, rest[3];
	int length = snprintf(name, 128, "/Reloaded.Memory.Buffers.MemoryBuffer%s, PID %lu", kind,
			      GetCurrentProcessId());

	if (!is_second)
		return;
	ck_assert(GetProcessTimes(GetCurrentProcess(), &start, &rest[0], &rest[1], &rest[2]));
	snprintf(name + length, 128 - (size_t)length, ", started %llx",
		 (unsigned long long)start.dwHighDateTime << 32 | start.dwLowDateTime);
}
