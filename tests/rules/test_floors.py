"""Imports go down the floors, without loops; deferred imports count.

The floors are those of docs/architecture.md.
"""

from __future__ import annotations

import ast
import gc
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: from the ground up; a module may import from its own floor and from those below
FLOORS: list[tuple[str, tuple[str, ...]]] = [
    (
        "ground",
        (
            "qcore.errors",
            "qcore.plugins",
            "qcore.base.private_files",
            "qcore.base.process_facts",
            "qcore.times",
            "qcore.version",
            "qcore.crashpoints",
            "qcore.pipe",
        ),
    ),
    (
        "formats",
        (
            "qcore.wire",
            "qcore.config",
            "qcore.base.keywords",
            "qcore.setting_values",
            "qcore.old_names",
            "qcore.routes",
            "qcore.states",
            "qcore.schedules",
        ),
    ),
    (
        "contracts",
        ("qcore.brokers", "qcore.results", "qcore.control.commands", "qcore.schedulers"),
    ),
    ("lines", ("qcore.control", "qcore.events", "qcore.result")),
    (
        "app",
        (
            "qcore.app",
            "qcore.task",
            "qcore.calls",
            "qcore.publishing",
            "qcore.canvas",
            "qcore._canvas_base",
            "qcore._canvas_builtin",
            "qcore.loader",
            "qcore.current",
        ),
    ),
    ("services", ("qcore.worker", "qcore.pools", "qcore.beat", "qcore.testing")),
    ("roof", ("qcore",)),
    (
        "hall",
        (
            "qctl.session",
            "qctl.output",
            "qctl.params",
            "qctl.aside",
            "qctl.metrics",
            "qctl.histogram",
            "qctl.commands.bench.app",
            "qctl.tasks",
            "qctl.camera",
            "qctl.demo_fleet",
            "qctl.seen",
            "qctl.doctor",
            "qctl.conditions",
            "qctl.probe",
            "qctl.queueing",
            "qctl.held",
            "qctl.revoking",
            "qctl.whereabouts",
            "qctl.migration",
            "qctl.multi",
            "qctl.consent",
            "qctl.completion",
            "qctl.live",
            "qctl.cli.orphans",
            "qctl.reload",
            "qctl.exits",
            "qctl.filters",
            "qctl.bulk",
            "qctl.failed",
            "qctl.theme",
            "qctl.bus",
            "qctl.outcome",
            "qctl.await_result",
            "qctl.settings",
            "qctl.cli.audit",
            "qctl.guard",
            "qctl.everywhere",
            "qctl.pages",
            "qctl.watch",
            "qctl.failures",
            "qctl.shutdown",
            "qctl.workers",
            "qctl.detached",
            "qctl",
        ),
    ),
    ("rooms", ("qctl.commands", "qctl.dashboard")),
    ("door", ("qctl.main", "qctl.__main__", "qctl.manual")),
]


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
            fits = module == prefix or module.startswith(prefix + ".")
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


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of ours that a file imports at run time, wherever in the file it does."""
    found: set[str] = set()
    tree = parsed(path)
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else node.module)
    return {name for name in found if name in known}


def test_every_module_stands_on_a_floor() -> None:
    homeless = [m for m in modules() if floor_of(m) < 0]

    assert not homeless


def test_imports_go_down() -> None:
    known = modules()

    upward = [
        f"{module} imports {target}"
        for module, path in known.items()
        for target in imports(path, known)
        if floor_of(target) > floor_of(module) and (module, target) not in DOORS
    ]

    assert not upward, "\n".join(upward)


#: the few places that open an upper floor on a user's request, each with its reason
DOORS = {
    # an App is the user's handle on everything: app.worker(), task.apply(), app.control
    ("qcore.app", "qcore.worker.worker"),
    ("qcore.task", "qcore.execution.eager"),
    # what has no app of its own finds the current one, and that may have to be made
    ("qcore.result", "qcore.current"),
    ("qcore.current", "qcore.app"),
}


def test_qcore_never_imports_qctl() -> None:
    known = modules()

    wrong = [
        f"{module} imports {target}"
        for module, path in known.items()
        if module.startswith("qcore")
        for target in imports(path, known)
        if target.startswith("qctl")
    ]

    assert not wrong


def test_no_module_imports_itself_in_a_circle() -> None:
    known = modules()
    graph = {
        m: {t for t in imports(p, known) if (m, t) not in DOORS and floor_of(t) <= floor_of(m)}
        for m, p in known.items()
    }
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> list[str]:
        if module in path:
            return [" -> ".join((*path[path.index(module) :], module))]
        if module in done:
            return []
        circles = [c for target in graph[module] for c in walk(target, (*path, module))]
        done.add(module)
        return circles

    circles = [c for module in graph for c in walk(module, ())]

    assert not circles, "\n".join(circles)
