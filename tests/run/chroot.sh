# shellcheck shell=bash disable=SC2154
# SPDX-License-Identifier: MIT
#
# chroot.sh: the parts that tests/run/cross, windows and clients share, for bash to source
#
# The caller sets $here, this directory; $build, a configured build directory; $work, a directory
# for the logs; and $script, the script's name.  Afterwards $work is absolute; $state is a directory that the
# script removes when it exits; $chroot is a path below it, where nothing exists yet.

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C.UTF-8

# skip_all REASON: print the reason, write it to a log, and exit
skip_all() {
	mkdir -p "$work/tests"
	echo "skipped: $1" | tee "$work/tests/$script.log"
	exit 0
}

[ "$(id -u)" = 0 ] || skip_all "tests/run/$script needs root"
command -v mmdebstrap >/dev/null || skip_all "no mmdebstrap here"
unshare --user --mount --pid --fork --kill-child true || skip_all "no namespaces here"

mkdir -p "$work" || exit 1
"$here/dist" "$build" "$work" || exit 1
work=$(cd "$work" && pwd)
state=$(mktemp -d -p "$work") || exit 1
chmod 755 "$state"		# apt works as a user of its own
chroot=$state/chroot

# The mounts are in other namespaces, so rm should meet none; --one-file-system makes sure.
leave() {
	for worker in $workers; do
		kill -- "-$worker"
	done 2>/dev/null
	wait
	rm -rf --one-file-system "$state"
}
workers=
trap leave EXIT
trap 'exit 1' HUP INT TERM

# The main archive alone: security updates reach the architectures at different times.
# shellcheck disable=SC2016
: "${MIRROR=$(apt-get indextargets --format '$(REPO_URI)' \
	'Created-By: Packages' 'Codename: bookworm' | head -n 1)}"
export MIRROR

# make_chroot ARCHITECTURES PACKAGE...: with the tarball's tree in /srv/source
make_chroot() {
	architectures=$1
	shift
	unshare --mount mmdebstrap --quiet --variant=apt --skip=cleanup/apt/lists \
		--dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--architectures="$architectures" --include="$*" \
		bookworm "$chroot" "deb $MIRROR bookworm main" || return
	sed 's/^deb /deb-src /' "$chroot/etc/apt/sources.list" \
		>"$chroot/etc/apt/sources.list.d/source.list"
	mkdir "$chroot/srv/source" "$chroot/srv/check"
	tar -xf "$work/source.tar.xz" -C "$chroot/srv/source" --strip-components 1
	mkdir "$chroot/srv/build"
}

# in_chroot COMMAND...: in the chroot as root; all processes end with the command
in_chroot() {
	unshare --mount --pid --fork --kill-child sh -ec '
		chroot=$0
		mount --make-rprivate /
		mount -t proc proc "$chroot/proc"
		mount --rbind /dev "$chroot/dev"
		mount -t tmpfs tmpfs "$chroot/tmp"
		exec chroot "$chroot" env -i HOME=/root PATH="$PATH" LC_ALL=C.UTF-8 "$@"
	' "$chroot" "$@" </dev/null
}

# step NAME COMMAND...: prints the end of the command's output if it fails.  The script has
# called set -m: the command has a process group of its own, for leave() to end, and runs in the
# background, since bash runs no trap while it waits for a command in the foreground.
step() {
	name=$1
	shift
	"$@" >"$work/$name.out" 2>&1 </dev/null &
	workers=$!
	wait "$workers"
	status=$?
	workers=
	[ $status = 0 ] || tail -n 40 "$work/$name.out"
	return $status
}

# copy_logs BUILD: the logs and results of the tests, in their folders, from a build directory
# in the chroot to $logs
copy_logs() {
	mkdir -p "$logs"
	(cd "$chroot/srv/build/$1/tests" && find . -name '*.log' -o -name '*.trs' |
		xargs cp --parents -t "$logs")
}

# A script for the chroot: unpacks the source of Check, for targets without a package of it.
# shellcheck disable=SC2034
check_source='
	apt-get -q -o APT::Sandbox::User=root update
	cd /srv
	apt-get -q -o APT::Sandbox::User=root source --download-only check
	tar -xf check_*.orig.tar.gz -C check --strip-components 1
	cd check
	autoreconf -fi || :	# fails for its manual alone'
