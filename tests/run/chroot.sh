# SPDX-License-Identifier: MIT
#
# rooms.sh: what tests/run/cross and tests/run/windows share, for bash to source
#
# Before: $build, a configured build directory; $work, a directory for the logs; and $me, the
# script's name.  Afterwards $work is absolute, $state is a directory that leave() removes, to
# be called at the end, and $room is below it: not there yet.

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C.UTF-8

# skip_all WHY: in the output, and among the logs
skip_all() {
	mkdir -p "$work/tests"
	echo "skipped: $1" | tee "$work/tests/$me.log"
	exit 0
}

[ "$(id -u)" = 0 ] || skip_all "tests/$me needs root"
command -v mmdebstrap >/dev/null || skip_all "no mmdebstrap here"
unshare --user --mount --pid --fork --kill-child true || skip_all "no namespaces here"

(cd "$build" && make -s dist) >"$work/dist.out" 2>&1 || { cat "$work/dist.out"; exit 1; }
work=$(cd "$work" && pwd)
state=$(mktemp -d -p "$work")
chmod 755 "$state"		# apt works as a user of its own
room=$state/room

# Mounts are in namespaces of their own, but who knows.
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

# Of security updates, architectures do not have the same versions at the same time.
# shellcheck disable=SC2016
: "${MIRROR=$(apt-get indextargets --format '$(REPO_URI)' \
	'Created-By: Packages' 'Codename: bookworm' | head -n 1)}"
export MIRROR

# make_room ARCHITECTURES PACKAGE...: with the tarball's tree in /srv/source
make_room() {
	architectures=$1
	shift
	unshare --mount mmdebstrap --quiet --variant=apt --skip=cleanup/apt/lists \
		--dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--architectures="$architectures" --include="$*" \
		bookworm "$room" "deb $MIRROR bookworm main" || return
	sed 's/^deb /deb-src /' "$room/etc/apt/sources.list" >"$room/etc/apt/sources.list.d/source.list"
	mkdir "$room/srv/source" "$room/srv/check"
	tar -xf "$build"/libreloaded-buffers-*.tar.xz -C "$room/srv/source" --strip-components 1
	mkdir "$room/srv/build"
}

# In the room: Check's source, for those of which Debian has no package.
# shellcheck disable=SC2034
check_source='
	apt-get -q -o APT::Sandbox::User=root update
	cd /srv
	apt-get -q -o APT::Sandbox::User=root source --download-only check
	tar -xf check_*.orig.tar.gz -C check --strip-components 1
	cd check
	autoreconf -fi || :	# all but its manual'
