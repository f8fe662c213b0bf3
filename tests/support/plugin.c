/* SPDX-License-Identifier: MIT */
/* plugin.c: a shared object with one function, which serves as a target address */

int plugin_function(int x);

int plugin_function(int x)
{
	return x + 1;
}
