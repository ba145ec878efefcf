"""Notifications."""

from typing import Any

from celery import chain, group, shared_task
from celery.utils.log import get_task_logger

from tests.projects.patterns import note

from .celery import app
from .task import SCOPE, ScopedTask

logger = get_task_logger(__name__)


class Unreachable(Exception): ...


@app.task(
    name="store.notify",
    bind=True,
    autoretry_for=(Unreachable,),
    retry_backoff=1,
    retry_backoff_max=1,
    retry_jitter=False,
    retry_kwargs={"max_retries": 2},
)
def notify(self: Any, who: str, fails: int = 0) -> str:
    logger.info("notify %s", who)
    note("notify", who, self.request.retries, SCOPE.get())
    if self.request.retries < fails:
        raise Unreachable(who)
    return f"{who} after {self.request.retries}"


@app.task(name="store.pay", bind=True, max_retries=1)
def pay(self: Any, amount: int) -> str:
    try:
        raise ConnectionError("the bank is away")
    except ConnectionError as exc:
        if self.request.retries:
            return f"paid {amount} at {self.request.retries}"
        raise self.retry(exc=exc, countdown=0, kwargs={"amount": amount + 1}, args=()) from exc


@shared_task(name="store.join")
def join(parts: list[str]) -> str:
    return ", ".join(parts)


def calls() -> dict[str, Any]:
    """What the client does."""
    from .exports import export

    sent = {
        "group": group([notify.s("a"), notify.s("b", 1)]).apply_async(expires=120),
        "chain": chain(group([notify.s("c"), notify.s("d")]), join.s()).apply_async(),
        "given up": notify.delay("e", 9),
        "paid": pay.delay(10),
        "exports": export.delay(2),
        "bad export": export.delay(0),
    }
    found: dict[str, Any] = {}
    for name, result in sent.items():
        try:
            found[name] = result.get(timeout=90)
        except Exception as exc:
            found[name] = f"{type(exc).__name__}: {exc}"
    found["eager"] = notify.apply(("f",)).get()
    found["called"] = notify("g")
    found["bases"] = [isinstance(notify, ScopedTask), isinstance(join, ScopedTask)]
    return found
