"""`queue ls`: backlog, age, consumers and rates of the queues.

In:  counts from the broker, pauses, answers of workers.  Out: one item for each queue.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand
from qctl.cli.global_options import WatchOption
from qctl.cli.session import Session, current
from qctl.cli.types import QueueName, Span, nearest
from qctl.fleet import queue_rates
from qctl.fleet.celery_workers import not_paused
from qctl.output.table import Column
from qctl.output.text import age, count, stamp

if TYPE_CHECKING:
    from qcore.brokers.contract.administration import Depth, Pause
    from qcore.control.client import Answers

ASK_S = 0.3
_COLUMNS = [
    Column("QUEUE"),
    Column("READY", True),
    Column("DELAYED", True),
    Column("IN FLIGHT", True),
    Column("OLDEST", True, "oldest_at"),
    Column("CONSUMERS", True),
]
_RATES = [Column("IN/S", True, "in_per_s"), Column("OUT/S", True, "out_per_s")]
_PAUSED = Column("PAUSED")
_LAST = "qctl.queue.ls"


def item_of(queue: str) -> dict[str, Any]:
    """The item of one queue, without its consumers."""
    session = current()
    return _items(session, [queue], session.broker.administration.depths([queue]), None)[0]


def show(items: Sequence[dict[str, Any]]) -> None:
    """Print queues in the format of `queue ls`."""
    rated = any(item["rates"] for item in items)
    columns = [*_COLUMNS, *(_RATES if rated else []), _PAUSED]
    rows = []
    for item in items:
        row = [item["queue"], *[_number(item[k]) for k in ("ready", "delayed", "in_flight")]]
        row += [_since(item["oldest_at"]), _number(item["consumers"])]
        row += queue_rates.words(item) if rated else []
        rows.append([*row, _words(item)])
    current().out.items("queue", items, columns, rows, "queue")


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _since(at: str | None) -> str:
    return age(None if at is None else time.time() - datetime.fromisoformat(at).timestamp())


def _words(item: dict[str, Any]) -> str:
    if not item["paused"]:
        return ""
    until, by, reason = (item[k] for k in ("paused_until_at", "paused_by", "pause_reason"))
    parts = ["yes", *([f"until {until}"] if until else []), *([f"by {by}"] if by else [])]
    but = f", not for {', '.join(item['pause_ignored_by'])}" if item["pause_ignored_by"] else ""
    return " ".join(parts) + (f": {reason}" if reason else "") + but


def _items(
    session: Session, queues: Sequence[str], depths: Sequence[Depth], consumers: Counter[str] | None
) -> list[dict[str, Any]]:
    pauses = {pause.queue: pause for pause in session.broker.administration.pauses()}
    return [
        {
            "queue": queue,
            "ready": depth.ready,
            "delayed": depth.delayed,
            "in_flight": depth.in_flight,
            "oldest_at": None if depth.oldest_at is None else stamp(depth.oldest_at),
            "consumers": None if consumers is None else consumers[queue],
            **_pause(pauses.get(queue)),
            **queue_rates.UNKNOWN,
            "pause_ignored_by": None if consumers is None else [],
        }
        for queue, depth in zip(queues, depths, strict=True)
    ]


def _pause(pause: Pause | None) -> dict[str, Any]:
    return {
        "paused": pause is not None,
        "paused_by": (pause.by or None) if pause else None,
        "pause_reason": (pause.reason or None) if pause else None,
        "paused_at": stamp(pause.at, False) if pause and pause.at is not None else None,
        "paused_until_at": stamp(pause.until, False) if pause and pause.until is not None else None,
    }


def _consumers(answers: Answers) -> Counter[str]:
    """Number of workers that consume from each queue."""
    found: Counter[str] = Counter()
    for queues in answers.replies.values():
        if isinstance(queues, list):
            found.update({str(q.get("name")) for q in queues if isinstance(q, dict)})
    return found


def _show_list(names: tuple[str, ...], rates_s: float | None) -> None:
    session, broker = current(), current().broker
    for name in names:
        refuse_unknown(name)
    last: queue_rates.QueueSample | None = None
    if rates_s is not None:
        known = sorted(broker.administration.queues())
        last = queue_rates.look(known, broker.administration.depths(known))
        time.sleep(rates_s)
    answers = session.app.control.ask("active_queues", timeout_s=ASK_S)
    consumers, silent = _consumers(answers), len(answers.silent)
    all_told = not silent and (answers.heard or 0) <= answers.count
    # RabbitMQ cannot list its queues, but the workers report theirs.
    queues = sorted(names or {*broker.administration.queues(), *broker.administration.paused(), *consumers})
    if not queues:
        broker.check()  # an empty list must not hide an unreachable broker
    depths = broker.administration.depths(queues)
    looked, meta = queue_rates.look(queues, depths), click.get_current_context().meta
    items = _items(session, queues, depths, consumers)
    found = queue_rates.rates(looked, last or meta.get(_LAST), queue_rates.taken(answers))
    ignored = not_paused(broker.administration.pauses(), answers)
    for item in items:
        if not item["consumers"] and not all_told:
            item["consumers"] = None  # a worker that did not answer may consume it
        item.update(found[item["queue"]], pause_ignored_by=ignored.get(item["queue"], []))
    # A program that watches gets a line for each changed item, and a rate changes all the time.
    if session.out.for_people and meta.get(WatchOption.KEY) is not None:
        meta[_LAST] = looked
    show(items)
    if silent:
        session.out.note(f"{count(silent, 'worker')} did not report its queues within {ASK_S:g} s")
    others = broker.administration.held_by_others()
    if others:
        session.out.note(f"{count(others, 'more message')} held by Celery's workers, of unknown queues")


page = CliCommand(
    "ls",
    callback=_show_list,
    params=[
        click.Argument(["names"], metavar="[QUEUE]...", nargs=-1, type=QueueName()),
        click.Option(
            ["--rates", "rates_s"],
            type=Span(),
            metavar="TIME",
            help="Measure twice, this far apart, to show IN/S too.",
        ),
    ],
    lists=True,
    help="""List all queues, or those named, with backlog, rates and consumers.

    IN FLIGHT counts messages that workers hold; on Redis it is unknown while Celery's workers hold more than
    10,000. OLDEST is the age of the first ready message. Redis knows it for tasks
    that qcore sent, RabbitMQ for none. CONSUMERS are the workers that answered within 0.3 s.

    OUT/S is the departure rate to qcore's workers, averaged over the last 10 to 20 seconds, from
    their heartbeats. IN/S adds the growth of READY and DELAYED between two measurements, so it needs
    --rates or --watch. Celery's workers report no rates: on queues that they consume too, only the
    difference of two measurements is known. ~ marks it: at least that many came, or left.""",
    examples=[
        ("qctl queue ls -o json", "for scripts"),
        ("qctl queue ls --rates 1s", "arrival and departure rates"),
        ("qctl queue ls -w", "repeat every 2 s"),
        ("qctl queue ls mails", "only this queue"),
    ],
    exit_codes=(exit_codes.FAILED,),
    see_also=["queue peek", "queue pause", "inspect active_queues"],
)


def refuse_unknown(queue: str) -> None:
    """Raise CommandError (NOT_FOUND) when the broker knows no queue of that name."""
    broker = current().broker
    known = {*broker.administration.queues(), *broker.administration.paused()}
    if queue in known or not known:
        return
    depth = broker.administration.depth(queue)
    if not depth.ready and not depth.delayed:
        raise exit_codes.CommandError(
            exit_codes.NOT_FOUND, f"no queue named '{queue}'{nearest(queue, known)}"
        )
