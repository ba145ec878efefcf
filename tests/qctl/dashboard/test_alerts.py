"""Alerts: what needs a person is said in one line, the worst first; what is well is not mentioned."""

from __future__ import annotations

import msgspec

from qctl.dashboard.state.snapshot import RECONNECT_S, QueueRow, Snapshot, WorkerRow
from qctl.dashboard.views.alerts import alerts, outlook
from qctl.dashboard.views.cells import where
from qctl.dashboard.views.episodes import Episodes
from qctl.dashboard.views.panels import shown_range
from tests.support.still import NOW, Still, history

WELL = WorkerRow("w1@host", "online", 1, 4)


def queue(ready: int = 100, **more: object) -> QueueRow:
    row = QueueRow("mails", ready, in_per_s=5.0, out_per_s=10.0, consumers=2, oldest_s=9.0)
    return msgspec.structs.replace(row, **more)


def test_when_a_queue_will_be_empty() -> None:
    assert {
        "it shrinks": outlook(queue()),
        "it grows": outlook(queue(in_per_s=12.0)),
        "it stays": outlook(queue(in_per_s=10.0)),
        "few messages pass through": outlook(queue(3, in_per_s=12.0)),
        "nobody takes from it": outlook(queue(consumers=0)),
        "it is paused": outlook(queue(paused=True)),
        "a rate is unknown": outlook(queue(in_per_s=None)),
        "it is empty": outlook(queue(0)),
    } == {
        "it shrinks": ("20s", ""),
        "it grows": ("never", "failed"),
        "it stays": ("level", "paused"),
        "few messages pass through": ("-", ""),
        "nobody takes from it": ("nobody", "failed"),
        "it is paused": ("paused", "paused"),
        "a rate is unknown": ("-", ""),
        "it is empty": ("-", ""),
    }


def test_a_fleet_that_is_well_has_no_alert_and_one_that_is_not_known_neither() -> None:
    well = Snapshot(at=NOW, asked=True, workers=(WELL,), queues=(queue(),))

    assert alerts(well, None) == []
    assert alerts(Snapshot(at=NOW), None) == []
    assert alerts(msgspec.structs.replace(well, trouble="connection refused", workers=()), None) == []
    assert [a.text for a in alerts(msgspec.structs.replace(well, workers=()), None)] == [
        "no worker is online"
    ]


def test_workers_have_time_to_reconnect_after_an_outage_of_the_broker() -> None:
    silent = msgspec.structs.replace(WELL, state="silent", age_s=12.0)
    back = Snapshot(at=NOW, asked=True, workers=(silent,), queues=(queue(consumers=0),), back_at=NOW - 3)
    later = msgspec.structs.replace(back, at=NOW + RECONNECT_S)
    episodes = Episodes()

    assert (alerts(back, None), episodes.update(back), episodes.rows()) == ([], [], ())
    assert [a.kind for a in alerts(later, None)] == ["offline", "silent", "nobody"]


def test_the_incident_is_told_in_one_line() -> None:
    found = alerts(Still().take(), history())

    assert [a.text for a in found] == [
        "shop.charge Timeout 312 in 9m40s, only pay1@fra",
        "pay2@fra silent for 47s, holds ~2",
        "payments 1,204 ready, oldest 8m32s, +7.0/s, never empty",
        "eu-west-1.customer-exports.low-priority 5 waiting, nobody takes them, oldest 1m01s",
        "reports paused, 40 waiting, oldest 1h01m",
    ]


def test_where_failures_happened() -> None:
    assert [where(w) for w in ({}, {"a@x": 9, "b@x": 1}, {"a@x": 1, "b@x": 1, "c@x": 1})] == [
        "-",
        "a 90%",
        "3 workers",
    ]


def test_a_new_dashboard_shows_as_much_time_as_it_knows() -> None:
    charts = history()
    assert charts.began is not None

    shown = [shown_range(0, charts, charts.began + s).words for s in (1, 200, 400, 700, 5_000)]

    assert shown == ["3 min", "5 min", "10 min", "15 min", "15 min"]
    assert shown_range(1, charts, charts.began).words == "6 h"
