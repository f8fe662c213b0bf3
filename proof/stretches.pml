/* SPDX-License-Identifier: MIT */
/*
 * stretches.pml: two threads give adjacent room back while two others take room
 *
 * Giver is lib/process/give-back.c: buffers_give_back_to(), in two steps as for RX memory
 * (buffers_stretches_begin(), clearing, buffers_stretches_release()) or in one
 * (buffers_stretches_add()).  Taker is lib/buffers.c take_given() and the release of the item.
 * The stretches are the states of three bytes; merging is that a taker finds adjacent ones.
 *
 * A byte is handed out once and cleared, and no room is lost: when all threads have ended,
 * `largest` tells of every stretch that is free or about to be.
 * MUTANT 1: the lock is tested and then set.  2: an unlock does not look at the released items.
 * 3: a release raises `largest` before it pushes.  4: the room is released before it is cleared.
 * 5: a push does not notice another one.
 */
#ifndef MUTANT
#define MUTANT 0
#endif
#define BYTES 3
#define MOST 9		/* UINT32_MAX */
#define NODES 10

byte locked, largest, released;
byte state[BYTES];	/* 0: in use; 1: room of an item; 2: free */
byte value[BYTES];
byte from[NODES], to[NODES], next[NODES];	/* the room of an item, and the link of the stack */
byte ended;

inline lock() {
#if MUTANT == 1
	if
	:: locked == 0 -> locked = 1
	fi;
#else
	atomic { locked == 0 -> locked = 1 };
#endif
	/* Settles the released items; a thread that pushes now comes too late for this time. */
	if
	:: released != 0 ->
		atomic { i = released; released = 0 };
		do
		:: i != 0 ->
			d_step {
				j = from[i];
				do
				:: j < to[i] -> assert(state[j] == 1); state[j] = 2; j++
				:: else -> break
				od;
				i = next[i]
			}
		:: else -> break
		od
	:: else
	fi
}

/* The length of the longest run of free bytes. */
inline longest() {
	d_step {
		i = 0; j = 0; l = 0;
		do
		:: i < BYTES ->
			if
			:: state[i] == 2 -> j++
			:: else -> j = 0
			fi;
			if
			:: j > l -> l = j
			:: else
			fi;
			i++
		:: else -> break
		od
	}
}

inline unlock() {
	longest();
	if
	:: l != largest ->
		largest = l;
#if MUTANT != 2
		if
		:: released != 0 -> largest = MOST
		:: else
		fi
#endif
	:: else
	fi;
	locked = 0
}

inline raise() {
	if
	:: from[node] < to[node] -> largest = MOST
	:: else
	fi
}

inline release() {
#if MUTANT == 3
	raise();
#endif
#if MUTANT == 5
	next[node] = released;
	released = node;
#else
	do
	:: top = released; next[node] = top;
		atomic {
			if
			:: released == top -> released = node; break
			:: else
			fi
		}
	od;
#endif
#if MUTANT != 3
	raise();
#endif
}

proctype Giver(byte byte_; byte node; bool is_slow) {
	byte i, j, l, top;

	lock();
	assert(state[byte_] == 0);
	if
	:: is_slow ->
		from[node] = byte_; to[node] = byte_ + 1;
		state[byte_] = 1;
		unlock();
#if MUTANT == 4
		release();
		value[byte_] = 0
#else
		value[byte_] = 0;
		release()
#endif
	:: else ->
		value[byte_] = 0;
		state[byte_] = 2;
		unlock()
	fi;
	ended++
}

/* Takes a run of n free bytes, uses the first and releases the others. */
proctype Taker(byte me; byte n; byte node) {
	byte i, j, l, k, top;

	if
	:: largest >= n ->
		lock();
		k = 0;
		do
		:: k + n > BYTES -> k = MOST; break
		:: k + n <= BYTES && state[k] == 2 && (n == 1 || state[k + n - 1] == 2) -> break
		:: else -> k++
		od;
		if
		:: k != MOST ->
			state[k] = 1;
			state[k + n - 1] = 1;
			unlock();
			assert(value[k] == 0);
			value[k] = me;
			from[node] = k + 1; to[node] = k + n;
			state[k] = 0;		/* the position moves */
			release();
			assert(value[k] == me)
		:: else -> unlock()
		fi
	:: else
	fi;
	ended++
}

/* Nothing is lost: a later request sees the room. */
proctype Last() {
	byte i, j, l;

	ended == 4;
	longest();
	assert(largest >= l);
	i = released;
	do
	:: i != 0 -> assert(from[i] == to[i] || largest == MOST); i = next[i]
	:: else -> break
	od
}

init {
	atomic {
		value[0] = 7; value[1] = 7; state[2] = 2; largest = 1;
		run Giver(0, 1, true);
		if
		:: run Giver(1, 2, true)
		:: run Giver(1, 2, false)
		fi;
		run Taker(8, 2, 3);
		run Taker(9, 1, 4);
		run Last()
	}
}
