"""`qctl check --write`: current names for old names of settings, where nothing else reads the old one.

In:  a Project and its Settings.  Out: the new text of each file that changes. Only names change.
A file is changed as a whole or not at all: Celery refuses a configuration with both kinds of names.
"""

from __future__ import annotations

import ast
from collections import Counter
from typing import NamedTuple

from qcore.errors import UnknownName
from qcore.settings.config import canonical
from qctl.commands.check.settings_used import Settings, Use
from qctl.commands.check.source import Module, Project


class Change(NamedTuple):
    """The new text of a file, and how many names are new in it."""

    module: Module
    text: str
    names: int


class Refusal(NamedTuple):
    """A file with old names that stays as it is, and why."""

    file: str
    line: int
    why: str


def changes(project: Project, settings: Settings) -> tuple[list[Change], list[Refusal]]:
    """What can be changed, and what cannot."""
    by_file: dict[str, list[Use]] = {}
    for use in settings.uses:
        if use.is_old_safe and _new_name(use) is not None:
            by_file.setdefault(use.module.file, []).append(use)
    made: list[Change] = []
    refused: list[Refusal] = []
    for file, uses in sorted(by_file.items()):
        if why := next(((u, w) for u in uses if (w := _why_not(project, settings, u))), None):
            refused.append(Refusal(file, why[0].node.lineno, why[1]))
            continue
        text = _renamed(uses)
        if text is None:
            refused.append(
                Refusal(file, uses[0].node.lineno, "a name is not where the syntax tree says it is")
            )
            continue
        made.append(Change(uses[0].module, text, len(uses)))
    return made, refused


def _new_name(use: Use) -> str | None:
    """The current name of an old one; None for a name that is current."""
    try:
        name = canonical(use.name, keep=False)
    except UnknownName:
        return None
    return name if name != use.written else None


def _why_not(project: Project, settings: Settings, use: Use) -> str:
    """Why the name stays: other code reads it, or the new name has another meaning in the file."""
    new = _new_name(use)
    of_setting = {id(other.node) for other in settings.uses}
    if any(o.written == new and o.module is use.module for o in settings.uses):
        return f"'{new}' is set in this file too"
    if not isinstance(use.node, ast.Name):
        return ""
    for module in project.modules:
        for node in module.nodes:
            if isinstance(node, ast.Name) and module is use.module and id(node) not in of_setting:
                name = node.id
            elif isinstance(node, ast.Attribute):
                name = node.attr
            elif isinstance(node, ast.alias):
                name = node.name
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                name = node.value
            else:
                continue
            if name in (use.written, new) and id(node) not in of_setting:
                return f"'{name}' is used in {module.file}:{getattr(node, 'lineno', '?')}"
    return ""


def _renamed(uses: list[Use]) -> str | None:
    """The text of their file with new names; None when a place does not hold the old name."""
    module = uses[0].module
    lines = module.text.splitlines(keepends=True)
    places = Counter((use.node.lineno, use.node.col_offset) for use in uses)
    if max(places.values()) > 1:
        return None
    for use in sorted(uses, key=lambda u: (u.node.lineno, u.node.col_offset), reverse=True):
        new, number = _new_name(use), use.node.lineno - 1
        start, end = use.node.col_offset, use.node.end_col_offset or 0
        if isinstance(use.node, ast.Attribute):
            number = (use.node.end_lineno or 1) - 1
            start = end - len(use.written)
        elif isinstance(use.node, ast.keyword):
            end = start + len(use.written)
        elif isinstance(use.node, ast.Constant):
            start, end = start + 1, end - 1
        raw = lines[number].encode()
        if raw[start:end].decode(errors="replace") != use.written or new is None:
            return None
        lines[number] = (raw[:start] + new.encode() + raw[end:]).decode()
    text = "".join(lines)
    try:
        ast.parse(text)
    except SyntaxError:
        return None
    return text
