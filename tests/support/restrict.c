/* SPDX-License-Identifier: MIT */
/* restrict.c: simulate systems that forbid or hide a facility that the library uses */

#include "config.h"
#include "support/restrict.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_MDWE
# define PR_SET_MDWE		65
# define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif
#ifndef SYS_mseal
# define SYS_mseal 462
#endif

/* Judges calls whose argument, of which only the low 32 bits count, has this value in `mask`. */
static bool judge_masked(int number, unsigned argument, unsigned mask, unsigned value,
			 unsigned judgement)
{
	size_t low = offsetof(struct seccomp_data, args) + argument * sizeof(uint64_t) +
		     (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0);
	struct sock_filter steps[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)low),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, judgement),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof(steps) / sizeof(steps[0]), steps };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

static bool refuse_masked(int number, unsigned argument, unsigned mask, unsigned value, int error)
{
	return judge_masked(number, argument, mask, value, SECCOMP_RET_ERRNO | (unsigned)error);
}

bool refuse_call_where(int number, unsigned argument, unsigned bits, int error)
{
	return refuse_masked(number, argument, bits, bits, error);
}

bool refuse_call_at(int number, const void *address, int error)
{
	return refuse_masked(number, 0, UINT32_MAX, (unsigned)(uintptr_t)address, error);
}

/* An old size of 0, argument 1, asks mremap() for a second mapping. */
bool refuse_views(int error)
{
	return refuse_masked(SYS_mremap, 1, UINT32_MAX, 0, error);
}

bool refuse_call(int number, int error)
{
	return refuse_call_where(number, 0, 0, error);
}

bool trap_call(int number)
{
	return judge_masked(number, 0, 0, 0, SECCOMP_RET_TRAP);
}

/* The protection is argument 2 of mmap(), mprotect() and pkey_mprotect(). */
static bool refuse_protection(int number, unsigned protection, int error)
{
	return refuse_call_where(number, 2, protection, error);
}

#ifdef SYS_mmap2
enum { MMAP = SYS_mmap2 };
#else
enum { MMAP = SYS_mmap };
#endif

static bool refuse_mapping(int error)
{
	return refuse_protection(MMAP, PROT_WRITE | PROT_EXEC, error);
}

bool refuse_rwx(int error)
{
	return refuse_mapping(error) &&
	       refuse_protection(SYS_mprotect, PROT_WRITE | PROT_EXEC, error) &&
	       refuse_protection(SYS_pkey_mprotect, PROT_WRITE | PROT_EXEC, error);
}

bool refuse_memory(int error)
{
	return refuse_call(MMAP, error);
}

bool refuse_private_memory(int error)
{
	return refuse_call_where(MMAP, 3, MAP_PRIVATE, error);
}

bool refuse_new_exec(int error)
{
	return refuse_mapping(error) && refuse_protection(SYS_mprotect, PROT_EXEC, error) &&
	       refuse_protection(SYS_pkey_mprotect, PROT_EXEC, error);
}

bool refuse_exec_gain(void)
{
	return prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0;
}

bool seal_memory(void *start, size_t size)
{
	if (syscall(SYS_mseal, start, size, 0L) == 0)
		return true;
	printf("skipped: %s: mseal(2) needs Linux 6.10\n", __func__);
	return false;
}

bool hide_proc(void)
{
	if ((unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) &&
	    mount("none", "/proc", NULL, MS_PRIVATE, NULL) == 0 &&
	    mount("none", "/proc", "tmpfs", 0, NULL) == 0)
		return true;
	printf("skipped: %s: %s\n", __func__, strerror(errno));
	return false;
}
