/* SPDX-License-Identifier: MIT */
/*
 * view.c: second mappings of shared memory
 *
 * mremap(2) duplicates a mapping, with its permissions.  The duplicate of RX memory is executable
 * until mprotect(2) makes it writable instead, which every policy allows.  A file that is mapped
 * twice would avoid that moment, but sandboxes forbid executable files without a name.
 */

#include "config.h"
#include "platform/linux/internal.h"

#include <sys/mman.h>
#include <sys/syscall.h>

int buffers_linux_map_twice(uintptr_t address, size_t size, bool is_inherited, void **view)
{
	/* An old size of 0 makes a second mapping, and leaves the first. */
	long got = syscall(SYS_mremap, address, 0L, size, MREMAP_MAYMOVE, 0L);
	int error;

	if (got == -1)
		return errno == EINVAL ? EINVAL : buffers_linux_classify_write_failure();
	*view = (void *)got;
	/* Before the view is writable: another thread may fork meanwhile. */
	if (!is_inherited)
		syscall(SYS_madvise, got, size, MADV_DONTFORK);
	if (buffers_sys_protect(*view, size, PROT_READ | PROT_WRITE))
		return 0;
	error = buffers_linux_classify_write_failure();
	buffers_sys_unmap(*view, size);
	return error;
}

/* Emulators return EINVAL for shared memory, too.  A core dump has the bytes once. */
int buffers_platform_map_view(uintptr_t address, size_t size, bool is_inherited, uintptr_t *view)
{
	void *got;
	int error = buffers_linux_map_twice(address, size, is_inherited, &got);

	if (error)
		return error == EINVAL ? ENOSYS : error;
	madvise(got, size, MADV_DONTDUMP);
	*view = (uintptr_t)got;
	return 0;
}

bool buffers_platform_is_shared(uintptr_t address, size_t size)
{
	unsigned permissions;
	void *view;

	if (buffers_linux_permissions(address, &permissions))
		return permissions & PERM_SHARED;
	if (buffers_linux_map_twice(address, size, false, &view))
		return false;
	buffers_sys_unmap(view, size);
	return true;
}

int buffers_platform_unmap_view(uintptr_t view, size_t size)
{
	return buffers_platform_unmap(view, size);
}

int buffers_platform_commit_view(uintptr_t part, size_t size)
{
	(void)part, (void)size;
	return 0;
}
