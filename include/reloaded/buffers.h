/* SPDX-License-Identifier: MIT */
/*
 * libreloaded-buffers: memory in a given range of addresses, shared within a process
 *
 * The library allocates memory between a given minimum and maximum address
 * and shares it among all its users in the process.  A buffer is a contiguous
 * block of mapped memory that the library hands out piece by piece.
 * buffers_get() finds a suitable buffer, or maps a new one, and locks it.  The
 * caller then holds it, appends to it and releases it.  The next caller
 * continues in the free space that is left.
 *
 *	struct buffers_item *item = buffers_get_near(function, sizeof(code));
 *	if (!item)
 *		err(1, "no memory within a branch of the function");
 *	void *address = buffers_append_code(item, code, sizeof(code));
 *	buffers_release(item);
 *
 * Appended bytes never move and stay until the process ends, or until their owner
 * returns them with buffers_give_back().  The library changes them only in calls to
 * buffers_overwrite() and buffers_overwrite_with().
 * The memory is readable, writable and executable, unless the request asks for
 * another kind with BUFFERS_RW or BUFFERS_RX.
 *
 * Conventions that hold for every function here:
 *
 * - Sizes are in bytes.  Ranges of addresses are half open: memory lies in a
 *   range when min_address <= start and end <= max_address.
 * - A call that fails returns NULL or -1 and sets errno to one of the values
 *   below.  Unless its description says otherwise, it changes nothing else.  A
 *   call that succeeds leaves errno alone.
 *
 *	EINVAL		an argument is NULL or invalid, or the request contradicts itself
 *	EADDRNOTAVAIL	the range has no free gap of that size
 *	ENOMEM		the kernel refuses more memory or more mappings
 *	EACCES		policy forbids memory of this kind, no way to write RX memory is
 *			available, or the caller lacks rights to another process
 *	ENOSPC		the item or arena has less free space than that
 *	ENOSYS		the platform does not support the call
 *
 * - No function aborts, prints, raises a signal or calls malloc(3).  No
 *   function is a cancellation point.
 * - Threads: several threads may call any function at once.  An item belongs
 *   to one holder at a time, from buffers_get() to buffers_release().
 * - Signals: a signal handler may call the functions marked "signal-safe".  It
 *   must not call the others: it may have interrupted one of them while that
 *   held a lock.
 * - Sandboxes: buffers(7) lists the system calls of each function.
 * - Copies: the shared library and static archives inside plugins find the
 *   same buffers if the process can publish a file below /tmp or, on Windows,
 *   a named section; buffers(7) lists the conditions.
 * - Pages: the address and the size of each mapping are multiples of the page
 *   size.  On Windows that is the allocation granularity, 64 KiB.
 * - Windows: errno is that of the C runtime that the library was built for.
 *   Any call may change the value of GetLastError().
 * - fork: a child starts without buffers of its own.  Inherited buffers stay
 *   mapped, private to the child, and usable through their addresses and
 *   through the items that the forking thread held.  New requests never use
 *   them.  Arenas are inherited: see buffers_arena_create().
 */
#ifndef RELOADED_BUFFERS_H
#define RELOADED_BUFFERS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
# define BUFFERS_CHECK_RESULT	__attribute__((__warn_unused_result__))
# define BUFFERS_FRESH		__attribute__((__malloc__))
#else
# define BUFFERS_CHECK_RESULT
# define BUFFERS_FRESH
#endif
/* The library and its tests define BUFFERS_BUILD, since they check for NULL at run time. */
#if defined(__GNUC__) && !defined(BUFFERS_BUILD)
# define BUFFERS_NONNULL(...)	__attribute__((__nonnull__(__VA_ARGS__)))
# if defined(__has_attribute)
#  if __has_attribute(__access__)
#   define BUFFERS_READS(pointer, size) \
	__attribute__((__access__(__read_only__, pointer, size)))
#  endif
# endif
#else
# define BUFFERS_NONNULL(...)
#endif
#ifndef BUFFERS_READS
# define BUFFERS_READS(pointer, size)
#endif

/*
 * BUFFERS_REACH_BRANCH: how far a direct branch of this architecture reaches
 *
 * The distance is in bytes to either side of the branch, less 4096.  Any
 * instruction in the first 4096 bytes of a function can therefore branch to any
 * byte of a buffer within this distance of the function's start, and back.
 *
 *	x86-64	 2 GiB	JMP and CALL rel32: Intel SDM volume 2, "JMP", "CALL"
 *	i386	 all	rel32 wraps around the address space: same source
 *	AArch64	 128 MiB	B and BL, imm26: Arm ARM (DDI 0487) C6.2
 *	Arm	 32 MiB	A32 B and BL, imm24: Arm ARM (DDI 0406) A8.8.18; T32 code
 *			reaches 16 MiB: request that with buffers_request_near()
 *	RISC-V	 2 GiB	AUIPC with JALR: unprivileged ISA 2.4, 2.5.1; the pair reaches
 *			2048 bytes less upward, so another 4096 are subtracted
 *	POWER	 32 MiB	b and bl, LI: Power ISA 3.0 Book I, 2.4
 *	s390x	 4 GiB	BRCL and BRASL: z/Architecture Principles, chapter 7
 */
#if defined(__x86_64__) || defined(_M_X64)
# define BUFFERS_REACH_BRANCH	((size_t)0x80000000u - 4096)
#elif defined(__riscv)
# define BUFFERS_REACH_BRANCH	((size_t)0x80000000u - 2 * 4096)
#elif defined(__i386__) || defined(_M_IX86)
# define BUFFERS_REACH_BRANCH	(SIZE_MAX)
#elif defined(__aarch64__) || defined(_M_ARM64)
# define BUFFERS_REACH_BRANCH	((size_t)0x08000000u - 4096)
#elif defined(__arm__) || defined(__powerpc__)
# define BUFFERS_REACH_BRANCH	((size_t)0x02000000u - 4096)
#elif defined(__s390x__)
# define BUFFERS_REACH_BRANCH	((size_t)0x100000000u - 4096)
#else
# error "add the reach of a direct branch of this architecture"
#endif

/*
 * Kinds of memory: flags of a request
 *
 * (0)			RWX: readable, writable and executable
 * BUFFERS_RW		RW: readable and writable, never executable; in a 32-bit process on
 *			Windows this requires data execution prevention
 * BUFFERS_RX		RX: readable and executable, never writable; only functions of the
 *			library write it, without a store to its address; exception:
 *			buffers_protect() makes memory of buffers_alloc() RW for a time
 *
 * Policy that forbids memory which is both writable and executable (PR_SET_MDWE,
 * MemoryDenyWriteExecute=) allows RX memory.  Policy that forbids all executable
 * memory outside of files (ProcessDynamicCodePolicy, SELinux without execmem)
 * forbids it.
 *
 * Under the personality READ_IMPLIES_EXEC the library takes it from the calling thread
 * while it maps RW memory.  A request for a mapping fails with EACCES if that is denied.
 *
 * Both flags together fail with EINVAL.  A request gets memory of its own kind only.
 * Since 0.1.
 */
#define BUFFERS_RW	(1u << 0)
#define BUFFERS_RX	(1u << 1)

/*
 * BUFFERS_VIEW: RX memory that its user writes often
 *
 * A flag beside BUFFERS_RX, for buffers_alloc() and buffers_arena_create().  The memory gets a
 * view: a second mapping, at an address of the system's choice, which can be read and written,
 * and never executed.  Functions of the library then write the memory as fast as memcpy(3),
 * and buffers_view() says where the caller can write it.
 *
 * Security: with a view, a program error or an attacker that can write anywhere can change
 * code, as with RWX memory, though only by finding the view.  buffers_view(3) says which programs
 * should not use one.
 *
 * Children that fork(2) makes later share the memory.  They can execute it.  They have a view of
 * the arenas with BUFFERS_ARENA_FORK_SHARED; without that flag they have none, and cannot append
 * to it.
 *
 * With another kind, or in another call: EINVAL.  Since 0.1.
 */
#define BUFFERS_VIEW	(1u << 2)

/*
 * struct buffers_item: a buffer that its holder has locked
 *
 * Opaque.  The library owns it.  The pointer stays valid until the process
 * ends, but only the holder may use it.
 */
struct buffers_item;

/*
 * struct buffers_request: the size and the range of the wanted memory
 *
 * Members that are not needed are 0.  A request with only a size is complete.
 */
struct buffers_request {
	uintptr_t min_address;	/* lowest acceptable address */
	uintptr_t max_address;	/* end of the acceptable range; 0: no upper bound */
	const void *target;	/* map new memory as near to it as possible; NULL: anywhere */
	size_t size;		/* bytes that must be free, at least 1 */
	size_t alignment;	/* alignment of the first free byte: a power of two; 0 means 1 */
	unsigned flags;		/* the kind of memory: 0, BUFFERS_RW or BUFFERS_RX */
	uintptr_t reserved[2];	/* 0 */
};

/*
 * struct buffers_info: a buffer as buffers_walk() describes it
 *
 * Only the library makes these.  Later versions may add members at the end.
 */
struct buffers_info {
	void *base;		/* first byte of the buffer */
	size_t size;		/* size of the buffer in bytes */
	size_t used;		/* bytes from base that callers have appended or reserved */
	int taken;		/* 1 while a caller holds the buffer, otherwise 0 */
	unsigned flags;		/* its kind: 0, BUFFERS_RW or BUFFERS_RX */
	size_t given_back;	/* bytes of `used` that this copy of the library was given back */
};

/*
 * buffers_request_near(): make a request for memory within reach of a target
 *
 * target	address that the memory must be near, not NULL; not dereferenced
 * reach	bytes, at least 1, from the target to the far end of the memory
 * size		bytes that must be free
 *
 * Returns a request for the range [target - reach, target + reach), clipped to
 * the address space, with this target and size.  All other members are 0; the
 * caller changes them as needed.  If target is NULL or reach is 0, every call
 * refuses the request with EINVAL until the caller sets another range; for the
 * lowest addresses, set max_address alone.
 *
 * Cannot fail; signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT
struct buffers_request buffers_request_near(const void *target, size_t reach, size_t size);

/*
 * buffers_request_narrow(): restrict a request to the reach of another target as well
 *
 * request	its range becomes the part that is in [target - reach, target + reach), too;
 *		its own target and all other members stay
 * target	another address that the memory must be near, not NULL; not dereferenced
 * reach	as for buffers_request_near()
 *
 * For memory that several functions must reach, call it once for each of them.
 *
 * Returns 0.
 *
 * EINVAL: request or target is NULL; reach is 0; max_address of the request is neither 0 nor
 * above min_address.
 * EADDRNOTAVAIL: the range has no address within reach of the target.
 *
 * Thread-safe if no other thread uses the request; signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1, 2)
int buffers_request_narrow(struct buffers_request *request, const void *target, size_t reach);

/*
 * buffers_get(): find a suitable buffer, or map one, and lock it
 *
 * request	the wanted memory; read during the call only
 *
 * All free space of the buffer, from buffers_next() to its end, lies in the
 * requested range, and at least request->size bytes of it are free after
 * aligning.  The call skips buffers that others hold; it does not wait for them.
 * Room that was given back to this copy of the library, with buffers_give_back(), goes
 * first: the buffer is then the smallest stretch of it that suits, or a part of it.
 * If no buffer suits, the call maps a new one: adjacent to the last buffer mapped
 * for such a request, or else in the free gap nearest to the target.  The new
 * buffer has at least 64 KiB if the gap and the range allow that.  If target is
 * NULL, the first buffer is mapped near a random address of the range.
 *
 * Other users have bytes in the same pages: the caller must not change their protection.  A
 * caller that needs mprotect(2) takes memory of its own, buffers_alloc(), and buffers_protect().
 *
 * Returns the item, which the caller holds until buffers_release().
 *
 * EINVAL: request is NULL; size is 0; max_address is neither 0 nor above
 * min_address; alignment is not a power of two; flags is none of the kinds;
 * reserved is not 0.
 * EADDRNOTAVAIL: as above; also if size is 4 GiB or more, which no item can hold.
 * ENOMEM, EACCES: as above.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
struct buffers_item *buffers_get(const struct buffers_request *request);

/*
 * buffers_get_near(): the same, within BUFFERS_REACH_BRANCH of a target
 *
 * target	the code that branches to the buffer, or that the buffer branches to;
 *		not NULL
 * size		bytes that must be free, at least 1
 *
 * Returns the item, as buffers_get() does.
 *
 * EINVAL: target is NULL or size is 0.
 * EADDRNOTAVAIL, ENOMEM, EACCES: as for buffers_get().
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
struct buffers_item *buffers_get_near(const void *target, size_t size);

/*
 * buffers_release(): give up an item, so that others can use its free space
 *
 * item		an item that the caller holds; NULL is ignored
 *
 * Cannot fail.
 *
 * Signal-safe under the same condition as buffers_append(), but not for items of
 * a BUFFERS_ARENA_FORK_SHARED arena.  Since 0.1.
 */
void buffers_release(struct buffers_item *item);

/*
 * buffers_give_back(): return room that the caller no longer needs
 *
 * address	of room that the caller took with buffers_append() or buffers_reserve(), or of
 *		a part of it
 * size		number of bytes, at least 1
 *
 * After the call nothing may read, write or execute the room.  The caller makes sure that
 * no thread is in the code there, or will return to it.
 *
 * The room serves later requests of this copy of the library before other free space does,
 * whichever copy it was taken from; the smallest stretch that suits is taken.  The
 * caller of buffers_get() or buffers_arena_get() gets an item whose room is a
 * stretch that was given back, or a part of it.  Room that the holder leaves unused stays
 * given back.  Adjacent stretches merge.  The room reads as zeros when it is handed out
 * again, and whole pages of it are returned to the system.  Other copies and
 * other implementations continue to see bytes in use.
 *
 * Returns 0.
 *
 * EINVAL: size is 0; or some of the bytes are in no shared buffer and in no arena that this
 * copy made, are free, or were given back to this copy already.  The library does not know
 * where pieces end, nor what another copy was given back.
 * ENOSYS: the room is in an arena of BUFFERS_ARENA_FORK_SHARED.  A process that is killed at
 * any instant would leave the list of its room damaged for the others.
 * ENOMEM: no memory to record the room, or, only for RX memory, to write it.
 * EACCES: only for RX memory, as for buffers_overwrite().
 * On failure the room is not given back.  After EACCES or ENOMEM for RX memory, its bytes may
 * have changed.
 *
 * A forked child starts without the room that its parent was given back: there, it stays in
 * use.  A child cannot give back room of shared buffers that it inherited (EINVAL).
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
int buffers_give_back(void *address, size_t size);

/*
 * buffers_append(): copy bytes into the buffer
 *
 * item		an item that the caller holds
 * data		the bytes; they may lie anywhere, even at buffers_next() if the caller
 *		composed them there; may be NULL when size is 0
 * size		number of bytes; 0 copies nothing and returns buffers_next()
 *
 * Returns the address of the copy, which is the former value of buffers_next().
 *
 * EINVAL: item is NULL, or data is NULL and size is not 0.
 * ENOSPC: less than size bytes are free; nothing was written.
 * EACCES, ENOMEM: only for RX memory, as for buffers_overwrite(); also EACCES if its view is in
 * another process.  The item is unchanged, but bytes in its free space may have changed.
 *
 * Signal-safe if the handler's thread holds the item and the signal did not
 * interrupt a call with that item; for RX memory, as buffers_overwrite().
 * Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1) BUFFERS_READS(2, 3)
void *buffers_append(struct buffers_item *item, const void *data, size_t size);

/*
 * buffers_append_code(): copy instructions into the buffer
 *
 * As buffers_append().  In addition, when it returns, the caller can execute the
 * copy, and so can every thread that learns the address in a way that
 * synchronizes with the caller.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1) BUFFERS_READS(2, 3)
void *buffers_append_code(struct buffers_item *item, const void *code, size_t size);

/*
 * buffers_reserve(): take space in the buffer without writing it
 *
 * item		an item that the caller holds
 * size		number of bytes; 0 only aligns
 * alignment	of their address; a power of two; 0 means 1
 *
 * Returns the address of the space.  It belongs to the caller, also after
 * buffers_release(), and holds zeros until the caller writes it; RX memory
 * is written by buffers_overwrite(), or in its view.  Exception: bytes left by an append that
 * failed or was killed.
 *
 * EINVAL: item is NULL, or alignment is not a power of two.
 * ENOSPC: less than size bytes are free after aligning; nothing changed.
 * EACCES: the view of the item is in another process.
 *
 * Signal-safe if the handler's thread holds the item and the signal did not
 * interrupt a call with that item.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
void *buffers_reserve(struct buffers_item *item, size_t size, size_t alignment);

/*
 * buffers_next(): address of the first free byte, where the next append goes
 * buffers_remaining(): number of free bytes
 * buffers_base(): address of the first byte of the buffer
 * buffers_size(): size of the buffer in bytes
 *
 * item		an item that the caller holds
 *
 * EINVAL: item is NULL; the result is NULL or 0.
 *
 * Signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
void *buffers_next(const struct buffers_item *item);
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
size_t buffers_remaining(const struct buffers_item *item);
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
void *buffers_base(const struct buffers_item *item);
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
size_t buffers_size(const struct buffers_item *item);

/*
 * buffers_overwrite(): change code that is already in use
 *
 * dst		memory of any kind that was appended to or reserved in a buffer, or
 *		that buffers_alloc() returned
 * src		the new bytes; must not overlap dst
 * size		number of bytes; 0 does nothing
 *
 * When it returns, the caller executes the new bytes.  Another thread does once
 * its processor has synchronized its instruction stream, which x86 does by itself.
 * Four bytes at a multiple of four, and eight at a multiple of eight, change
 * atomically if the processor can store them so.  In all other cases a thread that
 * executes the bytes during the call may see some old and some new ones.
 *
 * Returns 0.
 *
 * EINVAL: dst or src is NULL and size is not 0, or dst cannot be read.
 * EACCES: only for RX memory: no way to write it is available, for example because
 * /proc/self/mem is closed; or no way to change four or eight bytes of it atomically,
 * because the memory is sealed, mseal(2), or mremap(2) is denied.  A change of one
 * byte among them, and other sizes and addresses, do not need that.  Also: the lock
 * of all writers was not free for five seconds, and nothing shows that its holder
 * lives.
 * ENOMEM: only for RX memory: the kernel refuses the memory, mapping or descriptor
 * that writing needs.
 * Bytes in one page are unchanged on failure.  If they lie in several pages, some may
 * have changed.
 *
 * Thread-safe if no other thread changes the same bytes.  Signal-safe, with one
 * exception for RX memory: a handler of SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP or
 * SIGSYS must not write it if the signal interrupted a function of this library.
 * That happens only if a caller passes bad pointers or sends these signals itself.
 * Writing RX memory takes up to 16 KiB of stack.  Since 0.1.
 */
BUFFERS_READS(2, 3)
int buffers_overwrite(void *dst, const void *src, size_t size);

/*
 * buffers_overwrite_with(): the same, with a function that edits the bytes
 *
 * dst, size	as for buffers_overwrite()
 * patch	called once with a copy of the bytes, or with the bytes themselves;
 *		changes them in place
 * context	passed to patch
 *
 * Since patch may work on a copy elsewhere, it computes addresses from dst.  The
 * new bytes are at dst only when this function returns.
 *
 * Returns 0.
 *
 * EINVAL: dst or patch is NULL and size is not 0, or dst cannot be read.
 * EACCES: as for buffers_overwrite(); patch may have been called.
 * ENOMEM: as for buffers_overwrite(), or a copy of more than 256 bytes needs memory;
 * patch may have been called.
 *
 * As safe as buffers_overwrite(), if patch is.  Since 0.1.
 */
int buffers_overwrite_with(void *dst, size_t size,
			   void (*patch)(void *bytes, size_t size, void *context),
			   void *context);

/*
 * buffers_view(): find where memory is written
 *
 * address	in memory that a buffer, an arena or buffers_alloc() provided; not
 *		dereferenced
 *
 * Returns the address in the view of memory with BUFFERS_VIEW, and the address itself of memory
 * that can be written there.  The view has the same bytes in the same order: one call is enough
 * for all memory of one buffers_alloc() or one arena.  It stays until buffers_free() or
 * buffers_arena_destroy().
 *
 * To generate code in place, write it at the view of buffers_next(), reserve as many bytes as were
 * written, and flush the bytes at their own address:
 *
 *	char *code = buffers_next(item);
 *	size_t size = generate(buffers_view(code), buffers_remaining(item));
 *	code = buffers_reserve(item, size, 1);
 *	buffers_flush_icache(code, size);
 *
 * EINVAL: address is NULL; or the memory cannot be written at any address that this copy of the
 * library knows: it is RX memory without a view, or its view is in another process.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
void *buffers_view(const void *address);

/*
 * buffers_flush_icache(): make written instructions visible to execution
 *
 * start, size	the bytes that the caller wrote
 *
 * Needed for code that the caller stored through its address.  The functions
 * above that write code flush it themselves.
 *
 * Cannot fail; signal-safe.  Since 0.1.
 */
void buffers_flush_icache(void *start, size_t size);

/*
 * buffers_alloc(): map memory in a range for the caller alone
 *
 * request	as for buffers_get(), but alignment is that of the memory
 * allocated	set to the number of mapped bytes: size rounded up to whole pages
 *
 * request->flags may also have BUFFERS_VIEW.
 * The memory is mapped in the free gap nearest to the target.  If target is NULL,
 * it is mapped at a random address of the range, or adjacent to earlier memory
 * that was mapped without a target.
 *
 * Returns the memory, zeroed.  The library gives it to no other caller.  The
 * caller returns it with buffers_free() or keeps it.
 *
 * EINVAL: as for buffers_get(), or allocated is NULL.
 * EADDRNOTAVAIL, ENOMEM, EACCES: as above.
 * ENOSYS: flags has BUFFERS_VIEW, and the system has no second mappings.
 * *allocated is unchanged on failure.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_FRESH BUFFERS_NONNULL(1, 2)
void *buffers_alloc(const struct buffers_request *request, size_t *allocated);

/*
 * buffers_free(): unmap memory that buffers_alloc() mapped
 *
 * address	as buffers_alloc() returned it
 * allocated	as buffers_alloc() set it: the memory is freed as a whole
 *
 * Any other memory is as wrong here as for munmap(2).  Memory with a view must be freed by the
 * copy of the library that mapped it, which unmaps the view, too.
 *
 * Returns 0.
 *
 * EINVAL: address is NULL or not a multiple of the page size, or allocated is 0 or
 * not a multiple of the page size; on Windows, also if the two do not describe
 * exactly one allocation.
 * ENOMEM: the kernel refuses to unmap.  The memory is as it was, but may have lost its view.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
int buffers_free(void *address, size_t allocated);

/*
 * buffers_protect(): open or close a write window of memory that buffers_alloc() mapped
 *
 * address	as buffers_alloc() returned it
 * allocated	as buffers_alloc() set it: the memory changes as a whole
 * flags	BUFFERS_RW: the memory becomes readable and writable, and cannot be executed;
 *		BUFFERS_RX: it becomes readable and executable, and cannot be written
 *
 * A compiler at run time opens a window, stores code, and closes the window, again and
 * again, at the same address.  That works for memory of each kind, and under policy that
 * forbids memory which is both writable and executable.  If such policy refuses to make the
 * memory executable, RX pages that hold the same bytes take its place: the caller must use
 * this function and not mprotect(2).  In a window buffers_overwrite() stores directly.
 * The memory stays private in forked children.  After BUFFERS_RX the caller can execute it.
 *
 * No other thread may use the memory during the call, or execute it while a window is open.
 *
 * Returns 0.
 *
 * EINVAL: address or allocated is invalid as for buffers_free(), flags is not one of the two,
 * or the memory has a view (BUFFERS_VIEW), also in a child that inherited the memory alone.
 * EACCES: policy forbids it, and no way to replace the memory is available; or the memory is
 * sealed, mseal(2).
 * ENOMEM: the kernel refuses the memory, mapping or descriptor that the call needs.
 * On failure the memory is as it was; buffers_protect(3) lists the rare exceptions.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
int buffers_protect(void *address, size_t allocated, unsigned flags);

/*
 * buffers_alloc_in(): map memory in a range of another process; Windows only
 *
 * pid		ID of the process, as its GetCurrentProcessId() returns it
 * request	as for buffers_alloc(), with addresses of that process; flags is 0 or
 *		BUFFERS_RW
 * allocated	set to the number of mapped bytes: size rounded up to whole pages
 *
 * A 64-bit process may map memory in a 32-bit process.  The caller writes the
 * memory with WriteProcessMemory(), for example, and flushes instructions with
 * FlushInstructionCache().
 *
 * Returns the address of the memory, zeroed, in that process; the caller must not
 * dereference it.
 *
 * EINVAL: as for buffers_alloc(), or the process does not exist or has ended.
 * EACCES: the caller lacks PROCESS_QUERY_INFORMATION, PROCESS_VM_OPERATION or
 * PROCESS_VM_READ to the process, or policy forbids the memory.
 * EADDRNOTAVAIL, ENOMEM: as above.
 * ENOSYS: the system is not Windows, or flags is BUFFERS_RX: no function could write
 * that memory.
 * *allocated is unchanged on failure.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(2, 3)
void *buffers_alloc_in(uint32_t pid, const struct buffers_request *request,
		       size_t *allocated);

/*
 * buffers_free_in(): unmap memory that buffers_alloc_in() mapped; Windows only
 *
 * pid		ID of the process
 * address	as buffers_alloc_in() returned it
 * allocated	as buffers_alloc_in() set it: the memory is freed as a whole
 *
 * The system frees the memory when its process ends, too.
 *
 * Returns 0.
 *
 * EINVAL: as for buffers_free(), or the process does not exist or has ended.
 * EACCES: the caller lacks the rights to unmap memory there.
 * ENOMEM: the kernel refuses to unmap.
 * ENOSYS: the system is not Windows.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
int buffers_free_in(uint32_t pid, void *address, size_t allocated);

/*
 * struct buffers_arena: a window of address space for a single user
 *
 * Opaque.  The library owns it.  The pointer is valid in this process and in its
 * children, in each of them until it calls buffers_arena_destroy().
 */
struct buffers_arena;

/* Flag of an arena: children that are forked later use the same memory.  Since 0.1. */
#define BUFFERS_ARENA_FORK_SHARED	(1u << 8)

/*
 * BUFFERS_ARENA_HUGE_PAGES: ask the system for huge pages
 *
 * Flag of an arena of at least 2 MiB, for programs that execute or read many MiB of it at random
 * addresses.  The arena works the same where the system has no huge pages or gives none, and on
 * Windows, where the flag has no effect.  Linux decides by the files enabled and, for memory that
 * is shared or has a view, shmem_enabled in /sys/kernel/mm/transparent_hugepage.
 *
 * Memory then comes in steps of 2 MiB instead of pages: the first byte that is written in a step
 * takes all of it, and it counts towards limits and is in core dumps once an item in it is handed
 * out.  The window begins at a multiple of 2 MiB if its range has such a place.
 *
 * Since 0.1.
 */
#define BUFFERS_ARENA_HUGE_PAGES	(1u << 9)

/*
 * buffers_arena_create(): reserve a window of addresses for the caller
 *
 * window	range, target, size and kind of the window; size is rounded up to
 *		whole pages, and ranges from one page to many GiB; the window is mapped
 *		where buffers_alloc() would map it
 * flags	0 or any of BUFFERS_ARENA_FORK_SHARED and BUFFERS_ARENA_HUGE_PAGES, and a
 *		kind, BUFFERS_RW or BUFFERS_RX, the latter also with BUFFERS_VIEW; the kind and
 *		BUFFERS_VIEW may be in window->flags instead
 *
 * The library gives memory of the window only to users of the arena.  The window
 * costs nothing until buffers_arena_get() hands out items: the rest counts towards
 * no limit, is in no core dump and, unless shared or with a view, cannot be accessed.
 *
 * With BUFFERS_ARENA_FORK_SHARED, the process and all descendants that fork(2)
 * makes later use the arena at the same time.  Bytes that one of them appends, all
 * of them can read and execute.  If a process or thread ends while it holds items,
 * the kernel releases up to 2048 of them (ROBUST_LIST_LIMIT), with all bytes that
 * it had appended.  Each of these processes can write the memory, so each can run
 * code in all the others: share an arena only among processes that trust each other.
 *
 * Without it, a child gets a copy of the arena as it was at fork, and neither
 * process sees later changes of the other.  Items that other threads held at fork
 * stay held in the child.  With BUFFERS_VIEW, the bytes remain the parent's: a child can read and
 * execute them, but gets no items, appends nothing and gives nothing back (EACCES).
 *
 * Returns the arena, which the caller destroys or keeps.
 *
 * EINVAL: as for buffers_get(), or flags has unknown bits, both kinds, BUFFERS_VIEW without
 * BUFFERS_RX, or BUFFERS_ARENA_HUGE_PAGES for less than 2 MiB.
 * EADDRNOTAVAIL, ENOMEM, EACCES: as above.
 * ENOSYS: flags has BUFFERS_VIEW, and the system has no second mappings; or flags has
 * BUFFERS_ARENA_FORK_SHARED, and the system has no robust mutexes
 * that processes can share, or no fork: always so on Windows, and under emulators
 * without robust lists.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
struct buffers_arena *buffers_arena_create(const struct buffers_request *window, unsigned flags);

/*
 * buffers_arena_get(): find an item of the arena with enough space, or make one, and lock it
 *
 * arena	made by this process, or inherited from the process that forked it
 * size		bytes that must be free after aligning, at least 1
 * alignment	of the first free byte; a power of two; 0 means 1
 *
 * Returns the item.  The caller uses it as an item from buffers_get().  In an arena
 * with BUFFERS_ARENA_FORK_SHARED it belongs to the calling thread: neither another
 * thread nor a child that is forked meanwhile may use or release it.
 *
 * EINVAL: arena is NULL, size is 0, or alignment is not a power of two.
 * ENOSPC: neither a free item nor the rest of the window has enough space, or size is
 * more than an item can have, however large the window is: 4 GiB less a page, and on
 * Windows 4 GiB less 64 KiB.
 * ENOMEM: the system refuses a lock, or the memory of a new item.
 * EACCES: policy forbids memory of this kind since the arena was made; or the arena has a
 * view that this process did not inherit.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
struct buffers_item *buffers_arena_get(struct buffers_arena *arena, size_t size, size_t alignment);

/*
 * buffers_arena_destroy(): unmap the arena from this process
 *
 * arena	made by this process or inherited; no thread of this process may use
 *		the arena, its items or its memory during the call or afterwards
 *
 * Other processes that share the arena keep it.
 *
 * Returns 0.
 *
 * EINVAL: arena is NULL, or a thread of this process holds an item of it.
 * ENOMEM: the kernel refuses to unmap; the rest of the arena stays mapped.  It may have lost
 * its view: then it provides no more items (EACCES).
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
int buffers_arena_destroy(struct buffers_arena *arena);

/*
 * buffers_walk(): visit every shared buffer of the process, except those of arenas
 *
 * visit	called for each buffer; returns 0 to continue, any other value to stop;
 *		info belongs to the library and is valid during the call only
 * context	passed to visit
 *
 * The walk may miss buffers that other threads make meanwhile.  Use and lock of
 * each buffer are those of one moment.
 *
 * Returns 0 after the last buffer, otherwise the value that visit returned.
 *
 * EINVAL: visit is NULL; the result is -1.
 *
 * Thread-safe, not signal-safe; visit may call any function of the library.
 * Since 0.1.
 */
BUFFERS_NONNULL(1)
int buffers_walk(int (*visit)(const struct buffers_info *info, void *context), void *context);

#ifdef __cplusplus
}
#endif

#endif /* RELOADED_BUFFERS_H */
