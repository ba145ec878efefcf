"""Exports, whose failures are events."""

from typing import Any

from tests.projects.patterns import note

from .celery import app


def on_failure(self: Any, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
    note("export failed", args, einfo.type.__name__, exc, "in export" in einfo.traceback)


def on_success(self: Any, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
    note("export done", args, retval)


@app.task(name="store.export", queue="exports", on_failure=on_failure, on_success=on_success)
def export(rows: int) -> list[int]:
    if not rows:
        raise LookupError("nothing to export")
    return list(range(rows))
