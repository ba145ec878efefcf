"""`app.events`: events as Celery's users write programs for them.

    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"task-failed": told, "*": state.event})
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

from qcore.events.receiver import listen
from qcore.events.state import State
from qcore.wire import event as wire
from qcore.wire.event import Event

if TYPE_CHECKING:
    from qcore.tasks.interface import ClientApp

Handler = Callable[[Event], Any]


class Events:
    """What `app.events` is."""

    def __init__(self, app: ClientApp) -> None:
        self._app = app

    def Receiver(
        self,
        connection: Any = None,
        handlers: Mapping[str, Handler] | None = None,
        routing_key: str = "#",
        **_: Any,
    ) -> Receiver:
        """connection is taken for Celery's sake; ours is made when capture() begins."""
        return Receiver(self._app, handlers or {}, routing_key)

    def State(self, callback: Callable[[State, Event], Any] | None = None, **options: Any) -> State:
        """callback(state, event) is called with each event, as Celery's State does it."""
        most = options.get("max_tasks_in_memory", 10_000)
        state = State(int(most))
        if callback is not None:
            state.on_event = lambda event: callback(state, event)
        return state

    def Dispatcher(
        self, connection: Any = None, hostname: str | None = None, enabled: bool = True, **_: Any
    ) -> Dispatcher:
        return Dispatcher(self._app, hostname, enabled)

    default_dispatcher = Dispatcher


class Receiver:
    """Calls handlers by event type; '*' gets what no other handler is for."""

    def __init__(self, app: ClientApp, handlers: Mapping[str, Handler], routing_key: str) -> None:
        self.app, self.handlers, self.routing_key = app, dict(handlers), routing_key
        #: set it to end capture() after the event that is being handled
        self.should_stop = False

    def capture(self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True) -> None:
        """Handle events until limit of them came, none came for timeout seconds, or should_stop.

        wakeup asks the workers for a sign of life first. Raises BrokerDown, and TimeoutError like
        Celery's when the time ran out.
        """
        for _ in self.itercapture(limit, timeout, wakeup):
            pass

    def itercapture(
        self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True
    ) -> Iterator[Event]:
        """The same, giving each event after it was handled."""
        exchange = self.app.conf.event_exchange
        with listen(self.app.broker, self.routing_key, exchange) as batches:
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
                    raise TimeoutError(f"no event came for {timeout:g} s")
                if self.should_stop:
                    return

    def process(self, type: str, event: Event) -> None:
        """Call the handler of this type."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler is not None:
            handler(event)

    def wakeup_workers(self) -> None:
        """Let every worker send a heartbeat now."""
        self.app.control.tell("heartbeat")


class Dispatcher:
    """Sends events of the user's own: `with app.events.Dispatcher() as d: d.send('task-noticed', uuid=…)`."""

    def __init__(self, app: ClientApp, hostname: str | None = None, enabled: bool = True) -> None:
        self.app, self.enabled = app, enabled
        self.hostname = hostname or f"gen{os.getpid()}@{socket.gethostname()}"

    def send(self, type: str, **fields: Any) -> int | None:
        """Send one event; how many heard it where the broker tells. Raises BrokerDown, TypeError."""
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
        raw = wire.encode(event, self.hostname, key)
        return self.app.broker.broadcast(self.app.conf.event_exchange, key, raw)

    def enable(self) -> None:
        self.enabled = True

    def disable(self) -> None:
        self.enabled = False

    def close(self) -> None:
        """Nothing is kept open; the app's broker is used."""

    def __enter__(self) -> Dispatcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
