## SPDX-License-Identifier: MIT

EXTRA_DIST += proof/arithmetic.py proof/claims.py proof/csource.py proof/integers.py \
	proof/item.pml proof/models proof/prove proof/register.pml proof/robust.pml \
	proof/smallwords.py proof/stretches.pml

# Needs clang, python3-z3 and spin; what is missing is reported as skipped.
prove: config.h
	$(srcdir)/proof/prove $(srcdir) .
