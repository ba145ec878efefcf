"""One connection of the kombu driver: open it, use it under its lock, detect when it is a new one.

In:  a URL of any kombu transport.  Out: channels, and received frames.
Before this: broker.py, consumer.py, bus.py.
`native` means pyamqp and so RabbitMQ: it has a descriptor, heartbeats and confirms. kombu's other
transports are emulations that can only be polled.
"""

from __future__ import annotations

import importlib
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty
from typing import Any, TypeVar

from amqp.exceptions import AMQPError, ChannelError, MessageNacked
from kombu.connection import Connection
from kombu.exceptions import KombuError

from qcore.brokers.kombu.frames import Inbox, Reader
from qcore.brokers.shared.endpoints import ROUND_ROBIN, shared
from qcore.brokers.shared.fork_hooks import tell_after_fork
from qcore.errors import BrokerDown, ConfigError, QcoreError, mask_url

T = TypeVar("T")

log = logging.getLogger("qcore.broker")

NATIVE_SCHEMES = frozenset(("amqp", "amqps", "pyamqp"))
KAFKA, PYRO, FILES = ("kafka", "confluentkafka"), "pyro", "filesystem"
ANSWER_S = 10.0  # the longest wait for any answer of the broker
STALL_S = 0.2  # the longest wait for the rest of a partly received frame
FRAMES_AT_ONCE = 20_000
POLL_S = 0.05  # between two polls of an emulation
SQS_POLL_S = 1.0  # each poll is a request that Amazon charges for; kombu's default
CONNECT_TIMEOUT_S = 4.0
CHECK_RATE = 3.0  # how often a heartbeat is sent in the time after which silence counts as an outage
# Not for pyamqp: options of qcore, and confirms, which publisher.py handles itself.
_OURS = frozenset(
    "lease_s connect_timeout_s result_prefix event_ttl_s max_priority confirm_publish confirm_timeout "
    "define_queue fanouts failed_ttl_s failed_max schedule_outbox".split()
)
#: settings passed with the options
_SETTINGS = ("broker_", "task_", "result_", "control_queue_", "control_exchange", "event_")

#: Connections of the parent process. Kept for ever: releasing one could close the AMQP connection on a
#: socket that the parent still uses.
_inherited: list[Any] = []


def is_native(url: str) -> bool:
    return url.partition("://")[0] in NATIVE_SCHEMES


def is_sqs(url: str) -> bool:
    return url.partition("://")[0].lower() == "sqs"


class KombuConnection:
    """A connection that opens on first use. Every access holds `lock`.

    epoch counts connections: a delivery of an older one cannot be settled on this one.
    """

    def __init__(
        self, url: str, options: dict[str, Any], *, heartbeat_s: float = 0.0, name: str = ""
    ) -> None:
        self.url, self.options, self.heartbeat_s, self.name = url, options, heartbeat_s, name
        self.native, self._scheme = is_native(url), url.partition("://")[0].lower()
        self.lock = threading.RLock()
        self.epoch = 0
        self.blocked = False  # the broker accepts no messages because memory or disk are short
        # Nodes of one cluster: other connections of this process may use another one.
        self.ends = shared(url, str(options.get("broker_failover_strategy") or ROUND_ROBIN))
        self._transport: Any = None
        self._connection: Any = None
        self._poll: Any = None
        self._pid = os.getpid()
        self._errors: tuple[type[BaseException], ...] = (
            AMQPError,
            MessageNacked,
            KombuError,
            OSError,
        )
        self._channel_errors: tuple[type[BaseException], ...] = ()
        tell_after_fork(self)

    @property
    def poll_s(self) -> float:
        """Seconds between two polls of a broker that cannot wake its consumers."""
        own = self.options.get("polling_interval")
        return float(own) if own is not None else SQS_POLL_S if is_sqs(self.url) else POLL_S

    # --- open and close

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return mask_url(self.url)

    @property
    def is_open(self) -> bool:
        connection = self._connection
        if connection is None:
            return False
        return bool(connection.connected) if self.native else True

    @contextmanager
    def use(self, connect: bool = True) -> Iterator[None]:
        """Hold the lock; errors of the client library become BrokerDown and end the connection."""
        with self.lock:
            try:
                if connect:
                    self.open()
                elif not self.is_open:
                    raise BrokerDown(self.url, "the connection is closed")
                yield
            except QcoreError:
                raise
            except self._errors as exc:
                raise self._broken(exc) from exc
            except (AttributeError, TypeError, KeyError) as exc:
                # pyamqp raises these when the connection closed during one of its methods.
                if self.is_open:
                    raise
                raise self._broken(exc) from exc

    def open(self) -> None:
        """Connect if needed, to a server of the list that answers. Raises BrokerDown."""
        if self.is_open:
            return
        self.drop()
        reason: BaseException | None = None
        for url in self.ends.to_try():
            try:
                self._connect(url)
            except self._errors as exc:
                self.ends.failed(url)
                reason = exc
            else:
                self.ends.reached(url)
                return
        raise BrokerDown(self.url, describe(reason)) from reason

    def _connect(self, url: str) -> None:
        timeout_s = float(self.options.get("connect_timeout_s", CONNECT_TIMEOUT_S)) / len(self.ends.urls)
        extra = {k: v for k, v in self.options.items() if k not in _OURS and not k.startswith(_SETTINGS)}
        if is_sqs(url):
            extra["wait_time_seconds"] = 0  # long_polls.py has the requests that wait
        if self.native:
            extra.update(
                read_timeout=ANSWER_S,
                write_timeout=ANSWER_S,
                frame_handler=Reader,
                on_blocked=self._on_blocked,
                on_unblocked=self._on_unblocked,
                client_properties={
                    "connection_name": self.name or "qcore",
                    **extra.pop("client_properties", {}),
                },
            )
        try:
            client: Any = Connection(  # type: ignore[no-untyped-call]  # kombu has no types
                url,
                connect_timeout=timeout_s,
                heartbeat=self.heartbeat_s if self.native else 0,
                ssl=self.options.get("broker_use_ssl"),
                login_method=self.options.get("broker_login_method"),
                transport_options=extra,
            )
            transport = client.transport
        except (KeyError, ImportError, ValueError) as exc:
            raise ConfigError(f"kombu has no transport for this broker URL: {exc}") from exc
        if not self.native:
            self._note_errors(transport)
        if self._scheme == FILES:
            transport.Channel = importlib.import_module("qcore.brokers.kombu.file_channel").FileChannel
        connection = transport.establish_connection()
        self._transport, self._connection = transport, connection
        self._pid, self.blocked = os.getpid(), False
        self.epoch += 1
        if self.native:
            self._poll = select.poll()
            self._poll.register(connection.sock.fileno(), select.POLLIN)
            self._inbox = Inbox(connection.transport)

    def _note_errors(self, transport: Any) -> None:
        """Take the errors of an emulation for outages, before the first one."""
        self._channel_errors = tuple(transport.channel_errors)
        found = [*self._errors, *transport.connection_errors, *transport.channel_errors]
        if is_sqs(self.url):
            # kombu does not name the errors with which the service refuses a request.
            found.append(importlib.import_module("botocore.exceptions").ClientError)
        elif self._scheme in KAFKA:
            found.append(importlib.import_module("confluent_kafka").KafkaException)
        elif self._scheme == PYRO:
            found.append(importlib.import_module("Pyro4.errors").PyroError)
        self._errors = tuple(dict.fromkeys(found))

    def drop(self) -> None:
        """Drop the connection without sending anything to the broker."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if self.native:
                sock = connection.sock if connection.connected else None
                if sock is not None:
                    sock.settimeout(STALL_S)  # a TLS shutdown could wait for ever
                connection.collect()
            else:
                self._transport.close_connection(connection)
        except Exception:  # it is broken already; its errors add nothing
            pass

    def close(self) -> None:
        """Close the connection properly, within a second."""
        with self.lock:
            connection = self._connection
            if connection is not None and self.native and self.is_open:
                try:
                    wait = struct.pack("ll", 1, 0)
                    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)
                    connection.close()
                except Exception:  # the connection ends either way
                    pass
            self.drop()

    def after_fork(self) -> None:
        self.lock = threading.RLock()
        _inherited.append((self._connection, self._transport))
        self._connection = self._transport = None
        self.epoch += 1

    def _broken(self, exc: BaseException) -> BrokerDown:
        self.drop()
        return BrokerDown(self.url, describe(exc))

    def _on_blocked(self, reason: str) -> None:
        self.blocked = True

    def _on_unblocked(self) -> None:
        self.blocked = False

    # --- use (all under the lock)

    def channel(self) -> Any:
        """A new channel. Bodies stay bytes, as published."""
        channel = self._transport.create_channel(self._connection)
        if self.native:
            channel.auto_decode = False
        elif self._scheme in KAFKA:
            channel.wait_time_seconds = 0  # its client fetches messages in a thread of its own
        elif self._scheme == PYRO:
            _mend_pyro(channel)
        return channel

    def attempt(self, operation: Callable[[Any], T]) -> T:
        """Run `operation` on a channel of its own, because an error closes the channel.

        Errors of the channel (not found, precondition failed, …) are raised as amqp raises them.
        """
        channel = self.channel()
        try:
            answer = operation(channel)
        except (ChannelError, *self._channel_errors):
            if self.is_open:
                channel.close()  # pyamqp has opened another one under its number
            raise
        channel.close()
        return answer

    def next_message(self, channel: Any, queue: str, **options: Any) -> Any:
        """The message that basic_get() returns; None: there is none, or it cannot be read. kombu takes what
        an emulation cannot read from its queue, so it is lost; the log says so."""
        try:
            return channel.basic_get(queue, **options)
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            if self.native:
                raise
            log.error("a message of the queue '%s' is lost, since kombu cannot read it: %r", queue, exc)
            return None

    @property
    def native_connection(self) -> Any:
        """pyamqp's connection, to write frames to; raises OSError when it is closed (native only)."""
        if self._connection is None or not self._connection.connected:
            raise OSError("the connection is closed")
        return self._connection

    def fileno(self) -> int:
        """The descriptor, or -1 when there is none."""
        if not self.native or not self.is_open:
            return -1
        number: int = self._connection.sock.fileno()
        return number

    def readable(self, timeout_s: float = 0.0) -> bool:
        """Whether data has arrived (native only)."""
        if self._inbox.has_frame():
            return True
        return self._socket_readable(timeout_s)

    def _socket_readable(self, timeout_s: float) -> bool:
        sock = self._connection.sock
        if sock is None:
            raise OSError("the connection is closed")
        if hasattr(sock, "pending") and sock.pending():
            return True  # TLS has decrypted more than was read
        return bool(self._poll.poll(timeout_s * 1000))

    def pump(self) -> None:
        """Handle all received frames, without waiting for more (native only)."""
        connection, inbox = self._connection, self._inbox
        handle, transport = connection.on_inbound_frame, connection.transport
        with transport.having_timeout(STALL_S):
            for _ in range(FRAMES_AT_ONCE):
                try:
                    if inbox.is_torn:
                        if not self._socket_readable(0.0) and not inbox:
                            return
                        handle(transport.read_frame())
                        continue
                    if handle.take(inbox):
                        continue
                    frame = inbox.frame()
                    if frame is not None:
                        handle(frame)
                    elif self._socket_readable(0.0):
                        inbox.fill()
                    else:
                        return
                except TimeoutError:
                    return  # a partial frame; it is kept until the rest arrives

    @contextmanager
    def refreshed(self) -> Iterator[None]:
        """Hold this connection. Nothing is sent yet, so a stale one may be replaced."""
        with self.lock:
            self.refresh()
            with self.use():
                yield

    def refresh(self) -> None:
        """Detect that the broker has closed an idle connection, and open a new one."""
        if self.native and self.is_open:
            try:
                self.pump()
            except self._errors:
                self.drop()
            except (AttributeError, TypeError, KeyError):
                if self.is_open:
                    raise
        self.open()

    def tick(self) -> None:
        """Send a heartbeat if one is due; raises when the broker has been silent for too long."""
        if self.native and self.heartbeat_s:
            self.pump()  # read what has arrived before judging the silence
            self._connection.heartbeat_tick(rate=self.options.get("broker_heartbeat_checkrate", CHECK_RATE))


def _mend_pyro(channel: Any) -> None:
    """Mend what fails in kombu's transport: closing a channel that has not looked up its queues, an empty
    queue, whose exception has another name since Python 3.7, and the server's purge()."""
    register = importlib.import_module("Pyro4.util").SerializerBase.register_dict_to_class
    register("_queue.Empty", lambda name, fields: Empty())
    queues = channel.shared_queues

    def purge(queue: str) -> int:
        count = 0
        with suppress(Empty):
            while True:
                queues.get(queue)
                count += 1
        return count

    channel._purge = purge


def describe(exc: BaseException | None) -> str:
    """The error as text for operators."""
    if isinstance(exc, TimeoutError):
        return "it did not answer in time"
    text = getattr(exc, "reply_text", None) or str(exc)
    return text or type(exc).__name__


class WakeupSignal:
    """A descriptor that this process can make readable."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        self._rung = False

    def fileno(self) -> int:
        return self._read

    def ring(self) -> None:
        if not self._rung and self._write >= 0:
            self._rung = True
            os.write(self._write, b"!")

    def drain_pipe(self) -> None:
        if self._rung and self._read >= 0:
            self._rung = False
            os.read(self._read, 64)

    def close(self) -> None:
        if self._read >= 0:
            os.close(self._read)
            os.close(self._write)
            self._read = self._write = -1
