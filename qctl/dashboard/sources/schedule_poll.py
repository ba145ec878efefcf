"""Poll the schedule for the dashboard, while its screen is open.

In:  an app, and what is on the screen.  Out: a ScheduleBoard.
read() asks the store, and each time for no more than what is new, what is on the screen and ROTATED other
entries, so that 10,000 entries cost a poll no more than 1,000. board() only computes, and only the rows near
the screen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.app.schedules import Scheduled, scheduled
from qcore.errors import ConfigError, Malformed, Unsupported
from qcore.wire import result as result_wire
from qcore.wire.schedule import HistoryRecord
from qctl.dashboard.state.lazy_rows import ScheduleRows
from qctl.dashboard.state.schedules import SPAN_S, ScheduleBoard, ScheduleLook, ScheduleRow
from qctl.fleet import schedules

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.brokers.contract.schedules import StoredEntry

#: rows that are computed above and below the screen
AROUND = 40
#: entries beyond the screen whose state is read with each poll
ROTATED = 500
#: entries whose history is kept
HISTORIES = 100
#: seconds after which the next instant of an entry that has none is looked for again
AGAIN_S = 60.0
#: what a stored entry with odd values may raise, besides QcoreError
ODD = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)


class _Computed(NamedTuple):
    """A row, and how long it holds."""

    found: Scheduled
    axis: tuple[float, float]  # of the time line: its begin, the seconds of a column
    until: float
    row: ScheduleRow


class SchedulePoll:
    """Keeps what was read. Not thread-safe: one thread calls it."""

    def __init__(self, app: App, state_of: Callable[[str], str | None] = lambda task_id: None) -> None:
        """state_of: the state of a task by its events, for tasks without a result; None: unknown."""
        self._app, self._state_of = app, state_of
        self._found: dict[str, Scheduled] = {}
        self._broken: dict[str, str] = {}  # why an entry cannot be read, by name
        self._revision = -1
        self._turn = 0  # the position of the next entry beyond the screen
        self._ahead_s = 0.0
        self._note = ""
        self._schedulers: tuple[str, ...] = ()
        self._history: dict[str, tuple[HistoryRecord, ...]] = {}
        self._results: dict[str, str] = {}
        self._rows: dict[str, _Computed] = {}
        self._next: dict[str, tuple[Scheduled, float, float | None, str]] = {}
        self._names: list[str] = []  # all, in order
        self._counts = (0, 0)  # entries with missed instants, paused ones
        #: since the last read: the pattern and order, the names that they give, the place of each
        self._list: tuple[tuple[str, str, bool], list[str], dict[str, int]] | None = None
        self._asked = False

    def read(self, look: ScheduleLook) -> None:
        """Ask the store. Raises BrokerError."""
        try:
            store = self._app.schedules.store
            now, revision = store.clock()
        except (ConfigError, Unsupported) as exc:
            self._note, self._asked = str(exc), True
            return
        self._ahead_s, self._note = now - time.time(), ""
        if revision < self._revision:  # another database, or an empty one
            self._found, self._broken, self._revision = {}, {}, -1
        if revision != self._revision:
            for one in store.entries(max(self._revision, 0)):
                self._take(one)
            self._revision = revision
            self._names = sorted({*self._found, *self._broken})
            self._next = {name: one for name, one in self._next.items() if name in self._found}
        shown = self._near(self._ordered(look, now), look, 0)
        names = list(dict.fromkeys([*shown, *self._others()]))
        for one in store.named(names):
            if one is not None:
                self._take(one)
        self._schedulers = tuple(one.node for one in schedules.schedulers(self._app))
        if look.selected in self._found:
            self._history.pop(look.selected, None)
            self._history[look.selected] = tuple(store.history(look.selected))
            while len(self._history) > HISTORIES:
                del self._history[next(iter(self._history))]
        self._results = self._states(shown)
        entries = self._found.values()
        self._counts = sum(e.state.missed > 0 for e in entries), sum(not e.entry.enabled for e in entries)
        self._list = None
        self._asked = True

    def _take(self, found: StoredEntry) -> None:
        name = found.name
        if found.is_deleted:
            self._found.pop(name, None)
            self._broken.pop(name, None)
            return
        known = self._found.get(name)
        if known is not None and (known.revision, known.state) == (found.revision, found.state):
            return
        try:
            self._found[name] = scheduled(found)
            self._broken.pop(name, None)
        except Malformed as exc:
            self._broken[name] = str(exc)
            self._found.pop(name, None)

    def _others(self) -> list[str]:
        """The next entries in the rotation."""
        names = self._names[self._turn : self._turn + ROTATED]
        self._turn = self._turn + ROTATED if self._turn + ROTATED < len(self._names) else 0
        return names

    def _states(self, names: Iterable[str]) -> dict[str, str]:
        """The states of the last tasks of these entries, by task id; without those that nobody knows."""
        ids = [self._found[name].state.last_task_id for name in names if name in self._found]
        items: list[dict[str, Any]] = [{"last_task_id": one} for one in ids if one]
        states = schedules.last_states(self._app, items)
        found = {}
        for item in items:
            task_id = item["last_task_id"]
            state: str | None = states.get(task_id, result_wire.PENDING)
            if state == result_wire.PENDING:  # also a task that nobody has heard of
                state = self._state_of(task_id)
            if state is not None:
                found[task_id] = state
        return found

    # --- what is shown

    def board(self, look: ScheduleLook) -> ScheduleBoard:
        """The schedule now, with the rows near the screen."""
        now = time.time() + self._ahead_s
        wanted = (look.pattern, look.order, look.reverse)
        if self._list is None or self._list[0] != wanted:
            names = self._ordered(look, now)
            self._list = (wanted, names, {name: place for place, name in enumerate(names)})
        _, names, places = self._list
        near = self._near(names, look, AROUND)
        rows = {name: self._row(name, look, now) for name in near}
        self._rows = {name: self._rows[name] for name in near if name in self._rows}
        missed, paused = self._counts
        return ScheduleBoard(
            self._asked,
            self._note,
            rows=ScheduleRows(names, places, rows),
            total=len(self._names),
            missed=missed,
            paused=paused,
            broken=len(self._broken),
            schedulers=self._schedulers,
            ahead_s=self._ahead_s,
            history=dict(self._history),
        )

    def _near(self, names: list[str], look: ScheduleLook, around: int) -> list[str]:
        """The names on the screen, with so many before and after them, and the selected one."""
        near = names[max(0, look.first - around) : look.first + look.lines + around]
        return near if not look.selected or look.selected in near else [*near, look.selected]

    def _row(self, name: str, look: ScheduleLook, now: float) -> ScheduleRow:
        found = self._found.get(name)
        if found is None:
            return ScheduleRow(name, problem=self._broken.get(name, ""))
        begin, step_s = now // look.step_s * look.step_s, look.step_s
        computed = self._rows.get(name)
        if (
            computed is None
            or computed.found is not found
            or computed.axis != (begin, step_s)
            or now >= computed.until
        ):
            row = self._computed(found, now, begin + SPAN_S, step_s)
            self._rows[name] = computed = _Computed(
                found, (begin, step_s), row.time("next_at") or now + AGAIN_S, row
            )
        result = self._results.get(found.state.last_task_id)
        row = computed.row
        return row if result == row.result else ScheduleRow(name, row.item, "", result, row.upcoming)

    def _computed(self, found: Scheduled, now: float, until: float, step_s: float) -> ScheduleRow:
        try:
            item = schedules.item(self._app, found, schedules.due(self._app, found, now))
            times = schedules.within(self._app, found, now, until, step_s)
        except ODD as exc:  # one odd entry must not hide the others
            return ScheduleRow(found.entry.name, problem=f"a field of it has no sensible value: {exc}")
        return ScheduleRow(found.entry.name, item, upcoming=tuple(times))

    # --- filter and order

    def _ordered(self, look: ScheduleLook, now: float) -> list[str]:
        """The names that fit the pattern, in order."""
        names = self._names
        if look.pattern:
            part = look.pattern.lower()
            names = [name for name in names if part in self._text(name, now).lower()]
        if not look.order:
            return names
        keys = {name: self._key(look.order, name, now) for name in names}
        unknown = [name for name in names if keys[name] is None]
        known = sorted((n for n in names if keys[n] is not None), key=lambda n: keys[n], reverse=look.reverse)
        return known + unknown

    def _text(self, name: str, now: float) -> str:
        found = self._found.get(name)
        if found is None:
            return f"{name} broken"
        entry = found.entry
        words = schedules.phrase(self._app, found)
        return " ".join((name, entry.task, words, self._upcoming(name, now)[1]))

    def _key(self, order: str, name: str, now: float) -> Any:
        """The sort key: text and the next instant ascending, counts and the last instant descending."""
        found = self._found.get(name)
        if order == "name":
            return name
        if found is None:
            return "broken" if order == "status" else None
        state = found.state
        if order == "status":
            return self._upcoming(name, now)[1]
        if order == "next_at":
            return self._upcoming(name, now)[0]
        if order == "task":
            return found.entry.task
        if order == "schedule":
            return schedules.phrase(self._app, found)
        if order in ("last_at", "late_s"):
            value = state.last_instant_us if order == "last_at" else state.late_s
            return -value if state.last_sent_us else None
        return -int(getattr(state, order))

    def _upcoming(self, name: str, now: float) -> tuple[float | None, str]:
        """The next instant and the status of an entry, computed again when the instant has passed."""
        found, known = self._found[name], self._next.get(name)
        if known is None or known[0] is not found or now >= known[1]:
            try:
                at, status, _ = schedules.next_of(self._app, found, now)
            except ODD:  # its row says what is wrong
                at, status = None, schedules.BROKEN
            known = self._next[name] = (found, now + AGAIN_S if at is None else at, at, status)
        return known[2], known[3]
