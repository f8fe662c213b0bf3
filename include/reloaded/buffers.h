/* SPDX-License-Identifier: MIT */
/*
 * libreloaded-buffers: memory at the right place, shared by all who need it
 *
 * The library allocates memory between a given minimum and maximum address
 * and shares it among every user in the process.  A buffer is one stretch of
 * mapped memory that is handed out piece by piece.  buffers_get() finds a
 * buffer that suits, or makes one, and locks it; its holder appends to it and
 * releases it; the next user goes on where the last one stopped.
 *
 *	struct buffers_item *item = buffers_get_near(function, sizeof(code));
 *	if (!item)
 *		err(1, "no memory within a branch of the function");
 *	void *address = buffers_append_code(item, code, sizeof(code));
 *	buffers_release(item);
 *
 * What was appended never moves, is never overwritten by the library, and
 * stays until the process ends.  The memory is readable, writable and
 * executable, unless BUFFERS_RW or BUFFERS_RX ask for another kind.
 *
 * Conventions that hold for every function here:
 *
 * - Sizes are in bytes.  Ranges of addresses are half open: a stretch lies in
 *   a range when min_address <= start and end <= max_address.
 * - Failure is NULL or -1 with errno set from this closed set; a call that
 *   fails changes nothing, unless it says so, a call that succeeds leaves errno alone.
 *
 *	EINVAL		an argument is NULL, or the request contradicts itself
 *	EADDRNOTAVAIL	the range holds no free stretch of that size
 *	ENOMEM		the kernel refuses more memory or more mappings
 *	EACCES		policy forbids executable memory that is writable, or closes
 *			every way to write memory that is not
 *	ENOSPC		the item or arena has less room than that
 *	ENOSYS		this platform cannot do it
 *
 * - Nothing aborts, prints, raises a signal or calls malloc(3); no call is a
 *   cancellation point.
 * - Threads: every function may be called by several threads at once.  An
 *   item belongs to one holder at a time, from buffers_get() to
 *   buffers_release().
 * - Signals: functions marked "signal-safe" may be called from a signal
 *   handler; the others must not, for they may interrupt themselves while
 *   they hold a lock.
 * - Copies: the shared library and static archives within plugins find the
 *   same buffers when the process can publish a file below /tmp, or, on Windows, name
 *   a section; buffers(7) says where and when not.
 * - Pages: what mappings begin at and are long in multiples of; 64 KiB on Windows.
 * - Windows: errno is that of the C runtime that the library was built for; what
 *   GetLastError() says may change with every call.
 * - fork: a child starts without buffers of its own.  Those it inherited stay
 *   mapped, private to it, and usable through their addresses and through the
 *   items its thread held; no new request lands in them.  Arenas are inherited:
 *   see buffers_arena_create().
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
/* BUFFERS_BUILD: for the library and its tests, which know NULL when they see it. */
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
 * Bytes to either side of the branch, less one page of 4096, so that any
 * instruction in the first page of a function reaches all of a buffer that
 * lies within this distance of the function's start, and back.
 *
 *	x86-64	 2 GiB	JMP and CALL rel32: Intel SDM volume 2, "JMP", "CALL"
 *	i386	 all	rel32 wraps around the address space: same place
 *	AArch64	 128 MiB	B and BL, imm26: Arm ARM (DDI 0487) C6.2
 *	Arm	 32 MiB	A32 B and BL, imm24: Arm ARM (DDI 0406) A8.8.18; from T32
 *			code, 16 MiB: ask for that with buffers_request_near()
 *	RISC-V	 2 GiB	AUIPC with JALR, 2048 bytes less upward and so one page
 *			more is left out: unprivileged ISA 2.4, 2.5.1
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
# error "state here how far a direct branch of this architecture reaches"
#endif

/*
 * Kinds of memory: flags of a request
 *
 * BUFFERS_RW	readable and writable, never executable (in a process of Windows
 *			with 32 bits, if that has data execution prevention)
 * BUFFERS_RX		readable and executable, never writable: only the library's
 *			functions write it, by other ways than its address.  Works
 *			where policy forbids memory that is writable and executable
 *			(PR_SET_MDWE, MemoryDenyWriteExecute=), but not where it forbids
 *			all code that is not a file's (ProcessDynamicCodePolicy)
 *
 * Without either, memory is readable, writable and executable (RWX).  Both together
 * contradict each other: EINVAL.
 * A request is met by memory of its kind only.  Since 0.1.
 */
#define BUFFERS_RW	(1u << 0)
#define BUFFERS_RX	(1u << 1)

/*
 * struct buffers_item: a buffer that its holder has locked
 *
 * Opaque.  The library owns it; the pointer stays valid for the life of the
 * process, but only its holder may use it.
 */
struct buffers_item;

/*
 * struct buffers_request: where memory is wanted, and how much
 *
 * Zero what is not needed: a request with only a size is complete.
 */
struct buffers_request {
	uintptr_t min_address;	/* lowest acceptable address */
	uintptr_t max_address;	/* end of the acceptable range; 0: no upper bound */
	const void *target;	/* place new memory as near to this as the range allows; NULL: no preference */
	size_t size;		/* bytes that must be free, at least 1 */
	size_t alignment;	/* of the first free byte; a power of two; 0 means 1 */
	unsigned flags;		/* the kind of memory: BUFFERS_RW, BUFFERS_RX */
	uintptr_t reserved[2];	/* 0 */
};

/*
 * struct buffers_info: what buffers_walk() tells of a buffer
 *
 * Later versions may add members at its end; the library alone makes these.
 */
struct buffers_info {
	void *base;		/* first byte of the buffer */
	size_t size;		/* bytes from there to its end */
	size_t used;		/* bytes from base that were appended or reserved */
	int taken;		/* 1 while somebody holds it, else 0 */
	unsigned flags;		/* its kind: BUFFERS_RW, BUFFERS_RX or 0 */
};

/*
 * buffers_request_near(): a request for memory within reach of a target
 *
 * target	address that the memory must be near to; not dereferenced
 * reach	bytes, at least 1, from the target to the far end of the memory
 * size		bytes that must be free
 *
 * Returns the request: the range [target - reach, target + reach), cut at the
 * ends of the address space, with that target and size and nothing else set.
 * Change its other members as needed.
 *
 * Cannot fail; signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT
struct buffers_request buffers_request_near(const void *target, size_t reach, size_t size);

/*
 * buffers_get(): find or make a buffer that suits, and lock it
 *
 * request	what is wanted; read during the call only
 *
 * All free room of the buffer, from buffers_next() to its end, lies in the
 * requested range; at least request->size bytes of it are free after aligning.
 * A buffer that another user holds is skipped, not waited for.  Where none
 * suits, a new one is mapped: beside the last one for such a request or else at
 * the free place nearest to the target, at least 64 KiB long where the gap allows.
 * Without a target a random place of the range serves as one, at first.
 *
 * Returns the item, which the caller holds until buffers_release().
 *
 * EINVAL: request is NULL; size is 0; max_address is neither 0 nor above
 * min_address; alignment is no power of two; flags are unknown; reserved is not 0.
 * EADDRNOTAVAIL: also for a size of 4 GiB or more, which no item can hold.
 * ENOMEM, EACCES: as above.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
struct buffers_item *buffers_get(const struct buffers_request *request);

/*
 * buffers_get_near(): the same, within BUFFERS_REACH_BRANCH of a target
 *
 * target	the code that will branch to the buffer, or be branched to; not NULL
 * size		bytes that must be free, at least 1
 *
 * Returns, fails and is safe as buffers_get(); EINVAL also when target is NULL.
 * Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
struct buffers_item *buffers_get_near(const void *target, size_t size);

/*
 * buffers_release(): let others use the room that is left
 *
 * item		an item that the caller holds; NULL does nothing
 *
 * Signal-safe as buffers_append().  Since 0.1.
 */
void buffers_release(struct buffers_item *item);

/*
 * buffers_append(): copy bytes into the buffer
 *
 * item		an item that the caller holds
 * data		what to copy, from anywhere, also from buffers_next() where it was
 *		put together; may be NULL when size is 0
 * size		how much of it; 0 copies nothing and returns buffers_next()
 *
 * Returns the address of the copy, which is where buffers_next() pointed.
 *
 * EINVAL: item is NULL, or data is NULL and size is not 0.
 * ENOSPC: less than size bytes remain; nothing was written.
 * EACCES, ENOMEM: only with BUFFERS_RX, as for buffers_overwrite(); the item is
 * as it was, though bytes that are still free may have changed.
 *
 * Signal-safe for an item that the handler's thread holds and was not using
 * when the signal came; not signal-safe with BUFFERS_RX.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1) BUFFERS_READS(2, 3)
void *buffers_append(struct buffers_item *item, const void *data, size_t size);

/*
 * buffers_append_code(): copy instructions into the buffer
 *
 * As buffers_append(), and when it returns the caller can call the copy, and so
 * can every thread that learns its address in a way that synchronizes with the
 * caller.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1) BUFFERS_READS(2, 3)
void *buffers_append_code(struct buffers_item *item, const void *code, size_t size);

/*
 * buffers_reserve(): take room in the buffer without writing it
 *
 * item		an item that the caller holds
 * size		how many bytes; 0 only aligns
 * alignment	of their address; a power of two; 0 means 1
 *
 * Returns the address of the room.  It is the caller's for ever, also after
 * buffers_release(), and holds zeros until somebody writes it; with BUFFERS_RX
 * that takes buffers_overwrite().  Only what an append left that failed, or that a
 * process was killed in, may be there instead of zeros.
 *
 * EINVAL: item is NULL, or alignment is no power of two.
 * ENOSPC: less than size bytes remain after aligning; nothing changed.
 *
 * Signal-safe as buffers_append().  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
void *buffers_reserve(struct buffers_item *item, size_t size, size_t alignment);

/*
 * buffers_next(): where the next append will land
 * buffers_remaining(): bytes that are still free
 * buffers_base(): first byte of the buffer
 * buffers_size(): bytes from there to its end
 *
 * item		an item that the caller holds
 *
 * NULL as an item gives NULL or 0, with EINVAL in errno.
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
 * buffers_overwrite(): change code that was already handed out
 *
 * dst		memory of any kind that was appended to or reserved in a buffer, or
 *		that came from buffers_alloc()
 * src		the new bytes; must not overlap dst
 * size		how many; 0 does nothing
 *
 * Afterwards the caller executes the new bytes; other threads do once their
 * processor has synchronized its instruction stream, which x86 does by itself.
 * Four or eight bytes at an address that is a multiple of as much change as a
 * whole, where the processor can store them so; of others a thread that executes
 * them meanwhile may see a part.
 *
 * Returns 0.
 *
 * EINVAL: dst or src is NULL and size is not 0, or dst is no memory that can be
 * read.  With BUFFERS_RX also EACCES: every way round is closed, such as
 * /proc/self/mem, and ENOMEM: no memory, mapping or descriptor for it.  Bytes in
 * several pages may then have changed in part.
 *
 * Thread-safe as far as the caller's users of dst are; signal-safe but with
 * BUFFERS_RX.  Since 0.1.
 */
BUFFERS_READS(2, 3)
int buffers_overwrite(void *dst, const void *src, size_t size);

/*
 * buffers_overwrite_with(): the same, by a function that edits the bytes
 *
 * dst, size	as above
 * patch	called once with the bytes as they are; changes them in place
 * context	handed to patch
 *
 * The bytes that patch sees may lie elsewhere than at dst, so it reckons
 * addresses from dst, and they are dst's only when this function returns.
 *
 * Returns 0.  EINVAL: dst or patch is NULL and size is not 0.  Else fails as
 * buffers_overwrite(), also when patch was called.
 *
 * As safe as patch is, else as buffers_overwrite().  Since 0.1.
 */
int buffers_overwrite_with(void *dst, size_t size,
			   void (*patch)(void *bytes, size_t size, void *context),
			   void *context);

/*
 * buffers_flush_icache(): make written instructions visible to execution
 *
 * start, size	the bytes that were written
 *
 * For code that was written through its address; the functions above that
 * write code do it themselves.  Signal-safe.  Since 0.1.
 */
void buffers_flush_icache(void *start, size_t size);

/*
 * buffers_alloc(): map memory in a range for the caller alone
 *
 * request	as for buffers_get(); the memory itself is aligned as asked
 * allocated	set to the bytes that were mapped: size in whole pages
 *
 * The memory is mapped at the free place nearest to the target; without one, at a
 * random place of the range, or beside what was mapped so before.
 *
 * Returns the memory, zeroed, which nobody else is given, and which the caller
 * hands back with buffers_free() or keeps.
 *
 * EINVAL: as for buffers_get(), or allocated is NULL.
 * EADDRNOTAVAIL, ENOMEM, EACCES: as above; *allocated is unchanged.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_FRESH BUFFERS_NONNULL(1, 2)
void *buffers_alloc(const struct buffers_request *request, size_t *allocated);

/*
 * buffers_free(): give back what buffers_alloc() mapped
 *
 * address, allocated	as buffers_alloc() gave them, whole; anything else is
 *			as wrong as it would be for munmap(2)
 *
 * Returns 0.  EINVAL: address is NULL or not a page's, or allocated is 0 or no
 * whole number of pages; on Windows also what was not mapped at once, whole.
 * ENOMEM: the kernel refuses.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
int buffers_free(void *address, size_t allocated);

/*
 * buffers_alloc_in(): map memory in a range of another process
 *
 * process	its number, as GetCurrentProcessId() has it there
 * request	as for buffers_get(), with addresses of that process; flags are 0 or
 *		BUFFERS_RW
 * allocated	set to the bytes that were mapped: size in whole pages
 *
 * As buffers_alloc(), and on Windows only.  A process of 64 bits may ask for memory of one
 * of 32 bits.  The caller writes it as it does what else is that process's, by
 * WriteProcessMemory() for one, and makes instructions visible there.
 *
 * Returns the address of the memory there, zeroed; not to be dereferenced here.
 *
 * EINVAL: as for buffers_get(), or allocated is NULL, or there is no such process, or not
 * any more.
 * EACCES: the caller may not map memory there, for which it needs
 * PROCESS_QUERY_INFORMATION, PROCESS_VM_OPERATION and PROCESS_VM_READ.
 * EADDRNOTAVAIL, ENOMEM: as above.
 * ENOSYS: not on Windows; or BUFFERS_RX, for nothing would write it.
 * *allocated is unchanged when it fails.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(2, 3)
void *buffers_alloc_in(uint32_t process, const struct buffers_request *request,
		       size_t *allocated);

/*
 * buffers_free_in(): give back what buffers_alloc_in() mapped
 *
 * process		its number
 * address, allocated	as buffers_alloc_in() gave them, whole
 *
 * Memory that is not given back goes with its process.
 *
 * Returns 0.  EINVAL: as for buffers_free(), or there is no such process.
 * EACCES: the caller may not unmap memory there.  ENOMEM: the kernel refuses.
 * ENOSYS: not on Windows.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
int buffers_free_in(uint32_t process, void *address, size_t allocated);

/*
 * struct buffers_arena: a window of address space that one user keeps for itself
 *
 * Opaque.  The library owns it; the pointer is valid until buffers_arena_destroy()
 * in this process, and in its children.
 */
struct buffers_arena;

/* Children that are forked later use the same memory.  Since 0.1. */
#define BUFFERS_ARENA_FORK_SHARED	(1u << 8)

/*
 * buffers_arena_create(): reserve a window that only its user gets memory from
 *
 * window	where, and how large: its size, in whole pages, is the window's, from
 *		64 KiB or less to many GiB; placed as buffers_alloc() does
 * flags	any of BUFFERS_ARENA_FORK_SHARED, BUFFERS_RW and BUFFERS_RX; the
 *		last two may as well stand in window->flags
 *
 * Pages of the window take no memory until they are used.
 *
 * With BUFFERS_ARENA_FORK_SHARED, the process and its children that fork(2) makes
 * later, and theirs, use the arena at the same time: what one appends all can
 * read, and call.  A process or thread that ends while it holds items, however,
 * gives them back with all that was appended, up to 2048 of them (the kernel's
 * ROBUST_LIST_LIMIT).  Whoever can write the memory, as
 * every such child can, decides what the others execute, and can make them
 * write anywhere: share only with whom you would let do that.
 *
 * Without it, a child has a copy of the arena as it was when it was forked, and
 * neither sees what the other does.  What other threads held then stays held in
 * the child.
 *
 * Returns the arena, which the caller may destroy or keep.
 *
 * EINVAL: as for buffers_get(), or unknown flags.
 * EADDRNOTAVAIL, ENOMEM, EACCES: as above.
 * ENOSYS: BUFFERS_ARENA_FORK_SHARED where locks that survive their holder are missing,
 * as on Windows, where nothing is forked.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
struct buffers_arena *buffers_arena_create(const struct buffers_request *window, unsigned flags);

/*
 * buffers_arena_get(): find or make an item of the arena with room, and lock it
 *
 * arena	made by this process or inherited from one that forked it
 * size		bytes that must be free after aligning, at least 1
 * alignment	of the first free byte; a power of two; 0 means 1
 *
 * Returns the item, for all that is done with those of buffers_get().  With
 * BUFFERS_ARENA_FORK_SHARED it belongs to the calling thread: no other may
 * release it, nor may a child that is forked meanwhile.
 *
 * EINVAL: arena is NULL, size is 0, or alignment is no power of two.
 * ENOSPC: no item that nobody holds has so much room, nor has what is left of
 * the window.
 * ENOMEM: the system refuses a lock, or, on Windows, which is asked when an item is had for
 * the first time, memory.  EACCES: policy has come to forbid it meanwhile, there.
 *
 * Thread-safe, not signal-safe; nor are buffers_append(), buffers_reserve() and
 * buffers_release() for items of a BUFFERS_ARENA_FORK_SHARED arena.  Since 0.1.
 */
BUFFERS_CHECK_RESULT BUFFERS_NONNULL(1)
struct buffers_item *buffers_arena_get(struct buffers_arena *arena, size_t size, size_t alignment);

/*
 * buffers_arena_destroy(): unmap the arena from this process
 *
 * arena	made or inherited; nobody in this process uses it, its items or
 *		their memory any more
 *
 * Other processes that share it keep it.
 *
 * Returns 0.  EINVAL: arena is NULL, or a thread of this process still holds an
 * item of it.
 * ENOMEM: the kernel refuses; what is left of the arena stays mapped.
 *
 * Thread-safe, not signal-safe.  Since 0.1.
 */
int buffers_arena_destroy(struct buffers_arena *arena);

/*
 * buffers_walk(): visit every shared buffer of the process, not those of arenas
 *
 * visit	called for each buffer; info is the library's and valid during
 *		that call; returns 0 to go on, anything else to stop
 * context	handed to visit
 *
 * Buffers that others make meanwhile may be visited or not; their use and lock
 * are as they were at one moment.
 *
 * Returns 0 after the last buffer, else what visit returned.
 * -1 and EINVAL: visit is NULL.
 *
 * Thread-safe; visit may call any function of the library.  Since 0.1.
 */
BUFFERS_NONNULL(1)
int buffers_walk(int (*visit)(const struct buffers_info *info, void *context), void *context);

#ifdef __cplusplus
}
#endif

#endif /* RELOADED_BUFFERS_H */
