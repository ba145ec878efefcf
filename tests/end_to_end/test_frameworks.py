"""docs/frameworks.md: its code is that of examples/, and the FastAPI service of the page works.

test_examples.py runs the projects for Flask and FastAPI that are written for Celery, on both workers.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from qcore.testing import start_worker
from qcore.testing.app import left_as_it_was
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "frameworks.md").read_text()


def example(file: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_code_of_the_page_is_that_of_the_examples() -> None:
    sources = "\n".join(path.read_text() for path in sorted(Path(ROOT / "examples").rglob("*.py")))
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)

    assert len(blocks) >= 4
    assert [block for block in blocks if block not in sources] == []


def test_a_service_awaits_tasks_and_their_results(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    monkeypatch.setenv("REDIS_URL", "memory://frameworks")

    with left_as_it_was():
        service = example("quotes.py", "quotes_of_a_test")
    with start_worker(service.queue), TestClient(service.api) as client:
        sent = client.post("/orders", json={"article": "lamp", "number": 2})
        price = client.get(f"/orders/{sent.json()['id']}")
        refused = client.post("/orders", json={"article": "lamp", "number": 0}).json()["id"]
        failed = client.get(f"/orders/{refused}")
        unknown = client.get("/orders/nobody", params={"timeout": 0.01})
        total = client.post(
            "/quotes", json=[{"article": "lamp", "number": 1}, {"article": "bed", "number": 100}]
        )

    assert (sent.status_code, price.json()) == (202, {"price": 19.0})
    assert (failed.status_code, failed.json()["detail"]) == (422, "0 of lamp cannot be sold")
    assert unknown.status_code == 404
    assert total.json() == {"total": 809.5}
