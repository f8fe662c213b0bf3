/* SPDX-License-Identifier: MIT */
/* api/nomalloc.c: the library never calls malloc(), and works when malloc() calls it */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(TESTS_ASAN) || defined(TESTS_TSAN)

int main(void)
{
	skip_all("a sanitizer's runtime has its own malloc()");
}

#else

#define GIB ((size_t)1 << 30)

/*
 * This program's own malloc family.  The dynamic linker binds the library's calls to it.
 */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static __thread bool is_forbidden;	/* the thread is in a library call */
static __thread unsigned calls;
static __thread bool is_hooked;		/* the next malloc() calls the library */

static void count_call(void)
{
	if (is_forbidden)
		calls++;
}

static struct buffers_item *hooked_item;

void *malloc(size_t size)
{
	count_call();
	if (is_hooked && !is_forbidden) {
		is_hooked = false;	/* a failing assertion calls malloc() again */
		hooked_item = buffers_get(&(struct buffers_request){ .size = 16 });
	}
	return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	count_call();
	return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
	count_call();
	return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size)
{
	count_call();
	return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	count_call();
	return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
	count_call();
	*memory = __libc_memalign(alignment, size);
	return *memory ? 0 : ENOMEM;
}

void free(void *memory)
{
	count_call();
	__libc_free(memory);
}

static int visit(const struct buffers_info *info, void *context)
{
	(void)info;
	(void)context;
	return 0;
}

static void patch(void *bytes, size_t size, void *context)
{
	memset(bytes, *(char *)context, size);
}

static bool call_everything(void)
{
	struct buffers_request request = { .max_address = 2 * GIB, .size = 100000 };
	char byte = 1;
	bool good = true;

	for (unsigned i = 0; i < 300; i++) {	/* fills more than one locator */
		struct buffers_item *item = buffers_get(&request);
		char *copy;

		good &= item != NULL;
		copy = buffers_append(item, "abc", 3);
		good &= buffers_append_code(item, "\xc3", 1) != NULL;
		good &= buffers_reserve(item, 16, 16) != NULL;
		good &= buffers_remaining(item) < buffers_size(item);
		good &= buffers_overwrite(copy, "xyz", 3) == 0;
		good &= buffers_overwrite_with(copy, 3, patch, &byte) == 0;
		good &= buffers_give_back(copy, 4) == 0;
	}
	request.size = 4;
	buffers_release(buffers_get(&request));
	request.size = 100000;
	for (unsigned i = 0; i < 10; i++) {
		size_t allocated;
		void *memory = buffers_alloc(&request, &allocated);

		good &= memory && buffers_protect(memory, allocated, BUFFERS_RW) == 0;
		good &= memory && buffers_protect(memory, allocated, BUFFERS_RX) == 0;
		good &= memory && buffers_free(memory, allocated) == 0;
	}
	buffers_release(buffers_get_near((const void *)(uintptr_t)getenv, 100));
	request.max_address = 1;
	good &= buffers_get(&request) == NULL;
	good &= buffers_walk(visit, NULL) == 0;
	return good;
}

/* The volatile pointer keeps compilers from removing both calls. */
static void allocate_and_free(void)
{
	void *volatile memory = malloc(1);

	free(memory);
}

static int count_mallocs(void *context)
{
	bool good;

	if (context)
		set_limit(RLIMIT_NOFILE, 0);
	is_forbidden = true;
	good = call_everything();
	is_forbidden = false;
	STEP(calls == 0);
	STEP(good);
	return 0;
}

START_TEST(no_call_allocates)
{
	/* First show that the functions above count. */
	is_forbidden = true;
	allocate_and_free();
	is_forbidden = false;
	ck_assert_uint_eq(calls, 2);
	calls = 0;
	run_child(count_mallocs, NULL);
}
END_TEST

START_TEST(no_call_allocates_without_proc)
{
	run_child(count_mallocs, "no descriptors");
}
END_TEST

START_TEST(library_works_inside_malloc)
{
	is_hooked = true;
	allocate_and_free();
	ck_assert(!is_hooked);
	ck_assert_ptr_nonnull(hooked_item);
	ck_assert_ptr_nonnull(buffers_append(hooked_item, "x", 1));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("api/nomalloc");
	TCase *all = tcase_create("malloc");

	tcase_set_timeout(all, 300);
	tcase_add_test(all, no_call_allocates);
	tcase_add_test(all, no_call_allocates_without_proc);
	tcase_add_test(all, library_works_inside_malloc);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}

#endif
