"""Names of Celery that qcore itself has no use for: exceptions that are never raised here, ids, loggers."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from qcore.base.times import new_id
from qcore.errors import QcoreError
from qcore.signals import Signal as BaseSignal
from qcore.tasks.canvas import signature
from qcore.tasks.current_app import current_app
from qcore.worker.process.log_setup import TASK_LOGGER

#: the version of Celery whose names and behaviour the views have
__version__ = "5.7.0"
SERIES = "collider"
VERSION_BANNER = f"{__version__} ({SERIES})"


class version_info_t(NamedTuple):
    major: int
    minor: int
    micro: int
    releaselevel: str = ""
    serial: str = ""


VERSION = version_info = version_info_t(5, 7, 0)


def distribution() -> Any:
    """What importlib.metadata says of Celery: the version."""
    from importlib.metadata import Distribution

    class CeleryDistribution(Distribution):
        def read_text(self, filename: str) -> str | None:
            return f"Name: celery\nVersion: {__version__}\n" if filename == "METADATA" else None

        def locate_file(self, path: Any) -> Any:
            return path

    return CeleryDistribution()


class CeleryWarning(UserWarning): ...


class AlwaysEagerIgnored(CeleryWarning): ...


class DuplicateNodenameWarning(CeleryWarning): ...


class DuplicateTaskNameWarning(CeleryWarning): ...


class FixupWarning(CeleryWarning): ...


class NotConfigured(CeleryWarning): ...


class SecurityWarning(CeleryWarning): ...


class CPendingDeprecationWarning(PendingDeprecationWarning): ...


class CDeprecationWarning(DeprecationWarning): ...


class IncompleteStream(QcoreError): ...


class CeleryCommandException(Exception): ...


class WorkerShutdown(SystemExit): ...


class WorkerTerminate(SystemExit): ...


def uuid(_uuid: Any = None) -> str:
    """A new id, as of a task; that of `_uuid()` if it is given."""
    return new_id() if _uuid is None else str(_uuid())


def maybe_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
    """A signature of what may be one, its mapping, a task or a name; None stays None."""
    if d is None or not isinstance(d, Mapping):
        return d
    found = signature(d, app=app)
    return found.clone() if clone and found is d else found


def bugreport(app: Any = None) -> str:
    return str((app or current_app()).bugreport())


base_logger = logging.getLogger("celery")
task_logger = logging.getLogger(TASK_LOGGER)


def get_logger(name: str) -> logging.Logger:
    return logging.getLogger(name)


def get_task_logger(name: str) -> logging.Logger:
    """The logger called `name`; its records carry the task's name and id, unless it has a parent."""
    found = logging.getLogger(name)
    if found.parent is logging.getLogger():
        found.parent = task_logger
    return found


def get_full_cls_name(obj: type) -> str:
    return f"{obj.__module__}.{obj.__name__}"


class Signal(BaseSignal):
    """A signal of a project, with Celery's arguments."""

    def __init__(
        self, providing_args: Iterable[str] | None = None, use_caching: bool = False, name: str | None = None
    ) -> None:
        """providing_args: the names of what send() passes; use_caching has no meaning here."""
        super().__init__(name or "", " ".join(providing_args or ()))


def b64encode(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def b64decode(data: str | bytes) -> bytes:
    return base64.b64decode(data)


class AppPickler:
    """Makes an app of the arguments that a class's __reduce_args__() returned, in Celery's order."""

    def __call__(self, cls: Any, *args: Any) -> Any:
        kwargs = self.build_kwargs(*args)
        app = self.construct(cls, **kwargs)
        self.prepare(app, **kwargs)
        return app

    def build_kwargs(self, *args: Any) -> dict[str, Any]:
        """The keywords of the app; a subclass may take other arguments."""
        return self.build_standard_kwargs(*args)

    def build_standard_kwargs(
        self,
        main: str | None,
        changes: Any,
        loader: Any,
        backend: Any,
        amqp: Any,
        events: Any,
        log: Any,
        control: Any,
        accept_magic_kwargs: bool,
        config_source: Any = None,
        config_source_silent: bool = False,
    ) -> dict[str, Any]:
        parts = {"loader": loader, "backend": backend, "amqp": amqp, "events": events, "log": log}
        source = {"config_source": config_source, "config_source_silent": config_source_silent}
        return {
            "main": main,
            "changes": changes,
            **parts,
            "control": control,
            "set_as_current": False,
            **source,
        }

    def construct(self, cls: Any, **kwargs: Any) -> Any:
        return cls(**kwargs)

    def prepare(self, app: Any, **kwargs: Any) -> None:
        """Set what was changed."""
        app.conf.update(kwargs["changes"])
