/* SPDX-License-Identifier: MIT */
/* bench.h: the rows of the benchmark, and what measuring them needs */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stddef.h>
#include <stdint.h>

/* What was measured, and the bare operation measured right beside it. */
struct sample {
	double value, limit;
};

/* Where the process has mappings that are not ours (layout.c). */
enum layout {
	AREA,		/* in the mmap area, far from the executable */
	BELOW,		/* half of them there, half right below the executable */
	PACKED,		/* without gaps around the executable, half on either side */
};

struct row {
	const char *name;
	const char *unit;
	void (*prepare)(const struct row *row);	/* once in each process; may be NULL */
	struct sample (*measure)(const struct row *row);
	unsigned mappings;
	enum layout layout;
	unsigned per_process;	/* samples that one process can give */
	double most, least;	/* the goal, 0: none */
};

/* All rows, in the order in which they are shown (rows.c). */
extern const struct row rows[];
extern const size_t row_count;

/* Gives this process about so many mappings in all. */
void layout_make(unsigned mappings, enum layout layout);

/* What /proc/self/maps says, read without making mappings. */
struct usage {
	size_t mappings;
	size_t bytes;
};
struct usage usage_now(void);

/* Ends the program, saying which call failed. */
_Noreturn void fail(const char *what);

#endif
