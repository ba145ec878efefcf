"""`app.events`: the events interface for programs written for Celery.

    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"task-failed": on_failed, "*": state.event})
        receiver.capture(limit=None, timeout=None, wakeup=True)

In:  an app.  Out: a Receiver, a State, a Dispatcher.  After this: receiver.py, state.py, wire/event.py.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qcore.base.keywords import check_accepted
from qcore.events.receiver import listen
from qcore.events.state import State
from qcore.wire import event as wire
from qcore.wire.event import Event

if TYPE_CHECKING:
    from qcore.tasks.interface import ClientApp

Handler = Callable[[Event], Any]


class Events:
    """The type of `app.events`."""

    def __init__(self, app: ClientApp) -> None:
        self._app = app

    def Receiver(
        self,
        connection: Any = None,
        handlers: Mapping[str, Handler] | None = None,
        routing_key: str = "#",
        **celerys: Any,
    ) -> Receiver:
        """connection is accepted for compatibility with Celery; capture() opens its own."""
        theirs = "node_id app queue_prefix accept queue_ttl queue_expires channel"
        check_accepted("a Receiver", celerys, "connection handlers routing_key", theirs)
        return Receiver(self._app, handlers or {}, routing_key)

    def State(self, callback: Callable[[State, Event], Any] | None = None, **options: Any) -> State:
        """callback(state, event) is called with each event, as Celery's State does."""
        own = "callback max_tasks_in_memory"
        most = options.pop("max_tasks_in_memory", 10_000)
        check_accepted("a State", options, own, "max_workers_in_memory")
        state = State(int(most))
        if callback is not None:
            state.on_event = lambda event: callback(state, event)
        return state

    def Dispatcher(
        self, connection: Any = None, hostname: str | None = None, enabled: bool = True, **celerys: Any
    ) -> Dispatcher:
        theirs = "channel buffer_while_offline app serializer groups delivery_mode buffer_group buffer_limit"
        check_accepted("a Dispatcher", celerys, "connection hostname enabled", theirs)
        return Dispatcher(self._app, hostname, enabled)

    default_dispatcher = Dispatcher


class Receiver:
    """Calls handlers by event type; '*' handles all types without a handler of their own."""

    def __init__(self, app: ClientApp, handlers: Mapping[str, Handler], routing_key: str) -> None:
        self.app, self.handlers, self.routing_key = app, dict(handlers), routing_key
        #: when True, capture() ends after the current event
        self.should_stop = False

    def capture(self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True) -> None:
        """Handle events until `limit` arrived, none arrived for timeout seconds, or should_stop is set.

        wakeup requests a heartbeat from every worker first. Raises BrokerDown, and TimeoutError, as Celery
        does, after the time-out.
        """
        for _ in self.itercapture(limit, timeout, wakeup):
            pass

    def itercapture(
        self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True
    ) -> Iterator[Event]:
        """As capture(), returning each event after it was handled."""
        exchange = self.app.conf.event_exchange
        with listen(
            self.app.broker, self.routing_key, exchange, serializer=self.app.conf.event_serializer
        ) as batches:
            if wakeup:
                self.wakeup_workers()
            count, last = 0, time.monotonic()
            for batch in batches:
                for event in batch:
                    self.process(event["type"], event)
                    yield event
                    count += 1
                    if self.should_stop or (limit is not None and count >= limit):
                        return
                if batch:
                    last = time.monotonic()
                elif timeout is not None and time.monotonic() - last >= timeout:
                    raise TimeoutError(f"no event arrived for {timeout:g} s")
                if self.should_stop:
                    return

    def process(self, type: str, event: Event) -> None:
        """Call the handler of this type."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler is not None:
            handler(event)

    def wakeup_workers(self) -> None:
        """Make every worker send a heartbeat now."""
        self.app.control.tell("heartbeat")


class Dispatcher:
    """Sends custom events: `with app.events.Dispatcher() as d: d.send('task-noticed', uuid=…)`."""

    def __init__(self, app: ClientApp, hostname: str | None = None, enabled: bool = True) -> None:
        self.app, self.enabled = app, enabled
        self.hostname = hostname or f"gen{os.getpid()}@{socket.gethostname()}"

    def send(self, type: str, **fields: Any) -> int | None:
        """Send one event; returns how many received it where known. Raises BrokerDown, TypeError."""
        if not self.enabled:
            return None
        event: Event = {
            "type": type,
            "hostname": self.hostname,
            "utcoffset": -time.timezone / 3600,
            "pid": os.getpid(),
            "clock": self.app.tick_clock(),
            "timestamp": time.time(),
            **fields,
        }
        key = wire.routing_key(type)
        raw = wire.encode(event, self.hostname, key, self.app.conf.event_serializer)
        return self.app.broker.broadcast(self.app.conf.event_exchange, key, raw)

    def enable(self) -> None:
        self.enabled = True

    def disable(self) -> None:
        self.enabled = False

    def close(self) -> None:
        """No effect: the dispatcher uses the app's broker."""

    def __enter__(self) -> Dispatcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
