/* SPDX-License-Identifier: MIT */
/* robust-lock.c: process-shared locks that the kernel releases when their holder ends */

#include "config.h"
#include "platform/linux/internal.h"

#include <pthread.h>
#include <sys/syscall.h>

/*
 * The kernel reads a thread's list of robust mutexes when the thread ends:
 * set_robust_list(2).  Emulators lack the call, and not every C library reports that.
 */
bool buffers_platform_has_robust_locks(void)
{
	void *list;
	size_t size;

	return syscall(SYS_get_robust_list, 0L, &list, &size) == 0 || errno != ENOSYS;
}

static pthread_mutex_t *mutex_of(struct buffers_robust_lock *lock)
{
	_Static_assert(sizeof(pthread_mutex_t) <= sizeof(*lock), "the lock contains a mutex");
	return (pthread_mutex_t *)lock;
}

bool buffers_platform_lock_init(struct buffers_robust_lock *lock)
{
	pthread_mutexattr_t attributes;

	return pthread_mutexattr_init(&attributes) == 0 &&
	       pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
	       pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0 &&
	       pthread_mutex_init(mutex_of(lock), &attributes) == 0;
}

static bool finish_locking(int error, pthread_mutex_t *mutex)
{
	if (error == EOWNERDEAD)
		error = pthread_mutex_consistent(mutex);
	return error == 0;
}

bool buffers_platform_lock(struct buffers_robust_lock *lock)
{
	return finish_locking(pthread_mutex_lock(mutex_of(lock)), mutex_of(lock));
}

bool buffers_platform_trylock(struct buffers_robust_lock *lock)
{
	return finish_locking(pthread_mutex_trylock(mutex_of(lock)), mutex_of(lock));
}

bool buffers_platform_unlock(struct buffers_robust_lock *lock)
{
	return pthread_mutex_unlock(mutex_of(lock)) == 0;
}
