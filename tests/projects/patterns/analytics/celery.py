"""The app, its periodic tasks and its counters."""

import os
from typing import Any

from celery import Celery
from celery.schedules import crontab
from celery.signals import (
    setup_logging,
    task_failure,
    task_postrun,
    task_prerun,
    task_retry,
    task_success,
    worker_process_init,
)

from tests.projects.patterns import note

app = Celery("analytics", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, task_default_queue="events")
app.autodiscover_tasks(["tests.projects.patterns.analytics"])
app.steps["worker"]


@setup_logging.connect
def logs(loglevel: Any, logfile: Any, format: str, colorize: Any, **kwargs: Any) -> None:
    note("logging", logfile)


@worker_process_init.connect(weak=False)
def process(**kwargs: Any) -> None:
    note("process")


@task_prerun.connect
def before(task_id: str, task: Any, args: Any, kwargs: Any, **more: Any) -> None:
    note("before", task.name, list(args), kwargs)


@task_postrun.connect(dispatch_uid="after")
def after(task: Any, state: str, **more: Any) -> None:
    note("after", task.name, state)


@task_success.connect
def succeeded(sender: Any, result: Any, **more: Any) -> None:
    note("success", sender.name, result)


@task_failure.connect
def failed(sender: Any, exception: BaseException, einfo: Any, **more: Any) -> None:
    note("failure", sender.name, type(exception).__name__, einfo.type.__name__)


@task_retry.connect
def retried(sender: Any, request: Any, reason: Any, einfo: Any, **more: Any) -> None:
    note("retry", sender.name, request.retries)


@app.on_after_configure.connect
def set_up_periodic(sender: Any, **kwargs: Any) -> None:
    sender.add_periodic_task(crontab(minute="0", hour="4"), count.s(5), name="nightly count")
    sender.add_periodic_task(30.0, sweep.s(), name="sweep", expires=10)


@app.task(name="analytics.count")
def count(number: int) -> int:
    return number + 1


@app.task(name="analytics.sweep", ignore_result=False)
def sweep() -> str:
    return "swept"
