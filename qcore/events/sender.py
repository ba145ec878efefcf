"""Say what happens: the worker's side of the events.

In:  send(kind, fields) from any thread, never blocking.  Out: messages on the event exchange: task
events in batches of up to 24 under `task.multi`, worker events alone, a heartbeat every two seconds.
Events are numbered per worker (`seq`), so that a reader sees what it missed; when the broker is away
they are dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qcore.errors import BrokerError
from qcore.version import __version__
from qcore.wire import event as wire

if TYPE_CHECKING:
    from qcore.app import App

log = logging.getLogger("qcore.events")

BATCH = 24
WAITING_MOST = 20_000
HEARTBEAT_S = 2.0
SOFTWARE = {"sw_ident": "py-qcore", "sw_ver": __version__, "sw_sys": os.uname().sysname}


class EventSender:
    """A service with a thread and a broker connection of its own."""

    def __init__(
        self,
        app: App,
        node: str,
        facts: Callable[[], dict[str, Any]],
        task_events: bool = False,
        heartbeat_s: float | None = HEARTBEAT_S,
    ) -> None:
        """facts() gives the fields of worker events: active, processed."""
        self._app, self.node, self._facts = app, node, facts
        self.tasks_on = task_events
        self.heartbeat_s = heartbeat_s
        self.dropped = 0
        self._seq = 0
        self._waiting: deque[wire.Event] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = False
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._broker: Any = None

    def start(self) -> None:
        from qcore.brokers.base import open_broker

        self._broker = open_broker(self._app.broker_url(), self._app.broker_options())
        self._say("worker-online")
        self._thread = threading.Thread(target=self._serve, name="events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send what waits, then worker-offline."""
        self._stop = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=3.0)

    def task(self, kind: str, uuid: str, **fields: Any) -> None:
        """A task event, when task events are on."""
        if self.tasks_on:
            self._add({"type": kind, "uuid": uuid, **fields})

    def send(self, kind: str, **fields: Any) -> None:
        """Any event."""
        self._add({"type": kind, **fields})

    def _add(self, event: wire.Event) -> None:
        if len(self._waiting) >= WAITING_MOST:
            self.dropped += 1
            return
        with self._lock:
            self._seq += 1
            event["seq"] = self._seq
            event["clock"] = self._app.tick_clock()
            event.setdefault("timestamp", time.time())
            self._waiting.append(event)
        self._wake.set()

    def heartbeat(self) -> None:
        """One heartbeat now."""
        self._say("worker-heartbeat")

    def _say(self, kind: str) -> None:
        with contextlib.suppress(OSError):
            self._add(
                {
                    "type": kind,
                    "freq": self.heartbeat_s or 5.0,
                    "loadavg": [round(x, 2) for x in os.getloadavg()],
                    **SOFTWARE,
                    **self._facts(),
                }
            )

    def _serve(self) -> None:
        next_beat = time.monotonic() + (self.heartbeat_s or 1e9)
        while True:
            self._wake.wait(max(next_beat - time.monotonic(), 0) if self.heartbeat_s else 60.0)
            self._wake.clear()
            if self.heartbeat_s and time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self.heartbeat_s
                self._say("worker-heartbeat")
            if self._stop:
                self._say("worker-offline")
            self._flush()
            if self._stop:
                with contextlib.suppress(BrokerError):
                    self._broker.close()
                return
            # A moment for the next events of a burst to join the same message.
            time.sleep(0.005)

    def _flush(self) -> None:
        while self._waiting:
            batch: list[wire.Event] = []
            while self._waiting and len(batch) < BATCH:
                if not self._waiting[0]["type"].startswith("task-"):
                    if not batch:
                        self._publish(self._waiting.popleft(), None)
                    break
                batch.append(self._waiting.popleft())
            if batch:
                self._publish(batch, wire.BATCH_KEY)

    def _publish(self, events: Any, key: str | None) -> None:
        common = {"hostname": self.node, "utcoffset": -time.timezone / 3600, "pid": self._pid}
        if isinstance(events, list):
            for event in events:
                event.update(common)
        else:
            events.update(common)
            key = wire.routing_key(events["type"])
        try:
            raw = wire.encode(events, self.node, key or wire.BATCH_KEY)
            self._broker.broadcast(self._app.conf.event_exchange, key, raw)
        except (BrokerError, TypeError) as exc:
            self.dropped += len(events) if isinstance(events, list) else 1
            log.debug("events dropped: %s", exc)
