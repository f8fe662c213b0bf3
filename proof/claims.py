# SPDX-License-Identifier: MIT
"""What is claimed of the arithmetic of the library, and mutants that break it.

A group of claims is a function of a Source; it yields the values of a Claim for each fact.
Each mutant replaces a piece of the function's text, which must be there once.
"""
from collections import namedtuple

import z3
from z3 import And, If, Implies, Not, Or, UGE, UGT, ULE, ULT

from csource import Pointer, truth

# A term that holds under the assumptions.
Claim = namedtuple('Claim', 'fact term assumptions lemmas', defaults=((), ()))
# Facts about a part of a claim, which are proved first.  The part is then any word of which
# they are true, or `by`: Z3 takes long for an alignment that is any power of two.
Lemma = namedtuple('Lemma', 'part facts by', defaults=(None,))
Group = namedtuple('Group', 'file function claims mutants')
GROUPS = []


def group(file, function, *mutants):
    def add(claims):
        GROUPS.append(Group(file, function, claims, mutants))
        return claims
    return add


def maximum(source):
    return z3.BitVecVal(-1, source.word)


def word(source, name):
    return z3.BitVec(name, source.word)


def is_power(value):
    return And(value != 0, value & (value - 1) == 0)


def slack(start, alignment, other):
    """The bytes from start to the least aligned address from there on."""
    mask = alignment - 1
    part = -start & mask
    return Lemma(part, [
        Implies(is_power(alignment), (start + part) & mask == 0),
        Implies(And(is_power(alignment), other & mask == 0, UGE(other, start)),
                UGE(other - start, part))])


def aligned_down(address, alignment, other):
    mask = alignment - 1
    part = address & ~mask
    return Lemma(part, [
        Implies(is_power(alignment), And(part & mask == 0, ULE(part, address))),
        Implies(And(is_power(alignment), other & mask == 0, ULE(other, address)),
                ULE(other, part))])


def widen(source, value):
    return z3.ZeroExt(source.word - value.size(), value) if value.size() < source.word else value


def no_wrap(one, other):
    return ULE(one, z3.BitVecVal(-1, one.size()) - other)


def granularity(page):
    return {'buffers_platform_granularity': lambda run: z3.BitVecVal(page, run.source.word)}


# Gaps -------------------------------------------------------------------------------------

def gap(source, function):
    gap = source.symbol('struct buffers_span', 'gap')
    size, alignment, other = (word(source, n) for n in ('size', 'alignment', 'other'))
    run = source.run(function, gap, size, alignment, Pointer(('address',)),
                     memory={'address': word(source, 'before')})

    def is_fit(address):
        return And(address & (alignment - 1) == 0, UGE(address, gap['start']),
                   ULE(address, gap['end']), UGE(gap['end'] - address, size),
                   ULT(gap['start'], gap['end']))
    found = truth(run.returned)
    lemma = (slack(gap['start'], alignment, other) if function == 'buffers_gap_lowest' else
             aligned_down(gap['end'] - size, alignment, other))
    valid = [is_power(alignment), size != 0], [lemma]
    return found, run.memory['address'], other, is_fit, valid


@group('allocator/gap.c', 'buffers_gap_lowest',
       ('room - slack < size', 'room - slack <= size'),
       ('- slack < size', '< size'), ('gap.start + slack', 'gap.start'),
       ('alignment - 1', 'alignment'), ('room < slack || ', ''))
def lowest(source):
    found, address, other, is_fit, valid = gap(source, 'buffers_gap_lowest')
    yield 'an address that is found fits', Implies(found, is_fit(address)), *valid
    yield ('no lower address fits, and one is found if any fits',
           Implies(is_fit(other), And(found, ULE(address, other))), *valid)
    yield ('nothing is written if none is found',
           Or(found, address == word(source, 'before')), *valid)


@group('allocator/gap.c', 'buffers_gap_highest',
       ('highest < gap.start', 'highest <= gap.start'), ('< size', '<= size'),
       ('(gap.end - size)', 'gap.end'), ('alignment - 1', 'alignment'),
       ('buffers_span_size(gap) < size', 'false'), ('highest < gap.start', 'false'))
def highest(source):
    found, address, other, is_fit, valid = gap(source, 'buffers_gap_highest')
    yield 'an address that is found fits', Implies(found, is_fit(address)), *valid
    yield ('no higher address fits, and one is found if any fits',
           Implies(is_fit(other), And(found, UGE(address, other))), *valid)


# Requests ---------------------------------------------------------------------------------

def run_window(source, request):
    run = source.run('window_from', Pointer(('request',)), Pointer(('window',)), memory={
        'request': request, 'window': source.symbol('struct buffers_window', 'unset')})
    return run.returned == 0, run.memory['window']


def end_of(source, request):
    return If(request['max_address'] == 0, maximum(source), request['max_address'])


def has_range(request):
    return Or(request['max_address'] == 0, ULT(request['min_address'], request['max_address']))


@group('buffers.c', 'has_range',
       ('!request->max_address || ', ''), ('< request->max', '<= request->max'))
@group('buffers.c', 'window_from',
       ('request->size == 0 || ', ''), (' || !has_range(request)', ''),
       ('request->reserved[0] || request->reserved[1]', 'request->reserved[0]'),
       ('UINTPTR_MAX', '0'), (': 1;', ': 0;'), ('!is_kind(request->flags) ||', ''),
       ('.size = request->size', '.size = request->alignment'))
def window(source):
    request = source.symbol('struct buffers_request', 'request')
    is_valid, made = run_window(source, request)
    alignment = If(request['alignment'] == 0, 1, request['alignment'])
    yield 'a request is valid if it does not contradict itself', is_valid == And(
        request['size'] != 0, is_power(alignment), ULE(request['flags'], 2),
        request['reserved']['0'] == 0, request['reserved']['1'] == 0, has_range(request))
    yield 'the window has the values of the request', Implies(is_valid, And(
        made['range']['start'] == request['min_address'],
        made['range']['end'] == end_of(source, request), made['size'] == request['size'],
        made['alignment'] == alignment, made['target'] == request['target'],
        made['kind'] == request['flags']))
    yield 'the range of a valid window is not empty, unless it is the highest address', Implies(
        is_valid, Or(ULT(made['range']['start'], made['range']['end']),
                     made['range']['start'] == maximum(source)))


def placed_item(source, item):
    """An item whose memory does not wrap; other implementations may write any position."""
    return [item['base_address'] != 0, no_wrap(item['base_address'], widen(source, item['size']))]


def valid_item(source, item):
    return [*placed_item(source, item), ULE(item['position'], item['size'])]


def suits(source, request, item):
    return truth(source.run('suits_request', Pointer(('request',)), Pointer(('item',)),
                            item['position'],
                            memory={'request': request, 'item': item}).returned)


def full_check(source, request, item):
    is_valid, window = run_window(source, request)
    fits = source.run('buffers_item_fits', Pointer(('item',)), item['position'],
                      Pointer(('window',)), memory={'item': item, 'window': window}).returned
    return And(is_valid, truth(fits))


def request_and_item(source):
    request = source.symbol('struct buffers_request', 'request')
    item = source.symbol('struct buffers_item', 'item')
    request['flags'] = z3.BitVecVal(0, request['flags'].size())
    return request, item


@group('buffers.c', 'suits_request',
       ('position <= item->size && ', ''), ('rest < room', 'rest <= room'),
       ('rest < room && ', ''), ('slack <= rest', 'slack < rest'),
       ('start + room - 1 <= request->max_address - 1', 'start + room <= request->max_address'),
       ('start >= request->min_address', 'start > request->min_address'),
       ('(request->alignment & mask) == 0', 'true'), (' | request->reserved[1]', ''),
       ('(request->alignment != 0)', '1'),
       ('start + room - 1 <= request->max_address - 1', 'start <= request->max_address - 1'))
def fast_check(source):
    request, item = request_and_item(source)
    fast, full = suits(source, request, item), full_check(source, request, item)
    alignment = request['alignment']
    fast_mask = alignment - If(alignment != 0, z3.BitVecVal(1, source.word),
                               z3.BitVecVal(0, source.word))
    full_mask = If(alignment != 0, alignment, z3.BitVecVal(1, source.word)) - 1
    same = Lemma(full_mask, [fast_mask == full_mask], fast_mask)
    yield ('the fast check is window_from() and buffers_item_fits(), for any position',
           fast == full, placed_item(source, item), [same])


@group('buffers.c', 'buffers_request_near',
       ('address > reach', 'address < reach'), ('address - reach : 0', 'reach : 0'),
       ('<= UINTPTR_MAX - reach', '< UINTPTR_MAX - reach'), ('address + reach : 0', 'address : 0'),
       ('target,\n\t\t.size = size', 'target,\n\t\t.size = reach'), ('!target || ', ''),
       ('.min_address = UINTPTR_MAX,', ''))
def near(source):
    target, reach, size = (word(source, n) for n in ('target', 'reach', 'size'))
    made = source.run('buffers_request_near', target, reach, size).returned
    low, high = made['min_address'], made['max_address']
    is_good = And(target != 0, reach != 0)
    yield 'the range holds the target', Implies(
        is_good, And(ULE(low, target), Or(high == 0, UGT(high, target))))
    yield 'the range ends at the reach, or at the end of all addresses', Implies(is_good, And(
        low == If(UGE(target, reach), target - reach, 0),
        high == If(no_wrap(target, reach), target + reach, 0)))
    yield 'the range is invalid without a target, and without a reach', Or(
        is_good, And(high != 0, UGE(low, high)))
    yield 'the request has the target, the size and no other wish', And(
        made['target'] == target, made['size'] == size, made['alignment'] == 0,
        made['flags'] == 0, made['reserved']['0'] == 0, made['reserved']['1'] == 0)


@group('buffers.c', 'narrow',
       ('buffers_max(request->min_address, other->min_address)', 'request->min_address'),
       ('request->max_address - 1', 'request->max_address'), ('first > last', 'first >= last'),
       ('last + 1', 'last'), ('first > last', 'false'))
def narrowed(source):
    request, other = (source.symbol('struct buffers_request', n) for n in ('request', 'other'))
    address = word(source, 'address')
    run = source.run('narrow', Pointer(('request',)), Pointer(('other',)),
                     memory={'request': request, 'other': other})
    made, is_done = run.memory['request'], run.returned == 0

    def holds(range):
        return And(UGE(address, range['min_address']),
                   Or(range['max_address'] == 0, ULT(address, range['max_address'])))
    in_both, valid = And(holds(request), holds(other)), [has_range(request), has_range(other)]
    yield 'the range has just the addresses of both', Implies(
        is_done, holds(made) == in_both), valid
    yield 'it fails only if they do not meet', Or(is_done, Not(in_both)), valid
    yield 'a range that is made is not empty', Implies(is_done, has_range(made)), valid
    yield 'if it fails, the range is as it was', Or(is_done, And(
        made['min_address'] == request['min_address'],
        made['max_address'] == request['max_address'])), valid


# Items ------------------------------------------------------------------------------------

@group('locator/item.h', 'buffers_item_fits',
       ('position <= item->size && ', ''), ('room >= slack && ', ''),
       ('room - slack >= window->size', 'room - slack > window->size'),
       ('start >= window->range.start', 'true'),
       ('start + room <= window->range.end', 'start <= window->range.end'),
       ('(window->alignment - 1)', '0'))
def fits(source):
    item = source.symbol('struct buffers_item', 'item')
    window = source.symbol('struct buffers_window', 'window')
    other = word(source, 'other')
    run = source.run('buffers_item_fits', Pointer(('item',)), item['position'],
                     Pointer(('window',)), memory={'item': item, 'window': window})
    start = item['base_address'] + widen(source, item['position'])
    end = item['base_address'] + widen(source, item['size'])
    alignment = window['alignment']
    is_inside = And(ULE(item['position'], item['size']),
                    UGE(start, window['range']['start']), ULE(end, window['range']['end']))

    def is_place(address):
        return And(address & (alignment - 1) == 0, UGE(address, start), ULE(address, end),
                   UGE(end - address, window['size']))
    lemma = slack(start, alignment, other)
    first = start + lemma.part
    valid = placed_item(source, item) + [is_power(alignment), window['size'] != 0], [lemma]
    yield ('an item that fits has a valid position',
           Implies(truth(run.returned), ULE(item['position'], item['size'])), *valid)
    fit = truth(run.returned)
    yield 'an item that fits has all its free space in the range', Implies(fit, is_inside), *valid
    yield 'an item that fits has an aligned place', Implies(fit, is_place(first)), *valid
    yield ('an item with an aligned place fits',
           Implies(And(is_inside, is_place(other)), fit), *valid)


def run_item(source, function, *arguments, externals=None):
    item = source.symbol('struct buffers_item', 'item')
    run = source.run(function, Pointer(('item',)), *arguments, externals=externals,
                     memory={'item': item, 'address': word(source, 'unset')})
    return item, run


@group('locator/item.h', 'buffers_item_reserve',
       ('slack > room || ', ''), ('size > room - slack', 'size > room'),
       ('*address = start + slack', '*address = start'),
       ('position + slack + size', 'position + size'), ('slack > room', 'slack >= room'),
       ('size > room - slack', 'size >= room - slack'))
def reserve(source):
    size, alignment = word(source, 'size'), word(source, 'alignment')
    item, run = run_item(source, 'buffers_item_reserve', size, alignment, Pointer(('address',)))
    after, address = run.memory['item'], run.memory['address']
    base, position = item['base_address'], item['position']
    start, end = base + widen(source, position), base + widen(source, item['size'])
    other = word(source, 'other')
    valid = valid_item(source, item) + [is_power(alignment)], [slack(start, alignment, other)]
    done = run.returned == 0
    yield 'what is reserved is aligned, and inside the free space', Implies(done, And(
        address & (alignment - 1) == 0, UGE(address, start), ULE(address, end),
        UGE(end - address, size))), *valid
    yield 'the new position is the end of it', Implies(done, And(
        ULE(position, after['position']), ULE(after['position'], item['size']),
        base + widen(source, after['position']) == address + size)), *valid
    yield 'nothing changes on failure', Or(done, And(
        run.returned == 28, after['position'] == position)), *valid
    yield 'it succeeds if any aligned place is left', Implies(And(
        other & (alignment - 1) == 0, UGE(other, start), ULE(other, end),
        UGE(end - other, size)), done), *valid


class Writes:
    """Records the writes of memcpy() and memmove(), each with its condition."""

    def __init__(self):
        self.made = []
        self.externals = {'memcpy': self.copy, 'memmove': self.copy}

    def copy(self, run, to, source, size):
        if not isinstance(to, Pointer):
            self.made.append((run.condition, to, size))
        return to

    def are_in(self, start, end):
        return And([Implies(when, And(UGE(to, start), ULE(to, end), UGE(end - to, size)))
                    for when, to, size in self.made])

    def cover(self, address):
        return Or([And(when, UGE(address, to), ULT(address - to, size))
                   for when, to, size in self.made])


def append_claims(source, item, run, writes, size, address, done):
    base, position = item['base_address'], item['position']
    after = run.memory['item']['position']
    start, end = base + widen(source, position), base + widen(source, item['size'])
    at = word(source, 'at')
    valid = valid_item(source, item)
    yield 'no byte outside the free space is written', writes.are_in(start, end), valid
    yield 'no byte beyond the data is written', Implies(done, writes.are_in(start, start + size)), \
        valid
    yield 'every byte of the data is written', Implies(
        And(done, ULT(at, size)), writes.cover(start + at)), valid
    yield 'the position grows by the size', Implies(done, And(
        address == start, ULE(after, item['size']), ULE(position, after),
        widen(source, after) == widen(source, position) + size)), valid
    yield 'nothing changes on failure', Or(done, after == position), valid


@group('locator/item.h', 'buffers_item_append',
       ('size > item->size - position', 'size > item->size'),
       ('size > item->size - position', 'size > item->size - position + 1'),
       ('position + size', 'position'), ('data, size);', 'data, size - 1);'),
       ('*address = item->base_address + position', '*address = item->base_address'))
def append(source):
    writes, size = Writes(), word(source, 'size')
    item, run = run_item(source, 'buffers_item_append', word(source, 'data'), size,
                         Pointer(('address',)), externals=writes.externals)
    done = run.returned == 0
    yield from append_claims(source, item, run, writes, size, run.memory['address'], done)
    yield 'it succeeds if there is room', done == ULE(
        size, widen(source, item['size'] - item['position'])), valid_item(source, item)


@group('locator/item.h', 'buffers_is_short',
       ('size >= BUFFERS_SHORT_LEAST && ', ''), (' && size <= BUFFERS_SHORT_MOST', ''))
@group('locator/item.h', 'buffers_copy_short', ('size <= 16', 'size <= 17'))
@group('locator/item.h', 'buffers_item_append_short',
       ('size > item->size - position ||', ''), ('position + size', 'position + 16'))
def append_short(source):
    writes, size = Writes(), word(source, 'size')
    item, run = run_item(source, 'buffers_item_append_short', word(source, 'data'), size,
                         externals=writes.externals)
    yield from append_claims(source, item, run, writes, size, run.returned, run.returned != 0)


# Other calls ------------------------------------------------------------------------------

@group('buffers.c', 'is_writable',
       ('size > UINTPTR_MAX - 3 - address', 'false'),
       ('size > UINTPTR_MAX - 3 - address', 'size > UINTPTR_MAX - 3'),
       ('address > UINTPTR_MAX - 3 ||', ''), ('(address + size + 3)', '(address + size)'),
       ('address & ~(uintptr_t)3', 'address'), ('- start)', '- address)'),
       ('UINTPTR_MAX - 3 - address', 'UINTPTR_MAX - 4096 - address'))
def writable(source):
    address, size = word(source, 'address'), word(source, 'size')
    asked, buffers = [], []

    def is_writable(run, start, length):
        asked.append((run.condition, start, length))
        return z3.Bool('is_writable')

    def is_in_buffer(run, at, length, kind):
        buffers.append(And(run.condition, z3.Bool(f'is_in_buffer_{len(buffers)}'),
                           at == address, length == size))
        return z3.Bool(f'is_in_buffer_{len(buffers) - 1}')
    run = source.run('is_writable', address, size,
                     externals={'buffers_platform_is_writable': is_writable,
                                'is_in_buffer': is_in_buffer})
    (when, start, length), = asked
    yield 'the memory that is examined covers the memory to write', Implies(when, And(
        ULE(start, address), no_wrap(start, length), no_wrap(address, size),
        UGE(start + length, address + size))), [size != 0]
    yield 'it is whole words', Implies(when, And(
        start & 3 == 0, length & 3 == 0, UGE(length, 4), ULT(address - start, 4),
        ULT(start + length - (address + size), 4))), [size != 0]
    yield 'memory is writable if it is in a buffer, or was examined and found so', \
        truth(run.returned) == Or(*buffers, And(when, z3.Bool('is_writable')))
    yield 'only memory that ends within the last 4 bytes is not examined', Or(
        when, *buffers, Not(And(no_wrap(address, size),
                                no_wrap(address + size, z3.BitVecVal(3, source.word)))))


@group('buffers.c', 'span_from',
       ('address && ', ''), ('allocated && ', ''), ('start | allocated', 'start'),
       ('allocated <= UINTPTR_MAX - start', 'true'), ('- 1;', ';'),
       ('{ start, start + allocated }', '{ start, allocated }'))
def span(source):
    address, size = word(source, 'address'), word(source, 'size')
    for page in (4096, 65536):
        run = source.run('span_from', address, size, Pointer(('span',)),
                         memory={'span': source.symbol('struct buffers_span', 'unset')},
                         externals=granularity(page))
        made = run.memory['span']
        yield f'a span is whole pages of {page} bytes, not empty, and does not wrap', \
            truth(run.returned) == And(address != 0, size != 0, address & (page - 1) == 0,
                                       size & (page - 1) == 0, no_wrap(address, size))
        yield f'it is the memory that the caller named, pages of {page} bytes', And(
            made['start'] == address, made['end'] == address + size)


# Arenas -----------------------------------------------------------------------------------

def in_window(source, page, *terms):
    """A window of whole pages, at most as large as the largest space of a processor's port."""
    limit = z3.BitVecVal((1 << 52) if source.word == 64 else (1 << 32) - page, source.word)
    return [ULT(term, limit) for term in terms] + [term & (page - 1) == 0 for term in terms]


@group('arena/arena.c', 'measure',
       ('buffers_max(arena->chunk, page)', '0x1000 + arena->chunk'),
       ('2 * (size / arena->chunk + 1)', '(size / arena->chunk + 1)'),
       ('arena->block_count * sizeof(struct block)', 'arena->block_count'),
       ('/ SLOTS + 1', '/ SLOTS'))
def measure(source):
    for page in (4096, 65536):
        arena = source.symbol('struct buffers_arena', 'arena')
        start, end = arena['window']['start'], arena['window']['end']
        run = source.run('measure', Pointer(('arena',)), memory={'arena': arena},
                         externals=granularity(page))
        made = run.memory['arena']
        chunk, blocks, control = (made[n] for n in ('chunk', 'block_count', 'control_size'))
        valid = in_window(source, page, start, end) + [ULT(start, end), UGE(start, 65536)]
        chunks = range(page, max(page, 65536) + 1, page)
        yield f'a chunk is whole pages of {page} bytes, and not large', Or(
            [chunk == c for c in chunks]), valid
        slots = -(-(203 if source.bits == 64 else 255) // 5)
        for c in chunks:
            value = z3.BitVecVal(c, source.word)
            entries = z3.substitute(widen(source, blocks), (chunk, value)) * slots
            yield (f'chunks of {c}: there are entries for each, and for one gap before each',
                   UGE(entries, z3.UDiv(end - start, value) * 2), [*valid, chunk == c])
        yield f'the list of blocks is large enough, pages of {page} bytes', And(
            UGE(control, source.sizeof('struct control')), control & (page - 1) == 0,
            UGE(control - source.sizeof('struct control'),
                widen(source, blocks) * source.sizeof('struct block'))), valid


@group('arena/arena.c', 'measure_units',
       ('BUFFERS_HUGE_PAGE :', '0x1000 :'), ('(step - 1);', '0;'),
       ('- 1 - arena->first_unit', '- arena->window.start'),
       ('buffers_max(arena->chunk, ', 'buffers_min(arena->chunk, '), ('+ step)', ')'))
def measure_units(source):
    for page, flags, step in ((4096, 0, 4096), (65536, 0, 65536),
                              (4096, 1 << 18, 2 << 20), (65536, 1 << 18, 2 << 20)):
        arena = source.symbol('struct buffers_arena', 'arena')
        arena['window_flags'] = z3.BitVecVal(flags, 32)
        start, end, chunk = arena['window']['start'], arena['window']['end'], arena['chunk']
        run = source.run('measure_units', Pointer(('arena',)), memory={'arena': arena},
                         externals=granularity(page))
        first, unit = (run.memory['arena'][name] for name in ('first_unit', 'unit'))
        valid = in_window(source, page, start, end) + [
            ULT(start, end), UGE(start, 65536), chunk & (page - 1) == 0, ULE(chunk, 65536)]
        where = f'steps of {step}, pages of {page} bytes'
        yield f'the first unit begins in the step of the window, {where}', And(
            first & (step - 1) == 0, ULE(first, start), ULT(start - first, step)), valid
        yield f'4096 units cover the window, {where}', And(
            UGE(unit, chunk), unit & (step - 1) == 0,
            UGT(unit, z3.LShR(end - first - 1, 12))), valid
