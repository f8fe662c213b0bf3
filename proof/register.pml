/* SPDX-License-Identifier: MIT */
/*
 * register.pml: implementations that add buffers to one chain
 *
 * Ours is lib/locator/locator.c: buffers_locator_register() with add_item(), make_next(),
 * link_or_next() and buffers_locator_follow(); lib/locator/rendezvous.c: the wait for a first
 * locator that its creator may still reset.  Reader is lib/locator/index.c: catch_up() with
 * is_being_written().  Native and Twin are the other implementations as doc/rendezvous.md
 * describes them; they may damage each other, but not an item of ours:
 *
 *	Native	creates the first locator: address, then lock and count; counts an item before
 *		it writes it; links a locator before it writes it; leaves marks as they are
 *	Twin	counts its items in another byte, and writes to the slot of that number in
 *		any locator whose byte does not say that it is full
 *
 * A locator is closed when that byte says that it is full and the mark is set: when it is
 * created, and under its lock before an item is added.  A second is over when Native is done.
 * MUTANT 1: does not wait for the first locator.  2: follows a link although the lock was held.
 * 3: does not close.  4: does not lock to link.  5: adds without comparing the count again.
 * 6: the reader does not look at the lock.  7: uses the twin's locators.
 */
#ifndef MUTANT
#define MUTANT 0
#endif
#define CAP 2
#define LOCATORS 6
#define IS_OURS(id) ((id) == 1 || (id) == 2)
#define SLOT(l, i) item[(l) * CAP + (i)]

byte locked[LOCATORS], count[LOCATORS], twin[LOCATORS], next[LOCATORS];
bool written[LOCATORS], own[LOCATORS], marked[LOCATORS];
byte item[LOCATORS * CAP];	/* the thread whose buffer the slot lists */
byte locators = 1;
bool is_published, is_first_done;

inline lock(l) { atomic { locked[l] == 0 -> locked[l] = 1 } }
inline unlock(l) { locked[l] = 0 }
inline new_locator(l) { atomic { assert(locators < LOCATORS); l = locators; locators++ } }

/* Nothing of this thread's is lost by a write. */
inline write_slot(l, i, id) {
	assert(!IS_OURS(SLOT(l, i)));
	SLOT(l, i) = id
}

/* An item of the twin's layout is in it: byte 21 is 0 and byte 23 is not. */
#define IS_TWINS(l) (!marked[l] && twin[l] != 0 && MUTANT != 7)
#define HAS_ROOM(l) (!IS_TWINS(l) && count[l] < CAP)

inline close(l) {
	if
	:: !marked[l] && MUTANT != 3 -> marked[l] = true; twin[l] = CAP
	:: else
	fi
}

proctype Ours(byte me) {
	byte l, n, made, was_locked;
	bool is_added;

	is_published;
#if MUTANT != 1
	(count[0] != 0 || twin[0] != 0 || is_first_done);
#endif
	do
	::	if
		:: HAS_ROOM(l) ->
#if MUTANT != 5
			lock(l);
#endif
			if
			:: HAS_ROOM(l) ->
				close(l);
				n = count[l];
				assert(SLOT(l, n) == 0);	/* no other item is there */
				SLOT(l, n) = me;
				count[l] = n + 1;
				is_added = true
			:: else
			fi;
#if MUTANT != 5
			unlock(l)
#endif
		:: else
		fi;
		if
		:: is_added -> break
		:: else
		fi;
		n = next[l];
		was_locked = (n != 0 && locked[l]);
		if
		:: n != 0 && written[n] && (!was_locked || own[n] || MUTANT == 2) -> l = n
		:: n != 0 && !(written[n] && (!was_locked || own[n])) && MUTANT == 2 ->
			assert(written[n]); l = n
		:: else ->
			new_locator(made);
			atomic { written[made] = true; own[made] = true; marked[made] = true;
				 twin[made] = CAP }
#if MUTANT != 4
			lock(l);
#endif
			n = next[l];
			if
			:: n == 0 -> next[l] = made; n = made
			:: else
			fi;
#if MUTANT != 4
			unlock(l);
#endif
			assert(written[n]);
			l = n
		fi
	od;
	/* What was added stays, and is found from the first locator on. */
	n = 0;
	do
	:: n != l -> n = next[n]; assert(n != 0)
	:: else -> break
	od
}

inline link_other(l, is_twin) {
	new_locator(n);
	next[l] = n;
	written[n] = true;
	if
	:: is_twin -> twin[n] = 1; SLOT(n, 0) = me
	:: else -> count[n] = 1; SLOT(n, 0) = me
	fi;
	is_added = true
}

proctype Native(byte me) {
	byte l, n;
	bool is_added;

	written[0] = true;
	is_published = true;
	locked[0] = 0;
	count[0] = 0;
	is_first_done = true;
	do
	::	lock(l);
		if
		:: count[l] < CAP ->
			count[l] = count[l] + 1;
			write_slot(l, count[l] - 1, me);
			is_added = true
		:: count[l] >= CAP && next[l] == 0 -> link_other(l, false)
		:: else
		fi;
		unlock(l);
		if
		:: is_added -> break
		:: else -> l = next[l]
		fi
	od
}

proctype Twin(byte me) {
	byte l, n;
	bool is_added;

	is_first_done;
	do
	::	lock(l);
		if
		:: twin[l] < CAP ->
			write_slot(l, twin[l], me);
			twin[l] = twin[l] + 1;
			is_added = true
		:: twin[l] >= CAP && next[l] == 0 -> link_other(l, true)
		:: else
		fi;
		unlock(l);
		if
		:: is_added -> break
		:: else -> l = next[l]
		fi
	od
}

proctype Reader() {
	byte i, c;
	bool was_locked;

	is_first_done;
	c = count[0];
	do
	:: i < c ->
#if MUTANT != 6
		was_locked = locked[0];
#endif
		/* An item that is counted, and is not being written, is complete. */
		if
		:: SLOT(0, i) == 0 && !was_locked -> assert(false)
		:: else
		fi;
		i++
	:: else -> break
	od
}

init {
	atomic {
		run Ours(1);
		run Ours(2);
		run Native(3);
		run Twin(4);
		run Reader()
	}
}
