# SPDX-License-Identifier: MIT
"""usage: python3 proof/arithmetic.py [-m] [-s] TOP BUILD [FUNCTION...]

Proves the claims in proof/claims.py of the source below TOP, for words of 64 and 32 bits, by
Z3; BUILD has config.h.  Then checks that each mutant of the source breaks a claim, and compares
the fast and the full check of a request for all small words.

With names, only the claims of these functions.

    -m    only the mutants
    -s    only the small words
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import z3


def usage():
    sys.stderr.write(__doc__)
    sys.exit(2)


if __name__ == '__main__' and (len(sys.argv) < 3 or '-h' in sys.argv):
    usage()
if shutil.which('clang') is None:
    print('skipped: no clang here')
    sys.exit(0)
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import claims
import integers
import smallwords
from csource import NotUnderstood, Source

# Z3 gives up after so many of its steps, on a busy machine as on another.  The hardest proof
# takes 40 million, and the hardest by integers 40,000.
MANY_STEPS = 400_000_000
FEW_STEPS = 1_000_000
SMALL = 256
failed = False


def report(fact, is_good, detail=''):
    global failed
    failed |= not is_good
    print(('ok - ' if is_good else 'not ok - ') + fact, flush=True)
    if detail and not is_good:
        print('\n'.join('#	' + line for line in str(detail).splitlines()), flush=True)


def refute(term, assumptions, steps=MANY_STEPS):
    """'' if the term holds; else a counterexample, or the reason why Z3 gave up."""
    solver = z3.Solver()
    solver.set('rlimit', steps)
    solver.add(*assumptions, z3.Not(term))
    answer = solver.check()
    if answer == z3.unsat:
        return ''
    return solver.model() if answer == z3.sat else f'unknown: {solver.reason_unknown()}'


def refute_quickly(term, assumptions):
    return '' if integers.holds(term, assumptions, FEW_STEPS) else refute(term, assumptions)


def prove(claim):
    """'' if the claim holds.  Each lemma is proved, then its part is replaced."""
    term, assumptions = claim.term, list(claim.assumptions)
    for lemma in claim.lemmas:
        problem = refute(z3.And(lemma.facts), [])
        if problem:
            return f'a lemma fails: {problem}'
        other = z3.FreshConst(lemma.part.sort()) if lemma.by is None else lemma.by
        term, *assumptions = [z3.substitute(part, (lemma.part, other))
                              for part in (term, *assumptions, *lemma.facts)]
    return refute_quickly(term, assumptions)


class Tree:
    """A copy of lib/, in which functions can be changed."""

    def __init__(self, top, build, copy):
        self.top, self.lib = top, copy + '/lib'
        shutil.copytree(top + '/lib', self.lib)
        self.flags = ['-w', '-I', build, '-I', top + '/include', '-I', self.lib]

    def source(self, file, bits, **small):
        unit = file if file.endswith('.c') else 'buffers.c'	# it includes every header
        return Source(f'{self.lib}/{unit}', self.flags, bits, **small)

    def mutate(self, group, old, new):
        """Replaces `old` once in the function; returns whether it was there once."""
        with open(f'{self.top}/lib/{group.file}') as file:
            text = file.read()
        start = re.search(rf'^[a-z].*\b{group.function}\(', text, re.M).start()
        end = text.index('\n}\n', start)
        count = text.count(old, start, end)
        with open(f'{self.lib}/{group.file}', 'w') as file:
            file.write(text[:start] + text[start:end].replace(old, new, 1) + text[end:])
        return count == 1

    def restore(self, group):
        shutil.copy(f'{self.top}/lib/{group.file}', f'{self.lib}/{group.file}')


def prove_all(tree):
    for bits in (64, 32):
        for group in claims.GROUPS:
            try:
                source = tree.source(group.file, bits)
                found = [claims.Claim(*claim) for claim in group.claims(source)]
            except NotUnderstood as error:
                report(f'{bits} bits, {group.file}, {group.function}(): understood', False, error)
                continue
            for claim in found:
                report(f'{bits} bits, {group.file}, {group.function}(): {claim.fact}',
                       *judged(prove(claim)))


def judged(problem):
    return problem == '', problem


def constants_of(term):
    """The symbolic words of a term."""
    found, seen, left = [], set(), [term]
    while left:
        part = left.pop()
        if part.get_id() in seen:
            continue
        seen.add(part.get_id())
        left.extend(part.children())
        if z3.is_bv(part) and part.decl().kind() == z3.Z3_OP_UNINTERPRETED:
            found.append(part)
    return found


def is_small(claim):
    return [z3.ULT(part, SMALL) for part in constants_of(z3.And(claim.term, *claim.assumptions))
            if part.size() > 8]


def break_claims(tree, group):
    """
    The first fact that does not hold, or None.  A word has 64 bits, or 32.  Z3 finds a
    counterexample of small words at once, and may take long for others.
    """
    found = [claims.Claim(*claim) for bits in (64, 32)
             for claim in group.claims(tree.source(group.file, bits))]
    for restrict in (is_small, lambda claim: []):
        for claim in found:
            if isinstance(refute_mutant(claim, restrict(claim)), z3.ModelRef):
                return claim.fact
    return None


def refute_mutant(claim, restrictions):
    assumptions = [*claim.assumptions, *restrictions]
    if integers.holds(claim.term, assumptions, FEW_STEPS):
        return ''
    return refute(claim.term, assumptions, MANY_STEPS // 10)


def try_mutants(tree):
    for group in claims.GROUPS:
        for old, new in group.mutants:
            name = f'{group.function}(): mutant {old!r} -> {new!r}'
            try:
                is_there = tree.mutate(group, old, new)
                broken = break_claims(tree, group) if is_there else None
                report(f'{name} is refuted', broken is not None,
                       'all claims hold' if is_there else 'the text is not there once')
            except (NotUnderstood, subprocess.CalledProcessError) as error:
                report(f'{name} is refuted', False, error)
            finally:
                tree.restore(group)


def main():
    options = [word for word in sys.argv[1:] if word.startswith('-')]
    top, build, *names = [word for word in sys.argv[1:] if not word.startswith('-')]
    top, build = os.path.realpath(top), os.path.realpath(build)
    if names:
        claims.GROUPS[:] = [group for group in claims.GROUPS if group.function in names]
    with tempfile.TemporaryDirectory() as copy:
        tree = Tree(top, build, copy)
        if not options:
            prove_all(tree)
        if '-s' not in options:
            try_mutants(tree)
        if '-m' not in options and not names:
            smallwords.compare(tree, report, copy)
    sys.exit(failed)


main()
