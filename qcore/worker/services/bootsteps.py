"""Celery's `celery.bootsteps`: steps that a project adds to the worker and to its consumer.

In:  classes of steps, which a project adds to `app.steps["worker"]` and `app.steps["consumer"]`.
Out: a Blueprint, which makes one object of each, in the order of their `requires`, and calls them.
After this: steps.py, the service that runs the two blueprints of a worker.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from qcore.app.sources import imported
from qcore.errors import ConfigError

log = logging.getLogger("qcore.worker")

RUN, CLOSE, TERMINATE = 1, 2, 3
#: seconds that the end of a shutdown waits for a connection of foreign messages to be closed
CLOSE_S = 3.0


class StepType(type):
    """The class of steps: each has a name, which is `module.Class` where it says none."""

    name: str
    requires: Any

    def __new__(mcs, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> StepType:
        full = f"{attributes.get('__module__')}.{name}"
        return super().__new__(mcs, name, bases, {**attributes, "name": attributes.get("name") or full})

    def __str__(cls) -> str:
        return cls.name

    def __repr__(cls) -> str:
        return f"<class of steps: {cls.name}>"


class Step(metaclass=StepType):
    """A part of a worker that is made when the worker is made.

    requires: the steps that are made and started before it, as classes or as `module:Class`; label: a short
    name for logs; enabled: whether include_if() includes it; last: it starts after all others; conditional:
    for readers only.
    """

    name: Any = None
    label: str | None = None
    conditional = False
    requires: Any = ()
    last = False
    enabled = True

    def __init__(self, parent: Any, **options: Any) -> None:
        """parent: the worker, or its consumer; options: those of `qctl worker`, the user's included."""

    def include_if(self, parent: Any) -> bool:
        """Whether the step takes part."""
        return bool(self.enabled)

    def create(self, parent: Any) -> Any:
        """Make the object whose start() and stop() are called for the step; None: there is none."""

    def include(self, parent: Any) -> bool:
        return self._included(parent)[0]

    def _included(self, parent: Any) -> tuple[bool, Any]:
        return (True, self.create(parent)) if self.include_if(parent) else (False, None)

    def instantiate(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        """An object of a class, or of the class with this dotted name."""
        return _class_of(name)(*args, **kwargs)

    def info(self, parent: Any) -> Any:
        """What `inspect stats` shows of it: a mapping, or None."""

    @property
    def alias(self) -> str:
        return self.label or str(self.name).rpartition(".")[2]

    def __repr__(self) -> str:
        return f"<step: {self.alias}>"


class StartStopStep(Step):
    """A step with start() and stop(); by default these are the methods of what create() returned."""

    obj: Any = None

    def start(self, parent: Any) -> Any:
        return self.obj.start() if self.obj else None

    def stop(self, parent: Any) -> Any:
        return self.obj.stop() if self.obj else None

    def close(self, parent: Any) -> Any:
        """Called before the first step stops."""

    def terminate(self, parent: Any) -> Any:
        """Called instead of stop() at a cold shutdown, for steps of the worker."""
        return getattr(self.obj, "terminate", self.obj.stop)() if self.obj else None

    def include(self, parent: Any) -> bool:
        included, made = self._included(parent)
        if included:
            self.obj = made
            parent.steps.append(self)
        return included


class ConsumerStep(StartStopStep):
    """A step that receives foreign messages: those that are no tasks, from queues of their own."""

    requires: Any = ("celery.worker.consumer:Connection",)
    consumers: Any = None

    def get_consumers(self, channel: Any) -> Any:
        """The kombu.Consumer objects on `channel`."""
        raise NotImplementedError(
            f"the step {self.alias} has no get_consumers(channel); return a list of kombu.Consumer there"
        )

    def start(self, c: Any) -> None:
        """Begin to receive; also after each loss of the connection."""
        channel = c.connection.channel()
        self.consumers = list(self.get_consumers(channel) or ())
        for consumer in self.consumers:
            c.guard(consumer)
        for consumer in self.consumers:
            consumer.consume()

    def stop(self, c: Any) -> None:
        self._end(cancel=True)

    def shutdown(self, c: Any) -> None:
        self._end(cancel=False)

    def _end(self, cancel: bool) -> None:
        consumers, self.consumers = list(self.consumers or ()), None
        channels = {consumer.channel for consumer in consumers if consumer.channel}
        calls = [consumer.cancel for consumer in consumers if cancel]
        calls += [channel.close for channel in channels]
        if calls:
            within(CLOSE_S, calls, f"the step {self.alias}")


def within(seconds: float, calls: Iterable[Callable[[], Any]], what: str) -> None:
    """Make calls to a broker which may have gone; return after `seconds` at the latest."""

    def make() -> None:
        for call in calls:
            try:
                call()
            except Exception as exc:  # the connection may be lost
                log.debug("%s: closing: %r", what, exc)

    thread = threading.Thread(target=make, name="closing", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        log.warning("%s did not close within %g s; the worker goes on without it", what, seconds)


def _class_of(step: Any) -> Any:
    """A class, or the one of a dotted name."""
    if not isinstance(step, str):
        return step
    place = step if ":" in step else ":".join(step.rsplit(".", 1))
    if (known := celerys().get(place)) is not None:
        return known
    try:
        return imported(place)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ConfigError(f"the step '{step}' cannot be loaded: {exc}; write module:Class") from exc


class CelerysStep(Step):
    """A step of Celery's own worker, as a name for `requires`: what it stands for starts before all steps of
    a project here, and is no step."""

    _is_celerys: ClassVar[bool] = True


_OF_WORKER = "Hub Pool Beat Timer StateDB Consumer"
_OF_CONSUMER = "Connection Mingle Events Gossip Heart Control Tasks DelayedDelivery Evloop Agent"


def _celerys_step(module: str, name: str) -> Any:
    return StepType(name, (CelerysStep,), {"__module__": module})


Hub, Pool, Beat, Timer, StateDB, Consumer = (
    _celerys_step("celery.worker.components", name) for name in _OF_WORKER.split()
)
Connection, Mingle, Events, Gossip, Heart, Control, Tasks, DelayedDelivery, Evloop, Agent = (
    _celerys_step("celery.worker.consumer", name) for name in _OF_CONSUMER.split()
)
WorkerComponent = _celerys_step("celery.worker.autoscale", "WorkerComponent")


def celerys() -> dict[str, Any]:
    """Celery's own steps by the places at which projects name them."""
    own = globals()
    inner = {"DelayedDelivery": "delayed_delivery", "Evloop": "consumer"}  # not in the package itself
    modules = {inner.get(name, name.lower()): name for name in _OF_CONSUMER.split()}
    return {
        **{f"celery.worker.components:{name}": own[name] for name in _OF_WORKER.split()},
        **{f"celery.worker.consumer:{name}": own[name] for name in _OF_CONSUMER.split() if name not in inner},
        **{f"celery.worker.consumer.{module}:{name}": own[name] for module, name in modules.items()},
        "celery.worker.autoscale:WorkerComponent": WorkerComponent,
    }


def _stands_for_celerys(step: Any) -> bool:
    return "_is_celerys" in vars(step) or CelerysStep in step.__bases__


class Blueprint:
    """The steps of one parent: apply() makes them, start() and stop() call them in order."""

    name: str | None = None
    state: int | None = None
    started = 0
    default_steps: ClassVar[Any] = ()
    state_to_name: ClassVar[dict[int, str]] = {
        0: "initializing",
        RUN: "running",
        CLOSE: "closing",
        TERMINATE: "terminating",
    }

    def __init__(
        self,
        steps: Iterable[Any] | None = None,
        name: str | None = None,
        on_start: Callable[[], Any] | None = None,
        on_close: Callable[[], Any] | None = None,
        on_stopped: Callable[[], Any] | None = None,
    ) -> None:
        self.name = name or self.name or f"{type(self).__module__}.{type(self).__qualname__}"
        self.types = {*(steps or ()), *self.default_steps}
        self.on_start, self.on_close, self.on_stopped = on_start, on_close, on_stopped
        self.shutdown_complete = threading.Event()
        self.steps: dict[str, Any] = {}
        self.order: list[Any] = []

    # --- making

    def apply(self, parent: Any, **options: Any) -> Blueprint:
        """make() and include()."""
        self.make(parent, **options)
        return self.include(parent)

    def make(self, parent: Any, **options: Any) -> Blueprint:
        """Make an object of each step, in order. Raises ConfigError when they cannot be ordered."""
        self.order = [step(parent, **options) for step in self.ordered()]
        self.steps = {step.name: step for step in self.order}
        return self

    def include(self, parent: Any) -> Blueprint:
        """Ask each whether it takes part; those that can be started are in `parent.steps` afterwards."""
        for step in self.order:
            step.include(parent)
        return self

    def claim_steps(self) -> dict[str, Any]:
        return dict(map(self.load_step, self.types))

    def load_step(self, step: Any) -> tuple[str, Any]:
        found = _class_of(step)
        if not isinstance(found, StepType):
            raise ConfigError(f"{found!r} is no step; derive it from celery.bootsteps.StartStopStep or Step")
        return found.name, found

    def ordered(self) -> list[Any]:
        """The classes, each after those that it requires; a required step takes part as if it were added."""
        found = self.claim_steps()
        needs: dict[str, list[str]] = {}
        waiting = list(found.values())
        while waiting:
            step = waiting.pop()
            required = [one for one in map(self.load_step, step.requires) if not _stands_for_celerys(one[1])]
            needs[step.name] = [name for name, _ in required]
            for name, other in required:
                if name not in found:
                    found[name] = other
                    waiting.append(other)
        for name, step in found.items():
            if step.last:
                needs[name] = [other for other in found if other != name]
        order: list[Any] = []
        left = sorted(name for name, step in found.items() if not _stands_for_celerys(step))
        while left:
            free = next((name for name in left if not set(needs[name]) & set(left)), None)
            if free is None:
                raise ConfigError(f"the steps {', '.join(left)} require each other: change their `requires`")
            left.remove(free)
            order.append(found[free])
        return order

    # --- life

    def start(self, parent: Any) -> None:
        """Start the steps in order; raises what a step raises, and `started` counts up to that one."""
        self.state = RUN
        if self.on_start:
            self.on_start()
        for number, step in enumerate(parent.steps, 1):
            log.debug("%s: starting %s", self.alias, step.alias)
            self.started = number
            step.start(parent)

    def stop(self, parent: Any, close: bool = True, terminate: bool = False) -> None:
        """close() of all steps, then stop() (or terminate()) in the reverse order. An error of a step is
        logged. A blueprint that has not started completely does nothing."""
        if self.state in (CLOSE, TERMINATE):
            return
        if self.state == RUN and self.started == len(parent.steps):
            self.close(parent)
            self.state = CLOSE
            self.restart(parent, "terminate" if terminate else "stop", "stopping")
            if self.on_stopped:
                self.on_stopped()
        self.state = TERMINATE
        self.shutdown_complete.set()

    def close(self, parent: Any) -> None:
        if self.on_close:
            self.on_close()
        self.send_all(parent, "close", "closing", reverse=False, propagate=False)

    def restart(
        self,
        parent: Any,
        method: str = "stop",
        description: str | None = "restarting",
        propagate: bool = False,
    ) -> None:
        self.send_all(parent, method, description, propagate=propagate)

    def send_all(
        self,
        parent: Any,
        method: str,
        description: str | None = None,
        reverse: bool = True,
        propagate: bool = True,
        args: tuple[Any, ...] = (),
    ) -> None:
        """Call a method of all steps that have it."""
        for step in list(reversed(parent.steps) if reverse else parent.steps):
            call = getattr(step, method, None)
            if call is None:
                continue
            try:
                call(parent, *args)
            except Exception as exc:
                if propagate:
                    raise
                words = description or method
                log.exception("the step %s raised %r while %s", step.alias, exc, words)

    def join(self, timeout: float | None = None) -> None:
        self.shutdown_complete.wait(timeout)

    # --- facts

    def info(self, parent: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for step in parent.steps:
            found.update(step.info(parent) or {})
        return found

    def human_state(self) -> str:
        return self.state_to_name[self.state or 0]

    def __getitem__(self, name: str) -> Any:
        return self.steps[name]

    @property
    def alias(self) -> str:
        return str(self.name).rpartition(".")[2]
