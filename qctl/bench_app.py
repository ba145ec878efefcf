"""The app of `qctl bench`: one task that does nothing."""

# mypy: disable-error-code="untyped-decorator"
# App.task takes options of many kinds, so its result has no type of its own.

from __future__ import annotations

from typing import Any

from qcore.app import App

QUEUE = "qctl.bench"
app = App("qctl.bench", set_as_current=False, worker_store_failed=False)


@app.task(name="qctl.bench.nothing")
def nothing(value: Any = None) -> Any:
    return value
