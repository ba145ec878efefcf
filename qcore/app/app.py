"""The app: settings, tasks, one broker, one result store; it turns calls into messages and publishes them.

In:  send_task(name, args, kwargs, options).  Out: a published message and an AsyncResult.
Before this: tasks/task.py.  After this: app/sending.py, wire/task.py, brokers/X.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from qcore.app import sending
from qcore.app.connections import Connections, backend_of
from qcore.app.routing import Routes
from qcore.app.sending import retried
from qcore.app.sources import Discovery, imported, settings_of
from qcore.base import provided
from qcore.base.keywords import check_app, check_call
from qcore.base.plugins import Registry
from qcore.brokers.base import Broker
from qcore.brokers.contract.records import Message, StoredResult
from qcore.errors import ConfigError, NotRegistered, ResultsNotKept, mask_url
from qcore.results.base import ResultStore
from qcore.settings.config import Config, canonical, masked, refuse_conflicts, settings_in
from qcore.settings.table import TABLE
from qcore.settings.values import checked
from qcore.signals import after_task_publish
from qcore.signals import import_modules as modules_imported
from qcore.tasks import task as tasks_module
from qcore.tasks.builtins import BUILT_IN, add_built_in
from qcore.tasks.current_app import set_current
from qcore.tasks.request import current_request
from qcore.tasks.result import AsyncResult, GroupResult, Handle, ResultSet
from qcore.tasks.task import Task as BaseTask
from qcore.tasks.task import make_task
from qcore.version import __version__
from qcore.wire import identity
from qcore.wire import result as result_wire

if TYPE_CHECKING:
    from qcore.control.client import Control
    from qcore.events.api import Events
    from qcore.tasks.canvas import Signature

#: programs that run an app, from the entry-point group qcore.programs; `worker` is `qctl worker`
programs: Registry[Callable[[App, Sequence[str]], None]] = Registry("program", "qcore.programs")


class App:
    """A project: its settings, its tasks and its connections.

    main: the prefix of task names in a script; broker, backend: URLs; include: modules with tasks;
    other keywords are settings (settings/config.py); an unknown one raises TypeError. The app connects at
    its first use, and a forked child opens its own connections.
    """

    #: made from a Celery app's configuration: it can publish calls and inspect, and cannot run a worker
    is_celery = False
    #: the base class of the tasks, or its dotted name; a subclass may set it
    task_cls: str | type[BaseTask] = BaseTask

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
        self.conf = Config(changes, after_load=self._after_configure)
        self._discoveries: list[Discovery] = []
        check_app(settings, _SETTING_KEYWORDS)
        self.conf.update(settings)
        if broker:
            self.conf["broker_url"] = broker
        if backend:
            self.conf["result_backend"] = backend
        if include:
            self.conf["include"] = tuple(include)
        if config_source is not None:
            self.config_from_object(config_source)
        self._tasks: dict[str, BaseTask] = {}
        self._unattached: list[BaseTask] = []  # tasks without the options that follow from settings
        self._shared_taken = 0
        self._lock = threading.RLock()
        self._connections = Connections(self.conf, self._after_fork, self)
        self._routes: Routes | None = None
        self._clock, self._clock_lock = 0, threading.Lock()
        if set_as_current:
            self.set_current()

    def _after_configure(self) -> None:
        """Called when the first setting is read."""

    def set_current(self) -> None:
        """Make this the current app, which shared tasks, and signatures without an app, use."""
        set_current(self)

    # --- configuration

    def config_from_object(
        self, source: Any, namespace: str | None = None, silent: bool = False, force: bool = False
    ) -> None:
        """Read settings from a mapping, a module or object, or from the dotted name of one.

        A mapping is read now, all others when a setting is first read, or now with `force`. With a namespace
        only names that start with `<NAMESPACE>_` count, as in Django projects; its default is that of the
        app. silent: a module that cannot be imported has no settings. Raises ConfigError, now or then.
        """
        namespace = namespace or self.namespace
        if isinstance(source, Mapping):
            values = settings_in(source, namespace)
            refuse_conflicts(values)
            self.conf.add_source(lambda: values)
            force = True
        else:
            self.conf.add_source(lambda: settings_of(source, namespace, silent))
        if force:
            self.conf.load()

    def config_from_envvar(self, variable: str, silent: bool = False, force: bool = False) -> None:
        """Read settings from the module that an environment variable names. Raises ConfigError; silent: it
        may be missing."""
        name = os.environ.get(variable)
        if name:
            self.config_from_object(name, silent=silent, force=force)
        elif not silent:
            raise ConfigError(f"the environment variable {variable} names no configuration module")

    def config_from_cmdline(self, argv: Sequence[str], namespace: str = "celery") -> None:
        """Set options that are written as `worker.concurrency=3`, or `.concurrency=3` for those of
        `namespace`, as in Celery."""
        for word in argv:
            name, _, text = word.partition("=")
            name = f"{namespace}{name}" if name.startswith(".") else name
            name = canonical(name.replace(".", "_"))
            self.conf[name] = checked(TABLE[name], text) if name in TABLE else text

    def add_defaults(self, values: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Set what applies where nothing else does; a function is called at once."""
        self.conf.add_defaults(values() if callable(values) else values)

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

    # --- tasks

    @cached_property
    def Task(self) -> type[BaseTask]:
        """The base class of this app's tasks: task_cls, bound to the app. It can be replaced."""
        kind = self.task_cls
        if isinstance(kind, str):
            kind = imported(kind)
        if not (isinstance(kind, type) and issubclass(kind, BaseTask)):
            raise ConfigError(f"task_cls is {kind!r:.80}; it takes a subclass of Task, or its dotted name")
        own = {"_app": self, "abstract": True, "typing": kind.typing and self.strict_typing}
        return type(kind.__name__, (kind,), {**own, "__module__": kind.__module__, "__doc__": kind.__doc__})

    def task(self, *args: Any, **options: Any) -> Any:
        """Decorator: make a function a task of this app. The options are attributes of Task."""
        if len(args) == 1 and callable(args[0]) and not options:
            return self._add(make_task(self, args[0], self.main, {"base": self.Task}))
        if args:
            raise TypeError("@app.task takes keyword options only")
        change = options.pop("filter", None)

        def decorate(function: Callable[..., Any]) -> Any:
            made = self._add(make_task(self, function, self.main, {"base": self.Task, **options}))
            return made if change is None else change(made)

        return decorate

    def register_task(self, task: BaseTask | type[BaseTask]) -> BaseTask:
        """Register a task that is an instance or a class. Returns the instance."""
        instance = task() if isinstance(task, type) else task
        if not instance.name:
            kind = type(instance)
            instance.name = tasks_module.task_name(kind.__module__, kind.__name__, self.main)
        return self._add(instance)

    def _add(self, task: BaseTask) -> BaseTask:
        known = self._tasks.setdefault(task.name, task)
        if not known._bound:
            self._unattached.append(known)
        known._app = self
        return known

    @property
    def tasks(self) -> dict[str, BaseTask]:
        """All tasks by name, with the options that follow from the settings."""
        if BUILT_IN[0] not in self._tasks:
            add_built_in(self)
        taken = self._shared_taken
        if taken < len(tasks_module.shared):
            self._shared_taken = len(tasks_module.shared)
            for shared in tasks_module.shared[taken:]:
                if shared.name_for(self) not in self._tasks:
                    self._add(shared.make(self))
        if self._unattached:
            self._attach_new()
        return self._tasks

    def _attach_new(self) -> None:
        with self._lock:  # no other thread sees a task without its options
            while self._unattached:
                task = self._unattached[0]
                if not task._bound:
                    task.attach(self)
                if self._unattached and self._unattached[0] is task:
                    del self._unattached[0]

    def task_named(self, name: str) -> BaseTask:
        """The task called `name`; raises NotRegistered with near misses."""
        found = self._tasks.get(name)
        if found is None or not found._bound:
            found = self.tasks.get(name)
        if found is None:
            raise NotRegistered(name, sorted(self._tasks))
        return found

    def import_modules(self) -> None:
        """Import the modules of the settings `imports` and `include`, and those of autodiscover_tasks();
        raises ConfigError with the module."""
        modules_imported.send(self)
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

    backend = property(backend_of)

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

    def _after_fork(self) -> None:
        """Replace the locks: a thread that the child does not have may have held one."""
        self._lock, self._clock_lock = threading.RLock(), threading.Lock()

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

        Options: task_id, queue, exchange, routing_key, priority (0 to 9), countdown (seconds), eta
        (datetime or ISO text), expires (seconds, datetime or ISO text), headers, serializer,
        compression, time_limit, soft_time_limit, ignore_result, shadow, link, link_error, retries,
        reply_to, root_id, parent_id, group_id, group_index, retry, idempotency_key (text: a second call
        with the same key publishes nothing and returns the first task's handle, for the duration
        task_idempotency_expires).
        Returns when the broker has the message. Raises BrokerDown, Unroutable, TypeError, Unsupported.
        """
        check_call(options)
        task_id = str(options.get("task_id") or identity.make())
        key = sending.key_of(options) if "idempotency_key" in options else None
        message = self.message(name, args or (), kwargs or {}, task_id, options, task)
        if key is None:
            self.send_messages([message], options.get("retry"))
        else:
            task_id = self._send_once(message, key, task_id, options.get("retry"))
        result = AsyncResult(task_id, self, task_name=name)
        ignored = options.get("ignore_result")
        if ignored is None:
            ignored = self.conf.task_ignore_result if task is None else task.ignore_result
        result.ignored = bool(ignored)
        if options.get("add_to_parent", True):
            self.adopt(result)
        return result

    def adopt(self, result: Handle) -> None:
        """Record `result` as a child of the task that runs in this thread or coroutine, if any."""
        parent = current_request()
        if parent is not None:
            parent.children.append(result)

    def send_many(self, signatures: Iterable[Signature]) -> list[AsyncResult]:
        """Publish many calls in one round trip; each with an idempotency_key in its own. Raises as
        send_task() does; then some calls may not be published."""
        messages, found = [], []
        for sig in signatures:
            args, kwargs, options = sig.merged()
            check_call(options)
            task_id = options.get("task_id") or identity.make()
            message = self.message(sig.task, args, kwargs, task_id, options, self.tasks.get(sig.task))
            key = sending.key_of(options)
            if key is None:
                messages.append(message)
            else:
                task_id = self._send_once(message, key, task_id, options.get("retry"))
            found.append(AsyncResult(task_id, self, task_name=sig.task))
        self.send_messages(messages)
        return found

    def _send_once(self, message: Message, key: str, task_id: str, retry: bool | None) -> str:
        """Publish, unless the key was used within its time. Returns the id of the task that has the key."""
        ttl_s = self.conf.seconds("task_idempotency_expires") or 86400.0
        owner = retried(lambda: self.broker.publish_once(message, key, task_id, ttl_s), self.conf, retry)
        if owner == task_id and after_task_publish.receivers:
            sending.published([message])
        if owner == task_id and self.conf.task_send_sent_event:
            sending.publish_sent_event(self, message)
        return owner

    def send_messages(self, messages: Sequence[Message], retry: bool | None = None) -> None:
        """Publish task messages in one round trip, then task-sent events if task_send_sent_event is on."""
        self.publish(messages, retry)
        if after_task_publish.receivers:
            sending.published(messages)
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
    ) -> Message:
        """The message of a call, with its destination; options as in send_task(). Raises TypeError."""
        return sending.message(self, name, args, kwargs, task_id, options, task)

    def publish(self, messages: Sequence[Message], retry: bool | None = None) -> None:
        """Publish messages, with retries as configured by task_publish_retry_policy."""
        retried(lambda: self.broker.publish(messages), self.conf, retry)

    @property
    def routes(self) -> Routes:
        if self._routes is None:
            self._routes = Routes(self.conf.task_routes)
        return self._routes

    def reply_to(self) -> str | None:
        """The queue for results with the rpc result backend; None where results are stored."""
        return self._connections.reply_to()

    def store_state(self, task_id: str, state: str, result: Any, **extra: Any) -> None:
        """Store an intermediate state of a task."""
        meta = result_wire.encode(task_id, state, result, now=time.time(), **extra)
        self.results.store([StoredResult(task_id, meta, self.conf.seconds("result_expires"))])

    def GroupResult(self, group_id: str, results: Sequence[Any]) -> Any:
        return GroupResult(group_id, results, app=self)

    def ResultSet(self, results: Sequence[Any]) -> Any:
        return ResultSet(results, self)

    def AsyncResult(self, task_id: str) -> Any:
        return AsyncResult(task_id, self)

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
        import kombu
        import redis

        try:
            store = "none" if not self.results.keeps else mask_url(self.results.url)
        except (ConfigError, ResultsNotKept) as exc:
            store = str(exc)
        lines = [
            "",
            f"software -> qcore:{__version__} kombu:{kombu.__version__} py:{platform.python_version()}",
            f"            redis:{redis.__version__}",
            f"platform -> system:{platform.system()} arch:{platform.machine()}",
            f"            kernel version:{platform.release()} imp:{platform.python_implementation()}",
            f"settings -> transport:{self.broker.name} results:{store}",
            "",
            *(f"{k}: {v!r}" for k, v in masked(self.conf.changed()).items()),
        ]
        return "\n".join(lines) + "\n"

    def __repr__(self) -> str:
        return f"<App {self.main or '?'} {mask_url(self.broker_url())}>"

    def __reduce__(self) -> Any:
        raise TypeError("an App cannot be pickled; import it where it is needed")


_SETTING_KEYWORDS = frozenset(("timezone", "imports"))
