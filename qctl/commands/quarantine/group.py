"""Commands over quarantined messages: all of them, or those with one reason.

In:  a group's name and a reason.  Out: a group with ls, show, replay and rm.
After this: qctl/commands/quarantine/command.py, qctl/commands/quarantine/dead.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.confirm import CODES, ask, confirm_option
from qctl.cli.confirm import options as consent_options
from qctl.cli.session import current
from qctl.cli.types import nearest
from qctl.output.table import Column
from qctl.output.text import count, stamp

if TYPE_CHECKING:
    from qcore.brokers.contract.records import Quarantined

DELETED = "deleted"
MOST = 10_000  # brokers keep no more
COLUMNS = [
    Column("ID"),
    Column("QUEUE"),
    Column("REASON"),
    Column("SET ASIDE", field="at"),
    Column("BYTES", True, "size"),
    Column("TASK"),
    Column("TASK ID", field="task_id"),
]


def _task_of(raw: bytes) -> dict[str, str | None]:
    """The name and id of the task, as far as the message can be read."""
    from qcore.errors import Malformed
    from qcore.wire import envelope

    try:
        headers = envelope.decode(raw).headers
    except Malformed:
        headers = {}
    name, task_id = headers.get("task"), headers.get("id")
    return {
        "task": name if isinstance(name, str) else None,
        "task_id": task_id if isinstance(task_id, str) else None,
    }


class QuarantineGroup:
    """One group of commands. reason: only messages quarantined for it; None for all."""

    def __init__(self, name: str, reason: str | None) -> None:
        self.name, self.reason = name, reason

    def add_to(self, group: CliGroup) -> CliGroup:
        """Add the commands to the group and return it."""
        for page in (self._list_page(), self._show_page(), self._replay_page(), self._remove_page()):
            group.add_command(page)
        return group

    # --- pages

    def _list_page(self) -> CliCommand:
        most = click.Option(
            ["--limit"], type=click.IntRange(1), default=100, show_default=True, help="At most this many."
        )
        return CliCommand(
            "ls",
            callback=self.show_list,
            params=[most],
            lists=True,
            help="List the messages in quarantine, newest first.",
            examples=[(f"qctl {self.name} ls -o json", "for scripts")],
            see_also=[f"{self.name} show"],
        )

    def _show_page(self) -> CliCommand:
        return CliCommand(
            "show",
            callback=self.show_one,
            params=[click.Argument(["message_id"], metavar="ID")],
            help="Print one message unchanged.",
            examples=[(f"qctl {self.name} show 17 -o json", "with its queue and the reason")],
            exit_codes=(exit_codes.NOT_FOUND,),
            see_also=[f"{self.name} ls"],
        )

    def _replay_page(self) -> CliCommand:
        return CliCommand(
            "replay",
            callback=self.replay,
            params=self._chosen(),
            changes=True,
            help="""Put messages back into their queues, byte for byte.

            They count as never delivered. Each leaves and arrives in one step.""",
            examples=[
                (f"qctl {self.name} replay 17", "this message; asks for confirmation"),
                (f"qctl {self.name} replay --all --yes", "all, without confirmation"),
            ],
            exit_codes={**CODES, exit_codes.NOT_FOUND: "no message of that id is in quarantine"},
            see_also=[f"{self.name} ls", f"{self.name} rm"],
        )

    def _remove_page(self) -> CliCommand:
        return CliCommand(
            "rm",
            callback=self.remove,
            params=[*self._chosen(), confirm_option()],
            changes=True,
            help="""Delete messages from the quarantine.

            --all asks to type the names of their queues, separated by commas; instead give --yes, in
            prod --confirm NAMES.""",
            examples=[
                (f"qctl {self.name} rm 17", "this message; asks for confirmation"),
                (f"qctl {self.name} rm --all --dry-run", "only print what would be deleted"),
            ],
            exit_codes={**CODES, exit_codes.NOT_FOUND: "no message of that id is in quarantine"},
            see_also=[f"{self.name} ls", f"{self.name} replay"],
        )

    @staticmethod
    def _chosen() -> list[click.Parameter]:
        return [
            click.Argument(["message_ids"], metavar="[ID]...", nargs=-1),
            click.Option(["--all", "everything"], is_flag=True, help="All messages that `ls` shows."),
            *consent_options(),
        ]

    # --- what they do

    def _found(self) -> list[Quarantined]:
        found = current().broker.administration.quarantined(MOST)
        return [q for q in found if self.reason is None or q.reason == self.reason]

    def show_list(self, limit: int) -> None:
        out = current().out
        items = [
            {
                "id": q.id,
                "queue": q.queue,
                "reason": q.reason,
                "at": stamp(q.at),
                "size": len(q.raw),
                **_task_of(q.raw),
            }
            for q in self._found()[:limit]
        ]
        rows = [["-" if v is None else str(v) for v in item.values()] for item in items]
        out.items(self.name, items, COLUMNS, rows, "id")
        out.note(f"{count(len(items), 'message')} in quarantine")

    def show_one(self, message_id: str) -> None:
        out = current().out
        (one,) = self._named([message_id])
        text = one.raw.decode("utf-8", "backslashreplace")
        if out.for_people:
            out.text(text)
            out.note(f"from {one.queue}, quarantined {stamp(one.at)}: {one.reason}")
        else:
            fields = {"id": one.id, "queue": one.queue, "reason": one.reason, "at": stamp(one.at)}
            out.document(f"{self.name}.message", {**fields, "raw": text})

    def _named(self, ids: list[str]) -> list[Quarantined]:
        """The messages with these ids. Raises CommandError when one does not exist."""
        by_id = {q.id: q for q in self._found()}
        for message_id in ids:
            if message_id not in by_id:
                near = nearest(message_id, by_id)
                raise exit_codes.CommandError(
                    exit_codes.NOT_FOUND,
                    f"no message '{message_id}' is in quarantine{near}",
                    f"see `qctl {self.name} ls`",
                )
        return [by_id[message_id] for message_id in dict.fromkeys(ids)]

    def replay(self, message_ids: tuple[str, ...], everything: bool, yes: bool, dry_run: bool) -> None:
        messages = current().broker.administration
        self._change(message_ids, everything, yes, dry_run, "replayed", lambda i: messages.replay(i))

    def remove(self, message_ids: tuple[str, ...], everything: bool, yes: bool, dry_run: bool) -> None:
        messages = current().broker.administration
        self._change(message_ids, everything, yes, dry_run, DELETED, lambda i: messages.forget(i))

    def _change(
        self,
        ids: tuple[str, ...],
        everything: bool,
        yes: bool,
        dry_run: bool,
        done: str,
        change: Callable[[str], bool],
    ) -> None:
        if bool(ids) == everything:
            raise exit_codes.CommandError(
                exit_codes.USAGE, "name messages, or give --all", f"see `qctl {self.name} ls`"
            )
        chosen = self._found() if everything else self._named(list(ids))
        if chosen and not dry_run:
            queues = ",".join(sorted({q.queue for q in chosen})) or self.name
            for_good = queues if everything and done == DELETED else ""
            ask(count(len(chosen), "message"), done, yes, irreversible=for_good)
        items = []
        # The oldest first, so that messages return to the queue in their old order.
        for q in sorted(chosen, key=lambda q: q.at):
            happened = not dry_run and change(q.id)
            items.append({"id": q.id, "queue": q.queue, "reason": q.reason, done: happened})
        columns = [Column("ID"), Column("QUEUE"), Column("REASON"), Column(done.upper())]
        rows = [[i["id"], i["queue"], i["reason"], "yes" if i[done] else "no"] for i in items]
        out = current().out
        fields = ("id", "queue", "reason", done)
        out.items(self.name, items, columns, rows, "id", fields, dry_run=dry_run)  # type: ignore[arg-type]
        total = sum(bool(i[done]) for i in items)
        out.note(f"nothing was {done} (--dry-run)" if dry_run else f"{count(total, 'message')} {done}")
