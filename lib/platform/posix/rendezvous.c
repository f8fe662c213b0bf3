/* SPDX-License-Identifier: MIT */
/*
 * platform-linux-notices.c: the notices of platform.h on Linux
 *
 * Notices are small files below /tmp.  Whoever can write there is taken for an
 * enemy: nothing is trusted but real directories and files of our own user
 * that nobody else can write, each looked at after it was opened, and all that
 * is done in a directory is done through its descriptor.  HACKING says what
 * each step is for.
 */

#include "config.h"
#include "platform/platform.h"
#include "platform/linux/sys.h"
#include "base/format.h"

#include <limits.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <time.h>

#define NAME_SIZE	 128
#define FILE_SIZE	 4096	/* the least that others map of it */
#define WORD_SIZE	 8
#define OVERFLOW_USER	 65534	/* stands for every user that a namespace does not know */
#define SECOND		 ((int64_t)1000000000)
#define TEN_DAYS	 (10 * 86400 * SECOND)

/*
 * Names
 */

static void put_file_name(char *at, const char *name)
{
	at = buffers_format_string(at, name);
	at = buffers_format_string(at, ", PID ");
	buffers_format_number(at, buffers_platform_pid(), 10, 1);
}

/* A file that is not whole yet: ".", and 16 digits behind the name. */
static void put_draft_name(char *at, const char *file)
{
	at = buffers_format_string(at, file);
	at = buffers_format_string(at, ".");
	buffers_format_number(at, buffers_platform_random(), 16, 16);
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

static const char *skip_any_name(const char *at, const char *const *names)
{
	const char *end = NULL;

	for (; *names && !end; names++) {
		end = skip_text(at, *names);
		end = end ? skip_text(end, ", PID ") : NULL;
	}
	return end;
}

/* The process that a file or draft of these names belongs to, 0 if it is neither. */
static pid_t process_of(const char *file, const char *const *names)
{
	const char *at = skip_any_name(file, names);
	int64_t process = 0;

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
 * Who we are
 */

#ifdef SYS_getresuid32	/* where the plain ones know 16 bits */
# define GETRESUID SYS_getresuid32
# define GETRESGID SYS_getresgid32
#else
# define GETRESUID SYS_getresuid
# define GETRESGID SYS_getresgid
#endif

static bool is_one(const uint32_t ids[3])
{
	return ids[0] == ids[1] && ids[1] == ids[2];
}

/*
 * The user whose files are to be trusted.  There is none for a program that was
 * given more rights than its user, or could become another: it would be led by
 * the lesser.
 */
static bool find_user(uint32_t *user)
{
	uint32_t users[3], groups[3];

	if (syscall(GETRESUID, &users[0], &users[1], &users[2]) != 0 ||
	    syscall(GETRESGID, &groups[0], &groups[1], &groups[2]) != 0)
		return false;
	*user = users[0];
	return getauxval(AT_SECURE) == 0 && is_one(users) && is_one(groups);
}

/*
 * Directories
 */

static bool is_ours(int file, unsigned type, uint32_t user, struct statx *status)
{
	if (!sys_stat(file, "", 0, status) || (status->stx_mode & S_IFMT) != type ||
	    status->stx_uid != user || (status->stx_mode & (S_IWGRP | S_IWOTH)))
		return false;
	/* Only the owner may do this, whatever number stands for him here. */
	return user != OVERFLOW_USER ||
	       syscall(SYS_fchmod, file, status->stx_mode & 07777) == 0;
}

static int open_directory(int parent, const char *name)
{
	return sys_open(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
}

/* The caller's umask may have taken away all that is needed to open it. */
static int make_directory(int parent, const char *name)
{
	bool is_made = syscall(SYS_mkdirat, parent, name, S_IRWXU) == 0;
	int directory;

	if (!is_made && errno != EEXIST)
		return -1;
	directory = open_directory(parent, name);
	if (directory < 0 && is_made)
		syscall(SYS_unlinkat, parent, name, AT_REMOVEDIR);
	return directory;
}

/* From a directory to one in it: its descriptor, or -errno. */
static int enter(int parent, const char *name, uint32_t user, bool is_to_be_made)
{
	struct statx status;
	int directory = open_directory(parent, name);

	if (directory < 0 && errno == ENOENT && is_to_be_made)
		directory = make_directory(parent, name);
	if (directory < 0) {
		directory = errno == ENOENT ? -ENOENT : -EACCES;
	} else if (!is_ours(directory, S_IFDIR, user, &status)) {
		sys_close(directory);
		directory = -EACCES;
	} else if (is_to_be_made && (status.stx_mode & S_IRWXU) != S_IRWXU) {
		syscall(SYS_fchmod, directory, S_IRWXU);
	}
	return directory;
}

/* The first place is shared with other implementations, and so with other users. */
static void put_place_name(char *at, unsigned place, uint32_t user)
{
	at = buffers_format_string(at, ".reloaded");
	if (place > 0) {
		at = buffers_format_string(at, "-");
		buffers_format_number(at, user, 10, 1);
	}
}

static int open_tmp(void)
{
	return sys_open(AT_FDCWD, "/tmp", O_RDONLY | O_DIRECTORY, 0);
}

/* The directory, -ENOENT if there is none yet, or -EACCES. */
static int open_place(int tmp, unsigned place, uint32_t user, bool is_to_be_made)
{
	char name[NAME_SIZE];
	int outer, inner;

	put_place_name(name, place, user);
	outer = enter(tmp, name, user, is_to_be_made);
	if (outer < 0)
		return outer;
	inner = enter(outer, "memory.buffers", user, is_to_be_made);
	sys_close(outer);
	return inner;
}

static int make_dir(unsigned place, uint32_t user)
{
	int tmp = open_tmp();
	int directory;

	if (tmp < 0)
		return -EACCES;
	directory = open_place(tmp, place, user, true);
	sys_close(tmp);
	return directory;
}

void buffers_platform_rendezvous_open(struct buffers_rendezvous_dirs *board)
{
	int tmp = find_user(&board->user) ? open_tmp() : -1;

	for (unsigned place = 0; place < BUFFERS_RENDEZVOUS_DIRS; place++)
		board->directories[place] =
			tmp >= 0 ? open_place(tmp, place, board->user, false) : -EACCES;
	if (tmp >= 0)
		sys_close(tmp);
}

void buffers_platform_rendezvous_close(struct buffers_rendezvous_dirs *board)
{
	for (unsigned place = 0; place < BUFFERS_RENDEZVOUS_DIRS; place++)
		if (board->directories[place] >= 0)
			sys_close(board->directories[place]);
}

/*
 * Files
 */

static struct buffers_rendezvous_id id_of(const struct statx *status)
{
	return (struct buffers_rendezvous_id){
		.device = (uint64_t)status->stx_dev_major << 32 | status->stx_dev_minor,
		.file = status->stx_ino,
	};
}

static bool is_same(struct buffers_rendezvous_id a, const struct buffers_rendezvous_id *b)
{
	return a.device == b->device && a.file == b->file;
}

static int64_t now(void)
{
	struct { long seconds, nanoseconds; } time;
#ifdef SYS_clock_gettime64
	struct { int64_t seconds, nanoseconds; } long_time;

	if (syscall(SYS_clock_gettime64, CLOCK_REALTIME, &long_time) == 0)	/* Linux 5.1 */
		return long_time.seconds * SECOND + long_time.nanoseconds;
#endif
	if (syscall(SYS_clock_gettime, CLOCK_REALTIME, &time) != 0)
		return 0;
	return time.seconds * SECOND + time.nanoseconds;
}

/* Negative for what is of the future; the time of a file may be any number. */
static int64_t age_of(const struct statx *status)
{
	int64_t seconds = status->stx_mtime.tv_sec;

	if (seconds < 0)
		return INT64_MAX;
	if (seconds > INT64_MAX / SECOND - 1)
		return -1;
	return now() - (seconds * SECOND + status->stx_mtime.tv_nsec);
}

static bool is_fresh(const struct statx *status)
{
	int64_t age = age_of(status);

	return age >= 0 && age < SECOND;
}

/* A file has a second link for a moment, or for ever if its maker is killed then. */
static int open_file(int directory, const char *name, uint32_t user, int *file,
		     struct statx *status)
{
	*file = sys_open(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
	if (*file < 0)
		return errno == ENOENT ? ENOENT : EACCES;
	if (is_ours(*file, S_IFREG, user, status) && status->stx_nlink <= 2)
		return 0;
	sys_close(*file);
	return EACCES;
}

/* Whole words: half an address is none. */
static bool read_start(int file, void *bytes, size_t size)
{
	ssize_t got;
	size_t whole;

	memset(bytes, 0, size);
	got = sys_read(file, bytes, size);
	if (got < 0)
		return false;
	whole = (size_t)got / WORD_SIZE * WORD_SIZE;
	memset((char *)bytes + whole, 0, size - whole);
	return true;
}

int buffers_platform_rendezvous_read(const struct buffers_rendezvous_dirs *board, unsigned place,
				 const char *name, void *bytes, size_t size,
				 struct buffers_rendezvous_id *id, bool *fresh)
{
	char file_name[NAME_SIZE];
	struct statx status;
	int directory = board->directories[place];
	int file;
	int error;

	if (directory < 0)
		return -directory;
	put_file_name(file_name, name);
	error = open_file(directory, file_name, board->user, &file, &status);
	if (error)
		return error;
	if (!read_start(file, bytes, size))
		error = EACCES;
	sys_close(file);
	*id = id_of(&status);
	memcpy(&id->start, bytes, sizeof(id->start));
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

/*
 * Takes the numbers of standard streams that are closed, for as long as a file
 * is written: whoever closed them may yet print to them.
 */
static unsigned plug_streams(int directory, int plugs[3])
{
	unsigned count = 0;
	int plug;

	do {
		plug = (int)syscall(SYS_fcntl, directory, F_DUPFD_CLOEXEC, 0);
		if (plug > STDERR_FILENO)
			sys_close(plug);
		else if (plug >= 0)
			plugs[count++] = plug;
	} while (plug >= 0 && plug <= STDERR_FILENO && count < 3);
	return count;
}

/* No holes: others map the file, and a full disk would then kill them. */
static bool write_whole(int file, const void *bytes, size_t size)
{
	char block[FILE_SIZE] = { 0 };
	size_t whole = file_size();
	bool is_written;

	memcpy(block, bytes, size);
	is_written = sys_write(file, block, sizeof(block));
	memset(block, 0, size);
	for (size_t at = sizeof(block); is_written && at < whole; at += sizeof(block))
		is_written = sys_write(file, block, sizeof(block));
	return is_written;
}

/* The caller's umask may forbid us our own file. */
static bool has_mode(int file, unsigned mode)
{
	struct statx status;

	return (sys_stat(file, "", 0, &status) && (status.stx_mode & 07777) == mode) ||
	       syscall(SYS_fchmod, file, mode) == 0;
}

static bool write_draft(int directory, const char *draft, const void *bytes, size_t size)
{
	int file = sys_open(directory, draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
			    S_IRUSR | S_IWUSR);
	bool is_whole;

	if (file < 0)
		return false;
	is_whole = write_whole(file, bytes, size) && has_mode(file, S_IRUSR | S_IWUSR);
	if (syscall(SYS_close, file) != 0)	/* network and quota tell it only here */
		is_whole = false;
	if (!is_whole)
		syscall(SYS_unlinkat, directory, draft, 0);
	return is_whole;
}

static bool make_draft(int directory, const char *draft, const void *bytes, size_t size)
{
	int plugs[3];
	unsigned count;
	bool is_made;

	if (!sys_may_write(file_size()))
		return false;
	count = plug_streams(directory, plugs);
	is_made = write_draft(directory, draft, bytes, size);
	while (count)
		sys_close(plugs[--count]);
	return is_made;
}

static int put_up(int directory, const char *draft, const char *name, const void *bytes,
		  size_t size)
{
	int error = 0;

	if (!make_draft(directory, draft, bytes, size))
		return EACCES;
	if (syscall(SYS_linkat, directory, draft, directory, name, 0) != 0)
		error = errno == EEXIST ? EAGAIN : EACCES;
	syscall(SYS_unlinkat, directory, draft, 0);
	return error;
}

/* The name may have come to mean another file than the one that is open. */
static bool is_still(int directory, const char *name, const struct statx *status)
{
	struct buffers_rendezvous_id id = id_of(status);
	struct statx present;

	return sys_stat(directory, name, AT_SYMLINK_NOFOLLOW, &present) &&
	       is_same(id_of(&present), &id);
}

/* Others write in place, and know nothing of locks. */
static bool starts_so(int file, const struct buffers_rendezvous_id *id)
{
	uint64_t start;

	return read_start(file, &start, sizeof(start)) && start == id->start;
}

static bool is_locked_by_other(int file)
{
	return syscall(SYS_flock, file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

/* Any user who can read a file can lock it, and keep us waiting. */
static int wait_for_lock(int file, const struct statx *status)
{
	enum { SOME_TENS_OF_MILLISECONDS = 1024 + 200 };

	if (!is_locked_by_other(file))
		return 0;
	if (!(status->stx_mode & (S_IRWXG | S_IRWXO)))
		return EAGAIN;
	for (unsigned attempt = 0; attempt < SOME_TENS_OF_MILLISECONDS; attempt++) {
		buffers_platform_backoff(attempt);
		if (!is_locked_by_other(file))
			return 0;
	}
	return EACCES;
}

/*
 * All who take a file away or replace it hold its lock: of two who find the same
 * stale file, only the first replaces it.
 */
static int replace(const struct buffers_rendezvous_dirs *board, int directory, const char *draft,
		   const char *name, const void *bytes, size_t size,
		   const struct buffers_rendezvous_id *old)
{
	struct statx status;
	int file;
	int error = open_file(directory, name, board->user, &file, &status);

	if (error)
		return error == ENOENT ? EAGAIN : error;
	error = is_same(id_of(&status), old) ? wait_for_lock(file, &status) : EAGAIN;
	if (!error && !(is_still(directory, name, &status) && starts_so(file, old)))
		error = EAGAIN;
	if (!error && !make_draft(directory, draft, bytes, size))
		error = EACCES;
	if (!error && syscall(SYS_renameat2, directory, draft, directory, name, 0) != 0) {
		syscall(SYS_unlinkat, directory, draft, 0);
		error = EACCES;
	}
	sys_close(file);
	return error;
}

int buffers_platform_rendezvous_map(const struct buffers_rendezvous_dirs *board, unsigned place,
				const char *name, size_t size, unsigned kind,
				uintptr_t *address)
{
	(void)board;
	(void)place;
	(void)name;
	(void)size;
	(void)kind;
	(void)address;
	return ENOSYS;
}

int buffers_platform_rendezvous_create(struct buffers_rendezvous_dirs *board, unsigned place, const char *name,
				 const void *bytes, size_t size,
				 const struct buffers_rendezvous_id *old)
{
	char file_name[NAME_SIZE], draft_name[NAME_SIZE];
	int *directory = &board->directories[place];

	if (*directory == -ENOENT)
		*directory = make_dir(place, board->user);
	if (*directory < 0)
		return EACCES;
	put_file_name(file_name, name);
	put_draft_name(draft_name, file_name);
	if (old)
		return replace(board, *directory, draft_name, file_name, bytes, size, old);
	return put_up(*directory, draft_name, file_name, bytes, size);
}

/*
 * Removing
 */

/* While it is open, no other file gets its number. */
static void remove_open_file(int directory, const char *name, int file,
			     const struct statx *status)
{
	if (!is_locked_by_other(file) && is_still(directory, name, status))
		syscall(SYS_unlinkat, directory, name, 0);
}

void buffers_platform_rendezvous_remove(const struct buffers_rendezvous_dirs *board, unsigned place,
				    const char *name, const struct buffers_rendezvous_id *id)
{
	char file_name[NAME_SIZE];
	struct statx status;
	int directory = board->directories[place];
	int file;

	if (directory < 0)
		return;
	put_file_name(file_name, name);
	if (open_file(directory, file_name, board->user, &file, &status) != 0)
		return;
	if (is_same(id_of(&status), id))
		remove_open_file(directory, file_name, file, &status);
	sys_close(file);
}

/* So much is done at most, that a start is never slow. */
enum {
	TIDY_SKIPPED = 512,
	TIDY_NAMES = 256,
	TIDY_FILES = 64,
	TIDY_REMOVALS = 16,
	TIDY_SIZE = 128,
};

struct tidying {
	const struct buffers_rendezvous_dirs *board;
	int directory;
	pid_t self;
	const char *const *wanted;	/* their names, NULL after the last */
	size_t size;
	bool (*may_remove)(const void *bytes, bool is_old, void *context);
	void *context;
	unsigned names, files, removals;
};

static bool is_over(const struct tidying *tidying)
{
	return tidying->names >= TIDY_NAMES || tidying->files >= TIDY_FILES ||
	       tidying->removals >= TIDY_REMOVALS;
}

static bool is_gone(pid_t process)
{
	return syscall(SYS_kill, process, 0) != 0 && errno == ESRCH;
}

/* Drafts have no content yet that would tell whose they are. */
static bool is_to_go(const struct tidying *tidying, int file, const struct statx *status,
		     bool is_draft)
{
	char bytes[TIDY_SIZE];

	return !(is_draft && is_fresh(status)) && read_start(file, bytes, tidying->size) &&
	       tidying->may_remove(bytes, age_of(status) > TEN_DAYS, tidying->context);
}

/* Gone also after it was opened, for its number may be in use again. */
static void tidy_file(struct tidying *tidying, const char *file_name, pid_t process)
{
	struct statx status;
	bool is_draft = strchr(strchr(file_name, ','), '.');
	int file;

	tidying->files++;
	if (open_file(tidying->directory, file_name, tidying->board->user, &file, &status) != 0)
		return;
	if (is_to_go(tidying, file, &status, is_draft) && is_gone(process)) {
		remove_open_file(tidying->directory, file_name, file, &status);
		tidying->removals++;
	}
	sys_close(file);
}

static void tidy_name(struct tidying *tidying, const char *file_name)
{
	pid_t process = process_of(file_name, tidying->wanted);

	tidying->names++;
	if (process && process != tidying->self && is_gone(process))
		tidy_file(tidying, file_name, process);
}

/* What the kernel says of a directory; the C library's way needs malloc(3). */
struct record {
	uint64_t file;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

enum { RECORDS_SIZE = 2048, LONGEST_RECORD = 280 };

static long read_records(const struct tidying *tidying, char *records)
{
	return syscall(SYS_getdents64, tidying->directory, records, (long)RECORDS_SIZE);
}

/* Which of all names in the directory are meant, counted in its order. */
struct names {
	unsigned first, end, number;
};

static void tidy_records(struct tidying *tidying, const char *records, long size,
			 struct names *names)
{
	uint16_t record_size;

	for (long at = 0; at < size; at += record_size, names->number++) {
		if (names->number >= names->end || is_over(tidying))
			return;
		if (names->number >= names->first)
			tidy_name(tidying, records + at + offsetof(struct record, name));
		memcpy(&record_size, records + at + offsetof(struct record, size),
		       sizeof(record_size));
	}
}

static void tidy_names(struct tidying *tidying, unsigned first, unsigned end)
{
	struct names names = { .first = first, .end = end };
	char records[RECORDS_SIZE];
	long got;

	syscall(SYS_lseek, tidying->directory, 0L, SEEK_SET);
	while (names.number < end && !is_over(tidying) &&
	       (got = read_records(tidying, records)) > 0)
		tidy_records(tidying, records, got, &names);
}

/*
 * Begins anywhere, for what has to stay must not hide the rest for ever; but of
 * few names all have their turn.
 */
static void tidy_directory(struct tidying *tidying)
{
	struct names all = { .end = UINT_MAX };
	char records[RECORDS_SIZE];
	long got = read_records(tidying, records);
	unsigned first;

	if (got < RECORDS_SIZE - LONGEST_RECORD) {
		tidy_records(tidying, records, got, &all);
		return;
	}
	first = buffers_platform_random() % TIDY_SKIPPED;
	tidy_names(tidying, first, UINT_MAX);
	tidy_names(tidying, 0, first);
}

void buffers_platform_rendezvous_clean_up(const struct buffers_rendezvous_dirs *board, unsigned place,
				  const char *const *names, size_t size,
				  bool (*may_remove)(const void *bytes, bool is_old,
						     void *context),
				  void *context)
{
	struct tidying tidying = {
		.board = board,
		.directory = board->directories[place],
		.self = (pid_t)buffers_platform_pid(),
		.wanted = names,
		.size = size < TIDY_SIZE ? size : TIDY_SIZE,
		.may_remove = may_remove,
		.context = context,
	};

	if (tidying.directory >= 0)
		tidy_directory(&tidying);
}
