"""Pages of docs/ and the README: their command lines exist, links lead somewhere, the site is complete."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest
import yaml

from qctl.main import main
from tests.support.processes import ROOT

DOCS = ROOT / "docs"
#: made from the code by qctl.manual; other tests compare them
GENERATED = ("cli.md", "celery-inventory.md", "api.md", "settings.md")
#: its commands are those of an example package, which another test installs and runs
OF_A_PACKAGE = "docs/extending.md"
PAGES = sorted(p.relative_to(ROOT).as_posix() for p in DOCS.glob("*.md") if p.name not in GENERATED)
PAGES += ["README.md", "SECURITY.md"] if (ROOT / "SECURITY.md").exists() else ["README.md"]


def command_lines(text: str) -> Iterator[str]:
    """What stands as `qctl …` in lines of code; without the comment, a part of a line alone."""
    for line in re.findall(r"^(?:    +|\$ )((?:\S*=\S+ )*qctl [^\n]*)$", text, re.MULTILINE):
        words = re.split(r"\s+# ", line)[0]
        for part in re.split(r"&&|\|(?=\s)", words):
            found = re.search(r"\bqctl .*", part)
            if found and "…" not in found[0]:
                yield found[0].strip().removesuffix("&").strip()


def test_lines_of_code_are_found() -> None:
    text = "Say `qctl status`:\n\n    A=b qctl ls && qctl rm   # both\n\n$ qctl up\n    pip install qctl\n"

    assert [*command_lines(text)] == ["qctl ls", "qctl rm", "qctl up"]


@pytest.mark.parametrize("page", [page for page in PAGES if page != OF_A_PACKAGE])
def test_every_command_line_of_a_page_is_one_of_qctls(page: str) -> None:
    wrong = []
    for line in sorted({*command_lines((ROOT / page).read_text())}):
        words = shlex.split(line)[1:]
        if {"--help", "--version"} & {*words}:
            continue
        said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with redirect_stdout(said), redirect_stderr(said):
            code = main([*words, "--help"])
        said.seek(0)
        if code or not re.search(r"^Usage: qctl", said.read(), re.MULTILINE):
            wrong.append(line)

    assert wrong == []


def anchors(text: str) -> set[str]:
    """The anchors of the headings of a page, as the site makes them."""
    from_headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading) for heading in from_headings]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", h).strip().lower()) for h in plain}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: str) -> None:
    path = ROOT / page
    text = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S))
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = path if not target else path.parent / target
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file.read_text())):
            dead.append(link)

    assert dead == []


def navigation() -> list[str]:
    def leaves(entries: Any) -> Iterator[str]:
        for entry in entries:
            target = next(iter(entry.values())) if isinstance(entry, dict) else entry
            yield from leaves(target) if isinstance(target, list) else (target,)

    return [*leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])]


def test_every_page_has_one_place_in_the_navigation() -> None:
    pages = {p.name for p in DOCS.glob("*.md")}

    assert sorted(navigation()) == sorted(pages)


def test_the_site_loads_nothing_from_other_hosts() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    assert settings["theme"]["font"] is False
    assert not {"extra_javascript", "extra_css"} & settings.keys()
    assert [
        p for p in PAGES if re.search(r"!\[[^]]*\]\(https?:|<(?:img|script)", (ROOT / p).read_text())
    ] == []
