/* SPDX-License-Identifier: MIT */
/*
 * reserve.c: reserves memory that costs nothing until it is committed
 *
 * Private memory is mapped without access.  The kernel accounts it, and writes it into core
 * dumps, only where a commit has given it access.
 *
 * Shared memory can be used at once, because a process must see what another one commits: a
 * change of protection concerns one process.  The kernel accounts its pages when they are
 * touched, and a commit adds them to the core dumps of the process that calls it.
 */

#include "config.h"
#include "platform/linux/internal.h"

#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef MFD_EXEC
# define MFD_EXEC	 0x0010U
#endif
#ifndef MFD_NOEXEC_SEAL
# define MFD_NOEXEC_SEAL 0x0008U
#endif

static bool is_denied(void)
{
	return errno == EACCES || errno == EPERM;
}

/* Policy forbids a kind when it gets access.  A caller wants to know before. */
static bool is_permitted(enum buffers_kind kind)
{
	size_t page = buffers_platform_granularity();
	void *got;

	if (kind == BUFFERS_KIND_RW)
		return true;
	got = mmap(NULL, page, buffers_linux_protection_of(kind), MAP_PRIVATE | MAP_ANONYMOUS,
		   -1, 0);
	if (got == MAP_FAILED)
		return !is_denied();
	munmap(got, page);
	return true;
}

static void *reserve_private(uintptr_t hint, size_t size, enum buffers_kind kind, int flags)
{
	void *got = mmap((void *)hint, size, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);

	if (got == MAP_FAILED || is_permitted(kind))
		return got;
	munmap(got, size);
	errno = EACCES;
	return MAP_FAILED;
}

/* With vm.overcommit_memory=2, anonymous shared memory counts when it is mapped. */
static bool is_strictly_accounted(void)
{
	char digit = 0;
	int file = buffers_sys_open(AT_FDCWD, "/proc/sys/vm/overcommit_memory", O_RDONLY, 0);

	if (file < 0)
		return false;
	buffers_sys_read(file, &digit, sizeof(digit));
	buffers_sys_close(file);
	return digit == '2';
}

/* A program that has closed its standard streams must not write to the file. */
static int make_file(enum buffers_kind kind)
{
	static const char name[] = "reloaded-buffers";
	unsigned mode = kind == BUFFERS_KIND_RW ? MFD_NOEXEC_SEAL : MFD_EXEC;
	int file = (int)syscall(SYS_memfd_create, name, MFD_CLOEXEC | mode);
	int copy;

	if (file < 0 && errno == EINVAL)	/* before Linux 6.3 */
		file = (int)syscall(SYS_memfd_create, name, MFD_CLOEXEC);
	if (file < 0 || file > STDERR_FILENO)
		return file;
	copy = buffers_sys_duplicate(file, STDERR_FILENO + 1);
	buffers_sys_close(file);
	return copy;
}

/* The pages of a file always count when they are touched. */
static void *map_file(uintptr_t hint, size_t size, enum buffers_kind kind, int flags)
{
	void *got = MAP_FAILED;
	int file;

	if (!buffers_sys_may_write(size))
		return MAP_FAILED;
	file = make_file(kind);
	if (file < 0)
		return MAP_FAILED;
	if (ftruncate(file, (off_t)size) == 0)
		got = buffers_linux_map_exactly(hint, size, buffers_linux_protection_of(kind),
						MAP_SHARED | flags, file);
	buffers_sys_close(file);
	return got;
}

static void *reserve_shared(uintptr_t hint, size_t size, enum buffers_kind kind, int flags)
{
	void *got = is_strictly_accounted() ? map_file(hint, size, kind, flags) : MAP_FAILED;

	flags |= MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
	if (got == MAP_FAILED)
		got = buffers_linux_map_exactly(hint, size, buffers_linux_protection_of(kind), flags,
						-1);
	if (got != MAP_FAILED)
		madvise(got, size, MADV_DONTDUMP);
	return got;
}

/* One touched byte takes a huge page, so only the user of the memory can want that. */
static void advise_page_size(void *start, size_t size, enum buffers_map_flags flags)
{
	madvise(start, size, flags & BUFFERS_MAP_HUGE_PAGES ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

__attribute__((cold))
void *buffers_linux_reserve(uintptr_t hint, size_t size, enum buffers_kind kind,
			    enum buffers_map_flags map_flags, int flags)
{
	void *got = map_flags & BUFFERS_MAP_SHARED ? reserve_shared(hint, size, kind, flags) :
						     reserve_private(hint, size, kind, flags);

	if (got != MAP_FAILED)
		advise_page_size(got, size, map_flags);
	return got;
}

/*
 * Systems that forbid memory to become executable, as PR_SET_MDWE does, permit a new mapping in
 * the place of the old one.  It gets the same advice, so that the kernel can merge them.  Linux
 * 6.3 to 6.11 unmap the old one before they refuse memory that is writable and executable.
 */
static int replace_mapping(void *start, size_t size, enum buffers_kind kind,
			   enum buffers_map_flags flags)
{
	void *got;

	if (!is_permitted(kind))
		return EACCES;
	got = mmap(start, size, buffers_linux_protection_of(kind),
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	if (got == MAP_FAILED)
		return is_denied() ? EACCES : ENOMEM;
	advise_page_size(start, size, flags);
	return 0;
}

int buffers_platform_commit(uintptr_t address, size_t size, enum buffers_kind kind,
			    enum buffers_map_flags flags)
{
	if (flags & BUFFERS_MAP_SHARED) {
		madvise((void *)address, size, MADV_DODUMP);
		return 0;
	}
	if (buffers_sys_protect((void *)address, size, buffers_linux_protection_of(kind)))
		return 0;
	if (!is_denied())
		return ENOMEM;
	return kind == BUFFERS_KIND_RW ? EACCES :
					 replace_mapping((void *)address, size, kind, flags);
}

/*
 * Discarding
 */

static bool is_zero(uintptr_t address, size_t size)
{
	const uint64_t *words = (const uint64_t *)address;

	for (size_t i = 0; i < size / sizeof(*words); i++)
		if (words[i])
			return false;
	return true;
}

/* Reading the first byte of shared memory that was discarded has allocated its page again. */
static int check_discarded(volatile char *witness, int advice)
{
	if (*witness)
		return EAGAIN;
	if (advice == MADV_REMOVE)
		madvise((void *)(uintptr_t)witness, buffers_platform_granularity(), advice);
	return 0;
}

/*
 * Emulators may accept the advice and ignore it, which a byte in writable memory shows.  RX
 * memory that was written by a file shows the file's bytes again.
 */
int buffers_platform_discard(uintptr_t address, size_t size, enum buffers_kind kind,
			     enum buffers_map_flags flags)
{
	volatile char *witness = (volatile char *)address;
	int advice = flags & BUFFERS_MAP_SHARED ? MADV_REMOVE : MADV_DONTNEED;

	if (kind != BUFFERS_KIND_RX)
		*witness = 1;
	if (madvise((void *)address, size, advice) != 0)	/* EINVAL: locked, mlock(2) */
		return EAGAIN;
	if (kind == BUFFERS_KIND_RX)
		return is_zero(address, size) ? 0 : EAGAIN;
	return check_discarded(witness, advice);
}
