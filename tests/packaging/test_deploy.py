"""The files in deploy/: every command line is one of qctl's, every metric exists, units are valid."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from qcore.worker.services.metrics_port import WorkerMetrics
from qcore.worker.services.task_counts import TaskCounts
from tests.qctl.cli.test_command_line import qctl
from tests.support.processes import ROOT

DEPLOY, WORKFLOWS = ROOT / "deploy", ROOT / ".github/workflows"


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


def families(text: str) -> dict[str, str]:
    """The metrics of a text: name -> type."""
    return dict(re.findall(r"^# TYPE (\S+) (\w+)", text, re.M))


def of_workers() -> dict[str, str]:
    """The metrics of `qctl worker --metrics-port`."""
    pool = SimpleNamespace(name="solo", size=1, running=list, pids=list)
    facts = {"held": {}, "is_away": lambda: False, "outages": lambda: 0, "stale": 0}
    loop: Any = SimpleNamespace(node="w1", pool=pool, **facts)
    metrics: Any = WorkerMetrics(TaskCounts(), loop, 0.0)
    return families(generate_latest(metrics).decode())


def test_every_metric_that_a_file_names_exists(tmp_path: Path) -> None:
    paths = [*DEPLOY.rglob("*.yml"), *DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.json")]
    shown = qctl("-b", f"sqlite:///{tmp_path}/m.db", "metrics", "show").stdout
    known = families(shown) | of_workers()

    used = {name for path in paths for name in re.findall(r"qcore_[a-z_]+", path.read_text())}
    named = {re.sub("_(bucket|sum|count)$", "", name) for name in used}
    assert named <= known.keys(), named - known.keys()
    assert {"qcore_workers", "qcore_worker_tasks_total"} <= named


def test_the_page_lists_every_metric_of_a_worker_with_its_type() -> None:
    page = (ROOT / "docs/observability.md").read_text()

    assert dict(re.findall(r"^\| `(qcore_worker_\w+)` \| (\w+) \|", page, re.M)) == of_workers()


def test_the_dashboards_panels_have_different_ids_and_do_not_overlap() -> None:
    board = json.loads((DEPLOY / "grafana/dashboards/qctl.json").read_text())
    cells = [
        (place["x"] + dx, place["y"] + dy)
        for place in (panel["gridPos"] for panel in board["panels"])
        for dx in range(place["w"])
        for dy in range(place["h"])
    ]

    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len(set(cells)) == len(cells)
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    used = {panel["datasource"]["uid"] for panel in board["panels"] if "datasource" in panel}
    assert used == {one["uid"] for one in source["datasources"]}


def test_every_file_is_yaml_with_what_its_kind_needs() -> None:
    kinds: list[Any] = []
    for path in sorted(DEPLOY.rglob("*.y*ml")):
        for document in yaml.safe_load_all(path.read_text()):
            assert isinstance(document, dict), path
            kinds.append(document.get("kind"))
    assert {"Deployment", "ScaledObject", "HorizontalPodAutoscaler", "Kustomization"} <= set(kinds)


@pytest.mark.parametrize("version", ["1.30", "1.34", "1.37"])
def test_kubernetes_own_schemas_accept_the_manifests(version: str) -> None:
    schemas = pytest.importorskip(
        "kubernetes_validate", reason="its schemas are 108 MB: `make manifests` has them"
    )
    kinds = set()
    for path in (DEPLOY / "kubernetes").glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            if "k8s.io" not in document["apiVersion"] and "keda" not in document["apiVersion"]:
                schemas.validate(document, version, strict=True)
                kinds.add(document["kind"])

    assert kinds == {"Deployment", "HorizontalPodAutoscaler"}


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("compose-spec", [DEPLOY / "compose.yaml"]),
        ("github-workflows", [*ROOT.glob(".github/workflows/*.yml")]),
    ],
    ids=["compose", "workflows"],
)
def test_a_published_schema_accepts_the_files(schema: str, files: list[Path]) -> None:
    assert files
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *files],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr


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
