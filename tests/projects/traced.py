"""A project of qcore with the setting `tracing`. Its spans are exported when a process ends."""

import os

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from qcore import App
from tests.projects.span_file import ToFile

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ToFile(), schedule_delay_millis=600_000))
trace.set_tracer_provider(provider)
url = os.environ["PACKAGES_URL"]
app = App("traced", broker=url, backend=url, tracing=True)


@app.task(name="relay")
def relay(x: int) -> int:
    """Runs at qcore's worker, and calls a task of Celery's."""
    app.send_task("outer")
    return x
