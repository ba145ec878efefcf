"""Plug-ins: what is built in is named, and an installed package adds its own by entry points alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qcore.brokers.registry import brokers
from qcore.errors import ConfigError
from qcore.pools.registry import pools
from qcore.results.registry import results
from qcore.worker.services.base import in_order, services
from tests.support.processes import ROOT, Processes

CODE = '''
import os
from pathlib import Path

import click

from qcore import App
from qcore.brokers.sqlite.broker import SqliteBroker
from qcore.control.commands.base import inspect_command
from qcore.pools.solo import SoloPool
from qcore.results.broker import BrokerResults
from qctl.cli.command import command as page
from qctl.cli.session import current


class Shelf(SqliteBroker):
    name = "shelf"

    def __init__(self, url, options=None):
        super().__init__(url.replace("shelf://", "sqlite://", 1), options)


class Memo(BrokerResults):
    def __init__(self, url, options=None):
        super().__init__(url.replace("memo://", "sqlite://", 1), options)


class Calm(SoloPool):
    name = "calm"


class Diary:
    after = ("lease",)

    def __init__(self, worker):
        self.worker, self.file = worker, Path(os.environ["DIARY"])

    def start(self):
        self.file.write_text(f"started {self.worker.node}\\n")

    def stop(self):
        self.file.write_text(self.file.read_text() + "stopped\\n")


@inspect_command(name="greet")
def greet(worker, **_):
    """Say hello."""
    return f"hello from {worker.node}"


@page("hello")
def hello():
    """Say which broker this is."""
    click.echo(f"hello {current().broker.name}")


app = App("third")


@app.task(name="third.add")
def add(x, y):
    return x + y
'''
POINTS = """
[qcore.brokers]
shelf = thirdparty:Shelf

[qcore.result_stores]
memo = thirdparty:Memo

[qcore.pools]
calm = thirdparty:Calm

[qcore.services]
diary = thirdparty:Diary

[qcore.control_commands]
greet = thirdparty:greet

[qctl.commands]
hello = thirdparty:hello
broken = thirdparty_is_not_there:command
"""


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment in which the package is installed."""
    site = tmp_path / "site"
    info = site / "thirdparty-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "thirdparty.py").write_text(CODE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    return {
        "PYTHONPATH": f"{site}{os.pathsep}{ROOT}",
        "HOME": str(tmp_path),
        "DIARY": str(tmp_path / "diary"),
        "QCTL_BROKER_URL": f"shelf:///{tmp_path}/broker.db",
        "QCTL_RESULT_BACKEND": f"memo:///{tmp_path}/results.db",
    }


def qctl(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qctl", *words],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_package_brings_every_kind_of_plug_in(
    installed: dict[str, str], processes: Processes, tmp_path: Path
) -> None:
    worker = processes.qctl("-A", "thirdparty", "worker", "-P", "calm", "-n", "w1@third", env=installed)
    worker.wait_output("w1@third ready")

    called = qctl(installed, "call", "third.add", "-a", "[2, 2]", "--wait", "-t", "20")
    greeted = qctl(installed, "inspect", "greet", "-o", "json")
    hello = qctl(installed, "hello")
    stats = qctl(installed, "inspect", "stats", "-o", "json")
    worker.term()
    code = worker.wait()

    assert called.stdout.strip().endswith("4"), called.stderr
    assert "hello from w1@third" in greeted.stdout, greeted.stderr
    assert hello.stdout == "hello shelf\n", hello.stderr
    assert "calm" in worker.output()
    assert '"transport": "shelf"' in json.dumps(json.loads(stats.stdout))
    assert (code, (tmp_path / "diary").read_text()) == (0, "started w1@third\nstopped\n")
    assert (tmp_path / "results.db").exists()


def test_a_plug_in_that_cannot_be_loaded_is_named_with_its_package(installed: dict[str, str]) -> None:
    ran = qctl(installed, "broken")

    assert ran.returncode == 78
    assert "the package thirdparty offers 'broken'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_only_plug_ins_are_offered() -> None:
    assert brokers.names() == ["kombu", "memory", "redis", "sqlite"]
    kept = [
        "broker",
        "cache+memcached",
        "cache+memory",
        "db",
        "disabled",
        "file",
        "memory",
        "redis",
        "rpc",
        "sqlite",
    ]
    assert results.names() == kept
    assert pools.names() == ["asyncio", "gevent", "prefork", "solo", "threads"]


@pytest.mark.parametrize("registry", [brokers, results, pools])
def test_every_built_in_plug_in_can_be_had(registry: type) -> None:
    for name in registry.builtin:  # type: ignore[attr-defined]
        assert registry.get(name) is not None  # type: ignore[attr-defined]


class Quiet:
    def __init__(self, worker: object) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


def made(*after: str) -> type[Quiet]:
    return type("Made", (Quiet,), {"after": after})


@pytest.mark.parametrize(
    ("extra", "order"),
    [
        ({}, ["health", "lease"]),
        ({"a": Quiet}, ["health", "lease", "a"]),
        ({"a": made("b"), "b": made("lease")}, ["health", "lease", "b", "a"]),
        ({"a": made("control")}, ["health", "lease", "a"]),
    ],
)
def test_services_start_after_those_they_name(
    extra: dict[str, type[Quiet]], order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_loaded", dict(extra))

    found = in_order({"health": Quiet(None), "lease": Quiet(None)}, None)

    assert list(found) == order


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"a": made("b"), "b": made("a")}, "wait for each other"),
        ({"a": made("nobody")}, "after 'nobody', which does not exist"),
    ],
)
def test_services_that_cannot_be_ordered_are_refused(
    extra: dict[str, type[Quiet]], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_loaded", dict(extra))

    with pytest.raises(ConfigError, match=why):
        in_order({"health": Quiet(None)}, None)
