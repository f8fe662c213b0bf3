/* SPDX-License-Identifier: MIT */
/* support-linux.c: processes and memory on Linux, and facilities that may be missing */

#include "config.h"
#include "support/support.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Check's own limit of 4 seconds is short for a busy machine and for valgrind. */
__attribute__((constructor)) static void set_time_limit(void)
{
	setenv("CK_DEFAULT_TIMEOUT", "300", false);
}

#ifdef TESTS_TSAN
/*
 * Threads write shared RX memory through a view that they map and unmap, and the kernel reuses its
 * address.  TSan does not see these system calls, and reports the two writes as a race.
 */
const char *__tsan_default_suppressions(void);

const char *__tsan_default_suppressions(void)
{
	return "race:write_by_view\n";
}
#endif

static int run_with_status(Suite *suite, enum fork_status status)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	is_emulated();	/* find out before a test hides /proc */
	srunner_set_fork_status(runner, status);
	if (status == CK_NOFORK)	/* without fork, Check has no timeout */
		alarm(300);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int run_suite(Suite *suite)
{
	return run_with_status(suite, CK_FORK_GETENV);
}

int run_suite_of_functions(Suite *suite)
{
	return run_with_status(suite, is_slow() ? CK_NOFORK : CK_FORK_GETENV);
}

struct child start_child(int (*body)(void *context), void *context)
{
	struct child child;

	child.line = map_memory(sizeof(int), true);
	*child.line = -1;
	fflush(NULL);
	child.pid = fork();
	ck_assert_int_ge(child.pid, 0);
	if (child.pid == 0) {
		*child.line = body(context);
		exit(*child.line != 0);	/* unlike _exit(), writes coverage counts */
	}
	return child;
}

struct rlimit set_limit(unsigned resource, rlim_t soft)
{
	struct rlimit old, limit;

	ck_assert_int_eq(getrlimit(resource, &old), 0);
	limit = old;
	limit.rlim_cur = soft < old.rlim_max ? soft : old.rlim_max;
	ck_assert_int_eq(setrlimit(resource, &limit), 0);
	return old;
}

void finish_child(struct child child)
{
	int status;
	int line;

	ck_assert_int_eq(waitpid(child.pid, &status, 0), child.pid);
	line = *child.line;
	munmap(child.line, sizeof(int));
	ck_assert_msg(!WIFSIGNALED(status), "child killed by signal %d", WTERMSIG(status));
	ck_assert_msg(line != -1, "child exited with %d before its body returned",
		      WEXITSTATUS(status));
	ck_assert_msg(line == 0, "child: step in line %d failed", line);
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}

pid_t clone_process(unsigned flags)
{
#ifdef __s390x__	/* the stack is the first argument there */
	return (pid_t)syscall(SYS_clone, 0L, (long)(flags | SIGCHLD), 0L, 0L, 0L);
#else
	return (pid_t)syscall(SYS_clone, (long)(flags | SIGCHLD), 0L, 0L, 0L, 0L);
#endif
}

pid_t fork_without_handlers(void)
{
	return clone_process(0);
}

void run_child(int (*body)(void *context), void *context)
{
	finish_child(start_child(body, context));
}

void run_in_new_process(int (*body)(void *context), void *context, size_t size)
{
	void *shared = map_memory(size + 1, true);

	if (size)
		memcpy(shared, context, size);
	run_child(body, shared);
	if (size)
		memcpy(context, shared, size);
	munmap(shared, size + 1);
}

static sigjmp_buf escape;
static void *volatile fault_address;

static void handle_fault(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	fault_address = info->si_addr;
	siglongjmp(escape, 1);
}

bool does_fault(void (*body)(void *context), void *context, void **address)
{
	static const int numbers[] = { SIGSEGV, SIGBUS };
	struct sigaction action = { .sa_flags = SA_SIGINFO };
	struct sigaction before[2];
	volatile bool has_faulted = true;

	action.sa_sigaction = handle_fault;
	sigemptyset(&action.sa_mask);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(sigaction(numbers[i], &action, &before[i]), 0);
	if (sigsetjmp(escape, 1) == 0) {
		body(context);
		has_faulted = false;
	}
	for (unsigned i = 0; i < 2; i++)
		sigaction(numbers[i], &before[i], NULL);
	*address = fault_address;
	return has_faulted;
}

/* Emulators answer readlink() of the first path themselves; few know the second one. */
static bool are_exe_links_different(void)
{
	char process_exe[4096] = "";
	char thread_exe[4096] = "";

	if (readlink("/proc/self/exe", process_exe, sizeof(process_exe) - 1) < 0 ||
	    readlink("/proc/thread-self/exe", thread_exe, sizeof(thread_exe) - 1) < 0)
		return false;
	return strcmp(process_exe, thread_exe) != 0;
}

bool is_emulated(void)
{
	enum { UNKNOWN, NO, YES };
	static int answer;	/* cached, because a test may hide /proc later */

	if (__atomic_load_n(&answer, __ATOMIC_RELAXED) == UNKNOWN)
		__atomic_store_n(&answer, are_exe_links_different() ? YES : NO, __ATOMIC_RELAXED);
	return __atomic_load_n(&answer, __ATOMIC_RELAXED) == YES;
}

/* Whether the body returns true in a child. */
static bool child_can(bool (*body)(void))
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(!body());
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

static bool is_traced(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

bool can_trace(void)
{
	return child_can(is_traced);
}

static bool is_filtered(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog filter = { 1, &allow };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

bool can_filter(void)
{
	return child_can(is_filtered);
}

static void *map_page(int sharing)
{
	return mmap(NULL, granularity(), PROT_READ | PROT_WRITE,
		    sharing | MAP_ANONYMOUS, -1, 0);
}

static bool is_memory_limited(void)
{
	struct rlimit none = { 0, 0 };

	return setrlimit(RLIMIT_AS, &none) == 0 && map_page(MAP_PRIVATE) == MAP_FAILED;
}

bool can_limit_memory(void)
{
	return child_can(is_memory_limited);
}

static char *wiped_byte;	/* private memory of the parent */

static bool is_wiped(void)
{
	return *wiped_byte == 0;
}

bool can_wipe_on_fork(void)
{
	bool can;

	wiped_byte = map_page(MAP_PRIVATE);
	*wiped_byte = 1;
	can = madvise(wiped_byte, granularity(), MADV_WIPEONFORK) == 0 && child_can(is_wiped);
	munmap(wiped_byte, granularity());
	return can;
}

static pthread_mutex_t *abandoned_lock;	/* its owner is a child that died */

static bool is_lock_taken(void)
{
	return pthread_mutex_lock(abandoned_lock) == 0;
}

bool has_robust_locks(void)
{
	pthread_mutexattr_t attributes;
	bool can;

	abandoned_lock = map_page(MAP_SHARED);
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	can = pthread_mutex_init(abandoned_lock, &attributes) == 0 && child_can(is_lock_taken) &&
	      pthread_mutex_trylock(abandoned_lock) == EOWNERDEAD;
	if (can)
		pthread_mutex_unlock(abandoned_lock);
	munmap(abandoned_lock, granularity());
	return can;
}

bool can_map_twice(void)
{
	size_t page = granularity();
	void *first = map_page(MAP_SHARED);
	void *second = mremap(first, 0, page, MREMAP_MAYMOVE);
	bool can = second != MAP_FAILED;

	if (can)
		munmap(second, page);
	munmap(first, page);
	return can;
}

/* Some emulators reserve all addresses for the program, so msync() finds every page mapped. */
bool can_probe(void)
{
	size_t page = granularity();
	void *address = map_page(MAP_PRIVATE);

	munmap(address, page);
	return msync(address, page, MS_ASYNC) != 0;
}

/* An emulator whose pages are larger than the kernel's maps only the existing part of the file. */
bool can_map_beyond_end(void)
{
	FILE *file = tmpfile();
	void *address;

	if (!file)
		return false;
	address = mmap(NULL, granularity(), PROT_READ, MAP_SHARED, fileno(file), 0);
	fclose(file);
	if (address == MAP_FAILED)
		return false;
	munmap(address, granularity());
	return true;
}

bool can_replace_code(void)
{
	return !is_slow() || is_emulated() || granularity() == 4096;
}

/*
 * Memory
 */

size_t granularity(void)
{
	return (size_t)getpagesize();
}

bool is_map_list_exact(void)
{
	return true;
}

/* The end is not exact: the kernel reserves the upper addresses. */
uintptr_t end_of_addresses(void)
{
	return UINTPTR_MAX;
}

void *map_memory(size_t size, bool is_shared)
{
	int sharing = is_shared ? MAP_SHARED : MAP_PRIVATE;
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    sharing | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ck_assert_ptr_ne(memory, MAP_FAILED);
	return memory;
}

void *new_pages(size_t size)
{
	void *pages = aligned_alloc(4096, size);

	ck_assert_ptr_nonnull(pages);
	return pages;
}

void free_pages(void *pages)
{
	free(pages);
}

/*
 * Without MAP_NORESERVE: emulators fill gaps with such mappings and would merge them in the
 * list.
 */
void *reserve(uintptr_t wish, size_t size)
{
	void *start = mmap((void *)wish, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(start, MAP_FAILED);
	return start;
}

void unreserve(void *start, size_t size)
{
	ck_assert_int_eq(munmap(start, size), 0);
}

void unmap_part(void *start, size_t size)
{
	unreserve(start, size);
}

bool is_free_candidate(uintptr_t start, size_t size)
{
	void *candidate = (void *)start;
	void *mapped = mmap(candidate, size, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
			    -1, 0);

	if (mapped != MAP_FAILED)
		munmap(mapped, size);
	return mapped == candidate;
}

/* Far below the addresses that the kernel chooses by itself. */
uintptr_t secluded_address(void)
{
	void *usual = reserve(0, granularity());

	unreserve(usual, granularity());
#if UINTPTR_MAX > UINT32_MAX
	return (uintptr_t)usual - ((size_t)64 << 30);
#else
	return (uintptr_t)usual - ((size_t)512 << 20);
#endif
}

void protect(void *start, size_t size, const char *permissions)
{
	int protection = (permissions[0] == 'r' ? PROT_READ : 0) |
			 (permissions[1] == 'w' ? PROT_WRITE : 0) |
			 (permissions[2] == 'x' ? PROT_EXEC : 0);

	ck_assert_int_eq(mprotect(start, size, protection), 0);
}

/* The first number of statm is exact at any time; the others are not: see resident_bytes(). */
size_t mapped_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	size_t pages;

	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fscanf(file, "%zu", &pages), 1);
	fclose(file);
	return pages * granularity();
}

/* Adds up the lines that begin with "Rss:".  Returns 0 if the file does not exist. */
static size_t add_resident(const char *path)
{
	FILE *file = fopen(path, "re");
	size_t total = 0;
	size_t kib;
	char line[4400];

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Rss: %zu kB", &kib) == 1)
			total += kib;
	fclose(file);
	return total * 1024;
}

/*
 * The kernel counts resident pages per thread (before Linux 6.2) or per processor and adds the
 * counts up late, so statm and status can miss many pages.  These files are made from the page
 * tables.  The second one is for kernels and emulators that lack the first.
 */
size_t resident_bytes(void)
{
	size_t bytes = add_resident("/proc/self/smaps_rollup");

	return bytes ? bytes : add_resident("/proc/self/smaps");
}

/* Otherwise the kernel may allocate a huge page at the first access. */
void use_small_pages(void)
{
	prctl(PR_SET_THP_DISABLE, 1L, 0L, 0L, 0L);
}

const char *mapping_flags(uintptr_t address)
{
	static char line[256];
	FILE *file = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	bool is_there = false;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			is_there = address >= start && address < end;
		else if (is_there && strncmp(line, "VmFlags:", 8) == 0)
			break;
	}
	if (!file || feof(file))
		line[0] = '\0';
	if (file)
		fclose(file);
	return line[0] ? line : NULL;
}

/* The kernel's page tables do not count as memory of the process. */
size_t page_list_bytes(size_t size)
{
	(void)size;
	return 0;
}

bool has_address_space(size_t size)
{
	void *space = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			   -1, 0);

	return space != MAP_FAILED && munmap(space, size) == 0;
}

bool can_overcommit(void)
{
	FILE *file = fopen("/proc/sys/vm/overcommit_memory", "re");
	int mode = 0;

	if (file) {
		ck_assert_int_eq(fscanf(file, "%d", &mode), 1);
		fclose(file);
	}
	return mode != 2;
}

unsigned count_descriptors(void)
{
	unsigned count = 0;

	for (int i = 0; i < 512; i++)
		count += fcntl(i, F_GETFD) >= 0;
	return count;
}

const void *libc_function(void)
{
	return dlsym(RTLD_DEFAULT, "getenv");
}

static FILE *open_maps(void)
{
	FILE *file = fopen("/proc/self/maps", "re");

	ck_assert_ptr_nonnull(file);
	return file;
}

static bool read_mapping(FILE *file, struct mapping *mapping)
{
	char line[4400];
	unsigned long long start, end;

	if (!fgets(line, sizeof(line), file))
		return false;
	*mapping = (struct mapping){ .name = "" };
	ck_assert_int_ge(sscanf(line, "%llx-%llx %4s %*s %*s %*s %63s", &start, &end,
				mapping->permissions, mapping->name), 3);
	mapping->start = (uintptr_t)start;
	mapping->end = (uintptr_t)end;
	return true;
}

size_t read_maps(struct mapping *maps, size_t max)
{
	FILE *file = open_maps();
	struct mapping mapping;
	size_t count = 0;

	while (read_mapping(file, &mapping)) {
		ck_assert_uint_lt(count, max);
		maps[count++] = mapping;
	}
	fclose(file);
	return count;
}

/* Does not store the list: the memory for it would count, unless it joined a neighbour. */
size_t count_mappings(uintptr_t start, uintptr_t end)
{
	FILE *file = open_maps();
	struct mapping mapping;
	size_t overlapping = 0;

	while (read_mapping(file, &mapping))
		overlapping += mapping.start < end && start < mapping.end;
	fclose(file);
	return overlapping;
}

