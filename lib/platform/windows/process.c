/* SPDX-License-Identifier: MIT */
/* process.c: the number of the process, random numbers, waiting, tasks, instruction cache */

#include "config.h"
#include "platform/windows/internal.h"

#include <errno.h>

#if defined(__x86_64__) || defined(__i386__)
# include <cpuid.h>
#endif

uint32_t buffers_platform_pid(void)
{
	return GetCurrentProcessId();
}

/*
 * Random numbers
 */

#if defined(__x86_64__) || defined(__i386__)

__attribute__((target("rdrnd")))
static uint64_t draw_from_processor(void)
{
	unsigned eax, ebx, ecx, edx, high, low;

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_RDRND) &&
	    __builtin_ia32_rdrand32_step(&high) && __builtin_ia32_rdrand32_step(&low))
		return (uint64_t)high << 32 | low;
	return 0;
}

#else

static uint64_t draw_from_processor(void)
{
	return 0;
}

#endif

static uint64_t mix_bits(uint64_t number)
{
	number = (number ^ number >> 32) * 0xd6e8feb86659fd93u;
	return number ^ number >> 32;
}

/*
 * The system's generator is in libraries whose loading takes locks and memory.  Mix the
 * processor's random numbers, if it has any, with values that an outsider hardly knows.
 */
uint64_t buffers_platform_random(void)
{
	static uint64_t drawn;
	uint64_t count = 0x9e3779b97f4a7c15u * __atomic_add_fetch(&drawn, 1, __ATOMIC_RELAXED);
	LARGE_INTEGER ticks;
	FILETIME now;

	QueryPerformanceCounter(&ticks);
	GetSystemTimeAsFileTime(&now);
	return mix_bits(count ^ draw_from_processor() ^ mix_bits((uint64_t)ticks.QuadPart) ^
			mix_bits((uint64_t)now.dwLowDateTime << 32 ^ (uintptr_t)&now) ^
			mix_bits((uint64_t)GetCurrentProcessId() << 32 ^ GetCurrentThreadId()));
}

/*
 * Waiting
 */

uint64_t buffers_platform_clock(void)
{
	return GetTickCount64();
}

/* A sleep takes 1 to 16 ms, so only every 64th attempt sleeps. */
void buffers_platform_backoff(unsigned attempt)
{
	if (attempt < 64)
		YieldProcessor();
	else if (attempt < 1024 || attempt % 64)
		SwitchToThread();
	else
		Sleep(1);
}

/*
 * Tasks: threads, which TerminateThread() can end at any time
 */

uint32_t buffers_platform_task(void)
{
	return GetCurrentThreadId() + 1;
}

/* A thread that ended keeps its number as long as a handle to it is open. */
static int find_thread(HANDLE thread)
{
	if (GetProcessIdOfThread(thread) != GetCurrentProcessId())
		return ESRCH;
	return WaitForSingleObject(thread, 0) == WAIT_OBJECT_0 ? ESRCH : 0;
}

int buffers_platform_find_task(uint32_t task)
{
	HANDLE thread;

	if (task <= 1)
		return ENOSYS;
	thread = OpenThread(SYNCHRONIZE | THREAD_QUERY_LIMITED_INFORMATION, FALSE, task - 1);
	if (thread)
		return buffers_windows_close_after(find_thread(thread), thread);
	return GetLastError() == ERROR_INVALID_PARAMETER ? ESRCH : ENOSYS;
}

void buffers_platform_flush_icache(void *start, size_t size)
{
	FlushInstructionCache(GetCurrentProcess(), start, size);
}
