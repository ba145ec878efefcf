"""What is known of failures, waits and rates, and what is said of what is not known."""

from __future__ import annotations

import math

import pytest

from qcore.events.state import State
from qcore.wire import identity
from qcore.wire.event import Event
from qctl.dashboard.state.event_log import EventLog
from qctl.dashboard.state.failures import StoredFailures, heard_failures, merged, seen_failures
from qctl.dashboard.state.filter_columns import ColumnFilter
from qctl.dashboard.state.series import Charts, percentile
from qctl.dashboard.state.snapshot import FailureRow, QueueRow
from qctl.filters import parse
from qctl.fleet.event_record import record_of, waited_s
from qctl.fleet.failure_kinds import kind_of

START = 1_700_000_000.0
TRACE = 'Traceback (most recent call last):\n  File "shop.py", line 3, in charge\n    raise {}\n{}: {}\n'
LOST = (
    "Traceback (most recent call last):\n"
    '  File "/x/billiard/pool.py", line 1265, in mark_as_worker_lost\n    raise WorkerLostError(\n'
    "billiard.exceptions.WorkerLostError: Worker exited prematurely: signal 9 (SIGKILL) Job: 3.\n"
)


@pytest.mark.parametrize(
    ("exception", "traceback", "kind"),
    [
        (
            "GatewayTimeout('no')",
            TRACE.format("GatewayTimeout", "shop.GatewayTimeout", "no"),
            "shop.GatewayTimeout",
        ),
        ("GatewayTimeout('no')", "", "GatewayTimeout"),
        ("KeyError('a')", TRACE.format("KeyError", "KeyError", "'a'"), "KeyError"),
        ("Odd('x')", TRACE.format("Odd", "shop.Odd", "two\nlines: of text"), "shop.Odd"),
        ("Odd('x')", TRACE.format("Other", "shop.NotOdd", "x"), "Odd"),
        ("ExceptionWithTraceback()", LOST, "billiard.exceptions.WorkerLostError"),
        ("ExceptionWithTraceback()", "", ""),
        ("the process running it ended: signal 9 (SIGKILL)", "", "WorkerLostError"),
        ("unregistered: no task named 'shop.nosuch'", "", "NotRegistered"),
        ("hard time limit of 3.0s passed; its process was killed", "", "TimeLimitExceeded"),
        ("", "", ""),
    ],
)
def test_an_exception_has_one_class_whoever_printed_it(exception: str, traceback: str, kind: str) -> None:
    assert kind_of(exception, traceback) == kind


def failed(uuid: str, name: str, exception: str, worker: str = "c@host", traceback: str = "") -> list[Event]:
    about = {"hostname": worker, "uuid": uuid, "timestamp": START}
    return [
        {"type": "task-received", "name": name, **about},
        {"type": "task-failed", "exception": exception, "traceback": traceback, **about},
    ]


def test_a_failure_that_store_and_events_tell_of_is_one() -> None:
    state = State()
    for number in range(5):
        state.fold(failed(f"u{number}", "shop.charge", "GatewayTimeout('no')"))
    for number in range(5, 8):
        state.fold(failed(f"u{number}", "shop.deploy", "KeyError('a')"))
    state.fold(failed("gone", "shop.deploy", "KeyError('a')", "q@host"))
    row = FailureRow("shop.charge", "shop.GatewayTimeout", "pay", 2, START - 9, START - 1)
    # u0 and u1 are stored, u2 was stored and is retried.
    stored = StoredFailures((row,), frozenset(("u0", "u1", "u2")))
    heard = heard_failures(state.table)

    rows = merged(state.table, heard, stored, lambda node: node == "q@host")
    partly = merged(state.table, heard, stored._replace(complete=False), lambda node: node == "q@host")
    alone = seen_failures(state.table)

    facts = [(r.name, r.exc_type, r.count, r.stored, r.exact, r.retryable) for r in rows]
    assert facts == [
        ("shop.charge", "shop.GatewayTimeout", 4, 2, False, 2),
        ("shop.deploy", "KeyError", 4, 0, False, 0),
    ]
    assert rows[0].first_at == START - 9 and rows[0].last_at == START
    assert [(r.name, r.count) for r in partly] == [("shop.charge", 4), ("shop.deploy", 3)]
    assert [(r.name, r.count) for r in alone] == [("shop.charge", 5), ("shop.deploy", 4)]


def test_a_wait_is_time_in_a_queue_after_the_task_was_due() -> None:
    made = identity.make()
    sent = identity.sent_at(made)
    assert sent is not None

    assert waited_s(made, 0, None, "", sent + 3.0) == pytest.approx(3.0)
    assert waited_s("c0ffee", 0, None, "", START) is None
    assert waited_s("c0ffee", 0, START, "2023-11-14T22:13:30+00:00", START + 12) == pytest.approx(2.0)
    assert waited_s(made, 1, START, "", START + 12) is None, "it was sent again"
    assert waited_s(made, 1, START, "2023-11-14T22:13:30+00:00", START + 10.5) == pytest.approx(0.5)
    assert percentile([], 0.95) is None


def test_what_is_unknown_is_a_gap_in_a_chart_and_never_zero() -> None:
    log = EventLog(100)
    assert log.rates(START) == (None, None)
    log.rates(START + 1)
    log.listening = False
    assert log.rates(START + 2) == log.rates(START + 3) == (None, None)

    done = log.charts.series["done"]
    assert done.columns(START + 3, 1, 4) == [0.0, None, None, None]
    assert log.charts.series["wait"].now is None and Charts().series["in"].now is None


def test_a_queue_that_grows_is_never_empty() -> None:
    def left(came: float | None, went: float | None) -> float | None:
        return QueueRow("mails", 100, in_per_s=came, out_per_s=went).empty_in_s

    assert (left(8.0, 2.0), left(2.0, 12.0), left(None, 2.0)) == (math.inf, 10.0, None)


def test_ends_of_a_worker_with_several_queues_are_of_no_queue() -> None:
    log = EventLog(100)
    for worker, number in (("one@host", 3), ("many@host", 2)):
        log.fold([e for i in range(number) for e in failed(f"{worker}{i}", "a", "E()", worker)], START)

    ended = log.ended_by_queue({"one@host": ("pay",), "many@host": ("mails", "sync")})

    assert (dict(ended.by_queue), ended.uncertain, ended.total) == ({"pay": 3}, {"mails", "sync"}, 5)
    assert log.ended_by_queue({}).total == 0


def test_a_running_task_is_found_by_the_time_it_has_run() -> None:
    log = EventLog(100)
    about = {"hostname": "w@host", "uuid": "u1", "timestamp": START}
    log.fold([{"type": "task-received", "name": "a", **about}, {"type": "task-started", **about}], START)
    task = log.state.table.get("u1")
    assert task is not None

    wanted = parse("state:running runtime>3s")
    assert wanted.matches(record_of(task, START + 4)) and not wanted.matches(record_of(task, START + 2))
    (chunk,) = log.state.table.chunks.values()
    assert list(ColumnFilter(log.state.table, wanted).places(chunk)) == [0]
