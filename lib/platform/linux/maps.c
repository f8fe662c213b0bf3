/* SPDX-License-Identifier: MIT */
/*
 * maps.c: the mappings of the process, by PROCMAP_QUERY, /proc/self/maps or msync(2)
 *
 * Cold functions spend their time in system calls: the compiler makes them small.
 */

#include "config.h"
#include "platform/linux/internal.h"

#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/*
 * Query: PROCMAP_QUERY
 */

/* struct procmap_query of <linux/fs.h>, since Linux 6.11. */
struct map_query {
	uint64_t size;
	uint64_t flags;
	uint64_t address;
	uint64_t start;
	uint64_t end;
	uint64_t permissions;
	uint64_t unused[7];	/* page size, file and name */
};
_Static_assert(sizeof(struct map_query) == 104, "the size is part of the request's number");
#define MAP_QUERY		_IOWR('f', 17, struct map_query)
#define COVERING_OR_NEXT	0x10

static int send_query(int descriptor, uintptr_t address, struct map_query *answer)
{
	*answer = (struct map_query){
		.size = sizeof(*answer),
		.flags = COVERING_OR_NEXT,
		.address = address,
	};
	return syscall(SYS_ioctl, descriptor, MAP_QUERY, answer) == 0 ? 0 : errno;
}

/* Finds the mapping at the address, or the next one above it. */
static int query_mapping(int descriptor, uintptr_t address, struct buffers_span *mapping)
{
	struct map_query answer;
	int error = send_query(descriptor, address, &answer);

	if (!error)
		*mapping = (struct buffers_span){ (uintptr_t)answer.start, (uintptr_t)answer.end };
	return error;
}

/*
 * Probe: msync(2)
 */

/* msync(MS_ASYNC) has no effect, and fails with ENOMEM where a page is not mapped. */
static bool is_mapped(uintptr_t address, size_t size)
{
	return syscall(SYS_msync, address, size, MS_ASYNC) == 0;
}

/*
 * valgrind would report the question as an error of the program.  It hides the vDSO from programs,
 * which no kernel does unless it is told to when it boots.
 */
bool buffers_platform_is_packed(struct buffers_span span)
{
	return getauxval(AT_SYSINFO_EHDR) != 0 && is_mapped(span.start, buffers_span_size(span));
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

static int probe_span(struct buffers_span span, struct buffers_span *mapping)
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

/* Falls back to a probe, for instance when another thread has closed the descriptor. */
__attribute__((cold))
int buffers_platform_maps_find(const struct buffers_maps *maps, struct buffers_span span,
			       struct buffers_span *mapping)
{
	int error = EBADF;

	if (maps->method == BUFFERS_MAPS_QUERY)
		error = query_mapping(maps->descriptor, span.start, mapping);
	if (error && error != ENOENT)
		return probe_span(span, mapping);
	return !error && mapping->start < span.end ? 0 : ENOENT;
}

/*
 * Scan: /proc/self/maps
 */

/* "START-END PERMISSIONS ... NAME\n" in hexadecimal, parsed byte by byte. */
struct line {
	uintptr_t number[2];
	enum { LINE_START, LINE_END, LINE_PERMISSIONS, LINE_REST } part;
	unsigned permissions;	/* PERM_... */
};

static unsigned permission_of(char byte)
{
	switch (byte) {
	case 'r':
		return PERM_READ;
	case 'w':
		return PERM_WRITE;
	case 'x':
		return PERM_EXECUTE;
	case 's':
		return PERM_SHARED;
	default:
		return 0;
	}
}

/* Parses one byte; true at the end of a line. */
static bool parse_byte(struct line *line, char byte)
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

static int parse_maps(const struct buffers_maps *maps,
		      void (*visit)(const struct line *line, void *context), void *context)
{
	char bytes[4096];	/* the kernel returns at most a page at a time */
	struct line line = { .part = LINE_START };
	ssize_t got;

	if (syscall(SYS_lseek, maps->descriptor, 0L, SEEK_SET) != 0)
		return EIO;
	while ((got = buffers_sys_read(maps->descriptor, bytes, sizeof(bytes))) > 0) {
		for (ssize_t i = 0; i < got; i++) {
			if (!parse_byte(&line, bytes[i]))
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

static void visit_line(const struct line *line, void *context)
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

	return parse_maps(maps, visit_line, &visitor);
}

/*
 * Permissions
 */

struct permission_search {
	uintptr_t address;
	bool is_found;
	unsigned permissions;
};

static void compare_line(const struct line *line, void *context)
{
	struct permission_search *search = context;

	if (search->address < line->number[0] || search->address >= line->number[1])
		return;
	search->is_found = true;
	search->permissions = line->permissions;
}

static bool find_permissions(const struct buffers_maps *maps, uintptr_t address,
			     unsigned *permissions)
{
	struct permission_search search = { .address = address };
	struct map_query answer;

	if (maps->method == BUFFERS_MAPS_QUERY) {
		search.is_found = send_query(maps->descriptor, address, &answer) == 0 &&
				  answer.start <= address;
		search.permissions = (unsigned)answer.permissions;
	} else if (maps->method == BUFFERS_MAPS_SCAN) {
		parse_maps(maps, compare_line, &search);
	}
	*permissions = search.permissions;
	return search.is_found;
}

bool buffers_linux_permissions(uintptr_t address, unsigned *permissions)
{
	struct buffers_maps maps;
	bool is_found;

	buffers_platform_maps_open(&maps);
	is_found = find_permissions(&maps, address, permissions);
	buffers_platform_maps_close(&maps);
	return is_found;
}

/* Mappings without a gap between them that permit what is asked for. */
struct reach {
	uintptr_t end;
	unsigned permissions;
};

static void extend_reach(struct reach *reach, uintptr_t start, uintptr_t end, unsigned permissions)
{
	if (start <= reach->end && reach->end < end &&
	    (permissions & reach->permissions) == reach->permissions)
		reach->end = end;
}

static void extend_by_line(const struct line *line, void *context)
{
	extend_reach(context, line->number[0], line->number[1], line->permissions);
}

/* ENOENT: the end is reached, or nothing is mapped above. */
static int extend_by_query(const struct buffers_maps *maps, struct reach *reach, uintptr_t end)
{
	struct map_query answer;
	uintptr_t start = reach->end;
	int error = start < end ? send_query(maps->descriptor, start, &answer) : ENOENT;

	if (!error)
		extend_reach(reach, (uintptr_t)answer.start, (uintptr_t)answer.end,
			     (unsigned)answer.permissions);
	return !error && reach->end == start ? ENOENT : error;
}

/* ENOENT: *reach is complete.  Other errors: the list cannot be read. */
static int find_reach(const struct buffers_maps *maps, struct reach *reach, uintptr_t end)
{
	int error = EBADF;

	if (maps->method == BUFFERS_MAPS_SCAN)
		error = parse_maps(maps, extend_by_line, reach) == 0 ? ENOENT : EIO;
	else if (maps->method == BUFFERS_MAPS_QUERY)
		do
			error = extend_by_query(maps, reach, end);
		while (!error);
	return error;
}

static bool probe_access(uintptr_t address, size_t size, enum buffers_kind kind)
{
	uintptr_t start = address & ~(uintptr_t)3;

	if (kind == BUFFERS_KIND_RX)
		return buffers_platform_is_readable(address, size);
	return buffers_platform_is_writable(start, (address + size - start + 3) & ~(size_t)3);
}

__attribute__((cold))
bool buffers_platform_maps_permit(const struct buffers_maps *maps, uintptr_t address,
				  size_t size, enum buffers_kind kind)
{
	static const unsigned permissions[BUFFERS_KINDS] = {
		[BUFFERS_KIND_RWX] = PERM_READ | PERM_WRITE | PERM_EXECUTE,
		[BUFFERS_KIND_RW] = PERM_READ | PERM_WRITE,
		[BUFFERS_KIND_RX] = PERM_READ | PERM_EXECUTE,
	};
	struct reach reach = { address, permissions[kind] };

	if (size == 0 || address > UINTPTR_MAX - 3 - size)
		return false;
	if (find_reach(maps, &reach, address + size) != ENOENT)
		return probe_access(address, size, kind);
	return reach.end >= address + size;
}

/*
 * Opening
 */

static bool has_content(int descriptor)
{
	char byte;

	return buffers_sys_read(descriptor, &byte, 1) == 1;
}

/*
 * /proc/self/maps is empty after the main thread has ended.  /proc/thread-self/maps, since
 * Linux 3.17, is tried second: under qemu-user it lists the emulator's mappings, so it counts
 * only if it lists the library's own stack.
 */
__attribute__((cold))
void buffers_platform_maps_open(struct buffers_maps *maps)
{
	static const char *const names[] = { "/proc/self/maps", "/proc/thread-self/maps" };
	struct buffers_span mapping;
	unsigned permissions;

	*maps = (struct buffers_maps){ .descriptor = -1 };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		maps->descriptor = buffers_sys_open(AT_FDCWD, names[i], O_RDONLY, 0);
		if (maps->descriptor < 0)
			continue;
		maps->method = BUFFERS_MAPS_QUERY;
		if (query_mapping(maps->descriptor, 0, &mapping) == 0)
			return;
		maps->method = BUFFERS_MAPS_SCAN;
		if (i == 0 ? has_content(maps->descriptor) :
			     find_permissions(maps, (uintptr_t)&mapping, &permissions))
			return;
		buffers_sys_close(maps->descriptor);
	}
	*maps = (struct buffers_maps){ .descriptor = -1, .method = BUFFERS_MAPS_PROBE };
}

void buffers_platform_maps_close(struct buffers_maps *maps)
{
	if (maps->descriptor >= 0)
		buffers_sys_close(maps->descriptor);
}
