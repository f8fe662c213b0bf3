/* SPDX-License-Identifier: MIT */
/* shapes-i386.h: functions for shapes.c */

#define MACHINE "i386"

FUNCTION(tiny, "xor %eax, %eax\n ret");
__asm__(".text\n .globl unsized\n unsized: push $7\n pop %eax\n ret");
long unsized(long);
__asm__(".globl falling\n .type falling, @function\n falling: mov 4(%esp), %eax\n"
	".size falling, . - falling\n neg %eax\n ret\n"
	".globl table\n .type table, @object\n table: .long 5, 5\n"
	".data\n .globl untyped\n untyped: .long 5\n .text");
long falling(long);
FUNCTION(jumper, "jmp 1f\n .byte 1, 2, 3, 4\n 1: mov 4(%esp), %eax\n ret");
FUNCTION(zero_jump, "jecxz 1f\n mov 4(%esp), %eax\n ret\n 1: mov 4(%esp), %eax\n ret");
FUNCTION(looper, "mov 4(%esp), %ecx\n loop 1f\n mov $3, %eax\n ret\n 1: mov $4, %eax\n ret");
FUNCTION(inside, "xor %eax, %eax\n 1: inc %eax\n cmp 4(%esp), %eax\n jl 1b\n ret");
FUNCTION(from_afar, "nop\n from_afar_inside: mov 4(%esp), %eax\n add %eax, %eax\n ret");
FUNCTION(afar, "incl 4(%esp)\n nop\n jmp from_afar_inside");
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
/* What position-independent code begins with, in two ways. */
FUNCTION(call_next, "call 1f\n 1: pop %edx\n mov number - 1b(%edx), %eax\n add 4(%esp), %eax\n ret");
FUNCTION(place, "mov (%esp), %edx\n ret");
FUNCTION(call_thunk, "call place\n 1: mov number - 1b(%edx), %eax\n add 4(%esp), %eax\n ret");
FUNCTION(push_call_thunk, "push %ebx\n call place\n 1: mov number - 1b(%edx), %eax\n"
	 "add 8(%esp), %eax\n pop %ebx\n ret");
FUNCTION(registers, "mov %eax, %ecx\n mov %ecx, %eax\n add %edx, %eax\n ret");
FUNCTION(pass_registers, "mov 4(%esp), %eax\n mov $99, %edx\n call registers\n add %ecx, %eax\n ret");
FUNCTION(whole, "mov 4(%esp), %eax\n ret");
FUNCTION(recursive, "decl 4(%esp)\n js 1f\n jmp recursive\n 1: mov $47, %eax\n ret");
FUNCTION(probe_number, "mov 4(%esp), %eax\n not %eax\n ret");

#define TELL_ALL \
	TELL(tiny) TELL(unsized) TELL(falling) TELL(jumper) TELL(zero_jump) \
	TELL(looper) TELL(inside) TELL(from_afar) TELL(afar) TELL(short_branch) \
	TELL(short_branches) TELL(hinted_branch) TELL(short_jump) TELL(long_branch) \
	TELL(long_jump) TELL(call) TELL(call_next) TELL(call_thunk) \
	TELL(push_call_thunk) TELL(pass_registers) TELL(whole)
