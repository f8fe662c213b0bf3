/* SPDX-License-Identifier: MIT */
/* platform-linux.c: the primitives of platform.h on Linux */

#include "config.h"
#include "platform/platform.h"

#ifndef __linux__
# error "this system has no lib/platform-*.c yet: platform.h says what to write"
#endif

#include "platform/linux/sys.h"

#include <elf.h>
#include <link.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>

#define KIB ((uintptr_t)1 << 10)
#define MIB ((uintptr_t)1 << 20)
#define GIB ((uintptr_t)1 << 30)

#ifndef PR_SET_VMA
# define PR_SET_VMA		0x53564d41
# define PR_SET_VMA_ANON_NAME	0
#endif

/* As struct procmap_query of <linux/fs.h>, which has it since Linux 6.11. */
struct map_query {
	uint64_t size;
	uint64_t flags;
	uint64_t address;
	uint64_t start;
	uint64_t end;
	uint64_t permissions;
	uint64_t unused[7];	/* page size, file and name */
};
_Static_assert(sizeof(struct map_query) == 104, "the kernel's number of the call has it");
#define MAP_QUERY		_IOWR('f', 17, struct map_query)
#define COVERING_OR_NEXT	0x10

static const char mapping_name[] = "reloaded-buffers";

size_t buffers_platform_granularity(void)
{
	return (size_t)getpagesize();
}

/*
 * Limits
 */

/* Root may map below vm.mmap_min_addr, and so has to be told. */
static uintptr_t protected_end(void)
{
	char digits[24];
	uintptr_t end = 0;
	ssize_t got;
	int descriptor = sys_open(AT_FDCWD, "/proc/sys/vm/mmap_min_addr", O_RDONLY, 0);

	if (descriptor < 0)
		return 0;
	got = sys_read(descriptor, digits, sizeof(digits));
	sys_close(descriptor);
	for (ssize_t i = 0; i < got && digits[i] >= '0' && digits[i] <= '9'; i++)
		end = end * 10 + (uintptr_t)(digits[i] - '0');
	return buffers_page_up(end);
}

/* The kernel puts these 16 bytes on the main stack, above all its frames. */
static uintptr_t stack_top(void)
{
	return getauxval(AT_RANDOM);
}

/*
 * The stack lies in the upper half of the user's part of the address space,
 * whose size is a power of two.  But emulators of 32 bits have it lower, and what
 * there is of those bits is the user's, or refused.
 */
static uintptr_t space_mask(void)
{
	if (UINTPTR_MAX == UINT32_MAX)
		return UINTPTR_MAX;
	return UINTPTR_MAX >> (__builtin_clzl(stack_top() | 1));
}

/*
 * Neither heap nor stack has a bound that can be known.  A sixteenth of the
 * address space is more than machines have memory, and leaves enough beside.
 */
static uintptr_t growth_most(void)
{
	return space_mask() / 16 + 1;
}

static uintptr_t lowest_usable(void)
{
	static uintptr_t lowest;	/* racing threads read the same file */
	uintptr_t start = __atomic_load_n(&lowest, __ATOMIC_RELAXED);

	if (start == 0) {
		start = protected_end();
		if (start < 64 * KIB)
			start = 64 * KIB;
		__atomic_store_n(&lowest, start, __ATOMIC_RELAXED);
	}
	return start;
}

/*
 * The file is not read for a range that begins above where programs are linked,
 * for no system protects that.  How much the kernel keeps of the topmost 64 KiB
 * differs.
 */
struct buffers_span buffers_platform_usable(struct buffers_span range)
{
	uintptr_t highest = space_mask() & ~(64 * KIB - 1);

	if (range.start < GIB && range.start < lowest_usable())
		range.start = lowest_usable();
	if (range.end > highest)
		range.end = highest;
	return range;
}

static bool meet(struct buffers_span a, struct buffers_span b)
{
	return a.start < b.end && b.start < a.end;
}

/* It cannot pass what was mapped above it at exec, as emulators have it. */
static struct buffers_span heap_from(uintptr_t start, uintptr_t size)
{
	const uintptr_t above[] = { space_mask(), stack_top(), getauxval(AT_BASE) };

	for (size_t i = 0; i < sizeof(above) / sizeof(above[0]); i++)
		if (above[i] > start && above[i] - start < size)
			size = buffers_page_down(above[i]) - start;
	return (struct buffers_span){ start, start + size };
}

struct buffers_span buffers_platform_heap_growth(void)
{
	/* brk(2) of the kernel returns the break; the C library's hides it. */
	return heap_from(buffers_page_up((uintptr_t)syscall(SYS_brk, 0L)), growth_most());
}

/* The number of a field behind the name, which may hold anything; 0: none. */
static uintptr_t field_of_stat(const char *stat, size_t size, unsigned field)
{
	uintptr_t number = 0;
	size_t at = size;

	while (at > 0 && stat[at - 1] != ')')
		at--;
	for (unsigned blanks = field - 2; at < size && blanks; at++)
		blanks -= stat[at] == ' ';
	for (; at < size && stat[at] >= '0' && stat[at] <= '9'; at++)
		number = number * 10 + (uintptr_t)(stat[at] - '0');
	return at < size ? number : 0;
}

/* proc(5), start_brk: no break is ever below.  0: not told. */
static uintptr_t read_heap_start(void)
{
	enum { START_BRK = 47 };
	char stat[1024];
	ssize_t got;
	int descriptor = sys_open(AT_FDCWD, "/proc/self/stat", O_RDONLY, 0);

	if (descriptor < 0)
		return 0;
	got = sys_read(descriptor, stat, sizeof(stat));
	sys_close(descriptor);
	return got > 0 ? field_of_stat(stat, (size_t)got, START_BRK) : 0;
}

static uintptr_t heap_start(void)
{
	static uintptr_t start;		/* the same for all who read it */
	static bool is_read;

	if (!__atomic_load_n(&is_read, __ATOMIC_ACQUIRE)) {
		__atomic_store_n(&start, read_heap_start(), __ATOMIC_RELAXED);
		__atomic_store_n(&is_read, true, __ATOMIC_RELEASE);
	}
	return __atomic_load_n(&start, __ATOMIC_RELAXED);
}

/* Below its start and far above it there is no heap, wherever the break may be. */
static bool may_be_heap(struct buffers_span span)
{
	uintptr_t start = heap_start();

	return !start || meet(span, heap_from(start, 4 * growth_most()));
}

/* So much of what lies below it as the stack may come to use. */
static struct buffers_span stack_down(uintptr_t room)
{
	uintptr_t end = buffers_page_up(stack_top());
	uintptr_t guard = 256 * buffers_platform_granularity();	/* stack_guard_gap */
	uintptr_t start = end - room - guard;
	uintptr_t interpreter = getauxval(AT_BASE);

	/* The first mapping below the room that the stack had at exec ends it. */
	if (start < interpreter && interpreter < end)
		start = interpreter;
	return (struct buffers_span){ start, end };
}

struct buffers_span buffers_platform_stack_growth(void)
{
	uintptr_t least = 128 * MIB;	/* what the kernel keeps free for it: mmap_base() */
	struct rlimit limit;
	uintptr_t room = least;

	if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur > least)
		room = limit.rlim_cur < growth_most() ?
		       buffers_page_up((uintptr_t)limit.rlim_cur) : growth_most();
	return stack_down(room);
}

/* No limit lets the stack grow further than we ever keep free for it. */
bool buffers_platform_may_grow_into(struct buffers_span span)
{
	return meet(span, stack_down(growth_most())) ||
	       (may_be_heap(span) && meet(span, buffers_platform_heap_growth()));
}

/*
 * Mapping
 */

static int protection_of(unsigned kind)
{
	static const int protections[BUFFERS_KINDS] = {
		[BUFFERS_KIND_RWX] = PROT_READ | PROT_WRITE | PROT_EXEC,
		[BUFFERS_KIND_RW] = PROT_READ | PROT_WRITE,
		[BUFFERS_KIND_RX] = PROT_READ | PROT_EXEC,
	};

	return protections[kind & ~(unsigned)(BUFFERS_MAP_SHARED | BUFFERS_MAP_RESERVED)];
}

static int flags_of(unsigned kind)
{
	return MAP_ANONYMOUS | (kind & BUFFERS_MAP_SHARED ? MAP_SHARED : MAP_PRIVATE) |
	       (kind & BUFFERS_MAP_RESERVED ? MAP_NORESERVE : 0);
}

/* EINVAL: a kernel that knows no names (CONFIG_ANON_VMA_NAME), now and later. */
static void name_mapping(void *address, size_t size)
{
	static bool is_futile;

	if (!__atomic_load_n(&is_futile, __ATOMIC_RELAXED) &&
	    prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, address, size, mapping_name) != 0 &&
	    errno == EINVAL)
		__atomic_store_n(&is_futile, true, __ATOMIC_RELAXED);
}

int buffers_platform_map_anywhere(size_t size, unsigned kind, uintptr_t *address)
{
	/* Our own data is written at once. */
	int populate = kind == BUFFERS_KIND_RW && size <= buffers_platform_granularity() ?
		       MAP_POPULATE : 0;
	void *got = mmap(NULL, size, protection_of(kind), flags_of(kind) | populate, -1, 0);

	if (got == MAP_FAILED)	/* seccomp filters, systemd's for one, say EPERM */
		return errno == EACCES || errno == EPERM ? EACCES : ENOMEM;
	name_mapping(got, size);
	*address = (uintptr_t)got;
	return 0;
}

/*
 * EPERM and EACCES come from policy, and for addresses that the system wants
 * left alone; ENOMEM at a limit, and for addresses above the user's.  Only the
 * former refuse such memory everywhere.
 */
static int refusal(size_t size, unsigned kind)
{
	uintptr_t address;
	int error = buffers_platform_map_anywhere(size, kind, &address);

	if (error)
		return error;
	munmap((void *)address, size);
	return EEXIST;
}

int buffers_platform_map(uintptr_t address, size_t size, unsigned kind)
{
	void *wanted = (void *)address;
	void *got = mmap(wanted, size, protection_of(kind),
			 flags_of(kind) | MAP_FIXED_NOREPLACE, -1, 0);

	if (got == wanted) {
		name_mapping(got, size);
		return 0;
	}
	if (got != MAP_FAILED) {
		/* Linux before 4.17, valgrind and qemu-user take it as a hint. */
		munmap(got, size);
		return EEXIST;
	}
	switch (errno) {
	case ENOMEM:
	case EAGAIN:	/* beyond RLIMIT_MEMLOCK, under mlockall(MCL_FUTURE) */
	case EACCES:
	case EPERM:
		return refusal(size, kind);
	default:
		return EEXIST;
	}
}

/* The kernel does, page by page. */
int buffers_platform_commit(uintptr_t address, size_t size, unsigned kind)
{
	(void)address;
	(void)size;
	(void)kind;
	return 0;
}

int buffers_platform_unmap(uintptr_t address, size_t size)
{
	if (munmap((void *)address, size) == 0)
		return 0;
	return errno == EINVAL ? EINVAL : ENOMEM;
}

/*
 * Mappings
 */

static int ask(int descriptor, uintptr_t address, struct map_query *answer)
{
	*answer = (struct map_query){
		.size = sizeof(*answer),
		.flags = COVERING_OR_NEXT,
		.address = address,
	};
	return syscall(SYS_ioctl, descriptor, MAP_QUERY, answer) == 0 ? 0 : errno;
}

static int query(int descriptor, uintptr_t address, struct buffers_span *mapping)
{
	struct map_query answer;
	int error = ask(descriptor, address, &answer);

	if (!error)
		*mapping = (struct buffers_span){ (uintptr_t)answer.start, (uintptr_t)answer.end };
	return error;
}

/* msync() that has nothing to do says ENOMEM where a page is not mapped. */
static bool is_mapped(uintptr_t address, size_t size)
{
	return syscall(SYS_msync, address, size, MS_ASYNC) == 0;
}

static uintptr_t end_of_mapped(uintptr_t start)
{
	size_t page = buffers_platform_granularity();
	size_t known = page;
	size_t step;

	while (is_mapped(start + known, known))
		known *= 2;
	for (step = known / 2; step >= page; step /= 2)
		if (is_mapped(start + known, step))
			known += step;
	return start + known;
}

static uintptr_t start_of_mapped(uintptr_t end)
{
	size_t page = buffers_platform_granularity();
	size_t known = page;
	size_t step;

	while (is_mapped(end - 2 * known, known))
		known *= 2;
	for (step = known / 2; step >= page; step /= 2)
		if (is_mapped(end - known - step, step))
			known += step;
	return end - known;
}

static int probe(struct buffers_span span, struct buffers_span *mapping)
{
	size_t page = buffers_platform_granularity();

	for (uintptr_t address = span.start; address < span.end; address += page) {
		if (!is_mapped(address, page))
			continue;
		mapping->start = address > span.start ? address : start_of_mapped(address + page);
		mapping->end = end_of_mapped(address);
		return 0;
	}
	return ENOENT;
}

int buffers_platform_maps_find(const struct buffers_maps *maps, struct buffers_span span,
			       struct buffers_span *mapping)
{
	int error = EBADF;

	if (maps->kind == BUFFERS_MAPS_QUERY)
		error = query(maps->descriptor, span.start, mapping);
	if (error && error != ENOENT)	/* also where another thread has closed it */
		return probe(span, mapping);
	return !error && mapping->start < span.end ? 0 : ENOENT;
}

/* "START-END PERMISSIONS ... NAME\n" in hexadecimal, read byte by byte. */
struct line {
	uintptr_t number[2];
	enum { LINE_START, LINE_END, LINE_PERMISSIONS, LINE_REST } part;
	unsigned permissions;	/* SYS_MAP_... */
};

static unsigned permission_of(char byte)
{
	switch (byte) {
	case 'r':
		return SYS_MAP_READ;
	case 'w':
		return SYS_MAP_WRITE;
	case 'x':
		return SYS_MAP_EXECUTE;
	case 's':
		return SYS_MAP_SHARED;
	default:
		return 0;
	}
}

static bool line_ends(struct line *line, char byte)
{
	uintptr_t digit;

	if (byte == '\n') {
		line->part = LINE_START;
		return true;
	}
	if (line->part >= LINE_PERMISSIONS) {
		if (line->part == LINE_PERMISSIONS)
			line->permissions |= permission_of(byte);
		if (byte == ' ')
			line->part = LINE_REST;
		return false;
	}
	if (byte >= '0' && byte <= '9') {
		digit = (uintptr_t)(byte - '0');
	} else if (byte >= 'a' && byte <= 'f') {
		digit = (uintptr_t)(byte - 'a' + 10);
	} else {
		line->part++;
		return false;
	}
	line->number[line->part] = line->number[line->part] << 4 | digit;
	return false;
}

static int read_lines(const struct buffers_maps *maps,
		      void (*visit)(const struct line *line, void *context), void *context)
{
	char bytes[4096];	/* the kernel gives no more at a time */
	struct line line = { .part = LINE_START };
	ssize_t got;

	if (syscall(SYS_lseek, maps->descriptor, 0L, SEEK_SET) != 0)
		return EIO;
	while ((got = sys_read(maps->descriptor, bytes, sizeof(bytes))) > 0) {
		for (ssize_t i = 0; i < got; i++) {
			if (!line_ends(&line, bytes[i]))
				continue;
			visit(&line, context);
			line = (struct line){ .part = LINE_START };
		}
	}
	return got == 0 ? 0 : EIO;
}

struct visitor {
	void (*visit)(struct buffers_span mapping, void *context);
	void *context;
};

static void visit_span(const struct line *line, void *context)
{
	const struct visitor *visitor = context;

	visitor->visit((struct buffers_span){ line->number[0], line->number[1] },
		       visitor->context);
}

int buffers_platform_maps_scan(const struct buffers_maps *maps,
			       void (*visit)(struct buffers_span mapping, void *context),
			       void *context)
{
	struct visitor visitor = { visit, context };

	return read_lines(maps, visit_span, &visitor);
}

/* Of the mapping at an address, by its line. */
struct wanted_line {
	uintptr_t address;
	bool is_found;
	unsigned permissions;
};

static void compare_line(const struct line *line, void *context)
{
	struct wanted_line *wanted = context;

	if (wanted->address < line->number[0] || wanted->address >= line->number[1])
		return;
	wanted->is_found = true;
	wanted->permissions = line->permissions;
}

static bool find_permissions(const struct buffers_maps *maps, uintptr_t address,
			     unsigned *permissions)
{
	struct wanted_line wanted = { .address = address };
	struct map_query answer;

	if (maps->kind == BUFFERS_MAPS_QUERY) {
		wanted.is_found = ask(maps->descriptor, address, &answer) == 0 &&
				  answer.start <= address;
		wanted.permissions = (unsigned)answer.permissions;
	} else if (maps->kind == BUFFERS_MAPS_SCAN) {
		read_lines(maps, compare_line, &wanted);
	}
	*permissions = wanted.permissions;
	return wanted.is_found;
}

static bool is_readable(int descriptor)
{
	char byte;

	return sys_read(descriptor, &byte, 1) == 1;
}

void buffers_platform_maps_open(struct buffers_maps *maps)
{
	/*
	 * The first is empty once the main thread has ended; the second, since
	 * Linux 3.17, shows qemu-user's own mappings rather than the program's, which
	 * are not always among them.
	 */
	static const char *const names[] = { "/proc/self/maps", "/proc/thread-self/maps" };
	struct buffers_span mapping;
	unsigned permissions;

	*maps = (struct buffers_maps){ .descriptor = -1 };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		maps->descriptor = sys_open(AT_FDCWD, names[i], O_RDONLY, 0);
		if (maps->descriptor < 0)
			continue;
		maps->kind = BUFFERS_MAPS_QUERY;
		if (query(maps->descriptor, 0, &mapping) == 0)
			return;
		maps->kind = BUFFERS_MAPS_SCAN;
		if (i == 0 ? is_readable(maps->descriptor) :
			     find_permissions(maps, (uintptr_t)&mapping, &permissions))
			return;
		sys_close(maps->descriptor);
	}
	*maps = (struct buffers_maps){ .descriptor = -1, .kind = BUFFERS_MAPS_PROBE };
}

void buffers_platform_maps_close(struct buffers_maps *maps)
{
	if (maps->descriptor >= 0)
		sys_close(maps->descriptor);
}

bool buffers_platform_permissions(uintptr_t address, unsigned *permissions)
{
	struct buffers_maps maps;
	bool is_found;

	buffers_platform_maps_open(&maps);
	is_found = find_permissions(&maps, address, permissions);
	buffers_platform_maps_close(&maps);
	return is_found;
}

/* What could be had is memory by ptrace(2), and no library stops other processes. */
int buffers_platform_maps_open_in(uint32_t process, struct buffers_maps *maps,
				  struct buffers_span *usable)
{
	(void)process;
	(void)maps;
	(void)usable;
	return ENOSYS;
}

int buffers_platform_map_in(const struct buffers_maps *maps, uintptr_t address, size_t size,
			    unsigned kind)
{
	(void)maps;
	(void)address;
	(void)size;
	(void)kind;
	return ENOSYS;
}

int buffers_platform_unmap_in(const struct buffers_maps *maps, uintptr_t address, size_t size)
{
	(void)maps;
	(void)address;
	(void)size;
	return ENOSYS;
}

/*
 * Memory that may not be there
 */

/*
 * Moves nobody from the word to another, but reads it first.  Emulators, which read
 * for themselves what most other calls are given, leave that to the kernel.
 */
static bool is_readable_word(uintptr_t word)
{
	uint32_t other = 0;

	return syscall(SYS_futex, word, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 0L, 0L, &other,
		       0L) >= 0 || errno == EAGAIN;
}

static int peek_page_by_page(uintptr_t address, void *copy, size_t size)
{
	enum { PAGE = 4096 };	/* an emulator's may be larger than the kernel's */
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
	/* Filters may forbid it, and emulators not know it. */
	if (got >= 0 || errno == EFAULT || address > UINTPTR_MAX - size)
		return EFAULT;
	return peek_page_by_page(address, copy, size);
}

bool buffers_platform_is_readable(uintptr_t address, size_t size)
{
	size_t page = buffers_platform_granularity();
	uint64_t word;

	if (address > UINTPTR_MAX - size)
		return false;
	for (uintptr_t at = buffers_page_down(address); at < address + size; at += page)
		if (buffers_platform_try_read(at, &word, sizeof(word)) != 0)
			return false;
	return true;
}

/* An atomic "or 0" by the kernel.  Nobody waits for what it would wake. */
static bool can_or_nothing(uintptr_t word)
{
	uint32_t unused = 0;

	return syscall(SYS_futex, &unused, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0L, 0L, word,
		       FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0)) >= 0;
}

/*
 * Emulators seal pages that they execute.  What is to be read there, were there a file to
 * read from, makes them break the seal.
 */
static bool is_writable_word(uintptr_t word)
{
	if (can_or_nothing(word))
		return true;
	sys_read(-1, (void *)word, sizeof(uint32_t));
	return can_or_nothing(word);
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

/*
 * The process
 */

int buffers_platform_map_state(void **page)
{
	size_t size = buffers_platform_granularity();
	uintptr_t address;
	int error = buffers_platform_map_anywhere(size, BUFFERS_KIND_RW, &address);

	if (error)
		return error;
	*page = (void *)address;
	madvise(*page, size, MADV_WIPEONFORK);	/* since Linux 4.14 */
	return 0;
}

static void (*call_in_child)(void);

static void go_on_in_child(void)
{
	buffers_platform_write_after_fork();
	call_in_child();
}

void buffers_platform_at_fork(void (*child)(void))
{
	call_in_child = child;
	pthread_atfork(NULL, NULL, go_on_in_child);
}

uint32_t buffers_platform_pid(void)
{
	return (uint32_t)syscall(SYS_getpid);
}

uint64_t buffers_platform_pid_namespace(void)
{
	struct statx status;

	return sys_stat(AT_FDCWD, "/proc/self/ns/pid", 0, &status) ? status.stx_ino : 0;
}

/* The linker's notes on what we are part of; a static executable has none. */
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
 * The kernel reads a thread's list of robust mutexes when it ends: set_robust_list(2).
 * Emulators have no such call, which not all C libraries mind.
 */
bool buffers_platform_has_robust_locks(void)
{
	void *list;
	size_t size;

	return syscall(SYS_get_robust_list, 0L, &list, &size) == 0 || errno != ENOSYS;
}

static pthread_mutex_t *mutex_of(struct buffers_robust_lock *lock)
{
	_Static_assert(sizeof(pthread_mutex_t) <= sizeof(*lock), "the lock is one");
	return (pthread_mutex_t *)lock;
}

bool buffers_platform_lock_init(struct buffers_robust_lock *lock)
{
	pthread_mutexattr_t attributes;

	return pthread_mutexattr_init(&attributes) == 0 &&
	       pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
	       pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0 &&
	       pthread_mutex_init(mutex_of(lock), &attributes) == 0;
}

static bool has_locked(int error, pthread_mutex_t *mutex)
{
	if (error == EOWNERDEAD)
		error = pthread_mutex_consistent(mutex);
	return error == 0;
}

bool buffers_platform_lock(struct buffers_robust_lock *lock)
{
	return has_locked(pthread_mutex_lock(mutex_of(lock)), mutex_of(lock));
}

bool buffers_platform_trylock(struct buffers_robust_lock *lock)
{
	return has_locked(pthread_mutex_trylock(mutex_of(lock)), mutex_of(lock));
}

bool buffers_platform_unlock(struct buffers_robust_lock *lock)
{
	return pthread_mutex_unlock(mutex_of(lock)) == 0;
}

uint64_t buffers_platform_random(void)
{
	static uint64_t drawn;
	uint64_t number;

	if (syscall(SYS_getrandom, &number, sizeof(number), GRND_NONBLOCK) == sizeof(number))
		return number;
	/* Early at boot, or refused: stretch what the kernel gave at exec, and parents share. */
	memcpy(&number, (const void *)stack_top(), sizeof(number));
	number ^= (uint64_t)buffers_platform_pid() << 32;
	number += 0x9e3779b97f4a7c15u * (1 + __atomic_fetch_add(&drawn, 1, __ATOMIC_RELAXED));
	number = (number ^ number >> 32) * 0xd6e8feb86659fd93u;
	return number ^ number >> 32;
}

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
		/* The holder may be of a lower real-time priority than we. */
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
		pthread_setcancelstate(state, &state);
	}
}

#ifdef __powerpc64__

/*
 * Compilers leave it to us: their __clear_cache() does nothing (Power ISA, book II,
 * "Instruction Storage").  No processor of 64 bits has smaller blocks.
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
