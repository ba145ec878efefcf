"""Draw a workflow as a tree: parents, states, and the path to the task that ended last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qctl.output.text import age

if TYPE_CHECKING:
    from qctl.cli.session import Session

Record = dict[str, Any]


def draw(session: Session, family: list[Record]) -> None:
    """Print the tree; in a machine format, its items."""
    longest = _longest(family)
    out = session.out
    if not out.for_people:
        items = [
            {
                "id": r["id"],
                "parent_id": r.get("parent_id"),
                "name": r.get("name"),
                "state": r.get("state"),
                "runtime_s": r.get("runtime_s"),
                "on_longest_path": r["id"] in longest,
            }
            for r in family
        ]
        out.document("task.tree", {"items": items})
        return
    for line in tree_lines(family):
        out.text(line)


def tree_lines(family: list[Record]) -> Iterator[str]:
    """One line per task: name, state, duration, id; * marks the longest path."""
    ids = {r["id"] for r in family}
    children: dict[str | None, list[Record]] = {}
    for record in family:
        parent = record.get("parent_id")
        children.setdefault(parent if parent in ids else None, []).append(record)
    longest = _longest(family)
    for record, before in _lines(family, children):
        took = age(record["runtime_s"]) if record.get("runtime_s") else "-"
        mark = " *" if record["id"] in longest else ""
        name, state = record.get("name") or "?", record.get("state") or "?"
        yield f"{before}{name}  {state}  {took}  {record['id'][:8]}{mark}"


def _lines(family: list[Record], children: dict[str | None, list[Record]]) -> Iterator[tuple[Record, str]]:
    """Each task once, with the prefix of its line. An only child stays in its parent's column, so that a
    chain of a thousand tasks is no wider than one of two."""
    drawn: set[str] = set()
    # Records that name each other as parents have no root; they come last.
    for top in (*children.get(None, []), *family):
        stack = [(top, "", "")]
        while stack:  # not recursive: a chain may be longer than Python's stack
            record, before, inner = stack.pop()
            if record["id"] in drawn:
                continue
            drawn.add(record["id"])
            yield record, before
            below = children.get(record["id"], [])
            if len(below) == 1:
                stack.append((below[0], f"{inner}then ", inner))
                continue
            for i, child in enumerate(reversed(below)):
                branch, rest = ("└─ ", "   ") if i == 0 else ("├─ ", "│  ")
                stack.append((child, inner + branch, inner + rest))


def _longest(family: list[Record]) -> set[str]:
    """Ids on the path from a root to the task that ended last."""
    by_id = {r["id"]: r for r in family}
    ended = [r for r in family if r.get("ended_at")]
    found: set[str] = set()
    record = max(ended, key=lambda r: r["ended_at"], default=None)
    while record is not None and record["id"] not in found:
        found.add(record["id"])
        record = by_id.get(record.get("parent_id") or "")
    return found
