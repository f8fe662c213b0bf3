/* SPDX-License-Identifier: MIT */
/* hook-machine.c: the hooking code for the processor of this build */

#include "hook-machine.h"

#if defined(__x86_64__) || defined(__i386__)
# include "hook-x86.c"
#elif defined(__AARCH64EL__)
# include "hook-arm64.c"
#else
# error "no hook-*.c supports this processor"
#endif
