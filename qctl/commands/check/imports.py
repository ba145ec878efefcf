"""Imports of Celery's modules and names that are not there, in all their forms.

In:  a Module.  Out: Findings. Source: qcore/celery/views.py, which is what `import celery` gives.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator

from qcore.celery.views import views
from qcore.errors import did_you_mean
from qctl.commands.check.findings import DIFFERENT, ERROR, LEFT_OUT, NOTE, Finding, differences, module_note
from qctl.commands.check.source import Module

#: packages that Celery brings and qctl does not
BROUGHT = {
    "billiard": "Celery's pool of processes",
    "click_didyoumean": "of its command line",
    "click_plugins": "of its command line",
    "click_repl": "of its command line",
}
KEEP = "leave it out, or keep `celery` for the process that needs it (QCTL_CELERY=real)"
_ERRORS = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException", "AttributeError")


def check(module: Module) -> Iterator[Finding]:
    """The findings about what a module imports of Celery."""
    guarded, skipped = _guarded(module.tree)
    for node in module.nodes:
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _module(module, node, alias.name, node in guarded)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            if node.module.partition(".")[0] != "celery" or node.module not in views():
                yield from _module(module, node, node.module, node in guarded)
            else:
                for alias in node.names:
                    yield from _name(module, node, node.module, alias.name, node in guarded)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield from _attribute(module, node, node in guarded)


def _module(module: Module, node: ast.stmt, name: str, is_guarded: bool) -> Iterator[Finding]:
    top = name.partition(".")[0]
    if top in BROUGHT:
        what = f"the package {top} comes with Celery ({BROUGHT[top]}); qctl does not need it"
        fix = f"where Celery is not installed: pip install {top.replace('_', '-')}"
        yield Finding(NOTE, module.file, node.lineno, name, what, fix)
    elif top == "celery" and name not in views():
        yield _missing(module, node, name, f"qcore has no counterpart of the module {name}", is_guarded)


def _name(module: Module, node: ast.stmt, where: str, name: str, is_guarded: bool) -> Iterator[Finding]:
    whole = f"{where}.{name}"
    if name == "*" or whole in views():
        return
    if not is_there(where, name):
        known = [n for n in views()[where] if n != "*"]
        row = module_note(where, name)
        why = f": {row.note}" if row else did_you_mean(name, known)
        yield _missing(module, node, whole, f"qcore's {where} has no {name}{why}", is_guarded)
        return
    yield from _differs(module, node, where, name)


def _differs(module: Module, node: ast.stmt | ast.expr, where: str, name: str) -> Iterator[Finding]:
    row = module_note(where, name)
    if where == "celery.signals":
        row = differences("signals").get(name)
    if row is not None and row.status != LEFT_OUT:
        level = DIFFERENT if "never" in row.note else NOTE
        yield Finding(level, module.file, node.lineno, f"{where}.{name}", row.note)


def _attribute(module: Module, node: ast.Attribute, is_guarded: bool) -> Iterator[Finding]:
    """A name that is read from a module of Celery: `c.utils.noop` after `import celery as c`."""
    where = module.dotted(node.value)
    if where not in views() or node.attr.startswith("__"):
        return
    first: ast.AST = node
    while isinstance(first, ast.Attribute):
        first = first.value
    if not isinstance(first, ast.Name) or first.id not in module.names or first.id in module.rebound:
        return
    whole = f"{where}.{node.attr}"
    if whole in views():
        return
    if is_there(where, node.attr):
        yield from _differs(module, node, where, node.attr)
        return
    row = module_note(where, node.attr)
    why = f": {row.note}" if row else did_you_mean(node.attr, [n for n in views()[where] if n != "*"])
    yield _missing(module, node, whole, f"qcore's {where} has no {node.attr}{why}", is_guarded)


def is_there(where: str, name: str) -> bool:
    """Whether a module of Celery's has a name here."""
    places = views()[where]
    if name in places or name.startswith("__"):
        return True
    if "*" not in places:
        return False
    try:
        return hasattr(importlib.import_module(places["*"].partition(":")[0]), name)
    except ImportError:  # fixtures of pytest, which is not installed: the names are theirs
        return True


def _missing(module: Module, node: ast.stmt | ast.expr, name: str, what: str, is_guarded: bool) -> Finding:
    if is_guarded:
        return Finding(NOTE, module.file, node.lineno, name, f"{what}; the program handles this")
    return Finding(ERROR, module.file, node.lineno, name, what, KEEP)


def _guarded(tree: ast.Module) -> tuple[set[ast.AST], set[ast.AST]]:
    """The nodes in a `try` that handles a failed import, and those that only type checkers read."""
    guarded: set[ast.AST] = set()
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(_handles(handler) for handler in node.handlers):
            guarded |= {inner for stmt in node.body for inner in ast.walk(stmt)}
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            skipped |= {inner for stmt in node.body for inner in ast.walk(stmt)}
    return guarded, skipped


def _handles(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id in _ERRORS for kind in kinds)
