"""The plug-in for pytest: the fixtures qcore_app and qcore_worker, and the marker `qcore`.

In:  the fixtures qcore_config and qcore_worker_options, which a project may override.  Out: an app in memory,
and a worker for it in a thread (qcore/testing/).
pytest imports it in each project where qcore is installed, so it imports nothing of the engine before a test
asks for its fixtures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from qcore import App
    from qcore.worker.worker import Worker


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "qcore(**settings): settings of the app of the fixture qcore_app")


@pytest.fixture(scope="session")
def qcore_config() -> Mapping[str, Any]:
    """Override it: settings of qcore_app."""
    return {}


@pytest.fixture
def qcore_worker_options() -> Mapping[str, Any]:
    """Override it: options of start_worker(), such as pool="threads", concurrency=4."""
    return {}


@pytest.fixture
def qcore_app(request: pytest.FixtureRequest, qcore_config: Mapping[str, Any]) -> Iterator[App]:
    """An app with queues and results of its own in this process; it is the current app during the test."""
    from qcore.testing.app import in_memory_app

    settings = dict(qcore_config)
    for mark in reversed(list(request.node.iter_markers("qcore"))):
        settings.update(mark.kwargs)
    with in_memory_app(**settings) as app:
        yield app


@pytest.fixture
def qcore_worker(qcore_app: App, qcore_worker_options: Mapping[str, Any]) -> Iterator[Worker]:
    """A worker that runs the tasks of qcore_app in a thread."""
    from qcore.testing.worker import start_worker

    with start_worker(qcore_app, perform_ping_check=False, **qcore_worker_options) as worker:
        yield worker
