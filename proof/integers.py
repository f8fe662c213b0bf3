# SPDX-License-Identifier: MIT
"""Says in integers what a term says of words.

Chains of additions and comparisons of words take Z3 minutes, and of integers milliseconds.
What has no simple counterpart, such as &, becomes an unknown function: a claim that holds for
every function holds for this one.  A counterexample may be none, and counts for nothing.
"""
import z3


class Integers:
    def __init__(self):
        self.known = {}
        self.ranges = []

    def unknown(self, name, width):
        value = z3.Int(name)
        self.ranges.append(z3.And(value >= 0, value < 2 ** width))
        return value

    def term(self, term):
        key = term.get_id()
        if key not in self.known:
            self.known[key] = term, self.translate(term)	# the term keeps its number
        return self.known[key][1]

    def wrapped(self, value, width):
        """The value modulo the words, for a sum or difference of two words."""
        size = 2 ** width
        return z3.If(value < 0, value + size, z3.If(value >= size, value - size, value))

    def translate(self, term):
        kind = term.decl().kind()
        parts = [self.term(part) for part in term.children()]
        width = term.size() if z3.is_bv(term) else 0
        if z3.is_bv_value(term):
            return z3.IntVal(term.as_long())
        if kind == z3.Z3_OP_UNINTERPRETED and not parts:
            return self.unknown(term.decl().name(), width) if width else term
        if kind == z3.Z3_OP_BADD:
            value = parts[0]
            for part in parts[1:]:
                value = self.wrapped(value + part, width)
            return value
        if kind == z3.Z3_OP_BSUB:
            return self.wrapped(parts[0] - parts[1], width)
        if kind == z3.Z3_OP_BNEG:
            return self.wrapped(-parts[0], width)
        if kind == z3.Z3_OP_ZERO_EXT:
            return parts[0]
        if kind == z3.Z3_OP_EXTRACT and term.params()[1] == 0:
            return self.low_part(parts[0], width, term.arg(0).size())
        comparisons = {z3.Z3_OP_ULEQ: lambda a, b: a <= b, z3.Z3_OP_ULT: lambda a, b: a < b,
                       z3.Z3_OP_UGEQ: lambda a, b: a >= b, z3.Z3_OP_UGT: lambda a, b: a > b}
        if kind in comparisons:
            return comparisons[kind](*parts)
        if z3.is_bool(term) or kind == z3.Z3_OP_ITE:
            return self.same(kind, term, parts)
        return self.function(term, parts, width)

    def low_part(self, value, width, from_width):
        self.count = getattr(self, 'count', 0) + 1
        low = self.unknown(f'low!{self.count}', width)
        high = self.unknown(f'high!{self.count}', from_width - width)
        self.ranges.append(value == high * 2 ** width + low)
        return low

    def same(self, kind, term, parts):
        plain = {z3.Z3_OP_AND: lambda *p: z3.And(p), z3.Z3_OP_OR: lambda *p: z3.Or(p),
                 z3.Z3_OP_NOT: z3.Not, z3.Z3_OP_IMPLIES: z3.Implies, z3.Z3_OP_ITE: z3.If,
                 z3.Z3_OP_EQ: lambda a, b: a == b, z3.Z3_OP_TRUE: lambda: z3.BoolVal(True),
                 z3.Z3_OP_FALSE: lambda: z3.BoolVal(False)}
        if kind == z3.Z3_OP_DISTINCT:
            return parts[0] != parts[1]
        if kind in plain:
            return plain[kind](*parts)
        return z3.FreshBool()

    def function(self, term, parts, width):
        name = f'{term.decl().name()}!{width}!{len(parts)}'
        sorts = [z3.BoolSort() if z3.is_bool(part) else z3.IntSort() for part in parts]
        value = z3.Function(name, *sorts, z3.IntSort())(*parts)
        self.ranges.append(z3.And(value >= 0, value < 2 ** width))
        return value


def holds(term, assumptions, steps):
    integers = Integers()
    solver = z3.Solver()
    solver.set('rlimit', steps)
    solver.add([integers.term(part) for part in assumptions])
    solver.add(z3.Not(integers.term(term)))
    solver.add(integers.ranges)
    return solver.check() == z3.unsat
