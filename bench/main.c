/* SPDX-License-Identifier: MIT */
/*
 * main.c: runs the benchmark
 *
 * bench [PREFIX...]	measures all rows, or those with a name that starts with a PREFIX;
 *			prints a table and writes bench/results.tsv for bench/plot
 * bench --list		prints the names of the rows
 *
 * This program measures each row in processes of its own.  It starts them with
 * --row, and they send their samples back through a pipe.
 */

#include "config.h"
#include "bench.h"

#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SAMPLES = 31 };

/*
 * The process that measures a row
 */

static void measure(const struct row *row, int pipe)
{
	if (row->mappings)
		layout_make(row->mappings, row->layout);
	if (row->prepare)
		row->prepare(row);
	for (unsigned i = 0; i < row->per_process; i++) {
		struct sample sample = row->measure(row);

		if (write(pipe, &sample, sizeof(sample)) != sizeof(sample))
			err(1, "write");
	}
}

/*
 * The process that runs the others
 */

static void start_process(const struct row *row, int ends[2])
{
	char number[24];

	if (dup2(ends[1], STDOUT_FILENO) < 0)
		err(1, "dup2");
	close(ends[0]);
	close(ends[1]);
	snprintf(number, sizeof(number), "%td", row - rows);
	execl("/proc/self/exe", "bench", "--row", number, (char *)NULL);
	err(1, "exec");
}

/* Returns the number of samples; 0: the process failed and has printed why. */
static unsigned collect(const struct row *row, struct sample *samples, unsigned most)
{
	unsigned count = 0;
	int ends[2];
	int status;
	pid_t child;

	if (pipe(ends) != 0)
		err(1, "pipe");
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (child == 0)
		start_process(row, ends);
	close(ends[1]);
	while (count < most &&
	       read(ends[0], &samples[count], sizeof(*samples)) == sizeof(*samples))
		count++;
	close(ends[0]);
	if (waitpid(child, &status, 0) != child || status != 0)
		return 0;
	return count;
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

static struct result summarize(const struct sample *samples)
{
	double values[SAMPLES], limits[SAMPLES];

	for (unsigned i = 0; i < SAMPLES; i++) {
		values[i] = samples[i].value;
		limits[i] = samples[i].limit;
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

static bool run_row(const struct row *row, struct result *result)
{
	struct sample samples[SAMPLES];
	unsigned count = 0;
	unsigned more;

	for (; count < SAMPLES; count += more) {
		more = collect(row, samples + count, SAMPLES - count);
		if (more == 0)
			return false;
	}
	*result = summarize(samples);
	return true;
}

static void print_heading(void)
{
	printf("%-24s %10s %23s %-5s %10s %7s  %s\n", "row", "median", "quartiles", "unit",
	       "limit", "ratio", "goal");
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

static void print_row(FILE *table, const struct row *row, const struct result *result)
{
	char goal[24];
	bool is_met = meets_goal(row, result, goal);

	printf("%-24s %10.2f %11.2f %11.2f %-5s %10.2f %7.2f  %s%s\n", row->name, result->value,
	       result->low, result->high, row->unit, result->limit,
	       result->value / result->limit, goal, is_met ? "" : " MISSED");
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
		struct result result;

		if (!is_wanted(row, names))
			continue;
		show_progress(row->name);
		if (!run_row(row, &result)) {
			printf("%-24s not measured\n", row->name);
			is_complete = false;
			continue;
		}
		show_progress("");
		print_row(table, row, &result);
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
		measure(&rows[strtoul(argv[2], NULL, 10)], STDOUT_FILENO);
	} else if (argc == 2 && strcmp(argv[1], "--list") == 0) {
		for (size_t i = 0; i < row_count; i++)
			puts(rows[i].name);
	} else {
		return !have_matches(argv + 1) || !run_all(argv + 1);
	}
	return 0;
}
