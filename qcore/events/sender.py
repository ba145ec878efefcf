"""Publish events: the worker's side.

In:  note() and send() from any thread, never blocking.  Out: messages on the event exchange: task
events in batches of up to 48 under `task.multi`, worker events alone, a heartbeat every two seconds.
Events are numbered per worker (`seq`), so that a reader detects gaps; when the broker is away
they are dropped and counted. A task event is a note until a subscriber is known: when the broker
reports that a batch had no subscribers, the events noted until then are never built.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.errors import BrokerError, ConfigError, SecurityError
from qcore.signals import heartbeat_sent
from qcore.version import __version__
from qcore.wire import event as wire

if TYPE_CHECKING:
    from qcore.tasks.interface import ClientApp


class QueuedEvent(NamedTuple):
    """Task events that are not built yet."""

    build: Callable[..., list[wire.Event]]  # (*about) -> the events: type, uuid, timestamp, their own fields
    about: tuple[Any, ...]
    makes: int  # the number of events


log = logging.getLogger("qcore.events")

BATCH = 48
WAITING_MOST = 20_000
HEARTBEAT_S = 2.0
#: between heartbeats while there are no subscribers, as far as known; a new subscriber misses a few
UNHEARD_BEAT_S = 10.0
#: how long events are collected for one message: with subscribers, and without
GATHER_S, UNHEARD_S = 0.005, 0.02
SOFTWARE = {"sw_ident": "py-qcore", "sw_ver": __version__, "sw_sys": os.uname().sysname}


class EventSender:
    """A service with its own thread and broker connection."""

    def __init__(
        self,
        app: ClientApp,
        node: str,
        facts: Callable[[], dict[str, Any]],
        task_events: bool = False,
        heartbeat_s: float | None = HEARTBEAT_S,
    ) -> None:
        """facts() returns the fields of worker events: active, processed."""
        self._app, self.node, self._facts = app, node, facts
        self.tasks_on = task_events
        self.heartbeat_s = heartbeat_s
        self._no_listeners = False  # the last message had no subscribers
        self.dropped = 0
        self._seq = 0
        self._waiting: deque[QueuedEvent | wire.Event] = deque()
        self._wake_pending = False  # the thread has been notified of waiting events
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._pid = os.getpid()
        self._utcoffset = -time.timezone / 3600
        self._thread: threading.Thread | None = None
        self._broker: Any = None

    def start(self) -> None:
        from qcore.brokers.registry import open_broker

        self._broker = open_broker(self._app.broker_url(), self._app.broker_options())
        self._send_worker_event("worker-online")
        self._thread = threading.Thread(target=self._serve, name="events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send the waiting events, then worker-offline."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=3.0)

    def note(self, build: Callable[..., list[wire.Event]], *about: Any, makes: int = 1) -> None:
        """Note `makes` task events, when task events are on; build(*about) creates them when they are sent,
        so the objects in `about` must not change any more."""
        if self.tasks_on:
            self._add(QueuedEvent(build, about, makes))

    def send(self, kind: str, **fields: Any) -> None:
        """Send one event of any type, unchanged."""
        self._add({"type": kind, "timestamp": time.time(), **fields})

    def _add(self, event: QueuedEvent | wire.Event) -> None:
        if len(self._waiting) >= WAITING_MOST:
            self.dropped += 1
            return
        self._waiting.append(event)
        if not self._wake_pending:
            self._wake_pending = True
            self._wake.set()

    def heartbeat(self) -> None:
        """Send a heartbeat now."""
        self._send_worker_event("worker-heartbeat")

    def _send_worker_event(self, kind: str) -> None:
        with contextlib.suppress(OSError):
            load = [round(x, 2) for x in os.getloadavg()]
            self.send(kind, freq=self.heartbeat_s or 5.0, loadavg=load, **SOFTWARE, **self._facts())

    def _serve(self) -> None:
        next_beat = time.monotonic() + (self.heartbeat_s or 1e9)
        while True:
            self._wake.wait(max(next_beat - time.monotonic(), 0) if self.heartbeat_s else 60.0)
            self._wake.clear()
            self._wake_pending = False
            beats = bool(self.heartbeat_s) and time.monotonic() >= next_beat
            if beats:
                self._send_worker_event("worker-heartbeat")
                heartbeat_sent.send(self)
            stops = self._stop.is_set()
            if stops:
                self._send_worker_event("worker-offline")
            heard = self._flush()
            if self.heartbeat_s and (beats or not self._no_listeners):
                pause_s = max(self.heartbeat_s, UNHEARD_BEAT_S if self._no_listeners else 0.0)
                next_beat = min(next_beat if not beats else 1e18, time.monotonic() + pause_s)
            if stops:
                with contextlib.suppress(BrokerError):
                    self._broker.close()
                return
            # A delay, so that the next events of a burst join the same message.
            self._stop.wait(GATHER_S if heard else UNHEARD_S)

    def _flush(self) -> bool:
        """Send the waiting events; returns whether they may have reached a subscriber."""
        heard = True
        while self._waiting:
            batch: list[wire.Event] = []
            alone: wire.Event | None = None  # an event sent in its own message, after those before it
            while self._waiting and len(batch) < BATCH and alone is None:
                event = self._waiting.popleft()
                if not isinstance(event, QueuedEvent):
                    alone = event
                elif heard:
                    batch += map(self._numbered, event.build(*event.about))
                else:
                    self._seq += event.makes
            # The subscribers at the time of these events are still subscribed, or no longer need them.
            if batch:
                heard = self._publish(batch, wire.BATCH_KEY) != 0
            if alone is not None:
                self._publish(self._numbered(alone), wire.routing_key(alone["type"]))
        return heard

    def _numbered(self, event: wire.Event) -> wire.Event:
        self._seq += 1
        event["seq"], event["clock"] = self._seq, self._app.tick_clock()
        event["hostname"], event["utcoffset"], event["pid"] = self.node, self._utcoffset, self._pid
        return event

    def _publish(self, events: wire.Event | list[wire.Event], key: str) -> int | None:
        """Publish; returns the number of subscribers reached, None when unknown."""
        try:
            raw = wire.encode(events, self.node, key, self._app.conf.event_serializer)
            heard: int | None = self._broker.broadcast(self._app.conf.event_exchange, key, raw)
            self._no_listeners = heard == 0
            return heard
        except (BrokerError, TypeError, ConfigError, SecurityError) as exc:
            self.dropped += len(events) if isinstance(events, list) else 1
            log.debug("events dropped: %s", exc)
            return None
