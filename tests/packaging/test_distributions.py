"""What is built: a wheel with man pages and completions where systems look for them, and a complete sdist."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(300)


def build(source: Path, target: Path, hook: str) -> Path:
    """Call a hook of the build backend on a copy of the tree; the path of what it made."""
    code = f"import setuptools.build_meta as b; print(b.{hook}({str(target)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return target / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the project, without what was made beside them."""
    made = tmp_path_factory.mktemp("tree") / "qctl"
    ignored = shutil.ignore_patterns(
        ".git", ".venv*", ".bench", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "build", "dist"
    )
    shutil.copytree(ROOT, made, ignore=ignored, symlinks=True)
    return made


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tree, tmp_path_factory.mktemp("wheel"), "build_wheel")


def test_a_wheel_brings_man_pages_completions_and_its_licence(wheel: Path, tmp_path: Path) -> None:
    words = [
        "install",
        "--ignore-installed",
        "--no-index",
        "--no-deps",
        "--prefix",
        str(tmp_path),
        str(wheel),
    ]
    subprocess.run([sys.executable, "-m", "pip", "-q", *words], check=True, timeout=120)
    share = tmp_path / "share"
    metadata = Parser().parsestr(next(tmp_path.rglob("qctl-*.dist-info/METADATA")).read_text())

    assert {path.name for path in (share / "man/man1").iterdir()} == {
        path.name for path in (ROOT / "man").iterdir()
    }
    assert (share / "bash-completion/completions/qctl.bash").read_text()
    assert (share / "zsh/site-functions/_qctl").read_text()
    assert (share / "fish/vendor_completions.d/qctl.fish").read_text()
    assert metadata["License-Expression"] == "MIT"
    assert list(tmp_path.rglob("licenses/LICENSE"))
    if shutil.which("man"):
        found = subprocess.run(
            ["man", "-M", str(share / "man"), "-w", "qctl-call"], capture_output=True, text=True, timeout=60
        )
        assert found.stdout.strip() == str(share / "man/man1/qctl-call.1")


def test_a_wheel_has_two_packages_and_nothing_else_at_its_top(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}

    assert {top for top in tops if not top.startswith("qctl-")} == {"qcore", "qctl"}


def test_two_builds_have_the_same_bytes(tree: Path, wheel: Path, tmp_path: Path) -> None:
    again = build(tree, tmp_path, "build_wheel")

    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, again)]
    assert sums[0] == sums[1]


def test_an_sdist_has_what_the_tests_need(tree: Path, tmp_path: Path) -> None:
    with tarfile.open(build(tree, tmp_path, "build_sdist")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    wanted = set(tracked.stdout.split("\n")) or names

    left_out = {name for name in wanted - names if name and not name.startswith(".")}
    assert left_out == set()
