"""Replies of a fleet, for people and for programs.

In:  Answers.  Out: a table if replies are lists or single values, a block per worker if they are trees. A
command without a format of its own gets one from the shape of its replies.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from qcore.wire.event import moment
from qctl.output.secrets import hide
from qctl.output.table import Cell, Column
from qctl.output.text import age, shown
from qctl.output.writer import Output, to_json

if TYPE_CHECKING:
    from qcore.control.client import Answers
    from qcore.control.commands.base import Command

Row = list[str | Cell]
Rows = Iterable[Row]


#: the reply of Celery's workers to a command that raises: the repr of the exception
_RAISED = re.compile(r"""(\w+)\((['"])(.*)\2,?\)""", re.DOTALL)


def errors(answers: Answers) -> dict[str, str]:
    """The error text of each worker that refused."""
    return {
        node: _in_words(str(value["error"]))
        for node, value in answers.replies.items()
        if isinstance(value, dict) and set(value) == {"error"}
    }


def _in_words(error: str) -> str:
    found = _RAISED.fullmatch(error)
    if found is None:
        return error
    return f"it knows no command '{found[3]}'" if found[1] == "KeyError" else found[3]


def write(out: Output, command: Command, answers: Answers) -> None:
    """Print the replies in the chosen format."""
    replies = {node: hide(value) for node, value in sorted(answers.replies.items())}
    refused = errors(answers)
    answered = {n: _without_held(v) for n, v in replies.items() if n not in refused}
    if out.format in ("json", "yaml"):
        silent = [{"node": s.node, "age_s": s.age_s} for s in answers.silent]
        _document(out, command, replies, silent, answers.unknown)
    elif out.format == "ndjson":
        out.objects([{"node": node, "reply": value} for node, value in replies.items()], "node")
    elif out.format == "name":
        for node in replies:
            out.line(shown(node))
    else:
        if command.name == "scheduled":
            answered = _each_once(answered)
        if out.for_people:
            _write_table(out, command.name, answered)
        else:
            _write_records(out, command.name, answered)


def _each_once(replies: dict[str, Any]) -> dict[str, Any]:
    """Replies to `scheduled` with each task at the first worker that lists it: what waits in the broker is
    listed by all qcore workers of its queue."""
    listed: set[str] = set()
    found: dict[str, Any] = {}
    for node, entries in replies.items():
        new = []
        for entry in _dicts(entries):
            request = entry.get("request")
            task_id = str(request.get("id") or "") if isinstance(request, dict) else ""
            if task_id not in listed:
                new.append(entry)
            listed |= {task_id} - {""}
        found[node] = new if isinstance(entries, list) else entries
    return found


def _without_held(value: Any) -> Any:
    """A revoke reply without the held tasks: task_location.py reports them separately."""
    if isinstance(value, dict) and set(value) == {"ok", "held"}:
        return {"ok": value["ok"]}
    return value


def write_empty(out: Output, command: Command) -> None:
    """Print the empty document when no worker replied."""
    if out.format in ("json", "yaml"):
        _document(out, command, {}, [], [])
    elif out.format == "csv":
        _write_records(out, command.name, {})


def _document(
    out: Output, command: Command, replies: Mapping[str, Any], silent: list[Any], unknown: list[str]
) -> None:
    fields = {"replies": replies, "silent": silent, "unknown": unknown}
    out.document(f"{command.kind}.{command.name}", fields)


def _form(name: str, replies: Mapping[str, Any]) -> tuple[list[Column], Callable[[Any], Rows]] | None:
    """Columns, and a function that makes the rows of a reply; None for replies that are trees."""
    form = _FORMS.get(name)
    if form is None and name not in _TREES:
        form = next((f for fits, f in _SHAPES if all(fits(v) for v in replies.values())), None)
    return form


def _write_table(out: Output, name: str, replies: dict[str, Any]) -> None:
    form = _form(name, replies)
    if form is None:
        _blocks(out, replies)
        return
    columns, rows_of = form
    out.table([Column("WORKER"), *columns], [[n, *row] for n, v in replies.items() for row in rows_of(v)])


def _write_records(out: Output, name: str, replies: dict[str, Any]) -> None:
    """One line for each row of the table; of a tree, for each leaf with its path."""
    columns, rows_of = _form(name, replies) or (_columns("key", "value"), _leaves)
    fields = ["node", *(column.key for column in columns)]
    out.records(
        [
            dict(zip(fields, [n, *(c.text if isinstance(c, Cell) else c for c in row)], strict=True))
            for n, v in replies.items()
            for row in rows_of(v)
        ],
        fields,
    )


def _leaves(value: Any, path: str = "") -> Rows:
    """(path, value) of every leaf of a tree."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield [path, _text(value)]


def _blocks(out: Output, replies: dict[str, Any]) -> None:
    for number, (node, value) in enumerate(replies.items()):
        if number:
            out.line("")
        out.line(shown(node))
        inner = value.get("ok") if isinstance(value, dict) and set(value) == {"ok"} else value
        if isinstance(inner, str):
            out.text("\n".join(f"  {line}" for line in inner.strip().splitlines()))
        else:
            for line in _tree(inner, "  "):
                out.line(line)


def _tree(value: Any, indent: str) -> Iterable[str]:
    if not isinstance(value, dict):
        yield f"{indent}{_text(value)}"
        return
    wide = min(max((len(str(k)) for k in value), default=0), 34)
    for key in sorted(value, key=str):
        inner = value[key]
        if isinstance(inner, dict) and inner:
            yield f"{indent}{shown(str(key))}"
            yield from _tree(inner, indent + "  ")
        else:
            yield f"{indent}{shown(str(key)):<{wide}}  {shown(_text(inner))}"


def _text(value: Any) -> str:
    """A value in one line: text unchanged, other values as JSON."""
    return value if isinstance(value, str) else "-" if value is None else to_json(value)


def _arguments(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def _tasks(value: Any) -> Rows:
    now = time.time()
    for task in _dicts(value):
        started = moment(task.get("time_start"))
        running = "-" if started is None else age(now - started)
        yield [
            _text(task.get("id")),
            _text(task.get("name")),
            running,
            _arguments(task.get("args")),
            _arguments(task.get("kwargs")),
        ]


def _scheduled(value: Any) -> Rows:
    for entry in _dicts(value):
        request = entry.get("request")
        task = request if isinstance(request, dict) else {}
        yield [
            _text(task.get("id")),
            _text(task.get("name")),
            _text(entry.get("eta")),
            _arguments(task.get("args")),
            _arguments(task.get("kwargs")),
        ]


def _queried(value: Any) -> Rows:
    for task_id, found in value.items() if isinstance(value, dict) else ():
        state, task = found if isinstance(found, list) and len(found) == 2 else ("-", {})
        name = task.get("name") if isinstance(task, dict) else None
        yield [str(task_id), _text(state), _text(name)]


def _queues(value: Any) -> Rows:
    for queue in _dicts(value):
        exchange = queue.get("exchange")
        inner = exchange if isinstance(exchange, dict) else {}
        yield [
            _text(queue.get("name")),
            _text(inner.get("name")),
            _text(inner.get("type")),
            _text(queue.get("routing_key")),
            _paused(queue),
        ]


def _paused(queue: Mapping[str, Any]) -> str:
    """Whether the queue is paused, by whom and why."""
    pause = queue.get("pause")
    if not queue.get("paused") or not isinstance(pause, Mapping):
        return "yes" if queue.get("paused") else ""
    by, why = pause.get("by"), pause.get("reason")
    return "yes" + (f" by {_text(by)}" if by else "") + (f": {_text(why)}" if why else "")


def _dicts(value: Any) -> Iterable[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _one(value: Any) -> Rows:
    """A row for a single value, {'ok': value}, or a mapping with one key."""
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    return [[_text(value)]]


def _each(value: Any) -> Rows:
    return [[_text(v)] for v in value]


def _is_one(value: Any) -> bool:
    if isinstance(value, dict):
        return len(value) == 1 and _is_one(next(iter(value.values())))
    return not isinstance(value, list) and not (isinstance(value, str) and "\n" in value)


def _is_flat_list(value: Any) -> bool:
    return isinstance(value, list) and all(not isinstance(v, dict | list) for v in value)


def _columns(*names: str) -> list[Column]:
    return [Column(n.upper(), n == "age") for n in names]


_FORMS: dict[str, tuple[list[Column], Callable[[Any], Rows]]] = {
    "active": (_columns("id", "name", "age", "args", "kwargs"), _tasks),
    "reserved": (_columns("id", "name", "age", "args", "kwargs"), _tasks),
    "scheduled": (_columns("id", "name", "eta", "args", "kwargs"), _scheduled),
    "query_task": (_columns("id", "state", "name"), _queried),
    "active_queues": (_columns("queue", "exchange", "type", "routing_key", "paused"), _queues),
    "registered": (_columns("task"), _each),
    "revoked": (_columns("id"), _each),
}

#: commands whose replies are mappings of many values, even if one has a single entry
_TREES = frozenset(("conf", "stats", "report"))

_SHAPES: list[tuple[Callable[[Any], bool], tuple[list[Column], Callable[[Any], Rows]]]] = [
    (_is_one, (_columns("reply"), _one)),
    (_is_flat_list, (_columns("value"), _each)),
]
