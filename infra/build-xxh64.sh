#!/usr/bin/env bash
# Makes src/xva/xxh64-module.ts of src/xva/xxh64.wat; needs wat2wasm (Debian's package wabt).
set -euo pipefail
cd "$(dirname "$0")/../src/xva"
wasm=$(mktemp)
trap 'rm -f "$wasm"' EXIT
wat2wasm --enable-threads xxh64.wat -o "$wasm"
{
  echo '/** WebAssembly of xxh64.wat, in base64; made by infra/build-xxh64.sh. */'
  echo 'export const XXH64_MODULE = ['
  base64 -w 88 "$wasm" | sed "s/.*/  '&',/"
  echo "].join('');"
} >xxh64-module.ts
