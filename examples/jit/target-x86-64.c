/* SPDX-License-Identifier: MIT */
/*
 * target-x86-64.c: code for x86-64
 *
 * The accumulator is rax.  Every instruction can take a number in memory as operand, even
 * by a plain 32-bit address.
 */

#include "target-x86.c"

/* Opcode and ModRM byte for ABSOLUTE; emit_with() changes it for FROM_ARGUMENT. */
#define LOAD		"\x48\x8b\x04"		/* mov rax, number */
#define STORE		"\x48\x89\x04"		/* mov number, rax */
#define ADD		"\x48\x03\x04"		/* add rax, number */
#define SUBTRACT	"\x48\x2b\x04"		/* sub rax, number */
#define MULTIPLY	"\x48\x0f\xaf\x04"	/* imul rax, number */
#define DIVIDE		"\x48\xf7\x3c"		/* idiv number */
#define COMPARE		"\x48\x83\x3c"		/* cmp number, byte */

static void emit_with(struct code *code, const char *instruction, uint32_t number)
{
	emit_text(code, instruction);
	if (code->addressing == FROM_ARGUMENT) {
		code->bytes[code->size - 1] |= 0x80;
		emit_byte(code, 0x27);		/* [rdi + number] */
	} else {
		emit_byte(code, 0x25);		/* [number] */
	}
	emit_word(code, number);
}

void target_load(struct code *code, uint32_t number)
{
	emit_with(code, LOAD, number);
}

void target_store(struct code *code, uint32_t number)
{
	emit_with(code, STORE, number);
}

void target_negate(struct code *code)
{
	emit_text(code, "\x48\xf7\xd8");	/* neg rax */
	emit_jump(code, IF_OVERFLOW, OVERFLOWED);
}

/* idiv traps if the divisor is 0, or if it is -1 and rax is INT64_MIN. */
static void emit_division(struct code *code, uint32_t divisor)
{
	emit_with(code, COMPARE, divisor);
	emit_byte(code, 0);
	emit_jump(code, IF_EQUAL, DIVIDED_BY_ZERO);
	emit_with(code, COMPARE, divisor);
	emit_byte(code, 0xff);
	emit_text(code, "\x75\x0c"		/* jne: skip the next three */
			"\x48\x89\xc2"		/* mov rdx, rax */
			"\x48\xf7\xda");	/* neg rdx */
	emit_jump(code, IF_OVERFLOW, OVERFLOWED);
	emit_text(code, "\x48\x99");		/* cqo */
	emit_with(code, DIVIDE, divisor);
}

void target_operate(struct code *code, char operation, uint32_t right)
{
	if (operation == '/' || operation == '%') {
		emit_division(code, right);
		if (operation == '%')
			emit_text(code, "\x48\x89\xd0");	/* mov rax, rdx */
		return;
	}
	emit_with(code, operation == '+' ? ADD : operation == '-' ? SUBTRACT : MULTIPLY, right);
	emit_jump(code, IF_OVERFLOW, OVERFLOWED);
}

/* A struct outcome is returned in rax and rdx. */
void target_return(struct code *code, enum failure failure)
{
	if (failure == NONE) {
		emit_text(code, "\x31\xd2");	/* xor edx, edx */
	} else {
		emit_text(code, "\xba");	/* mov edx, failure */
		emit_word(code, failure);
	}
	emit_text(code, "\xc3");		/* ret */
}
