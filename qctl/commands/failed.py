"""`qctl failed`: list, group, show, retry and delete failed tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from sys import intern
from typing import TYPE_CHECKING, Any

import click

from qctl import exit_codes
from qctl.cli.bulk import SAMPLES, Bulk, Chosen, Item, Rate, sample
from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.confirm import CODES
from qctl.cli.confirm import options as consent_options
from qctl.cli.session import current
from qctl.cli.types import FilterWord, OneOf
from qctl.filters import Filter, parse
from qctl.fleet.failed_tasks import arguments, forget, item_of, record, scan, scan_all, try_again
from qctl.fleet.unstored_failures import one_unstored, unstored_failures
from qctl.output.table import Column
from qctl.output.text import age, count, cut, stamp

if TYPE_CHECKING:
    from qcore.wire.failure import FailedTask

command = CliGroup(
    "failed",
    help="""Failed tasks: list, group, show, retry, delete.

    Workers store the message of such a task, with its traceback, for a week (failed_task_expires), and at
    most 100,000 of them (failed_tasks_max). RabbitMQ cannot store them. Celery's workers store none: what
    failed there is listed from a result store on Redis, for as long as results are kept, and cannot be
    retried.""",
    examples=[
        ("qctl failed group", "exceptions with their counts"),
        ("qctl failed ls 'name:proj.mail.* since:2h'", "tasks that failed in the last two hours"),
        ("qctl failed retry 'exc:TimeoutError' --rate 50/s", "send again; asks for confirmation"),
    ],
    exit_codes=(exit_codes.NOT_FOUND,),
    subcommand_metavar="COMMAND [ARGUMENTS]...",
    see_also=["dead", "quarantine", "result"],
)

COLUMNS = [
    Column("ID"),
    Column("TASK"),
    Column("QUEUE"),
    Column("FAILED AT"),
    Column("TRIES", True),
    Column("RETRIED AS"),
    Column("EXCEPTION"),
]
KEYS: dict[str, Callable[[FailedTask], str]] = {
    "exception": lambda f: f.exc_type,
    "name": lambda f: f.name,
    "queue": lambda f: f.queue,
    "worker": lambda f: f.worker,
}


def _filter_argument() -> click.Argument:
    return click.Argument(["words"], metavar="[FILTER]...", nargs=-1, type=FilterWord())


def _filter(words: tuple[str, ...]) -> Filter:
    return parse(" ".join(words))


# --- looking


def _show_list(words: tuple[str, ...], limit: int) -> None:
    session, wanted = current(), _filter(words)
    every, remark = scan_all(session.app, wanted)
    found = list(islice(every, limit + 1))
    more, found = len(found) > limit, found[:limit]
    rows = [
        [
            f.task_id,
            f.name or "-",
            f.queue or "-",
            stamp(f.failed_at, False),
            str(f.tries) if stored else "-",
            f.retried_as or ("-" if stored else "not stored"),
            f.exception,
        ]
        for f, stored in found
    ]
    session.out.items("failed", [item_of(*one) for one in found], COLUMNS, rows, "id")
    counts = session.broker.failed_tasks.counts()
    text = f"{count(len(found), 'failed task')}{', and more (--limit)' if more else ''}"
    dropped = f"; {counts.dropped:,} older ones were dropped (failed_tasks_max)" if counts.dropped else ""
    session.out.note(f"{text}; {counts.kept:,} kept{dropped}")
    _note_unstored(sum(not one.stored for one in found), remark)
    if not found and (others := session.broker.roster()[1]):
        what = "their failed tasks are only in the result store, and listed while that keeps them"
        session.out.note(f"{count(len(others), 'worker')} of Celery's in this fleet: {what}")


def _note_unstored(number: int, remark: str) -> None:
    if number:
        what = "failed at Celery's workers: only the results are kept, so `failed retry` cannot send them"
        current().out.note(f"{number:,} of them {what}")
    if remark:
        current().out.note(remark)


def _group(words: tuple[str, ...], by: str) -> None:
    session, key = current(), KEYS[by]
    groups: dict[str, dict[str, Any]] = {}
    every, remark = scan_all(session.app, _filter(words))
    for failure, stored in every:  # newest first
        name = key(failure)
        group = groups.get(name)
        if group is None:
            newest = {"count": 0, "stored": 0, "retried": 0, "last_at": stamp(failure.failed_at)}
            group = groups[name] = {by: name or None, **newest, "sample": item_of(failure, stored)}
        group["count"] += 1
        group["stored"] += stored
        group["retried"] += bool(failure.retried_as)
        group["first_at"] = failure.failed_at
    items = sorted(groups.values(), key=lambda g: -g["count"])
    for item in items:
        item["first_at"] = stamp(item["first_at"])
    columns = [
        *(Column(by.upper()), Column("COUNT", True), Column("STORED", True), Column("RETRIED", True)),
        *(Column("FIRST"), Column("LAST"), Column("SAMPLE")),
    ]
    rows = [
        [
            i[by] or "-",
            *(str(i[number]) for number in ("count", "stored", "retried")),
            *(i["first_at"], i["last_at"], _sample(i["sample"])),
        ]
        for i in items
    ]
    session.out.items("failed.group", items, columns, rows, by)
    total = sum(i["count"] for i in items)
    session.out.note(f"{count(total, 'failed task')}")
    _note_unstored(total - sum(i["stored"] for i in items), remark)


def _sample(item: dict[str, Any]) -> str:
    return f"{item['id']} {item['name'] or '-'} {item['exc_type']}: {item['exc_message'] or ''}"


def _show_one(task_id: str) -> None:
    session = current()
    (failure,) = session.broker.failed_tasks.of([task_id])
    if failure is None and (other := one_unstored(session.app, task_id)) is not None:
        _show_unstored(other)
        return
    if failure is None:
        raise exit_codes.CommandError(
            exit_codes.NOT_FOUND, f"no failed task '{task_id}' is kept", "see `qctl failed ls`"
        )
    args, kwargs = arguments(failure)
    fields = {**item_of(failure), "args": args, "kwargs": kwargs, "traceback": failure.traceback}
    out = session.out
    if not out.for_people:
        from qctl.output.secrets import hide

        out.document("failed.task", hide(fields))
        return
    _write(failure, args, kwargs)


def _show_unstored(failure: FailedTask) -> None:
    """A failure at a Celery worker, of which only the result is kept."""
    from qctl.output.secrets import hide

    out = current().out
    if not out.for_people:
        out.document("failed.task", hide({**item_of(failure, False), "traceback": failure.traceback}))
        return
    _write(failure, failure.args, failure.kwargs)
    out.note("it failed at a Celery worker: only its result is kept, so `failed retry` cannot send it")


def _write(failure: FailedTask, args: Any, kwargs: Any) -> None:
    from qctl.output.secrets import hide
    from qctl.output.text import shown
    from qctl.output.writer import to_json

    out = current().out
    lines = {
        "task": failure.name,
        "id": failure.task_id,
        "queue": failure.queue,
        "worker": failure.worker,
        "failed at": stamp(failure.failed_at),
        "tries": f"{failure.tries}, the last took {age(failure.runtime_s)}" if failure.raw else "",
        "root": failure.root_id,
        "retry of": failure.retry_of,
        "retried as": failure.retried_as,
        "args": args if isinstance(args, str) else to_json(hide(args)),
        "kwargs": kwargs if isinstance(kwargs, str) else to_json(hide(kwargs)),
        "exception": failure.exception,
    }
    for name, text in lines.items():
        if text:
            out.line(f"{name:<11}{shown(text)}")
    if failure.traceback:
        out.line("")
        out.text(failure.traceback)


# --- changing


def _choose(words: tuple[str, ...], everything: bool, limit: int | None, again: bool) -> Chosen:
    """The tasks that match the filter, oldest first. again: include those that were retried before."""
    wanted = _filter(words)
    if wanted.is_all and not everything:
        raise exit_codes.CommandError(exit_codes.USAGE, "give a filter, or --all", "see `qctl failed ls`")
    items: list[Item] = []
    oldest: deque[FailedTask] = deque(maxlen=SAMPLES)
    for failure in scan(current().broker, wanted):
        if again or not failure.retried_as:
            items.append(Item(failure.task_id, intern(failure.name), intern(failure.queue)))
            oldest.append(failure)
    theirs = unstored_failures(current().app).failures
    left = sum(wanted.matches(record(one, stored=False)) for one in theirs)
    if left:
        what = count(left, "more matching task")
        current().out.note(f"{what} failed at Celery's workers, which store no message: call them again")
    items.reverse()
    first = list(reversed(oldest))[:limit]
    return Chosen(items[:limit], [_sample_of(failure) for failure in first])


def _sample_of(failure: FailedTask) -> str:
    shown_args = f"{failure.args} {failure.kwargs}"
    return sample(failure.task_id, failure.name, cut(failure.exception, 50), shown_args)


def _retry(
    words: tuple[str, ...],
    everything: bool,
    limit: int | None,
    rate: float | None,
    yes: bool,
    dry_run: bool,
) -> int:
    session = current()
    chosen = _choose(words, everything, limit, again=False)
    bulk = Bulk(
        session.out, "failed.retry", "failed task", "retried", rate=rate, harmless=["already_retried"]
    )
    return bulk.run(chosen, lambda items: try_again(session.broker, items), yes, dry_run)


def _remove(words: tuple[str, ...], everything: bool, limit: int | None, yes: bool, dry_run: bool) -> int:
    session = current()
    chosen = _choose(words, everything, limit, again=True)
    bulk = Bulk(session.out, "failed.rm", "failed task", "deleted", harmless=["gone"])
    return bulk.run(chosen, lambda items: forget(session.broker, items), yes, dry_run)


# --- pages

_UNSUPPORTED = {exit_codes.FAILED: "you answered no, or this broker keeps no failed tasks"}
_ALL = click.Option(["--all", "everything"], is_flag=True, help="All failed tasks, instead of a filter.")
_LIMIT = click.Option(["--limit"], type=click.IntRange(1), help="At most this many, oldest first.")

command.add_command(
    CliCommand(
        "ls",
        lists=True,
        callback=_show_list,
        params=[
            _filter_argument(),
            click.Option(
                ["--limit"], type=click.IntRange(1), default=100, show_default=True, help="At most this many."
            ),
        ],
        help="List failed tasks, newest first.",
        examples=[
            ("qctl failed ls 'since:2h -exc:ValueError'", "see `qctl help filters`"),
            ("qctl failed ls -o json --limit 1000", "for scripts"),
        ],
        exit_codes={exit_codes.FAILED: "this broker keeps no failed tasks"},
        see_also=["failed show", "failed group"],
    )
)
command.add_command(
    CliCommand(
        "group",
        callback=_group,
        params=[
            _filter_argument(),
            click.Option(
                ["--by"],
                type=OneOf("grouping", KEYS),
                default="exception",
                show_default=True,
                help="Field to group by.",
            ),
        ],
        help="""Count failed tasks by a common field.

        Each group comes with its first and last time and the newest task in it.""",
        examples=[
            ("qctl failed group", "count by exception"),
            ("qctl failed group --by name 'since:1d'", "failures of the last day by task name"),
        ],
        exit_codes={exit_codes.FAILED: "this broker keeps no failed tasks"},
        see_also=["failed ls", "failed retry"],
    )
)
command.add_command(
    CliCommand(
        "show",
        callback=_show_one,
        params=[click.Argument(["task_id"], metavar="ID")],
        help="Print one failed task with its traceback and all of its arguments.",
        examples=[("qctl failed show 1f0c…", "as text; -o json for scripts")],
        exit_codes={
            exit_codes.NOT_FOUND: "no failed task of that id is kept",
            exit_codes.FAILED: "this broker keeps no failed tasks",
        },
        see_also=["failed ls", "result"],
    )
)
command.add_command(
    CliCommand(
        "retry",
        callback=_retry,
        changes=True,
        params=[
            _filter_argument(),
            _ALL,
            _LIMIT,
            click.Option(["--rate"], type=Rate(), help="Rate limit: 50/s, 600/m."),
            *consent_options(),
        ],
        help="""Send failed tasks again, each at most once.

        The message goes to the queue it came from with the same body. It gets a new id, a retry count of
        0, no expiry, and a header that names the failed task (qcore_retry_of). A member
        of a group stays one; a chord that has failed stays failed.

        Ctrl-C stops between two batches. The same command continues with the rest.""",
        examples=[
            ("qctl failed retry 'exc:TimeoutError since:1d'", "asks for confirmation"),
            ("qctl failed retry 'name:proj.*' --rate 50/s --yes", "at a limited rate, without confirmation"),
            ("qctl failed retry --all --dry-run", "only print the counts"),
        ],
        exit_codes={
            **CODES,
            **_UNSUPPORTED,
            exit_codes.NOT_FOUND: "no failed task matches",
            exit_codes.PARTIAL: "some have expired meanwhile, or cannot be sent again",
        },
        see_also=["failed ls", "dead replay"],
    )
)
command.add_command(
    CliCommand(
        "rm",
        callback=_remove,
        changes=True,
        params=[_filter_argument(), _ALL, _LIMIT, *consent_options()],
        help="Delete the records and messages of failed tasks.",
        examples=[
            ("qctl failed rm 'until:3d'", "failures older than three days; asks for confirmation"),
            ("qctl failed rm --all --yes", "all, without confirmation"),
        ],
        exit_codes={**CODES, **_UNSUPPORTED, exit_codes.NOT_FOUND: "no failed task matches"},
        see_also=["failed ls"],
    )
)
