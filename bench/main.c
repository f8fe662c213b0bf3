/* SPDX-License-Identifier: MIT */
/*
 * main.c: runs the benchmark
 *
 * bench [PREFIX...]	measures all rows, or those with a name that starts with a PREFIX;
 *			prints a table and writes bench/results.tsv for bench/plot
 * bench --list		prints the names of the rows
 * bench --row NAME	measures the row in this process, and prints a line for each sample:
 *			the value, a blank, the value of the bare operation
 *
 * The first form starts the last one for each row, of bench/bench and of bench/bench-archive by
 * turns, which differ in the library that they are linked with.  Run it in the build directory.
 * bench/compare and bench/count use the other two, also of other versions: keep their output.
 */

#include "config.h"
#include "bench.h"

#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SAMPLES = 31 };

/*
 * The process that measures a row
 */

static const struct row *row_named(const char *name)
{
	for (size_t i = 0; i < row_count; i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	errx(1, "no row has the name \"%s\"", name);
}

static void print_samples(const struct row *row)
{
	if (row->mappings)
		layout_make(row->mappings, row->layout);
	if (row->prepare)
		row->prepare(row);
	for (unsigned i = 0; i < row->per_process; i++) {
		struct sample sample = row->measure(row);

		printf("%.9g %.9g\n", sample.value, sample.limit);
		fflush(stdout);
	}
}

/*
 * The process that runs the others
 */

/* The samples of a row in one of the programs. */
struct series {
	const char *program;
	struct sample samples[SAMPLES];
	unsigned count;
};

static bool read_sample(FILE *from, struct sample *sample)
{
	return fscanf(from, "%lf %lf", &sample->value, &sample->limit) == 2;
}

/* Adds the samples of one process.  False: it failed and has printed why. */
static bool extend(struct series *series, const struct row *row)
{
	char command[128];
	unsigned before = series->count;
	FILE *from;

	snprintf(command, sizeof(command), "%s --row %s", series->program, row->name);
	from = popen(command, "r");
	if (!from)
		err(1, "popen");
	while (series->count < SAMPLES && read_sample(from, &series->samples[series->count]))
		series->count++;
	return pclose(from) == 0 && series->count > before;
}

static int by_size(const void *a, const void *b)
{
	double one = *(const double *)a;
	double two = *(const double *)b;

	return (one > two) - (one < two);
}

struct result {
	double low, value, high;	/* first quartile, median, third */
	double limit;
};

static struct result summarize(const struct series *series)
{
	double values[SAMPLES], limits[SAMPLES];

	for (unsigned i = 0; i < SAMPLES; i++) {
		values[i] = series->samples[i].value;
		limits[i] = series->samples[i].limit;
	}
	qsort(values, SAMPLES, sizeof(*values), by_size);
	qsort(limits, SAMPLES, sizeof(*limits), by_size);
	return (struct result){
		.low = values[SAMPLES / 4],
		.value = values[SAMPLES / 2],
		.high = values[SAMPLES - 1 - SAMPLES / 4],
		.limit = limits[SAMPLES / 2],
	};
}

static bool run_row(const struct row *row, struct result *shared, struct result *archive)
{
	struct series with_shared = { .program = "bench/bench" };
	struct series with_archive = { .program = "bench/bench-archive" };

	while (with_shared.count < SAMPLES)
		if (!extend(&with_shared, row) || !extend(&with_archive, row))
			return false;
	*shared = summarize(&with_shared);
	*archive = summarize(&with_archive);
	return true;
}

static void print_heading(void)
{
	printf("%-24s %8s  %-9s %-6s %9s %-4s %19s %9s %9s\n", "row", "ratio", "goal", "",
	       "median", "unit", "quartiles", "bare", "archive");
}

/* "<= 20", ">= 1.7", "<= 2.3 x" of the limit, or nothing. */
static bool meets_goal(const struct row *row, const struct result *result, char goal[24])
{
	*goal = '\0';
	if (row->ratio > 0) {
		snprintf(goal, 24, "<= %g x", row->ratio);
		return result->value <= row->ratio * result->limit;
	}
	if (row->most > 0) {
		snprintf(goal, 24, "<= %g", row->most);
		return result->value <= row->most;
	}
	if (row->least > 0)
		snprintf(goal, 24, ">= %g", row->least);
	return result->value >= row->least;
}

static void print_row(FILE *table, const struct row *row, const struct result *result,
		      double archive)
{
	char goal[24];
	bool is_met = meets_goal(row, result, goal);

	printf("%-24s %8.2f  %-9s %-6s %9.2f %-4s %9.2f %9.2f %9.2f %9.2f\n", row->name,
	       result->value / result->limit, goal, !*goal ? "" : is_met ? "MET" : "MISSED",
	       result->value, row->unit, result->low, result->high, result->limit, archive);
	fflush(stdout);
	fprintf(table, "%s\t%.6g\t%s\t%.6g\t%.4g\t%s\n", row->name, result->value, row->unit,
		result->limit, result->value / result->limit, goal);
	fflush(table);
}

static bool is_wanted(const struct row *row, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (strncmp(row->name, *names, strlen(*names)) == 0)
			return true;
	return false;
}

static void show_progress(const char *name)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%-40s\r", name);
}

/* Returns whether all wanted rows could be measured. */
static bool run_all(char **names)
{
	FILE *table = fopen("bench/results.tsv", "w");
	bool is_complete = true;

	if (!table)
		err(1, "bench/results.tsv");
	fprintf(table, "row\tvalue\tunit\tlimit\tratio\tgoal\n");
	print_heading();
	for (size_t i = 0; i < row_count; i++) {
		const struct row *row = &rows[i];
		struct result shared, archive;

		if (!is_wanted(row, names))
			continue;
		show_progress(row->name);
		if (!run_row(row, &shared, &archive)) {
			printf("%-24s not measured\n", row->name);
			is_complete = false;
			continue;
		}
		show_progress("");
		print_row(table, row, &shared, archive.value);
	}
	if (fclose(table) != 0)
		err(1, "bench/results.tsv");
	return is_complete;
}

static bool have_matches(char **names)
{
	for (; *names; names++) {
		size_t i = 0;

		while (i < row_count && strncmp(rows[i].name, *names, strlen(*names)) != 0)
			i++;
		if (i == row_count) {
			fprintf(stderr, "bench: no row name starts with \"%s\"\n", *names);
			return false;
		}
	}
	return true;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--row") == 0) {
		print_samples(row_named(argv[2]));
	} else if (argc == 2 && strcmp(argv[1], "--list") == 0) {
		for (size_t i = 0; i < row_count; i++)
			puts(rows[i].name);
	} else {
		return !have_matches(argv + 1) || !run_all(argv + 1);
	}
	return 0;
}
