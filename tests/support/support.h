/* SPDX-License-Identifier: MIT */
/*
 * support.h: what the test programs share
 *
 * Up to where it says so, for all systems: support.c, and what depends on the system in
 * support-linux.c or support-windows.c.
 */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Whether fork(2) is there, and the rest of what only Linux has: see the end. */
#ifdef _WIN32
# define CAN_FORK 0
#else
# define CAN_FORK 1
#endif

/*
 * Runs the suite and returns the exit status for main().  Each test has a process of its
 * own, which has not used the library yet; where Check cannot fork, we do that in its place.
 */
int run_suite(Suite *suite);

#ifdef _WIN32
# define _tcase_add_test add_tests
void add_tests(TCase *tcase, const TTest *test, int death, int status, int start, int end);

/* CreateProcess(), tried again for some seconds where that may help; fails as that does. */
struct _SECURITY_ATTRIBUTES;
struct _STARTUPINFOA;
struct _PROCESS_INFORMATION;
bool create_process(const char *program, struct _SECURITY_ATTRIBUTES *attributes, bool inherits,
		    unsigned long flags, struct _STARTUPINFOA *start,
		    struct _PROCESS_INFORMATION *process);
#endif

/* The same, of tests that leave the process as it was: where it is slow, they share it. */
int run_suite_of_functions(Suite *suite);

/* Why this program can test nothing here: prints it and exits with 77. */
_Noreturn void skip_all(const char *why);

/* Which sanitizer this is built with: its runtime has an idea of memory of its own. */
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

/* Whether lines are counted: then processes write the counts to files as they end. */
bool is_coverage(void);

/* Check has no skipped tests: they pass, and say in the log what they left out. */
#define SKIP_IF(condition, why)						\
	do {								\
		if (condition) {					\
			printf("skipped: %s: %s\n", __func__, why);	\
			return;						\
		}							\
	} while (0)

/*
 * An assertion that holds would write to a file where it is, for the case that the test
 * crashes later.  That took most of the time.
 */
#ifndef TESTS_MARK
# define _mark_point(file, line) ((void)0)
#endif

/*
 * Processes apart
 *
 * The body runs in another process, which has not used the library yet.  There it has a
 * copy of the context, `size` bytes, and what it leaves in them is there when this
 * returns.  A pointer in them, or in static memory, may mean nothing.  It checks with
 * STEP(), and says by its result which step failed; run_in_new_process() asserts that none did.
 */
#define STEP(condition)						\
	do {							\
		if (!(condition))				\
			return __LINE__;			\
	} while (0)

void run_in_new_process(int (*body)(void *context), void *context, size_t size);

/* Whether the body faults, and at which address; NULL: the system does not tell. */
bool does_fault(void (*body)(void *context), void *context, void **address);

/*
 * How often a test repeats what takes long: `full` times under make check-slow
 * (BUFFERS_TEST_FULL in the environment), else `some`, and a thirtieth where it is slow.
 */
unsigned how_many(unsigned some, unsigned full);

/*
 * Whether an emulator stands between this program and the kernel: it is slow, and the
 * memory that it needs counts as the program's.
 */
bool is_emulated(void);

/* Whether all is slow: there, or where BUFFERS_TEST_SLOW in the environment says so. */
bool is_slow(void);

/*
 * For a loop that waits for another process.  Where it is slow it takes a nap, for what an
 * emulated processor does worst is to go from one process to another.
 */
void yield_cpu(void);

/* Random numbers: the seed is printed, and taken from BUFFERS_TEST_SEED. */
uint64_t seed_random(void);
uint64_t next_random(uint64_t *state);
size_t random_below(uint64_t *state, size_t bound);

/*
 * Memory
 *
 * granularity(): of addresses and sizes, of the library's memory as well.
 * map_memory(): zeros, of which those that nobody uses cost nothing; children that are
 * forked later share them or get a copy.
 * new_pages(): as malloc(), from a multiple of 4096 on.
 * reserve(): address space where nothing else comes, and nobody can read or write; where
 * it is wished if that is free, 0: anywhere.
 * unreserve(): gives back a part of it, or all.
 * unmap_part(): the same of memory that is mapped; where that goes as a whole only, nobody
 * can read the part.
 * is_free_candidate(): whether nothing is mapped there, found by trying.
 * secluded_address(): an address that is far from where the system puts what has none.
 * protect(): permissions as a list of mappings has them.
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
 * Bytes of memory that this process takes, in pages that are no larger than need be, or 0
 * where the system does not tell; and what the system keeps in it of address space of this
 * size.
 */
#define NO_RESIDENT_BYTES "the system does not tell how much memory a process takes"
size_t resident_bytes(void);
void use_small_pages(void);
size_t page_list_bytes(size_t size);

/* Whether more memory can be had than there is. */
bool can_overcommit(void);

/* Descriptors below 512 that are open, or handles. */
unsigned count_descriptors(void);

/* A function of the C library, where that has it and not where it is called through. */
const void *libc_function(void);

/* What is mapped, as /proc/self/maps has it, read in the plainest way. */
struct mapping {
	uintptr_t start, end;
	char permissions[5];
	char name[64];
};
size_t read_maps(struct mapping *maps, size_t most);

/* Whether all that is listed is mapped.  Wine, of 32 bits, lists what it knows nothing of. */
bool is_map_list_exact(void);

/* Behind the last one that this program can map. */
uintptr_t end_of_addresses(void);

/* Whether that list leaves a place of this size and alignment. */
#define NO_CANDIDATE_LEFT "the system leaves no place for the largest"
bool is_any_candidate_left(size_t size, size_t alignment);

/* Whether all of [start, end) is mapped, with these permissions or any (NULL). */
bool is_mapped_as(uintptr_t start, uintptr_t end, const char *permissions);

/* Counts mappings that meet [start, end). */
size_t count_mappings(uintptr_t start, uintptr_t end);

/*
 * Whether it is what is left of a locator's page, where pages are larger than that, and
 * nobody has used it yet: it is listed with the locator, before anybody asked.
 */
struct buffers_info;
bool is_rest_of_locator_page(const struct buffers_info *info);

/*
 * Whether code is executed that took the place of other code.  Not in a machine of QEMU's,
 * which keeps what it translated beyond the first 4 KiB of a page: not always, so that no
 * attempt tells.
 */
bool can_replace_code(void);

/*
 * What emulators and sandboxes lack, found by trying, and Windows has nothing of
 *
 * Whether a robust mutex tells of a process that ended with it, shared memory can be
 * mapped a second time by mremap(2), and msync(2) tells what is not mapped.
 */
#define NO_ROBUST_LOCKS "robust mutexes tell of no dead here, so nothing is shared with children"
bool has_robust_locks(void);
bool can_map_twice(void);
#define NO_PROBES "msync() does not tell what is mapped here"
bool can_probe(void);

#if CAN_FORK
/*
 * What only Linux has
 */

#include <sys/resource.h>
#include <sys/types.h>

/*
 * Forked children
 *
 * A ck_assert() in a child that nobody waits for passes silently.  So children
 * are made by run_child() alone, check with STEP(), and say by their result
 * which step failed; run_child() asserts that none did.
 */
void run_child(int (*body)(void *context), void *context);

/* The two halves of it, for children that run at the same time. */
struct child {
	int pid;
	int *line;
};
struct child start_child(int (*body)(void *context), void *context);
void finish_child(struct child child);

/* As fork(), but no fork handler runs. */
pid_t fork_without_handlers(void);

#define FORKS_IN_THREADS "the emulator dies where threads fork"

/* Sets the soft limit, and returns what it was; limits can be raised again. */
struct rlimit set_limit(unsigned resource, rlim_t soft);

/* Bytes of its address space that a process uses. */
size_t mapped_bytes(void);

/*
 * Whether a process may lead another by ptrace(2), a filter of system calls can be
 * installed, RLIMIT_AS bounds what is mapped, the kernel empties memory in a forked
 * child, and memory that lies beyond its file's end can be mapped.
 */
#define NO_MEMORY_LIMIT "RLIMIT_AS is ignored here"
bool can_trace(void);
bool can_filter(void);
bool can_limit_memory(void);
#define NO_WIPE "the system empties no memory at fork"
bool can_wipe_on_fork(void);
#define NO_MAPPING_BEYOND_END "memory beyond its file's end cannot be mapped here"
bool can_map_beyond_end(void);
#endif

#endif
