/* SPDX-License-Identifier: MIT */
/*
 * rendezvous.c: fuzzes the judgement of rendezvous files and locators in
 * lib/locator/rendezvous.c and lib/locator/locator.c
 *
 * The input is a few pages of memory with locators that are more or less damaged, and a
 * rendezvous file in each directory.  The library must not crash, nor hang, and may follow only
 * a file that leads to a locator of this process.
 */

#define _GNU_SOURCE
#include "config.h"
#include "locator/rendezvous.h"
#include "platform/platform.h"

#include <string.h>
#include <sys/mman.h>

#include "input.h"

#define BASE ((uintptr_t)0x20000000)
#define NAMESPACE 7

enum { PAGES = 6, PAGE = 4096, RECORD = 80 };
enum access { UNMAPPED, NO_ACCESS, READ_ONLY, WRITABLE };

static enum access pages[PAGES];

/* As struct record of lib/locator/rendezvous.c. */
static struct file {
	uintptr_t this_address;
	char rest[32 - sizeof(uintptr_t)];
	char signature[16];
	uint64_t root, token, pid_namespace, signed_address;
} files[BUFFERS_RENDEZVOUS_DIRS];
_Static_assert(sizeof(struct file) == RECORD, "layout");
static int errors[BUFFERS_RENDEZVOUS_DIRS];
static bool is_fresh[BUFFERS_RENDEZVOUS_DIRS];
static uint64_t now;

/*
 * The platform
 */

static bool is_allowed(uintptr_t address, size_t size, enum access least)
{
	if (address < BASE || address >= BASE + PAGES * PAGE || size > BASE + PAGES * PAGE - address)
		return false;
	for (size_t page = (address - BASE) / PAGE; page <= (address + size - 1 - BASE) / PAGE; page++)
		if (pages[page] < least)
			return false;
	return true;
}

int buffers_platform_try_read(uintptr_t address, void *copy, size_t size)
{
	CHECK(size % 8 == 0);
	if (!is_allowed(address, size, READ_ONLY))
		return EFAULT;
	memcpy(copy, (const void *)address, size);
	return 0;
}

bool buffers_platform_is_writable(uintptr_t address, size_t size)
{
	CHECK(address % 4 == 0 && size >= 4);
	return is_allowed(address, size, WRITABLE);
}

/* Time passes, and at last every lock is released and every file is old. */
void buffers_platform_backoff(unsigned attempt)
{
	now += 1 + attempt;
	if (attempt != 3)
		return;
	for (unsigned dir = 0; dir < BUFFERS_RENDEZVOUS_DIRS; dir++)
		is_fresh[dir] = false;
	for (unsigned page = 0; page < PAGES; page++)
		if (pages[page] == WRITABLE)
			((struct buffers_locator *)(BASE + page * PAGE))->is_locked = 0;
}

uint64_t buffers_platform_clock(void)
{
	return now;
}

uint64_t buffers_platform_pid_namespace(void)
{
	return NAMESPACE;
}

uint64_t buffers_platform_random(void)
{
	return 99;
}

uint32_t buffers_platform_pid(void)
{
	return 7;
}

/* No input names the holder of a lock. */
uint32_t buffers_platform_task(void)
{
	return 1;
}

int buffers_platform_find_task(uint32_t task)
{
	(void)task;
	return ENOSYS;
}

size_t buffers_platform_granularity(void)
{
	return PAGE;
}

int buffers_platform_map_anywhere(size_t size, enum buffers_kind kind,
				  enum buffers_map_flags flags, uintptr_t *address)
{
	(void)kind;
	(void)flags;
	*address = (uintptr_t)mmap(NULL, size, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return 0;
}

int buffers_platform_unmap(uintptr_t address, size_t size)
{
	CHECK(munmap((void *)address, size) == 0);
	return 0;
}

void buffers_platform_rendezvous_open(struct buffers_rendezvous_dirs *dirs)
{
	memset(dirs, 0, sizeof(*dirs));
}

void buffers_platform_rendezvous_close(struct buffers_rendezvous_dirs *dirs)
{
	(void)dirs;
}

int buffers_platform_rendezvous_read(struct buffers_rendezvous_dirs *dirs, unsigned dir,
				     const char *name, void *bytes, size_t size,
				     struct buffers_rendezvous_id *id, bool *fresh)
{
	(void)dirs;
	(void)name;
	CHECK(size == RECORD);
	memcpy(bytes, &files[dir], size);
	memset(id, 0, sizeof(*id));
	*fresh = is_fresh[dir];
	return errors[dir];
}

int buffers_platform_rendezvous_map(const struct buffers_rendezvous_dirs *dirs, unsigned dir,
				    const char *name, size_t size, enum buffers_kind kind,
				    uintptr_t *address)
{
	(void)dirs;
	(void)dir;
	(void)name;
	(void)size;
	(void)kind;
	(void)address;
	return ENOSYS;
}

int buffers_platform_rendezvous_create(struct buffers_rendezvous_dirs *dirs, unsigned dir,
				       const char *name, const void *bytes, size_t size,
				       const struct buffers_rendezvous_id *old)
{
	(void)dirs;
	(void)dir;
	(void)name;
	(void)bytes;
	(void)size;
	(void)old;
	return EACCES;
}

void buffers_platform_rendezvous_remove(const struct buffers_rendezvous_dirs *dirs, unsigned dir,
					const char *name, const struct buffers_rendezvous_id *id)
{
	(void)dirs;
	(void)dir;
	(void)name;
	(void)id;
}

void buffers_platform_rendezvous_clean_up(const struct buffers_rendezvous_dirs *dirs,
					  unsigned dir, const char *const *names, size_t size,
					  bool (*may_remove)(const void *bytes, bool is_old,
							     const void *context),
					  const void *context)
{
	(void)dirs;
	(void)dir;
	(void)names;
	(void)size;
	(void)may_remove;
	(void)context;
}

/*
 * Making the input
 */

static uintptr_t address_of(unsigned page)
{
	return BASE + page % PAGES * PAGE;
}

/* Often 0 or the address of a page, sometimes one nearby, seldom anything. */
static uintptr_t take_word(void)
{
	unsigned choice = take_byte();
	uintptr_t word;

	if (choice < 120)
		return 0;
	if (choice >= 220)
		return (uintptr_t)take(8);
	word = BASE + take_byte() % (PAGES + 1) * PAGE;
	return choice & 1 ? word + take_byte() * 8 : choice & 2 ? word + take_byte() : word;
}

static void make_items(struct buffers_locator *locator)
{
	for (unsigned i = 0; i < locator->num_items && i < BUFFERS_LOCATOR_CAPACITY; i++) {
		struct buffers_item *item = &locator->items[i];
		unsigned choice = i < 4 ? take_byte() : 0;

		*item = (struct buffers_item){
			.base_address = 0x40000000 + i * 65536, .size = 65536,
			.position = choice * 300,
		};
		if (choice >= 200)
			*item = (struct buffers_item){
				.base_address = take_word(), .size = (uint32_t)take_word(),
				.position = (uint32_t)take_word(),
			};
	}
}

static void make_locator(uintptr_t address)
{
	struct buffers_locator *locator = (struct buffers_locator *)address;
	unsigned choice = take_byte();

	locator->this_address = choice < 200 ? address : take_word();
	choice = take_byte();
	locator->next_locator = choice < 110 ? 0 : choice < 180 ? address_of(choice) : take_word();
	choice = take_byte();
	locator->is_locked = choice > 240 ? choice : choice & 1;
	choice = take_byte();
	locator->flags = (uint8_t)(choice > 235 ? choice : 0);
	choice = take_byte();
	locator->reserved[choice & 1] = (uint8_t)(choice > 200 ? take_byte() : 0);
	choice = take_byte();
	locator->num_items = (uint8_t)(choice > 128 ? choice & 3 : choice);
	make_items(locator);
}

/* A page, with a locator at its start and a root of a copy at its end. */
static void make_page(unsigned page)
{
	static const int protections[] = { 0, PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	unsigned choice = take_byte();
	void *address = (void *)address_of(page);
	uintptr_t root[2];

	pages[page] = choice < 180 ? WRITABLE : choice < 220 ? READ_ONLY :
		      choice < 240 ? NO_ACCESS : UNMAPPED;
	if (pages[page] == UNMAPPED)
		return;
	CHECK(mmap(address, PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == address);
	make_locator((uintptr_t)address);
	root[0] = take_word();
	root[1] = take_word();
	memcpy((char *)address + PAGE - sizeof(root), root, sizeof(root));
	mprotect(address, PAGE, protections[pages[page]]);
}

static void make_file(unsigned dir)
{
	struct file *file = &files[dir];
	unsigned choice = take_byte();
	uintptr_t root[2];

	errors[dir] = choice > 220 ? (choice & 1 ? ENOENT : EACCES) : 0;
	is_fresh[dir] = choice & 2;
	choice = take_byte();
	*file = (struct file){
		.this_address = choice < 100 ? address_of(choice) : take_word(),
	};
	choice = take_byte();
	if (!(choice & 1))
		return;
	memcpy(file->signature, "reloaded-buffers", 16);
	file->root = choice & 16 ? address_of(choice >> 5) + PAGE - 2 * sizeof(uintptr_t) :
				   take_word();
	file->token = take_word();
	file->pid_namespace = choice & 2 ? NAMESPACE : take_word();
	file->signed_address = choice & 4 ? file->this_address : take_word();
	root[0] = file->this_address;
	root[1] = (uintptr_t)file->token;
	if (choice & 8 && is_allowed((uintptr_t)file->root, sizeof(root), WRITABLE))
		memcpy((void *)file->root, root, sizeof(root));
}

/*
 * Checking the answer
 */

static bool is_signed(const struct file *file)
{
	return memcmp(file->signature, "reloaded-buffers", 16) == 0 &&
	       file->signed_address == file->this_address;
}

static bool leads_to(unsigned dir, const struct buffers_locator *locator)
{
	const struct file *file = &files[dir];
	uintptr_t root[2];

	if (errors[dir] || file->this_address != (uintptr_t)locator)
		return false;
	if (!is_signed(file))
		return true;
	return (!file->pid_namespace || file->pid_namespace == NAMESPACE) &&
	       buffers_platform_try_read((uintptr_t)file->root, root, sizeof(root)) == 0 &&
	       root[0] == file->this_address && root[1] == (uintptr_t)file->token;
}

/* The items that may be used are valid: none of the managed twin's is among them. */
static void check_locator(struct buffers_locator *locator)
{
	unsigned count;

	CHECK(is_allowed((uintptr_t)locator, PAGE, WRITABLE));
	CHECK(locator->this_address == (uintptr_t)locator && locator->flags == 0);
	CHECK(locator->num_items <= BUFFERS_LOCATOR_CAPACITY);
	count = buffers_locator_usable(locator);
	CHECK(count <= locator->num_items);
	for (unsigned i = 0; i < count; i++) {
		const struct buffers_item *item = &locator->items[i];

		CHECK(item->base_address && item->base_address <= UINTPTR_MAX - item->size);
	}
}

static void check_found(struct buffers_locator *first)
{
	struct buffers_locator *locator = first;
	bool is_led_to = false;

	for (unsigned dir = 0; dir < BUFFERS_RENDEZVOUS_DIRS; dir++)
		is_led_to |= leads_to(dir, first);
	CHECK(is_led_to);
	for (unsigned i = 0; locator; i++, locator = buffers_locator_follow(locator)) {
		CHECK(i < PAGES);
		check_locator(locator);		/* may write to it */
	}
}

/* None is found: the library makes one, and uses it although it can publish it nowhere. */
static void check_new(struct buffers_root *root)
{
	struct buffers_locator *locator;

	CHECK(buffers_rendezvous_first(root, BUFFERS_KIND_RWX, &locator) == 0);
	CHECK(locator->this_address == (uintptr_t)locator);
	munmap(locator, PAGE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buffers_root root = { 0 };
	struct buffers_locator *locator;

	input = data;
	input_left = size;
	now = 1;
	munmap((void *)BASE, PAGES * PAGE);
	for (unsigned page = 0; page < PAGES; page++)
		make_page(page);
	for (unsigned dir = 0; dir < BUFFERS_RENDEZVOUS_DIRS; dir++)
		make_file(dir);
	locator = buffers_rendezvous_known(&root, BUFFERS_KIND_RWX);
	if (locator)
		check_found(locator);
	else
		check_new(&root);
	return 0;
}
