"""`qctl call`: send a task; with --wait print its result.

In:  a task name and options.  Out: the task id, and nothing else, on stdout.
After this: qcore/app/app.py builds the message.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.session import Session, current
from qctl.cli.types import Header, Json, Moment, OneOf, QueueName, Span, TaskName, nearest
from qctl.output.table import Column

if TYPE_CHECKING:
    from qcore.control.client import Answers

#: time-out of the query for the registered tasks, seconds
CHECK_S = 0.5
#: seconds to wait for the result when no worker answered: an idle one may run without remote control
GRACE_S = 0.6
#: messages of --count in one round trip
BATCH = 1000


@page(
    "call",
    changes=True,
    examples=[
        ("qctl call proj.add -a '[2, 2]'", "send a task; prints its id"),
        ("qctl call proj.add -a '[2, 2]' --wait -t 10", "wait for the result and print it"),
        ('qctl call proj.mail -k \'{"to": "a@b.c"}\' --countdown 10m', "run it in ten minutes"),
        ("qctl call proj.add -a '[1, 1]' --queue slow --priority 9", "to a queue, at a priority"),
        ("qctl call proj.load -k @load.json --dry-run", "print the message; send nothing"),
    ],
    exit_codes={
        exit_codes.FAILED: "--wait: the task failed; its traceback is on stderr",
        exit_codes.NOT_FOUND: "no worker has registered the task (nothing was sent)",
        exit_codes.NO_ANSWER: "--wait: the task was sent, and no worker is online to run it",
        exit_codes.TIMED_OUT: "--wait: no result within -t; the task may still run",
    },
    see_also=["result", "inspect registered"],
)
@click.argument("name", type=TaskName(), metavar="NAME")
@click.option(
    "-a",
    "--args",
    "args",
    type=Json(list, "'[2, 2]'"),
    help="Arguments as a JSON list; @FILE reads a file, - stdin.",
)
@click.option(
    "-k",
    "--kwargs",
    "kwargs",
    type=Json(dict, "'{\"x\": 2}'"),
    help="Keyword arguments as a JSON object; @FILE reads a file, - stdin.",
)
@click.option("-Q", "--queue", type=QueueName(), metavar="TEXT", help="Queue to send the task to.")
@click.option("--exchange", help="Exchange to send the task to (with --routing-key).")
@click.option("--routing-key", help="Routing key.")
@click.option("--priority", type=click.IntRange(0, 9), help="Priority, 0 to 9.")
@click.option("--countdown", type=Span(), help="Run the task after this delay.")
@click.option("--eta", type=Moment(), help="Run the task at this time or later.")
@click.option("--expires", type=Moment(), help="Discard the task if it has not started by then.")
@click.option("--id", "task_id", help="Task id. [default: random]")
@click.option("-H", "--header", type=Header(), multiple=True, help="Message header; repeatable.")
@click.option(
    "--serializer", type=OneOf("serializer", ("json", "yaml", "msgpack")), help="Serializer of the arguments."
)
@click.option(
    "--compression",
    type=OneOf("compression", ("gzip", "bzip2", "lzma", "zstd", "brotli")),
    help="Compression of the message.",
)
@click.option("--time-limit", type=Span(), help="Hard time limit: kill the task after this time.")
@click.option(
    "--soft-time-limit", type=Span(), help="Soft time limit: raise SoftTimeLimitExceeded in the task."
)
@click.option("--idempotency-key", help="Calls with the same key are enqueued once.")
@click.option("--count", type=click.IntRange(1, 1_000_000), default=1, help="Send the task this many times.")
@click.option("--dry-run", is_flag=True, help="Print the message; send nothing.")
@click.option("--wait", is_flag=True, help="Wait for the result, at most -t, and print it.")
@click.option("--no-check", is_flag=True, help="Send without checking that a worker has registered the task.")
def command(
    name: str,
    args: list[Any] | None,
    kwargs: dict[str, Any] | None,
    header: tuple[tuple[str, str], ...],
    count: int,
    dry_run: bool,
    wait: bool,
    no_check: bool,
    **options: Any,
) -> int:
    """Send a task, and wait for its result if asked.

    The name is compared with the tasks that workers have registered before the task is sent; when no
    worker is online it is sent without that check and waits in its queue.
    """
    session = current()
    if count > 1 and (wait or options["task_id"] or options["idempotency_key"]):
        raise exit_codes.CommandError(
            exit_codes.USAGE, "--count cannot be combined with --wait, --id or --idempotency-key"
        )
    given = {k: v for k, v in {**options, "headers": dict(header) or None}.items() if v is not None}
    if wait:
        given["ignore_result"] = False  # also where the task, or the worker's setting, says otherwise
    if dry_run:
        return _show(session, name, args or [], kwargs or {}, given)
    fleet = None if no_check else _check_name(session, name)
    if wait and not session.app.results.keeps:
        from qcore.errors import ResultsNotKept

        raise ResultsNotKept(session.app.broker_url())
    ids = _send(session, name, args or [], kwargs or {}, given, count)
    if wait:
        return _wait(session, ids[0], nobody=fleet is not None and not fleet.replies and not fleet.silent)
    _print_ids(session, name, ids)
    return exit_codes.OK


def _show(
    session: Session, name: str, args: list[Any], kwargs: dict[str, Any], options: dict[str, Any]
) -> int:
    """Print the message without sending it."""
    from qcore.base.times import new_id
    from qcore.wire import envelope

    with _refusing(name):
        message = session.app.message(name, args, kwargs, options.get("task_id") or new_id(), options)
    found = envelope.decode(message.raw)
    fields = {
        "queue": message.queue or None,
        "exchange": message.exchange or None,
        "routing_key": message.routing_key or None,
        "due_at": message.due_at,
        "headers": found.headers,
        "content_type": found.content_type,
        "body": envelope.body_value(found),
    }
    if session.out.for_people:
        import json

        session.out.text(json.dumps(fields, indent=2, ensure_ascii=False, default=str))
    else:
        session.out.document("call.message", fields)
    session.out.note("nothing was sent (--dry-run)")
    return exit_codes.OK


def _check_name(session: Session, name: str) -> Answers | None:
    """The workers' answers. Raises CommandError when workers answer and none has registered the task."""
    if session.options.app and name in session.app.tasks and not session.app.is_celery:
        return session.app.control.ask("ping", timeout_s=CHECK_S)
    answers = session.app.control.ask("registered", {"builtins": True}, timeout_s=CHECK_S)
    known = {
        str(line).split(" [")[0]
        for reply in answers.replies.values()
        if isinstance(reply, list)
        for line in reply
    }
    if not known and answers.silent:
        words = f"no worker answered within {CHECK_S:g} s"
        session.out.note(f"{words}; whether '{name}' is registered was not checked")
    if known and name not in known:
        raise exit_codes.CommandError(
            exit_codes.NOT_FOUND,
            f"no worker has registered a task named '{name}'{nearest(name, known)}",
            "`qctl inspect registered` lists them; --no-check sends it anyway",
        )
    return answers


def _send(
    session: Session,
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    options: dict[str, Any],
    count: int,
) -> list[str]:
    with _refusing(name):
        if count == 1:
            return [session.app.send_task(name, args, kwargs, retry=False, **options).id]
        signature = session.app.signature(name, args, kwargs, options=options)
        ids: list[str] = []
        while len(ids) < count:
            some = min(BATCH, count - len(ids))
            ids += [sent.id for sent in session.app.send_many([signature] * some)]
        return ids


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, ImportError) as exc:
        raise exit_codes.CommandError(exit_codes.USAGE, f"cannot send '{name}': {exc}") from exc


def _print_ids(session: Session, name: str, ids: list[str]) -> None:
    if session.out.for_people:
        for task_id in ids:
            session.out.line(task_id)
    elif len(ids) == 1:
        session.out.document("call", {"id": ids[0], "name": name})
    else:
        items = [{"id": task_id, "name": name} for task_id in ids]
        session.out.items("call", items, [Column("ID")], [[i] for i in ids], "id")


def _wait(session: Session, task_id: str, nobody: bool) -> int:
    from qctl.fleet.await_result import await_result
    from qctl.fleet.print_result import print_result

    timeout = session.options.timeout
    patience = min(GRACE_S, timeout or GRACE_S) if nobody else timeout
    meta = await_result(session, task_id, patience)
    if meta is not None:
        return print_result(session, meta, "stderr")
    if nobody:
        raise exit_codes.CommandError(
            exit_codes.NO_ANSWER,
            f"no worker is online to run the task; it was sent as {task_id} and waits in its queue",
            f"start a worker, then `qctl result {task_id} --wait`",
        )
    raise exit_codes.CommandError(
        exit_codes.TIMED_OUT,
        f"no result of {task_id} within {timeout:g} s; the task may still run",
        f"`qctl result {task_id} --wait` continues to wait",
    )
