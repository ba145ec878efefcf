"""Charts that begin with the history of a recorder.

In:  the slots of a recording.  Out: the same series that events fill, of the time before a moment. A time in
which nobody recorded stays unknown. Before this: qcore/events/history/.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from qcore.base.histogram import FINE_BUCKETS, middle_of
from qcore.events.history.reading import slots
from qcore.events.history.slots import SLOT_S, Slot
from qctl.dashboard.state.latency import percentile
from qctl.dashboard.state.rings import COARSE, MIDDLE, Series
from qctl.dashboard.state.series import (
    MOST_GROUPS,
    MOST_QUEUES,
    MOST_TYPES,
    SLOW,
    Charts,
    GroupHistory,
    TypeHistory,
)

#: what the longest range shows, seconds
LONGEST_S = COARSE[0] * COARSE[1]
#: what is older is shown by the longest range only, whose steps are those of folds
FINE_S = MIDDLE[0] * MIDDLE[1]
#: alerts compare with the hour before
RECENT_S = 5_400.0
#: durations that are older than the first are added up by the second, which no range shows (seconds)
STEPS = ((21_600.0, 600), (900.0, 120))


def load(charts: Charts, path: str, until: float, since: float = 0.0) -> None:
    """Fill the charts, which are empty, with the history of a folder before `until` (epoch seconds), at most
    what the longest range shows. Of what is before `since` they get the names of task types only. Raises
    OSError, ConfigError."""
    fill(charts, slots(path, until - LONGEST_S, until, max(until - FINE_S, since)), until, since)


def load_before(path: str, until: float, since: float) -> Charts:
    """What load() left out before `since`, for Charts.put_before(). Raises OSError, ConfigError."""
    charts = Charts()
    fill(charts, slots(path, until - LONGEST_S, since, until - FINE_S), until)
    return charts


def recent(until: float) -> float:
    """The moment from which on the shortest range and the alerts need the history before `until`, at the
    begin of a slot of the coarsest step (epoch seconds)."""
    return (until - RECENT_S) // COARSE[0] * COARSE[0]


def fill(charts: Charts, found: Iterable[Slot], until: float, since: float = 0.0) -> None:
    """Fill the charts with slots, the oldest first; those before `since` tell only names of task types."""
    known: dict[int, None] = {}
    run: dict[int, dict[int, int]] = {}
    wait: dict[int, dict[int, int]] = {}
    totals: dict[str, dict[int, float]] = {name: {} for name in ("in", "done", "failed", "wait", "ready")}
    types: dict[str, tuple[dict[int, float], ...]] = {}  # done, failed and busy seconds, per second
    groups: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    queues: dict[str, dict[int, float]] = defaultdict(dict)
    for slot in found:
        if charts.began is None:
            charts.began = float(slot.at)
        if slot.at < since:
            for name in slot.types.keys() - types.keys():
                if len(types) < MOST_TYPES:
                    types[name] = ({}, {}, {})
            continue
        number, seconds = slot.at // SLOT_S, SLOT_S * slot.heard
        known[number] = None
        for name, count in (
            ("in", slot.kinds.get("task-received", 0)),
            ("done", slot.ended),
            ("failed", slot.failed),
        ):
            totals[name][number] = totals[name].get(number, 0.0) + count / seconds
        if slot.wait:
            waits = [0] * FINE_BUCKETS
            for one, count in slot.wait.items():
                waits[one] = count
            totals["wait"][number] = percentile(waits, 0.95) or 0.0
        if slot.ready is not None:
            totals["ready"][number] = sum(slot.ready.values())
            for queue, ready in slot.ready.items():
                queues[queue][number] = ready
        step = next((s for age, s in STEPS if slot.at < until - age), SLOT_S)
        for counts, kept in ((slot.run, run), (slot.wait, wait)):
            sums_of = kept.get(at := slot.at // step * step)
            if sums_of is None:
                sums_of = kept[at] = {}
            for one, count in counts.items():
                sums_of[one] = sums_of.get(one, 0) + count
        for name, counted in slot.types.items():
            if name not in types and len(types) >= MOST_TYPES:
                continue
            rates = types.get(name)
            if rates is None:
                rates = types[name] = ({}, {}, {})
            done, failed, busy = rates
            done[number] = done.get(number, 0.0) + counted.ended / seconds
            busy[number] = busy.get(number, 0.0) + counted.busy_s / seconds
            if counted.failed:
                failed[number] = failed.get(number, 0.0) + counted.failed / seconds
        for name, exception, count in slot.failures:
            if (name, exception) in groups or len(groups) < MOST_GROUPS:
                kinds = groups[name, exception]
                kinds[number] = kinds.get(number, 0.0) + count / seconds
    for at, counts in run.items():
        for one, count in counts.items():
            charts.run.add(at, middle_of(one), count)
            charts.heat.add(at, middle_of(one), count)
    for at, counts in wait.items():
        for one, count in counts.items():
            charts.wait.add(at, middle_of(one), count)
    nothing = dict.fromkeys(known, 0.0)
    for name, values in totals.items():
        charts.series[name].fill(values, SLOT_S)
    for name, rates in types.items():
        if name:
            one_type = charts.types[name] = TypeHistory()
            own = (one_type.done, one_type.failed_per_s, one_type.busy)
            for series, known_rates in zip(own, rates, strict=True):
                series.fill(nothing | known_rates, SLOT_S)
    for key, values in groups.items():
        group = charts.groups[key] = GroupHistory()
        group.per_s.fill(nothing | values, SLOT_S)
    for queue, values in list(queues.items())[:MOST_QUEUES]:
        series = charts.queues[queue] = Series(SLOW)
        series.fill(values, SLOT_S)
