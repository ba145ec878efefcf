"""`celery.Celery`: an App with the attributes of Celery's that are conveniences there and not needed here."""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from qcore.app.app import App, programs
from qcore.app.registry import TaskRegistry
from qcore.app.sources import imported
from qcore.base.times import new_id
from qcore.celery.own import AppPickler
from qcore.celery.views import views
from qcore.errors import ConfigError
from qcore.settings.config import assigned, settings_in
from qcore.signals import Signal
from qcore.tasks.request import current_request, current_task

if TYPE_CHECKING:
    from qcore.celery.loaders import AppLoader
    from qcore.celery.logs import Logging
    from qcore.celery.messaging import AMQP
    from qcore.control.client import Control
    from qcore.events.api import Events

log = logging.getLogger("qcore.app")


#: parts of an app whose classes can be replaced
PARTS = ("amqp", "control", "events", "loader", "log")
#: short names of loader classes
LOADERS = {"app": "celery.loaders.app:AppLoader", "default": "celery.loaders.default:Loader"}


class Celery(App):
    """An app as a Celery project writes it; everything else is App's."""

    finalized = False
    autofinalize = True
    #: of Celery's: whether this is a worker's process. A task runs the same either way
    use_fast_trace_task = False
    #: the classes of parts of the app, or their names: for subclasses, and as keywords (`control=`)
    amqp_cls: str | type = "celery.app.amqp:AMQP"
    control_cls: str | type = "celery.app.control:Control"
    events_cls: str | type = "celery.app.events:Events"
    loader_cls: str | type = "celery.loaders.app:AppLoader"
    log_cls: str | type = "celery.app.log:Logging"
    registry_cls: str | type = "celery.app.registry:TaskRegistry"
    task_cls: str | type = "celery.app.task:Task"
    #: for subclasses: a URL, class or name that goes before the setting result_backend
    backend_cls: str | type | None = None
    #: functions or classes, by name, that get the app when it is made; the keyword `fixups` replaces them
    builtin_fixups: frozenset[str] = frozenset({"celery.fixups.django:fixup"})
    #: restores an app of a class with __reduce_args__()
    Pickler = AppPickler
    SYSTEM = platform.system()
    IS_WINDOWS, IS_macOS = SYSTEM == "Windows", SYSTEM == "Darwin"

    def __init__(self, main: str | None = None, *args: Any, **options: Any) -> None:
        """Keywords as in Celery. The first ones may be given by position: loader, backend, …, which only
        None has a meaning for here."""
        if any(value is not None for value in args):
            raise TypeError("Celery() takes its name by position, and everything else by keyword")
        given = options.pop("fixups", None)
        self.fixups = set(self.builtin_fixups) if given is None else given
        self.set_as_current: bool = options.get("set_as_current", True)
        silent_source = (
            options.pop("config_source", None) if options.pop("config_source_silent", False) else None
        )
        for name in PARTS:
            given = options.pop(name, None)
            if given is not None:
                setattr(self, f"{name}_cls", given)
        for name in ("tasks", "autofinalize"):
            if options.get(name) is None or name == "autofinalize":
                options.pop(name, None)
        self.on_configure = Signal("app.on_configure")
        self.on_after_configure = Signal("app.on_after_configure", "source")
        self.on_after_finalize = Signal("app.on_after_finalize")
        self.on_after_fork = Signal("app.on_after_fork")
        if loader := os.environ.get("CELERY_LOADER"):  # as a keyword, it is the stronger one
            self.__dict__.setdefault("loader_cls", loader)
        self.user_options: dict[str, set[Any]] = defaultdict(set)
        self.steps: dict[str, set[Any]] = defaultdict(set)
        super().__init__(main, **options)
        self.conf.prefixed(self.namespace)
        if silent_source is not None:
            self.config_from_object(silent_source, silent=True)
        if type(self).prepare_config is not Celery.prepare_config:
            self.conf.prepare_with(self.prepare_config)
        registry = self.registry_cls = self._class("registry")
        if registry is not TaskRegistry:
            self._tasks = registry(self)
        self.on_init()

    def on_init(self) -> None:
        """Called when the app has been made, for subclasses."""

    # --- start

    def config_from_cmdline(self, argv: Sequence[str], namespace: str = "celery") -> None:
        """Set what words like `worker.concurrency=3` say; `.concurrency=3` is a setting of `namespace`."""
        for word in argv:
            name, value = assigned(word, namespace)
            self.conf[name] = value

    def _settings_otherwise(self) -> Mapping[str, Any] | None:
        values = self.loader.read_configuration()
        return None if values is None else settings_in(SimpleNamespace(**values), self.namespace)

    def config_from_object(
        self, obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        if namespace:
            self.conf.prefixed(namespace)
        super().config_from_object(obj, silent=silent, force=force, namespace=namespace)

    def prepare_config(self, c: Any) -> Any:
        """For subclasses: the settings of the sources before they apply, as a mapping, and what is to apply
        in their place."""
        return c

    def _after_configure(self) -> None:
        self.loader.connect()
        if self.backend_cls is not None:
            self.conf.override("result_backend", named(self.backend_cls))
        self.on_configure.send(self)
        super()._after_configure()
        self.on_after_configure.send(self, source=self.conf)

    @property
    def configured(self) -> bool:
        return self.conf.is_loaded

    @property
    def tasks(self) -> TaskRegistry:
        found = super().tasks
        if not self.finalized:
            self.finalize()
        return found

    def finalize(self, auto: bool = False) -> None:
        """Send on_after_finalize, once; the tasks are complete when they are first read."""
        if not self.finalized:
            self.finalized = True
            self.on_after_finalize.send(self)

    def set_default(self) -> None:
        self.set_current()

    # --- kombu's connections, for projects that use them

    def connection(
        self, hostname: Any = None, userid: str | None = None, password: str | None = None, **options: Any
    ) -> Any:
        """A connection of kombu to the broker, or to another URL or host; not opened yet. The options are
        those of kombu.Connection. Raises Unsupported for SQLite."""
        from qcore.celery.messaging import connection

        return connection(self, hostname, userid=userid, password=password, **options)

    broker_connection = connection

    def connection_for_write(self, url: Any = None, **options: Any) -> Any:
        return self.connection(url, **options)

    def connection_for_read(self, url: Any = None, **options: Any) -> Any:
        return self.connection(url or self.conf["broker_read_url"], **options)

    @cached_property
    def pool(self) -> Any:
        """Connections of kombu, at most broker_pool_limit."""
        from kombu import pools

        limit = self.conf.broker_pool_limit
        return pools.connections[self.connection_for_write()] if limit else self.connection().Pool(0)

    @cached_property
    def producer_pool(self) -> Any:
        """Producers of kombu, at most broker_pool_limit."""
        from kombu import pools

        return pools.producers[self.connection_for_write()]

    def connection_or_acquire(self, connection: Any = None, pool: bool = True) -> AbstractContextManager[Any]:
        """A block with the given connection, or with one of the pool."""
        from qcore.celery.messaging import held_connection

        return held_connection(self, connection, pool)

    default_connection = connection_or_acquire

    def producer_or_acquire(self, producer: Any = None) -> AbstractContextManager[Any]:
        """A block with the given producer, or with one of the pool."""
        from qcore.celery.messaging import held_producer

        return held_producer(self, producer)

    default_producer = producer_or_acquire

    def _part(self, name: str) -> Any:
        """A new object of the class of a part of the app."""
        return self._class(name)(self)

    def _class(self, name: str) -> Any:
        """The class that the attribute NAME_cls names or is."""
        kind = getattr(self, f"{name}_cls")
        if not isinstance(kind, str):
            return kind
        try:
            return self._named_class(LOADERS.get(kind, kind) if name == "loader" else kind)
        except ImportError as exc:
            raise ConfigError(f"cannot import '{kind}', the {name} of the app: {exc}") from exc

    @staticmethod
    def _named_class(name: str) -> Any:
        return imported(place_of(name))

    @cached_property
    def amqp(self) -> AMQP:
        found: AMQP = self._part("amqp")
        return found

    def select_queues(self, queues: Iterable[str] | None = None) -> None:
        """Consume only these queues: what amqp.queues.consume_from holds."""
        self.amqp.queues.select(queues or ())

    # --- what Celery's worker and its programs are made of

    @cached_property
    def loader(self) -> AppLoader:
        found: AppLoader = self._part("loader")
        return found

    @cached_property
    def log(self) -> Logging:
        found: Logging = self._part("log")
        return found

    def start(self, argv: Sequence[str] | None = None) -> None:
        """Run `qctl` with the words of a command line, with this app; exits the process."""
        programs.get("qctl")(self, list(sys.argv[1:] if argv is None else argv))

    @cached_property
    def Worker(self) -> Any:  # type: ignore[override]  # a class, which projects extend
        """The class of the app's workers: `Worker(hostname=…, concurrency=…).start()` runs one until a
        signal."""
        return self.subclass_with_self("qcore.celery.programs:AppWorker", name="Worker")

    @cached_property
    def WorkController(self) -> Any:
        """The same without handlers of signals, for a process that has its own."""
        return self.subclass_with_self("qcore.celery.programs:WorkController")

    @cached_property
    def Beat(self) -> Any:
        """The class of the app's schedulers: `Beat(loglevel="INFO").run()` publishes the schedule until a
        signal."""
        return self.subclass_with_self("qcore.celery.programs:Beat")

    def subclass_with_self(
        self, Class: Any, name: str | None = None, attribute: str = "app", **kw: Any
    ) -> type:
        """A subclass of `Class` (or of what its dotted name means) whose attribute is this app."""
        kind = imported(Class) if isinstance(Class, str) else Class
        return type(name or kind.__name__, (kind,), {attribute: self, "__module__": kind.__module__, **kw})

    def either(self, default_key: str, *defaults: Any) -> Any:
        """The first value that is not None: of `defaults`, else the setting's."""
        return next((one for one in defaults if one is not None), self.conf.get(default_key))

    def uses_utc_timezone(self) -> bool:
        return self.timezone in (UTC, ZoneInfo("UTC"))

    @property
    def annotations(self) -> tuple[Any, ...]:
        found = self.conf.task_annotations or ()
        return tuple(found) if isinstance(found, list | tuple) else (found,)

    # --- about

    @property
    def current_task(self) -> Any:
        return current_task()

    @property
    def current_worker_task(self) -> Any:
        return current_task() if current_request() is not None else None

    @property
    def oid(self) -> str:
        """An id of this process and app."""
        made: str = self.__dict__.setdefault("_oid", f"{os.getpid()}-{new_id()}")
        return made

    @property
    def thread_oid(self) -> str:
        """An id of this thread and app."""
        return f"{self.oid}-{threading.get_ident()}"

    @cached_property
    def clock(self) -> Clock:
        return Clock(self)

    def create_task_cls(self) -> type:
        """The class of the app's tasks, as `app.Task`."""
        found: type = self.Task
        return found

    def type_checker(self, fun: Callable[..., Any], bound: bool = False) -> Callable[..., Any]:
        """A function that raises TypeError for arguments that `fun` does not take."""
        from qcore.celery.texts import head_from_fun

        return head_from_fun(fun, bound)

    @property
    def control(self) -> Control:
        if "_control" not in self.__dict__:
            self.__dict__["_control"] = self._part("control")
        found: Control = self.__dict__["_control"]
        return found

    @property
    def events(self) -> Events:
        if "_events" not in self.__dict__:
            self.__dict__["_events"] = self._part("events")
        found: Events = self.__dict__["_events"]
        return found

    def __reduce__(self) -> Any:
        args: Any = getattr(self, "__reduce_args__", None)
        return super().__reduce__() if args is None else (_unpickled, (type(self), self.Pickler, *args()))

    def __enter__(self) -> Celery:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _unpickled(kind: type[Celery], pickler: Any, *args: Any) -> Celery:
    """An app of a class with __reduce_args__()."""
    found: Celery = pickler()(kind, *args)
    return found


def named(kind: str | type) -> str:
    """The place of a class; a text as it is."""
    return kind if isinstance(kind, str) else f"{kind.__module__}:{kind.__qualname__}"


def default_app() -> Celery:
    """The app of CELERY_LOADER and CELERY_CONFIG_MODULE, whose modules may lie in the working directory.
    Raises ConfigError."""
    here = str(Path.cwd())
    if here not in sys.path:  # last, so that a file called json.py does not shadow that of the library
        sys.path.append(here)
    app = Celery("default", loader=os.environ.get("CELERY_LOADER") or "default")
    app.conf.load()
    return app


def place_of(name: str) -> str:
    """`module:attribute` of a class; that of ours for a name of Celery's."""
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    return views().get(module, {}).get(attribute, f"{module}:{attribute}")


class Clock:
    """`app.clock`: the logical clock of the app."""

    def __init__(self, app: Any) -> None:
        self._app = app

    @property
    def value(self) -> int:
        now: int = self._app._clock
        return now

    def forward(self) -> int:
        """The next value."""
        following: int = self._app.tick_clock()
        return following

    def adjust(self, other: int) -> int:
        """The next value, above `other`."""
        following: int = self._app.tick_clock(other)
        return following

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        return f"<Clock: {self.value}>"
