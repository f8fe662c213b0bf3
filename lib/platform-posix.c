/* SPDX-License-Identifier: MIT */
/*
 * platform-posix.c: the primitives of platform.h that Unix systems share
 *
 * Notices are small files below /tmp.  Whoever can write there is taken for an
 * enemy: nothing is trusted but real directories and files of our own user
 * that nobody else can write, each looked at after it was opened, and all that
 * is done in a directory is done through its descriptor.  HACKING says what
 * each step is for.
 */

#include "config.h"
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NAME_SIZE	 128
#define FILE_SIZE	 4096	/* the least that others map of it */
#define OTHERS_CAN_WRITE (S_IWGRP | S_IWOTH)
#define OVERFLOW_USER	 65534	/* stands for every user that a namespace does not know */

/*
 * Names
 */

static char *put_text(char *at, const char *text)
{
	while (*text)
		*at++ = *text++;
	*at = '\0';
	return at;
}

static char *put_number(char *at, uint64_t number, unsigned base, unsigned least_digits)
{
	char digits[24];
	unsigned count = 0;

	for (; number || count < least_digits; number /= base)
		digits[count++] = "0123456789abcdef"[number % base];
	while (count)
		*at++ = digits[--count];
	*at = '\0';
	return at;
}

static void put_file_name(char *at, const char *name)
{
	at = put_text(at, name);
	at = put_text(at, ", PID ");
	put_number(at, buffers_platform_process(), 10, 1);
}

/* A file that is not whole yet: ".", and 16 digits behind the name. */
static void put_draft_name(char *at, const char *file)
{
	at = put_text(at, file);
	at = put_text(at, ".");
	put_number(at, buffers_platform_random(), 16, 16);
}

static const char *skip_text(const char *at, const char *text)
{
	size_t length = strlen(text);

	return strncmp(at, text, length) == 0 ? at + length : NULL;
}

static bool is_draft_suffix(const char *at)
{
	return *at == '.' && strlen(at) == 17 && strspn(at + 1, "0123456789abcdef") == 16;
}

/* The process that a file or draft of this name belongs to, 0 if it is neither. */
static pid_t process_of(const char *file, const char *name)
{
	const char *at = skip_text(file, name);
	int64_t process = 0;

	at = at ? skip_text(at, ", PID ") : NULL;
	if (!at || *at < '1' || *at > '9')
		return 0;
	for (; *at >= '0' && *at <= '9'; at++) {
		process = process * 10 + (*at - '0');
		if (process > INT32_MAX)
			return 0;
	}
	return *at == '\0' || is_draft_suffix(at) ? (pid_t)process : 0;
}

/*
 * Directories
 */

static bool is_ours(int file, mode_t type, struct stat *status)
{
	if (fstat(file, status) != 0 || (status->st_mode & S_IFMT) != type ||
	    status->st_uid != geteuid() || (status->st_mode & OTHERS_CAN_WRITE))
		return false;
	/* Only the owner may do this, whatever number stands for him here. */
	return status->st_uid != OVERFLOW_USER || fchmod(file, status->st_mode & 07777) == 0;
}

static int open_directory(int parent, const char *name)
{
	return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The caller's umask may have taken what we need, or all. */
static int make_directory(int parent, const char *name)
{
	int directory;

	if (mkdirat(parent, name, S_IRWXU) != 0)
		return errno == EEXIST ? open_directory(parent, name) : -1;
	directory = open_directory(parent, name);
	if (directory < 0)
		unlinkat(parent, name, AT_REMOVEDIR);
	else
		fchmod(directory, S_IRWXU);
	return directory;
}

/* From a directory, which is closed, to one in it: 0 or an error. */
static int enter(int *directory, const char *name, bool is_to_be_made)
{
	struct stat status;
	int inner = open_directory(*directory, name);
	int error = 0;

	if (inner < 0 && errno == ENOENT && is_to_be_made)
		inner = make_directory(*directory, name);
	if (inner < 0) {
		error = errno == ENOENT ? ENOENT : EACCES;
	} else if (!is_ours(inner, S_IFDIR, &status)) {
		close(inner);
		error = EACCES;
	}
	close(*directory);
	*directory = error ? -1 : inner;
	return error;
}

/* The first place is shared with other implementations, and so with other users. */
static void put_place_name(char *at, unsigned place)
{
	at = put_text(at, ".reloaded");
	if (place > 0) {
		at = put_text(at, "-");
		put_number(at, geteuid(), 10, 1);
	}
}

/* A program that has more rights than its user must not be led by his files. */
static bool is_privileged(void)
{
	return getauxval(AT_SECURE) != 0;
}

/* The directory, -ENOENT if there is none yet, or -EACCES. */
static int open_place(unsigned place, bool is_to_be_made)
{
	char name[NAME_SIZE];
	int directory;
	int error;

	if (is_privileged())
		return -EACCES;
	directory = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return -EACCES;
	put_place_name(name, place);
	error = enter(&directory, name, is_to_be_made);
	if (!error)
		error = enter(&directory, "memory.buffers", is_to_be_made);
	return error ? -error : directory;
}

void buffers_platform_board_open(struct buffers_board *board)
{
	/* Nearly all calls below are cancellation points. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &board->cancellation);
	for (unsigned place = 0; place < BUFFERS_BOARD_PLACES; place++)
		board->directories[place] = open_place(place, false);
}

void buffers_platform_board_close(struct buffers_board *board)
{
	for (unsigned place = 0; place < BUFFERS_BOARD_PLACES; place++)
		if (board->directories[place] >= 0)
			close(board->directories[place]);
	pthread_setcancelstate(board->cancellation, &board->cancellation);
}

static int directory_of(const struct buffers_board *board, unsigned place)
{
	return board->directories[place];
}

/*
 * Reading
 */

static struct buffers_notice_id id_of(const struct stat *status)
{
	return (struct buffers_notice_id){ (uint64_t)status->st_dev, (uint64_t)status->st_ino };
}

static bool is_same(struct buffers_notice_id a, const struct buffers_notice_id *b)
{
	return a.device == b->device && a.file == b->file;
}

static bool is_fresh(const struct stat *status)
{
	struct timespec now;
	int64_t age;

	clock_gettime(CLOCK_REALTIME, &now);
	age = ((int64_t)now.tv_sec - status->st_mtim.tv_sec) * 1000000000 +
	      (now.tv_nsec - status->st_mtim.tv_nsec);
	return age >= 0 && age < 1000000000;
}

/* A draft has a second link for a moment, or for ever if we are killed then. */
static int check_file(int file, struct stat *status)
{
	if (!is_ours(file, S_IFREG, status) || status->st_nlink > 2)
		return EACCES;
	return status->st_nlink == 0 ? EAGAIN : 0;
}

static int open_file(int directory, const char *name, int *file, struct stat *status)
{
	int error;

	*file = openat(directory, name,
		       O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (*file < 0)
		return errno == ENOENT ? ENOENT : EACCES;
	error = check_file(*file, status);
	if (error)
		close(*file);
	return error;
}

static bool read_start(int file, void *bytes, size_t size)
{
	ssize_t got;

	memset(bytes, 0, size);
	do
		got = pread(file, bytes, size, 0);
	while (got < 0 && errno == EINTR);
	return got >= 0;
}

int buffers_platform_notice_read(const struct buffers_board *board, unsigned place,
				 const char *name, void *bytes, size_t size,
				 struct buffers_notice_id *id, bool *fresh)
{
	char file_name[NAME_SIZE];
	struct stat status;
	int file;
	int error;

	if (directory_of(board, place) < 0)
		return -directory_of(board, place);
	put_file_name(file_name, name);
	error = open_file(directory_of(board, place), file_name, &file, &status);
	if (error)
		return error;
	if (!read_start(file, bytes, size))
		error = EACCES;
	close(file);
	*id = id_of(&status);
	*fresh = is_fresh(&status);
	return error;
}

/*
 * Writing
 */

static size_t file_size(void)
{
	size_t size = buffers_platform_granularity();

	return size > FILE_SIZE ? size : FILE_SIZE;
}

/* Writing beyond the limit would raise SIGXFSZ. */
static bool is_allowed_size(size_t size)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur >= size;
}

/* Whoever closed the standard streams may yet print to their numbers. */
static int beyond_streams(int file)
{
	int moved;

	if (file > STDERR_FILENO)
		return file;
	moved = fcntl(file, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	close(file);
	return moved;
}

static bool write_all(int file, const void *bytes, size_t size)
{
	ssize_t written;

	do
		written = write(file, bytes, size);
	while (written < 0 && errno == EINTR);
	return written == (ssize_t)size;
}

/* No holes: others map the file, and a full disk would then kill them. */
static bool write_file(int file, const void *bytes, size_t size)
{
	static char zeros[FILE_SIZE];	/* not const, and so not in our own file */
	size_t whole = file_size();
	bool is_written = write_all(file, bytes, size);

	for (size_t part; is_written && size < whole; size += part) {
		part = whole - size < sizeof(zeros) ? whole - size : sizeof(zeros);
		is_written = write_all(file, zeros, part);
	}
	return is_written;
}

/* The mode is set again because the caller's umask may forbid us our own file. */
static bool make_draft(int directory, const char *draft, const void *bytes, size_t size)
{
	int file;
	bool is_whole;

	if (!is_allowed_size(file_size()))
		return false;
	file = openat(directory, draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		      S_IRUSR | S_IWUSR);
	if (file < 0)
		return false;
	file = beyond_streams(file);
	is_whole = write_file(file, bytes, size) && fchmod(file, S_IRUSR | S_IWUSR) == 0;
	if (file >= 0 && close(file) != 0)
		is_whole = false;
	if (!is_whole)
		unlinkat(directory, draft, 0);
	return is_whole;
}

/*
 * Has the file locked for us, if it is still the one of that name.  All who
 * take a file away or replace it hold its lock: of two who find the same stale
 * file, only the first replaces it.  *file is to be closed, which unlocks.
 */
static int lock_file(int directory, const char *name, const struct buffers_notice_id *id,
		     int *file)
{
	struct stat status;
	int error = open_file(directory, name, file, &status);

	if (error)
		return error == ENOENT ? EAGAIN : error;
	if (!is_same(id_of(&status), id))
		error = EAGAIN;
	else if (flock(*file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
		error = EAGAIN;
	else if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
		 !is_same(id_of(&status), id))
		error = EAGAIN;
	if (error)
		close(*file);
	return error;
}

static int put_up(int directory, const char *draft, const char *name)
{
	int error = 0;

	if (linkat(directory, draft, directory, name, 0) != 0)
		error = errno == EEXIST ? EAGAIN : EACCES;
	unlinkat(directory, draft, 0);
	return error;
}

static int replace(int directory, const char *draft, const char *name,
		   const struct buffers_notice_id *old)
{
	int file;
	int error = lock_file(directory, name, old, &file);

	if (!error) {
		if (renameat(directory, draft, directory, name) != 0)
			error = EACCES;
		close(file);
	}
	if (error)
		unlinkat(directory, draft, 0);
	return error;
}

int buffers_platform_notice_post(struct buffers_board *board, unsigned place, const char *name,
				 const void *bytes, size_t size,
				 const struct buffers_notice_id *old)
{
	char file_name[NAME_SIZE], draft_name[NAME_SIZE];
	int directory = directory_of(board, place);

	if (directory == -ENOENT) {
		directory = open_place(place, true);
		board->directories[place] = directory;
	}
	if (directory < 0)
		return EACCES;
	put_file_name(file_name, name);
	put_draft_name(draft_name, file_name);
	if (!make_draft(directory, draft_name, bytes, size))
		return EACCES;
	if (old)
		return replace(directory, draft_name, file_name, old);
	return put_up(directory, draft_name, file_name);
}

/*
 * Removing
 */

static void remove_file(int directory, const char *name, const struct buffers_notice_id *id)
{
	int file;

	if (lock_file(directory, name, id, &file) == 0) {
		unlinkat(directory, name, 0);
		close(file);
	}
}

void buffers_platform_notice_remove(const struct buffers_board *board, unsigned place,
				    const char *name, const struct buffers_notice_id *id)
{
	char file_name[NAME_SIZE];

	if (directory_of(board, place) < 0)
		return;
	put_file_name(file_name, name);
	remove_file(directory_of(board, place), file_name, id);
}

/* So many are looked at and removed at most, that a start is never slow. */
enum { TIDY_LOOKS = 256, TIDY_REMOVALS = 16 };

struct tidying {
	int directory;
	const char *name;
	size_t size;
	bool (*may_remove)(const void *bytes);
	unsigned looks, removals;
};

static bool is_gone(pid_t process)
{
	return kill(process, 0) != 0 && errno == ESRCH;
}

/* It must be gone after the file was opened: its number may be used again. */
static void tidy_file(struct tidying *tidying, const char *file_name, pid_t process)
{
	char bytes[256];
	struct stat status;
	struct buffers_notice_id id;
	bool is_to_go;
	int file;

	if (!is_gone(process) ||
	    open_file(tidying->directory, file_name, &file, &status) != 0)
		return;
	id = id_of(&status);
	is_to_go = read_start(file, bytes, tidying->size) && tidying->may_remove(bytes) &&
		   is_gone(process);
	close(file);
	if (is_to_go) {
		remove_file(tidying->directory, file_name, &id);
		tidying->removals++;
	}
}

static void tidy_entry(struct tidying *tidying, const char *file_name)
{
	pid_t process = process_of(file_name, tidying->name);

	tidying->looks++;
	if (process)
		tidy_file(tidying, file_name, process);
}

/* readdir() needs malloc(), and so the kernel's records are read as they are. */
struct entry {
	uint64_t file;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

static void tidy_directory(struct tidying *tidying)
{
	_Alignas(struct entry) char records[2048];
	long got;

	while (tidying->looks < TIDY_LOOKS && tidying->removals < TIDY_REMOVALS) {
		const struct entry *entry;

		got = syscall(SYS_getdents64, tidying->directory, records, sizeof(records));
		if (got <= 0)
			break;
		for (long at = 0; at < got && tidying->removals < TIDY_REMOVALS;
		     at += entry->size) {
			entry = (const struct entry *)(records + at);
			tidy_entry(tidying, entry->name);
		}
	}
}

void buffers_platform_notice_tidy(const struct buffers_board *board, unsigned place,
				  const char *name, size_t size,
				  bool (*may_remove)(const void *bytes))
{
	struct tidying tidying = {
		.directory = directory_of(board, place),
		.name = name,
		.size = size,
		.may_remove = may_remove,
	};

	if (tidying.directory >= 0)
		tidy_directory(&tidying);
}
