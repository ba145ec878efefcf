"""A project that Sentry watches. What it would send goes to a file."""

import json
import os
from typing import Any

import sentry_sdk
from celery import Celery, Task
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport

url = os.environ["PACKAGES_URL"]


class ToFile(Transport):
    def capture_envelope(self, envelope: Any) -> None:
        with open(os.environ["PACKAGES_NOTES"], "a") as out:
            for item in envelope.items:
                event = item.payload.json or {}
                if item.type in ("event", "transaction"):
                    out.write(json.dumps({"kind": item.type, **event}, default=str) + "\n")

    def flush(self, *args: Any, **kwargs: Any) -> None:
        with open(os.environ["PACKAGES_NOTES"], "a") as out:
            out.write(json.dumps({"kind": "flush"}) + "\n")


sentry_sdk.init(
    dsn="http://key@localhost/1",
    transport=ToFile,
    traces_sample_rate=1.0,
    integrations=[CeleryIntegration()],
    default_integrations=False,
)
app = Celery("with_sentry", broker=url, backend=url)


class Wrapped(Task):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


@app.task(name="fine")
def fine(x: int) -> int:
    return x


@app.task(name="broken")
def broken(x: int) -> float:
    return x / 0


@app.task(name="wrapped", base=Wrapped)
def wrapped() -> None:
    raise KeyError("wrapped")


@app.task(name="expected", throws=(KeyError,))
def expected() -> None:
    raise KeyError("expected")


@app.task(name="again", bind=True, max_retries=1)
def again(self: Any) -> None:
    raise self.retry(countdown=0, exc=ConnectionError("again"))


@app.task(name="later")
async def later() -> None:
    raise LookupError("later")
