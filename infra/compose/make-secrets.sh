#!/usr/bin/env bash
# Writes what compose.yaml mounts as secrets into ./secrets: keys of the store, a token, the pool's password. What is there stays.
#
# Files are readable for all, since containers run as other users; the folder is not, so on this machine only its owner gets in.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p -m 700 secrets
cd secrets

random() { head -c "$1" /dev/urandom | base64 | tr -d '+/=\n'; }
keep() { # keep <file>: what comes in, unless the file is there
  if [[ -s $1 ]]; then
    cat >/dev/null
    echo "kept: secrets/$1"
  else
    (umask 022 && cat >"$1")
    echo "written: secrets/$1"
  fi
}

random 48 | keep token
if [[ ! -s store.json ]]; then
  id=$(random 18) key=$(random 36)
  keep store.json <<END
{"identities": [{"name": "xvault", "credentials": [{"accessKey": "$id", "secretKey": "$key"}], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
END
  rm -f s3-credentials
  printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$id" "$key" | keep s3-credentials
fi
if [[ ! -s pool-password ]]; then
  read -rsp 'password of the pool user: ' password && echo
  printf '%s' "$password" | keep pool-password
fi
