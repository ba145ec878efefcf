"""A project with two packages that lock: celery-singleton and celery-once."""

import os
import time

from celery import Celery
from celery_once import QueueOnce
from celery_singleton import Singleton

url = os.environ["PACKAGES_URL"]
app = Celery("with_locks", broker=url, backend=url)
app.conf.ONCE = {
    "backend": "celery_once.backends.Redis",
    "settings": {"url": url, "default_timeout": 60 * 60},
}
app.conf.singleton_backend_url = url
app.conf.singleton_lock_expiry = 3600


def note(*words: object) -> None:
    with open(os.environ["PACKAGES_NOTES"], "a") as out:
        out.write(" ".join(map(str, words)) + "\n")


def gate() -> None:
    """Until the test opens it."""
    while not os.path.exists(os.environ["PACKAGES_NOTES"] + ".open"):
        time.sleep(0.02)


@app.task(base=Singleton, name="alone")
def alone(x: int) -> int:
    note("alone", x)
    gate()
    return x


@app.task(base=Singleton, name="by.key", unique_on=["key"], raise_on_duplicate=True)
def by_key(key: str, number: int) -> str:
    note("by key", key, number)
    gate()
    return key


@app.task(base=Singleton, name="broken")
def broken() -> None:
    raise KeyError("broken")


@app.task(base=QueueOnce, name="once")
def once(x: int) -> int:
    note("once", x)
    gate()
    return x


@app.task(base=QueueOnce, name="graceful", once={"graceful": True, "keys": ["x"]}, bind=True)
def graceful(self: QueueOnce, x: int, y: int) -> int:
    note("graceful", x, y, self.request.retries)
    gate()
    return x


@app.task(base=QueueOnce, name="early", once={"unlock_before_run": True})
def early(x: int) -> int:
    note("early", x)
    gate()
    return x
