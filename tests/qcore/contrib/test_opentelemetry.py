"""The setting `tracing`: the spans of calls and runs, as an exporter of OpenTelemetry's SDK gets them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from qcore import App, chain, chord, group
from qcore.contrib import opentelemetry as tracing
from qcore.errors import ConfigError
from qcore.testing import in_memory_app, start_worker
from tests.support.processes import ROOT, Processes
from tests.support.waiting import wait_for

PRODUCER, CONSUMER = SpanKind.PRODUCER, SpanKind.CONSUMER


@pytest.fixture(scope="module")
def collected() -> InMemorySpanExporter:
    """What the provider of this process exports; it can be set once."""
    found, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    trace.set_tracer_provider(provider)
    return found


@pytest.fixture
def exporter(collected: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    collected.clear()
    yield collected
    tracing.uninstall()


@pytest.fixture
def app(exporter: InMemorySpanExporter) -> Iterator[App]:
    with in_memory_app(tracing=True) as made:

        @made.task(name="add")
        def add(x: int, y: int) -> int:
            return x + y

        @made.task(name="total")
        def total(values: list[int]) -> int:
            return sum(values)

        @made.task(name="fail")
        def fail() -> None:
            raise KeyError("boom")

        @made.task(name="expected", throws=(KeyError,))
        def expected() -> None:
            raise KeyError("known")

        @made.task(name="flaky", bind=True)
        def flaky(self: Any) -> int:
            if not self.request.retries:
                raise self.retry(countdown=0, exc=ConnectionError("first"))
            return int(self.request.retries)

        @made.task(name="outer")
        def outer() -> None:
            add.delay(3, 4)

        @made.task(name="coroutine")
        async def coroutine() -> str:
            return f"{trace.get_current_span().get_span_context().span_id:x}"

        yield made


def spans(exporter: InMemorySpanExporter, ended: int) -> list[ReadableSpan]:
    """All spans, when that many runs have ended."""
    wait_for(lambda: sum(s.name.startswith("process ") for s in exporter.get_finished_spans()) == ended)
    return list(exporter.get_finished_spans())


def tree(found: list[ReadableSpan]) -> list[str]:
    """Each span as its path of names; all are of one trace."""
    assert len({span.context.trace_id for span in found}) == 1
    by_id = {span.context.span_id: span for span in found}

    def path(span: ReadableSpan) -> str:
        above = f"{path(by_id[span.parent.span_id])} > " if span.parent else ""
        return above + span.name

    return sorted(map(path, found))


def call(app: App, exporter: InMemorySpanExporter, name: str, ended: int, pool: str = "threads") -> list[Any]:
    with start_worker(app, pool=pool, concurrency=2, perform_ping_check=False):
        app.tasks[name].delay().get(timeout=30, propagate=False)
        return spans(exporter, ended)


@pytest.mark.parametrize("pool", ["threads", "solo", "asyncio"])
def test_a_run_is_inside_the_span_of_its_call_in_every_pool(
    pool: str, app: App, exporter: InMemorySpanExporter
) -> None:
    with start_worker(app, pool=pool, concurrency=1, perform_ping_check=False):
        result = app.tasks["coroutine"].delay()
        seen = result.get(timeout=30)
        found = spans(exporter, 1)

    assert tree(found) == ["send coroutine", "send coroutine > process coroutine"]
    producer, consumer = sorted(found, key=lambda span: span.name, reverse=True)
    assert (producer.kind, consumer.kind) == (PRODUCER, CONSUMER)
    assert seen == f"{consumer.context.span_id:x}"
    both = {
        "messaging.system": "celery",
        "messaging.destination.name": "celery",
        "messaging.message.id": result.id,
        "messaging.message.conversation_id": result.id,
        "celery.task_name": "coroutine",
        "celery.retries": 0,
    }
    send = {"messaging.operation.name": "send", "messaging.operation.type": "send"}
    process = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    assert producer.attributes == {**both, **send}
    assert consumer.attributes == {**both, **process, "celery.state": "SUCCESS"}


def test_a_call_in_a_task_is_inside_its_run(app: App, exporter: InMemorySpanExporter) -> None:
    found = call(app, exporter, "outer", 2)

    run = "send outer > process outer"
    assert tree(found) == ["send outer", run, f"{run} > send add", f"{run} > send add > process add"]


def test_a_failure_is_an_error_and_an_expected_exception_is_none(
    app: App, exporter: InMemorySpanExporter
) -> None:
    with start_worker(app, pool="threads", concurrency=1, perform_ping_check=False):
        for name in ("fail", "expected"):
            app.tasks[name].delay().get(timeout=30, propagate=False)
        runs = {s.name: s for s in spans(exporter, 2)}

    failed, expected = runs["process fail"], runs["process expected"]
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "'boom'")
    assert failed.attributes and failed.attributes["error.type"] == "KeyError"
    assert expected.status.status_code == StatusCode.UNSET
    for span in (failed, expected):
        (event,) = span.events
        assert event.attributes and event.attributes["exception.type"] == "KeyError"


def test_a_retry_is_a_span_of_the_same_trace_with_a_link_to_the_run_that_it_repeats(
    app: App, exporter: InMemorySpanExporter
) -> None:
    found = call(app, exporter, "flaky", 2)

    first, second = (s for s in found if s.name == "process flaky")
    again = "send flaky > process flaky > create flaky"
    assert tree(found)[2:] == [again, f"{again} > process flaky"]
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert not first.links and first.status.status_code == StatusCode.UNSET
    assert first.attributes and "ConnectionError" in str(first.attributes["celery.retry.reason"])
    assert second.attributes and second.attributes["celery.retries"] == 1


def test_a_chain_and_a_chord_are_one_trace_each(app: App, exporter: InMemorySpanExporter) -> None:
    add, total = app.tasks["add"], app.tasks["total"]
    with start_worker(app, pool="threads", concurrency=1, perform_ping_check=False):
        assert chain(add.s(1, 2), add.s(3))().get(timeout=30) == 6
        of_chain = spans(exporter, 2)
        exporter.clear()
        assert chord(group(add.s(i, i) for i in range(2)), total.s())().get(timeout=30) == 2
        of_chord = spans(exporter, 3)

    step = "send celery.chain > create add > process add"
    assert tree(of_chain)[-2:] == [f"{step} > create add", f"{step} > create add > process add"]
    member = "send celery.chord > create add > process add"
    assert tree(of_chord) == [
        "send celery.chord",
        *["send celery.chord > create add"] * 2,
        *[member] * 2,
        f"{member} > create total",
        f"{member} > create total > process total",
    ]


def test_a_call_that_cannot_be_published_is_an_error(app: App, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(TypeError):
        app.tasks["add"].delay(object(), 1)

    (span,) = exporter.get_finished_spans()
    assert (span.name, span.status.status_code) == ("send add", StatusCode.ERROR)


def test_celerys_instrumentation_makes_the_spans_where_it_is_active(
    app: App,
    exporter: InMemorySpanExporter,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def begins(**about: Any) -> None: ...

    begins.__module__ = CeleryInstrumentor.__module__
    tracing.task_prerun.connect(begins)
    try:
        with start_worker(app, pool="threads", concurrency=1, perform_ping_check=False):
            for _ in range(2):
                app.tasks["add"].delay(1, 1).get(timeout=30)
    finally:
        tracing.task_prerun.disconnect(begins)

    assert exporter.get_finished_spans() == ()
    said = [r.getMessage() for r in caplog.records if "is active too" in r.getMessage()]
    assert len(said) == 1


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "qcore.contrib.opentelemetry")
    app = App("bare", broker="memory://", set_as_current=False, tracing=True)

    with pytest.raises(ConfigError) as raised:
        app.send_task("add", (1, 1))

    words = "the setting tracing needs the package opentelemetry-api: pip install 'qctl[otel]'"
    assert str(raised.value) == words


def test_what_belongs_to_a_trace_that_is_not_sampled_has_no_spans_and_keeps_its_trace(
    app: App, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    start_span = type(tracing._tracer).start_span
    monkeypatch.setattr(
        type(tracing._tracer),
        "start_span",
        lambda self, name, *more, **options: begun.append(name) or start_span(self, name, *more, **options),
    )
    parent = SpanContext(0x1234, 0x5678, is_remote=False, trace_flags=TraceFlags(0))

    with start_worker(app, pool="threads", concurrency=1, perform_ping_check=False):
        with trace.use_span(NonRecordingSpan(parent)):
            dropped = app.tasks["coroutine"].delay()
        assert dropped.get(timeout=30) == "5678"
        assert begun == []
        # A project's sampler may decide otherwise, so it is asked.
        monkeypatch.setattr(trace.get_tracer_provider(), "sampler", ALWAYS_ON)
        with trace.use_span(NonRecordingSpan(parent)):
            app.tasks["coroutine"].delay().get(timeout=30)
        wait_for(lambda: len(begun) == 2)
        assert begun == ["send coroutine", "process coroutine"]


GEVENT = """
import gevent
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from qcore import App

provider = TracerProvider()
exporter = ConsoleSpanExporter(formatter=lambda span: span.to_json(None) + chr(10))
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
app = App("traced", tracing=True)

def here():
    return trace.get_current_span().get_span_context().span_id

@app.task(name="switch")
def switch():
    before = here()
    for _ in range(5):
        gevent.sleep(0.01)
        assert here() == before
    return f"0x{before:016x}"
"""


def test_each_greenlet_of_the_gevent_pool_has_its_own_span(
    sqlite_url: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "traced.py").write_text(GEVENT)
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    worker = processes.start_qcore_worker(sqlite_url, "-P", "gevent", "-c", "4", app="traced", env=env)
    client = App("client", broker=sqlite_url, set_as_current=False)

    results = [client.send_task("switch") for _ in range(4)]
    seen = sorted(result.get(timeout=60) for result in results)

    wait_for(lambda: worker.output().count("process switch") == 4, 60)
    assert sorted(set(re.findall(r'"span_id": "(\w+)"', worker.output()))) == seen
    assert len(set(seen)) == 4
    client.close()
