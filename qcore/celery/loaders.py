"""`app.loader`: what imports the modules of an app, as Celery's loaders are called by projects."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcore.app.sources import CONFIG_MODULE
from qcore.errors import ConfigError
from qcore.signals import task_postrun, task_prerun, worker_init, worker_process_init, worker_shutdown

if TYPE_CHECKING:
    from types import ModuleType

    from qcore.app.app import App


class BaseLoader:
    """What reads the settings of an app and imports its modules. A subclass may replace read_configuration()
    and the hooks on_…, which are called in workers; those that it leaves as they are cost nothing."""

    builtin_modules: frozenset[str] = frozenset()
    worker_initialized = False

    def __init__(self, app: App, **kwargs: Any) -> None:
        self.app = app
        self.task_modules: set[str] = set()

    @property
    def conf(self) -> Any:
        return self.app.conf

    @property
    def configured(self) -> bool:
        return self.app.conf.is_loaded

    @property
    def default_modules(self) -> tuple[str, ...]:
        """The modules of the settings imports and include."""
        return (*self.app.conf.imports, *self.app.conf.include)

    def now(self, utc: bool = True) -> datetime:
        return datetime.now(UTC) if utc else datetime.now()

    def import_module(self, module: str, package: str | None = None) -> ModuleType:
        return importlib.import_module(module, package)

    def import_task_module(self, module: str) -> Any:
        self.task_modules.add(module)
        return self.import_from_cwd(module)

    def import_from_cwd(
        self, module: str, imp: Callable[..., Any] | None = None, package: str | None = None
    ) -> Any:
        """Import a module that may lie in the working directory."""
        return import_from_cwd(module, imp or self.import_module, package)

    def import_default_modules(self) -> list[Any]:
        """Import what a worker imports: default_modules and those of autodiscover_tasks()."""
        self.app.import_modules()
        return [sys.modules[name] for name in self.default_modules if name in sys.modules]

    def autodiscover_tasks(self, packages: Iterable[str], related_name: str | None = "tasks") -> None:
        self.app.autodiscover_tasks(packages, related_name, force=True)

    def config_from_object(self, obj: Any, silent: bool = False) -> bool:
        self.app.config_from_object(obj, silent=silent, force=True)
        return True

    def read_configuration(self, env: str = CONFIG_MODULE) -> Any:
        """The settings of an app that names no source, a mapping; None: there are none."""
        name = os.environ.get(env)
        return self._imported(name) if name else None

    def _imported(self, name: str) -> dict[str, Any]:
        try:
            return dict(vars(self.import_from_cwd(name)))
        except ImportError as exc:
            raise ConfigError(f"cannot import the configuration '{name}': {exc}") from exc

    def connect(self) -> None:
        """Have the hooks that a subclass replaces called, once for each."""
        calls = (
            (worker_init, self.on_worker_init, self._worker_init),
            (worker_process_init, self.on_worker_process_init, self._worker_process_init),
            (worker_shutdown, self.on_worker_shutdown, self._worker_shutdown),
            (task_prerun, self.on_task_init, self._task_init),
            (task_postrun, self.on_process_cleanup, self._process_cleanup),
        )
        for signal, hook, receiver in calls:
            if getattr(hook, "__func__", None) is not getattr(BaseLoader, hook.__name__):
                signal.connect(receiver)

    def _worker_init(self, sender: Any, **_: Any) -> None:
        if sender.app is self.app:
            self.init_worker()

    def _worker_process_init(self, **_: Any) -> None:
        self.on_worker_process_init()

    def _worker_shutdown(self, sender: Any, **_: Any) -> None:
        if sender.app is self.app:
            self.on_worker_shutdown()

    def _task_init(self, sender: Any, task_id: str, **_: Any) -> None:
        if sender.app is self.app:
            self.on_task_init(task_id, sender)

    def _process_cleanup(self, sender: Any, **_: Any) -> None:
        if sender.app is self.app:
            self.on_process_cleanup()

    def init_worker(self) -> None:
        if not self.worker_initialized:
            self.worker_initialized = True
            self.import_default_modules()
            self.on_worker_init()

    def on_worker_init(self) -> None: ...
    def on_worker_shutdown(self) -> None: ...
    def on_worker_process_init(self) -> None: ...
    def on_task_init(self, task_id: str, task: Any) -> None: ...
    def on_process_cleanup(self) -> None: ...


class AppLoader(BaseLoader): ...


class Loader(BaseLoader):
    """The loader of an app that nobody made: it reads celeryconfig.py too."""

    def read_configuration(self, env: str = CONFIG_MODULE, fail_silently: bool = True) -> Any:
        name = os.environ.get(env)
        try:
            return self._imported(name or "celeryconfig")
        except ConfigError as exc:
            missing = isinstance(exc.__cause__, ModuleNotFoundError) and exc.__cause__.name == "celeryconfig"
            if name or not (fail_silently and missing):
                raise
            return {}


def import_from_cwd(module: str, imp: Callable[..., Any] | None = None, package: str | None = None) -> Any:
    """Import a module with the working directory on the path."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return (imp or importlib.import_module)(module, package=package)
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
