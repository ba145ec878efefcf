"""Django: an app in a Django project sets Django up in its workers, and closes connections between tasks.

In:  an app, when DJANGO_SETTINGS_MODULE is set.  Out: receivers of the worker's signals, and DjangoTask as
the class of the app's tasks.
Django itself is imported by fixup(); its parts when they are needed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qcore import signals
from qcore.errors import ConfigError
from qcore.tasks.task import Task

VARIABLE = "DJANGO_SETTINGS_MODULE"
#: of Celery: `-T` sets it, and a worker then runs no checks
SKIP_CHECKS = "CELERY_SKIP_CHECKS"
OLDEST = (1, 11)


class DjangoTask(Task):
    """A task that can also be called when the current transaction is committed."""

    abstract = True

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """delay() after the commit; at once outside of a transaction. A rollback drops the call."""
        _on_commit(functools.partial(self.delay, *args, **kwargs))

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """apply_async() after the commit; at once outside of a transaction. A rollback drops the call."""
        _on_commit(functools.partial(self.apply_async, *args, **kwargs))


def _on_commit(call: Any) -> None:
    from django.db import transaction

    transaction.on_commit(call)


def fixup(app: Any, env: str = VARIABLE) -> DjangoFixup | None:
    """Adapt `app` to the Django project that the environment variable `env` names. Returns None when there is
    none, and when Django cannot be imported, which is warned of."""
    if not os.environ.get(env):
        return None
    try:
        import django
    except ImportError:
        from qcore.celery.own import FixupWarning

        missing = "Django isn't installed.  Won't apply Django fix-ups!"
        warnings.warn(FixupWarning(f"Environment variable {env} is defined\nbut {missing}\n"), stacklevel=2)
        return None
    if django.VERSION < OLDEST:
        raise ConfigError(f"Django {django.get_version()} is too old; install 1.11 or later")
    return DjangoFixup(app).install()


class DjangoFixup:
    """What a Django project changes in an app. The app holds it, since signals hold no receiver."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._worker_fixup: DjangoWorkerFixup | None = None

    def install(self) -> DjangoFixup:
        """Put the project's directory first on sys.path, and connect to the signals of this app."""
        folder = str(Path.cwd())
        if sys.path[:1] != [folder]:
            sys.path.insert(0, folder)
        if self.app.task_cls in (Task, "celery.app.task:Task"):
            self.app.task_cls = DjangoTask
        signals.import_modules.connect(self.on_import_modules, sender=self.app)
        signals.worker_init.connect(self.on_worker_init)
        return self

    @property
    def worker_fixup(self) -> DjangoWorkerFixup:
        if self._worker_fixup is None:
            self._worker_fixup = DjangoWorkerFixup(self.app)
        return self._worker_fixup

    def on_import_modules(self, **kwargs: Any) -> None:
        try:
            self.worker_fixup.validate_models()
        except Exception as exc:
            raise ConfigError(f"Django cannot be set up: {type(exc).__name__}: {exc}") from exc

    def on_worker_init(self, sender: Any = None, **kwargs: Any) -> None:
        if sender is not None and sender.app is not self.app:
            return  # the worker of another app, which has a fix-up of its own
        self.worker_fixup.worker = sender
        self.worker_fixup.install()


class DjangoWorkerFixup:
    """Closes connections to databases and caches in a worker: no task gets one that another has left."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.worker: Any = None
        #: how many tasks share a connection; None: every task gets a new one
        self.db_reuse_max: int | None = app.conf.get("db_reuse_max")
        self._db_recycles = 0

    def validate_models(self) -> None:
        """Set Django up, and run its checks, before modules with tasks are imported."""
        import django

        django.setup()
        self._load_task_backends()
        if not os.environ.get(SKIP_CHECKS):
            from django.core.checks import run_checks

            run_checks()

    @staticmethod
    def _load_task_backends() -> None:
        """Import the backends of Django's tasks (TASKS), so that a worker knows the task that runs them."""
        from django.conf import settings
        from django.utils.module_loading import import_string

        for backend in ((getattr(settings, "TASKS", None) if settings.configured else None) or {}).values():
            import_string(backend["BACKEND"])

    def install(self) -> DjangoWorkerFixup:
        signals.task_prerun.connect(self.on_task_prerun)
        signals.task_postrun.connect(self.on_task_postrun)
        signals.worker_process_init.connect(self.on_worker_process_init)
        self.close_database()
        self.close_cache()
        return self

    def on_worker_process_init(self, **kwargs: Any) -> None:
        """Forget the connections of the parent: close() would end them there too, so only their descriptors
        are closed."""
        for connection in self._connections(initialized_only=False):
            if connection is not None and connection.connection is not None:
                with contextlib.suppress(_interface_error()), connection.wrap_database_errors:
                    _close_descriptor(connection.connection)
        self._close_database()
        self.close_cache()

    def on_task_prerun(self, sender: Any, **kwargs: Any) -> None:
        if not sender.request.is_eager:
            self.close_database()

    def on_task_postrun(self, sender: Any, **kwargs: Any) -> None:
        if not sender.request.is_eager:
            self.close_database()
            self.close_cache()

    def close_database(self, **kwargs: Any) -> None:
        """Close the connections of this thread; with CELERY_DB_REUSE_MAX only after so many tasks."""
        if not self.db_reuse_max:
            self._close_database()
            return
        if self._db_recycles >= self.db_reuse_max * 2:  # it is called before and after each task
            self._db_recycles = 0
            self._close_database()
        self._db_recycles += 1

    def _close_database(self) -> None:
        from django.conf import settings
        from django.db import DatabaseError

        is_prefork = self.worker is not None and self.worker.pool_cls.name == "prefork"
        for connection in self._connections(initialized_only=True):
            try:
                connection.close()
                has_pool = settings.DATABASES.get(connection.alias, {}).get("OPTIONS", {}).get("pool")
                if has_pool and is_prefork and hasattr(connection, "close_pool"):
                    with contextlib.suppress(KeyError):
                        connection.close_pool()
            except _interface_error():
                pass  # the server has closed it already
            except DatabaseError as exc:
                if "closed" not in str(exc) and "not connected" not in str(exc):
                    raise

    @staticmethod
    def _connections(initialized_only: bool) -> Iterable[Any]:
        from django.db import connections

        try:
            found: Iterable[Any] = connections.all(initialized_only=initialized_only)
        except TypeError:  # before Django 4.1
            found = connections.all()
        return found

    def close_cache(self) -> None:
        from django.core import cache

        with contextlib.suppress(TypeError, AttributeError):
            cache.close_caches()


def _interface_error() -> type[Exception]:
    from django.db.utils import InterfaceError

    kind: type[Exception] = InterfaceError
    return kind


def _close_descriptor(connection: Any) -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):  # SQLite's connection has none
        os.close(connection.fileno())
