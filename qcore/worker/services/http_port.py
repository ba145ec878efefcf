"""A port of the worker's process at which it answers GET requests: its address and its server thread.

In:  a path.  Out: what the service says about it. `--health-port` and `--metrics-port` have one each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.errors import ConfigError

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

PLAIN = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """What a request gets."""

    status: int
    body: bytes
    content_type: str = PLAIN


def address_of(text: str | int, what: str = "health port") -> tuple[str, int]:
    """(host, port) of `PORT`, which is at every address, or of `HOST:PORT`. Raises ConfigError."""
    host, _, port = str(text).rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ConfigError(f"the {what} is PORT or HOST:PORT, not '{text}'")
    return host.strip("[]"), int(port)


class HttpPort:
    """A service: a thread that answers. `answer` gets the path and the header Accept."""

    def __init__(
        self, address: tuple[str, int], option: str, name: str, answer: Callable[[str, str], Answer]
    ) -> None:
        self.address = address
        self._option, self._name, self._answer = option, name, answer
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                path = self.path.partition("?")[0].rstrip("/")
                status, body, content_type = answer(path, self.headers.get("Accept") or "")
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing: a request every few seconds is not worth a line."""

        try:
            self._server = ThreadingHTTPServer(self.address, Handler)
        except OSError as exc:
            place = f"{self.address[0] or '*'}:{self.address[1]}"
            raise ConfigError(f"{self._option}: cannot listen at {place}: {exc.strerror or exc}") from exc
        self._server.daemon_threads = True
        self.address = self.address[0], self._server.server_port
        threading.Thread(target=self._server.serve_forever, name=self._name, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
