#!/bin/sh
# Backs up many machines through a running xvault and waits for the end. Needs curl and a shell, nothing else.
#
#   xvault-run.sh [request] [key]
#
#   request  body of POST /v1/runs; unless given all machines with the tag "nightly"
#   key      Idempotency-Key: a second call with the same one waits for the first one's run instead of starting another;
#            unless given this host, today and the request
#
# XVAULT_URL, and XVAULT_TOKEN or XVAULT_TOKEN_FILE with a token of the scopes backup and read.
# Prints the report. Ends with 0 (all backed up), 3 (some), 1 (none, cancelled, refused), 69 (no answer).
set -eu

request=${1:-'{"select": {"tags": ["nightly"]}}'}
key=${2:-"$(uname -n)-$(date +%F)-$(printf %s "$request" | cksum | cut -d " " -f 1)"}
token=${XVAULT_TOKEN:-$(cat "${XVAULT_TOKEN_FILE:?set XVAULT_TOKEN or XVAULT_TOKEN_FILE}")}

# the token comes by standard input: arguments are seen by every user of the machine
call() {
  printf 'header = "Authorization: Bearer %s"\n' "$token" |
    curl --config - --silent --show-error --max-time 120 --retry 6 --retry-connrefused "$@"
}

answer=$(call --include --request POST --header 'Content-Type: application/json' --header "Idempotency-Key: $key" \
  --data "$request" "$XVAULT_URL/v1/runs") || exit 69
run=$(printf '%s\n' "$answer" | tr -d '\r' | sed -n 's|^[Ll]ocation: \(/v1/runs/.*\)$|\1|p' | tail -n 1)
if [ -z "$run" ]; then
  printf '%s\n' "$answer" | tail -n 1 >&2
  exit 1
fi

while :; do
  report=$(call --fail --header 'Accept: text/plain' --header 'Prefer: wait=55' "$XVAULT_URL$run") || exit 69
  case $report in
    queued* | running*) continue ;;
  esac
  printf '%s\n' "$report"
  case $report in
    succeeded*) exit 0 ;;
    partial*) exit 3 ;;
    *) exit 1 ;;
  esac
done
