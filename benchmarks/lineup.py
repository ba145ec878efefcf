"""Who takes part: names, files, environments, and what each is: ours, Celery, a peer, a roof."""

from __future__ import annotations

from typing import NamedTuple


class Side(NamedTuple):
    """One contestant."""

    name: str  # as people type it, and as the tables have it
    module: str  # its file in contestants/
    venv: str  # its file in environments/, for pip; empty: the interpreter that runs the benchmark
    role: str = "peer"  # ours, celery, peer, roof
    kind: str = ""  # its variant
    #: the figures it takes part in; empty: all that are open to everybody
    figures: tuple[str, ...] = ()
    #: what its workers run on: `python`; `node`, with npm's packages; `ruby`, with the system's gems
    runtime: str = "python"

    @property
    def is_both(self) -> bool:
        """One of the two that every figure is about."""
        return self.name in (OURS, CELERY)


OURS, CELERY, ROOF = "qcore", "celery-prefork", "raw-wire"
#: what a contestant without results takes part in
NO_RESULTS = ("publish", "bulk", "drain_off", "cold", "idle")

SIDES = (
    Side(OURS, "qcore", "", "ours"),
    Side(CELERY, "celery", "celery", "celery", "prefork"),
    Side(
        "celery-threads",
        "celery",
        "celery",
        "celery",
        "threads",
        ("drain", "drain_off", "roundtrip", "cold", "idle"),
    ),
    Side("dramatiq", "dramatiq", "dramatiq"),
    Side("taskiq", "taskiq", "taskiq"),
    Side("huey", "huey", "huey"),
    Side("saq", "saq", "saq"),
    Side("streaq", "streaq", "streaq"),
    Side("arq", "arq", "arq"),
    Side("rq", "rq", "rq"),
    Side("repid", "repid", "repid", figures=NO_RESULTS),
    Side(
        "bullmq",
        "bullmq",
        "raw",
        figures=("publish", "bulk", "drain", "drain_off", "roundtrip", "cold", "idle"),
        runtime="node",
    ),
    Side("sidekiq", "sidekiq", "raw", figures=NO_RESULTS, runtime="ruby"),
    Side("raw", "raw", "raw", "roof"),
    Side(ROOF, "raw_wire", "raw", "roof"),
    Side("flower", "flower", "flower", "peer", "", ("events",)),
    Side("huey-sqlite", "huey", "huey", "peer", "", ("sqlite",)),
)
