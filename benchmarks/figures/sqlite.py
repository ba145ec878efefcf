"""Without a server: qcore on SQLite (late ack, synced to disk) and SqliteHuey (no ack, fsync off).

qcore publishes once more with the durability `relaxed`, which syncs about a second later.
"""

from __future__ import annotations

import tempfile

from benchmarks.arena import Arena
from benchmarks.figures import drain
from benchmarks.lineup import OURS, Side
from benchmarks.sizes import Sizes

SECONDS = 16.0
THREADS = 8


def takes(side: Side) -> bool:
    return side.name == OURS or "sqlite" in side.figures


def measure(arena: Arena, side: Side, sizes: Sizes) -> dict[str, float]:
    """Publishing and draining (tasks/s, results stored), the round trip (ms). Raises Invalid."""
    n = min(arena.tasks(side, sizes.tasks), 5000)
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        urls = [f"sqlite:///{folder}/{name}.sqlite3" for name in ("publish", "work")]
        env = {"BENCH_URL": urls[0], "BENCH_FIGURE": "sqlite"}
        publish = arena.ask(side, "publish", n, **env)
        together = arena.ask(side, "together", n, THREADS, **env)
        more = _ours(arena, side, n, env, folder) if side.name == OURS else {}
        env = {"BENCH_URL": urls[1], "BENCH_FIGURE": "sqlite"}
        with arena.workers(side, **env) as fleet:
            trips = arena.ask(side, "trips", sizes.trips, sizes.trips_s, **env)
            before = int(arena.ask(side, "warm", drain.WARM, "on", **env)["kept"])
            fleet.pause()
            drained = drain.timed(arena, fleet, arena.talk(side, "drain", n, "on", before, **env), n)
    return {
        "sqlite_publish": publish["rate"],
        "sqlite_together": together["rate"],
        "sqlite_drain": drained["rate"],
        "sqlite_p50": trips["p50"],
        **more,
    }


def _ours(arena: Arena, side: Side, n: int, env: dict[str, str], folder: str) -> dict[str, float]:
    """What the other one has not: calls by the thousand, and a durability to choose."""
    tuples = arena.ask(side, "tuples", n, **env)
    relaxed = {**env, "BENCH_URL": f"sqlite:///{folder}/relaxed.sqlite3?durability=relaxed"}
    return {
        "sqlite_tuples": tuples["rate"],
        "sqlite_relaxed": arena.ask(side, "publish", n, **relaxed)["rate"],
    }
