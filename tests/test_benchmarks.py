"""The benchmark runs and prints its table. What it measures is not tested: a test is no stopwatch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.redis_server import require_server


@pytest.mark.slow
def test_a_quick_benchmark_prints_a_table(tmp_path: Path) -> None:
    require_server()
    where = tmp_path / "results.md"
    small = ("--quick", "--tasks", "30", "--trips", "10", "--write", str(where))

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *small], cwd=ROOT, capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 0, done.stderr
    for figure in ("publish", "drain", "round trip", "`status`", "`inspect ping`"):
        assert f"| {figure}" in done.stdout
    assert done.stdout.strip() in where.read_text()
