/* SPDX-License-Identifier: MIT */
/* inspect.c: examine the files, directories and memory that the library uses; forge locators */

#include "config.h"
#include "support/sandbox.h"
#include "support/support.h"
#include "support/inspect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_SIZE = 65536, TEST_ERRNO = 1234 };

static void *report_failure(const char *failure)
{
	fprintf(stderr, "process %d: %s: %s\n", (int)getpid(), failure, strerror(errno));
	return NULL;
}

struct buffers_item *use_library(void)
{
	static const struct buffers_request request = { .size = 16 };
	unsigned descriptors = count_descriptors();
	struct buffers_item *item;
	char *copy;

	errno = TEST_ERRNO;
	item = buffers_get(&request);
	if (!item)
		return report_failure("buffers_get");
	copy = buffers_append(item, "sixteen bytes...", 16);
	if (!copy)
		return report_failure("buffers_append");
	if (errno != TEST_ERRNO)
		return report_failure("a call that succeeds changed errno");
	if (memcmp(copy, "sixteen bytes...", 16) != 0 || buffers_next(item) != copy + 16)
		return report_failure("the appended bytes are not intact");
	buffers_release(item);
	if (count_descriptors() != descriptors)
		return report_failure("the number of open descriptors changed");
	return item;
}

uintptr_t locator_of(const struct buffers_item *item)
{
	return (uintptr_t)item & ~(uintptr_t)4095;
}

bool is_published_in(const char *dir, const struct buffers_item *item)
{
	const char *path = rendezvous_path(dir, getpid());
	off_t size = getpagesize() > 4096 ? getpagesize() : 4096;
	struct stat status;

	return lstat(path, &status) == 0 && status.st_mode == (S_IFREG | 0600) &&
	       status.st_uid == geteuid() && status.st_nlink <= 2 && status.st_size == size &&
	       read_address(path) == locator_of(item);
}

const char *published_dir(const struct buffers_item *item)
{
	struct stat status;
	bool is_shared = is_published_in(SHARED_DIR, item);
	bool is_own = is_published_in(own_dir(), item);

	if (is_shared && is_own)
		return report_failure("both directories have a rendezvous file");
	if (is_shared || is_own)
		return is_shared ? SHARED_DIR : own_dir();
	if (lstat(rendezvous_path(SHARED_DIR, getpid()), &status) == 0 ||
	    lstat(rendezvous_path(own_dir(), getpid()), &status) == 0)
		return report_failure("the rendezvous file is invalid");
	return "";
}

/*
 * Directory trees
 */

static uint64_t hash_file(const char *path)
{
	unsigned char bytes[4096];
	uint64_t hash = 0xcbf29ce484222325u;
	int file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t got;

	for (size_t pages = 0; pages < 16 && (got = read(file, bytes, sizeof(bytes))) > 0; pages++)
		for (ssize_t i = 0; i < got; i++)
			hash = (hash ^ bytes[i]) * 0x100000001b3u;
	if (file >= 0)
		close(file);
	return hash;
}

static bool is_parent_of(const char *directory, const char *path)
{
	size_t length = strlen(directory);

	return path && strncmp(directory, path, length) == 0 && path[length] == '/' &&
	       !strchr(path + length + 1, '/');
}

/* The library's directory of second links to rendezvous files. */
static bool is_index(const char *path)
{
	const char *name = strrchr(path, '/');

	return name && strcmp(name, "/memory.buffers.index") == 0;
}

static void list_path(FILE *out, const char *path, const char *except)
{
	struct dirent **entries;
	struct stat status;
	char text[512] = "";
	char below[600];
	int count;

	if (except && (strcmp(path, except) == 0 || is_index(path)))
		return;
	ck_assert_int_eq(lstat(path, &status), 0);
	fprintf(out, "%s: %o of %u, inode %llu", path, status.st_mode, status.st_uid,
		(unsigned long long)status.st_ino);
	if (!is_parent_of(path, except))
		fprintf(out, ", %lld bytes at %lld.%09ld", (long long)status.st_size,
			(long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
	if (S_ISREG(status.st_mode))
		fprintf(out, ", %016llx", (unsigned long long)hash_file(path));
	if (S_ISLNK(status.st_mode) && readlink(path, text, sizeof(text) - 1) > 0)
		fprintf(out, " -> %s", text);
	fputc('\n', out);
	if (!S_ISDIR(status.st_mode))
		return;
	count = scandir(path, &entries, NULL, alphasort);
	for (int i = 0; i < count; i++) {
		const char *name = entries[i]->d_name;

		snprintf(below, sizeof(below), "%s/%s", path, name);
		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
			list_path(out, below, except);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

char *list_tree(const char *root, const char *except)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	ck_assert_ptr_nonnull(out);
	list_path(out, root, except);
	fclose(out);
	return text;
}

bool are_trees_equal(char *before, char *after)
{
	bool is_same = strcmp(before, after) == 0;

	if (!is_same)
		fprintf(stderr, "before:\n%safter:\n%s", before, after);
	free(before);
	free(after);
	return is_same;
}

void clear_directory(const char *path)
{
	struct dirent *entry;
	DIR *directory = opendir(path);
	char below[600];

	ck_assert_ptr_nonnull(directory);
	while ((entry = readdir(directory))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
		if (unlink(below) == 0)
			continue;
		chmod(below, 0700);
		clear_directory(below);
		ck_assert_int_eq(rmdir(below), 0);
	}
	closedir(directory);
}

/*
 * Forged locators
 */

void *new_page(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(page, MAP_FAILED);
	return page;
}

void alter_forgery(struct forgery *forgery, size_t at, const void *bytes, size_t size)
{
	memcpy(forgery->bytes + at, bytes, size);
	memcpy(forgery->page, forgery->bytes, sizeof(forgery->bytes));
}

void forge_locator(struct forgery *forgery, void *page)
{
	uintptr_t address = (uintptr_t)page;
	uint32_t size = BUFFER_SIZE;
	unsigned char *bytes = forgery->bytes;

	forgery->page = page;
	forgery->buffer = mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(forgery->buffer, MAP_FAILED);
	memset(bytes, 0, sizeof(forgery->bytes));
	memcpy(bytes + AT_THIS, &address, sizeof(address));
	bytes[AT_COUNT] = 1;
	memcpy(bytes + AT_ITEMS + ITEM_BASE, &forgery->buffer, sizeof(forgery->buffer));
	memcpy(bytes + AT_ITEMS + ITEM_SIZE, &size, sizeof(size));
	memcpy(page, bytes, sizeof(forgery->bytes));
}

bool is_untouched(const struct forgery *forgery)
{
	static const unsigned char zeros[BUFFER_SIZE];

	return memcmp(forgery->page, forgery->bytes, sizeof(forgery->bytes)) == 0 &&
	       memcmp(forgery->buffer, zeros, BUFFER_SIZE) == 0;
}

void write_rendezvous_file(const char *path, uintptr_t address)
{
	unsigned char bytes[4096] = { 0 };

	memcpy(bytes, &address, sizeof(address));
	write_file(path, bytes, sizeof(bytes));
}

/*
 * Namespaces
 */

static bool write_line(const char *path, const char *line)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	bool is_written = file >= 0 && write(file, line, strlen(line)) == (ssize_t)strlen(line);

	if (file >= 0)
		close(file);
	return is_written;
}

static bool enter_namespace(int flag)
{
	char user[40], group[40];

	if (geteuid() == 0)
		return unshare(flag) == 0;
	snprintf(user, sizeof(user), "%u %u 1", geteuid(), geteuid());
	snprintf(group, sizeof(group), "%u %u 1", getegid(), getegid());
	return unshare(CLONE_NEWUSER | flag) == 0 && write_line("/proc/self/setgroups", "deny") &&
	       write_line("/proc/self/uid_map", user) && write_line("/proc/self/gid_map", group);
}

bool enter_mount_namespace(void)
{
	return enter_namespace(CLONE_NEWNS) &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

bool enter_pid_namespace(void)
{
	return enter_namespace(CLONE_NEWPID);
}
