"""The files in deploy/: every command line is one of qctl's, every metric exists, units are valid."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.qctl.cli.test_command_line import qctl
from tests.support.processes import ROOT

DEPLOY = ROOT / "deploy"


def command_lines() -> list[list[str]]:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    found = [one["command"] for one in compose["services"].values() if "build" in one]
    for path in (DEPLOY / "kubernetes").glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            pod = document.get("spec", {}).get("template", {}).get("spec", {})
            found += [container["args"] for container in pod.get("containers", ())]
    for path in (DEPLOY / "systemd").iterdir():
        found += [shlex.split(line)[1:] for line in re.findall(r"^ExecStart=(.+)$", path.read_text(), re.M)]
    docker = (DEPLOY / "Dockerfile").read_text()
    found.append(yaml.safe_load(re.findall(r"HEALTHCHECK .*CMD (\[.*\])", docker)[0])[1:])
    return [[str(word) for word in words] for words in found]


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_a_command_line_is_one_of_qctls(words: list[str]) -> None:
    done = qctl(*words, "--help")

    assert done.returncode == 0, done.stderr
    assert re.search(r"^Usage: qctl \w+", done.stdout, re.M), done.stdout[:200]


def test_every_metric_of_the_rules_exists(tmp_path: Path) -> None:
    texts = [(DEPLOY / "prometheus/alerts.yml").read_text(), (DEPLOY / "kubernetes/scaling.yaml").read_text()]
    shown = qctl("-b", f"sqlite:///{tmp_path}/m.db", "metrics", "show").stdout
    known = set(re.findall(r"^# TYPE (\S+)", shown, re.M))

    used = {name for text in texts for name in re.findall(r"qcore_[a-z_]+", text)}
    assert used and used <= known, used - known


def test_every_file_is_yaml_with_what_its_kind_needs() -> None:
    kinds: list[Any] = []
    for path in sorted(DEPLOY.rglob("*.y*ml")):
        for document in yaml.safe_load_all(path.read_text()):
            assert isinstance(document, dict), path
            kinds.append(document.get("kind"))
    assert {"Deployment", "ScaledObject", "Kustomization"} <= set(kinds)


def test_a_pod_has_longer_to_end_than_its_worker_needs() -> None:
    spec = yaml.safe_load((DEPLOY / "kubernetes/worker.yaml").read_text())["spec"]["template"]["spec"]
    words = [str(word) for word in spec["containers"][0]["args"]]
    drain_s = int(words[words.index("--drain-timeout") + 1].rstrip("s"))

    assert spec["terminationGracePeriodSeconds"] > drain_s


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "systemd/qctl-worker@.service").read_text()
    place = tmp_path / "qctl-worker@proj.service"
    place.write_text(unit.replace("/opt/qctl/bin/qctl", "/bin/true").replace("User=qctl\n", ""))

    done = subprocess.run(
        ["systemd-analyze", "verify", str(place)], capture_output=True, text=True, timeout=60
    )

    assert "qctl-worker" not in done.stderr, done.stderr
