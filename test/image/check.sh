#!/usr/bin/env bash
# Builds the image from the Dockerfile and runs it, without Docker and without fetching a base image.
#
# Stand-ins for the two base images are made from this machine's own files: one with Node, npm and a shell to build
# in, one with nothing but Node to run in. buildah builds; the result is run as process 1 of its own namespace, as
# the image's user, on a read-only root. What this does not prove: the real base images, other architectures.
#
#   test/image/check.sh             exit code 0 passed, 1 failed, 77 cannot be done here (with the reason)
#   test/image/check.sh --install   fetches buildah by apt-get first, where it is missing
#   test/image/check.sh --keep      leaves the temporary folder with image and logs
set -euo pipefail

repository=$(cd "$(dirname "$0")/../.." && pwd)
BUILD_TIMEOUT=240s
START_TIMEOUT_SECONDS=15
STOP_TIMEOUT_SECONDS=20
# Measured 2026-11: 151 and 24. Of this Node is 120, the demo's disks are 6, packages 12. The limits are a tenth above.
IMAGE_LIMIT_MIB=166
APP_LIMIT_MIB=26
EPOCH=1767323045
IMAGE=localhost/xvault-check

work='' service='' keep=no
main() {
  local install=no option
  for option in "$@"; do
    case $option in
      --install) install=yes ;;
      --keep) keep=yes ;;
      *) fail "unknown option $option" ;;
    esac
  done
  require "$install"
  work=$(mktemp -d "${TMPDIR:-/tmp}/xvault-image-XXXXXX")
  trap clean_up EXIT
  mkdir "$work/tmp"
  export TMPDIR=$work/tmp # buildah keeps its build caches there
  choose_driver
  step 'stand-in base images' make_bases
  step 'build' build_image
  step 'settings of the image' check_settings
  step 'content of the image' check_content
  step 'command line' check_command_line
  step 'service on a read-only root' check_service
  step 'demo on a read-only root' check_demo
  echo "image: passed in ${SECONDS} s"
}

step() {
  local started=$SECONDS
  "$2"
  echo "image: $1: ok ($((SECONDS - started)) s)"
}
skip() {
  echo "skipped: the image was not checked: $1"
  exit 77
}
fail() {
  echo "image: FAILED: $1" >&2
  exit 1
}

require() {
  [[ $(uname -s) == Linux ]] || skip 'not on Linux'
  [[ $(id -u) == 0 ]] || skip 'needs root (chroot, mount)'
  unshare --mount --pid --fork true 2>/dev/null || skip 'namespaces are not allowed here'
  command -v npm >/dev/null || skip 'npm is not installed'
  (($("$(newest_node)" -p 'process.versions.node.split(".")[0]') >= 24)) || skip 'Node is older than 24'
  if ! command -v buildah >/dev/null && [[ $1 == yes ]]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends buildah \
      >/dev/null 2>&1 || skip 'buildah cannot be installed'
  fi
  command -v buildah >/dev/null || skip 'buildah is not installed (see --install)'
}

clean_up() {
  local code=$?
  set +e
  [[ -n $service ]] && kill -KILL "$service" 2>/dev/null
  if [[ $keep == yes || $code != 0 ]]; then
    [[ -f $work/service.log ]] && tail -n 20 "$work/service.log" >&2
  fi
  if [[ $keep == yes ]]; then
    echo "image: left in $work"
  else
    in_store umount --all >/dev/null 2>&1
    rm -rf "$work"
  fi
}

# A store of its own: nothing is left on the machine, no other image is seen. Where the kernel has no overlay for us
# (inside a container, say) every layer is a full copy: slower, otherwise the same.
driver=overlay
in_store() {
  buildah --root "$work/store" --runroot "$work/run" --storage-driver "$driver" "$@"
}
choose_driver() {
  in_store images >/dev/null 2>&1 || driver=vfs
}

# ------------------------------------------------------------------------------------------------ base images

make_bases() {
  make_base run put_run_base
  make_base build put_build_base
}

# make_base <name> <function that fills its root>
make_base() {
  local container root
  container=$(in_store from scratch)
  root=$(in_store mount "$container")
  "$2" "$root"
  mkdir -p "$root/etc/ssl/certs" "$root/proc" "$root/dev"
  mkdir -m 1777 "$root/tmp"
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || true
  printf 'root:x:0:0::/root:/sbin/nologin\nnonroot:x:65532:65532::/:/sbin/nologin\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
  printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
  printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
  in_store commit --quiet --rm "$container" "$IMAGE-base-$1" >/dev/null
}

put_run_base() {
  put_program "$1" "$(newest_node)" /nodejs/bin/node
}

put_build_base() {
  local npm
  npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
  mkdir -p "$1/usr/local/bin" "$1/usr/lib/node_modules" "$1/root"
  put_program "$1" "$(newest_node)" /usr/local/bin/node
  put_program "$1" "$(command -v dash || command -v bash)" /bin/sh
  put_program "$1" "$(command -v env)" /usr/bin/env
  cp -a "$npm" "$1/usr/lib/node_modules/npm"
  printf '#!/bin/sh\nexec node /usr/lib/node_modules/npm/bin/npm-cli.js "$@"\n' >"$1/usr/local/bin/npm"
  chmod 755 "$1/usr/local/bin/npm"
}

# The repository brings its own Node, which may be newer than this machine's.
newest_node() {
  local own=$repository/node_modules/node/bin/node
  if [[ -x $own ]]; then echo "$own"; else node -p process.execPath; fi
}

# A program at its place, with the libraries it is linked to.
put_program() {
  local root=$1 program=$2 target=$3 library
  mkdir -p "$root$(dirname "$target")"
  cp -L "$program" "$root$target"
  while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done < <(ldd "$program" | grep -o '/[^ ]*')
}

# ------------------------------------------------------------------------------------------------ build

# npm's own cache is used where this machine has one, so a build after `npm ci` needs next to no network.
build_image() {
  local cache
  cache=$(npm config get cache 2>/dev/null)
  mkdir -p "$cache"
  {
    printf 'cache=/npm-cache\nprefer-offline=true\naudit=false\nfund=false\nupdate-notifier=false\n'
    printf 'registry=%s\n' "$(npm config get registry 2>/dev/null)"
    [[ -z ${NODE_EXTRA_CA_CERTS:-} ]] || printf 'cafile=/etc/ssl/certs/ca-certificates.crt\n'
  } >"$work/npmrc"
  timeout "$BUILD_TIMEOUT" buildah --root "$work/store" --runroot "$work/run" --storage-driver "$driver" \
    bud --pull-never --isolation chroot --network host --format docker \
    --build-arg "BUILD_IMAGE=$IMAGE-base-build" --build-arg "RUN_IMAGE=$IMAGE-base-run" \
    --build-arg VERSION=1.2.3 --build-arg REVISION=check --build-arg "SOURCE_DATE_EPOCH=$EPOCH" \
    --build-arg CREATED=2026-01-02T03:04:05Z --build-arg SOURCE=https://code.example/xvault \
    --volume "$work/npmrc:/root/.npmrc:ro" --volume "$cache:/npm-cache" \
    --tag "$IMAGE" "$repository" >"$work/build.log" 2>&1 || {
    tail -n 30 "$work/build.log" >&2
    fail 'the image does not build'
  }
}

# ------------------------------------------------------------------------------------------------ what it is

root=''
check_settings() {
  in_store inspect --type image "$IMAGE" >"$work/image.json"
  # shellcheck disable=SC2016
  node -e '
    const assert = require("node:assert/strict");
    const { Docker } = JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8"));
    const config = Docker.config;
    assert.equal(config.User, "65532:65532");
    assert.deepEqual(Object.keys(config.ExposedPorts), ["8080/tcp"]);
    assert.equal(config.StopSignal, "SIGTERM");
    assert.deepEqual(config.Entrypoint, ["node", "--max-semi-space-size=8", "--max-old-space-size=2000", "--enable-source-maps", "/app/dist/src/main.js"]);
    assert.deepEqual(config.Cmd, ["serve"]);
    assert.deepEqual(config.Healthcheck.Test, ["CMD", "node", "/app/healthcheck.mjs"]);
    const names = config.Env.map((setting) => setting.split("=")[0]).sort();
    assert.deepEqual(names, ["NODE_ENV", "PATH", "XVAULT_LISTEN"], "no secret, no surprise");
    assert.ok(config.Env.includes("XVAULT_LISTEN=0.0.0.0:8080"));
    const label = (name) => config.Labels[`org.opencontainers.image.${name}`];
    assert.equal(label("title"), "xvault");
    assert.ok(label("description").length > 20);
    assert.equal(label("licenses"), require(process.argv[2]).license);
    assert.equal(label("version"), "1.2.3");
    assert.equal(label("revision"), "check");
    assert.equal(label("created"), "2026-01-02T03:04:05Z");
    assert.equal(label("source"), "https://code.example/xvault");
  ' "$work/image.json" "$repository/package.json" || fail 'the settings of the image are not as they should be'
}

check_content() {
  local container path
  container=$(in_store from --pull-never "$IMAGE")
  root=$(in_store mount "$container")
  for path in .git .env src test/sim node_modules/typescript node_modules/wrangler node_modules/esbuild \
    node_modules/.bin dist/src/main.ts dist/src/worker.js; do
    [[ ! -e $root/app/$path ]] || fail "$path does not belong into the image"
  done
  [[ ! -e $root/bin/sh ]] || fail 'the stand-in for the base image has a shell: nothing is proven'
  if find "$root/app" -name '*.test.js' | grep -q .; then fail 'tests are in the image'; fi
  if find "$root/app" \( -perm -o=w -not -type l \) | grep -q .; then
    fail 'files in the image can be written by everybody'
  fi
  # what no start reads: other forms of packages, types, maps of others, native code, package managers
  if find "$root/app" \( -name '*.d.ts' -o -iname 'readme*' -o -name '*.node' -o -name npm -o -name yarn -o -name corepack \
    -o -path '*/node_modules/*.map' -o -path '*/node_modules/*.ts' \) | grep .; then
    fail 'this is not needed in the image'
  fi
  if grep -rlE -- '-----BEGIN [A-Z ]*PRIVATE KEY|_authToken|AKIA[0-9A-Z]{16}' "$root/app" | grep .; then
    fail 'this looks like a secret'
  fi
  check_parts "$root/app" || fail 'the parts list does not say what is in the image'
  local size app
  size=$(du -sm "$root" | cut -f1) app=$(du -sm "$root/app" | cut -f1)
  echo "image: $size MiB with Node, $app MiB without"
  ((size <= IMAGE_LIMIT_MIB && app <= APP_LIMIT_MIB)) || fail "the image has $size MiB, $app without Node"
}

# The parts list is the packages that lie there, each with its licence, none of them for development.
check_parts() {
  # shellcheck disable=SC2016
  node -e '
    const assert = require("node:assert/strict");
    const { readFileSync, readdirSync } = require("node:fs");
    const [app, lockFile, epoch] = process.argv.slice(1);
    const json = (file) => JSON.parse(readFileSync(file, "utf8"));
    const there = readdirSync(`${app}/node_modules`, { recursive: true })
      .map(String)
      .flatMap((path) => /^(.*node_modules\/)?(@[^/]+\/)?[^/@]+\/package\.json$/.test(path) ? [`node_modules/${path.slice(0, -13)}`] : []);
    const refs = there.map((path) => { const { name, version } = json(`${app}/${path}/package.json`); return `${name}@${version}`; });
    const sbom = json(`${app}/sbom.cdx.json`);
    assert.equal(sbom.bomFormat, "CycloneDX");
    assert.deepEqual(sbom.components.map((part) => part["bom-ref"]).sort(), [...new Set(refs)].sort());
    for (const part of sbom.components) assert.ok(part.licenses?.length > 0, `no licence: ${part.name}`);
    assert.equal(sbom.metadata.component.name, "xvault");
    assert.equal(sbom.metadata.timestamp, new Date(epoch * 1000).toISOString());
    const { packages } = json(lockFile);
    for (const path of there) assert.ok(packages[path] && !packages[path].dev, `for development: ${path}`);
    console.log(`image: ${refs.length} packages`);
  ' "$1" "$repository/package-lock.json" "$EPOCH"
}

# ------------------------------------------------------------------------------------------------ running it

# below what Linux gives to outgoing connections
PORT=$((20000 + RANDOM % 12000))
# Made up, and nothing listens there: to be alive, a service needs neither pool nor bucket.
SETTINGS=(
  "XVAULT_LISTEN=0.0.0.0:$PORT"
  XVAULT_POOL_URL=https://127.0.0.1:9 XVAULT_POOL_USERNAME=check XVAULT_POOL_PASSWORD=check
  XVAULT_POOL_INSECURE=true XVAULT_BUCKET=check XVAULT_S3_ENDPOINT=http://127.0.0.1:9
  XVAULT_TOKEN=a-token-of-no-use-to-anybody-0123456789
  AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=check AWS_SECRET_ACCESS_KEY=check
)

# in_image <command>…: as process 1, as the image's user, on a read-only root. Replaces the shell that calls it.
in_image() {
  # shellcheck disable=SC2016 # the inner shell expands
  exec env -i "PATH=$IMAGE_PATH" NODE_ENV=production "${SETTINGS[@]}" \
    unshare --mount --pid --fork --kill-child --propagation private bash -euc '
      root=$1
      shift
      mount --bind "$root" "$root"
      mount -t proc proc "$root/proc"
      mount --rbind /dev "$root/dev"
      mount -o remount,bind,ro "$root"
      exec chroot --userspec=65532:65532 "$root" "$@"
    ' bash "$root" "$@"
}
IMAGE_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/nodejs/bin
XVAULT=(node --max-semi-space-size=8 --max-old-space-size=2000 --enable-source-maps /app/dist/src/main.js)

check_command_line() {
  local version
  version=$(in_image "${XVAULT[@]}" --version) || fail 'xvault --version does not run'
  [[ $version == *"$(node -p 'require(process.argv[1]).version' "$repository/package.json")"* ]] ||
    fail "xvault --version says: $version"
  # every file of the program finds what it imports, also those that no start below loads
  # shellcheck disable=SC2016
  (in_image node -e '
    const files = require("node:fs").readdirSync("/app/dist", { recursive: true }).map(String);
    const own = files.filter((file) => file.endsWith(".js") && !file.endsWith("src/main.js"));
    Promise.all(own.map((file) => import(`/app/dist/${file}`))).then(() => {
      if (own.length < 300) throw new Error(`only ${own.length} files`);
      process.exit(0);
    });
  ') || fail 'a file of the program lacks what it imports'
}

check_service() {
  if (in_image node /app/healthcheck.mjs); then fail 'the health check is content without a service'; fi
  (in_image "${XVAULT[@]}" serve) >"$work/service.log" 2>&1 &
  service=$!
  local inside deadline=$((SECONDS + START_TIMEOUT_SECONDS))
  until inside=$(cat "/proc/$service/task/$service/children" 2>/dev/null) && [[ -n $inside ]] &&
    health_check "${inside%% *}"; do
    ((SECONDS < deadline)) || fail 'the service does not answer its health check'
    [[ -d /proc/$service ]] || fail 'the service ended at once'
    sleep 0.2
  done
  kill -TERM "${inside%% *}"
  (sleep "$STOP_TIMEOUT_SECONDS" && kill -KILL "$service") 2>/dev/null &
  local watchdog=$! code=0
  wait "$service" || code=$?
  service=''
  kill "$watchdog" 2>/dev/null || true
  [[ $code == 0 ]] || fail "SIGTERM ended the service with exit code $code, not 0"
}

# In the namespaces of the service, as Docker runs it.
health_check() {
  env -i "PATH=$IMAGE_PATH" "${SETTINGS[@]}" nsenter --target "$1" --mount --pid --root --wd=/ \
    --setuid 65532 --setgid 65532 node /app/healthcheck.mjs 2>/dev/null
}

check_demo() {
  (in_image "${XVAULT[@]}" demo --once --port "$PORT") >"$work/demo.log" 2>&1 || {
    tail -n 30 "$work/demo.log" >&2
    fail 'the demo does not run in the image'
  }
}

main "$@"
