"""`qctl task why` and `qctl task stack`: why a task does not run yet, and where it is when it does.

In:  the id of a task.  Out: one sentence with its evidence; or the stack of the task.
Before this: qctl/commands/task/command.py.  After this: qctl/fleet/reasons.py, qctl/fleet/stacks.py.
"""

from __future__ import annotations

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand
from qctl.cli.session import current
from qctl.fleet import stacks


def _stack(task_id: str) -> int:
    session = current()
    found = stacks.ask(session, [task_id], None, min(session.options.timeout or stacks.ASK_S, stacks.ASK_S))
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


def _refuse_celery(task_id: str, found: stacks.Stacks) -> None:
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
            "stack",
            callback=_stack,
            params=[task_id],
            help="""Print where a running task is now: its Python stack.

            The most recent call is the last one. The first line says whether the task executes Python
            code, waits in a call into C (and in which function of the kernel), computes in one, or
            awaits. The values of variables are not shown. The task is paused for some milliseconds at
            most. Celery's workers do not tell their stacks.""",
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
