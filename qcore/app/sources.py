"""Where an app's settings and tasks come from: modules, objects, and the packages of a Django project.

In:  names and objects of config_from_object() and autodiscover_tasks().  Out: settings; imported modules.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qcore.base import provided
from qcore.errors import ConfigError
from qcore.settings.config import Config, settings_in

#: the environment variable that names the module of an app's settings
CONFIG_MODULE = "CELERY_CONFIG_MODULE"


def settings_of(source: Any, namespace: str | None, silent: bool) -> Mapping[str, Any]:
    """The settings of an object, or of the one that a dotted name means (`pkg.module`, `pkg.module:name`,
    `pkg.module.name`). silent: none if it cannot be imported. Raises ConfigError."""
    if isinstance(source, str):
        try:
            source = imported(source)
        except ImportError as exc:
            if silent:
                return {}
            raise ConfigError(f"cannot import the configuration '{source}': {exc}") from exc
    return settings_in(source, namespace)


def imported(name: str) -> Any:
    """What a dotted name means. Raises ImportError."""
    module, colon, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ImportError:
        parent, _, last = module.rpartition(".")
        if colon or not parent or not hasattr(holder := importlib.import_module(parent), last):
            raise
        return getattr(holder, last)
    try:
        return getattr(found, attribute) if attribute else found
    except AttributeError as exc:
        raise ImportError(f"the module '{module}' has no '{attribute}'") from exc


class Discovery:
    """One call of autodiscover_tasks()."""

    def __init__(
        self, packages: Iterable[str] | Callable[[], Iterable[str]] | None, related_name: str | None
    ) -> None:
        self._packages, self._related_name = packages, related_name

    def import_modules(self) -> None:
        """Import the modules with tasks. A package without one is skipped, a broken one raises its error."""
        found = self._packages() if callable(self._packages) else self._packages
        for package in _installed_apps() if found is None else found:
            _import_related(package, self._related_name)


def _import_related(package: str, related_name: str | None) -> None:
    try:
        importlib.import_module(package)
    except ImportError:
        package = package.rpartition(".")[0]  # INSTALLED_APPS may name a class in the package
        if not package:
            raise
    if related_name:
        name = f"{package}.{related_name}"
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as exc:
            if exc.name != name:
                raise  # the module is there, and what it imports is not


def _installed_apps() -> list[str]:
    """The packages of a Django project, in order; none outside of one."""
    if "django" not in sys.modules:
        return []
    from django.apps import apps

    return [config.name for config in apps.get_app_configs()]


def load_modules(app: Any, names: Iterable[str], reload: bool) -> None:
    """Import modules; reload: those that are loaded are imported again, and define their tasks anew. Raises
    what they raise; the tasks of a module that does not load stay as they were."""
    for name in names:
        found = sys.modules.get(name)
        if found is None:
            importlib.import_module(name)
        elif reload:
            before = {key: task for key, task in app.tasks.items() if task.__module__ == name}
            for key in before:
                app.tasks.unregister(key)
            try:
                importlib.reload(found)
            except BaseException:
                app.tasks.update(before)
                raise
    app.tasks.complete()


def traced(conf: Config) -> Config:
    """The settings, after tracing has started if they say so; a second start has no effect. Raises
    ConfigError without the package."""
    if conf.tracing:
        provided["tracing"]()
    return conf
