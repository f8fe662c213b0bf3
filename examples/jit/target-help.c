/* SPDX-License-Identifier: MIT */
/* target-help.c: operations that take a 32-bit processor more than a few instructions */

static enum failure help_multiply(struct outcome *outcome, const int64_t *right, int64_t left)
{
	return __builtin_mul_overflow(left, *right, &outcome->value) ? OVERFLOWED : NONE;
}

static enum failure check_division(int64_t left, int64_t right)
{
	if (right == 0)
		return DIVIDED_BY_ZERO;
	return left == INT64_MIN && right == -1 ? OVERFLOWED : NONE;
}

static enum failure help_divide(struct outcome *outcome, const int64_t *right, int64_t left)
{
	enum failure failure = check_division(left, *right);

	if (failure == NONE)
		outcome->value = left / *right;
	return failure;
}

static enum failure help_remain(struct outcome *outcome, const int64_t *right, int64_t left)
{
	enum failure failure = check_division(left, *right);

	if (failure == NONE)
		outcome->value = left % *right;
	return failure;
}

/* Address of the function that does the operation. */
static uint32_t help_with(char operation)
{
	return (uint32_t)(uintptr_t)(operation == '*' ? help_multiply :
				     operation == '/' ? help_divide : help_remain);
}
