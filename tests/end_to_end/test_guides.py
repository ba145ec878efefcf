"""The guides of docs/ do what they say: their Python runs as it is written, with a worker in a thread."""

from __future__ import annotations

import doctest
import sys
import types
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qcore import App
from qcore.testing import start_worker
from tests.support.pages import DOCS, blocks, desk_at, played

#: pages whose blocks of `python` are a module, and whose blocks of `pycon` are typed behind them
GUIDES = ("index.md", "hardening.md", "tasks.md", "calling.md", "workflows.md", "routing.md", "results.md")
#: those of them whose Python only has to be accepted, by an app and its worker
WITHOUT_RESULTS = ("routing.md", "hardening.md")
#: pages of what is typed in a terminal
SESSIONS = ("incidents.md",)
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new user's empty directory."""
    yield from desk_at(tmp_path, monkeypatch)


@pytest.mark.parametrize("page", GUIDES)
def test_the_python_of_a_guide_does_what_it_says(
    page: str, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    for name in ("OPS_KEY", "ROOT_KEY"):
        monkeypatch.setenv(name, f"{name} of a test, and long enough")
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    typed = 0
    with ExitStack() as running:
        for number, (kind, code) in enumerate(blocks((DOCS / page).read_text())):
            if kind == "python":
                exec(compile(code, page, "exec"), vars(module))
                if number == 0:
                    module.app.conf.worker_hijack_root_logger = False  # nor the output of this process
                    running.enter_context(start_worker(module.app, pool="threads", concurrency=2))
                    running.callback(module.app.close)
            else:
                assert kind == "pycon"
                examples = doctest.DocTestParser().get_doctest(code, vars(module), page, page, 0)
                examples.globs = vars(module)
                typed += len(examples.examples)
                runner.run(examples, out=said.append, clear_globs=False)

    assert not said, "".join(said)
    assert isinstance(module.app, App)
    assert typed or page in WITHOUT_RESULTS


@pytest.mark.parametrize("page", SESSIONS)
def test_what_is_typed_on_a_page_shows_what_the_page_shows(page: str, desk: Path) -> None:
    assert played(page, desk) > 5
