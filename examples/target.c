/* SPDX-License-Identifier: MIT */
/* target.c: the code generator for the processor that this is compiled for */

#include "target.h"

#if defined(__x86_64__)
# include "target-x86-64.c"
#else
# error "there is no target-*.c for this processor"
#endif
