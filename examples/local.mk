## SPDX-License-Identifier: MIT

# The examples are installed as sources, with a Makefile for the installed library.
exampledir = $(docdir)/examples
hookexampledir = $(exampledir)/hook
jitexampledir = $(exampledir)/jit
clientsexampledir = $(exampledir)/clients
dist_example_DATA = examples/Makefile examples/near.c examples/patch-loop.c
EXTRA_DIST += examples/demo

# hook-machine.c includes the code for the processor.
dist_hookexample_DATA = \
	examples/hook/hook-arm64.c \
	examples/hook/hook-machine.c \
	examples/hook/hook-machine.h \
	examples/hook/hook-preload.c \
	examples/hook/hook-x86.c \
	examples/hook/hook.c \
	examples/hook/segment.c \
	examples/hook/segment.h

# target.c includes the code for the processor.
compiler = \
	examples/jit/compile.c \
	examples/jit/compile.h \
	examples/jit/target.c \
	examples/jit/target.h
dist_jitexample_DATA = \
	examples/jit/low2g.c \
	examples/jit/prefork.c \
	examples/jit/target-arm.c \
	examples/jit/target-arm64.c \
	examples/jit/target-help.c \
	examples/jit/target-i386.c \
	examples/jit/target-ppc64el.c \
	examples/jit/target-riscv64.c \
	examples/jit/target-s390x.c \
	examples/jit/target-x86-64.c \
	examples/jit/target-x86.c \
	examples/jit/turns.c \
	examples/jit/turns.h \
	$(compiler)

# Adapters for other projects' libraries, of which the build needs none.
dist_clientsexample_DATA = \
	examples/clients/asmjit-runtime.hpp \
	examples/clients/asmjit.cc \
	examples/clients/measure.hpp \
	examples/clients/tcc-near.c \
	examples/clients/xbyak-allocator.hpp \
	examples/clients/xbyak.cc

noinst_PROGRAMS += examples/near
examples_near_LDADD = libreloaded-buffers.la

if HAVE_LOW2G
noinst_PROGRAMS += examples/jit/low2g
examples_jit_low2g_SOURCES = examples/jit/low2g.c $(compiler)
examples_jit_low2g_LDADD = libreloaded-buffers.la
noinst_PROGRAMS += examples/jit/prefork
examples_jit_prefork_SOURCES = examples/jit/prefork.c examples/jit/turns.c examples/jit/turns.h $(compiler)
examples_jit_prefork_LDADD = libreloaded-buffers.la
endif

if HAVE_HOOK
noinst_PROGRAMS += examples/hook/hook
examples_hook_hook_SOURCES = examples/hook/hook.c
examples_hook_hook_LDADD =
noinst_PROGRAMS += examples/patch-loop
examples_patch_loop_SOURCES = \
	examples/hook/hook-machine.c \
	examples/hook/hook-machine.h \
	examples/hook/segment.c \
	examples/hook/segment.h \
	examples/patch-loop.c
# The flags give the program an object of its own, since the other one is libtool's.
examples_patch_loop_CFLAGS = $(AM_CFLAGS)
examples_patch_loop_LDADD = libreloaded-buffers.la $(ZYDIS_LIBS) -ldl
noinst_LTLIBRARIES += examples/hook/hook-preload.la
examples_hook_hook_preload_la_SOURCES = \
	examples/hook/hook-machine.c \
	examples/hook/hook-machine.h \
	examples/hook/hook-preload.c \
	examples/hook/segment.c \
	examples/hook/segment.h
examples_hook_hook_preload_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared $(RPATH)
examples_hook_hook_preload_la_LIBADD = libreloaded-buffers.la $(ZYDIS_LIBS) -ldl
endif

demo: all
	@$(srcdir)/examples/demo $(noinst_PROGRAMS)
