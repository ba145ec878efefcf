"""`queue purge`, `queue move`, `queue save`, `queue load`: remove, copy or add queued messages.

Only messages that match are changed, each in one step. Workers claim messages meanwhile: those are counted
and reported, not assumed gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand
from qctl.cli.confirm import CODES, ask, confirm_option
from qctl.cli.confirm import options as consent_options
from qctl.cli.progress import Progress
from qctl.cli.session import current
from qctl.cli.types import QueueName
from qctl.commands.queue.files import Found, Saver, read
from qctl.commands.queue.ls import refuse_unknown
from qctl.filters import Filter, parse
from qctl.fleet.queued_messages import matching, sample_of
from qctl.output.table import Column
from qctl.output.text import count

AT_ONCE = 500
#: a message may be missed while earlier ones are claimed, so the queue is read again
PASSES = 5
SAMPLES = 5


def _describe(found: Sequence[Found]) -> None:
    out = current().out
    for name, number in Counter(record["name"] or "(no task)" for _, record in found).most_common(20):
        out.note(f"  {number:>8,}  {name}")
    for one, record in found[:SAMPLES]:
        out.note(f"  {sample_of(one, record)}")


def _take(
    name: str,
    wanted: Filter,
    first: Sequence[Found],
    take: Callable[[Sequence[Found]], Sequence[bool]],
    word: str,
    limit: int | None,
) -> int:
    """Remove matching messages until none is left or `limit` are removed; return the number."""
    session, done, found = current(), 0, first
    with Progress(session, len(first), word) as progress:
        for _ in range(PASSES):
            for start in range(0, len(found), AT_ONCE):
                done += sum(take(found[start : start + AT_ONCE]))
                progress.at(done)
            left = None if limit is None else limit - done
            if left == 0 or not found:
                break
            found = list(matching(session.broker, name, wanted))[:left]
    return done


# --- purge


def _purge(name: str, match: str, save: str | None, yes: bool, dry_run: bool) -> int:
    refuse_unknown(name)
    session, wanted = current(), parse(match)
    depth = session.broker.administration.depth(name)
    waited = depth.ready + (depth.delayed or 0)
    whole = wanted.is_all and save is None
    found = [] if whole else list(matching(session.broker, name, wanted))
    matched = waited if whole else len(found)
    if not whole and (dry_run or not yes):
        _describe(found)
    if matched and not dry_run:
        lost = "" if save else name
        ask(
            f"{count(matched, 'message')} of {name}",
            f"saved in {save} and deleted" if save else "deleted",
            yes,
            lost,
        )
    deleted = 0
    if not dry_run:
        deleted = session.broker.administration.purge(name) if whole else _delete(name, wanted, found, save)
    held = _held(name, wanted)
    item = {
        "queue": name,
        "matched": matched,
        "deleted": deleted,
        "taken_meanwhile": 0 if whole or dry_run else max(0, matched - deleted),
        "waited": waited,
        "in_flight": depth.in_flight,
        "held": held,
        "saved": save if save and deleted else None,
    }
    names = ("queue", "matched", "deleted", "waited", "in_flight")
    columns = [Column(n.upper().replace("_", " "), n != "queue") for n in names]
    rows = [["-" if item[n] is None else str(item[n]) for n in names]]
    session.out.items("queue.purge", [item], columns, rows, "queue", dry_run=dry_run)
    session.out.note("nothing was deleted (--dry-run)" if dry_run else f"{count(deleted, 'message')} deleted")
    for one in held:
        session.out.note(f"not removed: {count(one['count'], 'task')} {one['state']} at {one['worker']}")
    if not held and wanted.is_all and depth.in_flight:
        session.out.note(f"not removed: {count(depth.in_flight, 'message')} in flight")
    if not matched:
        return exit_codes.OK if wanted.is_all else exit_codes.NOT_FOUND
    if item["taken_meanwhile"]:
        session.out.note(f"{count(matched - deleted, 'message')} claimed by workers meanwhile")
        return exit_codes.PARTIAL
    return exit_codes.OK


def _delete(name: str, wanted: Filter, found: Sequence[Found], save: str | None) -> int:
    drop_these = current().broker.administration.drop_these
    if save is None or not found:
        return _take(name, wanted, found, lambda some: drop_these([one for one, _ in some]), "deleted", None)
    with Saver(save) as saver:

        def save_and_drop(some: Sequence[Found]) -> Sequence[bool]:
            # Write before deleting; a message that a worker claimed in between must not be loaded later.
            start = saver.write(some)
            gone = drop_these([one for one, _ in some])
            if not all(gone):
                kept = [one for one, there in zip(some, gone, strict=True) if there]
                saver.rewrite(start, len(some), kept)
            return gone

        return _take(name, wanted, found, save_and_drop, "saved and deleted", None)


def _held(name: str, wanted: Filter) -> list[dict[str, Any]]:
    """Matching tasks of the queue that workers hold, by worker and state."""
    from qctl.fleet.tasks_at_workers import everything

    tasks = everything(current().app).tasks
    mine = [t for t in tasks if t.queue == name and (wanted.is_all or wanted.matches(t.record()))]
    counts = Counter((t.worker, t.state) for t in mine)
    return [{"worker": w, "state": s, "count": n} for (w, s), n in sorted(counts.items())]


# --- move


def _move(
    source: str,
    target: str,
    limit: int | None,
    task_ids: tuple[str, ...],
    match: str,
    yes: bool,
    dry_run: bool,
) -> int:
    session, wanted = current(), parse(match)
    if source == target:
        raise exit_codes.CommandError(exit_codes.USAGE, "the two queues are the same")
    if task_ids and not wanted.is_all:
        raise exit_codes.CommandError(exit_codes.USAGE, "--id and --match cannot be combined")
    refuse_unknown(source)
    depth = session.broker.administration.depth(source)
    waiting = depth.ready + (depth.delayed or 0)
    found = [] if wanted.is_all else list(matching(session.broker, source, wanted))[:limit]
    most = min(n for n in (waiting, limit, len(task_ids) or None) if n is not None)
    if not wanted.is_all:
        most = len(found)
        if dry_run or not yes:
            _describe(found)
    if most and not dry_run:
        ask(f"at most {count(most, 'message')} of {source}", f"moved to {target}", yes)
    moved = 0
    if not dry_run and wanted.is_all:
        moved = session.broker.administration.move(source, target, limit, list(task_ids) or None)
    elif not dry_run:
        to = session.broker.administration.move_these
        moved = _take(
            source, wanted, found, lambda some: to([one for one, _ in some], target), "moved", limit
        )
    item = {"source": source, "target": target, "moved": moved, "waited": waiting}
    columns = [Column("FROM"), Column("TO"), Column("MOVED", True), Column("WAITED", True)]
    session.out.items(
        "queue.move", [item], columns, [[str(v) for v in item.values()]], "moved", dry_run=dry_run
    )
    would = "" if wanted.is_all else f"; {count(most, 'message')} would be"
    session.out.note(
        f"nothing was moved (--dry-run){would}" if dry_run else f"{count(moved, 'message')} moved"
    )
    return exit_codes.NOT_FOUND if not wanted.is_all and not most else exit_codes.OK


# --- save and load


def _save(name: str, file: str, match: str) -> int:
    refuse_unknown(name)
    session, wanted = current(), parse(match)
    with Saver(file) as saver:
        some: list[Found] = []
        for one in matching(session.broker, name, wanted):
            some.append(one)
            if len(some) == AT_ONCE:
                saver.write(some)
                some = []
        saver.write(some)
        _print_file("queue.save", {"queue": name, "saved": saver.count, "file": file})
        session.out.note(f"{count(saver.count, 'message')} saved; they still wait in {name}")
        return exit_codes.OK if saver.count or wanted.is_all else exit_codes.NOT_FOUND


def _load(file: str, queue: str | None, yes: bool, dry_run: bool) -> int:
    session = current()
    counts = Counter(message.queue for message in read(file, queue))  # read the whole file before publishing
    total = counts.total()
    if total and not dry_run:
        ask(count(total, "message"), f"put into {', '.join(sorted(counts))}", yes)
    some: list[Any] = []
    loaded = 0
    with Progress(session, total, "loaded") as progress:
        for message in read(file, queue) if not dry_run else ():
            some.append(message)
            if len(some) == AT_ONCE:
                session.broker.publish(some)
                loaded, some = loaded + len(some), []
                progress.at(loaded)
        if some:
            session.broker.publish(some)
            loaded += len(some)
    for name, number in sorted(counts.items()):
        session.out.note(f"  {number:>8,}  {name}")
    _print_file("queue.load", {"file": file, "loaded": loaded, "found": total})
    session.out.note("nothing was loaded (--dry-run)" if dry_run else f"{count(loaded, 'message')} loaded")
    return exit_codes.OK


def _print_file(schema: str, item: dict[str, Any]) -> None:
    columns = [Column(name.upper(), isinstance(value, int)) for name, value in item.items()]
    current().out.items(schema, [item], columns, [[str(v) for v in item.values()]], "file")


# --- pages

_MATCH = click.Option(["--match"], metavar="FILTER", default="", help="Only messages that match FILTER.")
_NO_QUEUE = {exit_codes.NOT_FOUND: "no queue of that name, or no message matches"}

purge_page = CliCommand(
    "purge",
    callback=_purge,
    changes=True,
    params=[
        click.Argument(["name"], type=QueueName()),
        _MATCH,
        click.Option(["--save"], metavar="FILE", help="Save them to this new file first."),
        *consent_options(),
        confirm_option(),
    ],
    help="""Delete waiting messages of a queue: all, or those that match.

    Ready and delayed messages are deleted. Messages in flight are not; they are listed by worker.
    With --save each message is on disk before it is deleted, and `qctl queue load` puts it back. On
    RabbitMQ all ready messages of a queue can be deleted, and nothing else.""",
    examples=[
        ("qctl queue purge mails --match 'name:proj.bad.*'", "only matching messages; asks for confirmation"),
        ("qctl queue purge mails --save mails.ndjson --yes", "all, saved to a file first"),
    ],
    exit_codes={**CODES, **_NO_QUEUE, exit_codes.PARTIAL: "workers claimed some of them meanwhile"},
    see_also=["purge", "queue load", "queue peek", "help filters"],
)
move_page = CliCommand(
    "move",
    callback=_move,
    params=[
        click.Argument(["source"], metavar="FROM", type=QueueName()),
        click.Argument(["target"], metavar="TO", type=QueueName()),
        click.Option(["--limit"], type=click.IntRange(1), help="At most this many, the next ones first."),
        click.Option(["--id", "task_ids"], multiple=True, help="Only the message of this task; repeatable."),
        _MATCH,
        *consent_options(),
    ],
    changes=True,
    help="""Move waiting messages to another queue.

    They keep their bytes, priorities and times. Each move is atomic.
    Messages in flight stay.""",
    examples=[
        ("qctl queue move mails later --limit 100", "move 100 messages; asks for confirmation"),
        ("qctl queue move mails later --id 1f0c… --yes", "the message of one task"),
        ("qctl queue move mails later --match 'name:proj.slow'", "only matching messages"),
    ],
    exit_codes={**CODES, **_NO_QUEUE},
    see_also=["queue ls", "purge", "help filters"],
)
save_page = CliCommand(
    "save",
    callback=_save,
    params=[click.Argument(["name"], type=QueueName()), click.Argument(["file"]), _MATCH],
    watches=False,
    help="""Write the waiting messages of a queue to a new file.

    They stay in the queue. One JSON line per message: the bytes in base64, the priority, and the time
    it is delayed to. Only you may read the file. It contains the arguments, with any secrets in them.""",
    examples=[("qctl queue save mails mails.ndjson", "`qctl queue load` puts them back")],
    exit_codes={**_NO_QUEUE, exit_codes.FAILED: "this broker cannot do that"},
    see_also=["queue load", "queue purge"],
)
load_page = CliCommand(
    "load",
    callback=_load,
    changes=True,
    params=[
        click.Argument(["file"]),
        click.Option(["-Q", "--queue"], help="Put all messages into this queue instead of their own."),
        *consent_options(),
    ],
    help="""Put the messages of a file into their queues.

    The bytes and the order are those of the file. The command does not check what is in the queue
    already: loading twice enqueues twice. The redelivery flag of a message is
    not restored.""",
    examples=[("qctl queue load mails.ndjson", "asks for confirmation")],
    exit_codes={**CODES, exit_codes.NOT_FOUND: "no file of that name"},
    see_also=["queue save", "queue purge"],
)
