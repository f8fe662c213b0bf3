/* SPDX-License-Identifier: MIT */
/* hook-targets-i386.h: functions for hook-targets.c */

#define MACHINE "i386"

FUNCTION(tiny, "xor %eax, %eax\n ret");
__asm__(".text\n .globl unsized\n unsized: push $7\n pop %eax\n ret");
long unsized(long);
__asm__(".globl falls_through\n .type falls_through, @function\n falls_through: mov 4(%esp), %eax\n"
	".size falls_through, . - falls_through\n neg %eax\n ret\n"
	".globl table\n .type table, @object\n table: .long 5, 5\n"
	".data\n .globl untyped\n untyped: .long 5\n .text");
long falls_through(long);
FUNCTION(jumper, "jmp 1f\n .byte 1, 2, 3, 4\n 1: mov 4(%esp), %eax\n ret");
FUNCTION(zero_jump, "jecxz 1f\n mov 4(%esp), %eax\n ret\n 1: mov 4(%esp), %eax\n ret");
FUNCTION(looper, "mov 4(%esp), %ecx\n loop 1f\n mov $3, %eax\n ret\n 1: mov $4, %eax\n ret");
FUNCTION(inside, "xor %eax, %eax\n 1: inc %eax\n cmp 4(%esp), %eax\n jl 1b\n ret");
FUNCTION(entered_inside, "nop\n entered_inside_target: mov 4(%esp), %eax\n add %eax, %eax\n ret");
FUNCTION(jump_inside, "incl 4(%esp)\n nop\n jmp entered_inside_target");
FUNCTION(short_branch, "xor %eax, %eax\n je 1f\n mov $41, %eax\n ret\n 1: mov 4(%esp), %eax\n ret");
FUNCTION(short_branches, "xor %eax, %eax\n jne 1f\n je 2f\n ret\n 1: mov $42, %eax\n ret\n"
	 "2: mov 4(%esp), %eax\n ret");
FUNCTION(hinted_branch, "xor %eax, %eax\n .byte 0x3e\n je 1f\n mov $44, %eax\n ret\n"
	 "1: mov 4(%esp), %eax\n ret");
FUNCTION(short_jump, "mov 4(%esp), %eax\n jmp 1f\n .byte 1, 2, 3\n 1: ret");
FUNCTION(long_branch, "xor %eax, %eax\n .byte 0x0f, 0x84\n .long 1f - . - 4\n ret\n"
	 "1: mov 4(%esp), %eax\n ret");
FUNCTION(long_jump, ".byte 0xe9\n .long increment - . - 4");
FUNCTION(call, "push 4(%esp)\n call increment\n pop %edx\n inc %eax\n ret");
/* Two common openings of position-independent code. */
FUNCTION(call_next, "call 1f\n 1: pop %edx\n mov number - 1b(%edx), %eax\n add 4(%esp), %eax\n ret");
FUNCTION(get_pc, "mov (%esp), %edx\n ret");
FUNCTION(call_thunk, "call get_pc\n 1: mov number - 1b(%edx), %eax\n add 4(%esp), %eax\n ret");
FUNCTION(push_call_thunk, "push %ebx\n call get_pc\n 1: mov number - 1b(%edx), %eax\n"
	 "add 8(%esp), %eax\n pop %ebx\n ret");
FUNCTION(registers, "mov %eax, %ecx\n mov %ecx, %eax\n add %edx, %eax\n ret");
FUNCTION(pass_registers, "mov 4(%esp), %eax\n mov $99, %edx\n call registers\n add %ecx, %eax\n ret");
FUNCTION(whole, "mov 4(%esp), %eax\n ret");
FUNCTION(recursive, "decl 4(%esp)\n js 1f\n jmp recursive\n 1: mov $47, %eax\n ret");
FUNCTION(probe_number, "mov 4(%esp), %eax\n not %eax\n ret");

#define REPORT_ALL \
	REPORT(tiny) REPORT(unsized) REPORT(falls_through) REPORT(jumper) REPORT(zero_jump) \
	REPORT(looper) REPORT(inside) REPORT(entered_inside) REPORT(jump_inside) \
	REPORT(short_branch) REPORT(short_branches) REPORT(hinted_branch) REPORT(short_jump) \
	REPORT(long_branch) REPORT(long_jump) REPORT(call) REPORT(call_next) REPORT(call_thunk) \
	REPORT(push_call_thunk) REPORT(pass_registers) REPORT(whole)
