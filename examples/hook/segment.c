/* SPDX-License-Identifier: MIT */
/* segment.c: the executable segment of a function, for hook and patch-loop */

#define _GNU_SOURCE

#include "segment.h"

#include <link.h>

static int compare_segments(struct dl_phdr_info *info, size_t size, void *context)
{
	struct function *function = context;

	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + header->p_vaddr;

		if (header->p_type != PT_LOAD || !(header->p_flags & PF_X) ||
		    (uintptr_t)function->entry - start >= header->p_memsz)
			continue;
		function->start = (const uint8_t *)start;
		function->end = function->start + header->p_memsz;
		return 1;
	}
	return 0;
}

bool find_segment(struct function *function)
{
	return dl_iterate_phdr(compare_segments, function) != 0;
}
