/* SPDX-License-Identifier: MIT */
/* bench.h: the rows of the benchmark, and the functions that measure them */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A measured value, and that of the bare operation, measured right after it. */
struct sample {
	double value, limit;
};

/* Addresses of the mappings that layout_make() adds to the process. */
enum layout {
	AREA,		/* in the mmap area, far from the executable */
	BELOW,		/* half in the mmap area, half right below the executable */
	PACKED,		/* half on either side of the executable, without gaps */
};

struct row {
	const char *name;	/* stays: bench/compare finds the row of an older build by it */
	const char *unit;
	void (*prepare)(const struct row *row);	/* once in each process; may be NULL */
	struct sample (*measure)(const struct row *row);
	unsigned mappings;
	enum layout layout;
	unsigned places;	/* ranges that the requests ask for by turns */
	unsigned per_process;	/* samples that one process can take */
	/* The goal, unless 0: the value is at most, at least, or at most so often the limit. */
	double most, least, ratio;
};

/* All rows, in the order of the table. */
extern const struct row rows[];
extern const size_t row_count;

/* Adds mappings until this process has about `mappings` of them. */
void layout_make(unsigned mappings, enum layout layout);

/*
 * Gives the process a /tmp of its own, with so many rendezvous files of processes that have ended
 * in another PID namespace.  files_exchange() exchanges them with an empty directory.
 */
void files_make(unsigned count);
void files_exchange(void);

/* Ends the process with an error if fork() has failed, or the child. */
void wait_for_child(pid_t child);

/* Mappings and mapped bytes of this process.  Reading them makes no mappings. */
struct usage {
	size_t mappings;
	size_t bytes;
};
struct usage usage_now(void);

#endif
