#!/usr/bin/env python3
"""Brings a database to rest while xvault makes a snapshot of this machine: a receiver of its guest hooks.

Python 3.9 or newer, nothing to install. POST /freeze and /thaw over HTTPS, signed by Standard Webhooks; see
docs/guest-hooks.md. Settings come from the environment (guest-hook.service beside this file shows them):

  HOOK_SECRET_FILE   the secret xvault has in XVAULT_HOOK_SECRET (whsec_...)
  HOOK_CERT_FILE, HOOK_KEY_FILE   this machine's certificate and key (PEM)
  HOOK_VM_UUID       uuid of this machine: calls about others are refused
  HOOK_DATABASE      postgresql or mysql
  HOOK_MOUNTS        file systems of the database, space-separated; never the one of /
  HOOK_LISTEN        address:port, 0.0.0.0:8443 unless set
  HOOK_LIMIT_SECONDS the longest rest, 60 unless set; after it the machine thaws by itself
"""
import base64
import hashlib
import hmac
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIGNATURE_AGE_SECONDS = 300
MAX_BODY_BYTES = 65536


class MySql:
    """Holds a global read lock for as long as its client runs."""

    def __init__(self):
        self.client = None

    def freeze(self):
        self.client = subprocess.Popen(
            ["mysql", "--batch", "--skip-column-names", "--unbuffered"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.client.stdin.write("FLUSH TABLES WITH READ LOCK; SELECT 'locked';\n")
        self.client.stdin.flush()
        if self.client.stdout.readline().strip() != "locked":
            raise RuntimeError("mysql gave no read lock")

    def thaw(self):
        client, self.client = self.client, None
        if client is not None:
            client.communicate("UNLOCK TABLES;\n", timeout=10)


class PostgreSql:
    """Needs no lock: with its file systems frozen all its disks are of one instant. The checkpoint shortens recovery."""

    def freeze(self):
        run("psql", "--quiet", "--command", "CHECKPOINT")

    def thaw(self):
        pass


def run(*command):
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)


class Guest:
    """Frozen for at most one round of one job at a time, and never for longer than the limit."""

    def __init__(self, database, mounts, limit_seconds):
        self.database, self.mounts, self.limit_seconds = database, mounts, limit_seconds
        self.lock = threading.Lock()
        self.round = None
        self.frozen = []
        self.seen = set()
        self.watchdog = None

    def freeze(self, call_id, round_of_job):
        with self.lock:
            if call_id in self.seen:
                return 409, "this call came before"
            self.seen.add(call_id)
            if self.round is not None:
                return 409, "frozen for another backup"
            try:
                self.round = round_of_job
                self.watchdog = threading.Timer(self.limit_seconds, self.expire, [round_of_job])
                self.watchdog.daemon = True
                self.watchdog.start()
                self.database.freeze()
                for mount in self.mounts:
                    self.frozen.append(mount)
                    run("fsfreeze", "--freeze", mount)
                return 204, ""
            except Exception as error:
                self.release()
                return 500, f"could not freeze: {error}"

    def thaw(self, round_of_job, snapshot_taken):
        with self.lock:
            if self.round == round_of_job:
                self.release()
                return 204, ""
            # the snapshot is not of a machine at rest: xvault makes a warning of it
            return (409, "thawed already: the rest was too short") if snapshot_taken else (204, "")

    def expire(self, round_of_job):
        with self.lock:
            if self.round == round_of_job:
                log(f"still frozen after {self.limit_seconds} s: thawing")
                self.release()

    def release(self):
        self.watchdog.cancel()
        for mount in reversed(self.frozen):
            # one that was not frozen after all says so; the others must thaw all the same
            subprocess.run(["fsfreeze", "--unfreeze", mount], timeout=60, check=False)
        self.frozen = []
        try:
            self.database.thaw()
        finally:
            self.round = None


def is_signed(headers, body, secret):
    call_id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not stamp.isascii() or not stamp.isdigit() or abs(time.time() - int(stamp)) > SIGNATURE_AGE_SECONDS:
        return False
    digest = hmac.new(secret, f"{call_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    wanted = b"v1," + base64.b64encode(digest)
    given = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(wanted, one) for one in given)


def make_handler(guest, secret, vm_uuid):
    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_POST(self):
            length = int(self.headers.get("content-length", "0"))
            body = self.rfile.read(length) if 0 <= length <= MAX_BODY_BYTES else b""
            status, text = self.decide(body)
            log(f"{self.path} {status} {text}")
            self.send_response(status)
            self.send_header("content-type", "text/plain")
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def decide(self, body):
            if not is_signed(self.headers, body, secret):
                return 401, "no valid signature"
            data = json.loads(body)["data"]
            if data["vm"]["uuid"] != vm_uuid:
                return 403, "another machine"
            round_of_job = (data["job_id"], data["round"])
            if self.path == "/freeze" and data["phase"] == "before_snapshot":
                return guest.freeze(self.headers["webhook-id"], round_of_job)
            if self.path == "/thaw" and data["phase"] == "after_snapshot":
                return guest.thaw(round_of_job, data["snapshot_taken"])
            return 404, "no such hook"

        def log_message(self, *_):
            pass

    return Handler


class Server(ThreadingHTTPServer):
    """Speaks TLS in the caller's own thread, so that a slow one keeps nobody waiting."""

    daemon_threads = True
    tls = None

    def finish_request(self, request, client_address):
        request.settimeout(30)
        with self.tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)


def log(text):
    # to the journal, which must not lie on a file system that is frozen
    print(text, file=sys.stderr, flush=True)


def main():
    env = os.environ
    with open(env["HOOK_SECRET_FILE"], encoding="ascii") as file:
        secret = base64.b64decode(file.read().strip()[len("whsec_"):])
    database = {"postgresql": PostgreSql, "mysql": MySql}[env["HOOK_DATABASE"]]()
    mounts = env.get("HOOK_MOUNTS", "").split()
    guest = Guest(database, mounts, float(env.get("HOOK_LIMIT_SECONDS", "60")))
    host, port = env.get("HOOK_LISTEN", "0.0.0.0:8443").rsplit(":", 1)
    server = Server((host, int(port)), make_handler(guest, secret, env["HOOK_VM_UUID"]))
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(env["HOOK_CERT_FILE"], env["HOOK_KEY_FILE"])
    log(f"listening on {host}:{server.server_address[1]}")
    server.serve_forever()


if __name__ == "__main__":
    main()
