/* SPDX-License-Identifier: MIT */
/* alloc-in.c: memory in other processes with the same or smaller address size */

#include "config.h"
#define BUFFERS_BUILD	/* lets the tests pass NULL */
#include "support/code.h"
#include "support/regions.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/*
 * Children
 */

struct child {
	HANDLE process, to, from;
	uint32_t pid;
	uintptr_t function, limit;	/* as the child reports them */
};

/*
 * The child of this build, and children of other builds: variables of the environment name
 * their paths.  `what` is the path of the former, or the reason to skip the test.
 */
static const struct {
	const char *what, *variable;
} programs[] = {
	{ "tests/windows/.libs/child.exe", NULL },
	{ "BUFFERS_TEST_CHILD64 does not name a 64-bit program", "BUFFERS_TEST_CHILD64" },
	{ "BUFFERS_TEST_CHILD32 does not name a 32-bit program", "BUFFERS_TEST_CHILD32" },
	{ "BUFFERS_TEST_CHILD32_LAA does not name a 32-bit program", "BUFFERS_TEST_CHILD32_LAA" },
};
enum { PROGRAMS = sizeof(programs) / sizeof(programs[0]) };

static const char *program_of(int which)
{
	const char *path = programs[which].variable ? getenv(programs[which].variable) :
						      programs[which].what;

	return path && GetFileAttributesA(path) != INVALID_FILE_ATTRIBUTES ? path : NULL;
}

static void make_pipe(HANDLE *ours, HANDLE *theirs, bool is_input)
{
	SECURITY_ATTRIBUTES inherited = { sizeof(inherited), NULL, TRUE };

	ck_assert(CreatePipe(is_input ? theirs : ours, is_input ? ours : theirs, &inherited, 0));
	ck_assert(SetHandleInformation(*ours, HANDLE_FLAG_INHERIT, 0));
}

static void read_line(const struct child *child, char line[600])
{
	DWORD got;

	for (unsigned i = 0; i < 599; i++) {
		do
			ck_assert(ReadFile(child->from, &line[i], 1, &got, NULL) && got == 1);
		while (line[i] == '\r');
		line[i + 1] = '\0';
		if (line[i] == '\n')
			return;
	}
}

static void tell(const struct child *child, const char *format, ...)
{
	char line[128];
	DWORD written;
	va_list list;

	va_start(list, format);
	vsnprintf(line, sizeof(line), format, list);
	va_end(list);
	ck_assert(WriteFile(child->to, line, (DWORD)strlen(line), &written, NULL));
}

static struct child start_with(const char *program, SECURITY_ATTRIBUTES *attributes)
{
	STARTUPINFOA start = { .cb = sizeof(start), .dwFlags = STARTF_USESTDHANDLES };
	PROCESS_INFORMATION process;
	unsigned long long function, limit;
	struct child child;
	char line[600];

	make_pipe(&child.to, &start.hStdInput, true);
	make_pipe(&child.from, &start.hStdOutput, false);
	start.hStdError = start.hStdOutput;
	ck_assert_msg(create_process(program, attributes, true, 0, &start, &process), "error %lu",
		      GetLastError());
	CloseHandle(start.hStdInput);
	CloseHandle(start.hStdOutput);
	CloseHandle(process.hThread);
	child.process = process.hProcess;
	child.pid = process.dwProcessId;
	read_line(&child, line);
	ck_assert_int_eq(sscanf(line, "%llx %llx", &function, &limit), 2);
	child.function = (uintptr_t)function;
	child.limit = (uintptr_t)limit;
	return child;
}

static struct child start_child(int which)
{
	return start_with(program_of(which), NULL);
}

static void end_child(const struct child *child)
{
	CloseHandle(child->to);
	CloseHandle(child->from);
	TerminateProcess(child->process, 0);
	WaitForSingleObject(child->process, INFINITE);
	CloseHandle(child->process);
}

#define SKIP_WITHOUT_PROGRAM(which)					\
	do {								\
		SKIP_IF(sizeof(void *) == 4 && (which) == 1,		\
			"a 32-bit process cannot map memory in a 64-bit process");	\
		SKIP_IF(!program_of(which), programs[which].what);	\
	} while (0)

static bool has_32_bits(const struct child *child)
{
	return child->limit <= 0xffff0000;
}

/*
 * Requests
 */

static uintptr_t alloc_in(uint32_t pid, const struct buffers_request *request)
{
	size_t size = 0;
	void *memory;

	errno = 1234;
	memory = buffers_alloc_in(pid, request, &size);
	ck_assert_msg(memory != NULL, "errno %d", errno);
	ck_assert_int_eq(errno, 1234);
	ck_assert_uint_eq(size, (request->size + BLOCK - 1) & ~(BLOCK - 1));
	ck_assert_uint_ge((uintptr_t)memory, request->min_address);
	if (request->max_address)
		ck_assert_uint_le((uintptr_t)memory + size, request->max_address);
	return (uintptr_t)memory;
}

static void free_in(uint32_t pid, uintptr_t address, size_t size)
{
	errno = 1234;
	ck_assert_int_eq(buffers_free_in(pid, (void *)address, size), 0);
	ck_assert_int_eq(errno, 1234);
}

/* A refused call has no effect but the error. */
static void expect_error(uint32_t pid, const struct buffers_request *request, int error)
{
	size_t size = 4711;

	errno = 0;
	ck_assert_ptr_null(buffers_alloc_in(pid, request, &size));
	ck_assert_int_eq(errno, error);
	ck_assert_uint_eq(size, 4711);
}

static void expect_free_error(uint32_t pid, uintptr_t address, size_t size, int error)
{
	errno = 0;
	ck_assert_int_eq(buffers_free_in(pid, (void *)address, size), -1);
	ck_assert_int_eq(errno, error);
}

static struct buffers_request near_to(const struct child *child, size_t size)
{
	return buffers_request_near((void *)child->function, has_32_bits(child) ? 256 * MIB :
				    0x7ffff000, size);
}

/*
 * Memory
 */

START_TEST(code_written_to_the_process_runs_there)
{
	struct code code = code_of(4711);
	struct buffers_request request;
	struct child child;
	unsigned number;
	uintptr_t address;
	char line[600];
	SIZE_T written;

	SKIP_WITHOUT_PROGRAM(_i);
	child = start_child(_i);
	request = near_to(&child, 100);
	address = alloc_in(child.pid, &request);
	ck_assert_uint_eq(region_in(child.process, address).allocation, address);
	ck_assert_uint_eq(region_in(child.process, address).protection, PAGE_EXECUTE_READWRITE);
	ck_assert_uint_eq(region_in(child.process, address).end, address + BLOCK);
	tell(&child, "read %llx 16\n", (unsigned long long)address);
	read_line(&child, line);
	ck_assert_str_eq(line, "00000000000000000000000000000000\n");
	ck_assert(WriteProcessMemory(child.process, (void *)address, &code, sizeof(code),
				     &written));
	FlushInstructionCache(child.process, (void *)address, sizeof(code));
	tell(&child, "read %llx 6\n", (unsigned long long)address);
	read_line(&child, line);
	ck_assert_str_eq(line, "b867120000c3\n");
	tell(&child, "call %llx\n", (unsigned long long)address);
	read_line(&child, line);
	ck_assert_int_eq(sscanf(line, "%u", &number), 1);
	ck_assert_uint_eq(number, 4711);
	end_child(&child);
}
END_TEST

START_TEST(memory_is_near_the_target)
{
	struct buffers_request request;
	struct child child;

	SKIP_WITHOUT_PROGRAM(_i);
	child = start_child(_i);
	request = near_to(&child, BLOCK);
	for (unsigned i = 0; i < 20; i++) {
		uintptr_t address = alloc_in(child.pid, &request);

		ck_assert_uint_lt(address - child.function + 32 * MIB, 64 * MIB);
	}
	end_child(&child);
}
END_TEST

START_TEST(rw_memory_is_not_executable)
{
	struct buffers_request request = { .size = BLOCK, .flags = BUFFERS_RW };
	struct child child;

	SKIP_WITHOUT_PROGRAM(_i);
	child = start_child(_i);
	ck_assert_uint_eq(region_in(child.process, alloc_in(child.pid, &request)).protection,
			  PAGE_READWRITE);
	end_child(&child);
}
END_TEST

/* A range in the child with a single gap. */
START_TEST(gap_of_one_block_is_used_exactly)
{
	struct buffers_request request = { .size = BLOCK };
	uintptr_t address = 0x10000000;
	struct child child;

	SKIP_WITHOUT_PROGRAM(_i);
	child = start_child(_i);
	while (!is_range_free_in(child.process, address, address + 9 * BLOCK))
		address += BLOCK;
	for (unsigned i = 0; i < 9; i++)
		if (i != 4)
			ck_assert_ptr_eq(VirtualAllocEx(child.process,
							(void *)(address + i * BLOCK),
							PAGE, MEM_RESERVE, PAGE_NOACCESS),
					 (void *)(address + i * BLOCK));
	request.min_address = address;
	request.max_address = address + 9 * BLOCK;
	ck_assert_uint_eq(alloc_in(child.pid, &request), address + 4 * BLOCK);
	expect_error(child.pid, &request, EADDRNOTAVAIL);
	free_in(child.pid, address + 4 * BLOCK, BLOCK);
	ck_assert_uint_eq(alloc_in(child.pid, &request), address + 4 * BLOCK);
	end_child(&child);
}
END_TEST

START_TEST(size_and_alignment_are_as_requested)
{
	struct child child;

	SKIP_WITHOUT_PROGRAM(_i);
	child = start_child(_i);
	for (size_t alignment = 1; alignment <= 128 * MIB; alignment *= 8) {
		struct buffers_request request = { .size = 3 * alignment % MIB + 1,
						   .alignment = alignment };
		uintptr_t address = alloc_in(child.pid, &request);
		size_t size = (request.size + BLOCK - 1) & ~(BLOCK - 1);

		ck_assert_uint_eq(address % alignment, 0);
		ck_assert_uint_eq(region_in(child.process, address).end, address + size);
		free_in(child.pid, address, size);
		ck_assert(is_range_free_in(child.process, address, address + size));
	}
	end_child(&child);
}
END_TEST

START_TEST(memory_is_below_the_address_limit_of_the_process)
{
	struct buffers_request request = { .size = BLOCK };
	struct buffers_request beyond = { .size = 1 };
	struct child child;

	SKIP_WITHOUT_PROGRAM(_i);
	child = start_child(_i);
	printf("addresses end at %llx\n", (unsigned long long)child.limit);
	for (unsigned i = 0; i < 100; i++)
		ck_assert_uint_le(alloc_in(child.pid, &request) + BLOCK, child.limit);
	beyond.min_address = child.limit;
	expect_error(child.pid, &beyond, EADDRNOTAVAIL);
	beyond.min_address = child.limit - BLOCK;
	beyond.size = BLOCK + 1;
	expect_error(child.pid, &beyond, EADDRNOTAVAIL);
	end_child(&child);
}
END_TEST

START_TEST(memory_above_2_gib_needs_a_large_address_aware_process)
{
	struct buffers_request request = {
		.min_address = 0xa0000000, .max_address = 0xb0000000, .size = 64,
	};
	struct child child;

	SKIP_WITHOUT_PROGRAM(_i);
	child = start_child(_i);
	if (child.limit > request.max_address)
		alloc_in(child.pid, &request);
	else
		expect_error(child.pid, &request, EADDRNOTAVAIL);
	end_child(&child);
}
END_TEST

START_TEST(own_process_works_like_another)
{
	struct code code = code_of(42);
	struct buffers_request request = { .size = sizeof(code) };
	uintptr_t address = alloc_in(GetCurrentProcessId(), &request);

	memcpy((void *)address, &code, sizeof(code));
	ck_assert_uint_eq(call_code((void *)address), 42);
	free_in(GetCurrentProcessId(), address, BLOCK);
	ck_assert(is_range_free(address, address + BLOCK));
}
END_TEST

START_TEST(only_a_whole_allocation_is_freed)
{
	struct buffers_request request = { .size = 3 * BLOCK };
	uintptr_t address, function;
	struct child child;

	SKIP_WITHOUT_PROGRAM(_i);
	child = start_child(_i);
	address = alloc_in(child.pid, &request);
	function = child.function & ~(BLOCK - 1);
	expect_free_error(child.pid, 0, BLOCK, EINVAL);
	expect_free_error(child.pid, address, 0, EINVAL);
	expect_free_error(child.pid, address + 1, 3 * BLOCK, EINVAL);
	expect_free_error(child.pid, address, 3 * BLOCK - 1, EINVAL);
	expect_free_error(child.pid, address, BLOCK, EINVAL);
	expect_free_error(child.pid, address + BLOCK, 2 * BLOCK, EINVAL);
	expect_free_error(child.pid, address, 4 * BLOCK, EINVAL);
	expect_free_error(child.pid, function, BLOCK, EINVAL);
	ck_assert_uint_eq(region_in(child.process, address).end, address + 3 * BLOCK);
	free_in(child.pid, address, 3 * BLOCK);
	ck_assert(is_range_free_in(child.process, address, address + 3 * BLOCK));
	expect_free_error(child.pid, address, 3 * BLOCK, EINVAL);
	end_child(&child);
}
END_TEST

START_TEST(calls_leave_no_handle_open)
{
	struct buffers_request request = { .size = 1 };
	struct child child = start_child(0);
	unsigned handles;

	free_in(child.pid, alloc_in(child.pid, &request), BLOCK);
	handles = count_handles();
	for (unsigned i = 0; i < 100; i++) {
		free_in(child.pid, alloc_in(child.pid, &request), BLOCK);
		expect_free_error(child.pid, BLOCK, BLOCK, EINVAL);
	}
	ck_assert_uint_eq(count_handles(), handles);
	end_child(&child);
}
END_TEST

/*
 * Errors
 */

static void check_no_process(uint32_t pid)
{
	struct buffers_request request = { .size = 1 };

	expect_error(pid, &request, EINVAL);
	expect_free_error(pid, BLOCK, BLOCK, EINVAL);
}

START_TEST(unknown_process_is_einval)
{
	struct child child = start_child(0);
	static const uint32_t pids[] = { 0, 1, 2, 3, 0x7ffffffc, 0xfffffffc, 0xffffffff };

	for (unsigned i = 0; i < sizeof(pids) / sizeof(pids[0]); i++)
		check_no_process(pids[i]);
	for (uint32_t i = 1; i < 4; i++)	/* process IDs are multiples of 4 */
		check_no_process(child.pid + i);
	end_child(&child);
}
END_TEST

START_TEST(process_that_has_ended_is_einval)
{
	static const unsigned statuses[] = { 0, 1, STILL_ACTIVE };

	for (unsigned i = 0; i < 3; i++) {
		struct child child = start_child(0);

		tell(&child, "end %u\n", statuses[i]);
		ck_assert_uint_eq(WaitForSingleObject(child.process, 10000), WAIT_OBJECT_0);
		check_no_process(child.pid);
		CloseHandle(child.process);
		check_no_process(child.pid);
		CloseHandle(child.to);
		CloseHandle(child.from);
	}
}
END_TEST

START_TEST(request_that_contradicts_itself_is_einval)
{
	struct child child = start_child(0);
	static const struct buffers_request bad[] = {
		{ .size = 0 },
		{ .size = 1, .alignment = 3 },
		{ .size = 1, .min_address = 2 * 65536, .max_address = 65536 },
		{ .size = 1, .min_address = 65536, .max_address = 65536 },
		{ .size = 1, .flags = BUFFERS_RW | BUFFERS_RX },
		{ .size = 1, .flags = 4 },
		{ .size = 1, .flags = BUFFERS_ARENA_FORK_SHARED },
		{ .size = 1, .reserved = { 1, 0 } },
		{ .size = 1, .reserved = { 0, 1 } },
	};
	struct buffers_request good = { .size = 1 };

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect_error(child.pid, &bad[i], EINVAL);
	expect_error(child.pid, NULL, EINVAL);
	errno = 0;
	ck_assert_ptr_null(buffers_alloc_in(child.pid, &good, NULL));
	ck_assert_int_eq(errno, EINVAL);
	end_child(&child);
}
END_TEST

START_TEST(rx_memory_is_enosys)
{
	struct buffers_request request = { .size = 1, .flags = BUFFERS_RX };
	struct child child = start_child(0);

	expect_error(child.pid, &request, ENOSYS);
	end_child(&child);
}
END_TEST

START_TEST(size_beyond_the_address_space_is_eaddrnotavail)
{
	struct buffers_request request = { .size = limit_of_addresses() };
	struct child child = start_child(0);

	expect_error(child.pid, &request, EADDRNOTAVAIL);
	request.size = SIZE_MAX;
	expect_error(child.pid, &request, EADDRNOTAVAIL);
	end_child(&child);
}
END_TEST

/* An empty access control list grants no rights. */
START_TEST(process_without_access_rights_is_eacces)
{
	struct buffers_request request = { .size = 1 };
	SECURITY_DESCRIPTOR descriptor;
	SECURITY_ATTRIBUTES attributes = { sizeof(attributes), &descriptor, FALSE };
	struct child child;
	HANDLE opened;
	ACL none;

	ck_assert(InitializeAcl(&none, sizeof(none), ACL_REVISION));
	ck_assert(InitializeSecurityDescriptor(&descriptor, SECURITY_DESCRIPTOR_REVISION));
	ck_assert(SetSecurityDescriptorDacl(&descriptor, TRUE, &none, FALSE));
	child = start_with(program_of(0), &attributes);
	opened = OpenProcess(PROCESS_VM_OPERATION, FALSE, child.pid);
	if (opened)
		end_child(&child);
	SKIP_IF(opened, "this system opens a process without access rights");
	expect_error(child.pid, &request, EACCES);
	expect_free_error(child.pid, BLOCK, BLOCK, EACCES);
	end_child(&child);
}
END_TEST

static DWORD WINAPI kill_child(void *context)
{
	const struct child *child = context;

	for (unsigned i = child->pid / 4 % 16; i > 0; i--)
		SwitchToThread();
	TerminateProcess(child->process, 0);
	return 0;
}

struct attempt {
	struct child child;
	unsigned flags, successes;
	int error;
};

/* Maps memory until the process has ended. */
static DWORD WINAPI attempt(void *context)
{
	struct attempt *attempt = context;
	struct buffers_request request = { .size = 1, .flags = attempt->flags };
	size_t size;

	while (buffers_alloc_in(attempt->child.pid, &request, &size))
		attempt->successes++;
	attempt->error = errno;
	return 0;
}

/* Under Wine, VirtualQueryEx() may hang if the process ends during the call. */
START_TEST(process_that_ends_during_the_call_is_einval)
{
	static struct attempt all;

	for (unsigned i = 0; i < how_many(10, 100); i++) {
		HANDLE threads[2];
		DWORD ended;

		all = (struct attempt){ .child = start_child(0), .flags = _i ? BUFFERS_RW : 0 };
		threads[0] = CreateThread(NULL, 0, attempt, &all, 0, NULL);
		threads[1] = CreateThread(NULL, 0, kill_child, &all.child, 0, NULL);
		ended = WaitForMultipleObjects(2, threads, TRUE, 10000);
		SKIP_IF(ended == WAIT_TIMEOUT && is_wine(), "Wine hangs");
		ck_assert_uint_eq(ended, WAIT_OBJECT_0);
		ck_assert_int_eq(all.error, EINVAL);
		CloseHandle(threads[0]);
		CloseHandle(threads[1]);
		check_no_process(all.child.pid);
		end_child(&all.child);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("windows/alloc-in");
	TCase *memory = tcase_create("memory");
	TCase *errors = tcase_create("errors");

	tcase_add_loop_test(memory, code_written_to_the_process_runs_there, 0, PROGRAMS);
	tcase_add_loop_test(memory, memory_is_near_the_target, 0, PROGRAMS);
	tcase_add_loop_test(memory, rw_memory_is_not_executable, 0, PROGRAMS);
	tcase_add_loop_test(memory, gap_of_one_block_is_used_exactly, 0, PROGRAMS);
	tcase_add_loop_test(memory, size_and_alignment_are_as_requested, 0, PROGRAMS);
	tcase_add_loop_test(memory, memory_is_below_the_address_limit_of_the_process, 0, PROGRAMS);
	tcase_add_loop_test(memory, memory_above_2_gib_needs_a_large_address_aware_process, 0,
			    PROGRAMS);
	tcase_add_test(memory, own_process_works_like_another);
	tcase_add_loop_test(memory, only_a_whole_allocation_is_freed, 0, PROGRAMS);
	tcase_add_test(memory, calls_leave_no_handle_open);
	tcase_add_test(errors, unknown_process_is_einval);
	tcase_add_test(errors, process_that_has_ended_is_einval);
	tcase_add_test(errors, request_that_contradicts_itself_is_einval);
	tcase_add_test(errors, rx_memory_is_enosys);
	tcase_add_test(errors, size_beyond_the_address_space_is_eaddrnotavail);
	tcase_add_test(errors, process_without_access_rights_is_eacces);
	tcase_add_loop_test(errors, process_that_ends_during_the_call_is_einval, 0, 2);
	suite_add_tcase(suite, memory);
	suite_add_tcase(suite, errors);
	return run_suite(suite);
}
