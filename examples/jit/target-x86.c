/* SPDX-License-Identifier: MIT */
/* target-x86.c: code that x86-64 and 32-bit x86 have in common */

/* Opcodes; a 32-bit distance follows. */
#define IF_OVERFLOW	"\x0f\x80"	/* jo */
#define IF_EQUAL	"\x0f\x84"	/* je */
#define IF_ABOVE	"\x0f\x87"	/* ja */

static void emit_byte(struct code *code, uint8_t byte)
{
	emit(code, &byte, sizeof(byte));
}

static void emit_jump(struct code *code, const char *jump, enum failure failure)
{
	emit_text(code, jump);
	emit_distance(code, failure);
}

void target_link(struct code *code, size_t end, ptrdiff_t distance)
{
	uint32_t rest = (uint32_t)distance - (uint32_t)end;

	memcpy(code->bytes + end - sizeof(rest), &rest, sizeof(rest));
}
