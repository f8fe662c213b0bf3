/* SPDX-License-Identifier: MIT */
/* support-windows.c: processes and memory on Windows */

#include "config.h"
#include "support/support.h"
#undef _tcase_add_test

#include <fcntl.h>
#include <inttypes.h>
#include <io.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>
#include <psapi.h>

/*
 * The program executes itself for each test, once for a whole suite of functions, and for each
 * body of run_in_new_process().  One of these environment variables tells the new process its
 * job.
 */
#define TEST_VARIABLE "BUFFERS_TEST_NUMBER"	/* index of the test */
#define BODY_VARIABLE "BUFFERS_TEST_BODY"	/* offset of the body, handle of its memory */

/* Exit statuses of test processes; no crash or normal exit has them. */
enum { PASSED = 100, FAILED, NOT_CHOSEN, NOT_STARTED };

/* Unlike abort(), prints a result: a program must not end without one. */
static _Noreturn void exit_with_error(const char *call)
{
	printf("%s: error %lu\n", call, GetLastError());
	if (!getenv(TEST_VARIABLE) && !getenv(BODY_VARIABLE))
		printf("0%%: Checks: 1, Failures: 0, Errors: 1\n");
	exit(EXIT_FAILURE);
}

/* A job that terminates its processes when this process ends, as that closes the last handle. */
static HANDLE new_job(void)
{
	JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {
		.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
	};
	HANDLE job = CreateJobObjectA(NULL, NULL);

	SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof(limits));
	return job;
}

/* Errors that may not occur again at another attempt. */
static bool is_temporary(DWORD error)
{
	switch (error) {
	case ERROR_INTERNAL_ERROR:	/* Wine: the process died while it was created */
	case ERROR_NOT_ENOUGH_MEMORY:
	case ERROR_NO_SYSTEM_RESOURCES:
	case ERROR_COMMITMENT_LIMIT:
	case ERROR_TOO_MANY_OPEN_FILES:
	case ERROR_SHARING_VIOLATION:
		return true;
	default:
		return false;
	}
}

/*
 * If CreateProcess() fails, the program has executed nothing, so another attempt is safe.  64-bit
 * Wine needs a page at 0x7ffe0000 in each process.  Linux maps the heap there in about one of
 * 8000 processes, unless address space randomization is off (setarch -R).
 */
bool create_process(const char *program, SECURITY_ATTRIBUTES *attributes, bool inherits,
		    unsigned long flags, STARTUPINFOA *start, PROCESS_INFORMATION *process)
{
	DWORD limit = 10000;
	DWORD first = GetTickCount();
	DWORD error = 0;
	bool is_created;

	while (!(is_created = CreateProcessA(program, NULL, attributes, NULL, inherits, flags, NULL,
					     NULL, start, process))) {
		error = GetLastError();
		if (!is_temporary(error) || GetTickCount() - first >= limit)
			break;
		Sleep(10);
	}
	if (error)
		printf("CreateProcess: error %lu, for %lu ms\n", error,
		       GetTickCount() - first);
	SetLastError(error);
	return is_created;
}

/* Returns the exit status, or STILL_ACTIVE if the process could not be terminated. */
static DWORD wait_for_process(HANDLE process, HANDLE job)
{
	DWORD seconds = getenv("BUFFERS_TEST_FULL") ? 1200 : 120;
	DWORD status = STILL_ACTIVE;

	if (WaitForSingleObject(process, seconds * 1000) != WAIT_OBJECT_0) {
		printf("timeout after %lu s\n", seconds);
		TerminateJobObject(job, 1);
		TerminateProcess(process, 1);	/* in case the job failed */
		WaitForSingleObject(process, 10000);
	}
	GetExitCodeProcess(process, &status);
	return status;
}

static DWORD execute_self(const char *name, const char *value)
{
	STARTUPINFOA start = { .cb = sizeof(start) };
	PROCESS_INFORMATION process;
	char program[MAX_PATH];
	HANDLE job = new_job();
	DWORD status;
	bool is_created;

	fflush(NULL);
	GetModuleFileNameA(NULL, program, sizeof(program));
	SetEnvironmentVariableA(name, value);
	is_created = create_process(program, NULL, true, CREATE_SUSPENDED, &start, &process);
	SetEnvironmentVariableA(name, NULL);
	if (!is_created) {
		CloseHandle(job);
		return NOT_STARTED;
	}
	AssignProcessToJobObject(job, process.hProcess);
	ResumeThread(process.hThread);
	status = wait_for_process(process.hProcess, job);
	CloseHandle(process.hThread);
	CloseHandle(process.hProcess);
	CloseHandle(job);
	return status;
}

/*
 * Tests
 */

struct test {
	TCase *tcase;
	const TTest *test;
	int i;
};
static struct test *tests;
static unsigned count;

void add_tests(TCase *tcase, const TTest *test, int death, int status, int start, int end)
{
	(void)death;
	(void)status;
	for (int i = start; i < end; i++) {
		tests = realloc(tests, (count + 1) * sizeof(*tests));
		if (!tests)
			exit_with_error("realloc");
		tests[count++] = (struct test){ tcase, test, i };
	}
}

static void print_failure(TestResult *result, const struct test *test)
{
	printf("%s:%d:F:%s:%s:%d: %s\n", tr_lfile(result), tr_lno(result), tr_tcname(result),
	       test->test->name, test->i, tr_msg(result));
}

static int run_one(Suite *suite, const struct test *test)
{
	SRunner *runner = srunner_create(suite);
	TestResult **failures;

	_tcase_add_test(test->tcase, test->test, 0, 0, test->i, test->i + 1);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_SILENT);
	if (srunner_ntests_run(runner) == 0)
		return NOT_CHOSEN;
	if (srunner_ntests_failed(runner) == 0)
		return PASSED;
	failures = srunner_failures(runner);
	print_failure(failures[0], test);
	return FAILED;
}

static int run_all(void)
{
	unsigned checks = 0, failures = 0, errors = 0;
	DWORD status = PASSED;

	for (unsigned i = 0; i < count && status != NOT_STARTED; i++) {
		const struct test *test = &tests[i];
		char number[12];

		snprintf(number, sizeof(number), "%u", i);
		status = execute_self(TEST_VARIABLE, number);
		checks += status != NOT_CHOSEN;
		failures += status == FAILED;
		if (status == PASSED || status == FAILED || status == NOT_CHOSEN)
			continue;
		errors++;
		printf("%s:%d:E:%s:%d: exited with %#lx\n", test->test->file, test->test->line,
		       test->test->name, test->i, status);
	}
	printf("%u%%: Checks: %u, Failures: %u, Errors: %u\n",
	       checks ? 100 * (checks - failures - errors) / checks : 100,
	       checks, failures, errors);
	return failures || errors ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Runs all tests in this process and prints their count. */
static int run_functions(Suite *suite)
{
	SRunner *runner = srunner_create(suite);

	for (unsigned i = 0; i < count; i++)
		_tcase_add_test(tests[i].tcase, tests[i].test, 0, 0, tests[i].i, tests[i].i + 1);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_ENV);
	return srunner_ntests_failed(runner) ? FAILED : PASSED;
}

static int run_all_functions(void)
{
	DWORD status = execute_self(TEST_VARIABLE, "0");

	if (status == PASSED || status == FAILED)
		return status == PASSED ? EXIT_SUCCESS : EXIT_FAILURE;
	printf("%s:1:E: exited with %#lx\n0%%: Checks: %u, Failures: 0, Errors: 1\n",
	       tests->test->file, status, count);
	return EXIT_FAILURE;
}

static void run_body(const char *arguments);

static void start_program(void)
{
	const char *body = getenv(BODY_VARIABLE);

	_setmode(_fileno(stdout), _O_BINARY);
	setvbuf(stdout, NULL, _IONBF, 0);
	/* A crash must end the process without a dialog. */
	SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX);
	if (body)
		run_body(body);
}

int run_suite(Suite *suite)
{
	const char *number = getenv(TEST_VARIABLE);

	start_program();
	if (number)
		return run_one(suite, &tests[strtoul(number, NULL, 10)]);
	return run_all();
}

int run_suite_of_functions(Suite *suite)
{
	start_program();
	return getenv(TEST_VARIABLE) ? run_functions(suite) : run_all_functions();
}

/*
 * Tests in a new process
 */

struct shared_memory {
	int line;
	char context[];
};

static uintptr_t program_start(void)
{
	return (uintptr_t)GetModuleHandleA(NULL);
}

static struct shared_memory *view_of(HANDLE memory)
{
	struct shared_memory *shared = MapViewOfFile(memory, FILE_MAP_WRITE, 0, 0, 0);

	if (!shared)
		exit_with_error("MapViewOfFile");
	return shared;
}

/* The program may be loaded at another address now. */
static void run_body(const char *arguments)
{
	int (*body)(void *context);
	uintptr_t address;
	char *rest;
	struct shared_memory *shared;

	address = program_start() + (uintptr_t)strtoull(arguments, &rest, 16);
	shared = view_of((HANDLE)(uintptr_t)strtoull(rest, NULL, 16));
	memcpy(&body, &address, sizeof(body));
	shared->line = body(shared->context);
	exit(shared->line ? FAILED : PASSED);
}

void run_in_new_process(int (*body)(void *context), void *context, size_t size)
{
	SECURITY_ATTRIBUTES inherited = { sizeof(inherited), NULL, TRUE };
	HANDLE memory = CreateFileMappingA(INVALID_HANDLE_VALUE, &inherited, PAGE_READWRITE, 0,
					   (DWORD)(sizeof(struct shared_memory) + size), NULL);
	struct shared_memory *shared = view_of(memory);
	char arguments[40];
	DWORD status;
	int line;

	snprintf(arguments, sizeof(arguments), "%" PRIxPTR " %" PRIxPTR,
		 (uintptr_t)body - program_start(), (uintptr_t)memory);
	shared->line = -1;
	if (size)
		memcpy(shared->context, context, size);
	status = execute_self(BODY_VARIABLE, arguments);
	if (size)
		memcpy(context, shared->context, size);
	line = shared->line;
	UnmapViewOfFile(shared);
	CloseHandle(memory);
	ck_assert_msg(status != NOT_STARTED, "the new process was not started");
	ck_assert_msg(line != -1, "new process exited with %#lx before its body returned", status);
	ck_assert_msg(line == 0, "new process: step in line %d failed", line);
	ck_assert_uint_eq(status, PASSED);
}

/*
 * Faults
 */

static void *escape[5];
static void *volatile fault_address;

static void leave_faulting_body(void)
{
	__builtin_longjmp(escape, 1);
}

/* The system continues the thread in leave_faulting_body(), on the same stack. */
static LONG CALLBACK handle_fault(EXCEPTION_POINTERS *exception)
{
	CONTEXT *context = exception->ContextRecord;

	if (exception->ExceptionRecord->ExceptionCode != EXCEPTION_ACCESS_VIOLATION)
		return EXCEPTION_CONTINUE_SEARCH;
	fault_address = (void *)exception->ExceptionRecord->ExceptionInformation[1];
#ifdef __x86_64__
	context->Rsp = ((context->Rsp - 256) & ~(DWORD64)15) - 8;
	context->Rip = (DWORD64)(uintptr_t)leave_faulting_body;
#else
	context->Esp = ((context->Esp - 256) & ~(DWORD)15) - 4;
	context->Eip = (DWORD)(uintptr_t)leave_faulting_body;
#endif
	return EXCEPTION_CONTINUE_EXECUTION;
}

bool does_fault(void (*body)(void *context), void *context, void **address)
{
	void *handler = AddVectoredExceptionHandler(1, handle_fault);
	volatile bool has_faulted = true;

	if (__builtin_setjmp(escape) == 0) {
		body(context);
		has_faulted = false;
	}
	RemoveVectoredExceptionHandler(handler);
	*address = fault_address;
	return has_faulted;
}

/*
 * Memory
 */

size_t granularity(void)
{
	SYSTEM_INFO system;

	GetSystemInfo(&system);
	return system.dwAllocationGranularity;
}

uintptr_t end_of_addresses(void)
{
	SYSTEM_INFO system;

	GetSystemInfo(&system);
	return (uintptr_t)system.lpMaximumApplicationAddress + 1;
}

/* Untouched pages take no memory but count against the commit limit. */
void *map_memory(size_t size, bool is_shared)
{
	void *memory = VirtualAlloc(NULL, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);

	(void)is_shared;	/* there are no forked children */
	ck_assert_ptr_nonnull(memory);
	return memory;
}

void *new_pages(size_t size)
{
	void *pages = _aligned_malloc(size, 4096);

	ck_assert_ptr_nonnull(pages);
	return pages;
}

void free_pages(void *pages)
{
	_aligned_free(pages);
}

static void *reserve_exactly(uintptr_t start, size_t size)
{
	return VirtualAlloc((void *)start, size, MEM_RESERVE, PAGE_NOACCESS);
}

void *reserve(uintptr_t wish, size_t size)
{
	void *start = wish ? reserve_exactly(wish, size) : NULL;

	if (!start)
		start = reserve_exactly(0, size);
	ck_assert_ptr_nonnull(start);
	return start;
}

static uintptr_t end_of_allocation(const void *base)
{
	const char *at = base;
	MEMORY_BASIC_INFORMATION info;

	while (VirtualQuery(at, &info, sizeof(info)) && info.AllocationBase == base)
		at += info.RegionSize;
	return (uintptr_t)at;
}

/* Windows releases an allocation only as a whole, so reserve the other parts again. */
void unreserve(void *start_, size_t size)
{
	uintptr_t start = (uintptr_t)start_;
	MEMORY_BASIC_INFORMATION info;
	uintptr_t base, end;

	ck_assert_uint_ne(VirtualQuery(start_, &info, sizeof(info)), 0);
	base = (uintptr_t)info.AllocationBase;
	end = end_of_allocation(info.AllocationBase);
	ck_assert(VirtualFree((void *)base, 0, MEM_RELEASE));
	if (base < start)
		ck_assert_ptr_nonnull(reserve_exactly(base, start - base));
	if (start + size < end)
		ck_assert_ptr_nonnull(reserve_exactly(start + size, end - start - size));
}

/* A view of a section cannot be decommitted in part. */
void unmap_part(void *start, size_t size)
{
	if (!VirtualFree(start, size, MEM_DECOMMIT))
		protect(start, size, "---p");
}

bool is_free_candidate(uintptr_t start, size_t size)
{
	void *reserved = reserve_exactly(start, size);

	if (reserved)
		VirtualFree(reserved, 0, MEM_RELEASE);
	return reserved == (void *)start;
}

/* Far above the addresses that the system chooses by itself. */
uintptr_t secluded_address(void)
{
	void *usual = reserve(0, granularity());

	unreserve(usual, granularity());
#ifdef _WIN64
	return (uintptr_t)usual + ((size_t)64 << 30);
#else
	return (uintptr_t)usual + ((size_t)256 << 20);
#endif
}

static const struct {
	DWORD protection;
	char permissions[5];
} protections[] = {
	{ PAGE_NOACCESS, "---p" },
	{ PAGE_READONLY, "r--p" },
	{ PAGE_READWRITE, "rw-p" },
	{ PAGE_WRITECOPY, "rw-p" },
	{ PAGE_EXECUTE, "--xp" },
	{ PAGE_EXECUTE_READ, "r-xp" },
	{ PAGE_EXECUTE_READWRITE, "rwxp" },
	{ PAGE_EXECUTE_WRITECOPY, "rwxp" },
};
enum { PROTECTIONS = sizeof(protections) / sizeof(protections[0]) };

void protect(void *start, size_t size, const char *permissions)
{
	unsigned i = 0;
	DWORD before;

	while (i < PROTECTIONS && strcmp(protections[i].permissions, permissions) != 0)
		i++;
	ck_assert_uint_lt(i, PROTECTIONS);
	/* Pages that are only reserved have no protection yet, so commit them. */
	if (!VirtualProtect(start, size, protections[i].protection, &before))
		ck_assert_ptr_eq(VirtualAlloc(start, size, MEM_COMMIT, protections[i].protection),
				 start);
}

size_t resident_bytes(void)
{
	PROCESS_MEMORY_COUNTERS counters = { .cb = sizeof(counters) };

	ck_assert(K32GetProcessMemoryInfo(GetCurrentProcess(), &counters, sizeof(counters)));
	return counters.WorkingSetSize;
}

void use_small_pages(void)
{
}

/* Wine keeps one byte for each page in the process. */
size_t page_list_bytes(size_t size)
{
	return size / 4096;
}

bool has_address_space(size_t size)
{
	(void)size;
	return true;
}

bool can_overcommit(void)
{
	return true;		/* reserving address space takes no memory */
}

unsigned count_descriptors(void)
{
	DWORD handles = 0;

	ck_assert(GetProcessHandleCount(GetCurrentProcess(), &handles));
	return handles;
}

const void *libc_function(void)
{
	return (const void *)(uintptr_t)GetProcAddress(GetModuleHandleA("msvcrt.dll"), "getenv");
}

static const char *permissions_of(const MEMORY_BASIC_INFORMATION *info)
{
	if (info->State == MEM_COMMIT)
		for (unsigned i = 0; i < PROTECTIONS; i++)
			if (protections[i].protection == (info->Protect & 0xff))
				return protections[i].permissions;
	return "---p";
}

/* Finds the lowest region at or above `at`.  Returns false if there is none. */
static bool find_region(uintptr_t at, struct mapping *mapping)
{
	MEMORY_BASIC_INFORMATION info;

	while (VirtualQuery((void *)at, &info, sizeof(info))) {
		at = (uintptr_t)info.BaseAddress;
		*mapping = (struct mapping){ .start = at, .end = at + info.RegionSize };
		if (info.State != MEM_FREE) {
			strcpy(mapping->permissions, permissions_of(&info));
			return true;
		}
		at = mapping->end;
	}
	return false;
}

/*
 * Windows reports protection 0 for reserved pages.  Wine reports PAGE_NOACCESS for ranges that
 * it does not know.
 */
bool is_map_list_exact(void)
{
	MEMORY_BASIC_INFORMATION info;

	for (char *at = NULL; VirtualQuery(at, &info, sizeof(info));
	     at = (char *)info.BaseAddress + info.RegionSize)
		if (info.State == MEM_RESERVE && info.Protect == PAGE_NOACCESS)
			return false;
	return true;
}

/* Like find_region(), but merges neighbours with the same permissions, as Linux does. */
static bool find_mapping(uintptr_t at, struct mapping *mapping)
{
	struct mapping next;

	if (!find_region(at, mapping))
		return false;
	while (find_region(mapping->end, &next) && next.start == mapping->end &&
	       strcmp(next.permissions, mapping->permissions) == 0)
		mapping->end = next.end;
	return true;
}

size_t read_maps(struct mapping *maps, size_t max)
{
	size_t found = 0;
	uintptr_t at = 0;

	for (; found < max && find_mapping(at, &maps[found]); found++)
		at = maps[found].end;
	ck_assert_uint_lt(found, max);
	return found;
}

size_t count_mappings(uintptr_t start, uintptr_t end)
{
	struct mapping mapping;
	size_t overlapping = 0;

	for (uintptr_t at = 0; find_mapping(at, &mapping); at = mapping.end)
		overlapping += mapping.start < end && start < mapping.end;
	return overlapping;
}

/*
 * Linux facilities that Windows lacks
 */

bool is_emulated(void)
{
	return false;
}

bool can_replace_code(void)
{
	return true;
}

bool has_robust_locks(void)
{
	return false;
}

bool can_map_twice(void)
{
	return true;
}

bool can_probe(void)
{
	return false;
}
