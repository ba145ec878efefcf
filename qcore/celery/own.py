"""Names of Celery that qcore itself has no use for: exceptions that are never raised here, ids, loggers."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from qcore.base.times import new_id
from qcore.errors import QcoreError
from qcore.tasks.canvas import signature
from qcore.tasks.current_app import current_app
from qcore.worker.process.log_setup import TASK_LOGGER

#: the version of Celery whose names and behaviour the views have
__version__ = "5.7.0"
SERIES = "qcore"


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


def uuid() -> str:
    """A new id, as of a task."""
    return new_id()


def maybe_signature(task: Any, app: Any = None, clone: bool = False) -> Any:
    """A signature of what may be one, its mapping, a task or a name; None stays None."""
    if task is None or not isinstance(task, Mapping):
        return task
    found = signature(task, app=app)
    return found.clone() if clone and found is task else found


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


def get_full_cls_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}"


def b64encode(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def b64decode(data: str | bytes) -> bytes:
    return base64.b64decode(data)
