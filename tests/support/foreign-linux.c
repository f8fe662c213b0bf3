/* SPDX-License-Identifier: MIT */
/* foreign-linux.c: the other implementation's way to the first locator on Linux */

#include "config.h"
#include "support/foreign.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double creation_time;
static bool has_stalled;

static double seconds_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

bool foreign_is_late(void)
{
	return seconds_now() - creation_time > 0.9;
}

bool foreign_has_stalled(void)
{
	return __atomic_load_n(&has_stalled, __ATOMIC_RELAXED);
}

static void make_directory(const char *path)
{
	ck_assert(mkdir(path, 0755) == 0 || errno == EEXIST);
}

static int open_file(int flags)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s%u", SHARED_DIR, RENDEZVOUS_NAME,
		 (unsigned)getpid());
	return open(path, O_RDWR | O_CLOEXEC | flags, 0700);
}

/*
 * The original implementation does not use O_EXCL, so it can destroy a file that another copy
 * just made.
 */
int foreign_create(void)
{
	int file;

	make_directory("/tmp/.reloaded");
	make_directory(SHARED_DIR);
	file = open_file(O_CREAT | O_EXCL);
	ck_assert(file >= 0 || errno == EEXIST);
	if (file >= 0)
		creation_time = seconds_now();
	return file;
}

void *foreign_map(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(memory, MAP_FAILED);
	return memory;
}

static void *map_file(int file)
{
	void *memory = mmap(NULL, FOREIGN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	ck_assert_ptr_ne(memory, MAP_FAILED);
	close(file);
	return memory;
}

struct foreign_locator *foreign_publish_file(int file, enum foreign_storage storage)
{
	struct foreign_locator *locator;
	uintptr_t *address;

	ck_assert_int_eq(ftruncate(file, FOREIGN_SIZE), 0);
	address = map_file(file);
	locator = storage == IN_FILE ? (void *)address : foreign_map(FOREIGN_SIZE);
	__atomic_store_n(&locator->this_address, (uintptr_t)locator, __ATOMIC_RELEASE);
	__atomic_store_n(address, (uintptr_t)locator, __ATOMIC_RELEASE);
	__atomic_store_n(&has_stalled, foreign_is_late(), __ATOMIC_RELAXED);
	return locator;
}

static struct foreign_locator *wait_for_address(int file)
{
	struct stat status = { .st_size = 0 };
	uintptr_t *address, locator;

	while (status.st_size == 0) {	/* pages beyond the file's end cannot be accessed */
		ck_assert_int_eq(fstat(file, &status), 0);
		sched_yield();
	}
	address = map_file(file);
	while (!(locator = __atomic_load_n(address, __ATOMIC_ACQUIRE)))
		sched_yield();
	munmap(address, FOREIGN_SIZE);
	ck_assert_uint_eq(__atomic_load_n((uintptr_t *)locator, __ATOMIC_ACQUIRE), locator);
	return (struct foreign_locator *)locator;
}

static struct foreign_locator *publish_and_reset(int file, enum foreign_storage storage)
{
	struct foreign_locator *locator = foreign_publish_file(file, storage);

	foreign_reset(locator);
	return locator;
}

static struct foreign_locator *find_or_create(enum foreign_storage storage)
{
	int file = open_file(0);

	if (file >= 0)
		return wait_for_address(file);
	file = foreign_create();
	if (file >= 0)
		return publish_and_reset(file, storage);
	file = open_file(0);
	ck_assert_int_ge(file, 0);
	return wait_for_address(file);
}

/* One thread at a time: a second one would use the locator before the first one has reset it. */
struct foreign_locator *foreign_find(enum foreign_storage storage)
{
	static pthread_mutex_t finding = PTHREAD_MUTEX_INITIALIZER;
	struct foreign_locator *locator;

	pthread_mutex_lock(&finding);
	locator = find_or_create(storage);
	pthread_mutex_unlock(&finding);
	return locator;
}
