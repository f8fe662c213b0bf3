/* SPDX-License-Identifier: MIT */
/* platform-windows.c: the primitives of platform.h on Windows */

#include "config.h"
#include "platform/platform.h"

#ifndef _WIN32
# error "this file is for Windows alone"
#endif

#include "platform/windows/windows.h"

#include <errno.h>
#if defined(__x86_64__) || defined(__i386__)
# include <cpuid.h>
#endif

#define KIB ((uintptr_t)1 << 10)
#define GIB ((uintptr_t)1 << 30)

#ifndef ERROR_DYNAMIC_CODE_BLOCKED
# define ERROR_DYNAMIC_CODE_BLOCKED 1655
#endif

/*
 * Limits
 */

/* The same for all who ask, so that it does not matter who notes it. */
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

/* Of 32 bits, all but the last of 4 GiB where the program is marked for that, else of 2. */
static struct buffers_span everything(void)
{
	SYSTEM_INFO system;
	uintptr_t lowest;

	GetSystemInfo(&system);
	lowest = (uintptr_t)system.lpMinimumApplicationAddress;
	return (struct buffers_span){
		lowest > 64 * KIB ? lowest : 64 * KIB,
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
		known = everything();
		__atomic_store_n(&usable.start, known.start, __ATOMIC_RELAXED);
		__atomic_store_n(&usable.end, known.end, __ATOMIC_RELAXED);
	}
	if (range.start < known.start)
		range.start = known.start;
	if (range.end > known.end)
		range.end = known.end;
	return range;
}

/* Heaps and stacks reserve what they will grow into. */
struct buffers_span buffers_platform_heap_growth(void)
{
	return (struct buffers_span){ 0, 0 };
}

struct buffers_span buffers_platform_stack_growth(void)
{
	return (struct buffers_span){ 0, 0 };
}

bool buffers_platform_may_grow_into(struct buffers_span span)
{
	(void)span;
	return false;
}

/*
 * Mapping
 */

int buffers_platform_classify_failure(void)
{
	switch (GetLastError()) {
	case ERROR_NOT_ENOUGH_MEMORY:
	case ERROR_OUTOFMEMORY:
	case ERROR_NO_SYSTEM_RESOURCES:
	case ERROR_NOT_ENOUGH_QUOTA:
	case ERROR_COMMITMENT_LIMIT:
	case ERROR_COMMITMENT_MINIMUM:
	case ERROR_PAGEFILE_QUOTA:
	case ERROR_WORKING_SET_QUOTA:
	case ERROR_TOO_MANY_OPEN_FILES:
		return ENOMEM;
	case ERROR_ACCESS_DENIED:
	case ERROR_DYNAMIC_CODE_BLOCKED:
		return EACCES;
	default:
		return EEXIST;
	}
}

static unsigned plain(unsigned kind)
{
	return kind & ~(unsigned)(BUFFERS_MAP_SHARED | BUFFERS_MAP_RESERVED);
}

static DWORD protection_of(unsigned kind)
{
	static const DWORD protections[BUFFERS_KINDS] = {
		[BUFFERS_KIND_RWX] = PAGE_EXECUTE_READWRITE,
		[BUFFERS_KIND_RW] = PAGE_READWRITE,
		[BUFFERS_KIND_RX] = PAGE_EXECUTE_READ,
	};

	return protections[plain(kind)];
}

/* An address of 0 lets the system choose.  Others may be honoured as it likes. */
static int map_private(HANDLE process, uintptr_t address, size_t size, unsigned kind,
		       uintptr_t *mapped)
{
	DWORD what = MEM_RESERVE | (kind & BUFFERS_MAP_RESERVED ? 0 : MEM_COMMIT);
	void *got = VirtualAllocEx(process, (void *)address, size, what, protection_of(kind));

	if (!got)
		return buffers_platform_classify_failure();
	*mapped = (uintptr_t)got;
	if (!address || *mapped == address)
		return 0;
	VirtualFreeEx(process, got, 0, MEM_RELEASE);
	return EEXIST;
}

static uintptr_t find_place(size_t size)
{
	void *place = VirtualAlloc(NULL, size, MEM_RESERVE, PAGE_NOACCESS);

	if (place)
		VirtualFree(place, 0, MEM_RELEASE);
	return (uintptr_t)place;
}

/* Its name has the address in it, so that has to be known before. */
static int map_text_anywhere(size_t size, unsigned kind, uintptr_t *address)
{
	unsigned attempts = 8;
	int error;

	do {
		*address = find_place(size);
		error = *address ? buffers_platform_map_rx(*address, size, kind) : ENOMEM;
	} while (error == EEXIST && --attempts);
	return error;
}

int buffers_platform_map_anywhere(size_t size, unsigned kind, uintptr_t *address)
{
	int error;

	if (plain(kind) == BUFFERS_KIND_RX)
		error = map_text_anywhere(size, kind, address);
	else
		error = map_private(GetCurrentProcess(), 0, size, kind, address);
	return error == EEXIST ? ENOMEM : error;
}

/*
 * The system also says that there is no memory, or no right to it, of addresses that are
 * not a program's.
 */
static int refusal(int error, size_t size, unsigned kind)
{
	uintptr_t address;

	if (error == 0 || error == EEXIST)
		return error;
	error = buffers_platform_map_anywhere(size, kind, &address);
	if (error)
		return error;
	buffers_platform_unmap(address, size);
	return EEXIST;
}

int buffers_platform_map(uintptr_t address, size_t size, unsigned kind)
{
	uintptr_t mapped;
	int error;

	if (plain(kind) == BUFFERS_KIND_RX)
		error = buffers_platform_map_rx(address, size, kind);
	else
		error = map_private(GetCurrentProcess(), address, size, kind, &mapped);
	return refusal(error, size, kind);
}

int buffers_platform_commit(uintptr_t address, size_t size, unsigned kind)
{
	if (VirtualAlloc((void *)address, size, MEM_COMMIT, protection_of(kind)))
		return 0;
	return buffers_platform_classify_failure() == EACCES ? EACCES : ENOMEM;
}

static bool query(HANDLE process, uintptr_t address, MEMORY_BASIC_INFORMATION *region)
{
	return VirtualQueryEx(process, (const void *)address, region, sizeof(*region)) != 0;
}

/*
 * What ends with the address space ends before its last byte.  Sizes that are told of a
 * process of more bits may be cut off.
 */
static uintptr_t end_of(const MEMORY_BASIC_INFORMATION *region)
{
	uintptr_t start = (uintptr_t)region->BaseAddress;

	if (region->RegionSize == 0 || region->RegionSize > UINTPTR_MAX - start)
		return UINTPTR_MAX;
	return start + region->RegionSize;
}

bool buffers_platform_find_allocation(HANDLE process, uintptr_t address, uintptr_t enough,
				      struct buffers_allocation *allocation)
{
	MEMORY_BASIC_INFORMATION region;
	struct buffers_span *span = &allocation->span;

	if (!query(process, address, &region) || region.State == MEM_FREE)
		return false;
	allocation->type = region.Type;
	span->start = (uintptr_t)region.AllocationBase;
	do
		span->end = end_of(&region);
	while (span->end < enough && query(process, span->end, &region) &&
	       region.State != MEM_FREE && (uintptr_t)region.AllocationBase == span->start);
	return true;
}

static bool is_allocation(HANDLE process, uintptr_t address, size_t size,
			  struct buffers_allocation *allocation)
{
	return buffers_platform_find_allocation(process, address, UINTPTR_MAX, allocation) &&
	       allocation->span.start == address && allocation->span.end - address == size;
}

static int unmap_private(HANDLE process, uintptr_t address)
{
	return VirtualFreeEx(process, (void *)address, 0, MEM_RELEASE) ? 0 : ENOMEM;
}

int buffers_platform_unmap(uintptr_t address, size_t size)
{
	struct buffers_allocation allocation;

	if (!is_allocation(GetCurrentProcess(), address, size, &allocation))
		return EINVAL;
	switch (allocation.type) {
	case MEM_PRIVATE:
		return unmap_private(GetCurrentProcess(), address);
	case MEM_MAPPED:
		return buffers_platform_unmap_rx(address, size);
	default:
		return EINVAL;
	}
}

/*
 * Mappings
 */

void buffers_platform_maps_open(struct buffers_maps *maps)
{
	*maps = (struct buffers_maps){ .descriptor = -1, .kind = BUFFERS_MAPS_QUERY };
}

void buffers_platform_maps_close(struct buffers_maps *maps)
{
	if (maps->process)
		CloseHandle((HANDLE)maps->process);
}

/* Nobody else can have the rest of a block of the granularity. */
static struct buffers_span blocks_of(const MEMORY_BASIC_INFORMATION *region)
{
	uintptr_t odd = buffers_platform_granularity() - 1;
	uintptr_t last = (end_of(region) - 1) | odd;

	return (struct buffers_span){
		(uintptr_t)region->AllocationBase & ~odd,
		last < UINTPTR_MAX ? last + 1 : UINTPTR_MAX,
	};
}

static HANDLE process_of(const struct buffers_maps *maps)
{
	return maps->process ? (HANDLE)maps->process : GetCurrentProcess();
}

/*
 * Of addresses that it does not manage itself, Wine in 32 bits says that they are reserved
 * with a protection, which what is only reserved has not.
 */
static bool is_unknown(const MEMORY_BASIC_INFORMATION *region)
{
	return region->State == MEM_RESERVE && region->Protect == PAGE_NOACCESS;
}

/* Where nothing is told of, mapping will tell. */
int buffers_platform_maps_find(const struct buffers_maps *maps, struct buffers_span span,
			       struct buffers_span *mapping)
{
	MEMORY_BASIC_INFORMATION region;
	uintptr_t at = span.start;

	while (at < span.end && query(process_of(maps), at, &region)) {
		if (region.State != MEM_FREE && !is_unknown(&region)) {
			*mapping = blocks_of(&region);
			return 0;
		}
		at = end_of(&region);
	}
	return ENOENT;
}

/* Never asked for: questions are fast. */
int buffers_platform_maps_scan(const struct buffers_maps *maps,
			       void (*visit)(struct buffers_span mapping, void *context),
			       void *context)
{
	(void)maps;
	(void)visit;
	(void)context;
	return EIO;
}

/*
 * Other processes
 */

/* Any number can be the status of one that has ended, also that of one that has not. */
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

static bool read_there(HANDLE process, uintptr_t address, void *copy, size_t size)
{
	SIZE_T got;

	return ReadProcessMemory(process, (const void *)address, copy, size, &got) && got == size;
}

/* Of an image that begins there: PE format, "COFF File Header".  0: it is none. */
static WORD characteristics_of(HANDLE process, uintptr_t image)
{
	IMAGE_DOS_HEADER start;
	struct {
		DWORD signature;
		IMAGE_FILE_HEADER file;
	} header;

	if (!read_there(process, image, &start, sizeof(start)) ||
	    start.e_magic != IMAGE_DOS_SIGNATURE || start.e_lfanew < 0 ||
	    !read_there(process, image + (uintptr_t)start.e_lfanew, &header, sizeof(header)) ||
	    header.signature != IMAGE_NT_SIGNATURE)
		return 0;
	return header.file.Characteristics;
}

enum awareness { UNKNOWN, UNAWARE, AWARE };

/*
 * Its program says so, an image that is no library.  Others that are none hardly matter, but
 * what is of 32 bits is only looked at in a process of 64.
 */
static enum awareness find_awareness(HANDLE process)
{
	WORD foreign = IMAGE_FILE_DLL | (has_32_bits(process) ? 0 : IMAGE_FILE_32BIT_MACHINE);
	enum awareness awareness = UNKNOWN;
	MEMORY_BASIC_INFORMATION region;
	WORD is;

	for (uintptr_t at = 64 * KIB;
	     awareness != AWARE && at < UINT32_MAX && query(process, at, &region);
	     at = end_of(&region)) {
		if (region.State == MEM_FREE || region.Type != MEM_IMAGE ||
		    region.BaseAddress != region.AllocationBase)
			continue;
		is = characteristics_of(process, at);
		if (is && !(is & foreign))
			awareness = is & IMAGE_FILE_LARGE_ADDRESS_AWARE ? AWARE : UNAWARE;
	}
	return awareness;
}

/* The system does not tell of others what it tells of ourselves. */
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
	/* Of 32 bits ourselves, we cannot name more. */
	return sizeof(void *) == 8 ? everything().end : UINTPTR_MAX & ~(64 * KIB - 1);
}

static int open_process(uint32_t number, HANDLE *process)
{
	*process = OpenProcess(PROCESS_QUERY_INFORMATION | PROCESS_VM_OPERATION | PROCESS_VM_READ,
			       FALSE, number);
	if (*process)
		return 0;
	switch (buffers_platform_classify_failure()) {
	case ENOMEM:
		return ENOMEM;
	case EACCES:
		return EACCES;
	default:
		return EINVAL;
	}
}

/* What has ended keeps its number while anybody has a handle; others mean numbers nearby. */
int buffers_platform_maps_open_in(uint32_t process, struct buffers_maps *maps,
				  struct buffers_span *usable)
{
	HANDLE handle;
	int error = open_process(process, &handle);

	if (error)
		return error;
	if (has_ended(handle) || GetProcessId(handle) != process) {
		CloseHandle(handle);
		return EINVAL;
	}
	*maps = (struct buffers_maps){
		.descriptor = -1, .process = (uintptr_t)handle, .kind = BUFFERS_MAPS_QUERY,
	};
	if (usable)
		*usable = (struct buffers_span){ everything().start, usable_end_in(handle) };
	return 0;
}

static int try_any(HANDLE process, size_t size, unsigned kind)
{
	uintptr_t address = 0;
	int error = map_private(process, 0, size, kind, &address);

	if (!error)
		unmap_private(process, address);
	return error;
}

/* Nothing forbids plain data but that a process is ending. */
static int refusal_in(HANDLE process, int error, size_t size, unsigned kind)
{
	if (error == 0)
		return 0;
	if (has_ended(process) ||
	    (error == EACCES && try_any(process, buffers_platform_granularity(),
					BUFFERS_KIND_RW) == EACCES))
		return EINVAL;
	if (error == EEXIST)
		return EEXIST;
	error = try_any(process, size, kind);
	if (error)
		return error == EEXIST ? ENOMEM : error;
	return EEXIST;
}

int buffers_platform_map_in(const struct buffers_maps *maps, uintptr_t address, size_t size,
			    unsigned kind)
{
	uintptr_t mapped;
	int error = map_private(process_of(maps), address, size, kind, &mapped);

	return refusal_in(process_of(maps), error, size, kind);
}

int buffers_platform_unmap_in(const struct buffers_maps *maps, uintptr_t address, size_t size)
{
	struct buffers_allocation allocation;
	int error;

	if (!is_allocation(process_of(maps), address, size, &allocation) ||
	    allocation.type != MEM_PRIVATE)
		return EINVAL;
	error = unmap_private(process_of(maps), address);
	return error && has_ended(process_of(maps)) ? EINVAL : error;
}

/*
 * Memory that may not be there
 */

#define WRITABLE (PAGE_READWRITE | PAGE_WRITECOPY | PAGE_EXECUTE_READWRITE | \
		  PAGE_EXECUTE_WRITECOPY)
#define READABLE (WRITABLE | PAGE_READONLY | PAGE_EXECUTE_READ)

/* A guard page is left alone: to touch it would take away what a stack grows by. */
static bool is_all(uintptr_t address, size_t size, DWORD protections)
{
	MEMORY_BASIC_INFORMATION region;

	if (address > UINTPTR_MAX - size)
		return false;
	for (uintptr_t at = address; at < address + size; at = end_of(&region))
		if (!query(GetCurrentProcess(), at, &region) || region.State != MEM_COMMIT ||
		    !(region.Protect & protections) || (region.Protect & PAGE_GUARD))
			return false;
	return true;
}

bool buffers_platform_is_writable(uintptr_t address, size_t size)
{
	return address % 4 == 0 && size % 4 == 0 && is_all(address, size, WRITABLE);
}

bool buffers_platform_is_readable(uintptr_t address, size_t size)
{
	return is_all(address, size, READABLE);
}

/* What was readable a moment before may be gone. */
int buffers_platform_try_read(uintptr_t address, void *copy, size_t size)
{
	if (buffers_platform_is_readable(address, size) &&
	    read_there(GetCurrentProcess(), address, copy, size))
		return 0;
	return EFAULT;
}

/*
 * The process
 */

int buffers_platform_map_state(void **page)
{
	uintptr_t address = 0;
	int error = buffers_platform_map_anywhere(buffers_platform_granularity(), BUFFERS_KIND_RW,
						  &address);

	if (!error)
		*page = (void *)address;
	return error;
}

/* No process is forked. */
void buffers_platform_at_fork(void (*child)(void))
{
	(void)child;
}

uint32_t buffers_platform_pid(void)
{
	return GetCurrentProcessId();
}

uint64_t buffers_platform_pid_namespace(void)
{
	return 0;
}

/* Nothing is to be withdrawn: a section's name goes with its process. */
bool buffers_platform_is_nodelete(void)
{
	return false;
}

/* No lock here is of several processes' memory. */
bool buffers_platform_has_robust_locks(void)
{
	return false;
}

bool buffers_platform_lock_init(struct buffers_robust_lock *lock)
{
	(void)lock;
	return false;
}

bool buffers_platform_lock(struct buffers_robust_lock *lock)
{
	(void)lock;
	return false;
}

bool buffers_platform_trylock(struct buffers_robust_lock *lock)
{
	(void)lock;
	return false;
}

bool buffers_platform_unlock(struct buffers_robust_lock *lock)
{
	(void)lock;
	return false;
}

#if defined(__x86_64__) || defined(__i386__)

__attribute__((target("rdrnd")))
static uint64_t draw(void)
{
	unsigned eax, ebx, ecx, edx, high, low;

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_RDRND) &&
	    __builtin_ia32_rdrand32_step(&high) && __builtin_ia32_rdrand32_step(&low))
		return (uint64_t)high << 32 | low;
	return 0;
}

#else

static uint64_t draw(void)
{
	return 0;
}

#endif

static uint64_t mix(uint64_t number)
{
	number = (number ^ number >> 32) * 0xd6e8feb86659fd93u;
	return number ^ number >> 32;
}

/*
 * The system's own come from libraries that would have to be loaded, with locks and memory.
 * The processor has some; to those, or where it has none, add what others can hardly know.
 */
uint64_t buffers_platform_random(void)
{
	static uint64_t drawn;
	uint64_t count = 0x9e3779b97f4a7c15u * __atomic_add_fetch(&drawn, 1, __ATOMIC_RELAXED);
	LARGE_INTEGER ticks;
	FILETIME now;

	QueryPerformanceCounter(&ticks);
	GetSystemTimeAsFileTime(&now);
	return mix(count ^ draw() ^ mix((uint64_t)ticks.QuadPart) ^
		   mix((uint64_t)now.dwLowDateTime << 32 ^ (uintptr_t)&now) ^
		   mix((uint64_t)GetCurrentProcessId() << 32 ^ GetCurrentThreadId()));
}

/* To sleep takes 1 to 16 ms, which those who count attempts do not expect each time. */
void buffers_platform_backoff(unsigned attempt)
{
	if (attempt < 64)
		YieldProcessor();
	else if (attempt < 1024 || attempt % 64)
		SwitchToThread();
	else
		Sleep(1);
}

void buffers_platform_flush_icache(void *start, size_t size)
{
	FlushInstructionCache(GetCurrentProcess(), start, size);
}
