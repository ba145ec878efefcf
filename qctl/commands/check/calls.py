"""Calls, tasks and apps: options without effect, misspelt options, members that are not there.

In:  a Module.  Out: Findings. Source: qcore/base/keywords.py, and the rows of Celery's inventory.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from qcore.base import keywords
from qctl.commands.check.findings import DIFFERENT, ERROR, LEFT_OUT, Finding, differences
from qctl.commands.check.settings_used import CLASSES
from qctl.commands.check.source import Module

_CALLS = {"apply_async": 2, "send_task": 3}
#: receivers with an apply_async() that is not a task's
_OTHERS = ("pool", "executor")
_LEAVE = "leave it out"


def check(module: Module) -> Iterator[Finding]:
    """The findings about calls, tasks and apps of a file."""
    apps = {"celery.current_app"} | {
        target.id
        for node in module.nodes
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and module.dotted(node.value.func) in CLASSES
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in module.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from _method(module, node, node.func)
        elif isinstance(node, ast.ClassDef):
            yield from _class(module, node)
        elif isinstance(node, ast.Attribute) and module.dotted(node.value) in apps:
            row = differences("task_options.app_members").get(node.attr)
            if row is not None and row.status == LEFT_OUT and isinstance(node.ctx, ast.Load):
                yield Finding(
                    ERROR, module.file, node.lineno, node.attr, f"an app has no {node.attr}: {row.note}"
                )
        if isinstance(node, ast.Call):
            yield from _decorator(module, node)


def _method(module: Module, call: ast.Call, func: ast.Attribute) -> Iterator[Finding]:
    if func.attr in _CALLS:
        receiver = module.dotted(func.value).lower() or ast.unparse(func.value).lower()
        if not any(word in receiver for word in _OTHERS):
            yield from _call(module, call, func.attr)
    elif func.attr == "pool_restart" and any(k.arg in ("modules", "reload") for k in call.keywords):
        what = "tasks of reloaded modules are defined anew; Celery's stay as they are"
        yield Finding(DIFFERENT, module.file, call.lineno, func.attr, what, "look whether that is meant")


def _call(module: Module, call: ast.Call, name: str) -> Iterator[Finding]:
    if len(call.args) > _CALLS[name] and not any(isinstance(arg, ast.Starred) for arg in call.args):
        what = f"{name}() takes {_CALLS[name]} arguments by position"
        yield Finding(ERROR, module.file, call.lineno, name, what, "give the others by name: countdown=5")
    for keyword in call.keywords:
        option, line = keyword.arg or "", keyword.value.lineno
        if not option:
            continue
        if why := _option_notes(name).get(option):
            yield Finding(DIFFERENT, module.file, line, f"{name}({option}=)", why, _LEAVE)
        elif wrong := _refused(keywords.check_call, {option: None}):
            yield Finding(ERROR, module.file, line, f"{name}({option}=)", wrong, "write the right name")


@cache
def _option_notes(name: str) -> dict[str, str]:
    """Option of a call -> why it has no effect."""
    notes = {n: f"no effect: {why}" for n, why in keywords.CALL_WITHOUT_EFFECT.items()}
    for area in ("task_options.apply_async", f"task_options.{name}"):
        for option, row in differences(area).items():
            if row.note.startswith("no effect"):
                notes.setdefault(option, row.note.partition(";")[0])
    return notes


def _refused(check: Callable[..., object], *given: object) -> str:
    """Why names are refused, '' if they are not."""
    try:
        check(*given)
    except TypeError as exc:
        return str(exc)
    return ""


def _decorator(module: Module, call: ast.Call) -> Iterator[Finding]:
    """`@app.task(…)`, `@shared_task(…)`."""
    called = module.dotted(call.func)
    is_shared = called.rpartition(".")[2] == "shared_task"
    if not is_shared and not (called.endswith(".task") and called.count(".") == 1):
        return
    for keyword in call.keywords:
        option, line = keyword.arg or "", keyword.value.lineno
        row = differences("task_options.class_attributes").get(option)
        if row is not None and row.status == LEFT_OUT:
            yield Finding(DIFFERENT, module.file, line, f"task({option}=)", f"no effect: {row.note}", _LEAVE)
        elif wrong := _refused(_check_task, [option] if option else []):
            yield Finding(ERROR, module.file, line, f"task({option}=)", wrong, "write the right name")
        elif is_shared and option == "filter":
            what = "a shared task has no option 'filter'"
            yield Finding(ERROR, module.file, line, "task(filter=)", what, "decorate the function instead")


def _check_task(names: Iterable[str]) -> None:
    from qcore.tasks.task import Task

    keywords.check_task(names, Task)


def _class(module: Module, node: ast.ClassDef) -> Iterator[Finding]:
    """Attributes of a class of tasks that have no effect."""
    bases = {module.dotted(base) for base in node.bases}
    if not any(base.rpartition(".")[2].endswith("Task") for base in bases):
        return
    rows = differences("task_options.class_attributes")
    for stmt in node.body:
        targets = stmt.targets if isinstance(stmt, ast.Assign) else []
        targets = [stmt.target] if isinstance(stmt, ast.AnnAssign) else targets
        for target in targets:
            row = rows.get(target.id) if isinstance(target, ast.Name) else None
            if row is not None and row.status == LEFT_OUT:
                assert isinstance(target, ast.Name)
                what = f"no effect: {row.note}"
                yield Finding(DIFFERENT, module.file, stmt.lineno, f"{node.name}.{target.id}", what, _LEAVE)
