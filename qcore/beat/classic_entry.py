"""An entry of a scheduler class of the project, as Celery's `celery.beat.ScheduleEntry`.

In:  the fields of an entry of `beat_schedule`, and when it ran last.  Out: whether it is due, the entry after
it, and its arguments at the time of publishing.
Before this: the settings, or a subclass that reads a database.  After this: classic_scheduler.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import total_ordering
from typing import Any, NamedTuple

from qcore.schedules.classes import maybe_schedule

#: what a person may change in an entry that exists; the rest is its state
EDITABLE = ("task", "schedule", "args", "kwargs", "options")


class event_t(NamedTuple):
    """An element of the scheduler's heap: an entry, and the epoch seconds of its next look."""

    time: float
    priority: int
    entry: Any


class SchedulingError(Exception):
    """A task that was due could not be published."""


class BeatLazyFunc:
    """An argument that is computed when the task is published: BeatLazyFunc(datetime.now, UTC)."""

    def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._func = func
        self._func_params: dict[str, Any] = {"args": args, "kwargs": kwargs}

    def __call__(self) -> Any:
        return self.delay()

    def delay(self) -> Any:
        """Call the function now."""
        return self._func(*self._func_params["args"], **self._func_params["kwargs"])


def _value(one: Any) -> Any:
    return one() if isinstance(one, BeatLazyFunc) else one


def _evaluate_entry_args(entry_args: Iterable[Any] | None) -> list[Any]:
    return [_value(one) for one in entry_args or ()]


def _evaluate_entry_kwargs(entry_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: _value(one) for name, one in (entry_kwargs or {}).items()}


@total_ordering
class ScheduleEntry:
    """A task, its schedule, and when it ran last. `next(entry)` is the entry after one more run.

    relative: whether an interval counts from full seconds, minutes, hours or days.
    """

    name: Any = None
    task: Any = None
    schedule: Any = None
    args: Any = None
    kwargs: Any = None
    options: Any = None
    last_run_at: Any = None
    total_run_count: int = 0

    def __init__(
        self,
        name: Any = None,
        task: Any = None,
        last_run_at: datetime | None = None,
        total_run_count: int | None = None,
        schedule: Any = None,
        args: Any = (),
        kwargs: Any = None,
        options: Any = None,
        relative: bool = False,
        app: Any = None,
    ) -> None:
        self.app, self.name, self.task = app, name, task
        self.args, self.kwargs, self.options = args, kwargs or {}, options or {}
        self.schedule = maybe_schedule(schedule, relative, app=app)
        self.last_run_at = last_run_at or self.default_now()
        self.total_run_count = total_run_count or 0

    def default_now(self) -> datetime:
        """The time by the schedule's clock, or by the app's."""
        clock = self.schedule or self.app
        now: datetime = clock.now()
        return now

    _default_now = default_now

    def _next_instance(self, last_run_at: datetime | None = None) -> Any:
        """The entry after one more run, by default now. A subclass gets all attributes as keywords."""
        fields = {**vars(self), "total_run_count": self.total_run_count + 1}
        fields["last_run_at"] = last_run_at or self.default_now()
        return type(self)(**fields)

    __next__ = next = _next_instance

    def __reduce__(self) -> Any:
        state = self.last_run_at, self.total_run_count
        return type(self), (
            self.name,
            self.task,
            *state,
            self.schedule,
            self.args,
            self.kwargs,
            self.options,
        )

    def update(self, other: Any) -> None:
        """Take the EDITABLE attributes of another entry, and keep the state."""
        vars(self).update((name, getattr(other, name)) for name in EDITABLE)

    def is_due(self) -> Any:
        """(whether it is due, after how many seconds to look again)."""
        return self.schedule.is_due(self.last_run_at)

    def editable_fields_equal(self, other: Any) -> bool:
        return all(getattr(self, name) == getattr(other, name) for name in EDITABLE)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(vars(self).items())

    def __repr__(self) -> str:
        given = [*map(repr, self.args or ()), *(f"{k}={v!r}" for k, v in (self.kwargs or {}).items())]
        return f"<{type(self).__name__}: {self.name} {self.task}({', '.join(given)}) {self.schedule}>"

    def __lt__(self, other: object) -> bool:
        # The heap compares entries that are due at the same moment; any order that stays the same will do.
        if isinstance(other, ScheduleEntry):
            return id(self) < id(other)
        return NotImplemented

    def __eq__(self, other: object) -> bool:
        return self.editable_fields_equal(other) if isinstance(other, ScheduleEntry) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equal entries may differ in their state, and entries change
