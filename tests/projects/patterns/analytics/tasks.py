"""Events in, numbers out."""

from typing import Any

from celery import current_app, current_task, group, shared_task

from .celery import app, count, sweep


@shared_task(name="analytics.ingest", bind=True, max_retries=2, default_retry_delay=0, ignore_result=False)
def ingest(self: Any, event: dict[str, Any], fails: int = 0) -> str:
    if self.request.retries < fails:
        raise self.retry(exc=OSError("the store is away"))
    return f"{event['name']} by {current_task.name} of {current_app.main}"


@app.task(name="analytics.bad", ignore_result=False)
def bad() -> None:
    raise ZeroDivisionError("a rate of nothing")


def calls() -> dict[str, Any]:
    """What the client does."""
    found: dict[str, Any] = {
        "ignored": count.delay(1).get(timeout=5),
        "kept": count.apply_async((2,), ignore_result=False).get(timeout=90),
        "sweep": sweep.delay().get(timeout=90),
        "ingest": ingest.delay({"name": "view"}, fails=1).get(timeout=90),
        "group": group(ingest.s({"name": n}) for n in "ab").apply_async().get(timeout=90),
        "periodic": sorted(app.conf.beat_schedule) if app.conf.timezone is None else [],
    }
    for name, sent in {"bad": bad.delay(), "given up": ingest.delay({"name": "x"}, fails=9)}.items():
        try:
            sent.get(timeout=90)
        except Exception as exc:
            found[name] = f"{type(exc).__name__}: {exc}"
    return found
