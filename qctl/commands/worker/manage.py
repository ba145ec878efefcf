"""`qctl worker ls, stack, drain, resume, restart`: manage running workers.

In:  names or globs of workers.  Out: lists, and an exit code that shows whether all workers complied.
Before this: qctl/commands/worker/command.py, whose subcommands they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand
from qctl.cli.confirm import CODES, ask
from qctl.cli.confirm import options as consent_options
from qctl.cli.session import current
from qctl.cli.types import WorkerName
from qctl.fleet import stacks
from qctl.fleet.silent_workers import report_silence
from qctl.fleet.worker_facts import WorkerFacts, facts_of
from qctl.output import replies
from qctl.output.table import Column
from qctl.output.text import age, count

if TYPE_CHECKING:
    from qcore.control.client import Answers

LOOK_S = 0.2
ENDS = {
    exit_codes.NOT_FOUND: "no worker of that name",
    exit_codes.PARTIAL: "some are silent, refused, or did not finish in time",
    exit_codes.NO_ANSWER: "no worker is online",
}


def _timeout() -> float:
    """For one request of a command whose -t is the time for all of them."""
    return min(current().options.timeout or 1.0, 1.0)


def _ask(method: str, destination: list[str] | None) -> tuple[dict[str, Any], dict[str, str], int]:
    """Replies, refusals and the exit code. Raises CommandError when no worker answers."""
    answers = current().app.control.ask(method, None, destination, _timeout())
    refused, code = _complaints(answers, destination)
    return {n: v for n, v in sorted(answers.replies.items()) if n not in refused}, refused, code


def _complaints(
    answers: Answers, destination: list[str] | None, timeout_s: float | None = None
) -> tuple[dict[str, str], int]:
    """Name the workers that are silent or refused; the refusals and the exit code. Raises CommandError when
    no worker answered."""
    session = current()
    code = report_silence(session, answers, destination, timeout_s or _timeout())
    refused = replies.errors(answers)
    for node, words in refused.items():
        session.out.warn(f"{node} refused: {words}")
    if refused:
        code = exit_codes.FAILED if len(refused) == len(answers.replies) else exit_codes.PARTIAL
    return refused, code


def _ls(destination: tuple[str, ...]) -> int:
    session, nodes = current(), list(destination) or None
    timeout_s = session.options.timeout or 1.0
    answers = session.app.control.ask("stats", None, nodes, timeout_s)
    found = facts_of(session.app, answers, timeout_s)
    found |= {one.node: WorkerFacts(state="silent") for one in answers.silent}
    items: list[dict[str, Any]] = [
        {
            "node": node,
            "state": one.state,
            "pool": one.pool,
            "slots_used": one.running,
            "slots": one.slots,
            "processed": one.processed,
            "queues": None if one.queues is None else list(one.queues),
            "uptime_s": one.uptime_s,
            "version": one.version,
            "held": one.held,
            "software": one.software,
            "pid": one.pid,
        }
        for node, one in sorted(found.items())
    ]
    columns = [
        *(
            Column("WORKER"),
            Column("STATE"),
            Column("POOL"),
            Column("SLOTS", True),
            Column("HELD", True),
            Column("PROCESSED", True),
        ),
        *(Column("QUEUES"), Column("UPTIME", True), Column("VERSION")),
    ]
    rows = [
        [
            i["node"],
            i["state"],
            i["pool"] or "-",
            f"{'-' if i['slots_used'] is None else i['slots_used']}/{i['slots'] or '-'}",
            *("-" if i[key] is None else str(i[key]) for key in ("held", "processed")),
            ",".join(i["queues"] or ()) or "-",
            age(i["uptime_s"]),
            i["version"] or "-",
        ]
        for i in items
    ]
    if answers.silent and not answers.replies:
        session.out.items("worker", items, columns, rows, "node")  # its rows, before the error
    _, code = _complaints(answers, nodes, timeout_s)
    if answers.replies:
        session.out.items("worker", items, columns, rows, "node")
    return code


def _looks(timeout_s: float) -> Iterator[None]:
    """Yield at once, then every LOOK_S until timeout_s has passed, and once after that."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        yield
        time.sleep(min(LOOK_S, max(until - time.monotonic(), 0.0)))
    yield


def _left(nodes: list[str]) -> tuple[list[dict[str, Any]], set[str]]:
    """Tasks that these workers still run or hold, and the workers that did not answer."""
    control = current().app.control
    found: list[dict[str, Any]] = []
    unanswered: set[str] = set()
    if not nodes:
        return found, unanswered
    for method, state in (("active", "running"), ("reserved", "reserved")):
        answers = control.ask(method, None, nodes, _timeout())
        unanswered |= {s.node for s in answers.silent}
        for node, tasks in sorted(answers.replies.items()):
            for task in tasks if isinstance(tasks, list) else ():
                since = task.get("time_start")
                ago = max(time.time() - since, 0.0) if since else None
                found.append(
                    {"node": node, "id": task["id"], "name": task["name"], "state": state, "age_s": ago}
                )
    return found, unanswered


def _drain(destination: tuple[str, ...], wait: bool, yes: bool, dry_run: bool) -> int:
    session = current()
    patience = session.options.timeout if session.options.timeout is not None else 300.0
    known, _, code = _ask("ping", list(destination) or None)
    nodes = list(known)
    if not dry_run and nodes:
        ask(count(len(nodes), "worker"), "drained", yes)
        _, refused, code = _ask("drain", nodes)
        nodes = [n for n in nodes if n not in refused]
    left, unanswered = _left(nodes)
    if wait and not dry_run:
        shown = -1
        for _ in _looks(patience):
            left, unanswered = _left(nodes)
            if not left and not unanswered:
                break
            if len(left) != shown:
                shown = len(left)
                oldest = max((i["age_s"] or 0.0 for i in left), default=0.0)
                session.out.note(f"{count(shown, 'task')} left, the oldest runs for {age(oldest)}")
    columns = [Column("WORKER"), Column("TASK"), Column("NAME"), Column("STATE"), Column("AGE", True)]
    rows = [[i["node"], i["id"], i["name"], i["state"], age(i["age_s"])] for i in left]
    session.out.items("worker.drain", left, columns, rows, "id", workers=nodes, dry_run=dry_run)
    if dry_run:
        session.out.note(f"{count(len(nodes), 'worker')} would be drained (--dry-run)")
        return code
    if wait and unanswered:
        named = ", ".join(sorted(unanswered))
        session.out.warn(
            f"the tasks of these workers are unknown, they did not answer for {patience:g} s: {named}"
        )
    if wait and left:
        session.out.warn(f"{count(len(left), 'task')} still running after {patience:g} s; they are listed")
    if wait and (left or unanswered):
        return exit_codes.PARTIAL
    undo = "; `qctl worker resume` undoes it" if nodes else ""
    session.out.note(f"{count(len(nodes), 'worker')} drained{undo}")
    return code


def _resume(destination: tuple[str, ...]) -> int:
    found, _, code = _ask("resume", list(destination) or None)
    items = [{"node": node, "reply": value.get("ok")} for node, value in found.items()]
    rows = [[i["node"], str(i["reply"])] for i in items]
    current().out.items("worker.resume", items, [Column("WORKER"), Column("REPLY")], rows, "node")
    return code


def _stack(destination: tuple[str, ...]) -> int:
    session = current()
    wanted = list(destination) or None
    timeout_s = session.options.timeout or 1.0
    found = stacks.ask(session, [], wanted, timeout_s)
    stacks.write(session, "worker.stack", found)
    found.answers.silent, silent = [], found.answers.silent  # write() has named them
    code = report_silence(session, found.answers, wanted, timeout_s) if not silent else exit_codes.PARTIAL
    if not found.items and not silent and not found.without:
        session.out.note("no task runs")
    return exit_codes.PARTIAL if found.without else code


def _pids(stats: dict[str, Any]) -> set[int]:
    return set((stats.get("pool") or {}).get("processes") or ())


def _restart(destination: tuple[str, ...], yes: bool, dry_run: bool) -> int:
    """Restart the pools one worker at a time, so that the others continue to claim."""
    session = current()
    patience = session.options.timeout if session.options.timeout is not None else 300.0
    known, _, code = _ask("stats", list(destination) or None)
    items = []
    if not dry_run and known:
        ask(f"the pools of {count(len(known), 'worker')}", "replaced, one after the other", yes)
    for node, stats in known.items():
        state = "would be restarted" if dry_run else _restart_one(node, _pids(stats), patience)
        items.append({"node": node, "state": state})
    rows = [[i["node"], i["state"]] for i in items]
    columns = [Column("WORKER"), Column("STATE")]
    session.out.items("worker.restart", items, columns, rows, "node", dry_run=dry_run)
    return code if all(i["state"] not in ("refused", "not done") for i in items) else exit_codes.PARTIAL


def _restart_one(node: str, before: set[int], patience: float) -> str:
    control = current().app.control
    answers = control.ask("pool_restart", {}, [node], _timeout())
    if node not in answers.replies or replies.errors(answers):
        for words in replies.errors(answers).values():
            current().out.warn(f"{node} refused: {words}")
        return "refused"
    for _ in _looks(patience):
        now = control.ask("stats", None, [node], _timeout()).replies.get(node)
        if not isinstance(now, dict):
            continue
        pids = _pids(now)
        if pids and now.get("pid") in pids:
            return "nothing to replace"  # a pool of threads: its process is the worker itself
        if pids and not pids & before:
            return "restarted"
    return "not done"


def pages() -> list[CliCommand]:
    """The subcommands of `qctl worker`."""
    return [
        _page(
            "ls", _ls, "List workers with their pools, slots and queues.", [("qctl worker ls", "all workers")]
        ),
        _page(
            "stack",
            _stack,
            """Print where the running tasks are now: their Python stacks.

            The longest running tasks come first, the most recent call is the last one of each. The
            first line of a task says whether it executes Python code, waits in a call into C,
            computes in one, or awaits. The values of variables are not shown. A task is paused for
            some milliseconds at most. Celery's workers do not tell their stacks.

            A worker whose tasks run in its own process (all pools but prefork) cannot answer while a
            call into C keeps the interpreter lock; it is named as silent then.""",
            [
                ("qctl worker stack", "what all workers are doing"),
                ("qctl worker stack 'w1@*' -o json", "one worker, for scripts"),
            ],
        ),
        _page(
            "drain",
            _drain,
            """Drain workers: they claim no more tasks.

            Tasks that have not started return to their queues at once; running tasks continue. The
            workers stay online until `qctl worker resume` or a shutdown. With --wait the command ends
            when nothing runs any more, or after --timeout (5 minutes), with exit code 4 and a list of
            the running tasks.""",
            [
                ("qctl worker drain 'w*@h' --wait --timeout 5m", "before a deployment"),
                ("qctl worker drain --yes && qctl control shutdown", "all workers, without confirmation"),
            ],
            click.Option(["-w", "--wait"], is_flag=True, help="Wait until no task runs."),
            *consent_options(),
            changes=True,
        ),
        _page(
            "resume",
            _resume,
            "Resume workers after a drain.",
            [("qctl worker resume 'w*@h'", "after the deployment")],
            changes=True,
        ),
        _page(
            "restart",
            _restart,
            """Replace the processes of the pools, one worker after the other.

            Each process exits after its current task, so no task is interrupted. The code of the app is
            not loaded again: for that restart the worker itself. A pool without child processes
            (threads, asyncio, gevent, eventlet, solo) has nothing to replace.""",
            [("qctl worker restart 'w*@h' --yes", "when child processes use too much memory")],
            *consent_options(),
            changes=True,
        ),
    ]


def _page(
    name: str,
    callback: Callable[..., int],
    words: str,
    examples: list[tuple[str, str]],
    *options: click.Parameter,
    changes: bool = False,
) -> CliCommand:
    asks = {**CODES} if any(o.name == "yes" for o in options) else {}
    return CliCommand(
        name,
        callback=callback,
        params=[
            click.Argument(["destination"], nargs=-1, type=WorkerName(), metavar="[WORKER]..."),
            *options,
        ],
        help=words,
        examples=examples,
        exit_codes={**asks, **ENDS},
        see_also=["worker", "status", "control shutdown"],
        changes=changes,
    )
