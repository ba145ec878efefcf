"""The app."""

from celery import Celery, signals
from celery.schedules import crontab

from tests.projects.patterns import note

from .config import Config
from .schedules import Initiated

app = Celery("store", task_cls="tests.projects.patterns.store.task:ScopedTask")
app.config_from_object(Config)
app.conf.beat_schedule = {
    "nightly": {"task": "store.export", "schedule": crontab(hour=0, minute=0), "args": (3,)},
    "often": {"task": "store.notify", "schedule": Initiated(start=5.0)},
}
app.autodiscover_tasks(lambda: ["tests.projects.patterns.store"])
app.autodiscover_tasks(["tests.projects.patterns.store"], related_name="exports")


@signals.setup_logging.connect
def own_logging(**kwargs: object) -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="own %(name)s %(message)s")


@signals.worker_process_init.connect
def process(**kwargs: object) -> None:
    note("process")
