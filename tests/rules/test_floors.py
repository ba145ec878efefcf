"""Imports go down the floors and never run in a circle.

Every import counts: at module level, inside functions, for type checkers only, and by name in a string.
The floors are those of docs/architecture.md. There is no list of exceptions.
"""

from __future__ import annotations

import ast
import gc
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

#: from the ground up; a module may import from its own floor and from those below
FLOORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("base", ("qcore.errors", "qcore.version", "qcore.base")),
    ("formats", ("qcore.wire", "qcore.settings", "qcore.signals", "qcore.schedules")),
    ("brokers", ("qcore.brokers",)),
    ("results", ("qcore.results",)),
    ("tasks", ("qcore.tasks",)),
    ("execution", ("qcore.execution", "qcore.control", "qcore.events")),
    ("app", ("qcore.app", "qcore.pools")),
    ("services", ("qcore.worker", "qcore.beat")),
    ("roof", ("qcore", "qcore.testing", "qcore.celery", "qcore.contrib")),
    ("ground floor", ("qctl.exit_codes", "qctl.options")),
    ("means", ("qctl.output", "qctl.configuration", "qctl.filters")),
    ("command line", ("qctl.cli", "qctl")),
    ("fleet", ("qctl.fleet",)),
    ("dashboard", ("qctl.dashboard",)),
    ("commands", ("qctl.commands",)),
    (
        "door",
        (
            "qctl.main",
            "qctl.__main__",
            "qctl.manual",
            "qctl.api_reference",
            "qctl.settings_page",
            "qctl.inventory_page",
            "qctl.llms_page",
        ),
    ),
)
#: rooms whose inside has an order of its own, from the ground up
ROOMS: dict[str, tuple[str, ...]] = {}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package in ("qcore", "qctl"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path
    return found


def floor_of(module: str) -> int:
    best, level = "", -1
    for number, (_, prefixes) in enumerate(FLOORS):
        for prefix in prefixes:
            fits = module == prefix or (module.startswith(prefix + ".") and prefix not in ("qcore", "qctl"))
            if fits and len(prefix) > len(best):
                best, level = prefix, number
    return level


def parsed(path: Path) -> ast.Module:
    # CPython 3.11 refuses to build a tree when the garbage collector runs a finalizer meanwhile.
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, wherever in the file and however it does."""
    known, found = modules(), set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write the whole name instead of dots"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else str(node.module))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = re.fullmatch(r"(q(?:core|ctl)\.[a-z_.]+)(?::\w+)?", node.value)
            if named and named[1] in known and not _is_logger(node, path):
                found.add(named[1])
    return {name for name in found if name in known}


@cache
def _logger_names(path: Path) -> frozenset[int]:
    """Positions of strings that name a logger, not a module."""
    return frozenset(
        id_of(argument)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and "getLogger" in ast.dump(node.func)
        for argument in node.args
    )


def id_of(node: ast.AST) -> int:
    return getattr(node, "lineno", 0) * 1000 + getattr(node, "col_offset", 0)


def _is_logger(node: ast.AST, path: Path) -> bool:
    return id_of(node) in _logger_names(path)


@cache
def graph() -> dict[str, frozenset[str]]:
    return {module: frozenset(imports(path) - {module}) for module, path in modules().items()}


def test_every_module_stands_on_a_floor() -> None:
    homeless = [m for m in modules() if floor_of(m) < 0]

    assert not homeless


def test_imports_go_down() -> None:
    upward = [
        f"{module} imports {target}"
        for module, targets in graph().items()
        for target in targets
        if floor_of(target) > floor_of(module)
    ]

    assert not upward, "\n".join(sorted(upward))


def test_qcore_never_mentions_qctl_as_code() -> None:
    wrong = [
        f"{module}: {node.value!r}"
        for module, path in modules().items()
        if module.split(".")[0] == "qcore"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("qctl.")
    ]
    wrong += [
        f"{module} imports {target}"
        for module, targets in graph().items()
        if module.split(".")[0] == "qcore"
        for target in targets
        if target.split(".")[0] == "qctl"
    ]

    assert not wrong


def test_no_module_imports_itself_in_a_circle() -> None:
    circles = [sorted(ring) for ring in rings(graph()) if len(ring) > 1]

    assert not circles, "\n".join(" <-> ".join(ring) for ring in circles)


def rings(edges: dict[str, frozenset[str]]) -> list[set[str]]:
    """The strongly connected parts of a graph."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in edges[module]:
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            ring = set()
            while module not in ring:
                ring.add(stack.pop())
            found.append(ring)

    for module in edges:
        if module not in index:
            visit(module)
    return found


def test_folders_and_files_have_a_size_that_one_can_read() -> None:
    files = {m: p for m, p in modules().items() if p.name != "__init__.py"}
    lines = {m: len(p.read_text().splitlines()) for m, p in files.items()}
    folders: dict[Path, int] = {}
    for path in files.values():
        folders[path.parent] = folders.get(path.parent, 0) + 1

    crowded = {str(folder): count for folder, count in folders.items() if count > 24}
    long = {module: count for module, count in lines.items() if count > 500}
    thin = [module for module, count in lines.items() if count <= 50]

    assert not crowded
    assert not long
    assert len(thin) <= 60, f"{len(thin)} files of 50 lines or fewer"
