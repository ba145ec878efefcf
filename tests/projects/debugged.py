"""A task with a breakpoint, as a project of Celery has it."""

from celery import Celery
from celery.contrib import rdb

app = Celery("debugged")


@app.task(name="debugged.add")
def add(x, y):
    total = x + y
    rdb.set_trace()
    return total
