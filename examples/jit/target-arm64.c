/* SPDX-License-Identifier: MIT */
/*
 * target-arm64.c: code for AArch64
 *
 * The accumulator is x1.  x0 is the argument; x2, x3 and x4 are free.  Operands are loaded
 * into registers first.
 */

#define LOAD		0xf9400001	/* ldr x1, number */
#define LOAD_RIGHT	0xf9400002	/* ldr x2, number */
#define STORE		0xf9000001	/* str x1, number */
#define ADD		0xab020021	/* adds x1, x1, x2 */
#define SUBTRACT	0xeb020021	/* subs x1, x1, x2 */
#define NEGATE		0xeb0103e1	/* negs x1, x1 */

/* Conditions of the jump that follows: a branch on the opposite condition skips it. */
#define IF_OVERFLOW	0x54000047	/* b.vc .+8 */
#define IF_UNEQUAL	0x54000040	/* b.eq .+8 */
#define IF_ZERO	0xb5000042	/* cbnz x2, .+8 */

static void emit_with(struct code *code, uint32_t instruction, uint32_t number)
{
	if (code->addressing == FROM_ARGUMENT) {
		emit_word(code, instruction | number / 8 << 10);	/* [x0, number] */
		return;
	}
	emit_word(code, 0xd2800004 | (number & 0xffff) << 5);	/* movz x4, its lower half */
	emit_word(code, 0xf2a00004 | number >> 16 << 5);	/* movk x4, its upper half */
	emit_word(code, instruction | 4 << 5);			/* [x4] */
}

static void emit_jump(struct code *code, uint32_t condition, enum failure failure)
{
	emit_word(code, condition);
	emit_distance(code, failure);
}

void target_link(struct code *code, size_t end, ptrdiff_t distance)
{
	uint32_t rest = (uint32_t)distance - (uint32_t)(end - 4);
	uint32_t jump = 0x14000000 | (rest >> 2 & 0x3ffffff);	/* b */

	memcpy(code->bytes + end - 4, &jump, sizeof(jump));
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
	emit_word(code, NEGATE);
	emit_jump(code, IF_OVERFLOW, OVERFLOWED);
}

/* The product overflows unless its upper half equals its sign. */
static void emit_multiplication(struct code *code)
{
	emit_word(code, 0x9b427c23);		/* smulh x3, x1, x2 */
	emit_word(code, 0x9b027c21);		/* mul x1, x1, x2 */
	emit_word(code, 0xeb81fc7f);		/* cmp x3, x1, asr 63 */
	emit_jump(code, IF_UNEQUAL, OVERFLOWED);
}

/* sdiv does not trap.  If x2 is -1, ccmp compares x1 with 1: V is set only for INT64_MIN. */
static void emit_division(struct code *code, char operation)
{
	emit_jump(code, IF_ZERO, DIVIDED_BY_ZERO);
	emit_word(code, 0xb100045f);		/* cmn x2, 1 */
	emit_word(code, 0xfa410820);		/* ccmp x1, 1, 0, eq */
	emit_jump(code, IF_OVERFLOW, OVERFLOWED);
	if (operation == '/') {
		emit_word(code, 0x9ac20c21);	/* sdiv x1, x1, x2 */
	} else {
		emit_word(code, 0x9ac20c23);	/* sdiv x3, x1, x2 */
		emit_word(code, 0x9b028461);	/* msub x1, x3, x2, x1 */
	}
}

void target_operate(struct code *code, char operation, uint32_t right)
{
	emit_with(code, LOAD_RIGHT, right);
	if (operation == '*') {
		emit_multiplication(code);
	} else if (operation == '/' || operation == '%') {
		emit_division(code, operation);
	} else {
		emit_word(code, operation == '+' ? ADD : SUBTRACT);
		emit_jump(code, IF_OVERFLOW, OVERFLOWED);
	}
}

/* A struct outcome is returned in x0 and x1. */
void target_return(struct code *code, enum failure failure)
{
	emit_word(code, 0xaa0103e0);			/* mov x0, x1 */
	emit_word(code, 0xd2800001 | failure << 5);	/* mov x1, failure */
	emit_word(code, 0xd65f03c0);			/* ret */
}
