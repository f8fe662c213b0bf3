## SPDX-License-Identifier: MIT

EXTRA_PROGRAMS += bench/bench
CLEANFILES += $(EXTRA_PROGRAMS) bench/results.tsv
EXTRA_DIST += bench/plot bench/count
bench_bench_SOURCES = bench/main.c bench/rows.c bench/layout.c bench/bench.h
# The archive, as in a plugin: through the shared library a call takes 1 ns more.
bench_bench_LDADD = lib/libunits.la
bench_bench_LDFLAGS = $(AM_LDFLAGS)
if HAVE_BIND_NOW
bench_bench_LDFLAGS += -Wl,-z,now
endif

# BENCH: the beginnings of the names of rows; none: all
bench: bench/bench$(EXEEXT) libreloaded-buffers.la
	bench/bench$(EXEEXT) $(BENCH)
