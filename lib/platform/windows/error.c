/* SPDX-License-Identifier: MIT */
/* error.c: the meaning of a failed allocation */

#include "config.h"
#include "platform/windows/internal.h"

#include <errno.h>

#ifndef ERROR_DYNAMIC_CODE_BLOCKED
# define ERROR_DYNAMIC_CODE_BLOCKED 1655
#endif

int buffers_windows_classify_failure(void)
{
	switch (GetLastError()) {
	case ERROR_NOT_ENOUGH_MEMORY:
	case ERROR_OUTOFMEMORY:
	case ERROR_NO_SYSTEM_RESOURCES:
	case ERROR_NOT_ENOUGH_QUOTA:
	case ERROR_COMMITMENT_LIMIT:
	case ERROR_COMMITMENT_MINIMUM:
	case ERROR_PAGEFILE_QUOTA:
	case ERROR_WORKING_SET_QUOTA:
	case ERROR_TOO_MANY_OPEN_FILES:
		return ENOMEM;
	case ERROR_ACCESS_DENIED:
	case ERROR_DYNAMIC_CODE_BLOCKED:
		return EACCES;
	default:
		return EEXIST;
	}
}
