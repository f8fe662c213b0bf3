/* SPDX-License-Identifier: MIT */
/*
 * target-arm.c: code for 32-bit Arm, ARMv7, little endian
 *
 * The accumulator is r2 (lower half) and r3 (upper half).  r0 is the address of the struct
 * outcome, r1 the argument, and r12 is free.  Functions of the program may be in Thumb
 * state; this code is in Arm state.
 */

#include "target-help.c"

/* Conditions of the jump that follows: a branch on the opposite condition skips it. */
#define IF_OVERFLOW	0x7a000002	/* bvc .+16 */
#define IF_EQUAL	0x1a000002	/* bne .+16 */
#define IF_ABOVE	0x9a000002	/* bls .+16 */

static uint32_t with_half(uint32_t instruction, uint32_t half)
{
	return instruction | half >> 12 << 16 | (half & 0xfff);
}

static void emit_constant(struct code *code, uint32_t value)
{
	emit_word(code, with_half(0xe300c000, value & 0xffff));	/* movw r12, value */
	emit_word(code, with_half(0xe340c000, value >> 16));	/* movt r12, value */
}

/* Sets r12 to the address. */
static void emit_address(struct code *code, uint32_t number)
{
	emit_constant(code, number);
	if (code->addressing == FROM_ARGUMENT)
		emit_word(code, 0xe08cc001);	/* add r12, r12, r1 */
}

/* A call of the failure's function, since a plain branch cannot change the state. */
static void emit_jump(struct code *code, uint32_t condition, enum failure failure)
{
	emit_word(code, condition);
	emit_word(code, 0xe92d4010);		/* push {r4, lr} */
	emit_distance(code, failure);
	emit_word(code, 0xe8bd8010);		/* pop {r4, pc} */
}

/* The address of a function in Thumb state has bit 0 set. */
void target_link(struct code *code, size_t end, ptrdiff_t distance)
{
	uint32_t rest = (uint32_t)distance - (uint32_t)(end - 4) - 8;
	uint32_t call = 0xeb000000;		/* bl */

	if (rest & 1)
		call = 0xfa000000 | (rest & 2) << 23;	/* blx; bit 24 is the halfword */
	call |= rest >> 2 & 0xffffff;
	memcpy(code->bytes + end - sizeof(call), &call, sizeof(call));
}

void target_load(struct code *code, uint32_t number)
{
	emit_address(code, number);
	emit_word(code, 0xe1cc20d0);		/* ldrd r2, r3, [r12] */
}

void target_store(struct code *code, uint32_t number)
{
	emit_address(code, number);
	emit_word(code, 0xe1cc20f0);		/* strd r2, r3, [r12] */
}

void target_negate(struct code *code)
{
	emit_word(code, 0xe2722000);		/* rsbs r2, r2, 0 */
	emit_word(code, 0xe2f33000);		/* rscs r3, r3, 0 */
	emit_jump(code, IF_OVERFLOW, OVERFLOWED);
}

static void emit_sum(struct code *code, uint32_t lower, uint32_t upper)
{
	emit_word(code, 0xe92d0030);		/* push {r4, r5} */
	emit_word(code, 0xe1cc40d0);		/* ldrd r4, r5, [r12] */
	emit_word(code, lower);
	emit_word(code, upper);
	emit_word(code, 0xe8bd0030);		/* pop {r4, r5} */
	emit_jump(code, IF_OVERFLOW, OVERFLOWED);
}

static void emit_help(struct code *code, char operation)
{
	emit_word(code, 0xe92d5003);		/* push {r0, r1, r12, lr} */
	emit_word(code, 0xe1a0100c);		/* mov r1, r12 */
	emit_constant(code, help_with(operation));
	emit_word(code, 0xe12fff3c);		/* blx r12 */
	emit_word(code, 0xe3500001);		/* cmp r0, OVERFLOWED */
	emit_word(code, 0xe8bd5003);		/* pop {r0, r1, r12, lr} */
	emit_jump(code, IF_EQUAL, OVERFLOWED);
	emit_jump(code, IF_ABOVE, DIVIDED_BY_ZERO);
	emit_word(code, 0xe1c020d0);		/* ldrd r2, r3, [r0] */
}

void target_operate(struct code *code, char operation, uint32_t right)
{
	emit_address(code, right);
	if (operation == '+')
		emit_sum(code, 0xe0922004, 0xe0b33005);	/* adds r2, r2, r4; adcs r3, r3, r5 */
	else if (operation == '-')
		emit_sum(code, 0xe0522004, 0xe0d33005);	/* subs r2, r2, r4; sbcs r3, r3, r5 */
	else
		emit_help(code, operation);
}

void target_return(struct code *code, enum failure failure)
{
	emit_word(code, 0xe1c020f0);		/* strd r2, r3, [r0]: the outcome's value */
	emit_word(code, 0xe3a02000 | failure);	/* mov r2, failure */
	emit_word(code, 0xe3a03000);		/* mov r3, 0 */
	emit_word(code, 0xe1c020f8);		/* strd r2, r3, [r0, 8] */
	emit_word(code, 0xe12fff1e);		/* bx lr */
}
