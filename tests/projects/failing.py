"""Tasks that fail in every way, and one that fails until a file is there."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from qcore import App
from qcore.errors import Ignore, Reject

app = App("failing", **json.loads(os.environ.get("FAILING_SETTINGS", "{}")))


@app.task(name="failing.read")
def read(path: str, user: Any = None) -> str:
    return Path(path).read_text()


@app.task(name="failing.again", bind=True, max_retries=1)
def again(self: Any) -> None:
    try:
        raise ConnectionError("nobody there")
    except ConnectionError as exc:
        raise self.retry(exc=exc, countdown=0) from None


@app.task(name="failing.early", acks_late=False)
def early() -> None:
    raise KeyError("early")


@app.task(name="failing.ignored", ignore_result=True)
def ignored() -> None:
    raise LookupError("nobody looks")


@app.task(name="failing.slow", time_limit=0.2)
def slow() -> None:
    time.sleep(60)


@app.task(name="failing.ends")
def ends(how: str) -> str:
    """What is no failure."""
    if how == "ignore":
        raise Ignore
    if how == "reject":
        raise Reject("unwanted")
    return how


@app.task(name="failing.nothing")
def nothing(*args: Any) -> None:
    if args:
        raise ValueError(*args)
