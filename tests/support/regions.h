/* SPDX-License-Identifier: MIT */
/* regions.h: memory and handles, as Windows reports them */
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
#define BLOCK	((size_t)65536)	/* granularity: Windows allocates whole blocks */

/* Wine differs from Windows in some results. */
bool is_wine(void);

struct region {
	uintptr_t start, end;
	uintptr_t allocation;	/* start of the allocation that contains it */
	DWORD state, type, protection;
};

/*
 * The region at an address of this or another process.  All fields are 0 above the user's
 * addresses.
 */
struct region region_at(uintptr_t address);
struct region region_in(HANDLE process, uintptr_t address);
bool is_same_region(struct region one, struct region two);

/* The end of the allocation that contains the address. */
uintptr_t end_of_allocation(uintptr_t start);

/* The bounds of the user's addresses, as the system reports them. */
uintptr_t lowest_address(void);
uintptr_t limit_of_addresses(void);

/* Whether no part of the range is reserved or committed. */
bool is_range_free(uintptr_t start, uintptr_t end);
bool is_range_free_in(HANDLE process, uintptr_t start, uintptr_t end);

/* Whether the whole range is committed with this protection. */
bool is_committed_as(uintptr_t start, uintptr_t end, DWORD protection);

/*
 * The lowest and the highest free candidate of whole blocks in a range, at a multiple of
 * `alignment`; 0 if there is none.
 */
uintptr_t lowest_candidate(uintptr_t start, uintptr_t end, size_t size, size_t alignment);
uintptr_t highest_candidate(uintptr_t start, uintptr_t end, size_t size, size_t alignment);

/* A free address in the middle of a large gap, where the system does not allocate. */
uintptr_t unused_address(size_t size);

/* reserve_at() and commit_at() assert that they get exactly this address. */
void *reserve_at(uintptr_t address, size_t size);
void *commit_at(uintptr_t address, size_t size, DWORD protection);
void release_memory(void *memory);

unsigned count_handles(void);

/* Counts the allocations of this type; views of sections are MEM_MAPPED. */
size_t count_allocations(DWORD type);

/* The first or second name of the section of a kind (".RW", ".RX" or ""). */
void section_name(char name[128], const char *kind, bool is_second);

#endif
