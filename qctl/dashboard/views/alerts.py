"""What needs a person, one short sentence each; the worst first.

In:  a Snapshot and its history.  Out: an alert with the style of its state. Nothing is remembered here.
"""

from __future__ import annotations

from typing import NamedTuple

from qctl.dashboard.state.series import Charts
from qctl.dashboard.state.snapshot import QueueRow, Snapshot, WorkerRow
from qctl.output.text import age

#: messages below which a queue that grows is not reported
FEW = 20
#: a kind of failure is reported while it is so new, or comes this much more often than in the hour before,
#: if it came so often lately
NEW_S, WORSE, LATELY_S, LEAST_LATELY = 900.0, 5.0, 120, 5
#: it is new if it did not occur for so long after the dashboard was opened; else this share of tasks counts
LEAST_CALM_S, MANY = 60.0, 0.2


class Alert(NamedTuple):
    """One alert; word: the state whose style it has; key: the row of the overview that it is about."""

    text: str
    word: str
    key: str


def figure(value: int | None) -> str:
    """A count with separators; `-` when it is unknown."""
    return "-" if value is None else f"{value:,}"


def alerts(picture: Snapshot, charts: Charts | None) -> list[Alert]:
    """All alerts of this moment."""
    if picture.trouble or not picture.asked:
        return []
    nobody = () if picture.up else (Alert("no worker is online", "failed", ""),)
    found = [
        *nobody,
        *(_failing(picture, charts) if charts is not None else ()),
        *(_worker(worker) for worker in picture.workers if worker.state == "silent"),
        *(a for a in (_queue(queue) for queue in picture.queues) if a is not None),
    ]
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


def _queue(row: QueueRow) -> Alert | None:
    word, style = outlook(row)
    oldest = "" if row.oldest_s is None else f", oldest {age(row.oldest_s)}"
    key = f"queue {row.name}"
    if word == "nobody":
        return Alert(f"{row.name} {figure(row.ready)} waiting, nobody takes them{oldest}", style, key)
    if word == "never" and row.in_per_s is not None and row.out_per_s is not None:
        grows = row.in_per_s - row.out_per_s
        return Alert(f"{row.name} {figure(row.ready)} ready{oldest}, +{grows:.1f}/s, never empty", style, key)
    if word == "paused" and row.ready:
        return Alert(f"{row.name} paused, {figure(row.ready)} waiting{oldest}", "paused", key)
    return None


def _worker(row: WorkerRow) -> Alert:
    held = (row.running or 0) + (row.held or 0)
    since = "" if row.age_s is None else f" for {age(row.age_s)}"
    work = f", holds ~{held}" if held else ""
    return Alert(f"{row.node} silent{since}{work}", "failed", f"worker {row.node}")


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
        found.append(Alert(text, "failed", f"failure {row.name} {row.exc_type}"))
    return found
