"""Draw a workflow: which task came from which, in what state, and which path took the longest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qctl.output.text import age

if TYPE_CHECKING:
    from qctl.session import Session

Record = dict[str, Any]


def draw(session: Session, family: list[Record]) -> None:
    """Print the tree, or its items."""
    ids = {r["id"] for r in family}
    children: dict[str | None, list[Record]] = {}
    for record in family:
        parent = record.get("parent_id")
        children.setdefault(parent if parent in ids else None, []).append(record)
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
    # Not recursive: a chain may be longer than Python's stack.
    stack = [(record, "", True, True) for record in reversed(children.get(None, []))]
    while stack:
        record, indent, last, top = stack.pop()
        branch = "" if top else ("└─ " if last else "├─ ")
        took = age(record["runtime_s"]) if record.get("runtime_s") else "-"
        mark = " *" if record["id"] in longest else ""
        name, state = record.get("name") or "?", record.get("state") or "?"
        out.text(f"{indent}{branch}{name}  {state}  {took}  {record['id'][:8]}{mark}")
        inner = indent + ("" if top else "   " if last else "│  ")
        below = children.get(record["id"], [])
        stack += [(r, inner, i == 0, False) for i, r in enumerate(reversed(below))]


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
