"""Another distribution has a package named qcore as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT


@pytest.mark.parametrize("words", [["status"], ["worker"]])
def test_a_qcore_of_somebody_else_is_named_in_one_sentence(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "qcore").mkdir()
    (tmp_path / "qcore" / "__init__.py").write_text("class Quantum: ...")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    ran = subprocess.run(
        [sys.executable, "-c", "from qctl.__main__ import main; raise SystemExit(main())", *words],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ran.returncode == 78, ran.stderr
    place = f"{tmp_path}/qcore/__init__.py"
    assert ran.stderr.startswith(f"qctl: the package 'qcore' at {place} is not the one of qctl")
    assert ran.stderr.count("\n") == 1
