"""`task revoke` and `task unrevoke`: revoke tasks, and report what became of each.

In:  ids, or a filter over queued tasks and tasks held by workers.  Out: for each task where it was found.
The broker stores the revoked ids first; then the messages are removed from the queues, each in one step;
then the workers get the request; ids found nowhere are looked up in the result store. So a task that moves
meanwhile is refused where it arrives.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from qctl import exit_codes
from qctl.cli.bulk import Bulk, Chosen, Done, Item, sample
from qctl.cli.command import CliCommand
from qctl.cli.confirm import CODES
from qctl.cli.confirm import options as consent_options
from qctl.cli.session import current
from qctl.cli.types import names_on_stdin
from qctl.filters import Filter, parse
from qctl.fleet.queued_messages import matching, sample_of
from qctl.output.table import Column
from qctl.output.text import count

if TYPE_CHECKING:
    from qcore.app.app import App
    from qcore.brokers.contract.administration import Waiting
    from qcore.wire.task import TaskMessage
    from qctl.fleet.tasks_at_workers import HeldTask

REMOVED, FINISHED, UNKNOWN = "removed from queue", "already finished", "unknown id"
#: it was in a queue at the first look-up; now no queue, worker or result store has it
TAKEN = "taken meanwhile"
#: the broker cannot list queued messages
UNSEEN = "will be refused if it waits"
#: outcomes of a dry run
WOULD_REMOVE, WOULD_REFUSE = "would be removed from queue", "would be refused by the worker that takes it"
WOULD_IF_IT_WAITS = "would be refused if it waits"
LATER = "will be refused by the worker that takes it"
_NOT_DONE = ("still runs", "not stopped", TAKEN)
#: up to this number, tasks are listed one by one; beyond, they are counted
FEW = 20
STOP_S = 3.0
LOOK_S = 0.1
#: up to so many ids that are found nowhere are looked for so many times more
FEW, LOOKS = 20, 6
TOLD_AT_ONCE = 5000


class Revoker:
    """Revokes tasks, batch by batch."""

    def __init__(self, app: App, waiting: Mapping[str, Waiting], terminate: bool, signal: str) -> None:
        """waiting: the queued messages of the tasks that were found in a queue, by id."""
        self._app, self._waiting = app, waiting
        self._terminate, self._signal = terminate, signal
        self.silent: set[str] = set()
        self._sees_queues = app.broker.features.moves

    def change(self, items: Sequence[Item]) -> list[Done]:
        ids = [item.id for item in items]
        self._app.broker.revoke(ids)
        words = self._take_out(ids)
        rest = [one for one in ids if words.get(one) != REMOVED]
        if rest:
            self._tell(rest, words)
        lost = [one for one in ids if one not in words]
        if lost and self._sees_queues and len(lost) <= FEW:
            lost = self._look_again(lost, words)
        for one, meta in zip(lost, self._results(lost), strict=True):
            absent = TAKEN if one in self._waiting else UNKNOWN if self._sees_queues else UNSEEN
            words[one] = FINISHED if meta is not None and meta.is_ready else absent
        return [Done(item, words[item.id], _place(words[item.id])) for item in items]

    # --- in the queues

    def _take_out(self, ids: Sequence[str]) -> dict[str, str]:
        """Remove queued messages; return what became of each of these ids."""
        words: dict[str, str] = {}
        found: list[tuple[Waiting, TaskMessage]] = []
        for one in ids:
            waiting = self._waiting.get(one)
            message = None if waiting is None else _alone(waiting)
            if waiting is not None and message is not None:
                found.append((waiting, message))
            elif waiting is not None:
                words[one] = LATER
        gone = self._app.broker.administration.drop_these([waiting for waiting, _ in found]) if found else []
        removed = [message for (_, message), there in zip(found, gone, strict=True) if there]
        self._answer(removed)
        return words | {message.id: REMOVED for message in removed}

    def _answer(self, removed: Sequence[TaskMessage]) -> None:
        """Store or publish the REVOKED result of each removed task, as a worker would."""
        from qcore.brokers.contract.records import StoredResult
        from qcore.errors import TaskRevokedError
        from qcore.wire import result as result_wire

        results, replies = self._app.results, []
        stored = []
        for message in removed:
            if message.ignore_result or not results.keeps:
                continue
            meta = result_wire.encode(
                message.id,
                result_wire.REVOKED,
                result_wire.exception_data(TaskRevokedError("revoked")),
                now=time.time(),
                group_id=message.group,
                parent_id=message.parent_id,
                form=self._app.result_form,
            )
            one = StoredResult(message.id, meta, self._app.conf.result_expires)
            reply_to = message.reply_to
            reply = results.reply(one, reply_to, message.correlation_id) if reply_to else None
            if reply is not None:
                replies.append(reply)
            else:
                stored.append(one)
        if stored:
            results.store(stored)
        if replies:
            self._app.broker.publish(replies)

    def look(self, items: Sequence[Item]) -> list[Done]:
        """Where each task is, without changing anything: what a revoke would do."""
        from qctl.fleet.tasks_at_workers import named

        ids = [item.id for item in items]
        waiting = {one: self._waiting[one] for one in ids if one in self._waiting}
        words = {one: WOULD_REFUSE if _alone(raw) is None else WOULD_REMOVE for one, raw in waiting.items()}
        seen = named(self._app, ids)
        self.silent.update(seen.silent)
        names = {held.id: (held.name, held.queue) for held in seen.tasks}
        for held in seen.tasks:
            stops = held.state == "running" and self._terminate
            refused = f"would be refused by {held.holder}"
            running = f"runs on {held.worker}, would {'be stopped' if stops else 'go on'}"
            words.setdefault(held.id, running if held.state == "running" else refused)
        left = [one for one in ids if one not in words]
        for one, meta in zip(left, self._results(left), strict=True):
            unknown = UNKNOWN if self._sees_queues else WOULD_IF_IT_WAITS
            words[one] = FINISHED if meta is not None and meta.is_ready else unknown
        named_items = [i if i.task else Item(i.id, *names.get(i.id, ("", ""))) for i in items]
        holders = {held.id: held.worker or None for held in seen.tasks}
        return [Done(item, words[item.id], {"worker": holders.get(item.id)}) for item in named_items]

    # --- at the workers

    def _tell(self, ids: Sequence[str], words: dict[str, str]) -> None:
        """Revoke the tasks at the workers, and record in `words` which worker holds what."""
        from qctl.fleet.tasks_at_workers import named

        control = self._app.control
        seen = named(self._app, ids)
        self.silent.update(seen.silent)
        arguments = {"task_id": list(ids), "terminate": self._terminate, "signal": self._signal}
        answers = control.ask("revoke", arguments, timeout_s=1.0)
        refused = {
            node: str(value["error"])
            for node, value in answers.replies.items()
            if isinstance(value, dict) and set(value) == {"error"}
        }
        running = [held for held in seen.tasks if held.state == "running"]
        for held in seen.tasks:
            words[held.id] = f"will be refused by {held.holder}"
        still = self._still_running([held.id for held in running if held.worker not in refused])
        for held in running:
            words[held.id] = self._word(held, refused.get(held.worker), still)

    def _look_again(self, ids: Sequence[str], words: dict[str, str]) -> list[str]:
        """A task may be with a worker while the queues are read, and back in its queue while the workers
        answer, or on its way between them. Returns the ids that are found nowhere in further looks either."""
        from qctl.fleet.task_location import waiting_ids
        from qctl.fleet.tasks_at_workers import named

        left = list(ids)
        for look in range(LOOKS):
            if look:
                time.sleep(LOOK_S)
            for one in waiting_ids(self._app.broker, set(left)) or ():
                words[one] = LATER
            for one in left:
                holder = self._app.broker.administration.holder(one)
                if holder is not None and holder.node:
                    words[one] = f"will be refused by {holder.node}"
            words.update(
                (held.id, f"will be refused by {held.holder}") for held in named(self._app, left).tasks
            )
            ended = [meta.task_id for meta in self._results(left) if meta is not None and meta.is_ready]
            words.update((one, FINISHED) for one in ended if one not in words)
            left = [one for one in left if one not in words]
            if not left:
                break
        return left

    def _still_running(self, ids: Sequence[str]) -> set[str]:
        """The ids that still run after STOP_S; without --terminate, all of them."""
        from qctl.fleet.tasks_at_workers import named

        if not self._terminate or not ids:
            return set(ids)
        until, left = time.monotonic() + STOP_S, set(ids)
        while left and time.monotonic() < until:
            left &= {held.id for held in named(self._app, sorted(left)).tasks if held.state == "running"}
            if left:
                time.sleep(LOOK_S)
        return left

    def _word(self, held: HeldTask, refusal: str | None, still: set[str]) -> str:
        if not self._terminate:
            return f"still runs on {held.worker}"
        if refusal is not None:
            return f"not stopped on {held.worker}"
        return f"still runs on {held.worker}" if held.id in still else f"stopped on {held.worker}"

    def _results(self, ids: Sequence[str]) -> Sequence[Any]:
        results = self._app.results
        return results.get(ids) if ids and results.keeps else [None] * len(ids)


def _alone(waiting: Waiting) -> TaskMessage | None:
    """The message; None when a chain or chord follows it: the worker that refuses it handles that too."""
    from qcore.errors import Malformed
    from qcore.wire import task as task_wire

    try:
        message = task_wire.read(waiting.raw)
        embed = task_wire.read_body(message).embed
    except Malformed:
        return None
    return None if embed.get("chord") or embed.get("chain") else message


def _place(word: str) -> dict[str, Any]:
    worker = word.rpartition(" ")[2]
    return {"worker": worker if "@" in worker else None}


class Revokes(Bulk):
    """The output of `task revoke`."""

    def __init__(self, few: bool) -> None:
        super().__init__(current().out, "task.revoke", "task", "revoked")
        self._few = few
        self._rows: list[list[str]] = []

    def _note(self, done: Sequence[Done]) -> None:
        if self._few:
            self._rows += [[d.item.id, d.item.task or "-", d.item.queue or "-", d.word] for d in done]
        super()._note(done)

    def _print(self, **more: Any) -> None:
        if self._few and self.out.for_people:
            names = ("ID", "TASK", "QUEUE", "DONE")
            self.out.table([Column(name) for name in names], self._rows)
        else:
            super()._print(**more)

    def run_dry(self, done: Sequence[Done]) -> int:
        """Print what would become of each task."""
        self._note(done)
        self._print(dry_run=True)
        self.summary(len(done), time.monotonic())
        return self.code()

    def code(self) -> int:
        failed = sum(n for word, n in self.words.items() if word.startswith(_NOT_DONE))
        unknown = self.words[UNKNOWN]
        if unknown == self.words.total():
            return exit_codes.NOT_FOUND
        return exit_codes.PARTIAL if unknown or failed else exit_codes.OK

    def summary(self, total: int, began: float) -> None:
        summary = "; ".join(f"{n:,} {word}" for word, n in sorted(self.words.items()))
        left = total - self.words.total()
        self.out.note(f"{count(total, 'task')}: {summary}" + (f"; {left:,} not examined" if left else ""))


# --- choosing


def _queues(wanted: Filter | None) -> list[str]:
    """Names of queues that hold messages."""
    broker = current().broker
    names = sorted({*broker.administration.queues(), *broker.administration.paused()})
    if wanted is not None and wanted.hints.queues is not None:
        names = [name for name in names if name in wanted.hints.queues]
    depths = broker.administration.depths(names)
    return [name for name, depth in zip(names, depths, strict=True) if depth.ready or depth.delayed]


def _named(ids: Sequence[str]) -> tuple[list[Item], dict[str, Waiting]]:
    """Items for these ids, and the queued messages of those found in a queue."""
    from qcore.brokers.shared.message_ids import id_of
    from qcore.errors import Malformed
    from qcore.wire import task as task_wire

    broker, wanted = current().broker, dict.fromkeys(ids)
    found: dict[str, Waiting] = {}
    items = {one: Item(one, "", "") for one in wanted}
    if broker.features.moves:
        for queue in _queues(None):
            for one in broker.administration.waiting(queue):
                task_id = id_of(one.raw)
                if task_id in wanted and task_id is not None:
                    found[task_id] = one
    for task_id, one in found.items():
        try:
            name = task_wire.read(one.raw).shown_name
        except Malformed:
            name = ""
        items[task_id] = Item(task_id, name, one.queue)
    return list(items.values()), found


def _matched(wanted: Filter, terminate: bool, limit: int | None) -> tuple[Chosen, dict[str, Waiting]]:
    """Queued tasks and tasks held by workers that match, and the queued messages by id."""
    from qctl.fleet.tasks_at_workers import everything

    session, found, items, samples = current(), dict[str, Any](), list[Item](), list[str]()
    for queue in _queues(wanted) if session.broker.features.moves else ():
        for one, record in matching(session.broker, queue, wanted):
            if record["id"] is None or record["id"] in found:
                continue
            if limit is not None and len(items) >= limit:
                break
            found[record["id"]] = one
            items.append(Item(record["id"], sys.intern(record["name"]), queue))
            if len(samples) < FEW:
                samples.append(sample_of(one, record))
    seen = everything(session.app)
    running = 0
    for held in seen.tasks:
        if (
            held.id in found
            or (limit is not None and len(items) >= limit)
            or not wanted.matches(held.record())
        ):
            continue
        if held.state == "running" and not terminate:
            running += 1
            continue
        items.append(Item(held.id, held.name, held.queue))
        samples.append(
            sample(held.id, held.name, f"{held.state} at {held.worker}" if held.worker else held.state)
        )
    if running:
        session.out.note(f"{count(running, 'task')} running, not stopped (--terminate stops them)")
    for node in seen.silent:
        session.out.warn(f"{node} did not report what it holds")
    return Chosen(items, samples), found


# --- pages


def _revoke(
    ids: tuple[str, ...],
    match: str,
    limit: int | None,
    terminate: bool,
    signal: str,
    yes: bool,
    dry_run: bool,
) -> int:
    session, wanted = current(), parse(match)
    if bool(ids) == (not wanted.is_all):
        raise exit_codes.CommandError(exit_codes.USAGE, "name the tasks by id, or with --match FILTER")
    if ids:
        items, waiting = _named(_ids(ids))
        chosen = Chosen(items, [sample(item.id, item.task, item.queue) for item in items[:FEW]])
        yes = True  # no confirmation: each task was named
    else:
        chosen, waiting = _matched(wanted, terminate, limit)
    revoker, revokes = Revoker(session.app, waiting, terminate, signal), Revokes(len(chosen) <= FEW)
    if ids and dry_run:
        code = revokes.run_dry(revoker.look(chosen.items))
    else:
        code = revokes.run(chosen, revoker.change, yes, dry_run)
    for node in sorted(revoker.silent):
        session.out.warn(f"{node} did not report what it holds")
    if not session.broker.features.revokes and not dry_run:
        session.out.warn("this broker does not store revoked ids: workers that start later run these tasks")
    return code


def _ids(words: Sequence[str]) -> list[str]:
    if "-" not in words:
        return list(words)
    return [w for w in words if w != "-"] + names_on_stdin()


def _unrevoke(ids: tuple[str, ...]) -> int:
    session, named = current(), _ids(ids)
    known = session.broker.revoked_among(named) if session.broker.features.revoked_lookup else set[str]()
    session.broker.unrevoke(named)
    for start in range(0, len(named), TOLD_AT_ONCE):
        arguments = {"task_id": named[start : start + TOLD_AT_ONCE]}
        answers = session.app.control.ask("unrevoke", arguments, timeout_s=1.0)
        for silent in answers.silent:
            session.out.warn(f"{silent.node} did not answer; it may still refuse them")
    items = [{"id": i, "done": "unrevoked" if i in known else "was not revoked"} for i in named]
    rows = [[item["id"], item["done"]] for item in items]
    session.out.items("task.unrevoke", items, [Column("ID"), Column("DONE")], rows, "id")
    return (
        exit_codes.OK
        if len(known) == len(set(named))
        else exit_codes.PARTIAL
        if known
        else exit_codes.NOT_FOUND
    )


revoke_page = CliCommand(
    "revoke",
    callback=_revoke,
    changes=True,
    params=[
        click.Argument(["ids"], metavar="[ID]...", nargs=-1),
        click.Option(
            ["--match"], metavar="FILTER", default="", help="All waiting and held tasks that match FILTER."
        ),
        click.Option(["--limit"], type=click.IntRange(1), help="At most this many."),
        click.Option(["--terminate"], is_flag=True, help="Stop running tasks too."),
        click.Option(
            ["--signal"], default="TERM", show_default=True, help="Signal that stops a running task."
        ),
        *consent_options(),
    ],
    help="""Revoke tasks, and print the outcome for each.

    The broker stores the ids for three hours, so workers that start later refuse them too. A message that
    still waits is removed from its queue, and its result is REVOKED. One with something to follow it (a link
    of a chain, a member of a chord) stays: the worker that takes it refuses it and sees to what follows. A
    running task goes on without --terminate. RabbitMQ cannot delete single messages: there workers refuse.

    Each task is one of: removed from queue, stopped on WORKER, will be refused by WORKER, already finished,
    unknown id. - reads ids from stdin. Ctrl-C stops between two batches; the same command goes on.""",
    examples=[
        ("qctl task revoke 1f0c…", "one task, in any state"),
        ("qctl task revoke --match 'name:sync_* kwargs.tenant=7' --dry-run", "only print the counts"),
        ("qctl task revoke --match 'name:sync_*' --terminate --yes", "including running tasks"),
    ],
    exit_codes={
        **CODES,
        exit_codes.NOT_FOUND: "none of these ids is known, or no task matches",
        exit_codes.PARTIAL: "some ids are unknown, or some tasks still run",
    },
    see_also=["task unrevoke", "inspect revoked", "help filters"],
)
unrevoke_page = CliCommand(
    "unrevoke",
    callback=_unrevoke,
    changes=True,
    params=[click.Argument(["ids"], metavar="ID...", nargs=-1, required=True)],
    help="""Undo a revoke: let the tasks run.

    Messages that were removed or refused are not restored. RabbitMQ cannot forget
    single ids.""",
    examples=[("qctl task unrevoke 1f0c…", "undo its revoke")],
    exit_codes={
        exit_codes.NOT_FOUND: "none of the tasks was revoked",
        exit_codes.PARTIAL: "some of the tasks were not revoked",
        exit_codes.FAILED: "this broker cannot do that",
    },
    see_also=["task revoke", "inspect revoked"],
)
