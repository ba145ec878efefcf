"""result_serializer and result_compression in every store: Celery reads ours, and we read Celery's."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import celery
import celery.app.task
import kombu
import kombu.serialization
import pytest

from qcore import App
from qcore.base.times import new_id
from qcore.brokers.contract.records import StoredResult
from qcore.errors import ConfigError, EncodeError, Malformed
from qcore.execution.run import Run, RunContext
from qcore.wire import envelope
from qcore.wire import result as wire
from qcore.wire import task as task_wire
from qcore.wire.outcome import ChordPart, Job
from qcore.wire.result_form import ResultForm
from tests.support.memcached_server import Server  # noqa: F401  (its fixtures)

VALUE = {"text": "é" * 50, "list": [1, 2.5, None, {"a": True}]}
ALL = ["json", "yaml", "msgpack", "pickle", "backwards"]
CELERYS = ("redis", "file", "database", "memcached")


@pytest.fixture(autouse=True, scope="module")
def backwards() -> Iterator[None]:
    kombu.serialization.register(
        "backwards", lambda v: json.dumps(v)[::-1], lambda r: json.loads(r[::-1]), "application/x-backwards"
    )
    yield
    kombu.serialization.unregister("backwards")


@pytest.fixture
def places(redis_url: str, tmp_path: Path, memcached_place: str) -> dict[str, str]:
    return {
        "redis": redis_url,
        "file": f"file://{tmp_path}",
        "database": f"db+sqlite:///{tmp_path}/r.db",
        "memcached": f"cache+memcached://{memcached_place}/",
        "memory": "memory://",
        "sqlite": f"sqlite:///{tmp_path}/q.db",
    }


def apps(url: str, **settings: Any) -> tuple[App, celery.Celery]:
    ours = App("ours", broker="memory://", backend=url, set_as_current=False, **settings)
    theirs = celery.Celery("theirs", broker="memory://", backend=url, set_as_current=False)
    theirs.conf.update(settings)
    return ours, theirs


def store(app: App, value: Any, state: str = wire.SUCCESS) -> str:
    """Store it as a run does."""
    task_id, form = new_id(), app.result_form
    if isinstance(value, Exception):
        value = form.exception(value, wire.exception_data(value))
    meta = wire.encode(task_id, state, value, now=time.time(), form=form)
    app.results.store([StoredResult(task_id, meta, 60.0)])
    return task_id


@pytest.mark.filterwarnings("ignore:.*cannot store compressed:UserWarning")
@pytest.mark.parametrize("where", CELERYS)
def test_celery_and_qcore_read_each_others_results(places: dict[str, str], where: str) -> None:
    for serializer in ALL:
        for compression in (None, "gzip", "brotli"):
            settings = {
                "result_serializer": serializer,
                "result_compression": compression,
                "result_accept_content": [serializer],
            }
            ours, theirs = apps(places[where], **settings)

            assert (ours.result_form.compression is None) == (theirs.backend.compression is None)
            assert theirs.AsyncResult(store(ours, VALUE)).get(timeout=5, interval=0.01) == VALUE
            failed = theirs.AsyncResult(store(ours, LookupError("odd", 7), wire.FAILURE))
            assert failed.state == "FAILURE"
            assert type(failed.result) is LookupError and failed.result.args == ("odd", 7)

            good, bad = new_id(), new_id()
            theirs.backend.store_result(good, VALUE, "SUCCESS")
            theirs.backend.store_result(bad, LookupError("odd", 7), "FAILURE")
            assert ours.AsyncResult(good).get(timeout=5) == VALUE
            found = ours.AsyncResult(bad).result
            assert type(found) is LookupError and found.args == ("odd", 7)
            ours.close()


@pytest.mark.parametrize("where", ["redis", "file", "database", "memcached", "memory", "sqlite"])
def test_what_only_a_pickle_holds_comes_back(places: dict[str, str], where: str) -> None:
    app, _ = apps(places[where], result_serializer="pickle", result_accept_content=["pickle"])
    value = {1: {2, 3}, "when": datetime(2026, 1, 2), "exact": (1, 2)}

    assert app.AsyncResult(store(app, value)).get(timeout=5) == value
    app.GroupResult("g", [app.AsyncResult("a")]).save()
    restored = app.results.restore_group("g")
    assert restored is not None and restored[1][0][0][0] == "a"
    app.close()


def test_a_result_of_a_serializer_that_is_not_accepted_is_an_error_that_says_so(
    places: dict[str, str],
) -> None:
    words = r"content_disallowed: .*\(pickle\) is not accepted; result_accept_content names what is: json"
    for where in ("redis", "file", "database", "memcached"):
        app, _ = apps(places[where], result_serializer="pickle")

        with pytest.raises(Malformed, match=words):
            app.AsyncResult(store(app, VALUE)).get(timeout=5)
        app.close()


def test_rpc_messages_have_the_serializer_of_results(redis_url: str) -> None:
    for accept, wanted in ((["pickle"], wire.SUCCESS), (["json"], wire.FAILURE)):
        app = App(
            "x",
            broker=redis_url,
            backend="rpc://",
            set_as_current=False,
            result_serializer="pickle",
            result_accept_content=accept,
        )
        task_id, reply_to = new_id(), app.reply_to() or ""
        meta = wire.encode(task_id, wire.SUCCESS, {1: {2}}, now=0.0, form=app.result_form)

        message = app.results.reply(StoredResult(task_id, meta, None), reply_to, task_id)
        assert message is not None
        assert envelope.decode(message.raw).content_type == "application/x-python-serialize"
        app.broker.publish([message])

        found = app.results.wait(task_id, 10)
        assert found is not None and found.status == wanted
        app.close()


@pytest.mark.filterwarnings("ignore:.*cannot store compressed:UserWarning")
@pytest.mark.parametrize("persistent", [None, False, True])
def test_rpc_messages_are_sent_as_celery_sends_them(persistent: bool | None) -> None:
    """result_exchange and result_exchange_type have no effect on either."""
    settings = {
        "result_persistent": persistent,
        "result_exchange": "x",
        "result_exchange_type": "fanout",
        "result_compression": "gzip",
    }
    ours, theirs = apps("rpc://", **settings)
    with theirs.connection_for_write() as connection:
        queue = kombu.Queue("replies")(connection.default_channel)
        queue.declare()
        request = celery.app.task.Context(id="id", reply_to="replies", correlation_id="id")
        theirs.backend.store_result("id", VALUE, "SUCCESS", request=request)
        there = queue.get()

    meta = wire.encode("id", wire.SUCCESS, VALUE, now=0.0, form=ours.result_form)
    message = ours.results.reply(StoredResult("id", meta, None), "replies", "id")
    assert message is not None
    here = envelope.decode(message.raw)

    assert here.properties.delivery_mode == there.properties["delivery_mode"] == (2 if persistent else 1)
    assert here.properties.delivery_info["exchange"] == there.delivery_info["exchange"] == ""
    assert json.loads(envelope.body_bytes(here))["result"] == json.loads(there.body)["result"] == VALUE
    ours.close()


def test_an_unknown_serializer_or_compression_is_an_error_at_the_first_use() -> None:
    with pytest.raises(ConfigError, match="no serializer named 'pikle'"):
        _ = App("x", broker="memory://", result_serializer="pikle").results
    with pytest.raises(ConfigError, match="no compression named 'gzp'"):
        _ = App("x", broker="memory://", result_compression="gzp").results


class Stubborn(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("never")


def test_exceptions_in_pickled_results() -> None:
    """As themselves where that works, else as data; Celery's wrapper and an exit are not raised as such."""
    from celery.utils.serialization import get_pickleable_exception

    form = ResultForm("pickle", None, frozenset(("pickle",)))

    def back(value: Any) -> Exception:
        return wire.exception_from(form.loads(form.dumps(value)))

    assert isinstance(form.exception(KeyError("k"), {}), KeyError)
    assert form.exception(Stubborn("s"), {"exc_type": "Stubborn"}) == {"exc_type": "Stubborn"}
    assert form.exception(EncodeError("e"), {"exc_type": "EncodeError"}) == {"exc_type": "EncodeError"}
    assert type(back(KeyError("k"))) is KeyError
    assert str(back(get_pickleable_exception(Stubborn("s")))).startswith("Stubborn")
    assert type(back(SystemExit(3))).__name__ == "WorkerLostError"


WITHOUT_CELERY = """
import sys
sys.modules["celery"] = None
from qcore.wire import result
from qcore.wire.result_form import ResultForm
form = ResultForm("pickle", None, frozenset(("pickle",)))
for line in sys.stdin:
    print(result.exception_from(form.loads(bytes.fromhex(line))))
"""


def test_pickled_exceptions_of_celery_are_read_where_celery_is_not_installed() -> None:
    from celery.exceptions import TimeoutError
    from celery.utils.serialization import get_pickleable_exception

    given = [TimeoutError("late"), get_pickleable_exception(Stubborn("s"))]
    lines = "\n".join(pickle.dumps(one).hex() for one in given)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CELERY], input=lines, capture_output=True, text=True, check=True
    )

    assert done.stdout == "late\nStubborn: s\n"


def test_a_run_writes_its_result_and_its_part_of_a_chord_in_this_form(redis_url: str) -> None:
    app = App(
        "x",
        broker="memory://",
        backend=redis_url,
        set_as_current=False,
        result_serializer="pickle",
        result_compression="gzip",
        accept_content=["json", "pickle"],
    )

    @app.task(name="x.set")
    def of(n: int) -> Any:
        return {n}

    chord = {"task": "x.set", "args": [], "kwargs": {}, "options": {"task_id": "body"}}
    raw = task_wire.build("x.set", (1,), {}, task_id="t", group_id="g", group_index=0, embed={"chord": chord})
    app.tasks  # noqa: B018 (options are filled in)

    outcome = Run(Job(1, raw), RunContext(app, "n", frozenset(("json",)), None)).call()

    form = app.result_form
    assert outcome.meta is not None and outcome.meta.startswith(b"\x00celery-compressed\x00")
    assert form.loads(outcome.meta)["result"] == {1}
    assert outcome.before is not None
    part: ChordPart = outcome.before.parts[0]
    assert form.loads(part.entry) == [1, "t", "SUCCESS", {1}]
    again = wire.with_next_attempt(outcome.meta, form)
    assert wire.decode(again, "t", form).next_attempt
