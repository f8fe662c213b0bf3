/* SPDX-License-Identifier: MIT */
/*
 * prefork: worker processes that share compiled code
 *
 *	prefork [-v | -w] [-n WORKERS]
 *
 * Reads lines EXPRESSION [NAME=NUMBER ...] from standard input.  The first word
 * with a = in it begins the variables; compile.h describes the expressions.  For
 * each line, in the order of completion, prints the number of the line, the line,
 * the value or an error, and the processes that compiled and reused the code.
 * NUL characters are ignored; a last line without an end that holds no others is no line.
 * turns.h describes the processes, each of which may be killed at any instant.
 *
 * The code is in an arena that the parent makes and the workers inherit.  The
 * arena is near the program, so that the code can branch to functions of the
 * program.  The code takes its numbers from an argument, so lines that differ only
 * in the values of their variables share code, also at the same time.  With -w the
 * arena is never writable and executable at once.  With -v it is not either, and all
 * processes write it through a view, which is faster.
 *
 * At most 1000 expressions are kept, including those with errors, and at most
 * 64 MiB of code, or less if branches do not reach that far.  A line that exceeds a
 * limit gets an error; lines with known expressions still get their values.
 */

#define _GNU_SOURCE

#include "compile.h"
#include "turns.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <reloaded/buffers.h>

enum { MOST_EXPRESSIONS = 1000, MOST_ARENA = 64 << 20 };

typedef struct outcome function(int64_t *numbers);

struct expression {
	pthread_mutex_t mutex;		/* held during compilation */
	char key[TURNS_MOST_LINE + 1];
	int64_t numbers[MOST_NUMBERS];	/* the constants of the code, at their locations */
	unsigned line;			/* number of the line that caused the compilation */
	pid_t compiled_by;
	function *_Atomic code;		/* NULL: not compiled yet */
};

static struct table {
	pthread_mutex_t mutex;
	_Atomic size_t size;
	struct expression expressions[MOST_EXPRESSIONS];
} *table;

static struct buffers_arena *arena;

/* The line that this worker is processing. */
static struct job {
	char words[TURNS_MOST_LINE + 1];	/* the words after the expression */
	char key[TURNS_MOST_LINE + 1];	/* NAME=NAME=EXPRESSION */
	const char *text;		/* the expression inside key */
	int64_t numbers[MOST_NUMBERS];	/* variables, constants, intermediate results */
	size_t num_numbers;
	struct compiler compiler;
	struct expression *expression;
	int64_t value;
} job;

/*
 * Use of the library: an arena for all processes that receives code
 */

static struct outcome overflowed(void)
{
	return (struct outcome){ .failure = OVERFLOWED };
}

static struct outcome divided_by_zero(void)
{
	return (struct outcome){ .failure = DIVIDED_BY_ZERO };
}

/*
 * Within half the reach of a branch, code of the arena reaches the rest of the program,
 * too.  An eighth of the reach is small enough to fit between other mappings.
 */
static void make_arena(unsigned kind)
{
	size_t size = BUFFERS_REACH_BRANCH / 8 < MOST_ARENA ? BUFFERS_REACH_BRANCH / 8 : MOST_ARENA;
	struct buffers_request window = buffers_request_near(
		(const void *)(uintptr_t)overflowed, BUFFERS_REACH_BRANCH / 2, size);

	arena = buffers_arena_create(&window, BUFFERS_ARENA_FORK_SHARED | kind);
	if (!arena)
		turns_fail("memory to share near the program");
	if (kind & BUFFERS_VIEW)
		fputs("prefork: code is written in a view that is never executable\n", stderr);
}

static ptrdiff_t distance(const void *from, struct outcome (*to)(void))
{
	return (ptrdiff_t)((uintptr_t)to - (uintptr_t)from);
}

/* The code is composed elsewhere and then appended, since the arena may not be writable. */
static function *place_code(struct code *code)
{
	struct buffers_item *item = buffers_arena_get(arena, code->size, CODE_ALIGNMENT);
	void *address;

	if (!item)
		return NULL;
	address = buffers_next(item);
	compile_jumps(code, OVERFLOWED, distance(address, overflowed));
	compile_jumps(code, DIVIDED_BY_ZERO, distance(address, divided_by_zero));
	address = buffers_append_code(item, code->bytes, code->size);
	buffers_release(item);
	return (function *)(uintptr_t)address;
}

/*
 * From a line to its value: functions that return text return an error message or NULL
 */

static uint32_t place_number(void *context, int64_t value)
{
	(void)context;
	job.numbers[job.num_numbers] = value;
	return (uint32_t)(job.num_numbers++ * sizeof(value));
}

/* The first word with a = in it begins the variables. */
static size_t expression_length(const char *line)
{
	size_t length = strcspn(line, "=");

	if (!line[length])
		return length;
	while (length > 0 && !isblank((unsigned char)line[length - 1]))
		length--;
	while (length > 0 && isblank((unsigned char)line[length - 1]))
		length--;
	return length;
}

static const char *prepare_line(const char *line)
{
	size_t length = expression_length(line);
	char *rest = strcpy(job.words, line + length);
	char *key = job.key;
	char *word;

	if (strlen(line) == TURNS_MOST_LINE)
		return "the line is too long";
	job.num_numbers = 0;
	job.compiler = (struct compiler){
		.place = place_number, .code.addressing = FROM_ARGUMENT,
	};
	while ((word = strtok_r(rest, " \t", &rest))) {
		if (!compile_definition(&job.compiler, word))
			return job.compiler.complaint;
		key += sprintf(key, "%.*s=", (int)strcspn(word, "="), word);
	}
	sprintf(key, "%.*s", (int)length, line);
	job.text = key;
	return NULL;
}

/* A new expression is valid only when its key is complete: table->size counts it last. */
static const char *find_or_add(void)
{
	size_t i = 0;

	turns_lock(&table->mutex);
	while (i < table->size && strcmp(table->expressions[i].key, job.key) != 0)
		i++;
	if (i == table->size && i < MOST_EXPRESSIONS) {
		strcpy(table->expressions[i].key, job.key);
		table->size++;
	}
	pthread_mutex_unlock(&table->mutex);
	job.expression = &table->expressions[i];
	return i < MOST_EXPRESSIONS ? NULL : "no room for another expression";
}

/* Sets the code last, when all other members of the expression are complete. */
static const char *compile_line(unsigned line)
{
	struct expression *expression = job.expression;
	function *code;

	if (!compile_expression(&job.compiler, job.text))
		return job.compiler.complaint;
	code = place_code(&job.compiler.code);
	if (!code)
		return strerror(errno);
	memcpy(expression->numbers, job.numbers, sizeof(job.numbers));
	expression->line = line;
	expression->compiled_by = getpid();
	expression->code = code;
	return NULL;
}

static const char *compile_once(unsigned line)
{
	const char *wrong = NULL;

	turns_lock(&job.expression->mutex);
	if (!job.expression->code)
		wrong = compile_line(line);
	pthread_mutex_unlock(&job.expression->mutex);
	return wrong;
}

static const char *call(void)
{
	static const char *const failures[] = { NULL, "overflow", "division by zero" };
	size_t known = job.compiler.num_variables;
	struct outcome outcome;

	memcpy(job.numbers + known, job.expression->numbers + known,
	       sizeof(job.numbers) - known * sizeof(*job.numbers));
	outcome = job.expression->code(job.numbers);
	job.value = outcome.value;
	return failures[outcome.failure];
}

static void compute_answer(struct turns_answer *answer, const char *line)
{
	const char *wrong = prepare_line(line);
	char by[32] = "";

	if (!wrong)
		wrong = find_or_add();
	if (!wrong)
		wrong = compile_once(answer->number);
	if (!wrong)
		wrong = call();
	if (wrong) {
		snprintf(answer->text, sizeof(answer->text), "%s: %s", line, wrong);
		return;
	}
	if (job.expression->line != answer->number)
		sprintf(by, "%d reused what ", (int)getpid());
	snprintf(answer->text, sizeof(answer->text), "%s = %" PRId64 " (%s%d compiled)",
		 line, job.value, by, (int)job.expression->compiled_by);
}

static void make_table(void)
{
	table = turns_share(sizeof(*table));
	turns_make_lock(&table->mutex);
	for (size_t i = 0; i < MOST_EXPRESSIONS; i++)
		turns_make_lock(&table->expressions[i].mutex);
}

static int usage(void)
{
	fprintf(stderr, "usage: prefork [-v | -w] [-n WORKERS], 1 to %d\n", TURNS_MOST_WORKERS);
	return 2;
}

/* 0: the text is not a number, or is out of range. */
static int number_of(const char *text)
{
	char *end;
	long number = strtol(text, &end, 10);

	return *text && !*end && number > 0 && number <= TURNS_MOST_WORKERS ? (int)number : 0;
}

int main(int argc, char **argv)
{
	int num_workers = 4;
	unsigned kind = 0;
	int option;

	while ((option = getopt(argc, argv, "vwn:")) != -1) {
		if (option == 'v')
			kind = BUFFERS_RX | BUFFERS_VIEW;
		else if (option == 'w')
			kind = BUFFERS_RX;
		else if (option == 'n')
			num_workers = number_of(optarg);
		else
			return usage();
	}
	if (optind < argc || num_workers < 1)
		return usage();
	make_arena(kind);	/* first, before other memory fills the gaps near the program */
	make_table();
	return turns_serve(num_workers, compute_answer);
}
