"""The app, its serializer and its signals."""

import hashlib
import json
import os
from typing import Any

from celery import Celery, signals
from kombu.serialization import register

from tests.projects.patterns import note

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.projects.patterns.documents.settings")
KEY = b"a key of the project's"
#: of a chord it is a task of its own in qcore only (docs/celery.md)
ERRBACK = "documents.regret"


def seal(value: Any) -> bytes:
    data = json.dumps(value, default=list).encode()
    return hashlib.sha256(KEY + data).hexdigest().encode() + data


def unseal(raw: Any) -> Any:
    raw = bytes(raw)
    if hashlib.sha256(KEY + raw[64:]).hexdigest().encode() != raw[:64]:
        raise ValueError("the seal is broken")
    return json.loads(raw[64:])


register("sealed", seal, unseal, content_type="application/x-sealed", content_encoding="binary")
app = Celery("documents")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.before_task_publish.connect
def publishing(sender: Any = None, headers: Any = None, body: Any = None, **kwargs: Any) -> None:
    if sender != ERRBACK:
        note("publish", sender, headers["task"], list(body[0]), headers.get("trigger"))


@signals.task_prerun.connect
def starting(task_id: str, task: Any, **kwargs: Any) -> None:
    if task.name != ERRBACK:
        note("start", task.name, getattr(task.request, "trigger", None))


@signals.task_postrun.connect
def done(task: Any, state: str, retval: Any, **kwargs: Any) -> None:
    if task.name != ERRBACK:
        note("done", task.name, state, retval)


@signals.task_failure.connect
def failing(sender: Any, exception: BaseException, traceback: Any, **kwargs: Any) -> None:
    note("failure", sender.name, repr(exception), traceback is not None)


@signals.task_revoked.connect
def revoked(sender: Any, request: Any, terminated: bool, signum: Any, expired: bool, **kwargs: Any) -> None:
    note("revoked", sender.name, terminated, expired)


@signals.worker_process_init.connect
def process(**kwargs: Any) -> None:
    note("process")


@signals.worker_ready.connect
def ready(**kwargs: Any) -> None:
    note("ready")
