"""Fixtures live in the module that owns the thing; this file only names them."""

from __future__ import annotations

import gc
import os
import signal

import pytest

pytest_plugins = [
    "tests.support.redis_server",
    "tests.support.redis_cluster",
    "tests.support.rabbit_server",
    "tests.support.memcached_server",
    "tests.support.cloud_servers",
    "tests.support.certificates",
    "tests.support.sentinels",
    "tests.support.processes",
    "tests.support.terminal",
]

# Nothing that the collection of tests makes is garbage, and to look for it takes a third of the time.
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    """No test here is for anyio, whose plug-in looks at each of them: a tenth of the collection's time."""
    if config.pluginmanager.has_plugin("anyio"):
        config.pluginmanager.unregister(name="anyio")


def missing_service(reason: str) -> None:
    """Skip here; fail in CI, where every service must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (CI is set, so a missing service is a failure)")
    pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the tests that only wait over the list: each process of xdist begins with a part of it.

    Tests that need a RabbitMQ of their own stand together, so that few processes start one.
    """
    own = [item for item in items if item.get_closest_marker("own_rabbit")]
    if own:
        place = items.index(own[0])
        items[:] = (
            [i for i in items[:place] if i not in own] + own + [i for i in items[place:] if i not in own]
        )
    long = [item for item in items if item.get_closest_marker("long")]
    rest = [item for item in items if not item.get_closest_marker("long")]
    step = len(rest) // max(len(long), 1)
    for number, item in reversed([*enumerate(long)]):
        rest.insert(number * step, item)
    items[:] = rest


def pytest_collection_finish() -> None:
    """What exists now stays to the end: no collector has to look at it again; and it looks less often."""
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def a_home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """qctl finds no contexts of the developer, and writes no audit log of theirs."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        os.environ[name] = str(tmp_path_factory.mktemp(name.lower()))


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_arrives() -> None:
    """Where a shell has started the tests in the background, they and their children would ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
