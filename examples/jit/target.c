/* SPDX-License-Identifier: MIT */
/* target.c: the code generator for the processor of this build */

#include "target.h"

#if defined(__x86_64__)
# include "target-x86-64.c"
#elif defined(__i386__)
# include "target-i386.c"
#elif defined(__ARMEL__) && __ARM_ARCH >= 7
# include "target-arm.c"
#elif defined(__AARCH64EL__)
# include "target-arm64.c"
#elif defined(__riscv) && __riscv_xlen == 64
# include "target-riscv64.c"
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
# include "target-ppc64el.c"
#elif defined(__s390x__)
# include "target-s390x.c"
#else
# error "no target-*.c supports this processor"
#endif
