"""Celery's fixtures for pytest: what `pytest_plugins = ["celery.contrib.pytest"]` gives.

In:  fixtures that a project overrides (celery_config, …), and the marker `celery`.  Out: celery_app,
celery_worker and the same for the session. Those of qcore are in pytest_plugin.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from qcore.testing.app import TestApp, setup_default_app
from qcore.testing.worker import start_worker

NO_WORKER = os.environ.get("NO_WORKER")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "celery(**overrides): settings of the Celery app in one test")


@contextmanager
def _create_app(
    enable_logging: bool = False, use_trap: bool = False, parameters: Any = None, **config: Any
) -> Iterator[Any]:
    app = TestApp(set_as_current=False, enable_logging=enable_logging, config=config, **(parameters or {}))
    with setup_default_app(app, use_trap=use_trap):
        yield app


def _with_overrides(request: pytest.FixtureRequest, config: Mapping[str, Any]) -> dict[str, Any]:
    mark = request.node.get_closest_marker("celery")
    return {**config, **(mark.kwargs if mark else {})}


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """Override it: whether the use of the current app is an error."""
    return False


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """Override it: whether the app sets up logging."""
    return False


@pytest.fixture(scope="session")
def celery_includes() -> Sequence[str]:
    """Override it: the names of modules that are imported before a worker starts."""
    return ()


@pytest.fixture(scope="session")
def celery_worker_pool() -> Any:
    """Override it: the pool of the workers, solo or threads."""
    return "solo"


@pytest.fixture(scope="session")
def celery_config() -> Mapping[str, Any]:
    """Override it: settings of the app."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> Mapping[str, Any]:
    """Override it: keywords of the app."""
    return {}


@pytest.fixture(scope="session")
def celery_worker_parameters() -> Mapping[str, Any]:
    """Override it: options of the workers, such as queues."""
    return {}


@pytest.fixture(scope="session")
def celery_class_tasks() -> Sequence[Any]:
    """Override it: classes of tasks that the app of the session registers."""
    return []


@pytest.fixture(scope="session")
def celery_session_app(
    request: pytest.FixtureRequest,
    celery_config: Any,
    celery_parameters: Any,
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> Iterator[Any]:
    """An app for the whole session; it is the current one, unless the trap is on."""
    config = _with_overrides(request, celery_config)
    with _create_app(celery_enable_logging, use_celery_app_trap, celery_parameters, **config) as app:
        if not use_celery_app_trap:
            app.set_default()
            app.set_current()
        yield app


@pytest.fixture(scope="session")
def celery_session_worker(
    celery_session_app: Any,
    celery_includes: Sequence[str],
    celery_class_tasks: Sequence[Any],
    celery_worker_pool: Any,
    celery_worker_parameters: Mapping[str, Any],
) -> Iterator[Any]:
    """A worker for the whole session. Without NO_WORKER in the environment."""
    if not NO_WORKER:
        for module in celery_includes:
            celery_session_app.loader.import_task_module(module)
        for task in celery_class_tasks:
            celery_session_app.register_task(task)
        with start_worker(celery_session_app, pool=celery_worker_pool, **celery_worker_parameters) as worker:
            yield worker


@pytest.fixture
def celery_app(
    request: pytest.FixtureRequest,
    celery_config: Any,
    celery_parameters: Any,
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> Iterator[Any]:
    """An app for one test."""
    config = _with_overrides(request, celery_config)
    with _create_app(celery_enable_logging, use_celery_app_trap, celery_parameters, **config) as app:
        yield app


@pytest.fixture
def celery_worker(
    celery_app: Any,
    celery_includes: Sequence[str],
    celery_worker_pool: Any,
    celery_worker_parameters: Mapping[str, Any],
) -> Iterator[Any]:
    """A worker for one test, in a thread. Without NO_WORKER in the environment."""
    if not NO_WORKER:
        for module in celery_includes:
            celery_app.loader.import_task_module(module)
        with start_worker(celery_app, pool=celery_worker_pool, **celery_worker_parameters) as worker:
            yield worker


@pytest.fixture
def depends_on_current_app(celery_app: Any) -> None:
    """The app of the test is the current one."""
    celery_app.set_current()
