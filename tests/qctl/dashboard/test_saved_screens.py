"""ctrl-s: the screen as files for notes on an incident."""

from __future__ import annotations

import asyncio
from pathlib import Path
from xml.etree import ElementTree

import pytest

from qctl.dashboard.screens.keys import Dashboard
from tests.support.still import Still


def pressed(*keys: str) -> str:
    """What the dashboard says after these keys, at 80x24."""

    async def run() -> str:
        window = Dashboard(Still())
        async with window.run_test(size=(80, 24)) as pilot:
            await pilot.press(*keys)
            await pilot.pause()
            return str(window.message_line.render())

    return asyncio.run(run())


def test_the_screen_is_saved_as_svg_and_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    said = pressed("3", "ctrl+s")

    svg, text = sorted(tmp_path.iterdir(), key=lambda path: path.suffix)
    assert said == f" saved {svg.name} and .txt"
    assert [path.stat().st_mode & 0o777 for path in (svg, text)] == [0o600, 0o600]
    lines = text.read_text().splitlines()
    assert len(lines) == 24 and max(map(len, lines)) <= 80
    assert any("✗ failed" in line and "shop.send_mail" in line for line in lines)
    drawn = "".join(ElementTree.fromstring(svg.read_text()).itertext()).replace("\xa0", " ")
    assert all(word in drawn for line in lines[3:10] for word in line.split())
    assert svg.read_text().count("http") == 1, "only the name of the format, nothing is fetched"


def test_a_page_is_saved_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    pressed("5", "enter", "ctrl+s")

    (text,) = tmp_path.glob("*.txt")
    assert "Failures of shop.charge" in text.read_text()


def test_what_cannot_be_saved_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    assert pressed("3", "ctrl+s") == " not saved in this folder: No such file or directory"
