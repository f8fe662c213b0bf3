## SPDX-License-Identifier: MIT

dist_doc_DATA = README NEWS SECURITY COPYING
reloadedincludedir = $(includedir)/reloaded
reloadedinclude_HEADERS = include/reloaded/buffers.h include/reloaded/buffers.hpp

pkgconfig_DATA = buffers.pc
cmakedir = $(libdir)/cmake/reloaded-buffers
cmake_DATA = \
	cmake/reloaded-buffers-config.cmake \
	cmake/reloaded-buffers-config-version.cmake

# The units, which the unit tests link without the list of exports.
noinst_LTLIBRARIES += lib/libunits.la
lib_libunits_la_CPPFLAGS = $(HEADER) $(INTERNALS) -DBUFFERS_BUILD
# Plugins take the static archive into shared objects.
lib_libunits_la_CFLAGS = $(AM_CFLAGS) -prefer-pic
lib_libunits_la_SOURCES = \
	lib/buffers.c \
	lib/arena/arena.c \
	lib/arena/arena.h \
	lib/process/give-back.c \
	lib/process/give-back.h \
	lib/process/state.c \
	lib/process/state.h \
	lib/process/views.c \
	lib/process/views.h \
	lib/locator/contention.c \
	lib/locator/contention.h \
	lib/locator/examine.c \
	lib/locator/examine.h \
	lib/locator/index.c \
	lib/locator/index.h \
	lib/locator/item.h \
	lib/locator/locator.c \
	lib/locator/locator.h \
	lib/locator/places.h \
	lib/locator/pool.c \
	lib/locator/pool.h \
	lib/locator/rendezvous.c \
	lib/locator/rendezvous.h \
	lib/locator/stretch-tree.c \
	lib/locator/stretch-tree.h \
	lib/locator/stretches.c \
	lib/locator/stretches.h \
	lib/locator/walk.c \
	lib/locator/walk.h \
	$(allocator) \
	lib/platform/defaults.c \
	lib/platform/platform.h \
	lib/platform/tls.h \
	lib/platform/wait.h \
	lib/base/atomic-store.c \
	lib/base/atomic-store.h \
	lib/base/format.h \
	lib/base/kind.h \
	lib/base/span.h \
	lib/base/window.h \
	$(port)

# A unit test runs the allocator over a simulated address space.
allocator = \
	lib/allocator/allocator.c \
	lib/allocator/allocator.h \
	lib/allocator/gap.c \
	lib/allocator/gap.h \
	lib/allocator/packed.c \
	lib/allocator/packed.h \
	lib/allocator/search-cache.c \
	lib/allocator/search-cache.h \
	lib/allocator/search.c \
	lib/allocator/search.h

# The sources of each system.
linux = \
	lib/platform/linux/growth.c \
	lib/platform/linux/internal.h \
	lib/platform/linux/map.c \
	lib/platform/linux/maps.c \
	lib/platform/linux/memory.c \
	lib/platform/linux/port.h \
	lib/platform/linux/process.c \
	lib/platform/linux/protect.c \
	lib/platform/linux/reserve.c \
	lib/platform/linux/robust-lock.c \
	lib/platform/linux/sys.c \
	lib/platform/linux/view.c \
	lib/platform/linux/write.c \
	lib/platform/posix/rendezvous-files.c \
	lib/platform/posix/sys.h
windows = \
	lib/platform/windows/error.c \
	lib/platform/windows/internal.h \
	lib/platform/windows/map.c \
	lib/platform/windows/maps.c \
	lib/platform/windows/memory.c \
	lib/platform/windows/other-process.c \
	lib/platform/windows/port.h \
	lib/platform/windows/process.c \
	lib/platform/windows/rendezvous-sections.c \
	lib/platform/windows/rx-sections.c \
	lib/platform/windows/section.c \
	lib/platform/windows/tls.h
EXTRA_DIST += $(linux) $(windows)
if WINDOWS
port = $(windows)
else
port = $(linux)
endif

noinst_LTLIBRARIES += libreloaded-buffers.la
libreloaded_buffers_la_SOURCES =
libreloaded_buffers_la_LIBADD = lib/libunits.la
libreloaded_buffers_la_LDFLAGS = $(AM_LDFLAGS) $(RPATH) -version-info $(LT_ABI) -no-undefined
EXTRA_libreloaded_buffers_la_DEPENDENCIES = lib/libreloaded-buffers.map
EXTRA_DIST += lib/libreloaded-buffers.map
if WINDOWS
# On i686, GCC would load a DLL of its runtime for divisions.
libreloaded_buffers_la_LDFLAGS += -export-symbols lib/exports -Wc,-static-libgcc
EXTRA_libreloaded_buffers_la_DEPENDENCIES += lib/exports
CLEANFILES += lib/exports lib/libreloaded-buffers.def
if HAVE_SHARED
# Microsoft's tools make an import library from this list.
definitiondir = $(libdir)
nodist_definition_DATA = lib/libreloaded-buffers.def
endif
lib/exports: lib/libreloaded-buffers.map
	$(AM_V_GEN)$(MKDIR_P) lib && \
	LC_ALL=C $(SED) -n 's/^	\(buffers_[a-z_]*\);$$/\1/p' $(srcdir)/lib/libreloaded-buffers.map >$@
lib/libreloaded-buffers.def: lib/exports libreloaded-buffers.la
	$(AM_V_GEN). ./libreloaded-buffers.la && \
	{ echo "LIBRARY $${dlname##*/}"; echo EXPORTS; cat lib/exports; } >$@
else
if HAVE_VERSION_SCRIPT
libreloaded_buffers_la_LDFLAGS += \
	-Wl,--version-script=$(top_srcdir)/lib/libreloaded-buffers.map
endif
endif
if HAVE_NODELETE
# After dlclose() and dlopen() a program must find the same buffers.
libreloaded_buffers_la_LDFLAGS += -Wl,-z,nodelete
endif
if HAVE_BIND_NOW
# Lazy binding takes a third of the first call, and locks in signal handlers.
libreloaded_buffers_la_LDFLAGS += -Wl,-z,now
endif
if HAVE_JOINED_SEGMENTS
# Each segment of its own wastes half a page, and is one more mapping in every process.
libreloaded_buffers_la_LDFLAGS += -Wl,-z,noseparate-code
endif

# Libtool does not quote the installation directory: a link without blanks leads to it.
installed_la = "$(DESTDIR)$(libdir)"/libreloaded-buffers.la
install-exec-local: libreloaded-buffers.la
	$(MKDIR_P) "$(DESTDIR)$(libdir)"
	link=$$(TMPDIR= mktemp -d) && \
	$(LN_S) "$$(cd "$(DESTDIR)$(libdir)" && pwd)" $$link/nowhere && \
	$(LIBTOOL) $(AM_LIBTOOLFLAGS) --warnings=none $(LIBTOOLFLAGS) --mode=install \
		$(INSTALL) $(INSTALL_STRIP_FLAG) libreloaded-buffers.la $$link/nowhere && \
	rm -r $$link
	{ sed '/^libdir=/d' .libs/libreloaded-buffers.lai; echo "libdir='$(libdir)'"; } >$(installed_la)
uninstall-local:
	if test -f $(installed_la); then \
		. $(installed_la) && cd "$(DESTDIR)$(libdir)" && \
		rm -f libreloaded-buffers.la $$library_names $$old_library $$dlname; fi
# The directories that only this library uses go, too, if they are empty.
uninstall-hook:
	for dir in "$(reloadedincludedir)" "$(cmakedir)" "$(clientsexampledir)" \
			"$(hookexampledir)" "$(jitexampledir)" "$(exampledir)" "$(docdir)"; do \
		test ! -d "$(DESTDIR)$$dir" || rmdir "$(DESTDIR)$$dir" 2>/dev/null || :; done

# Tests the installed files as a user finds them: make install installcheck.
installcheck-local:
	CC='$(CC)' PKG_CONFIG='$(PKG_CONFIG)' DESTDIR="$(DESTDIR)" \
		pkgconfigdir="$(pkgconfigdir)" mandir="$(mandir)" exampledir="$(exampledir)" \
		$(srcdir)/tests/package/installed.sh
