"""A fleet that stands still and is large: its lists fill a screen of 120 by 40, for the kept pictures.

It is the fleet of still.py, with its incident, and others beside it that work as usual.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import msgspec

from qcore.wire.schedule import HistoryRecord
from qctl.dashboard.state.event_log import EventLog
from qctl.dashboard.state.series import SLOW, Charts, GroupHistory, Series, TypeHistory
from qctl.dashboard.state.snapshot import FailureRow, QueueRow, WorkerRow
from qctl.output.text import stamp
from tests.support import still
from tests.support.still import NOW, START, STATS, entry, failure, history

#: seconds of a slot of the charts, and how many of them there are
STEP_S, SLOTS = 15, 80
SITES = ("ams", "fra", "ber", "lon")
#: queue -> messages that wait, how many arrive in a second
MORE_QUEUES = {
    "billing.invoices": (212, 6.4), "billing.dunning": (3, 0.2), "search-index": (418, 22.0),
    "thumbnails": (61, 12.5), "webhooks": (17, 9.1), "push": (9, 31.0), "stock.reserve": (0, 18.0),
    "imports.csv": (1_904, 1.5), "geo": (0, 3.3), "fraud-check": (12, 4.2), "recommendations": (77, 7.7),
    "audit": (0, 40.0), "nightly": (130, 0.0),
}  # fmt: skip
#: task -> how long one runs (seconds), how many end in a second
MORE_TYPES = {
    "billing.issue_invoice": (0.84, 3.1), "billing.remind": (0.21, 0.2), "billing.book_payment": (0.35, 2.6),
    "search.index_product": (0.09, 11.0), "search.rebuild_facets": (6.2, 0.3), "media.thumbnail": (0.42, 8.4),
    "media.transcode": (41.0, 0.1), "hooks.deliver": (0.31, 6.0), "push.notify": (0.04, 19.0),
    "stock.reserve": (0.02, 14.0), "stock.release": (0.02, 5.2), "imports.read_row": (0.13, 1.5),
    "imports.open_file": (2.4, 0.1), "geo.locate": (0.07, 3.3), "fraud.score_order": (0.66, 4.2),
    "recommend.update": (1.3, 1.9), "recommend.train": (88.0, 0.02), "audit.append": (0.005, 16.0),
    "reports.daily_sales": (14.0, 0.03), "reports.export": (9.1, 0.1), "users.welcome": (0.18, 0.7),
    "users.erase": (3.3, 0.01), "cart.expire": (0.06, 2.2), "prices.convert": (0.03, 9.5),
    "carriers.track_parcel": (0.92, 2.8),
}  # fmt: skip
#: task, exception, its message, queue, how many failed, since when and until when (seconds ago)
MORE_FAILURES = (
    ("hooks.deliver", "ConnectTimeout", "hooks.example.com:443", "webhooks", 58, 560, 4),
    (
        "imports.read_row",
        "ValueError",
        "not a float: '12,90'",
        "imports.csv",
        41,
        300,
        9,
    ),
    ("media.transcode", "CalledProcessError", "exit status 1", "thumbnails", 23, 500, 31),
    ("carriers.track_parcel", "HTTPError", "503 Service Unavailable", "default", 19, 410, 15),
    ("billing.issue_invoice", "IntegrityError", "duplicate key (4711)", "billing.invoices", 12, 220, 88),
    ("geo.locate", "AddressNotFound", "203.0.113.7", "geo", 9, 590, 130),
    ("search.index_product", "ConflictError", "version 7, not 6", "search-index", 6, 180, 45),
    ("fraud.score_order", "TimeLimitExceeded", "30 s", "fraud-check", 4, 90, 71),
    ("recommend.train", "MemoryError", "", "recommendations", 2, 400, 350),
)
#: entry -> schedule, seconds between two runs
MORE_ENTRIES = {
    "backup-orders": ("every 4 minutes", 240), "close-carts": ("every 5 minutes", 300),
    "convert-prices": ("every 10 minutes", 600), "hourly-sales": ("every 15 minutes", 900),
    "dunning": ("every 6 minutes", 360), "erase-users": ("every 12 minutes", 720),
    "expire-coupons": ("every 3 minutes", 180), "heartbeat": ("every 30 seconds", 30),
    "index-delta": ("every 2 minutes", 120), "rotate-keys": ("on day 1 of the month", 2_592_000),
    "sync-carriers": ("every 15 minutes", 900), "train-model": ("at 01:00 every day", 86_400),
    "vacuum": ("at 04:10 on Sunday", 604_800), "warm-cache": ("every 20 minutes", 1_200),
}  # fmt: skip


def _worker(number: int) -> WorkerRow:
    """One of twenty workers that are well, but for one that drains and one that is gone."""
    queues = tuple(MORE_QUEUES)[number % 13 :][:2]
    slots = (4, 8, 16)[number % 3]
    return WorkerRow(
        f"{queues[0].partition('.')[0].partition('-')[0]}{1 + number // 13}@{SITES[number % 4]}",
        "gone" if number == 17 else "online",
        (number * 7) % (slots + 1),
        slots,
        1_300 * number + 417,
        number % 5,
        0.2 + 0.13 * (number % 9),
        0.0 if number != 17 else 410.0,
        queues,
        ("qcore 0.1.0", "celery 5.7.0")[number % 6 == 5],
        5_000 + number,
        stats={**STATS, "uptime": 4_000 * (number + 1), **({"state": "draining"} if number == 9 else {})},
        per_s=0.7 * number + 0.4,
        failed=(number * 3) % 11,
        left=number == 17,
    )


def _queue(number: int, name: str) -> QueueRow:
    ready, per_s = MORE_QUEUES[name]
    oldest_s = 2.5 * ready / per_s if ready and per_s else 2_520.0 if ready else None
    out_per_s = per_s * (1.0, 1.1, 0.98)[number % 3]
    takers = sum(name in worker.queues for worker in WORKERS if worker.state == "online")
    return QueueRow(name, ready, number % 4, (number * 5) % 9, per_s, out_per_s, takers, False, oldest_s)


def _failure(number: int, of: tuple[str, str, str, str, int, float, float]) -> FailureRow:
    name, kind, message, queue, count, first_s, last_s = of
    sample = failure(10 + number, name, kind, message, queue)
    return FailureRow(name, kind, queue, count, NOW - first_s, NOW - last_s, sample)


def _entry(number: int, name: str) -> Any:
    words, every_s = MORE_ENTRIES[name]
    ago = _last_ago(number, every_s)
    soon = NOW + every_s - ago
    return entry(
        name,
        {"kind": "interval", "every_s": float(every_s)},
        words,
        next_at=stamp(soon),
        last_at=stamp(NOW - ago),
        last_sent_at=stamp(NOW - ago),
        runs=97 * (number + 1),
        overlapped=1,
        queue=tuple(MORE_QUEUES)[number % 13],
        args=[f"{SITES[number % 4]}-{1 + number % 3}"],
        kwargs={"tenant": ("shop-eu", "shop-us")[number % 2], "batch": 50 * (1 + number % 5)},
        last_task_id=_sent_id(number, 0),
        upcoming=tuple(at for step in range(120) if (at := soon + step * every_s) < NOW + 3_600),
    )


def _last_ago(number: int, every_s: int) -> int:
    """How long ago an entry was due last, seconds."""
    return (number * 7_919 + 30) % every_s


def _sent_id(number: int, turn: int) -> str:
    return f"{number:02x}{turn:02x}b0c5-3333-4000-8000-{number * 1_000 + turn:012d}"


def _decisions(number: int, every_s: int) -> tuple[HistoryRecord, ...]:
    """What a scheduler decided about the last instants of an entry, the newest first."""
    made = []
    for turn in range(16):
        at_us = round((NOW - _last_ago(number, every_s) - turn * every_s) * 1e6)
        outcome = "overlapped" if turn == 5 else "sent"
        task_id = _sent_id(number, turn) if outcome == "sent" else ""
        late_us = 80_000 + 17_000 * (turn * 5 % 7)
        made.append(
            HistoryRecord(at_us, outcome, at_us + late_us, task_id, ("beat@ops:71", "beat@web:9")[turn > 6])
        )
    return tuple(made)


def scheduled_events() -> list[dict[str, Any]]:
    """The lives of the tasks that the first two entries sent last."""
    made: list[dict[str, Any]] = []
    for number, name in ((0, "shop.backup"), (1, "shop.close")):
        for turn, record in enumerate(_decisions(number, MORE_ENTRIES[tuple(MORE_ENTRIES)[number]][1])[:8]):
            if not record.task_id:
                continue
            about = {"uuid": record.task_id, "hostname": WORKERS[5 + (turn + number) % 4].node}
            at, run_s = record.at_us / 1e6, 1.9 + 0.35 * (turn % 3)
            call = {"name": name, "queue": tuple(MORE_QUEUES)[number], "args": f"('{SITES[number]}-1',)"}
            ended = {"type": "task-succeeded", "runtime": run_s, "result": f"{{'rows': {1_800 + 13 * turn}}}"}
            if turn == 3:
                ended = {"type": "task-failed", "exception": "OSError('no space left on device')"}
            made += [
                {"type": "task-received", "timestamp": at + 0.01, **call, **about},
                {"type": "task-started", "timestamp": at + 0.03, **about},
                {"timestamp": at + 0.03 + run_s, **ended, **about},
            ]
    return made


WORKERS = (*still.WORKERS, *(_worker(number) for number in range(20)))
QUEUES = (*still.QUEUES, *(_queue(*pair) for pair in enumerate(MORE_QUEUES)))
FAILURES = tuple(
    sorted(
        (*still.FAILURES, *(_failure(*pair) for pair in enumerate(MORE_FAILURES))),
        key=lambda row: -row.count,
    )
)
ENTRIES = (*still.ENTRIES, *(_entry(*pair) for pair in enumerate(MORE_ENTRIES)))
SCHEDULES = msgspec.structs.replace(
    still.SCHEDULES,
    rows=tuple(sorted(ENTRIES, key=lambda one: one.name)),
    total=len(ENTRIES),
    history={
        **{name: _decisions(number, MORE_ENTRIES[name][1]) for number, name in enumerate(MORE_ENTRIES)},
        **still.SCHEDULES.history,
    },
)


def earlier_events() -> list[dict[str, Any]]:
    """The lives of tasks that ended earlier, in the queues of the others: one every 2 s, each ninth failed;
    and the charges that failed last."""
    made: list[dict[str, Any]] = []
    for number in range(195):
        name, at = tuple(MORE_TYPES)[number * 7 % 25], START + 2 * number
        about = {"uuid": f"{number * 0x3C6EF372 % 2**32:08x}-2222-4000-8000-{number:012d}"}
        about["hostname"] = WORKERS[5 + number % 20].node
        sent = {"name": name, "queue": tuple(MORE_QUEUES)[number % 13], "args": f"({9_000 + number},)"}
        sent["kwargs"] = f"{{'tenant': 'shop-{('eu', 'us')[number % 2]}', 'attempt': {number % 3}}}"
        made += [
            {"type": "task-received", "timestamp": at, **sent, **about},
            {"type": "task-started", "timestamp": at + 0.05, **about},
        ]
        if number % 9 == 4:
            words = "HTTPError('503 Service Unavailable')"
            made.append({"type": "task-failed", "timestamp": at + 1.7, "exception": words, **about})
        else:
            done = {"runtime": MORE_TYPES[name][0], "result": f"{{'id': {7 * number}}}"}
            made.append({"type": "task-succeeded", "timestamp": at + 0.05 + done["runtime"], **done, **about})
    for ago in range(59, 0, -2):
        about = {"uuid": f"{ago:08x}-0000-4000-8000-000000000000", "hostname": "pay1@fra"}
        call = {"name": "shop.charge", "args": f"({4_712 - ago},)", "queue": "payments", "retries": 2}
        call["kwargs"] = f"{{'amount': {1_999 + 100 * (ago // 2 % 7)}, 'currency': 'EUR'}}"
        words = "Timeout('no answer in 30 s')"
        made += [
            {"type": "task-received", "timestamp": NOW - ago - 15, **call, **about},
            {"type": "task-started", "timestamp": NOW - ago - 15, **about},
            {
                "type": "task-failed",
                "timestamp": NOW - ago,
                "exception": words,
                "traceback": still.TRACE,
                **about,
            },
        ]
    return made


def more_events() -> list[dict[str, Any]]:
    """The lives of twenty more tasks, one every 7 s; each sixth failed, the last four run."""
    made: list[dict[str, Any]] = []
    for number in range(20):
        name, at = tuple(MORE_TYPES)[number], START + 390 + 7 * number
        about = {"uuid": f"{number * 0x2B7E1519 % 2**32:08x}-1111-4000-8000-{number:012d}"}
        about["hostname"] = WORKERS[5 + number % 20].node
        queue = tuple(MORE_QUEUES)[number % 13]
        made += [
            {"type": "task-sent", "timestamp": at, "name": name, "queue": queue, **about},
            {"type": "task-received", "timestamp": at + 0.125, "name": name, "args": f"('order-{number}',)",
             "kwargs": "{'tenant': 'shop-eu', 'locale': 'de'}", **about},
            {"type": "task-started", "timestamp": at + 0.25, **about},
        ]  # fmt: skip
        if number % 6 == 5:
            words = "ConnectTimeout('hooks.example.com:443')"
            made.append({"type": "task-failed", "timestamp": at + 3.2, "exception": words, **about})
        elif number < 16:
            done = {"runtime": MORE_TYPES[name][0], "result": f"{{'rows': {37 * number}}}"}
            made.append({"type": "task-succeeded", "timestamp": at + 0.25 + done["runtime"], **done, **about})
    return made


def _wave(number: int, slot: int) -> float:
    """A share around 1 that goes up and down, each in its own time."""
    return 1.0 + 0.4 * math.sin((slot + 5 * number) / (3 + number % 5))


@cache
def large_history() -> Charts:
    """The twenty minutes of still.py, and what the others did in it."""
    charts = history().frozen()
    last = int(NOW) // STEP_S
    slots = range(last - SLOTS, last)
    for number, queue in enumerate(QUEUES[5:]):
        series = charts.queues[queue.name] = Series(SLOW)
        series.fill({slot: queue.ready * _wave(number, slot) for slot in slots}, STEP_S)
        series.put(NOW, queue.ready)
    for number, worker in enumerate(WORKERS[5:]):
        series = charts.workers[worker.node] = Series(SLOW, shares=True)
        share = (worker.running or 0) / (worker.slots or 1)
        is_gone = worker.state == "gone"
        known = slots[: SLOTS // 2] if is_gone else slots
        series.fill({slot: min(share * _wave(number, slot), 1.0) for slot in known}, STEP_S)
    more_failures = [row for row in FAILURES if row not in still.FAILURES]
    failed = {row.name: row.count for row in more_failures}
    for number, (name, (run_s, per_s)) in enumerate(MORE_TYPES.items()):
        one = charts.types[name] = TypeHistory()
        rates = {slot: per_s * _wave(number, slot) for slot in slots}
        one.done.fill(rates, STEP_S)
        one.busy.fill({slot: rate * run_s for slot, rate in rates.items()}, STEP_S)
        one.failed_per_s.fill(dict.fromkeys(slots, failed.get(name, 0) / 900), STEP_S)
        for slot in slots:
            count = max(round(per_s * STEP_S), slot % 9 == 0)
            one.run.add(slot * STEP_S, run_s * (1 + 0.3 * (slot % 4)), count)
            one.wait.add(slot * STEP_S, 0.05 + 0.02 * (slot % 7), count)
    for number, row in enumerate(more_failures):
        group = charts.groups[row.name, row.exc_type] = GroupHistory()
        age_s = row.last_at - row.first_at
        within = {slot for slot in slots if row.first_at <= slot * STEP_S <= row.last_at}
        often = {slot: row.count / age_s * _wave(number, slot) if slot in within else 0.0 for slot in slots}
        group.per_s.fill(often, STEP_S)
        group.count, group.workers = row.count, +group.workers
        group.workers.update({WORKERS[5 + number].node: row.count, WORKERS[6 + number].node: row.count // 3})
    online = [worker for worker in WORKERS[5:] if worker.state == "online"]
    sums = {
        "busy": sum(worker.running or 0 for worker in online),
        "slots": sum(worker.slots or 0 for worker in online),
        "ready": sum(queue.ready for queue in QUEUES[5:]),
    }
    for name, more in sums.items():
        series, seconds = charts.series[name], range(int(NOW) - 900, int(NOW))
        known = zip(seconds, series.columns(NOW - 1, 1, 900), strict=True)
        now = series.now
        series.fill({second: value + more for second, value in known if value is not None}, 1)
        series.put(NOW, (now or 0) + more)
    return charts


class LargeStill(still.Still):
    """A source of facts of the large fleet that never change."""

    def __init__(self, **changes: Any) -> None:
        rows = {"workers": WORKERS, "queues": QUEUES, "failures": FAILURES, "schedules": SCHEDULES}
        super().__init__(**{**rows, **changes})
        self.memory = EventLog(10_000)
        for events in (earlier_events(), scheduled_events(), still.events(), more_events()):
            self.memory.fold(events, NOW)
        self.memory.charts = large_history().frozen()
