/* SPDX-License-Identifier: MIT */
/* copies-linux.c: load and unload copies of the library */

#include "config.h"
#include "support/copies.h"
#include "support/sandbox.h"
#include "support/support.h"

#include <dlfcn.h>
#include <unistd.h>

void *find_in_copy(const struct copy *copy, const char *name)
{
	return dlsym(copy->handle, name);
}

bool load_copy(struct copy *copy, const char *file, bool is_isolated)
{
	int flags = RTLD_NOW | RTLD_LOCAL;

	copy->handle = is_isolated ? dlmopen(LM_ID_NEWLM, file, flags) : dlopen(file, flags);
	if (copy->handle && look_up_calls(copy))
		return true;
	printf("%s\n", dlerror());
	return false;
}

void drop_copy(struct copy *copy)
{
	ck_assert_int_eq(dlclose(copy->handle), 0);
}

bool close_copy(struct copy *copy, const char *file)
{
	void *handle;
	bool is_gone;

	drop_copy(copy);
	handle = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
	is_gone = !handle;
	if (handle)
		dlclose(handle);
	return is_gone;
}

uintptr_t rendezvous_address(void)
{
	return (uintptr_t)read_address(rendezvous_path(NULL, getpid()));
}
