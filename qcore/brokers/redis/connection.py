"""One connection to Redis, with every byte on it written and read here.

In:  commands as tuples.  Out: replies; ReplyError from the server and OSError from the socket become
the errors of qcore/errors.py.  redis-py opens the connection (brokers/redis/servers.py); the talking is
done by hand because a redis-py command costs more than everything else a task needs, and because only
so is it certain whether a request has left this process.
Next: brokers/redis/broker.py, brokers/redis/consumer.py, brokers/redis/bus.py.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import hiredis

from qcore.brokers.redis.busy_poll import Spin
from qcore.brokers.redis.scripts import Script
from qcore.brokers.redis.servers import Door, ReplyError
from qcore.errors import BrokerDown, BrokerError

pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command

# One buffer of more than 128 KiB is mapped and unmapped by the C library each time it is used, which costs
# more than the whole round trip.
RECV_BYTES = 65_536
READS_AT_ONCE = 4


#: a script, its keys, its arguments
Call = tuple[Script, Sequence[Any], Sequence[Any]]


class NotSent(Exception):
    """The request has surely not been executed."""


class Link:
    """One connection, for one thread at a time; opened when first needed."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.id = 0  # the server's number of this connection, 0 until asked for
        self.opened = 0  # how many connections there have been
        self._made: Any = None
        self._sock: socket.socket | None = None
        self._reader = hiredis.Reader()
        self._address = ""  # of this end, as the server sees it
        self._predecessor = ""
        self._place = ""  # the server at the other end

    @property
    def is_open(self) -> bool:
        return self._sock is not None

    def fileno(self) -> int:
        return self._sock.fileno() if self._sock is not None else -1

    def open(self) -> None:
        if self._sock is None:
            self._made, place = self.door.connect()
            self._sock = self._made.sock
            self.opened += 1
            if place != self._place:
                self._place, self._predecessor = place, ""  # that was another server's
            self._reader = hiredis.Reader()
            self._sock.settimeout(self.door.reply_timeout_s)
            self._spin = Spin()
            self._poller = select.poll()
            self._poller.register(self._sock, select.POLLIN)
            name = self._sock.getsockname()
            if self._sock.family == socket.AF_INET:
                self._address = f"{name[0]}:{name[1]}"
            elif self._sock.family == socket.AF_INET6:
                self._address = f"[{name[0]}]:{name[1]}"

    def kill_predecessor(self) -> None:
        """A request still waiting in the connection before this one must not be executed any more."""
        old, self._predecessor = self._predecessor, ""
        if old:
            try:
                self.call("CLIENT", "KILL", "TYPE", "normal", "ADDR", old)
            except BrokerError as exc:
                if isinstance(exc, BrokerDown):
                    raise  # anything else: not allowed to, and the window is small

    def identify(self) -> int:
        """Ask for the server's number of this connection, so that it can be unblocked or killed."""
        if not self.id or self._sock is None:
            try:
                self.id = self.call("CLIENT", "ID")
            except BrokerError as exc:
                if isinstance(exc, BrokerDown):
                    raise
                self.id = 0  # not allowed to ask
        return self.id

    def drop(self) -> None:
        """Close. In a forked child this leaves the parent's connection alone."""
        made, self._made, self._sock, self.id = self._made, None, None, 0
        if made is not None:
            self._predecessor = self._address
            made.disconnect()

    def is_stale(self) -> bool:
        """The server has hung up, or says something nobody asked for."""
        return self._sock is not None and bool(self._poller.poll(0))

    def send(self, packed: bytes) -> None:
        """Write it all, or raise NotSent (the connection is closed then)."""
        if self._sock is None:
            self.open()
        elif self._place != self.door.place:
            # Another connection of this process found this server gone: all must be at the same one.
            self.drop()
            raise NotSent(f"the broker is now at {self.door.place}")
        assert self._sock is not None
        try:
            self._sock.sendall(packed)
        except OSError as exc:
            self.drop()
            raise NotSent(str(exc)) from exc

    def read(self) -> Any:
        """The next reply; a ReplyError is returned, not raised. Raises BrokerDown."""
        reader, sock = self._reader, self._sock
        try:
            while True:
                reply = reader.gets()
                if reply is not False:
                    return reply
                self._spin.wait(self._poller.poll)
                data = sock.recv(RECV_BYTES) if sock is not None else b""
                if not data:
                    raise ConnectionResetError("the server closed the connection")
                reader.feed(data)
        except (OSError, hiredis.ProtocolError) as exc:
            self.drop()
            self.door.fail(exc)

    def read_within(self, timeout_s: float) -> Any:
        """The next reply, or False after timeout_s."""
        until = time.monotonic() + timeout_s
        while True:
            reply = self.poll()
            if reply is not False:
                return reply
            left = until - time.monotonic()
            if left <= 0:
                return False
            self.wait(left)

    def wait(self, timeout_s: float) -> None:
        """Until there may be something to read."""
        if self._sock is not None:
            self._poller.poll(max(1, int(timeout_s * 1000)))

    def poll(self) -> Any:
        """The next reply if it is already here, else False. Raises BrokerDown."""
        reply = self._reader.gets()
        if reply is not False:
            return reply
        if self._sock is None:
            self.door.fail(ConnectionResetError("not connected"))
        more = True
        while more and reply is False:
            try:
                more = self._receive_what_is_here(self._sock)
            except OSError as exc:
                reply = self._reader.gets()
                if reply is not False:
                    return reply  # said before it hung up; the next poll reports the end
                self.drop()
                self.door.fail(exc)
            reply = self._reader.gets()
        return reply

    def _receive_what_is_here(self, sock: socket.socket) -> bool:
        """Whether there may be more. Not all at once: the reader moves what it holds with each reply, and
        megabytes may wait for somebody who listens to events."""
        if type(sock) is socket.socket:
            for _ in range(READS_AT_ONCE):
                if not self._poller.poll(0):
                    return False
                self._feed(sock.recv(RECV_BYTES))
            return True
        sock.settimeout(0)
        try:
            while True:  # TLS may hold more than one record
                self._feed(sock.recv(RECV_BYTES))
        except BlockingIOError:
            pass
        except OSError as exc:
            if type(exc).__name__ != "SSLWantReadError":  # the module ssl is loaded only where it is used
                raise
        sock.settimeout(self.door.reply_timeout_s)
        return False

    def _feed(self, data: bytes) -> None:
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self._reader.feed(data)

    def send_command(self, *command: Any) -> None:
        """One command whose reply is read later; raises BrokerDown."""
        self.send_or_fail(pack(command))

    def send_or_fail(self, packed: bytes) -> None:
        """Write it all; raises BrokerDown."""
        try:
            self.send(packed)
        except NotSent as exc:
            raise BrokerDown(self.door.url, exc) from exc

    def fail(self, reply: ReplyError) -> NoReturn:
        """Raise our error for a reply. A server that is no primary (any more) is left for another."""
        if self.door.is_unfit(reply):
            self.door.leave(self._place)
            self.drop()
        self.door.fail(reply)

    # --- whole requests

    def call(self, *command: Any) -> Any:
        """One command; raises BrokerDown, BrokerFull, BrokerError."""
        return self.calls([command])[0]

    def calls(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Several commands in one write; the first error is raised when all replies are read."""
        self.send_or_fail(pack(commands[0]) if len(commands) == 1 else b"".join([pack(c) for c in commands]))
        replies = [self.read() for _ in commands]
        for reply in replies:
            if isinstance(reply, ReplyError):
                self.fail(reply)
        return replies

    def safe_calls(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The same in one transaction, once more on a new connection when the first was found dead
        before anything can have been executed."""
        if self.is_stale():
            self.drop()
        single = len(commands) == 1
        if single:
            packed = pack(commands[0])
        else:
            packed = b"".join([pack(c) for c in (("MULTI",), *commands, ("EXEC",))])
        try:
            self.send(packed)
        except NotSent:
            try:
                self.send(packed)
            except NotSent as exc:
                raise BrokerDown(self.door.url, exc) from exc
        replies = [self.read() for _ in range(1 if single else len(commands) + 2)]
        for reply in replies:
            if isinstance(reply, ReplyError):
                self.fail(reply)
        if not single:
            replies = replies[-1]
            for reply in replies:
                if isinstance(reply, ReplyError):
                    self.fail(reply)
        return replies

    def run(self, script: Script, keys: Sequence[Any], arguments: Sequence[Any], safe: bool = False) -> Any:
        """A script by its digest; its text is sent only when the server does not know it."""
        if safe and self.is_stale():
            self.drop()
        rest = (len(keys), *keys, *arguments)
        self.send_command(*script.head, *rest)
        reply = self.read()
        if isinstance(reply, ReplyError):
            return self._spell_out(reply, script, rest)
        return reply

    def _spell_out(self, reply: ReplyError, script: Script, rest: Sequence[Any]) -> Any:
        """Send the text of a script that the server does not know by its digest."""
        if str(reply).startswith("NOSCRIPT"):
            self.send_command("EVAL", script.text, *rest)
            reply = self.read()
        if isinstance(reply, ReplyError):
            self.fail(reply)
        return reply

    def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Scripts in one write, one after the other; none knows what those before it brought."""
        packed = [pack((*c[0].head, len(c[1]), *c[1], *c[2])) for c in calls]
        self.send_or_fail(b"".join(packed))
        replies = [self.read() for _ in calls]
        for i, (script, keys, arguments) in enumerate(calls):
            if isinstance(replies[i], ReplyError):
                replies[i] = self._spell_out(replies[i], script, (len(keys), *keys, *arguments))
        return replies
