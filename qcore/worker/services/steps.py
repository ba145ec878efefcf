"""The steps of a project (Celery's bootsteps) as one service of the worker.

In:  `app.steps`, and the options of `qctl worker`.  Out: a Service that starts after the worker's own
services and stops before them. The steps get a WorkerParent or a ConsumerParent, with what steps use of
Celery's worker and consumer. Before this: worker.py.  After this: bootsteps.py, foreign_messages.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from qcore.errors import ConfigError, QcoreError
from qcore.worker.services.base import ShutdownStage, StepFailed
from qcore.worker.services.bootsteps import CLOSE, TERMINATE, Blueprint
from qcore.worker.services.foreign_messages import ForeignMessages
from qcore.worker.services.step_timer import Timer
from qcore.worker.services.task_signals import TaskRequest

log = logging.getLogger("qcore.worker")


class _Parent:
    """What steps get. They may add attributes; a name of Celery's that is not here says so."""

    _what = "worker"
    hub = None

    def __init__(self, service: Steps, name: str, steps: Any) -> None:
        self._service = service
        self.app = service.worker.app
        self.pid = os.getpid()
        self.steps: list[Any] = []
        self.blueprint = Blueprint(steps, name)

    @property
    def hostname(self) -> str:
        return str(self._service.worker.node)

    @property
    def pool(self) -> Any:
        """The worker's pool, of qcore; None until it is made."""
        return getattr(self._service.worker, "pool", None)

    @property
    def timer(self) -> Timer:
        return self._service.timer

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        known = sorted(n for n in {*dir(type(self)), *vars(self)} if not n.startswith("_"))
        raise AttributeError(
            f"the {self._what} that steps get has no '{name}' in qcore; it has {', '.join(known)}"
        )


def _added(service: Steps, place: str) -> Any:
    return (getattr(service.worker.app, "steps", None) or {}).get(place, ())


class WorkerParent(_Parent):
    """The worker, for steps in `app.steps["worker"]`."""

    def __init__(self, service: Steps, options: Mapping[str, Any]) -> None:
        super().__init__(service, "Worker", _added(service, "worker"))
        self.options = dict(options)
        self.state = State(service)
        for name in ("loglevel", "logfile", "autoscale", "task_events", "time_limit", "soft_time_limit"):
            setattr(self, name, options.get(name))

    @property
    def consumer(self) -> ConsumerParent:
        return self._service.consumer

    @property
    def pool_cls(self) -> Any:
        return self._service.worker.pool_cls

    @property
    def concurrency(self) -> int:
        return int(self._service.worker.concurrency)

    def info(self) -> dict[str, Any]:
        found = self.stats()
        return {name: found[name] for name in ("total", "pid", "clock", "uptime")}

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self._service.running("stats").remote.stats()
        return found

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """Begin a warm shutdown."""
        self._service.shut_down(ShutdownStage.WARM)

    def terminate(self, in_sighandler: bool = False) -> None:
        """Begin a cold shutdown."""
        self._service.shut_down(ShutdownStage.COLD)


class ConsumerParent(_Parent):
    """The consumer, for steps in `app.steps["consumer"]`."""

    _what = "consumer"

    def __init__(self, service: Steps, controller: WorkerParent) -> None:
        super().__init__(service, "Consumer", _added(service, "consumer"))
        self.controller = controller
        self.messages = ForeignMessages(self.app, self, service.on_exit)
        self.qos = Prefetch(service)

    def guard(self, consumer: Any) -> None:
        """For ConsumerStep: have the errors of a kombu.Consumer's callbacks logged."""
        self.messages.guard(consumer)

    @property
    def connection(self) -> Any:
        """A kombu connection of the steps' own; the worker's tasks do not use it."""
        return self.messages.connection

    @property
    def event_dispatcher(self) -> Any:
        """send(type, **fields) sends an event of the worker."""
        return self._service.running("event_dispatcher").events

    def call_soon(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function in the timer's thread."""
        return self.timer.call_after(0, function, args, kwargs)

    def add_task_queue(self, queue: Any, *args: Any, **options: Any) -> None:
        """Consume a queue of tasks too."""
        self._service.running("add_task_queue").remote.add_consumer(getattr(queue, "name", queue))

    def cancel_task_queue(self, queue: Any) -> None:
        self._service.running("cancel_task_queue").remote.cancel_consumer(getattr(queue, "name", queue))

    def stop(self) -> None:
        """Begin a warm shutdown of the worker."""
        self._service.shut_down(ShutdownStage.WARM)


class Prefetch:
    """`consumer.qos`: how many messages the broker may send ahead; only RabbitMQ asks for it."""

    def __init__(self, service: Steps) -> None:
        self._service = service

    @property
    def value(self) -> int:
        return int(self._service.running("qos").prefetch_count)

    def increment_eventually(self, n: int = 1) -> None:
        self.set(self.value + max(n, 0))

    def decrement_eventually(self, n: int = 1) -> None:
        self.set(self.value - max(n, 0))

    def set(self, count: int) -> None:
        worker = self._service.running("qos")
        worker.prefetch_count = max(count, 1)
        worker.loop.call_soon(lambda: worker.loop.consumer.prefetch(worker.prefetch_count))


class State:
    """`worker.state`: the tasks that the worker holds."""

    def __init__(self, service: Steps) -> None:
        self._service = service

    def _held(self, numbers: Any = None) -> set[TaskRequest]:
        loop, node = self._service.running("state").loop, self._service.worker.node
        return {
            TaskRequest(held, node)
            for number, held in list(loop.held.items())
            if numbers is None or number in numbers
        }

    @property
    def active_requests(self) -> set[TaskRequest]:
        return self._held({running.number for running in self._service.running("state").pool.running()})

    @property
    def reserved_requests(self) -> set[TaskRequest]:
        return self._held()

    @property
    def revoked(self) -> set[str]:
        return set(self._service.running("state").loop.admission.revoked.ids)

    @property
    def total_count(self) -> dict[str, int]:
        return dict(self._service.running("state").loop.total)


class Steps:
    """The service. Made with the worker, before its pool; include() when the pool is made."""

    def __init__(self, worker: Any, options: Mapping[str, Any]) -> None:
        """Make the steps; raises what a step raises, and ConfigError when they cannot be ordered."""
        self.worker = worker
        self._options = dict(options)
        self.timer = Timer(self.on_exit)
        self.parent = WorkerParent(self, options)
        self.consumer = ConsumerParent(self, self.parent)
        with _logged():
            self.parent.blueprint.make(self.parent, **self._options)

    def include(self) -> None:
        """Ask the steps of the worker whether they take part, then make those of the consumer."""
        with _logged():
            self.parent.blueprint.include(self.parent)
            self.consumer.blueprint.apply(self.consumer, **self._options)

    def running(self, name: str) -> Any:
        """The worker, once it has its loop. Raises ConfigError before."""
        if getattr(self.worker, "remote", None) is None:
            raise ConfigError(f"a step uses '{name}' before the worker has started; use it in start()")
        return self.worker

    def shut_down(self, stage: ShutdownStage) -> None:
        self.running("stop").loop.stop(stage)

    def on_exit(self, exc: SystemExit) -> None:
        """A step raised SystemExit (WorkerShutdown, WorkerTerminate) in a thread of ours."""
        cold = type(exc).__name__ == "WorkerTerminate"
        log.warning("a step ends the worker: it raised %s", type(exc).__name__)
        self.shut_down(ShutdownStage.COLD if cold else ShutdownStage.WARM)

    def info(self) -> dict[str, Any]:
        """What the steps add to `inspect stats`."""
        found = self.parent.blueprint.info(self.parent)
        return {**found, **self.consumer.blueprint.info(self.consumer)}

    # --- Service

    def start(self) -> None:
        """Raises StepFailed; what has started is stopped then."""
        try:
            for parent in (self.parent, self.consumer):
                self._start(parent)
        except BaseException:
            self.stop()
            raise
        self.consumer.messages.start()

    def _start(self, parent: _Parent) -> None:
        try:
            parent.blueprint.start(parent)
        except BaseException as exc:
            failed = parent.steps[parent.blueprint.started - 1]
            del parent.steps[parent.blueprint.started - 1 :]
            if parent is self.parent:
                self.consumer.steps.clear()
            if isinstance(exc, Exception) and not isinstance(exc, QcoreError):
                log.critical("the step %s does not start: %r", failed.alias, exc, exc_info=exc)
                raise StepFailed(str(exc)) from exc
            raise

    def stop(self) -> None:
        """Stop as in Celery: close() of all, then stop() in the reverse order, the consumer's steps first;
        terminate() instead of stop() for the worker's after a cold shutdown."""
        may_close = self.consumer.messages.end()
        parent, consumer = self.parent, self.consumer
        for one in (parent, consumer):
            one.blueprint.close(one)
            one.blueprint.state = CLOSE
        consumer.blueprint.restart(consumer, "stop", "stopping")
        how = "terminate" if self.worker.loop.was_cold else "stop"
        parent.blueprint.restart(parent, how, "stopping")
        for one in (parent, consumer):
            one.blueprint.state = TERMINATE
            one.blueprint.shutdown_complete.set()
        self.timer.stop()
        consumer.blueprint.restart(consumer, "shutdown", "shutting down")
        if may_close:
            consumer.messages.close()


@contextmanager
def _logged() -> Iterator[None]:
    """Log what a step raises when it is made; raises StepFailed, or qcore's own errors."""
    try:
        yield
    except QcoreError:
        raise
    except Exception as exc:
        log.critical("a step cannot be made: %r", exc, exc_info=exc)
        raise StepFailed(str(exc)) from exc
