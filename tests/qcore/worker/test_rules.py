"""The pure rules between a delivery and its end, as tables: admission, settling, repeats, what follows."""

from __future__ import annotations

from typing import Any

import pytest

from qcore import App
from qcore.brokers.contract.records import Delivery, Settle, Settlement
from qcore.errors import MaxRetriesExceededError, Retry
from qcore.events.sender import EventSender
from qcore.execution import continuations
from qcore.execution.run import RunContext, run
from qcore.wire import result as result_wire
from qcore.wire import task as task_wire
from qcore.wire.outcome import End, Job, Outcome
from qcore.wire.task import TaskMessage
from qcore.worker.in_flight import InFlight
from qcore.worker.intake.admission import Admission
from qcore.worker.intake.rate_limits import TokenBucket
from qcore.worker.intake.redelivery import Deduplicator
from qcore.worker.services.reporting import TaskReporter, report
from qcore.worker.services.task_signals import TaskSignals
from qcore.worker.settling.chords import Chords
from qcore.worker.settling.rules import EXTRA_WORKER_DEATHS, SettlementRules

NOW = 1_800_000_000.0
PAST, FUTURE = "2020-01-01T00:00:00+00:00", "2100-01-01T00:00:00+00:00"
FUTURE_S = 4_102_444_800.0
MOST = 3


class Place:
    """A worker's rules, with an app that has tasks of each kind and no broker that is ever asked."""

    def __init__(self) -> None:
        self.app = app = App("rules", broker="memory://rules", set_as_current=False)
        for name, options in {
            "t.late": {},
            "t.early": {"acks_late": False},
            "t.no_ack": {"acks_on_failure_or_timeout": False},
            "t.timeout": {"acks_on_timeout": False},
            "t.failure": {"acks_on_failure": False},
            "t.no_rerun": {"reject_on_worker_lost": False},
            "t.then": {},
        }.items():
            app.task(name=name, **options)(lambda *args: None)
        self.said: list[str] = []
        self.say = TaskReporter(EventSender(app, "w@test", dict, False, None), TaskSignals("w@test"))
        self.rules = SettlementRules((60.0, 60.0), MOST)
        self.rules.follow = Chords(app, app.results).consequences
        self.admission = Admission(app.tasks, self.say, self.rules)

    def held(self, name: str, deaths: int = 0, **options: Any) -> InFlight:
        delivery = self.delivery(name, **options)
        task = self.app.tasks[name]
        message = task_wire.read(delivery.raw)
        return InFlight(delivery, message, task, late=bool(task.acks_late), hard_s=7.0, deaths=deaths)

    def delivery(
        self, name: str, number: int = 1, deliveries: int = 1, redelivered: bool = False, **options: Any
    ) -> Delivery:
        options.setdefault("task_id", f"id-{number}")
        raw = task_wire.build(name, options.pop("args", []), {}, **options)
        return Delivery(number, "q", raw, redelivered, deliveries)


@pytest.fixture
def place() -> Place:
    return Place()


def stored(settlement: Settlement) -> tuple[str, Any] | None:
    """State and type of exception of the result that is stored."""
    if settlement.result is None:
        return None
    meta = result_wire.decode(settlement.result.meta, settlement.result.task_id)
    return meta.status, meta.result.get("exc_type") if isinstance(meta.result, dict) else meta.result


# --- admission


ADMISSION: list[tuple[str, str, dict[str, Any], Any]] = [
    ("runs", "t.late", {}, (True, None)),
    ("acknowledged first", "t.early", {}, (True, Settle.ACK)),
    ("unknown", "t.nosuch", {}, (False, Settle.QUARANTINE)),
    ("expired", "t.late", {"expires": PAST}, (False, Settle.ACK)),
    ("not expired", "t.late", {"expires": FUTURE}, (True, None)),
    ("not due", "t.late", {"eta": FUTURE}, (False, Settle.DELAY)),
    ("due", "t.late", {"eta": PAST}, (True, None)),
    ("expired and not due", "t.late", {"expires": PAST, "eta": FUTURE}, (False, Settle.ACK)),
    ("patience", "t.late", {"deliveries": MOST + EXTRA_WORKER_DEATHS}, (True, None)),
    ("suspect", "t.late", {"deliveries": MOST + EXTRA_WORKER_DEATHS + 1}, (False, Settle.QUARANTINE)),
    ("revoked", "t.late", {"task_id": "gone"}, (False, Settle.ACK)),
    ("revoked by its stamp", "t.late", {"stamps": {"user": ["bad"]}}, (False, Settle.ACK)),
    ("another stamp", "t.late", {"stamps": {"user": ["good"]}}, (True, None)),
]


@pytest.mark.parametrize(("options", "name", "expected"), [(o, n, e) for _, n, o, e in ADMISSION])
def test_who_is_let_in(options: dict[str, Any], name: str, expected: Any, place: Place) -> None:
    place.admission.revoked.ids.add("gone")
    place.admission.revoked_stamps["user"] = {"bad"}

    held, message, settlement = place.admission.judge(place.delivery(name, **dict(options)), NOW, 0.0)

    assert (held is not None, settlement.action if settlement is not None else None) == expected
    assert message is not None and message.task == name
    if settlement is not None and settlement.action == Settle.DELAY:
        assert settlement.due_at == FUTURE_S


def test_bytes_that_are_no_task_are_set_aside(place: Place) -> None:
    held, message, settlement = place.admission.judge(Delivery(1, "q", b"nonsense"), NOW, 0.0)

    assert held is None and message is None
    assert settlement is not None and settlement.action == Settle.QUARANTINE and settlement.reason


def test_a_limited_task_waits_in_the_broker_for_its_place(place: Place) -> None:
    place.admission.buckets["t.late"] = TokenBucket(0.5)  # every two seconds

    waits = []
    for number, ticks in ((1, 100.0), (2, 100.5), (3, 100.5), (2, 102.0)):
        _, _, settlement = place.admission.judge(place.delivery("t.late", number), NOW, ticks)
        waits.append(settlement.due_at - NOW if settlement is not None else 0.0)

    assert waits == [0.0, 1.5, 3.5, 0.0]


# --- settling


def outcome(end: End, **more: Any) -> Outcome:
    return Outcome(1, end, NOW, 0.1, 1, **more)


SETTLING: list[tuple[str, End, int, Settle, tuple[str, Any] | None, str]] = [
    ("t.late", End.REQUEUED, 0, Settle.RETURN, None, ""),
    ("t.late", End.IGNORED, 0, Settle.ACK, None, ""),
    ("t.late", End.REJECTED, 0, Settle.ACK, None, ""),
    ("t.late", End.MALFORMED, 0, Settle.QUARANTINE, ("FAILURE", "InvalidTaskError"), "bad_body"),
    ("t.late", End.LOST, 1, Settle.RETURN, None, ""),
    ("t.late", End.LOST, MOST, Settle.QUARANTINE, ("FAILURE", "WorkerLostError"), "crashed_too_often"),
    ("t.no_rerun", End.LOST, 1, Settle.ACK, ("FAILURE", "WorkerLostError"), ""),
    ("t.early", End.LOST, 1, Settle.ACK, ("FAILURE", "WorkerLostError"), ""),
    ("t.late", End.TIME_LIMIT, 0, Settle.ACK, ("FAILURE", "TimeLimitExceeded"), ""),
    ("t.no_ack", End.TIME_LIMIT, 0, Settle.RETURN, None, ""),
    ("t.timeout", End.TIME_LIMIT, 0, Settle.RETURN, None, ""),
    ("t.timeout", End.FAILURE, 0, Settle.ACK, None, ""),
    ("t.failure", End.FAILURE, 0, Settle.RETURN, None, ""),
    ("t.late", End.TERMINATED, 0, Settle.ACK, ("REVOKED", "TaskRevokedError"), ""),
    ("t.late", End.FAILURE, 0, Settle.ACK, None, ""),
    ("t.no_ack", End.FAILURE, 0, Settle.RETURN, None, ""),
]


@pytest.mark.parametrize(("name", "end", "deaths", "action", "result", "reason"), SETTLING)
def test_what_becomes_of_a_delivery(
    name: str, end: End, deaths: int, action: Settle, result: Any, reason: str, place: Place
) -> None:
    held = place.held(name, deaths=deaths)

    settlement = place.rules.settlement(held, outcome(end, text="bad_body"))

    assert (settlement.action, stored(settlement), settlement.reason) == (action, result, reason)
    assert settlement.delivery is held.delivery


@pytest.mark.parametrize("deliveries", [1, MOST - 1, MOST])
def test_deaths_count_wherever_they_were_seen(deliveries: int, place: Place) -> None:
    held = place.held("t.late", deaths=1, deliveries=deliveries)

    settlement = place.rules.settlement(held, outcome(End.LOST))

    assert settlement.action == (Settle.RETURN if deliveries < MOST else Settle.QUARANTINE)


@pytest.mark.parametrize(("end", "ignore"), [(End.TIME_LIMIT, True), (End.TIME_LIMIT, False)])
def test_a_result_that_nobody_wants_is_not_stored(end: End, ignore: bool, place: Place) -> None:
    settlement = place.rules.settlement(place.held("t.late", ignore_result=ignore), outcome(end))

    assert (settlement.result is None) == ignore


def test_the_result_of_a_run_is_stored_as_it_came(place: Place) -> None:
    settlement = place.rules.settlement(place.held("t.late"), outcome(End.SUCCESS, meta=b"{}"))

    assert settlement.result is not None and settlement.result.meta == b"{}"
    assert settlement.result.ttl_s == 60.0


def test_only_accepted_settlements_are_reported(place: Place) -> None:
    said: list[int] = []
    batch = [
        Settlement(place.delivery("t.late", number), report=lambda number=number: said.append(number))
        for number in (1, 2, 3)
    ]

    report([*batch, Settlement(place.delivery("t.late", 4))], [2])

    assert said == [1, 3]


# --- repeats


class Results:
    """A store apart in which the task `done` has ended."""

    keeps = shared = True
    in_broker = False

    def get(self, ids: list[str]) -> list[Any]:
        metas = [result_wire.encode(i, "SUCCESS", 5, now=NOW) if i == "done" else None for i in ids]
        return [result_wire.decode(m, i) if m is not None else None for m, i in zip(metas, ids, strict=True)]


#: (deliveries as id and whether it came again), ids that run here, and the numbers that are to be run
REPEATS: list[tuple[list[tuple[str, bool]], list[str], list[int]]] = [
    ([("a", False), ("b", False)], [], [1, 2]),
    ([("a", True)], [], [1]),
    ([("a", True), ("b", False)], ["a"], [2]),
    ([("done", True)], [], []),
    ([("done", False)], [], [1]),  # not asked about: it comes the first time
    ([("a", False), ("a", True)], [], [2]),
    ([("a", True), ("a", False)], [], [1, 2]),
]


@pytest.mark.parametrize(("came", "going", "runs"), REPEATS)
def test_what_comes_again_is_run_once(
    came: list[tuple[str, bool]], going: list[str], runs: list[int], place: Place
) -> None:
    ended: list[Settlement] = []
    results: Any = Results()
    repeats = Deduplicator(
        place.app, results, lambda message, settlement: ended.append(settlement), place.say
    )
    held = {90 + n: place.held("t.late", number=90 + n, task_id=i) for n, i in enumerate(going)}
    deliveries = [
        place.delivery("t.late", n, redelivered=again, task_id=i) for n, (i, again) in enumerate(came, 1)
    ]

    found = repeats.new(deliveries, held)

    assert sorted(d.number for d in found) == runs
    # Every delivery is run, settled, or stands for one that was settled instead.
    assert len(found) + len(ended) == len(deliveries)


def test_what_comes_again_settles_the_run_that_goes_on(place: Place) -> None:
    ended: list[Settlement] = []
    results: Any = Results()
    repeats = Deduplicator(
        place.app, results, lambda message, settlement: ended.append(settlement), place.say
    )
    held = place.held("t.late", number=90, task_id="a")
    again = place.delivery("t.late", 1, redelivered=True, task_id="a")

    assert list(repeats.new([again], {90: held})) == []

    assert held.delivery is again
    assert [s.delivery.number for s in ended] == [90]


# --- what follows


LINK = {"task": "t.then", "args": [], "kwargs": {}, "options": {}}
STEP = {"task": "t.then", "args": [], "kwargs": {}, "options": {"task_id": "step"}}


def sent(found: continuations.Continuations) -> list[tuple[str, list[Any]]]:
    messages = [task_wire.read(m.raw) for m in found.messages]
    return [(m.task, task_wire.read_body(m).args) for m in messages]


def message_of(place: Place, **options: Any) -> TaskMessage:
    return task_wire.read(place.delivery("t.late", **options).raw)


@pytest.mark.parametrize(
    ("embed", "expected"),
    [
        ({}, []),
        ({"callbacks": [LINK]}, [("t.then", [5])]),
        ({"callbacks": [LINK, LINK]}, [("t.then", [5]), ("t.then", [5])]),
        ({"callbacks": [{**LINK, "immutable": True}]}, [("t.then", [])]),
        ({"errbacks": [LINK]}, []),
        ({"chain": [LINK, STEP]}, [("t.then", [5])]),
        ({"callbacks": [LINK], "chain": [STEP]}, [("t.then", [5]), ("t.then", [5])]),
    ],
)
def test_what_follows_success(embed: dict[str, Any], expected: Any, place: Place) -> None:
    found = continuations.succeeded(embed, 5, message_of(place), place.app)

    assert sent(found) == expected


@pytest.mark.parametrize(
    ("state", "embed", "expected", "failed"),
    [
        ("FAILURE", {"callbacks": [LINK]}, [], []),
        ("FAILURE", {"errbacks": [LINK]}, [("t.then", ["id-1"])], []),
        ("REVOKED", {"errbacks": [LINK]}, [], []),
        ("FAILURE", {"chain": [STEP]}, [], ["step"]),
        ("REVOKED", {"chain": [STEP]}, [], ["step"]),
    ],
)
def test_what_follows_failure(
    state: str, embed: dict[str, Any], expected: Any, failed: list[str], place: Place
) -> None:
    error = result_wire.exception_data(ValueError("bad"))

    found = continuations.failed(embed, message_of(place), place.app, state, error)

    assert sent(found) == expected
    assert [task_id for task_id, _ in (found.before.results if found.before else [])] == failed


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE"])
@pytest.mark.parametrize(("group", "parts"), [("g", 1), (None, 0)])
def test_a_member_of_a_chord_is_counted(state: str, group: str | None, parts: int, place: Place) -> None:
    message = message_of(place, group_id=group, group_index=2)
    error = result_wire.exception_data(ValueError("bad"))

    if state == "SUCCESS":
        found = continuations.succeeded({"chord": LINK}, 5, message, place.app)
    else:
        found = continuations.failed({"chord": LINK}, message, place.app, state, error)

    counted = found.before.parts if found.before is not None else []
    assert [(p.group, p.task_id, p.index) for p in counted] == [("g", "id-1", 2)] * parts


# --- retries


@pytest.mark.parametrize(
    ("retries", "most", "throws", "end", "error"),
    [
        (0, 3, ValueError("bad"), End.RETRY, None),
        (2, 3, ValueError("bad"), End.RETRY, None),
        (3, 3, ValueError("bad"), End.FAILURE, "ValueError"),
        (3, 3, None, End.FAILURE, MaxRetriesExceededError.__name__),
        (0, 0, None, End.FAILURE, MaxRetriesExceededError.__name__),
        (500, None, None, End.RETRY, None),
    ],
)
def test_how_often_a_task_is_retried(
    retries: int, most: int | None, throws: Exception | None, end: End, error: str | None, place: Place
) -> None:
    @place.app.task(name="t.again", bind=True, max_retries=most)
    def again(self: Any) -> None:
        raise self.retry(exc=throws, countdown=1)

    raw = place.delivery("t.again", retries=retries).raw
    found = run(Job(1, raw, queue="q"), RunContext(place.app, "w@test", frozenset(("json",)), None))

    assert found.end == end
    assert (found.error[0] if found.error is not None else None) == error
    following = [task_wire.read(send.raw).retries for send in found.sends]
    assert following == ([retries + 1] if end == End.RETRY else [])


def test_what_is_no_signature_in_a_chain_is_passed_over_when_a_step_fails(place: Place) -> None:
    @place.app.task(name="t.fails")
    def fails() -> None:
        raise ValueError("bad")

    later, following = ({"task": "t.fails", "options": {"task_id": name}} for name in ("later", "following"))
    raw = task_wire.build("t.fails", (), {}, task_id="i", embed={"chain": [later, 5, following]})
    found = run(Job(1, raw, queue="q"), RunContext(place.app, "w@test", frozenset(("json",)), None))

    assert found.end == End.FAILURE and found.before is not None
    assert [task_id for task_id, _ in found.before.results] == ["later", "following"]


def test_a_retry_that_is_not_thrown_is_sent_with_the_settlement(place: Place) -> None:
    @place.app.task(name="t.kept", bind=True)
    def kept(self: Any) -> str:
        return type(self.retry(countdown=1, throw=False)).__name__

    raw = place.delivery("t.kept").raw
    found = run(Job(1, raw), RunContext(place.app, "w@test", frozenset(("json",)), None))

    assert found.end == End.SUCCESS and found.text == repr(Retry.__name__)
    assert [task_wire.read(send.raw).retries for send in found.sends] == [1]
