"""A FastAPI service that has its long work done by tasks.

    celery -A service worker        and        uvicorn service:api

REDIS_URL is the broker and the store of results; SERVICE_REPORTS the folder for finished reports.
"""

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from celery.result import AsyncResult
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

url = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
celery = Celery("service", broker=url, backend=url)
celery.conf.update(
    task_serializer="json",
    result_extended=True,
    task_track_started=True,
    task_soft_time_limit=30,
)
api = FastAPI()


class Order(BaseModel):
    title: str
    numbers: list[float]


@celery.task(name="reports.make", bind=True)
def make_report(self, title: str, numbers: list[float]) -> dict[str, Any]:
    """Says how far it is, and writes the report."""
    total = 0.0
    for done, number in enumerate(numbers):
        self.update_state(state="PROGRESS", meta={"done": done, "of": len(numbers)})
        total += number
    average = total / len(numbers)
    folder = Path(os.environ.get("SERVICE_REPORTS", "reports"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{title}.txt").write_text(f"{title}: {average:g} on average of {len(numbers)}\n")
    return {"title": title, "average": average}


@celery.task(name="reports.slow", soft_time_limit=1)
def slow_report() -> str:
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        return "cut short"
    return "complete"


@api.post("/reports", status_code=202)
def order(order: Order) -> dict[str, str]:
    task = make_report.delay(**order.model_dump())
    return {"id": task.id}


@api.post("/reports/slow", status_code=202)
def order_slow() -> dict[str, str]:
    return {"id": slow_report.apply_async(priority=3).id}


@api.get("/reports/{task_id}")
def status(task_id: str) -> dict[str, Any]:
    result = AsyncResult(task_id, app=celery)
    about = result.info  # read first: what is not ready below was not ready then either
    if result.failed():
        raise HTTPException(422, f"{type(result.result).__name__}: {result.result}")
    if not result.ready():
        return {"state": "waiting", "about": about}
    return {"state": result.state, "task": result.name, "value": result.get()}


@api.delete("/reports/{task_id}")
def forget(task_id: str) -> dict[str, str]:
    AsyncResult(task_id, app=celery).forget()
    return {"state": AsyncResult(task_id, app=celery).state}
