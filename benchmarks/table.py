"""Values of several rounds as tables: medians, spreads, ratios of each round, and what was reached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.goals import CPU, VALUES, Goal, Value
from benchmarks.lineup import CELERY, OURS, ROOF, SIDES

Round = dict[str, dict[str, float]]  # by contestant, by value

NOTHING = "-"
#: whom a goal means by a word; other words are names of contestants
NAMES = {"celery": CELERY, "own": OURS, "roof": ROOF}
HEAD = ("figure", "qcore", "Celery", "ratio", "fastest peer", "ratio", "roof", "ratio", "goal", "met")


class Ratio(NamedTuple):
    """Ours divided by theirs, round by round."""

    middle: float
    least: float
    most: float


def summary(rounds: Sequence[Round]) -> str:
    """One line a value: ours, Celery's, the fastest peer's, the roof's, the ratios, the goals."""
    rows: list[tuple[str, ...]] = [HEAD]
    for value in VALUES:
        if not of(rounds, OURS, value.key):
            continue
        cells = [value.words, spread(of(rounds, OURS, value.key), value)]
        for name in (CELERY, best_peer(rounds, value), ROOF):
            values = of(rounds, name, value.key) if name else []
            shown = spread(values, value)
            cells += [
                f"{name} {shown}" if values and name not in (CELERY, ROOF) else shown,
                _times(ratio(rounds, value.key, name, value.key)),
            ]
        cells += ["; ".join(_goal(goal, value) for goal in value.goals) or NOTHING]
        cells += ["; ".join(verdict(rounds, value, goal) for goal in value.goals) or NOTHING]
        rows.append(tuple(cells))
    return aligned(rows)


def everybody(rounds: Sequence[Round], value: Value) -> str:
    """One line a contestant, the best first."""
    found = {s.name: of(rounds, s.name, value.key) for s in SIDES if of(rounds, s.name, value.key)}
    names = sorted(found, key=lambda n: statistics.median(found[n]), reverse=not value.less_is_better)
    rows = [("contestant", "median (min - max)", "rounds", "qcore / it")]
    for name in names:
        times = _times(ratio(rounds, value.key, name, value.key)) if name != OURS else NOTHING
        rows.append((name, spread(found[name], value), str(len(found[name])), times))
    return aligned(rows)


def cpu(rounds: Sequence[Round]) -> str:
    """CPU microseconds a task, by process; one line a contestant."""
    rows = [("contestant", *(words for _, words in CPU))]
    for side in SIDES:
        cells = [of(rounds, side.name, key) for key, _ in CPU]
        if any(cells):
            rows.append((side.name, *(f"{statistics.median(c):.1f}" if c else NOTHING for c in cells)))
    return aligned(rows) if len(rows) > 1 else ""


def of(rounds: Sequence[Round], name: str, key: str) -> list[float]:
    """The values of a contestant, of the rounds that have one."""
    return [r[name][key] for r in rounds if key in r.get(name, {})]


def ratio(rounds: Sequence[Round], ours: str, name: str, theirs: str) -> Ratio | None:
    """The median of the rounds' own ratios; None when no round has both, or theirs is nothing."""
    found = [
        r[OURS][ours] / r[name][theirs]
        for r in rounds
        if ours in r.get(OURS, {}) and r.get(name, {}).get(theirs)
    ]
    return Ratio(statistics.median(found), min(found), max(found)) if found else None


def best_peer(rounds: Sequence[Round], value: Value) -> str:
    """The peer with the best median; empty when none was measured."""
    found = {
        s.name: statistics.median(of(rounds, s.name, value.key))
        for s in SIDES
        if s.role == "peer" and of(rounds, s.name, value.key)
    }
    if not found:
        return ""
    return (min if value.less_is_better else max)(found, key=lambda name: found[name])


def verdict(rounds: Sequence[Round], value: Value, goal: Goal) -> str:
    """`yes`, `missed: 0.47 of 0.5`, or that the other was not measured."""
    reached = reach(rounds, value, goal)
    if reached is None:
        return "not measured"
    met = reached <= goal.limit if value.less_is_better else reached >= goal.limit
    return "yes" if met else f"missed: {reached:.3g} of {goal.limit:.3g}"


def reach(rounds: Sequence[Round], value: Value, goal: Goal) -> float | None:
    """What stands against the limit: a ratio, or the value itself."""
    kind, _, key = goal.against.partition(":")
    if kind == "absolute":
        return statistics.median(of(rounds, OURS, value.key))
    name = best_peer(rounds, value) if kind == "peer" else NAMES.get(kind, kind)
    found = ratio(rounds, value.key, name, key or value.key)
    return found.middle if found else None


def spread(values: Sequence[float], value: Value) -> str:
    def shown(number: float) -> str:
        return f"{number:,.{value.digits}f}"

    if not values:
        return NOTHING
    if len(values) == 1:
        return shown(values[0])
    return f"{shown(statistics.median(values))} ({shown(min(values))} - {shown(max(values))})"


def _times(found: Ratio | None) -> str:
    if found is None:
        return NOTHING
    middle, least, most = (f"{number:.3g}x" for number in found)
    return middle if least == most else f"{middle} ({least} - {most})"


def _goal(goal: Goal, value: Value) -> str:
    return f"{'at most' if value.less_is_better else 'at least'} {goal.words}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)
