"""One connection to Redis; every byte on it is written and read here.

In:  commands as tuples.  Out: replies; ReplyError from the server and OSError from the socket become
the errors of qcore/errors.py.  brokers/redis/servers.py opens the connection. Requests and replies are
handled here because a redis-py command costs more than everything else a task needs, and because only
this way is it certain whether a request has left this process.
Next: brokers/redis/broker.py, brokers/redis/consumer.py, brokers/redis/bus.py.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import hiredis

from qcore.base.process_facts import sockets_belong_to_threads
from qcore.brokers.redis.busy_poll import SPIN_S, BusyPoll
from qcore.brokers.redis.scripts import Script
from qcore.brokers.redis.servers import ReplyError, ServerSelector
from qcore.errors import BrokerDown, BrokerError

pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command

# The C library maps and unmaps a buffer of more than 128 KiB at each use, which costs more than the whole
# round trip.
RECV_BYTES = 65_536
READS_AT_ONCE = 4


#: a script, its keys, its arguments
Call = tuple[Script, Sequence[Any], Sequence[Any]]


class NotSent(Exception):
    """The request has certainly not been executed."""


class RedisConnection:
    """One connection, for one thread at a time; opened on first use."""

    def __init__(self, door: ServerSelector) -> None:
        self.door = door
        self.id = 0  # the server's id of this connection, 0 until requested
        self.opened = 0  # how many connections were opened
        self._made: Any = None
        self._sock: socket.socket | None = None
        self._reader = hiredis.Reader()
        self._address = ""  # of this end, as reported by the server
        self._predecessor = ""
        self._place = ""  # the server at the other end
        self._used = 0.0  # time of the last request, where idle connections are checked
        self.spin_s = SPIN_S  # for how long read() polls before it sleeps

    @property
    def is_open(self) -> bool:
        return self._sock is not None

    @property
    def has_moved(self) -> bool:
        """Whether it is open in a cluster, and the slot is at another node now, with all keys. Without a
        cluster another server has other keys, and a new connection to it is an outage to recover from."""
        return bool(self.door.guards) and self._sock is not None and self._place != self.door.place

    def fileno(self) -> int:
        return self._sock.fileno() if self._sock is not None else -1

    def open(self) -> None:
        if self._sock is None:
            self._made, place = self.door.connect()
            self._sock = self._made.sock
            self.opened += 1
            if place != self._place:
                self._place, self._predecessor = place, ""  # the predecessor was on another server
            self._reader = hiredis.Reader()
            self._sock.settimeout(self.door.reply_timeout_s)
            self._spin = BusyPoll()
            self._poller = select.poll()
            self._poller.register(self._sock, select.POLLIN)
            name = self._sock.getsockname()
            if self._sock.family == socket.AF_INET:
                self._address = f"{name[0]}:{name[1]}"
            elif self._sock.family == socket.AF_INET6:
                self._address = f"[{name[0]}]:{name[1]}"

    def kill_predecessor(self) -> None:
        """Make sure that no request still waiting on the previous connection is executed any more."""
        old, self._predecessor = self._predecessor, ""
        if old:
            try:
                self.call("CLIENT", "KILL", "TYPE", "normal", "ADDR", old)
            except BrokerError as exc:
                if isinstance(exc, BrokerDown):
                    raise  # anything else means no permission; the window is small

    def identify(self) -> int:
        """Request the server's id of this connection, with which it can be unblocked or killed."""
        if not self.id or self._sock is None:
            try:
                self.id = self.call("CLIENT", "ID")
            except BrokerError as exc:
                if isinstance(exc, BrokerDown):
                    raise
                self.id = 0  # no permission
        return self.id

    def drop(self) -> None:
        """Close. In a forked child this does not affect the parent's connection."""
        made, self._made, self._sock, self.id = self._made, None, None, 0
        if made is not None:
            self._predecessor = self._address
            made.disconnect()

    def is_stale(self) -> bool:
        """Whether the server has closed the connection, or sent data without a request."""
        return self._sock is not None and bool(self._poller.poll(0))

    def _is_unfit(self) -> bool:
        """Whether the connection is stale, or was idle so long that it is checked, and does not answer."""
        if self.is_stale():
            return True
        if not self.door.idle_check_s:
            return False
        now = time.monotonic()
        was, self._used = self._used, now
        if self._sock is None or now - was <= self.door.idle_check_s:
            return False
        try:
            self.call("PING")
        except BrokerError:
            return True
        return False

    def send(self, packed: bytes) -> None:
        """Write all of it, or raise NotSent (the connection is closed then)."""
        if self._sock is None:
            self.open()
        elif self._place != self.door.place:
            # Another connection of this process lost this server: all connections must use the same one.
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
                self._spin.wait(self._poller.poll, self.spin_s)
                data = sock.recv(RECV_BYTES) if sock is not None else b""
                if not data:
                    raise ConnectionResetError("the server closed the connection")
                reader.feed(data)
        except (OSError, hiredis.ProtocolError) as exc:
            self.drop()
            self.door.fail(exc)

    def read_within(self, timeout_s: float) -> Any:
        """The next reply, or False after timeout_s seconds."""
        until = time.monotonic() + timeout_s
        while True:
            reply = self.poll()
            if reply is not False:
                return reply
            left = until - time.monotonic()
            if left <= 0:
                return False
            self.wait(left)

    def wait(self, timeout_s: float, also: int = -1) -> None:
        """Wait until there may be something to read, here or from the descriptor `also`."""
        if self._sock is None:
            return
        poller = self._poller
        if also >= 0:
            poller = select.poll()
            poller.register(self._sock, select.POLLIN)
            poller.register(also, select.POLLIN)
        poller.poll(max(1, int(timeout_s * 1000)))

    def poll(self) -> Any:
        """The next reply if it has arrived, else False. Raises BrokerDown."""
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
                    return reply  # received before the connection closed; the next poll reports the end
                self.drop()
                self.door.fail(exc)
            reply = self._reader.gets()
        return reply

    def _receive_what_is_here(self, sock: socket.socket) -> bool:
        """Whether there may be more. Bounded: the reader moves its whole buffer with each reply, and
        megabytes may wait on an event subscription."""
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
        """Send one command whose reply is read later; raises BrokerDown."""
        self.send_or_fail(pack(command))

    def send_or_fail(self, packed: bytes) -> None:
        """Write all of it; raises BrokerDown."""
        try:
            self.send(packed)
        except NotSent as exc:
            raise BrokerDown(self.door.url, exc) from exc

    def fail(self, reply: ReplyError) -> NoReturn:
        """Raise the qcore error for a reply. A server that is not a primary (any more) is marked unusable."""
        if self.door.is_unfit(reply):
            self.door.leave(self._place)
            self.drop()
        self.door.fail(reply)

    # --- whole requests

    def call(self, *command: Any) -> Any:
        """Send one command; raises BrokerDown, BrokerFull, BrokerError."""
        return self.calls([command])[0]

    def calls(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send several commands in one write; raises the first error when all replies are read."""
        replies = self._replies([pack(c) for c in commands])
        for reply in replies:
            if isinstance(reply, ReplyError):
                self.fail(reply)
        return replies

    def _replies(self, packed: list[bytes]) -> list[Any]:
        """The replies to requests that are sent in one write. In a cluster those that the node has refused
        are repeated at the owner of the slot."""
        if self.has_moved:
            self.drop()  # no request is under way here, so the next connection can send this one
        self.send_or_fail(packed[0] if len(packed) == 1 else b"".join(packed))
        replies = [self.read() for _ in packed]
        if not self.door.guards:
            return replies
        tries, until = 0, time.monotonic() + self.door.connect_timeout_s
        while refused := [i for i, reply in enumerate(replies) if self.door.refuses(reply)]:
            first = refused[0]
            if len(refused) < len(replies) - first:
                self.drop()  # later ones were executed before earlier ones: the caller starts again
                self.door.fail(replies[first])
            self._look_again(replies[first], tries, until)
            tries += 1
            self.send_or_fail(b"".join(packed[first:]))
            replies[first:] = [self.read() for _ in packed[first:]]
        return replies

    def _look_again(self, reply: ReplyError, tries: int, until: float) -> None:
        """Leave a node that refuses; the next request goes to the owner of the slot. Raises BrokerDown."""
        self.drop()
        self.door.look_again(reply, tries, until)

    def is_refused(self, reply: Any) -> bool:
        """Whether a node of a cluster has refused a request whose reply was read separately. Then the
        connection is closed, and a repeated request goes to the owner of the slot."""
        if not self.door.refuses(reply):
            return False
        self._look_again(reply, 1, time.monotonic() + self.door.connect_timeout_s)
        return True

    def safe_calls(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """calls() in one transaction, repeated once on a new connection when the first connection was found
        dead before anything can have been executed."""
        if self._is_unfit():
            self.drop()
        single = len(commands) == 1
        if single:
            packed = pack(commands[0])
        else:
            packed = b"".join([pack(c) for c in (("MULTI",), *commands, ("EXEC",))])
        replies = self._safe_replies(packed, 1 if single else len(commands) + 2)
        for reply in replies:
            if isinstance(reply, ReplyError):
                self.fail(reply)
        if not single:
            replies = replies[-1]
            for reply in replies:
                if isinstance(reply, ReplyError):
                    self.fail(reply)
        return replies

    def _safe_replies(self, packed: bytes, count: int) -> list[Any]:
        """The `count` replies to a command or a transaction, as safe_calls() sends them. A transaction of
        which a node refuses any part is not executed at all."""
        tries, until = 0, time.monotonic() + self.door.connect_timeout_s
        while True:
            try:
                self.send(packed)
            except NotSent:
                self.send_or_fail(packed)
            replies = [self.read() for _ in range(count)]
            refused = next(filter(self.door.refuses, replies), None) if self.door.guards else None
            if refused is None:
                return replies
            self._look_again(refused, tries, until)
            tries += 1

    def run(self, script: Script, keys: Sequence[Any], arguments: Sequence[Any], safe: bool = False) -> Any:
        """Run a script by its digest; its text is sent only when the server does not have it."""
        if safe and self._is_unfit():
            self.drop()
        rest = self._rest(keys, arguments)
        (reply,) = self._replies([pack((*script.head, *rest))])
        if isinstance(reply, ReplyError):
            return self._spell_out(reply, script, rest)
        return reply

    def _spell_out(self, reply: ReplyError, script: Script, rest: Sequence[Any]) -> Any:
        """Send the text of a script whose digest is unknown to the server."""
        if str(reply).startswith("NOSCRIPT"):
            (reply,) = self._replies([pack(("EVAL", script.text, *rest))])
        if isinstance(reply, ReplyError):
            self.fail(reply)
        return reply

    def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one write, in order; none of them can use results of the earlier ones."""
        replies = self._replies([pack((*c[0].head, *self._rest(c[1], c[2]))) for c in calls])
        for i, (script, keys, arguments) in enumerate(calls):
            if isinstance(replies[i], ReplyError):
                replies[i] = self._spell_out(replies[i], script, self._rest(keys, arguments))
        return replies

    def _rest(self, keys: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """What follows the script in a request: the number of keys, the keys, the arguments."""
        guards = self.door.guards
        return (len(keys) + len(guards), *keys, *guards, *arguments)


class SharedConnection:
    """One connection for all threads of a process, behind a lock."""

    def __init__(self, door: ServerSelector) -> None:
        self._door = door
        self._renew()

    def _renew(self) -> None:
        self.lock = threading.RLock()
        self.link = RedisConnection(self._door)

    def after_fork(self) -> None:
        link = self.link
        self._renew()
        link.drop()

    def call(self, *command: Any) -> Any:
        """Run one command."""
        with self.lock:
            return self.link.safe_calls([command])[0]

    def run(self, script: Script, keys: tuple[Any, ...], arguments: tuple[Any, ...]) -> Any:
        """Run one script."""
        with self.lock:
            return self.link.run(script, keys, arguments, safe=True)

    def drop(self) -> None:
        """Close."""
        with self.lock:
            self.link.drop()


class ThreadConnections(SharedConnection):
    """A connection for each thread of the system: a socket of gevent works only in the one that made it."""

    def _renew(self) -> None:
        self._made: dict[int, tuple[Any, RedisConnection]] = {}

    def _own(self) -> tuple[Any, RedisConnection]:
        thread = threading.get_native_id()
        if thread not in self._made:
            self._made.setdefault(thread, (threading.RLock(), RedisConnection(self._door)))
        return self._made[thread]

    @property
    def lock(self) -> Any:  # type: ignore[override]
        return self._own()[0]

    @property
    def link(self) -> RedisConnection:  # type: ignore[override]
        return self._own()[1]

    def after_fork(self) -> None:
        made = self._made
        self._renew()
        for _, link in made.values():
            link.drop()

    def drop(self) -> None:
        for _, link in list(self._made.values()):
            link.drop()


def shared_connection(door: ServerSelector) -> SharedConnection:
    """The connection of a process that its parts share."""
    return (ThreadConnections if sockets_belong_to_threads() else SharedConnection)(door)
