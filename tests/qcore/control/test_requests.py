"""Control requests of all shapes: every argument is checked before it is used, signed or not.

Real workers on Redis. Whatever is sent, the worker answers a ping afterwards and runs tasks.
"""

from __future__ import annotations

import inspect
import json
import signal
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import celery
import pytest

from qcore.app.app import App
from qcore.base.times import new_id
from qcore.control.commands.base import Command
from qcore.control.commands.registry import commands, find
from qcore.wire import control as wire
from qcore.wire import seal
from qcore.worker.remote_control import signal_number
from tests.support.processes import Process, Processes
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

SECRET = "the fuzzers secret 01"
KEYS = {"fuzz": {"secret": SECRET, "scope": "admin"}}
NODE = "w1@test"


class Live(NamedTuple):
    worker: Process
    app: App
    client: celery.Celery

    def ask(self, method: str, **arguments: Any) -> Any:
        return self.app.control.ask(method, arguments, timeout_s=60).replies[NODE]


@pytest.fixture(scope="module")
def live(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    if redis_server.process is None:
        redis_server.start()
    with redis_server.client() as client:
        client.flushall()
    processes = Processes(tmp_path_factory.mktemp("requests"))
    settings = {"SERVED_SETTINGS": json.dumps({"control_keys": KEYS, "control_unsigned": "allow"})}
    worker = processes.start_qcore_worker(
        redis_server.url, "-c", "2", name=NODE, app="tests.projects.served", env=settings
    )
    app = App("asker", broker=redis_server.url, set_as_current=False)
    theirs = celery.Celery("client", broker=redis_server.url, backend=redis_server.url, set_as_current=False)
    yield Live(worker, app, theirs)
    theirs.close()
    app.close()
    processes.close()


# --- signals


def napping(live: Live) -> str:
    """The id of a task that runs."""
    task_id = live.app.send_task("served.nap", (60,)).id
    wait_for(lambda: any(t["id"] == task_id for t in live.ask("active")))
    return str(task_id)


def test_revoke_of_a_celery_client_ends_the_task(live: Live) -> None:
    """AsyncResult.revoke(terminate=True) sends `signal: null`."""
    task_id = napping(live)

    live.client.AsyncResult(task_id).revoke(terminate=True)

    wait_for(lambda: live.app.AsyncResult(task_id).state == "REVOKED")


def test_a_stamped_header_of_a_celery_client_ends_the_task(live: Live) -> None:
    from celery.canvas import StampingVisitor

    class Stamp(StampingVisitor):  # type: ignore[misc]
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"visit": "v1", "stamped_headers": ["visit"]}

    signature = live.client.signature("served.nap", (60,))
    signature.stamp(Stamp())
    result = signature.apply_async()
    wait_for(lambda: any(t["id"] == result.id for t in live.ask("active")))

    result.revoke_by_stamped_headers({"visit": ["v1"]}, terminate=True)

    wait_for(lambda: live.app.AsyncResult(result.id).state == "REVOKED")


@pytest.mark.parametrize(
    "wrong", [-1, 0, 65, 10**6, "", "SIGNONE", "-1", "CHLD", "SIGSTOP", "KILLL", True, 9.5, []]
)
def test_what_is_no_signal_that_ends_a_task_is_refused(live: Live, wrong: Any) -> None:
    answers = [
        live.ask("terminate", task_id=["nobody"], signal=wrong),
        live.ask("revoke", task_id=["nobody"], terminate=True, signal=wrong),
        live.ask("revoke_by_stamped_headers", headers={"a": ["b"]}, terminate=True, signal=wrong),
    ]

    for answer in answers:
        assert "signal" in answer["error"], answer
    assert live.worker.is_running


def test_signals_have_names_and_numbers() -> None:
    kill, usr1 = int(signal.SIGKILL), int(signal.SIGUSR1)
    table: dict[Any, int] = {
        None: kill,  # TERM, which a child ignores
        "TERM": kill,
        "sigterm": kill,
        "SIGKILL": kill,
        9: kill,
        15: kill,
        "9": kill,
        "USR1": usr1,
        usr1: usr1,
        "ABRT": int(signal.SIGABRT),
    }
    assert {said: signal_number(said) for said in table} == table


def test_usr1_is_the_soft_time_limit(live: Live) -> None:
    task_id = napping(live)

    answer = live.ask("terminate", task_id=[task_id], signal="SIGUSR1")

    assert answer == {"ok": f"terminate: {task_id}"}
    result = live.app.AsyncResult(task_id)
    wait_for(lambda: result.state == "FAILURE")
    assert "SoftTimeLimitExceeded" in str(result.traceback)
    live.worker.wait_output(rf"{task_id}\] raised unexpected")  # the log follows the result


# --- arguments

ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 3.5, 1e30, -1e30, 10**19, 10**300, float("nan"), float("inf")),
    *("", " ", "a", "served.add", "celery", "-1", "1e400", "nan", "5/s", "1e-320/h", "inf/s", "true"),
    *("\ud800", "a\x00b", "\n", "x" * 300, "x" * 100_000, "../../etc", "{}", "%s%n", "é" * 200),
    *([], [None], ["a", 5], [["a"]], ["\ud800"], {}, {"a": 1}, {"a": {"b": []}}, {"": ""}, {"\ud800": 1}),
    *([["x"]] * 3000,),
]
#: these end, empty or slow the worker when their arguments are right, which is what they are for
NOT_SENT = {"shutdown", "drain"}
#: what a command needs beside the argument in question
SOUND: dict[str, Any] = {
    "task_name": "served.total",
    "rate_limit": "1000/s",
    "soft": 100,
    "signal": "KILL",
    "task_id": ["a"],
    "queue": "odd",
    "max": 2,
    "min": 1,
    "from_node": "other",
    "id": "1",
    "topic": "t",
    "headers": {"a": "b"},
}


def names_of(command: Command) -> list[str]:
    given = inspect.signature(command.handler).parameters.values()
    return [p.name for p in given if p.kind is not p.VAR_KEYWORD][1:]


def signed(request: wire.Request) -> bytes:
    def sealer(body: bytes, recipients: str) -> str:
        now = time.time()
        return seal.make("fuzz", SECRET.encode(), new_id(), now, now + 60, recipients, body).text()

    return wire.encode_request(request, sealer)


def test_every_command_takes_every_odd_value_and_the_worker_lives(live: Live) -> None:
    """Each argument of each command, each odd value, signed and not."""
    app, count, before = live.app, 0, len(live.worker.output())
    for command in commands():
        if command.name in NOT_SENT:
            continue
        names = names_of(command) or ["none"]
        for name in [*names, "self", "worker"]:
            # Each restart starts every process anew: of these a few are enough.
            for at, value in enumerate(ODD[:3] if command.name == "pool_restart" else ODD):
                needed = {n: SOUND[n] for n in names if n in SOUND}
                request = wire.Request(command.name, {**needed, name: value})
                raw = signed(request) if at % 2 else wire.encode_request(request)
                app.broker.broadcast(app.control.exchange, "", raw)
                count += 1
            assert live.ask("ping") == {"ok": "pong"}, (command.name, name)
        # Undo what a right value has done, then work.
        live.ask("time_limit", task_name="served.add", soft=None, hard=None)
        live.ask("rate_limit", task_name="served.add", rate_limit=0)
        live.ask("add_consumer", queue="celery")
        size = live.ask("stats")["pool"]["max-concurrency"]
        if size > 2:
            live.ask("pool_shrink", n=size - 2)
        assert app.send_task("served.add", (1, 2)).get(timeout=100) == 3, command.name
    assert count > 2000
    assert live.worker.is_running
    assert "Traceback" not in live.worker.output()[before:]


@pytest.mark.parametrize(
    ("method", "arguments", "word"),
    [
        ("add_consumer", {"queue": None}, "queue"),
        ("add_consumer", {"queue": 5}, "queue"),
        ("add_consumer", {"queue": []}, "queue"),
        ("add_consumer", {"queue": "\ud800"}, "queue"),
        ("add_consumer", {}, "queue"),
        ("cancel_consumer", {"queue": ["celery"]}, "queue"),
        ("time_limit", {"task_name": "served.add", "soft": "a"}, "soft"),
        ("time_limit", {"task_name": "served.add", "soft": -1}, "soft"),
        ("time_limit", {"task_name": "served.add", "soft": 1e30}, "soft"),
        ("time_limit", {"task_name": "served.add", "soft": 1, "hard": float("nan")}, "hard"),
        ("rate_limit", {"task_name": "served.add", "rate_limit": "1e-320/h"}, "rate"),
        ("pool_grow", {"n": 0.5}, "n"),
        ("autoscale", {"max": "many", "min": 1}, "max"),
        ("revoke", {"task_id": [5]}, "task_id"),
        ("query_task", {"ids": 5}, "ids"),
    ],
)
def test_a_wrong_argument_is_named(live: Live, method: str, arguments: dict[str, Any], word: str) -> None:
    answer = live.ask(method, **arguments)

    assert word in answer["error"], answer
    assert "Error(" not in answer["error"]
    assert app_works(live)


def test_requests_that_arrive_together_all_count(live: Live) -> None:
    """Each is checked against what the ones before it will have done."""
    before = live.ask("stats")["pool"]["max-concurrency"]
    live.worker.stop()
    for number in range(5):
        live.app.control.tell("cancel_consumer", {"queue": "celery"})
        live.app.control.tell("add_consumer", {"queue": "celery"})
        live.app.control.tell("add_consumer", {"queue": f"together{number}"})
        live.app.control.tell("pool_grow", {"n": 400})
        live.app.control.tell("pool_shrink", {"n": 400})
        live.app.control.tell("pool_shrink", {"n": before})
    live.worker.cont()

    wait_for(lambda: {f"together{number}" for number in range(5)} <= set(live.ask("stats")["queues"]))
    wait_for(lambda: live.ask("stats")["pool"]["max-concurrency"] == before)
    for number in range(5):
        live.ask("cancel_consumer", queue=f"together{number}")
    assert app_works(live)
    assert live.worker.is_running


def app_works(live: Live) -> bool:
    return bool(live.app.send_task("served.add", (1, 2)).get(timeout=100) == 3)


def test_numbers_in_text_are_numbers_as_on_the_command_line() -> None:
    assert find("pool_grow").checked({"n": "2"}) == {"n": 2}
    assert find("time_limit").checked({"task_name": "a", "soft": "1.5"}) == {"task_name": "a", "soft": 1.5}


# --- patterns


@pytest.mark.parametrize(
    "pattern", [".?" * 120 + "!", "(a|a)" * 50 + "!", "a*" * 4 + "(b|b)" * 30, ".{0,9}" * 20 + "!"]
)
def test_a_costly_pattern_does_not_stop_a_worker(live: Live, pattern: str) -> None:
    raw = wire.encode_request(wire.Request("ping", {}, pattern=pattern, matcher="pcre"))
    live.app.broker.broadcast(live.app.control.exchange, "", raw)

    assert live.ask("ping") == {"ok": "pong"}


def test_an_ordinary_pattern_chooses(live: Live) -> None:
    def replies(pattern: str, timeout_s: float) -> dict[str, Any]:
        return live.app.control.ask("ping", timeout_s=timeout_s, pattern=pattern, matcher="pcre").replies

    assert replies(r"w\d+@(test|prod|stage)$", 60) == {NODE: {"ok": "pong"}}
    assert replies("w2@.*", 0.5) == {}


# --- the log


def test_samples_of_memory_are_printed_once() -> None:
    sample, dump = find("memsample"), find("memdump")
    assert sample is not None and dump is not None
    dump.handler(None)
    taken = [sample.handler(None) for _ in range(3)]

    lines = dump.handler(None, **dump.checked({"samples": "2"})).splitlines()

    assert lines[0] == "- rss (sample):"
    assert [line.removeprefix("-    > ").rstrip(",") for line in lines[1:3]] == taken[:2]
    assert lines[3].startswith("- rss (end): ") and len(lines) == 4
    assert len(dump.handler(None).splitlines()) == 1


def test_what_refers_to_objects_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    command, drawn = find("objgraph"), list[Any]()
    assert command is not None
    with pytest.raises(ValueError, match="objgraph is not installed"):
        command.handler(None)
    graphs = types.ModuleType("objgraph")
    vars(graphs).update(
        by_type=lambda name: [f"{name} {number}" for number in range(5)],
        show_backrefs=lambda objects, **options: drawn.append((objects, options)),
    )
    monkeypatch.setitem(sys.modules, "objgraph", graphs)

    reply = command.handler(None, **command.checked({"num": 2, "max_depth": 3, "type": "Request"}))

    ((objects, options),) = drawn
    assert objects == ["InFlight 0", "InFlight 1"]  # what a request is called here
    assert reply == {"filename": options["filename"]} and options["max_depth"] == 3
    assert options["filename"].endswith(".png") and options["highlight"](objects[0])
    Path(options["filename"]).unlink()


def test_what_fails_and_wants_no_reply_is_in_the_log(redis_url: str, processes: Processes) -> None:
    worker = processes.start_qcore_worker(
        redis_url, "-c", "1", "-P", "threads", name="w2@test", app="tests.projects.served"
    )
    with_log = App("asker", broker=redis_url, set_as_current=False)

    with_log.control.tell("rate_limit", {"task_name": "no.such.task", "rate_limit": "1/s"})
    with_log.control.tell("time_limit", {"task_name": "served.add", "soft": "soon"})
    with_log.control.tell("no_such_command")

    worker.wait_output("WARNING.*rate_limit.*unknown task")
    worker.wait_output("WARNING.*time_limit.*soft")
    worker.wait_output("WARNING.*no_such_command")
    with_log.close()
