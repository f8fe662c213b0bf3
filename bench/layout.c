/* SPDX-License-Identifier: MIT */
/* layout.c: adds mappings to the process, and counts its mappings */

#include "config.h"
#include "bench.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };

extern const char __executable_start[], _end[];	/* the linker defines these */

/* Adjacent mappings with equal protection would become one mapping. */
static int protection(unsigned i)
{
	return i % 2 ? PROT_READ : PROT_NONE;
}

static void map_in_area(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (mmap(NULL, PAGE, protection(i), MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
		    MAP_FAILED)
			err(1, "mmap");
}

/* Returns false if the address is in use, for example by the heap. */
static bool map_at(uintptr_t address, int protection)
{
	void *wanted = (void *)address;
	void *got = mmap(wanted, PAGE, protection,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (got == MAP_FAILED && errno != EEXIST)
		err(1, "mmap");
	return got == wanted;
}

static void map_below(unsigned count)
{
	uintptr_t address = (uintptr_t)__executable_start;

	for (unsigned i = 0; i < count;)
		i += map_at(address -= PAGE, protection(i));
}

static void map_above(unsigned count)
{
	uintptr_t address = ((uintptr_t)_end + PAGE - 1) & ~(uintptr_t)(PAGE - 1);

	for (unsigned i = 0; i < count; address += PAGE)
		i += map_at(address, protection(i));
}

void layout_make(unsigned mappings, enum layout layout)
{
	size_t present = usage_now().mappings;
	unsigned missing = mappings > present ? (unsigned)(mappings - present) : 0;

	switch (layout) {
	case AREA:
		map_in_area(missing);
		break;
	case BELOW:
		map_in_area(missing / 2);
		map_below(missing - missing / 2);
		break;
	case PACKED:
		map_below(missing / 2);
		map_above(missing - missing / 2);
		break;
	}
}

struct usage usage_now(void)
{
	static char bytes[65536];
	struct usage usage = { 0, 0 };
	int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	size_t bounds[2] = { 0, 0 };
	unsigned part = 0;
	ssize_t got;

	if (maps < 0)
		err(1, "/proc/self/maps");
	while ((got = read(maps, bytes, sizeof(bytes))) > 0) {
		for (ssize_t i = 0; i < got; i++) {
			char byte = bytes[i];

			if (byte == '\n') {
				usage.mappings++;
				usage.bytes += bounds[1] - bounds[0];
				bounds[0] = bounds[1] = 0;
				part = 0;
			} else if (part < 2 && (byte == '-' || byte == ' ')) {
				part++;
			} else if (part < 2) {
				bounds[part] = bounds[part] << 4 |
					       (size_t)(byte <= '9' ? byte - '0' : byte - 'a' + 10);
			}
		}
	}
	close(maps);
	return usage;
}
