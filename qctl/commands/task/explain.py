"""`qctl task why` and `qctl task stack`: why a task does not run yet, and where it is when it does.

In:  the id of a task.  Out: one sentence with its evidence; or the stack of the task.
Before this: qctl/commands/task/command.py.  After this: qctl/fleet/reasons.py, qctl/fleet/stacks.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand
from qctl.cli.session import current
from qctl.output.secrets import hide

if TYPE_CHECKING:
    from qctl.fleet.reasons import Usual
    from qctl.fleet.stacks import Stacks

FIELDS = ("id", "cause", "sentence", "evidence", "name", "queue", "worker", "is_certain")


#: the newest runs of a task that say how long it takes, and how many are too few
RUNS, FEW_RUNS = 200, 5


def _why(task_id: str) -> int:
    import msgspec

    from qctl.fleet import reasons

    session = current()
    found = reasons.why(session.app, task_id, _usual)
    out = session.out
    fields = hide({key: value for key, value in msgspec.to_builtins(found).items() if key in FIELDS})
    if out.for_people:
        out.text("\n".join([fields["sentence"], *(f"  {line}" for line in fields["evidence"])]))
    else:
        out.document("task.why", {key: fields[key] for key in FIELDS})
    if not found.is_certain:
        return exit_codes.PARTIAL
    return exit_codes.NOT_FOUND if found.cause == reasons.UNKNOWN_ID else exit_codes.OK


def _usual(name: str) -> Usual | None:
    """How long the task took, by the history; None when there are too few runs."""
    from qctl.commands.task.history import History, path_for
    from qctl.filters import parse
    from qctl.fleet.reasons import Usual

    path = path_for(current().broker.place)
    if not path.exists():
        return None
    past = History(path)
    try:
        newest, _ = past.search(parse(f"name:{name} state:succeeded"), RUNS)
    finally:
        past.close()
    times = sorted(record["runtime_s"] for record in newest if record.get("runtime_s") is not None)
    if len(times) < FEW_RUNS:
        return None
    return Usual(times[math.ceil(0.95 * len(times)) - 1], len(times))


def _stack(task_id: str) -> int:
    from qctl.fleet import stacks

    session = current()
    found = stacks.ask(session, [task_id], None, session.options.timeout or stacks.ASK_S)
    silent = stacks.silence(found.answers)
    if found.items:
        found.without.clear()
        found.answers.silent.clear()  # they do not matter: the task is found
        stacks.write(session, "task.stack", found)
        return exit_codes.OK
    if not found.answers.replies and not silent:
        raise exit_codes.CommandError(exit_codes.NO_ANSWER, "no worker is online")
    _refuse_celery(task_id, found)
    for node, words in sorted(silent.items()):
        session.out.warn(f"{node}: {words}")
    raise exit_codes.CommandError(
        exit_codes.PARTIAL if silent else exit_codes.NOT_FOUND,
        f"no worker that answered runs the task {task_id}",
        f"`qctl task why {task_id}` says where it is",
    )


def _refuse_celery(task_id: str, found: Stacks) -> None:
    """Raise CommandError when the task runs at a worker that cannot tell its stack."""
    from qctl.fleet.tasks_at_workers import named

    for held in named(current().app, [task_id]).tasks if found.without else ():
        if held.state == "running" and held.worker in found.without:
            words = f"the task {task_id} runs at {held.worker}: {found.without[held.worker]}"
            raise exit_codes.CommandError(exit_codes.FAILED, words)


def pages() -> list[CliCommand]:
    """The commands."""
    task_id = click.Argument(["task_id"], metavar="ID")
    return [
        CliCommand(
            "why",
            callback=_why,
            params=[task_id],
            help="""Say why a task does not run yet, or what became of it.

            One sentence, and its evidence. With -o json, the field `cause` is one of: running, behind
            (other messages are before it), prefetched (a worker runs others first), paused_queue,
            no_consumer, unknown_task (no worker of its queue has a task of its name), waits_for_time
            (eta, countdown or a retry), rate_limited, revoked, expired, silent_worker (a worker that
            does not answer holds it), finished, set_aside, unknown_id (its result has expired, or there
            never was such a task). `is_certain` is false when workers did not answer that may have it.""",
            examples=[
                ("qctl task why 2f9c1e0a-…", "what it waits for"),
                ("qctl task why 2f9c1e0a-… -o json", "for scripts: the cause is a fixed word"),
            ],
            exit_codes={
                exit_codes.OK: "the cause is known",
                exit_codes.NOT_FOUND: "the id is unknown, or its result has expired",
                exit_codes.PARTIAL: "uncertain, because workers did not answer",
            },
            see_also=["task stack", "task show", "queue"],
        ),
        CliCommand(
            "stack",
            callback=_stack,
            params=[task_id],
            help="""Print where a running task is now: its Python stack.

            The most recent call is the last one. The first line says whether the task executes Python
            code, waits in a call into C (and in which function of the kernel), computes in one, or
            awaits. The values of variables are not shown. The task is paused for some milliseconds at
            most. Celery's workers do not tell their stacks.

            In the prefork pool a signal asks for the stack. Python repeats a sleep that it interrupts;
            one of a C library that does not repeat it ends early.""",
            examples=[
                ("qctl task stack 2f9c1e0a-…", "what a task that takes too long is doing"),
                ("qctl task stack 2f9c1e0a-… -w", "again and again"),
            ],
            exit_codes={
                exit_codes.FAILED: "it runs at a worker that cannot tell its stack",
                exit_codes.NOT_FOUND: "no worker runs it",
                exit_codes.PARTIAL: "no worker that answered runs it, and some are silent",
                exit_codes.NO_ANSWER: "no worker is online",
            },
            see_also=["task why", "worker stack", "task show"],
        ),
    ]
