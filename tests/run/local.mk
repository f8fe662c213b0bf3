## SPDX-License-Identifier: MIT
##
## Working aids

EXTRA_DIST += .editorconfig .clang-format .clang-tidy man/html \
	tests/run/format tests/run/includes tests/run/pre-commit tests/run/prose

# Checks of less than 20 s in a built tree, for use between two edits.
# tests/run/pre-commit runs them as a hook of git.
quick_tests = tests/package/exports.sh tests/package/header.sh
if HAVE_CHECK
quick_tests += \
	tests/unit/gap tests/unit/allocator tests/unit/locator tests/unit/index \
	tests/unit/contention tests/unit/stretches \
	tests/api/get tests/api/item tests/api/alloc tests/api/kinds tests/api/random \
	tests/api/give-back
endif
quick:
	$(srcdir)/tests/run/includes $(srcdir)
	$(srcdir)/tests/run/prose $(srcdir)
	$(MAKE) $(AM_MAKEFLAGS) all
	$(MAKE) $(AM_MAKEFLAGS) check-TESTS check_PROGRAMS= TESTS='$(quick_tests)'

# The manual pages for a browser: html/index.html
html-local:
	MANDOC='$(MANDOC)' $(srcdir)/man/html html $(srcdir)/man/*.[1-9]
clean-local:
	rm -rf html bench/linked fuzzing tests/fuzz tests/proof

# Needs clang-tidy 14.  The checks, and reasons for those left out, are in .clang-tidy.
tidy: config.h
	files=`for file in $(lib_libunits_la_SOURCES); do \
		case $$file in *.c) echo $(srcdir)/$$file ;; esac; done` && \
	clang-tidy --quiet $$files -- $(DEFS) $(DEFAULT_INCLUDES) $(HEADER) \
		$(INTERNALS) -DBUFFERS_BUILD $(CPPFLAGS)

# Reports how many lines clang-format would change, and does not fail for them.
format-report:
	cd $(srcdir) && tests/run/format lib include tests examples bench
