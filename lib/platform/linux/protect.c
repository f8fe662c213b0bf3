/* SPDX-License-Identifier: MIT */
/*
 * protect.c: memory that is writable and executable by turns
 *
 * mprotect(2) changes the protection from the first page on, and may fail at any later one.  If
 * policy keeps memory from becoming executable, write.c replaces it.
 */

#include "config.h"
#include "platform/linux/internal.h"

static int protect_as(uintptr_t address, size_t size, enum buffers_kind kind)
{
	if (buffers_sys_protect((void *)address, size, buffers_linux_protection_of(kind)))
		return 0;
	return buffers_linux_classify_write_failure();
}

/* Whether the first page has the new protection, or none: buffers_sys_protect(). */
static bool may_have_changed(uintptr_t address, enum buffers_kind kind)
{
	bool is_writable = buffers_platform_is_writable(address, sizeof(uint32_t));

	if (kind == BUFFERS_KIND_RX)
		return !is_writable;
	return is_writable || !buffers_platform_is_readable(address, sizeof(uint32_t));
}

/* The last page is as it was, if anything shows that. */
static enum buffers_kind former_kind(uintptr_t last_page, enum buffers_kind refused)
{
	unsigned permissions = 0;

	buffers_linux_permissions(last_page, &permissions);
	switch (permissions & (PERM_WRITE | PERM_EXECUTE)) {
	case PERM_WRITE | PERM_EXECUTE:
		return BUFFERS_KIND_RWX;
	case PERM_WRITE:
		return BUFFERS_KIND_RW;
	case PERM_EXECUTE:
		return BUFFERS_KIND_RX;
	default:
		return refused == BUFFERS_KIND_RW ? BUFFERS_KIND_RX : BUFFERS_KIND_RW;
	}
}

/* Returns whether it takes a copy to make the memory RX again. */
__attribute__((cold))
static bool restore(uintptr_t address, size_t size, enum buffers_kind refused)
{
	uintptr_t last_page = address + size - buffers_platform_granularity();
	enum buffers_kind kind = former_kind(last_page, refused);

	return protect_as(address, size, kind) == EACCES && kind == BUFFERS_KIND_RX;
}

int buffers_platform_protect(uintptr_t address, size_t size, enum buffers_kind kind,
			     bool *needs_copy)
{
	int error = protect_as(address, size, kind);

	*needs_copy = error == EACCES && kind == BUFFERS_KIND_RX;
	if (error && may_have_changed(address, kind) && restore(address, size, kind))
		*needs_copy = true;
	return error;
}
