/* SPDX-License-Identifier: MIT */
/*
 * target-riscv64.c: code for 64-bit RISC-V
 *
 * The accumulator is a1.  a0 is the argument; a2, a3, a4, t0 and t1 are free.  RISC-V has no
 * flags, so the code detects overflow by comparisons.  Conditional branches have a short
 * reach, so they skip a jump of two instructions.
 */

#define LOAD		0x0002b583	/* ld a1, 0(t0) */
#define LOAD_RIGHT	0x0002b603	/* ld a2, 0(t0) */
#define STORE		0x00b2b023	/* sd a1, 0(t0) */

/* Conditions of the jump that follows: a branch on the opposite condition skips it. */
#define IF_A2_NOT_A4	0x00e60663	/* beq a2, a4, .+12 */
#define IF_A3_NOT_A4	0x00e68663	/* beq a3, a4, .+12 */
#define IF_A2_ZERO	0x00061663	/* bnez a2, .+12 */
#define IF_A3_ZERO	0x00069663	/* bnez a3, .+12 */

/* The next instruction adds the lower 12 bits, which are signed, so this rounds. */
static uint32_t upper(uint32_t value)
{
	return (value + 0x800) & 0xfffff000;
}

static void emit_with(struct code *code, uint32_t instruction, uint32_t number)
{
	emit_word(code, 0x000002b7 | upper(number));	/* lui t0, number */
	emit_word(code, 0x0002829b | number << 20);	/* addiw t0, t0, number */
	if (code->addressing == FROM_ARGUMENT)
		emit_word(code, 0x00a282b3);		/* add t0, t0, a0 */
	emit_word(code, instruction);
}

static void emit_jump(struct code *code, uint32_t condition, enum failure failure)
{
	emit_word(code, condition);
	emit_word(code, 0);
	emit_distance(code, failure);
}

void target_link(struct code *code, size_t end, ptrdiff_t distance)
{
	uint32_t rest = (uint32_t)distance - (uint32_t)(end - 8);
	uint32_t jump[2] = {
		0x00000317 | upper(rest),	/* auipc t1, distance */
		0x00030067 | rest << 20,	/* jr distance(t1) */
	};

	memcpy(code->bytes + end - 8, jump, sizeof(jump));
}

void target_load(struct code *code, uint32_t number)
{
	emit_with(code, LOAD, number);
}

void target_store(struct code *code, uint32_t number)
{
	emit_with(code, STORE, number);
}

/* Without overflow, the sum is less than a1 exactly if a2 is negative. */
static void emit_addition(struct code *code)
{
	emit_word(code, 0x00c586b3);		/* add a3, a1, a2 */
	emit_word(code, 0x00b6a733);		/* slt a4, a3, a1 */
	emit_word(code, 0x00062613);		/* slti a2, a2, 0 */
	emit_word(code, 0x00068593);		/* mv a1, a3 */
	emit_jump(code, IF_A2_NOT_A4, OVERFLOWED);
}

static void emit_subtraction(struct code *code)
{
	emit_word(code, 0x40c586b3);		/* sub a3, a1, a2 */
	emit_word(code, 0x00d5a733);		/* slt a4, a1, a3 */
	emit_word(code, 0x00062613);		/* slti a2, a2, 0 */
	emit_word(code, 0x00068593);		/* mv a1, a3 */
	emit_jump(code, IF_A2_NOT_A4, OVERFLOWED);
}

void target_negate(struct code *code)
{
	emit_word(code, 0x00058613);		/* mv a2, a1 */
	emit_word(code, 0x00000593);		/* li a1, 0 */
	emit_subtraction(code);
}

/* The product overflows unless its upper half equals its sign. */
static void emit_multiplication(struct code *code)
{
	emit_word(code, 0x02c596b3);		/* mulh a3, a1, a2 */
	emit_word(code, 0x02c585b3);		/* mul a1, a1, a2 */
	emit_word(code, 0x43f5d713);		/* srai a4, a1, 63 */
	emit_jump(code, IF_A3_NOT_A4, OVERFLOWED);
}

/* Divisions do not trap.  a3 is 0 only for INT64_MIN divided by -1, which overflows. */
static void emit_division(struct code *code, char operation)
{
	emit_jump(code, IF_A2_ZERO, DIVIDED_BY_ZERO);
	emit_word(code, 0x00160693);		/* addi a3, a2, 1 */
	emit_word(code, 0xfff00713);		/* li a4, -1 */
	emit_word(code, 0x03f71713);		/* slli a4, a4, 63 */
	emit_word(code, 0x00b74733);		/* xor a4, a4, a1 */
	emit_word(code, 0x00e6e6b3);		/* or a3, a3, a4 */
	emit_jump(code, IF_A3_ZERO, OVERFLOWED);
	if (operation == '/')
		emit_word(code, 0x02c5c5b3);	/* div a1, a1, a2 */
	else
		emit_word(code, 0x02c5e5b3);	/* rem a1, a1, a2 */
}

void target_operate(struct code *code, char operation, uint32_t right)
{
	emit_with(code, LOAD_RIGHT, right);
	if (operation == '+')
		emit_addition(code);
	else if (operation == '-')
		emit_subtraction(code);
	else if (operation == '*')
		emit_multiplication(code);
	else
		emit_division(code, operation);
}

/* A struct outcome is returned in a0 and a1. */
void target_return(struct code *code, enum failure failure)
{
	emit_word(code, 0x00058513);			/* mv a0, a1 */
	emit_word(code, 0x00000593 | failure << 20);	/* li a1, failure */
	emit_word(code, 0x00008067);			/* ret */
}
