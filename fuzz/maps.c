/* SPDX-License-Identifier: MIT */
/*
 * maps.c: fuzzes the parser of /proc/self/maps in lib/platform/linux/maps.c
 *
 * Half of the inputs are a list of mappings, which is printed as the kernel prints it, with odd
 * names, and must be read back unchanged, however read(2) cuts it and is interrupted.  The
 * others are any bytes, which the parser must survive.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long fake_syscall(long number, ...);
#define syscall fake_syscall
#include "platform/linux/maps.c"
#include "platform/linux/sys.c"
#undef syscall

#include "input.h"

enum { DESCRIPTOR = 777, MOST = 4096, PIECES = 8 };

static struct {
	const char *text;
	size_t size, at;
	const uint8_t *pieces;	/* the sizes of the parts that read(2) returns */
	unsigned reads, interrupts;
} file;

static long fake_read(char *bytes, size_t size)
{
	unsigned piece = file.pieces[file.reads++ % PIECES];
	size_t part = piece == 255 ? 4096 : 1 + piece * 16;

	if (piece == 7 && file.interrupts) {
		file.interrupts--;
		errno = EINTR;
		return -1;
	}
	part = part < size ? part : size;
	part = part < file.size - file.at ? part : file.size - file.at;
	memcpy(bytes, file.text + file.at, part);
	file.at += part;
	return (long)part;
}

static long fake_syscall(long number, ...)
{
	va_list arguments;
	long first;
	char *bytes;

	va_start(arguments, number);
	first = number == SYS_lseek || number == SYS_read ? va_arg(arguments, int) : 0;
	if (first == DESCRIPTOR && number == SYS_lseek) {
		file.at = file.reads = 0;
		va_end(arguments);
		return 0;
	}
	CHECK(first == DESCRIPTOR && number == SYS_read);
	bytes = va_arg(arguments, char *);
	first = fake_read(bytes, va_arg(arguments, size_t));
	va_end(arguments);
	return first;
}

static const struct buffers_maps maps = {
	.descriptor = DESCRIPTOR, .method = BUFFERS_MAPS_SCAN,
};
static struct mapping { uintptr_t start, end; unsigned permissions; } wanted[MOST];
static struct buffers_span found[MOST];
static size_t found_count;

static void collect(struct buffers_span mapping, void *context)
{
	(void)context;
	if (found_count < MOST)
		found[found_count] = mapping;
	found_count++;
}

static void scan(const char *text, size_t size)
{
	file.text = text;
	file.size = size;
	file.interrupts = 3;
	found_count = 0;
	CHECK(buffers_platform_maps_scan(&maps, collect, NULL) == 0);
}

static void read_any_bytes(void)
{
	size_t lines = 0;
	unsigned permissions;

	for (size_t i = 0; i < input_left; i++)
		lines += input[i] == '\n';
	scan((const char *)input, input_left);
	CHECK(found_count == lines);
	find_permissions(&maps, 0x1000, &permissions);
}

static char *print_name(char *at, unsigned name)
{
	static const char *const names[] = {
		"", "                     [heap]", "   /tmp/a\\012b rwxs 0000-1111",
		"  //anon 1-2 rwxs (deleted)",
	};

	if (name < 4)
		return at + sprintf(at, "%s", names[name]);
	if (name == 4)	/* longer than a page */
		for (unsigned i = 0; i < 4200; i++)
			*at++ = "abcdef-0123 rwx:/"[i % 17];
	for (unsigned left = name % 32; left; left--) {
		char byte = (char)take_byte();

		*at++ = byte == '\n' ? '?' : byte;
	}
	return at;
}

static size_t print_mappings(char *text, size_t size, size_t *count)
{
	uintptr_t end = 0x1000;
	char *at = text;

	for (*count = 0; input_left > 4 && at < text + size - 8192 && *count < MOST; ++*count) {
		uintptr_t start = end + ((uintptr_t)take_byte() << (12 + take_byte() % 20));
		unsigned permissions = take_byte() % 16;

		end = start + ((uintptr_t)take_byte() % 32 + 1) * 4096;
		at += sprintf(at, "%08lx-%08lx %c%c%c%c %08x fe:%02x %u ", (unsigned long)start,
			      (unsigned long)end, permissions & 1 ? 'r' : '-',
			      permissions & 2 ? 'w' : '-', permissions & 4 ? 'x' : '-',
			      permissions & 8 ? 's' : 'p', permissions * 4096, permissions,
			      permissions * 33);
		at = print_name(at, take_byte());
		*at++ = '\n';
		wanted[*count] = (struct mapping){ start, end, permissions };
	}
	return (size_t)(at - text);
}

static void check_permissions(uintptr_t address, unsigned permissions)
{
	static const unsigned bits[] = { PERM_READ, PERM_WRITE, PERM_EXECUTE, PERM_SHARED };
	unsigned expected = 0, answer;

	for (unsigned i = 0; i < 4; i++)
		expected |= permissions & 1u << i ? bits[i] : 0;
	CHECK(find_permissions(&maps, address, &answer));
	CHECK(answer == expected);
}

static void read_mappings(void)
{
	static char text[1 << 20];
	size_t count;

	scan(text, print_mappings(text, sizeof(text), &count));
	CHECK(found_count == count);
	for (size_t i = 0; i < count; i++)
		CHECK(found[i].start == wanted[i].start && found[i].end == wanted[i].end);
	for (size_t i = 0; i < count; i += 1 + count / 8) {
		check_permissions(wanted[i].start, wanted[i].permissions);
		check_permissions(wanted[i].end - 1, wanted[i].permissions);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size <= PIECES)
		return 0;
	file.pieces = data;
	input = data + PIECES;
	input_left = size - PIECES;
	if (take_byte() & 1)
		read_any_bytes();
	else
		read_mappings();
	return 0;
}
