/* SPDX-License-Identifier: MIT */
/* map.c: usable addresses, and mapping memory */

#include "config.h"
#include "platform/linux/internal.h"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define KIB ((uintptr_t)1 << 10)
#define MIB ((uintptr_t)1 << 20)
#define GIB ((uintptr_t)1 << 30)

#ifndef PR_SET_VMA
# define PR_SET_VMA		0x53564d41
# define PR_SET_VMA_ANON_NAME	0
#endif

static const char mapping_name[] = "reloaded-buffers";

size_t buffers_platform_granularity(void)
{
	return (size_t)getpagesize();
}

/*
 * Usable addresses
 */

/* Root may map below vm.mmap_min_addr, so the library itself must respect it. */
static uintptr_t protected_end(void)
{
	char digits[24];
	uintptr_t end = 0;
	ssize_t got;
	int descriptor = buffers_sys_open(AT_FDCWD, "/proc/sys/vm/mmap_min_addr", O_RDONLY, 0);

	if (descriptor < 0)
		return 0;
	got = buffers_sys_read(descriptor, digits, sizeof(digits));
	buffers_sys_close(descriptor);
	for (ssize_t i = 0; i < got && digits[i] >= '0' && digits[i] <= '9'; i++)
		end = end * 10 + (uintptr_t)(digits[i] - '0');
	return buffers_page_up(end);
}

/* getauxval(3) searches the whole vector, which is half of the work of an easy search. */
uintptr_t buffers_linux_stack_top(void)
{
	static uintptr_t top;		/* every thread reads the same value */
	uintptr_t known = __atomic_load_n(&top, __ATOMIC_RELAXED);

	if (known == 0) {
		known = getauxval(AT_RANDOM);
		__atomic_store_n(&top, known, __ATOMIC_RELAXED);
	}
	return known;
}

/*
 * The main stack lies in the upper half of the user's addresses, whose size is a power of
 * two.  32-bit emulators put it lower; there, every address is the user's or is refused.
 */
uintptr_t buffers_linux_space_mask(void)
{
	if (UINTPTR_MAX == UINT32_MAX)
		return UINTPTR_MAX;
	return UINTPTR_MAX >> (__builtin_clzl(buffers_linux_stack_top() | 1));
}

static uintptr_t lowest_usable(void)
{
	static uintptr_t lowest;	/* every thread computes the same value */
	uintptr_t start = __atomic_load_n(&lowest, __ATOMIC_RELAXED);

	if (start == 0) {
		start = buffers_max(protected_end(), 64 * KIB);
		__atomic_store_n(&lowest, start, __ATOMIC_RELAXED);
	}
	return start;
}

/*
 * Reads mmap_min_addr only for a range that begins below 1 GiB: no system protects more.
 * Excludes the topmost 64 KiB, of which the kernel keeps different parts for itself.
 */
struct buffers_span buffers_platform_usable(struct buffers_span range)
{
	uintptr_t highest = buffers_linux_space_mask() & ~(64 * KIB - 1);

	if (range.start < GIB)
		range.start = buffers_max(range.start, lowest_usable());
	range.end = buffers_min(range.end, highest);
	return range;
}

/*
 * Mapping
 */

int buffers_linux_protection_of(enum buffers_kind kind)
{
	static const int protections[BUFFERS_KINDS] = {
		[BUFFERS_KIND_RWX] = PROT_READ | PROT_WRITE | PROT_EXEC,
		[BUFFERS_KIND_RW] = PROT_READ | PROT_WRITE,
		[BUFFERS_KIND_RX] = PROT_READ | PROT_EXEC,
	};

	return protections[kind];
}

/*
 * Under the personality READ_IMPLIES_EXEC, mmap(2) and mprotect(2) make all readable memory
 * executable.  Nothing corrects that afterwards, so the thread changes its personality
 * meanwhile.
 */

static const long personality_unknown = -1;

bool buffers_linux_begin_exact(int protection, long *former)
{
	*former = 0;
	if ((protection & (PROT_READ | PROT_EXEC)) != PROT_READ)
		return true;
	*former = syscall(SYS_personality, 0xffffffffL);
	if (*former == personality_unknown || !(*former & READ_IMPLIES_EXEC))
		return true;
	/* A filter that forbids the way back forbids the first call. */
	return syscall(SYS_personality, *former) != -1 &&
	       syscall(SYS_personality, *former & ~(long)READ_IMPLIES_EXEC) != -1;
}

bool buffers_linux_end_exact(long former, const void *memory)
{
	unsigned permissions;

	if (former == personality_unknown)	/* a filter forbids even the question */
		return memory == MAP_FAILED ||
		       !buffers_linux_permissions((uintptr_t)memory, &permissions) ||
		       !(permissions & PERM_EXECUTE);
	if (former & READ_IMPLIES_EXEC)
		syscall(SYS_personality, former);
	return true;
}

void *buffers_linux_map_exactly(uintptr_t hint, size_t size, int protection, int flags, int file)
{
	long former;
	void *got;

	if (!buffers_linux_begin_exact(protection, &former)) {
		errno = EACCES;
		return MAP_FAILED;
	}
	got = mmap((void *)hint, size, protection, flags, file, 0);
	if (buffers_linux_end_exact(former, got))
		return got;
	munmap(got, size);
	errno = EACCES;
	return MAP_FAILED;
}

static void *map_memory(uintptr_t hint, size_t size, enum buffers_kind kind,
			enum buffers_map_flags map_flags, int flags)
{
	if (map_flags & BUFFERS_MAP_RESERVED)
		return buffers_linux_reserve(hint, size, kind, map_flags, flags);
	flags |= MAP_ANONYMOUS | (map_flags & BUFFERS_MAP_SHARED ? MAP_SHARED : MAP_PRIVATE);
	return buffers_linux_map_exactly(hint, size, buffers_linux_protection_of(kind), flags, -1);
}

/*
 * Names memory without code.  perf(1) takes a named mapping for a file, and would ignore the
 * symbols of /tmp/perf-PID.map for code in it.  EINVAL means that the kernel has no names
 * (CONFIG_ANON_VMA_NAME): stop asking.
 */
static void name_mapping(void *address, size_t size, enum buffers_kind kind)
{
	static bool is_unsupported;

	if (kind == BUFFERS_KIND_RW && !__atomic_load_n(&is_unsupported, __ATOMIC_RELAXED) &&
	    prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, address, size, mapping_name) != 0 &&
	    errno == EINVAL)
		__atomic_store_n(&is_unsupported, true, __ATOMIC_RELAXED);
}

int buffers_platform_map_anywhere(size_t size, enum buffers_kind kind,
				  enum buffers_map_flags flags, uintptr_t *address)
{
	/* The library writes a page of its own data at once. */
	int populate = kind == BUFFERS_KIND_RW && flags == BUFFERS_MAP_PLAIN &&
		       size <= buffers_platform_granularity() ? MAP_POPULATE : 0;
	void *got = map_memory(0, size, kind, flags, populate);

	if (got == MAP_FAILED)	/* seccomp filters, as systemd's, return EPERM */
		return errno == EACCES || errno == EPERM ? EACCES : ENOMEM;
	name_mapping(got, size, kind);
	*address = (uintptr_t)got;
	return 0;
}

/*
 * The kernel returns EPERM and EACCES for policy, but also for addresses that it protects,
 * ENOMEM at a limit, but also for addresses above the user's, and EAGAIN beyond RLIMIT_MEMLOCK
 * under mlockall(MCL_FUTURE).  A filter may return any error.  Only policies, limits and filters
 * also refuse such memory at an address of the kernel's choice.
 */
static int classify_map_failure(size_t size, enum buffers_kind kind, enum buffers_map_flags flags)
{
	uintptr_t address;
	int error = buffers_platform_map_anywhere(size, kind, flags, &address);

	if (error)
		return error;
	munmap((void *)address, size);
	return EEXIST;
}

bool buffers_linux_is_eligible(uintptr_t page)
{
	size_t size = buffers_platform_granularity();
	void *got = mmap((void *)page, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (got == MAP_FAILED)
		return false;
	munmap(got, size);
	errno = EEXIST;
	return got == (void *)page;
}

/*
 * Maps at an address that the kernel takes for a hint: it then keeps the guard gap below
 * mappings that can grow down, as MAP_FIXED_NOREPLACE does not.  Linux 6.7 to 6.12 may move a
 * large mapping from a hint that is free, so only its last page is tried as one.
 */
static void *map_near(uintptr_t address, size_t size, enum buffers_kind kind,
		      enum buffers_map_flags flags)
{
	bool is_large = size >= 2 * MIB;

	if (is_large && !buffers_linux_is_eligible(address + size - buffers_platform_granularity()))
		return MAP_FAILED;
	return map_memory(address, size, kind, flags, is_large ? MAP_FIXED_NOREPLACE : 0);
}

int buffers_platform_map(uintptr_t address, size_t size, enum buffers_kind kind,
			 enum buffers_map_flags flags)
{
	void *got = map_near(address, size, kind, flags);

	if (got == (void *)address) {
		name_mapping(got, size, kind);
		return 0;
	}
	if (got != MAP_FAILED) {
		munmap(got, size);
		return EEXIST;
	}
	return errno == EEXIST ? EEXIST : classify_map_failure(size, kind, flags);
}

int buffers_platform_unmap(uintptr_t address, size_t size)
{
	if (munmap((void *)address, size) == 0)
		return 0;
	return errno == EINVAL ? EINVAL : ENOMEM;
}
