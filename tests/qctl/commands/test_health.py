"""`qctl health`: what orchestrators ask every few seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from qcore.wire import pulse as wire
from qctl import exit_codes
from tests.qctl.cli.test_command_line import here
from tests.support.processes import ROOT, Processes
from tests.support.redis_server import RedisServer, free_port, require_server
from tests.support.waiting import wait_for


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Where the pulses of this test's workers are."""
    (tmp_path / "run").mkdir(mode=0o700)
    return str(tmp_path / "run")


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read().decode().strip()


def probe(place: str, *words: str) -> subprocess.CompletedProcess[str]:
    return here("health", "--local", *words, XDG_RUNTIME_DIR=place)


def leave(place: str, flags: int, turned_ago_s: float, talked_ago_s: float) -> None:
    """A pulse as a worker in that state leaves it: ours, so that its process is there."""
    folder = Path(place) / "qctl"
    folder.mkdir(parents=True, exist_ok=True)
    now = time.monotonic()
    mark = wire.started_mark(os.getpid())
    raw = wire.LAYOUT.pack(
        wire.MAGIC, os.getpid(), flags, 0.0, now - turned_ago_s, now - talked_ago_s, mark, b"w1@test"
    )
    (folder / "one.pulse").write_bytes(raw)


@pytest.mark.parametrize(
    ("flags", "turned", "talked", "live", "ready"),
    [
        (wire.READY, 0.5, 0.5, True, True),
        (0, 0.5, 0.5, True, False),  # still starting
        (wire.READY | wire.AWAY, 0.5, 300, True, False),  # the broker's fault
        (wire.READY | wire.BUSY, 0.5, 300, True, True),  # full, so it asks for nothing
        (wire.READY | wire.STOPPING, 0.5, 300, True, False),
        (wire.READY | wire.BUSY, 25, 25, False, False),  # stuck
        (wire.READY, 0.5, 25, False, False),  # deaf
        (wire.READY | wire.BUSY | wire.SOLO, 300, 300, True, True),  # one long task
    ],
)
def test_a_pulse_says_how_a_worker_is(
    place: str, flags: int, turned: float, talked: float, live: bool, ready: bool
) -> None:
    leave(place, flags, turned, talked)

    assert probe(place, "--live").returncode == (exit_codes.OK if live else exit_codes.NOT_MET)
    assert probe(place, "--ready").returncode == (exit_codes.OK if ready else exit_codes.NOT_MET)


def test_a_broker_that_is_away_makes_a_worker_unready_and_not_dead(processes: Processes, place: str) -> None:
    server, port = RedisServer(require_server()), free_port()
    http = ("--health-port", f"127.0.0.1:{port}")
    try:
        worker = processes.start_qcore_worker(
            server.url, "-P", "threads", *http, name="w1@test", env={"XDG_RUNTIME_DIR": place}
        )
        fleet = here("health", "-b", server.url)
        fit = probe(place, "-o", "json")
        fit_by_http = [asked(port, path) for path in ("/live", "/ready/", "/startup?x=1", "/metrics")]
        server.kill9()
        wait_for(lambda: probe(place, "--ready").returncode == exit_codes.NOT_MET)
        dead = probe(place, "--live")
        away_by_http = [asked(port, path) for path in ("/live", "/ready", "/startup")]
        fleet_away = here("health", "-b", server.url)
    finally:
        server.stop()
    worker.kill9()
    gone = probe(place)

    assert fleet.returncode == exit_codes.OK
    assert [(i["node"], i["ok"]) for i in json.loads(fit.stdout)["items"]] == [("w1@test", True)]
    assert dead.returncode == exit_codes.OK
    assert fit_by_http == [(200, "ok")] * 3 + [(404, "the paths are /live, /ready, /startup")]
    assert [status for status, _ in away_by_http] == [200, 503, 200]
    assert "broker" in away_by_http[1][1]
    assert fleet_away.returncode == exit_codes.UNAVAILABLE
    assert gone.returncode == exit_codes.NOT_MET


def test_the_fleet_is_unfit_when_a_queue_has_no_worker(redis_url: str, processes: Processes) -> None:
    nobody = here("health", "-b", redis_url)
    processes.start_qcore_worker(redis_url, "-P", "solo", name="w1@test")
    here("call", "proj.add", "--no-check", "-Q", "mails", "-b", redis_url)

    done = here("health", "-b", redis_url, "-o", "json")

    assert nobody.returncode == exit_codes.NOT_MET
    assert done.returncode == exit_codes.NOT_MET
    assert [i["what"] for i in json.loads(done.stdout)["items"] if not i["ok"]] == ["queue mails"]


def test_a_local_probe_imports_next_to_nothing(place: str) -> None:
    code = (
        "import sys; sys.argv[1:] = ['health', '--local']; from qctl.__main__ import main; main();"
        "print([m for m in ('click', 'msgspec', 'pathlib', 'kombu', 'asyncio') if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"XDG_RUNTIME_DIR": place, "PYTHONPATH": str(ROOT)},
    )

    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("port", "words"),
    [
        ("no", "the health port is PORT or HOST:PORT, not 'no'"),
        ("256.0.0.1:1", "cannot listen at 256.0.0.1:1"),
    ],
)
def test_a_health_port_that_cannot_be_had_is_a_sentence(
    port: str, words: str, processes: Processes, sqlite_url: str
) -> None:
    worker = processes.start_qcore_worker(sqlite_url, "-P", "solo", "--health-port", port, ready=False)

    assert worker.wait() == 78
    assert words in worker.output() and "Traceback" not in worker.output()
