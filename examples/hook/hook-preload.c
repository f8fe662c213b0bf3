/* SPDX-License-Identifier: MIT */
/*
 * hook-preload: the part of hook that the dynamic linker loads into the program
 *
 * Before main() runs, it overwrites the first instructions of the function with a
 * jump to a nearby buffer: 5 bytes on x86, 4 on AArch64.  The buffer contains a stub,
 * which reports the call, and a trampoline.  The trampoline executes the overwritten
 * instructions, adapted to their new address, and jumps back into the function.
 *
 *	function:	jmp stub
 *	rest:		the instructions that were not overwritten
 *
 *	stub:		save the argument registers, call on_call(), restore them
 *	trampoline:	the overwritten instructions
 *			jmp rest
 *
 * Such a jump reaches 2 GiB on x86-64 and 128 MiB on AArch64.  A jump that reaches all
 * addresses takes 14 or 16 bytes.  Many functions are shorter than that, or a loop
 * starts in these bytes.  hook-*.c contain the parts that depend on the processor.
 */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <reloaded/buffers.h>
#include "hook-machine.h"
#include "segment.h"

enum {
	PAGE = 4096,		/* the smallest page size */
	ALIGNMENT = 16,
};

static void on_call(uintptr_t argument);
static bool overwrite(const struct function *function, uintptr_t stub);

/*
 * Use of the library: a buffer near the function, with code that the function jumps to
 */

static bool hook(struct function *function)
{
	struct buffers_item *item = buffers_get_near(function->entry, MOST_CODE + ALIGNMENT);
	struct code code = { .size = 0 };
	bool is_appended;

	if (!item)
		return refuse("no executable memory within reach of a jump: %s", strerror(errno));
	code.address = (uintptr_t)buffers_reserve(item, 0, ALIGNMENT);
	is_appended = machine_make_code(function, &code, on_call) &&
		    buffers_append_code(item, code.bytes, code.size) != NULL;
	buffers_release(item);
	return is_appended && overwrite(function, code.address);
}

/*
 * Code that runs in the program's calls: it calls no library function, since that may
 * be the hooked one, and allocates no memory
 */

enum { MOST_NAME = 256, MOST_TEXT = 40, MOST_LINE = 400 };

static char name[MOST_NAME];		/* name of the function */
static int output = -1;			/* standard error, a copy if possible */
static unsigned long *calls;		/* counter, shared with forked children */
static bool is_over;			/* the total has been printed */

/* Set while this thread is in this file.  Other TLS models may call a function. */
static __thread bool is_busy __attribute__((tls_model("initial-exec")));

struct line {
	size_t size;
	char bytes[MOST_LINE];
};

static void put_character(struct line *line, char character)
{
	if (line->size < sizeof(line->bytes))
		line->bytes[line->size++] = character;
}

static void put_text(struct line *line, const char *text)
{
	while (*text)
		put_character(line, *text++);
}

static void put_number(struct line *line, uintptr_t number, unsigned base)
{
	char digits[24];
	size_t count = 0;

	do {
		digits[count++] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
	while (count)
		put_character(line, digits[--count]);
}

/* Returns the number of readable bytes.  Does not fault on unmapped memory. */
static size_t try_read(uintptr_t address, char *bytes, size_t size)
{
	size_t first = PAGE - address % PAGE < size ? PAGE - address % PAGE : size;
	struct iovec local = { bytes, size };
	struct iovec remote[2] = {	/* the kernel reads each part wholly or not at all */
		{ (void *)address, first },
		{ (void *)(address + first), size - first },
	};
	long got = machine_system_call(SYS_process_vm_readv,
				       machine_system_call(SYS_getpid, 0, 0, 0, 0, 0),
				       (long)&local, 1, (long)remote, 2);

	return got > 0 ? (size_t)got : 0;
}

static char escape_for(char character)
{
	static const char pairs[] = "\nn\tt\rr\"\"\\\\";

	for (size_t i = 0; i < sizeof(pairs) - 1; i += 2)
		if (pairs[i] == character)
			return pairs[i + 1];
	return '\0';
}

/* Length of the text if printable characters precede a zero or fill the bytes, otherwise 0. */
static size_t text_length(const char *bytes, size_t size)
{
	size_t length = 0;

	while (length < size && bytes[length]) {
		if ((bytes[length] < ' ' || bytes[length] > '~') && !escape_for(bytes[length]))
			return 0;
		length++;
	}
	return length < size || size > MOST_TEXT ? length : 0;
}

static void put_quoted(struct line *line, const char *text, size_t length)
{
	put_character(line, '"');
	for (size_t i = 0; i < length && i < MOST_TEXT; i++) {
		char escape = escape_for(text[i]);

		if (escape)
			put_character(line, '\\');
		put_character(line, escape ? escape : text[i]);
	}
	put_text(line, length > MOST_TEXT ? "\"..." : "\"");
}

/* Prints small numbers, such as sizes and descriptors, in decimal, addresses in hexadecimal. */
static void put_argument(struct line *line, uintptr_t argument)
{
	char bytes[MOST_TEXT + 1];
	size_t size = try_read(argument, bytes, sizeof(bytes));
	size_t length = text_length(bytes, size);

	if (length) {
		put_quoted(line, bytes, length);
	} else if (size == 0 && argument <= INT32_MAX) {
		put_number(line, argument, 10);
	} else {
		put_text(line, "0x");
		put_number(line, argument, 16);
	}
}

/* Not inlined, so that none of it runs before is_busy is set. */
__attribute__((noinline))
static void print_call(uintptr_t argument)
{
	struct line line;

	line.size = 0;
	put_text(&line, "hook: ");
	put_text(&line, name);
	put_text(&line, " #");
	put_number(&line, __atomic_add_fetch(calls, 1, __ATOMIC_RELAXED), 10);
	put_character(&line, '(');
	put_argument(&line, argument);
	put_text(&line, ")\n");
	machine_system_call(SYS_write, output, (long)line.bytes, (long)line.size, 0, 0);
}

static void on_call(uintptr_t argument)
{
	if (is_busy || __atomic_load_n(&is_over, __ATOMIC_RELAXED))
		return;
	is_busy = true;
	print_call(argument);
	is_busy = false;
}

bool refuse(const char *format, ...)
{
	va_list arguments;

	dprintf(output, "hook: %s: ", name);
	va_start(arguments, format);
	vdprintf(output, format, arguments);
	va_end(arguments);
	dprintf(output, "; %s runs unpatched\n", program_invocation_short_name);
	return false;
}

static bool overwrite(const struct function *function, uintptr_t stub)
{
	struct code jump = { .address = (uintptr_t)function->patched };
	uint8_t *page = function->patched - jump.address % (uintptr_t)sysconf(_SC_PAGESIZE);
	size_t size;

	if (!machine_put_jump(&jump, stub))
		return false;
	size = (size_t)(function->patched + jump.size - page);
	/*
	 * The page stays executable, since it may contain mprotect() itself.  On arm64 it loses
	 * PROT_BTI, which weakens the program's defences and has no other effect.
	 */
	if (mprotect(page, size, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
		return refuse("its code cannot be made writable: %s", strerror(errno));
	machine_write_jump(function->patched, &jump);
	buffers_flush_icache(function->patched, jump.size);
	mprotect(page, size, PROT_READ | PROT_EXEC);
	return true;
}

/*
 * Finding the function
 */

/* Returns NULL for an entry that an IFUNC resolver chose: the symbol describes the resolver. */
static const ElfW(Sym) *symbol_at(const void *address)
{
	const ElfW(Sym) *symbol = NULL;
	Dl_info info;

	if (!dladdr1(address, &info, (void **)&symbol, RTLD_DL_SYMENT) ||
	    info.dli_saddr != address)
		return NULL;
	return symbol;
}

static bool look_up(struct function *function)
{
	const ElfW(Sym) *symbol;

	function->entry = dlsym(RTLD_DEFAULT, name);
	symbol = symbol_at(function->entry);
	if (symbol && symbol->st_shndx == SHN_UNDEF) {
		/* The entry is a PLT stub of the program, which jumps to the function. */
		function->entry = dlsym(RTLD_NEXT, name);
		symbol = symbol_at(function->entry);
	}
	if (!function->entry)
		return refuse("neither the program nor a library of it has such a function");
	if (!find_segment(function) ||
	    (symbol && ELF32_ST_TYPE(symbol->st_info) == STT_OBJECT))
		return refuse("it is data, not a function");
	if (symbol) {
		function->size = symbol->st_size;
		function->other = symbol->st_other;
	}
	return true;
}

/*
 * Start and end of the program
 */

/*
 * Uses a high descriptor, since some programs expect the next free number.  With a low limit
 * it uses the highest one, or else standard error itself.
 */
static int copy_stderr(void)
{
	const int least[] = { 1000, 100, (int)sysconf(_SC_OPEN_MAX) - 1, STDERR_FILENO + 1 };
	int copy = -1;

	for (size_t i = 0; copy < 0 && i < sizeof(least) / sizeof(least[0]); i++)
		copy = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, least[i]);
	return copy >= 0 ? copy : STDERR_FILENO;
}

/* Removes the word that the launcher prepended to the variable, and returns it. */
static const char *take_first_word(const char *variable)
{
	char *word = getenv(variable);
	char *colon = word ? strchr(word, ':') : NULL;

	if (colon) {
		*colon = '\0';
		setenv(variable, colon + 1, 1);
	} else {
		unsetenv(variable);
	}
	return word;
}

static bool prepare_hook(void)
{
	const char *wanted = take_first_word("RELOADED_HOOK");

	if (!wanted)
		return false;
	take_first_word("LD_PRELOAD");
	snprintf(name, sizeof(name), "%s", wanted);
	output = copy_stderr();
	calls = mmap(NULL, sizeof(*calls), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	if (calls == MAP_FAILED)
		return refuse("no memory for the counter: %s", strerror(errno));
	return true;
}

static void print_far_jump(const struct function *function)
{
	size_t stolen = function->far_stolen;

	if (stolen < function->far_jump)
		dprintf(output, "an absolute jump would not have fitted in its %zu bytes; ",
			stolen);
	else if (function->far_jump)
		dprintf(output, "an absolute jump would have cost %zu; ", stolen);
}

static void print_success(const struct function *function)
{
	uintptr_t entry = (uintptr_t)function->entry;
	bool is_above = function->trampoline > entry;
	uintptr_t distance = is_above ? function->trampoline - entry : entry - function->trampoline;

	dprintf(output, "hook: %s at %p: stole %zu bytes; ", name, (void *)function->entry,
		function->stolen);
	print_far_jump(function);
	dprintf(output, "trampoline at %p, %zu KiB %s\n", (void *)function->trampoline,
		(size_t)distance / 1024, is_above ? "above" : "below");
}

static pid_t hooked_pid;

__attribute__((constructor)) static void start(void)
{
	struct function function = { .size = 0 };

	is_busy = true;
	if (prepare_hook() && look_up(&function) && machine_examine(&function) && hook(&function)) {
		hooked_pid = getpid();
		print_success(&function);
	}
	is_busy = false;
}

__attribute__((destructor)) static void print_total(void)
{
	unsigned long total;

	is_busy = true;
	if (hooked_pid && hooked_pid == getpid()) {
		__atomic_store_n(&is_over, true, __ATOMIC_RELAXED);
		total = __atomic_load_n(calls, __ATOMIC_RELAXED);
		dprintf(output, "hook: %s called %lu time%s\n", name, total,
			total == 1 ? "" : "s");
	}
	is_busy = false;
}
