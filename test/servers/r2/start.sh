#!/usr/bin/env bash
# Starts the local R2 that Cloudflare's wrangler carries, with its S3 endpoint, on the loopback interface.
#
#   start.sh DATA PORT INSPECTOR_PORT
#
# NODE        the Node to run wrangler with       WRANGLER   its wrangler.js
# OWNER_PID   when this process is gone, everything is stopped and DATA is removed
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
data=$(realpath -m "${1:?usage: start.sh DATA PORT INSPECTOR_PORT}")
port=${2:?}
inspector=${3:?}
mkdir -p "$data"/{state,run,tmp}
# Wrangler writes beside its configuration, so that is copied out of the work tree.
cp "$here"/{wrangler.toml,worker.js} "$data"

export WRANGLER_SEND_METRICS=false WRANGLER_LOG_PATH="$data/logs" CLOUDFLARE_CF_FETCH_ENABLED=false
export CI=1 NO_UPDATE_NOTIFIER=1
# Killed in the end, it leaves its temporary files and its entry in the user's registry of workers behind.
export TMPDIR="$data/tmp" XDG_CONFIG_HOME="$data/config"
cd "$data"
setsid "${NODE:?}" "${WRANGLER:?}" dev --local --ip 127.0.0.1 --port "$port" --inspector-port "$inspector" \
  --config "$data/wrangler.toml" --persist-to "$data/state" --show-interactive-dev-session=false \
  </dev/null >"$data/log" 2>&1 &
pid=$!
echo $pid >"$data/run/wrangler.pid"
disown

if [ -n "${OWNER_PID:-}" ]; then
  (
    exec </dev/null >/dev/null 2>&1
    while [ -d "$data" ] && kill -0 "$OWNER_PID"; do sleep 1; done
    exec "$here/stop.sh" "$data"
  ) &
  disown
fi

for ((tries = 300; tries > 0; tries--)); do
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && exit 0
  kill -0 $pid 2>/dev/null || { echo "wrangler ended: $(tail -3 "$data/log")" >&2; exit 1; }
  sleep 0.1
done
echo "wrangler does not listen after 30 s" >&2
exit 1
