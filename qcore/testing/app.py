"""Apps for tests: in memory, each with its own queues, and without traces after the test.

In:  settings.  Out: an App whose broker is in this process, and the current app as it was when the test ends.
After this: worker.py runs its tasks.

TestApp(), Trap and setup_default_app() are those of Celery's module celery.contrib.testing.app.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from qcore.app.app import App
from qcore.base.times import new_id
from qcore.brokers.memory.broker import forget_place
from qcore.celery.app import Celery
from qcore.celery.logs import Logging
from qcore.tasks import decorators
from qcore.tasks.current_app import current_or_none, set_current

#: settings of every app for tests; the logging of the test run stays as it is
DEFAULTS: dict[str, Any] = {
    "worker_hijack_root_logger": False,
    "worker_log_color": False,
    "accept_content": ["json"],
    "enable_utc": True,
    "timezone": "UTC",
    "broker_heartbeat": 0,
}
#: the settings of TestApp(): as in Celery all such apps of a process share their queues
DEFAULT_TEST_CONFIG: dict[str, Any] = {**DEFAULTS, "broker_url": "memory://"}


@contextmanager
def in_memory_app(name: str = "tests", kind: type[App] = App, **settings: Any) -> Iterator[App]:
    """An app with queues and results of its own, in this process; it is the current app meanwhile. Settings
    as of App. At the end its messages are dropped and the app that was current is so again."""
    place = f"memory://{new_id()}"
    with left_as_it_was():
        app = kind(name, broker=place, set_as_current=True)
        app.add_defaults(DEFAULTS)
        app.conf.update(settings)
        try:
            yield app
        finally:
            app.close()
            forget_place(place)


@contextmanager
def left_as_it_was() -> Iterator[None]:
    """At its end the current app is the one from before, and the shared tasks that were declared within
    functions are forgotten: each test may have one of the same name."""
    before, known = current_or_none(), len(decorators.shared)
    try:
        yield
    finally:
        set_current(before)
        decorators.forget_local(known)


class Trap:
    """Stands for the current app; the use of any attribute is a RuntimeError."""

    def __getattr__(self, name: str) -> Any:
        if name in ("_is_coroutine", "__func__"):  # unittest.mock asks every object for these
            return None
        raise RuntimeError(f"Test depends on current_app: it reads its attribute '{name}'")


class UnitLogging(Logging):
    """`app.log` of an app for tests, which leaves logging alone."""

    already_setup = True


def TestApp(
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    enable_logging: bool = False,
    set_as_current: bool = False,
    log: Any = UnitLogging,
    backend: str | None = None,
    broker: str | None = None,
    **kwargs: Any,
) -> Celery:
    """A Celery app for tests, as celery.contrib.testing.app.TestApp; config: settings below the keywords."""
    defaults = {**deepcopy(DEFAULT_TEST_CONFIG), **(config or {})}
    if broker is not None:
        defaults.pop("broker_url", None)
    if backend is not None:
        defaults.pop("result_backend", None)
    app = Celery(
        name or "celery.tests", set_as_current=set_as_current, broker=broker, backend=backend, **kwargs
    )
    if not enable_logging and log is not None:
        app.__dict__["log"] = log(app)
    app.add_defaults(defaults)
    return app


@contextmanager
def set_trap(app: Any) -> Iterator[None]:
    """Within it the use of the current app is a RuntimeError."""
    before = current_or_none()
    set_current(Trap())
    try:
        yield
    finally:
        set_current(before)


@contextmanager
def setup_default_app(app: Any, use_trap: bool = False) -> Iterator[None]:
    """Use `app` in a test: its connections are closed at the end, and the current app is as before."""
    with left_as_it_was():
        before = current_or_none()
        try:
            if use_trap:
                with set_trap(app):
                    yield
            else:
                yield
        finally:
            if app is not before:
                app.close()
