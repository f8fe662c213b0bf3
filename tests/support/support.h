/* SPDX-License-Identifier: MIT */
/*
 * support.h: functions for all test programs
 *
 * The first part is for all systems: support.c, and support-linux.c or support-windows.c for the
 * parts that depend on the system.  The end is for Linux only.
 */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Whether the system has fork(2) and the rest of the Linux section below. */
#ifdef _WIN32
# define CAN_FORK 0
#else
# define CAN_FORK 1
#endif

/*
 * Runs the suite and returns the exit status for main().  Each test gets a new process that has not
 * used the library.  On systems where Check cannot fork, run_suite() starts these processes itself.
 */
int run_suite(Suite *suite);

#ifdef _WIN32
# define _tcase_add_test add_tests
void add_tests(TCase *tcase, const TTest *test, int death, int status, int start, int end);

/* Like CreateProcess(); repeats it for some seconds after errors that may be temporary. */
struct _SECURITY_ATTRIBUTES;
struct _STARTUPINFOA;
struct _PROCESS_INFORMATION;
bool create_process(const char *program, struct _SECURITY_ATTRIBUTES *attributes, bool inherits,
		    unsigned long flags, struct _STARTUPINFOA *start,
		    struct _PROCESS_INFORMATION *process);
#endif

/* Runs a suite whose tests leave no state behind.  They share one process where that is faster. */
int run_suite_of_functions(Suite *suite);

/* Prints why this program cannot test anything here, and exits with 77. */
_Noreturn void skip_all(const char *reason);

/* Sanitizers need other limits, because their runtime maps memory for itself. */
#if defined(__SANITIZE_ADDRESS__)
# define TESTS_ASAN 1
#elif defined(__SANITIZE_THREAD__)
# define TESTS_TSAN 1
#elif defined(__has_feature)
# if __has_feature(address_sanitizer)
#  define TESTS_ASAN 1
# elif __has_feature(thread_sanitizer)
#  define TESTS_TSAN 1
# endif
#endif
bool is_asan(void);
bool is_tsan(void);

/* Whether this is a coverage build; its processes write counts to files when they exit. */
bool is_coverage(void);

/* Check has no skipped tests: such a test passes and prints the reason. */
#define SKIP_IF(condition, reason)						\
	do {								\
		if (condition) {					\
			printf("skipped: %s: %s\n", __func__, reason);	\
			return;						\
		}							\
	} while (0)

/*
 * Check writes each assertion's position to a file, in case the test crashes later.  Most of the
 * running time went into that.
 */
#ifndef TESTS_MARK
# define _mark_point(file, line) ((void)0)
#endif

/*
 * Tests in a new process
 *
 * run_in_new_process() runs the body in a process that has not used the library.  The body gets
 * a copy of the context (`size` bytes), and its changes are copied back.  Pointers in the
 * context, and to static memory, may be invalid there.  The body checks with STEP() and returns
 * the line of the failed step; run_in_new_process() asserts that no step failed.
 */
#define STEP(condition)						\
	do {							\
		if (!(condition))				\
			return __LINE__;			\
	} while (0)

void run_in_new_process(int (*body)(void *context), void *context, size_t size);

/*
 * Whether the body faults.  *address is the fault's address, or NULL if the system does not
 * report it.
 */
bool does_fault(void (*body)(void *context), void *context, void **address);

/*
 * The number of repetitions: `full` under make check-slow (BUFFERS_TEST_FULL in the environment),
 * else `some`, or a thirtieth of that if is_slow().
 */
unsigned how_many(unsigned some, unsigned full);

/*
 * Whether the program runs under a user-mode emulator.  Emulation is slow, and the emulator's
 * memory counts as the program's.
 */
bool is_emulated(void);

/* Whether tests run slowly: under an emulator, or if BUFFERS_TEST_SLOW is in the environment. */
bool is_slow(void);

/*
 * For loops that wait for another process.  Sleeps if is_slow(), because emulated processors switch
 * between processes slowly.
 */
void yield_cpu(void);

/*
 * Random numbers.  seed_random() prints the seed, and takes it from BUFFERS_TEST_SEED if that
 * is set.
 */
uint64_t seed_random(void);
uint64_t next_random(uint64_t *state);
size_t random_below(uint64_t *state, size_t bound);

/*
 * Memory
 *
 * granularity(): unit of addresses and sizes of mappings, also of the library's.
 * map_memory(): zeroed memory; untouched pages cost nothing.  Children that are forked later share
 * it if is_shared, else get a copy.
 * new_pages(): like malloc(), aligned to 4096 bytes.
 * reserve(): inaccessible address space, at the wished address if that is free and not 0.
 * unreserve(): releases all or a part of it.
 * unmap_part(): the same for mapped memory; if the system can only unmap it as a whole, makes the
 * part inaccessible.
 * is_free_candidate(): tries whether the range can be mapped.
 * secluded_address(): an address far from the addresses that the system chooses by itself.
 * protect(): sets permissions, given as in /proc/self/maps.
 */
size_t granularity(void);
void *map_memory(size_t size, bool is_shared);
void *new_pages(size_t size);
void free_pages(void *pages);
void *reserve(uintptr_t wish, size_t size);
void unreserve(void *start, size_t size);
void unmap_part(void *start, size_t size);
bool is_free_candidate(uintptr_t start, size_t size);
uintptr_t secluded_address(void);
void protect(void *start, size_t size, const char *permissions);

/*
 * resident_bytes(): memory that this process uses; 0 if the system does not report it.
 * use_small_pages(): makes the kernel count single pages instead of huge ones.
 * page_list_bytes(): memory of the process that the system needs to manage this much address space.
 */
#define NO_RESIDENT_BYTES "the system does not report the memory of a process"
size_t resident_bytes(void);
void use_small_pages(void);
size_t page_list_bytes(size_t size);

/* Whether the system promises more memory than it has. */
bool can_overcommit(void);

/* Whether a limit of the process, such as RLIMIT_AS, leaves it this much address space. */
#define NO_ADDRESS_SPACE "a limit leaves too little address space (ulimit -v)"
bool has_address_space(size_t size);

/* The number of open descriptors below 512, or of handles. */
unsigned count_descriptors(void);

/* A function inside the C library, not an entry of a table through which programs call it. */
const void *libc_function(void);

/* A line of /proc/self/maps, or an equivalent. */
struct mapping {
	uintptr_t start, end;
	char permissions[5];
	char name[64];
};
size_t read_maps(struct mapping *maps, size_t max);

/*
 * Whether everything in the list is mapped.  In 32-bit programs, Wine also lists ranges that it
 * knows nothing about.
 */
bool is_map_list_exact(void);

/* The end of the addresses that this program can map. */
uintptr_t end_of_addresses(void);

/* Whether the list has a gap for a mapping of this size and alignment. */
#define NO_CANDIDATE_LEFT "no free candidate is left for the largest request"
bool is_any_candidate_left(size_t size, size_t alignment);

/* Whether all of [start, end) is mapped, with these permissions unless NULL. */
bool is_mapped_as(uintptr_t start, uintptr_t end, const char *permissions);

/* Counts the mappings that overlap [start, end). */
size_t count_mappings(uintptr_t start, uintptr_t end);

/*
 * Whether this buffer is the unused rest of a locator's page, on systems with pages of more
 * than 4096 bytes.  Such a rest is listed together with its locator, before any request.
 */
struct buffers_info;
bool is_rest_of_locator_page(const struct buffers_info *info);

/*
 * Whether new code that replaces old code at the same address is executed.  QEMU's full-system
 * emulation sometimes executes stale translations beyond the first 4 KiB of a larger page.  It
 * does so too rarely for a test by trying.
 */
bool can_replace_code(void);

/* Whether the code returns this number; true where that shows nothing, as old code may run. */
bool returns_number(const void *code, uint32_t number);

/*
 * Facilities that Windows and some emulators and sandboxes lack, found by trying
 *
 * has_robust_locks(): a robust mutex reports that its owner died.
 * can_map_twice(): shared memory can be mapped a second time, by mremap(2) on Linux.
 * can_probe(): msync(2) reports unmapped addresses.
 */
#define NO_ROBUST_LOCKS "robust mutexes do not report dead owners here: children share nothing"
bool has_robust_locks(void);
bool can_map_twice(void);
#define NO_PROBES "msync() does not report unmapped addresses here"
bool can_probe(void);

#if CAN_FORK

#include <sys/resource.h>
#include <sys/types.h>

/*
 * Linux only: forked children
 *
 * A ck_assert() that fails in a child does not fail the test unless a parent checks the child.
 * Tests therefore fork only through run_child().  The body checks with STEP() and returns the line
 * of the failed step; run_child() asserts that no step failed.
 */
void run_child(int (*body)(void *context), void *context);

/* The two halves of run_child(), for children that run at the same time. */
struct child {
	int pid;
	int *line;
};
struct child start_child(int (*body)(void *context), void *context);
void finish_child(struct child child);

/* Like fork(), without fork handlers; clone_process() with flags of clone(2), as CLONE_NEWPID. */
pid_t fork_without_handlers(void);
pid_t clone_process(unsigned flags);

#define FORKS_IN_THREADS "the emulator crashes when threads fork"

/* Sets the soft limit and returns the old limits, so that the caller can restore them. */
struct rlimit set_limit(unsigned resource, rlim_t soft);

/* The flags of a mapping in /proc/self/smaps, until the next call; NULL: unknown. */
const char *mapping_flags(uintptr_t address);

/* Bytes of address space that this process has mapped. */
size_t mapped_bytes(void);

/*
 * Facilities that some kernels, emulators and sandboxes lack, found by trying
 *
 * can_trace(): ptrace(2).
 * can_filter(): filters of system calls.
 * can_limit_memory(): RLIMIT_AS.
 * can_wipe_on_fork(): MADV_WIPEONFORK.
 * can_map_beyond_end(): mappings beyond the end of a file.
 */
#define NO_MEMORY_LIMIT "RLIMIT_AS is ignored here"
bool can_trace(void);
bool can_filter(void);
bool can_limit_memory(void);
#define NO_WIPE "MADV_WIPEONFORK is not supported here"
bool can_wipe_on_fork(void);
#define NO_MAPPING_BEYOND_END "mappings beyond the end of a file are not supported here"
bool can_map_beyond_end(void);
#endif

#endif
