#!/usr/bin/env bash
# Ends the wrangler start.sh recorded in DATA with all its children, and removes DATA.
#
#   stop.sh DATA
data=$(realpath -m "${1:?usage: stop.sh DATA}")
pid=$(cat "$data/run/wrangler.pid" 2>/dev/null)
if [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$data"; then
  # It was started as the leader of a process group of its own.
  kill -9 -- "-$pid" 2>/dev/null
fi
rm -rf "$data"
