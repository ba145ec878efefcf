"""`qctl events summary FILE|DIR`: what happened in a recording.

In:  the slots of a recording, from its indexes or counted from its events.  Out: one page, or one document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.session import current
from qctl.output.text import count, shown, stamp

if TYPE_CHECKING:
    from qcore.events.history.slots import Slot

OUTCOMES = {"task-succeeded": "succeeded", "task-failed": "failed", "task-retried": "retried",
            "task-revoked": "revoked", "task-rejected": "rejected"}  # fmt: skip


@page(
    "summary",
    examples=[
        ("qctl events summary today.ndjson.gz", "the period, outcomes, the worst minute, failures, gaps"),
        ("qctl events summary DIR -o json", "of the segments of a recorder, as JSON"),
    ],
    exit_codes={
        exit_codes.OK: "the summary was printed",
        exit_codes.NOT_FOUND: "no such recording",
        exit_codes.BAD_CONFIG: "the recording is damaged",
    },
    see_also=["events", "events record"],
)
@click.argument("path", metavar="FILE|DIR")
@click.option("--top", type=click.IntRange(1, 1000), default=10, help="Rows of each list. [default: 10]")
def command(path: str, top: int) -> int:
    """Summary of a recording: outcomes, worst minute, failures, slow tasks, gaps.

    A gap is a time of at least 15 s in which nobody recorded; in a single file, in which no event arrived.
    """
    from qcore.events.history.reading import slots

    session = current()
    found = summary(slots(path), top)
    if found is None:
        raise exit_codes.CommandError(
            exit_codes.USAGE, f"there is no event in '{path}'", "`qctl events record DIR` makes a recording"
        )
    if session.out.for_people:
        for line in _lines(path, found):
            session.out.line(line)
    else:
        session.out.document("events.summary", {"recording": path, **found}, "recording")
    return exit_codes.OK


def summary(slots: Iterable[Slot], top: int) -> dict[str, Any] | None:
    """The fields of the document; None: nothing was recorded."""
    from qcore.base.histogram import middle_of
    from qcore.events.history.slots import GAP, SLOT_S

    first = last = None
    kinds, workers, failures, run = Counter[str](), Counter[str](), Counter[tuple[str, str]](), Counter[int]()
    types: dict[str, list[float]] = {}
    minutes: dict[int, list[int]] = {}
    gaps: list[dict[str, Any]] = []
    missed = 0
    for slot in slots:
        if last is not None and slot.at > last + SLOT_S:
            gaps.append(
                {"since": stamp(last + SLOT_S), "until": stamp(slot.at), "s": slot.at - last - SLOT_S}
            )
        first, last = slot.at if first is None else first, slot.at
        kinds.update(slot.kinds)
        workers.update(dict.fromkeys(slot.workers, 1))
        run.update(slot.run)
        missed += slot.missed
        minute = minutes.setdefault(slot.at // 60 * 60, [0, 0])
        minute[0] += slot.failed
        minute[1] += slot.ended
        for name, exception, number in slot.failures:
            failures[name, exception] += number
        for name, one in slot.types.items():
            sums = types.setdefault(name, [0, 0, 0.0, 0.0])
            sums[0] += one.ended
            sums[1] += one.failed
            sums[2] += one.busy_s
            sums[3] = max(sums[3], one.longest_s)
    if first is None or last is None or not kinds:
        return None
    worst = max(minutes, key=lambda at: (minutes[at][0], minutes[at][1]))
    slow = sorted(types.items(), key=lambda item: -item[1][2] / max(item[1][0], 1))[:top]
    return {
        "begin": stamp(first),
        "end": stamp(last + SLOT_S),
        "recorded_s": last + SLOT_S - first - sum(gap["s"] for gap in gaps),
        "events": sum(kinds.values()),
        "by_type": dict(kinds.most_common()),
        "outcomes": {word: kinds.get(kind, 0) for kind, word in OUTCOMES.items()},
        "worst_minute": {"at": stamp(worst), "failed": minutes[worst][0], "ended": minutes[worst][1]},
        "run_s": {name: _percentile(run, share, middle_of) for name, share in PERCENTILES.items()},
        "failures": [
            {"name": name, "exception": exception, "count": number}
            for (name, exception), number in failures.most_common(top)
        ],
        "slowest": [
            {
                "name": name or None,
                "ended": int(ended),
                "failed": int(failed),
                "mean_s": round(busy_s / ended, 3) if ended else None,
                "longest_s": round(longest_s, 3),
            }
            for name, (ended, failed, busy_s, longest_s) in slow
        ],
        "workers": sorted(workers),
        "events_lost": missed,
        "gaps": gaps,
        "outages": kinds.get(GAP, 0),
    }


PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def _percentile(run: Counter[int], share: float, middle_of: Any) -> float | None:
    total, passed = sum(run.values()), 0
    for number in sorted(run):
        passed += run[number]
        if passed >= total * share:
            return round(float(middle_of(number)), 4)
    return None


def _lines(path: str, found: dict[str, Any]) -> Iterable[str]:
    """The page for people."""
    yield f"{shown(path)}: {found['begin']} to {found['end']}, {_span(found['recorded_s'])} recorded"
    yield ""
    yield f"Events    {found['events']:,}"
    for kind, number in found["by_type"].items():
        yield f"  {shown(kind):<20} {number:>12,}"
    yield "Outcomes  " + ", ".join(
        f"{number:,} {word}" for word, number in found["outcomes"].items() if number
    )
    if found["run_s"]["p50"] is not None:
        yield "Run time  " + ", ".join(f"{name} {value:.3g} s" for name, value in found["run_s"].items())
    worst = found["worst_minute"]
    yield f"Worst minute  {worst['at']}: {worst['failed']:,} of {worst['ended']:,} failed"
    yield "Failures" if found["failures"] else "Failures  none"
    for one in found["failures"]:
        yield f"  {one['count']:>8,}  {shown(one['name'] or '?')}  {shown(one['exception'])}"
    yield "Slowest task types (mean, longest)"
    for one in found["slowest"]:
        mean = "-" if one["mean_s"] is None else f"{one['mean_s']:.3f} s"
        name = shown(one["name"] or "(others)")
        yield f"  {mean:>12} {one['longest_s']:>10.3f} s  {name}  {one['ended']:,} ended"
    yield f"Workers   {count(len(found['workers']), 'worker')}: " + ", ".join(
        map(shown, found["workers"][:10])
    )
    lost, outages = found["events_lost"], found["outages"]
    if lost or outages:
        yield f"Lost      {count(lost, 'event')}; the broker was unreachable {count(outages, 'time')}"
    yield f"Gaps      {len(found['gaps']) or 'none'} (times when nothing was recorded)"
    for gap in found["gaps"]:
        yield f"  {gap['since']} to {gap['until']}  {_span(gap['s'])}"


def _span(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
