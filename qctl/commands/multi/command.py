"""`qctl multi`: start, stop and restart several workers of this host."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.global_options import GlobalOption
from qctl.cli.session import current
from qctl.cli.types import nearest
from qctl.commands.multi.nodes import Node, Plan, expand, remembered, wait_gone, wait_ready
from qctl.output.table import Column

#: seconds until a worker must be ready; -t replaces it
START_S = 15.0
COLUMNS = [Column("WORKER"), Column("STATE"), Column("PID", True)]


class Words(CliCommand):
    """A command that passes its words to the workers, except the global options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        takes = {
            name: not p.is_flag
            for p in self.params
            if isinstance(p, GlobalOption)
            for name in (*p.opts, *p.secondary_opts)
        }
        ours: list[str] = []
        rest: list[str] = []
        words = list(args)
        while words:
            word = words.pop(0)
            if word in ("-h", "--help"):
                ours.append(word)
            elif word.partition("=")[0] in takes:
                ours.append(word)
                if takes[word.partition("=")[0]] and "=" not in word and words:
                    ours.append(words.pop(0))
            else:
                rest.append(word)
        return super().parse_args(ctx, [*ours, "--", *rest])


command = CliGroup(
    "multi",
    help="""Start, stop and restart several workers of this host.

    Arguments are those of Celery's multi: names of workers, or their number; options for all workers, or
    for some of them: `-c:w1 4`, `-c:1-3 4`, `-Q:w1,w2 mails`. Pid and log files are in the user's state
    directory unless --pidfile and --logfile are given (%n is the short name, %h the host). The options of
    a worker are stored next to its pid file: stop, restart and show need no options; without names they
    apply to all workers.""",
    examples=[
        ("qctl -A proj multi start w1 w2 -c 4 -Q:w2 mails", "two workers, one of them with its own queue"),
        ("qctl -A proj multi start 3 -l info --pidfile run/%n.pid --logfile log/%n.log", "three"),
        ("qctl multi restart w1", "with its original options"),
        ("qctl multi stopwait", "all workers; running tasks finish first"),
    ],
    exit_codes={
        exit_codes.FAILED: "a worker did not start; the reason is on stderr and in its log",
        exit_codes.NOT_FOUND: "no worker of that name was started here",
        exit_codes.PARTIAL: "some workers still run",
    },
    subcommand_metavar="COMMAND [NAMES]... [WORKER OPTIONS]",
    see_also=["worker", "status"],
)


def _plan(words: Sequence[str]) -> Plan:
    from qctl.commands.worker.command import command as worker

    options = current().options
    urls = {"QCTL_BROKER_URL": options.broker, "QCTL_RESULT_BACKEND": options.result_backend}
    env = {name: value for name, value in urls.items() if value}
    return Plan(words, worker, ["-A", options.app] if options.app else [], env)


def _known(words: Sequence[str]) -> list[Node]:
    """The named nodes with their last options; without names all. Raises CommandError if unknown."""
    plan = _plan(words)
    started = {n.name: n for n in remembered(plan.own.get("--pidfile"), current().out.warn)}
    if not plan.names:
        return list(started.values())
    chosen = []
    for node in plan.nodes():
        if node.name not in started and node.pid() is None:
            hint = nearest(node.name, started)
            raise exit_codes.CommandError(
                exit_codes.NOT_FOUND, f"no worker named '{node.name}' was started here{hint}"
            )
        chosen.append(started.get(node.name, node))
    return chosen


def _print(items: list[dict[str, Any]]) -> None:
    rows = [[i["node"], i["state"], "-" if i["pid"] is None else str(i["pid"])] for i in items]
    current().out.items("multi", items, COLUMNS, rows, "node")


def _item(node: Node, state: str, pid: int | None) -> dict[str, Any]:
    return {"node": node.name, "state": state, "pid": pid, "log": node.logfile, "pidfile": node.pidfile}


# --- what they do


def _start(words: tuple[str, ...]) -> int:
    plan = _plan(words)
    if not plan.names:
        raise exit_codes.CommandError(
            exit_codes.USAGE, "name the workers, or give their number", "see `qctl multi --help`"
        )
    if current().options.app:
        return _start_all(plan.nodes())
    if plan.names[0].isdecimal():
        current().needs_app("a worker")
    return _start_all(_known(words))  # with their last options


def _start_all(nodes: Sequence[Node]) -> int:
    waiting: list[tuple[Node, int]] = []
    items = []
    for node in nodes:
        if (pid := node.pid()) is not None:
            items.append(_item(node, "runs already", pid))
            continue
        log = Path(node.logfile)
        size = log.stat().st_size if log.exists() else 0
        try:
            node.start()
        except OSError as exc:
            raise exit_codes.CommandError(
                exit_codes.NOT_PERMITTED, f"cannot start {node.name}: {exc.strerror}: {exc.filename}"
            ) from None
        waiting.append((node, size))
    code = exit_codes.OK
    for node, size in waiting:
        state = wait_ready(node, size, current().options.timeout or START_S)
        word, _, why = state.partition(": ")
        if why:
            current().out.warn(f"{node.name} did not start: {why} (log: {node.logfile})")
            code = exit_codes.FAILED
        items.append(_item(node, word, node.pid()))
    _print(items)
    return code


def _stop(words: tuple[str, ...]) -> int:
    return _end(_known(words), signal.SIGTERM, wait=False)


def _stop_and_wait(words: tuple[str, ...]) -> int:
    return _end(_known(words), signal.SIGTERM, wait=True)


def _kill(words: tuple[str, ...]) -> int:
    return _end(_known(words), signal.SIGKILL, wait=True)


def _end(nodes: Sequence[Node], number: int, wait: bool) -> int:
    pids = {node.name: node.pid() for node in nodes}
    for pid in pids.values():
        if pid is not None:
            os.kill(pid, number)
    left = wait_gone(nodes, current().options.timeout) if wait else []
    words = "stopped" if wait else "asked to stop"
    items = [
        _item(
            n,
            "was not running" if pids[n.name] is None else "still runs" if n in left else words,
            pids[n.name],
        )
        for n in nodes
    ]
    _print(items)
    return exit_codes.PARTIAL if left else exit_codes.OK


def _restart(words: tuple[str, ...]) -> int:
    plan = _plan(words)
    given = {n.name: n for n in plan.nodes()} if current().options.app else {}
    nodes = list(given.values()) or _known(words)
    for node in nodes:
        if (pid := node.pid()) is not None:
            os.kill(pid, signal.SIGTERM)
    left = wait_gone(nodes, current().options.timeout)
    if left:
        raise exit_codes.CommandError(exit_codes.PARTIAL, f"still running: {', '.join(n.name for n in left)}")
    return _start_all(nodes)


def _show(words: tuple[str, ...]) -> None:
    nodes = _plan(words).nodes() if current().options.app else _known(words)
    items = [{"node": n.name, "command": n.line, "pid": n.pid(), "log": n.logfile} for n in nodes]
    rows = [["-" if i[k] is None else str(i[k]) for k in ("node", "pid", "command")] for i in items]
    columns = [Column("WORKER"), Column("PID", True), Column("COMMAND")]
    current().out.items("multi.show", items, columns, rows, "node")


def _names(words: tuple[str, ...]) -> None:
    _lines("names", "node", [node.name for node in _plan(words).nodes()])


def _get(words: tuple[str, ...]) -> None:
    if not words:
        raise exit_codes.CommandError(exit_codes.USAGE, "name the worker")
    plan = _plan(words[1:])
    found = {n.name.partition("@")[0]: n for n in plan.nodes()}
    node = found.get(words[0].partition("@")[0])
    if node is None:
        raise exit_codes.CommandError(
            exit_codes.NOT_FOUND, f"no worker '{words[0]}' among them{nearest(words[0], found)}"
        )
    _lines("get", "command", [node.line])


def _expand(words: tuple[str, ...]) -> None:
    if not words:
        raise exit_codes.CommandError(exit_codes.USAGE, "give a template such as %n.log, then the names")
    _lines("expand", "text", [expand(words[0], node.name) for node in _plan(words[1:]).nodes()])


def _lines(schema: str, key: str, values: list[str]) -> None:
    """One value per line, without a heading, as in Celery's multi."""
    out = current().out
    if out.for_people:
        for value in values:
            out.line(value)
    else:
        out.items(f"multi.{schema}", [{key: v} for v in values], [Column(key)], [[v] for v in values], key)


PAGES: dict[str, tuple[Callable[..., Any], str, str, bool]] = {
    "start": (_start, "Start workers", "start w1 w2 -l info", True),
    "stop": (_stop, "Ask workers to stop: running tasks finish first", "stop w1", True),
    "stopwait": (_stop_and_wait, "Stop workers and wait until they have exited", "stopwait -t 1m", True),
    "stop_verify": (_stop_and_wait, "The same as stopwait", "stop_verify w1", True),
    "restart": (
        _restart,
        "Stop workers, wait, and start them with their original options",
        "restart w1",
        True,
    ),
    "kill": (_kill, "Kill workers; their tasks run again elsewhere", "kill w1", True),
    "show": (_show, "Print the command lines of workers", "show", False),
    "names": (_names, "Print the full names of workers", "names 3", False),
    "get": (_get, "Print the command line of one worker", "get w1 w1 w2 -c 4", False),
    "expand": (_expand, "Print a template for each worker", "expand %n.log 3", False),
}

for name, (callback, words, line, changes) in PAGES.items():
    command.add_command(
        Words(
            name,
            callback=callback,
            help=f"{words}.",
            params=[click.Argument(["words"], nargs=-1, metavar="[WORDS]...")],
            examples=[(f"qctl {'-A proj ' if name == 'start' else ''}multi {line}", words.lower())],
            exit_codes=(exit_codes.FAILED, exit_codes.NOT_FOUND, exit_codes.PARTIAL),
            changes=changes,
            see_also=["multi"],
        )
    )
