"""What needs a person, one short sentence each; the worst first.

In:  a Snapshot and its history.  Out: an alert with the style of its state. Nothing is remembered here.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from qctl.dashboard.state.series import Charts
from qctl.dashboard.state.snapshot import QueueRow, Snapshot, WorkerRow
from qctl.output.text import age

#: messages below which a queue that grows is not reported
FEW = 20
#: a kind of failure is reported while it is so new, or comes this much more often than in the hour before,
#: if it came so often lately
NEW_S, WORSE, LATELY_S, LEAST_LATELY = 900.0, 5.0, 120, 5
#: it is over after so many seconds without one, if so many were to be expected in them
CALM_S, EXPECTED = 6.0, 3.0
#: it is new if it did not occur for so long after the dashboard was opened; else this share of tasks counts
LEAST_CALM_S, MANY = 60.0, 0.2


class Alert(NamedTuple):
    """One alert; word: the state whose style it has; key: the row of the overview that it is about."""

    text: str
    word: str
    key: str
    kind: str = ""  # failing, silent, nobody, never, paused, offline
    amount: float = 0.0  # how much: failures, messages
    since: float | None = None  # epoch seconds; None: unknown


def figure(value: int | None) -> str:
    """A count with separators; `-` when it is unknown."""
    return "-" if value is None else f"{value:,}"


def alerts(picture: Snapshot, charts: Charts | None) -> list[Alert]:
    """All alerts of this moment."""
    if picture.trouble or not picture.asked:
        return []
    found = list(_failing(picture, charts)) if charts is not None else []
    if not picture.is_settling:
        if not picture.up:
            found.insert(0, Alert("no worker is online", "failed", "", "offline"))
        found += [_worker(worker, picture.at) for worker in picture.workers if worker.state == "silent"]
        found += [a for a in (_queue(q, picture.at, charts) for q in picture.queues) if a is not None]
    return sorted(found, key=lambda alert: alert.word != "failed")


def outlook(row: QueueRow) -> tuple[str, str]:
    """When a queue will be empty, in one word, and the state whose style the word has."""
    if row.paused:
        return "paused", "paused"
    if row.consumers == 0:
        return ("nobody" if row.ready else "-"), ("failed" if row.ready else "")
    if not row.ready:
        return "-", ""
    if row.out_per_s is None or row.in_per_s is None:
        return "-", ""
    net = row.out_per_s - row.in_per_s
    if net > 0.02 * row.out_per_s and net > 0:
        return age(row.ready / net), ""
    if row.ready < max(FEW, 2 * row.out_per_s):
        return "-", ""
    return ("never", "failed") if net < -0.02 * row.out_per_s or not row.out_per_s else ("level", "paused")


def _falls(row: QueueRow, at: float, charts: Charts | None) -> bool:
    """Whether the messages of a queue get fewer, as its last seconds show before its rates do."""
    series = None if charts is None else charts.queues.get(row.name)
    if series is None:
        return False
    known = [v for v in series.columns(at, 2, 4) if v is not None]
    return len(known) >= 3 and all(a > b for a, b in pairwise(known))


def _queue(row: QueueRow, at: float, charts: Charts | None) -> Alert | None:
    word, style = outlook(row)
    oldest = "" if row.oldest_s is None else f", oldest {age(row.oldest_s)}"
    key = f"queue {row.name}"
    if word == "nobody":
        text = f"{row.name} {figure(row.ready)} waiting, nobody takes them{oldest}"
        return Alert(text, style, key, word, row.ready)
    is_growing = word == "never" and not _falls(row, at, charts)
    if is_growing and row.in_per_s is not None and row.out_per_s is not None:
        grows = row.in_per_s - row.out_per_s
        text = f"{row.name} {figure(row.ready)} ready{oldest}, +{grows:.1f}/s, never empty"
        return Alert(text, style, key, word, row.ready)
    if word == "paused" and row.ready:
        text = f"{row.name} paused, {figure(row.ready)} waiting{oldest}"
        return Alert(text, "paused", key, word, row.ready)
    return None


def _worker(row: WorkerRow, at: float) -> Alert:
    held = (row.running or 0) + (row.held or 0)
    since = "" if row.age_s is None else f" for {age(row.age_s)}"
    work = f", holds ~{held}" if held else ""
    began = None if row.age_s is None else at - row.age_s
    return Alert(f"{row.node} silent{since}{work}", "failed", f"worker {row.node}", "silent", held, began)


def _failing(picture: Snapshot, charts: Charts) -> list[Alert]:
    """Failures that are new, or that come more often than before."""
    found = []
    for row in picture.failures[:50]:
        group = charts.group(row.name, row.exc_type)
        if group is None:
            continue
        lately = group.per_s.columns(picture.at - 15, LATELY_S, 1)[0]
        if lately is None or lately * LATELY_S < LEAST_LATELY:
            continue
        # So many failures would have come meanwhile, and none has: it is over.
        calm_s = picture.at - row.last_at
        if calm_s >= CALM_S and lately * calm_s >= EXPECTED:
            continue
        age_s = picture.at - row.first_at
        is_new = age_s <= NEW_S
        if is_new and row.first_at - (charts.began or picture.at) < LEAST_CALM_S:
            one = charts.types.get(row.name)
            done = None if one is None else one.done.columns(picture.at - 15, LATELY_S, 1)[0]
            if not done or lately < done * MANY:
                continue
        elif not is_new:
            hour = [v for v in group.per_s.columns(picture.at - LATELY_S, 300, 12) if v is not None]
            if not hour or lately < WORSE * sum(hour) / len(hour):
                continue
        where = ""
        if len(group.workers) == 1 and len(picture.workers) > 1:
            where = f", only {next(iter(group.workers))}"
        kind = row.exc_type.rpartition(".")[2]
        total = f"{'' if row.exact else '~'}{row.count:,}"
        text = f"{row.name} {kind} {total} in {age(age_s)}{where}"
        if not is_new:
            text = f"{row.name} {kind} ~{lately * LATELY_S:.0f} in {LATELY_S // 60} min{where}"
        key, since = f"failure {row.name} {row.exc_type}", row.first_at if is_new else None
        found.append(Alert(text, "failed", key, "failing", lately * LATELY_S, since))
    return found
