/* SPDX-License-Identifier: MIT */
/* hook-targets.c: a program for examples/hook/hook, and functions that it can and cannot move */

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define FUNCTION(name, code)						\
	__asm__(".text\n.p2align 4\n.globl " #name "\n.type " #name ", %function\n"	\
		#name ":\n" code "\n.size " #name ", . - " #name "\n.p2align 4, 0xcc\n");	\
	long name(long)

long number = 5;
long increment(long argument) { return argument + 1; }

#if defined(__x86_64__)
# include "support/hook-targets-x86-64.h"
#elif defined(__i386__)
# include "support/hook-targets-i386.h"
#elif defined(__AARCH64EL__)
# include "support/hook-targets-arm64.h"
#else
# error "there is no hook-targets-*.h for this processor"
#endif

__attribute__((noinline))
double many(int a, long b, short c, char d, long e, long f, long g, long h, double i, float j,
	    double k, double l, double m, double n, double o, double p, double q)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j +
	       11 * k + 12 * l + 13 * m + 14 * n + 15 * o + 16 * p + 17 * q;
}

__attribute__((noinline))
double variadic(int count, ...)
{
	double sum = errno;
	va_list list;

	va_start(list, count);
	while (count--)
		sum = sum * 2 + va_arg(list, double) + va_arg(list, int);
	va_end(list);
	return sum;
}

static void probe(const void *argument)
{
	probe_number((long)argument);
}

static void probe_all(void)
{
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(pages + 4096, 4096);
	memset(pages, 'a', 4096);
	probe("plain");
	probe("a \"quoted\\\n\tword\r");
	probe("a text of exactly forty characters .....");
	probe("a text of exactly forty-one characters...");
	probe("bell \a");
	probe("delete \177");
	probe("\xc3\xa9");
	probe(pages + 4090);		/* continues into the unmapped page */
	strcpy(pages + 4090, "ended");
	probe(pages + 4090);
	probe(pages + 4096);
	probe(NULL);
	probe((void *)1);
	probe((void *)4095);
	probe((void *)-1);
	probe((void *)~(~0ul >> 1));
	probe((void *)0xffffffff);
}

static void *probe_often(void *unused)
{
	for (int i = 0; i < 2500; i++)
		probe(unused);
	return NULL;
}

static void probe_in_threads(void)
{
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, probe_often, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

static void probe_in_child(void)
{
	int status;

	probe("before");
	if (fork() == 0) {
		probe("in the child");
		exit(0);
	}
	wait(&status);
	probe("after");
}

#define REPORT(name) printf("%-20s%ld %ld %ld\n", #name, name(0), name(9), name(-9));

int main(int argc, char **argv)
{
	if (argc > 1) {
		if (strcmp(argv[1], "all") == 0)
			probe_all();
		else if (strcmp(argv[1], "threads") == 0)
			probe_in_threads();
		else if (strcmp(argv[1], "fork") == 0)
			probe_in_child();
		else
			puts(MACHINE);
		return 0;
	}
	puts(MACHINE);	/* under an emulator, the C library's first allocation sets errno */
	errno = 11;
	REPORT_ALL
	printf("%ld\n", recursive(3));
	printf("%g\n", many(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17));
	printf("%g %d\n", variadic(3, 1.5, 2, 3.5, 4, 5.5, 6), errno);
	return 9;
}
