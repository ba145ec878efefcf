"""The columns of the lists, and what an empty list says.

In:  nothing.  Out: Fields, texts.  After this: cells.py and schedules.py fill them, in this order.
"""

from __future__ import annotations

from qctl.dashboard.widgets.fields import Field

#: the heading of the arguments of a task with what came of it
CALL = "ARGUMENTS, RESULT"
#: cells of a history in a row
TREND = 15
WORKER_FIELDS = (
    Field("WORKER", 14, 0, grows=True, middle=True, order="node", most=24),
    Field("STATE", 8, 0, order="state"),
    Field("RUN", 7, 0, right=True, order="running"),
    Field("SLOTS", 8, 9),
    Field("TREND", TREND, 1, grows=True),
    Field("DONE", 8, 0, right=True, order="done"),
    Field("RATE", 6, 6, right=True, order="per_s"),
    Field("~FAILED", 7, 8, right=True, order="failed"),
    Field("HELD", 5, 3, right=True, order="held"),
    Field("LOAD", 5, 4, right=True, order="load"),
    Field("MEMORY", 6, 10, right=True, order="memory"),
    Field("AGE", 6, 2, right=True, order="age_s"),
    Field("UPTIME", 6, 11, right=True, order="uptime_s"),
    Field("CLOCK", 6, 12, right=True, order="skew_s"),
    Field("LOST", 5, 8, right=True, order="missed"),
    Field("QUEUES", 12, 2, grows=3, order="queues", most=40),
    Field("SOFTWARE", 12, 5, order="software"),
)

TASK_FIELDS = (
    Field("STATE", 10, 0, order="state"),
    Field("NAME", 16, 0, grows=True, order="name", most=22),
    Field("ID", 8, 0, order="id"),
    Field("SINCE", 8, 4),
    Field("WAITED", 6, 6, right=True, wide_from=130),
    Field("WORKER", 12, 2, middle=True, order="worker"),
    Field("TIME", 6, 0, right=True, order="time"),
    Field("TRY", 3, 7, right=True, order="try"),
    Field("QUEUE", 10, 5, order="queue"),
    Field(CALL, 18, 1, grows=True, order="arguments"),
)

QUEUE_FIELDS = (
    Field("QUEUE", 14, 0, grows=True, middle=True, order="name", most=40),
    Field("READY", 7, 0, right=True, order="ready"),
    Field("TREND", 12, 1, grows=4),
    Field("IN FLIGHT", 9, 0, right=True, order="in_flight"),
    Field("DELAYED", 7, 5, right=True, order="delayed"),
    Field("OLDEST", 6, 3, right=True, order="oldest_s"),
    Field("IN/S", 6, 5, right=True, order="in_per_s"),
    Field("OUT/S", 6, 2, right=True, order="out_per_s"),
    Field("EMPTY IN", 8, 0, right=True, order="paused"),
    Field("WORKERS", 7, 4, grows=5, order="consumers"),
)

FAILURE_FIELDS = (
    Field("COUNT", 6, 0, right=True, order="count"),
    Field("TREND", TREND, 1, grows=True),
    Field("TASK", 16, 0, grows=True, order="name", most=32),
    Field("EXCEPTION", 16, 0, grows=True, order="exc_type", most=28),
    Field("LAST", 7, 0, right=True, order="last_at"),
    Field("FIRST", 7, 3, right=True, order="first_at"),
    Field("QUEUE", 10, 3, order="queue"),
    Field("WORKERS", 12, 2, middle=True),
    Field("MESSAGE", 14, 4, grows=True),
)

TYPE_FIELDS = (
    Field("TASK", 16, 0, grows=1, order="name", most=32),
    Field("TREND", TREND, 1, grows=3),
    Field("DONE/S", 7, 0, right=True, order="per_s"),
    Field("FAIL", 5, 0, right=True, order="fail_share"),
    Field("WAIT P95", 8, 3, right=True, order="wait"),
    Field("RUN P50", 7, 2, right=True, order="p50"),
    Field("P95", 6, 0, right=True, order="p95"),
    Field("P99", 6, 4, right=True, order="p99"),
    Field("SLOTS BUSY", 10, 1, right=True, order="busy"),
)

EVENT_FIELDS = (
    Field("TIME", 12, 0),
    Field("TYPE", 16, 0),
    Field("WORKER", 14, 1, middle=True),
    Field("ID", 8, 0),
    Field("TASK", 12, 0, grows=1, most=24),
    Field("WHAT", 14, 2, grows=3),
)

FACT_FIELDS = (Field("FACT", 14, 0), Field("VALUE", 30, 0, grows=True))

SCHEDULE_FIELDS = (
    Field("NAME", 13, 0, grows=True, order="name", most=24),
    Field("SCHEDULE", 18, 0, grows=True, order="schedule", most=40),
    Field("STATUS", 8, 0, order="status", fits=True),
    Field("NEXT IN", 7, 0, right=True, order="next_at"),
    Field("LAST", 7, 1, right=True, order="last_at"),
    Field("LATE", 6, 2, right=True, order="late_s"),
    Field("RUNS", 7, 6, right=True, order="runs"),
    Field("MISSED", 6, 0, right=True, order="missed"),
    Field("OVERLAP", 7, 5, right=True, order="overlapped"),
    Field("RESULT", 10, 3, fits=True),
    Field("TASK", 18, 3, grows=3, order="task"),
)

NO_TYPES = "no task has ended since the dashboard was opened\nworkers send task events when started with -E"
NO_QUEUES = "the broker knows of no queue yet\nsend a task: qctl call NAME"
NO_FAILURES = "no failed task is stored\n(or this broker keeps none; see `qctl failed ls`)"
NO_EVENTS = "no event has arrived\npress e to turn task events on (qctl control enable_events)"
NO_WORKERS = "no worker is online\nstart one: qctl -A proj worker -E"
NO_TASKS = (
    "no task has been seen yet\n"
    "workers send task events when started with -E; press e to turn them on\n"
    "(qctl control enable_events)"
)
NOT_READ = "the schedule has not been read yet"
