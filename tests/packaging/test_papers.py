"""The papers of the project: workflows call targets that exist, the changelog has the usual form."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from qcore.version import __version__
from tests.support.processes import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*)(?: [a-z- ]+)?:(?!=)", MAKEFILE, re.MULTILINE))


def workflow(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    assert isinstance(loaded, dict)
    return loaded


def commands(name: str) -> list[str]:
    return [step["run"] for job in workflow(name)["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("name", [path.name for path in WORKFLOWS])
def test_a_workflow_runs_the_tests_and_each_target_that_it_makes_exists(name: str) -> None:
    made = {target for line in commands(name) for target in re.findall(r"\bmake ([a-z-]+)", line)}

    assert "test" in made
    assert made <= TARGETS


@pytest.mark.parametrize("name", [path.name for path in WORKFLOWS])
def test_a_file_that_a_workflow_runs_or_reads_exists(name: str) -> None:
    named = {path for line in commands(name) for path in re.findall(r"\b(?:tests|qcore)/[\w./-]+", line)}

    assert named and all((ROOT / path).is_file() for path in named)


def test_ci_has_each_python_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {text.rpartition(" ")[2] for text in project["classifiers"] if ":: 3." in text}

    assert named and named <= set(workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"])


def test_a_release_is_published_without_a_token() -> None:
    jobs = workflow("release.yml")["jobs"]

    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["needs"] == "build"
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()


def test_make_help_lists_every_target_with_a_line() -> None:
    command = ["make", "--no-print-directory", "help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)

    listed = re.findall(r"^  make (\S+) +\S.*$", done.stdout, re.MULTILINE)
    named = set(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split())
    assert named <= set(listed)
    assert len(listed) == len(done.stdout.splitlines())


def test_the_hooks_of_a_commit_run_what_the_environment_of_the_tests_has() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]

    assert {hook["entry"].split()[0] for hook in hooks} == {
        ".venv/bin/ruff",
        ".venv/bin/mypy",
        ".venv/bin/python",
    }


def test_the_changelog_has_the_usual_headings() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    kinds = re.findall(r"^### (.+)$", text, re.MULTILINE)

    assert text.startswith("# Changelog\n")
    assert versions[0] in ("Unreleased", __version__)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_security_page_names_the_version_that_gets_fixes() -> None:
    minor = __version__.rpartition(".")[0]

    assert f"| {minor} | yes |" in (ROOT / "SECURITY.md").read_text()
