"""The app: settings, tasks, one broker, one result store; it turns calls into messages and publishes them.

In:  send_task(name, args, kwargs, options).  Out: a published message and an AsyncResult.
Before this: tasks/task.py.  After this: app/sending.py, wire/task.py, brokers/X.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from qcore.app import sending
from qcore.app.connections import Connections, backend_of, schedules_of
from qcore.app.declaring import DeclaredTasks
from qcore.app.periodic import PeriodicTasks
from qcore.app.queues import QueueTable, spread
from qcore.app.registry import TaskRegistry
from qcore.app.routing import Routes
from qcore.app.sending import retried
from qcore.app.sources import Discovery, settings_of, traced
from qcore.base import provided
from qcore.base.keywords import check_app, check_call
from qcore.base.plugins import Registry
from qcore.brokers.base import Broker
from qcore.brokers.contract.records import Message, StoredResult
from qcore.errors import ConfigError, ResultsNotKept, mask_url
from qcore.results.base import ResultStore
from qcore.settings.config import Config, masked, refuse_conflicts, settings_in
from qcore.settings.table import TABLE
from qcore.signals import after_task_publish, published
from qcore.signals import import_modules as modules_imported
from qcore.tasks.current_app import set_current
from qcore.tasks.request import current_request, current_task
from qcore.tasks.result import AsyncResult, GroupResult, Handle, ResultSet
from qcore.tasks.signature import collecting
from qcore.tasks.task import Task as BaseTask
from qcore.version import __version__
from qcore.wire import identity
from qcore.wire import result as result_wire
from qcore.wire.result_form import ResultForm

if TYPE_CHECKING:
    from qcore.control.client import Control
    from qcore.events.api import Events
    from qcore.tasks.canvas import Signature

NO_OPTIONS: Mapping[str, Any] = {}

#: programs that run an app, from the entry-point group qcore.programs; `worker` is `qctl worker`
programs: Registry[Callable[[App, Sequence[str]], None]] = Registry("program", "qcore.programs")


class App(PeriodicTasks, DeclaredTasks):
    """A project: its settings, its tasks and its connections.

    main: the prefix of task names in a script; broker, backend: URLs; include: modules with tasks;
    other keywords are settings (settings/config.py); an unknown one raises TypeError. The app connects at
    its first use, and a forked child opens its own connections.
    """

    #: made from a Celery app's configuration: it can publish calls and inspect, and cannot run a worker
    is_celery = False

    def __init__(
        self,
        main: str | None = None,
        broker: str | None = None,
        backend: str | None = None,
        include: Sequence[str] = (),
        config_source: Any = None,
        set_as_current: bool = True,
        namespace: str | None = None,
        task_cls: str | type[BaseTask] | None = None,
        strict_typing: bool = True,
        changes: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.main, self.namespace, self.strict_typing = main, namespace, strict_typing
        if task_cls is not None:
            self.task_cls = task_cls
        self.conf = Config(changes, after_load=self._after_configure, otherwise=self._settings_otherwise)
        self._discoveries: list[Discovery] = []
        check_app([name for name in settings if name not in TABLE], _SETTING_KEYWORDS)
        self.conf.update(settings)
        if broker:
            self.conf["broker_url"] = broker
        if backend:
            self.conf["result_backend"] = backend
        if include:
            self.conf["include"] = tuple(include)
        if config_source is not None:
            self.config_from_object(config_source)
        self._tasks = TaskRegistry(self)
        self._connections = Connections(self.conf, self._after_fork, self)
        self._routes: Routes | None = None
        self._queue_table: QueueTable | None = None
        self._clock, self._clock_lock = 0, threading.Lock()
        self._fixups = provided["fixups"](self)  # kept: signals hold no receiver
        if set_as_current:
            self.set_current()

    def set_current(self) -> None:
        """Make this the current app, of shared tasks and of signatures without an app."""
        set_current(self)

    # --- configuration

    def config_from_object(
        self, obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Read settings from a mapping, a module or object, or from the dotted name of one.

        A mapping is read now, all others when a setting is first read, or now with `force`. With a namespace
        only names that start with `<NAMESPACE>_` count, as in Django projects; its default is that of the
        app. silent: a module that cannot be imported has no settings. Raises ConfigError, now or then.
        """
        namespace = namespace or self.namespace
        if isinstance(obj, Mapping):
            values = settings_in(obj, namespace)
            refuse_conflicts(values)
            self.conf.add_source(lambda: values)
            force = True
        else:
            self.conf.add_source(lambda: settings_of(obj, namespace, silent))
        if force:
            self.conf.load()

    def config_from_envvar(self, variable_name: str, silent: bool = False, force: bool = False) -> None:
        """Read settings from the module that an environment variable names. Raises ConfigError; silent: it
        may be missing."""
        name = os.environ.get(variable_name)
        if name:
            self.config_from_object(name, silent=silent, force=force)
        elif not silent:
            raise ConfigError(f"the environment variable {variable_name} names no configuration module")

    def add_defaults(self, fun: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Set what applies where nothing else does; a function is called at once."""
        self.conf.add_defaults(fun() if callable(fun) else fun)

    def setup_security(
        self,
        allowed_serializers: Iterable[str] | None = None,
        key: str | None = None,
        key_password: str | bytes | None = None,
        cert: str | None = None,
        store: str | None = None,
        digest: str | None = "sha256",
        serializer: str = "json",
    ) -> None:
        """Sign what this process sends and read only what is signed: see app/security.py."""
        from qcore.app.security import setup_security

        given = (allowed_serializers, key, key_password, cert, store, digest, serializer)
        setup_security(*given, app=self)

    def autodiscover_tasks(
        self,
        packages: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> None:
        """Have `<package>.tasks` of each package imported with the modules of the settings, or now with
        `force`. packages may be a function; None: the packages of Django's INSTALLED_APPS."""
        discover = Discovery(packages, related_name)
        if force:
            discover.import_modules()
        else:
            self._discoveries.append(discover)

    # --- tasks: app/declaring.py

    def import_modules(self) -> None:
        """Import the modules of the settings `imports` and `include`, and those of autodiscover_tasks();
        raises ConfigError with the module."""
        for _, raised in modules_imported.send(self):
            if isinstance(raised, Exception):
                raise raised
        for name in (*self.conf.imports, *self.conf.include):
            try:
                __import__(name)
            except ImportError as exc:
                raise ConfigError(f"cannot import '{name}' (settings imports/include): {exc}") from exc
        for discover in self._discoveries:
            discover.import_modules()

    # --- connections

    @property
    def broker(self) -> Broker:
        """The broker of the settings; connects at its first use."""
        return self._connections.broker

    @property
    def results(self) -> ResultStore:
        """The result store of the settings, or the broker's own."""
        return self._connections.results

    @property
    def result_form(self) -> ResultForm:
        """How results are written and read: result_serializer, result_compression, result_accept_content."""
        return self._connections.form

    @property
    def results_if_open(self) -> ResultStore | None:
        """The result store, or None before its first use: opening it may block."""
        return self._connections.results_if_open

    backend, schedules = property(backend_of), property(schedules_of)

    def broker_url(self) -> str:
        """The broker's URL, or several joined by `;`, with their passwords; the embedded broker's if none is
        set."""
        return self._connections.broker_url()

    def broker_options(self) -> dict[str, Any]:
        """The options of the settings for the broker's driver: see brokers/registry.py, open_broker()."""
        return self._connections.broker_options()

    def close(self) -> None:
        """Close the connections; the app can be used again."""
        self._connections.close()

    async def __aenter__(self) -> Self:
        """Open the connections without blocking the event loop; what is imported for them is imported now."""
        from qcore.tasks.asynchronous import in_thread

        await in_thread(lambda: (self.tasks, self.broker, self.results))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        from qcore.tasks.asynchronous import in_thread

        await in_thread(self.close)

    def _after_fork(self) -> None:
        """Replace the locks: a thread that the child does not have may have held one."""
        self._tasks.renew_lock()
        self._clock_lock = threading.Lock()

    @property
    def control(self) -> Control:
        """Requests to workers."""
        from qcore.control.client import Control

        return Control(self)

    @property
    def events(self) -> Events:
        """Events: `app.events.Receiver`, `State` and `Dispatcher`, as in Celery."""
        from qcore.events.api import Events

        return Events(self)

    @property
    def clock_value(self) -> int:
        """The value of the logical clock that was given out last."""
        return self._clock

    def tick_clock(self, seen: int = 0) -> int:
        """The next value of the logical clock, above `seen`; unique across threads."""
        with self._clock_lock:
            self._clock = max(self._clock, seen) + 1
            return self._clock

    # --- sending

    def send_task(
        self,
        name: str,
        args: Any = None,
        kwargs: dict[str, Any] | None = None,
        *,
        task: BaseTask | None = None,
        **options: Any,
    ) -> AsyncResult:
        """Publish a call and return the handle of its result.

        Options: task_id, queue, exchange, routing_key, priority (0 to 9), countdown (seconds), eta (datetime
        or ISO text), expires (seconds, datetime or ISO text), headers, serializer, compression, time_limit,
        soft_time_limit, ignore_result, shadow, link, link_error, retries, reply_to, root_id, parent_id,
        group_id, group_index, retry, idempotency_key (text: a second call with it publishes nothing and
        returns the first handle, for task_idempotency_expires). Raises BrokerDown, Unroutable, TypeError.
        """
        if check_call(options):
            from qcore.app import rare_options

            return rare_options.send(self, App.send_task, name, args, kwargs, task, options)
        task_id = str(options.get("task_id") or identity.make())
        key = sending.key_of(options) if "idempotency_key" in options else None
        message = self.message(name, args or (), kwargs or {}, task_id, options, task)
        plan = collecting.get()
        if plan is not None and plan.app is self:
            plan.messages.append(message)
        elif key is None:
            self.send_messages([message], options)
        else:
            task_id = self._send_once(message, key, task_id, options.get("retry"))
        result = AsyncResult(task_id, app=self, task_name=name)
        ignored = options.get("ignore_result")
        if ignored is None and task is not None:
            ignored = self.conf.task_ignore_result if task.ignore_result is None else task.ignore_result
        result.ignored = bool(ignored)
        if options.get("add_to_parent", True):
            self.adopt(result)
        return result

    async def asend_task(self, name: str, *args: Any, **options: Any) -> AsyncResult:
        """As send_task(), in a coroutine: the event loop runs on."""
        from qcore.tasks.asynchronous import in_thread

        return await in_thread(self.send_task, name, *args, **options)

    @property
    def overrides_sending(self) -> bool:
        """Whether a subclass overrides send_task(), so that workflows call it for each of their calls."""
        return type(self).send_task is not App.send_task

    def adopt(self, result: Handle) -> None:
        """Record `result` as a child of the task that runs in this thread or coroutine, if any."""
        parent = current_request()
        if parent is not None and current_task().trail:
            parent.children.append(result)

    def send_many(
        self,
        calls: Iterable[Signature] | BaseTask | str,
        argument_tuples: Iterable[Sequence[Any]] | None = None,
        kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> list[AsyncResult]:
        """Publish many calls in few round trips: of a task or its name with the arguments of each call, and
        what all share; or of signatures. All are checked before the first is sent. Raises as send_task()."""
        from qcore.app import batches

        return batches.send(self, calls, argument_tuples, kwargs or {}, options)

    async def asend_many(self, calls: Any, *args: Any, **options: Any) -> list[AsyncResult]:
        """As send_many(), in a coroutine: the event loop runs on."""
        from qcore.tasks.asynchronous import in_thread

        return await in_thread(self.send_many, calls, *args, **options)

    def _send_once(self, message: Message, key: str, task_id: str, retry: bool | None) -> str:
        """Publish, unless the key was used within its time. Returns the id of the task that has the key."""
        ttl_s = self.conf.seconds("task_idempotency_expires") or 86400.0
        owner = retried(lambda: self.broker.publish_once(message, key, task_id, ttl_s), self.conf, retry)
        if owner == task_id and after_task_publish.receivers:
            published([message])
        if owner == task_id and self.conf.task_send_sent_event:
            sending.publish_sent_event(self, message)
        return owner

    def send_messages(self, messages: Sequence[Message], options: Mapping[str, Any] = NO_OPTIONS) -> None:
        """Publish task messages in one round trip, then task-sent events if task_send_sent_event is on.
        Options of a call: retry and retry_policy; producer or connection, of kombu, to publish over."""
        if options and (options.get("producer") or options.get("connection")):
            sending.publish_through(self, messages, options)
        else:
            self.publish(messages, options.get("retry"), options.get("retry_policy"))
        if after_task_publish.receivers:
            published(messages)
        if self.conf.task_send_sent_event:
            for message in messages:
                sending.publish_sent_event(self, message)

    def chord_ttl_s(self) -> float | None:
        """Seconds that the broker or result store keeps the count of a chord; None: without limit."""
        return self.conf.seconds("result_chord_expires") or self.conf.seconds("result_expires")

    def message(
        self,
        name: str,
        args: Any,
        kwargs: dict[str, Any],
        task_id: str,
        options: dict[str, Any],
        task: BaseTask | None = None,
        is_sent: bool = True,
    ) -> Message:
        """The message of a call, with its destination; options as in send_task(). Raises TypeError."""
        return sending.message(self, name, args, kwargs, task_id, options, task, is_sent)

    def publish(
        self,
        messages: Sequence[Message],
        retry: bool | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> None:
        """Publish messages, with the retries of task_publish_retry_policy; `policy` overrides its items."""
        if fanouts := self.queue_table.fanouts:
            messages = spread(self.broker, messages, fanouts)
        retried(lambda: self.broker.publish(messages), self.conf, retry, policy)

    @property
    def routes(self) -> Routes:
        if self._routes is None:
            self._routes = Routes(self.conf.task_routes)
        return self._routes

    @property
    def queue_table(self) -> QueueTable:
        if self._queue_table is None:
            self._queue_table = QueueTable(traced(self.conf))
        return self._queue_table

    def reply_to(self) -> str | None:
        """The queue for results with the rpc result backend; None where results are stored."""
        return self._connections.reply_to()

    def store_state(self, task_id: str, state: str, result: Any, **extra: Any) -> None:
        """Store an intermediate state of a task."""
        meta = result_wire.encode(task_id, state, result, now=time.time(), form=self.result_form, **extra)
        self.results.store([StoredResult(task_id, meta, self.conf.seconds("result_expires"))])

    def GroupResult(
        self, id: Any = None, results: Sequence[Any] = (), parent: Any = None, app: Any = None
    ) -> Any:
        return GroupResult(id, results, parent, app or self)

    def ResultSet(self, results: Sequence[Any], app: Any = None, ready_barrier: Any = None) -> Any:
        return ResultSet(results, app or self, ready_barrier)

    def AsyncResult(
        self, id: Any, backend: Any = None, task_name: str | None = None, app: Any = None, parent: Any = None
    ) -> Any:
        return AsyncResult(id, backend, task_name, app or self, parent)

    def signature(self, task: Any, *args: Any, **kwargs: Any) -> Signature:
        from qcore.tasks.canvas import signature

        return signature(task, *args, app=self, **kwargs)

    # --- processes

    def run_here(self, task: BaseTask, args: Any, kwargs: dict[str, Any], options: dict[str, Any]) -> Any:
        """Run `task` in this process, with the same steps as in a worker: Task.apply()."""
        from qcore.execution.eager import apply

        return apply(task, args, kwargs, options)

    def worker(self, **options: Any) -> Any:
        """A worker for this app, not started: see worker/worker.py for the options."""
        return provided["worker"]()(self, **options)

    Worker = worker

    def worker_main(self, argv: Sequence[str] | None = None) -> None:
        """Run a worker with command line options, as `qctl worker` does; exits the process."""
        words = list(sys.argv[1:] if argv is None else argv)
        if words[:1] == ["worker"]:
            del words[0]
        programs.get("worker")(self, words)

    def bugreport(self) -> str:
        """Versions, platform and changed settings; secrets are masked."""
        import platform

        import kombu
        import redis

        try:
            store = "none" if not self.results.keeps else mask_url(self.results.url)
        except (ConfigError, ResultsNotKept) as exc:
            store = str(exc)
        facts = f"results:{store}", self.broker.keyspace, self.broker.weakened
        lines = [
            "",
            f"software -> qcore:{__version__} kombu:{kombu.__version__} py:{platform.python_version()}",
            f"            redis:{redis.__version__}",
            f"platform -> system:{platform.system()} arch:{platform.machine()}",
            f"            kernel version:{platform.release()} imp:{platform.python_implementation()}",
            f"settings -> transport:{self.broker.name} {' '.join(filter(None, facts))}",
            "",
            *(f"{k}: {v!r}" for k, v in masked(self.conf.changed()).items()),
        ]
        return "\n".join(lines) + "\n"

    def __repr__(self) -> str:
        return f"<App {self.main or '?'} {mask_url(self.broker_url())}>"

    def __reduce_keys__(self) -> dict[str, Any]:
        """The keywords with which an unpickled app is made: its settings, which may hold passwords."""
        names = ("main", "task_cls", "namespace", "strict_typing")
        return {"changes": self.conf.without_defaults(), **{name: getattr(self, name) for name in names}}

    def __reduce__(self) -> Any:
        return _unpickled, (type(self), self.__reduce_keys__())


def _unpickled(kind: type[App], keywords: dict[str, Any]) -> App:
    """A pickled app: one with its settings and without its tasks, which is not the current one."""
    return kind(set_as_current=False, **keywords)


_SETTING_KEYWORDS = frozenset(("timezone", "imports", "tracing"))
