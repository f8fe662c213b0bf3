## SPDX-License-Identifier: MIT

EXTRA_DIST += fuzz/api.c fuzz/api.seeds fuzz/input.h fuzz/maps.c fuzz/maps.seeds \
	fuzz/rendezvous.c fuzz/rendezvous.seeds fuzz/run

# TIME: seconds for each harness.  Needs clang with libFuzzer.
fuzz: config.h
	$(srcdir)/fuzz/run $(srcdir) . $(TIME)
