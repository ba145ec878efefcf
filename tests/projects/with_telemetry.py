"""A project that OpenTelemetry instruments, as its documentation says. Spans go to a file."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.projects.span_file import ToFile

url = os.environ["PACKAGES_URL"]
app = Celery("with_telemetry", broker=url, backend=url)


def instrument() -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ToFile()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()


@worker_process_init.connect(weak=False)
def start(**about: Any) -> None:
    instrument()


@app.task(name="add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="fail")
def fail() -> None:
    raise KeyError("expected")


@app.task(name="flaky", bind=True, default_retry_delay=0)
def flaky(self: Any) -> int:
    if not self.request.retries:
        raise self.retry(exc=ConnectionError("first"), countdown=0)
    return int(self.request.retries)


@app.task(name="outer")
def outer() -> None:
    add.delay(3, 4)


@app.task(name="grouped")
def grouped(x: int) -> int:
    return x
