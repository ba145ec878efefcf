"""Signals: who is called, when, in which process and with what. Celery is run beside."""

from __future__ import annotations

import gc
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

import celery.signals
import pytest

from qcore import App, signals
from qcore.brokers.contract.records import Message
from qcore.signals import Signal
from qcore.wire.envelope import wrap
from tests.support.processes import Processes
from tests.support.waiting import wait_for

WORDS = "x y"
BOTH = pytest.mark.parametrize(
    "kind",
    [lambda: Signal("s", WORDS), lambda: celery.signals.Signal(name="s", providing_args={"x", "y"})],
    ids=["qcore", "celery"],
)


def test_every_signal_of_celery_is_there_with_its_arguments() -> None:
    theirs = {n: s for n, s in vars(celery.signals).items() if isinstance(s, celery.signals.Signal)}

    for name, signal in theirs.items():
        ours = getattr(signals, name)
        assert ours.name == name
        assert set(signal.providing_args) <= set(ours.providing_args), name


@BOTH
def test_receivers_are_called_with_signal_sender_and_arguments(kind: Any) -> None:
    signal, heard = kind(), []

    @signal.connect
    def every(sender: Any, signal: Any, **kwargs: Any) -> str:
        heard.append((sender, signal, kwargs))
        return "answer"

    @signal.connect(sender="one")
    def only(**kwargs: Any) -> None:
        heard.append("only")

    answers = signal.send("".join(["o", "ne"]), x=1)

    assert heard == [("one", signal, {"x": 1}), "only"]
    assert answers == [(every, "answer"), (only, None)]
    assert signal.send(None) == [(every, "answer")]
    assert signal.has_listeners("other")
    assert bool(signal.disconnect(every)) and not signal.has_listeners("other")
    assert not signal.disconnect(every)


@BOTH
def test_a_receiver_that_raises_stops_nothing(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    signal, heard = kind(), []

    @signal.connect
    def bad(**kwargs: Any) -> None:
        raise LookupError("receiver")

    @signal.connect
    def good(**kwargs: Any) -> None:
        heard.append(1)

    with caplog.at_level(logging.ERROR):
        answers = signal.send(None)

    assert heard == [1]
    assert isinstance(answers[0][1], LookupError)
    assert "LookupError: receiver" in caplog.text


@BOTH
def test_receivers_are_not_kept_alive_unless_asked(kind: Any) -> None:
    signal, heard = kind(), []

    class Holder:
        def method(self, **kwargs: Any) -> None:
            heard.append("method")

    holder = Holder()
    signal.connect(holder.method)
    signal.connect(lambda **kwargs: heard.append("strong"), weak=False)
    signal.connect(lambda **kwargs: heard.append("weak"))
    gc.collect()
    signal.send(None)
    assert heard == ["method", "strong"]
    del holder
    gc.collect()
    signal.send(None)
    assert heard == ["method", "strong", "strong"]


@BOTH
def test_a_receiver_is_connected_once(kind: Any) -> None:
    signal, heard = kind(), []

    def one(**kwargs: Any) -> None:
        heard.append(1)

    def other(**kwargs: Any) -> None:
        heard.append(2)

    signal.connect(one)
    signal.connect(one)
    signal.connect(one, dispatch_uid="u")
    signal.connect(other, dispatch_uid="u")
    signal.send(None)

    assert heard == [1, 1]
    with pytest.raises(ValueError, match="keyword arguments"):
        signal.connect(lambda sender: None)


@BOTH
def test_a_receiver_is_called_again_until_it_succeeds(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda seconds: None)
    signal, heard = kind(), []

    @signal.connect(retry=True)
    def third_time(**kwargs: Any) -> str:
        heard.append(1)
        if len(heard) < 3:
            raise ConnectionError
        return "ok"

    assert [answer for _, answer in signal.send(None)] == ["ok"]
    assert len(heard) == 3
    assert bool(signal.disconnect(third_time))


def test_publishing_can_be_watched_and_changed(redis_url: str) -> None:
    app = App("client", broker=redis_url, set_as_current=False)
    after: list[Any] = []

    @signals.before_task_publish.connect(sender="t.add")
    def mark(headers: Any, body: Any, properties: Any, routing_key: str, **kwargs: Any) -> None:
        headers["trace"] = "abc"
        body[1]["more"] = routing_key
        properties["app_property"] = 1

    def seen(sender: str, headers: Any, body: Any, **kwargs: Any) -> None:
        after.append((sender, headers["trace"], body[1]))

    signals.after_task_publish.connect(seen)
    try:
        app.send_task("t.add", (1,), queue="watched")
        (raw,) = app.broker.administration.peek("watched", 5)
        app.send_task("t.other", (1,), queue="watched", headers={"trace": "own"})
    finally:
        signals.before_task_publish.disconnect(mark, sender="t.add")
        signals.after_task_publish.disconnect(seen)
        app.close()

    assert b'"trace":"abc"' in raw.replace(b" ", b"")
    assert after == [("t.add", "abc", {"more": "watched"}), ("t.other", "own", {})]


#: a message that is no call
OF_NO_TASK = wrap(b'["text"]', exchange="", routing_key="celery", headers={"lang": "py"})


def test_a_worker_sends_what_celerys_sends(redis_url: str, processes: Processes, tmp_path: Path) -> None:
    found, printed = {}, {}
    for package in ("celery", "qcore"):
        to = tmp_path / f"{package}.txt"
        env = {"SIGNALLED_BY": package, "SIGNALLED_URL": redis_url, "SIGNALLED_TO": str(to)}
        words = ("-A", "tests.projects.signalled", "worker", "-c", "1", "-n", "w1@test")
        start = processes.qctl if package == "qcore" else processes.celery
        worker = start(*words, *([] if package == "qcore" else ["-l", "INFO"]), env=env)
        wait_for(lambda to=to: to.exists() and "worker_ready" in to.read_text())
        client = App("client", broker=redis_url, set_as_current=False)
        ids = {}

        def run(name: str, *args: Any, client: App = client, ids: Any = ids, **options: Any) -> Any:
            result = client.send_task(f"signalled.{name}", args, **options)
            ids[result.id] = name
            return result

        run("add", 1, 2).get(timeout=60)
        with pytest.raises(KeyError):
            run("fail").get(timeout=60)
        with pytest.raises(KeyError):
            run("clumsy").get(timeout=60)
        wait_for(lambda to=to: "task_internal_error" in to.read_text())
        assert run("again").get(timeout=60) == 7
        run("tailed", link=client.signature("signalled.add", (5,))).get(timeout=60)
        run("ignored")
        assert run("proud").get(timeout=60) == 3
        run("missing")
        client.broker.publish([Message(OF_NO_TASK, "celery")])
        run("add", 3, 4, expires=-1)
        run("add", 5, 6).get(timeout=60)
        wait_for(
            lambda to=to: (
                to.read_text().count("task_unknown")
                and to.read_text().count("task_rejected")
                and to.read_text().count("task_revoked")
            )
        )
        worker.term()
        assert worker.wait() == 0
        client.close()
        lines = re.findall(r"^(?:\[.*: (\w+)/.*\] )?(printed .*)$", worker.output(), re.MULTILINE)
        printed[package] = Counter(lines)
        text = to.read_text()
        for task_id, name in ids.items():
            text = text.replace(task_id, f"<{name}>")
        text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<linked>", text)
        # Celery records the error of on_failure as a second failure.
        own = re.compile(r"\w+ task_(failure|postrun) signalled\.clumsy")
        found[package] = [line for line in text.splitlines() if not own.match(line)]
    ours, theirs = Counter(found["qcore"]), Counter(found["celery"])
    assert printed["qcore"] == printed["celery"]
    assert {("", "printed worker worker_init"), ("WARNING", "printed worker worker_ready")} <= set(lines)
    assert ours == theirs, f"\nqcore only: {ours - theirs}\ncelery only: {theirs - ours}"
