"""What is measured, in words, and what is to be reached: one table.

A ratio is always ours divided by theirs: above 1 is faster for rates, below 1 for times and sizes.
"""

from __future__ import annotations

from typing import NamedTuple


class Goal(NamedTuple):
    """To be reached at least (a rate), or at most (a time or size).

    against: `celery`, `peer` (the fastest), `roof`, or a contestant's name; `absolute`; `own:KEY`, another
    value of ours; or `celery:KEY`, another value of Celery's, and so of every contestant.
    """

    against: str
    limit: float
    words: str


class Value(NamedTuple):
    """One line of the report."""

    key: str
    words: str
    less_is_better: bool = False
    digits: int = 0
    goals: tuple[Goal, ...] = ()


VALUES = (
    Value("publish", "publish, one call at a time (tasks/s)", goals=(Goal("celery", 12, "12x Celery"),)),
    Value("bulk", "publish, 1,000 a call (tasks/s)", goals=(Goal("roof", 0.9, "0.9 of the roof"),)),
    Value(
        "tuples",
        "publish, 1,000 tuples of one task a call (tasks/s)",
        goals=(Goal("own:bulk", 3, "3x signatures"), Goal("sidekiq:bulk", 1, "Sidekiq's push_bulk")),
    ),
    Value(
        "drain",
        "drain, results stored (tasks/s)",
        goals=(
            Goal("celery", 40, "40x Celery"),
            Goal("peer", 2.5, "2.5x the fastest peer"),
            Goal("roof", 0.9, "0.9 of the roof"),
            Goal("bullmq", 3.5, "3.5x BullMQ"),
        ),
    ),
    Value(
        "drain_off",
        "drain, results off (tasks/s)",
        goals=(
            Goal("celery", 22, "22x Celery"),
            Goal("roof", 0.6, "0.6 of the roof"),
            Goal("sidekiq", 3, "3x Sidekiq"),
        ),
    ),
    Value(
        "drain_events",
        "drain, results stored, -E (tasks/s)",
        goals=(Goal("own:drain_events_off", 0.85, "0.85 of events off"),),
    ),
    Value("drain_events_off", "the same without -E, in turn (tasks/s)"),
    Value(
        "p50",
        "round trip, median (ms)",
        True,
        2,
        (Goal("celery", 1 / 4, "1/4 of Celery's"), Goal("roof", 1.1, "1.1x the roof's")),
    ),
    Value(
        "p99",
        "round trip, 99th percentile (ms)",
        True,
        2,
        (Goal("celery", 1 / 3, "1/3 of Celery's"), Goal("roof", 1.1, "1.1x the roof's")),
    ),
    Value("open_most", "calls and runs at once, without a pause (tasks/s)"),
    *(
        Value(f"open_{key}_{which}", f"late at {share} of that, fixed arrivals, {words} (ms)", True, 2)
        for key, share in (("half", "0.5"), ("most_of_it", "0.8"))
        for which, words in (("p50", "median"), ("p99", "99th percentile"))
    ),
    Value("cold", "cold start to the first result (s)", True, 2, (Goal("celery", 0.45, "0.45x Celery's"),)),
    Value("stop", "stop of an idle worker (s)", True, 3, (Goal("absolute", 0.1, "0.1 s"),)),
    Value("pss", "idle worker, memory, PSS (MiB)", True, 1, (Goal("celery", 0.7, "0.7x Celery's"),)),
    Value("idle_cpu", "idle worker, CPU (% of a core)", True, 2, (Goal("absolute", 0.5, "0.5 %"),)),
    Value("recovery", "a killed worker's tasks run again after (s)", True, 2, (Goal("absolute", 3, "3 s"),)),
    Value("late_p50", "1,000 countdowns, late, median (ms)", True, 1),
    Value(
        "late_p99", "1,000 countdowns, late, 99th percentile (ms)", True, 1, (Goal("absolute", 50, "50 ms"),)
    ),
    Value("late_max", "1,000 countdowns, late, most (ms)", True, 1),
    Value("held", "20,000 countdowns held, PSS growth (MiB)", True, 1, (Goal("absolute", 5, "5 MiB"),)),
    Value("group_send", "group of 1,000, sent (ms)", True),
    Value("group", "group of 1,000, all results (ms)", True, 0, (Goal("celery", 0.1, "1/10 of Celery's"),)),
    Value(
        "chord", "chord of 1,000, the body's result (ms)", True, 0, (Goal("celery", 0.1, "1/10 of Celery's"),)
    ),
    Value("chain", "chain of 100, last result (ms)", True, 0, (Goal("celery", 0.25, "1/4 of Celery's"),)),
    Value("sqlite_publish", "SQLite: publish (tasks/s)"),
    Value(
        "sqlite_together",
        "SQLite: publish, 8 threads (tasks/s)",
        goals=(
            Goal("own:sqlite_publish", 3, "3x one thread"),
            Goal("huey-sqlite:sqlite_publish", 0.5, "0.5 of one of SqliteHuey"),
        ),
    ),
    Value(
        "sqlite_tuples",
        "SQLite: publish, 1,000 tuples a call (tasks/s)",
        goals=(Goal("huey-sqlite:sqlite_publish", 3, "3x a call of SqliteHuey"),),
    ),
    Value(
        "sqlite_relaxed",
        "SQLite: publish, relaxed durability (tasks/s)",
        goals=(Goal("huey-sqlite:sqlite_publish", 2, "2x SqliteHuey"),),
    ),
    Value(
        "sqlite_drain",
        "SQLite: drain, results stored (tasks/s)",
        goals=(
            Goal("peer", 4, "4x SqliteHuey"),
            Goal("celery:drain", 1, "Celery on Redis"),
        ),
    ),
    Value("sqlite_p50", "SQLite: round trip, median (ms)", True, 2),
    Value(
        "rabbit_publish", "RabbitMQ: publish, confirmed (tasks/s)", goals=(Goal("celery", 4, "4x Celery"),)
    ),
    Value("rabbit_drain", "RabbitMQ: drain, results off (tasks/s)", goals=(Goal("celery", 5, "5x Celery"),)),
    Value("rabbit_p50", "RabbitMQ: round trip, rpc, median (ms)", True, 2),
    Value("shallow", "first 20,000 tasks of 20,000 (tasks/s)"),
    Value(
        "deep",
        "first 20,000 tasks of 1,000,000 (tasks/s)",
        goals=(Goal("own:shallow", 0.9, "within 10 % of 20,000 queued"),),
    ),
    Value("few", "round trip, 4 bare consumers, median (ms)", True, 3),
    Value(
        "crowd",
        "round trip, 200 bare consumers, median (ms)",
        True,
        3,
        (Goal("own:few", 1.1, "within 10 % of 4 consumers"),),
    ),
    Value("few_redis", "redis-server, 4 bare consumers (us/task)", True, 1),
    Value(
        "crowd_redis",
        "redis-server, 200 bare consumers (us/task)",
        True,
        1,
        (Goal("own:few_redis", 1.1, "within 10 % of 4 consumers"),),
    ),
    *(
        Value(key, f"`{words}`, 3 workers (s)", True, 3, (Goal("celery", 1 / 3, "1/3 of Celery's"),))
        for key, words in (
            ("status", "status"),
            ("ping", "inspect ping"),
            ("active", "inspect active"),
            ("call", "call"),
        )
    ),
    Value("help", "`qctl --help` (s)", True, 3, (Goal("own:import_click", 1.6, "1.6x importing click"),)),
    Value("import_click", "`python -c 'import click'` (s)", True, 3),
    Value(
        "history",
        "history of 1,000,000 tasks, intake (events/s)",
        goals=(Goal("absolute", 10_000, "10,000"),),
    ),
    Value(
        "events",
        "events taken in, fed directly (events/s of CPU)",
        goals=(Goal("celery", 5, "5x Celery's"), Goal("peer", 5, "5x Flower's")),
    ),
    Value(
        "events_redis",
        "events taken in, through Redis (events/s of CPU)",
        goals=(Goal("celery", 5, "5x Celery's"), Goal("peer", 5, "5x Flower's")),
    ),
    Value(
        "event_bytes",
        "memory of a remembered task (bytes)",
        True,
        goals=(Goal("peer", 1 / 6, "1/6 of Flower's"),),
    ),
    Value("history_search", "the same, searched (ms)", True, 0, (Goal("absolute", 300, "300 ms"),)),
)

#: CPU microseconds a task, by process: key, words
CPU = (
    ("cpu_publish", "client, one at a time"),
    ("cpu_bulk", "client, bulk"),
    ("cpu_tuples", "client, bulk of tuples"),
    ("cpu_parent", "worker, first process"),
    ("cpu_children", "worker, its children"),
    ("cpu_redis", "redis-server"),
    ("cpu_off", "worker, results off"),
)
