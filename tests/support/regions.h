/* SPDX-License-Identifier: MIT */
/* regions.h: memory and handles, as Windows tells of them and not as the library does */
#ifndef TESTS_REGIONS_H
#define TESTS_REGIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <windows.h>

#define KIB	((size_t)1 << 10)
#define MIB	((size_t)1 << 20)
#define GIB	((size_t)1 << 30)
#define PAGE	((size_t)4096)
#define BLOCK	((size_t)65536)	/* nobody can have a part of what another has begun */

/* Which has ways of its own. */
bool is_wine(void);

struct region {
	uintptr_t start, end;
	uintptr_t allocation;	/* where what was mapped at once begins */
	DWORD state, type, protection;
};

/* Of this process, or of another.  There is none above the user's addresses: all zero. */
struct region region_at(uintptr_t address);
struct region region_in(HANDLE process, uintptr_t address);
bool is_same_region(struct region one, struct region two);

/* What an allocation is as a whole: where it ends. */
uintptr_t end_of_allocation(uintptr_t start);

/* Where the system says that this program's addresses begin and end. */
uintptr_t lowest_address(void);
uintptr_t limit_of_addresses(void);

/* Whether nothing is mapped or reserved in all of that. */
bool is_range_free(uintptr_t start, uintptr_t end);
bool is_range_free_in(HANDLE process, uintptr_t start, uintptr_t end);

/* Whether all of it is of one protection, and there. */
bool is_committed_as(uintptr_t start, uintptr_t end, DWORD protection);

/*
 * The lowest and the highest free place of whole blocks in a range, at multiples of
 * `alignment`; 0: there is none.
 */
uintptr_t lowest_candidate(uintptr_t start, uintptr_t end, size_t size, size_t alignment);
uintptr_t highest_candidate(uintptr_t start, uintptr_t end, size_t size, size_t alignment);

/* A free place that nothing else is about to take, in the middle of much that is free. */
uintptr_t unused_address(size_t size);

/* Takes address space at an address, where it must be free; and gives it back. */
void *reserve_at(uintptr_t address, size_t size);
void *commit_at(uintptr_t address, size_t size, DWORD protection);
void release_memory(void *memory);

/* What all free blocks of a range are taken by, to be given back together. */
struct taken {
	size_t count;
	void *places[4096];
};
void take_all(struct taken *taken, uintptr_t start, uintptr_t end);
void give_all_back(struct taken *taken);

unsigned count_handles(void);

/* Allocations of this type: views of sections are MEM_MAPPED. */
size_t count_allocations(DWORD type);

/* The name of a kind's section (".RW", ".RX" or ""), in its first and second place. */
void section_name(char name[128], const char *kind, bool is_second);

#endif
