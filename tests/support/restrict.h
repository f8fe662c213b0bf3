/* SPDX-License-Identifier: MIT */
/* policy.h: systems that forbid or hide what the library would use */
#ifndef TESTS_RESTRICT_H
#define TESTS_RESTRICT_H

#include <stdbool.h>

#define NO_FILTER "no filter of system calls here"

/*
 * From now on, this thread and those that it starts, and all children, are
 * answered a system call with an error; where `argument` has all `bits`.  False
 * where the kernel has no such filters.
 */
bool refuse_call(int number, int error);
bool refuse_call_where(int number, unsigned argument, unsigned bits, int error);

/* All memory that would be mapped. */
bool refuse_memory(int error);

/* Memory that is writable and executable at once. */
bool refuse_rwx(int error);

/* And memory that becomes executable, as systemd's MemoryDenyWriteExecute= has it. */
bool refuse_new_exec(int error);

/* The same by the kernel itself, PR_SET_MDWE: false before Linux 6.3. */
bool refuse_exec_gain(void);

/*
 * This process and its children see an empty /proc.  False, and it says why, where
 * the kernel does not let this user do so.
 */
bool hide_proc(void);

#endif
