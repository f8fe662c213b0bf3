#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: tests/package/examples.sh
#
# Runs the example programs in the build directory: tests their output, and that a hooked program
# behaves as it does without the hook.
#
# LOG_COMPILER, from the environment, runs programs for another processor, here as in the other
# tests: make check LOG_COMPILER=qemu-arm

usage() {
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}
case ${1-} in -*) usage ;; esac

set -u
export LC_ALL=C
: "${LOG_COMPILER:=}" "${top_srcdir:?}" "${LIBRARY_DIR:?}" "${HEADER:?}"

# program NAME: the path of the program itself, since libtool's wrapper takes longer than it
program() {
	[ ! -e "examples/$1" ] || ./libtool --mode=execute echo "examples/$1"
}

near="$LOG_COMPILER $(program near)"
low2g="$LOG_COMPILER $(program jit/low2g)"
prefork="$LOG_COMPILER $(program jit/prefork)"
patch_loop="$LOG_COMPILER $(program patch-loop)"
hook=$(program hook/hook)
LD_LIBRARY_PATH=$(cd "$LIBRARY_DIR" && pwd)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
# Here, since LD_PRELOAD takes no path with a blank, as TMPDIR may be
scratch=$(mktemp -d "$PWD/examples.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
count=0
failed=0

# ok FACT COMMAND...: the fact holds if the command succeeds
ok() {
	fact=$1
	shift
	count=$((count + 1))
	if "$@"; then
		echo "ok $count - $fact"
	else
		echo "not ok $count - $fact"
		failed=$((failed + 1))
		sed 's/^/#	/' "$scratch/out" "$scratch/err"
	fi
}

skip() {
	echo "skipped: $*"
}

# run COMMAND...: sets status, writes $scratch/out and $scratch/err
run() {
	status=0
	"$@" >"$scratch/out" 2>"$scratch/err" </dev/null || status=$?
}

is() {
	[ "$1" = "$2" ] || { echo "#	'$1' instead of '$2'"; false; }
}

fails_with() {
	is "$status" 1 && is "$(cat "$scratch/out")" '' && is "$(cat "$scratch/err")" "low2g: $1"
}

# machine_of FILE: the number of its processor in ELF
machine_of() {
	od -An -tx1 -j18 -N2 "$1"
}

# The build may be for another processor than the system's own programs.
is_for_system() {
	is_for "$(machine_of "$(command -v ls)")"
}

is_for() {
	[ "$(machine_of "$(program jit/low2g)")" = "$1" ]
}

# LOG_COMPILER may be an emulator, or the kernel may start one.
is_emulated() {
	[ -n "$LOG_COMPILER" ] ||
		! is_for_system && ! { [ "$(uname -m)" = x86_64 ] && is_for ' 03 00'; }	# i386
}

# low2g -----------------------------------------------------------------------

computes() {
	is "$status" 0 && is "$(cat "$scratch/err")" '' && is "$(sed -n 2p "$scratch/out")" "= $1"
}

# EXPECTED|EXPRESSION|DEFINITIONS
results() {
	cat <<-'END'
		56|(x+3)*7|x=5
		7|1+2*3
		9|(1+2)*3
		-4|1-2-3
		2|1-(2-3)
		3|24/4/2
		12|24/(4/2)
		3|7/2
		-3|-7/2
		-3|7/-2
		3|-7/-2
		1|7%2
		-1|-7%2
		1|7%-2
		-1|-7%-2
		0|-6%-1
		6|-6/-1
		1|2*7%13
		14|2*(7%13)
		21|1+2*(3+4*(5-6/2))-2
		-5|-x|x=5
		5|--x|x=5
		-5|---5
		8|3--5
		-15|3*-5
		-2|-(1+1)
		255|0xff
		255|0xFf
		16|010+6
		3735928559|0xdeadbeef
		9223372036854775807|9223372036854775807
		9223372036854775807|0x7fffffffffffffff
		-9223372036854775808|-9223372036854775808
		-9223372036854775808|-0x8000000000000000
		-9223372036854775808|x|x=-9223372036854775808
		-9223372036854775808|-9223372036854775807-1
		-1|-9223372036854775808+9223372036854775807
		9223372036854775807|--9223372036854775807
		-9223372036854775807|9223372036854775807/-1
		-4611686018427387904|-9223372036854775808/2
		0|-9223372036854775808%2
		1000000000000000000|1000000000*1000000000
		63|a*b+_c1-a|a=7 b=8 _c1=0xe
		30|a+aa+aaa|aaa=10 aa=10 a=10
		-10|x|x=-0xa
		5|5|unused=1
		6| 1	+ ( 2 +3 ) |
	END
}

# MESSAGE|EXPRESSION|DEFINITIONS
errors() {
	cat <<-'END'
		division by zero|1/0
		division by zero|1%0
		division by zero|1+x/(x-x)|x=3
		overflow|9223372036854775807+1
		overflow|-9223372036854775807-2
		overflow|4611686018427387904*2
		overflow|-9223372036854775808*-1
		overflow|-(-9223372036854775808)
		overflow|-x|x=-9223372036854775808
		overflow|-9223372036854775808/-1
		overflow|-9223372036854775808%-1
		overflow|x/(1-2)*0|x=-9223372036854775808
		column 1: the number is too big|9223372036854775808
		column 3: the number is too big|1+99999999999999999999999
		column 2: the number is too big|-9223372036854775809
		column 1: the number is too big|0x8000000000000000
		column 1: unknown variable x|x
		column 5: unknown variable y1|x + y1*2|x=1
		column 2: unknown variable xx|(xx)|x=1
		column 1: expected a number, a variable, - or (|
		column 2: expected a number, a variable, - or (|()
		column 3: expected a number, a variable, - or (|1+
		column 3: expected a number, a variable, - or (|1+*2
		column 1: expected a number, a variable, - or (|+1
		column 3: expected an operator or the end|2 @ 3
		column 1: expected a number, a variable, - or (|@
		column 2: expected a number, a variable, - or (|-
		column 5: expected an operator or )|(1+2
		column 4: expected an operator or )|(1 2)
		column 2: expected an operator or the end|1)
		column 3: expected an operator or the end|1 2
		column 3: expected an operator or the end|12a
		column 2: expected an operator or the end|0x
		column 2: expected an operator or the end|2^3
		x: is not of the form NAME=NUMBER|1|x
		=5: is not of the form NAME=NUMBER|1|=5
		x=: is not of the form NAME=NUMBER|1|x=
		x=-: is not of the form NAME=NUMBER|1|x=-
		x=5y: is not of the form NAME=NUMBER|1|x=5y
		x=--5: is not of the form NAME=NUMBER|1|x=--5
		1x=5: is not of the form NAME=NUMBER|1|1x=5
		x=9223372036854775808: the number is too big|1|x=9223372036854775808
		x=2: the variable has a number already|x|x=1 x=2
	END
}

low2g_results() {
	results >"$scratch/results"
	while IFS='|' read -r expected expression definitions; do
		# shellcheck disable=SC2086
		run $low2g "$expression" $definitions
		ok "low2g: $expression${definitions:+ with $definitions} is $expected" \
			computes "$expected"
	done <"$scratch/results"
}

low2g_errors() {
	errors >"$scratch/errors"
	while IFS='|' read -r message expression definitions; do
		# shellcheck disable=SC2086
		run $low2g "$expression" $definitions
		ok "low2g: $expression${definitions:+ with $definitions}: $message" \
			fails_with "$message"
	done <"$scratch/errors"
}

# repeat TIMES TEXT
repeat() {
	awk -v times="$1" -v text="$2" 'BEGIN { while (times--) printf "%s", text }'
}

low2g_limits() {
	run $low2g "$(repeat 100 '(')1$(repeat 100 ')')"
	ok "low2g: 100 parentheses nest" computes 1
	run $low2g "$(repeat 101 '(')1$(repeat 101 ')')"
	ok "low2g: 101 parentheses do not nest" fails_with 'column 101: nested too deeply'
	run $low2g "$(repeat 100 '-')x" x=5
	ok "low2g: 100 signs nest" computes 5
	run $low2g "$(repeat 900 '-')x" x=5
	ok "low2g: 900 signs do not nest" fails_with 'column 102: nested too deeply'
	run $low2g "1$(repeat 499 '+1') "
	ok "low2g: 1000 characters are read" computes 500
	run $low2g "1$(repeat 499 '+1')  "
	ok "low2g: 1001 characters are not read" fails_with 'the expression is longer than 1000 characters'
	run $low2g "$(repeat 99 '(9/')7$(repeat 99 ')')"
	ok "low2g: quotients nest to the right" computes "$(nested_quotients)"
	# shellcheck disable=SC2046
	run $low2g v32 $(seq -f 'v%.0f=7' 1 32)
	ok "low2g: 32 variables are kept" computes 7
	# shellcheck disable=SC2046
	run $low2g v32 $(seq -f 'v%.0f=7' 1 33)
	ok "low2g: 33 variables are not kept" fails_with 'v33=7: more than 32 variables'
}

nested_quotients() {
	value=7
	for _ in $(seq 99); do
		value=$((9 / value))
	done
	echo "$value"
}

prints_address() {
	address=$(sed -n 's/^code at \(0x[0-9a-f]*\), [0-9]* bytes:$/\1/p' "$scratch/out")
	size=$(sed -n 's/^code at 0x[0-9a-f]*, \([0-9]*\) bytes:$/\1/p' "$scratch/out")
	[ -n "$address" ] && [ $((address)) -ge 65536 ] && [ $((address + size)) -le $((1 << 31)) ]
}

prints_bytes() {
	is "$(sed 1,3d "$scratch/out" | grep -cvxE '( [0-9a-f]{2}){1,16}')" 0 &&
		is "$(sed 1,3d "$scratch/out" | wc -w)" "$size" &&
		is "$(sed 1,3d "$scratch/out" | wc -l)" $(((size + 15) / 16))
}

low2g_output() {
	run $low2g '(x+3) * y' x=5 y=7
	ok "low2g: it prints the expression" \
		is "$(sed -n 1p "$scratch/out")" '(x+3) * y with x=5 y=7'
	ok "low2g: the code is in the first 2 GiB" prints_address
	ok "low2g: it prints the number of bytes that it announces, 16 a line" prints_bytes
	run $low2g
	ok "low2g: without arguments the exit status is 2" is "$status" 2
	ok "low2g: without arguments it prints its usage" \
		is "$(cat "$scratch/err")" 'usage: low2g [-v] EXPRESSION [NAME=NUMBER ...]'
	run $low2g --help
	ok "low2g --help: it prints its usage" is "$status:$(cat "$scratch/out")" \
		'0:usage: low2g [-v] EXPRESSION [NAME=NUMBER ...]'
	run sh -c "$low2g 1 >/dev/full"
	ok "low2g: output that cannot be written is an error" \
		fails_with 'standard output: No space left on device'
}

# random_expressions SEED COUNT: with the values that Perl computes; no operand and no
# intermediate result exceeds 2^50
random_expressions() {
	perl - "$1" "$2" <<'END'
use strict;
my ($seed, $count) = @ARGV;
srand($seed =~ /^0/ ? oct $seed : $seed);
my %variables = (x => 5, y => -123456, long_name => 1 << 40);
sub check {
	my ($value) = @_;
	die "too big\n" if abs($value) > 2 ** 50;
	return $value;
}
sub divide {
	my ($operation, $left, $right) = @_;
	die "division by zero\n" if $right == 0;
	use integer;
	return $operation eq "/" ? $left / $right : $left % $right;
}
sub apply {
	my ($operation, $left, $right) = @_;
	return check($left + $right) if $operation eq "+";
	return check($left - $right) if $operation eq "-";
	return check($left * $right) if $operation eq "*";
	return divide($operation, $left, $right);
}
sub number {
	my $value = int rand(rand() < 0.5 ? 10 : 2 ** (1 + rand 48));
	return [rand() < 0.3 ? sprintf("0x%x", $value) : $value, $value, 4];
}
sub blank { return rand() < 0.2 ? " " : "" }
sub enclose {
	my ($node, $least) = @_;
	return $node->[0] if $node->[2] >= $least && rand() < 0.9;
	return "(" . blank() . $node->[0] . ")" . blank();
}
# [text, value, precedence]
sub generate {
	my ($depth) = @_;
	my $choice = rand;
	if ($depth == 0 || $choice < 0.1) {
		return number() if rand() < 0.6;
		my $name = (sort keys %variables)[rand 3];
		return [$name, $variables{$name}, 4];
	}
	my $left = generate($depth - 1);
	return ["-" . blank() . enclose($left, 3), -$left->[1], 3] if $choice < 0.25;
	my $right = generate($depth - 1);
	my $operation = (split //, "++--**/%")[rand 8];
	my $strength = $operation =~ /[+-]/ ? 1 : 2;
	my $text = enclose($left, $strength) . blank() . $operation . blank() .
		enclose($right, $strength + 1);
	return [$text, apply($operation, $left->[1], $right->[1]), $strength];
}
while ($count > 0) {
	my $node = eval { generate(1 + int rand 6) };
	next if !$node || length($node->[0]) > 1000;
	printf "%d|%s\n", $node->[1], $node->[0];
	$count--;
}
END
}

# The same code and value as without -v; the last line has the address in the view.
low2g_view() {
	run $low2g -v '(x+3) * y' x=5 y=7
	if is_emulated && grep -q 'Function not implemented\|Cannot allocate memory' "$scratch/err"; then
		skip "low2g -v: memory cannot be mapped twice here"
		return
	fi
	written=$(sed -n 's/^written at \(0x[0-9a-f]*\), in a view that is never executable$/\1/p' \
		"$scratch/out")
	sed -i '$d' "$scratch/out"
	ok "low2g -v: it computes" is "$(sed -n 2p "$scratch/out")" '= 56'
	ok "low2g -v: the code is in the first 2 GiB" prints_address
	ok "low2g -v: it prints all bytes" prints_bytes
	ok "low2g -v: it is written elsewhere" [ $((written)) -gt 0 -a $((written)) != $((address)) ]
	run $low2g -v
	ok "low2g -v: without an expression the exit status is 2" is "$status" 2
}

low2g_random() {
	if ! command -v perl >/dev/null; then
		skip "low2g: random expressions need perl"
		return
	fi
	seed=${BUFFERS_TEST_SEED:-$(($(date +%s) * 1000 + $$ % 1000))}
	echo "BUFFERS_TEST_SEED=$seed"
	random=200
	[ -z "${BUFFERS_TEST_SLOW-}" ] || random=20
	wrong=0
	random_expressions "$seed" "$random" >"$scratch/expressions"
	while IFS='|' read -r expected expression; do
		run $low2g "$expression" x=5 y=-123456 long_name=1099511627776
		computes "$expected" >"$scratch/why" && prints_address && prints_bytes && continue
		echo "#	$expression is $expected"
		cat "$scratch/why"
		wrong=$((wrong + 1))
	done <"$scratch/expressions"
	ok "low2g: $random random expressions were made" \
		is "$(wc -l <"$scratch/expressions")" "$random"
	ok "low2g: random expressions have the values that Perl computes" is "$wrong" 0
}

test_low2g() {
	low2g_results
	low2g_errors
	low2g_limits
	low2g_output
	low2g_view
	low2g_random
}

# prefork ---------------------------------------------------------------------

# serve LINES ARGUMENT...: sets status, writes $scratch/err, and prefork's answers, in the order
# of the lines, to $scratch/out
serve() {
	lines=$1
	shift
	status=0
	# shellcheck disable=SC2086
	timeout 100 $with $prefork "$@" <"$lines" >"$scratch/unsorted" 2>"$scratch/err" ||
		status=$?
	sort -n "$scratch/unsorted" >"$scratch/out"
}
with=

# The answers without the numbers of lines and processes
plain_answers() {
	process='[1-9][0-9]*'
	sed "s/^[0-9]*: //; s/ ($process compiled)\$//; s/ ($process reused what $process compiled)\$//" \
		"$scratch/out"
}

# answers FILE: each line got one answer, that of the file
answers() {
	is "$status" 0 && is "$(sed 's/:.*//' "$scratch/out")" "$(seq "$(wc -l <"$1")")" &&
		plain_answers | diff "$1" -
}

method='prefork: code is written in a view that is never executable'

# The messages, without that of the method
messages() {
	grep -vxF "$method" "$scratch/err"
}

is_quiet() {
	is "$(messages)" ''
}

# has_killed TIMES
has_killed() {
	is "$(grep -c '^prefork: [0-9]* was killed, [0-9]* goes on$' "$scratch/err")" "$1" &&
		is "$(messages | wc -l)" "$1"
}

# One worker compiled each expression; all other lines with it reused the code.  Expressions have
# no blanks here.
is_compiled_once() {
	awk '
		{ process = $(NF - 1); sub(/^\(/, "", process) }
		/ reused what [0-9]* compiled\)$/ { reused[$2 " " process] = $2; next }
		/ \([0-9]* compiled\)$/ && !($2 in by) { by[$2] = process; next }
		{ print "#	" $0; bad = 1 }
		END {
			for (pair in reused)
				if (pair != reused[pair] " " by[reused[pair]]) {
					print "#	" pair ", not " by[reused[pair]]
					bad = 1
				}
			exit bad
		}
	' "$scratch/out"
}

# write_lines EXPRESSIONS VALUES: writes $scratch/lines, and their answers to $scratch/answers
write_lines() {
	awk -v expressions="$1" -v values="$2" -v answers="$scratch/answers" 'BEGIN {
		for (x = 1; x <= values; x++)
			for (i = 1; i <= expressions; i++) {
				line = i "+7*x x=" x
				print line
				print line " = " i + 7 * x >answers
			}
	}' >"$scratch/lines"
}

prefork_table() {
	results | awk -F'|' -v answers="$scratch/answers" '{
		line = $2 ($3 ? " " $3 : "")
		print line
		print line " = " $1 >answers
	}' >"$scratch/lines"
	# Here, a word without = is part of the expression.
	errors | grep -v '^x: ' | awk -F'|' -v answers="$scratch/answers" '{
		line = $2 ($3 ? " " $3 : "")
		print line
		print line ": " $1 >>answers
	}' >>"$scratch/lines"
	for arguments in '' -w -v '-n 1' '-n 2' '-n 13' $most_workers "-w $most_workers"; do
		# shellcheck disable=SC2086
		serve "$scratch/lines" $arguments
		ok "prefork $arguments: it answers as low2g does" answers "$scratch/answers"
		ok "prefork $arguments: it writes no message" is_quiet
	done
}

prefork_reuse() {
	write_lines 30 20
	for arguments in '-n 1' '-n 5' $most_workers '-w -n 5' '-v -n 5'; do
		# shellcheck disable=SC2086
		serve "$scratch/lines" $arguments
		ok "prefork $arguments: 600 lines are answered" answers "$scratch/answers"
		ok "prefork $arguments: 30 expressions are compiled" \
			is "$(grep -c ' ([0-9]* compiled)$' "$scratch/out")" 30
		ok "prefork $arguments: each expression is compiled once and reused" is_compiled_once
	done
}

prefork_lines() {
	printf '1' >"$scratch/lines"
	serve "$scratch/lines"
	ok "prefork: the last line may lack its end" is "$(plain_answers)" '1 = 1'
	printf '1\0+\0002\n\0\n3' >"$scratch/lines"
	serve "$scratch/lines"
	ok "prefork: NUL characters are ignored" is "$(plain_answers)" \
		"$(printf '%s\n' '1+2 = 3' ': column 1: expected a number, a variable, - or (' '3 = 3')"
	printf '1\n\0\0' >"$scratch/lines"
	serve "$scratch/lines"
	ok "prefork: NUL characters behind the last line are no line" is "$(plain_answers)" '1 = 1'
	{
		printf '%01492d x=2345\n' 0
		printf '%01493d x=2345\n' 0
		printf '%0300000d\n' 0
		printf '7'
	} >"$scratch/lines"
	serve "$scratch/lines"
	ok "prefork: lines of 1499 characters are read, longer lines are not" \
		is "$(plain_answers | sed 's/.*: //')" \
		"$(printf '%s\n' 'the expression is longer than 1000 characters' \
			'the line is too long' 'the line is too long' '7 = 7')"
	{ seq 1001; seq 1000; } >"$scratch/lines"
	serve "$scratch/lines" -n 1
	ok "prefork: 1000 expressions are kept" \
		is "$(grep -cx '[0-9]*: \([0-9]*\) = \1 (.*)' "$scratch/out")" 2000
	ok "prefork: 1001 expressions are not kept" \
		is "$(sed -n 1001p "$scratch/out")" '1001: 1001: no room for another expression'
	serve /dev/null
	ok "prefork: empty input has no answers" is "$status:$(cat "$scratch/out")" 0:
}

prefork_errors() {
	for arguments in -x '-n 0' '-n 65' '-n x' '-n 2x' '-n 4294967298' '-n 2 1+1'; do
		# shellcheck disable=SC2086
		serve /dev/null $arguments
		ok "prefork $arguments: the exit status is 2" is "$status" 2
		ok "prefork $arguments: it prints its usage" \
			grep -qx 'usage: prefork \[-v | -w\] \[-n WORKERS\], 1 to 64' "$scratch/err"
	done
	echo 1 >"$scratch/lines"
	run sh -c "$prefork <'$scratch/lines' >/dev/full"
	ok "prefork: output that cannot be written is an error" is "$status:$(cat \
		"$scratch/err")" '1:prefork: standard output: No space left on device'
}

prefork_input() {
	serve /
	ok "prefork: input that cannot be read is an error" is "$status:$(sed \
		's/[0-9][0-9]*/N/' "$scratch/err")" \
		"$(printf '%s\n' '1:prefork: standard input: Is a directory' 'prefork: N failed')"
	run timeout 20 sh -c "$prefork <&-"
	ok "prefork: a closed standard input is an error" is "$status:$(cat \
		"$scratch/err")" '1:prefork: standard input: Bad file descriptor'
	printf '1+1\r\n2+2\r\n' >"$scratch/lines"
	printf '%s\n' '1+1 = 2' '2+2 = 4' >"$scratch/answers"
	serve "$scratch/lines"
	ok "prefork: lines may end in CR LF" answers "$scratch/answers"
}

# A Perl program that calls prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN) by its number, then
# executes its arguments
write_deny() {
	cat >"$scratch/deny" <<'END'
use Config;
my %numbers = (
	aarch64 => 167, arm => 172, i386 => 172, i686 => 172, powerpc64le => 171,
	riscv64 => 167, s390x => 172, x86_64 => 157,
);
my ($processor) = $Config{archname} =~ /^([^-]+)/;
my $prctl = $numbers{$processor} or exit 77;
exit 77 if syscall($prctl, 65, 1, 0, 0, 0) != 0;
exec @ARGV or exit 127;
END
}

prefork_policy() {
	write_deny
	run perl "$scratch/deny" true
	if [ "$status" != 0 ]; then
		skip "prefork: denying writable code needs perl and Linux 6.3"
		return
	fi
	write_lines 10 10
	with="perl $scratch/deny"
	serve "$scratch/lines"
	ok "prefork: it fails if policy denies writable code" is "$status:$(cat "$scratch/err")" \
		'1:prefork: memory to share near the program: Permission denied'
	for option in -w -v; do
		serve "$scratch/lines" $option
		ok "prefork $option: it computes if policy denies writable code" \
			answers "$scratch/answers"
		ok "prefork $option: it writes no message" is_quiet
		ok "prefork $option: each expression is compiled once" is_compiled_once
	done
	ok "prefork -v: it prints the method" grep -qxF "$method" "$scratch/err"
	with=
}

prefork_random() {
	command -v perl >/dev/null || return
	random_expressions "$seed" 200 | awk -F'|' -v answers="$scratch/answers" '{
		line = $2 " x=5 y=-123456 long_name=1099511627776"
		print line
		print line " = " $1 >answers
	}' >"$scratch/lines"
	serve "$scratch/lines"
	ok "prefork: 200 random expressions have the values that Perl computes" answers "$scratch/answers"
}

# begin ARGUMENT...: starts prefork in the background; it reads from descriptor 3 and writes to
# $scratch/unsorted
begin() {
	rm -f "$scratch/in"
	mkfifo "$scratch/in"
	: >"$scratch/unsorted"	# await() may look before prefork starts
	# shellcheck disable=SC2086
	timeout 100 $prefork "$@" <"$scratch/in" >"$scratch/unsorted" 2>"$scratch/err" &
	served=$!
	exec 3>"$scratch/in"
}

end() {
	exec 3>&-
	status=0
	wait "$served" || status=$?
	sort -n "$scratch/unsorted" >"$scratch/out"
}

# await LINES FILE
await() {
	while [ "$(wc -l <"$2")" -lt "$1" ] && kill -0 "$served" 2>/dev/null; do
		sleep 0.01
	done
}

first_process() {
	sed -n 's/.* (\([0-9]*\) compiled)$/\1/p;q' "$scratch/unsorted"
}

prefork_survivors() {
	begin -n 3
	echo '1+x x=2' >&3
	await 1 "$scratch/unsorted"
	maker=$(first_process)
	kill -9 "$maker"
	echo '1+x x=3' >&3
	end
	ok "prefork: code outlives the process that compiled it" matches "$(sed -n 2p "$scratch/out")" \
		"2: 1+x x=3 = 4 ([0-9]* reused what $maker compiled)"
	ok "prefork: a killed worker is replaced" has_killed 1
	begin -n 1
	echo '1+x x=2' >&3
	await 1 "$scratch/unsorted"
	printf '1+x x' >&3
	kill -9 "$(first_process)"
	echo '=3' >&3
	end
	printf '%s\n' '1+x x=2 = 3' '1+x x=3 = 4' >"$scratch/answers"
	ok "prefork: half a line is not lost with its reader" answers "$scratch/answers"
	ok "prefork: a killed worker is replaced, with -n 1" has_killed 1
}

# children PID: as /proc lists them, if the kernel was built with CONFIG_PROC_CHILDREN
children() {
	cat "/proc/$1/task/$1/children" 2>/dev/null
}

prefork_kills() {
	write_lines 60 10
	begin -n 5
	sed 1q "$scratch/lines" >&3
	await 1 "$scratch/unsorted"
	parent=$(children "$served")
	if [ -z "$parent" ]; then
		end
		skip "prefork: killing any worker needs /proc/PID/task/PID/children"
		return
	fi
	sed 1d "$scratch/lines" >"$scratch/rest"
	exec 5<"$scratch/rest"
	for i in $(seq 50); do
		for _ in 1 2 3 4 5 6 7 8 9 10; do
			IFS= read -r line <&5 && echo "$line" >&3
		done
		# shellcheck disable=SC2046
		set -- $(children "${parent% }")
		shift $((i % $#))
		kill -9 "$1"
		await "$i" "$scratch/err"
	done
	cat <&5 >&3
	exec 5<&-
	end
	ok "prefork: 50 workers were killed at work" has_killed 50
	ok "prefork: all 600 lines are answered once" answers "$scratch/answers"
	ok "prefork: each expression is compiled once despite the kills" is_compiled_once
}

# A preloaded object that counts the steps of all workers, and kills the one at step KILL_AT
write_killer() {
	cat >"$scratch/killer.c" <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned *steps;
static unsigned fatal;
static long parent;

__attribute__((constructor)) static void prepare(void)
{
	int file = open(getenv("KILL_STEPS"), O_RDWR);

	if (strstr(program_invocation_short_name, "prefork"))
		steps = mmap(NULL, sizeof(*steps), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	fatal = (unsigned)atoi(getenv("KILL_AT"));
	parent = syscall(SYS_getpid);
}

static void step(void)
{
	long process = syscall(SYS_getpid);

	if (steps && process != parent && __atomic_add_fetch(steps, 1, __ATOMIC_SEQ_CST) == fatal)
		kill((pid_t)process, SIGKILL);
}

#define STEPS(type, name, parameters, arguments)			\
	type name parameters						\
	{								\
		type (*real) parameters = (type (*) parameters)dlsym(RTLD_NEXT, #name);	\
		type result;						\
									\
		step();							\
		result = real arguments;				\
		step();							\
		return result;						\
	}

STEPS(ssize_t, read, (int file, void *to, size_t size), (file, to, size))
STEPS(ssize_t, write, (int file, const void *from, size_t size), (file, from, size))
STEPS(int, pthread_mutex_lock, (pthread_mutex_t *mutex), (mutex))
STEPS(int, pthread_mutex_unlock, (pthread_mutex_t *mutex), (mutex))
STEPS(int, pthread_mutex_consistent, (pthread_mutex_t *mutex), (mutex))
STEPS(pid_t, getpid, (void), ())
STEPS(void *, buffers_arena_get, (void *arena, size_t size, size_t alignment),
      (arena, size, alignment))
STEPS(void *, buffers_append_code, (void *item, const void *code, size_t size),
      (item, code, size))
END
}

# One run for each step, or for some of them where tests repeat less, until a run has fewer steps.
prefork_steps() {
	printf '%s\n' 'x x=1' 'x x=2' 7 >"$scratch/lines"
	printf '%s\n' 'x x=1 = 1' 'x x=2 = 2' '7 = 7' >"$scratch/answers"
	wrong=0
	stride=1
	[ -z "${BUFFERS_TEST_SLOW-}" ] || stride=10
	steps=0
	while
		steps=$((steps + stride))
		printf '\0\0\0\0' >"$scratch/steps"
		with="env LD_PRELOAD=$scratch/killer.so KILL_STEPS=$scratch/steps KILL_AT=$steps"
		serve "$scratch/lines" -n 2 "$@"
		[ -n "$(messages)" ]
	do
		answers "$scratch/answers" >"$scratch/why" && has_killed 1 >>"$scratch/why" &&
			is_compiled_once >>"$scratch/why" && continue
		echo "#	killed at step $steps:"
		cat "$scratch/why" "$scratch/out" "$scratch/err"
		wrong=$((wrong + 1))
		[ "$wrong" -lt 10 ] || break
	done
	with=
	ok "prefork $*: a kill at step $stride, $((2 * stride)), ... changes nothing" is "$wrong" 0
	ok "prefork $*: there are more than 50 steps" [ "$steps" -gt 50 ]
}

# Robust locks do not work where the system, or an emulator, refuses the list of them.
has_locks() {
	echo 1 >"$scratch/lines"
	serve "$scratch/lines"
	case $(cat "$scratch/err") in
	*'Operation not supported' | *'Function not implemented')
		skip "prefork: there are no robust mutexes here"
		return 1
		;;
	esac
}

# Sets most_workers to an option for the most workers: the parent has a pipe to each of them.
set_most_workers() {
	most_workers=-n64
	case $(ulimit -n) in
	? | ??)
		most_workers=-n32
		skip "prefork: no 64 workers with $(ulimit -n) descriptors"
		;;
	esac
}

test_prefork() {
	has_locks || return
	set_most_workers
	prefork_table
	prefork_reuse
	prefork_lines
	prefork_errors
	prefork_random
	prefork_input
	prefork_policy
	prefork_survivors
	prefork_kills
	write_killer
	# shellcheck disable=SC2086
	run ${CC:-cc} -w -shared -fPIC -o "$scratch/killer.so" "$scratch/killer.c" -ldl
	if [ "$status" = 0 ]; then
		prefork_steps
		prefork_steps -w
		prefork_steps -v
	else
		skip "prefork: killing at every step needs a C compiler"
	fi
}

# hook ------------------------------------------------------------------------

# without_hook FILE: the lines that do not come from the hook
without_hook() {
	grep -av '^hook: ' "$1"
}

printed_calls() {
	grep -c "^hook: $1 #[0-9]*(.*)\$" "$scratch/err"
}

is_total() {
	is "$(sed -n "s/^hook: $1 called \([0-9]*\) times*\$/\1/p" "$scratch/err")" \
		"$(printed_calls "$1")"
}

is_hooked() {
	is "$(grep -c "^hook: $1 at 0x[0-9a-f]*: stole [0-9]* bytes; an absolute jump would " \
		"$scratch/err")" 1
}

# is_unpatched FUNCTION REASON PROGRAM
is_unpatched() {
	is "$(grep '^hook: ' "$scratch/err" | sed 's/0x[0-9a-f]*/ADDRESS/')" \
		"hook: $1: $2; $3 runs unpatched"
}

same_as_plain() {
	is "$status" "$plain_status" && cmp "$scratch/plain" "$scratch/out" &&
		is "$(without_hook "$scratch/err")" "$(without_hook "$scratch/plain-err")"
}

# run_hook ARGUMENT...: removes the message of an emulator, a program of this system, which cannot
# load the object itself
run_hook() {
	run "$hook" "$@"
	sed -i '/^ERROR: ld\.so: object .* from LD_PRELOAD cannot be preloaded/d' "$scratch/err"
}

# run_plain COMMAND...: runs it without the hook, unless the last plain run was of this command
run_plain() {
	[ "$plain" != "$*" ] || return 0
	run "$@"
	plain=$*
	plain_status=$status
	mv "$scratch/out" "$scratch/plain"
	mv "$scratch/err" "$scratch/plain-err"
}
plain=

# compare FUNCTION COMMAND...: runs the command without the hook and with it
compare() {
	function=$1
	shift
	run_plain "$@"
	run_hook "$function" "$@"
}

# hook_libc COMMAND...: the code of glibc's functions depends on its version and on the
# processor, so some cannot be hooked, but no hook may make a difference
hook_libc() {
	for command; do
		command -v "${command%% *}" >/dev/null || continue
		shown=$(echo "$command" | sed "s|$scratch/||g")
		for function in malloc free read write memcpy memset strlen strchr getenv \
			fopen open mmap mprotect syscall exit _exit pthread_mutex_lock \
			__errno_location printf time setlocale fork _setjmp; do
			# shellcheck disable=SC2086
			compare "$function" $command
			ok "hook $function: $shown behaves as without the hook" same_as_plain
			grep -q 'runs unpatched$' "$scratch/err" && continue
			ok "hook $function: each call in $shown is printed" is_total "$function"
		done
	done
}

hook_programs() {
	mkdir -p "$scratch/listed/directory"	# in others, files come and go
	echo file >"$scratch/listed/file"
	hook_libc "ls -l $scratch/listed" 'grep -c . /etc/passwd' 'grep no-such-user /etc/passwd' \
		'cat /etc/passwd' 'sort --parallel=4 /etc/passwd' 'make --version' \
		'perl -e print(1..9);exit(7)'
}

hook_getenv() {
	compare getenv ls -d /
	ok "hook: getenv is hooked in ls" is_hooked getenv
	ok "hook: the calls of getenv show names of variables" \
		grep -q '^hook: getenv #[0-9]*("[A-Z_]*")$' "$scratch/err"
	run sh -c "$hook getenv ls -d / 2>&-"
	ok "hook: a closed standard error is no obstacle" is "$status:$(cat "$scratch/out")" 0:/
	compare getenv sh -c 'ls -d / /etc; exit 3'
	ok "hook: exit status 3 comes through" is "$status:$plain_status" 3:3
	ok "hook: children are not hooked" is "$(grep -c ' stole ' "$scratch/err")" 1
}

hook_environment() {
	for setting in 'none' 'LD_PRELOAD=' 'LD_PRELOAD=libc.so.6' \
		'LD_PRELOAD=libc.so.6 libc.so.6' 'RELOADED_HOOK=' 'RELOADED_HOOK=one:two'; do
		plain=
		case $setting in
		none)
			compare getenv env
			;;
		*)
			run_plain env "$setting" env
			run env "$setting" "$hook" getenv env
			;;
		esac
		for file in plain out; do
			grep -av '^_=' "$scratch/$file" | sort >"$scratch/filtered"
			mv "$scratch/filtered" "$scratch/$file"
		done
		ok "hook: the program sees the same environment, $setting" same_as_plain
	done
}

# The message leaves the address out.
hook_descriptors() {
	compare getenv ls -d /
	mv "$scratch/err" "$scratch/expected"
	for limit in 64 4; do
		run sh -c 'ulimit -n "$0" && exec "$@"' "$limit" "$hook" getenv ls -d /
		ok "hook: with $limit descriptors it reports every call" \
			is "$(printed_calls getenv)" "$(grep -c '^hook: getenv #' "$scratch/expected")"
	done
}

hook_static() {
	echo 'int main(void) { return 3; }' >"$scratch/static.c"
	for option in -static -static-pie; do
		# shellcheck disable=SC2086
		run ${CC:-cc} $option -o "$scratch/static" "$scratch/static.c"
		[ "$status" != 0 ] || run "$scratch/static"
		if [ "$status" != 3 ]; then
			skip "hook: the compiler makes no program with $option"
			continue
		fi
		run_hook getenv "$scratch/static"
		ok "hook: a program linked with $option runs" is "$status" 3
		ok "hook: a message says that it is linked statically ($option)" is_unpatched \
			getenv 'the program is linked statically' static
		run env PATH="$scratch:$PATH" "$hook" getenv static
		ok "hook: PATH leads to that program" is_unpatched \
			getenv 'the program is linked statically' static
	done
}

hook_errors() {
	run "$hook" getenv
	ok "hook: without a program the exit status is 2" is "$status" 2
	ok "hook: without a program it prints its usage" \
		is "$(cat "$scratch/err")" 'usage: hook FUNCTION PROGRAM [ARGUMENT ...]'
	run "$hook" a:b true
	ok "hook: an impossible name has exit status 2" is "$status" 2
	ok "hook: an impossible name has a message" is "$(cat "$scratch/err")" 'hook: no function is called "a:b"'
	# a PATH of readable folders only: an unreadable one would be another error
	run env PATH=/usr/bin:/bin "$hook" getenv no-such-program
	ok "hook: a program that is not found has exit status 127" is "$status" 127
	ok "hook: a program that is not found has a message" \
		is "$(cat "$scratch/err")" 'hook: no-such-program: No such file or directory'
	run "$hook" getenv /
	ok "hook: a program that is not executable has exit status 126" is "$status" 126
	ok "hook: a program that is not executable has a message" is "$(cat "$scratch/err")" 'hook: /: Permission denied'
}

hook_object() {
	mkdir "$scratch/alone" "$scratch/a b"
	cp "$hook" "$scratch/alone/hook"
	run "$scratch/alone/hook" getenv true
	ok "hook: without its object it fails" is "$status" 125
	ok "hook: without its object it prints the names it looked for" is "$(sed "s|$scratch/alone/||g" "$scratch/err")" \
		'hook: neither hook-preload.so nor .libs/hook-preload.so is there to be read'
	cp "$hook" "$scratch/a b/hook"
	cp examples/hook/.libs/hook-preload.so "$scratch/a b"
	run "$scratch/a b/hook" getenv true
	ok "hook: it fails if its path has a blank, which LD_PRELOAD does not take" is "$status" 125
	ok "hook: it prints that LD_PRELOAD takes no blank" is "$(sed "s|$scratch||g" "$scratch/err")" \
		'hook: /a b/hook-preload.so: LD_PRELOAD takes no path with a blank or colon'
}

# With the policy against memory that is writable and executable, as systemd sets it
hook_policy() {
	write_deny
	run perl "$scratch/deny" true
	if [ "$status" != 0 ]; then
		skip "hook: denying writable code needs perl and Linux 6.3"
		return
	fi
	run perl "$scratch/deny" "$hook" getenv ls -d /
	ok "hook: the program runs if policy denies writable code" \
		is "$status:$(cat "$scratch/out")" 0:/
	ok "hook: a message has the reason why it is not hooked" is_unpatched getenv \
		'no executable memory within reach of a jump: Permission denied' ls
}

# FUNCTION|CALLS|STOLEN BYTES|EFFECT OF AN ABSOLUTE JUMP
hooked_x86_64() {
	cat <<-'END'
		jump_inside|3|5|not have fitted in its 7 bytes
		short_branch|3|8|not have fitted in its 9 bytes
		short_branches|3|6|not have fitted in its 11 bytes
		hinted_branch|3|6|not have fitted in its 12 bytes
		short_jump|3|6|not have fitted in its 6 bytes
		long_branch|3|8|not have fitted in its 13 bytes
		long_jump|3|5|not have fitted in its 5 bytes
		call|3|9|have cost 16
		operand|3|7|not have fitted in its 11 bytes
		operand_immediate|3|8|have cost 14
		operand_store|3|11|not have fitted in its 13 bytes
		operand_vector|3|8|have cost 14
		whole|3|5|not have fitted in its 5 bytes
		increment|6||
	END
}

hooked_i386() {
	cat <<-'END'
		jump_inside|3|5|
		short_branch|3|9|
		short_branches|3|6|
		hinted_branch|3|5|
		short_jump|3|6|
		long_branch|3|8|
		long_jump|3|5|
		call|3|9|
		call_next|3|5|
		call_thunk|3|5|
		push_call_thunk|3|6|
		registers|3||
		whole|3|5|
		increment|6||
	END
}

hooked_arm64() {
	cat <<-'END'
		address|3|4|have cost 16
		address_back|3|4|have cost 16
		page|3|4|have cost 16
		page_back|3|4|have cost 16
		load_32|3|4|not have fitted in its 12 bytes
		load_64|3|4|not have fitted in its 12 bytes
		load_64_back|3|4|not have fitted in its 12 bytes
		load_signed|3|4|not have fitted in its 12 bytes
		load_single|3|4|have cost 16
		load_double|3|4|have cost 16
		load_quad|3|4|have cost 16
		prefetch|3|4|not have fitted in its 12 bytes
		jump|3|4|not have fitted in its 4 bytes
		jump_back|3|4|not have fitted in its 4 bytes
		called|3|4|not have fitted in its 12 bytes
		if_less|3|4|not have fitted in its 12 bytes
		if_less_back|3|4|not have fitted in its 12 bytes
		if_zero|3|4|not have fitted in its 12 bytes
		if_zero_back|3|4|not have fitted in its 12 bytes
		unless_zero|3|4|not have fitted in its 12 bytes
		unless_bit|3|4|not have fitted in its 12 bytes
		unless_bit_back|3|4|not have fitted in its 12 bytes
		if_negative|3|4|not have fitted in its 12 bytes
		padded|3|4|have cost 16
		padded_for_jumps|3|4|not have fitted in its 12 bytes
		padded_for_both|3|4|not have fitted in its 12 bytes
		signing|3|4|have cost 16
		signing_b|3|4|have cost 16
		padded_signing|3|4|have cost 16
		tiny|3|4|not have fitted in its 4 bytes
		increment|12||
		inside|3|4|have cost 16
	END
}

hook_targets() {
	{
		"hooked_$(echo "$machine" | tr - _)"
		printf '%s|||\n' 'recursive|4' 'many|1' 'variadic|1'
	} >"$scratch/hooked"
	while IFS='|' read -r function calls stolen far; do
		compare "$function" "$scratch/targets"
		ok "hook: $function behaves as without the hook, hooked" same_as_plain
		ok "hook: the total of $function is the number of printed calls" is_total "$function"
		ok "hook: $function is called $calls times" \
			is "$(printed_calls "$function")" "$calls"
		[ -n "$stolen" ] || continue
		ok "hook: $function costs $stolen bytes, $far for an absolute jump" grep -q \
			": stole $stolen bytes; ${far:+an absolute jump would $far; }tramp" \
			"$scratch/err"
	done <"$scratch/hooked"
}

# FUNCTION|REASON
unpatchable_x86_64() {
	cat <<-'END'
		tiny|its code ends after 3 of the 5 bytes that a jump takes
		unsized|its code ends after 4 of the 5 bytes that a jump takes
		falls_through|its code ends after 4 of the 5 bytes that a jump takes
		jumper|its code ends after 2 of the 5 bytes that a jump takes
		zero_jump|its instruction jrcxz cannot be moved
		looper|its instruction loop cannot be moved
		inside|a branch at ADDRESS goes into its first 6 bytes
		entered_inside|a branch at ADDRESS goes into its first 7 bytes
	END
}

unpatchable_i386() {
	unpatchable_x86_64 | sed 's/jrcxz/jecxz/; /^inside/s/6/7/; /^entered_inside/s/7/5/'
}

unpatchable_arm64() {
	cat <<-'END'
		only_pad|its code ends with its landing pad
		behind_pad|a branch at ADDRESS goes behind its landing pad
		variant|it may take arguments in registers that a call does not keep
		signing_with_pc|its instruction ADDRESS cannot be moved
	END
}

hook_unpatchable() {
	{
		printf '%s\n' 'nothing|neither the program nor a library of it has such a function'
		printf '%s|it is data, not a function\n' number untyped table
		"unpatchable_$(echo "$machine" | tr - _)"
	} >"$scratch/unpatchable"
	while IFS='|' read -r function reason; do
		compare "$function" "$scratch/targets"
		ok "hook: $function behaves as without the hook, unpatched" same_as_plain
		ok "hook: $function is unpatched: $reason" is_unpatched "$function" "$reason" targets
	done <"$scratch/unpatchable"
}

matches() {
	expr "X$1" : "X$2\$" >/dev/null || { echo "#	$1 instead of $2"; false; }
}

hook_arguments() {
	run_hook probe_number "$scratch/targets" all
	sed -n 's/^hook: probe_number #[0-9]*(\(.*\))$/\1/p' "$scratch/err" >"$scratch/arguments"
	while IFS= read -r pattern; do
		IFS= read -r argument <&3
		ok "hook: an argument is printed as $pattern" matches "$argument" "$pattern"
	done 3<"$scratch/arguments" <<-'END'
		"plain"
		"a \\"quoted\\\\\\n\\tword\\r"
		"a text of exactly forty characters \.\.\.\.\."
		"a text of exactly forty-one characters\.\."\.\.\.
		0x[0-9a-f]*
		0x[0-9a-f]*
		0x[0-9a-f]*
		0x[0-9a-f]*
		"ended"
		0x[0-9a-f]*
		0
		1
		4095
		0xf\{8,16\}
		0x80\{7,15\}
		0xffffffff
	END
	ok "hook: 16 arguments are printed" is "$(wc -l <"$scratch/arguments")" 16
}

hook_threads() {
	run_hook probe_number "$scratch/targets" threads
	ok "hook: all calls in four threads are printed" is "$(printed_calls probe_number)" 10000
	ok "hook: all calls in four threads are counted" is_total probe_number
	ok "hook: calls in four threads have unique numbers" \
		is "$(grep -o ' #[0-9]*' "$scratch/err" | sort -u | wc -l)" 10000
}

hook_forks() {
	run_hook probe_number "$scratch/targets" fork
	ok "hook: calls in a forked child are printed" is "$(sed -n \
		's/^hook: probe_number #\(.*\)$/\1/p' "$scratch/err" | tr '\n' ' ')" \
		'1("before") 2("in the child") 3("after") '
	ok "hook: the total is printed once, by the parent" is_total probe_number
}

# A program at a fixed address takes the address of its own PLT entry for that of getenv.
hook_fixed() {
	cat >"$scratch/fixed.c" <<'END'
#include <locale.h>
#include <stdlib.h>

int main(void)
{
	char *(*volatile get)(const char *) = getenv;

	setlocale(LC_ALL, "");
	return get("PATH") ? 3 : 4;
}
END
	# shellcheck disable=SC2086
	run ${CC:-cc} -O1 -fno-pie -no-pie -o "$scratch/fixed" "$scratch/fixed.c"
	if [ "$status" != 0 ]; then
		skip "hook: the compiler makes no programs at a fixed address"
		return
	fi
	compare getenv "$scratch/fixed"
	ok "hook: a program at a fixed address behaves as without the hook, hooked" same_as_plain
	ok "hook: calls of a program at a fixed address are printed" grep -q '("PATH")$' "$scratch/err"
	ok "hook: calls of the C library in that program are printed" grep -q '("LC_ALL")$' "$scratch/err"
}

hook_system() {
	if ! is_for_system; then
		skip "hook: programs here are for another processor"
		return
	fi
	hook_getenv
	hook_descriptors
	hook_environment
	hook_policy
	hook_programs
}

# Functions that can be hooked and functions that cannot, in a program that calls them all
hook_functions() {
	# shellcheck disable=SC2086
	run ${CC:-cc} -O1 -w -rdynamic -I"$top_srcdir/tests" -o "$scratch/targets" \
		"$top_srcdir/tests/support/hook-targets.c" -pthread
	ok "hook: the functions to hook are compiled" is "$status" 0
	[ "$status" = 0 ] || return
	machine=$("$scratch/targets" machine)
	hook_targets
	hook_unpatchable
	hook_libc "$scratch/targets"
	if is_emulated; then
		skip "hook: process_vm_readv() fails under an emulator"
	else
		hook_arguments
		hook_forks
		hook_fixed
	fi
	hook_threads
	hook_static
}

test_hook() {
	run env "$hook"
	if [ "$status" = 126 ]; then
		skip "hook: the kernel cannot execute programs of this build"
		return
	fi
	hook_errors
	hook_object
	hook_functions
	hook_system
}

# README shows a function of near.c.
is_snippet_of_readme() {
	sed -n '/^    static void \*place_near/,/^    }$/{s/^    //;p;}' "$top_srcdir/README" >"$scratch/out"
	sed -n '/^static void \*place_near/,/^}$/p' "$top_srcdir/examples/near.c" |
		expand >"$scratch/err"
	[ -s "$scratch/out" ] && cmp -s "$scratch/out" "$scratch/err"
}

# compiles STANDARD FILE...: a strict standard hides declarations of the system
compiles() {
	standard=$1
	shift
	for file; do
		# shellcheck disable=SC2086
		run ${CC:-cc} $HEADER -std="$standard" -Wall -Werror -fsyntax-only \
			"$top_srcdir/examples/$file"
		[ "$status" = 0 ] || return
	done
}

test_standards() {
	files=near.c
	[ ! -e examples/jit/low2g ] || files="$files jit/low2g.c jit/prefork.c jit/turns.c
		jit/compile.c jit/target.c"
	[ -z "$hook" ] || files="$files hook/hook.c hook/hook-preload.c hook/hook-machine.c
		hook/segment.c patch-loop.c"
	for standard in c99 c11; do
		# shellcheck disable=SC2086
		ok "the examples compile with -std=$standard" compiles "$standard" $files
	done
}

test_near() {
	ok "near: README has its function" is_snippet_of_readme
	# shellcheck disable=SC2086
	run $near
	ok "near: it places code near main()" is "$status" 0
	case $(machine_of "$(program near)") in
	' 3e 00' | ' 03 00')	# its code is for x86
		ok "near: the code returns 42" grep -q -x 'it returns 42' "$scratch/out"
		;;
	esac
}

test_patch_loop() {
	# shellcheck disable=SC2086
	run $patch_loop 1000
	ok "patch-loop: it hooks and unhooks" is "$status" 0
	ok "patch-loop: memory stays flat" grep -q -x 'memory stays flat' "$scratch/out"
}

test_standards
test_near
if [ -e examples/jit/low2g ]; then
	test_low2g
	test_prefork
else
	skip "low2g and prefork were not built: they support some processors, and no sanitizer"
fi
if [ -n "$hook" ]; then
	test_patch_loop
	test_hook
else
	skip "hook was not built: it supports some processors, no sanitizer, and on x86 needs Zydis"
fi
echo "$count cases, $failed failed"
[ "$failed" = 0 ]
