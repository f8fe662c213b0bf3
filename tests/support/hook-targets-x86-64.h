/* SPDX-License-Identifier: MIT */
/* hook-targets-x86-64.h: functions for hook-targets.c */

#define MACHINE "x86-64"

FUNCTION(tiny, "xor %eax, %eax\n ret");
__asm__(".text\n .globl unsized\n unsized: lea 1(%rdi), %eax\n ret");
long unsized(long);
__asm__(".globl falls_through\n .type falls_through, @function\n falls_through: lea 1(%rdi), %rax\n"
	".size falls_through, . - falls_through\n neg %rax\n ret\n"
	".globl table\n .type table, @object\n table: .quad 5, 5\n"
	".data\n .globl untyped\n untyped: .quad 5\n .text");
long falls_through(long);
FUNCTION(jumper, "jmp 1f\n .byte 1, 2, 3, 4\n 1: lea 2(%rdi), %rax\n ret");
FUNCTION(zero_jump, "jrcxz 1f\n lea 2(%rdi), %rax\n ret\n 1: lea 2(%rdi), %rax\n ret");
FUNCTION(looper, "mov %edi, %ecx\n loop 1f\n lea 3(%rdi), %rax\n ret\n 1: lea 4(%rdi), %rax\n ret");
FUNCTION(inside, "xor %eax, %eax\n 1: inc %eax\n cmp %edi, %eax\n jl 1b\n ret");
FUNCTION(entered_inside, "nop\n entered_inside_target: mov %rdi, %rax\n add %rdi, %rax\n ret");
FUNCTION(jump_inside, "lea 1(%rdi), %rdi\n nop\n jmp entered_inside_target");
FUNCTION(short_branch, "test %edi, %edi\n je 1f\n lea 1(%rdi), %rax\n ret\n"
	 "1: mov $42, %eax\n ret");
FUNCTION(short_branches, "test %edi, %edi\n je 1f\n js 2f\n lea 1(%rdi), %rax\n ret\n"
	 "1: mov $42, %eax\n ret\n 2: mov $43, %eax\n ret");
FUNCTION(hinted_branch, "cmp $7, %edi\n .byte 0x3e\n jg 1f\n mov $44, %eax\n ret\n"
	 "1: mov $45, %eax\n ret");
FUNCTION(short_jump, "lea 4(%rdi), %rax\n jmp 1f\n .byte 1, 2, 3\n 1: ret");
FUNCTION(long_branch, "test %edi, %edi\n .byte 0x0f, 0x84\n .long 1f - . - 4\n lea 6(%rdi), %rax\n"
	 "ret\n 1: mov $46, %eax\n ret");
FUNCTION(long_jump, ".byte 0xe9\n .long increment - . - 4");
FUNCTION(call, "sub $8, %rsp\n call increment\n add $8, %rsp\n inc %rax\n ret");
FUNCTION(operand, "mov number(%rip), %rax\n add %rdi, %rax\n ret");
FUNCTION(operand_immediate, "cmpq $5, number(%rip)\n setne %al\n movzx %al, %eax\n ret");
FUNCTION(operand_store, "push %rdi\n movl $5, number(%rip)\n pop %rax\n ret");
FUNCTION(operand_vector, "movq number(%rip), %xmm0\n movq %xmm0, %rax\n ret");
FUNCTION(whole, "mov %edi, %eax\n neg %eax\n ret");
FUNCTION(recursive, "test %rdi, %rdi\n je 1f\n dec %rdi\n jmp recursive\n 1: mov $47, %eax\n ret");
FUNCTION(probe_number, "lea 1(%rdi), %rax\n neg %rax\n ret");

#define REPORT_ALL \
	REPORT(tiny) REPORT(unsized) REPORT(falls_through) REPORT(jumper) REPORT(zero_jump) \
	REPORT(looper) REPORT(inside) REPORT(entered_inside) REPORT(jump_inside) \
	REPORT(short_branch) REPORT(short_branches) REPORT(hinted_branch) REPORT(short_jump) \
	REPORT(long_branch) REPORT(long_jump) REPORT(call) REPORT(operand) \
	REPORT(operand_immediate) REPORT(operand_store) REPORT(operand_vector) REPORT(whole)
