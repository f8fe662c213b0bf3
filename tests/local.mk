## SPDX-License-Identifier: MIT
##
## A program in tests/FOLDER/ is listed once, in its folder's paragraph.  Programs in unit/ link
## the units of the library; all others link the shared library and include the public header.

# Every test, and those that repeat something thousands of times in make check-slow.
test_programs =
slow_tests =
shell_tests = \
	tests/package/exports.sh \
	tests/package/header.sh

AM_TESTS_ENVIRONMENT = \
	top_srcdir='$(top_srcdir)'; CC='$(CC)'; MANDOC='$(MANDOC)'; NM='$(NM)'; \
	OBJDUMP='$(OBJDUMP)'; \
	HEADER='$(HEADER)'; LIBRARY_DIR='$(LIBRARY_DIR)'; LOG_COMPILER='$(LOG_COMPILER)'; \
	export top_srcdir CC MANDOC NM OBJDUMP HEADER LIBRARY_DIR LOG_COMPILER; \
	: $${ASAN_OPTIONS=detect_leaks=0}; export ASAN_OPTIONS; # buffers are never freed
# The scripts take longest, so they start first.
# LOG_COMPILER may be an emulator; scripts are not run by it, but know it.
TEST_EXTENSIONS = .sh
TESTS = $(shell_tests) $(test_programs)

check-slow:
	BUFFERS_TEST_FULL=1 $(MAKE) check TESTS='$(slow_tests)'
.PHONY: check-slow

if HAVE_CHECK
check_PROGRAMS += $(test_programs)

# support/: helpers, each compiled once ---------------------------------------------

check_LTLIBRARIES += tests/support/libsupport.la
tests_support_libsupport_la_CFLAGS = $(AM_CFLAGS)
tests_support_libsupport_la_SOURCES = \
	tests/support/arena-records.c \
	tests/support/arena-records.h \
	tests/support/code.h \
	tests/support/copies.c \
	tests/support/copies.h \
	tests/support/foreign.c \
	tests/support/foreign.h \
	tests/support/kinds.c \
	tests/support/kinds.h \
	tests/support/ledger.c \
	tests/support/ledger.h \
	tests/support/maps-watch.h \
	tests/support/ownership.c \
	tests/support/ownership.h \
	tests/support/support.c \
	tests/support/support.h
if WINDOWS
tests_support_libsupport_la_SOURCES += \
	tests/support/copies-windows.c \
	tests/support/foreign-sections.h \
	tests/support/foreign-windows.c \
	tests/support/maps-watch-windows.c \
	tests/support/regions.c \
	tests/support/regions.h \
	tests/support/support-windows.c
# A static libpthread: no DLL has to be beside the tests.  It has two names: the first is found
# before Check's own clock, which stands still, and the second serves Check.
tests_support_libsupport_la_LIBADD = -l:libpthread.a $(CHECK_LIBS) -l:libwinpthread.a
# Code compiled for a DLL would look for threads in another one.
tests_support_libsupport_la_CFLAGS += -static
else
tests_support_libsupport_la_SOURCES += \
	tests/support/copies-linux.c \
	tests/support/forged-files.c \
	tests/support/forged-files.h \
	tests/support/foreign-linux.c \
	tests/support/inspect.c \
	tests/support/inspect.h \
	tests/support/interop.c \
	tests/support/interop.h \
	tests/support/maps-watch.c \
	tests/support/publish.c \
	tests/support/publish.h \
	tests/support/reexec.c \
	tests/support/reexec.h \
	tests/support/restrict.c \
	tests/support/restrict.h \
	tests/support/sandbox-tmp.c \
	tests/support/sandbox.c \
	tests/support/sandbox.h \
	tests/support/scenes.c \
	tests/support/scenes.h \
	tests/support/signals.c \
	tests/support/signals.h \
	tests/support/supervise.c \
	tests/support/supervise.h \
	tests/support/support-linux.c \
	tests/support/twin.c \
	tests/support/twin.h
tests_support_libsupport_la_LIBADD = $(CHECK_LIBS) -ldl
endif

tests_api_get_CPPFLAGS = $(AM_CPPFLAGS)

# Copies of the library, for programs that are linked with none: the shared object under two
# names, and plugins that contain the archive.
if HAVE_SHARED
CLEANFILES += $(check_DATA)
check_LTLIBRARIES += tests/support/static-copy.la
tests_support_static_copy_la_SOURCES = tests/support/static-copy.c
tests_support_static_copy_la_LIBADD = $(ARCHIVE)
PLUGIN_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared $(RPATH)
STATIC_COPY_LDFLAGS = $(PLUGIN_LDFLAGS) -export-symbols-regex '^static_copy$$'
if WINDOWS
check_DATA = tests/support/copy-one.dll tests/support/copy-two.dll
$(check_DATA): $(LIBRARY)
	$(AM_V_GEN)$(MKDIR_P) tests/support && . ./libreloaded-buffers.la && \
	cp "$(LIBRARY_DIR)/$${dlname##*/}" $@
tests_support_static_copy_la_LDFLAGS = $(STATIC_COPY_LDFLAGS) -no-undefined -Wc,-static-libgcc
else
check_DATA = tests/support/copy-one.so tests/support/copy-two.so
$(check_DATA): $(LIBRARY_FILE)
	$(AM_V_GEN)$(MKDIR_P) tests/support && cp $(LIBRARY_DIR)/libreloaded-buffers.so $@
tests_support_static_copy_la_LDFLAGS = $(STATIC_COPY_LDFLAGS)
check_LTLIBRARIES += tests/support/static-copy-nodelete.la
tests_support_static_copy_nodelete_la_SOURCES = tests/support/static-copy.c
tests_support_static_copy_nodelete_la_LIBADD = $(ARCHIVE)
tests_support_static_copy_nodelete_la_LDFLAGS = $(STATIC_COPY_LDFLAGS) -Wl,-z,nodelete
check_LTLIBRARIES += tests/support/plugin.la
tests_support_plugin_la_SOURCES = tests/support/plugin.c
tests_support_plugin_la_LDFLAGS = $(PLUGIN_LDFLAGS)
tests_api_get_CPPFLAGS += -DHAVE_PLUGIN
endif
endif

# unit/: each unit of the library, through the internal headers ----------------------

if !INSTALLED
UNIT_CPPFLAGS = $(AM_CPPFLAGS) $(INTERNALS)
UNIT = tests/support/libsupport.la lib/libunits.la
test_programs += \
	tests/unit/allocator \
	tests/unit/contention \
	tests/unit/gap \
	tests/unit/index \
	tests/unit/locator \
	tests/unit/stretches
slow_tests += \
	tests/unit/contention \
	tests/unit/index \
	tests/unit/locator \
	tests/unit/stretches
# The allocator alone, over a simulated address space.
tests_unit_allocator_SOURCES = tests/unit/allocator.c tests/support/fake-platform.c \
	tests/support/fake-platform.h $(allocator)
tests_unit_allocator_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_contention_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_contention_LDADD = $(UNIT)
tests_unit_gap_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_gap_LDADD = $(UNIT)
tests_unit_index_SOURCES = tests/unit/index.c tests/support/few-mappings.c \
	tests/support/few-mappings.h
tests_unit_index_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_index_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=buffers_platform_map_anywhere
tests_unit_index_LDADD = $(UNIT)
tests_unit_locator_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_locator_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=buffers_platform_map_anywhere \
	-Wl,--wrap=buffers_platform_unmap
tests_unit_locator_LDADD = $(UNIT)
tests_unit_stretches_SOURCES = tests/unit/stretches.c tests/support/few-mappings.c \
	tests/support/few-mappings.h
tests_unit_stretches_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_stretches_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=buffers_platform_map_anywhere \
	-Wl,--wrap=buffers_platform_backoff
tests_unit_stretches_LDADD = $(UNIT)
if WINDOWS
test_programs += tests/unit/windows
tests_unit_windows_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_windows_LDADD = $(UNIT)
else
test_programs += tests/unit/linux
tests_unit_linux_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_linux_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=mmap -Wl,--wrap=mmap64 \
	-Wl,--wrap=buffers_platform_clock -Wl,--wrap=prctl
tests_unit_linux_LDADD = $(UNIT)
endif
endif

# Programs for all systems -----------------------------------------------------------

test_programs += \
	tests/api/alloc \
	tests/api/get \
	tests/api/give-back \
	tests/api/give-back-random \
	tests/api/item \
	tests/api/kinds \
	tests/api/narrow \
	tests/api/overwrite \
	tests/api/protect \
	tests/api/random \
	tests/api/places \
	tests/api/reuse \
	tests/api/threads \
	tests/api/view \
	tests/arena/arena
slow_tests += \
	tests/api/give-back \
	tests/api/give-back-random \
	tests/api/item \
	tests/api/narrow

# windows/ ---------------------------------------------------------------------------

if WINDOWS
test_programs += \
	tests/windows/addresses \
	tests/windows/alloc-in \
	tests/windows/random
slow_tests += \
	tests/windows/alloc-in \
	tests/windows/random
# The process in which tests/windows/alloc-in maps memory.
check_PROGRAMS += tests/windows/child
tests_windows_child_LDADD =
if HAVE_SHARED
test_programs += \
	tests/windows/copies \
	tests/windows/foreign
tests_windows_copies_LDADD = tests/support/libsupport.la
endif
else

# api/, process/ on Linux --------------------------------------------------------------

test_programs += \
	tests/api/full-range \
	tests/api/growth \
	tests/api/growth-nopie \
	tests/api/nomalloc \
	tests/process/exec \
	tests/process/failing-calls \
	tests/process/fork \
	tests/process/forkstorm \
	tests/process/give-back-fork \
	tests/process/numbers \
	tests/process/policy \
	tests/process/system-calls
slow_tests += \
	tests/api/full-range \
	tests/process/exec \
	tests/process/fork \
	tests/process/forkstorm \
	tests/process/give-back-fork \
	tests/process/numbers
# The same in an executable at a fixed low address, right below its heap.
tests_api_growth_nopie_SOURCES = tests/api/growth.c
tests_api_growth_nopie_CFLAGS = $(AM_CFLAGS) -fno-pie
tests_api_growth_nopie_LDFLAGS = $(AM_LDFLAGS) -no-pie
# Compilers assume that malloc() reads no variable of the program.
tests_api_nomalloc_CFLAGS = $(AM_CFLAGS) -fno-builtin

# rendezvous/ ----------------------------------------------------------------------------

test_programs += \
	tests/rendezvous/bad-files \
	tests/rendezvous/cleanup \
	tests/rendezvous/descriptors \
	tests/rendezvous/exit \
	tests/rendezvous/faults \
	tests/rendezvous/hostile \
	tests/rendezvous/no-tmp \
	tests/rendezvous/pids \
	tests/rendezvous/secure \
	tests/rendezvous/stale \
	tests/rendezvous/toctou
slow_tests += \
	tests/rendezvous/cleanup \
	tests/rendezvous/descriptors \
	tests/rendezvous/exit \
	tests/rendezvous/faults \
	tests/rendezvous/hostile \
	tests/rendezvous/pids \
	tests/rendezvous/stale \
	tests/rendezvous/toctou
tests_rendezvous_secure_SOURCES = tests/rendezvous/secure.c tests/rendezvous/secure-helper.h
# Another user executes it, and cannot read the build directory: it contains the library.
check_PROGRAMS += tests/rendezvous/secure-helper
tests_rendezvous_secure_helper_SOURCES = \
	tests/rendezvous/secure-helper.c tests/rendezvous/secure-helper.h
tests_rendezvous_secure_helper_LDADD = tests/support/libsupport.la $(ARCHIVE)
if HAVE_SHARED
test_programs += \
	tests/rendezvous/copies \
	tests/rendezvous/unload
slow_tests += \
	tests/rendezvous/copies \
	tests/rendezvous/unload
# These load every copy of the library themselves.
tests_rendezvous_copies_LDADD = tests/support/libsupport.la
tests_rendezvous_unload_LDADD = tests/support/libsupport.la
endif

# interop/: another implementation in the same process ---------------------------------

test_programs += \
	tests/interop/foreign \
	tests/interop/foreign-threads \
	tests/interop/twin
slow_tests += tests/interop/foreign-threads

# rx/ ----------------------------------------------------------------------------------

test_programs += \
	tests/rx/live-patching \
	tests/rx/protect \
	tests/rx/rx \
	tests/rx/views \
	tests/rx/vanished-writer

# arena/ -------------------------------------------------------------------------------

test_programs += \
	tests/arena/arena-destroy \
	tests/arena/arena-fork \
	tests/arena/arena-kill \
	tests/arena/arena-steps \
	tests/arena/huge-pages \
	tests/arena/reserve
slow_tests += \
	tests/arena/arena-fork \
	tests/arena/arena-kill \
	tests/arena/arena-steps
endif
else
TESTS += tests/package/no-check.sh
endif

# package/, run/ -----------------------------------------------------------------------

if !INSTALLED
if !WINDOWS
shell_tests += \
	tests/package/compare.sh \
	tests/package/cpp.sh \
	tests/package/dist.sh \
	tests/package/examples.sh \
	tests/package/layout-m32.sh \
	tests/package/locale.sh \
	tests/package/man.sh \
	tests/package/usage.sh
endif
endif
EXTRA_DIST += \
	tests/clients/asmjit.patch \
	tests/clients/asmjit.sh \
	tests/clients/libffi.patch \
	tests/clients/libffi.sh \
	tests/clients/pcre2.patch \
	tests/clients/pcre2.sh \
	tests/clients/tcc.patch \
	tests/clients/tcc.sh \
	tests/clients/xbyak.patch \
	tests/clients/xbyak.sh \
	tests/package/client-asmjit.cc \
	tests/package/client-xbyak.cc \
	tests/package/cmake/CMakeLists.txt \
	tests/package/compare.sh \
	tests/package/cpp.cc \
	tests/package/cpp.sh \
	tests/package/dist.sh \
	tests/package/examples.sh \
	tests/package/exports.sh \
	tests/package/header.sh \
	tests/package/installed.c \
	tests/package/installed.sh \
	tests/package/layout-m32.sh \
	tests/package/locale.sh \
	tests/package/man.sh \
	tests/package/no-check.sh \
	tests/package/usage.sh \
	tests/run/chroot.sh \
	tests/run/clients \
	tests/run/compilers \
	tests/run/count \
	tests/run/cross \
	tests/run/dist \
	tests/run/environments \
	tests/run/kernels \
	tests/run/matrix \
	tests/run/under-wine \
	tests/run/windows \
	tests/support/hook-targets-arm64.h \
	tests/support/hook-targets-i386.h \
	tests/support/hook-targets-x86-64.h \
	tests/support/hook-targets.c
