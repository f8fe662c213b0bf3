/* SPDX-License-Identifier: MIT */
/*
 * target-s390x.c: code for z/Architecture
 *
 * The accumulator is r5.  r2 is the address of the struct outcome, r3 the argument; r0, r1
 * and r4 are free.  Instructions have 2, 4 or 6 bytes, big endian.
 */

/* Register and last byte of an instruction of six bytes. */
#define LOAD		0x5004		/* lg r5, number */
#define LOAD_RIGHT	0x0004		/* lg r0, number */
#define STORE		0x5024		/* stg r5, number */
#define ADD		0x5008		/* ag r5, number */
#define SUBTRACT	0x5009		/* sg r5, number */

/* Opcodes; a 32-bit distance follows. */
#define IF_EQUAL	0xc084		/* jge */
#define IF_UNEQUAL	0xc074		/* jgne */
#define IF_OVERFLOW	0xc014		/* jgo */

static void emit_half(struct code *code, uint16_t half)
{
	emit(code, &half, sizeof(half));
}

/* The operand is a register and a 20-bit displacement, encoded with its upper 8 bits last. */
static void emit_with(struct code *code, uint16_t instruction, uint32_t number)
{
	uint16_t base = 0x3000;				/* r3 */

	if (code->addressing == ABSOLUTE) {
		emit_half(code, 0xc01f);		/* llilf r1, number */
		emit_word(code, number);
		number = 0;
		base = 0x1000;				/* r1 */
	}
	emit_half(code, (uint16_t)(0xe300 | instruction >> 8));
	emit_half(code, (uint16_t)(base | (number & 0xfff)));
	emit_half(code, (uint16_t)(number >> 12 << 8 | (instruction & 0xff)));
}

static void emit_jump(struct code *code, uint16_t jump, enum failure failure)
{
	emit_half(code, jump);
	emit_distance(code, failure);
}

/* Distances count halfwords from the start of the jump. */
void target_link(struct code *code, size_t end, ptrdiff_t distance)
{
	int32_t rest = (int32_t)((distance - (ptrdiff_t)(end - 6)) / 2);

	memcpy(code->bytes + end - sizeof(rest), &rest, sizeof(rest));
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
	emit_word(code, 0xb9030055);		/* lcgr r5, r5 */
	emit_jump(code, IF_OVERFLOW, OVERFLOWED);
}

/*
 * Uses mlgr, an unsigned multiplication, since older processors have no signed one for
 * 128 bits.  For each negative factor, the other factor is subtracted from the upper half.
 * The product overflows unless the result equals its sign.
 */
static void emit_multiplication(struct code *code)
{
	emit(code, "\xeb\x15\x00\x3f\x00\x0a", 6);	/* srag r1, r5, 63 */
	emit_word(code, 0xb9800010);			/* ngr r1, r0 */
	emit(code, "\xeb\x40\x00\x3f\x00\x0a", 6);	/* srag r4, r0, 63 */
	emit_word(code, 0xb9800045);			/* ngr r4, r5 */
	emit_word(code, 0xb9080014);			/* agr r1, r4 */
	emit_word(code, 0xb9860040);			/* mlgr r4, r0: to r4 and r5 */
	emit_word(code, 0xb9090041);			/* sgr r4, r1 */
	emit(code, "\xeb\x15\x00\x3f\x00\x0a", 6);	/* srag r1, r5, 63 */
	emit_word(code, 0xb9200041);			/* cgr r4, r1 */
	emit_jump(code, IF_UNEQUAL, OVERFLOWED);
}

/* dsgr traps if the divisor is 0, or if it is -1 and r5 is INT64_MIN. */
static void emit_division(struct code *code, char operation)
{
	emit_word(code, 0xb9020000);		/* ltgr r0, r0 */
	emit_jump(code, IF_EQUAL, DIVIDED_BY_ZERO);
	emit_word(code, 0xa70fffff);		/* cghi r0, -1 */
	emit_word(code, 0xa7740007);		/* jne: skip the next two */
	emit_word(code, 0xb9030015);		/* lcgr r1, r5 */
	emit_jump(code, IF_OVERFLOW, OVERFLOWED);
	emit_word(code, 0xb90d0040);		/* dsgr r4, r0: remainder to r4, quotient to r5 */
	if (operation == '%')
		emit_word(code, 0xb9040054);	/* lgr r5, r4 */
}

void target_operate(struct code *code, char operation, uint32_t right)
{
	if (operation == '+' || operation == '-') {
		emit_with(code, operation == '+' ? ADD : SUBTRACT, right);
		emit_jump(code, IF_OVERFLOW, OVERFLOWED);
		return;
	}
	emit_with(code, LOAD_RIGHT, right);
	if (operation == '*')
		emit_multiplication(code);
	else
		emit_division(code, operation);
}

void target_return(struct code *code, enum failure failure)
{
	emit(code, "\xe3\x50\x20\x00\x00\x24", 6);	/* stg r5, the outcome's value */
	emit_word(code, 0xa7090000 | failure);		/* lghi r0, failure */
	emit(code, "\xe3\x00\x20\x08\x00\x24", 6);	/* stg r0, the outcome's failure */
	emit_half(code, 0x07fe);			/* br r14 */
}
