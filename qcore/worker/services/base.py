"""The services of a worker, which run beside its loop, the order in which they start, and the stages of its
shutdown.

In:  the worker's own services, and those of installed packages (entry points of the group qcore.services).
Out: all of them, in the order in which they start. They stop in the reverse order.
Before this: worker.py.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol

from qcore.base.plugins import Registry
from qcore.errors import ConfigError, QcoreError


class StepFailed(QcoreError):
    """A step of the project (bootsteps.py) could not be made or started; the log has its error."""


class ShutdownStage(enum.IntEnum):
    """A stage of the loop; it only increases."""

    RUNNING = 0
    WARM = 1  # claims nothing; running tasks finish
    COLD = 2  # running tasks are killed and returned
    DONE = 3


class Service(Protocol):
    """A part of a worker that starts before its first task and stops after its last.

    start() returns once the service works; if it raises, the worker does not start.
    stop() is called once, in the main thread, also after a cold shutdown.
    """

    def start(self) -> None: ...
    def stop(self) -> None: ...


#: name -> a callable that takes the worker (control/commands/base.py: WorkerView) and returns its service.
#: The callable's attribute `after` names the services that must start first; the default is all of the
#: worker's own.
services: Registry[Callable[[Any], Service]] = Registry("service", "qcore.services")

HEALTH, LEASE, EVENTS, CONTROL = "health", "lease", "events", "control"


def in_order(own: dict[str, Service], worker: Any) -> dict[str, Service]:
    """The worker's own services in their order, then the installed ones, each after those it names. Raises
    ConfigError if one names an unknown service, or if they wait for each other."""
    makers = {name: services.get(name) for name in services.names()}
    wanted = {name: tuple(getattr(make, "after", tuple(own))) for name, make in makers.items()}
    for name, after in wanted.items():
        # A service that is switched off, as remote control can be, is a valid name and is not waited for.
        unknown = [n for n in after if n not in (*own, *makers, HEALTH, LEASE, EVENTS, CONTROL)]
        if unknown:
            raise ConfigError(f"the service '{name}' starts after '{unknown[0]}', which does not exist")
    found = dict(own)
    left = list(makers)
    while left:
        free = [n for n in left if not any(a in left for a in wanted[n])]
        if not free:
            raise ConfigError(f"the services {', '.join(left)} wait for each other: change their `after`")
        for name in free:
            left.remove(name)
            found[name] = makers[name](worker)
    return found
