"""A service that the template did not make: notes in Redis, by the standard library's server."""

import json
import os
import re
import signal
import socket
import ssl
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"]
SAFE = re.compile(r"[A-Za-z0-9._-]{1,128}")
NOTES = "notes"
SLOTS = threading.Semaphore(10)  # connections at once
SECONDS = 7  # that a request waits for an answer


def log(level: str, event: str, **fields: object) -> None:
    if LEVELS.index(level) >= LEVELS.index(os.environ.get("LOG_LEVEL", "INFO")):
        who = {"release": os.environ["RELEASE_ID"], "revision": os.environ["REVISION"]}
        first = {"ts": datetime.now(UTC).isoformat(), "level": level.lower(), "event": event}
        print(json.dumps(first | fields | who), flush=True)


def redis(*words: str) -> object:
    """One command, under a deadline; raises OSError."""
    if not SLOTS.acquire(timeout=SECONDS / 2):
        raise OSError("too many requests at once")
    try:
        return command(words)
    finally:
        SLOTS.release()


def command(words: tuple[str, ...]) -> object:
    """On a connection of its own."""
    at = urlsplit(os.environ["REDIS_URL"])
    where = (at.hostname, at.port or 6379)
    with socket.create_connection(where, timeout=SECONDS) as connection:
        if at.scheme == "rediss":
            connection = ssl.create_default_context().wrap_socket(
                connection, server_hostname=at.hostname
            )
        lines = connection.makefile("rwb")
        for said in (["SELECT", at.path.strip("/") or "0"], words):
            lines.write(b"*%d\r\n" % len(said))
            for word in said:
                lines.write(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()))
        lines.flush()
        answer(lines)
        return answer(lines)


def answer(lines: object) -> object:
    line = lines.readline()
    if not line or line[:1] == b"-":
        raise OSError(line.decode() or "the connection ended")
    if line[:1] == b"*":
        return [answer(lines) for _ in range(int(line[1:]))]
    if line[:1] == b"$":
        return lines.read(int(line[1:]) + 2)[:-2].decode() if int(line[1:]) >= 0 else None
    return line[1:].strip().decode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 9  # of a client that says nothing, for whom no stop waits longer

    def do_GET(self) -> None:
        pages = {
            "/livez": lambda: (200, {"status": "alive"}),
            "/readyz": lambda: (200 if self.server.ready() else 503, {}),
            "/version": lambda: (200, [os.environ["REVISION"], os.environ["RELEASE_ID"]]),
            "/notes": lambda: (200, redis("LRANGE", NOTES, "0", "-1")),
        }
        self.reply(pages.get(self.path, lambda: (404, {})))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()

        def add() -> tuple[int, object]:
            redis("RPUSH", NOTES, body)
            return 201, body

        self.reply(add if self.path == "/notes" else lambda: (404, {}))

    def reply(self, page) -> None:
        given = self.headers.get("X-Request-ID", "")
        id = given if SAFE.fullmatch(given) else uuid.uuid4().hex
        trace = self.headers.get("traceparent", "")[3:35]
        headers = {"X-Request-ID": id, "Content-Type": "application/json"}
        try:
            status, said = page()
        except OSError as error:
            status, said, headers["Retry-After"] = 503, {"unavailable": str(error)}, "1"
        text = json.dumps(said).encode()
        if self.server.stopping.is_set():
            headers["Connection"] = "close"
            self.close_connection = True
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(text))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)
        path = self.path.partition("?")[0]  # what follows may be secret
        if path not in ("/livez", "/readyz"):
            log("INFO", "request", path=path, status=status, request_id=id, trace_id=trace)

    def send_error(self, code: int, *_: object) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\n\r\n" % code)

    def log_message(self, *_: object) -> None:
        """The request's own line says it."""


class Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("0.0.0.0", int(os.environ["PORT"])), Handler)
        self.stopping = threading.Event()
        self.reached = False

    def ready(self) -> bool:
        if not self.reached:
            try:
                self.reached = redis("PING") == "PONG"
            except OSError as error:
                log("WARNING", "waiting", reason=str(error))
        return self.reached and not self.stopping.is_set()


def web() -> int:
    try:
        server = Server()
    except OSError as error:
        log("ERROR", "cannot listen", reason=str(error))
        return 1

    def stop(*_: object) -> None:
        server.stopping.set()
        threading.Thread(target=drain).start()

    def drain() -> None:
        time.sleep(1.5)  # until the balancers know
        server.shutdown()

    signal.signal(signal.SIGTERM, stop)
    log("INFO", "listening")
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    return 0


def main() -> int:
    os.environ.setdefault("REVISION", "unknown")
    os.environ.setdefault("RELEASE_ID", "unreleased")
    if os.environ.get("LOG_LEVEL", "INFO") not in LEVELS:
        os.environ["LOG_LEVEL"] = "INFO"
        log("ERROR", "settings", hint="LOG_LEVEL is none of them")
        return 1
    url = urlsplit(os.environ.get("REDIS_URL", ""))
    if url.scheme not in ("redis", "rediss") or not url.hostname:
        log("ERROR", "settings", hint="set REDIS_URL")
        return 1
    if sys.argv[1:] == ["console"]:
        try:
            exec(sys.stdin.read())
        except Exception as error:
            log("ERROR", "crashed", reason=repr(error))
            return 1
        return 0
    return web()


if __name__ == "__main__":
    sys.exit(main())
