/* SPDX-License-Identifier: MIT */
/* hook-machine.c: the hooking for the processor that this is compiled for */

#include "hook-machine.h"

#if defined(__x86_64__) || defined(__i386__)
# include "hook-x86.c"
#elif defined(__AARCH64EL__)
# include "hook-arm64.c"
#else
# error "there is no hook-*.c for this processor"
#endif
