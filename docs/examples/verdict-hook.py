#!/usr/bin/env python3
"""Runs a script of yours to judge a machine that a restore test of xvault has started: a receiver of its verdict calls.

Python 3.9 or newer, nothing to install. POST over HTTPS, signed by Standard Webhooks; see docs/verify.md. The script gets the
call's data as JSON on its standard input, and XVAULT_VM_UUID, XVAULT_VM_NAME, XVAULT_POOL, XVAULT_BACKUP_ID, XVAULT_GUEST_OS and
XVAULT_GUEST_TOOLS in its environment. Its exit code is the verdict: 0 good, 75 ask me again later, any other bad, with the
last line it wrote as the reason. Settings come from the environment:

  VERDICT_SCRIPT       the program to run, without arguments
  VERDICT_SECRET_FILE  the secret xvault has in XVAULT_HOOK_SECRET (whsec_...)
  VERDICT_CERT_FILE, VERDICT_KEY_FILE   this machine's certificate and key (PEM)
  VERDICT_LISTEN       address:port, 0.0.0.0:8443 unless set
  VERDICT_WAIT_SECONDS how long one call waits for the script before it is told to ask again, 10 unless set
  VERDICT_LIMIT_SECONDS  a script that runs longer is ended, and has said nothing; 600 unless set
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
MAX_REMEMBERED = 100
EXIT_AGAIN = 75  # EX_TEMPFAIL
RETRY_AFTER_SECONDS = 5


class Trial:
    """One run of the script, for one machine."""

    def __init__(self, script, limit_seconds, question, data):
        self.question = question
        self.done = threading.Event()
        self.answer = (500, "no verdict")
        self.again = False
        threading.Thread(target=self.run, args=(script, limit_seconds, data), daemon=True).start()

    def run(self, script, limit_seconds, data):
        try:
            guest = data["guest"] or {}
            ended = subprocess.run(
                [script], input=json.dumps(data), text=True, errors="replace", timeout=limit_seconds,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                env={**os.environ, "XVAULT_VM_UUID": data["vm"]["uuid"], "XVAULT_VM_NAME": data["vm"]["name"],
                     "XVAULT_POOL": data["vm"]["pool"], "XVAULT_BACKUP_ID": data["backup_id"],
                     "XVAULT_GUEST_OS": guest.get("os", ""), "XVAULT_GUEST_TOOLS": guest.get("tools", "")})
            lines = ended.stdout.strip().splitlines()
            said = lines[-1].strip() if lines else ""
            self.again = ended.returncode == EXIT_AGAIN
            if ended.returncode == 0:
                self.answer = 200, said
            elif self.again:
                self.answer = 202, said
            elif ended.returncode < 0:
                # ended by a signal: nobody judged
                self.answer = 500, f"the script was ended by signal {-ended.returncode}"
            else:
                self.answer = 422, said or f"the script ended with {ended.returncode}"
        except Exception as error:  # a script that cannot be run, or takes too long, has said nothing of the machine
            self.answer = 500, f"no verdict: {error}"
        finally:
            self.done.set()


class Judge:
    """Remembers what was said of each machine, so that a repeated question has the same answer."""

    def __init__(self, script, wait_seconds, limit_seconds):
        self.script, self.wait_seconds, self.limit_seconds = script, wait_seconds, limit_seconds
        self.lock = threading.Lock()
        self.trials = {}

    def ask(self, data):
        key = (data["job_id"], data["attempt"])
        with self.lock:
            trial = self.trials.get(key)
            asked_again = trial is not None and trial.done.is_set() and trial.again and data["question"] > trial.question
            if trial is None or asked_again:
                trial = self.trials[key] = Trial(self.script, self.limit_seconds, data["question"], data)
                while len(self.trials) > MAX_REMEMBERED:
                    del self.trials[next(iter(self.trials))]
        return trial.answer if trial.done.wait(self.wait_seconds) else (202, "the script still runs")


def is_signed(headers, body, secret):
    call_id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not stamp.isascii() or not stamp.isdigit() or abs(time.time() - int(stamp)) > SIGNATURE_AGE_SECONDS:
        return False
    digest = hmac.new(secret, f"{call_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    wanted = b"v1," + base64.b64encode(digest)
    given = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(wanted, one) for one in given)


def make_handler(judge, secret):
    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_POST(self):
            length = int(self.headers.get("content-length", "0"))
            body = self.rfile.read(length) if 0 <= length <= MAX_BODY_BYTES else b""
            status, text = self.decide(body)
            log(f"{self.path} {status} {text}")
            self.send_response(status)
            self.send_header("content-type", "text/plain; charset=utf-8")
            self.send_header("content-length", str(len(text.encode())))
            if status == 202:
                self.send_header("retry-after", str(RETRY_AFTER_SECONDS))
            self.end_headers()
            self.wfile.write(text.encode())

        def decide(self, body):
            if not is_signed(self.headers, body, secret):
                return 401, "no valid signature"
            data = json.loads(body)["data"]
            return judge.ask(data) if data["phase"] == "verdict" else (404, "no such hook")

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
    print(text, file=sys.stderr, flush=True)


def main():
    env = os.environ
    with open(env["VERDICT_SECRET_FILE"], encoding="ascii") as file:
        secret = base64.b64decode(file.read().strip()[len("whsec_"):])
    judge = Judge(env["VERDICT_SCRIPT"], float(env.get("VERDICT_WAIT_SECONDS", "10")),
                  float(env.get("VERDICT_LIMIT_SECONDS", "600")))
    host, port = env.get("VERDICT_LISTEN", "0.0.0.0:8443").rsplit(":", 1)
    server = Server((host, int(port)), make_handler(judge, secret))
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(env["VERDICT_CERT_FILE"], env["VERDICT_KEY_FILE"])
    log(f"listening on {host}:{server.server_address[1]}")
    server.serve_forever()


if __name__ == "__main__":
    main()
