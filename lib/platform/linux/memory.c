/* SPDX-License-Identifier: MIT */
/* memory.c: reads and checks memory that may be absent or protected */

#include "config.h"
#include "platform/linux/internal.h"

#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/*
 * Requeues no waiter, but reads the word first.  Emulators pass this call to the kernel with
 * the address unchecked; for most other calls they read the memory themselves.
 */
static bool is_readable_word(uintptr_t word)
{
	uint32_t other = 0;

	return syscall(SYS_futex, word, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 0L, 0L, &other,
		       0L) >= 0 || errno == EAGAIN;
}

static int read_page_by_page(uintptr_t address, void *copy, size_t size)
{
	enum { PAGE = 4096 };	/* the kernel's pages may be smaller than an emulator's */
	uintptr_t last = (address + size - 1) & ~(uintptr_t)3;

	for (uintptr_t word = address & ~(uintptr_t)3; word < last;
	     word = (word | (PAGE - 1)) + 1)
		if (!is_readable_word(word))
			return EFAULT;
	if (!is_readable_word(last))
		return EFAULT;
	memcpy(copy, (const void *)address, size);
	return 0;
}

int buffers_platform_try_read(uintptr_t address, void *copy, size_t size)
{
	struct iovec here = { copy, size };
	struct iovec there = { (void *)address, size };
	long got = syscall(SYS_process_vm_readv, buffers_platform_pid(), &here, 1L,
			   &there, 1L, 0L);

	if (got == (long)size)
		return 0;
	/* Otherwise a filter forbids the call, or an emulator lacks it. */
	if (got >= 0 || errno == EFAULT || address > UINTPTR_MAX - size)
		return EFAULT;
	return read_page_by_page(address, copy, size);
}

/* Asks about this thread: process_vm_readv(2) also reads what a protection key hides from it. */
bool buffers_platform_is_readable(uintptr_t address, size_t size)
{
	size_t page = buffers_platform_granularity();

	if (address > UINTPTR_MAX - size)
		return false;
	for (uintptr_t at = buffers_page_down(address); at < address + size; at += page)
		if (!is_readable_word(at))
			return false;
	return true;
}

/*
 * Has the kernel do an atomic "or 0" on the word.  The call also wakes the threads that wait
 * for another word, `unused`, for which no thread waits.
 */
static bool can_or_zero(uintptr_t word)
{
	uint32_t unused = 0;

	return syscall(SYS_futex, &unused, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0L, 0L, word,
		       FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0)) >= 0;
}

/*
 * Emulators write-protect pages that they execute.  A read(2) into the page, though from no
 * file, makes them lift the protection.
 */
static bool is_writable_word(uintptr_t word)
{
	if (can_or_zero(word))
		return true;
	buffers_sys_read(-1, (void *)word, sizeof(uint32_t));
	return can_or_zero(word);
}

bool buffers_platform_is_writable(uintptr_t address, size_t size)
{
	size_t page = buffers_platform_granularity();
	uintptr_t last = address + size - 4;

	if (address % 4 || size % 4 || address > UINTPTR_MAX - size)
		return false;
	for (uintptr_t word = address; word < last; word = (word | (page - 1)) + 1)
		if (!is_writable_word(word))
			return false;
	return is_writable_word(last);
}
