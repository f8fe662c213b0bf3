/* SPDX-License-Identifier: MIT */
/*
 * target-i386.c: code for 32-bit x86
 *
 * The accumulator is edx (upper half) and eax (lower half); ecx is free.  The stack holds
 * the return address, the address of the struct outcome, and the argument.
 */

#include "target-help.c"
#include "target-x86.c"

/* Opcodes; the operand byte follows. */
#define LOAD		0x8b		/* mov register, half */
#define STORE		0x89		/* mov half, register */
#define ADD		0x03		/* add register, half */
#define ADD_CARRY	0x13		/* adc register, half */
#define SUBTRACT	0x2b		/* sub register, half */
#define SUBTRACT_CARRY	0x1b		/* sbb register, half */

static void emit_with(struct code *code, uint8_t lower, uint8_t upper, uint32_t number)
{
	uint8_t operand = 0x05;			/* eax, [number] */

	if (code->addressing == FROM_ARGUMENT) {
		emit_text(code, "\x8b\x4c\x24\x08");	/* mov ecx, [esp + 8] */
		operand = 0x81;			/* eax, [ecx + number] */
	}
	emit_byte(code, lower);
	emit_byte(code, operand);
	emit_word(code, number);
	emit_byte(code, upper);
	emit_byte(code, operand | 0x10);	/* edx */
	emit_word(code, number + 4);
}

void target_load(struct code *code, uint32_t number)
{
	emit_with(code, LOAD, LOAD, number);
}

void target_store(struct code *code, uint32_t number)
{
	emit_with(code, STORE, STORE, number);
}

void target_negate(struct code *code)
{
	emit_text(code, "\xf7\xd2"		/* not edx */
			"\xf7\xd8"		/* neg eax */
			"\x83\xda\xff");	/* sbb edx, -1 */
	emit_jump(code, IF_OVERFLOW, OVERFLOWED);
}

/* Pushes 7 words, so that the stack is aligned to 16 at the call. */
static void emit_help(struct code *code, char operation, uint32_t right)
{
	emit_text(code, "\x83\xec\x0c"			/* sub esp, 12 */
			"\x52\x50");			/* push edx, push eax */
	if (code->addressing == FROM_ARGUMENT) {
		emit_text(code, "\x8b\x4c\x24\x1c"	/* mov ecx, [esp + 28] */
				"\x81\xc1");		/* add ecx, right */
		emit_word(code, right);
		emit_text(code, "\x51");		/* push ecx */
	} else {
		emit_text(code, "\x68");		/* push right */
		emit_word(code, right);
	}
	emit_text(code, "\xff\x74\x24\x1c"		/* push [esp + 28] */
			"\xb9");			/* mov ecx, function */
	emit_word(code, help_with(operation));
	emit_text(code, "\xff\xd1"			/* call ecx */
			"\x83\xc4\x1c"			/* add esp, 28 */
			"\x83\xf8\x01");		/* cmp eax, OVERFLOWED */
	emit_jump(code, IF_EQUAL, OVERFLOWED);
	emit_jump(code, IF_ABOVE, DIVIDED_BY_ZERO);
	emit_text(code, "\x8b\x4c\x24\x04"		/* mov ecx, [esp + 4] */
			"\x8b\x01\x8b\x51\x04");	/* mov eax, [ecx]; mov edx, [ecx + 4] */
}

void target_operate(struct code *code, char operation, uint32_t right)
{
	if (operation == '+')
		emit_with(code, ADD, ADD_CARRY, right);
	else if (operation == '-')
		emit_with(code, SUBTRACT, SUBTRACT_CARRY, right);
	else
		emit_help(code, operation, right);
	if (operation == '+' || operation == '-')
		emit_jump(code, IF_OVERFLOW, OVERFLOWED);
}

/* By the ABI, a function pops the address of its struct outcome and returns it in eax. */
void target_return(struct code *code, enum failure failure)
{
	emit_text(code, "\x8b\x4c\x24\x04"		/* mov ecx, [esp + 4] */
			"\x89\x01\x89\x51\x04"		/* mov [ecx], eax; mov [ecx + 4], edx */
			"\xb8");			/* mov eax, failure */
	emit_word(code, failure);
	emit_text(code, "\x31\xd2"			/* xor edx, edx */
			"\x89\x41\x08\x89\x51\x0c"	/* mov [ecx + 8], eax; mov [ecx + 12], edx */
			"\x89\xc8");			/* mov eax, ecx */
	emit(code, "\xc2\x04\x00", 3);			/* ret 4 */
}
