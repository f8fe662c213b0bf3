# SPDX-License-Identifier: MIT
"""Compares the fast and the full check of a request for all small words.

The checks become a program of C, which is compiled, and tries all requests for all items.  It
uses neither Z3's solver nor its simplifier.
"""
import subprocess

import z3

import claims

# Bits of unsigned long and of unsigned int: as on a processor of 32 bits, and of 64 bits.
WIDTHS = ((4, 4), (4, 3))

PROGRAM = '''
#include <stdio.h>

static int check(const unsigned *in, int *fast)
{
%s
	*fast = t%d;
	return t%d == t%d;
}

int main(void)
{
	enum { WORD = 1 << %d, INT = 1 << %d };
	unsigned long requests = 0, met = 0;
	unsigned in[7];
	int fast;

	for (in[0] = 1; in[0] < WORD; in[0]++)	/* an item whose memory does not wrap */
	for (in[1] = 0; in[1] < INT && in[0] + in[1] < WORD; in[1]++)
	for (in[2] = 0; in[2] < INT; in[2]++)
	for (in[3] = 0; in[3] < WORD; in[3]++)
	for (in[4] = 0; in[4] < WORD; in[4]++)
	for (in[5] = 0; in[5] < WORD; in[5]++)
	for (in[6] = 0; in[6] < WORD; in[6]++) {
		if (!check(in, &fast)) {
			printf("base %%u size %%u position %%u min %%u max %%u size %%u alignment %%u: "
			       "the fast check says %%d\\n",
			       in[0], in[1], in[2], in[3], in[4], in[5], in[6], fast);
			return 1;
		}
		requests++;
		met += fast;
	}
	printf("%%lu requests, %%lu met\\n", requests, met);
	return met == 0;
}
'''


class Compiler:
    """Makes a statement of C for each part of a term."""

    def __init__(self, inputs):
        self.inputs = {value.decl().name(): i for i, value in enumerate(inputs)}
        self.known, self.kept, self.lines = {}, [], []

    def number(self, term):
        if term.get_id() not in self.known:
            self.kept.append(term)
            code = self.code(term, ['t%d' % self.number(part) for part in term.children()])
            if z3.is_bv(term):
                code = f'({code}) & {2 ** term.size() - 1}u'
            self.lines.append(f'\tunsigned t{len(self.lines)} = {code};')
            self.known[term.get_id()] = len(self.lines) - 1
        return self.known[term.get_id()]

    def code(self, term, parts):
        kind = term.decl().kind()
        joined = {z3.Z3_OP_BADD: ' + ', z3.Z3_OP_BAND: ' & ', z3.Z3_OP_BOR: ' | ',
                  z3.Z3_OP_BSUB: ' - ', z3.Z3_OP_AND: ' && ', z3.Z3_OP_OR: ' || ',
                  z3.Z3_OP_ULEQ: ' <= ', z3.Z3_OP_ULT: ' < ', z3.Z3_OP_UGEQ: ' >= ',
                  z3.Z3_OP_UGT: ' > ', z3.Z3_OP_EQ: ' == ', z3.Z3_OP_DISTINCT: ' != ',
                  z3.Z3_OP_BSHL: ' << '}
        if z3.is_bv_value(term):
            return f'{term.as_long()}u'
        if z3.is_true(term) or z3.is_false(term):
            return str(int(z3.is_true(term)))
        if kind == z3.Z3_OP_UNINTERPRETED:
            name = term.decl().name()	# a window that window_from() has not set is not used
            return '0u' if name.startswith('unset') else f'in[{self.inputs[name]}]'
        if kind in joined:
            return joined[kind].join(parts)
        if kind == z3.Z3_OP_BNEG:
            return f'0u - {parts[0]}'
        if kind == z3.Z3_OP_BNOT:
            return f'~{parts[0]}'
        if kind == z3.Z3_OP_NOT:
            return f'!{parts[0]}'
        if kind == z3.Z3_OP_ITE:
            return f'{parts[0]} ? {parts[1]} : {parts[2]}'
        if kind == z3.Z3_OP_ZERO_EXT or (kind == z3.Z3_OP_EXTRACT and term.params()[1] == 0):
            return parts[0]
        raise ValueError(f'no code for {term.decl()}')


def program(tree, word, integer):
    source = tree.source('buffers.c', 64, small=word, small_int=integer)
    request, item = claims.request_and_item(source)
    request['reserved'] = {'0': z3.BitVecVal(0, word), '1': z3.BitVecVal(0, word)}
    inputs = [item['base_address'], item['size'], item['position'], request['min_address'],
              request['max_address'], request['size'], request['alignment']]
    compiler = Compiler(inputs)
    fast = compiler.number(claims.suits(source, request, item))
    full = compiler.number(claims.full_check(source, request, item))
    return PROGRAM % ('\n'.join(compiler.lines), fast, fast, full, word, integer)


def run(tree, word, integer, directory):
    path = f'{directory}/small-{word}-{integer}'
    with open(path + '.c', 'w') as file:
        file.write(program(tree, word, integer))
    subprocess.run(['clang', '-O2', '-w', '-o', path, path + '.c'], check=True)
    return subprocess.run([path], stdout=subprocess.PIPE, text=True)


def compare(tree, report, directory):
    for word, integer in WIDTHS:
        answer = run(tree, word, integer, directory)
        report(f'words of {word} bits, int of {integer}: both checks agree: ' +
               answer.stdout.strip(), answer.returncode == 0)
    group = next(g for g in claims.GROUPS if g.function == 'suits_request')
    tree.mutate(group, *group.mutants[0])
    report('small words refute a mutant', run(tree, *WIDTHS[0], directory).returncode == 1)
    tree.restore(group)
