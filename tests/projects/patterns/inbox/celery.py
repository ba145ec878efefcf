"""The app."""

from typing import Any

from celery import Celery, Task
from celery.worker.request import Request

from tests.projects.patterns import note

LEGACY = {"region": "eu"}


class InboxRequest(Request):
    """Keeps the headers of a call."""


class InboxTask(Task):
    Request = "tests.projects.patterns.inbox.celery:InboxRequest"
    silo = "control"

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        note("send", self.name, self.silo)
        options["headers"] = {**LEGACY, **(options.get("headers") or {})}
        return super().apply_async(args, kwargs, **options)

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        note("begin", self.name, self.request.headers.get("region") if self.request.headers else None)


class InboxCelery(Celery):
    task_cls = InboxTask

    def gen_task_name(self, name: str, module: str) -> str:
        return f"inbox.{name}"


app = InboxCelery("inbox")
app.config_from_object("tests.projects.patterns.inbox.settings")
app.autodiscover_tasks(list)


def instrumented(name: str, **options: Any) -> Any:
    """The decorator of the project."""

    def wrapped(function: Any) -> Any:
        return app.task(name=name, **options)(function)

    return wrapped
