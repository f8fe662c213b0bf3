/* SPDX-License-Identifier: MIT */
/*
 * robust.pml: processes that share an arena, any of which is killed at any step
 *
 * Stands for lib/platform/linux/robust-lock.c: buffers_platform_lock(), _trylock() and
 * finish_locking(), on the kernel's robust mutexes; lib/arena/arena.c: carve() with
 * list_item() and publish_slots(), take_shared() and buffers_arena_release().  The window is
 * counted in units; an item is one unit, and its used end is where the last item ends.
 *
 * A lock is FREE, DIED (its holder was killed), or the number of its holder.  A killed process
 * makes no more steps; the kernel turns its locks into DIED.
 * MUTANT 1: the item is counted before it is written.  2: a lock whose holder was killed is not
 * made consistent.  3: the item's lock is initialised after the item is counted.  4: a release
 * clears the owner word after it unlocks.  5: a lock without a living holder is taken by two.
 */
#ifndef MUTANT
#define MUTANT 0
#endif
#define PROCESSES 3
#define SLOTS 3
#define FREE 0
#define DIED 100
#define USELESS 101	/* ENOTRECOVERABLE */

byte arena_lock, count;
byte lock[SLOTS], base[SLOTS], owner[SLOTS];	/* base 0: not written */
byte holder[SLOTS];	/* of the memory itself: a living process, or 0 */
bool is_dead[PROCESSES + 1], is_done[PROCESSES + 1];

/* get(LOCK): blocks; try(LOCK): sets got.  Both recover the lock of a killed process. */
#define CAN_GET(word) (word == FREE || word == DIED || word == USELESS)
#if MUTANT == 2
#define TAKEN_BY(word) (word == FREE -> me : USELESS)
#else
#define TAKEN_BY(word) me
#endif

inline get(word) {
	atomic { CAN_GET(word) -> word = TAKEN_BY(word); got = (word == me) }
}

inline try(word) {
#if MUTANT == 5
	got = CAN_GET(word);
	if
	:: got -> word = me
	:: else
	fi
#else
	atomic {
		got = false;
		if
		:: CAN_GET(word) -> word = TAKEN_BY(word); got = (word == me)
		:: else
		fi
	}
#endif
}

/* Uses the item that is locked, alone, then releases it. */
inline use_and_release(s) {
	owner[s] = me;
	atomic {
		assert(holder[s] == 0);
		assert(base[s] == s + 1);	/* disjoint, and without a gap */
		holder[s] = me
	}
	assert(holder[s] == me && owner[s] == me);
	holder[s] = 0;
#if MUTANT == 4
	atomic { lock[s] = FREE }
	owner[s] = 0
#else
	owner[s] = 0;
	atomic { assert(lock[s] == me); lock[s] = FREE }
#endif
}

inline list_item() {
	slot = count;
#if MUTANT == 1
	count = slot + 1;
#endif
#if MUTANT != 3
	lock[slot] = FREE;	/* buffers_platform_lock_init() */
	lock[slot] = me;
#endif
	base[slot] = slot + 1;
	owner[slot] = me;
#if MUTANT != 1
	count = slot + 1;
#endif
#if MUTANT == 3
	lock[slot] = FREE;
	lock[slot] = me
#endif
}

proctype Process(byte me) provided (!is_dead[me]) {
	byte slot, rounds;
	bool got;

	do
	:: rounds < 2 -> rounds++;
		slot = 0;
		got = false;
		do
		:: !got && slot < count -> try(lock[slot]);
			if
			:: !got -> slot++
			:: else
			fi
		:: else -> break
		od;
		if
		:: got -> use_and_release(slot)
		:: !got && count < SLOTS ->
			get(arena_lock);
			assert(got);	/* no kill makes the arena useless */
			if
			:: count < SLOTS -> list_item()
			:: else -> got = false
			fi;
			arena_lock = FREE;
			if
			:: got -> use_and_release(slot)
			:: else
			fi
		:: else
		fi
	:: else -> break
	od;
	is_done[me] = true
}

/* When no step is left, no living process waits. */
proctype Watch() {
	byte i = 1;

	timeout;
	do
	:: i <= PROCESSES -> assert(is_done[i] || is_dead[i]); i++
	:: else -> break
	od
}

/* Kills two of the three processes, at any of their steps. */
proctype Kernel() {
	byte victim = 1, i;

	do
	:: victim < PROCESSES ->
		atomic {
			is_dead[victim] = true;
			arena_lock = (arena_lock == victim -> DIED : arena_lock);
			i = 0;
			do
			:: i < SLOTS ->
				lock[i] = (lock[i] == victim -> DIED : lock[i]);
				holder[i] = (holder[i] == victim -> 0 : holder[i]);
				i++
			:: else -> break
			od;
			victim++
		}
	:: victim < PROCESSES -> victim++	/* it ends by itself */
	:: else -> break
	od
}

init { atomic { run Process(1); run Process(2); run Process(3); run Kernel(); run Watch() } }
