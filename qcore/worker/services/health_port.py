"""`--health-port`: the probes of `qctl health --local` over HTTP, for orchestrators that ask so.

In:  GET /live, /ready, /startup.  Out: 200 and `ok`, or 503 and what is wrong, as text.
It says the same as the health file (health_file.py), which it reads. The server is a thread of the worker's
process: one that hangs as a whole does not answer, which a probe takes for a failure too.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from qcore.errors import ConfigError
from qcore.worker.services.health_file import HealthFile

PROBES = ("/live", "/ready", "/startup")


def address_of(text: str | int) -> tuple[str, int]:
    """(host, port) of `PORT`, which is at every address, or of `HOST:PORT`. Raises ConfigError."""
    host, _, port = str(text).rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ConfigError(f"the health port is PORT or HOST:PORT, not '{text}'")
    return host.strip("[]"), int(port)


class HealthPort:
    """A service."""

    def __init__(self, address: tuple[str, int], file: HealthFile) -> None:
        self._address, self._file = address, file
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        file = self._file

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                path = self.path.partition("?")[0].rstrip("/")
                if path not in PROBES:
                    self._say(404, f"the paths are {', '.join(PROBES)}")
                    return
                wrong = file.trouble(path[1:])
                self._say(503 if wrong else 200, wrong or "ok")

            do_HEAD = do_GET

            def _say(self, status: int, text: str) -> None:
                body = f"{text}\n".encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing: a probe every few seconds is not worth a line."""

        try:
            self._server = ThreadingHTTPServer(self._address, Handler)
        except OSError as exc:
            place = f"{self._address[0] or '*'}:{self._address[1]}"
            raise ConfigError(f"--health-port: cannot listen at {place}: {exc.strerror or exc}") from exc
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
