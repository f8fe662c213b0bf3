/* SPDX-License-Identifier: MIT */
/*
 * target-ppc64el.c: code for POWER, little endian
 *
 * The accumulator is r5.  r3 is the argument; r0, r6 and r7 are free.  By the ABI (ELFv2),
 * r12 holds the address of a function at its global entry.  This code keeps its own
 * address in r12 and adds to it when it jumps to a function of the program.
 */

#define LOAD		0xe8a00000	/* ld r5, number */
#define LOAD_RIGHT	0xe8c00000	/* ld r6, number */
#define STORE		0xf8a00000	/* std r5, number */
#define ADD		0x7ca53615	/* addo. r5, r5, r6 */
#define SUBTRACT	0x7ca62c51	/* subfo. r5, r6, r5 */
#define MULTIPLY	0x7ca535d3	/* mulldo. r5, r5, r6 */
#define DIVIDE		0x7ce537d3	/* divdo. r7, r5, r6 */
#define NEGATE		0x7ca504d1	/* nego. r5, r5 */

/* Conditions of the jump that follows: a branch on the opposite condition skips it. */
#define IF_OVERFLOW	0x40830010	/* bns .+16 */
#define IF_EQUAL	0x40820010	/* bne .+16 */

static void emit_with(struct code *code, uint32_t instruction, uint32_t number)
{
	if (code->addressing == FROM_ARGUMENT) {
		emit_word(code, instruction | 3 << 16 | number);	/* number(r3) */
		return;
	}
	emit_word(code, 0x3ce00000 | number >> 16);	/* lis r7, its upper half */
	emit_word(code, 0x60e70000 | (number & 0xffff));	/* ori r7, r7, its lower half */
	emit_word(code, instruction | 7 << 16);		/* 0(r7) */
}

static void emit_jump(struct code *code, uint32_t condition, enum failure failure)
{
	emit_word(code, condition);
	emit_word(code, 0);
	emit_word(code, 0);
	emit_distance(code, failure);
}

/* The lower half that is added to r12 is signed, so the upper half is rounded. */
void target_link(struct code *code, size_t end, ptrdiff_t distance)
{
	uint32_t whole = (uint32_t)distance;
	uint32_t rest = whole - (uint32_t)(end - 4);
	uint32_t jump[3] = {
		0x3d8c0000 | (whole + 0x8000) >> 16,	/* addis r12, r12, distance */
		0x398c0000 | (whole & 0xffff),		/* addi r12, r12, distance */
		0x48000000 | (rest & 0x3fffffc),	/* b */
	};

	memcpy(code->bytes + end - sizeof(jump), jump, sizeof(jump));
}

/* The overflow bit is sticky, so it is cleared before the instruction. */
static void emit_checked(struct code *code, uint32_t instruction)
{
	emit_word(code, 0x38000000);		/* li r0, 0 */
	emit_word(code, 0x7c0103a6);		/* mtxer r0 */
	emit_word(code, instruction);
	emit_jump(code, IF_OVERFLOW, OVERFLOWED);
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
	emit_checked(code, NEGATE);
}

static void emit_division(struct code *code, char operation)
{
	emit_word(code, 0x2c260000);		/* cmpdi r6, 0 */
	emit_jump(code, IF_EQUAL, DIVIDED_BY_ZERO);
	emit_checked(code, DIVIDE);
	if (operation == '/') {
		emit_word(code, 0x7ce53b78);	/* mr r5, r7 */
	} else {
		emit_word(code, 0x7ce731d2);	/* mulld r7, r7, r6 */
		emit_word(code, 0x7ca72850);	/* subf r5, r7, r5 */
	}
}

void target_operate(struct code *code, char operation, uint32_t right)
{
	emit_with(code, LOAD_RIGHT, right);
	if (operation == '/' || operation == '%')
		emit_division(code, operation);
	else
		emit_checked(code, operation == '+' ? ADD : operation == '-' ? SUBTRACT : MULTIPLY);
}

/* A struct outcome is returned in r3 and r4. */
void target_return(struct code *code, enum failure failure)
{
	emit_word(code, 0x7ca32b78);		/* mr r3, r5 */
	emit_word(code, 0x38800000 | failure);	/* li r4, failure */
	emit_word(code, 0x4e800020);		/* blr */
}
