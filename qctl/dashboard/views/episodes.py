"""Alerts over time: an episode begins with an alert and ends when it is gone; it speaks once.

In:  the alerts of each moment, and the changes seen.  Out: Episodes, the worst first; which have just begun.
Before this: alerts.py.  After this: screens/main.py draws the line of alerts, cells of the screen `alerts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from qctl.dashboard.state.series import Change
from qctl.dashboard.state.snapshot import Snapshot
from qctl.dashboard.views.alerts import Alert, alerts
from qctl.dashboard.views.cells import CellFormatter
from qctl.dashboard.widgets.fields import Field, Part
from qctl.output.text import age, stamp

#: an alert that returns so soon after its end is the same episode, seconds
SAME_S = 60.0
#: what is there when the dashboard is opened is seen, so it does not speak, seconds
QUIET_S = 10.0
#: episodes that have ended stay in the list for so long, and so many at most
KEEP_S, MOST = 3600.0, 200
#: a change that came at most so long before is named, seconds
CAUSE_S = 300.0
#: an acknowledged alert comes back when its amount has grown so much
GROWN = 2.0

FIELDS = (
    Field("STATE", 12, 0),
    Field("SINCE", 8, 0, right=True),
    Field("WHAT", 30, 0, grows=True),
    Field("WHERE", 16, 1, grows=True, middle=True),
    Field("BEGAN AFTER", 20, 2, grows=True),
)


class Episode(msgspec.Struct, frozen=True):
    """One episode. name: kind and place; where: the row of the overview that it is about."""

    name: str
    what: str
    word: str
    where: str
    since: float  # epoch seconds
    amount: float = 0.0
    after: str = ""  # the change that came before it
    after_s: float = 0.0  # how long before
    ended_at: float | None = None
    acknowledged: float | None = None  # the amount at that time
    is_older: bool = False  # it began before the dashboard was opened, so `since` is only when it was seen

    @property
    def is_open(self) -> bool:
        """Whether it needs a person: it goes on, and nobody has acknowledged it."""
        return self.ended_at is None and self.acknowledged is None

    @property
    def cause(self) -> str:
        """The change before it, with the time between; empty: none is known."""
        return f"{age(self.after_s)} after: {self.after}" if self.after else ""


class Episodes:
    """The episodes of one fleet."""

    def __init__(self) -> None:
        self._known: dict[str, Episode] = {}
        self._began: float | None = None

    def update(self, picture: Snapshot) -> list[Episode]:
        """Take the alerts of a snapshot; return the episodes that have begun and may speak. While the fleet
        does not answer, and until its workers may have reconnected, nothing begins and nothing ends."""
        if picture.trouble or picture.is_settling or not picture.asked:
            return []
        if self._began is None:
            self._began = picture.at
        changes = () if picture.charts is None else tuple(picture.charts.changes)
        begun, found = [], {f"{a.kind} {a.key}": a for a in alerts(picture, picture.charts)}
        for name, alert in found.items():
            before = self._known.get(name)
            is_new = before is None or (before.ended_at is not None and picture.at - before.ended_at > SAME_S)
            if before is None or is_new:
                is_older = alert.since is None and picture.at - self._began < QUIET_S
                made = _begin(name, alert, picture.at, () if is_older else changes, is_older)
                begun.append(made)
            else:
                made = _go_on(before, alert)
            self._known[name] = made
        for name, one in list(self._known.items()):
            if name not in found and one.ended_at is None:
                self._known[name] = msgspec.structs.replace(one, ended_at=picture.at, acknowledged=None)
            elif one.ended_at is not None and picture.at - one.ended_at > KEEP_S:
                del self._known[name]
        while len(self._known) > MOST:
            del self._known[min(self._known, key=lambda name: self._known[name].since)]
        self._order = list(found)
        return begun if picture.at - self._began >= QUIET_S else []

    def rows(self) -> tuple[Episode, ...]:
        """All episodes: those that need a person, the acknowledged ones, those that have ended."""
        order = {name: number for number, name in enumerate(getattr(self, "_order", ()))}

        def rank(one: Episode) -> tuple[int, float]:
            if one.ended_at is not None:
                return 2, -one.ended_at
            return int(one.acknowledged is not None), float(order.get(one.name, len(order)))

        return tuple(sorted(self._known.values(), key=rank))

    def acknowledge(self, names: Iterable[str]) -> list[Episode]:
        """Acknowledge episodes that go on; return them."""
        done = []
        for name in names:
            one = self._known.get(name)
            if one is not None and one.is_open:
                self._known[name] = msgspec.structs.replace(one, acknowledged=one.amount)
                done.append(one)
        return done


def _begin(name: str, alert: Alert, at: float, changes: Sequence[Change], is_older: bool = False) -> Episode:
    since = at if alert.since is None else min(alert.since, at)
    # A change of the same worker or queue is the alert itself.
    own = f"{alert.key} " if alert.kind in ("silent", "paused") else "\0"
    before = [c for c in changes if 0 <= since - c.at <= CAUSE_S and not c.words.startswith(own)]
    after, after_s = (before[-1].words, since - before[-1].at) if before else ("", 0.0)
    return Episode(
        name,
        alert.text,
        alert.word,
        alert.key,
        since,
        alert.amount,
        after,
        after_s,
        is_older=is_older,
    )


def _go_on(before: Episode, alert: Alert) -> Episode:
    seen = before.acknowledged
    if seen is not None and (alert.amount >= max(seen * GROWN, seen + 1) or alert.word != before.word):
        seen = None
    return msgspec.structs.replace(
        before, what=alert.text, word=alert.word, amount=alert.amount, acknowledged=seen, ended_at=None
    )


def cells(panes: CellFormatter, one: Episode) -> list[Part]:
    """The row of an episode: state, since when, what and how much, where, after which change."""
    now = panes.now
    if one.ended_at is not None:
        state, style = f"ended {age(max(now - one.ended_at, 0))}", panes.style("faint")
    elif one.acknowledged is not None:
        state, style = "acknowledged", panes.style("faint")
    else:
        state, style = "open", panes.style(one.word)
    return [
        Part(state, style),
        Part(lasted(one, now)),
        Part(one.what, style),
        Part(one.where or "the fleet"),
        Part(one.cause or "-"),
    ]


def lasted(one: Episode, now: float) -> str:
    """How long ago an episode began; `>`: longer, since it is older than the dashboard."""
    return f"{'>' if one.is_older else ''}{age(max(now - one.since, 0))}"


def spoken(one: Episode) -> str:
    """One line for a notification."""
    cause = f"; began {one.cause}" if one.after else ""
    return f"{one.what} (since {stamp(one.since)[11:19]}{cause})"
