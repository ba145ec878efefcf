"""A project that OpenTelemetry instruments, as its documentation says. Spans go to a file."""

import json
import os
from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.signals import worker_process_init
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

url = os.environ["PACKAGES_URL"]
app = Celery("with_telemetry", broker=url, backend=url)


class ToFile(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with open(os.environ["PACKAGES_NOTES"], "a") as out:
            for span in spans:
                about = {
                    "name": span.name,
                    "kind": span.kind.name,
                    "trace": f"{span.context.trace_id:x}",
                    "id": f"{span.context.span_id:x}",
                    "parent": f"{span.parent.span_id:x}" if span.parent else None,
                    "status": span.status.status_code.name,
                    "words": span.status.description,
                    "events": [[e.name, (e.attributes or {}).get("exception.type")] for e in span.events],
                    "attributes": {k: v for k, v in (span.attributes or {}).items() if "hostname" not in k},
                }
                out.write(json.dumps(about) + "\n")
        return SpanExportResult.SUCCESS


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
