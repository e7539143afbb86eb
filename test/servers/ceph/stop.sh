#!/usr/bin/env bash
# Ends the daemons start.sh recorded in DATA, and removes DATA.
#
#   stop.sh DATA
#
# A recorded id is only used while that process still has DATA on its command line: ids are used again.
data=$(realpath -m "${1:?usage: stop.sh DATA}")

is_ours() { tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF "$data"; }

for name in rgw osd mon watch; do
  pid=$(cat "$data/run/$name.pid" 2>/dev/null) || continue
  # The watcher runs this script itself when its owner is gone.
  [ "$pid" != "$$" ] && is_ours "$pid" || continue
  # Everything is in memory and thrown away: no need for an orderly end.
  kill -9 "$pid" 2>/dev/null
done
rm -rf "$data"
