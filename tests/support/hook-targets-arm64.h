/* SPDX-License-Identifier: MIT */
/* hook-targets-arm64.h: functions for hook-targets.c */

#define MACHINE "arm64"

__asm__(".text\n .p2align 3\n literal: .quad 0x100000000003, -4\n"
	"back: mov x0, #43\n ret");

/* Each kind of instruction that must be changed when it is moved, mostly in both directions. */
FUNCTION(address, "adr x1, 1f + 1\n add x0, x0, x1\n adr x1, 1f\n sub x0, x0, x1\n ret\n 1:");
FUNCTION(address_back, "adr x1, literal\n ldr x1, [x1]\n add x0, x0, x1\n ret");
FUNCTION(page, "adrp x1, number\n ldr x1, [x1, :lo12:number]\n add x0, x0, x1\n ret");
FUNCTION(page_back, "adrp x1, literal\n ldr x1, [x1, :lo12:literal]\n add x0, x0, x1\n ret");
FUNCTION(load_32, "ldr w1, 1f\n add x0, x0, x1\n ret\n .p2align 2\n 1: .word -2");
FUNCTION(load_64, "ldr x1, 1f\n add x0, x0, x1\n ret\n .p2align 3\n 1: .quad -2");
FUNCTION(load_64_back, "ldr x1, literal\n add x0, x0, x1\n ret");
FUNCTION(load_signed, "ldrsw x1, 1f\n add x0, x0, x1\n ret\n .p2align 2\n 1: .word -2");
FUNCTION(load_single, "ldr s16, 1f\n umov x1, v16.d[0]\n add x0, x0, x1\n ret\n 1: .word -2");
FUNCTION(load_double, "ldr d16, literal\n umov x1, v16.d[0]\n add x0, x0, x1\n ret");
FUNCTION(load_quad, "ldr q16, literal\n umov x1, v16.d[1]\n add x0, x0, x1\n ret");
FUNCTION(prefetch, "prfm pldl1keep, literal\n add x0, x0, #3\n ret");
FUNCTION(jump, "b 1f\n .word 0, 0\n 1: add x0, x0, #4\n ret");
FUNCTION(jump_back, "b increment");
/* Returns through x9 instead of x30. */
FUNCTION(called, "bl increment\n add x0, x0, #1\n br x9");
FUNCTION(call, "stp x29, x30, [sp, #-16]!\n adr x9, 1f\n b called\n"
	 "1: ldp x29, x30, [sp], #16\n ret");
FUNCTION(if_less, "b.lt 1f\n mov x0, #44\n ret\n 1: mov x0, #45\n ret");
FUNCTION(compare, "cmp x0, #9\n b if_less");
FUNCTION(if_less_back, "b.lt back\n mov x0, #44\n ret");
FUNCTION(compare_back, "cmp x0, #9\n b if_less_back");
FUNCTION(if_zero, "cbz x0, 1f\n add x0, x0, #1\n ret\n 1: mov x0, #42\n ret");
FUNCTION(if_zero_back, "cbz w0, back\n add x0, x0, #1\n ret");
FUNCTION(unless_zero, "cbnz w0, 1f\n add x0, x0, #1\n ret\n 1: mov x0, #42\n ret");
FUNCTION(unless_bit, "tbz w0, #3, 1f\n add x0, x0, #1\n ret\n 1: mov x0, #42\n ret");
FUNCTION(unless_bit_back, "tbz x0, #3, back\n add x0, x0, #1\n ret");
FUNCTION(if_negative, "tbnz x0, #63, 1f\n add x0, x0, #1\n ret\n 1: mov x0, #42\n ret");

/* Functions with landing pads, which stay in place.  The instructions behind them are moved. */
FUNCTION(padded, "hint #34\n adr x1, literal\n ldr x1, [x1]\n add x0, x0, x1\n ret");	/* bti c */
FUNCTION(padded_for_jumps, "hint #36\n ldr x1, literal\n add x0, x0, x1\n ret");	/* bti j */
FUNCTION(padded_for_both, "hint #38\n cbz x0, 1f\n add x0, x0, #1\n 1: ret");	/* bti jc */
FUNCTION(signing, "hint #25\n stp x29, x30, [sp, #-16]!\n bl increment\n"	/* paciasp */
	 "ldp x29, x30, [sp], #16\n hint #29\n ret");
FUNCTION(signing_b, "hint #27\n stp x29, x30, [sp, #-16]!\n bl increment\n"	/* pacibsp */
	 "ldp x29, x30, [sp], #16\n hint #31\n ret");
FUNCTION(padded_signing, "hint #34\n hint #25\n mov x1, #1\n add x0, x0, x1\n hint #29\n ret");
/* On processors that check landing pads, indirect calls fail if a pad was changed. */
FUNCTION(pads, "ldr w0, padded\n .irp function, padded_for_jumps, padded_for_both, signing, signing_b\n"
	 "ldr w1, \\function\n add x0, x0, x1\n .endr\n ret");

FUNCTION(tiny, "ret");
FUNCTION(inside, "mov x1, #0\n 1: add x1, x1, #1\n cmp x1, x0\n b.lt 1b\n mov x0, x1\n ret");
FUNCTION(behind_pad, "hint #34\n 1: sub x0, x0, #1\n cmn x0, #20\n b.gt 1b\n ret");
__asm__(".globl only_pad\n .type only_pad, %function\n only_pad: hint #34\n"
	".size only_pad, . - only_pad\n neg x0, x0\n ret\n"
	".globl table\n .type table, %object\n table: .quad 5, 5\n"
	".data\n .globl untyped\n untyped: .quad 5\n .text");
long only_pad(long);
FUNCTION(variant, ".variant_pcs variant\n add x0, x0, #5\n ret");
FUNCTION(signing_with_pc, ".inst 0xdac1a3fe\n ret");		/* paciasppc; not called */
FUNCTION(recursive, "cbz x0, 1f\n sub x0, x0, #1\n b recursive\n 1: mov x0, #47\n ret");
FUNCTION(probe_number, "mvn x0, x0\n ret");

#define REPORT_ALL \
	REPORT(address) REPORT(address_back) REPORT(page) REPORT(page_back) REPORT(load_32) \
	REPORT(load_64) REPORT(load_64_back) REPORT(load_signed) REPORT(load_single) \
	REPORT(load_double) REPORT(load_quad) REPORT(prefetch) REPORT(jump) REPORT(jump_back) \
	REPORT(call) REPORT(compare) REPORT(compare_back) REPORT(if_zero) REPORT(if_zero_back) \
	REPORT(unless_zero) REPORT(unless_bit) REPORT(unless_bit_back) REPORT(if_negative) \
	REPORT(padded) REPORT(padded_for_jumps) REPORT(padded_for_both) REPORT(signing) \
	REPORT(signing_b) REPORT(padded_signing) REPORT(pads) REPORT(tiny) REPORT(inside) \
	REPORT(behind_pad) REPORT(only_pad) REPORT(variant)
