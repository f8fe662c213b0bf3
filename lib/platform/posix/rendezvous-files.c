/* SPDX-License-Identifier: MIT */
/*
 * rendezvous-files.c: the rendezvous file of platform.h as a small file below /tmp
 *
 * Every user with write access to /tmp is a possible attacker.  The library trusts only real
 * directories and regular files that belong to its own user and that no other user can
 * write.  It checks each after opening it, and works through descriptors of directories
 * only.  doc/rendezvous.md names the threat that each step prevents.
 *
 * Beside the files there is a directory with a second link to each of them, whose name also
 * has the PID namespace.  It shows which files a process may remove, however many others there
 * are.
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

static void format_file_name(char *at, const char *name, uint32_t pid)
{
	at = buffers_format_string(at, name);
	at = buffers_format_string(at, ", PID ");
	buffers_format_number(at, pid, 10, 1);
}

/* A draft is a file that is not complete yet: the name, ".", and 16 random digits. */
static void format_draft_name(char *at, const char *file_name)
{
	at = buffers_format_string(at, file_name);
	at = buffers_format_string(at, ".");
	buffers_format_number(at, buffers_platform_random(), 16, 16);
}

/* The end of a name in the index: ", " and the number of the PID namespace. */
static void format_suffix(char *at, uint64_t pid_namespace)
{
	at = buffers_format_string(at, ", ");
	buffers_format_number(at, pid_namespace, 10, 1);
}

static void format_index_name(char *at, const char *file_name, uint64_t pid_namespace)
{
	format_suffix(buffers_format_string(at, file_name), pid_namespace);
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

/* The process of a file by one of these names; 0: it is another file.  *end is behind it. */
static pid_t pid_of_name(const char *file_name, const char *const *names, const char **end)
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
	*end = at;
	return (pid_t)pid;
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
	at = buffers_format_string(at, "/tmp/.reloaded");
	if (dir > 0) {
		at = buffers_format_string(at, "-");
		buffers_format_number(at, user, 10, 1);
	}
}

/* A descriptor, -ENOENT if the directory does not exist, or -EACCES. */
static int enter_rendezvous_dir(unsigned dir, uint32_t user, bool create)
{
	char name[NAME_SIZE];
	int outer, inner;

	format_dir_name(name, dir, user);
	outer = enter_dir(AT_FDCWD, name, user, create);
	if (outer < 0)
		return outer;
	inner = enter_dir(outer, "memory.buffers", user, create);
	buffers_sys_close(outer);
	return inner;
}

#define NOT_OPENED (-EAGAIN)	/* no read has needed the directory yet */

void buffers_platform_rendezvous_open(struct buffers_rendezvous_dirs *dirs)
{
	bool is_usable = find_user(&dirs->user);

	dirs->pid = buffers_platform_pid();
	for (unsigned dir = 0; dir < BUFFERS_RENDEZVOUS_DIRS; dir++)
		dirs->descriptors[dir] = is_usable ? NOT_OPENED : -EACCES;
}

static int descriptor_of(struct buffers_rendezvous_dirs *dirs, unsigned dir)
{
	int *descriptor = &dirs->descriptors[dir];

	if (*descriptor == NOT_OPENED)
		*descriptor = enter_rendezvous_dir(dir, dirs->user, false);
	return *descriptor;
}

void buffers_platform_rendezvous_close(struct buffers_rendezvous_dirs *dirs)
{
	for (unsigned dir = 0; dir < BUFFERS_RENDEZVOUS_DIRS; dir++)
		if (dirs->descriptors[dir] >= 0)
			buffers_sys_close(dirs->descriptors[dir]);
}

/* The directory of second links, or a negative number. */
static int enter_index(const struct buffers_rendezvous_dirs *dirs, unsigned dir, bool create)
{
	if (!dirs->pid_namespace)
		return -EACCES;
	return enter_dir(dirs->descriptors[dir], "../memory.buffers.index", dirs->user, create);
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

int buffers_platform_rendezvous_read(struct buffers_rendezvous_dirs *dirs, unsigned dir,
				     const char *name, void *bytes, size_t size,
				     struct buffers_rendezvous_id *id, bool *is_fresh)
{
	char file_name[NAME_SIZE];
	struct buffers_sys_status status;
	int descriptor = descriptor_of(dirs, dir);
	int file;
	int error;

	if (descriptor < 0)
		return -descriptor;
	format_file_name(file_name, name, dirs->pid);
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

/* A draft in the index stays there, as the second link. */
static int link_draft(int draft_dir, const char *draft, int dir, const char *name,
		      const void *bytes, size_t size)
{
	int error = 0;

	if (!make_draft(draft_dir, draft, bytes, size))
		return EACCES;
	if (!buffers_sys_link(draft_dir, draft, dir, name))
		error = errno == EEXIST ? EAGAIN : EACCES;
	if (error || draft_dir == dir)
		buffers_sys_remove(draft_dir, draft);
	return error;
}

static int create_indexed_file(const struct buffers_rendezvous_dirs *dirs, unsigned dir,
			       const char *name, const void *bytes, size_t size)
{
	char index_name[NAME_SIZE];
	int index = enter_index(dirs, dir, true);
	int error;

	if (index < 0)
		return EACCES;
	format_index_name(index_name, name, dirs->pid_namespace);
	error = link_draft(index, index_name, dirs->descriptors[dir], name, bytes, size);
	buffers_sys_close(index);
	return error;
}

static int create_unindexed_file(int dir, const char *name, const void *bytes, size_t size)
{
	char draft[NAME_SIZE];

	format_draft_name(draft, name);
	return link_draft(dir, draft, dir, name, bytes, size);
}

/*
 * Fails to make an index entry if a dead process of the same number left one.  The sweep judges
 * entries by their names, so that one serves the new file.
 */
static int create_file(const struct buffers_rendezvous_dirs *dirs, unsigned dir, const char *name,
		       const void *bytes, size_t size)
{
	int error = create_indexed_file(dirs, dir, name, bytes, size);

	return error == EACCES ?
	       create_unindexed_file(dirs->descriptors[dir], name, bytes, size) : error;
}

static void add_to_index(const struct buffers_rendezvous_dirs *dirs, unsigned dir,
			 const char *name)
{
	char index_name[NAME_SIZE];
	int index = enter_index(dirs, dir, true);

	if (index < 0)
		return;
	format_index_name(index_name, name, dirs->pid_namespace);
	buffers_sys_link(dirs->descriptors[dir], name, index, index_name);
	buffers_sys_close(index);
}

static void remove_from_index(const struct buffers_rendezvous_dirs *dirs, unsigned dir,
			      const char *name)
{
	char index_name[NAME_SIZE];
	int index = enter_index(dirs, dir, false);

	if (index < 0)
		return;
	format_index_name(index_name, name, dirs->pid_namespace);
	buffers_sys_remove(index, index_name);
	buffers_sys_close(index);
}

/*
 * Removes the second link of a file that was replaced, if another namespace gave it its name: no
 * process would look for it there.
 */
static void remove_replaced_link(const struct buffers_rendezvous_dirs *dirs, unsigned dir,
				 const char *name, const struct buffers_rendezvous_id *old)
{
	char index_name[NAME_SIZE];
	struct buffers_sys_status status;
	int index;

	if (!old->pid_namespace || old->pid_namespace == dirs->pid_namespace)
		return;
	index = enter_index(dirs, dir, false);
	if (index < 0)
		return;
	format_index_name(index_name, name, old->pid_namespace);
	if (buffers_sys_status_at(index, index_name, &status) && is_same_file(&status, old))
		buffers_sys_remove(index, index_name);
	buffers_sys_close(index);
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
static int replace_file(const struct buffers_rendezvous_dirs *dirs, int dir, const char *name,
			const void *bytes, size_t size, const struct buffers_rendezvous_id *old)
{
	char draft[NAME_SIZE];
	struct buffers_sys_status status;
	int file;
	int error = open_file(dir, name, dirs->user, &file, &status);

	if (error)
		return error == ENOENT ? EAGAIN : error;
	error = is_same_file(&status, old) ? wait_for_lock(file, &status) : EAGAIN;
	if (!error && !(is_still_named(dir, name, &status) && has_same_start(file, old)))
		error = EAGAIN;
	format_draft_name(draft, name);
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
	char file_name[NAME_SIZE];
	int *descriptor = &dirs->descriptors[dir];
	int error;

	if (*descriptor == -ENOENT)
		*descriptor = enter_rendezvous_dir(dir, dirs->user, true);
	if (*descriptor < 0)
		return EACCES;
	format_file_name(file_name, name, dirs->pid);
	if (!old)
		return create_file(dirs, dir, file_name, bytes, size);
	error = replace_file(dirs, *descriptor, file_name, bytes, size, old);
	if (error)
		return error;
	remove_replaced_link(dirs, dir, file_name, old);
	add_to_index(dirs, dir, file_name);
	return 0;
}

/*
 * Removing
 */

/* The open descriptor keeps the file's number from being used again. */
static bool remove_open_file(int dir, const char *name, int file,
			     const struct buffers_sys_status *status)
{
	return !is_locked_elsewhere(file) && is_still_named(dir, name, status) &&
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
	format_file_name(file_name, name, dirs->pid);
	if (open_file(descriptor, file_name, dirs->user, &file, &status) != 0)
		return;
	if (is_same_file(&status, id) && remove_open_file(descriptor, file_name, file, &status))
		remove_from_index(dirs, dir, file_name);
	buffers_sys_close(file);
}

/*
 * Cleaning up after processes that have ended
 */

/* The bounds of one cleanup, so that no start of a process is slow. */
enum {
	CLEANUP_NAMES = 64,	/* in each of the two directories */
	CLEANUP_KEPT = 2,	/* examined files that must stay, in each of them */
	CLEANUP_REMOVALS = 16,
	CLEANUP_SIZE = 128,
};

struct cleanup {
	const struct buffers_rendezvous_dirs *dirs;
	unsigned dir_number;
	int dir, index;
	const char *const *wanted;	/* names, NULL after the last */
	size_t size;
	bool (*may_remove)(const void *bytes, bool is_old, const void *context);
	const void *context;
	char own_suffix[32];		/* of names in the index */
	unsigned skipped;		/* names in the index of other namespaces */
	unsigned names, kept, removals;
};

static bool is_exhausted(const struct cleanup *cleanup)
{
	return cleanup->names >= CLEANUP_NAMES || cleanup->removals >= CLEANUP_REMOVALS;
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
static bool clean_up_file(struct cleanup *cleanup, const char *file_name, pid_t pid,
			  bool is_draft)
{
	struct buffers_sys_status status;
	bool is_removed = false;
	int file;

	if (open_file(cleanup->dir, file_name, cleanup->dirs->user, &file, &status) != 0)
		return false;
	if (may_remove_file(cleanup, file, &status, is_draft) && !buffers_sys_is_pid_used(pid))
		is_removed = remove_open_file(cleanup->dir, file_name, file, &status);
	buffers_sys_close(file);
	return is_removed;
}

static bool is_dead(const struct cleanup *cleanup, pid_t pid)
{
	return pid && pid != (pid_t)cleanup->dirs->pid && !buffers_sys_is_pid_used(pid);
}

/* Examines a name in the directory of files.  False: enough files that must stay. */
static bool clean_up_name(struct cleanup *cleanup, const char *file_name)
{
	const char *end;
	pid_t pid = pid_of_name(file_name, cleanup->wanted, &end);

	if (!is_dead(cleanup, pid) || (*end && !is_draft_suffix(end)))
		return true;
	if (!clean_up_file(cleanup, file_name, pid, *end))
		return ++cleanup->kept < CLEANUP_KEPT;
	cleanup->removals++;
	if (!*end)
		remove_from_index(cleanup->dirs, cleanup->dir_number, file_name);
	return true;
}

/* A second link of another namespace goes when it is old: its file is examined apart from it. */
static bool clean_up_foreign_link(struct cleanup *cleanup, const char *link_name)
{
	struct buffers_sys_status status;

	if (cleanup->skipped) {
		cleanup->skipped--;
		return true;
	}
	if (!buffers_sys_status_at(cleanup->index, link_name, &status) ||
	    age_of(&status) <= TEN_DAYS || !buffers_sys_remove(cleanup->index, link_name)) {
		if (++cleanup->kept == CLEANUP_KEPT)
			cleanup->skipped = CLEANUP_NAMES;
		return true;
	}
	cleanup->removals++;
	return true;
}

/* Examines a name in the index. */
static bool clean_up_link(struct cleanup *cleanup, const char *link_name)
{
	char file_name[NAME_SIZE];
	const char *end;
	pid_t pid = pid_of_name(link_name, cleanup->wanted, &end);

	if (!pid || !skip_prefix(end, ", "))
		return true;
	if (strcmp(end, cleanup->own_suffix) != 0)
		return clean_up_foreign_link(cleanup, link_name);
	if (!is_dead(cleanup, pid))
		return true;
	memcpy(file_name, link_name, (size_t)(end - link_name));
	file_name[end - link_name] = '\0';
	clean_up_file(cleanup, file_name, pid, false);
	if (!buffers_sys_is_pid_used(pid) && buffers_sys_remove(cleanup->index, link_name))
		cleanup->removals++;
	return true;
}

enum { RECORDS_SIZE = 2048 };

typedef bool examine_name(struct cleanup *cleanup, const char *name);

/* False: the bounds are reached.  *position is behind the last record examined. */
static bool clean_up_records(struct cleanup *cleanup, const char *records, long size,
			     examine_name *examine, uint64_t *position)
{
	size_t record_size;

	for (long at = 0; at < size; at += (long)record_size) {
		if (is_exhausted(cleanup))
			return false;
		cleanup->names++;
		*position = buffers_sys_record_end(records + at);
		if (!examine(cleanup, buffers_sys_record_name(records + at)))
			return false;
		record_size = buffers_sys_record_size(records + at);
	}
	return true;
}

/* Continues at the position where the last cleanup ended; after the last name, starts again. */
static void clean_up_from(struct cleanup *cleanup, int dir, examine_name *examine,
			  uint64_t *position)
{
	char records[RECORDS_SIZE];
	bool has_wrapped = *position == 0;
	long got;

	cleanup->names = cleanup->kept = 0;
	buffers_sys_seek_dir(dir, *position);
	for (;;) {
		got = buffers_sys_read_dir(dir, records, sizeof(records));
		if (got > 0 && !clean_up_records(cleanup, records, got, examine, position))
			return;
		if (got > 0)
			continue;
		*position = 0;
		if (has_wrapped)
			return;
		has_wrapped = true;
		buffers_sys_seek_dir(dir, 0);
	}
}

/* The positions of both directories where the last cleanup ended, as a file in the index. */
struct positions {
	uint64_t index, files;
};

static const char positions_name[] = "positions";

static struct positions read_positions(int index)
{
	struct positions positions;
	int file = buffers_sys_open(index, positions_name,
				    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);

	if (file < 0 || !read_start(file, &positions, sizeof(positions)))
		positions = (struct positions){ 0 };
	if (file >= 0)
		buffers_sys_close(file);
	return positions;
}

/* A process that reads half of it starts at another name. */
static void write_positions(int index, const struct positions *positions)
{
	int plugs[3];
	unsigned count;
	int file;

	if (!buffers_sys_may_write(sizeof(*positions)))
		return;
	count = plug_streams(index, plugs);
	file = buffers_sys_open(index, positions_name, O_WRONLY | O_CREAT | O_NOFOLLOW |
				O_NONBLOCK | O_NOCTTY, S_IRUSR | S_IWUSR);
	if (file >= 0) {
		buffers_sys_write(file, positions, sizeof(*positions));
		buffers_sys_close(file);
	}
	while (count)
		buffers_sys_close(plugs[--count]);
}

/*
 * The number of second links of other namespaces to pass before some are examined: links that
 * must stay would otherwise hide others.  Few links are all reached if it is 0.
 */
static unsigned choose_skipped(void)
{
	uint64_t random = buffers_platform_random();

	return random % 2 ? 0 : (unsigned)(random / 2 % CLEANUP_NAMES);
}

static void clean_up_large_dir(struct cleanup *cleanup)
{
	struct positions positions = { 0 };

	cleanup->index = enter_index(cleanup->dirs, cleanup->dir_number, true);
	if (cleanup->index >= 0) {
		positions = read_positions(cleanup->index);
		format_suffix(cleanup->own_suffix, cleanup->dirs->pid_namespace);
		cleanup->skipped = choose_skipped();
		clean_up_from(cleanup, cleanup->index, clean_up_link, &positions.index);
	}
	clean_up_from(cleanup, cleanup->dir, clean_up_name, &positions.files);
	if (cleanup->index < 0)
		return;
	write_positions(cleanup->index, &positions);
	buffers_sys_close(cleanup->index);
}

/* Whether the directory is small, and all that may go from it has gone. */
static bool clean_up_small_dir(struct cleanup *cleanup)
{
	char records[RECORDS_SIZE];
	long got = buffers_sys_read_dir(cleanup->dir, records, sizeof(records));
	uint64_t position;

	return got < RECORDS_SIZE - BUFFERS_SYS_LONGEST_RECORD &&
	       clean_up_records(cleanup, records, got, clean_up_name, &position);
}

/*
 * Other implementations remove files without their second links: sometimes looks for these.  At
 * random, since a container's process may have the same number at each start.
 */
static void clean_up_dir(struct cleanup *cleanup)
{
	enum { SOMETIMES = 16 };

	if (!clean_up_small_dir(cleanup) || buffers_platform_random() % SOMETIMES == 0)
		clean_up_large_dir(cleanup);
}

void buffers_platform_rendezvous_clean_up(const struct buffers_rendezvous_dirs *dirs,
					  unsigned dir, const char *const *names, size_t size,
					  bool (*may_remove)(const void *bytes, bool is_old,
							     const void *context),
					  const void *context)
{
	struct cleanup cleanup = {
		.dirs = dirs,
		.dir_number = dir,
		.dir = dirs->descriptors[dir],
		.wanted = names,
		.size = size < CLEANUP_SIZE ? size : CLEANUP_SIZE,
		.may_remove = may_remove,
		.context = context,
	};

	if (cleanup.dir >= 0)
		clean_up_dir(&cleanup);
}
