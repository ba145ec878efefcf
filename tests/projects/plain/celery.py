"""The app: its settings, its base class, its signals."""

import os
from typing import Any

from celery import Celery, Task, signals
from celery.schedules import crontab
from celery.utils.log import get_task_logger

logger = get_task_logger(__name__)


def note(*words: object) -> None:
    with open(os.environ["SHOP_NOTES"], "a") as out:
        out.write(" ".join(map(str, words)) + "\n")


class Scoped(Task):
    """Opens a scope around each run, and notes what became of it."""

    abstract = True
    scope = "none"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.scope = "open"
        try:
            return super().__call__(*args, **kwargs)
        finally:
            self.scope = "closed"

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note("failed", self.name, repr(exc), einfo.type.__name__, "Traceback" in einfo.traceback)

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note("retry", self.name, repr(exc))

    def after_return(self, status: str, retval: Any, task_id: str, *about: Any) -> None:
        note("after", self.name, status, retval if status == "SUCCESS" else type(retval).__name__)


app = Celery("plain", task_cls="tests.projects.plain.celery:Scoped")
app.config_from_object("tests.projects.plain.settings", namespace="SHOP")
app.autodiscover_tasks(lambda: ["tests.projects.plain"])


@app.on_after_configure.connect
def periodic(sender: Any, **kwargs: Any) -> None:
    sender.add_periodic_task(crontab(hour=3, minute=0), sender.signature("plain.mail", args=("nightly",)))


@signals.worker_process_init.connect
def process(**kwargs: Any) -> None:
    note("process")


@signals.task_prerun.connect
def before(task_id: str, task: Any, **kwargs: Any) -> None:
    note("before", task.name)


@signals.before_task_publish.connect
def publish(headers: Any, **kwargs: Any) -> None:
    headers["tenant"] = "t1"


@signals.worker_shutdown.connect
def end(**kwargs: Any) -> None:
    note("end")
