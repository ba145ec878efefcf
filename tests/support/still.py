"""A fleet that stands still: the same picture at every look, for pictures of the dashboard's screens."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import msgspec

from qcore import App
from qcore.wire.failure import FailedTask
from qcore.wire.schedule import HistoryRecord
from qctl.dashboard.sources.base import Source
from qctl.dashboard.state.event_log import EventLog
from qctl.dashboard.state.schedules import ScheduleBoard, ScheduleRow
from qctl.dashboard.state.search import Wanted
from qctl.dashboard.state.series import Charts
from qctl.dashboard.state.snapshot import FailureRow, QueueRow, Snapshot, WorkerRow
from qctl.output.text import stamp

START = 1_700_000_000.0
NOW = START + 600.0

STATS = {"uptime": 93_600, "rusage": {"maxrss": 62_000}, "task_events": True}
WORKERS = (
    WorkerRow(
        "mail1@ams",
        "online",
        3,
        4,
        18_204,
        4,
        0.71,
        0.0,
        ("mails", "default"),
        "qcore 0.1.0",
        4021,
        stats=STATS,
        per_s=31.4,
        failed=7,
    ),
    WorkerRow(
        "mail2@ams",
        "online",
        4,
        4,
        17_990,
        4,
        1.02,
        0.0,
        ("mails", "default"),
        "qcore 0.1.0",
        4022,
        stats={**STATS, "state": "draining"},
        per_s=29.9,
    ),
    WorkerRow(
        "pay1@fra",
        "online",
        1,
        2,
        402,
        0,
        0.11,
        0.0,
        ("payments",),
        "celery 5.7.0",
        311,
        missed=12,
        stats={"uptime": 420, "rusage": {"maxrss": 58_072}},
        per_s=0.2,
        failed=312,
        skew_s=-61.3,
    ),
    WorkerRow(
        "pay2@fra", "silent", 2, 2, 398, 0, 0.40, 47.0, ("payments",), "celery 5.7.0", 312, exact=False
    ),
    WorkerRow("old@ber", "gone", None, None, 12, None, None, 190.0, (), "celery 5.6.2", exact=False),
)
TRACE = """Traceback (most recent call last):
  File "/srv/shop/payments.py", line 88, in charge
    card = gateway.charge(order, amount)
  File "/srv/shop/gateway.py", line 41, in charge
    raise Timeout(f"no answer in {limit} s")
shop.gateway.Timeout: no answer in 30 s"""


def failure(number: int, name: str, exc_type: str, message: str, queue: str) -> FailedTask:
    return FailedTask(
        task_id=f"{number:08x}-0000-4000-8000-000000000000",
        name=name,
        queue=queue,
        exc_type=exc_type,
        exc_message=message,
        traceback=TRACE,
        args="(4711,)",
        kwargs="{'amount': 1999, 'currency': 'EUR'}",
        worker="pay1@fra",
        tries=3,
        failed_at=NOW - 40,
    )


FAILURES = (
    FailureRow(
        "shop.charge",
        "Timeout",
        "payments",
        312,
        NOW - 580,
        NOW - 2,
        failure(1, "shop.charge", "Timeout", "no answer in 30 s", "payments"),
    ),
    FailureRow(
        "shop.send_mail",
        "SMTPServerDisconnected",
        "mails",
        7,
        NOW - 300,
        NOW - 61,
        failure(2, "shop.send_mail", "SMTPServerDisconnected", "please run connect() first", "mails"),
    ),
    FailureRow(
        "shop.résumé",
        "KeyError",
        "default",
        1,
        NOW - 30,
        NOW - 30,
        failure(3, "shop.résumé", "KeyError", "'日本語'", "default"),
    ),
)
QUEUES = (
    QueueRow("payments", 1_204, 0, 3, 9.0, 2.0, 1, False, 512.0, True),
    QueueRow("mails", 88, 12, 8, 55.0, 61.0, 2, False, 1.4),
    QueueRow("default", 0, 3, 0, 314.0, 314.0, 2, False),
    QueueRow("reports", 40, 0, 0, 0.0, 0.0, 0, True, 3_700.0),
    QueueRow("eu-west-1.customer-exports.low-priority", 5, 0, 0, 0.0, 0.0, 0, False, 61.0),
)
_POLICY = "maxmemory-policy is allkeys-lru: when memory runs short the server deletes queues and results"
_ARRIVED = "task-received 402,113 · task-started 402,080 · task-succeeded 389,002 · worker-heartbeat 177,640"
_LOAD = "61 clients, 13 of them wait in a command · 2,931 commands/s · 1.4 MiB/s in, 2.2 MiB/s out"
_CAN = "results, delay, priority, fanout, exchanges, receivers_known, members_known, members_replaced, peek"
FACTS = (
    ("address", "redis://redis.internal:6379/0 · results in redis://redis.internal:6379/0"),
    ("eviction", f"error: {_POLICY} → redis-cli CONFIG SET maxmemory-policy noeviction"),
    ("server", "redis 7.2.4 primary · up 12d04h · 1 replica · append-only file"),
    ("answers in", "0.4 ms · p50 0.4 p95 0.9 p99 1.1 ms in 15m00s · slowest 4.1 ms, 4m10s ago"),
    (
        "memory",
        "212 MiB of 1.0 GiB, 21 % · full in 9h02m at this slope · peak 340 MiB · 9,310 keys · 0 evicted",
    ),
    ("load", f"{_LOAD} · 0 connections refused"),
    ("events", f"1,382,556 heard · 12 lost · {_ARRIVED}"),
    (
        "tasks",
        "604,112 remembered in about 151.3 MiB · 0 forgotten · done 602,870 · failed 1,204 · running 38",
    ),
    ("can", f"{_CAN}, revokes, revoked_lookup, multi_host, lease, pauses, moves, once, failures, audits"),
)


def entry(name: str, spec: dict[str, Any], schedule: str, **more: Any) -> ScheduleRow:
    """A schedule entry that last ran 20 s ago."""
    item = {
        "name": name, "task": f"shop.{name.split('-')[0]}", "schedule": schedule, "spec": spec,
        "timezone": "UTC", "status": "on", "problem": None, "next_at": stamp(NOW + 40),
        "last_at": stamp(NOW - 20), "last_sent_at": stamp(NOW - 20), "late_s": 0.1,
        "last_task_id": "5f1c22aa-0000-4000-8000-000000000000", "last_by": "beat@ops:71",
        "runs": 1_204, "missed": 0, "overlapped": 0, "source": "shop", "edited": [],
        "edited_by": None, "queue": None, "args": [], "kwargs": {}, "options": {},
        "missed_policy": "once", "missed_most": 100, "overlap_policy": "run",
        "dst_policy": "auto", "jitter_s": 0.0, "starts_at": None, "ends_at": None,
        "deadline_s": None, "note": None, "revision": 7,
    }  # fmt: skip
    times = {field: more.pop(field) for field in ("result", "upcoming") if field in more}
    return ScheduleRow(name, {**item, **more}, **{"result": "SUCCESS", **times})


def _record(ago: float, outcome: str, count: int = 1) -> HistoryRecord:
    at_us = round((NOW - ago) * 1e6)
    sent = outcome in ("sent", "by hand")
    task_id = f"{round(ago):08x}-0000-4000-8000-000000000000" if sent else ""
    return HistoryRecord(at_us, outcome, at_us + 100_000, task_id, "beat@ops:71", count)


ENTRIES = (
    entry(
        "cleanup",
        {"kind": "crontab", "minute": "*/15"},
        "every 15 minutes",
        status="paused",
        next_at=None,
        upcoming=(NOW + 200, NOW + 1_100, NOW + 2_000, NOW + 2_900),
        edited=["enabled"],
        edited_by="ana@ops",
    ),
    entry(
        "invoices",
        {"kind": "crontab", "minute": "0"},
        "every hour",
        next_at=stamp(NOW + 2_000),
        last_at=stamp(NOW - 1_600),
        late_s=41.0,
        result="FAILURE",
        upcoming=(NOW + 2_000,),
    ),
    entry(
        "nightly-report",
        {"kind": "crontab", "minute": "10", "hour": "22"},
        "at 22:10 every day (Europe/Berlin)",
        timezone="Europe/Berlin",
        next_at=stamp(NOW + 86_300),
        last_at=stamp(NOW - 86_500),
        missed=3,
        runs=211,
        queue="reports",
        args=["résumé", 7],
        kwargs={"password": "hunter2"},
        result=None,
    ),
    entry(
        "poll-bank",
        {"kind": "interval", "every_s": 60.0},
        "every minute",
        overlapped=12,
        overlap_policy="skip",
        source=None,
        result="STARTED",
        upcoming=tuple(NOW + 40 + 60 * number for number in range(60)),
    ),
    entry(
        "tides",
        {"kind": "code", "text": "Tides('Cuxhaven')"},
        "Tides('Cuxhaven')",
        status="code",
        next_at=None,
        last_at=None,
        last_sent_at=None,
        late_s=None,
        last_task_id=None,
        runs=0,
        result=None,
    ),
    ScheduleRow("torn", problem="schedule entry 'torn': it is no JSON object"),
)
SCHEDULES = ScheduleBoard(
    True,
    rows=ENTRIES,
    total=len(ENTRIES),
    missed=1,
    paused=1,
    broken=1,
    schedulers=("beat@ops:71", "beat@web:9"),
    history={
        one.name: (
            _record(20, "sent"),
            _record(80, "overlapped"),
            _record(140, "missed", 3),
            _record(400, "by hand"),
            *(_record(460 + 60 * number, "missed" if number == 7 else "sent") for number in range(16)),
        )
        for one in ENTRIES[:4]
    },
)
NAMES = ("shop.charge", "shop.send_mail", "shop.render_invoice", "shop.sync_stock", "shop.résumé")


def events() -> list[dict[str, Any]]:
    """The lives of forty tasks: most done, some of each other state."""
    made: list[dict[str, Any]] = []
    for number in range(40):
        uuid, at = f"{number * 0x1F3D5B79 % 2**32:08x}-0000-4000-8000-{number:012d}", START + 10 * number
        name, worker = NAMES[number % 5], WORKERS[number % 4].node
        about = {"uuid": uuid, "hostname": worker}
        queue = ("payments", "mails", "default")[number % 3]
        made.append({"type": "task-sent", "timestamp": at, "name": name, "queue": queue, **about})
        if number == 39:
            continue
        args, kwargs = (
            f"({4711 + number},)",
            "{'amount': 1999, 'note': 'plain \\x1b[31m red'}" if number == 3 else "{}",
        )
        made.append(
            {
                "type": "task-received",
                "timestamp": at + 0.02,
                "name": name,
                "args": args,
                "kwargs": kwargs,
                **about,
            }
        )
        if number == 38:
            continue
        made.append({"type": "task-started", "timestamp": at + 0.05, **about})
        if number % 9 == 4:
            made.append(
                {
                    "type": "task-failed",
                    "timestamp": at + 30.1,
                    "exception": "Timeout('no answer in 30 s')",
                    "traceback": TRACE,
                    **about,
                }
            )
        elif number == 35:
            made.append(
                {
                    "type": "task-retried",
                    "timestamp": at + 1,
                    "exception": "OSError(111)",
                    "retries": 1,
                    **about,
                }
            )
        elif number == 34:
            made.append({"type": "task-revoked", "timestamp": at + 1, "terminated": True, **about})
        elif number < 37:
            made.append(
                {"type": "task-succeeded", "timestamp": at + 0.3, "runtime": 0.25, "result": "'ok'", **about}
            )
    return made


@cache
def history() -> Charts:
    """Twenty minutes, more than the shortest range: a deploy at 22:13, after which charges time out, payments
    pile up, and one of two workers falls silent."""
    charts, deploy = Charts(), NOW - 620
    for second in range(-1_200, 0):
        at, after = NOW + second, NOW + second - deploy
        wave = math.sin(second / 40)
        bad = min(max(after - 30, 0.0) / 120, 1.0)  # how much is broken, from 0 to 1
        for name, worker, run_s, wait_s, count in (
            ("shop.sync_stock", "mail1@ams", 0.0012, None, 200 + int(60 * wave)),
            ("shop.sync_stock", "mail2@ams", 0.0024, None, 90),
            ("shop.send_mail", "mail1@ams", 0.004 + 0.002 * (second % 5), 0.02, 40 + second % 9),
            ("shop.send_mail", "mail2@ams", 0.012, 0.03, 20),
            ("shop.render_invoice", "mail2@ams", 0.6 + 0.3 * (second % 4), 0.02, 12),
            ("shop.charge", "pay1@fra", 1.1 + 0.4 * (second % 3), 0.4 + 150 * bad, 5 - round(2 * bad)),
        ):
            charts.ended(at, name, worker, run_s, wait_s, count=count)
        if bad and second % 2:
            task_id = f"{-second:08x}-0000-4000-8000-000000000000"
            charts.ended(at, "shop.charge", "pay1@fra", 15.0, 150.0, "Timeout", task_id=task_id)
        if second > -300 and second % 43 == 0:
            charts.ended(
                at, "shop.send_mail", f"mail{1 + second % 2}@ams", 2.0, 0.1, "SMTPServerDisconnected"
            )
        charts.sample(at)
        if second == -30:
            charts.ended(at, "shop.résumé", "mail1@ams", 0.04, 0.1, "KeyError")
        if second % 2 == 0:
            charts.look(_moment(at, after, wave))
    charts.sample(NOW)
    return charts


def _moment(at: float, after: float, wave: float) -> Snapshot:
    """The queues and workers at a moment, so long after the deploy."""
    payments, mails, default, reports, exports = QUEUES
    grown = int(min(max(after / 600, 0.02), 1.0) * 1_204)
    replace = msgspec.structs.replace
    queues = (
        replace(payments, ready=grown, in_per_s=9.0),
        replace(mails, ready=int(88 + 60 * max(wave, 0)), in_per_s=60.0 + 10 * wave),
        replace(default, in_per_s=300.0 + 60 * wave),
        replace(reports, paused=after > 380, ready=40 if after > 380 else 0),
        *([replace(exports)] if after > 300 else []),
    )
    mail1, mail2, pay1, pay2, _ = WORKERS
    up = {"uptime": after if after > 0 else 90_000 + after}
    silent = after > 620 - 47
    workers = (
        replace(mail1, running=2 + round(1.4 * wave)),
        replace(mail2, running=3 + round(0.9 * wave), stats=STATS if after < 500 else mail2.stats),
        replace(pay1, running=2 if after > 0 else 1, stats={**pay1.stats, **up}),
        replace(pay2, running=2 if after > 0 else 1, state="silent" if silent else "online", stats=up),
    )
    numbers = broker_numbers(at - NOW)
    return Snapshot(at=at, asked=True, queues=queues, workers=workers, broker_numbers=numbers)


def broker_numbers(second: float) -> dict[str, float | None]:
    """What the broker's own charts show, so many seconds from now: its memory grows."""
    wave = math.sin(second / 60)
    return {
        "answers": 4.1 if second == -250 else 0.4 + 0.5 * (int(second) % 22 == 8) + 0.1 * wave,
        "commands": 2_931.0 + 240 * wave,
        "memory": 212 + second / 40,
        "clients": 61.0 - 2 * (second < -620),
    }


class Still(Source):
    """A source of facts that never change."""

    def __init__(self, **changes: Any) -> None:
        self.app = App("still", broker="memory://", set_as_current=False)
        self.memory = EventLog(10_000)
        self.memory.fold(events(), NOW)
        self.memory.charts = history().frozen()
        self.changes = changes

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def take(self, wanted: Wanted | None = None) -> Snapshot:
        memory = self.memory
        if wanted is not None and not wanted.is_plain:
            memory.finder.find(wanted)
        tasks, _ = memory.tasks(wanted or Wanted())
        picture = Snapshot(
            at=NOW,
            as_of=NOW - 1,
            broker="redis://:***@redis.internal:6379/0",
            connected=True,
            workers=WORKERS,
            tasks=tasks,
            remembered=len(memory.state.table),
            counts=memory.counts,
            events=memory.state.events,
            events_per_s=1_234.0,
            done_per_s=321.0,
            lag_s=0.1,
            missed=12,
            asked=True,
            queues=QUEUES,
            failures=FAILURES,
            log=memory.log(),
            round_trip_s=0.0004,
            broker_facts=FACTS,
            broker_numbers=broker_numbers(0.0),
            charts=memory.charts,
            schedules=SCHEDULES,
        )
        return msgspec.structs.replace(picture, **self.changes)

    def ask_soon(self) -> None:
        """Nobody is asked."""
