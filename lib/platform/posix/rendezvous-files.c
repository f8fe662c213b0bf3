/* SPDX-License-Identifier: MIT */
/*
 * rendezvous-files.c: the rendezvous file of platform.h as a small file below /tmp
 *
 * Every user with write access to /tmp is a possible attacker.  The library trusts only real
 * directories and regular files that belong to its own user and that no other user can
 * write.  It checks each after opening it, and works through descriptors of directories
 * only.  doc/rendezvous.md names the threat that each step prevents.
 */

#include "config.h"
#include "base/format.h"
#include "platform/wait.h"
#include "platform/posix/sys.h"

#include <limits.h>
#include <string.h>

#define NAME_SIZE	 128
#define FILE_SIZE	 4096	/* other implementations map at least as much */
#define WORD_SIZE	 8
#define OVERFLOW_USER	 65534	/* stands for every user that a user namespace lacks */
#define SECOND		 ((int64_t)1000000000)
#define TEN_DAYS	 (10 * 86400 * SECOND)

/*
 * Names
 */

static void format_file_name(char *at, const char *name)
{
	at = buffers_format_string(at, name);
	at = buffers_format_string(at, ", PID ");
	buffers_format_number(at, buffers_platform_pid(), 10, 1);
}

/* A draft is a file that is not complete yet: the name, ".", and 16 random digits. */
static void format_draft_name(char *at, const char *file_name)
{
	at = buffers_format_string(at, file_name);
	at = buffers_format_string(at, ".");
	buffers_format_number(at, buffers_platform_random(), 16, 16);
}

static const char *skip_prefix(const char *at, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(at, prefix, length) == 0 ? at + length : NULL;
}

static bool is_draft_suffix(const char *at)
{
	return *at == '.' && strlen(at) == 17 && strspn(at + 1, "0123456789abcdef") == 16;
}

static const char *skip_any_name(const char *at, const char *const *names)
{
	const char *end = NULL;

	for (; *names && !end; names++) {
		end = skip_prefix(at, *names);
		end = end ? skip_prefix(end, ", PID ") : NULL;
	}
	return end;
}

/* The process of a file or draft by one of these names; 0: it is another file. */
static pid_t pid_of_name(const char *file_name, const char *const *names)
{
	const char *at = skip_any_name(file_name, names);
	int64_t pid = 0;

	if (!at || *at < '1' || *at > '9')
		return 0;
	for (; *at >= '0' && *at <= '9'; at++) {
		pid = pid * 10 + (*at - '0');
		if (pid > INT32_MAX)
			return 0;
	}
	return *at == '\0' || is_draft_suffix(at) ? (pid_t)pid : 0;
}

/*
 * The user
 */

static bool are_equal(const uint32_t ids[3])
{
	return ids[0] == ids[1] && ids[1] == ids[2];
}

/*
 * The user whose files the library trusts.  A program with more rights than its user, or one
 * that can become another user, trusts none: the less privileged user could steer it.
 */
static bool find_user(uint32_t *user)
{
	uint32_t users[3], groups[3];

	if (!buffers_sys_ids(users, groups))
		return false;
	*user = users[0];
	return !buffers_sys_is_privileged() && are_equal(users) && are_equal(groups);
}

/*
 * Directories
 */

static bool is_trusted(int file, unsigned type, uint32_t user, struct buffers_sys_status *status)
{
	if (!buffers_sys_status_of(file, status) || (status->mode & S_IFMT) != type ||
	    status->user != user || (status->mode & (S_IWGRP | S_IWOTH)))
		return false;
	/* The overflow user is many users: only the real owner may change the mode. */
	return user != OVERFLOW_USER || buffers_sys_set_mode(file, status->mode & 07777);
}

static int open_dir(int parent, const char *name)
{
	return buffers_sys_open(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
}

/* The caller's umask may leave a directory that its owner cannot open: remove it then. */
static int make_dir(int parent, const char *name)
{
	bool is_made = buffers_sys_make_dir(parent, name, S_IRWXU);
	int dir;

	if (!is_made && errno != EEXIST)
		return -1;
	dir = open_dir(parent, name);
	if (dir < 0 && is_made)
		buffers_sys_remove_dir(parent, name);
	return dir;
}

/* Opens a directory in another, and creates it if `create`: a descriptor or -errno. */
static int enter_dir(int parent, const char *name, uint32_t user, bool create)
{
	struct buffers_sys_status status;
	int dir = open_dir(parent, name);

	if (dir < 0 && errno == ENOENT && create)
		dir = make_dir(parent, name);
	if (dir < 0) {
		dir = errno == ENOENT ? -ENOENT : -EACCES;
	} else if (!is_trusted(dir, S_IFDIR, user, &status)) {
		buffers_sys_close(dir);
		dir = -EACCES;
	} else if (create && (status.mode & S_IRWXU) != S_IRWXU) {
		buffers_sys_set_mode(dir, S_IRWXU);
	}
	return dir;
}

/* Other implementations, and so other users, share the first directory. */
static void format_dir_name(char *at, unsigned dir, uint32_t user)
{
	at = buffers_format_string(at, ".reloaded");
	if (dir > 0) {
		at = buffers_format_string(at, "-");
		buffers_format_number(at, user, 10, 1);
	}
}

static int open_tmp(void)
{
	return buffers_sys_open(AT_FDCWD, "/tmp", O_RDONLY | O_DIRECTORY, 0);
}

/* A descriptor, -ENOENT if the directory does not exist, or -EACCES. */
static int enter_rendezvous_dir(int tmp, unsigned dir, uint32_t user, bool create)
{
	char name[NAME_SIZE];
	int outer, inner;

	format_dir_name(name, dir, user);
	outer = enter_dir(tmp, name, user, create);
	if (outer < 0)
		return outer;
	inner = enter_dir(outer, "memory.buffers", user, create);
	buffers_sys_close(outer);
	return inner;
}

static int create_rendezvous_dir(unsigned dir, uint32_t user)
{
	int tmp = open_tmp();
	int descriptor;

	if (tmp < 0)
		return -EACCES;
	descriptor = enter_rendezvous_dir(tmp, dir, user, true);
	buffers_sys_close(tmp);
	return descriptor;
}

void buffers_platform_rendezvous_open(struct buffers_rendezvous_dirs *dirs)
{
	int tmp = find_user(&dirs->user) ? open_tmp() : -1;

	for (unsigned dir = 0; dir < BUFFERS_RENDEZVOUS_DIRS; dir++)
		dirs->descriptors[dir] =
			tmp >= 0 ? enter_rendezvous_dir(tmp, dir, dirs->user, false) : -EACCES;
	if (tmp >= 0)
		buffers_sys_close(tmp);
}

void buffers_platform_rendezvous_close(struct buffers_rendezvous_dirs *dirs)
{
	for (unsigned dir = 0; dir < BUFFERS_RENDEZVOUS_DIRS; dir++)
		if (dirs->descriptors[dir] >= 0)
			buffers_sys_close(dirs->descriptors[dir]);
}

/*
 * Reading
 */

static bool is_same_file(const struct buffers_sys_status *status,
			 const struct buffers_rendezvous_id *id)
{
	return status->device == id->device && status->file == id->file;
}

/* Negative for a time in the future.  A file can have any time. */
static int64_t age_of(const struct buffers_sys_status *status)
{
	if (status->mtime < 0)
		return INT64_MAX;
	if (status->mtime > INT64_MAX / SECOND - 1)
		return -1;
	return buffers_sys_now() - (status->mtime * SECOND + status->mtime_nanoseconds);
}

static bool is_recent(const struct buffers_sys_status *status)
{
	int64_t age = age_of(status);

	return age >= 0 && age < SECOND;
}

/*
 * A file has a second link, the draft, for a moment, and for good if its creator is killed
 * in that moment.
 */
static int open_file(int dir, const char *name, uint32_t user, int *file,
		     struct buffers_sys_status *status)
{
	*file = buffers_sys_open(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
	if (*file < 0)
		return errno == ENOENT ? ENOENT : EACCES;
	if (is_trusted(*file, S_IFREG, user, status) && status->links <= 2)
		return 0;
	buffers_sys_close(*file);
	return EACCES;
}

/* Reads whole words: half an address is useless. */
static bool read_start(int file, void *bytes, size_t size)
{
	ssize_t got;
	size_t whole;

	memset(bytes, 0, size);
	got = buffers_sys_read(file, bytes, size);
	if (got < 0)
		return false;
	whole = (size_t)got / WORD_SIZE * WORD_SIZE;
	memset((char *)bytes + whole, 0, size - whole);
	return true;
}

int buffers_platform_rendezvous_read(const struct buffers_rendezvous_dirs *dirs, unsigned dir,
				     const char *name, void *bytes, size_t size,
				     struct buffers_rendezvous_id *id, bool *is_fresh)
{
	char file_name[NAME_SIZE];
	struct buffers_sys_status status;
	int descriptor = dirs->descriptors[dir];
	int file;
	int error;

	if (descriptor < 0)
		return -descriptor;
	format_file_name(file_name, name);
	error = open_file(descriptor, file_name, dirs->user, &file, &status);
	if (error)
		return error;
	if (!read_start(file, bytes, size))
		error = EACCES;
	buffers_sys_close(file);
	*id = (struct buffers_rendezvous_id){ .device = status.device, .file = status.file };
	memcpy(&id->start, bytes, sizeof(id->start));
	*is_fresh = is_recent(&status);
	return error;
}

/*
 * Creating and replacing
 */

static size_t file_size(void)
{
	size_t size = buffers_platform_granularity();

	return size > FILE_SIZE ? size : FILE_SIZE;
}

/*
 * Occupies the numbers of standard streams that are closed, while a file is written: the
 * program may print to such a number, and the text must not land in the file.
 */
static unsigned plug_streams(int dir, int plugs[3])
{
	unsigned count = 0;
	int plug;

	do {
		plug = buffers_sys_duplicate(dir, 0);
		if (plug > STDERR_FILENO)
			buffers_sys_close(plug);
		else if (plug >= 0)
			plugs[count++] = plug;
	} while (plug >= 0 && plug <= STDERR_FILENO && count < 3);
	return count;
}

/* Writes every byte: other implementations map the file, and a hole on a full disk is SIGBUS. */
static bool write_whole(int file, const void *bytes, size_t size)
{
	char block[FILE_SIZE] = { 0 };
	size_t whole = file_size();
	bool is_written;

	memcpy(block, bytes, size);
	is_written = buffers_sys_write(file, block, sizeof(block));
	memset(block, 0, size);
	for (size_t at = sizeof(block); is_written && at < whole; at += sizeof(block))
		is_written = buffers_sys_write(file, block, sizeof(block));
	return is_written;
}

/* The caller's umask may have removed the owner's permissions. */
static bool ensure_mode(int file, unsigned mode)
{
	struct buffers_sys_status status;

	return (buffers_sys_status_of(file, &status) && (status.mode & 07777) == mode) ||
	       buffers_sys_set_mode(file, mode);
}

static bool write_draft(int dir, const char *draft, const void *bytes, size_t size)
{
	int file = buffers_sys_open(dir, draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
				    S_IRUSR | S_IWUSR);
	bool is_complete;

	if (file < 0)
		return false;
	is_complete = write_whole(file, bytes, size) && ensure_mode(file, S_IRUSR | S_IWUSR);
	if (!buffers_sys_close(file))	/* network file systems and quotas fail here */
		is_complete = false;
	if (!is_complete)
		buffers_sys_remove(dir, draft);
	return is_complete;
}

static bool make_draft(int dir, const char *draft, const void *bytes, size_t size)
{
	int plugs[3];
	unsigned count;
	bool is_made;

	if (!buffers_sys_may_write(file_size()))
		return false;
	count = plug_streams(dir, plugs);
	is_made = write_draft(dir, draft, bytes, size);
	while (count)
		buffers_sys_close(plugs[--count]);
	return is_made;
}

static int create_file(int dir, const char *draft, const char *name, const void *bytes,
		       size_t size)
{
	int error = 0;

	if (!make_draft(dir, draft, bytes, size))
		return EACCES;
	if (!buffers_sys_link(dir, draft, name))
		error = errno == EEXIST ? EAGAIN : EACCES;
	buffers_sys_remove(dir, draft);
	return error;
}

/* Whether the name still means the open file. */
static bool is_still_named(int dir, const char *name, const struct buffers_sys_status *status)
{
	struct buffers_sys_status present;

	return buffers_sys_status_at(dir, name, &present) && present.device == status->device &&
	       present.file == status->file;
}

/* Other implementations write in place, without a lock. */
static bool has_same_start(int file, const struct buffers_rendezvous_id *id)
{
	uint64_t start;

	return read_start(file, &start, sizeof(start)) && start == id->start;
}

static bool is_locked_elsewhere(int file)
{
	return !buffers_sys_lock_file(file) && errno == EWOULDBLOCK;
}

/* Any user that can read a file can lock it: do not wait for long. */
static int wait_for_lock(int file, const struct buffers_sys_status *status)
{
	enum { LONGEST_WAIT = 50 };	/* milliseconds */
	struct buffers_wait wait = { .attempts = 0 };

	if (!is_locked_elsewhere(file))
		return 0;
	if (!(status->mode & (S_IRWXG | S_IRWXO)))
		return EAGAIN;
	while (buffers_wait_again(&wait, LONGEST_WAIT))
		if (!is_locked_elsewhere(file))
			return 0;
	return EACCES;
}

/*
 * Replaces a file while holding its lock, as every removal does: of two processes that find
 * the same stale file, only the first replaces it.
 */
static int replace_file(const struct buffers_rendezvous_dirs *dirs, int dir, const char *draft,
			const char *name, const void *bytes, size_t size,
			const struct buffers_rendezvous_id *old)
{
	struct buffers_sys_status status;
	int file;
	int error = open_file(dir, name, dirs->user, &file, &status);

	if (error)
		return error == ENOENT ? EAGAIN : error;
	error = is_same_file(&status, old) ? wait_for_lock(file, &status) : EAGAIN;
	if (!error && !(is_still_named(dir, name, &status) && has_same_start(file, old)))
		error = EAGAIN;
	if (!error && !make_draft(dir, draft, bytes, size))
		error = EACCES;
	if (!error && !buffers_sys_rename(dir, draft, name)) {
		buffers_sys_remove(dir, draft);
		error = EACCES;
	}
	buffers_sys_close(file);
	return error;
}

int buffers_platform_rendezvous_create(struct buffers_rendezvous_dirs *dirs, unsigned dir,
				       const char *name, const void *bytes, size_t size,
				       const struct buffers_rendezvous_id *old)
{
	char file_name[NAME_SIZE], draft_name[NAME_SIZE];
	int *descriptor = &dirs->descriptors[dir];

	if (*descriptor == -ENOENT)
		*descriptor = create_rendezvous_dir(dir, dirs->user);
	if (*descriptor < 0)
		return EACCES;
	format_file_name(file_name, name);
	format_draft_name(draft_name, file_name);
	if (old)
		return replace_file(dirs, *descriptor, draft_name, file_name, bytes, size, old);
	return create_file(*descriptor, draft_name, file_name, bytes, size);
}

/*
 * Removing
 */

/* The open descriptor keeps the file's number from being used again. */
static void remove_open_file(int dir, const char *name, int file,
			     const struct buffers_sys_status *status)
{
	if (!is_locked_elsewhere(file) && is_still_named(dir, name, status))
		buffers_sys_remove(dir, name);
}

void buffers_platform_rendezvous_remove(const struct buffers_rendezvous_dirs *dirs, unsigned dir,
					const char *name, const struct buffers_rendezvous_id *id)
{
	char file_name[NAME_SIZE];
	struct buffers_sys_status status;
	int descriptor = dirs->descriptors[dir];
	int file;

	if (descriptor < 0)
		return;
	format_file_name(file_name, name);
	if (open_file(descriptor, file_name, dirs->user, &file, &status) != 0)
		return;
	if (is_same_file(&status, id))
		remove_open_file(descriptor, file_name, file, &status);
	buffers_sys_close(file);
}

/*
 * Cleaning up after processes that have ended
 */

/* The bounds of one cleanup, so that no start of a process is slow. */
enum {
	CLEANUP_SKIPPED = 512,
	CLEANUP_NAMES = 256,
	CLEANUP_FILES = 64,
	CLEANUP_REMOVALS = 16,
	CLEANUP_SIZE = 128,
};

struct cleanup {
	const struct buffers_rendezvous_dirs *dirs;
	int dir;
	pid_t self;
	const char *const *wanted;	/* names, NULL after the last */
	size_t size;
	bool (*may_remove)(const void *bytes, bool is_old, void *context);
	void *context;
	unsigned names, files, removals;
};

static bool is_exhausted(const struct cleanup *cleanup)
{
	return cleanup->names >= CLEANUP_NAMES || cleanup->files >= CLEANUP_FILES ||
	       cleanup->removals >= CLEANUP_REMOVALS;
}

/* A fresh draft is left alone: it has no content yet that names its process. */
static bool may_remove_file(const struct cleanup *cleanup, int file,
			    const struct buffers_sys_status *status, bool is_draft)
{
	char bytes[CLEANUP_SIZE];

	return !(is_draft && is_recent(status)) && read_start(file, bytes, cleanup->size) &&
	       cleanup->may_remove(bytes, age_of(status) > TEN_DAYS, cleanup->context);
}

/* Checks the process again after the file is open: its number may be in use again. */
static void clean_up_file(struct cleanup *cleanup, const char *file_name, pid_t pid)
{
	struct buffers_sys_status status;
	bool is_draft = strchr(strchr(file_name, ','), '.');
	int file;

	cleanup->files++;
	if (open_file(cleanup->dir, file_name, cleanup->dirs->user, &file, &status) != 0)
		return;
	if (may_remove_file(cleanup, file, &status, is_draft) && !buffers_sys_is_pid_used(pid)) {
		remove_open_file(cleanup->dir, file_name, file, &status);
		cleanup->removals++;
	}
	buffers_sys_close(file);
}

static void clean_up_name(struct cleanup *cleanup, const char *file_name)
{
	pid_t pid = pid_of_name(file_name, cleanup->wanted);

	cleanup->names++;
	if (pid && pid != cleanup->self && !buffers_sys_is_pid_used(pid))
		clean_up_file(cleanup, file_name, pid);
}

enum { RECORDS_SIZE = 2048 };

/* A range of the names in a directory, counted in its order. */
struct name_range {
	unsigned first, end, number;
};

static void clean_up_records(struct cleanup *cleanup, const char *records, long size,
			     struct name_range *range)
{
	size_t record_size;

	for (long at = 0; at < size; at += (long)record_size, range->number++) {
		if (range->number >= range->end || is_exhausted(cleanup))
			return;
		if (range->number >= range->first)
			clean_up_name(cleanup, buffers_sys_record_name(records + at));
		record_size = buffers_sys_record_size(records + at);
	}
}

static void clean_up_range(struct cleanup *cleanup, unsigned first, unsigned end)
{
	struct name_range range = { .first = first, .end = end };
	char records[RECORDS_SIZE];
	long got;

	buffers_sys_rewind(cleanup->dir);
	while (range.number < end && !is_exhausted(cleanup) &&
	       (got = buffers_sys_read_dir(cleanup->dir, records, sizeof(records))) > 0)
		clean_up_records(cleanup, records, got, &range);
}

/*
 * Starts at a random name of a large directory: files that must stay would otherwise hide
 * the others for good.  A small directory is looked through whole.
 */
static void clean_up_dir(struct cleanup *cleanup)
{
	struct name_range all = { .end = UINT_MAX };
	char records[RECORDS_SIZE];
	long got = buffers_sys_read_dir(cleanup->dir, records, sizeof(records));
	unsigned first;

	if (got < RECORDS_SIZE - BUFFERS_SYS_LONGEST_RECORD) {
		clean_up_records(cleanup, records, got, &all);
		return;
	}
	first = buffers_platform_random() % CLEANUP_SKIPPED;
	clean_up_range(cleanup, first, UINT_MAX);
	clean_up_range(cleanup, 0, first);
}

void buffers_platform_rendezvous_clean_up(const struct buffers_rendezvous_dirs *dirs,
					  unsigned dir, const char *const *names, size_t size,
					  bool (*may_remove)(const void *bytes, bool is_old,
							     void *context),
					  void *context)
{
	struct cleanup cleanup = {
		.dirs = dirs,
		.dir = dirs->descriptors[dir],
		.self = (pid_t)buffers_platform_pid(),
		.wanted = names,
		.size = size < CLEANUP_SIZE ? size : CLEANUP_SIZE,
		.may_remove = may_remove,
		.context = context,
	};

	if (cleanup.dir >= 0)
		clean_up_dir(&cleanup);
}
