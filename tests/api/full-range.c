/* SPDX-License-Identifier: MIT */
/* api/full-range.c: requests in full ranges, in which the program unmaps memory by itself */

#include "config.h"
#include "reloaded/buffers.h"
#include "support/restrict.h"
#include "support/supervise.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/*
 * A range of addresses that the test fills, and a record of its pages
 */

enum { PAGES = 96 };

struct range {
	uintptr_t start;
	bool is_mapped[PAGES];
};

static char *page_of(const struct range *range, size_t page)
{
	return (char *)range->start + page * granularity();
}

static void record(struct range *range, size_t first, size_t pages, bool is_mapped)
{
	memset(range->is_mapped + first, is_mapped, pages);
}

/* Maps pages that are free.  Neighbours with other permissions stay mappings of their own. */
static void take_pages(struct range *range, size_t first, size_t pages)
{
	for (size_t page = first; page < first + pages; page++) {
		if (range->is_mapped[page])
			continue;
		ck_assert_ptr_eq(reserve((uintptr_t)page_of(range, page), granularity()),
				 page_of(range, page));
		if (page % 3 == 0)
			protect(page_of(range, page), granularity(), "r--");
	}
	record(range, first, pages, true);
}

static void unmap_pages(struct range *range, size_t first, size_t pages)
{
	unreserve(page_of(range, first), pages * granularity());
	record(range, first, pages, false);
}

static struct range fill_range(uintptr_t start)
{
	struct range range = { .start = start };

	take_pages(&range, 0, PAGES);
	return range;
}

static bool has_place(const struct range *range, size_t pages, size_t alignment)
{
	for (size_t first = 0; first + pages <= PAGES; first++)
		if ((uintptr_t)page_of(range, first) % alignment == 0 &&
		    !memchr(range->is_mapped + first, true, pages))
			return true;
	return false;
}

static struct buffers_request request_in(const struct range *range, size_t pages)
{
	return (struct buffers_request){
		.min_address = range->start,
		.max_address = range->start + PAGES * granularity(),
		.target = page_of(range, PAGES / 2),
		.size = pages * granularity(),
	};
}

/* 0, or the line of the first fact that does not hold: the call succeeds where a place exists. */
static int find_place(struct range *range, const struct buffers_request *request, char **found)
{
	size_t pages = request->size / granularity();
	bool exists = has_place(range, pages, request->alignment ? request->alignment : 1);
	size_t allocated = 0;
	size_t first;

	errno = 0;
	*found = buffers_alloc(request, &allocated);
	if (!*found) {
		STEP(errno == EADDRNOTAVAIL);
		STEP(!exists);
		return 0;
	}
	STEP(allocated == request->size);
	first = ((uintptr_t)*found - range->start) / granularity();
	STEP(first + pages <= PAGES);
	STEP(!memchr(range->is_mapped + first, true, pages));
	record(range, first, pages, true);
	return 0;
}

static char *find_and_check(struct range *range, const struct buffers_request *request)
{
	char *found;

	ck_assert_int_eq(find_place(range, request, &found), 0);
	return found;
}

static void check_full(struct range *range, size_t pages)
{
	struct buffers_request request = request_in(range, pages);

	ck_assert(!has_place(range, pages, 1));
	for (unsigned i = 0; i < 3; i++)
		ck_assert_ptr_null(find_and_check(range, &request));
}

/*
 * Systems that answer in other ways
 */

static bool answer_all(void)
{
	return true;
}

static bool answer_no_queries(void)
{
	return refuse_call(SYS_ioctl, ENOTTY);
}

static bool answer_no_lists(void)
{
	return refuse_call(SYS_openat, EACCES);
}

static bool answer_no_msync(void)
{
	return refuse_call(SYS_msync, EPERM);
}

/* As an emulator does that keeps all addresses for the program. */
static bool answer_wrong(void)
{
	return refuse_call(SYS_msync, 0);
}

static bool (*const systems[])(void) = {
	answer_all, answer_no_queries, answer_no_lists, answer_no_msync, answer_wrong,
};
enum { SYSTEMS = sizeof(systems) / sizeof(systems[0]) };

/* The gaps are too small, until one of their neighbours is unmapped. */
START_TEST(place_at_any_position_is_found)
{
	struct range range = fill_range(secluded_address());
	struct buffers_request request = request_in(&range, 2);
	size_t step = is_slow() ? 7 : 1;

	SKIP_IF(!systems[_i](), NO_FILTER);
	for (size_t gap = 5; gap < PAGES; gap += 12)
		unmap_pages(&range, gap, 1);
	check_full(&range, 2);
	for (size_t page = 0; page < PAGES; page += step) {
		if (!range.is_mapped[page])
			continue;
		unmap_pages(&range, page, 1);
		find_and_check(&range, &request);
		take_pages(&range, page, 1);
		check_full(&range, 2);
	}
}
END_TEST

/*
 * Ways to free memory
 */

static void free_by_munmap(char *page)
{
	unreserve(page, granularity());
}

static void free_by_moving(char *page)
{
	void *new = reserve(0, granularity());

	ck_assert_ptr_eq(mremap(page, granularity(), granularity(),
				MREMAP_MAYMOVE | MREMAP_FIXED, new), new);
}

/* The page and the one before are one mapping, because both are inaccessible. */
static void free_by_shrinking(char *page)
{
	char *before = page - granularity();

	protect(before, 2 * granularity(), "---");
	ck_assert_ptr_eq(mremap(before, 2 * granularity(), granularity(), 0), before);
}

static void *free_in_thread(void *page)
{
	free_by_munmap(page);
	return NULL;
}

static void free_by_thread(char *page)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, free_in_thread, page), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

static void free_by_library(char *page)
{
	ck_assert_int_eq(buffers_free(page, granularity()), 0);
}

static void (*const ways[])(char *page) = {
	free_by_munmap, free_by_moving, free_by_shrinking, free_by_thread, free_by_library,
};
enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

START_TEST(place_freed_in_any_way_is_found)
{
	static const size_t freed[] = { 1, PAGES / 2, PAGES / 2 + 1, PAGES - 1 };
	struct range range = fill_range(secluded_address());
	struct buffers_request request = request_in(&range, 1);

	for (size_t i = 0; i < sizeof(freed) / sizeof(freed[0]); i++) {
		check_full(&range, 1);
		ways[_i](page_of(&range, freed[i]));
		record(&range, freed[i], 1, false);
		ck_assert_ptr_eq(find_and_check(&range, &request), page_of(&range, freed[i]));
	}
	check_full(&range, 1);
}
END_TEST

/* buffers_get() fills the range with buffers of its own, and finds each page freed later. */
START_TEST(place_for_a_buffer_is_found)
{
	struct range range = fill_range(secluded_address());
	struct buffers_request request = request_in(&range, 1);
	struct buffers_item *item;

	for (size_t page = 0; page < PAGES; page += 19) {
		for (unsigned i = 0; i < 3; i++) {
			ck_assert_ptr_null(buffers_get(&request));
			ck_assert_int_eq(errno, EADDRNOTAVAIL);
		}
		unmap_pages(&range, page, 1);
		item = buffers_get(&request);
		ck_assert_ptr_eq(buffers_base(item), page_of(&range, page));
		record(&range, page, 1, true);
	}
}
END_TEST

/*
 * Processes
 */

static int use_in_child(void *context)
{
	struct range *range = context;
	struct buffers_request request = request_in(range, 1);
	char *found;

	STEP(find_place(range, &request, &found) == 0 && !found);
	unmap_pages(range, 40, 1);
	STEP(find_place(range, &request, &found) == 0 && found == page_of(range, 40));
	STEP(find_place(range, &request, &found) == 0 && !found);
	return 0;
}

/* What a child unmaps stays mapped in its parent. */
START_TEST(parent_and_child_find_their_own_places)
{
	struct range range = fill_range(secluded_address());
	struct buffers_request request = request_in(&range, 1);
	struct range copy = range;

	check_full(&range, 1);
	run_child(use_in_child, &copy);
	check_full(&range, 1);
	unmap_pages(&range, 60, 1);
	ck_assert_ptr_eq(find_and_check(&range, &request), page_of(&range, 60));
}
END_TEST

/*
 * Cost
 */

static struct supervision supervision;

static int count_others(int number, void *others)
{
	__atomic_fetch_add((unsigned *)others, number != SYS_msync, __ATOMIC_RELAXED);
	return 0;
}

static int refuse_requests(struct range *range)
{
	struct buffers_request request = request_in(range, 2);
	char *found;

	for (unsigned i = 0; i < 3; i++) {
		STEP(find_place(range, &request, &found) == 0 && !found);
		STEP(!buffers_get(&request) && errno == EADDRNOTAVAIL);
	}
	return 0;
}

static int refuse_under_supervision(void *range)
{
	int line = refuse_requests(range);

	supervise_begin(&supervision);
	line = line ? line : refuse_requests(range);
	supervise_end(&supervision);
	return line;
}

/* The supervisor needs the call itself. */
static int refuse_without_queries(void *range)
{
	STEP(answer_no_queries());
	return refuse_under_supervision(range);
}

START_TEST(full_range_is_refused_without_a_search)
{
	struct range range = fill_range(secluded_address());
	unsigned others = 0;

	SKIP_IF(!can_supervise(), NO_LISTENER);
	SKIP_IF(!can_probe(), NO_PROBES);
	SKIP_IF(!getauxval(AT_SYSINFO_EHDR), "the library asks only a kernel that has a vDSO");
	for (size_t gap = 5; gap < PAGES; gap += 12)
		unmap_pages(&range, gap, 1);
	supervision = (struct supervision){ .judge = count_others, .context = &others };
	ck_assert_int_eq(run_supervised(&supervision, _i ? refuse_without_queries :
							   refuse_under_supervision, &range), 0);
	ck_assert_uint_eq(__atomic_load_n(&others, __ATOMIC_RELAXED), 0);
}
END_TEST

/*
 * Random steps
 */

struct worker {
	pthread_t thread;
	struct range range;
	uint64_t seed;
	unsigned steps;
	unsigned refused;
	int fault;		/* the line of a fact that did not hold */
};

static void change_range(struct worker *worker)
{
	size_t pages = 1 + random_below(&worker->seed, 3);
	size_t first = random_below(&worker->seed, PAGES - pages);

	if (random_below(&worker->seed, 4) == 0)
		unmap_pages(&worker->range, first, pages);
	else
		take_pages(&worker->range, first, pages);
}

static int request_randomly(struct worker *worker)
{
	struct buffers_request request =
		request_in(&worker->range, 1 + random_below(&worker->seed, 4));
	char *found;
	int line;

	request.alignment = granularity() << random_below(&worker->seed, 3);
	if (random_below(&worker->seed, 2))
		request.target = page_of(&worker->range, random_below(&worker->seed, PAGES));
	else if (random_below(&worker->seed, 2))
		request.target = NULL;
	line = find_place(&worker->range, &request, &found);
	worker->refused += !found;
	if (found && random_below(&worker->seed, 4) == 0) {
		STEP(buffers_free(found, request.size) == 0);
		record(&worker->range, (size_t)(found - page_of(&worker->range, 0)) / granularity(),
		       request.size / granularity(), false);
	}
	return line;
}

static void *take_random_steps(void *context)
{
	struct worker *worker = context;

	for (unsigned i = 0; i < worker->steps && !worker->fault; i++) {
		if (random_below(&worker->seed, 4) == 0)
			change_range(worker);
		else
			worker->fault = request_randomly(worker);
	}
	return NULL;
}

START_TEST(place_is_found_exactly_if_one_exists)
{
	enum { THREADS = 4 };
	static struct worker workers[THREADS];
	uint64_t seed = seed_random();
	/* Asked for once: the stacks of new threads move it.  Packed spans lie apart, too. */
	uintptr_t start = secluded_address();
	size_t distance = 2 * PAGES * granularity();

	SKIP_IF(!systems[_i](), NO_FILTER);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){
			.range = fill_range(start + i * distance),
			.seed = next_random(&seed),
			.steps = how_many(6000, 200000),
		};
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, take_random_steps,
						&workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
		ck_assert_int_eq(workers[i].fault, 0);
		ck_assert_uint_gt(workers[i].refused, workers[i].steps / 4);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("api/full-range");
	TCase *all = tcase_create("full ranges");

	tcase_set_timeout(all, 100);
	tcase_add_loop_test(all, place_at_any_position_is_found, 0, SYSTEMS);
	tcase_add_loop_test(all, place_freed_in_any_way_is_found, 0, WAYS);
	tcase_add_test(all, place_for_a_buffer_is_found);
	tcase_add_test(all, parent_and_child_find_their_own_places);
	tcase_add_loop_test(all, full_range_is_refused_without_a_search, 0, 2);
	tcase_add_loop_test(all, place_is_found_exactly_if_one_exists, 0, SYSTEMS);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
