/* SPDX-License-Identifier: MIT */
/*
 * item.pml: threads that take, use and release one item
 *
 * Ours is lib/buffers.c take_cached() and lib/locator/item.h: buffers_item_take(),
 * buffers_item_take_at(), buffers_item_append(), buffers_item_release().  Another
 * implementation exchanges is_taken, also over an item that is held.  Reader is a thread that
 * reads the position and then the bytes before it.
 *
 * Every step is seen by all threads at once; the order of stores is that of the source.
 * MUTANT 1: the position is not compared after the lock is taken.  2: the lock is tested and
 * then set.  3: the lock is released before the position is set.  4: the position is set
 * before the bytes are written.  5: the room is not compared.
 */
#ifndef MUTANT
#define MUTANT 0
#endif
#define SIZE 5
byte is_taken, position, holders;
byte owner[SIZE];	/* of each byte: the thread that wrote it */

inline write_bytes() {
	k = 0;
	do
	:: k < n -> assert(owner[p + k] == 0); owner[p + k] = me; k++
	:: else -> break
	od
}

inline append() {
	holders++;
	assert(holders == 1);
	p = position;
	assert(p + n <= SIZE);
#if MUTANT == 4
	position = p + n;
	write_bytes();
#else
	write_bytes();
#if MUTANT == 3
	holders--;
	is_taken = 0;
	position = p + n;
	holders++;
#else
	position = p + n;
#endif
#endif
	holders--
}

proctype Ours(byte me; byte n) {
	byte p, k, seen, rounds;

	do
	:: rounds < 2 -> rounds++;
again:		seen = position;
		if
		:: is_taken != 0 -> goto next
		:: else
		fi;
#if MUTANT != 5
		if
		:: SIZE - seen < n -> goto next
		:: else
		fi;
#endif
#if MUTANT == 2
		if
		:: is_taken == 0 -> is_taken = 1
		:: else -> goto next
		fi;
#else
		atomic {
			if
			:: is_taken == 0 -> is_taken = 1
			:: else -> goto next
			fi
		}
#endif
		if
		:: position == seen || MUTANT == 1 -> append(); is_taken = 0
		:: else -> is_taken = 0; goto again
		fi;
next:		skip
	:: else -> break
	od
}

proctype Other(byte me; byte n) {
	byte p, k, old, rounds;

	do
	:: rounds < 2 -> rounds++;
		atomic { old = is_taken; is_taken = 1 }
		if
		:: old == 0 ->
			if
			:: SIZE - position >= n -> append()
			:: else
			fi;
			is_taken = 0
		:: else
		fi
	:: else -> break
	od
}

proctype Reader() {
	byte p, k;

	p = position;
	do
	:: k < p -> assert(owner[k] != 0); k++
	:: else -> break
	od
}

init { atomic { run Ours(1, 1); run Ours(2, 2); run Other(3, 1); run Reader() } }
