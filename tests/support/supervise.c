/* SPDX-License-Identifier: MIT */
/* supervise.c: system calls that a supervisor sees: seccomp_unotify(2) */

#include "config.h"
#include "support/supervise.h"
#include "support/support.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_CALLS = 200 };

static int install(struct sock_filter *filter, size_t length)
{
	struct sock_fprog program = { (unsigned short)length, filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			    SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static int install_for_all(void)
{
	struct sock_filter report = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);

	return install(&report, 1);
}

static int install_for(const int *numbers, size_t count)
{
	struct sock_filter filter[MOST_CALLS + 3];

	ck_assert_uint_le(count, MOST_CALLS);
	filter[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < count; i++)
		filter[i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							     (unsigned)numbers[i],
							     (unsigned char)(count - i), 0);
	filter[count + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	filter[count + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	return install(filter, count + 3);
}

/* Linux closes the descriptor even if the call reports an error: see close(2). */
static void close_anyway(const struct seccomp_notif *call)
{
	if (call->data.nr == SYS_close)
		close((int)call->data.args[0]);
}

static int judge(struct supervision *supervision, const struct seccomp_notif *call)
{
	if (!__atomic_load_n(&supervision->is_active, __ATOMIC_ACQUIRE))
		return 0;
	return supervision->judge(call->data.nr, supervision->context);
}

static void *supervise(void *context)
{
	struct supervision *supervision = context;
	int listener;

	while ((listener = __atomic_load_n(&supervision->listener, __ATOMIC_ACQUIRE)) < 0)
		sched_yield();
	for (;;) {
		struct seccomp_notif call = { .id = 0 };
		struct seccomp_notif_resp answer = { .id = 0 };

		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0)
			continue;
		answer.id = call.id;
		answer.error = -judge(supervision, &call);
		if (answer.error == 0)
			answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		else
			close_anyway(&call);
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
	return NULL;
}

void supervise_begin(struct supervision *supervision)
{
	__atomic_store_n(&supervision->is_active, true, __ATOMIC_RELEASE);
}

void supervise_end(struct supervision *supervision)
{
	__atomic_store_n(&supervision->is_active, false, __ATOMIC_RELEASE);
}

bool supervise_this_thread(struct supervision *supervision, const int *numbers, size_t count)
{
	pthread_t thread;
	int listener;

	supervision->listener = -1;
	if (pthread_create(&thread, NULL, supervise, supervision) != 0)
		return false;
	listener = numbers ? install_for(numbers, count) : install_for_all();
	if (listener < 0)
		return false;
	__atomic_store_n(&supervision->listener, listener, __ATOMIC_RELEASE);
	return true;
}

struct run {
	struct supervision *supervision;
	int (*body)(void *context);
	void *context;
	int line;
};

static void *run_here(void *context)
{
	struct run *run = context;

	run->line = supervise_this_thread(run->supervision, NULL, 0) ?
		    run->body(run->context) : __LINE__;
	return NULL;
}

int run_supervised(struct supervision *supervision, int (*body)(void *context), void *context)
{
	struct run run = { supervision, body, context, 0 };
	pthread_t thread;

	STEP(pthread_create(&thread, NULL, run_here, &run) == 0);
	STEP(pthread_join(thread, NULL) == 0);
	return run.line;
}

/* Linux 5.0 to 5.4 report a call but cannot let it continue: it would wait forever. */
static bool can_continue(int listener)
{
	struct seccomp_notif_resp answer = { .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };

	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) != 0 && errno == ENOENT;
}

bool can_supervise(void)
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(!can_continue(install_for(&(int){ SYS_mkdirat }, 1)));
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}
