/* SPDX-License-Identifier: MIT */
/*
 * hook-preload: the part of hook that the dynamic linker loads into the program
 *
 * Before main() runs, it overwrites the first instructions of the function
 * with a jump of 5 bytes to a buffer near by.  The code there tells us of the
 * call and goes on to the instructions that were overwritten, which lie there
 * too, changed to do the same at their new place, and from there back into the
 * function.
 *
 *	function:	jmp stub
 *	rest:		what was not overwritten
 *
 *	stub:		save the argument registers, call on_call(), restore them
 *	trampoline:	what was overwritten
 *			jmp rest
 *
 * A jump of 5 bytes reaches 2 GiB.  One that reaches everywhere takes 14, and
 * many a function is shorter than that, or has a loop begin there.
 */

#define _GNU_SOURCE

#ifndef __x86_64__
# error "this example moves instructions of x86-64 only"
#endif

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
#include <Zydis/Zydis.h>

enum {
	PAGE = 4096,
	JUMP = 5,		/* jmp rel32 */
	FAR_JUMP = 14,		/* jmp [rip], and the address */
	MOST_CODE = 256,	/* the stub takes 136, moved instructions less than 40 */
	ALIGNMENT = 16,
};

struct function {
	uint8_t *entry;
	size_t size;		/* 0: unknown */
	const uint8_t *start;	/* the segment it lies in */
	const uint8_t *end;
	size_t stolen;		/* bytes of the instructions that the jump overwrites */
	size_t far_stolen;	/* that a far jump would overwrite */
	uintptr_t trampoline;	/* where they go on, moved */
};

struct code {
	uintptr_t address;	/* of the first byte, when it is in place */
	size_t size;
	uint8_t bytes[MOST_CODE];
};

static bool refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
static bool make_code(struct function *function, struct code *code);
static bool overwrite(uint8_t *entry, uintptr_t stub);

/*
 * The lines that matter: a buffer near the function, code in it, a jump there
 */

static bool hook(struct function *function)
{
	struct buffers_item *item = buffers_get_near(function->entry, MOST_CODE + ALIGNMENT);
	struct code code = { .size = 0 };
	bool is_placed;

	if (!item)
		return refuse("no executable memory within reach of a jump: %s", strerror(errno));
	code.address = (uintptr_t)buffers_reserve(item, 0, ALIGNMENT);
	is_placed = make_code(function, &code) &&
		    buffers_append_code(item, code.bytes, code.size) != NULL;
	buffers_release(item);
	return is_placed && overwrite(function->entry, code.address);
}

/*
 * What the program's calls see: no function of a library, for that may be the
 * one that is hooked, and no memory but the stack's
 */

enum { MOST_NAME = 256, MOST_TEXT = 40, MOST_LINE = 400 };

static char name[MOST_NAME];		/* of the function */
static int output = -1;			/* a copy of standard error */
static unsigned long *calls;		/* shared with children that were forked */
static bool is_over;			/* the total has been told */

/* Set while this thread is in here.  Other models of access may call a function. */
static __thread bool is_busy __attribute__((tls_model("initial-exec")));

struct line {
	size_t size;
	char bytes[MOST_LINE];
};

static long system_call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall" : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

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

/* Bytes that could be read, without a fault where there is nothing to read. */
static size_t peek(uintptr_t address, char *bytes, size_t size)
{
	size_t first = PAGE - address % PAGE < size ? PAGE - address % PAGE : size;
	struct iovec local = { bytes, size };
	struct iovec remote[2] = {	/* each is read as a whole or not at all */
		{ (void *)address, first },
		{ (void *)(address + first), size - first },
	};
	long got = system_call(SYS_process_vm_readv, system_call(SYS_getpid, 0, 0, 0, 0, 0, 0),
			       (long)&local, 1, (long)remote, 2, 0);

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

/* How many printable characters precede a zero or fill the bytes; 0 if neither. */
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

/* In decimal what may be a count, a size or a descriptor, in hexadecimal addresses. */
static void put_argument(struct line *line, uintptr_t argument)
{
	char bytes[MOST_TEXT + 1];
	size_t size = peek(argument, bytes, sizeof(bytes));
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

/* Not inlined, so that nothing of it is done before is_busy is set. */
__attribute__((noinline))
static void tell_call(uintptr_t argument)
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
	system_call(SYS_write, output, (long)line.bytes, (long)line.size, 0, 0, 0);
}

static void on_call(uintptr_t argument)
{
	if (is_busy || __atomic_load_n(&is_over, __ATOMIC_RELAXED))
		return;
	is_busy = true;
	tell_call(argument);
	is_busy = false;
}

/*
 * The stub, which is copied to the buffer and falls through to what follows there
 */

extern const uint8_t hook_stub[], hook_stub_callee[], hook_stub_end[];

__asm__(
	"	.pushsection .text\n"
	"	.globl	hook_stub, hook_stub_callee, hook_stub_end\n"
	"	.hidden	hook_stub, hook_stub_callee, hook_stub_end\n"
	"hook_stub:\n"
	"	push	%rbp\n"
	"	mov	%rsp, %rbp\n"
	"	.irp	register, rdi, rsi, rdx, rcx, r8, r9, r10, r11, rax\n"
	"	push	%\\register\n"
	"	.endr\n"
	"	and	$-16, %rsp\n"
	"	sub	$128, %rsp\n"
	"	.irp	number, 0, 1, 2, 3, 4, 5, 6, 7\n"
	"	movaps	%xmm\\number, 16 * \\number(%rsp)\n"
	"	.endr\n"
	"	.byte	0x48, 0xb8\n"		/* movabs $on_call, %rax */
	"hook_stub_callee:\n"
	"	.quad	0\n"
	"	call	*%rax\n"
	"	.irp	number, 0, 1, 2, 3, 4, 5, 6, 7\n"
	"	movaps	16 * \\number(%rsp), %xmm\\number\n"
	"	.endr\n"
	"	lea	-72(%rbp), %rsp\n"
	"	.irp	register, rax, r11, r10, r9, r8, rcx, rdx, rsi, rdi\n"
	"	pop	%\\register\n"
	"	.endr\n"
	"	pop	%rbp\n"
	"hook_stub_end:\n"
	"	.popsection\n");

static bool refuse(const char *format, ...)
{
	va_list arguments;

	dprintf(output, "hook: %s: ", name);
	va_start(arguments, format);
	vdprintf(output, format, arguments);
	va_end(arguments);
	dprintf(output, "; %s runs unpatched\n", program_invocation_short_name);
	return false;
}

/*
 * Instructions
 */

static ZydisDecoder decoder;

static bool decode(const uint8_t *at, const uint8_t *end, ZydisDecodedInstruction *instruction)
{
	return at < end && ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(
			&decoder, NULL, at, (size_t)(end - at), instruction));
}

static bool is_branch(const ZydisDecodedInstruction *instruction)
{
	return instruction->raw.imm[0].is_relative;
}

static uintptr_t target_of(const uint8_t *at, const ZydisDecodedInstruction *instruction)
{
	int64_t distance = is_branch(instruction) ? instruction->raw.imm[0].value.s :
						    instruction->raw.disp.value;

	return (uintptr_t)at + instruction->length + (uintptr_t)distance;
}

/* Whether what follows belongs to something else, or may. */
static bool is_last(const ZydisDecodedInstruction *instruction)
{
	switch (instruction->mnemonic) {
	case ZYDIS_MNEMONIC_HLT:
	case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_UD2:
		return true;
	default:
		return instruction->meta.category == ZYDIS_CATEGORY_RET ||
		       instruction->meta.category == ZYDIS_CATEGORY_UNCOND_BR;
	}
}

/* Bytes of the whole instructions that cover so many, or of all up to the last. */
static size_t cover(const struct function *function, size_t least)
{
	const uint8_t *end = function->size ? function->entry + function->size : function->end;
	ZydisDecodedInstruction instruction;
	size_t size = 0;

	while (size < least && decode(function->entry + size, end, &instruction)) {
		size += instruction.length;
		if (is_last(&instruction))
			break;
	}
	return size;
}

/* Goes through data and padding, too: behind them it finds its step again. */
static const uint8_t *find_branch_inside(const struct function *function, const uint8_t *at,
					 const uint8_t *end)
{
	ZydisDecodedInstruction instruction;

	while (at < end) {
		if (!decode(at, end, &instruction)) {
			at++;
			continue;
		}
		if (is_branch(&instruction) &&
		    target_of(at, &instruction) - (uintptr_t)function->entry - 1 <
		    function->stolen - 1)
			return at;
		at += instruction.length;
	}
	return NULL;
}

/*
 * Moving them
 */

static void put(struct code *code, const void *bytes, size_t size)
{
	memcpy(code->bytes + code->size, bytes, size);
	code->size += size;
}

/* Sets the 32 bits at that offset, in the instruction that was put last. */
static bool aim(struct code *code, size_t field, uintptr_t target)
{
	int64_t distance = (int64_t)(target - (code->address + code->size));
	int32_t bits = (int32_t)distance;

	if (bits != distance)
		return refuse("what it uses at %p is out of the trampoline's reach",
			      (void *)target);
	memcpy(code->bytes + field, &bits, sizeof(bits));
	return true;
}

static bool refuse_to_move(const ZydisDecodedInstruction *instruction)
{
	return refuse("its instruction %s cannot be moved",
		      ZydisMnemonicGetString(instruction->mnemonic));
}

/* Short branches become long ones.  A call will return to the trampoline. */
static bool move_branch(struct code *code, const uint8_t *at,
			const ZydisDecodedInstruction *instruction)
{
	const uint8_t *distance = at + instruction->raw.imm[0].offset;
	const uint8_t *opcode = distance - 1;
	uint8_t bits = instruction->raw.imm[0].size;

	if (bits == 32) {
		put(code, at, (size_t)(distance - at));
	} else if (bits == 8 && (*opcode & 0xf0) == 0x70) {
		put(code, at, (size_t)(opcode - at));
		put(code, (uint8_t[]){ 0x0f, *opcode + 0x10 }, 2);
	} else if (bits == 8 && *opcode == 0xeb) {
		put(code, at, (size_t)(opcode - at));
		put(code, (uint8_t[]){ 0xe9 }, 1);
	} else {
		return refuse_to_move(instruction);
	}
	put(code, (uint8_t[4]){ 0 }, 4);
	return aim(code, code->size - 4, target_of(at, instruction));
}

static bool move(struct code *code, const uint8_t *at, const ZydisDecodedInstruction *instruction)
{
	size_t start = code->size;

	if (is_branch(instruction))
		return move_branch(code, at, instruction);
	put(code, at, instruction->length);
	if (!(instruction->attributes & ZYDIS_ATTRIB_IS_RELATIVE))
		return true;
	if (instruction->address_width != 64)
		return refuse_to_move(instruction);
	return aim(code, start + instruction->raw.disp.offset, target_of(at, instruction));
}

static bool make_code(struct function *function, struct code *code)
{
	const uint8_t *rest = function->entry + function->stolen;
	uintptr_t callee = (uintptr_t)on_call;
	ZydisDecodedInstruction instruction;

	put(code, hook_stub, (size_t)(hook_stub_end - hook_stub));
	memcpy(code->bytes + (hook_stub_callee - hook_stub), &callee, sizeof(callee));
	function->trampoline = code->address + code->size;
	for (const uint8_t *at = function->entry; at < rest; at += instruction.length)
		if (!decode(at, rest, &instruction) || !move(code, at, &instruction))
			return false;
	put(code, (uint8_t[JUMP]){ 0xe9 }, JUMP);
	return aim(code, code->size - 4, (uintptr_t)rest);
}

static bool overwrite(uint8_t *entry, uintptr_t stub)
{
	struct code jump = { .address = (uintptr_t)entry };
	uint8_t *page = entry - (uintptr_t)entry % PAGE;
	size_t size = (size_t)(entry + JUMP - page);

	put(&jump, (uint8_t[JUMP]){ 0xe9 }, JUMP);
	if (!aim(&jump, 1, stub))
		return false;
	/* Executable all the while: mprotect() itself may lie there. */
	if (mprotect(page, size, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
		return refuse("its code cannot be made writable: %s", strerror(errno));
	memcpy(entry, jump.bytes, JUMP);
	mprotect(page, size, PROT_READ | PROT_EXEC);
	return true;
}

/*
 * Finding the function
 */

static int find_segment(struct dl_phdr_info *info, size_t size, void *context)
{
	struct function *function = context;

	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + header->p_vaddr;

		if (header->p_type != PT_LOAD || !(header->p_flags & PF_X) ||
		    (uintptr_t)function->entry - start >= header->p_memsz)
			continue;
		function->start = (const uint8_t *)start;
		function->end = function->start + header->p_memsz;
		return 1;
	}
	return 0;
}

/* NULL for an entry that a resolver chose: its symbol stands for the resolver. */
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
		/* What the program takes for the function only jumps there. */
		function->entry = dlsym(RTLD_NEXT, name);
		symbol = symbol_at(function->entry);
	}
	if (!function->entry)
		return refuse("neither the program nor a library of it has such a function");
	if (dl_iterate_phdr(find_segment, function) == 0 ||
	    (symbol && ELF64_ST_TYPE(symbol->st_info) == STT_OBJECT))
		return refuse("it is data, not a function");
	function->size = symbol ? symbol->st_size : 0;
	return true;
}

static bool may_move(struct function *function)
{
	const uint8_t *branch;

	function->stolen = cover(function, JUMP);
	if (function->stolen < JUMP)
		return refuse("its code ends after %zu of the %d bytes that a jump takes",
			      function->stolen, JUMP);
	function->far_stolen = cover(function, FAR_JUMP);
	branch = find_branch_inside(function, function->start, function->entry);
	if (!branch)
		branch = find_branch_inside(function, function->entry, function->end);
	if (branch)
		return refuse("a branch at %p goes into its first %zu bytes",
			      (const void *)branch, function->stolen);
	return true;
}

/*
 * From the start of the program to its end
 */

/* High, out of the way of programs that count on the number of the next one. */
static int copy_stderr(void)
{
	int copy = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 1000);

	return copy >= 0 ? copy : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100);
}

/* The word that the launcher put before what the variable held. */
static const char *take_first(const char *variable)
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

static bool prepare(void)
{
	const char *wanted = take_first("RELOADED_HOOK");

	if (!wanted)
		return false;
	take_first("LD_PRELOAD");
	snprintf(name, sizeof(name), "%s", wanted);
	output = copy_stderr();
	calls = mmap(NULL, sizeof(*calls), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	if (calls == MAP_FAILED)
		return refuse("no memory to count in: %s", strerror(errno));
	return ZYAN_SUCCESS(ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64,
					     ZYDIS_STACK_WIDTH_64));
}

static void tell_success(const struct function *function)
{
	uintptr_t entry = (uintptr_t)function->entry;
	bool is_above = function->trampoline > entry;
	uintptr_t distance = is_above ? function->trampoline - entry : entry - function->trampoline;
	size_t far = function->far_stolen;

	dprintf(output, "hook: %s at %p: stole %zu bytes; ", name, (void *)function->entry,
		function->stolen);
	if (far < FAR_JUMP)
		dprintf(output, "an absolute jump would not have fitted in its %zu bytes", far);
	else
		dprintf(output, "an absolute jump would have cost %zu", far);
	dprintf(output, "; trampoline at %p, %zu KiB %s\n", (void *)function->trampoline,
		distance / 1024, is_above ? "above" : "below");
}

static pid_t hooked_process;

__attribute__((constructor)) static void start(void)
{
	struct function function = { .size = 0 };

	is_busy = true;
	if (prepare() && look_up(&function) && may_move(&function) && hook(&function)) {
		hooked_process = getpid();
		tell_success(&function);
	}
	is_busy = false;
}

__attribute__((destructor)) static void tell_total(void)
{
	unsigned long total;

	is_busy = true;
	if (hooked_process && hooked_process == getpid()) {
		__atomic_store_n(&is_over, true, __ATOMIC_RELAXED);
		total = __atomic_load_n(calls, __ATOMIC_RELAXED);
		dprintf(output, "hook: %s called %lu time%s\n", name, total,
			total == 1 ? "" : "s");
	}
	is_busy = false;
}
