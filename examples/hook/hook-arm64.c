/* SPDX-License-Identifier: MIT */
/*
 * hook-arm64.c: hooking with a branch of one instruction, for AArch64
 *
 * If the function starts with a landing pad (BTI), the branch is written after it, since
 * indirect calls must reach a landing pad.
 */

#include <link.h>

#ifndef STO_AARCH64_VARIANT_PCS
# define STO_AARCH64_VARIANT_PCS 0x80
#endif

enum {
	WORD = 4,		/* size of an instruction */
	FAR_JUMP = 4 * WORD,	/* ldr x16, address; br x16; address */
	SCRATCH = 17,		/* x17: free to use between a call and the function */
};

long machine_system_call(long number, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = 0;

	__asm__ volatile("svc #0" : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}

/*
 * The stub: copied to the buffer, where it falls through to the trampoline
 */

extern const uint8_t hook_stub[], hook_stub_callee[], hook_stub_end[];

__asm__(
	"	.pushsection .text\n"
	"	.p2align 3\n"
	"	.globl	hook_stub, hook_stub_callee, hook_stub_end\n"
	"	.hidden	hook_stub, hook_stub_callee, hook_stub_end\n"
	"hook_stub:\n"
	"	stp	x29, x30, [sp, #-304]!\n"
	"	mov	x29, sp\n"
	"	stp	x0, x1, [sp, #16]\n"
	"	stp	x2, x3, [sp, #32]\n"
	"	stp	x4, x5, [sp, #48]\n"
	"	stp	x6, x7, [sp, #64]\n"
	"	stp	x8, x9, [sp, #80]\n"
	"	stp	x10, x11, [sp, #96]\n"
	"	stp	x12, x13, [sp, #112]\n"
	"	stp	x14, x15, [sp, #128]\n"
	"	stp	x16, x17, [sp, #144]\n"
	"	mrs	x16, nzcv\n"
	"	stp	x18, x16, [sp, #160]\n"
	"	stp	q0, q1, [sp, #176]\n"
	"	stp	q2, q3, [sp, #208]\n"
	"	stp	q4, q5, [sp, #240]\n"
	"	stp	q6, q7, [sp, #272]\n"
	"	ldr	x16, hook_stub_callee\n"
	"	blr	x16\n"
	"	ldp	q6, q7, [sp, #272]\n"
	"	ldp	q4, q5, [sp, #240]\n"
	"	ldp	q2, q3, [sp, #208]\n"
	"	ldp	q0, q1, [sp, #176]\n"
	"	ldp	x18, x16, [sp, #160]\n"
	"	msr	nzcv, x16\n"
	"	ldp	x16, x17, [sp, #144]\n"
	"	ldp	x14, x15, [sp, #128]\n"
	"	ldp	x12, x13, [sp, #112]\n"
	"	ldp	x10, x11, [sp, #96]\n"
	"	ldp	x8, x9, [sp, #80]\n"
	"	ldp	x6, x7, [sp, #64]\n"
	"	ldp	x4, x5, [sp, #48]\n"
	"	ldp	x2, x3, [sp, #32]\n"
	"	ldp	x0, x1, [sp, #16]\n"
	"	ldp	x29, x30, [sp], #304\n"
	"	b	hook_stub_end\n"
	"	.p2align 3\n"
	"hook_stub_callee:\n"
	"	.quad	0\n"
	"hook_stub_end:\n"
	"	.popsection\n");

/*
 * Instructions
 */

static uint32_t instruction_at(const uint8_t *at)
{
	uint32_t instruction;

	memcpy(&instruction, at, sizeof(instruction));
	return instruction;
}

/* Returns the signed field of `width` bits that starts at bit `low`. */
static intptr_t field(uint32_t instruction, unsigned low, unsigned width)
{
	return (int32_t)(instruction << (32 - low - width)) >> (32 - width);
}

static bool is_branch(uint32_t instruction)		/* b, bl */
{
	return (instruction & 0x7c000000) == 0x14000000;
}

static bool is_branch_if(uint32_t instruction)		/* b.cond, bc.cond */
{
	return (instruction & 0xff000000) == 0x54000000;
}

static bool is_compare_and_branch(uint32_t instruction)	/* cbz, cbnz */
{
	return (instruction & 0x7e000000) == 0x34000000;
}

static bool is_test_and_branch(uint32_t instruction)	/* tbz, tbnz */
{
	return (instruction & 0x7e000000) == 0x36000000;
}

static bool is_conditional(uint32_t instruction)
{
	return is_branch_if(instruction) || is_compare_and_branch(instruction) ||
	       is_test_and_branch(instruction);
}

/* cb of Armv9.6; autiasppc and retaasppc, which contain the address of paciasppc. */
static bool contains_an_address(uint32_t instruction)
{
	return (instruction & 0x7e000000) == 0x74000000 ||
	       (instruction & 0xff000000) == 0x55000000 ||
	       (instruction & 0xff800000) == 0xf3800000;
}

static bool is_address(uint32_t instruction)		/* adr, adrp */
{
	return (instruction & 0x1f000000) == 0x10000000;
}

static bool is_load_literal(uint32_t instruction)	/* ldr, ldrsw, prfm */
{
	return (instruction & 0x3b000000) == 0x18000000;
}

/* bti in all its forms, paciasp, pacibsp: valid targets of indirect calls. */
static bool is_landing_pad(uint32_t instruction)
{
	return (instruction & 0xffffff3f) == 0xd503241f ||
	       (instruction & 0xffffffbf) == 0xd503233f;
}

/* paciasppc and similar instructions sign the return address with their own address. */
static bool signs_with_address(uint32_t instruction)
{
	return (instruction & 0xffffdbff) == 0xdac183fe;
}

/* Whether the bytes after this instruction may belong to other code or data. */
static bool is_last(uint32_t instruction)
{
	return (instruction & 0xfc000000) == 0x14000000 ||	/* b */
	       (instruction & 0xfe600000) == 0xd6000000 ||	/* br */
	       (instruction & 0xfe600000) == 0xd6400000 ||	/* ret */
	       (instruction & 0xffe0001f) == 0xd4200000 ||	/* brk */
	       instruction >> 16 == 0;				/* udf */
}

/* Target of a branch or of another PC-relative instruction. */
static uintptr_t target_of(const uint8_t *at)
{
	uint32_t instruction = instruction_at(at);
	uintptr_t address = (uintptr_t)at;

	if (is_branch(instruction))
		return address + (uintptr_t)field(instruction, 0, 26) * WORD;
	if (is_test_and_branch(instruction))
		return address + (uintptr_t)field(instruction, 5, 14) * WORD;
	if (!is_address(instruction))
		return address + (uintptr_t)field(instruction, 5, 19) * WORD;
	return address + (uintptr_t)field(instruction, 5, 19) * 4 + (instruction >> 29 & 3);
}

static size_t cover_instructions(const struct function *function, size_t most)
{
	const uint8_t *end = function->size ? function->entry + function->size : function->end;
	const uint8_t *at = function->patched;

	while (at < end && (size_t)(at - function->patched) < most) {
		at += WORD;
		if (is_last(instruction_at(at - WORD)))
			break;
	}
	return (size_t)(at - function->patched);
}

/* A branch to the entry is a call; a branch to the instruction after the landing pad is not. */
static const uint8_t *find_branch_inside(const struct function *function)
{
	for (const uint8_t *at = function->start; at + WORD <= function->end; at += WORD)
		if ((is_branch(instruction_at(at)) || is_conditional(instruction_at(at))) &&
		    target_of(at) == (uintptr_t)function->patched)
			return at;
	return NULL;
}

bool machine_examine(struct function *function)
{
	const uint8_t *branch = NULL;

	if (function->other & STO_AARCH64_VARIANT_PCS)
		return refuse("it may take arguments in registers that a call does not keep");
	if ((uintptr_t)function->entry % WORD)
		return refuse("it is not where instructions are");
	function->patched = function->entry;
	if (is_landing_pad(instruction_at(function->entry)))
		function->patched += WORD;
	function->stolen = cover_instructions(function, WORD);
	if (function->stolen < WORD)
		return refuse("its code ends with its landing pad");
	function->far_jump = FAR_JUMP;
	function->far_stolen = cover_instructions(function, FAR_JUMP);
	if (function->patched != function->entry)
		branch = find_branch_inside(function);
	if (branch)
		return refuse("a branch at %p goes behind its landing pad", (const void *)branch);
	return true;
}

/*
 * Moving an instruction
 */

static void put_word(struct code *code, uint32_t word)
{
	put(code, &word, sizeof(word));
}

static bool put_branch(struct code *code, uint32_t opcode, uintptr_t target)
{
	intptr_t distance = (intptr_t)(target - (code->address + code->size));

	if (distance < -0x8000000 || distance >= 0x8000000)
		return refuse("what it uses at %p is out of the trampoline's reach",
			      (void *)target);
	put_word(code, opcode | ((uint32_t)distance >> 2 & 0x3ffffff));
	return true;
}

bool machine_put_jump(struct code *code, uintptr_t target)
{
	return put_branch(code, 0x14000000, target);
}

/* ldr x, .+8; b .+12; address */
static void put_load_address(struct code *code, uint32_t reg, uintptr_t address)
{
	put_word(code, 0x58000040 | reg);
	put_word(code, 0x14000003);
	put(code, &address, sizeof(address));
}

/* The conditional branch selects one of two unconditional branches, which reach farther. */
static bool move_conditional(struct code *code, uint32_t instruction, uintptr_t target)
{
	uint32_t distance = is_test_and_branch(instruction) ? 0x3fff << 5 : 0x7ffff << 5;

	put_word(code, (instruction & ~distance) | 2 << 5);
	put_word(code, 0x14000002);
	return machine_put_jump(code, target);
}

static void move_address(struct code *code, const uint8_t *at)
{
	uint32_t instruction = instruction_at(at);
	uintptr_t address = target_of(at);

	if (instruction >> 31)			/* adrp */
		address = ((uintptr_t)at & ~(uintptr_t)4095) + (address - (uintptr_t)at) * 4096;
	put_load_address(code, instruction & 31, address);
}

/* The same load from [x17]. */
static void move_load_literal(struct code *code, const uint8_t *at)
{
	static const uint32_t general[4] = { 0xb9400000, 0xf9400000, 0xb9800000, 0xf9800000 };
	static const uint32_t vector[3] = { 0xbd400000, 0xfd400000, 0x3dc00000 };
	uint32_t instruction = instruction_at(at);
	bool is_vector = instruction & 1 << 26;
	uint32_t load = (is_vector ? vector : general)[instruction >> 30];

	put_load_address(code, SCRATCH, target_of(at));
	put_word(code, load | SCRATCH << 5 | (instruction & 31));
}

static bool move_instruction(struct code *code, const uint8_t *at)
{
	uint32_t instruction = instruction_at(at);

	if (signs_with_address(instruction) || contains_an_address(instruction) ||
	    (instruction & 0xff000000) == 0xdc000000)
		return refuse("its instruction 0x%08x cannot be moved", (unsigned)instruction);
	if (is_branch(instruction))
		return put_branch(code, instruction & 0xfc000000, target_of(at));
	if (is_conditional(instruction))
		return move_conditional(code, instruction, target_of(at));
	if (is_address(instruction))
		move_address(code, at);
	else if (is_load_literal(instruction))
		move_load_literal(code, at);
	else
		put_word(code, instruction);
	return true;
}

bool machine_make_code(struct function *function, struct code *code,
		       void (*on_call)(uintptr_t argument))
{
	uintptr_t callee = (uintptr_t)on_call;

	put(code, hook_stub, (size_t)(hook_stub_end - hook_stub));
	memcpy(code->bytes + (hook_stub_callee - hook_stub), &callee, sizeof(callee));
	function->trampoline = code->address + code->size;
	return move_instruction(code, function->patched) &&
	       machine_put_jump(code, (uintptr_t)function->patched + WORD);
}

/* Stores the word atomically, since another thread may execute it. */
void machine_write_jump(uint8_t *patched, const struct code *jump)
{
	__atomic_store_n((uint32_t *)(void *)patched, instruction_at(jump->bytes),
			 __ATOMIC_RELAXED);
}
