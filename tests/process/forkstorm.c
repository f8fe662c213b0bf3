/* SPDX-License-Identifier: MIT */
/* process/forkstorm.c: processes fork and are killed while their threads use the library */

#include "config.h"
#include "support/reexec.h"
#include "reloaded/buffers.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GIB ((size_t)1 << 30)

#define NO_SANDBOX "the kernel gives this user no private /tmp; under TSan only root gets one"

static bool is_sandboxed;

static void setup(void)
{
	is_sandboxed = sandbox_tmp(NULL);
}

/*
 * Bytes in a buffer, which name the process that wrote them, and the expected bytes, which the
 * test keeps outside of buffers.  A fork copies both, so each process has its own pair.
 */
struct bytes {
	uint32_t pid, sequence;
	uint64_t sum;
};

struct entry {
	struct bytes *bytes;
	struct bytes expected;
	bool is_changing;	/* a thread overwrites the bytes: they may be old or new */
};

enum { ENTRIES = 4096 };

struct log {
	size_t count;
	uint32_t sequence;
	uint64_t random;
	struct buffers_item *held;
	struct entry entries[ENTRIES];
};

static struct bytes new_bytes(struct log *log, const void *address)
{
	struct bytes bytes = { (uint32_t)getpid(), ++log->sequence, 0 };
	uint64_t mix = (uintptr_t)address ^ ((uint64_t)bytes.pid << 32 | bytes.sequence);

	bytes.sum = next_random(&mix);
	return bytes;
}

static bool is_intact(const struct entry *entry)
{
	return memcmp(entry->bytes, &entry->expected, sizeof(struct bytes)) == 0;
}

/*
 * Overwrites an entry.  If another thread forks meanwhile, the child inherits the first few of
 * these stores, in this order.  is_changing tells it that the rest may be missing.
 */
static void overwrite_entry(struct log *log, struct entry *entry)
{
	struct bytes bytes = new_bytes(log, entry->bytes);

	__atomic_store_n(&entry->is_changing, true, __ATOMIC_SEQ_CST);
	buffers_overwrite(entry->bytes, &bytes, sizeof(bytes));
	entry->expected = bytes;
	__atomic_store_n(&entry->is_changing, false, __ATOMIC_SEQ_CST);
}

static int append_entry(struct log *log, struct buffers_item *item)
{
	struct entry *entry = &log->entries[log->count];
	struct bytes bytes = new_bytes(log, buffers_next(item));

	entry->bytes = buffers_append(item, &bytes, sizeof(bytes));
	STEP(entry->bytes);
	entry->expected = bytes;
	__atomic_store_n(&log->count, log->count + 1, __ATOMIC_SEQ_CST);
	return 0;
}

static struct buffers_request some_request(uint64_t *random)
{
	size_t size = sizeof(struct bytes) * (1 + random_below(random, 10));
	struct buffers_request request = { .size = size };

	switch (random_below(random, 4)) {
	case 0:
		request.max_address = 2 * GIB;
		break;
	case 1:
		request = buffers_request_near((const void *)(uintptr_t)getenv,
					       BUFFERS_REACH_BRANCH, size);
		break;
	}
	request.alignment = (size_t)1 << random_below(random, 5);
	return request;
}

static int get_and_append(struct log *log)
{
	struct buffers_request request = some_request(&log->random);
	struct buffers_item *item = buffers_get(&request);
	size_t amount = request.size / sizeof(struct bytes);

	STEP(item && item != log->held);
	STEP(buffers_remaining(item) >= request.size);
	for (size_t i = 0; i < amount && log->count < ENTRIES; i++)
		STEP(append_entry(log, item) == 0);
	buffers_release(item);
	return 0;
}

/* Holds an item over several steps, so that a fork may occur while the thread holds it. */
static int hold_or_release(struct log *log)
{
	static const struct buffers_request request = { .size = sizeof(struct bytes) };

	if (log->held) {
		if (log->count < ENTRIES &&
		    buffers_remaining(log->held) >= sizeof(struct bytes))
			STEP(append_entry(log, log->held) == 0);
		buffers_release(log->held);
		log->held = NULL;
	} else {
		log->held = buffers_get(&request);
		STEP(log->held);
	}
	return 0;
}

static int work_once(struct log *log)
{
	if (log->count && random_below(&log->random, 2)) {
		overwrite_entry(log, &log->entries[random_below(&log->random, log->count)]);
		return 0;
	}
	return random_below(&log->random, 8) ? get_and_append(log) : hold_or_release(log);
}

/*
 * Processes of the storm: the first one, its children and grandchildren, each with threads
 */

enum { LEVELS = 4, WORKERS = 2, FORKERS = 2, THREADS = WORKERS + FORKERS };

/* Children for each forking thread of the first process; grandchildren for each child. */
enum { CHILDREN = 4, MOST_GRANDCHILDREN = 7 };
#define GRANDCHILDREN how_many(MOST_GRANDCHILDREN, MOST_GRANDCHILDREN)

#define ROUNDS	how_many(50, 50)

/* Private memory: no process may see changes that another one makes to its copy. */
static struct log logs[LEVELS][THREADS];
static unsigned level;

/* Memory that all processes share. */
static struct shared {
	bool is_over;
	unsigned processes, brief_processes;
	uint64_t seed;
	int line;	/* line of the first step that failed */
} *shared;

struct thread {
	pthread_t id;
	unsigned number;
	int line;
};

static bool workers_may_end;
static unsigned workers_at_work;
static pthread_barrier_t forkers_end;

static void *work(void *context)
{
	struct thread *thread = context;
	struct log *log = &logs[level][thread->number];
	unsigned rounds = 0;

	while (thread->line == 0 && (rounds < ROUNDS || !__atomic_load_n(&workers_may_end,
									   __ATOMIC_ACQUIRE))) {
		thread->line = work_once(log);
		if (rounds++ == 0)
			__atomic_add_fetch(&workers_at_work, 1, __ATOMIC_RELEASE);
	}
	buffers_release(log->held);
	log->held = NULL;
	return NULL;
}

/*
 * Checks the entries of all ancestors.  At the start of a child it accepts each entry that a
 * thread of the parent was changing at the fork.
 */
static int check_inherited(bool is_start)
{
	for (unsigned i = 0; i < level; i++) {
		for (unsigned j = 0; j < THREADS; j++) {
			struct log *log = &logs[i][j];

			for (size_t k = 0; k < log->count; k++) {
				struct entry *entry = &log->entries[k];

				if (is_start && entry->is_changing)
					entry->expected = *entry->bytes;
				STEP(is_intact(entry));
			}
		}
	}
	return 0;
}

static int compare_addresses(const void *a, const void *b)
{
	const struct entry *one = *(struct entry *const *)a;
	const struct entry *two = *(struct entry *const *)b;

	return (one->bytes > two->bytes) - (one->bytes < two->bytes);
}

/* Checks all entries, inherited ones included: they are intact and do not overlap. */
static int check_all(void)
{
	static struct entry *all[LEVELS * THREADS * ENTRIES];
	size_t count = 0;

	for (unsigned i = 0; i <= level; i++)
		for (unsigned j = 0; j < THREADS; j++)
			for (size_t k = 0; k < logs[i][j].count; k++)
				all[count++] = &logs[i][j].entries[k];
	qsort(all, count, sizeof(all[0]), compare_addresses);
	for (size_t k = 0; k < count; k++) {
		STEP(is_intact(all[k]));
		STEP(k == 0 || all[k - 1]->bytes + 1 <= all[k]->bytes);
	}
	return 0;
}

/* Prepares a new child: checks inherited entries, and uses and releases the inherited item. */
static int begin_in_child(struct log *parents)
{
	int line;

	alarm(300);	/* kills a deadlocked process, so that its parent reports it */
	level++;
	line = check_inherited(true);
	STEP(line == 0);
	if (parents->held) {
		static const struct bytes bytes = { 1, 2, 3 };
		struct bytes *copy = buffers_next(parents->held);

		if (buffers_remaining(parents->held) >= sizeof(bytes))
			STEP(buffers_append(parents->held, &bytes, sizeof(bytes)) == copy &&
			     copy->sum == 3);
		buffers_release(parents->held);
		parents->held = NULL;
	}
	for (unsigned i = 0; i < THREADS; i++)
		logs[level][i] = (struct log){
			.random = shared->seed ^ ((uint64_t)getpid() * THREADS + i),
		};
	return 0;
}

static int be_brief(void *parents)
{
	struct log *log = &logs[level + 1][0];
	int line = begin_in_child(parents);

	for (unsigned i = 0; i < 20 && line == 0; i++)
		line = work_once(log);
	if (line == 0)
		line = check_all();
	if (line)
		return line;
	__atomic_add_fetch(&shared->brief_processes, 1, __ATOMIC_RELAXED);
	return 0;
}

static int be_process(void *parents);

/*
 * start_child() must not be used here, because it asserts: if another thread held Check's lock
 * at the fork, the child would wait for this lock forever.
 */
static pid_t fork_body(int (*body)(void *), void *context)
{
	pid_t child = fork();
	int none = 0;
	int line;

	if (child == 0) {
		line = body(context);
		__atomic_compare_exchange_n(&shared->line, &none, line, false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
		exit(line != 0);
	}
	return child;
}

static int fork_briefly(struct log *log)
{
	do {
		for (unsigned i = 0; i < 5; i++)
			STEP(work_once(log) == 0);
		STEP(exits_with_zero(fork_body(be_brief, log)));
	} while (!__atomic_load_n(&shared->is_over, __ATOMIC_ACQUIRE));
	return 0;
}

/* Forks `amount` children that last as long as the storm, then brief ones until it is over. */
static int fork_all(struct log *log, unsigned amount)
{
	pid_t children[MOST_GRANDCHILDREN];
	int line;

	for (unsigned i = 0; i < amount; i++) {
		STEP(work_once(log) == 0);
		children[i] = fork_body(be_process, log);
	}
	line = fork_briefly(log);
	for (unsigned i = 0; i < amount; i++)
		if (!exits_with_zero(children[i]) && line == 0)
			line = __LINE__;
	buffers_release(log->held);
	log->held = NULL;
	return line;
}

static void *keep_forking(void *context)
{
	struct thread *thread = context;
	unsigned amount = level == 0 ? CHILDREN : level == 1 && thread->number == WORKERS ?
			  GRANDCHILDREN : 0;

	thread->line = fork_all(&logs[level][thread->number], amount);
	pthread_barrier_wait(&forkers_end);	/* no thread may end while another one forks */
	return NULL;
}

static int run_threads(void)
{
	struct thread threads[THREADS];

	workers_may_end = false;
	workers_at_work = 0;
	STEP(pthread_barrier_init(&forkers_end, NULL, FORKERS) == 0);
	for (unsigned i = 0; i < THREADS; i++)
		threads[i] = (struct thread){ .number = i };
	for (unsigned i = 0; i < WORKERS; i++)
		STEP(pthread_create(&threads[i].id, NULL, work, &threads[i]) == 0);
	while (__atomic_load_n(&workers_at_work, __ATOMIC_ACQUIRE) < WORKERS)
		sched_yield();
	for (unsigned i = WORKERS; i < THREADS; i++)
		STEP(pthread_create(&threads[i].id, NULL, keep_forking, &threads[i]) == 0);
	for (unsigned i = WORKERS; i < THREADS; i++)
		pthread_join(threads[i].id, NULL);
	__atomic_store_n(&workers_may_end, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(threads[i].id, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		if (threads[i].line)
			return threads[i].line;
	return 0;
}

static int count_buffer(const struct buffers_info *info, void *context)
{
	++*(unsigned *)context;
	return info->used > info->size || info->taken;
}

static int work_in_threads(void)
{
	unsigned buffers = 0;
	int line = run_threads();

	if (line == 0)
		line = check_inherited(false);
	if (line == 0)
		line = check_all();
	if (line)
		return line;
	STEP(buffers_walk(count_buffer, &buffers) == 0);
	STEP(buffers > 0);
	__atomic_add_fetch(&shared->processes, 1, __ATOMIC_RELAXED);
	return 0;
}

static int be_process(void *parents)
{
	int line = begin_in_child(parents);

	return line ? line : work_in_threads();
}

static int be_first_process(void *context)
{
	(void)context;
	for (unsigned i = 0; i < THREADS; i++)
		logs[0][i].random = shared->seed ^ i;
	return work_in_threads();
}

START_TEST(processes_forking_in_threads_share_no_buffers_and_lose_no_bytes)
{
	struct child storm;
	siginfo_t end;

	SKIP_IF(is_emulated(), FORKS_IN_THREADS);
	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(is_asan(),
		"a child inherits ASan's allocator locked if another thread held its lock");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
	shared->seed = seed_random();
	storm = start_child(be_first_process, NULL);
	usleep(how_many(1000, 10000) * 1000);
	__atomic_store_n(&shared->is_over, true, __ATOMIC_RELEASE);
	while (waitid(P_PID, (id_t)storm.pid, &end, WEXITED | WNOWAIT) != 0)
		ck_assert_int_eq(errno, EINTR);
	ck_assert_msg(shared->line == 0, "step in line %d failed", shared->line);
	finish_child(storm);
	printf("%u processes, %u brief processes\n", shared->processes, shared->brief_processes);
	ck_assert_uint_eq(shared->processes, 1 + FORKERS * CHILDREN * (1 + GRANDCHILDREN));
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
}
END_TEST

/*
 * Children that the parent kills
 */

static const struct buffers_request request = { .size = 16 };

static struct log parents_log;
static struct buffers_item *parents_item;

static void work_in_parent(unsigned times)
{
	for (unsigned i = 0; i < times; i++)
		ck_assert_int_eq(work_once(&parents_log), 0);
}

static void start_parent(void)
{
	parents_log.random = 1;
	parents_item = buffers_get(&request);
	ck_assert_ptr_nonnull(parents_item);
	buffers_release(parents_item);
	work_in_parent(200);
}

static void assert_parent_works(void)
{
	unsigned buffers = 0;

	work_in_parent(10);
	for (size_t i = 0; i < parents_log.count; i++)
		ck_assert(is_intact(&parents_log.entries[i]));
	if (parents_log.held)
		ck_assert_int_eq(hold_or_release(&parents_log), 0);
	ck_assert_int_eq(buffers_walk(count_buffer, &buffers), 0);
	ck_assert_uint_gt(buffers, 0);
	ck_assert(is_named_in(rendezvous_path(NULL, getpid()), parents_item));
}

static bool names_dead_process(const char *name)
{
	size_t length = strlen(RENDEZVOUS_NAME);
	pid_t pid = strncmp(name, RENDEZVOUS_NAME, length) == 0 ? atoi(name + length) : 1;

	return kill(pid, 0) != 0 && errno == ESRCH;
}

/* Also makes these files old: the library spares fresh ones. */
static unsigned count_and_age_files_of_dead_processes(void)
{
	DIR *directory = opendir(SHARED_DIR);
	unsigned count = 0;
	struct dirent *entry;
	char path[400];

	ck_assert_ptr_nonnull(directory);
	while ((entry = readdir(directory))) {
		if (!names_dead_process(entry->d_name))
			continue;
		snprintf(path, sizeof(path), "%s/%s", SHARED_DIR, entry->d_name);
		make_old(path);
		count++;
	}
	closedir(directory);
	return count;
}

static int publish(void *context)
{
	(void)context;
	STEP(is_named_in(rendezvous_path(NULL, getpid()), buffers_get(&request)));
	return 0;
}

static void assert_files_are_removed_in_time(void)
{
	unsigned left = count_and_age_files_of_dead_processes();

	for (unsigned i = left; i > 0 && count_and_age_files_of_dead_processes() > 0; i--)
		run_child(publish, NULL);
	ck_assert_uint_eq(count_and_age_files_of_dead_processes(), 0);
	ck_assert(is_named_in(rendezvous_path(NULL, getpid()), parents_item));
}

static _Noreturn void work_until_killed(unsigned *steps)
{
	static struct log log;

	log.random = (uint64_t)getpid();
	if (parents_log.held)
		buffers_release(parents_log.held);
	for (;; __atomic_add_fetch(steps, 1, __ATOMIC_RELAXED))
		if (work_once(&log) != 0)
			_exit(1);
}

static void wait_for_some_steps(const unsigned *steps, uint64_t *random)
{
	unsigned enough = (unsigned)random_below(random, 300);
	siginfo_t end = { .si_pid = 0 };

	if (random_below(random, 2))
		nanosleep(&(struct timespec){ .tv_nsec = (long)random_below(random, 600000) },
			  NULL);
	else
		while (__atomic_load_n(steps, __ATOMIC_RELAXED) < enough &&
		       waitid(P_ALL, 0, &end, WEXITED | WNOHANG | WNOWAIT) == 0 && !end.si_pid)
			sched_yield();
}

static void kill_child(pid_t child)
{
	int status;

	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGKILL);
}

START_TEST(parent_works_after_a_child_is_killed_at_a_random_time)
{
	unsigned times = how_many(100, 1000);
	uint64_t random;
	unsigned *steps;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	random = seed_random();
	steps = mmap(NULL, sizeof(*steps), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	ck_assert_ptr_ne(steps, MAP_FAILED);
	start_parent();
	for (unsigned i = 0; i < times; i++) {
		pid_t child;

		*steps = 0;
		child = fork();
		if (child == 0)
			work_until_killed(steps);
		ck_assert_int_gt(child, 0);
		wait_for_some_steps(steps, &random);
		kill_child(child);
		assert_parent_works();
	}
	assert_files_are_removed_in_time();
}
END_TEST

/*
 * Forks a child, and stops its first use at the n-th stop.  ptrace() stops it at the entry and
 * at the exit of each system call.  Returns 0 if the child ended before.
 */
static pid_t stop_at_system_call(unsigned n)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(1);
		raise(SIGSTOP);
		exit(publish(NULL) != 0);
	}
	ck_assert_int_gt(child, 0);
	for (;; n--) {
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		if (WIFEXITED(status)) {
			ck_assert_int_eq(WEXITSTATUS(status), 0);
			return 0;
		}
		ck_assert(WIFSTOPPED(status));
		if (n == 0)
			return child;
		ck_assert_int_eq(ptrace(PTRACE_SYSCALL, child, NULL, NULL), 0);
	}
}

START_TEST(parent_works_after_a_child_is_killed_at_any_system_call)
{
	unsigned n;
	pid_t child;

	SKIP_IF(!is_sandboxed, NO_SANDBOX);
	SKIP_IF(is_asan() || is_tsan(), "the sanitizer's runtime makes too many system calls");
	SKIP_IF(is_coverage(), "gcov would write incomplete counts");
	SKIP_IF(!can_trace(), "the kernel refuses ptrace()");
	start_parent();
	for (n = 1; (child = stop_at_system_call(n)); n += is_slow() ? 7 : 1) {
		kill_child(child);
		assert_parent_works();
	}
	printf("killed at %u stops\n", n);
	ck_assert_uint_gt(n, 10);
	assert_files_are_removed_in_time();
}
END_TEST

static void add_case(Suite *suite, TCase *tests)
{
	tcase_set_tags(tests, "slow");
	tcase_set_timeout(tests, 400);
	tcase_add_checked_fixture(tests, setup, NULL);
	suite_add_tcase(suite, tests);
}

int main(void)
{
	Suite *suite = suite_create("process/forkstorm");
	TCase *storm = tcase_create("storm");
	TCase *killed = tcase_create("killed");

	if (is_tsan())
		skip_all("TSan does not support threads and fork");
	add_case(suite, storm);
	tcase_add_test(storm, processes_forking_in_threads_share_no_buffers_and_lose_no_bytes);
	add_case(suite, killed);
	tcase_add_test(killed, parent_works_after_a_child_is_killed_at_a_random_time);
	tcase_add_test(killed, parent_works_after_a_child_is_killed_at_any_system_call);
	return run_suite(suite);
}
