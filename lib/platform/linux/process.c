/* SPDX-License-Identifier: MIT */
/* process.c: forked children, numbers of the process, unloading, random numbers, waiting */

#include "config.h"
#include "platform/linux/internal.h"

#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

/*
 * Forked children
 */

int buffers_platform_map_state(void **page)
{
	size_t size = buffers_platform_granularity();
	uintptr_t address;
	int error = buffers_platform_map_anywhere(size, BUFFERS_KIND_RW, BUFFERS_MAP_PLAIN,
						  &address);

	if (error)
		return error;
	*page = (void *)address;
	madvise(*page, size, MADV_WIPEONFORK);	/* since Linux 4.14 */
	return 0;
}

static void (*call_in_child)(void);

static void run_fork_handler(void)
{
	buffers_linux_write_after_fork();
	call_in_child();
}

void buffers_platform_at_fork(void (*before)(void), void (*child)(void))
{
	call_in_child = child;
	pthread_atfork(before, NULL, run_fork_handler);
}

/*
 * Tasks
 */

/* A filter may deny the call. */
uint32_t buffers_platform_task(void)
{
	long number = syscall(SYS_gettid);

	return number > 0 ? (uint32_t)number + 1 : 1;
}

/*
 * Has the kernel read a token of this thread by the number of the task.  The number alone would
 * not do: it can be in use again, or be a zombie's.  Any other error says nothing.
 */
static int compare_memory(uint32_t task)
{
	uint64_t token = buffers_platform_random();
	uint64_t copy = ~token;
	struct iovec here = { &copy, sizeof(copy) };
	struct iovec there = { &token, sizeof(token) };
	long got = syscall(SYS_process_vm_readv, (long)task - 1, &here, 1L, &there, 1L, 0L);

	if (got >= 0)
		return got == (long)sizeof(copy) && copy == token ? 0 : ESRCH;
	return errno == ESRCH || errno == EPERM || errno == EFAULT ? ESRCH : ENOSYS;
}

/* A filter may deny the question, which shows when this task asks about itself. */
int buffers_platform_find_task(uint32_t task)
{
	int error = task > 1 ? compare_memory(task) : ENOSYS;

	if (error == ESRCH && compare_memory(buffers_platform_task()) != 0)
		error = ENOSYS;
	return error;
}

/*
 * Signals
 */

#define SIGNAL_BIT(number) (1UL << ((number) - 1))

enum { MASK_SIZE = _NSIG / 8 };	/* of the kernel's mask */

/* A fault whose signal is blocked kills the process, although the caller may have a handler. */
void buffers_platform_block_signals(struct buffers_signals *former)
{
	struct buffers_signals all = { .blocked = { 0 } };

	memset(all.blocked, 0xff, sizeof(all.blocked));
	all.blocked[0] &= ~(SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGILL) |
			    SIGNAL_BIT(SIGFPE) | SIGNAL_BIT(SIGTRAP) | SIGNAL_BIT(SIGSYS));
	former->is_known = syscall(SYS_rt_sigprocmask, SIG_BLOCK, all.blocked, former->blocked,
				   (long)MASK_SIZE) == 0;
}

void buffers_platform_restore_signals(const struct buffers_signals *former)
{
	if (former->is_known)
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, former->blocked, NULL, (long)MASK_SIZE);
}

/*
 * Numbers
 */

/* A filter may deny the call: then all processes have the same number. */
uint32_t buffers_platform_pid(void)
{
	return (uint32_t)syscall(SYS_getpid);
}

uint64_t buffers_platform_pid_namespace(void)
{
	struct buffers_sys_status status;

	return buffers_sys_status_behind("/proc/self/ns/pid", &status) ? status.file : 0;
}

uint64_t buffers_platform_random(void)
{
	static uint64_t drawn;
	struct timespec now = { 0 };
	uint64_t number;

	if (syscall(SYS_getrandom, &number, sizeof(number), GRND_NONBLOCK) == sizeof(number))
		return number;
	/* Early at boot, or under a filter: stretch the bytes of exec, which a parent shares. */
	memcpy(&number, (const void *)buffers_linux_stack_top(), sizeof(number));
	clock_gettime(CLOCK_MONOTONIC, &now);
	number ^= (uint64_t)buffers_platform_pid() << 32 ^ (uint64_t)now.tv_nsec;
	number += 0x9e3779b97f4a7c15u * (1 + __atomic_fetch_add(&drawn, 1, __ATOMIC_RELAXED));
	number = (number ^ number >> 32) * 0xd6e8feb86659fd93u;
	return number ^ number >> 32;
}

/*
 * Unloading
 */

/* The dynamic section of the object that contains this code; a static executable has none. */
extern const ElfW(Dyn) dynamic_section[] __asm__("_DYNAMIC")
	__attribute__((weak, visibility("hidden")));

static bool is_in_program(void)
{
	const ElfW(Phdr) *headers = (const ElfW(Phdr) *)getauxval(AT_PHDR);
	uintptr_t count = headers ? getauxval(AT_PHNUM) : 0;
	uintptr_t base = 0;

	for (uintptr_t i = 0; i < count; i++) {
		if (headers[i].p_type == PT_PHDR)
			base = (uintptr_t)headers - headers[i].p_vaddr;
		if (headers[i].p_type == PT_DYNAMIC)
			return base + headers[i].p_vaddr == (uintptr_t)dynamic_section;
	}
	return false;
}

bool buffers_platform_is_nodelete(void)
{
	if (!dynamic_section || is_in_program())
		return true;
	for (const ElfW(Dyn) *entry = dynamic_section; entry->d_tag != DT_NULL; entry++)
		if (entry->d_tag == DT_FLAGS_1)
			return (entry->d_un.d_val & (DF_1_NODELETE | DF_1_PIE)) != 0;
	return false;
}

/*
 * Waiting
 */

void buffers_platform_backoff(unsigned attempt)
{
	int state;

	if (attempt < 64) {
#if defined(__x86_64__) || defined(__i386__)
		__builtin_ia32_pause();
#endif
	} else if (attempt < 1024) {
		sched_yield();
	} else {
		/* Sleep: sched_yield() never runs a holder of lower real-time priority. */
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
		pthread_setcancelstate(state, &state);
	}
}

/*
 * Instruction cache
 */

#ifdef __powerpc64__

/*
 * __clear_cache() of the compilers does nothing on POWER: Power ISA, Book II, "Instruction
 * Storage".  No 64-bit processor has cache blocks of less than 32 bytes.
 */
void buffers_platform_flush_icache(void *start, size_t size)
{
	enum { BLOCK = 32 };
	uintptr_t end = (uintptr_t)start + size;
	uintptr_t first = (uintptr_t)start & ~(uintptr_t)(BLOCK - 1);

	for (uintptr_t block = first; block < end; block += BLOCK)
		__asm__ volatile("dcbst 0, %0" : : "r"(block) : "memory");
	__asm__ volatile("sync" : : : "memory");
	for (uintptr_t block = first; block < end; block += BLOCK)
		__asm__ volatile("icbi 0, %0" : : "r"(block) : "memory");
	__asm__ volatile("sync; isync" : : : "memory");
}

#else

void buffers_platform_flush_icache(void *start, size_t size)
{
	__builtin___clear_cache((char *)start, (char *)start + size);
}

#endif
