"""`qctl result`: print the value of a finished task, or its error."""

from __future__ import annotations

import click

from qcore.errors import did_you_mean
from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.session import Session, current
from qctl.fleet.print_result import print_result


@page(
    "result",
    examples=[
        ("qctl result 2f9c1e0a-…", "print what the task returned"),
        ("qctl result 2f9c1e0a-… --wait -t 1m", "wait for it, at most a minute"),
        ("qctl result 2f9c1e0a-… --traceback", "why it failed"),
    ],
    exit_codes={
        exit_codes.FAILED: "the task failed or was revoked",
        exit_codes.NOT_FOUND: "no result is known for that id",
        exit_codes.NOT_MET: "the task has begun and has not finished",
        exit_codes.BAD_CONFIG: "results are not stored: no result store is configured",
        exit_codes.TIMED_OUT: "--wait: no result within -t",
    },
    see_also=["call", "inspect query_task"],
)
@click.argument("task_id", metavar="ID")
@click.option("--wait", is_flag=True, help="Wait until the task has finished, at most -t.")
@click.option("--traceback", is_flag=True, help="Print the traceback of a failed task.")
@click.option("--task", metavar="NAME", help="The name of the task, which must be one of the app.")
def command(task_id: str, wait: bool, traceback: bool, task: str | None) -> int:
    """Print the result of a task.

    Text is printed unchanged, every other value as JSON. Without --wait the command returns at once.
    """
    session = current()
    if task is not None:
        session.needs_app("--task")
        if task not in session.app.tasks:
            near = did_you_mean(task, [*session.app.tasks])
            raise exit_codes.CommandError(exit_codes.NOT_FOUND, f"the app has no task '{task}'{near}")
    if not session.app.results.keeps:
        from qcore.errors import ResultsNotKept

        raise ResultsNotKept(session.app.broker_url())
    meta = None
    if wait:
        from qctl.fleet.await_result import await_result

        meta = await_result(session, task_id, session.options.timeout)
    if meta is None:
        meta = session.app.results.get([task_id])[0]
        if wait:
            raise _too_late(session, task_id)
    if meta is None:
        raise exit_codes.CommandError(
            exit_codes.NOT_FOUND,
            f"no result is known for the id {task_id}",
            "it may still wait in a queue, its result may have expired, or the id is wrong",
        )
    return print_result(session, meta, "stdout" if traceback else "hint")


def _too_late(session: Session, task_id: str) -> exit_codes.CommandError:
    limit = f"{session.options.timeout or 0:g} s"
    return exit_codes.CommandError(exit_codes.TIMED_OUT, f"no result of {task_id} within {limit}")
