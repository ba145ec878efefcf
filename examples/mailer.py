"""Mails: a rate limit, retries, priorities of queues, and periodic tasks.

    celery -A mailer worker -Q mails,bulk        celery -A mailer beat
    python -c "import mailer; mailer.main()"

REDIS_URL is the broker and the store of results; MAILER_OUTBOX the folder where mails are put; MAILER_EVERY_S
the seconds between two reminders.
"""

import json
import os
import time
from datetime import timedelta
from pathlib import Path

from celery import Celery, group
from celery.schedules import crontab
from celery.signals import task_failure, task_retry

url = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
app = Celery("mailer", broker=url, backend=url)
app.conf.task_default_queue = "mails"
app.conf.task_routes = [{"mailer.send_bulk": "bulk"}]
app.conf.timezone = "Europe/Berlin"
every_s = float(os.environ.get("MAILER_EVERY_S", "300"))
app.conf.beat_schedule = {
    "reminders": {
        "task": "mailer.remind",
        "schedule": timedelta(seconds=every_s),
        "args": ("unpaid",),
        "options": {"expires": 600},
    },
    "newsletter": {"task": "mailer.newsletter", "schedule": crontab(hour=7, minute=30, day_of_week="mon")},
}

READERS = [f"reader{n}@example.org" for n in range(9)]


class MailboxFull(Exception):
    pass


@app.on_after_configure.connect
def nightly(sender, **kwargs):
    sender.add_periodic_task(crontab(hour=3, minute=0), clean.s(days=30), name="clean")
    sender.add_periodic_task(every_s, count.s().set(queue="bulk"), kwargs={"what": "mails"})


def outbox():
    folder = Path(os.environ.get("MAILER_OUTBOX", "outbox"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def put(name, **mail):
    (outbox() / f"{name}.json").write_text(json.dumps(mail))


@app.task
def send(to, subject):
    put(f"{subject}-{to}", to=to, subject=subject)
    return to


@app.task(rate_limit="5/s", ignore_result=True)
def send_bulk(to, subject):
    """At most five in a second, in each worker."""
    put(f"{subject}-{to}", to=to, subject=subject, at=time.time())


@app.task(bind=True, max_retries=2)
def send_to_full_mailbox(self, to, room_after):
    """Succeeds once the mailbox has room, after so many attempts."""
    try:
        if self.request.retries < room_after:
            raise MailboxFull(to)
    except MailboxFull as exc:
        raise self.retry(exc=exc, countdown=0) from exc
    return send.run(to, f"after-{self.request.retries}-retries")


@app.task
def newsletter():
    """One task for each reader."""
    group(send_bulk.s(reader, "news") for reader in READERS).delay()
    return len(READERS)


@app.task
def remind(kind):
    return send.run("debtor@example.org", kind)


@app.task
def count(what):
    """A line of statistics, numbered."""
    number = len(list(outbox().glob("count-*")))
    put(f"count-{number}", what=what, queue=count.request.delivery_info["routing_key"])


@app.task
def clean(days):
    border = time.time() - days * 86400
    old = [path for path in outbox().iterdir() if path.stat().st_mtime < border]
    for path in old:
        path.unlink()
    return len(old)


@task_retry.connect
def note_retry(sender, request, reason, **kwargs):
    put(f"retry-{request.args[0]}-{request.retries}", reason=str(reason)[:40])


@task_failure.connect
def note_failure(sender, exception, args, **kwargs):
    put(f"failure-{args[0]}", error=type(exception).__name__)


def main():
    sent = [
        send.delay("boss@example.org", "report"),
        remind.delay("unpaid"),
        newsletter.delay(),
        clean.delay(1),
    ]
    found = [result.get(timeout=60) for result in sent]
    for mailbox, room_after in (("roomy", 0), ("tidy", 2), ("full", 9)):
        result = send_to_full_mailbox.delay(mailbox, room_after)
        value = result.get(timeout=60, propagate=False)
        found.append([result.state, value if isinstance(value, str) else type(value).__name__])
    later = send.apply_async(("later@example.org", "later"), countdown=1)
    found.append(later.get(timeout=60))
    print(json.dumps(found))
