/* SPDX-License-Identifier: MIT */
/*
 * hook-x86.c: hooking with a jump of 5 bytes, for x86-64 and 32-bit x86
 *
 * The jump overwrites every instruction that it touches.  Zydis decodes the length of
 * these instructions and the fields that depend on their address.
 */

#include <Zydis/Zydis.h>

enum {
	JUMP = 5,		/* jmp rel32 */
#ifdef __x86_64__
	FAR_JUMP = 14,		/* jmp [rip], then the address */
#else
	FAR_JUMP = 0,		/* rel32 reaches all addresses */
#endif
};

#ifdef __x86_64__
long machine_system_call(long number, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = 0;
	long result;

	__asm__ volatile("syscall" : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#else
long machine_system_call(long number, long a, long b, long c, long d, long e)
{
	long result;

	__asm__ volatile("push %%ebp\n"
			 "	xor %%ebp, %%ebp\n"
			 "	int $0x80\n"
			 "	pop %%ebp"
			 : "=a"(result)
			 : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory");
	return result;
}
#endif

/*
 * The stub: copied to the buffer, where it falls through to the trampoline
 */

extern const uint8_t hook_stub[], hook_stub_callee[], hook_stub_end[];

__asm__(
	"	.pushsection .text\n"
	"	.globl	hook_stub, hook_stub_callee, hook_stub_end\n"
	"	.hidden	hook_stub, hook_stub_callee, hook_stub_end\n"
	"hook_stub:\n"
#ifdef __x86_64__
	"	push	%rbp\n"
	"	mov	%rsp, %rbp\n"
	"	.irp	register, rdi, rsi, rdx, rcx, r8, r9, r10, r11, rax\n"
	"	push	%\\register\n"
	"	.endr\n"
	"	and	$-16, %rsp\n"
	"	sub	$128, %rsp\n"
	"	.irp	number, 0, 1, 2, 3, 4, 5, 6, 7\n"
	"	movaps	%xmm\\number, 16 * \\number(%rsp)\n"
	"	.endr\n"
	"	.byte	0x48, 0xb8\n"		/* movabs $on_call, %rax */
	"hook_stub_callee:\n"
	"	.quad	0\n"
	"	call	*%rax\n"
	"	.irp	number, 0, 1, 2, 3, 4, 5, 6, 7\n"
	"	movaps	16 * \\number(%rsp), %xmm\\number\n"
	"	.endr\n"
	"	lea	-72(%rbp), %rsp\n"
	"	.irp	register, rax, r11, r10, r9, r8, rcx, rdx, rsi, rdi\n"
	"	pop	%\\register\n"
	"	.endr\n"
	"	pop	%rbp\n"
#else
	"	push	%ebp\n"
	"	mov	%esp, %ebp\n"
	"	push	%ecx\n"
	"	push	%edx\n"
	"	push	%eax\n"
	"	mov	8(%ebp), %ecx\n"	/* the argument, above the return address */
	"	and	$-16, %esp\n"
	"	sub	$64, %esp\n"
	"	mov	%ecx, (%esp)\n"
# ifdef __SSE__				/* without SSE, on_call() does not use them */
	"	movaps	%xmm0, 16(%esp)\n"
	"	movaps	%xmm1, 32(%esp)\n"
	"	movaps	%xmm2, 48(%esp)\n"
# endif
	"	.byte	0xb8\n"			/* mov $on_call, %eax */
	"hook_stub_callee:\n"
	"	.long	0\n"
	"	call	*%eax\n"
# ifdef __SSE__
	"	movaps	16(%esp), %xmm0\n"
	"	movaps	32(%esp), %xmm1\n"
	"	movaps	48(%esp), %xmm2\n"
# endif
	"	lea	-12(%ebp), %esp\n"
	"	pop	%eax\n"
	"	pop	%edx\n"
	"	pop	%ecx\n"
	"	pop	%ebp\n"
#endif
	"hook_stub_end:\n"
	"	.popsection\n");

/*
 * Instructions
 */

static ZydisDecoder decoder;

static bool initialise_decoder(void)
{
#ifdef __x86_64__
	return ZYAN_SUCCESS(ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64,
					     ZYDIS_STACK_WIDTH_64));
#else
	return ZYAN_SUCCESS(ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_32,
					     ZYDIS_STACK_WIDTH_32));
#endif
}

static bool decode(const uint8_t *at, const uint8_t *end, ZydisDecodedInstruction *instruction)
{
	return at < end && ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(
			&decoder, NULL, at, (size_t)(end - at), instruction));
}

static bool is_branch(const ZydisDecodedInstruction *instruction)
{
	return instruction->raw.imm[0].is_relative;
}

static uintptr_t target_of(const uint8_t *at, const ZydisDecodedInstruction *instruction)
{
	int64_t distance = is_branch(instruction) ? instruction->raw.imm[0].value.s :
						    instruction->raw.disp.value;

	return (uintptr_t)at + instruction->length + (uintptr_t)distance;
}

/* Whether the bytes after this instruction may belong to other code or data. */
static bool is_last(const ZydisDecodedInstruction *instruction)
{
	switch (instruction->mnemonic) {
	case ZYDIS_MNEMONIC_HLT:
	case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_UD2:
		return true;
	default:
		return instruction->meta.category == ZYDIS_CATEGORY_RET ||
		       instruction->meta.category == ZYDIS_CATEGORY_UNCOND_BR;
	}
}

/* Size of the instructions that cover `least` bytes; less if a last instruction comes earlier. */
static size_t cover_instructions(const struct function *function, size_t least)
{
	const uint8_t *end = function->size ? function->entry + function->size : function->end;
	ZydisDecodedInstruction instruction;
	size_t size = 0;

	while (size < least && decode(function->entry + size, end, &instruction)) {
		size += instruction.length;
		if (is_last(&instruction))
			break;
	}
	return size;
}

/* Decodes data and padding, too; after them it falls back into step with the instructions. */
static const uint8_t *find_branch_inside(const struct function *function, const uint8_t *at,
					 const uint8_t *end)
{
	ZydisDecodedInstruction instruction;

	while (at < end) {
		if (!decode(at, end, &instruction)) {
			at++;
			continue;
		}
		if (is_branch(&instruction) &&
		    target_of(at, &instruction) - (uintptr_t)function->entry - 1 <
		    function->stolen - 1)
			return at;
		at += instruction.length;
	}
	return NULL;
}

bool machine_examine(struct function *function)
{
	const uint8_t *branch;

	if (!initialise_decoder())
		return false;
	function->patched = function->entry;
	function->stolen = cover_instructions(function, JUMP);
	if (function->stolen < JUMP)
		return refuse("its code ends after %zu of the %d bytes that a jump takes",
			      function->stolen, JUMP);
	function->far_jump = FAR_JUMP;
	function->far_stolen = cover_instructions(function, FAR_JUMP);
	branch = find_branch_inside(function, function->start, function->entry);
	if (!branch)
		branch = find_branch_inside(function, function->entry, function->end);
	if (branch)
		return refuse("a branch at %p goes into its first %zu bytes",
			      (const void *)branch, function->stolen);
	return true;
}

/*
 * Moving instructions
 */

/* Sets the 32-bit distance at offset `field`, in the last instruction of the code. */
static bool aim(struct code *code, size_t field, uintptr_t target)
{
	intptr_t distance = (intptr_t)(target - (code->address + code->size));
	int32_t bits = (int32_t)distance;

	if (bits != distance)
		return refuse("what it uses at %p is out of the trampoline's reach",
			      (void *)target);
	memcpy(code->bytes + field, &bits, sizeof(bits));
	return true;
}

bool machine_put_jump(struct code *code, uintptr_t target)
{
	put(code, (uint8_t[JUMP]){ 0xe9 }, JUMP);
	return aim(code, code->size - 4, target);
}

static bool refuse_to_move(const ZydisDecodedInstruction *instruction)
{
	return refuse("its instruction %s cannot be moved",
		      ZydisMnemonicGetString(instruction->mnemonic));
}

/*
 * In 32-bit code, many calls only read their own return address.  The moved call therefore
 * pushes the original return address and jumps.  It is the last instruction to be moved.
 */
static bool move_call(struct code *code, const uint8_t *at,
		      const ZydisDecodedInstruction *instruction)
{
	uint32_t return_address = (uint32_t)((uintptr_t)at + instruction->length);

	put(code, (uint8_t[]){ 0x68 }, 1);	/* push */
	put(code, &return_address, sizeof(return_address));
	return machine_put_jump(code, target_of(at, instruction));
}

/* Short branches become long ones.  A 64-bit call returns to the trampoline. */
static bool move_branch(struct code *code, const uint8_t *at,
			const ZydisDecodedInstruction *instruction)
{
	const uint8_t *distance = at + instruction->raw.imm[0].offset;
	const uint8_t *opcode = distance - 1;
	uint8_t bits = instruction->raw.imm[0].size;

	if (bits == 32 && instruction->machine_mode == ZYDIS_MACHINE_MODE_LEGACY_32 &&
	    instruction->mnemonic == ZYDIS_MNEMONIC_CALL)
		return move_call(code, at, instruction);
	if (bits == 32) {
		put(code, at, (size_t)(distance - at));
	} else if (bits == 8 && (*opcode & 0xf0) == 0x70) {
		put(code, at, (size_t)(opcode - at));
		put(code, (uint8_t[]){ 0x0f, *opcode + 0x10 }, 2);
	} else if (bits == 8 && *opcode == 0xeb) {
		put(code, at, (size_t)(opcode - at));
		put(code, (uint8_t[]){ 0xe9 }, 1);
	} else {
		return refuse_to_move(instruction);
	}
	put(code, (uint8_t[4]){ 0 }, 4);
	return aim(code, code->size - 4, target_of(at, instruction));
}

static bool move_instruction(struct code *code, const uint8_t *at,
			     const ZydisDecodedInstruction *instruction)
{
	size_t start = code->size;

	if (is_branch(instruction))
		return move_branch(code, at, instruction);
	put(code, at, instruction->length);
	if (!(instruction->attributes & ZYDIS_ATTRIB_IS_RELATIVE))
		return true;
	if (instruction->address_width != 64)
		return refuse_to_move(instruction);
	return aim(code, start + instruction->raw.disp.offset, target_of(at, instruction));
}

bool machine_make_code(struct function *function, struct code *code,
		       void (*on_call)(uintptr_t argument))
{
	const uint8_t *rest = function->entry + function->stolen;
	uintptr_t callee = (uintptr_t)on_call;
	ZydisDecodedInstruction instruction;

	put(code, hook_stub, (size_t)(hook_stub_end - hook_stub));
	memcpy(code->bytes + (hook_stub_callee - hook_stub), &callee, sizeof(callee));
	function->trampoline = code->address + code->size;
	for (const uint8_t *at = function->entry; at < rest; at += instruction.length)
		if (!decode(at, rest, &instruction) || !move_instruction(code, at, &instruction))
			return false;
	return machine_put_jump(code, (uintptr_t)rest);
}

void machine_write_jump(uint8_t *patched, const struct code *jump)
{
	memcpy(patched, jump->bytes, JUMP);
}
