"""The report: the table of goals, every contestant figure by figure, CPU, settings, versions."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from datetime import date

from benchmarks import machine
from benchmarks.arena import Arena
from benchmarks.goals import VALUES
from benchmarks.lineup import Side
from benchmarks.sizes import Sizes
from benchmarks.table import Round, cpu, everybody, of, summary


def report(
    rounds: Sequence[Round],
    arena: Arena,
    sides: Sequence[Side],
    sizes: Sizes,
    options: argparse.Namespace,
    load: float,
    remarks: Sequence[str],
) -> str:
    """Markdown, without the title. load: the load average before the first round."""
    parts = [facts(arena, sides, sizes, options, load, remarks), summary(rounds)]
    parts.append("A ratio is ours divided by theirs, the median of the rounds' own ratios.")
    for value in VALUES:
        if sum(bool(of(rounds, side.name, value.key)) for side in sides) > 2:
            parts += [f"## {value.words[0].upper()}{value.words[1:]}", everybody(rounds, value)]
    if (options.cpu or options.write) and (burnt := cpu(rounds)):
        parts += ["## CPU, microseconds a task", burnt]
    if options.write:
        described = [(side, arena.describe(side)) for side in sides]
        parts += ["## Settings", "\n".join(f"- {s.name}: {d['settings']}." for s, d in described)]
        parts += ["## Versions", "\n".join(f"- {s.name}: {_versions(d)}." for s, d in described)]
    return "\n\n".join(parts)


def facts(
    arena: Arena,
    sides: Sequence[Side],
    sizes: Sizes,
    options: argparse.Namespace,
    load: float,
    remarks: Sequence[str],
) -> str:
    """What it was measured with, as a list."""
    with arena.redis.client() as client:
        info = client.info("server")
    kind = "Valkey" if "valkey_version" in info else "Redis"
    number = info.get("valkey_version") or info["redis_version"]
    counts = {arena.tasks(side, sizes.tasks) for side in sides}
    tasks = f"{min(counts):,}" if len(counts) == 1 else f"{min(counts):,} to {max(counts):,}"
    trips = f"{sizes.trips:,} round trips, at most {sizes.trips_s:.0f} s of them"
    found = [
        f"{date.today().isoformat()}; {machine.size()}.",
        f"Load average {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end.",
        f"Python {platform.python_version()}; {kind} {number} on loopback, no persistence.",
        f"{options.rounds} round(s), contestants in turn, every second round the other way about.",
        f"{tasks} tasks a figure, as many as the contestant does in one to three seconds; {trips}.",
        "A task that does nothing; two worker processes. Medians, with (min - max) of the rounds.",
        *remarks,
    ]
    if options.note:
        found.append(options.note)
    return "\n".join(f"- {fact}" for fact in found)


def _versions(described: dict[str, dict[str, str]]) -> str:
    return ", ".join(f"{name} {number}" for name, number in described["versions"].items())
