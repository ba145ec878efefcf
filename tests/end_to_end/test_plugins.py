"""Plug-ins: what is built in is named, and an installed package adds its own by entry points alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from qcore.brokers.registry import brokers
from qcore.errors import ConfigError
from qcore.pools.registry import pools
from qcore.results.registry import results
from qcore.worker.services.base import in_order, services
from tests.support.processes import ROOT, Processes, run_python
from tests.support.waiting import wait_for

EXTENSION = ROOT / "examples" / "extension"
APP = """
from qcore import App

app = App("mine")
app.conf.beat_schedule = {"adds": {"task": "mine.add", "schedule": 3600, "args": (2, 3)}}


@app.task(name="mine.add")
def add(x, y):
    return x + y
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the wheel of examples/extension is installed. pip asks no index."""
    source, made = tmp_path_factory.mktemp("source") / "extension", tmp_path_factory.mktemp("site")
    shutil.copytree(EXTENSION, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    alone = ["--no-index", "--no-deps"]
    for words in (
        ["wheel", *alone, "--no-build-isolation", "--wheel-dir", str(source), str(source)],
        ["install", *alone, "--target", str(made), str(source / "shelf-1.0-py3-none-any.whl")],
    ):
        done = subprocess.run([*pip, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return made


@pytest.fixture
def installed(site: Path, tmp_path: Path) -> dict[str, str]:
    """The environment in which the package is installed."""
    (tmp_path / "mine.py").write_text(APP)
    return {
        "PYTHONPATH": os.pathsep.join(map(str, (site, tmp_path, ROOT))),
        "HOME": str(tmp_path),
        "DIARY": str(tmp_path / "diary"),
        "QCTL_BROKER_URL": f"shelf:///{tmp_path}/broker.db",
        "QCTL_RESULT_BACKEND": f"memo:///{tmp_path}/results.db",
    }


def qctl(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "qctl", *words, env={**os.environ, **env})


def results_of(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "results.db")) as stored:
        count: int = stored.execute("SELECT count(*) FROM memo").fetchone()[0]
        return count


def test_an_installed_package_brings_every_kind_of_plug_in(
    installed: dict[str, str], processes: Processes, tmp_path: Path
) -> None:
    worker = processes.qctl("-A", "mine", "worker", "-P", "polite", "-n", "w1@shelf", "-E", env=installed)
    worker.wait_output("w1@shelf ready")

    def runs() -> int:
        found = re.search(r'"mine.add": (\d+)', qctl(installed, "inspect", "stats", "-o", "json").stdout)
        return int(found[1]) if found else 0

    called = qctl(installed, "call", "mine.add", "-a", "[2, 2]", "--wait", "-t", "20")
    changed = qctl(installed, "control", "greet_with", "welcome")
    greeted = qctl(installed, "inspect", "greeting", "-o", "json")
    listed = qctl(installed, "inspect", "--list")
    hello = qctl(installed, "hello", "--name", "Ada")
    salute = qctl(installed, "-A", "mine", "salute", "--times", "2")
    stats = json.loads(qctl(installed, "inspect", "stats", "-o", "json").stdout)
    beat = processes.qctl("-A", "mine", "beat", "-S", "metronome", "--max-interval", "0.1", env=installed)
    beat.wait_output("scheduler metronome .* Ready")
    wait_for(lambda: results_of(tmp_path) > 1, 60)  # those of `call` and of the scheduler
    wait_for(lambda: runs() > 1, 60)
    ended = []
    for process in (beat, worker):
        process.term()
        ended.append(process.wait())

    assert called.stdout.strip().endswith("4"), called.stderr
    assert changed.returncode == 0, changed.stderr
    assert "welcome from w1@shelf" in greeted.stdout, greeted.stderr
    assert "How this worker greets" in listed.stdout
    assert hello.stdout == "hello Ada, from the shelf broker\n", hello.stderr
    assert salute.stdout == "saluting mine\n" * 2, salute.stderr
    assert "qcore.pools.polite" in json.dumps(stats)
    assert '"transport": "shelf"' in json.dumps(stats)
    assert ended == [0, 0]
    assert (tmp_path / "diary").read_text() == "w1@shelf starts\nw1@shelf stops\n"
    assert results_of(tmp_path) >= 2


def test_a_plug_in_that_cannot_be_loaded_is_named_with_its_package(
    installed: dict[str, str], tmp_path: Path
) -> None:
    info = tmp_path / "thirdparty-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[qctl.commands]\nbroken = thirdparty_is_not_there:command\n")

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
    assert pools.names() == ["asyncio", "eventlet", "gevent", "prefork", "solo", "threads"]


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
