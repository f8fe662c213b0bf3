## SPDX-License-Identifier: MIT

EXTRA_PROGRAMS += bench/bench
CLEANFILES += $(EXTRA_PROGRAMS) bench/results.tsv
EXTRA_DIST += bench/clients bench/plot bench/count
bench_bench_SOURCES = bench/main.c bench/rows.c bench/layout.c bench/bench.h
# Links the archive, as a plugin does: a call into the shared library takes 1 ns more.
bench_bench_LDADD = lib/libunits.la
bench_bench_LDFLAGS = $(AM_LDFLAGS)
if HAVE_BIND_NOW
bench_bench_LDFLAGS += -Wl,-z,now
endif

# BENCH: prefixes of the names of rows; empty: all rows
bench: bench/bench$(EXEEXT) libreloaded-buffers.la
	bench/bench$(EXEEXT) $(BENCH)
