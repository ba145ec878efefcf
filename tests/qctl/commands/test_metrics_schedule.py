"""`qctl metrics` on the schedule."""

from __future__ import annotations

import re
from typing import Any

import pytest

from qcore import App
from qcore.brokers.contract.schedules import Firing
from qcore.errors import BrokerDown
from qcore.wire.schedule import ScheduleEntry, encode
from qctl.commands.metrics.collector import Collector
from qctl.commands.metrics.schedule import MOST_ENTRIES
from tests.support.processes import Processes
from tests.support.waiting import wait_for


@pytest.fixture
def app(memory_url: str) -> App:
    return App("shop", broker=memory_url, set_as_current=False)


def series(collector: Collector) -> dict[str, float]:
    """The samples of the schedule."""
    return {
        m[1]: float(m[2]) for m in re.finditer(r"(?m)^(qcore_schedule[^ \n]*) ([\d.e+]+)$", collector.text())
    }


def fire(app: App, name: str, **counts: Any) -> None:
    assert app.schedules.store.fire([Firing(name, None, **counts)]) == [None]


def test_an_entry_is_counted_with_its_lateness_and_next_instant(app: App) -> None:
    app.schedules.add("poll", "shop.poll", "0 4 * * *")
    app.schedules.add("off", "shop.poll", "0 4 * * *")
    app.schedules.pause("off")
    now_us = round(app.schedules.store.clock()[0] * 1e6)
    fire(app, "poll", runs=3, missed=2, overlapped=1, task_id="t", instant_us=now_us - 7_000_000)
    app.schedules.store.announce("beat@a", {}, 60)

    found = series(Collector(app))

    assert found["qcore_schedulers"] == 1 and found["qcore_schedule_entries"] == 2
    assert found['qcore_schedule_runs_total{entry="poll"}'] == 3
    assert found['qcore_schedule_missed_total{entry="poll"}'] == 2
    assert found['qcore_schedule_overlapped_total{entry="poll"}'] == 1
    assert found['qcore_schedule_runs_total{entry="off"}'] == 0
    assert found['qcore_schedule_late_seconds{entry="poll"}'] >= 7
    assert 'qcore_schedule_late_seconds{entry="off"}' not in found, "it never ran"
    assert found['qcore_schedule_next_timestamp_seconds{entry="poll"}'] == round(
        app.schedules.next("poll", 1)[0]
    )
    assert 'qcore_schedule_next_timestamp_seconds{entry="off"}' not in found


def test_ten_thousand_entries_leave_few_series_that_never_decrease(app: App) -> None:
    spec = {"kind": "interval", "every_s": 60.0}
    entries = {f"e{n:05}": encode(ScheduleEntry(f"e{n:05}", "shop.poll", spec)) for n in range(10_000)}
    app.schedules.store.declare("shop", entries)
    fire(app, "e09999", runs=5)
    collector = Collector(app)

    first = series(collector)
    app.schedules.store.declare("shop", {name: entries[name] for name in list(entries)[:50]})
    second = series(collector)

    others = 'qcore_schedule_runs_total{entry="(others)"}'
    assert first[others] == second[others] == 5
    assert len(first) <= 6 * (MOST_ENTRIES + 1) + 3 and second["qcore_schedule_entries"] == 50


def test_an_unreachable_store_is_a_metric(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise BrokerDown("redis://elsewhere", "refused")

    monkeypatch.setattr(app.schedules.store, "clock", away)

    text = Collector(app).text()

    assert "\nqcore_schedule_store_up 0\n" in text and "\nqcore_broker_up 1\n" in text


def test_a_broker_that_keeps_no_entries_has_no_such_metrics() -> None:
    from qctl.commands.metrics.schedule import ScheduleMetrics

    app = App("far", broker="amqp://guest@localhost:1//", set_as_current=False)

    assert list(ScheduleMetrics(app).families()) == []


def test_a_real_scheduler_is_counted(redis_url: str, processes: Processes) -> None:
    processes.qctl("-A", "tests.projects.scheduled", "-b", redis_url, "beat")
    app = App("client", broker=redis_url, set_as_current=False)
    collector = Collector(app)

    found = wait_for(
        lambda: (now := series(collector)).get('qcore_schedule_runs_total{entry="often"}', 0) > 1 and now
    )

    assert found["qcore_schedulers"] == 1
    assert 'qcore_schedule_next_timestamp_seconds{entry="lazy"}' not in found, "the project computes it"
    app.close()
