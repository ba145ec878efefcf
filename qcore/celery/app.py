"""`celery.Celery`: an App with the attributes of Celery's that are conveniences there and not needed here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from qcore.app.app import App
from qcore.base.times import new_id
from qcore.control.client import Control
from qcore.signals import Signal
from qcore.tasks.current_app import current_app
from qcore.tasks.request import current_request, current_task
from qcore.tasks.task import Task, task_name


class Celery(App):
    """An app as a Celery project writes it; everything else is App's."""

    finalized = False

    def __init__(self, main: str | None = None, *args: Any, **options: Any) -> None:
        """Keywords as in Celery. The first ones may be given by position: loader, backend, …, which only
        None has a meaning for here."""
        if any(value is not None for value in args):
            raise TypeError("Celery() takes its name by position, and everything else by keyword")
        if options.get("fixups") is not None:
            self.fixups = options.pop("fixups")
        for name in ("loader", "amqp", "events", "log", "control", "tasks", "fixups", "autofinalize"):
            if options.get(name) is None or name == "autofinalize":
                options.pop(name, None)
        self.on_configure = Signal("app.on_configure")
        self.on_after_configure = Signal("app.on_after_configure", "source")
        self.on_after_finalize = Signal("app.on_after_finalize")
        self.on_after_fork = Signal("app.on_after_fork")
        self.user_options: dict[str, set[Any]] = {}
        self.steps: dict[str, set[Any]] = {}
        super().__init__(main, **options)

    # --- start

    def _after_configure(self) -> None:
        self.on_configure.send(self)
        self.on_after_configure.send(self, source=self.conf)

    @property
    def configured(self) -> bool:
        return self.conf.is_loaded

    @property
    def tasks(self) -> dict[str, Task]:
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

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **opts: Any,
    ) -> str:
        """Add an entry to the setting beat_schedule. Returns its name."""
        key = name or repr(sig)
        entry = {"task": sig.name if isinstance(sig, Task) else sig.task, "schedule": schedule}
        given = (list(args) or list(sig.get("args") or ())) if isinstance(sig, Mapping) else list(args)
        more = dict(kwargs or (sig.get("kwargs") if isinstance(sig, Mapping) else None) or {})
        self.conf["beat_schedule"] = {
            **(self.conf.beat_schedule or {}),
            key: {**entry, "args": given, "kwargs": more, "options": opts},
        }
        return key

    # --- about

    @property
    def current_task(self) -> Any:
        return current_task()

    @property
    def current_worker_task(self) -> Any:
        return current_task() if current_request() is not None else None

    @property
    def timezone(self) -> tzinfo:
        zone = self.conf.timezone
        return ZoneInfo(zone) if zone else UTC

    def now(self) -> datetime:
        return datetime.now(UTC).astimezone(self.timezone)

    def gen_task_name(self, name: str, module: str) -> str:
        return task_name(module, name, self.main)

    @property
    def oid(self) -> str:
        """An id of this process and app."""
        made: str = self.__dict__.setdefault("_oid", f"{os.getpid()}-{new_id()}")
        return made

    @property
    def control(self) -> Control:
        found: Control = self.__dict__.setdefault("_control", Control(self))
        return found

    def __enter__(self) -> Celery:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def app_or_default(app: Any = None) -> Any:
    """`app`, or the current one."""
    return current_app() if app is None else app
