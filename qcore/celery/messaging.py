"""kombu's connections, producers and queues for a Celery app: `app.connection()`, `app.producer_pool`,
`app.amqp`.

In:  a Celery app (celery/app.py).  Out: objects of kombu, connected to its broker; qcore does not use
them. Raises Unsupported for the brokers that kombu does not reach (SQLite, memory).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from qcore.app.foreign_results import CallbackPublisher
from qcore.errors import Unsupported

OURS_ALONE = ("sqlite", "memory")


def _kombu() -> Any:
    return importlib.import_module("kombu")


def connection(app: Any, url: Any = None, **options: Any) -> Any:
    """A connection of kombu, not connected yet. options: those of kombu.Connection, over the settings."""
    conf = app.conf
    urls = url or app.broker_url()
    scheme = str(urls).partition(":")[0]
    if scheme in OURS_ALONE:
        raise Unsupported(scheme, "be reached by kombu's connections; use Redis or RabbitMQ for them")
    settings = {
        "ssl": conf.broker_use_ssl or None,
        "heartbeat": conf.broker_heartbeat,
        "login_method": conf.broker_login_method,
        "failover_strategy": conf.broker_failover_strategy,
        "connect_timeout": conf.broker_connection_timeout,
        "transport_options": dict(conf.broker_transport_options or {}),
    }
    if "transport_options" in options:
        options["transport_options"] = {
            **settings["transport_options"],
            **(options["transport_options"] or {}),
        }
    return _kombu().Connection(urls, **{**settings, **{k: v for k, v in options.items() if v is not None}})


class Queues(dict[str, Any]):
    """The queues of an app by name, as kombu.Queue; an unknown name is added when it is looked up, unless the
    setting task_create_missing_queues is false (then KeyError)."""

    def __init__(self, app: Any) -> None:
        super().__init__()
        self._app, self._selected = app, set[str]()
        for queue in app.conf.task_queues or (app.conf.task_default_queue,):
            self.add(queue)

    def add(self, queue: Any, **options: Any) -> Any:
        """Add a kombu.Queue, or one of a name with the options of kombu.Queue. Returns it."""
        if not isinstance(queue, _kombu().Queue):
            conf = self._app.conf
            kind = options.pop("exchange_type", None) or conf.task_default_exchange_type
            default = queue == conf.task_default_queue
            exchange = options.pop("exchange", None) or (default and conf.task_default_exchange) or queue
            options.setdefault("routing_key", (default and conf.task_default_routing_key) or queue)
            queue = _kombu().Queue(str(queue), _kombu().Exchange(str(exchange), type=kind), **options)
        self[queue.name] = queue
        return queue

    def __missing__(self, name: str) -> Any:
        if not self._app.conf.task_create_missing_queues:
            raise KeyError(name)
        return self.add(name)

    @property
    def consume_from(self) -> dict[str, Any]:
        """The queues that a worker consumes: those selected, else all."""
        return {name: queue for name, queue in self.items() if not self._selected or name in self._selected}

    def select(self, names: Iterable[str]) -> None:
        """Consume only these queues."""
        self._selected = {names} if isinstance(names, str) else set(names)
        for name in self._selected:
            self[name]

    def deselect(self, names: Iterable[str]) -> None:
        """Consume all queues but these."""
        without = {names} if isinstance(names, str) else set(names)
        self._selected = {name for name in self.consume_from if name not in without}


class AMQP(CallbackPublisher):
    """`app.amqp`: queues, routes, and kombu's classes with the app's settings."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._queues: Queues | None = None

    @property
    def queues(self) -> Queues:
        if self._queues is None:
            self._queues = Queues(self.app)
        return self._queues

    @property
    def default_queue(self) -> Any:
        return self.queues[self.app.conf.task_default_queue]

    @property
    def default_exchange(self) -> Any:
        return self.default_queue.exchange

    @property
    def routes(self) -> Any:
        return self.app.routes

    @property
    def router(self) -> Router:
        return Router(self)

    @property
    def producer_pool(self) -> Any:
        return self.app.producer_pool

    def Producer(self, *args: Any, **options: Any) -> Any:
        return _kombu().Producer(*args, **options)

    def Consumer(self, *args: Any, **options: Any) -> Any:
        return _kombu().Consumer(*args, **options)

    def TaskConsumer(self, channel: Any, queues: Any = None, accept: Any = None, **options: Any) -> Any:
        """A consumer of kombu for task messages; queues: those of the app by default."""
        found = list(self.queues.consume_from.values()) if queues is None else queues
        accept = self.app.conf.accept_content if accept is None else accept
        return self.Consumer(channel, queues=found, accept=accept, **options)

    def flush_routes(self) -> None:
        """Read the setting task_routes again at the next call."""
        self.app._routes = None


class Router:
    """`app.amqp.router`: where a call goes."""

    def __init__(self, amqp: AMQP) -> None:
        self.amqp = amqp

    def route(
        self, options: Mapping[str, Any], name: str, args: Any = (), kwargs: Any = None, task_type: Any = None
    ) -> dict[str, Any]:
        """The options of a call with those that its route gives; `queue` is a kombu.Queue."""
        found = {**self.amqp.app.routes.route(name, args, kwargs or {}, dict(options)), **options}
        queue = found.get("queue")
        if queue is None and "exchange" not in found and "routing_key" not in found:
            queue = self.amqp.app.conf.task_default_queue
        if isinstance(queue, str):
            queue = self.amqp.queues[queue]
        return {**found, "queue": queue} if queue is not None else found


@contextmanager
def held_connection(app: Any, given: Any = None, pool: bool = True) -> Iterator[Any]:
    """The given connection, or one of the pool (a new one without `pool`) until the end of the block."""
    if given is not None:
        yield given
    elif pool:
        with app.pool.acquire(block=True, timeout=app.conf.broker_pool_acquire_timeout) as found:
            yield found
    else:
        with connection(app) as found:
            yield found


@contextmanager
def held_producer(app: Any, given: Any = None) -> Iterator[Any]:
    """The given producer, or one of the pool until the end of the block."""
    if given is not None:
        yield given
        return
    with app.producer_pool.acquire(block=True, timeout=app.conf.broker_pool_acquire_timeout) as found:
        yield found


def event_exchange_of(name: str, kind: str = "topic") -> Any:
    """The exchange of events, as kombu.Exchange."""
    return _kombu().Exchange(name, type=kind)


def get_exchange(conn: Any, name: str = "celeryev") -> Any:
    """The exchange of events on the broker of a connection of kombu."""
    is_redis = conn.transport.driver_type in ("redis", "gcpubsub")
    return event_exchange_of(name, "fanout" if is_redis else "topic")


def __getattr__(name: str) -> Any:
    if name == "event_exchange":
        return event_exchange_of("celeryev")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
