"""`app.events`: the events interface for programs written for Celery.

    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"task-failed": on_failed, "*": state.event})
        receiver.capture(limit=None, timeout=None, wakeup=True)

In:  an app.  Out: a Receiver, a State, a Dispatcher.  After this: receiver.py, state.py, wire/event.py.
"""

from __future__ import annotations

import importlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qcore.base.keywords import check_accepted
from qcore.events.cluster import State
from qcore.events.receiver import listen
from qcore.settings.values import refuse_queue_kind
from qcore.tasks.current_app import current_app
from qcore.wire import event as wire
from qcore.wire.event import Event as EventFields

if TYPE_CHECKING:
    from qcore.tasks.interface import ClientApp

Handler = Callable[[EventFields], Any]

#: keywords of Celery's receivers and dispatchers that have no meaning here
OF_QUEUES = "channel queue_prefix accept queue_ttl queue_expires queue_exclusive queue_durable"
OF_BUFFERS = (
    "channel buffer_while_offline serializer groups delivery_mode buffer_group buffer_limit on_send_buffered"
)


#: Celery's names of the classes of app.events
OF_RECEIVERS, OF_STATES = "celery.events.receiver:EventReceiver", "celery.events.state:State"
OF_DISPATCHERS = "celery.events.dispatcher:EventDispatcher"
_OWN: dict[str, Callable[[], Any]] = {
    OF_RECEIVERS: lambda: Receiver,
    OF_DISPATCHERS: lambda: Dispatcher,
    OF_STATES: lambda: State,
}


def Event(type: str, _fields: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A new event: its fields, the type, and the time unless it is given."""
    return {"timestamp": time.time(), **(_fields or {}), **fields, "type": type}


def group_from(type: str) -> str:
    """The part of the type of an event before its first dash: "task" of "task-sent"."""
    return type.partition("-")[0]


class Events:
    """The type of `app.events`. A subclass may name other classes for what it makes."""

    receiver_cls: str | type = OF_RECEIVERS
    dispatcher_cls: str | type = OF_DISPATCHERS
    state_cls: str | type = OF_STATES

    def __init__(self, app: ClientApp) -> None:
        self.app = app

    def _class(self, kind: str | type) -> Any:
        """A class, or what its name means: that of ours for a name of Celery's."""
        if isinstance(kind, str):
            if kind in _OWN:
                return _OWN[kind]()
            module, _, name = kind.replace(":", ".").rpartition(".")
            return getattr(importlib.import_module(module), name)
        return kind

    def Receiver(
        self,
        channel: Any = None,
        handlers: Mapping[str, Handler] | None = None,
        routing_key: str = "#",
        **celerys: Any,
    ) -> Any:
        """A Receiver. channel, or a connection, is accepted for Celery's sake; capture() opens its own."""
        check_accepted(
            "a Receiver", celerys, "channel handlers routing_key", f"connection node_id app {OF_QUEUES}"
        )
        return self._class(self.receiver_cls)(channel, handlers, routing_key, app=self.app)

    def State(
        self, callback: Callable[[Any, EventFields], Any] | None = None, workers: Any = None, **options: Any
    ) -> State:
        """The state of the fleet, whose event() is a handler of a Receiver; the arguments: State's."""
        own = "tasks taskheap max_workers_in_memory max_tasks_in_memory on_node_join on_node_leave"
        check_accepted("a State", options, "callback workers", f"{own} tasks_by_type tasks_by_worker")
        made: State = self._class(self.state_cls)(callback, workers, **options)
        return made

    def Dispatcher(
        self, connection: Any = None, hostname: str | None = None, enabled: bool = True, **celerys: Any
    ) -> Any:
        check_accepted("a Dispatcher", celerys, "connection hostname enabled", f"app {OF_BUFFERS}")
        return self._class(self.dispatcher_cls)(connection, hostname, enabled, app=self.app)

    def default_dispatcher(
        self, hostname: str | None = None, enabled: bool = True, buffer_while_offline: bool = False
    ) -> Any:
        """A Dispatcher, for `with`."""
        return self.Dispatcher(None, hostname, enabled)


class Receiver:
    """Calls handlers by event type; '*' handles all types without a handler of their own."""

    def __init__(
        self,
        channel: Any = None,
        handlers: Mapping[str, Handler] | None = None,
        routing_key: str = "#",
        node_id: str | None = None,
        app: Any = None,
        **celerys: Any,
    ) -> None:
        """channel, node_id and the options of Celery's queue are accepted for its sake."""
        check_accepted("a Receiver", celerys, "channel handlers routing_key app", OF_QUEUES)
        self.app: ClientApp = current_app() if app is None else app
        refuse_queue_kind(self.app.conf, "event")
        self.handlers, self.routing_key = dict(handlers or {}), routing_key
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
    ) -> Iterator[EventFields]:
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
                    event.setdefault("clock", 0)
                    event["local_received"] = time.time()
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

    def process(self, type: str, event: EventFields) -> None:
        """Call the handler of this type."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler is not None:
            handler(event)

    def wakeup_workers(self) -> None:
        """Make every worker send a heartbeat now."""
        self.app.control.tell("heartbeat")


class Dispatcher:
    """Sends custom events: `with app.events.Dispatcher() as d: d.send('task-noticed', uuid=…)`."""

    def __init__(
        self,
        connection: Any = None,
        hostname: str | None = None,
        enabled: bool = True,
        channel: Any = None,
        app: Any = None,
        **celerys: Any,
    ) -> None:
        """connection, channel and the options of Celery's buffer are accepted for its sake."""
        check_accepted("a Dispatcher", celerys, "connection hostname enabled app", OF_BUFFERS)
        self.app: ClientApp = current_app() if app is None else app
        self.enabled = enabled
        self.hostname = hostname or f"gen{os.getpid()}@{socket.gethostname()}"

    def send(self, type: str, **fields: Any) -> int | None:
        """Send one event; returns how many received it where known. Raises BrokerDown, TypeError."""
        if not self.enabled:
            return None
        event: EventFields = {
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
