"""Make `import celery` mean qcore, whether Celery is installed or not.

In:  imports of `celery` and its modules.  Out: modules that look each name up in views.py when it is read.
The modules of result backends that qcore uses from the installed Celery are loaded from there;
installed.py does so where `import celery` means Celery. Another module of Celery without a view is a
ModuleNotFoundError that says so. With QCTL_CELERY=real nothing is changed.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import Any

from qcore.celery.views import views
from qcore.results.celery_stores import MODULES, celery_file

log = logging.getLogger("qcore.celery")
SWITCH = "QCTL_CELERY"


class View(ModuleType):
    """One module of Celery. Its attributes are qcore's, imported at their first use."""

    def __getattr__(self, name: str) -> Any:
        places = views()[self.__name__]
        place = places.get(name) or places.get("*", "").replace("*", name)
        module, _, attribute = place.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute) if module else None
        except AttributeError:
            module = ""
        if not module:
            words = f"qcore has no '{self.__name__}.{name}'; {SWITCH}=real uses the installed Celery"
            raise AttributeError(words)
        setattr(self, name, found)
        return found

    def __dir__(self) -> list[str]:
        names = set(super().__dir__())
        for name, place in views()[self.__name__].items():
            names |= set(dir(importlib.import_module(place.partition(":")[0]))) if name == "*" else {name}
        return sorted(names)


class _Finder:
    """Finds the views (a meta path finder and loader)."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if name != "celery" and not name.startswith("celery."):
            return None
        if name in MODULES:
            return spec_from_file_location(name, celery_file(name))
        if name not in views():
            raise ModuleNotFoundError(
                f"qcore has no counterpart of '{name}'; {SWITCH}=real uses the installed Celery", name=name
            )
        is_package = any(other.startswith(f"{name}.") for other in views())
        return ModuleSpec(name, self, origin=f"qcore's view of {name}", is_package=is_package)  # type: ignore[arg-type]

    @staticmethod
    def find_distributions(context: Any) -> list[Any]:
        """For importlib.metadata: packages ask it for Celery's version before they use Celery."""
        if (context.name or "").lower() != "celery":
            return []
        from qcore.celery.own import distribution

        return [distribution()]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        found = View(spec.name, f"qcore's view of Celery's module {spec.name}.")
        found.__file__ = f"<{spec.origin}>"
        return found

    def exec_module(self, module: ModuleType) -> None:
        return None  # attributes are looked up when they are read


def install() -> bool:
    """Make `import celery` mean qcore in this process; returns whether it does. It does not with
    QCTL_CELERY=real, and not when Celery itself has been imported already, which is logged."""
    if os.environ.get(SWITCH, "").lower() == "real":
        return False
    if is_installed():
        return True
    if "celery" in sys.modules:
        log.warning("Celery itself is imported already; `import celery` stays as it is in this process")
        return False
    sys.meta_path.insert(0, _Finder())
    return True


def is_installed() -> bool:
    """Whether `import celery` means qcore in this process."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)
