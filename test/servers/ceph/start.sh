#!/usr/bin/env bash
# Starts a one-node Ceph (monitor, one in-memory OSD, RADOS gateway) on the loopback interface.
# No root, no systemd, no manager; authentication between the daemons is off: for tests only.
#
#   start.sh DATA PORT
#
# PORT        http; https is PORT+1, the monitor PORT+20 and +21, the OSD within PORT+30 … PORT+90
# CEPH_ROOT   folder with the unpacked packages (fetch-root.sh), or / when they are installed
# ACCESS_KEY, SECRET_KEY   of the user that is made
# LIMITED_ACCESS_KEY, LIMITED_SECRET_KEY   of a second user, called limited, who owns nothing; empty: none is made
# TLS_CERT, TLS_KEY        PEM files; without them there is no https
# DAY_SECONDS length of a lifecycle day; empty: real days
# OWNER_PID   when this process is gone, everything is stopped and DATA is removed
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
data=$(realpath -m "${1:?usage: start.sh DATA PORT}")
port=${2:?usage: start.sh DATA PORT}
root=$(realpath "${CEPH_ROOT:?}")
libraries=$root/usr/lib/x86_64-linux-gnu
config=$data/ceph.conf
mkdir -p "$data"/{mon,osd,run,log}
cd "$data"

# Runs a program in the caller's process: as it is, or through the loader and libraries of the unpacked packages.
in_root() {
  if [ "$root" = / ]; then exec "$@"; fi
  local program=$root/usr/bin/$1
  shift
  if [ "$(basename "$program")" = ceph ]; then # a Python script
    export PYTHONHOME=$root/usr PYTHONPATH=$root/usr/lib/python3/dist-packages
    set -- "$program" "$@"
    program=$(readlink -f "$root/usr/bin/python3")
  fi
  exec "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$libraries:$libraries/ceph" "$program" "$@"
}
run() { (in_root "$@"); }
daemon() {
  local name=$1
  shift
  (
    exec </dev/null >>"$data/log/$name.out" 2>&1
    cd /
    in_root "$@" -f -c "$config"
  ) &
  echo $! >"$data/run/$name.pid"
  disown
}

tls=""
if [ -n "${TLS_CERT:-}" ]; then
  tls=" ssl_endpoint=127.0.0.1:$((port + 1)) ssl_certificate=$TLS_CERT ssl_private_key=$TLS_KEY"
fi
fsid=$(cat /proc/sys/kernel/random/uuid)
osd_uuid=$(cat /proc/sys/kernel/random/uuid)

# paxos_*: with the defaults the monitor gathers proposals for a second at each pool that is made (start in 12 s).
# ms_mon_client_mode: without it the gateway insists on encryption that needs authentication.
cat >"$config" <<CONFIG
[global]
fsid = $fsid
mon_host = [v2:127.0.0.1:$((port + 20))/0,v1:127.0.0.1:$((port + 21))/0]
mon_initial_members = a
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_mon_client_mode = crc
ms_mon_cluster_mode = crc
ms_mon_service_mode = crc
ms_bind_ipv6 = false
ms_bind_port_min = $((port + 30))
ms_bind_port_max = $((port + 90))
run_dir = $data/run
crash_dir = $data/log
log_file = $data/log/\$name.log
admin_socket =
pid_file =
plugin_dir = $libraries/ceph
erasure_code_dir = $libraries/ceph/erasure-code
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
mon_data_avail_warn = 2
mon_cluster_log_to_file = false
mgr_initial_modules =
paxos_propose_interval = 0.02
paxos_min_wait = 0.005
mon_osd_prime_pg_temp = false
[mon]
mon_data = $data/mon
[osd]
osd_data = $data/osd
osd_journal = $data/osd/journal
osd_class_dir = $libraries/rados-classes
osd_class_load_list = *
osd_class_default_list = *
osd_objectstore = memstore
memstore_device_bytes = $((8 * 1024 * 1024 * 1024))
osd_memory_target = 939524096
[client]
rgw_frontends = beast endpoint=127.0.0.1:$port$tls
rgw_dns_name = localhost
rgw_enable_usage_log = false
rgw_crypt_require_ssl = false
rgw_crypt_s3_kms_backend = testing
rgw_crypt_s3_kms_encryption_keys = testkey-1=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=
rgw_gc_obj_min_wait = 5
rgw_gc_processor_period = 5
rgw_gc_processor_max_time = 5
${DAY_SECONDS:+rgw_lc_debug_interval = $DAY_SECONDS}
CONFIG

if [ -n "${OWNER_PID:-}" ]; then
  (
    exec </dev/null >/dev/null 2>&1
    while [ -d "$data" ] && kill -0 "$OWNER_PID"; do sleep 1; done
    exec "$here/stop.sh" "$data"
  ) &
  echo $! >"$data/run/watch.pid"
  disown
fi

monitors="[v2:127.0.0.1:$((port + 20)),v1:127.0.0.1:$((port + 21))]"
run monmaptool --create --clobber --fsid "$fsid" --addv a "$monitors" "$data/monmap" >log/mkfs.out
run ceph-mon -c "$config" -i a --mkfs --monmap "$data/monmap" >>log/mkfs.out 2>&1
daemon mon ceph-mon -i a
run ceph -c "$config" --connect-timeout 30 osd new "$osd_uuid" >/dev/null
run ceph-osd -c "$config" -i 0 --mkfs --osd-uuid "$osd_uuid" >>log/mkfs.out 2>&1
daemon osd ceph-osd -i 0
daemon rgw radosgw -n client.rgw.a

for ((tries = 300; tries > 0; tries--)); do
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
  kill -0 "$(cat run/rgw.pid)" 2>/dev/null || { echo "radosgw ended: $(tail -1 log/rgw.out)" >&2; exit 1; }
  sleep 0.2
done
[ "$tries" -gt 0 ] || { echo "radosgw does not listen after 60 s" >&2; exit 1; }
run radosgw-admin -c "$config" -n client.rgw.a user create --uid test --display-name test \
  --access-key "${ACCESS_KEY:?}" --secret "${SECRET_KEY:?}" >user.json 2>log/user.err
if [ -n "${LIMITED_ACCESS_KEY:-}" ]; then
  run radosgw-admin -c "$config" -n client.rgw.a user create --uid limited --display-name limited \
    --access-key "$LIMITED_ACCESS_KEY" --secret "${LIMITED_SECRET_KEY:?}" >>user.json 2>>log/user.err
fi
