/* SPDX-License-Identifier: MIT */
/* plugin.c: an object for dlopen(), with a function to be near to */

int plugin_function(int x);

int plugin_function(int x)
{
	return x + 1;
}
