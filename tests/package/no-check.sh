#!/bin/sh
# SPDX-License-Identifier: MIT
# Stands for the test programs where configure did not find Check.
echo "the tests need Check (https://libcheck.github.io/check): none of them was built"
exit 1
