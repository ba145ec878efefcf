"""Fixtures live in the module that owns the thing; this file only names them."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

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
    # As the home of a plug-in, the program would be rewritten as tests are. Workers in threads import parts
    # of it late, and CPython 3.11 cannot parse in two threads at a time (AST constructor recursion depth).
    rewriter: Any = config.pluginmanager.rewrite_hook
    rewriter._must_rewrite -= {"qcore", "qctl"}
    rewriter._marked_for_rewrite_cache.clear()


def missing_service(reason: str) -> None:
    """Skip here; fail in CI, where every service must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (CI is set, so a missing service is a failure)")
    pytest.skip(reason)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """No process of xdist ends with a long test: each begins with its part of them.

    With `--dist worksteal` a process gets an even share of the list, and steals from the end of others'.
    So each share begins with the tests that wait for a minute, goes on with fleets, and ends with quick ones.
    """
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    if processes == 1:
        return
    long, slow, quick = ([item for item in items if kind(item) == one] for one in ("long", "slow", "quick"))
    # Tests that need a RabbitMQ of their own stand together, so that few processes start one.
    slow.sort(key=lambda item: item.get_closest_marker("own_rabbit") is None)
    shares: list[list[pytest.Item]] = []
    for number in range(processes):
        left = processes - number
        size = (len(items) - sum(map(len, shares))) // left  # as xdist divides them
        share = long[number::processes] + cut(slow, number, processes)
        room = max(size - len(share), 0)
        shares.append(share + quick[:room])
        quick = quick[room:]
    items[:] = [item for share in shares for item in share]


def kind(item: pytest.Item) -> str:
    """`long` as marked; `slow` as marked, or where whole fleets or brokers are run; else `quick`."""
    if item.get_closest_marker("long"):
        return "long"
    folder = item.path.relative_to(item.config.rootpath / "tests").parts[0]
    fleets = folder in ("end_to_end", "faults")
    return "slow" if fleets or any(map(item.get_closest_marker, ("slow", "own_rabbit"))) else "quick"


def cut(items: list[pytest.Item], number: int, parts: int) -> list[pytest.Item]:
    """One of so many even parts, whose tests stand together as they did."""
    return items[len(items) * number // parts : len(items) * (number + 1) // parts]


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


@pytest.fixture(autouse=True)
def levels_of_logs() -> Iterator[None]:
    """A command that runs in the test's process may set up logging; the next test knows nothing of it."""
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_arrives() -> None:
    """Where a shell has started the tests in the background, they and their children would ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
