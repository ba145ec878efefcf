"""The benchmark runs and prints its tables. What it measures is not tested: a test is no stopwatch."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import client
from benchmarks.contestants.parts import in_parts
from benchmarks.figures import NAMES, figure
from benchmarks.goals import VALUES, Goal, Value
from benchmarks.lineup import CELERY, OURS, ROOF, SIDES
from benchmarks.table import Round, best_peer, everybody, summary, verdict
from tests.support.processes import ROOT
from tests.support.redis_server import require_server

RATE = Value("drain", "drain")
TIME = Value("p50", "round trip", less_is_better=True)


def quick(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_quick_benchmark_prints_a_table(tmp_path: Path) -> None:
    require_server()
    where = tmp_path / "results.md"

    done = quick("--only", "publish,drain,roundtrip", "--tasks", "30", "--trips", "10", "--write", str(where))

    assert done.returncode == 0, done.stderr
    for words in ("publish", "drain", "round trip"):
        assert f"| {words}" in done.stdout
    assert done.stdout.strip() in where.read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_only_the_figures_that_were_asked_for_are_measured() -> None:
    require_server()

    done = quick("--only", "cold", "--cpu")

    assert done.returncode == 0, done.stderr
    assert "| cold start" in done.stdout
    assert "| publish" not in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_operators_commands_are_measured() -> None:
    require_server()

    done = quick("--only", "operators", "--against", "raw")  # ours alone: Celery's three workers take long

    assert done.returncode == 0, done.stderr
    for words in ("`status`", "`inspect ping`", "`inspect active`", "`call`", "`qctl --help`"):
        assert f"| {words}" in done.stdout


def test_a_name_that_is_none_is_refused_with_those_there_are() -> None:
    done = quick("--against", "nobody")

    assert done.returncode == 2
    assert "'nobody'" in done.stderr
    assert CELERY in done.stderr


def test_a_goal_that_is_missed_says_by_how_much() -> None:
    rounds: list[Round] = [{OURS: {"drain": 47.0}, ROOF: {"drain": 100.0}}]

    found = verdict(rounds, RATE, Goal("roof", 0.5, "0.5 of the roof"))

    assert found == "missed: 0.47 of 0.5"


def test_a_goal_of_a_time_is_met_from_below() -> None:
    rounds: list[Round] = [{OURS: {"p50": 1.0}, CELERY: {"p50": 5.0}}]

    assert verdict(rounds, TIME, Goal("celery", 0.25, "a quarter")) == "yes"
    assert verdict(rounds, TIME, Goal("celery", 0.1, "a tenth")) == "missed: 0.2 of 0.1"


def test_a_ratio_is_taken_within_each_round() -> None:
    rounds: list[Round] = [
        {OURS: {"drain": 10.0}, CELERY: {"drain": 1.0}},
        {OURS: {"drain": 100.0}, CELERY: {"drain": 50.0}},
        {OURS: {"drain": 40.0}, CELERY: {"drain": 10.0}},
    ]

    assert verdict(rounds, RATE, Goal("celery", 5, "5x")) == "missed: 4 of 5"


def test_a_contestant_that_was_not_measured_is_not_beaten() -> None:
    rounds: list[Round] = [{OURS: {"drain": 10.0}, "huey": {}}]

    assert verdict(rounds, RATE, Goal("peer", 2, "2x")) == "not measured"


def test_the_fastest_peer_is_neither_celery_nor_a_roof() -> None:
    values = {OURS: 50.0, CELERY: 60.0, ROOF: 99.0, "huey": 20.0, "rq": 30.0}
    rates: list[Round] = [{name: {"drain": v, "p50": v} for name, v in values.items()}]

    assert best_peer(rates, RATE) == "rq"
    assert best_peer(rates, TIME) == "huey"


def test_the_tables_name_everybody_who_was_measured() -> None:
    rounds: list[Round] = [{OURS: {"publish": 9.0}, CELERY: {"publish": 1.0}, "huey": {"publish": 4.0}}]

    assert "huey 4" in summary(rounds)
    lines = everybody(rounds, VALUES[0]).splitlines()[2:]
    assert [line.split()[1] for line in lines] == [OURS, "huey", CELERY]


def test_each_contestant_has_its_files() -> None:
    for side in SIDES:
        assert (ROOT / "benchmarks" / "contestants" / f"{side.module}.py").exists(), side
        if side.venv:
            pins = (ROOT / "benchmarks" / "environments" / f"{side.venv}.txt").read_text().split()
            assert all("==" in pin for pin in pins), side


def test_each_figure_is_open_to_qcore() -> None:
    ours = SIDES[0]

    assert all(figure(name).takes(ours) for name in NAMES)
    assert {path.stem for path in (ROOT / "benchmarks" / "figures").glob("[a-z]*.py")} == set(NAMES)


@pytest.mark.parametrize(("kept", "words"), [(3, None), (4, "3 tasks left 4 results"), (2, "left 2 results")])
def test_a_drain_counts_its_results(monkeypatch: pytest.MonkeyPatch, kept: int, words: str | None) -> None:
    side = SimpleNamespace(
        send=lambda n: ["x"] * n, stored=lambda handles: len(handles), left=lambda: 0, kept=lambda: 10 + kept
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO("go\n"))

    if words is None:
        assert client.drain(side, "3", "on", "10")["ended"] > 0
    else:
        with pytest.raises(SystemExit, match=words):
            client.drain(side, "3", "on", "10")


def test_results_that_are_off_may_not_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    side = SimpleNamespace(send=lambda n: ["x"] * n, left=lambda: 0, kept=lambda: 1)
    monkeypatch.setattr(sys, "stdin", io.StringIO("go\n"))

    with pytest.raises(SystemExit, match="results are off, and 1 were stored"):
        client.drain(side, "3", "off", "0")


def test_a_list_in_parts_loses_nothing() -> None:
    assert [x for part in in_parts(list(range(7)), 3) for x in part] == list(range(7))
