"""An ordinary project of Celery's whose queues have exchanges, bindings, arguments and priorities."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery
from kombu import Exchange, Queue, binding
from kombu.common import Broadcast

app = Celery("with_queues")
MEDIA = Exchange("media", "topic")
app.conf.update(
    task_default_queue="standard",
    task_default_exchange="work",
    task_default_routing_key="work.standard",
    task_queue_max_priority=5,
    task_queues=[
        Queue("standard"),
        Queue("pictures", MEDIA, routing_key="media.picture.#"),
        Queue("films", MEDIA, routing_key="media.film.#", queue_arguments={"x-message-ttl": 3600000}),
        Queue(
            "all_media", [binding(MEDIA, routing_key="media.#"), binding(Exchange("odd"), routing_key="o")]
        ),
        Queue("urgent", Exchange("urgent", durable=False), routing_key="u", max_priority=9),
        Queue("news", Exchange("news", "fanout"), durable=False),
        Queue("by_header", Exchange("by_header", "headers"), routing_key=""),
        Broadcast("reload"),
    ],
    task_routes={
        "with_queues.picture": {"queue": "pictures", "routing_key": "media.picture.new"},
        "with_queues.reload": {"queue": "reload"},
    },
)


@app.task(bind=True, name="with_queues.picture")
def picture(self, number):
    return number, self.request.delivery_info["routing_key"]


@app.task(bind=True, name="with_queues.reload")
def reload(self, number):
    with Path(os.environ["RELOAD_LOG"]).open("a") as log:
        log.write(f"{self.request.hostname} {number}\n")
