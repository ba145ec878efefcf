"""Figures of several rounds as one table: medians, spreads, and how many times faster."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

Round = dict[str, dict[str, float]]  # by contestant, by figure


class Figure(NamedTuple):
    """One line of the table. A figure where less is better is a time."""

    name: str
    words: str
    less_is_better: bool = False
    digits: int = 0


FIGURES = (
    Figure("publish", "publish, one call at a time (tasks/s)"),
    Figure("bulk", "publish, 1,000 a call (tasks/s)"),
    Figure("drain", "drain, results stored (tasks/s)"),
    Figure("p50", "round trip, median (ms)", True, 2),
    Figure("p99", "round trip, 99th percentile (ms)", True, 2),
    Figure("status", "`status`, 3 workers (s)", True, 2),
    Figure("ping", "`inspect ping`, 3 workers (s)", True, 2),
)


def table(rounds: Sequence[Round]) -> str:
    """A Markdown table whose columns line up. The ratio is the median of the rounds' own ratios."""
    rows = [("figure", "qcore", "Celery", "times faster (min - max)")]
    for figure in FIGURES:
        ours = [r["qcore"][figure.name] for r in rounds if figure.name in r["qcore"]]
        theirs = [r["celery"][figure.name] for r in rounds if figure.name in r["celery"]]
        if not ours or len(ours) != len(theirs):
            continue
        ratios = [t / o if figure.less_is_better else o / t for o, t in zip(ours, theirs, strict=True)]
        spread = f"{statistics.median(ratios):.1f}x ({min(ratios):.1f} - {max(ratios):.1f})"
        rows.append((figure.words, _spread(ours, figure), _spread(theirs, figure), spread))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def _spread(values: list[float], figure: Figure) -> str:
    def shown(value: float) -> str:
        return f"{value:,.{figure.digits}f}"

    if len(values) == 1:
        return shown(values[0])
    return f"{shown(statistics.median(values))} ({shown(min(values))} - {shown(max(values))})"
