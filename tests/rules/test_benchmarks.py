"""The benchmark runs and prints its tables. What it measures is not tested: a test is no stopwatch."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import charts, client, runtimes
from benchmarks.__main__ import parse, present
from benchmarks.contestants.parts import in_parts
from benchmarks.contestants.producer import Producer, read
from benchmarks.figures import NAMES, figure
from benchmarks.goals import VALUES, Goal, Value
from benchmarks.lineup import CELERY, OURS, ROOF, SIDES
from benchmarks.table import Round, best_peer, everybody, summary, verdict
from benchmarks.venvs import NotInstalled
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
def test_a_quick_benchmark_prints_a_table_of_the_figures_that_were_asked_for(tmp_path: Path) -> None:
    require_server()
    where = tmp_path / "results.md"

    done = quick("--only", "publish,drain,roundtrip", "--tasks", "30", "--trips", "10", "--write", str(where))

    assert done.returncode == 0, done.stderr
    for words in ("publish", "drain", "round trip"):
        assert f"| {words}" in done.stdout
    assert "| cold start" not in done.stdout
    assert done.stdout.strip() in where.read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_cold_starts_and_the_operators_commands_are_measured() -> None:
    require_server()

    # Ours alone: Celery's three workers take long, and the environment of another takes pip.
    done = quick("--only", "cold,operators", "--against", "qcore", "--cpu")

    assert done.returncode == 0, done.stderr
    for words in ("cold start", "`status`", "`inspect ping`", "`inspect active`", "`call`", "`qctl --help`"):
        assert f"| {words}" in done.stdout
    assert "| publish" not in done.stdout


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


def test_a_goal_can_name_a_contestant_and_another_figure_of_it() -> None:
    rounds: list[Round] = [{OURS: {"drain": 6.0}, "bullmq": {"drain": 2.0, "bulk": 1.0}}]

    assert verdict(rounds, RATE, Goal("bullmq", 3.5, "3.5x BullMQ")) == "missed: 3 of 3.5"
    assert verdict(rounds, RATE, Goal("bullmq:bulk", 3.5, "3.5x its bulk")) == "yes"
    assert verdict(rounds, RATE, Goal("sidekiq", 3, "3x Sidekiq")) == "not measured"


def test_each_goal_is_against_somebody_who_takes_part() -> None:
    known = {"absolute", "peer", "own", "celery", "roof", *(side.name for side in SIDES)}

    assert {goal.against.partition(":")[0] for value in VALUES for goal in value.goals} <= known


def test_the_tables_name_everybody_who_was_measured() -> None:
    rounds: list[Round] = [{OURS: {"publish": 9.0}, CELERY: {"publish": 1.0}, "huey": {"publish": 4.0}}]

    assert "huey 4" in summary(rounds)
    lines = everybody(rounds, VALUES[0]).splitlines()[2:]
    assert [line.split()[1] for line in lines] == [OURS, "huey", CELERY]


def test_each_contestant_has_its_files() -> None:
    for side in SIDES:
        assert (ROOT / "benchmarks" / "contestants" / f"{side.module}.py").exists(), side
        if side.venv:
            lines = (ROOT / "benchmarks" / "environments" / f"{side.venv}.txt").read_text().splitlines()
            assert all("==" in line for line in lines if not line.startswith(("#", "--no-binary "))), side
        if side.runtime == "node":
            pins = (ROOT / "benchmarks" / "environments" / f"{side.name}.txt").read_text().split()
            assert all("@" in pin[1:] for pin in pins), side


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


def test_a_contestant_whose_language_is_not_installed_is_left_out_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    arena = SimpleNamespace(describe=lambda side: runtimes.runtime(side, sys.executable))

    sides, remarks = present(arena, parse(["--against", "bullmq,sidekiq"]))  # type: ignore[arg-type]

    assert [side.name for side in sides] == [OURS]
    assert remarks == [
        "bullmq is left out: node and npm are not installed.",
        "sidekiq is left out: ruby is not installed (Debian: ruby-sidekiq).",
    ]


def test_a_ruby_without_the_gem_is_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: sys.executable)

    with pytest.raises(NotInstalled, match="sidekiq is left out: ruby has no gem 'sidekiq'"):
        runtimes.ruby("sidekiq")


def test_packages_that_npm_cannot_install_leave_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "npm error code ENOTFOUND\nnpm error network no host\n")
    monkeypatch.setattr(shutil, "which", lambda program: program)
    monkeypatch.setattr(runtimes, "NPM_PLACE", tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda command, **options: failed)

    with pytest.raises(NotInstalled, match=r"bullmq is left out, .*ENOTFOUND npm error network no host"):
        runtimes.node("bullmq")
    assert not (tmp_path / "bullmq" / ".installed").exists()


SCRIPT = """
import json, sys
print("a warning", flush=True)
for line in sys.stdin:
    word, n = line.split()
    found = {"ids": ["x"] * int(n)} if word == "send" else {"error": f"no {word}"}
    print(json.dumps({**found, "wall_s": int(n) / 1000, "cpu_s": 0.5}), flush=True)
"""


def test_calls_of_another_language_are_timed_where_they_are_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "script").write_text(SCRIPT)
    monkeypatch.setenv("BENCH_PROGRAM", sys.executable)
    producer = Producer(str(tmp_path / "script"))
    side = SimpleNamespace(send=lambda n: producer.ask("send", n)["ids"], spent=producer.spent)

    found = client.publish(side, "250")  # type: ignore[arg-type]

    assert found == {"rate": 1000.0, "cpu_us": 2000.0}
    with pytest.raises(RuntimeError, match="script: no trip"):
        producer.ask("trip")
    producer.end()


def test_a_script_that_has_ended_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"x\.js has ended without an answer"):
        read(["a warning\n"], "x.js")


def test_the_charts_are_those_of_the_results() -> None:
    assert charts.PICTURE.read_text() == charts.picture(charts.RESULTS.read_text())


def test_a_bar_is_as_long_as_its_value() -> None:
    head = "| contestant | median (min - max) | rounds | qcore / it |\n|---|---|---|---|\n"
    rows = "| qcore | 2,000 (1 - 3) | 3 | - |\n| huey | 1,000 | 1 | 2x |\n| raw | 9,000 | 1 | - |\n"

    drawn = charts.picture(f"# Results\n\n## Drain, results stored (tasks/s)\n\n{head}{rows}")

    widths = [float(width) for width in re.findall(r'<rect x="\d+" .*width="([\d.]+)"', drawn)]
    assert widths == [230.0, 115.0]
    assert "2,000" in drawn and ">raw<" not in drawn
