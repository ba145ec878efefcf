"""`qctl logtool`: count and search records in worker logs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
import msgspec

from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.session import current
from qctl.output.table import Column
from qctl.output.text import count

#: [2026-01-31 12:00:00,000: INFO/MainProcess] text
_LINE = re.compile(r"^\[(?P<at>[^\]]*?): (?P<level>[A-Z]+)/(?P<process>[^\]]*)\] (?P<text>.*)")
_TASK = re.compile(
    r"Task (?P<name>[\w.:<>@-]+)\[(?P<id>[^\]\s]+)\]:? ?"
    r"(?:\([^)]*\) )?"
    r"(?P<verb>received|succeeded in (?P<took>[\d.e-]+)s|raised unexpected|raised expected|retry)?"
)
_ENDS = ("succeeded", "raised", "retry")


class Entry(msgspec.Struct):
    """One record of a log: its line, and the lines that follow it (tracebacks)."""

    at: str
    level: str
    text: str
    more: list[str] = []
    task: str = ""
    id: str = ""
    verb: str = ""
    took_s: float | None = None


def entries(files: Sequence[str]) -> Iterator[Entry]:
    """The records of logs in Celery's format, qcore's, or JSON lines; lines of another format belong to the
    record before them."""
    for file in files or ("-",):
        with click.open_file(file, encoding="utf-8", errors="replace") as lines:
            yield from _read(lines)


def _read(lines: Iterable[str]) -> Iterator[Entry]:
    last: Entry | None = None
    for raw in lines:
        line = raw.rstrip("\n")
        found = _entry(line)
        if found is None:
            if last is not None:
                last.more.append(line)
            continue
        if last is not None:
            yield last
        last = found
    if last is not None:
        yield last


def _entry(line: str) -> Entry | None:
    if line.startswith("{"):
        try:
            fields = json.loads(line)
            entry = Entry(str(fields["time"]), str(fields["level"]), str(fields["message"]))
            entry.more = str(fields.get("traceback") or "").splitlines()
        except (ValueError, KeyError, TypeError):
            return None
    elif (found := _LINE.match(line)) is not None:
        entry = Entry(found["at"], found["level"], found["text"])
    else:
        return None
    task = _TASK.search(entry.text)
    if task is not None:
        entry.task, entry.id = task["name"], task["id"]
        entry.verb = (task["verb"] or "").split(" ")[0]
        entry.took_s = float(task["took"]) if task["took"] else None
    return entry


command = CliGroup(
    "logtool",
    help="""Count and find entries in worker logs.

    Logs are read in Celery's default format, ours, or as JSON lines; several files, or stdin.""",
    examples=[
        ("qctl logtool stats worker.log", "counts and run times by task name"),
        ("qctl logtool errors *.log", "errors, with tracebacks"),
    ],
    subcommand_metavar="COMMAND [FILE]...",
    see_also=["failed", "events"],
)


def _stats(files: tuple[str, ...]) -> None:
    started: Counter[str] = Counter()
    ended: dict[str, Counter[str]] = {}
    took: dict[str, list[float]] = {}
    for entry in entries(files):
        if entry.verb == "received":
            started[entry.task] += 1
        elif entry.verb in _ENDS:
            ended.setdefault(entry.task, Counter())[entry.verb] += 1
            if entry.took_s is not None:
                took.setdefault(entry.task, []).append(entry.took_s)
    items: list[dict[str, Any]] = []
    for name in sorted({*started, *ended}):
        counts, times = ended.get(name, Counter()), took.get(name, [])
        items.append(
            {
                "task": name,
                "received": started[name],
                "succeeded": counts["succeeded"],
                "failed": counts["raised"],
                "retried": counts["retry"],
                "mean_s": sum(times) / len(times) if times else None,
                "longest_s": max(times, default=None),
            }
        )
    names = ("TASK", "RECEIVED", "SUCCEEDED", "FAILED", "RETRIED", "MEAN", "LONGEST")
    columns = [Column(name, name != "TASK") for name in names]
    rows = [
        [*(str(v) for v in list(i.values())[:5]), _span(i["mean_s"]), _span(i["longest_s"])] for i in items
    ]
    current().out.items("logtool.stats", items, columns, rows, "task")


def _span(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}s"


def _print(schema: str, found: Iterable[Entry], with_more: bool) -> None:
    out = current().out
    chosen = list(found)
    items = [
        {"at": e.at, "level": e.level, "task": e.task or None, "id": e.id or None, "message": e.text}
        | ({"traceback": "\n".join(e.more) or None} if with_more else {})
        for e in chosen
    ]
    if out.for_people:
        for entry in chosen:
            out.text(
                "\n".join([f"{entry.at} {entry.level} {entry.text}", *(entry.more if with_more else ())])
            )
    else:
        out.items(schema, items, [Column("ID")], [[e.id] for e in chosen], "id")
    out.note(count(len(chosen), "record"))


def _traces(files: tuple[str, ...]) -> None:
    _print("logtool.traces", (e for e in entries(files) if any("Traceback" in m for m in e.more)), True)


def _errors(files: tuple[str, ...]) -> None:
    _print("logtool.errors", (e for e in entries(files) if e.level in ("ERROR", "CRITICAL")), True)


def _debug(files: tuple[str, ...]) -> None:
    _print("logtool.debug", (e for e in entries(files) if e.level == "DEBUG"), False)


def _incomplete(files: tuple[str, ...]) -> None:
    open_: dict[str, Entry] = {}
    for entry in entries(files):
        if entry.verb == "received":
            open_[entry.id] = entry
        elif entry.verb in ("succeeded", "raised"):
            open_.pop(entry.id, None)
    items = [{"id": e.id, "task": e.task, "received_at": e.at} for e in open_.values()]
    rows = [[str(v) for v in item.values()] for item in items]
    columns = [Column("ID"), Column("TASK"), Column("RECEIVED")]
    current().out.items("logtool.incomplete", items, columns, rows, "id")
    current().out.note(f"{count(len(items), 'task')} received without an outcome in this log")


for name, callback, words in (
    ("stats", _stats, "Count tasks by name: received, succeeded, failed, run time"),
    ("errors", _errors, "Print records of level ERROR and above, with tracebacks"),
    ("traces", _traces, "Print records that have a traceback"),
    ("incomplete", _incomplete, "List tasks that were received and have no outcome"),
    ("debug", _debug, "Print records of level DEBUG"),
):
    command.add_command(
        CliCommand(
            name,
            callback=callback,
            params=[
                click.Argument(["files"], nargs=-1, metavar="[FILE]...", type=click.Path(allow_dash=True))
            ],
            help=f"{words}.",
            examples=[
                (f"qctl logtool {name} worker.log", "one log"),
                (f"qctl logtool {name} -o json < w.log", "stdin"),
            ],
            see_also=["logtool"],
        )
    )
