"""A connection to Redis over plain TCP: connect, AUTH, SELECT.

In:  a redis:// URL without a query.  Out: a logged-in socket.
redis-py opens everything else (TLS, unix sockets, options in the URL; socket_redispy.py);
importing it takes longer than most commands of qctl.
"""

from __future__ import annotations

import os
import socket
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import hiredis

DEFAULT_PORT = 6379


class CannotConnect(Exception):
    """No server answers, or it refuses the connection; the text gives the reason."""


class Login(NamedTuple):
    """Address and credentials."""

    host: str
    port: int
    db: int = 0
    username: str = ""
    password: str = ""
    client_name: str = ""


def read_plain(url: str, options: dict[str, Any]) -> Login | None:
    """The login of a URL that this file can open; options win. None: it needs redis-py."""
    parts = urlsplit(url)
    db = parts.path.strip("/")
    if parts.scheme != "redis" or parts.query or not (db.isdigit() or not db):
        return None

    def said(name: str, value: str | None) -> str:
        return str(options.get(name) or unquote(value or ""))

    return Login(
        unquote(parts.hostname or "localhost"),
        parts.port or DEFAULT_PORT,
        int(db or 0),
        said("username", parts.username),
        said("password", parts.password),
        str(options.get("client_name") or ""),
    )


class PlainConnection:
    """One connection, as connection.py uses it."""

    def __init__(self, login: Login, timeout_s: float, probes: dict[int, int]) -> None:
        """Connect and log in; raises CannotConnect. timeout_s is for each step, probes are TCP options."""
        self._pid, self._reader = os.getpid(), hiredis.Reader()
        try:
            # As bytes: the resolver would import Python's tables of Unicode for text.
            host = login.host.encode("ascii" if login.host.isascii() else "idna")
            self.sock = socket.create_connection((host, login.port), timeout=timeout_s)  # type: ignore[arg-type]
        except (OSError, UnicodeError) as exc:
            words = str(exc) or "it did not answer in time"
            raise CannotConnect(f"{words} ({login.host}:{login.port})") from exc
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in probes.items():
                self.sock.setsockopt(socket.IPPROTO_TCP, option, value)
            self._log_in(login)
        except OSError as exc:
            self.disconnect()
            raise CannotConnect(str(exc) or "it did not answer in time") from exc
        except CannotConnect:
            self.disconnect()
            raise

    def _log_in(self, login: Login) -> None:
        if login.password or login.username:
            self._ask("AUTH", *([login.username] if login.username else []), login.password)
        if login.client_name:
            self._ask("CLIENT", "SETNAME", login.client_name)
        if login.db:
            self._ask("SELECT", str(login.db))

    def _ask(self, *command: str) -> Any:
        answer = self._answer(*command)
        if isinstance(answer, hiredis.ReplyError):
            raise CannotConnect(str(answer))
        return answer

    def _answer(self, *command: str) -> Any:
        self.sock.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]  # any tuple will do
        while (answer := self._reader.gets()) is False:
            data = self.sock.recv(65_536)
            if not data:
                raise CannotConnect("the server closed the connection")
            self._reader.feed(data)
        return answer

    def role(self) -> str:
        """`master` or another role; '' when the server does not reveal it. Raises CannotConnect."""
        try:
            answer = self._answer("ROLE")
        except OSError as exc:
            raise CannotConnect(str(exc) or "it did not answer in time") from exc
        if isinstance(answer, hiredis.ReplyError):
            if str(answer).startswith(("LOADING", "MASTERDOWN")):
                raise CannotConnect(str(answer))
            return ""
        return str(answer[0].decode()) if isinstance(answer, list) and answer else ""

    def disconnect(self) -> None:
        """Close. In a forked child this does not affect the parent's connection."""
        if os.getpid() == self._pid:
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.sock.close()
