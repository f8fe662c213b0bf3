# SPDX-License-Identifier: MIT
"""Reads functions of the library as Z3 terms.

clang parses the source and prints its tree, with every conversion spelled out; run() executes
a function of that tree on symbolic arguments.  The proofs are therefore about the source as it
is compiled, and not about a copy of it.  Only what arithmetic without loops needs is understood;
anything else is an error.

A value is a Z3 term, a dict for a structure or an array, or a Pointer.  A pointer to void or
char is a term: its address.  Every other pointer is taken for valid.
"""
import json
import os
import re
import subprocess
import tempfile
from collections import namedtuple

import z3

Pointer = namedtuple('Pointer', 'path')
ROUNDS = 3


class NotUnderstood(Exception):
    pass


def typed(node):
    kind = node['type'].get('desugaredQualType', node['type']['qualType'])
    return re.sub(r'\b(const|volatile|restrict)\b ?', '', kind).strip()


class Source:
    """One C file, as a processor with words of 64 or 32 bits sees it.

    With `small`, unsigned long has only so many bits, and unsigned int has small_int.
    """

    def __init__(self, path, flags, bits, small=None, small_int=None):
        self.path, self.flags, self.bits = path, flags, bits
        self.word = small or bits
        self.widths = {'unsigned char': 8, 'char': 8, 'unsigned short': 16, 'int': 32,
                       'unsigned int': small_int or 32, 'unsigned long long': 64,
                       'long long': 64, 'long': self.word, 'unsigned long': self.word,
                       '_Bool': 8}
        self.sizes = {}
        self.functions, self.records, self.constants, self.types = {}, {}, {}, {}
        for node in self.parse(path)['inner']:
            self.keep(node)

    def parse(self, path):
        with tempfile.TemporaryDirectory() as stubs:
            os.mkdir(stubs + '/gnu')	# glibc's list of missing functions, in 32 bits
            open(stubs + '/gnu/stubs-32.h', 'w').close()
            target = []
            if self.bits == 32:
                target = ['--target=i686-linux-gnu', '-isystem', stubs,
                          '-isystem', '/usr/include/x86_64-linux-gnu']
            tree = subprocess.run(['clang', *target, '-fsyntax-only', '-Xclang', '-ast-dump=json',
                                   '-DHAVE_CONFIG_H', '-DBUFFERS_BUILD', *self.flags, path],
                                  check=True, stdout=subprocess.PIPE)
        return json.loads(tree.stdout)

    def keep(self, node):
        inner = node.get('inner', [])
        if node['kind'] == 'FunctionDecl' and any(n['kind'] == 'CompoundStmt' for n in inner):
            self.functions[node['name']] = node
        elif node['kind'] == 'RecordDecl' and 'name' in node and inner:
            self.records['struct ' + node['name']] = [
                (field['name'], typed(field)) for field in inner if field['kind'] == 'FieldDecl']
        elif node['kind'] == 'TypedefDecl':
            self.types[node['name']] = typed(node)
        elif node['kind'] == 'EnumDecl':
            self.keep_constants(inner)

    def keep_constants(self, constants):
        value = -1
        for constant in constants:
            if constant['kind'] != 'EnumConstantDecl':
                continue
            value += 1
            if 'inner' in constant:		# clang has the value of the expression
                value = int(constant['inner'][0].get('value', value))
            self.constants[constant['name']] = value

    # Types

    def width(self, kind):
        kind = self.types.get(kind, kind)
        return 32 if kind.startswith('enum ') else self.widths.get(kind)

    def is_signed(self, kind):
        return kind in ('int', 'long', 'long long', 'char')

    def is_address(self, kind):
        return re.fullmatch(r'(void|char) ?\*', kind) is not None

    def sizeof(self, kind):
        """The size of a type, which clang computes."""
        if kind not in self.sizes:
            with tempfile.NamedTemporaryFile('w', suffix='.c') as probe:
                probe.write(f'#include "{self.path}"\nchar probe[sizeof({kind})];\n')
                probe.flush()
                variable = self.parse(probe.name)['inner'][-1]
            self.sizes[kind] = int(re.search(r'\[(\d+)\]', typed(variable)).group(1))
        return self.sizes[kind]

    def fields(self, kind):
        array = re.fullmatch(r'(.*?) ?\[(\d+)\]', kind)
        if array:
            return [(str(i), array.group(1)) for i in range(int(array.group(2)))]
        return self.records.get(kind)

    def make(self, kind, leaf, name=''):
        """A value of this type; leaf(name, width) makes its words."""
        if self.is_address(kind):
            return leaf(name, self.word)
        if self.width(kind):
            return leaf(name, self.width(kind))
        fields = self.fields(kind)
        if fields is None:
            return None		# not used by arithmetic
        return {field: self.make(type_, leaf, name + '.' + field) for field, type_ in fields}

    def symbol(self, kind, name):
        return self.make(kind, z3.BitVec, name)

    def run(self, name, *arguments, memory=None, externals=None):
        """Executes a function.  The Run has what it returned, and memory as it is afterwards.

        memory names the values that pointers lead to.  externals are functions of Python that
        take the place of functions by that name: they take the arguments and the Run.
        """
        run = Run(self, externals or {}, copied(memory or {}))
        run.returned = run.call(name, list(arguments))
        return run


def copied(value):
    """A copy of a structure; terms are never changed."""
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    return value


def merge(condition, one, other):
    if one is None or other is None:
        return one if other is None else other
    if isinstance(one, dict):
        return {key: merge(condition, one[key], other[key]) for key in one}
    if isinstance(one, Pointer) or isinstance(other, Pointer):
        if one != other:
            raise NotUnderstood('two pointers')
        return one
    if z3.is_bool(one) or z3.is_bool(other):
        one, other = truth(one), truth(other)
    return one if one.eq(other) else z3.If(condition, one, other)


def truth(value):
    if isinstance(value, Pointer):
        return z3.BoolVal(True)
    return value if z3.is_bool(value) else value != 0


def plain(condition):
    """True or false if the condition is always that; otherwise the term as it was written."""
    simple = z3.simplify(condition)
    return simple if z3.is_true(simple) or z3.is_false(simple) else condition


class Run:
    def __init__(self, source, externals, memory=None):
        self.source, self.externals = source, externals
        self.memory = memory if memory is not None else {}
        self.condition = z3.BoolVal(True)	# under which this is executed
        self.calls = 0
        self.ended = []

    # Memory: a path is the name of a value, then fields

    def load(self, path):
        value = self.memory[path[0]]
        for field in path[1:]:
            value = value[field]
        return value

    def store(self, path, value):
        if len(path) == 1:
            self.memory[path[0]] = value
        else:
            self.load(path[:-1])[path[-1]] = value

    # Statements.  Each returns whether the function has returned, as a term.

    def call(self, name, arguments):
        if name in self.externals:
            return self.externals[name](self, *arguments)
        function = self.source.functions.get(name)
        if function is None:
            raise NotUnderstood(f'call of {name}')
        self.calls += 1
        scope = f'{name}#{self.calls}'
        variables = [n for n in function['inner'] if n['kind'] == 'ParmVarDecl']
        body = next(n for n in function['inner'] if n['kind'] == 'CompoundStmt')
        for variable, argument in zip(variables, arguments):
            self.memory[variable['id']] = self.convert(argument, typed(variable))
        outer, self.result = getattr(self, 'result', None), scope
        self.memory[scope] = None
        self.block(body.get('inner', []))
        self.result = outer
        return self.memory.pop(scope)

    def block(self, statements):
        returned = z3.BoolVal(False)
        for number, statement in enumerate(statements):
            done = self.statement(statement)
            if z3.is_false(done):
                continue
            if z3.is_true(done):
                return done
            # Executes the rest where the function goes on, and joins the two.
            rest = self.branch(z3.Not(done), lambda: self.block(statements[number + 1:]),
                               lambda: z3.BoolVal(True))
            return z3.Or(done, rest)
        return returned

    def branch(self, condition, then, otherwise):
        before, outer = copied(self.memory), self.condition
        self.condition = z3.And(outer, condition)
        one = then()
        after, self.memory = self.memory, before
        self.condition = z3.And(outer, z3.Not(condition))
        other = otherwise()
        self.condition = outer
        self.memory = {key: merge(condition, after.get(key), self.memory.get(key))
                       for key in {**after, **self.memory}}
        return z3.If(condition, one, other)

    def statement(self, node):
        nothing = z3.BoolVal(False)
        kind, inner = node['kind'], node.get('inner', [])
        if kind == 'CompoundStmt':
            return self.block(inner)
        if kind == 'DeclStmt':
            for variable in inner:
                self.declare(variable)
            return nothing
        if kind == 'ReturnStmt':
            self.memory[self.result] = self.value(inner[0]) if inner else None
            return z3.BoolVal(True)
        if kind == 'IfStmt':
            condition = plain(truth(self.value(inner[0])))
            otherwise = (lambda: self.statement(inner[2])) if len(inner) > 2 else lambda: nothing
            if z3.is_true(condition):
                return self.statement(inner[1])
            if z3.is_false(condition):
                return otherwise()
            return plain(self.branch(condition, lambda: self.statement(inner[1]), otherwise))
        if kind == 'ForStmt':
            return self.loop(inner)
        if kind == 'DoStmt':	# of a macro: while (0)
            return self.statement(inner[0])
        if kind == 'NullStmt' or kind == 'GCCAsmStmt' and not inner:	# a barrier: no operands
            return nothing
        self.value(node)
        return nothing

    def loop(self, parts):
        """A loop that ends after ROUNDS rounds at most: the claims assume `ended`."""
        begin, _, condition, step, body = parts
        if begin:
            self.statement(begin)

        def rounds(left):
            going = truth(self.value(condition))
            if not left:
                self.ended.append(z3.Not(z3.And(self.condition, going)))
                return z3.BoolVal(False)

            def one():
                self.statement(body)
                self.value(step)
                return rounds(left - 1)
            return self.branch(going, one, lambda: z3.BoolVal(False))
        return rounds(ROUNDS)

    def declare(self, variable):
        if variable['kind'] == 'RecordDecl':	# a structure of this function alone
            return
        kind = typed(variable)
        if 'init' in variable:
            value = self.convert(self.value(variable['inner'][-1]), kind)
        else:
            value = self.unset(kind)
        self.memory[variable['id']] = value

    def unset(self, kind):
        return self.source.make(kind, lambda name, width: z3.FreshConst(z3.BitVecSort(width)))

    # Expressions

    def convert(self, value, kind):
        """A number as a word of this type."""
        width = self.source.word if self.source.is_address(kind) else self.source.width(kind)
        if z3.is_bool(value) and width:
            return z3.If(value, z3.BitVecVal(1, width), z3.BitVecVal(0, width))
        return value

    def resize(self, value, from_kind, to_kind):
        width = self.source.width(to_kind)
        if z3.is_bool(value):
            return self.convert(value, to_kind)
        if value.size() > width:
            return z3.Extract(width - 1, 0, value)
        if value.size() == width:
            return value
        extend = z3.SignExt if self.source.is_signed(from_kind) else z3.ZeroExt
        wide = extend(width - value.size(), value)
        return z3.simplify(wide) if z3.is_bv_value(value) else wide

    def path(self, node):
        """The path of an lvalue."""
        kind, inner = node['kind'], node.get('inner', [])
        if kind == 'DeclRefExpr':
            return (node['referencedDecl']['id'],)
        if kind == 'ParenExpr':
            return self.path(inner[0])
        if kind == 'MemberExpr':
            base = self.pointed(inner[0]) if node['isArrow'] else self.path(inner[0])
            return base + (node['name'],)
        if kind == 'UnaryOperator' and node['opcode'] == '*':
            return self.pointed(inner[0])
        if kind == 'ArraySubscriptExpr':
            return self.pointed(inner[0]) + (str(self.number(inner[1])),)
        if kind == 'CompoundLiteralExpr':
            self.memory[node['id']] = self.value(inner[0])
            return (node['id'],)
        raise NotUnderstood(f'lvalue {kind}')

    def pointed(self, node):
        pointer = self.value(node)
        if not isinstance(pointer, Pointer):
            raise NotUnderstood('access through an address')
        return pointer.path

    def number(self, node):
        return z3.simplify(self.value(node)).as_long()

    def value(self, node):
        kind = node['kind']
        method = getattr(self, 'value_of_' + kind, None)
        if method is None:
            raise NotUnderstood(kind)
        return method(node, node.get('inner', []))

    def value_of_ParenExpr(self, node, inner):
        return self.value(inner[0])

    value_of_ConstantExpr = value_of_ParenExpr

    def value_of_IntegerLiteral(self, node, inner):
        return z3.BitVecVal(int(node['value']), self.source.width(typed(node)))

    def value_of_UnaryExprOrTypeTraitExpr(self, node, inner):
        kind = node['argType']['qualType'] if 'argType' in node else typed(inner[0])
        return z3.BitVecVal(self.source.sizeof(kind), self.source.word)

    def value_of_DeclRefExpr(self, node, inner):
        name = node['referencedDecl']['name']
        if node['referencedDecl']['kind'] == 'EnumConstantDecl':
            return z3.BitVecVal(self.source.constants[name], 32)
        raise NotUnderstood(f'value of {name}')

    def value_of_CompoundLiteralExpr(self, node, inner):
        return self.value(inner[0])

    def value_of_InitListExpr(self, node, inner):
        fields = self.source.fields(typed(node))
        if fields is None:
            return self.value(inner[0])
        return {field: self.convert(self.value(n), kind)
                for (field, kind), n in zip(fields, inner)}

    def value_of_ImplicitValueInitExpr(self, node, inner):
        return self.source.make(typed(node), lambda name, width: z3.BitVecVal(0, width))

    def value_of_ImplicitCastExpr(self, node, inner):
        cast = node['castKind']
        if cast == 'LValueToRValue':
            return copied(self.load(self.path(inner[0])))
        if cast == 'ArrayToPointerDecay':
            return Pointer(self.path(inner[0]))
        if cast == 'ToVoid':
            return self.value(inner[0])
        value = self.value(inner[0])
        if cast == 'IntegralCast':
            return self.resize(value, typed(inner[0]), typed(node))
        if cast in ('IntegralToBoolean', 'PointerToBoolean'):
            return truth(value)
        if cast == 'NullToPointer':
            return z3.BitVecVal(0, self.source.word)
        if cast in ('NoOp', 'BitCast', 'PointerToIntegral', 'IntegralToPointer'):
            return value
        raise NotUnderstood(f'cast {cast}')

    value_of_CStyleCastExpr = value_of_ImplicitCastExpr

    def value_of_UnaryOperator(self, node, inner):
        operator = node['opcode']
        if operator == '&':
            return Pointer(self.path(inner[0]))
        value = self.value(inner[0])
        if operator == '!':
            return z3.Not(truth(value))
        value = self.convert(value, typed(node))
        if operator == '-':
            return -value
        if operator == '~':
            return ~value
        raise NotUnderstood(f'operator {operator}')

    def value_of_ConditionalOperator(self, node, inner):
        condition = truth(self.value(inner[0]))
        if z3.is_true(z3.simplify(condition)):
            return self.value(inner[1])
        return self.branch_values(condition, inner[1], inner[2])

    def branch_values(self, condition, one, other):
        results = {}
        def evaluate(key, node):
            results[key] = self.value(node)
            return z3.BoolVal(True)
        self.branch(condition, lambda: evaluate(1, one), lambda: evaluate(2, other))
        return merge(condition, results[1], results[2])

    def value_of_BinaryOperator(self, node, inner):
        operator = node['opcode']
        if operator == '=':
            path = self.path(inner[0])
            value = self.convert(self.value(inner[1]), typed(inner[0]))
            self.store(path, value)
            return value
        if operator in ('&&', '||'):
            return self.logical(operator, inner)
        one = self.convert(self.value(inner[0]), typed(inner[0]))
        other = self.convert(self.value(inner[1]), typed(inner[1]))
        if self.source.is_address(typed(node)):
            other = self.resize(other, typed(inner[1]), 'unsigned long')
        elif operator in ('<<', '>>'):
            other = self.resize(other, typed(inner[1]), typed(node))
        return self.arithmetic(operator, self.source.is_signed(typed(inner[0])), one, other)

    def logical(self, operator, inner):
        one = truth(self.value(inner[0]))
        results = []
        def evaluate():		# calls of the right side depend on the left one
            results.append(truth(self.value(inner[1])))
            return z3.BoolVal(True)
        self.branch(one if operator == '&&' else z3.Not(one), evaluate,
                    lambda: z3.BoolVal(True))
        return (z3.And if operator == '&&' else z3.Or)(one, results[0])

    def arithmetic(self, operator, is_signed, one, other):
        unsigned = {'<': z3.ULT, '<=': z3.ULE, '>': z3.UGT, '>=': z3.UGE, '/': z3.UDiv,
                    '%': z3.URem, '>>': z3.LShR}
        plain = {'+': lambda a, b: a + b, '-': lambda a, b: a - b, '*': lambda a, b: a * b,
                 '&': lambda a, b: a & b, '|': lambda a, b: a | b, '^': lambda a, b: a ^ b,
                 '==': lambda a, b: a == b, '!=': lambda a, b: a != b,
                 '<<': lambda a, b: a << b}
        if operator in plain:
            return plain[operator](one, other)
        if is_signed:	# only constants, none of which is negative
            one, other = z3.simplify(one), z3.simplify(other)
            if not z3.is_bv_value(one) or not z3.is_bv_value(other):
                raise NotUnderstood(f'signed {operator}')
        if operator in unsigned:
            return unsigned[operator](one, other)
        raise NotUnderstood(f'operator {operator}')

    def value_of_CallExpr(self, node, inner):
        callee = inner[0]
        while callee['kind'] != 'DeclRefExpr':
            callee = callee['inner'][0]
        return self.call(callee['referencedDecl']['name'], [self.value(n) for n in inner[1:]])

    def value_of_AtomicExpr(self, node, inner):
        path = self.pointed(inner[0])
        if len(inner) == 2:	# __atomic_load_n(pointer, order)
            return self.load(path)
        self.store(path, self.value(inner[2]))	# __atomic_store_n(pointer, value, order)
        return None
