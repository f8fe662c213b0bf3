/* SPDX-License-Identifier: MIT */
/* rendezvous/stale.c: rendezvous files with addresses at which no valid locator is */

#include "config.h"
#include "support/forged-files.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
# define MADV_GUARD_INSTALL	102
#endif

/*
 * A file that the library follows: proof that it rejects the later ones for their defects
 */

static int follow(void *links)
{
	const char *path = rendezvous_path(NULL, getpid());
	struct buffers_item *item;

	make_both_dirs();
	write_rendezvous_file(path, (uintptr_t)forged_locator.page);
	for (int i = 1; i < *(int *)links; i++)
		STEP(link(path, i == 1 ? "/tmp/second" : "/tmp/third") == 0);
	item = use_library();
	STEP(item);
	if (*(int *)links <= 2)
		STEP(item == (void *)(forged_locator.page + AT_ITEMS));
	else
		STEP(is_untouched(&forged_locator) && is_published_in(own_dir(), item));
	return 0;
}

START_TEST(good_file_of_another_implementation_is_followed)
{
	SKIP_IF(is_emulated(), "the emulator merges mappings of different permissions");
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	forge_locator(&forged_locator, new_page());
	for (int links = 1; links <= 3; links++) {
		run_child(follow, &links);
		clear_directory("/tmp");
	}
}
END_TEST

/*
 * Addresses at which no locator is
 */

static void no_memory(const char *path)
{
	void *page = new_page();

	munmap(page, 4096);
	write_rendezvous_file(path, (uintptr_t)page);
}

static void protected_memory(const char *path, int protection)
{
	forge_locator(&forged_locator, new_page());
	ck_assert_int_eq(mprotect(forged_locator.page, 4096, protection), 0);
	write_rendezvous_file(path, (uintptr_t)forged_locator.page);
}

static void closed_memory(const char *path)
{
	protected_memory(path, PROT_NONE);
}

static void read_only_memory(const char *path)
{
	protected_memory(path, PROT_READ);
}

/* The maps file lists the page as readable and writable, but each access faults. */
static void guarded_memory(const char *path)
{
	void *page = new_page();

	if (madvise(page, 4096, MADV_GUARD_INSTALL) == 0)
		write_rendezvous_file(path, (uintptr_t)page);
}

static void map_half(const char *path, bool is_first)
{
	long size = sysconf(_SC_PAGESIZE);
	/* The kernel does not choose addresses here, so the unmapped half stays unmapped. */
	unsigned char *pages = mmap((void *)0x20000000, 2 * (size_t)size, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *start = pages + size - 2048;

	ck_assert_ptr_ne(pages, MAP_FAILED);
	forge_locator(&forged_locator, start);
	munmap(is_first ? pages + size : pages, (size_t)size);
	write_rendezvous_file(path, (uintptr_t)start);
}

static void first_half_mapped(const char *path)
{
	map_half(path, true);
}

static void last_half_mapped(const char *path)
{
	map_half(path, false);
}

static void unaligned(const char *path, size_t by)
{
	unsigned char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(pages, MAP_FAILED);
	forge_locator(&forged_locator, pages + by);
	write_rendezvous_file(path, (uintptr_t)pages + by);
}

static void unaligned_by_1(const char *path)
{
	unaligned(path, 1);
}

static void unaligned_by_a_half_word(const char *path)
{
	unaligned(path, sizeof(void *) / 2);
}

static void beyond_the_end_of_a_file(const char *path)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *pages;
	int file;

	write_file("/tmp/short", "x", 1);
	file = open("/tmp/short", O_RDWR | O_CLOEXEC);
	pages = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	ck_assert_ptr_ne(pages, MAP_FAILED);
	close(file);
	write_rendezvous_file(path, (uintptr_t)(pages + size));
}

static void page_of_zeros(const char *path)
{
	write_rendezvous_file(path, (uintptr_t)new_page());
}

static void code(const char *path)
{
	write_rendezvous_file(path, (uintptr_t)getenv & ~(uintptr_t)4095);
}

static void stack(const char *path)
{
	write_rendezvous_file(path, (uintptr_t)&path & ~(uintptr_t)4095);
}

static void top_of_stack(const char *path)
{
	write_rendezvous_file(path, (uintptr_t)getauxval(AT_EXECFN));
}

static void data_of_the_program(const char *path)
{
	write_rendezvous_file(path, (uintptr_t)&forged_locator);
}

static void vdso_page(const char *path)
{
	write_rendezvous_file(path, (uintptr_t)getauxval(AT_SYSINFO_EHDR));
}

static void address_1(const char *path)
{
	write_rendezvous_file(path, 1);
}

static void null_page(const char *path)
{
	write_rendezvous_file(path, 8);
}

static void last_byte(const char *path)
{
	write_rendezvous_file(path, UINTPTR_MAX);
}

static void last_word(const char *path)
{
	write_rendezvous_file(path, UINTPTR_MAX - sizeof(void *) + 1);
}

static void last_page(const char *path)
{
	write_rendezvous_file(path, UINTPTR_MAX - 4095);
}

static void kernels_half(const char *path)
{
	write_rendezvous_file(path, UINTPTR_MAX / 2 + 1);
}

static void beyond_canonical(const char *path)
{
	write_rendezvous_file(path, (uintptr_t)(UINT64_C(0x7fffffffffff) & UINTPTR_MAX) - 4094);
}

static void end_of_user_memory(const char *path)
{
	write_rendezvous_file(path, (uintptr_t)(UINT64_C(0x7ffffffff000) & UINTPTR_MAX));
}

static void vsyscall_page(const char *path)
{
	write_rendezvous_file(path, (uintptr_t)(UINT64_C(0xffffffffff600000) & UINTPTR_MAX));
}

START_TEST(file_with_a_bad_address_is_replaced)
{
	static const struct forged_file files[] = {
		NAMED(no_memory, REPLACED),
		NAMED(closed_memory, REPLACED),
		NAMED(read_only_memory, REPLACED),
		NAMED(guarded_memory, REPLACED),
		NAMED(first_half_mapped, REPLACED),
		NAMED(last_half_mapped, REPLACED),
		NAMED(unaligned_by_1, EITHER),
		NAMED(unaligned_by_a_half_word, EITHER),
		NAMED(beyond_the_end_of_a_file, REPLACED),
		NAMED(page_of_zeros, REPLACED),
		NAMED(code, REPLACED),
		NAMED(stack, REPLACED),
		NAMED(top_of_stack, REPLACED),
		NAMED(data_of_the_program, REPLACED),
		NAMED(vdso_page, REPLACED),
		NAMED(address_1, REPLACED),
		NAMED(null_page, REPLACED),
		NAMED(last_byte, REPLACED),
		NAMED(last_word, REPLACED),
		NAMED(last_page, REPLACED),
		NAMED(kernels_half, REPLACED),
		NAMED(beyond_canonical, REPLACED),
		NAMED(end_of_user_memory, REPLACED),
		NAMED(vsyscall_page, REPLACED),
	};

	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	CHECK_FORGED_FILES(files);
}
END_TEST

/*
 * Invalid locators: another version of the library may own them, so they must not change
 */

/* Offset of bits 16 to 31 in a word. */
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
enum { AT_MIDDLE = sizeof(void *) - 4 };
#else
enum { AT_MIDDLE = 2 };
#endif

static const struct alteration {
	const char *name;
	enum outcome outcome;
	size_t at;
	size_t size;
	unsigned char bytes[8];
} alterations[] = {
	{ "version 1", LEFT_ALONE, AT_VERSION, 1, { 1 } },
	{ "version 7", LEFT_ALONE, AT_VERSION, 1, { 7 } },
	{ "one item too many", sizeof(void *) == 8 ? LEFT_ALONE : EITHER, AT_COUNT, 1,
	  { MAX_ITEMS == 203 ? 204 : 255 } },
	{ "buffer at address 0", LEFT_ALONE, AT_ITEMS + ITEM_BASE, sizeof(void *), { 0 } },
	{ "address of another locator", REPLACED, AT_THIS + AT_MIDDLE, 2, { 0, 0 } },
};

static int check_altered_locator(void *context)
{
	const struct alteration *altered = context;
	const char *path = rendezvous_path(NULL, getpid());
	int line;

	/* One alteration clears bits 16 to 31 of the address, so they must not be 0 before. */
	do
		forge_locator(&forged_locator, new_page());
	while (((uintptr_t)forged_locator.page >> 16 & 0xffff) == 0);
	alter_forgery(&forged_locator, altered->at, altered->bytes, altered->size);
	make_both_dirs();
	write_rendezvous_file(path, (uintptr_t)forged_locator.page);
	make_old(path);
	line = use_with_forged_file(altered->outcome);
	if (line == 0 && !is_untouched(&forged_locator))
		line = __LINE__;
	if (line)
		fprintf(stderr, "%s\n", altered->name);
	return line;
}

START_TEST(invalid_locator_is_left_alone)
{
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	for (size_t i = 0; i < sizeof(alterations) / sizeof(alterations[0]); i++) {
		run_child(check_altered_locator, (void *)(uintptr_t)&alterations[i]);
		clear_directory("/tmp");
	}
}
END_TEST

/*
 * Random bytes
 */

enum { NOISE = 1 << 16 };
static unsigned char *noise;	/* memory full of random bytes, which files name */

static void fill_randomly(unsigned char *bytes, size_t size, uint64_t *state)
{
	for (size_t i = 0; i < size; i += 8) {
		uint64_t number = next_random(state);

		memcpy(bytes + i, &number, 8);
	}
}

static int count_buffer(const struct buffers_info *info, void *context)
{
	(void)info;
	++*(unsigned *)context;
	return 0;
}

/*
 * The function that reads the address from the file keeps a copy of it on the stack.  If the
 * file names the address of this copy, the copy looks like a locator's first word.
 */
static int name_addresses_on_the_stack(void *context)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	const char *path = rendezvous_path(NULL, getpid());
	unsigned visited = 0;

	(void)context;
	for (uintptr_t below = 0; below < 8192; below += sizeof(void *)) {
		write_rendezvous_file(path, (here - below) & ~(sizeof(void *) - 1));
		STEP(buffers_walk(count_buffer, &visited) == 0);
		STEP(visited == 0);
	}
	STEP(use_library());
	STEP(is_published_in(NULL, buffers_get(&(struct buffers_request){ .size = 1 })));
	return 0;
}

START_TEST(file_with_an_address_on_the_readers_stack_is_replaced)
{
	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	make_dir(SHARED_DIR);
	run_child(name_addresses_on_the_stack, NULL);
}
END_TEST

static uintptr_t random_address(uint64_t *state)
{
	unsigned char *page = noise + random_below(state, NOISE / 4096) * 4096;
	uintptr_t address = (uintptr_t)page;

	switch (random_below(state, 4)) {
	case 0:
		return (uintptr_t)next_random(state);
	case 1:
		return address + random_below(state, 4096);
	case 2:		/* an invalid locator: names its own address, all else is random */
		memcpy(page, &address, sizeof(address));
		page[AT_VERSION] |= 1;
		return address;
	default:
		/* Sanitizers' runtimes map memory that nothing else may read. */
		if (is_asan() || is_tsan())
			return (uintptr_t)next_random(state) | (UINTPTR_MAX / 2 + 1);
		return (uintptr_t)(next_random(state) >> random_below(state, 64));
	}
}

static int check_random_file(void *context)
{
	static unsigned char bytes[8192], before[NOISE];
	uint64_t state = *(uint64_t *)context;
	const char *path = rendezvous_path(NULL, getpid());
	uintptr_t address = random_address(&state);
	struct buffers_item *item;

	fill_randomly(bytes, sizeof(bytes), &state);
	memcpy(bytes, &address, sizeof(address));
	memcpy(before, noise, NOISE);
	write_file(path, bytes, random_below(&state, 4) ? 4096 : random_below(&state, 8192));
	make_old(path);
	item = use_library();
	STEP(item);
	STEP(published_dir(item) && published_dir(item)[0]);
	STEP(memcmp(before, noise, NOISE) == 0);
	unlink(rendezvous_path(NULL, getpid()));	/* the library may have left it alone */
	return 0;
}

START_TEST(files_of_random_bytes_do_no_harm)
{
	unsigned count = how_many(1000, 10000);
	uint64_t state = seed_random();

	SKIP_IF(!sandbox_tmp(NULL), NO_PRIVATE_TMP);
	noise = mmap(NULL, NOISE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(noise, MAP_FAILED);
	fill_randomly(noise, NOISE, &state);
	make_dir(SHARED_DIR);
	for (unsigned i = 0; i < count; i++) {
		next_random(&state);
		run_child(check_random_file, &state);
	}
	ck_assert_uint_eq(count_files(SHARED_DIR), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rendezvous/stale");
	TCase *all = tcase_create("stale");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_test(all, good_file_of_another_implementation_is_followed);
	tcase_add_test(all, file_with_a_bad_address_is_replaced);
	tcase_add_test(all, invalid_locator_is_left_alone);
	tcase_add_test(all, file_with_an_address_on_the_readers_stack_is_replaced);
	tcase_add_test(all, files_of_random_bytes_do_no_harm);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
