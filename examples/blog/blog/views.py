"""The pages."""

from celery import chord
from celery.result import AsyncResult
from flask import Blueprint, request

from . import tasks

pages = Blueprint("pages", __name__)


@pages.post("/posts")
def post() -> tuple[dict[str, object], int]:
    posts = request.get_json()
    sent = chord([tasks.publish.s(name, text) for name, text in posts.items()], tasks.index.s()).delay()
    return {"id": sent.id}, 202


@pages.post("/posts/<name>")
def publish(name: str) -> tuple[dict[str, object], int]:
    return {"id": tasks.publish.delay(name, request.get_data(as_text=True)).id}, 202


@pages.delete("/posts/<name>")
def remove(name: str) -> tuple[dict[str, object], int]:
    tasks.remove.delay(name)
    return {}, 202


@pages.get("/tasks/<task_id>")
def task(task_id: str) -> dict[str, object]:
    result = AsyncResult(task_id)
    if not result.ready():
        return {"ready": False, "successful": None, "value": None}
    done = result.successful()
    return {"ready": True, "successful": done, "value": result.result if done else repr(result.result)}
