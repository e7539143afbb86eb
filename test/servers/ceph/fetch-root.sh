#!/usr/bin/env bash
# Unpacks Debian's Ceph packages, with the libraries they need, into a folder. Nothing is installed, root is not needed.
#
#   fetch-root.sh FOLDER [SUITE]        SUITE: forky (Ceph 20.2, the default) or trixie (18.2)
#
# Needs apt, dpkg-deb, flock and Debian's archive keys; about 130 MB to load, 390 MB on disk, 15 s.
# A second caller waits for the first and finds its work done. The folder appears whole or not at all.
set -euo pipefail

folder=$(realpath -m "${1:?usage: fetch-root.sh FOLDER [SUITE]}")
suite=${2:-forky}
keys=/usr/share/keyrings/debian-archive-keyring.gpg

mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
flock 9
[ -x "$folder/usr/bin/radosgw" ] && exit 0

[ -r $keys ] || { echo "no Debian archive keys in $keys" >&2; exit 3; }
# The mirror apt is set up with (asked so that it answers before any `apt-get update`), or MIRROR from outside.
mirror=${MIRROR:-$(apt-get --print-uris update | sed -n "s#^'\\([^' ]*/debian\\)/dists/.*#\\1#p" | sed -n 1p)}
[ -n "$mirror" ] || { echo "apt knows no Debian mirror; set MIRROR" >&2; exit 3; }

work=$folder.part
rm -rf "$work"
mkdir -p "$work"/{root,lists/partial,cache/archives/partial}
trap 'rm -rf "$work"' EXIT
: >"$work/status"
echo "deb [signed-by=$keys] $mirror $suite main" >"$work/sources.list"
apt=(apt-get -q
  -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
  -o Dir::State="$work" -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status"
  -o Dir::Cache="$work/cache" -o APT::Sandbox::User= -o APT::Install-Recommends=false
  -o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15 -o Acquire::Retries=1
  -o Acquire::Languages=none -o APT::Update::Error-Mode=any -o APT::Architecture=amd64 -o APT::Architectures=amd64)
packages=(radosgw ceph-mon ceph-osd ceph-common base-files)
"${apt[@]}" update >"$work/log" 2>&1 || { tail -3 "$work/log" >&2; exit 3; }
"${apt[@]}" install -y --download-only "${packages[@]}" >>"$work/log" 2>&1 || { tail -3 "$work/log" >&2; exit 3; }

for package in "$work"/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work/root" --no-same-owner \
    --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' --exclude='./dev/*'
done
# Large programs a test server never runs.
(cd "$work/root/usr/bin" && rm -f radosgw-object-expirer ceph-*-tool ceph-dencoder cephfs-* rbd* rgw-* ./*perf*)
rm -rf "$folder"
mv "$work/root" "$folder"
