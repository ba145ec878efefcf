"""Backend classes of an installed Celery, on qcore's own base classes.

In:  the name of a module such as `celery.backends.s3`.  Out: that module, from the files of the installed
Celery; what it imports of Celery is qcore's (views.py). So it is the same whether `import celery` means qcore
in this process or Celery itself, of which nothing else is imported. After this: app/foreign_results.py.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, resolve_name
from types import ModuleType
from typing import Any

from qcore.celery.install import View, is_installed
from qcore.celery.views import views
from qcore.results.celery_stores import MODULES, celery_file


def celery_module(name: str) -> ModuleType:
    """The module. Raises ModuleNotFoundError where Celery is not installed or does not have it."""
    return importlib.import_module(name) if is_installed() else _beside(name)


@cache
def _beside(name: str) -> ModuleType:
    """The module, which `sys.modules` does not get: there it would be Celery's."""
    loader = InstalledLoader(name, celery_file(name))
    module = module_from_spec(ModuleSpec(name, loader, origin=loader.path))
    loader.exec_module(module)
    return module


class InstalledLoader(SourceFileLoader):
    """Runs a file of Celery in which `import celery` means qcore."""

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


def _import(
    name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
) -> ModuleType:
    """What the statement `import` calls."""
    full = resolve_name("." * level + name, globals["__package__"]) if level else name
    if full.partition(".")[0] != "celery":
        return builtins.__import__(name, globals, locals, fromlist, level)
    if full in MODULES:
        return celery_module(full)
    module = _view(full)
    for wanted in fromlist or ():
        if f"{full}.{wanted}" in views():
            setattr(module, wanted, _view(f"{full}.{wanted}"))
        elif not hasattr(module, wanted):  # else Python looks for it in Celery itself
            raise ImportError(f"cannot import name '{wanted}' from '{full}': qcore has no counterpart of it")
    return module


@cache
def _view(name: str) -> ModuleType:
    known = sys.modules.get(name)
    if isinstance(known, View):
        return known
    if name not in views():
        raise ModuleNotFoundError(f"qcore has no counterpart of '{name}'", name=name)
    return View(name)
