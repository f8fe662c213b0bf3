/* SPDX-License-Identifier: MIT */
/* interop/twin: the library beside an implementation with another layout, and the native one */

#include "config.h"
#include "support/interop.h"
#include "support/twin.h"
#include "reloaded/buffers.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <string.h>
#include <unistd.h>

#define SKIP_WITHOUT_SANDBOX() \
	SKIP_IF(!sandbox_tmp(NULL), "no mount namespace for this user")

static const struct buffers_request request = { .size = 64 };

/* The implementations that arrive, in their order. */
enum arrival { LIBRARY, TWIN, NATIVE, NONE };
static const enum arrival orders[][3] = {
	{ LIBRARY, TWIN, NONE }, { TWIN, LIBRARY, NONE },
	{ LIBRARY, TWIN, NATIVE }, { LIBRARY, NATIVE, TWIN }, { TWIN, LIBRARY, NATIVE },
	{ TWIN, NATIVE, LIBRARY }, { NATIVE, LIBRARY, TWIN }, { NATIVE, TWIN, LIBRARY },
};
enum { ORDERS = sizeof(orders) / sizeof(orders[0]) };

enum { MOST_ITEMS = 1000 };

/* An item of the library, with what the test has read from it and written into it. */
struct holding {
	struct buffers_item *item;
	void *base;
	size_t size, used;
	unsigned char *text;
};
static struct holding holdings[MOST_ITEMS];
static unsigned held;

static bool is_intact(const struct holding *holding, unsigned number)
{
	for (unsigned i = 0; i < 64; i++)
		if (holding->text[i] != (unsigned char)(number + i))
			return false;
	return buffers_base(holding->item) == holding->base &&
	       buffers_size(holding->item) == holding->size &&
	       buffers_size(holding->item) - buffers_remaining(holding->item) == holding->used;
}

static void hold_one(void)
{
	unsigned char text[64];
	struct holding *holding = &holdings[held];

	holding->item = buffers_get(&request);
	ck_assert_ptr_nonnull(holding->item);
	for (unsigned i = 0; i < held; i++)
		ck_assert_ptr_ne(holdings[i].item, holding->item);
	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (unsigned char)(held + i);
	holding->text = buffers_append(holding->item, text, sizeof(text));
	ck_assert_ptr_nonnull(holding->text);
	holding->base = buffers_base(holding->item);
	holding->size = buffers_size(holding->item);
	holding->used = holding->size - buffers_remaining(holding->item);
	held++;
}

static void check_holdings(void)
{
	for (unsigned i = 0; i < held; i++)
		ck_assert_msg(is_intact(&holdings[i], i), "item %u of %u", i, held);
}

/* Fills the item, as foreign code may. */
static void use_twin(struct twin_locator *first)
{
	struct twin_item *item = twin_get(first, 64);

	memset((void *)(item->base + item->position), 0xee, item->size - item->position);
	item->position = item->size;
}

static void use_native(struct foreign_locator *first)
{
	struct foreign_item *item = foreign_get(first, 64);
	uint32_t position = item->position;

	memset((void *)(item->base + position), 0xdd, item->size - position);
	item->position = item->size;
}

static void use_one(enum arrival who, struct foreign_locator **first)
{
	if (who == LIBRARY)
		hold_one();
	if (!*first && who != NONE)
		*first = foreign_find(IN_MEMORY);
	if (who == TWIN)
		use_twin((struct twin_locator *)*first);
	if (who == NATIVE)
		use_native(*first);
}

/* The native implementation comes once: the twin and it damage each other. */
START_TEST(nothing_of_the_library_is_damaged)
{
	const enum arrival *order = orders[_i];
	struct foreign_locator *first = NULL;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF(is_emulated(), "the emulator merges mappings of different permissions");
	for (unsigned round = 0; round < 2 * FOREIGN_CAPACITY + 10; round++) {
		for (unsigned i = 0; i < 3; i++)
			if (order[i] != NATIVE || round == 0)
				use_one(order[i], &first);
		if (round % 50 == 0)
			check_holdings();
	}
	check_holdings();
	ck_assert(is_named_by_file(first));
}
END_TEST

/* The library links a locator behind the twin's, and finds its own items there. */
START_TEST(released_items_behind_the_twins_locators_are_found)
{
	struct foreign_locator *first;
	struct buffers_item *item;
	bool is_found = false;

	SKIP_WITHOUT_SANDBOX();
	first = foreign_find((enum foreign_storage)_i);
	for (unsigned i = 0; i < FOREIGN_CAPACITY + 1; i++)
		use_twin((struct twin_locator *)first);
	hold_one();
	hold_one();
	item = holdings[0].item;
	buffers_release(item);
	for (unsigned i = 0; i < 64 && !is_found; i++)
		is_found = buffers_get(&request) == item;
	ck_assert(is_found);
	ck_assert_uint_eq(first->num_items, 0);
	ck_assert_uint_eq(((struct twin_locator *)first)->num_items, FOREIGN_CAPACITY);
}
END_TEST

/* The twin finds no slot in an empty locator of the native implementation that was closed. */
START_TEST(native_locator_is_closed_before_it_is_used)
{
	struct foreign_locator *first;
	struct foreign_item *foreign;

	SKIP_WITHOUT_SANDBOX();
	SKIP_IF(is_emulated(), "the emulator merges mappings of different permissions");
	first = foreign_find((enum foreign_storage)_i);
	foreign = foreign_get(first, 64);
	foreign_release(foreign);
	ck_assert_ptr_eq(buffers_get(&request), foreign);
	ck_assert_uint_eq(first->reserved[0], 0x53);
	ck_assert_uint_eq(first->reserved[1], FOREIGN_CAPACITY);
	use_twin((struct twin_locator *)first);
	ck_assert_uint_eq(first->num_items, 1);
	ck_assert(foreign->is_taken);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("interop/twin");
	TCase *all = tcase_create("twin");

	tcase_set_tags(all, "fork");
	tcase_set_timeout(all, 300);
	tcase_add_loop_test(all, nothing_of_the_library_is_damaged, 0, ORDERS);
	tcase_add_loop_test(all, released_items_behind_the_twins_locators_are_found, 0, STORAGES);
	tcase_add_loop_test(all, native_locator_is_closed_before_it_is_used, 0, STORAGES);
	suite_add_tcase(suite, all);
	return run_suite(suite);
}
