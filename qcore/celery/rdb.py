"""A debugger for tasks: pdb over a socket, as celery.contrib.rdb.

    from celery.contrib import rdb
    rdb.set_trace()                     # in a task; the worker's log says where to connect, and the token

In:  commands of pdb, from one connection.  Out: what pdb prints, and what the task prints meanwhile.
Whoever is connected can run any code as the worker. Celery lets every user of the host connect; here the
first line must be a token, which is in the worker's log or in CELERY_RDB_TOKEN. An empty CELERY_RDB_TOKEN
asks for none.
"""

from __future__ import annotations

import errno
import hmac
import logging
import os
import secrets
import socket
import sys
from pdb import Pdb
from types import FrameType
from typing import Any

log = logging.getLogger("qcore.rdb")

DEFAULT_PORT = 6899
CELERY_RDB_HOST = os.environ.get("CELERY_RDB_HOST") or "127.0.0.1"
CELERY_RDB_PORT = int(os.environ.get("CELERY_RDB_PORT") or DEFAULT_PORT)
#: seconds that a client has for the token
TOKEN_S = 30.0
MOST_TOKEN_BYTES = 1_024


class Rdb(Pdb):
    """One debugger, which waits for its client when it is made. host and port: where to listen, on the first
    free one of port_search_limit ports, from port + port_skew; out: where to say so (sys.stdout)."""

    me = "Remote Debugger"

    def __init__(
        self,
        host: str = CELERY_RDB_HOST,
        port: int = CELERY_RDB_PORT,
        port_search_limit: int = 100,
        port_skew: int = 0,
        out: Any = None,
    ) -> None:
        self.out = sys.stdout if out is None else out
        self._before = sys.stdin, sys.stdout
        given = os.environ.get("CELERY_RDB_TOKEN")
        self._token = secrets.token_urlsafe(24) if given is None else given
        self._sock, self.port = self.get_avail_port(host, port, port_search_limit, port_skew)
        self.host = host
        self.ident = f"{self.me}:{self.port}"
        self.active = True
        try:
            self._sock.listen(1)
            self.say(f"{self.ident}: Ready to connect: telnet {host} {self.port}")
            if given is None:
                self.say(f"{self.ident}: The first line must be the token {self._token}")
            elif given:
                self.say(f"{self.ident}: The first line must be the token of CELERY_RDB_TOKEN")
            self.say(f"{self.ident}: Type `exit` in the session to continue. Waiting for a client...")
            self._client, self.remote_addr = self._accepted()
        except BaseException:
            self._sock.close()
            raise
        self.say(f"{self.ident}: Now in session with {self.remote_addr}.")
        self._handle = self._client.makefile("rw", errors="backslashreplace")
        sys.stdin = sys.stdout = self._handle
        super().__init__(completekey="tab", stdin=self._handle, stdout=self._handle)

    def get_avail_port(
        self, host: str, port: int, search_limit: int = 100, skew: int = 0
    ) -> tuple[socket.socket, int]:
        """A bound socket and its port. Raises OSError when all are taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for number in range(port + skew, port + skew + search_limit):
            found = socket.socket(family, socket.SOCK_STREAM)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                found.bind((host, number))
            except OSError as exc:
                found.close()
                if exc.errno not in (errno.EADDRINUSE, errno.EINVAL):
                    raise
            else:
                return found, number
        last = port + skew + search_limit - 1
        raise OSError(
            errno.EADDRINUSE,
            f"the ports {port + skew} to {last} of {host} are taken; set CELERY_RDB_PORT to a free one",
        )

    def _accepted(self) -> tuple[socket.socket, str]:
        """The first client that sends the token, and its address."""
        while True:
            client, address = self._sock.accept()
            where = ":".join(str(part) for part in address[:2])
            if not self._token or self._sends_token(client):
                client.settimeout(None)
                return client, where
            client.close()
            self.say(f"{self.ident}: A client at {where} did not send the token. Waiting for another...")

    def _sends_token(self, client: socket.socket) -> bool:
        client.settimeout(TOKEN_S)
        line = b""
        try:
            client.sendall(b"token: ")
            while not line.endswith(b"\n") and len(line) < MOST_TOKEN_BYTES:
                # One byte at a time: what follows the line is for pdb.
                byte = client.recv(1)
                if not byte:
                    return False
                line += byte
        except OSError as exc:
            log.debug("a client of the debugger left: %s", exc)
            return False
        return hmac.compare_digest(line.strip(), self._token.encode())

    def say(self, text: str) -> None:
        print(text, file=self.out)

    def __enter__(self) -> Rdb:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close_session()

    def _close_session(self) -> None:
        if not self.active:
            return
        self.active = False
        self.stdin, self.stdout = sys.stdin, sys.stdout = self._before
        for one in (self._handle, self._client, self._sock):
            try:
                one.close()
            except OSError as exc:  # what is left to write, to a client that is gone
                log.debug("closing the debugger: %s", exc)
        self.say(f"{self.ident}: Session with {self.remote_addr} ended.")

    def interaction(self, frame: FrameType | None, traceback: Any) -> None:
        try:
            super().interaction(frame, traceback)
        except OSError as exc:
            log.warning("the client of the debugger left, and the task goes on: %s", exc)
            self._close_session()
            self.set_quit()

    def do_continue(self, arg: str) -> bool | None:
        self._close_session()
        self.set_continue()
        return True

    do_c = do_cont = do_continue

    def do_quit(self, arg: str) -> bool | None:
        self._close_session()
        self.set_quit()
        return True

    do_q = do_exit = do_EOF = do_quit

    def set_quit(self) -> None:
        """Stop tracing; the task goes on. Pdb's own raises BdbQuit in the task."""
        sys.settrace(None)


_current: list[Rdb | None] = [None]


def debugger() -> Rdb:
    """The debugger that is in session, or a new one, which waits for its client."""
    found = _current[0]
    if found is None or not found.active:
        found = _current[0] = Rdb()
    return found


def set_trace(frame: FrameType | None = None) -> None:
    """Stop here, or in another frame, and wait for a client."""
    debugger().set_trace(sys._getframe().f_back if frame is None else frame)
