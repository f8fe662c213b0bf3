## SPDX-License-Identifier: MIT

EXTRA_PROGRAMS += bench/bench bench/bench-archive
CLEANFILES += $(EXTRA_PROGRAMS) bench/results.tsv
EXTRA_DIST += bench/clients bench/compare bench/count bench/plot bench/size
bench_sources = bench/main.c bench/rows.c bench/layout.c bench/files.c bench/bench.h \
	tests/support/sandbox-tmp.c tests/support/sandbox.h
# The same objects with each library, linked as pkg-config says; -no-install makes no wrapper.
bench_bench_SOURCES = $(bench_sources)
bench_bench_LDADD = libreloaded-buffers.la
bench_bench_LDFLAGS = $(AM_LDFLAGS) -no-install
bench_bench_archive_SOURCES = $(bench_sources)
bench_bench_archive_LDADD = lib/libunits.la

# BENCH: prefixes of the names of rows; empty: all rows
bench: bench/bench$(EXEEXT) bench/bench-archive$(EXEEXT)
	bench/bench$(EXEEXT) $(BENCH)

# Links the library once more, for the map.
bench/linked/libreloaded-buffers.la: libreloaded-buffers.la
	$(AM_V_at)$(MKDIR_P) bench/linked
	$(AM_V_CCLD)$(libreloaded_buffers_la_LINK) -shared -Wl,-Map,bench/linked/map \
		$(libreloaded_buffers_la_LIBADD) $(LIBS)
size: bench/linked/libreloaded-buffers.la
	$(srcdir)/bench/size bench/linked/.libs/libreloaded-buffers.so bench/linked/map
